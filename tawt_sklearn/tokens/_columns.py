"""The events column of whatever the user passes as X."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from tawt_sklearn.events.array import EventsArray
from tawt_sklearn.events.coerce import as_events, find_events
from tawt_sklearn.events.dtype import EventsDtype
from tawt_sklearn.exceptions import DataError


def events_of(X: Any) -> tuple[pd.DataFrame, int, EventsArray]:
    """Frame with one row per subject, position of its events column, and the column's array.

    Raises
    ------
    DataError
        There is no events column, or several; a long table; missing histories.
    """
    frame = as_events(X)
    name = find_events(frame)
    position = int(np.flatnonzero(frame.columns == name)[0])
    array = frame.iloc[:, position].array
    assert isinstance(array, EventsArray)
    missing = array.isna()
    if missing.any():
        rows = frame.index[missing]
        some = ", ".join(repr(row) for row in rows[:5].tolist())
        raise DataError(
            f"Expected a history in every row. Got {len(rows)} missing (NA) in column {name!r}, at "
            f"rows {some}{' and more' if len(rows) > 5 else ''}. Drop these rows; a subject "
            "without any event is allowed and has an empty history, which nest_events(static=...) "
            "makes."
        )
    return frame, position, array


def describe_clock(dtype: EventsDtype) -> str:
    """The clock of a column in words."""
    kind = {None: "numbers", "naive": "datetimes without time zone"}
    return f"{kind.get(dtype.timezone, 'datetimes with time zone')} in units of {dtype.time_unit!r}"


def same_clock(dtype: EventsDtype, time_unit: str, timezone: str | None) -> bool:
    """Whether times mean the same; time zones may differ, as times are stored in UTC."""
    kinds = [zone if zone in (None, "naive") else "aware" for zone in (dtype.timezone, timezone)]
    return dtype.time_unit == time_unit and kinds[0] == kinds[1]
