"""What is measured, how often, and together with what."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import sparse

from tawt_sklearn.evaluation._frames import Histories, read_histories
from tawt_sklearn.evaluation._statistics import Ecdfs, tally
from tawt_sklearn.evaluation.features import MAX_CODES
from tawt_sklearn.evaluation.measure import Measure, RandomState, generator, measured
from tawt_sklearn.exceptions import DataError


def missingness_fidelity(
    real: Any,
    synthetic: Any,
    *,
    max_codes: int = MAX_CODES,
    n_bootstrap: int = 200,
    random_state: RandomState = None,
) -> Measure:
    """Differences in what is measured: how often, for whom, and what at the same time; 0 is ideal.

    Parameters
    ----------
    real, synthetic : DataFrame or array
        One row per subject; anything :func:`~tawt_sklearn.as_events` takes.
    max_codes : int, default=200
        Only the codes that are most frequent in both together are compared.
    n_bootstrap : int, default=200
        Resamples of subjects for the interval, 0 for none.
    random_state : int, RandomState, Generator or None, default=None
        Drives the resamples.

    Returns
    -------
    Measure
        ``value``: the largest absolute difference of the two :func:`co_measurement` matrices.
        ``details``: a row per code with ``rate_ks``, the Kolmogorov-Smirnov distance of its number
        of events per subject; ``ever_real``, ``ever_synthetic`` and ``ever_difference``, the share
        of subjects who have it at all; ``co_measurement``, the largest difference in its row of
        the matrix.  ``extra``: means of these as ``rate_ks``, ``ever_difference`` and
        ``co_measurement_mean``.

    Raises
    ------
    DataError
        Tokenised events, static columns that differ.

    Examples
    --------
    >>> from tawt_sklearn.datasets import make_icu_stays
    >>> X, _ = make_icu_stays(100, random_state=0)
    >>> missingness_fidelity(X, X, n_bootstrap=0)
    Measure(.000)
    """
    first, second = read_histories(real, synthetic, names=("real", "synthetic"))
    both = sum(np.bincount(one.code, minlength=len(one.codes)) for one in (first, second))
    kept = _most_frequent(np.asarray(both), max_codes)
    V = len(kept)
    pairs = [_pairs_at_a_time(one, kept) for one in (first, second)]
    times = [np.bincount(one.stamps()[0], minlength=len(one)) for one in (first, second)]

    def matrices(*weights: np.ndarray) -> list[np.ndarray]:
        return [
            (weight @ pair) / max(weight @ n, 1.0)
            for weight, pair, n in zip(weights, pairs, times, strict=True)
        ]

    def largest(*weights: np.ndarray) -> float:
        one, other = matrices(*weights)
        return float(np.abs(one - other).max()) if len(one) else float("nan")

    ones = np.ones(len(first)), np.ones(len(second))
    difference = _symmetric(np.abs(np.subtract(*matrices(*ones))), V)
    counts = [_counts(one, kept) for one in (first, second)]
    ever = [(count > 0).mean(axis=0) for count in counts]
    details = pd.DataFrame(
        {
            "rate_ks": _rate_ks(counts[0], counts[1]),
            "ever_real": ever[0],
            "ever_synthetic": ever[1],
            "ever_difference": np.abs(ever[0] - ever[1]),
            "co_measurement": difference.max(axis=1, initial=0.0),
        },
        index=pd.Index([first.codes[k] for k in kept], name="code"),
    )
    upper = difference[np.triu_indices(V)]
    return measured(
        largest,
        (len(first), len(second)),
        n_bootstrap=n_bootstrap,
        rng=generator(random_state),
        details=details,
        extra={
            "rate_ks": float(details["rate_ks"].mean()),
            "ever_difference": float(details["ever_difference"].mean()),
            "co_measurement_mean": float(upper.mean()) if V else float("nan"),
        },
    )


def co_measurement(
    X: Any, *, given: Literal["time", "code"] = "time", max_codes: int = MAX_CODES
) -> pd.DataFrame:
    """How often two codes are measured at the same time.

    Parameters
    ----------
    X : DataFrame or array
        One row per subject; anything :func:`~tawt_sklearn.as_events` takes.
    given : {"time", "code"}, default="time"
        ``"time"``: share of all distinct (subject, time) at which both are measured, on the
        diagonal the code itself.  ``"code"``: share of those times of the row's code at which the
        column's code is measured too.
    max_codes : int, default=200
        Only the most frequent codes.

    Returns
    -------
    DataFrame of float64, (V, V)
        Codes sorted.

    Raises
    ------
    DataError
        Tokenised events, another `given`.

    Examples
    --------
    >>> import pandas as pd
    >>> from tawt_sklearn import nest_events
    >>> events = pd.DataFrame({
    ...     "subject_id": 1, "time": [0.0, 0.0, 1.0, 2.0], "code": ["HR", "BP", "HR", "HR"],
    ...     "value": [80.0, 120.0, 90.0, 85.0]})
    >>> co_measurement(nest_events(events), given="code").round(2)
    code    BP   HR
    code
    BP    1.00  1.0
    HR    0.33  1.0
    """
    if given not in ("time", "code"):
        raise DataError(f"Expected given to be 'time' or 'code'. Got {given!r}.")
    (histories,) = read_histories(X)
    n = np.bincount(histories.code, minlength=len(histories.codes))
    kept = _most_frequent(n, max_codes)
    total = np.ones(len(histories)) @ _pairs_at_a_time(histories, kept)
    matrix = _symmetric(total, len(kept))
    if given == "time":
        matrix = matrix / max(len(histories.stamps()[0]), 1)
    else:
        matrix = matrix / np.diag(matrix)[:, None]
    codes = pd.Index([histories.codes[k] for k in kept], name="code")
    return pd.DataFrame(matrix, codes, codes)


def _most_frequent(n: np.ndarray, max_codes: int) -> np.ndarray:
    """Ids of the most frequent codes, rising; (V,)."""
    if not (isinstance(max_codes, int | np.integer) and max_codes > 0):
        raise DataError(f"Expected max_codes to be a whole number above 0. Got {max_codes!r}.")
    order = np.argsort(-n, kind="stable")[:max_codes]
    return np.sort(order[n[order] > 0])


def _place(histories: Histories, kept: np.ndarray) -> np.ndarray:
    """Position of each event's code among those kept, -1 = none; (E,)."""
    place = np.full(max(len(histories.codes), 1), -1)
    place[kept] = np.arange(len(kept))
    return place[histories.code]


def _pairs_at_a_time(histories: Histories, kept: np.ndarray) -> sparse.csr_matrix:
    """At how many timestamps of a subject two codes meet, upper triangle; CSR (B, V * V)."""
    V, place = len(kept), _place(histories, kept)
    known = place >= 0
    row, stamp, code = histories.row[known], histories.stamp[known], place[known]
    # Codes rise within a timestamp, so that repeats are neighbours.
    new = np.ones(len(code), bool)
    new[1:] = (stamp[1:] != stamp[:-1]) | (code[1:] != code[:-1])
    row, stamp, code = row[new], stamp[new], code[new]
    pairs = sparse.csr_matrix((len(histories), V * V))
    at = np.arange(len(code))
    step = 0
    while len(at):  # pairs of neighbours, then of next but one, ...: as many as meet at most
        first = at - step
        pairs = pairs + tally(row[at], code[first] * V + code[at], pairs.shape)
        step += 1
        at = at[at >= step]
        at = at[stamp[at - step] == stamp[at]]
    return pairs


def _symmetric(upper: np.ndarray, V: int) -> np.ndarray:
    """Both triangles of a flat upper one; (V, V)."""
    matrix = upper.reshape(V, V)
    return matrix + np.triu(matrix, 1).T


def _counts(histories: Histories, kept: np.ndarray) -> np.ndarray:
    """Number of events of each subject and code; float64 (B, V)."""
    place = _place(histories, kept)
    known = place >= 0
    return tally(histories.row[known], place[known], (len(histories), len(kept))).toarray()


def _rate_ks(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """KS of each column; (V,)."""
    sides = [
        (
            np.repeat(np.arange(n.shape[1]), len(n)),
            n.T.ravel(),
            np.tile(np.arange(len(n)), n.shape[1]),
        )
        for n in (first, second)
    ]
    ecdfs = Ecdfs.of(sides[0], sides[1], first.shape[1], len(first))
    return ecdfs.ks(np.ones(len(first)), np.ones(len(second)))
