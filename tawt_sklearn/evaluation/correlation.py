"""Do codes go together, between subjects and within them, as in the real data?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from tawt_sklearn.evaluation._frames import Histories, read_histories
from tawt_sklearn.evaluation.measure import Measure, RandomState, generator, measured
from tawt_sklearn.events.ragged import offsets_from_lengths
from tawt_sklearn.exceptions import DataError

MAX_CELLS = 20_000_000
"""Largest table of last known values; of more subjects, as many as fit are taken."""


def correlation_fidelity(
    real: Any,
    synthetic: Any,
    *,
    min_subjects: int = 20,
    max_codes: int = 100,
    n_bootstrap: int = 200,
    random_state: RandomState = None,
) -> Measure:
    """Differences of the rank correlations of codes: 0 is the ideal.

    Parameters
    ----------
    real, synthetic : DataFrame or array
        One row per subject; anything :func:`~tawt_sklearn.as_events` takes.
    min_subjects : int, default=20
        Pairs of codes that fewer real subjects have numbers of are left out.
    max_codes : int, default=100
        Only the codes with the most numbers in the real data.
    n_bootstrap : int, default=200
        Resamples of subjects for the interval, 0 for none.
    random_state : int, RandomState, Generator or None, default=None
        Drives the resamples.

    Returns
    -------
    Measure
        ``value``: mean absolute difference, over pairs of codes, of the Spearman correlation of
        the subjects' means.  ``details``: a row per ``(kind, first, second)`` with ``real``,
        ``synthetic`` and ``difference``, for the kinds ``"mean"`` and ``"last"`` (of each subject)
        and ``"within"``: the values last known at each time of a subject, less their mean of the
        subject.  A synthetic correlation that is undefined counts as 0.  ``extra``: the means of
        the other kinds, ``last`` and ``within``.  NaN where there is no pair of codes.

    Raises
    ------
    DataError
        Tokenised events, static columns that differ.

    Notes
    -----
    Ranks are those among all subjects with the code, and correlated over those with both.
    Resamples keep them.

    Examples
    --------
    >>> from tawt_sklearn.datasets import make_icu_stays
    >>> X, _ = make_icu_stays(100, random_state=0)
    >>> correlation_fidelity(X, X, n_bootstrap=0)
    Measure(.000)
    """
    for name, number in (("min_subjects", min_subjects), ("max_codes", max_codes)):
        if not (isinstance(number, int | np.integer) and number > 0):
            raise DataError(f"Expected {name} to be a whole number above 0. Got {number!r}.")
    first, second = read_histories(real, synthetic, names=("real", "synthetic"))
    kept = _most_measured(first, max_codes)
    codes = [first.codes[k] for k in kept]
    sides = [_SubjectValues(one, kept) for one in (first, second)]
    has = (~np.isnan(sides[0].mean)).astype(np.float64)
    enough = (has.T @ has >= min_subjects)[np.triu_indices(len(kept), 1)]

    tables = {kind: [getattr(side, kind) for side in sides] for kind in ("mean", "last", "within")}
    parts = []
    for kind, pair in tables.items():
        ones = [np.ones(len(table)) for table in pair]
        values = [
            _Ranks(table).correlation(weight)[enough]
            for table, weight in zip(pair, ones, strict=True)
        ]
        parts.append(_as_rows(kind, codes, enough, values))
    details = pd.concat(parts)
    ranks = [_Ranks(table) for table in tables["mean"]]

    def difference(*weights: np.ndarray) -> float:
        one, other = (r.correlation(w)[enough] for r, w in zip(ranks, weights, strict=True))
        apart = np.abs(one - np.where(np.isnan(other), 0.0, other))
        return float(np.nanmean(apart)) if np.isfinite(apart).any() else float("nan")

    by_kind = details.groupby("kind")["difference"].mean()
    return measured(
        difference,
        (len(first), len(second)),
        n_bootstrap=n_bootstrap,
        rng=generator(random_state),
        bounds=(0.0, 2.0),
        details=details,
        extra={kind: float(by_kind.get(kind, np.nan)) for kind in ("last", "within")},
    )


def _most_measured(histories: Histories, max_codes: int) -> np.ndarray:
    """Ids of the codes with the most numbers, rising; (V,)."""
    known = histories.code[~np.isnan(histories.value)]
    n = np.bincount(known, minlength=len(histories.codes))
    order = np.argsort(-n, kind="stable")[:max_codes]
    return np.sort(order[n[order] > 0])


class _SubjectValues:
    """Numbers of a few codes: their means and last ones (B, V), last known at each time (T, V)."""

    def __init__(self, histories: Histories, kept: np.ndarray) -> None:
        place = np.full(max(len(histories.codes), 1), -1)
        place[kept] = np.arange(len(kept))
        at = np.flatnonzero(~np.isnan(histories.value) & (place[histories.code] >= 0))
        row, code, value = histories.row[at], place[histories.code[at]], histories.value[at]
        shape = len(histories), len(kept)
        cell = row * shape[1] + code
        size = shape[0] * shape[1]
        n = np.bincount(cell, minlength=size)
        total = np.bincount(cell, value, size)
        mean = np.divide(total, n, out=np.full(size, np.nan), where=n > 0)
        last = np.full(size, np.nan)
        last[cell] = value  # in time order: the last one stays
        self.mean, self.last = mean.reshape(shape), last.reshape(shape)
        self.within = _last_known(histories, row, histories.stamp[at], code, value, shape[1])


def _last_known(
    histories: Histories,
    row: np.ndarray,
    stamp: np.ndarray,
    code: np.ndarray,
    value: np.ndarray,
    V: int,
) -> np.ndarray:
    """Last known value of each code at each time, less its mean of the subject; (T, V)."""
    stamp_row, _ = histories.stamps()
    n_times = np.bincount(stamp_row, minlength=len(histories))
    offsets = offsets_from_lengths(n_times)
    chosen = _subjects_that_fit(n_times, V)
    if not chosen.all():
        keep = chosen[row]
        stamp, code, value = stamp[keep], code[keep], value[keep]
        kept_stamps = chosen[stamp_row]
        stamp = (np.cumsum(kept_stamps) - 1)[stamp]
        offsets = offsets_from_lengths(n_times[chosen])
        n_times = n_times[chosen]
    T = int(offsets[-1])
    if not T or not V:
        return np.full((T, V), np.nan)
    table = np.full((T, V), np.nan)
    table[stamp, code] = value
    seen = np.where(np.isnan(table), -1, np.arange(T)[:, None])
    np.maximum.accumulate(seen, axis=0, out=seen)
    begin = np.repeat(offsets[:-1], n_times)
    known = seen >= begin[:, None]  # not of the subject before
    table = np.where(known, np.take_along_axis(table, np.maximum(seen, 0), axis=0), 0.0)
    filled = n_times > 0
    starts = offsets[:-1][filled]
    total = np.add.reduceat(table, starts, axis=0)
    n = np.add.reduceat(known.astype(np.float64), starts, axis=0)
    mean = np.repeat(total / np.maximum(n, 1), n_times[filled], axis=0)
    centred = table - mean
    # What never changes in a subject says nothing of what goes together; rounding must not either.
    centred[np.abs(centred) < 1e-9 * np.abs(mean)] = 0.0
    return np.where(known, centred, np.nan)


def _subjects_that_fit(n_times: np.ndarray, V: int) -> np.ndarray:
    """Evenly spaced subjects whose table is not too large; bool (B,)."""
    stride = max(1, int(np.ceil(n_times.sum() * V / MAX_CELLS)))
    chosen = np.zeros(len(n_times), bool)
    chosen[::stride] = True
    return chosen


class _Ranks:
    """Centred ranks of each column, from which correlations follow for any weights of rows."""

    def __init__(self, table: np.ndarray) -> None:
        self.known = (~np.isnan(table)).astype(np.float64)
        ranks = np.zeros(table.shape)
        for k in range(table.shape[1]):  # columns lack different rows
            has = self.known[:, k] > 0
            if has.any():
                rank = rankdata(table[has, k])
                ranks[has, k] = rank / len(rank) - (len(rank) + 1) / (2 * len(rank))
        self.ranks = ranks

    def correlation(self, weight: np.ndarray) -> np.ndarray:
        """Of each pair of columns over the rows that have both; (V * (V - 1) / 2,)."""
        has, x = self.known, self.ranks
        weighted = x * weight[:, None]
        n = has.T @ (has * weight[:, None])
        total = weighted.T @ has  # sum of column a where b is known too
        square = (weighted * x).T @ has
        product = weighted.T @ x
        mean = total / np.maximum(n, 1)
        covariance = product / np.maximum(n, 1) - mean * mean.T
        variance = square / np.maximum(n, 1) - mean**2
        scale = np.sqrt(np.maximum(variance, 0) * np.maximum(variance.T, 0))
        defined = (n >= 3) & (variance > 1e-12) & (variance.T > 1e-12)
        result = np.divide(covariance, scale, out=np.full(n.shape, np.nan), where=defined)
        return result[np.triu_indices(len(n), 1)]


def _as_rows(
    kind: str, codes: list[Any], enough: np.ndarray, values: list[np.ndarray]
) -> pd.DataFrame:
    a, b = (index[enough] for index in np.triu_indices(len(codes), 1))
    table = pd.DataFrame(
        {
            "kind": kind,
            "first": [codes[k] for k in a],
            "second": [codes[k] for k in b],
            "real": values[0],
            "synthetic": values[1],
        }
    )
    table["difference"] = (table["real"] - table["synthetic"].fillna(0.0)).abs()
    return table[table["real"].notna()].set_index(["kind", "first", "second"])
