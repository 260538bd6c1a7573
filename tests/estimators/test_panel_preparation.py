"""What is learned from a panel before the network sees it, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tawt_sklearn.estimators._panel_preparation import PanelPreparation
from tawt_sklearn.events.panels import Panel
from tawt_sklearn.exceptions import DataError, DataWarning

N, C, T = 30, 5, 13
CATEGORICAL, NUMERIC = [0, 2], [1, 3, 4]


@pytest.fixture
def X() -> np.ndarray:
    """Five channels: categories of three and two kinds come first and third."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, C, T)) * [[1.0], [10.0], [1.0], [0.01], [5.0]] + 3
    X[:, 0] = rng.choice([10, 20, 30], (N, T), p=[0.2, 0.5, 0.3])
    X[:, 2] = rng.choice([0, 1], (N, T), p=[0.3, 0.7])
    X[rng.random(X.shape) < 0.2] = np.nan
    return X


def prepare(X, categorical=None, n_windows=8, patch_length=None):
    panel = Panel.of_series(X) if isinstance(X, list) else Panel.of(X)
    return PanelPreparation.fit(panel, categorical, n_windows, patch_length, "panel")


@pytest.mark.parametrize("asked", [
    CATEGORICAL, [2, 0], ["channel_0", "channel_2"], np.array([True, False, True, False, False]),
])  # fmt: skip
def test_numbers_are_scaled_and_categories_come_last_as_codes(X, asked):
    lengths = np.random.default_rng(0).integers(0, T + 1, N)
    cut = [x[:, :n] for x, n in zip(X, lengths, strict=True)]
    ready, data = prepare(cut, asked)
    flat = np.concatenate(cut, axis=1)
    np.testing.assert_array_equal(data.offsets, np.append(0, np.cumsum(lengths)))
    assert data.number.dtype == np.float32 and ready.horizon == lengths.max() - 1
    for place, c in enumerate(NUMERIC):
        low, middle, high = np.nanquantile(flat[c], [0.25, 0.5, 0.75])
        z = (flat[c] - middle) / ((high - low) / 1.349)
        np.testing.assert_allclose(data.number[:, place], 3 * np.arcsinh(z / 3), rtol=1e-5)
    code = [{20: 2, 30: 3, 10: 4}, {1: 2, 0: 3}]  # by falling frequency
    for k, c in enumerate(CATEGORICAL):
        want = [0 if np.isnan(x) else code[k][x] for x in flat[c]]
        assert data.category[:, k].tolist() == want and np.isnan(data.number[:, 3 + k]).all()
    assert ready.order.tolist() == NUMERIC + CATEGORICAL
    assert ready.shape.cardinalities == (5, 4)  # missing and unseen have codes, too
    assert ready.category_offsets == [0, 0, 0, 0, 5, 9] and ready.sizes()["n_categories"] == 9


@pytest.mark.parametrize("categorical", [None, CATEGORICAL])
def test_scaled_numbers_come_back(X, categorical):
    X[0, 1, :3] = [1e6, -1e6, 3.0]
    ready, data = prepare(X, categorical)
    want = X.swapaxes(1, 2).reshape(-1, C).copy()
    want[:, categorical or []] = np.nan
    np.testing.assert_allclose(ready.restored(data.number), want, rtol=1e-4, atol=1e-5)


def test_categories_that_fit_has_not_seen(X):
    ready, _ = prepare(X, CATEGORICAL)
    X[:2, 0, 0] = 99
    with pytest.warns(DataWarning, match=r"2 values of categorical.*'channel_0' \(2\)"):
        data = ready.dataset(Panel.of(X))
    assert data.category[[0, T], 0].tolist() == [1, 1]
    with pytest.raises(DataError, match="Expected whole numbers in 'channel_1'.*Got"):
        prepare(X, [1])


def test_channels_without_any_value_in_fit(X):
    full = X.copy()
    X[:, [1, 2]], X[:, 3] = np.nan, 7.0  # and one that is constant
    ready, data = prepare(X, CATEGORICAL)
    assert ready.known.tolist() == [True, False, False, True, True]
    assert ready.shape.cardinalities == (5, 2) and ready.scale[3] == 1
    assert np.isnan(data.number[:, 0]).all() and not data.number[:, 1].any()
    with pytest.warns(DataWarning, match=r"Got values in channel_1, channel_2, which had none"):
        later = ready.dataset(Panel.of(full))
    assert np.isnan(later.number[:, 0]).all() and not later.category[:, 1].any()
    assert np.isfinite(ready.restored(np.zeros(C))[NUMERIC]).all()


@pytest.mark.parametrize("spread", [0.001, 1.0])
def test_huge_values_stay_finite(spread):
    X = spread * np.random.default_rng(0).normal(size=(20, 1, 6))
    ready, _ = prepare(X)
    X[0, 0, :3] = [1e308, -1e308, 1e300]
    number = ready.dataset(Panel.of(X)).number[:3, 0]
    assert np.isfinite(number).all() and number[0] >= number[2] > 1000 and number[1] < -1000


@given(n_steps=st.integers(1, 2000), n_windows=st.integers(1, 64))
def test_there_are_as_many_patches_as_asked_at_most(n_steps, n_windows):
    ready, _ = prepare(np.zeros((1, 1, n_steps)), n_windows=n_windows)
    n_steps = max(n_steps, 2)
    ((stride, length),) = ready.shape.strides
    n_patches = -(-n_steps // stride)
    assert ready.horizon == n_steps - 1 and length == 2 * stride
    assert n_patches <= n_windows and 7 / 8 * (stride - 1) * n_windows < n_steps
    assert ready.sizes()["window_edges"] == [stride * k for k in range(1, n_patches)]


@pytest.mark.parametrize("patch_length, strides", [
    (1, [(1, 1)]),
    (5, [(3, 5)]),
    ([24, 4], [(2, 4), (12, 24)]),
    (np.array([16, 18, 2]), [(1, 2), (8, 16), (10, 18)]),  # bins of two steps from 9 on
    (40, [(14, 26)]),  # of no more than twice the series
])  # fmt: skip
def test_lengths_of_patches_that_were_asked_for(X, patch_length, strides):
    ready, _ = prepare(X, patch_length=patch_length)
    assert list(ready.shape.strides) == strides
    first = strides[0][0]
    assert ready.sizes()["window_edges"] == [first * k for k in range(1, -(-T // first))]
