"""Ctrl-C in the middle of a fit: what was best so far is kept, and said."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from joblib import parallel_config
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback, EarlyStopping

from tawt_sklearn import TimeAwareRegressor
from tawt_sklearn.exceptions import TrainingWarning
from tawt_sklearn.training.callbacks import AverageCheckpoints
from tawt_sklearn.training.net import EventNet


@pytest.fixture(autouse=True)
def ctrl_c_is_heard() -> Iterator[None]:
    """A process that was started in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


STEPS = 4  # in an epoch, on 160 rows and on their training share


@pytest.fixture
def X(X):
    """The first hours of each stay, which are quicker to learn from."""
    return X.assign(events=X["events"].events.until(8.0))


class Steps:
    """Counts training steps, and sends Ctrl-C in one of them."""

    def __init__(self) -> None:
        self.n_train, self.n_valid = 0, 0
        self.at_train: int | None = None
        self.at_valid: int | None = None
        self.signal: Callable[[], None] = self.interrupt

    def interrupt(self) -> None:
        raise KeyboardInterrupt

    def count(self, training: bool) -> None:
        if training:
            self.n_train += 1
            if self.n_train == self.at_train:
                self.signal()
        elif torch.is_grad_enabled() is False and not torch.is_inference_mode_enabled():
            self.n_valid += 1
            if self.n_valid == self.at_valid:
                self.signal()


@pytest.fixture
def steps(monkeypatch) -> Steps:
    counter = Steps()
    infer = EventNet.infer

    def counting(self, x, **fit_params):
        scores = infer(self, x, **fit_params)
        counter.count(self.module_.training)
        return scores

    monkeypatch.setattr(EventNet, "infer", counting)
    return counter


class Record(Callback):
    """Weights after every epoch."""

    def initialize(self):
        self.weights_ = getattr(self, "weights_", [])
        return self

    def on_epoch_end(self, net, **kwargs):
        self.weights_.append([p.detach().clone() for p in net.module_.parameters()])


class Stop(Callback):
    """End training after some epochs, in the way of skorch."""

    def __init__(self, after: int) -> None:
        self.after = after

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == self.after:
            raise KeyboardInterrupt


@contextmanager
def caught() -> Iterator[None]:
    """An interrupt that gets through would end all of pytest."""
    try:
        yield
    except KeyboardInterrupt:
        pytest.fail("the interrupt went through to the caller")


def assert_averaged(net: EventNet, weights: list[list[torch.Tensor]]) -> None:
    """The net's weights are the mean of these."""
    for parameter, *versions in zip(net.module_.parameters(), *weights, strict=True):
        torch.testing.assert_close(parameter.float(), torch.stack(versions).mean(0))


# ---- before there is anything to keep ----------------------------------------------------------


@pytest.mark.parametrize("step", [1, STEPS])
def test_in_the_first_epoch_nothing_is_fitted(X, y, quick, steps, step):
    steps.at_train = step
    clf, threads, state = quick(n_ensemble=2), torch.get_num_threads(), torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt):
        clf.fit(X, y)
    assert not [name for name in vars(clf) if name.endswith("_") and not name.startswith("_")]
    with pytest.raises(NotFittedError):
        clf.predict(X)
    assert torch.get_num_threads() == threads and torch.equal(torch.get_rng_state(), state)


def test_while_the_first_epoch_is_judged_nothing_is_fitted(X, y, quick, steps):
    steps.at_valid = 1
    clf = quick(early_stopping=True)
    with pytest.raises(KeyboardInterrupt):
        clf.fit(X, y)
    assert not hasattr(clf, "nets_")


@pytest.mark.parametrize("go_on", ["fit", "fit_warm", "partial_fit"])
def test_the_earlier_fit_is_left_as_it_was(X, y, quick, steps, go_on):
    clf = quick(warm_start=go_on == "fit_warm").fit(X, y)
    before, p = dict(vars(clf)), clf.predict_proba(X[:9])
    steps.at_train = steps.n_train + 2
    with pytest.raises(KeyboardInterrupt):
        getattr(clf, go_on.partition("_warm")[0])(X, y)
    assert vars(clf).keys() == before.keys()
    assert all(vars(clf)[name] is value for name, value in before.items())
    np.testing.assert_array_equal(clf.predict_proba(X[:9]), p)


def test_the_next_fit_is_as_if_nothing_had_been(X, y, quick, steps):
    clf = quick()
    steps.at_train = 2
    with pytest.raises(KeyboardInterrupt):
        clf.fit(X, y)
    again, fresh = clf.fit(X, y), quick().fit(X, y)
    np.testing.assert_array_equal(again.predict_proba(X[:9]), fresh.predict_proba(X[:9]))


# ---- afterwards --------------------------------------------------------------------------------


def test_the_last_checkpoints_are_averaged(X, y, quick, steps):
    record = Record()
    steps.at_train = 3 * STEPS + 2
    clf = quick(max_epochs=9, n_average=2, callbacks=[record])
    with pytest.warns(TrainingWarning, match=r"interrupted.*epoch 3 of 9.*average of the best"):
        clf.fit(X, y)
    assert steps.n_train == steps.at_train
    assert clf.n_iter_ == len(clf.history_) == 3 and clf.history_.notna().all(axis=None)
    assert_averaged(clf.nets_[0], record.weights_[1:])
    assert np.isfinite(clf.predict_proba(X)).all() and 0 <= clf.score(X, y) <= 1


def test_the_best_epoch_is_kept_with_early_stopping(X, y, quick, steps):
    noise = np.random.default_rng(0).permutation(y)
    record = Record()
    steps.at_train = 6 * STEPS + 1
    clf = quick(
        max_epochs=20,
        n_average=1,
        early_stopping=True,
        patience=20,
        learning_rate=0.05,
        n_summary_members=0,  # two heads take longer to find the noise out
        callbacks=[record],
    )
    with pytest.warns(TrainingWarning, match="epoch 6 of 20"):
        clf.fit(X, noise)
    best = int(clf.history_["valid_score"].argmax())
    assert best < 5  # else the last epoch would be the best
    assert_averaged(clf.nets_[0], [record.weights_[best]])


def test_it_is_the_same_as_a_stop_after_that_epoch(X, y, quick, steps):
    steps.at_train = 2 * STEPS + 3
    with pytest.warns(TrainingWarning, match="epoch 2 of 5"):
        interrupted = quick(max_epochs=5).fit(X, y)
    stopped = quick(max_epochs=5, callbacks=[Stop(after=2)]).fit(X, y)
    np.testing.assert_array_equal(interrupted.predict_proba(X), stopped.predict_proba(X))


def test_while_an_epoch_is_judged_it_does_not_count(X, y, quick, steps):
    steps.at_valid = 3
    with pytest.warns(TrainingWarning, match="epoch 2 of 5"):
        clf = quick(max_epochs=5, early_stopping=True).fit(X, y)
    assert len(clf.history_) == 2 and clf.history_.notna().all(axis=None)


def test_a_regressor_is_interrupted_in_the_same_way(X, y, steps):
    steps.at_train = STEPS + 1
    reg = TimeAwareRegressor(
        d_model=8, n_heads=2, n_layers=1, min_steps=0, max_epochs=5, n_ensemble=1, random_state=0
    )
    with pytest.warns(TrainingWarning, match="epoch 1 of 5"):
        reg.fit(X, y.to_numpy(float))
    assert np.isfinite(reg.predict(X)).all()


def test_partial_fit_has_but_one_epoch(X, y, quick, steps):
    steps.at_train = STEPS
    with pytest.raises(KeyboardInterrupt):
        quick().partial_fit(X, y)


# ---- several members ---------------------------------------------------------------------------


def test_the_members_after_it_are_not_trained(X, y, quick, steps):
    steps.at_train = 3 * STEPS + STEPS + 2  # the second epoch of the second member
    with pytest.warns(TrainingWarning, match="member 2 of 3, epoch 1 of 3"):
        clf = quick(n_ensemble=3, max_epochs=3).fit(X, y)
    assert steps.n_train == steps.at_train
    assert clf.history_["member"].tolist() == [0, 0, 0, 1] and len(clf.nets_) == 2
    whole = quick(n_ensemble=3, max_epochs=3).fit(X, y)
    for name, weight in clf.nets_[0].weights().items():
        assert torch.equal(whole.nets_[0].weights()[name], weight)


def test_in_the_first_epoch_of_a_member_those_before_it_are_kept(X, y, quick, steps):
    steps.at_train = 2 * STEPS + 2
    with pytest.warns(TrainingWarning, match="1 of 3 members, which are complete"):
        clf = quick(n_ensemble=3, max_epochs=2).fit(X, y)
    assert steps.n_train == steps.at_train
    p = clf.predict_proba(X[:9])
    one = quick(max_epochs=2).fit(X, y)
    assert len(clf.nets_) == 1 and clf.history_["member"].unique().tolist() == [0]
    assert np.isfinite(p).all()
    np.testing.assert_array_equal(p, one.predict_proba(X[:9]))  # the first seed is the same


def test_training_goes_on_with_the_members_there_are(X, y, quick, steps):
    steps.at_train = 2 * STEPS + 2
    with pytest.warns(TrainingWarning):
        clf = quick(n_ensemble=2, warm_start=True).fit(X, y)
    with pytest.raises(ValueError, match="n_ensemble=1.*warm_start=False"):
        clf.fit(X, y)
    clf.set_params(n_ensemble=1).fit(X, y)
    assert clf.n_iter_ == 4


def test_no_temperature_is_learned_after_it(X, y, quick, steps):
    """Ctrl-C asks for an end: no further networks are trained for the calibration."""
    steps.at_train = STEPS + 2
    with pytest.warns(TrainingWarning), caught():
        clf = quick(calibrate=True, max_epochs=3).fit(X, y)
    assert steps.n_train == steps.at_train
    assert clf.temperature_ == 1.0


def test_in_the_calibration_the_trained_members_are_kept(X, y, quick, steps):
    steps.at_train = 2 * STEPS + 2  # in the first epoch of the first fold
    with pytest.warns(TrainingWarning), caught():
        clf = quick(calibrate=True, max_epochs=2).fit(X, y)
    assert clf.temperature_ == 1.0 and len(clf.history_) == 2


# ---- where it may strike -----------------------------------------------------------------------


def test_a_signal_while_the_network_computes(X, y, quick, steps):
    steps.at_train = STEPS + 2
    steps.signal = lambda: os.kill(os.getpid(), signal.SIGINT)
    with pytest.warns(TrainingWarning, match="epoch 1 of 3"), caught():
        clf = quick(max_epochs=3).fit(X, y)
    assert len(clf.history_) == 1


@pytest.mark.parametrize("method", ["on_epoch_end", "on_train_begin"])
def test_a_signal_inside_a_callback_of_the_library(X, y, quick, monkeypatch, method):
    """It must not pass for a stop that a callback asked for: members would go on, silently."""
    real, calls = getattr(AverageCheckpoints, method), []

    def struck(self, net, **kwargs):
        real(self, net, **kwargs)
        calls.append(net)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(AverageCheckpoints, method, struck)
    with pytest.warns(TrainingWarning), caught():
        clf = quick(n_ensemble=3, max_epochs=3).fit(X, y)
    assert len(clf.nets_) == 1 and len(calls) == 2


SCRIPT = """
import os, signal, sys, warnings
from tawt_sklearn import TimeAwareClassifier
from tawt_sklearn.datasets import make_icu_stays
from skorch.callbacks import Callback

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored by processes in the background

class Tell(Callback):
    def on_epoch_end(self, net, **kwargs):
        print("epoch", flush=True)

X, y = make_icu_stays(60, random_state=0)
X["events"] = X["events"].events.until(8.0)
clf = TimeAwareClassifier(
    d_model=8, n_heads=2, n_layers=1, max_epochs=100_000, n_ensemble=3, random_state=0,
    device="cpu", callbacks=[Tell()],
)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    clf.fit(X, y)
print(len(clf.nets_), len(clf.history_) >= 2, clf.predict(X).shape)
print([type(w.message).__name__ for w in caught])
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_ctrl_c_from_the_keyboard(tmp_path):
    """Another process, interrupted from outside at whatever it does then."""
    (tmp_path / "script.py").write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, tmp_path / "script.py"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        for _ in range(3):
            assert process.stdout.readline() == "epoch\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    lines = [line for line in out.splitlines() if line != "epoch"]
    assert process.returncode == 0, err
    assert lines == ["1 True (60,)", "['TrainingWarning']"]


# ---- around it ---------------------------------------------------------------------------------


def test_the_warning_points_at_the_users_line(X, y, quick, steps):
    steps.at_train = STEPS + 1
    with pytest.warns(TrainingWarning) as warned:
        quick(max_epochs=3).fit(X, y)
    assert warned[0].filename == __file__


def test_a_search_goes_on_with_the_next_fit(X, y, quick, steps):
    steps.at_train = 2 * STEPS + STEPS + 1  # in the second fit
    search = GridSearchCV(quick(max_epochs=2), {"dropout": [0.0, 0.3]}, cv=2, error_score="raise")
    with pytest.warns(TrainingWarning, match="epoch 1 of 2") as warned:
        search.fit(X[:80], y[:80])
    assert len(warned) == 1
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_estimator_.n_iter_ == 2


class StopInOneLine(Callback):
    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 3: raise KeyboardInterrupt  # noqa: E701  # fmt: skip


@pytest.mark.parametrize(
    "callback",
    [
        EarlyStopping(monitor="train_loss", patience=2, threshold=10.0, sink=lambda text: None),
        Stop(after=3),
        StopInOneLine(),
    ],
)
def test_a_callback_of_skorch_that_stops_is_no_interrupt(X, y, quick, callback):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clf = quick(max_epochs=30, n_ensemble=2, callbacks=[callback]).fit(X, y)
    assert len(clf.nets_) == 2 and 2 <= clf.n_iter_ < 5
    assert not any(net.interrupted_ for net in clf.nets_)


def test_a_callback_that_stops_in_the_middle_of_an_epoch_leaves_whole_ones(X, y, quick):
    class Enough(Callback):
        def initialize(self):
            self.n_ = 0
            return self

        def on_batch_end(self, net, training=False, **kwargs):
            self.n_ += training
            if self.n_ == STEPS + 2:
                raise KeyboardInterrupt

    clf = quick(max_epochs=5, callbacks=[Enough()]).fit(X, y)
    assert clf.history_["epoch"].tolist() == [1] and clf.history_.notna().all(axis=None)
    assert np.isfinite(clf.predict_proba(X)).all()


def test_complete_members_are_kept_where_members_train_side_by_side(X, y, quick, monkeypatch):
    """Worker threads stand for worker processes."""
    run, lock, begun = EventNet.run, threading.Lock(), []

    def third_is_interrupted(self, *args, **kwargs):
        with lock:
            begun.append(self)
            third = len(begun) == 3
        if third:
            raise KeyboardInterrupt
        return run(self, *args, **kwargs)

    monkeypatch.setattr(EventNet, "run", third_is_interrupted)
    clf = quick(n_ensemble=3, n_jobs=2)
    with parallel_config(backend="threading"):
        with pytest.warns(TrainingWarning, match="[12] of 3 members, which are complete"):
            clf.fit(X, y)
    assert 1 <= len(clf.nets_) <= 2 and np.isfinite(clf.predict_proba(X)).all()
