"""Fits that go on: warm_start, partial_fit, and validation data of one's own."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import config_context
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline

from tawt_sklearn import TimeAwareClassifier, TimeAwareRegressor, TripletSequencer, nest_events
from tawt_sklearn.estimators._summary import SUMMARY_RATE
from tawt_sklearn.exceptions import DataError, DataWarning

N = 60


@pytest.fixture
def panel() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(N, 2, 6))


@pytest.fixture
def classes(panel) -> np.ndarray:
    return (panel[:, 0].mean(axis=1) > 0).astype(int)


@pytest.fixture
def regressor(quick) -> Callable[..., TimeAwareRegressor]:
    def make(**settings):
        shared = quick(**settings).get_params(deep=False)
        del shared["class_weight"], shared["calibrate"]
        return TimeAwareRegressor(**shared)

    return make


def weights_of(model) -> list[torch.Tensor]:
    return [p.detach().clone() for net in model.nets_ for p in net.module_.parameters()]


def another_code(X: pd.DataFrame) -> pd.DataFrame:
    """The same histories, one code of which has a new name."""
    long = X["events"].events.to_long()
    long["code"] = long["code"].astype(str).replace({long["code"].iloc[0]: "never seen"})
    return X.assign(events=nest_events(long, static=X[[]], until=48.0)["events"])


# ---- warm start ------------------------------------------------------------------------------


def test_a_warm_start_goes_on(panel, classes, quick):
    steady = {"dropout": 0.0, "code_dropout": 0.0, "window_dropout": 0.0, "learning_rate": 0.01}
    clf = quick(warm_start=True, max_epochs=8, min_steps=0, n_ensemble=2, **steady)
    first = clf.fit(panel, classes).history_
    history = clf.fit(panel, classes).history_
    pd.testing.assert_frame_equal(history.iloc[:16], first)
    for member in (0, 1):
        of_member = history[history["member"] == member]
        assert of_member["epoch"].tolist() == list(range(1, 17))
        assert of_member["train_loss"].iloc[8] < of_member["train_loss"].iloc[0]
    assert clf.n_iter_ == 16 and len(clf.nets_) == 2


def test_a_warm_start_begins_where_the_last_fit_ended(panel, classes, quick):
    clf = quick(warm_start=True).fit(panel, classes)
    before = clf.predict_proba(panel)
    clf.set_params(learning_rate=1e-12).fit(panel, classes)
    np.testing.assert_allclose(clf.predict_proba(panel), before, atol=1e-6)


def test_without_warm_start_a_fit_starts_anew(panel, classes, quick):
    clf = quick().fit(panel, classes)
    before = clf.predict_proba(panel)
    np.testing.assert_array_equal(clf.fit(panel, classes).predict_proba(panel), before)
    assert clf.n_iter_ == quick().fit(panel, classes).n_iter_


def test_the_first_fit_of_a_warm_start_is_an_ordinary_one(panel, classes, quick):
    warm, cold = quick(warm_start=True).fit(panel, classes), quick().fit(panel, classes)
    np.testing.assert_array_equal(warm.predict_proba(panel), cold.predict_proba(panel))


def test_a_warm_start_keeps_the_scaling_of_the_first_fit(panel, classes, quick, regressor):
    clf = quick(warm_start=True).fit(panel, classes)
    preparation = clf.preparation_
    assert clf.fit(100 * panel, classes).preparation_ is preparation
    numbers = panel[:, 0].mean(axis=1)
    model = regressor(warm_start=True).fit(panel, numbers)
    target = model.target_
    assert model.fit(panel, 100 * numbers).target_.center == target.center


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"d_model": 16},
            "architecture of the last fit.*other values of d_model.*warm_start=False",
        ),
        ({"n_layers": 2, "patching": "time"}, "n_layers, patching"),
        ({"n_heads": 4}, "n_heads"),
        ({"time_encoding": "sinusoidal"}, "learned_time"),
        ({"n_ensemble": 2}, "n_ensemble=1, the number of members of the last fit.*Got 2"),
        ({"n_windows": 9}, "n_windows"),
    ],
)
def test_a_warm_start_of_another_architecture(panel, classes, quick, change, message):
    clf = quick(warm_start=True).fit(panel, classes)
    before, history = clf.predict_proba(panel), clf.history_
    with pytest.raises(ValueError, match=message):
        clf.set_params(**change).fit(panel, classes)
    np.testing.assert_array_equal(clf.predict_proba(panel), before)
    assert clf.history_ is history


@pytest.mark.parametrize(
    "change", [{"dropout": 0.5}, {"code_dropout": 0.0}, {"learning_rate": 0.1}, {"batch_size": 8}]
)
def test_what_is_no_architecture_may_change_in_a_warm_start(panel, classes, quick, change):
    clf = quick(warm_start=True).fit(panel, classes)
    n_epochs = clf.n_iter_
    assert clf.set_params(**change).fit(panel, classes).n_iter_ > n_epochs


def test_the_loss_may_change_in_a_warm_start(panel, regressor):
    numbers = panel[:, 0].mean(axis=1)
    model = regressor(warm_start=True).fit(panel, numbers)
    model.set_params(loss="huber").fit(panel, numbers)
    assert model.target_.error == "huber"


def test_a_warm_start_with_other_labels(panel, classes, quick, regressor):
    clf = quick(warm_start=True).fit(panel, classes)
    before = clf.predict_proba(panel)
    with pytest.raises(
        DataError, match=r"classes seen in the first fit: \[0, 1\]. Got .*such as 2"
    ):
        clf.fit(panel, classes + 1)
    with pytest.raises(DataError, match=r"Got an array of shape \(60, 2\)"):
        clf.fit(panel, np.column_stack([classes, classes]))
    np.testing.assert_array_equal(clf.predict_proba(panel), before)
    clf.fit(panel, np.zeros(N, int))  # some of the classes are enough
    assert clf.classes_.tolist() == [0, 1]
    model = regressor(warm_start=True).fit(panel, panel[:, 0].mean(axis=1))
    with pytest.raises(DataError, match=r"shape \(n,\). Got an array of shape \(60, 2\)"):
        model.fit(panel, panel[:, 0, :2])


def test_a_warm_start_with_other_columns(panel, classes, quick):
    clf = quick(warm_start=True).fit(panel, classes)
    with pytest.raises(ValueError, match="X has 1 features"):
        clf.fit(panel[:, :1], classes)
    assert clf.n_features_in_ == 2


def test_codes_of_later_frames_are_unknown(X, y, quick):
    clf = quick(warm_start=True).fit(X, y)
    changed = another_code(X)
    with pytest.warns(DataWarning, match="never seen"):
        clf.fit(changed, y)
    with pytest.warns(DataWarning, match="never seen"):
        quick().partial_fit(X, y).partial_fit(changed, y)


# ---- partial_fit -----------------------------------------------------------------------------


def test_one_call_is_one_pass(panel, classes, quick):
    clf = quick(learning_rate=0.01, max_epochs=7, n_ensemble=2)
    for done in range(1, 7):
        assert clf.partial_fit(panel, classes) is clf
        assert clf.n_iter_ == done and len(clf.nets_) == 2
    losses = clf.history_[clf.history_["member"] == 0]["train_loss"].to_numpy()
    assert len(losses) == 6 and losses[-3:].mean() < losses[:3].mean()


def test_chunks_teach_what_the_whole_teaches(panel, classes, quick):
    clf = quick(learning_rate=0.01, window_dropout=0.0, code_dropout=0.0, dropout=0.0)
    for _ in range(6):
        for chunk in np.split(np.arange(N), 3):
            clf.partial_fit(panel[chunk], classes[chunk], classes=[0, 1])
    assert clf.score(panel, classes) > 0.75


def test_all_classes_can_be_named_beforehand(panel, classes, quick):
    names = np.array(["alive", "dead"])[classes]
    clf = quick().partial_fit(panel[classes == 0], names[classes == 0], ["lost", "dead", "alive"])
    assert clf.classes_.tolist() == ["alive", "dead", "lost"]
    clf.partial_fit(panel, names, classes=["alive", "dead", "lost"]).partial_fit(panel, names)
    assert clf.predict_proba(panel).shape == (N, 3)
    with pytest.raises(DataError, match=r"Expected the classes of the first call.*Got classes="):
        clf.partial_fit(panel, names, classes=["alive", "dead"])
    with pytest.raises(DataError, match="other classes, such as 'moved'"):
        clf.partial_fit(panel, np.full(N, "moved"))
    assert clf.n_iter_ == 3


def test_a_first_label_outside_the_named_classes(panel, classes, quick):
    clf = quick()
    with pytest.raises(DataError, match=r"\[0, 1\]. Got 60 labels of other classes, such as 5"):
        clf.partial_fit(panel, np.full(N, 5), classes=[0, 1])
    assert vars(clf) == clf.get_params(deep=False)


def test_one_class_and_none_named_beforehand(panel, quick):
    clf = quick()
    with pytest.raises(DataError, match="at least two classes"):
        clf.partial_fit(panel, np.zeros(N, int))
    assert vars(clf) == clf.get_params(deep=False)


def test_other_columns_in_a_later_call(panel, classes, X, y, quick):
    clf = quick().partial_fit(panel, classes)
    before = clf.predict_proba(panel)
    with pytest.raises(ValueError, match="X has 1 features"):
        clf.partial_fit(panel[:, :1], classes)
    with pytest.raises(DataError, match="Expected a panel of shape.*, as in fit"):
        clf.partial_fit(X, y)
    np.testing.assert_array_equal(clf.predict_proba(panel), before)
    frames = quick().partial_fit(X, y)
    with pytest.raises(ValueError, match="feature names should match"):
        frames.partial_fit(X.drop(columns="age"), y)


def test_partial_fit_goes_on_from_fit(panel, classes, quick):
    clf = quick(n_ensemble=2, learning_rate=0.01).fit(panel, classes)
    done, before = clf.n_iter_, weights_of(clf)
    clf.set_params(learning_rate=1e-5).partial_fit(panel, classes)
    assert clf.n_iter_ == done + 1 and len(clf.nets_) == 2
    pairs = zip(before, weights_of(clf), strict=True)
    moved = [(a - b).abs().max() for a, b in pairs if a.numel()]
    assert 0 < max(moved) < 1e-4  # four steps of 1e-5


def test_partial_fit_goes_on_from_a_file(panel, classes, quick, tmp_path):
    clf = quick().fit(panel, classes)
    clf.save(tmp_path / "model.tawt")
    again = TimeAwareClassifier.load(tmp_path / "model.tawt", device="cpu")
    for model in (clf, again):
        model.partial_fit(panel, classes)
    np.testing.assert_allclose(again.predict_proba(panel), clf.predict_proba(panel), atol=1e-6)
    assert again.n_iter_ == clf.n_iter_
    assert again.history_["epoch"].tolist() == clf.history_["epoch"].tolist()


def test_the_optimizers_moments_are_kept_between_the_calls(panel, classes, quick):
    clf = quick().partial_fit(panel, classes)
    steps = [state["step"].item() for state in clf.nets_[0].optimizer_.state.values()]
    clf.partial_fit(panel, classes)
    again = [state["step"].item() for state in clf.nets_[0].optimizer_.state.values()]
    assert steps and again == [2 * step for step in steps]


def test_the_learning_rate_stays(panel, classes, quick):
    clf = quick(learning_rate=0.003).partial_fit(panel, classes).partial_fit(panel, classes)
    rates = {group["lr"] for group in clf.nets_[0].optimizer_.param_groups}
    assert rates == {0.003, SUMMARY_RATE * 0.003}


def test_the_passes_repeat_themselves_and_differ_from_each_other(panel, classes, quick):
    one, other = quick(), quick()
    for _ in range(3):
        one.partial_fit(panel, classes)
        other.partial_fit(panel, classes)
    for a, b in zip(weights_of(one), weights_of(other), strict=True):
        assert torch.equal(a, b)
    assert one.history_["train_loss"].nunique() == 3
    assert len({*one._seeds(1, 1), *one._seeds(2, 1), *one._seeds(3, 1)}) == 3


def test_a_pickled_classifier_goes_on_as_if_nothing_had_happened(panel, classes, quick):
    clf = quick().partial_fit(panel, classes)
    again = pickle.loads(pickle.dumps(clf))
    for model in (clf, again):
        model.partial_fit(panel, classes)
    np.testing.assert_array_equal(again.predict_proba(panel), clf.predict_proba(panel))


def test_partial_fit_of_numbers(panel, regressor):
    numbers = 50 + panel[:, 0].mean(axis=1)
    model = regressor(learning_rate=0.02)
    for _ in range(8):
        model.partial_fit(panel, numbers, sample_weight=np.ones(N))
    losses = model.history_["train_loss"]
    assert len(losses) == 8 and losses.iloc[-1] < losses.iloc[0]
    with pytest.raises(TypeError, match="classes"):
        model.partial_fit(panel, numbers, classes=[0, 1])
    with pytest.raises(DataError, match=r"shape \(n,\)"):
        model.partial_fit(panel, numbers[:, None] * [1, 2])
    assert model.n_iter_ == 8


def test_one_row_at_a_time(panel, classes, quick):
    clf = quick()
    for row in range(4):
        clf.partial_fit(panel[row : row + 1], classes[row : row + 1], classes=[0, 1])
    assert np.isfinite(clf.predict_proba(panel)).all()


def test_a_fit_after_partial_fit_starts_anew(panel, classes, quick):
    clf = quick().partial_fit(panel, classes, classes=[0, 1, 2]).fit(panel, classes)
    expected = quick().fit(panel, classes)
    assert clf.classes_.tolist() == [0, 1] and clf.n_iter_ == expected.n_iter_
    np.testing.assert_array_equal(clf.predict_proba(panel), expected.predict_proba(panel))


def test_a_failed_call_leaves_the_earlier_ones_as_they_were(panel, classes, quick):
    clf = quick().partial_fit(panel, classes)
    control = quick().partial_fit(panel, classes)
    with pytest.raises(DataError):
        clf.partial_fit(panel, np.full(N, np.nan))
    with pytest.raises(ValueError):
        clf.partial_fit(np.full_like(panel, np.inf), classes)
    for model in (clf, control):
        model.partial_fit(panel, classes)
    np.testing.assert_array_equal(clf.predict_proba(panel), control.predict_proba(panel))


# ---- validation data -------------------------------------------------------------------------


@pytest.mark.parametrize("early_stopping", [True, "auto"])
def test_validation_data_decide_when_to_stop(panel, classes, quick, early_stopping):
    rng = np.random.default_rng(5)
    X_val, y_val = rng.normal(size=(30, 2, 6)), rng.integers(0, 2, 30)
    clf = quick(early_stopping=early_stopping, max_epochs=40, patience=2, learning_rate=0.02)
    clf.fit(panel, classes, X_val=X_val, y_val=y_val)
    scores = clf.history_["valid_score"].to_numpy()
    assert len(scores) == scores.argmax() + 1 + 2 < 40
    np.testing.assert_array_equal(scores, -clf.history_["valid_loss"])


def test_nothing_else_is_held_out(panel, classes, quick):
    """All training rows are trained on: without gain from choosing, the fit is the plain one."""
    plain = quick(n_average=1, max_epochs=1).fit(panel, classes)
    given = quick(n_average=1, max_epochs=1, early_stopping=True)
    given.fit(panel, classes, X_val=panel[:7], y_val=classes[:7])
    np.testing.assert_array_equal(given.predict_proba(panel), plain.predict_proba(panel))
    with pytest.raises(DataError, match="validation_fraction"):
        quick(early_stopping=True, validation_fraction=1e-9).fit(panel, classes)
    quick(early_stopping=True, validation_fraction=1e-9).fit(
        panel, classes, X_val=panel, y_val=classes
    )


def test_the_validation_loss_is_that_of_the_predictions(panel, classes, quick):
    clf = quick(max_epochs=1, min_steps=0, n_average=1)
    clf.fit(panel, classes, X_val=panel[:20], y_val=classes[:20])
    p = clf.predict_proba(panel[:20])[np.arange(20), classes[:20]]
    expected = pytest.approx(-np.log(p).mean(), rel=1e-4)
    assert clf.history_["valid_loss"].iloc[-1] == expected


def test_without_early_stopping_validation_data_are_only_looked_at(panel, classes, quick):
    plain = quick(max_epochs=6, patience=1, learning_rate=0.02).fit(panel, classes)
    rng = np.random.default_rng(5)
    looked = quick(max_epochs=6, patience=1, learning_rate=0.02, early_stopping=False)
    looked.fit(panel, classes, X_val=rng.normal(size=(30, 2, 6)), y_val=rng.integers(0, 2, 30))
    assert looked.n_iter_ == 6 and looked.history_[["valid_loss", "valid_score"]].notna().all(
        axis=None
    )
    np.testing.assert_array_equal(looked.predict_proba(panel), plain.predict_proba(panel))


def test_validation_frames_are_prepared_as_in_prediction(X, y, quick):
    clf = quick(max_epochs=1, min_steps=0, n_average=1, scoring="roc_auc")
    clf.fit(X.iloc[:100], y.iloc[:100], X_val=X.iloc[100:], y_val=y.iloc[100:])
    score = clf.history_["valid_score"].iloc[-1]
    expected = roc_auc_score(y.iloc[100:], clf.predict_proba(X.iloc[100:])[:, 1])
    assert score == pytest.approx(expected, abs=0.01)


def test_validation_numbers(panel, regressor):
    numbers = 1000 + panel[:, 0].mean(axis=1)
    model = regressor(scoring="neg_mean_absolute_error", max_epochs=1, min_steps=0, n_average=1)
    model.fit(panel, numbers, X_val=panel[:9], y_val=numbers[:9])
    error = np.abs(model.predict(panel[:9]) - numbers[:9]).mean()
    assert model.history_["valid_score"].iloc[-1] == pytest.approx(-error, rel=1e-4)


def test_validation_data_of_a_warm_start(panel, classes, quick):
    clf = quick(warm_start=True).fit(panel, classes)
    clf.fit(panel, classes, X_val=panel, y_val=classes)
    seen = clf.history_["valid_loss"].notna().to_numpy()
    assert not seen[0] and seen[-1]


@pytest.mark.parametrize(
    "given, message",
    [
        ({"X_val": "X"}, "X_val and y_val together. Got X_val without y_val"),
        ({"y_val": "y"}, "X_val and y_val together. Got y_val without X_val"),
        ({"X_val": "X", "y_val": "new"}, "classes seen in the first fit.*other classes"),
        ({"X_val": "X", "y_val": "short"}, "one label for each of the 60 rows.*Got 50"),
        ({"X_val": "narrow", "y_val": "y"}, "X has 1 features"),
        ({"X_val": "none", "y_val": "nothing"}, "0 sample"),
        ({"X_val": "X", "y_val": "missing"}, "1 missing ones"),
    ],
)
def test_validation_data_that_do_not_fit(panel, classes, quick, given, message):
    data = {
        "X": panel, "y": classes, "new": classes + 1, "short": classes[:50],
        "narrow": panel[:, :1], "none": panel[:0], "nothing": classes[:0],
        "missing": np.r_[np.nan, classes[1:]],
    }  # fmt: skip
    clf = quick()
    with pytest.raises(ValueError, match=message):
        clf.fit(panel, classes, **{name: data[kind] for name, kind in given.items()})
    assert vars(clf) == clf.get_params(deep=False)


def test_validation_labels_of_another_index(X, y, quick):
    with pytest.raises(DataError, match=r"index of y_val in the order of X.*y_val\.loc"):
        quick().fit(X, y, X_val=X, y_val=y.iloc[::-1])


def test_validation_data_pass_through_the_steps_of_a_pipeline(X, y, quick):
    train, valid = slice(0, 100), slice(100, 160)
    with config_context(enable_metadata_routing=True):
        model = quick(early_stopping=True, max_epochs=4, patience=1)
        pipeline = Pipeline(
            [
                ("sequence", TripletSequencer()),
                ("model", model.set_fit_request(X_val=True, y_val=True)),
            ],
            transform_input=["X_val"],
        )
        pipeline.fit(X.iloc[train], y.iloc[train], X_val=X.iloc[valid], y_val=y.iloc[valid])
        p = pipeline.predict_proba(X)
    sequencer = TripletSequencer().fit(X.iloc[train])
    tokens = sequencer.transform(X)
    by_hand = quick(early_stopping=True, max_epochs=4, patience=1).fit(
        tokens.iloc[train], y.iloc[train], X_val=tokens.iloc[valid], y_val=y.iloc[valid]
    )
    np.testing.assert_array_equal(p, by_hand.predict_proba(tokens))
    assert pipeline["model"].n_iter_ == by_hand.n_iter_
