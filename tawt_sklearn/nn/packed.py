"""Time-aware attention over rows of any length that lie one after the other, without padding.

The same attention as :mod:`tawt_sklearn.nn.attention`, with one token per event, where padding a
batch to its longest row would cost several times the work.  A score is never kept: the way back
works them out anew from the logarithm of each query's normaliser (Dao et al., "FlashAttention",
2022), so that memory grows with the number of tokens and not with its square.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import accumulate, chain
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from tawt_sklearn.nn.attention import attend, log_gap

BLOCK_SCORES = 2**18
"""Scores worked on at once, all heads together: they and their gradient stay in the cache."""

BLOCK_KEYS = 512
"""Keys worked on at once."""

GROUP_SCORES = 2**16
"""Short rows are worked on together up to so many scores of each head."""

SAFE_EXPONENT = 40.0
"""``exp`` of this and of its negative leave room for sums and products in float32, and next to the
one the other is lost in float64 as well."""

FLEX_BLOCK = 128


class Group(NamedTuple):
    """Rows of about the same length, padded to the longest of them."""

    token: Tensor  # (G, T) which of the N tokens; N where there is none
    time: Tensor  # (G, T) in units of the scale
    start: int  # first token of the first row
    padded: bool  # whether the rows differ in length


@dataclass(frozen=True, eq=False)
class Packed:
    """How the ``N`` tokens of ``B`` rows lie one after the other.

    Attributes
    ----------
    time : (N,) float
        Time of each token.  It gets no gradient.
    offsets : (B + 1,) int64
        Where each row begins, and where the last one ends.
    lengths : tuple of int
        The length of each row.  Kept on the host, so that nothing has to wait for a GPU.
    n_untimed : int
        The first so many tokens of every row have no time: gap 0 to and from them.
    scale : float
        Unit of the gaps, in the unit of time.
    window : int, optional
        Tokens with a time see one another at most this many places apart; those without see, and
        are seen by, all of their row.
    """

    time: Tensor
    offsets: Tensor
    lengths: tuple[int, ...]
    n_untimed: int
    scale: float
    window: int | None = None

    @classmethod
    def of(
        cls,
        time: Tensor,
        lengths: list[int] | tuple[int, ...],
        n_untimed: int,
        scale: float,
        window: int | None = None,
    ) -> Packed:
        """From the times of all tokens and the lengths of the rows.

        Raises
        ------
        ValueError
            If the lengths do not add up to the number of times.
        """
        starts = [0, *accumulate(lengths)]
        if starts[-1] != len(time):
            raise ValueError(
                "lengths must add up to the number of tokens. "
                f"Got a sum of {starts[-1]} and {len(time)} times."
            )
        offsets = torch.tensor(starts).to(time.device, non_blocking=True)
        return cls(time.detach(), offsets, tuple(lengths), n_untimed, scale, window)

    @cached_property
    def groups(self) -> list[Group]:
        """All rows that are not empty, the longest first, neighbours in length together."""
        starts = [0, *accumulate(self.lengths)]
        by_length = sorted(
            (i for i, n in enumerate(self.lengths) if n), key=self.lengths.__getitem__
        )
        groups: list[list[int]] = []
        for row in reversed(by_length):
            if groups:
                T = self.lengths[groups[-1][0]]
                near = self.lengths[row] >= min(0.9 * T, T - 4)
                if near and (len(groups[-1]) + 1) * T * T <= GROUP_SCORES:
                    groups[-1].append(row)
                    continue
            groups.append([row])
        time = F.pad(self.time, (0, 1))
        made = []
        for rows in groups:
            lengths = [self.lengths[i] for i in rows]
            start, length = torch.tensor([[starts[i] for i in rows], lengths]).unsqueeze(-1)
            place = torch.arange(lengths[0])
            token = torch.where(place < length, start + place, len(self.time))  # (G, T)
            token = token.to(time.device, non_blocking=True)
            made.append(
                Group(token, time[token] / self.scale, starts[rows[0]], lengths[-1] < lengths[0])
            )
        return made

    @cached_property
    def plan(self) -> FlexPlan:
        """What flex attention needs to know."""
        return flex_plan(self)


def packed_attention(q: Tensor, k: Tensor, v: Tensor, rate: Tensor, packed: Packed) -> Tensor:
    """Multi-head attention within each row, whose heads forget at learned rates.

    The score of a query and a key is ``q k' / sqrt(d) - rate * log1p(|t_i - t_j| / scale)``, the
    second part only where both tokens have a time.

    Parameters
    ----------
    q, k, v : (N, H, d) tensors
        Half precision is worked on in float32 and given back as it came.
    rate : (H,) tensor
        How fast each head forgets, not negative.
    packed : Packed

    Returns
    -------
    (N, H, d) tensor
        It can be differentiated once, with respect to ``q``, ``k``, ``v`` and ``rate``.
    """
    if not q.numel():
        return q + k + v + 0 * rate.sum().to(q.dtype)
    with torch.autocast(q.device.type, enabled=False):
        dtype = torch.promote_types(q.dtype, torch.float32)
        rate = rate.to(dtype)
        if q.device.type == "cuda" and flex_works(q.device, q.dtype, *q.shape[1:]):
            return flex(q, k, v, rate, packed)
        attention = _Blockwise.apply if q.device.type == "cpu" else bucketed
        return attention(q.to(dtype), k.to(dtype), v.to(dtype), rate, packed).to(q.dtype)


# On a CPU: block by block.


def tiles(
    T: int, n_untimed: int, window: int | None, n_queries: int, n_keys: int
) -> Iterator[tuple[slice, slice]]:
    """Ranges of queries and of keys that cover all pairs that see one another, and few more."""

    def cut(start: int, stop: int, step: int) -> list[slice]:
        return [slice(i, min(i + step, stop)) for i in range(start, stop, step)]

    n_global = T if window is None else min(n_untimed, T)
    for i in cut(0, n_global, n_queries):
        for j in cut(0, T, n_keys):
            yield i, j
    for i in cut(n_global, T, n_queries):
        first = max(n_global, i.start - (window or 0))
        last = min(T, i.stop + (window or 0))
        seen = [(0, last)] if first == n_global else [(0, n_global), (first, last)]
        for j in chain.from_iterable(cut(a, b, n_keys) for a, b in seen):
            yield i, j


def heads_first(x: Tensor, *columns: float) -> Tensor:
    """(N, H, d) -> (H, N + 1, d + columns): a token of zeros at the end, and constant columns."""
    N, H, d = x.shape
    out = x.new_empty(H, N + 1, d + len(columns))
    out[:, :N, :d] = x.transpose(0, 1)
    out[:, N] = 0
    for i, value in enumerate(columns):
        out[..., d + i] = value
    return out


def tokens_first(x: Tensor) -> Tensor:
    """(H, N + 1, d) -> (N, H, d)."""
    return x[:, :-1].transpose(0, 1).contiguous()


def shifted(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """(N, H, d) queries and keys -> (H, N + 1, d + 2) each, whose products are the scores.

    ``q`` ends in two more columns, ``[-shift, 1]``, and ``k`` in ``[1, 0]``, at the token that
    stands for none in ``[1, -inf]``: the product of the two is less the shift, which is 0 as yet,
    and hides the padding already.
    """
    queries, keys = heads_first(q * q.shape[-1] ** -0.5, 0, 1), heads_first(k, 1, 0)
    keys[:, -1, -1] = -math.inf
    return queries, keys


class _Rows:
    """The rows of a group: their share of tensors of all tokens, and their weights tile by tile."""

    def __init__(self, q: Tensor, k: Tensor, rate: Tensor, group: Group, packed: Packed) -> None:
        self.group, self.packed = group, packed
        self.G, self.T = group.token.shape
        self.H, self.d = len(rate), q.shape[-1] - 2
        self.rate = rate.view(-1, 1, 1, 1)
        self.q, self.k = self.take(q), self.take(k)  # (H * G, T, d + 2)
        n_keys = min(self.T, BLOCK_KEYS)
        n_queries = max(1, min(self.T, BLOCK_SCORES // (self.G * self.H * n_keys)))
        self.tiles = list(tiles(self.T, packed.n_untimed, packed.window, n_queries, n_keys))
        self.buffers = q.new_empty(2, self.G * self.H * n_queries * n_keys)
        # Whether some weights may be next to nothing.  There ``exp`` takes twenty times as long,
        # and so do products with numbers too small for the usual form (1e-38 in float32).
        self.deep = True

    def take(self, x: Tensor) -> Tensor:
        """(H, N + 1, ...) -> (H * G, T, ...), a view where the group is a single row."""
        if self.G == 1:
            return x[:, self.group.start : self.group.start + self.T]
        taken = x.index_select(1, self.group.token.flatten())
        return taken.view(self.H * self.G, self.T, *x.shape[2:])

    def put(self, x: Tensor, to: Tensor) -> None:
        """(H * G, T, ...) -> into (H, N + 1, ...), padding into the last place."""
        if self.G == 1:
            to[:, self.group.start : self.group.start + self.T] = x
        else:
            to.index_copy_(1, self.group.token.flatten(), x.view(self.H, -1, *x.shape[2:]))

    def product(self, a: Tensor, b: Tensor, buffer: int) -> Tensor:
        """(H * G, I, d) and (H * G, J, d) -> (H * G, I, J), in a buffer that is used again."""
        shape = (len(a), a.shape[1], b.shape[1])
        out = self.buffers[buffer, : math.prod(shape)].view(shape)
        return torch.bmm(a, b.transpose(1, 2), out=out)

    def gaps(self, i: slice, j: slice) -> Tensor:
        """-> (G, I, J) log gaps, shared by the heads."""
        time, n = self.group.time, self.packed.n_untimed
        gap = (time[:, i].unsqueeze(2) - time[:, j].unsqueeze(1)).to(self.q.dtype)
        gap.abs_().add_(1).log_()  # log1p would take twice as long
        if i.start < n:
            gap[:, : n - i.start] = 0
        if j.start < n:
            gap[:, :, : n - j.start] = 0
        return gap

    def hidden(self, i: slice, j: slice) -> Tensor | None:
        """-> (I, J) -inf where the window hides the key from the query, else 0."""
        n, window = self.packed.n_untimed, self.packed.window
        reach = max(i.stop - j.start, j.stop - i.start) - 1
        if window is None or i.start < n or reach <= window:
            return None
        place = torch.arange(self.T)
        far = (place[i].unsqueeze(1) - place[j]).abs() > window
        far[:, : max(n - j.start, 0)] = False
        return self.q.new_zeros(far.shape).masked_fill_(far, -math.inf)

    def scores(self, i: slice, j: slice, gap: Tensor) -> Tensor:
        """-> (H * G, I, J) scores less the shift."""
        scores = self.product(self.q[:, i], self.k[:, j], buffer=0)
        scores.view(self.H, *gap.shape).addcmul_(gap, self.rate, value=-1)
        hidden = self.hidden(i, j)
        return scores if hidden is None else scores.add_(hidden)

    def weights(self, i: slice, j: slice, gap: Tensor) -> Tensor:
        """-> (H * G, I, J) ``exp(score - shift)``."""
        scores = self.scores(i, j, gap)
        if self.deep:
            scores.clamp_(min=-2 * SAFE_EXPONENT)
        return scores.exp_()

    def rough_largest(self, own: Tensor, q_norm: Tensor, k_norm: Tensor) -> Tensor:
        """-> (H * G, T, 1) the largest score of each query, give or take what ``exp`` can bear.

        It lies between the query's score with itself and the product of the two norms, mostly near
        enough to each other that nobody has to look for it.
        """
        low, high = self.take(own), self.take(q_norm) * self.take(k_norm).amax(1, keepdim=True)
        time = self.group.time
        longest = (time.amax(1) - time.amin(1)).amax().log1p()
        deepest = 2 * high.max() + self.rate.max() * longest + math.log(self.T)
        hides = self.group.padded or self.packed.window is not None
        self.deep = hides or not deepest <= 2 * SAFE_EXPONENT
        if (high - low).max() <= 2 * SAFE_EXPONENT:
            return (high + low) / 2
        largest = torch.full_like(low, -math.inf)
        for i, j in self.tiles:
            found = self.scores(i, j, self.gaps(i, j)).amax(-1, keepdim=True)
            largest[:, i] = torch.maximum(largest[:, i], found)
        return largest


class _Blockwise(torch.autograd.Function):
    """What is kept: queries, keys, values, what comes out, and a normaliser for each query."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, rate: Tensor, packed: Packed) -> Tensor:
        d = q.shape[-1]
        queries, keys = shifted(q, k)
        values = heads_first(v)
        q_plain, k_plain = queries[..., :d], keys[..., :d]
        own = (q_plain * k_plain).sum(-1, keepdim=True)
        norms = [x.norm(dim=-1, keepdim=True) for x in (q_plain, k_plain)]
        out, normaliser = torch.empty_like(values), torch.empty_like(own)
        deep = []
        for group in packed.groups:
            rows = _Rows(queries, keys, rate, group, packed)
            shift = rows.rough_largest(own, *norms)
            rows.q[..., d : d + 1] = -shift
            v_rows = rows.take(values)
            mixed, total = v_rows.new_zeros(v_rows.shape), torch.zeros_like(shift)
            for i, j in rows.tiles:
                weights = rows.weights(i, j, rows.gaps(i, j))
                total[:, i].add_(weights.sum(-1, keepdim=True))
                mixed[:, i].add_(torch.bmm(weights, v_rows[:, j]))
            rows.put(mixed.div_(total), out)
            rows.put(total.log_().add_(shift), normaliser)
            deep.append(rows.deep)
        result = tokens_first(out)
        ctx.packed, ctx.deep = packed, deep
        ctx.save_for_backward(q, k, v, rate, result, tokens_first(normaliser))
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, rate, out, normaliser = ctx.saved_tensors
        d = q.shape[-1]
        with torch.autocast("cpu", enabled=False):
            queries, keys = shifted(q, k)
            queries[:, :-1, d] = -normaliser.squeeze(-1).T
            values, probes = heads_first(v, 1), heads_first(grads[0], 0)
            probes[:, :-1, d] = -(grads[0] * out).sum(-1).T
            grad_q, grad_k, grad_v = (queries.new_empty(*queries.shape[:2], d) for _ in range(3))
            grad_rate = torch.zeros(len(rate), dtype=torch.float64)
            for group, deep in zip(ctx.packed.groups, ctx.deep, strict=True):
                rows = _Rows(queries, keys, rate, group, ctx.packed)
                rows.deep = deep
                v_rows, probe = rows.take(values), rows.take(probes)
                dq, dk, dv = (v_rows.new_zeros(*v_rows.shape[:2], d) for _ in range(3))
                for i, j in rows.tiles:
                    gap = rows.gaps(i, j)
                    weights = rows.weights(i, j, gap)
                    dv[:, j].add_(torch.bmm(weights.transpose(1, 2), probe[:, i, :d]))
                    ds = rows.product(probe[:, i], v_rows[:, j], buffer=1).mul_(weights)
                    dq[:, i].add_(torch.bmm(ds, rows.k[:, j, :d]))
                    dk[:, j].add_(torch.bmm(ds.transpose(1, 2), rows.q[:, i, :d]))
                    grad_rate -= ds.view(rows.H, -1) @ gap.flatten()
                rows.put(dq.mul_(d**-0.5), grad_q)
                rows.put(dk, grad_k)
                rows.put(dv, grad_v)
        gradients = (tokens_first(x) for x in (grad_q, grad_k, grad_v))
        return *gradients, grad_rate.to(rate.dtype), None


# Without a fused kernel: plain operations on rows of about the same length.


def bucketed(q: Tensor, k: Tensor, v: Tensor, rate: Tensor, packed: Packed) -> Tensor:
    """The same attention with all scores of a group of rows at once."""
    padded = [F.pad(x, (0, 0, 0, 0, 0, 1)) for x in (q, k, v)]
    out = padded[0].new_zeros(padded[0].shape)
    for group in packed.groups:
        T = group.token.shape[1]
        place = torch.arange(T, device=q.device)
        timed = place >= packed.n_untimed
        gap = log_gap(group.time, timed.expand_as(group.time), 1.0).to(q.dtype)
        bias = -rate.view(-1, 1, 1) * gap.unsqueeze(1)  # (G, H, T, T)
        hidden = (group.token == len(q)).view(-1, 1, 1, T)
        if packed.window is not None:
            far = (place.unsqueeze(1) - place).abs() > packed.window
            hidden = hidden | (far & timed & timed.unsqueeze(1))
        others = place.unsqueeze(1) != place  # what sees nothing, if only padding, becomes NaN
        bias = bias.masked_fill(hidden & others, -math.inf)
        q_rows, k_rows, v_rows = (x[group.token].transpose(1, 2) for x in padded)
        mixed = attend(q_rows, k_rows, v_rows, bias)
        out = out.index_put((group.token,), mixed.transpose(1, 2))
    return out[:-1]


# On CUDA: PyTorch's flex attention, a kernel compiled for these scores.


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
    plan, N = packed.plan, len(q)
    extra = len(plan.time) - N
    q, k, v = (F.pad(x, (0, 0, 0, 0, 0, extra)).transpose(0, 1)[None] for x in (q, k, v))
    out = compiled_flex()(q, k, v, score_mod=flex_score(plan, rate), block_mask=plan.mask)
    return out[0].transpose(0, 1)[:N]


@cache
def flex_works(device: torch.device, dtype: torch.dtype, n_heads: int, d: int) -> bool:
    """Whether the kernel can be trusted here: tried once, forwards and backwards, on a few rows."""
    half = (torch.float16, torch.bfloat16)
    if torch.cuda.get_device_capability(device) < (8, 0) or not 16 <= d <= 128:
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
            for attention in (flex, bucketed):
                x = inputs.clone().requires_grad_()
                rate = torch.full((n_heads,), 0.5, device=device, requires_grad=True)
                out = attention(x[0], x[1], x[2], rate, packed)
                results.append((out, *torch.autograd.grad(out.square().sum(), (x, rate))))
    except Exception as error:  # compilers fail in many ways, and there is another way to go on
        warnings.warn(
            f"Fused attention does not work here and is done without, slower: {error!r:.200}",
            RuntimeWarning,
            stacklevel=2,
        )
        return False
    tolerance = 0.1 if dtype in half else 0.01
    return all(
        (a - b).float().norm() <= tolerance * b.float().norm()
        for a, b in zip(*results, strict=True)
    )
