"""A report as a page of HTML."""

from __future__ import annotations

import warnings
from html import escape
from math import isnan
from typing import TYPE_CHECKING, Any

from tawt_sklearn.evaluation._comparison import Comparison
from tawt_sklearn.evaluation._html import document, image, paragraphs
from tawt_sklearn.evaluation._plots import as_svg, new_figure, style
from tawt_sklearn.evaluation.measure import Measure
from tawt_sklearn.evaluation.report_columns import COPY, HOLD_OUT, MARGINALS
from tawt_sklearn.evaluation.report_figures import DRAWINGS
from tawt_sklearn.evaluation.report_measures import rows_of
from tawt_sklearn.evaluation.report_rows import HIDES, LABELS, LOOKS, WORKS, Row
from tawt_sklearn.exceptions import DataError

if TYPE_CHECKING:
    from tawt_sklearn.evaluation.report import SynthesisReport

ABOUT = {
    HOLD_OUT: "half of the real test subjects compared with the other half: what a perfect "
    "generator would get, and how far chance alone moves each number.",
    COPY: "training subjects drawn with replacement, a copy: it looks real and must fail privacy. "
    "If it does not fail a measure of privacy here, that measure can see nothing in these data.",
    MARGINALS: "every length, code, gap, value and static column drawn on its own, so that nothing "
    "goes together: it must fail fidelity. A measure that it passes proves little.",
}
"""What the references are."""

PRIVACY = (
    "The measures of privacy look for traces of training subjects. They can find a leak; they "
    "cannot prove that there is none.",
    "They do promise: if the copy fails them and the synthetic data do not, the generator does not "
    "hand out its training subjects as they are, nor so near to them that simple attackers, who "
    "see the synthetic data only, would find them better than by guessing.",
    "They do not promise: protection against stronger attackers (who have the generator, know "
    "a part of a history, or have more data of the kind), protection of every single subject (a "
    "few rare ones may be exposed while the average looks safe), or anonymity in the sense of a "
    "law. Distances to the closest record in particular are known to pass data that membership "
    "attacks then break (Yao et al., The DCR Delusion, 2025). A guarantee needs a generator that "
    "was trained with differential privacy.",
    "Fidelity and privacy pull apart: the copy has the best fidelity and no privacy at all. Look "
    "at both, and at the true positive rates at few false accusations as well as at the averages.",
)
"""What the measures of privacy do and do not promise."""


def page(report: SynthesisReport, of: Comparison) -> str:
    """The whole page."""
    title = f"Synthetic event histories: {of.name}"
    figures, missing = _figures(of)
    sections = [
        ("table", "Measures", _table_section(report)),
        ("reading", "How to read the measures", _reading(report)),
        ("figures", "Figures", figures + missing),
        ("privacy", "What the privacy measures promise", paragraphs(*PRIVACY)),
    ]
    drawn = [(f"figure-{kind}", DRAWINGS[kind].title) for kind in DRAWINGS]
    drawn = [entry for entry in drawn if f'id="{entry[0]}"' in figures]
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="soft">{escape(_sizes(report, of))}</p>',
        _contents([(anchor, name) for anchor, name, _ in sections], drawn),
        *(
            f'<section id="{anchor}">\n<h2>{escape(name)}</h2>\n{text}\n</section>'
            for anchor, name, text in sections
        ),
    ]
    return document(title, "\n".join(body))


def fragment(report: SynthesisReport) -> str:
    """The table alone, for notebooks, whose style it leaves as it is."""
    return f'<div style="overflow-x: auto">{_table(report)}</div>'


def _sizes(report: SynthesisReport, of: Comparison) -> str:
    sizes = (
        f"{len(of.cohort.train)} training, {len(of.cohort.test)} test and {len(of.column.frame)} "
        "synthetic subjects"
    )
    resamples = "; no intervals"
    if report.n_bootstrap:
        resamples = f"; intervals of 95 % from {report.n_bootstrap} resamples of subjects"
    return f"{sizes}{resamples}. The figures compare {of.name} with the real subjects."


def _contents(sections: list[tuple[str, str]], figures: list[tuple[str, str]]) -> str:
    entries = []
    for anchor, name in sections:
        inner = ""
        if anchor == "figures":
            inner = "".join(f'<li><a href="#{a}">{escape(n)}</a></li>' for a, n in figures)
            inner = f"<ul>{inner}</ul>" if inner else ""
        entries.append(f'<li><a href="#{anchor}">{escape(name)}</a>{inner}</li>')
    return f'<nav aria-label="Contents"><ul>{"".join(entries)}</ul></nav>'


def _table_section(report: SynthesisReport) -> str:
    has_labels = LABELS[0] in report.measures_[report.generators_[0]]
    labels = "" if has_labels else "Without labels, nothing was measured of their use for models."
    references = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in ABOUT.items()
    )
    return (
        paragraphs(
            "No single number suffices. Compare each with the same number of the references, which "
            "say what is possible on these data and what the measure can see at all.",
            *([labels] if labels else []),
        )
        + f'<div class="wide">{_table(report)}</div>'
        + f"<h3>The references</h3><dl>{references}</dl>"
        + _undefined(report)
    )


def _table(report: SynthesisReport) -> str:
    names = report.generators_
    head = "".join(f'<th scope="col" class="number">{escape(name)}</th>' for name in names)
    rows, group = [], ""
    for row in sorted(rows_of(report.measures_), key=lambda row: _order(row.group)):
        if row.group != group:
            group = row.group
            rows.append(
                f'<tr class="group"><th colspan="{len(names) + 2}">{escape(group)}</th></tr>'
            )
        cells = "".join(
            _cell(row, report.measures_[column.name].get(row.measure), own=not column.is_reference)
            for column in report.columns
        )
        rows.append(
            f'<tr><th scope="row">{escape(row.name)}</th><td>{escape(row.good)}</td>{cells}</tr>'
        )
    return (
        '<table><thead><tr><th scope="col">measure</th><th scope="col">good</th>'
        f"{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )


def _order(group: str) -> int:
    return (LOOKS, WORKS, HIDES).index(group)


def _cell(row: Row, measure: Measure | None, *, own: bool) -> str:
    value, low, high = (float("nan"),) * 3 if measure is None else row.pick(measure)
    between = "" if isnan(low) else f"<small>{_number(low)} to {_number(high)}</small>"
    return f'<td class="number{" own" if own else ""}">{_number(value)}{between}</td>'


def _number(value: float) -> str:
    if isnan(value):
        return "-"
    text = f"{value:.3f}"
    return "0.000" if text == "-0.000" else text


def _undefined(report: SynthesisReport) -> str:
    """Why a dash stands where a number would."""
    reasons = []
    for name, measures in report.measures_.items():
        for key, measure in measures.items():
            if reason := measure.extra.get("undefined"):
                reasons.append(f"<li>{escape(f'{name}, {key}: {reason}')}</li>")
    if not reasons:
        return ""
    return f'<p class="soft">Not measured:</p><ul class="soft">{"".join(reasons)}</ul>'


def _reading(report: SynthesisReport) -> str:
    entries = "".join(
        f"<dt>{escape(row.name)}"
        + (f" (good: {escape(row.good)})" if row.good else "")
        + f"</dt><dd>{escape(row.reading)} {escape(row.reference)}</dd>"
        for row in rows_of(report.measures_)
    )
    return f"<dl>{entries}</dl>"


def _figures(of: Comparison) -> tuple[str, str]:
    """All figures that the data allow, and why others are missing."""
    drawn, missing = [], []
    for kind, drawing in DRAWINGS.items():
        try:
            svg = _svg(drawing.draw, of)
        except DataError as error:
            reason = str(error).partition("Got ")[2] or str(error)
            missing.append(f"<li>{escape(f'{drawing.title}: {reason}')}</li>")
            continue
        drawn.append(
            f'<h3 id="figure-{kind}">{escape(drawing.title)}</h3>\n<figure>'
            f"{image(svg, f'{drawing.title}. {drawing.caption}')}"
            f"<figcaption>{escape(drawing.caption)}</figcaption></figure>"
        )
    absent = ""
    if missing:
        absent = f'<p class="soft">Not drawn:</p><ul class="soft">{"".join(missing)}</ul>'
    return "\n".join(drawn), absent


def _svg(draw: Any, of: Comparison) -> bytes:
    with style(), warnings.catch_warnings():
        # Names in scripts that the font lacks are drawn as boxes; the page has them as text.
        warnings.filterwarnings("ignore", message="Glyph")
        figure = new_figure()
        figure.set_figheight(draw(figure, of))
        return as_svg(figure)
