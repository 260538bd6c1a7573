"""Fusion of events and what stands beside them, and the tokens of items."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from tawt_sklearn.nn import beside
from tawt_sklearn.nn.backbone import DualPatchBackbone
from tawt_sklearn.nn.beside import Beside, ItemTokens
from tawt_sklearn.nn.fusion import FUSIONS
from tawt_sklearn.nn.items import Items
from tawt_sklearn.nn.pooling import Readout

D = 8
BACKBONE = {
    "n_codes": 7,
    "n_categories": 0,
    "window_edges": [12.0, 24.0, 36.0],
    "horizon": 48.0,
    "d_model": D,
    "n_heads": 2,
    "n_layers": 1,
    "dropout": 0.0,
}


class Numbers:
    """A modality of one number, two tokens each."""

    freeze = False

    def build(self, d_model: int) -> nn.Module:
        return nn.Sequential(nn.Linear(1, 2 * d_model), nn.Unflatten(1, (2, d_model)))


class Net(nn.Module):
    def __init__(self, fusion: str, dropout: float = 0.0) -> None:
        super().__init__()
        self.backbone = DualPatchBackbone(**BACKBONE)
        self.readout = Readout(7, self.backbone.places.n_usual, D, "dual")
        self.beside = Beside(
            {"number": Numbers(), "other": Numbers()}, fusion, dropout, self.readout.d_out, BACKBONE
        )

    def forward(self, batch):
        return self.beside(batch, self.backbone, self.readout)[1]


def items(row: list[int], time: list[float] | None = None) -> Items:
    content = torch.arange(len(row), dtype=torch.float32).unsqueeze(1) + 1
    times = torch.full((len(row),), torch.nan) if time is None else torch.tensor(time)
    return Items(torch.tensor(row), times, content)


@pytest.fixture(params=sorted(FUSIONS))
def net(request) -> Net:
    torch.manual_seed(0)
    return Net(request.param).eval()


@pytest.fixture
def batch(make_batch):
    return replace(
        make_batch(), beside={"number": items([0, 2, 2, 3]), "other": items([1, 4], [5.0, 30.0])}
    )


def test_each_row_by_itself(net, batch):
    whole = net(batch)
    assert whole.shape == (5, net.beside.d_out)
    for row in range(5):
        torch.testing.assert_close(net(batch.part(row, row + 1)), whole[[row]])


def test_rows_that_fill_up_change_nothing(net, batch):
    torch.testing.assert_close(net(batch.padded(9))[:5], net(batch))


def test_what_stands_beside_matters(net, batch):
    changed = replace(batch, beside={**batch.beside, "number": items([0, 2])})
    same = (net(changed) == net(batch)).all(dim=1)
    assert same.tolist() == [True, True, False, False, True]


def test_nothing_beside_is_one_learned_token(net, batch):
    gone = net(replace(batch, beside={}))
    torch.testing.assert_close(gone[[1]], net(replace(batch.part(1, 2), beside={})))
    assert torch.isfinite(gone).all()


def test_everything_learns(net, batch):
    net.train()
    net(batch).square().sum().backward()
    learned = {name for name, p in net.beside.named_parameters() if p.grad is not None}
    missing = {name for name, _ in net.beside.named_parameters()} - learned
    # nothing in "number" has a time, and its time encoding rests
    assert not {name for name in missing if "time_encoding" not in name}


@pytest.mark.parametrize("fusion", sorted(FUSIONS))
def test_time_of_an_item(fusion, make_batch):
    """It joins the tokens of the events: what is said depends on when it was."""
    torch.manual_seed(0)
    net, batch = Net(fusion).eval(), make_batch()
    early, late = (
        net(replace(batch, beside={"number": items([0], [time])})) for time in (1.0, 40.0)
    )
    assert (early[0] != late[0]).any()
    torch.testing.assert_close(early[1:], late[1:])


@pytest.mark.parametrize("frozen", [False, True])
def test_items_go_through_their_network_a_few_at_a_time(frozen, monkeypatch):
    """Where nothing is kept for gradients, and with the same result."""
    monkeypatch.setitem(beside.AT_ONCE, "cpu", 16)
    torch.manual_seed(0)
    tokens, seen = ItemTokens(Numbers(), D, 1.0, 48.0, freeze=frozen), []
    tokens.encoder.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    many = items(sorted(k % 5 for k in range(40)))
    learning = tokens.train()(many, 5)
    assert seen == ([16, 16, 16] if frozen else [48])  # filled up
    seen.clear()
    told = tokens.eval()(many, 5)
    assert seen == [16, 16, 16]
    torch.testing.assert_close(told.pooled, learning.pooled)
    seen.clear()
    tokens.double()(many.to("cpu", torch.float64), 5)
    assert seen == [16, 16, 8]


def test_content_stays_in_its_precision_until_it_is_looked_at():
    moved = items([0, 1], [1.0, 2.0]).to("cpu", torch.float64)
    assert moved.time.dtype == torch.float64 and moved.content.dtype == torch.float32
    (part,) = moved.in_parts(2, torch.float64)
    assert part.dtype == torch.float64


def test_gates_sum_to_one_and_start_even(make_batch):
    torch.manual_seed(0)
    net = Net("gated")
    weights = net.beside.weights(make_batch(), net.backbone, net.readout)
    torch.testing.assert_close(weights, torch.full((5, 3), 1 / 3))
    assert Net("concat").beside.weights(make_batch(), net.backbone, net.readout) is None


def test_dropout_hides_items_in_training_only(batch):
    torch.manual_seed(0)
    net = Net("concat", dropout=0.9)
    there = [net.beside.seen(batch)[0].there.sum() for _ in range(20)]
    assert min(there) == 0 and sum(there) < 20
    assert net.eval().beside.seen(batch)[0].there.tolist() == [True, False, True, True, False]


def test_frozen_weights_stay_and_do_not_drop():
    class Modality(Numbers):
        def build(self, d_model):
            net = nn.Sequential()
            net.backbone = nn.Sequential(nn.Linear(1, d_model), nn.Dropout(0.5))
            return net

    tokens = ItemTokens(Modality(), D, 1.0, 48.0, freeze=True).train()
    assert not any(p.requires_grad for p in tokens.encoder.backbone.parameters())
    assert not tokens.encoder.backbone.training and tokens.training
    assert tokens.missing.requires_grad


# ---- items -------------------------------------------------------------------------------------


def test_parts_of_items():
    given = items([0, 2, 2, 3], [1.0, 2.0, 3.0, float("nan")])
    part = given.part(2, 4)
    assert part.row.tolist() == [0, 0, 1] and part.content.flatten().tolist() == [2, 3, 4]
    assert given.of_rows(torch.tensor([True, True, False, True])).row.tolist() == [0, 3]


def test_between_leaves_out_what_was_at_another_time():
    given = items([0, 0, 1], [1.0, 9.0, float("nan")])
    start, end = torch.zeros(2), torch.full((2,), 5.0)
    assert given.between(start, end).content.flatten().tolist() == [1, 3]


def test_padding_of_items():
    padded = items([0, 2, 2]).padded(2)
    assert padded.row.tolist() == [0, 2, 2, -1] and len(padded.content) == 4
    assert len(items([0, 1]).padded(2)) == 2


def test_content_of_several_tensors():
    given = Items(torch.tensor([0, 1]), torch.zeros(2), {"a": torch.ones(2, 3), "b": torch.ones(2)})
    moved = given.to("cpu", torch.float64).part(1, 2)
    assert moved.content["a"].shape == (1, 3) and moved.content["b"].dtype == torch.float32
