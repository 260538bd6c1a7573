"""Labels as users give them: what is taken, what is refused, and what the refusal says."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tawt_sklearn.exceptions import DataError
from tawt_sklearn.objectives.labels import classes_of, finite_numbers, indicators, one_label


@pytest.mark.parametrize("labels", [["a", "b"], [1, 2], [1.0, 2.0], [True, False]])
def test_a_single_column_is_a_list_of_labels(labels):
    labels = np.array(labels)
    np.testing.assert_array_equal(one_label(labels), labels)
    np.testing.assert_array_equal(one_label(labels[:, None]), labels)


@pytest.mark.parametrize("shape", [(4, 2), (4, 0), (4, 1, 1), ()])
def test_labels_of_another_shape(shape):
    with pytest.raises((DataError, TypeError)):
        one_label(np.zeros(shape))


def test_the_shape_that_came_is_named():
    with pytest.raises(DataError, match=r"shape \(4,\). Got an array of shape \(4, 2\)"):
        one_label(np.zeros((4, 2)))


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, pd.NaT])
def test_missing_labels_are_counted_and_found(missing):
    labels = np.array(["a", "b", missing, "a", missing], dtype=object)
    with pytest.raises(DataError, match="2 missing ones, the first at position 2"):
        one_label(labels)


def test_classes_are_sorted():
    assert classes_of(np.array(["red", "blue", "red", "green"])).tolist() == [
        "blue",
        "green",
        "red",
    ]
    assert classes_of(np.array([3, -1, 3])).tolist() == [-1, 3]
    assert classes_of(np.array([2.0, 1.0])).tolist() == [1.0, 2.0]
    assert classes_of(np.array([True, False, True])).tolist() == [False, True]


def test_one_class_is_nothing_to_tell_apart():
    with pytest.raises(DataError, match="at least two classes in y. Got one class: 'a'"):
        classes_of(np.array(["a", "a"]))


def test_labels_without_an_order_among_them():
    with pytest.raises(DataError, match=r"Got int and str.*y\.astype\(str\)"):
        classes_of(np.array([1, "a", 2], dtype=object))


def test_numbers_that_are_no_classes():
    with pytest.raises(ValueError, match="continuous"):
        classes_of(np.array([0.5, 1.5, 2.5]))


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint64, np.float32, np.float64, object])
def test_indicators_of_any_kind_of_number(dtype):
    given = np.array([[0, 1], [1, 1]])
    found = indicators(given.astype(dtype))
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, given)


@pytest.mark.parametrize("odd", [2, -1, 0.5, np.nan, np.inf, None, "yes", pd.NA])
def test_anything_but_zeros_and_ones(odd):
    labels = np.array([[0, 1], [1, odd]], dtype=object)
    with pytest.raises(DataError, match="0 and 1 which labels a row has.*among others"):
        indicators(labels)


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint64, np.float32, object])
@pytest.mark.parametrize("shape", [(4,), (4, 1), (2, 2)])
def test_numbers_of_any_kind_and_shape(dtype, shape):
    given = np.array([0, 1, 1, 0]).reshape(shape).astype(dtype)
    found = finite_numbers(given)
    assert found.dtype == np.float64 and found.shape == shape
    np.testing.assert_array_equal(found, given.astype(float))


@pytest.mark.parametrize(
    "bad, kind", [(np.nan, "NaN"), (np.inf, "infinity"), (-np.inf, "infinity")]
)
def test_numbers_that_are_not_finite(bad, kind):
    labels = np.array([[0.0, 1.0], [2.0, bad], [bad, bad]])
    with pytest.raises(DataError, match=f"Input y contains {kind}: 3 values, the first.*1"):
        finite_numbers(labels)
    with pytest.raises(DataError, match=f"{kind}: 2 values, the first at position 1"):
        finite_numbers(labels[:, 1])


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["low", "high"]),
        np.array(["low", 3.0], dtype=object),
        np.array([1.0, pd.NA], dtype=object),
        np.array([1 + 2j, 3.0]),
        np.array([[1], [[2]]], dtype=object),
    ],
    ids=["text", "mixed", "NA", "complex", "lists"],
)
def test_what_are_no_numbers(labels):
    with pytest.raises(DataError, match="Expected (numbers as labels|a finite number)"):
        finite_numbers(labels)


@pytest.mark.parametrize("unit", ["D", "ns"])
def test_dates_are_no_numbers(unit):
    """As numbers they would depend on the unit, and a missing date would be -9.2e18."""
    dates = np.array(["2020-01-01", "NaT"], dtype=f"datetime64[{unit}]")
    for labels in (dates, dates[:1], dates - dates[0]):
        with pytest.raises(DataError):
            finite_numbers(labels)


def test_numerals_are_no_numbers():
    with pytest.raises(DataError, match="numbers as labels"):
        finite_numbers(np.array(["1.5", "2"]))


@pytest.mark.parametrize("shape", [(), (0,), (4, 0), (2, 2, 2)])
def test_numbers_of_another_shape(shape):
    with pytest.raises(DataError, match=r"shape \(n,\) or \(n, k\). Got an array of shape"):
        finite_numbers(np.zeros(shape))


def test_labels_that_were_given_are_not_changed():
    given = np.array([[0.0, 1.0], [1.0, 1.0]])
    before = given.copy()
    indicators(given), finite_numbers(given), one_label(given[:, :1])
    np.testing.assert_array_equal(given, before)
