"""Event frames read for comparison: flat arrays in one order and one numbering of codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tawt_sklearn.events.array import EventsArray
from tawt_sklearn.events.content import Content, hash_rows
from tawt_sklearn.events.ragged import row_ids
from tawt_sklearn.exceptions import DataError
from tawt_sklearn.tokens import statics
from tawt_sklearn.tokens._columns import describe_clock, events_column

NO_CODE = "(no code)"
"""What events without a code are counted as."""


@dataclass(frozen=True, eq=False)
class Histories:
    """B subjects with E events, sorted by subject, time and code.

    Events that share a timestamp have no order of their own: that of their codes makes measures of
    sequence the same however the events were written down.

    Attributes
    ----------
    frame : DataFrame (B, ...)
        What was given, in the form of :func:`~tawt_sklearn.as_events`.
    array : EventsArray (B,)
        Its events column.
    row, code, text, stamp : int64 (E,)
        Subject, id of code and text (-1 = no text) in the numbering that all frames share, and
        number of the timestamp among all distinct (subject, time).
    time, value : float64 (E,)
    offsets : int64 (B + 1,)
    codes, texts : list
        Labels by id.
    """

    frame: pd.DataFrame
    array: EventsArray
    row: np.ndarray
    time: np.ndarray
    code: np.ndarray
    value: np.ndarray
    text: np.ndarray
    stamp: np.ndarray
    offsets: np.ndarray
    codes: list[Any]
    texts: list[str]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Number of events of each subject; int64 (B,)."""
        return np.diff(self.offsets)

    @property
    def static_names(self) -> list[Any]:
        """Names of the columns beside the events."""
        return statics.static_columns(self.frame)

    def stamps(self) -> tuple[np.ndarray, np.ndarray]:
        """Subject and time of each distinct timestamp; (T,) each."""
        first = np.flatnonzero(np.r_[True, self.stamp[1:] != self.stamp[:-1]][: len(self.stamp)])
        return self.row[first], self.time[first]

    def follows(self) -> np.ndarray:
        """Positions of the events that come after another one of the same subject."""
        return np.flatnonzero(self.row[1:] == self.row[:-1]) + 1

    def is_number(self) -> np.ndarray:
        """Which codes have numbers; bool (V,)."""
        return np.bincount(self.code[~np.isnan(self.value)], minlength=len(self.codes)) > 0

    def is_category(self) -> np.ndarray:
        """Which codes have texts; bool (V,)."""
        return np.bincount(self.code[self.text >= 0], minlength=len(self.codes)) > 0

    def by_code(self, keep: np.ndarray) -> np.ndarray:
        """Positions of the events of a mask (E,), by subject and code, in time order within."""
        at = np.flatnonzero(keep)
        return at[np.argsort(self.row[at] * len(self.codes) + self.code[at], kind="stable")]

    def hashes(self, *, with_statics: bool = False) -> np.ndarray:
        """A hash of each subject's set of events, the same for copies; uint64 (B,).

        Parameters
        ----------
        with_statics : bool
            Whether the columns beside the events count too.
        """
        order = np.lexsort((self.text, self.value, self.code, self.stamp))
        content = Content(
            time=self.time[order],
            code=self.code[order].astype(np.int32),
            value=self.value[order].astype(np.float32),
            text=self.text[order].astype(np.int32),
            offsets=self.offsets,
            codes=pd.Index([str(code) for code in self.codes], dtype="str"),
            texts=pd.Index(self.texts, dtype="str"),
            start=None,
            end=None,
            isna=None,
        )
        result = hash_rows(content)
        if with_statics:
            for name in sorted(self.static_names, key=str):
                column = pd.util.hash_array(_comparable(self.frame[name]))
                result = result * np.uint64(0x9E3779B97F4A7C15) + column
        return result


def rounded(gap: np.ndarray) -> np.ndarray:
    """Differences of times without what the subtraction has added behind their seventh digit.

    Gaps of one hour would otherwise be many different numbers close to 1, and a distance between
    distributions would tell them apart.

    Examples
    --------
    >>> rounded(np.array([1.0 - 0.9, 0.4 - 0.3])).tolist()
    [0.10000000149011612, 0.10000000149011612]
    """
    return gap.astype(np.float32).astype(np.float64)


def read_histories(*data: Any, names: Sequence[str] = ("X",)) -> tuple[Histories, ...]:
    """Read frames that are to be compared.

    Parameters
    ----------
    *data : anything that :func:`~tawt_sklearn.as_events` takes
    names : sequence of str
        What the arguments are called, for messages.

    Raises
    ------
    DataError
        Tokenised events, no subjects, other static columns, clocks or types of code than in the
        first frame.
    """
    read = [_read(one, name) for one, name in zip(data, names, strict=True)]
    for (frame, array), name in zip(read[1:], names[1:], strict=True):
        _check_alike(read[0], (frame, array), names[0], name)
    codes = _union([array.codes for _, array in read], [array.code for _, array in read])
    texts = _union(
        [pd.Index([]) if array.texts is None else array.texts for _, array in read],
        [array.text for _, array in read],
    )
    if any((array.code < 0).any() for _, array in read):
        codes.append(NO_CODE)
    return tuple(_histories(frame, array, codes, texts) for frame, array in read)


def _read(X: Any, name: str) -> tuple[pd.DataFrame, EventsArray]:
    frame, _, array = events_column(X)
    if array.dtype.vocabulary is not None:
        raise DataError(
            f"Expected raw events in {name}. Got tokens, whose values are scaled and clipped. Turn "
            "them back first: TripletSequencer.inverse_transform of the sequencer that made them."
        )
    if not len(frame):
        raise DataError(f"Expected one row per subject in {name}. Got a frame without rows.")
    return frame, array


def _check_alike(
    first: tuple[pd.DataFrame, EventsArray],
    other: tuple[pd.DataFrame, EventsArray],
    first_name: str,
    name: str,
) -> None:
    (frame, array), (other_frame, other_array) = first, other
    expected, got = statics.static_columns(frame), statics.static_columns(other_frame)
    if set(expected) != set(got):
        lacking = sorted(map(str, set(expected) - set(got)))
        more = sorted(map(str, set(got) - set(expected)))
        raise DataError(
            f"Expected the static columns of {first_name} in {name}. Got a frame"
            f"{f' without {lacking}' if lacking else ''}{' and' if lacking and more else ''}"
            f"{f' with {more} besides' if more else ''}. Drop or add columns."
        )
    for column in expected:
        kinds = [statics.column_kind(one[column]) for one in (frame, other_frame)]
        if kinds[0] != kinds[1] and not other_frame[column].isna().all():
            raise DataError(
                f"Expected static column {column!r} to be {kinds[0]} in {name}, as in "
                f"{first_name}. Got {kinds[1]} ({other_frame[column].dtype}). Convert one of them."
            )
    if array.dtype.time_unit != other_array.dtype.time_unit:
        raise DataError(
            f"Expected times of {name} in {describe_clock(array.dtype)}, as in {first_name}. Got "
            f"{describe_clock(other_array.dtype)}. Nest both with the same time_unit."
        )
    if len(array.time) and len(other_array.time):
        integers = [one.codes.dtype == np.int64 for one in (array, other_array)]
        if integers[0] != integers[1]:
            kind = {True: "integers", False: "strings"}
            raise DataError(
                f"Expected codes of {name} that are {kind[integers[0]]}, as in {first_name}. Got "
                f"{kind[integers[1]]}. Convert the code column before nesting."
            )


def _union(dictionaries: list[pd.Index], ids: list[np.ndarray | None]) -> list[Any]:
    """All labels in use, sorted: the order does not depend on that of any dictionary."""
    used: set[Any] = set()
    for labels, id_ in zip(dictionaries, ids, strict=True):
        if id_ is not None:
            used.update(labels[np.unique(id_[id_ >= 0])].tolist())
    return sorted(used)


def _histories(
    frame: pd.DataFrame, array: EventsArray, codes: list[Any], texts: list[str]
) -> Histories:
    row, time = row_ids(array.offsets), np.asarray(array.time, np.float64)
    place = {code: k for k, code in enumerate(codes)}
    # The last entry is what -1, an event without a code, reads.
    ids = np.array([*(place.get(code, -1) for code in array.codes.tolist()), len(codes) - 1])
    code = ids.astype(np.int64)[array.code]
    text = np.full(len(time), -1, np.int64)
    if array.text is not None and array.texts is not None:
        place = {label: k for k, label in enumerate(texts)}
        ids = np.array([*(place.get(label, -1) for label in array.texts.tolist()), -1])
        text = ids.astype(np.int64)[array.text]
    new = np.ones(len(time), bool)
    new[1:] = (row[1:] != row[:-1]) | (time[1:] != time[:-1])
    stamp = np.cumsum(new) - 1
    order = np.argsort(stamp * max(len(codes), 1) + code, kind="stable")
    return Histories(
        frame=frame,
        array=array,
        row=row,
        time=time,
        code=code[order],
        value=np.asarray(array.value, np.float64)[order],
        text=text[order],
        stamp=stamp,
        offsets=np.asarray(array.offsets),
        codes=codes,
        texts=texts,
    )


def _comparable(column: pd.Series) -> np.ndarray:
    """Values of a static column that are equal where another frame's are."""
    if statics.column_kind(column) == "numeric":
        return statics.to_numbers(column) + 0.0
    ids, labels = statics.to_labels(column)
    return np.array([*labels, "\0missing"], dtype=object)[ids]
