"""New subjects: of several histories that were written for each, one such as the data have."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tawt_sklearn.synthesis.cohorts import CohortWriter
from tawt_sklearn.synthesis.labels import LabelModel
from tawt_sklearn.synthesis.resampling import DensityRatio, appearance, resampled
from tawt_sklearn.synthesis.summaries import summaries

AT_ONCE = 8192
"""Candidates that are kept in memory."""


@dataclass(frozen=True)
class Selection:
    """Has several histories written for each subject, and chooses by importance resampling.

    The same is stated of all of them, so that what is stated, such as how long they are, stays as
    frequent as it was drawn, however well long ones are written.

    Attributes
    ----------
    writer : CohortWriter
    ratio : DensityRatio
        How much more often the data have such histories.
    labels : LabelModel or None
        Where labels are drawn from, and how much more often subjects with a label that was asked
        for have such histories.
    n_candidates : int
        Histories written for each subject.
    """

    writer: CohortWriter
    ratio: DensityRatio
    labels: LabelModel | None
    n_candidates: int

    def new(
        self, n: int, asked: dict[str, pd.DataFrame], random: np.random.RandomState
    ) -> tuple[pd.DataFrame, NDArray | None]:
        """Frame and labels of n subjects that have what is asked for."""
        self.writer.grammar.given(asked, n)  # refuses what is unknown before anything is written
        size = max(AT_ONCE // self.n_candidates, 1)
        frames, labels = [], []
        for first in range(0, n, size):
            rows = slice(first, min(first + size, n))
            own = {k: frame if len(frame) == 1 else frame.iloc[rows] for k, frame in asked.items()}
            frame, label = self._some(rows.stop - rows.start, own, random)
            frames.append(frame)
            labels.append(label)
        if len(frames) == 1:
            return frames[0], labels[0]
        some = [label for label in labels if label is not None]
        return pd.concat(frames, ignore_index=True), np.concatenate(some) if some else None

    def _some(
        self, n: int, asked: dict[str, pd.DataFrame], random: np.random.RandomState
    ) -> tuple[pd.DataFrame, NDArray | None]:
        wanted = np.zeros(n, bool)
        if self.labels is not None and "label" in asked:
            wanted = np.broadcast_to(asked["label"][0].notna().to_numpy(), n)
        several = self.ratio.n_trees > 0 or wanted.any()  # else one is as good as another
        copies = self.n_candidates if several else 1
        frame, said = self.writer.new(n, asked, random, copies)
        if copies == 1 and self.labels is None:
            return frame, said
        owner = np.repeat(np.arange(n), copies)
        grammar = self.writer.grammar
        sentences = grammar.read(*self.writer.form.parts(frame), None)
        weight, table = np.zeros(len(owner)), summaries(sentences, grammar)
        if copies > 1:
            weight += self.ratio.log_weight(appearance(sentences, grammar), copies)
        if self.labels is None:
            rows = resampled(weight, owner, random)
            return _at(frame, rows), None if said is None else said[rows]
        assert said is not None
        column = grammar.columns["label", 0]
        level, _ = column.read(pd.Series(said.reshape(-1)))
        weight += np.where(wanted[owner], self.labels.log_ratio(table, level), 0.0)
        rows = resampled(weight, owner, random)
        level = np.where(wanted, level[rows], self.labels.draw(table[rows], random))
        drawn = column.written(level, np.full(n, np.nan), 0).to_numpy()
        kept = np.where(wanted, said.reshape(-1)[rows], drawn)
        return _at(frame, rows), kept.reshape(n, *said.shape[1:])


def _at(frame: pd.DataFrame, rows: NDArray[np.int64]) -> pd.DataFrame:
    return frame.iloc[rows].reset_index(drop=True)
