"""Columns that hold the events of a row as a list of records, in any library, as flat columns.

So are tokenised columns of ours that went through Arrow or polars and came back as theirs.
Columnar sources (Arrow, polars, nested-pandas) are taken apart as a whole. Where every row is a
Python object of its own (a frame, a list of dicts) the rows are joined one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tawt_sklearn.events.array import EventsArray
from tawt_sklearn.events.arrow import TOKENS, WINDOW, from_arrow
from tawt_sklearn.events.arrow_parts import is_list
from tawt_sklearn.events.columns import read_content, read_times
from tawt_sklearn.events.dtype import EventsDtype
from tawt_sklearn.events.history import EventHistory
from tawt_sklearn.events.ragged import (
    first_of_each,
    offsets_from_lengths,
    segment_count,
    sort_within,
)
from tawt_sklearn.events.tables import Table, labels_where, library_of, plain_series, plural
from tawt_sklearn.exceptions import DataError


def is_nested(column: Any) -> bool:
    """Whether a pandas, polars or pyarrow column holds a list of records per row."""
    if isinstance(column, pd.Series):
        dtype = column.dtype
        if isinstance(dtype, pd.ArrowDtype):
            return _is_arrow_nested(dtype.pyarrow_dtype)
        if type(dtype).__name__ == "NestedDtype":
            return True
        return pd.api.types.is_object_dtype(dtype) and _is_nested_object(
            first_present(column.array)
        )
    if library_of(column) == "polars":
        inner = getattr(column.dtype, "inner", None)
        return type(inner).__name__ == "Struct" or _is_polars_tokens(column)
    return _is_arrow_nested(column.type)


def nested_to_events(column: Any, *, time_unit: str) -> EventsArray:
    """Histories of a column for which :func:`is_nested` holds."""
    if isinstance(column, pd.Series):
        if isinstance(column.dtype, pd.ArrowDtype) or type(column.dtype).__name__ == "NestedDtype":
            array: Any = column.array
            return arrow_to_events(array.__arrow_array__(), time_unit=time_unit)
        return objects_to_events(list(column.array), time_unit=time_unit)
    if library_of(column) == "polars":
        if _is_polars_tokens(column):
            return from_arrow(column.to_arrow(), EventsDtype())
        return _polars_to_events(column, time_unit=time_unit)
    return arrow_to_events(column, time_unit=time_unit)


def arrow_to_events(column: Any, *, time_unit: str) -> EventsArray:
    """Histories of a pyarrow (chunked) array of lists of structs, or of structs of lists."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if _is_arrow_tokens(column.type):
        return from_arrow(column, EventsDtype())  # the type knows clock and vocabulary
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    isna = column.is_null().to_numpy(zero_copy_only=False)
    fields: dict[str, Any] = {}
    if pa.types.is_struct(column.type):
        lists = dict(zip((field.name for field in column.type), column.flatten(), strict=True))
        fields = {name: one.flatten() for name, one in lists.items()}
    else:
        lists = {"": column}
        structs = column.flatten()
        names = [field.name for field in structs.type]
        fields = dict(zip(names, structs.flatten(), strict=True))
    lengths = [pc.fill_null(pc.list_value_length(one), 0).to_numpy(False) for one in lists.values()]
    if any(not np.array_equal(lengths[0], other) for other in lengths[1:]):
        raise DataError(
            f"Expected lists of the same length in the fields {', '.join(lists)} of a row. Got "
            "lists that differ in length."
        )
    flat = pd.DataFrame({name: plain_series(field) for name, field in fields.items()})
    return _assemble(flat, lengths[0], isna, time_unit)


def _polars_to_events(column: Any, *, time_unit: str) -> EventsArray:
    isna = column.is_null().to_numpy()
    lengths = column.list.len().fill_null(0).to_numpy()
    # Exploding an empty list would give an event of nothing but missing values.
    flat = column.filter(column.list.len() > 0).explode().struct.unnest()
    return _assemble(flat, lengths, isna, time_unit)


def objects_to_events(rows: Sequence[Any], *, time_unit: str) -> EventsArray:
    """Histories of rows that are frames, lists of dicts, or EventHistory objects each.

    None and other missing values give missing rows.
    """
    isna = np.array([_is_missing(row) for row in rows], dtype=bool)
    example = first_present(rows)
    if isinstance(example, EventHistory):
        return EventsArray(rows)
    kind: type | tuple[type, ...] = (list, tuple, np.ndarray)
    if isinstance(example, pd.DataFrame):
        kind = pd.DataFrame
    for row, missing in zip(rows, isna, strict=True):
        if not missing and not isinstance(row, kind):
            raise DataError(
                "Expected all rows to be of the same kind, or missing. "
                f"Got {type(example).__name__} and {type(row).__name__}."
            )
    lengths = np.zeros(len(rows), dtype=np.int64)
    lengths[~isna] = [len(row) for row, missing in zip(rows, isna, strict=True) if not missing]
    filled = [row for row, length in zip(rows, lengths, strict=True) if length]
    if not filled:
        flat = pd.DataFrame({"time": [], "code": [], "value": []}, dtype=np.float64)
    elif kind is pd.DataFrame:
        flat = pd.concat(filled, ignore_index=filled[0].index.names == [None])
    else:
        flat = pd.DataFrame.from_records(list(chain.from_iterable(filled)))
    return _assemble(flat, lengths, isna, time_unit)


def first_present(rows: Any) -> Any:
    """The first row that is not missing, None if there is none."""
    return next((row for row in rows if not _is_missing(row)), None)


def _assemble(flat: Any, lengths: Any, isna: NDArray[np.bool_], time_unit: str) -> EventsArray:
    """Histories of the flat events of all rows, in row order, under the default names."""
    table = Table(flat, what="the histories")
    value = None if table.has("value") else False  # nobody can be asked for another name here
    names = table.find_all({"time": None, "code": None, "value": value, "text": None})
    offsets = offsets_from_lengths(np.asarray(lengths, dtype=np.int64))
    window: dict[str, Any] = {
        name: first_of_each(table[name].to_numpy(np.float64, na_value=np.nan), offsets)
        for name in WINDOW
        if name in table.names and pd.api.types.is_float_dtype(table[name].dtype)
    }
    if window:
        # A record of nothing but its row's window, as our own columns have where there is no event.
        parts = [table[name] for name in names.values() if name is not None]
        blank = np.logical_and.reduce([part.isna().to_numpy() for part in parts])
        if blank.any():
            flat = flat[~blank] if isinstance(flat, pd.DataFrame) else flat.filter(~blank)
            table = Table(flat, what="the histories")
            offsets = offsets_from_lengths(segment_count(~blank, offsets))
    times = table[names["time"]]
    time, timezone = read_times(times, time_unit)
    if (missing := np.isnan(time)).any():
        raise DataError(
            f"Expected every event to have a time ({times.name!r}). Got "
            f"{plural(int(missing.sum()), 'event')} without ({labels_where(times, missing)} of "
            "all events, row after row)."
        )
    order = sort_within(time, offsets)

    def pick(flat: NDArray[Any]) -> NDArray[Any]:
        return flat.copy() if order is None else flat[order]

    return EventsArray.from_flat(
        time=pick(time),
        offsets=offsets,
        isna=isna,
        time_unit=time_unit,
        timezone=timezone,
        **window,
        **read_content(table, names, pick),
    )


def _is_arrow_nested(kind: Any) -> bool:
    """Whether an Arrow type is a list of structs, a struct of nothing but lists, or our tokens."""
    from pyarrow import types

    if _is_arrow_tokens(kind):
        return True
    if types.is_struct(kind):
        return kind.num_fields > 0 and all(is_list(field.type) for field in kind)
    return is_list(kind) and types.is_struct(kind.value_type)


def _is_arrow_tokens(kind: Any) -> bool:
    return getattr(kind, "extension_name", None) == TOKENS


def _is_polars_tokens(column: Any) -> bool:
    dtype = column.dtype
    return hasattr(dtype, "ext_name") and dtype.ext_name() == TOKENS


def _is_nested_object(item: Any) -> bool:
    if isinstance(item, pd.DataFrame | EventHistory):
        return True
    if isinstance(item, list | tuple) or (isinstance(item, np.ndarray) and item.dtype == object):
        return len(item) == 0 or isinstance(item[0], dict)
    return False


def _is_missing(item: Any) -> bool:
    return item is None or item is pd.NA or (isinstance(item, float) and item != item)
