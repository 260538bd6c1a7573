"""Temperature scaling: the temperature is the best one, and probabilities gain by it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, log_expit, log_softmax
from sklearn.base import clone
from sklearn.metrics import log_loss, roc_auc_score

from tawt_sklearn.estimators._calibration import N_FOLDS, find_temperature, folds, tempered
from tawt_sklearn.exceptions import DataError, TrainingWarning

N = 60


@pytest.fixture
def panel() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(N, 2, 6))


@pytest.fixture
def classes(panel) -> np.ndarray:
    return (panel[:, 0].mean(axis=1) > 0).astype(int)


@pytest.fixture
def overconfident(quick):
    """A factory of classifiers that learn their training rows by heart."""

    def make(**parameters):
        by_heart = {
            "min_steps": 80, "learning_rate": 0.01, "dropout": 0.0, "code_dropout": 0.0,
            "window_dropout": 0.0, "n_average": 1,
        }  # fmt: skip
        return quick(**(by_heart | parameters))

    return make


# ---- the search for the temperature -------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("spread", [0.3, 2.0, 8.0])
@pytest.mark.parametrize("multilabel", [False, True])
def test_no_temperature_is_better(seed, spread, multilabel):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(200, 3)) * spread
    weight = rng.uniform(0.1, 2, 200).astype(np.float32)
    if multilabel:
        encoded = (rng.random((200, 3)) < expit(scores / 2)).astype(np.float32)
    else:
        scores = log_softmax(scores, axis=1)
        encoded = (scores / 2 + rng.gumbel(size=(200, 3))).argmax(1)

    def loss(t):
        if multilabel:
            each = -log_expit(np.where(encoded, scores, -scores) / t).mean(1)
        else:
            p = np.exp(log_softmax(scores / t, axis=1))
            each = -np.log(p[np.arange(200), encoded])
        return np.average(each, weights=weight)

    found = find_temperature(scores, encoded, weight, multilabel)
    grid = np.geomspace(0.05, 20, 401)
    best = grid[np.argmin([loss(t) for t in grid])]
    assert found == pytest.approx(best, rel=0.02)
    assert loss(found) <= min(loss(t) for t in grid) + 1e-6
    assert found == pytest.approx(2, rel=0.4) or spread < 1


def test_whole_weights_are_repeated_rows():
    rng = np.random.default_rng(0)
    scores = log_softmax(rng.normal(size=(40, 2)) * 4, axis=1)
    encoded, weight = rng.integers(0, 2, 40), rng.integers(1, 4, 40)
    weighted = find_temperature(scores, encoded, weight.astype(np.float32), False)
    ones = np.ones(weight.sum(), np.float32)
    repeated = find_temperature(scores.repeat(weight, 0), encoded.repeat(weight), ones, False)
    assert weighted == pytest.approx(repeated, rel=1e-4)


@pytest.mark.filterwarnings("ignore:No temperature:tawt_sklearn.exceptions.TrainingWarning")
def test_scores_that_are_always_right_or_always_wrong_stay_within_bounds():
    scores, ones = np.log([[0.9, 0.1]] * 5), np.ones(5, np.float32)
    right = find_temperature(scores, np.zeros(5, int), ones, False)
    wrong = find_temperature(scores, np.ones(5, int), ones, False)
    assert 0.05 <= right < 0.1 and 19 < wrong <= 20


def test_a_temperature_of_one_changes_nothing():
    scores = log_softmax(np.random.default_rng(0).normal(size=(9, 3)), axis=1)
    np.testing.assert_allclose(tempered(scores, 1.0, False), scores)
    np.testing.assert_array_equal(tempered(scores, 1.0, True), scores)


def test_folds_share_the_rows_evenly():
    strata = np.repeat([0, 1, 2, 3], [60, 10, 2, 1])
    fold = folds(strata, np.random.RandomState(0))
    assert set(fold) == {-1, 0, 1, 2}
    for stratum, n in enumerate([60, 10, 2, 1]):
        of_stratum = fold[strata == stratum]
        assert (of_stratum == -1).sum() == 1  # which every fold trains on
        counts = np.bincount(of_stratum[of_stratum >= 0], minlength=N_FOLDS)
        assert counts.max() - counts.min() <= 1 and counts.sum() == n - 1
    assert not np.array_equal(fold, folds(strata, np.random.RandomState(1)))


# ---- classifiers ---------------------------------------------------------------------------------


def test_without_calibration_the_temperature_is_one(panel, classes, quick):
    assert quick().fit(panel, classes).temperature_ == 1.0


def test_calibration_changes_nothing_but_the_temperature(panel, classes, quick):
    plain = quick().fit(panel, classes)
    calibrated = quick(calibrate=True).fit(panel, classes)
    t = calibrated.temperature_
    assert t != 1.0
    expected = plain.decision_function(panel) / t
    np.testing.assert_allclose(calibrated.decision_function(panel), expected)
    np.testing.assert_array_equal(calibrated.predict(panel), plain.predict(panel))
    np.testing.assert_allclose(
        roc_auc_score(classes, calibrated.predict_proba(panel)[:, 1]),
        roc_auc_score(classes, plain.predict_proba(panel)[:, 1]),
    )


@pytest.mark.filterwarnings("ignore:No temperature:tawt_sklearn.exceptions.TrainingWarning")
@pytest.mark.parametrize("k", [2, 3])
def test_all_answers_have_the_same_temperature(panel, quick, k):
    clf = quick(calibrate=True).fit(panel, np.arange(N) % k)
    p, odds = clf.predict_proba(panel), clf.decision_function(panel)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    np.testing.assert_allclose(clf.predict_log_proba(panel), np.log(p))
    np.testing.assert_array_equal(clf.predict(panel), clf.classes_[p.argmax(axis=1)])
    expected = np.log(p[:, 1] / p[:, 0]) if k == 2 else np.log(p)
    np.testing.assert_allclose(odds, expected, atol=1e-12)


@pytest.mark.filterwarnings("ignore:No temperature:tawt_sklearn.exceptions.TrainingWarning")
def test_overconfidence_is_cooled_down(panel, overconfident):
    """Labels that nothing explains: the network is sure of what it has learned by heart."""
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 2, N)
    clf = overconfident(calibrate=True).fit(panel, noise)
    assert clf.temperature_ > 2
    fresh, labels = rng.normal(size=(300, 2, 6)), rng.integers(0, 2, 300)
    calibrated = log_loss(labels, clf.predict_proba(fresh))
    clf.temperature_ = 1.0
    assert calibrated < log_loss(labels, clf.predict_proba(fresh)) - 0.02


def test_validation_data_set_the_temperature(panel, classes, quick):
    rng = np.random.default_rng(2)
    X_val, y_val = rng.normal(size=(80, 2, 6)), rng.integers(0, 2, 80)
    clf = quick(calibrate=True, early_stopping=False, learning_rate=0.02, min_steps=12)
    clf.fit(panel, classes, X_val=X_val, y_val=y_val)
    plain = clone(clf).set_params(calibrate=False).fit(panel, classes, X_val=X_val, y_val=y_val)
    log_p = plain.predict_log_proba(X_val)
    grid = np.geomspace(0.05, 20, 401)
    losses = [-log_softmax(log_p / t, axis=1)[np.arange(80), y_val].mean() for t in grid]
    assert clf.temperature_ == pytest.approx(grid[np.argmin(losses)], rel=0.02)


def test_several_labels_share_a_temperature(panel, quick):
    labels = np.random.default_rng(0).integers(0, 2, (N, 2))
    clf = quick(calibrate=True, learning_rate=0.02).fit(panel, labels)
    plain = quick(learning_rate=0.02).fit(panel, labels)
    odds = plain.decision_function(panel) / clf.temperature_
    assert clf.temperature_ != 1.0
    np.testing.assert_allclose(clf.decision_function(panel), odds)
    np.testing.assert_allclose(clf.predict_proba(panel), expit(odds))
    np.testing.assert_allclose(clf.predict_log_proba(panel), np.log(expit(odds)))
    np.testing.assert_array_equal(clf.predict(panel), plain.predict(panel))


def test_calibration_repeats_itself(panel, classes, quick):
    order = np.random.default_rng(0).permutation(N)
    one = quick(calibrate=True).fit(panel, classes)
    other = quick(calibrate=True).fit(panel[order], classes[order])
    assert one.temperature_ == other.temperature_


def test_calibration_with_weights(panel, classes, quick):
    weights = np.arange(N) % 3
    rows = np.repeat(np.arange(N), weights)
    weighted = quick(calibrate=True).fit(panel, classes, sample_weight=weights)
    repeated = quick(calibrate=True).fit(panel[rows], classes[rows])
    assert weighted.temperature_ == repeated.temperature_


def test_a_class_with_one_row_is_known_to_every_fold(panel, quick):
    labels = np.array(["rare"] + ["common", "other"] * 29 + ["common"])
    clf = quick(calibrate=True).fit(panel, labels)
    assert np.isfinite(clf.predict_proba(panel)).all() and 0.04 < clf.temperature_ < 21


def test_too_few_rows_to_hold_out(panel, quick):
    clf = quick(calibrate=True)
    with pytest.raises(DataError, match="rows to hold out for calibrate=True. Got 2 different"):
        clf.fit(panel[:2], [0, 1])
    assert vars(clf) == clf.get_params(deep=False)


def test_a_second_fit_forgets_the_temperature(panel, classes, quick):
    clf = quick(calibrate=True).fit(panel, classes)
    assert clf.set_params(calibrate=False).fit(panel, classes).temperature_ == 1.0


def test_a_callback_of_the_user_follows_the_members_only(panel, classes, quick):
    """The networks of the folds are not what was asked for."""
    from skorch.callbacks import Callback

    class Count(Callback):
        runs = 0

        def on_train_begin(self, net, **kwargs):
            Count.runs += 1

    quick(calibrate=True, callbacks=[Count()]).fit(panel, classes)
    assert Count.runs == 1


def test_partial_fit_keeps_the_temperature_of_a_calibrated_fit(panel, classes, quick):
    clf = quick(calibrate=True).fit(panel, classes)
    t = clf.temperature_
    assert clf.partial_fit(panel, classes).temperature_ == t


def test_the_temperature_is_saved(panel, classes, quick, tmp_path):
    clf = quick(calibrate=True).fit(panel, classes)
    clf.save(tmp_path / "model.tawt")
    again = type(clf).load(tmp_path / "model.tawt", device="cpu")
    assert again.temperature_ == clf.temperature_
    np.testing.assert_allclose(again.predict_proba(panel), clf.predict_proba(panel), rtol=1e-12)


def test_a_temperature_at_the_end_of_its_range_is_reported():
    scores = np.log(np.full((6, 2), 0.5)) + np.array([[0.3, -0.3]])
    wrong = np.ones(6, np.int64)
    with pytest.warns(TrainingWarning, match="6 held-out rows: their scores say nothing"):
        find_temperature(scores, wrong, np.ones(6, np.float32), multilabel=False)
