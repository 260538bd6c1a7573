"""Patches and the backbone: shapes, invariances, and what must not leak."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from tawt_sklearn.nn.backbone import DualPatchBackbone, RowDropout
from tawt_sklearn.nn.batch import EventBatch
from tawt_sklearn.nn.hiding import HideCodesAndWindows
from tawt_sklearn.nn.model import DualPatchPredictor
from tawt_sklearn.nn.patching import Patches, Places, TemporalPatches, assign_places
from tawt_sklearn.nn.pooling import POOLINGS, Pooling, Readout, flat_codes, mean_token

EDGES = [12.0, 24.0, 36.0]


def backbone(n_codes=7, n_categories=0, **settings) -> DualPatchBackbone:
    torch.manual_seed(1)
    settings = {"d_model": 16, "n_heads": 2, "d_feedforward": 32, "dropout": 0.0} | settings
    return DualPatchBackbone(
        n_codes=n_codes, n_categories=n_categories, window_edges=EDGES, horizon=48.0, **settings
    ).eval()


def rows(batch: EventBatch, index: list[int]) -> EventBatch:
    """The batch that has these rows in this order."""
    chosen = [(batch.row == k).nonzero().squeeze(1) for k in index]
    position = torch.cat(chosen)
    events = {
        name: getattr(batch, name)[position]
        for name in ("code", "value", "observed", "category", "time", "age")
    }
    row = torch.cat([torch.full((len(c),), new) for new, c in enumerate(chosen)])
    return EventBatch(
        row=row,
        **events,
        static_numeric=batch.static_numeric[index],
        static_category=batch.static_category[index],
    )


@pytest.mark.parametrize("patching", ["dual", "time", "feature"])
def test_every_kind_of_patch_has_its_tokens(make_batch, patching):
    batch = make_batch(n_static_numeric=2, cardinalities=(3,))
    encoded = backbone(n_static_numeric=2, static_cardinalities=(3,), patching=patching)(batch)
    assert encoded.cls.shape == (5, 16)
    assert encoded.static.tokens.shape == (5, 3, 16)
    if patching == "time":
        assert encoded.feature is None
    else:
        assert encoded.feature.tokens.shape == (5, 7, 16)
    if patching == "feature":
        assert encoded.temporal is None
    else:
        assert encoded.temporal.tokens.shape == (5, 4, 16)
    assert encoded.cls.isfinite().all()


@pytest.mark.parametrize("max_feature_patches", [128, 4])
def test_rows_do_not_see_each_other(make_batch, max_feature_patches):
    batch = make_batch(n_categories=3, n_static_numeric=1)
    net = backbone(n_categories=3, n_static_numeric=1, max_feature_patches=max_feature_patches)
    whole = net(batch).cls
    torch.testing.assert_close(net(rows(batch, [4, 0])).cls, whole[[4, 0]])
    for row in range(5):  # alone, too: row 2 has no events, and so no code in any place
        torch.testing.assert_close(net(rows(batch, [row])).cls, whole[[row]])


def test_a_row_without_events_is_encoded(make_batch):
    batch = make_batch(mean_events=0)
    assert batch.n_events == 0
    encoded = backbone(n_categories=2)(batch)
    assert encoded.cls.isfinite().all()
    torch.testing.assert_close(encoded.cls[0], encoded.cls[1])


def test_hidden_events_leave_no_trace(make_batch):
    """Whatever hidden events held, the result is that of histories without them."""
    batch = make_batch(n_rows=6, mean_events=30, n_categories=2)
    torch.manual_seed(0)
    visible = torch.rand(batch.n_events) < 0.5
    net = backbone(n_categories=2)
    altered = replace(batch, value=torch.where(visible, batch.value, 99.0))
    torch.testing.assert_close(net(batch.keep(visible)).cls, net(altered.keep(visible)).cls)
    assert not torch.allclose(net(batch).cls, net(altered).cls)


def test_the_unit_of_time_does_not_matter(make_batch):
    batch = make_batch(n_categories=2)
    minutes = replace(batch, time=batch.time * 60, age=batch.age * 60)
    torch.manual_seed(1)
    in_minutes = DualPatchBackbone(
        n_codes=7, n_categories=2, window_edges=[60 * e for e in EDGES], horizon=60 * 48.0,
        d_model=16, n_heads=2, d_feedforward=32, dropout=0.0,
    )  # fmt: skip
    torch.testing.assert_close(
        in_minutes(minutes).cls, backbone(n_categories=2)(batch).cls, atol=1e-4, rtol=1e-4
    )


def test_places_without_a_code_change_nothing(make_batch):
    """Histories of a few codes are the same with room for four codes and for six."""
    batch = make_batch(n_codes=4, n_categories=2)
    four, six = (backbone(n_categories=2, max_feature_patches=n)(batch) for n in (4, 6))
    torch.testing.assert_close(four.cls, six.cls)
    torch.testing.assert_close(mean_token(four.feature), mean_token(six.feature))


def test_the_mean_leaves_padding_out():
    tokens = torch.tensor([[[1.0], [3.0], [99.0]], [[5.0], [99.0], [99.0]]])
    filled = torch.tensor([[True, True, False], [False, False, False]])
    assert mean_token(Patches(tokens, filled=filled)).tolist() == [[2.0], [0.0]]


def test_dropout_draws_one_mask_for_a_row():
    torch.manual_seed(0)
    dropout, x = RowDropout(0.25), torch.ones(400, 3, 50)
    dropped = dropout(x)
    torch.testing.assert_close(dropped.unique(), torch.tensor([0.0, 1 / 0.75]))
    assert torch.equal(dropped[:, 0], dropped[:, 2]) and not torch.equal(dropped[0], dropped[1])
    assert abs(dropped.mean() - 1) < 0.02
    assert dropout.eval()(x) is x


def test_the_time_axis_matters(make_batch):
    """Reversing the order of the values of a row changes what the network says."""
    batch = make_batch()
    flipped = replace(batch, value=batch.value.flip(0), observed=batch.observed.flip(0))
    assert not torch.allclose(backbone()(batch).cls, backbone()(flipped).cls)


def test_codes_have_fixed_places_when_they_fit():
    row, code = torch.tensor([0, 0, 1]), torch.tensor([2, 0, 1])
    place, place_code = assign_places(row, code, 2, 3, Places.of(3, max_patches=5))
    assert torch.equal(place, code)
    assert place_code.tolist() == [[0, 1, 2]]


def test_with_many_codes_places_go_to_the_most_frequent_ones_of_the_row():
    row, code = torch.tensor([0, 0, 0, 0, 2]), torch.tensor([9, 4, 7, 4, 5])
    place, place_code = assign_places(row, code, 3, 10, Places.of(10, max_patches=2))
    assert place_code.tolist() == [[4, 7], [-1, -1], [5, -1]]
    assert place.tolist() == [-1, 0, 1, 0, 0]


def test_codes_that_came_later_share_the_free_places():
    row, code = torch.tensor([0, 0, 0, 0, 2]), torch.tensor([9, 1, 4, 4, 5])
    places = Places.of(10, max_patches=2, n_fixed=3)
    assert places == (3, 2) and places.n_usual == 3
    place, place_code = assign_places(row, code, 3, 10, places)
    assert place_code.tolist() == [[0, 1, 2, 4, 9], [0, 1, 2, -1, -1], [0, 1, 2, 5, -1]]
    assert place.tolist() == [4, 1, 3, 3, 3]
    place, place_code = assign_places(row, code, 3, 10, Places(n_fixed=3, n_free=1))
    assert place_code.tolist() == [[0, 1, 2, 4], [0, 1, 2, -1], [0, 1, 2, 5]]
    assert place.tolist() == [-1, 1, 3, 3, 3]


def test_without_later_codes_there_is_no_free_place():
    row, code = torch.tensor([0, 0]), torch.tensor([2, 1])
    place, place_code = assign_places(row, code, 1, 10, Places.of(10, max_patches=2, n_fixed=3))
    assert torch.equal(place, code)
    assert place_code.tolist() == [[0, 1, 2]]


def grown(old: nn.Module, new: nn.Module) -> None:
    """Give a network for more codes the weights of one for fewer; new codes keep their own."""
    weights = new.state_dict()
    for name, weight in old.state_dict().items():
        weights[name][tuple(slice(n) for n in weight.shape)] = weight
    new.load_state_dict(weights)


def before_and_after_growth(dtype=torch.float32, **settings):
    """Backbones and poolings of five codes, and with three more codes and the same weights."""
    settings = {"n_categories": 3, "n_static_numeric": 1} | settings
    old = backbone(n_codes=5, **settings)
    new = backbone(n_codes=8, n_fixed_codes=5, **settings)
    grown(old, new)
    patching = settings.get("patching", "dual")
    poolings = []
    for how in POOLINGS:
        if how == "codes" and patching == "time":
            continue
        both = [
            Pooling(how, V, net.places.n_usual, 16, patching, 6).to(dtype)
            for V, net in ((5, old), (8, new))
        ]
        grown(*both)
        poolings.append(both)
    return old.to(dtype), new.to(dtype), poolings


@pytest.mark.parametrize("patching", ["dual", "time", "feature"])
@pytest.mark.parametrize("n_rows", [1, 5])
def test_a_grown_vocabulary_changes_no_bit_where_nothing_is_new(make_batch, patching, n_rows):
    batch = rows(
        make_batch(n_codes=5, n_categories=3, n_static_numeric=1, mean_events=30),
        list(range(n_rows)),
    )
    old, new, poolings = before_and_after_growth(patching=patching)
    before, after = old(batch), new(batch)
    assert torch.equal(before.cls, after.cls)
    assert after.feature is None or after.feature.filled is None  # no place is padding
    for name in ("static", "feature", "temporal", "unmixed"):
        if getattr(before, name) is not None:
            assert torch.equal(getattr(before, name).tokens, getattr(after, name).tokens)
    for pool_old, pool_new in poolings:
        assert torch.equal(pool_old(before), pool_new(after)), pool_old.how


@pytest.mark.parametrize("patching", ["dual", "time", "feature"])
def test_rows_without_new_codes_do_not_feel_those_of_other_rows(make_batch, patching):
    batch = make_batch(n_codes=8, n_categories=3, n_static_numeric=1, n_rows=7, dtype=torch.float64)
    plain = [0, 2, 3, 5]  # row 2 has no events
    known = ~torch.isin(batch.row, torch.tensor(plain)) | (batch.code < 5)
    batch = batch.keep(known)
    assert (batch.code >= 5).any()
    old, new, poolings = before_and_after_growth(torch.float64, patching=patching)
    before, after = old(rows(batch, plain)), new(batch)

    def same(a, b):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)

    same(before.cls, after.cls[plain])
    if patching != "time":
        assert after.feature.tokens.shape[1] == 8
        same(before.feature.tokens, after.feature.tokens[plain][:, :5])
    if patching != "feature":
        same(before.temporal.tokens, after.temporal.tokens[plain])
    for pool_old, pool_new in poolings:
        same(pool_old(before), pool_new(after)[plain])


def test_a_new_code_takes_part_where_it_occurs(make_batch):
    batch = make_batch(n_codes=5, n_categories=3, n_static_numeric=1)
    _, new, _ = before_and_after_growth()
    first = int((batch.row == 0).nonzero()[0])
    code = batch.code.clone()
    code[first] = 6
    with_new, without = new(replace(batch, code=code)), new(batch)
    assert not torch.allclose(with_new.cls[0], without.cls[0])
    assert with_new.feature.filled.tolist()[0] == [True] * 6 + [False] * 2
    assert with_new.feature.code[0, 5] == 6


def test_codes_side_by_side_stand_in_their_own_places(make_batch):
    """With free places, too: zeros where a code of the first ones does not occur."""
    batch = make_batch(n_codes=9, mean_events=5)
    encoded = backbone(n_codes=9, max_feature_patches=4)(batch)
    flat = flat_codes(encoded, 4)
    assert flat.shape == (5, 6 * 16)
    torch.testing.assert_close(flat[:, 16:32], encoded.temporal.tokens.mean(1))
    for row in range(5):
        present = sorted(set(batch.code[batch.row == row].tolist()))[:4]
        for code in range(4):
            want = torch.zeros(16)
            if code in present:
                want = encoded.feature.tokens[row, present.index(code)]
            assert torch.equal(flat[row, 16 * (2 + code) : 16 * (3 + code)], want)


@pytest.mark.parametrize("how", ["mean", "max", "attention"])
def test_pooling_is_over_the_patches_that_there_are(make_batch, how):
    """Against a loop; a row without any patch gets zeros, and its gradient is finite."""
    batch = make_batch(n_codes=9)
    encoded = backbone(n_codes=9, max_feature_patches=4, patching="feature")(batch)
    torch.manual_seed(0)
    pool = Pooling(how, 9, 4, 16, "feature", 8)
    pooled = pool(encoded)
    for row in range(5):
        tokens = encoded.feature.tokens[row, encoded.feature.filled[row]]
        want = torch.zeros(16)
        if len(tokens) and how == "attention":
            want = ((tokens @ pool.query).softmax(0).unsqueeze(1) * tokens).sum(0)
        elif len(tokens):
            want = tokens.mean(0) if how == "mean" else tokens.amax(0)
        torch.testing.assert_close(pooled[row], want)
    assert not pooled[2].any()
    pooled.sum().backward()


@pytest.mark.parametrize("max_feature_patches", [128, 4])
def test_rows_of_padding_change_nothing(make_batch, max_feature_patches):
    batch = make_batch(n_categories=2, n_static_numeric=2, cardinalities=(3,))
    net = backbone(
        n_categories=2, n_static_numeric=2, static_cardinalities=(3,),
        max_feature_patches=max_feature_patches,
    )  # fmt: skip
    padded = batch.padded(8)
    assert len(padded) == 8 and padded.n_events == batch.n_events
    assert padded.static_numeric[5:].isnan().all() and not padded.static_category[5:].any()
    whole = net(padded)
    torch.testing.assert_close(whole.cls[:5], net(batch).cls)
    assert whole.cls.isfinite().all()
    assert batch.padded(5) is batch and batch.padded(2) is batch
    assert len(make_batch().padded(9).static_category) == 9  # no static columns at all


def test_a_window_counts_each_code_once():
    """Sixty equal heart rates in a window stand for as much as one, apart from their number."""
    torch.manual_seed(0)
    patches = TemporalPatches(3, 0, 8, torch.tensor([10.0]), horizon=20.0)

    def batch(n):
        return EventBatch(
            row=torch.zeros(n, dtype=torch.int64),
            code=torch.ones(n, dtype=torch.int64),
            value=torch.full((n,), 0.7),
            observed=torch.ones(n, dtype=torch.bool),
            category=torch.zeros(n, dtype=torch.int64),
            time=torch.full((n,), 3.0),
            age=torch.full((n,), 17.0),
            static_numeric=torch.zeros(1, 0),
            static_category=torch.zeros(1, 0, dtype=torch.int64),
        )

    one, many = (patches.bag(b, patches.window(b.time)) for b in (batch(1), batch(60)))
    torch.testing.assert_close(one, many)
    assert one[0].abs().sum() > 0 and one[1].abs().sum() == 0


def test_hiding_keeps_its_mean_rates_and_hides_whole_codes():
    hide = HideCodesAndWindows(50, EDGES, code_rate=0.2, window_rate=0.0)
    n = 50 * 400
    batch = EventBatch(
        row=torch.arange(400).repeat_interleave(50),
        code=torch.arange(50).repeat(400),
        value=torch.zeros(n),
        observed=torch.ones(n, dtype=torch.bool),
        category=torch.zeros(n, dtype=torch.int64),
        time=torch.zeros(n),
        age=torch.zeros(n),
        static_numeric=torch.zeros(400, 0),
        static_category=torch.zeros(400, 0, dtype=torch.int64),
    )
    torch.manual_seed(0)
    visible = hide.visible(batch).view(400, 50)
    # Rates are uniform in (0, .4): mean .2, standard error of the mean .4 / sqrt(12 * 400).
    assert abs((~visible).float().mean() - 0.2) < 4 * 0.4 / (12 * 400) ** 0.5
    assert (visible.float().mean(1) > 0.95).any()  # some rows are seen whole
    both = replace(batch, code=torch.zeros(n, dtype=torch.int64))
    per_row = hide.visible(both).view(400, 50)
    assert (per_row == per_row[:, :1]).all()  # all events of a code share its fate


def test_hiding_hides_whole_windows_of_single_rows():
    n_rows, times = 300, torch.tensor([1.0, 13.0, 13.5, 40.0])
    n = n_rows * len(times)
    batch = EventBatch(
        row=torch.arange(n_rows).repeat_interleave(len(times)),
        code=torch.arange(n) % 7,
        value=torch.zeros(n),
        observed=torch.ones(n, dtype=torch.bool),
        category=torch.zeros(n, dtype=torch.int64),
        time=times.repeat(n_rows),
        age=torch.zeros(n),
        static_numeric=torch.zeros(n_rows, 0),
        static_category=torch.zeros(n_rows, 0, dtype=torch.int64),
    )
    torch.manual_seed(0)
    hide = HideCodesAndWindows(7, EDGES, code_rate=0.0, window_rate=0.4)
    visible = hide.visible(batch).view(n_rows, len(times))
    assert torch.equal(visible[:, 1], visible[:, 2])  # of the same window
    assert not torch.equal(visible[:, 0], visible[:, 1])
    assert len(visible.unique(dim=0)) == 8  # every subset of the three windows in some row
    assert abs((~visible).float().mean() - 0.4) < 0.07
    # Rates differ between rows: with .4 for each, 36 % would lose none of two windows.
    assert visible[:, [0, 3]].all(1).float().mean() > 0.38


def test_only_training_hides(make_batch):
    batch = make_batch(mean_events=40)
    net = DualPatchPredictor(
        prior=[0.0, 0.0], code_dropout=0.5, window_dropout=0.5, head_dropout=0.0,
        backbone={"n_codes": 7, "n_categories": 0, "window_edges": EDGES, "horizon": 48.0,
                  "d_model": 16, "n_heads": 2, "dropout": 0.0},
    )  # fmt: skip
    nn.init.normal_(net.head.layers[-1].weight)
    assert torch.equal(net.eval()(batch), net(batch))
    assert not torch.allclose(net.train()(batch), net(batch))


def test_every_parameter_learns(make_batch):
    batch = make_batch(
        n_rows=16, mean_events=40, n_categories=2, n_static_numeric=1, cardinalities=(3,)
    )
    torch.manual_seed(0)
    net = DualPatchPredictor(
        prior=[-0.5, -1.0],
        code_dropout=0.2,
        window_dropout=0.3,
        head_dropout=0.1,
        backbone={
            "n_codes": 7,
            "n_categories": 2,
            "window_edges": EDGES,
            "horizon": 48.0,
            "n_static_numeric": 1,
            "static_cardinalities": (3,),
            "d_model": 16,
            "n_heads": 2,
        },
    )
    assert torch.equal(net.eval()(batch)[0], torch.tensor([-0.5, -1.0]))  # where it starts
    nn.init.normal_(net.head.layers[-1].weight)  # at zero nothing before it has a gradient
    net.train()(batch).square().sum().backward()
    idle = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


def test_the_readout_tells_codes_apart(make_batch):
    """Exchanging two feature tokens changes the codewise sum, not the mean."""
    encoded = backbone()(make_batch())
    tokens = encoded.feature.tokens
    exchanged = torch.cat([tokens[:, 1:2], tokens[:, :1], tokens[:, 2:]], dim=1)
    other = encoded._replace(feature=encoded.feature._replace(tokens=exchanged))
    torch.manual_seed(0)
    readout = Readout(n_codes=7, n_places=7, d_model=16, patching="dual", d_codewise=8)
    torch.testing.assert_close(readout(encoded)[:, :48], readout(other)[:, :48])
    assert not torch.allclose(readout(encoded)[:, 48:56], readout(other)[:, 48:56])
    # The second sum is of the patches before mixing, which are as they were.
    torch.testing.assert_close(readout(encoded)[:, 56:], readout(other)[:, 56:])
