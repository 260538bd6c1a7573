"""What follows what: codes, states and values along a history."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from tawt_sklearn.evaluation._frames import Histories, read_histories, rounded
from tawt_sklearn.evaluation._statistics import tally, total_variation
from tawt_sklearn.evaluation.measure import Measure, RandomState, generator, measured

LAGS = (1, 2, 3)
"""Numbers of the same code that autocorrelations look back."""

VARIOGRAM_STEPS = (1, 2, 4, 8, 16, 32)
"""The same for semi-variograms: pairs near and far, without taking all of them."""

VARIOGRAM_BINS = 8
"""Bins of time lag, equally full in the real data."""


def transition_fidelity(
    real: Any, synthetic: Any, *, n_bootstrap: int = 200, random_state: RandomState = None
) -> Measure:
    """Differences in what follows what, codes and categories: 0 is the ideal.

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
        ``value``: total variation of the table of pairs of successive codes, events sorted by time
        and, at one time, by code.  ``details``: a row per ``(kind, name)`` with ``tv``, ``n_real``
        and ``n_synthetic`` pairs: ``("code", "bigrams")``, and ``("category", code)`` for each
        code with texts, where ``tv`` is that between the rows of the matrices of transition from
        one text to the next, mean over the real texts as often as they are left.

    Raises
    ------
    DataError
        Tokenised events, static columns that differ.

    Examples
    --------
    >>> from tawt_sklearn.datasets import make_icu_stays
    >>> X, _ = make_icu_stays(100, random_state=0)
    >>> transition_fidelity(X, X, n_bootstrap=0)
    Measure(.000)
    """
    first, second = read_histories(real, synthetic, names=("real", "synthetic"))
    bigrams = _bigrams(first, second)

    def distance(*weights: np.ndarray) -> float:
        one, other = (weight @ table for weight, table in zip(weights, bigrams, strict=True))
        return total_variation(one, other)

    ones = np.ones(len(first)), np.ones(len(second))
    rows = [("code", "bigrams", distance(*ones), *(int(table.sum()) for table in bigrams))]
    states = [_state_pairs(one) for one in (first, second)]
    for code in np.flatnonzero(first.is_category() | second.is_category()).tolist():
        tables = [_matrix(of_code == code, pair, len(first.texts)) for of_code, pair in states]
        tv = _row_variation(tables[0], tables[1])
        rows.append(("category", first.codes[code], tv, *(int(table.sum()) for table in tables)))
    details = pd.DataFrame(rows, columns=["kind", "name", "tv", "n_real", "n_synthetic"])
    return measured(
        distance,
        (len(first), len(second)),
        n_bootstrap=n_bootstrap,
        rng=generator(random_state),
        details=details.set_index(["kind", "name"]),
    )


def _bigrams(*histories: Histories) -> list[sparse.csr_matrix]:
    """How often each pair of codes follows in a subject; CSR (B, K), K pairs that occur."""
    V = len(histories[0].codes)
    rows, pairs = [], []
    for one in histories:
        at = one.follows()
        rows.append(one.row[at])
        pairs.append(one.code[at - 1] * V + one.code[at])
    used, column = np.unique(np.concatenate(pairs), return_inverse=True)
    columns = np.split(column, [len(pairs[0])])
    return [
        tally(row, column, (len(one), len(used)))
        for row, column, one in zip(rows, columns, histories, strict=True)
    ]


def _state_pairs(histories: Histories) -> tuple[np.ndarray, np.ndarray]:
    """Code (N,) and successive texts (N, 2) of the same subject and code."""
    at = histories.by_code(histories.text >= 0)
    row, code, text = histories.row[at], histories.code[at], histories.text[at]
    after = np.flatnonzero((row[1:] == row[:-1]) & (code[1:] == code[:-1])) + 1
    return code[after], np.stack([text[after - 1], text[after]], axis=1)


def _matrix(keep: np.ndarray, pair: np.ndarray, n_texts: int) -> sparse.csr_matrix:
    return tally(pair[keep, 0], pair[keep, 1], (n_texts, n_texts))


def _row_variation(first: sparse.csr_matrix, second: sparse.csr_matrix) -> float:
    """Total variation between rows, weighted by how full those of the first are."""
    totals = [np.asarray(table.sum(axis=1)).ravel() for table in (first, second)]
    if not totals[0].any():
        return float("nan") if not totals[1].any() else 1.0
    shares = [
        sparse.diags(1 / np.maximum(total, 1)) @ table
        for total, table in zip(totals, (first, second), strict=True)
    ]
    tv = np.asarray(abs(shares[0] - shares[1]).sum(axis=1)).ravel() / 2
    tv = np.where(totals[1] > 0, tv, 1.0)
    return float(tv @ totals[0] / totals[0].sum())


def autocorrelation_fidelity(
    real: Any, synthetic: Any, *, n_bootstrap: int = 200, random_state: RandomState = None
) -> Measure:
    """Differences in how numbers of a code depend on those before: 0 is the ideal.

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
        ``value``: mean absolute difference, over the codes, of the correlation of a number with
        the one before of the same subject and code.  Numbers are centred on the mean of their code
        over all subjects, so that differences between subjects count as dependence.
        ``details``: a row per code and lag (1 to 3) with ``real``, ``synthetic`` and
        ``difference``.  Codes for which the real correlation is undefined are left out; where only
        the synthetic one is (the code is absent, or constant), it counts as 0.
        ``extra["variogram"]``: a row per code and bin of time lag (``from``, ``to``; equally full
        in the real data) with the mean of |v - v'| of two numbers that far apart, divided by the
        real standard deviation, and ``extra["variogram_difference"]`` the mean of its differences.

    Raises
    ------
    DataError
        Tokenised events, static columns that differ.

    Notes
    -----
    The semi-variogram takes pairs of numbers 1, 2, 4, ..., 32 apart in the order of the history.

    Examples
    --------
    >>> from tawt_sklearn.datasets import make_icu_stays
    >>> X, _ = make_icu_stays(100, random_state=0)
    >>> autocorrelation_fidelity(X, X, n_bootstrap=0)
    Measure(.000)
    """
    first, second = read_histories(real, synthetic, names=("real", "synthetic"))
    sides = [_LagSums(one) for one in (first, second)]
    ones = np.ones(len(first)), np.ones(len(second))

    def difference(lag: int, *weights: np.ndarray) -> float:
        one, other = (side.of(lag, w) for side, w in zip(sides, weights, strict=True))
        apart = np.abs(one - np.where(np.isnan(other), 0.0, other))
        return float(np.nanmean(apart)) if not np.isnan(apart).all() else float("nan")

    parts = []
    for lag in LAGS:
        one, other = (side.of(lag, w) for side, w in zip(sides, ones, strict=True))
        part = pd.DataFrame({"code": first.codes, "lag": lag, "real": one, "synthetic": other})
        part["difference"] = (part["synthetic"].fillna(0.0) - part["real"]).abs()
        parts.append(part[part["real"].notna()])
    details = pd.concat(parts).sort_values(["code", "lag"]).set_index(["code", "lag"])
    variogram = _variogram(first, second)
    return measured(
        lambda *weights: difference(1, *weights),
        (len(first), len(second)),
        n_bootstrap=n_bootstrap,
        rng=generator(random_state),
        bounds=(0.0, 2.0),
        details=details,
        extra={"variogram": variogram, "variogram_difference": variogram["difference"].mean()},
    )


class _LagSums:
    """Sums per subject and code from which autocorrelations follow for any weights."""

    def __init__(self, histories: Histories) -> None:
        at = histories.by_code(~np.isnan(histories.value))
        self.row, self.code = histories.row[at], histories.code[at]
        self.shape = len(histories), len(histories.codes)
        value = histories.value[at]
        # Near zero, sums of squares lose no digits; constant codes become zeros, with no rounding.
        value = value - _first_of_each_code(self.code, value, self.shape[1])[self.code]
        n = np.maximum(np.bincount(self.code, minlength=self.shape[1]), 1)
        self.value = value - (np.bincount(self.code, value, self.shape[1]) / n)[self.code]
        everyone = np.arange(len(at))
        self.n, self.total = (self._sums(everyone, x) for x in (np.ones(len(at)), self.value))
        self.lags = {lag: self._of_pairs(lag) for lag in LAGS}

    def _sums(self, at: np.ndarray, amount: np.ndarray) -> sparse.csr_matrix:
        return tally(self.row[at], self.code[at], self.shape, amount)

    def _of_pairs(self, lag: int) -> list[sparse.csr_matrix]:
        """Number of pairs, and sums of x, y, x y, x^2 and y^2."""
        after = np.arange(lag, len(self.row))
        same = (self.row[after] == self.row[after - lag]) & (
            self.code[after] == self.code[after - lag]
        )
        after = after[same]
        x, y = self.value[after - lag], self.value[after]
        return [self._sums(after, part) for part in (np.ones(len(x)), x, y, x * y, x * x, y * y)]

    def of(self, lag: int, weight: np.ndarray) -> np.ndarray:
        """Autocorrelation of each code, NaN where undefined; (V,)."""
        n, total = weight @ self.n, weight @ self.total
        mean = total / np.maximum(n, 1)
        pairs, x, y, xy, xx, yy = (weight @ table for table in self.lags[lag])
        covariance = xy - mean * (x + y) + pairs * mean**2
        squares = (xx - 2 * mean * x + pairs * mean**2) * (yy - 2 * mean * y + pairs * mean**2)
        # Constant in this resample: what rounding leaves of the squares is no variance.
        floor = 1e-20 * (xx * yy)
        defined = (pairs > 1) & (squares > floor)
        result = np.full(self.shape[1], np.nan)
        np.divide(covariance, np.sqrt(np.maximum(squares, 0)), out=result, where=defined)
        return result


def _first_of_each_code(code: np.ndarray, value: np.ndarray, V: int) -> np.ndarray:
    """Any number of each code, 0 where it has none; (V,)."""
    result = np.zeros(V)
    result[code[::-1]] = value[::-1]
    return result


def _variogram(first: Histories, second: Histories) -> pd.DataFrame:
    """Mean |v - v'| / sd by code and bin of time lag, of both sides."""
    sides = [_far_pairs(one) for one in (first, second)]
    lag, V = sides[0][1], len(first.codes)
    quantiles = np.linspace(0, 1, VARIOGRAM_BINS + 1)[1:-1]
    inner = np.unique(np.quantile(lag, quantiles)) if len(lag) else np.empty(0)
    K = len(inner) + 1
    known = ~np.isnan(first.value)
    sd = pd.Series(first.value[known]).groupby(first.code[known]).std(ddof=0)
    scale = sd.reindex(range(V)).to_numpy(np.float64)
    scale = np.where(scale > 0, scale, np.nan)  # constant codes are left out
    means = []
    for code, lag, apart in sides:
        cell = code * K + np.searchsorted(inner, lag, "right")
        n = np.bincount(cell, minlength=V * K)
        total = np.bincount(cell, apart / scale[code], V * K)
        means.append(np.divide(total, n, out=np.full(V * K, np.nan), where=n > 0))
    edges = np.r_[0.0, inner, np.inf]
    cells = np.arange(V * K)
    table = pd.DataFrame(
        {
            "code": [first.codes[k] for k in cells // K],
            "from": edges[cells % K],
            "to": edges[cells % K + 1],
            "real": means[0],
            "synthetic": means[1],
            "difference": np.abs(means[0] - means[1]),
        }
    )
    return table[table["real"].notna()].set_index(["code", "from", "to"])


def _far_pairs(histories: Histories) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Code, time lag and |v - v'| of pairs of numbers of a subject and code; (N,) each."""
    at = histories.by_code(~np.isnan(histories.value))
    row, code = histories.row[at], histories.code[at]
    time, value = histories.time[at], histories.value[at]
    codes, lags, apart = [], [], []
    for step in VARIOGRAM_STEPS:
        after = np.arange(step, len(at))
        after = after[(row[after] == row[after - step]) & (code[after] == code[after - step])]
        codes.append(code[after])
        lags.append(rounded(time[after] - time[after - step]))
        apart.append(np.abs(value[after] - value[after - step]))
    return np.concatenate(codes), np.concatenate(lags), np.concatenate(apart)
