"""Dictionaries of labels, and the ids into them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tawt_sklearn.events.labels import as_dictionary, map_ids, merge_dictionaries
from tawt_sklearn.exceptions import DataError

labels = st.lists(st.sampled_from("abcdefgh"), max_size=6, unique=True)


@given(st.lists(labels, min_size=1, max_size=4))
def test_merge_dictionaries(dictionaries):
    indexes = [pd.Index(entries, dtype="str") for entries in dictionaries]
    merged, maps = merge_dictionaries(indexes)
    assert merged.is_unique
    assert set(merged) == {label for entries in dictionaries for label in entries}
    for index, mapping in zip(indexes, maps, strict=True):
        ids = map_ids(np.arange(-1, len(index), dtype=np.int32), mapping)
        assert ids.dtype == np.int32 and ids[0] == -1
        assert merged.take(ids[1:]).tolist() == index.tolist()


def test_merge_of_one_dictionary_is_that_dictionary():
    index = pd.Index(["hr", "temp"])
    merged, maps = merge_dictionaries([index, index, pd.Index(["hr", "temp"])])
    assert merged is index
    assert maps == [None, None, None]


def test_merge_of_integers_and_strings_is_refused():
    with pytest.raises(
        DataError, match=r"codes of one type. Got integers and strings: \[7, 'hr'\]"
    ):
        merge_dictionaries([pd.Index([7]), pd.Index(["hr"])])


def test_merge_does_not_ask_empty_dictionaries_for_their_type():
    merged, maps = merge_dictionaries([pd.Index([], dtype="str"), pd.Index([7, 8])])
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
    index = as_dictionary(given)
    assert index.dtype == dtype
    assert index.tolist() == list(given)
    assert index.name is None


@pytest.mark.parametrize("given", [[1.5, 2.5], [True, False], pd.to_datetime(["2020-01-01"])])
def test_other_labels_are_refused(given):
    with pytest.raises(DataError, match="Expected codes to be strings or integers"):
        as_dictionary(given)


@pytest.mark.parametrize("given", [["hr", "hr"], ["hr", None]])
def test_repeated_and_missing_labels_are_refused(given):
    with pytest.raises(DataError, match="each label once and no missing one"):
        as_dictionary(given)
