"""What a network's second head sees: statistics of the training rows, side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from tawt_sklearn.nn.summary import SummaryScale, summary_columns
from tawt_sklearn.training.chunks import chunks
from tawt_sklearn.training.dataset import RowDataset
from tawt_sklearn.training.seeding import isolated_torch

CONSTANT = 1e-6
"""A standard deviation below this share of the mean is a matter of rounding."""


def learn_summary(backbone: dict[str, Any], data: RowDataset) -> SummaryScale | None:
    """Means and standard deviations of the columns over the training rows, as they weigh.

    Parameters
    ----------
    backbone : dict
        Keywords of the backbone that reads the same rows.

    Returns
    -------
    SummaryScale, or None where no column differs between rows.
    """
    cpu = torch.device("cpu")
    columns = summary_columns(backbone)
    total = torch.zeros(2, columns.d_out, dtype=torch.float64)
    weight = torch.from_numpy(data.weight.astype(np.float64))
    with isolated_torch(0, cpu, n_threads=1), torch.no_grad():
        for rows in chunks(data.sizes(), 256, cpu, by_size=False):
            told = columns(data.batch(rows).to(cpu, torch.float64))
            own = weight[torch.from_numpy(rows)]
            total += torch.stack([own @ told, own @ told.square()])
    mean, square = (total / weight.sum()).numpy()
    sd = np.sqrt(np.maximum(square - mean**2, 0.0))
    varies = sd > CONSTANT * (1 + np.abs(mean))
    if not varies.any():
        return None
    scale = np.where(varies, 1 / np.where(varies, sd, 1.0), 0.0)
    return SummaryScale(mean.astype(np.float32), scale.astype(np.float32))
