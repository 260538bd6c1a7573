"""Tokenised histories as a torch data set that hands out whole batches."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from tawt_sklearn.events.array import EventsArray
from tawt_sklearn.nn.batch import EventBatch


def whole_batch(batch: tuple[EventBatch, Tensor]) -> tuple[EventBatch, Tensor]:
    """Collate function for a data set that already returns batches (a lambda cannot be pickled)."""
    return batch


class EventDataset(Dataset):
    """Rows of a tokenised events column with their static columns and targets.

    A batch is cut from the flat arrays in one gather (``__getitems__``); nothing is done row by
    row in Python.

    Parameters
    ----------
    events : EventsArray
        Tokenised histories of ``n`` rows.
    static_numeric : (n, n_numeric) float32
    static_category : (n, n_categorical) int64
    target : (n,) array, optional
        Zeros where there is none.
    origin : float, default=0.0
        Where the network's clock starts, after each row's own origin; taken off in float64, as
        float32 does not tell hours apart that are counted from 1970.
    """

    def __init__(
        self,
        events: EventsArray,
        static_numeric: NDArray[np.float32],
        static_category: NDArray[np.int64],
        target: NDArray | None = None,
        origin: float = 0.0,
    ) -> None:
        self.events = events
        self.static_numeric = static_numeric
        self.static_category = static_category
        self.target = np.zeros(len(events), dtype=np.int64) if target is None else target
        self.origin = origin

    def __len__(self) -> int:
        return len(self.events)

    def __getitem__(self, row: int) -> tuple[EventBatch, Tensor]:
        return self.__getitems__([row])

    def __getitems__(self, rows: list[int]) -> tuple[EventBatch, Tensor]:
        index = np.asarray(rows, dtype=np.int64)
        return self.batch(index), torch.from_numpy(self.target[index])

    def batch(self, rows: NDArray[np.int64]) -> EventBatch:
        """The events of these rows, flat."""
        events = self.events
        first = events.offsets[rows]
        length = events.offsets[rows + 1] - first
        before = np.cumsum(length) - length  # events of the batch before each of its rows
        position = np.arange(length.sum()) + np.repeat(first - before, length)
        start, end = events.start[rows] + self.origin, events.end[rows]
        time = events.time[position]
        age = np.maximum(np.repeat(end, length) - time, 0.0)  # never after the stated end
        value = events.value[position]
        observed = ~np.isnan(value)
        text = events.text
        category = np.zeros(len(position), np.int64) if text is None else text[position] + 1
        return EventBatch(
            row=torch.from_numpy(np.repeat(np.arange(len(rows)), length)),
            code=torch.from_numpy(events.code[position].astype(np.int64)),
            value=torch.from_numpy(np.where(observed, value, np.float32(0))),
            observed=torch.from_numpy(observed),
            category=torch.from_numpy(category.astype(np.int64)),
            time=torch.from_numpy((time - np.repeat(start, length)).astype(np.float32)),
            age=torch.from_numpy(age.astype(np.float32)),
            static_numeric=torch.from_numpy(self.static_numeric[rows]),
            static_category=torch.from_numpy(self.static_category[rows]),
        )

    def subset(self, rows: NDArray[np.int64]) -> EventDataset:
        """The same for some rows."""
        return EventDataset(
            self.events.take(rows),
            self.static_numeric[rows],
            self.static_category[rows],
            self.target[rows],
            self.origin,
        )
