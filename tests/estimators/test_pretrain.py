"""Pretraining within fit, and the head for statistics side by side."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone

from tawt_sklearn import TimeAwareClassifier, TimeAwareEncoder, TimeAwareRegressor, TripletSequencer
from tawt_sklearn.estimators import _base
from tawt_sklearn.objectives.supervised import ClassTarget, NumericTarget, WeightedLoss
from tawt_sklearn.training.net import EventNet


@pytest.fixture
def few(X) -> pd.DataFrame:
    return X.iloc[:40]


@pytest.fixture
def brief(monkeypatch):
    """Pretraining of 20 steps."""
    monkeypatch.setattr(
        TimeAwareEncoder.__init__,
        "__kwdefaults__",
        {**TimeAwareEncoder.__init__.__kwdefaults__, "max_epochs": 2, "min_steps": 20},
    )


def heads_of(model) -> list[str]:
    names = (name for name, _ in model.nets_[0].module_.named_parameters())
    return sorted({name.partition(".")[0] for name in names})


# ---- pretraining -------------------------------------------------------------------------------


@pytest.mark.usefixtures("brief")
def test_it_is_the_encoder_that_a_user_would_have_passed(few, y, quick):
    own = quick(pretrain=True).fit(few, y.iloc[:40])
    shape = {"d_model": 8, "n_heads": 2, "n_layers": 1, "n_windows": 4}
    encoder = TimeAwareEncoder(
        **shape, sequencer=TripletSequencer(), random_state=0, device="cpu"
    ).fit(few)
    given = quick(pretrained=encoder, d_model=48, n_heads=4, n_layers=2, n_windows=16)
    given.fit(few, y.iloc[:40])
    np.testing.assert_array_equal(own.predict_proba(few), given.predict_proba(few))


@pytest.mark.usefixtures("brief")
def test_it_goes_on_from_there_and_survives_copies(few, y, quick, tmp_path):
    model = quick(pretrain=True, warm_start=True).fit(few, y.iloc[:40])
    for again in (pickle.loads(pickle.dumps(model)), _saved(model, tmp_path)):
        np.testing.assert_array_equal(again.predict_proba(few), model.predict_proba(few))
    seen = _base.pretrained_here
    try:
        _base.pretrained_here = None  # a second fit must not pretrain again
        model.fit(few, y.iloc[:40])
    finally:
        _base.pretrained_here = seen
    assert model.n_iter_ == 4
    assert not hasattr(clone(model), "nets_")


def _saved(model, folder):
    model.save(folder / "model.tawt")
    return TimeAwareClassifier.load(folder / "model.tawt")


@pytest.mark.usefixtures("brief")
def test_weights_are_copies_of_rows(few, y, quick):
    labels = y.iloc[:40]
    weight = np.tile([1.0, 2.0, 0.0, 1.0], 10)
    order = np.repeat(np.arange(40), weight.astype(int))[::-1]
    weighted = quick(pretrain=True).fit(few, labels, sample_weight=weight)
    repeated = quick(pretrain=True).fit(few.iloc[order], labels.iloc[order])
    np.testing.assert_allclose(
        weighted.predict_proba(few), repeated.predict_proba(few), atol=1e-7, rtol=0
    )


@pytest.mark.usefixtures("brief")
def test_ctrl_c_before_labels_leaves_nothing(few, y, quick, monkeypatch):
    model = quick(pretrain=True)
    monkeypatch.setattr(TrainingWarner, "on_epoch_end", interrupt, raising=False)
    for at in (0, 1):
        monkeypatch.setattr(LossParts, "on_epoch_end", Interrupt(at))
        with pytest.raises(KeyboardInterrupt):
            model.fit(few, y.iloc[:40])
        assert not hasattr(model, "nets_")


def test_auto_is_for_many_event_histories(X, y, quick, monkeypatch):
    asked: list[int] = []

    def pretrained_here(estimator, preparation, data, device):
        asked.append(len(data))
        raise RuntimeError("asked to pretrain")

    monkeypatch.setattr(_base, "pretrained_here", pretrained_here)
    quick().fit(X, y)
    assert not asked, "few histories"
    monkeypatch.setattr(_base, "PRETRAINING_FLOOR", 100)
    for others in ({"pretrain": False}, {"patching": "feature"}):
        quick(**others).fit(X, y)
    panel = np.random.default_rng(0).normal(size=(120, 2, 6))
    quick().fit(panel, panel[:, 0, 0] > 0)
    quick(per_step=True).fit(panel, (panel[:, 0] > 0).astype(int))
    assert not asked
    with pytest.raises(RuntimeError, match="asked"):
        quick().fit(X, y)
    assert asked == [160]


# ---- statistics side by side --------------------------------------------------------------------


def test_what_has_the_head_and_what_has_not(X, y, quick):
    assert "summary_head" in heads_of(quick().fit(X, y))
    assert "summary_head" not in heads_of(quick(n_summary_members=0).fit(X, y))
    panel = np.random.default_rng(0).normal(size=(40, 2, 6))
    assert "summary_head" in heads_of(quick().fit(panel, panel[:, 0, 0] > 0))
    per_step = quick(per_step=True).fit(panel, (panel[:, 0] > 0).astype(int))
    assert "summary_head" not in heads_of(per_step)
    same = np.ones((40, 2, 6))
    assert "summary_head" not in heads_of(quick().fit(same, np.arange(40) % 2)), "all rows alike"


def test_scores_are_the_mean_of_both_heads(X, y, quick):
    model = quick(n_summary_members=3).fit(X, y)
    module = model.nets_[0].module_
    data = model.preparation_.dataset(X)
    batch = data.batch(np.arange(20)).to("cpu", torch.float64)
    with torch.inference_mode():
        members = module.summary_head(module.summary(batch))
        expected = (members.mean(0) + module.of_patches(batch)) / 2
        torch.testing.assert_close(module(batch), expected)
        assert members.shape == (3, 20, 2)
    module.train()
    assert module(batch).shape == (20, 4, 2)


def test_the_loss_weighs_both_heads_alike():
    torch.manual_seed(0)
    target = ClassTarget(np.array([0, 1, 2]), np.zeros(3))
    scores, labels = torch.randn(5, 4, 3, dtype=torch.float64), torch.tensor([0, 1, 2, 2, 0])
    weight = torch.tensor([1.0, 2.0, 0.0, 0.5, 1.5])
    each = torch.stack([target.loss(scores[:, m], labels) for m in range(4)], dim=1)
    expected = (weight * (each[:, :3].mean(1) + each[:, 3]) / 2).mean()
    torch.testing.assert_close(WeightedLoss(target)(scores, (labels, weight)), expected)
    alike = scores[:, :1].expand(-1, 4, -1)
    torch.testing.assert_close(
        WeightedLoss(target)(alike, (labels, weight)),
        WeightedLoss(target)(scores[:, 0], (labels, weight)),
    )
    numbers = NumericTarget(np.zeros(2), np.ones(2), "squared_error", one_dimensional=False)
    truth = torch.randn(5, 2)
    each = torch.stack([numbers.loss(scores[:, m, :2], truth) for m in range(4)], dim=1)
    expected = (weight * (each[:, :3].mean(1) + each[:, 3]) / 2).mean()
    torch.testing.assert_close(WeightedLoss(numbers)(scores[..., :2], (truth, weight)), expected)


def test_the_head_sees_what_is_told_of_a_row_in_plain_statistics(quick):
    """A sum over codes that needs no mixing: with the head it is found in the same few steps."""
    rng = np.random.default_rng(0)
    panel = rng.normal(size=(200, 6, 4))
    y = panel.mean(axis=2) @ np.array([1.0, -1.0, 1.0, -1.0, 1.0, -1.0])
    settings = {"max_epochs": 20, "min_steps": 0, "batch_size": 20, "learning_rate": 0.01}
    scores = []
    for members in (0, 8):
        shared = quick(n_summary_members=members, **settings).get_params(deep=False)
        del shared["class_weight"], shared["calibrate"]
        shared["code_dropout"] = shared["window_dropout"] = 0.0
        scores.append(TimeAwareRegressor(**shared).fit(panel[:100], y[:100]).score(panel[100:], y[100:]))
    assert scores[1] > scores[0] and scores[1] > 0.5


def test_rows_alone_and_together_are_told_the_same(X, y, quick):
    model = quick().fit(X, y)
    together = model.predict_proba(X.iloc[:20])
    alone = np.concatenate([model.predict_proba(X.iloc[k : k + 1]) for k in range(20)])
    np.testing.assert_allclose(alone, together, atol=1e-7, rtol=0)
