"""Scaled panels as a torch data set that hands out whole batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tawt_sklearn.events.content import hash_steps, mix_hashes
from tawt_sklearn.events.ragged import range_positions
from tawt_sklearn.nn.panel import PanelBatch
from tawt_sklearn.training.dataset import RowDataset, label_hashes


class PanelDataset(RowDataset):
    """Cases of a panel with their labels and weights; a batch is cut in one gather.

    Parameters
    ----------
    number : (N, C) float32
        Scaled numbers of all steps of all cases, NaN where there is none.
    category : (N, K) int64
        Codes of the last K channels.
    offsets : (n + 1,) int64
        First step of each case.
    target : (n,) or (n, K) array, optional
        Encoded labels; zeros where there are none.
    weight : (n,) float32, optional
        Weight of each case's loss; ones where there is none.
    """

    def __init__(
        self,
        number: NDArray[np.float32],
        category: NDArray[np.int64],
        offsets: NDArray[np.int64],
        target: NDArray | None = None,
        weight: NDArray[np.float32] | None = None,
    ) -> None:
        self.number, self.category, self.offsets = number, category, offsets
        n = len(offsets) - 1
        self.target = np.zeros(n, dtype=np.int64) if target is None else target
        self.weight = np.ones(n, np.float32) if weight is None else weight

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def sizes(self) -> NDArray[np.int64]:
        """(n,) steps of each case."""
        return np.diff(self.offsets)

    @property
    def n_steps(self) -> int:  # type: ignore[override]
        """Of the longest case."""
        return int(self.sizes().max(initial=0))

    def batch(self, rows: NDArray[np.int64]) -> PanelBatch:
        """The series of these cases, their last steps in the last column."""
        held = self.held
        device = held["number"].device
        end, length = self.offsets[rows + 1], self.sizes()[rows]
        T = max(int(length.max(initial=0)), 1)
        last, n_steps = torch.from_numpy(np.stack([end, length])).to(device, non_blocking=True)
        column = torch.arange(T, device=device)
        time = column - (T - n_steps).unsqueeze(1)  # (B, T), negative before the first step
        outside = time < 0
        position = torch.where(outside, held["none"], last.unsqueeze(1) - T + column)
        number = held["number"][position].transpose(1, 2).contiguous()  # (B, C, T)
        category = held["category"][position].transpose(1, 2).contiguous()  # (B, K, T)
        observed = ~number.isnan()
        return PanelBatch(
            value=torch.where(observed, number, 0.0),
            observed=observed,
            category=category,
            time=time.unsqueeze(1).to(number.dtype),
        )

    def flat(self) -> dict[str, Tensor]:
        """All steps; after them one in which nothing is known, where cases have none."""
        number = np.pad(self.number, ((0, 1), (0, 0)), constant_values=np.nan)
        return {
            "number": torch.from_numpy(number),
            "category": torch.from_numpy(np.pad(self.category, ((0, 1), (0, 0)))),
            "none": torch.tensor(len(self.number)),
        }

    def times(self) -> NDArray[np.float64]:
        """Numbers of the steps of the longest case, which all others have, too."""
        return np.arange(self.n_steps, dtype=np.float64)

    def canonical_order(self) -> NDArray[np.int64]:
        """Order of the cases that depends on what the network sees of them alone, and on labels."""
        content = np.concatenate([self.number, self.category], axis=1, dtype=np.float64)
        hashes = mix_hashes(hash_steps(content, self.offsets), label_hashes(self.target))
        return np.argsort(hashes, kind="stable")

    def content(self) -> list[Any]:
        """Everything that training on these cases depends on."""
        return [self.number, self.category, self.offsets, self.target, self.weight]

    def subset(self, rows: NDArray[np.int64]) -> PanelDataset:
        """The same for some cases."""
        position, offsets = range_positions(self.offsets[rows], self.sizes()[rows])
        return PanelDataset(
            self.number[position],
            self.category[position],
            offsets,
            self.target[rows],
            self.weight[rows],
        )
