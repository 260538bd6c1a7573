"""Batches of histories, as the encoder sees them and as sentences for the decoder."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tawt_sklearn.nn.batch import EventBatch
from tawt_sklearn.synthesis.marginals import FARTHEST, middle_scores
from tawt_sklearn.synthesis.sentences import Sentences
from tawt_sklearn.training.dataset import EventDataset, RowDataset

SHORTEST = 0.5
"""How little lines through few numbers are trusted."""


@dataclass(frozen=True)
class SentenceBatch:
    """Sentences of ``B`` rows, padded at the end; all (B, T).

    Attributes
    ----------
    filled : bool
        Whether there is a word.
    code, gap, symbol : int64
    since : float
        Time since the first event.
    wait : float
        The gap, as :meth:`Gaps.wait` has it.
    until : float
        Time to the last event.
    left : float
        Share of the events that are still to come.
    rest : float
        Their number.
    score : float
        Normal score of the number, 0 for none; in the middle where several are as good.
    step : float
        How far it is from the last one of the same code, 0 where there is none.
    low, high : float
        Between which shares of its distribution the number lies.
    last_symbol : int64
        Of the last word of the same code, -1 for none.
    interval : float
        Time since that word, 0 for none.
    last_score, mean, number, trend : float
        The last and the mean of the scores of the numbers of the same code before, 0 for none, how
        many there were, and by how much more than their mean a line through them tells by now.
    """

    filled: Tensor
    code: Tensor
    gap: Tensor
    symbol: Tensor
    since: Tensor
    wait: Tensor
    until: Tensor
    left: Tensor
    rest: Tensor
    score: Tensor
    step: Tensor
    low: Tensor
    high: Tensor
    last_symbol: Tensor
    interval: Tensor
    last_score: Tensor
    mean: Tensor
    number: Tensor
    trend: Tensor


@dataclass(frozen=True)
class SynthesisBatch:
    """What is known of some rows, twice."""

    events: EventBatch
    words: SentenceBatch

    def __len__(self) -> int:
        return len(self.events)

    def to(self, device: torch.device | str, dtype: torch.dtype) -> SynthesisBatch:
        moved = {}
        for field in fields(self.words):
            tensor: Tensor = getattr(self.words, field.name)
            moved[field.name] = tensor.to(
                device, dtype if tensor.is_floating_point() else tensor.dtype
            )
        return SynthesisBatch(self.events.to(device, dtype), SentenceBatch(**moved))

    def part(self, first: int, last: int) -> SynthesisBatch:
        """The rows from ``first`` to before ``last``."""
        words = {f.name: getattr(self.words, f.name)[first:last] for f in fields(self.words)}
        return SynthesisBatch(self.events.part(first, last), SentenceBatch(**words))

    def size(self) -> str:
        """How much it is, in words."""
        return self.events.size()


class SynthesisDataset(RowDataset):
    """Rows as :class:`EventDataset` has them, and their sentences.

    Parameters
    ----------
    rows : EventDataset
    sentences : Sentences
    """

    def __init__(self, rows: EventDataset, sentences: Sentences) -> None:
        self.rows, self.sentences = rows, sentences
        self.target, self.weight = rows.target, rows.weight

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, rows: NDArray[np.int64]) -> SynthesisBatch:
        held = self.held
        device = held["code"].device
        offsets = self.sentences.offsets
        first, length = offsets[rows], np.diff(offsets)[rows]
        T = int(length.max(initial=1))
        start, count = torch.from_numpy(np.stack([first, length])).to(device)
        step = torch.arange(T, device=device)
        filled = step < count.unsqueeze(1)  # (B, T)
        place = start.unsqueeze(1) + torch.minimum(step, count.unsqueeze(1) - 1)
        names = [field.name for field in fields(SentenceBatch) if field.name != "filled"]
        words = {name: held[name][place] for name in names}
        return SynthesisBatch(self.rows.batch(rows), SentenceBatch(filled, **words))

    def flat(self) -> dict[str, Tensor]:
        told = self.sentences
        row = np.repeat(np.arange(len(self)), np.diff(told.offsets))
        has_number = told.high >= 0
        score = np.where(has_number, middle_scores(told.low, told.high), 0.0).astype(np.float32)
        begin = told.offsets[row]
        last, number = begin + told.last, begin + told.last_number  # before begin for none
        since = told.since - told.since[last.clip(min=0)]
        names = ("code", "gap", "symbol", "since", "wait", "until", "left", "rest", "low", "high")
        arrays = {name: getattr(told, name) for name in names}
        arrays |= {
            "score": score,
            "last_symbol": np.where(told.last >= 0, told.symbol[last.clip(min=0)], -1),
            "interval": np.where(told.last >= 0, since, 0.0).clip(min=0).astype(np.float32),
            "last_score": np.where(told.last_number >= 0, score[number.clip(min=0)], 0.0),
        }
        arrays["last_score"] = arrays["last_score"].astype(np.float32)
        moved = has_number & (told.last_number >= 0)
        arrays["step"] = np.where(moved, np.abs(score - arrays["last_score"]), np.float32(0))
        before = sums_before(row, told.code, told.since, score, has_number)
        arrays["mean"] = before[1] / np.maximum(before[0], 1)
        arrays["number"] = before[0]
        arrays["trend"] = trend(torch.from_numpy(told.since), *map(torch.from_numpy, before))
        arrays = {name: np.asarray(a) for name, a in arrays.items()}
        arrays |= {n: arrays[n].astype(np.float32) for n in ("mean", "number", "trend")}
        return {name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in arrays.items()}

    def beginnings(self, n_prefix: int) -> tuple[Tensor, Tensor]:
        """Symbols and scores (n, n_prefix) of the words about the whole history."""
        place = torch.from_numpy(self.sentences.offsets[:-1, np.newaxis] + np.arange(n_prefix))
        symbol, score = (self.held[name].cpu()[place] for name in ("symbol", "score"))
        return symbol, score

    def hold_on(self, device: torch.device) -> bool:
        return self.rows.hold_on(device) and super().hold_on(device)

    def sizes(self) -> NDArray[np.int64]:
        return np.diff(self.sentences.offsets)

    def times(self) -> NDArray[np.float64]:
        return self.rows.times()

    def canonical_order(self) -> NDArray[np.int64]:
        return self.rows.canonical_order()

    def content(self) -> list[Any]:
        return [*self.rows.content(), *self.sentences.__dict__.values()]

    def subset(self, rows: NDArray[np.int64]) -> Self:
        return type(self)(self.rows.subset(rows), self.sentences.subset(rows))


def sums_before(
    row: NDArray[np.int64],
    code: NDArray[np.int64],
    time: NDArray[np.float32],
    score: NDArray[np.float32],
    has_score: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """(5, N) over the numbers of the same row and code before each word: how many there are, sums
    of scores, of times, of squared times, and of products of the two.
    """
    order = np.lexsort((code, row))  # stable: by place within
    changes = (np.diff(row[order]) != 0) | (np.diff(code[order]) != 0)
    begins = np.flatnonzero(np.concatenate([[True], changes])) if len(order) else order
    lengths = np.diff(np.append(begins, len(order)))
    s, t = score.astype(np.float64), time.astype(np.float64)
    told = np.zeros((5, len(order)))
    for found, amount in zip(told, (np.ones(len(s)), s, t, t**2, t * s), strict=True):
        amount = np.where(has_score, amount, 0.0)
        before = np.concatenate([[0.0], np.cumsum(amount[order])[:-1]]) if len(order) else amount
        found[order] = before - np.repeat(before[begins], lengths)
    return told


def trend(
    now: Tensor, number: Tensor, scores: Tensor, times: Tensor, squares: Tensor, products: Tensor
) -> Tensor:
    """By how much more than their mean a line through numbers tells at a time ``now``.

    A line of least squares whose slope is drawn towards 0: as if another number had been measured
    without any change over :data:`SHORTEST` of the time that has passed.
    """
    n = number.clamp(min=1)
    mean = times / n
    spread = (squares - times * mean).clamp(min=0)
    together = products - scores * mean
    far = now - mean
    slope = together / (spread + SHORTEST * far.square() + 1e-9)
    return (slope * far * (number > 1)).clamp(-FARTHEST, FARTHEST)


def drawn_scores(low: Tensor, high: Tensor) -> Tensor:
    """A normal score of each number, anywhere in what it covers: ties are spread evenly."""
    share = low + (high - low) * torch.rand_like(low)
    return torch.special.ndtri(share.double()).clamp(-FARTHEST, FARTHEST).to(low.dtype)
