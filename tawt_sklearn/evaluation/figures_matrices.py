"""Figures of what goes with what: presence, co-measurement, correlation, succession."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from tawt_sklearn.evaluation._comparison import Comparison
from tawt_sklearn.evaluation._frames import Histories
from tawt_sklearn.evaluation._plots import (
    DIFFERENCES,
    SHARES,
    WIDTH,
    grid,
    heading,
    legend_above,
    line,
    most,
    nothing,
    shown,
)
from tawt_sklearn.evaluation._statistics import tally
from tawt_sklearn.evaluation.features import MAX_CODES
from tawt_sklearn.evaluation.presence import co_measurement

MAX_SIDE = 25
"""Rows of a matrix whose names can still be read."""

MAX_WRITTEN = 8
"""Rows of a matrix whose numbers are written into it."""

MAX_PANELS = 12
"""Codes with a panel of their own."""


def draw_presence(figure: Any, of: Comparison) -> float:
    """Share of subjects who have a code at all."""
    details = of.own["missingness"].details
    codes = _codes(of, set(details.index), MAX_SIDE)
    shares = details.loc[codes, ["ever_real", "ever_synthetic"]].to_numpy().T
    names = [shown(code, 16) for code in codes]
    axes = figure.subplots(2, 1, height_ratios=(2, 1), sharex=True)
    sides = ["real", shown(of.name, 16)]
    _heat(figure, axes[0], shares, sides, names, (0.0, 1.0), SHARES, "share")
    difference = shares[1:] - shares[:1]
    limit = max(float(np.abs(difference).max()), 0.05)
    _heat(figure, axes[1], difference, ["difference"], names, (-limit, limit), DIFFERENCES, "")
    axes[0].tick_params(labelbottom=False)
    heading(
        figure,
        f"Share of subjects who have a code: {most(len(codes), len(details), 'codes')}",
    )
    return 3.0


def draw_co_measurement(figure: Any, of: Comparison) -> float:
    """Share of times at which both codes are measured."""
    frames = of.column.real, of.column.frame
    everything = [co_measurement(frame, max_codes=MAX_CODES) for frame in frames]
    known = set(everything[0].index) | set(everything[1].index)
    codes = _codes(of, known, MAX_SIDE)
    real, made = (
        matrix.reindex(index=codes, columns=codes).fillna(0.0).to_numpy() for matrix in everything
    )
    title = "Share of times at which both are measured (diagonal: the code itself): "
    return _three(figure, of, real, made, codes, title + most(len(codes), len(known), "codes"))


def draw_transitions(figure: Any, of: Comparison) -> float:
    """Shares of the pairs of successive codes."""
    real, made = of.histories
    codes = sorted(of.frequent(np.ones(len(real.codes), bool), MAX_SIDE))
    sides = [_pairs(one, codes) for one in (real, made)]
    if not sides[0].any():
        raise nothing("no real subject with two events.")
    names = [real.codes[k] for k in codes]
    used = len(np.unique(np.concatenate([real.code, made.code])))
    title = f"Share of all pairs, row followed by column: {most(len(codes), used, 'codes')}"
    return _three(figure, of, sides[0], sides[1], names, title)


def draw_correlation(figure: Any, of: Comparison) -> float:
    """Rank correlations between subjects' means."""
    details = of.own["correlation"].details
    means = details[details.index.get_level_values("kind") == "mean"].droplevel("kind")
    if means.empty:
        raise nothing("fewer than two codes whose numbers enough real subjects have.")
    known = set(means.index.get_level_values(0)) | set(means.index.get_level_values(1))
    codes = _codes(of, known, MAX_SIDE)
    real, made = (_square(means[side], codes) for side in ("real", "synthetic"))
    title = "Rank correlation between the subjects' means of two codes: "
    title += most(len(codes), len(known), "codes")
    return _three(figure, of, real, made, codes, title, signed=True)


def draw_autocorrelation(figure: Any, of: Comparison) -> float:
    """Correlation of a number with those 1, 2 and 3 before, of the same code."""
    details = of.own["autocorrelation"].details
    known = set(details.index.get_level_values("code"))
    if not known:
        raise nothing("no code whose numbers follow each other.")
    codes = _codes(of, known, MAX_PANELS)
    axes = grid(figure, len(codes), 6)
    for one, code in zip(axes, codes, strict=True):
        part = details.loc[[code]].droplevel("code")
        one.axhline(0.0, color="0.75", linewidth=0.8)
        one.plot(
            part.index, part["real"], marker="o", markersize=4, label="real", **line(real=True)
        )
        one.plot(
            part.index,
            part["synthetic"].fillna(0.0),
            marker="s",
            markersize=4,
            label=of.name,
            **line(real=False),
        )
        one.set_title(shown(code, 16))
        one.set_xticks([1, 2, 3])
        one.set_xlim(0.7, 3.3)
        one.set_xlabel("numbers back")
    low = min(0.0, *(float(details[side].min()) for side in ("real", "synthetic")))
    for k, one in enumerate(axes):
        one.set_ylim(max(low - 0.05, -1.05), 1.02)
        if k % 6:
            one.tick_params(labelleft=False)
        else:
            one.set_ylabel("autocorrelation")
    legend_above(figure, axes[0])
    heading(figure, f"Autocorrelation: {most(len(codes), len(known), 'codes')}")
    return 0.7 + 1.9 * -(-len(codes) // 6)


def _codes(of: Comparison, known: set[Any], limit: int) -> list[Any]:
    """The most frequent of some codes, then in the order of their names."""
    real = of.histories[0]
    keep = np.array([code in known for code in real.codes], bool)
    return [real.codes[k] for k in sorted(of.frequent(keep, limit))]


def _pairs(histories: Histories, codes: list[int]) -> np.ndarray:
    """Share of all pairs of successive events that are of two codes; (V, V)."""
    place = np.full(max(len(histories.codes), 1), -1)
    place[codes] = np.arange(len(codes))
    at = histories.follows()
    first, second = place[histories.code[at - 1]], place[histories.code[at]]
    known = (first >= 0) & (second >= 0)
    counts = tally(first[known], second[known], (len(codes), len(codes))).toarray()
    return np.asarray(counts / max(len(at), 1))


def _square(pairs: pd.Series, codes: list[Any]) -> np.ndarray:
    """A symmetric matrix of values by pair of codes, NaN where there is none; (V, V)."""
    place = {code: k for k, code in enumerate(codes)}
    matrix = np.full((len(codes), len(codes)), np.nan)
    for names, value in zip(pairs.index.tolist(), pairs.to_numpy(), strict=True):
        if all(name in place for name in names):
            a, b = (place[name] for name in names)
            matrix[a, b] = matrix[b, a] = value
    np.fill_diagonal(matrix, 1.0)
    return matrix


def _three(
    figure: Any,
    of: Comparison,
    real: np.ndarray,
    made: np.ndarray,
    codes: list[Any],
    title: str,
    *,
    signed: bool = False,
) -> float:
    """Real, synthetic and their difference beside each other."""
    if not codes:
        raise nothing("no events.")
    axes = figure.subplots(1, 3)
    names = [shown(code, 14) for code in codes]
    top = max(float(np.nanmax(real)), float(np.nanmax(made)), 1e-9)
    limits, colours = ((-1.0, 1.0), DIFFERENCES) if signed else ((0.0, top), SHARES)
    difference = np.nan_to_num(made) - real
    limit = max(float(np.nanmax(np.abs(difference))), 0.05 * limits[1])
    _heat(figure, axes[0], real, names, names, limits, colours, "", title="real")
    _heat(figure, axes[1], made, [], names, limits, colours, "", title=shown(of.name))
    _heat(
        figure,
        axes[2],
        difference,
        [],
        names,
        (-limit, limit),
        DIFFERENCES,
        "",
        title=f"{shown(of.name)} - real, at most {np.nanmax(np.abs(difference)):.3f}",
    )
    heading(figure, title)
    return WIDTH / 3 + 0.9


def _heat(
    figure: Any,
    axes: Any,
    matrix: np.ndarray,
    rows: list[str],
    columns: list[str],
    limits: tuple[float, float],
    colours: str,
    label: str,
    title: str = "",
) -> None:
    """A matrix in colours, with its numbers where there is room."""
    low, high = limits
    image = axes.imshow(
        matrix, cmap=colours, vmin=low, vmax=high, aspect="auto", interpolation="none"
    )
    size = 8 if len(columns) <= 15 else 6
    axes.set_xticks(range(len(columns)), columns, rotation=90, fontsize=size)
    axes.set_yticks(range(len(rows)), rows, fontsize=size)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if title:
        axes.set_title(title)
    written = MAX_WRITTEN if len(matrix) > 2 else 14
    if len(columns) <= written:
        for (a, b), value in np.ndenumerate(matrix):
            if np.isfinite(value):
                _write(axes, image, a, b, value)
    bar = figure.colorbar(image, ax=axes, shrink=0.9, pad=0.02, label=label)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7)


def _write(axes: Any, image: Any, row: int, column: int, value: float) -> None:
    """A number in a cell, dark on bright or bright on dark."""
    red, green, blue, _ = image.cmap(image.norm(value))
    dark = 0.3 * red + 0.59 * green + 0.11 * blue < 0.5
    text = f"{value:.2f}".replace("0.", ".").replace("-.00", ".00")
    axes.text(column, row, text, ha="center", va="center", fontsize=7, color="w" if dark else "k")
