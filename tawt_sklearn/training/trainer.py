"""One training run: from a data set and a recipe to a trained net."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch
from numpy.typing import NDArray
from skorch.callbacks import Callback, GradientNormClipping
from skorch.helper import predefined_split
from torch import Tensor, nn
from torch.utils.data import DataLoader

from tawt_sklearn.exceptions import DataError, TrainingError
from tawt_sklearn.objectives.pretraining import SumOfParts
from tawt_sklearn.objectives.supervised import Target, WeightedLoss
from tawt_sklearn.training.callbacks import (
    AverageCheckpoints,
    FollowFirst,
    GradualUnfreezing,
    ProgressBar,
    StopWhenDiverged,
    StopWithoutGain,
    ValidationScore,
)
from tawt_sklearn.training.checkpoint import Checkpoint, fingerprint
from tawt_sklearn.training.chunks import rows_of_items
from tawt_sklearn.training.dataset import RowDataset, whole_batch
from tawt_sklearn.training.distributed import joined
from tawt_sklearn.training.net import EventNet
from tawt_sklearn.training.processes import Processes
from tawt_sklearn.training.schedule import SCHEDULES, FollowSchedule

FEW_STEPS = 300
"""With fewer the head for statistics side by side has a higher learning rate."""


@dataclass(frozen=True)
class Recipe:
    """How to train; most fields are the estimator's parameters of the same names.

    Attributes
    ----------
    stop_early : bool
        Whether the validation data decide when to stop and which checkpoints to average; else
        they are only looked at.
    incremental : bool
        One of many short runs: the learning rate stays what it is, without warm-up and cosine,
        and the optimizer's moments are kept for the next run.
    encoder_learning_rate : float, optional
        Of the backbone, where it was pretrained and is to learn more slowly than the head.
    summary_learning_rate : float, optional
        Of the head for statistics side by side; higher where there are few steps.
    gradual : bool
        Whether the layers of a pretrained backbone join one after the other, the last one first.
    compiled : bool
        The parameter ``compile``.
    """

    max_epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    warmup_fraction: float
    min_steps: int
    patience: int
    n_average: int
    scoring: str
    stop_early: bool = True
    incremental: bool = False
    encoder_learning_rate: float | None = None
    summary_learning_rate: float | None = None
    gradual: bool = False
    schedule: str = "cosine"
    max_grad_norm: float | None = 1.0
    accumulate_steps: int = 1
    precision: str = "auto"
    compiled: bool = False
    callbacks: Sequence[Callback] = ()
    net_params: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Beginning:
    """Where a run starts when not from nothing.

    Attributes
    ----------
    optimizer, scaler : dict, optional
        What the optimizer of that run, and its scaler of gradients in float16, had come to know.
    share : float
        Of these weights in the mean of them and of what training has made of them, which is what
        comes out (Wortsman et al., "Robust fine-tuning of zero-shot models", 2022).
    """

    weights: dict[str, Tensor]
    optimizer: dict[Any, Any] | None = None
    scaler: dict[str, Any] | None = None
    share: float = 0.0

    @classmethod
    def after(cls, net: EventNet) -> Beginning:
        """To go on from where a run has ended."""
        return cls(
            net.weights(),
            net.optimizer_.state_dict()["state"] or None,
            None if net.scaler_ is None else net.scaler_.state_dict(),
        )


def train(
    make_module: Callable[[], nn.Module],
    target: Target | None,
    data: RowDataset,
    held_out: RowDataset | None,
    recipe: Recipe,
    *,
    seed: int,
    device: torch.device,
    label: str | None = None,
    beginning: Beginning | None = None,
    checkpoint: Path | None = None,
    watcher: Callback | None = None,
    net_type: type[EventNet] = EventNet,
    observers: Mapping[str, Callback] | None = None,
) -> EventNet:
    """Train one net; of several processes that were started together, each calls this.

    Call inside :func:`~tawt_sklearn.training.seeding.isolated_torch`: the module's initial
    weights and everything random in it are drawn from torch's global generator.

    Parameters
    ----------
    make_module : callable
        Makes the module; something that can be pickled, as the net keeps it.
    target : Target or None
        What the labels of ``data`` are and what the scores mean; None where the module computes
        parts of a loss that needs no labels.
    held_out : RowDataset, optional
        Data for early stopping and the choice of checkpoints; without them training runs for
        all its epochs and the last checkpoints are averaged.
    label : str, optional
        Text of the progress bar; None shows none.
    checkpoint : Path, optional
        File to write the run to after every epoch, and to take it up from where it exists.
    watcher : skorch callback, optional
        Follows the run and is not kept by the net.
    net_type : type
        Kind of net.
    observers : dict of skorch callbacks
        Further ones, called before the validation score is.
    """
    processes = joined(device)
    # torch takes no numpy integers, which is what searches over parameters draw.
    batch_size = int(recipe.batch_size * recipe.accumulate_steps)
    batch_size = min(batch_size, max(1, len(data) // 4))
    n_parts = math.ceil(batch_size / (recipe.batch_size * processes.number))
    steps_per_epoch = math.ceil(len(data) / batch_size)
    n_epochs = int(max(recipe.max_epochs, math.ceil(recipe.min_steps / steps_per_epoch)))
    stop_early = recipe.stop_early and held_out is not None

    shape = SCHEDULES[recipe.schedule]
    schedule = FollowSchedule(shape(n_epochs * steps_per_epoch, recipe.warmup_fraction))
    average = AverageCheckpoints(recipe.n_average, by_score=stop_early)
    generator = torch.Generator().manual_seed(seed)
    writer = None if checkpoint is None else Checkpoint(checkpoint, schedule, average, generator)
    steps: dict[str, Callback | None] = {
        "clip": recipe.max_grad_norm and GradientNormClipping(recipe.max_grad_norm),
        "diverged": StopWhenDiverged(),
        "schedule": None if recipe.incremental else schedule,
        "gradual": GradualUnfreezing(n_epochs) if recipe.gradual else None,
        **(observers or {}),
        "valid_score": ValidationScore(recipe.scoring, target),
        "follow": FollowFirst() if processes.number > 1 else None,
        "average": average,
        "progress": ProgressBar(label) if label is not None and processes.is_first else None,
        "early_stopping": StopWithoutGain(recipe.patience) if stop_early else None,
    }
    ours = [(name, callback) for name, callback in steps.items() if callback is not None]
    # Last, so that an epoch in which some callback ends the run is done again when resumed.
    last = [] if writer is None else [("checkpoint", writer)]
    watching = [] if watcher is None else [("watcher", watcher)]
    settings: dict[str, Any] = {
        "optimizer": torch.optim.AdamW,
        "optimizer__weight_decay": recipe.weight_decay,
        "lr": recipe.learning_rate,
        "max_epochs": n_epochs,
        "batch_size": batch_size,
        "iterator_train": DataLoader,
        "iterator_train__shuffle": True,
        "iterator_train__collate_fn": whole_batch,
        "iterator_train__generator": generator,
        "iterator_valid": DataLoader,
        "iterator_valid__collate_fn": whole_batch,
        "iterator_valid__batch_size": 64
        if target is None
        else _validated_at_once(held_out, device),
        "iterator_valid__generator": torch.Generator(),  # else torch's, which dropout draws from
        "train_split": None if held_out is None else predefined_split(held_out),
        "callbacks": [*ours, *watching, *recipe.callbacks, *last],
        "verbose": 0,
        "device": str(device),
        "encoder_lr": recipe.encoder_learning_rate,
        "summary_lr": _summary_rate(recipe, n_epochs * steps_per_epoch),
        "precision": recipe.precision,
        "n_parts": n_parts,
        "compiled": recipe.compiled,
        **recipe.net_params,
    }
    others = {"optimizer", "optimizer__foreach", "optimizer__differentiable"}
    if not others & set(recipe.net_params):
        settings.setdefault("optimizer__fused", True)  # one kernel instead of many; not all have it
    criterion = SumOfParts() if target is None else WeightedLoss(target)
    with processes.together():
        _require_same_data(processes, data, held_out)
        net = net_type(make_module, criterion, **settings).initialize()
        net.processes = processes
        if getattr(net.module_, "only_compares", False):
            _require_pairs(batch_size, n_parts * processes.number, len(data))
        if beginning is not None:
            beginning = replace(
                beginning, weights=processes.told(beginning.weights, "the first weights")
            )
            _begin_at(net, beginning)
        processes.align(net.module_)
        processes.part_ways(seed, device)
        state = None
        if writer is not None:
            state = processes.first(lambda: writer.read(recipe.callbacks), "the checkpoint")
        if writer is None or state is None:
            net.run(data)
        elif state["finished"]:
            writer.resume(net, state)
        else:
            net.run(data, partial(writer.resume, state=state))
        done_before = state is not None and state["finished"]
        if beginning is not None and beginning.share and not recipe.incremental and not done_before:
            pull_back(net, beginning)
        if writer is not None and not net.cut_short_ and processes.is_first:
            writer.finish(net, recipe.callbacks)
        _require_same_weights(processes, net)
    del net.processes
    # What only training needs, held-out rows for instance, would travel inside every pickle.
    net.train_split = None
    net.callbacks = [*ours, *recipe.callbacks]
    net.callbacks_ = [pair for pair in net.callbacks_ if pair[1] not in (watcher, writer)]
    if not recipe.incremental:
        net.optimizer_.state.clear()
    return net


def _summary_rate(recipe: Recipe, n_steps: int) -> float | None:
    """Higher where there are few steps, up to the rate of everything else."""
    rate = recipe.summary_learning_rate
    if rate is None or recipe.incremental:
        return rate
    return min(rate * max(1.0, FEW_STEPS / n_steps), max(rate, recipe.learning_rate))


def _begin_at(net: EventNet, beginning: Beginning) -> None:
    net.module_.load_state_dict(beginning.weights)
    if beginning.optimizer is not None:
        groups = net.optimizer_.state_dict()["param_groups"]
        net.optimizer_.load_state_dict({"state": beginning.optimizer, "param_groups": groups})
    if beginning.scaler and net.scaler_ is not None:
        net.scaler_.load_state_dict(beginning.scaler)


def _require_pairs(batch_size: int, n_parts: int, n_rows: int) -> None:
    """Rows that are compared with each other must come in twos at least.

    Raises
    ------
    DataError
    """
    if batch_size // n_parts < 2:
        parts = f" in {n_parts} parts (accumulate_steps, processes)" if n_parts > 1 else ""
        raise DataError(
            "Expected at least 2 rows at a time where the objective only compares rows with each "
            f"other. Got batches of {batch_size}{parts} from {n_rows} rows; a batch has at most a "
            'quarter of them. Give more rows, raise batch_size, or add objective="masked".'
        )


def _require_same_data(processes: Processes, *data: RowDataset | None) -> None:
    """Each process takes its share of all rows, so it has to have all of them.

    Raises
    ------
    DataError
    """
    if processes.number == 1:
        return
    if not processes.meet("the rows to train on", detail=crc32(fingerprint(None, *data).encode())):
        raise DataError(
            f"Expected the same rows in all {processes.number} processes of the job. Got others "
            "in another one. Give all rows to fit in each of them, and prepare them without "
            "random numbers or with a fixed seed: training itself gives each process its share."
        )


def _require_same_weights(processes: Processes, net: EventNet) -> None:
    """At the end all processes must have the same weights.

    Raises
    ------
    TrainingError
    """
    if processes.number == 1:
        return
    total = 0
    for tensor in net.module_.state_dict().values():
        total = crc32(tensor.cpu().reshape(-1).view(torch.uint8).numpy().tobytes(), total)
    if not processes.meet("the end of training", detail=total):
        raise TrainingError(
            f"Expected the same weights in all {processes.number} processes of the job after "
            "training. Got others in another one. A callback or an optimizer in net_params must "
            "do the same in all of them: do not let it draw random numbers or look at the clock."
        )


def pull_back(net: EventNet, beginning: Beginning) -> None:
    """Towards the weights that the run has started from, where these were pretrained."""
    with torch.no_grad():
        for name, parameter in net.module_.named_parameters():
            if name.startswith("summary_head."):
                continue
            parameter.lerp_(beginning.weights[name].to(parameter), beginning.share)


def _validated_at_once(data: RowDataset | None, device: torch.device) -> int:
    """Rows whose loss is computed at once, without gradients."""
    return 256 if data is None else rows_of_items(data.n_items(), 256, device)


def untrained(
    make_module: Callable[[], nn.Module],
    target: Target,
    data: RowDataset,
    held_out: RowDataset | None,
    beginning: Beginning,
    device: torch.device,
    precision: str = "auto",
) -> EventNet:
    """A net that is as it begins, with one line of history: its loss on the data."""
    start = time.perf_counter()
    net = EventNet(
        make_module,
        WeightedLoss(target),
        optimizer=torch.optim.AdamW,
        iterator_valid=DataLoader,
        iterator_valid__collate_fn=whole_batch,
        iterator_valid__batch_size=_validated_at_once(data, device),
        iterator_valid__generator=torch.Generator(),
        train_split=None,
        verbose=0,
        device=str(device),
        precision=precision,
    ).initialize()
    net.module_.load_state_dict(beginning.weights)
    net.history.new_epoch()
    net.history.record("epoch", 1)
    for name, rows in (("train_loss", data), ("valid_loss", held_out)):
        if rows is not None:
            batches = net.get_iterator(rows, training=False)
            total = sum(float(net.validation_step(b)["loss"]) * len(b[0]) for b in batches)
            net.history.record(name, total / len(rows))
    net.history.record("dur", time.perf_counter() - start)
    return net


def holdout(
    strata: NDArray[np.int64], fraction: float, random: np.random.RandomState
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows to train on and rows to hold out, the latter ``fraction`` of every stratum.

    Every stratum keeps at least one row to learn from.

    Raises
    ------
    DataError
        If ``fraction`` of every stratum rounds to no row at all.
    """
    shuffled = random.permutation(len(strata))
    order = shuffled[np.argsort(strata[shuffled], kind="stable")]  # grouped by stratum
    counts = np.bincount(strata)
    n_out = np.minimum(np.round(counts * fraction), np.maximum(counts - 1, 0))
    if not n_out.any():
        raise DataError(
            "Expected validation_fraction to hold out at least one label of a class. Got "
            f"validation_fraction={fraction} of {counts.max()} labels of the largest class. Raise "
            "it, or set early_stopping=False."
        )
    rank = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    out = rank < np.repeat(n_out, counts)
    return np.sort(order[~out]), np.sort(order[out])
