"""From real time to features."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

Waves = tuple[tuple[float, ...], tuple[float, ...]]
"""Angular frequencies and phases of some sines."""


def log_frequencies(n: int, shortest: float, longest: float) -> Tensor:
    """``n`` angular frequencies whose periods lie evenly on a log scale.  Returns (n,)."""
    periods = torch.logspace(math.log10(longest), math.log10(shortest), max(n, 1))[:n]
    return 2 * math.pi / periods


class Time2Vec(nn.Module):
    """A linear trend and sines of learned frequency: ``t -> [w0 t + b0, sin(w t + b)]``.

    Kazemi et al., "Time2Vec: Learning a Vector Representation of Time", 2019.  Frequencies start
    evenly on a log scale between the data's own shortest and longest time scales, so that the
    unit of time does not matter.

    Parameters
    ----------
    d_out : int
        Width of the features.
    shortest, longest : float
        Periods covered at the start, in the clock's unit.
    learned : bool, default=True
        False keeps the frequencies fixed (the sinusoidal encoding).
    waves : Waves, optional
        Frequencies and phases of the first sines, in place of what they would be.
    """

    def __init__(
        self,
        d_out: int,
        shortest: float,
        longest: float,
        learned: bool = True,
        waves: Waves | None = None,
    ) -> None:
        super().__init__()
        n_sines = d_out - 1
        frequency = log_frequencies(n_sines, shortest, longest)
        # Pairs of sine and cosine at the start: phases alternate between 0 and a quarter turn.
        phase = (torch.arange(n_sines) % 2) * (math.pi / 2)
        if waves is not None:
            given = torch.tensor(waves)[:, :n_sines]  # (2, n)
            frequency[: given.shape[1]], phase[: given.shape[1]] = given
        slope = torch.tensor([1.0 / longest])
        self.frequency = nn.Parameter(torch.cat([slope, frequency]), requires_grad=learned)
        self.phase = nn.Parameter(torch.cat([torch.zeros(1), phase]), requires_grad=learned)

    def forward(self, time: Tensor) -> Tensor:
        """(...,) times -> (..., d_out) features."""
        angle = time.unsqueeze(-1) * self.frequency + self.phase
        return torch.cat([angle[..., :1], angle[..., 1:].sin()], dim=-1)
