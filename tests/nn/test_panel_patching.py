"""Patches of panels against loops, and networks that are to see series and nothing beside them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tawt_sklearn.nn.backbone import DualPatchBackbone
from tawt_sklearn.nn.model import DualPatchPredictor
from tawt_sklearn.nn.panel_patching import (
    FINEST,
    ChannelPatches,
    PanelShape,
    StridedPatches,
    Strides,
)
from tawt_sklearn.nn.panel_statistics import N_BINS, PANEL_STATISTICS, channel_statistics

from .panels import LENGTHS, make_panel, of_row, rows, widened

HORIZON, WIDTH, CODES = 11.0, 8, (3, 4)
STRIDES = [(1, 1), (2, None), (3, 5), (4, 4), (9, None), (10, 26)]


def strided(stride, length=None, cardinalities=CODES) -> StridedPatches:
    torch.manual_seed(0)
    strides = Strides.of(stride, length)
    n_channels = 4 + len(cardinalities)
    return StridedPatches(n_channels, cardinalities, WIDTH, strides, HORIZON).double()


def channels(cardinalities=CODES) -> ChannelPatches:
    torch.manual_seed(0)
    return ChannelPatches(4 + len(cardinalities), cardinalities, WIDTH, HORIZON).double()


def with_other_steps(batch, age):
    """Everything that stands `age` steps before the end is something else."""
    value, category = batch.value.clone(), batch.category.clone()
    step = batch.n_steps - 1 - age
    value[..., step] = (value[..., step] + 1.5) * batch.observed[..., step]
    category[..., step] = (category[..., step] + 1) % 3 * batch.inside[..., step]
    return replace(batch, value=value, category=category)


# ---- strides -----------------------------------------------------------------------------------


@given(stride=st.integers(1, 400), length=st.none() | st.integers(1, 900))
def test_strides_are_whole_bins_and_hardly_longer_than_asked(stride, length):
    strides = Strides.of(stride, length)
    assert strides.stride % strides.bin == strides.length % strides.bin == 0
    assert stride <= strides.stride < stride + strides.bin
    assert strides.stride // strides.bin <= FINEST
    assert strides.length >= max(strides.stride, length or 2 * stride)
    assert Strides.of(strides.stride, strides.length) == strides  # a second time changes nothing
    for n_steps in (1, strides.stride, strides.stride + 1, 1000):
        assert strides.stride * (strides.n_patches(n_steps) - 1) < n_steps
        assert strides.stride * strides.n_patches(n_steps) >= n_steps


@pytest.mark.parametrize("stride, length", STRIDES)
def test_a_step_changes_the_patches_that_hold_it_and_no_others(stride, length):
    patches, batch = strided(stride, length), make_panel([25, 25], missing=0, cardinalities=CODES)
    before, s = patches(batch).tokens, patches.strides
    for age in range(25):
        after = patches(with_other_steps(batch, age)).tokens
        for p in range(before.shape[1]):
            held = p * s.stride <= age < p * s.stride + s.length
            assert bool((before[:, p] != after[:, p]).any()) == held


@pytest.mark.parametrize("stride, length", STRIDES)
def test_a_patch_is_what_its_bins_hold_on_average(stride, length):
    patches, batch = strided(stride, length), make_panel(cardinalities=CODES)
    got, s = patches(batch), patches.strides
    P, table = s.n_patches(batch.n_steps), patches.features.categories
    embedding = table.embedding.weight.detach().numpy()
    assert got.tokens.shape == (len(LENGTHS), P, WIDTH) and got.code is None
    for row, p in np.ndindex(len(LENGTHS), P):
        number, category = of_row(batch, row)
        L, seen = number.shape[1], np.zeros((8 + embedding.shape[1], s.length))
        for k in range(s.length):  # from the oldest step of the patch to the newest
            step = L - 1 - (p * s.stride + s.length - 1 - k)
            if 0 <= step < L:
                missing = np.isnan(number[:4, step])
                named = embedding[category[0, step]] + embedding[3 + category[1, step]]
                seen[:, k] = *np.where(missing, 0, number[:4, step]), *missing, *named
        binned = seen.reshape(len(seen), -1, s.bin).mean(2)
        middle = np.mean([L - 1 - p * s.stride - k for k in range(s.stride)])
        time = torch.tensor(max(middle, 0.0) if L else 0.0, dtype=torch.float64)
        token = patches.embed(torch.from_numpy(binned.ravel())) + patches.time_encoding(time)
        token = token + patches.place[min(p, patches.n_places - 1)]
        filled = p * s.stride < L
        assert got.filled[row, p] == got.timed[row, p] == filled
        if filled:
            torch.testing.assert_close(got.time[row, p], time)
        torch.testing.assert_close(got.tokens[row, p], token + patches.mix(token))


# ---- channels ----------------------------------------------------------------------------------


def test_a_channel_is_its_statistics_or_the_shares_of_its_codes():
    patches, batch = channels(), make_panel(cardinalities=CODES)
    batch = batch.keep((batch.code != 5) | (batch.row != 1))  # a channel of missing codes alone
    half_life = patches.log_half_life.exp()
    got, statistics = patches(batch), channel_statistics(batch, half_life, patches.horizon)
    assert statistics.shape == (5, 4, len(PANEL_STATISTICS) + 2 * N_BINS + 2 * 3)
    assert got.code.tolist() == [[0, 1, 2, 3, 4, 5]] and got.filled is None
    for row, c in np.ndindex(5, 6):
        number, category = of_row(batch, row)
        L, k = number.shape[1], c - 4
        known = ~np.isnan(number[c]) if c < 4 else category[k] > 0
        assert got.timed[row, c] == known.any()
        if not known.any():
            assert torch.equal(got.tokens[row, c], patches.absent[c] + patches.shift.weight[c])
            continue
        if c < 4:
            token = patches.shared(statistics[row, c]) * (1 + patches.scale.weight[c])
            assert got.time[row, c] == pytest.approx(np.flatnonzero(known)[-1])
        else:
            share, newest = patches.share.embedding.weight, patches.newest.embedding.weight
            codes = (0, 3)[k] + category[k]
            token = share[codes].sum(0) / L + newest[codes[-1]]
            assert got.time[row, c] == L - 1
        torch.testing.assert_close(got.tokens[row, c], token + patches.shift.weight[c])


# ---- networks ----------------------------------------------------------------------------------

NETWORKS = [
    dict(patching=patching, strides=strides, cardinalities=cardinalities)
    for patching, strides, cardinalities in [
        ("dual", ((2, 4),), ()),
        ("dual", ((2, 3), (9, 18)), CODES),
        ("time", ((1, 1), (4, 8)), CODES),
        ("feature", ((3, 6),), CODES),
    ]
]


def keywords(patching, strides, cardinalities) -> dict:
    """Of a backbone."""
    return {
        "n_codes": 4 + len(cardinalities), "n_categories": sum(cardinalities), "d_model": WIDTH,
        "window_edges": [float(e) for e in range(strides[0][0], 12, strides[0][0])],
        "horizon": HORIZON, "n_heads": 2, "d_feedforward": 16, "patching": patching,
        "panel": PanelShape(strides, cardinalities),
    }  # fmt: skip


def awake(net: nn.Module) -> nn.Module:
    """In double precision, with no parameter that is all zero."""
    for parameter in net.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.3)
    return net.double().eval()


def predictor(per_step=False, pooling=None, **settings) -> nn.Module:
    torch.manual_seed(0)
    return awake(
        DualPatchPredictor(
            prior=[0.0, 0.0, 0.0], code_dropout=0.1, window_dropout=0.1, head_dropout=0.1,
            backbone=keywords(**settings), per_step=per_step, pooling=pooling, d_embedding=6,
        )
    )  # fmt: skip


def answers(net, batch):
    """What a network says of each row, or of each step."""
    with torch.no_grad():
        told = net(batch)
    return told if isinstance(told, torch.Tensor) else told.cls


@pytest.mark.parametrize("settings", NETWORKS)
@pytest.mark.parametrize("kind", ["backbone", "rows", "steps", "pooled"])
def test_a_row_does_not_depend_on_padding_nor_on_other_rows(settings, kind):
    batch = make_panel(cardinalities=settings["cardinalities"])
    if kind == "backbone":
        torch.manual_seed(0)
        net = awake(DualPatchBackbone(**keywords(**settings)))
    else:
        pooling = "codewise" if kind == "pooled" else None
        net = predictor(kind == "steps", pooling, **settings)
    whole = answers(net, batch)
    near = {"rtol": 0, "atol": 1e-10}
    wide = answers(net, widened(batch, 7))
    torch.testing.assert_close(wide[:, 7:] if kind == "steps" else wide, whole, **near)
    torch.testing.assert_close(answers(net, batch.padded(7))[:5], whole, **near)
    torch.testing.assert_close(answers(net, rows(batch, [4, 0])), whole[[4, 0]], **near)
    for row, length in enumerate(LENGTHS):
        alone, want = answers(net, rows(batch, [row]))[0], whole[row]
        if kind == "steps":
            alone, want = alone[len(alone) - length :], want[len(want) - length :]
        torch.testing.assert_close(alone, want, **near)


@pytest.mark.parametrize("settings", NETWORKS)
@pytest.mark.parametrize("per_step", [False, True])
def test_hidden_cells_leave_no_trace(settings, per_step):
    """To the last bit, whatever they held."""
    batch = make_panel(cardinalities=settings["cardinalities"])
    torch.manual_seed(1)
    visible = torch.rand(batch.value.shape) < 0.6
    other = batch
    for age in range(batch.n_steps):
        other = with_other_steps(other, age)
    K = len(settings["cardinalities"])
    category = torch.where(visible[:, 4:], batch.category, other.category) if K else batch.category
    other = replace(batch, value=torch.where(visible, batch.value, other.value), category=category)
    net = predictor(per_step, **settings)
    assert not torch.equal(answers(net, batch), answers(net, other))
    assert torch.equal(answers(net, batch.keep(visible)), answers(net, other.keep(visible)))


@pytest.mark.parametrize("settings", NETWORKS)
@pytest.mark.parametrize("per_step", [False, True])
def test_gradients_reach_every_parameter_of_the_network(settings, per_step):
    net = predictor(per_step, **settings)
    scores = net(make_panel(cardinalities=settings["cardinalities"]))
    (scores * torch.randn_like(scores)).sum().backward()
    for name, parameter in net.named_parameters():
        if ".static." not in name:  # there are no static columns
            assert parameter.grad is not None and parameter.grad.any(), name
            assert parameter.grad.isfinite().all(), name
