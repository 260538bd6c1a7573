"""The doors of an estimator: rows, labels and weights, checked and in one form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from sklearn.base import BaseEstimator
from sklearn.utils.validation import _check_sample_weight, check_array, validate_data

from tawt_sklearn.estimators._preparation import Form, Preparation
from tawt_sklearn.events.coerce import as_events, channels_of, find_events, is_numbers
from tawt_sklearn.exceptions import DataError


def read_rows(
    estimator: BaseEstimator, X: Any, preparation: Preparation | None = None
) -> tuple[pd.DataFrame, Form]:
    """A frame of histories, and what ``X`` was.

    Parameters
    ----------
    preparation : Preparation, optional
        That of fit, which the rows must be like; without it the estimator learns the number and
        the names of the features: columns, time points or channels.

    Raises
    ------
    DataError, ValueError, TypeError
        ``X`` is nothing the estimators take, or not like the rows seen in fit.
    """
    reset = preparation is None
    if is_numbers(X):
        checked = check_array(
            X, allow_nd=True, ensure_all_finite="allow-nan", estimator=estimator, input_name="X"
        )
        form: Form = "panel" if checked.ndim > 2 else "series"
        if preparation is not None:
            preparation.check_form(form)
        if 0 in checked.shape:
            raise DataError(
                "Expected at least one time point and one channel. Got an array of shape "
                f"{checked.shape}."
            )
        validate_data(estimator, X, reset=reset, skip_check_array=True)
        return as_events(checked), form
    name = "events" if preparation is None else str(preparation.events_name)
    frame = as_events(X, name=name)
    _refuse_repeated_names(frame)
    if len(frame) == 0:
        raise DataError("Expected at least one row of X. Got a frame with 0 rows.")
    if (n_channels := channels_of(X)) is not None:  # series of different lengths
        if preparation is not None:
            preparation.check_form("panel")
        rows = np.broadcast_to(np.float64(0), (len(frame), n_channels))
        validate_data(estimator, rows, reset=reset, skip_check_array=True)
        return frame, "panel"
    if preparation is not None:
        preparation.check_form("events")
    validate_data(estimator, frame, reset=reset, skip_check_array=True)
    return frame, "events"


def require_events(frame: pd.DataFrame) -> None:
    """Refuse rows without any event to learn from.

    Raises
    ------
    DataError
    """
    name = find_events(frame)
    if not len(frame[name].array.time):
        raise DataError(
            f"Expected at least one event in column {name!r} to learn from. Got {len(frame)} "
            "histories, all of them empty. Check the time window or the prediction times that cut "
            "them."
        )


def _refuse_repeated_names(frame: pd.DataFrame) -> None:
    repeated = frame.columns[frame.columns.duplicated()]
    if len(repeated):
        raise DataError(
            f"Expected columns with different names. Got {repeated[0]!r} more than once. "
            "Rename or drop one."
        )


def read_labels(y: ArrayLike, X: Any, n_rows: int, what: str = "y") -> NDArray:
    """``y`` as an array with one entry (or one line) for each row, in the order of the rows.

    Raises
    ------
    DataError
        If the length differs, or ``y`` is a Series whose index is not that of ``X``.
    """
    if y is None:
        raise DataError(
            f"This estimator requires {what} to be passed, but the target {what} is None: "
            "expected one label for each row of X."
        )
    if issparse(y):
        raise DataError(f"Expected {what} to be dense. Got a sparse one: use {what}.toarray().")
    check_index(y, X, what)
    labels = y.to_numpy() if isinstance(y, (pd.Series, pd.DataFrame)) else np.asarray(y)
    if labels.ndim == 0 or len(labels) != n_rows:
        got = f"one {type(y).__name__}" if labels.ndim == 0 else f"{len(labels)} labels"
        raise DataError(
            f"Expected one label for each of the {n_rows} rows of X. Got {got}. Found input "
            "variables with inconsistent numbers of samples."
        )
    return labels


def read_weights(sample_weight: Any, X: Any, n_rows: int) -> NDArray[np.float64]:
    """Weights of the rows; ones where there are none.

    Raises
    ------
    ValueError
        Another number of weights than rows, negative or infinite ones, or all of them zero.
    """
    if sample_weight is None:
        return np.ones(n_rows)
    check_index(sample_weight, X, "sample_weight")
    rows = np.empty((n_rows, 0))  # what the check compares the number of weights with
    weights = _check_sample_weight(sample_weight, rows, dtype=np.float64)
    if (weights < 0).any():
        raise DataError(
            f"Expected weights of zero or more. Got {int((weights < 0).sum())} negative weights, "
            f"the smallest is {weights.min()}. Negative values in data passed to `sample_weight`."
        )
    if not weights.any():
        raise DataError("Expected at least one row of positive weight. Got zeros only.")
    return weights


def check_index(y: Any, X: Any, what: str) -> None:
    """Refuse a Series of labels whose index is not that of the rows.

    Raises
    ------
    DataError
        Which says in which way the two disagree.
    """
    if not (isinstance(y, (pd.Series, pd.DataFrame)) and isinstance(X, (pd.Series, pd.DataFrame))):
        return
    if len(y) != len(X) or y.index.equals(X.index):
        return
    only_y, only_X = y.index.difference(X.index), X.index.difference(y.index)
    if len(only_y) or len(only_X):
        raise DataError(
            f"Expected the index of {what} to be that of X. Got different labels: "
            f"{len(only_X)} rows of X have no {what} (for instance {only_X[:3].tolist()}) and "
            f"{len(only_y)} labels of {what} no row in X (for instance {only_y[:3].tolist()}). "
            f"Align them with {what} = {what}.reindex(X.index), or pass {what}.to_numpy() if the "
            "order is right."
        )
    first = int(np.flatnonzero(y.index != X.index)[0])
    raise DataError(
        f"Expected the index of {what} in the order of X. Got the same labels in another order "
        f"(row {first} is {X.index[first]!r} in X and {y.index[first]!r} in {what}). "
        f"Align them with {what} = {what}.loc[X.index]."
    )


def distinct_rows(
    frame: pd.DataFrame, labels: NDArray, weights: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Rows to learn from, each different from the others, and their weights.

    Rows that agree in everything, label included, become one whose weight is the sum of theirs;
    the order is that of the rows' hashes.  So a weight of two
    is the same as the row given twice, to the last bit, and a fit does not depend on the order in
    which the rows come.  A false match of two different rows takes a collision of 64-bit hashes.

    Parameters
    ----------
    labels : (n,) or (n, K) array

    Returns
    -------
    rows : (m,) int64
        Positions in ``frame``.
    weights : (m,) float64
    """
    columns = pd.DataFrame(labels.reshape(len(labels), -1), index=frame.index)
    parts = [part.set_axis(range(part.shape[1]), axis=1) for part in (frame, columns)]
    hashes = pd.util.hash_pandas_object(pd.concat(parts, axis=1), index=False).to_numpy()
    _, first, group = np.unique(hashes, return_index=True, return_inverse=True)
    return first.astype(np.int64), np.bincount(group, weights).astype(np.float64)
