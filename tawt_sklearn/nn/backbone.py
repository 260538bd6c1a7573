"""The transformer: events or panels in, an embedding for each row and patch out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from tawt_sklearn.nn.attention import TimeAwareAttention
from tawt_sklearn.nn.batch import EventBatch
from tawt_sklearn.nn.event_tokens import (
    EventTokens,
    PooledEvents,
    event_places,
    interleaved,
    lone_places,
    packed_with,
    side_by_side,
)
from tawt_sklearn.nn.packed import Packed
from tawt_sklearn.nn.padded import Padded, log_gap
from tawt_sklearn.nn.panel import PanelBatch
from tawt_sklearn.nn.panel_patching import ChannelPatches, PanelShape, TemporalStrides
from tawt_sklearn.nn.patching import FeaturePatches, Patches, Places, TemporalPatches
from tawt_sklearn.nn.static import StaticTokens
from tawt_sklearn.nn.time import Waves

Patching = Literal["dual", "time", "feature", "event"]


class RowDropout(nn.Module):
    """Dropout whose mask is drawn once for a row and shared by its tokens.

    Gal & Ghahramani, "A Theoretically Grounded Application of Dropout in Recurrent Neural
    Networks", 2016.  It drops the same features of every token, and drawing the mask costs
    almost nothing, where one for every token took a tenth of the training time.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor, packed: Packed | None = None) -> Tensor:
        """(B, P, D) or, packed, (N, D) tokens -> the same."""
        if not self.training or self.rate == 0:
            return x
        n_rows = len(x) if packed is None else len(packed.lengths)
        kept = torch.rand(n_rows, x.shape[-1], device=x.device) >= self.rate
        factor = (kept / (1 - self.rate)).to(x.dtype)
        return x * (factor.unsqueeze(1) if packed is None else factor[packed.row])


class Block(nn.Module):
    """Pre-norm transformer block; dropout on the residual branches only.

    Dropout inside the attention would force PyTorch's slow path on CPUs.
    """

    def __init__(self, d_model: int, n_heads: int, d_feedforward: int, dropout: float) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(d_model)
        self.attention = TimeAwareAttention(d_model, n_heads)
        self.norm_feedforward = nn.LayerNorm(d_model)
        self.feedforward = nn.Sequential(
            nn.Linear(d_model, d_feedforward), nn.GELU(), nn.Linear(d_feedforward, d_model)
        )
        self.dropout = RowDropout(dropout)

    def forward(self, x: Tensor, layout: Padded | Packed) -> Tensor:
        """(B, P, D) or, packed, (N, D) tokens -> the same."""
        packed = layout if isinstance(layout, Packed) else None
        x = x + self.dropout(self.attention(self.norm_attention(x), layout), packed)
        return x + self.dropout(self.feedforward(self.norm_feedforward(x)), packed)


class Encoded(NamedTuple):
    """What the backbone knows of each row."""

    cls: Tensor  # (B, D)
    static: Patches
    feature: Patches | None
    temporal: Patches | None
    unmixed: Patches | None  # feature patches as they went into the first block
    event: Tensor | None = None  # (E, D) tokens of events, where they have any


def joined(groups: Sequence[Patches]) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Tokens, times, whether a time means anything, and additive padding, of all groups in a row.

    -> (B, P, D), (B, P), (B, P) and (B, 1, 1, P), the last None where nothing is padding.
    """

    def default(group: Patches, name: str, value: float, dtype: torch.dtype) -> Tensor:
        given = getattr(group, name)
        return (
            group.tokens.new_full(group.tokens.shape[:2], value, dtype=dtype)
            if (given is None)
            else given
        )

    x = torch.cat([group.tokens for group in groups], dim=1)
    time = torch.cat([default(group, "time", 0.0, x.dtype) for group in groups], dim=1)
    timed = torch.cat([default(group, "timed", False, torch.bool) for group in groups], dim=1)
    if all(group.filled is None for group in groups):
        return x, time, timed, None
    filled = torch.cat([default(group, "filled", True, torch.bool) for group in groups], dim=1)
    padding = torch.zeros_like(time).masked_fill(~filled, -torch.inf)
    return x, time, timed, padding[:, None, None, :]


class DualPatchBackbone(nn.Module):
    """[CLS], static columns, feature patches and temporal patches through shared blocks.

    Or, with ``patching="event"``, a token for each event in place of the patches; its events are
    pooled into patches after the blocks, so that whatever comes next finds what it would.

    Parameters
    ----------
    n_codes, n_categories : int
        Size of the vocabulary, special tokens included, and number of categories of values; of
        panels the number of channels.
    window_edges : sequence of float
        Inner borders of the time windows, in time since the row's origin; in steps before the end
        of panels.
    horizon : float
        Length of a typical history, in the clock's unit.
    n_static_numeric : int
    static_cardinalities : sequence of int
    d_model, n_layers, n_heads, d_feedforward, dropout
        Shape of the transformer.
    max_feature_patches : int
        Above this many codes only those present in a row become tokens, at most this many.
    patching : {"dual", "time", "feature", "event"}
        Which patches, or else events, are the tokens.
    attention_window : int, optional
        How many places away an event sees other events.
    learned_time : bool
        Whether the frequencies of the time encoding are learned (Time2Vec) or fixed (sinusoidal).
    n_fixed_codes : int, optional
        Of a vocabulary that has grown: how many codes have tokens where they do not occur.  What
        came later takes part only where it occurs, so that nothing changes where it does not.
    panel : PanelShape, optional
        Makes the patches those of panels: the codes are channels, the windows strides.
    waves : Waves, optional
        Frequencies and phases that the time encoding starts from.

    Attributes
    ----------
    narrow : torch.dtype or None
        What the linear layers of the blocks compute in, if it is another type than that of
        statistics, embeddings, attention and heads.  Set by training; no part of the weights.
    """

    def __init__(
        self,
        *,
        n_codes: int,
        n_categories: int,
        window_edges: Sequence[float],
        horizon: float,
        n_static_numeric: int = 0,
        static_cardinalities: Sequence[int] = (),
        d_model: int = 48,
        n_layers: int = 2,
        n_heads: int = 4,
        d_feedforward: int = 96,
        dropout: float = 0.1,
        max_feature_patches: int = 128,
        patching: Patching = "dual",
        learned_time: bool = True,
        n_fixed_codes: int | None = None,
        panel: PanelShape | None = None,
        waves: Waves | None = None,
        attention_window: int | None = None,
    ) -> None:
        super().__init__()
        most = max_feature_patches if panel is None else n_codes
        self.places = Places.of(n_codes, most, n_fixed_codes)
        edges = torch.as_tensor(window_edges, dtype=torch.float32)
        self.cls = nn.Parameter(torch.randn(d_model) * 0.3)
        self.static = StaticTokens(n_static_numeric, static_cardinalities, d_model)
        self.feature_patches: nn.Module | None = None
        self.temporal_patches: nn.Module | None = None
        self.event_tokens: EventTokens | None = None
        self.pooled_events: PooledEvents | None = None
        self.attention_window = attention_window
        self.gap_scale = horizon / (len(edges) + 1)
        if patching == "event":
            self.event_tokens = EventTokens(
                n_codes, n_categories, d_model, horizon, self.gap_scale, learned_time, waves
            )
            self.pooled_events = PooledEvents(n_codes, d_model, edges, self.places)
        if patching in ("dual", "feature"):
            self.feature_patches = (
                FeaturePatches(n_codes, n_categories, d_model, horizon, self.places)
                if panel is None
                else ChannelPatches(n_codes, panel.cardinalities, d_model, horizon)
            )
        if patching in ("dual", "time"):
            self.temporal_patches = (
                TemporalPatches(n_codes, n_categories, d_model, edges, horizon, learned_time, waves)
                if panel is None
                else TemporalStrides(n_codes, panel, d_model, horizon, learned_time, waves)
            )
        self.blocks = nn.ModuleList(
            Block(d_model, n_heads, d_feedforward, dropout) for _ in range(n_layers)
        )
        self.norm = nn.LayerNorm(d_model)
        self.narrow: torch.dtype | None = None

    def compile_blocks(self) -> None:
        """Let torch compile the blocks, in place: their names and weights stay as they are.

        Of blocks over events only what is not attention, which is compiled already.
        """
        for block in self.blocks:
            assert isinstance(block, Block)
            if self.event_tokens is None:
                block.compile()
            else:
                block.feedforward.compile(dynamic=True)

    def forward(self, batch: EventBatch | PanelBatch, beside: Sequence[Patches] = ()) -> Encoded:
        """Patches of the events; tokens ``beside`` them take part, and are not given back."""
        cls = Patches(self.cls.expand(batch.n_rows, 1, -1))
        static = Patches(self.static(batch))
        if self.event_tokens is not None and isinstance(batch, EventBatch):
            return self.of_events(batch, torch.cat([cls.tokens, static.tokens], dim=1))
        feature = self.feature_patches(batch) if self.feature_patches else None
        temporal = self.temporal_patches(batch) if self.temporal_patches else None
        groups = [group for group in (cls, static, feature, temporal) if group is not None]

        x, time, timed, padding = joined([*groups, *beside])  # (B, P, D)
        x = self.mixed(x, Padded(log_gap(time, timed, self.gap_scale), padding))

        sizes = [group.tokens.shape[1] for group in groups]
        parts = x[:, : sum(sizes)].split(sizes, dim=1) if beside else x.split(sizes, dim=1)
        mixed = {id(g): g._replace(tokens=part) for g, part in zip(groups, parts, strict=True)}
        return Encoded(
            mixed[id(cls)].tokens.squeeze(1),
            mixed[id(static)],
            mixed.get(id(feature)),
            mixed.get(id(temporal)),
            unmixed=feature,
        )

    def mixed(self, x: Tensor, layout: Padded | Packed) -> Tensor:
        """(B, P, D) or (N, D) tokens through the blocks."""
        with torch.autocast(x.device.type, self.narrow, enabled=self.narrow is not None):
            for block in self.blocks:
                x = block(x, layout)
        return self.norm(x)

    def of_events(self, batch: EventBatch, lone: Tensor) -> Encoded:
        """Rows of (B, S, D) tokens without a time and one token for each event."""
        assert self.event_tokens is not None and self.pooled_events is not None
        events, pool = self.event_tokens(batch), self.pooled_events  # (E, D)
        if torch.compiler.is_exporting():
            apart = side_by_side(lone, batch, self.gap_scale, self.attention_window)
            x = self.mixed(torch.cat([lone.flatten(0, 1), events]).unsqueeze(0), apart).squeeze(0)
            n_lone = lone.shape[0] * lone.shape[1]
            first, mixed = x[:n_lone].view_as(lone), x[n_lone:]
        else:
            packed = packed_with(lone, batch, self.gap_scale, self.attention_window)
            x = self.mixed(interleaved(lone, events, batch, packed), packed)  # (N, D)
            first = x[lone_places(packed)].view_as(lone)
            mixed = x[event_places(batch, packed.n_untimed)]
        return Encoded(
            first[:, 0],
            Patches(first[:, 1:]),
            pool.by_code(batch, mixed),
            pool.by_window(batch, mixed),
            unmixed=pool.by_code(batch, events),
            event=mixed,
        )
