"""Where windows lie in a recording, and the steps and targets that are there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from tawt_sklearn.events._recording import Recording
from tawt_sklearn.events.ragged import range_positions
from tawt_sklearn.events.tables import plural
from tawt_sklearn.exceptions import DataError


@dataclass(frozen=True)
class Places:
    """Windows as positions in the order of the recording; n of them.

    Attributes
    ----------
    group : int64 array of shape (n,)
        Number of the group.
    start : int64 array of shape (n,)
        First position, also where that step is padding.
    first : int64 array of shape (n,)
        Position of the first step that is there.
    length : int
    n_lost : int
    """

    group: NDArray[np.int64]
    start: NDArray[np.int64]
    first: NDArray[np.int64]
    length: int
    n_lost: int

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Steps of each window that are there."""
        return self.end + 1 - self.first

    @property
    def end(self) -> NDArray[np.int64]:
        """Position of the last step of each window."""
        return self.start + self.length - 1


def place_windows(
    recording: Recording, length: int, stride: int, ahead: int, min_length: int
) -> Places:
    """Windows `stride` steps apart, the last of a group at its end but for `ahead` steps."""
    offsets = recording.offsets
    size = np.diff(offsets)
    spare = size - (min_length + ahead)
    count = np.maximum(spare // stride + 1, 0)
    if not count.any():
        more = f" and {plural(ahead, 'step')} after it" if ahead else ""
        remedy = "Use a smaller length or horizon"
        if min_length > 1 and size.max() > ahead:
            remedy += ", or take shorter histories with min_length="
        raise DataError(
            f"Expected a group with the {plural(min_length, 'step')} of a window{more}. Got "
            f"{plural(len(size), 'group')}, the longest with {plural(int(size.max()), 'step')}. "
            f"{remedy}."
        )
    group = np.repeat(np.arange(len(count)), count)
    begin = offsets[:-1] + spare % stride + min_length - length
    start = begin[group] + stride * range_positions(np.zeros(len(count)), count)[0]
    first = np.maximum(start, offsets[group])
    gaps = np.cumsum(recording.broken)
    whole = gaps[start + length + ahead - 1] == gaps[first]
    if not whole.any():
        raise DataError(
            f"Expected windows of {plural(length + ahead, 'step')}, those of the targets after "
            f"them included, without a gap in time. Got {plural(len(whole), 'window')}, all of "
            f"them with a gap. {_usual_step(recording)} Use a smaller length, round the times to "
            "regular steps or resample them, or leave time out if the rows are in order."
        )
    return Places(group[whole], start[whole], first[whole], length, int((~whole).sum()))


def _usual_step(recording: Recording) -> str:
    regular = ~recording.broken
    regular[recording.offsets[:-1]] = False  # the first row of a group comes after no other
    at = int(np.argmax(regular))
    step = recording.times.iloc[at] - recording.times.iloc[at - 1]
    return f"The usual step is {step}, and {plural(int(recording.broken.sum()), 'step')} differ."


def steps_of_windows(
    recording: Recording, places: Places, labels: pd.Index, horizon: int | None
) -> pd.DataFrame:
    """The `index` of the windows; without a target the horizon is 0."""
    target_start = places.first if horizon is None else places.end + min(horizon, 1)
    positions = {
        "start": places.first,
        "end": places.end,
        "target_start": target_start,
        "target_end": places.end + (horizon or 0),
    }
    times = {name: recording.times.array.take(at) for name, at in positions.items()}
    return pd.DataFrame({"group": labels.array, **times})


def cut_steps(steps: NDArray[Any], places: Places) -> NDArray[Any]:
    """Steps (C, N) as windows (n, C, length), NaN where there is no step."""
    start, length = places.start, places.length
    padding = places.first - start
    if padding.any():  # room for windows that start before the first step of all
        steps = np.pad(steps, ((0, 0), (length, 0)))
        start = start + length
    view = sliding_window_view(steps, length, axis=1)  # (C, N - length + 1, length)
    X = np.empty((len(start), len(steps), length), steps.dtype)
    for c in range(len(steps)):
        X[:, c] = view[c][start]
    padded = np.flatnonzero(padding)
    absent = np.arange(length) < padding[padded, np.newaxis, np.newaxis]
    X[padded] = np.where(absent, np.nan, X[padded])
    return X


def cut_targets(answers: NDArray[Any], places: Places, horizon: int | None) -> NDArray[Any]:
    """Targets (N, k) of windows: (n, k), (n, horizon, k), or (n, length, k)."""
    if horizon == 0:
        return answers[places.end]
    if horizon is not None:
        return answers[places.end[:, np.newaxis] + np.arange(1, horizon + 1)]
    at, first = places.start[:, np.newaxis] + np.arange(places.length), places.first[:, np.newaxis]
    y = answers[np.maximum(at, first)]
    if (absent := at < first).any():
        y = y.astype(np.float64 if y.dtype.kind in "fiu" else object)
        y[absent] = np.nan if y.dtype.kind == "f" else None
    return y
