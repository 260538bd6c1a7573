"""Labels and answers at every step of a panel: told apart from those of cases, read, given back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tawt_sklearn.estimators._input import Rows, check_index
from tawt_sklearn.events.panels import Panel
from tawt_sklearn.exceptions import DataError
from tawt_sklearn.objectives.steps import NO_CLASS, labelled, natural


def is_per_step(y: Any, rows: Rows, form: str, per_step: bool | str) -> bool:
    """Whether labels belong to steps rather than to cases.

    With ``"auto"`` they do where a panel has as many steps as ``y`` has columns, or where ``y`` is
    a list of arrays as long as its cases.

    Raises
    ------
    DataError
        Labels at each step of something that has no steps.
    """
    listed = _is_list_of_arrays(y)
    if not isinstance(rows, Panel) and (per_step is True or (per_step == "auto" and listed)):
        raise DataError(
            "Expected a panel (n_cases, n_channels, n_timepoints), or a list of series, where y is "
            "a list of arrays or with per_step=True. Got event histories, which have no regular "
            "steps. Make rows of each history with until=."
        )
    if per_step != "auto" or not isinstance(rows, Panel) or form != "panel":
        return per_step is True
    lengths = set(rows.lengths.tolist())
    if listed:
        widths = {np.size(one) for one in y}
        return len(widths) > 1 or len(lengths) > 1 or widths == lengths
    shape = np.shape(y)
    # Of series of different lengths read_step_labels says that it takes a list.
    return len(shape) == 2 and shape[1] > 1 and shape[1] == max(lengths)


def _is_list_of_arrays(y: Any) -> bool:
    """Series of labels of different lengths, rather than a table of labels."""
    if isinstance(y, pd.Series):
        y = y.to_numpy()
    if isinstance(y, np.ndarray):
        return y.dtype == object and y.ndim == 1 and len(y) > 0 and np.ndim(y[0]) > 0
    if not isinstance(y, list | tuple) or not len(y):
        return False
    if not isinstance(y[0], list | tuple) and np.ndim(y[0]) == 0:  # labels of cases
        return False
    return any(isinstance(one, np.ndarray | pd.Series) for one in y) or len(set(map(len, y))) > 1


def read_step_labels(y: Any, X: Any, panel: Rows, what: str = "y", *, classes: bool) -> NDArray:
    """Labels (n, T), the last step of each case in the last column.

    Where cases are shorter, NaN stands before their first step (-1 among whole numbers that are
    ``classes``, None among texts).

    Raises
    ------
    DataError
        Another number of cases or of steps.
    """
    if y is None:
        raise DataError(
            f"This estimator requires {what} to be passed, but the target {what} is None: expected "
            "a label for each step of X."
        )
    assert isinstance(panel, Panel)  # is_per_step() has seen to it
    lengths = panel.lengths
    other_number = " Found input variables with inconsistent numbers of samples."
    if not _is_list_of_arrays(y):
        check_index(y, X, what)
        labels = y.to_numpy() if isinstance(y, pd.DataFrame) else np.asarray(y)
        T = int(lengths[0])
        if labels.shape != (len(panel), T) or set(lengths.tolist()) != {T}:
            expected = f"({len(panel)}, {T})"
            if len(set(lengths.tolist())) > 1:
                expected = "a list of arrays (n_timepoints_i,), as X is one"
            remedy = (
                "NaN (-1 for classes that are whole numbers) stands for a step without label; with "
                "labels of cases pass per_step=False."
            )
            if labels.shape == (len(panel), panel.n_channels):
                remedy = "X looks like (n, T, C), with time before channels: X.swapaxes(1, 2)."
            raise DataError(
                f"Expected {what} to hold a label for each step of X, {expected}. Got an array of "
                f"shape {labels.shape}. {remedy}" + other_number * (len(labels) != len(panel))
            )
        return _kind(labels, classes)
    check_index(y, X, what)
    cases = [_kind(np.asarray(one), classes) for one in y]
    got = np.array([len(case) if case.ndim == 1 else -1 for case in cases])
    if len(cases) != len(panel) or (got != lengths).any():
        place = ""
        if len(cases) == len(panel):
            first = int((got != lengths).argmax())
            place = f" Case {first} has {lengths[first]} steps and labels of shape "
            place += f"{cases[first].shape}."
        raise DataError(
            f"Expected {what} to hold a label for each step of X: {len(panel)} arrays as long as "
            f"its cases. Got {len(cases)} arrays.{place}"
            + other_number
            * (len(cases) != len(panel))
        )
    T = int(lengths.max())
    kind = np.result_type(*cases) if len({case.dtype.kind for case in cases}) == 1 else None
    if kind is None or kind.kind not in "biuf":
        numbers = all(case.dtype.kind in "biuf" for case in cases)
        kind = np.dtype(np.float64 if numbers else object)
    flat = np.concatenate([case.astype(kind) for case in cases])
    if kind.kind in "iu":
        labels = np.full((len(cases), T), -1, np.int64)
    else:
        labels = np.full((len(cases), T), None if kind.kind in "bO" else np.nan, _room(kind))
    labels[np.arange(T) >= T - lengths[:, np.newaxis]] = flat
    return _kind(labels, classes)


def _room(kind: np.dtype) -> Any:
    return np.float64 if kind.kind == "f" else object


def _kind(labels: NDArray, classes: bool) -> NDArray:
    """Whole numbers as int64, or as float64 where they are no classes; text as objects."""
    if labels.dtype.kind in "iu":
        return labels.astype(np.int64 if classes else np.float64)
    if classes and labels.dtype.kind == "f":
        return np.where(labels == NO_CLASS, np.nan, labels)
    return labels.astype(object) if labels.dtype.kind in "US" else labels


def require_labels(labels: NDArray) -> None:
    """Refuse labels of which none is there."""
    if not labelled(labels).any():
        raise DataError(
            f"Expected a label at one step at least. Got {labels.shape[0]} cases without any."
        )


def given_back(answers: NDArray, panel: Panel) -> Any:
    """Answers (n, T, ...) of steps: an array where X was one, else a list of (T_i, ...)."""
    lengths = panel.lengths
    if panel.stacked:
        T = int(lengths[0]) if len(lengths) else 0
        return answers[:, answers.shape[1] - T :]
    return [case[len(case) - n :] for case, n in zip(answers, lengths.tolist(), strict=True)]


def paired(
    y: Any, answers: Any, X: Any, panel: Panel, *, classes: bool
) -> tuple[NDArray, NDArray, NDArray]:
    """Labels and answers (m,) of the steps that have a label, and the case of each."""
    labels = read_step_labels(y, X, panel, classes=classes)
    if not panel.stacked:
        T = labels.shape[1]
        padded = np.empty(labels.shape, dtype=np.result_type(*answers))
        padded[np.arange(T) >= T - panel.lengths[:, np.newaxis]] = np.concatenate(answers)
        answers = padded
    require_labels(labels)
    row, step = np.nonzero(labelled(labels))
    return natural(labels[row, step]), answers[row, step], row
