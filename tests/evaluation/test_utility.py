"""Models trained on synthetic subjects and tested on real ones."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.metrics import make_scorer, mean_absolute_error, roc_auc_score
from sklearn.pipeline import make_pipeline

from tawt_sklearn import (
    EventSummarizer,
    TimeAwareClassifier,
    TimeAwareEncoder,
    TripletSequencer,
)
from tawt_sklearn.evaluation import (
    discriminative_score,
    independent_marginals,
    subject_bootstrap,
    subject_features,
    trtr_score,
    tstr_score,
)
from tawt_sklearn.exceptions import DataError

QUICK = {"n_bootstrap": 20, "random_state": 0}


@pytest.fixture(scope="module")
def split(stays):
    X, y = stays
    return X.iloc[:250], y[:250], X.iloc[250:], y[250:]


def test_the_default_is_boosting_on_the_features(split):
    X, y, X_test, y_test = (part[:120] for part in split)
    score = trtr_score(X, y, X_test, y_test, **QUICK)
    features = subject_features(X), subject_features(X_test, like=X)
    model = HistGradientBoostingClassifier(random_state=0).fit(features[0], y)
    expected = roc_auc_score(y_test, model.predict_proba(features[1])[:, 1])
    assert score.value == pytest.approx(expected)
    assert score.low < score.value < score.high
    assert score.details["roc_auc"] == pytest.approx(score.value)
    assert set(score.details.index) == {
        *("roc_auc", "average_precision", "neg_brier_score", "accuracy")
    }


def test_good_synthetic_data_train_and_bad_do_not(split):
    X, y, X_test, y_test = split
    copies = subject_bootstrap(X.assign(y=y), random_state=0)
    bad = independent_marginals(X.assign(y=y), random_state=0)
    good, poor = (
        tstr_score(made.drop(columns="y"), made["y"], X_test, y_test, **QUICK).value
        for made in (copies, bad)
    )
    assert good > 0.65
    assert poor < 0.62


def test_an_estimator_gets_the_frames(split):
    X, y, X_test, y_test = split
    model = make_pipeline(
        EventSummarizer(statistics=["count"], static="drop"), LogisticRegression(max_iter=2000)
    )
    score = trtr_score(*split, estimator=model, **QUICK)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = roc_auc_score(y_test, model.fit(X, y).predict_proba(X_test)[:, 1])
    assert score.value == pytest.approx(expected)
    ridge = make_pipeline(model[0], RidgeClassifier())
    score = trtr_score(*split, estimator=ridge, **QUICK)
    assert score.value > 0.5
    assert "neg_brier_score" not in score.details  # it has no probabilities


def test_predictions_are_made_once_for_all_resamples(split):
    calls = []

    class Counting(HistGradientBoostingRegressor):
        def fit(self, X, y):
            return super().fit(X["age"].to_frame(), y)

        def predict(self, X):
            calls.append(len(X))
            return super().predict(X["age"].to_frame())

    X, _, X_test, _ = split
    age = X["age"].fillna(60.0) * 1.01, X_test["age"].fillna(60.0) * 1.01
    score = trtr_score(X, age[0], X_test, age[1], estimator=Counting(), **QUICK)
    assert score.value > 0.9
    assert calls == [len(X_test)]
    assert "neg_mean_absolute_error" in score.details


def test_numbers_are_scored_by_r2_and_any_scorer_may_be_named(split):
    X, _, X_test, _ = split
    age = X["age"].fillna(60.0) + 0.5, X_test["age"].fillna(60.0) + 0.5
    by_r2 = trtr_score(X, age[0], X_test, age[1], **QUICK)
    assert by_r2.value > 0.9
    by_name = trtr_score(X, age[0], X_test, age[1], scoring="neg_mean_absolute_error", **QUICK)
    assert by_name.low <= by_name.value <= by_name.high < 0
    whole = [part.round().astype(int)[:60] for part in age]
    by_r2 = trtr_score(X[:60], whole[0], X_test[:60], whole[1], scoring="r2", **QUICK)
    assert by_r2.value > 0.5
    scorer = make_scorer(mean_absolute_error, greater_is_better=False)
    by_callable = trtr_score(
        X, age[0], X_test, age[1], scoring=scorer, n_bootstrap=2, random_state=0
    )
    assert by_callable.value == pytest.approx(by_name.value)


def test_more_than_two_classes(split):
    X, _, X_test, _ = split
    y, y_test = (part["unit"].astype(str) for part in (X, X_test))
    score = trtr_score(X, y, X_test, y_test, **QUICK)
    assert score.value == pytest.approx(1.0)
    assert set(score.details.index) == {"roc_auc_ovr", "neg_log_loss", "accuracy"}


def test_features_that_nobody_has_are_left_out(split):
    X, y, X_test, y_test = (part[:100] for part in split)
    X = X.assign(age=np.nan)
    assert np.isfinite(trtr_score(X, y, X_test, y_test, **QUICK).value)


def test_the_same_seed_gives_the_same_score(split):
    X, y, X_test, y_test = (part[:100] for part in split)
    first, second = (trtr_score(X, y, X_test, y_test, **QUICK) for _ in range(2))
    assert (first.value, first.low) == (second.value, second.low)


def test_labels_that_cannot_be_scored(split):
    X, y, X_test, y_test = split
    cases = {
        r"two classes in y_synthetic. Got only 0": (np.zeros(250, int), y_test),
        r"two classes in y_test. Got only 1": (y, np.ones(200, int)),
        r"every class of y_test in y_synthetic. Got none of \[2\]": (y, np.arange(200) % 3),
        r"every class of y_synthetic in y_test. Got none of \[2\]": (np.arange(250) % 3, y_test),
        r"each of the 250 subjects as y_synthetic. Got shape \(3,\)": (y[:3], y_test),
        r"Got 1 missing ones, the first at position 4": (
            pd.Series(y, dtype="Int64").mask(np.arange(250) == 4),
            y_test,
        ),
        r"as y_synthetic. Got None": (None, y_test),
    }
    for message, (labels, test_labels) in cases.items():
        with pytest.raises(DataError, match=message):
            tstr_score(X, labels, X_test, test_labels, **QUICK)


def test_the_transformers_of_the_library_are_estimators_like_any_other(split):
    X, y, X_test, y_test = (part[:120] for part in split)
    options = {
        **{"d_model": 8, "n_heads": 2, "n_layers": 1, "n_windows": 4, "max_epochs": 2},
        **{"min_steps": 4, "device": "cpu", "random_state": 0},
    }
    model = TimeAwareClassifier(n_ensemble=1, **options)
    score = tstr_score(X, y, X_test, y_test, estimator=model, **QUICK)
    assert 0 <= score.low <= score.value <= score.high <= 1
    encoder = make_pipeline(TripletSequencer(), TimeAwareEncoder(**options)).fit(X)
    bad = independent_marginals(X, random_state=0)
    assert discriminative_score(X_test, bad, features=encoder, **QUICK).value > 0.6
