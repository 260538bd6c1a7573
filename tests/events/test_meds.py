"""read_meds: MEDS dataset directories."""

from __future__ import annotations

import builtins
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tawt_sklearn.events import EventsDtype, nest_events, read_meds
from tawt_sklearn.exceptions import DataError, DataWarning

DAY = pd.Timestamp("2020-01-01")


def write(path: Path, table: pa.Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def events_table(rows: list[tuple], **types: pa.DataType) -> pa.Table:
    kinds = {
        "subject_id": pa.int64(),
        "time": pa.timestamp("us"),
        "code": pa.string(),
        "numeric_value": pa.float32(),
        "text_value": pa.string(),
        **types,
    }
    columns = zip(*rows, strict=True)
    return pa.table(
        {
            name: pa.array(list(column), kind)
            for (name, kind), column in zip(kinds.items(), columns, strict=True)
        }
    )


SHARD_0 = [
    (1, None, "GENDER//F", None, None),
    (1, DAY, "HR", 80.0, None),
    (1, DAY + pd.Timedelta("1D"), "HR", 90.0, None),
    (2, None, "GENDER//M", None, None),
    (2, DAY + pd.Timedelta("1h"), "NOTE", None, "calm"),
]
SHARD_1 = [
    (3, DAY, "HR", 70.0, None),
    (3, DAY + pd.Timedelta("2D"), None, 1.0, None),
]


@pytest.fixture
def dataset(tmp_path) -> Path:
    write(tmp_path / "data" / "train" / "0.parquet", events_table(SHARD_0))
    write(tmp_path / "data" / "held_out" / "0.parquet", events_table(SHARD_1))
    splits = pa.table(
        {"subject_id": [1, 2, 3, 4], "split": ["train", "train", "held_out", "train"]}
    )
    write(tmp_path / "metadata" / "subject_splits.parquet", splits)
    return tmp_path


@pytest.fixture
def cohort() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "subject_id": [2, 1, 1],
            "prediction_time": [DAY + pd.Timedelta("1h"), DAY, DAY + pd.Timedelta("9D")],
            "boolean_value": [True, False, True],
            "integer_value": pd.array([None] * 3, dtype="Int64"),
            "float_value": [np.nan] * 3,
            "categorical_value": pd.array([None] * 3, dtype="str"),
        }
    )


def test_all_subjects(dataset):
    X = read_meds(dataset)
    assert X.index.tolist() == [1, 2, 3]
    assert X.index.name == "subject_id"
    assert X["events"].dtype == EventsDtype("h", "naive")
    # Static events are at the first time of their subject, ahead of what happened then.
    assert [history.code.tolist() for history in X["events"].array] == [
        ["GENDER//F", "HR", "HR"],
        ["GENDER//M", "NOTE"],
        ["HR", None],
    ]
    long = X["events"].events.to_long()
    assert long["time"].tolist()[:2] == [DAY, DAY]
    assert X["events"].array[1].text.tolist() == [None, "calm"]
    assert X["events"].array[2].value.tolist() == [70.0, 1.0]


def test_options_go_to_nest_events(dataset):
    X = read_meds(str(dataset), time_unit="D", name="history")
    assert X["history"].dtype == EventsDtype("D", "naive")
    with pytest.warns(DataWarning, match="2 events without a time were dropped"):
        X = read_meds(dataset, null_time="drop")
    assert X["events"].events.lengths.tolist() == [2, 1, 2]
    with pytest.raises(DataError, match="null_time="):
        read_meds(dataset, null_time="error")


def test_a_split_has_a_row_for_each_of_its_subjects(dataset):
    X = read_meds(dataset, split="train")
    assert X.index.tolist() == [1, 2, 4]
    assert X.columns.tolist() == ["events"]
    assert X["events"].events.lengths.tolist() == [3, 2, 0]
    assert read_meds(dataset, split="held_out").index.tolist() == [3]


def test_a_cohort(dataset, cohort):
    X = read_meds(dataset, cohort=cohort)
    assert X.index.names == ["subject_id", "prediction_time"]
    assert X.index.tolist() == list(
        zip(cohort["subject_id"], cohort["prediction_time"], strict=True)
    )
    assert X["events"].events.lengths.tolist() == [2, 2, 3]
    expected = cohort["prediction_time"].tolist()
    assert X["events"].dtype.from_clock(X["events"].events.end).tolist() == expected


def test_a_cohort_with_one_row_per_subject_and_a_subject_without_events(dataset, cohort):
    later = cohort.assign(subject_id=[2, 99, 1])
    X = read_meds(dataset, cohort=later)
    assert X.index.tolist() == [2, 99, 1]
    assert X.index.name == "subject_id"
    assert X["events"].events.lengths.tolist() == [2, 0, 3]


def test_static_events_survive_a_prediction_time_before_all_others(dataset, cohort):
    early = cohort.assign(prediction_time=DAY - pd.Timedelta("9D")).iloc[:2]
    X = read_meds(dataset, cohort=early)
    assert [history.code.tolist() for history in X["events"].array] == [
        ["GENDER//M"],
        ["GENDER//F"],
    ]


def test_labels(dataset, cohort):
    X, y = read_meds(dataset, cohort=cohort, return_X_y=True)
    assert y.index.equals(X.index)
    assert y.tolist() == [True, False, True]
    assert y.dtype == bool
    assert y.name == "boolean_value"


@pytest.mark.parametrize(
    ("column", "labels", "dtype"),
    [
        ("boolean_value", [True, False, True], bool),
        ("integer_value", [3, 1, 2], np.int64),
        ("float_value", [0.5, 1.5, 2.5], np.float64),
        ("categorical_value", ["a", "b", "a"], "str"),
    ],
)
def test_labels_of_all_kinds_from_files(dataset, cohort, column, labels, dtype, tmp_path):
    rows = cohort[["subject_id", "prediction_time"]].assign(**{column: labels})
    folder = tmp_path / "tasks" / "mortality"
    write(folder / "train" / "0.parquet", pa.Table.from_pandas(rows.iloc[:2], preserve_index=False))
    write(folder / "train" / "1.parquet", pa.Table.from_pandas(rows.iloc[2:], preserve_index=False))
    for given in (folder, str(folder), [folder / "train" / f"{i}.parquet" for i in (0, 1)]):
        X, y = read_meds(dataset, cohort=given, return_X_y=True)
        assert y.tolist() == labels
        assert y.dtype == dtype
        assert X["events"].events.lengths.tolist() == [2, 2, 3]


def test_a_polars_cohort_and_a_label_of_another_name(dataset, cohort):
    table = pl.from_pandas(cohort[["subject_id", "prediction_time"]].assign(died=[1, 0, 1]))
    X, y = read_meds(dataset, cohort=table, return_X_y=True, label="died")
    assert y.tolist() == [1, 0, 1]
    assert len(X) == 3


def test_the_split_of_a_cohort(dataset, cohort):
    both = pd.concat([cohort, cohort.iloc[:1].assign(subject_id=3)], ignore_index=True)
    X, y = read_meds(dataset, cohort=both, split="train", return_X_y=True)
    assert X.index.get_level_values(0).tolist() == [2, 1, 1]
    assert len(y) == 3
    assert read_meds(dataset, cohort=both, split="held_out").index.tolist() == [3]


def test_shards_may_differ_in_types_and_lack_the_text(tmp_path):
    types = {"code": pa.large_string(), "numeric_value": pa.float64(), "time": pa.timestamp("ns")}
    write(tmp_path / "data" / "0.parquet", events_table(SHARD_1).drop_columns("text_value"))
    write(tmp_path / "data" / "1.parquet", events_table(SHARD_0, **types))
    encoded = events_table([(9, DAY, "HR", 1.0, None)], subject_id=pa.int32())
    encoded = encoded.set_column(2, "code", encoded["code"].dictionary_encode())
    write(tmp_path / "data" / "2.parquet", encoded)

    X = read_meds(tmp_path)

    assert X.index.tolist() == [1, 2, 3, 9]
    assert X["events"].events.lengths.tolist() == [3, 2, 2, 1]
    assert X["events"].events.texts.tolist() == ["calm"]


def test_agrees_with_nesting_the_table(dataset):
    table = pa.concat_tables([events_table(SHARD_1), events_table(SHARD_0)])
    expected = nest_events(table, null_time="first")
    X = read_meds(dataset)
    assert X.index.equals(expected.index)
    assert (X["events"].array == expected["events"].array).all()


def test_real_stays_as_meds(data_home, tmp_path):
    events = pd.read_parquet(data_home / "mimic3_demo" / "events.parquet")
    stays = pd.read_parquet(data_home / "mimic3_demo" / "outcomes.parquet")
    admitted = events["hadm_id"].map(stays.set_index("hadm_id")["admittime"])
    meds = pd.DataFrame(
        {
            "subject_id": events["subject_id"].astype("int64"),
            "time": admitted + pd.to_timedelta((events["time"] * 60).round(), unit="min"),
            "code": events["code"].astype("str"),
            "numeric_value": events["value"],
        }
    ).dropna(subset=["time"])
    half = len(meds) // 2
    for i, part in enumerate((meds.iloc[:half], meds.iloc[half:])):
        write(tmp_path / "data" / f"{i}.parquet", pa.Table.from_pandas(part, preserve_index=False))
    cohort = pd.DataFrame(
        {
            "subject_id": stays["subject_id"].astype("int64"),
            "prediction_time": stays["admittime"] + pd.Timedelta("1D"),
            "boolean_value": stays["hospital_expire_flag"] == 1,
        }
    )
    X, y = read_meds(tmp_path, cohort=cohort, return_X_y=True)
    assert len(X) == len(stays) == len(y)
    assert y.sum() == 40
    merged = meds.merge(cohort.reset_index(), on="subject_id")
    counts = (merged["time"] <= merged["prediction_time"]).groupby(merged["index"]).sum()
    assert X["events"].events.lengths.tolist() == counts.reindex(cohort.index).tolist()


# -- what is wrong --------------------------------------------------------------------------


def test_no_dataset(tmp_path):
    with pytest.raises(DataError, match=r"Expected a MEDS dataset.*which has no folder 'data'"):
        read_meds(tmp_path)
    (tmp_path / "data").mkdir()
    with pytest.raises(DataError, match="Expected Parquet files in .*Got none"):
        read_meds(tmp_path)


@pytest.mark.parametrize("column", ["subject_id", "time", "code", "numeric_value"])
def test_missing_columns(dataset, column):
    table = events_table(SHARD_1).drop_columns(column)
    write(dataset / "data" / "x" / "7.parquet", table)
    with pytest.raises(DataError, match=f"Got 7.parquet without {column}"):
        read_meds(dataset)


def test_an_unknown_split(dataset):
    with pytest.raises(DataError, match=r"Expected split to be one of \['held_out', 'train'\]"):
        read_meds(dataset, split="test")
    (dataset / "metadata" / "subject_splits.parquet").unlink()
    with pytest.raises(DataError, match="Expected the splits of the dataset in .*no such file"):
        read_meds(dataset, split="train")


def test_cohorts_that_are_none(dataset, cohort, tmp_path):
    with pytest.raises(DataError, match="without prediction_time"):
        read_meds(dataset, cohort=cohort.drop(columns="prediction_time"))
    with pytest.raises(DataError, match="Expected cohort to be a table"):
        read_meds(dataset, cohort=3)
    with pytest.raises(DataError, match="Expected Parquet files in"):
        read_meds(dataset, cohort=tmp_path / "nothing")
    with pytest.raises(DataError, match=r"subjects in the cohort \(2 subjects\). Got none"):
        read_meds(dataset, cohort=cohort.assign(subject_id=[77, 78, 78]))


def test_labels_that_are_none(dataset, cohort):
    with pytest.raises(DataError, match="Got cohort=None"):
        read_meds(dataset, return_X_y=True)
    with pytest.raises(DataError, match="Got none with values. Name the column with label="):
        read_meds(dataset, cohort=cohort.drop(columns="boolean_value"), return_X_y=True)
    with pytest.raises(DataError, match="Got boolean_value, integer_value"):
        read_meds(dataset, cohort=cohort.assign(integer_value=1), return_X_y=True)
    with pytest.raises(DataError, match=r"Expected a column 'died' \(label=\)"):
        read_meds(dataset, cohort=cohort, return_X_y=True, label="died")
    some = cohort.astype({"boolean_value": object})
    some.loc[0, "boolean_value"] = None
    with pytest.raises(DataError, match="Got 1 of 3 rows without 'boolean_value'"):
        read_meds(dataset, cohort=some, return_X_y=True)


def test_without_pyarrow(dataset, monkeypatch):
    real_import = builtins.__import__

    def no_pyarrow(name, *args, **kwargs):
        if name.partition(".")[0] == "pyarrow":
            raise ModuleNotFoundError("No module named 'pyarrow'")
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_pyarrow)
    with pytest.raises(ImportError, match=r'pip install "tawt_sklearn\[meds\]"'):
        read_meds(dataset)
