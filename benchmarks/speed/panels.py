"""Training throughput on panels, beside a plain transformer over steps.

    python benchmarks/speed/panels.py

A panel has ``n`` cases of 24 channels and 30 steps; a cell is one channel at one step.  Both train
on one thread with the same width, depth, batches and optimiser, on the same numbers, a tenth of
them missing: ours is the whole of ``TimeAwareRegressor.fit`` (median epoch; batches cut, loss,
backward, step), the peer is an ``nn.TransformerEncoder`` with one token for each step, which takes
values and missing marks of all channels, in a bare loop.
"""

from __future__ import annotations

import argparse
import os
import time

import numpy as np
import torch
from _peers import StepTransformer
from torch import nn

from tawt_sklearn import TimeAwareRegressor

SHAPE = (24, 30)
BATCH = 64


def plain_epoch(X: np.ndarray, y: np.ndarray, d_model: int, n_layers: int) -> float:
    """Seconds of an epoch of the plain transformer, the second of two."""
    torch.manual_seed(0)
    missing = np.isnan(X)
    steps = np.concatenate([np.nan_to_num(X), missing], axis=1).astype(np.float32)
    x, target = torch.from_numpy(steps).transpose(1, 2).contiguous(), torch.from_numpy(y).float()
    net = StepTransformer(*X.shape[1:], d_model, n_layers)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=True)
    for _ in range(2):
        start = time.perf_counter()
        for rows in torch.randperm(len(x)).split(BATCH):
            loss = nn.functional.mse_loss(net(x[rows])[:, 0], target[rows])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
        seconds = time.perf_counter() - start
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=4096)
    parser.add_argument("--d-model", type=int, default=64)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=5)
    options = parser.parse_args()

    rng = np.random.default_rng(0)
    X = rng.normal(size=(options.cases, *SHAPE)).cumsum(axis=2)
    X[rng.random(X.shape) < 0.1] = np.nan
    y = np.nanmean(X[:, 0], axis=1)
    torch.set_num_threads(1)
    model = TimeAwareRegressor(
        d_model=options.d_model,
        n_layers=options.layers,
        batch_size=BATCH,
        max_epochs=options.epochs,
        min_steps=0,
        n_ensemble=1,
        random_state=0,
        device="cpu",
    )
    seconds = model.fit(X, y).history_["seconds"].median()
    plain = plain_epoch(X, y, options.d_model, options.layers)
    n_tokens = (
        1 + SHAPE[0] + len(model.nets_[0].module_.backbone.temporal_patches.granularities[0].place)
    )
    print(
        f"{len(X):,} cases of {SHAPE[0]} channels and {SHAPE[1]} steps, d_model={options.d_model}, "
        f"{options.layers} layers, 1 thread of {os.cpu_count()}"
    )
    print(f"dual patches, {n_tokens} tokens: {X.size / seconds:,.0f} cells/s in training")
    print(f"nn.TransformerEncoder, {SHAPE[1]} tokens: {X.size / plain:,.0f} cells/s")
    print(f"ratio {plain / seconds:.2f}")
    start = time.perf_counter()
    model.predict(X)
    print(f"predict: {X.size / (time.perf_counter() - start):,.0f} cells/s in double precision")


if __name__ == "__main__":
    main()
