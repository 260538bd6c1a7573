"""A fit that was killed goes on from its checkpoints, to the same result bit by bit."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from joblib import parallel_config
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback

from tawt_sklearn import TimeAwareClassifier, TimeAwareRegressor
from tawt_sklearn.datasets import make_icu_stays
from tawt_sklearn.exceptions import SaveFileError, TrainingWarning
from tawt_sklearn.persistence.archive import read_archive
from tawt_sklearn.training.net import EventNet

# ---- processes that are killed -----------------------------------------------------------------

SMALL = {
    "d_model": 8,
    "n_heads": 2,
    "n_layers": 1,
    "n_windows": 4,
    "min_steps": 0,
    "batch_size": 8,
    "device": "cpu",
    "random_state": 3,
}
JOBS: dict[str, dict[str, Any]] = {
    "classifier": {
        **SMALL,
        "max_epochs": 6,
        "n_ensemble": 2,
        "early_stopping": True,
        "validation_fraction": 0.3,
        "learning_rate": 0.01,
    },
    "regressor": {**SMALL, "max_epochs": 5, "n_ensemble": 1, "n_average": 2},
}

SERVER = """
import json, os, sys, time
import torch._dynamo
from skorch.callbacks import Callback
from tawt_sklearn import TimeAwareClassifier, TimeAwareRegressor
from tawt_sklearn.datasets import make_icu_stays

X, y = make_icu_stays(60, random_state=0)
X["events"] = X["events"].events.until(8.0)
RUNS = []


class Hang(Callback):
    # In the middle of an epoch of one of the runs of this process, until the process is killed.
    def __init__(self, run, epoch):
        self.run, self.epoch = run, epoch

    def on_train_begin(self, net, **kwargs):
        RUNS.append(net)

    def on_batch_end(self, net, training=False, **kwargs):
        here = training and len(net.history[-1]["batches"]) >= 2
        if here and len(RUNS) == self.run and len(net.history) == self.epoch:
            open(os.environ["FLAG"], "x").close()
            time.sleep(600)


def work(job):
    os.environ["FLAG"] = job["flag"]
    cls = {"classifier": TimeAwareClassifier, "regressor": TimeAwareRegressor}[job["kind"]]
    callbacks = [Hang(*job["hang"])] if job["hang"] else None
    model = cls(**job["params"], checkpoint_dir=job["folder"], callbacks=callbacks)
    model.fit(X, y if job["kind"] == "classifier" else X["age"].fillna(50.0).to_numpy())
    model.set_params(callbacks=None).save(job["out"])


print("ready", flush=True)
for line in sys.stdin:
    child = os.fork()
    if not child:
        status = 1
        try:
            work(json.loads(line))
            status = 0
        finally:
            os._exit(status)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Server:
    """A process that has everything imported, and forks one that fits for each job."""

    def __init__(self, folder: Path) -> None:
        script = folder / "server.py"
        script.write_text(SERVER)
        self.folder, self.n_jobs = folder, 0
        self.process = subprocess.Popen(
            [sys.executable, script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": "7"},
        )
        assert self.line() == "ready"

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def start(self, kind: str, folder: Path, hang: tuple[int, int] | None = None) -> int:
        """Begin a job; the number of its process."""
        self.n_jobs += 1
        self.flag, self.out = (
            self.folder / f"flag{self.n_jobs}",
            self.folder / f"{self.n_jobs}.tawt",
        )
        job = {
            "kind": kind,
            "params": JOBS[kind],
            "folder": str(folder),
            "hang": hang,
            "flag": str(self.flag),
            "out": str(self.out),
        }
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        return int(self.line())

    def run(self, kind: str, folder: Path) -> Path:
        """A job to its end; the file of the estimator."""
        self.start(kind, folder)
        assert self.line() == "0"
        return self.out

    def kill_in(self, kind: str, folder: Path, run: int, epoch: int) -> None:
        """Kill a job in the middle of an epoch of its first, second... run."""
        child = self.start(kind, folder, (run, epoch))
        try:
            wait_for(self.flag.exists)
        finally:
            os.kill(child, signal.SIGKILL)
        assert self.line() == str(-signal.SIGKILL)

    def kill_after(self, kind: str, folder: Path, n_epochs: int) -> None:
        """Kill a job at whatever it does once a checkpoint has as many epochs."""
        child = self.start(kind, folder)
        try:
            wait_for(lambda: any(n >= n_epochs for n in epochs_in(folder)))
        finally:
            os.kill(child, signal.SIGKILL)
        assert self.line() in (str(-signal.SIGKILL), "0")


def early(X):
    """The first hours of each stay, which are quicker to learn from."""
    return X.assign(events=X["events"].events.until(8.0))


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 100
    while not condition():
        assert time.monotonic() < deadline, "nothing came of the job"
        time.sleep(0.005)


def epochs_in(folder: Path) -> list[int]:
    """Epochs of each checkpoint in a folder."""
    return [len(read_archive(path)[0]["run"]["items"]["history"]) for path in folder.glob("*.tawt")]


def is_finished(path: Path) -> bool:
    return read_archive(path)[0]["run"]["items"]["finished"]


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    if not hasattr(os, "fork"):
        pytest.skip("processes of POSIX")
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    assert server.process.stdin is not None and server.process.stdout is not None
    server.process.stdin.close()
    server.process.wait(timeout=30)
    server.process.stdout.close()


@pytest.fixture(scope="module")
def stays():
    X, y = make_icu_stays(60, random_state=0)
    X = early(X)
    return X, {"classifier": y, "regressor": X["age"].fillna(50.0).to_numpy()}


@pytest.fixture(scope="module")
def uninterrupted(stays) -> Callable[[str], Any]:
    """The fits that nothing happened to, made here, without checkpoints."""
    X, y = stays
    made = {}

    def make(kind: str):
        if kind not in made:
            cls = {"classifier": TimeAwareClassifier, "regressor": TimeAwareRegressor}[kind]
            made[kind] = cls(**JOBS[kind]).fit(X, y[kind])
        return made[kind]

    return make


def digest(estimator, X) -> str:
    """Of the bytes of everything it says."""
    answers = [estimator.predict(X).astype(float)]
    if hasattr(estimator, "predict_proba"):
        answers.append(estimator.predict_proba(X))
    return hashlib.sha256(b"".join(answer.tobytes() for answer in answers)).hexdigest()


def assert_same_fit(one, other, X) -> None:
    assert digest(one, X) == digest(other, X)
    assert one.history_.drop(columns="seconds").equals(other.history_.drop(columns="seconds"))
    assert one.n_iter_ == other.n_iter_


def test_killed_at_any_moment(server, uninterrupted, stays, tmp_path):
    server.kill_after("regressor", tmp_path, n_epochs=2)
    resumed = TimeAwareRegressor.load(server.run("regressor", tmp_path), device="cpu")
    assert_same_fit(resumed, uninterrupted("regressor"), stays[0])
    assert len(list(tmp_path.glob("*.tawt"))) == 1  # a kill may leave half of another file


def test_killed_twice_in_different_members(server, uninterrupted, stays, tmp_path):
    server.kill_in("classifier", tmp_path, run=1, epoch=3)
    (first,) = tmp_path.iterdir()
    assert epochs_in(tmp_path) == [2] and not is_finished(first)
    server.kill_in("classifier", tmp_path, run=2, epoch=2)
    (second,) = set(tmp_path.iterdir()) - {first}
    assert is_finished(first) and not is_finished(second)
    resumed = TimeAwareClassifier.load(server.run("classifier", tmp_path), device="cpu")
    assert_same_fit(resumed, uninterrupted("classifier"), stays[0])
    assert is_finished(second) and len(list(tmp_path.iterdir())) == 2


def test_killed_twice_in_a_row(server, uninterrupted, stays, tmp_path, no_training):
    server.kill_in("regressor", tmp_path, run=1, epoch=2)
    server.kill_in("regressor", tmp_path, run=1, epoch=4)
    assert epochs_in(tmp_path) == [3]
    server.run("regressor", tmp_path)
    X, y = stays
    with no_training():  # another process finds what that one finished
        found = TimeAwareRegressor(**JOBS["regressor"], checkpoint_dir=tmp_path)
        found.fit(X, y["regressor"])
    assert_same_fit(found, uninterrupted("regressor"), X)


# ---- fits that fail, in this process -----------------------------------------------------------


class Crash(Exception):
    pass


class CrashIn(Callback):
    """Fail in the second step of an epoch, or at another moment of it."""

    def __init__(self, epoch: int, moment: str = "on_batch_end") -> None:
        self.epoch, self.moment = epoch, moment

    def _crash(self, net) -> None:
        if len(net.history) == self.epoch:
            raise Crash

    def on_batch_end(self, net, training=False, **kwargs):
        if self.moment == "on_batch_end" and training and len(net.history[-1]["batches"]) == 2:
            self._crash(net)

    def on_epoch_end(self, net, **kwargs):
        if self.moment == "on_epoch_end":
            self._crash(net)

    def on_train_end(self, net, **kwargs):
        if self.moment == "on_train_end":
            self._crash(net)


@pytest.fixture
def no_training(monkeypatch):
    """A context in which training fails."""

    def make():
        context = pytest.MonkeyPatch.context()

        class NoTraining:
            def __enter__(self):
                def refuse(*args, **kwargs):
                    raise AssertionError("a step of training")

                context.__enter__().setattr(EventNet, "train_step", refuse)

            def __exit__(self, *error):
                return context.__exit__(*error)

        return NoTraining()

    return make


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "not" / "there"


@pytest.fixture
def saving(quick, folder) -> Callable[..., TimeAwareClassifier]:
    """Factory of quick classifiers that write checkpoints."""

    def make(**parameters) -> TimeAwareClassifier:
        return quick(**({"checkpoint_dir": folder, "max_epochs": 4} | parameters))

    return make


@pytest.fixture
def few(X, y):
    return early(X[:40]), y[:40]


def p_of(clf, X) -> bytes:
    return clf.predict_proba(X[:20]).tobytes()


@pytest.mark.parametrize("n_ensemble", [1, 2])
def test_checkpoints_do_not_change_a_fit(few, quick, saving, folder, n_ensemble):
    one = saving(n_ensemble=n_ensemble).fit(*few)
    assert p_of(one, few[0]) == p_of(quick(max_epochs=4, n_ensemble=n_ensemble).fit(*few), few[0])
    assert len(list(folder.iterdir())) == n_ensemble


@pytest.mark.parametrize(
    "epoch, moment",
    [(2, "on_batch_end"), (3, "on_epoch_end"), (4, "on_epoch_end"), (4, "on_train_end")],
)
@pytest.mark.parametrize("early_stopping", [True, False])
def test_a_fit_that_failed_goes_on(few, quick, saving, epoch, moment, early_stopping):
    settings = {"early_stopping": early_stopping, "max_epochs": 4, "n_average": 2}
    with pytest.raises(Crash):
        saving(callbacks=[CrashIn(epoch, moment)], **settings).fit(*few)
    resumed, whole = saving(**settings).fit(*few), quick(**settings).fit(*few)
    assert p_of(resumed, few[0]) == p_of(whole, few[0])
    assert resumed.history_.drop(columns="seconds").equals(whole.history_.drop(columns="seconds"))


def test_only_what_is_left_is_trained(few, saving, monkeypatch):
    with pytest.raises(Crash):
        saving(callbacks=[CrashIn(3)]).fit(*few)
    epochs, real = [], EventNet.run_single_epoch

    def counted(self, *args, training, **kwargs):
        epochs.append(training)
        return real(self, *args, training=training, **kwargs)

    monkeypatch.setattr(EventNet, "run_single_epoch", counted)
    saving().fit(*few)
    assert epochs.count(True) == 2


def test_a_stop_by_early_stopping_is_where_it_would_have_been(few, quick, saving):
    X, noise = few[0], np.random.default_rng(0).permutation(few[1])
    settings = {
        "early_stopping": True,
        "validation_fraction": 0.3,
        "patience": 5,
        "max_epochs": 40,
        "learning_rate": 0.05,
    }
    whole = quick(**settings).fit(X, noise)
    assert 4 < whole.n_iter_ < 40
    with pytest.raises(Crash):
        saving(callbacks=[CrashIn(whole.n_iter_ - 1)], **settings).fit(X, noise)
    resumed = saving(**settings).fit(X, noise)
    assert resumed.n_iter_ == whole.n_iter_ and p_of(resumed, X) == p_of(whole, X)


def test_a_finished_fit_is_found_again(few, saving, no_training):
    settings = {"early_stopping": True, "calibrate": True}
    first = saving(**settings).fit(*few)
    with no_training():
        again = saving(**settings).fit(*few)
        assert again.temperature_ == first.temperature_ != 1.0
        order = np.random.default_rng(0).permutation(40)
        shuffled = saving(**settings).fit(few[0].iloc[order], few[1].iloc[order])
    assert p_of(again, few[0]) == p_of(shuffled, few[0]) == p_of(first, few[0])
    assert again.history_.equals(first.history_)
    again.set_params(checkpoint_dir=None).partial_fit(*few)  # a net as any other
    assert again.n_iter_ == first.n_iter_ + 1


def test_what_does_not_change_the_result_does_not_matter(few, saving, no_training):
    first = saving(n_ensemble=2).fit(*few)
    with no_training():
        again = saving(n_ensemble=2, verbose=1, checkpoint_dir=str(first.checkpoint_dir))
        assert p_of(again.fit(*few), few[0]) == p_of(first, few[0])


def test_members_do_not_depend_on_n_jobs(few, saving, folder, no_training):
    with parallel_config(backend="threading"):
        first = saving(n_ensemble=2, n_jobs=2).fit(*few)
    with no_training():
        assert p_of(saving(n_ensemble=2).fit(*few), few[0]) == p_of(first, few[0])
    assert len(list(folder.iterdir())) == 2


# ---- which file it is --------------------------------------------------------------------------


def other_data(X, y) -> dict[str, tuple[Any, Any, dict[str, Any]]]:
    values = X["events"].array
    value = values.value.copy()
    value[5] += 1.0
    weights = np.ones(40)
    weights[3] = 1.5
    return {
        "fewer rows": (X[:39], y[:39], {}),
        "a label": (X, y.where(np.arange(40) != 7, 1 - y), {}),
        "a value": (X.assign(events=values._replace(value=value)), y, {}),
        "a static column": (X.assign(age=X["age"] + (np.arange(40) == 2)), y, {}),
        "a weight": (X, y, {"sample_weight": weights}),
        "validation data": (X, y, {"X_val": X[:9], "y_val": y[:9]}),
    }


def test_other_data_are_another_fit(few, saving, folder):
    saving(max_epochs=1).fit(*few)
    for n_before, (name, (X, y, more)) in enumerate(other_data(*few).items(), 1):
        saving(max_epochs=1).fit(X, y, **more)
        assert len(list(folder.iterdir())) == n_before + 1, name


OTHER_PARAMETERS: list[dict[str, Any]] = [
    {"random_state": 1},
    {"dropout": 0.1},
    {"learning_rate": 0.002},
    {"max_epochs": 2},
    {"n_average": 1},
    {"weight_decay": 0.1},
    {"code_dropout": 0.1},
    {"batch_size": 10},
    {"d_model": 16},
    {"time_encoding": "sinusoidal"},
    {"early_stopping": True},
    {"net_params": {"optimizer__betas": (0.5, 0.9)}},
    {"class_weight": "balanced"},
]


def test_other_parameters_are_another_fit(few, saving, folder):
    saving(max_epochs=1).fit(*few)
    for n_before, change in enumerate(OTHER_PARAMETERS, 1):
        saving(**({"max_epochs": 1} | change)).fit(*few)
        assert len(list(folder.iterdir())) == n_before + 1, change


def test_a_fit_that_failed_is_not_mixed_up_with_another(few, quick, saving):
    with pytest.raises(Crash):
        saving(callbacks=[CrashIn(3)]).fit(*few)
    clf, fresh = (make(max_epochs=4, random_state=1).fit(*few) for make in (saving, quick))
    assert p_of(clf, few[0]) == p_of(fresh, few[0])


class StopAfter(Callback):
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) >= self.epoch:
            raise KeyboardInterrupt


def test_a_callback_that_stops_ends_a_resumed_fit_at_the_same_epoch(few, quick, saving):
    with pytest.raises(Crash):
        saving(callbacks=[StopAfter(3), CrashIn(2)]).fit(*few)
    resumed = saving(callbacks=[StopAfter(3)]).fit(*few)
    whole = quick(max_epochs=4, callbacks=[StopAfter(3)]).fit(*few)
    assert resumed.n_iter_ == 3 and p_of(resumed, few[0]) == p_of(whole, few[0])


def test_a_fit_that_a_callback_stopped_is_not_taken_for_one_without_it(few, quick, saving):
    assert saving(callbacks=[StopAfter(2)]).fit(*few).n_iter_ == 2
    clf = saving().fit(*few)
    assert clf.n_iter_ == 4 and p_of(clf, few[0]) == p_of(quick(max_epochs=4).fit(*few), few[0])


def test_a_warm_start_is_another_fit(few, quick, saving, folder):
    def twice(make):
        clf = make(warm_start=True, max_epochs=3).fit(*few)
        return clf, clf.fit(*few)

    clf, _ = twice(saving)
    assert len(list(folder.iterdir())) == 2 and clf.n_iter_ == 6
    assert p_of(clf, few[0]) == p_of(twice(quick)[0], few[0])


def test_a_warm_start_that_failed_goes_on(few, quick, saving):
    first, whole = (make(warm_start=True, max_epochs=3).fit(*few) for make in (saving, quick))
    with pytest.raises(Crash):
        first.set_params(callbacks=[CrashIn(2)]).fit(*few)
    assert first.n_iter_ == 3
    first.set_params(callbacks=None).fit(*few)
    assert p_of(first, few[0]) == p_of(whole.fit(*few), few[0])


def test_partial_fit_writes_nothing(few, saving, folder):
    saving().partial_fit(*few)
    assert not list(folder.glob("*"))


@pytest.mark.filterwarnings("ignore::tawt_sklearn.exceptions.DataWarning")
def test_fits_of_a_search_share_a_folder(few, quick, saving, folder, no_training):
    def search(make):
        grid = {"dropout": [0.0, 0.3]}
        return GridSearchCV(make(max_epochs=2), grid, cv=2, error_score="raise").fit(*few)

    first = search(saving)
    assert len(list(folder.iterdir())) == 5
    with no_training():
        again = search(saving)
    for other in (again, search(quick)):
        scores = other.cv_results_["mean_test_score"]
        np.testing.assert_array_equal(scores, first.cv_results_["mean_test_score"])
        assert p_of(other, few[0]) == p_of(first, few[0])


def test_ctrl_c_and_then_fit_again(few, quick, saving, monkeypatch):
    real, seen = EventNet.train_step, []

    def struck(self, *args, **kwargs):
        seen.append(self)
        if len(seen) == 10:  # in the third epoch
            raise KeyboardInterrupt
        return real(self, *args, **kwargs)

    monkeypatch.setattr(EventNet, "train_step", struck)
    clf = saving()
    with pytest.warns(TrainingWarning, match="epoch 2 of 4"):
        clf.fit(*few)
    clf.fit(*few)
    assert clf.n_iter_ == 4 and len(seen) < 10 + 9
    assert p_of(clf, few[0]) == p_of(quick(max_epochs=4).fit(*few), few[0])


# ---- what cannot be ----------------------------------------------------------------------------


@pytest.mark.parametrize("random_state", [None, np.random.RandomState(0)])
def test_a_fit_without_a_seed_cannot_be_resumed(few, saving, folder, random_state):
    with pytest.raises(ValueError, match="random_state to be an integer where checkpoint_dir"):
        saving(random_state=random_state).fit(*few)
    assert not folder.exists()


@pytest.mark.parametrize("damage", [lambda b: b[:-100], lambda b: b"", lambda b: b"\0" * len(b)])
def test_a_damaged_checkpoint_is_named(few, saving, folder, damage):
    with pytest.raises(Crash):
        saving(callbacks=[CrashIn(3)]).fit(*few)
    (path,) = folder.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(SaveFileError) as caught:
        saving().fit(*few)
    assert path.name in str(caught.value)
    assert "Delete" in str(caught.value) or "delete" in str(caught.value)
    path.unlink()
    assert saving().fit(*few).n_iter_ == 4


def test_another_file_in_the_place_of_a_checkpoint(few, saving, folder):
    clf = saving().fit(*few)
    (path,) = folder.iterdir()
    clf.save(path)
    with pytest.raises(SaveFileError, match=path.name):
        saving().fit(*few)


@pytest.mark.parametrize("beneath", [False, True])
def test_a_file_in_the_place_of_the_folder(few, saving, tmp_path, beneath, no_training):
    """Said before anything is trained."""
    (tmp_path / "file").write_text("mine")
    place = tmp_path / "file" / "folder" if beneath else tmp_path / "file"
    with no_training(), pytest.raises((ValueError, OSError), match="checkpoint_dir.*file"):
        saving(checkpoint_dir=place).fit(*few)
    assert (tmp_path / "file").read_text() == "mine"


def test_nothing_but_checkpoints_is_left_in_the_folder(few, saving, folder):
    with pytest.raises(Crash):
        saving(n_ensemble=2, callbacks=[CrashIn(3)]).fit(*few)
    saving(n_ensemble=2).fit(*few)
    assert {path.suffix for path in folder.iterdir()} == {".tawt"}
    assert all(is_finished(path) for path in folder.iterdir())


class Forget(Callback):
    """Changes the result: no weights are left after a step."""

    def __init__(self, share: float = 0.0) -> None:
        self.share = share

    def on_batch_end(self, net: Any, training: bool = False, **kwargs: Any) -> None:
        if training:
            for parameter in net.module_.parameters():
                parameter.data.mul_(self.share)


def test_a_finished_fit_with_other_callbacks_is_another_one(few, quick, saving, no_training):
    plain = saving().fit(*few)
    for callbacks in ([Forget()], [("forget", Forget(0.5))]):
        changed = saving(callbacks=callbacks).fit(*few)
        whole = quick(max_epochs=4, callbacks=callbacks).fit(*few)
        assert p_of(changed, few[0]) == p_of(whole, few[0]) != p_of(plain, few[0])
        with no_training():
            saving(callbacks=callbacks).fit(*few)
