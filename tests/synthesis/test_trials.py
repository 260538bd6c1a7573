"""Histories that are written at the end of fit, and what is made of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from tawt_sklearn.events import nest_events
from tawt_sklearn.exceptions import TrainingWarning
from tawt_sklearn.synthesis import SequenceSynthesizer, trials
from tawt_sklearn.synthesis.sampling import STEERING, Writer
from tawt_sklearn.synthesis.summaries import N_OF_COURSE, courses
from tawt_sklearn.synthesis.trials import SHARPNESSES, told_apart

from .subjects import QUICK, simple


def sentences(X, fitted: SequenceSynthesizer):
    return fitted.grammar_.read(*fitted.form_.parts(X), None)


@pytest.fixture(scope="module")
def fitted() -> SequenceSynthesizer:
    return SequenceSynthesizer(**QUICK).fit(simple(60, codes=("a", "b"), most=5))


def test_courses_are_what_happens_when(fitted):
    events = pd.DataFrame(
        {
            "subject_id": [0, 0, 0, 0, 1],
            "time": [0.0, 0.0, 1.0, 5.0, 3.0],
            "code": ["a", "b", "a", "a", "b"],
            "value": np.ones(5),
        }
    )
    told = courses(sentences(nest_events(events), fitted), fitted.grammar_)
    codes = fitted.form_.codes[fitted.grammar_.kept][fitted.grammar_.charted]
    a = N_OF_COURSE + list(codes).index("a")
    b = N_OF_COURSE + list(codes).index("b")
    np.testing.assert_array_equal(told[:, [0, 1, a, b]], [[4, 2, 3, 1], [1, 0, 0, 1]])
    np.testing.assert_allclose(told[0, 2:6], [5, *[np.log(4) / 2] * 2, np.log(4)], rtol=1e-6)
    np.testing.assert_array_equal(told[1, 2:6], 0)


def test_histories_that_are_alike_are_not_told_apart(fitted):
    first, second = (
        sentences(simple(400, codes=("a", "b"), most=5, seed=seed), fitted) for seed in (1, 2)
    )
    longer = sentences(simple(400, codes=("a", "b"), most=9, seed=3), fitted)
    assert told_apart(first, second, np.ones(400), fitted.grammar_) < 0.55
    apart = told_apart(first, longer, np.ones(400), fitted.grammar_)
    assert apart > 0.65
    # What counts little is hardly looked at.
    halves = (simple(200, codes=("a", "b"), most=most, seed=4) for most in (5, 9))
    both = sentences(pd.concat(halves, ignore_index=True), fitted)
    weight = np.repeat([2.0, 1e-6], 200)
    assert told_apart(first, both, weight, fitted.grammar_) < 0.55


@pytest.mark.parametrize("better", SHARPNESSES)
def test_the_sharpness_that_is_told_apart_less_is_kept(monkeypatch, better):
    seen = []

    def apart(data, written, weight, grammar):
        assert len(data) == len(written) == len(weight) == 120
        assert weight.mean() == pytest.approx(1)
        assert weight[1] == pytest.approx(2 * 0.25)  # of the rarer label
        seen.append(SHARPNESSES[len(seen)])
        return 0.5 if seen[-1] == better else 0.6

    monkeypatch.setattr(trials, "told_apart", apart)
    X = simple(120)
    model = SequenceSynthesizer(**QUICK).fit(X, (np.arange(120) % 4 == 0).astype(int))
    assert seen == list(SHARPNESSES)
    assert model.sharpness_ == better
    assert (model.labels_.shift != 0).any() and (model.labels_.tilt != 0).any()


def test_few_are_written_as_likely_as_they_are(fitted):
    assert fitted.sharpness_ == 1.0


def test_codes_of_which_more_is_left_are_preferred(fitted):
    decoder = fitted.net_.module_.decoder
    writer = Writer(decoder, fitted.grammar_, fitted.beginnings_, torch.Generator(), 1.2)
    like = torch.zeros(1)
    chart = decoder.tracks.empty(2, like)
    chart.n_events[1] = torch.tensor([4.0, 0.0])

    class Rows:
        plan = type("Plan", (), {"n_events": torch.tensor([[4.0, 4.0], [4.0, 4.0]])})
        total = torch.tensor([8, 8])

    Rows.chart = chart
    told = writer._steer(Rows, 4)[:, decoder.tracks.codes]
    expected = STEERING * 0.2 * np.log([[4.5 / 2.5, 4.5 / 2.5], [0.5 / 2.5, 4.5 / 2.5]])
    np.testing.assert_allclose(told, expected, rtol=1e-5)
    assert (writer._steer(Rows, 0)[0] == 0).all()
    writer.sharpness = 1.0
    assert (writer._steer(Rows, 4) == 0).all()


def test_what_was_trained_is_kept_when_trials_are_interrupted(monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(trials, "told_apart", interrupt)
    X, y = simple(100), np.arange(100) % 2
    with pytest.warns(TrainingWarning, match="trials") as caught:
        model = SequenceSynthesizer(**QUICK).fit(X, y)
    assert model.sharpness_ == 1.0
    assert model.ratio_.n_trees == 0
    assert caught[0].filename == __file__
    assert len(model.sample(3, y=1, random_state=0)[1]) == 3


@pytest.mark.parametrize("n", [30, 105])
@pytest.mark.parametrize("labelled", [False, True])
def test_lists_of_panels_are_tried_out_like_histories(n, labelled):
    rng = np.random.RandomState(0)
    panels = [rng.standard_normal((2, 4)) for _ in range(n)]
    model = SequenceSynthesizer(**QUICK).fit(panels, np.arange(n) % 2 if labelled else None)
    drawn = model.sample(3, random_state=0)
    assert len(drawn[0] if labelled else drawn) == 3


def test_names_of_columns_are_no_matter_of_trials():
    X = pd.DataFrame(np.random.RandomState(0).standard_normal((30, 5)), columns=list("abcde"))
    model = SequenceSynthesizer(**QUICK).fit(X, np.arange(30) % 2)  # warnings are errors
    assert model.sample(4, y=1, random_state=0)[0].shape == (4, 5)
