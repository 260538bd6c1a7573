"""Statistics of channels against float64 loops over rows and channels."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tawt_sklearn.nn.panel_statistics import (
    PANEL_STATISTICS,
    binned,
    decayed_panel_means,
    panel_statistics,
)

from .panels import make_panel, of_row

HORIZON = 8.0
WIDTH, BINS = 3, 3


def loop_statistics(x: np.ndarray) -> dict[str, float]:
    """Of one series, NaN where it was not observed."""
    told = dict.fromkeys(PANEL_STATISTICS, 0.0)
    at = [t for t in range(len(x)) if not np.isnan(x[t])]
    if not at:
        return told
    v, t = x[at], np.array(at) / HORIZON
    told |= {"share": len(at) / len(x), "log_count": np.log1p(len(at)), "mean": v.mean()}
    told |= {"sd": v.std(), "min": v.min(), "max": v.max(), "first": v[0], "last": v[-1]}
    told |= {"change": v[-1] - v[0], "first_time": t[0]}
    told["last_age"] = (len(x) - 1 - at[-1]) / HORIZON
    if len(at) > 1:
        told["slope"] = np.polyfit(t, v, 1)[0]
    jumps = [x[k + 1] - x[k] for k in at if k + 1 in at]
    if jumps:
        told["roughness"] = np.sqrt(np.mean(np.square(jumps)))
    return told


def loop_bins(x: np.ndarray) -> tuple[list[float], list[float]]:
    """Means and observed shares of bins of one series, the most recent first."""
    bins: list[list[float]] = [[] for _ in range(BINS)]
    for age, value in enumerate(x[::-1]):
        bins[min(age // WIDTH, BINS - 1)].append(value)
    seen = [[v for v in one if not np.isnan(v)] for one in bins]
    means = [np.mean(one) if one else 0.0 for one in seen]
    return means, [len(s) / len(b) if b else 0.0 for s, b in zip(seen, bins, strict=True)]


def loop_decayed(x: np.ndarray, half_life: float) -> tuple[float, float]:
    weight = [0.5 ** (age / half_life) for age, v in enumerate(x[::-1]) if not np.isnan(v)]
    value = [v for v in x[::-1] if not np.isnan(v)]
    return float(np.dot(weight, value)) / max(sum(weight), 1e-6), sum(weight)


def every(batch, half_life):
    """All numbers of a batch: (B, C, all of them)."""
    exact = panel_statistics(batch.value, batch.observed, batch.time, HORIZON)
    course = binned(batch.value, batch.observed, batch.inside, WIDTH, BINS)
    decayed = decayed_panel_means(batch.value, batch.observed, batch.age, half_life)
    return torch.cat([exact, *course, *decayed], dim=2)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), missing=st.sampled_from([0.0, 0.3, 0.9, 1.0]))
def test_all_of_them_equal_the_loops(seed, missing):
    lengths = np.random.default_rng(seed).integers(0, 14, 4).tolist()
    batch = make_panel([*lengths, 13], n_numeric=3, missing=missing, seed=seed)
    half_life = torch.tensor([0.7, 4.0], dtype=torch.float64)
    got = every(batch, half_life)
    for row, c in np.ndindex(5, 3):
        x = of_row(batch, row)[0][c]
        decayed = np.transpose([loop_decayed(x, h) for h in half_life.tolist()])
        course = loop_bins(x)
        want = np.concatenate([[*loop_statistics(x).values()], *course, *decayed])
        np.testing.assert_allclose(got[row, c], want, atol=1e-9)


def test_single_precision_keeps_the_spread_of_values_far_from_zero():
    batch = make_panel([300], n_numeric=3, missing=0.0)
    shifted = ((batch.value + 1000) * batch.observed, batch.observed, batch.time)
    want = panel_statistics(*shifted, HORIZON)[0]
    got = panel_statistics(shifted[0].float(), shifted[1], shifted[2].float(), HORIZON)[0]
    spread = [PANEL_STATISTICS.index(name) for name in ("sd", "slope", "roughness")]
    np.testing.assert_allclose(got[:, spread], want[:, spread], rtol=2e-3)


def test_decayed_means_have_the_right_gradient():
    batch = make_panel()
    half_life = torch.tensor([0.5, 3.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda h: decayed_panel_means(batch.value, batch.observed, batch.age, h), half_life
    )
