"""What all figures share: matplotlib, colours, names that fit, panels in a grid."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from tawt_sklearn.exceptions import DataError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REAL, SYNTHETIC, OTHER, GREY = "#0072B2", "#D55E00", "#009E73", "#595959"
"""Of Okabe & Ito, which the colour-blind can tell apart; lines differ in their dashes too."""

SHARES, DIFFERENCES = "cividis", "RdBu_r"
"""Colour maps that run from dark to bright, and from blue over white to red."""

WIDTH = 9.0
"""Of all figures, in inches."""

STYLE: dict[Any, Any] = {
    "font.size": 9.0,
    "axes.titlesize": 9.0,
    "axes.labelsize": 9.0,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "legend.fontsize": 8.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "white",
    "svg.hashsalt": "tawt_sklearn",  # the same page from the same data
}

MAX_POINTS = 400
"""Steps of a distribution function that a figure needs."""


@contextmanager
def style() -> Iterator[None]:
    """Sizes and colours of figures, whatever the user has set.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError(
            "Drawing needs matplotlib, which is not installed. "
            'Install it with: pip install "tawt_sklearn[plot]"'
        ) from error
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def new_figure(height: float = 3.0) -> Figure:
    """A figure of its own, which no window and no list of open figures holds."""
    from matplotlib.figure import Figure

    return Figure((WIDTH, height), layout="constrained")


def as_svg(figure: Figure) -> bytes:
    """The figure as a standalone SVG file without a date."""
    file = BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return file.getvalue()


def shown(name: Any, width: int = 22) -> str:
    """A name as text of a figure: cut, and with no formulas in it.

    Examples
    --------
    >>> shown("oxygen saturation by pulse oximetry"), shown("cost in $")
    ('oxygen saturation by …', 'cost in \\\\$')
    """
    text = " ".join(str(name).split())
    text = text if len(text) <= width else text[: width - 1] + "…"
    return text.replace("$", r"\$")


def most(n_shown: int, n_all: int, what: str) -> str:
    """How many are drawn, where not all are.

    Examples
    --------
    >>> most(12, 40, "codes"), most(3, 3, "codes")
    ('the 12 most frequent of 40 codes', 'all 3 codes')
    """
    return (
        f"the {n_shown} most frequent of {n_all} {what}"
        if n_shown < n_all
        else f"all {n_all} {what}"
    )


def grid(figure: Any, n: int, n_columns: int) -> list[Any]:
    """n axes in rows of at most `n_columns`."""
    n_columns = min(n, n_columns)
    rows = -(-n // n_columns)
    axes = figure.subplots(rows, n_columns, squeeze=False).ravel()
    for one in axes[n:]:
        one.set_axis_off()
    return list(axes[:n])


def ecdf(axes: Any, numbers: np.ndarray, *, real: bool, label: str) -> None:
    """Draw the share of numbers up to each value."""
    if not len(numbers):
        return
    ordered = np.sort(numbers)
    n = len(ordered)
    at = np.unique(np.linspace(0, n - 1, min(n, MAX_POINTS)).round().astype(int))
    x, y = np.r_[ordered[0], ordered[at]], np.r_[0.0, (at + 1) / n]
    axes.plot(x, y, drawstyle="steps-post", label=label, **line(real=real))
    axes.set_ylim(-0.02, 1.02)


def line(*, real: bool) -> dict[str, Any]:
    """Colour and dashes of a line."""
    if real:
        return {"color": REAL, "linewidth": 1.6}
    return {"color": SYNTHETIC, "linewidth": 1.6, "linestyle": (0, (4, 1.5))}


def legend_above(figure: Any, axes: Any) -> None:
    """One legend for all panels."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=len(labels), frameon=False)


def heading(figure: Any, text: str) -> None:
    """A title at the left, where the legend is not."""
    figure.suptitle(text, x=0.01, ha="left", fontsize=10)


def nothing(reason: str) -> DataError:
    """Why a figure cannot be drawn."""
    return DataError(f"Expected data that this figure can be drawn of. Got {reason}")
