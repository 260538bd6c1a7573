"""The decoder: a causal transformer over words, whose choices within a word are a chain.

    p(word | before, z) = p(gap) p(code | gap) p(symbol | gap, code) p(number | gap, code, symbol)

A number is a mixture of normal distributions around the last number of the same code, on normal
scores.  See Kingma & Welling, "Auto-Encoding Variational Bayes", 2014, for z, and McDermott et al.,
"Event Stream GPT", 2023, for transformers over events with parts that depend on each other.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tawt_sklearn.nn.backbone import RowDropout
from tawt_sklearn.synthesis.grammar import BOTH, NO_SCORE, NUMBER, REPEAT

N_NORMALS = 5
"""Of the mixture that a number comes from."""

N_GAP_NORMALS = 8
"""Of the mixture that the logarithm of a gap comes from, where gaps are not in classes."""

MOST_DENSE = 1024
"""Up to so many symbols it is faster to score them all for every word than to pick them first."""

N_PACE = 3
"""Numbers that say how fast the rest of a history has to be."""

IMPOSSIBLE = -30.0
"""Score of what never happened in the data: not drawn, and not infinitely unlikely elsewhere."""

N_WAVES = 8
SMALLEST_SPREAD = 0.02


class Words(NamedTuple):
    """Words as the decoder reads them; all (B, T), or (B,) of one step."""

    code: Tensor
    gap: Tensor
    symbol: Tensor
    score: Tensor  # 0 where there is no number
    since: Tensor
    wait: Tensor
    until: Tensor
    left: Tensor


class Memory(NamedTuple):
    """What is remembered of the code that a word is about."""

    symbol: Tensor  # the last symbol, n_symbols for none
    score: Tensor  # the last number, 0 for none
    has_score: Tensor
    since: Tensor  # time since the last word of the code, 0 for none
    mean: Tensor  # of all numbers before, 0 for none
    number: Tensor  # how many there were


class Symbols(nn.Module):
    """Which symbols each extended code has.

    Parameters
    ----------
    offsets : sequence of int, (n_words + 1,)
        First symbol of each code.
    kind : sequence of int, (n_symbols,)
    level_score : sequence of float, (n_symbols,)
        Normal scores of levels that are numbers, :data:`NO_SCORE` of all others.
    """

    offsets: Tensor
    kind: Tensor
    level_score: Tensor

    def __init__(self, offsets: list[int], kind: list[int], level_score: list[float]) -> None:
        super().__init__()
        self.register_buffer("offsets", torch.tensor(offsets), persistent=False)
        self.register_buffer("kind", torch.tensor(kind), persistent=False)
        scores = torch.tensor(level_score, dtype=torch.float32)
        scores = scores.masked_fill(scores == NO_SCORE, torch.nan)
        self.register_buffer("level_score", scores, persistent=False)

    @property
    def number(self) -> int:
        return len(self.kind)

    def numeric(self, symbol: Tensor) -> Tensor:
        """Which symbols come with a number."""
        kind = self.kind[symbol]
        ordered = ~self.level_score[symbol].isnan()
        return (kind == NUMBER) | (kind == REPEAT) | (kind == BOTH) | ordered

    def of(self, code: Tensor) -> tuple[Tensor, Tensor]:
        """Symbols of codes (N,), one after the other, and which of the N each belongs to."""
        first, count = self.offsets[code], self.offsets[code + 1] - self.offsets[code]
        owner = torch.arange(len(code), device=code.device).repeat_interleave(count)
        begin = count.cumsum(0) - count
        symbol = torch.arange(len(owner), device=code.device) - begin[owner] + first[owner]
        return symbol, owner


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


class Decoder(nn.Module):
    """Words before -> choices of the next one.

    Parameters
    ----------
    n_codes : int
        Codes of events; the end has the next id, prefix words those after it.
    n_gaps : int
        Classes of gaps.
    repeats : sequence of bool, (n_codes,)
        Which codes may occur twice at a time.
    offsets, kinds, level_scores : sequences
        Of :class:`Symbols`.
    n_prefix : int
    horizon : float
        Length of a typical history.
    context_length : int
        Words that one looks back on, besides the prefix.
    gap_sizes : bool
        Whether gaps are drawn from a mixture of normals, not from their class.
    d_latent, d_model, n_layers, n_heads, dropout
        Shape of the network.
    """

    repeats: Tensor
    rates: Tensor

    def __init__(
        self,
        *,
        n_codes: int,
        n_gaps: int,
        repeats: list[bool],
        offsets: list[int],
        kinds: list[int],
        level_scores: list[float],
        n_prefix: int,
        horizon: float,
        context_length: int,
        gap_sizes: bool,
        d_latent: int,
        d_model: int,
        n_layers: int,
        n_heads: int,
        dropout: float,
    ) -> None:
        super().__init__()
        D = d_model
        self.n_codes, self.n_gaps, self.n_prefix, self.horizon = n_codes, n_gaps, n_prefix, horizon
        self.context_length, self.gap_sizes = context_length, gap_sizes
        self.symbols = Symbols(offsets, kinds, level_scores)
        self.register_buffer("repeats", torch.tensor([*repeats, False]), persistent=False)
        rates = 2 * math.pi / horizon * 2.0 ** torch.arange(N_WAVES)
        self.register_buffer("rates", rates, persistent=False)
        n_words, n_symbols = len(offsets) - 1, self.symbols.number
        self.begin = nn.Parameter(torch.randn(D) * 0.3)
        self.code = nn.Embedding(n_words, D)
        self.gap = nn.Embedding(n_gaps, D)
        self.symbol = nn.Embedding(n_symbols + 1, D)  # the last one is that of no symbol
        self.number = nn.Linear(3, D)
        self.moment = nn.Linear(11 + 2 * N_WAVES, D)
        self.latent = nn.Linear(d_latent, D)
        self.whole = nn.Sequential(nn.LayerNorm(D), nn.Linear(D, D), nn.GELU(), nn.Linear(D, D))
        self.blocks = nn.ModuleList(
            CausalBlock(D, n_heads, 2 * D, dropout) for _ in range(n_layers)
        )
        self.norm = nn.LayerNorm(D)
        self.to_gap = nn.Sequential(nn.Linear(D, D), nn.GELU(), nn.Linear(D, n_gaps))
        self.pace = nn.Sequential(nn.Linear(N_PACE, D), nn.GELU(), nn.Linear(D, D))
        self.gap_mixture = nn.Linear(D, 3 * N_GAP_NORMALS) if gap_sizes else None
        self.after_gap = nn.Embedding(n_gaps, D)
        self.to_code = nn.Sequential(nn.Linear(D, D), nn.GELU(), nn.Linear(D, n_codes))
        self.about_code = nn.Embedding(n_words, D)
        self.about_symbol = nn.Embedding(n_symbols + 1, D)
        self.about_number = nn.Linear(9, D)
        self.to_value = nn.Sequential(nn.Linear(D, 2 * D), nn.GELU(), nn.Linear(2 * D, D))
        self.symbol_bias = nn.Parameter(torch.zeros(n_symbols))
        self.symbol_table = nn.Embedding(n_symbols, D)
        self.mixture = nn.Linear(D, 3 * N_NORMALS)
        self.trust = nn.Linear(D, 2 * N_NORMALS)
        self.inertia = nn.Embedding(n_words, 2 * N_NORMALS)
        self.order = nn.Embedding(n_words, 1)
        for table in (self.code, self.gap, self.symbol, self.after_gap, self.about_code):
            nn.init.normal_(table.weight, std=0.3)
        for table in (self.about_symbol, self.symbol_table):
            nn.init.normal_(table.weight, std=0.1)
        nn.init.constant_(self.inertia.weight, 0.3)
        nn.init.constant_(self.order.weight, 0.5)
        nn.init.zeros_(self.trust.weight)
        nn.init.zeros_(self.trust.bias)
        for mixture in filter(None, (self.mixture, self.gap_mixture)):
            K = mixture.out_features // 3  # normals that lie apart, and together look like one
            with torch.no_grad():
                mixture.bias[K : 2 * K] = torch.linspace(-1, 1, K)

    # ---- words in ----------------------------------------------------------------------------

    def embed(self, words: Words) -> Tensor:
        """(..., ) words -> (..., D)."""
        is_number = self.symbols.numeric(words.symbol).to(words.score.dtype)
        number = torch.stack([is_number, words.score, words.score.square() - is_number], dim=-1)
        return (
            self.code(words.code)
            + self.symbol(words.symbol)
            + self.gap(words.gap)
            + self.number(number)
            + self.moment(self.moments(words))
        )

    def moments(self, words: Words) -> Tensor:
        """When a word is: (..., 11 + 2 * N_WAVES)."""
        share = words.since / self.horizon
        angle = words.since.unsqueeze(-1) * self.rates
        plain = torch.stack(
            [
                share,
                torch.log1p(share * 100),
                words.left,
                torch.log(words.left.clamp(min=1e-3)),
                (words.left <= 0).to(share.dtype),
                (share > 1).to(share.dtype),
                words.wait,
                words.wait.square(),
            ],
            dim=-1,
        )
        pace = self.paces(words.until, words.left)
        return torch.cat([plain, pace, angle.sin(), angle.cos()], dim=-1)

    def paces(self, until: Tensor, left: Tensor) -> Tensor:
        """(..., N_PACE) how much time there is to the last event, and for each one left."""
        until = until.clamp(min=0) / self.horizon
        return torch.stack(
            [until, torch.log(until + 1e-3), torch.log((until + 1e-3) / (left + 1e-3))], dim=-1
        )

    def subject(self, embedded: Tensor) -> Tensor:
        """(B, n_prefix, D) words about the whole history -> (B, 1, D), for each event to see."""
        return self.whole(embedded.sum(1, keepdim=True) / self.n_prefix**0.5)

    def forward(self, words: Words, z: Tensor, hidden: Tensor | None = None) -> Tensor:
        """States (B, T, D), each after the words before the one it is for.

        Parameters
        ----------
        words : Words, (B, T)
        z : (B, d_latent)
        hidden : (B, T) bool, optional
            Words that later ones are not shown.
        """
        x = self.embed(words)  # (B, T, D)
        subject = self.subject(x[:, : self.n_prefix])
        if hidden is not None:
            x = torch.where(hidden.unsqueeze(-1), 0.0, x)
        x = torch.cat([self.begin.expand(len(x), 1, -1), x[:, :-1]], dim=1)
        P = self.n_prefix
        x = torch.cat([x[:, :P], x[:, P:] + subject], dim=1) + self.latent(z).unsqueeze(1)
        for block in self.blocks:
            x = block(x, P + 1, self.context_length)
        return self.norm(x)

    def cache(self) -> Cache:
        """For :meth:`step`, empty."""
        return Cache(len(self.blocks), self.n_prefix + 1, self.context_length)

    def step(self, x: Tensor, cache: Cache) -> Tensor:
        """(B, D) one embedded word, everything added -> (B, D) the next state."""
        x = x.unsqueeze(1)
        for layer, block in enumerate(self.blocks):
            assert isinstance(block, CausalBlock)
            x = block.step(x, cache, layer)
        cache.length += 1
        return self.norm(x).squeeze(1)

    # ---- choices out -------------------------------------------------------------------------

    def about_gap(self, state: Tensor, until: Tensor, left: Tensor) -> Tensor:
        """(N, D) what is known before a gap is chosen, time and events that are left among it."""
        return state + self.pace(self.paces(until, left))

    def gap_scores(self, about: Tensor) -> Tensor:
        """(N, D) -> (N, n_gaps)."""
        return self.to_gap(about)

    def gap_normals(self, about: Tensor) -> tuple[Tensor, ...]:
        """Log-weights, means and spreads (N, N_GAP_NORMALS) of the wait where there is one."""
        assert self.gap_mixture is not None
        return as_normals(self.gap_mixture(about))

    def code_scores(self, state: Tensor, gap: Tensor, last: Tensor) -> Tensor:
        """(N, D), classes of the gap, and the codes before -> (N, n_codes).

        At one time codes come in order; ``last`` is larger than any where there is none.
        """
        scores = self.to_code(state + self.after_gap(gap))
        code = torch.arange(self.n_codes, device=state.device)
        again = self.repeats[last.clamp(max=self.n_codes)]
        passed = (code < last.unsqueeze(1)) | ((code == last.unsqueeze(1)) & ~again.unsqueeze(1))
        chained = (gap == 0) & (last <= self.n_codes)
        return scores.masked_fill(passed & chained.unsqueeze(1), IMPOSSIBLE)

    def about(self, state: Tensor, gap: Tensor, code: Tensor, memory: Memory) -> Tensor:
        """(N, D) what is known before the value of a code is chosen."""
        has = memory.has_score.to(state.dtype)
        since = torch.log1p(memory.since / self.horizon * 100)
        told = [has, memory.score, memory.score.square() - has, since, since * memory.score]
        told.append((memory.symbol < self.symbols.number).to(state.dtype))
        told += [memory.mean, memory.score - memory.mean, torch.log1p(memory.number)]
        x = state + self.after_gap(gap) + self.about_code(code) + self.about_symbol(memory.symbol)
        return self.to_value(x + self.about_number(torch.stack(told, dim=-1)))

    def symbol_scores(
        self, about: Tensor, code: Tensor, memory: Memory
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Scores of the symbols of each code, one after the other; the symbols; their owners."""
        symbol, owner = self.symbols.of(code)
        if self.symbols.number <= MOST_DENSE:
            scores = F.linear(about, self.symbol_table.weight, self.symbol_bias)[owner, symbol]
        else:
            scores = (about[owner] * self.symbol_table(symbol)).sum(-1) + self.symbol_bias[symbol]
        # Levels that are numbers lie in an order, which counts as much as each code has learned.
        if (ordered := (~self.symbols.level_score[symbol].isnan()).nonzero().squeeze(1)).numel():
            of = owner[ordered]
            rows, place = of.unique(return_inverse=True)
            few = Memory(*(part[rows] for part in memory))
            normals = self.normals(about[rows], code[rows], few)
            at = self.symbols.level_score[symbol[ordered]].to(scores.dtype)
            density = log_normal_mixture(at, tuple(part[place] for part in normals))
            scores = scores.index_add(0, ordered, self.order(code[of]).squeeze(1) * density)
        nothing_to_repeat = (self.symbols.kind[symbol] == REPEAT) & ~memory.has_score[owner]
        return scores.masked_fill(nothing_to_repeat, -torch.inf), symbol, owner

    def normals(self, about: Tensor, code: Tensor, memory: Memory) -> tuple[Tensor, ...]:
        """Log-weights, means and spreads (N, N_NORMALS) of a number."""
        weight, mean, spread = as_normals(self.mixture(about))
        # What the last number and the mean count depends on how many and how old they are.
        by_last, by_mean = (self.inertia(code) + self.trust(about)).chunk(2, dim=-1)
        # Both are 0 where there was none.
        mean = mean + by_last * memory.score.unsqueeze(-1) + by_mean * memory.mean.unsqueeze(-1)
        return weight, mean, spread


def as_normals(told: Tensor) -> tuple[Tensor, ...]:
    """(N, 3 K) -> log-weights, means and spreads (N, K) of a mixture."""
    weight, mean, spread = told.chunk(3, dim=-1)
    return weight.log_softmax(-1), mean, F.softplus(spread + 0.5) + SMALLEST_SPREAD


def log_normal_mixture(x: Tensor, normals: tuple[Tensor, ...]) -> Tensor:
    """Log-density (N,) of numbers under mixtures of normals (N, K)."""
    weight, mean, spread = normals
    z = (x.unsqueeze(-1) - mean) / spread
    return torch.logsumexp(
        weight - 0.5 * z.square() - spread.log() - 0.5 * math.log(2 * math.pi), -1
    )


def segment_log_softmax(scores: Tensor, owner: Tensor, n: int) -> Tensor:
    """Log-probabilities within the scores of each owner."""
    largest = scores.new_full((n,), -torch.inf)
    largest = largest.scatter_reduce(0, owner, scores.detach(), "amax")
    shifted = scores - largest[owner]
    total = shifted.new_zeros(n).index_add(0, owner, shifted.exp())
    return shifted - total.log()[owner]
