"""Batches of panels: each operation against what it does to the series of one row."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tawt_sklearn.nn.panel import PanelBatch

from .panels import LENGTHS, make_panel, of_row

B, C, T = 5, 6, 12


@pytest.fixture
def batch() -> PanelBatch:
    """Four numeric channels and two categorical ones."""
    return make_panel(cardinalities=(3, 4))


def test_fields_mean_for_cells_what_they_mean_for_events(batch):
    rates = torch.rand(B, C)
    of_cells = rates[batch.row, batch.code].expand(B, C, T)
    names = ("time", "age", "clock", "inside", "present")
    full = {name: getattr(batch, name).expand(B, C, T) for name in names}
    for row, c, t in np.ndindex(B, C, T):
        step, age = t - (T - LENGTHS[row]), T - 1 - t
        known = batch.observed[row, c, t] if c < 4 else batch.category[row, c - 4, t] > 0
        assert [full[name][row, c, t] for name in names] == [step, age, age, step >= 0, known]
        assert of_cells[row, c, t] == rates[row, c]
    assert batch.static_numeric.shape == batch.static_category.shape == (B, 0)


def test_moving_changes_the_precision_of_numbers_alone(batch):
    moved = batch.to("cpu", torch.float32)
    dtypes = [getattr(moved, field.name).dtype for field in fields(moved)]
    assert dtypes == [torch.float32, torch.bool, torch.int64, torch.float32]
    assert moved.age.dtype == torch.float32


@pytest.mark.parametrize("shape", [(B, C, T), (B, 1, T), (B, C, 1), (1, 1, T)])
def test_what_is_not_kept_is_unknown(batch, shape):
    torch.manual_seed(0)
    visible = torch.rand(shape) < 0.5
    kept, cells = batch.keep(visible), visible.expand(B, C, T)
    for row, c, t in np.ndindex(B, C, T):
        shown = bool(cells[row, c, t])
        assert kept.observed[row, c, t] == (shown and batch.observed[row, c, t])
        assert kept.value[row, c, t] == batch.value[row, c, t] * shown
        if c >= 4:
            assert kept.category[row, c - 4, t] == batch.category[row, c - 4, t] * shown


def test_padding_adds_rows_that_hold_nothing(batch):
    padded = batch.padded(7)
    assert len(padded) == 7 and batch.padded(3) is batch
    for row in range(7):
        want = of_row(batch, row) if row < B else (np.empty((C, 0)), np.empty((2, 0)))
        for one, two in zip(of_row(padded, row), want, strict=True):
            np.testing.assert_array_equal(one, two)
    first, last = padded.extent()
    assert not first.any() and last.tolist() == [max(n - 1, 0) for n in (*LENGTHS, 0, 0)]
    assert padded.has_events.tolist() == [bool(row.any()) for row in padded.present]
    only = batch.keep((batch.code == 5) & (batch.row == 1))  # a categorical channel
    assert only.has_events.tolist() == [False, True, False, False, False]


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), kind=st.sampled_from(["whole", "fractions", "everything"]))
def test_between_gives_the_series_that_has_no_other_steps(seed, kind):
    rng = np.random.default_rng(seed)
    lengths = np.append(rng.integers(0, 10, 6), 10)
    batch = make_panel(lengths.tolist(), cardinalities=(4,), seed=seed)
    bounds = np.sort(rng.uniform(0, lengths + 1, (2, 7)), axis=0)
    if kind != "fractions":
        bounds = np.rint(bounds) if kind == "whole" else torch.stack(batch.extent()).numpy()
    start, end = bounds
    got = batch.between(*torch.from_numpy(bounds))
    for row in range(7):
        taken = slice(int(np.ceil(start[row])), int(np.floor(end[row])) + 1)
        for one, two in zip(of_row(got, row), of_row(batch, row), strict=True):
            np.testing.assert_array_equal(one, two[:, taken])
        own = got.time[row, got.inside[row]]
        assert own.tolist() == list(range(len(own)))


def test_events_of_chosen_cells(batch):
    torch.manual_seed(0)
    chosen = torch.rand(B, C, T) < 0.6
    events = batch.events(chosen, torch.tensor([0, 0, 0, 0, 0, 3, 7]))
    want = []
    for row, c, t in np.ndindex(B, C, T):
        if chosen[row, c, t] and batch.present[row, c, t]:
            own = 0 if c < 4 else 1 + {4: 0, 5: 3}[c] + int(batch.category[row, c - 4, t])
            number, time = float(batch.value[row, c, t]), float(batch.time[row, 0, t])
            want.append((row, c, number, c < 4, own, time, T - 1.0 - t))
    names = ("row", "code", "value", "observed", "category", "time", "age")
    got = zip(*(getattr(events, name).tolist() for name in names), strict=True)
    assert list(got) == want and len(events) == B  # rows without events stay
