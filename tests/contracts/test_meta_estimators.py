"""Models around the model, and searches over its parameters, with event frames.

Meta-estimators that hand X on as it is work with event frames; those that first make it an array
of numbers do not, and cannot (``test_what_needs_numbers``): ``EventSummarizer`` makes numbers for
them, and panels are numbers from the start.
"""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    HistGradientBoostingClassifier,
    StackingClassifier,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import get_scorer
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    RandomizedSearchCV,
    StratifiedGroupKFold,
    TunedThresholdClassifierCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
    permutation_test_score,
    train_test_split,
)
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.semi_supervised import SelfTrainingClassifier

from tawt_sklearn import (
    EventsDtype,
    EventSummarizer,
    SequenceSynthesizer,
    TimeAwareClassifier,
    TimeAwareEncoder,
    TimeAwareRegressor,
    TripletSequencer,
    as_events,
)
from tawt_sklearn.exceptions import DataError

from .suite import QUICK_ENCODER, QUICK_SYNTHESIZER
from .test_contract import QUICK

# Histories of a fold that was held out may hold codes that the others lack.
pytestmark = pytest.mark.filterwarnings("ignore:.*unknown.*:tawt_sklearn.exceptions.DataWarning")


@pytest.fixture
def X(cohort) -> pd.DataFrame:
    return cohort[0].copy()


@pytest.fixture
def y(cohort) -> pd.Series:
    return cohort[1].copy()


# ---- splitting and searching --------------------------------------------------------------------


def test_cross_val_score_is_the_same_on_one_and_two_workers(pipeline, X, y):
    one = cross_val_score(pipeline, X, y, scoring="roc_auc", cv=3)
    two = cross_val_score(pipeline, X, y, scoring="roc_auc", cv=3, n_jobs=2)
    np.testing.assert_array_equal(one, two)


def test_grid_search_over_a_sequencer_and_a_model_parameter(pipeline, X, y):
    grid = {"model__d_model": [8, 16], "sequence__min_count": [1, 30]}
    search = GridSearchCV(pipeline, grid, cv=2, n_jobs=2, scoring="roc_auc").fit(X, y)
    assert set(search.best_params_) == set(grid)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.predict_proba(X).shape == (len(X), 2)


@pytest.fixture
def steps() -> pd.DataFrame:
    """Histories in which no code occurs twice at a time."""
    return as_events(np.random.default_rng(0).normal(size=(40, 2, 5)))


@pytest.mark.parametrize("with_labels", [True, False])
def test_grid_search_over_a_synthesizer_by_likelihood(steps, with_labels):
    labels = np.arange(len(steps)) % 2 if with_labels else None
    pipeline = make_pipeline(TripletSequencer(), SequenceSynthesizer(**QUICK_SYNTHESIZER))
    grid = {"sequencesynthesizer__gap": ["bins", "lognormal_mixture"]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(steps, labels)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    written = search.best_estimator_[-1].sample(3)
    assert len(written[0] if with_labels else written) == 3
    assert search.transform(steps).shape == (len(steps), 3)


def test_grid_search_over_the_encoders_of_a_synthesizer(steps):
    encoders = [FrozenEstimator(TimeAwareEncoder(**QUICK_ENCODER).fit(steps)), None]
    model = SequenceSynthesizer(**QUICK_SYNTHESIZER)
    search = GridSearchCV(model, {"pretrained": encoders}, cv=2).fit(steps)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_histories_of_another_fold_are_possible(X):
    model = SequenceSynthesizer(**QUICK_SYNTHESIZER).fit(X[:60])
    assert np.isfinite(model.log_prob(X[60:], n_samples=1)).all()


def test_halving_search(pipeline, X, y):
    search = HalvingGridSearchCV(
        pipeline,
        {"model__dropout": [0.0, 0.2]},
        cv=2,
        factor=2,
        min_resources=60,
        scoring="roc_auc",
        random_state=0,
    ).fit(X, y)
    assert list(search.n_resources_) == [60, 120]
    assert search.predict_proba(X).shape == (len(X), 2)


def test_randomized_search_with_workers(pipeline, X, y):
    search = RandomizedSearchCV(
        pipeline, {"model__dropout": [0.0, 0.1, 0.2]}, n_iter=2, cv=2, n_jobs=2, random_state=0
    ).fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_cross_validate(pipeline, X, y):
    scores = cross_validate(pipeline, X, y, cv=2, scoring=["roc_auc", "neg_log_loss"])
    assert np.isfinite(scores["test_roc_auc"]).all()
    assert np.isfinite(scores["test_neg_log_loss"]).all()


def test_weights_reach_the_model_and_the_score(pipeline, X, y):
    with config_context(enable_metadata_routing=True):
        pipeline["model"].set_fit_request(sample_weight=True)
        settings = {
            "scoring": get_scorer("neg_log_loss").set_score_request(sample_weight=True),
            "cv": 2,
        }
        weight = 1.0 + np.arange(len(X)) % 2
        weighted = cross_validate(pipeline, X, y, params={"sample_weight": weight}, **settings)
        ones = cross_validate(pipeline, X, y, params={"sample_weight": weight * 0 + 1}, **settings)
        none = cross_validate(pipeline, X, y, **settings)
    np.testing.assert_allclose(ones["test_score"], none["test_score"])
    assert (weighted["test_score"] != none["test_score"]).all()


def test_validation_data_go_through_the_steps(pipeline, X, y):
    with config_context(enable_metadata_routing=True):
        pipeline.set_params(transform_input=["X_val"], model__early_stopping=True)
        pipeline["model"].set_fit_request(X_val=True, y_val=True)
        pipeline.fit(X[:80], y[:80], X_val=X[80:], y_val=y[80:])
    assert pipeline["model"].history_["valid_loss"].notna().all()


def test_learning_curve(pipeline, X, y):
    sizes, train, test = learning_curve(pipeline, X, y, cv=2, train_sizes=[0.5, 1.0])
    assert sizes.tolist() == [30, 60] and train.shape == test.shape == (2, 2)
    assert np.isfinite(test).all()


def test_a_test_by_permuted_labels(pipeline, X, y):
    """It shuffles y with its index, which is no longer that of X; an array has none."""
    score, _, p_value = permutation_test_score(pipeline, X, y.to_numpy(), cv=2, n_permutations=2)
    assert 0 <= score <= 1 and 0 < p_value <= 1
    with pytest.raises(DataError, match=r"pass y\.to_numpy\(\)"):
        permutation_test_score(pipeline, X, y, cv=2, n_permutations=2)


def test_train_test_split_keeps_histories_with_their_subjects(X, y):
    X_train, X_test, y_train, _ = train_test_split(X, y, stratify=y, random_state=0)
    assert isinstance(X_train["events"].dtype, EventsDtype)
    assert X_train.index.equals(y_train.index)
    subject = X_test.index[3]
    assert X_test.loc[subject, "events"] == X.loc[subject, "events"]


def test_groups_stay_together(pipeline, X, y):
    twice = pd.concat([X, X])
    groups = twice.index.to_numpy()
    p = cross_val_predict(
        pipeline,
        twice,
        pd.concat([y, y]),
        groups=groups,
        cv=StratifiedGroupKFold(3),
        method="predict_proba",
    )
    # Both copies of a subject are predicted by the same fold's model, so they agree.
    np.testing.assert_allclose(p[: len(X)], p[len(X) :], atol=1e-5)


# ---- models around the model --------------------------------------------------------------------


def test_calibration(pipeline, X, y):
    calibrated = CalibratedClassifierCV(pipeline, cv=2).fit(X, y)
    p = calibrated.predict_proba(X)
    np.testing.assert_allclose(p.sum(1), 1)


def test_calibration_of_a_frozen_model(pipeline, X, y):
    frozen = FrozenEstimator(pipeline.fit(X[:80], y[:80]))
    before = frozen.predict_proba(X)
    calibrated = CalibratedClassifierCV(frozen).fit(X[80:], y[80:])
    np.testing.assert_array_equal(frozen.predict_proba(X), before)
    np.testing.assert_allclose(calibrated.predict_proba(X).sum(axis=1), 1)


def test_stacking_with_trees_on_summaries(pipeline, X, y):
    trees = make_pipeline(EventSummarizer(), HistGradientBoostingClassifier(max_iter=5))
    stack = StackingClassifier([("network", pipeline), ("trees", trees)], cv=2).fit(X, y)
    assert stack.transform(X).shape == stack.predict_proba(X).shape == (len(X), 2)


def test_stacking_with_histories_passed_on(pipeline, X, y):
    """The last model gets the columns of X beside the predictions, and has to take them."""
    last = make_pipeline(EventSummarizer(), HistGradientBoostingClassifier(max_iter=5))
    stack = StackingClassifier([("network", pipeline)], last, cv=2, passthrough=True).fit(X, y)
    assert stack.predict_proba(X).shape == (len(X), 2)
    with pytest.raises(ValueError, match="could not convert string to float"):
        clone(stack).set_params(final_estimator=LogisticRegression()).fit(X, y)


def test_soft_voting_of_tokens_and_raw_histories(pipeline, X, y):
    vote = VotingClassifier([("a", pipeline), ("b", TimeAwareClassifier(**QUICK))], voting="soft")
    p = vote.fit(X, y).predict_proba(X)
    mean = np.mean([model.predict_proba(X) for model in vote.estimators_], axis=0)
    np.testing.assert_allclose(p, mean)


def test_voting_of_regressors(regression, X, y):
    vote = VotingRegressor([("a", regression), ("b", TimeAwareRegressor(**QUICK))])
    assert np.isfinite(vote.fit(X, y.astype(float)).predict(X)).all()


def test_a_tuned_threshold(pipeline, X, y):
    tuned = TunedThresholdClassifierCV(pipeline, scoring="balanced_accuracy", cv=2).fit(X, y)
    over = pipeline.fit(X, y).predict_proba(X)[:, 1] >= tuned.best_threshold_
    np.testing.assert_array_equal(tuned.predict(X), over.astype(int))


def test_one_against_the_rest(pipeline, X):
    labels = X["unit"]
    p = OneVsRestClassifier(pipeline).fit(X, labels).predict_proba(X)
    direct = clone(pipeline).fit(X, labels).predict_proba(X)  # needs no help with three classes
    assert p.shape == direct.shape == (len(X), 3)


def test_several_labels(pipeline, X, y):
    labels = np.stack([y, X["age"].fillna(0) > 65], axis=1).astype(int)
    each = MultiOutputClassifier(pipeline).fit(X, labels)
    assert each.predict(X).shape == (len(X), 2)
    together = clone(pipeline).fit(X, labels)  # one network for all of them
    assert together.predict(X).shape == together.predict_proba(X).shape == (len(X), 2)


def test_bagging(pipeline, X, y):
    bag = BaggingClassifier(pipeline, n_estimators=2, random_state=0).fit(X, y)
    assert bag.predict_proba(X).shape == (len(X), 2)


def test_a_transformed_target(regression, X, y):
    target = 10 ** (1 + y.astype(float))
    model = TransformedTargetRegressor(regression, func=np.log10, inverse_func=lambda p: 10**p)
    assert (model.fit(X, target).predict(X) > 0).all()


@pytest.mark.parametrize(
    "around",
    [
        lambda model: OneVsOneClassifier(model),
        lambda model: ClassifierChain(model),
        lambda model: SelfTrainingClassifier(model, max_iter=1),
        lambda model: AdaBoostClassifier(model, n_estimators=2),
    ],
    ids=["OneVsOneClassifier", "ClassifierChain", "SelfTrainingClassifier", "AdaBoostClassifier"],
)
def test_what_needs_numbers(around, pipeline, X, y):
    """They make X an array of numbers before any model sees it (OneVsOneClassifier and
    SelfTrainingClassifier since some release of scikit-learn later than 1.7), and say so.
    """
    labels = y.to_numpy(copy=True)
    if isinstance(around(pipeline), ClassifierChain):
        labels = np.stack([labels, labels], axis=1)
    elif isinstance(around(pipeline), SelfTrainingClassifier):
        labels[:20] = -1  # not known
    try:
        model = around(pipeline).fit(X, labels)
    except ValueError as error:
        assert re.search("could not convert string to float|Input contains NaN", str(error))
    else:
        assert len(model.predict(X)) == len(X)
    panel = np.random.default_rng(0).normal(size=(len(X), 10))  # one series in each row
    model = around(TimeAwareClassifier(**QUICK)).fit(panel, labels)
    assert len(model.predict(panel)) == len(X)
