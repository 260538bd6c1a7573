"""Exact statistics of every channel of a panel, computed from what is visible.

Pure functions of tensors; the float64 oracle in the tests loops over channels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tawt_sklearn.nn.panel import PanelBatch

PANEL_STATISTICS = (
    "share",
    "log_count",
    "mean",
    "sd",
    "min",
    "max",
    "first",
    "last",
    "change",
    "slope",
    "first_time",
    "last_age",
    "roughness",
)
"""Names of the columns of :func:`panel_statistics`, in order."""


def panel_statistics(value: Tensor, observed: Tensor, time: Tensor, horizon: float) -> Tensor:
    """Statistics of each channel over the whole series.

    Parameters
    ----------
    value, observed : (B, C, T)
        Value, 0 where there is none, and whether there is one.
    time : (B, 1, T)
        Number of the step, negative before the first one of a row.
    horizon : float
        Steps of a typical series; times are given as fractions of it.

    Returns
    -------
    (B, C, len(PANEL_STATISTICS)) tensor
        0 where a statistic is undefined.  The share is of the steps of the row that are observed;
        the slope is the least-squares change of value over one horizon; the roughness is the
        root mean square of differences between neighbouring steps.
    """
    seen = observed.to(value.dtype)
    n_steps = (time >= 0).sum(2).clamp(min=1).to(value.dtype)  # (B, 1)
    count = seen.sum(2)  # (B, C)
    n = count.clamp(min=1)
    some = count > 0
    mean = value.sum(2) / n
    when = (time / horizon).expand_as(value)
    mean_time = (when * seen).sum(2) / n
    # Second pass around the means: exact where one-pass float32 sums of squares are not.
    dv = (value - mean.unsqueeze(2)) * seen
    dt = (when - mean_time.unsqueeze(2)) * seen
    ss_t = (dt * dt).sum(2)
    slope = torch.where(ss_t > 1e-8 * n, (dt * dv).sum(2) / ss_t.clamp(min=1e-12), 0.0)
    smallest = value.masked_fill(~observed, torch.inf).amin(2)
    largest = value.masked_fill(~observed, -torch.inf).amax(2)
    T = value.shape[2]
    order = torch.arange(T, device=value.device)
    first = torch.where(observed, order, T).amin(2).clamp(max=T - 1)  # (B, C)
    last = torch.where(observed, order, -1).amax(2).clamp(min=0)
    first_value = value.gather(2, first.unsqueeze(2)).squeeze(2)
    last_value = value.gather(2, last.unsqueeze(2)).squeeze(2)
    if torch.compiler.is_exporting():  # T - 1 differences would be another graph for T = 2
        before = (order - 1).clamp(min=0)
        both = seen * seen[..., before] * (order > 0)
        jump = (value - value[..., before]) * both
    else:
        both = seen[..., 1:] * seen[..., :-1]
        jump = (value[..., 1:] - value[..., :-1]) * both
    roughness = (jump.square().sum(2) / both.sum(2).clamp(min=1)).sqrt()
    columns = [
        count / n_steps,
        torch.log1p(count),
        mean,
        (dv.square().sum(2) / n).sqrt(),
        torch.where(some, smallest, 0.0),
        torch.where(some, largest, 0.0),
        first_value,
        last_value,
        last_value - first_value,
        slope,
        torch.where(some, when.gather(2, first.unsqueeze(2)).squeeze(2), 0.0),
        torch.where(some, (T - 1 - last).to(value.dtype) / horizon, 0.0),
        roughness,
    ]
    return torch.stack(columns, dim=2)


N_BINS = 16
"""Means of a channel over this many stretches of time tell how it went."""


def bin_width(horizon: float) -> int:
    """Steps in each of these stretches."""
    return max(1, -(-int(horizon + 1) // N_BINS))


def binned(
    value: Tensor, observed: Tensor, inside: Tensor, width: int, n_bins: int
) -> tuple[Tensor, Tensor]:
    """Means and observed shares of bins of ``width`` steps, counted from the end.

    (B, C, T) twice, and (B, 1, T) for the steps that a row has -> (B, C, n_bins) each, the most
    recent bin first.  The last bin holds all that is older, too.
    """
    T = value.shape[2]
    bins = (torch.arange(T - 1, -1, -1, device=value.device) // width).clamp(max=n_bins - 1)
    into = (bins.unsqueeze(1) == torch.arange(n_bins, device=value.device)).to(value.dtype)
    count, n_steps = observed.to(value.dtype) @ into, inside.to(value.dtype) @ into
    return (value @ into) / count.clamp(min=1), count / n_steps.clamp(min=1)


def decayed_panel_means(
    value: Tensor, observed: Tensor, age: Tensor, half_life: Tensor
) -> tuple[Tensor, Tensor]:
    """Means and counts in which a step's weight halves with every half-life before the end.

    Differentiable in ``half_life`` (K,), in steps.  (B, C, T) twice, (1, 1, T) -> (B, C, K) twice:
    weighted means (0 where there is no value) and weighted counts.
    """
    weight = torch.exp(-age.squeeze(0).T * (math.log(2) / half_life))  # (T, K)
    count = observed.to(value.dtype) @ weight
    return (value @ weight) / count.clamp(min=1e-6), count


def channel_statistics(batch: PanelBatch, half_life: Tensor, horizon: float) -> Tensor:
    """All statistics of the numeric channels, which are the first N; gradients to the half-lives.

    -> (B, N, n_channel_statistics(K)).
    """
    N = batch.n_channels - batch.category.shape[1]
    value, observed = batch.value[:, :N], batch.observed[:, :N]
    with torch.no_grad():
        exact = panel_statistics(value, observed, batch.time, horizon)
        course = binned(value, observed, batch.inside, bin_width(horizon), N_BINS)
    means, counts = decayed_panel_means(value, observed, batch.age, half_life)
    return torch.cat([exact, *course, means, torch.log1p(counts)], dim=2)


def n_channel_statistics(n_half_lives: int) -> int:
    """Columns of :func:`channel_statistics`."""
    return len(PANEL_STATISTICS) + 2 * N_BINS + 2 * n_half_lives


def level_columns(n_half_lives: int) -> list[int]:
    """Which of them are levels of a channel: its mean, its last value, its decayed means."""
    first = len(PANEL_STATISTICS) + 2 * N_BINS
    decayed = range(first, first + n_half_lives)
    return [*map(PANEL_STATISTICS.index, ("mean", "last")), *decayed]
