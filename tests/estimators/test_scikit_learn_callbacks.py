"""Callbacks of scikit-learn: what they see of a fit, and that the fit does not see them."""

from __future__ import annotations

import pickle
from itertools import pairwise

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback

from tawt_sklearn import TimeAwareClassifier, TimeAwareRegressor
from tawt_sklearn.exceptions import DataError

callback_module = pytest.importorskip("sklearn.callback", reason="came with scikit-learn 1.9")

N = 48


@pytest.fixture
def panel() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(N, 2, 6))


@pytest.fixture
def classes(panel) -> np.ndarray:
    return (panel[:, 0].mean(axis=1) > 0).astype(int)


class Recorder:
    """Keeps what it is told; asks for a stop after some epochs of each member."""

    def __init__(self, stop_after=None):
        self.stop_after = stop_after
        self.events, self.estimators = [], []

    def setup(self, estimator, context):
        self.events.append(("setup", context.task_name, context.task_id))

    def teardown(self, estimator, context):
        self.events.append(("teardown", context.task_name, context.task_id))

    def on_fit_task_begin(self, estimator, context, *, X=None, y=None):
        self.events.append(("begin", context.task_name, context.task_id))

    def on_fit_task_end(
        self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None
    ):
        self.events.append(("end", context.task_name, context.task_id))
        if fitted_estimator is not None:
            answer = fitted_estimator.predict_proba(X)
            self.estimators.append((context.task_name, fitted_estimator, answer, metadata))
        return context.task_name == "epoch" and context.task_id + 1 == self.stop_after


class Light:
    """Asks for nothing, and so costs nothing."""

    def __init__(self):
        self.seen = []

    def setup(self, estimator, context):
        self.seen.append("setup")

    def teardown(self, estimator, context):
        self.seen.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        self.seen.append(context.task_name)


def test_members_and_epochs_are_reported_in_order(panel, classes, quick):
    recorder = Recorder()
    clf = quick(n_ensemble=2, max_epochs=2, min_steps=0).set_callbacks(recorder)
    assert clf.fit(panel, classes) is clf
    expected = [("setup", "fit", 0), ("begin", "fit", 0)]
    for member in (0, 1):
        expected += [("begin", "member", member)]
        for epoch in (0, 1):
            expected += [("begin", "epoch", epoch), ("end", "epoch", epoch)]
        expected += [("end", "member", member)]
    assert recorder.events == [*expected, ("end", "fit", 0), ("teardown", "fit", 0)]


def test_the_tree_says_how_many_tasks_there_will_be(panel, classes, quick):
    seen = {}

    class Ask(Light):
        def on_fit_task_begin(self, estimator, context):
            seen[context.task_name] = context.max_subtasks

    quick(n_ensemble=2, max_epochs=3, min_steps=0).set_callbacks(Ask()).fit(panel, classes)
    assert seen == {"fit": 2, "member": 3, "epoch": 0}


def test_what_a_callback_gets_predicts_and_stays_as_it_was(panel, classes, quick):
    recorder = Recorder()
    clf = quick(max_epochs=3, min_steps=0, learning_rate=0.02).set_callbacks(recorder)
    clf.fit(panel, classes)
    names = [name for name, *_ in recorder.estimators]
    assert names == ["epoch"] * 3 + ["member", "fit"]
    for _, fitted, answer, _ in recorder.estimators:
        assert isinstance(fitted, TimeAwareClassifier) and fitted is not clf
        np.testing.assert_array_equal(fitted.predict_proba(panel), answer)
    answers = [answer for _, _, answer, _ in recorder.estimators]
    for one, other in pairwise(answers[:3]):
        assert np.abs(one - other).max() > 1e-4
    for last in answers[3:]:
        np.testing.assert_array_equal(last, clf.predict_proba(panel))
    epochs = [len(fitted.history_) for _, fitted, *_ in recorder.estimators]
    assert epochs == [1, 2, 3, 3, 3]


def test_an_epoch_is_as_if_fit_had_stopped_there(panel, classes, quick):
    """Of a run without averaging, as many epochs as there were; the schedule is a longer one."""
    recorder = Recorder()
    quick(max_epochs=3, min_steps=0, n_average=1).set_callbacks(recorder).fit(panel, classes)
    stopped = quick(max_epochs=3, min_steps=0, n_average=1).set_callbacks(Recorder(stop_after=2))
    stopped.fit(panel, classes)
    np.testing.assert_array_equal(recorder.estimators[1][2], stopped.predict_proba(panel))


def test_a_callback_that_says_so_stops_every_member(panel, classes, quick):
    recorder = Recorder(stop_after=2)
    clf = quick(max_epochs=5, min_steps=0, n_ensemble=2).set_callbacks(recorder)
    clf.fit(panel, classes)
    assert clf.history_["epoch"].tolist() == [1, 2, 1, 2] and clf.n_iter_ == 2
    assert recorder.events[-1] == ("teardown", "fit", 0)
    assert np.isfinite(clf.predict_proba(panel)).all()


@pytest.mark.parametrize(
    "settings",
    [{}, {"n_ensemble": 2}, {"early_stopping": True, "validation_fraction": 0.3},
     {"calibrate": True}],
    ids=["plain", "ensemble", "early stopping", "calibrated"],
)  # fmt: skip
def test_the_result_does_not_depend_on_callbacks(panel, classes, quick, settings):
    plain = quick(**settings).fit(panel, classes)
    watched = quick(**settings).set_callbacks(Recorder(), Light()).fit(panel, classes)
    np.testing.assert_array_equal(watched.predict_proba(panel), plain.predict_proba(panel))
    assert watched.history_["train_loss"].equals(plain.history_["train_loss"])


def test_weights_are_told_as_metadata(panel, classes, quick):
    recorder, weights = Recorder(), np.arange(N) + 1.0
    quick().set_callbacks(recorder).fit(panel, classes, sample_weight=weights)
    assert all(metadata["sample_weight"] is weights for *_, metadata in recorder.estimators)
    recorder = Recorder()
    quick().set_callbacks(recorder).fit(panel, classes)
    assert all(metadata is None for *_, metadata in recorder.estimators)


def test_members_that_train_side_by_side_are_one_task(panel, classes, quick):
    light = Light()
    with joblib.parallel_config(backend="threading"):
        clf = quick(n_ensemble=2, n_jobs=2).set_callbacks(light).fit(panel, classes)
    assert light.seen == ["setup", "fit", "teardown"]
    expected = quick(n_ensemble=2).fit(panel, classes).predict_proba(panel)
    np.testing.assert_array_equal(clf.predict_proba(panel), expected)


def test_nothing_of_the_callbacks_stays(panel, classes, quick):
    clf = quick().set_callbacks(Light()).fit(panel, classes)
    plain = quick().fit(panel, classes)
    assert vars(clf).keys() - vars(plain).keys() == {"_skl_callbacks"}
    assert joblib.hash(sorted(vars(clf.nets_[0]))) == joblib.hash(sorted(vars(plain.nets_[0])))
    assert [n for n, _ in clf.nets_[0].callbacks_] == [n for n, _ in plain.nets_[0].callbacks_]
    again = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(again.predict_proba(panel), plain.predict_proba(panel))
    assert len(pickle.dumps(clf)) < len(pickle.dumps(plain)) + 2000


def test_a_watched_classifier_can_be_saved(panel, classes, quick, tmp_path):
    clf = quick().set_callbacks(Light()).fit(panel, classes)
    clf.save(tmp_path / "model.tawt")
    again = TimeAwareClassifier.load(tmp_path / "model.tawt", device="cpu")
    np.testing.assert_allclose(again.predict_proba(panel), clf.predict_proba(panel), rtol=1e-12)


def test_a_regressor_is_watched_just_as_well(panel, quick):
    shared = quick(max_epochs=2, min_steps=0).get_params(deep=False)
    del shared["class_weight"], shared["calibrate"]
    light = Light()
    TimeAwareRegressor(**shared).set_callbacks(light).fit(panel, panel[:, 0, 0])
    assert light.seen == ["setup", "epoch", "epoch", "member", "fit", "teardown"]


# ---- setting, removing, cloning ------------------------------------------------------------------


def test_callbacks_are_removed_by_setting_none(panel, classes, quick):
    light = Light()
    clf = quick().set_callbacks(light).set_callbacks()
    assert clf.fit(panel, classes).n_iter_ and light.seen == []


def test_a_clone_has_the_same_callbacks(panel, classes, quick):
    light = Light()
    clone(quick().set_callbacks(light)).fit(panel, classes)
    assert light.seen[0] == "setup" and light.seen[-1] == "teardown"


def test_callbacks_of_skorch_go_elsewhere(panel, classes, quick):
    class Count(Callback):
        n = 0

        def on_epoch_end(self, net, **kwargs):
            self.n += 1

    count, light = Count(), Light()
    with pytest.raises(TypeError, match="FitCallback"):
        quick().set_callbacks(count)
    with pytest.raises(ValueError, match="Callbacks of scikit-learn go to set_callbacks"):
        quick(callbacks=[light]).fit(panel, classes)
    clf = quick(callbacks=[count], max_epochs=2, min_steps=0).set_callbacks(light)
    clf.fit(panel, classes)
    assert count.n == light.seen.count("epoch") == 2


# ---- failures ------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", ["labels", "rows", "setting", "training"])
def test_callbacks_are_torn_down_when_a_fit_fails(panel, classes, quick, bad):
    light = Light()
    clf = quick(learning_rate=1e8 if bad == "training" else 1e-3, min_steps=20)
    clf.set_callbacks(light)
    if bad == "labels":
        classes = np.full(N, np.nan)
    if bad == "rows":
        panel = np.full_like(panel, np.inf)
    if bad == "setting":
        clf.set_params(n_heads=3)
    with pytest.raises((ValueError, ArithmeticError)):
        clf.fit(panel, classes)
    assert light.seen[0] == "setup" and light.seen[-1] == "teardown"
    assert "fit" not in light.seen
    assert vars(clf).keys() - clf.get_params().keys() == {"_skl_callbacks"}
    with pytest.raises(NotFittedError):
        clf.predict(panel)


def test_a_callback_that_fails_leaves_nothing_behind(panel, classes, quick):
    class Fails(Light):
        def on_fit_task_end(self, estimator, context):
            raise RuntimeError("no disk space")

    fails = Fails()
    clf = quick().set_callbacks(fails)
    with pytest.raises(RuntimeError, match="no disk space"):
        clf.fit(panel, classes)
    assert fails.seen == ["setup", "teardown"] and not hasattr(clf, "nets_")
    before = quick().fit(panel, classes)
    expected = before.predict_proba(panel)
    with pytest.raises(RuntimeError):
        before.set_callbacks(fails).fit(panel, 1 - classes)
    np.testing.assert_array_equal(before.predict_proba(panel), expected)


def test_partial_fit_is_no_fit(panel, classes, quick):
    light = Light()
    quick().set_callbacks(light).partial_fit(panel, classes)
    assert light.seen == []


# ---- those that come with scikit-learn -----------------------------------------------------------


def test_a_progress_bar(panel, classes, quick, capsys):
    pytest.importorskip("rich")
    clf = quick(n_ensemble=2).set_callbacks(callback_module.ProgressBar()).fit(panel, classes)
    shown = capsys.readouterr().out
    assert "TimeAwareClassifier" in shown and "member" in shown and "100%" in shown
    expected = quick(n_ensemble=2).fit(panel, classes).predict_proba(panel)
    np.testing.assert_array_equal(clf.predict_proba(panel), expected)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_progress_bar_of_a_search(panel, classes, quick, capsys, n_jobs):
    pytest.importorskip("rich")
    search = GridSearchCV(quick(max_epochs=1), {"d_model": [4, 8]}, cv=2, n_jobs=n_jobs)
    plain = clone(search).fit(panel, classes)
    bar = callback_module.ProgressBar(max_propagation_depth=None)
    watched = search.set_callbacks(bar).fit(panel, classes)
    shown = capsys.readouterr().out
    assert "GridSearchCV" in shown and "TimeAwareClassifier" in shown and "member" in shown
    np.testing.assert_array_equal(watched.predict_proba(panel), plain.predict_proba(panel))
    np.testing.assert_array_equal(
        watched.cv_results_["mean_test_score"], plain.cv_results_["mean_test_score"]
    )


@pytest.mark.filterwarnings("error")
def test_a_failing_fit_in_a_search(panel, classes, quick):
    """With error_score="raise" the error of the fit arrives, and nothing of the callbacks hangs."""
    light = Light()
    search = GridSearchCV(quick(), {"n_heads": [3]}, cv=2, error_score="raise")
    with pytest.raises(ValueError, match="multiple of n_heads"):
        search.set_callbacks(light).fit(panel, classes)
    assert light.seen[-1] == "teardown"


def test_a_monitor_of_scores(panel, classes, quick):
    if not hasattr(callback_module, "ScoringMonitor"):
        pytest.skip("no ScoringMonitor in this scikit-learn")
    monitor = callback_module.ScoringMonitor(scoring="neg_log_loss")
    clf = quick(max_epochs=3, min_steps=0).set_callbacks(monitor).fit(panel, classes)
    logs = monitor.get_logs().data_as_pandas
    epochs = logs.loc[logs["task_name"] == "epoch"]
    assert len(epochs) == 3
    p = clf.predict_proba(panel)[np.arange(N), classes]
    final = logs.loc[logs["task_name"] == "fit"].iloc[-1]
    score = next(c for c in logs if "log_loss" in str(c) or c == "score")
    assert final[score] == pytest.approx(np.log(p).mean())


def test_bad_labels_are_refused_before_any_task_begins(panel, quick):
    recorder = Recorder()
    with pytest.raises(DataError):
        quick().set_callbacks(recorder).fit(panel, np.zeros(N))
    assert [what for what, *_ in recorder.events] == ["setup", "teardown"]
