"""A linear model with an elastic-net penalty, for any target, by accelerated proximal gradients.

The penalty is that of Zou & Hastie, "Regularization and variable selection via the elastic net"
(2005); the algorithm FISTA with backtracking (Beck & Teboulle, "A fast iterative
shrinkage-thresholding algorithm", 2009) and restarts by the gradient (O'Donoghue & Candès,
"Adaptive restart for accelerated gradient schemes", 2015).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from tawt_sklearn.objectives.supervised import Target

MOST_STEPS = 300

PATIENCE = 10
"""Steps over which the objective has to fall by :data:`ENOUGH`, as a share of itself."""

ENOUGH = 1e-4

ROUNDING = 1e-6
"""Of the loss: what single precision may get wrong."""

STEEPEST = 2.0**20
"""Times as steep as the loss is where nothing is known: no step is shorter."""


class Design:
    """Rows as a linear model sees them, with the mean of each column taken off.

    Parameters
    ----------
    rows : (n, d) tensor
        Changed in place.
    weight : (n,) tensor
        Of the rows, with a sum of 1.
    """

    def __init__(self, rows: Tensor, weight: Tensor) -> None:
        lowest, highest = torch.aminmax(rows, dim=0)
        self.mean = torch.where(lowest == highest, lowest, weight @ rows)  # exact where all agree
        self.rows, self.weight = rows.sub_(self.mean), weight
        self.steepness = self._largest_eigenvalue()

    def times(self, w: Tensor) -> Tensor:
        """(d, K) -> (n, K)."""
        return self.rows @ w

    def transposed_times(self, r: Tensor) -> Tensor:
        """(n, K) -> (d, K)."""
        return self.rows.T @ r

    def _largest_eigenvalue(self, n_steps: int = 10) -> float:
        """Of the weighted covariance, by power iteration."""
        v = torch.ones_like(self.mean).unsqueeze(1)
        value = 0.0
        for _ in range(n_steps):
            v = self.transposed_times(self.weight.unsqueeze(1) * self.times(v))
            value = float(v.norm())
            if value == 0.0:
                break
            v = v / value
        return value


class Solution(NamedTuple):
    """Weights (d, K) and biases (K,) of a linear model, of columns whose mean was taken off."""

    w: Tensor
    b: Tensor


def loss_and_gradient(
    target: Target, scores: Tensor, encoded: Tensor, weight: Tensor
) -> tuple[float, Tensor]:
    """Weighted sum of the loss, and its gradient (n, K)."""
    with torch.enable_grad():
        scores = scores.detach().requires_grad_()
        loss = weight.double() @ target.loss(scores, encoded).double()
        (gradient,) = torch.autograd.grad(loss, scores)
    return float(loss.detach()), gradient


def noise_and_curvature(
    target: Target, encoded: Tensor, weight: Tensor, prior: Tensor
) -> tuple[Tensor, Tensor]:
    """Of the loss where nothing is known of a row: mean square of its gradient, and its curvature.

    For each output (K,).  Of a log loss the two are the same.  In double precision, without which
    what is all but certain has none.
    """
    known, even = prior.double(), torch.ones_like(weight, dtype=torch.float64)
    weight = weight.double()

    def gradient(shift: Tensor) -> Tensor:
        scores = (known + shift).expand(len(encoded), -1)
        return loss_and_gradient(target, scores, encoded, even)[1]

    at_prior = gradient(torch.zeros_like(known))
    noise = weight @ at_prior**2
    step = 1e-3
    steps = step * torch.eye(len(prior), dtype=torch.float64)
    bent = [weight @ (gradient(shift) - at_prior)[:, k] / step for k, shift in enumerate(steps)]
    return noise.to(prior), torch.stack(bent).clamp(min=0.0).to(prior)


class _Point(NamedTuple):
    """Weights (d, K) and biases (K,), and the scores of all rows (n, K)."""

    w: Tensor
    b: Tensor
    scores: Tensor

    def beyond(self, other: _Point, share: float) -> _Point:
        """On the line from another one through this one."""
        both = zip(self, other, strict=True)
        return _Point(*(here + share * (here - there) for here, there in both))


@dataclass(frozen=True)
class _Objective:
    """Weighted mean loss + ``l1 |w|_1 + l2/2 |w|_2^2``; without the first penalty it is smooth."""

    design: Design
    target: Target
    encoded: Tensor
    l1: Tensor
    l2: Tensor

    def at(self, w: Tensor, b: Tensor) -> _Point:
        return _Point(w, b, self.design.times(w) + b)

    def smooth(self, point: _Point) -> float:
        return self._loss(point)[0] + self._ridge(point.w)

    def whole(self, point: _Point, smooth: float) -> float:
        return smooth + float((self.l1 * point.w.double().abs()).sum())

    def smooth_and_slopes(self, point: _Point) -> tuple[float, Tensor, Tensor]:
        """The smooth part, and its gradients (d, K) and (K,)."""
        loss, r = self._loss(point)
        slope = self.design.transposed_times(r) + self.l2 * point.w
        return loss + self._ridge(point.w), slope, r.sum(0)

    def _loss(self, point: _Point) -> tuple[float, Tensor]:
        return loss_and_gradient(self.target, point.scores, self.encoded, self.design.weight)

    def _ridge(self, w: Tensor) -> float:
        return float((self.l2 / 2 * w.double().pow(2)).sum())


def solve(
    design: Design, target: Target, encoded: Tensor, start: Solution, l1: Tensor, l2: Tensor
) -> Solution:
    """Weights of least weighted mean loss + ``l1 |w|_1 + l2/2 |w|_2^2``; biases are free.

    Parameters
    ----------
    encoded : (n,) or (n, K) tensor
        Labels.
    start : Solution
        Where to begin, such as the solution with a stronger penalty.
    l1, l2 : (K,) tensor
        Penalties for the weights of each output.
    """
    objective = _Objective(design, target, encoded, l1, l2)
    _, curvature = noise_and_curvature(target, encoded, design.weight, start.b)
    steepness = float(curvature.max().clamp(min=1e-6)) * max(design.steepness, 1.0)
    steepness += float(l2.max())
    steepest = STEEPEST * steepness

    point = ahead = objective.at(*start)
    best, momentum = start, 1.0
    values = [objective.whole(point, objective.smooth(point))]
    for _ in range(MOST_STEPS):
        found = _step(objective, ahead, steepness, steepest, ROUNDING * abs(values[0]))
        if found is None:
            break  # all that single precision can tell
        new, smooth, steepness = found
        if float(((new.w - ahead.w) * (new.w - point.w)).double().sum()) < 0:
            momentum = 1.0  # uphill: begin to gather speed anew
        before, momentum = momentum, (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        point, ahead = new, new.beyond(point, (before - 1) / momentum)
        values.append(objective.whole(point, smooth))
        if values[-1] <= min(values):
            best = Solution(point.w, point.b)
        if len(values) > PATIENCE:
            fallen = values[-1 - PATIENCE] - values[-1]
            if fallen <= ENOUGH * abs(values[-1]):
                break
    return best


def _step(
    objective: _Objective, ahead: _Point, steepness: float, steepest: float, rounding: float
) -> tuple[_Point, float, float] | None:
    """Down the slope and towards zero weights, as far as a bound of the objective holds.

    Returns
    -------
    Where that leads, the smooth part of the objective there, and how steep it was taken to be;
    None where no length of a step is short enough.
    """
    value, slope_w, slope_b = objective.smooth_and_slopes(ahead)
    while True:
        moved = ahead.w - slope_w / steepness
        shrunk = moved.sign() * (moved.abs() - objective.l1 / steepness).clamp(min=0.0)
        new = objective.at(shrunk, ahead.b - slope_b / steepness)
        step_w, step_b = new.w - ahead.w, new.b - ahead.b
        linear = float((slope_w * step_w).double().sum() + (slope_b * step_b).double().sum())
        squared = float(step_w.double().pow(2).sum() + step_b.double().pow(2).sum())
        smooth = objective.smooth(new)
        if smooth <= value + linear + steepness / 2 * squared + rounding:
            return new, smooth, steepness
        if not steepness < steepest:
            return None
        steepness *= 2
