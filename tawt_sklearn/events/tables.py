"""Tables of any library as pandas columns, and which column plays which part.

pandas, polars and pyarrow tables are told apart by the module of their class, so that nothing is
imported which the data did not bring along.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from tawt_sklearn.exceptions import DataError

# Names looked for when none is given, best first: those of event triplets and of MEDS.
DEFAULT_NAMES: dict[str, tuple[str, ...]] = {
    "subject": ("subject_id", "subject", "patient_id"),
    "time": ("time", "timestamp"),
    "code": ("code", "data_type"),
    "value": ("value", "numeric_value"),
    "text": ("text_value", "text"),
}


class Table:
    """Columns of a pandas, polars or pyarrow table by name, each as a pandas Series.

    Levels of a pandas index that have a name count as columns.

    Parameters
    ----------
    table : pandas.DataFrame, polars.DataFrame or pyarrow.Table
    what : str
        How error messages call the table.

    Raises
    ------
    DataError
        Anything else.
    """

    def __init__(self, table: Any, *, what: str = "events") -> None:
        self.what = what
        self._table = table
        self._levels: list[Hashable] = []
        library = library_of(table)
        if isinstance(table, pd.DataFrame):
            self.names: list[Hashable] = list(table.columns)
            self._levels = [
                level
                for level in table.index.names
                if level is not None and level not in self.names
            ]
        elif library == "polars" and hasattr(table, "get_column"):
            self.names = list(table.columns)
        elif library == "pyarrow" and hasattr(table, "column_names"):
            self.names = list(table.column_names)
        else:
            lazy = " Call .collect() on it first." if hasattr(table, "collect") else ""
            raise DataError(
                f"Expected {what} to be a table: a pandas or polars DataFrame or a pyarrow "
                f"Table. Got {type(table).__name__}.{lazy}"
            )

    def __getitem__(self, name: Any) -> pd.Series:
        if isinstance(self._table, pd.DataFrame):
            if name in self._levels:
                level = self._table.index.get_level_values(name)
                return pd.Series(level, index=self._table.index, name=name)
        return plain_series(self.raw(name), name)

    def raw(self, name: Hashable) -> Any:
        """A column as its library has it; not for levels of an index."""
        if hasattr(self._table, "get_column"):
            return self._table.get_column(name)
        return self._table[name]

    def __len__(self) -> int:
        return len(self._table)

    def has(self, role: str) -> bool:
        """Whether there is a column of one of the default names of a part."""
        return any(name in (*self.names, *self._levels) for name in DEFAULT_NAMES[role])

    def find(self, role: str, given: Hashable = None) -> Hashable:
        """Name of the column that plays a part, the given one or the first default there is.

        Raises
        ------
        DataError
            No such column, or several of that name.
        """
        known = [*self.names, *self._levels]
        wanted = DEFAULT_NAMES[role] if given is None else (given,)
        name = next((name for name in wanted if name in known), None)
        if name is None:
            raise DataError(self._missing(role, given, wanted, known))
        if self.names.count(name) > 1:
            raise DataError(
                f"Expected one column {name!r} in {self.what}. Got {self.names.count(name)} of "
                "that name. Rename or drop all but one."
            )
        return name

    def find_all(self, given: Mapping[str, Hashable]) -> dict[str, Hashable]:
        """Name of the column that plays each part, None for values and texts that are not there.

        Parameters
        ----------
        given : dict
            Part to column name, None to look for the default names, False for "leave it out".
        """
        names: dict[str, Hashable] = {}
        for role, name in given.items():
            has_text = given.get("text") is not False and (given.get("text") or self.has("text"))
            optional = role == "text" or (role == "value" and has_text)
            left_out = name is False and role in ("value", "text")
            if left_out or (name is None and optional and not self.has(role)):
                names[role] = None
            else:
                names[role] = self.find(role, name)
        parts: dict[Hashable, str] = {}
        for role, name in names.items():
            if name is not None and (other := parts.setdefault(name, role)) != role:
                raise DataError(
                    f"Expected different columns as {other} and {role}. Got {name!r} for both."
                )
        return names

    def _missing(
        self, role: str, given: Hashable, wanted: Sequence[Hashable], known: Sequence[Hashable]
    ) -> str:
        found = f"Got the columns {_listed(known)}."
        if given is not None:
            return f"Expected a column {given!r} ({role}=) in {self.what}. {found}"
        expected = f"Expected a {role} column in {self.what}, called {_listed(wanted, ' or ')}."
        if self.what != "events":  # nobody can be asked for another name
            return f"{expected} {found} Rename it."
        remedy = f'Name the column with {role}="...".'
        if role == "value":
            remedy += " If the events carry no values, say so with value=False."
        return f"{expected} {found} {remedy}"


def library_of(data: Any) -> str:
    """Library that the class of some data comes from, such as ``"polars"``."""
    return type(data).__module__.partition(".")[0]


def plain_series(column: Any, name: Any = None) -> pd.Series:
    """A pandas, polars or pyarrow column as a Series of one of pandas' own dtypes.

    A pandas Series keeps its index; only pyarrow-backed ones change their dtype.
    """
    if isinstance(column, pd.Series):
        if not isinstance(column.dtype, pd.ArrowDtype):
            return column
        array: Any = column.array
        return array.__arrow_array__().to_pandas().set_axis(column.index).rename(column.name)
    if library_of(column) == "polars":
        return _from_polars(column).rename(name)
    return column.to_pandas().rename(name)


def plain_frame(table: Any, *, what: str) -> pd.DataFrame:
    """A pandas, polars or pyarrow table as a pandas frame.

    A pandas frame is returned as it is.
    """
    if isinstance(table, pd.DataFrame):
        return table
    columns = Table(table, what=what)
    return pd.DataFrame({name: columns[name] for name in columns.names})


def _from_polars(column: Any) -> pd.Series:
    try:
        return column.to_pandas()
    except ImportError:  # polars goes through pyarrow, which may not be installed
        series = pd.Series(column.to_numpy())
        zone = getattr(column.dtype, "time_zone", None)
        return series if zone is None else series.dt.tz_localize("UTC").dt.tz_convert(zone)


def labels_where(column: pd.Series, mask: np.ndarray) -> str:
    """The rows where something holds, for a message: ``"rows 4, 17, 20"``."""
    labels = column.index[np.flatnonzero(mask)[:5]].tolist()
    more = ", ..." if int(mask.sum()) > len(labels) else ""
    return f"{'row' if len(labels) == 1 else 'rows'} {', '.join(map(repr, labels))}{more}"


def plural(count: int, noun: str) -> str:
    """``"1 event"``, ``"2,000 events"``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _listed(names: Iterable[Hashable], last: str = ", ") -> str:
    shown = [repr(name) for name in names]
    if len(shown) > 30:
        shown = [*shown[:30], "..."]
    if len(shown) < 2:
        return "".join(shown) or "(none)"
    return ", ".join(shown[:-1]) + last + shown[-1]
