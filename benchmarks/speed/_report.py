"""From the rounds of the engine benchmark to its figures, its table and its plot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from _measure import Spread, decades, markdown, ratios, short
from _profile import PHASES
from _workers import Answer

LABELS = {
    "padded-dropout": "(a) padded, skorch, dropout .1",
    "padded": "(a) padded, skorch, dropout 0",
    "bucketed": "(b) bucketed, dropout 0",
    "bucketed-off": "(b) the same, fast path off",
    "event": '(c) ours, patching="event"',
    "dual": "(d) ours, defaults",
}
KINDS = ("train", "infer")
REFERENCES = {
    "train": {"padded-dropout": "(a), dropout", "bucketed": "(b)"},
    "infer": {"bucketed": "(b)", "bucketed-off": "(b), path off"},
}
"""What the table compares with, and what it is called there."""


def summarise(rounds: dict[str, list[Answer]], basis: str) -> dict[str, Any]:
    """Figures of each variant and their ratios to those they are compared with."""
    per_event: dict[str, Any] = {}  # by both clocks: seconds per event in each round
    figures: dict[str, Any] = {}
    for name, answers in rounds.items():
        if "unavailable" in answers[0]:
            figures[name] = {"unavailable": answers[0]["unavailable"]}
            continue
        per_event[name] = {kind: _seconds_per_event(answers, kind) for kind in KINDS}
        figures[name] = _figures(answers, per_event[name])
        if "infer_fast_path_off" in answers[0]:
            off = {"infer": _seconds_per_event(answers, "infer_fast_path_off")}
            per_event["bucketed-off"] = off
            figures["bucketed-off"] = _figures(answers, off)
    for name, own in per_event.items():
        figures[name]["ratios"] = {
            kind: {
                reference: ratios(per_event[reference][kind][basis], seconds[basis])
                for reference in REFERENCES[kind]
                if reference in per_event and reference != name
            }
            for kind, seconds in own.items()
        }
    return {name: figures[name] for name in LABELS if name in figures}


def _seconds_per_event(answers: list[Answer], kind: str) -> dict[str, list[float]]:
    return {
        clock: [answer[kind][clock] / answer["n_events"] for answer in answers]
        for clock in ("wall", "cpu")
    }


def _figures(answers: list[Answer], per_event: dict[str, Any]) -> dict[str, Any]:
    first = answers[0]
    memory = "gpu_memory" if first["gpu_memory"]["train"] else "memory"
    return {
        "n_rows": first["n_rows"],
        "batch_size": first["batch_size"],
        "events_per_s": {
            kind: Spread.of([1 / s for s in seconds["wall"]]) for kind, seconds in per_event.items()
        },
        "cpu_us_per_event": {
            kind: Spread.of([1e6 * s for s in seconds["cpu"]])
            for kind, seconds in per_event.items()
        },
        "memory_mb": {
            kind: max(answer[memory][kind] for answer in answers) / 1e6 for kind in per_event
        },
        "gpu_utilisation": first["gpu_utilisation"],
    }


# ---- text --------------------------------------------------------------------------------------


def table(figures: dict[str, Any]) -> str:
    """The table of the docs, and why some of its rows are empty."""
    there = {name: found for name, found in figures.items() if "unavailable" not in found}
    references = {
        kind: {r: title for r, title in REFERENCES[kind].items() if r in there} for kind in KINDS
    }
    header = ["", "stays, batch"]
    for kind, titles in references.items():
        header += [f"{kind}, events/s", "CPU us/event", "MB"]
        header += [f"times {title}" for title in titles.values()]
    rows = [
        [
            LABELS[name],
            f"{found['n_rows']:,}, {found['batch_size']}",
            *(cell for kind in KINDS for cell in _cells(found, kind, list(references[kind]))),
        ]
        for name, found in there.items()
    ]
    missing = [f"{LABELS[n]}: {f['unavailable']}" for n, f in figures.items() if n not in there]
    return "\n\n".join([markdown(header, rows), *missing])


def _cells(found: dict[str, Any], kind: str, references: list[str]) -> list[str]:
    if kind not in found["events_per_s"]:
        return [""] * (3 + len(references))
    against = [found["ratios"][kind].get(reference) for reference in references]
    return [
        short(found["events_per_s"][kind].median),
        short(found["cpu_us_per_event"][kind].median),
        short(found["memory_mb"][kind]),
        *("1" if ratio is None else str(ratio) for ratio in against),
    ]


def mfu(profile: Answer, found: dict[str, Any], basis: str) -> float:
    """Share of the peak of matrix products that training reaches."""
    per_event = 1 / found["events_per_s"]["train"].median
    if basis == "cpu":
        per_event = found["cpu_us_per_event"]["train"].median / 1e6
    return profile["flops_per_event"] / per_event / profile["peak"]["peak"]


def profile_text(name: str, profile: Answer, figures: dict[str, Any], basis: str) -> str:
    """A few lines on a training step."""
    shares = profile["shares"][basis]
    peak = {k: v for k, v in profile["peak"].items() if k != "peak"}
    lines = [
        f"{LABELS[name]}: a step takes {profile['step_ms'][basis]:.1f} ms; "
        + ", ".join(f"{phase} {shares[phase]:.1%}" for phase in PHASES),
        f"  {profile['flops_per_event']:,.0f} FLOPs of matmul an event, "
        f"MFU {mfu(profile, figures[name], basis):.1%} of "
        f"{profile['peak']['peak'] / 1e9:,.0f} GFLOP/s ({profile['peak_dtype']}; "
        + ", ".join(f"{shape}: {rate / 1e9:,.0f}" for shape, rate in peak.items())
        + ")",
    ]
    used, busy = figures[name]["gpu_utilisation"], profile.get("gpu_busy")
    if used is not None or busy is not None:
        lines.append(
            "  GPU: "
            + ("" if used is None else f"utilisation {used:.0%} by the driver; ")
            + ("" if busy is None else f"kernels for {busy:.0%} of a whole fit")
        )
    return "\n".join(lines)


# ---- plot --------------------------------------------------------------------------------------


def plot(
    figures: dict[str, Any], profiles: dict[str, Answer], basis: str, title: str, path: Path
) -> None:
    """Throughput, memory and the parts of a step."""
    there = {name: found for name, found in figures.items() if "unavailable" not in found}
    if not there:
        return
    figure, axes = plt.subplots(
        1, 3, figsize=(13, 3.4), layout="constrained", width_ratios=(4, 3, 4)
    )
    places = np.arange(len(there))
    for axis, what in zip(axes[:2], ("events_per_s", "memory_mb"), strict=True):
        _dots(axis, there, what, -0.12, "train", "o")
        _dots(axis, there, what, 0.12, "infer", "s")
        axis.set(xscale="log", ylim=(len(there) - 0.5, -0.5))
        axis.set_xlim(decades(*axis.get_xlim()))
        axis.grid(alpha=0.3)
    axes[0].set(xlabel="events per second")
    axes[0].set_yticks(places, [LABELS[name] for name in there])
    axes[0].legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
    axes[1].set(xlabel="peak memory, MB")
    axes[1].set_yticks(places, [])
    _steps(axes[2], profiles, basis)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path)


def _dots(axis: Any, figures: Any, what: str, shift: float, kind: str, marker: str) -> None:
    """The variants' medians of one kind, with the range of the rounds."""
    found = [(p, f[what][kind]) for p, f in enumerate(figures.values()) if kind in f[what]]
    spreads = [v if isinstance(v, Spread) else Spread(v, v, v) for _, v in found]
    median = np.array([s.median for s in spreads])
    error = [median - [s.low for s in spreads], [s.high for s in spreads] - median]
    label = {"train": "training", "infer": "inference"}[kind]
    axis.errorbar(median, [p + shift for p, _ in found], xerr=error, fmt=marker, label=label)


def _steps(axis: Any, profiles: dict[str, Answer], basis: str) -> None:
    """Shares of a training step, one bar for each variant."""
    left = np.zeros(len(profiles))
    for phase, colour in zip(PHASES, ("C7", "C2", "C4", "C5"), strict=True):
        width = np.array([100 * profile["shares"][basis][phase] for profile in profiles.values()])
        axis.barh([LABELS[n] for n in profiles], width, 0.5, left=left, color=colour, label=phase)
        left += width
    axis.set(xlabel="share of a training step, %", xlim=(0, 100))
    axis.set_ylim(max(len(profiles), 1) - 0.5, -0.5)
    if profiles:
        place = {"loc": "lower center", "bbox_to_anchor": (0.4, 1)}
        axis.legend(**place, frameon=False, ncols=4, fontsize=9, handlelength=1, columnspacing=1)
