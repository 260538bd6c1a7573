"""Classification with several labels for each row, each of them there or not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.metrics import get_scorer, log_loss, roc_auc_score
from sklearn.model_selection import cross_val_score
from sklearn.multioutput import MultiOutputClassifier

from tawt_sklearn.events.panels import Panel
from tawt_sklearn.exceptions import DataError


@pytest.fixture
def panel() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(60, 2, 6))


@pytest.fixture
def labels(panel) -> np.ndarray:
    """Whether each channel is high, and whether both are."""
    high = panel.mean(axis=2) > 0
    return np.column_stack([high, high.all(axis=1)]).astype(int)


def test_every_label_has_a_probability_of_its_own(panel, labels, quick):
    clf = quick().fit(panel, labels)
    p, odds, predicted = clf.predict_proba(panel), clf.decision_function(panel), clf.predict(panel)
    assert p.shape == odds.shape == predicted.shape == (60, 3)
    assert clf.classes_.tolist() == [0, 1, 2]
    np.testing.assert_allclose(p, expit(odds))
    np.testing.assert_allclose(clf.predict_log_proba(panel), np.log(p))
    np.testing.assert_array_equal(predicted, (odds > 0).astype(int))
    assert predicted.dtype == np.int64
    assert clf.score(panel, labels) == (predicted == labels).all(axis=1).mean()


def test_it_learns_each_label(panel, labels, quick):
    clf = quick(min_steps=80, learning_rate=0.01).fit(panel[:40], labels[:40])
    assert roc_auc_score(labels[40:], clf.predict_proba(panel[40:]), average=None).min() > 0.8


def test_labels_of_any_kind(panel, labels, quick):
    expected = quick().fit(panel, labels).predict_proba(panel)
    for given in (labels.astype(bool), labels.astype(np.float32), labels.tolist(),
                  pd.DataFrame(labels, columns=list("abc")), labels.astype(object)):  # fmt: skip
        np.testing.assert_array_equal(quick().fit(panel, given).predict_proba(panel), expected)


def test_the_order_of_the_labels_is_kept(panel, labels, quick):
    """The middle one is common, the others are rare: the prior tells them apart."""
    labels = np.zeros((60, 3), int)
    labels[:55, 1] = 1
    labels[:5, 0] = 1
    p = quick(learning_rate=1e-9).fit(panel, labels).predict_proba(panel).mean(axis=0)
    assert p[1] > 0.6 and max(p[0], p[2]) < 0.4


def test_a_label_that_all_or_none_have(panel, labels, quick):
    labels = np.column_stack([labels[:, 0], np.ones(60, int), np.zeros(60, int)])
    p = quick(min_steps=30).fit(panel, labels).predict_proba(panel)
    assert np.isfinite(p).all() and (p[:, 1] > 0.8).all() and (p[:, 2] < 0.2).all()


def test_one_column_is_two_classes(panel, labels, quick):
    one = quick().fit(panel, labels[:, :1])
    assert one.classes_.tolist() == [0, 1]
    np.testing.assert_array_equal(
        one.predict_proba(panel), quick().fit(panel, labels[:, 0]).predict_proba(panel)
    )


def test_the_members_odds_are_averaged(panel, labels, quick):
    clf = quick(n_ensemble=3).fit(panel, labels)
    data = clf.preparation_.dataset(Panel.of(panel))
    each = np.stack([net.decision(data) for net in clf.nets_])
    assert not np.allclose(each[0], each[1])
    np.testing.assert_allclose(clf.decision_function(panel), each.mean(axis=0))


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("scoring", ["roc_auc", "average_precision", "f1_macro", "accuracy"])
def test_scorers_judge_a_fitted_classifier(panel, labels, quick, k, scoring):
    labels = labels[:, :k]
    clf = quick().fit(panel, labels)
    scorer = get_scorer(scoring)
    soft = scoring in ("roc_auc", "average_precision")
    answer = clf.decision_function(panel) if soft else clf.predict(panel)
    expected = scorer._score_func(labels, answer, **scorer._kwargs)
    assert scorer(clf, panel, labels) == pytest.approx(expected)


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("scoring", ["loss", "roc_auc", "average_precision", "f1_macro"])
def test_scorers_watch_the_held_out_rows(panel, labels, quick, k, scoring):
    clf = quick(early_stopping=True, validation_fraction=0.4, scoring=scoring, max_epochs=1)
    clf.fit(panel, labels[:, :k], X_val=panel[:40], y_val=labels[:40, :k])
    assert clf.history_["valid_score"].notna().all()
    if scoring != "loss":
        expected = get_scorer(scoring)(clf, panel[:40], labels[:40, :k])
        last = quick(early_stopping=False, scoring=scoring, max_epochs=1, min_steps=0)
        last.fit(panel, labels[:, :k], X_val=panel[:40], y_val=labels[:40, :k])
        expected = get_scorer(scoring)(last, panel[:40], labels[:40, :k])
        assert last.history_["valid_score"].iloc[-1] == pytest.approx(expected, abs=1e-5)


def test_the_validation_loss_is_the_mean_log_loss_of_the_labels(panel, labels, quick):
    clf = quick(early_stopping=False, max_epochs=1, min_steps=0, n_average=1)
    clf.fit(panel, labels, X_val=panel[:40], y_val=labels[:40])
    p = clf.predict_proba(panel[:40])
    expected = np.mean([log_loss(labels[:40, j], p[:, j]) for j in range(3)])
    assert clf.history_["valid_loss"].iloc[-1] == pytest.approx(expected, rel=1e-4)


def test_a_part_of_the_rows_is_held_out(panel, labels, quick):
    history = quick(early_stopping=True, validation_fraction=0.25).fit(panel, labels).history_
    assert history[["valid_loss", "valid_score"]].notna().all(axis=None)


def test_cross_validation(panel, labels, quick):
    scores = cross_val_score(quick(), panel, labels, cv=2, scoring="roc_auc")
    assert scores.shape == (2,) and np.isfinite(scores).all()


def test_several_labels_of_more_than_two_classes(panel, quick):
    labels = np.column_stack([np.arange(60) % 3, np.arange(60) % 2])
    clf = MultiOutputClassifier(quick()).fit(panel.reshape(60, -1), labels)
    assert [p.shape for p in clf.predict_proba(panel.reshape(60, -1))] == [(60, 3), (60, 2)]


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda y: y + 1, "0 and 1 which labels.*Got 2"),
        (lambda y: y * 0.5, "0 and 1 which labels.*Got 0.5"),
        (lambda y: np.where(y, np.nan, 0), "0 and 1 which labels.*Got nan"),
        (lambda y: np.where(y, "yes", "no"), "0 and 1 which labels.*Got '(yes|no)'"),
        (lambda y: y[:-1], "60 rows of X. Got 59"),
        (lambda y: y[:, :0], r"Got an array of shape \(60, 0\)"),
        (lambda y: y[:, :, None], r"Got an array of shape \(60, 3, 1\)"),
    ],
)
def test_bad_labels_leave_nothing_behind(panel, labels, quick, change, message):
    clf = quick()
    with pytest.raises(DataError, match=message):
        clf.fit(panel, change(labels))
    assert vars(clf) == clf.get_params(deep=False)


def test_class_weights_are_for_classes(panel, labels, quick):
    for weight in ("balanced", {0: 1.0, 1: 2.0}):
        with pytest.raises(DataError, match="class_weight=None where rows have several labels"):
            quick(class_weight=weight).fit(panel, labels)


def test_a_failed_fit_leaves_the_earlier_one_as_it_was(panel, labels, quick):
    clf = quick().fit(panel, labels)
    before = clf.predict_proba(panel)
    with pytest.raises(DataError):
        clf.fit(panel, labels * 3)
    np.testing.assert_array_equal(clf.predict_proba(panel), before)


def test_partial_fit_goes_on_with_the_labels(panel, labels, quick):
    clf = quick().partial_fit(panel, labels).partial_fit(panel[:30], labels[:30])
    assert clf.predict_proba(panel).shape == (60, 3)
    with pytest.raises(DataError, match=r"shape \(n, 3\). Got an array of shape \(60, 2\)"):
        clf.partial_fit(panel, labels[:, :2])
    with pytest.raises(DataError, match=r"shape \(n, 3\). Got an array of shape \(60,\)"):
        clf.partial_fit(panel, labels[:, 0])
