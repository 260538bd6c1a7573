"""One run of pretraining: from an encoder's parameters and data to a trained net."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from itertools import permutations
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
import torch
from joblib import cpu_count
from sklearn.utils import check_random_state

from tawt_sklearn.estimators._interruption import warn_interrupted
from tawt_sklearn.estimators._modalities import EVENTS, FUSED, named_by_content
from tawt_sklearn.estimators._settings import checkpoint_folder
from tawt_sklearn.estimators._staged import with_own_weights
from tawt_sklearn.objectives.pretraining import Pretrainer
from tawt_sklearn.training.checkpoint import fingerprint
from tawt_sklearn.training.dataset import RowDataset
from tawt_sklearn.training.distributed import joined
from tawt_sklearn.training.pretraining import LossParts, PretrainingNet, Representation
from tawt_sklearn.training.seeding import isolated_torch
from tawt_sklearn.training.trainer import Beginning, Recipe, train

N_WATCHED = 256
"""Rows whose embeddings are looked at after every epoch, for signs of collapse."""

N_MEASURED = 2048
"""Rows by which the coordinates of the embedding are chosen in the end."""


def recipe_of(encoder: Any) -> Recipe:
    """How the parameters say that an encoder is to be trained."""
    return Recipe(
        max_epochs=encoder.max_epochs,
        min_steps=encoder.min_steps,
        batch_size=encoder.batch_size,
        learning_rate=encoder.learning_rate,
        weight_decay=encoder.weight_decay,
        schedule=encoder.schedule,
        warmup_fraction=encoder.warmup_fraction,
        max_grad_norm=encoder.max_grad_norm,
        accumulate_steps=encoder.accumulate_steps,
        precision=encoder.precision,
        compiled=encoder.compile,
        patience=encoder.max_epochs,
        scoring="loss",
        n_average=1,
        stop_early=False,
        callbacks=tuple(encoder.callbacks or ()),
        net_params=dict(encoder.net_params or {}),
    )


def check_objectives(encoder: Any, objectives: tuple[Any, ...]) -> None:
    """What objectives, pooling and modalities ask of each other.

    Raises
    ------
    ValueError
    """
    apart = [one.name for one, _ in objectives if getattr(one, "apart", False)]
    if encoder.modalities is None:
        if apart:
            raise ValueError(
                f"Expected modalities for the objective {apart[0]!r}, which compares them "
                'with histories. Got modalities=None. Pass {"column": ImageEncoder()}.'
            )
        return
    called = [EVENTS, *encoder.modalities, FUSED]
    for one, other in permutations(called, 2):
        if re.fullmatch(re.escape(one) + r"\d+", other):
            raise ValueError(
                f"Expected names of modalities none of which is {one!r} and digits: columns of "
                f"embeddings are called so. Got {other!r}. Rename the column."
            )
    if encoder.pooling == "codes":
        raise ValueError(
            'Expected another pooling than "codes" with modalities, which are fused with a '
            'narrow embedding. Got pooling="codes".'
        )
    if len(apart) == len(objectives) and encoder.fusion != "concat":
        raise ValueError(
            f'Expected fusion="concat" with objective={apart[0]!r} alone: it trains each '
            f"embedding, and not their fusion. Got fusion={encoder.fusion!r}. Or add "
            'objective="masked".'
        )


def threads(n_jobs: int | None) -> int:
    """Their number, wherever this runs; a worker of joblib does not change it."""
    if n_jobs is None:
        return 1
    return n_jobs if n_jobs > 0 else max(1, cpu_count() + 1 + n_jobs)


def pretrain(
    encoder: Any,
    model: dict[str, Any],
    data: RowDataset,
    held_out: RowDataset | None,
    device: torch.device,
    recipe: Recipe,
    beginning: Beginning | None = None,
    turn: int = 0,
) -> PretrainingNet:
    """One run from a seed, the ``turn``-th of this encoder.

    Parameters
    ----------
    model : dict
        Keywords of :class:`Pretrainer`.
    held_out : RowDataset, optional
        Rows whose loss is recorded.
    beginning : Beginning, optional
        Where the run starts when not from nothing.
    """
    processes = joined(device)
    random = check_random_state(encoder.random_state)
    if turn and isinstance(encoder.random_state, Integral):
        random = np.random.RandomState([int(encoder.random_state), turn])
    seed = processes.told(int(random.randint(2**31 - 1)), "the seed")
    folder = checkpoint_folder(encoder.checkpoint_dir)
    n_threads = threads(encoder.n_jobs)  # how sums are split is part of the result
    make_module = partial(Pretrainer, **model)
    if beginning is None:
        modalities = model.get("modalities")
        beginning = with_own_weights(make_module, modalities, seed, device, n_threads)
    checkpoint = None
    if folder is not None and not recipe.incremental:
        start = beginning and {name: w.numpy() for name, w in beginning.weights.items()}
        named = named_by_content(model)
        settings = [replace(recipe, callbacks=()), named, seed, start, str(device), n_threads]
        settings += processes.as_setting
        checkpoint = folder / f"{fingerprint(settings, data, held_out)}.tawt"
    some = np.random.RandomState(seed).permutation(len(data))
    with isolated_torch(seed, device, n_threads=n_threads):
        net = train(
            make_module,
            None,
            data,
            held_out,
            recipe,
            seed=seed,
            device=device,
            label=type(encoder).__name__ if encoder.verbose else None,
            beginning=beginning,
            checkpoint=checkpoint,
            net_type=PretrainingNet,
            observers={
                "parts": LossParts(),
                "representation": Representation(data.subset(np.sort(some[:N_WATCHED]))),
            },
        )
        reached = f"epoch {len(net.history)} of {net.max_epochs}"
        measured = data.subset(np.sort(some[:N_MEASURED]))
        # Later runs may see a few odd rows only.
        if len(measured) >= int(net.module_.coordinates.n_rows):
            with processes.together():
                try:
                    net.measure(measured)
                except KeyboardInterrupt:
                    net.interrupted_, reached = True, f"{reached}, without a scaling of embeddings"
                processes.align(net.module_)
    if net.interrupted_:
        warn_interrupted(reached, stacklevel=5)
    return net.prepare_for_prediction()


def history_of_run(net: PretrainingNet, before: pd.DataFrame | None = None) -> pd.DataFrame:
    """One row for each epoch, after those of earlier runs."""
    done = 0 if before is None else int(before["epoch"].max())
    history = pd.DataFrame([dict(epoch) for epoch in net.history])
    kept = [
        name
        for name in map(str, history)
        if name.startswith(("train_", "valid_"))
        and not name.endswith(("_batch_count", "_best", "_score"))
    ]
    kept += [name for name in ("effective_rank", "alignment", "uniformity") if name in history]
    history = pd.concat(
        [done + history["epoch"], history[kept], history["dur"].rename("seconds")], axis=1
    )
    return history if before is None else pd.concat([before, history], ignore_index=True)
