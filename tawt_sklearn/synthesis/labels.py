"""Labels drawn last: what a history says of its label, as far as real ones have shown."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold

MOST_CLASSES = 10
"""A label of more levels is an amount rather than a class."""

STRENGTHS = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 1.0)
"""Inverse penalties, of which cross-validation chooses."""

N_FOLDS = 5

MOST_PRODUCTS = 16
"""Products of two columns that may count."""


@dataclass(frozen=True)
class LabelModel:
    """Logistic regression of a label's level on columns about a history, and on some products.

    A history is written after its label, one word among hundreds, and follows it weakly.  Drawing
    the label again from what has been written makes the two belong together as in the data: a step
    of Gibbs sampling.  Products of two columns come in where what is left of the label without them
    goes along with them more than the largest of so many would by chance.

    Attributes
    ----------
    levels : (L,) int64
        Of the label's column.
    pairs : (2, Q) int64
        Columns whose products count.
    center, scale : (K + Q,) float64
        Of the columns and the products.
    weight : (L, K + Q) float64
    intercept : (L,) float64
    """

    levels: NDArray[np.int64]
    pairs: NDArray[np.int64]
    center: NDArray[np.float64]
    scale: NDArray[np.float64]
    weight: NDArray[np.float64]
    intercept: NDArray[np.float64]

    @classmethod
    def fit(
        cls, table: NDArray, level: NDArray[np.int64], multiplied: NDArray[np.int64]
    ) -> LabelModel | None:
        """Learn from columns (n, K) and levels (n,); None where these are no classes.

        Parameters
        ----------
        multiplied : (M,) int64
            Columns whose products may count.
        """
        table = np.asarray(table, np.float64)
        levels, counts = np.unique(level, return_counts=True)
        if not 2 <= len(levels) <= min(MOST_CLASSES, len(level) // 2):
            return None
        center, scale = table.mean(0), spread(table)
        white = (table - center) / scale
        model = chosen(white, level, counts.min())
        left = (level[:, np.newaxis] == levels) - model.predict_proba(white)
        pairs = telling(white, left, multiplied)
        if pairs.size:
            both = white[:, pairs[0]] * white[:, pairs[1]]
            center, scale = np.append(center, both.mean(0)), np.append(scale, spread(both))
            white = np.hstack([white, (both - both.mean(0)) / spread(both)])
            model = chosen(white, level, counts.min())
        weight, intercept = model.coef_, model.intercept_
        if len(levels) == 2:  # which are told by one score
            weight = np.concatenate([np.zeros_like(weight), weight])
            intercept = np.concatenate([np.zeros_like(intercept), intercept])
        return cls(levels, pairs, center, scale, weight, intercept)

    def chances(self, table: NDArray) -> NDArray[np.float64]:
        """(n, L) how likely each level is, of columns (n, K)."""
        K = table.shape[1]
        white = (np.asarray(table, np.float64) - self.center[:K]) / self.scale[:K]
        both = white[:, self.pairs[0]] * white[:, self.pairs[1]]
        white = np.hstack([white, (both - self.center[K:]) / self.scale[K:]])
        return softmax(white @ self.weight.T + self.intercept, axis=1)

    def draw(self, table: NDArray, random: np.random.RandomState) -> NDArray[np.int64]:
        """A level for each row of columns (n, K)."""
        above = self.chances(table).cumsum(1) < random.random_sample((len(table), 1))
        return self.levels[above.sum(1).clip(max=len(self.levels) - 1)]


def spread(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard deviations of columns; 1 where all is the same."""
    found = table.std(0)
    return np.where(found > 1e-9, found, 1.0)


def chosen(white: NDArray, level: NDArray[np.int64], n_rarest: int) -> LogisticRegression:
    """Logistic regression, as strong as leaves labels of other folds most likely."""
    model = LogisticRegression(C=1e-2, max_iter=1000)
    if n_rarest < 2:
        return model.fit(white, level)
    folds = StratifiedKFold(min(N_FOLDS, n_rarest), shuffle=True, random_state=0)
    search = GridSearchCV(model, {"C": STRENGTHS}, scoring="neg_log_loss", cv=folds)
    return search.fit(white, level).best_estimator_


def telling(
    white: NDArray[np.float64], left: NDArray[np.float64], multiplied: NDArray[np.int64]
) -> NDArray[np.int64]:
    """(2, Q) columns whose products go along with what is left of the levels (n, L)."""
    x = white[:, multiplied]
    M = len(multiplied)
    first, second = np.triu_indices(M, 1)
    if not len(first):
        return np.empty((2, 0), np.int64)
    most = np.zeros(len(first))
    for rest in left.T:
        together = (x * rest[:, np.newaxis]).T @ x
        size = (x * rest[:, np.newaxis]).T ** 2 @ x**2
        told = np.abs(together) / np.sqrt(size.clip(min=1e-9))
        most = np.maximum(most, told[first, second])
    limit = np.sqrt(2 * np.log(len(most) * left.shape[1])) + 0.5
    best = np.argsort(-most, kind="stable")[:MOST_PRODUCTS]
    best = best[most[best] > limit]
    return np.stack([multiplied[first[best]], multiplied[second[best]]])
