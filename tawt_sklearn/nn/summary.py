"""What is known of a row before any weight is learned: statistics side by side, standardised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from tawt_sklearn.nn.batch import EventBatch
from tawt_sklearn.nn.panel import PanelBatch
from tawt_sklearn.nn.panel_statistics import channel_statistics, n_channel_statistics
from tawt_sklearn.nn.statistics import (
    STATISTICS,
    code_statistics,
    half_lives,
    n_code_statistics,
    only,
    segment_sum,
    without_rest,
)

N_HALF_LIVES = 3

FARTHEST = 4.0
"""Standard deviations from the mean that a column is cut off at."""

MOST_LEVELS = 256
"""Of a static column or a channel, and of all values that are names: with more these have none."""


@dataclass(frozen=True, eq=False)
class SummaryScale:
    """How the columns of a summary are standardised.

    Attributes
    ----------
    center : (d,) float32
        Mean of each column over the training rows.
    weight : (d,) float32
        One by its standard deviation; 0 where the training rows do not differ.
    """

    center: NDArray[np.float32]
    weight: NDArray[np.float32]


def few_levels(cardinalities: Sequence[int]) -> dict[int, int]:
    """Position of each column whose levels have columns of their own, and their number."""
    return {k: n for k, n in enumerate(cardinalities) if n <= MOST_LEVELS}


class EventColumns(nn.Module):
    """The statistics of the most frequent codes, and the static columns, side by side.

    A code has its statistics and whether it is absent; names that values have are counted.

    Parameters
    ----------
    n_codes, n_categories : int
        Of the vocabulary, whose first codes are the most frequent ones.
    horizon : float
    max_codes : int
        Codes that have columns, at most.
    n_static_numeric : int
    static_cardinalities : sequence of int
    """

    half_life: Tensor

    def __init__(
        self,
        n_codes: int,
        n_categories: int,
        horizon: float,
        max_codes: int,
        n_static_numeric: int,
        static_cardinalities: Sequence[int],
    ) -> None:
        super().__init__()
        self.n_codes, self.horizon = min(n_codes, max_codes), horizon
        self.has_more_codes = n_codes > max_codes
        self.n_categories = n_categories if n_categories <= MOST_LEVELS else 0
        self.levels = few_levels(static_cardinalities)
        self.register_buffer("half_life", half_lives(horizon, N_HALF_LIVES))
        self.d_out = self.n_codes * (n_code_statistics(N_HALF_LIVES) + 1) + self.n_categories
        self.d_out += 2 * n_static_numeric + sum(self.levels.values())

    def forward(self, batch: EventBatch) -> Tensor:
        """-> (B, d_out)."""
        B = batch.n_rows
        statistics = self.statistics(batch)  # (B, n_codes, K)
        absent = statistics[..., STATISTICS.index("log_count")] == 0
        static = batch.static_numeric
        parts = [statistics.flatten(1), absent, static.nan_to_num(0.0), static.isnan()]
        if self.n_categories:
            place = batch.row * (self.n_categories + 1) + batch.category
            ones = torch.ones_like(batch.value).unsqueeze(1)
            counts = segment_sum(ones, place, B * (self.n_categories + 1)).view(B, -1)
            parts.append(torch.log1p(counts[:, 1:]))
        for k, n in self.levels.items():
            parts.append(F.one_hot(batch.static_category[:, k], n))
        return torch.cat([part.to(statistics.dtype) for part in parts], dim=1)

    def statistics(self, batch: EventBatch) -> Tensor:
        """(B, n_codes, n_statistics)."""
        segment, n_segments = batch.row * self.n_codes + batch.code, batch.n_rows * self.n_codes
        n_kept, columns = n_segments, [batch.value, batch.observed, batch.time, batch.age]
        if self.has_more_codes:
            among = batch.code < self.n_codes
            segment, n_kept, columns = only(among, segment, n_segments, *columns)
        value, observed, time, age = columns
        half_life = self.half_life.to(value.dtype)
        told = code_statistics(segment, value, observed, time, age, half_life, n_kept, self.horizon)
        return without_rest(told, n_segments).view(batch.n_rows, self.n_codes, -1)


class PanelColumns(nn.Module):
    """The statistics of the channels of a panel side by side; of categories, shares and the last.

    Parameters
    ----------
    n_channels : int
    cardinalities : sequence of int
        Codes of each of the last channels, which are categorical.
    horizon : float
    """

    half_life: Tensor

    def __init__(self, n_channels: int, cardinalities: Sequence[int], horizon: float) -> None:
        super().__init__()
        self.horizon = horizon
        self.levels = few_levels(cardinalities)
        own = half_lives(horizon + 1, N_HALF_LIVES)
        self.register_buffer("half_life", own)
        n_numeric = n_channels - len(cardinalities)
        self.d_out = n_numeric * n_channel_statistics(N_HALF_LIVES) + 2 * sum(self.levels.values())

    def forward(self, batch: PanelBatch) -> Tensor:
        """-> (B, d_out)."""
        dtype = batch.value.dtype
        statistics = channel_statistics(batch, self.half_life.to(dtype), self.horizon)
        inside = batch.inside[:, 0].to(dtype)  # (B, T)
        n_steps = inside.sum(1, keepdim=True).clamp(min=1)
        parts = [statistics.flatten(1)]
        for k, n in self.levels.items():
            category = batch.category[:, k]  # (B, T)
            counts = inside.new_zeros(inside.shape[0], n).scatter_add(1, category, inside)
            parts += [counts / n_steps, F.one_hot(category[:, -1], n).to(dtype)]
        return torch.cat(parts, dim=1)


def summary_columns(backbone: dict[str, Any]) -> EventColumns | PanelColumns:
    """The columns of the rows that a backbone with these keywords reads."""
    panel = backbone.get("panel")
    if panel is not None:
        return PanelColumns(backbone["n_codes"], panel.cardinalities, backbone["horizon"])
    known = backbone.get("n_fixed_codes") or backbone["n_codes"]  # before the vocabulary grew
    return EventColumns(
        backbone["n_codes"],
        backbone["n_categories"],
        backbone["horizon"],
        min(known, backbone["max_feature_patches"]),
        backbone.get("n_static_numeric", 0),
        backbone.get("static_cardinalities", ()),
    )


class Summary(nn.Module):
    """The columns of a row, standardised and cut off.

    Parameters
    ----------
    columns : EventColumns or PanelColumns
    scale : SummaryScale

    Raises
    ------
    ValueError
        The scale is that of other columns, or holds what no scale does.
    """

    center: Tensor
    weight: Tensor

    def __init__(self, columns: EventColumns | PanelColumns, scale: SummaryScale) -> None:
        super().__init__()
        if scale.center.shape != (columns.d_out,) or scale.weight.shape != (columns.d_out,):
            raise ValueError(
                f"Expected scales of {columns.d_out} columns. Got {scale.center.shape}."
            )
        if not (np.isfinite(scale.center).all() and np.isfinite(scale.weight).all()):
            raise ValueError("Expected finite centres and weights of columns. Got inf or NaN.")
        self.columns, self.d_out = columns, columns.d_out
        self.register_buffer("center", torch.tensor(scale.center))
        self.register_buffer("weight", torch.tensor(scale.weight))

    def forward(self, batch: EventBatch | PanelBatch) -> Tensor:
        """-> (B, d_out)."""
        with torch.no_grad():
            told = (self.columns(batch) - self.center) * self.weight
            return told.clamp(-FARTHEST, FARTHEST)


class SummaryHead(nn.Module):
    """Scores from a summary by many small networks that share most of their weights.

    BatchEnsemble (Wen, Tran & Ba, "BatchEnsemble", 2020) in the form of TabM (Gorishniy, Kotelnikov
    & Babenko, "TabM", 2025): each member multiplies what goes into a layer and what comes out of
    it by vectors of its own; each has its own loss.  At the input these vectors start as random
    signs for a random half of the columns, as random subspaces do (Ho, 1998).

    Parameters
    ----------
    d_in : int
    prior : (K,) tensor
        Scores to start from.
    n_members : int
    dropout, input_dropout : float
        Of hidden units, and of columns.
    d_hidden : int
    """

    def __init__(
        self,
        d_in: int,
        prior: Tensor,
        n_members: int,
        dropout: float,
        input_dropout: float,
        d_hidden: int = 128,
    ) -> None:
        super().__init__()
        self.input_dropout = input_dropout
        self.first = EnsembleLinear(n_members, d_in, d_hidden, subspaces=True)
        self.second = EnsembleLinear(n_members, d_hidden, d_hidden)
        self.dropout = nn.Dropout(dropout)
        self.scores = nn.Parameter(torch.zeros(n_members, d_hidden, len(prior)))
        self.bias = nn.Parameter(prior.to(self.scores).expand(n_members, 1, -1).clone())

    def forward(self, summary: Tensor) -> Tensor:
        """(B, d_in) -> (M, B, K)."""
        if self.training and self.input_dropout:  # what is left is not made larger
            summary = summary * (torch.rand_like(summary) >= self.input_dropout)
        x = self.dropout(self.first(summary).relu())
        x = self.dropout(self.second(x).relu())
        return torch.baddbmm(self.bias, x, self.scores)


class EnsembleLinear(nn.Module):
    """One linear layer for all members, and vectors of each on both sides of it.

    (B, d_in) or (M, B, d_in) -> (M, B, d_out).
    """

    def __init__(self, n_members: int, d_in: int, d_out: int, subspaces: bool = False) -> None:
        super().__init__()
        bound = max(d_in, 1) ** -0.5
        self.weight = nn.Parameter(torch.empty(d_out, d_in).uniform_(-bound, bound))
        before = torch.ones(n_members, 1, d_in)
        if subspaces:
            seen = torch.randint(0, 2, before.shape)
            before = (torch.randint(0, 2, before.shape) * 2.0 - 1.0) * seen * 2**0.5
        self.before = nn.Parameter(before)
        self.after = nn.Parameter(torch.ones(n_members, 1, d_out))
        self.bias = nn.Parameter(torch.zeros(n_members, 1, d_out))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x * self.before, self.weight) * self.after + self.bias
