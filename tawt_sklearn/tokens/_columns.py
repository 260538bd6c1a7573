"""The events column of whatever the user passes as X."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from tawt_sklearn.events._dask_methods import refuse_dask
from tawt_sklearn.events.array import EventsArray
from tawt_sklearn.events.coerce import as_events
from tawt_sklearn.events.dtype import EventsDtype
from tawt_sklearn.exceptions import DataError


def events_column(X: Any) -> tuple[pd.DataFrame, int, EventsArray]:
    """Frame with one row per subject, position of its events column, and the column's array.

    Raises
    ------
    DataError
        There is no events column, or several; columns of one name; a long table.
    """
    refuse_dask(X)
    frame = as_events(X)
    if not frame.columns.is_unique:
        name = frame.columns[frame.columns.duplicated()].tolist()[0]
        raise DataError(
            f"Expected columns with different names. Got {list(frame.columns).count(name)} called "
            f"{name!r}. Rename or drop all but one."
        )
    position = next(k for k, dtype in enumerate(frame.dtypes) if isinstance(dtype, EventsDtype))
    array = frame.iloc[:, position].array
    assert isinstance(array, EventsArray)
    return frame, position, array


def events_of(X: Any) -> tuple[pd.DataFrame, int, EventsArray]:
    """The same where every row has a history.

    Raises
    ------
    DataError
        As :func:`events_column`; missing histories.
    """
    frame, position, array = events_column(X)
    missing = array.isna()
    if missing.any():
        rows = frame.index[missing].tolist()
        some = ", ".join(map(repr, rows[:5])) + (", ..." if len(rows) > 5 else "")
        raise DataError(
            f"Expected a history in every row. Got {len(rows)} missing (NA) in column "
            f"{frame.columns[position]!r}, at rows {some}. Drop these rows; subjects without any "
            "event are allowed and have an empty history, which nest_events(static=...) makes."
        )
    return frame, position, array


def with_column(frame: pd.DataFrame, position: int, array: EventsArray) -> pd.DataFrame:
    """A new frame with other events in place of a column."""
    result = frame.copy(deep=False)
    result.isetitem(position, array)
    return result


def describe_clock(dtype: EventsDtype) -> str:
    """The clock of a column in words."""
    kind = {None: "numbers", "naive": "datetimes without time zone"}
    return f"{kind.get(dtype.timezone, 'datetimes with time zone')} in units of {dtype.time_unit!r}"


def check_like_fit(
    array: EventsArray, time_unit: str, timezone: str | None, integer_codes: bool
) -> None:
    """Compare the clock and the type of codes with those of the training data.

    Time zones may differ, as times are stored in UTC.

    Raises
    ------
    DataError
        Numbers for datetimes, another unit, integer codes for strings or the reverse.
    """
    dtype = array.dtype
    kinds = [zone if zone in (None, "naive") else "aware" for zone in (dtype.timezone, timezone)]
    if dtype.time_unit != time_unit or kinds[0] != kinds[1]:
        raise DataError(
            f"Expected times as in fit: {describe_clock(EventsDtype(time_unit, timezone))}. "
            f"Got {describe_clock(dtype)}. Nest the events with the same time column type and "
            "time_unit."
        )
    integers = has_integer_codes(array)
    if len(array.time) and len(array.codes) and integers != integer_codes:
        kind = {True: "integers", False: "strings"}
        raise DataError(
            f"Expected codes that are {kind[integer_codes]}, as in fit. Got {kind[integers]}. "
            "Convert the code column before nesting."
        )


def has_integer_codes(array: EventsArray) -> bool:
    """Whether the codes of a raw column are integers."""
    return array.codes.dtype == np.int64
