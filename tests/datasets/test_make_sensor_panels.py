"""The simulated panels follow exactly the rules that their documentation promises."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.model_selection import cross_val_predict

from tawt_sklearn.datasets import make_sensor_panels
from tawt_sklearn.datasets._description import load_description
from tawt_sklearn.datasets.panels import PULSE

TREES = HistGradientBoostingClassifier(max_iter=40, max_depth=4, random_state=0)
# Out-of-fold AUROC of a model that has nothing to find: sd .009 to .015, 12,000 to 4,000 cases
CHANCE = (0.46, 0.54)
CLEAN = {"missing": 0.0, "noise": 0.0}
TASKS = ["classification", "regression", "per_step"]


def auroc(features, y) -> float:
    score = cross_val_predict(clone(TREES), features, y, cv=3, method="predict_proba")
    return roc_auc_score(y, score[:, 1])


def is_chance(score: float) -> bool:
    return CHANCE[0] < score < CHANCE[1]


def last_values(X: np.ndarray) -> np.ndarray:
    """Last observed value of each channel, (B, C)."""
    step = np.where(np.isnan(X), -1, np.arange(X.shape[2])).max(axis=2, keepdims=True)
    return np.take_along_axis(X, np.maximum(step, 0), axis=2)[..., 0]


def summaries(X: np.ndarray) -> np.ndarray:
    """Marginal statistics of each channel, (B, 7 * C)."""
    last = last_values(X)
    statistics = [f(X, axis=2) for f in (np.nanmean, np.nanstd, np.nanmin, np.nanmax, np.nanmedian)]
    return np.concatenate([*statistics, last, last - statistics[0]], axis=1)


def class_by_rule(X: np.ndarray, n_channels: int, n_classes: int = 2) -> np.ndarray:
    """Which of the first channels peaks first, shifted by the state between it and the next."""
    peaks = X[:, :n_classes].argmax(axis=2)
    first, step = peaks.argmin(axis=1), np.sort(peaks, axis=1)[:, :2].sum(axis=1) // 2
    state = X[np.arange(len(X)), n_channels, step] if X.shape[1] > n_channels else 0
    return (first + state) % n_classes


def target_by_rule(case: np.ndarray, n_channels: int) -> float:
    """Trend of channel 0 plus the level of channel 1 during state 1."""
    steps = case.shape[1]
    slope = np.polyfit(np.arange(steps) / (steps - 1), case[0], 1)[0]
    during = case[n_channels] == 1 if len(case) > n_channels else np.ones(steps, bool)
    return slope + case[1, during].mean()


def labels_by_rule(case: np.ndarray) -> np.ndarray:
    """Walk along the steps and remember the channel of the latest pulse that is over."""
    labels, memory = [], -1
    level = case[:2].min(axis=1)
    peaks = {
        (step, channel)
        for channel in (0, 1)
        for step in range(case.shape[1])
        if np.isclose(case[channel, step] - level[channel], PULSE.max())
    }
    for step in range(case.shape[1]):
        # The peak is the middle of five steps: three steps later the pulse is over.
        for channel in (0, 1):
            if (step - 3, channel) in peaks:
                memory = 1 - channel
        labels.append(memory)
    return np.array(labels)


# The rules


@pytest.mark.parametrize("n_categorical", [0, 1, 2])
@pytest.mark.parametrize("n_classes", [2, 3, 5])
def test_classes_follow_the_rule(n_categorical, n_classes):
    X, y = make_sensor_panels(
        500, 5, n_categorical, n_classes=n_classes, random_state=0, **CLEAN
    )  # fmt: skip
    np.testing.assert_array_equal(y, class_by_rule(X, 5, n_classes))
    assert y.dtype == np.int64
    share = np.bincount(y) / len(y)
    np.testing.assert_allclose(share, 1 / n_classes, atol=0.08)


@pytest.mark.parametrize("n_categorical", [0, 1])
def test_marginal_statistics_do_not_tell_the_class(n_categorical):
    X, y = make_sensor_panels(12_000, 3, n_categorical, random_state=1)
    assert is_chance(auroc(summaries(X), y))


def test_neither_order_nor_state_alone_tells_the_class():
    X, y = make_sensor_panels(4000, random_state=2, **CLEAN)
    peaks = X[:, :2].argmax(axis=2)
    order = peaks.argmin(axis=1)
    state = X[np.arange(len(X)), 6, peaks.sum(axis=1) // 2]
    assert abs((order == y).mean() - 0.5) < 0.03
    assert abs((state == y).mean() - 0.5) < 0.03
    assert ((order != state) == y).all()


def test_states_at_the_pulses_do_not_tell_the_class_without_the_order():
    X, y = make_sensor_panels(8000, 2, random_state=2, **CLEAN)
    peaks = X[:, :2].argmax(axis=2)
    states = X[np.arange(len(X))[:, None], 2, peaks]
    for pair in ([0, 0], [0, 1], [1, 0], [1, 1]):
        among = (states == pair).all(axis=1)
        assert abs(y[among].mean() - 0.5) < 0.05


def test_the_rule_survives_noise_and_missing_values():
    X, y = make_sensor_panels(2000, random_state=3)
    filled = np.where(np.isnan(X[:, :2]), -np.inf, X[:, :2])
    # The state is held for several steps: the last one known stands in for a missing one.
    state = X[:, 6:].copy()
    for step in range(1, X.shape[2]):
        state[..., step] = np.where(
            np.isnan(state[..., step]), state[..., step - 1], state[..., step]
        )
    found = class_by_rule(np.concatenate([filled, np.nan_to_num(state)], axis=1), 2)
    assert (found == y).mean() > 0.85


@pytest.mark.parametrize("n_categorical", [0, 1, 2])
@pytest.mark.parametrize("lengths", [None, (16, 40)])
def test_regression_follows_the_rule(n_categorical, lengths):
    X, y = make_sensor_panels(
        200, 4, n_categorical, task="regression", lengths=lengths, random_state=0, **CLEAN
    )
    np.testing.assert_allclose(y, [target_by_rule(case, 4) for case in X], atol=1e-9)
    assert y.dtype == np.float64


def test_noise_of_the_regression_target():
    _, truth = make_sensor_panels(5000, 2, task="regression", noise=0.0, random_state=0)
    _, y = make_sensor_panels(5000, 2, task="regression", noise=1.0, random_state=0)
    assert r2_score(y, truth) == pytest.approx(2 / 3, abs=0.03)


def test_regression_needs_the_state():
    X, y = make_sensor_panels(3000, 2, task="regression", random_state=0, **CLEAN)
    slope = X[:, 0, -1] - X[:, 0, 0]
    at_all_times = X[:, 1].mean(axis=1)
    assert np.corrcoef(slope + at_all_times, y)[0, 1] < 0.93


@pytest.mark.parametrize("lengths", [None, (16, 60)])
def test_labels_of_steps_follow_the_rule(lengths):
    X, y = make_sensor_panels(300, task="per_step", lengths=lengths, random_state=0, **CLEAN)
    for case, labels in zip(X, y, strict=True):
        np.testing.assert_array_equal(labels, labels_by_rule(case))
        assert labels[-1] >= 0, "every case has a label"
        assert labels[0] == -1


def test_values_at_a_step_do_not_tell_its_label():
    X, y = make_sensor_panels(4000, 2, task="per_step", random_state=0)
    for step in (12, 30, 47):
        known = y[:, step] >= 0
        assert is_chance(auroc(X[known, :, step], y[known, step]))
    alike = y[:, 1:] == y[:, :-1]
    assert alike.mean() > 0.9, "the label is remembered for a while"
    assert 0.4 < y[y >= 0].mean() < 0.6


def test_pulses_of_both_channels_are_alike():
    X, _ = make_sensor_panels(400, 3, task="per_step", random_state=0, **CLEAN)
    above = X[:, :3] - X[:, :3].min(axis=2, keepdims=True)
    for channel in range(3):
        heights = np.unique(above[:, channel].round(9))
        np.testing.assert_allclose(heights, [0, *np.unique(PULSE)], atol=1e-9)
        assert (above[:, channel] > 0).mean() == pytest.approx(0.22, abs=0.03)


# Form


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(("n_channels", "n_categorical"), [(2, 0), (3, 1), (6, 3)])
def test_form(task, n_channels, n_categorical):
    X, y = make_sensor_panels(50, n_channels, n_categorical, 30, task=task, random_state=0)
    assert X.shape == (50, n_channels + n_categorical, 30)
    assert X.dtype == np.float64
    assert y.shape == ((50, 30) if task == "per_step" else (50,))
    assert y.dtype == (np.float64 if task == "regression" else np.int64)
    codes = X[:, n_channels:]
    n_states = 2 if task == "classification" else 3
    assert set(codes[~np.isnan(codes)]) <= set(range(n_states))


@pytest.mark.parametrize("task", TASKS)
def test_unequal_lengths(task):
    X, y = make_sensor_panels(80, 3, 1, task=task, lengths=(16, 20), random_state=0)
    assert isinstance(X, list)
    assert {case.shape for case in X} == {(4, steps) for steps in range(16, 21)}
    if task == "per_step":
        assert [len(labels) for labels in y] == [case.shape[1] for case in X]
        assert all(labels.dtype == np.int64 for labels in y)
    else:
        assert y.shape == (80,)


def test_classes_of_unequal_lengths_follow_the_rule():
    X, y = make_sensor_panels(300, 2, 1, lengths=(16, 50), random_state=0, **CLEAN)
    assert [int(class_by_rule(case[None], 2)[0]) for case in X] == y.tolist()


def test_states_visit_all_codes_and_stay_for_a_while():
    X, _ = make_sensor_panels(500, 3, 2, 48, n_classes=3, random_state=0, **CLEAN)
    codes = X[:, 3:]
    assert all((codes == code).any(axis=2).all() for code in range(3))
    changes = (np.diff(codes, axis=2) != 0).sum(axis=2)
    assert 2 <= changes.min() and changes.max() <= 5
    lone = (codes[..., 1:-1] != codes[..., :-2]) & (codes[..., 1:-1] != codes[..., 2:])
    assert not lone.any(), "no state is left after one step"


@pytest.mark.parametrize("missing", [0.0, 0.2, 0.6])
def test_share_of_missing_values(missing):
    X, _ = make_sensor_panels(2000, 3, 1, missing=missing, random_state=0)
    absent = np.isnan(X)
    np.testing.assert_allclose(absent.mean(axis=(0, 2)), missing, atol=0.015)
    np.testing.assert_allclose(absent.mean(axis=(0, 1)), missing, atol=0.03)


def test_missing_values_come_in_runs_and_alone():
    X, _ = make_sensor_panels(2000, 2, 0, random_state=0)
    absent = np.isnan(X)
    alone = absent[..., 1:-1] & ~absent[..., :-2] & ~absent[..., 2:]
    runs = absent[..., :-3] & absent[..., 1:-2] & absent[..., 2:-1] & absent[..., 3:]
    assert alone.mean() > 0.04
    assert runs.mean() > 10 * 0.2**4, "far more than by chance"


# Randomness


def same(first, second) -> bool:
    return all(np.array_equal(a, b, equal_nan=True) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("make", [int, np.random.RandomState, np.random.default_rng])
def test_same_random_state_same_panels(task, make):
    results = [
        make_sensor_panels(20, task=task, lengths=(16, 30), random_state=make(seed))
        for seed in (5, 5, 6)
    ]
    (one, y_one), (again, y_again), (other, _) = results
    assert same(one, again) and same(y_one, y_again)
    assert not same([one[0][:, :16]], [other[0][:, :16]])


def test_global_random_state_is_untouched():
    state = np.random.get_state()  # noqa: NPY002
    first, second = make_sensor_panels(20), make_sensor_panels(20)
    after = np.random.get_state()  # noqa: NPY002
    assert not same([first[0]], [second[0]])
    np.testing.assert_array_equal(state[1], after[1])
    assert state[2:] == after[2:]


@pytest.mark.parametrize("task", TASKS)
def test_missing_and_noise_leave_the_panels_underneath_alone(task):
    X, y = make_sensor_panels(50, task=task, noise=0.0, missing=0.5, random_state=4)
    clean, y_clean = make_sensor_panels(50, task=task, random_state=4, **CLEAN)
    np.testing.assert_array_equal(y, y_clean)
    np.testing.assert_array_equal(np.where(np.isnan(X), clean, X), clean)
    noisy, _ = make_sensor_panels(50, task=task, missing=0.0, noise=0.3, random_state=4)
    difference = noisy - clean
    assert difference[:, :6].std() == pytest.approx(0.3, rel=0.05)
    assert not difference[:, 6:].any(), "codes have no noise"


# Parameters


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_cases": 0}, "n_cases must be a whole number of at least 1. Got 0"),
        ({"n_channels": 1}, "n_channels must be a whole number of at least 2. Got 1"),
        ({"n_channels": 2.5}, "n_channels must be a whole number of at least 2. Got 2.5"),
        ({"n_categorical": -1}, "n_categorical must be a whole number of at least 0. Got -1"),
        ({"n_classes": 1}, "n_classes must be a whole number of at least 2. Got 1"),
        ({"n_channels": 2, "n_classes": 3}, "at least n_classes.*n_channels=2 and n_classes=3"),
        ({"n_timepoints": 15}, "n_timepoints must be .* at least 16.* Got 15"),
        ({"n_timepoints": 20, "n_classes": 3}, "n_timepoints must be .* at least 22.* Got 20"),
        ({"lengths": (10, 20)}, "lengths must be .* at least 16.* Got 10"),
        ({"lengths": (30, 20)}, r"smaller number first. Got \(30, 20\)"),
        ({"lengths": 20}, "lengths must be a pair.* Got 20"),
        ({"task": "cluster"}, "task must be one of classification, regression.* Got 'cluster'"),
        ({"missing": 1.0}, r"missing must lie in \[0, 1\). Got 1.0"),
        ({"missing": -0.1}, r"missing must lie in \[0, 1\). Got -0.1"),
        ({"noise": -1}, "noise must be 0 or more, and finite. Got -1"),
        ({"noise": np.nan}, "noise must be 0 or more, and finite. Got nan"),
    ],
)
def test_bad_parameters(parameters, message):
    with pytest.raises(ValueError, match=message):
        make_sensor_panels(**parameters)


def test_shortest_panels():
    for task in TASKS:
        X, _ = make_sensor_panels(300, 2, 1, 16, task=task, random_state=0)
        assert X.shape == (300, 3, 16)


def test_description():
    text = load_description("sensor_panels.rst")
    assert "flip-flop" in text
    assert "BSD-3-Clause" in text
