"""What is known of every code: all at once, word after word, and read off plain lists."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import fields

import numpy as np
import pytest
import torch

from tawt_sklearn.synthesis.chart import N_WAITS, Chart, Tracks
from tawt_sklearn.synthesis.data import SentenceBatch
from tawt_sklearn.synthesis.words import Words

EXACT = {"rtol": 0, "atol": 1e-9}


@pytest.fixture(scope="module")
def decoder(fitted):
    return deepcopy(fitted.net_.module_.decoder).double()


@pytest.fixture(scope="module")
def words(fitted, X, y) -> SentenceBatch:
    return fitted._data(X, y).batch(np.arange(20)).to("cpu", torch.float64).words


def counted(decoder, words) -> torch.Tensor:
    return words.code < decoder.n_codes


def assert_same(one: Chart, other: Chart) -> None:
    for name, a, b in zip(Chart._fields, one, other, strict=True):
        torch.testing.assert_close(a, b, **EXACT, msg=lambda text, name=name: f"{name}: {text}")


def test_the_chart_before_each_word_is_that_of_a_loop(decoder, words, fitted):
    """Written out for one row, with Python's own means."""
    grammar, tracks = fitted.grammar_, decoder.tracks
    assert tracks.codes.tolist() == list(range(grammar.n_codes))  # all of the few there are
    assert tracks.n_levels > 0
    charts = decoder.chart(words)
    events, row = [], 0
    for place in range(int(words.filled[row].sum())):
        here = charts.at(torch.tensor(row), torch.tensor(place))
        for code in range(grammar.n_codes):
            of_code = [event for event in events if event["code"] == code]
            numbers = [event["score"] for event in of_code if event["numeric"]]
            steps = np.abs(np.diff(numbers)).sum()
            assert here.n_events[code] == len(of_code)
            assert here.number[code] == len(numbers)
            times = [event["since"] for event in of_code]
            assert here.since[code] == (times[-1] if times else 0)
            interval = np.diff(times)[-1] if len(times) > 1 else 0
            assert float(here.interval[code]) == pytest.approx(interval, abs=1e-5)
            assert here.score[code] == (numbers[-1] if numbers else 0)
            assert float(here.total[code]) == pytest.approx(sum(numbers), abs=1e-6)
            assert float(here.steps[code]) == pytest.approx(steps, abs=1e-6)
        for level, symbol in enumerate(np.flatnonzero(tracks.of_level < tracks.n_levels)):
            assert here.tally[level] == sum(event["symbol"] == symbol for event in events)
        assert here.course[0] == len(events)
        assert here.course[1] == sum(event["gap"] > 0 for event in events)
        if words.code[row, place] < grammar.n_codes:
            event = {name: getattr(words, name)[row, place].item() for name in Words._fields}
            numeric = decoder.symbols.numeric(words.symbol[row, place])
            events.append({**event, "numeric": bool(numeric)})
    assert len(events) > 3


def test_word_after_word_gives_the_chart_of_all_at_once(decoder, words):
    tracks, numeric = decoder.tracks, decoder.symbols.numeric(words.symbol)
    expected = decoder.chart(words)
    chart = tracks.empty(len(words.code), words.score)
    for place in range(words.code.shape[1]):
        assert_same(chart, expected.at(slice(None), place))
        rows = counted(decoder, words)[:, place]
        here = chart.at(rows)
        word = Words(*(getattr(words, name)[rows, place] for name in Words._fields))
        tracks.add(here, word, numeric[rows, place])
        for part, some in zip(chart, here, strict=True):
            part[rows] = some


@pytest.mark.parametrize("place", [0, 14, 17, 20])
def test_a_chart_goes_on_where_another_has_ended(decoder, words, place):
    tracks, numeric = decoder.tracks, decoder.symbols.numeric(words.symbol)
    before = counted(decoder, words) & (torch.arange(words.code.shape[1]) < place)
    start = tracks.after(words, before, numeric)
    whole = decoder.chart(words)
    assert_same(start, whole.at(slice(None), place))
    rest = SentenceBatch(**{f.name: getattr(words, f.name)[:, place:] for f in fields(words)})
    assert_same(decoder.chart(rest, start), whole.at(slice(None), slice(place, None)))


def test_hidden_words_are_not_in_the_chart(decoder, words):
    hidden = torch.ones_like(words.filled)
    nothing = decoder.tracks.empty(len(words.code), words.score)
    for part, none in zip(decoder.chart(words, hidden=hidden), nothing, strict=True):
        torch.testing.assert_close(part, none.unsqueeze(1).expand_as(part), **EXACT)


def test_an_empty_chart_says_nothing():
    tracks = Tracks([0, 2], [0, 2, 3, 7], [False, True, True, *4 * [True]], [1.0], 10.0)
    chart = tracks.empty(3, torch.zeros(1))
    facts = tracks.facts(chart, torch.tensor([0.0, 1.5, 200.0]))
    assert facts.shape == (3, tracks.width)
    assert (facts == 0).all()
    assert (tracks.together(chart, torch.zeros(3)) == 0).all()
    assert tracks.level_code.tolist() == [0, 1, 1, 1, 1]  # that of code 1 has no line


def test_what_comes_at_regular_times_is_due():
    tracks = Tracks([0], [0, 1], [False], [], 10.0)
    chart = tracks.empty(1, torch.zeros(1))._replace(
        n_events=torch.tensor([[3.0]]), since=torch.tensor([[4.0]]), interval=torch.tensor([[2.0]])
    )
    due = [tracks.facts(chart, torch.tensor([now]))[0, 4].item() for now in (4.0, 5.0, 6.0, 6.1)]
    np.testing.assert_allclose(due, [0, 0, 1, np.exp(-0.5 * (0.05 / 0.15) ** 2)], atol=0.01)


def test_times_that_keep_to_a_clock():
    """Words at a quarter past every hour: where the next quarter past is, from any time on."""
    tracks = Tracks([0], [0, 1], [False], [1.0], 10.0)
    chart = tracks.empty(1, torch.zeros(1))
    none, zero = torch.zeros(1), torch.zeros(1, dtype=torch.int64)
    for hour in range(5):
        others = dict.fromkeys(Words._fields, none)
        since = torch.tensor([hour + 0.25])
        word = Words(**others | {"code": zero, "gap": zero + 1, "symbol": zero, "since": since})
        tracks.add(chart, word, torch.tensor([False]))
    for passed in (0.0, 0.2, 0.7):
        told = tracks.pace(chart, torch.tensor([7.25 + passed]))[0, N_WAITS:]
        angle = 2 * np.pi * passed
        expected = [np.cos(angle), -np.sin(angle), 1.0]
        np.testing.assert_allclose(told, expected, atol=1e-5)


def test_codes_without_a_line_have_no_numbers_of_their_own():
    tracks = Tracks([1], [0, 1, 2, 3], 3 * [False], [], 10.0)
    some = torch.tensor([[5.0], [6.0], [7.0]])
    assert tracks.of_own(some, torch.tensor([0, 1, 2])).tolist() == [0.0, 6.0, 0.0]
