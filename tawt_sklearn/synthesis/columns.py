"""Static columns and labels as words: one of a few levels, a number, or missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tawt_sklearn.exceptions import DataError, SaveFileError
from tawt_sklearn.synthesis.marginals import Marginal

MOST_LEVELS = 32
"""Numbers with more different values are drawn as numbers, not as levels."""


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes
    ----------
    dtype : dtype
        Of the column, which the drawn one gets; without categories that too few subjects have.
    levels : object array (L,)
        Values that are drawn as they are.
    marginal : Marginal, optional
        Of all others, which are numbers.
    """

    dtype: Any
    levels: NDArray
    marginal: Marginal | None

    def _to_saved(self) -> dict[str, Any]:
        empty = pd.Series([], dtype=self.dtype)  # files hold series, whatever their dtype
        return {"empty": empty, "levels": self.levels, "marginal": self.marginal}

    @classmethod
    def _from_saved(cls, state: dict[str, Any], device: Any) -> Column:
        if not isinstance(state["empty"], pd.Series):
            raise SaveFileError(f"Expected a Series. Got {type(state['empty']).__name__}.")
        return cls(state["empty"].dtype, state["levels"], state["marginal"])

    @classmethod
    def fit(
        cls, column: pd.Series, min_subjects: int, n_extreme: int, what: str = "column"
    ) -> Column:
        """Learn what there is; levels of fewer than ``min_subjects`` rows count as missing.

        Errors say ``what`` it is.
        """
        dtype = column.dtype
        is_number = pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype)
        present = column.dropna()
        if pd.api.types.is_datetime64_any_dtype(dtype) or dtype.kind == "m":
            raise DataError(
                f"Expected {what} of numbers, categories or text. Got dtype {dtype}. Turn it into "
                "a number, such as days since an origin."
            )
        counts = present.value_counts()
        rare = counts.min() < min_subjects if len(counts) else False
        if is_number and len(present) < min(min_subjects, len(column)):
            return cls(dtype, np.empty(0, object), None)  # so few would be pointed to
        if is_number and (len(counts) > MOST_LEVELS or rare):
            numbers = present.to_numpy(np.float64)
            if np.isinf(numbers).any():
                raise DataError(f"Expected finite numbers in {what}. Got infinity.")
            return cls(dtype, np.empty(0, object), Marginal.fit(numbers, n_extreme))
        kept = counts.index[counts >= min_subjects]
        if dtype.kind == "b" and not len(kept):  # which knows of no missing values
            kept = counts.index
        if isinstance(dtype, pd.CategoricalDtype):
            few = counts.index[(counts > 0) & (counts < min_subjects)]
            names = dtype.categories
            dtype = pd.CategoricalDtype(names[~names.isin(few)], dtype.ordered)
        levels = np.empty(len(kept), object)
        levels[:] = sorted(kept, key=lambda level: (str(type(level)), level))
        return cls(dtype, levels, None)

    def read(
        self, column: pd.Series, exactly: bool = False
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Level of each row, -1 for none, and its number, NaN for none.

        Of two levels of bool, which knows of no missing values, the one that had too few rows
        counts as the other, unless ``exactly``.
        """
        level = pd.Index(self.levels).get_indexer(column.astype(object))
        if getattr(self.dtype, "kind", "O") == "b" and len(self.levels) == 1 and not exactly:
            level[column.notna().to_numpy()] = 0
        number = np.full(len(column), np.nan)
        if self.marginal is not None:
            try:
                number = column.to_numpy(np.float64, na_value=np.nan)
            except (TypeError, ValueError) as error:
                raise DataError(
                    f"Expected numbers in column {column.name!r}, as in fit. Got {error}."
                ) from error
            if np.isinf(number).any():
                raise DataError(f"Expected finite numbers in column {column.name!r}. Got infinity.")
        return level, number

    def check(self, column: pd.Series) -> None:
        """Refuse numbers that a column of whole numbers cannot hold as they are."""
        if self.marginal is None or not pd.api.types.is_integer_dtype(self.dtype):
            return
        limits = np.iinfo(getattr(self.dtype, "numpy_dtype", self.dtype))
        number = pd.to_numeric(column.dropna())
        wrong = (number != np.floor(number)) | (number < limits.min) | (number > limits.max)
        if wrong.any():
            raise DataError(
                f"Expected whole numbers from {limits.min} to {limits.max}, as {self.dtype} holds "
                f"them. Got {number[wrong].iloc[0]!r}."
            )

    def written(
        self, level: NDArray[np.int64], number: NDArray[np.float64], name: Any
    ) -> pd.Series:
        """The column again."""
        values: Any = np.full(len(level), None, object)
        if self.marginal is not None:
            values = pd.Series(number)
            if pd.api.types.is_integer_dtype(self.dtype):
                values = values.round()
        else:
            values[level >= 0] = self.levels[level[level >= 0]]
        return pd.Series(values, dtype=object).astype(self.dtype).rename(name)
