"""Checkpoints: a name for everything that a run depends on, and a state that comes back whole."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from skorch.callbacks import Callback
from torch import nn

from tawt_sklearn import TripletSequencer
from tawt_sklearn.datasets import make_icu_stays
from tawt_sklearn.exceptions import SaveFileError
from tawt_sklearn.objectives.supervised import ClassTarget
from tawt_sklearn.training.checkpoint import Checkpoint, fingerprint
from tawt_sklearn.training.dataset import EventDataset
from tawt_sklearn.training.net import EventNet
from tawt_sklearn.training.seeding import isolated_torch
from tawt_sklearn.training.trainer import Recipe, train

CPU = torch.device("cpu")


def make_data(**changes: Any) -> EventDataset:
    """48 rows of tokens with texts, two static columns, labels and weights."""
    rng = np.random.default_rng(0)
    X, _ = make_icu_stays(48, random_state=0)
    content = {
        "events": TripletSequencer().fit_transform(X)["events"].array,
        "static_numeric": rng.normal(size=(48, 2)).astype(np.float32),
        "static_category": rng.integers(0, 3, (48, 1)),
        "target": rng.integers(0, 2, 48),
        "weight": np.ones(48, np.float32),
        "origin": 0.0,
    }
    return EventDataset(**(content | changes))


@pytest.fixture(scope="module")
def data() -> EventDataset:
    return make_data()


# ---- names -------------------------------------------------------------------------------------

RECIPE = {
    "max_epochs": 4, "batch_size": 8, "learning_rate": 0.05, "weight_decay": 0.1,
    "warmup_fraction": 0.1, "min_steps": 0, "patience": 2, "n_average": 2, "scoring": "loss",
}  # fmt: skip


def settings_of(**changes: Any) -> list[Any]:
    model = {"prior": [0.0, 0.5], "backbone": {"d_model": 8, "window_edges": [1.0, 2.0]}}
    values = {
        "recipe": Recipe(**RECIPE),
        "model": model,
        "target": ClassTarget(np.array(["a", "b"]), np.zeros(2)),
        "seed": 3,
        "start": None,
        "device": "cpu",
    }
    return list((values | changes).values())


def bumped(array: np.ndarray) -> np.ndarray:
    """A copy whose last entry is another one."""
    array = array.copy()
    array.reshape(-1)[-1] += 1
    return array


@pytest.mark.parametrize("field", ["time", "code", "value", "text", "start", "end"])
def test_the_name_depends_on_everything_in_the_events(data, field):
    old = getattr(data.events, field)
    known = np.nan_to_num(old, posinf=0, neginf=0) if old.dtype.kind == "f" else old
    one, other = data.events._replace(**{field: known}), {field: bumped(known)}
    names = [
        fingerprint(settings_of(), make_data(events=events))
        for events in (one, one._replace(**other))
    ]
    assert names[0] != names[1]


@pytest.mark.parametrize("field", ["static_numeric", "static_category", "target", "weight"])
def test_the_name_depends_on_everything_beside_the_events(data, field):
    other = make_data(**{field: bumped(getattr(data, field))})
    assert fingerprint(settings_of(), other) != fingerprint(settings_of(), data)


def test_the_name_depends_on_rows_their_order_and_the_origin(data):
    order = np.arange(48)
    others = {
        "origin": make_data(origin=-3.0),
        "order": data.subset(order[::-1]),
        "fewer": data.subset(order[:-1]),
        "boundaries": data.subset(np.r_[order[:-1], 0]),
    }
    names = {fingerprint(settings_of(), other) for other in others.values()}
    assert len(names | {fingerprint(settings_of(), data)}) == len(others) + 1


def test_the_name_depends_on_what_is_held_out(data):
    rows, out = data.subset(np.arange(30)), data.subset(np.arange(30, 48))
    settings = settings_of()
    names = [(rows, None), (rows, out), (out, rows), (rows, rows), (out, None)]
    assert len({fingerprint(settings, *parts) for parts in names}) == len(names)


@pytest.mark.parametrize(
    "changes",
    [
        {"recipe": Recipe(**(RECIPE | {"n_average": 3}))},
        {"recipe": Recipe(**(RECIPE | {"scoring": "roc_auc"}))},
        {"recipe": Recipe(**RECIPE, stop_early=False)},
        {"recipe": Recipe(**RECIPE, net_params={"optimizer__betas": (0.9, 0.99)})},
        {"recipe": Recipe(**RECIPE, net_params={"optimizer": torch.optim.SGD})},
        {"model": {"prior": [0.0, 0.5], "backbone": {"d_model": 8, "window_edges": [1.0]}}},
        {"model": {"prior": [0.0, 0.6], "backbone": {"d_model": 8, "window_edges": [1.0, 2.0]}}},
        {"target": ClassTarget(np.array(["a", "c"]), np.zeros(2))},
        {"target": ClassTarget(np.array(["a", "b"], object), np.zeros(2))},
        {"target": ClassTarget(np.array(["a", "b"]), np.ones(2))},
        {"seed": 4},
        {"start": {"weight": np.zeros(3, np.float32)}},
        {"device": "cuda"},
    ],
    ids=str,
)
def test_the_name_depends_on_every_setting(data, changes):
    assert fingerprint(settings_of(**changes), data) != fingerprint(settings_of(), data)


def test_the_name_depends_on_content_alone(data, tmp_path):
    name = fingerprint(settings_of(), data)
    assert len(name) == 40 and int(name, 16)
    assert fingerprint(settings_of(), make_data()) == name
    assert fingerprint(settings_of(), pickle.loads(pickle.dumps(data))) == name  # other workers
    assert fingerprint(pickle.loads(pickle.dumps(settings_of())), data) == name
    joblib.dump(data, tmp_path / "data")
    mapped = joblib.load(tmp_path / "data", mmap_mode="r")
    assert isinstance(mapped.events.time, np.memmap) or isinstance(mapped.target, np.memmap)
    assert fingerprint(settings_of(), mapped) == name
    whole = data.subset(np.arange(48))
    assert fingerprint(settings_of(), whole) == fingerprint(
        settings_of(), mapped.subset(np.arange(48))
    )


def test_the_name_does_not_depend_on_the_order_of_a_dict(data):
    model = settings_of()[1]
    turned = {"backbone": dict(reversed(model["backbone"].items())), "prior": model["prior"]}
    assert fingerprint(settings_of(model=turned), data) == fingerprint(settings_of(), data)


# ---- states ------------------------------------------------------------------------------------


class Toy(nn.Module):
    """Of two static numbers; dropout draws from the random state."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 4), nn.Dropout(0.5), nn.Linear(4, 2))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def forward(self, batch):
        if self.training:
            self.count += 1
        return self.layers(batch.static_numeric)


class Crash(Exception):
    pass


class CrashIn(Callback):
    def __init__(self, epoch: int, method: str) -> None:
        self.epoch, self.method = epoch, method

    def on_batch_begin(self, net, training=False, **kwargs):
        if training and len(net.history[-1]["batches"]) == 3:
            self._crash("on_batch_begin", net)

    def on_epoch_end(self, net, **kwargs):
        self._crash("on_epoch_end", net)

    def on_train_end(self, net, **kwargs):
        self._crash("on_train_end", net)

    def _crash(self, method, net):
        if method == self.method and len(net.history) == self.epoch:
            raise Crash


Run = Callable[..., EventNet]


@pytest.fixture
def run(data) -> Run:
    """Train the toy."""

    def make(checkpoint: Path | None = None, *, validate: bool = False, **changes) -> EventNet:
        kept = data.subset(np.arange(30)) if validate else data
        out = data.subset(np.arange(30, 48)) if validate else None
        with isolated_torch(0, CPU, n_threads=1):
            return train(
                partial(Toy), ClassTarget(np.arange(2), np.zeros(2)), kept, out,
                Recipe(**(RECIPE | changes)), seed=0, device=CPU, checkpoint=checkpoint,
            )  # fmt: skip

    return make


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "run.tawt"


def assert_same_net(one: EventNet, other: EventNet) -> None:
    expected = other.weights()
    assert one.weights().keys() == expected.keys()
    for name, weight in one.weights().items():
        assert weight.dtype == expected[name].dtype and torch.equal(weight, expected[name]), name
    assert one.history[:, "train_loss"] == other.history[:, "train_loss"]


@pytest.mark.parametrize("validate", [True, False])
@pytest.mark.parametrize(
    "epoch, method",
    [
        (1, "on_batch_begin"),
        (2, "on_batch_begin"),
        (4, "on_batch_begin"),
        (1, "on_epoch_end"),
        (4, "on_epoch_end"),
        (4, "on_train_end"),
    ],
)
def test_a_run_goes_on_from_any_moment(run, path, validate, epoch, method):
    with pytest.raises(Crash):
        run(path, validate=validate, patience=9, callbacks=[CrashIn(epoch, method)])
    assert path.exists() == (epoch > 1)
    resumed, whole = (run(p, validate=validate, patience=9) for p in (path, None))
    assert_same_net(resumed, whole)
    if validate:
        assert resumed.history[:, "valid_score"] == whole.history[:, "valid_score"]


def test_the_random_state_outside_is_left_alone(run, path):
    state = torch.get_rng_state()
    with pytest.raises(Crash):
        run(path, callbacks=[CrashIn(3, "on_batch_begin")])
    run(path)
    assert torch.equal(torch.get_rng_state(), state)


class Watch(Callback):
    """Compare the file with the net after every epoch (comes before the writer of the next)."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) == 1:
            return
        (writer,) = [callback for _, callback in net.callbacks_ if isinstance(callback, Checkpoint)]
        state = writer.read()
        assert state["finished"] is False and state["step"] == writer.schedule.step_
        assert len(state["history"]) == len(net.history) - 1
        assert state["weights"].keys() == net.weights().keys()
        for name, weight in net.weights().items():
            assert torch.equal(state["weights"][name], weight)
        moments = net.optimizer_.state_dict()["state"]
        assert state["optimizer"].keys() == moments.keys()
        for number, of_parameter in moments.items():
            for name, value in of_parameter.items():
                found = state["optimizer"][number][name]
                assert found.dtype == value.dtype and torch.equal(found, value)
        assert torch.equal(state["random"]["cpu"], torch.get_rng_state())
        assert torch.equal(state["random"]["rows"], writer.generator.get_state())
        for (rank, weights), (found_rank, found) in zip(
            writer.average.kept_, state["kept"], strict=True
        ):
            assert rank == found_rank and all(map(torch.equal, weights, found))
        self.seen_ = getattr(self, "seen_", 0) + 1


@pytest.mark.parametrize("validate", [True, False])
def test_the_state_comes_back_as_it_was(run, path, validate):
    watch = Watch(path)
    run(path, validate=validate, patience=9, callbacks=[watch])
    assert watch.seen_ == 3


def test_a_finished_run_keeps_its_weights_only(run, path):
    with pytest.raises(Crash):
        run(path, callbacks=[CrashIn(4, "on_batch_begin")])
    before = path.stat().st_size
    net = run(path)
    assert path.stat().st_size < before
    assert_same_net(run(path), net)


def test_a_finished_run_is_not_trained_again(run, path, monkeypatch):
    net = run(path)

    def refuse(*args, **kwargs):
        raise AssertionError("training")

    monkeypatch.setattr(EventNet, "fit_loop", refuse)
    assert_same_net(run(path), net)


def test_the_writer_is_not_kept_by_the_net(run, path):
    net = run(path)
    assert not any(isinstance(callback, Checkpoint) for _, callback in net.callbacks_)
    assert b"run.tawt" not in pickle.dumps(net)


def test_what_users_callbacks_put_into_the_history_does_no_harm(run, path):
    class Note(Callback):
        def on_epoch_end(self, net, **kwargs):
            net.history.record("object", object())
            net.history.record("text", "kept")
            net.history.record_batch("number", 1.0)

    with pytest.raises(Crash):
        run(path, callbacks=[Note(), CrashIn(3, "on_batch_begin")])
    net = run(path)
    assert net.history[0]["text"] == "kept" and "object" not in net.history[0]
    assert len(net.history) == 4


def test_a_folder_is_made_where_it_is_missing(run, tmp_path):
    run(tmp_path / "a" / "b" / "run.tawt")
    assert (tmp_path / "a" / "b" / "run.tawt").exists()


@pytest.mark.parametrize("content", [b"", b"PK", b"\0" * 100])
def test_a_damaged_file_is_named(run, path, content):
    path.write_bytes(content)
    with pytest.raises(SaveFileError, match="run.tawt"):
        run(path)
