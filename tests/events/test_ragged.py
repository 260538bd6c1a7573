"""The ragged kernels against loops that are too simple to be wrong."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tawt_sklearn.events import ragged
from tawt_sklearn.exceptions import DataError

# Few different times, so that ties, equal neighbours and rows in order all come up.
times = st.sampled_from([-1.0, -0.0, 0.0, 0.5, 1.0, 1e9])
rows_of_times = st.lists(st.lists(times, max_size=6), max_size=8)
labels = st.lists(st.sampled_from("abcdefgh"), max_size=6, unique=True)


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


@given(st.lists(labels, min_size=1, max_size=4))
def test_merge_dictionaries(dictionaries):
    indexes = [pd.Index(entries, dtype="str") for entries in dictionaries]
    merged, maps = ragged.merge_dictionaries(indexes)
    assert merged.is_unique
    assert set(merged) == {label for entries in dictionaries for label in entries}
    for index, mapping in zip(indexes, maps, strict=True):
        ids = ragged.map_ids(np.arange(-1, len(index), dtype=np.int32), mapping)
        assert ids.dtype == np.int32 and ids[0] == -1
        assert merged.take(ids[1:]).tolist() == index.tolist()


def test_merge_of_one_dictionary_is_that_dictionary():
    index = pd.Index(["hr", "temp"])
    merged, maps = ragged.merge_dictionaries([index, index, pd.Index(["hr", "temp"])])
    assert merged is index
    assert maps == [None, None, None]


def test_merge_of_integers_and_strings_is_refused():
    with pytest.raises(
        DataError, match=r"codes of one type. Got integers and strings: \[7, 'hr'\]"
    ):
        ragged.merge_dictionaries([pd.Index([7]), pd.Index(["hr"])])


def test_merge_does_not_ask_empty_dictionaries_for_their_type():
    merged, maps = ragged.merge_dictionaries([pd.Index([], dtype="str"), pd.Index([7, 8])])
    assert merged.tolist() == [7, 8]
    assert maps == [None, None]


@pytest.mark.parametrize(
    ("given", "dtype"),
    [
        (["hr", "temp"], "str"),
        (np.array(["hr", "temp"], dtype=object), "str"),
        (pd.Index(["hr"], dtype="string"), "str"),
        (pd.Categorical(["hr", "temp"]), "str"),
        ([], "str"),
        ([220045, 220050], "int64"),
        (np.array([1, 2], dtype=np.uint8), "int64"),
        (pd.array([1, 2], dtype="Int32"), "int64"),
        (["[UNK]", 220045], "object"),
    ],
)
def test_dictionaries_are_strings_integers_or_tokens(given, dtype):
    index = ragged.as_dictionary(given)
    assert index.dtype == dtype
    assert index.tolist() == list(given)
    assert index.name is None


@pytest.mark.parametrize("given", [[1.5, 2.5], [True, False], pd.to_datetime(["2020-01-01"])])
def test_other_labels_are_refused(given):
    with pytest.raises(DataError, match="Expected codes to be strings or integers"):
        ragged.as_dictionary(given)


@pytest.mark.parametrize("given", [["hr", "hr"], ["hr", None]])
def test_repeated_and_missing_labels_are_refused(given):
    with pytest.raises(DataError, match="each label once and no missing one"):
        ragged.as_dictionary(given)
