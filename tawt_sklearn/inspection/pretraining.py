"""How pretraining went: what was learned in each epoch, and whether the embeddings are good."""

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
    from matplotlib.figure import Figure, SubFigure

QUALITY = ("effective_rank", "alignment", "uniformity")
"""Columns of the history that tell of the embeddings."""

COLLAPSE = "embeddings; dotted: what collapsed ones have"
"""An effective rank of 1 and a uniformity of 0."""


class PretrainingDisplay:
    """The parts of the loss, and the quality of the embeddings, over the epochs of pretraining.

    On the left, what was minimised: every part of the objective, of training rows (full lines)
    and, where ``fit`` was given ``X_val``, of rows held out (dashed).  On the right, how many
    directions the embeddings use (effective rank), how close two views of one row are (alignment)
    and how evenly rows spread over the sphere (uniformity).  An encoder whose embeddings collapse,
    so that all rows get the same one, can have a small loss; its effective rank falls to 1 and its
    uniformity rises to 0, which are the dotted lines.

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

    figure_: Figure | SubFigure
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
        colours = {} if len(parts) == 1 else {"loss": "black"}  # one part is all of the loss
        colours |= {part: f"C{k}" for k, part in enumerate(parts)}
        for part, colour in colours.items():
            label = "all" if part == "loss" else part
            style: dict[str, Any] = {"color": colour, "marker": "."}
            axes.plot(epoch, self.history[f"train_{part}"], label=label, **style)
            if f"valid_{part}" in self.history:
                # Passes of partial_fit have no held-out rows: there the line has a gap.
                valid = self.history[f"valid_{part}"]
                axes.plot(epoch, valid, linestyle="--", label=f"_{label}, held out", **style)
        dashed = "; held out: dashed" if "valid_loss" in self.history else ""
        axes.set(xlabel="epoch", ylabel="loss", title=f"parts of the loss{dashed}")
        axes.locator_params(axis="x", integer=True)
        axes.legend(fontsize="small")

    def _plot_quality(self, axes: Axes) -> Axes:
        """-> the axes of alignment and uniformity."""
        epoch, views = self.history["epoch"], axes.twinx()
        lines = []
        for panel, name, colour in zip(
            (axes, views, views), QUALITY, ("C0", "C1", "C2"), strict=True
        ):
            label = name.replace("_", " ")
            lines += panel.plot(epoch, self.history[name], color=colour, marker=".", label=label)
        axes.axhline(1.0, color="C0", linestyle=":", label="_rank of collapse")
        views.axhline(0.0, color="C2", linestyle=":", label="_uniformity of collapse")
        axes.set_ylim(0.0, 1.1 * max(2.0, self.history["effective_rank"].max()))
        axes.set(xlabel="epoch", ylabel="effective rank", title=COLLAPSE)
        axes.locator_params(axis="x", integer=True)
        views.set_ylabel("alignment, uniformity")
        axes.legend(handles=lines, fontsize="small")
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
