"""Forecast: from the past of a history, what the next stretch of time brings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tawt_sklearn.nn.backbone import Encoded
from tawt_sklearn.nn.batch import EventBatch
from tawt_sklearn.nn.decoder import FeatureLookup
from tawt_sklearn.nn.panel import PanelBatch
from tawt_sklearn.nn.space import Space
from tawt_sklearn.objectives.masked import mean, scored_codes

CUT = (0.25, 0.9)
"""The past ends at a moment drawn uniformly between these shares of a history's duration."""


@dataclass(frozen=True)
class Forecast:
    """Tell from the past what comes next.

    Each history is cut at a random moment.  The network sees what came before, as if the history
    had ended then, and has to tell for each code

    - its mean *value* over the next stretch of time, where it has values there;
    - its *presence*: whether it is measured in that stretch at all.

    Where a history ends within the stretch, nothing is measured after its end.  Rows whose events
    all have the same time have no future and count for nothing.

    Parameters
    ----------
    share : float, default=0.25
        Length of the stretch, as a share of the length of a typical history.
    error : {"huber", "squared"}, default="huber"
        Of scaled values; Huber's is linear beyond 1.
    value, presence : float
        Weights of the parts; 0 leaves one out.

    References
    ----------
    Tipirneni & Reddy, "Self-Supervised Transformer for Sparse and Irregularly Sampled Multivariate
    Clinical Time-Series", 2022, forecast the next hours of every variable.
    """

    share: float = 0.25
    error: Literal["huber", "squared"] = "huber"
    value: float = 1.0
    presence: float = 0.2

    name = "forecast"

    def __post_init__(self) -> None:
        if not 0 < self.share < float("inf"):
            raise ValueError(f"Expected a positive share of the horizon. Got {self.share!r}.")
        if self.error not in ("huber", "squared"):
            raise ValueError(f'Expected error to be "huber" or "squared". Got {self.error!r}.')
        weights = (self.value, self.presence)
        if min(weights) < 0 or not max(weights) > 0:
            raise ValueError(f"Expected weights of 0 or more, one of them positive. Got {weights}.")

    def build(self, space: Space, d_model: int, d_embedding: int) -> ForecastTask:
        return ForecastTask(self, space, d_model, d_embedding)


class ForecastTask(nn.Module):
    """What :class:`Forecast` trains: from the patch of a code and the row to the code's future."""

    def __init__(
        self, settings: Forecast, space: Space, d_model: int, d_embedding: int, d_hidden: int = 64
    ) -> None:
        super().__init__()
        self.settings, self.space, H = settings, space, d_hidden
        self.from_feature = nn.Linear(d_model, H, bias=False)
        self.from_row = nn.Linear(d_embedding, H)
        self.no_feature = nn.Parameter(torch.zeros(H))
        self.code = nn.Embedding(space.n_codes, H)
        self.hidden = nn.Sequential(nn.LayerNorm(H), nn.Linear(H, H), nn.GELU())
        self.value = nn.Embedding(space.n_codes, H)
        self.value_bias = nn.Embedding(space.n_codes, 1)
        self.presence = nn.Embedding(space.n_codes, H)
        self.presence_bias = nn.Embedding(space.n_codes, 1)
        for table in (self.value, self.presence):
            nn.init.normal_(table.weight, std=H**-0.5)
        for table in (self.value_bias, self.presence_bias):
            nn.init.zeros_(table.weight)
        nn.init.normal_(self.code.weight, std=0.3)

    def forward(self, encode: Any, batch: EventBatch) -> dict[str, Tensor]:
        """Weighted parts of the loss, each a scalar."""
        weight = self.settings
        past, future, has_future = self.split(batch)
        encoded, embedding = encode(past)
        codes = scored_codes(batch, self.space.n_codes)
        asked = self.query(encoded, embedding, codes)
        count, n_values, average = coming(future, codes)
        parts: dict[str, Tensor] = {}
        if weight.value:
            told = (asked * self.value(codes)).sum(2) + self.value_bias(codes).squeeze(1)
            error = F.huber_loss if weight.error == "huber" else F.mse_loss
            loss = error(told, average, reduction="none")
            parts["value"] = weight.value * mean(loss, (n_values > 0).to(loss.dtype))
        if weight.presence:
            odds = (asked * self.presence(codes)).sum(2) + self.presence_bias(codes).squeeze(1)
            there = (count > 0).to(odds.dtype)
            loss = F.binary_cross_entropy_with_logits(odds, there, reduction="none")
            rows = has_future.to(loss.dtype).unsqueeze(1).expand_as(loss)
            parts["presence"] = weight.presence * mean(loss, rows)
        return parts

    def split(self, batch: EventBatch) -> tuple[EventBatch, EventBatch, Tensor]:
        """The past up to a random moment, the stretch after it, and (B,) which rows have both."""
        first, last = batch.extent()
        low, high = CUT
        cut = first + (low + (high - low) * torch.rand_like(first)) * (last - first)
        until = cut + self.settings.share * self.space.horizon
        comes = (batch.time > cut[batch.row]) & (batch.time <= until[batch.row])
        return batch.between(first, cut), batch.keep(comes), first < last

    def query(self, encoded: Encoded, embedding: Tensor, codes: Tensor) -> Tensor:
        """What is known of some codes (S,) in each row.  -> (B, S, H)."""
        B, S = len(embedding), len(codes)
        asked = self.from_row(embedding).unsqueeze(1) + self.code(codes)  # (B, S, H)
        if encoded.feature is not None:
            lookup = FeatureLookup(encoded.feature, self.space.n_codes)
            patches = self.from_feature(encoded.feature.tokens)
            row = torch.arange(B, device=codes.device).repeat_interleave(S)
            found = lookup(patches, row, codes.repeat(B), self.no_feature)
            asked = asked + found.view(B, S, -1)
        return self.hidden(asked)


def coming(future: EventBatch | PanelBatch, codes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Number of events, number of values, and mean value of some codes (S,), which rise.

    Every event is of one of the codes.  -> (B, S) each; the mean is 0 where there are no values.
    """
    if isinstance(future, PanelBatch):
        n_values = future.observed.sum(2).to(future.value.dtype)
        count = future.present.sum(2).to(future.value.dtype)
        return count, n_values, future.value.sum(2) / n_values.clamp(min=1)
    B, S = len(future), len(codes)
    cell = future.row * S + torch.searchsorted(codes, future.code)
    observed = future.observed.to(future.value.dtype)
    columns = torch.stack([torch.ones_like(observed), observed, future.value * observed], dim=1)
    sums = future.value.new_zeros(B * S, 3).index_add_(0, cell, columns)
    count, n_values, total = sums.view(B, S, 3).unbind(2)
    return count, n_values, total / n_values.clamp(min=1)
