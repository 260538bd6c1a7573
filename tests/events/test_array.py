"""The events array beyond what the test suite of pandas looks at."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import joblib
import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tawt_sklearn.events import EventHistory, EventsArray, EventsDtype
from tawt_sklearn.events.content import FIELDS, hash_rows
from tawt_sklearn.exceptions import DataError

FLAT = {
    "time": [0.5, 2.0, 1.0, 1.0, 3.0],
    "code": [0, 1, 0, -1, 1],
    "value": [80.0, np.nan, 95.0, 1.0, np.nan],
    "text": [-1, 1, -1, -1, 0],
    "offsets": [0, 2, 2, 5, 5],
    "codes": ["hr", "rhythm", "unused"],
    "texts": ["af", "sinus"],
    "start": [0.0, 0.0, np.nan, np.nan],
    "end": [24.0, 24.0, 48.0, np.nan],
    "isna": [False, False, False, True],
}


@pytest.fixture
def array():
    """Two events; none; three with a missing code and a tie; a missing row."""
    return EventsArray.from_flat(**FLAT)


@pytest.fixture
def frame(array):
    return pd.DataFrame({"age": [70, 55, 61, 40], "events": array}, index=list("abcd"))


def random_array(rng, size, *, codes=("hr", "temp", "wbc"), **clock):
    lengths = rng.integers(0, 6, size)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    total = offsets[-1]
    row = np.repeat(np.arange(size), lengths)
    time = rng.integers(0, 5, total).astype(float)
    return EventsArray.from_flat(
        time=time[np.lexsort((time, row))],
        code=rng.integers(-1, len(codes), total),
        value=np.where(rng.random(total) < 0.3, np.nan, rng.integers(0, 3, total)),
        text=rng.integers(-1, 2, total),
        offsets=offsets,
        codes=list(codes),
        texts=["no", "yes"],
        end=rng.integers(5, 7, size),
        isna=(lengths == 0) & (rng.random(size) < 0.5),
        **clock,
    )


# -- construction -----------------------------------------------------------------------------


def test_flat_arrays_are_not_copied():
    time, code = np.array([1.0]), np.array([0], dtype=np.int32)
    value, offsets = np.array([2.0], dtype=np.float32), np.array([0, 1])
    array = EventsArray.from_flat(time=time, code=code, value=value, offsets=offsets, codes=["hr"])
    assert array.time is time and array.code is code and array.value is value
    assert array.offsets is offsets
    copied = array._replace(copy=True)
    assert not np.shares_memory(copied.time, time)
    assert copied.equals(array)


def test_unknown_windows_and_texts(array):
    bare = array._replace(start=None, end=None, text=None, texts=None)
    assert np.isnan(bare.start).all() and np.isnan(bare.end).all()
    assert bare.text is None and bare.texts is None
    assert bare[0].text.tolist() == [None, None]
    assert not bare.equals(array)


def test_replace_shares_the_rest(array):
    later = array._replace(end=[25.0] * 4, time_unit="D")
    assert later.dtype == EventsDtype("D")
    assert later.time is array.time and later.codes is array.codes
    assert later.end.tolist() == [25.0] * 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"code": [0]}, r"as many entries in code as in time \(5\). Got 1"),
        ({"text": [0]}, r"as many entries in text as in time \(5\). Got 1"),
        ({"offsets": [1, 2, 2, 5, 5]}, "offsets to start with 0"),
        ({"code": [0.5] * 5}, "Expected integers as ids and offsets. Got float64"),
        ({"offsets": [0, 2, 1, 5, 5]}, "offsets to start with 0, never to fall"),
        ({"offsets": [0, 2, 2, 3, 3]}, r"number of events \(5\). Got 0 to 3"),
        ({"offsets": []}, "Got no offsets"),
        ({"end": [1.0]}, r"one entry of end per row \(4\). Got 1"),
        ({"isna": [True, False, False, True]}, "missing rows to have no events"),
        ({"texts": None}, "text and texts together"),
        ({"code": [0, 3, 0, 0, 0]}, "code ids of -1 .* to 2, .* Got 0 to 3"),
        ({"text": [0, 0, 0, 0, -2]}, "text ids of -1"),
        ({"time": [[1.0]]}, r"one axis. Got shape \(1, 1\)"),
        ({"time": [2.0, 1.0, 1.0, 1.0, 1.0]}, "never fall inside a row"),
        ({"time": [np.nan, 1.0, 1.0, 1.0, 1.0]}, "a time for every event. Got NaN"),
        ({"codes": ["hr", "hr", "x"]}, "each label once"),
        ({"time_unit": "week"}, "time_unit to be one of 's', 'min'.*Got 'week'"),
        ({"timezone": "Mars/Olympus"}, "name of a time zone.*Got 'Mars/Olympus'"),
        ({"timezone": "UTC", "time_unit": "step"}, "Got time_unit='step'"),
        ({"vocabulary": {}}, "JSON string. Got dict"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    with pytest.raises(DataError, match=message):
        EventsArray.from_flat(**{**FLAT, **change})


@pytest.mark.parametrize("wrong", [[1.5], ["a"], [pd.NaT], [[1, 2]], [[{"time": 1.0}]], 3])
def test_other_scalars_are_refused(wrong):
    with pytest.raises(TypeError, match=r"EventHistory|events dtype"):
        EventsArray(wrong)


def test_from_histories(array):
    again = EventsArray(list(array))
    assert again.equals(array)
    assert again.dtype == array.dtype
    assert len(EventsArray([])) == 0
    assert EventsArray([None, np.nan, pd.NA]).isna().all()


def test_histories_of_another_clock_are_refused(array):
    with pytest.raises(DataError, match=r"Got events\[D\] and events\[h\]: different clocks"):
        EventsArray(list(array), dtype="events[D]")
    with pytest.raises(DataError, match="different clocks"):
        pd.Series(array).astype("events[h, UTC]")
    with pytest.raises(DataError, match="different clocks"):
        array[0] = array._replace(time_unit="D")[0]


# -- the scalar -------------------------------------------------------------------------------


def test_history(array):
    history = array[0]
    assert len(history) == 2
    assert history.time.tolist() == [0.5, 2.0]
    assert history.code.tolist() == ["hr", "rhythm"]
    assert history.text.tolist() == [None, "sinus"]
    assert (history.start, history.end) == (0.0, 24.0)
    assert array[2].code.tolist() == ["hr", None, "rhythm"]
    assert len(array[1]) == 0 and array[1] is not pd.NA
    assert array[3] is pd.NA


def test_history_is_immutable(array):
    with pytest.raises(ValueError, match="read-only"):
        array[0].time[0] = 9.0
    with pytest.raises(AttributeError):
        array[0].start = 3.0
    assert array.time.flags.writeable


def test_history_reprs(array):
    assert repr(array[0]) == "<EventHistory: 2 events (0.5 to 2 h)>"
    assert str(array[1]) == "0 events"
    assert str(array[2:].copy()[0]) == "3 events (1 to 3 h)"
    naive = array._replace(timezone="naive", time_unit="D")
    assert str(naive[0]) == "2 events (1970-01-01 12:00 to 1970-01-03 00:00)"
    assert str(EventsArray([naive[0]])[0].to_frame().time[0]) == "1970-01-01 12:00:00"
    assert str(array._replace(time=[0.5, 2, 1, 1, 1e300], time_unit="s", timezone="UTC")[2])


def test_history_to_frame(array):
    expected = pd.DataFrame(
        {
            "time": [0.5, 2.0],
            "code": pd.Series(["hr", "rhythm"], dtype="str"),
            "value": np.array([80.0, np.nan], dtype=np.float32),
            "text": pd.Series([None, "sinus"], dtype="str"),
        }
    )
    pd.testing.assert_frame_equal(array[0].to_frame(), expected)
    assert "text" not in array._replace(text=[-1] * 5)[0].to_frame()
    assert array[1].to_frame().empty


def test_equal_histories_have_equal_hashes(array):
    other = array._replace(
        code=[2, 0, 2, -1, 0],
        codes=["rhythm", "other", "hr"],
        time=[0.5, 2.0, 1.0, 1.0, 3.0],
        start=[-0.0, 0.0, np.nan, np.nan],
    )
    for left, right in zip(array[:3], other[:3], strict=True):
        assert left == right and hash(left) == hash(right)
        assert pickle.loads(pickle.dumps(left)) == left
    assert len({*array[:3], *other[:3]}) == 3


@pytest.mark.parametrize(
    "change",
    [
        {"time": [0.25, 2.0, 1.0, 1.0, 3.0]},
        {"code": [-1, 1, 0, -1, 1]},
        {"value": [80.0, 1.0, 95.0, 1.0, np.nan]},
        {"text": [-1, 0, -1, -1, 0]},
        {"text": None, "texts": None},
        {"end": [25.0, 24.0, 48.0, np.nan]},
        {"start": None},
        {"time_unit": "D"},
        {"codes": ["temp", "rhythm", "unused"]},
        {"codes": [1, 2, 3]},
    ],
)
def test_what_makes_histories_different(array, change):
    other = array._replace(**change)
    assert array[0] != other[0]
    assert (array == other).tolist()[0] is False
    assert (array != other).tolist()[0] is True
    assert not array.equals(other)
    assert array[0] not in other
    assert array[0] != "something else"


@given(st.integers(0, 2**32 - 1))
def test_equality_hashes_and_factorize_agree_with_scalars(seed):
    rng = np.random.default_rng(seed)
    left = random_array(rng, 12)
    right = left.take(rng.permutation(12))._replace(codes=["hr", "temp", "wbc"])
    scalars = [a is not pd.NA and b is not pd.NA and a == b for a, b in zip(left, right)]  # noqa: B905
    assert (left == right).tolist() == scalars
    both = EventsArray._concat_same_type([left, right])
    numbers, uniques = both.factorize()
    groups = {}
    expected = [-1 if row is pd.NA else groups.setdefault(row, len(groups)) for row in both]
    assert numbers.tolist() == expected
    assert list(uniques) == list(groups)
    assert uniques.take(numbers, allow_fill=True).equals(both)
    hashes = hash_rows(both._content)
    assert len(set(hashes[numbers >= 0])) == len(groups)


def test_factorize_survives_colliding_hashes(array, monkeypatch):
    monkeypatch.setattr(
        "tawt_sklearn.events.array.hash_rows", lambda content: np.zeros(len(content), np.uint64)
    )
    twice = array.take([0, 3, 2, 0])
    numbers, uniques = twice.factorize()
    assert numbers.tolist() == [0, -1, 1, 0]
    assert uniques.equals(array.take([0, 2]))


# -- rows -------------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.data())
def test_take_agrees_with_lists(seed, data):
    array = random_array(np.random.default_rng(seed), 12)
    wanted = data.draw(st.lists(st.integers(-1, 11), max_size=15))
    if data.draw(st.booleans()):
        wanted = sorted(set(wanted))
    taken = array.take(wanted, allow_fill=True)
    expected = [pd.NA if row < 0 else array[row] for row in wanted]
    assert list(taken) == expected
    assert taken.codes is array.codes and taken.texts is array.texts
    taken._content.validate()
    assert list(array.take(wanted)) == [array[row] for row in wanted]


@given(st.integers(0, 2**32 - 1))
@example(42775)  # whose first part has no events
def test_concat_agrees_with_lists(seed):
    rng = np.random.default_rng(seed)
    parts = [
        random_array(rng, 5),
        random_array(rng, 4, codes=("wbc", "gcs", "hr")),
        random_array(rng, 3)._replace(text=None, texts=None, isna=None),
        random_array(rng, 0),
    ]
    joined = EventsArray._concat_same_type(parts)
    joined._content.validate()
    assert list(joined) == [row for part in parts for row in part]
    if len(parts[0].time):  # else it brings no codes
        assert joined.codes.tolist()[:3] == ["hr", "temp", "wbc"]


def test_contiguous_slices_are_views(array):
    part = array[:3]
    assert np.shares_memory(part.time, array.time) and np.shares_memory(part.end, array.end)
    assert part.offsets.tolist() == [0, 2, 2, 5]
    assert array[1:2].offsets.tolist() == [0, 0]
    assert list(array[::-1]) == list(array)[::-1]
    assert array[3:1].equals(array[:0])
    assert np.shares_memory(array.take([0, 1, 2]).time, array.time)


def test_views_see_assignments_and_copies_do_not(array):
    view, whole, copied, part = array.view(), array[:], array.copy(), array[:2]
    array[0] = array[2]
    assert view[0] == whole[0] == array[2]
    assert copied[0] == part[0] != array[2]
    assert np.shares_memory(copied.time, part.time)
    with pytest.raises(NotImplementedError):
        array.view("int64")


def test_assignment(array):
    array[[0, 1]] = [pd.NA, array[0]]
    assert array.isna().tolist() == [True, False, False, True]
    assert array[1].text.tolist() == [None, "sinus"]
    array[array.isna()] = array[1]
    assert array[0] == array[3] == array[1]
    array._content.validate()
    with pytest.raises(ValueError, match="Expected 2 histories for 2 rows"):
        array[:2] = array[:3]


def test_memory_maps_stay_memory_maps(array, tmp_path):
    joblib.dump(array, tmp_path / "array.joblib")
    loaded = joblib.load(tmp_path / "array.joblib", mmap_mode="r")
    assert isinstance(loaded.time, np.memmap) and not loaded.time.flags.writeable
    assert isinstance(loaded[:3].value, np.memmap)
    assert isinstance(EventsArray.from_flat(**{**FLAT, "time": loaded.time}).time, np.memmap)
    assert loaded.equals(array)
    assert joblib.hash(loaded) == joblib.hash(array)
    assert list(loaded.take([2, 0])) == [array[2], array[0]]
    loaded[0] = loaded[2]
    assert loaded[0] == array[2]
    again = joblib.load(tmp_path / "array.joblib", mmap_mode="r")
    assert again.equals(array)


def backed_by_file(frame):
    """Whether the flat arrays of a frame that arrived in a worker lie in a memory map."""
    base = frame["events"].array.time
    while base is not None:
        if isinstance(base, np.memmap):
            return True
        base = getattr(base, "base", None)
    return False


def test_joblib_workers_see_memory_maps():
    array = random_array(np.random.default_rng(0), 2_000)
    frame = pd.DataFrame({"events": array})
    calls = (joblib.delayed(backed_by_file)(part) for part in (frame, frame.iloc[500:]))
    assert joblib.Parallel(n_jobs=2, max_nbytes=1_000)(calls) == [True, True]


def test_pickles_of_slices_are_small():
    array = random_array(np.random.default_rng(0), 5_000)
    for protocol in (2, pickle.HIGHEST_PROTOCOL):
        whole = pickle.dumps(array, protocol=protocol)
        part = pickle.dumps(array[10:20], protocol=protocol)
        assert len(part) < len(whole) / 50
        assert pickle.loads(part).equals(array[10:20])
    assert len(pickle.dumps(array[0])) < 2_000
    buffers = []
    head = pickle.dumps(array, protocol=5, buffer_callback=buffers.append)
    assert len(head) < 2_000
    assert pickle.loads(head, buffers=buffers).equals(array)
    assert copy.deepcopy(array).equals(array)


def test_joblib_hash_depends_on_content_only(array, frame):
    same = [
        array.copy(),
        pickle.loads(pickle.dumps(array)),
        EventsArray._concat_same_type([array[:1], array[1:]]),
        array._replace(codes=list(array.codes), copy=True),
    ]
    assert {joblib.hash(other) for other in same} == {joblib.hash(array)}
    assert joblib.hash(array[1:]) == joblib.hash(array.take([1, 2, 3]))
    assert joblib.hash(array) != joblib.hash(array._replace(end=None))
    first = joblib.hash(frame)
    repr(frame), frame.describe(include="all"), frame["events"].unique()
    assert joblib.hash(frame) == first == joblib.hash(pickle.loads(pickle.dumps(frame)))


def test_compact(array):
    small = array.compact()
    assert small.codes.tolist() == ["hr", "rhythm"]
    assert small.equals(array)
    # The dictionaries are shared by what is taken, and dropped on request only.
    part = array.take([1, 3])
    assert part.codes is array.codes
    assert part.compact().codes.empty and part.compact().texts is None
    assert part.compact().equals(part)
    last = array[2:].compact()
    assert last.texts.tolist() == ["af"] and last.text.tolist() == [-1, -1, 0]
    tokens = array._replace(vocabulary="{}")
    assert tokens.compact().codes is array.codes


def test_nbytes(array):
    assert array.nbytes == sum(getattr(array._content, name).nbytes for name in FIELDS)


# -- dictionaries and dtypes that meet ----------------------------------------------------------


def test_concat_merges_dictionaries(array):
    other = EventsArray.from_flat(
        time=[1.0], code=[0], value=[np.nan], text=[0], offsets=[0, 1], codes=["wbc"], texts=["low"]
    )
    joined = pd.concat([pd.Series(array), pd.Series(other)], ignore_index=True)
    assert joined.dtype == "events[h]"
    assert joined.events.codes.tolist() == ["hr", "rhythm", "unused", "wbc"]
    assert joined.iloc[4] == other[0]
    assert joined.iloc[4].text.tolist() == ["low"]


def test_concat_shares_equal_dictionaries(array):
    joined = pd.concat([pd.Series(array[:1]), pd.Series(array[1:])])
    assert joined.events.codes is array.codes


def test_concat_of_integer_and_string_codes_is_refused(array):
    numbered = pd.Series(array._replace(codes=[10, 20, 30]))
    with pytest.raises(DataError, match="integers and strings"):
        pd.concat([pd.Series(array), numbered])
    # Columns without events have no say.
    blank = EventsArray([pd.NA, pd.NA])
    joined = pd.concat([pd.Series(blank), numbered, pd.Series(array[1:2])], ignore_index=True)
    assert joined.events.codes.tolist() == [10, 20, 30]
    assert joined.isna().tolist() == [True, True, False, False, False, True, False]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"time_unit": "D"}, r"Got events\[h\] and events\[D\]: different clocks"),
        ({"timezone": "UTC"}, r"Got events\[h\] and events\[h, UTC\]: different clocks"),
        ({"vocabulary": "{}"}, "raw and tokenised"),
    ],
)
def test_concat_of_incompatible_columns_is_refused(array, change, message):
    left, right = pd.Series(array), pd.Series(array._replace(**change))
    with pytest.raises(DataError, match=message):
        pd.concat([left, right])
    with pytest.raises(DataError, match=message):
        pd.concat([left.to_frame("events"), right.to_frame("events")])
    with pytest.raises(DataError, match=message):
        EventsArray._concat_same_type([left.array, right.array])


def test_concat_of_different_vocabularies_is_refused(array):
    parts = [pd.Series(array._replace(vocabulary=text)) for text in ('{"a": 1}', '{"b": 1}')]
    with pytest.raises(DataError, match="different vocabularies"):
        pd.concat(parts)
    assert pd.concat([parts[0], parts[0]]).events.vocabulary == '{"a": 1}'


def test_concat_with_another_dtype_gives_objects(array):
    joined = pd.concat([pd.Series(array), pd.Series([1])])
    assert joined.dtype == object


# -- the dtype ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("events", EventsDtype()),
        ("events[h]", EventsDtype("h")),
        ("events[step]", EventsDtype("step")),
        ("events[D, naive]", EventsDtype("D", "naive")),
        ("events[min, Europe/Vienna]", EventsDtype("min", "Europe/Vienna")),
        ("events[s, UTC+02:00]", EventsDtype("s", "UTC+02:00")),
        ("events[h, tokens]", EventsDtype("h", None, "")),
        ("events[h, UTC, tokens]", EventsDtype("h", "UTC", "")),
    ],
)
def test_dtype_names(name, dtype):
    assert pd.api.types.pandas_dtype(name) == dtype
    assert dtype == name
    assert dtype.name == (name if "[" in name else "events[h]")
    assert pickle.loads(pickle.dumps(dtype)) == dtype
    assert hash(pickle.loads(pickle.dumps(dtype))) == hash(dtype)


@pytest.mark.parametrize(
    "name",
    ["event", "events[]", "events[w]", "events[h, Nowhere]", "events[step, UTC]", "events[h"],
)
def test_other_names_are_refused(name):
    with pytest.raises(TypeError):
        pd.api.types.pandas_dtype(name)


def test_dtypes_differ_by_vocabulary():
    first, second = EventsDtype(vocabulary="[1]"), EventsDtype(vocabulary="[2]")
    assert first != second and first == "events[h, tokens]" == second
    assert first != EventsDtype()
    assert repr(first) == "EventsDtype('h', vocabulary=...)"


def test_tokens_named_by_string_take_the_vocabulary_of_the_data(array):
    tokens = array._replace(vocabulary="[1]")
    again = pd.Series(list(tokens), dtype="events[h, tokens]")
    assert again.dtype == tokens.dtype
    assert pd.Series(tokens).astype("events[h, tokens]").dtype == tokens.dtype


@pytest.mark.parametrize("timezone", ["naive", "UTC", "Europe/Vienna", "Asia/Kolkata"])
@pytest.mark.parametrize("unit", ["s", "min", "h", "D"])
def test_datetimes_are_exact_to_the_microsecond(unit, timezone):
    stamps = pd.DatetimeIndex(
        ["1969-12-31 23:59:59.999999", "1970-01-01", "2024-02-29 12:34:56.789012", "2055-07-01"]
    ).append(pd.DatetimeIndex([pd.NaT]))
    if timezone != "naive":
        stamps = stamps.tz_localize("UTC").tz_convert(timezone)
    dtype = EventsDtype(unit, timezone)
    numbers = dtype.to_clock(stamps)
    assert numbers.dtype == np.float64 and np.isnan(numbers[-1])
    pd.testing.assert_index_equal(dtype.from_clock(numbers), stamps.as_unit("us"))


def test_clock_reads_scalars_strings_and_other_zones():
    dtype = EventsDtype("h", "Europe/Vienna")
    hour = pd.Timestamp("1970-01-01 01:00", tz="UTC")
    forms = [hour, str(hour), hour.tz_convert("Asia/Tokyo"), hour.to_pydatetime()]
    assert [dtype.to_clock(form) for form in forms] == [1.0] * 4
    assert dtype.to_clock(pd.Series(forms[:1], index=[7])).tolist() == [1.0]
    assert EventsDtype("h", "naive").to_clock(np.datetime64("1970-01-02")) == 24.0
    assert EventsDtype("h").to_clock([1, None]).tolist()[0] == 1.0
    assert EventsDtype("h").to_clock(np.array(1.5)) == 1.5


def test_time_differences_are_numbers():
    assert EventsDtype("h").to_clock(pd.Timedelta("90min")) == 1.5
    assert EventsDtype("min").to_clock([pd.Timedelta("90s"), pd.NaT]).tolist()[0] == 1.5


@pytest.mark.parametrize(
    ("dtype", "values", "message"),
    [
        (EventsDtype("h"), pd.Timestamp("2020-01-01"), "Expected numbers as times.*units of 'h'"),
        (EventsDtype("h"), ["2020-01-01"], "Expected numbers as times"),
        (EventsDtype("step"), [pd.Timedelta("1h")], "known length for time differences.*'step'"),
        (EventsDtype("h"), np.ones((3, 1)), r"flat list of values as times.*shape \(3, 1\)"),
        (EventsDtype("h"), pd.DataFrame({"a": [1.0]}), "Give one column"),
        (EventsDtype("h"), [True], "Expected numbers as times.*bool"),
        (EventsDtype("h", "UTC"), 3.0, "Expected datetimes as times.*Got float64 values such as 3"),
        (EventsDtype("h", "UTC"), [pd.Timedelta("1h")], "Expected datetimes as times"),
        (EventsDtype("h", "UTC"), pd.Timestamp("2020-01-01"), "Expected time zone aware.*naive"),
        (EventsDtype("h", "naive"), pd.Timestamp("2020-01-01", tz="UTC"), "Expected naive.*in UTC"),
        (EventsDtype("h", "naive"), ["long ago"], "pandas.to_datetime does not read"),
    ],
)
@pytest.mark.filterwarnings("ignore:Could not infer format")
def test_times_of_another_kind_are_refused(dtype, values, message):
    with pytest.raises(DataError, match=message):
        dtype.to_clock(values)


# -- in a frame ---------------------------------------------------------------------------------


def test_frame_operations_keep_the_dtype(frame):
    other = pd.DataFrame({"sex": ["f", "m"]}, index=["c", "a"])
    results = [
        frame.iloc[[2, 0]],
        frame.loc[["c", "a"]],
        frame.query("age == 61 or age == 70").iloc[::-1],
        frame.merge(other, left_index=True, right_index=True).loc[["c", "a"]],
        frame.sample(frac=1.0, random_state=0).loc[["c", "a"]],
        frame.reindex(["c", "a"]),
        frame[frame["events"].events.lengths > 0].iloc[::-1],
        frame.sort_values("age").loc[["c", "a"]],
        frame.T.T.astype({"events": "events"}).loc[["c", "a"]],
    ]
    for result in results:
        assert result["events"].dtype == "events[h]"
        assert result["events"].events.lengths.tolist() == [3, 2]
        assert result["events"].iloc[1] == frame["events"].iloc[0]


def test_reindex_and_outer_merge_give_missing_rows(frame):
    assert frame.reindex(["a", "z"])["events"].isna().tolist() == [False, True]
    merged = frame.merge(pd.DataFrame(index=["z"]), how="outer", left_index=True, right_index=True)
    assert merged["events"].isna().tolist() == [False, False, False, True, True]
    added = pd.concat([frame, pd.DataFrame({"age": [3]}, index=["z"])])
    assert added["events"].dtype == "events[h]" and added["events"].isna().iloc[4]


def test_missing_is_not_empty(frame):
    assert frame["events"].isna().tolist() == [False, False, False, True]
    assert frame.dropna().index.tolist() == ["a", "b", "c"]
    filled = frame["events"].fillna(frame["events"].iloc[1])
    assert filled.notna().all() and len(filled.iloc[3]) == 0


def test_column_is_found_by_dtype(frame):
    assert frame.select_dtypes("events").columns.tolist() == ["events"]
    utc = frame.assign(events=frame["events"].array._replace(timezone="UTC"))
    assert utc.select_dtypes("events").columns.tolist() == ["events"]
    assert frame.select_dtypes("number").columns.tolist() == ["age"]


def test_reprs_are_short(array, frame):
    assert "2 events (0.5 to 2 h)" in repr(frame) and "<NA>" in repr(frame)
    assert repr(frame["events"].dtype) == "EventsDtype('h')"
    big = EventsArray._concat_same_type([array] * 50)
    assert len(repr(big)) < 1_000 and "Length: 200, dtype: events[h]" in repr(big)


def test_no_numbers_without_being_asked(frame, array):
    with pytest.raises(TypeError, match="event histories are not numbers"):
        frame.to_numpy(dtype=float)
    with pytest.raises(TypeError, match="EventSummarizer"):
        np.asarray(array, dtype=np.float32)
    assert frame["events"].to_numpy(na_value=None)[3] is None


def test_json(frame):
    records = frame["events"].array._values_for_json()
    assert records[0][1] == {
        "time": 2.0, "code": "rhythm", "value": None, "text": "sinus", "start": 0.0, "end": 24.0
    }  # fmt: skip
    assert records[1] == [] and records[3] is None
    unordered = [records[2][::-1]]
    again = EventsArray(unordered)
    assert again.time.tolist() == [1.0, 1.0, 3.0] and again.end.tolist() == [48.0]
    with pytest.raises(DataError, match="tokens cannot be read back"):
        EventsArray(unordered, dtype="events[h, tokens]")


# -- imports ------------------------------------------------------------------------------------


def run(code):
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_import_brings_neither_torch_nor_polars():
    run(
        "import sys, tawt_sklearn.events as events;"
        "assert not {'torch', 'polars'} & set(sys.modules), 'imported';"
        "import pandas as pd; pd.Series([pd.NA], dtype='events').events.lengths"
    )


def test_works_without_pyarrow():
    run(
        # Not sys.modules["pyarrow"] = None, which pandas 3.0 takes for an installed one.
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'pyarrow': raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "import pickle, pandas as pd; from tawt_sklearn.events import EventsArray;"
        "a = EventsArray.from_flat(time=[1.], code=[0], value=[2.], offsets=[0, 1], codes=['hr']);"
        "assert pickle.loads(pickle.dumps(a)).equals(a);"
        "assert pd.Series(a).events.to_long().code.tolist() == ['hr']; repr(a); a.unique()"
    )


def test_unpickling_needs_no_import(array):
    blob = pickle.dumps(array)
    run(f"import pickle; assert len(pickle.loads({blob!r})) == 4")


def test_scalar_type(array):
    assert EventsDtype.type is EventHistory is type(array[0])
