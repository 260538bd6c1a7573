"""The supervised model: hide some events, encode, read out, score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tawt_sklearn.nn.additive import AdditiveModel, Curves
from tawt_sklearn.nn.backbone import DualPatchBackbone, Encoded
from tawt_sklearn.nn.batch import EventBatch
from tawt_sklearn.nn.beside import Beside, item_tokens
from tawt_sklearn.nn.heads import LinearHead, PredictionHead, ShortWay
from tawt_sklearn.nn.hiding import HideCodesAndWindows
from tawt_sklearn.nn.panel import PanelBatch
from tawt_sklearn.nn.panel_patching import ChannelPatches
from tawt_sklearn.nn.pooling import Pooling, Readout
from tawt_sklearn.nn.steps import StepReadout
from tawt_sklearn.nn.summary import Summary, SummaryHead, SummaryScale, summary_columns

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
        Mean share of codes and of time windows hidden from a row in a training step; of the
        columns of a summary as large a share as of the codes.
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
    modalities : mapping of names to Modality, optional
        Fitted; what stands beside the events.
    fusion : str
        How they come together with the events.
    modality_dropout : float
        Share of rows from which a modality is hidden in a training step.
    summary : SummaryScale, optional
        Of the statistics that a second head sees side by side, without patches in between.
    n_summary_members : int
        Networks that share most of their weights in that head.
    summary_dropout : float
        Of its hidden units.
    summary_share : float
        What it weighs beside the patches, from 0 to 1; the rest is theirs.
    curves : Curves, optional
        Of the columns of the summary: an additive model that has a say, too.
    curves_share : float, optional
        What it weighs beside both heads, from 0 to 1; None where nobody has asked for it.
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
        modalities: Mapping[str, Any] | None = None,
        fusion: str = "concat",
        modality_dropout: float = 0.0,
        summary: SummaryScale | None = None,
        n_summary_members: int = 8,
        summary_dropout: float = 0.3,
        summary_share: float = 0.5,
        curves: Curves | None = None,
        curves_share: float | None = None,
    ) -> None:
        super().__init__()
        n_codes, d_model = backbone["n_codes"], backbone["d_model"]
        self.hide = HideCodesAndWindows(
            n_codes, backbone["window_edges"], code_dropout, window_dropout
        )
        self.backbone = DualPatchBackbone(**backbone)
        shape = (n_codes, self.backbone.places.n_usual, d_model, backbone.get("patching", "dual"))
        start, self.n_outputs = torch.tensor(prior, dtype=torch.float32), len(prior)
        self.readout: Readout | Pooling
        self.head: PredictionHead | LinearHead
        self.steps: StepReadout | None = None
        if pooling is None:
            self.readout = Readout(*shape)
        else:
            self.readout = Pooling(pooling, *shape, d_embedding)
        d_row = self.readout.d_out
        self.beside: Beside | None = None
        if modalities:
            self.beside = Beside(modalities, fusion, modality_dropout, d_row, backbone)
            d_row = self.beside.d_out
        if per_step:
            panel = backbone["panel"]
            self.steps = StepReadout(n_codes, panel, d_model, self.readout.d_out, shape[-1])
            self.head = PredictionHead(self.steps.d_out, 64, start, head_dropout)
        elif isinstance(self.readout, Pooling):
            self.head = LinearHead(self.readout.coordinates(scaling, d_row), start, head_dropout)
        else:
            self.head = PredictionHead(d_row, 64, start, head_dropout)
        self.short_way: ShortWay | None = None
        channels = self.backbone.feature_patches
        if isinstance(channels, ChannelPatches) and not per_step and pooling is None:
            d_levels = channels.n_numeric * channels.n_levels
            if 0 < d_levels <= WIDEST:
                self.short_way = ShortWay(d_levels, self.n_outputs)
        self.summary_share = summary_share
        self.summary: Summary | None = None
        self.summary_head: SummaryHead | None = None
        if summary is not None:
            self.summary = Summary(summary_columns(backbone), summary)
            self.summary_head = SummaryHead(
                self.summary.d_out, start, n_summary_members, summary_dropout, code_dropout
            )
        self.additive: AdditiveModel | None = None
        self.curves_share = curves_share or 0.0
        if curves is not None:
            self.add_curves(curves, self.curves_share)

    def add_curves(self, curves: Curves, share: float) -> None:
        """Let an additive model of the summary have its share in what is said.

        Raises
        ------
        ValueError
            There is no summary, or the curves are of another one.
        """
        if self.summary is None:
            raise ValueError("Expected a summary whose columns have curves. Got none.")
        own = AdditiveModel(curves, self.summary.d_out, self.n_outputs)
        self.additive = own.to(self.summary.center)
        self.curves_share = share

    def look(self, batch: EventBatch | PanelBatch) -> tuple[Encoded, Tensor]:
        """Patches of the events, and what the head sees of each row (B, d_row)."""
        if self.beside is not None and isinstance(batch, EventBatch):
            return self.beside(batch, self.backbone, self.readout)
        encoded = self.backbone(batch)
        return encoded, self.readout(encoded)

    def weigh(self, batch: EventBatch | PanelBatch) -> Tensor | None:
        """What the events and each modality weigh in each row (B, M); None without a gate."""
        if self.beside is None or not isinstance(batch, EventBatch):
            return None
        return self.beside.weights(batch, self.backbone, self.readout)

    def forward(self, batch: EventBatch | PanelBatch) -> Tensor:
        """-> (B, n_outputs) scores, or (B, T, n_outputs) of steps.

        In training with a summary the scores of its members and of the patches, each of which has
        a loss of its own: (B, n_summary_members + 1, n_outputs).
        """
        scores = self.of_patches(self.hide(batch) if self.training else batch)
        if self.summary is None:
            return scores
        assert self.summary_head is not None
        summary = self.summary(batch)
        members = self.summary_head(summary)
        if self.training:
            return torch.cat([members, scores.unsqueeze(0)]).transpose(0, 1)
        scores = torch.lerp(scores, members.mean(0), self.summary_share)
        if self.additive is None:
            return scores
        return torch.lerp(scores, self.additive(summary), self.curves_share)

    def of_summary(self, batch: EventBatch | PanelBatch) -> Tensor:
        """Scores of the members that see statistics side by side (M, B, n_outputs)."""
        assert self.summary is not None and self.summary_head is not None
        return self.summary_head(self.summary(batch))

    def of_patches(self, batch: EventBatch | PanelBatch) -> Tensor:
        """Scores from what the backbone makes of a batch, (B, n_outputs) or of steps."""
        encoded, row = self.look(batch)
        if self.steps is not None and isinstance(batch, PanelBatch):
            return self.head(self.steps(batch, encoded, row))
        scores = self.head(row)
        if self.short_way is not None and encoded.unmixed is not None:
            assert encoded.unmixed.levels is not None
            scores = scores + self.short_way(encoded.unmixed.levels)
        return scores


class ModalityPredictor(nn.Module):
    """One modality alone: what its network learns from labels before it meets the events.

    Parameters
    ----------
    prior : sequence of float
        Scores to start from.
    name : str
    modality : Modality
        Fitted.
    head_dropout : float
    backbone : dict
        Keywords of the :class:`DualPatchBackbone` that it will stand beside.
    """

    def __init__(
        self,
        *,
        prior: Sequence[float],
        name: str,
        modality: Any,
        head_dropout: float,
        backbone: dict[str, Any],
    ) -> None:
        super().__init__()
        self.name = name
        self.tokens = item_tokens(modality, backbone, freeze=False)
        start = torch.tensor(prior, dtype=torch.float32)
        self.head = PredictionHead(backbone["d_model"], 64, start, head_dropout)

    def forward(self, batch: EventBatch) -> Tensor:
        """-> (B, n_outputs)."""
        return self.head(self.tokens(batch.beside.get(self.name), len(batch)).pooled)
