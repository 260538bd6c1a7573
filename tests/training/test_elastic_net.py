"""The elastic net: its solutions are those of scikit-learn, or fulfil the conditions for them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import ElasticNet, LogisticRegression

from tawt_sklearn.objectives.supervised import ClassTarget, MultilabelTarget, NumericTarget
from tawt_sklearn.training import elastic_net
from tawt_sklearn.training.elastic_net import (
    Design,
    Solution,
    loss_and_gradient,
    noise_and_curvature,
    solve,
)

N, D = 1500, 6


@pytest.fixture(autouse=True)
def exact(monkeypatch):
    monkeypatch.setattr(elastic_net, "ENOUGH", 1e-13)
    monkeypatch.setattr(elastic_net, "MOST_STEPS", 3000)


@pytest.fixture
def x() -> torch.Tensor:
    drawn = np.random.default_rng(0).normal(size=(N, D)) * np.array([1, 2, 0.5, 1, 1, 1]) + 3.0
    drawn[:, 3] += drawn[:, 4]
    return torch.from_numpy(drawn)


@pytest.fixture
def weight() -> torch.Tensor:
    drawn = np.random.default_rng(1).uniform(0.5, 2.0, size=N)
    return torch.from_numpy(drawn / drawn.sum())


def solved(x, weight, target, encoded, l1, l2) -> tuple[Design, Solution]:
    design = Design(x.clone(), weight)
    prior = torch.from_numpy(target.prior)
    start = Solution(x.new_zeros(x.shape[1], len(prior)), prior)
    penalties = (torch.full_like(prior, l1), torch.full_like(prior, l2))
    return design, solve(design, target, encoded, start, *penalties)


def test_numbers_as_in_scikit_learn(x, weight):
    y = (x[:, :2].sum(1) + torch.from_numpy(np.random.default_rng(2).normal(size=N))).unsqueeze(1)
    target = NumericTarget(np.zeros(1), np.ones(1), "squared_error", one_dimensional=True)
    _, found = solved(x, weight, target, y, l1=0.2, l2=0.3)
    model = ElasticNet(alpha=0.25, l1_ratio=0.4, tol=1e-12, max_iter=100_000)  # halves the squares
    model.fit(x, y[:, 0], sample_weight=weight.numpy() * N)
    np.testing.assert_allclose(found.w[:, 0], model.coef_, atol=1e-5)
    assert (model.coef_ == 0).any(), "else nothing was shown of the lasso"


def test_log_odds_as_in_scikit_learn(x, weight):
    y = (x[:, 0] - 3 + torch.from_numpy(np.random.default_rng(2).normal(size=N)) > 0.5).long()
    target = MultilabelTarget.fit(y.unsqueeze(1).numpy(), weight.numpy())
    _, found = solved(x, weight, target, y.unsqueeze(1), l1=0.0, l2=0.01)
    model = LogisticRegression(C=1 / (0.01 * N), tol=1e-10, max_iter=10_000)
    model.fit(x - weight @ x, y, sample_weight=weight.numpy() * N)
    np.testing.assert_allclose(found.w[:, 0], model.coef_[0], atol=1e-5)
    assert found.b[0] == pytest.approx(model.intercept_[0], abs=1e-5)


def test_no_weight_can_be_better_among_classes(x, weight):
    """Zero is a subgradient of the objective (Karush, Kuhn, Tucker)."""
    rng = np.random.default_rng(3)
    y = torch.from_numpy(rng.integers(0, 3, N) * (x[:, 0].numpy() > 3))
    target = ClassTarget.fit(np.arange(3), y.numpy(), weight.numpy())
    l1, l2 = 0.03, 0.05
    design, found = solved(x, weight, target, y, l1, l2)
    scores = design.times(found.w) + found.b
    _, r = loss_and_gradient(target, scores, y, weight)
    slope = design.transposed_times(r) + l2 * found.w
    at_zero = found.w == 0
    assert at_zero.any() and not at_zero.all()
    assert (slope[at_zero].abs() <= l1 + 1e-6).all()
    torch.testing.assert_close(slope[~at_zero], -l1 * found.w[~at_zero].sign(), atol=1e-6, rtol=0)
    assert r.sum(0).abs().max() < 1e-6, "biases are free"


@pytest.mark.parametrize("rounding", [elastic_net.ROUNDING, 0.0])
@pytest.mark.parametrize(("n", "n_rare"), [(968, 4), (2057, 7), (2644, 5)])
def test_it_ends_where_single_precision_can_tell_no_more(monkeypatch, n, n_rare, rounding):
    """A rare class that the columns separate: the loss falls to the size of its rounding.

    Steps that are ever shorter end it where nothing is allowed for rounding.
    """
    monkeypatch.setattr(elastic_net, "ROUNDING", rounding)
    monkeypatch.setattr(elastic_net, "MOST_STEPS", 600)
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(n, 40)).astype(np.float32))
    y = torch.zeros(n, dtype=torch.long)
    y[:n_rare] = 1
    x[:n_rare] += 8
    weight = torch.full((n,), 1 / n)
    target = ClassTarget.fit(np.arange(2), y.numpy(), weight.double().numpy())
    target = ClassTarget(target.classes, target.prior.astype(np.float32))
    for penalty in (1e-6, 0.0):
        design, found = solved(x, weight, target, y, penalty, penalty)
        assert torch.isfinite(found.w).all()
        assert (target.loss(design.times(found.w) + found.b, y) < 0.1).all(), "they are separated"


def test_what_is_no_number_ends_it_too(x, weight):
    target = NumericTarget(np.zeros(1), np.ones(1), "squared_error", one_dimensional=True)
    _, found = solved(x, weight, target, torch.full((N, 1), torch.nan), 0.1, 0.1)
    assert (found.w == 0).all(), "where it began"


def test_labels_without_any_doubt_take_few_steps(x, weight, monkeypatch):
    steps = []
    monkeypatch.setattr(elastic_net, "loss_and_gradient", _counted(steps))
    monkeypatch.setattr(elastic_net, "ENOUGH", 1e-4)
    target = NumericTarget(np.zeros(1), np.ones(1), "squared_error", one_dimensional=True)
    solved(x, weight, target, torch.zeros(N, 1), 0.1, 0.1)
    assert len(steps) < 50


def _counted(steps):
    def counted(*arguments):
        steps.append(1)
        return loss_and_gradient(*arguments)

    return counted


def test_noise_is_curvature_of_a_log_loss(x, weight):
    y = (x[:, 0] > 4).long()
    target = ClassTarget.fit(np.arange(2), y.numpy(), weight.numpy())
    noise, curvature = noise_and_curvature(target, y, weight, torch.from_numpy(target.prior))
    share = float(weight @ y.double())
    np.testing.assert_allclose(noise, share * (1 - share), rtol=1e-6)
    np.testing.assert_allclose(curvature, share * (1 - share), rtol=1e-2)


@pytest.mark.parametrize("value", [1.0, 0.1, -7.3])
def test_columns_that_do_not_vary_get_nothing(weight, value):
    x = torch.full((N, 2), value, dtype=torch.float64)
    target = NumericTarget(np.zeros(1), np.ones(1), "squared_error", one_dimensional=True)
    _, found = solved(x, weight, target, torch.ones(N, 1), 0.0, 0.1)
    assert (found.w == 0).all() and found.b[0] == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("share", [1e-4, 1e-6])
def test_noise_of_what_is_all_but_certain(share):
    weight = torch.tensor([1 - share, share / 3, share / 3, share / 3])
    y = torch.tensor([0, 1, 1, 1])
    target = ClassTarget.fit(np.arange(2), y.numpy(), weight.double().numpy())
    prior = torch.tensor(target.prior, dtype=torch.float32)
    noise, curvature = noise_and_curvature(target, y, weight, prior)
    np.testing.assert_allclose(noise, share, rtol=0.1)
    np.testing.assert_allclose(curvature, share, rtol=0.1)
