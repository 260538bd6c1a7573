"""Learning a vocabulary from raw flat training events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tawt_sklearn.exceptions import DataError
from tawt_sklearn.tokens import categories, times, values
from tawt_sklearn.tokens.codebook import CodeRule
from tawt_sklearn.tokens.encoding import (
    Encoded,
    RawEvents,
    Seen,
    check_finite,
    finish,
    token_table,
)
from tawt_sklearn.tokens.vocabulary import N_SPECIAL, SPECIAL_CODES, CodeLabel, Kind, Vocabulary


def learn(
    events: RawEvents,
    *,
    min_count: int,
    value_scaling: str | None,
    clip: float | None,
    categorical: Any,
    rules: Mapping[str, CodeRule],
    clock: Mapping[str, Any],
) -> tuple[Vocabulary, Seen, Encoded]:
    """Learn the vocabulary of training events, and encode them.

    Parameters
    ----------
    categorical : "auto" or set of str
        Codes whose numbers and texts are categories.
    clock : dict
        ``time_unit, timezone, time_origin, known_start`` of the vocabulary.
    """
    real, seen_codes = choose_codes(events, min_count)
    codes: tuple[CodeLabel, ...] = (*SPECIAL_CODES, *real)
    V = len(codes)
    table = token_table(events.codes, {code: k for k, code in enumerate(codes)})
    token = table.take(events.code)
    counts = np.zeros(V, np.int64)
    np.add.at(counts, table, events.counts)

    rule = [CodeRule()] * N_SPECIAL + [rules.get(str(code), CodeRule()) for code in real]
    kinds, takes_text = _kinds(events, token, counts, codes, rule, categorical)
    numeric = np.array([kind == "numeric" for kind in kinds])
    takes_numbers = np.array([kind == "categorical" for kind in kinds])
    cleaning: dict[str, Any] = {
        "factor": np.array([r.factor for r in rule]),
        "low": np.array([r.low for r in rule]),
        "high": np.array([r.high for r in rule]),
        "log": np.array([r.log for r in rule]) & numeric,
    }
    cleaned, outside = values.clean_values(token, events.value, **cleaning)
    check_finite(events, token, cleaned)
    found = categories.group_categories(
        token,
        cleaned,
        events.text,
        events.texts,
        takes_text=takes_text,
        takes_numbers=takes_numbers,
    )
    with_categories = np.flatnonzero(takes_numbers | _occurs(found, V))
    pairs, numbers = categories.learn_categories(found, with_categories, min_count)

    scaling = values.Scaling.identity(V)
    if value_scaling is not None:
        numbers_only = cleaned
        if not numeric[counts > 0].all():
            numbers_only = np.where(numeric.take(token), cleaned, np.float32(np.nan))
        scaling = values.fit_scaling(values.SortedNumbers.of(token, numbers_only, V), value_scaling)
    rng = np.random.default_rng(0)
    vocabulary = Vocabulary(
        codes=codes,
        kinds=tuple(kinds),
        labels=tuple(r.label or str(code) for code, r in zip(codes, rule, strict=True)),
        counts=counts,
        **cleaning,
        **vars(scaling),
        categories=tuple(pairs),
        category_numbers=np.array(numbers, float),
        value_scaling=value_scaling,
        clip=None if value_scaling is None or clip is None else float(clip),
        **clock,
        time_scale=times.typical_gap(events.time, events.offsets, rng),
        time_quantiles=times.time_quantiles(events.time, events.offsets, events.origin, rng),
        span_quantiles=times.span_quantiles(events.offsets, events.origin, events.end),
    )
    seen = Seen(seen_codes, frozenset((codes[token], label) for token, label in found.pairs))
    return vocabulary, seen, finish(events, vocabulary, seen, token, cleaned, outside, found)


def choose_codes(events: RawEvents, min_count: int) -> tuple[list[CodeLabel], frozenset[CodeLabel]]:
    """Codes that get a token, by falling frequency (ties by label), and all codes seen."""
    counts = events.counts[:-1]
    labels = events.codes.tolist()
    present = [
        (-int(n), label)
        for label, n in zip(labels, counts.tolist(), strict=True)
        if n and label not in SPECIAL_CODES
    ]
    present.sort()
    if not present:
        raise DataError(
            "Expected events with a code to learn from. Got only events without one; check the "
            "column that was given as code."
        )
    kept = [label for n, label in present if -n >= min_count]
    if not kept:
        raise DataError(
            f"Expected codes that occur at least min_count={min_count} times. Got {len(present)} "
            f"codes, the most frequent {-present[0][0]} times. Lower min_count."
        )
    return kept, frozenset(label for _, label in present)


def _kinds(
    events: RawEvents,
    token: np.ndarray,
    counts: np.ndarray,
    codes: tuple[CodeLabel, ...],
    rules: list[CodeRule],
    categorical: Any,
) -> tuple[list[Kind], np.ndarray]:
    """Kind of each token, and which tokens' texts become categories."""
    V = len(codes)
    has_number = counts > np.bincount(token[events.without_number], minlength=V)
    has_text = np.zeros(V, bool)
    if events.text is not None:
        has_text[token[events.text >= 0]] = True
    kinds: list[Kind] = ["presence"] * V
    takes_text = np.zeros(V, bool)
    for k in range(N_SPECIAL, V):
        kind = rules[k].kind
        listed = categorical != "auto" and str(codes[k]) in categorical
        if kind is None and listed:
            kind = "categorical"
        takes_text[k] = kind == "categorical" or (
            kind is None and categorical == "auto" and has_text[k]
        )
        if kind is None:
            kind = "numeric" if has_number[k] else "categorical" if takes_text[k] else "presence"
        kinds[k] = kind
    return kinds, takes_text


def _occurs(found: categories.CategoryEvents, V: int) -> np.ndarray:
    mask = np.zeros(V, bool)
    mask[[token for token, _ in found.pairs]] = True
    return mask
