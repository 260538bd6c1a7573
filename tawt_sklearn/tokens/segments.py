"""Statistics of many short series at once: flat events cut into segments, no loop over them.

A segment holds the events of one row and one feature column (a code, or a category), in time
order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tawt_sklearn.events.ragged import offsets_from_lengths, segment_count

OF_EVENTS = ("count", "time_since_last")
"""Statistics that need no number."""

OF_NUMBERS = ("mean", "sd", "min", "max", "first", "last", "slope")
"""Statistics of the numbers of a code, undefined (NaN) where there is none."""

STATISTICS = (OF_EVENTS[0], *OF_NUMBERS, OF_EVENTS[1])


@dataclass
class Segments:
    """Events sorted by (row, column), in time order within; S segments, none of them empty.

    Attributes
    ----------
    time, value : ndarray of float64, (E,)
        NaN value = no number.
    offsets : ndarray of int64, (S + 1,)
    row, column : ndarray of int64, (S,)
    """

    time: np.ndarray
    value: np.ndarray
    offsets: np.ndarray
    row: np.ndarray
    column: np.ndarray

    @classmethod
    def of(
        cls,
        row: np.ndarray,
        column: np.ndarray,
        time: np.ndarray,
        value: np.ndarray,
        n_columns: int,
    ) -> Segments:
        """Sort flat events; those with ``column`` -1 are left out."""
        order, key = _stable_order(row, column, n_columns)
        starts = np.flatnonzero(np.r_[True, key[1:] != key[:-1]]) if len(key) else key
        offsets = np.append(starts, len(key)).astype(np.int64)
        key = key[starts]
        return cls(
            time[order].astype(np.float64),
            value[order].astype(np.float64),
            offsets,
            key // n_columns,
            key % n_columns,
        )

    def select(self, keep: np.ndarray) -> Segments:
        """Events where ``keep`` (E,) is True; segments that lose all of theirs go."""
        if keep.all():
            return self
        n = segment_count(keep, self.offsets)
        left = n > 0
        return Segments(
            self.time[keep],
            self.value[keep],
            offsets_from_lengths(n[left]),
            self.row[left],
            self.column[left],
        )

    def spread(self, of_segment: np.ndarray) -> np.ndarray:
        """One value per segment (S,) to one per event (E,)."""
        return np.repeat(of_segment, np.diff(self.offsets))

    def last_of(self, window: float, end: np.ndarray) -> Segments:
        """Events after ``end - window`` of their row; ``end`` is (B,)."""
        return self.select(self.time > self.spread(end[self.row] - window))

    def with_numbers(self) -> Segments:
        """Events that have a number."""
        return self.select(~np.isnan(self.value))


def _stable_order(
    row: np.ndarray, column: np.ndarray, n_columns: int
) -> tuple[np.ndarray, np.ndarray]:
    """Positions in the order of (row, column), ties as they come, and the sorted keys."""
    key = row.astype(np.int64) * n_columns + column
    at = np.flatnonzero(column >= 0)
    if len(at) < len(key):
        key = key[at]
    bits = max(len(key) - 1, 0).bit_length()
    if len(key) and int(key.max()).bit_length() + bits < 63:
        # Key above, position below: a plain sort of integers is stable and several times faster.
        packed = (key << bits) | np.arange(len(key))
        packed.sort()
        return at[packed & ((1 << bits) - 1)], packed >> bits
    order = np.argsort(key, kind="stable")
    return at[order], key[order]


def statistic_of_events(name: str, segments: Segments, end: np.ndarray) -> np.ndarray:
    """``count`` or ``time_since_last`` (``end`` minus the last time) of each segment; (S,)."""
    if name == "count":
        return np.diff(segments.offsets).astype(np.float64)
    return end[segments.row] - segments.time[segments.offsets[1:] - 1]


def statistics_of_numbers(names: tuple[str, ...], segments: Segments) -> dict[str, np.ndarray]:
    """Statistics of segments whose events all have numbers; (S,) each.

    ``sd`` divides by n - 1 (two passes); ``slope`` is that of the least-squares line over time.
    Both are NaN where undefined: fewer than two numbers, fewer than two distinct times.
    """
    time, value, offsets = segments.time, segments.value, segments.offsets
    S = len(offsets) - 1
    if not S:
        return {name: np.empty(0) for name in names}
    starts, last, n = offsets[:-1], offsets[1:] - 1, np.diff(offsets)
    result = {}
    if "min" in names:
        result["min"] = np.minimum.reduceat(value, starts)
    if "max" in names:
        result["max"] = np.maximum.reduceat(value, starts)
    if "first" in names:
        result["first"] = value[starts]
    if "last" in names:
        result["last"] = value[last]
    if not {"mean", "sd", "slope"}.isdisjoint(names):
        mean = np.add.reduceat(value, starts) / n
        if "mean" in names:
            result["mean"] = mean
    if not {"sd", "slope"}.isdisjoint(names):
        residual = value - segments.spread(mean)
    if "slope" in names:
        lag = time - segments.spread(np.add.reduceat(time, starts) / n)
        covariance = np.add.reduceat(lag * residual, starts)
        lag *= lag
        slope = np.full(S, np.nan)
        # Not "variance > 0": rounding gives equal times a tiny one.
        moving = time[last] > time[starts]
        np.divide(covariance, np.add.reduceat(lag, starts), out=slope, where=moving)
        result["slope"] = slope
    if "sd" in names:
        residual *= residual
        sd = np.full(S, np.nan)
        np.divide(np.add.reduceat(residual, starts), n - 1, out=sd, where=n > 1)
        result["sd"] = np.sqrt(sd)
    return result
