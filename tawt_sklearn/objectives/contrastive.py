"""Contrast: two views of one history are closer to each other than to those of other rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

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
)
from tawt_sklearn.objectives.masking import as_parts

CUT = (0.25, 0.75)
"""Halves meet at a moment drawn uniformly between these shares of a history's duration."""


@dataclass(frozen=True)
class Contrastive:
    """Tell two views of one history from those of other rows.

    The embeddings of both views go through a small network, the projection, which is thrown away
    after training; their projections are to be closer to each other than to those of the other
    rows of the batch (InfoNCE).  What the augmentations change is what the embedding learns not to
    hold.  Static columns are the same in both views: where they tell rows apart by themselves,
    there is little left to learn from the events.

    Parameters
    ----------
    augmentations : tuple of augmentations
        Applied one after the other, in this order, to each view; see
        :mod:`tawt_sklearn.objectives.augmentations`.
    pairs : {"views", "halves"}, default="views"
        ``"views"`` are two of the whole history; ``"halves"`` are one of the time before a moment
        and one of the time after it, which have no event in common.
    temperature : float, default=0.1
        Cosines are divided by it: the smaller it is, the more the nearest other rows count.
    d_projection : int, default=64
        Width of the projection.

    References
    ----------
    van den Oord, Li & Vinyals, "Representation Learning with Contrastive Predictive Coding", 2018,
    for InfoNCE; Chen et al., "A Simple Framework for Contrastive Learning of Visual
    Representations", 2020, for the projection.
    """

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

    def __post_init__(self) -> None:
        parts = as_parts("augmentations", self.augmentations)
        object.__setattr__(self, "augmentations", parts)
        if self.pairs not in ("views", "halves"):
            raise ValueError(f'Expected pairs to be "views" or "halves". Got {self.pairs!r}.')
        if not 0 < self.temperature < float("inf"):
            raise ValueError(f"Expected a positive temperature. Got {self.temperature!r}.")
        if self.d_projection < 1:
            raise ValueError(f"Expected d_projection of 1 or more. Got {self.d_projection}.")

    def build(self, space: Space, d_model: int, d_embedding: int) -> ContrastiveTask:
        return ContrastiveTask(self, space, d_embedding)


class ContrastiveTask(nn.Module):
    """What :class:`Contrastive` trains: the projection of embeddings."""

    only_compares = True
    """One row says nothing."""

    def __init__(self, settings: Contrastive, space: Space, d_embedding: int) -> None:
        super().__init__()
        self.settings, self.space = settings, space
        K = settings.d_projection
        self.project = nn.Sequential(
            nn.LayerNorm(d_embedding), nn.Linear(d_embedding, K), nn.GELU(), nn.Linear(K, K)
        )

    def forward(self, encode: Any, batch: EventBatch) -> dict[str, Tensor]:
        """The loss, of the rows that have events in both views."""
        one, two = self.pair(batch)
        both = one.has_events & two.has_events  # all empty views are alike, whoever's they are
        z_one, z_two = (self.project(encode(view)[1])[both] for view in (one, two))
        return {"contrastive": info_nce(z_one, z_two, self.settings.temperature)}

    def pair(self, batch: EventBatch) -> tuple[EventBatch, EventBatch]:
        """Two views of each row."""
        one = two = batch
        if self.settings.pairs == "halves":
            one, two = halves(batch)
        for augment in self.settings.augmentations:
            one, two = augment(one, self.space), augment(two, self.space)
        return one, two


def halves(batch: EventBatch) -> tuple[EventBatch, EventBatch]:
    """What came before a random moment, as if the history had ended then, and what came after."""
    first, last = batch.extent()
    low, high = CUT
    cut = first + (low + (high - low) * torch.rand_like(first)) * (last - first)
    return batch.between(first, cut), batch.keep(batch.time > cut[batch.row])


def info_nce(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """InfoNCE of two views of N rows: which of the second views is mine, and the other way round.

    Parameters
    ----------
    first, second : (N, K)
        Only their directions matter.
    temperature : float

    Returns
    -------
    scalar
        Mean of both directions, ``log N`` where all are alike; 0 for fewer than two rows.
    """
    scores = F.normalize(first, dim=1) @ F.normalize(second, dim=1).T / temperature  # (N, N)
    if len(scores) < 2:
        return scores.sum() * 0  # nothing to be told from, but a loss that has a gradient
    own = torch.arange(len(scores), device=scores.device)
    return (F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own)) / 2
