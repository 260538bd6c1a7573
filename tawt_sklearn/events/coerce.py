"""The door for everything that has one row per subject already."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import pandas as pd

from tawt_sklearn.events._dask import is_dask
from tawt_sklearn.events.array import EventsArray
from tawt_sklearn.events.dtype import EventsDtype
from tawt_sklearn.events.history import EventHistory
from tawt_sklearn.events.panels import panel_to_events, series_to_events
from tawt_sklearn.events.structs import (
    first_present,
    is_nested,
    nested_to_events,
    objects_to_events,
)
from tawt_sklearn.events.tables import Table, library_of
from tawt_sklearn.exceptions import DataError, NotNestedError

_ACCEPTED = (
    "a DataFrame with an events column (see nest_events), a column or frame of lists of structs "
    "(pyarrow, polars, nested-pandas), a column or list of DataFrames or of lists of dicts, an "
    "array of shape (n_cases, n_channels, n_timepoints), one of shape (n_cases, n_timepoints), or "
    "a list of arrays of shape (n_channels, n_timepoints)"
)


def as_events(X: Any, *, name: str = "events", time_unit: str = "h") -> pd.DataFrame:
    """Give any data with one row per subject the form the library works on.

    Parameters
    ----------
    X : DataFrame, Series, EventsArray, array, list, polars or pyarrow table or column
        One of:

        - a DataFrame with a column of events dtype, which is returned as it is; a Series of that
          dtype; an :class:`EventsArray`;
        - a DataFrame (or Series) with one column whose rows are lists of records: ``list<struct>``
          or ``struct<list>`` of pyarrow or polars, a nested column of nested-pandas, or Python
          objects, either DataFrames or lists of dicts. Other columns are passed on as they are;
        - a list of DataFrames, of lists of dicts, or of :class:`EventHistory`;
        - an object array of several columns, one of them such rows, which is what a
          ``ColumnTransformer`` makes unless ``set_output(transform="pandas")`` is asked for. The
          other columns are called ``x0``, ``x1``, ... by their place;
        - a panel: an array of shape (n_cases, n_channels, n_timepoints), a list of B arrays of
          shape (n_channels, n_timepoints_i), or an array of shape (n_cases, n_timepoints) with
          one series per row. Channels become the codes ``"channel_0"``, ``"channel_1"``, ...,
          steps the times 0, 1, ... of unit ``"step"``. NaN means "not measured" and gives no
          event: nothing is filled in.

        Records have a time and a code, and may have a value and a text, under the names that
        :func:`nest_events` looks for, in any order. A missing row stays missing, which is not
        the same as one without events.
    name : str, default "events"
        Name of the events column where `X` has none.
    time_unit : {"h", "s", "min", "D", "step"}, default "h"
        Unit of the times in records. Panels are in steps; events columns know their unit.

    Returns
    -------
    DataFrame
        With exactly one column of events dtype.

    Raises
    ------
    NotNestedError
        `X` is a long table with one row per event: nest it with :func:`nest_events`.
    DataError
        Anything else that is not in the list.

    Examples
    --------
    >>> import numpy as np
    >>> X = as_events(np.array([[[1.0, np.nan, 3.0]], [[4.0, 5.0, 6.0]]]))
    >>> X["events"].events.lengths
    array([2, 3])
    >>> X["events"].events.flat("time")
    array([0., 2., 0., 1., 2.])
    """
    if isinstance(X, EventsArray):
        return pd.DataFrame({name: X})
    if isinstance(X, pd.Series):
        X = X.to_frame(name if X.name is None else X.name)
    if isinstance(X, pd.DataFrame):
        return _from_frame(X, time_unit)
    if library_of(X) in ("polars", "pyarrow"):
        return _from_foreign(X, name, time_unit)
    if is_object_table(X):
        columns = [pd.Series(column) for column in X.T]
        names = [name if is_nested(column) else f"x{k}" for k, column in enumerate(columns)]
        frame = pd.concat(columns, axis=1, keys=names).infer_objects()
        return _from_frame(frame, time_unit)
    if isinstance(X, np.ndarray) and (X.dtype != object or X.ndim > 1):
        return pd.DataFrame({name: panel_to_events(X)})
    if isinstance(X, list | tuple | np.ndarray):
        return pd.DataFrame({name: _from_rows(list(X), time_unit)})
    if is_dask(X):
        raise DataError(
            f"Expected rows in memory. Got a Dask {type(X).__name__} of {X.npartitions} "
            "partitions. Take X.compute(); a long table with one row per event becomes rows with "
            "nest_events(X), partition by partition."
        )
    raise _not_accepted(type(X).__name__)


def find_events(X: pd.DataFrame) -> Hashable:
    """Name of the one column of events dtype in a frame.

    Raises
    ------
    NotNestedError
        There is none, and the frame looks like a long table with one row per event.
    DataError
        There is none, or there are several.

    Examples
    --------
    >>> import numpy as np
    >>> find_events(as_events(np.zeros((2, 1, 3)), name="history"))
    'history'
    """
    if not isinstance(X, pd.DataFrame):
        raise _not_accepted(type(X).__name__)
    found = _event_columns(X)
    if not found:
        raise _no_events(Table(X))
    if len(found) > 1:
        raise _several([X.columns[place] for place in found])
    return X.columns[found[0]]


def is_object_table(X: Any) -> bool:
    """Whether this is an array of objects, a column of which holds the events of a row."""
    return (
        isinstance(X, np.ndarray)
        and X.dtype == object
        and X.ndim == 2
        and any(is_nested(pd.Series(column)) for column in X.T)
    )


def holds_events(X: Any) -> bool:
    """Whether this holds histories of events, rather than numbers, a panel or a long table."""
    if isinstance(X, EventsArray):
        return True
    if isinstance(X, pd.Series):
        return isinstance(X.dtype, EventsDtype) or is_nested(X)
    if isinstance(X, pd.DataFrame):
        return bool(_event_columns(X)) or any(is_nested(X.iloc[:, k]) for k in range(X.shape[1]))
    if library_of(X) in ("polars", "pyarrow"):
        if hasattr(X, "dtype") or hasattr(X, "type"):  # a column
            return is_nested(X)
        if not (hasattr(X, "get_column") or hasattr(X, "column_names")):
            return False
        table = Table(X, what="X")
        return any(is_nested(table.raw(name)) for name in table.names)
    if isinstance(X, np.ndarray) and (X.dtype != object or X.ndim != 1):
        return is_object_table(X)
    if not isinstance(X, list | tuple | np.ndarray):
        return False
    example = first_present(X)
    if isinstance(example, list | tuple):
        return len(example) > 0 and isinstance(example[0], dict)
    return isinstance(example, pd.DataFrame | EventHistory)


def is_numbers(X: Any) -> bool:
    """Whether this is an array or a frame of numbers, rather than anything that holds events.

    A frame counts as numbers when all its columns are numeric and it is not a long table of
    events.  Whether the numbers are good for anything is for the caller to check.
    """
    if isinstance(X, pd.Series | EventsArray):
        return False
    if isinstance(X, pd.DataFrame):
        dtypes = list(X.dtypes)
    elif library_of(X) in ("polars", "pyarrow"):
        if hasattr(X, "dtype") or hasattr(X, "type"):  # a column
            return False
        table = Table(X)
        if any(is_nested(table.raw(name)) for name in table.names):
            return False
        dtypes = [table[name].dtype for name in table.names]
    else:
        return _is_array_of_numbers(X)
    table = Table(X)
    if not dtypes or (table.has("time") and table.has("code")):
        return False
    return all(pd.api.types.is_numeric_dtype(dtype) for dtype in dtypes)


def channels_of(X: Any) -> int | None:
    """Number of channels of a list of arrays (n_channels, n_timepoints_i); None for others."""
    if isinstance(X, np.ndarray) and (X.dtype != object or X.ndim > 1):
        return None
    if not isinstance(X, list | tuple | np.ndarray):
        return None
    first = first_present(list(X))
    if not isinstance(first, np.ndarray) or first.dtype == object:
        return None
    return len(np.atleast_2d(first))


def _is_array_of_numbers(X: Any) -> bool:
    if isinstance(X, np.ndarray) and X.dtype == object:
        first = X.flat[0] if X.size else 0
        return not is_object_table(X) and (X.ndim > 1 or np.isscalar(first))
    if isinstance(X, list | tuple):
        first = first_present(list(X))
        if isinstance(first, list | tuple):
            return not (len(first) and isinstance(first[0], dict))
        return first is None or np.isscalar(first)
    return True


def _event_columns(X: pd.DataFrame) -> list[int]:
    return [place for place, dtype in enumerate(X.dtypes) if isinstance(dtype, EventsDtype)]


def _from_frame(X: pd.DataFrame, time_unit: str) -> pd.DataFrame:
    if _event_columns(X):
        find_events(X)
        return X
    nested = [place for place in range(X.shape[1]) if is_nested(X.iloc[:, place])]
    if not nested:
        raise _no_events(Table(X))
    if len(nested) > 1:
        raise _several([X.columns[place] for place in nested])
    result = pd.DataFrame(X)  # a plain frame, also from a subclass
    result.isetitem(nested[0], nested_to_events(X.iloc[:, nested[0]], time_unit=time_unit))
    return result


def _from_foreign(X: Any, name: str, time_unit: str) -> pd.DataFrame:
    """A polars or pyarrow table or column."""
    if hasattr(X, "dtype") or hasattr(X, "type"):  # a column
        if is_nested(X):
            return pd.DataFrame({name: nested_to_events(X, time_unit=time_unit)})
        raise _not_accepted(f"a {library_of(X)} column of {getattr(X, 'dtype', None) or X.type}")
    table = Table(X, what="X")
    nested = [column for column in table.names if is_nested(table.raw(column))]
    if not nested:
        raise _no_events(table)
    if len(nested) > 1:
        raise _several(nested)
    return pd.DataFrame(
        {
            column: nested_to_events(table.raw(column), time_unit=time_unit)
            if column in nested
            else table[column].array
            for column in table.names
        }
    )


def _from_rows(rows: list[Any], time_unit: str) -> EventsArray:
    """A list with one object per row."""
    example = first_present(rows)
    if isinstance(example, np.ndarray) and example.dtype != object:
        if all(isinstance(row, np.ndarray) for row in rows):
            return series_to_events(rows)
    elif isinstance(example, list | tuple) and len(example) and not isinstance(example[0], dict):
        return panel_to_events(_as_array(rows))
    elif example is not None and is_nested(pd.Series([example], dtype=object)):
        return objects_to_events(rows, time_unit=time_unit)
    kinds = sorted({type(row).__name__ for row in rows})
    raise _not_accepted(f"{len(rows)} rows of type {', '.join(kinds)}" if rows else "an empty list")


def _as_array(rows: list[Any]) -> np.ndarray:
    try:
        return np.asarray(rows, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise _not_accepted(f"lists that do not make an array of numbers ({error})") from error


def _no_events(table: Table) -> DataError:
    names = [repr(name) for name in table.names[:10]]
    shown = ", ".join(names) + (", ..." if len(table.names) > len(names) else "")
    if table.has("time") and table.has("code"):
        return NotNestedError(
            f"Expected one row per subject. Got the columns {shown}, which looks like a long table "
            "with one row per event. Nest it first: X = nest_events(events), and give one label "
            "per row of X."
        )
    return DataError(
        f"Expected a column of event histories. Got the columns {shown}, none of which holds "
        "events. Make it with nest_events(events, static=...) from a long table with one row per "
        f"event, or give {_ACCEPTED}."
    )


def _several(names: list[Hashable]) -> DataError:
    return DataError(
        f"Expected one column of event histories. Got {len(names)}: "
        f"{', '.join(map(repr, names))}. Drop all but one."
    )


def _not_accepted(got: str) -> DataError:
    return DataError(f"Expected {_ACCEPTED}. Got {got}.")
