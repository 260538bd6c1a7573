"""What stands beside the events of a row: what a kind of it must offer, and how cells are read.

An *item* is one image, one note, one waveform.  A cell of its column in ``X`` holds one item, by
itself or in a pair (time, item), a list of these, or nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple, Self

import joblib
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from tawt_sklearn.exceptions import DataError


class ItemError(DataError):
    """An item is not what was expected; knows which one of those that were given.

    Parameters
    ----------
    position : int
        Of the item in what :meth:`Modality.fit` was given.
    message : str
    """

    def __init__(self, position: int, message: str) -> None:
        super().__init__(message)
        self.position = position


class Modality(BaseEstimator):
    """Base of the objects that stand in ``modalities={"column": ...}``.

    A modality says how one item is read and how items become tokens.  Everything else is the
    library's: missing items (a learned token), several items of a row and their times, batches,
    fusion, saving and loading, errors that name the row.  A subclass must have :meth:`collate`
    and :meth:`build`, and takes its parameters in ``__init__`` as any estimator of scikit-learn;
    what it learns in :meth:`fit` it keeps in attributes whose names end with an underscore, as
    numbers, strings or arrays of NumPy.

    Attributes
    ----------
    freeze : bool
        Whether training leaves the weights of ``build(d_model).backbone`` alone (of all of the
        module where it has no such part).
    own_weights : bool
        Whether :meth:`begin` brings weights that were trained elsewhere.

    See Also
    --------
    tawt_sklearn.ImageEncoder : Images.

    Examples
    --------
    A number with a unit that the network is to see by itself:

    >>> import torch
    >>> from tawt_sklearn import Modality
    >>> class Lengths(Modality):
    ...     def read(self, item):
    ...         return float(item.removesuffix(" cm"))
    ...     def collate(self, items):
    ...         return torch.tensor(items, dtype=torch.float32).view(-1, 1, 1)
    ...     def build(self, d_model):
    ...         return torch.nn.Linear(1, d_model)
    >>> lengths = Lengths()
    >>> lengths.build(8)(lengths.collate([lengths.read("12 cm"), lengths.read("9.5 cm")])).shape
    torch.Size([2, 1, 8])
    """

    freeze = False
    own_weights = False

    def fit(self, items: Sequence[Any], y: Any = None) -> Self:
        """Learn from the items of the training rows, on a copy of what the user gave.

        Parameters
        ----------
        items : sequence
            All of them that are not missing, as they stand in ``X``; not yet read.  Rows come in
            an order that their histories and static columns decide; only rows that agree in these
            keep the order of ``X``.
        y : ignored

        Raises
        ------
        ItemError
            For one of them, whose row the library names.
        """
        return self

    def read(self, item: Any) -> Any:
        """One item as :meth:`collate` takes it, when its batch is made.

        Raises
        ------
        ValueError, TypeError, OSError
            What is wrong with it.  The library adds the row and the column.
        """
        return item

    def digest(self, item: Any) -> str:
        """The same string for the same item, and another one for others."""
        return str(joblib.hash(item))

    def collate(self, items: Sequence[Any]) -> Any:
        """N items that were read -> a tensor (N, ...), or a dict of such tensors."""
        raise NotImplementedError

    def build(self, d_model: int) -> Any:
        """A ``torch.nn.Module`` from what :meth:`collate` gives to tokens (N, K, d_model).

        Called several times, the last time from a saved file; weights are drawn by torch.
        """
        raise NotImplementedError

    def begin(self, module: Any) -> None:
        """Put weights that were trained elsewhere into a module that :meth:`build` made."""


NEEDED = ("fit", "read", "digest", "collate", "build", "begin", "freeze", "own_weights")
"""What a modality must offer, whatever it inherits from."""


class Cells(NamedTuple):
    """The items of a column, one row after the other, those without a time first."""

    items: NDArray  # (N,) object
    offsets: NDArray[np.int64]  # (n + 1,) first item of each row
    time: NDArray[np.float64]  # (N,) on the clock of the events, NaN where there is none

    @property
    def row(self) -> NDArray[np.int64]:
        """(N,) position of the row of each item."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))


def read_cells(column: pd.Series, to_clock: Callable[..., Any]) -> Cells:
    """Items and times of a column.

    Parameters
    ----------
    column : Series
        Each cell an item, a pair (time, item), a list of these, or nothing: None, NaN, an empty
        list.
    to_clock : callable
        From times as the user gives them to numbers, as of :class:`EventsDtype`.

    Raises
    ------
    DataError
        A time that is none.
    """
    items: list[Any] = []
    times: list[float] = []
    counts: list[int] = []
    for name, cell in zip(column.index, column.array, strict=True):
        pairs = pairs_of(cell)
        clock = np.array([_on_clock(time, to_clock, name, column.name) for time, _ in pairs])
        order = np.argsort(np.where(np.isnan(clock), -np.inf, clock), kind="stable")
        items += [pairs[k][1] for k in order]
        times += clock[order].tolist() if len(clock) else []
        counts.append(len(pairs))
    flat = np.empty(len(items), dtype=object)
    for k, item in enumerate(items):  # assigned at once, arrays of one shape would be unpacked
        flat[k] = item
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Cells(flat, offsets, np.array(times, dtype=np.float64))


def pairs_of(cell: Any) -> list[tuple[Any, Any]]:
    """The items of a cell, each with its time as the user gives it; None where there is none."""
    given = cell if isinstance(cell, list) else [cell]
    pairs = [one if _is_pair(one) else (None, one) for one in given]
    return [(time, item) for time, item in pairs if not is_missing(item)]


def is_missing(item: Any) -> bool:
    """Whether a cell, or one of a list, holds nothing."""
    if isinstance(item, float | np.floating):
        return bool(item != item)
    if isinstance(item, np.datetime64 | np.timedelta64):
        return bool(np.isnat(item))
    return item is None or item is pd.NA or item is pd.NaT or item is np.ma.masked


def _is_pair(one: Any) -> bool:
    return isinstance(one, tuple) and len(one) == 2


def _on_clock(time: Any, to_clock: Callable[..., Any], row: Hashable, column: Hashable) -> float:
    if time is None:
        return np.nan
    if isinstance(time, np.ndarray | list) or _is_pair(time):
        raise DataError(
            f"Expected pairs (time, item) in {place(column, row)}. Got a {type(time).__name__} in "
            "place of a time. Several items are a list: [item, item]."
        )
    try:
        clock = float(to_clock([time], what="times")[0])
    except (DataError, TypeError, ValueError) as error:
        raise DataError(f"Expected pairs (time, item) in {place(column, row)}. {error}") from error
    if not np.isfinite(clock):
        raise DataError(
            f"Expected a time of each item in {place(column, row)}. Got {time!r}. Give the item "
            "alone where its time is not known."
        )
    return clock


def place(column: Hashable, row: Hashable) -> str:
    """How errors call a cell."""
    if isinstance(row, tuple):  # of a MultiIndex
        row = tuple(_plain(part) for part in row)
    return f"column {column!r}, row {_plain(row)!r}"


def _plain(label: Hashable) -> Hashable:
    return label.item() if isinstance(label, np.generic) else label
