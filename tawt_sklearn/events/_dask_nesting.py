"""Long Dask tables: the events of a subject come together in one partition, and are nested there.

Partitions are nested on their own and have dictionaries of their own, which are joined where
partitions are.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from tawt_sklearn.events._dask import is_dask, register_if_loaded
from tawt_sklearn.events.cohort import _ends, _static_frame, _until_rows
from tawt_sklearn.events.ingest import nest_events
from tawt_sklearn.events.tables import Table, plural
from tawt_sklearn.exceptions import DataError, DataWarning

# Column of the place of an event in the whole table, which a shuffle does not keep.
PLACE = "__place_of_the_event__"


def nest_dask(
    events: Any,
    given: Mapping[str, Hashable],
    *,
    static: Any,
    until: Any,
    name: str,
    **options: Any,
) -> Any:
    """Nest a long Dask table, lazily; see :func:`~tawt_sklearn.nest_events`.

    Parameters
    ----------
    events : dask DataFrame
    given : dict
        Part (subject, time, ...) to column name, None to look for the usual names.
    static, until, name, **options
        As in ``nest_events``; `static` and `until` may be Dask tables, too.
    """
    import dask.dataframe as dd

    register_if_loaded()
    names = Table(events._meta).find_all(given)
    subject = names["subject"]
    _check_types(events._meta, names)
    options |= {part: False if column is None else column for part, column in names.items()}
    options["name"] = name
    columns = [column for column in names.values() if column is not None]
    placed = dd.map_partitions(
        _placed, events, columns=columns, meta=_placed(events._meta, columns=columns)
    )
    empty = _empty_result(placed, options)

    # One table for static= and until= each, with the subjects as a column of the events' type.
    tables: dict[str, Any] = {}
    warn_of = None
    keys = functools.partial(_with_keys, subject=subject, dtype=placed._meta[subject].dtype)
    if static is not None:
        tables["static"] = keys(_each_part(static, _static_rows, subject), what="static")
    if until is not None and not pd.api.types.is_scalar(until):
        tables["until"] = keys(_each_part(until, _time_rows, subject), what="until")
        by_subject = isinstance(until, pd.Series | Mapping) or (is_dask(until) and until.ndim == 1)
        if by_subject:  # a table of rows selects subjects by nature
            warn_of = "until"
    elif static is not None:
        warn_of = "static"
    _check_times(tables.get("until", until), empty[name].dtype)
    if static is not None:
        empty = _with_static(empty, tables["static"], name, subject)

    together = _are_together(events, subject) and not any(map(is_dask, tables.values()))
    divisions = pd.Index(events.divisions if together else [0, 0])
    beyond = together and any(_lie_beyond(table[subject], divisions) for table in tables.values())
    parts = {
        what: table if is_dask(table) else _cut(table, subject, divisions, together)
        for what, table in tables.items()
    }
    if not together:
        placed = placed.shuffle(subject, npartitions=events.npartitions)
        parts = {
            what: table.shuffle(subject, npartitions=events.npartitions)
            for what, table in parts.items()
        }
    return dd.map_partitions(
        _nest_partition,
        placed,
        *parts.values(),
        tables=list(parts),
        until=None if "until" in parts else until,
        warn_of=warn_of,
        options=options,
        meta=empty,
        enforce_metadata=False,
        clear_divisions=beyond or not together,
    )


# ---- what each partition is put through --------------------------------------------------------


def _placed(
    partition: pd.DataFrame,
    *,
    columns: list[Hashable],
    partition_info: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """The columns that are needed, and the place of each event in the whole table."""
    if not set(columns) <= set(partition.columns):
        partition = partition.reset_index()
    number = 0 if partition_info is None else partition_info["number"]
    place = (number << 40) + np.arange(len(partition), dtype=np.int64)
    return partition[columns].assign(**{PLACE: place})


def _nest_partition(
    events: pd.DataFrame,
    *parts: pd.DataFrame,
    tables: list[str],
    until: Any,
    warn_of: str | None,
    options: dict[str, Any],
) -> pd.DataFrame:
    register_if_loaded()
    subject = options["subject"]
    rows = dict(zip(tables, parts, strict=True))
    events = events.sort_values(PLACE).drop(columns=PLACE)
    if "until" in rows:
        until = rows["until"].sort_values(list(rows["until"].columns), kind="stable")
    static = rows.get("static")
    if static is not None:
        static = static.sort_values(subject)
    wanted = rows.get("until", static)
    if wanted is not None:
        # By chance a partition may hold none of the subjects that are asked for.
        kept = events[subject].isin(wanted[subject])
        if warn_of is not None and not kept.all():
            left_out = events.loc[~kept, subject].nunique()
            warnings.warn(
                f"{plural(left_out, 'subject')} of a partition with events have no row in "
                f"{warn_of}=: their events were left out.",
                DataWarning,
                stacklevel=2,
            )
        events = events[kept]
        if "until" in rows and static is not None:
            static = static[static[subject].isin(wanted[subject])]
    frame = nest_events(events, static=static, until=until, **options)
    if isinstance(frame.index, pd.MultiIndex):  # which Dask does not know
        frame.index = frame.index.get_level_values(0)
    return frame


def _static_rows(static: Any, *, subject: Hashable) -> pd.DataFrame:
    frame = _static_frame(static, subject)
    return frame.set_axis(frame.index.rename(subject)).reset_index()


def _time_rows(until: Any, *, subject: Hashable) -> pd.DataFrame:
    keys, times = _until_rows(until, subject)
    return pd.DataFrame({subject: keys.array, times.name: times.array})


def _itself(part: pd.DataFrame) -> pd.DataFrame:
    return part


# ---- what is said before anything is computed ---------------------------------------------------


def _check_types(meta: pd.DataFrame, names: Mapping[str, Hashable]) -> None:
    """Refuse types that a partition can only guess at from the rows that it happens to have."""
    table = Table(meta)
    subject, value = table[names["subject"]], names["value"]
    if isinstance(subject.dtype, pd.CategoricalDtype):
        raise DataError(
            f"Expected numbers or strings as subjects in {subject.name!r}. Got a categorical "
            "column. Convert it, for example with "
            f"events.astype({{{subject.name!r}: 'string'}})."
        )
    if value is not None and table[value].dtype == object:
        raise DataError(
            f"Expected a column of numbers or of strings as values in {value!r}. Got Python "
            "objects, which every partition would read by itself. Convert it with "
            f"events.astype({{{value!r}: 'string'}}): strings that read as numbers become numbers."
        )


def _empty_result(placed: Any, options: dict[str, Any]) -> pd.DataFrame:
    from dask.dataframe.utils import meta_nonempty

    event = meta_nonempty(placed._meta).drop(columns=PLACE).iloc[:1]  # the second may be missing
    return nest_events(event, **options).iloc[:0]


def _each_part(table: Any, read: Any, subject: Hashable) -> Any:
    """What `read` makes of a pandas table, or of each partition of a Dask table."""
    if not is_dask(table):
        return read(table, subject=subject)
    return table.map_partitions(read, subject=subject, meta=read(table._meta, subject=subject))


def _with_keys(table: Any, *, subject: Hashable, dtype: Any, what: str) -> Any:
    """Subjects of the type that those of the events have: a shuffle goes by type, too."""
    found = table[subject].dtype
    if found == dtype:
        return table
    if len(table.columns) and _kind(found) != _kind(dtype):
        raise DataError(
            f"Expected the subjects of {what}= to be of the type of those of events, {dtype}. Got "
            f"{found}. Convert one of them with .astype."
        )
    return table.astype({subject: dtype})


def _kind(dtype: Any) -> str:
    for kind in ("integer", "float", "string", "datetime64_any"):
        if getattr(pd.api.types, f"is_{kind}_dtype")(dtype):
            return kind
    return str(dtype)


def _check_times(until: Any, dtype: Any) -> None:
    """Refuse times that are not on the clock of the events."""
    if isinstance(until, pd.DataFrame):
        _ends(until.iloc[:, 1], dtype)
    elif until is not None and not is_dask(until):
        _ends(pd.Series([until]), dtype)


def _with_static(empty: pd.DataFrame, static: Any, name: str, subject: Hashable) -> pd.DataFrame:
    meta = static._meta if is_dask(static) else static.iloc[:0]
    columns = meta.drop(columns=subject)
    if name in columns:
        raise DataError(
            f"Expected static= without a column {name!r}, which is what the events column will be "
            "called. Rename it, or call the events column something else with name=."
        )
    return pd.concat([columns.set_axis(empty.index), empty], axis=1)


# ---- which partition a subject is in -----------------------------------------------------------


def _are_together(events: Any, subject: Hashable) -> bool:
    """Whether no two partitions have events of one subject, as sorted partitions have not."""
    return (
        events.known_divisions
        and subject not in events.columns
        and pd.Index(events.divisions[:-1]).is_unique
    )


def _lie_beyond(subjects: pd.Series, divisions: pd.Index) -> bool:
    return bool(((subjects < divisions[0]) | (subjects > divisions[-1])).any())


def _cut(table: pd.DataFrame, subject: Hashable, divisions: pd.Index, together: bool) -> Any:
    """A pandas table as a Dask table, cut where the events are."""
    import dask
    import dask.dataframe as dd

    parts = [table]
    if together:
        place = divisions[1:-1].searchsorted(table[subject], side="right")
        order = np.argsort(place, kind="stable")
        edges = np.searchsorted(place[order], np.arange(1, len(divisions) - 1))
        parts = [table.iloc[rows] for rows in np.split(order, edges)]
    with dask.config.set({"dataframe.convert-string": False}):  # types as they came
        return dd.from_map(_itself, parts, meta=table.iloc[:0])
