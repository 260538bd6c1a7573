"""The scalar of an events column: the history of one row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import pandas as pd

from tawt_sklearn.events.labels import label_column, labels_of

if TYPE_CHECKING:
    from tawt_sklearn.events.dtype import EventsDtype

NO_ORDER = (
    "Event histories have no order. Sort by something they have, for example "
    "X.iloc[np.argsort(X['events'].events.lengths)]; group with groupby(..., sort=False)."
)


class EventHistory:
    """Immutable view of the event history of one row of an events column.

    Made by indexing (``X["events"].iloc[0]``), not by hand: see :func:`~tawt_sklearn.nest_events`.

    Two histories are equal if they are told on the same clock and hold the same events in the
    same order, with the same observation window; missing values are equal to each other.

    Examples
    --------
    >>> import pandas as pd
    >>> from tawt_sklearn.events import nest_events
    >>> long = pd.DataFrame({"subject_id": 7, "time": [0.5, 2.0], "code": ["hr", "temp"],
    ...                      "value": [80, 37.5]})
    >>> history = nest_events(long)["events"].loc[7]
    >>> history
    <EventHistory: 2 events (0.5 to 2 h)>
    >>> len(history), history.code.tolist(), history.value.tolist()
    (2, ['hr', 'temp'], [80.0, 37.5])
    """

    # No __iter__ and no __getitem__: pandas and numpy would take the scalar for a list.
    __slots__ = (
        "_code",
        "_codes",
        "_dtype",
        "_end",
        "_hash",
        "_start",
        "_text",
        "_texts",
        "_time",
        "_value",
    )

    def __init__(
        self,
        dtype: EventsDtype,
        time: np.ndarray,
        code: np.ndarray,
        value: np.ndarray,
        codes: pd.Index,
        text: np.ndarray | None = None,
        texts: pd.Index | None = None,
        start: float = np.nan,
        end: float = np.nan,
    ) -> None:
        self._dtype = dtype
        self._time, self._code, self._value = time, code, value
        self._codes, self._text, self._texts = codes, text, texts
        self._start, self._end = float(start), float(end)
        self._hash: int | None = None

    @property
    def dtype(self) -> EventsDtype:
        """Dtype of the column the history comes from: its clock and vocabulary."""
        return self._dtype

    @property
    def time(self) -> np.ndarray:
        """Times in units of the dtype, float64 (E,), never falling."""
        return _frozen(self._time)

    @property
    def code(self) -> np.ndarray:
        """Code labels (E,): int64, or objects with None where an event has no code."""
        return labels_of(self._code, self._codes)

    @property
    def value(self) -> np.ndarray:
        """Numeric values, float32 (E,), NaN where an event has no number."""
        return _frozen(self._value)

    @property
    def text(self) -> np.ndarray:
        """Text values, objects (E,), None where an event has no text."""
        if self._text is None or self._texts is None:
            return np.full(len(self), None, dtype=object)
        return labels_of(self._text, self._texts)

    @property
    def start(self) -> float:
        """Begin of the observation window in units of the dtype, NaN if unknown."""
        return self._start

    @property
    def end(self) -> float:
        """End of the observation window in units of the dtype, NaN if unknown."""
        return self._end

    def to_frame(self) -> pd.DataFrame:
        """Return the events as a long frame: time (datetimes restored), code, value, text.

        The column ``text`` is there only if any event of the history has a text.
        """
        columns = {
            "time": self._dtype.from_clock(self._time),
            "code": label_column(self._code, self._codes),
            "value": self._value.copy(),
        }
        if self._text is not None and self._texts is not None and (self._text >= 0).any():
            columns["text"] = label_column(self._text, self._texts)
        return pd.DataFrame(columns)

    def __len__(self) -> int:
        return len(self._time)

    def __eq__(self, other: object) -> Any:
        if not isinstance(other, EventHistory):
            return NotImplemented
        return self is other or (
            len(self) == len(other)
            and self._dtype == other._dtype
            and np.array_equal([self._start, self._end], [other._start, other._end], True)
            and np.array_equal(self._time, other._time)
            and np.array_equal(self._value, other._value, equal_nan=True)
            and _same_labels(self._code, self._codes, other._code, other._codes)
            and _same_labels(self._text, self._texts, other._text, other._texts)
        )

    def __hash__(self) -> int:
        if self._hash is None:
            # Adding 0.0 turns -0.0 into 0.0; hash(nan) differs between objects, bytes do not.
            value = np.where(np.isnan(self._value), np.float32(np.nan), self._value + 0.0)
            window = np.nan_to_num(np.array([self._start, self._end]) + 0.0, nan=-np.inf)
            self._hash = hash(
                (
                    self._dtype,
                    window.tobytes(),
                    (self._time + 0.0).tobytes(),
                    value.astype(np.float32).tobytes(),
                    tuple(self.code.tolist()),
                )
            )
        return self._hash

    def __lt__(self, other: object) -> NoReturn:
        raise TypeError(NO_ORDER)

    __le__ = __gt__ = __ge__ = __lt__

    def __reduce__(self) -> tuple[Any, ...]:
        from tawt_sklearn.events.array import EventsArray

        return _first, (EventsArray._from_sequence([self], dtype=self._dtype).compact(),)

    def _span(self) -> str:
        """First and last time for a short repr."""
        first, last = self._dtype.from_clock(self._time[[0, -1]])
        if self._dtype.timezone is None:
            span, unit = f"{first:g} to {last:g}", f" {self._dtype.time_unit}"
        else:
            # To the minute; dates beyond what datetimes can hold show as NaT.
            span, unit = f"{str(first)[:16]} to {str(last)[:16]}", ""
        return (f"at {span.split(' to ')[0]}" if len(self) == 1 else span) + unit

    def __str__(self) -> str:
        count = f"{len(self)} event{'' if len(self) == 1 else 's'}"
        return f"{count} ({self._span()})" if len(self) else count

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self}>"


def _same_labels(
    left: np.ndarray | None,
    left_labels: pd.Index | None,
    right: np.ndarray | None,
    right_labels: pd.Index | None,
) -> bool:
    if left is None or left_labels is None:
        return right is None or bool((right < 0).all())
    if right is None or right_labels is None:
        return bool((left < 0).all())
    if left_labels is right_labels:
        return np.array_equal(left, right)
    return labels_of(left, left_labels).tolist() == labels_of(right, right_labels).tolist()


def _frozen(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view


def _first(array: Any) -> EventHistory:
    """Unpickle a history: the only row of `array`."""
    return array[0]
