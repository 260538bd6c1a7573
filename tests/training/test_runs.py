"""A whole training run on a toy module, and the batches that it gets."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tawt_sklearn import TripletSequencer
from tawt_sklearn.datasets import make_icu_stays
from tawt_sklearn.objectives.supervised import ClassTarget
from tawt_sklearn.training.dataset import EventDataset
from tawt_sklearn.training.schedule import WarmupCosine
from tawt_sklearn.training.seeding import isolated_torch
from tawt_sklearn.training.trainer import Recipe, train


class Logistic(nn.Module):
    """Of one static number; dropout tells training from evaluation."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(1, 2)

    def forward(self, batch):
        return self.linear(self.dropout(batch.static_numeric))


@pytest.fixture
def data() -> EventDataset:
    """64 rows with few events, two classes that a static number separates."""
    rng = np.random.default_rng(0)
    X, _ = make_icu_stays(64, random_state=0)
    tokens = TripletSequencer(max_events=30)
    with pytest.warns(UserWarning, match="30"):
        events = tokens.fit_transform(X)["events"].array
    target = rng.integers(0, 2, 64)
    number = (3 * target + rng.normal(size=64)).astype(np.float32)
    return EventDataset(events, number[:, None], np.zeros((64, 0), np.int64), target)


def run(data, held_out=None, dropout=0.0, **settings):
    defaults = {
        "max_epochs": 3, "batch_size": 8, "learning_rate": 0.05, "weight_decay": 0.1,
        "warmup_fraction": 0.1, "min_steps": 0, "patience": 2, "n_average": 1, "scoring": "loss",
    }  # fmt: skip
    device = torch.device("cpu")
    with isolated_torch(0, device, n_threads=1):
        return train(
            partial(Logistic, dropout), ClassTarget(np.arange(2), np.zeros(2)), data, held_out,
            Recipe(**(defaults | settings)), seed=0, device=device,
        )  # fmt: skip


def test_a_batch_holds_the_events_of_its_rows(data):
    rows = np.array([5, 0, 63, 5])
    batch = data.batch(rows)
    events = data.events
    for k, row in enumerate(rows):
        here, there = (batch.row == k).numpy(), slice(*events.offsets[row : row + 2])
        np.testing.assert_array_equal(batch.code[here], events.code[there])
        np.testing.assert_array_equal(batch.category[here], events.text[there] + 1)
        np.testing.assert_array_equal(batch.observed[here], ~np.isnan(events.value[there]))
        np.testing.assert_array_equal(batch.value[here], np.nan_to_num(events.value[there]))
        time = events.time[there]
        np.testing.assert_allclose(batch.time[here], time - events.start[row], rtol=1e-5)
        np.testing.assert_allclose(batch.age[here], events.end[row] - time, rtol=1e-5, atol=1e-5)
        assert batch.static_numeric[k] == data.static_numeric[row]
    assert (batch.category > 0).any()


def test_the_held_out_rows_are_scored_as_they_will_be_predicted(data):
    kept, out = data.subset(np.arange(48)), data.subset(np.arange(48, 64))
    net = run(kept, out, dropout=0.5, max_epochs=1)
    scores = torch.from_numpy(net.decision(out).astype(np.float32))
    loss = F.cross_entropy(scores, torch.from_numpy(out.target)).item()
    assert net.history[-1]["valid_loss"] == pytest.approx(loss, rel=1e-5)
    assert net.history[-1]["valid_score"] == pytest.approx(-loss, rel=1e-5)


def test_training_goes_on_while_the_score_improves(data):
    net = run(data, data, max_epochs=12, learning_rate=0.005)
    assert len(net.history) == 12
    assert np.all(np.diff(net.history[:, "valid_score"]) > 0)


def test_the_learning_rate_follows_its_schedule(data):
    n_steps = 3 * 64 // 8
    (group, _) = run(data).optimizer_.param_groups
    assert group["lr"] == 0.05 * WarmupCosine(n_steps)(n_steps - 1) < 0.02 * 0.05


def test_only_matrices_decay(data):
    net = run(data)
    matrices, vectors = net.optimizer_.param_groups
    assert [p.ndim for p in matrices["params"]] == [2] and matrices["weight_decay"] == 0.1
    assert [p.ndim for p in vectors["params"]] == [1] and vectors["weight_decay"] == 0.0


def test_rows_come_in_another_order_each_epoch(data, monkeypatch):
    seen = []
    batch = EventDataset.batch

    def recording(self, rows):
        seen.extend(rows)
        return batch(self, rows)

    monkeypatch.setattr(EventDataset, "batch", recording)
    run(data, max_epochs=2)
    first, second = seen[:64], seen[64:]
    assert sorted(first) == sorted(second) == list(range(64))
    assert first != second and first != sorted(first)
