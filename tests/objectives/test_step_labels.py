"""Labels of steps against loops over cases and steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from tawt_sklearn.exceptions import DataError
from tawt_sklearn.objectives.steps import NO_CLASS, StepTarget, labelled
from tawt_sklearn.objectives.supervised import ClassTarget, NumericTarget

N, T = 5, 6
WEIGHT = np.array([1.0, 2.0, 0.5, 1.0, 3.0])


def classes_of(labels, weight):
    return ClassTarget.fit(np.unique(labels), labels, weight)


def numbers_of(labels, weight):
    return NumericTarget.fit(labels, weight, "huber")


def as_heavy(target, labels, weight):
    """Weights with which all classes are as heavy as each other."""
    return np.array([weight.sum() / weight[labels == k].sum() for k in target.classes])


@pytest.fixture(params=["int", "float", "text"])
def classes(request) -> np.ndarray:
    """Labels (n, T) of three classes, of which a third is missing; the last case has none."""
    rng = np.random.default_rng(0)
    labels, missing = rng.integers(2, 5, (N, T)), rng.random((N, T)) < 0.3
    missing[-1] = True
    if request.param == "int":
        return np.where(missing, NO_CLASS, labels)
    if request.param == "float":
        return np.where(missing, np.nan, labels.astype(float))
    return np.where(missing, None, np.array(["", "", "a", "b", "c"], object)[labels])


@pytest.fixture
def numbers() -> np.ndarray:
    rng = np.random.default_rng(1)
    labels = np.where(rng.random((N, T)) < 0.3, np.nan, 7 + 3 * rng.normal(size=(N, T)))
    labels[-1] = np.nan
    return labels


def some_targets(classes, numbers):
    plain = StepTarget.fit(classes, WEIGHT, classes_of)
    weighted = StepTarget.fit(classes, WEIGHT, classes_of, as_heavy)
    huber = StepTarget.fit(numbers, WEIGHT, numbers_of, as_heavy)
    squared = huber.with_error("squared_error")
    return [(plain, classes), (weighted, classes), (huber, numbers), (squared, numbers)]


def steps_of(labels: np.ndarray) -> list[tuple[int, int]]:
    """Case and step of each label that is there."""
    nothing = (None, -1) if labels.dtype.kind == "i" else (None,)
    cells = [(i, t) for i, t in np.ndindex(labels.shape) if labels[i, t] not in nothing]
    return [at for at in cells if labels[at] == labels[at]]


def test_what_is_learned_is_of_single_steps_as_their_cases_weigh(classes, numbers):
    (plain, _), (weighted, _), (huber, _), _ = some_targets(classes, numbers)
    total: dict = {}
    for i, t in steps_of(classes):
        total[classes[i, t]] = total.get(classes[i, t], 0.0) + WEIGHT[i]
    share = np.array([total[k] for k in sorted(total)]) / sum(total.values())
    assert plain.inner.classes.tolist() == sorted(total)
    np.testing.assert_allclose(plain.prior, np.log(share))
    np.testing.assert_allclose(weighted.class_weight, 1 / share)
    np.testing.assert_allclose(weighted.prior, np.log(1 / 3))
    assert plain.mean_steps == weighted.mean_steps == len(steps_of(classes)) / N
    there = np.array([[numbers[i, t], WEIGHT[i]] for i, t in steps_of(numbers)])
    mean = np.average(there[:, 0], weights=there[:, 1])
    sd = np.sqrt(np.average((there[:, 0] - mean) ** 2, weights=there[:, 1]))
    np.testing.assert_allclose([huber.inner.center[0], huber.inner.scale[0]], [mean, sd])
    assert huber.class_weight is None and huber.mean_steps == len(there) / N


def test_encoded_labels_come_back(classes, numbers):
    assert labelled(np.array([[-1.0]])).all(), "of floats, -1 is a number like others"
    for target, labels in some_targets(classes, numbers):
        encoded = target.encode(target.check(labels))
        there = encoded >= 0 if encoded.dtype == np.int64 else ~np.isnan(encoded)
        assert list(map(tuple, np.argwhere(there).tolist())) == steps_of(labels)
        back, want = target.decode(encoded[there]), [labels[at] for at in steps_of(labels)]
        if labels is classes:
            assert back.tolist() == want
        else:
            np.testing.assert_allclose(back, want, rtol=1e-6)
        assert target.strata(encoded).tolist() == [1, 1, 1, 1, 0]  # which cases have a label


def test_labels_of_another_kind_are_refused(classes, numbers):
    target = StepTarget.fit(classes, WEIGHT, classes_of)
    with pytest.raises(DataError, match=r"a label at each step.*Got an array of shape \(5,\)"):
        target.check(classes[:, 0])
    other = classes.copy()
    other[0, 0] = "other" if classes.dtype == object else 9
    with pytest.raises(DataError, match=r"classes seen in the first fit.*Got 1 labels of other"):
        target.check(other)
    nothing = np.full_like(classes, NO_CLASS if classes.dtype.kind == "i" else None)
    assert (target.encode(target.check(nothing)) == NO_CLASS).all()
    with pytest.raises(DataError, match="infinity|finite"):
        StepTarget.fit(numbers, WEIGHT, numbers_of).check(np.full((N, T), np.inf))


def loop_loss(target, scores, encoded):
    """(B,), one step after the other, from the last one back."""
    loss = np.zeros(len(scores))
    for i, back in np.ndindex(len(scores), min(scores.shape[1], encoded.shape[1])):
        s, truth = scores[i, -1 - back], encoded[i, -1 - back]
        if isinstance(target.inner, NumericTarget):
            off = 0.0 if np.isnan(truth) else abs(s[0] - truth)
            huber = off**2 / 2 if off < 1 else off - 0.5
            loss[i] += off**2 if target.inner.error == "squared_error" else huber
        elif truth >= 0:
            weight = 1.0 if target.class_weight is None else target.class_weight[truth]
            loss[i] -= weight * log_softmax(s)[truth]
    return loss / target.mean_steps


@pytest.mark.parametrize("n_scored", [T, T - 2, T + 3])
def test_the_loss_is_that_of_the_last_steps(classes, numbers, n_scored):
    rng = np.random.default_rng(2)
    for target, labels in some_targets(classes, numbers):
        encoded = torch.from_numpy(target.encode(labels))
        scores = torch.from_numpy(2 * rng.normal(size=(N, n_scored, len(target.prior))))
        loss = target.loss(scores, encoded)
        assert loss.shape == (N,) and loss[-1] == 0  # a case without labels
        np.testing.assert_allclose(loss, loop_loss(target, scores.numpy(), encoded.numpy()))
        some, truth = target.steps_of(scores, encoded)
        shared = min(n_scored, T)
        at = steps_of(labels[:, -shared:])
        assert torch.equal(some, torch.stack([scores[i, t - shared] for i, t in at]))
        assert torch.equal(truth, torch.stack([encoded[i, t - shared] for i, t in at]))


def test_the_gradient_of_the_loss_is_that_of_finite_differences(classes, numbers):
    for target, labels in some_targets(classes, numbers):
        encoded = torch.from_numpy(target.encode(labels))
        torch.manual_seed(0)
        scores = torch.randn(N, T, len(target.prior), dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda s, e=encoded, t=target: t.loss(s, e), scores)
        target.loss(scores, encoded).sum().backward()
        assert torch.equal((scores.grad != 0).any(2), torch.from_numpy(labelled(labels)))


def test_networks_are_combined_step_by_step(classes, numbers):
    for target, _ in some_targets(classes, numbers):
        scores = np.random.default_rng(0).normal(size=(3, N, T, len(target.prior)))
        combined = target.combine(scores)
        for i, t in np.ndindex(N, T):
            want = scores[:, i, t].mean(0)
            if isinstance(target.inner, ClassTarget):
                want = log_softmax(log_softmax(scores[:, i, t], axis=1).mean(0))
            else:
                want = want * target.inner.scale + target.inner.center
            np.testing.assert_allclose(combined[i, t], want)
