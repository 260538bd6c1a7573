"""Pretraining within fit, and the head for statistics side by side."""

from __future__ import annotations

import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone

from tawt_sklearn import TimeAwareClassifier, TimeAwareEncoder, TripletSequencer, nest_events
from tawt_sklearn.estimators import _base, _ensemble
from tawt_sklearn.estimators._summary import best_share
from tawt_sklearn.exceptions import DataError
from tawt_sklearn.objectives.supervised import ClassTarget, NumericTarget, WeightedLoss
from tawt_sklearn.training.pretraining import LossParts


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
def test_it_goes_on_from_there_and_survives_copies(few, y, quick, tmp_path, monkeypatch):
    model = quick(pretrain=True, warm_start=True).fit(few, y.iloc[:40])
    for again in (pickle.loads(pickle.dumps(model)), _saved(model, tmp_path)):
        np.testing.assert_array_equal(again.predict_proba(few), model.predict_proba(few))
    monkeypatch.setattr(_base, "pretrained_here", None)  # a second fit must not do it again
    model.fit(few, y.iloc[:40])
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
@pytest.mark.parametrize("epoch", [0, 1])
def test_ctrl_c_before_labels_leaves_nothing(few, y, quick, monkeypatch, epoch):
    def interrupted(callback, net, **kwargs):
        if len(net.history) > epoch:
            raise_interrupt()

    monkeypatch.setattr(LossParts, "on_batch_end", interrupted)
    model = quick(pretrain=True)
    with pytest.raises(KeyboardInterrupt):
        model.fit(few, y.iloc[:40])
    assert not hasattr(model, "nets_")


def raise_interrupt() -> None:
    """As a signal does: no ``raise`` stands where it comes from."""
    (_ for _ in ()).throw(KeyboardInterrupt)


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"patching": "time"}, "patching with tokens of codes"),
        ({"modality_training": "staged"}, "modality_training"),
        ({"pretrained": "encoder.tawt"}, "pretrain=False"),
    ],
)
def test_what_does_not_go_together(few, y, quick, others, message):
    with pytest.raises(ValueError, match=message):
        quick(pretrain=True, **others).fit(few, y.iloc[:40])


def test_a_single_pass_cannot_pretrain(few, y, quick):
    with pytest.raises(ValueError, match="pretrain=False in partial_fit"):
        quick(pretrain=True).partial_fit(few, y.iloc[:40])


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("fine_tune", ["head", "gradual"])
def test_it_is_fine_tuned_as_one_asks(few, y, quick, fine_tune):
    model = quick(pretrain=True, fine_tune=fine_tune, encoder_learning_rate=1e-4)
    model.fit(few, y.iloc[:40])
    assert ("summary_head" in heads_of(model)) == (fine_tune != "head")


@pytest.mark.usefixtures("brief")
def test_a_head_alone_after_everything(few, y, quick):
    model = quick(pretrain=True, warm_start=True).fit(few, y.iloc[:40])
    model.set_params(fine_tune="head").fit(few, y.iloc[:40])
    assert "summary_head" not in heads_of(model)


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


def test_rows_that_were_left_out_decide(X, y, quick, monkeypatch):
    seen: list[tuple[int, ...]] = []

    def best_share(target, encoded, weight, scores, usual):
        seen.append(scores.shape)
        assert np.isfinite(scores).all() and len(encoded) == len(weight) == scores.shape[1]
        return shares.pop()

    shares = [0.0, 0.3]
    monkeypatch.setattr(_ensemble, "best_share", best_share)
    auto = {"weigh_heads": True}
    assert quick(**auto).fit(X, y).nets_[0].module_.summary_share == 0.3
    assert "summary_head" not in heads_of(quick(**auto).fit(X, y)), "a share of nothing"
    assert seen == [(2, 53, 2)] * 2, "a third of each class"
    quick(**auto).fit(X.iloc[:29], y.iloc[:29])
    quick().fit(X, y)
    assert len(seen) == 2, "few rows, or nobody asked"


def test_the_share_is_that_of_the_least_loss_on_rows_that_were_left_out():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(2000, 1)).astype(np.float32)
    target = NumericTarget(np.zeros(1), np.ones(1), "squared_error", one_dimensional=True)
    noise = rng.normal(size=(2, 2000, 1))
    for own, expected in (((1.0, 1.0), 0.5), ((1.0, 0.5), 0.8), ((0.5, 1.0), 0.2)):
        scores = truth + noise * np.array(own)[:, None, None]
        share = best_share(target, truth, np.ones(2000, np.float32), scores, 0.5)
        assert share == pytest.approx(expected, abs=0.051)
    few = slice(0, 4)  # which decide nothing
    alike = truth[few] + 0.1 * noise[:, few]
    for usual in (0.35, 0.5):
        share = best_share(target, truth[few], np.ones(4, np.float32), alike, usual)
        assert share == pytest.approx(usual, abs=0.11)
    known = np.stack([np.zeros((2000, 1)), truth.astype(float)])
    weight = np.ones(2000, np.float32)
    assert best_share(target, truth, weight, known, 0.5) == 1.0
    assert best_share(target, truth, weight, known[::-1].copy(), 0.5) == 0.0


def test_the_share_is_what_members_are_averaged_with(X, y, quick):
    model = quick(weigh_heads=True).fit(X, y)
    module, batch = model.nets_[0].module_, model.preparation_.dataset(X).batch(np.arange(20))
    share = module.summary_share
    both = model.nets_[0].of_both_heads(model.preparation_.dataset(X.iloc[:20]))
    with torch.inference_mode():
        got = module(batch.to("cpu", torch.float64)).numpy()
    np.testing.assert_allclose(got, (1 - share) * both[0] + share * both[1], atol=1e-12)


def test_weights_are_copies_of_rows_for_the_share_too(X, y, quick):
    weight = np.tile([1.0, 2.0, 0.0, 1.0], 40)
    order = np.repeat(np.arange(160), weight.astype(int))
    shares = [
        quick(weigh_heads=True).fit(*rows, **weights).nets_[0].module_.summary_share
        for rows, weights in (
            ((X, y), {"sample_weight": weight}),
            ((X.iloc[order], y.iloc[order]), {}),
        )
    ]
    assert shares[0] == shares[1]


def test_a_warm_start_keeps_the_head(X, y, quick):
    model = quick(n_summary_members=4, warm_start=True).fit(X, y)
    for other in (0, 8):
        with pytest.raises(ValueError, match="n_summary_members"):
            model.set_params(n_summary_members=other).fit(X, y)
    model.set_params(n_summary_members="auto").fit(X, y)
    assert model.nets_[0].module_.summary_head.scores.shape[0] == 4


def test_vectors_of_members_do_not_decay(X, y, quick):
    optimizer = quick().fit(X, y).nets_[0].optimizer_
    decaying = [p for g in optimizer.param_groups if g["weight_decay"] for p in g["params"]]
    assert all(p.ndim == 2 or p.shape[-2] > 1 for p in decaying)


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


def test_rows_alone_and_together_are_told_the_same(X, y, quick):
    model = quick().fit(X, y)
    together = model.predict_proba(X.iloc[:20])
    alone = np.concatenate([model.predict_proba(X.iloc[k : k + 1]) for k in range(20)])
    np.testing.assert_allclose(alone, together, atol=1e-7, rtol=0)


# ---- what fitted estimators are asked for ------------------------------------------------------


def test_parameters_of_pretraining_are_not_ignored_after_a_fit(few, y, quick):
    model = quick().fit(few, y.iloc[:40])
    with pytest.raises(ValueError, match="Expected pretrained, or pretrain=True, together with"):
        model.set_params(fine_tune="head").fit(few, y.iloc[:40])
    model.set_params(fine_tune="full", pretrain=True, warm_start=True)
    with pytest.raises(ValueError, match="Expected pretrain=False to go on from a fit"):
        model.fit(few, y.iloc[:40])


def test_a_network_that_has_no_head_goes_on_as_it_is(quick):
    panel = np.random.default_rng(0).normal(size=(60, 2, 5))
    steps, constant = (panel[:, 0] > 0).astype(int), np.ones_like(panel)
    model = quick(n_summary_members=8).partial_fit(panel, steps).partial_fit(panel, steps)
    assert "summary_head" not in heads_of(model)
    model = quick(n_summary_members=8, warm_start=True, code_dropout=0.0)
    model.fit(constant, steps[:, 0]).fit(constant, steps[:, 0])
    assert "summary_head" not in heads_of(model)
    with pytest.raises(ValueError, match="other values of n_summary_members"):
        model.set_params(n_summary_members=4).fit(constant, steps[:, 0])


def test_a_mapped_model_learns_more_without_touching_the_file(quick, tmp_path):
    panel = np.random.default_rng(0).normal(size=(60, 2, 5))
    label = (panel[:, 0].mean(axis=1) > 0).astype(int)
    model = quick(additive_head=True, warm_start=True).fit(panel, label)
    path = tmp_path / "model.joblib"
    joblib.dump(model, path)
    before = path.read_bytes()
    mapped = joblib.load(path, mmap_mode="r").fit(panel, label)
    assert path.read_bytes() == before
    expected = model.fit(panel, label).predict_proba(panel)
    np.testing.assert_array_equal(mapped.predict_proba(panel), expected)


def test_another_default_type_of_torch_changes_nothing(X, y, quick, tmp_path):
    expected = quick(additive_head=True).fit(X, y).predict_proba(X)
    torch.set_default_dtype(torch.float64)
    try:
        model = quick(additive_head=True).fit(X, y)
        told, again = model.predict_proba(X), _saved(model, tmp_path).predict_proba(X)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    np.testing.assert_array_equal(told, expected)
    np.testing.assert_array_equal(again, expected)


def test_times_that_single_precision_cannot_hold(X, y, quick):
    long = X["events"].events.to_long()
    long.loc[long.index[0], "time"] = 1e39
    odd = nest_events(long)
    with pytest.raises(DataError, match="Expected times and values within single precision"):
        quick().fit(odd, y.loc[odd.index])


def test_rows_without_weight_cannot_say_what_a_head_weighs():
    target = NumericTarget(np.zeros(1), np.ones(1), "squared_error", one_dimensional=True)
    scores = np.random.default_rng(0).normal(size=(2, 30, 1))
    told = best_share(target, scores[0].astype(np.float32), np.zeros(30, np.float32), scores, 0.5)
    assert told == 0.5
