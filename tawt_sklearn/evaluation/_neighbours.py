"""Subjects as points in a space, and how near they are to each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.metrics.pairwise import euclidean_distances

from tawt_sklearn.evaluation._frames import Histories
from tawt_sklearn.evaluation.features import Layout
from tawt_sklearn.exceptions import DataError

CHUNK_CELLS = 4_000_000
"""Distances computed at once."""


@dataclass(frozen=True, eq=False)
class Space:
    """Standardised features of subjects, scaled as one data set says.

    What is missing is at the mean, and told by an indicator; features that all lack the same
    subjects share one.  Indicators stay 0 and 1: divided by the standard deviation, the rarest of
    them would decide all distances.
    """

    layout: Layout
    center: np.ndarray
    scale: np.ndarray
    indicators: np.ndarray

    @classmethod
    def of(cls, histories: Histories) -> Space:
        """Learn the scales."""
        layout = Layout.learn(histories)
        table = layout.compute(histories).to_numpy()
        missing = np.isnan(table)
        n = np.maximum((~missing).sum(axis=0), 1)
        center = np.where(missing, 0.0, table).sum(axis=0) / n
        residual = np.where(missing, 0.0, table - center)
        scale = np.sqrt((residual**2).sum(axis=0) / n)
        _, first = np.unique(missing, axis=1, return_index=True)
        return cls(layout, center, np.where(scale > 1e-12, scale, 1.0), np.sort(first))

    def points(self, histories: Histories) -> np.ndarray:
        """float64 (B, D)."""
        table = self.layout.compute(histories).to_numpy()
        missing = np.isnan(table)
        scaled = np.where(missing, 0.0, (table - self.center) / self.scale)
        return np.hstack([scaled, missing[:, self.indicators]])


def nearest(
    points: np.ndarray,
    others: np.ndarray,
    among: list[np.ndarray] | None = None,
    *,
    themselves: bool = False,
) -> np.ndarray:
    """Distance of each point to the nearest of others.

    Parameters
    ----------
    points : (N, D)
    others : (M, D)
    among : list of integer arrays, default=None
        Subsets of `others`, each of which gives a row of the result; by default all of them.
    themselves : bool, default=False
        `others` are the points; none is its own neighbour.

    Returns
    -------
    ndarray (len(among), N)

    Examples
    --------
    >>> nearest(np.array([[0.0], [4.0]]), np.array([[1.0], [9.0]]))
    array([[1., 3.]])
    """
    subsets = [np.arange(len(others))] if among is None else among
    result = np.empty((len(subsets), len(points)))
    step = max(1, CHUNK_CELLS // max(len(others), 1))
    squares = (others**2).sum(axis=1)
    for begin in range(0, len(points), step):
        part = points[begin : begin + step]
        distance = euclidean_distances(part, others, Y_norm_squared=squares[None], squared=True)
        # Copies are at no distance, whatever rounding says.
        distance[distance < 1e-11 * (squares + (part**2).sum(axis=1)[:, None])] = 0.0
        if themselves:
            at = np.arange(len(part))
            distance[at, begin + at] = np.inf
        for k, subset in enumerate(subsets):
            result[k, begin : begin + step] = distance[:, subset].min(axis=1)
    return np.sqrt(result)


def equal_draws(
    sizes: tuple[int, ...], n_draws: int, rng: np.random.Generator
) -> list[tuple[np.ndarray, ...]]:
    """Equally many members of each group; one draw where the groups are of one size already."""
    n = min(sizes)
    if len(set(sizes)) == 1:
        n_draws = 1
    return [tuple(np.sort(rng.permutation(size)[:n]) for size in sizes) for _ in range(n_draws)]


def check_draws(n_draws: int) -> int:
    """The number of draws."""
    if not (isinstance(n_draws, int | np.integer) and n_draws > 0):
        raise DataError(f"Expected n_draws to be a whole number above 0. Got {n_draws!r}.")
    return int(n_draws)


def check_enough(*named: tuple[str, Histories], at_least: int = 2) -> None:
    """Distances between subjects need a few of them."""
    for name, histories in named:
        if len(histories) < at_least:
            raise DataError(
                f"Expected at least {at_least} subjects in {name}. Got {len(histories)}. Give more."
            )
