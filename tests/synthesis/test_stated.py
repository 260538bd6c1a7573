"""What follows from the words about the whole history."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import RidgeCV

from tawt_sklearn.synthesis import SequenceSynthesizer
from tawt_sklearn.synthesis.data import SynthesisDataset
from tawt_sklearn.synthesis.stated import PENALTIES, Stated, of_later, regressed

from .subjects import QUICK, frame_of


@pytest.fixture
def data(fitted, X, y) -> SynthesisDataset:
    return fitted._data(X, y)


@pytest.fixture
def stated(fitted) -> Stated:
    """Without any weights yet."""
    sizes = fitted.grammar_.sizes()
    P, kinds, scores = sizes["n_prefix"], sizes["kinds"], sizes["level_scores"]
    return Stated(kinds, scores, sizes["offsets"][-P - 1 :], len(sizes["charted"]))


def test_columns_are_scores_and_symbols_without_one(fitted, data, stated):
    place = data.sentences.offsets[:-1, np.newaxis] + np.arange(stated.n_words)
    symbol = torch.from_numpy(data.sentences.symbol[place])
    score = data.held["score"][torch.from_numpy(place)]
    table = stated.columns(symbol, score)
    torch.testing.assert_close(table[:, : stated.n_words], score)
    k = fitted.grammar_.prefix.index(("label", 0))
    own = table[:, stated.n_words :][:, stated.word[stated.n_words :] == k]
    first, last = fitted.grammar_.offsets[fitted.grammar_.n_codes + 1 + k :][:2]
    expected = symbol[:, k, None] == torch.arange(first, last)
    torch.testing.assert_close(own, expected.to(own))


def test_first_weights_are_ridge_regressions(fitted, data, stated):
    grammar, P = fitted.grammar_, stated.n_words
    told = regressed(stated, data, grammar.charted)
    stated.load_state_dict(told)
    begin = data.sentences.offsets[:-1]
    place = torch.from_numpy(begin[:, np.newaxis] + np.arange(P))
    symbol, score = data.held["symbol"][place], data.held["score"][place]
    known = stated.columns(symbol, score)
    np.testing.assert_allclose(known.mean(0).detach(), 0, atol=1e-6)
    k = P - 2
    before = (stated.word < k).numpy()
    model = RidgeCV(PENALTIES).fit(known[:, before].double().numpy(), score[:, k].double().numpy())
    np.testing.assert_allclose(told["weight"][k, before], model.coef_, atol=1e-5)
    assert (told["weight"][k, ~before] == 0).all()
    hints = stated(symbol, score)
    assert hints.shape == (len(begin), P + 2 * len(grammar.charted) + 1)
    np.testing.assert_allclose(
        hints[:, k].detach(), known[:, before].numpy() @ model.coef_, atol=1e-5
    )
    assert (hints[:, -1] == 0).all()
    # What is yet to be said changes nothing.
    score = score.clone()
    score[:, k:] += 1
    torch.testing.assert_close(stated(symbol, score)[:, : k + 1], hints[:, : k + 1])


def test_places_of_first_and_later_numbers(stated):
    P, C = stated.n_words, (len(stated.weight) - stated.n_words) // 2
    word = torch.tensor([3, -5, -5, -5])
    track, has = torch.tensor([C, 1, 1, C]), torch.tensor([False, False, True, True])
    assert stated.place(word, track, has).tolist() == [3, P + 2, P + 3, P + 2 * C]


def test_later_numbers_follow_the_last_one_and_what_is_stated():
    rng = np.random.RandomState(0)
    known = rng.standard_normal((400, 3))
    pull = known @ [0.5, 0.0, -0.3]
    last = np.zeros(400)
    rows, numbers, lasts = [], [], []
    for _ in range(10):
        new = 0.6 * last + pull + 0.3 * rng.standard_normal(400)
        rows.append(np.arange(400))
        numbers.append(new)
        lasts.append(last)
        last = new
    weight = of_later(known, *map(np.concatenate, (rows, numbers, lasts)))
    np.testing.assert_allclose(weight, [0.5, 0, -0.3], atol=0.1)


def test_numbers_follow_a_label_after_a_few_steps():
    """Numbers of those with the label are greater by four spreads; later ones too."""
    y = np.arange(200) % 2
    shift = iter(np.repeat(y, 12))
    rng = np.random.default_rng(0)
    subjects = [
        [(float(time), "a", round(4 * next(shift) + rng.normal(), 3)) for time in range(12)]
        for _ in y
    ]
    synthesizer = SequenceSynthesizer(**QUICK).fit(frame_of(*subjects), y)
    means = []
    for label in (0, 1):
        drawn, _ = synthesizer.sample(100, y=label, random_state=0)
        of = [history.value for history in drawn["events"]]
        means.append((np.mean([v[0] for v in of]), np.mean([v[-1] for v in of])))
    first, last = np.subtract(means[1], means[0])
    assert first > 1.5
    assert last > 1.5
