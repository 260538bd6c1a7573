"""How much more often the data have histories like one than such are written."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_expit
from sklearn.base import clone
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.model_selection import StratifiedGroupKFold

from tawt_sklearn.exceptions import SaveFileError
from tawt_sklearn.synthesis.beginnings import applied
from tawt_sklearn.synthesis.grammar import Grammar
from tawt_sklearn.synthesis.sentences import Sentences
from tawt_sklearn.synthesis.summaries import N_OF_COURSE, courses, steps, summaries, width

BOOSTING = GradientBoostingClassifier(
    n_estimators=400,
    learning_rate=0.08,
    max_depth=3,
    min_samples_leaf=10,
    subsample=0.5,
    max_features="sqrt",
)
"""Tells histories that were written from those of the data."""

N_FOLDS = 5

MOST_POWER, N_POWERS = 3.0, 9
"""Powers of the ratio, of which one is chosen."""

MOST_ROWS, MOST_VALUE = 20_000, 100.0
"""Rows of the data that are learned from, and how much a leaf may say."""


def appearance(sentences: Sentences, grammar: Grammar) -> NDArray[np.float32]:
    """(n, A) what histories are told apart by: what happened in each, when, and in what steps."""
    parts = [part(sentences, grammar) for part in (summaries, courses, steps)]
    return np.concatenate(parts, axis=1, dtype=np.float32)


def width_of_appearance(grammar: Grammar) -> int:
    """Number of columns of :func:`appearance`."""
    return width(grammar) + N_OF_COURSE + 2 * len(grammar.charted)


@dataclass(frozen=True)
class DensityRatio:
    """Boosted trees whose sum is the logarithm of the ratio.

    Where histories are told from those of the data with chances p and 1 - p, these are in the ratio
    of the two densities; of several that were written one is chosen in proportion to it, by
    sampling importance resampling.  See Azadi et al., "Discriminator Rejection Sampling", ICLR
    2019, and Turner et al., "Metropolis-Hastings Generative Adversarial Networks", ICML 2019.

    There are T trees of N nodes in all, on the columns of :func:`appearance`.

    Attributes
    ----------
    nodes : (T + 1,) int64
        First node of each tree.
    left, right, column : (N,) int64
        Children of each node, counted from the first of the tree, -1 of leaves, and the column that
        they differ by.
    threshold, value : (N,) float64
        What goes left is at most that; what is added to the logarithm in a leaf.
    n_candidates : int
        Of which one is to be chosen.
    power : float
        What the ratio is raised to then.  So few cannot make up for all that is rare.
    """

    nodes: NDArray[np.int64]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    column: NDArray[np.int64]
    threshold: NDArray[np.float64]
    value: NDArray[np.float64]
    n_candidates: int
    power: float

    @classmethod
    def fit(
        cls,
        of_data: NDArray[np.float32],
        written: NDArray[np.float32],
        weight: NDArray[np.float64],
        owner: NDArray[np.int64],
        seed: int,
    ) -> tuple[DensityRatio, NDArray[np.float64]]:
        """Learn from columns (n, A) of the data and (m, A) of what was written.

        There are as many trees as make rows that they have not seen most likely: none where the two
        cannot be told apart for sure.

        Parameters
        ----------
        weight : (m,) float64
            What each that was written counts.
        owner : (m,) int64
            Whose candidate each is, counted from 0: those who are chosen are to score like the
            data, to which end the ratio is raised to a power of 1 to :data:`MOST_POWER`.

        Returns
        -------
        ratio : DensityRatio
        log_ratio : (m,) float64
            Of what was written, raised to that power, by trees that have not seen it.
        """
        if len(of_data) > MOST_ROWS:
            some = np.random.RandomState(seed).choice(len(of_data), MOST_ROWS, replace=False)
            of_data = of_data[some]
        n, m = len(of_data), len(written)
        table, is_real = np.concatenate([of_data, written]), np.arange(n + m) < n
        weights = np.where(is_real, m / n, np.append(np.ones(n), weight / weight.mean()))
        model = clone(BOOSTING).set_params(init="zero", random_state=seed)
        folds = StratifiedGroupKFold(N_FOLDS, shuffle=True, random_state=seed)
        groups = np.append(-1 - np.arange(n), owner)  # candidates begin alike
        told = np.zeros((n + m, model.n_estimators + 1))
        for seen, unseen in folds.split(table, is_real, groups):
            fitted = clone(model).fit(table[seen], is_real[seen], sample_weight=weights[seen])
            for k, score in enumerate(fitted.staged_decision_function(table[unseen]), start=1):
                told[unseen, k] = score.ravel()
        likely = log_expit(np.where(is_real[:, np.newaxis], told, -told))
        n_trees = int((weights @ likely).argmax())
        gained = weights * (likely[:, n_trees] - likely[:, 0])
        if gained.sum() < np.sqrt(gained @ gained):  # its standard error
            n_trees = 0
        real, unseen = told[:n, n_trees].mean(), told[n:, n_trees]
        powers = np.linspace(1, MOST_POWER, N_POWERS)
        scores = [
            np.average(unseen, weights=weight * shares(power * unseen, owner)) for power in powers
        ]
        power = float(powers[np.abs(np.array(scores) - real).argmin()])
        trees = []
        if n_trees:
            model.set_params(n_estimators=n_trees).fit(table, is_real, sample_weight=weights)
            trees = [one.tree_ for one in model.estimators_[:, 0]]
        return cls.of(trees, int(np.bincount(owner).max()), power), power * unseen

    @classmethod
    def of(cls, trees: list, n_candidates: int = 1, power: float = 1.0) -> DensityRatio:
        """Regression trees of :data:`BOOSTING` as arrays."""

        def joined(of_node: list[NDArray], dtype: type) -> NDArray:
            return np.concatenate([np.zeros(0), *of_node]).astype(dtype)

        left = joined([tree.children_left for tree in trees], np.int64)
        rate = BOOSTING.learning_rate
        return cls(
            nodes=np.cumsum([0, *(tree.node_count for tree in trees)]),
            left=left,
            right=joined([tree.children_right for tree in trees], np.int64),
            column=np.where(left < 0, 0, joined([tree.feature for tree in trees], np.int64)),
            threshold=np.where(left < 0, 0, joined([tree.threshold for tree in trees], float)),
            value=joined([rate * tree.value[:, 0, 0] for tree in trees], np.float64),
            n_candidates=n_candidates,
            power=power,
        )

    @property
    def n_trees(self) -> int:
        return len(self.nodes) - 1

    def log_weight(self, table: NDArray[np.float32], n_candidates: int) -> NDArray[np.float64]:
        """(n,) the logarithm of what candidates with columns (n, A) are chosen by.

        Of more candidates than the power was found for, a smaller one is enough.
        """
        more = max((n_candidates - 1) / max(self.n_candidates - 1, 1), 1.0)
        return (1 + (self.power - 1) / more) * self.log_ratio(table)

    def log_ratio(self, table: NDArray[np.float32]) -> NDArray[np.float64]:
        """(n,) of columns (n, A)."""
        told = np.zeros(len(table))
        for k in range(self.n_trees):
            own = slice(*self.nodes[k : k + 2])
            tree = self.left[own], self.right[own], self.column[own], self.threshold[own]
            told += self.value[own][applied(tree, table)]
        return told

    def check(self, grammar: Grammar) -> None:
        """Refuse trees on other columns, or that lead nowhere."""
        parts = self.left, self.right, self.column, self.threshold, self.value
        N = len(self.left)
        starts = np.array_equal(self.nodes[:1], [0]) and (np.diff(self.nodes) > 0).all()
        if not starts or {part.shape for part in parts} != {(N,)} or self.nodes[-1] != N:
            raise SaveFileError("Expected trees of as many nodes as they say.")
        whole = all(part.dtype.kind == "i" for part in (self.nodes, *parts[:3]))
        if not whole or not all(np.isfinite(part).all() for part in parts[3:]):
            raise SaveFileError("Expected trees of numbers.")
        if np.abs(self.value).max(initial=0) > MOST_VALUE or not 1 <= self.power <= MOST_POWER:
            raise SaveFileError("Expected trees of a ratio that can be.")
        inner, size = self.left >= 0, np.diff(self.nodes)
        node = np.arange(N) - np.repeat(self.nodes[:-1], size)
        after = np.stack([self.left, self.right])[:, inner]
        if (after <= node[inner]).any() or (after >= np.repeat(size, size)[inner]).any():
            raise SaveFileError("Expected trees whose branches lead to leaves.")
        known = (self.column >= 0) & (self.column < width_of_appearance(grammar))
        if not known.all():
            raise SaveFileError("Expected trees on columns about histories.")


def resampled(
    log_weight: NDArray[np.float64], owner: NDArray[np.int64], random: np.random.RandomState
) -> NDArray[np.int64]:
    """The row of each owner that is chosen, with chances in proportion to weights (n,).

    Parameters
    ----------
    owner : (n,) int64
        Whose each row is, counted from 0.
    """
    keys = log_weight + random.gumbel(size=len(owner))
    order = np.lexsort((-keys, owner))
    return order[np.unique(owner[order], return_index=True)[1]]


def shares(log_weight: NDArray[np.float64], owner: NDArray[np.int64]) -> NDArray[np.float64]:
    """(n,) with what chances :func:`resampled` chooses each row."""
    most = np.full(owner.max(initial=-1) + 1, -np.inf)
    np.maximum.at(most, owner, log_weight)
    weight = np.exp(log_weight - most[owner])
    return weight / np.bincount(owner, weight)[owner]
