"""Times between one event and the next, in classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tawt_sklearn.synthesis.marginals import limits

MOST_SINGLE = 64
"""With up to this many different gaps each is a class of its own."""

N_BINS = 32
"""Classes of about as many gaps each, else."""

MOST_SPIKES, LEAST_SHARE, LEAST_COUNT = 128, 1e-3, 20
"""Besides those so many single gaps at most, of those that come so often."""

MOST_PERIODS, LEAST_OF_PERIOD = 3, 0.05
"""Gaps that come so often may be periods of a clock."""

N_POINTS = 64
"""Gaps of a class that are drawn from."""

SAME = 0
"""The class of no gap: an event at the time of the one before."""

RESOLUTIONS = (1.0, 0.5, 0.25, 0.1, 1 / 60, 0.01, 0.001, 1 / 3600, 1e-4)
"""Steps that times may go in, from the largest to the smallest."""

ROUNDING = 1e-6
"""How far from a multiple of the step times are by rounding alone."""

MOST_STRETCH = 2.0
"""By which gaps are made longer or shorter, at most."""

FARTHEST_WAIT = 5.0
"""Waits are kept within this distance of 0."""


@dataclass(frozen=True)
class Gaps:
    """Gaps on a logarithmic scale.

    Attributes
    ----------
    center, spread : float
        Mean and standard deviation of the logarithms of the gaps that are not 0.
    resolution : float or None
        All gaps are multiples of it, as far as can be told; None for no such number.
    periods : (K,) float64
        The most common gaps, after which the clock of a ward may come round.
    """

    center: float
    spread: float
    resolution: float | None
    periods: NDArray[np.float64]

    def wait(self, gaps: NDArray[np.float64]) -> NDArray[np.float32]:
        """Standard logarithms of gaps (n,), 0 where there is none."""
        positive = gaps > 0
        logs = np.log(np.where(positive, gaps, 1.0))
        waits = ((logs - self.center) / self.spread).clip(-FARTHEST_WAIT, FARTHEST_WAIT)
        return np.where(positive, waits, 0.0).astype(np.float32)

    def stretchable(self, gap: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Of which classes gaps may be longer or shorter than drawn."""
        return gap != SAME

    def fitted(
        self,
        size: NDArray[np.float64],
        gap: NDArray[np.int64],
        row: NDArray[np.int64],
        span: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Gaps (n,) of each row, stretched so that they come to its span (B,).

        Common single values stay as they are, and so do rows that are off by more than a factor of
        :data:`MOST_STRETCH`.
        """
        B, soft = len(span), self.stretchable(gap)
        fixed = np.bincount(row[~soft], size[~soft], minlength=B)
        total = np.bincount(row[soft], size[soft], minlength=B)
        factor = np.where(total > 0, (span - fixed) / np.where(total > 0, total, 1.0), 1.0)
        factor = np.where((factor > 1 / MOST_STRETCH) & (factor < MOST_STRETCH), factor, 1.0)
        told = np.where(soft, size * factor[row], size)
        if self.resolution is None:
            return told
        rounded = multiples(np.maximum(told, self.resolution), self.resolution)
        return np.where(soft & (told > 0), rounded, told)


def cumulated(size: NDArray[np.float64], row: NDArray[np.int64]) -> NDArray[np.float64]:
    """Times (n,) since the first event of each row, whose gaps lie together."""
    if not len(size):
        return size
    time = np.cumsum(size)
    begins = np.flatnonzero(np.diff(row, prepend=-1))
    lengths = np.diff(np.append(begins, len(row)))
    return time - np.repeat(time[begins], lengths)


def without_extremes(
    gaps: NDArray[np.float64], row: NDArray[np.int64] | None, n_extreme: int
) -> NDArray[np.float64]:
    """Positive gaps of (n,), those beyond what so many rows have taken for that."""
    positive = gaps > 0
    found = gaps[positive]
    if not len(found):
        return found
    return found.clip(*limits(found, n_extreme, None if row is None else row[positive]))


def multiples(times: NDArray[np.float64], step: float) -> NDArray[np.float64]:
    """The nearest multiples of a step, without an error in the last digit.

    Where data tell minutes in hours theirs is the quotient of two whole numbers, and so is this.
    """
    if step < 1:
        per_unit = round(1 / step)
        return np.round(times * per_unit) / per_unit
    return np.round(times / step) * step


def settled(times: NDArray[np.float64], step: float | None) -> NDArray[np.float64]:
    """Times that are multiples of a step but for rounding are so exactly; others stay."""
    if step is None:
        return times
    near = multiples(times, step)
    return np.where(np.abs(times - near) < ROUNDING, near, times)


def resolution_of(times: NDArray[np.float64]) -> float | None:
    """What all times or gaps are multiples of; None for none of :data:`RESOLUTIONS`."""
    for step in RESOLUTIONS:
        share = times / step
        if (np.abs(share - np.round(share)) < 1e-4).all():
            return step
    return None


def _scale(
    positive: NDArray[np.float64],
) -> tuple[float, float, float | None, NDArray[np.float64]]:
    """Mean and standard deviation of the logarithms of gaps above 0, resolution and periods."""
    if not len(positive):
        return 0.0, 1.0, None, np.empty(0)
    logs = np.log(positive)
    values, counts = np.unique(positive, return_counts=True)
    often = np.argsort(-counts, kind="stable")[:MOST_PERIODS]
    periods = values[often[counts[often] >= LEAST_OF_PERIOD * len(positive)]]
    spread = max(float(logs.std()), 1e-3)
    return float(logs.mean()), spread, resolution_of(positive), np.sort(periods)


@dataclass(frozen=True)
class LogGaps(Gaps):
    """No gap, or one whose logarithm is a mixture of normals.

    Attributes
    ----------
    least, most : float
        Of the gaps of the data.
    """

    least: float
    most: float

    @property
    def number(self) -> int:
        """Classes."""
        return 2

    @classmethod
    def fit(
        cls, gaps: NDArray[np.float64], row: NDArray[np.int64] | None = None, min_subjects: int = 1
    ) -> LogGaps:
        """Learn from gaps (n,) of zero or more."""
        positive = without_extremes(gaps, row, min_subjects)
        least, most = (float(positive.min()), float(positive.max())) if len(positive) else (1, 1)
        return cls(*_scale(positive), least, most)

    def of(self, gaps: NDArray[np.float64]) -> NDArray[np.int64]:
        """The class of each gap (n,)."""
        return np.where(gaps > 0, 1, SAME)

    def of_wait(self, wait: NDArray[np.float64]) -> NDArray[np.float64]:
        """The gaps of waits (n,)."""
        gaps = np.exp(self.center + self.spread * wait).clip(self.least, self.most)
        if self.resolution is None:
            return gaps
        return multiples(gaps, self.resolution).clip(self.least, self.most)


@dataclass(frozen=True)
class GapClasses(Gaps):
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

    def stretchable(self, gap: NDArray[np.int64]) -> NDArray[np.bool_]:
        return gap > len(self.spikes)

    @classmethod
    def fit(
        cls, gaps: NDArray[np.float64], row: NDArray[np.int64] | None = None, min_subjects: int = 1
    ) -> GapClasses:
        """Learn from gaps (n,) of zero or more, and whose each is; by default all are others'.

        No single value is a class of its own that fewer than ``min_subjects`` rows have.
        """
        positive = without_extremes(gaps, row, min_subjects)
        values, which, counts = np.unique(positive, return_inverse=True, return_counts=True)
        common = np.full(len(values), len(values) <= MOST_SINGLE)
        often = np.argsort(-counts, kind="stable")[:MOST_SPIKES]
        common[often] |= counts[often] >= max(LEAST_COUNT, LEAST_SHARE * len(positive))
        common |= counts * 2 * N_BINS >= len(positive)
        row = np.arange(len(gaps)) if row is None else row
        pairs = np.unique(np.stack([which, row[gaps > 0]]), axis=1)[0]
        common &= np.bincount(pairs, minlength=len(values)) >= min_subjects
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
        return cls(*_scale(positive), spikes, edges, np.concatenate(points))

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
