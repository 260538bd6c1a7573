"""Exact statistics of the events of each (row, code), computed from what is visible.

Pure functions of tensors; the float64 oracle in the tests loops over segments.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

STATISTICS = (
    "log_count",
    "log_n_values",
    "mean",
    "sd",
    "min",
    "max",
    "first",
    "last",
    "change",
    "slope",
    "first_time",
    "last_time",
    "last_age",
    "last_value_age",
)
"""Names of the columns of :func:`segment_statistics`, in order."""


def segment_sum(source: Tensor, segment: Tensor, n_segments: int) -> Tensor:
    """(E, K) summed by segment -> (n_segments, K)."""
    total = source.new_zeros(n_segments, source.shape[1])
    return total.index_add_(0, segment, source)


def segment_extreme(source: Tensor, segment: Tensor, filled: Tensor, reduce: str) -> Tensor:
    """(E,) smallest (``"amin"``) or largest (``"amax"``) by segment; 0 where not ``filled``."""
    if source.is_floating_point():
        limit: float = torch.inf
    else:
        limit = torch.iinfo(source.dtype).max
    # Faster than include_self=False.
    out = source.new_full(filled.shape, limit if reduce == "amin" else -limit)
    return torch.where(filled, out.scatter_reduce(0, segment, source, reduce=reduce), 0)


def only(
    chosen: Tensor, segment: Tensor, n_segments: int, *columns: Tensor
) -> tuple[Tensor, int, list[Tensor]]:
    """The chosen (E,) events: their segments, the number of segments, and their columns.

    Sizes in an exported graph must not depend on the data.  There all events stay, and those that
    were not chosen lie in one more segment, the last one, which the caller cuts off
    (:func:`without_rest`).
    """
    if torch.compiler.is_exporting():
        return torch.where(chosen, segment, n_segments), n_segments + 1, [*columns]
    kept = chosen.nonzero().squeeze(1)
    return segment.index_select(0, kept), n_segments, [c.index_select(0, kept) for c in columns]


def without_rest(told: Tensor, n_segments: int) -> Tensor:
    """What is told of the segments, without that of the events that were not chosen."""
    return told if told.shape[0] == n_segments else told[:n_segments]  # a slice has a backward


def segment_statistics(
    segment: Tensor,
    value: Tensor,
    observed: Tensor,
    time: Tensor,
    age: Tensor,
    n_segments: int,
    horizon: float,
) -> Tensor:
    """Statistics of the events of each segment; a segment is one code of one row.

    Parameters
    ----------
    segment : (E,) int64
        Segment of each event.  Events of a segment come in order of time.
    value, observed : (E,)
        Value, and whether there is one.
    time, age : (E,)
        Time since the row's origin and until its end.
    n_segments : int
    horizon : float
        Length of a typical history; times are given as fractions of it.

    Returns
    -------
    (n_segments, len(STATISTICS)) tensor
        0 where a statistic is undefined: no event, or for statistics of values no value.  The
        slope is the least-squares change of value over one horizon, 0 for fewer than two times.
    """
    time, age = time / horizon, age / horizon
    ones = torch.ones_like(value)
    count = segment_sum(ones[:, None], segment, n_segments).squeeze(1)
    some = count > 0
    order = torch.arange(segment.shape[0], device=segment.device)
    first_event = segment_extreme(order, segment, some, "amin")
    last_event = segment_extreme(order, segment, some, "amax")

    s, n_kept, (v, t, a) = only(observed, segment, n_segments, value, time, age)
    sums = segment_sum(torch.stack([torch.ones_like(v), v, t], dim=1), s, n_kept)
    n, sum_v, sum_t = sums.unbind(1)
    valued = n > 0
    safe_n = n.clamp(min=1)
    mean, mean_t = sum_v / safe_n, sum_t / safe_n
    # Second pass around the means: exact where one-pass float32 sums of squares are not.
    dv, dt = v - mean.index_select(0, s), t - mean_t.index_select(0, s)
    squares = segment_sum(torch.stack([dv * dv, dt * dt, dt * dv], dim=1), s, n_kept)
    ss_v, ss_t, ss_tv = squares.unbind(1)
    sd = (ss_v / safe_n).sqrt()
    # Below this spread of time the events are simultaneous and a slope means nothing.
    sloped = ss_t > 1e-8 * safe_n
    slope = torch.where(sloped, ss_tv / ss_t.clamp(min=1e-12), 0.0)

    smallest = segment_extreme(v, s, valued, "amin")
    largest = segment_extreme(v, s, valued, "amax")
    rank = torch.arange(s.shape[0], device=s.device)
    first_value = segment_extreme(rank, s, valued, "amin")
    last_value = segment_extreme(rank, s, valued, "amax")

    def pick(source: Tensor, index: Tensor, where: Tensor) -> Tensor:
        if torch.compiler.is_exporting():
            source = torch.cat([source, source.new_zeros(1)])  # there is always one to pick
        elif len(source) == 0:
            return torch.zeros_like(where, dtype=source.dtype)
        return torch.where(where, source.index_select(0, index), 0.0)

    first, last = pick(v, first_value, valued), pick(v, last_value, valued)
    columns = [
        torch.log1p(count),
        torch.log1p(n),
        mean,
        sd,
        smallest,
        largest,
        first,
        last,
        last - first,
        slope,
        pick(time, first_event, some),
        pick(time, last_event, some),
        pick(age, last_event, some),
        pick(a, last_value, valued),
    ]
    return torch.stack([without_rest(column, n_segments) for column in columns], dim=1)


RECENT_STATISTICS = ("log_n_values", "mean", "min", "max")
"""Names of the columns of :func:`recent_statistics`, in order."""


def recent_statistics(
    segment: Tensor, value: Tensor, observed: Tensor, age: Tensor, n_segments: int, length: float
) -> Tensor:
    """A few statistics of the values of the last ``length`` before the end.

    Arguments as for :func:`segment_statistics`; ``length`` has the unit of ``age``.

    Returns
    -------
    (n_segments, len(RECENT_STATISTICS)) tensor
        0 where there is no such value.
    """
    s, n_kept, (v,) = only(observed & (age <= length), segment, n_segments, value)
    n, total = segment_sum(torch.stack([torch.ones_like(v), v], 1), s, n_kept).unbind(1)
    smallest = segment_extreme(v, s, n > 0, "amin")
    largest = segment_extreme(v, s, n > 0, "amax")
    columns = [torch.log1p(n), total / n.clamp(min=1), smallest, largest]
    return without_rest(torch.stack(columns, dim=1), n_segments)


def decayed_means(
    segment: Tensor,
    value: Tensor,
    observed: Tensor,
    age: Tensor,
    half_life: Tensor,
    n_segments: int,
) -> Tensor:
    """Means and counts in which an event's weight halves with every half-life before the end.

    Differentiable in ``half_life`` (K,), which has the unit of ``age``.

    Returns
    -------
    (n_segments, 2 K) tensor
        K weighted means (0 where no value), then K values of log1p(weighted count).
    """
    # Not exp2, whose last digit depends on where in the tensor a number stands.
    weight = torch.exp(-age.unsqueeze(1) * (math.log(2) / half_life))  # (E, K)
    weight = weight * observed.unsqueeze(1)
    sums = segment_sum(torch.cat([weight, weight * value.unsqueeze(1)], 1), segment, n_segments)
    count, total = sums.chunk(2, dim=1)
    return torch.cat([total / count.clamp(min=1e-6), torch.log1p(count)], dim=1)


RECENT_SHARES = (1 / 2, 1 / 6)
"""The last half and the last sixth of the horizon have statistics of their own."""

HALF_LIVES = (-1.4, -0.3)
"""Logarithms to base 10 of the shortest and the longest half-life, from 4 % of the horizon to half
of it."""


def half_lives(horizon: float, n: int) -> Tensor:
    """(n,) half-lives in the unit of the horizon."""
    return horizon * torch.logspace(*HALF_LIVES, n)


def n_code_statistics(n_half_lives: int) -> int:
    """Columns of :func:`code_statistics`."""
    return len(STATISTICS) + len(RECENT_SHARES) * len(RECENT_STATISTICS) + 2 * n_half_lives


def code_statistics(
    segment: Tensor,
    value: Tensor,
    observed: Tensor,
    time: Tensor,
    age: Tensor,
    half_life: Tensor,
    n_segments: int,
    horizon: float,
) -> Tensor:
    """All statistics: of the whole history, of its last parts, and decayed with half-lives (K,).

    Arguments as for :func:`segment_statistics`; only the half-lives get gradients.

    Returns
    -------
    (n_segments, n_code_statistics(K)) tensor
    """
    # In single precision: an event on the border is then on the same side of it in training and
    # in predictions, which are made in double precision.
    recent = [float(np.float32(horizon * share)) for share in RECENT_SHARES]
    with torch.no_grad():
        exact = [segment_statistics(segment, value, observed, time, age, n_segments, horizon)]
        exact += [
            recent_statistics(segment, value, observed, age, n_segments, length)
            for length in recent
        ]
    decayed = decayed_means(segment, value, observed, age, half_life, n_segments)
    return torch.cat([*exact, decayed], dim=1)
