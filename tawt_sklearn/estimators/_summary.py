"""What a network's second head sees: statistics of the training rows, side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tawt_sklearn.nn.summary import (
    FARTHEST,
    EventColumns,
    PanelColumns,
    SummaryScale,
    summary_columns,
)
from tawt_sklearn.objectives.supervised import ClassTarget, Target
from tawt_sklearn.training.chunks import chunks
from tawt_sklearn.training.dataset import RowDataset
from tawt_sklearn.training.net import EventNet
from tawt_sklearn.training.seeding import isolated_torch
from tawt_sklearn.training.trainer import Beginning

USUAL_MEMBERS = 8

SUMMARY_RATE = 0.3
"""Learning rate of the head, as a share of that of the patches: it sees everything at once, and
would know the training rows by heart after a third of the steps (log loss on two folds of PhysioNet
2012: .299 with the full rate, .292 with this one)."""

MOST_COLUMNS = 2**14
"""With more the head would be larger than everything else together."""

CONSTANT = 1e-6
"""A standard deviation below this share of the mean is a matter of rounding."""

N_ASKED = 1_000
"""Training rows that tell whether the columns say anything."""

STRENGTHS = np.logspace(-1, 2, 4)
"""Of the ridge regression that asks them, by the mean eigenvalue of the rows' products."""

KEYWORDS = ("summary", "n_summary_members", "summary_dropout")


def summary_of(net: EventNet) -> dict[str, Any]:
    """Keywords of the head that a network has."""
    built = net.module.keywords
    return {name: built[name] for name in KEYWORDS if name in built}


def learn_summary(
    n_members: int | str,
    dropout: float,
    backbone: dict[str, Any],
    data: RowDataset,
    target: Target,
) -> dict[str, Any]:
    """Keywords of the head; none where there is to be none.

    Parameters
    ----------
    n_members : int or "auto"
        The parameter ``n_summary_members``.
    dropout : float
        Of its hidden units.
    backbone : dict
        Keywords of the backbone that reads the same rows.
    """
    if n_members == 0:
        return {}
    columns = summary_columns(backbone)
    if n_members == "auto" and (columns.d_out > MOST_COLUMNS or getattr(data, "beside", None)):
        return {}
    scale = learn_scale(columns, data)
    if not scale.weight.any():
        return {}
    if n_members == "auto":
        told = standardised(columns, scale, data, N_ASKED)
        rows = np.arange(len(told))
        if not says_anything(told, numbers_of(target, data.target[rows]), data.weight[rows]):
            return {}
        n_members = USUAL_MEMBERS
    return dict(zip(KEYWORDS, (scale, int(n_members), dropout), strict=True))


def with_summary_head(
    beginning: Beginning, make_module: Callable[[], nn.Module], seed: int, device: torch.device
) -> Beginning:
    """The same with the head that a network has: its own, a freshly drawn one, or none."""
    with isolated_torch(seed, device, n_threads=1):
        drawn = make_module().state_dict()
    own = {name: w for name, w in drawn.items() if name.startswith("summary")}
    kept = {
        name: w
        for name, w in beginning.weights.items()
        if name in own or not name.startswith("summary")
    }
    return replace(beginning, weights=own | kept)


def learn_scale(columns: EventColumns | PanelColumns, data: RowDataset) -> SummaryScale:
    """Means and standard deviations of the columns over the training rows, as they weigh."""
    total = np.zeros((2, columns.d_out))
    weight = data.weight.astype(np.float64)
    for rows, told in in_parts(columns, data, len(data)):
        total += [weight[rows] @ told, weight[rows] @ told**2]
    mean, square = total / weight.sum()
    sd = np.sqrt(np.maximum(square - mean**2, 0.0))
    varies = sd > CONSTANT * (1 + np.abs(mean))
    scale = np.where(varies, 1 / np.where(varies, sd, 1.0), 0.0)
    return SummaryScale(mean.astype(np.float32), scale.astype(np.float32))


def in_parts(
    columns: EventColumns | PanelColumns, data: RowDataset, n_rows: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Some rows after the other, and their columns in double precision."""
    cpu = torch.device("cpu")
    with isolated_torch(0, cpu, n_threads=1), torch.no_grad():
        for rows in chunks(data.sizes()[:n_rows], 256, cpu, by_size=False):
            yield rows, columns(data.batch(rows).to(cpu, torch.float64)).numpy()


def standardised(
    columns: EventColumns | PanelColumns, scale: SummaryScale, data: RowDataset, n_rows: int
) -> NDArray[np.float64]:
    """The first rows, which stand in an order that has nothing to do with labels."""
    parts = [told for _, told in in_parts(columns, data, min(n_rows, len(data)))]
    Z = (np.concatenate(parts) - scale.center) * scale.weight
    return np.clip(Z, -FARTHEST, FARTHEST)


def numbers_of(target: Target, encoded: NDArray) -> NDArray[np.float64]:
    """Encoded labels as columns of numbers (n, K)."""
    if isinstance(target, ClassTarget):
        return np.eye(len(target.prior))[encoded]
    return encoded.reshape(len(encoded), -1).astype(np.float64)


def says_anything(
    Z: NDArray[np.float64], Y: NDArray[np.float64], weight: NDArray[np.floating]
) -> bool:
    """Whether ridge regression does better than the mean on rows that were left out, one by one.

    Better by more than a standard error, with one of the strengths.

    Parameters
    ----------
    Z : (n, d) standardised columns.
    Y : (n, K) numbers.
    weight : (n,)
    """
    if len(Z) < 3:
        return True
    alone, *others = left_out_errors(Z, Y, weight)
    gains = [alone - errors for errors in others]
    return any(gain.mean() > gain.std() / len(Z) ** 0.5 for gain in gains)


def left_out_errors(
    Z: NDArray[np.float64], Y: NDArray[np.float64], weight: NDArray[np.floating]
) -> list[NDArray[np.float64]]:
    """Weighted squared errors (n,) for rows that were left out: of the mean, and of each ridge.

    All of them from one decomposition (Hastie, Tibshirani & Friedman, "The Elements of Statistical
    Learning", section 7.10).
    """
    share = (weight / weight.sum()).astype(np.float64)
    root = np.sqrt(share)[:, None]
    centered, wanted = (Z - share @ Z) * root, (Y - share @ Y) * root
    value, vector = np.linalg.eigh(centered @ centered.T)
    value, turned = np.maximum(value, 0.0), vector.T @ wanted
    told = [((wanted / (1 - share)[:, None]) ** 2).sum(1)]
    for strength in STRENGTHS * max(value.mean(), 1e-12):
        shrunk = value / (value + strength)
        fitted = vector @ (shrunk[:, None] * turned)
        leverage = (vector**2) @ shrunk + share  # that of the mean included
        told.append((((wanted - fitted) / (1 - leverage)[:, None]) ** 2).sum(1))
    return told
