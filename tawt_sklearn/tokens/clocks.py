"""Columns of times as numbers: one clock for dates, time differences and plain numbers."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd

from tawt_sklearn.events.tables import plain_series
from tawt_sklearn.exceptions import DataError

TimeKind = Literal["number", "datetime", "zoned datetime", "time difference"]

SECONDS = {"ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "D": 86400.0}
"""Seconds per time unit."""

CALENDAR = {"hour": 24.0, "weekday": 7.0, "month": 12.0}
"""Fields of the calendar and their periods."""

_FURTHEST = 1e15
"""Seconds from 1970, some thirty million years, that the calendar is computed for."""


def as_times(column: Any, name: Any) -> tuple[Any, TimeKind]:
    """A column of times, dates of pyarrow and among objects as datetimes, and what it holds.

    Raises
    ------
    DataError
        Text, bool, categories, periods, complex numbers.
    """
    if not isinstance(column, pd.Series):
        return column, "number"
    column = plain_series(column)
    if pd.api.types.is_object_dtype(column.dtype):
        content = pd.api.types.infer_dtype(column, skipna=True)
        if content in ("datetime", "datetime64", "date", "timedelta", "timedelta64"):
            convert: Any = pd.to_timedelta if "timedelta" in content else pd.to_datetime
            try:
                column = convert(column)
            except (ValueError, TypeError) as error:
                raise DataError(f"Column {name!r} holds dates of several kinds: {error}") from error
        elif content in ("integer", "floating", "mixed-integer-float", "decimal", "empty"):
            column = pd.to_numeric(column)
    dtype, types = column.dtype, pd.api.types
    if isinstance(dtype, pd.DatetimeTZDtype):
        return column, "zoned datetime"
    if types.is_datetime64_any_dtype(dtype):
        return column, "datetime"
    if types.is_timedelta64_dtype(dtype):
        return column, "time difference"
    is_number = types.is_numeric_dtype(dtype) and not types.is_bool_dtype(dtype)
    if not is_number or types.is_complex_dtype(dtype):
        raise DataError(
            f"Expected numbers, dates or time differences in column {name!r}. Got {dtype} values. "
            "Convert text with pandas.to_datetime, periods with .dt.to_timestamp(), or choose the "
            "columns of times with a ColumnTransformer."
        )
    return column, "number"


def to_clock(column: Any, unit: str) -> np.ndarray:
    """Times as float64, NaN where missing; (N,).

    Dates are counted from 1970 (UTC) and time differences from 0, in ``unit``; numbers stay as
    they are.

    Raises
    ------
    DataError
        The column holds no times.
    """
    column, kind = as_times(column, getattr(column, "name", None))
    if kind == "number":
        if isinstance(column, pd.Series):
            return column.to_numpy(dtype=np.float64, na_value=np.nan)
        return column.astype(np.float64, copy=False)
    return _microseconds(column, local=False) / (SECONDS[unit] * 1e6)


def to_local_seconds(column: Any, kind: TimeKind, unit: str | None, name: Any) -> np.ndarray:
    """Seconds since 1970 on the clock on the wall, NaN where missing; (N,).

    Raises
    ------
    DataError
        Numbers without ``unit``, time differences, dates far from this era.
    """
    if kind == "time difference":
        raise DataError(
            f"Expected dates in column {name!r} for method='calendar'. Got time differences, which "
            "have no place in a calendar. Add them to a date, or choose another method."
        )
    if kind != "number":
        return _microseconds(column, local=True) / 1e6
    if unit is None:
        raise DataError(
            f"Expected dates in {name!r} for method='calendar'. Got numbers. Say what they count "
            'since 1970 with unit="s", "ms", "min", "h" or "D", or pass datetime columns.'
        )
    time = to_clock(column, unit)
    if (far := np.abs(time) > _FURTHEST / SECONDS[unit]).any():
        raise DataError(
            f"Expected times since 1970 in units of {unit!r} in {name!r}. Got {time[far][0]:g}, "
            "millions of years away. Check unit=."
        )
    return time * SECONDS[unit]


def calendar_fields(seconds: np.ndarray) -> dict[str, np.ndarray]:
    """Hour (with its fraction), weekday (Monday = 0) and month (January = 0); each (N,).

    ``seconds`` since 1970 are finite.
    """
    day = np.floor(seconds / 86400)
    months = day.astype(np.int64).astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
    return {
        "hour": (seconds - day * 86400) / 3600,
        "weekday": (day + 3) % 7,  # 1970 began on a Thursday
        "month": (months % 12).astype(np.float64),
    }


def _microseconds(column: pd.Series, *, local: bool) -> np.ndarray:
    """Microseconds since 1970, or of a time difference; float64, NaN where missing."""
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        column = column.dt.tz_localize(None) if local else column.dt.tz_convert(None)
    values = column.to_numpy()
    missing = np.isnat(values)
    kind = "timedelta64[us]" if values.dtype.kind == "m" else "datetime64[us]"
    return np.where(missing, np.nan, values.astype(kind).astype(np.int64).astype(np.float64))
