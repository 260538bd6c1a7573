"""The door for long recordings: one row per step in, a panel of windows with targets out."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from tawt_sklearn.events.labels import drop_unused
from tawt_sklearn.events.ragged import offsets_from_lengths, range_positions
from tawt_sklearn.events.tables import Table, labels_where, plural
from tawt_sklearn.exceptions import DataError

Short = Literal["drop", "pad"]
Content = Literal["number", "bool", "text", "category"]

# What pandas.api.types.infer_dtype calls objects that are numbers, or all missing.
_NUMBERS = frozenset({"integer", "floating", "mixed-integer-float", "decimal", "empty"})
_TIMES = frozenset({"datetime", "datetime64", "date", "timedelta", "timedelta64", "period"})
_LARGEST_FLOAT32_CODE = 2**24


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
            groups=self.groups[positions],
            index=self.index.iloc[positions].reset_index(drop=True),
        )

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
    short: Short = "drop",
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
    short : {"drop", "pad"}, default "drop"
        What to do with groups that are too short for a window with its targets: leave them out, or
        make one window, with NaN before the first step. In a `y` for every step such steps are NaN,
        which turns integers into floats; among text and bools they are None. Groups that have no
        step before their targets are left out all the same.
    categories : dict or Windows, optional
        Values of categorical channels in the order of their codes, or windows to take them from:
        test data need the codes of the training data. Values that are not there get the next free
        codes, in sorted order, after those of the training data: estimators meet them as codes that
        they have not seen.

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
    length, stride = _positive(length, "length"), _positive(stride, "stride")
    if short not in get_args(Short):
        raise DataError(f"Expected short to be one of {get_args(Short)}. Got {short!r}.")
    targets = [] if target is None else _names(target)
    ahead = _steps_ahead(horizon, targets)
    table = Table(frame, what="frame")
    if not len(table):
        raise DataError("Expected a frame with one row per step. Got one without rows.")
    _check_keys(group, time)
    unseen = targets if ahead == 0 else []
    chosen = _choose_channels(table, channels, categories, {group, time}, unseen)
    recording = _read_recording(table, group, time)
    answers = _read_targets(table, targets, recording.order)
    steps, levels = _read_channels(table, chosen, categories, recording.order)
    places = _place_windows(recording, length, stride, ahead, short)
    y = None
    if answers is not None:
        y = _gather_targets(answers, places, length, horizon)
        y = y if _is_list(target) else y[..., 0]
    labels = recording.labels.take(places.group)
    return Windows(
        X=_gather_steps(steps, places, length),
        y=y,
        groups=labels.to_numpy(),
        index=_index_of(recording, places, labels, length, horizon, has_target=bool(targets)),
        channels=chosen,
        categorical_features=[c for c, name in enumerate(chosen) if name in levels],
        categories=levels,
        n_lost=places.n_lost,
    )


# -- what was asked for ---------------------------------------------------------------------


def _positive(number: Any, name: str) -> int:
    if not isinstance(number, int | np.integer) or isinstance(number, bool) or number < 1:
        raise DataError(
            f"Expected {name} to be a whole number of steps, 1 or more. Got {number!r}."
        )
    return int(number)


def _steps_ahead(horizon: Any, targets: list[Any]) -> int:
    """Steps that targets lie after the window, 0 for those inside."""
    whole = isinstance(horizon, int | np.integer) and not isinstance(horizon, bool) and horizon >= 0
    if horizon is not None and not whole:
        raise DataError(
            "Expected horizon to be 0 (the target at the last step of the window), a number of "
            f"steps after it, or None (the target at every step). Got {horizon!r}."
        )
    if not targets and horizon != 0:
        raise DataError(
            f"Expected a target to predict with horizon={horizon!r}. Got target=None. Name its "
            'column with target="...", or leave horizon out.'
        )
    return int(horizon or 0)


def _check_keys(group: Any, time: Any) -> None:
    for role, name in (("group", group), ("time", time)):
        if _is_list(name):
            raise DataError(
                f"Expected {role} to be the name of one column. Got {name!r}. Join the columns "
                "into one first, for example with frame.groupby([...]).ngroup()."
            )
    if group is not None and group == time:
        raise DataError(f"Expected different columns as group and time. Got {group!r} for both.")


def _is_list(names: Any) -> bool:
    return isinstance(names, list | pd.Index | np.ndarray)


def _names(names: Any) -> list[Any]:
    return list(names) if _is_list(names) else [names]


def _choose_channels(
    table: Table, asked: Any, categories: Any, keys: set[Hashable], unseen: list[Any]
) -> list[Any]:
    """Names of the channels, and checks of `channels` and `categories`."""
    if isinstance(categories, Windows):
        asked = categories.channels if asked is None else asked
    elif categories is not None:
        if not isinstance(categories, Mapping):
            raise DataError(
                "Expected categories to be a dictionary of lists by the name of the channel, or "
                f"the windows of the training data. Got {type(categories).__name__}."
            )
        for name in categories:
            table.find("categories", name)
    if asked is None:
        chosen = [name for name in table.names if name not in keys and name not in unseen]
    else:
        chosen = _names(asked)
    for name in chosen:
        table.find("channels", name)
        if name in unseen:
            raise DataError(
                f"Expected channels without the target {name!r}, which the windows would see. Name "
                "other channels, or predict steps after the window with horizon=1 or more, where "
                "the past values of the target are fine."
            )
        if chosen.count(name) > 1:
            raise DataError(f"Expected each channel once. Got {name!r} {chosen.count(name)} times.")
    if not chosen:
        raise DataError("Expected at least one channel. Got none: name them with channels=[...].")
    return chosen


# -- groups and times -----------------------------------------------------------------------


@dataclass(frozen=True)
class _Recording:
    """Groups and times of a frame's N rows, once they are in order; G groups.

    Attributes
    ----------
    order : int64 array of shape (N,)
        Rows of the frame, group by group, by time in each.
    offsets : int64 array of shape (G + 1,)
    labels : Index of length G
    times : Series of length N
        In order. Numbers of rows within the group where there are no times.
    broken : bool array of shape (N,)
        Where the step from the row ahead in the same group is not the usual one.
    """

    order: NDArray[np.int64]
    offsets: NDArray[np.int64]
    labels: pd.Index
    times: pd.Series
    broken: NDArray[np.bool_]


def _read_recording(table: Table, group: Hashable, time: Hashable) -> _Recording:
    ids, labels = np.zeros(len(table), np.int64), pd.Index([0])
    if group is not None:
        column = table[table.find("group", group)]
        ids, labels = _number_groups(column)
    offsets = offsets_from_lengths(np.bincount(ids, minlength=len(labels)))
    if time is None:
        order = np.argsort(ids, kind="stable")
        times = pd.Series(range_positions(np.zeros(len(labels)), np.diff(offsets))[0])
        return _Recording(order, offsets, labels, times, np.zeros(len(order), bool))

    column, clock, spread = _read_clock(table[table.find("time", time)])
    order = np.lexsort((clock, ids))
    clock, ids = clock[order], ids[order]
    inside = ids[1:] == ids[:-1]
    difference = np.diff(clock)[inside]
    if (difference == 0).any():
        at = np.flatnonzero(inside)[np.argmax(difference == 0)]
        both = np.isin(np.arange(len(order)), order[at : at + 2])
        of_group = "" if group is None else f"{labels[ids[at]]} at "
        raise DataError(
            f"Expected one row per group and time. Got several, the first for {of_group}"
            f"{column.iloc[order[at]]} ({labels_where(column, both)}). Drop or average them, for "
            "example with frame.groupby([group, time]).mean(), or name the group with group=."
        )
    broken = np.zeros(len(order), bool)
    broken[1:][inside] = ~_is_usual(difference, spread)
    return _Recording(order, offsets, labels, column.take(order).reset_index(drop=True), broken)


def _number_groups(column: pd.Series) -> tuple[NDArray[np.int64], pd.Index]:
    """Group of each row, numbered by first appearance, and the groups."""
    try:
        ids, labels = pd.factorize(column)
    except TypeError as error:
        raise DataError(
            f"Expected one string, number or date per row as group in {column.name!r}. Got "
            f"{column.dtype} values such as {column.iloc[0]!r}: {error}."
        ) from error
    if (missing := ids < 0).any():
        raise DataError(_missing(column, missing, "group"))
    return ids, pd.Index(labels)


def _missing(column: pd.Series, missing: NDArray[np.bool_], what: str) -> str:
    return (
        f"Expected every row to have a {what} ({column.name!r}). Got "
        f"{plural(int(missing.sum()), 'row')} without ({labels_where(column, missing)}). Drop "
        f"them: frame.dropna(subset=[{column.name!r}])."
    )


def _read_clock(column: pd.Series) -> tuple[pd.Series, NDArray[Any], float]:
    """Times as a column of numbers, datetimes or time differences.

    Also as numbers to sort and subtract, whole ones but for floats, and how far apart differences
    may be that are the same but for rounding.
    """
    types = pd.api.types
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.dtype.categories.dtype)
    if types.is_object_dtype(column.dtype):
        column = column.infer_objects()
    missing = column.isna().to_numpy()
    if missing.any():
        raise DataError(_missing(column, missing, "time"))
    if types.is_datetime64_any_dtype(column.dtype):
        return column, pd.DatetimeIndex(column).asi8, 0
    if types.is_timedelta64_dtype(column.dtype):
        return column, pd.TimedeltaIndex(column).asi8, 0
    if types.is_integer_dtype(column.dtype):
        return column, column.to_numpy(dtype=np.int64), 0
    if not types.is_float_dtype(column.dtype):
        example = column.iloc[0]
        raise DataError(
            f"Expected numbers, datetimes or time differences as times in {column.name!r}. Got "
            f"{column.dtype} values such as {example!r}. Convert text with pandas.to_datetime, "
            "periods with .dt.to_timestamp()."
        )
    clock = column.to_numpy(dtype=np.float64)
    if (infinite := np.isinf(clock)).any():
        raise DataError(_infinite(column, infinite))
    rounding = np.finfo(getattr(column.dtype, "numpy_dtype", column.dtype)).eps
    return column, clock, 8 * float(rounding) * float(np.abs(clock).max())


def _is_usual(difference: NDArray[Any], spread: float) -> NDArray[np.bool_]:
    """Which differences of times, all positive, are the most common one, to within `spread`."""
    if not len(difference):
        return np.ones(0, dtype=bool)
    ordered = np.sort(difference)
    count = np.searchsorted(ordered, ordered + spread, side="right") - np.arange(len(ordered))
    usual = ordered[np.argmax(count)]
    return (difference >= usual) & (difference <= usual + spread)


# -- where the windows are ------------------------------------------------------------------


@dataclass(frozen=True)
class _Places:
    """Windows as positions in the order of the recording; n of them.

    Attributes
    ----------
    group : int64 array of shape (n,)
        Number of the group.
    start : int64 array of shape (n,)
        First position, also where that step is padding.
    first : int64 array of shape (n,)
        Position of the first step that is there.
    n_lost : int
    """

    group: NDArray[np.int64]
    start: NDArray[np.int64]
    first: NDArray[np.int64]
    n_lost: int

    @property
    def padding(self) -> NDArray[np.int64]:
        """Steps at the front of each window that are not there."""
        return self.first - self.start


def _place_windows(
    recording: _Recording, length: int, stride: int, ahead: int, short: Short
) -> _Places:
    offsets = recording.offsets
    spare = np.diff(offsets) - (length + ahead)
    count = np.where(spare < 0, 0, spare // stride + 1)
    begin = offsets[:-1] + spare % stride
    if short == "pad":
        alone = (spare < 0) & (np.diff(offsets) > ahead)
        count[alone] = 1
        begin[alone] = (offsets[:-1] + spare)[alone]
    if not count.any():
        more = f" and {plural(ahead, 'step')} after it" if ahead else ""
        remedy = "Use a smaller length or horizon"
        if short == "drop" and np.diff(offsets).max() > ahead:
            remedy += ', or pad short groups with short="pad"'
        raise DataError(
            f"Expected a group with the {plural(length, 'step')} of a window{more}. Got "
            f"{plural(len(spare), 'group')}, the longest with "
            f"{plural(int(np.diff(offsets).max()), 'step')}. {remedy}."
        )
    group = np.repeat(np.arange(len(count)), count)
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
    n_lost = int((~whole).sum())
    return _Places(group[whole], start[whole], first[whole], n_lost)


def _usual_step(recording: _Recording) -> str:
    regular = ~recording.broken
    regular[recording.offsets[:-1]] = False  # the first row of a group comes after no other
    at = int(np.argmax(regular))
    step = recording.times.iloc[at] - recording.times.iloc[at - 1]
    return f"The usual step is {step}, and {plural(int(recording.broken.sum()), 'step')} differ."


def _index_of(
    recording: _Recording,
    places: _Places,
    labels: pd.Index,
    length: int,
    horizon: int | None,
    *,
    has_target: bool,
) -> pd.DataFrame:
    end = places.start + length - 1
    target_start = end
    if has_target and horizon != 0:
        target_start = places.first if horizon is None else end + 1
    positions = {
        "start": places.first,
        "end": end,
        "target_start": target_start,
        "target_end": end + (horizon or 0),
    }
    times = {name: recording.times.array.take(at) for name, at in positions.items()}
    return pd.DataFrame({"group": labels.array, **times})


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


# -- channels -------------------------------------------------------------------------------


def _read_channels(
    table: Table,
    names: list[Any],
    categories: Mapping[Any, Sequence[Any]] | Windows | None,
    order: NDArray[np.int64],
) -> tuple[NDArray[Any], dict[Any, list[Any]]]:
    """Channels as numbers (C, N), in order, and the categories of those that are codes."""
    known: Mapping[Any, Sequence[Any]] = {}
    if categories is not None:
        known = categories.categories if isinstance(categories, Windows) else categories
    numeric: set[Any] = set()
    if isinstance(categories, Windows):
        numeric = set(categories.channels) - set(known)
    columns = {name: table[name] for name in names}
    contents = {name: _content(column, "channel") for name, column in columns.items()}
    numbers = [name for name in names if contents[name] == "number" and name not in known]
    small = bool(numbers) and all(columns[name].dtype == np.float32 for name in numbers)

    levels: dict[Any, list[Any]] = {}
    rows: dict[Any, NDArray[Any]] = {}
    for name, column in columns.items():
        if name in numbers:
            rows[name] = _finite_numbers(column)
            continue
        if name in numeric:
            raise DataError(
                f"Expected numbers in {name!r}, as in the windows given as categories=. Got "
                f"{column.dtype} values. Convert it with pandas.to_numeric, or make a category of "
                "it in the training data, too."
            )
        rows[name], levels[name] = _encode(column, contents[name], known.get(name))
    small &= all(len(values) < _LARGEST_FLOAT32_CODE for values in levels.values())
    steps = np.empty((len(names), len(order)), np.float32 if small else np.float64)
    for c, name in enumerate(names):
        steps[c] = rows.pop(name)[order]
    return steps, levels


def _content(column: pd.Series, what: str) -> Content:
    """What a channel or target holds.

    Raises
    ------
    DataError
        Times, objects of mixed kinds, complex numbers, histories.
    """
    types, dtype = pd.api.types, column.dtype
    inferred = ""
    if types.is_object_dtype(dtype):
        inferred = types.infer_dtype(column, skipna=True)
    if isinstance(dtype, pd.CategoricalDtype):
        return "category"
    if types.is_bool_dtype(dtype) or inferred == "boolean":
        return "bool"
    if inferred == "string" or (not inferred and types.is_string_dtype(dtype)):
        return "text"
    real = types.is_numeric_dtype(dtype) and not types.is_complex_dtype(dtype)
    if real or inferred in _NUMBERS:
        return "number"
    is_time = types.is_datetime64_any_dtype(dtype) or types.is_timedelta64_dtype(dtype)
    if is_time or isinstance(dtype, pd.PeriodDtype) or inferred in _TIMES:
        remedy = "Turn it into numbers with TimeEmbedder first"
    elif inferred.startswith("mixed"):
        remedy = "Convert it to one kind, for example with .astype(str)"
    else:
        remedy = "Convert it first"
    kind = "mixed" if inferred.startswith("mixed") else inferred or dtype
    raise DataError(
        f"Expected numbers, text, bools or categories in the {what} {column.name!r}. Got {kind} "
        f"values. {remedy}, or leave it out with {what}{'s=[...]' if what == 'channel' else '='}."
    )


def _finite_numbers(column: pd.Series) -> NDArray[Any]:
    """Numbers as float64, or float32 where they are, NaN where missing."""
    if column.dtype == np.float32:
        numbers = column.to_numpy()
    else:
        numbers = column.to_numpy(dtype=np.float64, na_value=np.nan)
    if (infinite := np.isinf(numbers)).any():
        raise DataError(_infinite(column, infinite))
    return numbers


def _infinite(column: pd.Series, infinite: NDArray[np.bool_]) -> str:
    return (
        f"Expected finite numbers in {column.name!r}. Got "
        f"{plural(int(infinite.sum()), 'infinite one')} ({labels_where(column, infinite)}). "
        "Correct them, or set them to NaN where they are not known."
    )


def _encode(
    column: pd.Series, content: Content, known: Sequence[Any] | None
) -> tuple[NDArray[np.float64], list[Any]]:
    """Codes of categories, NaN where missing, and their values."""
    ids: NDArray[Any]
    if content == "category":
        labels = column.cat.categories
        ids = column.cat.codes.to_numpy()
        if known is not None:  # categories that no row has are no news
            ids, labels = drop_unused(ids.astype(np.int64), labels)
    else:
        ids, found = pd.factorize(column)
        labels = pd.Index(found)
        if content == "bool" and known is None:
            known = [False, True]
    present = labels.tolist()
    values = [] if known is None else list(known)
    code = {value: position for position, value in enumerate(values)}
    if len(code) < len(values):
        raise DataError(
            f"Expected categories of {column.name!r} that differ. Got {len(values)} values, "
            f"{len(code)} of them different: {values[:10]}."
        )
    fresh = [value for value in present if value not in code]
    if content != "category":
        fresh.sort()
    code.update((value, len(values) + position) for position, value in enumerate(fresh))
    codes = np.array([*(code[value] for value in present), np.nan])
    return codes[ids], values + fresh


# -- targets --------------------------------------------------------------------------------


def _read_targets(table: Table, names: list[Any], order: NDArray[np.int64]) -> NDArray[Any] | None:
    """Targets (N, k) in order: numbers, bools, or objects with None where missing."""
    if not names:
        return None
    columns = [_read_target(table[table.find("target", name)]) for name in names]
    kinds = {column.dtype.kind in "fiu" for column in columns}
    if len(kinds) > 1:
        raise DataError(
            f"Expected target columns of one kind, numbers or classes. Got both in {names}. "
            "Predict them with one estimator each."
        )
    return np.stack(columns, axis=1)[order]


def _read_target(column: pd.Series) -> NDArray[Any]:
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.dtype.categories.dtype)
    content = _content(column, "target")
    missing = column.isna().to_numpy()
    if content == "number":
        if pd.api.types.infer_dtype(column) == "integer" and not missing.any():
            return column.to_numpy(dtype=np.int64)
        return _finite_numbers(column).astype(np.float64)
    if content == "bool" and not missing.any():
        return column.to_numpy(dtype=bool)
    labels = column.to_numpy(dtype=object, copy=True)
    labels[missing] = None
    return labels


# -- windows out of steps -------------------------------------------------------------------


def _gather_steps(steps: NDArray[Any], places: _Places, length: int) -> NDArray[Any]:
    """Steps (C, N) as windows (n, C, length), NaN where there is no step."""
    start, padding = places.start, places.padding
    if padding.any():  # room for windows that start before the first step of all
        steps = np.pad(steps, ((0, 0), (length, 0)))
        start = start + length
    view = sliding_window_view(steps, length, axis=1)  # (C, N - length + 1, length)
    X = np.empty((len(start), len(steps), length), steps.dtype)
    for c in range(len(steps)):
        X[:, c] = view[c][start]
    padded = np.flatnonzero(padding)
    if len(padded):
        absent = np.arange(length) < padding[padded, np.newaxis, np.newaxis]
        X[padded] = np.where(absent, np.nan, X[padded])
    return X


def _gather_targets(
    answers: NDArray[Any], places: _Places, length: int, horizon: int | None
) -> NDArray[Any]:
    """Targets (N, k) of windows: (n, k), (n, horizon, k), or (n, length, k)."""
    if horizon == 0:
        return answers[places.start + length - 1]
    if horizon is not None:
        return answers[(places.start + length)[:, np.newaxis] + np.arange(horizon)]
    at = places.start[:, np.newaxis] + np.arange(length)
    y = answers[np.maximum(at, places.first[:, np.newaxis])]
    absent = at < places.first[:, np.newaxis]
    if not absent.any():
        return y
    y = y.astype(np.float64 if y.dtype.kind in "fiu" else object)
    y[absent] = np.nan if y.dtype.kind == "f" else None
    return y
