"""Where a network with modalities starts: weights from elsewhere, or from a stage of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tawt_sklearn.exceptions import DataError
from tawt_sklearn.nn.model import ModalityPredictor
from tawt_sklearn.objectives.supervised import Target
from tawt_sklearn.training.dataset import EventDataset, RowDataset
from tawt_sklearn.training.seeding import isolated_torch
from tawt_sklearn.training.trainer import Beginning, Recipe, train

FEWEST = 8
"""Rows with an item; with fewer there is no stage of their own."""


def with_own_weights(
    make_module: Callable[[], nn.Module],
    modalities: Mapping[str, Any] | None,
    seed: int,
    device: torch.device,
    n_threads: int = 1,
) -> Beginning | None:
    """The weights that modalities bring with them, all others as they are drawn.

    None where they bring none: the network then starts as it is made.
    """
    if not any(modality.own_weights for modality in (modalities or {}).values()):
        return None
    return Beginning(_drawn(make_module, modalities or {}, seed, device, n_threads))


def _drawn(
    make_module: Callable[[], nn.Module],
    modalities: Mapping[str, Any],
    seed: int,
    device: torch.device,
    n_threads: int,
) -> dict[str, Tensor]:
    with isolated_torch(seed, device, n_threads=n_threads):
        module: Any = make_module()
        for modality, tokens in zip(modalities.values(), module.beside.encoders, strict=True):
            modality.begin(tokens.encoder)
        return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def after_own_stage(
    make_module: Callable[[], nn.Module],
    model: dict[str, Any],
    target: Target,
    data: RowDataset,
    held_out: RowDataset | None,
    recipe: Recipe,
    seed: int,
    device: torch.device,
) -> Beginning:
    """Weights in which the network of each modality has learned from the labels alone.

    Parameters
    ----------
    model : dict
        Keywords of :class:`DualPatchPredictor`, which ``make_module`` makes.
    """
    modalities = model["modalities"]
    weights = _drawn(make_module, modalities, seed, device, n_threads=1)
    recipe = replace(recipe, compiled=False, callbacks=(), encoder_learning_rate=None)
    for k, (name, modality) in enumerate(modalities.items()):
        prefix = f"beside.encoders.{k}."
        rows, out = (None if one is None else _with_items(one, name) for one in (data, held_out))
        if rows is None or len(rows) < FEWEST:
            _refuse_untrained(name, modality, rows)
            continue
        keywords = {
            "prior": model["prior"],
            "name": name,
            "modality": modality,
            "head_dropout": model["head_dropout"],
            "backbone": model["backbone"],
        }
        alone = partial(ModalityPredictor, **keywords)
        with isolated_torch(seed, device, n_threads=1):
            start = dict(alone().state_dict())
            for part, tensor in weights.items():
                if part.startswith(prefix):
                    start[f"tokens.{part.removeprefix(prefix)}"] = tensor
            net = train(
                alone,
                target,
                rows,
                out if out is not None and len(out) else None,
                recipe,
                seed=seed,
                device=device,
                beginning=Beginning(start),
            )
        for part, tensor in net.weights().items():
            if part.startswith("tokens."):
                weights[prefix + part.removeprefix("tokens.")] = tensor
    return Beginning(weights)


def _refuse_untrained(name: str, modality: Any, rows: RowDataset | None) -> None:
    """There is no stage; what would stay as it is then has to come with weights.

    Raises
    ------
    DataError
    """
    if modality.freeze and not modality.own_weights:
        raise DataError(
            f"Expected {FEWEST} rows with an item in column {name!r} at least, for the network of "
            "a modality with freeze=True to learn from in its own stage. Got "
            f"{0 if rows is None else len(rows)}. Give more, or set freeze=False."
        )


def _with_items(data: RowDataset, name: str) -> RowDataset:
    """The rows that have an item."""
    assert isinstance(data, EventDataset)
    return data.subset(np.flatnonzero(data.beside[name].counts()))
