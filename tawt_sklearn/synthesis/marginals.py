"""The distribution of the numbers of one code, as normal scores and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

MOST_STEPS = 512
"""With up to this many different values the distribution is kept as it is, else as quantiles."""

MOST_DECIMALS = 6

FARTHEST = 4.0
"""Normal scores are kept within this distance of 0."""


@dataclass(frozen=True)
class Marginal:
    """Where values lie in their distribution, and what value lies where.

    Attributes
    ----------
    values : (K,) float64
        Different values, or quantiles, in rising order.
    lower, upper : (K,) float64
        Share of the data below, and at or below, each; of quantiles that no ties make equal these
        are the same.
    steps : bool
        Whether there is nothing between the values.
    decimals : int or None
        What values in between are rounded to; None for no rounding.
    """

    values: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    steps: bool
    decimals: int | None

    @classmethod
    def fit(
        cls, sample: NDArray, n_extreme: int = 1, row: NDArray[np.int64] | None = None
    ) -> Marginal:
        """Learn from finite numbers (n,), of which there is one at least.

        Parameters
        ----------
        n_extreme : int
            Values beyond what so many subjects reach are taken for that, so that the ends of the
            range are no single subject's.
        row : (n,) int64, optional
            Whose each number is; by default each is another's.
        """
        sample = np.asarray(sample, np.float64)
        n = len(sample)
        ordered = np.sort(sample.clip(*limits(sample, n_extreme, row)))
        values, counts = np.unique(ordered, return_counts=True)
        decimals = decimals_of(values)
        if len(values) <= MOST_STEPS:
            upper = np.cumsum(counts) / n
            return cls(values, upper - counts / n, upper, True, decimals)
        upper = np.linspace(0, 1, MOST_STEPS + 1)
        values = np.quantile(ordered, upper, method="inverted_cdf")
        values, first = np.unique(values, return_index=True)
        # Of equal quantiles the last one says how many lie at or below.
        last = np.append(first[1:] - 1, MOST_STEPS)
        return cls(values, upper[first], upper[last], False, decimals)

    def bounds(self, sample: NDArray) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Shares of the data below, and at or below, each number (n,)."""
        sample = np.asarray(sample, np.float64).clip(self.values[0], self.values[-1])
        if not self.steps:
            low, high = self.lower, self.upper
            at = np.searchsorted(self.values, sample).clip(max=len(self.values) - 1)
            tied = self.values[at] == sample
            # Between two values: from what lies at or below the one to what lies below the other.
            before = (at - 1).clip(min=0)
            width = np.where(at > 0, self.values[at] - self.values[before], 1.0)
            part = ((sample - self.values[before]) / width).clip(0, 1)
            between = high[before] + part * (low[at] - high[before])
            between = np.where(at > 0, between, low[0])
            return (
                np.where(tied, low[at], between).astype(np.float32),
                np.where(tied, high[at], between).astype(np.float32),
            )
        at = np.searchsorted(self.values, sample, side="right")
        below = np.searchsorted(self.values, sample, side="left")
        upper = np.concatenate([[0.0], self.upper])
        return upper[below].astype(np.float32), upper[at].astype(np.float32)

    def value(self, share: NDArray) -> NDArray[np.float64]:
        """The numbers (n,) that lie at some shares of the data."""
        share = np.asarray(share, np.float64)
        if self.steps:
            at = np.searchsorted(self.upper, share, side="left")
            return self.values[np.minimum(at, len(self.values) - 1)]
        shares = np.stack([self.lower, self.upper], axis=1).ravel()  # flat where values are tied
        found = np.interp(share, shares, np.repeat(self.values, 2))
        return found if self.decimals is None else np.round(found, self.decimals)


def limits(
    sample: NDArray[np.float64], n_extreme: int, row: NDArray[np.int64] | None = None
) -> tuple[float, float]:
    """The lowest and the highest number that ``n_extreme`` rows reach, or half of few rows."""
    if row is None:
        lowest = highest = np.sort(sample)
    else:
        order = np.argsort(row, kind="stable")
        begins = np.flatnonzero(np.diff(row[order], prepend=-1))
        lowest = np.sort(np.minimum.reduceat(sample[order], begins))
        highest = np.sort(np.maximum.reduceat(sample[order], begins))
    k = min(n_extreme, (len(lowest) + 1) // 2)
    least, most = lowest[k - 1], highest[len(highest) - k]
    return min(least, most), max(least, most)


def decimals_of(values: NDArray[np.float64]) -> int | None:
    """Decimals that all values have, as far as single precision tells."""
    size = np.abs(values).max(initial=0.0)
    for decimals in range(MOST_DECIMALS + 1):
        tolerance = max(1e-9, 2.0**-22 * size)
        if tolerance > 0.1 * 10.0**-decimals:
            return None
        if np.abs(values - np.round(values, decimals)).max(initial=0.0) <= tolerance:
            return decimals
    return None


def scores(share: NDArray) -> NDArray[np.float64]:
    """Normal scores of shares, not farther out than :data:`FARTHEST`."""
    with np.errstate(divide="ignore"):
        return ndtri(np.asarray(share, np.float64)).clip(-FARTHEST, FARTHEST)


def middle_scores(low: NDArray, high: NDArray) -> NDArray[np.float64]:
    """Normal scores in the middle of what a number covers of its distribution."""
    return scores(((low + high) / 2).clip(0, 1))
