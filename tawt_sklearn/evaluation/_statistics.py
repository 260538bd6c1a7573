"""Distances between two groups of subjects that carry weights, for many codes at once.

Weights are how often a subject was drawn, see :func:`~tawt_sklearn.evaluation.measure.measured`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

ROUNDING = 1e-10
"""Differences of distributions below this are what sums of weights leave behind."""


@dataclass(frozen=True, eq=False)
class Ecdfs:
    """Empirical distributions of numbers of two sides, in G groups such as codes.

    The numbers of both sides are sorted once; a Kolmogorov-Smirnov distance with other weights is
    then two cumulative sums.

    Attributes
    ----------
    subject : int64 (N,)
        Subject of each number in sorted order, those of the second side after those of the first.
    offsets : int64 (G + 1,)
        The numbers of group g are ``offsets[g]:offsets[g + 1]``.
    cell : int64 (N,)
        Twice the group of each number, plus 1 on the second side.
    tied : bool (N,)
        The next number is the same, so that the distributions must not be compared in between.
    """

    subject: np.ndarray
    number: np.ndarray
    offsets: np.ndarray
    tied: np.ndarray
    cell: np.ndarray

    @classmethod
    def of(
        cls,
        first: tuple[np.ndarray, np.ndarray, np.ndarray],
        second: tuple[np.ndarray, np.ndarray, np.ndarray],
        n_groups: int,
        n_first: int,
    ) -> Ecdfs:
        """Sort the numbers.

        Parameters
        ----------
        first, second : (group, number, subject), (N,) each
        n_groups : int
        n_first : int
            Number of subjects of the first side.
        """
        group, number, subject = (np.concatenate(pair) for pair in zip(first, second, strict=True))
        subject = subject.astype(np.int64)
        subject[len(first[0]) :] += n_first
        order = np.lexsort((number, group))
        group, number = group[order], number[order]
        tied = np.zeros(len(group), bool)
        tied[:-1] = (group[1:] == group[:-1]) & (number[1:] == number[:-1])
        offsets = np.searchsorted(group, np.arange(n_groups + 1))
        subject = subject[order]
        return cls(subject, number, offsets, tied, 2 * group + (subject >= n_first))

    def ks(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Largest difference of the distributions; (G,), 1 where one side is empty, NaN if both."""
        difference, empty = self._difference(first, second)
        difference[self.tied] = 0
        result = _reduce(np.maximum, np.abs(difference), self.offsets)
        return np.where(empty == 2, np.nan, np.where(empty == 1, 1.0, result))

    def w1(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Wasserstein-1 distance in units of the numbers; (G,), NaN where a side is empty."""
        difference, empty = self._difference(first, second)
        step = np.diff(self.number, append=self.number[-1:])
        step[self.offsets[1:][np.diff(self.offsets) > 0] - 1] = 0
        return np.where(empty > 0, np.nan, _reduce(np.add, np.abs(difference) * step, self.offsets))

    def _difference(self, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First minus second distribution at each number, and how many sides are empty; (G,)."""
        G = len(self.offsets) - 1
        weight = np.r_[first, second][self.subject]
        mass = np.bincount(self.cell, weight, 2 * G).reshape(G, 2)
        empty = (mass <= 0).sum(axis=1)
        # Each full group adds up to 1 - 1, so that one sum over all groups will do.
        share = np.divide([1.0, -1.0], mass, out=np.zeros((G, 2)), where=empty[:, None] == 0)
        difference = np.cumsum(weight * share.ravel()[self.cell])
        difference[np.abs(difference) < ROUNDING] = 0.0
        return difference, empty


def _reduce(ufunc: np.ufunc, flat: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Reduce each group, 0 where it is empty; (G,)."""
    result = np.zeros(len(offsets) - 1)
    filled = np.diff(offsets) > 0
    if filled.any():
        result[filled] = ufunc.reduceat(flat, offsets[:-1][filled])
    return result


def tally(
    row: np.ndarray,
    column: np.ndarray,
    shape: tuple[int, int],
    amount: np.ndarray | None = None,
) -> sparse.csr_matrix:
    """Sum of amounts (default: number of events) per subject and column; CSR (B, K)."""
    data = np.ones(len(row)) if amount is None else amount
    return sparse.csr_matrix((data, (row, column)), shape=shape)


def total_variation(first: np.ndarray, second: np.ndarray) -> float:
    """Half the sum of differences of two tables of counts, as shares; 1 where one is empty.

    Examples
    --------
    >>> total_variation(np.array([1, 1]), np.array([30, 10]))
    0.25
    """
    totals = first.sum(), second.sum()
    if not all(totals):
        return float("nan") if not any(totals) else 1.0
    return float(np.abs(first / totals[0] - second / totals[1]).sum() / 2)


def weighted_auc(
    positive: np.ndarray,
    negative: np.ndarray,
    positive_weight: np.ndarray,
    negative_weight: np.ndarray,
) -> float:
    """Probability that a positive scores higher than a negative, ties counting half.

    Examples
    --------
    >>> weighted_auc(np.array([2.0, 1.0]), np.array([1.0]), np.array([1.0, 3.0]), np.ones(1))
    0.625
    """
    order = np.argsort(negative, kind="stable")
    total = np.r_[0.0, np.cumsum(negative_weight[order])]
    below = total[np.searchsorted(negative[order], positive, "left")]
    upto = total[np.searchsorted(negative[order], positive, "right")]
    mass = positive_weight.sum() * total[-1]
    return float((positive_weight * (below + upto)).sum() / 2 / mass) if mass else float("nan")
