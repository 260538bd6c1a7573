"""Centre and scale of a column of numbers, in double precision."""

from __future__ import annotations

from typing import Any

import numpy as np

_IQR_TO_SD = 1.349  # interquartile range of a standard normal
_INNER_90_TO_SD = 3.2897  # distance of its 5 % and 95 % quantiles

_ROUNDING = 1e-14  # a spread this much smaller than the centre is the rounding of a mean


def learn_scale(numbers: np.ndarray, method: str | None) -> tuple[float, float]:
    """Centre and scale of one column, NaN left out.

    Parameters
    ----------
    numbers : ndarray of float64, (N,)
    method : {"standard", "robust", None}

    Returns
    -------
    center, scale : float
        ``"standard"``: mean and standard deviation.  ``"robust"``: median and interquartile range
        / 1.349; where that is 0 the distance of the 5 % and 95 % quantiles / 3.29, then the
        standard deviation.  The scale of a constant column is 1; without numbers, or with None,
        they are 0 and 1.
    """
    x = numbers[~np.isnan(numbers)]
    if method is None or not len(x):
        return 0.0, 1.0
    # Dividing by a power of two changes no digit, and squares of huge numbers stay finite.
    exponent = int(np.frexp(np.abs(x).max())[1]) - 1
    x = np.ldexp(x, -exponent)
    if method == "standard":
        center, spreads = x.mean(), [x.std()]
    else:
        low, first, center, third, high = np.quantile(x, [0.05, 0.25, 0.5, 0.75, 0.95])
        spreads = [(third - first) / _IQR_TO_SD, (high - low) / _INNER_90_TO_SD, x.std()]
    spread = next((s for s in spreads if s > _ROUNDING * abs(center)), None)
    limit = np.finfo(np.float64).max
    with np.errstate(over="ignore"):
        scale = 1.0 if spread is None else min(float(np.ldexp(spread, exponent)), limit)
    return float(np.ldexp(center, exponent)), scale or 1.0


def scale_numbers(numbers: np.ndarray, center: float, scale: float, dtype: Any) -> np.ndarray:
    """``(numbers - center) / scale``, NaN kept; huge values stay finite in ``dtype``.  (N,)."""
    limit = float(np.finfo(dtype).max)
    with np.errstate(over="ignore"):
        scaled = numbers - center
        scaled /= scale
    return np.clip(scaled, -limit, limit, out=scaled)
