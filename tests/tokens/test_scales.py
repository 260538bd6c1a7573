from __future__ import annotations

import numpy as np
import pytest

from tawt_sklearn.tokens.scales import learn_scale, scale_numbers


@pytest.mark.parametrize("factor", [1e-200, 1.0, 3.0, 1e200])
@pytest.mark.parametrize("method", ["standard", "robust"])
def test_the_scale_follows_the_numbers_over_all_magnitudes(method, factor):
    x = np.random.default_rng(0).normal(3, 2, 101)
    center, scale = learn_scale(x, method)
    np.testing.assert_allclose(learn_scale(x * factor, method), [center * factor, scale * factor])


def test_standard_is_exactly_that_of_numpy():
    x = np.random.default_rng(0).normal(3, 2, 1000)
    assert learn_scale(x, "standard") == pytest.approx((x.mean(), x.std()), rel=1e-14)


@pytest.mark.parametrize("method", ["standard", "robust"])
@pytest.mark.parametrize("constant", [0.0, 0.1, -1e300, 5e-324])
def test_constant_columns_have_scale_one(method, constant):
    center, scale = learn_scale(np.full(1237, constant), method)
    assert center == pytest.approx(constant, rel=1e-13) and scale == 1


def test_a_small_spread_on_a_large_number_is_a_spread():
    x = 1.7e9 + np.arange(100.0)  # seconds since 1970
    assert learn_scale(x, "standard")[1] == pytest.approx(np.std(np.arange(100)))


def test_scaled_numbers_keep_nan_and_stay_finite():
    out = scale_numbers(np.array([np.nan, 1e308, -1e308]), -1e308, 1e-10, np.float32)
    assert np.isnan(out[0]) and np.isfinite(out[1:].astype(np.float32)).all()
