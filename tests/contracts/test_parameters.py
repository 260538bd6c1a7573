"""Every parameter of every estimator, given a wrong type and a wrong value.

``fit`` refuses both with an error that names the parameter, and the estimator is as unfitted as
before.  A parameter without an entry in the tables fails a test.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator

import tawt_sklearn
from tawt_sklearn import (
    EventSummarizer,
    ImageEncoder,
    MissingMaskEncoder,
    Modality,
    SequenceSynthesizer,
    TimeAwareClassifier,
    TimeAwareEncoder,
    TimeAwareRegressor,
    TimeEmbedder,
    TripletSequencer,
)
from tawt_sklearn.datasets import make_icu_stays

from .suite import QUICK, fitted_attributes

NONE = object()
"""There is no wrong value: both values of a switch are right."""

NETWORK: dict[str, tuple[Any, Any]] = {
    "d_model": ("48", 0),
    "n_layers": (1.5, 0),
    "n_heads": (None, 0),
    "dropout": ("0.2", 1.0),
    "patching": (3, "both"),
    "time_encoding": (None, "fourier"),
    "n_windows": ("16", 0),
    "categorical_features": (3, ["no_such_channel"]),
    "patch_length": ("8", [4, 0]),
    "per_step": (None, "always"),
    "max_feature_patches": (1.5, 0),
    "code_dropout": (None, 0.9),
    "window_dropout": ("0.3", -0.1),
    "sequencer": (TripletSequencer, TripletSequencer(min_count=0)),
    "modalities": (3, {"age": "numbers"}),
    "fusion": (None, "sum"),
    "modality_dropout": ("0.2", 1.0),
    "max_epochs": ("20", 0),
    "min_steps": (2.5, -1),
    "batch_size": ("64", 0),
    "learning_rate": ("fast", np.nan),
    "weight_decay": (None, -0.01),
    "schedule": (None, "linear"),
    "max_grad_norm": ("1", 0),
    "accumulate_steps": (1.5, 0),
    "attention_window": ("64", 0),
    "precision": (32, "float64"),
    "compile": ("yes", NONE),
    "predict_batch_size": (1.5, 0),
    "warmup_fraction": ("0.1", 1.5),
    "early_stopping": (None, "maybe"),
    "validation_fraction": ("0.1", 1.0),
    "patience": (1.5, 0),
    "scoring": (len, "auroc"),
    "n_average": ("3", 0),
    "n_ensemble": (3.0, 0),
    "warm_start": ("yes", NONE),
    "checkpoint_dir": (3, Path(__file__)),  # a file
    "n_jobs": ("2", 0),
    "device": (0, "cuda:97"),
    "random_state": ("0", -1),
    "callbacks": (print, [print]),
    "net_params": ([("lr", 1)], {"module": None}),
    "verbose": ("1", -1),
}

SUPERVISED: dict[str, tuple[Any, Any]] = {
    "pretrained": (3, TimeAwareEncoder()),  # which is not fitted
    "fine_tune": (None, "all"),
    "encoder_learning_rate": ("slow", -0.1),
    "modality_training": (None, "later"),
    "pretrain": ("yes", NONE),
    "n_summary_members": (1.5, -1),
    "additive_head": ("yes", NONE),
    "weigh_heads": ("yes", NONE),
}

# What pretraining has no use for.
NOT_OF_THE_ENCODER = {
    "per_step",
    "code_dropout",
    "window_dropout",
    "early_stopping",
    "validation_fraction",
    "patience",
    "scoring",
    "n_average",
    "n_ensemble",
    "warm_start",
}

OF_THE_SYNTHESIZER = {
    "d_model",
    "n_layers",
    "n_heads",
    "n_windows",
    "dropout",
    "batch_size",
    "learning_rate",
    "weight_decay",
    "validation_fraction",
    "patience",
    "device",
    "random_state",
    "verbose",
}

WRONG: dict[type[BaseEstimator], dict[str, tuple[Any, Any]]] = {
    TimeAwareClassifier: {
        **NETWORK,
        **SUPERVISED,
        "class_weight": (3.0, "uniform"),
        "calibrate": ("sigmoid", NONE),
    },
    TimeAwareEncoder: {
        **{name: wrong for name, wrong in NETWORK.items() if name not in NOT_OF_THE_ENCODER},
        "objective": (3, "mask"),
        "pooling": (None, "median"),
        "d_embedding": (1.5, 0),
        "scaling": (None, "standard"),
        "output": (None, "all"),
    },
    SequenceSynthesizer: {
        **{name: NETWORK[name] for name in NETWORK if name in OF_THE_SYNTHESIZER},
        "d_latent": (1.5, 0),
        "context_length": ("256", 0),
        "gap": (None, "lognormal"),
        "pretrained": SUPERVISED["pretrained"],
        "word_dropout": ("0.1", 1.0),
        "free_bits": (None, -0.1),
        "n_candidates": (2.5, 0),
        "min_subjects_per_code": (2.5, 0),
        "max_epochs": (1.5, 0),
        "max_time": ("60", 0),
    },
    TimeAwareRegressor: {**NETWORK, **SUPERVISED, "loss": (None, "absolute")},
    TripletSequencer: {
        "min_count": ("1", 0),
        "max_events": (10.5, 0),
        "value_scaling": (3, "minmax"),
        "clip": ("5", 0.0),
        "categorical_codes": (3, "all"),
        "codes": (3, {"HR": {"type": "numbers"}}),
        "time_origin": (None, "admission"),
        "verbose": ("1", -1),
    },
    ImageEncoder: {
        "backbone": (3, "resnet"),
        "image_size": ("64", 1),
        "channels": ("3", 0),
        "augment": ("yes", NONE),
        "freeze": ("yes", NONE),
    },
    EventSummarizer: {
        "statistics": (3, ["median"]),
        "windows": (24, [-24]),
        "min_count": ("1", 0),
        "min_rows": (1.5, 0),
        "max_codes": ("all", 0),
        "max_categories": (None, -1),
        "static": (None, "keep"),
        "sparse": (None, "never"),
    },
    MissingMaskEncoder: {
        "scaling": (3, "minmax"),
        "categorical_features": (3, "all"),
        "indicators": (None, "none"),
        "time_since_observed": ("yes", NONE),
        "case": (1.5, "no_such_column"),
        "time": (1.5, "no_such_column"),
    },
    TimeEmbedder: {
        "method": (None, "fourier"),
        "n_frequencies": ("8", 0),
        "channel": ("time", -1),
        "unit": (3, "fortnight"),
        "indicators": (None, "none"),
        "random_state": ("0", -1),
    },
}

ESTIMATORS = [
    value
    for name in tawt_sklearn.__all__
    if isinstance(value := getattr(tawt_sklearn, name), type)
    and issubclass(value, BaseEstimator)
    and value is not Modality  # the base of others
]

CASES = [
    pytest.param(estimator, name, value, id=f"{estimator.__name__}-{name}-{what}")
    for estimator, table in WRONG.items()
    for name, pair in table.items()
    for what, value in zip(("type", "value"), pair, strict=True)
    if value is not NONE
]

NAMED = {"sequencer": "sequencer|min_count"}
"""What an error says where it is not the name of the parameter alone."""


@pytest.fixture(scope="module")
def data() -> tuple[Any, Any]:
    return make_icu_stays(40, random_state=0)


def rows_for(estimator: type[BaseEstimator], data: tuple[Any, Any]) -> tuple[Any, Any]:
    """What an estimator is fitted on."""
    if estimator in (MissingMaskEncoder, TimeEmbedder):
        return np.random.default_rng(0).normal(size=(20, 3)), None
    if estimator is ImageEncoder:
        return [np.zeros((8, 8))], None
    return data


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_parameter_has_an_entry(estimator):
    assert WRONG[estimator].keys() == estimator().get_params().keys()


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_parameter_has_a_constraint(estimator):
    assert estimator._parameter_constraints.keys() == estimator().get_params().keys()


@pytest.mark.parametrize("estimator, name, value", CASES)
def test_a_wrong_parameter(estimator, name, value, data):
    X, y = rows_for(estimator, data)
    quick = {key: QUICK[key] for key in QUICK.keys() & WRONG[estimator].keys()}
    wrong = estimator(**{**quick, name: value})
    with pytest.raises((ValueError, TypeError), match=NAMED.get(name, name)):
        wrong.fit(X, y)
    assert fitted_attributes(wrong) == []


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_parameters_are_keywords(estimator):
    with pytest.raises(TypeError, match="positional"):
        estimator(3)
