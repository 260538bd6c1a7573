"""Labels and answers at each step of a panel, some of which have none."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import config_context
from sklearn.metrics import accuracy_score, balanced_accuracy_score, get_scorer, r2_score
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    cross_val_predict,
    cross_val_score,
    cross_validate,
)
from skorch.callbacks import Callback

import tawt_sklearn
from tawt_sklearn import TimeAwareEncoder, TimeAwareRegressor, as_events
from tawt_sklearn.datasets import make_sensor_panels
from tawt_sklearn.exceptions import DataError

N, C, T = 40, 3, 9


@pytest.fixture
def panel() -> np.ndarray:
    """40 cases, 3 channels, 9 steps; a tenth was not measured."""
    rng = np.random.default_rng(0)
    panel = rng.normal(size=(N, C, T))
    panel[rng.random(panel.shape) < 0.1] = np.nan
    return panel


@pytest.fixture
def sums(panel) -> np.ndarray:
    """(N, T) running sums of channel 0."""
    return np.nancumsum(panel[:, 0], axis=1)


@pytest.fixture
def known() -> np.ndarray:
    """(N, T) where there is a label: not in case 5, nor in a quarter of the other steps."""
    known = np.random.default_rng(1).random((N, T)) < 0.75
    known[5] = False
    return known


@pytest.fixture
def classes(sums, known) -> np.ndarray:
    """0, 1, and -1 where nobody knows."""
    return np.where(known, sums > 0, -1)


@pytest.fixture
def numbers(sums, known) -> np.ndarray:
    return np.where(known, 3 * sums + 7, np.nan)


@pytest.fixture
def lengths() -> np.ndarray:
    """4 to 9 steps; one case is the longest."""
    lengths = 4 + np.arange(N) % 5
    lengths[7] = T
    return lengths


@pytest.fixture
def cut(lengths) -> Callable[[np.ndarray], list[np.ndarray]]:
    """Cases as a list of arrays of different lengths."""

    def cut(values: np.ndarray) -> list[np.ndarray]:
        return [case[..., :n] for case, n in zip(values, lengths.tolist(), strict=True)]

    return cut


@pytest.fixture
def quick_numbers(quick) -> Callable[..., TimeAwareRegressor]:
    """Factory of regressors that train in a moment."""

    def make(**parameters: Any) -> TimeAwareRegressor:
        shared = quick().get_params(deep=False)
        del shared["class_weight"], shared["calibrate"]
        return TimeAwareRegressor(**(shared | {"code_dropout": 0.0} | parameters))

    return make


def encoder(X: Any, **parameters: Any) -> TimeAwareEncoder:
    small = {"d_model": 8, "n_heads": 2, "n_layers": 1, "n_windows": 4, "d_embedding": 8,
             "max_epochs": 1, "min_steps": 4, "random_state": 0, "device": "cpu"}  # fmt: skip
    return TimeAwareEncoder(**(small | parameters)).fit(X)


def refuses(model, X, y, message, error=DataError, **given):
    with pytest.raises(error, match=message):
        model.fit(X, y, **given)
    assert vars(model) == model.get_params(deep=False)


def same(got: Any, expected: Any, tolerance: float = 0) -> None:
    """Answers, or lists of them, that agree."""
    assert type(got) is type(expected) and len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance)


# ---- what belongs to steps, and what to cases --------------------------------------------------


def test_a_label_for_each_step_is_told_by_its_shape(panel, classes, numbers, quick, quick_numbers):
    assert quick().fit(panel, classes).predict(panel).shape == (N, T)
    assert quick_numbers().fit(panel, numbers).predict(panel).shape == (N, T)
    for given in (classes.tolist(), tuple(classes), pd.DataFrame(classes)):
        clf = quick().fit(panel, given)
        same(clf.predict_proba(panel), quick().fit(panel, classes).predict_proba(panel))
        assert clf.score(panel, given) == clf.score(panel, classes)


@pytest.mark.parametrize("k", [1, 2, T - 1, T + 1])
def test_another_number_of_columns_is_several_labels_of_a_case(panel, k, quick, quick_numbers):
    labels = np.random.default_rng(0).integers(0, 2, (N, k))
    p = quick().fit(panel, labels).predict_proba(panel)
    assert p.shape == (N, max(k, 2))
    told = quick_numbers().fit(panel, labels * 1.5).predict(panel)
    assert told.shape == (N, k)


def test_several_labels_of_a_case_as_many_as_steps(panel, sums, quick, quick_numbers):
    labels = (sums > 0).astype(int)
    clf = quick(per_step=False).fit(panel, labels)
    assert clf.predict_proba(panel).shape == (N, T) and clf.classes_.tolist() == list(range(T))
    model = quick_numbers(per_step=False).fit(panel, sums)
    assert model.predict(panel).shape == (N, T) and len(model.target_.prior) == T


def test_per_step_true_says_what_auto_finds(panel, classes, quick):
    expected = quick().fit(panel, classes).predict_proba(panel)
    same(quick(per_step=True).fit(panel, classes).predict_proba(panel), expected)


def test_numbers_of_one_series_have_to_be_told(panel, sums, quick, quick_numbers):
    """A table of labels beside a table of numbers is several labels of a row in scikit-learn."""
    series, labels = panel[:, 0], (sums > 0).astype(int)
    assert quick().fit(series, labels).classes_.tolist() == list(range(T))
    assert quick_numbers().fit(series, sums).target_.prior.shape == (T,)
    clf = quick(per_step=True).fit(series, labels)
    assert clf.predict_proba(series).shape == (N, T, 2)
    same(clf.predict_proba(series), quick().fit(panel[:, :1], labels).predict_proba(panel[:, :1]))
    assert quick_numbers(per_step=True).fit(series, sums).predict(series).shape == (N, T)


def test_one_step(panel, quick):
    """(n, 1) labels are labels of cases, unless told otherwise."""
    X, y = panel[:, :, :1], np.arange(N).reshape(-1, 1) % 2
    assert quick().fit(X, y).predict(X).shape == (N,)
    clf = quick(per_step=True).fit(X, y)
    assert clf.predict(X).shape == (N, 1) and clf.predict_proba(X).shape == (N, 1, 2)
    assert clf.predict(panel).shape == (N, T)


# ---- answers -----------------------------------------------------------------------------------


def test_answers_of_a_classifier(panel, classes, quick):
    clf = quick().fit(panel, classes)
    p = clf.predict_proba(panel)
    assert clf.classes_.tolist() == [0, 1] and p.shape == (N, T, 2)
    np.testing.assert_allclose(p.sum(axis=2), 1)
    np.testing.assert_allclose(clf.predict_log_proba(panel), np.log(p))
    np.testing.assert_allclose(clf.decision_function(panel), np.log(p[..., 1] / p[..., 0]))
    np.testing.assert_array_equal(clf.predict(panel), p.argmax(axis=2))
    assert clf.predict(panel).dtype == clf.classes_.dtype


def test_answers_of_three_classes(panel, sums, quick):
    labels = np.digitize(sums, [-1, 1]) + 4
    clf = quick().fit(panel, labels)
    scores = clf.decision_function(panel)
    assert clf.classes_.tolist() == [4, 5, 6] and scores.shape == (N, T, 3)
    np.testing.assert_allclose(scores, clf.predict_log_proba(panel))
    np.testing.assert_array_equal(clf.predict(panel), scores.argmax(axis=2) + 4)


def test_the_members_are_averaged(panel, classes, quick):
    clf = quick(n_ensemble=2).fit(panel, classes)
    data = clf.preparation_.dataset(tawt_sklearn.events.panels.Panel.of(panel))
    each = np.stack([net.decision(data) for net in clf.nets_])
    assert each.shape == (2, N, T, 2) and not np.allclose(*each)
    log_p = (each - np.log(np.exp(each).sum(axis=-1, keepdims=True))).mean(axis=0)
    expected = log_p[..., 1] - log_p[..., 0]
    np.testing.assert_allclose(clf.decision_function(panel), expected, atol=1e-6)


def test_lists_get_lists(panel, classes, lengths, cut, quick):
    X, y = cut(panel), cut(classes)
    clf = quick().fit(X, y)
    for name, tail in (("predict", ()), ("predict_proba", (2,)), ("predict_log_proba", (2,)),
                       ("decision_function", ())):  # fmt: skip
        answers = getattr(clf, name)(X)
        assert isinstance(answers, list)
        assert [a.shape for a in answers] == [(n, *tail) for n in lengths]
        assert all(np.isfinite(a).all() for a in answers)
    reverse = clf.predict_proba(X[::-1])
    same(reverse[::-1], clf.predict_proba(X), 1e-9)
    alone = [clf.predict_proba([case])[0] for case in X]
    same(alone, clf.predict_proba(X), 1e-9)


def test_lists_of_numbers_get_lists(panel, numbers, lengths, cut, quick_numbers):
    X = cut(panel)
    told = quick_numbers().fit(X, cut(numbers)).predict(X)
    assert isinstance(told, list) and [a.shape for a in told] == [(n,) for n in lengths]


@pytest.mark.parametrize("n_steps", [T, 5])
def test_a_list_of_equal_lengths_says_what_the_array_says(panel, classes, n_steps, quick):
    clf = quick().fit(panel, classes)
    listed = quick().fit(list(panel), list(classes))
    X = panel[:, :, :n_steps]
    for name in ("predict", "predict_proba", "decision_function"):
        expected = getattr(clf, name)(X)
        assert expected.shape[:2] == (N, n_steps)
        same(getattr(clf, name)(list(X)), list(expected))
        same(getattr(listed, name)(X), expected)


def test_a_case_in_a_list_does_not_see_how_long_the_others_are(panel, classes, cut, quick):
    clf = quick().fit(panel, classes)
    mixed, X = clf.predict_proba(cut(panel)), cut(panel)
    for k in (0, 1, 7, N - 1):
        stacked = clf.predict_proba(np.stack([X[k]]))[0]
        np.testing.assert_allclose(mixed[k], stacked, rtol=0, atol=1e-9)


def test_one_dimensional_arrays_in_a_list(panel, classes, cut, quick):
    """One channel; what they hold may be an array of objects, too."""
    flat, labels = [case[0] for case in cut(panel)], cut(classes)
    p = quick().fit(flat, labels).predict_proba(flat)
    boxed, boxed_labels = np.empty(N, object), np.empty(N, object)
    boxed[:], boxed_labels[:] = flat, labels
    same(quick().fit(boxed, boxed_labels).predict_proba(boxed), p)


def test_more_and_fewer_steps_than_in_fit(panel, classes, quick):
    clf = quick().fit(panel, classes)
    long = np.concatenate([panel, panel], axis=2)
    assert clf.predict_proba(long).shape == (N, 2 * T, 2)
    assert clf.predict(panel[:, :, :1]).shape == (N, 1)
    assert clf.score(long, np.tile(classes, 2)) > 0


def test_a_case_without_a_value(panel, classes, quick):
    holed = panel.copy()
    holed[3] = np.nan
    assert np.isfinite(quick().fit(holed, classes).predict_proba(holed)).all()


@pytest.mark.parametrize("patching", ["time", "feature", "dual"])
@pytest.mark.parametrize("patch_length", [None, [2, 6]])
def test_every_kind_of_patches(panel, classes, cut, patching, patch_length, quick):
    clf = quick(patching=patching, patch_length=patch_length).fit(panel, classes)
    assert np.isfinite(clf.predict_proba(panel)).all()
    assert all(np.isfinite(p).all() for p in clf.predict_proba(cut(panel)))


# ---- steps without a label ---------------------------------------------------------------------


def test_every_way_to_say_that_there_is_no_label(panel, classes, quick):
    expected = quick().fit(panel, classes).predict_proba(panel)
    there = classes >= 0
    floats = np.where(there, classes, np.nan)
    texts = np.where(classes == 1, "on", "off").astype(object)
    for none in (None, np.nan, pd.NA):
        texts[~there] = none
        clf = quick().fit(panel, texts)
        assert clf.classes_.tolist() == ["off", "on"]
        same(clf.predict_proba(panel), expected)
        assert clf.score(panel, texts) == quick().fit(panel, classes).score(panel, classes)
    clf = quick().fit(panel, floats)
    assert clf.classes_.tolist() == [0.0, 1.0] and clf.predict(panel).dtype == np.float64
    same(clf.predict_proba(panel), expected)
    same(quick().fit(panel, floats.astype(np.float32)).predict_proba(panel), expected)
    same(quick().fit(panel, classes.astype(np.int8)).predict_proba(panel), expected)


def test_none_among_whole_numbers(panel, classes, quick):
    """As in an array of objects, or in a frame of nullable integers."""
    expected = quick().fit(panel, classes).predict_proba(panel)
    boxed = np.where(classes >= 0, classes, None)
    nullable = pd.DataFrame(np.where(classes >= 0, classes, np.nan)).astype("Int64")
    for given in (boxed, nullable):
        same(quick().fit(panel, given).predict_proba(panel), expected)


def test_text_and_truth_values_without_gaps(panel, sums, quick):
    expected = quick().fit(panel, (sums > 0).astype(int)).predict_proba(panel)
    on = np.where(sums > 0, "on", "off")
    for given in (sums > 0, on, on.astype(object), pd.DataFrame(on).astype("category")):
        clf = quick().fit(panel, given)
        same(clf.predict_proba(panel), expected)
        assert set(np.unique(clf.predict(panel))) <= set(clf.classes_.tolist())


@pytest.mark.parametrize("kind", ["bool", "text", "text of one length", "float"])
def test_lists_of_labels_of_every_kind(panel, sums, cut, kind, quick):
    on = sums > 0
    labels = {
        "bool": on,
        "text": np.where(on, "on", "off"),
        "text of one length": np.where(on, "a", "b"),
        "float": on.astype(float),
    }[kind]
    X = cut(panel)
    clf = quick().fit(X, cut(labels))
    assert clf.classes_.tolist() == np.unique(labels).tolist()
    assert np.isfinite(clf.score(X, cut(labels)))
    if kind != "text of one length":  # where the order of the classes is another
        expected = quick().fit(X, cut(on.astype(int))).predict_proba(X)
        same(clf.predict_proba(X), expected)


def test_lists_with_gaps(panel, classes, cut, quick):
    X, expected = cut(panel), quick().fit(cut(panel), cut(classes)).predict_proba(cut(panel))
    floats = np.where(classes >= 0, classes, np.nan)
    texts = np.where(classes >= 0, np.where(classes == 1, "on", "off").astype(object), None)
    for given in (floats, texts):
        same(quick().fit(X, cut(given)).predict_proba(X), expected)


def test_what_stands_at_a_step_without_label_matters_in_X_alone(panel, classes, quick):
    """The network has seen the whole series; -1 and NaN are no labels, whatever is beside them."""
    expected = quick().fit(panel, classes).predict_proba(panel)
    changed = panel.copy()
    changed[5] = 2.0  # a case without any label
    p = quick().fit(changed, classes).predict_proba(panel)
    assert np.abs(p - expected).max() > 0
    row, step = 2, int(np.flatnonzero(classes[2] < 0)[0])
    changed = panel.copy()
    changed[row, :, step] = 3.0
    clf = quick().fit(panel, classes)
    before, after = clf.predict_proba(panel[[row]]), clf.predict_proba(changed[[row]])
    assert (np.abs(before - after).max(axis=2) > 0).all(), "at the other steps of the case, too"


def test_cases_without_label_teach_the_scales_alone(panel, classes, quick):
    clf = quick().fit(panel, classes)
    shifted = panel.copy()
    shifted[5] += 100.0
    assert not np.array_equal(
        clf.preparation_.center, quick().fit(shifted, classes).preparation_.center
    )
    assert clf.predict(panel).shape == (N, T)


def test_minus_one_is_a_number_for_a_regressor(panel, quick_numbers):
    whole = np.random.default_rng(2).integers(-2, 2, (N, T))
    assert (whole == -1).any()
    expected = quick_numbers().fit(panel, whole.astype(float))
    model = quick_numbers().fit(panel, whole)
    same(model.predict(panel), expected.predict(panel))
    told = model.predict(panel)
    assert model.score(panel, whole) == pytest.approx(r2_score(whole.ravel(), told.ravel()))
    gaps = np.where(whole == -1, np.nan, whole)
    assert not np.array_equal(quick_numbers().fit(panel, gaps).predict(panel), told)
    lists = quick_numbers().fit(panel, list(whole))
    same(lists.predict(panel), told)


def test_numbers_of_any_kind(panel, numbers, cut, quick_numbers):
    expected = quick_numbers().fit(panel, numbers).predict(panel)
    boxed = np.where(np.isnan(numbers), None, numbers)
    for given in (pd.DataFrame(numbers), pd.DataFrame(numbers).astype("Float64"), boxed):
        model = quick_numbers().fit(panel, given, X_val=panel, y_val=given)
        assert np.isfinite(model.score(panel, given))
        assert model.history_["valid_loss"].notna().all()
        same(quick_numbers().fit(panel, given).predict(panel), expected)
    whole = [np.round(case) for case in cut(np.nan_to_num(numbers))]
    model = quick_numbers().fit(cut(panel), [case.astype(int) for case in whole])
    same(model.predict(cut(panel)), quick_numbers().fit(cut(panel), whole).predict(cut(panel)))


def test_answers_have_the_unit_of_the_labels(panel, sums, quick_numbers):
    near = quick_numbers().fit(panel, sums).predict(panel)
    far = quick_numbers().fit(panel, 1000 * sums + 1e6).predict(panel)
    np.testing.assert_allclose(far, 1000 * near + 1e6, rtol=1e-6)


# ---- weights -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["classes", "numbers"])
def test_whole_weights_are_repeated_cases(
    panel, classes, numbers, kind, quick, quick_numbers, request
):
    make, y = (quick, classes) if kind == "classes" else (quick_numbers, numbers)
    weights = np.random.default_rng(1).integers(0, 3, N)
    rows = np.repeat(np.arange(N), weights)
    weighted = make().fit(panel, y, sample_weight=weights)
    repeated = make().fit(panel[rows], y[rows])
    ask = "predict_proba" if kind == "classes" else "predict"
    same(getattr(weighted, ask)(panel), getattr(repeated, ask)(panel))


@pytest.mark.parametrize("kind", ["classes", "numbers"])
def test_whole_weights_of_lists(panel, classes, numbers, lengths, cut, kind, quick, quick_numbers):
    """Also where the longest case is left out, behind which the others were aligned."""
    make, y = (quick, classes) if kind == "classes" else (quick_numbers, numbers)
    X, labels = cut(panel), cut(y)
    weights = 1 + np.arange(N) % 2
    weights[lengths == T] = 0
    rows = np.repeat(np.arange(N), weights).tolist()
    weighted = make().fit(X, labels, sample_weight=weights)
    repeated = make().fit([X[k] for k in rows], [labels[k] for k in rows])
    ask = "predict_proba" if kind == "classes" else "predict"
    same(getattr(weighted, ask)(X), getattr(repeated, ask)(X))


def test_the_order_of_the_cases_does_not_matter(panel, classes, cut, quick):
    order = np.random.default_rng(0).permutation(N)
    p = quick().fit(panel, classes).predict_proba(panel)
    same(quick().fit(panel[order], classes[order]).predict_proba(panel), p, 1e-6)
    X, y = cut(panel), cut(classes)
    p = quick().fit(X, y).predict_proba(X)
    shuffled = quick().fit([X[k] for k in order], [y[k] for k in order])
    same(shuffled.predict_proba(X), p, 1e-6)


def test_class_weights(panel, sums, quick):
    """Balanced classes are as probable as each other, in a network that has hardly learned."""
    labels = np.where(sums > 2, 1, 0)
    share = labels.mean()
    assert share < 0.3

    def mean(weight):
        clf = quick(class_weight=weight, learning_rate=1e-9).fit(panel, labels)
        return clf.predict_proba(panel)[..., 1].mean()

    assert mean(None) == pytest.approx(share, abs=0.15)
    assert mean("balanced") > mean(None) + 0.1
    balanced = {0: 0.5 / (1 - share), 1: 0.5 / share}
    assert mean(balanced) == pytest.approx(mean("balanced"), abs=1e-6)
    assert mean({0: 1.0, 1: 0.0}) < 0.01


def test_class_weights_do_not_count_steps_without_label(panel, classes, quick):
    """Their sums are equal among the steps that have one."""
    n = np.bincount(classes[classes >= 0])
    by_hand = {k: n.sum() / (2 * n[k]) for k in (0, 1)}
    balanced = quick(class_weight="balanced").fit(panel, classes)
    np.testing.assert_allclose(balanced.target_.class_weight, [by_hand[0], by_hand[1]])
    hand = quick(class_weight=by_hand).fit(panel, classes)
    same(hand.predict_proba(panel), balanced.predict_proba(panel), 1e-6)
    with pytest.raises(DataError, match="class of positive weight"):
        quick(class_weight={0: 0, 1: 0}).fit(panel, classes)


# ---- validation --------------------------------------------------------------------------------


@pytest.mark.parametrize("scoring", ["loss", "accuracy", "balanced_accuracy", "roc_auc"])
def test_scorers_watch_the_labelled_steps_that_are_held_out(panel, classes, scoring, quick):
    clf = quick(early_stopping=True, validation_fraction=0.4, scoring=scoring)
    history = clf.fit(panel, classes).history_
    assert history[["valid_loss", "valid_score"]].notna().all(axis=None)
    last = quick(early_stopping=False, scoring=scoring, max_epochs=1, min_steps=0, n_average=1)
    last.fit(panel, classes, X_val=panel[:30], y_val=classes[:30])
    score = last.history_["valid_score"].iloc[-1]
    row, step = np.nonzero(classes[:30] >= 0)
    truth, p = classes[row, step], last.predict_proba(panel[:30])[row, step]
    loss = -np.log(p[np.arange(len(p)), truth]).mean()
    assert last.history_["valid_loss"].iloc[-1] == pytest.approx(loss, abs=0.1)
    if scoring in ("accuracy", "balanced_accuracy"):
        judge = accuracy_score if scoring == "accuracy" else balanced_accuracy_score
        assert score == pytest.approx(judge(truth, p.argmax(axis=1)), abs=1e-6)


@pytest.mark.parametrize("scoring", ["loss", "r2", "neg_mean_absolute_error"])
def test_scorers_watch_numbers(panel, numbers, scoring, quick_numbers):
    model = quick_numbers(early_stopping=True, validation_fraction=0.4, scoring=scoring)
    history = model.fit(panel, numbers).history_
    assert history[["valid_loss", "valid_score"]].notna().all(axis=None)
    last = quick_numbers(early_stopping=False, scoring=scoring, max_epochs=1, min_steps=0)
    last.set_params(n_average=1).fit(panel, numbers, X_val=panel[:30], y_val=numbers[:30])
    if scoring == "r2":
        score = last.score(panel[:30], numbers[:30])
        assert last.history_["valid_score"].iloc[-1] == pytest.approx(score, abs=1e-5)


def test_validation_data_may_be_longer_and_a_list(panel, classes, cut, quick):
    long, labels = np.concatenate([panel, panel], axis=2), np.tile(classes, 2)
    clf = quick(early_stopping=True).fit(panel, classes, X_val=long, y_val=labels)
    assert clf.history_["valid_loss"].notna().all()
    clf.fit(cut(panel), cut(classes), X_val=long[:10], y_val=labels[:10])
    clf.fit(panel, classes, X_val=cut(panel), y_val=cut(classes))
    assert clf.history_["valid_loss"].notna().all()


@pytest.mark.parametrize("scoring", ["loss", "accuracy"])
def test_a_label_is_held_out_where_few_cases_have_one(panel, sums, scoring, quick):
    """A hold-out of cases without label says nothing: 0 would look like a perfect loss."""
    few = np.full((N, T), -1)
    few[:4] = sums[:4] > 0
    clf = quick(early_stopping=True, validation_fraction=0.1, scoring=scoring)
    try:
        clf.fit(panel, few)
    except DataError as error:
        assert "validation_fraction" in str(error)
    else:
        assert (clf.history_["valid_loss"] > 0).all()


def test_calibration(panel, classes, cut, quick):
    clf = quick(calibrate=True).fit(panel, classes)
    assert np.isfinite(clf.temperature_) and clf.temperature_ != 1.0
    plain = quick().fit(panel, classes)
    np.testing.assert_allclose(
        clf.decision_function(panel), plain.decision_function(panel) / clf.temperature_
    )
    np.testing.assert_array_equal(clf.predict(panel), plain.predict(panel))
    given = quick(calibrate=True).fit(panel, classes, X_val=panel[:20], y_val=classes[:20])
    assert given.temperature_ != clf.temperature_
    ragged = quick(calibrate=True).fit(cut(panel), cut(classes))
    assert np.isfinite(ragged.temperature_) and ragged.temperature_ != 1.0


# ---- going on ----------------------------------------------------------------------------------


def test_partial_fit(panel, classes, numbers, quick, quick_numbers):
    clf = quick().partial_fit(panel[:20], classes[:20])
    clf.partial_fit(panel[20:], classes[20:])
    assert clf.n_iter_ == 2 and clf.predict(panel).shape == (N, T)
    more = quick().fit(panel, classes)
    before = more.predict_proba(panel)
    assert not np.array_equal(more.partial_fit(panel, classes).predict_proba(panel), before)
    model = quick_numbers().partial_fit(panel, numbers).partial_fit(panel[:9], numbers[:9])
    assert model.predict(panel).shape == (N, T)


def test_partial_fit_with_classes_to_come(panel, sums, quick):
    clf = quick()
    clf.partial_fit(panel, np.zeros((N, T), int), classes=[0, 1, 2])
    assert clf.classes_.tolist() == [0, 1, 2]
    clf.partial_fit(panel, np.digitize(sums, [-1, 1]))
    assert clf.predict_proba(panel).shape == (N, T, 3)


def test_partial_fit_of_other_kinds_of_lists(panel, classes, cut, quick):
    clf = quick().partial_fit(panel, classes).partial_fit(cut(panel), cut(classes))
    assert clf.n_iter_ == 2
    with pytest.raises(DataError, match=r"the classes seen in the first fit: \[0, 1\]. Got.*2"):
        clf.partial_fit(panel, np.where(classes == 1, 2, classes))
    for labels in (classes[:, 0], classes[:, :3]):
        with pytest.raises(DataError, match="a label for each step of X"):
            clf.partial_fit(panel, labels)
    cases = quick().partial_fit(panel, np.arange(N) % 2)
    with pytest.raises(DataError, match=r"labels of shape \(40,\). Got.*\(40, 9\)"):
        cases.partial_fit(panel, classes)


def test_warm_start(panel, classes, numbers, quick, quick_numbers):
    clf = quick(warm_start=True).fit(panel, classes)
    first = clf.predict_proba(panel)
    clf.fit(panel, classes)
    assert clf.n_iter_ == 4 and not np.array_equal(clf.predict_proba(panel), first)
    with pytest.raises(DataError, match="a label for each step"):
        clf.fit(panel, np.arange(N) % 2)
    model = quick_numbers(warm_start=True).fit(panel, numbers)
    error = model.target_.inner.error
    model.set_params(loss="huber").fit(panel, numbers)
    assert model.n_iter_ == 4 and model.target_.inner.error == "huber" != error


def test_the_next_fit_may_be_one_of_cases(panel, classes, quick):
    """Only warm_start goes on with what labels were."""
    clf = quick().fit(panel, classes)
    assert clf.fit(panel, np.arange(N) % 2).predict(panel).shape == (N,)
    assert clf.fit(panel, classes).predict(panel).shape == (N, T)


@pytest.mark.filterwarnings("ignore:No temperature")
@pytest.mark.parametrize("kind", ["classes", "texts", "weighted", "numbers"])
def test_save_and_load(panel, classes, numbers, kind, quick, quick_numbers, tmp_path):
    if kind == "numbers":
        model = quick_numbers().fit(panel, numbers)
    elif kind == "texts":
        model = quick().fit(panel, np.where(classes == 1, "on", "off"))
    else:
        weight = "balanced" if kind == "weighted" else None
        model = quick(class_weight=weight, calibrate=True).fit(panel, classes)
    ask = "predict" if kind == "numbers" else "predict_proba"
    model.save(tmp_path / "model.tawt")
    again = tawt_sklearn.load(tmp_path / "model.tawt")
    same(getattr(again, ask)(panel), getattr(model, ask)(panel), 1e-6)
    if kind != "numbers":
        np.testing.assert_array_equal(again.predict(panel), model.predict(panel))
    if kind == "classes":
        assert again.partial_fit(panel, classes).predict(panel).shape == (N, T)


def test_pickle(panel, classes, quick):
    clf = quick().fit(panel, classes)
    again = pickle.loads(pickle.dumps(clf))
    same(again.predict_proba(panel), clf.predict_proba(panel))
    same(
        again.partial_fit(panel, classes).predict_proba(panel),
        clf.partial_fit(panel, classes).predict_proba(panel),
    )


class Stop(Callback):
    """Fails in the middle of training, as a killed process does."""

    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) == 3:
            raise RuntimeError("killed")


@pytest.mark.parametrize("kind", ["classes", "numbers"])
def test_a_fit_that_was_killed_goes_on(
    panel, classes, numbers, cut, kind, quick, quick_numbers, tmp_path
):
    make, y = (quick, classes) if kind == "classes" else (quick_numbers, numbers)
    X, y = cut(panel), cut(y)
    long = {"max_epochs": 4, "checkpoint_dir": tmp_path}
    whole = make(max_epochs=4).fit(X, y).predict(X)
    with pytest.raises(RuntimeError, match="killed"):
        make(**long, callbacks=[Stop()]).fit(X, y)
    assert list(tmp_path.glob("*.tawt"))
    seen = []

    class Count(Callback):
        def on_epoch_end(self, net, **kwargs):
            seen.append(len(net.history))

    resumed = make(**long, callbacks=[Count()]).fit(X, y)
    assert seen and seen[0] > 1, "it does not begin anew"
    same(resumed.predict(X), whole)


# ---- scores and searches -----------------------------------------------------------------------


def test_the_score_judges_labelled_steps_together(panel, classes, numbers, quick, quick_numbers):
    clf, model = quick().fit(panel, classes), quick_numbers().fit(panel, numbers)
    weight = np.random.default_rng(0).random(N)
    told_class, told_number = clf.predict(panel), model.predict(panel)
    hits, truth, told, of = [], [], [], []
    for k, t in np.ndindex(N, T):
        if classes[k, t] >= 0:
            hits.append(told_class[k, t] == classes[k, t])
            truth.append(numbers[k, t])
            told.append(told_number[k, t])
            of.append(k)
    assert clf.score(panel, classes) == pytest.approx(np.mean(hits))
    weighted = np.average(hits, weights=weight[of])
    assert clf.score(panel, classes, sample_weight=weight) == pytest.approx(weighted)
    assert clf.score(panel, classes, weight.tolist()) == pytest.approx(weighted)
    expected = r2_score(truth, told, sample_weight=weight[of])
    assert model.score(panel, numbers, sample_weight=weight) == pytest.approx(expected)
    assert model.score(panel, numbers) == pytest.approx(r2_score(truth, told))


def test_the_score_of_lists(panel, classes, cut, quick):
    clf = quick().fit(panel, classes)
    X, y = cut(panel), cut(classes)
    told, truth = np.concatenate(clf.predict(X)), np.concatenate(y)
    expected = (told == truth)[truth >= 0].mean()
    assert clf.score(X, y) == pytest.approx(expected)
    weight = np.arange(N) % 2
    odd = [k for k in range(N) if k % 2]
    some = clf.score([X[k] for k in odd], [y[k] for k in odd])
    assert clf.score(X, y, sample_weight=weight) == pytest.approx(some)


def test_what_the_score_refuses(panel, classes, quick):
    clf = quick().fit(panel, classes)
    for labels, message in (
        (classes[:, 0], "a label for each step"),
        (classes[:-1], "a label for each step"),
        (np.full_like(classes, -1), "a label at one step at least"),
        (None, "requires y"),
    ):
        with pytest.raises(DataError, match=message):
            clf.score(panel, labels)
    for weight in (np.ones(3), np.ones(N + 1), np.ones((N, T))):
        with pytest.raises(ValueError, match="[Ss]ample.weight|inconsistent"):
            clf.score(panel, classes, sample_weight=weight)


def test_cross_validation_with_the_score_of_the_estimator(
    panel, classes, numbers, quick, quick_numbers
):
    for model, y in ((quick(), classes), (quick(), (classes > 0).astype(int)),
                     (quick_numbers(), numbers)):  # fmt: skip
        scores = cross_val_score(model, panel, y, cv=2, error_score="raise")
        halves = [np.arange(N) < N // 2, np.arange(N) >= N // 2]
        for score, out in zip(scores, halves, strict=True):
            fold = model.fit(panel[~out], y[~out])
            assert score == pytest.approx(fold.score(panel[out], y[out]))


def test_cross_validation_of_lists_and_of_labels_with_gaps(panel, classes, cut, quick):
    """The folds of a classifier are drawn by what y is: scikit-learn itself refuses NaN and None in
    it, unless it is given a splitter.
    """
    X, y = cut(panel), cut(classes)
    for cv in (2, KFold(2)):
        assert np.isfinite(cross_val_score(quick(), X, y, cv=cv, error_score="raise")).all()
    texts = np.where(classes >= 0, np.where(classes == 1, "on", "off").astype(object), None)
    floats = np.where(classes >= 0, classes, np.nan)
    for given in (texts, floats):
        scores = cross_val_score(quick(), panel, given, cv=KFold(2), error_score="raise")
        assert np.isfinite(scores).all()


def test_predictions_out_of_fold(panel, numbers, quick_numbers):
    told = cross_val_predict(quick_numbers(), panel, np.nan_to_num(numbers), cv=2)
    assert told.shape == (N, T) and np.isfinite(told).all()


def test_grid_search(panel, classes, numbers, quick, quick_numbers):
    grid = {"patch_length": [2, [2, 6]]}
    search = GridSearchCV(quick(), grid, cv=2, error_score="raise").fit(panel, classes)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.predict_proba(panel).shape == (N, T, 2)
    assert np.isfinite(search.score(panel, classes))
    search = GridSearchCV(quick_numbers(), grid, cv=2, error_score="raise").fit(panel, numbers)
    assert search.predict(panel).shape == (N, T)


def test_weights_reach_the_score(panel, classes, quick):
    weight = 1.0 + np.arange(N) % 2
    with config_context(enable_metadata_routing=True):
        clf = quick().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        scores = cross_validate(clf, panel, classes, cv=2, params={"sample_weight": weight},
                                error_score="raise")["test_score"]  # fmt: skip
    out = np.arange(N) < N // 2
    fold = quick().fit(panel[~out], classes[~out], sample_weight=weight[~out])
    expected = fold.score(panel[out], classes[out], sample_weight=weight[out])
    assert scores[0] == pytest.approx(expected)


def test_scikit_learns_own_scorers_want_labels_of_cases(panel, sums, quick):
    """They do not know answers (n, T, K); what they say of (n, T) is their own affair."""
    labels = (sums > 0).astype(int)
    clf = quick().fit(panel, labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exact = get_scorer("accuracy")(clf, panel, labels)
    assert exact == (clf.predict(panel) == labels).all(axis=1).mean()


# ---- it learns ---------------------------------------------------------------------------------


def test_it_learns_a_running_sum(quick, quick_numbers):
    X = np.random.default_rng(0).normal(size=(240, 2, 8))
    sums = X[:, 0].cumsum(axis=1)
    new, old = X[160:], X[:160]
    clf = quick(min_steps=100, learning_rate=0.02, dropout=0.0, patch_length=4)
    assert clf.fit(old, (sums[:160] > 0).astype(int)).score(new, sums[160:] > 0) > 0.8
    model = quick_numbers(min_steps=100, learning_rate=0.02, dropout=0.0)
    assert model.fit(old, sums[:160]).score(new, sums[160:]) > 0.6


def test_it_learns_what_came_before(quick):
    """A flip-flop: the values at a step say nothing of its label."""
    X, y = make_sensor_panels(240, 2, 0, 24, task="per_step", noise=0.05, missing=0, random_state=0)
    clf = quick(min_steps=100, learning_rate=0.02, dropout=0.0, patch_length=4)
    clf.fit(X[:180], y[:180])
    known = y[180:] >= 0
    common = max(y[180:][known].mean(), 1 - y[180:][known].mean())
    assert clf.score(X[180:], y[180:]) > common + 0.15


# ---- pretrained --------------------------------------------------------------------------------


@pytest.mark.parametrize("fine_tune", ["full", "gradual"])
def test_fine_tuning(panel, classes, numbers, cut, fine_tune, quick, quick_numbers):
    start = encoder(panel)
    before = start.transform(panel)
    clf = quick(pretrained=start, fine_tune=fine_tune, encoder_learning_rate=1e-4)
    clf.fit(panel, classes)
    p = clf.predict_proba(panel)
    assert p.shape == (N, T, 2) and np.isfinite(p).all()
    assert [a.shape for a in clf.predict(cut(panel))] == [a.shape for a in cut(classes)]
    np.testing.assert_array_equal(start.transform(panel), before)
    same(quick(pretrained=start, fine_tune=fine_tune, encoder_learning_rate=1e-4)
         .fit(panel, classes).predict_proba(panel), p)  # fmt: skip
    model = quick_numbers(pretrained=start, fine_tune=fine_tune).fit(panel, numbers)
    assert np.isfinite(model.predict(panel)).all()


def test_fine_tuning_begins_with_the_weights_of_the_encoder(panel, classes, quick):
    start = encoder(panel)
    clf = quick(pretrained=start, learning_rate=1e-9, encoder_learning_rate=0.0, weight_decay=0.0)
    weights = clf.fit(panel, classes).nets_[0].weights()
    for name, expected in start.net_.weights().items():
        if name.startswith("backbone."):
            np.testing.assert_allclose(weights[name], expected, atol=1e-5, err_msg=name)


def test_fine_tuning_goes_on(panel, classes, quick):
    clf = quick(pretrained=encoder(panel), warm_start=True).fit(panel, classes)
    first = clf.predict_proba(panel)
    assert not np.array_equal(clf.fit(panel, classes).predict_proba(panel), first)
    assert clf.partial_fit(panel, classes).predict(panel).shape == (N, T)


def test_a_linear_model_on_embeddings_of_cases_has_no_steps(panel, classes, quick):
    clf = quick(pretrained=encoder(panel), fine_tune="head")
    refuses(clf, panel, classes, 'fine_tune="full" or "gradual" with a label at each', ValueError)


# ---- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda y: y[:, :-1], r"each step of X, \(40, 9\). Got an array of shape \(40, 8\)"),
        (lambda y: np.c_[y, y], r"each step of X, \(40, 9\). Got an array of shape \(40, 18\)"),
        (lambda y: y[:-1], r"each step of X, \(40, 9\). Got an array of shape \(39, 9\)"),
        (lambda y: y[:, :, None], r"\(40, 9\). Got an array of shape \(40, 9, 1\)"),
        (lambda y: y[:, 0], r"Got an array of shape \(40,\).*per_step=False"),
        (lambda y: None, "requires y to be passed, but the target y is None"),
        (lambda y: list(y)[:-1], "40 arrays as long as its cases. Got 39 arrays"),
        (
            lambda y: [*y[:3], y[3][:-1], *y[4:]],
            r"Case 3 has 9 steps and labels of shape \(8,\)",
        ),
        (
            lambda y: [*y[:3], y[3][:, None], *y[4:]],
            r"Case 3 has 9 steps and labels of shape \(9, 1\)",
        ),
        (lambda y: np.full_like(y, -1), "a label at one step at least. Got 40 cases"),
        (lambda y: np.full(y.shape, np.nan), "a label at one step at least. Got 40 cases"),
        (lambda y: np.full(y.shape, None), "a label at one step at least. Got 40 cases"),
        (lambda y: np.where(y == 1, 1, -1), "at least two classes in y. Got one class: 1"),
        (lambda y: np.where(y == 1, np.inf, 0.0), "infinity"),
    ],
)
def test_bad_labels_leave_nothing_behind(panel, classes, quick, change, message):
    refuses(quick(per_step=True), panel, change(classes), message)


def test_fractions_are_no_classes(panel, classes, quick):
    refuses(quick(), panel, classes * 0.5, "continuous", ValueError)


@pytest.mark.parametrize(
    "labels, message",
    [
        (np.full((N, T), np.nan), "a label at one step at least"),
        (np.where(np.arange(T) == 3, np.inf, np.ones((N, T))), "infinity"),
        (np.full((N, T), "high"), "numbers as labels"),
        (np.ones((N, T)) * 1j, "[Cc]omplex"),
        (np.ones((N, T, 1)), r"\(40, 9, 1\)"),
    ],
)
def test_bad_numbers(panel, quick_numbers, labels, message):
    refuses(quick_numbers(per_step=True), panel, labels, message)


def test_labels_in_three_dimensions(panel, classes, quick, quick_numbers):
    for make in (quick, quick_numbers):
        refuses(make(), panel, classes[:, :, None], r"Got an array of shape \(40, 9, 1\)")


def test_lists_and_tables_of_labels(panel, classes, cut, quick):
    """A table of labels does not say which of its steps a shorter case has."""
    X = cut(panel)
    for labels in (classes, classes[:, 0]):
        refuses(quick(per_step=True), X, labels, "a list of arrays.*, as X is one")
    mixed = cut(classes)
    mixed[11] = mixed[11][1:]
    refuses(quick(), X, mixed, r"Case 11 has 5 steps and labels of shape \(4,\)")
    refuses(quick(), X, cut(classes)[::-1], r"Case \d+ has \d steps")


def test_a_series_of_arrays(panel, classes, cut, quick):
    """pandas holds one array in each row; either it is a list of arrays, or the error says so."""
    X, y = cut(panel), pd.Series(cut(classes))
    expected = quick().fit(X, cut(classes)).predict_proba(X)
    try:
        p = quick().fit(X, y).predict_proba(X)
    except ValueError as error:
        assert "Expected" in str(error) and "list of arrays" in str(error)
    else:
        same(p, expected)


def test_event_histories_have_no_steps(panel, classes, cut, quick):
    message = "with per_step=True. Got event histories, which have no regular steps"
    refuses(quick(per_step=True), as_events(panel), classes, message)
    refuses(quick(per_step=True), as_events(cut(panel)), cut(classes), message)
    refuses(quick(), as_events(cut(panel)), cut(classes), "Expected .*Got")


def test_bad_validation_labels(panel, classes, quick):
    for labels, message in (
        (classes[:, :-1], r"y_val to hold a label for each step of X.*\(40, 8\)"),
        (classes[:, 0], "y_val to hold a label for each step"),
        (np.full_like(classes, -1), "a label at one step at least"),
        (np.where(classes == 1, 2, classes), r"classes seen in the first fit: \[0, 1\]"),
        (list(classes)[:-1], "y_val.*Got 39 arrays"),
    ):
        refuses(quick(), panel, classes, message, X_val=panel, y_val=labels)
    refuses(quick(), panel, classes, "X_val and y_val together", X_val=panel)


def test_a_failed_fit_leaves_the_earlier_one_as_it_was(panel, classes, quick):
    clf = quick().fit(panel, classes)
    before = clf.predict_proba(panel)
    with pytest.raises(DataError):
        clf.fit(panel, np.full_like(classes, -1))
    same(clf.predict_proba(panel), before)


def test_other_rows_than_in_fit(panel, classes, quick):
    clf = quick().fit(panel, classes)
    with pytest.raises(ValueError, match="X has 2 features, but.*expecting 3"):
        clf.predict(panel[:, :2])
    with pytest.raises(DataError, match=r"pass X.swapaxes\(1, 2\)"):
        clf.predict(panel.swapaxes(1, 2))
    with pytest.raises(DataError, match="Expected a panel .* as in fit. Got numbers"):
        clf.predict(panel[:, 0])
    with pytest.raises(DataError, match="Got event histories"):
        clf.predict(as_events(panel))
