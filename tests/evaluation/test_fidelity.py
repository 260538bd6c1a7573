"""Marginals, presence and intervals, against plain computations on small frames."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ks_2samp, wasserstein_distance

from tawt_sklearn.evaluation import (
    co_measurement,
    independent_marginals,
    interval_fidelity,
    marginal_fidelity,
    missingness_fidelity,
)

from .frames import each_value, events_of, frame_of

QUICK = {"n_bootstrap": 0}


def numbers_of(X, code):
    return [e[2] for events in events_of(X) for e in events if e[1] == code and not np.isnan(e[2])]


def tv(first, second):
    """Total variation of two lists of labels."""
    labels = {*first, *second}
    return sum(abs(first.count(k) / len(first) - second.count(k) / len(second)) for k in labels) / 2


# ---- marginals ----------------------------------------------------------------------------------


def test_marginals_of_numbers(real, synthetic):
    measure = marginal_fidelity(real, synthetic, **QUICK)
    ks = {}
    for code in ("bp", "hr", "temp"):
        a, b = numbers_of(real, code), numbers_of(synthetic, code)
        row = measure.details.loc["number", code]
        ks[code] = ks_2samp(a, b).statistic
        assert row["ks"] == pytest.approx(ks[code])
        assert row["w1"] == pytest.approx(wasserstein_distance(a, b) / np.std(a))
        assert (row["n_real"], row["n_synthetic"]) == (len(a), len(b))
    assert measure.value == pytest.approx(np.mean([*ks.values()]))
    assert list(measure.details.loc["number"].index) == sorted(ks)


def test_marginals_of_categories_and_codes(real, synthetic):
    details = marginal_fidelity(real, synthetic, **QUICK).details
    sides = [[e for events in events_of(X) for e in events] for X in (real, synthetic)]
    wards = [[e[3] for e in side if e[1] == "ward"] for side in sides]
    assert details.loc[("category", "ward"), "tv"] == pytest.approx(tv(*wards))
    codes = [[e[1] for e in side] for side in sides]
    assert details.loc[("code", "frequency"), "tv"] == pytest.approx(tv(*codes))


def test_marginals_of_static_columns(real, synthetic):
    details = marginal_fidelity(real, synthetic, **QUICK).details
    ages = [X["age"].dropna() for X in (real, synthetic)]
    assert details.loc[("static", "age"), "ks"] == pytest.approx(ks_2samp(*ages).statistic)
    missing = [X["age"].isna().mean() for X in (real, synthetic)]
    assert details.loc[("static", "age"), "tv"] == pytest.approx(abs(missing[0] - missing[1]))
    sexes = [X["sex"].fillna("?").tolist() for X in (real, synthetic)]
    assert details.loc[("static", "sex"), "tv"] == pytest.approx(tv(*sexes))


def test_a_code_that_is_absent_is_at_distance_1():
    X = frame_of([(0, "hr", 80), (1, "bp", 120)], [(0, "hr", 70), (0, "ward", "icu")])
    without = frame_of([(0, "hr", 80)], [(0, "hr", 70)])
    details = marginal_fidelity(X, without, **QUICK).details
    assert details.loc[("number", "bp"), "ks"] == 1.0
    assert details.loc[("category", "ward"), "tv"] == 1.0
    assert marginal_fidelity(X, without, **QUICK).value == pytest.approx(0.5)
    assert marginal_fidelity(without, X, **QUICK).value == pytest.approx(0.0)


def test_without_numbers_there_is_no_headline():
    X = frame_of([(0, "ward", "icu"), (1, "ward", "er")], [(0, "ward", "icu")])
    measure = marginal_fidelity(X, X)
    assert np.isnan(measure.value) and np.isnan(measure.low)
    assert measure.details.loc[("category", "ward"), "tv"] == 0.0


def test_shifted_values_are_seen(real):
    shifted = each_value(real, lambda v: v + 20)
    measure = marginal_fidelity(real, shifted, random_state=0)
    assert measure.low > 0.4
    assert measure.low <= measure.value <= measure.high
    assert measure.details.loc[("code", "frequency"), "tv"] == 0.0


# ---- presence -----------------------------------------------------------------------------------


def naive_co_measurement(X, codes):
    times = [
        {e[1] for e in group}
        for events in events_of(X)
        for _, group in itertools.groupby(events, key=lambda e: e[0])
    ]
    together = [[sum(a in t and b in t for t in times) for b in codes] for a in codes]
    return np.array(together) / len(times)


def test_co_measurement(real):
    codes = ["bp", "hr", "note", "temp", "ward"]
    expected = naive_co_measurement(real, codes)
    matrix = co_measurement(real)
    assert list(matrix.index) == list(matrix.columns) == codes
    np.testing.assert_allclose(matrix, expected)
    given_code = co_measurement(real, given="code")
    np.testing.assert_allclose(given_code, expected / np.diag(expected)[:, None])
    few = co_measurement(real, max_codes=2)
    np.testing.assert_allclose(few, matrix.loc[few.index, few.index])


def test_missingness(real, synthetic):
    measure = missingness_fidelity(real, synthetic, random_state=0)
    difference = (co_measurement(real) - co_measurement(synthetic)).abs().to_numpy()
    assert measure.value == pytest.approx(difference.max())
    np.testing.assert_allclose(measure.details["co_measurement"], difference.max(axis=1))
    assert measure.extra["co_measurement_mean"] == pytest.approx(
        difference[np.triu_indices(5)].mean()
    )
    for code, row in measure.details.iterrows():
        counts = [[sum(e[1] == code for e in ev) for ev in events_of(X)] for X in (real, synthetic)]
        assert row["rate_ks"] == pytest.approx(ks_2samp(*counts).statistic)
        ever = [np.mean(np.array(count) > 0) for count in counts]
        assert row["ever_real"] == pytest.approx(ever[0])
        assert row["ever_difference"] == pytest.approx(abs(ever[0] - ever[1]))


def test_panels_that_were_taken_apart_are_seen():
    together = frame_of(*[[(t, c, 1) for t in range(6) for c in "ab"]] * 10)
    apart = frame_of(*[[(t + (c == "b") / 2, c, 1) for t in range(6) for c in "ab"]] * 10)
    measure = missingness_fidelity(together, apart)
    assert measure.value == pytest.approx(1.0)
    assert measure.extra["rate_ks"] == pytest.approx(0.0)


def test_a_code_that_one_side_lacks_counts_as_never_measured():
    X = frame_of([(0, "hr", 80), (0, "bp", 120)], [(0, "hr", 70)])
    other = frame_of([(0, "hr", 80)], [(0, "hr", 70)])
    details = missingness_fidelity(X, other, **QUICK).details
    assert details.loc["bp", "ever_synthetic"] == 0.0
    assert details.loc["bp", "co_measurement"] == pytest.approx(0.5)


# ---- intervals ----------------------------------------------------------------------------------


def gaps(events):
    times = sorted({e[0] for e in events})
    return [b - a for a, b in itertools.pairwise(times)]


def test_intervals(real, synthetic):
    details = interval_fidelity(real, synthetic, **QUICK).details
    assert list(details.index) == [
        *("gap_ks", "gap_w1", "length_ks", "span_ks", "events_per_time_ks"),
        *("zero_gap_difference", "regap_ks"),
    ]
    sides = [events_of(X) for X in (real, synthetic)]
    all_gaps = [[g for events in side for g in gaps(events)] for side in sides]
    assert details["gap_ks"] == pytest.approx(ks_2samp(*all_gaps).statistic)
    logs = [np.log1p(g) for g in all_gaps]
    assert details["gap_w1"] == pytest.approx(wasserstein_distance(*logs))
    lengths = [[len(events) for events in side] for side in sides]
    assert details["length_ks"] == pytest.approx(ks_2samp(*lengths).statistic)
    spans = [[ev[-1][0] - ev[0][0] for ev in side if ev] for side in sides]
    assert details["span_ks"] == pytest.approx(ks_2samp(*spans).statistic)
    sizes = [
        [len([*g]) for ev in side for _, g in itertools.groupby(ev, key=lambda e: e[0])]
        for side in sides
    ]
    assert details["events_per_time_ks"] == pytest.approx(ks_2samp(*sizes).statistic)
    zero = [
        np.mean([a[0] == b[0] for ev in side for a, b in itertools.pairwise(ev)]) for side in sides
    ]
    assert details["zero_gap_difference"] == pytest.approx(abs(zero[0] - zero[1]))
    regaps = {
        code: [[g for ev in side for g in gaps([e for e in ev if e[1] == code])] for side in sides]
        for code in ("bp", "hr", "note", "temp", "ward")
    }
    expected = {code: ks_2samp(*pair).statistic for code, pair in regaps.items()}
    assert details["regap_ks"] == pytest.approx(np.mean([*expected.values()]))
    by_code = interval_fidelity(real, synthetic, **QUICK).extra["regap_by_code"]
    assert by_code.to_dict() == pytest.approx(expected)


def test_stretched_time_is_seen_in_gaps_and_not_in_lengths(real):
    array = real["events"].array
    slow = real.assign(events=array._replace(time=np.asarray(array.time) * 3))
    measure = interval_fidelity(real, slow, random_state=0)
    assert measure.low > 0.3
    assert measure.details["length_ks"] == 0.0
    assert measure.details["zero_gap_difference"] == 0.0


def test_gaps_that_differ_by_rounding_are_the_same():
    """One hour is one hour, at whatever time of the calendar it begins."""
    X = frame_of(*[[(float(k), "hr", 1), (k + 1.0, "hr", 1)] for k in range(20)])
    array = X["events"].array
    late = X.assign(events=array._replace(time=np.asarray(array.time) + 487_123.1))
    assert interval_fidelity(X, late, **QUICK).details.max() == pytest.approx(0.0)


def test_histories_without_gaps():
    X = frame_of([(0, "hr", 80)], [])
    measure = interval_fidelity(X, X)
    assert np.isnan(measure.value)
    assert measure.details["length_ks"] == 0.0
    some = frame_of([(0, "hr", 80), (1, "hr", 80)], [])
    assert interval_fidelity(some, X).value == 1.0


def test_independent_marginals_pass_marginals_and_fail_the_rest(stays):
    X, _ = stays
    bad = independent_marginals(X, 900, random_state=0)
    assert marginal_fidelity(X, bad, **QUICK).value < 0.06
    assert interval_fidelity(X, bad, **QUICK).details["length_ks"] < 0.1
    assert missingness_fidelity(X, bad, **QUICK).value > 0.1


def test_labels_of_codes_may_be_numbers():
    table = pd.DataFrame(
        {"subject_id": [1, 1, 2], "time": [0, 1, 0], "code": [3, 4, 3], "value": 1}
    )
    from tawt_sklearn import nest_events

    X = nest_events(table)
    assert list(missingness_fidelity(X, X, **QUICK).details.index) == [3, 4]
