"""What every measure returns: a number, its uncertainty over subjects, and the parts behind it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from tawt_sklearn.exceptions import DataError

Weights = np.ndarray
RandomState = int | np.random.Generator | np.random.RandomState | None

LEVEL = 0.95
"""Share of the bootstrap between ``low`` and ``high`` of a measure."""


@dataclass(frozen=True, eq=False)
class Measure:
    """One measured number, with an interval and what it was made of.

    Parameters
    ----------
    value : float
        The headline.  NaN where it is undefined for the data.
    low, high : float, default=NaN
        Ends of a 95 % interval from resampling subjects; NaN where none was asked for.
    details : DataFrame or Series, default=None
        The parts: one row per code, attack, feature or figure.
    extra : mapping, default={}
        Further figures and tables, by name.

    Notes
    -----
    The interval is that of the percentile bootstrap, moved so that its median is the value.
    Resampling adds noise of its own, and a distance can only grow by noise: without the move, the
    interval around the distance between two equal samples would not even hold its value of 0.

    Examples
    --------
    >>> measure = Measure(0.523, 0.49, 0.5601)
    >>> measure
    Measure(.523 [.490, .560])
    >>> float(measure) < 0.6
    True
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    details: Any = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __float__(self) -> float:
        return float(self.value)

    def __repr__(self) -> str:
        interval = "" if math.isnan(self.low) else f" [{_short(self.low)}, {_short(self.high)}]"
        return f"Measure({_short(self.value)}{interval})"


def _short(number: float) -> str:
    """Three decimals, and no zero before the point."""
    text = f"{number:.3f}"
    text = "0.000" if text == "-0.000" else text
    for zero, bare in (("0.", "."), ("-0.", "-.")):
        if text.startswith(zero):
            return bare + text[len(zero) :]
    return text


def generator(random_state: RandomState) -> np.random.Generator:
    """A generator of its own, so that the global random state is neither used nor changed.

    Raises
    ------
    DataError
        Something that is no seed.

    Examples
    --------
    >>> int(generator(3).integers(100)) == int(generator(3).integers(100))
    True
    """
    if isinstance(random_state, np.random.RandomState):
        return np.random.default_rng(random_state.randint(2**31))
    try:
        return np.random.default_rng(random_state)
    except (TypeError, ValueError) as error:
        raise DataError(
            "Expected random_state to be None, an integer of 0 or more, a RandomState or a "
            f"Generator. Got {random_state!r}."
        ) from error


def seed(rng: np.random.Generator) -> int:
    """A seed for an estimator of scikit-learn."""
    return int(rng.integers(2**31))


def check_bootstrap(n_bootstrap: Any) -> int:
    """The number of resamples, 0 for no interval."""
    if isinstance(n_bootstrap, bool) or not isinstance(n_bootstrap, int | np.integer):
        n_bootstrap = -1 if not isinstance(n_bootstrap, float) else n_bootstrap
    if n_bootstrap < 0 or n_bootstrap != int(n_bootstrap):
        raise DataError(
            "Expected n_bootstrap to be a whole number of resamples, 0 for no interval. "
            f"Got {n_bootstrap!r}."
        )
    return int(n_bootstrap)


def measured(
    statistic: Callable[..., float],
    sizes: tuple[int, ...],
    *,
    n_bootstrap: int,
    rng: np.random.Generator,
    bounds: tuple[float, float] = (0.0, 1.0),
    details: pd.DataFrame | pd.Series | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Measure:
    """Evaluate a statistic, and again on subjects drawn with replacement.

    Subjects are resampled by giving each a weight, the number of times it was drawn: whatever the
    statistic needs of a subject is counted once and for all, so that a resample costs little.

    Parameters
    ----------
    statistic : callable
        Takes one array of weights (B,) for each group of subjects.
    sizes : tuple of int
        Number of subjects of each group.
    bounds : pair of float
        The range that the statistic cannot leave.
    """
    value = float(statistic(*(np.ones(size) for size in sizes)))
    low = high = math.nan
    if check_bootstrap(n_bootstrap) and not math.isnan(value):
        draws = np.array(
            [statistic(*(_drawn(size, rng) for size in sizes)) for _ in range(n_bootstrap)]
        )
        draws = draws[~np.isnan(draws)]
        if len(draws):
            low, high = interval(value, draws, bounds)
    return Measure(value, low, high, details, dict(extra or {}))


def interval(value: float, draws: np.ndarray, bounds: tuple[float, float]) -> tuple[float, float]:
    """Percentiles of the resamples, moved to the value; see :class:`Measure`."""
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(draws, [tail, 1 - tail]) - np.median(draws) + value
    return float(max(low, bounds[0])), float(min(high, bounds[1]))


def _drawn(size: int, rng: np.random.Generator) -> Weights:
    """How often each of `size` subjects comes up in as many draws; float64 (B,)."""
    return np.bincount(rng.integers(size, size=size), minlength=size).astype(np.float64)
