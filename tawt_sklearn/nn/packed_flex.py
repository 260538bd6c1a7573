"""Packed attention on CUDA: PyTorch's flex attention, a kernel compiled for these scores."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from tawt_sklearn.nn.packed import Packed, bucketed

FLEX_BLOCK = 128

NARROWEST = 16
"""Width of a head from which on there is a kernel."""


class FlexPlan(NamedTuple):
    """Which blocks of tokens see one another, and what the kernel reads, padded to whole blocks."""

    time: Tensor  # (M,) in units of the scale
    timed: Tensor  # (M,) bool
    mask: Any  # BlockMask


def flex_plan(packed: Packed) -> FlexPlan:
    """What all layers share.  Padding is a row of its own after the others."""
    from torch.nn.attention.flex_attention import BlockMask

    N = len(packed.time)
    extra = -N % FLEX_BLOCK
    lengths = torch.tensor([*packed.lengths, extra])
    stop = lengths.cumsum(0)
    start, stop = ((x.repeat_interleave(lengths)) for x in (stop - lengths, stop))  # (M,)
    place = torch.arange(N + extra)
    timed = place - start >= packed.n_untimed
    window = len(place) if packed.window is None else packed.window
    first = torch.where(timed, torch.maximum(start, place - window), start)
    last = torch.where(timed, torch.minimum(stop, place + window + 1), stop) - 1

    # Made from the limits of each token: all pairs of tokens would not fit the memory.
    block = torch.arange(len(place) // FLEX_BLOCK)
    low, high = (x.view(-1, FLEX_BLOCK) // FLEX_BLOCK for x in (first, last))
    seen = (block >= low.amin(1, keepdim=True)) & (block <= high.amax(1, keepdim=True))
    lone = place[~timed]  # seen by all of their row, however far
    seeing = (block.unsqueeze(1) >= start[lone] // FLEX_BLOCK) & (
        block.unsqueeze(1) <= (stop[lone] - 1) // FLEX_BLOCK
    )
    seen |= torch.zeros(seen.shape).index_add_(1, lone // FLEX_BLOCK, seeing.float()) > 0
    number = seen.sum(1, dtype=torch.int32)
    # The blocks that a block sees come first; a matrix of blocks is sorted where it is fast.
    seen = seen.to(packed.time.device, non_blocking=True)
    order = seen.int().argsort(dim=1, descending=True, stable=True).int()
    first, last, start, timed, number, order = (
        x.to(packed.time.device, non_blocking=True)
        for x in (first, last, start, timed, number, order)
    )

    def visible(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        near = (j >= first[i]) & (j <= last[i])
        return near | (~timed[j] & (start[i] == start[j]))

    mask = BlockMask.from_kv_blocks(
        number[None, None], order[None, None], BLOCK_SIZE=FLEX_BLOCK, mask_mod=visible
    )
    return FlexPlan(F.pad(packed.time, (0, extra)) / packed.scale, timed, mask)


def plan_of(packed: Packed) -> FlexPlan:
    """The same, made once for all layers."""
    if packed.plan is None:
        object.__setattr__(packed, "plan", flex_plan(packed))
    return packed.plan


def flex_score(plan: FlexPlan, rate: Tensor) -> Callable[..., Tensor]:
    """How flex attention is to change a score."""
    time, timed = plan.time, plan.timed

    def score_mod(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        gap = torch.log1p((time[i] - time[j]).abs())
        # The rate is read in one place: reading a tensor with a gradient twice is not supported.
        return score - rate[h] * torch.where(timed[i] & timed[j], gap, 0.0)

    return score_mod


@cache
def compiled_flex() -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=True)


def flex(q: Tensor, k: Tensor, v: Tensor, rate: Tensor, packed: Packed) -> Tensor:
    """The same attention in one kernel."""
    plan, N = plan_of(packed), len(q)
    extra = len(plan.time) - N
    d = q.shape[-1]
    wider = max(0, NARROWEST - d)  # zeros change neither scores nor what comes out
    q, k, v = (F.pad(x, (0, wider, 0, 0, 0, extra)).transpose(0, 1)[None] for x in (q, k, v))
    score = flex_score(plan, rate)
    out = compiled_flex()(q, k, v, score_mod=score, block_mask=plan.mask, scale=d**-0.5)
    return out[0].transpose(0, 1)[:N, :, :d]


@cache
def flex_works(device: torch.device, dtype: torch.dtype, n_heads: int, d: int) -> bool:
    """Whether the kernel can be trusted here: tried once, forwards and backwards, on a few rows."""
    half = (torch.float16, torch.bfloat16)
    if torch.cuda.get_device_capability(device) < (8, 0) or d > 128:
        return False
    if dtype not in (torch.float32, *half):
        return False
    generator = torch.Generator(device).manual_seed(0)
    shape = (3, 300, n_heads, d)
    inputs = torch.randn(shape, device=device, generator=generator).to(dtype)
    time = torch.arange(300.0, device=device)
    packed = Packed.of(time, (100, 200), n_untimed=1, scale=10.0)
    results = []
    try:
        with torch.inference_mode(False), torch.enable_grad():
            for attention, given in ((flex, inputs), (bucketed, inputs.float())):
                x = given.clone().requires_grad_()
                rate = torch.full((n_heads,), 0.5, device=device, requires_grad=True)
                out = attention(x[0], x[1], x[2], rate, packed)
                results.append((out, *torch.autograd.grad(out.float().square().sum(), (x, rate))))
    except Exception as error:  # compilers fail in many ways, and there is another way to go on
        warnings.warn(
            f"Fused attention does not work here and is done without, slower: {error!r:.200}",
            RuntimeWarning,
            stacklevel=2,
        )
        return False
    tolerance = 0.1 if dtype in half else 0.01
    right = all(
        (a - b).float().norm() <= tolerance * b.float().norm()
        for a, b in zip(*results, strict=True)
    )
    if not right:
        warnings.warn(
            "Fused attention gives wrong answers here and is done without, slower. Please report "
            f"this, with {torch.cuda.get_device_name(device)} and torch {torch.__version__}.",
            RuntimeWarning,
            stacklevel=2,
        )
    return right
