"""Each augmentation against a reading of its docstring, row by row in NumPy."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from tawt_sklearn.nn.batch import EventBatch
from tawt_sklearn.objectives.augmentations import (
    CropHistory,
    DropCodes,
    DropEvents,
    JitterValues,
    ScaleValues,
    WarpTime,
)

EVERY = [JitterValues(), ScaleValues(), WarpTime(), CropHistory(), DropEvents(), DropCodes()]
FIELDS = ("row", "code", "value", "observed", "category", "time", "age")


def of_each_row(batch: EventBatch) -> list[dict[str, np.ndarray]]:
    """Events of each row as arrays."""
    return [
        {name: getattr(batch, name)[batch.row == row].numpy() for name in FIELDS}
        for row in range(len(batch))
    ]


def positions_kept(batch: EventBatch, fewer: EventBatch) -> torch.Tensor:
    """Positions in the batch of the events of a smaller one; values tell events apart."""
    marks = dict(zip(batch.value.tolist(), range(batch.n_events), strict=True))
    return torch.tensor([marks[value] for value in fewer.value.tolist()], dtype=torch.int64)


@pytest.fixture
def marked(make_batch):
    """Many events, each with a value of its own."""
    batch = make_batch(n_rows=60, mean_events=300)
    value = torch.arange(batch.n_events, dtype=torch.float64) + 1
    torch.manual_seed(0)
    return replace(batch, value=value)


@pytest.mark.parametrize("augment", EVERY, ids=lambda augment: type(augment).__name__)
def test_a_view_is_a_batch_in_order_that_leaves_the_original_alone(make_batch, space, augment):
    batch, untouched = make_batch(mean_events=60), make_batch(mean_events=60)
    torch.manual_seed(0)
    view = augment(batch, space)
    for name in FIELDS:
        assert torch.equal(getattr(batch, name), getattr(untouched, name))
        assert getattr(view, name).dtype == getattr(batch, name).dtype
        assert len(getattr(view, name)) == view.n_events
    assert len(view) == len(batch)
    assert (view.row.diff() >= 0).all()
    assert (view.time.diff()[view.row.diff() == 0] >= 0).all()
    assert (view.age >= 0).all() and (view.age.diff()[view.row.diff() == 0] <= 0).all()
    for row in of_each_row(view):  # all events of a row count from one end
        np.testing.assert_allclose(np.ptp(row["time"] + row["age"]) if len(row["row"]) else 0, 0,
                                   atol=1e-9)  # fmt: skip
    assert not view.value[~view.observed].any()  # where there is no number, none is made up


@pytest.mark.parametrize("augment", EVERY, ids=lambda augment: type(augment).__name__)
def test_empty_histories_stay_empty(make_batch, space, augment):
    nothing = make_batch().keep(torch.zeros(make_batch().n_events, dtype=torch.bool))
    view = augment(nothing, space)
    assert len(view) == 5 and view.n_events == 0


@pytest.mark.parametrize("augment", EVERY, ids=lambda augment: type(augment).__name__)
def test_views_differ_from_each_other_and_not_with_the_same_seed(make_batch, space, augment):
    batch, views = make_batch(mean_events=60), []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        view = augment(batch, space)
        views.append((view.value.tolist(), view.time.tolist()))
    assert views[0] == views[1] != views[2]


def test_jitter_adds_noise_to_numbers_alone(make_batch, space):
    batch = make_batch(n_rows=100, mean_events=100)
    torch.manual_seed(0)
    view = JitterValues(0.3)(batch, space)
    noise = (view.value - batch.value).numpy()
    observed = batch.observed.numpy()
    assert not noise[~observed].any()
    assert kstest(noise[observed] / 0.3, "norm").pvalue > 0.01
    for name in ("row", "code", "observed", "category", "time", "age"):
        assert torch.equal(getattr(view, name), getattr(batch, name))


def test_all_numbers_of_a_code_in_a_row_are_scaled_alike(make_batch, space):
    batch = make_batch(n_rows=400, mean_events=60)
    torch.manual_seed(0)
    view = ScaleValues(0.2)(batch, space)
    factors = []
    for before, after in zip(of_each_row(batch), of_each_row(view), strict=True):
        for code in range(space.n_codes):
            at = (before["code"] == code) & before["observed"]
            if at.any():
                factor = after["value"][at] / before["value"][at]
                np.testing.assert_allclose(factor, factor[0])
                factors.append(factor[0])
    assert kstest((np.array(factors) - 1) / 0.2, "norm").pvalue > 0.01
    assert torch.equal(view.time, batch.time)


def test_a_warp_moves_events_between_the_first_and_the_last(make_batch, space):
    batch = make_batch(n_rows=200, mean_events=30)
    torch.manual_seed(0)
    view = WarpTime(0.4)(batch, space)
    strengths = []
    for before, after in zip(of_each_row(batch), of_each_row(view), strict=True):
        if not len(before["time"]):
            continue
        first, last = before["time"][[0, -1]]
        np.testing.assert_allclose(after["time"][[0, -1]], [first, last], atol=1e-12)
        np.testing.assert_allclose(after["age"] + after["time"], before["age"] + before["time"])
        u = (before["time"] - first) / (last - first)
        wave = np.sin(2 * math.pi * u) / (2 * math.pi)
        moved = (after["time"] - before["time"]) / (last - first)
        a = (moved @ wave) / (wave @ wave)  # least squares; then it has to fit exactly
        np.testing.assert_allclose(moved, a * wave, atol=1e-12)
        strengths.append(a)
    assert kstest(np.array(strengths) / 0.4, "uniform", (-1, 2)).pvalue > 0.01
    for name in ("row", "code", "value", "observed", "category"):
        assert torch.equal(getattr(view, name), getattr(batch, name))


def test_a_warp_keeps_different_times_apart(make_batch, space):
    batch = make_batch(mean_events=200)
    torch.manual_seed(0)
    view = WarpTime(0.99)(batch, space)
    inside = batch.row.diff() == 0
    assert torch.equal((batch.time.diff() > 0)[inside], (view.time.diff() > 0)[inside])


def test_a_warp_keeps_the_order_of_events_that_are_next_to_simultaneous(make_batch, space):
    """In single precision, where rounding would exchange some of them."""
    B, E = 50, 202
    n_ulps = np.spacing(np.float32(24)) * np.arange(-100, 100)  # neighbours around the middle
    times = np.concatenate([[0], 24 + n_ulps, [48]]).astype(np.float32)
    empty = make_batch(B).keep(torch.zeros(make_batch(B).n_events, dtype=torch.bool))
    time = torch.from_numpy(np.tile(times, B))
    nothing = torch.zeros(B * E, dtype=torch.int64)
    batch = replace(
        empty, row=torch.arange(B).repeat_interleave(E), time=time, age=48 - time, code=nothing,
        value=torch.zeros(B * E), observed=torch.zeros(B * E, dtype=torch.bool), category=nothing,
    )  # fmt: skip
    torch.manual_seed(0)
    view = WarpTime(0.99)(batch, space)
    assert (view.time.diff()[batch.row.diff() == 0] >= 0).all()
    torch.testing.assert_close(view.time + view.age, torch.full_like(time, 48.0))
    assert torch.equal(view.time.view(B, E)[:, [0, -1]], time.view(B, E)[:, [0, -1]])


def test_a_history_of_one_moment_is_not_warped(make_batch, space):
    batch = replace(make_batch(), time=torch.full_like(make_batch().time, 7.0))
    view = WarpTime()(batch, space)
    assert torch.equal(view.time, batch.time) and torch.equal(view.age, batch.age)


def test_a_crop_keeps_one_stretch_and_counts_ages_from_its_end(marked, space):
    view = CropHistory(0.4)(marked, space)
    shares, places = [], []
    for before, after in zip(of_each_row(marked), of_each_row(view), strict=True):
        if not len(before["time"]):
            continue
        first, last = before["time"][[0, -1]]
        span = last - first
        end = (after["time"] + after["age"])[0]
        np.testing.assert_allclose(after["time"] + after["age"], end)
        assert first + 0.4 * span <= end + 1e-9 and end <= last + 1e-9
        # Everything from the first event that is kept to the end is kept, nothing after it; and
        # the stretch is long enough.
        start = min(after["time"][0], end - 0.4 * span + 1e-9)
        expected = before["value"][(before["time"] >= start) & (before["time"] <= end)]
        np.testing.assert_array_equal(after["value"], expected)
        length = (end - after["time"][0]) / span
        shares.append(length)
        places.append(last - end)
    assert min(shares) < 0.6 and max(shares) > 0.85
    assert max(places) > 10


def test_crops_are_uniformly_long_and_uniformly_placed(make_batch, space):
    """One event every thousandth of the history tells where a stretch begins and ends."""
    B, E = 300, 1001
    empty = make_batch(B).keep(torch.zeros(make_batch(B).n_events, dtype=torch.bool))
    time = torch.linspace(0, 48, E, dtype=torch.float64).repeat(B)
    batch = replace(
        empty, row=torch.arange(B).repeat_interleave(E), time=time, age=48 - time,
        code=torch.zeros(B * E, dtype=torch.int64), value=torch.zeros_like(time),
        observed=torch.ones(B * E, dtype=torch.bool),
        category=torch.zeros(B * E, dtype=torch.int64),
    )  # fmt: skip
    torch.manual_seed(0)
    start, end = (t.numpy() / 48 for t in CropHistory(0.4)(batch, space).extent())
    share = end - start
    assert kstest((share - 0.4) / 0.6, "uniform").pvalue > 0.01
    assert kstest(start / (1 - share), "uniform").pvalue > 0.01


def test_a_crop_of_everything_loses_nothing(make_batch, space):
    """Not even in single precision, where the end could be rounded down."""
    batch = make_batch(n_rows=300, mean_events=20)
    torch.manual_seed(0)
    time = (batch.time + torch.rand(300)[batch.row]).to(torch.float32)
    batch = replace(batch, time=time)
    assert CropHistory(1.0)(batch, space).n_events == batch.n_events


def test_the_borders_of_a_stretch_belong_to_it(make_batch):
    batch = make_batch()
    first, last = batch.extent()
    assert batch.between(first, last).n_events == batch.n_events
    kept = batch.between(torch.full((5,), 10.0), torch.full((5,), 20.0))
    want = batch.keep((batch.time >= 10) & (batch.time <= 20))
    assert torch.equal(kept.value, want.value)
    assert torch.equal(kept.age, 20 - want.time)


def test_the_extent_of_a_history_is_its_first_and_last_time(make_batch):
    batch = make_batch()
    for row, (first, last) in enumerate(zip(*batch.extent(), strict=True)):
        time = batch.time[batch.row == row]
        want = (time.min(), time.max()) if len(time) else (0, 0)
        assert (first, last) == want


def test_events_are_dropped_at_a_rate_of_each_row(marked, space):
    view = DropEvents(0.3)(marked, space)
    kept = positions_kept(marked, view)
    assert (kept.diff() > 0).all()
    for name in FIELDS:
        assert torch.equal(getattr(view, name), getattr(marked, name)[kept])
    dropped = torch.ones(marked.n_events, dtype=torch.bool)
    dropped[kept] = False
    shares = np.array([dropped[marked.row == k].float().mean() for k in range(60) if k != 2])
    # A rate that is uniform between 0 and 0.6, and a share that differs from it by sampling.
    error = math.sqrt((0.6**2 / 12 + 0.25 / 300) / len(shares))
    assert abs(shares.mean() - 0.3) < 4 * error
    assert shares.min() < 0.1 and shares.max() > 0.5 and shares.max() < 0.7


def test_codes_are_dropped_whole(marked, space):
    view = DropCodes(0.3)(marked, space)
    kept = positions_kept(marked, view)
    cell = marked.row * space.n_codes + marked.code
    gone = set(cell.tolist()) - set(cell[kept].tolist())
    for name in FIELDS:
        assert torch.equal(getattr(view, name), getattr(marked, name)[kept])
    assert len(kept) == sum(c not in gone for c in cell.tolist())
    share = len(gone) / len(cell.unique())
    assert abs(share - 0.3) < 4 * math.sqrt((0.6**2 / 12 + 0.25 / 6) / 59)


@pytest.mark.parametrize("make, message", [
    (lambda: JitterValues(-1.0), "Expected sd from 0.0 to inf. Got -1.0"),
    (lambda: ScaleValues(float("nan")), "Expected sd from 0.0 to inf. Got nan"),
    (lambda: WarpTime(1.0), "Expected strength from 0.0 to 0.99. Got 1.0"),
    (lambda: CropHistory(1.5), "Expected shortest from 0.0 to 1.0. Got 1.5"),
    (lambda: DropEvents(0.6), "Expected rate from 0.0 to 0.5. Got 0.6"),
    (lambda: DropCodes(-0.1), "Expected rate from 0.0 to 0.5. Got -0.1"),
])  # fmt: skip
def test_impossible_strengths_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
