"""Do models that learned from synthetic subjects work on real ones?"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, clone, is_classifier, is_regressor
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.metrics import get_scorer
from sklearn.utils import get_tags
from sklearn.utils.multiclass import type_of_target

from tawt_sklearn.evaluation._frames import read_histories
from tawt_sklearn.evaluation.features import Layout, defined
from tawt_sklearn.evaluation.measure import (
    Measure,
    RandomState,
    check_bootstrap,
    generator,
    interval,
    seed,
)
from tawt_sklearn.exceptions import DataError

BESIDES = {
    "binary": ("roc_auc", "average_precision", "neg_brier_score", "accuracy"),
    "multiclass": ("roc_auc_ovr", "neg_log_loss", "accuracy"),
    "continuous": ("r2", "neg_mean_absolute_error", "neg_root_mean_squared_error"),
}
"""Scores in the details; the first is the default."""


def tstr_score(
    X_synthetic: Any,
    y_synthetic: Any,
    X_test: Any,
    y_test: Any,
    *,
    estimator: Any = None,
    scoring: str | Callable[..., float] | None = None,
    n_bootstrap: int = 200,
    random_state: RandomState = None,
) -> Measure:
    """Train on synthetic subjects, test on real ones.

    Compare with :func:`trtr_score`: the gap between the two is what the synthetic data lost.

    Parameters
    ----------
    X_synthetic, X_test : DataFrame or array
        One row per subject; anything :func:`~tawt_sklearn.as_events` takes.  The test subjects are
        real ones that the generator has not seen, 2,000 or more for steady figures.
    y_synthetic, y_test : array-like (B,)
        Labels or numbers, one per row.
    estimator : estimator, default=None
        Gets the frames themselves: a pipeline that begins with ``EventSummarizer``, or a
        :class:`~tawt_sklearn.TimeAwareClassifier`.  By default gradient boosting on
        :func:`subject_features`.
    scoring : str or callable, default=None
        A scorer of scikit-learn.  By default the area under the ROC curve (more than two classes:
        mean of one against the rest), and R2 where y is continuous.  A callable gets the fitted
        estimator and rows of `X_test`.
    n_bootstrap : int, default=200
        Resamples of the test subjects (of each class on its own), 0 for no interval.  Predictions
        are made once, except for a callable, which makes them in each resample.
    random_state : int, RandomState, Generator or None, default=None
        Drives the default estimator and the resamples.

    Returns
    -------
    Measure
        ``value``: the score.  ``details``: a Series of usual scores, undefined ones left out.

    Raises
    ------
    DataError
        Labels that are missing, of one class only, or of other classes than in test; lengths that
        differ.

    References
    ----------
    Esteban, Hyland & Rätsch, "Real-valued (Medical) Time Series Generation with Recurrent
    Conditional GANs", 2017.

    Examples
    --------
    >>> from tawt_sklearn.datasets import make_icu_stays
    >>> from tawt_sklearn.evaluation import subject_bootstrap, tstr_score
    >>> X, y = make_icu_stays(400, random_state=0)
    >>> copies = subject_bootstrap(X.iloc[:200].assign(y=y[:200]), random_state=0)
    >>> score = tstr_score(copies.drop(columns="y"), copies["y"], X[200:], y[200:], random_state=0)
    >>> score.value > 0.6
    True
    """
    return _score(
        (X_synthetic, y_synthetic, "synthetic"),
        (X_test, y_test),
        estimator,
        scoring,
        n_bootstrap,
        random_state,
    )


def trtr_score(
    X_train: Any,
    y_train: Any,
    X_test: Any,
    y_test: Any,
    *,
    estimator: Any = None,
    scoring: str | Callable[..., float] | None = None,
    n_bootstrap: int = 200,
    random_state: RandomState = None,
) -> Measure:
    """Train on real subjects, test on real ones: what :func:`tstr_score` is compared with.

    Parameters
    ----------
    X_train, y_train : as `X_synthetic` and `y_synthetic` of :func:`tstr_score`
        The real subjects that the generator learned from.
    X_test, y_test, estimator, scoring, n_bootstrap, random_state : as in :func:`tstr_score`
        The same for both.

    Returns
    -------
    Measure

    Raises
    ------
    DataError
        As :func:`tstr_score`.

    Examples
    --------
    >>> from tawt_sklearn.datasets import make_icu_stays
    >>> X, y = make_icu_stays(400, random_state=0)
    >>> trtr_score(X[:200], y[:200], X[200:], y[200:], random_state=0).value > 0.6
    True
    """
    return _score(
        (X_train, y_train, "train"),
        (X_test, y_test),
        estimator,
        scoring,
        n_bootstrap,
        random_state,
    )


def _score(
    train: tuple[Any, Any, str],
    test: tuple[Any, Any],
    estimator: Any,
    scoring: str | Callable[..., float] | None,
    n_bootstrap: int,
    random_state: RandomState,
) -> Measure:
    n_bootstrap = check_bootstrap(n_bootstrap)
    rng = generator(random_state)
    X_name, y_name = f"X_{train[2]}", f"y_{train[2]}"
    learned, tested = read_histories(train[0], test[0], names=(X_name, "X_test"))
    y = _labels(train[1], len(learned), y_name)
    y_test = _labels(test[1], len(tested), "y_test")
    kind = _kind(y, y_test, estimator, scoring)
    if kind != "continuous":
        _check_classes(y, y_test, y_name)
    X, X_test = learned.frame, tested.frame[learned.frame.columns]
    if estimator is None:
        layout = Layout.learn(learned)
        X, X_test = layout.compute(learned), layout.compute(tested)
        known = defined(X)
        X, X_test = X.iloc[:, known], X_test.iloc[:, known]
        boosting = (
            HistGradientBoostingRegressor
            if kind == "continuous"
            else HistGradientBoostingClassifier
        )
        estimator = boosting(random_state=seed(rng))
    fitted = clone(estimator).fit(X, y)
    scorer = get_scorer(BESIDES[kind][0] if scoring is None else scoring)
    remembered = _Remembered(fitted, X_test)
    rows = np.arange(len(X_test))[:, None]

    def score(at: np.ndarray) -> float:
        if callable(scoring):
            return float(scorer(fitted, X_test.iloc[at], y_test[at]))
        return float(scorer(remembered, rows[at], y_test[at]))

    value = score(rows[:, 0])
    groups = [rows[:, 0]] if kind == "continuous" else _rows_by_class(y_test)
    draws = [
        score(np.concatenate([rng.choice(group, len(group)) for group in groups]))
        for _ in range(n_bootstrap)
    ]
    usual = {name: _or_nan(name, remembered, rows, y_test) for name in BESIDES[kind]}
    details = pd.Series(usual, name="score", dtype=np.float64).dropna()
    finite = np.array([draw for draw in draws if np.isfinite(draw)])
    low, high = float("nan"), float("nan")
    if len(finite):
        low, high = interval(value, finite, (-np.inf, np.inf))
        if kind != "continuous" and 0 <= value <= 1:
            low, high = max(low, 0.0), min(high, 1.0)
    return Measure(value, low, high, details, {"n_train": len(y), "n_test": len(y_test)})


class _Remembered(BaseEstimator):
    """An estimator that looks its predictions up by the number of the row."""

    def __init__(self, fitted: Any, X: pd.DataFrame) -> None:
        self.fitted = fitted
        self.X = X
        self._answers: dict[str, np.ndarray] = {}
        for name in ("classes_", "n_outputs_"):
            if hasattr(fitted, name):
                setattr(self, name, getattr(fitted, name))
        for name in ("predict", "predict_proba", "decision_function"):
            if hasattr(fitted, name):
                setattr(self, name, self._lookup(name))

    def __sklearn_tags__(self) -> Any:
        return get_tags(self.fitted)

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def _lookup(self, name: str) -> Callable[[np.ndarray], np.ndarray]:
        def answer(rows: np.ndarray) -> np.ndarray:
            if name not in self._answers:
                self._answers[name] = np.asarray(getattr(self.fitted, name)(self.X))
            return self._answers[name][np.asarray(rows)[:, 0]]

        answer.__name__ = name
        return answer


def _labels(y: Any, n: int, name: str) -> np.ndarray:
    """One known label per subject; (B,)."""
    if y is None:
        raise DataError(f"Expected one label per subject as {name}. Got None.")
    labels = np.asarray(y)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != (n,):
        raise DataError(
            f"Expected one label for each of the {n} subjects as {name}. Got shape {labels.shape}."
        )
    missing = np.asarray(pd.isna(labels))
    if missing.any():
        raise DataError(
            f"Expected a label for every subject as {name}. Got {missing.sum()} missing ones, the "
            f"first at position {np.flatnonzero(missing)[0]}. Drop these subjects from X and y."
        )
    if labels.dtype == object:
        labels = np.array(labels.tolist())
    return labels


def _kind(y: np.ndarray, y_test: np.ndarray, estimator: Any, scoring: Any) -> str:
    """Which of `BESIDES` the task is."""
    if estimator is not None and (is_regressor(estimator) or is_classifier(estimator)):
        regression = is_regressor(estimator)
    else:
        scores_numbers = isinstance(scoring, str) and scoring.startswith(
            ("r2", "neg_mean_", "neg_root_", "neg_median_", "neg_max_", "explained_", "d2_")
        )
        kinds = {type_of_target(y, input_name="y"), type_of_target(y_test, input_name="y_test")}
        regression = scores_numbers or "continuous" in kinds
    if regression:
        return "continuous"
    return "binary" if len(np.unique(y_test)) <= 2 and len(np.unique(y)) <= 2 else "multiclass"


def _check_classes(y: np.ndarray, y_test: np.ndarray, name: str) -> None:
    classes, expected = np.unique(y).tolist(), np.unique(y_test).tolist()
    for found, which in ((classes, name), (expected, "y_test")):
        if len(found) < 2:
            raise DataError(
                f"Expected at least two classes in {which}. Got only {found[0]!r}. Sample more "
                "subjects, or ask the generator for both labels."
            )
    if lacking := [label for label in expected if label not in classes]:
        raise DataError(
            f"Expected every class of y_test in {name}. Got none of {lacking[:5]}. Sample more "
            "subjects, or give both labels in the same form."
        )
    if lacking := [label for label in classes if label not in expected]:
        raise DataError(
            f"Expected every class of {name} in y_test. Got none of {lacking[:5]}. Test on more "
            "subjects, or give both labels in the same form."
        )


def _rows_by_class(y: np.ndarray) -> list[np.ndarray]:
    return [np.flatnonzero(y == label) for label in np.unique(y)]


def _or_nan(name: str, remembered: _Remembered, rows: np.ndarray, y: np.ndarray) -> float:
    """A usual score, NaN where the estimator or the labels do not allow it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return float(get_scorer(name)(remembered, rows, y))
    except (AttributeError, ValueError):
        return float("nan")
