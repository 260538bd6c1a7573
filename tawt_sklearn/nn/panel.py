"""The network's input where time is regular: the series of a few rows, aligned at their ends."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from tawt_sklearn.nn.batch import EventBatch


@dataclass(frozen=True)
class PanelBatch:
    """The series of ``B`` rows; their last steps stand in the last column.

    Its fields have the names of those of :class:`~tawt_sklearn.nn.batch.EventBatch` and broadcast
    to (B, C, T): what is written for events, ``rates[batch.row, batch.code]`` for instance, means
    the same here.

    Attributes
    ----------
    value : (B, C, T) float32
        Scaled numbers, 0 where there is none.
    observed : (B, C, T) bool
        Whether there is a number.
    category : (B, K, T) int64
        Codes of the last K of the C channels, which are categorical: 0 where nothing is known.
    time : (B, 1, T) float32
        Number of each step of a row, from 0; negative before its first one.
    """

    value: Tensor
    observed: Tensor
    category: Tensor
    time: Tensor

    def __len__(self) -> int:
        return len(self.value)

    @property
    def n_rows(self) -> int:
        """As ``len`` says it, which would be a constant in an exported graph."""
        return self.value.shape[0]

    @property
    def n_channels(self) -> int:
        return self.value.shape[1]

    @property
    def n_steps(self) -> int:
        """Of the longest row, T."""
        return self.value.shape[2]

    @property
    def device(self) -> torch.device:
        return self.value.device

    @property
    def row(self) -> Tensor:
        """(B, 1, 1) int64."""
        return torch.arange(self.n_rows, device=self.device).view(-1, 1, 1)

    @property
    def code(self) -> Tensor:
        """(1, C, 1) int64."""
        return torch.arange(self.n_channels, device=self.device).view(1, -1, 1)

    @property
    def age(self) -> Tensor:
        """(1, 1, T) steps from each step to the last one."""
        T = self.n_steps
        steps = torch.arange(T - 1, -1, -1, device=self.device, dtype=self.time.dtype)
        return steps.view(1, 1, T)

    @property
    def clock(self) -> Tensor:
        """What windows of time are told by: the steps until the end."""
        return self.age

    @property
    def inside(self) -> Tensor:
        """(B, 1, T) bool, whether a row has the step at all."""
        return self.time >= 0

    @property
    def present(self) -> Tensor:
        """(B, C, T) bool, where a number or a category is known."""
        K = self.category.shape[1]
        if not K:
            return self.observed
        return torch.cat([self.observed[:, :-K], self.category > 0], dim=1)

    @property
    def static_numeric(self) -> Tensor:
        """(B, 0): there are no static columns beside a panel."""
        return self.value.new_zeros(self.n_rows, 0)

    @property
    def static_category(self) -> Tensor:
        return torch.zeros(self.n_rows, 0, dtype=torch.int64, device=self.device)

    def to(
        self, device: torch.device | str, dtype: torch.dtype, non_blocking: bool = True
    ) -> PanelBatch:
        """The same batch on another device, its numbers in another precision."""
        moved = {}
        for field in fields(self):
            tensor: Tensor = getattr(self, field.name)
            to_dtype = dtype if tensor.is_floating_point() else tensor.dtype
            if tensor.device.type == "cpu" and torch.device(device).type == "cuda":
                tensor = tensor.pin_memory()  # else nothing is asynchronous
            moved[field.name] = tensor.to(device, to_dtype, non_blocking=non_blocking)
        return PanelBatch(**moved)

    def keep(self, visible: Tensor) -> PanelBatch:
        """Nothing is known where ``visible`` (broadcasts to (B, C, T)) is false."""
        K = self.category.shape[1]
        observed = self.observed & visible
        category = self.category
        if K:
            shown = visible.expand(self.observed.shape)[:, -K:]
            category = torch.where(shown, category, 0)
        value = torch.where(observed, self.value, 0)
        return replace(self, value=value, observed=observed, category=category)

    def part(self, first: int, last: int) -> PanelBatch:
        """The rows from ``first`` to before ``last``, as views."""
        rows = slice(first, last)
        return PanelBatch(
            self.value[rows], self.observed[rows], self.category[rows], self.time[rows]
        )

    def size(self) -> str:
        """How much it is, in words."""
        n_rows, n_channels, n_steps = self.value.shape
        return f"{n_rows} cases of {n_channels:,} channels and up to {n_steps:,} steps"

    def padded(self, n_rows: int) -> PanelBatch:
        """With rows that hold nothing after the last one, so that there are ``n_rows``."""
        more = n_rows - len(self)
        if more <= 0:
            return self
        end = (0, 0, 0, 0, 0, more)
        return PanelBatch(
            value=F.pad(self.value, end),
            observed=F.pad(self.observed, end),
            category=F.pad(self.category, end),
            time=F.pad(self.time, end, value=-1.0),
        )

    @property
    def has_events(self) -> Tensor:
        """(B,) bool, whether anything is known of a row."""
        return self.present.flatten(1).any(1)

    def extent(self) -> tuple[Tensor, Tensor]:
        """Numbers of the first and the last step of each row (B,)."""
        last = self.time[:, 0, -1].clamp(min=0)
        return torch.zeros_like(last), last

    def between(self, start: Tensor, end: Tensor) -> PanelBatch:
        """Steps from ``start`` to ``end`` (B,), both included, as if there were no others."""
        T = self.n_steps
        newest = self.time[:, 0, -1]
        back = (newest - end).clamp(min=0).ceil().view(-1, 1)  # steps cut off after the end
        step = torch.arange(T, device=self.device) - back.long()  # (B, T), where it is taken from
        kept = self.at(step)
        length = (newest - back.squeeze(1)).floor() - start.ceil() + 1
        time = torch.arange(T, device=self.device) - (T - length).view(-1, 1)
        time = time.unsqueeze(1).to(self.time.dtype)
        return replace(kept, time=time).keep(time >= 0)

    def at(self, step: Tensor) -> PanelBatch:
        """The same with other steps in the columns; ``step`` (B, T), nothing where negative."""
        B, C, T = self.value.shape
        source = step.clamp(min=0).unsqueeze(1)
        taken = replace(
            self,
            value=self.value.gather(2, source.expand(B, C, T)),
            observed=self.observed.gather(2, source.expand(B, C, T)),
            category=self.category.gather(2, source.expand(B, self.category.shape[1], T)),
        )
        return taken.keep((step >= 0).unsqueeze(1))

    def events(self, chosen: Tensor, category_offsets: Tensor) -> EventBatch:
        """What is known in the chosen (B, C, T) cells, one event for each.

        The codes of categories become ids by ``category_offsets`` (C + 1,).
        """
        row, code, step = (chosen & self.present).nonzero().unbind(1)
        C, K = self.n_channels, self.category.shape[1]
        category = torch.zeros_like(code)
        if K:
            named = (code >= C - K).nonzero().squeeze(1)
            own = self.category[row[named], code[named] - (C - K), step[named]]
            category[named] = 1 + category_offsets[code[named]] + own
        return EventBatch(
            row=row,
            code=code,
            value=self.value[row, code, step],
            observed=self.observed[row, code, step],
            category=category,
            time=self.time[row, 0, step],
            age=self.age[0, 0, step],
            static_numeric=self.static_numeric,
            static_category=self.static_category,
        )
