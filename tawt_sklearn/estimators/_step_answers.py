"""What an encoder says of windows, events and steps rather than of rows."""

from __future__ import annotations

from typing import Any, Literal

from tawt_sklearn.estimators import _panel_steps, _steps
from tawt_sklearn.events.panels import Panel


class AnswersSteps:
    """Of an encoder: its methods whose answers are histories or panels again."""

    _rows: Any

    def transform_steps(self, X: Any, per: Literal["window", "event"] = "window") -> Any:
        """Embeddings of the windows of time, or of every event, in an events column.

        Those of a panel are panels again, of ``d_model`` channels: of its temporal patches
        (``per="window"``) or of its steps (``"event"``).

        Parameters
        ----------
        X : as in :meth:`fit`
        per : {"window", "event"}, default="window"
            One embedding for each window of time that has events, at their mean time; or one for
            each event, at its time: what the network knows of its code and of its window.

        Returns
        -------
        DataFrame of n rows
            One column of histories.  Each embedding is ``d_model`` simultaneous events, whose
            codes are ``"step0"``, ``"step1"``, ... and whose values are its numbers; times are
            those of ``X``.  ``result[column].events.flat("value").reshape(-1, d_model)`` is the
            plain array.  Of a panel an array (n, d_model, T), the most recent patch or step
            last, or a list of arrays where ``X`` is one.
        """
        if per not in ("window", "event"):
            raise ValueError(f'Expected per to be "window" or "event". Got {per!r}.')
        frame, data = self._rows(X)
        if isinstance(frame, Panel):
            return _panel_steps.embedded_panel(self, frame, data, per)
        return _steps.embedded_steps(self, frame, data, per)

    def reconstruct(self, X: Any, n_passes: int = 5) -> Any:
        """What the network would fill in if it did not know an event.

        Events are dealt into ``n_passes`` groups at random; each group in turn is hidden and
        rebuilt from the others, so that no answer has seen its own event.

        Parameters
        ----------
        X : as in :meth:`fit`
        n_passes : int, default=5

        Returns
        -------
        DataFrame of n rows
            As ``X``, with the rebuilt numbers and categories in place of the true ones, in the
            user's units where the encoder has tokenised the histories itself; events without a
            number stay without.  Of a panel a panel, with NaN where nothing was measured.

        Raises
        ------
        ValueError
            The objective has no part that rebuilds events.
        """
        frame, data = self._rows(X)
        if isinstance(frame, Panel):
            return _panel_steps.reconstructed_panel(self, frame, data, n_passes)
        return _steps.reconstruction(self, frame, data, n_passes)
