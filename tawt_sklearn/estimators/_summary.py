"""What a network's second head sees: statistics of the training rows, side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tawt_sklearn.exceptions import DataError
from tawt_sklearn.nn.summary import (
    EventColumns,
    PanelColumns,
    Summary,
    SummaryScale,
    summary_columns,
)
from tawt_sklearn.objectives.supervised import MultilabelTarget, NumericTarget, Target
from tawt_sklearn.training.chunks import chunks
from tawt_sklearn.training.dataset import RowDataset
from tawt_sklearn.training.net import EventNet
from tawt_sklearn.training.seeding import isolated_torch
from tawt_sklearn.training.trainer import Beginning

USUAL_MEMBERS = 8

EVEN = 0.5
"""What the head weighs beside that of the patches, unless rows that were left out say otherwise."""

SHARES = np.linspace(0.0, 1.0, 21).round(2)

SHARPNESS = np.linspace(0.5, 1.0, 6)
"""Factors on how far scores are from the prior: a head that is too sure is not a worse one."""

DOUBT = 40.0
"""How much more likely the labels of left-out rows have to be (in logarithms) for a share to be
taken that differs from the usual one by 1, and a quarter of that by a half: a few rows decide
nothing."""

LEFT_OUT = 1 / 3
"""Share of the training rows by which a network that has not seen them chooses."""

SUMMARY_RATE = 0.3
"""Learning rate of the head, as a share of that of the patches: it sees everything at once, and
would know the training rows by heart after a third of the steps (log loss on two folds of PhysioNet
2012: .299 with the full rate, .292 with this one)."""

MOST_COLUMNS = 2**14
"""With more the head would be larger than everything else together."""

CONSTANT = 1e-6
"""A standard deviation below this share of the mean is a matter of rounding."""

KEYWORDS = (
    "summary",
    "n_summary_members",
    "summary_dropout",
    "summary_share",
    "curves_share",
)


def summary_of(net: EventNet) -> dict[str, Any]:
    """Keywords of the head that a network has."""
    built = net.module.keywords
    return {name: built[name] for name in KEYWORDS if name in built}


def learn_summary(
    n_members: int | str,
    dropout: float,
    curves_share: float | None,
    backbone: dict[str, Any],
    data: RowDataset,
) -> dict[str, Any]:
    """Keywords of the head; none where there is to be none.

    Parameters
    ----------
    n_members : int or "auto"
        The parameter ``n_summary_members``.
    dropout : float
        Of its hidden units.
    curves_share : float, optional
        What an additive model of the same columns weighs; None where nobody asks for one.
    backbone : dict
        Keywords of the backbone that reads the same rows.
    """
    none = no_summary(n_members)
    if n_members == 0:
        return none
    with isolated_torch(0, torch.device("cpu"), n_threads=1):
        columns = summary_columns(backbone)
    if n_members == "auto":
        if columns.d_out > MOST_COLUMNS or getattr(data, "beside", None):
            return none
        n_members = USUAL_MEMBERS
    scale = learn_scale(columns, data)
    if not scale.weight.any():
        return none
    return dict(zip(KEYWORDS, (scale, int(n_members), dropout, EVEN, curves_share), strict=True))


def no_summary(n_members: int | str) -> dict[str, Any]:
    """Keywords of a network without the head, which tell what was asked for."""
    return {} if n_members in ("auto", 0) else {"n_summary_members": int(n_members)}


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


def best_share(
    target: Target,
    encoded: NDArray,
    weight: NDArray,
    scores: NDArray[np.float64],
    usual: float,
) -> float:
    """What the second of two models should weigh, by rows that neither was trained on.

    Parameters
    ----------
    encoded : (n,) or (n, K) array
        Labels.
    weight : (n,) array
    scores : (2, n, K) array
    usual : float
        What it weighs unless these rows say otherwise.
    """
    first, second = torch.from_numpy(scores)
    truth, own = torch.from_numpy(encoded), torch.from_numpy(weight).double()
    prior = torch.from_numpy(target.prior)

    def loss(share: float, sharpness: float) -> float:
        both = torch.lerp(first, second, share)
        total = own @ target.loss(torch.lerp(prior, both, sharpness), truth).double()
        return float(total)

    n, shares = float(own.sum()), np.union1d(SHARES, usual)
    if n == 0.0:  # other rows outweigh all of these
        return usual
    least = np.array([min(loss(w, t) for t in SHARPNESS.tolist()) for w in shares.tolist()])
    least = np.array([minus_log_likelihood(target, total, n) for total in least])
    return float(shares[np.argmin(least + DOUBT * (shares - usual) ** 2)])


def minus_log_likelihood(target: Target, total: float, n: float) -> float:
    """Of ``n`` rows with a total loss, but for a constant; of normal errors of unknown variance."""
    if isinstance(target, NumericTarget):
        return n * len(target.prior) / 2 * float(np.log(max(total / n, 1e-12)))
    return total * (len(target.prior) if isinstance(target, MultilabelTarget) else 1)


def learn_scale(columns: EventColumns | PanelColumns, data: RowDataset) -> SummaryScale:
    """Means and standard deviations of the columns over the training rows, as they weigh.

    Raises
    ------
    DataError
        Columns that are no numbers.
    """
    total = np.zeros((2, columns.d_out))
    weight = data.weight.astype(np.float64)
    for rows, told in in_parts(columns, data):
        if not np.isfinite(told).all():
            raise DataError(
                "Expected times and values within single precision (3.4e38). Got larger ones: "
                "statistics of histories are not finite. Use larger units, or leave them out."
            )
        total += [weight[rows] @ told, weight[rows] @ told**2]
    mean, square = total / weight.sum()
    sd = np.sqrt(np.maximum(square - mean**2, 0.0))
    varies = sd > CONSTANT * (1 + np.abs(mean))
    scale = np.where(varies, 1 / np.where(varies, sd, 1.0), 0.0)
    return SummaryScale(mean.astype(np.float32), scale.astype(np.float32))


def in_parts(
    columns: EventColumns | PanelColumns | Summary, data: RowDataset
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Some rows after the other, and their columns in double precision."""
    cpu = torch.device("cpu")
    data = data.alone()  # images would be read for nothing
    with isolated_torch(0, cpu, n_threads=1), torch.no_grad():
        for rows in chunks(data.sizes(), 256, cpu, by_size=False):
            yield rows, columns(data.batch(rows).to(cpu, torch.float64)).numpy()
