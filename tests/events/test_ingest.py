"""nest_events: a long table in, one row per subject out."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tawt_sklearn.events import EventsDtype, nest_events
from tawt_sklearn.events.columns import read_times, read_values
from tawt_sklearn.events.order import stable_order
from tawt_sklearn.events.ragged import offsets_from_lengths
from tawt_sklearn.exceptions import DataError, DataWarning


@pytest.fixture
def long() -> pd.DataFrame:
    """Three subjects, shuffled, with a tie (b at 1.0), a missing code and missing values."""
    return pd.DataFrame(
        {
            "subject_id": ["b", "a", "c", "b", "a", "b", "b"],
            "time": [2.0, 0.5, 3.0, 1.0, -1.0, 1.0, 0.0],
            "code": ["temp", "hr", "hr", "wbc", "hr", "hr", None],
            "value": [37.5, 80.0, np.nan, 9.0, 70.0, 90.0, 1.0],
        }
    )


def rows_of(X: pd.DataFrame, name: str = "events") -> list[list[tuple]]:
    """All rows as lists of (time, code, value, text), NaN as None."""
    return [
        [
            (float(t), c, None if np.isnan(v) else round(float(v), 4), x)
            for t, c, v, x in zip(h.time, h.code, h.value, h.text, strict=True)
        ]
        for h in X[name].array
    ]


# -- order and rows -------------------------------------------------------------------------


def test_rows_are_sorted_subjects_and_events_are_in_time_order_with_ties_as_they_came(long):
    X = nest_events(long)

    assert X.index.tolist() == ["a", "b", "c"]
    assert X.index.name == "subject_id"
    assert X.columns.tolist() == ["events"]
    assert X["events"].dtype == "events[h]"
    assert rows_of(X) == [
        [(-1.0, "hr", 70.0, None), (0.5, "hr", 80.0, None)],
        [
            (0.0, None, 1.0, None),
            (1.0, "wbc", 9.0, None),
            (1.0, "hr", 90.0, None),
            (2.0, "temp", 37.5, None),
        ],
        [(3.0, "hr", None, None)],
    ]
    assert X["events"].events.codes.tolist() == ["hr", "temp", "wbc"]
    assert np.isnan(X["events"].events.end).all()


def test_sorted_input_gives_the_same_and_does_not_share_memory_with_it(long):
    ordered = long.sort_values(["subject_id", "time"], kind="stable")
    times = ordered["time"].to_numpy()

    X = nest_events(ordered)

    assert rows_of(X) == rows_of(nest_events(long))
    assert not np.shares_memory(X["events"].events.flat("time"), times)


def test_the_input_is_left_alone(long):
    before = long.copy(deep=True)
    nest_events(long, until=1.0)
    pd.testing.assert_frame_equal(long, before)


def test_the_events_column_can_have_another_name(long):
    assert nest_events(long, name="history").columns.tolist() == ["history"]


@pytest.mark.parametrize("n_events", [0, 1, 2, 50, 3000])
def test_stable_order_is_that_of_a_stable_sort(n_events):
    rng = np.random.default_rng(0)
    row = rng.integers(0, 20, n_events).astype(np.int32)
    offsets = offsets_from_lengths(np.bincount(row, minlength=20))
    for time in (
        rng.normal(size=n_events),
        np.round(rng.normal(size=n_events), 1),
        np.zeros(n_events),
        np.where(rng.random(n_events) < 0.5, 1e12, 0.0) + rng.random(n_events),
        rng.choice([-1e308, 0.0, 1e308], n_events),
        4e5 + rng.random(n_events) * 1e-9,
    ):
        expected = np.lexsort((time, row))
        order, ordered = stable_order(row, time, offsets)
        assert np.array_equal(np.arange(n_events) if order is None else order, expected)
        assert np.array_equal(ordered, time[expected])


def test_times_that_the_packed_sort_cannot_tell_apart_are_put_right():
    # One event in a million years: the other times fall together when squeezed into few bits.
    rng = np.random.default_rng(1)
    row = np.repeat(np.arange(2000, dtype=np.int32), 50)
    time = rng.random(len(row)) * 1e-3
    time[rng.integers(0, len(row), 500)] = 1e10
    order, _ = stable_order(row, time, offsets_from_lengths(np.full(2000, 50)))
    assert np.array_equal(order, np.lexsort((time, row)))


events_strategy = st.lists(
    st.tuples(
        st.sampled_from(["s1", "s2", "s3", "s4"]),
        st.integers(-5, 5).map(lambda step: step / 2),
        st.sampled_from(["hr", "temp", "ward", None]),
        st.one_of(st.none(), st.integers(-9, 9).map(float)),
    ),
    max_size=40,
)


@settings(max_examples=80, deadline=None)
@given(
    events=events_strategy,
    subjects=st.permutations(["s1", "s2", "s3", "s4"]),
    untils=st.one_of(
        st.none(),
        st.lists(
            st.tuples(
                st.sampled_from(["s1", "s2", "s3", "s4"]),
                st.integers(-5, 5).map(lambda step: step / 2),
            ),
            unique=True,
            min_size=1,
            max_size=8,
        ),
    ),
)
def test_agrees_with_grouping_one_subject_at_a_time(events, subjects, untils):
    frame = pd.DataFrame(
        {
            "subject_id": pd.Series([event[0] for event in events], dtype="str"),
            "time": pd.Series([event[1] for event in events], dtype="float64"),
            "code": pd.Series([event[2] for event in events], dtype="str"),
            "value": pd.Series([event[3] for event in events], dtype="float64"),
        }
    )
    present = {event[0] for event in events}
    if untils is None:
        wanted = [(subject, np.inf) for subject in subjects]
        given_rows = {"static": pd.DataFrame({"x": 1.0}, index=subjects)}
    else:
        wanted = untils
        given_rows = {"until": pd.DataFrame(untils, columns=["subject_id", "prediction_time"])}
    if events and not present & {subject for subject, _ in wanted}:
        with pytest.raises(DataError, match="none in common"):
            nest_events(frame, **given_rows)
        return

    X = nest_events(frame, **given_rows)

    expected = []
    for subject, until in wanted:
        mine = [event[1:] for event in events if event[0] == subject and event[1] <= until]
        expected.append([(*event, None) for event in sorted(mine, key=lambda event: event[0])])
    assert rows_of(X) == expected
    assert X.index.get_level_values(0).tolist() == [subject for subject, _ in wanted]


# -- columns --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        ["subject", "timestamp", "data_type", "value"],
        ["patient_id", "time", "code", "numeric_value"],
        ["subject_id", "timestamp", "code", "numeric_value"],
    ],
)
def test_usual_names_are_found(long, names):
    X = nest_events(long.set_axis(names, axis=1))
    assert rows_of(X) == rows_of(nest_events(long))
    assert X.index.name == names[0]


def test_other_names_are_given(long):
    frame = long.rename(columns={"subject_id": "stay", "time": "at", "code": "item", "value": "x"})
    X = nest_events(frame, subject="stay", time="at", code="item", value="x")
    assert rows_of(X) == rows_of(nest_events(long))


def test_levels_of_the_index_are_columns_too(long):
    X = nest_events(long.set_index(["subject_id", "time"]))
    assert rows_of(X) == rows_of(nest_events(long))


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ("subject_id", ["subject column", "'subject_id', 'subject' or 'patient_id'", "subject="]),
        ("time", ["time column", "'time' or 'timestamp'", 'time="..."']),
        ("code", ["code column", "'code' or 'data_type'", 'code="..."']),
        ("value", ["value column", "'value' or 'numeric_value'", "value=False"]),
    ],
)
def test_a_missing_column_names_what_was_looked_for_what_is_there_and_the_keyword(
    long, column, words
):
    with pytest.raises(DataError) as raised:
        nest_events(long.rename(columns={column: "other"}))
    for word in [*words, "'other'"]:
        assert word in str(raised.value)


def test_a_given_column_that_is_not_there(long):
    with pytest.raises(DataError, match=r"Expected a column 'item' \(code=\) in events"):
        nest_events(long, code="item")


def test_a_repeated_column(long):
    twice = pd.concat([long, long[["time"]]], axis=1)
    with pytest.raises(DataError, match=r"Expected one column 'time' in events. Got 2"):
        nest_events(twice)
    # One that is not needed does no harm.
    assert len(
        nest_events(pd.concat([long.assign(x=1), pd.DataFrame({"x": 2}, long.index)], axis=1))
    )


def test_one_column_for_two_parts(long):
    with pytest.raises(
        DataError, match=r"different columns as time and value. Got 'time' for both"
    ):
        nest_events(long, value="time")


def test_events_without_values(long):
    X = nest_events(long.drop(columns="value"), value=False)
    assert np.isnan(X["events"].events.flat("value")).all()
    assert len(X["events"].events.flat("time")) == len(long)


def test_values_can_be_left_out_although_there(long):
    assert np.isnan(nest_events(long, value=False)["events"].events.flat("value")).all()


def test_an_unknown_kind_of_table():
    with pytest.raises(DataError, match=r"pandas or polars DataFrame or a pyarrow Table. Got list"):
        nest_events([1, 2])
    with pytest.raises(DataError, match=r"Got LazyFrame. Call .collect\(\) on it first"):
        nest_events(pl.DataFrame({"a": [1]}).lazy())


def test_a_nested_frame_is_not_nested_again(long):
    with pytest.raises(DataError, match="nested already"):
        nest_events(nest_events(long))


# -- subjects -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("subjects", "dtype"),
    [
        (np.array([3, 1, 2], dtype=np.int32), "int32"),
        (np.array([3, 1, 2], dtype=np.int64), "int64"),
        (pd.array([3, 1, 2], dtype="Int64"), "Int64"),
        (pd.array(["c", "a", "b"], dtype="str"), "str"),
        (pd.Series(["c", "a", "b"], dtype=object), "object"),
        (pd.array(["c", "a", "b"], dtype="string"), "string"),
        (pd.to_datetime(["2020-01-03", "2020-01-01", "2020-01-02"]), "datetime64[us]"),
    ],
)
def test_subjects_keep_their_dtype_and_are_sorted(subjects, dtype):
    X = nest_events(
        pd.DataFrame({"subject_id": subjects, "time": [1, 2, 3], "code": "hr", "value": 1.0})
    )
    assert X.index.dtype == dtype
    assert X.index.is_monotonic_increasing
    assert X["events"].events.flat("time").tolist() == [2, 3, 1]


def test_categorical_subjects_come_in_the_order_of_the_categories():
    subjects = pd.Categorical(["x", "y", "x"], categories=["y", "unused", "x"])
    X = nest_events(
        pd.DataFrame({"subject_id": subjects, "time": [1, 2, 3], "code": "hr", "value": 1.0})
    )
    assert X.index.tolist() == ["y", "x"]
    assert X.index.dtype == subjects.dtype
    assert X["events"].events.lengths.tolist() == [1, 2]


def test_missing_subjects_are_counted_and_named(long):
    long.loc[[1, 4], "subject_id"] = None
    with pytest.raises(DataError, match=r"have a subject.*Got 2 events without \(rows 1, 4\)"):
        nest_events(long)


def test_only_the_first_wrong_rows_are_named():
    frame = pd.DataFrame({"subject_id": [np.nan] * 9, "time": 1, "code": "a", "value": 1.0})
    with pytest.raises(DataError, match=r"Got 9 events without \(rows 0, 1, 2, 3, 4, \.\.\.\)"):
        nest_events(frame)


# -- times ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "times",
    [
        pd.array([3, 1], dtype="int64"),
        pd.array([3, 1], dtype="uint8"),
        pd.array([3.0, 1.0], dtype="float32"),
        pd.array([3, 1], dtype="Int32"),
        pd.array([3, 1], dtype="Float64"),
        pd.array([3, 1], dtype=pd.ArrowDtype(pa.int64())),
        np.array([3, 1.0], dtype=object),
        np.array([Decimal(3), Decimal(1)], dtype=object),
        pd.Categorical([3, 1]),
        pd.to_timedelta([3, 1], unit="h"),
        np.array([dt.timedelta(hours=3), dt.timedelta(hours=1)], dtype=object),
        pd.array([3 * 3600, 3600], dtype=pd.ArrowDtype(pa.duration("s"))),
    ],
    ids=lambda times: str(times.dtype),
)
def test_numbers_and_time_differences(times):
    X = nest_events(pd.DataFrame({"subject_id": 1, "time": times, "code": "a", "value": [3, 1]}))
    assert X["events"].dtype == EventsDtype("h")
    assert X["events"].events.flat("time").tolist() == [1.0, 3.0]
    assert X["events"].events.flat("value").tolist() == [1.0, 3.0]


@pytest.mark.parametrize(
    ("unit", "expected"), [("s", 5400.0), ("min", 90.0), ("h", 1.5), ("D", 0.0625)]
)
def test_the_time_unit_of_differences_and_datetimes(unit, expected):
    frame = pd.DataFrame({"subject_id": 1, "code": "a", "value": [1.0]})
    delta = nest_events(frame.assign(time=pd.to_timedelta(["90min"])), time_unit=unit)
    stamp = nest_events(frame.assign(time=pd.to_datetime(["1970-01-01 01:30"])), time_unit=unit)
    assert delta["events"].events.flat("time").tolist() == [expected]
    assert stamp["events"].events.flat("time").tolist() == [expected]
    assert delta["events"].dtype == EventsDtype(unit)
    assert stamp["events"].dtype == EventsDtype(unit, "naive")


@pytest.mark.parametrize("resolution", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Vienna"])
def test_datetimes_come_back_to_the_microsecond(resolution, zone):
    stamps = pd.to_datetime(["2031-07-01 12:34:56", "1969-12-31 23:59:59"]).as_unit(resolution)
    if resolution in ("us", "ns"):
        stamps = stamps + pd.Timedelta(123457, "us")
    stamps = stamps.tz_localize(zone)
    frame = pd.DataFrame({"subject_id": 1, "time": stamps, "code": "a", "value": 1.0})

    X = nest_events(frame)

    assert X["events"].dtype == EventsDtype("h", zone or "naive")
    back = X["events"].events.to_long()["time"]
    assert back.tolist() == sorted(stamps.tolist())


@pytest.mark.parametrize(
    "times",
    [
        [dt.datetime(2020, 1, 2), dt.datetime(2020, 1, 1)],
        [dt.date(2020, 1, 2), dt.date(2020, 1, 1)],
        [np.datetime64("2020-01-02"), np.datetime64("2020-01-01")],
    ],
)
def test_python_datetimes(times):
    frame = pd.DataFrame({"subject_id": 1, "code": "a", "value": [2.0, 1.0]})
    X = nest_events(frame.assign(time=pd.Series(times, dtype=object)), time_unit="D")
    assert X["events"].dtype == EventsDtype("D", "naive")
    assert X["events"].events.flat("value").tolist() == [1.0, 2.0]
    assert X["events"].events.flat("time").tolist() == [18262.0, 18263.0]


def test_python_datetimes_of_one_zone_across_a_change_of_the_clock():
    vienna = ZoneInfo("Europe/Vienna")
    times = [dt.datetime(2020, 7, 1, tzinfo=vienna), dt.datetime(2020, 1, 1, tzinfo=vienna)]
    frame = pd.DataFrame({"subject_id": 1, "code": "a", "value": [2.0, 1.0]})
    X = nest_events(frame.assign(time=pd.Series(times, dtype=object)))
    assert X["events"].dtype == EventsDtype("h", "Europe/Vienna")
    assert X["events"].events.to_long()["time"].tolist() == times[::-1]


@pytest.mark.parametrize("other", [ZoneInfo("America/New_York"), ZoneInfo("Europe/Paris"), None])
def test_mixed_time_zones(other):
    times = [
        dt.datetime(2020, 1, 1, tzinfo=ZoneInfo("Europe/Vienna")),
        dt.datetime(2020, 1, 1, tzinfo=other),
    ]
    frame = pd.DataFrame({"subject_id": 1, "code": "a", "value": [2.0, 1.0]})
    with pytest.raises(DataError, match=r"Got mixed time zones: .*Europe/Vienna.*utc=True"):
        nest_events(frame.assign(time=pd.Series(times, dtype=object)))


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (["2020-01-01", "x"], r"Got str values such as '2020-01-01'.*pd.to_datetime\("),
        (pd.Series(["2020-01-01", None], dtype=object), r"string values .*pd.to_datetime\("),
        ([True, False], "numbers, datetimes or time differences.*Got bool"),
        ([1j, 2j], "Got complex128"),
        (pd.period_range("2020", periods=2, freq="D"), r"Got period.*\.dt\.to_timestamp\(\)"),
        (np.array([dt.datetime(2020, 1, 1), 3], dtype=object), "Got mixed-integer values"),
        ([0.0, np.inf], r"Expected finite times in 'time'. Got 1 infinite one \(row 1\)"),
    ],
)
def test_times_that_are_none(times, message):
    frame = pd.DataFrame({"subject_id": 1, "code": "a", "value": [2.0, 1.0], "time": times})
    with pytest.raises(DataError, match=message):
        nest_events(frame)


def test_a_time_zone_without_a_name():
    class Unnamed(dt.tzinfo):
        def utcoffset(self, when):
            return dt.timedelta(hours=1)

        def dst(self, when):
            return None

        def tzname(self, when):
            return None

    stamps = pd.DatetimeIndex(["2020-01-01"]).tz_localize(Unnamed())
    frame = pd.DataFrame({"subject_id": 1, "code": "a", "value": 1.0, "time": stamps})
    with pytest.raises(
        DataError, match=r"time zone of 'time' to have a name .*tz_convert\('UTC'\)"
    ):
        nest_events(frame)


@pytest.mark.parametrize("times", [[dt.timedelta(1)], [dt.datetime(2020, 1, 1)]])
def test_a_step_has_no_length(times):
    frame = pd.DataFrame({"subject_id": 1, "code": "a", "value": 1.0, "time": times})
    with pytest.raises(DataError, match="time_unit='step'"):
        nest_events(frame, time_unit="step")


def test_an_unknown_time_unit(long):
    for frame in (long, long.assign(time=pd.to_timedelta(long["time"], unit="h"))):
        with pytest.raises(DataError, match="Got 'hours'"):
            nest_events(frame, time_unit="hours")


def test_blank_codes_are_missing(long):
    for kind in ("str", "category"):
        codes = pd.Series(["hr", "", " ", "hr", None, ""][: len(long)] + ["hr"] * (len(long) - 6))
        events = nest_events(long.assign(code=codes.astype(kind)))["events"].events
        assert events.codes.tolist() == ["hr"]
        assert (events.flat("code") < 0).sum() == 4


def test_codes_that_do_not_fit_into_int64(long):
    for code in (np.full(len(long), 2**63 + 1, dtype=np.uint64), [2**70] * len(long)):
        with pytest.raises(DataError, match=r"64 bits with a sign. Got .*\.astype\(str\)"):
            nest_events(long.assign(code=code))


@pytest.mark.parametrize("missing", [np.nan, None, pd.NaT])
def test_missing_times_are_refused_and_the_remedies_named(long, missing):
    frame = long.astype({"time": object} if missing is not np.nan else {})
    frame.loc[[0, 5], "time"] = missing
    with pytest.raises(
        DataError, match=r'Got 2 events without \(rows 0, 5\).*null_time="drop".*null_time="first"'
    ):
        nest_events(frame)
    stamps = frame.assign(
        time=pd.to_datetime(
            frame["time"].where(frame["time"].notna(), np.nan).astype("float64"), unit="h"
        )
    )
    with pytest.raises(DataError, match=r"Got 2 events without \(rows 0, 5\)"):
        nest_events(stamps)


def test_events_without_a_time_are_dropped_and_counted(long):
    long.loc[[0, 5], "time"] = np.nan
    with pytest.warns(DataWarning, match="2 events without a time were dropped"):
        X = nest_events(long, null_time="drop")
    expected = nest_events(long.drop(index=[0, 5]))
    assert rows_of(X) == rows_of(expected)


def test_events_without_a_time_go_to_the_first_of_their_subject(long):
    long.loc[0, "time"] = np.nan
    X = nest_events(long, null_time="first")
    # Where it stands in the table decides between those of the same time.
    assert [event[:2] for event in rows_of(X)[1]] == [
        (0.0, "temp"),
        (0.0, None),
        (1.0, "wbc"),
        (1.0, "hr"),
    ]


def test_events_without_a_time_survive_an_early_prediction_time(long):
    long.loc[0, "time"] = np.nan
    X = nest_events(long, null_time="first", until={"b": -3.0, "a": 0.0, "c": 9.0})
    assert rows_of(X)[0] == [(-3.0, "temp", 37.5, None)]


def test_events_of_subjects_without_any_time_are_dropped_and_counted(long):
    long.loc[2, "time"] = np.nan
    with pytest.warns(DataWarning, match="1 event without a time, whose subjects have no time"):
        X = nest_events(long, null_time="first")
    assert X["events"].events.lengths.tolist() == [2, 4, 0]


def test_an_unknown_null_time(long):
    with pytest.raises(DataError, match=r"Expected null_time to be one of .*Got 'last'"):
        nest_events(long, null_time="last")


# -- codes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        (np.array([9, 2, 9]), [9, 2, 9]),
        (pd.array([9, None, 2], dtype="Int64"), [9, None, 2]),
        (np.array([9.0, np.nan, 2.0]), [9, None, 2]),
        (np.array(["b", None, "a"], dtype=object), ["b", None, "a"]),
        (pd.array(["b", None, "a"], dtype="string"), ["b", None, "a"]),
        (pd.Categorical(["b", None, "a"], categories=["z", "b", "a"]), ["b", None, "a"]),
        (pd.Categorical([7, None, 5]), [7, None, 5]),
        (pd.array(["b", None, "a"], dtype=pd.ArrowDtype(pa.string())), ["b", None, "a"]),
        (np.array([9, None, 2], dtype=object), [9, None, 2]),
        (np.array([None, None, None], dtype=object), [None, None, None]),
    ],
    ids=lambda codes: str(getattr(codes, "dtype", "")),
)
def test_codes(codes, expected):
    frame = pd.DataFrame({"subject_id": 1, "time": [1, 2, 3], "code": codes, "value": 1.0})
    events = nest_events(frame)["events"].events
    assert [code for code in events.array[0].code] == expected
    assert events.codes.tolist() == sorted({code for code in expected if code is not None})
    assert events.codes.dtype in ("int64", "str")


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (np.array(["a", 1], dtype=object), r"Got mixed values .*astype\(str\)"),
        ([1.5, 2.0], r"Got floating values such as 1.5.*astype\(str\)"),
        ([True, False], "Got boolean values"),
        (np.array([b"a", b"b"], dtype=object), "Got bytes values"),
        (pd.to_datetime(["2020", "2021"], format="%Y"), "Got datetime"),
        ([np.inf, 1.0], "Got floating values"),
    ],
)
def test_codes_that_are_none(codes, message):
    frame = pd.DataFrame({"subject_id": 1, "time": [1, 2], "code": codes, "value": 1.0})
    with pytest.raises(DataError, match=message):
        nest_events(frame)


def test_labels_that_cannot_be_hashed():
    codes = pd.Series([["a"], ["b"]], dtype=object)
    frame = pd.DataFrame({"subject_id": 1, "time": [1, 2], "code": codes, "value": 1.0})
    with pytest.raises(DataError, match="labels in 'code' to be strings or numbers"):
        nest_events(frame)


def test_the_dictionary_does_not_depend_on_the_order_of_events_nor_hold_what_was_cut(long):
    assert nest_events(long)["events"].events.codes.equals(
        nest_events(long.iloc[::-1])["events"].events.codes
    )
    assert nest_events(long, until=0.9)["events"].events.codes.tolist() == ["hr"]


# -- values ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "numbers", "texts"),
    [
        ([1, 2, 3], [1, 2, 3], None),
        (np.array([1.5, np.nan, 3], dtype=np.float64), [1.5, None, 3], None),
        (pd.array([1, None, 3], dtype="Int8"), [1, None, 3], None),
        (pd.array([True, None, False], dtype="boolean"), [1, None, 0], None),
        ([True, False, True], [1, 0, 1], None),
        (np.array([True, None, False], dtype=object), [1, None, 0], None),
        (np.array([Decimal("1.5"), None, 2], dtype=object), [1.5, None, 2], None),
        (pd.array([1.5, None, 2], dtype=pd.ArrowDtype(pa.float64())), [1.5, None, 2], None),
        (["7.31", "ward A", None], [7.31, None, None], [None, "ward A", None]),
        ([" 2e1 ", "-3", ""], [20, -3, None], None),
        (["nan", "NaN", "n/a"], [None, None, None], [None, None, "n/a"]),
        (np.array(["1", "x", None], dtype=object), [1, None, None], [None, "x", None]),
        (pd.array(["1", "x", None], dtype="string"), [1, None, None], [None, "x", None]),
        (pd.Categorical(["1", "x", None]), [1, None, None], [None, "x", None]),
        (pd.Categorical([1.5, 2, None]), [1.5, 2, None], None),
        (np.array([1, "2", "x"], dtype=object), [1, None, None], [None, "2", "x"]),
        (np.array([1.5, "x", ""], dtype=object), [1.5, None, None], [None, "x", None]),
        (np.array([Decimal("1.5"), 2.5, "x"], dtype=object), [1.5, 2.5, None], [None, None, "x"]),
        (np.array([None, None, None], dtype=object), [None, None, None], None),
    ],
    ids=str,
)
def test_values(values, numbers, texts):
    frame = pd.DataFrame({"subject_id": 1, "time": [1, 2, 3], "code": "a", "value": values})
    array = nest_events(frame)["events"].array
    assert array.value.dtype == np.float32
    assert [None if np.isnan(v) else round(float(v), 4) for v in array.value] == numbers
    assert array[0].text.tolist() == (texts or [None] * 3)
    assert (array.texts is None) == (texts is None)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.0, np.inf], r"Expected finite values in 'value'. Got 1 value that is .*\(row 1\)"),
        ([-np.inf, np.inf], r"Got 2 values that are infinite .*\(rows 0, 1\)"),
        ([1.0, 1e39], "beyond 3.4e38"),
        (["1", "-inf"], r"Expected finite values.*\(row 1\)"),
        (pd.Categorical(["inf", "1"]), r"Expected finite values.*\(row 0\)"),
        ([1j, 2j], "Got complex128 values"),
        (pd.to_datetime(["2020", "2021"], format="%Y"), r"Got datetime64.*value=False"),
        (np.array([b"1", b"2"], dtype=object), "Got bytes values"),
        (np.array([{}, "a"], dtype=object), "Got mixed values"),
    ],
)
def test_values_that_are_none(values, message):
    frame = pd.DataFrame({"subject_id": 1, "time": [1, 2], "code": "a", "value": values})
    with pytest.raises(DataError, match=message):
        nest_events(frame)


def test_meds_has_numbers_and_texts_in_two_columns():
    meds = pd.DataFrame(
        {
            "subject_id": [1, 1, 2],
            "time": pd.to_datetime(["2020-01-02", "2020-01-01", "2020-01-01"]),
            "code": ["lab", "note", "lab"],
            "numeric_value": [1.5, np.nan, 2.5],
            "text_value": ["high", "calm", None],
        }
    )
    X = nest_events(meds, time_unit="D")
    assert rows_of(X) == [
        [(18262.0, "note", None, "calm"), (18263.0, "lab", 1.5, "high")],
        [(18262.0, "lab", 2.5, None)],
    ]
    # Without one of them, too.
    assert nest_events(meds.drop(columns="text_value"))["events"].array.texts is None
    assert np.isnan(
        nest_events(meds.drop(columns="numeric_value"))["events"].events.flat("value")
    ).all()
    assert nest_events(meds, text=False)["events"].array.texts is None


def test_text_in_two_columns(long):
    frame = long.assign(value="ward", text_value="x")
    with pytest.raises(DataError, match="numbers in 'value', since the texts are in 'text_value'"):
        nest_events(frame)


def test_numbers_in_a_text_column(long):
    with pytest.raises(DataError, match=r"Expected strings in the text column 'n'. Got integer"):
        nest_events(long.assign(n=1), text="n")


# -- static ---------------------------------------------------------------------------------


def test_static_says_which_rows_there_are_and_their_order(long):
    static = pd.DataFrame({"age": [1, 2, 3, 4], "sex": list("FMFM")}, index=["c", "x", "b", "a"])

    X = nest_events(long, static=static)

    assert X.columns.tolist() == ["age", "sex", "events"]
    assert X.index.tolist() == ["c", "x", "b", "a"]
    assert X.index.name == "subject_id"
    assert X["age"].tolist() == [1, 2, 3, 4]
    assert X["age"].dtype == static["age"].dtype
    assert X["events"].events.lengths.tolist() == [1, 0, 4, 2]
    assert not X["events"].isna().any()
    assert static.columns.tolist() == ["age", "sex"]
    assert static.index.name is None
    X.loc["c", "age"] = 99
    assert static.loc["c", "age"] == 1


@pytest.mark.parametrize(
    "static",
    [
        pd.DataFrame({"subject_id": ["c", "b", "a"], "age": [1, 2, 3]}),
        pd.Series([1, 2, 3], index=["c", "b", "a"], name="age"),
        pl.DataFrame({"subject_id": ["c", "b", "a"], "age": [1, 2, 3]}),
        pa.table({"subject_id": ["c", "b", "a"], "age": [1, 2, 3]}),
        pd.DataFrame({"age": [1, 2, 3]}, index=pd.CategoricalIndex(["c", "b", "a"])),
        pd.DataFrame({"age": [1, 2, 3]}, index=pd.Index(["c", "b", "a"], dtype=object)),
    ],
    ids=["column", "series", "polars", "arrow", "categorical index", "object index"],
)
def test_forms_of_static(long, static):
    X = nest_events(long, static=static)
    assert X.index.tolist() == ["c", "b", "a"]
    assert X["age"].tolist() == [1, 2, 3]
    assert X["events"].events.lengths.tolist() == [1, 4, 2]


def test_events_of_subjects_that_are_not_in_static_are_left_out_and_counted(long):
    static = pd.DataFrame({"age": [1, 2]}, index=["c", "x"])
    with pytest.warns(DataWarning, match=r"2 subjects \(of 3\) .* no row in static="):
        X = nest_events(long, static=static)
    assert X["events"].events.lengths.tolist() == [1, 0]
    assert X["events"].events.codes.tolist() == ["hr"]


def test_static_of_other_subjects_altogether(long):
    static = pd.DataFrame({"age": [1, 2, 3]})
    with pytest.raises(
        DataError, match=r"none in common: events have 'a', 'b', 'c' \(str\), static= has 0, 1, 2"
    ):
        nest_events(long, static=static)


def test_static_with_repeated_missing_or_several_levels_of_subjects(long):
    with pytest.raises(DataError, match=r"one row per subject.*1 row with a repeated.*'a'"):
        nest_events(long, static=pd.DataFrame({"age": [1, 2]}, index=["a", "a"]))
    with pytest.raises(DataError, match="one row per subject"):
        nest_events(long, static=pd.DataFrame({"subject_id": ["a", None], "age": [1, 2]}))
    levels = pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["subject_id", "stay"])
    with pytest.raises(DataError, match=r"an index of the levels \['subject_id', 'stay'\]"):
        nest_events(long, static=pd.DataFrame({"age": [1, 2]}, index=levels))


def test_static_with_a_column_called_like_the_events(long):
    static = pd.DataFrame({"events": [1, 2, 3]}, index=["a", "b", "c"])
    with pytest.raises(DataError, match=r"without a column 'events'.*name="):
        nest_events(long, static=static)
    assert nest_events(long, static=static, name="history").columns.tolist() == [
        "events",
        "history",
    ]


def test_static_that_is_no_table(long):
    with pytest.raises(DataError, match=r"Expected static to be a table.*Got dict"):
        nest_events(long, static={"age": [1]})


def test_no_events_at_all(long):
    empty = long.iloc[:0]
    assert nest_events(empty).shape == (0, 1)
    X = nest_events(empty, static=pd.DataFrame({"age": [1, 2]}, index=["a", "b"]))
    assert X["events"].events.lengths.tolist() == [0, 0]
    until = nest_events(empty, until={"a": 1.0})
    assert until["events"].events.end.tolist() == [1.0]


# -- until ----------------------------------------------------------------------------------


def test_until_is_inclusive_and_is_the_end_of_each_history(long):
    X = nest_events(long, until=1.0)
    assert X["events"].events.lengths.tolist() == [2, 3, 0]
    assert X["events"].events.end.tolist() == [1.0, 1.0, 1.0]
    assert np.isnan(X["events"].events.start).all()
    assert not X["events"].isna().any()


@pytest.mark.parametrize(
    "until",
    [
        pd.Series({"c": 3.0, "x": 0.0, "b": 1.0, "a": -0.5}),
        {"c": 3.0, "x": 0.0, "b": 1.0, "a": -0.5},
        pd.Series([3, 0, 1, -1], index=pd.CategoricalIndex(["c", "x", "b", "a"])),
        pd.DataFrame({"subject_id": list("cxba"), "prediction_time": [3.0, 0.0, 1.0, -0.5]}),
        pd.DataFrame({"subject_id": list("cxba"), "at": [3.0, 0.0, 1.0, -0.5]}),
        pd.DataFrame(
            {"prediction_time": [3.0, 0.0, 1.0, -0.5], "y": 1}, index=list("cxba")
        ).rename_axis("subject_id"),
        pl.DataFrame({"subject_id": list("cxba"), "prediction_time": [3.0, 0.0, 1.0, -0.5]}),
        pa.table({"subject_id": list("cxba"), "prediction_time": [3.0, 0.0, 1.0, -0.5]}),
        pd.MultiIndex.from_arrays([list("cxba"), [3.0, 0.0, 1.0, -0.5]], names=["subject_id", "t"]),
    ],
    ids=[
        "series",
        "dict",
        "categorical",
        "frame",
        "any name",
        "index",
        "polars",
        "arrow",
        "index2",
    ],
)
def test_forms_of_until_which_say_the_rows_and_their_order(long, until):
    X = nest_events(long, until=until)
    assert X.index.tolist() == ["c", "x", "b", "a"]
    assert X.index.name == "subject_id"
    assert X["events"].events.lengths.tolist() == [1, 0, 3, 1]
    assert X["events"].events.end.tolist()[:3] == [3.0, 0.0, 1.0]


def test_several_rows_of_a_subject(long):
    until = pd.DataFrame(
        {"subject_id": list("baxb"), "prediction_time": [1.0, 9.0, 5.0, 0.5], "label": [1, 0, 0, 1]}
    )
    X = nest_events(long, until=until)
    assert X.index.names == ["subject_id", "prediction_time"]
    assert X.index.tolist() == [("b", 1.0), ("a", 9.0), ("x", 5.0), ("b", 0.5)]
    assert X.columns.tolist() == ["events"]
    assert [[event[0] for event in row] for row in rows_of(X)] == [
        [0.0, 1.0, 1.0],
        [-1.0, 0.5],
        [],
        [0.0],
    ]
    assert X["events"].events.end.tolist() == [1.0, 9.0, 5.0, 0.5]
    # A Series may repeat subjects as well, and X.index is a cohort itself.
    series = until.set_index("subject_id")["prediction_time"]
    with pytest.warns(DataWarning, match="1 subject"):
        pd.testing.assert_frame_equal(nest_events(long, until=series), X)
    pd.testing.assert_frame_equal(nest_events(long, until=X.index), X)


def test_static_of_several_rows_of_a_subject(long):
    until = pd.DataFrame({"subject_id": list("bab"), "prediction_time": [1.0, 9.0, 0.5]})
    static = pd.DataFrame({"age": [1, 2, 3]}, index=["a", "b", "c"])
    X = nest_events(long, static=static, until=until)
    assert X["age"].tolist() == [2, 1, 2]
    assert X["age"].dtype == static["age"].dtype
    with pytest.warns(DataWarning, match=r"2 rows of until= \(of 3\) have no row in static="):
        X = nest_events(long, static=static.loc[["a", "c"]], until=until)
    assert X["age"].fillna(-1).tolist() == [-1, 1, -1]


def test_static_and_until_of_the_same_frame(long):
    patients = pd.DataFrame({"age": [1, 2, 3], "at": [3.0, 0.5, 0.5]}, index=["c", "b", "a"])
    X = nest_events(long, static=patients[["age"]], until=patients["at"])
    assert X["age"].tolist() == [1, 2, 3]
    assert X["events"].events.lengths.tolist() == [1, 1, 2]


def test_subjects_without_a_prediction_time_are_left_out(long):
    with pytest.warns(DataWarning, match=r"1 subject \(of 3\) .* no row in until="):
        X = nest_events(long, until={"b": 1.0, "a": 1.0})
    assert X.index.tolist() == ["b", "a"]
    # Rows of a table are a choice: no warning.
    nest_events(long, until=pd.DataFrame({"subject_id": ["b"], "prediction_time": [1.0]}))


@pytest.mark.parametrize(
    "until",
    [
        np.nan,
        np.inf,
        {"a": 1.0, "b": np.nan, "c": 1.0},
        pd.DataFrame({"subject_id": ["a", "b"], "prediction_time": [1.0, None]}),
    ],
)
def test_missing_and_infinite_prediction_times(long, until):
    with pytest.raises(DataError, match=r"Expected a time for every row of until=. Got 1 row"):
        nest_events(long, until=until)


def test_datetime_until(long):
    naive = long.assign(time=pd.Timestamp("2020-01-01") + pd.to_timedelta(long["time"], unit="h"))
    aware = naive.assign(time=naive["time"].dt.tz_localize("Europe/Vienna"))
    expected = [2, 3, 0]
    for frame, until in (
        (naive, pd.Timestamp("2020-01-01 01:00")),
        (naive, dt.datetime(2020, 1, 1, 1)),
        (naive, np.datetime64("2020-01-01T01:00")),
        (naive, "2020-01-01 01:00"),
        (aware, pd.Timestamp("2020-01-01 01:00", tz="Europe/Vienna")),
        (aware, pd.Timestamp("2020-01-01 00:00", tz="UTC")),
    ):
        events = nest_events(frame, until=until)["events"].events
        assert events.lengths.tolist() == expected
    assert events.timezone == "Europe/Vienna"
    times = pd.Series(pd.Timestamp("2020-01-01 01:00"), index=list("abc"))
    assert nest_events(naive, until=times)["events"].events.lengths.tolist() == expected


def test_several_rows_with_datetimes_keep_them_in_the_index(long):
    frame = long.assign(time=pd.Timestamp("2020-01-01") + pd.to_timedelta(long["time"], unit="h"))
    stamps = pd.to_datetime(["2020-01-01 01:00", "2020-01-01 00:00"])
    until = pd.DataFrame({"subject_id": ["b", "b"], "prediction_time": stamps})
    X = nest_events(frame, until=until)
    assert X.index.get_level_values("prediction_time").tolist() == stamps.tolist()


def test_time_differences_as_until(long):
    assert nest_events(long, until=pd.Timedelta("1h"))["events"].events.end.tolist() == [1.0] * 3
    series = pd.Series(pd.Timedelta("1h"), index=list("abc"))
    assert nest_events(long, until=series)["events"].events.end.tolist() == [1.0] * 3


def test_another_clock_in_until(long):
    naive = long.assign(time=pd.Timestamp("2020-01-01") + pd.to_timedelta(long["time"], unit="h"))
    aware = naive.assign(time=naive["time"].dt.tz_localize("UTC"))
    with pytest.raises(DataError, match="Expected numbers as until"):
        nest_events(long, until=pd.Timestamp("2020-01-01"))
    with pytest.raises(DataError, match="Expected datetimes as until"):
        nest_events(naive, until=3.0)
    with pytest.raises(DataError, match="Expected naive datetimes as until"):
        nest_events(naive, until=pd.Timestamp("2020-01-01", tz="UTC"))
    with pytest.raises(DataError, match="Expected time zone aware datetimes as until"):
        nest_events(aware, until=dict.fromkeys("abc", pd.Timestamp("2020-01-01")))


@pytest.mark.parametrize(
    ("until", "message"),
    [
        ([1.0, 2.0, 3.0], "Expected until= to be one time.*Got list"),
        (pd.Series({"x": 1.0, "y": 1.0}), "subjects of until= to be those of events.*none in comm"),
        (
            pd.DataFrame({"subject_id": ["a", "a"], "prediction_time": [1.0, 1.0]}),
            r"Got 1 repeated row, such as \(a, 1.0\)",
        ),
        (pd.DataFrame({"subject_id": ["a", None], "prediction_time": [1.0, 1.0]}), "1 row without"),
        (pd.DataFrame({"who": ["a"], "prediction_time": [1.0]}), "a subject column in until="),
        (
            pd.DataFrame({"subject_id": ["a"], "u": [1.0], "v": [1.0]}),
            "a prediction time column in until=, called 'prediction_time'",
        ),
    ],
)
def test_until_that_is_none(long, until, message):
    with pytest.raises(DataError, match=message):
        nest_events(long, until=until)


# -- other tables ---------------------------------------------------------------------------


def test_polars_and_arrow_tables(long):
    expected = rows_of(nest_events(long))
    arrow = pa.Table.from_pandas(long)
    for table in (
        pl.from_pandas(long),
        arrow,
        arrow.set_column(2, "code", arrow["code"].dictionary_encode()),
        pl.from_pandas(long).with_columns(pl.col("code").cast(pl.Categorical)),
        long.convert_dtypes(dtype_backend="pyarrow"),
        long.convert_dtypes(),
    ):
        assert rows_of(nest_events(table)) == expected


def test_polars_without_pyarrow(long, monkeypatch):
    def to_pandas(self):
        raise ModuleNotFoundError("pyarrow")

    stamps = pd.Timestamp("2020-01-01", tz="Europe/Vienna") + pd.to_timedelta(long["time"], "h")
    table = pl.from_pandas(long)
    zoned = pl.from_pandas(long.assign(time=stamps))
    monkeypatch.setattr(pl.Series, "to_pandas", to_pandas)
    assert rows_of(nest_events(table)) == rows_of(nest_events(long))
    assert rows_of(nest_events(zoned)) == rows_of(nest_events(long.assign(time=stamps)))
    assert nest_events(zoned)["events"].dtype.timezone == "Europe/Vienna"


def test_polars_datetimes(long):
    stamps = pd.Timestamp("2020-01-01", tz="Europe/Vienna") + pd.to_timedelta(long["time"], "h")
    frame = long.assign(time=stamps)
    X = nest_events(pl.from_pandas(frame))
    assert X["events"].dtype == EventsDtype("h", "Europe/Vienna")
    pd.testing.assert_frame_equal(X, nest_events(frame), check_index_type=False)


# -- real data ------------------------------------------------------------------------------


def test_physionet_2012(data_home):
    events = pd.read_parquet(data_home / "physionet2012" / "events.parquet")
    outcomes = pd.read_parquet(data_home / "physionet2012" / "outcomes.parquet")
    static = outcomes.set_index("subject_id")[["set"]]
    shuffled = events.sample(frac=1.0, random_state=0)

    X = nest_events(shuffled, static=static)

    assert X.index.equals(static.index)
    column = X["events"].events
    assert len(column.flat("time")) == len(events)
    counts = events["subject_id"].value_counts().reindex(static.index, fill_value=0)
    assert column.lengths.tolist() == counts.tolist()
    again = column.to_long().groupby("subject_id")["time"].agg(["min", "max"])
    expected = events.groupby("subject_id")["time"].agg(["min", "max"]).astype(np.float64)
    pd.testing.assert_frame_equal(again, expected, check_index_type=False)
    day = nest_events(events, static=static, until=24.0)["events"].events
    assert day.lengths.sum() == (events["time"] <= 24).sum()


def test_mimic_demo_has_negative_times_and_several_stays_of_a_subject(data_home):
    events = pd.read_parquet(data_home / "mimic3_demo" / "events.parquet")
    X = nest_events(events, subject="hadm_id")
    assert X.index.name == "hadm_id"
    assert len(X) == events["hadm_id"].nunique()
    assert X["events"].events.flat("time").min() == events["time"].min() < 0
    assert len(X["events"].events.codes) == events["code"].nunique()


def test_values_as_text(data_home):
    events = pd.read_parquet(data_home / "simulated_long" / "train.parquet")
    static = pd.read_parquet(data_home / "simulated_long" / "train_static.parquet")
    X = nest_events(events, static=static)
    assert X.columns.tolist() == ["sex", "age", "y", "events"]
    column = X["events"].events
    is_text = pd.to_numeric(events["value"], errors="coerce").isna()
    assert set(column.texts) == set(events.loc[is_text, "value"])
    assert (column.flat("text") >= 0).sum() == is_text.sum()
    assert np.isnan(column.flat("value")).sum() == is_text.sum()


# -- column kernels -------------------------------------------------------------------------


def test_read_times_keeps_missing_ones():
    time, zone = read_times(pd.Series([1.0, np.nan]), "h")
    assert zone is None
    assert np.isnan(time).tolist() == [False, True]


def test_read_values_gives_positions_into_the_texts():
    value, text, texts = read_values(pd.Series(["b", "1", "a", "b"]))
    assert text.tolist() == [1, -1, 0, 1]
    assert texts.tolist() == ["a", "b"]
    assert value[1] == 1
