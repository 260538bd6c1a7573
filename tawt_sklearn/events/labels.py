"""Codes and texts as int32 ids into a dictionary of labels; id -1 stands for none.

A dictionary is a pandas Index of strings or of int64, each label once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from tawt_sklearn.exceptions import DataError


def as_dictionary(labels: object, *, what: str = "codes") -> pd.Index:
    """Labels as an Index of strings, of int64, or (tokens only) of both.

    Raises
    ------
    DataError
        Labels of another type, missing or repeated labels.
    """
    index = labels if isinstance(labels, pd.Index) else pd.Index(labels)  # type: ignore[call-overload]
    if isinstance(index.dtype, pd.CategoricalDtype):
        index = pd.Index(index.to_numpy())
    if pd.api.types.is_bool_dtype(index.dtype):
        pass
    elif pd.api.types.is_integer_dtype(index.dtype):
        index = index if index.dtype == np.int64 else index.astype(np.int64)
    elif index.dtype == "str":
        pass
    elif pd.api.types.is_string_dtype(index) or index.inferred_type == "empty":
        # All kinds of strings there are in pandas, objects included.
        index = index.astype("str")
    if index.name is not None:
        index = index.rename(None)
    strings = isinstance(index.dtype, pd.StringDtype)
    mixed = index.dtype == object and index.inferred_type == "mixed-integer"
    if not (index.dtype == np.int64 or strings or mixed):
        example = f" such as {index[:1].tolist()[0]!r}" if len(index) else ""
        raise DataError(
            f"Expected {what} to be strings or integers. Got {index.dtype} labels{example}. "
            "Convert them with .astype(str)."
        )
    if not index.is_unique or index.hasnans:
        raise DataError(
            f"Expected the dictionary of {what} to hold each label once and no missing one. "
            f"Got {len(index)} labels, {index.nunique()} of them different."
        )
    return index


def merge_dictionaries(
    dictionaries: Sequence[pd.Index], *, what: str = "codes"
) -> tuple[pd.Index, list[np.ndarray | None]]:
    """Union of dictionaries in order of first appearance, and where old ids went.

    Parameters
    ----------
    dictionaries : sequence of Index
        At least one.

    Returns
    -------
    merged : Index
    maps : list of int32 arrays or None
        ``maps[i][old_id]`` is the id in `merged`; None where ids stay as they are.

    Raises
    ------
    DataError
        Integer and string labels mixed.

    Examples
    --------
    >>> merge_dictionaries([pd.Index(["hr", "temp"]), pd.Index(["wbc", "hr"])])
    (Index(['hr', 'temp', 'wbc'], dtype='str'), [None, array([2, 0], dtype=int32)])
    """
    merged = dictionaries[0]
    different = [index for index in dictionaries if index is not merged]
    if all(merged.equals(index) for index in different):
        return merged, [None] * len(dictionaries)
    filled = [index for index in dictionaries if len(index)]
    kinds = {index.dtype == np.int64 for index in filled}
    if len(kinds) > 1:
        examples = [index[:1].tolist()[0] for index in filled]
        raise DataError(
            f"Expected {what} of one type. Got integers and strings: {examples}. Convert one "
            "side, for example with .astype(str)."
        )
    parts, known = [], filled[0] if filled else merged
    parts.append(known)
    for index in filled[1:]:
        if index is not parts[-1] and len(fresh := index[known.get_indexer(index) < 0]):
            parts.append(fresh)
            known = known.append(fresh)
    return known, [_id_map(known, index) for index in dictionaries]


def _id_map(merged: pd.Index, index: pd.Index) -> np.ndarray | None:
    if merged is index or len(index) == 0:
        return None
    ids = merged.get_indexer(index).astype(np.int32)
    return None if np.array_equal(ids, np.arange(len(ids))) else ids


def map_ids(ids: np.ndarray, mapping: np.ndarray | None) -> np.ndarray:
    """Replace dictionary ids by `mapping` (None: unchanged); -1 stays -1.

    Examples
    --------
    >>> map_ids(np.array([1, -1, 0], dtype=np.int32), np.array([5, 6], dtype=np.int32))
    array([ 6, -1,  5], dtype=int32)
    """
    if mapping is None:
        return ids
    # Index -1 reads the entry appended last.
    return np.append(mapping, np.int32(-1)).astype(np.int32)[ids]


def keep_labels(ids: np.ndarray, labels: pd.Index, keep: ArrayLike) -> tuple[np.ndarray, pd.Index]:
    """Ids and dictionary without the labels that are not kept; their ids become -1.

    Examples
    --------
    >>> ids = np.array([0, 1, 2], dtype=np.int32)
    >>> keep_labels(ids, pd.Index(["a", "", "b"]), [True, False, True])
    (array([ 0, -1,  1], dtype=int32), Index(['a', 'b'], dtype='str'))
    """
    keep = np.asarray(keep, dtype=bool)
    if keep.all():
        return ids, labels
    return map_ids(ids, np.where(keep, np.cumsum(keep) - 1, -1)), labels[keep]


def drop_unused(ids: np.ndarray, labels: pd.Index) -> tuple[np.ndarray, pd.Index]:
    """Ids and dictionary without the labels that no id uses.

    Examples
    --------
    >>> drop_unused(np.array([1, -1], dtype=np.int32), pd.Index(["a", "b"]))
    (array([ 0, -1], dtype=int32), Index(['b'], dtype='str'))
    """
    return keep_labels(ids, labels, np.bincount(ids + 1, minlength=len(labels) + 1)[1:] > 0)


def labels_of(ids: np.ndarray, labels: pd.Index) -> np.ndarray:
    """Labels by id: int64 where all are integers, else objects with None for id -1."""
    if labels.dtype == np.int64 and not (ids < 0).any():
        return labels.to_numpy()[ids]
    result = np.full(len(ids), None, dtype=object)
    known = ids >= 0
    result[known] = labels.take(ids[known]).to_numpy(dtype=object)
    return result


def label_column(ids: np.ndarray, labels: pd.Index) -> Any:
    """Labels by id as a column: str (NaN for id -1), int64, or Int64 if an integer is missing."""
    missing = bool((ids < 0).any())
    known: Any
    if labels.dtype == np.int64:
        known = pd.array(labels.to_numpy(), dtype="Int64") if missing else labels.to_numpy()
    else:
        known = labels.array
    if len(labels) == 0:
        known = pd.array(["unused"], dtype="str")
    if missing:
        return pd.api.extensions.take(known, ids, allow_fill=True)
    return known.take(ids)
