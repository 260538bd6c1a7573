"""The doors of an estimator: rows, labels and weights, checked and in one form."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from sklearn.base import BaseEstimator
from sklearn.utils.validation import _check_sample_weight, check_array, validate_data

from tawt_sklearn.estimators._architecture import learn_waves
from tawt_sklearn.estimators._modalities import (
    modality_columns,
    refuse_modalities,
    require_times_fit,
    with_digests,
)
from tawt_sklearn.estimators._panel_preparation import PanelPreparation, refuse_fractions
from tawt_sklearn.estimators._preparation import Form, Preparation
from tawt_sklearn.events._dask_methods import refuse_dask
from tawt_sklearn.events.coerce import as_events, channels_of, find_events, is_numbers
from tawt_sklearn.events.content import mix_hashes
from tawt_sklearn.events.panels import Panel, not_a_panel
from tawt_sklearn.exceptions import DataError
from tawt_sklearn.training.dataset import RowDataset, label_hashes

Rows = pd.DataFrame | Panel
"""What ``X`` becomes at the door: a frame of histories, or a panel."""


def read_rows(
    estimator: BaseEstimator, X: Any, preparation: Preparation | PanelPreparation | None = None
) -> tuple[Rows, Form]:
    """A frame of histories or a panel, and what ``X`` was.

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
    refuse_dask(X, estimator)
    modalities = modalities_of(estimator, preparation)
    if modalities and isinstance(X, pd.DataFrame):
        return _read_beside(estimator, X, preparation, modalities)
    if is_numbers(X):
        refuse_modalities(modalities, "numbers")
        _refuse_ragged(X)
        return _read_array(estimator, X, preparation)
    if channels_of(X) is not None:
        refuse_modalities(modalities, "a list of series")
        return _read_series(estimator, X, preparation)
    _refuse_ragged(X)
    name = "events" if preparation is None else getattr(preparation, "events_name", "events")
    return _checked_frame(estimator, as_events(X, name=name), preparation)


def modalities_of(estimator: Any, preparation: Any) -> Any:
    """What stands beside the events of ``X``: as it was in fit, or as parameters say."""
    if preparation is not None:
        return getattr(preparation, "modalities", None)
    return getattr(estimator, "modalities", None)


def _read_beside(
    estimator: BaseEstimator, X: pd.DataFrame, preparation: Any, modalities: Any
) -> tuple[pd.DataFrame, Form]:
    """A frame with columns beside the events, which need not look like anything else."""
    _refuse_repeated_names(X)
    beside = modality_columns(X, modalities)
    assert beside is not None
    frame = as_events(X.drop(columns=beside.columns))
    require_times_fit(beside, getattr(estimator, "patching", "dual"))
    frame = pd.concat([frame, beside], axis=1)[list(X.columns)]
    return _checked_frame(estimator, frame, preparation)


def _checked_frame(
    estimator: BaseEstimator, frame: pd.DataFrame, preparation: Any
) -> tuple[pd.DataFrame, Form]:
    """A frame of histories, if it is like that of fit."""
    beside = modality_columns(frame, modalities_of(estimator, preparation))  # which must be there
    _refuse_repeated_names(frame)
    # A pretrained encoder may have modalities of its own.
    if preparation is None and getattr(estimator, "pretrained", None) is None:
        _refuse_unhashable(frame if beside is None else frame.drop(columns=beside.columns))
    if len(frame) == 0:
        raise DataError("Expected at least one row of X. Got a frame with 0 rows.")
    if preparation is not None:
        preparation.check_form("events")
    validate_data(estimator, frame, reset=preparation is None, skip_check_array=True)
    return frame, "events"


def _read_array(
    estimator: BaseEstimator, X: Any, preparation: Preparation | PanelPreparation | None
) -> tuple[Panel, Form]:
    """Numbers (n, T) or (n, C, T), NaN where nothing was measured."""
    if isinstance(X, np.ma.MaskedArray):  # what is masked was not measured
        X = np.ma.filled(X.astype(np.result_type(X.dtype, np.float32)), np.nan)
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
    if checked.ndim > 3:
        raise not_a_panel(checked)
    if isinstance(preparation, PanelPreparation) and form == "panel":
        _refuse_swapped(checked.shape[1], {checked.shape[2]}, preparation, "X.swapaxes(1, 2)")
    panel = Panel.of(checked)
    if preparation is None:
        refuse_fractions(estimator.categorical_features, panel)
    validate_data(estimator, X, reset=preparation is None, skip_check_array=True)
    return panel, form


def _read_series(
    estimator: BaseEstimator, X: Any, preparation: Preparation | PanelPreparation | None
) -> tuple[Panel, Form]:
    """A list of arrays (C, T_i) of different lengths."""
    if preparation is not None:
        preparation.check_form("panel")
    cases = list(X)
    if odd := [type(case).__name__ for case in cases if not isinstance(case, np.ndarray)]:
        raise DataError(
            f"Expected arrays of shape (n_channels, n_timepoints). Got {odd[0]} among them."
        )
    panel = Panel.of_series(cases)
    if not panel.n_channels or not len(panel.steps):
        raise DataError(
            "Expected at least one time point and one channel. Got arrays of shape "
            f"{', '.join(str(np.shape(case)) for case in cases[:5])}."
        )
    if np.isinf(panel.steps).any():
        step = int(np.isinf(panel.steps).any(axis=1).argmax())
        case = int(np.searchsorted(panel.offsets, step, side="right")) - 1
        raise DataError(
            "Expected finite numbers, or NaN where nothing was measured. Input X contains "
            f"infinity, first in case {case}, step {step - int(panel.offsets[case])}."
        )
    if isinstance(preparation, PanelPreparation):
        _refuse_swapped(
            panel.n_channels, set(panel.lengths.tolist()), preparation, "[x.T for x in X]"
        )
    if preparation is None:
        refuse_fractions(estimator.categorical_features, panel)
    rows = np.broadcast_to(np.float64(0), (len(panel), panel.n_channels))
    validate_data(estimator, rows, reset=preparation is None, skip_check_array=True)
    return panel, "panel"


def _refuse_swapped(
    n_channels: int, n_steps: set[int], preparation: PanelPreparation, remedy: str
) -> None:
    """Time before channels, told by the number of channels in fit."""
    C = len(preparation.center)
    if n_channels != C and n_steps == {C}:
        raise DataError(
            f"Expected {C} channels, as in fit: X has {n_channels} features, but the estimator is "
            f"expecting {C} features as input. X looks like (n, T, C), with time before channels: "
            f"pass {remedy}."
        )


def _refuse_ragged(X: Any) -> None:
    """Arrays of objects that hold arrays, which NumPy makes of series of different lengths."""
    if isinstance(X, np.ndarray) and X.dtype == object and X.ndim > 1 and X.size:
        if isinstance(X.flat[0], np.ndarray | list | tuple | pd.Series):
            raise DataError(
                "Expected an array of numbers. Got an array of objects that holds arrays (ragged), "
                f"of shape {X.shape}. Pass series of different lengths as a list of arrays of "
                "shape (n_channels, n_timepoints)."
            )


def take_rows(rows: Rows, positions: NDArray[np.int64]) -> Rows:
    """Some rows, in that order."""
    return rows.take(positions) if isinstance(rows, Panel) else rows.iloc[positions]


def require_data(rows: Rows) -> None:
    """Refuse rows without anything to learn from.

    Raises
    ------
    DataError
    """
    if isinstance(rows, pd.DataFrame):
        require_events(rows)
    elif np.isnan(rows.steps).all():
        raise DataError(
            f"Expected at least one number to learn from. Got {len(rows)} cases, in which all "
            "values are missing."
        )


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


def _refuse_unhashable(rows: pd.DataFrame) -> None:
    """Refuse columns of arrays and lists, which are no static columns."""
    for name in rows.columns:
        column = rows[name]
        if column.dtype == object and not column.map(pd.api.types.is_hashable).all():
            found = next(x for x in column if not pd.api.types.is_hashable(x))
            raise DataError(
                f"Expected numbers, categories or text in column {name!r}. Got a "
                f"{type(found).__name__}. Images and other items need "
                f"modalities={{{name!r}: ImageEncoder()}}; else drop the column."
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
    refuse_dask(y)
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
    refuse_dask(sample_weight)
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
    rows: Rows, labels: NDArray, weights: NDArray[np.float64], modalities: Any = None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Rows to learn from, each different from the others, and their weights.

    Rows that agree in everything, label included, become one whose weight is the sum of theirs;
    the order is that of the rows' hashes, without what stands beside events.  So a weight of two
    is the same as the row given twice, to the last bit, and a fit does not depend on the order in
    which the rows come.  A false match of two different rows takes a collision of 64-bit hashes.

    Parameters
    ----------
    labels : (n,) or (n, K) array
    modalities : mapping, optional
        What columns hold that pandas does not compare.

    Returns
    -------
    rows : (m,) int64
        Positions in ``rows``.
    weights : (m,) float64
    """
    if isinstance(rows, Panel):
        plain = hashes = mix_hashes(rows.hashes(), label_hashes(labels))
    else:
        table = pd.DataFrame(labels.reshape(len(labels), -1), index=rows.index)
        hashes = _hashes(with_digests(rows, modalities), table)
        # What is called by a digest, such as a file by its path, does not decide the order.
        plain = _hashes(rows.drop(columns=list(modalities)), table) if modalities else hashes
    _, first, group = np.unique(hashes, return_index=True, return_inverse=True)
    order = np.lexsort([first, plain[first]])
    return first[order].astype(np.int64), np.bincount(group, weights)[order].astype(np.float64)


def _hashes(rows: pd.DataFrame, labels: pd.DataFrame) -> NDArray:
    parts = [part.set_axis(range(part.shape[1]), axis=1) for part in (rows, labels)]
    return pd.util.hash_pandas_object(pd.concat(parts, axis=1), index=False).to_numpy()


def prepare(estimator: Any, rows: Rows, form: Form, sequencer: Any) -> tuple[Any, Any]:
    """Everything that is learned before the network, and the data set of the same rows."""
    preparation: Preparation | PanelPreparation
    data: RowDataset
    if isinstance(rows, Panel):
        refuse_modalities(estimator.modalities, "a panel")
        if estimator.patching == "event":
            raise ValueError(
                'Expected patching="dual", "time" or "feature" with panels, whose steps are '
                'regular. Got "event", which is for event histories.'
            )
        preparation, data = PanelPreparation.fit(
            rows, estimator.categorical_features, estimator.n_windows, estimator.patch_length, form
        )
    else:
        _refuse_of_panels(estimator)
        preparation, data = Preparation.fit(
            rows, sequencer, estimator.n_windows, form, estimator.modalities
        )
    return replace(preparation, waves=learn_waves(estimator, data)), data


def _refuse_of_panels(estimator: Any) -> None:
    """Parameters that mean nothing for event histories.

    Raises
    ------
    ValueError
    """
    for name in ("categorical_features", "patch_length"):
        if getattr(estimator, name) is not None:
            raise ValueError(
                f"Expected {name}=None with event histories: it is for panels. Got "
                f"{getattr(estimator, name)!r}. Texts of events are categories by themselves, and "
                "n_windows says how many windows of time there are."
            )
