"""The pieces of a training run, each by itself."""

from __future__ import annotations

import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from tawt_sklearn.exceptions import DataError, DeviceError, TrainingError
from tawt_sklearn.objectives.supervised import ClassTarget
from tawt_sklearn.training.callbacks import (
    AverageCheckpoints,
    StopWhenDiverged,
    ValidationScore,
)
from tawt_sklearn.training.device import resolve_device
from tawt_sklearn.training.schedule import WarmupCosine
from tawt_sklearn.training.seeding import isolated_torch
from tawt_sklearn.training.trainer import holdout


class FakeHistory(list):
    def record(self, name, value):
        self[-1][name] = value


def epoch(net, number, weight, **record):
    net.module_.weight.data.fill_(weight)
    net.history.append({"epoch": number, **record})


def test_the_learning_rate_rises_then_falls():
    schedule = WarmupCosine(n_steps=100, warmup_fraction=0.1, floor=0.01)
    factors = [schedule(step) for step in range(101)]
    assert np.argmax(factors) in (9, 10) and max(factors) == pytest.approx(1.0)
    assert np.all(np.diff(factors[:10]) > 0) and np.all(np.diff(factors[10:]) <= 0)
    assert factors[-1] == pytest.approx(0.01)
    assert pickle.loads(pickle.dumps(schedule)) == schedule


def test_holdout_is_stratified_and_complete():
    target = np.repeat([0, 1, 2], [80, 15, 5])
    kept, out = holdout(target, 0.2, np.random.RandomState(0))
    assert sorted([*kept, *out]) == list(range(100))
    assert np.bincount(target[out]).tolist() == [16, 3, 1]
    again = holdout(target, 0.2, np.random.RandomState(1))[1]
    assert not np.array_equal(out, again)


def test_every_class_keeps_a_row_to_learn_from():
    target = np.array([0] * 10 + [1] * 2 + [2])
    kept, out = holdout(target, 0.99, np.random.RandomState(0))
    assert np.bincount(target[kept]).tolist() == [1, 1, 1]
    assert sorted([*kept, *out]) == list(range(13))


def test_a_fraction_that_holds_out_nothing():
    with pytest.raises(DataError, match="validation_fraction=0.01 of 20 labels.*early_stopping"):
        holdout(np.repeat([0, 1], [20, 9]), 0.01, np.random.RandomState(0))


def test_checkpoints_of_the_best_epochs_are_averaged():
    net = SimpleNamespace(module_=nn.Linear(1, 1, bias=False), history=FakeHistory())
    average = AverageCheckpoints(2, by_score=True)
    average.on_train_begin(net)
    for number, (weight, score) in enumerate([(1.0, 0.1), (2.0, 0.9), (4.0, 0.8), (9.0, 0.2)]):
        epoch(net, number, weight, valid_score=score)
        average.on_epoch_end(net)
    average.on_train_end(net)
    assert net.module_.weight.item() == pytest.approx(3.0)


def test_without_validation_the_last_checkpoints_are_averaged():
    net = SimpleNamespace(module_=nn.Linear(1, 1, bias=False), history=FakeHistory())
    average = AverageCheckpoints(2, by_score=False)
    average.on_train_begin(net)
    for number, weight in enumerate([1.0, 2.0, 4.0, 9.0]):
        epoch(net, number, weight)
        average.on_epoch_end(net)
    average.on_train_end(net)
    assert net.module_.weight.item() == pytest.approx(6.5)


@pytest.mark.parametrize(
    "scoring, expected", [("loss", -0.5), ("roc_auc", 0.75), ("accuracy", 0.75)]
)
def test_the_validation_score(scoring, expected):
    net = SimpleNamespace(history=FakeHistory([{"epoch": 1, "valid_loss": 0.5}]))
    target = ClassTarget(np.array(["alive", "dead"]), np.zeros(2))
    scorer = ValidationScore(scoring, target)
    scorer.on_epoch_begin(net)
    margins = torch.tensor([-1.0, 0.5, 0.2, 2.0])  # labels alive, alive, dead, dead
    for rows in ([0, 1], [2, 3]):
        scores = torch.stack([torch.zeros(2), margins[rows]], 1)
        truth = torch.tensor([0, 0, 1, 1])[rows], torch.ones(2)
        scorer.on_batch_end(net, batch=(None, truth), training=False, y_pred=scores)
    scorer.on_epoch_end(net, dataset_valid=object())
    assert net.history[-1]["valid_score"] == pytest.approx(expected)


@pytest.mark.filterwarnings("ignore:Only one class:sklearn.exceptions.UndefinedMetricWarning")
@pytest.mark.parametrize(
    "scoring, labels, n_classes, message",
    [
        ("roc_auc", [0, 0], 2, r"nan from scoring='roc_auc'; held out are \{'alive': 2\}"),
        ("f1", [0, 1, 2], 3, "Got 'f1', which says: .*(multiclass|pos_label).*loss"),
    ],
)
def test_a_scorer_that_cannot_judge_the_held_out_labels(scoring, labels, n_classes, message):
    net = SimpleNamespace(history=FakeHistory([{"epoch": 1, "valid_loss": 0.5}]))
    classes = np.array(["alive", "dead", "moved"])[:n_classes]
    scorer = ValidationScore(scoring, ClassTarget(classes, np.zeros(n_classes)))
    scorer.on_epoch_begin(net)
    batch = (None, (torch.tensor(labels), torch.ones(len(labels))))
    scorer.on_batch_end(net, batch=batch, y_pred=torch.zeros(len(labels), n_classes))
    with pytest.raises(DataError, match=message):
        scorer.on_epoch_end(net, dataset_valid=object())


@pytest.mark.parametrize(
    "record", [{"train_loss": np.nan}, {"train_loss": 1, "valid_loss": np.inf}]
)
def test_a_loss_that_is_no_number_ends_training(record):
    net = SimpleNamespace(history=FakeHistory([{"epoch": 4, **record}]), lr=0.1)
    with pytest.raises(TrainingError, match=r"epoch 4: training diverged.*rate \(now 0.1\)"):
        StopWhenDiverged().on_epoch_end(net)


def test_torch_is_left_as_it_was():
    torch.manual_seed(5)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    with isolated_torch(0, torch.device("cpu"), n_threads=1):
        assert torch.get_num_threads() == 1
        first = torch.rand(3)
    with isolated_torch(0, torch.device("cpu"), n_threads=None):
        assert torch.equal(first, torch.rand(3))
    assert torch.equal(state, torch.get_rng_state()) and torch.get_num_threads() == threads


def test_torch_is_left_as_it_was_by_a_failure():
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    with pytest.raises(RuntimeError), isolated_torch(0, torch.device("cpu"), n_threads=1):
        torch.rand(3)
        raise RuntimeError
    assert torch.equal(state, torch.get_rng_state()) and torch.get_num_threads() == threads


def test_threads_do_not_draw_from_each_others_random_state():
    def draw(seed):
        with isolated_torch(seed, torch.device("cpu"), n_threads=1):
            numbers = []
            for _ in range(20):
                numbers.append(torch.rand(2))
                time.sleep(1e-4)  # lets another thread in
            return torch.stack(numbers)

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(draw, range(4)))
    for seed, numbers in enumerate(together):
        assert torch.equal(numbers, draw(seed))


def test_auto_takes_the_best_device_there_is():
    assert resolve_device("auto").type in {"cuda", "mps", "cpu"}
    assert resolve_device(None) == resolve_device("auto")
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device(torch.device("cpu")) == torch.device("cpu")


@pytest.mark.parametrize(
    "device, message",
    [
        ("gpu", 'Expected device to be "auto", "cpu", "cuda".*Got \'gpu\''),
        ("cuda:97", "a device that this machine has.*Got 'cuda:97'.*auto"),
        ("meta", "a device that this machine has.*Got 'meta'"),
    ],
)
def test_a_device_that_does_not_exist(device, message):
    with pytest.raises(DeviceError, match=message):
        resolve_device(device)
