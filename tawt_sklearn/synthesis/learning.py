"""Training of a synthesizer's network, as its parameters say."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from tawt_sklearn.estimators._interruption import warn_interrupted
from tawt_sklearn.estimators._preparation import Preparation
from tawt_sklearn.estimators._pretrained import Pretrained
from tawt_sklearn.synthesis.data import SynthesisDataset
from tawt_sklearn.synthesis.model import SequenceModel
from tawt_sklearn.synthesis.stated import regressed
from tawt_sklearn.synthesis.training import ActiveUnits, StopOnTheClock, SynthesisNet
from tawt_sklearn.training.pretraining import LossParts
from tawt_sklearn.training.seeding import isolated_torch
from tawt_sklearn.training.trainer import Beginning, Recipe, train

if TYPE_CHECKING:
    from tawt_sklearn.synthesis.synthesizer import SequenceSynthesizer

N_WATCHED = 256
"""Rows whose latents are looked at after every epoch."""

MAX_FEATURE_PATCHES = 128
"""Codes that have a token of their own."""

WARMUP, MOST_WARMUP_EPOCHS = 0.3, 40
"""Share of the epochs, of so many at most, over which the divergence comes to count in full."""

USUAL_EPOCHS, MOST_STEPS, FEWEST_STEPS, FEWEST_EPOCHS = 24, 3600, 700, 10
"""How long training goes on: so many epochs, but fewer of many steps and more of few."""


def learned(
    synthesizer: SequenceSynthesizer,
    data: SynthesisDataset,
    pretrained: Pretrained | None,
    device: torch.device,
    seed: int,
) -> SynthesisNet:
    """The network, trained as the parameters say.

    Parameters
    ----------
    data : SynthesisDataset
        All rows, of which some are held out.
    """
    random = np.random.RandomState(seed)
    order = random.permutation(len(data))
    n_out = min(round(synthesizer.validation_fraction * len(data)), len(data) - 1)
    held_out = data.subset(np.sort(order[:n_out])) if n_out else None
    kept = data.subset(np.sort(order[n_out:]))
    steps = -(-len(kept) // min(synthesizer.batch_size, max(1, len(kept) // 4)))
    n_epochs = epochs_of(synthesizer, steps)
    make_model = partial(
        SequenceModel,
        backbone=backbone_of(synthesizer, pretrained),
        decoder=decoder_of(synthesizer),
        free_bits=synthesizer.free_bits,
        warmup_steps=int(WARMUP * steps * min(n_epochs, MOST_WARMUP_EPOCHS)),
        word_dropout=synthesizer.word_dropout,
    )
    recipe = Recipe(
        max_epochs=n_epochs,
        batch_size=synthesizer.batch_size,
        learning_rate=synthesizer.learning_rate,
        weight_decay=synthesizer.weight_decay,
        warmup_fraction=0.05,
        min_steps=0,
        patience=synthesizer.patience,
        n_average=4,
        scoring="loss",
        stop_early=held_out is not None,
        callbacks=() if synthesizer.max_time is None else (StopOnTheClock(synthesizer.max_time),),
    )
    watched = data.subset(np.sort(order[:N_WATCHED]))
    with isolated_torch(seed, device, n_threads=1):
        model = make_model()
        weights = model.state_dict()
        told = regressed(model.decoder.stated, kept, synthesizer.grammar_.charted)
        weights |= {f"decoder.stated.{name}": table for name, table in told.items()}
        if pretrained is not None:
            own = pretrained.net.weights()
            weights |= {name: w for name, w in own.items() if name.startswith("backbone.")}
        net = train(
            make_model,
            None,
            kept,
            held_out,
            recipe,
            seed=seed,
            device=device,
            label=type(synthesizer).__name__ if synthesizer.verbose else None,
            beginning=Beginning(weights),
            net_type=SynthesisNet,
            observers={"parts": LossParts(), "active": ActiveUnits(watched)},
        )
        net.settle(kept)
    if net.interrupted_:
        warn_interrupted(f"epoch {len(net.history)} of {net.max_epochs}", stacklevel=5)
    return net.prepare_for_prediction()


def epochs_of(synthesizer: SequenceSynthesizer, steps: int) -> int:
    """How many at most, of so many steps."""
    if isinstance(synthesizer.max_epochs, str):
        least = max(FEWEST_EPOCHS, -(-FEWEST_STEPS // steps))
        return max(least, min(USUAL_EPOCHS, MOST_STEPS // steps))
    return synthesizer.max_epochs


def backbone_of(synthesizer: SequenceSynthesizer, pretrained: Pretrained | None) -> dict[str, Any]:
    """Keywords of the encoder's backbone."""
    if pretrained is not None:
        return {**pretrained.net.module.keywords["backbone"], "dropout": synthesizer.dropout}
    return {
        **synthesizer.preparation_.sizes(),
        "d_model": synthesizer.d_model,
        "n_layers": synthesizer.n_layers,
        "n_heads": synthesizer.n_heads,
        "d_feedforward": 2 * synthesizer.d_model,
        "dropout": synthesizer.dropout,
        "max_feature_patches": MAX_FEATURE_PATCHES,
        "patching": "dual",
    }


def decoder_of(synthesizer: SequenceSynthesizer) -> dict[str, Any]:
    """Keywords of the decoder."""
    return {
        **synthesizer.grammar_.sizes(),
        "context_length": synthesizer.context_length,
        "d_latent": synthesizer.d_latent,
        "d_model": synthesizer.d_model,
        "n_layers": synthesizer.n_layers,
        "n_heads": synthesizer.n_heads,
        "dropout": synthesizer.dropout,
    }


def known_preparation(pretrained: Pretrained) -> Preparation:
    """That of the encoder, which must be one of histories."""
    if modalities := getattr(pretrained.preparation, "modalities", None):
        raise ValueError(
            "Expected pretrained to be an encoder of histories alone. Got one with modalities "
            f"{sorted(modalities)}, which are not written. Pretrain another encoder."
        )
    if not isinstance(pretrained.preparation, Preparation):
        raise ValueError(
            "Expected pretrained to be an encoder of histories. Got one of panels. Pretrain it on "
            "as_events(X), which is what a synthesizer makes of a panel."
        )
    return pretrained.preparation


def history_of(net: SynthesisNet) -> pd.DataFrame:
    """Of training: a row for each epoch."""
    table = pd.DataFrame([dict(epoch) for epoch in net.history])
    kept = [
        name
        for name in map(str, table)
        if name.startswith(("train_", "valid_")) and not name.endswith(("_batch_count", "_best"))
    ]
    return table[["epoch", *kept, "active_units", "dur"]].rename(columns={"dur": "seconds"})
