"""Which rows a nested frame has: one per subject, or one per prediction time."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tawt_sklearn.events.columns import timedeltas_to_numbers
from tawt_sklearn.events.dtype import EventsDtype
from tawt_sklearn.events.tables import DEFAULT_NAMES, labels_where, library_of, plural
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
        Static columns, one row per row.
    """

    index: pd.Index
    subject: NDArray[np.int64]
    until: NDArray[np.float64] | None
    static: pd.DataFrame | None


def plan_cohort(
    subjects: pd.Index, *, static: Any, until: Any, dtype: EventsDtype, subject_name: Hashable
) -> Cohort:
    """Work out the rows that `static` and `until` of ``nest_events`` ask for.

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
    if until is None or pd.api.types.is_scalar(until):
        keys = subjects if statics is None else statics.index
        index = keys.rename(subject_name)
        ends = None if until is None else np.full(len(keys), _scalar_end(until, dtype))
    else:
        keys, times = _until_rows(until, subject_name)
        ends = _ends(times, dtype)
        index = _row_index(keys, times, subject_name)
    position = locate(subjects, keys)
    _check_overlap(position, subjects, keys, "static" if keys is not subjects and (
        until is None or pd.api.types.is_scalar(until)) else "until")
    if not isinstance(until, pd.DataFrame | pd.MultiIndex):
        _warn_left_out(position, subjects, "until" if ends is not None and len(ends) and not
                       pd.api.types.is_scalar(until) else "static")
    return Cohort(index, position, ends, _static_rows(statics, keys, index))
