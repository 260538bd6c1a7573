"""The coordinates that an embedding is given in, and that linear heads see."""

from __future__ import annotations

import torch
from torch import Tensor, nn

ROUNDING = 1e-6
"""Embeddings whose columns spread no more than this are all the same."""


class Coordinates(nn.Module):
    """A fixed affine map of embeddings: centred, and scaled by what was learned of them.

    Parameters
    ----------
    d : int
        Width of the embedding.
    turning : bool
        Whether directions are scaled; else columns are.

    Attributes
    ----------
    center : (d,) tensor
        What is taken off.
    axes : (d, d) tensor, or (d,)
        What the rest is multiplied by.
    n_rows : int64 tensor
        How many rows have chosen them; 0 as long as the map changes nothing.
    """

    center: Tensor
    axes: Tensor
    n_rows: Tensor

    def __init__(self, d: int, turning: bool) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(d))
        self.register_buffer("axes", torch.eye(d) if turning else torch.ones(d))
        self.register_buffer("n_rows", torch.zeros((), dtype=torch.int64))

    @property
    def turning(self) -> bool:
        return self.axes.dim() == 2

    def forward(self, embedding: Tensor) -> Tensor:
        """(B, d) -> (B, d)."""
        centred = embedding - self.center
        return centred @ self.axes if self.turning else centred * self.axes

    def choose(self, embedding: Tensor, views: Tensor | None) -> None:
        """By (n, d) embeddings of whole histories, and (n, K, d) of them with parts hidden."""
        if views is None:
            center, axes = standardising(embedding)
        else:
            center, axes = by_reliability(embedding, views)
        self.center.copy_(center)
        self.axes.copy_(axes)
        self.n_rows.fill_(len(embedding))


def standardising(embedding: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (d,) of (n, d) embeddings, and the factors (d,) that give them unit variance.

    A column without any spread stays without influence, rather than get all of it.
    """
    spread = embedding.std(0, correction=0)
    largest = spread.max() if spread.max() > ROUNDING else 1.0
    return embedding.mean(0), 1 / torch.where(spread > 1e-3 * largest, spread, largest)


def by_reliability(embedding: Tensor, views: Tensor) -> tuple[Tensor, Tensor]:
    """Center and axes in which a direction is as wide as it is reliable.

    Rows differ from each other, and one row's embedding differs from itself when part of its
    history is hidden.  The first is signal and the second noise; a direction's standard deviation
    becomes its ratio of total to noise variance.  A penalty on the size of coefficients, a
    distance or a principal component then trust directions as far as they can be trusted.

    With the square root of the ratio the noise would be the same in all directions, which is
    within-class covariance normalisation (Hatch, Kajarekar & Stolcke, "Within-class covariance
    normalization for SVM-based speaker recognition", 2006); here every row is a class.

    Both covariances are shrunk towards equal variances, the more so the fewer rows there are.

    Parameters
    ----------
    embedding : (n, d) tensor
        Of whole histories.
    views : (n, K, d) tensor
        Of the same histories, K times with something hidden, K at least 2.

    Returns
    -------
    center : (d,) tensor
    axes : (d, d) tensor
        The mean variance of a coordinate is 1.  Where all rows are the same, or hiding changes
        nothing, columns are standardised and no more.
    """
    n, d = embedding.shape
    center, factor = standardising(embedding)
    z = (embedding - center) * factor
    total = z.T @ z / n
    away = ((views - views.mean(1, keepdim=True)) * factor).flatten(0, 1)
    noise = away.T @ away / (len(away) - n)
    alike = embedding.std(0, correction=0).max() <= ROUNDING
    if alike or not noise.trace() > ROUNDING**2 * total.trace():
        return center, torch.diag(factor)
    inverse = _power(_shrunk(noise, n), -1)
    # Of all maps with these widths the symmetric one: a coordinate stays close to its column.
    axes = _power(inverse @ _shrunk(total, n) @ inverse, 0.5)
    width = ((axes @ total @ axes).trace() / d).sqrt()
    return center, factor.unsqueeze(1) * axes / width


def _shrunk(covariance: Tensor, n: int) -> Tensor:
    """Towards equal variances, the more so the fewer rows there are for a column."""
    d = len(covariance)
    share = d / (n + d)
    equal = covariance.trace() / d * torch.eye(d, dtype=covariance.dtype)
    return (1 - share) * covariance + share * equal


def _power(symmetric: Tensor, exponent: float) -> Tensor:
    values, vectors = torch.linalg.eigh(symmetric)
    values = values.clamp(min=1e-9 * values.max())
    return (vectors * values**exponent) @ vectors.T
