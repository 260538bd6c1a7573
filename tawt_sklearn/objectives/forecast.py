"""Forecast: from the past of a history, what the next stretch of time brings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tawt_sklearn.nn.batch import EventBatch
from tawt_sklearn.nn.decoder import FeatureLookup
from tawt_sklearn.nn.space import Space
from tawt_sklearn.objectives.augmentations import extent


@dataclass(frozen=True)
class Forecast:
    share: float = 0.25
    error: Literal["huber", "squared"] = "huber"
    value: float = 1.0
    presence: float = 0.2

    name = "forecast"

    def build(self, space: Space, d_model: int, d_embedding: int):
        return ForecastTask(self, space, d_model, d_embedding)


class ForecastTask(nn.Module):
    def __init__(self, settings, space, d_model, d_row, H=64):
        super().__init__()
        self.settings, self.space = settings, space
        self.from_feature = nn.Linear(d_model, H, bias=False)
        self.from_row = nn.Linear(d_row, H)
        self.code = nn.Embedding(space.n_codes, H)
        self.none = nn.Parameter(torch.zeros(H))
        self.hidden = nn.Sequential(nn.LayerNorm(H), nn.Linear(H, H), nn.GELU())
        self.out = nn.Embedding(space.n_codes, 2 * H)
        self.bias = nn.Embedding(space.n_codes, 2)
        nn.init.normal_(self.out.weight, std=H**-0.5)
        nn.init.zeros_(self.bias.weight)

    def forward(self, encode, batch: EventBatch) -> dict[str, Tensor]:
        s = self.settings
        first, last = extent(batch)
        cut = first + (0.25 + 0.65 * torch.rand_like(first)) * (last - first)
        until = cut + s.share * self.space.horizon
        past_mask = batch.time <= cut[batch.row]
        past = batch.keep(past_mask)
        from dataclasses import replace
        past = replace(past, age=(cut[past.row] - past.time).clamp(min=0))
        encoded, embedding = encode(past)
        future = batch.keep(~past_mask & (batch.time <= until[batch.row]))
        B, V = len(batch), self.space.n_codes
        cell = future.row * V + future.code
        sums = batch.value.new_zeros(B * V, 3)
        obs = future.observed.to(batch.value.dtype)
        sums.index_add_(0, cell, torch.stack([torch.ones_like(obs), obs, future.value], 1))
        count, n, total = sums.view(B, V, 3).unbind(-1)
        mean = total / n.clamp(min=1)
        row = torch.arange(B, device=batch.device).repeat_interleave(V)
        code = torch.arange(V, device=batch.device).repeat(B)
        lookup = FeatureLookup(encoded.feature, V)
        h = lookup(self.from_feature(encoded.feature.tokens), row, code, self.none)
        h = self.hidden(h + self.from_row(embedding)[row] + self.code(code))
        out = (h.unsqueeze(1) * self.out(code).view(len(code), 2, -1)).sum(-1) + self.bias(code)
        value, presence = out.view(B, V, 2).unbind(-1)
        err = F.huber_loss if s.error == "huber" else F.mse_loss
        w = (n > 0).to(value.dtype)
        loss = (err(value, mean, reduction="none") * w).sum() / w.sum().clamp(min=1)
        bce = F.binary_cross_entropy_with_logits(presence, (count > 0).to(value.dtype))
        return {"future_value": s.value * loss, "future_presence": s.presence * bce}
