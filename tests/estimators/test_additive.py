"""The additive model beside the networks of an estimator."""

from __future__ import annotations

import pickle
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from tawt_sklearn import TimeAwareClassifier, TimeAwareRegressor, load
from tawt_sklearn.estimators import _additive, _ensemble, _export
from tawt_sklearn.estimators._additive import learn_curves, place_knots
from tawt_sklearn.training.net import EventNet


@pytest.fixture
def quick(quick):
    return lambda **parameters: quick(**{"additive_head": True} | parameters)


@pytest.fixture
def y(X) -> pd.Series:
    """Labels that one column tells."""
    return (X["age"] > X["age"].median()).astype(int)


def curves_of(model):
    return model.nets_[0].module.keywords.get("curves")


def test_what_is_said_is_the_mean_of_three(X, y, quick):
    model = quick().fit(X, y)
    module = model.nets_[0].module_
    data = model.preparation_.dataset(X)
    batch = data.batch(np.arange(20)).to("cpu", torch.float64)
    with torch.inference_mode():
        parts = [module.of_patches(batch), module.of_summary(batch).mean(0)]
        parts.append(module.additive(module.summary(batch)))
        torch.testing.assert_close(module(batch), sum(parts) / 3)


def test_networks_are_trained_without_it(X, y, quick):
    with_it, without = quick().fit(X, y), quick(additive_head=False).fit(X, y)
    assert curves_of(without) is None
    ours, theirs = with_it.nets_[0].weights(), without.nets_[0].weights()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_members_have_the_same_one_also_in_workers(X, y, quick):
    alone = quick(n_ensemble=2).fit(X, y)
    assert alone.nets_[0].module.keywords["curves"] is alone.nets_[1].module.keywords["curves"]
    workers = quick(n_ensemble=2, n_jobs=2).fit(X, y)
    np.testing.assert_array_equal(alone.predict_proba(X), workers.predict_proba(X))


def test_it_learns_what_only_a_curve_tells():
    rng = np.random.default_rng(0)
    panel = rng.normal(size=(600, 3, 4))
    panel[:, 0] = rng.uniform(-1, 1, size=(600, 1))
    y = np.where(np.abs(panel[:, 0, 0]) > 0.5, 10.0, -10.0) + rng.normal(size=600)
    settings = {"d_model": 8, "n_heads": 2, "n_ensemble": 1, "max_epochs": 1, "min_steps": 1}
    model = TimeAwareRegressor(**settings, random_state=0).fit(panel[:400], y[:400])
    net, data = model.nets_[0], model.preparation_.dataset(_rows(model, panel[400:]))
    own = net.add_curves(curves_of(model), 1.0).decision(data)
    assert np.corrcoef(own[:, 0], y[400:])[0, 1] > 0.9


def _rows(model, panel):
    from tawt_sklearn.estimators._input import read_rows

    return read_rows(model, panel, model.preparation_)[0]


def test_there_is_none_where_it_can_tell_nothing(X, y, quick):
    noise = np.random.default_rng(0).integers(0, 2, len(X))
    small = pd.DataFrame({"events": X["events"]})
    assert curves_of(quick().fit(small, noise)) is None
    assert curves_of(quick(n_summary_members=0).fit(X, y)) is None
    panel = np.random.default_rng(0).normal(size=(40, 2, 6))
    assert curves_of(quick(per_step=True).fit(panel, (panel[:, 0] > 0).astype(int))) is None
    few = X.iloc[:20]
    assert curves_of(quick().fit(few, y.iloc[:20])) is not None, "too few to ask"


def test_it_survives_copies_and_files(X, y, quick, tmp_path):
    model = quick().fit(X, y)
    model.save(tmp_path / "model.tawt")
    for again in (pickle.loads(pickle.dumps(model)), load(tmp_path / "model.tawt")):
        np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    net = model.nets_[0]
    good = net.module.keywords["curves"]
    for odd in ({"rise": np.full_like(good.rise, np.inf)}, {"rise": good.rise > 0}, {"bias": 1.0}):
        net.module.keywords["curves"] = SimpleNamespace(**vars(good) | odd)
        with pytest.raises(ValueError):
            EventNet._from_saved(net._to_saved(), "cpu")


def test_weights_are_copies_of_rows_and_order_does_not_matter(X, y, quick):
    weight = np.tile([1.0, 2.0, 0.0, 1.0], 40)
    order = np.random.default_rng(0).permutation(np.repeat(np.arange(160), weight.astype(int)))
    weighted = curves_of(quick().fit(X, y, sample_weight=weight))
    repeated = curves_of(quick().fit(X.iloc[order], y.iloc[order]))
    for name in ("knots", "rise", "bias"):
        np.testing.assert_array_equal(getattr(weighted, name), getattr(repeated, name))


def test_rows_alone_and_together_are_told_the_same(X, y, quick):
    model = quick().fit(X, y)
    together = model.predict_proba(X.iloc[:20])
    alone = np.concatenate([model.predict_proba(X.iloc[k : k + 1]) for k in range(20)])
    np.testing.assert_allclose(alone, together, atol=1e-12, rtol=0)


def test_going_on_learns_it_anew_and_a_single_pass_keeps_it(X, y, quick):
    model = quick(warm_start=True).fit(X, y)
    first = curves_of(model)
    model.fit(X.iloc[:100], y.iloc[:100])
    second = curves_of(model)
    assert not np.array_equal(first.rise, second.rise)
    model.partial_fit(X, y)
    assert curves_of(model) is second
    assert model.nets_[0].module_.additive is not None
    assert curves_of(quick().partial_fit(X, y)) is None, "which sees some of the rows only"
    model.set_params(additive_head=False).fit(X, y)
    assert curves_of(model) is None


def test_left_out_rows_say_what_it_weighs(X, y, quick, monkeypatch):
    usual = []

    def best_share(target, encoded, weight, scores, share):
        usual.append(share)
        return share / 2

    monkeypatch.setattr(_ensemble, "best_share", best_share)
    module = quick(weigh_heads=True).fit(X, y).nets_[0].module_
    assert usual == [0.5, 1 / 3]
    assert module.summary_share == 0.25 and module.curves_share == 1 / 6


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [((0.5, 0.1), (0.5, 0.1)), ((0.5, 0.0), (0.5, None)), ((0.0, 0.2), (0.0, 0.2))],
)
def test_what_left_out_rows_said_holds_from_then_on(X, y, quick, monkeypatch, chosen, expected):
    told = list(chosen)
    monkeypatch.setattr(_ensemble, "best_share", lambda *_: told.pop(0))
    model = quick(weigh_heads=True, warm_start=True)
    for go_on in (model.fit, model.fit, model.partial_fit):
        module = go_on(X, y).nets_[0].module_
        assert module.summary_share == expected[0]
        assert (module.additive and module.curves_share) == expected[1]


def test_one_may_ask_for_it_later(X, y, quick):
    model = quick(additive_head=False, warm_start=True).fit(X, y)
    assert curves_of(model) is None
    assert curves_of(model.set_params(additive_head=True).fit(X, y)) is not None


def test_curves_that_two_thirds_do_not_have_have_no_say(X, y, quick, monkeypatch):
    learned = [None]
    monkeypatch.setattr(_ensemble, "learn_curves", lambda *_: learned.pop())
    model = quick(weigh_heads=True).fit(X, y)
    assert not learned and curves_of(model) is None


def test_one_row_that_outweighs_all_others(X, y, quick):
    weight = np.ones(len(X))
    weight[3] = 1e50
    model = quick().fit(X, y, sample_weight=weight)
    assert np.isfinite(model.predict_proba(X)).all()


def test_a_rare_class_that_statistics_separate(quick):
    """Single precision cannot tell such losses apart: the search for a step has to end."""
    rng = np.random.default_rng(2)
    panel, rare = rng.normal(size=(968, 4, 3)), np.arange(968) < 4
    panel[rare] += 8
    model = quick(min_steps=1, max_epochs=1).fit(panel, rare)
    assert curves_of(model) is not None
    scores = model.predict_proba(panel)[:, 1]
    assert scores[rare].min() > scores[~rare].max()


def test_an_exported_graph_has_it(X, y, quick, tmp_path):
    model = quick().fit(X, y)
    assert curves_of(model) is not None
    rebuilt = _export.rebuilt(model.nets_[0])
    data = model.preparation_.dataset(X)
    batch = data.batch(np.arange(20)).to("cpu", torch.float32)
    with torch.inference_mode():
        told = rebuilt(batch).double().numpy()
    np.testing.assert_allclose(told, model.nets_[0].decision(data)[:20], atol=1e-4)
    model.export(tmp_path / "model.pt2")
    graph = torch.export.load(tmp_path / "model.pt2").module()
    inputs = {name: torch.from_numpy(v) for name, v in model.export_inputs(X.iloc[:20]).items()}
    np.testing.assert_allclose(graph(**inputs), model.predict_proba(X.iloc[:20]), atol=1e-5)


def test_calibration_scores_it_out_of_fold(X, y, quick, monkeypatch):
    seen = []

    def learned(model, target, data):
        seen.append(len(data))
        return learn_curves(model, target, data)

    monkeypatch.setattr(_ensemble, "learn_curves", learned)
    quick(calibrate=True).fit(X, y)
    assert len(seen) == 4 and seen[0] == 160 and max(seen[1:]) < 120


def test_ctrl_c_while_it_is_learned_leaves_nothing(X, y, quick, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(_additive, "solve", interrupted)
    model = quick()
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y)
    assert not hasattr(model, "nets_")


def test_more_rows_than_there_is_room_for(X, y, quick, monkeypatch):
    model = quick().fit(X, y)
    keywords, data = model.nets_[0].module.keywords, model.preparation_.dataset(X)
    data.target = model.target_.encode(y)
    d = keywords["curves"].rise[..., 0].size
    monkeypatch.setattr(_additive, "MOST_NUMBERS", 100 * d)
    monkeypatch.setattr(_additive, "MOST_JUDGES", 60)
    some = learn_curves(keywords, model.target_, data)
    assert some is not None and not np.array_equal(some.knots, keywords["curves"].knots)
    monkeypatch.setattr(_additive, "MOST_COLUMNS", 3)
    assert learn_curves(keywords, model.target_, data) is None


def test_knots_are_quantiles_as_rows_weigh():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 70)).astype(np.float32)
    x[:, 0] = rng.integers(0, 2, 400)
    x[:, 1] = 2.5
    knots = place_knots(x, np.ones(400), 8)
    for level in range(9):
        expected = np.quantile(x[:, 2:], level / 8, axis=0, method="inverted_cdf")
        np.testing.assert_allclose(knots[2:, level], expected)
    assert set(knots[0]) == {0.0, 1.0} and set(knots[1]) == {2.5}
    weight = rng.integers(1, 4, 400).astype(float)
    twice = np.repeat(x, weight.astype(int), axis=0)
    np.testing.assert_array_equal(
        place_knots(x, weight, 8), place_knots(twice, np.ones(len(twice)), 8)
    )


def test_it_is_a_parameter_like_any_other(X, y):
    with pytest.raises(ValueError, match="additive_head"):
        TimeAwareClassifier(additive_head="yes").fit(X, y)
