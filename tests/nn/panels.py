"""Random panels, and one row of a batch as the plain arrays that a loop would start from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F

from tawt_sklearn.nn.panel import PanelBatch

LENGTHS = (12, 7, 1, 0, 9)
"""Steps of the rows: one has a single step, one has none."""


def make_panel(
    lengths: Sequence[int] = LENGTHS,
    n_numeric: int = 4,
    cardinalities: Sequence[int] = (),
    missing: float = 0.3,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> PanelBatch:
    """A batch in which the first row has a channel without values and one with a single value."""
    rng = np.random.default_rng(seed)
    B, T, K = len(lengths), max(lengths), len(cardinalities)
    time = np.arange(T) - (T - np.array(lengths))[:, np.newaxis]
    inside = (time >= 0)[:, np.newaxis]
    observed = (rng.random((B, n_numeric + K, T)) >= missing) & inside
    observed[:, n_numeric:] = False
    if n_numeric > 1 and B and missing:
        observed[0, 0] = False
        observed[0, 1] = inside[0] & (np.arange(T) == T - 3)
    category = np.zeros((B, K, T), np.int64)
    for k, count in enumerate(cardinalities):
        category[:, k] = rng.integers(0, count, (B, T)) * inside[:, 0]
    return PanelBatch(
        value=torch.from_numpy(rng.normal(size=observed.shape) * observed).to(dtype),
        observed=torch.from_numpy(observed),
        category=torch.from_numpy(category),
        time=torch.from_numpy(time[:, np.newaxis]).to(dtype),
    )


def of_row(batch: PanelBatch, row: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers (C, L) of a row, NaN where there is none, and codes (K, L), of its own steps."""
    own = batch.time[row, 0].numpy() >= 0
    number = np.where(batch.observed[row].numpy(), batch.value[row].numpy(), np.nan)
    assert not np.any(batch.value[row].numpy()[~batch.observed[row].numpy()])
    return number[:, own], batch.category[row].numpy()[:, own]


def rows(batch: PanelBatch, index: list[int]) -> PanelBatch:
    """The batch that has these rows in this order, no longer than the longest of them."""
    T = max(int(batch.inside[index].sum(2).max()), 1)
    names = ("value", "observed", "category", "time")
    return PanelBatch(**{name: getattr(batch, name)[index][..., -T:] for name in names})


def widened(batch: PanelBatch, more: int) -> PanelBatch:
    """The same rows with columns before the first step of all of them."""
    wide = {name: F.pad(getattr(batch, name), (more, 0)) for name in ("value", "category")}
    before = batch.time[..., :1] - torch.arange(more, 0, -1, dtype=batch.time.dtype)
    observed = F.pad(batch.observed, (more, 0))
    return replace(batch, **wide, observed=observed, time=torch.cat([before, batch.time], dim=2))
