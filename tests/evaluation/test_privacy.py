"""Copies are found, and strangers are not accused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from tawt_sklearn.datasets import make_icu_stays
from tawt_sklearn.evaluation import _neighbours as module
from tawt_sklearn.evaluation import (
    distance_to_closest_record,
    membership_inference_score,
    nearest_neighbour_adversarial_accuracy,
    subject_bootstrap,
)
from tawt_sklearn.evaluation._frames import read_histories
from tawt_sklearn.evaluation._neighbours import Space, nearest
from tawt_sklearn.exceptions import DataError

from .frames import each_value, global_random_state, random_frame

MEASURES = (
    distance_to_closest_record,
    membership_inference_score,
    nearest_neighbour_adversarial_accuracy,
)
QUICK = {"n_bootstrap": 20, "random_state": 0}


@pytest.fixture(scope="module")
def cohort() -> dict[str, pd.DataFrame]:
    X, _ = make_icu_stays(600, empty_fraction=0.0, random_state=1)
    train, test, others = X.iloc[:200], X.iloc[200:400], X.iloc[400:]
    return {
        "train": train,
        "test": test,
        "others": others,
        "copies": subject_bootstrap(train, random_state=0),
    }


def brute_force(points, others):
    """All differences at once, without the shortcut through squares."""
    return np.sqrt(((points[:, None] - others[None]) ** 2).sum(axis=2))


def test_the_nearest_are_those_of_brute_force(monkeypatch):
    rng = np.random.default_rng(0)
    points, others = rng.normal(size=(20, 5)), rng.normal(size=(15, 5))
    others[3] = points[7]
    monkeypatch.setattr(module, "CHUNK_CELLS", 60)  # four points at once
    expected = brute_force(points, others)
    subset = np.array([0, 3, 9])
    result = nearest(points, others, [np.arange(15), subset])
    np.testing.assert_allclose(result, [expected.min(axis=1), expected[:, subset].min(axis=1)])
    assert result[0, 7] == 0.0
    own = brute_force(points, points)
    np.fill_diagonal(own, np.inf)
    np.testing.assert_allclose(nearest(points, points, themselves=True)[0], own.min(axis=1))


def test_points_are_standardised_and_what_is_missing_is_told(real):
    (histories,) = read_histories(real)
    points = Space.of(histories).points(histories)
    assert np.isfinite(points).all()
    scaled, indicators = points[:, : -Space.of(histories).indicators.size], points[:, -4:]
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-9)
    assert set(np.unique(indicators)) <= {0.0, 1.0}


def test_distances_to_train_and_test(cohort):
    train, test, made = cohort["train"], cohort["test"], cohort["others"]
    measure = distance_to_closest_record(train, test, made, **QUICK)
    read = read_histories(train, test, made, names=("a", "b", "c"))
    a, b, c = (Space.of(read[0]).points(one) for one in read)
    near = brute_force(c, a).min(axis=1), brute_force(c, b).min(axis=1)
    assert measure.value == pytest.approx(np.mean(near[0] < near[1]))
    assert measure.details["median_ratio"] == pytest.approx(np.median(near[0]) / np.median(near[1]))
    assert measure.details["train_5th_percentile"] == pytest.approx(np.quantile(near[0], 0.05))
    assert 0.4 < measure.value < 0.6
    assert measure.details["copies_of_train"] == 0.0


def test_copies_are_nearest_to_train(cohort):
    measure = distance_to_closest_record(cohort["train"], cohort["test"], cohort["copies"], **QUICK)
    assert measure.value == 1.0
    assert measure.details["copies_of_train"] == 1.0
    assert measure.details["median_ratio"] == 0.0
    noisy = each_value(cohort["copies"], lambda v: v * np.float32(1.001))
    almost = distance_to_closest_record(cohort["train"], cohort["test"], noisy, **QUICK)
    assert almost.value > 0.95
    assert almost.details["copies_of_train"] < 0.1


def test_train_and_test_are_compared_in_equal_numbers(cohort):
    everyone = pd.concat([cohort["train"], cohort["test"].iloc[:100]])
    rest, made = cohort["test"].iloc[100:], cohort["others"]
    measure = distance_to_closest_record(everyone, rest, made, n_draws=8, **QUICK)
    assert 0.4 < measure.value < 0.6
    alone = distance_to_closest_record(rest, everyone, made, n_draws=8, **QUICK)
    assert 0.4 < alone.value < 0.6


def test_empty_histories_are_no_copies():
    X = random_frame(0, 60, static=False)
    lengths = X["events"].events.lengths
    empty = X[lengths == 0]
    assert len(empty)
    made = pd.concat([empty, X[lengths > 0].iloc[:5]])
    details = distance_to_closest_record(X, X.iloc[:30], made, **QUICK).details
    assert details["copies_of_train"] == pytest.approx(5 / len(made))


def test_members_are_found_from_copies_and_not_from_strangers(cohort):
    train, test = cohort["train"], cohort["test"]
    caught = membership_inference_score(train, test, cohort["copies"], **QUICK)
    assert caught.low > 0.7
    assert caught.details.loc["distance", "tpr_at_1pct_fpr"] > 0.5
    assert caught.details.loc["density", "auc"] > 0.55
    fair = membership_inference_score(train, test, cohort["others"], **QUICK)
    assert 0.4 < fair.value < 0.6
    assert fair.details.loc["distance", "tpr_at_1pct_fpr"] < 0.1


def test_the_distance_attack_is_the_auc_of_distances(cohort):
    read = read_histories(*(cohort[k] for k in ("train", "test", "others")), names=("a", "b", "c"))
    a, b, c = (Space.of(read[0]).points(one) for one in read)
    score = -np.r_[brute_force(a, c).min(axis=1), brute_force(b, c).min(axis=1)]
    member = np.repeat([1, 0], [len(a), len(b)])
    measure = membership_inference_score(
        cohort["train"], cohort["test"], cohort["others"], n_bootstrap=0
    )
    assert measure.value == pytest.approx(roc_auc_score(member, score))


def test_the_likelihood_attack(cohort):
    known = set(cohort["train"].index)

    def log_prob(X):
        return np.array([float(label in known) for label in X.index])

    frames = cohort["train"], cohort["test"], cohort["others"]
    measure = membership_inference_score(*frames, log_prob=log_prob, **QUICK)
    assert measure.details.loc["likelihood"].tolist() == [1.0, 1.0]
    assert measure.value == measure.details.loc["distance", "auc"]
    for wrong, got in (
        (lambda X: np.zeros(3), r"shape \(3,\)"),
        (lambda X: np.full(len(X), np.nan), "NaN"),
    ):
        with pytest.raises(DataError, match=f"Expected log_prob to return one number.*Got {got}"):
            membership_inference_score(*frames, log_prob=wrong, **QUICK)


def test_too_few_test_subjects_for_a_density(cohort):
    measure = membership_inference_score(
        cohort["train"], cohort["test"].iloc[:12], cohort["others"], **QUICK
    )
    assert measure.details.loc["density"].isna().all()


def naive_accuracy(real, made):
    between = brute_force(real, made)
    within = [brute_force(side, side) + np.diag([np.inf] * len(side)) for side in (real, made)]
    first = np.mean(between.min(axis=1) > within[0].min(axis=1))
    return (first + np.mean(between.min(axis=0) > within[1].min(axis=1))) / 2


def test_adversarial_accuracy(cohort):
    frames = cohort["train"], cohort["test"], cohort["others"]
    measure = nearest_neighbour_adversarial_accuracy(*frames, **QUICK)
    read = read_histories(*frames, names=("a", "b", "c"))
    a, b, c = (Space.of(read[0]).points(one) for one in read)
    assert measure.details["aa_train"] == pytest.approx(naive_accuracy(a, c))
    assert measure.details["aa_test"] == pytest.approx(naive_accuracy(b, c))
    difference = measure.details["aa_test"] - measure.details["aa_train"]
    assert measure.value == pytest.approx(difference)
    assert abs(measure.value) < 0.1
    copies = nearest_neighbour_adversarial_accuracy(
        cohort["train"], cohort["test"], cohort["copies"], **QUICK
    )
    assert copies.low > 0.25


def test_the_same_seed_gives_the_same_result_and_the_global_state_is_left_alone(cohort):
    state = global_random_state()
    frames = cohort["train"], cohort["test"].iloc[:150], cohort["others"].iloc[:50]
    for measure in MEASURES:
        first, second = (measure(*frames, **QUICK) for _ in range(2))
        assert (first.value, first.low, first.high) == (second.value, second.low, second.high)
        measure(*frames, n_bootstrap=2)
    assert global_random_state() == state


def test_panels_have_privacy_too():
    panel = np.random.default_rng(0).normal(size=(60, 2, 6))
    assert distance_to_closest_record(panel[:30], panel[30:], panel[:30], **QUICK).value == 1.0


@pytest.mark.parametrize("measure", MEASURES)
def test_one_subject_is_too_few(measure, cohort):
    with pytest.raises(DataError, match="Expected at least 2 subjects in test. Got 1"):
        measure(cohort["train"], cohort["test"].iloc[:1], cohort["others"])


def test_figures_that_are_no_counts(cohort):
    frames = cohort["train"], cohort["test"], cohort["others"]
    with pytest.raises(DataError, match="Expected n_draws"):
        distance_to_closest_record(*frames, n_draws=0)
    with pytest.raises(DataError, match="Expected n_components"):
        membership_inference_score(*frames, n_components=0)
