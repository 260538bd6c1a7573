"""The supervised model: hide some events, encode, read out, score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tawt_sklearn.nn.backbone import DualPatchBackbone
from tawt_sklearn.nn.batch import EventBatch
from tawt_sklearn.nn.heads import LinearHead, PredictionHead, ShortWay
from tawt_sklearn.nn.hiding import HideCodesAndWindows
from tawt_sklearn.nn.panel import PanelBatch
from tawt_sklearn.nn.panel_patching import ChannelPatches
from tawt_sklearn.nn.pooling import Pooling, Readout
from tawt_sklearn.nn.steps import StepReadout

WIDEST = 2**14
"""With more levels than this there is no short way from them to the scores."""


class DualPatchPredictor(nn.Module):
    """Backbone, readout and head in a row; in training some codes and windows are hidden first.

    From scratch the readout is wide and the head has a hidden layer.  From a pretrained encoder
    the readout is the encoder's pooling, and the head is linear.

    Parameters
    ----------
    prior : sequence of float
        Scores to start from, one for each output.
    code_dropout, window_dropout : float
        Mean share of codes and of time windows hidden from a row in a training step.
    head_dropout : float
    backbone : dict
        Keywords of :class:`DualPatchBackbone`.
    pooling : str, optional
        That of a pretrained encoder.
    d_embedding : int
        Width of its codewise embedding.
    scaling : str
        Of its embeddings.
    per_step : bool
        Whether there are scores for each step of a panel rather than for each row.
    """

    def __init__(
        self,
        *,
        prior: Sequence[float],
        code_dropout: float,
        window_dropout: float,
        head_dropout: float,
        backbone: dict[str, Any],
        pooling: str | None = None,
        d_embedding: int = 64,
        scaling: str = "reliability",
        per_step: bool = False,
    ) -> None:
        super().__init__()
        n_codes, d_model = backbone["n_codes"], backbone["d_model"]
        self.hide = HideCodesAndWindows(
            n_codes, backbone["window_edges"], code_dropout, window_dropout
        )
        self.backbone = DualPatchBackbone(**backbone)
        shape = (n_codes, self.backbone.places.n_usual, d_model, backbone.get("patching", "dual"))
        start = torch.tensor(prior, dtype=torch.float32)
        self.readout: Readout | Pooling
        self.head: PredictionHead | LinearHead
        self.steps: StepReadout | None = None
        if pooling is None:
            self.readout = Readout(*shape)
        else:
            self.readout = Pooling(pooling, *shape, d_embedding)
        if per_step:
            panel = backbone["panel"]
            self.steps = StepReadout(n_codes, panel, d_model, self.readout.d_out, shape[-1])
            self.head = PredictionHead(self.steps.d_out, 64, start, head_dropout)
        elif isinstance(self.readout, Pooling):
            self.head = LinearHead(self.readout.coordinates(scaling), start, head_dropout)
        else:
            self.head = PredictionHead(self.readout.d_out, 64, start, head_dropout)
        self.short_way: ShortWay | None = None
        channels = self.backbone.feature_patches
        if isinstance(channels, ChannelPatches) and not per_step and pooling is None:
            d_levels = channels.n_numeric * channels.n_levels
            if 0 < d_levels <= WIDEST:
                self.short_way = ShortWay(d_levels, len(prior))

    def forward(self, batch: EventBatch | PanelBatch) -> Tensor:
        """-> (B, n_outputs) scores, or (B, T, n_outputs) of steps."""
        if self.training:
            batch = self.hide(batch)
        encoded = self.backbone(batch)
        row = self.readout(encoded)
        if self.steps is not None and isinstance(batch, PanelBatch):
            return self.head(self.steps(batch, encoded, row))
        scores = self.head(row)
        if self.short_way is not None and encoded.unmixed is not None:
            assert encoded.unmixed.levels is not None
            scores = scores + self.short_way(encoded.unmixed.levels)
        return scores
