"""Histories of which the data have more are chosen more often."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import config_context
from sklearn.ensemble import GradientBoostingClassifier

from tawt_sklearn.exceptions import DataError, SaveFileError
from tawt_sklearn.synthesis import SequenceSynthesizer
from tawt_sklearn.synthesis.resampling import (
    BOOSTING,
    DensityRatio,
    appearance,
    resampled,
    shares,
    width_of_appearance,
)
from tawt_sklearn.synthesis.selection import Selection

from .subjects import QUICK, simple


def two_samples(n: int = 1500, shift: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Of normal distributions that differ in the mean of the first of three columns."""
    rng = np.random.RandomState(0)
    of_data, written = rng.standard_normal((2, n, 3)).astype(np.float32)
    of_data[:, 0] += shift
    return of_data, written


def test_the_ratio_is_that_of_the_densities():
    of_data, written = two_samples(3000)
    ratio, unseen = DensityRatio.fit(
        of_data, written, np.ones(len(written)), np.arange(len(written)), 0
    )
    table = np.random.RandomState(1).standard_normal((4000, 3)).astype(np.float32)
    true = 0.5 * table[:, 0] - 0.125
    told = ratio.log_ratio(table)
    assert np.corrcoef(told, true)[0, 1] > 0.9
    assert abs(np.exp(told).mean() - 1) < 0.1  # over what is written
    true = 0.5 * written[:, 0] - 0.125
    assert np.sqrt(np.mean((unseen - true) ** 2)) < 0.25


def test_few_candidates_choose_more_sharply():
    """So that what is kept scores like the data."""
    of_data, written = two_samples()
    rng, weight = np.random.RandomState(0), np.ones(len(written))
    plain, _ = DensityRatio.fit(of_data, written, weight, np.arange(len(written)), 0)
    real, scores = plain.log_ratio(of_data).mean(), []
    for n in (3, 10):
        owner = np.arange(len(written)) // n
        ratio, _ = DensityRatio.fit(of_data, written, weight, owner, 0)
        table = rng.standard_normal((n * 3000, 3)).astype(np.float32)
        rows = resampled(ratio.log_weight(table, n), np.tile(np.arange(3000), n), rng)
        scores.append(plain.log_ratio(table[rows]).mean())
    np.testing.assert_allclose(scores, real, atol=0.06)


def test_candidates_that_came_later_do_not_overshoot():
    of_data, written = two_samples(3000)
    owner = np.arange(3000) // 3
    ratio, _ = DensityRatio.fit(of_data, written, np.ones(3000), owner, 0)
    assert ratio.n_candidates == 3
    assert ratio.power > 1
    rng = np.random.RandomState(0)
    for n in (3, 12, 60):
        table = rng.standard_normal((n * 2000, 3)).astype(np.float32)
        rows = resampled(ratio.log_weight(table, n), np.tile(np.arange(2000), n), rng)
        assert 0.3 < table[rows, 0].mean() < 0.6  # .5 in the data, 0 in what is written
        assert abs(table[rows, 0].std() - 1) < 0.15


def test_what_is_alike_needs_no_trees():
    of_data, written = two_samples(shift=0.0)
    ratio, unseen = DensityRatio.fit(
        of_data, written, np.ones(len(written)), np.arange(len(written)), 0
    )
    assert ratio.n_trees == 0
    assert (ratio.log_ratio(written) == 0).all() and (unseen == 0).all()


def test_weights_make_up_for_what_was_written_too_often():
    of_data, written = two_samples()
    weight = np.exp(0.5 * written[:, 0])
    ratio, _ = DensityRatio.fit(of_data, written, weight, np.arange(len(written)), 0)
    assert ratio.n_trees < 20


def test_trees_are_those_of_scikit_learn():
    of_data, written = two_samples(300)
    table, label = np.concatenate([of_data, written]), np.repeat([1, 0], 300)
    rate = BOOSTING.learning_rate
    model = GradientBoostingClassifier(
        n_estimators=12, learning_rate=rate, init="zero", random_state=0
    ).fit(table, label)
    ratio = DensityRatio.of([tree.tree_ for tree in model.estimators_[:, 0]])
    np.testing.assert_allclose(ratio.log_ratio(table), model.decision_function(table), atol=1e-9)


def test_one_of_each_is_chosen_in_proportion_to_its_weight():
    rng = np.random.RandomState(0)
    owner = np.tile(np.arange(20_000), 3)
    log_weight = np.repeat(np.log([1.0, 2.0, 5.0]), 20_000)
    rows = resampled(log_weight, owner, rng)
    assert (owner[rows] == np.arange(20_000)).all()
    chosen = np.bincount(rows // 20_000) / 20_000
    np.testing.assert_allclose(chosen, [0.125, 0.25, 0.625], atol=0.015)


def test_chances_are_those_of_the_choice():
    rng = np.random.RandomState(0)
    owner, log_weight = rng.randint(5, size=30), 3 * rng.standard_normal(30)
    expected = [
        np.exp(log_weight[k]) / np.exp(log_weight[owner == owner[k]]).sum() for k in range(30)
    ]
    np.testing.assert_allclose(shares(log_weight, owner), expected)
    assert (shares(np.full(4, 1e4), np.arange(4)) == 1).all()


@pytest.fixture(scope="module")
def fitted() -> SequenceSynthesizer:
    """Hardly trained, so that what it writes is told from the data."""
    X = simple(150, static={"age": np.arange(150.0)}, most=8)
    return SequenceSynthesizer(**QUICK).fit(X, np.arange(150) % 2)


def log_ratios(fitted: SequenceSynthesizer, X) -> np.ndarray:
    sentences = fitted.grammar_.read(*fitted.form_.parts(X), None)
    table = appearance(sentences, fitted.grammar_)
    assert table.shape == (len(X), width_of_appearance(fitted.grammar_))
    return fitted.ratio_.log_ratio(table)


def test_more_candidates_make_histories_more_alike(fitted):
    assert fitted.ratio_.n_trees > 0
    told = []
    for n in (1, 3):
        fitted.set_params(n_candidates=n)
        told.append(log_ratios(fitted, fitted.sample(200, random_state=0)[0]).mean())
    assert told[0] < told[1]


def test_what_was_asked_for_stays_with_its_subject(fitted, monkeypatch):
    n = 30
    sizes, write = [], Selection._some
    monkeypatch.setattr(f"{Selection.__module__}.AT_ONCE", 21)
    monkeypatch.setattr(
        Selection, "_some", lambda self, n, *more: sizes.append(n) or write(self, n, *more)
    )
    y = np.where(np.arange(n) % 3 == 0, None, np.arange(n) % 2).astype(object)
    static = simple(n, static={"age": np.arange(float(n))})[["age"]]
    X, drawn = fitted.sample(n, y=y, static=static, random_state=0)
    assert sizes == [7, 7, 7, 7, 2]
    np.testing.assert_array_equal(X["age"], static["age"])
    assert list(X.index) == list(range(n))
    known = [k for k in range(n) if y[k] is not None]
    np.testing.assert_array_equal(drawn[known], y[known].astype(int))
    X, drawn = fitted.sample(n, y=1, static=static.iloc[[3]], random_state=0)
    assert (drawn == 1).all() and (X["age"] == 3).all()


def test_the_same_is_stated_of_all_candidates(fitted):
    static = simple(7, static={"age": np.arange(7.0)})[["age"]].set_axis([3, 3, 0, 1, 2, 9, 9])
    writer = fitted._writer(1.0)
    frame, said = writer.new(7, {"static": static}, np.random.RandomState(0), copies=4)
    np.testing.assert_array_equal(frame["age"], np.repeat(np.arange(7.0), 4))
    np.testing.assert_array_equal(said, np.repeat(said[::4], 4))
    lengths = np.diff(frame["events"].array.offsets)
    np.testing.assert_array_equal(lengths, np.repeat(lengths[::4], 4))
    assert len(set(map(str, frame["events"][lengths == lengths.max()]))) > 1


def test_what_is_unknown_is_refused_before_anything_is_written(fitted, monkeypatch):
    monkeypatch.setattr(f"{Selection.__module__}.AT_ONCE", 3)
    monkeypatch.setattr(Selection, "_some", lambda *_: pytest.fail("written"))
    with pytest.raises(DataError, match="labels that were there in fit"):
        fitted.sample(y=[0, 1, 0, 1, 7])


@pytest.mark.parametrize("n_candidates", [0, 2.5, None, "all"])
def test_numbers_of_candidates_that_cannot_be(fitted, n_candidates):
    fitted.set_params(n_candidates=n_candidates)
    with pytest.raises(ValueError, match="n_candidates"):
        fitted.sample(2)
    fitted.set_params(n_candidates=3)


def test_many_candidates_and_routing_of_weights():
    with config_context(enable_metadata_routing=True):
        model = SequenceSynthesizer(**QUICK, n_candidates=500).fit(
            simple(100, most=8), np.arange(100) % 2
        )
    assert model.ratio_.n_candidates == 4  # of 50 subjects
    assert len(model.set_params(n_candidates=2).sample(3, random_state=0)[1]) == 3


def test_without_labels():
    model = SequenceSynthesizer(**QUICK).fit(simple(120, most=8))
    assert model.ratio_.n_trees > 0
    assert len(model.sample(5, random_state=0)) == 5


@pytest.mark.parametrize(
    "changed",
    [
        {"left": [3]},
        {"nodes": [0, 1]},
        {"nodes": [0]},
        {"column": [99]},
        {"value": [np.nan]},
        {"right": []},
        {"column": [0.5]},
        {"threshold": [np.nan]},
        {"value": [1e308]},
    ],
)
def test_trees_that_lead_nowhere_are_refused(fitted, changed):
    good = {
        "nodes": [0, 3],
        "left": [1, -1, -1],
        "right": [2, -1, -1],
        "column": [0, 0, 0],
        "threshold": [0.0, 0.0, 0.0],
        "value": [0.0, 1.0, -1.0],
    }
    (name, given), *_ = changed.items()
    more = {"n_candidates": 3, "power": 2.0}
    tables = {key: np.array(part) for key, part in good.items()}
    DensityRatio(**tables, **more).check(fitted.grammar_)
    with pytest.raises(SaveFileError, match="ratio"):
        DensityRatio(**tables, n_candidates=3, power=np.inf).check(fitted.grammar_)
    bad = {**good, name: given if name in ("nodes", "right") else [*given, *good[name][1:]]}
    with pytest.raises(SaveFileError, match="trees"):
        DensityRatio(**{key: np.array(part) for key, part in bad.items()}, **more).check(
            fitted.grammar_
        )
