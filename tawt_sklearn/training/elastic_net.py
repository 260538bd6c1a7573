"""A linear model with an elastic-net penalty, for any target, by accelerated proximal gradients.

The penalty is that of Zou & Hastie, "Regularization and variable selection via the elastic net"
(2005); the algorithm FISTA with backtracking (Beck & Teboulle, "A fast iterative
shrinkage-thresholding algorithm", 2009) and restarts by the gradient (O'Donoghue & Candès,
"Adaptive restart for accelerated gradient schemes", 2015).
"""

from __future__ import annotations

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

    For each output (K,).  Of a log loss the two are the same.
    """
    scores = prior.expand(len(encoded), -1)
    _, gradient = loss_and_gradient(target, scores, encoded, torch.ones_like(weight))
    noise = weight @ gradient**2
    step, bent = 1e-3, torch.zeros_like(prior)
    for k in range(len(prior)):
        shift = torch.zeros_like(prior)
        shift[k] = step
        _, above = loss_and_gradient(target, scores + shift, encoded, torch.ones_like(weight))
        bent[k] = weight @ (above - gradient)[:, k] / step
    return noise, bent.clamp(min=0.0)


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
    weight = design.weight
    _, curvature = noise_and_curvature(target, encoded, weight, start.b)
    steepness = float(curvature.max().clamp(min=1e-6)) * max(design.steepness, 1.0)
    steepness += float(l2.max())
    steepest = STEEPEST * steepness

    def ridge(w: Tensor) -> float:
        return float((l2 / 2 * w.double().pow(2)).sum())

    def smooth(scores: Tensor, w: Tensor) -> float:
        return loss_and_gradient(target, scores, encoded, weight)[0] + ridge(w)

    def lasso(w: Tensor) -> float:
        return float((l1 * w.double().abs()).sum())

    w, b, momentum = start.w, start.b, 1.0
    at_w = design.times(w) + b
    ahead_w, ahead_b, ahead = w, b, at_w
    objectives = [smooth(at_w, w) + lasso(w)]
    best = start
    for _ in range(MOST_STEPS):
        loss, r = loss_and_gradient(target, ahead, encoded, weight)
        value = loss + ridge(ahead_w)
        slope_w, slope_b = design.transposed_times(r) + l2 * ahead_w, r.sum(0)
        while True:
            moved = ahead_w - slope_w / steepness
            new_w = moved.sign() * (moved.abs() - l1 / steepness).clamp(min=0.0)
            new_b = ahead_b - slope_b / steepness
            at_new = design.times(new_w) + new_b
            step_w, step_b = new_w - ahead_w, new_b - ahead_b
            linear = float((slope_w * step_w).double().sum() + (slope_b * step_b).double().sum())
            squared = float(step_w.double().pow(2).sum() + step_b.double().pow(2).sum())
            new_value = smooth(at_new, new_w)
            bound = value + linear + steepness / 2 * squared
            if new_value <= bound + ROUNDING * abs(objectives[0]):
                break
            if not steepness < steepest:
                return best  # all that single precision can tell
            steepness *= 2
        if float((step_w * (new_w - w)).double().sum()) < 0:  # uphill: begin to gather speed anew
            momentum = 1.0
        before, momentum = momentum, (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        share = (before - 1) / momentum
        ahead_w, ahead_b = new_w + share * (new_w - w), new_b + share * (new_b - b)
        ahead = at_new + share * (at_new - at_w)
        w, b, at_w = new_w, new_b, at_new
        objectives.append(new_value + lasso(w))
        if objectives[-1] <= min(objectives):
            best = Solution(w, b)
        if len(objectives) > PATIENCE:
            fallen = objectives[-1 - PATIENCE] - objectives[-1]
            if fallen <= ENOUGH * abs(objectives[-1]):
                break
    return best
