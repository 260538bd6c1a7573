"""Histories that are written at the end of fit: how far they can be told from those of the data.

A network gives some chance to what never happens.  Over hundreds of events that shows: of codes
that are always measured together one in a hundred comes alone.  Chances that are raised to a power,
and scaled to sum up to 1 again, are sharper; where much is left to chance in the data, too sharp.
Which is so is found out by trying.  What was written so is then compared with the data: how rare
such histories are among these, and how far they follow their labels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold

from tawt_sklearn.synthesis.cohorts import CohortWriter
from tawt_sklearn.synthesis.grammar import Grammar
from tawt_sklearn.synthesis.labels import LabelModel
from tawt_sklearn.synthesis.sentences import Sentences
from tawt_sklearn.synthesis.summaries import courses

N_TRIED = 256
"""Histories that are written with each sharpness, or as many as there are in the data."""

N_LEARNED = 768
"""Histories to learn from of what is written, or twice as many as there are in the data."""

FEWEST_TRIED = 100
"""With fewer, nothing can be told apart."""

SHARPNESSES = (1.0, 1.25)
"""Powers that are tried."""

FEWEST_OWNERS = 50
"""Subjects whose candidates these are, at least."""

N_FOLDS = 5


@dataclass(frozen=True)
class Trial:
    """Histories that were written with some sharpness.

    Attributes
    ----------
    written : Sentences
    owner : (n,) int64
        Whose candidate each is.
    said : (n,) int64
        Levels of the label that they were written for, as many of each; zeros without labels.
    weight : (n,) float64
        What each counts, so that labels are as frequent as in the data; 1 on average.
    """

    written: Sentences
    owner: NDArray[np.int64]
    said: NDArray[np.int64]
    weight: NDArray[np.float64]

    @classmethod
    def write(
        cls, writer: CohortWriter, labels: LabelModel | None, n: int, seed: int, copies: int = 1
    ) -> Trial:
        """Have some candidates of n subjects written."""
        asked, said, weight = {}, np.zeros(n, np.int64), np.ones(n)
        if labels is not None:
            said, share = np.resize(labels.levels, n), np.resize(labels.often, n)
            column = writer.grammar.columns["label", 0]
            asked["label"] = pd.DataFrame({0: column.written(said, np.full(n, np.nan), 0)})
            weight = share / share.mean()
        frame, _ = writer.new(n, asked, np.random.RandomState(seed), copies)
        written = writer.grammar.read(*writer.form.parts(frame), None)
        owner = np.repeat(np.arange(n), copies)
        return cls(written, owner, said[owner], weight[owner])


def sharpest(
    writer: Callable[[float], CohortWriter], data: Sentences, labels: LabelModel | None, seed: int
) -> float:
    """The sharpness with which histories are told apart from the data least.

    Parameters
    ----------
    writer : callable
        Sharpness -> who writes with it.
    """
    n = min(N_TRIED, len(data))
    some = np.random.RandomState(seed).permutation(len(data))[:n]
    known, apart = data.subset(np.sort(some)), []
    for sharpness in SHARPNESSES:
        one = writer(sharpness)
        trial = Trial.write(one, labels, n, seed)
        apart.append(told_apart(known, trial.written, trial.weight, one.grammar))
    return SHARPNESSES[int(np.argmin(apart))]


def told_apart(
    data: Sentences, written: Sentences, weight: NDArray[np.float64], grammar: Grammar
) -> float:
    """How well boosting tells histories from those of the data by what happens when: AUC from .5.

    Parameters
    ----------
    weight : (n_written,) float64
        What each that was written counts.
    """
    table = np.vstack([courses(data, grammar), courses(written, grammar)])
    is_written = np.arange(len(table)) >= len(data)
    weights = np.append(np.ones(len(data)), weight)
    chances, folds = np.zeros(len(table)), StratifiedKFold(N_FOLDS, shuffle=True, random_state=0)
    for seen, unseen in folds.split(table, is_written):
        model = HistGradientBoostingClassifier(max_iter=60, random_state=0)
        model.fit(table[seen], is_written[seen], sample_weight=weights[seen])
        chances[unseen] = model.predict_proba(table[unseen])[:, 1]
    return max(0.5, float(roc_auc_score(is_written, chances, sample_weight=weights)))
