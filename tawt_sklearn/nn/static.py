"""Static columns as tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tawt_sklearn.nn.batch import EventBatch
from tawt_sklearn.nn.panel import PanelBatch


class StaticTokens(nn.Module):
    """One token for each static column; a missing number has a token of its own.

    Parameters
    ----------
    n_numeric : int
    cardinalities : sequence of int
        Number of ids of each categorical column, missing and unknown included.
    """

    first_id: Tensor  # of each categorical column in the shared table

    def __init__(self, n_numeric: int, cardinalities: Sequence[int], d_model: int) -> None:
        super().__init__()
        self.n_tokens = n_numeric + len(cardinalities)
        self.weight = nn.Parameter(torch.randn(n_numeric, d_model) * 0.3)
        self.bias = nn.Parameter(torch.randn(n_numeric, d_model) * 0.3)
        self.missing = nn.Parameter(torch.randn(n_numeric, d_model) * 0.3)
        self.category = nn.Embedding(max(sum(cardinalities), 1), d_model)
        nn.init.normal_(self.category.weight, std=0.3)
        first = torch.tensor([0, *cardinalities[:-1]] if cardinalities else [], dtype=torch.int64)
        self.register_buffer("first_id", first.cumsum(0))

    def forward(self, batch: EventBatch | PanelBatch) -> Tensor:
        """-> (B, n_numeric + n_categorical, D)."""
        number = batch.static_numeric.unsqueeze(-1)  # (B, n_numeric, 1)
        known = self.weight * number.nan_to_num(0.0) + self.bias
        numeric = torch.where(number.isnan(), self.missing, known)
        categorical = self.category(batch.static_category + self.first_id)
        return torch.cat([numeric, categorical], dim=1)
