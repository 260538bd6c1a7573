"""Groups and times of a recording: its rows in order, and where a step is not the usual one."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tawt_sklearn.events._window_columns import finite_numbers, without_categories
from tawt_sklearn.events.ragged import offsets_from_lengths, range_positions
from tawt_sklearn.events.tables import Table, labels_where, plural
from tawt_sklearn.exceptions import DataError


@dataclass(frozen=True)
class Recording:
    """Groups and times of a frame's N rows, once they are in order; G groups.

    Attributes
    ----------
    order : int64 array of shape (N,)
        Rows of the frame, group by group, by time in each.
    offsets : int64 array of shape (G + 1,)
    labels : Index of length G
    times : Series of length N
        In order. Numbers of rows within the group where there are no times.
    broken : bool array of shape (N,)
        Where the step from the row ahead in the same group is not the usual one.
    """

    order: NDArray[np.int64]
    offsets: NDArray[np.int64]
    labels: pd.Index
    times: pd.Series
    broken: NDArray[np.bool_]


def read_recording(table: Table, group: Hashable, time: Hashable) -> Recording:
    """Rows in order, group by group as they first appear, and by time in each."""
    ids, labels = np.zeros(len(table), np.int64), pd.Index([0])
    if group is not None:
        ids, labels = _number_groups(table[table.find("group", group)])
    offsets = offsets_from_lengths(np.bincount(ids, minlength=len(labels)))
    if time is None:
        order = np.argsort(ids, kind="stable")
        times = pd.Series(range_positions(np.zeros(len(labels)), np.diff(offsets))[0])
        return Recording(order, offsets, labels, times, np.zeros(len(order), bool))

    column, clock, spread = _read_clock(table[table.find("time", time)])
    order = np.lexsort((clock, ids))
    clock, ids = clock[order], ids[order]
    inside = ids[1:] == ids[:-1]
    difference = np.diff(clock)[inside]
    if (difference == 0).any():
        at = np.flatnonzero(inside)[np.argmax(difference == 0)]
        both = np.isin(np.arange(len(order)), order[at : at + 2])
        of_group = "" if group is None else f"{labels[ids[at]]} at "
        raise DataError(
            f"Expected one row per group and time. Got several, the first for {of_group}"
            f"{column.iloc[order[at]]} ({labels_where(column, both)}). Drop or average them, for "
            "example with frame.groupby([group, time]).mean(), or name the group with group=."
        )
    broken = np.zeros(len(order), bool)
    broken[1:][inside] = ~_is_usual(difference, spread)
    return Recording(order, offsets, labels, column.take(order).reset_index(drop=True), broken)


def _number_groups(column: pd.Series) -> tuple[NDArray[np.int64], pd.Index]:
    """Group of each row, numbered by first appearance, and the groups."""
    try:
        ids, labels = pd.factorize(column)
    except TypeError as error:
        raise DataError(
            f"Expected one string, number or date per row as group in {column.name!r}. Got "
            f"{column.dtype} values such as {column.iloc[0]!r}: {error}."
        ) from error
    _refuse_missing(column, ids < 0, "group")
    return ids, pd.Index(labels)


def _read_clock(column: pd.Series) -> tuple[pd.Series, NDArray[Any], float]:
    """Times as a column, as numbers to sort and subtract, and how far rounding moves differences.

    The numbers are whole ones, but for floats.
    """
    types = pd.api.types
    column = without_categories(column)
    if types.is_object_dtype(column.dtype):
        column = column.infer_objects()
    _refuse_missing(column, column.isna().to_numpy(), "time")
    whole = (types.is_integer_dtype, types.is_datetime64_any_dtype, types.is_timedelta64_dtype)
    if any(is_kind(column.dtype) for is_kind in whole):
        return column, column.astype(np.int64).to_numpy(), 0
    if not types.is_float_dtype(column.dtype):
        example = column.iloc[0]
        raise DataError(
            f"Expected numbers, datetimes or time differences as times in {column.name!r}. Got "
            f"{column.dtype} values such as {example!r}. Convert text with pandas.to_datetime, "
            "periods with .dt.to_timestamp()."
        )
    clock = finite_numbers(column).astype(np.float64)
    rounding = np.finfo(getattr(column.dtype, "numpy_dtype", column.dtype)).eps
    return column, clock, 8 * float(rounding) * float(np.abs(clock).max())


def _refuse_missing(column: pd.Series, missing: NDArray[np.bool_], what: str) -> None:
    if missing.any():
        raise DataError(
            f"Expected every row to have a {what} ({column.name!r}). Got "
            f"{plural(int(missing.sum()), 'row')} without ({labels_where(column, missing)}). Drop "
            f"them: frame.dropna(subset=[{column.name!r}])."
        )


def _is_usual(difference: NDArray[Any], spread: float) -> NDArray[np.bool_]:
    """Which differences of times, all positive, are the most common one, to within `spread`."""
    if not len(difference):
        return np.ones(0, dtype=bool)
    ordered = np.sort(difference)
    count = np.searchsorted(ordered, ordered + spread, side="right") - np.arange(len(ordered))
    usual = ordered[np.argmax(count)]
    return (difference >= usual) & (difference <= usual + spread)
