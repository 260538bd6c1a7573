"""Heads: from an embedding to scores."""

from __future__ import annotations

from torch import Tensor, nn


class PredictionHead(nn.Module):
    """Norm, one hidden layer, scores.  (B, d_in) -> (B, n_outputs)."""

    def __init__(self, d_in: int, d_hidden: int, n_outputs: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(d_in),
            nn.Dropout(dropout),
            nn.Linear(d_in, d_hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(d_hidden, n_outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)
