"""How long ago a channel was observed."""

from __future__ import annotations

import numpy as np


def time_since_observed(
    observed: np.ndarray, order: np.ndarray | None, offsets: np.ndarray, time: np.ndarray
) -> np.ndarray:
    """Time since a channel was last observed, at every step of every case.

    0 where it is observed; before the first observation, the time since the first step of the
    case.  As the intervals of GRU-D (Che et al., "Recurrent Neural Networks for Multivariate Time
    Series with Missing Values", 2018), but up to each step rather than up to the one before.

    Parameters
    ----------
    observed : ndarray of bool, (N,)
    order : ndarray of int64, (N,), or None
        Puts the steps of a case behind each other; see :meth:`.steps.Steps.clock`.
    offsets : ndarray of int64, (B + 1,)
    time : ndarray of float64, (N,)
        Rising inside each case.

    Returns
    -------
    ndarray of float64, (N,)
        In the order of ``observed``.

    Examples
    --------
    >>> seen = np.array([False, True, False, False, False])
    >>> time_since_observed(seen, None, np.array([0, 4, 5]), np.array([0.0, 2, 3, 7, 0]))
    array([0., 0., 1., 5., 0.])
    """
    if order is not None:
        observed = observed[order]
    # Position of the last observation so far; the first step of a case stands for one, which also
    # keeps the case before out.
    last = np.arange(len(observed))
    marked = observed.copy()
    marked[offsets[:-1][offsets[1:] > offsets[:-1]]] = True
    last[~marked] = 0
    np.maximum.accumulate(last, out=last)
    since = time - time[last]
    if order is None:
        return since
    result = np.empty_like(since)
    result[order] = since
    return result
