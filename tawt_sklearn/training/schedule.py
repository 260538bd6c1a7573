"""Learning rate over the steps of a training run."""

from __future__ import annotations

import math
from dataclasses import dataclass


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
