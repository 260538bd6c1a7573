"""Time-aware attention over rows that are padded to one length."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

SAFE_SCORE = 60.0
"""Scores up to this one are exponentiated as they are: float32 overflows beyond 88."""


class Padded(NamedTuple):
    """How far apart the tokens of rows of one length are."""

    gap: Tensor  # (B, P, P) log gaps
    padding: Tensor | None = None  # (B, 1, 1, P), -inf where a token is none


@torch.no_grad()
def log_gap(time: Tensor, timed: Tensor, scale: float) -> Tensor:
    """``log1p(|t_i - t_j| / scale)`` between tokens that have a time, 0 elsewhere.

    (B, P) times and (B, P) booleans -> (B, P, P).
    """
    gap = (time.unsqueeze(2) - time.unsqueeze(1)).abs_()  # (B, P, P)
    gap = gap.div_(scale).log1p_()
    return gap.mul_(timed.unsqueeze(2)).mul_(timed.unsqueeze(1))


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


class DecayedAttention(torch.autograd.Function):
    """The same with ``bias = -rate * gap + padding``, forward and backward in few passes.

    What autograd would keep of the scores, the bias and the softmax is one tensor here, and most
    of what it would copy is written in place.  Normalisation waits until after the product with
    the values, as in Dao et al., "FlashAttention", 2022.  The values have one more column, of
    ones, whose product with the weights is what to normalise by.  Where a token is padding its
    values and that one are 0, which takes it out of both products, forward and backward, without
    a pass over the pairs.
    """

    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, rate: Tensor, gap: Tensor, padding: Tensor | None, n_heads: int
    ) -> Tensor:
        B, P, width = qkv.shape
        H, d = n_heads, width // (3 * n_heads)
        with torch.autocast(qkv.device.type, enabled=False):
            parts = qkv.view(B, P, 3, H, d).permute(2, 0, 3, 1, 4)  # (3, B, H, P, d)
            qk = gap.new_empty(2, B * H, P, d)
            qk.view(2, B, H, P, d).copy_(parts[:2])
            values = gap.new_ones(B * H, P, d + 1)
            values.view(B, H, P, d + 1)[..., :d].copy_(parts[2])
            filled = None if padding is None else (padding == 0).to(gap.dtype).transpose(2, 3)
            if filled is not None:  # (B, 1, P, 1)
                values.view(B, H, P, d + 1).mul_(filled)
            q, k = qk.unbind(0)  # (B * H, P, d)
            q.mul_(d**-0.5)
            scores = torch.bmm(q, k.transpose(1, 2)).view(B, H, P, P)
            scores.addcmul_(gap.unsqueeze(1), rate.to(gap.dtype).view(1, -1, 1, 1), value=-1)
            largest = q.norm(dim=-1).amax() * k.norm(dim=-1).amax() if q.numel() else 0.0
            if not largest <= SAFE_SCORE:
                visible = scores if padding is None else scores + padding
                scores.sub_(visible.amax(-1, keepdim=True)).clamp_(max=0)  # that of padding, too
            weight = scores.exp_().view(B * H, P, P)
            mixed, total = torch.bmm(weight, values).split([d, 1], dim=-1)
            mixed = mixed / total
        ctx.save_for_backward(qk, values, weight, total, mixed, gap, filled)
        ctx.n_heads, ctx.dtypes = H, (qkv.dtype, rate.dtype)
        out = mixed.view(B, H, P, d).transpose(1, 2)
        return out.reshape(B, P, H * d).to(qkv.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        qk, values, weight, total, mixed, gap, filled = ctx.saved_tensors
        q, k = qk.unbind(0)  # (B * H, P, d)
        H = ctx.n_heads
        BH, P, d = q.shape
        B = BH // H
        # The column beside the gradient takes from that of each weight what its row has together.
        beside = torch.empty_like(values)
        out = beside[..., :d]
        out.view(B, H, P, d).copy_(grad.view(B, P, H, d).transpose(1, 2))
        out.div_(total)
        beside[..., d] = (out * mixed).sum(-1).neg_()
        grads = q.new_empty(3, BH, P, d)
        to_q, to_k, to_v = grads.unbind(0)
        torch.bmm(weight.transpose(1, 2), out, out=to_v)
        if filled is not None:
            to_v.view(B, H, P, d).mul_(filled)
        to_scores = torch.bmm(beside, values.transpose(1, 2)).mul_(weight)  # (B * H, P, P)
        torch.bmm(to_scores, k, out=to_q)
        to_q.mul_(d**-0.5)
        torch.bmm(to_scores.transpose(1, 2), q, out=to_k)
        by_gap = torch.bmm(to_scores.view(B, H, P * P), gap.view(B, P * P, 1))  # (B, H, 1)
        to_qkv = grads.view(3, B, H, P, d).permute(1, 3, 0, 2, 4).reshape(B, P, 3 * H * d)
        of_qkv, of_rate = ctx.dtypes
        return to_qkv.to(of_qkv), by_gap.sum((0, 2)).neg().to(of_rate), None, None, None


def attend_with_decay(
    qkv: Tensor, rate: Tensor, gap: Tensor, padding: Tensor | None, n_heads: int
) -> Tensor:
    """Attention of ``H`` heads whose scores fall by ``rate * gap``.

    Parameters
    ----------
    qkv : (B, P, 3 D)
        Queries, keys and values of all heads side by side.
    rate : (H,)
    gap : (B, P, P)
        Has no gradient.
    padding : (B, 1, 1, P) or (B, 1, P, P), optional
        Added to the scores: 0, or -inf where a token is none, or is none for another one.

    Returns
    -------
    (B, P, D) tensor
    """
    by_token = padding is None or padding.shape[2] == 1
    if by_token and qkv.device.type == "cpu" and not torch.compiler.is_compiling():
        return DecayedAttention.apply(qkv, rate, gap, padding, n_heads)
    B, P, _ = qkv.shape
    q, k, v = qkv.view(B, P, 3, n_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
    bias = -rate.view(1, -1, 1, 1) * gap.unsqueeze(1)  # (B, H, P, P)
    if padding is not None:
        bias = bias + padding
    with torch.autocast(qkv.device.type, enabled=False):
        mixed = attend(*(x.to(gap.dtype) for x in (q, k, v, bias)))  # (B, H, P, d)
    return mixed.transpose(1, 2).reshape(B, P, -1).to(qkv.dtype)
