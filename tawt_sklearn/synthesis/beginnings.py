"""The words about the whole history, each drawn from a tree on those before it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from tawt_sklearn.exceptions import SaveFileError
from tawt_sklearn.synthesis.symbols import NOTHING, NUMBER

LEAF, MOST_LEAF, SHARE, MANY = 10, 25, 20, 2000
"""Rows of a leaf, at least.  In trees of fewer than ``MANY`` rows it is one in ``SHARE``, up to
``MOST_LEAF``: else the same few rows would be drawn from again and again."""

OTHERS = 2.0
"""What the rows of a leaf with other labels count, all together, in rows with the same one."""

MOST_ROWS = 20_000
"""Rows that trees are learned from."""

MOST_STRATA = 10
"""A label of more levels is an amount rather than a class."""

MISSING = -10.0
"""Where no number is, among normal scores."""

NEAR = 0.25
"""How far numbers are from another that are near it, in normal scores."""

EVEN = 0.5
"""What all that is possible counts in a leaf, in rows."""


@dataclass
class Said:
    """What has been said of n rows so far.

    Attributes
    ----------
    symbol, score : (n, P) int64 and float32
        The words.
    value : (n, P) float32
        As numbers that trees can split.
    """

    symbol: NDArray[np.int64]
    score: NDArray[np.float32]
    value: NDArray[np.float32]

    def at(self, rows: NDArray[np.int64]) -> Said:
        """Of some rows."""
        return Said(self.symbol[rows], self.score[rows], self.value[rows])


@dataclass(frozen=True)
class Beginnings:
    """Classification and regression trees, word after word.

    A word is that of a row that ends in the same leaf; rows with the same label come first.  What
    is equal in the data, such as how often two pressures come that are measured together, stays
    equal, which networks that see a few thousand rows do not learn; see Reiter, "Using CART to
    Generate Partially Synthetic Public Use Microdata", 2005, and Nowok, Raab & Dibben,
    "synthpop: Bespoke Creation of Synthetic Data in R", 2016.

    There are ``P`` words and ``n`` rows; the first number of each code counts as a word here.

    Attributes
    ----------
    first, kind : (P + 1,) and (S,) int64
        First symbol of each word, and the kinds of these symbols.
    score : (S,) float64
        Normal scores of symbols that are numbers, NaN for others.
    is_label : bool
        Whether the first word is a label that is a class.
    nodes : (P + 1,) int64
        First node of each tree.
    left, right, column : (N,) int64
        Children of each node, counted from the first of the tree, -1 of leaves, and the word that
        they differ by.
    threshold : (N,) float64
        What goes left is at most that.
    group : (P, n) int64
        Leaf and label of each row, in rising order; within a group in rising order of the word.
    symbol, value : (P, n) int64 and float32
        The word in these rows.
    """

    first: NDArray[np.int64]
    kind: NDArray[np.int64]
    score: NDArray[np.float64]
    is_label: bool
    nodes: NDArray[np.int64]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    column: NDArray[np.int64]
    threshold: NDArray[np.float64]
    group: NDArray[np.int64]
    symbol: NDArray[np.int64]
    value: NDArray[np.float32]

    @property
    def n_words(self) -> int:
        return len(self.first) - 1

    @property
    def n_strata(self) -> int:
        """Levels of the label, 1 for none."""
        return int(self.first[1] - self.first[0]) if self.is_label else 1

    @classmethod
    def fit(
        cls,
        symbol: NDArray[np.int64],
        score: NDArray[np.float64],
        first: NDArray[np.int64],
        kind: NDArray[np.int64],
        level_score: NDArray[np.float64],
        *,
        has_label: bool,
        min_rows: int,
        random: np.random.RandomState,
    ) -> Beginnings:
        """Learn from the words of n rows.

        Parameters
        ----------
        symbol, score : (n, P)
            Words and their normal scores.
        first, kind, level_score
            As attributes.
        has_label : bool
            Whether the first word is a label.
        min_rows : int
            Rows of a leaf, at least, if more than :data:`LEAF` says.
        """
        if len(symbol) > MOST_ROWS:
            some = random.choice(len(symbol), MOST_ROWS, replace=False)
            symbol, score = symbol[some], score[some]
        is_label = has_label and 2 <= first[1] - first[0] <= MOST_STRATA
        is_label &= bool((kind[: first[1] - first[0]] != NUMBER).all())
        empty = np.zeros((0, len(symbol)))
        told = cls(
            first=first,
            kind=kind,
            score=level_score,
            is_label=bool(is_label),
            nodes=np.zeros(1, np.int64),
            left=np.zeros(0, np.int64),
            right=np.zeros(0, np.int64),
            column=np.zeros(0, np.int64),
            threshold=np.zeros(0),
            group=empty.astype(np.int64),
            symbol=empty.astype(np.int64),
            value=empty.astype(np.float32),
        )
        share = len(symbol) // SHARE if len(symbol) < MANY else 0
        leaf, seed = max(min(share, MOST_LEAF), LEAF, min_rows), int(random.randint(2**31 - 1))
        said = told.nothing_said(len(symbol))
        trees, parts = [], []
        for k in range(told.n_words):
            known = said.value[:, :k].copy()
            told.say(said, k, symbol[:, k], score[:, k])
            tree = told._grown(k, known, said, leaf, seed)
            trees.append(tree)
            group = applied(tree, known) * told.n_strata + told.strata(said)
            order = np.lexsort((said.value[:, k], group))
            parts.append((group[order], symbol[order, k], said.value[order, k]))
        left, right, column, threshold = (np.concatenate(part) for part in zip(*trees, strict=True))
        groups, symbols, values = (np.stack(part) for part in zip(*parts, strict=True))
        return replace(
            told,
            nodes=np.cumsum([0, *(len(tree[0]) for tree in trees)]),
            left=left,
            right=right,
            column=column,
            threshold=threshold,
            group=groups,
            symbol=symbols,
            value=values,
        )

    def _grown(
        self, k: int, known: NDArray[np.float32], said: Said, leaf: int, seed: int
    ) -> tuple[NDArray, ...]:
        """Left and right children, columns and thresholds of the tree of a word."""
        value, symbol = said.value[:, k], said.symbol[:, k]
        if k == 0 or np.ptp(value) == 0:
            none = np.full(1, -1)
            return none, none, np.zeros(1, np.int64), np.zeros(1)
        own = slice(*(self.first[k : k + 2] - self.first[0]))
        plain = (np.isnan(self.score[own]) & (self.kind[own] != NUMBER)).sum() > 2
        plain &= 2 * len(np.unique(symbol)) <= len(symbol)  # else there are no classes
        kind = DecisionTreeClassifier if plain else DecisionTreeRegressor
        model = kind(min_samples_leaf=leaf, random_state=seed)
        tree = model.fit(known, symbol if plain else value).tree_
        is_leaf = tree.children_left < 0
        column = np.where(is_leaf, 0, tree.feature)
        threshold = np.where(is_leaf, 0.0, tree.threshold)
        return tree.children_left, tree.children_right, column, threshold

    def kind_of(self, symbol: NDArray[np.int64]) -> NDArray[np.int64]:
        """Kinds of symbols (n,)."""
        return self.kind[symbol - self.first[0]]

    # ---- what has been said ------------------------------------------------------------------

    def nothing_said(self, n: int) -> Said:
        """Of n rows."""
        P = self.n_words
        symbol = np.repeat(self.first[np.newaxis, :P], n, axis=0)
        score, value = np.zeros((2, n, P), np.float32)
        return Said(symbol, score, value)

    def say(self, said: Said, k: int, symbol: NDArray[np.int64], score: NDArray) -> None:
        """One more word of all rows, its symbols and scores (n,)."""
        own = np.arange(*(self.first[k : k + 2] - self.first[0]))
        kind = self.kind[own]
        table = np.where(np.isnan(self.score[own]), np.arange(len(own)), self.score[own])
        if (kind == NUMBER).any() or not np.isnan(self.score[own]).all():
            table = np.where(kind == NOTHING, MISSING, table)
        at = symbol - self.first[k]
        said.symbol[:, k], said.score[:, k] = symbol, score
        said.value[:, k] = np.where(kind[at] == NUMBER, score, table[at])

    def strata(self, said: Said) -> NDArray[np.int64]:
        """(n,) which label rows have."""
        if not self.is_label:
            return np.zeros(len(said.symbol), np.int64)
        return said.symbol[:, 0] - self.first[0]

    def check(self, first: NDArray, kind: NDArray, level_score: NDArray) -> None:
        """Refuse trees of other words, or that lead nowhere."""
        P, n = self.n_words, self.group.shape[-1]
        same = np.array_equal(self.first, first) and np.array_equal(self.kind, kind)
        if not same or not np.array_equal(self.score, level_score, equal_nan=True):
            raise SaveFileError("Expected trees of the words that the grammar has.")
        shapes = {self.group.shape, self.symbol.shape, self.value.shape}
        sizes = {len(self.left), len(self.right), len(self.column), len(self.threshold)}
        own = self.symbol - self.first[:-1, np.newaxis] if shapes == {(P, n)} else np.zeros(0)
        if (
            shapes != {(P, n)}
            or n < 1
            or len(self.nodes) != P + 1
            or sizes != {int(self.nodes[-1])}
            or (own < 0).any()
            or (own >= np.diff(self.first)[:, np.newaxis]).any()
        ):
            raise SaveFileError("Expected trees and rows of each word about the whole history.")
        for k in range(P):
            tree = slice(*self.nodes[k : k + 2])
            left, right, column = self.left[tree], self.right[tree], self.column[tree]
            inner, node = left >= 0, np.arange(len(left))
            after = np.stack([left, right])[:, inner]
            if not len(left) or (column[inner] >= k).any() or (column[inner] < 0).any():
                raise SaveFileError("Expected trees on words before their own.")
            if (after <= node[inner]).any() or (after >= len(left)).any():
                raise SaveFileError("Expected trees whose branches lead to leaves.")

    # ---- one word ----------------------------------------------------------------------------

    def leaves(self, k: int, said: Said) -> NDArray[np.int64]:
        """(n,) where rows come to in the tree of a word."""
        own = slice(*self.nodes[k : k + 2])
        tree = self.left[own], self.right[own], self.column[own], self.threshold[own]
        return applied(tree, said.value[:, :k])

    def draw(
        self, k: int, said: Said, random: np.random.RandomState
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Symbols and scores (n,) of a word.

        Numbers lie anywhere between that of one row of the leaf and the next greater one.
        """
        leaf, L, stratum = self.leaves(k, said), self.n_strata, self.strata(said)
        begin, end = self._rows(k, leaf * L, leaf * L + L)
        if k > 0 and L > 1:
            same = self._rows(k, leaf * L + stratum, leaf * L + stratum + 1)
            n_same = np.where(self._often[stratum], same[1] - same[0], 0)
            chosen = random.random_sample(len(leaf)) * (n_same + OTHERS) < n_same
            begin, end = (np.where(chosen, a, b) for a, b in zip(same, (begin, end), strict=True))
        at = begin + (random.random_sample(len(leaf)) * (end - begin)).astype(np.int64)
        symbol, score = self.symbol[k, at], self.value[k, at].astype(np.float64)
        after = np.minimum(at + 1, self.group.shape[1] - 1)
        joined = self.group[k, after] == self.group[k, at]
        share = np.where(joined, random.random_sample(len(leaf)), 0.0)
        score = score + share * (self.value[k, after] - score)
        own = symbol - self.first[0]
        score = np.where(self.kind[own] == NUMBER, score, np.nan_to_num(self.score[own]))
        return symbol, score.astype(np.float32)

    def draw_present(
        self, k: int, n: int, random: np.random.RandomState
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Symbols and scores (n,) of a word, of any rows that are not without."""
        there = np.flatnonzero(self.kind[self.symbol[k] - self.first[0]] != NOTHING)
        at = random.choice(there, n) if len(there) else random.randint(self.group.shape[1], size=n)
        symbol = self.symbol[k, at]
        own = symbol - self.first[0]
        number = self.kind[own] == NUMBER
        score = np.where(number, self.value[k, at], np.nan_to_num(self.score[own]))
        return symbol, score.astype(np.float32)

    def log_prob(
        self, k: int, said: Said, symbol: NDArray[np.int64], score: NDArray
    ) -> NDArray[np.float64]:
        """Log-probabilities (n,) of a word, of numbers with the density of their scores."""
        leaf, L, stratum = self.leaves(k, said), self.n_strata, self.strata(said)
        place = symbol - self.first[k]
        every = self._chances(k, leaf * L, leaf * L + L, place, symbol, score)
        if k == 0 or L == 1:
            return np.log(every)
        begin = leaf * L + stratum
        low, high = self._rows(k, begin, begin + 1)
        n_same = np.where(self._often[stratum], high - low, 0)
        same = self._chances(k, begin, begin + 1, place, symbol, score)
        return np.log((n_same * same + OTHERS * every) / (n_same + OTHERS))

    @property
    def _often(self) -> NDArray[np.bool_]:
        """(L,) labels of enough rows for these to be preferred: no single subject is drawn from."""
        return np.bincount(self.group[0] % self.n_strata, minlength=self.n_strata) >= LEAF

    def _rows(
        self, k: int, begin: NDArray[np.int64], end: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where the rows of groups from one to before another are."""
        return np.searchsorted(self.group[k], begin), np.searchsorted(self.group[k], end)

    def _chances(
        self,
        k: int,
        begin: NDArray[np.int64],
        end: NDArray[np.int64],
        place: NDArray[np.int64],
        symbol: NDArray[np.int64],
        score: NDArray,
    ) -> NDArray[np.float64]:
        """How likely words are in the rows of groups from one to before another."""
        low, high = self._rows(k, begin, end)
        apart = max(256.0, float(np.diff(self.first).max()))  # between the keys of two groups
        keys = self.group[k] * apart
        by_symbol = keys + (self.symbol[k] - self.first[k])
        number = self.kind[symbol - self.first[0]] == NUMBER
        by_value = keys + np.clip(self.value[k].astype(np.float64), -100, 100)
        found, near = np.zeros(len(place)), np.zeros(len(place))
        for step in range(int((end - begin).max(initial=0))):
            key = (begin + step) * apart
            found += np.diff(
                [np.searchsorted(by_symbol, key + place, side) for side in ("left", "right")],
                axis=0,
            )[0]
            near += np.diff(
                [np.searchsorted(by_value, key + score + far) for far in (-NEAR, NEAR)], axis=0
            )[0]
        S = self.first[k + 1] - self.first[k]
        rows = high - low
        chance = (found + EVEN / S) / (rows + EVEN)
        usual = np.exp(-0.5 * np.square(score)) / np.sqrt(2 * np.pi)
        density = (near / (2 * NEAR) + EVEN * usual) / (found + EVEN)
        return np.where(number, chance * density, chance)

    # ---- all words ---------------------------------------------------------------------------

    def log_probs(self, symbol: NDArray[np.int64], score: NDArray) -> NDArray[np.float64]:
        """(n,) of all words (n, P)."""
        said, told = self.nothing_said(len(symbol)), np.zeros(len(symbol))
        for k in range(self.n_words):
            told += self.log_prob(k, said, symbol[:, k], score[:, k])
            self.say(said, k, symbol[:, k], score[:, k])
        return told


def applied(tree: tuple[NDArray, ...], value: NDArray[np.float32]) -> NDArray[np.int64]:
    """(n,) leaves of a tree that rows (n, K) come to.

    Parameters
    ----------
    tree : tuple
        Left and right children, columns and thresholds of its nodes.
    """
    left, right, column, threshold = tree
    node = np.zeros(len(value), np.int64)
    going = np.flatnonzero(left[node] >= 0)
    while len(going):
        at = node[going]
        goes_left = value[going, column[at]] <= threshold[at]
        node[going] = np.where(goes_left, left[at], right[at])
        going = going[left[node[going]] >= 0]
    return node
