"""Nothing that is written points to few subjects."""

from __future__ import annotations

import numpy as np
import pytest

from tawt_sklearn.exceptions import DataError
from tawt_sklearn.synthesis import SequenceSynthesizer
from tawt_sklearn.synthesis.marginals import Marginal

from .subjects import QUICK, frame_of, random_subjects, simple


def learned(X, y=None) -> SequenceSynthesizer:
    return SequenceSynthesizer(**QUICK).fit(X, y)


def test_the_one_subject_of_a_rare_label_is_not_copied():
    rng = np.random.default_rng(1)
    n = 60
    static = {name: rng.normal(60, 10, n).round(2) for name in ("age", "weight")}
    X = simple(n, most=6, static=static)
    y = np.array([0, 1] * 29 + [0, 2])
    drawn, labels = learned(X, y).sample(300, y=2, random_state=1)
    assert set(labels) == {2}
    same = [(drawn[name] == X[name].iloc[-1]).to_numpy() for name in ("age", "weight")]
    assert same[0].mean() < 0.1
    assert (same[0] & same[1]).mean() < 0.02


def test_static_numbers_of_few_subjects_are_left_out():
    few = np.full(40, np.nan)
    few[7] = 123.45
    drawn = learned(simple(40, static={"few": few, "age": np.arange(40.0)})).sample(200)
    assert drawn["few"].isna().all()
    assert drawn["few"].dtype == np.float64
    assert drawn["age"].notna().all()


def test_numbers_of_a_code_that_few_subjects_have_are_left_out():
    subjects = random_subjects(0, 40)
    for k in range(10):
        subjects[k].append((11.0, "x", 77.7 if k == 3 else None))
    synthesizer = learned(frame_of(*subjects))
    events = synthesizer.sample(300, random_state=0)["events"].array
    of_x = events.codes[events.code] == "x"
    assert of_x.any()
    assert np.isnan(events.value[of_x]).all()
    assert np.isfinite(synthesizer.log_prob(frame_of(*subjects))).all()


def test_extremes_of_one_subject_are_cut_off_however_often_they_come():
    rng = np.random.default_rng(0)
    row = np.repeat(np.arange(100), 10)
    sample = rng.normal(size=1000)
    sample[row == 3] = 999.0
    sample[row == 5] = -999.0
    told = Marginal.fit(sample, 5, row).value(np.linspace(0, 1, 999))
    reached = np.sort([sample[row == k].max() for k in range(100)])[-5]
    assert told.max() == pytest.approx(reached)
    assert told.min() == pytest.approx(np.sort([sample[row == k].min() for k in range(100)])[4])
    by_value = Marginal.fit(sample, 5).value(np.linspace(0, 1, 999))
    assert by_value.max() == 999


def test_gaps_of_one_subject_are_cut_off():
    subjects = random_subjects(0, 40)
    subjects[3] = [(1000.0 * k, "a", 1.0) for k in range(12)]
    events = learned(frame_of(*subjects)).sample(200, random_state=0)["events"].array
    assert np.diff(events.time).max() < 100


@pytest.mark.parametrize("asked", [True, "banana", 5])
def test_a_level_that_was_left_out_cannot_be_asked_for(asked):
    X = simple(40, static={"flag": [True] + [False] * 39})
    synthesizer = learned(X)
    with pytest.raises(DataError, match="that were there in fit"):
        synthesizer.sample(static=X[["flag"]].iloc[:1].astype(object).assign(flag=[asked]))
    assert not synthesizer.sample(static=X[["flag"]].iloc[1:3])["flag"].any()


@pytest.mark.parametrize(
    ("y", "match"),
    [(np.empty((40, 0)), "shape"), (np.r_[np.inf, np.zeros(39)], "finite labels")],
)
def test_labels_that_are_none(y, match):
    with pytest.raises(DataError, match=match):
        learned(simple(40), y)
