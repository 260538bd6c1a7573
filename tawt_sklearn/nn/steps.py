"""From patches back to single steps of a panel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tawt_sklearn.nn.backbone import Encoded
from tawt_sklearn.nn.panel import PanelBatch
from tawt_sklearn.nn.panel_patching import PanelShape, StepFeatures, Strides

REACH = 2
"""Steps to either side that a step sees at once, besides what its patches know."""

DILATIONS = (1, 2, 4, 8)
"""Distances over which neighbours then tell each other what they see."""


def unpatched(tokens: Tensor, strides: Strides, n_steps: int) -> Tensor:
    """Mean of the patches that hold each step.

    (B, P, D) tokens of patches, the most recent first -> (B, T, D), the most recent step last.
    """
    age = torch.arange(n_steps - 1, -1, -1, device=tokens.device)
    newest = age // strides.stride  # of the patches that hold a step, the one that ends with it
    total, count = None, None
    for further in range(-(-strides.length // strides.stride)):
        patch = newest - further
        holds = (patch >= 0) & (age < patch * strides.stride + strides.length)
        part = tokens.index_select(1, patch.clamp(min=0)) * holds.view(1, -1, 1)
        total = part if total is None else total + part
        count = holds.to(tokens.dtype) if count is None else count + holds
    assert total is not None and count is not None
    return total / count.view(1, -1, 1)


class StepMixer(nn.Module):
    """Each step learns from steps further and further away, before and after it.

    Dilated convolutions with residuals (Bai, Kolter & Koltun, "An Empirical Evaluation of Generic
    Convolutional and Recurrent Networks for Sequence Modeling", 2018), which see the future, too.
    """

    def __init__(self, d_model: int, dilations: Sequence[int] = DILATIONS) -> None:
        super().__init__()
        self.dilations = tuple(dilations)
        self.norms = nn.ModuleList(nn.LayerNorm(d_model) for _ in self.dilations)
        self.layers = nn.ModuleList(nn.Linear(3 * d_model, d_model) for _ in self.dilations)

    def forward(self, x: Tensor, inside: Tensor) -> Tensor:
        """(B, T, D) steps, (B, T, 1) whether a row has them -> (B, T, D)."""
        T = x.shape[1]
        for dilation, norm, layer in zip(self.dilations, self.norms, self.layers, strict=True):
            around = F.pad(norm(x) * inside, (0, 0, dilation, dilation))
            three = [around[:, k : k + T] for k in (0, dilation, 2 * dilation)]
            x = x + F.gelu(layer(torch.cat(three, dim=2)))
        return x


class StepReadout(nn.Module):
    """What is known of each step: its patches, its neighbours, and its row.

    Parameters
    ----------
    n_channels : int
    shape : PanelShape
    d_model : int
    d_row : int
        Width of what is known of the row.
    patching : str
    """

    def __init__(
        self, n_channels: int, shape: PanelShape, d_model: int, d_row: int, patching: str
    ) -> None:
        super().__init__()
        self.strides = Strides.of(*shape.strides[0])
        self.has_patches = patching != "feature"
        self.features = StepFeatures(n_channels, shape.cardinalities)
        self.near = nn.Linear(self.features.d_out * (2 * REACH + 1), d_model)
        self.mix = StepMixer(d_model)
        self.from_row = nn.Linear(d_row, d_model)
        self.d_out = d_model * (3 if self.has_patches else 2)

    def forward(self, batch: PanelBatch, encoded: Encoded, row: Tensor) -> Tensor:
        """(B, d_row) -> (B, T, d_out)."""
        T = batch.n_steps
        x = F.pad(self.features(batch), (REACH, REACH))
        if torch.compiler.is_exporting():  # the number of windows must not depend on T
            x = torch.stack([x[:, :, k : k + T] for k in range(2 * REACH + 1)], dim=3)
        else:
            x = x.unfold(2, 2 * REACH + 1, 1)  # (B, K, T, 2 REACH + 1)
        near = F.gelu(self.near(x.transpose(1, 2).flatten(2)))  # (B, T, D)
        near = self.mix(near, batch.inside.transpose(1, 2).to(near.dtype))
        parts = [near, self.from_row(row).unsqueeze(1).expand_as(near)]
        if self.has_patches and encoded.temporal is not None:
            parts.append(unpatched(encoded.temporal.tokens, self.strides, T))
        return torch.cat(parts, dim=2)
