"""What an events column is made of, and the operations on it that pandas need not know about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pandas as pd

from tawt_sklearn.events import ragged
from tawt_sklearn.events.labels import drop_unused, map_ids, merge_dictionaries
from tawt_sklearn.exceptions import DataError

Pick = Callable[[np.ndarray], np.ndarray]


@dataclass(slots=True)
class Content:
    """The arrays of an events column, as :class:`EventsArray` describes them.

    The arrays themselves are never written to: whatever changes a column puts other arrays in
    their place. Views of a whole column share one content, so that they see such a change.
    """

    time: np.ndarray
    code: np.ndarray
    value: np.ndarray
    text: np.ndarray | None
    offsets: np.ndarray
    codes: pd.Index
    texts: pd.Index | None
    start: np.ndarray | None
    end: np.ndarray | None
    isna: np.ndarray | None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def assign(self, other: Content) -> None:
        """Become `other`, for all who share this content."""
        for name in FIELDS:
            setattr(self, name, getattr(other, name))

    def pick_events(self, pick: Pick, offsets: np.ndarray) -> Content:
        """Other events: `pick` takes from each flat array. Row arrays stay."""
        return replace(
            self,
            time=pick(self.time),
            code=pick(self.code),
            value=pick(self.value),
            text=None if self.text is None else pick(self.text),
            offsets=offsets,
        )

    def pick_rows(self, pick: Pick) -> Content:
        """Other row arrays: `pick` takes from each. Events stay."""
        return replace(
            self,
            start=None if self.start is None else pick(self.start),
            end=None if self.end is None else pick(self.end),
            isna=None if self.isna is None else pick(self.isna),
        )

    def slice(self, start: int, stop: int) -> Content:
        """Rows `start` to `stop` as views; only the offsets are new."""
        bounds = self.offsets[start : stop + 1]
        events = slice(bounds[0], bounds[-1])
        part = self.pick_events(lambda flat: flat[events], bounds - bounds[0])
        return part.pick_rows(lambda column: column[start:stop])

    def take(self, rows: np.ndarray) -> Content:
        """Rows by position; -1 gives a missing row."""
        if len(rows) and rows[0] >= 0 and (rows[1:] > rows[:-1]).all():
            return self._keep(rows)
        positions, offsets = ragged.gather_rows(self.offsets, rows)
        taken = self.pick_events(lambda flat: np.asarray(flat).take(positions), offsets)
        missing = rows < 0
        if not missing.any():
            return taken.pick_rows(lambda column: column[rows])

        def pick(column: np.ndarray) -> np.ndarray:
            # One entry more, which -1 reads.
            return np.append(column, column.dtype.type(np.nan))[rows]

        taken = taken.pick_rows(pick)
        return taken if self.isna is not None else replace(taken, isna=missing)

    def _keep(self, rows: np.ndarray) -> Content:
        """Rising positions, as in the folds of a cross-validation: views or a mask will do."""
        part = self.slice(int(rows[0]), int(rows[-1]) + 1)
        if len(part) == len(rows):
            # A view of a small part would keep all the rest in memory.
            small = 4 * len(part.time) < len(self.time)
            return part.pick_events(np.array, part.offsets) if small else part
        lengths = np.diff(part.offsets)
        keep = np.zeros(len(lengths), dtype=bool)
        keep[rows - rows[0]] = True
        offsets = ragged.offsets_from_lengths(lengths[keep])
        if 8 * offsets[-1] < part.offsets[-1]:
            # So few that looking at every event costs more than finding theirs.
            positions, _ = ragged.gather_rows(part.offsets, rows - rows[0])
            kept = part.pick_events(lambda flat: np.asarray(flat).take(positions), offsets)
        else:
            mask = np.repeat(keep, lengths)
            kept = part.pick_events(lambda flat: flat[mask], offsets)
        return kept.pick_rows(lambda column: column[keep])

    def compact(self) -> Content:
        """Without unused dictionary entries; no texts at all if none is used."""
        code, codes = drop_unused(self.code, self.codes)
        text, texts = self.text, self.texts
        if text is not None and texts is not None:
            text, texts = drop_unused(text, texts)
            if not len(texts):
                text = texts = None
        return replace(self, code=code, codes=codes, text=text, texts=texts)

    def validate(self) -> None:
        """Raise DataError unless shapes, ids and the order of the times are as they must be."""
        if not len(self.offsets):
            raise DataError("Expected offsets to start with 0. Got no offsets.")
        size, total = len(self), len(self.time)
        for name in ("code", "value", "text"):
            flat = getattr(self, name)
            if flat is not None and len(flat) != total:
                raise DataError(
                    f"Expected as many entries in {name} as in time ({total}). Got {len(flat)}."
                )
        if self.offsets[0] != 0 or self.offsets[-1] != total or (np.diff(self.offsets) < 0).any():
            raise DataError(
                "Expected offsets to start with 0, never to fall and to end with the number of "
                f"events ({total}). Got {self.offsets[0]} to {self.offsets[-1]}."
            )
        for name in ("start", "end", "isna"):
            column = getattr(self, name)
            if column is not None and len(column) != size:
                raise DataError(
                    f"Expected one entry of {name} per row ({size}). Got {len(column)}."
                )
        if self.isna is not None and np.diff(self.offsets)[self.isna].any():
            raise DataError("Expected missing rows to have no events. Got some that have.")
        if np.isnan(self.time).any():
            raise DataError("Expected a time for every event. Got NaN.")
        if not ragged.is_sorted_within(self.time, self.offsets):
            raise DataError(
                "Expected times that never fall inside a row. Got some that do. Put the events in "
                "order with tawt_sklearn.events.ragged.sort_within, or let nest_events do it."
            )
        if (self.text is None) != (self.texts is None):
            raise DataError("Expected text and texts together. Got only one of them.")
        _validate_ids(self.code, self.codes, "code")
        if self.text is not None and self.texts is not None:
            _validate_ids(self.text, self.texts, "text")


FIELDS = tuple(field.name for field in fields(Content))


def concat(contents: Sequence[Content]) -> Content:
    """Rows of all contents one after the other, with merged dictionaries."""
    codes, code = _concat_ids([(content.code, content.codes) for content in contents], "codes")
    text, texts = None, None
    if any(content.texts is not None for content in contents):
        none = pd.Index([], dtype="str")
        texts, text = _concat_ids(
            [
                (np.full(len(content.time), -1, dtype=np.int32), none)
                if content.text is None or content.texts is None
                else (content.text, content.texts)
                for content in contents
            ],
            "texts",
        )
    lengths = np.concatenate([np.diff(content.offsets) for content in contents])
    return Content(
        time=np.concatenate([content.time for content in contents]),
        code=code,
        value=np.concatenate([content.value for content in contents]),
        text=text,
        offsets=ragged.offsets_from_lengths(lengths),
        codes=codes,
        texts=texts,
        start=_concat_rows(contents, "start", np.float64(np.nan)),
        end=_concat_rows(contents, "end", np.float64(np.nan)),
        isna=_concat_rows(contents, "isna", np.bool_(False)),
    )


def equal_rows(left: Content, right: Content) -> np.ndarray:
    """Which rows of two contents of the same size are equal, bool (B,); missing ones never are.

    NaN equals NaN, and labels are compared, not ids.
    """
    size = len(left)
    equal = np.diff(left.offsets) == np.diff(right.offsets)
    for content in (left, right):
        if content.isna is not None:
            equal &= ~content.isna
    for name in ("start", "end"):
        bounds = [getattr(content, name) for content in (left, right)]
        if any(bound is not None for bound in bounds):
            a, b = (np.full(size, np.nan) if bound is None else bound for bound in bounds)
            equal &= (a == b) | (np.isnan(a) & np.isnan(b))
    rows = np.flatnonzero(equal)
    if len(rows) < size:
        left, right = left.take(rows), right.take(rows)
    same = left.time == right.time
    same &= (left.value == right.value) | (np.isnan(left.value) & np.isnan(right.value))
    same &= left.code == _ids_in(left.codes, right.code, right.codes)
    if left.text is None or left.texts is None:
        if right.text is not None:
            same &= right.text < 0
    elif right.text is None or right.texts is None:
        same &= left.text < 0
    else:
        same &= left.text == _ids_in(left.texts, right.text, right.texts)
    different = np.searchsorted(left.offsets, np.flatnonzero(~same), side="right") - 1
    equal[rows[different]] = False
    return equal


def hash_rows(content: Content) -> np.ndarray:
    """Hash of each row, uint64 (B,): the same for equal rows, whatever their dictionaries."""
    lengths = np.diff(content.offsets)
    mixed = _mix(_bits(content.time))
    mixed = _mix(mixed ^ _bits(content.value))
    mixed = _mix(mixed ^ _label_hashes(content.code, content.codes))
    if content.text is not None and content.texts is not None:
        text = _mix(mixed ^ _label_hashes(content.text, content.texts))
        mixed = np.where(content.text >= 0, text, mixed)
    # The place within the row counts, or histories in another order would collide.
    place = np.arange(len(mixed)) - np.repeat(content.offsets[:-1], lengths)
    mixed = _mix(mixed + place.astype(np.uint64))
    total = np.zeros(len(mixed) + 1, dtype=np.uint64)
    np.cumsum(mixed, out=total[1:])
    rows = total[content.offsets[1:]] - total[content.offsets[:-1]]
    rows = _mix(rows ^ lengths.astype(np.uint64))
    for bound in (content.start, content.end):
        rows = _mix(rows ^ _bits(np.full(len(rows), np.nan) if bound is None else bound))
    return rows if content.isna is None else np.where(content.isna, np.uint64(0), rows)


def hash_steps(steps: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Hash of each case of a panel, uint64 (B,): steps (N, C) float64 and their offsets."""
    lengths = np.diff(offsets)
    place = np.arange(len(steps)) - np.repeat(offsets[:-1], lengths)
    mixed = _mix(place.astype(np.uint64))
    for channel in steps.T:
        mixed = _mix(mixed ^ _bits(channel))
    total = np.zeros(len(mixed) + 1, dtype=np.uint64)
    np.cumsum(mixed, out=total[1:])
    return _mix((total[offsets[1:]] - total[offsets[:-1]]) ^ lengths.astype(np.uint64))


def mix_hashes(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """One hash of two, uint64; which is the first matters."""
    return _mix(_mix(first) ^ second)


def column(values: Any, dtype: Any, copy: bool) -> np.ndarray:
    """1-D array of `dtype`; memory maps stay what they are."""
    array = np.asanyarray(values)
    if np.dtype(dtype).kind == "i" and array.dtype.kind == "f" and array.size:
        raise DataError(f"Expected integers as ids and offsets. Got {array.dtype} numbers.")
    array = np.asanyarray(array, dtype=dtype)
    if array.ndim != 1:
        raise DataError(f"Expected flat arrays with one axis. Got shape {array.shape}.")
    return np.array(array) if copy else array


def _validate_ids(ids: np.ndarray, labels: pd.Index, name: str) -> None:
    if len(ids) and (ids.min() < -1 or ids.max() >= len(labels)):
        raise DataError(
            f"Expected {name} ids of -1 (missing) to {len(labels) - 1}, the last entry of the "
            f"dictionary {name}s. Got {ids.min()} to {ids.max()}."
        )


def _concat_ids(parts: list[tuple[np.ndarray, pd.Index]], what: str) -> tuple[pd.Index, np.ndarray]:
    # Columns without events have no say in what the labels are.
    filled = [labels for ids, labels in parts if len(ids) and len(labels)]
    if not filled:
        filled = [max((labels for _, labels in parts), key=len)]
    merged, maps = merge_dictionaries(filled, what=what)
    remaining = iter(maps)
    mapped = [
        map_ids(ids, next(remaining)) if len(ids) and len(labels) else ids for ids, labels in parts
    ]
    return merged, np.concatenate(mapped)


def _concat_rows(contents: Sequence[Content], name: str, default: Any) -> np.ndarray | None:
    columns = [getattr(content, name) for content in contents]
    if all(known is None for known in columns):
        return None
    return np.concatenate(
        [
            np.full(len(content), default) if known is None else known
            for content, known in zip(contents, columns, strict=True)
        ]
    )


def _ids_in(labels: pd.Index, ids: np.ndarray, own: pd.Index) -> np.ndarray:
    """Ids of other labels in terms of `labels`; -2 for those it does not know."""
    if own is labels or own.equals(labels):
        return ids
    if len(own) == 0:
        return ids
    mapping = labels.get_indexer(own) if len(labels) else np.full(len(own), -1)
    return map_ids(ids, np.where(mapping < 0, -2, mapping).astype(np.int32))


def _label_hashes(ids: np.ndarray, labels: pd.Index) -> np.ndarray:
    hashes = pd.util.hash_array(labels.to_numpy(dtype=object), categorize=False)
    return np.append(hashes, np.uint64(1))[ids]


def _bits(numbers: np.ndarray) -> np.ndarray:
    """Bits of floats as uint64, one pattern for all NaN and one for both zeros."""
    numbers = np.where(
        np.isnan(numbers), numbers.dtype.type(np.nan), numbers + numbers.dtype.type(0)
    )
    return numbers.view(f"u{numbers.dtype.itemsize}").astype(np.uint64)


def _mix(bits: np.ndarray) -> np.ndarray:
    """Scramble 64 bits (finaliser of SplitMix64; Steele, Lea and Flood, OOPSLA 2014)."""
    bits = (bits + np.uint64(0x9E3779B97F4A7C15)).astype(np.uint64)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
