from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest

from tawt_sklearn.exceptions import DataError, DataWarning
from tawt_sklearn.tokens.statics import StaticEncoder

from .builders import frame_of

NAN = np.nan


@pytest.fixture
def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "age": [50, 60, 70, 80, 90],
            "sex": ["F", "M", "M", None, "F"],
            "weight": pd.array([50, None, 70, 80, 1000], dtype="Float64"),
            "smoker": pd.array([True, False, None, False, False], dtype="boolean"),
            "ward": pd.Categorical([2, 1, 2, 1, 2]),
            "height": np.array([1.7, None, 1.8, 1.9, 1.6], dtype=object),
        }
    )


def test_numbers_are_scaled_and_stay_missing(frame):
    encoder = StaticEncoder().fit(frame)
    numbers, _ = encoder.transform(frame)
    assert encoder.numeric_names_ == ["age", "weight", "height"] and encoder.n_numeric_ == 3
    assert numbers.dtype == np.float32
    np.testing.assert_allclose(numbers[:, 0], (frame["age"] - 70) / (20 / 1.349), rtol=1e-6)
    np.testing.assert_array_equal(np.isnan(numbers[:, 1]), frame["weight"].isna())
    low, high = np.nanquantile(frame["weight"].astype(float), [0.25, 0.75])
    expected = (frame["weight"].astype(float) - 75) / ((high - low) / 1.349)
    np.testing.assert_allclose(numbers[:, 1], expected.clip(-5, 5), rtol=1e-5)
    free, _ = StaticEncoder(clip=None).fit(frame).transform(frame)
    np.testing.assert_allclose(free[:, 1], expected.clip(-5), rtol=1e-5)


def test_the_rest_becomes_ids(frame):
    encoder = StaticEncoder().fit(frame)
    _, ids = encoder.transform(frame)
    assert encoder.categorical_names_ == ["sex", "smoker", "ward"]
    assert encoder.levels_ == {
        "sex": ["F", "M"],
        "smoker": ["False", "True"],
        "ward": ["2", "1"],
    }
    assert encoder.cardinalities_ == [4, 4, 4] and encoder.n_categorical_ == 3
    assert ids.dtype == np.int64
    assert ids.T.tolist() == [[2, 3, 3, 0, 2], [3, 2, 0, 2, 2], [2, 3, 2, 3, 2]]


def test_unknown_values_are_counted_in_one_warning(frame):
    encoder = StaticEncoder().fit(frame)
    other = frame.assign(sex="D", ward=[1, 2, 3, None, 2])
    with pytest.warns(
        DataWarning, match=r"6 values .* unknown: 'sex' \(5\), 'ward' \(1\)"
    ) as caught:
        _, ids = encoder.transform(other)
    assert len(caught) == 1
    assert ids[:, 0].tolist() == [1] * 5


def test_values_are_compared_as_text():
    encoder = StaticEncoder().fit(pd.DataFrame({"x": [1, "1", 1.0, "a"]}, dtype=object))
    assert encoder.levels_ == {"x": ["1", "a"]}
    _, ids = encoder.transform(pd.DataFrame({"x": ["1", "a", None]}))
    assert ids[:, 0].tolist() == [2, 3, 0]


def test_order_of_columns_does_not_matter_and_events_are_left_out(frame):
    X = frame_of(*[[]] * 5, static=dict(frame))
    encoder = StaticEncoder().fit(X)
    assert encoder.columns_ == list(frame)
    one, two = encoder.transform(X), encoder.transform(X[X.columns[::-1]])
    np.testing.assert_array_equal(one[0], two[0])
    np.testing.assert_array_equal(one[1], two[1])


def test_nothing_static():
    X = frame_of([], [])
    numbers, ids = StaticEncoder().fit(X).transform(X)
    assert numbers.shape == ids.shape == (2, 0)


def test_columns_without_information():
    frame = pd.DataFrame({"constant": [3.0, 3.0], "none": [NAN, NAN]})
    encoder = pickle.loads(pickle.dumps(StaticEncoder().fit(frame)))
    numbers, _ = encoder.transform(frame)
    np.testing.assert_array_equal(numbers, [[0, NAN], [0, NAN]])


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pd.to_datetime(["2020-01-01", None]), "holds dates or time differences .*datetime64"),
        (pd.to_timedelta([1, 2], unit="h"), "Turn it into a number before, for example the age"),
        (pd.Series([pd.Timestamp("2020-01-01").date(), None], dtype=object), "holds dates"),
        (pd.period_range("2020-01", periods=2, freq="M"), "holds dates"),
        ([1j, 2j], "complex numbers"),
        ([1.0, np.inf], "finite numbers or NaN in static column 'x'. Got 1 infinite.* row 1"),
        (pd.Series([["a"], ["b"]], dtype=object), r"no single category, such as \['a'\]"),
    ],
)
def test_columns_that_cannot_be_used(column, message):
    with pytest.raises(DataError, match=message):
        StaticEncoder().fit(pd.DataFrame({"x": column}))


def test_repeated_names():
    frame = pd.DataFrame([[1, 2]], columns=["a", "a"])
    with pytest.raises(DataError, match="Got 'a' more than once"):
        StaticEncoder().fit(frame)


def test_other_columns_than_in_fit(frame):
    encoder = StaticEncoder().fit(frame)
    with pytest.raises(DataError, match=r"Got a frame without \['sex'\]"):
        encoder.transform(frame.drop(columns="sex"))
    with pytest.raises(DataError, match="'age' was numeric in fit. Got values that are not num"):
        encoder.transform(frame.assign(age=["old"] * 5))
