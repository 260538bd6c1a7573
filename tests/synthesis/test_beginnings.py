"""Trees of the words about the whole history."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.tree import DecisionTreeRegressor

from tawt_sklearn.synthesis.beginnings import LEAF, MOST_LEAF, OTHERS, Beginnings, Said, applied
from tawt_sklearn.synthesis.symbols import LEVEL, NOTHING, NUMBER

FIRST = np.array([100, 102, 104, 107, 117, 127])
"""A label, a number that may be missing, three names, and two counts."""

KIND = np.array([LEVEL] * 2 + [NOTHING, NUMBER] + [LEVEL] * 23)
COUNTS = norm.ppf((np.arange(10) + 0.5) / 10)
SCORE = np.concatenate([np.full(7, np.nan), COUNTS, COUNTS])


def words(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The label is rare and makes counts greater; both counts are the same; a number is older
    with the label; names follow from whether there is a number.
    """
    rng = np.random.default_rng(seed)
    label = (rng.random(n) < 0.15).astype(int)
    there = rng.random(n) < 0.8
    number = rng.normal(label * 1.0, 1.0)
    name = np.where(there, 1 + (rng.random(n) < 0.5), 0)
    count = np.clip(rng.integers(0, 7, n) + 3 * label, 0, 9)
    symbol = np.stack([label, there, name, count, count], 1) + FIRST[:-1]
    score = np.zeros((n, 5))
    score[:, 1] = np.where(there, number, 0.0)
    score[:, 3] = score[:, 4] = COUNTS[count]
    return symbol, score


def learned(n: int = 3000, **how) -> Beginnings:
    how = {"has_label": True, "min_rows": 5, "random": np.random.RandomState(0), **how}
    return Beginnings.fit(*words(n), FIRST, KIND, SCORE, **how)


def drawn(trees: Beginnings, n: int, label: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    random, said = np.random.RandomState(1), trees.nothing_said(n)
    for k in range(5):
        symbol, score = trees.draw(k, said, random)
        if k == 0 and label is not None:
            symbol[:] = FIRST[0] + label
        trees.say(said, k, symbol, score)
    return said.symbol, said.score


def said_of(trees: Beginnings, symbol: np.ndarray, score: np.ndarray) -> Said:
    said = trees.nothing_said(len(symbol))
    for k in range(5):
        trees.say(said, k, symbol[:, k], score[:, k])
    return said


def test_leaves_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(500, 4)).astype(np.float32), rng.normal(size=500)
    model = DecisionTreeRegressor(min_samples_leaf=7).fit(X, y)
    tree = model.tree_
    told = tree.children_left, tree.children_right, tree.feature, tree.threshold
    np.testing.assert_array_equal(applied(told, X), model.apply(X))


def test_words_are_as_frequent_as_in_the_data():
    symbol, score = words(3000)
    new, number = drawn(learned(), 20_000)
    for k in range(5):
        own = np.arange(*FIRST[k : k + 2])
        shares = [(some[:, k, None] == own).mean(0) for some in (symbol, new)]
        np.testing.assert_allclose(*shares, atol=0.02)
    there = new[:, 1] == FIRST[1] + 1
    real = score[symbol[:, 1] == FIRST[1] + 1, 1]
    assert number[there, 1].mean() == pytest.approx(real.mean(), abs=0.05)
    assert number[there, 1].std() == pytest.approx(real.std(), abs=0.05)
    assert (number[~there, 1] == 0).all()


def test_what_is_equal_stays_equal():
    symbol, _ = drawn(learned(), 5000)
    assert (symbol[:, 3] - FIRST[3] == symbol[:, 4] - FIRST[4]).mean() > 0.97


def test_names_follow_from_what_is_missing():
    symbol, _ = drawn(learned(), 5000)
    np.testing.assert_array_equal(symbol[:, 1] == FIRST[1], symbol[:, 2] == FIRST[2])


def test_words_follow_the_label():
    trees, (symbol, score) = learned(), words(3000)
    for label in (0, 1):
        new, number = drawn(trees, 5000, label)
        own = symbol[:, 0] == FIRST[0] + label
        assert new[:, 3].mean() == pytest.approx(symbol[own, 3].mean(), abs=0.3)
        there = new[:, 1] > FIRST[1]
        real = score[own & (symbol[:, 1] > FIRST[1]), 1].mean()
        assert number[there, 1].mean() == pytest.approx(real, abs=0.15)


def test_leaves_have_enough_rows():
    for n, min_rows, least in ((3000, 5, LEAF), (1000, 5, MOST_LEAF), (3000, 40, 40)):
        trees = learned(n, min_rows=min_rows)
        for k in range(5):
            leaves = trees.group[k] // trees.n_strata
            assert np.unique(leaves, return_counts=True)[1].min() >= least


@pytest.mark.parametrize("label", [0, 1])
def test_chances_are_shares_of_the_leaf(label):
    trees, (symbol, score) = learned(400), words(400)
    k, own = 3, np.flatnonzero(symbol[:, 0] == FIRST[0] + label)[:5]
    said = said_of(trees, symbol[own], score[own])
    chances = [
        np.exp(trees.log_prob(k, said, np.full(5, s), np.zeros(5)))
        for s in range(FIRST[k], FIRST[k + 1])
    ]
    np.testing.assert_allclose(np.sum(chances, axis=0), 1)
    leaf = trees.leaves(k, said)[0]
    rows = trees.group[k] // 2 == leaf
    same = rows & (trees.group[k] % 2 == label)
    s = 4
    counts = [(trees.symbol[k][some] == FIRST[k] + s).sum() for some in (rows, same)]
    every, alike = (
        (count + 0.05) / (n + 0.5)
        for count, n in zip(counts, (rows.sum(), same.sum()), strict=True)
    )
    expected = (same.sum() * alike + OTHERS * every) / (same.sum() + OTHERS)
    assert chances[s][0] == pytest.approx(expected)


def test_densities_of_numbers_integrate_to_their_chance():
    trees, (symbol, score) = learned(), words(3000)
    grid = np.linspace(-6, 6, 4001)
    for row in range(3):
        said = said_of(trees, *(np.repeat(a[row : row + 1], len(grid), 0) for a in (symbol, score)))
        there, missing = np.full(len(grid), FIRST[1] + 1), np.full(len(grid), FIRST[1])
        density = np.exp(trees.log_prob(1, said, there, grid)).sum() * 12 / 4000
        none = np.exp(trees.log_prob(1, said, missing, grid))[0]
        assert density + none == pytest.approx(1, abs=0.03)


def test_real_words_are_likelier_than_mixed_ones():
    trees, (symbol, score) = learned(), words(500, seed=1)
    random = np.random.default_rng(0)
    mixed = np.stack([random.permutation(symbol[:, k]) for k in range(5)], 1)
    level = np.stack([random.permutation(score[:, k]) for k in range(5)], 1)
    level[:, 3] = COUNTS[mixed[:, 3] - FIRST[3]]
    level[:, 4] = COUNTS[mixed[:, 4] - FIRST[4]]
    assert trees.log_probs(symbol, score).mean() > trees.log_probs(mixed, level).mean() + 2


def test_a_label_that_is_a_number_makes_no_strata():
    kind = np.array([NOTHING, NUMBER] + [LEVEL] * 25)
    trees = Beginnings.fit(
        *words(100), FIRST, kind, SCORE, has_label=True, min_rows=5,
        random=np.random.RandomState(0),
    )  # fmt: skip
    assert not trees.is_label
    assert learned(100, has_label=False).n_strata == 1


def test_one_row():
    trees = learned(1)
    symbol, _ = drawn(trees, 3)
    np.testing.assert_array_equal(symbol, np.repeat(words(1)[0], 3, 0))
