"""Figures of single values: numbers, categories, gaps and lengths."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from tawt_sklearn.evaluation._comparison import Comparison
from tawt_sklearn.evaluation._plots import (
    REAL,
    SYNTHETIC,
    ecdf,
    grid,
    heading,
    legend_above,
    most,
    nothing,
    shown,
)
from tawt_sklearn.evaluation.intervals import _gaps, _lengths, _spans
from tawt_sklearn.tokens import statics

MAX_PANELS = 12
"""Codes with a panel of their own."""

MAX_TEXTS = 8
"""Bars of a panel."""

UNITS = {"s": "seconds", "min": "minutes", "h": "hours", "D": "days", "step": "steps"}


def draw_numbers(figure: Any, of: Comparison) -> float:
    """Distribution functions of the numbers of each code, then of static columns."""
    real, made = of.histories
    has = real.is_number() | made.is_number()
    panels: list[tuple[str, list[np.ndarray]]] = []
    for k in of.frequent(has, MAX_PANELS):
        numbers = [one.value[(one.code == k) & ~np.isnan(one.value)] for one in (real, made)]
        panels.append((_with_ks(of, "number", real.codes[k]), numbers))
    n_codes = len(panels)
    for name in real.static_names:
        if statics.column_kind(real.frame[name]) == "numeric":
            columns = [statics.to_numbers(one.frame[name]) for one in (real, made)]
            known = [column[~np.isnan(column)] for column in columns]
            panels.append((_with_ks(of, "static", name), known))
    panels = panels[:MAX_PANELS]
    if not panels:
        raise nothing("no numbers: neither codes nor static columns have any.")
    axes = grid(figure, len(panels), 4)
    for one, (title, numbers) in zip(axes, panels, strict=True):
        ecdf(one, numbers[0], real=True, label="real")
        ecdf(one, numbers[1], real=False, label=of.name)
        _in_sight(one, numbers)
        one.set_title(title)
        one.set_xlabel("value")
    for one in axes[::4]:
        one.set_ylabel("share up to it")
    _legend(figure, axes, of.name)
    heading(figure, f"Numbers: {most(n_codes, int(has.sum()), 'codes with numbers')}")
    return 0.7 + 1.9 * -(-len(panels) // 4)


def _with_ks(of: Comparison, kind: str, name: Any) -> str:
    """A title that says how far apart the lines are."""
    details = of.own["marginals"].details["ks"]
    ks = details.get((kind, name), np.nan)
    static = " (static)" if kind == "static" else ""
    return f"{shown(name, 16)}{static}: KS {ks:.3f}"


def draw_categories(figure: Any, of: Comparison) -> float:
    """Shares of the texts of each code, then of static columns."""
    real, made = of.histories
    has = real.is_category() | made.is_category()
    panels: list[tuple[str, list[Counter[str]]]] = []
    for k in of.frequent(has, MAX_PANELS):
        counts = []
        for one in (real, made):
            text = one.text[(one.code == k) & (one.text >= 0)]
            n = np.bincount(text, minlength=len(one.texts))
            counts.append(Counter({one.texts[t]: int(n[t]) for t in np.flatnonzero(n)}))
        panels.append((shown(real.codes[k]), counts))
    n_codes = len(panels)
    for name in real.static_names:
        if statics.column_kind(real.frame[name]) != "numeric":
            counts = []
            for one in (real, made):
                ids, labels = statics.to_labels(one.frame[name])
                counts.append(Counter(np.array([*labels, "(missing)"], dtype=object)[ids]))
            panels.append((f"{shown(name)} (static)", counts))
    panels = panels[:MAX_PANELS]
    if not panels:
        raise nothing("no texts: neither codes nor static columns have any.")
    axes = grid(figure, len(panels), 3)
    for one, (title, counts) in zip(axes, panels, strict=True):
        _bars(one, counts, of.name)
        one.set_title(title)
        one.set_xlabel("share")
    _legend(figure, axes, of.name)
    heading(figure, f"Texts: {most(n_codes, int(has.sum()), 'codes with texts')}")
    return 0.7 + 2.1 * -(-len(panels) // 3)


def draw_times(figure: Any, of: Comparison) -> float:
    """Distribution functions of gaps, of events per subject and of spans."""
    unit = of.histories[0].array.dtype.time_unit
    unit = UNITS.get(unit, unit)
    panels = (
        (_gaps, f"gap between successive times ({unit})", "gaps", "gap_ks"),
        (_lengths, "events per subject", "lengths", "length_ks"),
        (_spans, f"first to last time ({unit})", "spans", "span_ks"),
    )
    axes = grid(figure, 3, 3)
    details = of.own["intervals"].details
    for one, (numbers, label, title, key) in zip(axes, panels, strict=True):
        both = [numbers(histories)[1] for histories in of.histories]
        if key == "gap_ks":
            one.set_xscale("log")
        ecdf(one, both[0], real=True, label="real")
        ecdf(one, both[1], real=False, label=of.name)
        if key == "gap_ks":
            _powers_only(one, both)
        ks = details[key]
        one.set_title(f"{title}: KS {ks:.3f}" if np.isfinite(ks) else f"{title}: none")
        one.set_xlabel(label)
    axes[0].set_ylabel("share up to it")
    _legend(figure, axes, of.name)
    heading(figure, "Times")
    return 3.0


def _powers_only(axes: Any, numbers: list[np.ndarray]) -> None:
    """Room for the bulk on a logarithmic axis."""
    everything = np.concatenate(numbers)
    if len(everything):
        low, high = np.quantile(everything, [0.001, 0.999])
        axes.set_xlim(max(low, 1e-12) / 1.3, max(high, 1e-12) * 1.3)


def _in_sight(axes: Any, numbers: list[np.ndarray]) -> None:
    """Limits that a few outliers do not set."""
    ends = [np.quantile(side, [0.005, 0.995]) for side in numbers if len(side)]
    low, high = min(end[0] for end in ends), max(end[1] for end in ends)
    room = 0.04 * (high - low) or 0.5
    axes.set_xlim(low - room, high + room)


def _bars(axes: Any, counts: list[Counter[str]], name: str) -> None:
    """Two bars per text, those that are frequent in the real data first."""
    totals = [max(count.total(), 1) for count in counts]
    ranked = sorted(counts[0] | counts[1], key=lambda text: (-counts[0][text], -counts[1][text]))
    texts = ranked[:MAX_TEXTS]
    place = np.arange(len(texts))
    for side, colour, label, hatch, shift in (
        (0, REAL, "real", None, -0.2),
        (1, SYNTHETIC, name, "////", 0.2),
    ):
        shares = [counts[side][text] / totals[side] for text in texts]
        axes.barh(
            place + shift, shares, 0.38, color=colour, label=label, hatch=hatch, edgecolor="white"
        )
    rest = len(ranked) - len(texts)
    axes.set_yticks(place, [shown(text, 16) for text in texts])
    if rest:
        axes.text(1, 0.02, f"{rest} rarer ones not shown", transform=axes.transAxes, ha="right")
    axes.invert_yaxis()


def _legend(figure: Any, axes: list[Any], name: str) -> None:
    """From the panel that has both sides, if there is one."""
    legend_above(figure, max(axes, key=lambda one: len(one.get_legend_handles_labels()[1])))
