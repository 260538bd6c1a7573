"""Symbols: what may come with a code, or be said of a whole history, as learned from the data."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tawt_sklearn.synthesis.columns import MOST_LEVELS
from tawt_sklearn.synthesis.histories import repeated
from tawt_sklearn.synthesis.marginals import Marginal, scores

NOTHING, NUMBER, LEVEL, REPEAT, BOTH = range(5)
"""Kinds of symbols: none, a number, a level, the last number again, a text beside a number."""

NUMERIC = (NUMBER, REPEAT, BOTH)
"""Those with a number."""

REPEATED = 0.05
"""Codes whose numbers are the last one again more often than this have a symbol for it.

Chance does not count: that two numbers are the same, of any two of the data, twice over.
"""

MOSTLY = 0.95
"""Share of the numbers of a code that few common ones have to cover to be levels."""

NO_SCORE = 99.0
"""What stands for no normal score, to a network."""


class SymbolTable:
    """Collects the symbols of one extended code after the other."""

    def __init__(self, n_codes: int, min_subjects: int) -> None:
        self.min_subjects = min_subjects
        self.counts: list[int] = []
        self.kinds: list[NDArray] = []
        self.levels: list[NDArray] = []
        self.texts: list[NDArray] = []
        self.level_scores: list[NDArray] = []
        self.least: list[NDArray] = []
        self.most: list[NDArray] = []
        self.marginals: dict[int, Marginal] = {}

    def add_code(
        self, code: int, value: NDArray, text: NDArray[np.int64], row: NDArray[np.int64]
    ) -> None:
        """A code of events: few different numbers are levels, as texts are."""
        named, number = text >= 0, ~np.isnan(value)
        if len(np.unique(row[number])) < self.min_subjects:
            number = np.zeros_like(number)  # numbers of few subjects would point to these
        both, alone = named & number, named & ~number
        pairs = common(text[both], row[both], self.min_subjects)
        alone |= both & ~np.isin(text, pairs)  # too rare beside a number
        texts = common(text[alone], row[alone], self.min_subjects)
        number = number & (~named | np.isin(text, pairs))
        values = value[number].astype(np.float64)
        different = np.unique(values)
        levels, marginal = np.empty(0), None
        if len(different) <= MOST_LEVELS and not len(pairs):
            levels = common(values, row[number], self.min_subjects)
            if np.isin(values, levels).sum() < MOSTLY * len(values):
                levels = np.empty(0)
        if len(different) and not len(levels):
            marginal = Marginal.fit(values, self.min_subjects, row[number])
        elif len(levels):
            self.marginals[code] = Marginal.fit(values, self.min_subjects, row[number])
        nothing = not (named | number).all() or not (len(texts) + len(levels) or marginal)
        nothing |= not np.isin(text[alone], texts).all()
        n = len(texts) + len(levels)
        again = repeated(values, row[number])
        alone_again = again[~named[number]]
        by_chance = ((np.unique(values, return_counts=True)[1] / max(len(values), 1)) ** 2).sum()
        often = REPEATED + 2 * by_chance
        repeats = marginal is not None and bool(alone_again.sum() > often * len(alone_again))
        numbers_alone = not named[number].all()
        self.add(code, nothing, n, marginal, repeats, len(pairs), numbers_alone)
        if len(pairs):
            self.texts[-1][self.kinds[-1] == BOTH] = pairs
        if n:
            self.levels[-1][-n:] = np.concatenate([np.full(len(texts), np.nan), levels])
            self.texts[-1][-n:] = np.concatenate([texts, np.full(len(levels), -1)])
        if len(levels):
            low, high = self.marginals[code].bounds(levels)
            self.level_scores[-1][-len(levels) :] = scores((low + high) / 2)

    def add_number(self, code: int, number: NDArray[np.float64]) -> None:
        """A prefix word that says a number."""
        known = number[~np.isnan(number)]
        different, counts = np.unique(known, return_counts=True)
        has_nothing = len(known) < len(number) or not len(known)
        rare = counts.min(initial=len(known)) < min(self.min_subjects, len(known))
        if len(different) > MOST_LEVELS or rare:
            self.add(code, has_nothing, 0, Marginal.fit(known, self.min_subjects))
            return
        self.add(code, has_nothing, len(different))
        if len(different):
            self.levels[-1][-len(different) :] = different

    def add_count(self, code: int, count: NDArray[np.int64], most: int) -> NDArray[np.float64]:
        """A word that says how many events there are; the shares of the classes."""
        least, largest = classes(count, most, self.min_subjects)
        self.add(code, n_levels=len(least))
        self.least[-1], self.most[-1] = least, largest
        of = np.searchsorted(largest, count).clip(max=len(largest) - 1)
        share = np.bincount(of, minlength=len(least)) / len(count)
        self.level_scores[-1] = scores(share.cumsum() - share / 2)
        return share

    def add(
        self,
        code: int,
        has_nothing: bool = False,
        n_levels: int = 0,
        marginal: Marginal | None = None,
        repeats: bool = False,
        n_both: int = 0,
        numbers_alone: bool = True,
    ) -> None:
        """Nothing, a number, the last one, texts beside numbers, levels: all that there are."""
        has_nothing |= not (n_levels or marginal or n_both)
        kinds = [NOTHING] * has_nothing + [NUMBER] * bool(marginal is not None and numbers_alone)
        kinds += [REPEAT] * repeats + [BOTH] * n_both + [LEVEL] * n_levels
        self.counts.append(len(kinds))
        self.kinds.append(np.array(kinds))
        self.levels.append(np.full(len(kinds), np.nan))
        self.texts.append(np.full(len(kinds), -1))
        self.level_scores.append(np.full(len(kinds), np.nan))
        self.least.append(np.zeros(len(kinds), np.int64))
        self.most.append(np.zeros(len(kinds), np.int64))
        if marginal is not None:
            self.marginals[code] = marginal


def common(values: NDArray, row: NDArray[np.int64], least: int) -> NDArray:
    """Values that at least so many rows have."""
    names, place = np.unique(values, return_inverse=True)
    if not len(names):
        return names
    pairs = np.unique(row * len(names) + place)
    return names[np.bincount(pairs % len(names), minlength=len(names)) >= least]


def classes(
    count: NDArray[np.int64], most: int, min_subjects: int = 1
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Least and largest of the numbers that stand together, of about as many rows each.

    None stands for fewer than ``min_subjects`` rows if there are so many, and the largest is one
    that so many reach.
    """
    ordered = np.sort(count)
    count = count.clip(max=ordered[len(count) - min(min_subjects, (len(count) + 1) // 2)])
    different, rows = np.unique(count, return_counts=True)
    begins = np.arange(len(different))
    if len(different) > most:
        quantile = (np.cumsum(rows) - rows / 2) * most // len(count)
        common = rows * most >= len(count)  # these stand alone, such as none at all
        after_common = np.append(True, common[:-1])
        begins = np.flatnonzero((np.diff(quantile, prepend=-1) != 0) | common | after_common)
    kept, waiting = [0], 0
    for first, n in zip(begins.tolist(), np.add.reduceat(rows, begins).tolist(), strict=True):
        if waiting >= min_subjects:
            kept.append(first)
            waiting = 0
        waiting += n
    if waiting < min_subjects and len(kept) > 1:  # too few at the end
        kept.pop()
    after = np.array([*kept[1:], len(different)])
    return different[kept], different[after - 1]
