"""Times between one event and the next, in classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST_SINGLE = 64
"""With up to this many different gaps each is a class of its own."""

N_BINS = 32
"""Classes of about as many gaps each, else."""

N_POINTS = 64
"""Gaps of a class that are drawn from."""

SAME = 0
"""The class of no gap: an event at the time of the one before."""


@dataclass(frozen=True)
class GapClasses:
    """Spikes, such as exactly an hour, and quantile bins of all other gaps.

    Attributes
    ----------
    spikes : (K1,) float64
        Gaps that are classes of their own, in rising order; the classes from 1 on.
    edges : (K2 - 1,) float64
        Between the bins, which are the classes after them.
    points : (1 + K1 + K2, N_POINTS) float64
        Gaps of each class, equally likely.
    """

    spikes: NDArray[np.float64]
    edges: NDArray[np.float64]
    points: NDArray[np.float64]

    @property
    def number(self) -> int:
        return len(self.points)

    @classmethod
    def fit(cls, gaps: NDArray[np.float64]) -> GapClasses:
        """Learn from gaps (n,) of zero or more."""
        positive = np.sort(gaps[gaps > 0])
        values, counts = np.unique(positive, return_counts=True)
        common = np.full(len(values), len(values) <= MOST_SINGLE)
        common |= counts * 2 * N_BINS >= len(positive)
        spikes = values[common]
        rest = np.repeat(values[~common], counts[~common])
        points = [np.zeros((1, N_POINTS)), np.repeat(spikes[:, np.newaxis], N_POINTS, axis=1)]
        edges = np.empty(0)
        if len(rest):
            inner = np.quantile(rest, np.linspace(0, 1, N_BINS + 1)[1:-1], method="higher")
            edges = np.unique(inner[inner > rest[0]])
            first = np.concatenate([[0], np.searchsorted(rest, edges), [len(rest)]])
            within = (np.arange(N_POINTS) + 0.5) / N_POINTS
            place = first[:-1, np.newaxis] + within * np.diff(first)[:, np.newaxis]
            points.append(rest[place.astype(np.int64)])
        return cls(spikes, edges, np.concatenate(points))

    def of(self, gaps: NDArray[np.float64]) -> NDArray[np.int64]:
        """The class of each gap (n,)."""
        K = len(self.spikes)
        if len(self.points) == 1 + K:  # there are no bins: the nearest one
            middle = (self.spikes[1:] + self.spikes[:-1]) / 2
            found = 1 + np.searchsorted(middle, gaps) if K else np.zeros(len(gaps), np.int64)
            return np.where(gaps > 0, found, SAME)
        found = 1 + K + np.searchsorted(self.edges, gaps, side="right")
        at = np.searchsorted(self.spikes, gaps)
        if K:
            is_spike = self.spikes[np.minimum(at, K - 1)] == gaps
            found = np.where(is_spike, 1 + at, found)
        return np.where(gaps > 0, found, SAME)
