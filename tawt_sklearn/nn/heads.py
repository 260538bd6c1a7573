"""Heads: from an embedding to scores."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tawt_sklearn.nn.coordinates import Coordinates


class PredictionHead(nn.Module):
    """Norm, one hidden layer, scores.  (B, d_in) -> (B, n_outputs).

    Starts at the same scores for every row, those of ``prior``: the first steps then need not
    find the frequencies of the classes, and runs from different seeds begin alike.

    Parameters
    ----------
    prior : (n_outputs,) tensor
        Scores to start from.
    """

    def __init__(self, d_in: int, d_hidden: int, prior: Tensor, dropout: float) -> None:
        super().__init__()
        scores = nn.Linear(d_hidden, len(prior))
        nn.init.zeros_(scores.weight)
        with torch.no_grad():
            scores.bias.copy_(prior)
        self.layers = nn.Sequential(
            nn.LayerNorm(d_in),
            nn.Dropout(dropout),
            nn.Linear(d_in, d_hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            scores,
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class ShortWay(nn.Module):
    """From the levels of a panel's channels straight to scores, besides what else is known.

    A token says where its statistics point to, and norms take away how far: a forecast that is
    mostly the last value needs that, too.

    Parameters
    ----------
    d_in, d_out : int
        Number of levels of all channels, and of scores.
    """

    def __init__(self, d_in: int, d_out: int) -> None:
        super().__init__()
        self.scores = nn.Linear(d_in, d_out, bias=False)
        nn.init.zeros_(self.scores.weight)

    def forward(self, levels: Tensor) -> Tensor:
        """(B, N, K) -> (B, d_out)."""
        return self.scores(levels.flatten(1))


class LinearHead(nn.Module):
    """Scores that are linear in an embedding.  (B, d_in) -> (B, n_outputs).

    Parameters
    ----------
    coordinates : Coordinates
        Of the embedding; they stay as they are.
    prior : (n_outputs,) tensor
        Scores to start from.
    """

    def __init__(self, coordinates: Coordinates, prior: Tensor, dropout: float) -> None:
        super().__init__()
        self.coordinates = coordinates
        self.dropout = nn.Dropout(dropout)
        self.scores = nn.Linear(len(coordinates.center), len(prior))
        nn.init.zeros_(self.scores.weight)
        with torch.no_grad():
            self.scores.bias.copy_(prior)

    def forward(self, x: Tensor) -> Tensor:
        return self.scores(self.dropout(self.coordinates(x)))
