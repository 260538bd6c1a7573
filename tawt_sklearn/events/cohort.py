"""Which rows a nested frame has: one per subject, or one per prediction time."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tawt_sklearn.events.dtype import EventsDtype
from tawt_sklearn.events.tables import (
    DEFAULT_NAMES,
    labels_where,
    library_of,
    plain_frame,
    plain_series,
    plural,
)
from tawt_sklearn.exceptions import DataError, DataWarning

# Column of prediction times in a frame of cohort rows, best name first.
PREDICTION_TIME_NAMES = ("prediction_time", "until", *DEFAULT_NAMES["time"])


@dataclass(frozen=True)
class Cohort:
    """Rows of a nested frame, N of them.

    Attributes
    ----------
    index : Index
        Index of the frame.
    subject : int64 array of shape (N,)
        Which of the subjects of the events each row is about, -1 for one without events.
    until : float64 array of shape (N,) or None
        Last time of each row on the clock of the events.
    static : DataFrame or None
        Static columns, one row per row, with any index.
    """

    index: pd.Index
    subject: NDArray[np.int64]
    until: NDArray[np.float64] | None
    static: pd.DataFrame | None


def plan_cohort(
    subjects: pd.Index, *, static: Any, until: Any, dtype: EventsDtype, subject_name: Hashable
) -> Cohort:
    """Work out the rows that `static` and `until` of ``nest_events`` ask for.

    Times in `until` say which rows there are; without, the index of `static` does; without
    either there is one row for each of `subjects`.

    Parameters
    ----------
    subjects : Index
        Subjects that have events.
    static, until
        As in ``nest_events``.
    dtype : EventsDtype
        Clock of the events.
    subject_name : hashable
        Name of the subject column.
    """
    statics = None if static is None else _static_frame(static, subject_name)
    if until is not None and not pd.api.types.is_scalar(until):
        keys, times = _until_rows(until, subject_name)
        position = _locate(subjects, keys, "until", subject_name)
        if isinstance(until, pd.Series | Mapping):  # a table of rows selects subjects by nature
            _warn_left_out(position, subjects, "until")
        if statics is not None:
            statics = _static_rows(statics, keys, subject_name)
        return Cohort(_row_index(keys, times), position, _ends(times, dtype), statics)
    if statics is None:
        keys, position = subjects, np.arange(len(subjects))
    else:
        keys = statics.index
        position = _locate(subjects, keys, "static", subject_name)
        _warn_left_out(position, subjects, "static")
    ends = None
    if until is not None:
        ends = np.repeat(_ends(pd.Series([until]), dtype), len(keys))
    return Cohort(keys.rename(subject_name), position, ends, statics)


def _static_frame(static: Any, subject_name: Hashable) -> pd.DataFrame:
    """The static columns indexed by subject."""
    if isinstance(static, pd.Series):
        static = static.to_frame("static" if static.name is None else static.name)
    frame = plain_frame(static, what="static")
    if subject_name in frame.columns:
        frame = frame.set_index(subject_name)
    index = frame.index
    if isinstance(index, pd.MultiIndex) or index.hasnans or not index.is_unique:
        if isinstance(index, pd.MultiIndex):
            got = f"an index of the levels {list(index.names)}"
        else:
            wrong = index[index.isna() | index.duplicated()].tolist()
            got = (
                f"{plural(len(wrong), 'row')} with a repeated or missing one, such as {wrong[0]!r}"
            )
        raise DataError(
            f"Expected static= to have one row per subject, named by its index or by a column "
            f"{subject_name!r}. Got {got}."
        )
    return frame


def _static_rows(statics: pd.DataFrame, keys: pd.Index, subject_name: Hashable) -> pd.DataFrame:
    """Static columns of each row, NaN (and a warning) where a subject has none."""
    position = _locate(statics.index, keys, "until", subject_name, others="static=")
    if lacking := int((position < 0).sum()):
        warnings.warn(
            f"{plural(lacking, 'row')} of until= (of {len(keys):,}) have no row in static=: "
            "their static columns are missing values.",
            DataWarning,
            stacklevel=4,
        )
    return statics.reset_index(drop=True).reindex(position)


def _until_rows(until: Any, subject_name: Hashable) -> tuple[pd.Index, pd.Series]:
    """Subject and time of every row; the times are named, and indexed by subject."""
    if isinstance(until, Mapping):
        until = pd.Series(until)
    if isinstance(until, pd.MultiIndex) and until.nlevels == 2:
        until = until.to_frame(index=False)
    if isinstance(until, pd.Series) and not isinstance(until.index, pd.MultiIndex):
        times = plain_series(until)
    elif isinstance(until, pd.DataFrame) or library_of(until) in ("polars", "pyarrow"):
        frame = plain_frame(until, what="until")
        if subject_name not in frame.columns and frame.index.name is not None:
            frame = frame.reset_index()
        name = _first_of((subject_name, *DEFAULT_NAMES["subject"]), frame, "subject", subject_name)
        rest = frame.drop(columns=name)
        wanted = rest.columns if rest.shape[1] == 1 else PREDICTION_TIME_NAMES
        time = _first_of(wanted, rest, "prediction time", PREDICTION_TIME_NAMES[0])
        times = rest[time].set_axis(pd.Index(frame[name]))
    else:
        raise DataError(
            "Expected until= to be one time, a Series or dictionary of times by subject, or a "
            f"frame of ({subject_name}, prediction_time) rows. Got {type(until).__name__}."
        )
    keys = times.index.rename(subject_name)
    if keys.hasnans:
        raise DataError(
            f"Expected every row of until= to have a subject ({subject_name!r}). "
            f"Got {plural(int(np.sum(keys.isna())), 'row')} without."
        )
    name = PREDICTION_TIME_NAMES[0] if times.name is None else times.name
    return keys, pd.Series(times, name=name)


def _first_of(wanted: Any, frame: pd.DataFrame, part: str, best: Hashable) -> Hashable:
    for name in wanted:
        if (count := list(frame.columns).count(name)) == 1:
            return name
        if count > 1:
            raise DataError(f"Expected one column {name!r} in until=. Got {count} of that name.")
    raise DataError(
        f"Expected a {part} column in until=, called {best!r}. Got the columns {[*frame.columns]}."
    )


def _row_index(keys: pd.Index, times: pd.Series) -> pd.Index:
    """Subjects, or subjects and times where a subject has several rows."""
    if keys.is_unique:
        return keys
    index = pd.MultiIndex.from_arrays([keys, times.array], names=[keys.name, times.name])
    if not index.is_unique:
        repeated = index[index.duplicated()]
        subject, time = repeated.tolist()[0]
        raise DataError(
            "Expected every (subject, time) in until= once. Got "
            f"{plural(len(repeated), 'repeated row')}, such as ({subject}, {time}). Drop "
            "them with .drop_duplicates()."
        )
    return index


def _ends(times: pd.Series, dtype: EventsDtype) -> NDArray[np.float64]:
    """Times of `until` on the clock of the events."""
    ends = dtype.to_clock(times, what="until")
    if (wrong := ~np.isfinite(ends)).any():
        raise DataError(
            f"Expected a time for every row of until=. Got {plural(int(wrong.sum()), 'row')} with "
            f"a missing or infinite one ({labels_where(times, wrong)}). Drop these rows, or give "
            "them the time up to which events may be used."
        )
    return ends


def _locate(
    subjects: pd.Index, keys: pd.Index, what: str, name: Hashable, *, others: str = "events"
) -> NDArray[np.int64]:
    """Positions of `keys` among `subjects`, -1 for those that are not there."""
    subjects, keys = _without_categories(subjects), _without_categories(keys)
    position = subjects.get_indexer(keys)
    if len(subjects) and len(keys) and (position < 0).all():
        raise DataError(
            f"Expected the subjects of {what}= to be those of {others}. Got none in common: "
            f"{others} have {_some(subjects)}, {what}= has {_some(keys)}. Give {what}= the "
            f"subjects as its index or as a column {name!r}, of the same type."
        )
    return position


def _without_categories(index: pd.Index) -> pd.Index:
    if isinstance(index, pd.CategoricalIndex):
        return index.astype(index.categories.dtype)
    return index


def _some(index: pd.Index) -> str:
    return f"{', '.join(map(repr, index[:3].tolist()))} ({index.dtype})"


def _warn_left_out(position: NDArray[np.int64], subjects: pd.Index, what: str) -> None:
    present = np.zeros(len(subjects) + 1, dtype=bool)
    present[position] = True  # -1 marks the entry that is one too many
    if left_out := int((~present[:-1]).sum()):
        warnings.warn(
            f"{plural(left_out, 'subject')} (of {len(subjects):,}) with events have no row in "
            f"{what}=: their events were left out.",
            DataWarning,
            stacklevel=4,
        )
