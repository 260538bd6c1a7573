"""Attention that knows how far apart in time two tokens are."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def log_gap(time: Tensor, timed: Tensor, scale: float) -> Tensor:
    """``log1p(|t_i - t_j| / scale)`` between tokens that have a time, 0 elsewhere.

    (B, P) times and (B, P) booleans -> (B, P, P).
    """
    gap = (time.unsqueeze(2) - time.unsqueeze(1)).abs()  # (B, P, P)
    both = timed.unsqueeze(2) & timed.unsqueeze(1)
    return torch.log1p(gap / scale) * both


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """``softmax(q k' / sqrt(d) + bias) v`` for (B, H, P, d) queries, keys, values.

    Written out rather than through the fused kernel: its bias needs a gradient (the decay is
    learned), for which the fused kernels fall back to something slower than this on the short
    sequences of patches used here.
    """
    B, H, P, d = q.shape
    q, k, v, bias = (x.reshape(B * H, P, -1) for x in (q, k, v, bias))
    scores = torch.baddbmm(bias, q, k.transpose(1, 2), alpha=d**-0.5)  # (B * H, P, P)
    return torch.bmm(scores.softmax(dim=-1), v).view(B, H, P, d)


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

    def forward(self, x: Tensor, gap: Tensor, padding: Tensor | None = None) -> Tensor:
        """(B, P, D) tokens, (B, P, P) log gaps, (B, 1, 1, P) additive padding -> (B, P, D)."""
        B, P, D = x.shape
        q, k, v = self.to_qkv(x).view(B, P, 3, self.n_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        bias = -F.softplus(self.decay).view(1, -1, 1, 1) * gap.unsqueeze(1)  # (B, H, P, P)
        if padding is not None:
            bias = bias + padding
        mixed = attend(q, k, v, bias)  # (B, H, P, d)
        return self.to_out(mixed.transpose(1, 2).reshape(B, P, D))
