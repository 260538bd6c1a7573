"""From raw flat events to tokens and back: learning a vocabulary, applying it, undoing it.

The steps are those of :class:`~tawt_sklearn.TripletSequencer`, on arrays; the estimator adds
scikit-learn's manners.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from tawt_sklearn.events.array import EventsArray
from tawt_sklearn.exceptions import DataError
from tawt_sklearn.tokens import categories, times, values
from tawt_sklearn.tokens.vocabulary import (
    MISSING,
    N_SPECIAL,
    SPECIAL_CODES,
    UNKNOWN,
    CodeLabel,
    Kind,
    Vocabulary,
)


@dataclass
class RawEvents:
    """The events of a raw column, cut to the most recent ones, with the clock of each row.

    ``code`` and ``codes`` as in :class:`~tawt_sklearn.EventsArray`.  ``n_truncated`` counts the
    events cut away, per code and, last, without one; (n_codes + 1,).
    """

    time: np.ndarray
    code: np.ndarray
    value: np.ndarray
    text: np.ndarray | None
    offsets: np.ndarray
    codes: pd.Index
    texts: pd.Index | None
    origin: np.ndarray
    end: np.ndarray
    n_truncated: np.ndarray
    n_truncated_rows: int

    @classmethod
    def of(
        cls, array: EventsArray, *, rule: str, known_start: bool, max_events: int | None
    ) -> RawEvents:
        """Take a raw column apart; the origin is that of the whole history."""
        origin, end = times.origin_and_end(
            array.time,
            array.offsets,
            array.start,
            array.end,
            rule=rule,
            known_start=known_start,
        )
        offsets, n_codes = array.offsets, len(array.codes)
        time, code, value, text = array.time, array.code, array.value, array.text
        n_truncated, n_rows = np.zeros(n_codes + 1, np.int64), 0
        kept = None
        if max_events is not None:
            kept, offsets = times.most_recent(array.offsets, max_events)
        if kept is not None:
            n_rows = int((np.diff(offsets) < np.diff(array.offsets)).sum())
            time, code, value = time[kept], code[kept], value[kept]
            text = None if text is None else text[kept]
            n_truncated = count_codes(array.code, n_codes) - count_codes(code, n_codes)
        return cls(
            time=time,
            code=code,
            value=value,
            text=text,
            offsets=offsets,
            codes=array.codes,
            texts=array.texts,
            origin=origin,
            end=end,
            n_truncated=n_truncated,
            n_truncated_rows=n_rows,
        )

    def __len__(self) -> int:
        return len(self.time)

    @cached_property
    def counts(self) -> np.ndarray:
        """Events per code and, last, without one; int64, (n_codes + 1,)."""
        return count_codes(self.code, len(self.codes))

    @cached_property
    def without_number(self) -> np.ndarray:
        """Positions of events that have no number."""
        return np.flatnonzero(np.isnan(self.value))

    def count(self, at: np.ndarray) -> np.ndarray:
        """The same of the events at these positions only."""
        return count_codes(self.code[at], len(self.codes))


def count_codes(code: np.ndarray, n_codes: int) -> np.ndarray:
    """Events per code id, and last those with code -1; int64, (n_codes + 1,)."""
    counts = np.zeros(n_codes + 1, np.int64)
    for block in values.blocks(len(code)):
        shifted = code[block].astype(np.intp)
        shifted += 1
        counts += np.bincount(shifted, minlength=n_codes + 1)
    return np.roll(counts, -1)


@dataclass
class Seen:
    """What occurred in the training data, kept in the vocabulary or not (too rare)."""

    codes: frozenset[CodeLabel]
    categories: frozenset[tuple[CodeLabel, str]]


@dataclass
class Encoded:
    """Tokens of raw events, and where something was changed.

    ``token``, ``value`` and ``text`` (None without any category) are (E,); the others are
    positions of events or, for ``new_codes``, a mask over the raw code dictionary.
    """

    token: np.ndarray
    value: np.ndarray
    text: np.ndarray | None
    outside: np.ndarray
    clipped: np.ndarray
    ignored: np.ndarray
    rare_category: np.ndarray
    new_category: np.ndarray
    new_category_names: list[str]
    new_codes: np.ndarray


def token_table(codes: pd.Index, token_of: Mapping[CodeLabel, int]) -> np.ndarray:
    """Token id of each raw code id; the last entry serves events without code (-1)."""
    ids = [token_of.get(code, UNKNOWN) for code in codes.tolist()]
    return np.array([*ids, MISSING], np.int32)


def encode(events: RawEvents, vocabulary: Vocabulary, seen: Seen) -> Encoded:
    """Encode raw events with a vocabulary learned before."""
    token = token_table(events.codes, vocabulary.token_of).take(events.code)
    cleaned, outside = values.clean_values(
        token,
        events.value,
        factor=vocabulary.factor,
        low=vocabulary.low,
        high=vocabulary.high,
        log=vocabulary.log,
    )
    check_finite(events, token, cleaned)
    found = categories.group_categories(
        token,
        cleaned,
        events.text,
        events.texts,
        takes_text=np.diff(vocabulary.category_offsets) > 0,
        takes_numbers=is_kind(vocabulary, "categorical"),
    )
    return finish(events, vocabulary, seen, token, cleaned, outside, found)


def finish(
    events: RawEvents,
    vocabulary: Vocabulary,
    seen: Seen,
    token: np.ndarray,
    cleaned: np.ndarray,
    outside: np.ndarray | None,
    found: categories.CategoryEvents,
) -> Encoded:
    value, clipped = values.scale_values(
        token,
        cleaned,
        scaling_of(vocabulary),
        numeric=is_kind(vocabulary, "numeric"),
        clip=vocabulary.clip,
        quantile=vocabulary.value_scaling == "quantile",
        out=None if cleaned is events.value else cleaned,
    )
    codes = vocabulary.codes
    new_pair = np.array(
        [
            (codes[k], label) not in seen.categories and label != categories.UNKNOWN_CATEGORY
            for k, label in found.pairs
        ],
        dtype=bool,
    )
    new = [found.pairs[k] for k in np.flatnonzero(new_pair)]
    rare_pair = ~new_pair & np.array([p not in vocabulary.category_of for p in found.pairs], bool)
    text = None
    if vocabulary.n_categories:
        text = categories.encode_categories(
            found, vocabulary.category_of, vocabulary.category_offsets[:-1], len(events)
        )
    new_codes = [
        code not in seen.codes and code not in SPECIAL_CODES for code in events.codes.tolist()
    ]
    return Encoded(
        token=token,
        value=value,
        text=text,
        outside=np.empty(0, np.int64) if outside is None else outside,
        clipped=clipped,
        ignored=_ignored(events, vocabulary, token),
        rare_category=found.at[rare_pair[found.pair]],
        new_category=found.at[new_pair[found.pair]],
        new_category_names=[f"{codes[k]}={label}" for k, label in new],
        new_codes=np.array(new_codes, dtype=bool),
    )


def decode(array: EventsArray, vocabulary: Vocabulary) -> dict[str, Any]:
    """Raw ``code, codes, value, text, texts, start`` of a tokenised column."""
    V = len(vocabulary)
    raw_id = np.arange(-N_SPECIAL, V - N_SPECIAL, dtype=np.int32)
    raw_id[:N_SPECIAL] = -1
    value = values.unscale_values(
        array.code,
        array.value,
        scaling_of(vocabulary),
        factor=vocabulary.factor,
        log=vocabulary.log,
        quantile=vocabulary.value_scaling == "quantile",
    )
    text, texts = None, None
    if array.text is not None and vocabulary.n_categories:
        number = vocabulary.category_numbers
        labels = [label for _, label in vocabulary.categories]
        is_text = np.isnan(number) & np.array([x != categories.UNKNOWN_CATEGORY for x in labels])
        names, ids = np.unique(np.array(labels)[is_text], return_inverse=True)
        table = np.full(len(labels) + 1, -1, np.int32)  # last entry: no category
        table[:-1][is_text] = ids
        if len(names):
            text, texts = table[array.text], pd.Index(names, dtype="str")
        from_number = np.append(np.where(is_text, np.nan, number), np.nan)[array.text]
        made = ~np.isnan(from_number)
        # Numbers of categorical codes went through the unit factor, never through log or scale.
        value[made] = from_number[made] / vocabulary.factor[array.code[made]]
    start = None
    if vocabulary.known_start:
        # Where the origin is not what the rule gives, it was known.
        by_rule, _ = times.origin_and_end(
            array.time,
            array.offsets,
            np.full(len(array), np.nan),
            array.end,
            rule=vocabulary.time_origin,
            known_start=False,
        )
        start = np.where(array.start == by_rule, np.nan, array.start)
    codes = pd.Index(list(vocabulary.codes[N_SPECIAL:]))
    if not vocabulary.integer_codes:
        codes = codes.astype("str")
    return {
        "code": raw_id[array.code],
        "codes": codes,
        "value": value,
        "text": text,
        "texts": texts,
        "start": start,
    }


def scaling_of(vocabulary: Vocabulary) -> values.Scaling:
    """The scaling part of a vocabulary."""
    return values.Scaling(
        vocabulary.center,
        vocabulary.scale,
        vocabulary.knot_offsets,
        vocabulary.knot_values,
        vocabulary.knot_scores,
    )


def check_finite(events: RawEvents, token: np.ndarray, cleaned: np.ndarray) -> None:
    """Infinite numbers of known codes (that no valid range set aside) cannot be scaled."""
    if len(cleaned) and not np.isfinite([events.time.min(), events.time.max()]).all():
        raise DataError(
            f"Expected finite event times. Got {(~np.isfinite(events.time)).sum()} that are NaN "
            "or infinite. Drop these events before nesting."
        )
    if not np.isinf([np.fmin.reduce(cleaned, initial=0), np.fmax.reduce(cleaned, initial=0)]).any():
        return
    infinite = np.flatnonzero(np.isinf(cleaned))
    infinite = infinite[token[infinite] >= N_SPECIAL]
    if len(infinite):
        ids = np.unique(events.code[infinite])
        names = ", ".join(repr(events.codes[k]) for k in ids[:5])
        raise DataError(
            f"Expected finite values or NaN. Got {len(infinite)} infinite ones, at codes {names}"
            f"{' and more' if len(ids) > 5 else ''}. Replace them by NaN, or give these codes a "
            "valid range with codes={...: {'range': [low, high]}}."
        )


def is_kind(vocabulary: Vocabulary, kind: Kind) -> np.ndarray:
    return np.array([k == kind for k in vocabulary.kinds])


def _ignored(events: RawEvents, vocabulary: Vocabulary, token: np.ndarray) -> np.ndarray:
    """Positions of events of known codes whose number or text finds no place in the tokens."""
    presence = is_kind(vocabulary, "presence")
    presence[:N_SPECIAL] = False
    with_categories = np.diff(vocabulary.category_offsets) > 0
    categorical = is_kind(vocabulary, "categorical")
    mask = None
    if presence.any():
        mask = presence[token] & ~np.isnan(events.value)
    if events.text is not None:
        no_place = ~with_categories
        no_place[:N_SPECIAL] = False
        has_text = events.text >= 0
        set_aside = no_place[token] & has_text
        if categorical.any():
            set_aside |= categorical[token] & has_text & ~np.isnan(events.value)
        mask = set_aside if mask is None else mask | set_aside
    return np.empty(0, np.int64) if mask is None else np.flatnonzero(mask)
