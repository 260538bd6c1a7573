"""Hiding events from the network, in training only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from tawt_sklearn.nn.batch import EventBatch
from tawt_sklearn.nn.panel import PanelBatch

Batch = TypeVar("Batch", EventBatch, PanelBatch)


class HideCodesAndWindows(nn.Module):
    """Hide whole codes and whole windows of time, another choice for every row and step.

    The share that is hidden is itself drawn anew for each row, uniformly between nothing and
    twice its mean, so that the network also sees complete histories.  Everything downstream,
    the statistics included, is computed from the events that remain.
    """

    edges: Tensor

    def __init__(
        self, n_codes: int, window_edges: Sequence[float], code_rate: float, window_rate: float
    ) -> None:
        super().__init__()
        self.n_codes, self.code_rate, self.window_rate = n_codes, code_rate, window_rate
        self.register_buffer("edges", torch.as_tensor(window_edges, dtype=torch.float32))

    def visible(self, batch: EventBatch | PanelBatch) -> Tensor:
        """(E,) which events stay, or which cells of a panel."""
        B, W = len(batch), len(self.edges) + 1
        kept_codes = self.draw(B, self.n_codes, self.code_rate, batch.device)
        kept_windows = self.draw(B, W, self.window_rate, batch.device)
        window = torch.bucketize(batch.clock, self.edges, right=True)
        return kept_codes[batch.row, batch.code] & kept_windows[batch.row, window]

    def draw(self, n_rows: int, n: int, mean_rate: float, device: torch.device) -> Tensor:
        """(n_rows, n) booleans, true with a probability drawn for each row."""
        rate = 2 * mean_rate * torch.rand(n_rows, 1, device=device)
        return torch.rand(n_rows, n, device=device) >= rate

    def forward(self, batch: Batch) -> Batch:
        if self.code_rate == 0 and self.window_rate == 0:
            return batch
        return batch.keep(self.visible(batch))
