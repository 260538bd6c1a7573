"""Items beside the rows of a data set; they are read when the batch that has them is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tawt_sklearn.events.ragged import range_positions
from tawt_sklearn.exceptions import DataError
from tawt_sklearn.nn.items import Items
from tawt_sklearn.tokens.modality import Cells, place
from tawt_sklearn.training.memory import is_out_of_memory


@dataclass(frozen=True)
class ItemColumn:
    """The items of one modality.

    Nothing of them is kept but what the user's cells hold, a path for instance: memory does not
    grow with what is read.

    Attributes
    ----------
    modality : Modality
        Fitted.
    name : str
        Column that they come from.
    index : (n,) array
        What the rows are called.
    cells : Cells
        Their times are those on the network's clock, since each row's origin.
    """

    modality: Any
    name: str
    index: NDArray
    cells: Cells

    def batch(self, rows: NDArray[np.int64]) -> Items | None:
        """The items of these rows, read; None where there are none.

        Raises
        ------
        DataError
            An item cannot be read; says which one.
        """
        position, offsets = range_positions(self.cells.offsets[rows], self.counts()[rows])
        if not len(position):
            return None
        row = np.repeat(np.arange(len(rows)), np.diff(offsets))
        read = [self.read(k, self.index[rows[r]]) for k, r in zip(position, row, strict=True)]
        content = self.modality.collate(read)
        self._check(content, len(read))
        return Items(
            torch.from_numpy(row),
            torch.from_numpy(self.cells.time[position].astype(np.float32)),
            content,
        )

    def _check(self, content: Any, n: int) -> None:
        """Refuse what ``collate`` must not give."""
        parts = [*content.values()] if isinstance(content, Mapping) else [content]
        if not parts or not all(isinstance(part, torch.Tensor) for part in parts):
            got = f"a {type(content).__name__}"
        elif all(part.ndim and len(part) == n for part in parts):
            return
        else:
            got = f"shapes {[tuple(part.shape) for part in parts]}"
        raise TypeError(
            f"Expected collate of {type(self.modality).__name__}, column {self.name!r}, to give a "
            f"tensor, or a dict of tensors, of {n} items on the first axis. Got {got}."
        )

    def read(self, item: int, row: Any) -> Any:
        """One item, as the modality reads it."""
        return self._asked(self.modality.read, item, row)

    def _asked(self, ask: Callable[[Any], Any], item: int, row: Any) -> Any:
        """What a modality, whoever wrote it, says of an item."""
        try:
            return ask(self.cells.items[item])
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise unreadable(self.name, row, error) from error

    def counts(self) -> NDArray[np.int64]:
        """(n,) items of each row."""
        return np.diff(self.cells.offsets)

    def digests(self) -> NDArray[np.object_]:
        """(n,) strings that tell the cells of rows apart."""
        row = self.index[self.cells.row]
        items = [self._asked(self.modality.digest, k, row[k]) for k in range(len(row))]
        times = self.cells.time.tolist()
        cells = [
            "|".join(f"{items[k]}@{times[k]!r}" for k in range(first, last))
            for first, last in pairwise(self.cells.offsets.tolist())
        ]
        return np.array(cells, dtype=object)

    def take(self, rows: NDArray[np.int64]) -> ItemColumn:
        """The same for some rows."""
        position, offsets = range_positions(self.cells.offsets[rows], self.counts()[rows])
        cells = Cells(self.cells.items[position], offsets, self.cells.time[position])
        return replace(self, index=self.index[rows], cells=cells)


def unreadable(column: str, row: Any, error: BaseException) -> DataError:
    """The error for an item, with the words of whoever has found it."""
    said = str(error) if isinstance(error, DataError) else f"{type(error).__name__}: {error}"
    return DataError(f"In {place(column, row)}: {said}")
