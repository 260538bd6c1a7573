"""Classifiers and regressors that start from a pretrained encoder."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from skorch.callbacks import Callback

import tawt_sklearn
from tawt_sklearn import (
    EventSummarizer,
    TimeAwareClassifier,
    TimeAwareEncoder,
    TimeAwareRegressor,
    TripletSequencer,
)
from tawt_sklearn.datasets import make_icu_stays
from tawt_sklearn.exceptions import DataError
from tawt_sklearn.objectives import probe as probe_module
from tawt_sklearn.objectives.probe import VARIANCES

SMALL: dict[str, Any] = {
    "d_model": 8,
    "n_heads": 2,
    "n_layers": 2,
    "n_windows": 4,
    "batch_size": 32,
    "random_state": 0,
    "device": "cpu",
}
N = 90


def pretrain(X: Any, **parameters: Any) -> TimeAwareEncoder:
    settings = {**SMALL, "d_embedding": 12, "max_epochs": 1, "min_steps": 0}
    return TimeAwareEncoder(**(settings | parameters)).fit(X)


def tune(pretrained: Any, cls: Any = TimeAwareClassifier, **parameters: Any) -> Any:
    settings = {"max_epochs": 2, "n_ensemble": 1, "random_state": 0, "device": "cpu"}
    return cls(pretrained=pretrained, **(settings | parameters))


@pytest.fixture(scope="module")
def cohort() -> tuple[pd.DataFrame, pd.Series]:
    X, y = make_icu_stays(N, random_state=0)
    return X.assign(events=X["events"].events.until(12.0)), y


@pytest.fixture(scope="module")
def X(cohort) -> pd.DataFrame:
    return cohort[0]


@pytest.fixture(scope="module")
def y(cohort) -> pd.Series:
    return cohort[1]


@pytest.fixture(scope="module")
def encoder(X) -> TimeAwareEncoder:
    """Fitted once; fine-tuning must leave it as it is."""
    return pretrain(X)


@pytest.fixture(scope="module")
def pipeline(X, encoder) -> Pipeline:
    """The same in two steps."""
    return make_pipeline(clone(encoder.preparation_.sequencer), clone(encoder)).fit(X)


@pytest.fixture(scope="module")
def path(encoder, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("encoder") / "encoder.tawt"
    encoder.save(path)
    return path


@pytest.fixture(scope="module")
def tuned(encoder, X, y) -> TimeAwareClassifier:
    return tune(encoder).fit(X, y)


def weights(model: Any) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in model.nets_[0].weights().items()}


# ---- what pretrained may be --------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["frozen", "pipeline", "frozen pipeline", "path", "str", "steps"])
def test_every_way_to_name_an_encoder_gives_the_same(encoder, pipeline, path, X, y, tuned, kind):
    given = {
        "frozen": FrozenEstimator(encoder),
        "pipeline": pipeline,
        "frozen pipeline": FrozenEstimator(pipeline),
        "path": path,
        "str": str(path),
        "steps": make_pipeline(FrozenEstimator(pipeline[0]), FrozenEstimator(pipeline[1])),
    }[kind]
    model = tune(given).fit(X, y)
    np.testing.assert_array_equal(model.predict_proba(X), tuned.predict_proba(X))


def test_fine_tuning_leaves_the_encoder_as_it_was(X, y):
    encoder = pretrain(X)
    before = encoder.transform(X)
    tune(encoder, learning_rate=0.01).fit(X, y)
    np.testing.assert_array_equal(encoder.transform(X), before)


def test_tokens_are_those_of_the_encoder(encoder, pipeline, X, y, tuned):
    tokens = pipeline[0].transform(X)
    model = tune(pipeline[1]).fit(tokens, y)
    np.testing.assert_array_equal(model.predict_proba(tokens), tuned.predict_proba(X))
    assert tuned.preparation_ is encoder.preparation_


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (3, TypeError, "pretrained to be a TimeAwareEncoder.*Got int"),
        (TimeAwareEncoder(), ValueError, "pretrained to be fitted.*FrozenEstimator"),
        (FrozenEstimator(TimeAwareEncoder()), ValueError, "pretrained to be fitted"),
        (TimeAwareEncoder, TypeError, "pretrained to be a TimeAwareEncoder"),
        (TimeAwareClassifier(), TypeError, "Got TimeAwareClassifier"),
        (make_pipeline(TripletSequencer(), LogisticRegression()), TypeError, "LogisticRegression"),
        (
            make_pipeline(EventSummarizer(), TimeAwareEncoder()),
            ValueError,
            "a TripletSequencer and a TimeAwareEncoder as pretrained.*EventSummarizer",
        ),
        ("no/such/file.tawt", FileNotFoundError, "no/such/file"),
    ],
)
def test_what_is_no_fitted_encoder_is_named(X, y, given, error, message):
    model = tune(given)
    with pytest.raises(error, match=message):
        model.fit(X, y)
    assert not hasattr(model, "nets_")


def test_a_file_of_another_estimator(tuned, X, y, tmp_path):
    TripletSequencer().fit(X).save(tmp_path / "sequencer.tawt")
    with pytest.raises(TypeError, match="Got TripletSequencer"):
        tune(tmp_path / "sequencer.tawt").fit(X, y)


@pytest.mark.parametrize(
    "conflict",
    [
        {"d_model": 16},
        {"n_layers": 1},
        {"n_heads": 1},
        {"n_windows": 5},
        {"patching": "time"},
        {"time_encoding": "sinusoidal"},
        {"max_feature_patches": 3},
    ],
)
def test_another_architecture_is_refused(encoder, X, y, conflict):
    (name,) = conflict
    with pytest.raises(ValueError, match=f"Expected {name}=.*as the encoder was pretrained"):
        tune(encoder, **conflict).fit(X, y)


def test_the_encoders_own_architecture_may_be_repeated(encoder, X, y, tuned):
    same = tune(encoder, d_model=8, n_layers=2, n_heads=2, n_windows=4).fit(X, y)
    np.testing.assert_array_equal(same.predict_proba(X), tuned.predict_proba(X))


def test_a_sequencer_beside_the_encoder_is_refused(encoder, X, y):
    with pytest.raises(ValueError, match="no sequencer beside pretrained"):
        tune(encoder, sequencer=TripletSequencer()).fit(X, y)


def test_other_columns_or_another_form_are_refused(encoder, X, y):
    with pytest.raises(DataError, match="histories in column 'events'.*Got them in 'history'"):
        tune(encoder).fit(X.rename(columns={"events": "history"}), y)
    with pytest.raises((DataError, ValueError), match="age"):
        tune(encoder).fit(X.drop(columns="age"), y)
    with pytest.raises(DataError, match="Expected event histories, as in fit. Got a panel"):
        tune(encoder).fit(np.zeros((N, 2, 5)), y)


# ---- copies, searches, pipelines ---------------------------------------------------------------


def test_a_clone_shares_the_encoder(encoder, X, y, tuned):
    copy = clone(tuned)
    assert copy.pretrained is encoder and not hasattr(copy, "nets_")
    assert copy.get_params() == tuned.get_params()
    np.testing.assert_array_equal(copy.fit(X, y).predict_proba(X), tuned.predict_proba(X))
    deep = clone(Pipeline([("model", tune(encoder))]))
    assert deep["model"].pretrained is encoder


def test_searches_over_how_to_fine_tune(encoder, X, y):
    grid = {"fine_tune": ["full", "head", "gradual"], "learning_rate": [1e-4, 1e-2]}
    search = GridSearchCV(tune(encoder, max_epochs=1), grid, cv=2, error_score="raise").fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_estimator_.pretrained is encoder


def test_a_search_over_encoders(encoder, path, X, y):
    other = pretrain(X, objective="forecast")
    grid = {"pretrained": [FrozenEstimator(encoder), FrozenEstimator(other), str(path), None]}
    model = TimeAwareClassifier(**SMALL, max_epochs=1, min_steps=0, n_ensemble=1, scoring="loss")
    search = GridSearchCV(model, grid, cv=2, scoring="neg_log_loss", error_score="raise")
    scores = search.fit(X, y).cv_results_["mean_test_score"]
    assert scores[0] == scores[2] and len(set(scores)) == 3


def test_a_search_over_encoders_that_are_not_frozen_says_what_to_do(encoder, X, y):
    search = GridSearchCV(
        tune(None), {"pretrained": [encoder]}, cv=2, error_score="raise", refit=False
    )
    with pytest.raises(ValueError, match="param_grid.*FrozenEstimator"):
        search.fit(X, y)


def test_two_workers_share_an_encoder(encoder, X, y):
    one, two = (
        cross_val_score(tune(encoder), X, y, cv=2, n_jobs=n, scoring="neg_log_loss") for n in (1, 2)
    )
    np.testing.assert_array_equal(one, two)


def test_a_pipeline_that_tokenises_first(pipeline, X, y, tuned):
    sequencer = pipeline[0]
    model = Pipeline([("sequence", FrozenEstimator(sequencer)), ("model", tune(pipeline[1]))])
    model.fit(X, y)
    np.testing.assert_array_equal(model.predict_proba(X), tuned.predict_proba(X))


@pytest.mark.parametrize("how", ["pickle", "save"])
def test_a_stored_classifier_says_the_same(tuned, X, y, how, tmp_path):
    if how == "pickle":
        again = pickle.loads(pickle.dumps(tuned))
    else:
        tuned.save(tmp_path / "model.tawt")
        again = tawt_sklearn.load(tmp_path / "model.tawt", "cpu")
    np.testing.assert_array_equal(again.predict_proba(X), tuned.predict_proba(X))
    refitted = clone(again).fit(X, y)
    np.testing.assert_array_equal(refitted.predict_proba(X), tuned.predict_proba(X))


# ---- the head ----------------------------------------------------------------------------------


def test_the_head_is_logistic_regression_on_embeddings(encoder, X, y):
    head = tune(encoder, fine_tune="head", n_ensemble=3).fit(X, y)
    assert len(head.nets_) == 1 and head.n_iter_ == 1
    assert len(head.history_) == 1 and np.isfinite(head.history_["train_loss"]).all()
    Z = encoder.transform(X).astype(np.float64)
    models = [
        LogisticRegression(C=C, max_iter=2000, tol=1e-8).fit(Z, y)
        for C in np.array(VARIANCES) / Z.shape[1]
    ]
    distances = [abs(m.predict_proba(Z) - head.predict_proba(X)).max() for m in models]
    assert min(distances) < 1e-4
    assert sorted(distances)[1] > 1e-3, "the strengths can be told apart"
    for name, tensor in encoder.net_.weights().items():
        if name.startswith("backbone."):
            np.testing.assert_array_equal(weights(head)[name], tensor.numpy())


def test_the_head_of_a_regressor_is_ridge_regression(encoder, X):
    Z = encoder.transform(X).astype(np.float64)
    rng = np.random.default_rng(0)
    y = np.stack([5 + Z[:, 0] + rng.normal(size=N), 100 * Z[:, 1] - 3], axis=1)
    head = tune(encoder, TimeAwareRegressor, fine_tune="head").fit(X, y)
    answers = head.predict(X)
    for k in range(2):
        penalties = [Z.shape[1] / variance for variance in (*VARIANCES, 60.0, 200.0)]
        ridges = [Ridge(alpha=a).fit(Z, y[:, k]).predict(Z) for a in penalties]
        closest = min(abs(ridge - answers[:, k]).max() for ridge in ridges)
        assert closest < 1e-4 * y[:, k].std()


def test_fine_tuning_goes_a_part_of_its_way(encoder, X, y, monkeypatch):
    head = weights(tune(encoder, fine_tune="head").fit(X, y))
    found = weights(tune(encoder).fit(X, y))
    monkeypatch.setattr("tawt_sklearn.estimators._pretrained.FEW_LABELS", 0)
    whole = weights(tune(encoder).fit(X, y))
    share = 400 / (400 + len(X))
    moved = 0
    for name in found.keys() - head.keys():  # the other head starts from nothing, and stays
        assert name.startswith(("summary.", "summary_head."))
        np.testing.assert_array_equal(found[name], whole[name])
    for name in head:
        np.testing.assert_allclose(
            found[name], share * head[name] + (1 - share) * whole[name], atol=1e-6
        )
        moved += not np.allclose(head[name], whole[name], atol=1e-4)
    assert moved > 10, "fine-tuning changes more than the head"


def test_a_run_that_is_found_again_goes_back_once(encoder, X, y, tmp_path, monkeypatch):
    plain = weights(tune(encoder).fit(X, y))
    for _ in range(2):
        found = weights(tune(encoder, checkpoint_dir=tmp_path).fit(X, y))
        assert len(list(tmp_path.iterdir())) == 1
        for name in plain:
            np.testing.assert_array_equal(found[name], plain[name])
    monkeypatch.setattr("tawt_sklearn.estimators._pretrained.FEW_LABELS", 0)
    tune(encoder, checkpoint_dir=tmp_path).fit(X, y)
    assert len(list(tmp_path.iterdir())) == 2, "another run"


def test_fine_tuning_a_regressor_goes_all_of_its_way(encoder, X, monkeypatch):
    y = encoder.transform(X)[:, 0]
    found = weights(tune(encoder, TimeAwareRegressor).fit(X, y))
    monkeypatch.setattr("tawt_sklearn.estimators._pretrained.FEW_LABELS", 0)
    whole = weights(tune(encoder, TimeAwareRegressor).fit(X, y))
    for name in found:
        np.testing.assert_array_equal(found[name], whole[name])


def test_an_encoder_that_does_not_learn_stays_what_it_was(encoder, X, y):
    model = tune(encoder, encoder_learning_rate=0.0, weight_decay=0.0, learning_rate=0.01)
    model.fit(X, y)
    head = tune(encoder, fine_tune="head").fit(X, y)
    for name, tensor in encoder.net_.weights().items():
        if name.startswith("backbone."):
            np.testing.assert_allclose(weights(model)[name], tensor.numpy(), atol=1e-6)
    assert not np.allclose(
        weights(model)["head.scores.weight"], weights(head)["head.scores.weight"]
    )


def test_full_fine_tuning_starts_from_the_head_and_changes_everything(encoder, X, y, tuned):
    head = tune(encoder, fine_tune="head").fit(X, y)
    hardly = tune(encoder, learning_rate=1e-9, max_epochs=1, n_summary_members=0).fit(X, y)
    np.testing.assert_allclose(hardly.predict_proba(X), head.predict_proba(X), atol=1e-4)
    for name in ("backbone.cls", "backbone.blocks.0.attention.to_qkv.weight", "head.scores.weight"):
        assert not np.array_equal(weights(tuned)[name], weights(head)[name]), name


class Record(Callback):
    """Weights after every epoch."""

    def on_train_begin(self, net, **kwargs):
        self.weights_ = [self.now(net)]

    def on_epoch_end(self, net, **kwargs):
        self.weights_.append(self.now(net))

    def now(self, net):
        return {name: p.detach().clone() for name, p in net.module_.named_parameters()}


def test_gradual_fine_tuning_starts_with_the_last_layers(encoder, X, y):
    record = Record()
    tune(encoder, fine_tune="gradual", max_epochs=6, callbacks=[record], learning_rate=0.01).fit(
        X, y
    )
    start, *after = record.weights_

    def learned(part: str, epoch: int) -> bool:
        """Whether any parameter of a part has moved by the end of an epoch, from 1."""
        names = [name for name in start if name.startswith(part)]
        assert names, part
        return any(not torch.equal(start[name], after[epoch - 1][name]) for name in names)

    parts = ["head.", "backbone.blocks.1.", "backbone.blocks.0.", "backbone.feature_patches."]
    begins = [next(e for e in range(1, 7) if learned(part, e)) for part in parts]
    assert begins[0] == 1 and begins == sorted(begins) and len(set(begins)) == 4
    assert begins[-1] <= 4, "everything learns from the middle of the run on"


def test_ensembles_differ_in_what_comes_after_the_head(encoder, X, y):
    model = tune(encoder, n_ensemble=2, learning_rate=0.01).fit(X, y)
    assert len(model.nets_) == 2 and model.history_["member"].nunique() == 2
    first, second = (net.weights()["head.scores.weight"] for net in model.nets_)
    assert not torch.equal(first, second)


# ---- going on, holding out, calibrating --------------------------------------------------------


def test_a_warm_start_goes_on_from_the_fine_tuned_networks(encoder, X, y):
    model = tune(encoder, warm_start=True).fit(X, y)
    before = model.predict_proba(X)
    model.set_params(learning_rate=1e-12, encoder_learning_rate=1e-12).fit(X, y)
    np.testing.assert_allclose(model.predict_proba(X), before, atol=1e-5)
    assert model.n_iter_ == 4 and model.history_["epoch"].tolist() == [1, 2, 3, 4]


def test_partial_fit_begins_with_the_encoder(encoder, X, y):
    model = tune(encoder, learning_rate=0.01)
    for _ in range(3):
        model.partial_fit(X, y, classes=[0, 1])
    assert model.n_iter_ == 3 and model.preparation_ is encoder.preparation_
    assert np.isfinite(model.predict_proba(X)).all()


def test_early_stopping_holds_rows_out_of_the_head_too(encoder, X, y, monkeypatch):
    sizes = []
    original = probe_module.probe

    def counting(embedding, *args):
        sizes.append(len(embedding))
        return original(embedding, *args)

    monkeypatch.setattr("tawt_sklearn.estimators._pretrained.probe", counting)
    model = tune(encoder, early_stopping=True, validation_fraction=0.3, max_epochs=4).fit(X, y)
    assert {"valid_loss", "valid_score"} <= set(model.history_)
    assert sizes and sizes[0] < 0.75 * N


def test_calibration_probes_the_training_rows_of_each_fold(encoder, X, y, monkeypatch):
    seen = []
    original = probe_module.probe

    def recording(embedding, *args):
        seen.append(np.asarray(embedding))
        return original(embedding, *args)

    monkeypatch.setattr("tawt_sklearn.estimators._pretrained.probe", recording)
    model = tune(encoder, fine_tune="head", calibrate=True).fit(X, y)
    assert model.temperature_ > 0
    whole, *parts = seen
    assert len(whole) == N and len(parts) == 3
    assert all(0.5 * N < len(part) < 0.8 * N for part in parts)


def test_a_finished_fit_is_found_again(encoder, X, y, tmp_path):
    first = tune(encoder, checkpoint_dir=tmp_path).fit(X, y)
    assert len(list(tmp_path.iterdir())) == 1
    again = tune(encoder, checkpoint_dir=tmp_path).fit(X, y)
    np.testing.assert_array_equal(again.predict_proba(X), first.predict_proba(X))
    assert len(list(tmp_path.iterdir())) == 1
    tune(encoder, checkpoint_dir=tmp_path, encoder_learning_rate=0.0).fit(X, y)
    assert len(list(tmp_path.iterdir())) == 2


# ---- kinds of labels ---------------------------------------------------------------------------


@pytest.mark.parametrize("fine_tune", ["full", "head", "gradual"])
@pytest.mark.parametrize("kind", ["three classes", "several labels", "several numbers"])
def test_other_kinds_of_labels(encoder, X, fine_tune, kind):
    Z = encoder.transform(X).astype(np.float64)
    cls = TimeAwareRegressor if kind == "several numbers" else TimeAwareClassifier
    y = {
        "three classes": np.array(["a", "b", "c"])[np.digitize(Z[:, 0], [-0.5, 0.5])],
        "several labels": (Z[:, :2] > 0).astype(int),
        "several numbers": Z[:, :2] * [1.0, 50.0],
    }[kind]
    model = tune(encoder, cls, fine_tune=fine_tune).fit(X, y)
    answer = model.predict(X)
    assert answer.shape == y.shape
    if kind == "several numbers":
        assert model.score(X, y) > 0.5
    else:
        assert (answer == y).mean() > 0.75, "labels that are linear in the embedding"


@pytest.mark.parametrize("fine_tune", ["full", "head"])
def test_a_weight_of_two_is_the_row_given_twice(encoder, X, y, fine_tune):
    weight = np.where(np.arange(N) % 3 == 0, 2, 1)
    rows = np.repeat(np.arange(N), weight)
    model = tune(encoder, fine_tune=fine_tune)
    weighted = clone(model).fit(X, y, sample_weight=weight).predict_proba(X)
    repeated = clone(model).fit(X.iloc[rows], y.iloc[rows]).predict_proba(X)
    np.testing.assert_array_equal(weighted, repeated)
    assert not np.allclose(weighted, clone(model).fit(X, y).predict_proba(X))


def test_a_class_with_one_row(encoder, X, y):
    labels = y.to_numpy().astype("U8")
    labels[4] = "rare"
    model = tune(encoder, fine_tune="head").fit(X, labels)
    assert model.classes_.tolist() == ["0", "1", "rare"]
    assert np.isfinite(model.predict_log_proba(X)).all()


def test_few_labels(encoder, X, y):
    rows = [np.flatnonzero(y == 0)[0], np.flatnonzero(y == 1)[0]]
    for fine_tune in ("head", "full"):
        model = tune(encoder, fine_tune=fine_tune).fit(X.iloc[rows], y.iloc[rows])
        assert np.isfinite(model.predict_proba(X)).all()
