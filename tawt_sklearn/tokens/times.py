"""Where the clock of each row starts and ends, and how fast time passes between its events."""

from __future__ import annotations

import numpy as np

from tawt_sklearn.events.ragged import range_positions

LEVELS = np.linspace(0, 1, 21)
"""Levels of the time quantiles that a vocabulary stores."""

SAMPLE = 1 << 18
"""Events that time quantiles are learned from at most, drawn with a fixed seed."""


def first_and_last(time: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Times of the first and last event per row, NaN for rows without events; (B,) each."""
    filled = offsets[1:] > offsets[:-1]
    first, last = np.full(len(filled), np.nan), np.full(len(filled), np.nan)
    first[filled] = time[offsets[:-1][filled]]
    last[filled] = time[offsets[1:][filled] - 1]
    return first, last


def origin_and_end(
    time: np.ndarray,
    offsets: np.ndarray,
    start: np.ndarray,
    end: np.ndarray,
    *,
    rule: str,
    known_start: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Origin and end of every row, always finite.

    Parameters
    ----------
    time : ndarray of float64, (E,)
    offsets : ndarray of int64, (B + 1,)
    start, end : ndarray of float64, (B,)
        Known observation window, NaN where unknown.
    rule : {"zero", "first", "end"}
    known_start : bool
        Whether a known start comes before the rule.

    Returns
    -------
    origin, end : ndarray of float64, (B,)
        The end is the known end, else the time of the last event.  Where a row has no events the
        missing ones of its origin and end are taken from each other, else 0.
    """
    first, last = first_and_last(time, offsets)
    end = np.where(np.isnan(end), last, end)
    origin = {"zero": np.zeros(len(first)), "first": first, "end": end}[rule]
    if known_start:
        origin = np.where(np.isnan(start), origin, start)
    origin = np.where(np.isnan(origin), np.where(np.isnan(end), start, end), origin)
    origin = np.where(np.isnan(origin), 0.0, origin)
    return origin, np.where(np.isnan(end), origin, end)


def typical_gap(time: np.ndarray, offsets: np.ndarray, rng: np.random.Generator) -> float:
    """Median gap between successive distinct event times of one row.

    From a sample of at most :data:`SAMPLE` gaps.  1 where no row has two distinct times.
    """
    inner = np.ones(len(time), bool)  # events that have one before them in their row
    inner[offsets[:-1][offsets[:-1] < len(time)]] = False
    inner[1:] &= time[1:] > time[:-1]
    at = _sample(np.flatnonzero(inner), rng)
    return float(np.median(time[at] - time[at - 1])) if len(at) else 1.0


def time_quantiles(
    time: np.ndarray, offsets: np.ndarray, origin: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Quantiles of time since the origin over events (a sample of them); (21,)."""
    at = _sample(np.arange(len(time)), rng)
    row = np.searchsorted(offsets, at, side="right") - 1
    return np.quantile(time[at] - origin[row], LEVELS)


def span_quantiles(offsets: np.ndarray, origin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Quantiles of ``end - origin`` over rows that have events; (21,)."""
    return np.quantile((end - origin)[np.diff(offsets) > 0], LEVELS)


def _sample(positions: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if len(positions) <= SAMPLE:
        return positions
    return positions[rng.integers(0, len(positions), SAMPLE)]


def most_recent(offsets: np.ndarray, max_events: int) -> tuple[np.ndarray | None, np.ndarray]:
    """Positions of the last ``max_events`` events of each row (None: all), and new offsets."""
    lengths = np.diff(offsets)
    kept = np.minimum(lengths, max_events)
    if (kept == lengths).all():
        return None, offsets
    return range_positions(offsets[1:] - kept, kept)


def count_duplicates(
    time: np.ndarray, code: np.ndarray, offsets: np.ndarray, n_codes: int
) -> np.ndarray:
    """Events beyond the first of the same row, time and code, per code; int64, (n_codes,).

    ``code`` is in ``range(n_codes)``.  Nothing is sorted where
    codes rise within equal times.
    """
    E = len(time)
    if E < 2:
        return np.zeros(n_codes, np.int64)
    tied = np.empty(E, bool)  # same row and time as the event before
    tied[0] = False
    np.equal(time[1:], time[:-1], out=tied[1:])
    tied[offsets[:-1][offsets[:-1] < E]] = False
    if not tied.any():
        return np.zeros(n_codes, np.int64)
    at = np.flatnonzero(tied)
    if (code[at] < code[at - 1]).any():
        tied_to_next = np.append(tied[1:], False)
        at = np.flatnonzero(tied | tied_to_next)
        keys = np.cumsum(~tied[at]) * n_codes  # number of the stretch
        keys += code[at]
        keys.sort()
        repeated = keys[1:][keys[1:] == keys[:-1]] % n_codes
    else:
        repeated = code[at[code[at] == code[at - 1]]]
    return np.bincount(repeated, minlength=n_codes)
