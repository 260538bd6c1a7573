"""All that a fitted estimator says about some rows, and how two such answers are compared."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from tawt_sklearn import EventsDtype

METHODS = ("transform", "predict", "predict_proba", "predict_log_proba", "decision_function")


def method_names(estimator: Any) -> list[str]:
    """Methods that take rows and give answers, also before ``fit``."""
    return [name for name in METHODS if hasattr(estimator, name)]


def answers(estimator: Any, X: Any) -> dict[str, Any]:
    """What a fitted estimator says about the rows, by the name of the method."""
    return {name: getattr(estimator, name)(X) for name in method_names(estimator)}


def fit_and_answer(estimator: Any, X: Any, y: Any) -> dict[str, Any]:
    """At module level, so that other processes can do it."""
    return answers(estimator.fit(X, y), X)


def assert_same(got: dict[str, Any], expected: dict[str, Any], tolerance: float = 0) -> None:
    """Answers that agree, in every number up to ``tolerance``; indexes do not count."""
    assert got.keys() == expected.keys()
    for name in got:
        if not isinstance(expected[name], pd.DataFrame):
            _close(got[name], expected[name], tolerance, name)
            continue
        assert list(got[name]) == list(expected[name])
        for column in got[name]:
            _same_column(got[name][column], expected[name][column], tolerance, column)


def _same_column(got: pd.Series, expected: pd.Series, tolerance: float, name: Any) -> None:
    if not isinstance(expected.dtype, EventsDtype):
        if pd.api.types.is_float_dtype(expected.dtype):
            _close(got.to_numpy(), expected.to_numpy(), tolerance, name)
        else:
            assert got.array.equals(expected.array), name
        return
    assert got.dtype == expected.dtype
    for part in ("lengths", "start", "end"):
        _close(getattr(got.events, part), getattr(expected.events, part), tolerance, part)
    for field in ("time", "code", "value", "text"):
        one, other = (_labelled(column, field) for column in (got, expected))
        if one.dtype == object:
            assert one.tolist() == other.tolist()
        else:
            _close(one, other, tolerance, field)


def _labelled(column: pd.Series, field: str) -> np.ndarray:
    """A field of all events, codes and texts by name, as dictionaries may differ in order."""
    flat = column.events.flat(field)
    if field not in ("code", "text") or column.events.vocabulary is not None:
        return flat
    labels = column.events.codes if field == "code" else column.events.texts
    return np.append(labels.to_numpy(object), None)[flat]


def _close(got: Any, expected: Any, tolerance: float, name: Any) -> None:
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape and got.dtype == expected.dtype, name
    if tolerance and got.dtype.kind == "f":
        np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance, err_msg=str(name))
    else:
        np.testing.assert_array_equal(got, expected, err_msg=str(name))
