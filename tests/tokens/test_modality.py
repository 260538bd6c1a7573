"""Cells of a column beside events."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tawt_sklearn import EventsDtype
from tawt_sklearn.exceptions import DataError
from tawt_sklearn.tokens.modality import Modality, read_cells

HOURS = EventsDtype("h").to_clock


def column(*cells) -> pd.Series:
    return pd.Series(
        list(cells), index=[f"p{k}" for k in range(len(cells))], name="note", dtype=object
    )


def test_one_several_and_none():
    cells = read_cells(column("a", ["b", "c"], None, [], np.nan, pd.NA), HOURS)
    assert cells.items.tolist() == ["a", "b", "c"]
    assert cells.offsets.tolist() == [0, 1, 3, 3, 3, 3, 3]
    assert cells.row.tolist() == [0, 1, 1] and np.isnan(cells.time).all()


def test_a_pair_by_itself():
    cells = read_cells(column((5.0, "a"), (None, "b"), (1.0, None), np.ma.masked), HOURS)
    assert cells.items.tolist() == ["a", "b"] and cells.offsets.tolist() == [0, 1, 2, 2, 2]
    np.testing.assert_array_equal(cells.time, [5.0, np.nan])


def test_times_are_put_in_order():
    cells = read_cells(column([(5.0, "late"), (1.0, "early"), "whenever", (2.0, None)]), HOURS)
    assert cells.items.tolist() == ["whenever", "early", "late"]
    np.testing.assert_array_equal(cells.time, [np.nan, 1.0, 5.0])


def test_dates_on_a_clock_of_dates():
    day = pd.Timestamp("1970-01-02", tz="UTC")
    cells = read_cells(column([(day, "a")]), EventsDtype("h", "UTC").to_clock)
    assert cells.time.tolist() == [24.0]


def test_arrays_are_items():
    one = np.zeros((2, 3))
    cells = read_cells(column(one, [one, one]), HOURS)
    assert len(cells.items) == 3 and cells.items[2] is one


@pytest.mark.parametrize("time", ["soon", np.inf, pd.Timestamp("2020-01-01"), np.zeros(3)])
def test_times_that_are_none(time):
    with pytest.raises(DataError, match="column 'note', row 'p1'"):
        read_cells(column("a", [(time, "b")]), HOURS)


def test_a_modality_must_say_what_it_makes():
    with pytest.raises(NotImplementedError):
        Modality().build(8)
    assert Modality().fit([1]).read("as it is") == "as it is"
    assert Modality().digest("a") == Modality().digest("a") != Modality().digest("b")
