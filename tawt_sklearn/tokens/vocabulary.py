"""The vocabulary: everything a tokenised events column means, in one immutable object.

A tokenised column carries its vocabulary in the dtype, as a JSON string, so that it survives
pickling, Parquet and a trip through somebody else's pipeline.  This module is the only one that
writes or reads that string.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from numbers import Integral
from typing import Any, Literal

import numpy as np
import pandas as pd

from tawt_sklearn.exceptions import DataError

UNKNOWN, MISSING, MASK = 0, 1, 2
"""Token ids of an unseen (or rare) code, of an event without a code, and of a masked event."""

SPECIAL_CODES = ("[UNK]", "[MISSING]", "[MASK]")
N_SPECIAL = len(SPECIAL_CODES)

Kind = Literal["numeric", "categorical", "presence"]
CodeLabel = str | int

_FORMAT = 1  # raise when a field changes its meaning, so that old files fail with a message


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """What token ids, scaled values and category ids of a tokenised events column stand for.

    Fields marked (V,) hold one entry per token id, special tokens first; arrays are read-only.

    Parameters
    ----------
    codes : tuple of (str or int), (V,)
        Code of each token; integer codes stay integers.  Ids 0, 1, 2 are ``"[UNK]"``,
        ``"[MISSING]"`` and ``"[MASK]"``, real codes follow by falling training frequency, and last
        those that were added after ``fit``.
    kinds : tuple of {"numeric", "categorical", "presence"}, (V,)
        ``numeric`` codes have scaled values (and, where their events also carry text,
        categories), ``categorical`` codes have categories only, ``presence`` codes neither.
    labels : tuple of str, (V,)
        Names for display; the code itself unless the user's ``codes`` say otherwise.
    counts : ndarray of int64, (V,)
        Training events per token (rare codes are counted at ``[UNK]``); 0 for codes that were
        added by their settings alone.
    factor, low, high, log : ndarray, (V,)
        Unit factor, valid range (after the factor; infinite = open) and whether ``log1p`` is
        taken, in this order, before scaling.
    center, scale : ndarray of float64, (V,)
        ``scaled = (transformed - center) / scale`` for ``"robust"`` and ``"standard"`` scaling.
    knot_offsets, knot_values, knot_scores : ndarray
        Quantile tables, ragged over tokens; empty unless ``value_scaling == "quantile"``.
    categories : tuple of (int, str)
        Token id and category label of each category id, grouped by token; every token that has
        categories has ``"[UNK]"`` as its first one.
    category_numbers : ndarray of float64, (n_categories,)
        The number a category was made from, NaN where it was a text.
    value_scaling : {"robust", "standard", "quantile", None}
    clip : float or None
        Scaled values lie in ``[-clip, clip]``.
    time_unit : str
        Unit of times, ``time_scale`` and the two quantile tables.
    timezone : str or None
        Clock kind of the training data: None = numbers, ``"naive"``, else a time zone.
    time_origin : {"zero", "first", "end"}
        The rule behind ``start`` of tokenised rows, ``"auto"`` resolved.
    known_start : bool
        Whether a known window start took precedence over the rule.
    time_scale : float
        Typical (median) gap between successive distinct event times of one row, > 0.
    time_quantiles : ndarray of float64, (21,)
        Quantiles 0, .05, ..., 1 of ``time - start`` over training events.
    span_quantiles : ndarray of float64, (21,)
        The same of ``end - start`` over training rows that have events.
    """

    codes: tuple[CodeLabel, ...]
    kinds: tuple[Kind, ...]
    labels: tuple[str, ...]
    counts: np.ndarray
    factor: np.ndarray
    low: np.ndarray
    high: np.ndarray
    log: np.ndarray
    center: np.ndarray
    scale: np.ndarray
    knot_offsets: np.ndarray
    knot_values: np.ndarray
    knot_scores: np.ndarray
    categories: tuple[tuple[int, str], ...]
    category_numbers: np.ndarray
    value_scaling: str | None
    clip: float | None
    time_unit: str
    timezone: str | None
    time_origin: str
    known_start: bool
    time_scale: float
    time_quantiles: np.ndarray
    span_quantiles: np.ndarray

    def __post_init__(self) -> None:
        for name, dtype in _ARRAYS.items():
            array: np.ndarray = np.asarray(getattr(self, name), dtype=dtype)
            if array.flags.writeable:
                array = array.copy()
                array.flags.writeable = False
            object.__setattr__(self, name, array)
        V = len(self.codes)
        for name in _PER_TOKEN:
            if len(getattr(self, name)) != V:
                raise DataError(
                    f"A vocabulary of {V} codes needs {V} entries in {name!r}. "
                    f"Got {len(getattr(self, name))}."
                )
        self._check_numbers()
        if self.codes[:N_SPECIAL] != SPECIAL_CODES:
            raise DataError(
                f"The first codes of a vocabulary are {SPECIAL_CODES}. "
                f"Got {self.codes[:N_SPECIAL]}."
            )

    def _check_numbers(self) -> None:
        if odd := [name for name in _ARRAYS if getattr(self, name).ndim != 1]:
            raise DataError(f"Arrays of a vocabulary have one axis. Got others: {odd}.")
        scales = np.concatenate([self.scale, [self.time_scale]])
        if not (
            np.isfinite(scales).all() and (scales > 0).all() and np.isfinite(self.center).all()
        ):
            raise DataError("Scales of a vocabulary are positive, centres are finite. Got others.")
        if self.clip is not None and not (np.isfinite(self.clip) and self.clip > 0):
            raise DataError(f"The clip of a vocabulary is positive or None. Got {self.clip!r}.")
        if self.time_origin not in ("zero", "first", "end"):
            raise DataError(f"Got an unknown time_origin {str(self.time_origin)[:40]!r}.")
        knots = self.knot_offsets
        if len(knots) and (knots[0] < 0 or (np.diff(knots) < 0).any()):
            raise DataError("Offsets of a vocabulary's quantile tables rise. Got others.")
        if len(knots) and knots[-1] > min(len(self.knot_values), len(self.knot_scores)):
            raise DataError("Quantile tables of a vocabulary are as long as they say. Got others.")

    # ---- sizes and look-ups ----------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def n_tokens(self) -> int:
        """Number of token ids, the special ones included (V)."""
        return len(self.codes)

    @property
    def n_categories(self) -> int:
        """Number of category ids over all codes."""
        return len(self.categories)

    @cached_property
    def token_of(self) -> dict[CodeLabel, int]:
        """Code to token id (special tokens included)."""
        return {code: token for token, code in enumerate(self.codes)}

    @cached_property
    def category_of(self) -> dict[tuple[int, str], int]:
        """(token id, category label) to category id."""
        return {pair: category for category, pair in enumerate(self.categories)}

    @cached_property
    def category_offsets(self) -> np.ndarray:
        """Category ids of token ``k`` are ``category_offsets[k]`` to ``category_offsets[k + 1]``.

        The first of them is the token's ``"[UNK]"`` category; tokens without categories have an
        empty range.  int64, (V + 1,).
        """
        tokens = np.fromiter((token for token, _ in self.categories), np.int64)
        return _frozen(np.searchsorted(tokens, np.arange(len(self) + 1)).astype(np.int64))

    @cached_property
    def integer_codes(self) -> bool:
        """Whether the codes of the raw data are integers."""
        return len(self) > N_SPECIAL and all(isinstance(c, int) for c in self.codes[N_SPECIAL:])

    @cached_property
    def code_index(self) -> pd.Index:
        """``.codes`` of a tokenised column: the codes as strings, in id order."""
        return pd.Index([str(code) for code in self.codes], dtype="str")

    @cached_property
    def category_index(self) -> pd.Index:
        """``.texts`` of a tokenised column: ``"code=category"``, in id order."""
        names = pd.Index([f"{self.codes[token]}={label}" for token, label in self.categories])
        if not names.is_unique:  # code "a=b" with "c" beside code "a" with "b=c"
            names = pd.Index([f"{name} ({k})" for k, name in enumerate(names)])
        return names.astype("str")

    # ---- growing and renaming --------------------------------------------------------------

    def extends(self, other: Vocabulary) -> bool:
        """Whether everything that ``other`` knows stands here under the same ids.

        Then tokens of ``other`` mean the same here, and what was learned for them can be used;
        this vocabulary may know more codes, with their categories, behind.

        Parameters
        ----------
        other : Vocabulary

        Returns
        -------
        bool
            Compared for the tokens of ``other``: codes, kinds, counts, cleaning, scaling and
            categories, exactly and in order, so that a renamed vocabulary does not extend the one
            before; and for the whole: value scaling, clip and clock.  Not compared are labels,
            which are for display, and the time scale and time quantiles, which change no token.
        """
        V, K, C = len(other), len(other.knot_values), len(other.categories)
        sizes = {
            **dict.fromkeys(_PER_TOKEN, V),
            "codes": V,
            "categories": C,
            "category_numbers": C,
            "knot_offsets": len(other.knot_offsets),
            "knot_values": K,
            "knot_scores": K,
        }
        del sizes["labels"]
        same = all(getattr(self, name) == getattr(other, name) for name in _OF_THE_WHOLE)
        return same and all(
            _equal(getattr(self, name)[:size], getattr(other, name)) for name, size in sizes.items()
        )

    def renamed(self, names: Mapping[CodeLabel, CodeLabel]) -> Vocabulary:
        """The same vocabulary with other names for some codes; all ids stay.

        Parameters
        ----------
        names : dict
            ``{old: new}``.  Codes may swap their names.

        Returns
        -------
        Vocabulary
            A label that was the old code becomes the new one; others stay.

        Raises
        ------
        DataError
            A code to rename is not there, or a special token; a new name is taken, given twice,
            that of a special token, or no integer where the codes are integers (and the reverse).
        """
        if not isinstance(names, Mapping):
            raise DataError(f"Expected a dictionary {{old code: new code}}. Got {names!r}.")
        new = {self.as_code(old): self.as_code(name) for old, name in names.items()}
        if absent := [old for old in new if old not in self.token_of]:
            raise DataError(
                f"Expected codes of the vocabulary to rename. Got {absent[0]!r}, which it lacks. "
                "The keys are the old names."
            )
        staying = set(self.codes) - set(new)
        taken: set[CodeLabel] = set()
        for old, name in new.items():
            if name in staying:
                raise DataError(
                    f"Expected new names that no code has. Got {name!r} for {old!r}, and "
                    f"{name!r} is in the vocabulary already. Choose another name, or rename that "
                    "code, too."
                )
            if name in taken:
                raise DataError(
                    f"Expected a new name for each code. Got {name!r} for two of them. Two codes "
                    "become one in the raw data only, before fit."
                )
            taken.add(name)
        return replace(
            self,
            codes=tuple(new.get(code, code) for code in self.codes),
            labels=tuple(
                str(new.get(code, code)) if label == str(code) else label
                for code, label in zip(self.codes, self.labels, strict=True)
            ),
        )

    def as_code(self, name: Any) -> CodeLabel:
        """The name of a code, of the type that codes have here.

        Raises
        ------
        DataError
            A string where codes are integers, or the reverse; a blank string; the name of a
            special token.
        """
        if self.integer_codes:
            wanted = "integers of 64 bits"
            if isinstance(name, Integral) and not isinstance(name, bool) and _fits(int(name)):
                return int(name)
        else:
            wanted = "strings that are not blank"
            if name in SPECIAL_CODES:
                raise DataError(
                    f"Expected codes of events. Got {name!r}, a special token, which keeps its "
                    "name and place. Leave it out, or choose another name."
                )
            if isinstance(name, str) and name.strip():
                return str(name)
        raise DataError(
            f"Expected codes that are {wanted}, like those of the vocabulary. Got {name!r}. "
            "Convert the names first."
        )

    # ---- JSON ------------------------------------------------------------------------------

    def to_json(self) -> str:
        """The vocabulary as one line of JSON; the same content gives the same string."""
        return self._json

    @cached_property
    def _json(self) -> str:
        content: dict[str, Any] = {"format": _FORMAT}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in _ARRAYS:
                value = _to_plain(value)
            content[field.name] = value
        return json.dumps(content, separators=(",", ":"), allow_nan=False)

    @staticmethod
    def from_json(text: str) -> Vocabulary:
        """Read what :meth:`to_json` wrote; the last few strings are remembered.

        Raises
        ------
        DataError
            The string is not a vocabulary, or one of another version of the format.
        """
        return _parse(text)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Vocabulary):
            return NotImplemented
        return self is other or self._json == other._json

    def __hash__(self) -> int:
        return hash(self._json)

    def __reduce__(self) -> tuple[Any, ...]:
        return Vocabulary.from_json, (self._json,)

    def __repr__(self) -> str:
        return (
            f"Vocabulary({len(self) - N_SPECIAL} codes, {self.n_categories} categories, "
            f"value_scaling={self.value_scaling!r}, time_unit={self.time_unit!r})"
        )


_ARRAYS: dict[str, type] = {
    "counts": np.int64,
    "factor": np.float64,
    "low": np.float64,
    "high": np.float64,
    "log": np.bool_,
    "center": np.float64,
    "scale": np.float64,
    "knot_offsets": np.int64,
    "knot_values": np.float64,
    "knot_scores": np.float64,
    "category_numbers": np.float64,
    "time_quantiles": np.float64,
    "span_quantiles": np.float64,
}
_PER_TOKEN = ("kinds", "labels", "counts", "factor", "low", "high", "log", "center", "scale")
_OF_THE_WHOLE = ("value_scaling", "clip", "time_unit", "timezone", "time_origin", "known_start")


def _equal(ours: Any, theirs: Any) -> bool:
    if isinstance(theirs, np.ndarray):
        return np.array_equal(ours, theirs, equal_nan=theirs.dtype == np.float64)
    return ours == theirs


def _fits(number: int) -> bool:
    limits = np.iinfo(np.int64)
    return bool(limits.min <= number <= limits.max)


def _frozen(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def _to_plain(array: np.ndarray) -> list[Any]:
    """Array to a JSON list; strict JSON has no NaN or infinity, so those become words."""
    if array.dtype != np.float64 or np.isfinite(array).all():
        return array.tolist()
    words = {math.inf: "inf", -math.inf: "-inf"}
    return [x if math.isfinite(x) else words.get(x, "nan") for x in array.tolist()]


def _from_plain(values: Sequence[Any], dtype: type) -> np.ndarray:
    if dtype is np.float64:
        return _frozen(np.array([float(x) for x in values], dtype=dtype))
    return _frozen(np.array(values, dtype=dtype))


@functools.lru_cache(maxsize=32)
def _parse(text: str) -> Vocabulary:
    try:
        content = json.loads(text)
        version = content.pop("format")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DataError(
            "Expected the JSON of a vocabulary, as Vocabulary.to_json() writes it. "
            f"Got {text[:60]!r}."
        ) from None
    if version != _FORMAT:
        raise DataError(
            f"This version reads vocabularies of format {_FORMAT}. Got format {version!r}. "
            "Tokenise the raw data again, or use the version that wrote it."
        )
    missing = {field.name for field in fields(Vocabulary)} - set(content)
    if missing:
        raise DataError(f"The JSON of a vocabulary lacks {sorted(missing)}. It may be cut short.")
    for name, dtype in _ARRAYS.items():
        content[name] = _from_plain(content[name], dtype)
    for name in ("codes", "kinds", "labels"):
        content[name] = tuple(content[name])
    content["categories"] = tuple((int(token), label) for token, label in content["categories"])
    return Vocabulary(**content)
