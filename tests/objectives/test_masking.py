"""What masks hide, and how much of it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from scipy.stats import binom, kstest

from tawt_sklearn.nn.batch import EventBatch
from tawt_sklearn.nn.space import Space
from tawt_sklearn.objectives.masking import (
    Hidden,
    HideCodes,
    HideEvents,
    HideWindows,
    hide,
    varying,
)

MASKS = [HideEvents(), HideWindows(), HideCodes()]
WIDE = Space(40, [0] * 41, torch.arange(1, 30).tolist(), horizon=30.0)


def grid(n_rows: int) -> EventBatch:
    """One event of every code in every window, in each row."""
    V, W = WIDE.n_codes, WIDE.n_windows
    n = n_rows * V * W
    return EventBatch(
        row=torch.arange(n_rows).repeat_interleave(V * W),
        code=torch.arange(V).repeat(n_rows * W),
        value=torch.zeros(n),
        observed=torch.ones(n, dtype=torch.bool),
        category=torch.zeros(n, dtype=torch.int64),
        time=torch.arange(W).repeat_interleave(V).repeat(n_rows) + 0.5,
        age=torch.zeros(n),
        static_numeric=torch.zeros(n_rows, 0),
        static_category=torch.zeros(n_rows, 0, dtype=torch.int64),
    )


@pytest.mark.parametrize("rate", [0.05, 0.15, 0.6])
def test_events_are_hidden_one_by_one_at_their_rate(rate):
    batch = grid(20)
    torch.manual_seed(0)
    hidden = HideEvents(rate)(batch, WIDE)
    low, high = binom.interval(0.9999, batch.n_events, rate)
    assert low <= int(hidden.events.sum()) <= high
    assert not hidden.codes.any() and not hidden.windows.any()
    # Neighbours are hidden independently of each other.
    pairs = hidden.events.view(-1, 2)
    low, high = binom.interval(0.9999, len(pairs), rate**2)
    assert low <= int(pairs.all(1).sum()) <= high


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_rates_of_nothing_and_of_everything_are_exact(rate):
    hidden = HideEvents(rate)(grid(3), WIDE)
    assert hidden.events.float().mean() == rate


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5])
def test_the_share_is_uniform_between_nothing_and_twice_its_mean(rate):
    torch.manual_seed(0)
    drawn = varying(1000, 4000, rate, torch.device("cpu"))
    share = drawn.float().mean(1)
    assert kstest(share.numpy() / (2 * rate), "uniform").pvalue > 0.01
    # Uniform on (0, 2 m): standard deviation 2 m / sqrt(12), plus the draws themselves.
    error = math.sqrt(((2 * rate) ** 2 / 12 + 0.25 / 4000) / 1000)
    assert abs(share.mean() - rate) < 4 * error


@pytest.mark.parametrize("mask, what", [(HideWindows(0.2), "windows"), (HideCodes(0.2), "codes")])
def test_whole_windows_and_codes_are_hidden_at_their_mean_rate(mask, what):
    batch = grid(100)
    totals = []
    torch.manual_seed(0)
    for _ in range(6):
        totals.append(getattr(mask(batch, WIDE), what).float().mean(1))
    share = torch.cat(totals)  # of 600 rows, each with a rate of its own
    n = WIDE.n_windows if what == "windows" else WIDE.n_codes
    error = math.sqrt((0.4**2 / 12 + 0.2 / n) / len(share))
    assert abs(share.mean() - 0.2) < 4 * error
    assert (share == 0).any() and (share > 0.35).any()


def test_a_hidden_window_hides_all_its_events_and_nothing_else():
    batch = grid(30)
    torch.manual_seed(0)
    hidden = HideWindows(0.3)(batch, WIDE)
    window = batch.time.long()
    assert torch.equal(hidden.events, hidden.windows[batch.row, window])
    assert hidden.windows.any() and not hidden.windows.all()
    assert not hidden.codes.any()
    assert len(hidden.windows.unique(dim=0)) > 20  # another choice for every row


def test_a_hidden_code_hides_all_its_events_and_nothing_else():
    batch = grid(30)
    torch.manual_seed(0)
    hidden = HideCodes(0.3)(batch, WIDE)
    assert torch.equal(hidden.events, hidden.codes[batch.row, batch.code])
    assert hidden.codes.any() and not hidden.codes.all()
    assert not hidden.windows.any()
    assert len(hidden.codes.unique(dim=0)) > 20


def test_codes_that_do_not_occur_are_hidden_too(make_batch, space):
    """Or their absence would tell that they were not hidden."""
    batch = make_batch().keep(torch.zeros(make_batch().n_events, dtype=torch.bool))
    torch.manual_seed(0)
    hidden = HideCodes(0.5)(batch, space)
    assert hidden.codes.any() and hidden.events.shape == (0,)


def test_together_masks_hide_what_any_of_them_hides(make_batch, space):
    batch = make_batch()
    torch.manual_seed(0)
    apart = [mask(batch, space) for mask in MASKS]
    torch.manual_seed(0)
    hidden = hide(batch, space, MASKS)
    for name in Hidden._fields:
        want = torch.stack([getattr(one, name) for one in apart]).any(0)
        assert torch.equal(getattr(hidden, name), want)


def test_without_masks_nothing_is_hidden(make_batch, space):
    hidden = hide(make_batch(), space, ())
    assert [part.shape for part in hidden] == [(make_batch().n_events,), (5, 6), (5, 4)]
    assert not any(part.any() for part in hidden)


def test_the_border_of_a_window_belongs_to_the_later_one(make_batch, space):
    time = torch.tensor([0.0, 11.9, 12.0, 36.0, 99.0], dtype=torch.float64)
    assert space.window(replace(make_batch(), time=time)).tolist() == [0, 0, 1, 3, 3]


@pytest.mark.parametrize(
    "mask, rate, largest",
    [
        (HideEvents, -0.1, 1.0),
        (HideEvents, 1.1, 1.0),
        (HideWindows, 0.6, 0.5),
        (HideCodes, 0.6, 0.5),
        (HideCodes, float("nan"), 0.5),
    ],
)
def test_an_impossible_rate_is_refused(mask, rate, largest):
    with pytest.raises(ValueError, match=f"Expected a rate from 0 to {largest}. Got {rate}"):
        mask(rate)
