"""Event columns in Dask, and long Dask tables nested partition by partition."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from tawt_sklearn import TripletSequencer, as_events, iter_parquet, nest_events
from tawt_sklearn.events import EventsDtype
from tawt_sklearn.exceptions import DataError, DataWarning

dask = pytest.importorskip("dask")
dd = pytest.importorskip("dask.dataframe")

# Of Dask's own calls of pandas.
pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword in:DeprecationWarning")


@pytest.fixture(autouse=True)
def _in_one_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.fixture
def long() -> pd.DataFrame:
    """400 events of 30 subjects in any order, with ties, numbers, texts and neither."""
    random = np.random.default_rng(0)
    E = 400
    code = random.choice(["hr", "temp", "rhythm", "note"], E)
    value = np.where(code == "rhythm", "af", random.normal(size=E).round(3).astype(str))
    value = pd.Series(value, dtype="str").mask(code == "note")
    return pd.DataFrame(
        {
            "subject_id": random.integers(0, 30, E) * 7,
            "time": random.integers(0, 10, E) / 2,
            "code": code,
            "value": value,
        }
    )


@pytest.fixture
def patients() -> pd.DataFrame:
    """Some of the subjects, one that has no events, in an order of their own."""
    keys = np.random.default_rng(1).permutation(np.append(np.arange(0, 140, 7), 999))
    index = pd.Index(keys, name="subject_id")
    return pd.DataFrame({"age": 40 + keys % 50, "sex": np.where(keys % 2, "f", "m")}, index=index)


def in_order(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.sort_index(kind="stable")


def assert_same(dask_frame, expected: pd.DataFrame) -> None:
    computed = in_order(dask_frame.compute())
    pd.testing.assert_frame_equal(computed, in_order(expected), check_dtype=False)
    assert computed["events"].dtype == expected["events"].dtype
    assert dask_frame.columns.tolist() == expected.columns.tolist()
    assert dask_frame._meta["events"].dtype == expected["events"].dtype
    assert dask_frame._meta.index.dtype == computed.index.dtype
    assert dask_frame.index.name == "subject_id"


# ---- the column ---------------------------------------------------------------------------------


def test_an_events_column_goes_through_dask(long, tmp_path):
    X = nest_events(long)
    lazy = dd.from_pandas(X, npartitions=4)
    assert lazy.dtypes["events"] == EventsDtype("h")
    assert len(lazy._meta_nonempty) == 2
    pd.testing.assert_frame_equal(lazy.compute(), X)
    pd.testing.assert_frame_equal(lazy.repartition(npartitions=2).compute(), X)
    early = lazy.map_partitions(lambda part: part.assign(events=part["events"].events.until(2.0)))
    pd.testing.assert_frame_equal(early.compute(), X.assign(events=X["events"].events.until(2.0)))


def test_files_hold_all_that_any_partition_has(long, tmp_path):
    until = pd.DataFrame({"subject_id": [7, 14, 21], "prediction_time": [2.0, 3.0, 0.1]})
    X = nest_events(long, until=until)
    X.loc[7, "events"] = nest_events(long.query("code == 'hr'"))["events"].array[0]
    dd.from_pandas(X, npartitions=3).to_parquet(tmp_path)
    again = dd.read_parquet(tmp_path)
    pd.testing.assert_frame_equal(again.compute(), X)


def test_files_of_numeric_codes_need_a_schema_of_their_own(long, tmp_path):
    X = nest_events(long.assign(code=long["code"].str.len()))
    lazy = dd.from_pandas(X, npartitions=2)
    with pytest.raises(DataError, match="schema=None"):
        lazy.to_parquet(tmp_path)
    lazy.to_parquet(tmp_path, schema=None)
    pd.testing.assert_frame_equal(dd.read_parquet(tmp_path).compute(), X)


def test_dask_names_columns_by_what_they_hold(long):
    X = nest_events(long)
    twin, other = nest_events(long.copy()), nest_events(long.iloc[1:])
    assert dask.base.tokenize(X) == dask.base.tokenize(twin) != dask.base.tokenize(other)
    tokens = [EventsDtype("h", None, vocabulary) for vocabulary in ("{}", "{...}")]
    assert dask.base.tokenize(tokens[0]) != dask.base.tokenize(tokens[1])


@pytest.mark.parametrize(
    "imports", ["import tawt_sklearn.events, dask.dataframe as dd", "import dask.dataframe as dd"]
)
def test_dask_learns_of_the_dtype_whichever_is_imported_first(imports):
    code = (
        f"{imports}\nimport pandas as pd\nfrom tawt_sklearn import as_events\nimport numpy as np\n"
        "X = as_events(np.ones((4, 2, 3)))\n"
        "print(len(dd.from_pandas(X, npartitions=2)._meta_nonempty))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout.strip(), done.returncode) == ("2", 0), done.stderr


def test_dask_is_not_imported_for_others():
    code = (
        "import sys\nimport numpy as np\nfrom tawt_sklearn import as_events\n"
        "as_events(np.ones((4, 2, 3))).iloc[:0]\nprint('dask' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_tokens_are_written_with_their_own_schema(long, tmp_path):
    tokens = TripletSequencer().fit_transform(nest_events(long))
    lazy = dd.from_pandas(tokens, npartitions=2)
    with pytest.raises(DataError, match="schema=None"):
        lazy.to_parquet(tmp_path)
    lazy.to_parquet(tmp_path, schema=None)
    pd.testing.assert_frame_equal(dd.read_parquet(tmp_path).compute(), tokens)
    pd.testing.assert_frame_equal(pd.concat(list(iter_parquet(tmp_path))), tokens)


# ---- nesting ------------------------------------------------------------------------------------


@pytest.mark.parametrize("npartitions", [1, 3, 40])
def test_a_dask_table_is_nested_like_the_whole_table(long, npartitions):
    lazy = nest_events(dd.from_pandas(long, npartitions=npartitions))
    assert_same(lazy, nest_events(long))


def test_nothing_is_computed_before_it_is_asked_for(long):
    def fail(part):
        raise AssertionError("computed")

    events = dd.from_pandas(long, npartitions=3).map_partitions(fail, meta=long.iloc[:0])
    lazy = nest_events(events, static=pd.DataFrame({"age": [1]}, index=[0]), until=2.0)
    assert lazy.columns.tolist() == ["age", "events"]
    with pytest.raises(AssertionError, match="computed"):
        lazy.compute()


def test_sorted_partitions_are_nested_where_they_are(long):
    events = dd.from_pandas(long.sort_values("subject_id", kind="stable"), npartitions=1)
    events = events.set_index("subject_id", sorted=True).repartition(divisions=[0, 50, 120, 203])
    lazy = nest_events(events)
    assert lazy.divisions == events.divisions
    assert not any("huffle" in str(key) for key in lazy.optimize().dask)
    pd.testing.assert_frame_equal(lazy.compute(), nest_events(long))
    np.testing.assert_array_equal(lazy.loc[70].compute().index, [70])


def test_an_index_of_unknown_divisions_is_shuffled(long):
    whole = long.set_index("subject_id").sort_index(kind="stable")
    events = dd.from_pandas(whole, npartitions=3)
    assert_same(nest_events(events.clear_divisions()), nest_events(long))


def test_any_kind_of_column_that_pandas_takes_is_taken(long):
    long = long.assign(
        time=long["time"].astype("Float64"),
        code=long["code"].astype("category"),
        value=pd.Series(range(len(long)), dtype="Int64").mask(long["code"] == "note"),
    )
    long.loc[[3, 10], "time"] = pd.NA
    lazy = nest_events(dd.from_pandas(long, npartitions=4), null_time="first")
    assert_same(lazy, nest_events(long, null_time="first"))


@pytest.mark.parametrize("sorted_partitions", [False, True])
@pytest.mark.parametrize("lazy_tables", [False, True])
@pytest.mark.parametrize("what", ["static", "until", "both"])
def test_static_columns_and_times_find_their_partition(
    long, patients, sorted_partitions, lazy_tables, what
):
    events = dd.from_pandas(long, npartitions=5)
    if sorted_partitions:
        whole = long.sort_values("subject_id", kind="stable").set_index("subject_id")
        events = dd.from_pandas(whole, npartitions=5)
    until = pd.Series(np.arange(len(patients)) / 5.0, index=patients.index, name="prediction_time")
    tables = {"static": patients, "until": until[:-3]}
    if what != "both":
        tables = {what: tables[what]}
    lazy = dict(tables)
    if lazy_tables:
        lazy = {name: dd.from_pandas(table, npartitions=2) for name, table in tables.items()}
    with pytest.warns(DataWarning, match="left out"):
        expected = nest_events(long, **tables)
    result = nest_events(events, **lazy)
    with pytest.warns(DataWarning, match="left out"):
        assert_same(result, expected)


def test_one_time_for_all_cuts_every_partition(long):
    lazy = nest_events(dd.from_pandas(long, npartitions=4), until=2.5)
    assert_same(lazy, nest_events(long, until=2.5))


def test_several_times_of_a_subject_give_several_rows_of_one_index(long):
    until = pd.DataFrame({"subject_id": [7, 0, 7, 14], "prediction_time": [3.0, 1.0, 1.5, 4.0]})
    computed = nest_events(dd.from_pandas(long, npartitions=4), until=until).compute()
    expected = nest_events(long, until=until).sort_index()
    computed = computed.sort_index(kind="stable")
    assert computed.index.tolist() == [0, 7, 7, 14]
    np.testing.assert_array_equal(computed["events"].events.end, [1.0, 1.5, 3.0, 4.0])
    assert (computed["events"].array == expected["events"].array).all()


def test_datetimes_keep_their_time_zone(long):
    stamps = pd.Timestamp("2020-01-01", tz="Europe/Vienna") + pd.to_timedelta(long["time"], "h")
    long = long.assign(time=stamps)
    lazy = nest_events(dd.from_pandas(long, npartitions=3), until=stamps.iloc[0])
    assert lazy.dtypes["events"].timezone == "Europe/Vienna"
    assert_same(lazy, nest_events(long, until=stamps.iloc[0]))


def test_subjects_and_codes_may_be_strings_and_numbers(long):
    long = long.assign(
        subject_id="p" + long["subject_id"].astype(str), code=long["code"].str.len(), value=1.0
    )
    static = pd.DataFrame({"age": 1.0}, index=long["subject_id"].unique())
    lazy = nest_events(dd.from_pandas(long, npartitions=6), static=static)
    expected = nest_events(long, static=static)
    assert_same(lazy, expected.set_axis(expected.index.astype("string")))  # as Dask has strings


def test_columns_go_by_any_name(long):
    names = {"subject": "who", "time": "when", "code": "what", "value": "number", "text": False}
    long.columns = ["who", "when", "what", "number"]
    lazy = nest_events(dd.from_pandas(long, npartitions=2), **names, name="history")
    assert lazy.columns.tolist() == ["history"]
    expected = nest_events(long, **names, name="history")
    pd.testing.assert_frame_equal(in_order(lazy.compute()), expected, check_index_type=False)


def test_threads_shuffle_to_the_same_rows(long):
    lazy = nest_events(dd.from_pandas(long, npartitions=40))
    pd.testing.assert_frame_equal(
        in_order(lazy.compute(scheduler="threads")), lazy.compute().sort_index()
    )


# ---- refusals -----------------------------------------------------------------------------------


def test_faults_are_told_before_anything_is_computed(long, patients):
    events = dd.from_pandas(long, npartitions=2)
    with pytest.raises(DataError, match="Expected a code column in events"):
        nest_events(events.drop(columns="code"))
    with pytest.raises(DataError, match="Expected the subjects of static= to be of the type"):
        nest_events(events, static=patients.set_axis(patients.index.astype(str)))
    with pytest.raises(DataError, match="Expected static= without a column 'events'"):
        nest_events(events, static=patients.rename(columns={"age": "events"}))
    with pytest.raises(DataError, match="Expected numbers as until"):
        nest_events(events, until=pd.Timestamp("2020-01-01"))
    with pytest.raises(DataError, match="one row per subject"):
        nest_events(events, static=pd.concat([patients, patients]))
    with pytest.raises(DataError, match="nested already"):
        nest_events(dd.from_pandas(nest_events(long), npartitions=2))


def test_types_that_partitions_would_guess_at_are_refused(long):
    with dask.config.set({"dataframe.convert-string": False}):
        objects = dd.from_pandas(long.astype({"value": object}), npartitions=2)
    with pytest.raises(DataError, match=r"Convert it with events.astype\(\{'value': 'string'\}\)"):
        nest_events(objects)
    categories = dd.from_pandas(long.astype({"subject_id": "category"}), npartitions=2)
    with pytest.raises(DataError, match="Expected numbers or strings as subjects"):
        nest_events(categories)


def test_missing_times_are_told_when_a_partition_is_computed(long):
    long.loc[3, "time"] = np.nan
    events = dd.from_pandas(long, npartitions=2)
    with pytest.raises(DataError, match='null_time="drop"'):
        nest_events(events).compute()
    lazy = nest_events(events, null_time="drop")
    with pytest.warns(DataWarning, match="1 event without a time"):
        assert lazy["events"].map_partitions(lambda c: c.events.lengths.sum()).compute().sum()


def test_rows_in_memory_are_asked_for_with_what_to_do(long):
    with pytest.raises(DataError, match=r"Dask DataFrame of 2 partitions.*nest_events"):
        as_events(dd.from_pandas(long, npartitions=2))
