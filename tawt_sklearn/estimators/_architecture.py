"""From an estimator's parameters and what was learned from the data to the network's shape."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from sklearn.base import clone

from tawt_sklearn.estimators._panel_preparation import PanelPreparation
from tawt_sklearn.estimators._preparation import Preparation
from tawt_sklearn.nn.time import Waves
from tawt_sklearn.tokens.embedder import TimeEmbedder
from tawt_sklearn.training.dataset import RowDataset


def architecture(estimator: Any, preparation: Preparation | PanelPreparation) -> dict[str, Any]:
    """Keywords of the backbone."""
    return {
        **preparation.sizes(),
        "d_model": estimator.d_model,
        "n_layers": estimator.n_layers,
        "n_heads": estimator.n_heads,
        "dropout": estimator.dropout,
        "max_feature_patches": estimator.max_feature_patches,
        "patching": estimator.patching,
        "attention_window": _attention_window(estimator),
        "learned_time": _method(estimator.time_encoding) == "time2vec",
    }


def beside(estimator: Any, preparation: Preparation | PanelPreparation) -> dict[str, Any]:
    """Keywords of what stands beside the backbone; none where there is nothing."""
    modalities = getattr(preparation, "modalities", None)
    if not modalities:
        return {}
    return {
        "modalities": modalities,
        "fusion": estimator.fusion,
        "modality_dropout": float(estimator.modality_dropout),
    }


def _attention_window(estimator: Any) -> int | None:
    window = estimator.attention_window
    return None if window is None else int(window)


def _method(time_encoding: str | TimeEmbedder) -> str:
    return time_encoding if isinstance(time_encoding, str) else time_encoding.method


def learn_waves(estimator: Any, data: RowDataset) -> Waves | None:
    """Frequencies and phases of the estimator's TimeEmbedder, fitted on the times of the data."""
    if isinstance(estimator.time_encoding, str):
        return None
    embedder = clone(estimator.time_encoding).set_params(unit=None, indicators="missing-only")
    if embedder.random_state is None:  # which would draw others in every fit
        own = estimator.random_state
        embedder.set_params(random_state=own if isinstance(own, Integral) else 0)
    embedder.fit(data.times().reshape(-1, 1))
    frequency = embedder.frequencies_[0]
    if embedder.method == "sinusoidal":
        frequency, phase = np.repeat(frequency, 2), np.tile([0.0, np.pi / 2], len(frequency))
    else:
        phase = embedder.phases_[0]
    return tuple(frequency.tolist()), tuple(phase.tolist())
