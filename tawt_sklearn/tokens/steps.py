"""Steps: regular data of any form as one column per channel, and the way back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from tawt_sklearn.events.ragged import offsets_from_lengths, range_positions
from tawt_sklearn.exceptions import DataError
from tawt_sklearn.tokens.clocks import to_clock

Form = Literal["table", "panel", "frame"]


@dataclass(frozen=True)
class Steps:
    """Columns over the ``N`` steps of all cases.

    Attributes
    ----------
    form : {"table", "panel", "frame"}
    columns : list of ndarray or Series, C of (N,)
    dtype : dtype
        float32 where all numbers are, else float64.
    lengths : ndarray of int64, (B,)
        Steps per case of a panel.
    n_timepoints : int or None
        T of a 3-D array; None for a list of arrays.
    frame : DataFrame or None
        What the columns were taken from.
    channels, kept : list of int
        Positions of the channels, and of cases and times, among the columns of a long frame.
    cases, times : Series or None
        Case and time of each row of a long frame; without times the order of the rows counts.
    """

    form: Form
    columns: list[Any]
    dtype: Any
    lengths: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    n_timepoints: int | None = None
    frame: pd.DataFrame | None = None
    channels: list[int] | None = None
    kept: list[int] = field(default_factory=list)
    cases: pd.Series | None = None
    times: pd.Series | None = None

    @property
    def n_steps(self) -> int:
        """Steps of all cases, N."""
        return len(self.columns[0]) if self.columns else 0

    def numbers(self, c: int, name: Any) -> np.ndarray:
        """A channel as float64, NaN where missing; (N,).

        Raises
        ------
        DataError
            Values that are no numbers, or infinite ones.
        """
        column = self.columns[c]
        try:
            if isinstance(column, pd.Series):
                numbers = column.to_numpy(dtype=np.float64, na_value=np.nan)
            else:
                numbers = column.astype(np.float64, copy=False)
        except (TypeError, ValueError) as error:
            raise DataError(
                f"Expected numbers in column {name!r}, as in fit. Got {column.dtype} values. "
                "Convert it with pandas.to_numeric."
            ) from error
        infinite = np.isinf(numbers)
        if infinite.any():
            raise DataError(
                f"Expected finite numbers, or NaN where nothing was measured. Got "
                f"{int(infinite.sum())} infinite ones in {name!r}, the first in "
                f"{self.place(int(np.argmax(infinite)))}. Replace them by NaN."
            )
        return numbers

    def place(self, step: int) -> str:
        """Where a step is, for a message."""
        if self.form != "panel":
            return f"row {step}"
        offsets = offsets_from_lengths(self.lengths)
        b = int(np.searchsorted(offsets, step, side="right")) - 1
        return f"case {b}, step {step - int(offsets[b])}"

    def clock(self) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
        """How time passes inside the cases of a panel or long frame.

        Returns
        -------
        order : ndarray of int64, (N,), or None
            Puts the steps of a case behind each other, in the order of time; None = they are.
        offsets : ndarray of int64, (B + 1,)
            First step of every case, after ordering.
        time : ndarray of float64, (N,)
            Time of every step, after ordering: its number in its case, or the time of the frame
            (hours where that is a date).
        """
        if self.cases is None:
            steps, offsets = range_positions(np.zeros(len(self.lengths)), self.lengths)
            return None, offsets, steps.astype(np.float64)
        code, _ = pd.factorize(self.cases)
        time = np.zeros(len(code)) if self.times is None else to_clock(self.times, "h")
        order = np.lexsort((time, code))  # stable: rows of one time keep their order
        offsets = offsets_from_lengths(np.bincount(code))
        if self.times is None:
            return order, offsets, range_positions(np.zeros(len(offsets) - 1), np.diff(offsets))[0]
        return order, offsets, time[order]

    # ---- the way back ----------------------------------------------------------------------

    def empty(self, n_columns: int, dtype: Any) -> np.ndarray:
        """Room for a result of this form; fill it with :meth:`put`."""
        if self.n_timepoints is not None:
            return np.empty((len(self.lengths), n_columns, self.n_timepoints), dtype)
        return np.empty((n_columns, self.n_steps), dtype)

    def put(self, out: np.ndarray, k: int, column: np.ndarray) -> None:
        """Store column ``k`` of a result, (N,)."""
        if self.n_timepoints is not None:
            out[:, k, :] = column.reshape(-1, self.n_timepoints)
        else:
            out[k] = column

    def finish(self, out: np.ndarray, names: Iterable[Any]) -> Any:
        """The result in the form of the data.

        Parameters
        ----------
        out : ndarray
            Of :meth:`empty`, filled.
        names : iterable
            Of all output columns; those of a long frame begin with its case and time columns.

        Returns
        -------
        ndarray (N, K) for a table, ndarray (B, K, T) or list of ndarray (K, T_i) for a panel,
        DataFrame with the same index for a long frame
        """
        if self.n_timepoints is not None:
            return out
        if self.form == "panel":
            return np.split(out, np.cumsum(self.lengths)[:-1], axis=1)
        if self.form == "table":
            return out.T
        assert self.frame is not None
        labels = list(names)[len(self.kept) :]
        encoded = pd.DataFrame(out.T, self.frame.index, labels, copy=False)
        if not self.kept:
            return encoded
        return pd.concat([self.frame.iloc[:, self.kept], encoded], axis=1)


def float_dtype(dtypes: Iterable[Any]) -> np.dtype:
    """float32 where all columns of numbers are, else float64."""
    kinds = {
        getattr(dtype, "numpy_dtype", dtype)
        for dtype in dtypes
        if pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype)
    }
    return np.dtype(np.float32 if kinds == {np.dtype(np.float32)} else np.float64)


def channel_names(names: Any, form: str, given: bool) -> list[str]:
    """Names of the columns of X; channels of a panel without names are ``channel_0``, ..."""
    if form == "panel" and not given:
        return [f"channel_{c}" for c in range(len(names))]
    return [str(name) for name in names]


def refuse_repeated(names: Iterable[str]) -> None:
    """Raise a DataError where two output columns would have one name."""
    index = pd.Index(list(names))
    repeated = index[index.duplicated()]
    if len(repeated):
        raise DataError(
            f"Expected a name of its own for each output. Got {repeated[0]!r} twice. Rename the "
            "column of X that leads to it."
        )
