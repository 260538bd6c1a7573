"""Histories as words are made of them: their events in one order, and what came before each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tawt_sklearn.events.array import EventsArray

START, WINDOW, FIRST, LENGTH, SPAN = "start", "window", "first", "length", "span"
"""Words about the whole history: its origin, how long it was observed, when its first event is, how
many there are, and, where it was observed for longer than that, in what time."""


@dataclass(frozen=True)
class Histories:
    """The events of the codes that are kept, in canonical order.

    Attributes
    ----------
    row, code : (E,) int64
    value : (E,) float32
    text : (E,) int64
    gap : (E,) float64
        Since the event before; 0 for the first one.
    time : (E,) float64
        Since the first event of the row.
    lengths : (B,) int64
    start, window, first, span : (B,) float64
        Origin, duration, time from the origin to the first event, and from that to the last one;
        NaN where there is none.
    """

    row: NDArray[np.int64]
    code: NDArray[np.int64]
    value: NDArray[np.float32]
    text: NDArray[np.int64]
    gap: NDArray[np.float64]
    time: NDArray[np.float64]
    lengths: NDArray[np.int64]
    start: NDArray[np.float64]
    window: NDArray[np.float64]
    first: NDArray[np.float64]
    span: NDArray[np.float64]
    has_windows: bool

    @classmethod
    def of(cls, events: EventsArray, kept: NDArray[np.int64]) -> Histories:
        """Sort events of one time by their code, so that they make a chain like all others."""
        B = len(events)
        id_of = np.full(len(events.codes) + 1, -1, np.int64)  # the last one is that of no code
        id_of[kept] = np.arange(len(kept))
        code = id_of[events.code]
        row = np.repeat(np.arange(B), np.diff(events.offsets))
        order = np.flatnonzero(code >= 0)
        times = np.round(events.time, 9)  # else what differs by less is in no order of codes
        order = order[np.lexsort((code[order], times[order], row[order]))]
        row, code, time = row[order], code[order], times[order]
        lengths = np.bincount(row, minlength=B)
        begins = np.concatenate([[0], np.cumsum(lengths)])[:-1]
        some = lengths > 0
        first_time = np.full(B, np.nan)
        first_time[some] = time[begins[some]]
        last_time = np.full(B, np.nan)
        last_time[some] = time[begins[some] + lengths[some] - 1]
        text = np.full(len(order), -1) if events.text is None else events.text[order]
        start = np.where(np.isnan(events.start), first_time, events.start)
        window = events.end - start
        gap = np.round(np.diff(time, prepend=time[:1]), 9).astype(np.float64)
        gap[begins[some]] = 0.0
        # Else a history ends with its last event.
        beyond = np.where(some, events.end - last_time, events.end - events.start)
        return cls(
            row=row,
            code=code,
            value=events.value[order],
            text=text.astype(np.int64),
            gap=gap,
            time=time - np.repeat(first_time, lengths),
            lengths=lengths,
            start=start,
            window=window,
            first=first_time - start,
            span=last_time - first_time,
            has_windows=bool((np.abs(np.nan_to_num(beyond)) > 0).any()),
        )

    def whole(self) -> dict[str, NDArray[np.float64]]:
        """What prefix words say, by their names."""
        return {START: self.start, WINDOW: self.window, FIRST: self.first, SPAN: self.span}

    def counts(self, codes: NDArray[np.int64]) -> NDArray[np.int64]:
        """(B, C) how often some codes come."""
        B, C = len(self.lengths), len(codes)
        place = np.full(max(int(codes.max(initial=-1)), int(self.code.max(initial=-1))) + 1, C)
        place[codes] = np.arange(C)
        cell = self.row * (C + 1) + place[self.code]
        return np.bincount(cell, minlength=B * (C + 1)).reshape(B, C + 1)[:, :C]

    def repeats(self, n_codes: int) -> NDArray[np.bool_]:
        """Which codes occur more than once at a time."""
        same = (np.diff(self.row) == 0) & (np.diff(self.code) == 0) & (self.gap[1:] == 0)
        return np.bincount(self.code[1:][same], minlength=n_codes) > 0


def repeated(value: NDArray, row: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which numbers (n,) of a code, row by row, are those before them again."""
    same = (np.diff(row, prepend=-1) == 0) & (np.diff(value, prepend=np.nan) == 0)
    return np.asarray(same)


def last_of_same(
    row: NDArray[np.int64],
    code: NDArray[np.int64],
    has_number: NDArray[np.bool_],
    offsets: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places of the words of the same code before each one: of the last, and with a number."""
    N = len(code)
    order = np.lexsort((code, row))  # stable: by place within
    same = np.zeros(N, bool)
    same[1:] = (row[order][1:] == row[order][:-1]) & (code[order][1:] == code[order][:-1])
    group = np.cumsum(~same) - 1
    at = np.arange(N)
    before = np.where(same, at - 1, -1)
    # The last one with a number, carried forward within the group.
    seen = np.where(has_number[order], at, -1)
    carried = np.maximum.accumulate(seen)
    begins = np.flatnonzero(~same)
    carried = np.where(carried >= begins[group], carried, -1) if N else carried
    numbered = np.where(same, np.concatenate([[-1], carried[:-1]]), -1)
    start = offsets[row]
    found = []
    for sorted_place in (before, numbered):
        place = np.full(N, -1, np.int64)
        position = np.where(sorted_place >= 0, order[sorted_place], -1)
        place[order] = np.where(sorted_place >= 0, position - start[order], -1)
        found.append(place)
    return found[0], found[1]
