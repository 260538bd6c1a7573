"""Every bad input of TripletSequencer has its message, and leaves the estimator unfitted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError

from tawt_sklearn import EventSummarizer, TripletSequencer
from tawt_sklearn.events.array import EventsArray
from tawt_sklearn.exceptions import DataError, DataWarning, NotNestedError
from tawt_sklearn.tokens.vocabulary import Vocabulary

from .builders import frame_of


@pytest.fixture
def X() -> pd.DataFrame:
    return frame_of([(0, "a", 1.0), (1, "b", 2.0)], [(0, "a", 3.0)], index=["p1", "p2"])


def assert_fit_fails(X, error, message, **params):
    sequencer = TripletSequencer(**params)
    with pytest.raises(error, match=message):
        sequencer.fit(X)
    with pytest.raises(NotFittedError):
        sequencer.transform(X)
    with pytest.raises(error, match=message):
        sequencer.fit_transform(X)


def test_long_table():
    long = pd.DataFrame({"subject_id": [1, 1], "time": [0.0, 1], "code": ["a", "b"], "value": 1.0})
    assert_fit_fails(long, NotNestedError, "nest_events")


def test_no_events_column():
    assert_fit_fails(pd.DataFrame({"age": [1, 2]}), DataError, "Expected a column of event hist")


def test_missing_histories_in_fit_and_transform(X):
    missing = X.reindex(["p1", "p9", "p2"])
    message = (
        r"Got 1 missing \(NA\) in column 'events', at rows 'p9'\. .* subjects without any event "
        "are allowed"
    )
    assert_fit_fails(missing, DataError, message)
    with pytest.raises(DataError, match=message):
        TripletSequencer().fit(X).transform(missing)


def test_many_missing_histories_are_abbreviated(X):
    with pytest.raises(DataError, match=r"Got 6 missing.* at rows 2, 3, 4, 5, 6, \.\.\."):
        TripletSequencer().fit(X.reset_index(drop=True).reindex(range(8)))


def test_only_empty_histories():
    assert_fit_fails(frame_of([], []), DataError, "Got 2 histories, all of them empty")


def test_no_rows(X):
    assert_fit_fails(X.iloc[:0], DataError, "Got 0 histories")
    assert len(TripletSequencer().fit(X).transform(X.iloc[:0])) == 0


def test_only_events_without_code():
    assert_fit_fails(frame_of([(0, None, 1.0)]), DataError, "Got only events without one")


def test_min_count_above_all_codes(X):
    message = r"at least min_count=5 times\. Got 2 codes, the most frequent 2 times"
    assert_fit_fails(X, DataError, message, min_count=5)


def test_tokens_given_where_raw_events_are_needed(X):
    sequencer = TripletSequencer()
    tokens = sequencer.fit_transform(X)
    assert_fit_fails(tokens, DataError, "column 'events', which is tokenised already. Fit on")
    with pytest.raises(DataError, match="column 'events', which is tokenised already. Pass the"):
        sequencer.transform(tokens)


def test_raw_events_given_where_tokens_are_needed(X):
    with pytest.raises(DataError, match="Expected a tokenised events column. Got column 'events'"):
        TripletSequencer().fit(X).inverse_transform(X)


def test_tokens_of_another_sequencer(X):
    tokens = TripletSequencer(value_scaling="standard").fit_transform(X)
    with pytest.raises(DataError, match="Got tokens of another vocabulary"):
        TripletSequencer().fit(X).inverse_transform(tokens)
    # The same content in other words is the same vocabulary.
    sequencer = TripletSequencer().fit(X)
    array = sequencer.transform(X)["events"].array
    text = array.dtype.vocabulary.replace(",", ", ")
    assert Vocabulary.from_json(text) == sequencer.vocabulary_
    sequencer.inverse_transform(pd.DataFrame({"events": array._replace(vocabulary=text)}))


@pytest.mark.parametrize(
    ("clock", "got"),
    [
        ({"time_unit": "D"}, "numbers in units of 'D'"),
        ({"timezone": "naive"}, "datetimes without time zone in units of 'h'"),
        ({"timezone": "UTC"}, "datetimes with time zone in units of 'h'"),
    ],
)
def test_another_clock(X, clock, got):
    other = frame_of([(0, "a", 1.0)], **clock)
    with pytest.raises(DataError, match=f"as in fit: numbers in units of 'h'. Got {got}"):
        TripletSequencer().fit(X).transform(other)


def test_another_type_of_codes(X):
    numbers = frame_of([(0, 1, 1.0)])
    with pytest.raises(DataError, match="codes that are strings, as in fit. Got integers"):
        TripletSequencer().fit(X).transform(numbers)
    with pytest.raises(DataError, match="codes that are integers, as in fit. Got strings"):
        TripletSequencer().fit(numbers).transform(X)
    for history in ([], [(0, None, 1.0)]):  # no codes at all
        tokens = TripletSequencer().fit(numbers).transform(frame_of(history))
        assert tokens["events"].array.code.tolist() == [1] * len(history)


def test_infinite_values(X):
    infinite = frame_of([(0, "a", np.inf), (1, "b", -np.inf), (2, "b", 1.0)])
    message = "Got 2 infinite ones, at codes 'a', 'b'. Replace them by NaN, or give these codes"
    assert_fit_fails(infinite, DataError, message)
    with pytest.raises(DataError, match=message):
        TripletSequencer().fit(X).transform(infinite)
    rules = {"a": {"range": [0, 9]}, "b": {"range": [0, 9]}}
    assert TripletSequencer(codes=rules).fit(infinite).summary_["n_out_of_range"] == 2


def test_infinite_times():
    array = EventsArray.from_flat(
        time=[0.0, np.inf], code=[0, 0], value=[1.0, 2.0], offsets=[0, 2], codes=["a"]
    )
    frame = pd.DataFrame({"events": array})
    assert_fit_fails(frame, DataError, "Expected finite event times. Got 1")


def test_columns_of_one_name(X):
    X = pd.concat([X, X[["events"]].assign(age=1.0)[["age", "age"]]], axis=1)
    message = "Expected columns with different names. Got 2 called 'age'. Rename or drop"
    for estimator in (TripletSequencer(), EventSummarizer()):
        with pytest.raises(DataError, match=message):
            estimator.fit(X)


def test_faulty_rules(X):
    assert_fit_fails(X, DataError, r"codes\['a'\]: unknown key", codes={"a": {"rnage": [0, 1]}})


def test_other_columns_than_in_fit(X):
    sequencer = TripletSequencer().fit(X.assign(age=1.0))
    with pytest.raises(ValueError, match="feature names should match"):
        sequencer.transform(X)


@pytest.mark.parametrize(
    "params",
    [
        {"min_count": 0},
        {"max_events": 0},
        {"value_scaling": "minmax"},
        {"clip": 0},
        {"clip": -1.0},
        {"categorical_codes": "all"},
        {"codes": 3},
        {"time_origin": "last"},
    ],
)
def test_parameters(X, params):
    name = next(iter(params))
    assert_fit_fails(X, ValueError, f"The '{name}' parameter of TripletSequencer must be", **params)


def test_categorical_codes_that_do_not_occur(X):
    with pytest.warns(DataWarning, match="categorical_codes names codes .* do not hold: 'wdd'"):
        TripletSequencer(categorical_codes=["a", "wdd"]).fit(X)


def test_not_fitted(X):
    for method in ("transform", "inverse_transform", "report"):
        with pytest.raises(NotFittedError):
            getattr(TripletSequencer(), method)(X)
    with pytest.raises(NotFittedError):
        TripletSequencer().get_feature_names_out()
