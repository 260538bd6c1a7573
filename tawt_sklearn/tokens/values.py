"""Scaling of values per code: cleaning, learning, applying and undoing.

All functions work on flat arrays of events.  ``code`` or ``token`` says which table entry an event
uses; nothing here loops over events or rows in Python, only over blocks of events that fit the
processor's cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

BLOCK = 1 << 16
"""Events per block: float64 temporaries of this size stay in the cache."""

_IQR_TO_SD = 1.349  # interquartile range of a standard normal
_INNER_90_TO_SD = 3.2897  # distance of its 5 % and 95 % quantiles

QUANTILE_LEVELS = np.r_[0.0, 0.001, 0.01, np.linspace(0, 1, 33)[1:-1], 0.99, 0.999, 1.0]
"""Levels at which ``value_scaling="quantile"`` stores the distribution of a code."""


@dataclass
class Scaling:
    """What fitting the values of ``V`` codes gives; see :class:`~.vocabulary.Vocabulary`."""

    center: np.ndarray
    scale: np.ndarray
    knot_offsets: np.ndarray
    knot_values: np.ndarray
    knot_scores: np.ndarray

    @classmethod
    def identity(cls, V: int) -> Scaling:
        """The scaling that changes nothing."""
        return cls(
            np.zeros(V), np.ones(V), np.zeros(V + 1, np.int64), np.empty(0), np.empty(0)
        )


def blocks(n_events: int) -> Iterator[slice]:
    """Slices that cover ``range(n_events)``."""
    for first in range(0, n_events, BLOCK):
        yield slice(first, min(first + BLOCK, n_events))


def clean_values(
    code: np.ndarray,
    value: np.ndarray,
    *,
    factor: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    log: np.ndarray,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Unit factor, then valid range, then ``log1p``, each from a table over codes.

    Parameters
    ----------
    code : ndarray of int, (E,)
        Index into the tables; -1 takes the last entry.
    value : ndarray of float32, (E,)
    factor, low, high, log : ndarray, (V,)

    Returns
    -------
    cleaned : ndarray of float32, (E,)
        ``value`` itself where the tables ask for nothing.  NaN where out of range.
    outside : ndarray of int64 or None
        Positions of the events whose number lies outside the valid range.
    """
    # Bounds are compared in float32: the value 0.7 is stored as 0.69999999 and must pass [0.7, 1].
    low, high = low.astype(np.float32), high.astype(np.float32)
    if not ((factor != 1).any() or log.any() or np.isfinite(low).any() or np.isfinite(high).any()):
        return value, None
    cleaned = np.empty(len(value), np.float32)
    outside = []
    for block in blocks(len(value)):
        v = value[block] * factor[code[block]]
        v32 = v.astype(np.float32)
        out = (v32 < low[code[block]]) | (v32 > high[code[block]])
        v[out] = np.nan
        if log.any():
            np.log1p(v, out=v, where=log[code[block]])
        cleaned[block] = v
        outside.append(np.flatnonzero(out) + block.start)
    return cleaned, np.concatenate(outside) if outside else np.empty(0, np.int64)


def sort_by_code(
    code: np.ndarray, value: np.ndarray, n_codes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of each code in rising order, NaN left out.

    One plain sort of 64-bit keys (code above, the order-preserving bits of the float below) is
    several times faster than an argsort and a gather, and needs no loop over codes.

    Returns
    -------
    values : ndarray of float32
    offsets : ndarray of int64, (n_codes + 1,)
    """
    present = ~np.isnan(value)
    if not present.all():
        code, value = code[present], value[present]
    keys = code_value_keys(code, value)
    keys.sort()
    offsets = np.searchsorted(keys, np.arange(n_codes + 1, dtype=np.uint64) << np.uint64(32))
    return _value_of_keys(keys), offsets.astype(np.int64)


_SIGN = np.uint32(0x80000000)


def code_value_keys(code: np.ndarray, value: np.ndarray) -> np.ndarray:
    """64-bit integers in the order of (code, value); codes >= 0, values not NaN."""
    bits = (np.ascontiguousarray(value, np.float32) + np.float32(0)).view(np.uint32)  # -0 -> 0
    keys = code.astype(np.uint64)
    keys <<= np.uint64(32)
    # Positive floats sort as integers once above the negative ones, which sort backwards.
    keys |= bits ^ np.where(bits & _SIGN, np.uint32(0xFFFFFFFF), _SIGN)
    return keys


def _value_of_keys(keys: np.ndarray) -> np.ndarray:
    bits = keys.astype(np.uint32)  # drops the code
    return (bits ^ np.where(bits & _SIGN, _SIGN, np.uint32(0xFFFFFFFF))).view(np.float32)


def segment_quantiles(values: np.ndarray, offsets: np.ndarray, level: float) -> np.ndarray:
    """Linearly interpolated quantile of each sorted segment, NaN where it is empty."""
    n = np.diff(offsets)
    position = np.maximum(n - 1, 0) * level
    lower = position.astype(np.int64)
    if not len(values):
        return np.full(len(n), np.nan)
    last = len(values) - 1
    first = np.minimum(offsets[:-1], last)
    a = values[np.minimum(first + lower, last)].astype(np.float64)
    b = values[np.minimum(first + np.minimum(lower + 1, np.maximum(n - 1, 0)), last)]
    return np.where(n > 0, a + (position - lower) * (b - a), np.nan)


def segment_moments(values: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and population standard deviation of each segment (two passes, float64)."""
    n = np.diff(offsets)
    filled = n > 0
    mean, sd = np.full(len(n), np.nan), np.full(len(n), np.nan)
    if filled.any():
        starts = offsets[:-1][filled]
        values = values[: offsets[-1]].astype(np.float64)
        mean[filled] = np.add.reduceat(values, starts) / n[filled]
        values -= np.repeat(mean[filled], n[filled])
        values *= values
        sd[filled] = np.sqrt(np.add.reduceat(values, starts) / n[filled])
    return mean, sd


def fit_scaling(values: np.ndarray, offsets: np.ndarray, method: str | None) -> Scaling:
    """Learn the scaling of every code from its sorted numbers.

    Parameters
    ----------
    values : ndarray of float32
    offsets : ndarray of int64, (V + 1,)
        Output of :func:`sort_by_code`.
    method : {"robust", "standard", "quantile", None}

    Notes
    -----
    The robust scale is the interquartile range / 1.349; where that is 0 (more than half of the
    numbers equal) the distance of the 5 % and 95 % quantiles / 3.29; where that is 0 too the
    standard deviation; and 1 for a constant code or one without numbers.
    """
    V = len(offsets) - 1
    scaling = Scaling.identity(V)
    if method is None or not len(values):
        return scaling
    if method == "standard":
        center, scale = segment_moments(values, offsets)
    else:
        center, scale = _robust(values, offsets)
    empty = np.isnan(center)
    scaling.center = np.where(empty, 0.0, center)
    # Below the rounding of float32 a spread is noise, not a scale.
    spread = scale > 1e-6 * np.abs(scaling.center)
    scaling.scale = np.where(empty | ~spread, 1.0, scale)
    if method == "quantile":
        _add_knots(scaling, values, offsets)
    return scaling


def _robust(values: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    center = segment_quantiles(values, offsets, 0.5)
    noise = 1e-6 * np.abs(center)
    scale = segment_quantiles(values, offsets, 0.75) - segment_quantiles(values, offsets, 0.25)
    scale /= _IQR_TO_SD
    flat = ~(scale > noise)
    if flat.any():
        inner = segment_quantiles(values, offsets, 0.95) - segment_quantiles(values, offsets, 0.05)
        scale = np.where(flat, inner / _INNER_90_TO_SD, scale)
        flat = ~(scale > noise)
    if flat.any():
        scale = np.where(flat, segment_moments(values, offsets)[1], scale)
    return center, scale


def _add_knots(scaling: Scaling, values: np.ndarray, offsets: np.ndarray) -> None:
    """Store each code's distribution as (value, normal score) pairs, equal values merged."""
    n = np.diff(offsets)
    V = len(n)
    levels = QUANTILE_LEVELS[:, None]
    knots = np.stack([segment_quantiles(values, offsets, p) for p in QUANTILE_LEVELS])  # (K, V)
    knots = knots.astype(np.float32).T.ravel()  # code after code
    with np.errstate(divide="ignore", invalid="ignore"):
        ranks = ((levels * (n - 1) + 0.5) / n).T.ravel()  # in (0, 1), rising with the level
    code = np.repeat(np.arange(V), len(levels))
    filled = np.repeat(n > 0, len(levels))
    knots, ranks, code = knots[filled], ranks[filled], code[filled]
    first = np.r_[True, (knots[1:] != knots[:-1]) | (code[1:] != code[:-1])]
    starts = np.flatnonzero(first)
    last = np.r_[starts[1:], len(knots)] - 1
    scaling.knot_values = knots[starts].astype(np.float64)
    scaling.knot_scores = ndtri((ranks[starts] + ranks[last]) / 2)
    scaling.knot_offsets = np.searchsorted(code[starts], np.arange(V + 1)).astype(np.int64)


def scale_values(
    token: np.ndarray,
    cleaned: np.ndarray,
    scaling: Scaling,
    *,
    numeric: np.ndarray,
    clip: float | None,
    quantile: bool,
    out: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Scale and clip cleaned values.

    Parameters
    ----------
    token : ndarray of int32, (E,)
    cleaned : ndarray of float32, (E,)
    numeric : ndarray of bool, (V,)
        Tokens that have numbers; values of the others become NaN.
    out : ndarray of float32, (E,), optional
        Receives the result; may be ``cleaned``.

    Returns
    -------
    scaled : ndarray of float32, (E,)
    clipped : ndarray of int64
        Positions of the events whose value was clipped.
    """
    center = np.where(numeric, scaling.center, np.nan)
    inverse = 1.0 / scaling.scale
    knots = _Knots(scaling.knot_offsets, scaling.knot_values, scaling.knot_scores)
    limit = np.inf if clip is None else clip
    largest = np.finfo(np.float32).max  # without clip, a huge value must not become infinite
    scaled = np.empty(len(cleaned), np.float32) if out is None else out
    clipped = []
    for block in blocks(len(cleaned)):
        t = token[block]
        c = center[t]
        if quantile:
            v = knots.interpolate(t, np.where(np.isnan(c), np.nan, cleaned[block]), scaling.scale)
        else:
            v = np.subtract(cleaned[block], c, out=c)
            v *= inverse[t]
        over = np.abs(v) > limit
        if over.any():
            clipped.append(np.flatnonzero(over) + block.start)
        scaled[block] = np.clip(v, -min(limit, largest), min(limit, largest), out=v)
    return scaled, np.concatenate(clipped) if clipped else np.empty(0, np.int64)


def unscale_values(
    token: np.ndarray,
    scaled: np.ndarray,
    scaling: Scaling,
    *,
    factor: np.ndarray,
    log: np.ndarray,
    quantile: bool,
) -> np.ndarray:
    """Undo :func:`scale_values` and :func:`clean_values`; clipped values come back at the limit."""
    knots = _Knots(scaling.knot_offsets, scaling.knot_scores, scaling.knot_values)
    raw = np.empty(len(scaled), np.float32)
    largest = np.finfo(np.float32).max
    for block in blocks(len(scaled)):
        t = token[block]
        if quantile:
            v = knots.interpolate(t, scaled[block].astype(np.float64), 1.0 / scaling.scale)
        else:
            v = scaled[block] * scaling.scale[t] + scaling.center[t]
        if log.any():
            with np.errstate(over="ignore"):
                np.expm1(v, out=v, where=log[t])
        v /= factor[t]
        raw[block] = np.clip(v, -largest, largest)
    return raw


@dataclass
class _Knots:
    """Piecewise linear functions of one code each, continued with slope 1 / ``run``."""

    offsets: np.ndarray  # (V + 1,)
    x: np.ndarray
    y: np.ndarray

    def __post_init__(self) -> None:
        code = np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))
        self.keys = code_value_keys(code, self.x)

    def interpolate(self, token: np.ndarray, x: np.ndarray, run: np.ndarray) -> np.ndarray:
        """Value at ``x`` of each event's function; identity for codes without knots."""
        y = np.array(x, np.float64)
        first, last = self.offsets[token], self.offsets[token + 1] - 1
        at = np.flatnonzero(~np.isnan(x) & (last >= first))
        if not len(at):
            return y
        t, x, first, last = token[at], y[at], first[at], last[at]
        below = np.searchsorted(self.keys, code_value_keys(t, x.astype(np.float32)), "right") - 1
        left = np.clip(below, first, np.maximum(last - 1, first))
        right = np.minimum(left + 1, last)
        x0, x1, y0, y1 = self.x[left], self.x[right], self.y[left], self.y[right]
        with np.errstate(invalid="ignore", divide="ignore"):
            inside = y0 + (x - x0) * ((y1 - y0) / (x1 - x0))
        # One knot: both ends are it, and the continuation covers everything.
        low, high = self.x[first], self.x[last]
        inside = np.where(x <= low, self.y[first] + (x - low) / run[t], inside)
        y[at] = np.where(x >= high, self.y[last] + (x - high) / run[t], inside)
        return y
