"""Parquet files of nested frames, larger than memory: a stretch of rows at a time."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tawt_sklearn.events._answers import with_index
from tawt_sklearn.events.arrow import register_if_loaded
from tawt_sklearn.events.coerce import as_events
from tawt_sklearn.events.dtype import EventsDtype
from tawt_sklearn.events.structs import is_nested
from tawt_sklearn.events.tables import DEFAULT_NAMES
from tawt_sklearn.exceptions import DataError, NotNestedError

# Bytes that are read of a column at once; without it pyarrow reads whole row groups.
BUFFER = 1 << 20


def iter_parquet(
    path: str | os.PathLike[str],
    *,
    batch_size: int = 4096,
    max_events: int = 1_000_000,
    time_unit: str = "h",
) -> Iterator[pd.DataFrame]:
    """Read nested frames from Parquet, a bounded number of rows and events at a time.

    Needs pyarrow, which ``pip install "tawt_sklearn[meds]"`` installs.

    Parameters
    ----------
    path : path
        A file that ``X.to_parquet`` wrote, or a folder of such files (as Dask writes them), which
        are read in the order of their names; or any Parquet file with a column of lists of
        records, see :func:`as_events`.
    batch_size : int, default 4096
        Most rows of a frame.
    max_events : int, default 1,000,000
        Most events of a frame, which are what takes memory: a million takes some 250 MB while it
        is read. A single history with more comes in a frame of its own.
    time_unit : {"h", "s", "min", "D", "step"}, default "h"
        Unit of the times in files that pandas has not written.

    Yields
    ------
    DataFrame
        Some of the rows, in order and with their index.

    Raises
    ------
    ImportError
        pyarrow is not installed.
    NotNestedError
        The files hold one row for each event.
    DataError
        No Parquet files, or no column of event histories in them.

    See Also
    --------
    map_parquet : to write what an estimator says of every row.
    read_meds, nest_events : for files with one row for each event; ``nest_events`` takes
        ``dask.dataframe.read_parquet(path)`` where they are larger than memory.

    Examples
    --------
    >>> import tempfile
    >>> from tawt_sklearn import iter_parquet
    >>> from tawt_sklearn.datasets import make_icu_stays
    >>> X, _ = make_icu_stays(100, random_state=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     X.to_parquet(f"{folder}/stays.parquet")
    ...     [len(part) for part in iter_parquet(f"{folder}/stays.parquet", batch_size=40)]
    [40, 40, 20]
    """
    for name, limit in (("batch_size", batch_size), ("max_events", max_events)):
        if not isinstance(limit, int | np.integer) or limit < 1:
            raise DataError(f"Expected {name} to be a whole number of 1 or more. Got {limit!r}.")
    _import_pyarrow()
    files = _files(Path(path))
    columns = [_events_column(file) for file in files]  # now, rather than at the first row

    def frames() -> Iterator[pd.DataFrame]:
        for file, column in zip(files, columns, strict=True):
            yield from _frames_of(file, column, int(batch_size), int(max_events), time_unit)

    return frames()


def map_parquet(
    function: Callable[[pd.DataFrame], Any],
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    batch_size: int = 4096,
    max_events: int = 1_000_000,
    time_unit: str = "h",
) -> Path:
    """Write what a method of a fitted estimator says of every row of Parquet files.

    Parameters
    ----------
    function : callable
        From a DataFrame of rows to an array or a pandas object with one line for each, such as
        ``clf.predict_proba`` or ``encoder.transform``.
    source : path
        As in :func:`iter_parquet`.
    target : path
        File to write. It appears when all rows are done; one that is there is replaced.
    batch_size, max_events, time_unit
        As in :func:`iter_parquet`.

    Returns
    -------
    Path
        `target`: one row for each row of `source`, with its index. Columns are called by
        ``get_feature_names_out()`` of a transformer and by the classes of a classifier, as
        strings; a single column like the function.

    Examples
    --------
    >>> from tawt_sklearn import map_parquet
    >>> map_parquet(clf.predict_proba, "stays.parquet", "risks.parquet")      # doctest: +SKIP
    >>> pd.read_parquet("risks.parquet").loc[1, "True"]                       # doctest: +SKIP
    """
    frames = iter_parquet(source, batch_size=batch_size, max_events=max_events, time_unit=time_unit)
    import pyarrow as pa
    import pyarrow.parquet as pq

    target = Path(target)
    if not target.parent.is_dir():
        raise DataError(
            f"Expected a folder to write to. Got {str(target)!r}, whose folder does not exist. "
            "Make it first."
        )
    unfinished = target.with_name(f".{target.name}.unfinished")
    writer = schema = None
    try:
        for frame in frames:
            answer = _as_columns(with_index(function(frame), function, frame.index), function)
            if len(answer) != len(frame):
                raise DataError(
                    f"Expected one row from the function for each of {len(frame)} rows. Got "
                    f"{len(answer)}."
                )
            table = pa.Table.from_pandas(answer, preserve_index=True)
            if schema is not None:
                table = _as_before(table, schema)
            if writer is None:
                schema = table.schema
                writer = pq.ParquetWriter(unfinished, schema)
            writer.write_table(table)
        if writer is None:
            raise DataError(f"Expected rows in {str(source)!r}. Got none.")
        writer.close()
        os.replace(unfinished, target)
    finally:
        if writer is not None:
            writer.close()
        unfinished.unlink(missing_ok=True)
    return target


def _as_before(table: Any, schema: Any) -> Any:
    """The next rows of a file with the types of those before.

    Raises
    ------
    DataError
        They have others.
    """
    import pyarrow as pa

    if table.schema.equals(schema):
        return table.replace_schema_metadata(schema.metadata)
    for field in schema:
        if field.name not in table.column_names:
            raise DataError(
                f"Expected the columns of the first rows in all others. Got none called "
                f"{field.name!r}."
            )
        try:
            if table.schema.field(field.name).type != field.type:
                table[field.name].cast(field.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
            raise DataError(
                f"Expected {field.name!r} to be of type {str(field.type)[:80]}, as in the first "
                f"rows. Got {str(table.schema.field(field.name).type)[:80]}. Give the function's "
                "answers types of their own, or raise batch_size and max_events so that the first "
                "rows hold all there is."
            ) from error
    return table.select(schema.names).cast(schema)


def _as_columns(answer: pd.DataFrame | pd.Series, function: Callable[..., Any]) -> pd.DataFrame:
    if isinstance(answer, pd.Series):
        name = getattr(function, "__name__", "answer") if answer.name is None else answer.name
        answer = answer.to_frame(name)
    return answer.rename(columns=str)  # Parquet has no other names


# ---- reading ------------------------------------------------------------------------------------


def _frames_of(
    file: Path, column: str, batch_size: int, max_events: int, time_unit: str
) -> Iterator[pd.DataFrame]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(file, buffer_size=BUFFER, pre_buffer=False) as parquet:
        first = 0
        for batch in parquet.iter_batches(_rows_at_once(parquet, column, batch_size, max_events)):
            table = pa.Table.from_batches([batch])
            for part in _cut_by_events(table, column, max_events):
                yield _frame(part, column, first, time_unit)
                first += len(part)


def _rows_at_once(parquet: Any, column: str, batch_size: int, max_events: int) -> int:
    """As many rows as should hold `max_events`, by the means of the row groups."""
    most = 0.0
    for k in range(parquet.metadata.num_row_groups):
        group = parquet.metadata.row_group(k)
        leaves = (group.column(j) for j in range(group.num_columns))
        values = [
            leaf.num_values for leaf in leaves if leaf.path_in_schema.startswith(f"{column}.")
        ]
        most = max(most, max(values) / max(1, group.num_rows))
    return max(1, min(batch_size, int(max_events / max(most, 1.0))))


def _cut_by_events(table: Any, column: str, max_events: int) -> Iterator[Any]:
    """Stretches of rows with at most that many events, or of one row."""
    import pyarrow.compute as pc

    lists = table[column].combine_chunks()
    if hasattr(lists, "storage"):  # our tokens
        lists = pc.struct_field(lists.storage, "events")
    lengths = pc.fill_null(pc.list_value_length(_list_of(lists)), 0).to_numpy(zero_copy_only=False)
    ends = np.cumsum(lengths)
    start = 0
    while start < len(table):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + max_events, side="right")))
        yield table.slice(start, stop - start)
        start = stop


def _list_of(column: Any) -> Any:
    """A column of lists: of a struct of lists its first field."""
    from pyarrow import types

    return column.flatten()[0] if types.is_struct(column.type) else column


def _frame(table: Any, column: str, first: int, time_unit: str) -> pd.DataFrame:
    """A slice of a file as pandas, whose first row is number `first` in the file."""
    metadata = table.schema.pandas_metadata or {}
    types = {entry["field_name"]: entry["numpy_type"] for entry in metadata.get("columns", ())}
    if _is_ours(types.get(column)) or hasattr(table.schema.field(column).type, "header"):
        frame = table.to_pandas()
    else:
        place = table.column_names.index(column)
        frame = table.drop_columns([column]).to_pandas()
        events = as_events(table.select([column]), time_unit=time_unit)
        levels = [name for name in metadata.get("index_columns", ()) if isinstance(name, str)]
        before = [name for name in table.column_names[:place] if name not in levels]
        frame.insert(len(before), column, events[column].array)
    return _numbered(frame, metadata.get("index_columns", ()), first)


def _numbered(frame: pd.DataFrame, levels: Sequence[Any], first: int) -> pd.DataFrame:
    """With those levels of its index that a file does not store: they count rows."""
    n = len(frame)

    def counted(level: dict[str, Any]) -> pd.RangeIndex:
        start, step = level["start"] + first * level["step"], level["step"]
        return pd.RangeIndex(start, start + n * step, step, name=level["name"])

    if not levels:
        frame.index = counted({"start": 0, "step": 1, "name": None})
    elif len(levels) == 1 and isinstance(levels[0], dict):
        frame.index = counted(levels[0])
    elif any(isinstance(level, dict) for level in levels):
        stored = iter([name for name in levels if not isinstance(name, dict)])
        kept = {name: frame.index.get_level_values(k) for k, name in enumerate(frame.index.names)}
        values: list[pd.Index] = []
        for level in levels:
            if isinstance(level, dict):
                values.append(counted(level))
            else:
                name = next(stored)
                values.append(kept[name if name in kept else None])
        names = [value.name for value in values]
        frame.index = pd.MultiIndex.from_arrays(values, names=names)
    return frame


def _is_ours(name: str | None) -> bool:
    if name is None:
        return False
    try:
        EventsDtype.construct_from_string(name)
    except TypeError:
        return False
    return True


# ---- what there is to read ----------------------------------------------------------------------


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    # Dask numbers its files without zeros in front.
    found = sorted(path.glob("**/*.parquet"), key=lambda file: _by_number(str(file)))
    if not found:
        raise DataError(f"Expected Parquet files in {str(path)!r}. Got none.")
    return found


def _by_number(name: str) -> list[tuple[int, str]]:
    """Sorting key that puts ``part.2`` before ``part.10``."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _events_column(file: Path) -> str:
    """Name of the column of histories, from the schema alone."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pq.read_schema(file)
    found = [field.name for field in schema if is_nested(pa.nulls(0, field.type))]
    if len(found) == 1:
        return found[0]
    shown = f"Got {file.name} with the columns {', '.join(schema.names)}."
    if found:
        raise DataError(
            f"Expected one column of event histories. {shown} Of these {', '.join(found)} hold "
            "lists of records: drop all but one."
        )
    if all(set(DEFAULT_NAMES[part]) & set(schema.names) for part in ("time", "code")):
        raise NotNestedError(
            f"Expected one row per subject. {shown} That looks like a long table with one row per "
            "event. Nest it first: nest_events(dask.dataframe.read_parquet(path)).to_parquet("
            "folder) takes tables that are larger than memory; read_meds reads MEDS datasets."
        )
    raise DataError(
        f"Expected a column of event histories (lists of records). {shown} Write the files with "
        "X.to_parquet, where X comes from nest_events."
    )


def _import_pyarrow() -> None:
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "Reading Parquet files needs pyarrow, which is not installed. "
            'Install it with: pip install "tawt_sklearn[meds]"'
        ) from error
    register_if_loaded()
