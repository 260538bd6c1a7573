"""The measures of synthesis.py, the same for every row, and the table made of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _files import keep, kept
from _synthesis_cohorts import Real
from _synthesis_rows import LATENT, REFERENCES, SECONDS, Drawn

from tawt_sklearn.evaluation import Measure, trtr_score, tstr_score
from tawt_sklearn.evaluation.measure import generator, seed
from tawt_sklearn.evaluation.report_columns import Cohort, Column, read_columns
from tawt_sklearn.evaluation.report_measures import measure_columns
from tawt_sklearn.evaluation.report_rows import LABELS, ROWS
from tawt_sklearn.exceptions import DataError

LABEL_RATE = "label rate"


class Yardstick:
    """Everything of one cohort and seed that the rows share.

    References, halves of the test subjects and seeds are those of
    ``SynthesisReport.from_frames(..., random_state=seed)``, so that figures agree with its table;
    only where the cohort has an estimator of its own, TRTR and TSTR differ.
    """

    def __init__(self, real: Real, random_state: int, n_bootstrap: int) -> None:
        self.real, self.n_bootstrap = real, n_bootstrap
        rng = generator(random_state)
        # The training subjects stand for the synthetic ones, of which there are as many.
        self.cohort, columns = read_columns(
            real.train,
            real.test,
            real.train,
            labels=(real.y_train, real.y_test, real.y_train),
            name="training",
            further=None,
            log_prob=None,
            random_state=seed(rng),
        )
        self.columns: dict[str, Column] = {column.name: column for column in columns}
        self.options = {"n_bootstrap": n_bootstrap, "random_state": seed(rng)}
        self.possible: dict[int, Measure] = {}

    @cached_property
    def without_labels(self) -> Cohort:
        return Cohort(self.cohort.train, self.cohort.test)

    def column(self, row: str, drawn: Drawn) -> Column:
        """The drawn subjects, beside those that they are compared with."""
        name = REFERENCES.get(row, "training")
        return replace(self.columns[name], name=row, frame=drawn.X, y=drawn.y)

    def measure(self, row: str, drawn: Drawn) -> dict[str, Any]:
        """Figures and intervals by name."""
        column = self.column(row, drawn)
        measures = measure_columns(self.without_labels, [column], embed=None, **self.options)[row]
        measures |= self.utility(column)
        figures, intervals = {}, {}
        for line in ROWS:
            if line.measure in measures and line.name != "membership AUC (likelihood)":
                value, *ends = line.pick(measures[line.measure])
                figures[line.name] = float(value)
                if np.isfinite(ends).all():
                    intervals[line.name] = [float(end) for end in ends]
        figures |= {LABEL_RATE: float(np.mean(drawn.y)), **drawn.figures}
        betrayals = measures["discriminator"].details
        return {
            "figures": figures,
            "intervals": intervals,
            "undefined": {
                name: measure.extra["undefined"]
                for name, measure in measures.items()
                if "undefined" in measure.extra
            },
            "betrayals": {} if betrayals is None else betrayals["auc"][:10].round(3).to_dict(),
        }

    def utility(self, column: Column) -> dict[str, Measure]:
        """What labels can be told after learning from real and from drawn subjects."""
        train, test = (self.cohort.train, self.cohort.y_train), (column.real, column.y_real)
        if len(column.real) not in self.possible:
            self.possible[len(column.real)] = self.score(trtr_score, *train, *test)
        trtr = self.possible[len(column.real)]
        tstr = self.score(tstr_score, column.frame, column.y, *test)
        return dict(zip(LABELS, (trtr, tstr, Measure(trtr.value - tstr.value)), strict=True))

    def score(self, score: Callable[..., Measure], *data: Any) -> Measure:
        """NaN where drawn labels are all the same."""
        try:
            return score(*data, estimator=self.real.estimator, **self.options)
        except DataError as error:
            return Measure(np.nan, extra={"undefined": str(error)})


# ---- the store ---------------------------------------------------------------------------------


class Results:
    """Finished rows, kept in a file if there is one."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.settings: dict[str, Any] = {}
        self.cells: list[dict[str, Any]] = []
        if (stored := kept(path)) is not None:
            self.settings, self.cells = stored["settings"], stored["cells"]

    def check(self, cohort: str, settings: dict[str, Any]) -> None:
        """Refuse to put rows of different settings into one table."""
        if self.settings.setdefault(cohort, settings) != settings:
            raise SystemExit(
                f"Expected the settings that {self.path} has rows of, {self.settings[cohort]}. "
                f"Got {settings}. Give another --json, or the options of the earlier run."
            )

    def find(self, cohort: str, row: str, seed: int) -> dict[str, Any] | None:
        wanted = (cohort, row, seed)
        return next((c for c in self.cells if (c["cohort"], c["row"], c["seed"]) == wanted), None)

    def add(self, cell: dict[str, Any]) -> None:
        self.cells.append(cell)
        keep({"settings": self.settings, "cells": self.cells}, self.path)


# ---- the table ---------------------------------------------------------------------------------


def table_of(cells: list[dict[str, Any]], aims: dict[str, tuple[float, float]]) -> pd.DataFrame:
    """Measures down; the aims and the rows across, as mean and range over seeds."""
    rows = list(dict.fromkeys(cell["row"] for cell in cells))
    names = [line.name for line in ROWS] + [LABEL_RATE, *SECONDS, *LATENT]
    table: dict[str, list[str]] = {"aim": [aim(aims.get(name)) for name in names]}
    for row in rows:
        of_row = [cell["figures"] for cell in cells if cell["row"] == row]
        table[row] = [
            with_range(name, [figures.get(name, np.nan) for figures in of_row], aims.get(name))
            for name in names
        ]
    shown = pd.DataFrame(table, index=names)
    return shown[(shown[rows] != "").any(axis=1)]


def aim(limits: tuple[float, float] | None) -> str:
    if limits is None:
        return ""
    low, high = limits
    return f"<= {high:g}" if np.isinf(low) else f"{low:g} to {high:g}"


def with_range(name: str, values: list[float], limits: tuple[float, float] | None = None) -> str:
    """Mean, smallest and largest; a star where the mean misses the aim."""
    numbers = np.asarray(values, dtype=np.float64)
    numbers = numbers[np.isfinite(numbers)]
    if not len(numbers):
        return ""
    form = "{:.1f}" if name in (*SECONDS, LATENT[0]) else "{:.3f}"
    text = form.format(numbers.mean())
    if len(numbers) > 1:
        text += f" ({form.format(numbers.min())} to {form.format(numbers.max())})"
    if limits is not None and not limits[0] <= round(numbers.mean(), 3) <= limits[1]:
        text += " *"
    return text
