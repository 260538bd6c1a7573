"""Parameters that the time-aware estimators share: the table of constraints and further checks."""

from __future__ import annotations

import os
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import get_scorer_names
from sklearn.utils._param_validation import Interval, StrOptions
from skorch.callbacks import Callback

from tawt_sklearn.estimators._modalities import MODALITY_FUSIONS, check_modalities
from tawt_sklearn.tokens.embedder import TimeEmbedder
from tawt_sklearn.tokens.sequencer import TripletSequencer
from tawt_sklearn.training.precision import PRECISIONS
from tawt_sklearn.training.schedule import SCHEDULES

CONSTRAINTS: dict[str, Any] = {
    "d_model": [Interval(Integral, 1, None, closed="left")],
    "n_layers": [Interval(Integral, 1, None, closed="left")],
    "n_heads": [Interval(Integral, 1, None, closed="left")],
    "dropout": [Interval(Real, 0, 1, closed="left")],
    "patching": [StrOptions({"dual", "time", "feature", "event"})],
    "time_encoding": [StrOptions({"time2vec", "sinusoidal"}), TimeEmbedder],
    "n_windows": [Interval(Integral, 1, None, closed="left")],
    "categorical_features": ["array-like", None],
    "per_step": [StrOptions({"auto"}), "boolean"],
    "patch_length": [Interval(Integral, 1, None, closed="left"), "array-like", None],
    "max_feature_patches": [Interval(Integral, 1, None, closed="left")],
    "attention_window": [Interval(Integral, 1, None, closed="left"), None],
    "code_dropout": [Interval(Real, 0, 0.5, closed="both"), StrOptions({"auto"})],
    "window_dropout": [Interval(Real, 0, 0.5, closed="both"), StrOptions({"auto"})],
    "n_summary_members": [Interval(Integral, 0, None, closed="left"), StrOptions({"auto"})],
    "sequencer": [TripletSequencer, None],
    "modalities": "no_validation",  # check_modalities() says what is wrong with it
    "fusion": [StrOptions(MODALITY_FUSIONS)],
    "modality_dropout": [Interval(Real, 0, 1, closed="left")],
    "modality_training": [StrOptions({"joint", "staged"})],
    "additive_head": ["boolean"],
    "weigh_heads": ["boolean"],
    "pretrain": ["boolean"],
    "pretrained": "no_validation",  # read_pretrained() says what is wrong with it
    "fine_tune": [StrOptions({"full", "head", "gradual"})],
    "encoder_learning_rate": [Interval(Real, 0, None, closed="left"), None],
    "max_epochs": [Interval(Integral, 1, None, closed="left")],
    "min_steps": [Interval(Integral, 0, None, closed="left")],
    "batch_size": [Interval(Integral, 1, None, closed="left")],
    "learning_rate": [Interval(Real, 0, None, closed="neither")],
    "weight_decay": [Interval(Real, 0, None, closed="left")],
    "schedule": [StrOptions(set(SCHEDULES))],
    "warmup_fraction": [Interval(Real, 0, 1, closed="both")],
    "max_grad_norm": [Interval(Real, 0, None, closed="neither"), None],
    "accumulate_steps": [Interval(Integral, 1, None, closed="left")],
    "early_stopping": [StrOptions({"auto"}), "boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
    "patience": [Interval(Integral, 1, None, closed="left")],
    "scoring": [str],
    "n_average": [Interval(Integral, 1, None, closed="left")],
    "n_ensemble": [Interval(Integral, 1, None, closed="left")],
    "warm_start": ["boolean"],
    "checkpoint_dir": [str, os.PathLike, None],
    "n_jobs": [
        Interval(Integral, 1, None, closed="left"),
        Interval(Integral, None, -1, closed="right"),
        None,
    ],
    "device": [str, torch.device, None],
    "precision": [StrOptions(set(PRECISIONS))],
    "compile": ["boolean"],
    "predict_batch_size": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
    "random_state": ["random_state"],
    "callbacks": [list, tuple, None],
    "net_params": [dict, None],
    "verbose": ["verbose"],
}

OF_LABELS = {
    "per_step",
    "code_dropout",
    "window_dropout",
    "n_summary_members",
    "additive_head",
    "weigh_heads",
    "modality_training",
    "pretrain",
    "pretrained",
    "fine_tune",
    "encoder_learning_rate",
    "early_stopping",
    "validation_fraction",
    "patience",
    "scoring",
    "n_average",
    "n_ensemble",
    "warm_start",
}
"""Parameters that pretraining has no use for."""

OWN_NAMES = {
    "batch_size": "batch_size",
    "callbacks": "callbacks",
    "compiled": "compile",
    "device": "device",
    "encoder_lr": "encoder_learning_rate",
    "lr": "learning_rate",
    "max_epochs": "max_epochs",
    "n_parts": "accumulate_steps",
    "optimizer__lr": "learning_rate",
    "optimizer__weight_decay": "weight_decay",
    "precision": "precision",
    "train_split": "early_stopping and validation_fraction",
    "verbose": "verbose",
}
"""Names of the skorch net that a parameter of the estimator stands for."""

BUILT_HERE = {"criterion", "module", "iterator_train__generator"}
"""Parts of the net that the estimator makes itself."""


def check_settings(estimator: Any, *, going_on: bool = False) -> None:
    """What the table of constraints cannot say: parameters that must fit each other.

    Parameters
    ----------
    going_on : bool
        Whether the networks of the last fit are to learn more.

    Raises
    ------
    ValueError
        Which names the parameters.
    """
    if estimator.d_model % estimator.n_heads:
        raise ValueError(
            f"Expected d_model to be a multiple of n_heads. Got d_model={estimator.d_model} and "
            f"n_heads={estimator.n_heads}."
        )
    if estimator.attention_window is not None and estimator.patching != "event":
        pretrained = getattr(estimator, "pretrained", None) is not None
        if not (pretrained and estimator.patching == "dual"):  # whose encoder has decided it
            raise ValueError(
                'Expected attention_window=None unless patching="event": patches attend to all '
                f"patches. Got {estimator.attention_window} with patching={estimator.patching!r}."
            )
    check_modalities(estimator)
    embedder = estimator.time_encoding
    if isinstance(embedder, TimeEmbedder):
        embedder._validate_params()  # which the check of our own parameters switches off
        if embedder.method not in ("time2vec", "sinusoidal"):
            raise ValueError(
                'Expected a TimeEmbedder as time_encoding to have method="time2vec" or '
                f'"sinusoidal". Got {embedder.method!r}. Put it before this estimator in a '
                "Pipeline: it adds features to panels and to event histories."
            )
        n_waves = embedder.n_frequencies * (2 if embedder.method == "sinusoidal" else 1)
        if n_waves > estimator.d_model - 1:
            raise ValueError(
                f"Expected time_encoding with up to d_model - 1 = {estimator.d_model - 1} waves. "
                f"Got {n_waves}. Lower its n_frequencies."
            )
        if embedder.channel is not None:
            raise ValueError(
                "Expected a TimeEmbedder without channel as time_encoding: the network counts "
                f"steps. Got channel={embedder.channel!r}."
            )
    if estimator.patch_length is not None:
        lengths = np.asarray(estimator.patch_length)
        wrong = lengths.dtype.kind not in "iu" or lengths.ndim > 1 or not lengths.size
        if wrong or lengths.min() < 1 or len(set(lengths.flat)) < lengths.size:
            raise ValueError(
                "Expected patch_length to be a number of steps, 1 or more, or to hold several "
                "different ones. Got "
                f"{estimator.patch_length!r}."
            )
    scoring = getattr(estimator, "scoring", "loss")  # which pretraining has no use for
    if scoring != "loss" and scoring not in get_scorer_names():
        raise ValueError(
            'Expected scoring to be "loss" or the name of a scikit-learn scorer, such as '
            f'"roc_auc" or "r2". Got {scoring!r}.'
        )
    for given in estimator.callbacks or ():
        callback = given[-1] if isinstance(given, tuple) else given
        if not issubclass(callback if isinstance(callback, type) else type(callback), Callback):
            raise ValueError(
                "Expected callbacks to hold skorch callbacks or pairs (name, callback). "
                f"Got {given!r}. Callbacks of scikit-learn go to set_callbacks."
            )
    check_pretraining(estimator, going_on)
    if getattr(estimator, "loss", None) == "huber" and estimator.fine_tune == "head":
        raise ValueError(
            'Expected loss="squared_error" with fine_tune="head", which solves a ridge regression. '
            'Got loss="huber". Take fine_tune="full".'
        )
    if taken := sorted((BUILT_HERE | set(OWN_NAMES)) & set(estimator.net_params or {})):
        instead = sorted({OWN_NAMES[name] for name in taken if name in OWN_NAMES})
        use = f" Use the parameters {', '.join(instead)}." if instead else ""
        raise ValueError(
            f"Expected net_params without what the estimator sets itself. Got {taken}.{use}"
        )
    if estimator.checkpoint_dir is not None and not isinstance(estimator.random_state, Integral):
        raise ValueError(
            "Expected random_state to be an integer where checkpoint_dir is given: a fit that "
            "draws its seeds anew is another fit, and none can be resumed. Got random_state="
            f"{estimator.random_state!r}."
        )


def check_pretraining(estimator: Any, going_on: bool) -> None:
    """What parameters of pretraining ask of each other, and of others.

    Raises
    ------
    ValueError
    """
    given, own = getattr(estimator, "pretrained", None), getattr(estimator, "pretrain", False)
    alone = estimator.get_params(deep=False)
    known = going_on and is_pretrained(estimator.nets_[0])
    if given is None and not own and not known:
        if alone.get("fine_tune", "full") != "full" or alone.get("encoder_learning_rate"):
            raise ValueError(
                "Expected pretrained, or pretrain=True, together with fine_tune or "
                "encoder_learning_rate. Got none. Pass a fitted TimeAwareEncoder, or leave them at "
                "their defaults."
            )
    if not own:
        return
    if given is not None:
        raise ValueError(
            "Expected pretrain=False with pretrained: the encoder has been pretrained. Got "
            f"pretrain=True and pretrained={type(given).__name__}."
        )
    if estimator.patching == "time":
        raise ValueError(
            "Expected a patching with tokens of codes or channels to pretrain. Got "
            'patching="time" with pretrain=True. Take patching="dual".'
        )
    if estimator.modality_training != "joint":
        raise ValueError(
            'Expected modality_training="joint" with pretrain=True, which trains modalities '
            f"together with histories. Got {estimator.modality_training!r}."
        )


def is_pretrained(net: Any) -> bool:
    """Whether a network has started from an encoder, whose embeddings its head then weighs."""
    return net.module.keywords.get("pooling") is not None


def rows_at_once(estimator: Any) -> int | str:
    """``predict_batch_size``, which may have been set since fit.

    Raises
    ------
    ValueError
    """
    given = estimator.predict_batch_size
    whole = isinstance(given, Integral) and not isinstance(given, bool)
    if given != "auto" and not (whole and given >= 1):
        raise ValueError(
            f'Expected predict_batch_size to be "auto" or a number of rows. Got {given!r}.'
        )
    return given if given == "auto" else int(given)


def checkpoint_folder(path: str | os.PathLike[str] | None) -> Path | None:
    """The folder for checkpoints, made if need be; better now than after the first epoch.

    Raises
    ------
    ValueError
        There can be no such folder.
    """
    if path is None:
        return None
    folder = Path(path).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            "Expected checkpoint_dir to be a folder that exists or can be made. Got "
            f"{str(folder)!r} ({error.strerror})."
        ) from error
    if not os.access(folder, os.W_OK):
        raise ValueError(f"Expected checkpoint_dir to be writable. Got {str(folder)!r}.")
    return folder
