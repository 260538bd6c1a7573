"""Labels drawn last: what a history says of its label, as far as real ones have shown."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

MOST_CLASSES = 10
"""A label of more levels is an amount rather than a class."""


@dataclass(frozen=True)
class LabelModel:
    """Logistic regression of a label's level on the latent.

    A history is written after its label, one word among hundreds, and follows it weakly.  Drawing
    the label again from what has been written makes the two belong together as in the data: a step
    of Gibbs sampling.

    Attributes
    ----------
    levels : (L,) int64
        Of the label's column.
    center, scale : (d,) float64
        Of the latent.
    weight : (L, d) float64
    intercept : (L,) float64
    """

    levels: NDArray[np.int64]
    center: NDArray[np.float64]
    scale: NDArray[np.float64]
    weight: NDArray[np.float64]
    intercept: NDArray[np.float64]

    @classmethod
    def fit(cls, z: NDArray, level: NDArray[np.int64]) -> LabelModel | None:
        """Learn from latents (n, d) and levels (n,); None where these are no classes."""
        z = np.asarray(z, np.float64)
        levels = np.unique(level)
        if not 2 <= len(levels) <= min(MOST_CLASSES, len(level) // 2):
            return None
        center, scale = z.mean(0), z.std(0) + 1e-6
        model = LogisticRegression(max_iter=1000).fit((z - center) / scale, level)
        weight, intercept = model.coef_, model.intercept_
        if len(levels) == 2:  # which are told by one score
            weight = np.concatenate([np.zeros_like(weight), weight])
            intercept = np.concatenate([np.zeros_like(intercept), intercept])
        return cls(levels, center, scale, weight, intercept)

    def chances(self, z: NDArray) -> NDArray[np.float64]:
        """(n, L) how likely each level is, of latents (n, d)."""
        white = (np.asarray(z, np.float64) - self.center) / self.scale
        return softmax(white @ self.weight.T + self.intercept, axis=1)

    def draw(self, z: NDArray, random: np.random.RandomState) -> NDArray[np.int64]:
        """A level for each latent (n, d)."""
        above = self.chances(z).cumsum(1) < random.random_sample((len(z), 1))
        return self.levels[above.sum(1).clip(max=len(self.levels) - 1)]
