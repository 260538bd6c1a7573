"""Sample weights and class weights: what they mean, to the last bit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from sklearn import config_context
from sklearn.metrics import get_scorer
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import Pipeline

from tawt_sklearn import TimeAwareClassifier, TimeAwareRegressor, TripletSequencer
from tawt_sklearn.exceptions import DataError

N = 48


@pytest.fixture
def panel() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(N, 2, 6))


@pytest.fixture
def classes(panel) -> np.ndarray:
    return (panel[:, 0].mean(axis=1) > 0.3).astype(int)


@pytest.fixture
def weights() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 4, N)


def parameters(clf: TimeAwareClassifier) -> dict:
    shared = clf.get_params(deep=False)
    del shared["class_weight"], shared["calibrate"]
    return shared


def answer(model, X) -> np.ndarray:
    ask = getattr(model, "predict_proba", model.predict)
    return ask(X)


def take(rows, which):
    return rows.iloc[which] if hasattr(rows, "iloc") else rows[which]


@pytest.fixture(
    params=["panel", "raw frame", "tokens", "regressor", "several numbers", "several labels"]
)
def case(request, panel, classes, X, y, quick) -> tuple[Callable, object, object]:
    """A factory of models, rows and labels."""

    def regressor(**settings):
        return TimeAwareRegressor(**parameters(quick(**settings)))

    if request.param == "raw frame":
        return quick, X.iloc[:N], y.iloc[:N]
    if request.param == "tokens":
        return quick, TripletSequencer().fit_transform(X.iloc[:N]), y.iloc[:N]
    if request.param == "regressor":
        return regressor, panel, panel.mean(axis=(1, 2)) * 7 + 3
    if request.param == "several numbers":
        return regressor, panel, panel.mean(axis=2) * 7 + 3
    if request.param == "several labels":
        return quick, panel, (panel.mean(axis=2) > 0).astype(int)
    return quick, panel, classes


# ---- what a weight is ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [{}, {"early_stopping": True, "validation_fraction": 0.25}, {"n_ensemble": 2, "max_epochs": 1}],
    ids=["plain", "early stopping", "ensemble"],
)
def test_a_whole_weight_is_a_repeated_row(case, weights, settings):
    make, X, labels = case
    rows = np.repeat(np.arange(N), weights)
    weighted = make(**settings).fit(X, labels, sample_weight=weights)
    repeated = make(**settings).fit(take(X, rows), take(labels, rows))
    np.testing.assert_array_equal(answer(weighted, X), answer(repeated, X))
    columns = [c for c in weighted.history_ if c != "seconds"]
    pd.testing.assert_frame_equal(weighted.history_[columns], repeated.history_[columns])
    plain = make(**settings).fit(X, labels)
    assert not np.array_equal(answer(plain, X), answer(weighted, X))


def test_a_weight_of_zero_is_a_row_left_out(case, weights):
    make, X, labels = case
    kept = np.flatnonzero(weights)
    weighted = make().fit(X, labels, sample_weight=(weights > 0) * 1.0)
    without = make().fit(take(X, kept), take(labels, kept))
    np.testing.assert_array_equal(answer(weighted, X), answer(without, X))


def test_rows_of_no_weight_may_have_no_label(panel, weights, quick):
    weights[0] = 0
    numbers = panel.mean(axis=(1, 2))
    model = TimeAwareRegressor(**parameters(quick()))
    expected = model.fit(panel, numbers, sample_weight=weights).predict(panel)
    numbers[weights == 0] = np.nan
    np.testing.assert_array_equal(
        model.fit(panel, numbers, sample_weight=weights).predict(panel), expected
    )


def test_a_class_of_no_weight_is_left_out(panel, quick):
    labels = np.array(["a", "b", "c"])[np.arange(N) % 3]
    kept = labels != "b"
    weighted = quick().fit(panel, labels, sample_weight=kept.astype(float))
    assert weighted.classes_.tolist() == ["a", "c"]
    without = quick().fit(panel[kept], labels[kept])
    np.testing.assert_array_equal(weighted.predict_proba(panel), without.predict_proba(panel))
    with pytest.raises(DataError, match="one class: 'a'"):
        quick().fit(panel, labels, sample_weight=(labels == "a").astype(float))


def test_the_order_of_the_rows_does_not_matter(case, weights):
    make, X, labels = case
    weights = weights + 0.5
    order = np.random.default_rng(0).permutation(N)
    one = make().fit(X, labels, sample_weight=weights)
    other = make().fit(take(X, order), take(labels, order), sample_weight=weights[order])
    np.testing.assert_array_equal(answer(one, X), answer(other, X))


@pytest.mark.parametrize("factor", [2.0, 2.0**-20])
def test_the_unit_of_the_weights_does_not_matter(case, weights, factor):
    make, X, labels = case
    weights = weights + 0.5
    one = make().fit(X, labels, sample_weight=weights)
    other = make().fit(X, labels, sample_weight=weights * factor)
    np.testing.assert_array_equal(answer(one, X), answer(other, X))


def test_equal_weights_are_none(case):
    make, X, labels = case
    plain, ones = make().fit(X, labels), make().fit(X, labels, sample_weight=np.full(N, 4.0))
    np.testing.assert_array_equal(answer(plain, X), answer(ones, X))


def test_equal_rows_of_different_labels_stay_apart(panel, quick):
    """Every case once as 0 and three times as 1: nothing to tell, a quarter and three quarters."""
    X, labels = np.concatenate([panel] * 4), np.repeat([0, 1, 1, 1], N)
    p = quick(min_steps=40).fit(X, labels).predict_proba(panel)[:, 1]
    np.testing.assert_allclose(p, 0.75, atol=0.08)


def test_a_heavy_row_is_heard(panel, classes, quick):
    p = []
    for weight in (1.0, 100.0):
        weights = np.where(classes == 1, weight, 1.0)
        p.append(quick().fit(panel, classes, sample_weight=weights).predict_proba(panel)[:, 1])
    assert (p[1] > p[0]).all() and p[1].mean() > 0.8


# ---- how weights may come ---------------------------------------------------------------------


def test_weights_of_any_kind(X, y, quick):
    weights = np.arange(len(X)) % 3 + 1
    expected = quick().fit(X, y, sample_weight=weights).predict_proba(X)
    for given in (weights.tolist(), weights.astype(np.float32), pd.Series(weights, X.index),
                  weights.astype(object)):  # fmt: skip
        p = quick().fit(X, y, sample_weight=given).predict_proba(X)
        np.testing.assert_array_equal(p, expected)
    np.testing.assert_array_equal(
        quick().fit(X, y, sample_weight=2.5).predict_proba(X), quick().fit(X, y).predict_proba(X)
    )


def test_a_series_of_weights_has_the_index_of_the_rows(X, y, quick):
    weights = pd.Series(1.0, X.index)
    with pytest.raises(DataError, match="index of sample_weight in the order of X"):
        quick().fit(X, y, sample_weight=weights.iloc[::-1])
    with pytest.raises(DataError, match="index of sample_weight to be that of X"):
        quick().fit(X, y, sample_weight=weights.set_axis(range(1000, 1000 + len(X))))


@pytest.mark.parametrize(
    "bad, message",
    [
        (np.ones(N - 1), "sample_weight"),
        (np.ones((N, 1)), "1D"),
        (np.r_[-1.0, np.ones(N - 1)], "zero or more. Got 1 negative weights, the smallest is -1.0"),
        (np.r_[np.nan, np.ones(N - 1)], "NaN"),
        (np.r_[np.inf, np.ones(N - 1)], "infinity"),
        (np.zeros(N), "positive weight. Got zeros only|one non-zero number"),
        (["heavy"] * N, "could not convert"),
    ],
)
def test_bad_weights_leave_nothing_behind(panel, classes, quick, bad, message):
    clf = quick()
    with pytest.raises(ValueError, match=message):
        clf.fit(panel, classes, sample_weight=bad)
    assert vars(clf) == clf.get_params(deep=False)


def test_weights_of_partial_fit(panel, classes, weights, quick):
    kept = np.repeat(np.arange(N), weights)
    weighted, repeated = quick(), quick()
    for _ in range(2):
        weighted.partial_fit(panel, classes, classes=[0, 1], sample_weight=weights)
        repeated.partial_fit(panel[kept], classes[kept], classes=[0, 1])
    np.testing.assert_array_equal(weighted.predict_proba(panel), repeated.predict_proba(panel))


# ---- class weights -------------------------------------------------------------------------------


def test_a_class_weight_is_the_weight_of_its_rows(panel, classes, quick):
    weights = np.where(classes == 1, 5.0, 1.0)
    by_class = quick(class_weight={0: 1.0, 1: 5.0}).fit(panel, classes)
    by_row = quick().fit(panel, classes, sample_weight=weights)
    np.testing.assert_array_equal(by_class.predict_proba(panel), by_row.predict_proba(panel))
    rest = quick(class_weight={1: 5.0}).fit(panel, classes)
    np.testing.assert_array_equal(rest.predict_proba(panel), by_row.predict_proba(panel))


def test_class_weights_and_sample_weights_multiply(panel, classes, quick):
    weights = np.arange(N) % 4 + 1.0
    both = quick(class_weight={0: 2.0, 1: 4.0}).fit(panel, classes, sample_weight=weights)
    by_row = quick().fit(panel, classes, sample_weight=weights * np.where(classes == 1, 4.0, 2.0))
    np.testing.assert_array_equal(both.predict_proba(panel), by_row.predict_proba(panel))


def test_balanced_classes_are_equally_probable(panel, quick):
    rare = (np.arange(N) % 8 == 0).astype(int)
    plain = quick().fit(panel, rare).predict_proba(panel)[:, 1].mean()
    clf = quick(class_weight="balanced").fit(panel, rare)
    assert abs(clf.predict_proba(panel)[:, 1].mean() - 0.5) < 0.1 < abs(plain - 0.5)
    np.testing.assert_allclose(clf.target_.prior, np.log([0.5, 0.5]))


def test_balanced_takes_the_weights_of_the_rows_into_account(panel, classes, weights, quick):
    rows = np.repeat(np.arange(N), weights)
    weighted = quick(class_weight="balanced").fit(panel, classes, sample_weight=weights)
    repeated = quick(class_weight="balanced").fit(panel[rows], classes[rows])
    np.testing.assert_array_equal(weighted.predict_proba(panel), repeated.predict_proba(panel))


def test_class_weights_by_name(panel, classes, quick):
    names = np.array(["alive", "dead"])[classes]
    named = quick(class_weight={"alive": 1.0, "dead": 3.0}).fit(panel, names)
    numbered = quick(class_weight={0: 1.0, 1: 3.0}).fit(panel, classes)
    np.testing.assert_array_equal(named.predict_proba(panel), numbered.predict_proba(panel))


@pytest.mark.parametrize("weight", [{7: 3.0}, {0: 1.0, "dead": 2.0}])
def test_a_weight_for_a_class_that_there_is_not(panel, classes, quick, weight):
    with pytest.raises(ValueError, match="class_weight"):
        quick(class_weight=weight).fit(panel, classes)


@pytest.mark.parametrize(
    "weight", [{0: 0.0, 1: 0.0}, {0: -1.0, 1: 1.0}, {0: np.nan, 1: 1.0}, {0: np.inf, 1: 1.0}]
)
def test_class_weights_that_are_no_weights(panel, classes, quick, weight):
    clf = quick(class_weight=weight)
    with pytest.raises(ValueError, match="weight"):
        clf.fit(panel, classes)
    assert vars(clf) == clf.get_params(deep=False)


def test_a_class_weight_of_zero_keeps_the_class(panel, classes, quick):
    clf = quick(class_weight={0: 1.0, 1: 0.0}).fit(panel, classes)
    assert clf.classes_.tolist() == [0, 1]
    assert (clf.predict_proba(panel)[:, 1] < 0.01).all()


def test_class_weights_of_a_batch_without_the_class(panel, classes, quick):
    """A later batch may hold one class only, also one that the dict does not name."""
    clf = quick(class_weight={1: 5.0}).partial_fit(panel, classes)
    clf.partial_fit(panel[classes == 0], classes[classes == 0])
    clf.partial_fit(panel[classes == 1], classes[classes == 1])
    assert clf.n_iter_ == 3


# ---- metadata routing ------------------------------------------------------------------------


def test_weights_are_routed_through_cross_validation(panel, classes, weights, quick):
    clf = quick()
    with config_context(enable_metadata_routing=True):
        clf.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        routed = cross_validate(
            clf, panel, classes, params={"sample_weight": weights}, cv=2, return_estimator=True,
            return_indices=True,
        )  # fmt: skip
    for fitted, rows, out, score in zip(
        routed["estimator"], routed["indices"]["train"], routed["indices"]["test"],
        routed["test_score"], strict=True,
    ):  # fmt: skip
        by_hand = quick().fit(panel[rows], classes[rows], sample_weight=weights[rows])
        np.testing.assert_array_equal(fitted.predict_proba(panel), by_hand.predict_proba(panel))
        expected = by_hand.score(panel[out], classes[out], sample_weight=weights[out])
        assert score == expected


def test_weights_are_routed_through_a_search_over_a_pipeline(X, y, quick):
    X, y = X.iloc[:N], y.iloc[:N]
    weights = np.arange(N) % 3 + 1.0
    with config_context(enable_metadata_routing=True):
        model = quick().set_fit_request(sample_weight=True)
        pipeline = Pipeline([("sequence", TripletSequencer(min_count=1)), ("model", model)])
        scorer = get_scorer("neg_log_loss").set_score_request(sample_weight=True)
        search = GridSearchCV(pipeline, {"model__d_model": [8]}, cv=2, scoring=scorer)
        p = search.fit(X, y, sample_weight=weights).predict_proba(X)
    tokens = TripletSequencer(min_count=1).fit_transform(X)
    by_hand = quick().fit(tokens, y, sample_weight=weights)
    np.testing.assert_array_equal(p, by_hand.predict_proba(tokens))


def test_weights_by_the_old_name_of_a_step(X, y, quick):
    X, y = X.iloc[:N], y.iloc[:N]
    weights = np.arange(N) % 3 + 1.0
    pipeline = Pipeline([("sequence", TripletSequencer()), ("model", quick())])
    p = pipeline.fit(X, y, model__sample_weight=weights).predict_proba(X)
    tokens = TripletSequencer().fit_transform(X)
    expected = quick().fit(tokens, y, sample_weight=weights).predict_proba(tokens)
    np.testing.assert_array_equal(p, expected)


def test_large_weights_are_as_good_as_small_ones(quick):
    X, y = np.random.default_rng(0).normal(size=(40, 5)), np.arange(40) % 2
    one = quick().fit(X, y, sample_weight=np.full(40, 1.0))
    many = quick().fit(X, y, sample_weight=np.full(40, 2.0**1020))
    np.testing.assert_array_equal(one.predict_proba(X), many.predict_proba(X))
