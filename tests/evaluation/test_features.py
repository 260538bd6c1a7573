"""The features of a subject, against a plain computation of each."""

from __future__ import annotations

import itertools
import math
import statistics

import numpy as np
import pandas as pd
import pytest

from tawt_sklearn.evaluation import features as module
from tawt_sklearn.evaluation import subject_features
from tawt_sklearn.exceptions import DataError

from .frames import events_of, frame_of, random_frame, shuffled_within_times

NAN = math.nan


def naive(events: list[tuple]) -> dict[str, float]:
    """Features of one history, one after the other; absent ones are 0 for counts, else NaN."""
    times = sorted({event[0] for event in events})
    gaps = [math.log(b - a) for a, b in itertools.pairwise(times)]
    result = {
        "history__events": len(events),
        "history__times": len(times),
        "history__span": times[-1] - times[0] if times else NAN,
        "history__events_per_time": len(events) / len(times) if times else NAN,
        "history__gap_mean": statistics.fmean(gaps) if gaps else NAN,
        "history__gap_sd": statistics.stdev(gaps) if len(gaps) > 1 else NAN,
        "history__gap_median": statistics.median(gaps) if gaps else NAN,
        "history__gap_max": max(gaps, default=NAN),
    }
    for code in {event[1] for event in events}:
        mine = [event for event in events if event[1] == code]
        result[f"{code}__count"] = len(mine)
        v = [event[2] for event in mine if not math.isnan(event[2])]
        if v:
            steps = [abs(b - a) for a, b in itertools.pairwise(v)]
            result |= {
                f"{code}__mean": statistics.fmean(v),
                f"{code}__sd": statistics.stdev(v) if len(v) > 1 else NAN,
                f"{code}__min": min(v),
                f"{code}__max": max(v),
                f"{code}__first": v[0],
                f"{code}__last": v[-1],
                f"{code}__step": statistics.fmean(steps) if steps else NAN,
            }
        texts = [event[3] for event in mine if event[3] is not None]
        for level in set(texts):
            result[f"{code}={level}__count"] = texts.count(level)
        if texts:
            changes = sum(a != b for a, b in itertools.pairwise(texts))
            result[f"{code}__changes"] = changes
    return result


def test_features_are_those_of_a_plain_computation(real):
    features = subject_features(real)
    counts = features.columns.str.endswith(("__count", "__changes"))
    for row, events in enumerate(events_of(real)):
        expected = naive(events)
        assert set(expected) <= set(features.columns)
        got = features.iloc[row]
        for name, is_count in zip(features.columns, counts, strict=True):
            if name in ("age", "sex=F", "sex=M"):
                continue
            value = expected.get(name, 0.0 if is_count else NAN)
            assert got[name] == pytest.approx(value, rel=1e-5, nan_ok=True), (row, name)


def test_static_columns_are_passed_on_or_one_hot(real):
    features = subject_features(real)
    np.testing.assert_array_equal(features["age"], real["age"])
    for sex in "FM":
        expected = (real["sex"] == sex).fillna(False).astype(float)
        np.testing.assert_array_equal(features[f"sex={sex}"], expected)
    assert features.index.equals(real.index)


def test_like_fixes_the_columns_by_data_or_by_an_earlier_result(real):
    few = real.iloc[:3]
    expected = subject_features(real).iloc[:3]
    pd.testing.assert_frame_equal(subject_features(few, like=real), expected)
    pd.testing.assert_frame_equal(subject_features(few, like=subject_features(real)), expected)


def test_codes_that_the_other_lacks_have_no_events():
    X = frame_of([(0, "hr", 80)], [(0, "ward", "icu")])
    other = frame_of([(0, "hr", 70), (1, "new", 3)])
    for like in (X, subject_features(X)):
        features = subject_features(other, like=like)
        assert list(features.columns) == list(subject_features(X).columns)
        assert features["ward=icu__count"].tolist() == [0]
        assert features["ward__changes"].tolist() == [0]
        assert features["hr__mean"].tolist() == [70]


def test_the_most_frequent_codes_and_levels_have_columns(monkeypatch):
    X = frame_of(
        [(0, "a", 1), (1, "a", 2), (2, "b", "x"), (3, "b", "x"), (4, "b", "y"), (5, "c", 1)]
    )
    assert "b__count" in subject_features(X, max_codes=1)
    assert "a__count" not in subject_features(X, max_codes=1)
    monkeypatch.setattr(module, "MAX_LEVELS", 1)
    features = subject_features(X)
    assert "b=x__count" in features and "b=y__count" not in features


def test_the_order_of_writing_down_does_not_matter_to_counts(real):
    first, second = subject_features(real), subject_features(shuffled_within_times(real))
    pd.testing.assert_index_equal(first.columns, second.columns)
    unordered = first.columns[first.columns.str.contains("count|mean|sd|min|max|gap|span|times")]
    np.testing.assert_allclose(first[unordered], second[unordered], rtol=1e-9)


def test_panels_missing_and_empty_histories():
    panel = np.random.default_rng(0).normal(size=(4, 2, 5))
    panel[0, 0] = np.nan
    features = subject_features(panel)
    assert features["channel_0__count"].tolist() == [0, 5, 5, 5]
    np.testing.assert_allclose(features["channel_1__mean"], panel[:, 1].mean(axis=1), rtol=1e-6)
    X = frame_of([(0, "hr", 1)], [])
    X.loc[1, "events"] = pd.NA
    assert subject_features(X)["history__events"].tolist() == [1, 0]
    nothing = subject_features(frame_of([(0, "hr", 1)], []).iloc[1:])
    assert nothing["history__events"].tolist() == [0]


def test_events_without_a_code_are_counted_as_such():
    X = frame_of([(0, "hr", 1)], [(0, "hr", 1)])
    X["events"] = X["events"].array._replace(code=np.array([0, -1]))
    assert subject_features(X)["(no code)__count"].tolist() == [0, 1]


def test_what_like_must_be():
    X = random_frame(0, 5)
    with pytest.raises(
        DataError, match=r"Expected like to be.*Got a frame with the columns \['a'\]"
    ):
        subject_features(X, like=pd.DataFrame({"a": [1]}))
    with pytest.raises(DataError, match="Expected max_codes"):
        subject_features(X, max_codes=0)
