"""Packed attention on a CPU: a tile of queries and keys at a time, forward and backward.

A score is never kept: the way back works them out anew from the logarithm of each query's
normaliser (Dao et al., "FlashAttention", 2022), so that memory grows with the number of tokens
and not with its square.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tawt_sklearn.nn.packed import Group, Packed

BLOCK_SCORES = 2**18
"""Scores worked on at once, all heads together: they and their gradient stay in the cache."""

BLOCK_KEYS = 512
"""Keys worked on at once."""

SAFE_EXPONENT = 40.0
"""``exp`` of this and of its negative leave room for sums and products in float32, and next to the
one the other is lost in float64 as well."""


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
    """(N, H, d) queries and keys -> (H, N + 1, d + 1) each, whose products are the scores.

    ``q`` ends in a column for minus the shift, which is 0 as yet, and ``k`` in ones: the product of
    the two is less the shift already.
    """
    return heads_first(q * q.shape[-1] ** -0.5, 0), heads_first(k, 1)


class _Rows:
    """The rows of a group: their share of tensors of all tokens, and their weights tile by tile."""

    def __init__(self, q: Tensor, k: Tensor, rate: Tensor, group: Group, packed: Packed) -> None:
        self.group, self.packed = group, packed
        self.G, self.T = group.token.shape
        self.H, self.d = len(rate), q.shape[-1] - 1
        self.rate = rate.view(-1, 1, 1, 1)
        self.q, self.k = self.take(q), self.take(k)  # (H * G, T, d + 1)
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
        """-> (I, J) or (G, I or 1, J), true where the query does not see the key."""
        n, window = self.packed.n_untimed, self.packed.window
        reach = max(i.stop - j.start, j.stop - i.start) - 1
        far = None
        if window is not None and i.start >= n and reach > window:
            place = torch.arange(self.T)
            far = (place[i].unsqueeze(1) - place[j]).abs() > window
            far[:, : max(n - j.start, 0)] = False
        if not self.group.padded:
            return far
        none = (self.group.token[:, j] == len(self.packed.time)).unsqueeze(1)  # (G, 1, J)
        return none if far is None else none | far

    def scores(self, i: slice, j: slice, gap: Tensor) -> Tensor:
        """-> (H * G, I, J) scores less the shift."""
        scores = self.product(self.q[:, i], self.k[:, j], buffer=0)
        scores.view(self.H, *gap.shape).addcmul_(gap, self.rate, value=-1)
        return scores

    def weights(self, i: slice, j: slice, gap: Tensor) -> Tensor:
        """-> (H * G, I, J) ``exp(score - shift)``, 0 for keys that are not seen."""
        weights = self.scores(i, j, gap)
        if self.deep:
            weights.clamp_(min=-2 * SAFE_EXPONENT)
        weights.exp_()
        # Not by a score of -inf: ``exp`` takes twenty times as long for it.
        if (hidden := self.hidden(i, j)) is not None:
            weights.view(self.H, *gap.shape).masked_fill_(hidden, 0.0)
        return weights

    def rough_largest(self, own: Tensor, q_norm: Tensor, k_norm: Tensor) -> Tensor:
        """-> (H * G, T, 1) the largest score of each query, give or take what ``exp`` can bear.

        It lies between the query's score with itself and the product of the two norms, mostly near
        enough to each other that nobody has to look for it.
        """
        low, high = self.take(own), self.take(q_norm) * self.take(k_norm).amax(1, keepdim=True)
        time = self.group.time
        longest = (time.amax(1) - time.amin(1)).amax().log1p()
        deepest = 2 * high.max() + self.rate.max() * longest + math.log(self.T)
        self.deep = not deepest <= 2 * SAFE_EXPONENT
        if (high - low).max() <= 2 * SAFE_EXPONENT:
            return (high + low) / 2
        largest = torch.full_like(low, -math.inf)
        for i, j in self.tiles:
            gap = self.gaps(i, j)
            scores = self.scores(i, j, gap)
            if (hidden := self.hidden(i, j)) is not None:
                scores.view(self.H, *gap.shape).masked_fill_(hidden, -math.inf)
            found = scores.amax(-1, keepdim=True)
            largest[:, i] = torch.maximum(largest[:, i], found)
        return largest


class Blockwise(torch.autograd.Function):
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
