"""What follows from the words about the whole history."""

from __future__ import annotations

from itertools import pairwise

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
    first, last = fitted.grammar_.offsets[fitted.grammar_.n_codes + 1 + k :][:2]
    own = table[:, stated.column[first:last]]
    expected = symbol[:, k, None] == torch.arange(first, last)
    torch.testing.assert_close(own, expected.to(own))


def test_weights_are_ridge_regressions(fitted, data, stated):
    grammar = fitted.grammar_
    stated.load_state_dict(regressed(stated, data, grammar.charted))
    symbol, score = data.beginnings(stated.n_words)
    known = stated.columns(symbol, score)
    np.testing.assert_allclose(known.mean(0), 0, atol=1e-6)
    codes = [str(fitted.form_.codes[grammar.kept[code]]) for code in grammar.charted]
    track = codes.index("hr")
    words, first, rows = data.sentences, [], []
    for row, (begin, end) in enumerate(pairwise(words.offsets)):
        own = [
            k
            for k in range(begin, end)
            if words.code[k] == grammar.charted[track] and words.high[k] >= 0
        ]
        if own:
            first.append(float(data.held["score"][own[0]]))
            rows.append(row)
    model = RidgeCV(PENALTIES).fit(known[rows].double().numpy(), np.array(first))
    np.testing.assert_allclose(stated.weight[2 * track], model.coef_, atol=1e-5)
    hints = stated(symbol, score)
    assert hints.shape == (len(symbol), 2 * len(codes) + 1)
    np.testing.assert_allclose(hints[:, 2 * track], known.numpy() @ model.coef_, atol=1e-5)
    assert (hints[:, -1] == 0).all()
    assert not stated.weight.requires_grad


def test_places_of_first_and_later_numbers(stated):
    C = stated.n_tracks
    track, has = torch.tensor([1, 1, C]), torch.tensor([False, True, True])
    assert stated.place(track, has).tolist() == [2, 3, 2 * C]


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
