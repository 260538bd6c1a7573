"""An additive model: pieces of columns, curves, and their sum."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tawt_sklearn.nn.additive import AdditiveModel, Curves, pieces, starts_and_slopes


@pytest.fixture
def curves() -> Curves:
    rng = np.random.default_rng(0)
    knots = np.sort(rng.normal(size=(3, 5)), axis=1).astype(np.float32)
    knots[1, 2] = knots[1, 1]  # no piece
    rise = rng.normal(size=(3, 4, 2)).astype(np.float32)
    return Curves(knots, rise, np.array([0.5, -1.0], np.float32))


def test_curves_are_those_of_linear_interpolation(curves):
    x = np.random.default_rng(1).normal(size=(50, 3)) * 2
    model = AdditiveModel(curves, 3, 2).double()
    expected = np.tile(curves.bias.astype(float), (50, 1))
    for j in range(3):
        length = np.diff(curves.knots[j])
        rise = curves.rise[j] * (length > 0)[:, None]  # what no piece rises by does not count
        heights = np.concatenate([np.zeros((1, 2)), rise.cumsum(axis=0)])
        for k in range(2):
            expected[:, k] += np.interp(x[:, j], curves.knots[j], heights[:, k])
    np.testing.assert_allclose(model(torch.from_numpy(x)), expected, atol=1e-6)


def test_pieces_fill_from_left_to_right():
    start, slope = starts_and_slopes(torch.tensor([[0.0, 1.0, 1.0, 3.0]]))
    assert slope.tolist() == [[1.0, 0.0, 0.5]]
    told = pieces(torch.tensor([[[-1.0]], [[0.25]], [[2.0]], [[9.0]]]), start, slope)
    assert told[:, 0].tolist() == [[0, 0, 0], [0.25, 0, 0], [1, 0, 0.5], [1, 0, 1]]


def test_a_file_holds_curves_once(curves):
    assert AdditiveModel(curves, 3, 2).state_dict() == {}


def test_it_has_a_gradient_that_is_right(curves):
    model = AdditiveModel(curves, 3, 2).double()
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(model, x)


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        ({"knots": np.zeros((2, 5), np.float32)}, "3 columns and 2 scores"),
        ({"rise": np.zeros((3, 4, 1), np.float32)}, "3 columns and 2 scores"),
        ({"bias": np.array([0.0, np.nan], np.float32)}, "finite"),
        ({"knots": -np.arange(15, dtype=np.float32).reshape(3, 5)}, "ascending"),
    ],
)
def test_odd_curves_are_refused(curves, odd, message):
    with pytest.raises(ValueError, match=message):
        AdditiveModel(replace(curves, **odd), 3, 2)
