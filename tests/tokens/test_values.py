from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import norm, spearmanr

from tawt_sklearn.tokens import values
from tawt_sklearn.tokens.values import (
    SortedNumbers,
    clean_values,
    code_value_keys,
    fit_scaling,
    scale_values,
    unscale_values,
)

V = 4
floats = st.floats(width=32, allow_infinity=False, min_value=-(2.0**60), max_value=2.0**60)
events = st.integers(0, 60).flatmap(
    lambda E: st.tuples(
        arrays(np.int32, E, elements=st.integers(0, V - 1)),
        arrays(np.float32, E, elements=floats),
    )
)


@pytest.fixture
def many():
    """Events over several blocks: skewed, heavy-tailed, tied and constant codes."""
    rng = np.random.default_rng(0)
    E = 2 * values.BLOCK + 17
    code = rng.integers(0, V, E).astype(np.int32)
    value = np.choose(
        code, [rng.lognormal(3, 1, E), rng.standard_t(2, E), rng.integers(0, 4, E), np.full(E, 7.0)]
    ).astype(np.float32)
    value[rng.random(E) < 0.1] = np.nan
    return code, value


def numbers_of(code, value, k):
    x = value[code == k].astype(float)
    return x[~np.isnan(x)]


@given(events)
def test_sorts_by_code_and_value(pair):
    code, value = pair
    numbers = SortedNumbers.of(code, value, V)
    for k in range(V):
        part = numbers.at(np.arange(numbers.offsets[k], numbers.offsets[k + 1]))
        np.testing.assert_array_equal(part, np.sort(numbers_of(code, value, k)))


@given(events, st.floats(0, 1))
@settings(max_examples=50)
def test_quantiles_and_moments_are_those_of_numpy(pair, level):
    code, value = pair
    numbers = SortedNumbers.of(code, value, V)
    quantiles = numbers.quantiles(level)
    mean, sd = numbers.moments(np.ones(V, bool))
    for k in range(V):
        x = numbers_of(code, value, k)
        if len(x):
            np.testing.assert_allclose(quantiles[k], np.quantile(x, level), rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(mean[k], x.mean(), rtol=1e-6, atol=1e-9 * np.abs(x).max())
            np.testing.assert_allclose(sd[k], x.std(), rtol=1e-6, atol=1e-9 * np.abs(x).max())
        else:
            assert np.isnan([quantiles[k], mean[k], sd[k]]).all()


def test_minus_zero_is_zero():
    keys = code_value_keys(np.zeros(2, int), np.array([0.0, -0.0], np.float32))
    assert keys[0] == keys[1]


def test_cleaning_multiplies_then_checks_the_range_then_takes_the_log(many):
    code, value = many
    tables = {
        "factor": np.array([2.0, -1.0, 1.0, 1.0]),
        "low": np.array([20.0, -np.inf, 1.0, -np.inf]),
        "high": np.array([100.0, 1.0, 2.0, np.inf]),
        "log": np.array([True, False, True, False]),
    }
    cleaned, outside = clean_values(code, value, **tables)
    v = value * tables["factor"][code]
    out = (v < tables["low"][code]) | (v > tables["high"][code])
    expected = np.where(out, np.nan, np.where(tables["log"][code], np.log1p(np.abs(v)), v))
    np.testing.assert_allclose(cleaned, expected, rtol=1e-6)
    np.testing.assert_array_equal(outside, np.flatnonzero(out))


def test_cleaning_without_rules_copies_nothing(many):
    code, value = many
    open_ = np.full(V, np.inf)
    cleaned, outside = clean_values(
        code, value, factor=np.ones(V), low=-open_, high=open_, log=np.zeros(V, bool)
    )
    assert cleaned is value and outside is None


def test_the_ends_of_a_range_are_valid_as_stored():
    # 0.7 and 0.1 are not float32 numbers.
    value = np.array([0.7, 0.1, 0.09], np.float32)
    cleaned, outside = clean_values(
        np.zeros(3, int),
        value,
        factor=np.ones(1),
        low=np.array([0.1]),
        high=np.array([0.7]),
        log=np.zeros(1, bool),
    )
    assert outside.tolist() == [2] and np.isnan(cleaned).tolist() == [False, False, True]


def test_robust_scaling_and_its_fallbacks():
    columns = {
        "plain": [1.0, 2, 3, 4, 5],
        "tied": [*[0.0] * 90, *[3.2897] * 10],
        "rare": [*[0.0] * 999, 100.0],
        "constant": [7.0] * 5,
        "noise": [1e6, 1e6 + 0.0625] * 5,  # neighbours in float32
        "none": [],
    }
    code = np.repeat(np.arange(6), [len(x) for x in columns.values()])
    value = np.concatenate(list(columns.values())).astype(np.float32)
    scaling = fit_scaling(SortedNumbers.of(code, value, 6), "robust")
    sd = np.std(columns["rare"])
    np.testing.assert_allclose(scaling.scale, [2 / 1.349, 1, sd, 1, 1, 1], rtol=1e-5)
    np.testing.assert_allclose(scaling.center, [3, 0, 0, 7, 1e6, 0], rtol=1e-6)


def scale(code, value, scaling, **options):
    options = {"numeric": np.ones(V, bool), "clip": 5.0, "quantile": False, **options}
    return scale_values(code, value, scaling, **options)


@pytest.mark.parametrize("method", ["robust", "standard"])
def test_linear_scaling_is_that_of_the_formulas(many, method):
    code, value = many
    scaling = fit_scaling(SortedNumbers.of(code, value, V), method)
    scaled, clipped = scale(code, value, scaling)
    expected = np.full(len(value), np.nan)
    for k in range(V):
        x, at = numbers_of(code, value, k), code == k
        if method == "standard":
            center, spread = x.mean(), x.std()
        else:
            low, center, high = np.quantile(x, [0.25, 0.5, 0.75])
            spread = (high - low) / 1.349
        expected[at] = (value[at] - center) / (spread or 1)
    np.testing.assert_allclose(scaled, np.clip(expected, -5, 5), atol=1e-5)
    np.testing.assert_array_equal(clipped, np.flatnonzero(np.abs(scaled) == 5))
    assert len(clipped) > 100


def test_quantile_scaling_gives_normal_scores(many):
    code, value = many
    scaling = fit_scaling(SortedNumbers.of(code, value, V), "quantile")
    scaled, clipped = scale(code, value, scaling, quantile=True)
    assert not len(clipped)
    for k in (0, 1):
        x, z = numbers_of(code, value, k), numbers_of(code, scaled, k)
        ranks = (np.argsort(np.argsort(x)) + 0.5) / len(x)
        inner = (ranks > 0.02) & (ranks < 0.98)
        assert np.abs(z - norm.ppf(ranks))[inner].max() < 0.05
        assert spearmanr(x, z).statistic > 0.9999
    # Ties share the middle of their ranks; nothing to tell apart in a constant.
    assert len(np.unique(numbers_of(code, scaled, 2))) == 4
    np.testing.assert_allclose(numbers_of(code, scaled, 3), 0, atol=1e-12)


def test_quantile_scaling_goes_on_beyond_the_training_range():
    code, value = np.zeros(101, int), np.arange(101, dtype=np.float32)
    scaling = fit_scaling(SortedNumbers.of(code, value, 1), "quantile")
    scaled, _ = scale(
        np.zeros(4, int),
        np.array([-20, 0, 100, 120], np.float32),
        scaling,
        numeric=np.ones(1, bool),
        quantile=True,
    )
    slope = 20 / scaling.scale[0]
    np.testing.assert_allclose(scaled[[0, 3]], [scaled[1] - slope, scaled[2] + slope], rtol=1e-5)


@pytest.mark.parametrize("method", ["robust", "standard", "quantile", None])
def test_unscaling_gives_values_back(many, method):
    code, value = many
    factor, log = np.array([2.0, 1, 1, -0.5]), np.array([True, False, True, False])
    cleaned, _ = clean_values(
        code, value, factor=factor, low=np.full(V, -np.inf), high=np.full(V, np.inf), log=log
    )
    scaling = fit_scaling(SortedNumbers.of(code, cleaned, V), method)
    quantile = method == "quantile"
    scaled, _ = scale(code, cleaned, scaling, clip=None, quantile=quantile)
    back = unscale_values(code, scaled, scaling, factor=factor, log=log, quantile=quantile)
    np.testing.assert_allclose(back, value, rtol=2e-5, atol=2e-5)


def test_codes_without_numbers_lose_them_and_huge_values_stay_finite():
    scaling = values.Scaling.identity(2)
    scaling.scale[0] = 1e-30
    value = np.array([3e38, -3e38, 1.0], np.float32)
    scaled, _ = scale(
        np.array([0, 0, 1]), value, scaling, numeric=np.array([True, False]), clip=None
    )
    assert np.isfinite(scaled[:2]).all() and np.isnan(scaled[2])


def test_scaling_in_place(many):
    code, value = many
    scaling = fit_scaling(SortedNumbers.of(code, value, V), "robust")
    expected, _ = scale(code, value, scaling)
    out, _ = scale(code, value, scaling, out=value)
    assert out is value
    np.testing.assert_array_equal(out, expected)
