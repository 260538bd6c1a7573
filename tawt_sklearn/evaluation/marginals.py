"""Do synthetic values, their presence and their relations look like real ones?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from tawt_sklearn.evaluation._frames import Histories, read_histories
from tawt_sklearn.evaluation._statistics import Ecdfs, tally, total_variation
from tawt_sklearn.evaluation.measure import Measure, RandomState, generator, measured
from tawt_sklearn.tokens import statics


def marginal_fidelity(
    real: Any, synthetic: Any, *, n_bootstrap: int = 200, random_state: RandomState = None
) -> Measure:
    """Distances between the distributions of single values: 0 is the ideal.

    A necessary condition and no more: values drawn independently of each other pass.

    Parameters
    ----------
    real, synthetic : DataFrame or array
        One row per subject; anything :func:`~tawt_sklearn.as_events` takes.
    n_bootstrap : int, default=200
        Resamples of subjects for the interval, 0 for none.
    random_state : int, RandomState, Generator or None, default=None
        Drives the resamples.

    Returns
    -------
    Measure
        ``value``: mean Kolmogorov-Smirnov distance over the codes that have numbers in the real
        data; NaN where none has.  ``details``: a row per ``(kind, name)``:

        - ``number``, a code: ``ks``, and ``w1``, the Wasserstein-1 distance divided by the real
          standard deviation;
        - ``category``, a code: ``tv``, total variation of its texts;
        - ``code``, ``frequency``: ``tv`` of the codes of all events;
        - ``static``, a column: ``ks`` and ``w1`` of numbers; ``tv`` of categories with "missing"
          as one of them (numbers: of missing against known).

        ``n_real`` and ``n_synthetic`` say how many values were compared.  What one side lacks
        altogether is at distance 1.

    Raises
    ------
    DataError
        Tokenised events, static columns that differ.

    Examples
    --------
    >>> from tawt_sklearn.datasets import make_icu_stays
    >>> X, _ = make_icu_stays(100, random_state=0)
    >>> marginal_fidelity(X, X, n_bootstrap=0)
    Measure(.000)
    """
    first, second = read_histories(real, synthetic, names=("real", "synthetic"))
    with_number = np.isnan(first.value), np.isnan(second.value)
    sides = [
        (one.code[~without], one.value[~without], one.row[~without])
        for one, without in zip((first, second), with_number, strict=True)
    ]
    V = len(first.codes)
    ecdfs = Ecdfs.of(sides[0], sides[1], V, len(first))
    numeric = first.is_number()

    def mean_ks(first_weight: np.ndarray, second_weight: np.ndarray) -> float:
        ks = ecdfs.ks(first_weight, second_weight)[numeric]
        return float(np.nanmean(ks)) if np.isfinite(ks).any() else float("nan")

    rows = [
        *_number_rows(first, second, ecdfs),
        *_category_rows(first, second),
        *_static_rows(first, second),
    ]
    details = pd.DataFrame(
        rows, columns=["kind", "name", "ks", "w1", "tv", "n_real", "n_synthetic"]
    ).set_index(["kind", "name"])
    return measured(
        mean_ks,
        (len(first), len(second)),
        n_bootstrap=n_bootstrap,
        rng=generator(random_state),
        details=details,
    )


def _number_rows(first: Histories, second: Histories, ecdfs: Ecdfs) -> list[tuple[Any, ...]]:
    ones = np.ones(len(first)), np.ones(len(second))
    ks, w1 = ecdfs.ks(*ones), ecdfs.w1(*ones)
    scale = _sd_by_code(first)
    n = [
        np.bincount(one.code[~np.isnan(one.value)], minlength=len(one.codes))
        for one in (first, second)
    ]
    return [
        ("number", code, ks[k], w1[k] / scale[k], np.nan, n[0][k], n[1][k])
        for k, code in enumerate(first.codes)
        if n[0][k] or n[1][k]
    ]


def _sd_by_code(histories: Histories) -> np.ndarray:
    """Standard deviation of the numbers of each code, 1 where there is none; (V,)."""
    known, V = ~np.isnan(histories.value), len(histories.codes)
    code, value = histories.code[known], histories.value[known]
    n = np.maximum(np.bincount(code, minlength=V), 1)
    residual = value - (np.bincount(code, value, V) / n)[code]
    sd = np.sqrt(np.bincount(code, residual**2, V) / n)
    return np.where(sd > 0, sd, 1.0)


def _category_rows(first: Histories, second: Histories) -> list[tuple[Any, ...]]:
    V, n_texts = len(first.codes), len(first.texts)
    tables, frequency = [], []
    for one in (first, second):
        known = one.text >= 0
        table = tally(one.code[known], one.text[known], (V, max(n_texts, 1)))
        tables.append(table)
        frequency.append(np.bincount(one.code, minlength=V))
    n = [np.asarray(table.sum(axis=1)).ravel().astype(np.int64) for table in tables]
    rows = []
    for k, code in enumerate(first.codes):
        if n[0][k] or n[1][k]:
            counts = [table[[k]].toarray().ravel() for table in tables]
            tv = total_variation(counts[0], counts[1])
            rows.append(("category", code, np.nan, np.nan, tv, n[0][k], n[1][k]))
    tv = total_variation(frequency[0], frequency[1])
    sizes = len(first.code), len(second.code)
    return [*rows, ("code", "frequency", np.nan, np.nan, tv, *sizes)]


def _static_rows(first: Histories, second: Histories) -> list[tuple[Any, ...]]:
    rows = []
    for name in first.static_names:
        columns = [one.frame[name] for one in (first, second)]
        known = [int(column.notna().sum()) for column in columns]
        if statics.column_kind(columns[0]) == "numeric":
            numbers = [statics.to_numbers(column) for column in columns]
            ks, w1 = _static_distances(numbers[0], numbers[1])
            share = [n / len(column) for n, column in zip(known, columns, strict=True)]
            rows.append(("static", name, ks, w1, abs(share[0] - share[1]), *known))
            continue
        levels = sorted({label for column in columns for label in statics.to_labels(column)[1]})
        counts = [
            np.bincount(statics.level_ids(column, levels) + 1, minlength=len(levels) + 1)
            for column in columns
        ]
        tv = total_variation(counts[0], counts[1])
        rows.append(("static", name, np.nan, np.nan, tv, *known))
    return rows


def _static_distances(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """KS and W1 / sd of the known numbers of one static column."""
    sides = [numbers[~np.isnan(numbers)] for numbers in (first, second)]
    groups = [(np.zeros(len(n), np.int64), n, np.arange(len(n))) for n in sides]
    ecdfs = Ecdfs.of(groups[0], groups[1], 1, len(sides[0]))
    ones = np.ones(len(sides[0])), np.ones(len(sides[1]))
    sd = sides[0].std() if len(sides[0]) else 0.0
    return float(ecdfs.ks(*ones)[0]), float(ecdfs.w1(*ones)[0]) / (sd if sd > 0 else 1.0)
