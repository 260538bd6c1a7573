"""Networks with their final answers, from plain tensors: what an exported graph is traced from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tawt_sklearn.nn.batch import EventBatch
from tawt_sklearn.nn.panel import PanelBatch

Batch = EventBatch | PanelBatch


class Probabilities(nn.Module):
    """What a classifier's networks say together.  -> (B, K), or (B, T, K) of steps.

    Parameters
    ----------
    members : sequence of nn.Module
        From batches to scores.
    temperature : float
    several : bool
        Whether a row may have several labels, each with a probability of its own.
    """

    def __init__(self, members: Sequence[nn.Module], temperature: float, several: bool) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.temperature, self.several = temperature, several

    def forward(self, batch: Batch) -> Tensor:
        scores = torch.stack([member(batch) for member in self.members])  # (M, B, K)
        if self.several:
            return (scores.mean(0) / self.temperature).sigmoid()
        return (scores.log_softmax(-1).mean(0) / self.temperature).softmax(-1)


class Numbers(nn.Module):
    """What a regressor's networks say together, in the unit of the labels, in double precision.

    -> (B, K), or (B,) where there is one number for each row; (B, T) of steps.

    Parameters
    ----------
    members : sequence of nn.Module
        From batches to scores.
    center, scale : sequence of float, (K,)
        Of the labels.
    single : bool
        Whether the last axis is left out.
    """

    center: Tensor
    scale: Tensor

    def __init__(
        self,
        members: Sequence[nn.Module],
        center: Sequence[float],
        scale: Sequence[float],
        single: bool,
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.single = single
        self.register_buffer("center", torch.tensor(center, dtype=torch.float64))
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float64))

    def forward(self, batch: Batch) -> Tensor:
        scores = torch.stack([member(batch) for member in self.members])  # (M, B, K)
        numbers = scores.mean(0).double() * self.scale + self.center
        return numbers[..., 0] if self.single else numbers


class Embeddings(nn.Module):
    """What an encoder says.  -> (B, d_out)."""

    def __init__(self, backbone: nn.Module, pooling: nn.Module, coordinates: nn.Module) -> None:
        super().__init__()
        self.backbone, self.pooling, self.coordinates = backbone, pooling, coordinates

    def forward(self, batch: Batch) -> Tensor:
        return self.coordinates(self.pooling(self.backbone(batch)))


class OfEvents(nn.Module):
    """An answer to the fields of an :class:`EventBatch`."""

    def __init__(self, answer: nn.Module) -> None:
        super().__init__()
        self.answer = answer

    def forward(
        self,
        row: Tensor,
        code: Tensor,
        value: Tensor,
        observed: Tensor,
        category: Tensor,
        time: Tensor,
        age: Tensor,
        static_numeric: Tensor,
        static_category: Tensor,
    ) -> Tensor:
        fields = (row, code, value, observed, category, time, age, static_numeric, static_category)
        return self.answer(EventBatch(*fields))


class OfPanels(nn.Module):
    """An answer to the fields of a :class:`PanelBatch`."""

    def __init__(self, answer: nn.Module) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, value: Tensor, observed: Tensor, category: Tensor, time: Tensor) -> Tensor:
        return self.answer(PanelBatch(value, observed, category, time))
