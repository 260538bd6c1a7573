"""The parts of an events column to and from Arrow: lists, numbers, times, labels.

What they are put together to is said in :mod:`.arrow`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from tawt_sklearn.events import ragged
from tawt_sklearn.events.dtype import EventsDtype
from tawt_sklearn.exceptions import DataError

_INT32_MAX = np.iinfo(np.int32).max


def list_array(offsets: np.ndarray, isna: np.ndarray | None, children: dict[str, Any]) -> Any:
    """List array over a struct of flat children."""
    import pyarrow as pa

    events = pa.StructArray.from_arrays(list(children.values()), names=list(children))
    mask = None if isna is None else pa.array(isna)
    if offsets[-1] > _INT32_MAX:
        return pa.LargeListArray.from_arrays(pa.array(offsets), events, mask=mask)
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), events, mask=mask)


def is_list(kind: Any) -> bool:
    """Whether an Arrow type is one of lists, of any layout."""
    from pyarrow import types

    tests = (
        types.is_list,
        types.is_large_list,
        types.is_fixed_size_list,
        types.is_list_view,
        types.is_large_list_view,
    )
    return any(test(kind) for test in tests)


def events_of(chunk: Any) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Offsets, missing rows, and flat children by name of a list array over a struct."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = chunk.type
    if pa.types.is_null(kind):
        kind = pa.list_(pa.struct({"time": pa.float64(), "code": pa.string()}))
        chunk = chunk.cast(kind)
    elif not is_list(kind) or not pa.types.is_struct(kind.value_type):
        raise DataError(
            "Expected a list of structs with time, code and value per row. "
            f"Got Arrow data of type {kind}."
        )
    isna = chunk.is_null().to_numpy(zero_copy_only=False)
    lengths = pc.fill_null(pc.list_value_length(chunk), 0).to_numpy(zero_copy_only=False)
    events = chunk.flatten()
    if events.null_count:
        raise DataError(
            f"Expected no missing events inside a history. Got {events.null_count} null structs. "
            "Drop them first."
        )
    names = [field.name for field in events.type]
    return (
        ragged.offsets_from_lengths(lengths),
        isna,
        dict(zip(names, events.flatten(), strict=True)),
    )


def numbers_to_arrow(numbers: np.ndarray) -> Any:
    """Arrow array with null for NaN."""
    import pyarrow as pa

    return pa.array(numbers, from_pandas=True)


def numbers_from_arrow(numbers: Any, dtype: Any) -> np.ndarray:
    import pyarrow as pa

    kind = numbers.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind)):
        raise DataError(f"Expected numbers. Got Arrow data of type {kind}.")
    # Through float64: Arrow integers with nulls become floats on their way to numpy.
    return numbers.cast(pa.float64()).to_numpy(zero_copy_only=False).astype(dtype, copy=False)


def times_from_arrow(times: Any, dtype: EventsDtype) -> np.ndarray:
    import pyarrow as pa

    if pa.types.is_timestamp(times.type):
        time = dtype.to_clock(times.to_pandas())
    else:
        time = numbers_from_arrow(times, np.float64)
    unknown = int(np.isnan(time).sum())
    if unknown:
        raise DataError(f"Expected a time for every event. Got {unknown} events without one.")
    return time


def labels_to_arrow(ids: np.ndarray, labels: pd.Index) -> Any:
    import pyarrow as pa

    kind: Any
    if labels.dtype == np.int64:
        kind, known = pa.int64(), labels.to_numpy()
    else:
        known = labels.to_numpy(dtype=object)
        longest = max((len(label.encode()) for label in known), default=0)
        kind = pa.string() if longest * len(ids) <= _INT32_MAX else pa.large_string()
    return pa.array(known, type=kind).take(pa.array(ids, mask=ids < 0))


def labels_from_arrow(labels: Any, what: str) -> tuple[np.ndarray, pd.Index]:
    import pyarrow as pa

    if pa.types.is_null(labels.type):
        labels = labels.cast(pa.string())
    kind = labels.type.value_type if pa.types.is_dictionary(labels.type) else labels.type
    if not (
        pa.types.is_integer(kind)
        or pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
    ):
        raise DataError(f"Expected strings or integers as {what}. Got Arrow data of type {kind}.")
    # Encoded anew in any case: a dictionary may hold unused and repeated labels.
    plain = labels.cast(pa.int64() if pa.types.is_integer(kind) else pa.large_string())
    encoded = plain.dictionary_encode()
    ids = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
    dictionary = encoded.dictionary
    if pa.types.is_integer(kind):
        return ids, pd.Index(dictionary.to_numpy(zero_copy_only=False), dtype=np.int64)
    return ids, pd.Index(dictionary.to_pylist(), dtype="str")
