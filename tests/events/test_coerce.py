"""as_events and find_events: every form with one row per subject comes in."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from scipy import sparse

from tawt_sklearn.events import EventsDtype, as_events, find_events, nest_events
from tawt_sklearn.exceptions import DataError, NotNestedError

RECORDS = [
    [{"time": 2.0, "code": "hr", "value": 80.0}, {"time": 1.0, "code": "temp", "value": None}],
    [],
    None,
    [{"time": 1.0, "code": "hr", "value": 90.0}],
]
TYPE = pa.list_(pa.struct([("time", pa.float64()), ("code", pa.string()), ("value", pa.float32())]))


@pytest.fixture
def frame() -> pd.DataFrame:
    long = pd.DataFrame(
        {"subject_id": list("aab"), "time": [1.0, 2.0, 3.0], "code": "hr", "value": 1.0}
    )
    return nest_events(long, static=pd.DataFrame({"age": [1, 2]}, index=["a", "b"]))


def struct_of_lists() -> pa.Array:
    fields = {
        name: [None if row is None else [event[name] for event in row] for row in RECORDS]
        for name in ("time", "code", "value")
    }
    return pa.StructArray.from_arrays(
        [pa.array(column) for column in fields.values()],
        names=list(fields),
        mask=pa.array([row is None for row in RECORDS]),
    )


def check(X: pd.DataFrame, name: str = "events") -> None:
    """X holds RECORDS."""
    assert find_events(X) == name
    array = X[name].array
    assert array.dtype == EventsDtype("h")
    assert array.isna().tolist() == [False, False, True, False]
    assert array.offsets.tolist() == [0, 2, 2, 2, 3]
    assert array.time.tolist() == [1.0, 2.0, 1.0]
    assert array.codes[array.code].tolist() == ["temp", "hr", "hr"]
    assert np.array_equal(array.value, [np.nan, 80.0, 90.0], equal_nan=True)
    assert array.text is None


# -- events columns -------------------------------------------------------------------------


def test_a_frame_with_an_events_column_is_returned_as_it_is(frame):
    assert as_events(frame) is frame


def test_columns_and_arrays_of_events(frame):
    assert as_events(frame["events"]).columns.tolist() == ["events"]
    assert as_events(frame["events"]).index.equals(frame.index)
    assert as_events(frame["events"].rename(None), name="history").columns.tolist() == ["history"]
    X = as_events(frame["events"].array, name="history")
    assert X["history"].array is not None
    assert X.index.equals(pd.RangeIndex(2))
    assert X["history"].events.lengths.tolist() == [2, 1]


def test_a_list_of_histories(frame):
    X = as_events(list(frame["events"].array))
    assert (X["events"].array == frame["events"].array).all()
    X = as_events(pd.DataFrame({"e": frame["events"].astype(object)}))
    assert (X["e"].array == frame["events"].array).all()


def test_find_events(frame):
    assert find_events(frame) == "events"
    assert find_events(frame.rename(columns={"events": "history"})) == "history"


def test_two_events_columns(frame):
    two = frame.assign(more=frame["events"])
    for function in (find_events, as_events):
        with pytest.raises(DataError, match=r"Got 2: 'events', 'more'. Drop all but one"):
            function(two)


# -- columns of records ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "column",
    [
        pa.array(RECORDS, TYPE),
        pa.array(RECORDS, pa.large_list(TYPE.value_type)),
        pa.array(RECORDS, pa.list_view(TYPE.value_type)),
        pa.chunked_array([pa.array(RECORDS[:1], TYPE), pa.array(RECORDS[1:], TYPE)]),
        pa.array([RECORDS[0], *RECORDS], TYPE)[1:],
        struct_of_lists(),
        pa.chunked_array([struct_of_lists()[:2], struct_of_lists()[2:]]),
        pl.Series(RECORDS),
    ],
    ids=["list", "large", "view", "chunked", "sliced", "struct", "struct chunks", "polars"],
)
def test_arrow_and_polars_columns(column):
    check(as_events(column))
    if isinstance(column, pl.Series):
        table = pl.DataFrame({"age": [1, 2, 3, 4], "history": column})
    else:
        pandas = pd.DataFrame({"age": [1, 2, 3, 4]}, index=list("abcd"))
        chunks = column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])
        pandas["history"] = pd.array(chunks, dtype=pd.ArrowDtype(column.type))
        X = as_events(pandas)
        check(X, "history")
        assert X.index.tolist() == list("abcd")
        assert X["age"].tolist() == [1, 2, 3, 4]
        assert not isinstance(pandas["history"].dtype, EventsDtype)
        check(as_events(pandas["history"]), "history")
        table = pa.table({"age": [1, 2, 3, 4], "history": column})
    X = as_events(table)
    assert X.columns.tolist() == ["age", "history"]
    assert X["age"].tolist() == [1, 2, 3, 4]
    check(X, "history")


@pytest.mark.parametrize(
    "rows",
    [
        RECORDS,
        [None if row is None else tuple(row) for row in RECORDS],
        [
            None if row is None else pd.DataFrame(row, columns=["time", "code", "value"])
            for row in RECORDS
        ],
    ],
    ids=["lists of dicts", "tuples of dicts", "frames"],
)
def test_python_objects(rows):
    check(as_events(rows))
    column = pd.Series(rows, dtype=object, index=list("abcd"))
    check(as_events(column))
    check(as_events(column.to_numpy()))
    X = as_events(pd.DataFrame({"age": 1, "history": column}))
    check(X, "history")
    assert X.index.tolist() == list("abcd")
    assert X.columns.tolist() == ["age", "history"]


def test_missing_rows_may_be_nan_or_na():
    rows = [RECORDS[0], [], np.nan, RECORDS[3]]
    check(as_events(pd.Series(rows, dtype=object)))
    check(as_events([RECORDS[0], [], pd.NA, RECORDS[3]]))


def test_all_rows_empty_or_missing():
    X = as_events(pd.Series([[], None, []], dtype=object))
    assert X["events"].events.lengths.tolist() == [0, 0, 0]
    assert X["events"].isna().tolist() == [False, True, False]
    assert len(as_events(pa.array([], TYPE))) == 0
    assert as_events(pa.chunked_array([], TYPE)).columns.tolist() == ["events"]


def test_frames_with_the_time_in_the_index():
    frames = [pd.DataFrame({"time": [2.0, 1.0], "code": "hr", "value": [1, 2]}).set_index("time")]
    assert as_events(frames)["events"].events.flat("value").tolist() == [2.0, 1.0]


def test_other_names_datetimes_texts_and_no_values_in_records():
    stamps = pd.to_datetime(["2020-01-02", "2020-01-01"]).tz_localize("UTC")
    rows = [pd.DataFrame({"timestamp": stamps, "data_type": [7, 8], "text_value": ["x", None]})]
    array = as_events(rows, time_unit="D")["events"].array
    assert array.dtype == EventsDtype("D", "UTC")
    assert array[0].code.tolist() == [8, 7]
    assert array[0].text.tolist() == [None, "x"]
    assert np.isnan(array.value).all()


def test_our_own_column_comes_back_from_arrow(frame):
    X = as_events(pa.table({"events": pa.array(frame["events"].array)}))
    assert (X["events"].array == frame["events"].array).all()
    cut = frame.assign(events=frame["events"].events.until(2.0))
    X = as_events(pa.table({"events": pa.array(cut["events"].array)}))
    assert X["events"].events.end[0] == 2.0


def test_an_array_of_objects_as_column_transformers_make(frame):
    X = frame.assign(age=np.arange(len(frame)) * 1.5, sex="f")[["age", "events", "sex"]]
    again = as_events(X.to_numpy(), name="history")
    assert again.columns.tolist() == ["x0", "history", "x2"]
    assert again["history"].array.equals(X["events"].array)
    assert again["x0"].dtype == np.float64 and again["x2"].tolist() == X["sex"].tolist()
    with pytest.raises(DataError, match="Expected one column of event histories. Got 2"):
        as_events(np.stack([X["events"].array, X["events"].array], axis=1))


def test_nested_pandas():
    nested_pandas = pytest.importorskip("nested_pandas")
    long = pd.DataFrame({"time": [2.0, 1.0, 5.0], "code": ["a", "b", "a"], "value": [1.0, 2, 3]})
    X = as_events(
        nested_pandas.NestedFrame({"age": [1, 2, 3]}).join_nested(long.set_axis([0, 0, 2]), "ev")
    )
    assert type(X) is pd.DataFrame
    assert X["ev"].isna().tolist() == [False, True, False]
    assert X["ev"].events.flat("value").tolist() == [2.0, 1.0, 3.0]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[{"time": 1.0}]], "Expected a code column in the histories.* Rename it"),
        ([[{"code": "a", "value": 1.0}]], "Expected a time column in the histories"),
        ([[{"time": None, "code": "a"}]], r"have a time \('time'\). Got 1 event without \(row 0"),
        ([[{"time": "x", "code": "a"}]], "Expected numbers, datetimes or time differences"),
        ([[{"time": 1.0, "code": "a", "value": np.inf}]], "Expected finite values"),
        ([[{"time": 1.0, "code": "a"}], 3], "rows to be of the same kind.*Got list and int"),
        ([pd.DataFrame(), [{"time": 1.0}]], "Got DataFrame and list"),
    ],
)
def test_records_that_are_wrong(rows, message):
    with pytest.raises(DataError, match=message):
        as_events(rows)


def test_lists_of_different_length_in_a_struct():
    fields = pa.struct({"time": pa.list_(pa.float64()), "code": pa.list_(pa.string())})
    column = pa.array([{"time": [1.0, 2.0], "code": ["a"]}], fields)
    with pytest.raises(DataError, match="lists of the same length in the fields time, code"):
        as_events(column)


def test_two_columns_of_records():
    with pytest.raises(DataError, match="Got 2: 'a', 'b'"):
        as_events(pd.DataFrame({"a": pd.Series(RECORDS), "b": pd.Series(RECORDS)}))
    with pytest.raises(DataError, match="Got 2: 'a', 'b'"):
        as_events(pl.DataFrame({"a": pl.Series(RECORDS), "b": pl.Series(RECORDS)}))


# -- panels ---------------------------------------------------------------------------------


def test_a_panel():
    panel = np.array([[[1, np.nan, 3], [4, 5, np.nan]], [[np.nan] * 3, [np.nan, 7, 8]]])

    array = as_events(panel)["events"].array

    assert array.dtype == EventsDtype("step")
    assert array.codes.tolist() == ["channel_0", "channel_1"]
    assert array.offsets.tolist() == [0, 4, 6]
    assert array.time.tolist() == [0, 0, 1, 2, 1, 2]
    assert array.code.tolist() == [0, 1, 1, 0, 1, 1]
    assert array.value.tolist() == [1, 4, 5, 3, 7, 8]
    assert array.start.tolist() == [0, 0]
    assert array.end.tolist() == [2, 2]


@pytest.mark.parametrize("dtype", ["float32", "float64", "int16", "bool", "object"])
def test_panels_of_any_numbers(dtype):
    panel = np.array([[[0, 1], [1, 1]]]).astype(dtype)
    array = as_events(panel)["events"].array
    assert array.value.tolist() == [0, 1, 1, 1]
    assert array.value.dtype == np.float32


def test_what_is_masked_was_not_measured():
    panel = np.ma.masked_array([[1, 2, 3], [4, 5, 6]], mask=[[0, 1, 0], [1, 1, 0]])
    for X in (as_events(panel), as_events(list(panel))):
        assert X["events"].events.flat("value").tolist() == [1.0, 3.0, 6.0]


def test_one_series_per_row():
    array = as_events(np.array([[1.0, 2.0], [np.nan, 4.0]]))["events"].array
    assert array.codes.tolist() == ["channel_0"]
    assert array.offsets.tolist() == [0, 2, 3]
    assert array.value.tolist() == [1, 2, 4]
    assert (as_events([[1.0, 2.0], [np.nan, 4.0]])["events"].array == array).all()


def test_series_of_different_lengths():
    series = [np.array([[1.0, 2, 3], [4, np.nan, 6]]), np.zeros((2, 0)), np.array([[7.0], [8.0]])]
    array = as_events(series)["events"].array
    assert array.offsets.tolist() == [0, 5, 5, 7]
    assert array.time.tolist() == [0, 0, 1, 2, 2, 0, 0]
    assert array.value.tolist() == [1, 4, 2, 3, 6, 7, 8]
    assert np.array_equal(array.end, [2, np.nan, 0], equal_nan=True)
    column = np.empty(3, dtype=object)
    column[:] = series
    assert (as_events(column)["events"].array == array).all()
    one = as_events([np.array([1.0, 2.0]), np.array([3.0])])["events"].array
    assert one.offsets.tolist() == [0, 2, 3]
    assert one.codes.tolist() == ["channel_0"]


def test_the_panel_does_not_share_memory():
    panel = np.zeros((2, 1, 3), dtype=np.float32)
    X = as_events(panel)
    panel[:] = 7
    assert X["events"].events.flat("value").tolist() == [0] * 6


@pytest.mark.parametrize(
    ("panel", "message"),
    [
        (np.zeros(3), r"Expected an array of shape \(n_cases, n_channels, n_timepoints\).*\(3,\)"),
        (np.zeros((1, 1, 1, 1)), r"Got shape \(1, 1, 1, 1\). Reshape your data"),
        (np.array([[np.inf, 1.0]]), "Expected finite numbers, or NaN.*Got 1 value"),
        (np.array([[1e39, 1.0]]), "too large for float32"),
        (np.array([["a", "b"]]), "Expected an array of numbers. Got <U1 values such as"),
        (np.array([["a", 1]], dtype=object), "Expected an array of numbers. Got object values"),
        (np.array([[1j]]), "Expected an array of numbers. Got complex128"),
        (np.array([["2020"]], dtype="datetime64[D]"), "Expected an array of numbers"),
        ([np.zeros((2, 3)), np.zeros((1, 3))], r"same number of channels. Got \(2, 3\), \(1, 3\)"),
        ([np.zeros((2, 3, 1))], "Expected arrays of shape"),
        ([np.zeros((2, 3)), "x"], "Got 2 rows of type ndarray, str"),
        ([[1.0, 2.0], [3.0]], "lists that do not make an array of numbers"),
    ],
)
def test_panels_that_are_none(panel, message):
    with pytest.raises(DataError, match=message):
        as_events(panel)


# -- what is not accepted -------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        ["subject_id", "time", "code", "value"],
        ["subject", "timestamp", "data_type", "value"],
        ["patient", "time", "code", "numeric_value"],
    ],
)
def test_a_long_table_is_sent_to_nest_events(names):
    long = pd.DataFrame([["a", 1.0, "hr", 2.0]] * 2, columns=names)
    for function in (as_events, find_events):
        with pytest.raises(NotNestedError, match=r"one row per event.*nest_events\(events\)"):
            function(long)
    for table in (pl.from_pandas(long), pa.Table.from_pandas(long)):
        with pytest.raises(NotNestedError, match="looks like a long table"):
            as_events(table)
    with pytest.raises(NotNestedError):
        as_events(long.set_index(names[:2]))


def test_a_frame_without_events():
    frame = pd.DataFrame({"age": [1, 2], "sex": ["F", "M"]})
    for function in (as_events, find_events):
        with pytest.raises(
            DataError, match="Got the columns 'age', 'sex', none of which"
        ) as raised:
            function(frame)
        assert not isinstance(raised.value, NotNestedError)
    with pytest.raises(DataError, match="Got the columns 'age'"):
        as_events(frame["age"])
    with pytest.raises(DataError, match="none of which holds events"):
        as_events(pl.DataFrame({"age": [1]}))
    with pytest.raises(DataError, match="none of which holds events"):
        as_events(pd.DataFrame({"words": pd.Series([["a", "b"]], dtype=object)}))


@pytest.mark.parametrize(
    ("X", "got"),
    [
        (None, "NoneType"),
        ("events", "str"),
        ({"a": 1}, "dict"),
        ([], "an empty list"),
        ([None, None], "2 rows of type NoneType"),
        ([1.0, 2.0], "2 rows of type float"),
        ([object()], "1 rows of type object"),
        (sparse.csr_matrix(np.eye(2)), "csr_matrix"),
        (pl.Series([1, 2]), "a polars column of Int64"),
        (pa.array([1, 2]), "a pyarrow column of int64"),
    ],
)
def test_anything_else_lists_what_is_accepted(X, got):
    with pytest.raises(DataError, match="Expected a DataFrame with an events column") as raised:
        as_events(X)
    assert str(raised.value).endswith(f"Got {got}.")


def test_find_events_wants_a_frame():
    with pytest.raises(DataError, match="Got ndarray"):
        find_events(np.zeros((2, 3)))
