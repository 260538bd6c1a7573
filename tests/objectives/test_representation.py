"""Numbers that warn of collapse, where they are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tawt_sklearn.objectives.representation import alignment, effective_rank, uniformity


def orthonormal(n: int, rank: int) -> torch.Tensor:
    """(n, rank) orthonormal columns, each with a mean of zero."""
    columns = np.random.default_rng(0).normal(size=(n, rank))
    return torch.from_numpy(np.linalg.qr(columns - columns.mean(0))[0])


@pytest.mark.parametrize("rank", [1, 2, 5, 12])
def test_equally_strong_directions_are_counted(rank):
    turned = orthonormal(20, 20)[:rank]  # to 20 numbers, without changing angles and lengths
    embedding = orthonormal(50, rank) @ turned
    assert effective_rank(embedding) == pytest.approx(rank)
    assert effective_rank(3.5 * embedding + 7) == pytest.approx(rank)  # scale and place say nothing


def test_the_effective_rank_is_the_exponential_of_an_entropy():
    strength = torch.tensor([4.0, 2.0, 1.0, 1.0], dtype=torch.float64)
    share = [0.5, 0.25, 0.125, 0.125]
    want = math.exp(-sum(p * math.log(p) for p in share))
    assert effective_rank(orthonormal(30, 4) * strength) == pytest.approx(want)


@pytest.mark.parametrize("n_rows", [1, 10])
def test_where_all_rows_are_the_same_the_rank_is_one(n_rows):
    assert effective_rank(torch.full((n_rows, 6), 2.5)) == 1.0


def test_the_rank_falls_as_a_representation_collapses():
    torch.manual_seed(0)
    noise, direction = torch.randn(200, 16), torch.randn(200, 1) * torch.randn(16)
    ranks = [effective_rank(direction + share * noise) for share in (0.0, 0.01, 0.1, 1.0, 100.0)]
    assert ranks[0] == pytest.approx(1, abs=1e-3) and ranks == sorted(ranks)
    assert ranks[-1] > 14


def test_alignment_is_a_squared_distance_on_the_sphere():
    a = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    assert alignment(a, 5 * a) == pytest.approx(0)
    assert alignment(a, -a) == pytest.approx(4)
    assert alignment(a, a.flip(1)) == pytest.approx(2)
    angle = 0.3
    turned = torch.tensor([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    assert alignment(a, a @ turned) == pytest.approx(2 - 2 * math.cos(angle), rel=1e-5)


def test_uniformity_of_known_places():
    opposite = torch.tensor([[1.0, 0.0], [-3.0, 0.0]])
    assert uniformity(opposite) == pytest.approx(-8)  # a distance of 2, squared, times -2
    square = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    want = math.log((4 * math.exp(-4) + 2 * math.exp(-8)) / 6)
    assert uniformity(square) == pytest.approx(want)


def test_uniformity_is_zero_where_all_rows_lie_in_one_place():
    assert uniformity(torch.tensor([[2.0, 4.0], [1.0, 2.0], [3.0, 6.0]])) == pytest.approx(0)
    assert uniformity(torch.ones(1, 3)) == 0


def test_directions_spread_over_the_sphere_are_more_uniform_than_a_cone():
    torch.manual_seed(0)
    everywhere = torch.randn(300, 8)
    cone = everywhere + 5 * torch.eye(8)[0]
    assert uniformity(everywhere) < uniformity(cone) < 0
