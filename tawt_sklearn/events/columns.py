"""One column of a long table in, flat arrays out: subjects, times, codes, values.

Every function takes a Series of one of pandas' own dtypes (see
:func:`~tawt_sklearn.events.tables.plain_series`), reads it as a whole, and raises
:class:`~tawt_sklearn.exceptions.DataError` with the rows that are wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tawt_sklearn.events.dtype import (
    EventsDtype,
    datetimes_to_numbers,
    is_clock,
    timedeltas_to_numbers,
)
from tawt_sklearn.events.labels import drop_unused, keep_labels, map_ids
from tawt_sklearn.events.tables import Table, labels_where, plural
from tawt_sklearn.exceptions import DataError

Ids = NDArray[np.int32]

# What pandas.api.types.infer_dtype calls objects that are all numbers, or all missing.
_NUMBERS = frozenset(
    {"integer", "floating", "mixed-integer-float", "decimal", "boolean", "empty", "integer-na"}
)
_NUMBER = (float, int, Real, Decimal, np.bool_)  # the usual ones first, they are quick to tell
_DATETIMES = frozenset({"datetime", "datetime64", "date"})
_TIMEDELTAS = frozenset({"timedelta", "timedelta64"})


def read_content(
    table: Table, names: Mapping[str, Hashable], pick: Callable[[NDArray[Any]], NDArray[Any]]
) -> dict[str, Any]:
    """Codes, values and texts of a table, as arguments of ``EventsArray.from_flat``.

    Parameters
    ----------
    table : Table
    names : dict
        Columns that play the parts ``code``, ``value`` and ``text``, None for none.
    pick : callable
        Puts flat arrays in order. It is applied to one column after the other, so that no more
        than one is held twice.
    """
    code, codes = read_codes(table[names["code"]])
    code = pick(code)
    text = texts = None
    if names["value"] is None:
        value = np.full(len(code), np.nan, dtype=np.float32)
    else:
        value, text, texts = read_values(table[names["value"]])
        value = pick(value)
    if names["text"] is not None:
        if texts is not None:
            raise DataError(
                f"Expected numbers in {names['value']!r}, since the texts are in "
                f"{names['text']!r}. Got text such as {texts[0]!r} in both. Rename or drop one."
            )
        text, texts = read_texts(table[names["text"]])
    if text is not None:
        text = pick(text)
    return {"code": code, "codes": codes, "value": value, "text": text, "texts": texts}


def read_subjects(column: pd.Series) -> tuple[Ids, pd.Index]:
    """Number the subjects of events in sorted order: ids int32 (E,), and the subjects.

    The subjects keep their dtype; those of a categorical column come in the order of the
    categories, without unused ones.
    """
    ids, subjects = _factorize(column, sort=True)
    if (missing := ids < 0).any():
        raise DataError(
            f"Expected every event to have a subject ({column.name!r}). Got "
            f"{plural(int(missing.sum()), 'event')} without ({labels_where(column, missing)}). "
            f"Drop them: events.dropna(subset=[{column.name!r}])."
        )
    return ids, subjects


def read_times(column: pd.Series, time_unit: str) -> tuple[NDArray[np.float64], str | None]:
    """Times as numbers, NaN where missing, and the time zone of :class:`EventsDtype`.

    Numbers are taken to be in `time_unit` already. Time differences are counted in it, and so
    are datetimes, from the Unix epoch on.
    """
    EventsDtype(time_unit)  # refuses other units
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.dtype.categories.dtype)
    if pd.api.types.is_object_dtype(column.dtype):
        column = _times_from_objects(column)
    dtype = column.dtype
    if pd.api.types.is_datetime64_any_dtype(dtype):
        stamps = pd.DatetimeIndex(column)
        zone = "naive" if stamps.tz is None else str(stamps.tz)
        if not is_clock(zone):
            raise DataError(
                f"Expected the time zone of {column.name!r} to have a name such as 'UTC'. Got "
                f"{stamps.tz!r}. Convert the times with "
                f"events[{column.name!r}].dt.tz_convert('UTC')."
            )
        EventsDtype(time_unit, zone)  # refuses steps
        if stamps.tz is not None:
            stamps = stamps.tz_convert("UTC").tz_localize(None)
        return datetimes_to_numbers(stamps, time_unit), zone
    if pd.api.types.is_timedelta64_dtype(dtype):
        return timedeltas_to_numbers(column, time_unit), None
    if not _is_real(dtype):
        raise _bad_times(column, str(dtype))
    time = column.to_numpy(dtype=np.float64, na_value=np.nan)
    if (infinite := np.isinf(time)).any():
        raise DataError(
            f"Expected finite times in {column.name!r}. Got "
            f"{plural(int(infinite.sum()), 'infinite one')} ({labels_where(column, infinite)}). "
            "Correct or drop these events."
        )
    return time, None


def _times_from_objects(column: pd.Series) -> pd.Series:
    kind = pd.api.types.infer_dtype(column.dropna())  # NaT and None among numbers are missing, too
    if kind in _NUMBERS - {"boolean"}:
        numbers = column.to_numpy(np.float64, na_value=np.nan)
        return pd.Series(numbers, index=column.index, name=column.name)
    if kind in _TIMEDELTAS:
        return pd.to_timedelta(column)
    if kind not in _DATETIMES:
        raise _bad_times(column, kind)
    try:
        return pd.to_datetime(column)
    except (ValueError, TypeError) as error:
        zones = {str(getattr(time, "tzinfo", None) or "none") for time in column.dropna()}
        if len(zones) < 2:
            raise DataError(
                f"Expected {column.name!r} to hold times. Got datetimes that "
                f"pandas.to_datetime does not read: {error}"
            ) from error
        raise DataError(
            f"Expected the times in {column.name!r} to have one time zone. Got mixed time zones: "
            f"{', '.join(sorted(zones)[:5])}. Convert them first, for example with "
            f"pd.to_datetime(events[{column.name!r}], utc=True)."
        ) from error


def _bad_times(column: pd.Series, kind: str) -> DataError:
    example = column.dropna().head(1).tolist()
    shown = f" such as {example[0]!r}" if example else ""
    if kind == "string" or pd.api.types.is_string_dtype(column.dtype):
        remedy = f"Convert them first with pd.to_datetime(events[{column.name!r}])"
    elif isinstance(column.dtype, pd.PeriodDtype):
        remedy = f"Convert them first with events[{column.name!r}].dt.to_timestamp()"
    else:
        remedy = "Convert them first"
    return DataError(
        f"Expected numbers, datetimes or time differences as times in {column.name!r}. "
        f"Got {kind} values{shown}. {remedy}."
    )


def read_codes(column: pd.Series) -> tuple[Ids, pd.Index]:
    """Number the codes of events in sorted order: ids int32 (E,), -1 = missing, and the codes.

    Codes are strings, or whole numbers, which stay int64. Blank strings are missing.
    """
    ids, codes = _factorize(column, sort=False)
    kind = pd.api.types.infer_dtype(codes, skipna=True)
    if kind == "string":
        codes = codes.astype("str")
        ids, codes = keep_labels(ids, codes, codes.str.strip() != "")
    elif kind == "integer" or (kind == "floating" and _all_whole(codes)):
        if len(codes) and codes.max() > np.iinfo(np.int64).max:
            raise DataError(
                f"Expected whole numbers in {column.name!r} to fit into 64 bits with a sign. Got "
                f"{codes.max()}. Convert them first with events[{column.name!r}].astype(str)."
            )
        codes = codes.astype(np.int64)  # floats are integers whose missing ones made them floats
    elif kind == "empty":
        codes = pd.Index([], dtype="str")
    else:
        example = ", ".join(repr(label) for label in codes[:3])
        raise DataError(
            f"Expected the codes in {column.name!r} to be strings or whole numbers. Got "
            f"{'mixed' if kind.startswith('mixed') else kind} values such as {example}. Convert "
            f"them first with events[{column.name!r}].astype(str)."
        )
    return _sorted_labels(ids, codes)


def read_values(column: pd.Series) -> tuple[NDArray[np.float32], Ids | None, pd.Index | None]:
    """Numbers and texts of a value column.

    Parameters
    ----------
    column : Series
        Numbers and booleans (1 and 0) are numbers. In a column of text every string that reads
        as a number is one, too. Everything else is text. A column of objects that mixes numbers
        and strings is taken as it is: numbers are numbers, strings text. Empty strings, and
        ``"nan"`` in a column of text, are missing.

    Returns
    -------
    value : float32 (E,)
        NaN where an event has no number.
    text : int32 (E,) or None
        Index into `texts`, -1 where an event has no text; None if none has one.
    texts : Index or None
    """
    value, text, texts = _split_values(column)
    if (infinite := np.isinf(value)).any():
        raise DataError(
            f"Expected finite values in {column.name!r}. Got {plural(int(infinite.sum()), 'value')}"
            f" that {'is' if infinite.sum() == 1 else 'are'} infinite or beyond 3.4e38, the "
            f"largest float32 ({labels_where(column, infinite)}). Correct them or set them to NaN."
        )
    return value, text, texts


def read_texts(column: pd.Series) -> tuple[Ids | None, pd.Index | None]:
    """Number the texts of a text column; like `text` and `texts` of :func:`read_values`."""
    ids, labels = _factorize(column, sort=False)
    kind = pd.api.types.infer_dtype(labels, skipna=True)
    if kind not in ("string", "empty"):
        raise DataError(
            f"Expected strings in the text column {column.name!r}. Got {kind} values. Give numbers "
            'with value="...", or convert them with .astype(str).'
        )
    return _texts(ids, labels.astype("str"), labels.astype("str").str.strip() != "")


def _split_values(column: pd.Series) -> tuple[NDArray[np.float32], Ids | None, pd.Index | None]:
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        ids, labels = _factorize(column, sort=False)
        value, text, texts = _split_values(pd.Series(labels, name=column.name))
        value = np.append(value, np.float32(np.nan))[ids]
        return value, None if text is None else map_ids(ids, text), texts
    if pd.api.types.is_object_dtype(dtype):
        return _values_from_objects(column)
    if pd.api.types.is_string_dtype(dtype):
        return _read_strings(column)
    if not _is_real(dtype) and not pd.api.types.is_bool_dtype(dtype):
        raise _bad_values(column, str(dtype))
    return _to_float32(column), None, None


def _values_from_objects(
    column: pd.Series,
) -> tuple[NDArray[np.float32], Ids | None, pd.Index | None]:
    kind = pd.api.types.infer_dtype(column, skipna=True)
    if kind == "string":
        return _read_strings(column)
    if kind in _NUMBERS:
        return _to_float32(column), None, None
    if kind not in ("mixed", "mixed-integer"):
        raise _bad_values(column, kind)
    objects = column.to_numpy()
    is_text = np.fromiter((isinstance(item, str) for item in objects), bool, len(objects))
    is_number = np.fromiter((isinstance(item, _NUMBER) for item in objects), bool, len(objects))
    if (other := ~(is_text | is_number | column.isna().to_numpy())).any():
        raise _bad_values(column[other], "mixed")
    numbers = column.where(is_number).to_numpy(dtype=np.float64, na_value=np.nan)
    ids, labels = _factorize(column.where(is_text), sort=False)
    labels = labels.astype("str")
    text, texts = _texts(ids, labels, labels.str.strip() != "")
    return cast_float32(numbers), text, texts


def _read_strings(column: pd.Series) -> tuple[NDArray[np.float32], Ids | None, pd.Index | None]:
    ids, labels = _factorize(column, sort=False)
    numbers = np.asarray(
        pd.to_numeric(labels.to_numpy(dtype=object), errors="coerce"), dtype=np.float64
    )
    bare = labels.astype("str").str.strip().str.lower()
    value = np.append(cast_float32(numbers), np.float32(np.nan))[ids]
    return value, *_texts(ids, labels.astype("str"), np.isnan(numbers) & ~bare.isin(["", "nan"]))


def _texts(
    ids: Ids, labels: pd.Index, keep: NDArray[np.bool_]
) -> tuple[Ids | None, pd.Index | None]:
    """Ids of the labels that are kept, -1 for the others; None if no event has such a label."""
    keep = np.asarray(keep, dtype=bool)
    if not keep.any():
        return None, None
    return _sorted_labels(*keep_labels(ids, labels, keep))


def _bad_values(column: pd.Series, kind: str) -> DataError:
    example = column.dropna().head(1).tolist()
    shown = f" such as {example[0]!r}" if example else ""
    return DataError(
        f"Expected numbers or strings as values in {column.name!r}. Got {kind} values{shown}. "
        "Convert them first, or leave them out with value=False."
    )


def _to_float32(column: pd.Series) -> NDArray[np.float32]:
    if column.dtype == np.float32:
        return column.to_numpy()
    if isinstance(column.dtype, np.dtype) and column.dtype != object:
        return cast_float32(column.to_numpy())
    return cast_float32(column.to_numpy(dtype=np.float64, na_value=np.nan))


def cast_float32(numbers: NDArray[Any]) -> NDArray[np.float32]:
    """Numbers as float32, infinite where they are too large."""
    with np.errstate(over="ignore"):
        return numbers.astype(np.float32)


def _factorize(column: pd.Series, *, sort: bool) -> tuple[Ids, pd.Index]:
    """Like :func:`pandas.factorize`, with int32 ids, and in one cheap step for categoricals."""
    if not isinstance(column.dtype, pd.CategoricalDtype):
        try:
            ids, labels = pd.factorize(column, sort=sort)
        except TypeError as error:
            raise DataError(
                f"Expected the labels in {column.name!r} to be strings or numbers. "
                f"Got {column.dtype} values that cannot be compared: {error}."
            ) from error
        return ids.astype(np.int32), pd.Index(labels)
    category: Ids = column.cat.codes.to_numpy().astype(np.int32)
    categories: pd.Index = column.cat.categories
    category, categories = drop_unused(category, categories)
    if not sort:
        return category, categories
    return category, pd.CategoricalIndex(categories, dtype=column.dtype)


def _sorted_labels(ids: Ids, labels: pd.Index) -> tuple[Ids, pd.Index]:
    """Same labels in sorted order, so that dictionaries do not depend on the order of events."""
    if labels.is_monotonic_increasing:
        return ids, labels
    order = np.asarray(labels.argsort())
    new = np.empty(len(order), dtype=np.int32)
    new[order] = np.arange(len(order), dtype=np.int32)
    return map_ids(ids, new), labels[order]


def _is_real(dtype: Any) -> bool:
    return (
        pd.api.types.is_numeric_dtype(dtype)
        and not pd.api.types.is_bool_dtype(dtype)
        and not pd.api.types.is_complex_dtype(dtype)
    )


def _all_whole(labels: pd.Index) -> bool:
    numbers = labels.to_numpy(dtype=np.float64)
    return bool((np.abs(numbers) < 2.0**53).all() and (numbers == np.floor(numbers)).all())
