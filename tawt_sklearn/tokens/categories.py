"""Categories of codes: texts, and numbers of codes that are declared categorical."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from tawt_sklearn.tokens.values import code_value_keys

UNKNOWN_CATEGORY = "[UNK]"

Pair = tuple[int, str]  # token id and category label


@dataclass
class CategoryEvents:
    """Events that carry a category, grouped by distinct (token, label) pair.

    Attributes
    ----------
    pairs : list of (int, str)
        Distinct pairs; the number 3 and the text "3" of one token share a pair.
    numbers : list of float
        Number behind each pair, NaN for texts.
    at : ndarray of int64
        Positions of the events.
    pair : ndarray of int64, like ``at``
        Index into ``pairs``.
    """

    pairs: list[Pair] = field(default_factory=list)
    numbers: list[float] = field(default_factory=list)
    at: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    pair: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

    def counts(self) -> np.ndarray:
        """Events per pair."""
        return np.bincount(self.pair, minlength=len(self.pairs))


def group_categories(
    token: np.ndarray,
    value: np.ndarray,
    text: np.ndarray | None,
    texts: pd.Index | None,
    *,
    takes_text: np.ndarray,
    takes_numbers: np.ndarray,
) -> CategoryEvents:
    """Find the events that carry a category.

    Parameters
    ----------
    token : ndarray of int32, (E,)
    value : ndarray of float32, (E,)
        Numbers after cleaning, NaN = none.
    text : ndarray of int32, (E,) or None
        Index into ``texts``, -1 = none.
    takes_text, takes_numbers : ndarray of bool, (V,)
        Tokens whose texts, and whose numbers (of events without text), are categories.
    """
    V = len(takes_text)
    found = CategoryEvents()
    index: dict[Pair, int] = {}
    parts: list[tuple[np.ndarray, np.ndarray]] = []

    def add(at: np.ndarray, pairs: list[Pair], numbers: list[float], inverse: np.ndarray) -> None:
        ids = np.empty(len(pairs), np.int64)
        for k, (pair, number) in enumerate(zip(pairs, numbers, strict=True)):
            ids[k] = index.setdefault(pair, len(index))
            if ids[k] == len(found.pairs):
                found.pairs.append(pair)
                found.numbers.append(number)
        parts.append((at, ids[inverse]))

    if text is not None and texts is not None and takes_text.any():
        at = np.flatnonzero((text >= 0) & takes_text[token])
        n_texts = len(texts)
        keys, inverse = _distinct(token[at] * np.int64(n_texts) + text[at], V * n_texts)
        labels = texts[keys % n_texts].astype(str).tolist() if len(keys) else []
        pairs = list(zip((keys // n_texts).tolist(), labels, strict=True))
        add(at, pairs, [np.nan] * len(pairs), inverse)
    if takes_numbers.any():
        wanted = takes_numbers[token] & ~np.isnan(value)
        if text is not None:
            wanted &= text < 0
        at = np.flatnonzero(wanted)
        keys, first, inverse = np.unique(
            code_value_keys(token[at], value[at]), return_index=True, return_inverse=True
        )
        numbers = value[at[first]]
        labels = [np.format_float_positional(x, trim="-") for x in numbers + np.float32(0)]
        pairs = list(zip(token[at[first]].tolist(), labels, strict=True))
        add(at, pairs, numbers.astype(float).tolist(), inverse)
    if parts:
        found.at, found.pair = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return found


def _distinct(keys: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Sorted distinct keys in ``range(size)`` and the index of each key among them."""
    if size > 4 * len(keys) + 1_000_000:
        return np.unique(keys, return_inverse=True)
    rank = np.zeros(size, np.int64)
    rank[keys] = 1
    distinct = np.flatnonzero(rank)
    rank[distinct] = np.arange(len(distinct))
    return distinct, rank[keys]


def learn_categories(
    found: CategoryEvents, with_categories: np.ndarray, min_count: int
) -> tuple[list[Pair], list[float]]:
    """Categories in id order, and the number behind each (NaN = text).

    Grouped by token, ``"[UNK]"`` first, then by falling frequency (ties by label).  Categories
    seen fewer than ``min_count`` times share the token's ``"[UNK]"``.
    """
    counts = found.counts()
    kept: list[tuple[int, float, str, float]] = [
        (token, -int(counts[k]), label, found.numbers[k])
        for k, (token, label) in enumerate(found.pairs)
        if counts[k] >= min_count and label != UNKNOWN_CATEGORY
    ]
    kept += [(int(token), -np.inf, UNKNOWN_CATEGORY, np.nan) for token in with_categories]
    kept.sort(key=lambda entry: entry[:3])
    return [(token, label) for token, _, label, _ in kept], [number for *_, number in kept]


def encode_categories(
    found: CategoryEvents, category_of: dict[Pair, int], unknown: np.ndarray, n_events: int
) -> np.ndarray:
    """Category id of every event, -1 where it has none; int32, (E,).

    ``unknown`` (V,) holds the id of the ``"[UNK]"`` category of each token that has categories.
    """
    ids = np.full(n_events, -1, np.int32)
    table = np.array([category_of.get(p, unknown[p[0]]) for p in found.pairs], np.int32)
    ids[found.at] = table[found.pair]
    return ids
