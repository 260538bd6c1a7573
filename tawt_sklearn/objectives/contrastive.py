"""Contrast: two views of one history are closer to each other than to those of other rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tawt_sklearn.nn.batch import EventBatch
from tawt_sklearn.nn.space import Space
from tawt_sklearn.objectives.augmentations import (
    Augmentation,
    CropHistory,
    DropCodes,
    DropEvents,
    JitterValues,
    ScaleValues,
    WarpTime,
    between,
    extent,
)


@dataclass(frozen=True)
class Contrastive:
    augmentations: tuple[Augmentation, ...] = (
        CropHistory(),
        DropCodes(),
        DropEvents(),
        WarpTime(),
        ScaleValues(),
        JitterValues(),
    )
    pairs: Literal["views", "halves"] = "views"
    temperature: float = 0.1
    d_projection: int = 64

    name = "contrastive"

    def build(self, space: Space, d_model: int, d_embedding: int):
        return ContrastiveTask(self, space, d_embedding)


def info_nce(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Both directions of InfoNCE between rows of two views.  (B, K) twice -> scalar."""
    a, b = F.normalize(first, dim=1), F.normalize(second, dim=1)
    scores = a @ b.T / temperature
    own = torch.arange(len(a), device=a.device)
    return (F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own)) / 2


class ContrastiveTask(nn.Module):
    def __init__(self, settings, space, d_row):
        super().__init__()
        self.settings = settings
        self.space = space
        K = settings.d_projection
        self.project = nn.Sequential(nn.LayerNorm(d_row), nn.Linear(d_row, K), nn.GELU(), nn.Linear(K, K))

    def view(self, batch):
        for augment in self.settings.augmentations:
            batch = augment(batch, self.space)
        return batch

    def forward(self, encode, batch: EventBatch) -> dict[str, Tensor]:
        if self.settings.pairs == "halves":
            first, last = extent(batch)
            cut = first + (0.25 + 0.5 * torch.rand_like(first)) * (last - first)
            one, two = between(batch, first, cut), between(batch, cut, last)
        else:
            one = two = batch
        one, two = self.view(one), self.view(two)
        z1, z2 = self.project(encode(one)[1]), self.project(encode(two)[1])
        return {"contrastive": info_nce(z1, z2, self.settings.temperature)}
