"""``Series.events`` against the long frame that the column stands for."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tawt_sklearn.events import EventsArray
from tawt_sklearn.exceptions import DataError

ZONE = "Europe/Vienna"


def column(index=("p", "q", "r", "s"), **changes):
    """Two events, none, three with a tie, and a missing row."""
    array = EventsArray.from_flat(
        time=[0.5, 2.0, 1.0, 1.0, 3.0],
        code=[0, 1, 0, -1, 1],
        value=[80.0, np.nan, 95.0, 1.0, np.nan],
        offsets=[0, 2, 2, 5, 5],
        codes=["hr", "temp"],
        isna=[False, False, False, True],
    )
    return pd.Series(array._replace(**changes), index=index, name="events")


@pytest.fixture
def events():
    return column()


@pytest.fixture
def dated():
    return column(timezone=ZONE)


def hour(number, tz="UTC"):
    return pd.Timestamp(0, tz="UTC").tz_convert(tz) + pd.Timedelta(hours=number)


def test_only_on_events():
    with pytest.raises(AttributeError, match=r"Expected a column of events dtype.*Got int64"):
        pd.Series([1]).events


def test_flat_fields_are_not_copies(events):
    array = events.array
    assert events.events.array is array
    for field in ("time", "code", "value"):
        flat = events.events.flat(field)
        assert np.shares_memory(flat, getattr(array, field)) and not flat.flags.writeable
        assert getattr(array, field).flags.writeable  # only the view given away is read-only
    assert events.events.flat("row").tolist() == [0, 0, 2, 2, 2]
    assert events.events.flat("text").tolist() == [-1] * 5
    assert events.events.flat("text").dtype == np.int32
    texts = column(text=[0, -1, -1, -1, -1], texts=["af"])
    assert np.shares_memory(texts.events.flat("text"), texts.array.text)
    with pytest.raises(DataError, match=r"Expected field to be 'time'.*Got 'start'"):
        events.events.flat("start")


def test_properties(events, dated):
    accessor = events.events
    assert accessor.offsets.tolist() == [0, 2, 2, 5, 5]
    assert accessor.lengths.tolist() == [2, 0, 3, 0]
    assert accessor.codes.tolist() == ["hr", "temp"]
    assert accessor.texts.tolist() == []
    assert np.isnan(accessor.start).all() and np.isnan(accessor.end).all()
    assert (accessor.time_unit, accessor.timezone, accessor.vocabulary) == ("h", None, None)
    assert dated.events.timezone == ZONE
    assert column(vocabulary="{}").events.vocabulary == "{}"


# -- to_long ------------------------------------------------------------------------------------


def test_to_long(events):
    expected = pd.DataFrame(
        {
            "subject_id": ["p", "p", "r", "r", "r"],
            "time": [0.5, 2.0, 1.0, 1.0, 3.0],
            "code": ["hr", "temp", "hr", None, "temp"],
            "value": np.array([80, np.nan, 95, 1, np.nan], dtype=np.float32),
        }
    )
    pd.testing.assert_frame_equal(events.events.to_long(), expected)


def test_to_long_restores_datetimes_and_texts():
    events = column(timezone=ZONE, text=[-1, 0, -1, -1, 0], texts=["af"], codes=[7, 8])
    long = events.rename_axis("stay").events.to_long()
    assert long.columns.tolist() == ["stay", "time", "code", "value", "text"]
    assert long["time"].dtype == f"datetime64[us, {ZONE}]"
    assert long["time"].tolist() == [hour(0.5), hour(2), hour(1), hour(1), hour(3)]
    assert long["code"].tolist() == [7, 8, 7, pd.NA, 8] and long["code"].dtype == "Int64"
    assert long["text"].tolist()[1] == "af" and long["text"].isna().sum() == 3
    assert column(codes=[7, 8], code=[0] * 5).events.to_long()["code"].dtype == "int64"


def test_to_long_names_every_index_level(events):
    levels = pd.MultiIndex.from_arrays([[1, 1, 2, 3], list("abcd")], names=["subject", None])
    events = events.set_axis(levels)
    long = events.events.to_long()
    assert long.columns.tolist()[:2] == ["subject", "level_1"]
    assert long["level_1"].tolist() == ["a", "a", "c", "c", "c"]
    assert events.events.to_long(["x", "y"]).columns.tolist()[:2] == ["x", "y"]
    with pytest.raises(DataError, match=r"Expected 2 names .* Got \['x'\]"):
        events.events.to_long("x")
    with pytest.raises(DataError, match=r"different from each other"):
        events.events.to_long(["x", "x"])
    with pytest.raises(DataError, match=r"and from time, code"):
        events.rename_axis(["time", "y"]).events.to_long()


@pytest.mark.parametrize("rows", [slice(0, 0), slice(1, 2), slice(3, 4)])
def test_to_long_of_nothing_keeps_the_columns(events, rows):
    long = events.iloc[rows].events.to_long()
    assert long.empty
    assert long.dtypes.to_dict() == {
        "subject_id": events.index.dtype,
        "time": np.float64,
        "code": pd.StringDtype(na_value=np.nan),
        "value": np.float32,
    }


# -- until and window ---------------------------------------------------------------------------


def test_until_keeps_events_at_that_time(events):
    cut = events.events.until(1.0)
    assert cut.name == "events" and cut.index.equals(events.index)
    assert cut.events.flat("time").tolist() == [0.5, 1.0, 1.0]
    assert cut.events.offsets.tolist() == [0, 1, 1, 3, 3]
    np.testing.assert_array_equal(cut.events.end, [1.0, 1.0, 1.0, np.nan])
    assert np.isnan(cut.events.start).all()
    assert cut.isna().tolist() == [False, False, False, True]
    assert cut.events.codes is events.events.codes
    assert events.events.lengths.tolist() == [2, 0, 3, 0]
    for same in (pd.Timedelta("1h"), np.array(1.0), pd.to_timedelta([1.0] * 4, unit="h")):
        assert events.events.until(same).equals(cut)
    with pytest.raises(DataError, match=r"shape \(4, 1\). Give one column"):
        events.events.until(pd.DataFrame({"prediction_time": [1.0] * 4}))


def test_window_is_closed_on_both_sides(events):
    cut = events.events.window(1.0, [2.0, 2.0, 3.0, 3.0])
    assert cut.events.flat("time").tolist() == [2.0, 1.0, 1.0, 3.0]
    np.testing.assert_array_equal(cut.events.start, [1.0, 1.0, 1.0, np.nan])
    np.testing.assert_array_equal(cut.events.end, [2.0, 2.0, 3.0, np.nan])
    assert events.events.window(5.0, 6.0).events.lengths.tolist() == [0, 0, 0, 0]


def test_until_moves_a_later_start():
    cut = column(start=[0.0, 2.0, 2.0, np.nan]).events.until(1.0)
    np.testing.assert_array_equal(cut.events.start, [0.0, 1.0, 1.0, np.nan])


@given(
    st.lists(st.tuples(st.lists(st.integers(-3, 3)), st.integers(-4, 4), st.integers(0, 4))),
)
def test_cuts_agree_with_a_loop(rows):
    histories = [sorted(times) for times, _, _ in rows]
    flat = [time for times in histories for time in times]
    events = pd.Series(
        EventsArray.from_flat(
            time=flat,
            code=[0] * len(flat),
            value=np.arange(len(flat)),
            offsets=np.cumsum([0, *map(len, histories)]),
            codes=["hr"],
        )
    )
    start = np.array([first for _, first, _ in rows], dtype=float)
    stop = start + np.array([width for _, _, width in rows], dtype=float)
    window, until = events.events.window(start, stop), events.events.until(stop)
    for cut, low in ((window, start), (until, np.full(len(rows), -np.inf))):
        kept = [
            [time for time in times if first <= time <= last]
            for times, first, last in zip(histories, low, stop, strict=True)
        ]
        assert cut.events.flat("time").tolist() == [time for times in kept for time in times]
        assert cut.events.lengths.tolist() == [len(times) for times in kept]
        cut.array._content.validate()
    value = until.events.flat("value")
    assert (np.isin(value, events.events.flat("value"))).all()


@pytest.mark.parametrize("form", [pd.Series, dict])
def test_times_are_aligned_by_label(events, form):
    times = form({"s": 9.0, "r": 1.0, "q": 9.0, "p": 0.5, "unknown": 0.0})
    assert events.events.until(times).events.lengths.tolist() == [1, 0, 2, 0]


def test_times_in_the_order_of_the_rows(events):
    for times in ([0.5, 9, 1, 9], np.array([0.5, 9, 1, 9]), pd.Index([0.5, 9, 1, 9])):
        assert events.events.until(times).events.lengths.tolist() == [1, 0, 2, 0]


def test_repeated_labels_are_fine_if_both_sides_are_the_same():
    events = column(index=[1, 1, 2, 2])
    times = pd.Series([0.5, 9, 1, 9], index=[1, 1, 2, 2])
    assert events.events.until(times).events.lengths.tolist() == [1, 0, 2, 0]
    with pytest.raises(DataError, match=r"Got several for 2"):
        events.events.until(times.iloc[::-1])


def test_several_rows_per_subject_align_by_all_levels():
    index = pd.MultiIndex.from_tuples([(1, 5.0), (1, 6.0), (2, 5.0), (3, 5.0)])
    events = column(index=index)
    times = pd.Series([9, 1, 9, 0.5], index=index[::-1])
    assert events.events.until(times).events.lengths.tolist() == [1, 0, 2, 0]


def test_labels_without_a_time_are_named(events):
    with pytest.raises(DataError, match=r"Got none for 2 of 4 rows: 'p', 'r'"):
        events.events.until(pd.Series({"q": 1.0, "s": 1.0}))
    with pytest.raises(DataError, match=r"Expected start for every row.*'p', 'q', 'r', ..."):
        events.events.window(pd.Series({1: 2.0}), 3.0)


def test_rows_without_a_finite_time_are_named(events):
    # A missing row needs no time.
    assert events.events.until([1.0, 1.0, 1.0, np.nan]).isna().iloc[3]
    with pytest.raises(DataError, match=r"finite time .* as times. Got nan for 1 rows.*'q'"):
        events.events.until([1.0, np.nan, 1.0, np.nan])
    with pytest.raises(DataError, match=r"as stop. Got inf for 3 rows.*'p'"):
        events.events.window(0.0, np.inf)


def test_wrong_number_of_times(events):
    with pytest.raises(DataError, match=r"one per row \(4\) as times. Got shape \(2,\)"):
        events.events.until([1.0, 2.0])


def test_windows_do_not_stop_before_they_start(events):
    with pytest.raises(DataError, match=r"Got start=2, stop=1 for row 'p' .first of 4"):
        events.events.window(2.0, 1.0)


@pytest.mark.parametrize(
    "time",
    [
        hour(1),
        hour(1, ZONE),
        hour(1, "Asia/Tokyo").to_pydatetime(),
        "1970-01-01 01:00+00:00",
        pd.Series([hour(1)] * 4, index=list("srqp")),
        pd.DatetimeIndex([hour(1)] * 4),
        [hour(1)] * 4,
    ],
)
def test_times_as_datetimes(dated, time):
    cut = dated.events.until(time)
    assert cut.events.lengths.tolist() == [1, 0, 2, 0]
    assert cut.events.end.tolist()[:3] == [1.0, 1.0, 1.0]


def test_naive_events_take_naive_times():
    naive = column(timezone="naive")
    assert naive.events.until("1970-01-01 01:00").events.lengths.tolist() == [1, 0, 2, 0]
    assert naive.events.until(np.datetime64("1970-01-01T01:00")).events.lengths.sum() == 3
    with pytest.raises(DataError, match=r"Expected naive datetimes as times.*in UTC"):
        naive.events.until(hour(1))


def test_times_of_another_kind_are_refused(events, dated):
    with pytest.raises(DataError, match=r"Expected time zone aware datetimes as times.*naive"):
        dated.events.until(pd.Timestamp("1970-01-01"))
    with pytest.raises(DataError, match=r"Expected datetimes as start"):
        dated.events.window(0.0, 1.0)
    with pytest.raises(DataError, match=r"Expected numbers as times.*in units of 'h'"):
        events.events.until(hour(1))
    with pytest.raises(DataError, match=r"Got NaT|Got nan"):
        dated.events.until(pd.NaT)


def test_empty_column_can_be_cut(events):
    for cut in (events.iloc[:0].events.until(1.0), events.iloc[:0].events.window(0.0, 1.0)):
        assert len(cut) == 0 and cut.dtype == "events[h]"
    assert len(events.iloc[:0].events.until([])) == 0
