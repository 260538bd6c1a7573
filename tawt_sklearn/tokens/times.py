"""Where the clock of each row starts and ends, and how fast time passes between its events."""

from __future__ import annotations

import numpy as np

from tawt_sklearn.events.ragged import range_positions

LEVELS = np.linspace(0, 1, 21)
"""Levels of the time quantiles that a vocabulary stores."""

SAMPLE = 1 << 17
"""Events that gaps and time quantiles are learned from at most, drawn with a fixed seed."""


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

    From a sample of events.  1 where no row has two distinct times.
    """
    at = _sample(len(time), rng)
    gaps = _gaps(time, offsets, at)
    if len(gaps) < 1000 and len(at) < len(time):  # mostly ties, or rows of one event
        gaps = _gaps(time, offsets, np.arange(len(time)))
    return float(np.median(gaps)) if len(gaps) else 1.0


def _gaps(time: np.ndarray, offsets: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Positive gaps between the events ``at`` these positions and those before in their row."""
    at = at[at > offsets[np.searchsorted(offsets, at, side="right") - 1]]
    gaps = time[at] - time[at - 1]
    return gaps[gaps > 0]


def time_quantiles(
    time: np.ndarray, offsets: np.ndarray, origin: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Quantiles of time since the origin over events (a sample of them); (21,)."""
    at = _sample(len(time), rng)
    row = np.searchsorted(offsets, at, side="right") - 1
    return np.quantile(time[at] - origin[row], LEVELS)


def span_quantiles(offsets: np.ndarray, origin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Quantiles of ``end - origin`` over rows that have events; (21,)."""
    return np.quantile((end - origin)[np.diff(offsets) > 0], LEVELS)


def _sample(n_events: int, rng: np.random.Generator) -> np.ndarray:
    """Positions of all events, or of a random sample where they are many."""
    if n_events <= SAMPLE:
        return np.arange(n_events)
    return np.sort(rng.integers(0, n_events, SAMPLE))


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
    """Events beyond the first of the same row, time and code; int64, (n_codes + 1,).

    The first entry counts events with code -1.  Nothing is sorted where codes rise within equal
    times.
    """
    none = np.zeros(n_codes + 1, np.int64)
    E = len(time)
    if E < 2:
        return none
    tied = np.empty(E, bool)  # same row and time as the event before
    tied[0] = False
    np.equal(time[1:], time[:-1], out=tied[1:])
    tied[offsets[:-1][offsets[:-1] < E]] = False
    at = np.flatnonzero(tied)
    if not len(at):
        return none
    if (code[at] < code[at - 1]).any():
        at = np.flatnonzero(tied | np.append(tied[1:], False))
        keys = np.cumsum(~tied[at]) * (n_codes + 1)  # number of the stretch
        keys += code[at] + 1
        keys.sort()
        repeated = keys[1:][keys[1:] == keys[:-1]] % (n_codes + 1)
    else:
        repeated = code[at[code[at] == code[at - 1]]] + 1
    return np.bincount(repeated, minlength=n_codes + 1)
