"""Masks, views and tasks on panels, against loops over rows, channels and steps."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

from tawt_sklearn.nn.panel import PanelBatch
from tawt_sklearn.nn.panel_patching import PanelShape
from tawt_sklearn.nn.panel_statistics import N_BINS, bin_width, binned, panel_statistics
from tawt_sklearn.nn.space import Space
from tawt_sklearn.objectives.augmentations import (
    CropHistory,
    DropCodes,
    DropEvents,
    JitterValues,
    ScaleValues,
    WarpTime,
)
from tawt_sklearn.objectives.contrastive import Contrastive, halves
from tawt_sklearn.objectives.forecast import Forecast
from tawt_sklearn.objectives.masked import MaskedReconstruction
from tawt_sklearn.objectives.masking import (
    Hidden,
    HideCodes,
    HideEvents,
    HideRuns,
    HideWindows,
    hide,
)
from tawt_sklearn.objectives.pretraining import Pretrainer
from tawt_sklearn.objectives.summary import summary_targets, summary_width

from ..nn.panels import make_panel, of_row, rows, widened

CODES, EDGES, HORIZON = (3, 4), [3.0, 6.0, 9.0], 11.0
OFFSETS = [0, 0, 0, 0, 0, 3, 7]
EVERY = [JitterValues(), ScaleValues(), WarpTime(0.9), CropHistory(), DropEvents(), DropCodes()]


@pytest.fixture
def space() -> Space:
    """Four numeric and two categorical channels in four windows of three steps."""
    return Space(6, OFFSETS, EDGES, HORIZON, from_end=True).double()


@pytest.fixture
def batch() -> PanelBatch:
    return make_panel(cardinalities=CODES)


@dataclass(frozen=True)
class HideGiven:
    hidden: Hidden

    def __call__(self, batch: PanelBatch, space: Space) -> Hidden:
        return self.hidden


# ---- masks -------------------------------------------------------------------------------------


def stretches(hidden: np.ndarray) -> int:
    """How many runs of True there are."""
    return int((np.diff(np.append(False, hidden).astype(int)) == 1).sum())


@pytest.mark.parametrize("together", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("rate", [0.1, 0.25, 0.5])
def test_every_channel_loses_one_stretch(space, rate, together):
    B, T = 200, 120
    batch = make_panel([T] * (B - 1) + [40], cardinalities=CODES, missing=0)
    torch.manual_seed(0)
    hidden = HideRuns(rate, together)(batch, space)
    cells = hidden.events.expand(batch.value.shape).numpy()
    assert not hidden.codes.any() and not hidden.windows.any()
    assert max(stretches(cells[row, c]) for row, c in np.ndindex(B, 6)) == 1
    by_step = cells[:-1].mean((0, 1))
    assert by_step.max() - by_step.min() < 0.2  # the ends as often as the middle
    assert not cells[-1, :, : T - 40].any()  # nothing before the first step
    share = cells.sum(2) / batch.inside.sum(2).numpy()  # (B, C)
    assert abs(share.mean() - rate) < 4 * rate / math.sqrt(B) + 1 / T and share.max() > 1.7 * rate
    telling = (share > 0.02).any(1) & (share < 0.9).any(1)  # others can hardly lie elsewhere
    same, some = (cells == cells[:, :1]).all((1, 2)) & telling, telling.sum()
    expected, spread = together * some, math.sqrt(some * together * (1 - together))
    assert abs(same.sum() - expected) <= 4 * spread + 0.1 * some * (0 < together < 1)


@pytest.mark.parametrize("together", [0.0, 1.0])
def test_events_lose_one_stretch_of_each_code_or_of_all(make_batch, space, together):
    events = make_batch(n_rows=40, mean_events=300)
    torch.manual_seed(0)
    hidden = HideRuns(0.4, together)(events, space).events.numpy()
    row, code = events.row.numpy(), events.code.numpy()
    for of, c in np.ndindex(40, 6):
        assert stretches(hidden[(row == of) & (code == c)]) <= 1
    of_all = [stretches(hidden[row == of]) for of in range(40)]
    assert max(of_all) == 1 if together else np.mean(of_all) > 5
    assert 0.25 < hidden.mean() < 0.55


@pytest.mark.parametrize("n_steps", [2, 4, 8])
def test_every_step_of_a_short_panel_is_hidden_as_often_as_asked(space, n_steps):
    """Its first and its last one, too: what came last is worth rebuilding."""
    batch = make_panel([n_steps] * 4000, cardinalities=CODES, missing=0)
    torch.manual_seed(0)
    hidden = HideRuns(0.25, 0.0)(batch, space).events.double()
    assert (hidden.mean((0, 1)) > 0).all()
    assert abs(hidden.mean() - 0.25) < 0.03


def test_windows_and_channels_are_hidden_whole_and_cells_one_by_one(space):
    batch = make_panel([12] * 60, cardinalities=CODES, missing=0)
    torch.manual_seed(0)
    windows, codes, cells = (
        mask(batch, space) for mask in (HideWindows(0.4), HideCodes(0.4), HideEvents(0.3))
    )
    everything = torch.zeros(batch.value.shape, dtype=torch.bool)
    of_window, of_code, single = (everything | one.events for one in (windows, codes, cells))
    for row, c, t in np.ndindex(60, 6, 12):
        assert of_window[row, c, t] == windows.windows[row, (11 - t) // 3]
        assert of_code[row, c, t] == codes.codes[row, c]
    assert abs(single.double().mean() - 0.3) < 4 * math.sqrt(0.21 / single.numel())
    both = hide(batch, space, (HideGiven(windows), HideGiven(codes)))
    assert torch.equal(both.events, of_window | of_code)


# ---- other views -------------------------------------------------------------------------------


@pytest.mark.parametrize("augment", EVERY, ids=lambda augment: type(augment).__name__)
def test_a_view_is_a_panel_of_the_same_shape(batch, space, augment):
    untouched, views = make_panel(cardinalities=CODES), []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        views.append(view := augment(batch, space))
        assert view.value.shape == batch.value.shape and view.time.shape == batch.time.shape
        for name in ("value", "observed", "category", "time"):
            assert getattr(view, name).dtype == getattr(batch, name).dtype
            assert torch.equal(getattr(batch, name), getattr(untouched, name))
        assert not view.value[~view.observed].any()
        assert not view.present[~view.inside.expand_as(view.present)].any()
        assert (view.time.diff(dim=2) == 1).all()
        assert (view.time[:, 0, -1] <= batch.time[:, 0, -1]).all()
    first, same, other = ([v.value, v.category, v.time] for v in views)
    assert all(map(torch.equal, first, same)) and not all(map(torch.equal, first, other))


def marked(lengths) -> PanelBatch:
    """Every number is the number of its step."""
    batch = make_panel(lengths, cardinalities=(90,), missing=0)
    step = batch.time.clamp(min=0)
    return replace(batch, value=step * batch.observed, category=(step + 1).long() * batch.inside)


def test_a_crop_is_one_stretch_as_if_the_series_had_ended_with_it(space):
    batch = marked([60] * 60 + [25, 2, 1, 0])
    torch.manual_seed(0)
    view, shares, ends = CropHistory(0.4)(batch, space), [], []
    for row in range(64):
        before, (after, category) = of_row(batch, row)[0], of_row(view, row)
        L, n = before.shape[1], after.shape[1]
        if n:
            first = int(after[0, 0])
            np.testing.assert_array_equal(after[:4], before[:4, first : first + n])
            np.testing.assert_array_equal(category[0], after[0] + 1)
        if L == 60:
            shares.append(n / L)
            ends.append((L - 1 - after[0, -1]) / L)
        assert n >= min(L, math.floor(0.4 * (L - 1)))
    assert min(shares) < 0.5 and max(shares) > 0.9 and max(ends) > 0.3 and min(ends) < 0.02


def test_a_warp_takes_other_steps_in_order_and_keeps_what_is_outside(space):
    batch = marked([40] * 30 + [11, 2, 1, 0])
    torch.manual_seed(3)
    view = WarpTime(0.8)(batch, space)
    torch.manual_seed(3)
    strength = 0.8 * (2 * torch.rand(34, dtype=torch.float64) - 1)
    assert torch.equal(view.time, batch.time) and torch.equal(view.observed, batch.observed)
    for row, a in enumerate(strength.tolist()):
        number, category = of_row(view, row)
        L = number.shape[1]
        span = max(L - 1, 1)
        source = [t + round(span * a * math.sin(2 * math.pi * t / span) / (2 * math.pi))
                  for t in range(L)]  # fmt: skip
        for channel in (*number[:4], category[0] - 1):
            assert channel.tolist() == source
        assert source == sorted(source) and (not L or [source[0], source[-1]] == [0, L - 1])


def test_halves_have_no_step_in_common():
    batch = marked([20] * 30 + [7, 2, 1, 0])
    torch.manual_seed(0)
    (one, two), cuts = halves(batch), []
    assert torch.equal(two.time, batch.time)
    for row in range(34):
        (first, _), (second, category) = of_row(one, row), of_row(two, row)
        cut = first.shape[1]
        assert first[0].tolist() == list(range(cut))
        L = second.shape[1]
        want = [t if t >= cut else np.nan for t in range(L)]
        np.testing.assert_array_equal(second[:4], [want] * 4)
        np.testing.assert_array_equal(category[0], np.nan_to_num(np.array(want) + 1))
        cuts.append(cut / max(L, 1))
    assert 0.25 <= min(cuts[:30]) < 0.4 and 0.6 < max(cuts[:30]) <= 0.8


# ---- tasks -------------------------------------------------------------------------------------


def pretrainer(objective, patching="dual", strides=((3, 5), (8, 16))) -> Pretrainer:
    torch.manual_seed(0)
    return Pretrainer(
        objectives=[(objective, 1.0)], pooling="codewise", d_embedding=6, scaling="reliability",
        category_offsets=OFFSETS,
        backbone={
            "n_codes": 6, "n_categories": 7, "window_edges": EDGES, "horizon": HORIZON,
            "d_model": 8, "n_heads": 2, "d_feedforward": 16, "patching": patching,
            "panel": PanelShape(strides, CODES),
        },
    ).double().eval()  # fmt: skip


@pytest.mark.parametrize("objective", [
    MaskedReconstruction(), MaskedReconstruction(masks=(HideEvents(), HideWindows(), HideCodes())),
    Forecast(), Contrastive(), Contrastive(pairs="halves"),
])  # fmt: skip
@pytest.mark.parametrize("patching", ["dual", "time", "feature"])
def test_losses_are_finite_and_reach_the_backbone(batch, objective, patching):
    net = pretrainer(objective, patching)
    for one in (batch, rows(batch, [2, 3]), batch.keep(torch.zeros(1, 1, 1, dtype=torch.bool))):
        net.zero_grad()
        torch.manual_seed(0)
        sum(net(one).values()).backward()
        gradients = [p.grad for p in net.backbone.parameters() if p.grad is not None]
        assert all(g.isfinite().all() for g in gradients)
        assert one is not batch or sum(bool(g.any()) for g in gradients) > 20


def some_hidden(batch: PanelBatch, space: Space) -> Hidden:
    torch.manual_seed(2)
    return hide(batch, space, (HideEvents(0.2), HideWindows(0.4), HideCodes(0.3)))


@pytest.fixture
def make_task(space, make_encoder):
    """Factory of tasks whose answers are their biases, whatever they are shown."""

    def make(objective):
        torch.manual_seed(0)
        task = objective.build(space, make_encoder.d_model, make_encoder.d_row).double()
        for name, parameter in task.named_parameters():
            own = name.endswith(("_bias.weight", "summary.bias"))
            (nn.init.normal_ if own else nn.init.zeros_)(parameter)
        return task

    return make


def huber(off: float) -> float:
    return off**2 / 2 if abs(off) < 1 else abs(off) - 0.5


def softplus(odds: float) -> float:
    return math.log1p(math.exp(odds))


def test_masked_parts_equal_the_loop(batch, space, make_task, make_encoder):
    hidden = some_hidden(batch, space)
    task = make_task(MaskedReconstruction(masks=(HideGiven(hidden),), value=1.5, presence=0.3))
    parts = task(make_encoder(), batch)
    assert list(parts) == ["value", "category", "presence", "summary"]
    told, odds = (
        table.weight[:, 0].tolist()
        for table in (task.decoder.value_bias, task.decoder.presence_bias)
    )
    values, categories, presences = defaultdict(list), defaultdict(list), []
    for row, c, t in np.ndindex(batch.value.shape):
        if hidden.events[row, c, t] and batch.observed[row, c, t]:
            values[row, c].append(huber(told[c] - float(batch.value[row, c, t])))
        if c >= 4 and hidden.events[row, c, t] and batch.category[row, c - 4, t] > 0:
            categories[row, c].append(math.log(CODES[c - 4]))  # all categories are as likely
    for row, c, w in itertools.product(range(5), range(6), range(4)):
        ages = np.arange(3 * w, 3 * w + 3)
        own = ages[ages < of_row(batch, row)[0].shape[1]]
        if len(own) and (hidden.codes[row, c] or hidden.windows[row, w]):
            there = bool(batch.present[row, c, 11 - own].any())
            presences.append(softplus(-odds[c] if there else odds[c]))
    assert len(values) > 4 and len(categories) > 2 and len(presences) > 10
    of_cells = [np.mean([np.mean(v) for v in of.values()]) for of in (values, categories)]
    assert parts["value"].item() == pytest.approx(1.5 * of_cells[0])
    assert parts["category"].item() == pytest.approx(0.2 * of_cells[1])
    assert parts["presence"].item() == pytest.approx(0.3 * np.mean(presences))
    truth, defined = (x.numpy() for x in summary_targets(batch, space, 6))
    off = task.summary.bias.detach().numpy() - truth
    want = np.mean([huber(x) for x in off[defined > 0]])
    assert parts["summary"].item() == pytest.approx(want)


@pytest.mark.parametrize("index", [[0, 1, 2, 3, 4], [1, 2]])
def test_losses_do_not_depend_on_padding(batch, space, index):
    """Also where there are fewer windows than in a typical series."""
    batch, hidden = rows(batch, index), some_hidden(batch, space)
    hidden = hidden._replace(events=hidden.events[index, :, -batch.n_steps :],
                             codes=hidden.codes[index], windows=hidden.windows[index])  # fmt: skip
    wide = hidden._replace(events=nn.functional.pad(hidden.events, (8, 0)))
    net, losses = pretrainer(MaskedReconstruction(value=1.0, category=1.0, presence=1.0)), []
    for one, what in ((batch, hidden), (widened(batch, 8), wide)):
        net.tasks["masked"].masks = (HideGiven(what),)
        losses.append(net(one))
    torch.testing.assert_close(*losses, rtol=1e-10, atol=1e-10)


def test_the_summary_is_of_everything_that_was_there(batch, space):
    truth, defined = summary_targets(batch, space, 6)
    exact = panel_statistics(batch.value, batch.observed, batch.time, HORIZON)
    course, _ = binned(batch.value, batch.observed, batch.inside, bin_width(HORIZON), N_BINS)
    assert torch.equal(truth, torch.cat([exact, course], dim=2).clamp(-5, 5))
    assert truth.shape[2] == summary_width(space) and bin_width(HORIZON) == 1
    for row, c in np.ndindex(5, 6):
        seen = ~np.isnan(of_row(batch, row)[0][c][::-1])
        want = [True, *[seen.any()] * (exact.shape[2] - 1)]
        want += [bool(seen[k : k + 1].any()) for k in range(N_BINS)]
        assert defined[row, c].bool().tolist() == want


@pytest.mark.parametrize("error", ["huber", "squared"])
def test_the_forecast_equals_the_loop(batch, space, make_task, make_encoder, error):
    task, encoder = make_task(Forecast(share=0.3, error=error, presence=0.7)), make_encoder()
    torch.manual_seed(4)
    parts = task(encoder, batch)
    torch.manual_seed(4)
    draws = (0.25 + 0.65 * torch.rand(5, dtype=torch.float64)).tolist()
    values, presences, (past,) = [], [], encoder.shown
    for row, draw in enumerate(draws):
        number, category = of_row(batch, row)
        L = number.shape[1]
        cut = draw * max(L - 1, 0)
        until = slice(0, math.floor(cut) + 1)
        np.testing.assert_array_equal(of_row(past, row)[0], number[:, until])
        np.testing.assert_array_equal(of_row(past, row)[1], category[:, until])
        steps = [t for t in range(L) if cut < t <= cut + 0.3 * HORIZON]
        for c in range(6):
            known = ~np.isnan(number[c]) if c < 4 else category[c - 4] > 0
            odds = task.presence_bias.weight[c, 0].item()
            if L > 1:
                presences.append(softplus(-odds if known[steps].any() else odds))
            if c < 4 and known[steps].any():
                off = task.value_bias.weight[c, 0].item() - np.nanmean(number[c, steps])
                values.append(huber(off) if error == "huber" else off**2)
    assert len(values) > 4 and len(presences) == 18
    assert parts["value"].item() == pytest.approx(np.mean(values))
    assert parts["presence"].item() == pytest.approx(0.7 * np.mean(presences))
