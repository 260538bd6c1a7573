from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tawt_sklearn.tokens.segments import (
    OF_NUMBERS,
    Segments,
    statistic_of_events,
    statistics_of_numbers,
)


def naive(time: list[float], value: list[float]) -> dict[str, float]:
    """All statistics of one series, with numpy, one at a time."""
    t, v = np.array(time), np.array(value)
    slope = np.nan
    if len(set(time)) > 1:
        slope = np.polyfit(t - t.mean(), v, 1)[0]
    return {
        "mean": v.mean(),
        "sd": v.std(ddof=1) if len(v) > 1 else np.nan,
        "min": v.min(),
        "max": v.max(),
        "first": v[0],
        "last": v[-1],
        "slope": slope,
    }


series = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.integers(-1, 2),
        st.integers(0, 8).map(lambda k: k / 4),
        st.one_of(st.just(np.nan), st.integers(-8, 8).map(float)),
    ),
    max_size=40,
)


def sorted_events(events):
    table = pd.DataFrame(events, columns=["row", "column", "time", "value"])
    return table.sort_values(["row", "time"], kind="stable")


@given(series)
def test_statistics_are_those_of_a_loop(events):
    table = sorted_events(events)
    segments = Segments.of(
        table["row"].to_numpy(np.int64),
        table["column"].to_numpy(np.int64),
        table["time"].to_numpy(np.float64),
        table["value"].to_numpy(np.float32),
        3,
    )
    groups = table[table["column"] >= 0].groupby(["row", "column"])
    assert list(zip(segments.row, segments.column, strict=True)) == list(groups.groups)
    end = np.full(4, 9.0)
    np.testing.assert_array_equal(statistic_of_events("count", segments, end), groups.size())
    np.testing.assert_array_equal(
        statistic_of_events("time_since_last", segments, end), 9 - groups["time"].max()
    )
    numbers = segments.with_numbers()
    found = statistics_of_numbers(OF_NUMBERS, numbers)
    groups = table[(table["column"] >= 0) & table["value"].notna()].groupby(["row", "column"])
    for k, (_, part) in enumerate(groups):
        expected = naive(part["time"].tolist(), part["value"].tolist())
        for name in OF_NUMBERS:
            np.testing.assert_allclose(found[name][k], expected[name], atol=1e-9, err_msg=name)


@given(series, st.sampled_from([0.5, 1.0, 3.0]))
def test_windows_hold_the_events_after_their_start(events, window):
    table = sorted_events(events)
    end = np.array([2.0, 1.5, 1.0, 3.0])
    segments = Segments.of(
        table["row"].to_numpy(np.int64),
        table["column"].to_numpy(np.int64),
        table["time"].to_numpy(np.float64),
        table["value"].to_numpy(np.float32),
        3,
    ).last_of(window, end)
    start = end[table["row"].to_numpy(np.int64)] - window
    inside = table[(table["time"] > start) & (table["column"] >= 0)]
    counts = inside.groupby(["row", "column"]).size()
    np.testing.assert_array_equal(np.diff(segments.offsets), counts)
    assert list(zip(segments.row, segments.column, strict=True)) == list(counts.index)


def test_sd_survives_a_large_mean():
    value = 1e6 + np.array([0.0, 0.5, 1.0])
    segments = Segments(np.arange(3.0), value, np.array([0, 3]), np.zeros(1, int), np.zeros(1, int))
    found = statistics_of_numbers(("sd", "slope"), segments)
    assert found["sd"][0] == pytest.approx(0.5) and found["slope"][0] == pytest.approx(0.5)


def test_simultaneous_events_have_no_slope():
    # Their mean time differs from their time by rounding.
    time = np.full(3, 0.1)
    segments = Segments(time, np.arange(3.0), np.array([0, 3]), np.zeros(1, int), np.zeros(1, int))
    assert np.isnan(statistics_of_numbers(("slope",), segments)["slope"][0])


def test_sorting_without_room_for_positions():
    row, column = np.array([2**50, 0, 2**50, 0]), np.array([5, 1, 5, 0])
    segments = Segments.of(row, column, np.arange(4.0), np.arange(4.0), 4000)
    assert segments.time.tolist() == [3, 1, 0, 2]
    assert segments.row.tolist() == [0, 0, 2**50] and segments.column.tolist() == [0, 1, 5]
