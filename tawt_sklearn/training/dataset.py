"""Rows as a torch data set that hands out whole batches; here, those of tokenised histories."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from copy import copy
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from tawt_sklearn.events.array import EventsArray
from tawt_sklearn.nn.batch import EventBatch
from tawt_sklearn.training.beside import ItemColumn

Labelled = tuple[Any, tuple[Tensor, Tensor]]
"""The events or series of some rows; the rows' encoded labels and their weights."""


def label_hashes(labels: NDArray) -> NDArray:
    """Hash of the labels of each row, (n,) or (n, K)."""
    table = pd.DataFrame(labels.reshape(len(labels), -1))
    return pd.util.hash_pandas_object(table, index=False).to_numpy()


def whole_batch(batch: Labelled) -> Labelled:
    """Collate function for a data set that already returns batches (a lambda cannot be pickled)."""
    return batch


ON_DEVICE = 0.25
"""Share of a GPU's free memory that a data set may take."""

EVENT_FIELDS = ("code", "value", "observed", "category", "time", "age")


class RowDataset(Dataset, ABC):
    """Rows with labels and weights that a network is trained on or asked about, in whole batches.

    Attributes
    ----------
    target : (n,), (n, K) or (n, T) array
        Encoded labels; zeros where there are none.
    weight : (n,) float32
        Weight of each row's loss; ones where there is none.
    """

    target: NDArray
    weight: NDArray[np.float32]
    n_steps = 0
    """Of the longest row; 0 where rows have no regular steps."""
    _held: dict[str, Tensor] | None = None

    @property
    def held(self) -> dict[str, Tensor]:
        """What batches are cut from, where :meth:`hold_on` has put it; on the CPU else."""
        if self._held is None:
            self._held = self.flat()
        return self._held

    def hold_on(self, device: torch.device) -> bool:
        """Keep everything on a device, if it is a GPU and has room: batches need not travel then.

        What does not fit stays on the CPU; its batches travel one by one.
        """
        held = self.held
        if held[next(iter(held))].device == device or device.type == "cpu":
            return True
        if device.type == "cuda":
            n_bytes = sum(tensor.nbytes for tensor in held.values())
            if n_bytes > ON_DEVICE * torch.cuda.mem_get_info(device)[0]:
                return False
        self._held = {name: tensor.to(device) for name, tensor in held.items()}
        return True

    @abstractmethod
    def flat(self) -> dict[str, Tensor]:
        """Everything that batches are cut from, as the network takes it."""

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_held": None}  # made again where it is needed

    @abstractmethod
    def __len__(self) -> int: ...

    def __getitem__(self, row: int) -> Labelled:
        return self.__getitems__([row])

    def __getitems__(self, rows: list[int]) -> Labelled:
        index = np.asarray(rows, dtype=np.int64)
        labels = torch.from_numpy(self.target[index]), torch.from_numpy(self.weight[index])
        return self.batch(index), labels

    @abstractmethod
    def batch(self, rows: NDArray[np.int64]) -> Any:
        """What the network is shown of these rows."""

    @abstractmethod
    def sizes(self) -> NDArray[np.int64]:
        """(n,) events or steps of each row."""

    def n_items(self) -> NDArray[np.int64]:
        """(n,) images, or other items, beside the events of each row."""
        return np.zeros(len(self), dtype=np.int64)

    def alone(self) -> Self:
        """The same rows without images, or other items, beside them."""
        return self

    @abstractmethod
    def times(self) -> NDArray[np.float64]:
        """Times on the network's clock."""

    @abstractmethod
    def canonical_order(self) -> NDArray[np.int64]:
        """Order of the rows that depends on what the network sees of them alone, and on labels."""

    @abstractmethod
    def content(self) -> list[Any]:
        """Everything that training on these rows depends on."""

    @abstractmethod
    def subset(self, rows: NDArray[np.int64]) -> Self:
        """The same for some rows."""


class EventDataset(RowDataset):
    """Rows of a tokenised events column with their static columns, labels and weights.

    A batch is cut from the flat arrays in one gather (``__getitems__``); nothing is done row by
    row in Python.

    Parameters
    ----------
    events : EventsArray
        Tokenised histories of ``n`` rows.
    static_numeric : (n, n_numeric) float32
    static_category : (n, n_categorical) int64
    target : (n,) or (n, K) array, optional
        Encoded labels; zeros where there are none.
    weight : (n,) float32, optional
        Weight of each row's loss; ones where there is none.
    origin : float, default=0.0
        Where the network's clock starts, after each row's own origin; taken off in float64, as
        float32 does not tell hours apart that are counted from 1970.
    beside : mapping of names to ItemColumn, optional
        What stands beside the events.
    """

    def __init__(
        self,
        events: EventsArray,
        static_numeric: NDArray[np.float32],
        static_category: NDArray[np.int64],
        target: NDArray | None = None,
        weight: NDArray[np.float32] | None = None,
        *,
        origin: float = 0.0,
        beside: Mapping[str, ItemColumn] | None = None,
    ) -> None:
        self.events = events
        self.static_numeric = static_numeric
        self.static_category = static_category
        self.target = np.zeros(len(events), dtype=np.int64) if target is None else target
        self.weight = np.ones(len(events), np.float32) if weight is None else weight
        self.origin = origin
        self.beside = dict(beside or {})

    def __len__(self) -> int:
        return len(self.events)

    def batch(self, rows: NDArray[np.int64]) -> EventBatch:
        """The events of these rows, flat, on the device that holds the data set.

        What stands beside them is read now, and travels later.
        """
        held = self.held
        device = held["code"].device
        first = self.events.offsets[rows]
        length = self.events.offsets[rows + 1] - first
        n_events = int(length.sum())
        # One small tensor travels; everything else is made where the events are.
        plan = np.stack([first - (np.cumsum(length) - length), length, rows])
        shift, count, row_of = torch.from_numpy(plan).to(device, non_blocking=True)
        row = torch.arange(len(rows), device=device)
        row = row.repeat_interleave(count, output_size=n_events)
        position = torch.arange(n_events, device=device) + shift[row]
        events = {name: held[name].index_select(0, position) for name in EVENT_FIELDS}
        return EventBatch(
            row=row,
            code=events.pop("code").long(),
            category=events.pop("category").long(),
            **events,
            static_numeric=held["static_numeric"].index_select(0, row_of),
            static_category=held["static_category"].index_select(0, row_of),
            beside={
                name: items
                for name, column in self.beside.items()
                if (items := column.batch(rows)) is not None
            },
        )

    def flat(self) -> dict[str, Tensor]:
        """Everything that batches are cut from, as the network takes it."""
        events, lengths = self.events, np.diff(self.events.offsets)
        start = np.repeat(events.start + self.origin, lengths)
        # Never after the stated end.
        age = np.maximum(np.repeat(events.end, lengths) - events.time, 0.0)
        with np.errstate(over="ignore"):  # scores that are no numbers are reported by name
            age, time = age.astype(np.float32), (events.time - start).astype(np.float32)
        observed = ~np.isnan(events.value)
        text = events.text
        category = np.zeros(len(age), np.int32) if text is None else text.astype(np.int32) + 1
        arrays = {
            "code": events.code.astype(np.int32),
            "value": np.where(observed, events.value, np.float32(0)),
            "observed": observed,
            "category": category,
            "time": time,
            "age": age,
            "static_numeric": np.array(self.static_numeric),
            "static_category": np.array(self.static_category),
        }
        return {name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in arrays.items()}

    def sizes(self) -> NDArray[np.int64]:
        """(n,) events of each row."""
        return np.diff(self.events.offsets)

    def n_items(self) -> NDArray[np.int64]:
        """(n,) images, or other items, beside the events of each row."""
        return sum((column.counts() for column in self.beside.values()), super().n_items())

    def times(self) -> NDArray[np.float64]:
        """(E,) times of all events on the network's clock."""
        lengths = np.diff(self.events.offsets)
        return self.events.time - np.repeat(self.events.start + self.origin, lengths)

    def canonical_order(self) -> NDArray[np.int64]:
        """Order of the rows that depends on what the network sees of them alone, and on labels."""
        events, clock = self.events, self.events.start + self.origin
        since = events._replace(
            time=self.times(),
            start=np.zeros(len(self)),
            end=events.end - clock,
        )
        target = self.target.reshape(len(self), -1)
        blocks: list[NDArray] = [self.static_numeric, self.static_category, target]
        table = pd.concat([pd.DataFrame(block) for block in blocks], axis=1)
        table = table.set_axis(range(table.shape[1]), axis=1).assign(events=since)
        hashes = pd.util.hash_pandas_object(table, index=False).to_numpy()
        # Last, so that the order is that of the events wherever these tell rows apart: where a
        # file lies does not matter then.
        ties = [column.digests().astype(str) for column in self.beside.values()]
        return np.lexsort([*ties, hashes])

    def content(self) -> list[Any]:
        """Everything that training on these rows depends on."""
        events = self.events
        flat = [events.time, events.code, events.value, events.text]
        rows = [events.offsets, events.start, events.end]
        labels = [self.target, self.weight, self.static_numeric, self.static_category]
        beside = [[name, *column.digests()] for name, column in self.beside.items()]
        return [*flat, *rows, *labels, self.origin, *beside]

    def alone(self) -> Self:
        """The same rows without what stands beside the events."""
        if not self.beside:
            return self
        bare = copy(self)
        bare.beside, bare._held = {}, self._held
        return bare

    def subset(self, rows: NDArray[np.int64]) -> EventDataset:
        """The same for some rows."""
        return EventDataset(
            self.events.take(rows),
            self.static_numeric[rows],
            self.static_category[rows],
            self.target[rows],
            self.weight[rows],
            origin=self.origin,
            beside={name: column.take(rows) for name, column in self.beside.items()},
        )
