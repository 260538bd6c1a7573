"""Do synthetic histories move through time like real ones?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from tawt_sklearn.evaluation._frames import Histories, read_histories, rounded
from tawt_sklearn.evaluation._statistics import Ecdfs
from tawt_sklearn.evaluation.measure import Measure, RandomState, generator, measured

Numbers = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Group, number and subject; (N,) each."""


def interval_fidelity(
    real: Any, synthetic: Any, *, n_bootstrap: int = 200, random_state: RandomState = None
) -> Measure:
    """Distances between the distributions of gaps, lengths and spans: 0 is the ideal.

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
        ``value``: Kolmogorov-Smirnov (KS) distance of the gaps between distinct times of a
        subject.  ``details``, a Series:

        - ``gap_ks``, the same; ``gap_w1``, Wasserstein-1 distance of ``log1p`` of the gaps;
        - ``length_ks``, KS of events per subject; ``span_ks``, of last minus first time (subjects
          with events);
        - ``events_per_time_ks``, KS of the number of events at a time;
        - ``zero_gap_difference``, absolute difference of the shares of events that come at the
          same time as the one before;
        - ``regap_ks``, KS of the gaps between distinct times of one code, mean over the codes that
          real subjects have more than once.

        ``extra["regap_by_code"]``: the latter by code.  NaN where neither side has any; 1 where
        one has none.

    Raises
    ------
    DataError
        Tokenised events, static columns or units of time that differ.

    Examples
    --------
    >>> from tawt_sklearn.datasets import make_icu_stays
    >>> X, _ = make_icu_stays(100, random_state=0)
    >>> interval_fidelity(X, X, n_bootstrap=0).details.max()
    np.float64(0.0)
    """
    first, second = read_histories(real, synthetic, names=("real", "synthetic"))
    ones = np.ones(len(first)), np.ones(len(second))

    def distances(sides: list[Numbers], n_groups: int = 1) -> Ecdfs:
        return Ecdfs.of(sides[0], sides[1], n_groups, len(first))

    gaps = distances([_gaps(one) for one in (first, second)])
    log_gaps = distances([(g, np.log1p(n), s) for g, n, s in map(_gaps, (first, second))])
    regaps = distances([_regaps(one) for one in (first, second)], len(first.codes))
    repeated = np.bincount(_regaps(first)[0], minlength=len(first.codes)) > 0
    regap_ks = regaps.ks(*ones)[repeated]
    zero = [_share_of_zero_gaps(one) for one in (first, second)]
    details = {
        "gap_ks": gaps.ks(*ones)[0],
        "gap_w1": log_gaps.w1(*ones)[0],
        "length_ks": distances([_lengths(one) for one in (first, second)]).ks(*ones)[0],
        "span_ks": distances([_spans(one) for one in (first, second)]).ks(*ones)[0],
        "events_per_time_ks": distances([_events_per_time(one) for one in (first, second)]).ks(
            *ones
        )[0],
        "zero_gap_difference": abs(zero[0] - zero[1]),
        "regap_ks": regap_ks.mean() if len(regap_ks) else float("nan"),
    }
    codes = [code for code, again in zip(first.codes, repeated, strict=True) if again]
    return measured(
        lambda *weights: float(gaps.ks(*weights)[0]),
        (len(first), len(second)),
        n_bootstrap=n_bootstrap,
        rng=generator(random_state),
        details=pd.Series(details, name="interval_fidelity", dtype=np.float64),
        extra={
            "regap_by_code": pd.Series(
                regap_ks, pd.Index(codes, name="code"), name="regap_ks", dtype=np.float64
            )
        },
    )


def _one_group(number: np.ndarray, subject: np.ndarray) -> Numbers:
    return np.zeros(len(number), np.int64), number.astype(np.float64), subject


def _gaps(histories: Histories) -> Numbers:
    """Between distinct times."""
    row, time = histories.stamps()
    at = np.flatnonzero(row[1:] == row[:-1]) + 1
    return _one_group(rounded(time[at] - time[at - 1]), row[at])


def _regaps(histories: Histories) -> Numbers:
    """Between distinct times of the same code."""
    at = histories.by_code(np.ones(len(histories.code), bool))
    row, code, time = histories.row[at], histories.code[at], histories.time[at]
    again = (row[1:] == row[:-1]) & (code[1:] == code[:-1]) & (time[1:] > time[:-1])
    after = np.flatnonzero(again) + 1
    return code[after], rounded(time[after] - time[after - 1]), row[after]


def _lengths(histories: Histories) -> Numbers:
    return _one_group(histories.lengths, np.arange(len(histories)))


def _spans(histories: Histories) -> Numbers:
    some = np.flatnonzero(histories.lengths > 0)
    begin, end = histories.offsets[:-1][some], histories.offsets[1:][some]
    return _one_group(rounded(histories.time[end - 1] - histories.time[begin]), some)


def _events_per_time(histories: Histories) -> Numbers:
    row, _ = histories.stamps()
    return _one_group(np.bincount(histories.stamp, minlength=len(row)), row)


def _share_of_zero_gaps(histories: Histories) -> float:
    """Share of events, those that come first left out, at the time of the event before."""
    at = histories.follows()
    return float(np.mean(histories.stamp[at] == histories.stamp[at - 1])) if len(at) else 0.0
