"""Curves of the columns of a summary, learned from labels at once, before any network."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tawt_sklearn.estimators._calibration import N_FOLDS, folds
from tawt_sklearn.estimators._summary import in_parts, minus_log_likelihood
from tawt_sklearn.nn.additive import Curves, pieces, starts_and_slopes
from tawt_sklearn.nn.summary import Summary, SummaryScale, summary_columns
from tawt_sklearn.objectives.supervised import Target
from tawt_sklearn.training.dataset import RowDataset
from tawt_sklearn.training.elastic_net import (
    Design,
    Solution,
    loss_and_gradient,
    noise_and_curvature,
    solve,
)
from tawt_sklearn.training.seeding import isolated_torch

CURVES_SHARE = 1 / 3
"""What the curves weigh beside the two heads of the network."""

MOST_PIECES = 16

MOST_COLUMNS = 2**15
"""Pieces of all columns together; with more columns each has fewer."""

MOST_NUMBERS = 2**28
"""Pieces of all columns and rows together (1 GB, and no more while the strength is chosen); of more
rows as many are drawn: 13,000 with 1,250 columns."""

LEAST_PIECES = 4
"""That a column is thought to have where it has fewer, so that columns take no more room."""

MOST_JUDGES = 4096
"""Rows that the strength of the penalty is chosen with."""

FEWEST_JUDGES = 30
"""With fewer rows the strength is the usual one."""

AT_ONCE = 256
"""Rows whose numbers are cut into pieces at once."""

SHORTEST = 1e-4
"""Standard deviations of a column between two knots, at least."""

USUAL_L1, USUAL_L2 = 0.3, 50.0
"""Penalties of the usual strength, in units that do not depend on the number of rows: of the
standard error of the loss's gradient, and of the loss's curvature by the root of the rows."""

STRENGTHS = (4.0, 1.0, 0.25, 0.0625)
"""Times the usual, from strong to weak."""

STRENGTH_DOUBT = 2.0
"""How much more likely the labels of left-out rows have to be (in logarithms) for a strength of
four times the usual or a quarter to be taken, and four times that for the next: a few rows
decide nothing."""


def learn_curves(model: dict[str, Any], target: Target, data: RowDataset) -> Curves | None:
    """Curves of the columns that the second head of a network sees; None where they say nothing.

    Elastic nets on piecewise linear functions of the columns; three folds of the rows choose the
    strength of the penalty.  On the CPU, whatever the networks are trained on.

    Parameters
    ----------
    model : dict
        Keywords of a ``DualPatchPredictor`` with a summary.
    """
    columns = summary_columns(model["backbone"])
    n_pieces = min(MOST_PIECES, MOST_COLUMNS // columns.d_out)
    if not n_pieces:
        return None
    random = np.random.RandomState(0)
    most = MOST_NUMBERS // (max(n_pieces, LEAST_PIECES) * columns.d_out)
    if len(data) > most:
        data = data.subset(np.sort(random.permutation(len(data))[:most]))
    with isolated_torch(0, torch.device("cpu"), n_threads=1), torch.no_grad():
        summary = standardised(model["summary"], data, model["backbone"])
        weight = data.weight.astype(np.float64)
        knots = place_knots(summary, weight, n_pieces)
        everything = _Rows(
            torch.from_numpy(summary),
            torch.from_numpy(data.target),
            torch.from_numpy(weight),
            starts_and_slopes(torch.from_numpy(knots)),
            target,
        )
        strength = best_strength(everything, target.strata(data.target), random)
        if strength is None:
            return None
        path = _Path(everything)
        solution = path.solved(strength)
        bias = solution.b - path.design.mean @ solution.w
        rise = solution.w.new_zeros(len(everything.is_piece), len(bias))
        rise[everything.is_piece] = solution.w
        rise = rise.view(*knots[:, 1:].shape, -1)
        return Curves(knots, rise.numpy(), bias.numpy()) if rise.any() else None


def standardised(
    scale: SummaryScale, data: RowDataset, backbone: dict[str, Any]
) -> NDArray[np.float32]:
    """(n, d) columns as the second head sees them."""
    summary = Summary(summary_columns(backbone), scale).double()
    seen = np.empty((len(data), summary.d_out), np.float32)
    for rows, told in in_parts(summary, data):
        seen[rows] = told
    return seen


def place_knots(
    x: NDArray[np.float32], weight: NDArray[np.float64], n_pieces: int
) -> NDArray[np.float32]:
    """(d, n_pieces + 1) quantiles of the columns, as the rows weigh.

    A quantile that is hardly beyond the one before it is put where that one is.
    """
    knots = np.empty((x.shape[1], n_pieces + 1), np.float32)
    levels = np.linspace(0.0, weight.sum(), n_pieces + 1)
    for first in range(0, x.shape[1], 64):
        some = slice(first, first + 64)
        order = np.argsort(x[:, some], axis=0, kind="stable")
        values = np.take_along_axis(x[:, some], order, axis=0)
        below = np.cumsum(weight[order], axis=0)
        for q, level in enumerate(levels):
            at = np.minimum((below < level * (1 - 1e-9)).sum(axis=0), len(x) - 1)
            knots[some, q] = np.take_along_axis(values, at[None], axis=0)[0]
    for q in range(1, n_pieces + 1):
        near = knots[:, q] - knots[:, q - 1] < SHORTEST
        knots[near, q] = knots[near, q - 1]
    return knots


@dataclass(frozen=True)
class _Rows:
    """Standardised columns of rows, labels, and the pieces that columns are cut into."""

    x: Tensor
    encoded: Tensor
    weight: Tensor
    where: tuple[Tensor, Tensor]
    target: Target

    def __getitem__(self, rows: NDArray[np.int64]) -> _Rows:
        at = torch.from_numpy(rows)
        return _Rows(self.x[at], self.encoded[at], self.weight[at], self.where, self.target)

    def __len__(self) -> int:
        return len(self.x)

    @property
    def is_piece(self) -> Tensor:
        """(d * Q,) whether a piece has a length."""
        return (self.where[1] > 0).flatten()

    @property
    def prior(self) -> Tensor:
        """(K,) scores of a row of which nothing is known."""
        return torch.tensor(self.target.prior, dtype=torch.float32)

    def pieces(self) -> Tensor:
        """(n, d) how much of each piece lies left of the rows' numbers."""
        told = self.x.new_empty(len(self), int(self.is_piece.sum()))
        for first in range(0, len(self), AT_ONCE):
            some = slice(first, first + AT_ONCE)
            told[some] = self._pieces(some)
        return told

    def scores(self, solution: Solution, mean: Tensor) -> Tensor:
        """(n, K) of a linear model of the pieces, whose mean was taken off, a part at a time."""
        parts = range(0, len(self), AT_ONCE)
        told = [self._pieces(slice(first, first + AT_ONCE)) @ solution.w for first in parts]
        return torch.cat(told) - mean @ solution.w + solution.b

    def _pieces(self, some: slice) -> Tensor:
        return pieces(self.x[some].unsqueeze(-1), *self.where).flatten(1)[:, self.is_piece]

    def loss(self, scores: Tensor) -> float:
        """Weighted sum over the rows."""
        return loss_and_gradient(self.target, scores, self.encoded, self.weight)[0]


class _Path:
    """Elastic nets on some rows, whose penalty goes from strong to weak."""

    def __init__(self, rows: _Rows) -> None:
        self.rows = rows
        weight = (rows.weight / rows.weight.sum()).float()
        self.design = Design(rows.pieces(), weight)
        noise, curvature = noise_and_curvature(rows.target, rows.encoded, weight, rows.prior)
        root = len(rows) ** 0.5
        self.l1, self.l2 = USUAL_L1 * noise.sqrt() / root, USUAL_L2 * curvature / root
        nothing = rows.x.new_zeros(len(self.design.mean), len(rows.prior))
        self.solution = Solution(nothing, rows.prior)

    def solved(self, strength: float) -> Solution:
        """The solution with a weaker penalty than the last one, or the first."""
        penalties = strength * self.l1, strength * self.l2
        rows = self.rows
        self.solution = solve(self.design, rows.target, rows.encoded, self.solution, *penalties)
        return self.solution


def best_strength(
    rows: _Rows, strata: NDArray[np.int64], random: np.random.RandomState
) -> float | None:
    """By the loss of rows that were left out; None where knowing nothing is as good.

    Weaker penalties are tried for as long as they are better.
    """
    judged = np.sort(random.permutation(len(rows))[:MOST_JUDGES])
    if len(judged) < FEWEST_JUDGES or np.bincount(strata[judged]).max() < N_FOLDS:
        return STRENGTHS[1]
    fold = folds(strata[judged], random)
    inside = [rows[judged[fold != k]] for k in range(N_FOLDS)]
    out = [rows[judged[fold == k]] for k in range(N_FOLDS)]
    if not all(float(part.weight.sum()) > 0 for part in inside):  # one row outweighs all others
        return STRENGTHS[1]
    paths = [_Path(part) for part in inside]
    n = float(sum(part.weight.sum() for part in out))

    def unlikely(scores: list[Tensor]) -> float:
        lost = sum(part.loss(told) for part, told in zip(out, scores, strict=True))
        return minus_log_likelihood(rows.target, lost, n)

    least, best = unlikely([rows.prior.expand(len(part), -1) for part in out]), None
    for strength in STRENGTHS:
        both = zip(out, paths, strict=True)
        scores = [part.scores(path.solved(strength), path.design.mean) for part, path in both]
        lost = unlikely(scores) + STRENGTH_DOUBT * math.log(strength, 4) ** 2
        if lost >= least and best is not None:
            break
        if lost < least:
            least, best = lost, strength
    return best
