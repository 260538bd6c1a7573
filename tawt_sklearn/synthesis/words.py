"""Words as the decoder reads them, and what it is told beside them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from tawt_sklearn.synthesis.chart import Chart
from tawt_sklearn.synthesis.symbols import BOTH, NO_SCORE, NUMBER, REPEAT


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
    others: Tensor  # (N, 4 C), Tracks.together at the time of the word
    plan: Tensor  # (N, C), the first number of each code, as stated
    hint: Tensor  # (N,) how much the number moves by what is stated of the whole history

    def at(self, some: Tensor) -> Context:
        """Only some words."""
        return Context(
            self.code[some],
            Memory(*(part[some] for part in self.memory)),
            self.chart.at(some),
            self.others[some],
            self.plan[some],
            self.hint[some],
        )


class Plan(NamedTuple):
    """What is to come of the codes in the chart, (B, C) each."""

    n_events: Tensor  # how often, as the words about the whole history say
    first: Tensor  # the score of their first number, as stated; 0 for none

    def at(self, row: Tensor) -> Plan:
        """Of some rows."""
        return Plan(self.n_events[row], self.first[row])


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
