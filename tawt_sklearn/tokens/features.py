"""Which columns EventSummarizer makes, and the cells it fills in them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from tawt_sklearn.events.array import EventsArray
from tawt_sklearn.events.ragged import row_ids
from tawt_sklearn.exceptions import DataError
from tawt_sklearn.tokens.categories import CategoryEvents, group_categories
from tawt_sklearn.tokens.encoding import count_codes
from tawt_sklearn.tokens.segments import (
    OF_EVENTS,
    STATISTICS,
    Segments,
    statistic_of_events,
    statistics_of_numbers,
)
from tawt_sklearn.tokens.times import origin_and_end

Window = float | None
Plan = list[tuple[Window, tuple[str, ...]]]  # statistics of each window
Cells = tuple[np.ndarray, np.ndarray, np.ndarray]  # row, feature, value

# What LightGBM or XGBoost refuses in the name of a feature.
_REFUSED = re.compile(r'[\[\]{}<,:"]')


def read_plan(windows: Any, statistics: Iterable[str]) -> Plan:
    """Check windows and statistics, and say which statistics each window gets.

    Raises
    ------
    DataError
        Unknown or no statistics, windows that are no positive numbers, repeated ones.
    """
    if isinstance(windows, Mapping):
        pairs = list(windows.items())
    else:
        statistics = tuple(statistics)
        pairs = [(window, statistics) for window in windows]
    if not pairs:
        raise DataError("Expected at least one window, None for the whole history. Got none.")
    plan: Plan = []
    for window, names in pairs:
        number = isinstance(window, Real) and not isinstance(window, bool | np.bool_)
        if window is not None and not (number and 0 < window < np.inf):
            raise DataError(
                "Expected windows to be lengths above 0 in time units, or None for the whole "
                f"history. Got {window!r}."
            )
        names = (names,) if isinstance(names, str) else tuple(names)
        unknown = [name for name in names if name not in STATISTICS]
        if unknown or not names:
            raise DataError(
                f"Expected statistics out of {', '.join(STATISTICS)}. "
                f"Got {repr(unknown[0]) if unknown else 'none'}."
            )
        plan.append((window, tuple(dict.fromkeys(names))))
    if len({window for window, _ in plan}) < len(plan):
        raise DataError(f"Expected different windows. Got {[window for window, _ in plan]}.")
    return plan


def plain_names(names: list[str]) -> list[str]:
    """Names that every booster takes: refused characters become ``_``, and no two become alike.

    Examples
    --------
    >>> plain_names(["HR__mean", "LAB//WBC, blood__mean", "a:b", "a,b", "a_b"])
    ['HR__mean', 'LAB//WBC_ blood__mean', 'a_b_2', 'a_b_3', 'a_b']
    """
    taken = {name for name in names if not _REFUSED.search(name)}
    plain = []
    for name in names:
        if name not in taken:
            base = name = _REFUSED.sub("_", name)
            number = 2
            while name in taken:
                name, number = f"{base}_{number}", number + 1
            taken.add(name)
        plain.append(name)
    return plain


class Block(NamedTuple):
    """One statistic in one window: the feature of each code, or of each category; -1 = none."""

    window: Window
    statistic: str
    of_categories: bool
    feature: np.ndarray


@dataclass
class Layout:
    """Features of event histories.

    Attributes
    ----------
    codes : list
        Codes that have features, sorted.
    categories : list of (int, str)
        Position in ``codes`` and text of the categories that have features.
    names : list of str
    blocks : list of Block
    """

    codes: list[Any]
    categories: list[tuple[int, str]]
    names: list[str]
    blocks: list[Block]

    @classmethod
    def learn(
        cls,
        array: EventsArray,
        plan: Plan,
        *,
        min_count: int,
        max_codes: int | None,
        max_categories: int,
    ) -> Layout:
        """Choose codes and categories of training histories."""
        counts = count_codes(array.code, len(array.codes))[:-1]
        labels = array.codes.tolist()
        kept = np.flatnonzero(counts >= min_count).tolist()
        if not counts.any():
            raise DataError(
                "Expected events with a code to summarise. Got only events without one; check the "
                "column that was given as code."
            )
        if not kept:
            raise DataError(
                f"Expected codes that occur at least min_count={min_count} times. Got none, the "
                f"most frequent occurs {counts.max(initial=0)} times. Lower min_count."
            )
        kept.sort(key=lambda k: (-counts[k], labels[k]))
        kept = sorted(kept[:max_codes], key=lambda k: labels[k])
        codes = [labels[k] for k in kept]
        numbers = count_codes(array.code[~np.isnan(array.value)], len(labels))[kept]
        categories: list[tuple[int, str]] = []
        if max_categories and array.text is not None:
            found = _categories(array, codes)
            counted = zip(found.pairs, found.counts().tolist(), strict=True)
            order = sorted((position, -n, text) for (position, text), n in counted)
            rank: dict[int, int] = {}
            for position, _, text in order:
                rank[position] = rank.get(position, 0) + 1
                if rank[position] <= max_categories:
                    categories.append((position, text))
        layout = cls(codes, categories, [], [])
        layout._number(plan, numbers > 0, array)
        return layout

    def _number(self, plan: Plan, has_numbers: np.ndarray, array: EventsArray) -> None:
        """Give every feature its name and number, code after code."""
        unit, tokenised = array.dtype.time_unit, array.dtype.vocabulary is not None
        suffix = {w: "" if w is None else f"__last{w:g}{unit}" for w, _ in plan}
        blocks = {(w, name): np.full(len(self.codes), -1) for w, names in plan for name in names}
        counts = {w: np.full(len(self.categories), -1) for w, names in plan if "count" in names}
        of_code: dict[int, list[int]] = {}
        for k, (position, _) in enumerate(self.categories):
            of_code.setdefault(position, []).append(k)
        for position, code in enumerate(self.codes):
            for (w, name), feature in blocks.items():
                if name in OF_EVENTS or has_numbers[position]:
                    feature[position] = len(self.names)
                    self.names.append(f"{code}__{name}{suffix[w]}")
            for w, feature in counts.items():
                for k in of_code.get(position, ()):
                    text = self.categories[k][1]
                    feature[k] = len(self.names)
                    # Categories of tokens carry the name of their code already.
                    label = text if tokenised else f"{code}={text}"
                    self.names.append(f"{label}__count{suffix[w]}")
        self.blocks = [Block(w, name, False, feature) for (w, name), feature in blocks.items()]
        if self.categories:
            self.blocks += [Block(w, "count", True, feature) for w, feature in counts.items()]

    def drop_undefined(self, array: EventsArray, min_rows: int) -> None:
        """Drop the features that fewer than ``min_rows`` rows of ``array`` have a value for."""
        n_rows = np.zeros(len(self.names), np.int64)
        for _, feature, _ in self.cells(array):
            n_rows += np.bincount(feature, minlength=len(n_rows))
        kept = n_rows >= min_rows
        number = np.append(np.where(kept, np.cumsum(kept) - 1, -1), -1)  # last: stays -1
        self.blocks = [block._replace(feature=number[block.feature]) for block in self.blocks]
        self.names = [name for name, keep in zip(self.names, kept, strict=True) if keep]

    @property
    def count_features(self) -> np.ndarray:
        """Features that are 0, not undefined, where there is no event."""
        counts = [block.feature for block in self.blocks if block.statistic == "count"]
        features = np.concatenate([*counts, np.empty(0, np.int64)]).astype(np.int64)
        return features[features >= 0]

    def cells(self, array: EventsArray) -> Iterator[Cells]:
        """All defined cells of histories, a statistic at a time."""
        _, end = origin_and_end(
            array.time, array.offsets, array.start, array.end, rule="zero", known_start=False
        )
        row = row_ids(array.offsets)
        codes = positions_of(array, self.codes).take(array.code)
        whole = {False: Segments.of(row, codes, array.time, array.value, len(self.codes))}
        if self.categories:
            index = {pair: k for k, pair in enumerate(self.categories)}
            found = _categories(array, self.codes)
            ids = np.array([index.get(pair, -1) for pair in found.pairs], np.int64)[found.pair]
            at = found.at  # in the order of events, as only texts count
            whole[True] = Segments.of(
                row[at], ids, array.time[at], array.value[at], len(self.categories)
            )
        for window in dict.fromkeys(block.window for block in self.blocks):
            for of_categories, segments in whole.items():
                part = segments if window is None else segments.last_of(window, end)
                wanted = [
                    block
                    for block in self.blocks
                    if block.window == window and block.of_categories == of_categories
                ]
                yield from _cells(part, wanted, end)


def _cells(segments: Segments, blocks: list[Block], end: np.ndarray) -> Iterator[Cells]:
    names = tuple(block.statistic for block in blocks)
    numbers, values = segments, {}
    if any(name not in OF_EVENTS for name in names):
        numbers = segments.with_numbers()
        values = statistics_of_numbers(names, numbers)
    for block in blocks:
        if block.statistic in OF_EVENTS:
            source, value = segments, statistic_of_events(block.statistic, segments, end)
        else:
            source, value = numbers, values[block.statistic]
        feature = block.feature[source.column]
        defined = (feature >= 0) & ~np.isnan(value)
        if defined.all():  # as a rule, and copies of all cells take a while
            yield source.row, feature, value
        else:
            yield source.row[defined], feature[defined], value[defined]


def positions_of(array: EventsArray, codes: list[Any]) -> np.ndarray:
    """Position in ``codes`` of each code id, -1 = not there; last entry for events without."""
    index = {code: k for k, code in enumerate(codes)}
    return np.array([*(index.get(code, -1) for code in array.codes.tolist()), -1], np.int64)


def _categories(array: EventsArray, codes: list[Any]) -> CategoryEvents:
    V = len(codes)
    table = positions_of(array, codes)
    table[table < 0] = V
    has_features = np.arange(V + 1) < V
    return group_categories(
        table.take(array.code),
        array.value,
        array.text,
        array.texts,
        takes_text=has_features,
        takes_numbers=np.zeros(V + 1, bool),
    )
