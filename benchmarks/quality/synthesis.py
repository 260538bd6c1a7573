"""How well synthetic histories stand for real ones: ``SequenceSynthesizer`` beside references.

    python benchmarks/quality/synthesis.py long --json synthesis.json --keep drawn
    python benchmarks/quality/synthesis.py icu --json synthesis.json --keep drawn
    python benchmarks/quality/synthesis.py physionet2012 --json synthesis.json --html pages
    python benchmarks/quality/synthesis.py beijing --json synthesis.json
    python benchmarks/quality/synthesis.py long --rows par --peers-python par=sdv-venv/bin/python
    python benchmarks/quality/synthesis.py long --subjects 100 --set max_epochs=1 d_model=16

A generator learns from the training subjects and draws as many new ones, with labels; these are
compared with the test subjects, which it has not seen.  Each seed is a fit and a draw of its own.

Cohorts:

- ``long``: 500 training and 2,000 test subjects made up beforehand, about 30 events each: five
  numeric and two categorical codes, bursts and long gaps, a severity that drifts, a chemistry
  panel measured together, a label that changes the drift.
- ``icu``: ``make_icu_stays``, 500 training (seed 2026) and 2,000 test stays (seed 2027), about 280
  events each.  Effects of its rule that are known are estimated in real and in synthetic stays.
- ``physionet2012``: set a is training, set b is test, 4,000 stays each, about 430 events; age,
  gender, height and unit as static columns, in-hospital death as label.
- ``beijing``: panels of 72 hours, 12 channels and eight stations, with missing values and the wind
  direction as a channel of 16 levels; windows do not overlap.  The first two years of all stations
  are training; the last two are test, each window at one station, in turn, as stations share their
  weather.  The label is whether PM2.5 exceeds 75 µg/m³ in the 24 hours after.

Rows: ``ours``; ``holdout``, real subjects in place of synthetic ones: half of the test subjects,
compared with the other half; ``copy``, training subjects drawn with replacement; ``marginals``,
where nothing goes together; ``par`` (SDV) and ``argn`` (MOSTLY AI), each in an environment of its
own, which ``--peers-python`` names.  The peers may train for as long as ours did on the same cohort
and seed or longer, by the clock on the wall, and for 180 s at least.

What to know when reading the result:

- Fixed in advance: splits, measures, aims, and the models of TRTR and TSTR.  Those are gradient
  boosting on ``subject_features``, for PhysioNet that on ``EventSummarizer`` of physionet2012.py.
  The synthesizer has its defaults (``--set`` changes them); figures of ``long``, of its test
  subjects too, were looked at while these were chosen, so that the other cohorts say more.
- All rows go through the same code, and through that of ``SynthesisReport``: its table has the same
  figures for the same seed, but for TRTR and TSTR of PhysioNet.
- The range is over seeds, which for ours and the peers are fits, for references draws.  A star
  marks a mean that misses its aim.
- In ``beijing`` the test years are other years, with less SO2 above all: read ours beside ``copy``,
  which has the same handicap.  Test windows are few, so that figures are less steady.
- Known effects: intervals overlap easily where they are wide, so look at the estimates as well;
  the marginals show how far one gets with no effect at all.
- The CPU time of a peer is that of its whole process.  What it writes after the end of the
  observation is left out, and times of a panel are rounded to its steps.

Needs ``pip install -e ".[benchmark]"`` and, except for ``icu``, copies of the data
(``TAWT_DATA``).  Set ``OMP_NUM_THREADS`` to the cores that are free.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import platform
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sklearn
import torch
from _synthesis_cohorts import Real, load
from _synthesis_effects import (
    CONDITIONAL,
    EFFECTS,
    GIVEN,
    N_LARGE,
    Mortality,
    honoured,
    overlap,
    panel_measures,
    truth,
    with_intervals,
)
from _synthesis_measures import Results, Yardstick, table_of, with_range
from _synthesis_rows import PEERS, ROWS, SECONDS, Drawn, draw

import tawt_sklearn
from tawt_sklearn.evaluation import SynthesisReport
from tawt_sklearn.evaluation.report_columns import Column

COHORTS = ("long", "icu", "physionet2012", "beijing")


# ---- beyond the table --------------------------------------------------------------------------


class Extras:
    """What is asked of single cohorts."""

    def __init__(self, real: Real) -> None:
        self.real = real
        self.mortality = cache(lambda: Mortality(real))

    def of(self, drawn: Drawn, column: Column, seed: int) -> dict[str, Any]:
        """Figures of one row and seed, for the store."""
        found: dict[str, Any] = {}
        if self.real.name == "icu":
            found["effects"] = with_intervals(drawn.X, drawn.y, seed)
        if self.real.panel:
            found["panel"] = panel_measures(self.real, column.real, drawn.X)
        if CONDITIONAL in drawn.further:
            model = self.mortality()
            found["conditional"] = {
                **model.conditional(drawn.further[CONDITIONAL]),
                **model.references,
            }
        if GIVEN in drawn.further:
            found["static"] = honoured(self.real, drawn.further[GIVEN])
        return found

    def show(self, cells: list[dict[str, Any]]) -> None:
        for kind, title in (
            ("conditional", "Stays asked for with y=1: scores of a model of real mortality"),
            ("static", "Static columns as asked for: share exactly so"),
            ("panel", "Missing values and wind direction, beside the real windows compared with"),
        ):
            if table := numbers_of(cells, kind):
                print(f"\n{title}\n{pd.DataFrame(table).fillna('').to_string()}")
        for cell in cells:
            if shares := cell["extra"].get("panel"):
                print(f"\n{cell['row']}, seed {cell['seed']}: share missing by channel")
                for side in ("real", "row"):
                    values = " ".join(f"{share:.3f}" for share in shares[f"missing, {side}"])
                    print(f"  {side:5}{values}")
        if self.real.name == "icu":
            self.show_effects([cell for cell in cells if "effects" in cell["extra"]])

    def show_effects(self, cells: list[dict[str, Any]]) -> None:
        """Every effect in real and drawn stays, and whether the intervals overlap."""
        real = self.real
        sides = {
            "real training": with_intervals(real.train, real.y_train, 0),
            "real test": with_intervals(real.test, real.y_test, 0),
        }
        rows = {f"{cell['row']}, seed {cell['seed']}": cell["extra"]["effects"] for cell in cells}
        known = truth()
        print("\nKnown effects, 95 % intervals over stays; overlap with training / test")
        for name in EFFECTS:
            true, large = known.loc[name]
            print(f"{name}: truth {true:.3f}, estimated in {N_LARGE:,} stays {large:.3f}")
            for title, table in {**sides, **rows}.items():
                value, low, high = table[name]
                line = f"  {title:18} {value:8.3f} [{low:.3f}, {high:.3f}]"
                if title in rows:
                    said = ["yes" if overlap(table[name], sides[s][name]) else "no" for s in sides]
                    line += f"  {said[0]} / {said[1]}"
                print(line)
        totals: dict[str, list[int]] = {}
        for cell in cells:
            test, found = sides["real test"], cell["extra"]["effects"]
            n = sum(overlap(found[name], test[name]) for name in EFFECTS)
            totals.setdefault(cell["row"], []).append(n)
        for row, numbers in totals.items():
            print(f"{row}: {np.mean(numbers):.1f} of {len(EFFECTS)} effects overlap with test")


def numbers_of(cells: list[dict[str, Any]], kind: str) -> dict[str, dict[str, str]]:
    """Row -> name -> mean and range over seeds, of the extras that are single numbers."""
    table: dict[str, dict[str, str]] = {}
    for row in dict.fromkeys(cell["row"] for cell in cells):
        found = [cell["extra"].get(kind) for cell in cells if cell["row"] == row]
        found = [figures for figures in found if figures]
        if found:
            names = [name for name, value in found[0].items() if isinstance(value, float)]
            table[row] = {name: with_range(name, [one[name] for one in found]) for name in names}
    return table


# ---- the run -----------------------------------------------------------------------------------


class Run:
    """One cohort with the options of the command line."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.real = load(options.cohort)
        if options.subjects:
            self.real = self.real.few(options.subjects)
        self.settings = dict(options.set)
        if options.max_time is not None:
            self.settings["max_time"] = options.max_time
        told = {
            "synthesizer": self.settings,
            "subjects": options.subjects,
            "n_bootstrap": options.n_bootstrap,
        }
        self.results = Results(options.json)
        self.results.check(options.cohort, told)
        self.keep = None if options.keep is None else options.keep / options.cohort
        if self.keep is not None:
            self.check_kept({name: told[name] for name in ("synthesizer", "subjects")})
        self.extras = Extras(self.real)
        self.ours: dict[int, Drawn] = {}

    def check_kept(self, told: dict[str, Any]) -> None:
        """Refuse to measure subjects that were drawn with other settings."""
        assert self.keep is not None
        path = self.keep / "settings.json"
        if path.exists() and (found := json.loads(path.read_text())) != told:
            raise SystemExit(
                f"Expected the settings of what {self.keep} holds, {found}. Got {told}. Give "
                "another --keep, or the options of the earlier run."
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(told) + "\n")

    def all_rows(self) -> None:
        for seed in self.options.seeds:
            wanted = [row for row in ROWS if row in self.options.rows]
            wanted = [row for row in wanted if not self.results.find(self.real.name, row, seed)]
            if wanted:
                yardstick = Yardstick(self.real, seed, self.options.n_bootstrap)
                for row in wanted:
                    self.one(row, seed, yardstick)

    def one(self, row: str, seed: int, yardstick: Yardstick) -> None:
        """Draw and measure; both are stored at once."""
        drawn = self.drawn(row, seed, yardstick)
        if row == "ours":
            self.ours[seed] = drawn
        start = time.perf_counter()
        cell = {
            "cohort": self.real.name,
            "row": row,
            "seed": seed,
            **yardstick.measure(row, drawn),
            "extra": self.extras.of(drawn, yardstick.column(row, drawn), seed),
            "info": drawn.info,
            "machine": machine(),
        }
        self.results.add(cell)
        spent = time.perf_counter() - start
        shown = {name: round(value, 3) for name, value in cell["figures"].items()}
        print(f"{row}, seed {seed} (measured in {spent:.0f} s): {shown}", flush=True)
        for name, reason in cell["undefined"].items():
            print(f"  {name} is undefined: {reason}", flush=True)

    def drawn(self, row: str, seed: int, yardstick: Yardstick) -> Drawn:
        """Subjects from the folder of an earlier run, or new ones."""
        folder = None if self.keep is None else self.keep / f"{row}-{seed}"
        found = None if folder is None else Drawn.read(folder)
        if found is not None:
            return found
        drawn = draw(
            row,
            self.real,
            seed,
            columns=yardstick.columns,
            settings=self.settings,
            pythons=dict(self.options.peers_python),
            our_seconds=lambda: self.our_seconds(seed),
            fitted=None if self.keep is None else self.keep / f"fitted-{seed}",
        )
        if folder is not None:
            drawn.write(folder)
        return drawn

    def our_seconds(self, seed: int) -> float:
        """Wall time of our fit on the same cohort and seed, 0 where there was none."""
        cell = self.results.find(self.real.name, "ours", seed)
        if cell is None:
            print(f"no fit of ours for seed {seed}: the peer has its shortest time", flush=True)
            return 0.0
        return cell["figures"][SECONDS[0]]

    def show(self) -> None:
        cells = [
            cell
            for row in ROWS
            for cell in self.results.cells
            if cell["cohort"] == self.real.name
            and cell["row"] == row
            and row in self.options.rows
            and cell["seed"] in self.options.seeds
        ]
        print(f"\n{table_of(cells, self.real.aims).to_string()}")
        for row in ("ours", *PEERS):
            of_row = [cell for cell in cells if cell["row"] == row]
            if of_row:
                print(f"\nWhat betrays {row} (AUC of one feature): {of_row[-1]['betrayals']}")
        self.extras.show(cells)

    def write_html(self, folder: Path) -> None:
        """The report of the last seed of ours."""
        seed = self.options.seeds[-1]
        made = self.ours.get(seed)
        if made is None and self.keep is not None:
            made = Drawn.read(self.keep / f"ours-{seed}")
        if made is None:
            print(f"\nno page: the subjects of ours, seed {seed}, were not kept (--keep)")
            return
        real = self.real
        report = SynthesisReport.from_frames(
            real.train,
            real.test,
            made.X,
            y_train=real.y_train,
            y_test=real.y_test,
            y_synthetic=made.y,
            name="SequenceSynthesizer",
            n_bootstrap=self.options.n_bootstrap,
            random_state=seed,
        )
        folder.mkdir(parents=True, exist_ok=True)
        print(f"\nwrote {report.to_html(folder / f'{real.name}.html')}")


def machine() -> str:
    """What has to be known of the machine to read the seconds."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.split(": ")[1] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        cpu = platform.processor() or platform.machine()
    threads = os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return (
        f"{cpu}, {threads} of {os.cpu_count()} cores{load}; python {platform.python_version()}, "
        f"torch {torch.__version__}, scikit-learn {sklearn.__version__}, "
        f"tawt_sklearn {tawt_sklearn.__version__}"
    )


def setting(text: str) -> tuple[str, Any]:
    """``name=value`` with a value of Python, else a string."""
    name, separator, value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"Expected name=value. Got {text!r}.")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def interpreter(text: str) -> tuple[str, Path]:
    name, _, path = text.partition("=")
    if name not in PEERS or not path:
        raise argparse.ArgumentTypeError(f"Expected par=PYTHON or argn=PYTHON. Got {text!r}.")
    return name, Path(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cohort", choices=COHORTS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--rows", nargs="+", choices=ROWS, default=[row for row in ROWS if row not in PEERS]
    )
    parser.add_argument("--json", type=Path, help="store; rows that it has are not run again")
    parser.add_argument("--keep", type=Path, help="folder for what is fitted and drawn")
    parser.add_argument("--html", type=Path, help="folder for a report of our last seed")
    parser.add_argument("--n-bootstrap", type=int, default=0, help="resamples for intervals")
    parser.add_argument("--max-time", type=float, help="seconds that our training may take")
    parser.add_argument(
        "--set", type=setting, nargs="+", default=[], help="name=value of our synthesizer"
    )
    parser.add_argument(
        "--peers-python", type=interpreter, nargs="+", default=[], help="par=PYTHON argn=PYTHON"
    )
    parser.add_argument("--subjects", type=int, help="the first ones only, for a quick try")
    options = parser.parse_args()
    for row in options.rows:
        if row in PEERS and row not in dict(options.peers_python):
            parser.error(f"row {row} needs --peers-python {row}=PYTHON")

    run = Run(options)
    real = run.real
    sizes = [f"{len(frame):,}" for frame in (real.train, real.test)]
    events = real.train["events"].events.lengths.mean()
    print(f"{real.name}: {' training and '.join(sizes)} test subjects, {events:.0f} events each")
    print(f"label: {real.about}, {real.y_train.mean():.1%} and {real.y_test.mean():.1%}")
    print(f"{machine()}\n", flush=True)
    run.all_rows()
    run.show()
    if options.html:
        run.write_html(options.html)


if __name__ == "__main__":
    main()
