"""A cohort with images, and estimators that are quick to train, for all tests of modalities."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tawt_sklearn import (
    ImageEncoder,
    TimeAwareClassifier,
    TimeAwareEncoder,
)

QUICK = {
    "d_model": 8, "n_heads": 2, "n_layers": 1, "n_windows": 4, "max_epochs": 2, "min_steps": 4,
    "random_state": 0, "device": "cpu",
}  # fmt: skip


FUSIONS = ["concat", "attention", "gated"]


def film(rng: np.random.Generator, side: int = 8) -> np.ndarray:
    return rng.integers(256, size=(side, side), dtype=np.uint8)


def with_films(X: pd.DataFrame, make=film) -> pd.DataFrame:
    """A column of images, every fifth missing."""
    rng = np.random.default_rng(0)
    cells = [None if k % 5 == 4 else make(rng) for k in range(len(X))]
    return X.assign(xray=pd.Series(cells, index=X.index, dtype=object))


def several(X: pd.DataFrame, shift: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    cells = [
        [(k % 3 + shift, film(rng)), (20.0 + shift, film(rng)), film(rng)][: k % 4]
        for k in range(len(X))
    ]
    return X.assign(xray=pd.Series(cells, index=X.index, dtype=object))


def changed(X: pd.DataFrame, cell, row: int = 7) -> pd.DataFrame:
    cells = X["xray"].tolist()
    cells[row] = cell
    return X.assign(xray=pd.Series(cells, index=X.index, dtype=object))


def classifier(**parameters) -> TimeAwareClassifier:
    defaults = {"modalities": {"xray": ImageEncoder()}, "n_ensemble": 1, **QUICK}
    return TimeAwareClassifier(**(defaults | parameters))


def encoder(**parameters) -> TimeAwareEncoder:
    return TimeAwareEncoder(**({"modalities": {"xray": ImageEncoder()}, **QUICK} | parameters))
