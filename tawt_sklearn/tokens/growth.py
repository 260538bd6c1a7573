"""Growing a vocabulary: codes that come after ``fit`` get ids behind all others.

Ids of known tokens and categories never change, so a network that was trained on the old
vocabulary needs new rows at the end of its tables, and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from tawt_sklearn.exceptions import DataError
from tawt_sklearn.tokens.categories import UNKNOWN_CATEGORY
from tawt_sklearn.tokens.codebook import CodeRule, load_codebook
from tawt_sklearn.tokens.encoding import RawEvents, Seen
from tawt_sklearn.tokens.learning import learn
from tawt_sklearn.tokens.vocabulary import N_SPECIAL, SPECIAL_CODES, CodeLabel, Kind, Vocabulary

_OWN_KEYS = ("center", "scale", "categories")


def refuse_names(codes: Any) -> None:
    """Names without settings or data say nothing about the values behind them.

    Raises
    ------
    DataError
        ``codes`` is a name or a collection of names.
    """
    if isinstance(codes, str | int):
        codes = [codes]
    if isinstance(codes, list | tuple | set | frozenset | pd.Index | np.ndarray) and (
        len(codes) and all(isinstance(code, str | int | np.integer) for code in codes)
    ):
        name = next(iter(codes))
        raise DataError(
            "Expected histories to learn new codes from, or a dictionary of settings. Got names "
            f"alone, such as {name!r}. Give {{{name!r}: {{'kind': 'presence'}}}} for a code "
            f"without values, {{{name!r}: {{'kind': 'numeric', 'center': ..., 'scale': ...}}}} for "
            f"one with numbers, {{{name!r}: {{'kind': 'categorical', 'categories': [...]}}}} for "
            "one with texts."
        )


def grow_from_events(
    vocabulary: Vocabulary,
    seen: Seen,
    events: RawEvents,
    *,
    min_count: int,
    categorical: Any,
    rules: Mapping[str, CodeRule],
) -> tuple[Vocabulary, Seen]:
    """Learn the codes without a token from their own events, and append them.

    Parameters
    ----------
    vocabulary, seen
        What is known; ``value_scaling`` and ``clip`` are the vocabulary's.
    events : RawEvents
        Events of known codes, and those without a code, are not looked at.
    min_count, categorical, rules
        As in :func:`~.learning.learn`.

    Returns
    -------
    vocabulary : Vocabulary
        The same one where there is no new code.
    seen : Seen

    Raises
    ------
    DataError
        No new code occurs ``min_count`` times; infinite values.
    """
    known = np.array([code in vocabulary.token_of for code in events.codes.tolist()] + [True])
    new = np.flatnonzero(~known[events.code])
    if not len(new):
        return vocabulary, seen
    addition, new_seen, _ = learn(
        _events_at(events, new),
        min_count=min_count,
        value_scaling=vocabulary.value_scaling,
        clip=vocabulary.clip,
        categorical=categorical,
        rules=rules,
        clock={
            "time_unit": vocabulary.time_unit,
            "timezone": vocabulary.timezone,
            "time_origin": vocabulary.time_origin,
            "known_start": vocabulary.known_start,
        },
    )
    return _appended(vocabulary, addition), _both(seen, new_seen)


def grow_by_settings(
    vocabulary: Vocabulary,
    seen: Seen,
    settings: Mapping[Any, Any],
    rules: Mapping[str, CodeRule],
) -> tuple[Vocabulary, Seen]:
    """Append codes that are described by the user instead of learned.

    Parameters
    ----------
    vocabulary, seen
        What is known.
    settings : dict
        By code; see :meth:`~tawt_sklearn.TripletSequencer.add_codes`.  Ids follow its order.
    rules : dict
        Rules by code as a string, for what the settings leave open.

    Returns
    -------
    vocabulary : Vocabulary
        The same one where ``settings`` is empty.
    seen : Seen

    Raises
    ------
    DataError
        A code is known already, of another type or special; a setting is missing, faulty or of no
        use.
    """
    codes = [vocabulary.as_code(code) for code in settings]
    if known := [code for code in codes if code in vocabulary.token_of]:
        raise DataError(
            f"Expected codes that are new to the vocabulary. Got {known[0]!r}, which is in it "
            "already and stays as it was learned. Leave it out, or fit anew to change it."
        )
    if not codes:
        return vocabulary, seen
    described = [_SPECIAL] * N_SPECIAL + [
        _Described.of(code, given, rules.get(str(code), CodeRule()), vocabulary.value_scaling)
        for code, given in zip(codes, settings.values(), strict=True)
    ]
    names: tuple[CodeLabel, ...] = (*SPECIAL_CODES, *codes)
    pairs = [(k, *category) for k, one in enumerate(described) for category in one.categories]
    with_knot = [vocabulary.value_scaling == "quantile" and d.kind == "numeric" for d in described]
    addition = replace(
        vocabulary,
        codes=names,
        kinds=tuple(d.kind for d in described),
        labels=tuple(d.rule.label or str(c) for c, d in zip(names, described, strict=True)),
        counts=np.zeros(len(names)),
        factor=np.array([d.rule.factor for d in described]),
        low=np.array([d.rule.low for d in described]),
        high=np.array([d.rule.high for d in described]),
        log=np.array([d.rule.log and d.kind == "numeric" for d in described]),
        center=np.array([d.center for d in described]),
        scale=np.array([d.scale for d in described]),
        # One knot, continued by 1 / scale on both sides: the scores of a normal distribution.
        knot_offsets=np.cumsum([0, *with_knot]),
        knot_values=np.array([d.center for d in described], np.float32)[with_knot],
        knot_scores=np.zeros(sum(with_knot)),
        categories=tuple((token, label) for token, label, _ in pairs),
        category_numbers=np.array([number for *_, number in pairs], float),
    )
    labels = frozenset((names[k], label) for k, label, _ in pairs if label != UNKNOWN_CATEGORY)
    return _appended(vocabulary, addition), _both(seen, Seen(frozenset(codes), labels))


def rename_seen(seen: Seen, before: Vocabulary, after: Vocabulary) -> Seen:
    """What occurred, under the names of the renamed vocabulary."""
    new = dict(zip(before.codes, after.codes, strict=True))
    return Seen(
        frozenset(new.get(code, code) for code in seen.codes),
        frozenset((new.get(code, code), label) for code, label in seen.categories),
    )


def _events_at(events: RawEvents, at: np.ndarray) -> RawEvents:
    """The events at these rising positions; all rows stay."""
    return replace(
        events,
        time=events.time[at],
        code=events.code[at],
        value=events.value[at],
        text=None if events.text is None else events.text[at],
        offsets=np.searchsorted(at, events.offsets),
    )


def _both(seen: Seen, more: Seen) -> Seen:
    return Seen(seen.codes | more.codes, seen.categories | more.categories)


_PER_TOKEN_ARRAYS = ("counts", "factor", "low", "high", "log", "center", "scale")


def _appended(vocabulary: Vocabulary, addition: Vocabulary) -> Vocabulary:
    """The real codes of ``addition`` behind those of ``vocabulary``, which keeps its clock."""
    ours, theirs = vars(vocabulary), vars(addition)
    shift = len(vocabulary) - N_SPECIAL
    # The special tokens of the addition have neither knots nor categories.
    their_knots = addition.knot_offsets[N_SPECIAL + 1 :] + len(vocabulary.knot_values)
    joined: dict[str, Any] = {
        name: np.concatenate([ours[name], theirs[name][N_SPECIAL:]]) for name in _PER_TOKEN_ARRAYS
    }
    joined |= {
        name: np.concatenate([ours[name], theirs[name]])
        for name in ("knot_values", "knot_scores", "category_numbers")
    }
    joined |= {name: ours[name] + theirs[name][N_SPECIAL:] for name in ("codes", "kinds", "labels")}
    moved = tuple((token + shift, label) for token, label in addition.categories)
    return replace(
        vocabulary,
        **joined,
        knot_offsets=np.concatenate([vocabulary.knot_offsets, their_knots]),
        categories=vocabulary.categories + moved,
    )


@dataclass
class _Described:
    """The settings of one code, complete and checked; categories begin with ``"[UNK]"``."""

    rule: CodeRule
    kind: Kind
    center: float
    scale: float
    categories: list[tuple[str, float]]  # label, and the number behind it (NaN = text)

    @classmethod
    def of(cls, code: CodeLabel, given: Any, rule: CodeRule, scaling: str | None) -> _Described:
        if given is None:
            given = {}
        own: dict[str, Any] = {}
        if isinstance(given, Mapping):
            by_rule = {
                "kind": rule.kind,
                "range": [rule.low, rule.high],
                "factor": rule.factor,
                "log": rule.log,
                "label": rule.label,
            }
            if unknown := [key for key in given if key not in (*by_rule, *_OWN_KEYS)]:
                raise DataError(
                    f"codes[{str(code)!r}]: unknown key {unknown[0]!r}. Expected keys out of "
                    f"{', '.join((*by_rule, *_OWN_KEYS))}."
                )
            own = {key: given[key] for key in _OWN_KEYS if given.get(key) is not None}
            given = by_rule | {key: given[key] for key in given if key not in _OWN_KEYS}
        rule = load_codebook({code: given})[str(code)]
        kind = rule.kind
        if kind is None and own:
            kind = "categorical" if set(own) == {"categories"} else "numeric"
        if kind is None:
            raise DataError(
                f"codes[{str(code)!r}]: expected 'kind', which is not known without data. Got "
                "none. Give 'numeric', 'categorical' or 'presence', or histories to learn from."
            )
        scaled = kind == "numeric" and scaling is not None
        wanted = {"center", "scale"} if scaled else set()
        if kind == "categorical":
            wanted = {"categories"}
        of_use = wanted | ({"categories"} if kind == "numeric" else set())
        about = f"{kind} code" + (f" with value_scaling={scaling!r}" if kind == "numeric" else "")
        if lacking := [key for key in _OWN_KEYS if key in wanted and key not in own]:
            raise DataError(
                f"codes[{str(code)!r}]: expected {lacking[0]!r}, which a {about} needs. Got none. "
                "Give it, or histories to learn it from."
            )
        if idle := [key for key in own if key not in of_use]:
            raise DataError(
                f"codes[{str(code)!r}]: expected nothing that a {about} has no use for. Got "
                f"{idle[0]!r}. Leave it out, or change the kind."
            )
        return cls(
            rule=rule,
            kind=kind,
            center=_number(code, "center", own.get("center", 0.0)),
            scale=_number(code, "scale", own.get("scale", 1.0)),
            categories=_categories(code, own["categories"], kind) if "categories" in own else [],
        )


_SPECIAL = _Described(CodeRule(), "presence", center=0.0, scale=1.0, categories=[])


def _number(code: CodeLabel, key: str, value: Any) -> float:
    # Below the smallest float32 a scale is 0 to the values that it divides.
    if not _is_value(value) or (key == "scale" and value < np.finfo(np.float32).tiny):
        sign = "positive " if key == "scale" else ""
        raise DataError(
            f"codes[{str(code)!r}]: {key} should be a finite {sign}number. Got {value!r}."
        )
    return float(value)


def _is_value(number: Any) -> bool:
    """Whether this is a number that a value of an event, a float32, can be."""
    limit = float(np.finfo(np.float32).max)
    if not isinstance(number, int | float | np.integer | np.floating) or isinstance(number, bool):
        return False
    return bool(-limit <= number <= limit)


def _categories(code: CodeLabel, given: Any, kind: Kind) -> list[tuple[str, float]]:
    """Labels of categories and the numbers behind them, as events with them would give."""
    if not isinstance(given, list | tuple | pd.Index | np.ndarray) or not len(given):
        raise DataError(
            f"codes[{str(code)!r}]: categories should be a list of texts or numbers. Got {given!r}."
        )
    found = {UNKNOWN_CATEGORY: math.nan}
    for category in given:
        if isinstance(category, str) and category.strip():
            label, number = str(category), math.nan
        elif kind == "categorical" and _is_value(category):
            number = float(np.float32(category) + np.float32(0))
            label = np.format_float_positional(np.float32(number), trim="-")
        else:
            wanted = "texts or finite numbers" if kind == "categorical" else "texts"
            raise DataError(
                f"codes[{str(code)!r}]: categories of a {kind} code should be {wanted}. "
                f"Got {category!r}."
            )
        if label in found:
            raise DataError(
                f"codes[{str(code)!r}]: expected different categories, besides "
                f"{UNKNOWN_CATEGORY!r}, which is always there. Got {label!r} twice. Leave one out."
            )
        found[label] = number
    return list(found.items())
