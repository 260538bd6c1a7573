"""One token for each event: what it is made of, and what must not leak."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tawt_sklearn.nn.backbone import DualPatchBackbone
from tawt_sklearn.nn.event_tokens import since_same_code

EDGES = [12.0, 24.0, 36.0]


def backbone(n_codes=7, n_categories=0, **settings) -> DualPatchBackbone:
    torch.manual_seed(1)
    settings = {"d_model": 16, "n_heads": 2, "d_feedforward": 32, "dropout": 0.0} | settings
    return DualPatchBackbone(
        n_codes=n_codes,
        n_categories=n_categories,
        window_edges=EDGES,
        horizon=48.0,
        patching="event",
        **settings,
    ).eval()


def test_the_time_since_the_same_code_equals_a_loop(make_batch):
    batch = make_batch(n_rows=6, n_codes=4, mean_events=20)
    gap, again = since_same_code(batch)
    last: dict[tuple[int, int], float] = {}
    for event in range(batch.n_events):
        key = (int(batch.row[event]), int(batch.code[event]))
        assert bool(again[event]) == (key in last)
        want = float(batch.time[event]) - last.get(key, float(batch.time[event]))
        assert float(gap[event]) == pytest.approx(want, abs=1e-5)
        last[key] = float(batch.time[event])


def test_every_event_code_and_window_is_told_of(make_batch):
    batch = make_batch(n_categories=3, n_static_numeric=2, cardinalities=(3,))
    net = backbone(n_categories=3, n_static_numeric=2, static_cardinalities=(3,))
    encoded = net(batch)
    assert encoded.cls.shape == (5, 16)
    assert encoded.static.tokens.shape == (5, 3, 16)
    assert encoded.event.shape == (batch.n_events, 16)
    assert encoded.feature.tokens.shape == encoded.unmixed.tokens.shape == (5, 7, 16)
    assert encoded.temporal.tokens.shape == (5, 4, 16)
    occurs = torch.zeros(5, 7, dtype=torch.bool)
    occurs[batch.row, batch.code] = True
    torch.testing.assert_close(encoded.feature.timed, occurs)


def test_patches_are_means_of_their_events(make_batch):
    batch = make_batch()
    net = backbone()
    encoded, pool = net(batch), net.pooled_events
    row, code = int(batch.row[0]), int(batch.code[0])
    own = (batch.row == row) & (batch.code == code)
    count = own.sum().float().log1p().view(1)
    want = encoded.event[own].mean(0) + pool.count_of_code(count)
    torch.testing.assert_close(encoded.feature.tokens[row, code], want)
    window = torch.bucketize(batch.time, torch.tensor(EDGES), right=True)
    own = (batch.row == row) & (window == window[0])
    want = encoded.event[own].mean(0) + pool.count_of_window(own.sum().float().log1p().view(1))
    torch.testing.assert_close(
        encoded.temporal.tokens[row, window[0]], want + pool.place[window[0]]
    )


@pytest.mark.parametrize("attention_window", [None, 3])
@pytest.mark.parametrize("max_feature_patches", [128, 4])
def test_rows_do_not_see_each_other(make_batch, max_feature_patches, attention_window):
    batch = make_batch(n_categories=3, n_static_numeric=1)
    net = backbone(
        n_categories=3,
        n_static_numeric=1,
        max_feature_patches=max_feature_patches,
        attention_window=attention_window,
    )
    whole = net(batch).cls
    for row in range(5):
        torch.testing.assert_close(net(batch.part(row, row + 1)).cls, whole[[row]])


def test_hidden_events_leave_no_trace(make_batch):
    batch = make_batch(n_rows=6, mean_events=30, n_categories=2)
    torch.manual_seed(0)
    visible = torch.rand(batch.n_events) < 0.5
    net = backbone(n_categories=2)
    altered = replace(batch, value=torch.where(visible, batch.value, 99.0))
    torch.testing.assert_close(net(batch.keep(visible)).cls, net(altered.keep(visible)).cls)
    assert not torch.allclose(net(batch).cls, net(altered).cls)


def test_rows_without_events_are_encoded(make_batch):
    batch = make_batch(mean_events=0)
    encoded = backbone(n_categories=2)(batch)
    assert encoded.event.shape == (0, 16) and encoded.cls.isfinite().all()
    torch.testing.assert_close(encoded.cls[0], encoded.cls[1])


def test_an_event_sees_no_other_beyond_its_window(make_batch):
    """In one layer, but for what is told by [CLS], which everything sees."""
    batch = make_batch(n_rows=3, mean_events=40)
    batch = batch.part(0, 1)
    altered = replace(batch, value=batch.value.clone())
    altered.value[-1] += 5.0
    near = backbone(n_layers=1, attention_window=4)
    change = (near(batch).event - near(altered).event).abs().amax(1)
    assert (change[:-5] == 0).all() and (change[-5:] > 0).any()
    far = backbone(n_layers=1)
    assert ((far(batch).event - far(altered).event).abs().amax(1) > 0).all()


def test_every_weight_has_a_gradient(make_batch):
    batch = make_batch(n_categories=3, n_static_numeric=1, cardinalities=(3,))
    net = backbone(n_categories=3, n_static_numeric=1, static_cardinalities=(3,)).train()
    encoded = net(batch)
    told = (encoded.cls, encoded.feature.tokens, encoded.temporal.tokens)
    sum(tokens.square().sum() for tokens in told).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name
