"""Histories as sentences: what there is to choose, word after word, and the words of a data set.

A sentence begins with what holds for the whole subject (labels, static columns, how many events it
has, when its history starts and how long it is, how often each code comes), goes on with its events
in order of time, and ends with a word of its own, once it has as many as it said.  Every
word is a gap since the last one, a code, a symbol (nothing, a number, the last number again, one of
the levels of the code, or a text beside a number) and, where the symbol says so, a number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr

from tawt_sklearn.events.array import EventsArray
from tawt_sklearn.exceptions import DataError
from tawt_sklearn.synthesis.columns import Column
from tawt_sklearn.synthesis.gaps import SAME, GapClasses, LogGaps, resolution_of
from tawt_sklearn.synthesis.histories import (
    FIRST,
    LENGTH,
    SPAN,
    START,
    WINDOW,
    Histories,
    last_of_same,
    repeated,
)
from tawt_sklearn.synthesis.marginals import Marginal, middle_scores
from tawt_sklearn.synthesis.sentences import Sentences
from tawt_sklearn.synthesis.symbols import (
    BOTH,
    LEVEL,
    NO_SCORE,
    NOTHING,
    NUMBER,
    NUMERIC,
    REPEAT,
    SymbolTable,
)

MOST_CHARTED = 64
"""Codes of which it is stated how often they come, and told what has been written so far."""

MOST_LENGTHS, MOST_COUNTS = 64, 512
"""Classes of numbers of events, of all codes and of one."""


@dataclass(frozen=True)
class Grammar:
    """What was learned of the words.

    Attributes
    ----------
    n_codes : int
        Codes of events; the end has the next id, prefix words those after it.
    kept : (V,) int64
        Id of each code in the events column.
    repeats : (V,) bool
        Whether a code may occur more than once at a time.
    charted : (C,) int64
        The most frequent codes; how often each comes is said by a word after those of the prefix.
    prefix : list of str or tuple
        Names of the words before the events: :data:`START` and its like, ``("static", name)``,
        ``("label", name)``.
    columns : dict of Column
        By the names of the prefix words that are columns.
    gaps : GapClasses or LogGaps
    marginals : dict of Marginal
        By extended code.
    offsets : (n_words + 1,) int64
        First symbol of each extended code.
    kind : (n_symbols,) int64
    level : (n_symbols,) float64
        Number that a level of an event's code stands for, NaN where it stands for a text.
    text : (n_symbols,) int64
        Id of that text, -1 for none.
    level_score : (n_symbols,) float64
        Normal score of the number that a level stands for, NaN for none.
    least, most : (n_symbols,) int64
        From how many to how many events classes of numbers of events stand for; 0 for others.
    length_shares : (L,) float64
        Of the subjects.
    horizon : float
        Length of a typical history.
    resolution : float or None
        Times of events are multiples of it; None for no such number.
    """

    n_codes: int
    kept: NDArray[np.int64]
    repeats: NDArray[np.bool_]
    charted: NDArray[np.int64]
    prefix: list[Any]
    columns: dict[Any, Column]
    gaps: GapClasses | LogGaps
    marginals: dict[int, Marginal]
    offsets: NDArray[np.int64]
    kind: NDArray[np.int64]
    level: NDArray[np.float64]
    text: NDArray[np.int64]
    level_score: NDArray[np.float64]
    least: NDArray[np.int64]
    most: NDArray[np.int64]
    length_shares: NDArray[np.float64]
    horizon: float
    resolution: float | None

    @property
    def n_words(self) -> int:
        """Extended codes: those of events, the end, and the prefix."""
        return self.n_codes + 1 + self.n_prefix

    @property
    def n_prefix(self) -> int:
        """Words about the whole history."""
        return len(self.prefix) + len(self.charted)

    def sizes(self) -> dict[str, Any]:
        """Keywords of the decoder that the data decide."""
        return {
            "n_codes": self.n_codes,
            "n_gaps": self.gaps.number,
            "gap_sizes": isinstance(self.gaps, LogGaps),
            "repeats": self.repeats.tolist(),
            "charted": self.charted.tolist(),
            "offsets": self.offsets.tolist(),
            "kinds": self.kind.tolist(),
            "level_scores": np.nan_to_num(self.level_score, nan=NO_SCORE).tolist(),
            "n_prefix": self.n_prefix,
            "periods": self.gaps.periods.tolist(),
            "horizon": self.horizon,
        }

    @property
    def end(self) -> int:
        """The code of the last word."""
        return self.n_codes

    def word(self, name: Any) -> int:
        """Extended code of a prefix word."""
        return self.n_codes + 1 + self.prefix.index(name)

    @classmethod
    def fit(
        cls,
        events: EventsArray,
        statics: pd.DataFrame,
        labels: pd.DataFrame,
        min_subjects: int,
        gap: str = "bins",
    ) -> Grammar:
        """Learn from the events of B rows, their static columns and labels.

        Parameters
        ----------
        min_subjects : int
            What fewer rows have, codes of events and levels of static columns, is left out.
        gap : {"bins", "lognormal_mixture"}
            How gaps are drawn.
        """
        B, V = len(events), len(events.codes)
        row = np.repeat(np.arange(B), np.diff(events.offsets))
        known = events.code >= 0
        pairs = np.unique(row[known] * V + events.code[known])
        subjects = np.bincount(pairs % V, minlength=V) if V else np.zeros(0, np.int64)
        kept = np.flatnonzero(subjects >= min_subjects)
        history = Histories.of(events, kept)
        columns = {}
        for kind, frame in (("label", labels), ("static", statics)):
            least = min_subjects if kind == "static" else 1
            for name in frame.columns:
                what = "labels" if kind == "label" else f"static column {name!r}"
                columns[kind, name] = Column.fit(frame[name], least, min_subjects, what)
        # What may be asked for comes first, so that all else follows from it.
        prefix: list[Any] = [*columns, LENGTH, START, FIRST]
        if history.has_windows:
            prefix += [WINDOW, SPAN]
        span = history.time[history.time > 0]
        horizon = float(np.quantile(span, 0.99)) if len(span) else 1.0
        table = SymbolTable(len(kept), min_subjects)
        order = np.argsort(history.code, kind="stable")
        groups = np.split(order, np.searchsorted(history.code[order], np.arange(1, len(kept))))
        for code, group in enumerate(groups):
            table.add_code(code, history.value[group], history.text[group], history.row[group])
        table.add(len(kept), has_nothing=True)  # the end
        whole = history.whole()
        for code, name in enumerate(prefix, len(kept) + 1):
            if name == LENGTH:
                length_shares = table.add_count(code, history.lengths, MOST_LENGTHS)
            elif isinstance(name, tuple):
                column = columns[name]
                given = statics if name[0] == "static" else labels
                level, number = column.read(pd.Series(given[name[1]]))
                missing = bool(((level < 0) & np.isnan(number)).any())
                table.add(code, missing, len(column.levels), column.marginal)
            else:
                table.add_number(code, whole[name])
        often = np.argsort(-np.bincount(history.code, minlength=len(kept)), kind="stable")
        charted = np.sort(often[:MOST_CHARTED])
        for code, count in enumerate(history.counts(charted).T, len(kept) + 1 + len(prefix)):
            table.add_count(code, count, MOST_COUNTS)
        return cls(
            n_codes=len(kept),
            kept=kept,
            repeats=history.repeats(len(kept)),
            charted=charted,
            prefix=prefix,
            columns=columns,
            gaps=(GapClasses if gap == "bins" else LogGaps).fit(
                history.gap, history.row, min_subjects
            ),
            marginals=table.marginals,
            offsets=np.concatenate([[0], np.cumsum(table.counts)]).astype(np.int64),
            kind=np.concatenate(table.kinds).astype(np.int64),
            level=np.concatenate(table.levels),
            text=np.concatenate(table.texts).astype(np.int64),
            level_score=np.concatenate(table.level_scores),
            least=np.concatenate(table.least),
            most=np.concatenate(table.most),
            length_shares=length_shares,
            horizon=horizon,
            resolution=resolution_of(np.unique(events.time)),
        )

    # ---- reading -----------------------------------------------------------------------------

    def read(
        self, events: EventsArray, statics: pd.DataFrame, labels: pd.DataFrame | None
    ) -> Sentences:
        """The sentences of some rows; without labels their words are the first symbol there is."""
        history = Histories.of(events, self.kept)
        B, P, lengths = len(events), self.n_prefix, history.lengths
        offsets = np.concatenate([[0], np.cumsum(lengths + P + 1)])
        N = int(offsets[-1])
        first = offsets[:-1]  # of each sentence
        place = np.arange(len(history.code)) + np.repeat((P + 1) * np.arange(B) + P, lengths)
        code = np.full(N, self.end, np.int64)
        gap = np.full(N, SAME, np.int64)
        symbol = np.repeat(self.offsets[self.end], N)
        low, high = np.full(N, -1, np.float32), np.full(N, -1, np.float32)
        since, wait, until = np.zeros((3, N), np.float32)
        code[place], gap[place] = history.code, self.gaps.of(history.gap)
        since[place], wait[place] = history.time, self.gaps.wait(history.gap)
        if SPAN in self.prefix:
            until[place] = history.span[history.row] - history.time
        ends = offsets[1:] - 1
        since[ends] = np.where(lengths > 0, since[np.maximum(ends - 1, 0)], 0.0)
        self._read_values(place, history, symbol, low, high)
        whole = history.whole()
        for k, name in enumerate(self.prefix):
            word, at = self.n_codes + 1 + k, first + k
            code[at] = word
            if name == LENGTH:
                self._read_count(word, at, lengths, symbol, low, high)
                continue
            if isinstance(name, tuple):
                column = self.columns[name]
                frame = statics if name[0] == "static" else labels
                if frame is None:
                    symbol[at] = self.offsets[word]
                    continue
                level, number = column.read(pd.Series(frame[name[1]]))
            else:
                level, number = self._level_of(word, whole[name]), whole[name]
            self._read_whole(word, at, level, number, symbol, low, high)
        for k, count in enumerate(history.counts(self.charted).T, len(self.prefix)):
            word, at = self.n_codes + 1 + k, first + k
            code[at] = word
            self._read_count(word, at, count, symbol, low, high)
        position = np.arange(N) - np.repeat(first, np.diff(offsets)) - P + 1  # events so far
        total = np.repeat(lengths.clip(min=1), np.diff(offsets))
        left = (1 - position / total).clip(0, 1).astype(np.float32)
        rest = np.where(position > 0, (total - position).clip(0), 0).astype(np.float32)
        row = np.repeat(np.arange(B), np.diff(offsets))
        has_number = np.isin(self.kind[symbol], NUMERIC) | ~np.isnan(self.level_score[symbol])
        last, last_number = last_of_same(row, code, has_number, offsets)
        return Sentences(
            offsets=offsets,
            code=code,
            gap=gap,
            symbol=symbol,
            since=since,
            wait=wait,
            until=until,
            left=left,
            rest=rest,
            low=low,
            high=high,
            last=last,
            last_number=last_number,
        )

    def beginnings(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Of what is stated of a history: first symbols (P + C + 1,); kinds and scores (S,).

        After the words about the whole history come the first numbers of the codes in the chart,
        which have symbols of their own: none, a number, and levels that are numbers.
        """
        first = self.offsets[self.n_codes + 1 :]
        own = slice(first[0], first[-1])
        kinds, scores = [self.kind[own]], [self.level_score[own]]
        for code in self.charted:
            level = self._ordered(code)
            kinds.append(np.array([NOTHING, NUMBER] + [LEVEL] * len(level)))
            scores.append(np.concatenate([[np.nan, np.nan], self.level_score[level]]))
        sizes = [len(kind) for kind in kinds[1:]]
        ends = first[-1] + np.cumsum(sizes, dtype=np.int64)
        return np.append(first, ends), np.concatenate(kinds), np.concatenate(scores)

    def _ordered(self, code: int) -> NDArray[np.int64]:
        """Symbols of a code that are levels in an order."""
        own = np.arange(*self.offsets[code : code + 2])
        return own[~np.isnan(self.level_score[own])]

    def tracks(self) -> NDArray[np.int64]:
        """(n_words,) the line of each extended code in the chart, ``C`` for none."""
        track = np.full(self.n_words, len(self.charted))
        track[self.charted] = np.arange(len(self.charted))
        return track

    def firsts(self, sentences: Sentences) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Symbols, as :meth:`beginnings` has them, and scores (n, C) of first numbers."""
        offsets, C = sentences.offsets, len(self.charted)
        n = len(offsets) - 1
        track = self.tracks()[sentences.code]
        row = np.repeat(np.arange(n), np.diff(offsets))
        cell = row * C + track
        found = np.flatnonzero((track < C) & (sentences.high >= 0))
        cells, place = np.unique(cell[found], return_index=True)
        at, of = found[place], cells % C
        begin = self.beginnings()[0][self.n_prefix :]
        symbol = np.repeat(begin[np.newaxis, :C], n, axis=0)
        score = np.zeros((n, C))
        told = sentences.symbol[at]
        level = np.zeros(len(at), np.int64)  # which of the ordered levels it is, if one
        for code, first in zip(self.charted, range(C), strict=True):
            own = of == first
            ordered = self._ordered(code)
            where = pd.Index(ordered).get_indexer(told[own])
            level[own] = np.where(where >= 0, 2 + where, 1)
        symbol.ravel()[cells] = begin[of] + level
        score.ravel()[cells] = middle_scores(sentences.low[at], sentences.high[at])
        return symbol, score

    def level_symbols(self, symbol: NDArray[np.int64]) -> NDArray[np.int64]:
        """(n, C) symbols of events that first numbers (n, C) are, -1 where they are no levels."""
        begin = self.beginnings()[0][self.n_prefix :]
        told = np.full(symbol.shape, -1)
        for k, code in enumerate(self.charted):
            place = symbol[:, k] - begin[k] - 2
            ordered = self._ordered(code)
            if len(ordered):
                told[:, k] = np.where(place >= 0, ordered[place.clip(min=0)], -1)
        return told

    def log_sizes(self, sentences: Sentences) -> NDArray[np.float64]:
        """(n,) logarithm of how many numbers of events the classes stand for, of all words."""
        size = np.log(self.most - self.least + 1.0)[sentences.symbol]
        return np.add.reduceat(size, sentences.offsets[:-1])

    def class_of(self, word: int, count: NDArray[np.int64]) -> NDArray[np.int64]:
        """Symbols that say how many events (n,) there are."""
        first, last = self.offsets[word : word + 2]
        return first + np.searchsorted(self.most[first:last], count).clip(max=last - first - 1)

    def _read_count(
        self,
        word: int,
        at: NDArray[np.int64],
        count: NDArray[np.int64],
        symbol: NDArray[np.int64],
        low: NDArray[np.float32],
        high: NDArray[np.float32],
    ) -> None:
        """How many events there are in all rows."""
        symbol[at] = self.class_of(word, count)
        low[at] = high[at] = ndtr(self.level_score[symbol[at]])

    def _level_of(self, word: int, number: NDArray[np.float64]) -> NDArray[np.int64]:
        """Which of the levels of a code each number is, -1 for none of them."""
        first, last = self.offsets[word : word + 2]
        own = np.flatnonzero(self.kind[first:last] == LEVEL)
        if not len(own):
            return np.full(len(number), -1)
        return pd.Index(self.level[first + own]).get_indexer(number)

    def _read_whole(
        self,
        word: int,
        at: NDArray[np.int64],
        level: NDArray[np.int64],
        number: NDArray[np.float64],
        symbol: NDArray[np.int64],
        low: NDArray[np.float32],
        high: NDArray[np.float32],
    ) -> None:
        """Symbols and numbers of one prefix word of all rows."""
        first, last = self.offsets[word : word + 2]
        kinds = self.kind[first:last]
        symbol[at] = first  # what was never seen becomes the first symbol there is
        if (levels := np.flatnonzero(kinds == LEVEL)).size:
            chosen = level >= 0
            symbol[at[chosen]] = first + levels[0] + level[chosen]
        if (numbers := np.flatnonzero(kinds == NUMBER)).size:
            chosen = ~np.isnan(number)
            symbol[at[chosen]] = first + numbers[0]
            low[at[chosen]], high[at[chosen]] = self.marginals[word].bounds(number[chosen])

    def _read_values(
        self,
        place: NDArray[np.int64],
        history: Histories,
        symbol: NDArray[np.int64],
        low: NDArray[np.float32],
        high: NDArray[np.float32],
    ) -> None:
        """Symbols and numbers of events, code by code."""
        order = np.argsort(history.code, kind="stable")
        borders = np.searchsorted(history.code[order], np.arange(self.n_codes + 1))
        for code in range(self.n_codes):
            group = order[borders[code] : borders[code + 1]]
            first, last = self.offsets[code : code + 2]
            kinds = self.kind[first:last]
            found = np.zeros(len(group), np.int64)  # what was never seen: the first symbol
            value, text = history.value[group], history.text[group]
            if (levels := np.flatnonzero(kinds == LEVEL)).size:
                texts = self.text[first + levels]
                of_text = np.full(len(text), -1)
                if (own := np.flatnonzero(texts >= 0)).size:
                    at = pd.Index(texts[own]).get_indexer(text)
                    of_text = np.where(at >= 0, own[at], -1)
                numbers = self.level[first + levels]
                of_number = np.full(len(value), -1)
                if (own := np.flatnonzero(~np.isnan(numbers))).size:  # the nearest one
                    middle = (numbers[own][1:] + numbers[own][:-1]) / 2
                    of_number = own[np.searchsorted(middle, value.astype(np.float64))]
                    of_number = np.where(np.isnan(value) | (text >= 0), -1, of_number)
                chosen = np.where(of_text >= 0, of_text, of_number)
                found = np.where(chosen >= 0, levels[chosen], found)
            if (both := np.flatnonzero(kinds == BOTH)).size:
                at = pd.Index(self.text[first + both]).get_indexer(text)
                found = np.where((at >= 0) & ~np.isnan(value), both[at], found)
            symbol[place[group]] = first + found
            if (ordered := ~np.isnan(self.level_score[first + found])).any():
                at = place[group[ordered]]
                low[at], high[at] = self.marginals[code].bounds(value[ordered])
            elif code in self.marginals:
                is_number = ~np.isnan(value) & ((text < 0) | (kinds[found] != LEVEL))
                numbers = np.flatnonzero(kinds == NUMBER)
                alone = kinds[found] != BOTH
                if not numbers.size:
                    is_number &= ~alone
                at, alone = place[group[is_number]], alone[is_number]
                symbol[at[alone]] = first + numbers.sum()
                low[at], high[at] = self.marginals[code].bounds(value[is_number])
                if (repeats := np.flatnonzero(kinds == REPEAT)).size:
                    again = repeated(value[is_number], history.row[group[is_number]])
                    symbol[at[again & alone]] = first + repeats[0]

    def texts_used(self) -> NDArray[np.int64]:
        """Ids of the texts that are levels."""
        return np.unique(self.text[self.text >= 0])

    def given(
        self, asked: dict[str, pd.DataFrame], n: int
    ) -> dict[int, tuple[NDArray[np.int64], NDArray[np.float64]]]:
        """Words about the whole history that n new subjects are to have.

        Parameters
        ----------
        asked : dict
            ``"static"`` and ``"label"`` -> columns of 1 or n rows.

        Returns
        -------
        given : dict
            Place in the prefix -> symbols (n,), -1 for what is to be drawn, and normal scores.
        """
        given = {}
        for kind, frame in asked.items():
            for name in frame.columns:
                column = frame[name].repeat(n) if len(frame) == 1 else frame[name]
                level, number = self.columns[kind, name].read(column, exactly=True)
                present = column.notna().to_numpy()
                unknown = present & (level < 0) & np.isnan(number)
                self.columns[kind, name].check(column)
                if unknown.any():
                    what = "labels" if kind == "label" else f"values of {name!r}"
                    raise DataError(
                        f"Expected {what} that were there in fit. Got "
                        f"{column.iloc[int(unknown.argmax())]!r}. Known ones: "
                        f"{list(self.columns[kind, name].levels[:10])}."
                    )
                symbol = np.full(n, -1)
                low, high = np.full(n, -1, np.float32), np.full(n, -1, np.float32)
                word = self.word((kind, name))
                self._read_whole(word, np.arange(n), level, number, symbol, low, high)
                symbol[~present] = -1
                score = np.where(high >= 0, middle_scores(low, high), 0.0)
                given[self.prefix.index((kind, name))] = symbol, score
        return given

    def stated(
        self, sentences: Sentences
    ) -> dict[int, tuple[NDArray[np.int64], NDArray[np.float64]]]:
        """As :meth:`given`, all that sentences say of the whole history, but for labels."""
        told = {}
        for k in range(self.n_prefix):
            if k < len(self.prefix) and self.prefix[k][0] == "label":
                continue
            at = sentences.offsets[:-1] + k
            low, high = sentences.low[at], sentences.high[at]
            score = np.where(high >= 0, middle_scores(low, high), 0.0)
            told[k] = sentences.symbol[at].copy(), score
        return told

    # ---- writing -----------------------------------------------------------------------------

    def whole(
        self, k: int, symbol: NDArray[np.int64], share: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Level (n,) of a prefix word, -1 for none, and its number, NaN for none."""
        word, kind = self.n_codes + 1 + k, self.kind[symbol]
        number = np.where(kind == LEVEL, self.level[symbol], np.nan)
        numeric = kind == NUMBER
        if numeric.any():
            number[numeric] = self.marginals[word].value(share[numeric])
        first, last = self.offsets[word : word + 2]
        levels = np.flatnonzero(self.kind[first:last] == LEVEL)
        level = np.where(kind == LEVEL, symbol - first - (levels[0] if levels.size else 0), -1)
        return level, number

    def numbers(self, code: NDArray[np.int64], score: NDArray[np.float64]) -> NDArray[np.float64]:
        """Numbers (n,) of extended codes from their shares of the distribution."""
        found = np.full(len(code), np.nan)
        if not len(code):
            return found
        order = np.argsort(code, kind="stable")
        names, first = np.unique(code[order], return_index=True)
        for word, group in zip(names, np.split(order, first[1:]), strict=True):
            if int(word) in self.marginals:
                found[group] = self.marginals[int(word)].value(score[group])
        return found
