"""The coordinates that an embedding is given in, and that linear heads see."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Coordinates(nn.Module):
    """A fixed linear map of embeddings: centred, and scaled by what was learned of them.

    Parameters
    ----------
    d : int
        Width of the embedding.
    turning : bool
        Whether directions may be scaled, or columns only.

    Attributes
    ----------
    center : (d,) tensor
        What is taken off.
    axes : (d, d) tensor, or (d,)
        What the rest is multiplied by: a symmetric mixture of columns, or a factor for each.
    """

    center: Tensor
    axes: Tensor

    def __init__(self, d: int, turning: bool) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(d))
        self.register_buffer("axes", torch.eye(d) if turning else torch.ones(d))

    def forward(self, embedding: Tensor) -> Tensor:
        """(B, d) -> (B, d)."""
        centred = embedding - self.center
        return centred @ self.axes if self.axes.dim() == 2 else centred * self.axes


def standardising(embedding: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (d,) of (n, d) embeddings, and the factors (d,) that give them unit variance.

    A column without any spread stays without influence, rather than get all of it.
    """
    spread = embedding.std(0, correction=0)
    largest = spread.max() if spread.max() > 1e-6 else 1.0
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
        The mean variance of a coordinate is 1.
    """
    n, d = embedding.shape
    center, factor = standardising(embedding)
    z = (embedding - center) * factor
    total = z.T @ z / n
    away = ((views - views.mean(1, keepdim=True)) * factor).flatten(0, 1)
    noise = away.T @ away / (len(away) - n)
    if not noise.trace() > 1e-12 * total.trace() > 0:  # all rows alike, or alike in all views
        return center, torch.diag(factor)
    inverse_root = _power(_shrunk(noise, n), -0.5)
    ratio = inverse_root @ _shrunk(total, n) @ inverse_root
    axes = inverse_root @ _power(ratio, 0.5)
    width = ((axes.T @ total @ axes).trace() / d).clamp(min=1e-12).sqrt()
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
