"""Mixtures of normal distributions, chances within groups, and curves through knots."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

SMALLEST_SPREAD = 0.02

N_KNOTS, FARTHEST_KNOT = 8, 2.1
"""Of the curves that say what follows a number, by its normal score."""


def hats(x: Tensor) -> Tensor:
    """(..., N_KNOTS) how near numbers are to each knot: a broken line is their weighted sum."""
    step = 2 * FARTHEST_KNOT / (N_KNOTS - 1)
    knot = torch.linspace(-FARTHEST_KNOT, FARTHEST_KNOT, N_KNOTS, device=x.device, dtype=x.dtype)
    inside = x.clamp(-FARTHEST_KNOT, FARTHEST_KNOT).unsqueeze(-1)
    return (1 - (inside - knot).abs() / step).clamp(min=0)


def as_normals(told: Tensor) -> tuple[Tensor, ...]:
    """(N, 3 K) -> log-weights, means and spreads (N, K) of a mixture."""
    weight, mean, spread = told.chunk(3, dim=-1)
    return weight.log_softmax(-1), mean, F.softplus(spread + 0.5) + SMALLEST_SPREAD


def log_normal_mixture(x: Tensor, normals: tuple[Tensor, ...]) -> Tensor:
    """Log-density (N,) of numbers under mixtures of normals (N, K)."""
    weight, mean, spread = normals
    z = (x.unsqueeze(-1) - mean) / spread
    return torch.logsumexp(
        weight - 0.5 * z.square() - spread.log() - 0.5 * math.log(2 * math.pi), -1
    )


def segment_log_softmax(scores: Tensor, owner: Tensor, n: int) -> Tensor:
    """Log-probabilities within the scores of each owner."""
    largest = scores.new_full((n,), -torch.inf)
    largest = largest.scatter_reduce(0, owner, scores.detach(), "amax")
    shifted = scores - largest[owner]
    total = shifted.new_zeros(n).index_add(0, owner, shifted.exp())
    return shifted - total.log()[owner]
