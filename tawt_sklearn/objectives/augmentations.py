"""Other views of the same history: what contrast learns to look past.

An augmentation is a small frozen object.  Called with a batch and its
:class:`~tawt_sklearn.nn.space.Space`, it returns another batch of the same rows; draws come from
torch's global random state.  Write your own as a frozen dataclass with
``__call__(batch, space)``; events must stay in order of row and time.  The fields of a
:class:`~tawt_sklearn.nn.panel.PanelBatch` broadcast to (B, C, T), so that what is written for
events means the same for panels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import torch

from tawt_sklearn.nn.batch import EventBatch
from tawt_sklearn.nn.panel import PanelBatch
from tawt_sklearn.nn.space import Space
from tawt_sklearn.objectives.masking import varying

Batch = TypeVar("Batch", EventBatch, PanelBatch)


class Augmentation(Protocol):
    """Makes another view of a batch."""

    def __call__(self, batch: Batch, space: Space) -> Batch: ...


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"Expected {name} from {low} to {high}. Got {value!r}.")


@dataclass(frozen=True)
class JitterValues:
    """Add noise to every number.

    Parameters
    ----------
    sd : float, default=0.1
        Standard deviation, in units of the scaled values.
    """

    sd: float = 0.1

    def __post_init__(self) -> None:
        _check_range("sd", self.sd, 0.0, math.inf)

    def __call__(self, batch: Batch, space: Space) -> Batch:
        noise = self.sd * torch.randn_like(batch.value)
        return replace(batch, value=batch.value + noise * batch.observed)


@dataclass(frozen=True)
class ScaleValues:
    """Stretch the numbers of each code of each row by a factor near one.

    Parameters
    ----------
    sd : float, default=0.1
        Standard deviation of the factors.
    """

    sd: float = 0.1

    def __post_init__(self) -> None:
        _check_range("sd", self.sd, 0.0, math.inf)

    def __call__(self, batch: Batch, space: Space) -> Batch:
        draws = torch.randn(len(batch), space.n_codes, device=batch.device, dtype=batch.value.dtype)
        return replace(batch, value=batch.value * (1 + self.sd * draws[batch.row, batch.code]))


@dataclass(frozen=True)
class WarpTime:
    """Let time run faster in one part of a history and slower in another.

    The first and the last event keep their times, and events keep their order:
    ``u + a sin(2 pi u) / (2 pi)`` with ``u`` from 0 to 1 over the history.

    Parameters
    ----------
    strength : float, default=0.3
        Largest ``|a|``, below 1; how much faster or slower, at most.
    """

    strength: float = 0.3

    def __post_init__(self) -> None:
        _check_range("strength", self.strength, 0.0, 0.99)

    def __call__(self, batch: Batch, space: Space) -> Batch:
        first, last = batch.extent()
        span = (last - first)[batch.row]
        u = (batch.time - first[batch.row]) / span.clamp(min=1e-12)
        a = self.strength * (2 * torch.rand_like(first) - 1)
        if isinstance(batch, PanelBatch):  # whose steps stay regular: other values come to them
            moved = span * a[batch.row] * (2 * math.pi * u).sin() / (2 * math.pi)
            step = torch.arange(batch.n_steps, device=batch.device) + moved.squeeze(1).round()
            return batch.at(step.long().clamp(max=batch.n_steps - 1)).keep(batch.inside)
        time = batch.time + span * a[batch.row] * (2 * math.pi * u).sin() / (2 * math.pi)
        if ((time.diff() < 0) & (batch.row.diff() == 0)).any():
            # Rounding has exchanged events that were next to simultaneous.
            order = time.argsort(stable=True)
            time = time[order[batch.row[order].argsort(stable=True)]]
        return replace(batch, time=time, age=(batch.age + (batch.time - time)).clamp(min=0))


@dataclass(frozen=True)
class CropHistory:
    """Keep one stretch of time, as if the history had ended with it.

    Parameters
    ----------
    shortest : float, default=0.5
        Smallest share of the history's duration that is kept; the share is uniform up to 1, and
        so is the place of the stretch.
    """

    shortest: float = 0.5

    def __post_init__(self) -> None:
        _check_range("shortest", self.shortest, 0.0, 1.0)

    def __call__(self, batch: Batch, space: Space) -> Batch:
        first, last = batch.extent()
        share = self.shortest + (1 - self.shortest) * torch.rand_like(first)
        before = torch.rand_like(first)  # share of what is cut off that lies before the stretch
        cut_off = (1 - share) * (last - first)
        # Counted from either end, so that a whole history does not lose its last event to rounding.
        return batch.between(first + before * cut_off, last - (1 - before) * cut_off)


@dataclass(frozen=True)
class DropEvents:
    """Leave out single events.

    Parameters
    ----------
    rate : float, default=0.3
        Mean share of a row's events; the share itself is uniform between 0 and twice that.
    """

    rate: float = 0.3

    def __post_init__(self) -> None:
        _check_range("rate", self.rate, 0.0, 0.5)

    def __call__(self, batch: Batch, space: Space) -> Batch:
        rate = 2 * self.rate * torch.rand(len(batch), device=batch.device)
        return batch.keep(torch.rand(batch.value.shape, device=batch.device) >= rate[batch.row])


@dataclass(frozen=True)
class DropCodes:
    """Leave out whole codes.

    Parameters
    ----------
    rate : float, default=0.2
        Mean share of codes; the share itself is uniform between 0 and twice that.
    """

    rate: float = 0.2

    def __post_init__(self) -> None:
        _check_range("rate", self.rate, 0.0, 0.5)

    def __call__(self, batch: Batch, space: Space) -> Batch:
        dropped = varying(len(batch), space.n_codes, self.rate, batch.device)
        return batch.keep(~dropped[batch.row, batch.code])
