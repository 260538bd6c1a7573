"""Learning rate over the steps of a training run."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from skorch.callbacks import Callback


@dataclass(frozen=True)
class WarmupCosine:
    """Factor on the learning rate: up in a line, then down along half a cosine to ``floor``.

    A class rather than a closure, so that a fitted net can be pickled.
    """

    n_steps: int
    warmup_fraction: float = 0.1
    floor: float = 0.01

    def __call__(self, step: int) -> float:
        warmup = max(1, round(self.warmup_fraction * self.n_steps))
        if step < warmup:
            return (step + 1) / warmup
        done = min(1.0, (step - warmup) / max(1, self.n_steps - warmup))
        return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * done))


@dataclass(frozen=True)
class OneCycle:
    """Up along half a cosine from a 25th, then down along half a cosine to almost nothing.

    Smith & Topin, "Super-Convergence: Very Fast Training of Neural Networks Using Large Learning
    Rates", 2019; the usual fractions.  The rise takes ``warmup_fraction`` of the steps.
    """

    n_steps: int
    warmup_fraction: float = 0.3
    start: float = 1 / 25
    end: float = 1e-4

    def __call__(self, step: int) -> float:
        warmup = max(1, round(self.warmup_fraction * self.n_steps))
        if step < warmup:
            return 1 + (self.start - 1) * 0.5 * (1 + math.cos(math.pi * step / warmup))
        done = min(1.0, (step - warmup) / max(1, self.n_steps - warmup))
        return self.end + (1 - self.end) * 0.5 * (1 + math.cos(math.pi * done))


@dataclass(frozen=True)
class WarmupConstant:
    """Up in a line, then as it is."""

    n_steps: int
    warmup_fraction: float = 0.1

    def __call__(self, step: int) -> float:
        return min(1.0, (step + 1) / max(1, round(self.warmup_fraction * self.n_steps)))


SCHEDULES = {"cosine": WarmupCosine, "one-cycle": OneCycle, "constant": WarmupConstant}
"""Values of the ``schedule`` parameter."""


class FollowSchedule(Callback):
    """Set the learning rate before every training step.

    The rate depends on the number of the step alone, so that a run goes on where it was stopped.

    Parameters
    ----------
    factor : callable
        Number of the step -> factor on the learning rates that the optimizer started with.
    """

    def __init__(self, factor: Callable[[int], float]) -> None:
        self.factor = factor

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        self.step_ = 0
        self.base_ = [group["lr"] for group in net.optimizer_.param_groups]

    def on_batch_begin(self, net: Any, training: bool = False, **kwargs: Any) -> None:
        if training:
            factor = self.factor(self.step_)
            for group, base in zip(net.optimizer_.param_groups, self.base_, strict=True):
                group["lr"] = base * factor
            self.step_ += 1
