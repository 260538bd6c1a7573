"""Read MEDS datasets: Parquet shards of events, and cohorts of prediction times and labels.

MEDS (Medical Event Data Standard, https://medical-event-data-standard.github.io) keeps a dataset in
a folder with ``data/**/*.parquet`` (``subject_id``, ``time``, ``code``, ``numeric_value`` and
possibly ``text_value``; static events have no time) and ``metadata/subject_splits.parquet``.
"""

from __future__ import annotations

import os
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import pandas as pd

from tawt_sklearn.events.cohort import PREDICTION_TIME_NAMES
from tawt_sklearn.events.ingest import NullTime, nest_events
from tawt_sklearn.events.tables import DEFAULT_NAMES, plain_frame
from tawt_sklearn.exceptions import DataError

# Labels of a cohort, one of which each row has a value in.
LABEL_COLUMNS = ("boolean_value", "integer_value", "float_value", "categorical_value")


def read_meds(
    path: str | os.PathLike[str],
    *,
    cohort: Any = None,
    split: str | None = None,
    return_X_y: bool = False,
    label: Hashable = None,
    time_unit: str = "h",
    null_time: NullTime = "first",
    name: str = "events",
) -> pd.DataFrame | tuple[pd.DataFrame, pd.Series]:
    """Read a MEDS dataset directory: one row per subject, or per row of a cohort.

    Only the columns and the subjects that are needed are read. Needs pyarrow, which
    ``pip install "tawt_sklearn[meds]"`` installs.

    Parameters
    ----------
    path : path
        Folder that holds ``data/`` and, if `split` is given, ``metadata/``.
    cohort : table, path or list of paths, optional
        Rows of ``subject_id`` and ``prediction_time``, one row of the result each and in this
        order: a pandas, polars or pyarrow table, a Parquet file or a folder of them. Events up to
        and including the prediction time are kept. Without, there is a row per subject with all
        its events.
    split : str, optional
        Keep the subjects of this split only, such as ``"train"``, ``"tuning"``, ``"held_out"``.
    return_X_y : bool, default False
        Return the labels of the cohort, too.
    label : str, optional
        Column of labels in the cohort. By default the one that has values, of
        ``boolean_value``, ``integer_value``, ``float_value`` and ``categorical_value``.
    time_unit : {"h", "s", "min", "D"}, default "h"
        Unit that times are stored in.
    null_time : {"first", "drop", "error"}, default "first"
        What to do with static events, which have no time; see :func:`nest_events`. They are
        placed at the first time of their subject, or at the prediction time where that is earlier.
    name : str, default "events"
        Name of the events column.

    Returns
    -------
    X : DataFrame
        With the column `name`, and indexed by subject; by subject and prediction time if the
        cohort has several rows of a subject.
    y : Series
        Labels with the index of `X`, only if `return_X_y`.

    Raises
    ------
    ImportError
        pyarrow is not installed.
    DataError
        No MEDS dataset at `path`, missing columns, a split that is not there, a cohort without
        events or labels.

    References
    ----------
    Arnrich et al., "Medical Event Data Standard (MEDS): Facilitating Machine Learning for Health",
    ICLR 2024 Workshop on Learning from Time Series For Health.

    Examples
    --------
    >>> X = read_meds("mimic-iv-meds", split="train")                         # doctest: +SKIP
    >>> X, y = read_meds("mimic-iv-meds", cohort="tasks/mortality/train",
    ...                  return_X_y=True)                                     # doctest: +SKIP
    """
    _import_pyarrow()
    root = Path(path)
    dataset, subject = _open_events(root)
    members = None if split is None else _read_split(root, split)
    rows = None
    if cohort is not None:
        rows = _read_cohort(cohort, subject)
        if members is not None:
            rows = rows[rows[subject].isin(members)]
        members = rows[subject].drop_duplicates()
    elif return_X_y:
        raise DataError("Expected a cohort to take labels from. Got cohort=None: give cohort=.")
    events = _read_events(dataset, subject, members)
    if members is not None and not len(events):
        where = f"{'the cohort' if cohort is not None else 'the split'} ({len(members):,} subjects)"
        raise DataError(
            f"Expected events of the subjects in {where}. Got none in {root / 'data'}: these "
            "subjects are not in this dataset."
        )
    columns: dict[str, Any] = {"subject": subject, "time": "time", "code": "code"}
    if rows is not None:
        until = rows[[subject, PREDICTION_TIME_NAMES[0]]]
        X = nest_events(
            events, until=until, time_unit=time_unit, null_time=null_time, name=name, **columns
        )
    else:
        # Subjects of the split that have no events have rows, too.
        static = None if members is None else pd.DataFrame(index=pd.Index(members).sort_values())
        X = nest_events(
            events, static=static, time_unit=time_unit, null_time=null_time, name=name, **columns
        )
    if not return_X_y or rows is None:
        return X
    return X, _labels(rows, label).set_axis(X.index)


def _import_pyarrow() -> None:
    try:
        import pyarrow.dataset  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "Reading MEDS needs pyarrow, which is not installed. "
            'Install it with: pip install "tawt_sklearn[meds]"'
        ) from error


def _open_events(root: Path) -> tuple[Any, str]:
    """The events of a dataset as a pyarrow Dataset, and the name of the subject column."""
    import pyarrow as pa
    import pyarrow.dataset as ds

    folder = root / "data"
    if not folder.is_dir():
        raise DataError(
            "Expected a MEDS dataset: a folder that holds data/**/*.parquet. "
            f"Got {str(root)!r}, which has no folder 'data'."
        )
    files = _parquet_files(folder)
    # One schema for all shards: they may differ in types, and in the columns they may lack.
    found = ds.dataset(files, format="parquet")
    subject = next((n for n in DEFAULT_NAMES["subject"] if n in found.schema.names), "subject_id")
    required = (subject, "time", "code", "numeric_value")
    has_text = False
    for fragment in found.get_fragments():
        names = fragment.physical_schema.names
        has_text |= "text_value" in names
        if absent := [name for name in required if name not in names]:
            raise DataError(
                f"Expected the columns {', '.join(required)} in all files of a MEDS dataset. "
                f"Got {Path(fragment.path).name} without {' and '.join(absent)} "
                f"(it has {', '.join(names)})."
            )
    labels = pa.dictionary(pa.int32(), pa.string())
    schema = {
        subject: found.schema.field(subject).type,
        "time": found.schema.field("time").type,
        "code": labels,
        "numeric_value": pa.float32(),
    }
    if has_text:
        schema["text_value"] = pa.string()
    options = ds.ParquetReadOptions(dictionary_columns=["code"])
    layout = ds.ParquetFileFormat(read_options=options)
    return ds.dataset(files, schema=pa.schema(schema), format=layout), subject


def _read_events(dataset: Any, subject: str, members: pd.Series | None) -> Any:
    import pyarrow as pa
    import pyarrow.dataset as ds

    keep = None
    if members is not None:
        wanted = pa.array(members.to_numpy()).cast(dataset.schema.field(subject).type)
        keep = ds.field(subject).isin(wanted)
    return dataset.to_table(filter=keep)


def _read_split(root: Path, split: str) -> pd.Series:
    import pyarrow.parquet as pq

    file = root / "metadata" / "subject_splits.parquet"
    if not file.is_file():
        raise DataError(
            f"Expected the splits of the dataset in {str(file)!r}, to take the subjects of "
            f"split={split!r} from. Got no such file."
        )
    splits = pq.read_table(file).to_pandas()
    members = splits.loc[splits["split"] == split].drop(columns="split").iloc[:, 0]
    if not len(members):
        raise DataError(
            f"Expected split to be one of {sorted(splits['split'].unique())}. Got {split!r}."
        )
    return members


def _read_cohort(cohort: Any, subject: str) -> pd.DataFrame:
    """Rows of a cohort, given as a table or as paths of Parquet files or folders."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if isinstance(cohort, str | os.PathLike):
        cohort = [cohort]
    if isinstance(cohort, list | tuple):
        files = [file for path in cohort for file in _parquet_files(Path(path))]
        tables = [pq.read_table(file) for file in files]
        cohort = pa.concat_tables(tables, promote_options="permissive")
    frame = plain_frame(cohort, what="cohort")
    if absent := [name for name in (subject, PREDICTION_TIME_NAMES[0]) if name not in frame]:
        raise DataError(
            f"Expected a cohort with the columns {subject} and {PREDICTION_TIME_NAMES[0]}. "
            f"Got the columns {', '.join(map(str, frame.columns))}, without "
            f"{' and '.join(absent)}."
        )
    return frame


def _parquet_files(path: Path) -> list[str]:
    """Files at a path, in the order of their names."""
    if path.is_file():
        return [str(path)]
    files = sorted(str(file) for file in path.glob("**/*.parquet"))
    if not files:
        raise DataError(f"Expected Parquet files in {str(path)!r}. Got none.")
    return files


def _labels(rows: pd.DataFrame, label: Hashable) -> pd.Series:
    """The labels of a cohort, as plain booleans, integers, floats or strings."""
    if label is None:
        found = [name for name in LABEL_COLUMNS if name in rows and rows[name].notna().any()]
        if len(found) != 1:
            raise DataError(
                f"Expected one column of labels in the cohort, of {', '.join(LABEL_COLUMNS)}. "
                f"Got {', '.join(found) or 'none with values'}. Name the column with label=."
            )
        label = found[0]
    elif label not in rows:
        raise DataError(
            f"Expected a column {label!r} (label=) in the cohort. "
            f"Got the columns {', '.join(map(str, rows.columns))}."
        )
    y = rows[label]
    if missing := int(y.isna().sum()):
        raise DataError(
            f"Expected a label in every row of the cohort. Got {missing:,} of {len(y):,} rows "
            f"without {label!r}. Drop them: cohort.dropna(subset=[{label!r}])."
        )
    # Columns with missing values elsewhere come from Parquet as objects or floats.
    known: dict[Any, Any] = {
        "boolean_value": bool,
        "integer_value": "int64",
        "float_value": "float64",
    }
    return y.astype(known[label]) if label in known else y
