"""The two kinds of patches: all events of one code, and all events of one window of time."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tawt_sklearn.nn.batch import EventBatch
from tawt_sklearn.nn.statistics import (
    STATISTICS,
    code_statistics,
    half_lives,
    n_code_statistics,
    only,
    segment_sum,
    without_rest,
)
from tawt_sklearn.nn.time import Time2Vec, Waves

VALUE_BASIS = 3  # presence, v and |v|: a line per code that may bend at the code's centre


class Patches(NamedTuple):
    """Tokens with what attention and pooling need to know of them."""

    tokens: Tensor  # (B, P, D)
    time: Tensor | None = None  # (B, P) time of each token since the row's origin
    timed: Tensor | None = None  # (B, P) whether that time means anything
    filled: Tensor | None = None  # (B, P) False where the token is padding; None: nowhere
    code: Tensor | None = None  # (B, P), or (1, P) where all rows have the same; code of a token
    levels: Tensor | None = None  # (B, N, K) last values and means of a panel's channels


class Places(NamedTuple):
    """How the feature patches of a row are given to codes.

    Attributes
    ----------
    n_fixed : int
        The first codes of the vocabulary have a place of their own, also where they do not occur.
    n_free : int
        Places for further codes, which go to those that occur in the row, in the order of the
        vocabulary: the most frequent of the training data first.
    """

    n_fixed: int
    n_free: int

    @classmethod
    def of(cls, n_codes: int, max_patches: int, n_fixed: int | None = None) -> Places:
        """All codes have fixed places, or none has; ``n_fixed`` of a vocabulary that has grown."""
        if n_fixed is None:
            n_fixed = n_codes if n_codes <= max_patches else 0
        return cls(n_fixed, min(n_codes - n_fixed, max_patches))

    @property
    def n_usual(self) -> int:
        """Places of a row of the data that the vocabulary was learned from."""
        return self.n_fixed or self.n_free


def assign_places(
    row: Tensor, code: Tensor, n_rows: int, n_codes: int, places: Places
) -> tuple[Tensor, Tensor]:
    """Give each event the place of its code among the feature patches of its row.

    Returns
    -------
    place : (E,) int64
        Place of each event, -1 where its code found none.
    place_code : (B, P) int64, or (1, P) where all places are fixed
        Code of each place, -1 where it stays empty.
    """
    n_fixed, n_free = places
    fixed = torch.arange(n_fixed, device=code.device).unsqueeze(0)
    if n_free == 0:
        return code, fixed
    if torch.compiler.is_exporting():
        return _assign_by_sorting(row, code, n_rows, n_codes, places)
    further = (code >= n_fixed).nonzero().squeeze(1)
    if n_fixed and not len(further):  # nothing but what was known before the vocabulary grew
        return code, fixed
    cells, inverse = torch.unique(row[further] * n_codes + code[further], return_inverse=True)
    cell_row = cells // n_codes
    starts = torch.searchsorted(cell_row, torch.arange(n_rows, device=row.device))
    rank = torch.arange(len(cells), device=row.device) - starts[cell_row]  # within the row
    fits = rank < n_free
    free = torch.full((n_rows, n_free), -1, dtype=torch.int64, device=row.device)
    free[cell_row[fits], rank[fits]] = cells[fits] % n_codes
    place = code.clone()
    place[further] = torch.where(fits, rank + n_fixed, -1)[inverse]
    return place, torch.cat([fixed.expand(n_rows, -1), free], dim=1)


def _assign_by_sorting(
    row: Tensor, code: Tensor, n_rows: int, n_codes: int, places: Places
) -> tuple[Tensor, Tensor]:
    """The same where sizes must not depend on the data, as in an exported graph."""
    n_fixed, n_free = places
    further = code >= n_fixed
    number, order = cell_numbers(torch.where(further, row * n_codes + code, n_rows * n_codes))
    row, ordered, further = row[order], code[order], further[order]
    # Every cell counts once, where its number rises.
    new = (number > torch.cat([number.new_full((1,), -1), number])[:-1]) & further
    n_cells = row.new_zeros(n_rows).scatter_add(0, row, new.long())
    rank = number - (n_cells.cumsum(0) - n_cells)[row]  # within the row
    fits = (rank < n_free) & further
    free = code.new_full((n_rows * n_free + 1,), -1)  # the last one for those that do not fit
    free = free.scatter(0, torch.where(fits, row * n_free + rank, n_rows * n_free), ordered)
    place = torch.where(fits, rank + n_fixed, torch.where(further, -1, ordered))
    place = torch.zeros_like(place).scatter(0, order, place)
    fixed = torch.arange(n_fixed, device=code.device).expand(n_rows, -1)
    return place, torch.cat([fixed, free[:-1].view(n_rows, n_free)], dim=1)


def cell_numbers(cell: Tensor) -> tuple[Tensor, Tensor]:
    """(E,) cells -> of the sorted ones, how many others are smaller, and the order of sorting.

    What ``torch.unique`` tells, in sizes that do not depend on the data.
    """
    cell, order = cell.sort()
    before = torch.cat([cell.new_full((1,), -1), cell])[:-1]
    return (cell != before).long().cumsum(0) - 1, order


class FeaturePatches(nn.Module):
    """One token for each code: exact statistics of its events through a code-specific map.

    The map is shared and then scaled and shifted for the code, which costs ``2 D`` numbers for
    each code and works as well for two codes as for twenty thousand.
    """

    def __init__(
        self,
        n_codes: int,
        n_categories: int,
        d_model: int,
        horizon: float,
        places: Places,
        n_half_lives: int = 3,
    ) -> None:
        super().__init__()
        self.n_codes, self.horizon, self.places = n_codes, horizon, places
        self.has_categories = n_categories > 0
        self.log_half_life = nn.Parameter(half_lives(horizon, n_half_lives).log())
        self.shared = nn.Linear(n_code_statistics(n_half_lives), d_model, bias=False)
        self.scale = nn.Embedding(n_codes, d_model)
        self.shift = nn.Embedding(n_codes, d_model)
        self.absent = nn.Embedding(n_codes, d_model)
        if self.has_categories:
            self.category = nn.Embedding(n_categories + 1, d_model, padding_idx=0)
        for table in (self.scale, self.shift, self.absent):
            nn.init.normal_(table.weight, std=0.3 if table is self.scale else 0.5)

    def statistics(self, batch: EventBatch, place: Tensor, n_places: int) -> Tensor:
        """(B * P, n_statistics) of the events that have a place."""
        segment, n_segments = batch.row * n_places + place, batch.n_rows * n_places
        n_kept, columns = n_segments, [batch.value, batch.observed, batch.time, batch.age]
        if self.places.n_free:
            segment, n_kept, columns = only(place >= 0, segment, n_segments, *columns)
        value, observed, time, age = columns
        half_life = self.log_half_life.exp()
        told = code_statistics(segment, value, observed, time, age, half_life, n_kept, self.horizon)
        return without_rest(told, n_segments)

    def forward(self, batch: EventBatch) -> Patches:
        B = batch.n_rows
        place, place_code = assign_places(batch.row, batch.code, B, self.n_codes, self.places)
        P = place_code.shape[1]
        statistics = self.statistics(batch, place, P).view(B, P, -1)
        code = place_code.clamp(min=0)  # (1 or B, P): fixed places broadcast over the rows
        tokens = self.shared(statistics) * (1 + self.scale(code)) + self.shift(code)
        occurs = statistics[..., STATISTICS.index("log_count")] > 0  # (B, P)
        tokens = torch.where(occurs.unsqueeze(-1), tokens, self.absent(code))
        if self.has_categories:
            tokens = tokens + self.category_means(batch, place, P).view(B, P, -1)
        time = statistics[..., STATISTICS.index("last_time")].detach() * self.horizon
        filled = place_code >= 0 if P > self.places.n_fixed else None
        return Patches(tokens, time, occurs, filled, code)

    def category_means(self, batch: EventBatch, place: Tensor, n_places: int) -> Tensor:
        """(B * P, D) mean embedding of the categories of each place, plus the last one."""
        n_segments = batch.n_rows * n_places
        named = (batch.category > 0) & (place >= 0)
        segment = batch.row * n_places + place
        segment, n_kept, (category,) = only(named, segment, n_segments, batch.category)
        embedded = self.category(category)  # (E', D)
        total = embedded.new_zeros(n_kept, embedded.shape[1]).index_add(0, segment, embedded)
        ones = torch.ones_like(embedded[:, :1])
        count = segment_sum(ones, segment, n_kept).clamp(min=1)  # (n_kept, 1)
        order = torch.arange(1, segment.shape[0] + 1, device=segment.device)
        last = order.new_zeros(n_kept).scatter_reduce(0, segment, order, "amax")
        category = torch.cat([category.new_zeros(1), category])  # what there is without any
        return without_rest(total / count + self.category(category[last]), n_segments)


def window_of(time: Tensor, edges: Tensor) -> Tensor:
    """(E,) times -> (E,) how many of the (n_windows - 1,) edges are not later."""
    if torch.compiler.is_exporting():  # ONNX has no search
        return (time.unsqueeze(1) >= edges).sum(1)
    return torch.bucketize(time, edges, right=True)


MAX_DENSE_CELLS = 2**20
"""Of (row, window, code), up to which windows are summed by one product of dense matrices."""


def bag_sum(column: Tensor, weight: Tensor, place: Tensor, table: Tensor, n_places: int) -> Tensor:
    """Weighted sums of rows of a table.

    Parameters
    ----------
    column, weight : (N, K)
        Rows of the table that each of N entries adds, and how much of them.
    place : (N,)
        Where it adds them; non-decreasing.
    table : (M, D)
    n_places : int

    Returns
    -------
    (n_places, D) tensor
    """
    starts = torch.searchsorted(place, torch.arange(n_places, device=place.device))
    return F.embedding_bag(
        column.flatten(),
        table,
        offsets=starts * column.shape[1],
        mode="sum",
        per_sample_weights=weight.flatten(),
    )


class TemporalPatches(nn.Module):
    """One token for each window of time: what was measured in it, and how it stood.

    Each code contributes its mean value in the window through a learned, bent line of its own;
    a code measured sixty times in the window counts no more than one measured once.

    Parameters
    ----------
    edges : (n_windows - 1,) tensor
        Inner borders of the windows, in time since the row's origin.
    learned_time : bool
        Whether the frequencies of the time encoding are learned.
    waves : Waves, optional
        What they start from.
    """

    edges: Tensor

    def __init__(
        self,
        n_codes: int,
        n_categories: int,
        d_model: int,
        edges: Tensor,
        horizon: float,
        learned_time: bool = True,
        waves: Waves | None = None,
    ) -> None:
        super().__init__()
        self.register_buffer("edges", edges.to(torch.float32))
        self.n_windows, self.n_codes = len(edges) + 1, n_codes
        self.has_categories = n_categories > 0
        self.code = nn.Parameter(torch.randn(n_codes, VALUE_BASIS, d_model) * 0.3)
        if self.has_categories:
            self.category = nn.Parameter(torch.randn(n_categories + 1, d_model) * 0.3)
        shortest = horizon / self.n_windows
        self.time_encoding = Time2Vec(d_model, shortest, 2 * horizon, learned_time, waves)
        self.place = nn.Parameter(torch.randn(self.n_windows, d_model) * 0.3)
        self.log_count = nn.Linear(1, d_model)
        self.mix = nn.Sequential(
            nn.LayerNorm(d_model),
            nn.Linear(d_model, d_model),
            nn.GELU(),
            nn.Linear(d_model, d_model),
        )

    def window(self, time: Tensor) -> Tensor:
        """(E,) times -> (E,) index of the window, in ``[0, n_windows)``."""
        return window_of(time, self.edges)

    def bag(self, batch: EventBatch, window: Tensor) -> Tensor:
        """Sum over the codes of each window -> (B * n_windows, D)."""
        if torch.compiler.is_exporting():
            return self._bag_of_events(batch, window)
        B, W, V = batch.n_rows, self.n_windows, self.n_codes
        cell = (batch.row * W + window) * V + batch.code
        n_cells = B * W * V
        dense = n_cells <= MAX_DENSE_CELLS
        if not dense:
            filled, cell = torch.unique(cell, return_inverse=True)
            n_cells = len(filled)
        observed = batch.observed.to(batch.value.dtype)
        events = [torch.ones_like(observed), observed, batch.value, batch.value.abs()]
        sums = segment_sum(torch.stack(events, dim=1), cell, n_cells)
        count, n_values = sums[:, :2].clamp(min=1).unbind(1)
        basis = torch.cat([sums[:, :1].clamp(max=1), sums[:, 2:] / n_values.unsqueeze(1)], dim=1)
        table = self.code.flatten(0, 1)  # (V * VALUE_BASIS, D)
        if dense:
            total = basis.view(B * W, V * VALUE_BASIS) @ table
        else:
            columns = (filled % V).unsqueeze(1) * VALUE_BASIS
            columns = columns + torch.arange(VALUE_BASIS, device=cell.device)
            total = bag_sum(columns, basis, filled // V, table, B * W)
        if self.has_categories:
            named = (batch.category > 0).nonzero().squeeze(1)
            place = batch.row[named] * W + window[named]  # non-decreasing: events in order of time
            share = 1 / count[cell[named]]
            columns = batch.category[named].unsqueeze(1)
            total = total + bag_sum(columns, share.unsqueeze(1), place, self.category, B * W)
        return total

    def _bag_of_events(self, batch: EventBatch, window: Tensor) -> Tensor:
        """The same where sizes must not depend on the data, as in an exported graph.

        Each event adds its share of its cell, a code in a window.
        """
        B, W, V = batch.n_rows, self.n_windows, self.n_codes
        place = batch.row * W + window
        number, order = cell_numbers(place * V + batch.code)
        number = torch.zeros_like(number).scatter(0, order, number)  # cell of each event
        observed = batch.observed.to(batch.value.dtype)
        events = torch.stack([torch.ones_like(observed), observed], dim=1)
        sums = segment_sum(events, number, batch.n_events).clamp(min=1)
        count, n_values = sums.index_select(0, number).unbind(1)
        basis = torch.stack(
            [1 / count, batch.value / n_values, batch.value.abs() / n_values], dim=1
        )
        part = (self.code[batch.code] * basis.unsqueeze(2)).sum(1)  # (E, D)
        if self.has_categories:
            share = torch.where(batch.category > 0, 1 / count, 0.0)
            part = part + self.category[batch.category] * share.unsqueeze(1)
        return segment_sum(part, place, B * W)

    def forward(self, batch: EventBatch) -> Patches:
        B, W = batch.n_rows, self.n_windows
        window = self.window(batch.time)
        place = batch.row * W + window
        total = batch.time.new_zeros(B * W, 2)
        total.index_add_(0, place, torch.stack([torch.ones_like(batch.time), batch.time], dim=1))
        count, sum_time = total.view(B, W, 2).unbind(-1)
        present = count > 0
        time = sum_time / count.clamp(min=1)
        tokens = self.bag(batch, window).view(B, W, -1)
        tokens = tokens + self.log_count(torch.log1p(count).unsqueeze(-1))
        tokens = tokens + self.time_encoding(time) + self.place
        tokens = tokens + self.mix(tokens)
        return Patches(tokens, time, present)
