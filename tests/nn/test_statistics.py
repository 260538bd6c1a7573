"""Segment statistics against a float64 loop over segments."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tawt_sklearn.nn.statistics import (
    STATISTICS,
    decayed_means,
    segment_extreme,
    segment_statistics,
)

HORIZON = 10.0


def loop_statistics(segment, value, observed, time, age, n_segments):
    """The same, one segment at a time, in float64."""
    out = np.zeros((n_segments, len(STATISTICS)))
    for k in range(n_segments):
        here = segment == k
        v, t = value[here & observed].astype(float), time[here & observed].astype(float)
        row = dict.fromkeys(STATISTICS, 0.0)
        row["log_count"], row["log_n_values"] = np.log1p(here.sum()), np.log1p(len(v))
        if here.any():
            times = time[here].astype(float) / HORIZON
            row["first_time"], row["last_time"] = times[0], times[-1]
            row["last_age"] = age[here][-1] / HORIZON
        if len(v):
            row |= {"mean": v.mean(), "sd": v.std(), "min": v.min(), "max": v.max()}
            row |= {"first": v[0], "last": v[-1], "change": v[-1] - v[0]}
            row["last_value_age"] = age[here & observed][-1] / HORIZON
            if len(set(t)) > 1:
                row["slope"] = np.polyfit(t / HORIZON, v, 1)[0]
        out[k] = [row[name] for name in STATISTICS]
    return out


def random_segments(seed, n_segments=6, n_events=60, offset=0.0):
    rng = np.random.default_rng(seed)
    segment = rng.integers(0, n_segments, n_events)
    time = np.sort(np.round(rng.uniform(0, HORIZON, n_events), 1))
    observed = rng.random(n_events) < 0.7
    value = np.where(observed, rng.normal(size=n_events) + offset, 0.0)
    return segment, value, observed, time, HORIZON - time


def as_tensors(arrays, dtype):
    segment, value, observed, time, age = (torch.from_numpy(a) for a in arrays)
    return segment, value.to(dtype), observed, time.to(dtype), age.to(dtype)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000), n_events=st.integers(0, 80))
def test_statistics_equal_the_loop(seed, n_events):
    arrays = random_segments(seed, n_events=n_events)
    got = segment_statistics(*as_tensors(arrays, torch.float64), 6, HORIZON)
    np.testing.assert_allclose(got, loop_statistics(*arrays, 6), atol=1e-9)


def test_float32_keeps_the_spread_of_values_far_from_zero():
    arrays = random_segments(0, n_events=400, offset=1000.0)
    got = segment_statistics(*as_tensors(arrays, torch.float32), 6, HORIZON)
    want = loop_statistics(*arrays, 6)
    spread = [STATISTICS.index(name) for name in ("sd", "slope")]
    np.testing.assert_allclose(got[:, spread], want[:, spread], rtol=1e-3)


def test_simultaneous_events_have_no_slope():
    segment = torch.zeros(3, dtype=torch.int64)
    time = torch.full((3,), 4.0)
    value, observed = torch.tensor([1.0, 2.0, 5.0]), torch.ones(3, dtype=torch.bool)
    got = segment_statistics(segment, value, observed, time, time, 1, HORIZON)[0]
    assert got[STATISTICS.index("slope")] == 0
    assert got[STATISTICS.index("change")] == 4


def test_empty_segments_are_zero():
    nothing = torch.zeros(0)
    got = segment_statistics(nothing.long(), nothing, nothing.bool(), nothing, nothing, 3, HORIZON)
    assert torch.equal(got, torch.zeros(3, len(STATISTICS)))


def test_decayed_means_halve_with_every_half_life():
    segment = torch.tensor([0, 0, 1])
    value, observed = torch.tensor([1.0, 4.0, 7.0]), torch.tensor([True, True, False])
    age = torch.tensor([2.0, 0.0, 0.0])
    got = decayed_means(segment, value, observed, age, torch.tensor([2.0]), 2)
    assert got[0, 0] == pytest.approx((0.5 * 1 + 1 * 4) / 1.5)
    assert got[0, 1] == pytest.approx(np.log1p(1.5))
    assert torch.equal(got[1], torch.zeros(2))


def test_decayed_means_have_the_right_gradient():
    segment, value, observed, _, age = as_tensors(random_segments(3), torch.float64)
    half_life = torch.tensor([0.5, 3.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda h: decayed_means(segment, value, observed, age, h, 6), half_life
    )


@pytest.mark.parametrize("reduce", ["amin", "amax"])
def test_extremes_of_segments(reduce):
    values = torch.tensor([3.0, -1.0, torch.inf, -torch.inf, 5.0], requires_grad=True)
    segment = torch.tensor([0, 0, 2, 3, 4])
    filled = torch.tensor([True, False, True, True, True])
    found = segment_extreme(values, segment, filled, reduce)
    first = -1.0 if reduce == "amin" else 3.0
    assert found.tolist() == [first, 0.0, torch.inf, -torch.inf, 5.0]  # no overflow is hidden
    found[[0, 4]].sum().backward()
    assert values.grad.tolist() == [float(first == 3), float(first == -1), 0.0, 0.0, 1.0]
    places = segment_extreme(torch.arange(5), segment, filled, reduce)
    assert places.tolist() == [{"amin": 0, "amax": 1}[reduce], 0, 2, 3, 4]
