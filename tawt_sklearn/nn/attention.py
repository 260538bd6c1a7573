"""Attention that knows how far apart in time two tokens are."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tawt_sklearn.nn.packed import Packed, packed_attention
from tawt_sklearn.nn.padded import Padded, attend_with_decay


class TimeAwareAttention(nn.Module):
    """Multi-head self-attention whose heads forget at learned rates.

    The score between two tokens with a time is lowered by
    ``softplus(decay_h) * log1p(|t_i - t_j| / tau)``, one learned decay for each head ``h``.
    """

    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        if d_model % n_heads:
            raise ValueError(f"d_model={d_model} must be a multiple of n_heads={n_heads}.")
        self.n_heads = n_heads
        self.to_qkv = nn.Linear(d_model, 3 * d_model)
        self.to_out = nn.Linear(d_model, d_model)
        # From heads that hardly look at time to heads that look close by.
        self.decay = nn.Parameter(torch.linspace(-4.0, 0.5, n_heads))

    def forward(self, x: Tensor, layout: Padded | Packed) -> Tensor:
        """(B, P, D) tokens or, packed, (N, D) -> the same."""
        rate = F.softplus(self.decay)
        qkv = self.to_qkv(x)
        if isinstance(layout, Padded):
            return self.to_out(attend_with_decay(qkv, rate, *layout, self.n_heads))
        q, k, v = qkv.view(len(x), 3, self.n_heads, -1).unbind(1)  # (N, H, d)
        return self.to_out(packed_attention(q, k, v, rate, layout).flatten(1))
