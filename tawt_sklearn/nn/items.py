"""What stands beside the events of a few rows, as a network takes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

Content = Tensor | Mapping[str, Tensor]
"""N items as one tensor (N, ...) or several."""


@dataclass(frozen=True)
class Items:
    """N items of one modality that belong to the rows of a batch, not to all of them.

    Attributes
    ----------
    row : (N,) int64
        Row of each, non-decreasing; -1 for those that only fill up.
    time : (N,) float32
        Time since the row's origin, NaN where there is none.
    content : Content
    """

    row: Tensor
    time: Tensor
    content: Content

    def __len__(self) -> int:
        return len(self.row)

    def changed(self, change: Callable[[Tensor], Tensor]) -> Content:
        """The content, each tensor by itself."""
        if isinstance(self.content, Tensor):
            return change(self.content)
        return {name: change(tensor) for name, tensor in self.content.items()}

    def to(
        self, device: torch.device | str, dtype: torch.dtype, non_blocking: bool = True
    ) -> Items:
        """The same on another device, times in another precision.

        The content, which may be large, stays in its own: see :meth:`in_parts`.
        """

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=non_blocking)

        time = self.time.to(device, dtype, non_blocking=non_blocking)
        return Items(move(self.row), time, self.changed(move))

    def in_parts(self, size: int, dtype: torch.dtype) -> Iterator[Content]:
        """The content, ``size`` items at a time, with its numbers in another precision."""
        for first in range(0, len(self), size):
            yield self.changed(lambda tensor, k=first: _in(tensor[k : k + size], dtype))  # type: ignore[misc]

    def keep(self, kept: Tensor) -> Items:
        """Those where ``kept`` (N,) is true."""
        chosen = kept.nonzero().squeeze(1)
        return Items(self.row[chosen], self.time[chosen], self.changed(lambda t: t[chosen]))

    def of_rows(self, shown: Tensor) -> Items:
        """Those of rows where ``shown`` (B,) is true."""
        return self.keep((self.row >= 0) & shown[self.row])

    def part(self, first: int, last: int) -> Items:
        """Those of the rows from ``first`` to before ``last``, which count from 0 then."""
        kept = self.keep((self.row >= first) & (self.row < last))
        return replace(kept, row=kept.row - first)

    def between(self, start: Tensor, end: Tensor) -> Items:
        """Those without a time, and those from ``start`` to ``end`` (B,)."""
        inside = (self.time >= start[self.row]) & (self.time <= end[self.row])
        return self.keep(self.time.isnan() | inside)

    def padded(self, size: int) -> Items:
        """Filled up to a multiple of ``size`` with copies of themselves that belong to no row.

        What is computed of one item then depends less on how many others there are.
        """
        more = -len(self) % size if len(self) else 0
        if not more:
            return self
        place = torch.arange(len(self) + more, device=self.row.device) % len(self)
        row = torch.cat([self.row, self.row.new_full((more,), -1)])
        return Items(row, self.time[place], self.changed(lambda tensor: tensor[place]))


def _in(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor
