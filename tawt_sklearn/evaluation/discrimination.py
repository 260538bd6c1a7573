"""Can a classifier tell synthetic subjects from real ones, and by what?"""

from __future__ import annotations

import warnings
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from sklearn.base import BaseEstimator, clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tawt_sklearn.evaluation._frames import Histories, read_histories
from tawt_sklearn.evaluation._statistics import weighted_auc
from tawt_sklearn.evaluation.features import Layout, defined
from tawt_sklearn.evaluation.measure import Measure, RandomState, generator, measured, seed
from tawt_sklearn.exceptions import DataError


def discriminative_score(
    real: Any,
    synthetic: Any,
    *,
    features: Literal["summary"] | Any = "summary",
    estimator: Any = None,
    cv: Any = 5,
    n_bootstrap: int = 200,
    random_state: RandomState = None,
) -> Measure:
    """AUC of a classifier that tells synthetic subjects from real ones: .5 is the ideal.

    A classifier two-sample test: equally many subjects of both kinds, cross-validated.  Compare
    with real data that the generator was **not** trained on, or copies of training subjects pass.

    Parameters
    ----------
    real, synthetic : DataFrame or array
        One row per subject; anything :func:`~tawt_sklearn.as_events` takes.
    features : "summary" or fitted transformer, default="summary"
        ``"summary"``: :func:`subject_features`.  A transformer, such as a fitted
        :class:`~tawt_sklearn.TimeAwareEncoder`: its embedding of the frames.
    estimator : classifier, default=None
        Of scikit-learn, for these features.  By default gradient boosting for the summary and
        logistic regression (of scaled columns) for an embedding.
    cv : int or splitter, default=5
        Folds.
    n_bootstrap : int, default=200
        Resamples of subjects for the interval, 0 for none.  They resample the held-out scores of
        the folds; the classifier is not fitted again.
    random_state : int, RandomState, Generator or None, default=None
        Drives the choice of subjects, the folds, the classifier and the resamples.

    Returns
    -------
    Measure
        ``value``: mean AUC of the folds.  ``details``: a row per feature, those that betray the
        synthetic data first: ``auc`` of the feature alone (above .5: larger in synthetic data; NaN
        counts as below all numbers) and its mean in both.  ``extra``: ``accuracy_gap``, |accuracy -
        .5|; ``n_per_side``; ``n_duplicates``, synthetic subjects left out.

    Raises
    ------
    DataError
        Fewer subjects than folds, tokenised events, static columns that differ.

    Notes
    -----
    Repeats among the synthetic subjects are left out: with a copy in each fold, a classifier
    recognises them and would call perfect data easy to tell apart.  A history that real subjects
    share too, such as an empty one, may come up as often as among them.  A real subject and its
    copy are always in the same fold: in different ones, each would be taken for the other, and
    copies would score below .5.

    References
    ----------
    Lopez-Paz & Oquab, "Revisiting Classifier Two-Sample Tests", ICLR 2017; Yoon, Jarrett & van der
    Schaar, "Time-series Generative Adversarial Networks", NeurIPS 2019 (the accuracy gap).

    Examples
    --------
    >>> from tawt_sklearn.datasets import make_icu_stays
    >>> from tawt_sklearn.evaluation import discriminative_score, independent_marginals
    >>> X, _ = make_icu_stays(200, random_state=0)
    >>> bad = independent_marginals(X, random_state=0)
    >>> score = discriminative_score(X, bad, random_state=0)
    >>> score.value > 0.9
    True
    """
    rng = generator(random_state)
    first, second = read_histories(real, synthetic, names=("real", "synthetic"))
    kept = distinct_subjects(second, first)
    n = min(len(first), len(kept))
    real_rows = np.sort(rng.permutation(len(first))[:n])
    synthetic_rows = np.sort(rng.permutation(kept)[:n])
    table = _features(features, first, second, real_rows, synthetic_rows)
    label = np.repeat([0, 1], n)
    twins = np.r_[
        first.hashes(with_statics=True)[real_rows],
        second.hashes(with_statics=True)[synthetic_rows],
    ]
    splits = _splits(cv, table, label, twins, rng)
    model = _model(estimator, features, rng)
    score, fold, correct = _held_out(model, table, label, splits)

    def auc(real_weight: np.ndarray, synthetic_weight: np.ndarray) -> float:
        weight, folds = np.r_[real_weight, synthetic_weight], []
        for k in range(len(splits)):
            one, zero = (np.flatnonzero((fold == k) & (label == side)) for side in (1, 0))
            folds.append(weighted_auc(score[one], score[zero], weight[one], weight[zero]))
        return float(np.nanmean(folds)) if not np.isnan(folds).all() else float("nan")

    return measured(
        auc,
        (n, n),
        n_bootstrap=n_bootstrap,
        rng=rng,
        details=_betrayals(table, n),
        extra={
            "accuracy_gap": abs(float(np.mean(correct)) - 0.5),
            "n_per_side": n,
            "n_duplicates": len(second) - len(kept),
        },
    )


def distinct_subjects(synthetic: Histories, real: Histories) -> np.ndarray:
    """Rows of synthetic subjects without the repeats that real data do not have; int64 (N,)."""
    hashes = pd.Series(synthetic.hashes(with_statics=True))
    repeat = hashes.groupby(hashes, sort=False).cumcount().to_numpy()
    in_real = pd.Series(real.hashes(with_statics=True)).value_counts()
    n = hashes.map(in_real).fillna(0).to_numpy(np.float64)
    # One occurrence is always allowed; more only where real subjects repeat as well.
    allowed = np.where(n > 1, np.ceil(n * len(synthetic) / len(real)), 1)
    return np.flatnonzero(repeat < allowed)


def _features(
    features: Any,
    real: Histories,
    synthetic: Histories,
    real_rows: np.ndarray,
    synthetic_rows: np.ndarray,
) -> pd.DataFrame:
    """Features of the chosen subjects, real ones first; (2 n, n_features)."""
    if isinstance(features, str) and features == "summary":
        layout = Layout.learn(real)
        both = [
            layout.compute(real).iloc[real_rows],
            layout.compute(synthetic).iloc[synthetic_rows],
        ]
        return pd.concat(both, ignore_index=True)
    if not hasattr(features, "transform"):
        raise DataError(
            'Expected features to be "summary" or a fitted transformer. Got '
            f"{features if isinstance(features, str) else type(features).__name__!r}."
        )
    frames = real.frame.iloc[real_rows], synthetic.frame[real.frame.columns].iloc[synthetic_rows]
    parts = [features.transform(frame) for frame in frames]
    dense = [part.toarray() if hasattr(part, "toarray") else np.asarray(part) for part in parts]
    table = np.vstack(dense).astype(np.float64)
    if table.ndim != 2 or len(table) != len(real_rows) + len(synthetic_rows):
        raise DataError(
            "Expected a transformer that gives one row of numbers per subject. Got shape "
            f"{table.shape} for {len(real_rows) + len(synthetic_rows)} subjects."
        )
    names = getattr(parts[0], "columns", None)
    return pd.DataFrame(table, columns=_names(features, table.shape[1]) if names is None else names)


def _names(transformer: Any, n: int) -> list[str]:
    if hasattr(transformer, "get_feature_names_out"):
        names = [str(name) for name in transformer.get_feature_names_out()]
        if len(names) == n:
            return names
    return [f"x{k}" for k in range(n)]


def _splits(
    cv: Any, table: pd.DataFrame, label: np.ndarray, twins: np.ndarray, rng: np.random.Generator
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Train and test rows of the folds, equal subjects in the same one."""
    _, group = np.unique(twins, return_inverse=True)
    n, n_groups = len(label) // 2, int(group.max()) + 1
    if not isinstance(cv, int | np.integer):
        with warnings.catch_warnings():
            # A splitter that knows no groups says so; that is the choice of the user.
            warnings.filterwarnings("ignore", message="The groups parameter is ignored")
            return list(cv.split(table, label, group))
    if not 2 <= cv <= min(n, n_groups):
        raise DataError(
            f"Expected at least 2 folds, and at least as many subjects of each kind. Got cv={cv} "
            f"and {n} subjects of each kind, repeats left out, {n_groups} different ones in all. "
            "Lower cv or give more subjects."
        )
    # Most data have no equal subjects, and need no search for folds that keep them together.
    options = {"n_splits": int(cv), "shuffle": True, "random_state": seed(rng)}
    if n_groups == len(label):
        return list(StratifiedKFold(**options).split(table, label))
    return list(StratifiedGroupKFold(**options).split(table, label, group))


def _model(estimator: Any, features: Any, rng: np.random.Generator) -> BaseEstimator:
    if estimator is not None:
        return clone(estimator)
    if isinstance(features, str):
        return HistGradientBoostingClassifier(random_state=seed(rng))
    return make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression(max_iter=1000))


def _held_out(
    model: Any,
    table: pd.DataFrame,
    label: np.ndarray,
    splits: list[tuple[np.ndarray, np.ndarray]],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Score and fold of each subject (-1: in none), and whether predictions were right."""
    score, fold, correct = np.zeros(len(label)), np.full(len(label), -1), []
    for k, (train, test) in enumerate(splits):
        known = defined(table.iloc[train])
        X_train, X_test = table.iloc[train, known], table.iloc[test, known]
        fitted = clone(model).fit(X_train, label[train])
        if hasattr(fitted, "predict_proba"):
            score[test] = fitted.predict_proba(X_test)[:, 1]
        else:
            score[test] = fitted.decision_function(X_test)
        fold[test] = k
        correct.extend(fitted.predict(X_test) == label[test])
    return score, fold, np.array(correct)


def _betrayals(table: pd.DataFrame, n: int) -> pd.DataFrame:
    """AUC of each feature alone, farthest from .5 first."""
    numbers = table.to_numpy()
    below = np.where(np.isnan(numbers), -np.inf, numbers)
    ranks = rankdata(below, axis=0)[n:].sum(axis=0)
    sides = [table.iloc[:n].mean(), table.iloc[n:].mean()]
    details = pd.DataFrame(
        {
            "auc": (ranks - n * (n + 1) / 2) / n**2,
            "real_mean": sides[0],
            "synthetic_mean": sides[1],
        },
        index=table.columns.rename("feature"),
    )
    order = np.argsort(-np.abs(details["auc"].to_numpy() - 0.5), kind="stable")
    return details.iloc[order]
