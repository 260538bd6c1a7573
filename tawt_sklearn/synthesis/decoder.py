"""The decoder: a causal transformer over words, whose choices within a word are a chain.

    p(word | before, z) = p(gap) p(code | gap) p(symbol | gap, code) p(number | gap, code, symbol)

Words about the whole history come first; they are known here, and drawn elsewhere.

A number is a mixture of normal distributions around the last number of the same code, on normal
scores.  See Kingma & Welling, "Auto-Encoding Variational Bayes", 2014, for z, and McDermott et al.,
"Event Stream GPT", 2023, for transformers over events with parts that depend on each other.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tawt_sklearn.synthesis.causal import Cache, CausalBlock
from tawt_sklearn.synthesis.chart import Chart, Tracks
from tawt_sklearn.synthesis.gaps import SAME
from tawt_sklearn.synthesis.mixtures import (
    FARTHEST_KNOT,
    N_KNOTS,
    SMALLEST_SPREAD,
    as_normals,
    hats,
    log_normal_mixture,
)
from tawt_sklearn.synthesis.stated import Stated
from tawt_sklearn.synthesis.symbols import LEVEL, NO_SCORE, REPEAT
from tawt_sklearn.synthesis.words import Context, Memory, Plan, Symbols, Words

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

N_WAVES = 8


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
    no_gap: Tensor
    heard: Tensor

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
        no_gap = torch.arange(n_gaps) == SAME if n_gaps > 1 else torch.zeros(1, dtype=torch.bool)
        self.register_buffer("no_gap", no_gap, persistent=False)
        rates = 2 * math.pi / horizon * 2.0 ** torch.arange(N_WAVES)
        self.register_buffer("rates", rates, persistent=False)
        n_words, n_symbols = len(offsets) - 1, self.symbols.number
        self.n_own = n_own = offsets[n_codes + 1]  # symbols of events, and of the end
        # Numbers of events have no symbol each, but a score.
        silent = (np.arange(n_symbols) >= n_own) & (np.asarray(level_scores) != NO_SCORE)
        heard = np.append(np.where(silent, n_symbols, np.arange(n_symbols)), n_symbols)
        self.register_buffer("heard", torch.tensor(heard), persistent=False)
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
        self.about_others = nn.Linear(4 * C, D, bias=False)
        self.curves = nn.Parameter(torch.zeros(C + 1, N_CURVES * N_KNOTS, D))
        self.to_value = nn.Sequential(nn.Linear(D, 2 * D), nn.GELU(), nn.Linear(2 * D, D))
        self.symbol_bias = nn.Parameter(torch.zeros(n_own))
        self.symbol_table = nn.Embedding(n_own, D)
        self.mixture = nn.Linear(D, 3 * N_NORMALS)
        self.trust = nn.Linear(D, N_ANCHORS * N_NORMALS)
        self.inertia = nn.Embedding(n_words, N_ANCHORS * N_NORMALS)
        self.order = nn.Embedding(n_words, 1)
        self.habit = nn.Embedding(self.tracks.n_levels, 1 + N_KNOTS)
        self.lean = nn.Embedding(n_words, 4 * C)
        self.stated = Stated(kinds, level_scores, offsets[n_words - n_prefix :], C)
        for table in (self.code, self.gap, self.symbol, self.after_gap, self.about_code):
            nn.init.normal_(table.weight, std=0.3)
        for table in (self.about_symbol, self.symbol_table):
            nn.init.normal_(table.weight, std=0.1)
        nn.init.constant_(self.inertia.weight, 0.3)
        nn.init.constant_(self.order.weight, 0.5)
        for weight in (self.habit.weight, self.lean.weight, self.code_by_chart.weight):
            nn.init.zeros_(weight)
        with torch.no_grad():  # a code comes as likely as there is left of it
            own = torch.arange(C)
            for rows in (own, C + own):
                self.code_by_chart.weight[rows, self.tracks.width + own] = 1.0
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
            + self.symbol(self.heard[words.symbol])
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

    def plan(self, words: Words) -> Plan:
        """What words (B, T) fulfil."""
        counted = words.code < self.n_codes
        numeric = self.symbols.numeric(words.symbol)
        return Plan(self.counts(words), self.tracks.firsts(words, counted, numeric))

    def counts(self, words: Words) -> Tensor:
        """(B, C) how often codes come in words (B, T)."""
        counted = words.code < self.n_codes
        return self.tracks.after(words, counted, torch.zeros_like(counted)).n_events

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
        plan = self.plan(words) if plan is None else plan
        chart = self.chart(words, hidden=hidden) if chart is None else chart
        x = self.embed(words)  # (B, T, D)
        subject = self.subject(x[:, : self.n_prefix])
        if hidden is not None:
            x = torch.where(hidden.unsqueeze(-1), 0.0, x)
        x = torch.cat([self.begin.expand(len(x), 1, -1), x[:, :-1]], dim=1)
        P = self.n_prefix
        now = torch.cat([torch.zeros_like(words.since[:, :1]), words.since[:, :-1]], dim=1)
        x = x + self.charted(self.tracks.facts(chart, now))
        # Words about the whole history do not know yet what they are going to say.
        plan = Plan(*(part.unsqueeze(1) for part in plan))
        due = self.due(chart.at(slice(None), slice(P, None)), plan)
        told = subject + self.planned(due) + self.latent(z).unsqueeze(1)
        x = torch.cat([x[:, :P], x[:, P:] + told], dim=1)
        for block in self.blocks:
            x = block(x, P + 1, self.context_length)
        return self.norm(x)

    def read(self, chart: Chart, plan: Plan, now: Tensor) -> Tensor:
        """(..., D) what chart and plan say at the time (...) of the word before."""
        return self.charted(self.tracks.facts(chart, now)) + self.planned(self.due(chart, plan))

    def due(self, chart: Chart, plan: Plan) -> Tensor:
        """(..., 3 C) what is left of the plan, and the first numbers."""
        left = plan.n_events - chart.n_events
        done = (left <= 0).to(left.dtype)
        return torch.cat(
            [left.clamp(min=LEAST_DUE).log(), done, plan.first.expand_as(left)], dim=-1
        )

    def allowed(self, last: Words, plan: Plan) -> tuple[Tensor, Tensor]:
        """(N, n_codes) which codes may come later, and which at the time of the word before.

        Not those of which it was said that they never come; at one time codes come in order.
        """
        every = torch.ones(len(last.code), self.n_codes, dtype=torch.bool, device=last.code.device)
        later = every.index_copy(1, self.tracks.codes, plan.n_events > 0)
        code, before = torch.arange(self.n_codes, device=later.device), last.code.unsqueeze(1)
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

    def gap_scores(self, about: Tensor, last: Words, plan: Plan) -> Tensor:
        """(N, D), and the words (N,) before -> (N, n_gaps).

        There is some gap where no code is left for the time of the word before.
        """
        full = ~self.allowed(last, plan)[1].any(1)
        scores = self.to_gap(about)
        return scores.masked_fill(full.unsqueeze(1) & self.no_gap, IMPOSSIBLE)

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
        at_any, at_same = self.allowed(last, plan)
        return scores.masked_fill(~torch.where(is_same, at_same, at_any), IMPOSSIBLE)

    def context(
        self,
        code: Tensor,
        since: Tensor,
        memory: Memory,
        chart: Chart,
        plan: Plan,
        hint: Tensor,
    ) -> Context:
        """Of codes (N,) that come at times (N,).

        Parameters
        ----------
        hint : (N,)
            How much their numbers move by what is stated of the whole history.
        """
        others = self.tracks.together(chart, since)
        return Context(code, memory, chart, others, plan.first, hint)

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
        if self.n_own <= MOST_DENSE:
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
        lean = (self.lean(code) * context.others).sum(-1) + context.hint
        return weight, mean + lean.unsqueeze(-1), spread
