"""Coordinates of embeddings: as wide as they are reliable."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch

from tawt_sklearn.nn.coordinates import Coordinates, standardising

SIGNAL = np.array([4.0, 1.0, 1.0, 0.3])
NOISE = np.array([0.5, 0.5, 2.0, 2.0])
ROUGH = np.random.default_rng(5).normal(size=(7, 4, 3))


def drawn(n: int, n_views: int, mixing: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Whole embeddings (n, d) and views (n, K, d) of known signal and noise, mixed linearly."""
    rng = np.random.default_rng(seed)
    d = len(mixing)
    whole = rng.normal(size=(n, d)) * np.sqrt(SIGNAL)
    views = whole[:, None] + rng.normal(size=(n, n_views, d)) * np.sqrt(NOISE)
    return 7 + whole @ mixing, 7 + views @ mixing


def mapped(whole: np.ndarray, views: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of the rows, and axes."""
    coordinates = Coordinates(whole.shape[1], turning=True).double()
    coordinates.choose(torch.from_numpy(whole), torch.from_numpy(views))
    assert coordinates.n_rows == len(whole)
    return coordinates(torch.from_numpy(whole)).numpy(), coordinates.axes.numpy()


def reference(whole: np.ndarray, views: np.ndarray) -> np.ndarray:
    """Covariance of the coordinates, by the generalised eigenvectors of signal and noise."""
    n, d = whole.shape
    share = d / (n + d)

    def shrunk(S: np.ndarray) -> np.ndarray:
        return (1 - share) * S + share * np.trace(S) / d * np.eye(d)

    z, v = (whole - whole.mean(0)) / whole.std(0), views / whole.std(0)
    total = z.T @ z / n
    noise = sum(np.cov(of_row.T, ddof=1) for of_row in v) / n
    ratio, vectors = scipy.linalg.eigh(shrunk(total), shrunk(noise))
    narrow = z @ vectors * np.sqrt(ratio)  # unit noise before: now as wide as the ratio
    covariance = narrow.T @ narrow / n
    return np.linalg.eigvalsh(covariance / np.trace(covariance) * d)


@pytest.mark.parametrize("n", [30, 400])
@pytest.mark.parametrize("mixed", [False, True])
def test_directions_are_as_wide_as_the_reference_says(n, mixed):
    mixing = np.random.default_rng(1).normal(size=(4, 4)) if mixed else np.eye(4)
    whole, views = drawn(n, 3, mixing)
    z, _ = mapped(whole, views)
    found = np.linalg.eigvalsh(z.T @ z / n)
    np.testing.assert_allclose(found, reference(whole, views), rtol=1e-8)
    assert np.trace(z.T @ z) / n == pytest.approx(4)  # a mean variance of 1
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-10)


def test_width_is_the_ratio_of_total_to_noise():
    z, _ = mapped(*drawn(200_000, 2, np.eye(4)))
    width = z.std(0)
    want = SIGNAL / NOISE
    np.testing.assert_allclose(width / width[0], want / want[0], rtol=0.02)


def test_a_rotation_of_the_embedding_changes_no_distance():
    rotation = scipy.linalg.qr(np.random.default_rng(3).normal(size=(4, 4)))[0]
    rng = np.random.default_rng(0)
    # Equal variances before: columns are standardised first, which a rotation would not keep.
    whole = rng.normal(size=(300, 4))
    whole -= whole.mean(0)
    whole = whole @ np.linalg.inv(scipy.linalg.sqrtm(whole.T @ whole / 300))
    views = whole[:, None] + rng.normal(size=(300, 5, 4)) * np.sqrt(NOISE)
    one, _ = mapped(whole, views)
    two, _ = mapped(whole @ rotation, views @ rotation)
    np.testing.assert_allclose(one @ one.T, two @ two.T, atol=1e-8)


def test_axes_are_symmetric_beside_the_scale_of_columns():
    mixing = np.random.default_rng(1).normal(size=(4, 4))
    whole, views = drawn(100, 3, mixing)
    _, axes = mapped(whole, views)
    symmetric = axes * whole.std(0)[:, None]
    np.testing.assert_allclose(symmetric, symmetric.T, atol=1e-10)
    assert np.linalg.eigvalsh(symmetric).min() > 0


@pytest.mark.parametrize(
    "whole, views",
    [
        (np.ones((5, 3)), np.ones((5, 2, 3))),  # all alike: collapsed
        (1 + 1e-7 * ROUGH[:, 0], 1 + 1e-7 * ROUGH[:, 1:]),  # but for rounding
        (np.ones((1, 3)), np.random.default_rng(0).normal(size=(1, 4, 3))),  # a single row
        (np.eye(3), np.repeat(np.eye(3)[:, None], 2, axis=1)),  # hiding changes nothing
        (np.eye(5)[:2], np.eye(5)[:2, None] + np.eye(5)[:3]),  # fewer rows than columns
    ],
    ids=["alike", "alike but for rounding", "one row", "no noise", "few rows"],
)
def test_odd_rows_give_finite_coordinates(whole, views):
    z, axes = mapped(whole, views)
    assert np.isfinite(axes).all() and np.isfinite(z).all()
    assert np.linalg.matrix_rank(axes) == len(axes), "nothing is lost for later"
    if np.ptp(whole, axis=0).max() < 1e-5:
        assert abs(z).max() < 1e-5, "rounding errors stay small"


def test_columns_without_spread_have_no_influence():
    whole = np.random.default_rng(0).normal(size=(50, 3)) * [5.0, 1e-6, 1.0]
    center, factor = standardising(torch.from_numpy(whole))
    z = (whole - center.numpy()) * factor.numpy()
    np.testing.assert_allclose(z.std(0), [1, 0, 1], atol=1e-5)


def test_coordinates_start_as_the_embedding_itself():
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    for turning in (True, False):
        torch.testing.assert_close(Coordinates(3, turning)(x), x)
