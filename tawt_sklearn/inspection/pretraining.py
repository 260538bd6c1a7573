"""How pretraining went: what was learned epoch by epoch, and whether the embeddings are any good."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from tawt_sklearn.exceptions import DataError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

QUALITY = ("effective_rank", "alignment", "uniformity")
"""Columns of the history that tell of the embeddings."""

COLLAPSED = "collapse: rank 1, uniformity 0"
"""What the dotted line at the foot of the right panel means."""


class PretrainingDisplay:
    """The parts of the loss, and the quality of the embeddings, over the epochs of pretraining.

    On the left, what was minimised: every part of the objective, of training rows (full lines)
    and, where ``fit`` was given ``X_val``, of rows held out (dashed).  On the right, how many
    directions the embeddings use (effective rank), how close two views of one row are (alignment)
    and how evenly rows spread over the sphere (uniformity).  An encoder whose embeddings collapse,
    so that all rows get the same one, can have a small loss; its effective rank falls to 1 and its
    uniformity rises to 0.

    Use :meth:`from_estimator` to make one.

    Parameters
    ----------
    history : DataFrame
        ``history_`` of a :class:`~tawt_sklearn.TimeAwareEncoder`.

    Attributes
    ----------
    figure_ : matplotlib Figure
        After :meth:`plot`.
    axes_ : (3,) ndarray of matplotlib Axes
        The loss, the effective rank, and alignment and uniformity, which share their panel with
        the effective rank and have their scale on its right.

    Raises
    ------
    DataError
        The history lacks what is to be drawn.

    References
    ----------
    Roy & Vetterli, "The effective rank: A measure of effective dimensionality", 2007; Wang &
    Isola, "Understanding Contrastive Representation Learning through Alignment and Uniformity on
    the Hypersphere", 2020.

    Examples
    --------
    >>> from tawt_sklearn import TimeAwareEncoder
    >>> from tawt_sklearn.datasets import make_icu_stays
    >>> from tawt_sklearn.inspection import PretrainingDisplay
    >>> X, _ = make_icu_stays(200, random_state=0)
    >>> encoder = TimeAwareEncoder(d_model=16, max_epochs=3, min_steps=10, random_state=0)
    >>> encoder.fit(X.iloc[:150], X_val=X.iloc[150:])
    TimeAwareEncoder(...)
    >>> PretrainingDisplay.from_estimator(encoder)  # doctest: +SKIP
    """

    figure_: Figure
    axes_: NDArray[Any]

    def __init__(self, *, history: pd.DataFrame) -> None:
        wanted = ("epoch", "train_loss", *QUALITY)
        given = list(history.columns) if isinstance(history, pd.DataFrame) else []
        if lacking := [name for name in wanted if name not in given]:
            got = f"a frame without {', '.join(lacking)}" if given else type(history).__name__
            raise DataError(
                f"Expected the history_ of a fitted TimeAwareEncoder. Got {got}. Use "
                "PretrainingDisplay.from_estimator(encoder)."
            )
        self.history = history

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None) -> Self:
        """Draw the pretraining of an encoder.

        Parameters
        ----------
        estimator : TimeAwareEncoder, or Pipeline that ends in one
            Fitted.
        ax : as in :meth:`plot`

        Returns
        -------
        PretrainingDisplay

        Raises
        ------
        NotFittedError
            The encoder is not fitted.
        DataError
            The estimator is no encoder.
        ImportError
            matplotlib is not installed.
        """
        encoder = estimator[-1] if isinstance(estimator, Pipeline) else estimator
        check_is_fitted(encoder)
        history = getattr(encoder, "history_", None)
        if not isinstance(history, pd.DataFrame) or not set(QUALITY) <= set(history.columns):
            raise DataError(
                "Expected a TimeAwareEncoder, whose history_ tells of pretraining. Got "
                f"{type(encoder).__name__}."
            )
        return cls(history=history).plot(ax=ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw both panels.

        Parameters
        ----------
        ax : matplotlib Axes or pair of them, default=None
            Two axes are the two panels; one makes room for both where it is; None makes a figure.

        Returns
        -------
        self

        Raises
        ------
        ImportError
            matplotlib is not installed.
        """
        left, right = _panels(ax)
        self._plot_loss(left)
        views = self._plot_quality(right)
        self.figure_ = left.figure
        self.axes_ = np.array([left, right, views])
        return self

    def _plot_loss(self, axes: Axes) -> None:
        epoch = self.history["epoch"]
        parts = [
            name.removeprefix("train_")
            for name in self.history.columns
            if name.startswith("train_") and name != "train_loss"
        ]
        shown = ["loss", *parts] if len(parts) != 1 else parts  # one part is all of the loss
        for k, part in enumerate(shown):
            colour = "black" if part == "loss" else f"C{k - len(shown) + len(parts)}"
            label = "all" if part == "loss" else part
            axes.plot(epoch, self.history[f"train_{part}"], color=colour, label=label)
            if f"valid_{part}" in self.history:
                # Passes of partial_fit have no held-out rows: there the line has a gap.
                valid = self.history[f"valid_{part}"]
                axes.plot(epoch, valid, color=colour, linestyle="--", label=f"_{label}, held out")
        dashed = "; held out: dashed" if "valid_loss" in self.history else ""
        axes.set(xlabel="epoch", ylabel="loss", title=f"parts of the loss{dashed}")
        axes.legend(fontsize="small")

    def _plot_quality(self, axes: Axes) -> Axes:
        """-> the axes of alignment and uniformity."""
        epoch, views = self.history["epoch"], axes.twinx()
        lines = axes.plot(epoch, self.history["effective_rank"], color="C0", label="effective rank")
        lines += views.plot(epoch, self.history["alignment"], color="C1", label="alignment")
        lines += views.plot(epoch, self.history["uniformity"], color="C2", label="uniformity")
        axes.axhline(1.0, color="0.5", linestyle=":")
        axes.annotate(
            COLLAPSED,
            (0.02, 1.0),
            xycoords=("axes fraction", "data"),
            xytext=(0, 2),
            textcoords="offset points",
            color="0.4",
            fontsize="small",
        )
        axes.set_ylim(0.0, 1.1 * max(2.0, self.history["effective_rank"].max()))
        axes.set(xlabel="epoch", ylabel="effective rank", title="embeddings")
        views.set_ylabel("alignment, uniformity")
        axes.legend(lines, [line.get_label() for line in lines], fontsize="small")
        return views


def _panels(ax: Any) -> tuple[Axes, Axes]:
    """Two axes: those given, the place of the one given split in two, or those of a new figure."""
    try:
        import matplotlib.pyplot as plt
        from matplotlib.gridspec import GridSpecFromSubplotSpec
    except ImportError as error:
        raise ImportError(
            "Drawing needs matplotlib, which is not installed. "
            'Install it with: pip install "tawt_sklearn[plot]"'
        ) from error
    if ax is None:
        _, panels = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
        return tuple(panels)
    given = np.ravel(np.asarray(ax, dtype=object))
    if len(given) == 2 and all(isinstance(one, plt.Axes) for one in given):
        return given[0], given[1]
    if len(given) != 1 or not isinstance(given[0], plt.Axes):
        raise ValueError(
            "Expected ax to be matplotlib Axes or a pair of them. Got "
            f"{len(given)} of {type(given[0]).__name__ if len(given) else 'nothing'}."
        )
    place = given[0].get_subplotspec()
    if place is None:
        raise ValueError(
            "Expected ax to be made by plt.subplots, so that it can be split in two. Got Axes "
            "at a place of their own. Pass two of them."
        )
    given[0].set_axis_off()
    halves = GridSpecFromSubplotSpec(1, 2, subplot_spec=place, wspace=0.4)
    figure = given[0].figure
    return figure.add_subplot(halves[0]), figure.add_subplot(halves[1])
