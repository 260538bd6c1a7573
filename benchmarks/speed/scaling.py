"""How cost grows: subjects, events of each subject, codes; seconds and memory, with a plot.

    python benchmarks/speed/scaling.py --json scaling.json --plot scaling.svg
    python benchmarks/speed/scaling.py --quick                 # small ends of the three axes
    python benchmarks/speed/scaling.py --only codes --device cuda

Simulated histories (``_scaling_point.py``).  A point is one ``fit`` with one epoch from raw
histories, tokenisation included, and one ``predict_proba`` of all of them, in a process of its own.

- ``subjects``: 1,000 to 64,000 with 100 events and 40 codes each.
- ``events``: 100 to 30,000 for each subject, their sum the same throughout, so that a cost that
  grows with events alone gives a flat line (slope 0), one that grows with subjects alone a slope of
  -1, and attention over all pairs of events 1.
- ``codes``: 40 to 20,000, for the same number of subjects and events.

What to know when reading the result: slopes are of a straight line through the logarithms of all
points, and of the last two; small points are mostly what every fit costs, which flattens the
former.  One epoch of few subjects with long histories has few steps and small batches (at most a
quarter of the subjects).  A curve ends before a point that would take longer than ``--budget``
seconds, as far as the last two points tell.  Seconds are of the CPU on a CPU with one thread, else
by the clock on the wall.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from _measure import decades, describe, machine, markdown, short, usual_basis, write_json
from _workers import Answer, once

KINDS = ("fit", "predict")


class Sizes(NamedTuple):
    """Of simulated histories."""

    n_subjects: int
    n_events: int
    n_codes: int


class Axis(NamedTuple):
    """What grows, and the sizes along it."""

    title: str
    x: list[int]
    sizes: list[Sizes]


def axes_of(quick: bool) -> dict[str, Axis]:
    """The three axes."""
    subjects = [1000, 2000, 4000] if quick else [1000 * 2**k for k in range(7)]
    events = [100, 300, 1000] if quick else [100, 300, 1000, 3000, 10_000, 30_000]
    codes = [40, 400, 4000] if quick else [40, 200, 1000, 5000, 20_000]
    total = 60_000 if quick else 600_000
    rows = 500 if quick else 2000
    return {
        "subjects": Axis("subjects", subjects, [Sizes(n, 100, 40) for n in subjects]),
        "events": Axis(
            f"events of a subject, {total:,} in all",
            events,
            [Sizes(total // n, n, 40) for n in events],
        ),
        "codes": Axis("codes", codes, [Sizes(rows, 200, n) for n in codes]),
    }


def curves_of(window: float) -> dict[str, dict[str, Any]]:
    """Parameters of the estimators that are compared."""
    return {
        "dual": {"patching": "dual"},
        "event": {"patching": "event"},
        "event, window": {"patching": "event", "attention_window": window},
    }


def main() -> None:
    options = parse()
    basis = usual_basis(options.device, options.threads)
    found = machine(options.device, options.threads)
    print(f"{describe(found)}; {basis} time\n")
    curves = curves_of(options.window)
    figures: dict[str, Any] = {}
    for name, axis in axes_of(options.quick).items():
        if name in options.only:
            chosen = [c for c in options.patching if name == "events" or c == "dual"]
            figures[name] = {c: curve(axis, curves[c], options, basis) for c in chosen}
            print(f"\n{axis.title}\n\n{table(axis, figures[name], basis)}\n", flush=True)
    if options.json:
        write_json(options.json, {"machine": found, "basis": basis, "figures": figures})
    if options.plot:
        plot(figures, axes_of(options.quick), basis, describe(found), options.plot)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    axes = list(axes_of(True))
    curves = list(curves_of(0))
    parser.add_argument("--only", nargs="+", choices=axes, default=axes)
    parser.add_argument("--patching", nargs="+", choices=curves, default=curves)
    parser.add_argument("--window", type=int, default=256, help="attention_window of the curve")
    parser.add_argument("--d-model", type=int, default=64)
    parser.add_argument("--budget", type=float, default=300, help="seconds of a point at most")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    return parser.parse_args()


def curve(axis: Axis, params: dict[str, Any], options: Any, basis: str) -> dict[str, Any]:
    """Points along an axis, as far as the budget reaches, and their slopes."""
    points: list[Answer] = []
    ended = None
    for x, sizes in zip(axis.x, axis.sizes, strict=True):
        expected = foreseen([sum(p[k]["wall"] for k in KINDS) for p in points])
        if expected > options.budget:
            ended = f"{x:,} would take about {expected:,.0f} s"
            break
        job = {
            **sizes._asdict(),
            "params": {"d_model": options.d_model, **params},
            "device": options.device,
            "n_threads": options.threads,
        }
        answer = once("_scaling_point.py", job, n_threads=options.threads)
        if "unavailable" in answer:
            ended = answer["unavailable"]
            break
        points.append({"x": x, **answer})
        print(f"{params} {sizes}: {_line(answer, basis)}", file=sys.stderr, flush=True)
    memory = memory_key(points)
    slopes = {
        f"{kind} {what}": slope_of([p["x"] for p in points], [p[key][part] for p in points])
        for kind in KINDS
        for what, key, part in (("s", kind, basis), ("memory", memory, kind))
    }
    return {"points": points, "ended": ended, "slopes": slopes}


def memory_key(points: Sequence[Answer]) -> str:
    """Memory of the GPU where it was used."""
    return "gpu_memory" if points and points[0]["gpu_memory"]["fit"] else "memory"


def foreseen(seconds: Sequence[float]) -> float:
    """Seconds of the next point, if it grows as the last one has."""
    if len(seconds) < 2:
        return seconds[-1] if seconds else 0.0
    return seconds[-1] * max(1.0, seconds[-1] / seconds[-2])


def slope_of(x: Sequence[float], y: Sequence[float]) -> dict[str, float | None]:
    """Exponent of growth: of all points, and between the last two."""
    if len(x) < 2 or min(y) <= 0:
        return {"all": None, "last": None}
    log_x, log_y = np.log(x), np.log(y)
    return {
        "all": float(np.polyfit(log_x, log_y, 1)[0]),
        "last": float((log_y[-1] - log_y[-2]) / (log_x[-1] - log_x[-2])),
    }


def _line(answer: Answer, basis: str) -> str:
    return ", ".join(
        f"{kind} {answer[kind][basis]:.2f} s and {answer[memory_key([answer])][kind] / 1e6:,.0f} MB"
        for kind in KINDS
    )


def table(axis: Axis, curves: dict[str, Any], basis: str) -> str:
    """Points and slopes of all curves along an axis."""
    rows, remarks = [], []
    for name, found in curves.items():
        for point in found["points"]:
            memory = memory_key(found["points"])
            cells = [
                cell
                for kind in KINDS
                for cell in (short(point[kind][basis]), short(point[memory][kind] / 1e6))
            ]
            rows.append([name, f"{point['x']:,}", *cells])
        if found["points"]:
            for which in ("all", "last"):
                slopes = [
                    found["slopes"][f"{k} {w}"][which] for k in KINDS for w in ("s", "memory")
                ]
                label = {"all": "slope, all points", "last": "slope, last two"}[which]
                rows.append([name, label, *("-" if s is None else f"{s:.2f}" for s in slopes)])
        if found["ended"]:
            remarks.append(f"{name} ends here: {found['ended']}")
    header = ["patching", axis.title.split(",")[0], "fit s", "fit MB", "predict s", "predict MB"]
    return "\n\n".join([markdown(header, rows), *remarks])


def plot(
    figures: dict[str, Any], axes: dict[str, Axis], basis: str, title: str, path: Path
) -> None:
    """A column for each axis: seconds above, memory below."""
    figure, panels = plt.subplots(
        2, len(figures), figsize=(4.2 * len(figures), 6), layout="constrained", squeeze=False
    )
    for (above, below), (name, curves) in zip(panels.T, figures.items(), strict=True):
        for number, (label, found) in enumerate(curves.items()):
            for kind, marker, style in (("fit", "o", "-"), ("predict", "s", "--")):
                look = {"marker": marker, "ms": 4, "ls": style, "color": f"C{number}"}
                _draw(above, found, f"{kind} s", (kind, basis), 1, f"{label}, {kind}", look)
                memory = (memory_key(found["points"]), kind)
                _draw(below, found, f"{kind} memory", memory, 1e6, f"{label}, {kind}", look)
        above.set(ylabel=f"{basis} seconds")
        below.set(ylabel="peak memory, MB", xlabel=axes[name].title)
        for panel in (above, below):
            _finish(panel)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path)


def _draw(
    panel: Any, found: Any, slope: str, key: tuple[str, str], unit: float, label: str, look: Any
) -> None:
    """One curve, with its slope at the end."""
    points = found["points"]
    if points:
        last = found["slopes"][slope]["last"]
        text = label if last is None else f"{label} (slope {last:.2f})"
        y = [point[key[0]][key[1]] / unit for point in points]
        panel.plot([point["x"] for point in points], y, label=text, **look)


def _finish(panel: Any) -> None:
    """Whole decades, so that slopes look alike."""
    panel.set(xscale="log", yscale="log")
    panel.set_ylim(decades(*panel.get_ylim()))
    panel.grid(alpha=0.3)
    panel.spines[["top", "right"]].set_visible(False)
    if panel.has_data():
        panel.legend(frameon=False, fontsize=8)


if __name__ == "__main__":
    main()
