"""Where new latents are drawn from."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import dblquad
from scipy.stats import multivariate_normal

from tawt_sklearn.synthesis.density import LatentDensity


@pytest.fixture
def stated() -> np.ndarray:
    return np.random.RandomState(1).standard_normal((2000, 3))


@pytest.fixture
def latents(stated) -> np.ndarray:
    """Two groups around what follows from what is stated."""
    random = np.random.RandomState(2)
    group = np.where(random.rand(2000, 1) < 0.3, [3.0, 0.0], [0.0, -3.0])
    follows = stated @ [[1.0, 0.0], [0.0, 0.5], [0.0, 0.0]]
    return follows + group + 0.5 * random.standard_normal((2000, 2))


def test_latents_follow_what_is_stated(stated, latents):
    density = LatentDensity.fit(latents, stated, np.random.RandomState(0))
    np.testing.assert_allclose(density.slope, [[1, 0], [0, 0.5], [0, 0]], atol=0.1)
    assert len(density.weight) >= 2
    np.testing.assert_allclose(density.weight.sum(), 1)
    wanted = np.tile([1.0, -2.0, 0.0], (4000, 1))
    drawn = density.draw(wanted, np.random.RandomState(0))
    mean = 0.3 * np.array([3.0, 0.0]) + 0.7 * np.array([0.0, -3.0]) + [1.0, -1.0]
    np.testing.assert_allclose(drawn.mean(0), mean, atol=0.15)
    covariance = 0.21 * np.array([[9.0, 9.0], [9.0, 9.0]]) + 0.25 * np.eye(2)
    np.testing.assert_allclose(np.cov(drawn.T), covariance, atol=0.3)


def test_the_density_is_one(stated, latents):
    density = LatentDensity.fit(latents, stated, np.random.RandomState(0))
    some = stated[:1]

    def height(x, y):
        return np.exp(density.log_prob(np.array([[x, y]]), some)[0])

    whole, _ = dblquad(height, -12, 12, -12, 12, epsabs=1e-3)
    assert whole == pytest.approx(1, abs=0.01)
    slow = sum(
        w * multivariate_normal.pdf(latents[0], m + some[0] @ density.slope, r @ r.T)
        for w, m, r in zip(density.weight, density.mean, density.root, strict=True)
    )
    assert density.log_prob(latents[:1], some)[0] == pytest.approx(np.log(slow))


def test_few_subjects_have_one_normal_that_nothing_follows_from():
    z = np.random.RandomState(0).standard_normal((5, 4))
    density = LatentDensity.fit(z, np.ones((5, 2)), np.random.RandomState(0))
    assert density.mean.shape == (1, 4)
    assert (density.slope == 0).all()
    assert np.isfinite(density.draw(np.ones((3, 2)), np.random.RandomState(0))).all()
