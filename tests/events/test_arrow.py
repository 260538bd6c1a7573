"""Events columns to Arrow and Parquet and back, and what other readers see there."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tawt_sklearn.events import EventsArray, EventsDtype, as_events
from tawt_sklearn.events.arrow import TOKENS, from_arrow, to_arrow
from tawt_sklearn.exceptions import DataError

EVENT = {"time": pa.float64(), "code": pa.string(), "value": pa.float32()}
LISTS = pa.list_(pa.struct(EVENT))


@pytest.fixture
def array():
    """Two events; none; three with a missing code and a tie; a missing row."""
    return EventsArray.from_flat(
        time=[0.5, 2.0, 1.0, 1.0, 3.0],
        code=[0, 1, 0, -1, 1],
        value=[80.0, np.nan, 95.0, 1.0, np.nan],
        offsets=[0, 2, 2, 5, 5],
        codes=["hr", "rhythm", "unused"],
        isna=[False, False, False, True],
    )


@pytest.fixture
def full(array):
    """The same with texts and windows."""
    return array._replace(
        text=[-1, 1, -1, -1, 0],
        texts=["af", "sinus"],
        start=[0.0, np.nan, np.nan, np.nan],
        end=[24.0, np.nan, 48.0, np.nan],
    )


@pytest.fixture
def tokens(full):
    """Tokenised: every row has a window, most labels do not occur."""
    labels = ["[UNK]", "[MISSING]", "[MASK]", 220045, "rhythm", "rare"]
    return full._replace(
        code=[3, 4, 3, 1, 4],
        codes=labels,
        texts=["rhythm=[UNK]", "rhythm=af", "rhythm=sinus"],
        start=[0.0, 0.0, 0.0, np.nan],
        end=[24.0, 6.0, 48.0, np.nan],
        vocabulary=json.dumps({"codes": labels, "note": "äöü"}),
    )


def through_parquet(array, **options):
    file = io.BytesIO()
    pd.DataFrame({"age": range(len(array)), "events": array}).to_parquet(file, **options)
    file.seek(0)
    return pd.read_parquet(file)["events"]


def same_content(left, right):
    """Equal with all ids and labels as they were."""
    for name in ("time", "code", "value", "text", "offsets", "start", "end"):
        one, other = getattr(left, name), getattr(right, name)
        if name in ("start", "end"):
            one, other = one[~left.isna()], other[~left.isna()]
        np.testing.assert_array_equal(one, other)
    assert left.codes.equals(right.codes)
    assert (left.texts is None and right.texts is None) or left.texts.equals(right.texts)
    return left.equals(right) and left.dtype == right.dtype


# -- raw content --------------------------------------------------------------------------------


def test_raw_content_is_a_plain_list_of_structs(array, full):
    assert pa.array(array).type == LISTS
    assert pa.array(array).to_pylist() == [
        [
            {"time": 0.5, "code": "hr", "value": 80.0},
            {"time": 2.0, "code": "rhythm", "value": None},
        ],
        [],
        [
            {"time": 1.0, "code": "hr", "value": 95.0},
            {"time": 1.0, "code": None, "value": 1.0},
            {"time": 3.0, "code": "rhythm", "value": None},
        ],
        None,
    ]
    bounds = {"text": pa.string(), "start": pa.float64(), "end": pa.float64()}
    assert pa.array(full).type == pa.list_(pa.struct({**EVENT, **bounds}))
    assert pa.array(full).to_pylist()[2][2] == {
        "time": 3.0, "code": "rhythm", "value": None, "text": "af", "start": None, "end": 48.0
    }  # fmt: skip


@pytest.mark.parametrize(
    "clock",
    [
        {},
        {"time_unit": "D"},
        {"time_unit": "step"},
        {"timezone": "naive"},
        {"timezone": "Europe/Vienna", "time_unit": "min"},
    ],
)
def test_parquet_restores_the_dtype(full, clock):
    full = full._replace(**clock)
    again = through_parquet(full)
    assert again.dtype == full.dtype
    assert again.array.equals(full)


def test_an_empty_history_keeps_its_window(full):
    full = full._replace(end=[24.0, 6.0, 48.0, np.nan])
    again = through_parquet(full).array
    assert again.equals(full) and again.lengths.tolist() == [2, 0, 3, 0]
    # To others it is a record of nothing but the window.
    record = {"time": None, "code": None, "value": None, "text": None, "start": 0.0, "end": 6.0}
    starts = full._replace(start=[0.0, 0.0, np.nan, np.nan])
    assert pa.array(starts).to_pylist()[1] == [record]
    assert EventsDtype().__from_arrow__(pa.array(starts)).equals(starts)
    assert EventsDtype().__from_arrow__(pa.array(starts[1:2])).equals(starts[1:2])


@pytest.mark.parametrize("library", ["polars", "arrow", "arrow dtype"])
def test_columns_come_back_from_other_libraries(full, tokens, library):
    arrays = [full._replace(end=[24.0, 6.0, 48.0, np.nan]), tokens]
    if library == "polars" and int(pl.__version__.split(".")[0]) < 2:
        del arrays[1]  # it does not keep extension types that are not its own
    for array in arrays:
        table = pa.Table.from_pandas(pd.DataFrame({"events": array}))
        if library == "polars":
            table = pl.from_arrow(table)
        elif library == "arrow dtype":
            table = table.to_pandas(types_mapper=pd.ArrowDtype)
        again = as_events(table)["events"].array
        assert again.dtype == array.dtype and again.equals(array)


def test_integer_codes_stay_integers(array):
    numbered = array._replace(codes=[220045, 220050, 7])
    assert pa.array(numbered).type.value_type.field("code").type == pa.int64()
    again = through_parquet(numbered)
    assert again.array.equals(numbered) and again.events.codes.dtype == np.int64


@pytest.mark.parametrize("rows", [slice(0, 0), slice(1, 2), slice(3, 4), slice(1, 4)])
def test_empty_and_missing_rows_survive(full, rows):
    again = through_parquet(full[rows])
    assert again.array.equals(full[rows]) and again.dtype == full.dtype


def test_small_row_groups_and_slices(full):
    big = EventsArray._concat_same_type([full] * 5)
    assert through_parquet(big, row_group_size=3).array.equals(big)
    data = pa.array(big)
    assert from_arrow(data[3:11], big.dtype).equals(big[3:11])
    chunked = pa.chunked_array([data[:6], data[6:7], data[7:]])
    assert from_arrow(chunked, big.dtype).equals(big)
    assert len(from_arrow(pa.chunked_array([], type=data.type), big.dtype)) == 0


@given(st.lists(st.none() | st.lists(st.tuples(st.integers(0, 3), st.sampled_from("ab")))))
def test_any_rows_round_trip(rows):
    rows = [
        None if row is None else [{"time": float(time), "code": code} for time, code in row]
        for row in rows
    ]
    array = EventsArray(rows)
    array._content.validate()
    assert from_arrow(to_arrow(array), array.dtype).equals(array)


def test_polars_reads_the_file(full, tmp_path):
    pd.DataFrame({"events": full}).to_parquet(tmp_path / "events.parquet")
    frame = pl.read_parquet(tmp_path / "events.parquet")
    assert frame["events"].list.len().to_list() == [2, 0, 3, None]
    long = frame.explode("events").unnest("events").drop_nulls("time")
    assert long["code"].to_list() == ["hr", "rhythm", "hr", None, "rhythm"]
    assert pl.from_pandas(pd.DataFrame({"events": full}))["events"].to_list()[1] == []


def test_files_of_polars_can_be_read(full, tmp_path):
    pl.from_pandas(pd.DataFrame({"events": full})).write_parquet(tmp_path / "polars.parquet")
    data = pq.read_table(tmp_path / "polars.parquet")["events"]
    assert from_arrow(data, full.dtype).equals(full)
    assert from_arrow(pl.Series([[]], dtype=pl.List(pl.Struct({"time": float, "code": str}))
                                ).to_arrow(), full.dtype).lengths.tolist() == [0]  # fmt: skip


@pytest.mark.parametrize(
    "kind",
    [
        pa.large_list(pa.struct(EVENT)),
        pa.list_view(pa.struct(EVENT)),
        pa.list_(pa.struct({**EVENT, "code": pa.large_string()})),
        pa.list_(pa.struct({**EVENT, "code": pa.string_view()})),
        pa.list_(pa.struct({**EVENT, "time": pa.int32(), "value": pa.float64()})),
    ],
)
def test_other_list_types_are_read(array, kind):
    whole = array._replace(time=[0, 2, 1, 1, 3])
    rows = pa.array(whole).to_pylist()
    for row in rows:
        for event in row or ():
            event["time"] = int(event["time"])
    assert from_arrow(pa.array(rows, type=kind), array.dtype).equals(whole)


def test_dictionaries_and_fixed_sizes_are_read():
    codes = pa.DictionaryArray.from_arrays(pa.array([1, 0, 1, None]), pa.array(["x", "hr"]))
    events = pa.StructArray.from_arrays([pa.array([1.0, 2.0, 3.0, 4.0]), codes], ["time", "code"])
    array = from_arrow(pa.FixedSizeListArray.from_arrays(events, 2), EventsDtype())
    assert [row.code.tolist() for row in array] == [["hr", "x"], ["hr", None]]
    assert np.isnan(array.value).all()


def test_timestamps_are_put_on_the_clock():
    stamps = pa.array([3_600_000_000, 7_200_000_000], type=pa.timestamp("us", tz="UTC"))
    events = pa.StructArray.from_arrays([stamps, pa.array(["hr", "hr"])], ["time", "code"])
    data = pa.ListArray.from_arrays([0, 2], events)
    assert from_arrow(data, EventsDtype("h", "Europe/Vienna")).time.tolist() == [1.0, 2.0]
    with pytest.raises(DataError, match="Expected naive datetimes"):
        from_arrow(data, EventsDtype("h", "naive"))


def test_unsorted_rows_are_sorted():
    rows = [[{"time": 2.0, "code": "b"}, {"time": 1.0, "code": "a"}], [{"time": 0.0, "code": "c"}]]
    array = from_arrow(pa.array(rows), EventsDtype())
    assert [row.code.tolist() for row in array] == [["a", "b"], ["c"]]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([1, 2], "Expected a list of structs .* Got Arrow data of type int64"),
        ([[1, 2]], "Expected a list of structs"),
        ([[{"when": 1.0, "code": "hr"}]], r"Got fields \['code', 'when'\]: time missing"),
        ([[{"time": None, "code": "hr"}]], "Got 1 events without one"),
        ([[{"time": "1", "code": "hr"}]], "Expected numbers. Got Arrow data of type string"),
        ([[{"time": 1.0, "code": 1.5}]], "strings or integers as code. .* double"),
        ([[None, {"time": 1.0, "code": "hr"}]], "no missing events inside .* Got 1 null structs"),
    ],
)
def test_other_data_are_refused(rows, message):
    with pytest.raises(DataError, match=message):
        from_arrow(pa.array(rows), EventsDtype())


def test_column_of_nulls_is_missing():
    assert from_arrow(pa.nulls(2), EventsDtype()).isna().tolist() == [True, True]


# -- tokenised content --------------------------------------------------------------------------


def test_tokens_round_trip_with_ids_and_vocabulary(tokens):
    again = through_parquet(tokens)
    assert again.dtype == tokens.dtype
    assert again.events.vocabulary == tokens.dtype.vocabulary
    assert same_content(again.array, tokens)


@pytest.mark.parametrize("rows", [slice(0, 0), slice(1, 2), slice(3, 4), slice(1, 4)])
def test_tokens_of_some_rows_round_trip(tokens, rows):
    assert same_content(through_parquet(tokens[rows]).array, tokens[rows])


def test_tokens_without_texts(tokens):
    bare = tokens._replace(text=None, texts=None, timezone="UTC")
    assert same_content(through_parquet(bare).array, bare)


def test_tokens_in_chunks_and_slices(tokens):
    big = EventsArray._concat_same_type([tokens] * 4)
    assert same_content(through_parquet(big, row_group_size=3).array, big)
    data = pa.array(big)
    assert data.type.extension_name == TOKENS
    assert same_content(from_arrow(data[3:9], big.dtype), big[3:9])
    chunked = pa.chunked_array([data[:5], data[5:]])
    assert same_content(from_arrow(chunked, EventsDtype()), big)
    assert len(from_arrow(pa.chunked_array([], type=data.type), big.dtype)) == 0


def test_tables_of_different_vocabularies_do_not_mix(tokens):
    other = tokens._replace(vocabulary="{}")
    tables = [pa.table({"events": pa.array(array)}) for array in (tokens, other)]
    with pytest.raises(pa.ArrowInvalid):
        pa.concat_tables(tables)
    assert tables[0].to_pandas()["events"].dtype == tokens.dtype


def test_fresh_process_reads_tokens(tokens, tmp_path):
    """The type must be known to pyarrow as soon as the package is imported."""
    path = tmp_path / "tokens.parquet"
    pd.DataFrame({"events": tokens}).to_parquet(path)
    code = (
        "import sys, tawt_sklearn.events, pandas as pd;"
        "events = pd.read_parquet(sys.argv[1])['events'];"
        "assert events.dtype == 'events[h, tokens]' and events.events.vocabulary, events.dtype;"
        "assert events.events.codes[3] == 220045"
    )
    subprocess.run([sys.executable, "-c", code, path], check=True, timeout=120)


def test_tokens_that_lost_their_type_are_refused(tokens):
    with pytest.raises(DataError, match=f"Expected Arrow data of type {TOKENS}.*Import tawt"):
        from_arrow(pa.array(tokens).storage, tokens.dtype)
