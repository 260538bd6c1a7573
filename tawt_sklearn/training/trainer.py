"""One training run: from a data set and a recipe to a trained net."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch.callbacks import Callback, EarlyStopping, GradientNormClipping, LRScheduler
from skorch.helper import predefined_split
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from tawt_sklearn.exceptions import DataError
from tawt_sklearn.training.callbacks import (
    AverageCheckpoints,
    ProgressBar,
    StopWhenDiverged,
    ValidationScore,
)
from tawt_sklearn.training.dataset import EventDataset, whole_batch
from tawt_sklearn.training.net import EventNet
from tawt_sklearn.training.schedule import WarmupCosine


@dataclass(frozen=True)
class Recipe:
    """How to train; the fields are the estimator's parameters of the same names."""

    max_epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    warmup_fraction: float
    min_steps: int
    patience: int
    n_average: int
    scoring: str
    callbacks: Sequence[Callback] = ()
    net_params: dict[str, Any] = field(default_factory=dict)


def train(
    make_module: Callable[[], nn.Module],
    criterion: type[nn.Module],
    data: EventDataset,
    held_out: EventDataset | None,
    recipe: Recipe,
    *,
    classes: NDArray,
    seed: int,
    device: torch.device,
    label: str | None,
) -> EventNet:
    """Train one net.

    Call inside :func:`~tawt_sklearn.training.seeding.isolated_torch`: the module's initial
    weights and everything random in it are drawn from torch's global generator.

    Parameters
    ----------
    make_module : callable
        Makes the module; something that can be pickled, as the net keeps it.
    held_out : EventDataset, optional
        Data for early stopping and the choice of checkpoints; without them training runs for
        all its epochs and the last checkpoints are averaged.
    label : str, optional
        Text of the progress bar; None shows none.
    """
    # torch takes no numpy integers, which is what searches over parameters draw.
    batch_size = int(min(recipe.batch_size, max(1, len(data) // 4)))
    steps_per_epoch = math.ceil(len(data) / batch_size)
    n_epochs = max(recipe.max_epochs, math.ceil(recipe.min_steps / steps_per_epoch))
    schedule = WarmupCosine(n_epochs * steps_per_epoch, recipe.warmup_fraction)
    scheduler = LRScheduler(LambdaLR, lr_lambda=schedule, step_every="batch")
    callbacks: list[tuple[str, Callback]] = [
        ("clip", GradientNormClipping(1.0)),
        ("diverged", StopWhenDiverged()),
        ("schedule", scheduler),
        ("valid_score", ValidationScore(recipe.scoring, classes)),
        ("average", AverageCheckpoints(recipe.n_average)),
    ]
    if held_out is not None:
        # A threshold relative to the score would have the wrong sign where scores are negative.
        stopping = EarlyStopping(
            "valid_score",
            patience=recipe.patience,
            threshold=0.0,
            lower_is_better=False,
            sink=_silent,
        )
        callbacks.append(("early_stopping", stopping))
    if label is not None:
        callbacks.append(("progress", ProgressBar(label)))
    settings: dict[str, Any] = {
        "optimizer": torch.optim.AdamW,
        "optimizer__weight_decay": recipe.weight_decay,
        "optimizer__fused": True,
        "lr": recipe.learning_rate,
        "max_epochs": n_epochs,
        "batch_size": batch_size,
        "iterator_train": DataLoader,
        "iterator_train__shuffle": True,
        "iterator_train__collate_fn": whole_batch,
        "iterator_train__generator": torch.Generator().manual_seed(seed),
        "iterator_valid": DataLoader,
        "iterator_valid__collate_fn": whole_batch,
        "iterator_valid__batch_size": 256,
        "train_split": None if held_out is None else predefined_split(held_out),
        "callbacks": [*callbacks, *recipe.callbacks],
        "verbose": 0,
        "device": str(device),
        **recipe.net_params,
    }
    net = EventNet(make_module, criterion, **settings)
    net.fit(data, None)
    # What only training needs, held-out rows included, would travel inside every pickle.
    net.train_split = None
    net.optimizer_.state.clear()
    vars(scheduler).pop("lr_scheduler_", None)
    return net


def _silent(*_: Any) -> None:
    """Where skorch's early stopping reports to."""


def holdout(
    target: NDArray[np.int64], fraction: float, random: np.random.RandomState
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows to train on and rows to hold out, the latter ``fraction`` of every class.

    Every class keeps at least one row to learn from.

    Raises
    ------
    DataError
        If ``fraction`` of every class rounds to no row at all.
    """
    shuffled = random.permutation(len(target))
    order = shuffled[np.argsort(target[shuffled], kind="stable")]  # grouped by class
    counts = np.bincount(target)
    n_out = np.minimum(np.round(counts * fraction), counts - 1)
    if not n_out.any():
        raise DataError(
            "Expected validation_fraction to hold out at least one label of a class. Got "
            f"validation_fraction={fraction} of {counts.max()} labels of the largest class. Raise "
            "it, or set early_stopping=False."
        )
    rank = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    out = rank < np.repeat(n_out, counts)
    return np.sort(order[~out]), np.sort(order[out])
