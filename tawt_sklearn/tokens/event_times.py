"""Features of the times of events: further events, at every distinct time of every history."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils.validation import validate_data

from tawt_sklearn.events.array import EventsArray
from tawt_sklearn.events.dtype import EventsDtype
from tawt_sklearn.events.labels import merge_dictionaries
from tawt_sklearn.events.ragged import first_of_each, offsets_from_lengths, row_ids, segment_count
from tawt_sklearn.exceptions import DataError
from tawt_sklearn.tokens import clocks, waves
from tawt_sklearn.tokens._columns import (
    describe_clock,
    events_column,
    has_integer_codes,
    with_column,
)
from tawt_sklearn.tokens.forms import check_form

_FIRST_DAY, _LAST_DAY = (
    pd.Timestamp(day).timestamp() for day in ("0001-01-02T00:00:00", "9999-12-30T00:00:00")
)
"""Seconds from 1970 between which time zones have their rules."""

_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class EventTimes:
    """The M distinct times of the B histories of a frame, which has E events.

    Attributes
    ----------
    frame : DataFrame
    position : int
        Of the events column in the frame.
    array : EventsArray
    at : ndarray of int64, (M,)
        The last event at each distinct time.
    offsets : ndarray of int64, (B + 1,)
        First distinct time of each history.
    """

    frame: pd.DataFrame
    position: int
    array: EventsArray
    at: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of(cls, frame: pd.DataFrame, position: int, array: EventsArray) -> EventTimes:
        """Find the distinct times of the events column of a frame."""
        time, offsets = array.time, array.offsets
        last = np.ones(len(time), bool)
        np.not_equal(time[1:], time[:-1], out=last[:-1])
        last[offsets[1:][np.diff(offsets) > 0] - 1] = True
        distinct = offsets_from_lengths(segment_count(last, offsets))
        return cls(frame, position, array, np.flatnonzero(last), distinct)

    @property
    def kind(self) -> clocks.TimeKind:
        """What the times stand for."""
        return clock_kind(self.array.dtype)

    def since_start(self) -> np.ndarray:
        """Each distinct time since its history's known start, else since its first event; (M,)."""
        start, first = self.array.start, first_of_each(self.array.time, self.array.offsets)
        origin = np.where(np.isnan(start), first, start)[row_ids(self.offsets)]
        return waves.elapsed(self.array.time[self.at], 0.0) - waves.elapsed(origin, 0.0)

    def local_seconds(self) -> np.ndarray:
        """Each distinct time on the clock on the wall, in seconds since 1970; (M,)."""
        dates = pd.Series(self.array.dtype.from_clock(self.array.time[self.at]))
        return clocks.to_local_seconds(dates, self.kind, None, self.frame.columns[self.position])

    def scales(self) -> tuple[float, float, float]:
        """Where time starts (0), span and typical gap of :meth:`since_start`."""
        since = self.since_start()
        span = float(since.max(initial=0.0) - since.min(initial=0.0)) or 1.0
        return 0.0, span, min(waves.time_scales(since, self.offsets)[2], span)

    def with_features(self, names: list[str], features: Iterable[np.ndarray]) -> pd.DataFrame:
        """The frame with K events more at every distinct time, behind those that are there.

        Parameters
        ----------
        names : list of K str
            Their codes.
        features : iterable of K ndarrays (M,)
            Their values.
        """
        array, K = self.array, len(names)
        if not len(self.at):
            return with_column(self.frame, self.position, array)
        codes, (_, ids) = merge_dictionaries([array.codes, pd.Index(names, dtype="str")])
        ids = np.arange(K) if ids is None else ids
        copies = np.ones(len(array.time), np.int64)
        copies[self.at] += K
        ends = offsets_from_lengths(copies)
        source = np.repeat(np.arange(len(copies)), copies)
        first = ends[self.at + 1] - K  # the first new event of each time, (M,)
        code, value = (np.asarray(flat).take(source) for flat in (array.code, array.value))
        text = None if array.text is None else np.asarray(array.text).take(source)
        for k, feature in enumerate(features):
            code[first + k] = ids[k]
            value[first + k] = np.clip(feature, -_LARGEST, _LARGEST)
            if text is not None:
                text[first + k] = -1
        added = array._replace(
            time=np.asarray(array.time).take(source),
            code=code,
            value=value,
            text=text,
            offsets=ends[array.offsets],
            codes=codes,
        )
        return with_column(self.frame, self.position, added)


def clock_kind(dtype: EventsDtype) -> clocks.TimeKind:
    """What the times of a column stand for."""
    if dtype.timezone is None:
        return "number"
    return "datetime" if dtype.timezone == "naive" else "zoned datetime"


def read_events(embedder: Any, X: Any, names: list[str], *, reset: bool) -> EventTimes:
    """Validate event histories for a TimeEmbedder and find their distinct times.

    Parameters
    ----------
    embedder : TimeEmbedder
        Its ``n_features_in_`` and ``feature_names_in_`` are set or compared; ``form_`` and
        ``_clock`` are compared.
    X : DataFrame or another form of histories that :func:`~tawt_sklearn.as_events` takes
    names : list of str
        Codes of the events that will be added.
    reset : bool
        True in fit.

    Raises
    ------
    DataError
        Another form or clock than in fit, tokens, integer codes, codes that have one of the names
        already, infinite times, no events in fit; parameters that do not suit histories, no dates
        for the calendar or such that are far from this era.
    """
    check_form(embedder, "events", reset)
    frame, position, array = events_column(X)
    name = frame.columns[position]
    validate_data(embedder, frame, reset=reset, skip_check_array=True)
    if array.dtype.vocabulary is not None:
        raise DataError(
            f"Expected raw events. Got column {name!r}, which is tokenised already. Put "
            "TimeEmbedder before TripletSequencer."
        )
    if reset:
        _check_parameters(embedder, array.dtype)
        if not len(array.time):
            raise DataError(
                f"Expected events to learn from. Got {len(frame)} histories, all of them empty."
            )
    else:
        _check_clock(array.dtype, EventsDtype.construct_from_string(embedder._clock))
    _check_times(array, name, calendar=embedder.method == "calendar")
    _check_codes(array, name, names)
    return EventTimes.of(frame, position, array)


def check_loaded(embedder: Any) -> None:
    """Raise a ValueError where what a file says of histories does not fit."""
    dtype = EventsDtype.construct_from_string(embedder._clock)
    if dtype.vocabulary is not None or embedder._kinds != [clock_kind(dtype)]:
        raise ValueError(f"no clock of raw events: {embedder._clock!r}")
    if embedder.method == "calendar" and dtype.timezone is None:
        raise ValueError("a calendar of numbers")
    if len(embedder.indicator_features_):
        raise ValueError("indicators of times that cannot be missing")


def _check_parameters(embedder: Any, dtype: EventsDtype) -> None:
    if embedder.channel is not None:
        raise DataError(
            "Expected a panel (n_cases, n_channels, n_timepoints) for "
            f"channel={embedder.channel}. Got event histories, whose events know their times. "
            "Leave channel at None."
        )
    if embedder.unit not in (None, dtype.time_unit):
        raise DataError(
            f"Expected unit=None for event histories, which know theirs: {dtype.time_unit!r}. Got "
            f"{embedder.unit!r}. Leave it out, or nest the events with another time_unit."
        )
    if embedder.method == "calendar" and dtype.timezone is None:
        raise DataError(
            "Expected dates as the times of events for method='calendar'. Got numbers in units of "
            f"{dtype.time_unit!r}, which have no place in a calendar. Nest the events with a "
            "datetime column as time, or choose another method."
        )


def _check_clock(got: EventsDtype, fitted: EventsDtype) -> None:
    if got != fitted:
        raise DataError(
            f"Expected times as in fit: {describe_clock(fitted)} ({fitted.name}). Got "
            f"{describe_clock(got)} ({got.name}). Nest the events with the same time column type, "
            "time zone and time_unit."
        )


def _check_times(array: EventsArray, name: Any, *, calendar: bool) -> None:
    time = array.time
    infinite = np.flatnonzero(np.isinf(time))
    if len(infinite):
        row = int(np.searchsorted(array.offsets, infinite[0], side="right")) - 1
        raise DataError(
            f"Expected finite times. Got {len(infinite)} infinite ones in {name!r}, the first in "
            f"row {row}. Drop these events."
        )
    if not calendar:
        return
    unit = array.dtype.time_unit
    ends = np.array([_FIRST_DAY, _LAST_DAY]) / clocks.SECONDS[unit]
    far = np.flatnonzero((time < ends[0]) | (time > ends[1]))
    if len(far):
        raise DataError(
            f"Expected dates in the years 1 to 9999 in {name!r} for method='calendar'. Got "
            f"{time[far[0]]:g} from 1970 in units of {unit!r}. Check the times and time_unit."
        )


def _check_codes(array: EventsArray, name: Any, names: list[str]) -> None:
    if not len(array.time) or not len(array.codes):
        return
    if has_integer_codes(array):
        raise DataError(
            f"Expected codes that are strings in {name!r}, beside which new ones such as "
            f"{names[0]!r} can stand. Got integers. Convert the code column with .astype(str) "
            "before nesting."
        )
    ids = array.codes.get_indexer(pd.Index(names, dtype="str"))
    # An entry of the dictionary alone is none: parts of a frame have that of the whole.
    taken = (ids >= 0) & np.isin(ids, array.code)
    if taken.any():
        raise DataError(
            f"Expected events without the code {names[int(np.argmax(taken))]!r}, which is one of "
            f"those that will be added. Got some in {name!r}. Leave out a second TimeEmbedder, or "
            "rename the code before nesting."
        )
