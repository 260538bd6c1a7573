"""The words of a data set; see :mod:`tawt_sklearn.synthesis.grammar`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Sentences:
    """The words of ``B`` sentences, flat.

    Attributes
    ----------
    offsets : (B + 1,) int64
    code, gap, symbol : (N,) int64
        Extended code (prefix words and the end have codes, too), class of the gap, symbol.
    since : (N,) float32
        Time since the first event.
    wait : (N,) float32
        Of the gap; see :meth:`Gaps.wait`.
    until : (N,) float32
        Time to the last event, 0 for words that are no events.
    left : (N,) float32
        Share of the events of the sentence that are still to come, after this word.
    rest : (N,) float32
        Their number; 0 for words about the whole history.
    low, high : (N,) float32
        Between which shares of its distribution a number lies; -1 where there is none.
    last : (N,) int64
        Place in the sentence of the last word of the same code, -1 for none.
    last_number : (N,) int64
        Of the last one with a number.
    """

    offsets: NDArray[np.int64]
    code: NDArray[np.int64]
    gap: NDArray[np.int64]
    symbol: NDArray[np.int64]
    since: NDArray[np.float32]
    wait: NDArray[np.float32]
    until: NDArray[np.float32]
    left: NDArray[np.float32]
    rest: NDArray[np.float32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    last: NDArray[np.int64]
    last_number: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def subset(self, rows: NDArray[np.int64]) -> Sentences:
        """Some of them, by their places."""
        length = np.diff(self.offsets)[rows]
        borders = np.concatenate([[0], np.cumsum(length)])
        place = np.arange(borders[-1]) + np.repeat(self.offsets[rows] - borders[:-1], length)
        words = {name: array[place] for name, array in vars(self).items() if name != "offsets"}
        return Sentences(offsets=borders, **words)
