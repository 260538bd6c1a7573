"""Writing sentences: all rows at once, word after word."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtr
from torch import Tensor

from tawt_sklearn.synthesis.beginnings import Beginnings
from tawt_sklearn.synthesis.causal import Cache
from tawt_sklearn.synthesis.chart import Chart
from tawt_sklearn.synthesis.data import trend
from tawt_sklearn.synthesis.decoder import Decoder
from tawt_sklearn.synthesis.gaps import SAME, LogGaps, cumulated
from tawt_sklearn.synthesis.grammar import Grammar
from tawt_sklearn.synthesis.histories import FIRST, LENGTH, SPAN, START
from tawt_sklearn.synthesis.marginals import FARTHEST, Marginal, middle_scores
from tawt_sklearn.synthesis.symbols import BOTH, NOTHING, NUMBER, REPEAT
from tawt_sklearn.synthesis.words import Context, Memory, Plan, Words

N_CANDIDATES = 24
"""Beginnings that are drawn for each row of which something is given, to choose from."""

N_STRATA = 4
"""Beginnings that are drawn for each row of which nothing is given, to choose from."""

FEWER = 0.75
"""Rows that have ended leave once the others are a smaller share than this."""


class Written(NamedTuple):
    """What was written of ``B`` rows.

    Attributes
    ----------
    prefix_symbol, prefix_share : (B, n_prefix)
        Symbols of the words about the whole history, and where their numbers lie in their
        distribution.
    row, code, symbol : (E,) int64
        Events, in the order of the rows and of time.
    share : (E,) float64
    time : (E,) float64
        Since the first event of the row.
    """

    prefix_symbol: NDArray[np.int64]
    prefix_share: NDArray[np.float64]
    row: NDArray[np.int64]
    code: NDArray[np.int64]
    symbol: NDArray[np.int64]
    share: NDArray[np.float64]
    time: NDArray[np.float64]


STEERING, HALF = 5.0, 0.5
"""How much codes of which more or less is left than usually are preferred, and what is added to
numbers of events that are compared."""


class Notes(NamedTuple):
    """What rows remember of each code; all (B, V)."""

    symbol: Tensor  # n_symbols for none
    since: Tensor
    score: Tensor
    sums: Tensor  # (5, B, V) float64, of sums_before

    @classmethod
    def none(cls, n: int, n_codes: int, no_symbol: int, like: Tensor) -> Notes:
        symbol = torch.full((n, n_codes), no_symbol, device=like.device)
        since, score = like.new_zeros(2, n, n_codes)
        return cls(symbol, since, score, like.new_zeros(5, n, n_codes, dtype=torch.float64))

    def kept(self, rows: Tensor) -> Notes:
        """Only some rows."""
        return Notes(self.symbol[rows], self.since[rows], self.score[rows], self.sums[:, rows])

    def of(self, code: Tensor, since: Tensor, no_symbol: int) -> Memory:
        """Of a code (B,) of each row, at a time (B,)."""
        place = torch.arange(len(code), device=code.device), code
        symbol, score, sums = self.symbol[place], self.score[place], self.sums[:, *place]
        waited = torch.where(symbol < no_symbol, since - self.since[place], 0.0)
        number = sums[0].to(score.dtype)
        mean = (sums[1] / sums[0].clamp(min=1)).to(score.dtype)
        told = trend(since.double(), *sums).to(score.dtype)
        return Memory(symbol, score, number > 0, waited, mean, number, told)

    def add(
        self, code: Tensor, symbol: Tensor, score: Tensor, numeric: Tensor, since: Tensor
    ) -> None:
        """An event of each row; its score is 0 where it has no number."""
        place = torch.arange(len(code), device=code.device), code
        self.symbol[place], self.since[place] = symbol, since
        self.score[place] = torch.where(numeric, score, self.score[place])
        s, t = score.double(), since.double()
        self.sums[:, *place] += numeric * torch.stack([torch.ones_like(s), s, t, t * t, t * s])


class Rows(NamedTuple):
    """Rows while they are written; ``B`` of them."""

    row: Tensor  # (B,)
    state: Tensor  # (B, D), from which the next event is chosen
    cache: Cache
    added: Tensor  # (B, D), to each word
    hints: Tensor  # (B, ...) of what is stated, for numbers
    total: Tensor  # (B,) events that they are to have
    span: Tensor  # (B,) float64, the time that these are to take
    last: Words  # (B,) the one before
    time: Tensor  # (B,) float64, since the first event
    notes: Notes
    chart: Chart
    plan: Plan
    level: Tensor  # (B, C) symbols that first numbers are, -1 for none

    def kept(self, rows: Tensor) -> Rows:
        """Only some."""
        self.cache.keep(rows)
        return Rows(
            row=self.row[rows],
            state=self.state[rows],
            cache=self.cache,
            added=self.added[rows],
            hints=self.hints[rows],
            total=self.total[rows],
            span=self.span[rows],
            last=Words(*(part[rows] for part in self.last)),
            time=self.time[rows],
            notes=self.notes.kept(rows),
            chart=self.chart.at(rows),
            plan=self.plan.at(rows),
            level=self.level[rows],
        )


class Writer:
    """Draws from a decoder.

    Parameters
    ----------
    decoder : Decoder
    grammar : Grammar
    beginnings : Beginnings
        Where words about the whole history come from.
    generator : torch.Generator
        All that is drawn comes from it.
    sharpness : float
        Power of the chances of codes, and square of that of gaps.  Above 1, codes of which more is
        left than usually are preferred, too, so that none comes more seldom than was stated.
    """

    def __init__(
        self,
        decoder: Decoder,
        grammar: Grammar,
        beginnings: Beginnings,
        generator: torch.Generator,
        sharpness: float = 1.0,
    ) -> None:
        self.decoder, self.grammar, self.beginnings = decoder, grammar, beginnings
        self.generator, self.sharpness = generator, sharpness
        self.device = decoder.begin.device
        gaps = grammar.gaps
        self.points = torch.zeros(0) if isinstance(gaps, LogGaps) else torch.tensor(gaps.points)
        self.least = torch.from_numpy(grammar.least).to(self.device)
        self.most = torch.from_numpy(grammar.most).to(self.device)
        self._learn_ties(grammar.marginals)
        ends = grammar.offsets[grammar.n_codes + 2 + len(grammar.prefix) :] - 1
        self.usual = 1.0 + self.most[torch.from_numpy(ends).to(self.device)].double()

    def _learn_ties(self, marginals: dict[int, Marginal]) -> None:
        """Shares of the distribution of each code that one number has, one after the other."""
        owner, low, high = [np.empty(0, np.int64)], [np.empty(0)], [np.empty(0)]
        for code in sorted(marginals):
            told = marginals[code]
            tied = told.upper > told.lower
            owner.append(np.full(int(tied.sum()), code))
            low.append(told.lower[tied])
            high.append(told.upper[tied])
        below, above = np.concatenate(low), np.concatenate(high)
        tables = np.concatenate(owner), below, np.concatenate(owner) + above
        self.tied_owner, self.tied_from, self.tied_until, self.tied_score = (
            torch.from_numpy(table).to(self.device)
            for table in (*tables, middle_scores(below, above))
        )

    @torch.inference_mode()
    def write(
        self,
        z: Callable[[Tensor], Tensor],
        n: int,
        given: dict[int, tuple[NDArray[np.int64], NDArray[np.float64]]],
        progress: Callable[[int], Any],
        in_strata: bool = True,
        copies: int = 1,
    ) -> Written:
        """Sentences of ``n * copies`` rows, of which one after the other begin in the same way.

        Parameters
        ----------
        z : callable
            What is stated (n, F), in the columns of :class:`Stated` -> latents (n, d_latent).
        given : dict
            Prefix word, counted from 0 -> its symbol in each row, -1 where it is to be drawn, and
            the normal score of its number.
        progress : callable
            Told how many rows have come to their end.
        in_strata : bool
            Whether rows may be chosen by their length where nothing is given, so that lengths come
            as often as in the data; else rows are in the order of the latents.
        copies : int
            Rows of which the same is stated.
        """
        decoder = self.decoder
        P = decoder.n_prefix
        said, scored = self._begin(n, given, in_strata)  # (n, P + C)
        said, scored = said.repeat(copies, axis=0), scored.repeat(copies, axis=0)
        level = torch.from_numpy(self.grammar.level_symbols(said[:, P:])).to(self.device)
        symbol, score = (torch.from_numpy(told).to(self.device) for told in (said, scored))
        first, symbol, score = score[:, P:], symbol[:, :P], score[:, :P]
        latent = z(torch.cat([decoder.stated.columns(symbol, score), first], dim=1))
        rows = self._read_prefix(latent, symbol, score, first, level)
        span = rows.span.cpu().numpy()
        told: list[tuple[Tensor, ...]] = []
        for step in range(int(rows.total.max()) if n else 0):
            later, at_same = decoder.allowed(rows.last, rows.plan)
            full = ~at_same.any(1)  # nothing is left at the same time
            alive = (step < rows.total) & later.any(1)
            if decoder.n_gaps == 1:
                alive &= ~full
                rows.total[full] = step
            n_alive = int(alive.sum())
            if not n_alive:
                break
            if n_alive < FEWER * len(alive):
                progress(len(alive) - n_alive)
                kept = alive.nonzero().squeeze(1)
                rows, full, alive = rows.kept(kept), full[kept], alive[kept]
            about_gap = decoder.about_gap(rows.state, rows.last)
            gaps = decoder.gap_scores(about_gap, rows.last, rows.plan)
            gap = (
                self._draw(gaps * self.sharpness**0.5) if step else torch.zeros_like(rows.last.code)
            )
            size, wait = self._gap(gap, about_gap)
            time = rows.time + size
            since = time.to(rows.state.dtype)
            known = since, rows.last, rows.chart, rows.plan
            scores = decoder.code_scores(rows.state, gap, *known)
            code = self._draw(scores * self.sharpness + self._steer(rows, step))
            memory = rows.notes.of(code, since, decoder.symbols.number)
            track = decoder.tracks.of_code[code]
            place = decoder.stated.place(track, memory.has_score)
            hint = rows.hints.gather(1, place.unsqueeze(1)).squeeze(1)
            context = decoder.context(code, since, memory, rows.chart, rows.plan, hint)
            about = decoder.about(rows.state, gap, context)
            drawn = self._symbol(about, context)
            first = ~memory.has_score & (track < decoder.tracks.n_codes)  # which was stated
            at = track.clamp(max=decoder.tracks.n_codes - 1).unsqueeze(1)
            level = rows.level.gather(1, at).squeeze(1)
            ordered = first & (level >= 0) & ~decoder.symbols.level_score[drawn].isnan()
            drawn = torch.where(ordered, level, drawn)
            kind = decoder.symbols.kind[drawn]
            new = (kind == NUMBER) | (kind == BOTH)
            number = self._settled(self._number(about, context), code)
            number = torch.where(first, rows.plan.first.gather(1, at).squeeze(1), number)
            number = torch.where(new, number, 0.0)
            number = torch.where(kind == REPEAT, memory.score, number)
            level = decoder.symbols.level_score[drawn].to(number.dtype)
            number = torch.where(level.isnan(), number, level)
            told.append(tuple(x[alive] for x in (rows.row, code, drawn, number, size, gap)))
            numeric = decoder.symbols.numeric(drawn)
            rows.notes.add(code, drawn, number, numeric, since)
            left = (1 - (step + 1) / rows.total.clamp(min=1)).clamp(0, 1)
            rest = (rows.total - step - 1).clamp(min=0)
            until = (rows.span - time).clamp(min=0).to(since.dtype)
            far = torch.where(numeric & memory.has_score, (number - memory.score).abs(), 0.0)
            words = Words(
                code=code,
                gap=gap,
                symbol=drawn,
                score=number,
                step=far,
                since=since,
                interval=memory.since,
                wait=wait,
                until=until,
                left=left,
                rest=rest,
            )
            decoder.tracks.add(rows.chart, words, numeric)
            x = decoder.embed(words) + rows.added + decoder.read(rows.chart, rows.plan, since)
            state = decoder.step(x, rows.cache)
            rows = rows._replace(state=state, last=words, time=time)
        progress(len(rows.row))
        none = rows.last.code[:0]
        told.append((none, none, none, rows.state[:0, 0], rows.time[:0], none))
        return self._written(symbol, score, told, span)

    def _written(
        self,
        prefix: Tensor,
        score: Tensor,
        told: list[tuple[Tensor, ...]],
        span: NDArray[np.float64],
    ) -> Written:
        """Events row by row, in the time that each has said."""
        parts = [torch.cat(part).cpu() for part in zip(*told, strict=True)]
        order = torch.sort(parts[0], stable=True).indices
        row, code, symbol, number, size, gap = (part[order].numpy() for part in parts)
        if SPAN in self.grammar.prefix:
            size = self.grammar.gaps.fitted(size, gap, row, span)
        return Written(
            prefix_symbol=prefix.cpu().numpy(),
            prefix_share=ndtr(score.double().cpu().numpy()),
            row=row,
            code=code,
            symbol=symbol,
            share=ndtr(number.astype(np.float64)),
            time=cumulated(size, row),
        )

    def _begin(
        self,
        n: int,
        given: dict[int, tuple[NDArray[np.int64], NDArray[np.float64]]],
        in_strata: bool = False,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """What is stated of the whole history: symbols and scores (n, P + C).

        Where some are given, those before them are such as make these likely: of several
        candidates, one by how likely it makes what is given.  Where none is and ``in_strata`` says
        so, rows are drawn in strata of length.
        """
        trees, P, N = self.beginnings, self.decoder.n_prefix, len(self.grammar.prefix)
        length = self.grammar.prefix.index(LENGTH)
        seed = torch.randint(2**31 - 1, (1,), generator=self.generator, device=self.device)
        random = np.random.RandomState(int(seed))
        R = 1 if given or not in_strata else N_STRATA
        last = max((k for k in given if k < N), default=0)
        if any(k not in given or (given[k][0] < 0).any() for k in range(last)):
            R = N_CANDIDATES
        said, weight = trees.nothing_said(n * R), np.zeros(n * R)
        for k in range(trees.n_words):
            if k == N and R > 1:  # how often codes come is drawn for the chosen ones alone
                if given:
                    noise = random.gumbel(size=(n, R))
                    best = (weight.reshape(n, R) + noise).argmax(1) + R * np.arange(n)
                else:
                    best = self._in_strata(said.symbol[:, length], n, random)
                said = said.at(best)
            drawn, number = trees.draw(k, said, random)
            comes = None
            if k < N and self.grammar.prefix[k] in (START, FIRST, SPAN):
                comes = self.grammar.most[said.symbol[:, length]] > 0
            elif k >= P:  # a first number, of a code that comes
                comes = self.grammar.most[said.symbol[:, N + k - P]] > 0
            if comes is not None:
                absent = comes & (trees.kind_of(drawn) == NOTHING)
                if absent.any():
                    drawn[absent], number[absent] = trees.draw_present(k, absent.sum(), random)
            if k in given:
                asked, wanted = (np.repeat(x, len(drawn) // n) for x in given[k])
                forced = asked >= 0
                drawn = np.where(forced, asked, drawn)
                number = np.where(forced, wanted, number)
                if len(drawn) > n:
                    weight += np.where(forced, trees.log_prob(k, said, drawn, number), 0.0)
            trees.say(said, k, drawn, self._settled_word(k, drawn, number))
        return said.symbol, said.score

    def _steer(self, rows: Rows, step: int) -> Tensor:
        """(B, n_codes) what is added to the scores of codes, by how much is left of them."""
        plan, n_codes = rows.plan.n_events, self.decoder.n_codes
        none = plan.new_zeros(len(plan), n_codes)
        if self.sharpness == 1:
            return none
        left = (plan - rows.chart.n_events).clamp(min=0) + HALF
        usual = plan * ((rows.total - step) / rows.total).unsqueeze(1).to(plan.dtype) + HALF
        told = STEERING * (self.sharpness - 1) * (left / usual).log()
        return none.index_add(1, self.decoder.tracks.codes, told)

    def _settled_word(
        self, k: int, symbol: NDArray[np.int64], score: NDArray
    ) -> NDArray[np.float32]:
        """Scores (n,) of a word as the data have them; see :meth:`_settled`."""
        number, P = torch.from_numpy(score).float().to(self.device), self.decoder.n_prefix
        word = self.decoder.n_codes + 1 + k if k < P else int(self.grammar.charted[k - P])
        settled = self._settled(number, torch.full(number.shape, word, device=self.device))
        is_number = self.beginnings.kind_of(symbol) == NUMBER
        return np.where(is_number, settled.cpu().numpy(), score).astype(np.float32)

    def _in_strata(
        self, symbol: NDArray[np.int64], n: int, random: np.random.RandomState
    ) -> NDArray[np.int64]:
        """Which n of more rows, so that lengths are as frequent as in the data.

        With few rows the shares of short and long histories vary less than by chance.
        """
        of = symbol - self.grammar.offsets[self._length_word]
        share = self.grammar.length_shares
        place = (np.arange(n) + random.random_sample()) / n
        wanted = np.searchsorted(share.cumsum(), place).clip(max=len(share) - 1)
        need = np.bincount(wanted, minlength=len(share))
        order = np.argsort(of, kind="stable")
        count = np.bincount(of, minlength=len(share))
        rank = np.empty_like(of)
        rank[order] = np.arange(len(of)) - (count.cumsum() - count)[of[order]]
        # Those of lengths that are needed first; then any, where there are too few of a length.
        best = np.argsort(rank >= need[of], kind="stable")[:n]
        return random.permutation(best)

    def _span(self, symbol: Tensor, score: Tensor) -> Tensor:
        """Time from the first to the last event that rows say, float64; 0 where they say none."""
        if SPAN not in self.grammar.prefix:
            return torch.zeros(len(symbol), dtype=torch.float64, device=self.device)
        k = self.grammar.prefix.index(SPAN)
        share = torch.special.ndtr(score[:, k].double()).cpu().numpy()
        _, span = self.grammar.whole(k, symbol[:, k].cpu().numpy(), share)
        return torch.from_numpy(np.nan_to_num(span)).to(self.device)

    @property
    def _length_word(self) -> int:
        return self.decoder.n_codes + 1 + self.grammar.prefix.index(LENGTH)

    def _read_prefix(
        self, latent: Tensor, symbol: Tensor, score: Tensor, first: Tensor, level: Tensor
    ) -> Rows:
        """Rows after their prefix, of which first numbers (n, C) and their symbols are stated."""
        n, P = symbol.shape
        decoder = self.decoder
        code = decoder.n_codes + 1 + torch.arange(P, device=self.device).expand(n, P)
        words = prefix_words(code, symbol, score)
        embedded = decoder.embed(words)
        to_latent, subject = decoder.latent(latent), decoder.subject(embedded).squeeze(1)
        total, count = self._plan(symbol)
        chart, plan = decoder.tracks.empty(n, score), Plan(count.to(score.dtype), first)
        cache = decoder.cache()
        state = decoder.step(decoder.begin.expand(n, -1), cache)
        for k in range(P):
            more = 0.0
            if k == P - 1:  # the last word is what the first event is after
                more = to_latent + subject + decoder.planned(decoder.due(chart, plan))
            state = decoder.step(embedded[:, k] + more, cache)
        return Rows(
            row=torch.arange(n, device=self.device),
            state=state,
            cache=cache,
            added=to_latent + subject,
            hints=decoder.stated(symbol, score),
            total=total.to(score.dtype),
            span=self._span(symbol, score),
            last=Words(*(part[:, -1] for part in words)),
            time=torch.zeros(n, dtype=torch.float64, device=self.device),
            notes=Notes.none(n, decoder.n_codes, decoder.symbols.number, score),
            chart=chart,
            plan=plan,
            level=level,
        )

    def _plan(self, symbol: Tensor) -> tuple[Tensor, Tensor]:
        """Numbers of events (n,), and of those of each code in the chart (n, C).

        Words say them in classes, of which they are anywhere within.
        """
        least, most = self.least[symbol].double(), self.most[symbol].double()  # (n, P)
        n, length = len(symbol), self.grammar.prefix.index(LENGTH)
        share = torch.rand(n, generator=self.generator, device=self.device, dtype=least.dtype)
        low, high = least[:, length], most[:, length]
        total = (low + share * (high + 1 - low)).floor()
        N = len(self.grammar.prefix)
        low, high = least[:, N:], most[:, N:]
        # The same place in each class: what is measured together comes equally often.
        share = torch.rand(n, 1, generator=self.generator, device=self.device, dtype=low.dtype)
        count = torch.minimum((low + share * (high - low + 1)).floor(), high)
        if self.decoder.n_codes == count.shape[1]:  # single codes know best
            return count.sum(1), count
        off = (total < count.sum(1)).unsqueeze(1)  # those without a word take the rest
        return total, torch.where(off, self._fitted(total, low, high), count)

    def _fitted(self, total: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Numbers of events (n, C) that sum to totals (n,), between low and high where they can.

        What is too many or too few is shared out in proportion; codes that were said to come do so
        at least once where there is room for it.
        """
        least, most = low.sum(1), high.sum(1)
        within = torch.maximum(torch.minimum(total, most), least)
        count = low + shared_out(within - least, high - low)
        usual = torch.where(most.unsqueeze(1) > 0, high, self.usual)
        count = count + shared_out((total - most).clamp(min=0), usual)
        once = (low > 0).to(low.dtype)
        room = (total - once.sum(1)).clamp(min=0)
        fewer = once + shared_out(room, (low - once).clamp(min=0))
        fewer = torch.where((room > 0).unsqueeze(1), fewer, shared_out(total, once))
        return torch.where((total < least).unsqueeze(1), fewer, count)

    def _draw(self, scores: Tensor) -> Tensor:
        """One of the columns of each row (N, K), by its score: the Gumbel trick."""
        noise = torch.empty_like(scores).exponential_(generator=self.generator)
        return (scores - noise.log()).argmax(-1)

    def _gap(self, gap: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """A gap of each class (N,), float64, and its wait."""
        gaps = self.grammar.gaps
        if isinstance(gaps, LogGaps):
            drawn = self._normal(self.decoder.gap_normals(state)).double().cpu().numpy()
            size = np.where(gap.cpu().numpy() == SAME, 0.0, gaps.of_wait(drawn))
        else:
            n_points = self.points.shape[1]
            point = torch.randint(n_points, gap.shape, generator=self.generator, device=self.device)
            size = self.points.to(self.device)[gap, point].cpu().numpy()
        told = torch.from_numpy(size), torch.from_numpy(gaps.wait(size)).to(state.dtype)
        return told[0].to(self.device), told[1].to(self.device)

    def _symbol(self, about: Tensor, context: Context) -> Tensor:
        table, first = self._symbols(about, context)
        return first + self._draw(table)

    def _symbols(self, about: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        """Log-probabilities (N, K) of the symbols of codes (N,), and the first symbol of each."""
        offsets, code = self.decoder.symbols.offsets, context.code
        first = offsets[code]
        n_most = int((offsets[code + 1] - first).max())
        scores, symbol, owner = self.decoder.symbol_scores(about, context)
        table = scores.new_full((len(code), n_most), -torch.inf)
        table[owner, symbol - first[owner]] = scores
        return table.log_softmax(-1), first

    def _number(self, about: Tensor, context: Context) -> Tensor:
        """A normal score of each code (N,)."""
        drawn = self._normal(self.decoder.normals(about, context))
        return drawn.clamp(-FARTHEST, FARTHEST)

    def _settled(self, number: Tensor, code: Tensor) -> Tensor:
        """Normal scores (N,) as words of the data have them: in the middle of what ties share."""
        if not len(self.tied_owner):
            return number
        share = torch.special.ndtr(number.double())
        at = torch.searchsorted(self.tied_until, code + share).clamp(max=len(self.tied_owner) - 1)
        tied = (self.tied_owner[at] == code) & (share > self.tied_from[at])
        return torch.where(tied, self.tied_score[at].to(number.dtype), number)

    def _normal(self, normals: tuple[Tensor, ...]) -> Tensor:
        """(N,) from mixtures of normals."""
        weight, mean, spread = normals
        which = self._draw(weight).unsqueeze(1)
        noise = torch.empty_like(mean[:, 0]).normal_(generator=self.generator)
        return mean.gather(1, which).squeeze(1) + noise * spread.gather(1, which).squeeze(1)


def shared_out(total: Tensor, weight: Tensor) -> Tensor:
    """Whole numbers (n, C) in proportion to weights (n, C), that sum to totals (n,); 0 of none."""
    whole = weight.sum(1)
    total = torch.where(whole > 0, total, 0.0)
    wanted = weight * (total / whole.clamp(min=1e-9)).unsqueeze(1)
    least = wanted.floor()
    rank = (wanted - least).argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return least + (rank < (total - least.sum(1)).round().unsqueeze(1))


def prefix_words(code: Tensor, symbol: Tensor, score: Tensor) -> Words:
    """Words about the whole history, before any time has passed."""
    none = torch.zeros_like(score)
    return Words(
        code=code,
        gap=torch.zeros_like(code),
        symbol=symbol,
        score=score,
        step=none,
        since=none,
        interval=none,
        wait=none,
        until=none,
        left=none + 1,
        rest=none,
    )
