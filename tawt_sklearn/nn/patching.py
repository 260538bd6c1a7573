"""The two kinds of patches: all events of one code, and all events of one window of time."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tawt_sklearn.nn.batch import EventBatch
from tawt_sklearn.nn.statistics import (
    RECENT_STATISTICS,
    STATISTICS,
    decayed_means,
    recent_statistics,
    segment_statistics,
)
from tawt_sklearn.nn.time import Time2Vec

RECENT_SHARES = (1 / 2, 1 / 6)
"""The last half and the last sixth of the horizon have statistics of their own."""

VALUE_BASIS = 3  # presence, v and |v|: a line per code that may bend at the code's centre


class Patches(NamedTuple):
    """Tokens with what attention and pooling need to know of them."""

    tokens: Tensor  # (B, P, D)
    time: Tensor | None = None  # (B, P) time of each token since the row's origin
    timed: Tensor | None = None  # (B, P) whether that time means anything
    filled: Tensor | None = None  # (B, P) False where the token is padding; None: nowhere
    code: Tensor | None = None  # (B, P), or (1, P) where all rows have the same; code of a token


def assign_slots(row: Tensor, code: Tensor, n_rows: int, n_codes: int, n_slots: int):
    """Give each event the place of its code among the feature patches of its row.

    With at most ``n_slots`` codes in the vocabulary each code has its own fixed place, also where
    it does not occur.  With more, a row's places go to the codes that occur in it, the most
    frequent of the training data first (the vocabulary is in that order).

    Returns
    -------
    slot : (E,) int64
        Place of each event, -1 where its code found none.
    slot_code : (B, n_slots) int64, or (1, n_slots) where places are fixed
        Code of each place, -1 where it stays empty.
    """
    if n_codes <= n_slots:
        return code, torch.arange(n_codes, device=code.device).unsqueeze(0)
    cells, inverse = torch.unique(row * n_codes + code, return_inverse=True)
    cell_row = cells // n_codes
    starts = torch.searchsorted(cell_row, torch.arange(n_rows, device=row.device))
    place = torch.arange(len(cells), device=row.device) - starts[cell_row]  # rank within the row
    fits = place < n_slots
    slot_code = torch.full((n_rows, n_slots), -1, dtype=torch.int64, device=row.device)
    slot_code[cell_row[fits], place[fits]] = cells[fits] % n_codes
    return torch.where(fits, place, -1)[inverse], slot_code


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
        max_patches: int,
        n_half_lives: int = 3,
    ) -> None:
        super().__init__()
        self.n_codes, self.horizon = n_codes, horizon
        self.n_slots = min(n_codes, max_patches)
        self.has_categories = n_categories > 0
        half_lives = horizon * torch.logspace(-1.4, -0.3, n_half_lives)  # 4 % to half of it
        self.log_half_life = nn.Parameter(half_lives.log())
        self.recent = [horizon * share for share in RECENT_SHARES]
        n_statistics = (
            len(STATISTICS) + 2 * n_half_lives + len(RECENT_STATISTICS) * len(self.recent)
        )
        self.shared = nn.Linear(n_statistics, d_model, bias=False)
        self.scale = nn.Embedding(n_codes, d_model)
        self.shift = nn.Embedding(n_codes, d_model)
        self.absent = nn.Embedding(n_codes, d_model)
        if self.has_categories:
            self.category = nn.Embedding(n_categories + 1, d_model, padding_idx=0)
        for table in (self.scale, self.shift, self.absent):
            nn.init.normal_(table.weight, std=0.3 if table is self.scale else 0.5)

    def statistics(self, batch: EventBatch, slot: Tensor) -> Tensor:
        """(B * n_slots, n_statistics) of the events that have a place."""
        n_segments = len(batch) * self.n_slots
        if self.n_codes > self.n_slots:
            placed = slot >= 0
            batch, slot = batch.keep(placed), slot[placed]
        segment = batch.row * self.n_slots + slot
        with torch.no_grad():
            exact = segment_statistics(
                segment,
                batch.value,
                batch.observed,
                batch.time,
                batch.age,
                n_segments,
                self.horizon,
            )
        decayed = decayed_means(
            segment,
            batch.value,
            batch.observed,
            batch.age,
            self.log_half_life.exp(),
            n_segments,
        )
        with torch.no_grad():
            recent = [
                recent_statistics(
                    segment, batch.value, batch.observed, batch.age, n_segments, length
                )
                for length in self.recent
            ]
        return torch.cat([exact, *recent, decayed], dim=1)

    def forward(self, batch: EventBatch) -> Patches:
        B, P = len(batch), self.n_slots
        slot, slot_code = assign_slots(batch.row, batch.code, B, self.n_codes, P)
        statistics = self.statistics(batch, slot).view(B, P, -1)
        code = slot_code.clamp(min=0)  # (1 or B, P): fixed places broadcast over the rows
        tokens = self.shared(statistics) * (1 + self.scale(code)) + self.shift(code)
        occurs = statistics[..., STATISTICS.index("log_count")] > 0  # (B, P)
        tokens = torch.where(occurs.unsqueeze(-1), tokens, self.absent(code))
        if self.has_categories:
            tokens = tokens + self.category_means(batch, slot).view(B, P, -1)
        time = statistics[..., STATISTICS.index("last_time")].detach() * self.horizon
        filled = None if self.n_codes <= P else slot_code >= 0  # fixed places are all filled
        return Patches(tokens, time, occurs, filled, code)

    def category_means(self, batch: EventBatch, slot: Tensor) -> Tensor:
        """(B * n_slots, D) mean embedding of the categories of each place, plus the last one."""
        n_segments = len(batch) * self.n_slots
        named = ((batch.category > 0) & (slot >= 0)).nonzero().squeeze(1)
        segment = batch.row[named] * self.n_slots + slot[named]
        embedded = self.category(batch.category[named])  # (E', D)
        total = embedded.new_zeros(n_segments, embedded.shape[1]).index_add(0, segment, embedded)
        count = torch.bincount(segment, minlength=n_segments).clamp(min=1).unsqueeze(1)
        order = torch.arange(len(named), device=segment.device)
        last = order.new_full((n_segments,), -1).scatter_reduce(0, segment, order, "amax")
        last_category = (
            torch.where(last >= 0, batch.category[named][last], 0)
            if len(named)
            else (torch.zeros_like(last))
        )
        return total / count + self.category(last_category)


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
    ) -> None:
        super().__init__()
        self.register_buffer("edges", edges.to(torch.float32))
        self.n_windows, self.n_codes = len(edges) + 1, n_codes
        self.has_categories = n_categories > 0
        rows = n_codes * VALUE_BASIS + (n_categories + 1 if self.has_categories else 0)
        self.table = nn.Parameter(torch.randn(rows, d_model) * 0.3)
        self.time_encoding = Time2Vec(
            d_model, shortest=horizon / self.n_windows, longest=2 * horizon, learned=learned_time
        )
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
        return torch.bucketize(time, self.edges, right=True)

    def bag(self, batch: EventBatch, window: Tensor) -> Tensor:
        """Sum over the codes of each window -> (B * n_windows, D)."""
        B, W, V = len(batch), self.n_windows, self.n_codes
        place = batch.row * W + window  # non-decreasing: events are in order of time
        cell = place * V + batch.code
        if B * W * V > 2**22:
            cell = torch.unique(cell, return_inverse=True)[1]
        n_cells = int(cell.max()) + 1 if len(cell) else 0
        observed = batch.observed.to(batch.value.dtype)
        per_cell = batch.value.new_zeros(n_cells, 2)
        per_cell.index_add_(0, cell, torch.stack([torch.ones_like(observed), observed], dim=1))
        count, n_values = per_cell[cell].clamp(min=1).unbind(1)
        value = batch.value / n_values
        columns = [batch.code * VALUE_BASIS + k for k in range(VALUE_BASIS)]
        weights = [1 / count, value, value.abs()]
        if self.has_categories:
            columns.append(V * VALUE_BASIS + batch.category)
            weights.append((batch.category > 0) / count)
        starts = torch.searchsorted(place, torch.arange(B * W, device=place.device))
        return F.embedding_bag(
            torch.stack(columns, dim=1).flatten(),
            self.table,
            offsets=starts * len(columns),
            mode="sum",
            per_sample_weights=torch.stack(weights, dim=1).flatten(),
        )

    def forward(self, batch: EventBatch) -> Patches:
        B, W = len(batch), self.n_windows
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
