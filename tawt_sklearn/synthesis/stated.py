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
    """Linear models of the numbers of events on the words about the whole history.

    These words are few among hundreds, and a transformer comes late to what follows from them: how
    ill those are who will die, of whom much is measured.  So these models are ridge regressions,
    found before training and not trained: the network learns what they leave.  There are two for
    each code of the chart, of its first number and of later ones.  They are on the number of each
    word and on an indicator of each symbol that has none: ``F`` columns.

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
    usual: Tensor
    weight: Tensor

    def __init__(
        self, kinds: list[int], level_scores: list[float], offsets: list[int], n_tracks: int
    ) -> None:
        super().__init__()
        P = self.n_words = len(offsets) - 1
        self.n_tracks = n_tracks
        # Made without torch: where weights are loaded tensors are made without content first.
        kind, score = np.asarray(kinds), np.asarray(level_scores, np.float64)
        plain = (score == NO_SCORE) & (kind != NUMBER)
        plain[: offsets[0]] = False
        size = np.diff(offsets)
        plain[offsets[0] : offsets[-1]] &= np.repeat(size, size) > 1  # else it says nothing
        F = self.n_columns = P + int(plain.sum())
        column = torch.tensor(np.where(plain, P - 1 + np.cumsum(plain), F))
        self.register_buffer("column", column, persistent=False)
        self.register_buffer("usual", torch.zeros(F))
        self.register_buffer("weight", torch.zeros(2 * n_tracks, F))

    def columns(self, symbol: Tensor, score: Tensor) -> Tensor:
        """(B, n_prefix) symbols and scores -> (B, F), less their means."""
        told = score.new_zeros(len(score), self.n_columns + 1)
        told[:, : self.n_words] = score
        told.scatter_add_(1, self.column[symbol], torch.ones_like(score))
        return told[:, :-1] - self.usual

    def forward(self, symbol: Tensor, score: Tensor) -> Tensor:
        """(B, n_prefix) symbols and scores -> (B, 2 C + 1), how much each number moves.

        The first and the later numbers of each code, and 0 for those of no line in the chart.
        """
        told = self.columns(symbol, score) @ self.weight.T
        return nn.functional.pad(told, (0, 1))

    def place(self, track: Tensor, has_score: Tensor) -> Tensor:
        """Where in that a number (N,) is found.

        Parameters
        ----------
        track : (N,) line in the chart, ``C`` for none
        has_score : (N,) whether there was a number of the code before
        """
        return torch.where(track < self.n_tracks, 2 * track + has_score.long(), 2 * self.n_tracks)


def regressed(stated: Stated, data: SynthesisDataset, charted: NDArray) -> dict[str, Tensor]:
    """Buffers of a :class:`Stated`, by name: ridge regressions on the rows of a data set."""
    code, score, number, last, high = (
        data.held[name].cpu().numpy() for name in ("code", "score", "number", "last_score", "high")
    )
    row = np.repeat(np.arange(len(data)), np.diff(data.sentences.offsets))
    told = data.beginnings(stated.n_words)
    usual = stated.columns(*told).mean(0)
    known = (stated.columns(*told) - usual).double().numpy()  # (n, F)
    weight = np.zeros(stated.weight.shape)
    order = np.argsort(code, kind="stable")
    borders = np.searchsorted(code[order], np.stack([charted, charted + 1]))
    for track, (low, end) in enumerate(borders.T):
        of = order[low:end]
        of = of[high[of] >= 0]
        begin, later = of[number[of] == 0], of[number[of] > 0]
        weight[2 * track] = ridge(known[row[begin]], score[begin])
        weight[2 * track + 1] = of_later(known, row[later], score[later], last[later])
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
