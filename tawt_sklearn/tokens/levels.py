"""Categorical columns as codes: 0 = missing, 1 = not seen in fit, then by falling frequency."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from tawt_sklearn.exceptions import DataError
from tawt_sklearn.tokens.statics import column_kind, level_ids, to_labels
from tawt_sklearn.tokens.steps import Steps

MISSING_CODE, UNSEEN_CODE, FIRST_CODE = 0, 1, 2
"""Code of a missing value, of one not seen in fit, and of the most frequent category."""


def find_categorical(steps: Steps, asked: Any, names: list[str]) -> np.ndarray:
    """Positions of the categorical columns among the channels; int64, rising.

    Parameters
    ----------
    asked : "auto", sequence of int, of str or of bool, or None
        As ``categorical_features`` of :class:`~tawt_sklearn.MissingMaskEncoder`.

    Raises
    ------
    DataError
        Columns that there are not, columns with text that are not named, dates.
    """
    by_type = [c for c, column in enumerate(steps.columns) if _is_categorical(column, names[c])]
    if isinstance(asked, str):
        return np.array(by_type, np.int64)
    chosen = [] if asked is None else positions(asked, names)
    for c in by_type:
        if c not in chosen:
            raise DataError(
                "Expected numbers in the columns that categorical_features does not name. Got "
                f"{steps.columns[c].dtype} values in {names[c]!r}. Name it, or use "
                'categorical_features="auto".'
            )
    return np.array(chosen, np.int64)


def _is_categorical(column: Any, name: Any) -> bool:
    """Whether a column holds text, bool, categories or other objects rather than numbers."""
    if not isinstance(column, pd.Series):
        return False
    try:
        return column_kind(column) == "categorical"
    except DataError as error:
        raise DataError(
            f"Expected numbers or categories in column {name!r}. Got {column.dtype} values. Turn "
            "times into features with TimeEmbedder, or drop the column."
        ) from error


def positions(asked: Any, names: list[str]) -> list[int]:
    """Positions that ``categorical_features`` names, rising."""
    wanted = np.asarray(asked)
    if wanted.dtype == bool and wanted.shape == (len(names),):
        return np.flatnonzero(wanted).tolist()
    chosen = []
    for feature in wanted.tolist():
        if isinstance(feature, str) and feature in names:
            chosen.append(names.index(feature))
        elif type(feature) is int and 0 <= feature < len(names):
            chosen.append(feature)
        else:
            raise DataError(
                "Expected categorical_features to hold names of columns, or positions 0 to "
                f"{len(names) - 1}, or a mask of {len(names)} bools. Got {feature!r}; the "
                f"columns are {names[:30]}."
            )
    return sorted(set(chosen))


def category_column(steps: Steps, c: int, name: str) -> pd.Series:
    """A categorical channel.

    Raises
    ------
    DataError
        Fractions in a panel or a long frame: the channel was probably not meant.
    """
    column = steps.columns[c]
    if isinstance(column, pd.Series) and not pd.api.types.is_float_dtype(column.dtype):
        return column
    numbers = steps.numbers(c, name)
    broken = ~np.isnan(numbers) & (numbers != np.rint(numbers))
    if steps.form != "table" and broken.any():
        at = int(np.argmax(broken))
        raise DataError(
            f"Expected whole numbers in {name!r}, which categorical_features names. Got "
            f"{numbers[at]:g} in {steps.place(at)}. Encode its categories as whole numbers, or "
            "leave it out of categorical_features."
        )
    return pd.Series(numbers, name=name)


def learn_levels(column: pd.Series) -> tuple[list[str], np.ndarray]:
    """Labels and values of the categories, by falling frequency, ties by label."""
    try:
        ids, labels = to_labels(column)
    except DataError as error:
        raise _refused(column) from error
    seen = np.flatnonzero(ids >= 0)
    _, first = np.unique(ids[seen], return_index=True)
    values = column.iloc[seen[first]].astype(object).to_numpy()
    counts = np.bincount(ids[seen], minlength=len(labels)).tolist()
    order = sorted(range(len(labels)), key=lambda k: (-counts[k], labels[k]))
    kept = pd.Series(values[order], dtype=object).infer_objects().to_numpy()
    return [labels[k] for k in order], kept


def encode_levels(column: pd.Series, labels: list[str]) -> np.ndarray:
    """Codes of a column whose categories have these labels; int64, (N,)."""
    try:
        ids = level_ids(column, labels)
    except DataError as error:
        raise _refused(column) from error
    return np.where(ids >= 0, ids + FIRST_CODE, np.where(ids == -1, MISSING_CODE, UNSEEN_CODE))


def decode_levels(codes: np.ndarray, values: np.ndarray, name: Any) -> np.ndarray:
    """Values of codes; NaN (None among text) where missing or not seen in fit.  (N,).

    Raises
    ------
    DataError
        Numbers that are no codes.
    """
    known = np.isfinite(codes) & (codes == np.rint(codes))
    known &= (codes >= 0) & (codes < FIRST_CODE + len(values))
    if not known.all():
        raise DataError(
            f"Expected codes 0 to {FIRST_CODE + len(values) - 1} in {name!r}. Got "
            f"{codes[~known][0]}. Pass what transform gives."
        )
    if values.dtype.kind in "iuf" or not len(values):
        table = np.append([np.nan, np.nan], values.astype(np.float64))
    else:
        table = np.append(np.array([None, None], dtype=object), values.astype(object))
    return table[codes.astype(np.int64)]


def _refused(column: pd.Series) -> DataError:
    return DataError(
        f"Expected one category per row in column {column.name!r}. Got values such as "
        f"{column.iloc[0]!r}. Give strings, numbers or bools."
    )
