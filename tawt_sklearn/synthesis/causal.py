"""A transformer in which a word sees those before it, all at once or word after word."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tawt_sklearn.nn.backbone import RowDropout


class CausalBlock(nn.Module):
    """Pre-norm transformer block in which a word sees those before it."""

    def __init__(self, d_model: int, n_heads: int, d_feedforward: int, dropout: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norm_attention = nn.LayerNorm(d_model)
        self.qkv = nn.Linear(d_model, 3 * d_model)
        self.out = nn.Linear(d_model, d_model)
        self.norm_feedforward = nn.LayerNorm(d_model)
        self.feedforward = nn.Sequential(
            nn.Linear(d_model, d_feedforward), nn.GELU(), nn.Linear(d_feedforward, d_model)
        )
        self.dropout = RowDropout(dropout)

    def heads(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, T, D) -> queries, keys and values (B, H, T, d)."""
        B, T, D = x.shape
        qkv = self.qkv(self.norm_attention(x)).view(B, T, 3, self.n_heads, D // self.n_heads)
        return qkv.permute(2, 0, 3, 1, 4).unbind(0)

    def forward(self, x: Tensor, first: int, window: int) -> Tensor:
        """(B, T, D) -> the same; each sees the ``first`` words and as many as ``window`` before."""
        q, k, v = self.heads(x)
        if x.shape[1] <= first + window:
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            mixed = banded_attention(q, k, v, first, window)
        return self.after(x, mixed)

    def step(self, x: Tensor, cache: Cache, layer: int) -> Tensor:
        """(B, 1, D) after what the cache holds -> the same."""
        q, k, v = self.heads(x)
        k, v = cache.add(layer, k, v)
        return self.after(x, F.scaled_dot_product_attention(q, k, v))

    def after(self, x: Tensor, mixed: Tensor) -> Tensor:
        x = x + self.dropout(self.out(mixed.transpose(1, 2).flatten(2)))
        return x + self.dropout(self.feedforward(self.norm_feedforward(x)))


def banded_attention(q: Tensor, k: Tensor, v: Tensor, first: int, window: int) -> Tensor:
    """(B, H, T, d): causal attention to the ``first`` words and the last ``window`` ones."""
    T = q.shape[2]
    told = []
    for begin in range(0, T, window):
        query = torch.arange(begin, min(begin + window, T), device=q.device)
        recent = torch.arange(max(0, begin - window + 1), int(query[-1]) + 1, device=q.device)
        key = torch.cat([torch.arange(min(first, int(recent[0])), device=q.device), recent])
        back = query.unsqueeze(1) - key
        seen = (back >= 0) & ((back < window) | (key < first))
        some = q[:, :, query], k[:, :, key], v[:, :, key]
        told.append(F.scaled_dot_product_attention(*some, attn_mask=seen))
    return torch.cat(told, dim=2)


class Cache:
    """Keys and values of the words so far, (B, H, T, d) for each layer.

    Parameters
    ----------
    n_layers : int
    first, window : int
        Kept are the first words, and the last ones, in no order.
    """

    def __init__(self, n_layers: int, first: int, window: int) -> None:
        self.held: list[tuple[Tensor, Tensor] | None] = [None] * n_layers
        self.first, self.window, self.length = first, window, 0

    def add(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Append (B, H, 1, d); give all there are."""
        held, T = self.held[layer], min(self.length + 1, self.first + self.window)
        if held is None or held[0].shape[2] < T:  # twice as long, so that copies stay few
            B, H, _, d = k.shape
            room = min(max(32, 2 * T), self.first + self.window)
            longer = k.new_empty(B, H, room, d), k.new_empty(B, H, room, d)
            if held is not None:
                for new, old in zip(longer, held, strict=True):
                    new[:, :, : T - 1] = old[:, :, : T - 1]
            held = self.held[layer] = longer
        at = self.length
        if at >= self.first:
            at = self.first + (at - self.first) % self.window  # in place of the oldest one
        held[0][:, :, at : at + 1], held[1][:, :, at : at + 1] = k, v
        return held[0][:, :, :T], held[1][:, :, :T]

    def keep(self, rows: Tensor) -> None:
        """Only some rows, or others in their place."""
        self.held = [held and (held[0][rows], held[1][rows]) for held in self.held]
