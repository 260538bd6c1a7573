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
from tawt_sklearn.synthesis.chart import Chart, Tracks
from tawt_sklearn.synthesis.grammar import BOTH, LEVEL, NO_SCORE, NUMBER, REPEAT

N_NORMALS = 5
"""Of the mixture that a number comes from."""

N_GAP_NORMALS = 8
"""Of the mixture that the logarithm of a gap comes from, where gaps are not in classes."""

MOST_DENSE = 1024
"""Up to so many symbols it is faster to score them all for every word than to pick them first."""

N_PACE = 5
"""Numbers that say how fast the rest of a history has to be."""

IMPOSSIBLE = -30.0
"""Score of what never happened in the data: not drawn, and not infinitely unlikely elsewhere."""

LEAST_DUE = 0.3
"""Words of a code that may still come where as many as planned have."""

N_ANCHORS = 3
"""What a number starts from: the last one, the mean of the earlier ones, their trend."""

N_CURVES = 3
"""Of the last number, of the mean of the earlier ones, and of the difference of the two."""

N_KNOTS, FARTHEST_KNOT = 8, 2.1
"""Of the curves that say what follows a number, by its normal score."""

N_WAVES = 8
SMALLEST_SPREAD = 0.02


class Words(NamedTuple):
    """Words as the decoder reads them; all (B, T), or (B,) of one step."""

    code: Tensor
    gap: Tensor
    symbol: Tensor
    score: Tensor  # 0 where there is no number
    step: Tensor  # how far that is from the last one, 0 where there is none
    since: Tensor
    interval: Tensor
    wait: Tensor
    until: Tensor
    left: Tensor
    rest: Tensor


class Memory(NamedTuple):
    """What is remembered of the code that a word is about."""

    symbol: Tensor  # the last symbol, n_symbols for none
    score: Tensor  # the last number, 0 for none
    has_score: Tensor
    since: Tensor  # time since the last word of the code, 0 for none
    mean: Tensor  # of all numbers before, 0 for none
    number: Tensor  # how many there were
    trend: Tensor  # how far from their mean they point by now


class Context(NamedTuple):
    """What is known of N words before their values are chosen."""

    code: Tensor  # (N,)
    memory: Memory  # (N,)
    chart: Chart  # (N, ...)
    others: Tensor  # (N, 3 C), Tracks.together at the time of the word
    plan: Tensor  # (N, C), the mean number of each code that the latent tells

    def at(self, some: Tensor) -> Context:
        """Only some words."""
        return Context(
            self.code[some],
            Memory(*(part[some] for part in self.memory)),
            self.chart.at(some),
            self.others[some],
            self.plan[some],
        )


class Plan(NamedTuple):
    """What is to come of the codes in the chart, (B, C) each."""

    count: Tensor  # how often, as the words about the whole history say
    mean: Tensor  # of the scores of their numbers, as the latent tells

    def at(self, row: Tensor) -> Plan:
        """Of some rows."""
        return Plan(self.count[row], self.mean[row])


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
    charted : sequence of int
        Codes of which there is a chart.
    offsets, kinds, level_scores : sequences
        Of :class:`Symbols`.
    n_prefix : int
    periods : sequence of float
        After which times may repeat.
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
        charted: list[int],
        offsets: list[int],
        kinds: list[int],
        level_scores: list[float],
        n_prefix: int,
        periods: list[float],
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
        self.tracks = Tracks(charted, offsets, [kind == LEVEL for kind in kinds], periods, horizon)
        C = self.tracks.n_codes
        self.register_buffer("repeats", torch.tensor([*repeats, False]), persistent=False)
        rates = 2 * math.pi / horizon * 2.0 ** torch.arange(N_WAVES)
        self.register_buffer("rates", rates, persistent=False)
        n_words, n_symbols = len(offsets) - 1, self.symbols.number
        self.begin = nn.Parameter(torch.randn(D) * 0.3)
        self.code = nn.Embedding(n_words, D)
        self.gap = nn.Embedding(n_gaps, D)
        self.symbol = nn.Embedding(n_symbols + 1, D)  # the last one is that of no symbol
        self.number = nn.Linear(3, D)
        self.moment = nn.Linear(8 + N_PACE + 2 * (N_WAVES + len(periods)), D)
        self.latent = nn.Linear(d_latent, D)
        self.foretold = nn.Sequential(nn.Linear(d_latent, D), nn.GELU(), nn.Linear(D, 2 * C))
        self.charted = nn.Linear(self.tracks.width, D, bias=False)
        self.planned = nn.Linear(3 * C, D, bias=False)
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
        self.code_by_chart = nn.Linear(self.tracks.width + 3 * C + N_PACE, 2 * C, bias=False)
        self.about_code = nn.Embedding(n_words, D)
        self.about_symbol = nn.Embedding(n_symbols + 1, D)
        self.about_number = nn.Linear(13, D)
        self.about_others = nn.Linear(3 * C, D, bias=False)
        self.curves = nn.Parameter(torch.zeros(C + 1, N_CURVES * N_KNOTS, D))
        self.to_value = nn.Sequential(nn.Linear(D, 2 * D), nn.GELU(), nn.Linear(2 * D, D))
        self.symbol_bias = nn.Parameter(torch.zeros(n_symbols))
        self.symbol_table = nn.Embedding(n_symbols, D)
        self.mixture = nn.Linear(D, 3 * N_NORMALS)
        self.trust = nn.Linear(D, N_ANCHORS * N_NORMALS)
        self.inertia = nn.Embedding(n_words, N_ANCHORS * N_NORMALS)
        self.order = nn.Embedding(n_words, 1)
        self.habit = nn.Embedding(self.tracks.n_levels, 1 + N_KNOTS)
        self.lean = nn.Embedding(n_words, 3 * C)
        for table in (self.code, self.gap, self.symbol, self.after_gap, self.about_code):
            nn.init.normal_(table.weight, std=0.3)
        for table in (self.about_symbol, self.symbol_table):
            nn.init.normal_(table.weight, std=0.1)
        nn.init.constant_(self.inertia.weight, 0.3)
        nn.init.constant_(self.order.weight, 0.5)
        for weight in (self.habit.weight, self.lean.weight, self.code_by_chart.weight):
            nn.init.zeros_(weight)
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
        """When a word is: (..., 8 + N_PACE + 2 * (N_WAVES + K))."""
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
        pace = self.paces(words.until, words.left, words.rest)
        phase = self.tracks.phase(words.since)
        return torch.cat([plain, pace, angle.sin(), angle.cos(), phase], dim=-1)

    def paces(self, until: Tensor, left: Tensor, rest: Tensor) -> Tensor:
        """(..., N_PACE) how much time there is to the last event, for each one left among it."""
        until = until.clamp(min=0) / self.horizon + 1e-3
        return torch.stack(
            [
                until,
                until.log(),
                torch.log(until / (left + 1e-3)),
                torch.log1p(rest),
                torch.log(until / (rest + 1)),
            ],
            dim=-1,
        )

    def subject(self, embedded: Tensor) -> Tensor:
        """(B, n_prefix, D) words about the whole history -> (B, 1, D), for each event to see."""
        return self.whole(embedded.sum(1, keepdim=True) / self.n_prefix**0.5)

    def plan(self, z: Tensor, count: Tensor) -> Plan:
        """Of latents (B, d_latent), where codes come so often (B, C).

        What is made of the latent's part does not change it: it learns from what comes true alone.
        """
        _, mean = self.foretold(z).detach().chunk(2, dim=-1)
        return Plan(count, mean)

    def counts(self, words: Words) -> Tensor:
        """(B, C) how often codes come in words (B, T)."""
        counted = words.code < self.n_codes
        return self.tracks.after(words, counted, torch.zeros_like(counted)).count

    def chart(
        self, words: Words, start: Chart | None = None, hidden: Tensor | None = None
    ) -> Chart:
        """(B, T, ...) before each word; ``start`` is what was known before the first one."""
        counted = words.code < self.n_codes
        counted = counted if hidden is None else counted & ~hidden
        return self.tracks.before_each(words, counted, self.symbols.numeric(words.symbol), start)

    def forward(
        self,
        words: Words,
        z: Tensor,
        plan: Plan | None = None,
        chart: Chart | None = None,
        hidden: Tensor | None = None,
    ) -> Tensor:
        """States (B, T, D), each after the words before the one it is for.

        Parameters
        ----------
        words : Words, (B, T)
        z : (B, d_latent)
        plan : Plan, optional
            By default that which the words fulfil.
        chart : Chart, (B, T, ...), optional
            Before each word; by default that of the words.
        hidden : (B, T) bool, optional
            Words that later ones are not shown.
        """
        plan = self.plan(z, self.counts(words)) if plan is None else plan
        chart = self.chart(words, hidden=hidden) if chart is None else chart
        x = self.embed(words)  # (B, T, D)
        subject = self.subject(x[:, : self.n_prefix])
        if hidden is not None:
            x = torch.where(hidden.unsqueeze(-1), 0.0, x)
        x = torch.cat([self.begin.expand(len(x), 1, -1), x[:, :-1]], dim=1)
        P = self.n_prefix
        now = torch.cat([torch.zeros_like(words.since[:, :1]), words.since[:, :-1]], dim=1)
        x = x + self.charted(self.tracks.facts(chart, now)) + self.latent(z).unsqueeze(1)
        # Words about the whole history do not know yet what they are going to say.
        plan = Plan(*(part.unsqueeze(1) for part in plan))
        due = self.due(chart.at(slice(None), slice(P, None)), plan)
        x = torch.cat([x[:, :P], x[:, P:] + subject + self.planned(due)], dim=1)
        for block in self.blocks:
            x = block(x, P + 1, self.context_length)
        return self.norm(x)

    def read(self, chart: Chart, plan: Plan, now: Tensor) -> Tensor:
        """(..., D) what chart and plan say at the time (...) of the word before."""
        return self.charted(self.tracks.facts(chart, now)) + self.planned(self.due(chart, plan))

    def due(self, chart: Chart, plan: Plan) -> Tensor:
        """(..., 3 C) what is left of the plan, and what it says of numbers."""
        left = plan.count - chart.count
        done = (left <= 0).to(left.dtype)
        return torch.cat([left.clamp(min=LEAST_DUE).log(), done, plan.mean.expand_as(left)], dim=-1)

    def allowed(self, last: Words, chart: Chart, plan: Plan) -> tuple[Tensor, Tensor]:
        """(N, n_codes) which codes may come later, and which at the time of the word before.

        Each comes as often as was said; at one time they come in order.
        """
        left = plan.count - chart.count
        later = torch.ones(len(left), self.n_codes, dtype=torch.bool, device=left.device)
        if self.n_codes > self.tracks.n_codes:
            has_begun = last.code < self.n_codes
            later &= ~(has_begun & (last.rest <= left.clamp(min=0).sum(-1))).unsqueeze(1)
        later[:, self.tracks.codes] = left > 0
        code, before = torch.arange(self.n_codes, device=left.device), last.code.unsqueeze(1)
        again = self.repeats[last.code.clamp(max=self.n_codes)].unsqueeze(1)
        chained = (before > self.n_codes) | (code > before) | ((code == before) & again)
        return later, later & chained

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

    def about_gap(self, state: Tensor, last: Words) -> Tensor:
        """(N, D) what is known before a gap is chosen, time and events that are left among it."""
        return state + self.pace(self.paces(last.until, last.left, last.rest))

    def gap_scores(self, about: Tensor) -> Tensor:
        """(N, D) -> (N, n_gaps)."""
        return self.to_gap(about)

    def gap_normals(self, about: Tensor) -> tuple[Tensor, ...]:
        """Log-weights, means and spreads (N, N_GAP_NORMALS) of the wait where there is one."""
        assert self.gap_mixture is not None
        return as_normals(self.gap_mixture(about))

    def code_scores(
        self, state: Tensor, gap: Tensor, time: Tensor, last: Words, chart: Chart, plan: Plan
    ) -> Tensor:
        """(N, D), gaps and times (N,), and the words (N,) before -> (N, n_codes)."""
        scores = self.to_code(state + self.after_gap(gap))
        known = self.tracks.facts(chart, time), self.due(chart, plan)
        facts = torch.cat([*known, self.paces(last.until, last.left, last.rest)], dim=-1)
        same, later = self.code_by_chart(facts).chunk(2, dim=-1)
        is_same = (gap == 0).unsqueeze(1)
        scores = scores.index_add(1, self.tracks.codes, torch.where(is_same, same, later))
        at_any, at_same = self.allowed(last, chart, plan)
        return scores.masked_fill(~torch.where(is_same, at_same, at_any), IMPOSSIBLE)

    def context(
        self, code: Tensor, since: Tensor, memory: Memory, chart: Chart, plan: Plan
    ) -> Context:
        """Of codes (N,) that come at times (N,)."""
        return Context(code, memory, chart, self.tracks.together(chart, since), plan.mean)

    def about(self, state: Tensor, gap: Tensor, context: Context) -> Tensor:
        """(N, D) what is known before the value of a code is chosen."""
        code, memory = context.code, context.memory
        has = memory.has_score.to(state.dtype)
        since = torch.log1p(memory.since / self.horizon * 100)
        told = [has, memory.score, memory.score.square() - has, since, since * memory.score]
        told.append((memory.symbol < self.symbols.number).to(state.dtype))
        told += [memory.mean, memory.score - memory.mean, torch.log1p(memory.number)]
        step = self.tracks.of_own(self.tracks.restless(context.chart), code)
        told += [step, (step + SMALLEST_SPREAD).log() * (memory.number > 1)]
        told += [self.tracks.of_own(context.plan, code), memory.trend]
        x = state + self.after_gap(gap) + self.about_code(code) + self.about_symbol(memory.symbol)
        x = x + self.about_others(context.others) + self.courses(code, memory)
        return self.to_value(x + self.about_number(torch.stack(told, dim=-1)))

    def courses(self, code: Tensor, memory: Memory) -> Tensor:
        """(N, D) what follows the earlier numbers of a code: curves of its own."""
        at = torch.stack([memory.score, memory.mean, 2 * (memory.score - memory.mean)], dim=-1)
        weight = hats(at) * memory.has_score.to(at.dtype)[:, None, None]  # (N, 3, N_KNOTS)
        track = self.tracks.of_code[code]
        order = track.argsort(stable=True)
        sizes = torch.bincount(track, minlength=len(self.curves)).tolist()
        parts = weight.flatten(1)[order].split(sizes)
        told = torch.cat([part @ curve for part, curve in zip(parts, self.curves, strict=True)])
        return torch.empty_like(told).index_copy(0, order, told)

    def symbol_scores(self, about: Tensor, context: Context) -> tuple[Tensor, Tensor, Tensor]:
        """Scores of the symbols of each code, one after the other; the symbols; their owners."""
        code = context.code
        symbol, owner = self.symbols.of(code)
        if self.symbols.number <= MOST_DENSE:
            scores = F.linear(about, self.symbol_table.weight, self.symbol_bias)[owner, symbol]
        else:
            scores = (about[owner] * self.symbol_table(symbol)).sum(-1) + self.symbol_bias[symbol]
        found, share = self.tracks.habit(context.chart, symbol, owner)
        curve = hats(2 * FARTHEST_KNOT * (share - 0.5))
        told = torch.cat([share.log().unsqueeze(1), curve], dim=1)
        habit = (self.habit(self.tracks.of_level[symbol[found]]) * told).sum(1)
        scores = scores.index_add(0, found, habit)
        # Levels that are numbers lie in an order, which counts as much as each code has learned.
        if (ordered := (~self.symbols.level_score[symbol].isnan()).nonzero().squeeze(1)).numel():
            of = owner[ordered]
            rows, place = of.unique(return_inverse=True)
            normals = self.normals(about[rows], context.at(rows))
            at = self.symbols.level_score[symbol[ordered]].to(scores.dtype)
            density = log_normal_mixture(at, tuple(part[place] for part in normals))
            scores = scores.index_add(0, ordered, self.order(code[of]).squeeze(1) * density)
        nothing_to_repeat = (self.symbols.kind[symbol] == REPEAT) & ~context.memory.has_score[owner]
        return scores.masked_fill(nothing_to_repeat, -torch.inf), symbol, owner

    def normals(self, about: Tensor, context: Context) -> tuple[Tensor, ...]:
        """Log-weights, means and spreads (N, N_NORMALS) of a number."""
        code, memory = context.code, context.memory
        weight, mean, spread = as_normals(self.mixture(about))
        # What the last number and the mean count depends on how many and how old they are.
        anchors = torch.stack([memory.score, memory.mean, memory.trend], dim=-1)  # 0 for none
        trust = self.inertia(code) + self.trust(about)
        mean = mean + (trust.unflatten(-1, (N_ANCHORS, -1)) * anchors.unsqueeze(-1)).sum(-2)
        # And what was measured together goes together, each pair of codes in its own way.
        return weight, mean + (self.lean(code) * context.others).sum(-1, keepdim=True), spread


def hats(x: Tensor) -> Tensor:
    """(..., N_KNOTS) how near numbers are to each knot: a broken line is their weighted sum."""
    step = 2 * FARTHEST_KNOT / (N_KNOTS - 1)
    knot = torch.linspace(-FARTHEST_KNOT, FARTHEST_KNOT, N_KNOTS, device=x.device, dtype=x.dtype)
    inside = x.clamp(-FARTHEST_KNOT, FARTHEST_KNOT).unsqueeze(-1)
    return (1 - (inside - knot).abs() / step).clamp(min=0)


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
