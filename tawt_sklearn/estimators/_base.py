"""What the time-aware estimators share: parameters, training of the members, prediction."""

from __future__ import annotations

from copy import deepcopy
from functools import partial
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.metrics import get_scorer_names
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from skorch.callbacks import Callback
from torch import nn

from tawt_sklearn.estimators._data import Preparation
from tawt_sklearn.exceptions import DataError
from tawt_sklearn.nn.model import DualPatchPredictor
from tawt_sklearn.tokens.sequencer import TripletSequencer
from tawt_sklearn.training.dataset import EventDataset
from tawt_sklearn.training.net import EventNet, decisions
from tawt_sklearn.training.seeding import isolated_torch
from tawt_sklearn.training.trainer import Recipe, holdout, train

BUILT_HERE = {"callbacks", "criterion", "device", "module", "train_split"}
"""Parameters of the skorch net that ``net_params`` cannot replace."""


class TimeAwareEstimator(BaseEstimator):
    """Base of the supervised estimators: an ensemble of dual-patch networks."""

    _parameter_constraints: dict[str, list[Any]] = {
        "d_model": [Interval(Integral, 1, None, closed="left")],
        "n_layers": [Interval(Integral, 1, None, closed="left")],
        "n_heads": [Interval(Integral, 1, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "patching": [StrOptions({"dual", "time", "feature"})],
        "time_encoding": [StrOptions({"time2vec", "sinusoidal"})],
        "n_windows": [Interval(Integral, 1, None, closed="left")],
        "max_feature_patches": [Interval(Integral, 1, None, closed="left")],
        "code_dropout": [Interval(Real, 0, 0.5, closed="both")],
        "window_dropout": [Interval(Real, 0, 0.5, closed="both")],
        "sequencer": [TripletSequencer, None],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "min_steps": [Interval(Integral, 0, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "warmup_fraction": [Interval(Real, 0, 1, closed="both")],
        "early_stopping": [StrOptions({"auto"}), "boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "patience": [Interval(Integral, 1, None, closed="left")],
        "scoring": [str],
        "n_average": [Interval(Integral, 1, None, closed="left")],
        "n_ensemble": [Interval(Integral, 1, None, closed="left")],
        "n_jobs": [Integral, None],
        "device": [str, torch.device, None],
        "random_state": ["random_state"],
        "callbacks": [list, tuple, None],
        "net_params": [dict, None],
        "verbose": ["verbose"],
    }

    def _check_settings(self) -> None:
        """What the table of constraints cannot say: parameters that must fit each other."""
        if self.d_model % self.n_heads:
            raise ValueError(
                f"Expected d_model to be a multiple of n_heads. Got d_model={self.d_model} and "
                f"n_heads={self.n_heads}."
            )
        if self.scoring != "loss" and self.scoring not in get_scorer_names():
            raise ValueError(
                'Expected scoring to be "loss" or the name of a scikit-learn scorer, such as '
                f'"roc_auc". Got {self.scoring!r}.'
            )
        for given in self.callbacks or ():
            callback = given[-1] if isinstance(given, tuple) else given
            if not issubclass(callback if isinstance(callback, type) else type(callback), Callback):
                raise ValueError(
                    "Expected callbacks to hold skorch callbacks or pairs (name, callback). "
                    f"Got {given!r}."
                )
        if taken := sorted(BUILT_HERE & set(self.net_params or {})):
            raise ValueError(
                f"Expected net_params without {sorted(BUILT_HERE)}, which the estimator sets "
                f"itself. Got {taken}. Use the parameters device, callbacks, early_stopping and "
                "validation_fraction."
            )

    def _recipes(self) -> list[Recipe]:
        """One for each member, as members must not share callbacks."""
        recipe = Recipe(
            max_epochs=self.max_epochs,
            min_steps=self.min_steps,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            warmup_fraction=self.warmup_fraction,
            patience=self.patience,
            scoring=self.scoring,
            n_average=self.n_average,
            callbacks=tuple(self.callbacks or ()),
            net_params=dict(self.net_params or {}),
        )
        if self.n_ensemble == 1:
            return [recipe]
        return [deepcopy(recipe) for _ in range(self.n_ensemble)]

    def _architecture(self, preparation: Preparation) -> dict[str, Any]:
        """Keywords of the backbone."""
        return {
            "n_codes": preparation.vocabulary.n_tokens,
            "n_categories": preparation.vocabulary.n_categories,
            "window_edges": preparation.grid.edges.tolist(),
            "horizon": preparation.grid.horizon,
            "n_static_numeric": preparation.statics.n_numeric_,
            "static_cardinalities": tuple(preparation.statics.cardinalities_),
            "d_model": self.d_model,
            "n_layers": self.n_layers,
            "n_heads": self.n_heads,
            "dropout": self.dropout,
            "max_feature_patches": self.max_feature_patches,
            "patching": self.patching,
            "learned_time": self.time_encoding == "time2vec",
        }

    def _train_members(
        self,
        data: EventDataset,
        *,
        backbone: dict[str, Any],
        criterion: type[nn.Module],
        prior: NDArray[np.float64],
        classes: NDArray,
        hold_out: bool,
        device: torch.device,
    ) -> tuple[list[EventNet], pd.DataFrame]:
        """Train ``n_ensemble`` nets that differ in their seed (and in what is held out)."""
        seeds = check_random_state(self.random_state).randint(2**31 - 1, size=self.n_ensemble)
        settings = {
            "model": {
                "prior": prior.tolist(),
                "code_dropout": self.code_dropout,
                "window_dropout": self.window_dropout,
                "head_dropout": min(0.9, 1.5 * self.dropout),
                "backbone": backbone,
            },
            "criterion": criterion,
            "data": data,
            "validation_fraction": self.validation_fraction if hold_out else 0.0,
            "classes": classes,
            "device": device,
        }
        labels = [_label(self, member) for member in range(self.n_ensemble)]
        nets = Parallel(n_jobs=self.n_jobs)(
            delayed(_train_member)(int(seed), label, recipe=recipe, **settings)
            for seed, label, recipe in zip(seeds, labels, self._recipes(), strict=True)
        )
        return nets, _history(nets)

    def _decision(self, X: Any) -> NDArray[np.float64]:
        """Scores of every member (n_members, n, n_outputs).

        Raises
        ------
        DataError
            Scores that are no numbers, rather than handing them on.
        """
        data = self.preparation_.dataset(X)
        with isolated_torch(0, torch.device(self.nets_[0].device), n_threads=1):
            scores = decisions(self.nets_, data).astype(np.float64)
        lost = ~np.isfinite(scores).all(axis=(0, 2))
        if lost.any():
            raise DataError(
                f"Expected finite scores. Got others for {int(lost.sum())} rows, the first at "
                f"position {int(lost.argmax())}: their times or values are too large for single "
                "precision. Compare them with those of the training data."
            )
        return scores


def _label(estimator: TimeAwareEstimator, member: int) -> str | None:
    """Text of a member's progress bar; None shows none."""
    if not estimator.verbose:
        return None
    name = type(estimator).__name__
    return name if estimator.n_ensemble == 1 else f"{name} {member + 1}/{estimator.n_ensemble}"


def _train_member(
    seed: int,
    label: str | None,
    *,
    model: dict[str, Any],
    criterion: type[nn.Module],
    data: EventDataset,
    validation_fraction: float,
    recipe: Recipe,
    classes: NDArray,
    device: torch.device,
) -> EventNet:
    """One member of the ensemble, from its seed."""
    held_out = None
    if validation_fraction:
        kept, out = holdout(data.target, validation_fraction, np.random.RandomState(seed))
        data, held_out = data.subset(kept), data.subset(out)
    with isolated_torch(seed, device, n_threads=1):
        return train(
            partial(DualPatchPredictor, **model),
            criterion,
            data,
            held_out,
            recipe,
            classes=classes,
            seed=seed,
            device=device,
            label=label,
        )


def _history(nets: list[EventNet]) -> pd.DataFrame:
    """One row for each member and epoch."""
    columns = {
        "epoch": "epoch",
        "train_loss": "train_loss",
        "valid_loss": "valid_loss",
        "valid_score": "valid_score",
        "dur": "seconds",
    }
    rows = [
        {"member": member, **{new: epoch[old] for old, new in columns.items() if old in epoch}}
        for member, net in enumerate(nets)
        for epoch in net.history
    ]
    return pd.DataFrame(rows)
