"""From an estimator's parameters and what was learned from the data to the network's shape."""

from __future__ import annotations

from typing import Any

from tawt_sklearn.estimators._panel_preparation import PanelPreparation
from tawt_sklearn.estimators._preparation import Preparation


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
        "learned_time": estimator.time_encoding == "time2vec",
    }
