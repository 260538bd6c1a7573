"""Contrast between kinds of data: a history is closest to what stands beside it in its own row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from tawt_sklearn.nn.batch import EventBatch
from tawt_sklearn.nn.space import Space
from tawt_sklearn.objectives.contrastive import info_nce


@dataclass(frozen=True)
class CrossModal:
    """Tell the image, or whatever stands beside events, of one history from those of other rows.

    The embedding of the events alone and that of each modality go through projections, which are
    thrown away after training; those of one row are to be closer to each other than to those of
    the other rows of the batch.  Rows without an item, or without events, take no part.  The
    fusion learns nothing from it: take ``fusion="concat"``, or a mixture such as
    ``{"masked": 1.0, "cross_modal": 1.0}``.

    Parameters
    ----------
    temperature : float, default=0.1
        Cosines are divided by it: the smaller it is, the more the nearest other rows count.
    d_projection : int, default=64
        Width of the projections.

    References
    ----------
    Radford et al., "Learning Transferable Visual Models From Natural Language Supervision"
    (CLIP), 2021.
    """

    temperature: float = 0.1
    d_projection: int = 64

    name = "cross_modal"
    apart = True
    """Wants the embeddings of events and of modalities by themselves, not the fused one."""

    def __post_init__(self) -> None:
        if not 0 < self.temperature < float("inf"):
            raise ValueError(f"Expected a positive temperature. Got {self.temperature!r}.")
        if self.d_projection < 1:
            raise ValueError(f"Expected d_projection of 1 or more. Got {self.d_projection}.")

    def build(self, space: Space, d_model: int, d_embedding: int) -> CrossModalTask:
        return CrossModalTask(self, space, d_model, d_embedding)


class CrossModalTask(nn.Module):
    """What :class:`CrossModal` trains: a projection of the events and one of each modality."""

    only_compares = True

    def __init__(self, settings: CrossModal, space: Space, d_model: int, d_embedding: int) -> None:
        super().__init__()
        self.settings, self.names = settings, space.beside
        widths = [d_embedding] + len(self.names) * [d_model]
        K = settings.d_projection
        self.projections = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(d), nn.Linear(d, K), nn.GELU(), nn.Linear(K, K))
            for d in widths
        )

    def forward(self, encode: Any, batch: EventBatch) -> dict[str, Tensor]:
        """The loss for each modality, of the rows that have it and events."""
        (events, has_events), *others = encode(batch)
        z = self.projections[0](events)
        parts = {}
        for name, project, (embedding, there) in zip(
            self.names, self.projections[1:], others, strict=True
        ):
            both = has_events & there
            loss = info_nce(z[both], project(embedding)[both], self.settings.temperature)
            parts["cross_modal" if len(self.names) == 1 else name] = loss
        return parts
