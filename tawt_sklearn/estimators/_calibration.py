"""Temperature scaling: one number that makes probabilities as sure as they are right.

Guo et al., "On Calibration of Modern Neural Networks" (2017).
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_expit, log_softmax

from tawt_sklearn.exceptions import TrainingWarning

N_FOLDS = 3
"""Folds whose held-out rows the temperature is learned from."""

BOUNDS = (0.05, 20.0)
"""Temperatures beyond these say that the scores carry no information, or all of it."""


def folds(strata: NDArray[np.int64], random: np.random.RandomState) -> NDArray[np.int64]:
    """(n,) number of the fold that holds a row out; each has its share of every stratum.

    The first row of every stratum is held out by no fold (-1), so that each fold's training rows
    know all strata.
    """
    shuffled = random.permutation(len(strata))
    order = shuffled[np.argsort(strata[shuffled], kind="stable")]
    counts = np.bincount(strata)
    rank = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    fold = np.empty(len(strata), np.int64)
    fold[order] = np.where(rank == 0, -1, rank % N_FOLDS)
    return fold


def tempered(scores: NDArray[np.float64], temperature: float, multilabel: bool) -> NDArray:
    """(n, K) log-probabilities or log-odds at a temperature."""
    hotter = scores / temperature
    return hotter if multilabel else log_softmax(hotter, axis=-1)


def find_temperature(
    scores: NDArray[np.float64],
    encoded: NDArray,
    weight: NDArray[np.float32],
    multilabel: bool,
) -> float:
    """The temperature of lowest log loss.

    Parameters
    ----------
    scores : (n, K) array
        Log-probabilities, or log-odds of labels, of rows that were not trained on.
    encoded : (n,) int64 or (n, K) array
        Their labels.
    weight : (n,) array
    """

    def log_loss(log_temperature: float) -> float:
        hotter = tempered(scores, np.exp(log_temperature), multilabel)
        if multilabel:
            gain = np.where(encoded > 0.5, log_expit(hotter), log_expit(-hotter)).mean(axis=1)
        else:
            gain = hotter[np.arange(len(hotter)), encoded]
        return -float(weight.astype(np.float64) @ gain) / float(weight.sum())

    found = minimize_scalar(log_loss, bounds=np.log(BOUNDS), method="bounded")
    temperature = float(np.exp(found.x))
    if not 1.01 * BOUNDS[0] < temperature < 0.99 * BOUNDS[1]:
        warnings.warn(
            f"No temperature between {BOUNDS[0]} and {BOUNDS[1]} was best on the {len(scores)} "
            "held-out rows: their scores say nothing of the labels, or everything. Calibrate on "
            "more rows, or set calibrate=False.",
            TrainingWarning,
            stacklevel=5,
        )
    return temperature
