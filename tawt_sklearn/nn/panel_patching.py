"""The two kinds of patches of a panel: all steps of one channel, and a stretch of all channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tawt_sklearn.nn.panel import PanelBatch
from tawt_sklearn.nn.panel_statistics import (
    PANEL_STATISTICS,
    channel_statistics,
    level_columns,
    n_channel_statistics,
)
from tawt_sklearn.nn.patching import Patches
from tawt_sklearn.nn.statistics import half_lives
from tawt_sklearn.nn.time import Time2Vec, Waves

FINEST = 8
"""A stride of more steps than this is told in bins of several steps each."""

D_CATEGORY = 8
"""Width in which categories enter temporal patches."""


@dataclass(frozen=True)
class Strides:
    """Where the temporal patches of a panel lie; steps count from the end.

    Patch ``p`` holds the steps that are ``p * stride`` to before ``p * stride + length`` steps old.

    Attributes
    ----------
    stride, length : int
        In steps.
    bin : int
        Steps that are averaged before a patch looks at them; a divisor of both.
    """

    stride: int
    length: int
    bin: int

    @classmethod
    def of(cls, stride: int, length: int | None = None) -> Strides:
        """Patches twice as long as their stride, unless told otherwise; rounded up to bins."""
        width = -(-stride // FINEST)
        stride = -(-stride // width) * width
        length = 2 * stride if length is None else max(-(-length // width) * width, stride)
        return cls(stride, length, width)

    def n_patches(self, n_steps: int) -> int:
        """Patches that cover a series."""
        return (n_steps + self.stride - 1) // self.stride


@dataclass(frozen=True)
class PanelShape:
    """What the network has to know of panels.

    Attributes
    ----------
    strides : tuple of (stride, length)
        In steps, one pair for each granularity of temporal patches, the finest first.
    cardinalities : tuple of int
        Codes of each of the last channels, which are categorical.
    """

    strides: tuple[tuple[int, int], ...]
    cardinalities: tuple[int, ...]


class TemporalStrides(nn.Module):
    """Temporal patches of one or several granularities, the finest first.

    Parameters
    ----------
    n_channels : int
    shape : PanelShape
    d_model : int
    horizon : float
    learned_time : bool
    waves : Waves, optional
    """

    def __init__(
        self,
        n_channels: int,
        shape: PanelShape,
        d_model: int,
        horizon: float,
        learned_time: bool,
        waves: Waves | None = None,
    ) -> None:
        super().__init__()
        self.strides = [Strides.of(stride, length) for stride, length in shape.strides]
        self.granularities = nn.ModuleList(
            StridedPatches(
                n_channels, shape.cardinalities, d_model, kind, horizon, learned_time, waves
            )
            for kind in self.strides
        )

    def n_patches(self, n_steps: int) -> int:
        """Patches of all granularities that cover a series."""
        return sum(kind.n_patches(n_steps) for kind in self.strides)

    def forward(self, batch: PanelBatch) -> Patches:
        return together([patches(batch) for patches in self.granularities])


def together(kinds: Sequence[Patches]) -> Patches:
    """Patches of several kinds, all of which have a time and may be padding, as one."""
    if len(kinds) == 1:
        return kinds[0]
    tokens, time, timed, filled = (
        torch.cat([getattr(kind, name) for kind in kinds], dim=1)
        for name in ("tokens", "time", "timed", "filled")
    )
    return Patches(tokens, time, timed, filled)


class StepFeatures(nn.Module):
    """A step in numbers: values, where they are missing, and a sum of embedded categories.

    Parameters
    ----------
    n_channels : int
    cardinalities : sequence of int
        Codes of each of the last channels, which are categorical.
    """

    def __init__(self, n_channels: int, cardinalities: Sequence[int]) -> None:
        super().__init__()
        self.n_numeric = n_channels - len(cardinalities)
        self.d_out = 2 * self.n_numeric
        self.categories = None
        if cardinalities:
            self.categories = CategoryTable(cardinalities, D_CATEGORY)
            self.d_out += D_CATEGORY

    def forward(self, batch: PanelBatch) -> Tensor:
        """-> (B, d_out, T); zeros before the first step of a row."""
        N = self.n_numeric
        missing = batch.inside & ~batch.observed[:, :N]
        parts = [batch.value[:, :N], missing.to(batch.value.dtype)]
        if self.categories is not None:
            embedded = self.categories(batch.category).sum(1)  # (B, T, D_CATEGORY)
            parts.append((embedded * batch.inside.transpose(1, 2)).transpose(1, 2))
        return torch.cat(parts, dim=1)


def stretches(x: Tensor, strides: Strides, n_patches: int) -> Tensor:
    """(B, K, T) cut into as many patches as cover it, zeros before it, each averaged in bins.

    -> (B, K, P, taps), the oldest patch first.
    """
    T, P = x.shape[2], n_patches
    stride, length, width = strides.stride, strides.length, strides.bin
    if torch.compiler.is_exporting():  # neither the padding nor the windows may depend on T
        first = T + stride - stride * torch.arange(P - 1, -1, -1, device=x.device)
        step = first.unsqueeze(1) + torch.arange(length, device=x.device)  # (P, length)
        x = F.pad(x, (length + stride, 0))[:, :, step]
        return x.unflatten(3, (length // width, width)).mean(4)
    x = F.pad(x, (P * stride + length - stride - T, 0))
    if width > 1:
        x = x.unflatten(2, (-1, width)).mean(3)
    return x.unfold(2, length // width, stride // width)


class StridedPatches(nn.Module):
    """One token for each stretch of time: what all channels were, and where they were missing.

    Parameters
    ----------
    n_channels : int
    cardinalities : sequence of int
        Codes of each of the last channels, which are categorical.
    d_model : int
    strides : Strides
    horizon : float
        Steps of a typical series, less one.  As many places of patches as it takes have an
        embedding; older ones share the last.
    learned_time : bool
    waves : Waves, optional
    """

    def __init__(
        self,
        n_channels: int,
        cardinalities: Sequence[int],
        d_model: int,
        strides: Strides,
        horizon: float,
        learned_time: bool = True,
        waves: Waves | None = None,
    ) -> None:
        super().__init__()
        self.strides = strides
        self.n_places = strides.n_patches(int(horizon) + 1)
        self.features = StepFeatures(n_channels, cardinalities)
        taps = strides.length // strides.bin
        self.embed = nn.Linear(self.features.d_out * taps, d_model)
        shortest = 2.0 * strides.stride
        self.time_encoding = Time2Vec(d_model, shortest, 2 * horizon, learned_time, waves)
        self.place = nn.Parameter(torch.randn(self.n_places, d_model) * 0.3)
        self.mix = nn.Sequential(
            nn.LayerNorm(d_model),
            nn.Linear(d_model, d_model),
            nn.GELU(),
            nn.Linear(d_model, d_model),
        )

    def forward(self, batch: PanelBatch) -> Patches:
        stride = self.strides.stride
        P = self.strides.n_patches(batch.n_steps)
        if torch.compiler.is_exporting():
            P = P + 1  # one that is padding: graphs of one patch are others than graphs of several
        x = stretches(self.features(batch), self.strides, P)  # (B, K, P, taps)
        tokens = self.embed(x.transpose(1, 2).flatten(2)).flip(1)  # (B, P, D), most recent first
        oldest = torch.arange(P, device=batch.device)
        newest_time = batch.time[:, 0, -1:]  # (B, 1)
        middle = newest_time - stride * oldest - (stride - 1) / 2
        filled = newest_time >= stride * oldest  # (B, P)
        time = middle.clamp(min=0)
        tokens = tokens + self.time_encoding(time) + self.place[oldest.clamp(max=self.n_places - 1)]
        tokens = tokens + self.mix(tokens)
        return Patches(tokens, time, filled, filled)


class CategoryTable(nn.Module):
    """Embeddings of the codes of several categorical channels, in one table.

    Parameters
    ----------
    cardinalities : sequence of int
        Codes of each channel.
    """

    first: Tensor

    def __init__(self, cardinalities: Sequence[int], d_out: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(sum(cardinalities), d_out)
        nn.init.normal_(self.embedding.weight, std=0.3)
        first = torch.tensor([0, *cardinalities[:-1]]).cumsum(0)
        self.register_buffer("first", first.view(1, -1, 1))

    def forward(self, category: Tensor) -> Tensor:
        """(B, K, T) codes -> (B, K, T, d_out)."""
        return self.embedding(category + self.first)

    def counts(self, category: Tensor, inside: Tensor) -> Tensor:
        """How many steps of a row have each code of each channel.  -> (B, K, codes)."""
        B, K, T = category.shape
        flat = (category + self.first).flatten(1)  # (B, K T)
        ones = inside.expand(B, K, T).flatten(1).to(self.embedding.weight.dtype)
        counts = ones.new_zeros(B, self.embedding.num_embeddings).scatter_add(1, flat, ones)
        codes = torch.arange(self.embedding.num_embeddings, device=category.device)
        owner = (codes.unsqueeze(0) >= self.first.view(-1, 1)).sum(0) - 1
        mine = owner.unsqueeze(0) == torch.arange(K, device=category.device).unsqueeze(1)
        return counts.unsqueeze(1) * mine


class ChannelPatches(nn.Module):
    """One token for each channel: exact statistics of its whole series, and how it went.

    The map from statistics to tokens is shared by all channels, and then scaled and shifted for
    each.  A categorical channel is told by the shares of its codes and by the last one.
    """

    def __init__(
        self,
        n_channels: int,
        cardinalities: Sequence[int],
        d_model: int,
        horizon: float,
        n_half_lives: int = 3,
    ) -> None:
        super().__init__()
        self.n_numeric, self.horizon = n_channels - len(cardinalities), horizon
        self.log_half_life = nn.Parameter(half_lives(horizon + 1, n_half_lives).log())
        self.level_columns = level_columns(n_half_lives)
        self.n_levels = len(self.level_columns)
        self.shared = nn.Linear(n_channel_statistics(n_half_lives), d_model, bias=False)
        self.scale = nn.Embedding(n_channels, d_model)
        self.shift = nn.Embedding(n_channels, d_model)
        nn.init.normal_(self.scale.weight, std=0.3)
        nn.init.normal_(self.shift.weight, std=0.5)
        # Not random: a channel may be missing in prediction only, and have taught nothing.
        self.absent = nn.Parameter(torch.zeros(n_channels, d_model))
        self.share = self.newest = None
        if cardinalities:
            self.share = CategoryTable(cardinalities, d_model)
            self.newest = CategoryTable(cardinalities, d_model)

    def forward(self, batch: PanelBatch) -> Patches:
        N = self.n_numeric
        code = torch.arange(batch.n_channels, device=batch.device).unsqueeze(0)
        statistics = channel_statistics(batch, self.log_half_life.exp(), self.horizon)
        tokens = self.shared(statistics) * (1 + self.scale(code[:, :N]))
        occurs = batch.observed[:, :N].any(2)
        newest = batch.time[:, :, -1]  # (B, 1)
        age = statistics[..., PANEL_STATISTICS.index("last_age")].detach() * self.horizon
        time = (newest - age).clamp(min=0)
        if self.share is not None and self.newest is not None:
            counts = self.share.counts(batch.category, batch.inside)
            shares = counts / batch.inside.sum(2, keepdim=True).clamp(min=1)
            named = shares @ self.share.embedding.weight
            named = named + self.newest(batch.category[:, :, -1:]).squeeze(2)
            tokens = torch.cat([tokens, named], dim=1)
            occurs = torch.cat([occurs, (batch.category > 0).any(2)], dim=1)
            time = torch.cat([time, newest.clamp(min=0).expand(-1, named.shape[1])], dim=1)
        tokens = torch.where(occurs.unsqueeze(-1), tokens, self.absent) + self.shift(code)
        levels = statistics[..., [*self.level_columns]]
        return Patches(tokens, time, occurs, None, code, levels)
