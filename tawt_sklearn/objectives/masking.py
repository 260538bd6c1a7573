"""What pretraining hides: single events, whole windows of time, whole codes.

A mask is a small frozen object.  Called with a batch and its :class:`Space`, it says what it hides;
whatever follows, the exact statistics included, is computed from the events that remain, and
nothing tells the network where the holes are: a hidden code looks like one that was never measured.

Write your own as a frozen dataclass with ``__call__(batch, space) -> Hidden``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from tawt_sklearn.nn.batch import EventBatch
from tawt_sklearn.nn.panel import PanelBatch
from tawt_sklearn.nn.space import Space

Batch = EventBatch | PanelBatch


class Hidden(NamedTuple):
    """What is hidden from the network in one step.

    Attributes
    ----------
    events : (E,) bool, or (B, C, T) of a panel
        Events, or cells, that are hidden, for whatever reason.
    codes : (B, V) bool
        Codes of which all events are hidden, whether there were any or not.
    windows : (B, W) bool
        The same for windows of time.
    """

    events: Tensor
    codes: Tensor
    windows: Tensor

    @classmethod
    def nothing(cls, batch: Batch, space: Space) -> Hidden:
        def none(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.bool, device=batch.device)

        B = len(batch)
        return cls(none(*batch.value.shape), none(B, space.n_codes), none(B, space.n_windows))

    def __or__(self, other: Hidden) -> Hidden:
        return Hidden(*(mine | theirs for mine, theirs in zip(self, other, strict=True)))


class Mask(Protocol):
    """Chooses what to hide; draws from torch's global random state."""

    def __call__(self, batch: Batch, space: Space) -> Hidden: ...


def varying(n_rows: int, n: int, mean_rate: float, device: torch.device) -> Tensor:
    """(n_rows, n) booleans, true with a probability drawn for each row.

    The probability is uniform between 0 and twice its mean, so that the network sees nearly
    complete histories and nearly empty ones.
    """
    rate = 2 * mean_rate * torch.rand(n_rows, 1, device=device)
    return torch.rand(n_rows, n, device=device) < rate


def as_parts(what: str, given: Any) -> tuple[Any, ...]:
    """Masks or augmentations as a tuple, each of which can be called.

    Raises
    ------
    TypeError
    """
    if not isinstance(given, list | tuple) or not all(map(callable, given)):
        raise TypeError(
            f"Expected {what} to be a tuple of objects such as those of tawt_sklearn.objectives. "
            f"Got {given!r}."
        )
    return tuple(given)


def _check_rate(rate: float, largest: float) -> None:
    if not isinstance(rate, Real):
        raise TypeError(f"Expected a rate from 0 to {largest}. Got {rate!r}.")
    if not 0 <= rate <= largest:
        raise ValueError(f"Expected a rate from 0 to {largest}. Got {rate!r}.")


@dataclass(frozen=True)
class HideEvents:
    """Hide single events, each with the same probability.

    Parameters
    ----------
    rate : float, default=0.15
        Share of events that is hidden, from 0 to 1.
    """

    rate: float = 0.15

    def __post_init__(self) -> None:
        _check_rate(self.rate, 1.0)

    def __call__(self, batch: Batch, space: Space) -> Hidden:
        events = torch.rand(batch.value.shape, device=batch.device) < self.rate
        return Hidden.nothing(batch, space)._replace(events=events)


@dataclass(frozen=True)
class HideWindows:
    """Hide whole windows of time, with everything in them.

    Parameters
    ----------
    rate : float, default=0.2
        Mean share of a row's windows that is hidden, from 0 to 0.5; the share itself is drawn for
        each row, uniformly between 0 and twice the mean.
    """

    rate: float = 0.2

    def __post_init__(self) -> None:
        _check_rate(self.rate, 0.5)

    def __call__(self, batch: Batch, space: Space) -> Hidden:
        windows = varying(len(batch), space.n_windows, self.rate, batch.device)
        events = windows[batch.row, space.window(batch)]
        return Hidden.nothing(batch, space)._replace(events=events, windows=windows)


@dataclass(frozen=True)
class HideCodes:
    """Hide whole codes: every event of a code in a row.

    Parameters
    ----------
    rate : float, default=0.2
        Mean share of codes that is hidden, from 0 to 0.5; the share itself is drawn for each row,
        uniformly between 0 and twice the mean.
    """

    rate: float = 0.2

    def __post_init__(self) -> None:
        _check_rate(self.rate, 0.5)

    def __call__(self, batch: Batch, space: Space) -> Hidden:
        codes = varying(len(batch), space.n_codes, self.rate, batch.device)
        events = codes[batch.row, batch.code]
        return Hidden.nothing(batch, space)._replace(events=events, codes=codes)


@dataclass(frozen=True)
class HideRuns:
    """Hide a stretch of time of every code, or channel.

    The stretches of different codes lie in different places, except in some rows, where all codes
    share one: then nothing but time tells what was there.

    Parameters
    ----------
    rate : float, default=0.25
        Mean share of a row's duration that is hidden, from 0 to 0.5; drawn for each row, uniformly
        between 0 and twice the mean.  Stretches may stick out at either end, so that the last
        values are hidden as often as others.
    together : float, default=0.5
        Share of the rows in which all codes have the same stretch.
    """

    rate: float = 0.25
    together: float = 0.5

    def __post_init__(self) -> None:
        _check_rate(self.rate, 0.5)
        _check_rate(self.together, 1.0)

    def __call__(self, batch: Batch, space: Space) -> Hidden:
        first, last = batch.extent()
        B, V = len(batch), space.n_codes
        step = 1.0 if isinstance(batch, PanelBatch) else 0.0  # what a step takes of the duration
        share = 2 * self.rate * torch.rand(B, 1, device=batch.device).clamp(max=0.95)
        # A stretch may stick out at either end, so that all moments are hidden equally often.
        length = share / (1 - share)  # (B, 1)
        begin = torch.rand(B, V, device=batch.device)
        shared = torch.rand(B, 1, device=batch.device) < self.together
        begin = torch.where(shared, begin[:, :1], begin) * (1 + length) - length  # (B, V)
        duration = (last - first + step).clamp(min=1e-12)
        at = (batch.time - first[batch.row] + step / 2) / duration[batch.row]
        since = at - begin[batch.row, batch.code]
        events = (since >= 0) & (since < length.squeeze(1)[batch.row])
        if isinstance(batch, PanelBatch):
            events = events & batch.inside
        return Hidden.nothing(batch, space)._replace(events=events)


def hide(batch: Batch, space: Space, masks: Sequence[Mask]) -> Hidden:
    """Everything that any of the masks hides."""
    hidden = Hidden.nothing(batch, space)
    for mask in masks:
        hidden = hidden | mask(batch, space)
    return hidden
