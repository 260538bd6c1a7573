"""Labels that are drawn from what a history says of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tawt_sklearn.synthesis import SequenceSynthesizer
from tawt_sklearn.synthesis.labels import MOST_CLASSES, LabelModel
from tawt_sklearn.synthesis.resampling import resampled

from .subjects import QUICK, simple


@pytest.mark.parametrize("levels", [[0, 1], [2, 5, 7]])
def test_labels_are_as_frequent_as_they_are_likely(levels):
    rng = np.random.RandomState(0)
    z = rng.standard_normal((20_000, 4)) * [1, 5, 0.1, 1]
    chances = np.exp(np.outer(z[:, 0], np.arange(len(levels))))
    chances /= chances.sum(1, keepdims=True)
    which = (chances.cumsum(1) < rng.random_sample((20_000, 1))).sum(1)
    model = LabelModel.fit(z, np.array(levels)[which], np.arange(4))
    np.testing.assert_allclose(model.chances(z), chances, atol=0.05)
    some = z[:100]
    drawn = np.mean([model.draw(some, rng) == levels[-1] for _ in range(1000)], axis=0)
    np.testing.assert_allclose(drawn, model.chances(some)[:, -1], atol=0.07)
    assert set(model.draw(z, rng)) == set(levels)


def test_what_is_no_class_has_no_model():
    z = np.random.default_rng(0).normal(size=(40, 3))
    all_columns = np.arange(3)
    assert LabelModel.fit(z, np.zeros(40, np.int64), all_columns) is None
    assert LabelModel.fit(z, np.arange(40) % (MOST_CLASSES + 1), all_columns) is None
    assert LabelModel.fit(z[:4], np.array([0, 1, 2, 0]), all_columns) is None


@pytest.mark.parametrize("n_levels", [2, 3])
def test_products_that_matter_are_found(n_levels):
    """The label is about where two columns agree, and nothing else."""
    rng = np.random.RandomState(0)
    table = rng.standard_normal((1000, 30)) * 3 + 1
    agree = (table[:, 4] - 1) * (table[:, 17] - 1) / 9
    level = np.digitize(agree + rng.standard_normal(1000), [-0.5, 0.5][: n_levels - 1])
    model = LabelModel.fit(table, level, np.arange(1, 30))
    assert [4, 17] in model.pairs.T.tolist()
    assert np.corrcoef(model.chances(table)[:, -1], agree)[0, 1] > 0.8
    none = LabelModel.fit(table, rng.permutation(level), np.arange(1, 30))
    assert none.pairs.shape == (2, 0)
    assert np.abs(none.chances(table) - np.bincount(level) / 1000).max() < 0.1
    alone = LabelModel.fit(table, level, np.array([4]))
    assert alone.pairs.shape == (2, 0)


def test_levels_of_one_subject():
    z = np.random.default_rng(0).normal(size=(40, 3))
    model = LabelModel.fit(z, (np.arange(40) == 3).astype(np.int64), np.arange(3))
    np.testing.assert_allclose(model.chances(z).mean(0), [0.975, 0.025], atol=0.01)


def test_labels_follow_what_was_written():
    """The label is whether a subject has code b; too few steps to learn that from the label."""
    X = simple(80, codes=("a", "b"), most=4)
    has_b = np.array(["b" in set(history.code) for history in X["events"]])
    y = np.where(has_b, "with", "without")
    synthesizer = SequenceSynthesizer(**{**QUICK, "max_epochs": 20, "learning_rate": 1e-2})
    drawn, labels = synthesizer.fit(X, y).sample(300, random_state=0)
    assert set(labels) == {"with", "without"}
    found = np.array(["b" in set(history.code) for history in drawn["events"]])
    assert ((labels == "with") == found).mean() > 0.7


def test_labels_that_are_asked_for_are_not_drawn_again():
    X = simple(40)
    synthesizer = SequenceSynthesizer(**QUICK).fit(X, np.arange(40) % 2)
    assert synthesizer.labels_ is not None
    assert set(synthesizer.sample(30, y=1)[1]) == {1}


@pytest.mark.parametrize("y", [np.linspace(0, 1, 40), np.ones((40, 2), int), np.ones(40, int)])
def test_labels_without_a_model(y):
    synthesizer = SequenceSynthesizer(**QUICK).fit(simple(40), y)
    assert synthesizer.labels_ is None
    assert synthesizer.sample(5)[1].shape == (5, *y.shape[1:])


@pytest.mark.parametrize("levels", [[0, 1], [2, 5, 7]])
def test_labels_of_what_is_written_are_as_frequent_as_in_the_data(levels):
    rng = np.random.RandomState(0)
    L, n = len(levels), 6000
    z = rng.standard_normal((n, 2))
    which = np.digitize(z[:, 0] + rng.standard_normal(n), [0.8, 1.5][: L - 1])
    model = LabelModel.fit(z, np.array(levels)[which], np.arange(2))
    place = np.arange(n) % L
    table = rng.standard_normal((n, 2))
    table[:, 0] = 0.7 * table[:, 0] + 0.5 * place - 0.4
    calibrated = model.calibrated(table, np.array(levels)[place], np.ones(n))
    shares = [calibrated.chances(table[place == k]).mean(0) for k in range(L)]
    np.testing.assert_allclose(model.often @ np.array(shares), model.often, atol=1e-3)


def test_histories_that_are_kept_less_often_count_less():
    """As if each had been written as often as it is kept."""
    rng = np.random.RandomState(0)
    z, y = rng.standard_normal((500, 2)), np.arange(500) % 2
    model = LabelModel.fit(z + y[:, np.newaxis], y, np.arange(2))
    said, often = np.arange(400) % 2, rng.randint(1, 4, 400)
    weighted = model.calibrated(z[:400], said, often)
    table, levels = np.repeat(z[:400], often, axis=0), np.repeat(said, often)
    repeated = model.calibrated(table, levels, np.ones(len(levels)))
    np.testing.assert_allclose(weighted.shift, repeated.shift, atol=1e-9)


def candidates(rng, label: np.ndarray, follow: float) -> np.ndarray:
    """(n, 2) of which the first column goes along with the label, with spread 1."""
    z = rng.standard_normal((len(label), 2))
    z[:, 0] += follow * 2 * label
    return z


@pytest.mark.parametrize("share", [0.5, 0.1, 0.03])
@pytest.mark.parametrize("follow", [1.0, 0.5])
def test_histories_that_are_chosen_are_like_those_of_their_label(share, follow):
    """Nothing changes where all follow their labels as in the data; else what lacks shrinks."""
    rng = np.random.RandomState(0)
    y = (rng.random_sample(8000) < share).astype(int)
    model = LabelModel.fit(candidates(rng, y, 1.0), y, np.arange(2))
    said = np.arange(1000) % 2
    model = model.calibrated(candidates(rng, said, follow), said, np.ones(1000))
    for label in (0, 1):
        owner = np.repeat(np.arange(3000), 4)
        written = candidates(rng, np.full(len(owner), label), follow)
        rows = resampled(model.log_ratio(written, np.full(len(owner), label)), owner, rng)
        assert (owner[rows] == np.arange(3000)).all()
        off = 2 * label * (1 - follow)
        found = written[rows].mean(0) - [2 * label, 0]
        assert abs(found[1]) < 0.06
        if off == 0:
            assert abs(found[0]) < 0.12
            assert abs(written[rows, 0].std() - 1) < 0.1
        else:
            assert -0.5 * off < found[0] < 0.1


def test_a_level_that_nobody_was_written_for():
    z = np.random.default_rng(0).normal(size=(40, 3))
    model = LabelModel.fit(z, np.arange(40) % 3, np.arange(3))
    assert model.calibrated(z, np.arange(40) % 2, np.ones(40)) is model


def test_one_label_asked_for_each():
    """Some rows are asked for and others are not; static columns stay with their rows."""
    X = simple(60)
    X["age"] = np.arange(60.0)
    synthesizer = SequenceSynthesizer(**QUICK).fit(X, np.where(np.arange(60) % 2, "a", "b"))
    y = np.array(["a", None, "b", "b", None], object)
    static = pd.DataFrame({"age": [3.0, 50.0, 1.0, 20.0, 7.0]}, index=[7, 7, 1, 0, 2])
    drawn, labels = synthesizer.sample(y=y, static=static, random_state=0)
    assert labels[[0, 2, 3]].tolist() == ["a", "b", "b"]
    assert set(labels) <= {"a", "b"}
    assert drawn["age"].tolist() == [3.0, 50.0, 1.0, 20.0, 7.0]
    assert drawn.index.tolist() == [0, 1, 2, 3, 4]
    again, _ = synthesizer.sample(y=y, static=static, random_state=0)
    pd.testing.assert_frame_equal(again, drawn)
