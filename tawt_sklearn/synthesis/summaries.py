"""Histories as rows of a table, for models that read them whole."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tawt_sklearn.synthesis.grammar import Grammar
from tawt_sklearn.synthesis.marginals import middle_scores
from tawt_sklearn.synthesis.sentences import Sentences
from tawt_sklearn.synthesis.symbols import LEVEL

N_OF_CODE = 8
"""Columns of each code."""

N_OF_COURSE = 6
"""Columns of the course as a whole."""


def summaries(sentences: Sentences, grammar: Grammar) -> NDArray[np.float64]:
    """(n, S) what happened in each history, and its static columns; labels are left out.

    Of each code in the chart whether it came, the logarithm of how often, and mean, spread, least,
    greatest, first and last of the normal scores of its numbers, 0 for none; the share of each
    level among its events; the number and an indicator of each level of static columns.
    """
    offsets, n, C = sentences.offsets, len(sentences), len(grammar.charted)
    row = np.repeat(np.arange(n), np.diff(offsets))
    track = grammar.tracks()[sentences.code]
    known = sentences.high >= 0
    score = np.where(known, middle_scores(sentences.low, sentences.high), 0.0)
    own = track < C
    cell = row * C + track
    count = np.bincount(cell[own], minlength=n * C)
    numeric = np.flatnonzero(own & known)
    at, number = cell[numeric], score[numeric]
    many = np.bincount(at, minlength=n * C)
    mean = np.bincount(at, number, n * C) / many.clip(min=1)
    square = np.bincount(at, number**2, n * C) / many.clip(min=1)
    spread = np.sqrt((square - mean**2).clip(min=0))
    least, most = np.full(n * C, np.inf), np.full(n * C, -np.inf)
    np.minimum.at(least, at, number)
    np.maximum.at(most, at, number)
    first, last = np.zeros((2, n * C))
    first[at[::-1]] = number[::-1]  # the one that is written last stays
    last[at] = number
    extremes = [np.where(many > 0, part, 0.0) for part in (least, most)]
    parts = [count > 0, np.log1p(count), mean, spread, *extremes, first, last]
    table = [np.stack(parts, axis=-1, dtype=np.float64).reshape(n, C * N_OF_CODE)]
    owner, levels = plain_levels(grammar)
    of_level = np.searchsorted(grammar.charted, owner)
    times = counted(sentences.symbol, row, levels, n, len(grammar.kind))
    table.append(times / count.reshape(n, C)[:, of_level].clip(min=1))
    for k, name in enumerate(grammar.prefix):
        if isinstance(name, tuple) and name[0] == "static":
            place = offsets[:-1] + k
            word = grammar.n_codes + 1 + k
            symbols = np.arange(*grammar.offsets[word : word + 2])
            if len(symbols) > 1:
                table.append((sentences.symbol[place, np.newaxis] == symbols).astype(np.float64))
            table.append(score[place, np.newaxis])
    return np.concatenate(table, axis=1)


def courses(sentences: Sentences, grammar: Grammar) -> NDArray[np.float64]:
    """(n, N_OF_COURSE + C) what happens when in each history: how many events and moments there are
    in what time, mean, spread and greatest of the logarithms of the gaps between these, and how
    often each code in the chart comes.
    """
    offsets, n, C = sentences.offsets, len(sentences), len(grammar.charted)
    row = np.repeat(np.arange(n), np.diff(offsets))
    event = sentences.code < grammar.n_codes
    row, since, code = row[event], sentences.since[event], sentences.code[event]
    first = np.append(True, row[1:] != row[:-1])
    gap = np.append(0.0, np.diff(since.astype(np.float64)))
    later = ~first & (gap > 0)
    size = np.log(gap[later])
    n_gaps = np.bincount(row[later], minlength=n)
    mean = np.bincount(row[later], size, n) / n_gaps.clip(min=1)
    square = np.bincount(row[later], size**2, n) / n_gaps.clip(min=1)
    spread = np.sqrt((square - mean**2).clip(min=0))
    longest = np.full(n, -np.inf)
    np.maximum.at(longest, row[later], size)
    longest = np.where(n_gaps, longest, 0.0)
    track = grammar.tracks()[code]
    own = track < C
    count = np.bincount(row[own] * C + track[own], minlength=n * C).reshape(n, C)
    n_events, span = np.bincount(row, minlength=n), np.bincount(row[later], gap[later], n)
    table = [n_events, n_gaps, span, mean, spread, longest, count]
    return np.column_stack(table).astype(np.float64)


def steps(sentences: Sentences, grammar: Grammar) -> NDArray[np.float64]:
    """(n, C) how far the normal score of each code in the chart moves from one of its numbers to
    the next, on average; 0 for fewer than two.
    """
    offsets, n, C = sentences.offsets, len(sentences), len(grammar.charted)
    row = np.repeat(np.arange(n), np.diff(offsets))
    track = grammar.tracks()[sentences.code]
    numeric = np.flatnonzero((track < C) & (sentences.high >= 0))
    cell = row[numeric] * C + track[numeric]
    score = middle_scores(sentences.low[numeric], sentences.high[numeric])
    order = np.argsort(cell, kind="stable")
    cell, score = cell[order], score[order]
    same = cell[1:] == cell[:-1]
    at, far = cell[1:][same], np.abs(np.diff(score))[same]
    n_steps = np.bincount(at, minlength=n * C)
    return (np.bincount(at, far, n * C) / n_steps.clip(min=1)).reshape(n, C)


def multiplied(grammar: Grammar) -> NDArray[np.int64]:
    """Columns of :func:`summaries` whose products may matter: of codes, presence and mean."""
    of_code = np.arange(len(grammar.charted))[:, np.newaxis] * N_OF_CODE
    return np.concatenate([of_code, of_code + 2], axis=1).ravel()


def width(grammar: Grammar) -> int:
    """Number of columns of :func:`summaries`."""
    _, levels = plain_levels(grammar)
    n = N_OF_CODE * len(grammar.charted) + len(levels)
    for k, name in enumerate(grammar.prefix):
        if isinstance(name, tuple) and name[0] == "static":
            first, last = grammar.offsets[grammar.n_codes + 1 + k :][:2]
            n += 1 + (int(last - first) if last - first > 1 else 0)
    return n


def plain_levels(grammar: Grammar) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Symbols that are levels in no order of codes in the chart, and the code of each."""
    plain = (grammar.kind == LEVEL) & np.isnan(grammar.level_score)
    owner = np.repeat(np.arange(grammar.n_words), np.diff(grammar.offsets))
    levels = np.flatnonzero(plain & np.isin(owner, grammar.charted))
    return owner[levels], levels


def counted(
    symbol: NDArray[np.int64], row: NDArray[np.int64], levels: NDArray[np.int64], n: int, S: int
) -> NDArray[np.float64]:
    """(n, L) how often each of some symbols comes in each row."""
    L = len(levels)
    place = np.full(S, L)
    place[levels] = np.arange(L)
    at = place[symbol]
    return np.bincount((row * L + at)[at < L], minlength=n * L).reshape(n, L).astype(np.float64)
