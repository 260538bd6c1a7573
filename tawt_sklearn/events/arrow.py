"""To and from Arrow, hence Parquet. pyarrow is imported only when a column goes there or back.

Raw content becomes ``list<struct<time: double, code: string or int64, value: float>>``, with
fields ``text``, ``start`` and ``end`` if any is known, which every reader of Parquet understands.
Clock and time zone travel in the name of the pandas dtype. Start and end of the observation window
are repeated for each event; where there is none, one record that holds nothing else holds them.

Tokenised content becomes the extension type ``tawt_sklearn.tokens`` over
``struct<start, end, events: list<struct<time, token, value[, category]>>>``, which keeps ids and
windows as they are; vocabulary and labels are in the metadata of the type.
"""

from __future__ import annotations

import functools
import json
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tawt_sklearn.events import ragged
from tawt_sklearn.events.arrow_parts import (
    events_of,
    labels_from_arrow,
    labels_to_arrow,
    list_array,
    numbers_from_arrow,
    numbers_to_arrow,
    times_from_arrow,
)
from tawt_sklearn.events.content import Content, concat
from tawt_sklearn.events.dtype import EventsDtype
from tawt_sklearn.events.labels import as_dictionary
from tawt_sklearn.exceptions import DataError

if TYPE_CHECKING:
    from tawt_sklearn.events.array import EventsArray

TOKENS = "tawt_sklearn.tokens"
WINDOW = ("start", "end")


def to_arrow(array: EventsArray) -> Any:
    """Return an events column as a pyarrow Array."""
    if array.dtype.vocabulary is None:
        return _raw_to_arrow(array._content)
    return _tokens_to_arrow(array.dtype, array._content)


def from_arrow(data: Any, dtype: EventsDtype) -> EventsArray:
    """Return an events column from a pyarrow Array or ChunkedArray.

    Parameters
    ----------
    data : pyarrow.Array or pyarrow.ChunkedArray
        Of any list type over a struct with the fields ``time`` (numbers, or timestamps if `dtype`
        has a time zone), ``code`` (strings or integers) and optionally ``value``, ``text``,
        ``start`` and ``end``; or of the extension type of tokenised content.
    dtype : EventsDtype
        The clock. The extension type knows its own.

    Raises
    ------
    DataError
        Data of another type, or events without a time.
    """
    import pyarrow as pa

    from tawt_sklearn.events.array import EventsArray

    chunks = data.chunks if isinstance(data, pa.ChunkedArray) else [data]
    if isinstance(data.type, tokens_type()):
        header = data.type.header
        contents = [_tokens_from_arrow(chunk.storage, header) for chunk in chunks]
        dtype = EventsDtype(header["time_unit"], header["timezone"], header["vocabulary"])
        if not contents:
            contents = [_tokens_from_arrow(pa.array([], data.type.storage_type), header)]
    elif dtype.vocabulary is not None:
        raise DataError(
            f"Expected Arrow data of type {TOKENS} for tokenised histories. Got {data.type}. "
            "Import tawt_sklearn.events before reading the file, so that pyarrow knows the type."
        )
    else:
        contents = [_raw_from_arrow(chunk, dtype) for chunk in chunks]
        if not contents:
            contents = [_raw_from_arrow(pa.array([], data.type), dtype)]
    return EventsArray._wrap(dtype, contents[0] if len(contents) == 1 else concat(contents))


@functools.cache
def tokens_type() -> Any:
    """Return the extension type of tokenised content, registered with pyarrow."""
    import pyarrow as pa

    class TokensType(pa.ExtensionType):
        """Tokenised event histories; labels and vocabulary are in `header`."""

        def __init__(self, storage: Any, header: dict[str, Any]) -> None:
            self.header = header
            super().__init__(storage, TOKENS)

        def __arrow_ext_serialize__(self) -> bytes:
            return json.dumps(self.header).encode()

        @classmethod
        def __arrow_ext_deserialize__(cls, storage: Any, serialized: bytes) -> Any:
            return cls(storage, json.loads(serialized))

        def __eq__(self, other: object) -> bool:
            # By default pyarrow leaves the metadata out, and would join different vocabularies.
            return type(other) is type(self) and (
                (other.storage_type, other.header) == (self.storage_type, self.header)
            )

        def __hash__(self) -> int:
            return hash((self.storage_type, self.header["vocabulary"]))

        def to_pandas_dtype(self) -> EventsDtype:
            header = self.header
            return EventsDtype(header["time_unit"], header["timezone"], header["vocabulary"])

    storage = pa.struct({"events": pa.list_(pa.struct({"token": pa.int32()}))})
    header: dict[str, Any] = {
        "time_unit": "h",
        "timezone": None,
        "vocabulary": "",
        "codes": [],
        "texts": None,
    }
    pa.register_extension_type(TokensType(storage, header))
    return TokensType


def register_if_loaded() -> None:
    """Let pyarrow know the extension type, unless it is not there.

    pandas loads pyarrow where it is installed; nothing is imported here that is not loaded.
    """
    if sys.modules.get("pyarrow") is not None:
        tokens_type()


# -- raw content ----------------------------------------------------------------------------


def _raw_to_arrow(content: Content) -> Any:
    import pyarrow as pa

    children = {
        "time": pa.array(content.time),
        "code": labels_to_arrow(content.code, content.codes),
        "value": numbers_to_arrow(content.value),
    }
    if content.text is not None and content.texts is not None and (content.text >= 0).any():
        children["text"] = labels_to_arrow(content.text, content.texts)
    offsets, lengths = content.offsets, np.diff(content.offsets)
    bounds = {name: known for name in WINDOW if (known := getattr(content, name)) is not None}
    bounds = {name: known for name, known in bounds.items() if not np.isnan(known).all()}
    alone = np.zeros(len(content), dtype=bool)
    for known in bounds.values():
        alone |= (lengths == 0) & ~np.isnan(known)
    if content.isna is not None:
        alone &= ~content.isna
    if alone.any():
        source = np.insert(np.arange(len(content.time)), offsets[:-1][alone], -1)
        places = pa.array(source, mask=source < 0)
        children = {name: child.take(places) for name, child in children.items()}
        lengths = lengths + alone
        offsets = ragged.offsets_from_lengths(lengths)
    for name, known in bounds.items():
        children[name] = numbers_to_arrow(np.repeat(known, lengths))
    return list_array(offsets, content.isna, children)


def _raw_from_arrow(chunk: Any, dtype: EventsDtype) -> Content:
    offsets, isna, fields = events_of(chunk)
    absent = {"time", "code"} - fields.keys()
    if absent:
        raise DataError(
            f"Expected a struct with time and code per event. Got fields {sorted(fields)}: "
            f"{' and '.join(sorted(absent))} missing. Name the fields time, code, value, text."
        )
    bounds: dict[str, np.ndarray | None] = dict.fromkeys(WINDOW)
    for name in bounds.keys() & fields.keys():
        repeated = numbers_from_arrow(fields[name], np.float64)
        bounds[name] = ragged.first_of_each(repeated, offsets)
    if bounds.keys() & fields.keys():
        fields, offsets = _without_windows(fields, offsets)
    time = times_from_arrow(fields["time"], dtype)
    value = np.full(len(time), np.nan, dtype=np.float32)
    if "value" in fields:
        value = numbers_from_arrow(fields["value"], np.float32)
    code, codes = labels_from_arrow(fields["code"], "code")
    text, texts = None, None
    if "text" in fields and fields["text"].null_count < len(time):
        text, texts = labels_from_arrow(fields["text"], "text")
    content = Content(
        time=time,
        code=code,
        value=value,
        text=text,
        offsets=offsets,
        codes=codes,
        texts=texts,
        isna=isna if isna.any() else None,
        **bounds,
    )
    order = ragged.sort_within(time, offsets)
    return content if order is None else content.pick_events(lambda flat: flat[order], offsets)


def _without_windows(
    fields: dict[str, Any], offsets: np.ndarray
) -> tuple[dict[str, Any], np.ndarray]:
    """Flat fields and offsets without the records that say nothing but the window of their row."""
    import pyarrow.compute as pc

    blank = np.ones(int(offsets[-1]), dtype=bool)
    for name in fields.keys() - set(WINDOW):
        blank &= pc.is_null(fields[name]).to_numpy(zero_copy_only=False)
    if not blank.any():
        return fields, offsets
    kept = np.flatnonzero(~blank)
    fields = {name: field.take(kept) for name, field in fields.items()}
    return fields, ragged.offsets_from_lengths(ragged.segment_count(~blank, offsets))


# -- tokenised content ----------------------------------------------------------------------


def _tokens_to_arrow(dtype: EventsDtype, content: Content) -> Any:
    import pyarrow as pa

    children = {
        "time": pa.array(content.time),
        "token": pa.array(content.code),
        "value": numbers_to_arrow(content.value),
    }
    if content.text is not None:
        children["category"] = pa.array(content.text)
    rows = {
        name: numbers_to_arrow(np.full(len(content), np.nan) if bound is None else bound)
        for name, bound in zip(WINDOW, (content.start, content.end), strict=True)
    }
    rows["events"] = list_array(content.offsets, content.isna, children)
    mask = None if content.isna is None else pa.array(content.isna)
    storage = pa.StructArray.from_arrays(list(rows.values()), names=list(rows), mask=mask)
    header = {
        "time_unit": dtype.time_unit,
        "timezone": dtype.timezone,
        "vocabulary": dtype.vocabulary,
        "codes": _plain_labels(content.codes),
        "texts": None if content.texts is None else _plain_labels(content.texts),
    }
    return pa.ExtensionArray.from_storage(tokens_type()(storage.type, header), storage)


def _tokens_from_arrow(storage: Any, header: dict[str, Any]) -> Content:
    rows = dict(zip((field.name for field in storage.type), storage.flatten(), strict=True))
    offsets, isna, fields = events_of(rows["events"])
    texts = header["texts"]
    return Content(
        time=numbers_from_arrow(fields["time"], np.float64),
        code=fields["token"].to_numpy(zero_copy_only=False),
        value=numbers_from_arrow(fields["value"], np.float32),
        text=None if texts is None else fields["category"].to_numpy(zero_copy_only=False),
        offsets=offsets,
        codes=as_dictionary(header["codes"]),
        texts=None if texts is None else as_dictionary(texts, what="texts"),
        start=_known(numbers_from_arrow(rows["start"], np.float64)),
        end=_known(numbers_from_arrow(rows["end"], np.float64)),
        isna=isna if isna.any() else None,
    )


def _plain_labels(labels: pd.Index) -> list[Any]:
    return [label if isinstance(label, str) else int(label) for label in labels]


def _known(bound: np.ndarray) -> np.ndarray | None:
    return None if np.isnan(bound).all() else bound
