"""All measures of all columns of a report, and the table made of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import nan
from typing import Any

import numpy as np
import pandas as pd

from tawt_sklearn.evaluation.correlation import correlation_fidelity
from tawt_sklearn.evaluation.discrimination import discriminative_score
from tawt_sklearn.evaluation.dynamics import autocorrelation_fidelity, transition_fidelity
from tawt_sklearn.evaluation.intervals import interval_fidelity
from tawt_sklearn.evaluation.marginals import marginal_fidelity
from tawt_sklearn.evaluation.measure import Measure
from tawt_sklearn.evaluation.membership import membership_inference_score
from tawt_sklearn.evaluation.presence import missingness_fidelity
from tawt_sklearn.evaluation.privacy import (
    distance_to_closest_record,
    nearest_neighbour_adversarial_accuracy,
)
from tawt_sklearn.evaluation.report_columns import HOLD_OUT, Cohort, Column
from tawt_sklearn.evaluation.report_rows import ROWS
from tawt_sklearn.evaluation.utility import trtr_score, tstr_score
from tawt_sklearn.exceptions import DataError

FIDELITY: dict[str, Callable[..., Measure]] = {
    "marginals": marginal_fidelity,
    "intervals": interval_fidelity,
    "missingness": missingness_fidelity,
    "autocorrelation": autocorrelation_fidelity,
    "transitions": transition_fidelity,
    "correlation": correlation_fidelity,
}
"""Real and synthetic subjects beside each other."""


def measure_columns(
    cohort: Cohort, columns: list[Column], *, embed: Any, n_bootstrap: int, random_state: int
) -> dict[str, dict[str, Measure]]:
    """Every measure of every column.

    Columns share the seed, so that they differ by their subjects only.

    Returns
    -------
    dict of dict of Measure
        By name of the column, then by name of the measure.
    """
    options = {"n_bootstrap": n_bootstrap, "random_state": random_state}
    # Only the hold-out has other real subjects to be tested on.
    possible: dict[bool, Measure] = {}
    result = {}
    for column in columns:
        measures = _fidelity(column, embed, options)
        measures |= _privacy(cohort, column, options)
        if cohort.y_train is not None:
            half = column.name == HOLD_OUT
            if half not in possible:
                possible[half] = _score(
                    trtr_score, cohort.train, cohort.y_train, column, options, forgiving=half
                )
            measures |= _utility(column, possible[half], options)
        result[column.name] = measures
    return result


def _fidelity(column: Column, embed: Any, options: dict[str, Any]) -> dict[str, Measure]:
    compare = (column.real, column.frame)
    # A generator that has collapsed has too few different subjects for this one measure.
    measures = {"discriminator": _or_undefined(discriminative_score, *compare, **options)}
    if embed is not None:
        classify = partial(discriminative_score, features=embed)
        measures["discriminator_embedding"] = (
            classify(*compare, **options)
            if np.isfinite(measures["discriminator"].value)
            else measures["discriminator"]
        )
    return measures | {name: measure(*compare, **options) for name, measure in FIDELITY.items()}


def _privacy(cohort: Cohort, column: Column, options: dict[str, Any]) -> dict[str, Measure]:
    three = (cohort.train, column.real, column.frame)
    log_prob = column.log_prob
    said: list[np.ndarray] = []

    def listened(frame: pd.DataFrame) -> Any:
        assert log_prob is not None
        said.append(np.asarray(log_prob(frame), dtype=np.float64))
        return said[-1]

    membership = membership_inference_score(
        *three, log_prob=None if log_prob is None else listened, **options
    )
    if said:  # of training, then of test subjects
        membership = replace(membership, extra={**membership.extra, "log_prob": tuple(said)})
    return {
        "membership": membership,
        "dcr": distance_to_closest_record(*three, **options),
        "nnaa": nearest_neighbour_adversarial_accuracy(*three, **options),
    }


def _utility(column: Column, possible: Measure, options: dict[str, Any]) -> dict[str, Measure]:
    if column.y is None:
        reached = _undefined("no labels were given")
    else:
        reached = _score(
            tstr_score, column.frame, column.y, column, options, forgiving=column.is_reference
        )
    return {
        "trtr": possible,
        "tstr": reached,
        "utility_gap": Measure(possible.value - reached.value),
    }


def _score(
    score: Callable[..., Measure],
    X: pd.DataFrame,
    y: np.ndarray,
    column: Column,
    options: dict[str, Any],
    *,
    forgiving: bool,
) -> Measure:
    """A score of labels; drawn labels of references may lack a class, given ones may not."""
    if forgiving:
        return _or_undefined(score, X, y, column.real, column.y_real, **options)
    return score(X, y, column.real, column.y_real, **options)


def _or_undefined(measure: Callable[..., Measure], *args: Any, **options: Any) -> Measure:
    try:
        return measure(*args, **options)
    except DataError as error:
        return _undefined(str(error))


def _undefined(reason: str) -> Measure:
    return Measure(nan, extra={"undefined": reason})


def table_of(measures: dict[str, dict[str, Measure]]) -> pd.DataFrame:
    """The headline figures; float64 (rows, columns), with the rows that any column has."""
    values = {
        row.name: [
            row.pick(of_column[row.measure])[0] if row.measure in of_column else nan
            for of_column in measures.values()
        ]
        for row in rows_of(measures)
    }
    table = pd.DataFrame.from_dict(values, orient="index", columns=list(measures), dtype=float)
    return table.rename_axis(index="measure")


def rows_of(measures: dict[str, dict[str, Measure]]) -> list[Any]:
    """The rows that apply: those of labels, embeddings and likelihoods only where there are any."""
    first = next(iter(measures.values()))
    has_likelihood = "likelihood" in first["membership"].details.index
    return [
        row
        for row in ROWS
        if row.measure in first and (row.name != "membership AUC (likelihood)" or has_likelihood)
    ]
