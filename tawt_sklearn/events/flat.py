"""The side of the events array that faces this library: flat arrays in and out, and pickling."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Self, TypeVar

import numpy as np
import pandas as pd

from tawt_sklearn.events.content import FIELDS, Content, column
from tawt_sklearn.events.dtype import EventsDtype
from tawt_sklearn.events.labels import as_dictionary

T = TypeVar("T", bound="FlatEvents")


class FlatEvents:
    """Base of :class:`~tawt_sklearn.EventsArray`, which is documented there."""

    _dtype: EventsDtype
    _content: Content

    @classmethod
    def _wrap(cls, dtype: EventsDtype, content: Content) -> Self:
        array = cls.__new__(cls)
        array._dtype, array._content = dtype, content
        return array

    @classmethod
    def from_flat(
        cls,
        *,
        time: Any,
        code: Any,
        value: Any,
        offsets: Any,
        codes: Any,
        text: Any = None,
        texts: Any = None,
        start: Any = None,
        end: Any = None,
        isna: Any = None,
        time_unit: str = "h",
        timezone: str | None = None,
        vocabulary: str | None = None,
        copy: bool = False,
    ) -> Self:
        """Make an array of flat arrays, without copying what has the right type already.

        Parameters
        ----------
        time, code, value, offsets, codes, text, texts, start, end
            As in the attributes of the class.
        isna : bool (B,), optional
            Which rows are missing; these must have no events.
        time_unit, timezone, vocabulary
            As in :class:`EventsDtype`.
        copy : bool, default False
            Whether to copy all arrays. Without, writing to them later changes the array.

        Raises
        ------
        DataError
            Shapes or ids that do not fit together, or times out of order.
        """
        dtype = EventsDtype(time_unit, timezone, vocabulary)
        content = Content(
            time=column(time, np.float64, copy),
            code=column(code, np.int32, copy),
            value=column(value, np.float32, copy),
            text=None if text is None else column(text, np.int32, copy),
            offsets=column(offsets, np.int64, copy),
            codes=as_dictionary(codes),
            texts=None if texts is None else as_dictionary(texts, what="texts"),
            start=None if start is None else column(start, np.float64, copy),
            end=None if end is None else column(end, np.float64, copy),
            isna=None if isna is None else column(isna, np.bool_, copy),
        )
        content.validate()
        if content.isna is not None and not content.isna.any():
            content = replace(content, isna=None)
        return cls._wrap(dtype, content)

    def _replace(self, **changes: Any) -> Self:
        """Return a new array with some arguments of :meth:`from_flat` changed, sharing the rest."""
        if not changes:
            return self._wrap(self._dtype, replace(self._content))
        same = {name: getattr(self._content, name) for name in FIELDS}
        clock = {name: getattr(self._dtype, name) for name in EventsDtype._metadata}
        return type(self).from_flat(**{**same, **clock, **changes})

    @property
    def dtype(self) -> EventsDtype:
        """Clock and vocabulary of the column."""
        return self._dtype

    @property
    def time(self) -> np.ndarray:
        """Times of all events, float64 (E,)."""
        return self._content.time

    @property
    def code(self) -> np.ndarray:
        """Code ids of all events, int32 (E,), -1 where missing."""
        return self._content.code

    @property
    def value(self) -> np.ndarray:
        """Numeric values of all events, float32 (E,), NaN where missing."""
        return self._content.value

    @property
    def text(self) -> np.ndarray | None:
        """Text ids of all events, int32 (E,), -1 where missing; None if no event has a text."""
        return self._content.text

    @property
    def offsets(self) -> np.ndarray:
        """Where the events of each row begin and end, int64 (B + 1,)."""
        return self._content.offsets

    @property
    def lengths(self) -> np.ndarray:
        """Number of events of each row, int64 (B,)."""
        return np.diff(self._content.offsets)

    @property
    def codes(self) -> pd.Index:
        """Code labels by id."""
        return self._content.codes

    @property
    def texts(self) -> pd.Index | None:
        """Text labels by id."""
        return self._content.texts

    @property
    def start(self) -> np.ndarray:
        """Begin of the observation window of each row, float64 (B,), NaN where unknown."""
        known = self._content.start
        return np.full(len(self._content), np.nan) if known is None else known

    @property
    def end(self) -> np.ndarray:
        """End of the observation window of each row, float64 (B,), NaN where unknown."""
        known = self._content.end
        return np.full(len(self._content), np.nan) if known is None else known

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays and dictionaries; shared ones count in full."""
        arrays = (getattr(self._content, name) for name in FIELDS)
        return int(sum(array.nbytes for array in arrays if array is not None))

    def compact(self) -> Self:
        """Return the array without unused dictionary entries.

        Taking rows keeps the dictionaries as they are, which is fast and leaves ids comparable.
        Tokenised content is returned unchanged: its ids belong to the vocabulary.

        Examples
        --------
        >>> import numpy as np
        >>> from tawt_sklearn.events import EventsArray
        >>> array = EventsArray.from_flat(time=[1.0], code=[1], value=[np.nan],
        ...                               offsets=[0, 1], codes=["hr", "temp"])
        >>> array.compact().codes.tolist()
        ['temp']
        """
        if self._dtype.vocabulary is not None:
            return self._wrap(self._dtype, replace(self._content))
        return self._wrap(self._dtype, self._content.compact())

    def __reduce__(self) -> tuple[Any, ...]:
        arrays = tuple(_plain(getattr(self._content, name)) for name in FIELDS)
        return _restore, (type(self), self._dtype, arrays)


def _restore(cls: type[T], dtype: EventsDtype, arrays: tuple[Any, ...]) -> T:
    """Unpickle an array."""
    values = dict(zip(FIELDS, arrays, strict=True))
    for name in ("codes", "texts"):
        if values[name] is not None:
            values[name] = pd.Index(values[name][1], dtype=values[name][0])
    return cls._wrap(dtype, Content(**values))


def _plain(part: Any) -> Any:
    """Part of a content as it is pickled.

    Memory maps as plain arrays and dictionaries as lists: then joblib.hash does not depend on
    where the data lie. joblib finds the map behind the plain array and sends that to workers.
    """
    if isinstance(part, pd.Index):
        labels = part.to_numpy() if part.dtype == np.int64 else part.tolist()
        return "object" if part.dtype == object else str(part.dtype), labels
    return None if part is None else np.asarray(part)
