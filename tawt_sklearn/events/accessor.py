"""``Series.events``: what one does with an events column."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd
from pandas.api.extensions import register_series_accessor

from tawt_sklearn.events import ragged
from tawt_sklearn.events.array import EventsArray
from tawt_sklearn.events.content import Content
from tawt_sklearn.events.labels import label_column
from tawt_sklearn.exceptions import DataError

Field = Literal["time", "code", "value", "text", "row"]


@register_series_accessor("events")
class EventsAccessor:
    """Accessor of an events column: ``X["events"].events``.

    Parameters
    ----------
    series : Series
        Of events dtype.

    Examples
    --------
    >>> import pandas as pd
    >>> from tawt_sklearn.events import nest_events
    >>> long = pd.DataFrame({"subject_id": [7, 7, 9], "time": [0.5, 2.0, 1.0],
    ...                      "code": ["hr", "temp", "hr"], "value": [80, 37.5, 95]})
    >>> X = nest_events(long)
    >>> X["events"].events.flat("value")
    array([80. , 37.5, 95. ], dtype=float32)
    >>> X["events"].events.lengths
    array([2, 1])
    """

    def __init__(self, series: pd.Series) -> None:
        if not isinstance(series.array, EventsArray):
            raise AttributeError(
                f"Expected a column of events dtype for .events. Got {series.dtype}. "
                "Make event columns with nest_events or as_events."
            )
        self._series = series

    @property
    def array(self) -> EventsArray:
        """The array of the column."""
        array = self._series.array
        assert isinstance(array, EventsArray)
        return array

    def flat(self, field: Field) -> np.ndarray:
        """Return one field of all events, row after row, without copying.

        Parameters
        ----------
        field : {"time", "code", "value", "text", "row"}
            ``time`` float64 in units of the dtype; ``code`` int32 ids into `codes`, -1 = missing;
            ``value`` float32, NaN = no number; ``text`` int32 ids into `texts`, -1 = none;
            ``row`` int64 row numbers. ``text`` (where the column has none) and ``row`` are made
            on the spot.

        Returns
        -------
        ndarray (E,)
            A read-only view: columns share their arrays.
        """
        array = self.array
        if field in ("time", "code", "value") or (field == "text" and array.text is not None):
            view = getattr(array, field).view()
            view.flags.writeable = False
            return view
        if field == "text":
            return np.full(len(array.time), -1, dtype=np.int32)
        if field == "row":
            return ragged.row_ids(array.offsets)
        raise DataError(
            f"Expected field to be 'time', 'code', 'value', 'text' or 'row'. Got {field!r}."
        )

    @property
    def offsets(self) -> np.ndarray:
        """The events of row i are ``offsets[i]:offsets[i + 1]``, int64 (B + 1,)."""
        return self.array.offsets

    @property
    def lengths(self) -> np.ndarray:
        """Number of events of each row, int64 (B,); 0 for missing rows."""
        return self.array.lengths

    @property
    def codes(self) -> pd.Index:
        """Code labels by id. May hold labels that no row uses."""
        return self.array.codes

    @property
    def texts(self) -> pd.Index:
        """Text labels by id; empty if there are none."""
        texts = self.array.texts
        return pd.Index([], dtype="str") if texts is None else texts

    @property
    def start(self) -> np.ndarray:
        """Begin of the observation window of each row, float64 (B,), NaN = unknown."""
        return self.array.start

    @property
    def end(self) -> np.ndarray:
        """End of the observation window of each row, float64 (B,), NaN = unknown."""
        return self.array.end

    @property
    def time_unit(self) -> str:
        """Unit of all times: s, min, h, D or step."""
        return self.array.dtype.time_unit

    @property
    def timezone(self) -> str | None:
        """None for numeric times, "naive" or the name of a time zone for datetimes."""
        return self.array.dtype.timezone

    @property
    def vocabulary(self) -> str | None:
        """None for raw content, the vocabulary as JSON for tokenised content."""
        return self.array.dtype.vocabulary

    def to_long(self, index_name: str | list[str] | None = None) -> pd.DataFrame:
        """Return a long frame with one row per event, in the order of the rows.

        Parameters
        ----------
        index_name : str or list of str, optional
            Names of the columns that hold the index, one per level. By default the names of the
            index; an unnamed index gives ``subject_id``.

        Returns
        -------
        DataFrame
            The index as columns, then ``time`` (datetimes restored), ``code``, ``value`` and, if
            any event has one, ``text``. Rows without events, missing ones included, leave no
            trace.

        Examples
        --------
        >>> import pandas as pd
        >>> from tawt_sklearn.events import nest_events
        >>> long = pd.DataFrame({"subject_id": [7, 7], "time": [0.5, 2.0],
        ...                      "code": ["hr", "temp"], "value": [80, 37.5]})
        >>> nest_events(long)["events"].events.to_long()
           subject_id  time  code  value
        0           7   0.5    hr   80.0
        1           7   2.0  temp   37.5
        """
        array, index = self.array, self._series.index
        rows = ragged.row_ids(array.offsets)
        columns: dict[str, Any] = {}
        for level, name in enumerate(_index_names(index, index_name)):
            columns[name] = index.get_level_values(level).take(rows)
        taken = sorted(columns.keys() & {"time", "code", "value", "text"})
        if taken or len(columns) < index.nlevels:
            raise DataError(
                "Expected names for the index that are different from each other and from time, "
                f"code, value and text. Got {_index_names(index, index_name)}. Give others as "
                "index_name."
            )
        columns["time"] = array.dtype.from_clock(array.time)
        columns["code"] = label_column(array.code, array.codes)
        columns["value"] = array.value
        if array.text is not None and array.texts is not None and (array.text >= 0).any():
            columns["text"] = label_column(array.text, array.texts)
        return pd.DataFrame(columns)

    def until(self, times: Any) -> pd.Series:
        """Cut each history after its time: events at that very time are kept.

        Parameters
        ----------
        times : scalar, array (B,), Series or dict
            One time for all rows or one per row; Series and dict are aligned by the index.
            Numbers in units of the dtype or time differences, or datetimes if the events have
            datetimes (aware ones are converted to the zone of the events).

        Returns
        -------
        Series
            With the same index. ``end`` of each row is its time, and ``start`` is never later.

        Raises
        ------
        DataError
            Rows without a time, numbers for datetimes or the reverse, naive datetimes for aware
            ones or the reverse.

        Examples
        --------
        >>> import pandas as pd
        >>> from tawt_sklearn.events import nest_events
        >>> long = pd.DataFrame({"subject_id": [7, 7, 9], "time": [0.5, 2.0, 1.0],
        ...                      "code": ["hr", "temp", "hr"], "value": [80, 37.5, 95]})
        >>> X = nest_events(long)
        >>> X["events"].events.until(pd.Series({9: 0.5, 7: 2.0})).events.lengths
        array([2, 0])
        """
        end = self._per_row(times, "times")
        array = self.array
        return self._cut(np.minimum(array.start, end), end, array.offsets[:-1])

    def window(self, start: Any, stop: Any) -> pd.Series:
        """Keep the events from `start` to `stop`, both included.

        Parameters
        ----------
        start, stop : scalar, array (B,), Series or dict
            As the times of :meth:`until`.

        Returns
        -------
        Series
            With the same index, and ``start`` and ``end`` of each row as given.

        Raises
        ------
        DataError
            As :meth:`until`, and where `stop` is before `start`.

        Examples
        --------
        >>> import pandas as pd
        >>> from tawt_sklearn.events import nest_events
        >>> long = pd.DataFrame({"subject_id": [7, 7, 7], "time": [0.0, 1.0, 2.0],
        ...                      "code": "hr", "value": [80, 81, 82]})
        >>> nest_events(long)["events"].events.window(1.0, 2.0).events.flat("time")
        array([1., 2.])
        """
        begin, end = self._per_row(start, "start"), self._per_row(stop, "stop")
        late = np.flatnonzero(end < begin)
        if len(late):
            label = self._series.index[late[:1]].tolist()[0]
            raise DataError(
                "Expected windows that do not stop before they start. "
                f"Got start={begin[late[0]]:g}, stop={end[late[0]]:g} for row {label!r} "
                f"(first of {len(late)})."
            )
        array = self.array
        first = ragged.searchsorted_within(array.time, array.offsets, begin, "left")
        return self._cut(begin, end, first)

    def _cut(self, start: np.ndarray, end: np.ndarray, first: np.ndarray) -> pd.Series:
        """Keep the events from flat position `first` of each row up to its `end`."""
        array = self.array
        last = ragged.searchsorted_within(array.time, array.offsets, end, "right")
        positions, offsets = ragged.range_positions(first, np.maximum(last - first, 0))
        missing = array.isna()
        content: Content = array._content.pick_events(lambda flat: flat.take(positions), offsets)
        content.start = None if np.isnan(start).all() else np.where(missing, np.nan, start)
        content.end = np.where(missing, np.nan, end)
        cut = array._wrap(array.dtype, content)
        return pd.Series(cut, index=self._series.index, name=self._series.name, copy=False)

    def _per_row(self, times: Any, what: str) -> np.ndarray:
        """One finite number per row, on the clock of the column."""
        index, dtype = self._series.index, self.array.dtype
        if isinstance(times, Mapping):
            times = pd.Series(times)
        if isinstance(times, pd.Series):
            times = _align(times, index, what)
        numbers = dtype.to_clock(times, what=what)
        if np.ndim(numbers) == 0:
            numbers = np.full(len(index), numbers)
        if numbers.shape != (len(index),):
            raise DataError(
                f"Expected one time or one per row ({len(index)}) as {what}. "
                f"Got shape {numbers.shape}."
            )
        unknown = np.flatnonzero(~np.isfinite(numbers) & ~self.array.isna())
        if len(unknown):
            label = index[unknown[:1]].tolist()[0]
            raise DataError(
                f"Expected a finite time for every row as {what}. Got {numbers[unknown[0]]} for "
                f"{len(unknown)} rows, the first of them {label!r}. Drop these rows or give them a "
                "time."
            )
        return numbers


def _align(times: pd.Series, index: pd.Index, what: str) -> pd.Series:
    if times.index.equals(index):
        return times
    if not times.index.is_unique:
        repeated = times.index[times.index.duplicated()][:1].tolist()[0]
        raise DataError(
            f"Expected {what} with one entry per index label. Got several for {repeated!r}. "
            "Give an array in the order of the rows instead."
        )
    place = times.index.get_indexer(index)
    missing = index[place < 0]
    if len(missing):
        first = ", ".join(repr(label) for label in missing[:3].tolist())
        raise DataError(
            f"Expected {what} for every row, aligned by index. Got none for {len(missing)} of "
            f"{len(index)} rows: {first}{', ...' if len(missing) > 3 else ''}."
        )
    return times.iloc[place]


def _index_names(index: pd.Index, names: str | list[str] | None) -> list[str]:
    if names is not None:
        names = [names] if isinstance(names, str) else list(names)
        if len(names) != index.nlevels:
            raise DataError(
                f"Expected {index.nlevels} names for the levels of the index. Got {names}."
            )
        return names
    unnamed = ["subject_id", *(f"level_{level}" for level in range(1, index.nlevels))]
    return [
        default if name is None else name  # type: ignore[misc]
        for name, default in zip(index.names, unnamed, strict=True)
    ]
