"""What scikit-learn users do all day, done with event frames."""

from __future__ import annotations

import io
import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedGroupKFold,
    cross_val_predict,
    cross_val_score,
    train_test_split,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from tawt_sklearn import EventsDtype, EventSummarizer, TimeAwareClassifier, TripletSequencer
from tawt_sklearn.datasets import make_icu_stays


@pytest.fixture(scope="module")
def cohort() -> tuple[pd.DataFrame, pd.Series]:
    return make_icu_stays(120, random_state=0)


@pytest.fixture
def X(cohort) -> pd.DataFrame:
    return cohort[0].copy()


@pytest.fixture
def y(cohort) -> pd.Series:
    return cohort[1].copy()


@pytest.fixture
def pipeline() -> Pipeline:
    return Pipeline(
        [
            ("sequence", TripletSequencer()),
            (
                "model",
                TimeAwareClassifier(
                    d_model=8,
                    n_heads=2,
                    n_layers=1,
                    n_windows=4,
                    max_epochs=2,
                    min_steps=4,
                    n_ensemble=1,
                    random_state=0,
                    device="cpu",
                ),
            ),
        ]
    )


@pytest.mark.filterwarnings("ignore:.*unknown.*:tawt_sklearn.exceptions.DataWarning")
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


def test_column_transformer_of_summaries_and_static_columns(X, y):
    static = ColumnTransformer(
        [
            ("number", make_pipeline(SimpleImputer(), StandardScaler()), ["age"]),
            ("name", OneHotEncoder(handle_unknown="ignore"), ["sex"]),
        ]
    )
    model = make_pipeline(
        ColumnTransformer(
            [("history", EventSummarizer(), ["events"]), ("static", static, ["age", "sex"])]
        ),
        HistGradientBoostingClassifier(max_iter=10),
    )
    assert cross_val_score(model, X, y, cv=2, n_jobs=2).shape == (2,)


def test_column_transformer_of_tokens(X, y, pipeline):
    model = Pipeline(
        [
            (
                "columns",
                ColumnTransformer(
                    [
                        ("history", TripletSequencer(), ["events"]),
                        ("static", "passthrough", ["age"]),
                    ],
                    verbose_feature_names_out=False,
                ).set_output(transform="pandas"),
            ),
            ("model", pipeline["model"]),
        ]
    )
    assert model.fit(X, y).predict_proba(X).shape == (len(X), 2)
    assert make_column_selector(dtype_include="events")(X) == ["events"]


def test_pipeline_memory(pipeline, X, y, tmp_path):
    cached = clone(pipeline).set_params(memory=joblib.Memory(tmp_path, verbose=0))
    first = cached.fit(X, y).predict_proba(X)
    second = clone(cached).fit(X, y).predict_proba(X)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, pipeline.fit(X, y).predict_proba(X))


def test_calibration(pipeline, X, y):
    calibrated = CalibratedClassifierCV(pipeline, cv=2).fit(X, y)
    p = calibrated.predict_proba(X)
    np.testing.assert_allclose(p.sum(1), 1)


def test_permutation_importance_shuffles_the_history_as_one_feature(pipeline, X, y):
    fitted = pipeline.fit(X, y)
    importance = permutation_importance(
        fitted, X, y, scoring="neg_log_loss", n_repeats=2, random_state=0
    )
    assert importance.importances_mean.shape == (X.shape[1],)
    assert np.isfinite(importance.importances_mean).all()


def test_clone_has_the_parameters_and_not_the_fit(pipeline, X, y):
    fitted = pipeline.fit(X, y)
    copy = clone(fitted)
    assert copy.get_params().keys() == fitted.get_params().keys()
    assert not hasattr(copy["model"], "classes_")


@pytest.mark.parametrize("how", ["pickle", "joblib"])
def test_a_fitted_pipeline_can_be_stored(pipeline, X, y, how, tmp_path):
    fitted = pipeline.fit(X, y)
    if how == "pickle":
        stored = io.BytesIO(pickle.dumps(fitted))
        again = pickle.load(stored)
    else:
        joblib.dump(fitted, tmp_path / "model.joblib")
        again = joblib.load(tmp_path / "model.joblib")
    np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))


def test_memory_mapped_histories(pipeline, X, y, tmp_path):
    joblib.dump(X["events"].array, tmp_path / "events.joblib")
    mapped = X.assign(events=joblib.load(tmp_path / "events.joblib", mmap_mode="r"))
    np.testing.assert_array_equal(
        pipeline.fit(mapped, y).predict_proba(mapped), clone(pipeline).fit(X, y).predict_proba(X)
    )


def test_nothing_changes_the_users_frame(pipeline, X, y):
    before = X.copy()
    pipeline.fit(X, y).predict_proba(X)
    pd.testing.assert_frame_equal(X, before)


def test_a_linear_model_on_summaries(X, y):
    model = make_pipeline(
        EventSummarizer(),
        SimpleImputer(keep_empty_features=True),
        StandardScaler(),
        LogisticRegression(C=0.01, max_iter=500),
    )
    assert model.fit(X, y).predict_proba(X).shape == (len(X), 2)


def test_html_repr(pipeline):
    assert "TripletSequencer" in pipeline._repr_html_()
    assert "TimeAwareClassifier" in repr(pipeline)
