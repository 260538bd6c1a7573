"""``pretrained=``: from what the user gives to an encoder, and on to where training starts."""

from __future__ import annotations

import os
import warnings
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import joblib
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import _clone_parametrized
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from torch import Tensor

from tawt_sklearn.estimators._modalities import refuse_without_modalities, same_modalities
from tawt_sklearn.estimators._panel_preparation import PanelPreparation
from tawt_sklearn.estimators._preparation import Preparation
from tawt_sklearn.estimators.encoder import TimeAwareEncoder
from tawt_sklearn.exceptions import TrainingWarning
from tawt_sklearn.objectives.probe import probe
from tawt_sklearn.objectives.supervised import NumericTarget, Target
from tawt_sklearn.tokens.sequencer import TripletSequencer
from tawt_sklearn.training.dataset import RowDataset
from tawt_sklearn.training.net import EventNet
from tawt_sklearn.training.pretraining import PretrainingNet
from tawt_sklearn.training.trainer import Beginning

SHAPES = (
    "d_model",
    "n_layers",
    "n_heads",
    "patching",
    "time_encoding",
    "n_windows",
    "max_feature_patches",
    "attention_window",
)
"""Parameters that an encoder has decided."""


BESIDE = ("modalities", "fusion")
"""Keywords of a network with modalities that an encoder has decided."""

RUNS = (
    "modality_dropout",
    "batch_size",
    "accumulate_steps",
    "checkpoint_dir",
    "device",
    "precision",
    "compile",
    "random_state",
    "verbose",
)
"""Parameters of an estimator that its own pretraining has, too."""

FEW_LABELS = 400
"""With as many, a fine-tuned classifier is half what fine-tuning has started from.

On PhysioNet 2012 this lowers the log loss of fine-tuning (from .339 to .327 with 400 labels, .336
to .324 with 800) and changes AUROC little (by -.002 and +.001), on three draws of labels.
"""


@dataclass(frozen=True)
class Pretrained:
    """An encoder, and how its histories are prepared.

    Attributes
    ----------
    preparation : Preparation
        With the sequencer that the encoder was pretrained with, where that is known.
    net : PretrainingNet
    """

    preparation: Preparation | PanelPreparation
    net: PretrainingNet

    def model(self, dropout: float, modality_dropout: float) -> dict[str, Any]:
        """Keywords of the predictor that the encoder decides."""
        return _shape(self.net, dropout, modality_dropout)

    def beginning(self, data: RowDataset, target: Target, seed: int) -> Beginning:
        """Weights of a predictor: those of the encoder, and a linear model on its embeddings."""
        few = 0.0 if isinstance(target, NumericTarget) else FEW_LABELS
        encoder = self.net.weights()
        weights: dict[str, Tensor] = {
            "hide.edges": encoder["space.edges"],
            **_solved(self.net.embeddings(data), data, target, seed),
        }
        for name, tensor in encoder.items():
            part, _, rest = name.partition(".")
            if part == "backbone":
                weights[name] = tensor
            elif part == "pooling":
                weights[f"readout.{rest}"] = tensor
            elif part == "beside":
                weights[name] = tensor
            elif part == "coordinates":
                weights[f"head.{name}"] = tensor
        return Beginning(weights, share=few / (few + len(data)))

    def beginning_of_steps(self, fresh: dict[str, Tensor]) -> Beginning:
        """Weights of a predictor of steps: those of the encoder, and a fresh head."""
        weights = dict(fresh)
        for name, tensor in self.net.weights().items():
            part, _, rest = name.partition(".")
            if part in ("backbone", "pooling"):
                weights[name if part == "backbone" else f"readout.{rest}"] = tensor
        return Beginning(weights)


@dataclass(frozen=True)
class Continued:
    """A predictor that was fine-tuned before, whose head is to be solved anew."""

    net: EventNet

    def model(self, dropout: float, modality_dropout: float) -> dict[str, Any]:
        """Keywords of the predictor that there is."""
        return _shape(self.net, dropout, modality_dropout)

    def beginning(self, data: RowDataset, target: Target, seed: int) -> Beginning:
        """Its weights, and a linear model on its embeddings."""
        solved = _solved(self.net.features(data), data, target, seed)
        return Beginning(self.net.weights() | solved)

    def beginning_of_steps(self, fresh: dict[str, Tensor]) -> Beginning:
        """Its weights."""
        return Beginning(self.net.weights())


class SharesPretrained:
    """Of an estimator with a parameter ``pretrained``: copies share the encoder.

    Stands before ``BaseEstimator`` among its bases.
    """

    pretrained: Any

    def set_params(self, **params: Any) -> Self:
        """Set parameters, as scikit-learn does, but for those of a pretrained encoder.

        Raises
        ------
        ValueError
            ``pretrained__...``: an encoder keeps the parameters that it was pretrained with.
        """
        now = self.get_params()  # type: ignore[attr-defined]
        inner = {name for name in params if name.startswith("pretrained__") and name in now}
        changed = [name for name in inner if joblib.hash(params[name]) != joblib.hash(now[name])]
        if odd := [name for name in changed if np.ndim(params[name]) or params[name] != now[name]]:
            raise ValueError(
                "Expected parameters of this estimator: the encoder is shared, and has been "
                f"pretrained with its own. Got {min(odd)!r}. Pretrain another encoder and pass it "
                "as pretrained (in a param_grid within FrozenEstimator)."
            )
        params = {name: value for name, value in params.items() if name not in inner}
        return super().set_params(**params)  # type: ignore[misc]

    def __sklearn_clone__(self) -> Self:
        """An unfitted copy that shares the pretrained encoder, which a clone would empty."""
        bare = copy(self)
        bare.pretrained = None
        cloned = _clone_parametrized(bare)
        cloned.pretrained = self.pretrained
        return cloned


def _shape(net: EventNet, dropout: float, modality_dropout: float) -> dict[str, Any]:
    """Keywords of a predictor on the backbone and the pooling of a net."""
    built = net.module.keywords
    beside = {name: built[name] for name in BESIDE if name in built}
    if beside:
        beside["modality_dropout"] = modality_dropout
    return {
        "backbone": {**built["backbone"], "dropout": dropout},
        "pooling": built["pooling"],
        "d_embedding": built["d_embedding"],
        "scaling": built["scaling"],
        **beside,
    }


def _solved(embedding: NDArray, data: RowDataset, target: Target, seed: int) -> dict[str, Tensor]:
    """Weights of a linear head on embeddings (n, d) in its coordinates."""
    coef, intercept = probe(embedding, target, data.target, data.weight, seed)
    return {
        "head.scores.weight": torch.from_numpy(coef.astype(np.float32)),
        "head.scores.bias": torch.from_numpy(intercept.astype(np.float32)),
    }


def pretrained_here(
    estimator: Any,
    preparation: Preparation | PanelPreparation,
    data: RowDataset,
    device: torch.device,
) -> Pretrained:
    """Pretrain an encoder of the shape of an estimator, on the rows that it is to be trained on.

    Raises
    ------
    KeyboardInterrupt
        Nothing has been learned from labels yet.
    """
    encoder = TimeAwareEncoder(
        **{name: getattr(estimator, name) for name in (*SHAPES, *BESIDE, *RUNS)}
    )
    with warnings.catch_warnings():
        # That the encoder was fitted as far as it came; nothing is, here.
        warnings.filterwarnings("ignore", "Training was interrupted", TrainingWarning)
        net = encoder._pretrained_on(preparation, without_labels(data), device)
    if net.interrupted_:
        raise KeyboardInterrupt("Training was ended before anything was learned from labels.")
    return Pretrained(preparation, net)


def without_labels(data: RowDataset) -> RowDataset:
    """The same rows, with nothing that comes of labels, the order of the rows included."""
    bare = copy(data)
    bare.target, bare.weight = np.zeros(len(data), np.int64), np.ones(len(data), np.float32)
    return bare.subset(bare.canonical_order())


def read_pretrained(given: Any) -> Pretrained:
    """What ``pretrained=`` means.

    Parameters
    ----------
    given : TimeAwareEncoder, Pipeline that ends in one, FrozenEstimator of either, or path

    Raises
    ------
    ValueError, TypeError
        Something else, or an encoder that is not fitted.
    """
    sequencer: TripletSequencer | None = None
    found = given
    if isinstance(found, str | os.PathLike):
        from tawt_sklearn.persistence.savable import load_estimator

        found = load_estimator(Path(found).expanduser(), "cpu")
    found = _thawed(found)
    if isinstance(found, Pipeline):
        *before, (_, last) = found.steps
        steps = [_thawed(step) for _, step in before if step not in (None, "passthrough")]
        if steps and not (len(steps) == 1 and isinstance(steps[0], TripletSequencer)):
            raise ValueError(
                "Expected a pipeline of a TripletSequencer and a TimeAwareEncoder as pretrained. "
                f"Got one of {[type(step).__name__ for step in [*steps, last]]}. Pass the encoder "
                "alone, and do the other steps before this estimator."
            )
        sequencer, found = steps[0] if steps else None, _thawed(last)
    if not isinstance(found, TimeAwareEncoder):
        raise TypeError(
            "Expected pretrained to be a TimeAwareEncoder, a Pipeline that ends in one, or the "
            f"path of a file that holds one. Got {type(found).__name__}."
        )
    if not hasattr(found, "net_"):
        raise ValueError(
            "Expected pretrained to be fitted. Got an encoder that is not. Call its fit first. In "
            "param_grid, where scikit-learn clones values, pass FrozenEstimator(encoder) or the "
            "path of a saved encoder."
        )
    preparation = found.preparation_
    if sequencer is not None and isinstance(preparation, Preparation):
        _check_sequencer(sequencer, preparation)
        if preparation.sequencer is None:
            preparation = replace(preparation, sequencer=sequencer)
    return Pretrained(preparation, found.net_)


def _check_sequencer(sequencer: TripletSequencer, preparation: Preparation) -> None:
    """Refuse a sequencer that does not make the tokens that the encoder knows."""
    vocabulary = getattr(sequencer, "vocabulary_", None)
    if vocabulary is None or not preparation.knows(vocabulary):
        state = "is not fitted" if vocabulary is None else "has another vocabulary"
        raise ValueError(
            "Expected the pipeline's TripletSequencer to be the one that the encoder was "
            f"pretrained with. Got one that {state}. Fit the pipeline as a whole; after "
            "sequencer.add_codes call encoder.add_codes(sequencer)."
        )


def _thawed(estimator: Any) -> Any:
    while isinstance(estimator, FrozenEstimator):
        estimator = estimator.estimator
    return estimator


def check_shape(estimator: Any, pretrained: Pretrained) -> None:
    """Refuse parameters that the encoder has decided otherwise; defaults stand for "as it is".

    Raises
    ------
    ValueError
    """
    built = pretrained.net.module.keywords["backbone"]
    encoder = {
        "attention_window": None,
        **{name: built[name] for name in SHAPES if name in built},
        "time_encoding": "time2vec" if built["learned_time"] else "sinusoidal",
        "n_windows": pretrained.preparation.n_windows,
    }
    if isinstance(pretrained.preparation, PanelPreparation):
        pretrained.preparation.check_panel_settings(estimator)
    _check_beside(estimator, pretrained)
    defaults = type(estimator)().get_params()
    asked = {name: getattr(estimator, name) for name in SHAPES}
    for name in SHAPES:
        if asked[name] not in (defaults[name], encoder[name]):
            raise ValueError(
                f"Expected {name}={encoder[name]!r}, as the encoder was pretrained, or the "
                f"default. Got {name}={asked[name]!r}. Leave it out, or pretrain another encoder."
            )
    if estimator.sequencer is not None:
        raise ValueError(
            "Expected no sequencer beside pretrained: the encoder brings its own. Got "
            f"sequencer={estimator.sequencer!r}."
        )


def _check_beside(estimator: Any, pretrained: Pretrained) -> None:
    """Refuse other modalities than those of the encoder.

    Raises
    ------
    ValueError
    """
    own = getattr(pretrained.preparation, "modalities", None) or {}
    if estimator.modalities is not None and not same_modalities(own, estimator.modalities):
        raise ValueError(
            f"Expected the modalities of the pretrained encoder, {sorted(own)}, or None. Got "
            f"{sorted(estimator.modalities)}. Leave them out, or pretrain another encoder."
        )
    if not own:
        refuse_without_modalities(estimator)
    fusion = pretrained.net.module.keywords.get("fusion", "concat")
    if estimator.fusion not in ("concat", fusion):
        raise ValueError(
            f"Expected fusion={fusion!r}, as the encoder was pretrained, or the default. Got "
            f"{estimator.fusion!r}."
        )
    if estimator.modality_training != "joint":
        raise ValueError(
            'Expected modality_training="joint" with pretrained: the encoder has trained its '
            f"modalities. Got {estimator.modality_training!r}."
        )
