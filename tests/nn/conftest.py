"""Small batches of events for the network's tests."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from tawt_sklearn.nn.batch import EventBatch


@pytest.fixture
def make_batch() -> Callable[..., EventBatch]:
    """Factory of random batches; rows may be empty, values and categories missing."""

    def make(
        n_rows: int = 5,
        n_codes: int = 7,
        n_categories: int = 0,
        mean_events: int = 12,
        seed: int = 0,
        n_static_numeric: int = 0,
        cardinalities: tuple[int, ...] = (),
        dtype: torch.dtype = torch.float32,
    ) -> EventBatch:
        rng = np.random.default_rng(seed)
        lengths = rng.poisson(mean_events, n_rows)
        lengths[n_rows // 2] = 0
        row = np.repeat(np.arange(n_rows), lengths)
        E = len(row)
        time = np.round(rng.uniform(0, 48, E), 1)
        time = time[np.lexsort((time, row))]
        observed = rng.random(E) < 0.8
        static = rng.normal(size=(n_rows, n_static_numeric))
        static[rng.random(static.shape) < 0.3] = np.nan
        category = rng.integers(0, n_categories + 1, E) * (~observed)
        return EventBatch(
            row=torch.from_numpy(row),
            code=torch.from_numpy(rng.integers(0, n_codes, E)),
            value=torch.from_numpy(rng.normal(size=E) * observed).to(dtype),
            observed=torch.from_numpy(observed),
            category=torch.from_numpy(category),
            time=torch.from_numpy(time).to(dtype),
            age=torch.from_numpy(48 - time).to(dtype),
            static_numeric=torch.from_numpy(static).to(dtype),
            static_category=torch.from_numpy(
                np.stack([rng.integers(0, c, n_rows) for c in cardinalities], 1)
                if cardinalities
                else np.zeros((n_rows, 0), np.int64)
            ),
        )

    return make
