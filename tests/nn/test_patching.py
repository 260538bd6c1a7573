"""Both kinds of patches against loops over rows, codes and windows."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from tawt_sklearn.nn.patching import FeaturePatches, Places, TemporalPatches
from tawt_sklearn.nn.statistics import RECENT_STATISTICS, recent_statistics

EDGES = torch.tensor([12.0, 24.0, 36.0])
CODES, CATEGORIES, WIDTH = 5, 3, 8


def here(batch, row, **matches):
    """Positions of the events of a row whose fields have these values."""
    found = batch.row == row
    for name, value in matches.items():
        found &= getattr(batch, name) == value
    return found.nonzero().squeeze(1)


@pytest.fixture
def temporal() -> TemporalPatches:
    torch.manual_seed(0)
    return TemporalPatches(CODES, CATEGORIES, WIDTH, EDGES, horizon=48.0).double()


@pytest.fixture
def feature() -> FeaturePatches:
    torch.manual_seed(0)
    return FeaturePatches(CODES, CATEGORIES, WIDTH, 48.0, Places.of(CODES, CODES)).double()


def test_the_bag_of_a_window_equals_the_loop(make_batch, temporal):
    batch = make_batch(n_codes=CODES, n_categories=CATEGORIES, mean_events=40, dtype=torch.float64)
    window = temporal.window(batch.time)
    assert torch.equal(window, (batch.time.unsqueeze(1) >= EDGES).sum(1))
    got = temporal.bag(batch, window).view(len(batch), 4, WIDTH)

    for row, w in itertools.product(range(len(batch)), range(4)):
        want = torch.zeros(WIDTH, dtype=torch.float64)
        for code in range(CODES):
            at = [k for k in here(batch, row, code=code).tolist() if window[k] == w]
            if not at:
                continue
            presence, linear, bent = temporal.code[code]
            value = batch.value[at][batch.observed[at]]
            want += presence
            if len(value):
                want += value.mean() * linear + value.abs().mean() * bent
            for category in batch.category[at].tolist():
                want += temporal.category[category] * (category > 0) / len(at)
        torch.testing.assert_close(got[row, w], want)


def test_the_bag_is_the_same_when_cells_are_too_many_to_count_in_a_table(make_batch, temporal):
    batch = make_batch(n_codes=CODES, n_categories=CATEGORIES, mean_events=40, dtype=torch.float64)
    spread = 2**19  # codes far apart: 4 windows of as many codes for each row
    torch.manual_seed(0)
    wide = TemporalPatches(CODES * spread, CATEGORIES, 1, EDGES, horizon=48.0).double()
    dense = TemporalPatches(CODES, CATEGORIES, 1, EDGES, horizon=48.0).double()
    with torch.no_grad():
        dense.code[:] = wide.code[::spread]
        dense.category[:] = wide.category
    window = wide.window(batch.time)
    torch.testing.assert_close(
        wide.bag(replace(batch, code=batch.code * spread), window), dense.bag(batch, window)
    )


@pytest.mark.parametrize("spread", [1, 2**19])
def test_the_bag_of_no_events_is_empty(make_batch, spread):
    batch = make_batch(n_codes=CODES, n_categories=CATEGORIES, mean_events=40)
    nothing = batch.keep(torch.zeros(batch.n_events, dtype=torch.bool))
    patches = TemporalPatches(CODES * spread, CATEGORIES, 1, EDGES, horizon=48.0)
    bag = patches.bag(nothing, patches.window(nothing.time))
    assert bag.shape == (len(batch) * 4, 1) and not bag.any()


def test_a_window_knows_its_time_and_number_of_events(make_batch, temporal):
    batch = make_batch(n_codes=CODES, dtype=torch.float64)
    patches = temporal(batch)
    window = temporal.window(batch.time)
    for row, w in itertools.product(range(len(batch)), range(4)):
        at = [k for k in here(batch, row).tolist() if window[k] == w]
        assert patches.timed[row, w] == bool(at)
        if at:
            torch.testing.assert_close(patches.time[row, w], batch.time[at].mean())
    # One more event without value or category, of a code and at a time that are there already.
    k = int(here(batch, 0)[0])
    names = ("row", "code", "value", "observed", "category", "time", "age")
    twice = replace(
        batch, **{n: torch.cat([getattr(batch, n)[[k]], getattr(batch, n)]) for n in names}
    )
    assert not torch.allclose(temporal(twice).tokens[0], patches.tokens[0])


def test_categories_are_averaged_and_the_last_one_counts_again(make_batch, feature):
    batch = make_batch(n_codes=CODES, n_categories=CATEGORIES, mean_events=40, dtype=torch.float64)
    got = feature.category_means(batch, batch.code, CODES).view(len(batch), CODES, WIDTH)
    for row, code in itertools.product(range(len(batch)), range(CODES)):
        named = [c for c in batch.category[here(batch, row, code=code)].tolist() if c > 0]
        want = torch.zeros(WIDTH, dtype=torch.float64)
        if named:
            table = feature.category.weight
            want = table[named].mean(0) + table[named[-1]]
        torch.testing.assert_close(got[row, code], want)


def test_a_feature_patch_has_the_time_of_its_last_event(make_batch, feature):
    batch = make_batch(n_codes=CODES, dtype=torch.float64)
    patches = feature(batch)
    for row, code in itertools.product(range(len(batch)), range(CODES)):
        at = here(batch, row, code=code)
        assert patches.timed[row, code] == bool(len(at))
        if len(at):
            torch.testing.assert_close(patches.time[row, code], batch.time[at].max())


def test_recent_statistics_equal_the_loop(make_batch):
    batch = make_batch(mean_events=30, dtype=torch.float64)
    got = recent_statistics(batch.row, batch.value, batch.observed, batch.age, len(batch), 20.0)
    for row in range(len(batch)):
        at = here(batch, row)
        value = batch.value[at][batch.observed[at] & (batch.age[at] <= 20.0)].numpy()
        want = dict.fromkeys(RECENT_STATISTICS, 0.0)
        if len(value):
            want = {"mean": value.mean(), "min": value.min(), "max": value.max()}
        want["log_n_values"] = np.log1p(len(value))
        np.testing.assert_allclose(got[row], [want[name] for name in RECENT_STATISTICS])


def test_the_last_hours_include_their_border():
    segment, value = torch.zeros(2, dtype=torch.int64), torch.tensor([1.0, 3.0])
    seen = torch.ones(2, dtype=torch.bool)
    got = recent_statistics(segment, value, seen, torch.tensor([5.0, 1.0]), 1, length=5.0)[0]
    assert got[RECENT_STATISTICS.index("mean")] == 2.0


def test_feature_patches_with_free_places_are_those_with_fixed_ones(make_batch):
    """What a code's patch holds does not depend on how codes get their places."""
    batch = make_batch(n_codes=CODES, n_categories=CATEGORIES, dtype=torch.float64)
    torch.manual_seed(0)
    fixed, free, grown = (
        FeaturePatches(CODES, CATEGORIES, WIDTH, 48.0, places).double()
        for places in (Places(CODES, 0), Places(0, CODES), Places(2, CODES - 2))
    )
    for other in (free, grown):
        other.load_state_dict(fixed.state_dict())
    want = fixed(batch)
    assert want.filled is None
    for got in (free(batch), grown(batch)):
        for row, place in got.filled.nonzero().tolist():
            code = got.code[row, place]
            torch.testing.assert_close(got.tokens[row, place], want.tokens[row, code])
            torch.testing.assert_close(got.time[row, place], want.time[row, code])
        for row in range(len(batch)):
            found = set(got.code[row, got.filled[row]].tolist())
            assert found >= set(batch.code[batch.row == row].tolist())
