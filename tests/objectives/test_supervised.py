"""Targets: what is stored, what is lost, and what scores mean, against the formulas."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from scipy.special import expit
from sklearn.metrics import get_scorer, log_loss, r2_score, roc_auc_score

from tawt_sklearn.exceptions import DataError
from tawt_sklearn.objectives.supervised import (
    ClassTarget,
    MultilabelTarget,
    NumericTarget,
    WeightedLoss,
)

B, K = 7, 3


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def class_case(rng):
    labels = np.array(["a", "b", "c"])[rng.permutation(np.arange(B) % K)]
    target = ClassTarget.fit(np.unique(labels), labels, np.ones(B))
    return target, labels, rng.normal(size=(B, K))


def multilabel_case(rng):
    labels = rng.integers(0, 2, (B, K))
    return MultilabelTarget.fit(labels, np.ones(B)), labels, rng.normal(size=(B, K))


def numeric_case(rng, error="squared_error"):
    labels = rng.normal(50, 20, size=(B, K))
    return NumericTarget.fit(labels, np.ones(B), error), labels, rng.normal(size=(B, K)) * 2


def huber_case(rng):
    return numeric_case(rng, "huber")


CASES = [class_case, multilabel_case, numeric_case, huber_case]


def naive_loss(target, encoded, scores) -> np.ndarray:
    """(B,) losses in float64, written as in the textbook."""
    if isinstance(target, ClassTarget):
        p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
        return -np.log(p[np.arange(len(p)), encoded])
    if isinstance(target, MultilabelTarget):
        p = 1 / (1 + np.exp(-scores))
        return -(encoded * np.log(p) + (1 - encoded) * np.log(1 - p)).mean(1)
    error = np.abs(scores - encoded)
    if target.error == "squared_error":
        return (error**2).mean(1)
    return np.where(error <= 1, error**2 / 2, error - 0.5).mean(1)


def naive_gradient(target, encoded, scores) -> np.ndarray:
    """(B, K) derivative of each row's loss."""
    if isinstance(target, ClassTarget):
        return np.exp(scores) / np.exp(scores).sum(1, keepdims=True) - np.eye(K)[encoded]
    if isinstance(target, MultilabelTarget):
        return (expit(scores) - encoded) / K
    error = scores - encoded
    return (2 * error if target.error == "squared_error" else np.clip(error, -1, 1)) / K


# ---- losses --------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_the_loss_is_that_of_the_textbook(case, rng):
    target, labels, scores = case(rng)
    encoded = target.encode(labels)
    loss = target.loss(torch.from_numpy(scores), torch.from_numpy(encoded))
    assert loss.shape == (B,) and loss.dtype == torch.float64
    np.testing.assert_allclose(loss, naive_loss(target, encoded, scores), rtol=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_the_gradient_is_that_of_the_textbook(case, rng):
    target, labels, scores = case(rng)
    encoded = torch.from_numpy(target.encode(labels))
    given = torch.from_numpy(scores).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: target.loss(s, encoded), given)
    target.loss(given, encoded).sum().backward()
    np.testing.assert_allclose(
        given.grad, naive_gradient(target, encoded.numpy(), scores), atol=1e-12
    )


@pytest.mark.parametrize("case", CASES)
def test_a_weight_multiplies_the_loss_of_its_row(case, rng):
    target, labels, scores = case(rng)
    encoded, weight = target.encode(labels), rng.uniform(0, 3, B).astype(np.float32)
    loss = WeightedLoss(target)(
        torch.from_numpy(scores), (torch.from_numpy(encoded), torch.from_numpy(weight))
    )
    assert loss.shape == ()
    assert loss.item() == pytest.approx((weight * naive_loss(target, encoded, scores)).mean())


@pytest.mark.parametrize("case", CASES)
def test_a_row_of_no_weight_has_no_gradient(case, rng):
    target, labels, scores = case(rng)
    given = torch.from_numpy(scores).requires_grad_()
    weight = torch.ones(B)
    weight[2] = 0
    WeightedLoss(target)(given, (torch.from_numpy(target.encode(labels)), weight)).backward()
    silent = (given.grad == 0).all(1)
    assert silent.tolist() == [row == 2 for row in range(B)]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e4])
def test_scores_of_any_size_have_a_finite_loss(case, scale, rng):
    target, labels, scores = case(rng)
    given = torch.from_numpy(scores.astype(np.float32) * scale).requires_grad_()
    loss = target.loss(given, torch.from_numpy(target.encode(labels))).sum()
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(given.grad).all()


@pytest.mark.parametrize("case", CASES)
def test_the_prior_is_the_best_constant_to_start_from(case, rng):
    target, labels, _ = case(rng)
    encoded = target.encode(labels)

    def mean_loss(scores):
        return naive_loss(target, encoded, np.broadcast_to(scores, (B, K))).mean()

    best = mean_loss(target.prior)
    if isinstance(target, NumericTarget) and target.error == "huber":
        return  # the mean is a start for Huber's error, not its minimum
    slack = 0.02 if isinstance(target, MultilabelTarget) else 1e-9  # half a row of doubt
    for _ in range(20):
        assert best <= mean_loss(target.prior + rng.normal(size=K)) + slack


# ---- labels in and out ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "labels",
    [
        ["b", "a", "c", "a"],
        [3, -1, 3, 7],
        [2.0, 1.0, 2.0, 0.0],
        [True, False, True, True],
        np.array(["x", "yy", "x", "zzz"], dtype=object),
    ],
    ids=["text", "integers", "floats", "booleans", "objects"],
)
def test_classes_come_back_as_they_went_in(labels):
    labels = np.asarray(labels)
    target = ClassTarget.fit(np.unique(labels), labels, np.ones(4))
    encoded = target.encode(target.check(labels))
    assert encoded.dtype == np.int64 and set(encoded) == set(range(len(target.classes)))
    np.testing.assert_array_equal(target.decode(encoded), labels)
    np.testing.assert_array_equal(target.encode(target.check(labels[:, None])), encoded)


def test_several_labels_come_back_as_they_went_in(rng):
    target, labels, _ = multilabel_case(rng)
    encoded = target.encode(target.check(labels))
    assert encoded.dtype == np.float32
    np.testing.assert_array_equal(target.decode(encoded), labels)
    assert target.decode(encoded).dtype == np.int64


@pytest.mark.parametrize("shape", [(12,), (12, 1), (4, 3)])
@pytest.mark.parametrize("scale", [1e-100, 1e-6, 1.0, 1e12, 1e100])
def test_numbers_come_back_as_they_went_in(shape, scale, rng):
    labels = rng.normal(size=shape) * scale
    target = NumericTarget.fit(labels, np.ones(len(labels)), "huber")
    encoded = target.encode(target.check(labels))
    assert encoded.shape == (len(labels), labels.size // len(labels))
    np.testing.assert_allclose(target.decode(encoded), labels, atol=1e-6 * scale)
    assert target.decode(encoded).shape == shape
    np.testing.assert_allclose(encoded.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(encoded.std(0), 1, atol=1e-6)


def test_integers_are_standardised_as_numbers():
    labels = np.array([1, 2, 3, 2**40])
    target = NumericTarget.fit(labels, np.ones(4), "squared_error")
    np.testing.assert_array_equal(
        target.encode(labels),
        NumericTarget.fit(labels.astype(float), np.ones(4), "squared_error").encode(labels * 1.0),
    )


@pytest.mark.parametrize("value", [0.0, 5.0, 0.1, -3e9, 1e-200])
def test_constant_numbers_are_at_the_centre(value):
    labels = np.full(7, value)
    target = NumericTarget.fit(labels, np.ones(7) / 3, "squared_error")
    assert target.scale.tolist() == [1.0]
    np.testing.assert_allclose(target.encode(labels), 0, atol=1e-6)
    np.testing.assert_allclose(target.combine(np.zeros((2, 7, 1)))[:, 0], labels)


def test_one_constant_column_does_not_touch_the_others(rng):
    labels = np.stack([np.full(B, 3.0), rng.normal(size=B) * 7], axis=1)
    target = NumericTarget.fit(labels, np.ones(B), "squared_error")
    assert target.scale[0] == 1.0 and target.scale[1] == pytest.approx(labels[:, 1].std())


def test_numbers_much_smaller_than_one_are_no_rounding(rng):
    """Concentrations in mol/L, say."""
    labels = rng.normal(size=20) * 1e-14
    target = NumericTarget.fit(labels, np.ones(20), "squared_error")
    assert target.encode(labels).std() == pytest.approx(1, rel=1e-5)


# ---- weights -------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_whole_weights_are_repeated_rows(case, rng):
    _, labels, _ = case(rng)
    repeats = np.arange(B) % 3 + 1
    weighted, repeated = (
        refit(case, labels, repeats.astype(float)),
        refit(case, np.repeat(labels, repeats, axis=0), np.ones(repeats.sum())),
    )
    if not isinstance(weighted, MultilabelTarget):  # whose half a row of doubt counts rows
        np.testing.assert_allclose(weighted.prior, repeated.prior)
    if isinstance(weighted, NumericTarget):
        np.testing.assert_allclose(weighted.center, repeated.center)
        np.testing.assert_allclose(weighted.scale, repeated.scale)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("factor", [2.0, 1 / 64, 2.0**40])
def test_the_unit_of_the_weights_does_not_matter(case, factor, rng):
    _, labels, _ = case(rng)
    weight = rng.uniform(0.5, 2, B)
    one, other = refit(case, labels, weight), refit(case, labels, weight * factor)
    np.testing.assert_array_equal(one.prior, other.prior)
    if isinstance(one, NumericTarget):
        np.testing.assert_array_equal([one.center, one.scale], [other.center, other.scale])


def refit(case, labels, weight):
    if case is class_case:
        return ClassTarget.fit(np.unique(labels), labels, weight)
    if case is multilabel_case:
        return MultilabelTarget.fit(labels, weight)
    return NumericTarget.fit(labels, weight, "squared_error")


def test_the_prior_of_classes_is_their_weighted_frequency():
    target = ClassTarget.fit(np.arange(3), np.array([0, 0, 1, 2]), np.array([1.0, 2.0, 4.0, 1.0]))
    np.testing.assert_allclose(np.exp(target.prior), [3 / 8, 4 / 8, 1 / 8])


def test_a_class_of_no_weight_keeps_a_finite_prior():
    target = ClassTarget.fit(np.arange(3), np.array([0, 1, 2]), np.array([1.0, 1.0, 0.0]))
    assert np.isfinite(target.prior).all() and target.prior.argmin() == 2


def test_a_label_that_all_or_none_have_keeps_a_finite_prior():
    target = MultilabelTarget.fit(np.array([[0, 1]] * 9), np.ones(9))
    p = expit(target.prior)
    assert 0 < p[0] < 0.1 and 0.9 < p[1] < 1
    assert p[0] == pytest.approx(1 - p[1])


# ---- further labels ------------------------------------------------------------------------------


@pytest.mark.parametrize("new", ["z", 3, "", ("a",)])
def test_a_class_that_was_not_seen(new):
    target = ClassTarget(np.array(["a", "b"]), np.zeros(2))
    labels = np.empty(3, dtype=object)
    labels[:] = ["a", new, "b"]
    with pytest.raises(DataError, match=r"\['a', 'b'\]. Got 1 labels of other classes, such as"):
        target.check(labels)


def test_missing_and_misshapen_classes():
    target = ClassTarget(np.array([0, 1]), np.zeros(2))
    with pytest.raises(DataError, match="1 missing ones"):
        target.check(np.array([0.0, np.nan]))
    with pytest.raises(DataError, match=r"Got an array of shape \(2, 2\)"):
        target.check(np.zeros((2, 2)))


def test_some_of_the_classes_are_enough():
    target = ClassTarget(np.array([0, 1, 2]), np.zeros(3))
    assert target.check(np.array([1.0, 1.0])).tolist() == [1, 1]


@pytest.mark.parametrize("labels", [np.zeros(4), np.zeros((4, 2)), np.zeros((4, 3, 1))])
def test_another_number_of_labels(labels):
    with pytest.raises(DataError, match=r"shape \(n, 3\)"):
        MultilabelTarget(np.zeros(3)).check(labels)


def test_labels_that_are_neither_zero_nor_one():
    with pytest.raises(DataError, match="0 and 1"):
        MultilabelTarget(np.zeros(2)).check(np.array([[0, 2]]))


@pytest.mark.parametrize(
    "fitted, further, expected",
    [
        ((9,), (4, 1), r"\(n,\)"),
        ((9, 1), (4,), r"\(n, 1\)"),
        ((9, 2), (4,), r"\(n, 2\)"),
        ((9, 2), (4, 3), r"\(n, 2\)"),
        ((9, 2), (4, 2, 1), ""),
        ((9, 2), (4, 1, 2), ""),
    ],
)
def test_numbers_of_another_shape(fitted, further, expected):
    target = NumericTarget.fit(np.zeros(fitted), np.ones(9), "huber")
    with pytest.raises(DataError, match=f"shape {expected}"):
        target.check(np.zeros(further))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_further_numbers_must_be_finite(bad):
    target = NumericTarget.fit(np.arange(3.0), np.ones(3), "huber")
    with pytest.raises(DataError, match="finite number"):
        target.check(np.array([1.0, bad]))


# ---- ensembles -----------------------------------------------------------------------------------


def test_members_agree_on_the_geometric_mean_of_their_probabilities(rng):
    target, _, _ = class_case(rng)
    scores = rng.normal(size=(4, B, K)) * 3
    p = np.exp(scores) / np.exp(scores).sum(2, keepdims=True)
    expected = p.prod(axis=0) ** (1 / 4)
    expected /= expected.sum(1, keepdims=True)
    combined = target.combine(scores)
    np.testing.assert_allclose(np.exp(combined), expected)
    np.testing.assert_allclose(np.exp(combined).sum(1), 1)


def test_members_agree_on_the_geometric_mean_of_every_label(rng):
    target, _, _ = multilabel_case(rng)
    scores = rng.normal(size=(4, B, K)) * 3
    yes, no = expit(scores).prod(0) ** (1 / 4), expit(-scores).prod(0) ** (1 / 4)
    np.testing.assert_allclose(expit(target.combine(scores)), yes / (yes + no))


def test_members_agree_on_the_mean_of_their_numbers(rng):
    target, _, _ = numeric_case(rng)
    scores = rng.normal(size=(4, B, K))
    each = scores * target.scale + target.center
    np.testing.assert_allclose(target.combine(scores), each.mean(0))


@pytest.mark.parametrize("case", CASES)
def test_members_that_agree_are_as_good_as_one(case, rng):
    target, _, scores = case(rng)
    np.testing.assert_allclose(
        target.combine(np.stack([scores] * 3)), target.combine(scores[None]), atol=1e-12
    )


def test_a_constant_on_all_classes_of_a_member_changes_nothing(rng):
    target, _, _ = class_case(rng)
    scores = rng.normal(size=(2, B, K))
    shifted = scores + rng.normal(size=(2, B, 1)) * 100
    np.testing.assert_allclose(target.combine(scores), target.combine(shifted), atol=1e-10)


def test_sure_members_stay_finite(rng):
    target, _, _ = class_case(rng)
    scores = np.array([[[800.0, 0.0, -800.0]], [[-800.0, 0.0, 800.0]]])
    combined = target.combine(scores)
    assert np.isfinite(combined).all()
    np.testing.assert_allclose(np.exp(combined).sum(1), 1)
    assert combined[0, 0] == combined[0, 2] == combined[0].max()


def test_numbers_are_answered_in_the_shape_of_the_labels():
    flat = NumericTarget.fit(np.arange(4.0), np.ones(4), "huber")
    column = NumericTarget.fit(np.arange(4.0)[:, None], np.ones(4), "huber")
    numbers = np.arange(5.0)[:, None]
    assert flat.answer(numbers).shape == (5,) and column.answer(numbers).shape == (5, 1)


# ---- hold-outs and scorers -----------------------------------------------------------------------


def test_only_classes_are_strata(rng):
    target, labels, _ = class_case(rng)
    np.testing.assert_array_equal(target.strata(target.encode(labels)), target.encode(labels))
    for case in (multilabel_case, numeric_case):
        target, labels, _ = case(rng)
        strata = target.strata(target.encode(labels))
        assert strata.shape == (B,) and not strata.any()


def test_scorers_of_classes(rng):
    labels = np.array(["no", "yes"] * 5)
    target = ClassTarget.fit(np.unique(labels), labels, np.ones(10))
    combined = target.combine(rng.normal(size=(1, 10, 2)))
    judge, X = target.predictor(combined), np.zeros((10, 1))
    p = np.exp(combined)
    assert get_scorer("roc_auc")(judge, X, labels) == roc_auc_score(labels, p[:, 1])
    assert get_scorer("neg_log_loss")(judge, X, labels) == pytest.approx(-log_loss(labels, p))
    right = np.unique(labels)[p.argmax(1)] == labels
    assert get_scorer("accuracy")(judge, X, labels) == right.mean()


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("scoring", ["roc_auc", "average_precision", "accuracy", "f1_macro"])
def test_scorers_of_several_labels(k, scoring, rng):
    labels = np.stack([np.arange(12) // (j + 1) % 2 for j in range(k)], axis=1)
    target = MultilabelTarget.fit(labels, np.ones(12))
    scores = rng.normal(size=(12, k)) + labels
    score = get_scorer(scoring)(target.predictor(scores), np.zeros((12, 1)), labels)
    metric = get_scorer(scoring)._score_func
    soft = scoring in ("roc_auc", "average_precision")
    expected = metric(labels, scores if soft else (scores > 0), **get_scorer(scoring)._kwargs)
    assert score == pytest.approx(expected)


@pytest.mark.parametrize("shape", [(6,), (6, 1), (6, 2)])
def test_scorers_of_numbers(shape, rng):
    labels = rng.normal(size=shape) * 100
    target = NumericTarget.fit(labels, np.ones(6), "squared_error")
    numbers = target.combine(rng.normal(size=(1, 6, labels.size // 6)))
    score = get_scorer("r2")(target.predictor(numbers), np.zeros((6, 1)), labels)
    assert score == pytest.approx(r2_score(labels, numbers.reshape(shape)))


@pytest.mark.parametrize("case", CASES)
def test_targets_can_be_pickled(case, rng):
    target, labels, scores = case(rng)
    again = pickle.loads(pickle.dumps(target))
    np.testing.assert_array_equal(again.encode(labels), target.encode(labels))
    np.testing.assert_array_equal(again.combine(scores[None]), target.combine(scores[None]))
