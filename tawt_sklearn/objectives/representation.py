"""Is a representation any good?  Numbers that warn of collapse, without any labels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def effective_rank(embedding: Tensor) -> float:
    """Number of directions that the rows of (n, d) really use, from 1 to d.

    The exponential of the entropy of the normalised singular values, after centring (Roy &
    Vetterli, "The effective rank: A measure of effective dimensionality", 2007).  Near 1 all
    rows lie on a line: the representation has collapsed.
    """
    centred = (embedding - embedding.mean(0)).double()
    strength = torch.linalg.svdvals(centred)
    total = strength.sum()
    if not total > 0:
        return 1.0
    share = strength / total
    return float(torch.special.entr(share).sum().exp())


def alignment(first: Tensor, second: Tensor) -> float:
    """Mean squared distance of two views of the same rows on the unit sphere, from 0 to 4.

    Wang & Isola, "Understanding Contrastive Representation Learning through Alignment and
    Uniformity on the Hypersphere", 2020.  Small is good, as long as uniformity is small, too.
    """
    a, b = F.normalize(first.double(), dim=1), F.normalize(second.double(), dim=1)
    return float((a - b).square().sum(1).mean())


def uniformity(embedding: Tensor) -> float:
    """Logarithm of the mean of ``exp(-2 d^2)`` over pairs of rows on the unit sphere, up to 0.

    From the same paper.  Near 0 all rows lie in one place: the representation has collapsed.
    """
    if len(embedding) < 2:
        return 0.0
    distance = torch.pdist(F.normalize(embedding.double(), dim=1))
    return float((-2 * distance.square()).exp().mean().log())
