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

from tawt_sklearn.events.ragged import range_positions

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
        return cls(np.zeros(V), np.ones(V), np.zeros(V + 1, np.int64), np.empty(0), np.empty(0))


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
        Index into the tables.
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
        c = code[block].astype(np.intp)
        v = value[block] * factor.take(c)
        v32 = v.astype(np.float32)
        out = (v32 < low.take(c)) | (v32 > high.take(c))
        v[out] = np.nan
        if log.any():
            np.log1p(v, out=v, where=log.take(c))
        cleaned[block] = v
        outside.append(np.flatnonzero(out) + block.start)
    return cleaned, np.concatenate(outside) if outside else np.empty(0, np.int64)


@dataclass
class SortedNumbers:
    """The numbers of each of ``V`` codes in rising order, NaN left out.

    Kept as 64-bit keys (code above, the order-preserving bits of the float32 below): one plain
    sort of these is several times faster than an argsort and a gather, and there is no loop over
    codes.  Only what is looked at is turned back into floats.

    Attributes
    ----------
    keys : ndarray of uint64
    offsets : ndarray of int64, (V + 1,)
    """

    keys: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of(cls, code: np.ndarray, value: np.ndarray, V: int) -> SortedNumbers:
        """Sort the numbers of flat events; ``code`` (E,) in ``range(V)``, ``value`` (E,)."""
        present = ~np.isnan(value)
        if not present.all():
            code, value = code[present], value[present]
        keys = code_value_keys(code, value)
        keys.sort()
        borders = np.arange(V + 1, dtype=np.uint64) << np.uint64(32)
        return cls(keys, np.searchsorted(keys, borders).astype(np.int64))

    @property
    def counts(self) -> np.ndarray:
        """Numbers per code, (V,)."""
        return np.diff(self.offsets)

    def at(self, positions: np.ndarray) -> np.ndarray:
        """Numbers at these positions, float64."""
        bits = self.keys[positions].astype(np.uint32)  # drops the code
        bits ^= np.where(bits & _SIGN, _SIGN, np.uint32(0xFFFFFFFF))
        return bits.view(np.float32).astype(np.float64)

    def quantiles(self, level: float) -> np.ndarray:
        """Linearly interpolated quantile of each code, NaN where it has no number; (V,)."""
        n = self.counts
        if not len(self.keys):
            return np.full(len(n), np.nan)
        position = np.maximum(n - 1, 0) * level
        lower = position.astype(np.int64)
        upper = np.minimum(lower + 1, np.maximum(n - 1, 0))
        first = np.minimum(self.offsets[:-1], len(self.keys) - 1)  # codes without numbers
        a, b = self.at(first + lower * (n > 0)), self.at(first + upper * (n > 0))
        return np.where(n > 0, a + (position - lower) * (b - a), np.nan)

    def moments(self, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and population standard deviation (two passes); NaN where not wanted or empty."""
        n = self.counts
        mean, sd = np.full(len(n), np.nan), np.full(len(n), np.nan)
        wanted = wanted & (n > 0)
        if wanted.any():
            positions, offsets = range_positions(self.offsets[:-1][wanted], n[wanted])
            numbers, starts, n = self.at(positions), offsets[:-1], n[wanted]
            mean[wanted] = np.add.reduceat(numbers, starts) / n
            numbers -= np.repeat(mean[wanted], n)
            numbers *= numbers
            sd[wanted] = np.sqrt(np.add.reduceat(numbers, starts) / n)
        return mean, sd


_SIGN = np.uint32(0x80000000)


def code_value_keys(code: np.ndarray, value: np.ndarray) -> np.ndarray:
    """64-bit integers in the order of (code, value); codes >= 0, values not NaN."""
    keys = np.empty(len(code), np.uint64)
    for block in blocks(len(code)):
        bits = (value[block] + np.float32(0)).astype(np.float32, copy=False).view(np.uint32)
        # Positive floats sort as integers once above the negative ones, which sort backwards.
        # Adding 0 has made -0 a 0.
        bits ^= (bits.view(np.int32) >> np.int32(31)).view(np.uint32) | _SIGN
        part = code[block].astype(np.uint64)
        part <<= np.uint64(32)
        part |= bits
        keys[block] = part
    return keys


def fit_scaling(numbers: SortedNumbers, method: str | None) -> Scaling:
    """Learn the scaling of every code from its sorted numbers.

    Parameters
    ----------
    numbers : SortedNumbers
    method : {"robust", "standard", "quantile", None}

    Notes
    -----
    The robust scale is the interquartile range / 1.349; where that is 0 (more than half of the
    numbers equal) the distance of the 5 % and 95 % quantiles / 3.29; where that is 0 too the
    standard deviation; and 1 for a constant code or one without numbers.
    """
    filled = numbers.counts > 0
    scaling = Scaling.identity(len(filled))
    if method is None or not filled.any():
        return scaling
    if method == "standard":
        center, scale = numbers.moments(filled)
    else:
        center, scale = _robust(numbers, filled)
    scaling.center = np.where(filled, center, 0.0)
    scaling.scale = np.where(filled & _is_spread(scale, center), scale, 1.0)
    if method == "quantile":
        _add_knots(scaling, numbers)
    return scaling


def _is_spread(scale: np.ndarray, center: np.ndarray) -> np.ndarray:
    # Below the rounding of float32 a spread is noise.
    return scale > 1e-6 * np.abs(center)


def _robust(numbers: SortedNumbers, filled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    center = numbers.quantiles(0.5)
    scale = (numbers.quantiles(0.75) - numbers.quantiles(0.25)) / _IQR_TO_SD
    flat = filled & ~_is_spread(scale, center)
    if flat.any():
        inner = (numbers.quantiles(0.95) - numbers.quantiles(0.05)) / _INNER_90_TO_SD
        scale = np.where(flat, inner, scale)
        flat = filled & ~_is_spread(scale, center)
    if flat.any():
        scale = np.where(flat, numbers.moments(flat)[1], scale)
    return center, scale


def _add_knots(scaling: Scaling, numbers: SortedNumbers) -> None:
    """Store each code's distribution as (value, normal score) pairs, equal values merged."""
    n = numbers.counts
    V = len(n)
    levels = QUANTILE_LEVELS[:, None]
    knots = np.stack([numbers.quantiles(p) for p in QUANTILE_LEVELS])  # (K, V)
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
    # Without clip, a huge value must still not become infinite.
    limit = float(np.finfo(np.float32).max) if clip is None else clip
    scaled = np.empty(len(cleaned), np.float32) if out is None else out
    clipped = []
    for block in blocks(len(cleaned)):
        t = token[block].astype(np.intp)
        v = center.take(t)
        if quantile:
            v = knots.interpolate(t, np.where(np.isnan(v), np.nan, cleaned[block]), scaling.scale)
        else:
            np.subtract(cleaned[block], v, out=v)
            v *= inverse.take(t)
        if np.fmax.reduce(v) > limit or np.fmin.reduce(v) < -limit:
            clipped.append(np.flatnonzero(np.abs(v) > limit) + block.start)
            np.clip(v, -limit, limit, out=v)
        scaled[block] = v
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
