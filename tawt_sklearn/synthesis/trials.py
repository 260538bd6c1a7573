"""Histories that are written at the end of fit: how far they can be told from those of the data.

A network gives some chance to what never happens.  Over hundreds of events that shows: of codes
that are always measured together one in a hundred comes alone.  Chances that are raised to a power,
and scaled to sum up to 1 again, are sharper; where much is left to chance in the data, too sharp.
Which is so is found out by trying.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from tawt_sklearn.synthesis.grammar import Grammar, Sentences

N_TRIED = 512
"""Histories that are written in each trial, or as many as there are in the data."""

FEWEST_TRIED = 100
"""With fewer, nothing can be told apart."""

SHARPNESSES = (1.0, 1.25)
"""Powers that are tried."""

N_FOLDS = 5


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
    n = len(data.offsets) - 1
    is_written = np.arange(len(table)) >= n
    weights = np.concatenate([np.ones(n), weight])
    model = HistGradientBoostingClassifier(max_iter=60, random_state=0)
    folds = StratifiedKFold(N_FOLDS, shuffle=True, random_state=0)
    chances = cross_val_predict(
        model,
        table,
        is_written,
        cv=folds,
        method="predict_proba",
        params={"sample_weight": weights},
    )
    return max(0.5, float(roc_auc_score(is_written, chances[:, 1], sample_weight=weights)))


def courses(sentences: Sentences, grammar: Grammar) -> NDArray[np.float64]:
    """(n, 4 + C) how many events and moments each history has, mean and spread of the logarithms of
    the gaps between these, and how often each code in the chart comes.
    """
    offsets, n, C = sentences.offsets, len(sentences.offsets) - 1, len(grammar.charted)
    row = np.repeat(np.arange(n), np.diff(offsets))
    event = sentences.code < grammar.n_codes
    row, since, code = row[event], sentences.since[event], sentences.code[event]
    first = np.append(True, row[1:] != row[:-1])
    gap = np.append(0.0, np.diff(since.astype(np.float64)))
    later = ~first & (gap > 0)
    size = np.log(gap[later])
    n_gaps = np.bincount(row[later], minlength=n)
    mean = np.bincount(row[later], size, n) / n_gaps.clip(min=1)
    square = np.bincount(row[later], size**2, n) / n_gaps.clip(min=1)
    spread = np.sqrt((square - mean**2).clip(min=0))
    track = grammar.tracks()[code]
    own = track < C
    count = np.bincount(row[own] * C + track[own], minlength=n * C).reshape(n, C)
    n_events = np.bincount(row, minlength=n)
    return np.column_stack([n_events, n_gaps, mean, spread, count]).astype(np.float64)
