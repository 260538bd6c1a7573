"""Columns of a recording as numbers: channels, codes of categories, targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tawt_sklearn.events.labels import drop_unused
from tawt_sklearn.events.tables import Table, labels_where, plural
from tawt_sklearn.exceptions import DataError

Content = Literal["number", "bool", "text", "category"]

# By what pandas.api.types.infer_dtype calls a column; "empty" are objects that are all missing.
_CONTENTS: dict[str, Content] = {
    "integer": "number",
    "floating": "number",
    "mixed-integer-float": "number",
    "decimal": "number",
    "empty": "number",
    "boolean": "bool",
    "string": "text",
    "categorical": "category",
}
_TIMES = frozenset({"datetime", "datetime64", "date", "timedelta", "timedelta64", "period"})
_LARGEST_FLOAT32_CODE = 2**24


def read_channels(
    table: Table,
    names: list[Any],
    known: Mapping[Any, Sequence[Any]],
    numeric: set[Any],
    order: NDArray[np.int64],
) -> tuple[NDArray[Any], dict[Any, list[Any]]]:
    """Channels as numbers (C, N), in order, and the categories of those that are codes.

    Those in `known` have categories already; those in `numeric` have to be numbers.
    """
    columns = {name: table[name] for name in names}
    contents = {name: _content(column, "channel") for name, column in columns.items()}
    levels: dict[Any, list[Any]] = {}
    rows: dict[Any, NDArray[Any]] = {}
    for name, column in columns.items():
        if contents[name] == "number" and name not in known:
            rows[name] = finite_numbers(column)
        elif name in numeric:
            raise DataError(
                f"Expected numbers in {name!r}, as in the windows given as categories=. Got "
                f"{column.dtype} values. Convert it with pandas.to_numeric, or make a category of "
                "it in the training data, too."
            )
        else:
            rows[name], levels[name] = _encode(column, contents[name], known.get(name))
    small = {row.dtype for name, row in rows.items() if name not in levels} == {np.dtype("f4")}
    small &= all(len(values) < _LARGEST_FLOAT32_CODE for values in levels.values())
    steps = np.empty((len(names), len(order)), np.float32 if small else np.float64)
    for c, name in enumerate(names):
        steps[c] = rows.pop(name)[order]
    return steps, levels


def read_targets(table: Table, names: list[Any], order: NDArray[np.int64]) -> NDArray[Any] | None:
    """Targets (N, k) in order: numbers, bools, or objects with None where missing."""
    if not names:
        return None
    columns = [_read_target(table[table.find("target", name)]) for name in names]
    kinds = {column.dtype.kind in "fiu" for column in columns}
    if len(kinds) > 1:
        raise DataError(
            f"Expected target columns of one kind, numbers or classes. Got both in {names}. "
            "Predict them with one estimator each."
        )
    return np.stack(columns, axis=1)[order]


def _read_target(column: pd.Series) -> NDArray[Any]:
    column = without_categories(column)
    content = _content(column, "target")
    missing = column.isna().to_numpy()
    if content == "number":
        if pd.api.types.infer_dtype(column) == "integer" and not missing.any():
            return column.to_numpy(dtype=np.int64)
        return finite_numbers(column).astype(np.float64)
    if content == "bool" and not missing.any():
        return column.to_numpy(dtype=bool)
    labels = column.to_numpy(dtype=object, copy=True)
    labels[missing] = None
    return labels


def finite_numbers(column: pd.Series) -> NDArray[Any]:
    """Numbers as float64, or float32 where they are, NaN where missing."""
    if column.dtype == np.float32:
        numbers = column.to_numpy()
    else:
        numbers = column.to_numpy(dtype=np.float64, na_value=np.nan)
    if (infinite := np.isinf(numbers)).any():
        raise DataError(
            f"Expected finite numbers in {column.name!r}. Got "
            f"{plural(int(infinite.sum()), 'infinite one')} ({labels_where(column, infinite)}). "
            "Correct them, or set them to NaN where they are not known."
        )
    return numbers


def without_categories(column: pd.Series) -> pd.Series:
    """A categorical column as one of the dtype of its categories."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        kind = column.dtype.categories.dtype
        if kind.kind in "iub" and column.isna().any():  # which have no room for what is missing
            kind = np.dtype(object if kind.kind == "b" else np.float64)
        return column.astype(kind)
    return column


def _content(column: pd.Series, what: str) -> Content:
    """What a channel or target holds; not times, objects of mixed kinds, complex numbers."""
    inferred = pd.api.types.infer_dtype(column, skipna=True)
    if inferred in _CONTENTS:
        return _CONTENTS[inferred]
    kind: Any = inferred if column.dtype == object else column.dtype
    remedy = "Convert it first"
    if inferred in _TIMES:
        remedy = "Turn it into numbers with TimeEmbedder first"
    elif inferred.startswith("mixed"):
        kind, remedy = "mixed", "Convert it to one kind, for example with .astype(str)"
    raise DataError(
        f"Expected numbers, text, bools or categories in the {what} {column.name!r}. Got {kind} "
        f"values. {remedy}, or leave it out with {what}{'s=[...]' if what == 'channel' else '='}."
    )


def _encode(
    column: pd.Series, content: Content, known: Sequence[Any] | None
) -> tuple[NDArray[np.float64], list[Any]]:
    """Codes of categories, NaN where missing, and their values."""
    ids: NDArray[Any]
    if content == "category":
        ids, labels = column.cat.codes.to_numpy(), column.cat.categories
        if known is not None:  # categories that no row has are no news
            ids, labels = drop_unused(ids.astype(np.int64), labels)
    else:
        ids, found = pd.factorize(column)
        labels = pd.Index(found)
        if content == "bool" and known is None:
            known = [False, True]
    present = labels.tolist()
    values = [] if known is None else list(known)
    distinct = set(values)
    if len(distinct) < len(values):
        raise DataError(
            f"Expected categories of {column.name!r} that differ. Got {len(values)} values, "
            f"{len(distinct)} of them different: {values[:10]}."
        )
    fresh = [value for value in present if value not in distinct]
    values += fresh if content == "category" else sorted(fresh)
    code = {value: position for position, value in enumerate(values)}
    codes = np.array([*(code[value] for value in present), np.nan])
    return codes[ids], values
