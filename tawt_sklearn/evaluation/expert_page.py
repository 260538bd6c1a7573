"""Time lines of subjects to be rated, as a page of HTML."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from tawt_sklearn.evaluation._frames import Histories
from tawt_sklearn.evaluation._html import document, image, paragraphs
from tawt_sklearn.evaluation._plots import REAL, as_svg, most, new_figure, shown, style
from tawt_sklearn.evaluation.figures_values import UNITS

MAX_LANES = 14
"""Codes that have a lane in the pictures."""

MAX_EVENTS = 60
"""Rows of the table of a subject."""

LETTER = 0.0095
"""Width of a letter, as a share of the axis."""

PRINT = """
fieldset { border: 1px solid var(--rule); border-radius: .4rem; width: fit-content; }
label { margin-right: 1.2rem; }
section { break-inside: avoid; }
details table { font-size: .85rem; }
"""


@dataclass(frozen=True, eq=False)
class Subjects:
    """Subjects in the order in which they are shown.

    Nothing here tells which are real: indices of rows and absolute times are left out.

    Attributes
    ----------
    events : list of DataFrame
        ``time`` (since the first event), ``code``, ``value`` and ``text`` of each.
    statics : DataFrame
        A row for each.
    lanes : list
        Codes drawn, by name.
    n_codes : int
        How many there are in all of them.
    limits : dict
        Range of the numbers of each lane, over all subjects shown.
    unit : str
    """

    events: list[pd.DataFrame]
    statics: pd.DataFrame
    lanes: list[Any]
    n_codes: int
    limits: dict[Any, tuple[float, float]]
    unit: str


def read_subjects(sides: tuple[Histories, ...], chosen: list[tuple[int, int]]) -> Subjects:
    """Take subjects out of their frames.

    Parameters
    ----------
    sides : tuple of Histories
        Real and synthetic.
    chosen : list of (side, row)
        In the order in which they are shown.
    """
    events, statics = [], []
    for side, row in chosen:
        histories = sides[side]
        at = slice(*histories.offsets[row : row + 2])
        text = [None if t < 0 else histories.texts[t] for t in histories.text[at].tolist()]
        table = pd.DataFrame(
            {
                "time": histories.time[at] - histories.time[at][0],
                "code": [histories.codes[k] for k in histories.code[at].tolist()],
                "value": histories.value[at],
            }
        )
        table["text"] = pd.Series(text, table.index, dtype=object)
        events.append(table)
        statics.append(histories.frame[sides[0].static_names].iloc[row].to_dict())
    counts = Counter(code for table in events for code in table["code"])
    frequent = [code for code, _ in sorted(counts.items(), key=lambda c: (-c[1], str(c[0])))]
    lanes = sorted(frequent[:MAX_LANES], key=str)
    everything = pd.concat(events)
    numbers = everything.groupby("code")["value"].agg(["min", "max"])
    limits = {code: (float(low), float(high)) for code, low, high in numbers.itertuples()}
    unit = sides[0].array.dtype.time_unit
    return Subjects(
        events, pd.DataFrame(statics), lanes, len(counts), limits, UNITS.get(unit, unit)
    )


def page(subjects: Subjects) -> str:
    """The whole sheet."""
    n = len(subjects.events)
    body = [
        "<h1>Which of these are real?</h1>",
        paragraphs(
            f"Below are {n} histories. Half of them are of real subjects, half were made by a "
            "computer; their order was drawn at random. Please look at each and tick what you "
            "think it is; tick one even if you must guess. Do not go back to change an answer.",
            f"Lanes are codes ({most(len(subjects.lanes), subjects.n_codes, 'codes')}); each has "
            "one scale for all subjects, given at its left. Times count from the first event. "
            "Marks without a line are events without a number; their texts stand where they change "
            "and there is room. All are in the table below each picture.",
            "When you are done, print the page with your ticks, or note the answers by number.",
        ),
        *(_section(subjects, k) for k in range(n)),
    ]
    return document("Which of these are real?", "\n".join(body), PRINT)


def _section(subjects: Subjects, k: int) -> str:
    number = k + 1
    with style(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")
        figure = new_figure()
        figure.set_figheight(_draw(figure, subjects, k))
        drawn = image(as_svg(figure), f"Time line of history {number}")
    choices = "".join(
        f'<label><input type="radio" name="history-{number}" value="{kind}"> {kind}</label>'
        for kind in ("real", "synthetic")
    )
    return (
        f'<section id="history-{number}">\n<h2>{number}</h2>\n{_statics(subjects, k)}'
        f"<figure>{drawn}</figure>\n{_table(subjects, k)}"
        f"<fieldset><legend>History {number} is</legend>{choices}</fieldset>\n</section>"
    )


def _statics(subjects: Subjects, k: int) -> str:
    known = [
        f"{name}: {'unknown' if pd.isna(value) else _said(value)}"
        for name, value in subjects.statics.iloc[k].items()
    ]
    return f"<p>{escape('; '.join(known))}</p>" if known else ""


def _table(subjects: Subjects, k: int) -> str:
    """The first events, to be unfolded."""
    events = subjects.events[k]
    rows = "".join(
        f'<tr><td class="number">{_said(time)}</td><td>{escape(str(code))}</td>'
        f"<td>{escape(_content(value, text))}</td></tr>"
        for time, code, value, text in events.head(MAX_EVENTS).itertuples(index=False)
    )
    rest = len(events) - MAX_EVENTS
    more = f'<p class="soft">and {rest} further events</p>' if rest > 0 else ""
    return (
        f"<details><summary>{len(events)} events</summary><table><thead><tr>"
        f'<th class="number">time ({subjects.unit})</th><th>code</th><th>value</th></tr></thead>'
        f"<tbody>{rows}</tbody></table>{more}</details>"
    )


def _content(value: float, text: Any) -> str:
    if isinstance(text, str):
        return text
    return "" if np.isnan(value) else _said(value)


def _said(value: Any) -> str:
    """Four digits: how many there are in a file would give synthetic numbers away."""
    return f"{value:.4g}" if isinstance(value, float | np.floating) else str(value)


def _draw(figure: Any, subjects: Subjects, k: int) -> float:
    """A lane for each code; returns the height in inches."""
    events, lanes = subjects.events[k], subjects.lanes
    axes = figure.subplots()
    end = float(events["time"].max())
    axes.set_xlim(-0.02 * end - 0.01, 1.06 * end + 0.05)  # before texts, which need to know
    names = []
    for lane, code in enumerate(lanes):
        low, high = subjects.limits[code]
        of_code = events[events["code"] == code]
        _draw_lane(axes, len(lanes) - 1 - lane, of_code, low, high)
        scale = "" if np.isnan(low) else f"  {low:.4g} to {high:.4g}"
        names.append(shown(code, 18) + scale)
    axes.set_yticks(range(len(lanes)), names[::-1])
    axes.set_ylim(-0.6, len(lanes) - 0.4)
    axes.set_xlabel(f"time since the first event ({subjects.unit})")
    axes.tick_params(axis="y", length=0)
    for lane in range(len(lanes) - 1):
        axes.axhline(lane + 0.5, color="0.88", linewidth=0.8)
    return 0.8 + 0.36 * len(lanes)


def _draw_lane(axes: Any, lane: int, events: pd.DataFrame, low: float, high: float) -> None:
    """Numbers as a line, texts where they change, other events as marks."""
    numbers = events[events["value"].notna()]
    height = (numbers["value"] - low) / (high - low) if high > low else 0.0 * numbers["value"] + 0.5
    axes.plot(
        numbers["time"], lane - 0.38 + 0.76 * height, color=REAL, marker=".", markersize=4, lw=1
    )
    bare = events[events["value"].isna()]
    axes.plot(bare["time"], np.full(len(bare), lane - 0.3), "|", color="0.3", markersize=6)
    _write_texts(axes, lane, bare)


def _write_texts(axes: Any, lane: int, events: pd.DataFrame) -> None:
    """Texts where they change, on two levels, those that would hide another left out."""
    begin, end = axes.get_xlim()
    taken = [-np.inf, -np.inf]
    before: Any = None
    for time, text in zip(events["time"], events["text"], strict=True):
        if isinstance(text, str) and text != before:
            label = shown(text, 12)
            free = next((level for level in (0, 1) if taken[level] <= time), None)
            if free is not None:
                axes.text(time, lane - 0.13 + 0.27 * free, label, fontsize=7, va="bottom")
                taken[free] = time + LETTER * (len(label) + 1) * (end - begin)
        before = text
