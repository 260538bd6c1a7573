"""Static columns: what stands beside the events column in a frame, one value per row."""

from __future__ import annotations

import warnings
from typing import Any, Literal, Self

import numpy as np
import pandas as pd

from tawt_sklearn.events.dtype import EventsDtype
from tawt_sklearn.exceptions import DataError, DataWarning
from tawt_sklearn.tokens.values import SortedNumbers, fit_scaling

ColumnKind = Literal["numeric", "categorical"]

_NUMERIC_OBJECTS = ("integer", "floating", "mixed-integer-float", "decimal")
_TIME_OBJECTS = ("datetime", "datetime64", "date", "timedelta", "timedelta64", "period", "interval")


def static_columns(frame: pd.DataFrame) -> list[Any]:
    """Names of all columns but the events column.

    Raises
    ------
    DataError
        Two columns of the same name.
    """
    names = [
        name
        for name, dtype in zip(frame.columns, frame.dtypes, strict=True)
        if not isinstance(dtype, EventsDtype)
    ]
    repeated = pd.Index(names)[pd.Index(names).duplicated()]
    if len(repeated):
        raise DataError(
            f"Expected static columns with different names. Got {repeated[0]!r} more than once. "
            "Rename or drop one."
        )
    return names


def column_kind(column: pd.Series) -> ColumnKind:
    """Numeric: numbers.  Categorical: bool, category, strings, other objects.

    Raises
    ------
    DataError
        Datetimes, time differences, periods and complex numbers, with what to do about them.
    """
    dtype = column.dtype
    content = ""
    if pd.api.types.is_object_dtype(dtype):
        content = pd.api.types.infer_dtype(column, skipna=True)
    if content in _NUMERIC_OBJECTS:
        return "numeric"
    if pd.api.types.is_bool_dtype(dtype):
        return "categorical"
    if pd.api.types.is_complex_dtype(dtype):
        raise DataError(f"Static column {column.name!r} holds complex numbers. Split or drop it.")
    if pd.api.types.is_numeric_dtype(dtype):
        return "numeric"
    if content in _TIME_OBJECTS or _is_time(dtype):
        raise DataError(
            f"Static column {column.name!r} holds dates or time differences ({dtype}), which have "
            "no scale of their own. Turn it into a number before, for example the age at the "
            "first event in years, or drop it."
        )
    return "categorical"


def _is_time(dtype: Any) -> bool:
    types = pd.api.types
    return (
        types.is_datetime64_any_dtype(dtype)
        or types.is_timedelta64_dtype(dtype)
        or isinstance(dtype, pd.PeriodDtype | pd.IntervalDtype)
    )


def to_numbers(column: pd.Series) -> np.ndarray:
    """A static column as float64, NaN where missing; (B,).

    Raises
    ------
    DataError
        Values that are no numbers, or infinite ones.
    """
    try:
        numbers = column.to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"Static column {column.name!r} was numeric in fit. Got values that are not numbers "
            f"({column.dtype}). Convert it with pandas.to_numeric."
        ) from error
    if np.isinf(numbers).any():
        rows = column.index[np.isinf(numbers)]
        raise DataError(
            f"Expected finite numbers or NaN in static column {column.name!r}. Got "
            f"{len(rows)} infinite ones, the first at row {rows[0]!r}. Replace them by NaN."
        )
    return numbers


def to_labels(column: pd.Series) -> tuple[np.ndarray, list[str]]:
    """A static column as ids (-1 = missing) into distinct labels.

    Values are told apart by their ``str``; whole numbers by that of the integer, as integers with
    missing values become floats.
    """
    try:
        ids, values = pd.factorize(column)
    except TypeError as error:
        raise DataError(
            f"Static column {column.name!r} holds values that are no single category, such as "
            f"{column.iloc[0]!r}. Give one string, number or bool per row."
        ) from error
    labels = [
        str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
        for value in values
    ]
    if len(set(labels)) < len(labels):  # 1 and "1" in one object column
        merged, names = pd.factorize(np.array(labels, dtype=object))
        ids, labels = np.append(merged, -1)[ids], names.tolist()
    return ids.astype(np.int64), labels


def learn_levels(column: pd.Series) -> list[str]:
    """Labels of a categorical column by falling frequency, ties by label."""
    ids, labels = to_labels(column)
    counts = np.bincount(ids[ids >= 0], minlength=len(labels)).tolist()
    return [label for _, label in sorted(zip((-n for n in counts), labels, strict=True))]


def level_ids(column: pd.Series, levels: list[str]) -> np.ndarray:
    """Index of each value in ``levels``; -1 = missing, -2 = not among them.  int64, (B,)."""
    ids, labels = to_labels(column)
    index = {label: k for k, label in enumerate(levels)}
    return np.array([*(index.get(label, -2) for label in labels), -1], np.int64)[ids]


class StaticEncoder:
    """Static columns of a frame as scaled numbers and category ids, for a network's input.

    Numbers are scaled by median and interquartile range (with the fallbacks of
    ``TripletSequencer``) and clipped, and stay NaN where missing.  Bool, category, string and
    other object columns become ids: 0 = missing, 1 = not seen in fit, then by falling frequency.

    Parameters
    ----------
    clip : float or None, default=5.0
        Scaled numbers are clipped to ``[-clip, clip]``.

    Attributes
    ----------
    columns_ : list
        Names of the static columns, in the order of the frame given to fit.
    numeric_names_, categorical_names_ : list
        The same by kind; the order of the columns of the two outputs.
    n_numeric_, n_categorical_ : int
        Their numbers.
    cardinalities_ : list of int
        Ids per categorical column, the two reserved ones included.
    levels_ : dict of list of str
        Labels of ids 2, 3, ... of each categorical column.
    center_, scale_ : ndarray of float64, (n_numeric_,)

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> X = pd.DataFrame({"age": [60.0, 70.0, np.nan], "sex": ["F", "M", "F"]})
    >>> encoder = StaticEncoder().fit(X)
    >>> numbers, ids = encoder.transform(X)
    >>> numbers.ravel().round(2)
    array([-1.35,  1.35,   nan], dtype=float32)
    >>> ids.ravel(), encoder.cardinalities_
    (array([2, 3, 2]), [4])
    """

    def __init__(self, *, clip: float | None = 5.0) -> None:
        self.clip = clip

    def fit(self, frame: pd.DataFrame) -> Self:
        """Learn scales and categories; an events column is left out.

        Raises
        ------
        DataError
            Datetime columns, infinite numbers, repeated names, values that cannot be categories.
        """
        columns = static_columns(frame)
        kinds = {name: column_kind(frame[name]) for name in columns}
        numeric = [name for name in columns if kinds[name] == "numeric"]
        categorical = [name for name in columns if kinds[name] == "categorical"]
        numbers = _stack(frame, numeric)
        levels = {name: learn_levels(frame[name]) for name in categorical}
        S = len(numeric)
        code = np.tile(np.arange(S), len(frame))
        scaling = fit_scaling(SortedNumbers.of(code, numbers.ravel(), S), "robust")
        self.columns_ = columns
        self.numeric_names_, self.categorical_names_ = numeric, categorical
        self.n_numeric_, self.n_categorical_ = len(numeric), len(categorical)
        self.levels_ = levels
        self.cardinalities_ = [len(levels[name]) + 2 for name in categorical]
        self.center_, self.scale_ = scaling.center, scaling.scale
        return self

    def _to_saved(self) -> dict[str, Any]:
        return dict(vars(self))

    @classmethod
    def _from_saved(cls, state: dict[str, Any], device: Any) -> Self:
        encoder = cls(clip=state["clip"])
        expected = {"clip", *(_LEARNED if len(state) > 1 else ())}
        if set(state) != expected:
            raise ValueError(f"expected {sorted(expected)}, got {sorted(state)}")
        vars(encoder).update(state)
        return encoder

    def transform(self, frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Scale and look up.

        Returns
        -------
        numbers : ndarray of float32, (B, n_numeric_)
        ids : ndarray of int64, (B, n_categorical_)

        Raises
        ------
        DataError
            A column of fit is missing, or numbers are no numbers any more.

        Warns
        -----
        DataWarning
            Categories that were not seen in fit.
        """
        if absent := [name for name in self.columns_ if name not in frame.columns]:
            raise DataError(
                f"Expected the static columns of fit. Got a frame without {absent}. Its columns "
                f"are {list(frame.columns)}."
            )
        numbers = (_stack(frame, self.numeric_names_) - self.center_) / self.scale_
        if self.clip is not None:
            np.clip(numbers, -self.clip, self.clip, out=numbers)
        ids = np.zeros((len(frame), self.n_categorical_), np.int64)
        unknown = {}
        for k, name in enumerate(self.categorical_names_):
            level = level_ids(frame[name], self.levels_[name])
            ids[:, k] = np.where(level == -2, 1, level + 2) * (level != -1)
            if n := int((level == -2).sum()):
                unknown[name] = n
        warn_unknown_levels(unknown)
        return numbers.astype(np.float32), ids


_LEARNED = (
    "columns_",
    "numeric_names_",
    "categorical_names_",
    "n_numeric_",
    "n_categorical_",
    "levels_",
    "cardinalities_",
    "center_",
    "scale_",
)


def warn_unknown_levels(unknown: dict[Any, int]) -> None:
    """One warning about categories of static columns that were not seen in fit."""
    if unknown:
        names = ", ".join(f"{name!r} ({n})" for name, n in list(unknown.items())[:5])
        warnings.warn(
            f"{sum(unknown.values())} values of static columns were not seen in fit and count as "
            f"unknown: {names}{' and more' if len(unknown) > 5 else ''}.",
            DataWarning,
            stacklevel=3,
        )


def _stack(frame: pd.DataFrame, names: list[Any]) -> np.ndarray:
    """Numeric columns side by side; float64, (B, S)."""
    if not names:
        return np.empty((len(frame), 0))
    return np.stack([to_numbers(frame[name]) for name in names], axis=1)
