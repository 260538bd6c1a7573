"""The result type, its interval and the statistics with weights."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ks_2samp, wasserstein_distance
from sklearn.metrics import roc_auc_score

from tawt_sklearn.evaluation import Measure
from tawt_sklearn.evaluation._statistics import Ecdfs, total_variation, weighted_auc
from tawt_sklearn.evaluation.measure import generator, interval, measured
from tawt_sklearn.exceptions import DataError


def test_a_measure_reads_as_a_number():
    assert float(Measure(0.25)) == 0.25
    assert repr(Measure(0.523, 0.4904, 0.56)) == "Measure(.523 [.490, .560])"
    assert repr(Measure(-0.5)) == "Measure(-.500)"
    assert repr(Measure(1.0)) == "Measure(1.000)"
    assert repr(Measure(-0.0001)) == "Measure(.000)"
    assert repr(Measure(np.nan)) == "Measure(nan)"


def test_a_measure_is_frozen_and_survives_pickling():
    measure = Measure(0.5, 0.4, 0.6, pd.Series({"a": 1.0}), {"n": 3})
    with pytest.raises(AttributeError):
        measure.value = 0.1
    copy = pickle.loads(pickle.dumps(measure))
    assert repr(copy) == repr(measure)
    assert copy.extra == {"n": 3}


def test_the_interval_is_of_the_mean_over_subjects():
    numbers = np.random.default_rng(0).normal(0.5, 0.1, 400)
    rng = np.random.default_rng(1)
    measure = measured(
        lambda w: float(np.average(numbers, weights=w)), (400,), n_bootstrap=500, rng=rng
    )
    error = numbers.std() / 20
    assert measure.value == pytest.approx(numbers.mean())
    assert measure.low == pytest.approx(measure.value - 1.96 * error, abs=0.3 * error)
    assert measure.high == pytest.approx(measure.value + 1.96 * error, abs=0.3 * error)


def test_no_resamples_give_no_interval():
    measure = measured(lambda w: 0.5, (3,), n_bootstrap=0, rng=np.random.default_rng(0))
    assert np.isnan(measure.low) and np.isnan(measure.high)


def test_the_interval_keeps_to_the_bounds_and_holds_the_value():
    low, high = interval(0.0, np.linspace(0.1, 0.3, 101), (0.0, 1.0))
    assert low == 0.0
    assert high == pytest.approx(0.095)


@pytest.mark.parametrize("n_bootstrap", [-1, 2.5, "many", True])
def test_resamples_are_counted_in_whole_numbers(n_bootstrap):
    with pytest.raises(DataError, match="Expected n_bootstrap.*Got"):
        measured(lambda w: 0.5, (3,), n_bootstrap=n_bootstrap, rng=np.random.default_rng(0))


def test_random_states_of_all_kinds():
    assert generator(3).integers(1000) == generator(3).integers(1000)
    legacy = [generator(np.random.RandomState(3)).integers(1000) for _ in range(2)]
    assert legacy[0] == legacy[1]
    mine = np.random.default_rng(0)
    assert generator(mine) is mine
    with pytest.raises(DataError, match="Expected random_state"):
        generator("seed")


def sides(rng, sizes=(60, 45), groups=4):
    """Tied numbers of several groups; the last group is empty on the second side."""
    first, second = (
        (rng.integers(groups - k, size=n), rng.integers(6, size=n) / 2.0, np.arange(n) // 3)
        for k, n in enumerate(sizes)
    )
    return first, second


def test_distances_of_distributions_are_those_of_scipy():
    first, second = sides(np.random.default_rng(0))
    ecdfs = Ecdfs.of(first, second, 6, 20)
    ks, w1 = (distance(np.ones(20), np.ones(15)) for distance in (ecdfs.ks, ecdfs.w1))
    for group in range(3):
        a, b = (side[1][side[0] == group] for side in (first, second))
        assert ks[group] == pytest.approx(ks_2samp(a, b).statistic)
        assert w1[group] == pytest.approx(wasserstein_distance(a, b))
    assert ks[3] == 1.0 and np.isnan(w1[3])  # one side has none
    assert np.isnan(ks[4:]).all()  # nor has the other


def test_weights_are_repeats():
    rng = np.random.default_rng(1)
    first, second = sides(rng)
    weights = rng.integers(0, 3, 20), rng.integers(0, 3, 15)
    ecdfs = Ecdfs.of(first, second, 4, 20)
    ks = ecdfs.ks(*(weight.astype(float) for weight in weights))
    for group in range(3):
        a, b = (
            np.repeat(side[1], weight[side[2]])[np.repeat(side[0], weight[side[2]]) == group]
            for side, weight in zip((first, second), weights, strict=True)
        )
        assert ks[group] == pytest.approx(ks_2samp(a, b).statistic)


def test_weighted_auc_is_that_of_repeats():
    rng = np.random.default_rng(2)
    positive, negative = rng.integers(5, size=20) * 1.0, rng.integers(4, size=30) * 1.0
    weights = rng.integers(0, 3, 20), rng.integers(0, 3, 30)
    label = np.repeat([1, 0], [weights[0].sum(), weights[1].sum()])
    score = np.r_[np.repeat(positive, weights[0]), np.repeat(negative, weights[1])]
    assert weighted_auc(positive, negative, *weights) == pytest.approx(roc_auc_score(label, score))
    assert np.isnan(weighted_auc(positive, negative, weights[0] * 0, weights[1]))


def test_total_variation_of_empty_tables():
    some, none = np.array([1.0, 2.0]), np.zeros(2)
    assert total_variation(some, none) == 1.0
    assert np.isnan(total_variation(none, none))
