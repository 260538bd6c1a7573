"""Numbers as shares of their distribution and back; gaps in classes."""

from __future__ import annotations

import numpy as np
import pytest

from tawt_sklearn.synthesis.gaps import MOST_SINGLE, SAME, GapClasses
from tawt_sklearn.synthesis.marginals import FARTHEST, MOST_STEPS, Marginal, scores

# ---- numbers -----------------------------------------------------------------------------------

SAMPLES = {
    "few": [1.0, 2.0, 2.0, 5.0],
    "one": [3.25],
    "constant": [4.0] * 9,
    "ties": np.random.default_rng(0).integers(0, 40, 500),
    "decimals": np.random.default_rng(1).normal(50, 10, 400).round(1),
    "all different": np.random.default_rng(2).normal(size=MOST_STEPS),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_number_lies_where_it_was_read_from(name):
    sample = np.asarray(SAMPLES[name], float)
    marginal = Marginal.fit(sample)
    low, high = marginal.bounds(sample)
    assert (low < high).all()
    for within in (0.01, 0.5, 0.99):
        share = low + (high - low) * within
        np.testing.assert_array_equal(marginal.value(share), sample)


@pytest.mark.parametrize("name", SAMPLES)
def test_shares_are_counted(name):
    sample = np.asarray(SAMPLES[name], float)
    low, high = Marginal.fit(sample).bounds(sample)
    np.testing.assert_allclose(low, [(sample < x).mean() for x in sample], atol=1e-6)
    np.testing.assert_allclose(high, [(sample <= x).mean() for x in sample], atol=1e-6)


def test_many_numbers_are_kept_as_quantiles():
    sample = np.random.default_rng(0).normal(size=20_000)
    marginal = Marginal.fit(sample)
    assert len(marginal.values) <= MOST_STEPS + 1
    low, high = marginal.bounds(sample)
    np.testing.assert_array_equal(low, high)
    expected = np.argsort(np.argsort(sample)) / len(sample)
    assert np.abs(low - expected).max() < 0.003
    middle = (expected > 0.02) & (expected < 0.98)
    assert np.abs(marginal.value(low) - sample)[middle].max() < 1e-3


def test_numbers_are_drawn_as_often_as_they_occur():
    rng = np.random.default_rng(0)
    sample = rng.choice([0.0, 1.0, 7.5], 1000, p=[0.6, 0.3, 0.1])
    drawn = Marginal.fit(sample).value(rng.random(20_000))
    for value in (0.0, 1.0, 7.5):
        assert (drawn == value).mean() == pytest.approx((sample == value).mean(), abs=0.015)


@pytest.mark.parametrize("n", [300, 5000])
def test_extremes_are_cut_off_at_the_kth_value(n):
    sample = np.random.default_rng(0).normal(size=n)
    ordered = np.sort(sample)
    drawn = Marginal.fit(sample, n_extreme=5).value(np.linspace(0, 1, 9999))
    assert (drawn.min(), drawn.max()) == (ordered[4], ordered[-5])
    low, high = Marginal.fit(sample, n_extreme=5).bounds(ordered)
    assert ((0 <= low) & (low <= high) & (high <= 1)).all()


def test_fewer_numbers_than_extremes():
    marginal = Marginal.fit([1.0, 2.0, 3.0], n_extreme=5)
    np.testing.assert_array_equal(marginal.values, [2.0])


def test_what_lies_outside_is_taken_for_the_ends():
    marginal = Marginal.fit([1.0, 2.0, 3.0])
    low, high = marginal.bounds([-9.0, 9.0])
    np.testing.assert_array_equal(marginal.value((low + high) / 2), [1.0, 3.0])


@pytest.mark.parametrize("decimals", [0, 1, 3])
def test_numbers_in_between_have_as_many_decimals(decimals):
    sample = np.random.default_rng(0).normal(0, 20, 5000).round(decimals)
    drawn = Marginal.fit(sample).value(np.linspace(0, 1, 5001))
    np.testing.assert_allclose(drawn, drawn.round(decimals), atol=1e-9)
    assert sample.min() <= drawn.min() and drawn.max() <= sample.max()


def test_numbers_of_single_precision_have_decimals_too():
    sample = np.random.default_rng(0).normal(36, 1, 5000).round(2).astype(np.float32)
    assert Marginal.fit(sample).decimals == 2


def test_no_rounding_where_there_are_no_decimals():
    assert Marginal.fit(np.random.default_rng(0).normal(size=5000)).decimals is None


def test_a_tie_among_many_numbers_covers_its_share():
    rng = np.random.default_rng(0)
    sample = np.where(rng.random(5000) < 0.4, 0.0, rng.lognormal(size=5000))
    low, high = Marginal.fit(sample).bounds([0.0])
    assert high - low == pytest.approx(0.4, abs=0.03)


def test_scores_are_finite():
    assert scores([0.0, 0.5, 1.0]).tolist() == [-FARTHEST, 0.0, FARTHEST]


# ---- gaps --------------------------------------------------------------------------------------


def drawn(classes):
    """All points with their classes."""
    number, n_points = classes.points.shape
    return classes.points.ravel(), np.repeat(np.arange(number), n_points)


@pytest.mark.parametrize(
    "gaps",
    [
        np.zeros(0),
        np.zeros(4),
        np.array([0.0, 1.0]),
        np.array([0.25, 1.0, 1.0, 24.0]),
        np.random.default_rng(0).integers(0, MOST_SINGLE, 4000),
        np.random.default_rng(0).exponential(size=3000),
        np.random.default_rng(0).exponential(size=MOST_SINGLE + 1),
        np.append(np.random.default_rng(0).exponential(size=3000), [1.0] * 500 + [0.0] * 9),
        np.random.default_rng(0).geometric(0.01, 5000),
    ],
)
def test_a_drawn_gap_is_of_its_class(gaps):
    classes = GapClasses.fit(gaps.astype(float))
    points, of = drawn(classes)
    np.testing.assert_array_equal(classes.of(points), of)
    assert set(points) <= {0.0, *gaps.astype(float)}
    found = classes.of(gaps.astype(float))
    assert ((found == SAME) == (gaps == 0)).all()
    assert found.max(initial=0) < classes.number


def test_a_few_gaps_are_classes_of_their_own():
    classes = GapClasses.fit(np.array([0.0, 1.0, 1.0, 24.0]))
    assert classes.spikes.tolist() == [1.0, 24.0]
    assert classes.of(np.array([0.0, 1.0, 3.0, 20.0, 99.0])).tolist() == [0, 1, 1, 2, 2]


def test_what_is_common_is_a_spike_among_bins():
    rng = np.random.default_rng(0)
    classes = GapClasses.fit(np.append(rng.exponential(size=3000), [1.0] * 500))
    assert classes.spikes.tolist() == [1.0]
    assert classes.of(np.array([1.0, 1.0 + 1e-6])).tolist()[0] == 1
    assert classes.of(np.array([1.0 + 1e-6]))[0] > 1


def test_bins_hold_about_as_many_gaps_each():
    gaps = np.random.default_rng(0).exponential(size=6400)
    classes = GapClasses.fit(gaps)
    counts = np.bincount(classes.of(gaps), minlength=classes.number)
    assert counts[SAME] == 0
    assert counts[1:].min() > 0.9 * counts[1:].max()


def test_gaps_that_never_were_get_the_nearest_class():
    gaps = np.random.default_rng(0).exponential(size=3000)
    classes = GapClasses.fit(gaps)
    assert classes.of(np.array([1e-12, 1e12])).tolist() == [1, classes.number - 1]
