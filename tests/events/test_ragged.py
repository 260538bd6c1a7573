"""The ragged kernels against loops that are too simple to be wrong."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tawt_sklearn.events import ragged

# Few different times, so that ties, equal neighbours and rows in order all come up.
times = st.sampled_from([-1.0, -0.0, 0.0, 0.5, 1.0, 1e9])
rows_of_times = st.lists(st.lists(times, max_size=6), max_size=8)


def flatten(rows):
    offsets = ragged.offsets_from_lengths([len(row) for row in rows])
    return np.array([item for row in rows for item in row], dtype=np.float64), offsets


@given(rows_of_times)
def test_offsets_and_row_ids(rows):
    flat, offsets = flatten(rows)
    assert offsets.dtype == np.int64
    assert offsets.tolist() == [sum(len(row) for row in rows[:i]) for i in range(len(rows) + 1)]
    assert ragged.row_ids(offsets).tolist() == [i for i, row in enumerate(rows) for _ in row]
    assert len(flat) == offsets[-1]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 4)), max_size=8))
def test_range_positions(ranges):
    begin = np.array([first for first, _ in ranges], dtype=np.int64)
    lengths = np.array([length for _, length in ranges], dtype=np.int64)
    positions, offsets = ragged.range_positions(begin, lengths)
    assert positions.dtype == offsets.dtype == np.int64
    assert positions.tolist() == [first + i for first, length in ranges for i in range(length)]
    assert np.diff(offsets).tolist() == lengths.tolist()


@settings(deadline=None)
@given(rows_of_times, st.data())
def test_gather_rows(rows, data):
    flat, offsets = flatten(rows)
    wanted = data.draw(st.lists(st.integers(-1, len(rows) - 1), max_size=10))
    positions, new = ragged.gather_rows(offsets, np.array(wanted, dtype=np.int64))
    expected = [[] if row < 0 else rows[row] for row in wanted]
    assert flat[positions].tolist() == [item for row in expected for item in row]
    assert np.diff(new).tolist() == [len(row) for row in expected]


@given(rows_of_times)
def test_segment_count(rows):
    flat, offsets = flatten(rows)
    counts = ragged.segment_count(flat > 0, offsets)
    assert counts.tolist() == [sum(item > 0 for item in row) for row in rows]


@given(rows_of_times)
def test_sort_within(rows):
    flat, offsets = flatten(rows)
    assert ragged.is_sorted_within(flat, offsets) == all(row == sorted(row) for row in rows)
    order = ragged.sort_within(flat, offsets)
    # Python's sort is stable, and compares -0.0 and 0.0 as equal, as it must be here.
    expected = [
        int(offsets[i]) + place
        for i, row in enumerate(rows)
        for place in sorted(range(len(row)), key=row.__getitem__)
    ]
    if order is None:
        assert expected == list(range(len(flat)))
    else:
        assert order.tolist() == expected


@given(rows_of_times, st.sampled_from(["left", "right"]), st.data())
def test_searchsorted_within(rows, side, data):
    rows = [sorted(row) for row in rows]
    flat, offsets = flatten(rows)
    bound = np.array([data.draw(times) for _ in rows])
    found = ragged.searchsorted_within(flat, offsets, bound, side)
    expected = [
        offset + np.searchsorted(row, limit, side)
        for offset, row, limit in zip(offsets, rows, bound, strict=False)
    ]
    assert found.tolist() == expected
