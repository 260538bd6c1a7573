"""An additive model of a summary: a curve for each column, and their sum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Curves:
    """Piecewise linear curves, one for each column and output.

    Attributes
    ----------
    knots : (d, Q + 1) float32
        Where the pieces of each column begin and end, in ascending order; a piece that begins
        where it ends is none.
    rise : (d, Q, K) float32
        What the scores gain over each piece.
    bias : (K,) float32
        Scores left of all knots.
    """

    knots: NDArray[np.float32]
    rise: NDArray[np.float32]
    bias: NDArray[np.float32]


def pieces(x: Tensor, start: Tensor, slope: Tensor) -> Tensor:
    """How much of each piece lies left of a number, from 0 to 1.

    The piecewise linear encoding of Gorishniy, Rubachev & Babenko, "On Embeddings for Numerical
    Features in Tabular Deep Learning" (2022).

    Parameters
    ----------
    x : (B, d) or (B, d, 1)
    start, slope : (d,) or (d, Q)
        First knot of each piece and one by its length; a slope of 0 for what is no piece.

    Returns
    -------
    (B, d) or (B, d, Q)
    """
    return ((x - start) * slope).clamp(0.0, 1.0)


def starts_and_slopes(knots: Tensor) -> tuple[Tensor, Tensor]:
    """(d, Q) of :func:`pieces`, from knots (d, Q + 1)."""
    length = knots.diff(dim=1)
    slope = torch.where(length > 0, 1 / length.where(length > 0, 1.0), 0.0)
    return knots[:, :-1].contiguous(), slope


class AdditiveModel(nn.Module):
    """Scores from a summary by curves that were learned beforehand.

    A generalised additive model (Hastie & Tibshirani, "Generalized Additive Models", 1986).

    Parameters
    ----------
    curves : Curves
    d_in, n_outputs : int
        Columns of the summary, and scores.

    Raises
    ------
    ValueError
        The curves are of other columns or scores, or no curves at all.
    """

    column: Tensor
    start: Tensor
    slope: Tensor
    rise: Tensor
    bias: Tensor

    def __init__(self, curves: Curves, d_in: int, n_outputs: int) -> None:
        super().__init__()
        knots, rise, bias = curves.knots, curves.rise, curves.bias
        kinds = [getattr(array, "dtype", type(array)) for array in (knots, rise, bias)]
        if kinds != [np.float32] * 3:
            raise ValueError(f"Expected curves as arrays in single precision. Got {kinds}.")
        n_pieces = knots.shape[-1] - 1
        expected = ((d_in, n_pieces + 1), (d_in, n_pieces, n_outputs), (n_outputs,))
        if n_pieces < 1 or (knots.shape, rise.shape, bias.shape) != expected:
            raise ValueError(
                f"Expected curves of {d_in} columns and {n_outputs} scores. Got knots "
                f"{knots.shape}, rises {rise.shape} and biases {bias.shape}."
            )
        if not all(np.isfinite(array).all() for array in (knots, rise, bias)):
            raise ValueError("Expected finite knots, rises and biases of curves. Got inf or NaN.")
        if (np.diff(knots) < 0).any():
            raise ValueError("Expected knots of curves in ascending order. Got some that descend.")
        start, slope = starts_and_slopes(torch.tensor(knots, device="cpu"))
        rises = torch.tensor(rise, device="cpu")
        at = rises.any(-1).nonzero(as_tuple=True)  # most pieces are flat
        tensors = {"start": start[at], "slope": slope[at], "rise": rises[at]}
        tensors |= {"column": at[0].clone(), "bias": torch.tensor(bias, device="cpu")}
        for name, tensor in tensors.items():  # which files hold once, as curves
            self.register_buffer(name, tensor, persistent=False)

    def forward(self, summary: Tensor) -> Tensor:
        """(B, d_in) -> (B, n_outputs)."""
        left = pieces(summary[:, self.column], self.start, self.slope)  # (B, n_pieces)
        return self.bias + left @ self.rise
