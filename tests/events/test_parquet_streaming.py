"""Parquet files of nested frames, a stretch of rows at a time."""

from __future__ import annotations

import builtins
import gc
import tracemalloc

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tawt_sklearn import TripletSequencer, iter_parquet, map_parquet, nest_events
from tawt_sklearn.datasets import make_icu_stays
from tawt_sklearn.events import EventsArray
from tawt_sklearn.exceptions import DataError, NotNestedError


@pytest.fixture(scope="session")
def X() -> pd.DataFrame:
    """60 stays, with static columns before and behind the events."""
    frame = make_icu_stays(60, random_state=0)[0]
    return frame[["age", "events", "sex"]]


def joined(path, **limits) -> pd.DataFrame:
    return pd.concat(list(iter_parquet(path, **limits)))


@pytest.fixture
def path(X, tmp_path):
    """File with three row groups."""
    X.to_parquet(tmp_path / "stays.parquet", row_group_size=25)
    return tmp_path / "stays.parquet"


def test_frames_joined_are_the_whole_file(X, path):
    frames = list(iter_parquet(path, batch_size=16))
    assert max(map(len, frames)) == 16
    pd.testing.assert_frame_equal(pd.concat(frames), X)


def test_no_frame_has_more_events_than_allowed(X, path):
    longest = X["events"].events.lengths.max()
    frames = list(iter_parquet(path, max_events=int(longest) + 100))
    assert max(len(frame["events"].events.flat("time")) for frame in frames) <= longest + 100
    pd.testing.assert_frame_equal(pd.concat(frames), X)


def test_a_history_longer_than_allowed_comes_alone(X, path):
    frames = list(iter_parquet(path, max_events=10))
    assert [len(frame) for frame in frames] == [1] * len(X)
    pd.testing.assert_frame_equal(pd.concat(frames), X)


@pytest.mark.parametrize(
    "index", [pd.RangeIndex(5, 125, 2, name="row"), pd.RangeIndex(60), pd.Index(list("ab") * 30)]
)
def test_the_index_is_that_of_the_file(X, tmp_path, index):
    X = X.set_axis(index)
    X.to_parquet(tmp_path / "stays.parquet")
    again = joined(tmp_path / "stays.parquet", batch_size=7)
    pd.testing.assert_frame_equal(again, X, check_index_type=False)


def test_a_folder_is_read_in_the_order_of_its_numbers(X, tmp_path):
    for k in range(12):
        X.iloc[5 * k : 5 * k + 5].to_parquet(tmp_path / f"part.{k}.parquet")
    pd.testing.assert_frame_equal(joined(tmp_path), X)


def test_missing_and_empty_histories_and_windows_come_back(tmp_path):
    array = EventsArray.from_flat(
        time=[0.5, 2.0, 1.0],
        code=[0, 1, 0],
        value=[1.0, np.nan, 3.0],
        offsets=[0, 2, 2, 3, 3],
        codes=["hr", "temp"],
        end=[2.0, 5.0, np.nan, np.nan],
        isna=[False, False, False, True],
    )
    X = pd.DataFrame({"events": array})
    X.to_parquet(tmp_path / "some.parquet")
    again = joined(tmp_path / "some.parquet", batch_size=1)
    pd.testing.assert_frame_equal(again, X, check_index_type=False)


def test_tokens_come_back_with_their_vocabulary(X, tmp_path):
    tokens = TripletSequencer().fit_transform(X)
    tokens.to_parquet(tmp_path / "tokens.parquet")
    again = joined(tmp_path / "tokens.parquet", max_events=3000)
    pd.testing.assert_frame_equal(again, tokens)


def test_files_that_pandas_has_not_written_are_read_too(X, tmp_path):
    table = pa.table(
        {"age": X["age"], "events": X["events"].array.__arrow_array__(), "n": [1] * 60}
    )
    pq.write_table(table.replace_schema_metadata(None), tmp_path / "plain.parquet")
    again = joined(tmp_path / "plain.parquet", batch_size=13, time_unit="min")
    assert again.columns.tolist() == ["age", "events", "n"]
    assert again.index.tolist() == list(range(60))
    assert again.dtypes["events"].time_unit == "min"
    np.testing.assert_array_equal(
        again["events"].events.flat("value"), X["events"].events.flat("value")
    )


# ---- answers beside ------------------------------------------------------------------------------


class Counter:
    """Counts the events of every row, as a classifier and as a transformer would."""

    classes_ = np.array([False, True])

    def predict(self, X):
        return X["events"].events.lengths

    def predict_proba(self, X):
        return np.stack([np.zeros(len(X)), X["events"].events.lengths], axis=1)

    def transform(self, X):
        return self.predict(X)[:, None]

    def get_feature_names_out(self):
        return ["n_events"]


@pytest.mark.parametrize(
    "method, columns",
    [
        ("predict", ["predict"]),
        ("predict_proba", ["False", "True"]),
        ("transform", ["n_events"]),
    ],
)
def test_answers_are_written_with_index_and_names(X, path, tmp_path, method, columns):
    target = map_parquet(
        getattr(Counter(), method), path, tmp_path / "answers.parquet", batch_size=7
    )
    answers = pd.read_parquet(target)
    assert answers.columns.tolist() == columns
    pd.testing.assert_index_equal(answers.index, X.index, exact=False)
    np.testing.assert_array_equal(answers[columns[-1]], X["events"].events.lengths)


def test_frames_of_events_are_written_as_they_are(X, path, tmp_path):
    target = map_parquet(
        lambda rows: rows.assign(events=rows["events"].events.until(24.0)),
        path,
        tmp_path / "day_one.parquet",
        batch_size=16,
    )
    expected = X.assign(events=X["events"].events.until(24.0))
    pd.testing.assert_frame_equal(pd.read_parquet(target), expected)


def test_a_failure_leaves_what_was_there(path, tmp_path):
    def fail_later(rows):
        if 30 in rows.index:
            raise RuntimeError("full")
        return np.zeros(len(rows))

    target = tmp_path / "answers.parquet"
    target.write_text("before")
    with pytest.raises(RuntimeError, match="full"):
        map_parquet(fail_later, path, target, batch_size=7)
    assert target.read_text() == "before"
    assert {file.name for file in tmp_path.iterdir()} == {"stays.parquet", "answers.parquet"}


def test_memory_does_not_grow_with_the_file(X, tmp_path):
    def peak(n_repeats: int) -> int:
        """Bytes at most held by Arrow and by Python while a file in one row group is read."""
        file = tmp_path / f"{n_repeats}.parquet"
        large = pd.concat([X] * n_repeats, ignore_index=True)
        large.to_parquet(file, row_group_size=len(large))
        n_events = len(large["events"].events.flat("time"))
        del large
        gc.collect()
        usual = pa.default_memory_pool()
        pool = pa.proxy_memory_pool(usual)
        pa.set_memory_pool(pool)
        tracemalloc.start()
        try:
            read = sum(
                len(frame["events"].events.flat("time"))
                for frame in iter_parquet(file, max_events=20_000)
            )
            assert read == n_events
            return tracemalloc.get_traced_memory()[1] + pool.max_memory()
        finally:
            tracemalloc.stop()
            pa.set_memory_pool(usual)

    small, large = peak(5), peak(50)
    assert large < 1.5 * small


# ---- refusals ------------------------------------------------------------------------------------


def test_long_tables_are_sent_to_the_doors_for_them(X, tmp_path):
    X["events"].events.to_long().to_parquet(tmp_path / "long.parquet")
    with pytest.raises(NotNestedError, match="dask.dataframe.read_parquet.*read_meds"):
        iter_parquet(tmp_path / "long.parquet")


def test_faults_are_told_at_once(X, path, tmp_path):
    with pytest.raises(DataError, match="Got none"):
        iter_parquet(tmp_path / "nowhere")
    with pytest.raises(DataError, match="Expected max_events to be a whole number"):
        iter_parquet(path, max_events=0)
    X[["age"]].to_parquet(tmp_path / "static.parquet")
    with pytest.raises(DataError, match="Expected a column of event histories"):
        iter_parquet(tmp_path / "static.parquet")
    X.assign(more=X["events"]).to_parquet(tmp_path / "two.parquet")
    with pytest.raises(DataError, match="Of these events, more hold lists"):
        iter_parquet(tmp_path / "two.parquet")
    with pytest.raises(DataError, match="one answer of <lambda> for each of 60 rows"):
        map_parquet(lambda rows: np.zeros(3), path, tmp_path / "answers.parquet")
    nest_events(pd.DataFrame({"subject_id": [1], "time": 0.0, "code": "a", "value": 1.0})).iloc[
        :0
    ].to_parquet(tmp_path / "none.parquet")
    with pytest.raises(DataError, match="Expected rows in .* Got none"):
        map_parquet(len, tmp_path / "none.parquet", tmp_path / "answers.parquet")


def test_without_pyarrow_the_message_says_what_to_install(path, monkeypatch):
    real = builtins.__import__

    def without_pyarrow(name, *args, **kwargs):
        if name == "pyarrow.parquet":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_pyarrow)
    with pytest.raises(ImportError, match=r'pip install "tawt_sklearn\[meds\]"'):
        iter_parquet(path)


def test_tokens_are_written_frame_by_frame(tmp_path):
    X, _ = make_icu_stays(30, random_state=0)
    X.to_parquet(tmp_path / "stays.parquet")
    sequencer = TripletSequencer().fit(X)
    target = tmp_path / "tokens.parquet"
    map_parquet(sequencer.transform, tmp_path / "stays.parquet", target, batch_size=7)
    pd.testing.assert_frame_equal(pd.read_parquet(target), sequencer.transform(X))


def test_an_index_that_counts_rows_beside_one_that_does_not(tmp_path):
    X, _ = make_icu_stays(30, random_state=0)
    X = X.reset_index(drop=True).rename_axis("row").assign(ward=1).set_index("ward", append=True)
    X.to_parquet(tmp_path / "stays.parquet")
    frames = list(iter_parquet(tmp_path / "stays.parquet", batch_size=7))
    assert len(frames) > 3
    pd.testing.assert_index_equal(pd.concat(frames).index, X.index)


def test_answers_that_are_not_one_for_each_row(tmp_path):
    X, _ = make_icu_stays(30, random_state=0)
    X.to_parquet(tmp_path / "stays.parquet")
    with pytest.raises(DataError, match="one row from the function for each of 30 rows. Got 1"):
        map_parquet(lambda f: f.iloc[:1], tmp_path / "stays.parquet", tmp_path / "out.parquet")
    with pytest.raises(DataError, match="whose folder does not exist"):
        map_parquet(lambda f: f, tmp_path / "stays.parquet", tmp_path / "no" / "out.parquet")

    def late(frame):
        first = frame.index[0] == X.index[0]
        return pd.DataFrame({"a": [None if first else "x"] * len(frame)}, index=frame.index)

    with pytest.raises(DataError, match="Expected 'a' to be of type null, as in the first rows"):
        map_parquet(late, tmp_path / "stays.parquet", tmp_path / "out.parquet", batch_size=7)
    assert [file.name for file in tmp_path.iterdir()] == ["stays.parquet"]
