"""Transitions, autocorrelations and correlations, against plain computations on small frames."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from scipy.stats import spearmanr

from tawt_sklearn.evaluation import (
    autocorrelation_fidelity,
    correlation,
    correlation_fidelity,
    independent_marginals,
    transition_fidelity,
)
from tawt_sklearn.exceptions import DataError

from .frames import each_value, events_of, frame_of

QUICK = {"n_bootstrap": 0}


def in_pairs(items):
    return list(itertools.pairwise(items))


def of_code(events, code):
    return [e[2] for e in events if e[1] == code and not np.isnan(e[2])]


# ---- transitions --------------------------------------------------------------------------------


def test_bigrams(real, synthetic):
    measure = transition_fidelity(real, synthetic, random_state=0)
    counts = [
        Counter(pair for events in events_of(X) for pair in in_pairs([e[1] for e in events]))
        for X in (real, synthetic)
    ]
    totals = [sum(count.values()) for count in counts]
    pairs = {*counts[0], *counts[1]}
    expected = sum(abs(counts[0][p] / totals[0] - counts[1][p] / totals[1]) for p in pairs) / 2
    assert measure.value == pytest.approx(expected)
    assert measure.low <= measure.value <= measure.high
    row = measure.details.loc[("code", "bigrams")]
    assert [row["tv"], row["n_real"], row["n_synthetic"]] == pytest.approx([expected, *totals])


def test_states(real, synthetic):
    row = transition_fidelity(real, synthetic, **QUICK).details.loc[("category", "ward")]
    states = [
        [p for ev in events_of(X) for p in in_pairs([e[3] for e in ev if e[1] == "ward"])]
        for X in (real, synthetic)
    ]
    expected, n = 0.0, len(states[0])
    for a in ("icu", "er", "home"):
        after = [[q for p, q in side if p == a] for side in states]
        assert all(after)
        shares = [
            [follow.count(b) / len(follow) for b in ("icu", "er", "home")] for follow in after
        ]
        expected += len(after[0]) / n * np.abs(np.subtract(*shares)).sum() / 2
    assert row["tv"] == pytest.approx(expected)
    assert (row["n_real"], row["n_synthetic"]) == tuple(map(len, states))


def test_a_state_that_is_never_left_in_synthetic_data_is_wrong_throughout():
    X = frame_of([(0, "ward", "icu"), (1, "ward", "er"), (2, "ward", "icu")])
    stuck = frame_of([(0, "ward", "er"), (1, "ward", "icu")])
    tv = transition_fidelity(X, stuck, **QUICK).details.loc[("category", "ward"), "tv"]
    assert tv == pytest.approx(0.5)  # icu is never left, er goes to icu in both


def test_the_order_at_one_time_is_that_of_the_codes():
    X = frame_of([(0, "a", 1), (0, "b", 1), (1, "a", 1), (1, "b", 1)])
    other = frame_of([(0, "b", 1), (0, "a", 1), (1, "b", 1), (1, "a", 1)])
    assert transition_fidelity(X, other, **QUICK).value == 0.0


# ---- autocorrelation ----------------------------------------------------------------------------


def naive_autocorrelation(X, code, lag):
    histories = [of_code(events, code) for events in events_of(X)]
    mean = np.mean([v for history in histories for v in history])
    pairs = [(h[k] - mean, h[k + lag] - mean) for h in histories for k in range(len(h) - lag)]
    x, y = np.array(pairs).T
    return (x * y).sum() / np.sqrt((x * x).sum() * (y * y).sum())


def test_autocorrelation(real, synthetic):
    measure = autocorrelation_fidelity(real, synthetic, random_state=0)
    for code in ("bp", "hr", "temp"):
        for lag in (1, 2, 3):
            row = measure.details.loc[(code, lag)]
            expected = [naive_autocorrelation(X, code, lag) for X in (real, synthetic)]
            assert [row["real"], row["synthetic"]] == pytest.approx(expected, abs=1e-6)
            assert row["difference"] == pytest.approx(abs(expected[0] - expected[1]), abs=1e-6)
    first = measure.details.xs(1, level="lag")["difference"]
    assert measure.value == pytest.approx(first.mean())
    assert measure.low <= measure.value <= measure.high


def test_constant_codes_are_left_out_and_lost_ones_count_as_independent():
    rising = [(t, c, v) for t in range(6) for c, v in (("flat", 0.1), ("up", t))]
    X = frame_of(*[rising] * 3)
    measure = autocorrelation_fidelity(X, X)
    assert measure.value == pytest.approx(0.0)
    assert list(measure.details.index.get_level_values("code").unique()) == ["up"]
    lost = frame_of(*[[event for event in rising if event[1] == "flat"]] * 3)
    against = autocorrelation_fidelity(X, lost)
    assert against.value == pytest.approx(measure.details.loc[("up", 1), "real"])
    assert np.isnan(autocorrelation_fidelity(lost, X).value)


def test_the_variogram_is_of_numbers_so_far_apart():
    X = frame_of([(0, "hr", 1), (1, "hr", 3), (3, "hr", 0)])
    table = autocorrelation_fidelity(X, X, **QUICK).extra["variogram"]
    sd = np.std([1, 3, 0])
    # Steps of 1 and 2 numbers: lags 1, 2 and 3 hours, each in a bin of its own.
    np.testing.assert_allclose(table["real"] * sd, [2, 3, 1], rtol=1e-6)
    np.testing.assert_allclose(table["difference"], 0)
    doubled = each_value(X, lambda v: 2 * v)
    extra = autocorrelation_fidelity(X, doubled, **QUICK).extra
    assert extra["variogram_difference"] * sd == pytest.approx(2.0, rel=1e-6)


# ---- correlation --------------------------------------------------------------------------------


def correlated(rng, n=80, *, together=True):
    """Subjects whose a and b are high together, between subjects and from hour to hour."""
    subjects = []
    for _ in range(n):
        level = rng.normal(0, 3, 2)
        events = []
        for t in range(5):
            moved = rng.normal(0, 1, 2)
            for k, code in enumerate("ab"):
                j = 0 if together else k
                events.append((t, code, float(level[j] + moved[j])))
        subjects.append(events)
    return frame_of(*subjects)


def test_correlation_of_means_and_last_values_is_that_of_scipy():
    rng = np.random.default_rng(0)
    X, other = correlated(rng), correlated(rng, 60, together=False)
    measure = correlation_fidelity(X, other, random_state=0)
    for kind, summary in (("mean", np.mean), ("last", lambda v: v[-1])):
        expected = [
            spearmanr(
                *zip(*[[summary(of_code(ev, c)) for c in "ab"] for ev in events_of(Z)], strict=True)
            )[0]
            for Z in (X, other)
        ]
        row = measure.details.loc[(kind, "a", "b")]
        assert [row["real"], row["synthetic"]] == pytest.approx(expected)
    assert measure.value == pytest.approx(measure.details.loc[("mean", "a", "b"), "difference"])
    assert measure.low > 0.5
    assert measure.extra["within"] > 0.5
    again = correlated(np.random.default_rng(7))
    assert correlation_fidelity(X, again, **QUICK).value < 0.1


def test_within_subjects_the_last_known_value_counts(monkeypatch):
    X = frame_of(
        [(0, "a", 1), (1, "b", 5), (2, "a", 3), (3, "b", 6)],
        [(0, "b", 2), (1, "a", 7), (1, "b", 4), (2, "a", 9)],
    )
    # a: 1 1 3 3, - 7 9; b: - 5 5 6, 2 4 4
    a = [1 - 2, 3 - 2, 3 - 2, 7 - 8, 9 - 8]  # less the mean, at times where both are known
    b = [5 - 16 / 3, 5 - 16 / 3, 6 - 16 / 3, 4 - 10 / 3, 4 - 10 / 3]
    (values,) = correlation.read_histories(X)
    table = correlation._SubjectValues(values, np.array([0, 1])).within
    both = table[~np.isnan(table).any(axis=1)]
    np.testing.assert_allclose(both[:, 0], a)
    np.testing.assert_allclose(both[:, 1], b)
    monkeypatch.setattr(correlation, "MAX_CELLS", 8)  # only the first subject fits
    table = correlation._SubjectValues(values, np.array([0, 1])).within
    assert len(table) == 4


def test_pairs_that_few_subjects_have_are_left_out(real):
    none = correlation_fidelity(real, real, min_subjects=1000)
    assert np.isnan(none.value)
    assert none.details.empty
    assert len(correlation_fidelity(real, real, min_subjects=5, **QUICK).details) == 9
    with pytest.raises(DataError, match="Expected min_subjects"):
        correlation_fidelity(real, real, min_subjects=0)


def test_only_categories_have_no_correlation():
    X = frame_of(*[[(0, "ward", "icu"), (1, "ward", "er")]] * 3)
    for measure in (correlation_fidelity, autocorrelation_fidelity):
        assert np.isnan(measure(X, X).value)


def test_independent_marginals_have_no_dynamics(stays):
    cohorts = {
        transition_fidelity: stays[0],
        autocorrelation_fidelity: stays[0],
        correlation_fidelity: correlated(np.random.default_rng(0), 200),
    }
    for measure, X in cohorts.items():
        bad = independent_marginals(X, random_state=0)
        same, worse = (measure(X.iloc[::2], Z, **QUICK).value for Z in (X.iloc[1::2], bad))
        assert worse > 2 * same, measure
