"""Kernels for ragged arrays: flat values plus int64 offsets, one segment per row.

Shapes: ``B`` rows, ``E`` flat elements (events). ``offsets`` has ``B + 1`` entries, starts with 0
and ends with ``E``. Everything here is plain numpy, with no loop over rows or elements.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from tawt_sklearn.events.order import stable_order
from tawt_sklearn.exceptions import DataError


def offsets_from_lengths(lengths: ArrayLike) -> np.ndarray:
    """Offsets of segments with these lengths: (B,) -> int64 (B + 1,).

    Examples
    --------
    >>> offsets_from_lengths([2, 0, 3])
    array([0, 2, 2, 5])
    """
    lengths = np.asarray(lengths)
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def row_ids(offsets: np.ndarray) -> np.ndarray:
    """Row number of every flat element: (B + 1,) -> int64 (E,).

    Examples
    --------
    >>> row_ids([0, 2, 2, 5])
    array([0, 0, 2, 2, 2])
    """
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))


def range_positions(begin: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Concatenated ranges ``begin[i] .. begin[i] + lengths[i] - 1``, and their offsets.

    Returns
    -------
    positions : int64 (E,)
    offsets : int64 (B + 1,)

    Examples
    --------
    >>> range_positions([4, 0], [2, 3])
    (array([4, 5, 0, 1, 2]), array([0, 2, 5]))
    """
    offsets = offsets_from_lengths(lengths)
    positions = np.ones(offsets[-1], dtype=np.int64)
    filled = np.flatnonzero(lengths)
    if len(filled):
        # Steps of one, but for the first of each range, which comes after the last of the range
        # before; their sum is a third faster than np.repeat plus np.arange.
        begin = np.asarray(begin, dtype=np.int64)[filled]
        last = begin + np.asarray(lengths)[filled] - 1
        positions[0] = begin[0]
        positions[offsets[filled[1:]]] = begin[1:] - last[:-1]
        np.cumsum(positions, out=positions)
    return positions, offsets


def gather_rows(offsets: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Flat positions of the elements of `rows`, in that order, and the offsets of the result.

    A row of -1 gives an empty segment.

    Parameters
    ----------
    offsets : int64 (B + 1,)
    rows : integers (N,)

    Returns
    -------
    positions : int64 (M,)
    offsets : int64 (N + 1,)

    Examples
    --------
    >>> gather_rows(np.array([0, 2, 2, 5]), np.array([2, -1, 0]))
    (array([2, 3, 4, 0, 1]), array([0, 3, 3, 5]))
    """
    rows = np.asarray(rows, dtype=np.int64)
    known = rows >= 0
    if known.all():
        begin = offsets[rows]
        lengths = offsets[rows + 1] - begin
    else:
        begin = np.zeros(len(rows), dtype=np.int64)
        lengths = np.zeros(len(rows), dtype=np.int64)
        begin[known] = offsets[rows[known]]
        lengths[known] = offsets[rows[known] + 1] - begin[known]
    return range_positions(begin, lengths)


def first_of_each(flat: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """First element of every row, NaN where it has none: (E,) -> float64 (B,).

    Examples
    --------
    >>> first_of_each(np.array([1.0, 2.0, 3.0]), np.array([0, 2, 2, 3]))
    array([ 1., nan,  3.])
    """
    result = np.full(len(offsets) - 1, np.nan)
    filled = np.diff(offsets) > 0
    result[filled] = flat[offsets[:-1][filled]]
    return result


def segment_count(mask: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Number of True elements per row: bool (E,) -> int64 (B,).

    Examples
    --------
    >>> segment_count(np.array([True, False, True]), np.array([0, 1, 1, 3]))
    array([1, 0, 1])
    """
    total = np.zeros(len(mask) + 1, dtype=np.int64)
    np.cumsum(mask, out=total[1:])
    return total[offsets[1:]] - total[offsets[:-1]]


def unsorted_steps(time: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Flat positions whose time is before that of the element ahead of it in the same row.

    Examples
    --------
    >>> unsorted_steps(np.array([1.0, 0.0, 5.0, 2.0]), np.array([0, 2, 3, 4]))
    array([1])
    """
    back = np.flatnonzero(time[1:] < time[:-1]) + 1
    if not len(back):
        return back
    # A step back is allowed where a row begins.
    place = np.searchsorted(offsets, back)
    return back[offsets[place] != back]


def is_sorted_within(time: np.ndarray, offsets: np.ndarray) -> bool:
    """Whether times never fall inside a row.

    Examples
    --------
    >>> is_sorted_within(np.array([1.0, 2.0, 0.0]), np.array([0, 2, 3]))
    True
    """
    return not len(unsorted_steps(time, offsets))


def sort_within(time: np.ndarray, offsets: np.ndarray) -> np.ndarray | None:
    """Stable order of the flat elements by time inside each row, None if they are in order.

    Only rows that are out of order are sorted.

    Examples
    --------
    >>> sort_within(np.array([1.0, 0.0, 5.0, 2.0]), np.array([0, 2, 3, 4]))
    array([1, 0, 2, 3])
    """
    steps = unsorted_steps(time, offsets)
    if not len(steps):
        return None
    rows = np.unique(np.searchsorted(offsets, steps, side="right") - 1)
    positions, local = gather_rows(offsets, rows)
    within, _ = stable_order(row_ids(local), time[positions], local)
    order = np.arange(len(time))
    order[positions] = positions[within]
    return order


def searchsorted_within(
    time: np.ndarray, offsets: np.ndarray, bound: np.ndarray, side: str = "left"
) -> np.ndarray:
    """Flat position where `bound` of each row would be inserted among its sorted times.

    A binary search of all rows at once: as many steps as the longest row has bits.

    Parameters
    ----------
    time : float64 (E,), sorted inside each row
    offsets : int64 (B + 1,)
    bound : float64 (B,)
    side : {"left", "right"}, default "left"
        As in :func:`numpy.searchsorted`.

    Returns
    -------
    int64 (B,)

    Examples
    --------
    >>> time, offsets = np.array([1.0, 2.0, 3.0, 7.0]), np.array([0, 3, 4])
    >>> searchsorted_within(time, offsets, np.array([2.0, 9.0]), "right")
    array([2, 4])
    """
    low, high = offsets[:-1].copy(), offsets[1:].copy()
    while True:
        open_ = np.flatnonzero(low < high)
        if not len(open_):
            return low
        middle = (low[open_] + high[open_]) // 2
        if side == "left":
            right = time[middle] < bound[open_]
        else:
            right = time[middle] <= bound[open_]
        low[open_[right]] = middle[right] + 1
        high[open_[~right]] = middle[~right]


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
