"""The network's input: the events of a few rows, flat, with everything as tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tawt_sklearn.nn.items import Items

EVENTS = ("row", "code", "value", "observed", "category", "time", "age")
"""Fields with an entry for each event."""


@dataclass(frozen=True)
class EventBatch:
    """The events of ``B`` rows, concatenated; no padding.

    Attributes
    ----------
    row : (E,) int64
        Which of the ``B`` rows an event belongs to, non-decreasing.
    code : (E,) int64
        Token id of the code.
    value : (E,) float32
        Scaled value, 0 where there is no number.
    observed : (E,) bool
        Whether the event carries a number.
    category : (E,) int64
        1 + id of the category, 0 for none.
    time : (E,) float32
        Time since the row's origin, in the clock's unit; non-decreasing within a row.
    age : (E,) float32
        Time from the event to the row's end, in the clock's unit.
    static_numeric : (B, n_numeric) float32
        Scaled static numbers, NaN where missing.
    static_category : (B, n_categorical) int64
        Ids of the static categories, 0 where missing.
    beside : mapping of names to Items
        What stands beside the events; modalities without an item in these rows are not there.
    """

    row: Tensor
    code: Tensor
    value: Tensor
    observed: Tensor
    category: Tensor
    time: Tensor
    age: Tensor
    static_numeric: Tensor
    static_category: Tensor
    beside: Mapping[str, Items] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.static_numeric)

    @property
    def n_rows(self) -> int:
        """As ``len`` says it, which would be a constant in an exported graph."""
        return self.static_numeric.shape[0]

    @property
    def n_events(self) -> int:
        return self.row.shape[0]

    @property
    def device(self) -> torch.device:
        return self.row.device

    @property
    def clock(self) -> Tensor:
        """What windows of time are told by: the time since the origin."""
        return self.time

    def to(
        self, device: torch.device | str, dtype: torch.dtype, non_blocking: bool = True
    ) -> EventBatch:
        """The same batch on another device, its numbers in another precision."""
        moved: dict[str, Any] = {}
        for one in fields(self):
            if one.name == "beside":
                continue
            tensor: Tensor = getattr(self, one.name)
            to_dtype = dtype if tensor.is_floating_point() else tensor.dtype
            if tensor.device.type == "cpu" and torch.device(device).type == "cuda":
                tensor = tensor.pin_memory()  # else nothing is asynchronous
            moved[one.name] = tensor.to(device, to_dtype, non_blocking=non_blocking)
        beside = {
            name: items.to(device, dtype, non_blocking) for name, items in self.beside.items()
        }
        return EventBatch(**moved, beside=beside)

    def keep(self, visible: Tensor) -> EventBatch:
        """Only the events where ``visible`` (E,) is true; every row stays, even when emptied."""
        kept = visible.nonzero().squeeze(1)
        return replace(self, **{name: getattr(self, name).index_select(0, kept) for name in EVENTS})

    def part(self, first: int, last: int) -> EventBatch:
        """The rows from ``first`` to before ``last``, as views."""
        border = self.row.new_tensor([first, last])
        start, end = torch.searchsorted(self.row, border).tolist()
        return EventBatch(
            row=self.row[start:end] - first,
            **{name: getattr(self, name)[start:end] for name in EVENTS[1:]},
            static_numeric=self.static_numeric[first:last],
            static_category=self.static_category[first:last],
            beside={name: items.part(first, last) for name, items in self.beside.items()},
        )

    def size(self) -> str:
        """How much it is, in words."""
        n_rows, n_events = len(self), self.n_events
        longest = int(torch.bincount(self.row, minlength=1).max())
        words = f"{n_rows} rows of {n_events:,} events in all, {longest:,} in the longest"
        return words + "".join(f", {len(one):,} of {name!r}" for name, one in self.beside.items())

    def events(self, chosen: Tensor, category_offsets: Tensor) -> EventBatch:
        """The chosen (E,) events: as :meth:`keep`, which a panel answers otherwise."""
        return self.keep(chosen)

    @property
    def has_events(self) -> Tensor:
        """(B,) bool."""
        return torch.bincount(self.row, minlength=len(self)) > 0

    def extent(self) -> tuple[Tensor, Tensor]:
        """Times of the first and the last event of each row (B,); 0 for rows without events."""
        zero = self.time.new_zeros(len(self))
        first = zero.scatter_reduce(0, self.row, self.time, "amin", include_self=False)
        last = zero.scatter_reduce(0, self.row, self.time, "amax", include_self=False)
        return first, last

    def between(self, start: Tensor, end: Tensor) -> EventBatch:
        """Events from ``start`` to ``end`` (B,), both included; ages count from ``end`` then.

        What stands beside them at another time is not there, either.
        """
        inside = (self.time >= start[self.row]) & (self.time <= end[self.row])
        kept = self.keep(inside)
        beside = {name: items.between(start, end) for name, items in self.beside.items()}
        return replace(kept, age=(end[kept.row] - kept.time).clamp(min=0), beside=beside)

    def padded(self, n_rows: int) -> EventBatch:
        """With rows that hold nothing after the last one, so that there are ``n_rows``."""
        more = n_rows - len(self)
        if more <= 0:
            return self
        numeric = F.pad(self.static_numeric, (0, 0, 0, more), value=torch.nan)
        return replace(
            self,
            static_numeric=numeric,
            static_category=F.pad(self.static_category, (0, 0, 0, more)),
        )
