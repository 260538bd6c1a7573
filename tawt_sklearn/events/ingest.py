"""The door for long tables: one row per event in, one row per subject out."""

from __future__ import annotations

import warnings
from collections.abc import Hashable
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tawt_sklearn.events._dask import is_dask
from tawt_sklearn.events.array import EventsArray
from tawt_sklearn.events.cohort import Cohort, plan_cohort
from tawt_sklearn.events.columns import read_content, read_subjects, read_times
from tawt_sklearn.events.dtype import EventsDtype
from tawt_sklearn.events.order import stable_order
from tawt_sklearn.events.ragged import offsets_from_lengths, range_positions, searchsorted_within
from tawt_sklearn.events.tables import Table, labels_where, plural
from tawt_sklearn.exceptions import DataError, DataWarning

NullTime = Literal["error", "first", "drop"]


def nest_events(
    events: Any,
    *,
    subject: Hashable = None,
    time: Hashable = None,
    code: Hashable = None,
    value: Hashable = None,
    text: Hashable = None,
    static: Any = None,
    until: Any = None,
    time_unit: str = "h",
    null_time: NullTime = "error",
    name: str = "events",
) -> pd.DataFrame:
    """Turn a long table, one row per event, into a frame with one row per subject.

    Parameters
    ----------
    events : pandas.DataFrame, polars.DataFrame, pyarrow.Table or dask DataFrame
        Long table in any order. Events of a subject that share a time keep the order they are in.
        A Dask table is nested lazily, see the notes.
    subject, time, code, value, text : column names, optional
        Looked for under these names if not given, the first that is there:

        ======= =========================================
        subject ``subject_id``, ``subject``, ``patient_id``
        time    ``time``, ``timestamp``
        code    ``code``, ``data_type``
        value   ``value``, ``numeric_value``
        text    ``text_value``, ``text``, or none at all
        ======= =========================================

        Levels of a pandas index count as columns. ``value=False`` for events without values,
        ``text=False`` to leave a text column alone.

        *Times* are numbers (in `time_unit`), time differences, or datetimes, with one time zone
        or none. *Codes* are strings or whole numbers; an event may lack its code. *Values* that
        are numbers or booleans become the numeric value of the event, strings its text. In a
        column of text, strings that read as numbers become numbers. An event may lack both.
    static : DataFrame or Series, optional
        Static columns, one row per subject, named by the index or a column called like the
        subject column of `events`. The result has these rows in this order: subjects without
        events get an empty history. Events of other subjects are left out, with a warning.
    until : time, Series, dict or table of times, optional
        Prediction times: only events up to and including that time are kept. One time for all,
        a Series or dictionary by subject, or a table of (subject, ``prediction_time``) rows,
        such as a MEDS cohort, whose other columns are ignored. Unless it is one time, it says
        which rows the result has, and in which order: a subject may have several rows, or no
        events. `static` is looked up for these rows (missing values, with a warning, where it
        lacks a subject). Events of subjects that are not in `until` are left out, with a warning
        unless it is a table. Times are kept as the end of each history (``.events.end``).
    time_unit : {"h", "s", "min", "D", "step"}, default "h"
        Unit of the times, which are stored as numbers: numeric times are stored as they are.
    null_time : {"error", "first", "drop"}, default "error"
        What to do with events without a time: refuse them; put them at the first time of their
        subject, which is how static measurements in MEDS are meant (where the prediction time is
        earlier, there; events of subjects that have neither are dropped with a warning); or
        drop them with a warning.
    name : str, default "events"
        Name of the events column.

    Returns
    -------
    DataFrame
        The static columns, and the column `name` of dtype
        :class:`~tawt_sklearn.events.dtype.EventsDtype`. Without `static` and `until` the rows
        are in sorted order of the subjects. The index holds the subjects, and is named like the
        subject column; where `until` has several rows of a subject it is a MultiIndex of
        subjects and times.

    Raises
    ------
    DataError
        Missing or repeated columns, missing subjects or times, infinite times or values, mixed
        time zones, codes or values of a type that is none of the above, `static` or `until` that
        do not fit the events.

    See Also
    --------
    as_events : for data that have one row per subject already.
    read_meds : for MEDS dataset directories.

    Notes
    -----
    A Dask DataFrame gives a Dask DataFrame, and nothing is computed before it is asked for. Events
    are shuffled by subject, unless the subjects are the index and the divisions are known.
    `static` and `until` may be pandas or Dask tables (which means a shuffle). Computed, the result
    is that of the whole table at once but for the order of the rows and the index: rows are sorted
    by subject within each partition, overall where nothing was shuffled; and the index holds the
    subjects alone also where `until` has several rows of one, whose times are in ``.events.end``.
    Warnings come from each partition, when it is computed.

    Examples
    --------
    >>> import pandas as pd
    >>> long = pd.DataFrame({
    ...     "subject_id": ["b", "a", "b"], "time": [2.0, 0.5, 1.0],
    ...     "code": ["temp", "hr", "hr"], "value": [37.5, 80, 95]})
    >>> X = nest_events(long, static=pd.DataFrame({"age": [70, 50]}, index=["b", "a"]))
    >>> X.columns.tolist(), X.index.tolist()
    (['age', 'events'], ['b', 'a'])
    >>> X["events"].events.lengths
    array([2, 1])
    >>> X["events"].events.flat("time")
    array([1. , 2. , 0.5])
    """
    if null_time not in get_args(NullTime):
        raise DataError(f"Expected null_time to be one of {get_args(NullTime)}. Got {null_time!r}.")
    frame_like = isinstance(events, pd.DataFrame) or (is_dask(events) and events.ndim == 2)
    if frame_like and any(isinstance(d, EventsDtype) for d in events.dtypes):
        raise DataError(
            "Expected a long table with one row per event. Got a frame with a column of event "
            "histories: it is nested already, use it as it is."
        )
    given = {"subject": subject, "time": time, "code": code, "value": value, "text": text}
    if is_dask(events):
        from tawt_sklearn.events._dask_nesting import nest_dask

        options: dict[str, Any] = {"time_unit": time_unit, "null_time": null_time, "name": name}
        return nest_dask(events, given, static=static, until=until, **options)
    table = Table(events)
    names = table.find_all(given)
    ids, subjects = read_subjects(table[names["subject"]])
    times, timezone = read_times(table[names["time"]], time_unit)
    dtype = EventsDtype(time_unit, timezone)
    cohort = plan_cohort(
        subjects, static=static, until=until, dtype=dtype, subject_name=names["subject"]
    )
    if cohort.static is not None and name in cohort.static.columns:
        raise DataError(
            f"Expected static= without a column {name!r}, which is what the events column will be "
            "called. Rename it, or call the events column something else with name=."
        )

    keep = None
    if (missing := np.isnan(times)).any():
        _check_null_times(null_time, table[names["time"]], missing)
        if null_time == "first":
            times = _put_first(times, missing, ids, len(subjects), cohort)
        keep = _timed(times, null_time)
        ids, times = ids[keep], times[keep]
    offsets = offsets_from_lengths(np.bincount(ids, minlength=len(subjects)))
    order, times = stable_order(ids, times, offsets)
    del ids
    if keep is not None:
        order = keep if order is None else keep[order]
    positions, offsets = _row_positions(cohort, times, offsets)
    if positions is not None:
        times = times[positions]
        order = positions if order is None else order[positions]

    array = EventsArray.from_flat(
        time=_pick(times, None),
        offsets=offsets,
        end=cohort.until,
        time_unit=time_unit,
        timezone=timezone,
        **read_content(table, names, lambda flat: _pick(flat, order)),
    )
    if positions is not None:
        array = array.compact()
    frame = (
        pd.DataFrame(index=cohort.index)
        if cohort.static is None
        else cohort.static.copy(deep=False)
    )
    frame.index = cohort.index
    frame[name] = array
    return frame


def _pick(flat: NDArray[Any], order: NDArray[np.int64] | None) -> NDArray[Any]:
    """A flat array in `order`, never memory of the caller's table."""
    if order is not None:
        return flat.take(order)
    return flat if flat.flags.owndata and flat.flags.writeable else flat.copy()


def _check_null_times(null_time: NullTime, column: pd.Series, missing: NDArray[np.bool_]) -> None:
    if null_time == "error":
        raise DataError(
            f"Expected every event to have a time ({column.name!r}). Got "
            f"{plural(int(missing.sum()), 'event')} without ({labels_where(column, missing)}). "
            'Drop them with null_time="drop", or put them at the first time of their subject '
            'with null_time="first", as for static events in MEDS.'
        )


def _put_first(
    time: NDArray[np.float64],
    missing: NDArray[np.bool_],
    ids: NDArray[np.int32],
    n_subjects: int,
    cohort: Cohort,
) -> NDArray[np.float64]:
    """Give events without a time the first time of their subject, NaN where it has none."""
    first = np.full(n_subjects, np.inf)
    np.minimum.at(first, ids[~missing], time[~missing])
    if cohort.until is not None:
        known = cohort.subject >= 0
        np.minimum.at(first, cohort.subject[known], cohort.until[known])
    first[np.isinf(first)] = np.nan
    return np.where(missing, first[ids], time)


def _timed(time: NDArray[np.float64], null_time: NullTime) -> NDArray[np.int64]:
    """Positions of the events that have a time; warns of those that are dropped."""
    keep = np.flatnonzero(~np.isnan(time))
    if dropped := len(time) - len(keep):
        why = "" if null_time == "drop" else ", whose subjects have no time at all,"
        warnings.warn(
            f"{plural(dropped, 'event')} without a time{why} {'was' if dropped == 1 else 'were'} "
            "dropped.",
            DataWarning,
            stacklevel=3,
        )
    return keep


def _row_positions(
    cohort: Cohort, time: NDArray[np.float64], offsets: NDArray[np.int64]
) -> tuple[NDArray[np.int64] | None, NDArray[np.int64]]:
    """Flat positions of the events of each row, None for all as they are, and its offsets."""
    known = cohort.subject >= 0
    begin = np.where(known, offsets[cohort.subject], 0)
    stop = np.where(known, offsets[cohort.subject + 1], 0)
    if cohort.until is not None:
        # Segments 0, 2, 4, ... are the rows; what lies between two rows is searched in vain.
        edges = np.stack([begin, stop], axis=1).ravel()
        bound = np.repeat(cohort.until, 2)
        stop = searchsorted_within(time, edges, bound[:-1], "right")[::2]
    if np.array_equal(begin, offsets[:-1]) and np.array_equal(stop, offsets[1:]):
        return None, offsets
    return range_positions(begin, stop - begin)
