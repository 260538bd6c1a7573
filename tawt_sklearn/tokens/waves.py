"""Time scales of data, and the features of a time: waves, differences, the calendar."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tawt_sklearn.events.ragged import offsets_from_lengths, row_ids, segment_count
from tawt_sklearn.tokens.clocks import CALENDAR, calendar_fields
from tawt_sklearn.tokens.times import typical_gap

_LARGEST = float(np.finfo(np.float64).max) / 4


def time_scales(time: np.ndarray, offsets: np.ndarray | None) -> tuple[float, float, float]:
    """First time, span and typical gap of a column of times, NaN left out.

    Parameters
    ----------
    time : ndarray of float64, (N,)
    offsets : ndarray of int64, (B + 1,), or None
        First step of each case; None = the times have no order.

    Returns
    -------
    reference : float
        The smallest time, 0 without any.
    span : float
        Between the smallest and the largest, 1 where that is 0.
    gap : float
        Median of the positive gaps between successive times of a case, or between distinct times
        where they have no order; at most the span.
    """
    known = ~np.isnan(time)
    if not known.any():
        return 0.0, 1.0, 1.0
    ends = np.clip([time[known].min(), time[known].max()], -_LARGEST, _LARGEST)
    span = float(ends[1] - ends[0]) or 1.0
    if offsets is None:
        time = np.unique(time[known])
        offsets = np.array([0, len(time)])
    else:
        offsets = offsets_from_lengths(segment_count(known, offsets))
        time = time[known]
    time = np.clip(time, -_LARGEST, _LARGEST)
    gap = typical_gap(time, offsets, np.random.default_rng(0)) if len(time) > 1 else span
    return float(ends[0]), span, min(gap, span)


def elapsed(time: np.ndarray, reference: float) -> np.ndarray:
    """Time since a reference; finite where ``time`` is.  (N,)."""
    return np.clip(time, -_LARGEST, _LARGEST) - reference


def log_frequencies(n: int, shortest: float, longest: float) -> np.ndarray:
    """``n`` angular frequencies whose periods lie evenly on a log scale, longest first.  (n,)."""
    shortest = max(shortest, float(np.finfo(np.float64).tiny) * 8)
    return 2 * np.pi / np.geomspace(max(longest, shortest), shortest, n)


def draw_waves(
    n: int, shortest: float, longest: float, rng: np.random.RandomState
) -> tuple[np.ndarray, np.ndarray]:
    """Random frequencies, log-uniform between those of two periods and rising, and phases."""
    ends = log_frequencies(2, shortest, longest)
    lowest, highest = np.log(ends)
    frequencies = np.sort(np.exp(rng.uniform(lowest, highest, n)))
    return frequencies, rng.uniform(0, 2 * np.pi, n)


def sinusoids(elapsed: np.ndarray, frequencies: np.ndarray) -> Iterator[np.ndarray]:
    """Sine and cosine of each angular frequency, (N,) each."""
    for frequency in frequencies:
        angle = _angle(elapsed, frequency, 0.0)
        yield np.sin(angle)
        yield np.cos(angle)


def time2vec(
    elapsed: np.ndarray, span: float, frequencies: np.ndarray, phases: np.ndarray
) -> Iterator[np.ndarray]:
    """A linear feature, then a sine of each frequency and phase, (N,) each."""
    with np.errstate(over="ignore"):
        yield np.clip(elapsed / span, -_LARGEST, _LARGEST)
    for frequency, phase in zip(frequencies, phases, strict=True):
        yield np.sin(_angle(elapsed, frequency, phase))


def _angle(elapsed: np.ndarray, frequency: float, phase: float) -> np.ndarray:
    """``frequency * elapsed + phase``, finite; (N,)."""
    with np.errstate(over="ignore"):
        return np.clip(elapsed * frequency + phase, -_LARGEST, _LARGEST)


def calendar_waves(seconds: np.ndarray) -> Iterator[np.ndarray]:
    """Sine and cosine of the fields of the calendar, (N,) each; any number where missing."""
    for field, values in calendar_fields(np.nan_to_num(seconds)).items():
        angle = values * (2 * np.pi / CALENDAR[field])
        yield np.sin(angle)
        yield np.cos(angle)


def since_previous(time: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Time since the known step before in the same case, NaN where missing; (N,).

    0 at the first known step of a case.

    Examples
    --------
    >>> since_previous(np.array([1.0, np.nan, 4.0, 9.0]), np.array([0, 3, 4]))
    array([ 0., nan,  3.,  0.])
    """
    result = np.full(len(time), np.nan)
    known = np.flatnonzero(~np.isnan(time))
    case = row_ids(offsets)[known]
    clipped = np.clip(time[known], -_LARGEST, _LARGEST)
    result[known[:1]] = 0.0
    result[known[1:]] = np.where(case[1:] == case[:-1], np.diff(clipped), 0.0)
    return result


def signed_log1p(x: np.ndarray) -> np.ndarray:
    """``sign(x) * log(1 + |x|)``; (N,)."""
    return np.copysign(np.log1p(np.abs(x)), x)


def feature_names(method: str, n_frequencies: int) -> list[str]:
    """What the features of one column of times are called, behind its name."""
    if method == "sinusoidal":
        return [f"{wave}{k}" for k in range(n_frequencies) for wave in ("sin", "cos")]
    if method == "time2vec":
        return ["linear", *(f"wave{k}" for k in range(n_frequencies))]
    if method == "calendar":
        return [f"{field}_{wave}" for field in CALENDAR for wave in ("sin", "cos")]
    return [method]
