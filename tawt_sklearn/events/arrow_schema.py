"""Raw event columns under a schema: the fields that an Arrow type has a place for.

Which fields a column is written with goes by what its rows hold.  Files that are written in parts
need one schema for all, which pyarrow takes from no rows at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tawt_sklearn.events.arrow import WINDOW
from tawt_sklearn.events.arrow_parts import events_of, is_list, list_array
from tawt_sklearn.exceptions import DataError

if TYPE_CHECKING:
    from tawt_sklearn.events.array import EventsArray


def in_schema(array: EventsArray, column: Any, kind: Any) -> Any:
    """The Arrow form of an events column in the type that is asked for.

    Parameters
    ----------
    array : EventsArray
    column : pyarrow.Array
        The same by :func:`~tawt_sklearn.events.arrow.to_arrow`.
    kind : pyarrow.DataType or None
        None where nothing is asked for: a column without rows then has all fields that its parts
        have a place for.

    Raises
    ------
    DataError
        The type has no place for what the column holds; pyarrow would leave it out silently.
    """
    import pyarrow as pa

    if kind is None:
        if len(array) or array.dtype.vocabulary is not None:
            return column
        kind = _widest(array, column)
    if column.type == kind:
        return column
    if is_list(column.type) and is_list(kind) and pa.types.is_struct(kind.value_type):
        asked = {field.name: field.type for field in kind.value_type}
        offsets, isna, fields = events_of(column)
        same_codes = not len(fields["code"]) or (
            "code" in asked
            and pa.types.is_integer(asked["code"]) == pa.types.is_integer(fields["code"].type)
        )
        if same_codes and fields.keys() <= asked.keys():
            E = int(offsets[-1])
            fields = {name: fields.get(name, pa.nulls(E, type)) for name, type in asked.items()}
            return list_array(offsets, isna if isna.any() else None, fields)
    raise DataError(
        f"Expected a schema that holds all there is in a column of event histories: {column.type}. "
        f"Got {kind}. Dask makes one up, for all files, in which codes are strings: where they are "
        "numbers, or histories are tokens, write the files with .to_parquet(path, schema=None)."
    )


def _widest(array: EventsArray, column: Any) -> Any:
    import pyarrow as pa

    content = array._content
    fields = list(column.type.value_type)
    if content.texts is not None:
        fields.append(pa.field("text", pa.string()))
    fields += [
        pa.field(name, pa.float64()) for name in WINDOW if getattr(content, name) is not None
    ]
    return pa.list_(pa.struct(fields))
