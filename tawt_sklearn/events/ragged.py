"""Kernels for ragged arrays: flat values plus int64 offsets, one segment per row.

Shapes: ``B`` rows, ``E`` flat elements (events). ``offsets`` has ``B + 1`` entries, starts with 0
and ends with ``E``. Everything here is plain numpy, with no loop over rows or elements.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from tawt_sklearn.events.order import stable_order


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
