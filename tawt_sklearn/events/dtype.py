"""The pandas dtype of a column of event histories, and the clock its times are told in."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pandas.api.extensions import ExtensionDtype, register_extension_dtype

from tawt_sklearn.events.history import EventHistory
from tawt_sklearn.exceptions import DataError

if TYPE_CHECKING:
    from tawt_sklearn.events.array import EventsArray

# Time units and their length in microseconds; a "step" has no length.
MICROSECONDS = {"s": 1_000_000, "min": 60_000_000, "h": 3_600_000_000, "D": 86_400_000_000}
TIME_UNITS = (*MICROSECONDS, "step")

# Vocabulary of a dtype read from its name alone: tokenised, the vocabulary comes with the data.
VOCABULARY_IN_DATA = ""

_NAME = re.compile(r"events(?:\[(?P<unit>\w+)(?:, (?P<clock>[^,\]]+))?(?P<tokens>, tokens)?\])?")


@register_extension_dtype
class EventsDtype(ExtensionDtype):
    """Dtype of a column that holds one event history per row.

    Parameters
    ----------
    time_unit : {"s", "min", "h", "D", "step"}, default "h"
        Unit of all times in the column.
    timezone : str or None, default None
        ``None``: times are plain numbers. ``"naive"``: they stand for datetimes without a time
        zone. Anything else is an IANA name such as ``"UTC"``: they stand for datetimes in that
        zone. Datetimes are stored as the number of time units since the Unix epoch (in UTC where
        there is a zone) and are exact to the microsecond.
    vocabulary : str or None, default None
        ``None`` for raw content. For tokenised content the vocabulary as a JSON string, which
        travels with the column and is never looked into here.

    Attributes
    ----------
    name : str
        ``"events[h]"``, ``"events[h, UTC]"``, ``"events[h, naive]"``, with ``", tokens"`` before
        the bracket closes for tokenised content. Pandas understands these names as dtypes;
        ``"events"`` alone means ``"events[h]"``.

    Examples
    --------
    >>> EventsDtype("min", "UTC")
    EventsDtype('min', timezone='UTC')
    >>> EventsDtype("h").name
    'events[h]'
    >>> import pandas as pd
    >>> pd.Series([pd.NA], dtype="events[D, naive]").dtype.timezone
    'naive'
    """

    _metadata = ("time_unit", "timezone", "vocabulary")
    type = EventHistory
    kind = "O"
    na_value = pd.NA

    def __init__(
        self,
        time_unit: str = "h",
        timezone: str | None = None,
        vocabulary: str | None = None,
    ) -> None:
        if time_unit not in TIME_UNITS:
            raise DataError(
                f"Expected time_unit to be one of {', '.join(map(repr, TIME_UNITS))}. "
                f"Got {time_unit!r}."
            )
        if timezone is not None:
            if time_unit == "step":
                raise DataError(
                    "Expected a time unit of known length for datetimes. Got time_unit='step': "
                    "use 's', 'min', 'h' or 'D', or give the times as numbers."
                )
            if not is_clock(timezone):
                raise DataError(
                    "Expected timezone to be None, 'naive' or the name of a time zone such as "
                    f"'UTC' or 'Europe/Vienna'. Got {timezone!r}."
                )
        if vocabulary is not None and not isinstance(vocabulary, str):
            raise DataError(
                f"Expected vocabulary to be None or a JSON string. Got {type(vocabulary).__name__}."
            )
        self._time_unit = time_unit
        self._timezone = timezone
        self._vocabulary = vocabulary

    @property
    def time_unit(self) -> str:
        """Unit of all times."""
        return self._time_unit

    @property
    def timezone(self) -> str | None:
        """None for plain numbers, ``"naive"``, or the name of a time zone."""
        return self._timezone

    @property
    def vocabulary(self) -> str | None:
        """None for raw content, else the vocabulary as JSON."""
        return self._vocabulary

    @property
    def name(self) -> str:  # type: ignore[override]
        """Name of the dtype, which pandas understands."""
        parts = [self._time_unit]
        if self._timezone is not None:
            parts.append(self._timezone)
        if self._vocabulary is not None:
            parts.append("tokens")
        return f"events[{', '.join(parts)}]"

    def __repr__(self) -> str:
        zone = "" if self._timezone is None else f", timezone={self._timezone!r}"
        tokens = "" if self._vocabulary is None else ", vocabulary=..."
        return f"EventsDtype({self._time_unit!r}{zone}{tokens})"

    def __reduce__(self) -> tuple[Any, ...]:
        # Attributes only: pandas caches on dtypes, and a cache must not change joblib.hash.
        return type(self), (self._time_unit, self._timezone, self._vocabulary)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str):
            return other == self.name or (other == "events" and self.name == "events[h]")
        return super().__eq__(other)

    def __hash__(self) -> int:
        return hash((self._time_unit, self._timezone, self._vocabulary))

    @classmethod
    def construct_from_string(cls, string: str) -> EventsDtype:
        """Make the dtype from its name.

        A name that ends in ``tokens`` gives a dtype whose vocabulary is filled in by the data.

        Examples
        --------
        >>> EventsDtype.construct_from_string("events[D, Europe/Vienna]")
        EventsDtype('D', timezone='Europe/Vienna')
        """
        if not isinstance(string, str):
            raise TypeError(f"'construct_from_string' expects a string, got {type(string)}")
        match = _NAME.fullmatch(string)
        if match is None:
            raise TypeError(f"Cannot construct a '{cls.__name__}' from '{string}'")
        unit, clock, tokens = match["unit"] or "h", match["clock"], match["tokens"]
        if clock == "tokens" and not tokens:
            clock, tokens = None, "tokens"
        try:
            return cls(unit, clock, VOCABULARY_IN_DATA if tokens else None)
        except DataError as error:
            raise TypeError(f"Cannot construct a '{cls.__name__}' from '{string}'") from error

    def construct_array_type(self) -> type[EventsArray]:  # type: ignore[valid-type]
        """Return the class of the arrays."""
        from tawt_sklearn.events.array import EventsArray

        return EventsArray

    def __from_arrow__(self, array: Any) -> EventsArray:
        """Read Arrow data, with the clock of this dtype; see :mod:`tawt_sklearn.events.arrow`."""
        from tawt_sklearn.events.arrow import from_arrow

        return from_arrow(array, self)

    def _get_common_dtype(self, dtypes: list[Any]) -> EventsDtype | None:
        others = {dtype for dtype in dtypes if isinstance(dtype, EventsDtype)}
        if len(others) > 1:
            # Falling to object dtype here would only move the failure to a place that is hard
            # to understand.
            raise incompatible(*sorted(others, key=lambda dtype: (dtype != self, dtype.name))[:2])
        return self if len(set(dtypes)) == 1 else None

    def to_clock(self, values: Any, *, what: str = "times") -> np.ndarray:
        """Turn numbers or datetimes into numbers on the clock of this dtype.

        Parameters
        ----------
        values : scalar or flat array-like
            Numbers or time differences for a numeric clock, datetimes (or strings that pandas
            reads as such) for the others. Aware datetimes are converted to the zone of the dtype.
        what : str, default "times"
            How error messages call the values.

        Returns
        -------
        ndarray of float64
            Same shape as `values`, NaN where these are missing.

        Raises
        ------
        DataError
            Numbers for a datetime clock or the reverse, naive datetimes for an aware clock or
            the reverse.

        Examples
        --------
        >>> EventsDtype("h", "UTC").to_clock(["1970-01-02T00:30+00:00"])
        array([24.5])
        """
        if getattr(values, "ndim", 1) > 1:
            raise DataError(
                f"Expected one value or a flat list of values as {what}. Got {values.ndim} axes, "
                f"shape {values.shape}. Give one column."
            )
        if isinstance(values, np.ndarray) and values.ndim == 0:
            values = values[()]
        array = pd.Series([values] if _is_scalar(values) else values).reset_index(drop=True)
        if self._timezone is None:
            result = self._numbers(array, what)
        else:
            result = self._datetimes(array, what)
        return result[0] if _is_scalar(values) else result

    def from_clock(self, time: Any) -> np.ndarray | pd.DatetimeIndex:
        """Turn numbers on the clock of this dtype into what they stand for.

        Parameters
        ----------
        time : array-like of float64
            Times in units of the dtype.

        Returns
        -------
        ndarray of float64 or DatetimeIndex
            The numbers as they are for a numeric clock, else datetimes to the microsecond.

        Examples
        --------
        >>> EventsDtype("h", "naive").from_clock([24.5])
        DatetimeIndex(['1970-01-02 00:30:00'], dtype='datetime64[us]', freq=None)
        """
        time = np.asarray(time, dtype=np.float64)
        if self._timezone is None:
            return time
        # Whole units and the rest apart: their product with the unit stays exact that way.
        unit = MICROSECONDS[self._time_unit]
        known = np.abs(time) < np.iinfo(np.int64).max / unit
        whole = np.floor(np.where(known, time, 0.0))
        rest = np.rint((np.where(known, time, 0.0) - whole) * unit)
        stamp = whole.astype(np.int64) * unit + rest.astype(np.int64)
        stamp = stamp.astype("datetime64[us]")
        stamp[~known] = np.datetime64("NaT")
        index = pd.DatetimeIndex(stamp)
        if self._timezone == "naive":
            return index
        return index.tz_localize("UTC").tz_convert(self._timezone)

    def _numbers(self, array: pd.Series, what: str) -> np.ndarray:
        kind = pd.api.types.infer_dtype(array, skipna=True)
        if kind in ("timedelta", "timedelta64"):
            return timedeltas_to_numbers(array, self._time_unit)
        if kind in ("floating", "integer", "mixed-integer-float", "decimal", "empty"):
            return array.to_numpy(dtype=np.float64, na_value=np.nan)
        raise DataError(
            f"Expected numbers as {what}, in units of {self._time_unit!r}: the events are timed in "
            f"numbers ({self.name}). Got {array.dtype} values such as {_example(array)}."
        )

    def _datetimes(self, array: pd.Series, what: str) -> np.ndarray:
        kind = pd.api.types.infer_dtype(array, skipna=True)
        if not (
            kind in ("datetime64", "datetime", "date", "string", "empty") or array.isna().all()
        ):
            raise DataError(
                f"Expected datetimes as {what}: the events are timed in datetimes ({self.name}). "
                f"Got {array.dtype} values such as {_example(array)}."
            )
        if pd.api.types.is_datetime64_any_dtype(array.dtype):
            stamps = pd.DatetimeIndex(array)
        else:
            try:
                stamps = pd.DatetimeIndex(pd.to_datetime(array.astype(object)))
            except (TypeError, ValueError) as error:
                raise DataError(
                    f"Expected datetimes as {what}. Got values such as {_example(array)} which "
                    f"pandas.to_datetime does not read: {error}"
                ) from error
        aware = self._timezone != "naive"
        if (stamps.tz is not None) != aware and not stamps.isna().all():
            got = "naive datetimes" if aware else f"datetimes in {stamps.tz}"
            remedy = ".tz_localize(zone)" if aware else ".tz_localize(None)"
            raise DataError(
                f"Expected {'time zone aware' if aware else 'naive'} datetimes as {what}, like "
                f"those of the events ({self.name}). Got {got}. Convert them with {remedy}."
            )
        if stamps.tz is not None:
            stamps = stamps.tz_convert("UTC").tz_localize(None)
        return datetimes_to_numbers(stamps, self._time_unit)


def is_clock(timezone: str) -> bool:
    """Whether this is ``"naive"`` or the name of a time zone that pandas knows."""
    if timezone == "naive":
        return True
    try:
        pd.Timestamp(0, tz=timezone)
    except Exception:  # zoneinfo raises whatever the name makes it stumble over
        return False
    return True


def datetimes_to_numbers(stamps: pd.DatetimeIndex, time_unit: str) -> np.ndarray:
    """Number of time units since the Unix epoch of naive (UTC) datetimes, NaN for NaT."""
    micro = stamps.to_numpy().astype("datetime64[us]")
    missing = np.isnat(micro)
    # Whole units first: dividing the microseconds since 1970 at once would round twice.
    whole, rest = np.divmod(np.where(missing, 0, micro.view(np.int64)), MICROSECONDS[time_unit])
    result = whole + rest / MICROSECONDS[time_unit]
    result[missing] = np.nan
    return result


def timedeltas_to_numbers(deltas: Any, time_unit: str) -> np.ndarray:
    """Time differences in a unit, NaN for NaT; the reverse of ``pd.to_timedelta``."""
    if time_unit == "step":
        raise DataError(
            "Expected a time unit of known length for time differences. Got time_unit='step': "
            "use 's', 'min', 'h' or 'D', or give the times as numbers."
        )
    # The same clock as that of datetimes: an epoch plus the difference.
    epoch = np.array(0, dtype="datetime64[us]")
    stamps = epoch + pd.TimedeltaIndex(deltas).to_numpy().astype("timedelta64[us]")
    return datetimes_to_numbers(pd.DatetimeIndex(stamps), time_unit)


def incompatible(left: EventsDtype, right: EventsDtype) -> DataError:
    """Error for two event columns that cannot be joined."""
    if (left.time_unit, left.timezone) != (right.time_unit, right.timezone):
        reason, remedy = "different clocks", "Nest both with the same time unit and time zone"
    elif (left.vocabulary is None) != (right.vocabulary is None):
        reason, remedy = "raw and tokenised histories", "Transform both with the same sequencer"
    else:
        reason, remedy = "different vocabularies", "Transform both with the same fitted sequencer"
    return DataError(
        f"Expected event histories of one dtype. Got {left.name} and {right.name}: {reason} "
        f"cannot be joined. {remedy} first."
    )


def _is_scalar(values: Any) -> bool:
    return not pd.api.types.is_list_like(values)


def _example(array: pd.Series) -> str:
    return repr(array.dropna().head(1).tolist()[0])
