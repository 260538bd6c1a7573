"""What is stated of a whole history, as numbers, and how far later numbers follow from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV
from torch import Tensor, nn

from tawt_sklearn.synthesis.symbols import NO_SCORE, NUMBER

if TYPE_CHECKING:
    from tawt_sklearn.synthesis.data import SynthesisDataset

PENALTIES = (10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0)
"""Of ridge regressions, in subjects of whom nothing goes together; chosen by leaving one out."""

FEWEST = 30
"""Subjects that a regression needs."""


class Stated(nn.Module):
    """Linear models of numbers on the words about the whole history.

    These words are few among hundreds, and a transformer comes late to what follows from them: how
    ill those are who will die, of whom much is measured.  So these models are ridge regressions,
    found before training and not trained: the network learns what they leave.

    There are regressions of the numbers of the words themselves, on those before; and two for each
    code of the chart, of its first number and of later ones.  They are on the number of each word
    and on an indicator of each symbol that has none: ``F`` columns.

    Parameters
    ----------
    kinds, level_scores : sequences, (n_symbols,)
        Of :class:`Symbols`.
    offsets : sequence of int, (n_prefix + 1,)
        First symbol of each word about the whole history.
    n_tracks : int
        Codes of the chart.
    """

    column: Tensor
    word: Tensor
    known: Tensor
    usual: Tensor
    weight: Tensor

    def __init__(
        self, kinds: list[int], level_scores: list[float], offsets: list[int], n_tracks: int
    ) -> None:
        super().__init__()
        P = self.n_words = len(offsets) - 1
        # Made without torch: where weights are loaded tensors are made without content first.
        kind, score = np.asarray(kinds), np.asarray(level_scores, np.float64)
        plain = (score == NO_SCORE) & (kind != NUMBER)
        plain[: offsets[0]] = False
        owner = np.repeat(np.arange(P), np.diff(offsets))
        size = np.bincount(owner, minlength=P)
        plain[offsets[0] : offsets[-1]] &= size[owner] > 1  # what is always so says nothing
        F = self.n_columns = P + int(plain.sum())
        column = np.where(plain, P - 1 + np.cumsum(plain), F)
        word = np.concatenate([np.arange(P), owner[plain[offsets[0] : offsets[-1]]]])
        owner = np.append(np.arange(P), np.full(2 * n_tracks, P))  # events know all of it
        tables = {"column": column, "word": word, "known": word < owner[:, np.newaxis]}
        for name, table in tables.items():
            self.register_buffer(name, torch.tensor(table), persistent=False)
        self.register_buffer("usual", torch.zeros(F))
        self.register_buffer("weight", torch.zeros(P + 2 * n_tracks, F))

    def columns(self, symbol: Tensor, score: Tensor) -> Tensor:
        """(B, n_prefix) symbols and scores -> (B, F), less their means."""
        told = score.new_zeros(len(score), self.n_columns + 1)
        told[:, : self.n_words] = score
        told.scatter_add_(1, self.column[symbol], torch.ones_like(score))
        return told[:, :-1] - self.usual

    def forward(self, symbol: Tensor, score: Tensor) -> Tensor:
        """(B, n_prefix) symbols and scores -> (B, n_prefix + 2 C + 1), how much each number moves.

        Of each word, of each code's first and later numbers, and 0 for what is in none of these.
        Nothing is said of a word by those after it, which may be unknown.
        """
        told = self.columns(symbol, score) @ torch.where(self.known, self.weight, 0.0).T
        return nn.functional.pad(told, (0, 1))

    def place(self, word: Tensor, track: Tensor, has_score: Tensor) -> Tensor:
        """Where in that the number of a word (N,) is found.

        Parameters
        ----------
        word : (N,) place in the prefix, negative for events
        track : (N,) line in the chart, at least ``C`` for none
        has_score : (N,) whether there was a number of the code before
        """
        n_tracks = (len(self.weight) - self.n_words) // 2
        event = self.n_words + 2 * track + has_score.long()
        event = torch.where(track < n_tracks, event, len(self.weight))
        return torch.where(word >= 0, word, event)


def regressed(stated: Stated, data: SynthesisDataset, charted: NDArray) -> dict[str, Tensor]:
    """Buffers of a :class:`Stated`, by name: ridge regressions on the rows of a data set."""
    P, flat = stated.n_words, data.held
    code, score, number, last, high = (
        flat[name].cpu().numpy() for name in ("code", "score", "number", "last_score", "high")
    )
    offsets = data.sentences.offsets
    row = np.repeat(np.arange(len(data)), np.diff(offsets))
    first = offsets[:-1, np.newaxis] + np.arange(P)
    told = torch.from_numpy(flat["symbol"].cpu().numpy()[first]), torch.from_numpy(score[first])
    usual = stated.columns(*told).mean(0)
    known = (stated.columns(*told) - usual).double().numpy()  # (n, F)
    word = stated.word.numpy()
    weight = np.zeros(stated.weight.shape)
    for k in range(1, P):
        some = word < k
        weight[k, some] = ridge(known[:, some], score[first[:, k]])
    order = np.argsort(code, kind="stable")
    borders = np.searchsorted(code[order], np.stack([charted, charted + 1]))
    for track, (low, end) in enumerate(borders.T):
        of = order[low:end]
        of = of[high[of] >= 0]
        begin, later = of[number[of] == 0], of[number[of] > 0]
        weight[P + 2 * track] = ridge(known[row[begin]], score[begin])
        weight[P + 2 * track + 1] = of_later(known, row[later], score[later], last[later])
    return {"usual": usual, "weight": torch.from_numpy(weight).to(stated.weight.dtype)}


def ridge(
    known: NDArray[np.float64], number: NDArray, count: NDArray | None = None
) -> NDArray[np.float64]:
    """Weights (F,) of columns (n, F) in numbers (n,), or (d, F) in (n, d), which count so much."""
    if len(number) < FEWEST or np.ptp(number) == 0:
        return np.zeros((*number.shape[1:], known.shape[1]))
    model = RidgeCV(PENALTIES, alpha_per_target=number.ndim > 1)
    return model.fit(known, number.astype(np.float64), sample_weight=count).coef_


def of_later(
    known: NDArray[np.float64], row: NDArray[np.int64], number: NDArray, last: NDArray
) -> NDArray[np.float64]:
    """Weights (F,) of what is known of rows (n, F) in later numbers (N,), beside the last one."""
    if not len(row):
        return np.zeros(known.shape[1])
    rows, place, count = np.unique(row, return_inverse=True, return_counts=True)
    told, moved = [], []
    for part in (number, last):
        mean = np.bincount(place, part, len(rows)) / count
        told.append(ridge(known[rows], mean, count / count.mean()))
        moved.append(part - part.mean() - (known[rows] @ told[-1])[place])
    follows = moved[1] @ moved[0] / max(moved[1] @ moved[1], 1e-9)
    return told[0] - follows * told[1]  # as if the last number were one more column
