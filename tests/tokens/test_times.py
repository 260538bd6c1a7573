from __future__ import annotations

import numpy as np
import pytest

from tawt_sklearn.tokens import times

from .builders import long_table, random_frame

NAN = np.nan
TIME = np.array([2.0, 3.0, 3.0, 7.0, 1.0, 4.0])
OFFSETS = np.array([0, 4, 4, 5, 6])


@pytest.mark.parametrize(
    ("rule", "known_start", "expected"),
    [
        ("zero", False, [0, 0, 0, 0]),
        ("first", False, [2, 10, 1, 4]),  # no events: the end
        ("end", False, [9, 10, 1, 4]),
        ("zero", True, [0, 1, 0.5, 0]),
        ("first", True, [2, 1, 0.5, 4]),
    ],
)
def test_origin_and_end(rule, known_start, expected):
    start, end = np.array([NAN, 1.0, 0.5, NAN]), np.array([9.0, 10.0, NAN, NAN])
    origin, last = times.origin_and_end(
        TIME, OFFSETS, start, end, rule=rule, known_start=known_start
    )
    np.testing.assert_array_equal(origin, expected)
    np.testing.assert_array_equal(last, [9, 10, 1, 4])


@pytest.mark.parametrize("rule", ["zero", "first", "end"])
def test_rows_that_nothing_is_known_of_are_at_zero(rule):
    offsets, nothing = np.zeros(3, np.int64), np.full(2, NAN)
    both = times.origin_and_end(np.empty(0), offsets, nothing, nothing, rule=rule, known_start=True)
    np.testing.assert_array_equal(both, np.zeros((2, 2)))


def test_an_empty_row_with_a_known_start_ends_there():
    origin, end = times.origin_and_end(
        np.empty(0),
        np.zeros(2, int),
        np.array([5.0]),
        np.array([NAN]),
        rule="first",
        known_start=False,
    )
    assert origin.tolist() == end.tolist() == [5.0]


def test_typical_gap_is_between_distinct_times_of_one_row():
    rng = np.random.default_rng(0)
    assert times.typical_gap(TIME, OFFSETS, rng) == np.median([1, 4])
    assert times.typical_gap(np.array([3.0, 3.0, 1.0]), np.array([0, 2, 3]), rng) == 1.0


def test_gaps_and_quantiles_of_many_events_come_from_a_sample():
    rng = np.random.default_rng(0)
    E = times.SAMPLE + 5000
    gaps = rng.exponential(2.0, E)
    time, offsets = np.cumsum(gaps), np.array([0, E])
    assert times.typical_gap(time, offsets, rng) == pytest.approx(2 * np.log(2), rel=0.03)
    quantiles = times.time_quantiles(time, offsets, np.array([1.0]), rng)
    np.testing.assert_allclose(quantiles, np.quantile(time - 1, times.LEVELS), rtol=0.02, atol=9)


def test_gaps_are_found_where_nearly_all_events_are_ties():
    rng = np.random.default_rng(0)
    time = np.zeros(times.SAMPLE + 5000)
    time[-3:] = [4.0, 8.0, 12.0]
    assert times.typical_gap(time, np.array([0, len(time)]), rng) == 4.0


def test_quantiles_of_times_and_spans():
    rng = np.random.default_rng(0)
    origin = np.array([2.0, 0.0, 0.0, 0.0])
    quantiles = times.time_quantiles(TIME, OFFSETS, origin, rng)
    np.testing.assert_allclose(quantiles[[0, 10, 20]], [0, 1, 5])
    spans = times.span_quantiles(OFFSETS, origin, np.array([9.0, 50.0, 1.0, 4.0]))
    np.testing.assert_allclose(spans[[0, 10, 20]], [1, 4, 7])  # the empty row does not count


def test_most_recent_events():
    kept, offsets = times.most_recent(OFFSETS, 2)
    assert kept.tolist() == [2, 3, 4, 5] and offsets.tolist() == [0, 2, 2, 3, 4]
    kept, offsets = times.most_recent(OFFSETS, 4)
    assert kept is None and offsets is OFFSETS


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_duplicates_are_those_of_pandas(seed, ordered):
    X = random_frame(np.random.default_rng(seed), V=3)
    table = long_table(X)
    array = X["events"].array
    code = array.code
    if ordered:
        keys = np.lexsort((code, table["time"], table["row"]))
        code, table = code[keys], table.iloc[keys]
    repeated = table.duplicated(["row", "time", "code"])
    expected = [(repeated & table["code"].isna()).sum()] + [
        (repeated & (table["code"] == c)).sum() for c in array.codes
    ]
    counts = times.count_duplicates(array.time, code, array.offsets, 3)
    assert counts.tolist() == expected and sum(expected) > 0


def test_no_duplicates():
    assert times.count_duplicates(np.empty(0), np.empty(0, int), np.zeros(2, int), 2).sum() == 0
    same_time_in_two_rows = np.array([1.0, 1.0])
    counts = times.count_duplicates(same_time_in_two_rows, np.zeros(2, int), np.arange(3), 1)
    assert counts.tolist() == [0, 0]
