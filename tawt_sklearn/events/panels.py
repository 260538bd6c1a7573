"""Regular series: one container for all their forms, and their way to event histories."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tawt_sklearn.events.array import EventsArray
from tawt_sklearn.events.columns import cast_float32
from tawt_sklearn.events.content import hash_steps
from tawt_sklearn.events.ragged import offsets_from_lengths, range_positions
from tawt_sklearn.events.tables import plural
from tawt_sklearn.exceptions import DataError


@dataclass(frozen=True)
class Panel:
    """Series of ``B`` cases with ``C`` channels, the steps of all cases one after the other.

    Attributes
    ----------
    steps : (N, C) float32 or float64
        NaN where nothing was measured.
    offsets : (B + 1,) int64
        First step of each case.
    stacked : bool
        Whether the cases came as one array; what is said of each step is given as one, too.
    """

    steps: NDArray[Any]
    offsets: NDArray[np.int64]
    stacked: bool

    @classmethod
    def of(cls, panel: NDArray[Any]) -> Panel:
        """Of an array (B, C, T), or (B, T) for one channel."""
        if panel.ndim == 2:
            panel = panel[:, np.newaxis, :]
        if panel.ndim != 3:
            raise not_a_panel(panel)
        B, C, T = panel.shape
        steps = np.ascontiguousarray(_numbers(panel).swapaxes(1, 2)).reshape(-1, C)
        return cls(steps, np.arange(B + 1, dtype=np.int64) * T, True)

    @classmethod
    def of_series(cls, series: Sequence[NDArray[Any]]) -> Panel:
        """Of B arrays (C, T_i), or (T_i,) for one channel."""
        parts, lengths = _series(series)
        return cls(np.concatenate([part.T for part in parts]), offsets_from_lengths(lengths), False)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def n_channels(self) -> int:
        return self.steps.shape[1]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(B,) steps of each case."""
        return np.diff(self.offsets)

    def take(self, rows: NDArray[np.int64]) -> Panel:
        """Some cases, in that order."""
        position, offsets = range_positions(self.offsets[rows], self.lengths[rows])
        return Panel(self.steps[position], offsets, self.stacked)

    def hashes(self) -> NDArray[np.uint64]:
        """(B,) the same for cases that are equal, in either precision of the same numbers."""
        return hash_steps(self.steps.astype(np.float64, copy=False), self.offsets)


def not_a_panel(panel: NDArray[Any]) -> DataError:
    """An error about an array of another number of axes."""
    return DataError(
        "Expected an array of shape (n_cases, n_channels, n_timepoints), or (n_cases, "
        f"n_timepoints) for one channel. Got shape {panel.shape}. Reshape your data: one row "
        "per case, also where there is one case only."
    )


def panel_to_events(panel: NDArray[Any]) -> EventsArray:
    """Histories of a panel: (B, C, T) numbers, or (B, T) for one channel.

    Channel ``c`` becomes the code ``"channel_<c>"``, time step ``t`` the time ``t`` in the unit
    ``"step"``. NaN stands for "not measured" and becomes no event at all: nothing is filled in.
    Every row is observed from its first step to its last.
    """
    if panel.ndim == 2:
        panel = panel[:, np.newaxis, :]
    if panel.ndim != 3:
        raise not_a_panel(panel)
    n_cases, n_channels, n_steps = panel.shape
    steps = _numbers(panel).swapaxes(1, 2).reshape(-1, n_channels)
    return _from_steps(steps, np.full(n_cases, n_steps, dtype=np.int64))


def series_to_events(series: Sequence[NDArray[Any]]) -> EventsArray:
    """Histories of B series of different lengths: (C, T_i) numbers each, or (T_i,)."""
    parts, lengths = _series(series)
    return _from_steps(np.concatenate([part.T for part in parts]), lengths)


def _series(series: Sequence[NDArray[Any]]) -> tuple[list[NDArray[Any]], NDArray[np.int64]]:
    """Arrays (C, T_i) of numbers, and T_i."""
    if any(np.ndim(one) == 0 for one in series):
        raise DataError(
            "Expected arrays of shape (n_channels, n_timepoints). Got a single number among them."
        )
    parts = [np.atleast_2d(_numbers(one)) for one in series]
    shapes = {part.shape[:-1] for part in parts}
    if len(shapes) > 1 or len(next(iter(shapes))) != 1:
        remedy = "Give every array a row per channel."
        if {part.ndim for part in parts} == {2} and len({part.shape[1] for part in parts}) == 1:
            remedy = "They look like (n_timepoints, n_channels): pass [x.T for x in X]."
        raise DataError(
            "Expected arrays of shape (n_channels, n_timepoints) with the same number of "
            f"channels. Got {', '.join(str(part.shape) for part in parts[:5])}"
            f"{', ...' if len(parts) > 5 else ''}. {remedy}"
        )
    return parts, np.array([part.shape[1] for part in parts], dtype=np.int64)


def _from_steps(steps: NDArray[Any], lengths: NDArray[np.int64]) -> EventsArray:
    """Histories of all time steps one after the other: (sum of T_i, C), and T_i."""
    known = ~np.isnan(steps)
    step, channel = np.nonzero(known)
    value = cast_float32(steps[known])
    if (infinite := np.isinf(value)).any():
        raise DataError(
            f"Expected finite numbers, or NaN where nothing was measured. Got "
            f"{plural(int(infinite.sum()), 'value')} that are infinite or too large for float32."
        )
    time = range_positions(np.zeros(len(lengths)), lengths)[0]
    in_row = np.zeros(len(steps) + 1, dtype=np.int64)
    np.cumsum(known.sum(axis=1), out=in_row[1:])
    return EventsArray.from_flat(
        time=time[step].astype(np.float64),
        code=channel.astype(np.int32),
        value=value,
        offsets=in_row[offsets_from_lengths(lengths)],
        codes=pd.Index([f"channel_{channel}" for channel in range(steps.shape[1])], dtype="str"),
        start=np.where(lengths > 0, 0.0, np.nan),
        end=np.where(lengths > 0, lengths - 1.0, np.nan),
        time_unit="step",
    )


def _numbers(values: NDArray[Any]) -> NDArray[Any]:
    if isinstance(values, np.ma.MaskedArray):
        values = np.ma.filled(values.astype(np.float64), np.nan)
    if values.dtype.kind == "f":
        return values
    if values.dtype.kind in "biuO":
        try:
            return values.astype(np.float64)
        except (TypeError, ValueError):
            pass
    example = "" if values.size == 0 else f" such as {values.flat[0]!r}"
    raise DataError(f"Expected an array of numbers. Got {values.dtype} values{example}.")
