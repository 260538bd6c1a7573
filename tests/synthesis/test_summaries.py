"""Histories as rows of a table, against a loop over rows and codes."""

from __future__ import annotations

import numpy as np
import pytest

from tawt_sklearn.synthesis.grammar import Grammar
from tawt_sklearn.synthesis.marginals import middle_scores
from tawt_sklearn.synthesis.summaries import N_OF_CODE, multiplied, steps, summaries, width
from tawt_sklearn.synthesis.symbols import LEVEL, NUMBER


@pytest.fixture
def sentences(fitted, X, y):
    form = fitted.form_
    return fitted.grammar_.read(*form.parts(X), form.labels(y, len(X)))


def slow(sentences, grammar: Grammar, row: int) -> list[float]:
    """Of one row."""
    words = range(*sentences.offsets[row : row + 2])
    scores = np.where(sentences.high >= 0, middle_scores(sentences.low, sentences.high), 0.0)
    found, shares = [], []
    for code in grammar.charted:
        own = [k for k in words if sentences.code[k] == code]
        numbers = [scores[k] for k in own if sentences.high[k] >= 0]
        found += [float(bool(own)), np.log(1 + len(own))]
        if numbers:
            found += [np.mean(numbers), np.std(numbers), min(numbers), max(numbers)]
            found += [numbers[0], numbers[-1]]
        else:
            found += [0.0] * 6
        for symbol in range(*grammar.offsets[code : code + 2]):
            if grammar.kind[symbol] == LEVEL and np.isnan(grammar.level_score[symbol]):
                times = sum(sentences.symbol[k] == symbol for k in own)
                shares.append(times / max(len(own), 1))
    found += shares
    for k, name in enumerate(grammar.prefix):
        if isinstance(name, tuple) and name[0] == "static":
            at = words[k]
            symbols = range(*grammar.offsets[grammar.n_codes + 1 + k :][:2])
            if len(symbols) > 1:
                found += [float(sentences.symbol[at] == symbol) for symbol in symbols]
            found.append(scores[at])
    return found


def test_summaries_are_those_of_a_loop(fitted, sentences):
    grammar = fitted.grammar_
    table = summaries(sentences, grammar)
    assert table.shape == (len(sentences.offsets) - 1, width(grammar))
    expected = np.array([slow(sentences, grammar, row) for row in range(len(table))])
    np.testing.assert_allclose(table, expected, atol=1e-6)
    assert (table[:, : N_OF_CODE * len(grammar.charted)].std(0) > 0).any()


def test_steps_are_those_of_a_loop(fitted, sentences):
    grammar = fitted.grammar_
    scores = middle_scores(sentences.low, sentences.high)
    expected = np.zeros((len(sentences), len(grammar.charted)))
    for row in range(len(sentences)):
        words = range(*sentences.offsets[row : row + 2])
        for k, code in enumerate(grammar.charted):
            own = [w for w in words if sentences.code[w] == code and sentences.high[w] >= 0]
            if len(own) > 1:
                expected[row, k] = np.abs(np.diff(scores[own])).mean()
    np.testing.assert_allclose(steps(sentences, grammar), expected, atol=1e-6)
    assert (expected > 0).any()


def test_labels_are_not_in_it(fitted, X, sentences):
    without = fitted.grammar_.read(*fitted.form_.parts(X), None)
    grammar = fitted.grammar_
    np.testing.assert_array_equal(summaries(without, grammar), summaries(sentences, grammar))


def test_presence_and_means_are_multiplied(fitted, sentences):
    table = summaries(sentences, fitted.grammar_)
    columns = multiplied(fitted.grammar_)
    C = len(fitted.grammar_.charted)
    assert columns.shape == (2 * C,)
    present, mean = table[:, columns[::2]], table[:, columns[1::2]]
    assert set(np.unique(present)) <= {0.0, 1.0}
    np.testing.assert_array_equal(mean, table[:, 2 : N_OF_CODE * C : N_OF_CODE])


def test_first_numbers_are_those_of_a_loop(fitted, sentences):
    grammar = fitted.grammar_
    symbol, score = grammar.firsts(sentences)
    first, kind, level_score = grammar.beginnings()
    assert len(first) == grammar.n_prefix + len(grammar.charted) + 1
    levels = grammar.level_symbols(symbol)
    for row in range(len(symbol)):
        words = range(*sentences.offsets[row : row + 2])
        for k, code in enumerate(grammar.charted):
            own = [w for w in words if sentences.code[w] == code and sentences.high[w] >= 0]
            place = symbol[row, k] - first[grammar.n_prefix + k]
            told = kind[symbol[row, k] - first[0]]
            if not own:
                assert (place, score[row, k]) == (0, 0.0)
                continue
            expected = middle_scores(sentences.low[own[:1]], sentences.high[own[:1]])[0]
            assert score[row, k] == pytest.approx(expected)
            assert told in (NUMBER, LEVEL)
            if told == LEVEL:
                assert levels[row, k] == sentences.symbol[own[0]]
                assert level_score[symbol[row, k] - first[0]] == pytest.approx(expected)
            else:
                assert levels[row, k] == -1
    assert (levels >= 0).any()
