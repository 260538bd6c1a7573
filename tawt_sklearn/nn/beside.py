"""The network beside the events: tokens of each modality, and their fusion with the events."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tawt_sklearn.exceptions import DataError
from tawt_sklearn.nn.backbone import DualPatchBackbone, Encoded
from tawt_sklearn.nn.batch import EventBatch
from tawt_sklearn.nn.fusion import FUSIONS, GatedFusion, Readout, Seen
from tawt_sklearn.nn.items import Items
from tawt_sklearn.nn.patching import Patches
from tawt_sklearn.nn.pooling import mean_token
from tawt_sklearn.nn.time import Time2Vec

FEW_SIZES = 16
"""In training items come in multiples of so many: with a batch of another size in every step, as
many as have not been hidden, the C library's memory falls to pieces (peak of 640 images of 64 x 64
pixels over 280 steps: 1,245 MiB; with batches of one size 770)."""


AT_ONCE = {"cpu": 16, "other": 64}
"""Items that go through their network at once where it keeps nothing for gradients: as many in any
case, so that memory does not grow with the items of a row."""


class ItemTokens(nn.Module):
    """From the items of one modality to tokens of the rows they belong to.

    Parameters
    ----------
    modality : Modality
        Fitted; builds the network of its items.
    d_model : int
    shortest, longest : float
        Periods of the time encoding, in the clock's unit.
    freeze : bool
        Whether the network of the items, or its part ``backbone`` where it has one, stays as it is.
    """

    def __init__(
        self, modality: Any, d_model: int, shortest: float, longest: float, freeze: bool
    ) -> None:
        super().__init__()
        self.encoder = modality.build(d_model)
        self.norm = nn.LayerNorm(d_model)
        self.missing = nn.Parameter(torch.randn(d_model) * 0.3)
        self.time_encoding = Time2Vec(d_model, shortest, longest)
        self.frozen = freeze
        self.learn(True)

    @property
    def kept(self) -> nn.Module:
        """What stays as it is where something does."""
        backbone = getattr(self.encoder, "backbone", None)
        return backbone if isinstance(backbone, nn.Module) else self.encoder

    def learn(self, on: bool) -> None:
        """Whether training changes the weights; not those that stay as they are, in any case."""
        self.requires_grad_(on)
        if self.frozen:
            self.kept.requires_grad_(False)

    def train(self, mode: bool = True) -> ItemTokens:
        """As in torch; what stays as it is drops nothing and learns no running means either."""
        super().train(mode)
        if self.frozen:
            self.kept.eval()
        return self

    def encoded(self, items: Items) -> Tensor:
        """(N, K, D): all at once where gradients are wanted, else a few at a time.

        Raises
        ------
        TypeError
            The network of the modality gives something else.
        """
        size = AT_ONCE["cpu" if self.missing.device.type == "cpu" else "other"]
        if self.training and not self.frozen:
            size = len(items)
        parts = [self.encoder(part) for part in items.in_parts(size, self.missing.dtype)]
        D = len(self.missing)
        n = [min(size, len(items) - first) for first in range(0, len(items), size)]
        for part, wanted in zip(parts, n, strict=True):
            shape = tuple(part.shape) if isinstance(part, Tensor) else f"a {type(part).__name__}"
            if not isinstance(part, Tensor) or part.ndim != 3 or shape[::2] != (wanted, D):
                raise TypeError(
                    f"Expected tokens of shape (n_items, n_tokens, {D}) from the module of "
                    f"build() of a modality. Got {shape} for {wanted} items."
                )
        return torch.cat(parts)

    def forward(self, items: Items | None, n_rows: int) -> Seen:
        missing = self.missing
        if items is None or not len(items):
            tokens = missing.expand(n_rows, 1, -1)
            there = torch.zeros(n_rows, dtype=torch.bool, device=missing.device)
            patches = Patches(tokens, filled=~there.unsqueeze(1))
            return Seen(patches, self.norm(tokens[:, 0]), there, None)
        if self.training or missing.dtype != torch.float64:
            items = items.padded(FEW_SIZES)
        encoded, row, time = self.norm(self.encoded(items)), items.row, items.time
        if (row < 0).any():
            own = row >= 0
            encoded, row, time = encoded[own], row[own], time[own]
        timed, time = ~time.isnan(), time.nan_to_num(0.0)
        encoded = encoded + (self.time_encoding(time) * timed.unsqueeze(1)).unsqueeze(1)

        count = torch.bincount(row, minlength=n_rows)
        place = torch.arange(len(row), device=row.device) - (count.cumsum(0) - count)[row]
        B, M, K = n_rows, int(count.max()), encoded.shape[1]

        def spread(flat: Tensor) -> Tensor:
            """(N, ...) of items -> (B, M, ...) of rows."""
            return flat.new_zeros(B, M, *flat.shape[1:]).index_put((row, place), flat)

        there = count > 0
        tokens = spread(encoded).flatten(1, 2)  # (B, M * K, D)
        first = torch.where(there.unsqueeze(1), tokens[:, 0], missing)
        tokens = torch.cat([first.unsqueeze(1), tokens[:, 1:]], dim=1)
        filled = spread(torch.ones_like(row, dtype=torch.bool)).repeat_interleave(K, dim=1)
        filled = torch.cat([torch.ones_like(filled[:, :1]), filled[:, 1:]], dim=1)
        patches = Patches(tokens, filled=filled)
        stream = None
        if timed.any():
            has_time = spread(timed)
            stream = Patches(spread(encoded.mean(1)), spread(time), has_time, filled=has_time)
        return Seen(patches, self.norm(mean_token(patches)), there, stream)


def item_tokens(modality: Any, backbone: dict[str, Any], freeze: bool) -> ItemTokens:
    """The tokens of one modality beside a :class:`DualPatchBackbone` of these keywords."""
    horizon = backbone["horizon"]
    shortest = horizon / (len(backbone["window_edges"]) + 1)
    return ItemTokens(modality, backbone["d_model"], shortest, 2 * horizon, freeze)


class Beside(nn.Module):
    """All modalities of a row, and their fusion with its events.

    Parameters
    ----------
    modalities : mapping of columns to Modality
    fusion : str
        One of :data:`~tawt_sklearn.nn.fusion.FUSIONS`.
    dropout : float
        Share of rows from which a modality is hidden in a training step, each by itself.
    d_row : int
        Width of the embedding of the events.
    backbone : dict
        Keywords of :class:`DualPatchBackbone`.
    """

    def __init__(
        self,
        modalities: Mapping[str, Any],
        fusion: str,
        dropout: float,
        d_row: int,
        backbone: dict[str, Any],
    ) -> None:
        super().__init__()
        self.names = tuple(modalities)
        self.dropout = dropout
        self.encoders = nn.ModuleList(
            item_tokens(modality, backbone, modality.freeze) for modality in modalities.values()
        )
        d_model, n_heads = backbone["d_model"], backbone.get("n_heads", 4)
        self.fusion = FUSIONS[fusion](d_row, d_model, len(self.names), n_heads)
        self.d_out = self.fusion.d_out

    def learn(self, on: bool) -> None:
        """Whether training changes the weights, but for those that stay as they are."""
        self.fusion.requires_grad_(on)
        for encoder in self.encoders:
            assert isinstance(encoder, ItemTokens)
            encoder.learn(on)

    def seen(self, batch: EventBatch) -> list[Seen]:
        """What each modality says of the rows; in training some of them are hidden."""
        told = []
        for name, encoder in zip(self.names, self.encoders, strict=True):
            items = batch.beside.get(name)
            if self.training and self.dropout and items is not None:
                shown = torch.rand(len(batch), device=batch.device) >= self.dropout
                items = items.of_rows(shown)
            told.append(encoder(items, len(batch)))
        return told

    def beside_items(
        self, batch: EventBatch, backbone: DualPatchBackbone, seen: Sequence[Seen]
    ) -> Encoded:
        """Patches of the events, which items with a time have joined.

        Raises
        ------
        DataError
            They cannot: single events are the tokens.
        """
        streams = [one.stream for one in seen if one.stream is not None]
        if streams and backbone.event_tokens is not None:
            name = next(n for n, one in zip(self.names, seen, strict=True) if one.stream)
            raise times_of_items(name)
        return backbone(batch, streams)

    def forward(
        self, batch: EventBatch, backbone: DualPatchBackbone, readout: Readout
    ) -> tuple[Encoded, Tensor]:
        """Patches of the events, and the fused embedding (B, d_out)."""
        seen = self.seen(batch)
        encoded = self.beside_items(batch, backbone, seen)
        return encoded, self.fusion(encoded, readout, seen)

    def apart(
        self, batch: EventBatch, backbone: DualPatchBackbone, readout: Readout
    ) -> list[tuple[Tensor, Tensor]]:
        """Embeddings of the events alone and of each modality, and which rows have them (B,)."""
        seen = self.seen(batch)
        return [(readout(backbone(batch)), batch.has_events), *((s.pooled, s.there) for s in seen)]

    @property
    def has_gate(self) -> bool:
        """Whether the fusion has weights that can be read."""
        return isinstance(self.fusion, GatedFusion)

    def weights(
        self, batch: EventBatch, backbone: DualPatchBackbone, readout: Readout
    ) -> Tensor | None:
        """What the events and each modality weigh in each row (B, M); None without a gate."""
        if not isinstance(self.fusion, GatedFusion):
            return None
        seen = self.seen(batch)
        encoded = self.beside_items(batch, backbone, seen)
        return self.fusion.weighed(encoded, readout, seen)[1].mean(2)


def times_of_items(column: Hashable) -> DataError:
    """The error for items with a time where they have nothing to join."""
    return DataError(
        f'Expected patching="dual", "time" or "feature" where items of column {column!r} have '
        'times. Got "event". Give items without times, or choose other patches.'
    )
