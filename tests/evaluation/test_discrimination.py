"""A classifier that tells synthetic subjects from real ones."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tawt_sklearn import EventSummarizer, nest_events
from tawt_sklearn.evaluation import discriminative_score, independent_marginals, subject_bootstrap
from tawt_sklearn.evaluation._frames import read_histories
from tawt_sklearn.evaluation.discrimination import distinct_subjects
from tawt_sklearn.exceptions import DataError

from .frames import each_value, frame_of, global_random_state, shuffled_within_times

LIGHT = HistGradientBoostingClassifier(max_iter=15)
QUICK = {"estimator": LIGHT, "cv": 3, "n_bootstrap": 20, "random_state": 0}


@pytest.fixture(scope="module")
def halves(stays):
    return stays[0].iloc[:225], stays[0].iloc[225:]


def test_the_same_population_cannot_be_told_apart(halves):
    score = discriminative_score(*halves, **QUICK)
    assert 0.4 < score.value < 0.6
    assert score.low < score.value < score.high
    assert score.extra["accuracy_gap"] < 0.1
    assert score.extra["n_per_side"] == 225


def test_what_betrays_the_data_comes_first(halves):
    real, other = halves
    score = discriminative_score(real, each_value(other, lambda v: v * 1.5), **QUICK)
    assert score.value > 0.9
    assert score.extra["accuracy_gap"] > 0.3
    first = score.details.iloc[0]
    assert first["auc"] > 0.8
    assert first["synthetic_mean"] > first["real_mean"]


def test_the_auc_of_a_feature_is_that_of_scikit_learn(halves):
    real, other = halves
    score = discriminative_score(real, other, **QUICK)
    ages = np.r_[real["age"], other["age"]]
    expected = roc_auc_score(np.repeat([0, 1], 225), np.nan_to_num(ages, nan=-1.0))
    assert score.details.loc["age", "auc"] == pytest.approx(expected)


def test_independent_marginals_are_found(halves):
    bad = independent_marginals(halves[0], random_state=0)
    assert discriminative_score(halves[1], bad, **QUICK).low > 0.8


def test_copies_are_left_out_before_a_classifier_recognises_them(halves):
    copies = subject_bootstrap(halves[0], 225, random_state=0)
    score = discriminative_score(halves[1], copies, **QUICK)
    assert score.extra["n_duplicates"] == pytest.approx(225 * 0.37, abs=20)
    assert score.extra["n_per_side"] == 225 - score.extra["n_duplicates"]
    assert 0.38 < score.value < 0.62


def test_the_real_subjects_themselves_cannot_be_told_from_them(halves):
    real = halves[0].iloc[:100]
    assert discriminative_score(real, real.iloc[::-1], **QUICK).value == pytest.approx(0.5)


def test_repeats_that_real_subjects_have_too_are_kept():
    real = frame_of([], [], [(0, "hr", 1)], [(0, "hr", 2)])
    made = frame_of([], [], [], [(0, "hr", 3)], [(0, "hr", 3)], [(1, "hr", 4)], [(1, "bp", 4)], [])
    first, second = read_histories(real, made, names=("real", "synthetic"))
    assert distinct_subjects(second, first).tolist() == [0, 1, 2, 3, 5, 6, 7]
    assert distinct_subjects(first, second).tolist() == [0, 1, 2, 3]


def test_copies_are_copies_however_they_are_written_down(real):
    again = shuffled_within_times(real)[["events", "sex", "age"]]
    first, second = read_histories(real, again, names=("real", "synthetic"))
    np.testing.assert_array_equal(first.hashes(), second.hashes())
    both = [one.hashes(with_statics=True) for one in (first, second)]
    np.testing.assert_array_equal(*both)
    other = real.assign(age=real["age"] + 1, sex=real["sex"].astype("category"))
    _, third = read_histories(real, other, names=("real", "synthetic"))
    np.testing.assert_array_equal(first.hashes(), third.hashes())
    known = real["age"].notna().to_numpy()
    np.testing.assert_array_equal(both[0] != third.hashes(with_statics=True), known)


def test_the_same_seed_gives_the_same_score_and_the_global_state_is_left_alone(halves):
    halves = [half.iloc[:80] for half in halves]
    state = global_random_state()
    scores = [discriminative_score(*halves, **QUICK) for _ in range(2)]
    assert repr(scores[0]) == repr(scores[1])
    assert scores[0].value == scores[1].value
    discriminative_score(*halves, **{**QUICK, "random_state": None, "cv": 2})
    assert global_random_state() == state


def test_any_classifier_and_any_folds(halves):
    bad = independent_marginals(halves[0], random_state=0)
    summary = EventSummarizer(statistics=["count"], static="drop").fit(halves[0])
    for estimator in (
        None,
        RidgeClassifier(),
        make_pipeline(StandardScaler(), LogisticRegression()),
    ):
        score = discriminative_score(
            halves[1],
            bad,
            features=summary,
            estimator=estimator,
            cv=StratifiedKFold(2),
            n_bootstrap=0,
            random_state=0,
        )
        assert score.value > 0.6
        assert np.isnan(score.low)
        assert list(score.details.columns) == ["auc", "real_mean", "synthetic_mean"]
        assert set(score.details.index) == set(summary.get_feature_names_out())


def test_an_embedding_gets_the_frames(halves):
    class Embedding:
        def transform(self, X):
            assert isinstance(X, pd.DataFrame) and "age" in X
            return np.c_[X["events"].events.lengths, X["age"].fillna(0)]

    shorter = halves[1].assign(events=halves[1]["events"].events.until(20.0))
    score = discriminative_score(halves[0], shorter, features=Embedding(), random_state=0)
    assert score.value > 0.7
    assert score.details.index[0] == "x0"


def test_features_that_a_fold_lacks_are_left_out_of_it(halves):
    """A code that one real subject has is undefined in all folds but one."""
    real, other = (half.iloc[:60] for half in halves)
    rare = real["events"].events.to_long()
    rare.loc[0, "code"] = "rare"
    real = nest_events(rare, static=real.drop(columns="events"))
    score = discriminative_score(real, other, **QUICK)
    assert 0.3 < score.value < 0.7
    assert "rare__mean" in score.details.index


def test_panels():
    rng = np.random.default_rng(0)
    panels = rng.normal(size=(2, 40, 2, 8))
    score = discriminative_score(panels[0], panels[1] + 3, **QUICK)
    assert score.value == pytest.approx(1.0)


def test_what_cannot_be_compared(halves):
    real, other = halves
    with pytest.raises(DataError, match="Expected at least 2 folds"):
        discriminative_score(real.iloc[:3], other, random_state=0)
    with pytest.raises(DataError, match='Expected features to be "summary" or a fitted'):
        discriminative_score(real, other, features="embedding")
    with pytest.raises(DataError, match="one row of numbers per subject"):
        discriminative_score(real, other, features=_Short())


class _Short:
    def transform(self, X):
        return np.zeros((1, 2))
