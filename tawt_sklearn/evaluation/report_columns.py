"""What a report has columns for: generators, and the references they are to be read against."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tawt_sklearn.evaluation._frames import read_histories
from tawt_sklearn.evaluation.measure import generator, seed
from tawt_sklearn.evaluation.references import independent_marginals, subject_bootstrap
from tawt_sklearn.exceptions import DataError

HOLD_OUT, COPY, MARGINALS = "real hold-out", "subject bootstrap", "independent marginals"
REFERENCES = (HOLD_OUT, COPY, MARGINALS)
"""Names of the reference columns."""

MIN_TEST = 20
"""Fewer test subjects cannot be halved and told apart in five folds."""

_LABEL = "\0label"
"""Name of the label while subjects are drawn: no column of data is called so."""


@dataclass(frozen=True, eq=False)
class Column:
    """Subjects that are compared with real ones.

    Attributes
    ----------
    name : str
    frame : DataFrame
        The subjects, one row each.
    y : ndarray or None
        Their labels.
    real : DataFrame
        Real subjects that they are compared with: the test subjects, or half of them.
    y_real : ndarray or None
    log_prob : callable or None
        Log-likelihood of subjects under the generator.
    """

    name: str
    frame: pd.DataFrame
    y: np.ndarray | None
    real: pd.DataFrame
    y_real: np.ndarray | None
    log_prob: Callable[[pd.DataFrame], Any] | None = None

    @property
    def is_reference(self) -> bool:
        return self.name in REFERENCES


@dataclass(frozen=True, eq=False)
class Cohort:
    """Real subjects: those the generators have learned from, and others."""

    train: pd.DataFrame
    test: pd.DataFrame
    y_train: np.ndarray | None = None
    y_test: np.ndarray | None = None


def read_columns(
    train: Any,
    test: Any,
    synthetic: Any,
    *,
    labels: tuple[Any, Any, Any],
    name: str,
    further: Mapping[str, Any] | None,
    log_prob: Callable[[pd.DataFrame], Any] | None,
    random_state: int,
) -> tuple[Cohort, list[Column]]:
    """Check what is to be compared and draw the references.

    Parameters
    ----------
    train, test, synthetic : anything that :func:`~tawt_sklearn.as_events` takes
    labels : triple of array-like or None
        Of train, test and synthetic: all or none.
    name : str
        Of the synthetic data.
    further : mapping of str to frame, or to pair of frame and labels
    log_prob : callable or None
        Belongs to the synthetic data, not to the further ones.
    random_state : int

    Raises
    ------
    DataError
        Too few test subjects, names that clash, labels for some of the frames only, and what
        the measures refuse.
    """
    others = {} if further is None else dict(further)
    _check_names([name, *others])
    _check_labels_given(labels)
    pairs = {key: _with_labels(key, value) for key, value in others.items()}
    read = read_histories(
        train,
        test,
        synthetic,
        *(frame for frame, _ in pairs.values()),
        names=("train", "test", "synthetic", *(f"further[{key!r}]" for key in pairs)),
    )
    if len(read[1]) < MIN_TEST:
        raise DataError(
            f"Expected at least {MIN_TEST} test subjects, half of which are compared with the "
            f"other half as a reference. Got {len(read[1])}. Hold out more real subjects."
        )
    frames = [read[0].frame, *(one.frame[read[0].frame.columns] for one in read[1:])]
    y_train, y_test, y_synthetic = (
        _label_array(y, len(frame), f"y_{which}")
        for y, frame, which in zip(labels, frames, ("train", "test", "synthetic"), strict=False)
    )
    cohort = Cohort(frames[0], frames[1], y_train, y_test)
    columns = [Column(name, frames[2], y_synthetic, frames[1], y_test, log_prob)]
    for (key, (_, y)), frame in zip(pairs.items(), frames[3:], strict=True):
        if y is not None and y_train is None:
            raise DataError(
                f"Expected y_train, y_test and y_synthetic too, as further[{key!r}] has labels. "
                "Got none. Pass them, or the frame alone."
            )
        y = _label_array(y, len(frame), f"labels of further[{key!r}]")
        columns.append(Column(key, frame, y, frames[1], y_test))
    return cohort, [*columns, *_references(cohort, len(frames[2]), random_state)]


def _references(cohort: Cohort, n: int, random_state: int) -> list[Column]:
    """Half of the test subjects beside the other half; a copy of training subjects; marginals."""
    rng = generator(random_state)
    order = rng.permutation(len(cohort.test))
    halves = np.sort(order[: len(order) // 2]), np.sort(order[len(order) // 2 :])
    taken = [cohort.test.iloc[half] for half in halves]
    y = [None if cohort.y_test is None else cohort.y_test[half] for half in halves]
    columns = [Column(HOLD_OUT, taken[0], y[0], taken[1], y[1])]
    labelled = cohort.train
    if cohort.y_train is not None:
        labelled = labelled.assign(**{_LABEL: cohort.y_train})
    for name, draw in ((COPY, subject_bootstrap), (MARGINALS, independent_marginals)):
        frame = draw(labelled, n, seed(rng))
        drawn = None
        if cohort.y_train is not None:
            drawn = frame.pop(_LABEL).to_numpy()
        columns.append(Column(name, frame, drawn, cohort.test, cohort.y_test))
    return columns


def _check_names(names: list[Any]) -> None:
    if wrong := [name for name in names if not (isinstance(name, str) and name.strip())]:
        raise DataError(f"Expected names of generators that are strings. Got {wrong[0]!r}.")
    for name in names:
        if names.count(name) > 1 or name in REFERENCES:
            raise DataError(
                f"Expected every generator to have a name of its own, and not one of the "
                f"references {list(REFERENCES)}. Got {name!r} again. Rename one."
            )


def _check_labels_given(labels: tuple[Any, Any, Any]) -> None:
    names = ("y_train", "y_test", "y_synthetic")
    given = [name for name, y in zip(names, labels, strict=True) if y is not None]
    if given and len(given) < len(names):
        raise DataError(
            f"Expected all of y_train, y_test and y_synthetic, or none of them. Got {given} only. "
            "Pass the labels of all three frames."
        )


def _with_labels(name: str, value: Any) -> tuple[Any, Any]:
    """A frame, and labels where a pair of both was given."""
    if not isinstance(value, tuple):
        return value, None
    if len(value) != 2:
        raise DataError(
            f"Expected further[{name!r}] to be a frame or a pair of a frame and its labels. Got "
            f"a tuple of {len(value)}."
        )
    return value


def _label_array(y: Any, n: int, name: str) -> np.ndarray | None:
    """One label per subject; (B,)."""
    if y is None:
        return None
    labels = np.asarray(y)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != (n,):
        raise DataError(
            f"Expected one label for each of the {n} subjects as {name}. Got shape {labels.shape}."
        )
    return labels
