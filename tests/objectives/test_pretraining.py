"""Mixtures of objectives, and the network that they train."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

from tawt_sklearn.nn.pooling import POOLINGS
from tawt_sklearn.objectives.contrastive import Contrastive
from tawt_sklearn.objectives.forecast import Forecast
from tawt_sklearn.objectives.masked import MaskedReconstruction
from tawt_sklearn.objectives.pretraining import OBJECTIVES, Pretrainer, SumOfParts, mixture

D_MODEL, D_EMBEDDING = 8, 6


@dataclass(frozen=True)
class CountEvents:
    """An objective of the user's own: the embedding tells how many events there are."""

    name: str = "count"

    def build(self, space, d_model, d_embedding):
        return CountTask(d_embedding)


class CountTask(nn.Module):
    def __init__(self, d_embedding):
        super().__init__()
        self.told = nn.Linear(d_embedding, 1)

    def forward(self, encode, batch):
        _, embedding = encode(batch)
        count = torch.bincount(batch.row, minlength=len(batch)).to(embedding.dtype)
        loss = (self.told(embedding).squeeze(1) - count.log1p()).square().mean()
        return {"count": loss, "twice": 2 * loss}


@pytest.fixture
def make_net(space):
    def make(objective="masked", pooling="codewise", **backbone) -> Pretrainer:
        torch.manual_seed(0)
        return Pretrainer(
            objectives=mixture(objective),
            pooling=pooling,
            d_embedding=D_EMBEDDING,
            scaling="reliability",
            category_offsets=space.category_offsets.tolist(),
            backbone={
                "n_codes": 6, "n_categories": 5, "window_edges": [12.0, 24.0, 36.0],
                "horizon": 48.0, "d_model": D_MODEL, "n_heads": 2, "d_feedforward": 8,
                "dropout": 0.0, **backbone,
            },
        )  # fmt: skip

    return make


@pytest.fixture
def batch(make_batch):
    return make_batch(n_rows=8, mean_events=30).to("cpu", torch.float32)


# ---- mixture() ---------------------------------------------------------------------------------


def test_objectives_have_names():
    assert sorted(OBJECTIVES) == ["contrastive", "cross_modal", "forecast", "masked"]
    for name, make in OBJECTIVES.items():
        assert mixture(name) == ((make(), 1.0),)
        assert make().name == name


def test_a_mixture_keeps_its_order_and_weights():
    own = Contrastive(temperature=0.5)
    assert mixture({own: 0.1, "masked": 2}) == ((own, 0.1), (MaskedReconstruction(), 2.0))
    assert mixture(own) == ((own, 1.0),)
    assert mixture({"masked": np.float32(0.5)}) == ((MaskedReconstruction(), 0.5),)
    assert mixture({"masked": np.int64(3)}) == ((MaskedReconstruction(), 3.0),)


@pytest.mark.parametrize("wrong, message", [
    ("maskd", r"Expected objective to be one of \['contrastive', 'cross_modal',.*'maskd'"),
    (MaskedReconstruction, "Expected objective to be one of.*Got <class"),
    (3, "Expected objective to be one of.*Got 3"),
    (None, "Expected objective to be one of.*Got None"),
    ({}, "Expected at least one objective. Got an empty mapping."),
    ({"masked": 0}, "Expected weights of objectives to be positive numbers. Got 0 for 'masked'"),
    ({"masked": -1.0}, "positive numbers. Got -1.0"),
    ({"masked": float("nan")}, "positive numbers. Got nan"),
    ({"masked": float("inf")}, "positive numbers. Got inf"),
    ({"masked": True}, "positive numbers. Got True"),
    ({"masked": "much"}, "positive numbers. Got 'much'"),
    ({"masked": 1, MaskedReconstruction(code=0): 1}, "different names. Got .*give one of them"),
    (CountEvents(name=None), "Expected an objective to have a name"),
    (CountEvents(name="a.b"), "letters, digits and underscores.*Got 'a.b': choose another"),
    (CountEvents(name="keys"), "does not use itself. Got 'keys'"),
])  # fmt: skip
def test_what_is_no_mixture_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        mixture(wrong)


# ---- the network -------------------------------------------------------------------------------


def test_parts_are_weighted_and_their_sum_is_the_loss(make_net, batch):
    weights = {"masked": 2.0, "contrastive": 0.1, "forecast": 0.5}
    net, plain = make_net(weights), make_net(dict.fromkeys(weights, 1.0))
    parts = []
    for one in (net, plain):
        torch.manual_seed(1)
        parts.append(one(batch))
    weighted, unweighted = parts
    assert set(weighted) == {
        "masked_value", "masked_category", "masked_code", "masked_presence", "masked_summary",
        "contrastive", "forecast_value", "forecast_presence",
    }  # fmt: skip
    for name, loss in weighted.items():
        torch.testing.assert_close(loss, weights[name.split("_")[0]] * unweighted[name])
    total = SumOfParts()(weighted, None)
    torch.testing.assert_close(total, sum(weighted.values()))


@pytest.mark.parametrize("name", sorted(OBJECTIVES.keys() - {"cross_modal"}))  # of modalities
@pytest.mark.parametrize("settings", [
    {"patching": "dual"}, {"patching": "time"}, {"patching": "feature"},
    {"max_feature_patches": 3}, {"n_fixed_codes": 4},
], ids=str)  # fmt: skip
def test_every_objective_trains_every_kind_of_network(make_net, batch, name, settings):
    net = make_net(name, **settings)
    torch.manual_seed(1)
    loss = SumOfParts()(net(batch), None)
    loss.backward()
    assert loss.isfinite() and loss > 0
    gradients = [p.grad for p in net.parameters() if p.grad is not None]
    assert all(g.isfinite().all() for g in gradients)
    assert any(p.grad is not None and p.grad.any() for p in net.backbone.parameters())


NETWORKS = [
    {"patching": "dual"},
    {"patching": "time"},
    {"patching": "feature"},
    {"patching": "dual", "max_feature_patches": 3},
    {"patching": "feature", "max_feature_patches": 3},
]
POOLED = [
    (how, settings)
    for how in POOLINGS
    for settings in NETWORKS
    if how != "codes" or settings["patching"] != "time"  # where codes have tokens
]


@pytest.mark.parametrize("how, settings", POOLED, ids=str)
def test_every_pooling_gives_its_width(make_net, batch, how, settings):
    net = make_net("contrastive", pooling=how, **settings)
    n_places = settings.get("max_feature_patches", 6)
    others = 2 if settings["patching"] == "dual" else 1
    width = {"codewise": D_EMBEDDING, "codes": D_MODEL * (n_places + others)}.get(how, D_MODEL)
    embedded = net.embed(batch)
    assert embedded.shape == (8, width) and net.pooling.d_out == width
    assert embedded.isfinite().all()  # the third row has no events
    assert net.coordinates.center.shape == (width,)
    assert net.coordinates.axes.shape == ((width,) if how == "codes" else (width, width))
    seen = net.encode(batch)[1]
    assert seen.shape == (8, D_EMBEDDING if how == "codes" else width)
    SumOfParts()(net(batch), None).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("how", POOLINGS)
def test_an_embedding_depends_on_its_own_row_alone(make_net, batch, how):
    net = make_net(pooling=how)
    other = replace(batch, value=torch.where(batch.row == 3, batch.value, 1 - batch.value))
    one, two = net.embed(batch), net.embed(other)
    torch.testing.assert_close(one[3], two[3])
    assert not torch.allclose(one[0], two[0])


def test_an_objective_of_ones_own_is_trained(make_net, batch):
    net = make_net({CountEvents(): 0.5, "masked": 1.0})
    parts = net(batch)
    assert {"count", "count_twice", "masked_value"} <= set(parts)
    torch.testing.assert_close(parts["count_twice"], 2 * parts["count"])

    alone = make_net(CountEvents())
    before = copy.deepcopy(alone.state_dict())
    optimizer = torch.optim.Adam(alone.parameters(), lr=0.01)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = SumOfParts()(alone(batch), None)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert not torch.equal(before["backbone.feature_patches.scale.weight"],
                           alone.backbone.feature_patches.scale.weight)  # fmt: skip


@pytest.mark.parametrize("objective", [Forecast(), Contrastive(), MaskedReconstruction()],
                         ids=lambda objective: objective.name)  # fmt: skip
def test_training_lowers_the_loss(make_net, batch, objective):
    net = make_net(objective)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = SumOfParts()(net(batch), None)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-10:]) < 0.9 * np.mean(losses[:5])
