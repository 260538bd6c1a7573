"""Labels drawn last: what a history says of its label, as far as real ones have shown."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_predict

from tawt_sklearn.exceptions import SaveFileError

MOST_CLASSES = 10
"""A label of more levels is an amount rather than a class."""

STRENGTHS = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 1.0)
"""Inverse penalties, of which cross-validation chooses."""

N_FOLDS = 5

MOST_PRODUCTS = 16
"""Products of two columns that may count."""

N_QUANTILES = 33
"""By which log-odds of the levels of rows are kept."""

N_ROUNDS, MOST_SHIFT = 50, 3.0
"""How often frequencies of levels are set right, and how far the score of a level may move."""


@dataclass(frozen=True)
class LabelModel:
    """Logistic regression of a label's level on columns about a history, and on some products.

    A history is written after its label, one word among hundreds, and follows it weakly.  Drawing
    the label again from what has been written makes the two belong together as in the data: a step
    of Gibbs sampling.  Products of two columns come in where what is left of the label without them
    goes along with them more than the largest of so many would by chance.

    What is written is not quite like the data: :meth:`calibrated` learns from histories that were
    written for labels how far it is off.  Then levels are as frequent as in the data, and of
    several histories that were written for a label one is chosen so that the log-odds of the label
    are distributed as in the data (:meth:`log_ratio`).

    Attributes
    ----------
    levels : (L,) int64
        Of the label's column.
    often : (L,) float64
        Their shares of the data.
    pairs : (2, Q) int64
        Columns whose products count.
    center, scale : (K + Q,) float64
        Of the columns and the products.
    weight : (L, K + Q) float64
    intercept : (L,) float64
    usual : (L, N_QUANTILES) float64
        Log-odds of each level that rows which have it usually have, by models that have not seen
        them: quantiles.
    shift : (L,) float64
        What is added to the scores of what was written.
    tilt : (2, L) float64
        Of histories that were written for a level, by their log-odds of it and the square of
        these: the logarithm of how much more often the data have such.
    """

    levels: NDArray[np.int64]
    often: NDArray[np.float64]
    pairs: NDArray[np.int64]
    center: NDArray[np.float64]
    scale: NDArray[np.float64]
    weight: NDArray[np.float64]
    intercept: NDArray[np.float64]
    usual: NDArray[np.float64]
    shift: NDArray[np.float64]
    tilt: NDArray[np.float64]

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
        had = np.searchsorted(levels, level)
        told = unseen_log_odds(model, white, had)
        share = np.linspace(0.5, N_QUANTILES - 0.5, N_QUANTILES) / N_QUANTILES
        usual = np.stack([np.quantile(told[had == k], share) for k in range(len(levels))])
        shift, *tilt = np.zeros((3, len(levels)))
        return cls(
            levels=levels,
            often=counts / counts.sum(),
            pairs=pairs,
            center=center,
            scale=scale,
            weight=weight,
            intercept=intercept,
            usual=usual,
            shift=shift,
            tilt=np.stack(tilt),
        )

    def calibrated(
        self, table: NDArray, said: NDArray[np.int64], weight: NDArray[np.float64]
    ) -> LabelModel:
        """Learn from columns (n, K) of histories that were written for levels ``said`` (n,).

        Levels keep their shares of the data where histories are written for as many of each.  Where
        some level was written for no history, nothing is learned.

        Parameters
        ----------
        weight : (n,) float64
            How often each is kept, above 0.
        """
        which = said[:, np.newaxis] == self.levels  # (n, L)
        if not which.any(0).all():
            return self
        scores = self.log_chances(table)
        counts = weight * (which @ (self.often / (weight @ which)))  # (n,) of each row, 1 in all
        shift = np.zeros(len(self.levels))
        for _ in range(N_ROUNDS):
            likely = log_softmax(scores + shift, axis=1)
            shift += np.log(self.often) - logsumexp(likely, axis=0, b=counts[:, np.newaxis])
            shift = (shift - shift.mean()).clip(-MOST_SHIFT, MOST_SHIFT)
        odds, tilt = log_odds(scores), np.zeros((2, len(self.levels)))
        for k in range(len(self.levels)):
            written = odds[which[:, k], k].clip(self.usual[k, 0], self.usual[k, -1])
            tilt[:, k] = log_ratio(self.usual[k], written, weight[which[:, k]])
        return replace(self, shift=shift, tilt=tilt)

    def log_chances(self, table: NDArray) -> NDArray[np.float64]:
        """(n, L) logarithms of how likely each level is, of columns (n, K)."""
        K = table.shape[1]
        white = (np.asarray(table, np.float64) - self.center[:K]) / self.scale[:K]
        both = white[:, self.pairs[0]] * white[:, self.pairs[1]]
        white = np.hstack([white, (both - self.center[K:]) / self.scale[K:]])
        return log_softmax(white @ self.weight.T + self.intercept, axis=1)

    def chances(self, table: NDArray) -> NDArray[np.float64]:
        """(n, L) how likely each level is, of columns (n, K) of what was written."""
        return np.exp(log_softmax(self.log_chances(table) + self.shift, axis=1))

    def draw(self, table: NDArray, random: np.random.RandomState) -> NDArray[np.int64]:
        """A level for each row of columns (n, K)."""
        above = self.chances(table).cumsum(1) < random.random_sample((len(table), 1))
        return self.levels[above.sum(1).clip(max=len(self.levels) - 1)]

    def log_ratio(self, table: NDArray, level: NDArray[np.int64]) -> NDArray[np.float64]:
        """(n,) how much more often subjects with a level have histories like one that was written.

        Parameters
        ----------
        table : (n, K) float64
            Columns of histories.
        level : (n,) int64
            What each was written for.
        """
        at = np.searchsorted(self.levels, level)
        odds = log_odds(self.log_chances(table))[np.arange(len(level)), at]
        odds = odds.clip(self.usual[at, 0], self.usual[at, -1])
        return (self.tilt[:, at] * [odds, np.square(odds)]).sum(0)

    def check(self, n_columns: int, n_levels: int) -> None:
        """Refuse a model on other columns than so many, or of other levels than so many."""
        L, Q, K = len(self.levels), self.pairs.shape[-1], len(self.center)
        shapes = [self.weight.shape, self.intercept.shape, self.scale.shape, self.pairs.shape]
        shapes += [self.often.shape, self.shift.shape, self.tilt.shape, self.usual.shape]
        expected = [(L, K), (L,), (K,), (2, Q), (L,), (L,), (2, L), (L, N_QUANTILES)]
        known = np.isin(self.pairs, np.arange(n_columns)).all()
        if shapes != expected or K - Q != n_columns or not known:
            raise SaveFileError("Expected a model of labels on summaries of histories.")
        told = [self.weight, self.intercept, self.center, self.scale, self.often, self.usual]
        if not all(np.isfinite(part).all() for part in [*told, self.shift, self.tilt]):
            raise SaveFileError("Expected a model of labels of numbers.")
        rising = (np.diff(self.levels) > 0).all()
        if L < 2 or not rising or self.levels[0] < -1 or self.levels[-1] >= n_levels:
            raise SaveFileError("Expected a model of labels that the grammar has.")


def log_odds(log_chances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of logarithms of chances, within what can be told apart from never and always."""
    chances = np.exp(log_chances).clip(1e-9, 1 - 1e-9)
    return np.log(chances / (1 - chances))


def unseen_log_odds(
    model: LogisticRegression, white: NDArray[np.float64], had: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(n,) of the level that each row has, by models of the other rows; of all where it is rare."""
    least = np.bincount(had).min()
    if least < 2:
        return log_odds(model.predict_log_proba(white))[np.arange(len(had)), had]
    folds = StratifiedKFold(min(N_FOLDS, least), shuffle=True, random_state=0)
    told = cross_val_predict(clone(model), white, had, cv=folds, method="predict_log_proba")
    return log_odds(told)[np.arange(len(had)), had]


def log_ratio(
    of_data: NDArray[np.float64], written: NDArray[np.float64], weight: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(2,) what numbers x and x^2 say of how much more often the data have x than was written.

    By logistic regression between the two (Sugiyama, Suzuki & Kanamori, "Density Ratio Estimation
    in Machine Learning", 2012).
    """
    x = np.concatenate([of_data, written])
    table = np.stack([x, x**2], axis=1)
    scale = spread(table)
    is_of_data = np.arange(len(x)) < len(of_data)
    counts = np.append(np.ones(len(of_data)), weight / weight.mean())
    model = LogisticRegression(C=1.0, class_weight="balanced")
    model.fit(table / scale, is_of_data, sample_weight=counts)
    return np.asarray(model.coef_[0] / scale)


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
