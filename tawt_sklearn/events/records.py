"""Columns from single rows: histories, missing values, or lists of event records."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from tawt_sklearn.events import ragged
from tawt_sklearn.events.content import Content
from tawt_sklearn.events.dtype import VOCABULARY_IN_DATA, EventsDtype, incompatible
from tawt_sklearn.events.history import EventHistory
from tawt_sklearn.events.labels import as_dictionary, labels_of, map_ids, merge_dictionaries
from tawt_sklearn.exceptions import DataError

RECORD_FIELDS = ("time", "code", "value", "text", "start", "end")


def is_missing(item: object) -> bool:
    """Whether `item` stands for a missing row: None, NaN or pandas.NA."""
    return item is None or item is pd.NA or (isinstance(item, float) and item != item)


def gather(rows: Iterable[Any], dtype: EventsDtype | None) -> tuple[EventsDtype, Content]:
    """Dtype and content of a column with these rows.

    Parameters
    ----------
    rows : iterable
        Each an EventHistory, a missing value, or a list of records: dicts with ``time``, ``code``
        and optionally ``value``, ``text``, ``start``, ``end``, as JSON gives them back.
    dtype : EventsDtype or None
        Taken from the first history if None.

    Raises
    ------
    TypeError
        Rows of another kind.
    DataError
        Histories of another dtype.
    """
    if not pd.api.types.is_list_like(rows):
        raise TypeError(
            f"Expected an EventHistory, a missing value or a list of them. Got {rows!r}. "
            "Make event columns with nest_events or as_events."
        )
    rows = list(rows)
    isna = np.array([is_missing(row) for row in rows], dtype=bool)
    for row in rows:
        if not (isinstance(row, EventHistory) or is_missing(row) or _is_records(row)):
            raise TypeError(
                f"Expected EventHistory objects or missing values. Got {row!r} "
                f"({type(row).__name__}). Make event columns with nest_events or as_events."
            )
    dtype = _common_dtype(rows, dtype)
    histories = _parse([row for row in rows if isinstance(row, list | tuple)], dtype)
    parsed = iter(histories)
    present = [
        row if isinstance(row, EventHistory) else next(parsed)
        for row, missing in zip(rows, isna, strict=True)
        if not missing
    ]
    return dtype, _join(present, isna)


def to_records(array: Any) -> np.ndarray:
    """Rows as lists of records, None where missing: what JSON can hold."""
    content = array._content
    columns: dict[str, Any] = {
        "time": content.time.tolist(),
        "code": labels_of(content.code, content.codes).tolist(),
        "value": [None if v != v else v for v in content.value.astype(np.float64).tolist()],
    }
    if content.text is not None and content.texts is not None:
        columns["text"] = labels_of(content.text, content.texts).tolist()
    for name in ("start", "end"):
        if getattr(content, name) is not None:
            bound = np.repeat(getattr(content, name), array.lengths).tolist()
            columns[name] = [None if v != v else v for v in bound]
    flat = [dict(zip(columns, event, strict=True)) for event in zip(*columns.values(), strict=True)]
    result = np.empty(len(array), dtype=object)
    for row, missing in enumerate(array.isna()):
        result[row] = None if missing else flat[content.offsets[row] : content.offsets[row + 1]]
    return result


def _is_records(row: Any) -> bool:
    return isinstance(row, list | tuple) and all(
        isinstance(event, dict) and {"time", "code"} <= event.keys() <= set(RECORD_FIELDS)
        for event in row
    )


def _common_dtype(rows: list[Any], dtype: EventsDtype | None) -> EventsDtype:
    for row in rows:
        if isinstance(row, EventHistory) and row.dtype is not dtype:
            known = row.dtype
            if dtype is None or dtype == EventsDtype(
                known.time_unit,
                known.timezone,
                None if known.vocabulary is None else VOCABULARY_IN_DATA,
            ):
                dtype = known
            elif known != dtype:
                raise incompatible(dtype, known)
    return EventsDtype() if dtype is None else dtype


def _parse(rows: list[Any], dtype: EventsDtype) -> list[EventHistory]:
    """Histories of rows given as records, which share their dictionaries."""
    if not rows:
        return []
    if dtype.vocabulary is not None:
        raise DataError(
            f"Expected EventHistory objects for {dtype.name}. Got records: tokens cannot be read "
            "back from labels. Read the raw events and transform them again."
        )
    events = [event for row in rows for event in row]
    offsets = ragged.offsets_from_lengths([len(row) for row in rows])
    flat = {
        name: pd.Series([event.get(name) for event in events], dtype=object)
        for name in RECORD_FIELDS
    }
    number = {
        name: pd.to_numeric(flat[name]).to_numpy(dtype=np.float64, na_value=np.nan)
        for name in ("time", "value", "start", "end")
    }
    code, code_labels = pd.factorize(flat["code"].to_numpy())
    text, text_labels = pd.factorize(flat["text"].to_numpy())
    codes = as_dictionary(code_labels)
    texts = as_dictionary(text_labels, what="texts")
    value = number["value"].astype(np.float32)
    histories = []
    for begin, end in pairwise(offsets):
        order = begin + np.argsort(number["time"][begin:end], kind="stable")
        histories.append(
            EventHistory(
                dtype,
                number["time"][order],
                code[order].astype(np.int32),
                value[order],
                codes,
                text[order].astype(np.int32) if len(texts) else None,
                texts if len(texts) else None,
                number["start"][begin] if begin < end else np.nan,
                number["end"][begin] if begin < end else np.nan,
            )
        )
    return histories


def _join(histories: list[EventHistory], isna: np.ndarray) -> Content:
    """Content with these histories in the rows that are not missing."""
    empty = pd.Index([], dtype="str")
    codes, code = _join_ids([(row._code, row._codes) for row in histories], "codes")
    text, texts = None, None
    if any(row._texts is not None for row in histories):
        texts, text = _join_ids(
            [
                (np.full(len(row), -1, dtype=np.int32), empty)
                if row._text is None or row._texts is None
                else (row._text, row._texts)
                for row in histories
            ],
            "texts",
        )
    lengths = np.zeros(len(isna), dtype=np.int64)
    lengths[~isna] = [len(row) for row in histories]
    return Content(
        time=_flat([row._time for row in histories], np.float64),
        code=code,
        value=_flat([row._value for row in histories], np.float32),
        text=text,
        offsets=ragged.offsets_from_lengths(lengths),
        codes=codes,
        texts=texts,
        start=_bounds([row.start for row in histories], isna),
        end=_bounds([row.end for row in histories], isna),
        isna=isna if isna.any() else None,
    )


def _join_ids(parts: list[tuple[np.ndarray, pd.Index]], what: str) -> tuple[pd.Index, np.ndarray]:
    """Merged dictionary and flat ids. Histories of one column share a dictionary: merge it once."""
    known = {id(labels): labels for _, labels in parts if len(labels)}
    if not known:
        none = pd.Index([], dtype="str")
        return none, _flat([ids for ids, _ in parts], np.int32)
    merged, maps = merge_dictionaries(list(known.values()), what=what)
    mapping = dict(zip(known, maps, strict=True))
    mapped = [map_ids(ids, mapping.get(id(labels))) for ids, labels in parts]
    return merged, _flat(mapped, np.int32)


def _flat(parts: list[np.ndarray], dtype: Any) -> np.ndarray:
    return np.concatenate([np.empty(0, dtype=dtype), *parts])


def _bounds(known: list[float], isna: np.ndarray) -> np.ndarray | None:
    if np.isnan(known).all():
        return None
    result = np.full(len(isna), np.nan)
    result[~isna] = known
    return result
