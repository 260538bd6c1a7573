"""From an estimator's parameters and what was learned from the data to the network's shape."""

from __future__ import annotations

from typing import Any

from tawt_sklearn.estimators._preparation import Preparation


def sizes(preparation: Preparation) -> dict[str, Any]:
    """Keywords of the backbone that the data decide."""
    return {
        "n_codes": preparation.vocabulary.n_tokens,
        "n_categories": preparation.vocabulary.n_categories,
        "window_edges": preparation.grid.edges.tolist(),
        "horizon": preparation.grid.horizon,
        "n_static_numeric": preparation.statics.n_numeric_,
        "static_cardinalities": tuple(preparation.statics.cardinalities_),
    }


def architecture(estimator: Any, preparation: Preparation) -> dict[str, Any]:
    """Keywords of the backbone."""
    return {
        **sizes(preparation),
        "d_model": estimator.d_model,
        "n_layers": estimator.n_layers,
        "n_heads": estimator.n_heads,
        "dropout": estimator.dropout,
        "max_feature_patches": estimator.max_feature_patches,
        "patching": estimator.patching,
        "learned_time": estimator.time_encoding == "time2vec",
    }
