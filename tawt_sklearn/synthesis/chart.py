"""The chart of a subject: what is known of every code, word after word.

What is written next hangs on what was written last of each code: how long ago, how often, with
which number or level.  A transformer has to find that among hundreds of words; a chart says it.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

N_FACTS = 9
"""Numbers that a chart tells of each code."""

N_WAITS = 4
"""Sums that it has over all words and the gaps between them."""

PUNCTUAL = 0.15
"""By which share of an interval what is due may come early or late."""

MOST_LEVELS = 256
"""Levels that are counted, in all."""


class Events(Protocol):
    """What a chart is kept of: (B, T), or (B,) of one word; see SentenceBatch."""

    @property
    def code(self) -> Tensor: ...

    @property
    def gap(self) -> Tensor: ...

    @property
    def symbol(self) -> Tensor: ...

    @property
    def score(self) -> Tensor: ...

    @property
    def step(self) -> Tensor: ...

    @property
    def since(self) -> Tensor: ...

    @property
    def interval(self) -> Tensor: ...

    @property
    def wait(self) -> Tensor: ...


class Chart(NamedTuple):
    """What is known of C codes, L levels and K periods, after the words so far."""

    score: Tensor  # (..., C) the last number, 0 for none
    since: Tensor  # (..., C) when the code came last, 0 for never
    interval: Tensor  # (..., C) between that and the time before, 0 for none
    n_events: Tensor  # (..., C) how often it came
    number: Tensor  # (..., C) how often with a number
    total: Tensor  # (..., C) of the scores of these
    steps: Tensor  # (..., C) of how far each lay from the one before
    tally: Tensor  # (..., L) how often each level came
    course: Tensor  # (..., N_WAITS + 2 K) sums over gaps, and over the phases of words

    def at(self, *place: Any) -> Chart:
        """Some of them."""
        return Chart(*(part[place] for part in self))


class Tracks(nn.Module):
    """Which codes, levels and periods have a line in the chart.

    Parameters
    ----------
    charted : sequence of int, (C,)
        The codes.
    offsets, is_level : sequences, (n_words + 1,) and (n_symbols,)
        First symbol of each extended code, and which symbols are levels.
    periods : sequence of float, (K,)
        After which times may repeat.
    horizon : float
        Length of a typical history.
    """

    codes: Tensor
    of_code: Tensor
    of_level: Tensor
    level_code: Tensor
    rates: Tensor

    def __init__(
        self,
        charted: list[int],
        offsets: list[int],
        is_level: list[bool],
        periods: list[float],
        horizon: float,
    ) -> None:
        super().__init__()
        self.horizon, self.n_codes, self.n_periods = horizon, len(charted), len(periods)
        # Made without torch: where weights are loaded tensors are made without content first.
        n_words, C = len(offsets) - 1, len(charted)
        of_code = np.full(n_words, C)
        of_code[charted] = np.arange(C)
        owner = np.repeat(np.arange(n_words), np.diff(offsets))
        levels = np.flatnonzero(np.array(is_level, bool) & (of_code[owner] < C))[:MOST_LEVELS]
        self.n_levels = len(levels)
        of_level = np.full(len(is_level), self.n_levels)
        of_level[levels] = np.arange(self.n_levels)
        rates = 2 * math.pi / torch.tensor(periods, dtype=torch.float64)
        tables = {"codes": charted, "of_code": of_code, "of_level": of_level}
        tables["level_code"] = of_code[owner[levels]]
        for name, table in tables.items():
            tensor = torch.tensor(np.asarray(table), dtype=torch.int64)
            self.register_buffer(name, tensor, persistent=False)
        self.register_buffer("rates", rates.float(), persistent=False)

    @property
    def width(self) -> int:
        """Of what :meth:`facts` gives."""
        return N_FACTS * self.n_codes + 2 * self.n_levels + N_WAITS + 3 * self.n_periods

    # ---- keeping it --------------------------------------------------------------------------

    def empty(self, n: int, like: Tensor) -> Chart:
        """Of n rows of which nothing is known."""
        parts = like.new_zeros(7, n, self.n_codes).unbind(0)
        tally = like.new_zeros(n, self.n_levels)
        course = like.new_zeros(n, N_WAITS + 2 * self.n_periods)
        return Chart(*[*parts, tally, course])

    def add(self, chart: Chart, word: Events, numeric: Tensor) -> None:
        """One more word of each row (B,), in place; ``numeric`` says which have a number."""
        track = self.of_code[word.code]
        row = (track < self.n_codes).nonzero().squeeze(1)
        at = row, track[row]
        score, has = word.score[row], numeric[row]
        chart.score[at] = torch.where(has, score, chart.score[at])
        chart.since[at] = word.since[row]
        chart.interval[at] = word.interval[row]
        chart.n_events[at] += 1
        chart.number[at] += has.to(score.dtype)
        chart.total[at] += torch.where(has, score, 0.0)
        chart.steps[at] += word.step[row]
        level = self.of_level[word.symbol]
        row = (level < self.n_levels).nonzero().squeeze(1)
        chart.tally[row, level[row]] += 1
        chart.course.add_(self.course(word))

    def course(self, words: Events) -> Tensor:
        """(..., N_WAITS + 2 K) what each word adds to the sums about time."""
        waited = (words.gap > 0).to(words.wait.dtype)
        one = torch.ones_like(waited)
        told = torch.stack([one, waited, words.wait, words.wait.square()], dim=-1)
        return torch.cat([told, self.phase(words.since)], dim=-1)

    def phase(self, time: Tensor) -> Tensor:
        """(...) times -> (..., 2 K) where they lie in each period."""
        angle = time.unsqueeze(-1) * self.rates
        return torch.cat([angle.cos(), angle.sin()], dim=-1)

    def after(self, words: Events, counted: Tensor, numeric: Tensor) -> Chart:
        """(B, ...) after the words (B, T) that count."""
        B, C, L = len(words.code), self.n_codes, self.n_levels
        track = self.of_code[words.code]
        row, place = (counted & (track < C)).nonzero().unbind(1)
        cell = row * C + track[row, place]
        score, has = words.score[row, place], numeric[row, place].to(words.score.dtype)
        told = torch.stack([torch.ones_like(score), has, has * score, words.step[row, place]])
        sums = words.score.new_zeros(4, B * C).index_add(1, cell, told).view(4, B, C)
        none = torch.full((B * C,), -1, device=cell.device)
        last = none.scatter_reduce(0, cell, place, "amax").view(B, C)
        some = has > 0
        numbered = none.scatter_reduce(0, cell[some], place[some], "amax").view(B, C)
        since, interval = (
            torch.where(last >= 0, part.gather(1, last.clamp(min=0)), 0.0)
            for part in (words.since, words.interval)
        )
        scores = torch.where(numbered >= 0, words.score.gather(1, numbered.clamp(min=0)), 0.0)
        level = self.of_level[words.symbol]
        found, place = (counted & (level < L)).nonzero().unbind(1)
        cell = found * L + level[found, place]
        tally = words.score.new_zeros(B * L).index_add(0, cell, words.score.new_ones(len(cell)))
        course = torch.where(counted.unsqueeze(-1), self.course(words), 0.0).sum(1)
        n_events, n_numbers, total, steps = sums.unbind(0)
        parts = (scores, since, interval, n_events, n_numbers, total, steps)
        return Chart(*parts, tally.view(B, L), course)

    def firsts(self, words: Events, counted: Tensor, numeric: Tensor) -> Tensor:
        """(B, C) the first score of each code among the words (B, T) that count, 0 for none."""
        B, T = words.code.shape
        track = self.of_code[words.code]
        row, place = (counted & numeric & (track < self.n_codes)).nonzero().unbind(1)
        none = torch.full((B * self.n_codes,), T, device=row.device)
        cell = row * self.n_codes + track[row, place]
        first = none.scatter_reduce(0, cell, place, "amin").view(B, self.n_codes)
        scores = words.score.gather(1, first.clamp(max=T - 1))
        return torch.where(first < T, scores, 0.0)

    def before_each(
        self, words: Events, counted: Tensor, numeric: Tensor, start: Chart | None = None
    ) -> Chart:
        """(B, T, ...) before each of the words (B, T), of which not all count.

        Parameters
        ----------
        start : Chart, (B, ...), optional
            What was known before the first of them.
        """
        B, T = words.code.shape
        start = self.empty(B, words.score) if start is None else start
        begin = Chart(*(part.unsqueeze(1) for part in start))
        score, since = words.score.unsqueeze(-1), words.since.unsqueeze(-1)
        line = torch.arange(self.n_codes, device=score.device)
        came = (self.of_code[words.code].unsqueeze(-1) == line) & counted.unsqueeze(-1)
        has = came & numeric.unsqueeze(-1)

        def so_far(some: Tensor, first: Tensor) -> Tensor:
            """Sums before each word."""
            return some.cumsum(1) - some + first

        count = so_far(came.to(score.dtype), begin.n_events)
        number = so_far(has.to(score.dtype), begin.number)
        total = so_far(torch.where(has, score, 0.0), begin.total)
        steps = so_far(torch.where(has, words.step.unsqueeze(-1), 0.0), begin.steps)
        place = torch.arange(1, T + 1, device=score.device).view(1, T, 1)

        def last_of(part: Tensor, some: Tensor, first: Tensor) -> Tensor:
            """That of the last word before each, of some words."""
            last = torch.where(some, place, 0).cummax(1).values
            last = torch.cat([last.new_zeros(B, 1, self.n_codes), last[:, :-1]], dim=1)
            known = part.unsqueeze(-1).expand(B, T, self.n_codes)
            return torch.cat([first, known], dim=1).gather(1, last)

        known = last_of(words.score, has, begin.score)
        interval = last_of(words.interval, came, begin.interval)
        when = torch.where(came, since, 0.0)  # times never fall
        when = torch.cat([begin.since, when[:, :-1]], dim=1).cummax(1).values
        line = torch.arange(self.n_levels, device=score.device)
        level = (self.of_level[words.symbol].unsqueeze(-1) == line) & counted.unsqueeze(-1)
        tally = so_far(level.to(score.dtype), begin.tally)
        course = torch.where(counted.unsqueeze(-1), self.course(words), 0.0)
        course = so_far(course, begin.course)
        return Chart(known, when, interval, count, number, total, steps, tally, course)

    # ---- reading it --------------------------------------------------------------------------

    def facts(self, chart: Chart, now: Tensor) -> Tensor:
        """(..., width) at times (...); 0 where nothing is known."""
        has = (chart.n_events > 0).to(now.dtype)
        passed = (now.unsqueeze(-1) - chart.since).clamp(min=0)
        regular = chart.interval > 0
        late = passed / torch.where(regular, chart.interval, 1.0) - 1
        return torch.cat(
            [
                has,
                has * (passed == 0),
                has * torch.log1p(passed * (100 / self.horizon)),
                torch.log1p(chart.interval * (100 / self.horizon)),
                regular * torch.exp(-0.5 * (late / PUNCTUAL).square()),
                torch.log1p(chart.n_events),
                chart.score,
                chart.total / chart.number.clamp(min=1),
                self.restless(chart),
                torch.log1p(chart.tally),
                chart.tally / chart.n_events[..., self.level_code].clamp(min=1),
                self.pace(chart, now),
            ],
            dim=-1,
        )

    def restless(self, chart: Chart) -> Tensor:
        """(..., C) by how much numbers have changed from one to the next, on average."""
        return chart.steps / (chart.number - 1).clamp(min=1)

    def pace(self, chart: Chart, now: Tensor) -> Tensor:
        """(..., N_WAITS + 3 K): mean and spread of gaps, and where the usual time of a period is.

        Of a period how much words keep to one time of it, and where that is from now on.
        """
        words, number, wait, square = chart.course[..., :N_WAITS].unbind(-1)
        mean = wait / number.clamp(min=1)
        spread = (square / number.clamp(min=1) - mean.square()).clamp(min=0).sqrt()
        waits = torch.stack([torch.log1p(words), torch.log1p(number), mean, spread], dim=-1)
        phase = chart.course[..., N_WAITS:] / words.clamp(min=1).unsqueeze(-1)
        cos, sin = phase.chunk(2, dim=-1)
        here_cos, here_sin = self.phase(now).chunk(2, dim=-1)
        off = [cos * here_cos + sin * here_sin, sin * here_cos - cos * here_sin]
        return torch.cat([waits, *off, cos.square() + sin.square()], dim=-1)

    def together(self, chart: Chart, now: Tensor) -> Tensor:
        """(..., 4 C): what has come at this time, the numbers of that, all last numbers, and what
        has come at all.
        """
        has = chart.n_events > 0
        same = (has & (chart.since == now.unsqueeze(-1))).to(now.dtype)
        return torch.cat([same, same * chart.score, chart.score, has.to(now.dtype)], dim=-1)

    def of_own(self, some: Tensor, code: Tensor) -> Tensor:
        """(N,) the numbers (N, C) of the code (N,) of each; 0 for codes without a line."""
        track = self.of_code[code]
        own = some.gather(1, track.clamp(max=self.n_codes - 1).unsqueeze(1)).squeeze(1)
        return torch.where(track < self.n_codes, own, 0.0)

    def habit(self, chart: Chart, symbol: Tensor, owner: Tensor) -> tuple[Tensor, Tensor]:
        """Of symbols (M,) that are counted levels, their share of the words of their code so far.

        Parameters
        ----------
        chart : Chart, (N, ...)
        symbol, owner : (M,)
            Symbols, and which of the N each belongs to.

        Returns
        -------
        found : (K,)
            Which of the M are counted.
        share : (K,)
            Between 0 and 1, a half where nothing came yet.
        """
        level = self.of_level[symbol]
        found = (level < self.n_levels).nonzero().squeeze(1)
        level, of = level[found], owner[found]
        count = chart.n_events[of, self.level_code[level]]
        return found, (chart.tally[of, level] + 0.5) / (count + 1.0)
