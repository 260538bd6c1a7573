"""Batches of which each of several processes gets a part of the rows."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import Dataset


@dataclass(frozen=True)
class Share:
    """The rows of a batch that one process works on; its length is that of the batch.

    Attributes
    ----------
    own : EventBatch or PanelBatch
    n_rows : int
        Of the batch.
    key : int
        Stands for the rows of the batch.
    """

    own: Any
    n_rows: int
    key: int

    def __len__(self) -> int:
        return self.n_rows


class SharedRows(Dataset):
    """Hands out the share of one process of every batch, a contiguous part of its rows.

    Parameters
    ----------
    data : RowDataset
    rank, number : int
        Of :class:`Processes`.
    """

    def __init__(self, data: Any, rank: int, number: int) -> None:
        self.data, self.rank, self.number = data, rank, number

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, row: int) -> Any:
        return self.__getitems__([row])

    def __getitems__(self, rows: list[int]) -> Any:
        n = len(rows)
        first, last = (n * k // self.number for k in (self.rank, self.rank + 1))
        own, truth = self.data.__getitems__(rows[first:last])
        return Share(own, n, zlib.crc32(np.asarray(rows, np.int64).tobytes())), truth
