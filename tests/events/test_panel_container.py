"""The container of all forms of panels: how it is made, taken apart, and hashed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tawt_sklearn.events.content import mix_hashes
from tawt_sklearn.events.panels import Panel
from tawt_sklearn.exceptions import DataError


def some_series(lengths=(3, 0, 5, 1)) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    series = [rng.normal(size=(2, length)) for length in lengths]
    return [np.where(rng.random(one.shape) < 0.3, np.nan, one) for one in series]


def assert_cases(panel: Panel, want: list[np.ndarray]) -> None:
    assert panel.lengths.tolist() == [one.shape[-1] for one in want]
    for k, one in enumerate(want):
        own = slice(panel.offsets[k], panel.offsets[k + 1])
        np.testing.assert_array_equal(panel.steps[own].T, np.atleast_2d(one))


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "bool", "object"])
def test_an_array_is_its_cases(dtype):
    X = np.arange(24).reshape(4, 2, 3).astype(dtype)
    panel = Panel.of(X)
    assert panel.stacked and panel.n_channels == 2 and len(panel) == 4
    assert panel.steps.dtype == ("float32" if dtype == "float32" else "float64")
    assert_cases(panel, list(X.astype(float)))
    assert_cases(Panel.of(X[:, 1]), list(X[:, 1].astype(float)))  # one channel
    masked = Panel.of(np.ma.masked_array(X, np.arange(24).reshape(X.shape) < 2))
    assert_cases(masked, [np.array([[np.nan, np.nan, X[0, 0, 2]], X[0, 1]], float), *X[1:]])


def test_series_of_different_lengths():
    panel = Panel.of_series(some_series())
    assert not panel.stacked and panel.n_channels == 2
    assert_cases(panel, some_series())
    assert_cases(Panel.of_series([x[0] for x in some_series()]), [x[0] for x in some_series()])


@pytest.mark.parametrize("index", [[2, 0], [1], [3, 3, 1], []])
def test_some_cases_in_another_order(index):
    equal = some_series((4, 4, 4, 4))
    for panel, series in (
        (Panel.of_series(some_series()), some_series()),
        (Panel.of(np.stack(equal)), equal),
    ):
        taken = panel.take(np.array(index, np.int64))
        assert taken.stacked == panel.stacked and taken.n_channels == 2
        assert_cases(taken, [series[k] for k in index])


@pytest.mark.parametrize("series, message", [
    ([np.zeros((2, 3)), np.zeros((3, 4))], r"same number of channels. Got \(2, 3\), .*row per cha"),
    ([np.zeros((2, 3)), np.zeros((5, 3))], r"look like \(n_timepoints, n_channels\)"),
    ([np.zeros((1, 2, 3))], r"\(n_channels, n_timepoints\).*Got \(1, 2, 3\)"),
    ([np.array(["a", "b"])], "Expected an array of numbers. Got <U1 values such as"),
    ([np.array(["2020-01-01"], "M8[D]")], "Expected an array of numbers. Got datetime64"),
])  # fmt: skip
def test_what_is_no_panel_is_refused(series, message):
    with pytest.raises(DataError, match=message):
        Panel.of_series(series)


# ---- hashes ------------------------------------------------------------------------------------


def test_equal_cases_have_equal_hashes_in_either_precision_and_any_company():
    single = [one.astype(np.float32) for one in some_series()]
    hashes = Panel.of_series(single).hashes()
    assert hashes.dtype == np.uint64 and len(set(hashes.tolist())) == 4
    double = Panel.of_series([one.astype(np.float64) for one in single])
    np.testing.assert_array_equal(double.hashes(), hashes)
    for row in range(4):
        assert double.take(np.array([2, row])).hashes()[1] == hashes[row]
    zeros = [np.array([[[zero, np.nan]]]) for zero in (0.0, -0.0)]
    assert Panel.of(zeros[0]).hashes() == Panel.of(zeros[1]).hashes()


@given(seed=st.integers(0, 10_000), length=st.integers(3, 9))
def test_another_order_of_steps_or_channels_is_another_case(seed, length):
    x = np.random.default_rng(seed).normal(size=(3, length))
    x[0, 0] = np.nan
    others = [x[:, ::-1], x[::-1], np.roll(x, 1, axis=1), x[:, :-1], x[:, 1:], x[:2], -x]
    for pad in ((0, 1), (1, 0)):
        others += [np.pad(x, ((0, 0), pad), constant_values=value) for value in (0.0, np.nan)]
    hashes = [int(Panel.of(one[None]).hashes()[0]) for one in (x, *others)]
    assert len(set(hashes)) == len(hashes)


def test_the_number_of_steps_counts_where_nothing_is_known():
    hashes = Panel.of_series([np.full((2, n), np.nan) for n in range(6)]).hashes()
    assert len(set(hashes.tolist())) == 6
    assert (mix_hashes(hashes[1:], hashes[:-1]) != mix_hashes(hashes[:-1], hashes[1:])).all()
