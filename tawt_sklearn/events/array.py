"""The pandas array behind an events column: flat numpy columns and offsets."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, NoReturn, Self

import numpy as np
import pandas as pd
from pandas.api.extensions import ExtensionArray, no_default
from pandas.api.indexers import check_array_indexer

from tawt_sklearn.events import records
from tawt_sklearn.events._dask import register_if_loaded
from tawt_sklearn.events.content import concat, equal_rows, hash_rows
from tawt_sklearn.events.dtype import VOCABULARY_IN_DATA, EventsDtype, incompatible
from tawt_sklearn.events.flat import FlatEvents
from tawt_sklearn.events.history import NO_ORDER, EventHistory


class EventsArray(FlatEvents, ExtensionArray):
    """One event history per row, in flat arrays: B rows, E events in all.

    Parameters
    ----------
    histories : sequence of EventHistory or missing values
        One per row. Data in other forms come in through :func:`~tawt_sklearn.nest_events` and
        :func:`~tawt_sklearn.as_events`, flat arrays through :meth:`from_flat`.
    dtype : EventsDtype or its name, optional
        Taken from the histories if not given.
    copy : bool, default False
        Has no effect, the result is always new; there for pandas.

    Attributes
    ----------
    time : float64 (E,)
        Times in units of the dtype, never falling inside a row (ties keep the input's order).
    code : int32 (E,)
        Index into `codes`, -1 where an event has no code.
    value : float32 (E,)
        NaN where an event has no number.
    text : int32 (E,) or None
        Index into `texts`, -1 where an event has no text; None if none has one.
    offsets : int64 (B + 1,)
        The events of row i are ``offsets[i]:offsets[i + 1]``.
    codes, texts : Index
        The dictionaries. Rows taken from an array share its dictionaries, used or not; see
        :meth:`compact`.
    start, end : float64 (B,)
        Observation window of each row on the clock of `time`, NaN where unknown.

    Notes
    -----
    The flat arrays are shared between arrays and never written to: ``copy`` and contiguous
    slices cost nothing, assignment builds new arrays, read-only memory maps are fine. As with a
    copy-on-write frame, a slice of some of the rows does not see later assignments to the whole.

    A missing row (``pd.NA``) is not an empty history: nothing is known about it.

    Examples
    --------
    >>> import numpy as np
    >>> array = EventsArray.from_flat(
    ...     time=[0.5, 2.0, 1.0], code=[0, 1, 0], value=[80, 37.5, np.nan],
    ...     offsets=[0, 2, 3], codes=["hr", "temp"])
    >>> array
    <EventsArray>
    [2 events (0.5 to 2 h), 1 event (at 1 h)]
    Length: 2, dtype: events[h]
    >>> array[0].code.tolist()
    ['hr', 'temp']
    """

    # Before object arrays and lists in binary operations, after Index, Series and DataFrame.
    __array_priority__ = 1000
    _readonly = False

    def __init__(
        self,
        histories: Iterable[Any],
        dtype: EventsDtype | str | None = None,
        copy: bool = False,
    ) -> None:
        made = type(self)._from_sequence(histories, dtype=dtype, copy=copy)
        self._dtype, self._content = made._dtype, made._content

    # -- rows -------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._content.offsets) - 1

    def isna(self) -> np.ndarray:
        """Which rows are missing, bool (B,)."""
        mask = self._content.isna
        return np.zeros(len(self), dtype=bool) if mask is None else mask.copy()

    def __getitem__(self, item: Any) -> Any:
        if isinstance(item, tuple):
            item = _unpack(item)
        if item is Ellipsis:
            item = slice(None)
        item = check_array_indexer(self, item)
        if isinstance(item, slice):
            return self._slice(item)
        if isinstance(item, np.ndarray):
            return self.take(np.flatnonzero(item) if item.dtype == bool else item)
        try:
            row = operator.index(item)
        except TypeError:
            raise IndexError(
                "only integers, slices (`:`), ellipsis (`...`), numpy.newaxis (`None`) and "
                f"integer or boolean arrays are valid indices. Got {item!r}."
            ) from None
        if not -len(self) <= row < len(self):
            raise IndexError(f"index {row} is out of bounds for axis 0 with size {len(self)}")
        return self._history(row % len(self))

    def _history(self, row: int) -> Any:
        content = self._content
        if content.isna is not None and content.isna[row]:
            return self._dtype.na_value
        events = slice(content.offsets[row], content.offsets[row + 1])
        return EventHistory(
            self._dtype,
            content.time[events],
            content.code[events],
            content.value[events],
            content.codes,
            None if content.text is None else content.text[events],
            content.texts,
            np.nan if content.start is None else content.start[row],
            np.nan if content.end is None else content.end[row],
        )

    def _slice(self, rows: slice) -> Self:
        start, stop, step = rows.indices(len(self))
        if start >= stop:
            register_if_loaded()  # no rows at all are what Dask takes for the form of a column
        if step != 1:
            result = self.take(np.arange(start, stop, step))
        elif start == 0 and stop == len(self):
            result = self.view()
        else:
            result = self._wrap(self._dtype, self._content.slice(start, max(start, stop)))
        result._readonly = self._readonly
        return result

    def take(self, indices: Any, *, allow_fill: bool = False, fill_value: Any = None) -> Self:
        """Take rows by position.

        Parameters
        ----------
        indices : integers (N,)
            Positions; -1 gives a missing row if `allow_fill`, else the last one.
        allow_fill : bool, default False
            As in :func:`pandas.api.extensions.take`.
        fill_value : EventHistory or missing value, optional
            What -1 gives if `allow_fill`.

        Returns
        -------
        EventsArray
            N rows that share the dictionaries.
        """
        indices = np.asarray(indices, dtype=np.int64)
        size = len(self)
        if allow_fill and (indices < -1).any():
            raise ValueError("Expected indices of -1 or more with allow_fill=True. Got less.")
        if len(indices) and not (allow_fill and indices.max() < 0):
            if size == 0:
                raise IndexError("cannot do a non-empty take from an empty axes.")
            if indices.max() >= size or indices.min() < -size:
                raise IndexError(f"out of bounds value in 'indices': expected less than {size}.")
        if not allow_fill:
            indices = np.where(indices < 0, indices + size, indices)
        elif not records.is_missing(fill_value) and (indices < 0).any():
            both = self._concat_same_type([self, self._as_rows([fill_value])])
            return both.take(np.where(indices < 0, size, indices))
        return self._wrap(self._dtype, self._content.take(indices))

    def copy(self) -> Self:
        """Return an independent array; the flat arrays, never written to, stay shared."""
        return self._wrap(self._dtype, replace(self._content))

    def view(self, dtype: Any = None) -> Any:
        """Return an array of the same content, which sees assignments to this one."""
        if dtype is not None and dtype != self._dtype:
            raise NotImplementedError(f"An {self._dtype} column cannot be viewed as {dtype}.")
        return self._wrap(self._dtype, self._content)

    def __setitem__(self, key: Any, value: Any) -> None:
        if self._readonly:
            raise ValueError("Cannot modify read-only array")
        key = check_array_indexer(self, _unpack(key) if isinstance(key, tuple) else key)
        size = len(self)
        rows = np.atleast_1d(np.arange(size)[key])
        if isinstance(value, EventHistory) or records.is_missing(value):
            new = self._as_rows([value])
            source = np.full(len(rows), size)
        else:
            new = self._as_rows(value)
            if len(new) != len(rows) or not isinstance(key, slice | np.ndarray):
                raise ValueError(
                    f"Expected {len(rows)} histories for {len(rows)} rows. Got {len(new)}."
                )
            source = size + np.arange(len(rows))
        order = np.arange(size)
        order[rows] = source
        self._content.assign(self._concat_same_type([self, new]).take(order)._content)

    def _as_rows(self, value: Any) -> Self:
        """Rows of this dtype from histories, or an error that says what does not fit."""
        return self._from_sequence(value, dtype=self._dtype)

    @classmethod
    def _from_sequence(cls, scalars: Any, *, dtype: Any = None, copy: bool = False) -> Self:
        """Array of histories, missing values, or rows as :mod:`.records` reads them."""
        if dtype is not None:
            dtype = pd.api.types.pandas_dtype(dtype)
            if not isinstance(dtype, EventsDtype):
                raise TypeError(f"Expected an events dtype. Got {dtype}.")
        scalars = getattr(scalars, "array", scalars)
        if isinstance(scalars, cls):
            same = scalars._with_dtype(dtype or scalars._dtype)
            return same.copy() if copy else same
        return cls._wrap(*records.gather(scalars, dtype))

    def _with_dtype(self, dtype: EventsDtype) -> Self:
        """Same content under `dtype`, which must be the same unless there is no content."""
        if dtype == self._dtype:
            return self
        if dtype.vocabulary == VOCABULARY_IN_DATA and self._dtype == EventsDtype(
            dtype.time_unit, dtype.timezone, self._dtype.vocabulary
        ):
            return self
        known = self._content.start is not None or self._content.end is not None
        if len(self._content.time) or known:
            raise incompatible(dtype, self._dtype)
        return self._wrap(dtype, self._content)

    @classmethod
    def _from_factorized(cls, values: Any, original: Self) -> Self:
        return cls._from_sequence(values, dtype=original._dtype)

    @classmethod
    def _concat_same_type(cls, to_concat: Sequence[Self]) -> Self:
        arrays = list(to_concat)
        for array in arrays[1:]:
            if array._dtype != arrays[0]._dtype:
                raise incompatible(arrays[0]._dtype, array._dtype)
        if len(arrays) == 1:
            return arrays[0].copy()
        return cls._wrap(arrays[0]._dtype, concat([array._content for array in arrays]))

    # -- comparing --------------------------------------------------------------------------

    def __eq__(self, other: object) -> Any:
        if isinstance(other, pd.Series | pd.Index | pd.DataFrame):
            return NotImplemented
        if isinstance(other, EventHistory):
            equal = np.zeros(len(self), dtype=bool)
            # Repeating a history for every row could fill the memory: the length rules most out.
            rows = np.flatnonzero(self.lengths == len(other))
            repeated = self._from_sequence([other]).take(np.zeros(len(rows), dtype=np.int64))
            equal[rows] = self.take(rows) == repeated
            return equal
        if records.is_missing(other):
            return np.zeros(len(self), dtype=bool)
        if pd.api.types.is_list_like(other):
            if len(other) != len(self):  # type: ignore[arg-type]
                raise ValueError(
                    f"Lengths must match to compare. Got {len(self)} and {len(other)} rows."  # type: ignore[arg-type]
                )
            if not isinstance(other, EventsArray):
                pairs = zip(self, other, strict=True)  # type: ignore[call-overload]
                return np.array(
                    [a is not pd.NA and b is not pd.NA and a == b for a, b in pairs], dtype=bool
                )
        if not isinstance(other, EventsArray) or other._dtype != self._dtype:
            return np.zeros(len(self), dtype=bool)
        return equal_rows(self._content, other._content)

    def __ne__(self, other: object) -> Any:
        equal = self.__eq__(other)
        return equal if equal is NotImplemented else ~equal

    def factorize(self, use_na_sentinel: bool = True) -> tuple[np.ndarray, Self]:
        """Number the different rows; see :meth:`pandas.api.extensions.ExtensionArray.factorize`."""
        missing = self.isna()
        present = np.flatnonzero(~missing)
        rows = self._content.take(present)
        ids, uniques = pd.factorize(hash_rows(rows))
        first = np.zeros(len(uniques), dtype=np.int64)
        first[ids[::-1]] = np.arange(len(ids))[::-1]
        if not equal_rows(rows, rows.take(first[ids])).all():
            # Two histories with one hash.
            return super().factorize(use_na_sentinel)
        codes = np.full(len(self), -1, dtype=np.intp)
        codes[present] = ids
        first = present[first]
        if missing.any() and not use_na_sentinel:
            # Missing rows come where the first of them appears.
            gap = int(np.searchsorted(first, missing.argmax()))
            codes += codes >= gap
            codes[missing] = gap
            first = np.insert(first, gap, missing.argmax())
        return codes, self.take(first)

    def unique(self) -> Self:
        """Return the different rows in order of appearance."""
        return self.factorize(use_na_sentinel=False)[1]

    def duplicated(self, keep: Any = "first") -> np.ndarray:
        """Which rows are repeated; see :meth:`pandas.Series.duplicated`."""
        return pd.Index(self.factorize(use_na_sentinel=False)[0]).duplicated(keep=keep)

    def _values_for_factorize(self) -> tuple[np.ndarray, Any]:
        return np.asarray(self), self._dtype.na_value

    def _hash_pandas_object(self, *, encoding: str, hash_key: str, categorize: bool) -> np.ndarray:
        return hash_rows(self._content)

    def _values_for_argsort(self) -> NoReturn:
        # argsort, rank, searchsorted, argmin and the like all ask here.
        raise TypeError(NO_ORDER)

    # -- conversion -------------------------------------------------------------------------

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("An array of EventHistory objects cannot be made without a copy.")
        if dtype is not None and np.dtype(dtype) != object:
            raise TypeError(
                f"Expected dtype object. Got {np.dtype(dtype)}: event histories are not numbers. "
                "Turn them into numbers first, for example with EventSummarizer or an encoder; "
                "X['events'].events.flat('value') gives the values."
            )
        result = np.empty(len(self), dtype=object)
        result[:] = [self._history(row) for row in range(len(self))]
        return result

    def to_numpy(
        self, dtype: Any = None, copy: bool = False, na_value: Any = no_default
    ) -> np.ndarray:
        """Return an object array of histories; `na_value` in place of missing ones."""
        result = np.asarray(self, dtype=dtype)
        if na_value is not no_default:
            result[self.isna()] = na_value
        return result

    def __arrow_array__(self, type: Any = None) -> Any:
        from tawt_sklearn.events.arrow import to_arrow
        from tawt_sklearn.events.arrow_schema import in_schema

        return in_schema(self, to_arrow(self), type)

    def _values_for_json(self) -> np.ndarray:
        return records.to_records(self)

    def _formatter(self, boxed: bool = False) -> Callable[[Any], str]:
        return str


def _unpack(key: tuple[Any, ...]) -> Any:
    """The only index of a tuple that may hold an ellipsis too."""
    if len(key) > 1 and key[0] is Ellipsis:
        key = key[1:]
    elif len(key) > 1 and key[-1] is Ellipsis:
        key = key[:-1]
    if len(key) != 1:
        raise IndexError(f"too many indices for array. Expected one, got {len(key)}.")
    return key[0]
