"""Batches of panels against loops over rows and steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tawt_sklearn.training.panels import PanelDataset

LENGTHS = np.array([3, 0, 7, 1, 7, 4])
C, K = 3, 2


@pytest.fixture
def data() -> PanelDataset:
    """Six cases; the last two of five channels are categorical."""
    rng = np.random.default_rng(0)
    N = LENGTHS.sum()
    number = rng.normal(size=(N, C + K)).astype(np.float32)
    number[rng.random(number.shape) < 0.3] = np.nan
    number[:, C:] = np.nan
    offsets = np.concatenate([[0], np.cumsum(LENGTHS)])
    target, weight = rng.integers(0, 3, 6), rng.random(6).astype(np.float32)
    return PanelDataset(number, rng.integers(0, 4, (N, K)), offsets, target, weight)


@pytest.mark.parametrize("index", [[0, 1, 2, 3, 4, 5], [5, 0], [3], [1], [4, 4, 1]])
def test_a_batch_ends_with_the_last_steps_of_its_rows(data, index):
    batch, (target, weight) = data.__getitems__(index)
    T = max(*LENGTHS[index], 1)
    assert batch.value.shape == (len(index), C + K, T) and batch.value.dtype == torch.float32
    assert batch.category.dtype == torch.int64 and batch.time.dtype == torch.float32
    for b, t in np.ndindex(len(index), T):
        row = index[b]
        step, at = t - (T - LENGTHS[row]), data.offsets[row + 1] - T + t
        assert batch.time[b, 0, t] == step
        number = data.number[at] if step >= 0 else np.full(C + K, np.nan)
        np.testing.assert_array_equal(batch.observed[b, :, t], ~np.isnan(number))
        np.testing.assert_array_equal(batch.value[b, :, t], np.nan_to_num(number))
        category = data.category[at] if step >= 0 else [0] * K
        np.testing.assert_array_equal(batch.category[b, :, t], category)
    np.testing.assert_array_equal(target, data.target[index])
    np.testing.assert_array_equal(weight, data.weight[index])


def assert_same(one, two) -> None:
    for name in ("value", "observed", "category", "time"):
        assert torch.equal(getattr(one[0], name), getattr(two[0], name))
    assert all(torch.equal(*pair) for pair in zip(one[1], two[1], strict=True))


@pytest.mark.parametrize("index", [[5, 2, 0], [1, 2], [3, 3]])
def test_a_subset_holds_the_same_cases(data, index):
    part = data.subset(np.array(index))
    assert part.sizes().tolist() == LENGTHS[index].tolist() and len(part) == len(index)
    assert_same(part.__getitems__(list(range(len(index)))), data.__getitems__(index))
    assert_same(part[1], data[index[1]])


def test_a_subset_may_have_no_steps_at_all(data):
    """As a hold-out of a few cases that happen to be empty."""
    batch = data.subset(np.array([1, 1])).batch(np.array([0, 1]))
    assert batch.value.shape == (2, C + K, 1)
    assert not batch.inside.any() and not batch.observed.any() and not batch.category.any()


@pytest.mark.parametrize("n_steps", [None, 5])
def test_the_canonical_order_is_of_the_cases_wherever_they_stand(data, n_steps):
    if n_steps:  # labels of steps, some of them missing
        rng = np.random.default_rng(1)
        data.target = rng.normal(size=(6, n_steps)).astype(np.float32)
        data.target[rng.random((6, n_steps)) < 0.4] = np.nan
    for seed in range(5):
        shuffled = np.random.default_rng(seed).permutation(6)
        order = data.subset(shuffled).canonical_order()
        np.testing.assert_array_equal(shuffled[order], data.canonical_order())


@pytest.mark.parametrize("what", ["number", "category", "target"])
def test_the_canonical_order_depends_on_numbers_categories_and_labels(what):
    """Cases that differ in one of them alone keep their order when they change places."""
    parts = {"number": np.ones((8, 1), np.float32), "category": np.zeros((8, 1), np.int64),
             "target": np.zeros(4, np.int64)}  # fmt: skip
    parts[what].flat[:] = np.arange(parts[what].size)
    data = PanelDataset(parts["number"], parts["category"], np.arange(5) * 2, parts["target"])
    backwards = data.subset(np.arange(4)[::-1]).canonical_order()
    np.testing.assert_array_equal(3 - backwards, data.canonical_order())
    assert all(any(one is part for one in data.content()) for part in parts.values())
    assert (data.weight == 1).all() and len(data.weight) == 4
