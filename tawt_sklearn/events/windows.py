"""The door for long recordings: one row per step in, a panel of windows with targets out."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tawt_sklearn.events._recording import read_recording
from tawt_sklearn.events._window_arguments import (
    as_list,
    check_categories,
    check_channels,
    check_count,
    check_horizon,
    check_keys,
    is_list,
)
from tawt_sklearn.events._window_columns import read_channels, read_targets
from tawt_sklearn.events._window_places import (
    cut_steps,
    cut_targets,
    place_windows,
    steps_of_windows,
)
from tawt_sklearn.events.tables import Table
from tawt_sklearn.exceptions import DataError, DataWarning


@dataclass(frozen=True, eq=False, repr=False)
class Windows:
    """Windows cut out of recordings: n of them, C channels, of the same length.

    Made by :func:`sliding_windows`.

    Attributes
    ----------
    X : float32 or float64 array of shape (n, C, length)
        The panel, NaN where a value is missing.
    y : array or None
        The targets, by `horizon` of :func:`sliding_windows`.
    lengths : int64 array of shape (n,)
        Steps of each window that are there; see `min_length` of :func:`sliding_windows`.
    groups : array of shape (n,)
        Group of each window, for GroupKFold; zeros where there are no groups.
    index : DataFrame
        A row per window, with the columns ``group``, ``start`` and ``end`` (its first and last
        step, without padding), ``target_start`` and ``target_end`` (the first and last step of its
        target; its last step where there is no target). Steps are the times, or, without times,
        numbers of rows within the group, from 0 on.
    channels : list
        Names of the channels.
    categorical_features : list of int
        Positions of the channels that are codes of categories.
    categories : dict
        Values of each of these, by the name of the channel: code ``i`` stands for entry ``i``.
    n_lost : int
        Number of windows that were left out by :func:`sliding_windows` since they, or their target
        steps, straddle a gap in time.
    """

    X: NDArray[Any]
    y: NDArray[Any] | None
    lengths: NDArray[np.int64]
    groups: NDArray[Any]
    index: pd.DataFrame
    channels: list[Any]
    categorical_features: list[int]
    categories: dict[Any, list[Any]]
    n_lost: int

    def __len__(self) -> int:
        return len(self.X)

    def __repr__(self) -> str:
        y = None if self.y is None else self.y.shape
        return f"Windows(X={self.X.shape}, y={y}, n_lost={self.n_lost})"

    def take(self, rows: Any) -> Windows:
        """Some of the windows, in the order asked for.

        Parameters
        ----------
        rows : array-like of int or of bool, or slice
            Positions, or one bool for each window.

        Returns
        -------
        Windows
            With the `n_lost` of all.

        Raises
        ------
        DataError
            Positions that there are not, a mask of another length.
        """
        if not isinstance(rows, slice):
            rows = np.asarray(rows)
            rows = rows.astype(np.int64) if rows.size == 0 and rows.dtype != bool else rows
        try:
            positions = np.arange(len(self))[rows]
        except IndexError as error:
            raise DataError(
                f"Expected positions of windows, 0 to {len(self) - 1}, or a mask of {len(self)} "
                f"bools. Got {rows!r}: {error}."
            ) from error
        if positions.ndim != 1:
            raise DataError(
                f"Expected a one-dimensional array of positions. Got shape {positions.shape}."
            )
        return replace(
            self,
            X=self.X[positions],
            y=None if self.y is None else self.y[positions],
            lengths=self.lengths[positions],
            groups=self.groups[positions],
            index=self.index.iloc[positions].reset_index(drop=True),
        )

    def series(self) -> list[NDArray[Any]]:
        """The windows as a list of arrays (C, lengths[i]), without what is not there.

        The estimators of this package take it as `X`: a step before the first one is then no step,
        rather than one at which nothing was measured.
        """
        return [x[:, -n:] for x, n in zip(self.X, self.lengths.tolist(), strict=True)]

    def split_at(self, moment: Any) -> tuple[Windows, Windows]:
        """Windows before a moment, to train with, and after it, to test with.

        Parameters
        ----------
        moment : time
            On the clock of the time column. Without one, the number of a row within its group.

        Returns
        -------
        before : Windows
            All their steps and all their target steps are before `moment`.
        after : Windows
            All their target steps (without targets: their last step) are at `moment` or after it.
            Their *other* steps may be before it: whoever forecasts at `moment` knows the history.
            With a target at every step no step is.

        Either may be empty. Windows with target steps on both sides are in neither.

        Raises
        ------
        DataError
            Numbers for datetimes or the reverse, another time zone, a missing time.
        """
        steps = self.index["target_end"]
        moment = _read_moment(moment, steps)
        try:
            before = (steps < moment).to_numpy(dtype=bool)
            after = (self.index["target_start"] >= moment).to_numpy(dtype=bool)
        except TypeError as error:
            raise DataError(
                f"Expected a moment on the clock of the windows ({steps.dtype}). Got {moment!r}. "
                "Give it the same time zone, or none where they have none."
            ) from error
        return self.take(before), self.take(after)


def sliding_windows(
    frame: Any,
    length: int,
    stride: int = 1,
    *,
    group: Hashable = None,
    time: Hashable = None,
    target: Any = None,
    horizon: int | None = 0,
    channels: Any = None,
    min_length: int | None = None,
    categories: Mapping[Any, Sequence[Any]] | Windows | None = None,
) -> Windows:
    """Cut long recordings, one row per step, into a panel of windows with targets.

    The last window of a group ends at its last step that has all target steps after it; the others
    lie `stride` steps apart before it. So the most recent data are always used. Windows come by
    group, in the order in which the groups first appear, and then by time.

    Parameters
    ----------
    frame : pandas.DataFrame, polars.DataFrame or pyarrow.Table
        One row per group and step, in any order if `time` is given. Levels of a pandas index that
        have a name count as columns, but are no channels.
    length : int
        Steps of a window.
    stride : int, default 1
        Steps from one window to the next.
    group : column name, optional
        Rows of different groups (stations, engines, patients) never share a window, nor a window
        and its target. Without it there is one recording.
    time : column name, optional
        Numbers, datetimes or time differences. Rows are sorted by it within their group. The usual
        step is the most common difference over all groups (the smallest, if several are); windows
        that straddle another one, within themselves or on the way to their targets, are left out
        and counted in ``n_lost``. Without `time`, the rows of a group are in order and regular.
    target : column name or list of them, optional
        What to predict. A list, also of one column, gives `y` a last axis of k columns.
    horizon : int or None, default 0
        Where the target is:

        - ``0``: at the last step of the window; `y` is (n,), or (n, k).
        - a number h from 1 on: at each of the h steps after the window, all of which must be
          there; `y` is (n, h), or (n, h, k).
        - ``None``: at every step of the window; `y` is (n, length), or (n, length, k).
    channels : list of column names, optional
        Default: those of `categories`, if these are windows; else all columns but the group, the
        time, and, with a horizon of 0 or None, the target: the window would see it. With later
        targets, the past values of the target are a channel as well.

        Columns of text, bool or categories become whole numbers: the position among their
        categories, in the order of a pandas categorical, else sorted; NaN where missing.
    min_length : int, optional
        Steps that a window must have. Windows that begin before their group does have NaN before
        its first step; also in a `y` for every step, where that turns integers into floats, and
        None among text and bools. Default: `length`, so that all windows are full and groups
        without that many steps before their targets are left out.
    categories : dict or Windows, optional
        Values of categorical channels in the order of their codes, or windows to take them from:
        test data need the codes of the training data. Values that are not there get the next free
        codes, in sorted order, after those of the training data: estimators meet them as codes that
        they have not seen.

    Warns
    -----
    DataWarning
        With as many target steps as a window has: estimators would take them for labels of steps.

    Returns
    -------
    Windows
        ``X`` is float32 if all numeric channels are, else float64. ``y`` holds numbers as
        float64, integers and bools as they are, and text and categories of text as objects. Missing
        targets stay missing (NaN, or None), also among integers, which become floats.

    Raises
    ------
    DataError
        Columns that are not there, a target among the channels that see it, missing groups or
        times, several rows of a group and time, infinite numbers, columns of mixed kinds or of
        dates as channels, no window at all.

    See Also
    --------
    nest_events : for irregular histories, one row per event.

    Notes
    -----
    Windows that overlap, or come from the same recording, are not independent of each other.
    Either keep whole groups apart, ::

        windows = sliding_windows(frame, 24, group="engine", time="cycle", target="rul")
        cross_val_score(model, windows.X, windows.y, groups=windows.groups, cv=GroupKFold(5))

    or test on later times than those of training::

        train, test = sliding_windows(
            frame, 72, 6, group="station", time="time", target="PM2.5", horizon=24
        ).split_at("2016-03-01")

    Where the target is missing in places, drop those windows::

        windows = windows.take(~np.isnan(windows.y).any(axis=1))

    Examples
    --------
    >>> import pandas as pd
    >>> frame = pd.DataFrame({
    ...     "room": ["a"] * 5 + ["b"] * 3, "hour": [0, 1, 2, 3, 4, 0, 1, 2],
    ...     "temp": [20.0, 21, 22, 23, 24, 10, 11, 12], "door": list("ooccoooc")})
    >>> windows = sliding_windows(
    ...     frame, length=2, group="room", time="hour", target="temp", horizon=1)
    >>> windows
    Windows(X=(4, 2, 2), y=(4, 1), n_lost=0)
    >>> windows.channels, windows.categorical_features, windows.categories
    (['temp', 'door'], [1], {'door': ['c', 'o']})
    >>> windows.X[0]
    array([[20., 21.],
           [ 1.,  1.]])
    >>> windows.y[:, 0]
    array([22., 23., 24., 12.])
    >>> windows.index
      group  start  end  target_start  target_end
    0     a      0    1             2           2
    1     a      1    2             3           3
    2     a      2    3             4           4
    3     b      0    1             2           2
    >>> train, test = windows.split_at(4)
    >>> len(train), len(test)
    (3, 1)
    """
    length, stride = check_count(length, "length"), check_count(stride, "stride")
    min_length = length if min_length is None else check_count(min_length, "min_length")
    if min_length > length:
        raise DataError(f"Expected min_length up to length={length}. Got {min_length}.")
    targets = [] if target is None else as_list(target)
    ahead = check_horizon(horizon, targets)
    table = Table(frame, what="frame")
    if not len(table):
        raise DataError("Expected a frame with one row per step. Got one without rows.")
    check_keys(group, time)
    numeric: set[Any] = set()  # channels that have to be numbers, as in the training data
    if isinstance(categories, Windows):
        channels = categories.channels if channels is None else channels
        numeric = set(categories.channels) - set(categories.categories)
        known: Mapping[Any, Sequence[Any]] = categories.categories
    else:
        known = check_categories(table, categories)
    unseen = targets if ahead == 0 else []
    channels = check_channels(table, channels, {group, time}, unseen)

    if horizon == length > 1:
        warnings.warn(
            f"Targets of {horizon} steps after windows of {length} steps: y has the shape of "
            "labels at each step. Pass per_step=False to estimators of panels.",
            DataWarning,
            stacklevel=2,
        )
    recording = read_recording(table, group, time)
    answers = read_targets(table, targets, recording.order)
    steps, levels = read_channels(table, channels, known, numeric, recording.order)
    places = place_windows(recording, length, stride, ahead, min_length)
    y = None
    if answers is not None:
        y = cut_targets(answers, places, horizon)
        y = y if is_list(target) else y[..., 0]
    labels = recording.labels.take(places.group)
    return Windows(
        X=cut_steps(steps, places),
        y=y,
        lengths=places.lengths,
        groups=labels.to_numpy(),
        index=steps_of_windows(recording, places, labels, horizon),
        channels=channels,
        categorical_features=[c for c, name in enumerate(channels) if name in levels],
        categories=levels,
        n_lost=places.n_lost,
    )


def _read_moment(moment: Any, steps: pd.Series) -> Any:
    """A moment as something to compare with times of the dtype of `steps`."""
    number = isinstance(moment, Real) and not isinstance(moment, bool | np.timedelta64)
    expected, found = "a number", moment if number else None
    for is_clock, what, read in (
        (pd.api.types.is_datetime64_any_dtype, "a datetime", pd.Timestamp),
        (pd.api.types.is_timedelta64_dtype, "a time difference", pd.Timedelta),
    ):
        if is_clock(steps.dtype):
            expected, found = what, None
            with suppress(TypeError, ValueError):
                found = None if number else read(moment)
    if found is None or pd.isna(found):
        raise DataError(
            f"Expected {expected} to split windows at, as their times are ({steps.dtype}). Got "
            f"{moment!r}."
        )
    return found
