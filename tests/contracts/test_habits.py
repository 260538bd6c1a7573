"""What scikit-learn users do all day, done with event frames."""

from __future__ import annotations

import io
import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
)
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.impute import SimpleImputer
from sklearn.inspection import partial_dependence, permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import RocCurveDisplay
from sklearn.model_selection import (
    cross_val_score,
)
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from tawt_sklearn import (
    EventSummarizer,
    SequenceSynthesizer,
    TimeAwareClassifier,
    TimeAwareEncoder,
    TripletSequencer,
)

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


# ---- columns ------------------------------------------------------------------------------------


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


def test_feature_union_of_summaries(X, y):
    union = FeatureUnion(
        [
            ("whole", EventSummarizer(statistics=["mean"])),
            ("late", EventSummarizer(statistics=["slope"], windows=[12], static="drop")),
        ]
    )
    model = make_pipeline(union, HistGradientBoostingClassifier(max_iter=5))
    assert model.fit(X, y).predict_proba(X).shape == (len(X), 2)


def test_feature_union_of_tokens_and_summaries(X, y):
    """Statistics become static columns beside the tokens."""
    union = FeatureUnion(
        [
            ("tokens", TripletSequencer()),
            ("slopes", EventSummarizer(statistics=["slope"], static="drop")),
        ]
    ).set_output(transform="pandas")
    model = make_pipeline(union, TimeAwareClassifier(**QUICK)).fit(X, y)
    assert "tokens__events" in model[-1].feature_names_in_
    assert np.isfinite(model.predict_proba(X)).all()


def test_pipeline_memory(pipeline, X, y, tmp_path):
    cached = clone(pipeline).set_params(memory=joblib.Memory(tmp_path, verbose=0))
    first = cached.fit(X, y).predict_proba(X)
    second = clone(cached).fit(X, y).predict_proba(X)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, pipeline.fit(X, y).predict_proba(X))


# ---- new subjects -------------------------------------------------------------------------------


@pytest.fixture
def synthesis() -> Pipeline:
    return Pipeline(
        [("sequence", TripletSequencer()), ("model", SequenceSynthesizer(**QUICK_SYNTHESIZER))]
    )


def test_new_subjects_of_a_pipeline_are_turned_back(synthesis, X, y):
    tokens, labels = synthesis.fit(X, y)[-1].sample(8, random_state=0)
    assert tokens["events"].dtype == synthesis["sequence"].transform(X)["events"].dtype
    raw = synthesis["sequence"].inverse_transform(tokens)
    assert list(raw) == list(X) and set(labels) <= set(y)
    assert raw["events"].dtype == X["events"].dtype  # the unit of time, too
    new, old = (frame["events"].events.to_long() for frame in (raw, X))
    assert len(new) == tokens["events"].events.lengths.sum()
    assert set(new["code"]) <= set(old["code"])
    assert set(new["text"].dropna()) <= set(old["text"].dropna())
    ranges = old.groupby("code")["value"].agg(["min", "max"])
    within = ranges.loc[new["code"]].to_numpy()
    number = new["value"].to_numpy()
    some = ~np.isnan(number)
    size = 1e-4 * (1 + np.abs(number[some]))
    assert (number[some] >= within[some, 0] - size).all()
    assert (number[some] <= within[some, 1] + size).all()
    np.testing.assert_array_equal(raw["events"].events.start, X["events"].events.start[:8])
    assert (raw["events"].events.end <= X["events"].events.end.max() + 1e-6).all()
    assert new["time"].between(old["time"].min() - 1e-6, 48 + 1e-6).all()
    assert np.isfinite(synthesis.transform(raw)).all()
    assert np.isfinite(synthesis.score(X, y))


def test_a_model_of_new_subjects_for_real_ones(synthesis, X, y):
    """Trained on synthetic subjects, asked about real ones."""
    new, labels = clone(synthesis["model"]).fit(X, y).sample(40, y=[0, 1] * 20, random_state=0)
    model = make_pipeline(EventSummarizer(), HistGradientBoostingClassifier(max_iter=5))
    assert model.fit(new, labels).predict_proba(X).shape == (len(X), 2)


def test_latents_beside_summaries(X, y):
    union = FeatureUnion(
        [
            ("latent", SequenceSynthesizer(**QUICK_SYNTHESIZER)),
            ("summary", EventSummarizer(statistics=["mean"])),
        ]
    ).set_output(transform="pandas")
    table = union.fit_transform(X)
    assert list(table)[:3] == [f"latent__sequencesynthesizer{k}" for k in range(3)]
    assert table.index.equals(X.index)


def test_a_clone_of_a_synthesizer_keeps_the_encoder(X, y):
    encoder = TimeAwareEncoder(**QUICK_ENCODER).fit(X)
    before = encoder.transform(X)
    model = SequenceSynthesizer(**QUICK_SYNTHESIZER, pretrained=encoder).fit(X, y)
    copy = clone(model)
    assert copy.pretrained is encoder and not hasattr(copy, "net_")
    np.testing.assert_array_equal(copy.fit(X, y).transform(X), model.transform(X))
    np.testing.assert_array_equal(encoder.transform(X), before)
    with pytest.raises(ValueError, match="the encoder is shared"):
        model.set_params(pretrained__d_model=16)


# ---- looking into the model ---------------------------------------------------------------------


def test_permutation_importance_shuffles_the_history_as_one_feature(pipeline, X, y):
    fitted = pipeline.fit(X, y)
    importance = permutation_importance(
        fitted, X, y, scoring="neg_log_loss", n_repeats=2, random_state=0
    )
    assert importance.importances_mean.shape == (X.shape[1],)
    assert np.isfinite(importance.importances_mean).all()


def test_partial_dependence_on_a_static_column(pipeline, X, y):
    known = X.assign(age=X["age"].fillna(60))
    curve = partial_dependence(pipeline.fit(known, y), known, ["age"], grid_resolution=3)
    assert np.isfinite(curve["average"]).all()


def test_displays(pipeline, X, y):
    display = RocCurveDisplay.from_estimator(pipeline.fit(X, y), X, y)
    assert 0 <= display.roc_auc <= 1


# ---- keeping the model --------------------------------------------------------------------------


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
