"""sliding_windows: a long recording in, a panel of windows with targets out."""

from __future__ import annotations

import datetime as dt
import pickle
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import GroupKFold

import tawt_sklearn
from tawt_sklearn.events import Windows, nest_events, sliding_windows
from tawt_sklearn.events import windows as module
from tawt_sklearn.exceptions import DataError, DataWarning


@pytest.fixture
def rooms() -> pd.DataFrame:
    """Two rooms, six and four hours, with a number and a text."""
    return pd.DataFrame(
        {
            "room": ["b"] * 6 + ["a"] * 4,
            "hour": [0, 1, 2, 3, 4, 5, 0, 1, 2, 3],
            "temp": [0.0, 1, 2, 3, 4, 5, 10, 11, 12, 13],
            "door": list("ocoococcoo"),
        }
    )


def numbered(sizes: list[int], gaps: set[int] = frozenset()) -> pd.DataFrame:
    """Groups of these sizes whose value is the number of the row; a longer step before `gaps`."""
    rows = pd.DataFrame({"group": np.repeat(np.arange(len(sizes)), sizes)})
    rows["value"] = np.arange(len(rows), dtype=float)
    step = np.where(np.isin(np.arange(len(rows)), list(gaps)), 3, 1)
    rows["time"] = np.cumsum(step) - 1
    return rows


def naive_windows(frame, length, stride, horizon, min_length):
    """Windows one by one: rows of X, rows of y, and how many straddle a gap."""
    ahead = horizon or 0
    steps = [
        later - earlier
        for _, part in frame.groupby("group", sort=False)
        for earlier, later in pairwise(sorted(part["time"]))
    ]
    counts = Counter(steps)
    usual = min(counts, key=lambda step: (-counts[step], step)) if counts else None
    X, y, lost = [], [], 0
    for _, part in frame.groupby("group", sort=False):
        part = part.sort_values("time")
        rows, times = part["value"].tolist(), part["time"].tolist()
        ends = []
        end = len(rows) - ahead
        while end - min_length >= 0:
            ends.insert(0, end)
            end -= stride
        for end in ends:
            begin = max(end - length, 0)
            inside = times[begin : end + ahead]
            if any(b - a != usual for a, b in pairwise(inside)):
                lost += 1
                continue
            window = [np.nan] * (length - (end - begin)) + rows[begin:end]
            X.append(window)
            if horizon is None:
                y.append(window)
            else:
                y.append(rows[end : end + ahead] if ahead else rows[end - 1])
    return X, y, lost


pytestmark = pytest.mark.filterwarnings("ignore:Targets of . steps")


# -- against one window at a time -----------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 14), min_size=1, max_size=4),
    gaps=st.sets(st.integers(0, 40), max_size=4),
    length=st.integers(1, 6),
    stride=st.integers(1, 5),
    horizon=st.sampled_from([0, 1, 3, None]),
    min_length=st.integers(1, 6),
    seed=st.integers(0, 99),
)
def test_agrees_with_cutting_one_window_at_a_time(
    sizes, gaps, length, stride, horizon, min_length, seed
):
    frame = numbered(sizes, gaps)
    frame["seen"] = frame["value"]
    shuffled = frame.sample(frac=1.0, random_state=seed)
    min_length = min(min_length, length)
    X, y, lost = naive_windows(shuffled, length, stride, horizon, min_length)
    arguments = {
        "group": "group",
        "time": "time",
        "target": "value",
        "horizon": horizon,
        "min_length": min_length,
        "channels": ["seen"],
    }
    if not X:
        with pytest.raises(DataError, match="Expected (windows of|a group with)"):
            sliding_windows(shuffled, length, stride, **arguments)
        return

    windows = sliding_windows(shuffled, length, stride, **arguments)

    np.testing.assert_array_equal(windows.X[:, 0], X)
    np.testing.assert_array_equal(windows.y, y)
    assert windows.lengths.tolist() == (~np.isnan(windows.X[:, 0])).sum(axis=1).tolist()
    for series, window in zip(windows.series(), X, strict=True):
        assert series[0].tolist() == [value for value in window if not np.isnan(value)]
    assert windows.n_lost == lost
    assert len(windows) == len(X) == len(windows.groups) == len(windows.index)
    # Values are numbers of rows: no window shares groups, and every target comes after it.
    owner = frame["group"].to_numpy()
    for window, group in zip(windows.X[:, 0], windows.groups, strict=True):
        assert set(owner[window[~np.isnan(window)].astype(int)]) == {group}
    if horizon:
        np.testing.assert_array_equal(windows.y, windows.X[:, 0, -1:] + np.arange(1, horizon + 1))
        assert (owner[windows.y.astype(int)] == windows.groups[:, np.newaxis]).all()
    index = windows.index
    time = frame["time"].to_numpy()
    first = np.nanmin(windows.X[:, 0], axis=1).astype(int)
    last = windows.X[:, 0, -1].astype(int)
    assert index["start"].tolist() == time[first].tolist()
    assert index["end"].tolist() == time[last].tolist()
    begins = first if horizon is None else last + min(horizon, 1)
    assert index["target_start"].tolist() == time[begins].tolist()
    assert index["target_end"].tolist() == time[last + (horizon or 0)].tolist()


@settings(max_examples=100, deadline=None)
@given(
    sizes=st.lists(st.integers(4, 25), min_size=1, max_size=3),
    length=st.integers(1, 3),
    stride=st.integers(1, 3),
    horizon=st.sampled_from([0, 1, None]),
    moment=st.integers(-1, 30),
)
def test_targets_of_the_two_sides_of_a_split_never_meet(sizes, length, stride, horizon, moment):
    frame = numbered(sizes)
    frame["step"] = frame.groupby("group").cumcount()
    frame["seen"] = frame["step"]
    windows = sliding_windows(
        frame,
        length,
        stride,
        group="group",
        time="step",
        target="step" if horizon is None else "seen",
        channels=["value"],
        horizon=horizon,
    )
    before, after = windows.split_at(moment)
    assert (before.y < moment).all() and (before.index["end"] < moment).all()
    assert (after.y >= moment).all()
    targets = windows.y.reshape(len(windows), -1)
    assert len(before) == (targets < moment).all(axis=1).sum()
    assert len(after) == (targets >= moment).all(axis=1).sum()


def test_without_a_group_there_is_one_recording():
    windows = sliding_windows(pd.DataFrame({"x": np.arange(7.0)}), 3, 2)
    assert windows.X[:, 0].tolist() == [[0, 1, 2], [2, 3, 4], [4, 5, 6]]
    assert windows.y is None
    assert windows.groups.tolist() == [0, 0, 0]
    assert [*windows.index] == ["group", "start", "end", "target_start", "target_end"]
    assert windows.index["start"].tolist() == [0, 2, 4]
    assert windows.index["target_end"].tolist() == windows.index["end"].tolist() == [2, 4, 6]


def test_without_times_the_rows_of_a_group_are_in_order_even_where_groups_are_mixed(rooms):
    mixed = rooms.iloc[[0, 6, 1, 7, 2, 8, 3, 9, 4, 5]]
    windows = sliding_windows(mixed, 3, group="room", channels=["temp"])
    expected = sliding_windows(rooms, 3, group="room", time="hour", channels=["temp"])
    np.testing.assert_array_equal(windows.X, expected.X)
    pd.testing.assert_frame_equal(windows.index, expected.index)


def test_windows_come_by_group_as_they_first_appear_and_then_by_time(rooms):
    windows = sliding_windows(rooms.iloc[::-1], 3, group="room", time="hour")
    assert windows.groups.tolist() == ["a", "a", "b", "b", "b", "b"]
    assert windows.index["end"].tolist() == [2, 3, 2, 3, 4, 5]


def test_the_last_steps_are_always_used(rooms):
    windows = sliding_windows(
        rooms, 2, 3, group="room", time="hour", target="temp", channels=["temp"], horizon=1
    )
    assert windows.X[:, 0].tolist() == [[0, 1], [3, 4], [11, 12]]
    assert windows.y.tolist() == [[2], [5], [13]]


def test_the_panel_is_one_block_of_memory_of_its_own(rooms):
    frame = rooms[["temp"]]
    windows = sliding_windows(frame, 1)
    assert windows.X.flags.c_contiguous and windows.X.flags.owndata
    windows.X[:] = 0
    assert frame["temp"].tolist() == rooms["temp"].tolist()


def test_the_input_is_left_alone(rooms):
    before = rooms.copy(deep=True)
    sliding_windows(rooms, 2, group="room", time="hour", target="door", horizon=None)
    pd.testing.assert_frame_equal(rooms, before)


def test_there_is_no_python_loop_over_rows_or_windows():
    """However many windows: the same lines of tawt_sklearn.events run equally often."""
    folder = Path(module.__file__).parent

    def lines_run(n_rows: int) -> int:
        count = 0

        def tracer(frame, event, _):
            nonlocal count
            if Path(frame.f_code.co_filename).parent != folder:
                return None
            count += event == "line"
            return tracer

        frame = numbered([n_rows // 4] * 4)
        frame["kind"] = np.where(frame["value"] % 3 == 0, "x", "y")
        before = sys.gettrace()
        sys.settrace(tracer)
        try:
            sliding_windows(frame, 5, group="group", time="time", target="value", horizon=2)
        finally:
            sys.settrace(before)
        return count

    assert lines_run(100) == lines_run(20_000) > 0


# -- targets --------------------------------------------------------------------------------


def test_the_target_at_the_last_step_is_no_channel(rooms):
    windows = sliding_windows(rooms, 3, group="room", time="hour", target="door")
    assert windows.channels == ["temp"]
    assert windows.y.tolist() == list("oocooo")
    assert windows.y.dtype == object


def test_the_group_itself_can_be_the_target(rooms):
    windows = sliding_windows(rooms, 4, group="room", time="hour", target="room")
    assert windows.y.tolist() == windows.groups.tolist() == ["b", "b", "b", "a"]
    assert windows.channels == ["temp", "door"]


def test_later_targets_have_their_past_among_the_channels(rooms):
    windows = sliding_windows(rooms, 3, group="room", time="hour", target="temp", horizon=2)
    assert windows.channels == ["temp", "door"]
    assert windows.y.tolist() == [[3, 4], [4, 5]]
    assert windows.X[:, 0].tolist() == [[0, 1, 2], [1, 2, 3]]


@pytest.mark.parametrize(
    ("horizon", "shape"), [(0, (6,)), (1, (4, 1)), (2, (2, 2)), (None, (6, 3))]
)
def test_shapes_of_the_targets(rooms, horizon, shape):
    rooms["more"] = rooms["temp"] + 100

    def cut(target):
        return sliding_windows(
            rooms, 3, group="room", time="hour", target=target, channels=["door"], horizon=horizon
        )

    one, several = cut("temp"), cut(["temp", "more"])
    assert one.y.shape == shape
    assert cut(["temp"]).y.shape == (*shape, 1)
    assert several.y.shape == (*shape, 2)
    np.testing.assert_array_equal(several.y[..., 0], one.y)
    np.testing.assert_array_equal(several.y[..., 1], one.y + 100)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([3, 1, 2], np.int32), np.array([3, 1, 2], np.int64)),
        (pd.array([3, 1, 2], dtype="Int16"), np.array([3, 1, 2], np.int64)),
        (pd.array([3, None, 2], dtype="Int64"), np.array([3, np.nan, 2])),
        (np.array([3, 1, 2], object), np.array([3, 1, 2], np.int64)),
        (np.array([0.5, 1, np.nan], np.float32), np.array([0.5, 1, np.nan], np.float64)),
        (np.array([True, False, True]), np.array([True, False, True])),
        (pd.array([True, None, False], dtype="boolean"), np.array([True, None, False], object)),
        (pd.array(["u", "v", None], dtype="str"), np.array(["u", "v", None], object)),
        (pd.Categorical(["u", "v", None]), np.array(["u", "v", None], object)),
        (pd.Categorical([3, 1, 3]), np.array([3, 1, 3], np.int64)),
    ],
    ids=lambda values: str(values.dtype),
)
def test_kinds_of_targets(values, expected):
    windows = sliding_windows(pd.DataFrame({"x": [1.0, 2, 3], "y": values}), 1, target="y")
    assert windows.y.dtype == expected.dtype
    assert pd.Series(windows.y).equals(pd.Series(expected))


# -- gaps and times -------------------------------------------------------------------------


def test_windows_and_targets_that_straddle_a_gap_are_lost():
    frame = numbered([10], gaps={5})
    windows = sliding_windows(frame, 3, time="time", channels=["value"])
    assert windows.X[:, 0, -1].tolist() == [2, 3, 4, 7, 8, 9]
    assert windows.n_lost == 2
    later = sliding_windows(frame, 3, time="time", target="value", channels=["value"], horizon=1)
    assert later.X[:, 0, -1].tolist() == [2, 3, 7, 8]
    assert later.n_lost == 3
    assert sliding_windows(frame, 3, channels=["value"]).n_lost == 0


@pytest.mark.parametrize(
    "times",
    [
        pd.date_range("2020-03-28", periods=8, freq="10min"),
        pd.date_range("2020-03-28 22:00", periods=8, freq="h", tz="Europe/Vienna"),
        pd.to_timedelta(np.arange(8) * 20, unit="min"),
        pd.array(np.arange(8), dtype="UInt8"),
        pd.array(np.arange(8), dtype="Int64"),
        pd.array(np.arange(8) * 0.1, dtype="Float64"),
        np.arange(8) * 0.1,
        1e4 + np.arange(8) * 0.1,
        (1e3 + np.arange(8) * 0.1).astype(np.float32),
        np.array([dt.datetime(2020, 1, 1, hour) for hour in range(8)], dtype=object),
        pd.Categorical(np.arange(8)),
        pd.array(np.arange(8), dtype=pd.ArrowDtype(pa.int64())),
    ],
    ids=lambda times: str(times.dtype),
)
def test_kinds_of_times(times):
    frame = pd.DataFrame({"x": np.arange(8.0), "t": times})
    without = frame.drop(index=4).sample(frac=1.0, random_state=1)
    whole = sliding_windows(frame.iloc[::-1], 3, time="t")
    assert whole.n_lost == 0
    assert whole.X[:, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]
    gap = sliding_windows(without, 3, time="t")
    assert gap.n_lost == 2
    assert gap.X[:, 0, -1].tolist() == [2, 3, 7]
    assert gap.index["start"].tolist() == frame["t"].tolist()[:2] + frame["t"].tolist()[5:6]


def test_the_usual_step_is_the_most_common_one_and_the_smaller_of_two():
    frame = pd.DataFrame({"x": np.arange(7.0), "t": [0, 2, 4, 6, 7, 8, 9]})
    assert sliding_windows(frame, 4, time="t").X[:, 0].tolist() == [[3, 4, 5, 6]]
    frame = pd.DataFrame({"x": np.arange(6.0), "t": [0, 2, 4, 6, 7, 8]})
    assert sliding_windows(frame, 4, time="t").X[:, 0].tolist() == [[0, 1, 2, 3]]


def test_single_steps_have_no_gaps():
    frame = pd.DataFrame({"g": [1, 2], "t": [0, 9], "x": [1.0, 2.0]})
    windows = sliding_windows(frame, 1, group="g", time="t")
    assert windows.X.ravel().tolist() == [1, 2]


# -- short groups ---------------------------------------------------------------------------


def test_windows_may_begin_before_their_group_does():
    arguments = {"group": "group", "time": "time", "target": "value", "horizon": 2}
    windows = sliding_windows(numbered([2, 3, 9]), 4, 9, min_length=1, **arguments)
    assert windows.groups.tolist() == [1, 2]
    np.testing.assert_array_equal(windows.X[:, 0], [[np.nan, np.nan, np.nan, 2], [8, 9, 10, 11]])
    assert windows.y.tolist() == [[3, 4], [12, 13]]
    assert windows.index["start"].tolist() == [2, 8]
    assert sliding_windows(numbered([2, 3, 9]), 4, 9, **arguments).groups.tolist() == [2]


@pytest.mark.parametrize(
    ("target", "dtype", "missing"),
    [
        (np.array([1, 2]), np.float64, True),
        (np.array([1.0, 2.0]), np.float64, True),
        (np.array(["u", "v"]), object, None),
        (np.array([True, False]), object, None),
    ],
    ids=["int", "float", "text", "bool"],
)
def test_padding_of_a_target_for_every_step(target, dtype, missing):
    frame = pd.DataFrame({"x": [1.0, 2.0], "y": target})
    y = sliding_windows(frame, 3, target="y", horizon=None, min_length=2).y
    assert y.dtype == dtype
    assert y[0, 0] is None if missing is None else np.isnan(y[0, 0])
    assert y[0, 1:].tolist() == target.tolist()
    whole = sliding_windows(frame, 2, target="y", horizon=None).y
    assert whole.tolist() == [target.tolist()]
    assert whole.dtype == (object if target.dtype.kind == "U" else target.dtype)


# -- categories -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "codes", "categories"),
    [
        (["v", "u", None], [1, 0, np.nan], ["u", "v"]),
        (np.array(["v", "u", None], object), [1, 0, np.nan], ["u", "v"]),
        (pd.Categorical(["v", "u", None], ["w", "v", "u"]), [1, 2, np.nan], ["w", "v", "u"]),
        (pd.Categorical([7, 5, 7]), [1, 0, 1], [5, 7]),
        ([True, True, True], [1, 1, 1], [False, True]),
        (pd.array([True, None, False], dtype="boolean"), [1, np.nan, 0], [False, True]),
        (np.array([True, None, False], object), [1, np.nan, 0], [False, True]),
    ],
)
def test_text_bools_and_categories_become_codes(values, codes, categories):
    windows = sliding_windows(pd.DataFrame({"n": [1.0, 2, 3], "x": values}), 3)
    np.testing.assert_array_equal(windows.X[0, 1], codes)
    assert windows.categorical_features == [1]
    assert windows.categories == {"x": categories}


def test_test_data_get_the_codes_of_the_training_data_and_new_values_the_next_ones():
    train = sliding_windows(pd.DataFrame({"x": list("cab"), "n": [1.0, 2, 3]}), 3)
    frame = pd.DataFrame({"n": [1.0] * 5, "x": ["z", "b", "y", None, "c"]})

    for given_as in (train, train.categories):
        test = sliding_windows(frame, 5, categories=given_as, channels=["x", "n"])
        np.testing.assert_array_equal(test.X[0, 0], [4, 1, 3, np.nan, 2])
        assert test.categories == {"x": ["a", "b", "c", "y", "z"]}
    assert train.categories == {"x": ["a", "b", "c"]}
    # From windows, the channels and their order are those of the training data as well.
    assert sliding_windows(frame, 5, categories=train).channels == ["x", "n"]
    assert sliding_windows(frame, 5, categories=train.categories).channels == ["n", "x"]


@pytest.mark.parametrize(
    ("values", "known", "codes", "categories"),
    [
        (["b", "n", "a"], ["a", "b"], [1, 2, 0], ["a", "b", "n"]),
        (np.array(["b", "n", "a"], object), ["a", "b"], [1, 2, 0], ["a", "b", "n"]),
        (
            pd.Categorical(["b", "n", "a"], ["unused", "n", "b", "a"]),
            ["a", "b"],
            [1, 2, 0],
            ["a", "b", "n"],
        ),
        ([7, 5, 6], np.array([5, 7]), [1, 0, 2], [5, 7, 6]),
    ],
)
def test_known_categories_go_before_the_order_of_the_column(values, known, codes, categories):
    windows = sliding_windows(pd.DataFrame({"x": values}), 3, categories={"x": known})
    assert windows.X.tolist() == [[codes]]
    assert windows.categorical_features == [0]
    assert windows.categories == {"x": categories}


def test_text_in_a_channel_of_numbers_is_refused():
    train = sliding_windows(pd.DataFrame({"x": [1.0]}), 1)
    with pytest.raises(DataError, match=r"Expected numbers in 'x', as in the windows"):
        sliding_windows(pd.DataFrame({"x": ["1.0"]}), 1, categories=train)


@pytest.mark.parametrize(
    ("columns", "dtype"),
    [
        ({"a": "float32", "b": "float32"}, np.float32),
        ({"a": "float32", "b": "category"}, np.float32),
        ({"a": "float32", "b": "float64"}, np.float64),
        ({"a": "int32", "b": "float32"}, np.float64),
        ({"a": "Int64", "b": "Float32"}, np.float64),
        ({"a": "category", "b": "bool"}, np.float64),
    ],
)
def test_the_dtype_of_the_panel(columns, dtype):
    frame = pd.DataFrame({"a": [1, 0], "b": [0, 1]}).astype(columns)
    windows = sliding_windows(frame, 2)
    assert windows.X.dtype == dtype
    assert windows.X.tolist() == [[[1, 0], [0, 1]]]


def test_missing_numbers_and_objects_of_numbers():
    frame = pd.DataFrame(
        {
            "a": pd.array([1, None], dtype="Int64"),
            "b": np.array([None, 2.5], object),
            "c": np.array([None, None], object),
        }
    )
    X = sliding_windows(frame, 2).X
    np.testing.assert_array_equal(X, [[[1, np.nan], [np.nan, 2.5], [np.nan, np.nan]]])


# -- the result -----------------------------------------------------------------------------


def test_take_keeps_everything_together(rooms):
    windows = sliding_windows(rooms, 3, group="room", time="hour", target="door")
    mask = np.array([True, False, False, False, True, True])
    for rows in (mask, [0, 4, 5], np.array([0, 4, -1]), pd.Series(mask)):
        some = windows.take(rows)
        np.testing.assert_array_equal(some.X, windows.X[[0, 4, 5]])
        assert some.y.tolist() == ["o", "o", "o"]
        assert some.groups.tolist() == ["b", "a", "a"]
        assert some.index["end"].tolist() == [2, 2, 3]
        assert some.index.index.tolist() == [0, 1, 2]
        assert (some.channels, some.n_lost) == (windows.channels, windows.n_lost)
    assert windows.take(slice(0, 2)).groups.tolist() == ["b", "b"]
    assert len(windows.take([])) == len(windows.take(~np.ones(6, bool))) == 0
    assert sliding_windows(rooms, 3).take([0]).y is None


@pytest.mark.parametrize("rows", [[6], [True, False], [0.5], "b", [[0]], 1])
def test_take_of_what_is_not_there(rooms, rows):
    windows = sliding_windows(rooms, 3, group="room", time="hour")
    with pytest.raises(DataError, match=r"Expected .*positions"):
        windows.take(rows)


def test_a_later_window_may_look_back_across_the_split():
    frame = pd.DataFrame({"x": np.arange(8.0)})
    windows = sliding_windows(frame, 3, target="x", horizon=2)
    assert windows.y.tolist() == [[3, 4], [4, 5], [5, 6], [6, 7]]
    before, after = windows.split_at(5)
    assert before.y.tolist() == [[3, 4]]
    assert after.y.tolist() == [[5, 6], [6, 7]]
    assert after.X[0, 0].tolist() == [2, 3, 4]


def test_windows_without_targets_are_split_by_their_last_step():
    before, after = sliding_windows(pd.DataFrame({"x": np.arange(5.0)}), 3).split_at(3)
    assert before.index["end"].tolist() == [2]
    assert after.index["end"].tolist() == [3, 4]


DAYS = pd.date_range("2020-01-01", periods=5)


@pytest.mark.parametrize(
    ("times", "moment"),
    [
        (DAYS, "2020-01-03"),
        (DAYS, pd.Timestamp("2020-01-03")),
        (DAYS, dt.datetime(2020, 1, 3)),
        (DAYS, dt.date(2020, 1, 3)),
        (DAYS, np.datetime64("2020-01-03")),
        (DAYS.tz_localize("Europe/Vienna"), pd.Timestamp("2020-01-02 23:00", tz="UTC")),
        (DAYS - DAYS[0], dt.timedelta(days=2)),
        (pd.array(np.arange(5), dtype="Int64"), 2),
    ],
)
def test_moments_of_the_clock_of_the_times(times, moment):
    frame = pd.DataFrame({"x": np.arange(5.0), "t": times})
    before, after = sliding_windows(frame, 1, time="t").split_at(moment)
    assert (len(before), len(after)) == (2, 3)
    # An empty side can be split, too.
    assert [len(side) for side in before.take([]).split_at(moment)] == [0, 0]


@pytest.mark.parametrize(
    ("time", "moment", "message"),
    [
        ("stamp", 3, "Expected a datetime to split windows at"),
        ("stamp", "soon", "Expected a datetime"),
        ("stamp", pd.NaT, "Expected a datetime"),
        ("stamp", None, "Expected a datetime"),
        ("stamp", pd.Timestamp("2020-01-02", tz="UTC"), "the same time zone, or none"),
        ("number", "2020-01-02", "Expected a number"),
        ("number", np.nan, "Expected a number"),
        ("number", True, "Expected a number"),
        ("number", np.timedelta64(1, "h"), "Expected a number"),
        ("delta", 3.0, "Expected a time difference"),
    ],
)
def test_moments_of_another_clock(time, moment, message):
    frame = pd.DataFrame({"x": np.arange(3.0), "number": [0, 1, 2]})
    frame["stamp"] = pd.date_range("2020-01-01", periods=3)
    frame["delta"] = pd.to_timedelta([0, 1, 2], unit="h")
    windows = sliding_windows(frame, 1, time=time, channels=["x"])
    with pytest.raises(DataError, match=message):
        windows.split_at(moment)


def test_windows_pickle_and_show_their_shapes(rooms):
    windows = sliding_windows(rooms, 3, group="room", time="hour", target="temp", horizon=1)
    again = pickle.loads(pickle.dumps(windows))
    np.testing.assert_array_equal(again.X, windows.X)
    assert repr(windows) == repr(again) == "Windows(X=(4, 2, 3), y=(4, 1), n_lost=0)"
    assert repr(sliding_windows(rooms[["temp"]], 9)) == "Windows(X=(2, 1, 9), y=None, n_lost=0)"


def test_the_public_names():
    assert tawt_sklearn.sliding_windows is sliding_windows
    assert isinstance(sliding_windows(pd.DataFrame({"x": [1.0]}), 1), Windows)


# -- other tables ---------------------------------------------------------------------------


def test_polars_arrow_and_levels_of_the_index(rooms):
    arguments = {"group": "room", "time": "hour", "target": "temp", "horizon": 1}
    expected = sliding_windows(rooms, 3, **arguments)
    for table in (
        pl.from_pandas(rooms),
        pa.Table.from_pandas(rooms),
        rooms.set_index(["room", "hour"]),
        rooms.convert_dtypes(dtype_backend="pyarrow"),
        rooms.astype({"room": "category"}),
    ):
        windows = sliding_windows(table, 3, **arguments)
        np.testing.assert_array_equal(windows.X, expected.X)
        np.testing.assert_array_equal(windows.y, expected.y)
        assert windows.groups.tolist() == expected.groups.tolist()
        assert windows.index["target_end"].tolist() == expected.index["target_end"].tolist()
        assert windows.categories == expected.categories


@pytest.mark.parametrize("dtype", ["int32", "Int64", "str", "category", "datetime64[s]"])
def test_groups_of_any_kind_go_into_a_group_k_fold(dtype):
    frame = pd.DataFrame({"g": pd.Series([4, 4, 2, 2, 3, 3]).astype(dtype), "x": np.arange(6.0)})
    windows = sliding_windows(frame, 1, group="g")
    assert windows.groups.tolist() == frame["g"].to_numpy().tolist()
    for train, test in GroupKFold(3).split(windows.X, groups=windows.groups):
        assert not set(windows.groups[train]) & set(windows.groups[test])


# -- what is refused ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"length": 0}, "Expected length to be a whole number of steps, 1 or more. Got 0"),
        ({"length": 2.0}, "Expected length"),
        ({"length": True}, "Expected length"),
        ({"stride": 0}, "Expected stride"),
        ({"stride": None}, "Expected stride"),
        ({"horizon": -1, "target": "temp"}, "Expected horizon to be 0 .* Got -1"),
        ({"horizon": 1.5, "target": "temp"}, "Expected horizon"),
        ({"horizon": True, "target": "temp"}, "Expected horizon"),
        ({"horizon": 2}, r"Expected a target to predict with horizon=2. Got target=None"),
        ({"horizon": None}, "Expected a target"),
        ({"horizon": 1, "target": []}, "Expected a target"),
        ({"min_length": 3}, "Expected min_length up to length=2. Got 3"),
        ({"min_length": 0}, "Expected min_length"),
        (
            {"group": "flat"},
            r"Expected a column 'flat' \(group=\) in frame. Got the columns 'room'",
        ),
        ({"time": "when"}, r"Expected a column 'when' \(time=\)"),
        ({"target": "what"}, r"Expected a column 'what' \(target=\)"),
        ({"target": ["temp", "what"]}, r"Expected a column 'what' \(target=\)"),
        ({"channels": ["temp", "x"]}, r"Expected a column 'x' \(channels=\)"),
        ({"categories": {"x": ["a"]}}, r"Expected a column 'x' \(categories=\)"),
        ({"group": ["room", "hour"]}, "Expected group to be the name of one column.*ngroup"),
        ({"time": ["hour"]}, "Expected time to be the name of one column"),
        ({"time": "room"}, "Expected different columns as group and time. Got 'room' for both"),
        ({"channels": []}, "Expected at least one channel"),
        ({"channels": ["temp", "temp"]}, "Expected each channel once. Got 'temp' 2 times"),
        ({"channels": ["temp"], "target": "temp"}, "channels without the target 'temp'"),
        (
            {"channels": "temp", "target": "temp", "horizon": None},
            "channels without the target 'temp'",
        ),
        ({"target": ["temp", "door"], "horizon": 1}, "Expected target columns of one kind"),
        ({"categories": [["a"]]}, "Expected categories to be a dictionary.*Got list"),
        ({"categories": {"door": ["o", "o"]}}, "categories of 'door' that differ. Got 2 values, 1"),
        (
            {"length": 7},
            r"the 7 steps of a window. Got 2 groups, the longest with 6 steps. Use a smaller "
            r"length or horizon, or take shorter histories",
        ),
        (
            {"length": 2, "horizon": 6, "target": "temp", "min_length": 1},
            r"and 6 steps after it. Got 2 groups, the longest with 6 steps. Use a smaller length "
            r"or horizon\.$",
        ),
    ],
)
def test_arguments_that_do_not_fit(rooms, arguments, message):
    with pytest.raises(DataError, match=message):
        sliding_windows(rooms, **{"length": 2, "group": "room", "time": "hour", **arguments})


def test_what_is_no_table_an_empty_one_or_one_with_a_column_twice(rooms):
    for frame, message in (
        (np.zeros((3, 2)), r"Expected frame to be a table.*Got ndarray"),
        (rooms.iloc[:0], "Expected a frame with one row per step. Got one without"),
        (pd.concat([rooms, rooms[["temp"]]], axis=1), "one column 'temp' in frame. Got 2"),
    ):
        with pytest.raises(DataError, match=message):
            sliding_windows(frame, 2)


@pytest.mark.parametrize(("role", "column"), [("group", "room"), ("time", "hour")])
def test_missing_groups_and_times(rooms, role, column):
    rooms[column] = rooms[column].where(~rooms.index.isin([1, 4]))
    with pytest.raises(
        DataError,
        match=rf"every row to have a {role} \('{column}'\). Got 2 rows without \(rows 1, 4\)",
    ):
        sliding_windows(rooms, 2, group="room", time="hour")


def test_several_rows_of_a_group_and_time(rooms):
    rooms.loc[[3, 8], "hour"] = [2, 1]
    with pytest.raises(
        DataError, match=r"Got several, the first for b at 2 \(rows 2, 3\). Drop or average"
    ):
        sliding_windows(rooms, 2, group="room", time="hour")
    with pytest.raises(DataError, match=r"the first for 0 \(rows 0, 6\).*or name the group"):
        sliding_windows(rooms, 2, time="hour", channels=["temp"])


@pytest.mark.parametrize("arguments", [{}, {"target": "temp"}, {"time": "temp"}])
def test_infinite_numbers(rooms, arguments):
    rooms.loc[[2, 5], "temp"] = [np.inf, -np.inf]
    with pytest.raises(
        DataError, match=r"Expected finite numbers in 'temp'. Got 2 infinite ones \(rows 2, 5\)"
    ):
        sliding_windows(rooms, 2, group="room", **arguments)
    rooms.loc[5, "temp"] = 5
    with pytest.raises(DataError, match=r"'temp'. Got 1 infinite one \(row 2\)"):
        sliding_windows(rooms, 2, group="room", **arguments)


@pytest.mark.parametrize(
    "times",
    [
        ["2020-01-01", "2020-01-02"],
        pd.period_range("2020-01", periods=2, freq="M"),
        [True, False],
    ],
)
def test_times_that_are_none(times):
    frame = pd.DataFrame({"x": [1.0, 2.0], "t": times})
    with pytest.raises(
        DataError, match=r"Expected numbers, datetimes or time differences as times"
    ):
        sliding_windows(frame, 1, time="t")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (pd.to_datetime(["2020-01-01", "2020-01-02"]), "TimeEmbedder"),
        (pd.to_datetime(["2020-01-01", "2020-01-02"], utc=True), "TimeEmbedder"),
        (pd.to_timedelta([1, 2], unit="h"), "TimeEmbedder"),
        (pd.period_range("2020-01", periods=2, freq="M"), "TimeEmbedder"),
        (np.array([dt.date(2020, 1, 1), None], object), "TimeEmbedder"),
        (np.array(["a", 1], object), r"Got mixed values. Convert it to one kind"),
        (pd.Series([[1], (2,)]), r"Got mixed values"),
        (np.array([1j, 2j]), r"Got complex128 values"),
        (pd.interval_range(0, 2), r"Got interval\[int64, right\] values"),
    ],
)
@pytest.mark.parametrize("role", ["channel", "target"])
def test_columns_of_another_kind(values, message, role):
    frame = pd.DataFrame({"n": [1.0, 2.0], "x": values})
    with pytest.raises(DataError, match=f"in the {role} 'x'.*{message}"):
        sliding_windows(frame, 1, target="x" if role == "target" else None)


def test_histories_are_no_channel(rooms):
    nested = nest_events(rooms, subject="room", time="hour", code="door", value="temp")
    with pytest.raises(DataError, match=r"in the channel 'events'. Got events"):
        sliding_windows(nested, 1)


def test_groups_that_are_no_labels():
    frame = pd.DataFrame({"g": [[1], [2]], "x": [1.0, 2.0]})
    with pytest.raises(DataError, match="Expected one string, number or date per row as group"):
        sliding_windows(frame, 1, group="g")


def test_all_windows_lost():
    frame = pd.DataFrame({"x": np.arange(6.0), "t": [0, 1, 3, 4, 6, 7]})
    with pytest.raises(
        DataError,
        match=r"3 steps.*Got 4 windows, all.*The usual step is 1, and 2 steps differ. Use",
    ):
        sliding_windows(frame, 3, time="t")


# -- real data ------------------------------------------------------------------------------


def read_real(data_home: Path, name: str) -> pd.DataFrame:
    path = data_home / name / f"{name}.parquet"
    if not path.is_file():
        pytest.skip(f"no real data: {path} is missing")
    return pd.read_parquet(path)


def test_beijing_air(data_home):
    frame = read_real(data_home, "beijing_air")

    windows = sliding_windows(
        frame, 72, 24, group="station", time="time", target="PM2.5", horizon=24
    )

    per_station = (35_064 - 96) // 24 + 1
    assert windows.X.shape == (8 * per_station, 12, 72)
    assert windows.X.dtype == np.float32
    assert windows.y.shape == (8 * per_station, 24)
    assert windows.n_lost == 0
    assert windows.categorical_features == [11]
    assert windows.categories["wd"] == frame["wd"].cat.categories.tolist()
    assert windows.index["target_end"].max() == frame["time"].max()
    rng = np.random.default_rng(0)
    for i in rng.integers(0, len(windows), 20):
        row = windows.index.loc[i]
        part = frame[frame["station"] == row["group"]].set_index("time")
        inside = part.loc[row["start"] : row["end"]]
        np.testing.assert_array_equal(windows.X[i, 6], inside["TEMP"])
        codes = inside["wd"].cat.codes.replace(-1, np.nan)
        np.testing.assert_array_equal(windows.X[i, 11], codes)
        np.testing.assert_array_equal(
            windows.y[i], part.loc[row["target_start"] : row["target_end"], "PM2.5"]
        )
    before, after = windows.split_at("2016-03-01")
    assert before.index["target_end"].max() < pd.Timestamp("2016-03-01")
    assert after.index["target_start"].min() >= pd.Timestamp("2016-03-01")
    assert len(windows) - 8 * 4 <= len(before) + len(after) <= len(windows)


def test_cmapss(data_home):
    frame = read_real(data_home, "cmapss")
    names = ["subset", "split", "unit"]
    engines = frame.groupby(names, observed=True)
    frame = frame.assign(engine=engines.ngroup()).drop(columns=names)
    arguments = {"group": "engine", "time": "cycle", "target": "rul"}
    lengths = frame["engine"].value_counts()

    every = sliding_windows(frame, 30, **arguments)
    last = sliding_windows(frame, 50, 10_000, min_length=1, **arguments)

    assert every.X.shape == ((lengths - 29).clip(0).sum(), 24, 30)
    assert every.y.dtype == np.int64
    assert every.n_lost == 0
    assert len(last) == len(lengths)
    ends = frame.groupby("engine", sort=False).last()
    assert last.y.tolist() == ends["rul"].tolist()
    np.testing.assert_array_equal(last.X[:, 23, -1], ends["s21"])
    short = lengths.reindex(ends.index).to_numpy() < 50
    assert short.any()
    assert (np.isnan(last.X).any(axis=(1, 2)) == short).all()


@pytest.mark.filterwarnings("error")
def test_targets_that_look_like_labels_of_steps_are_announced(rooms):
    with pytest.warns(DataWarning, match="Targets of 2 steps after windows of 2.*per_step=False"):
        sliding_windows(rooms, 2, group="room", time="hour", target="temp", horizon=2)
    sliding_windows(rooms, 2, group="room", time="hour", target="temp", horizon=1)
