"""Learning without labels: objectives, mixtures of them, and the network they train."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tawt_sklearn.nn.backbone import DualPatchBackbone, Encoded
from tawt_sklearn.nn.batch import EventBatch
from tawt_sklearn.nn.beside import Beside
from tawt_sklearn.nn.coordinates import Coordinates
from tawt_sklearn.nn.panel import PanelBatch
from tawt_sklearn.nn.pooling import Pooling
from tawt_sklearn.nn.space import Space
from tawt_sklearn.objectives.contrastive import Contrastive
from tawt_sklearn.objectives.cross_modal import CrossModal
from tawt_sklearn.objectives.forecast import Forecast
from tawt_sklearn.objectives.masked import MaskedReconstruction

Batch = EventBatch | PanelBatch

Encode = Callable[[Batch], tuple[Encoded, Tensor]]
"""From the events that a task shows to patches and the embedding of each row (B, D)."""


class Objective(Protocol):
    """A way to learn without labels: a small frozen object that builds what it trains.

    Attributes
    ----------
    name : str
        What the parts of its loss are called after.
    """

    name: str

    def build(self, space: Space, d_model: int, d_embedding: int) -> nn.Module:
        """A module with ``forward(encode, batch) -> {part: loss}``.

        The losses are scalars, already multiplied with the objective's own weights: their sum is
        what is minimised.  ``encode`` runs the network that is being trained; where the objective
        has ``apart = True`` it gives the embedding of the events alone (B, d_embedding) and that of
        each modality in ``space.beside`` (B, d_model), each with whether rows have it (B,).
        """


OBJECTIVES: dict[str, Callable[[], Objective]] = {
    "masked": MaskedReconstruction,
    "contrastive": Contrastive,
    "cross_modal": CrossModal,
    "forecast": Forecast,
}
"""Objectives that have a name."""

Weighted = tuple[Objective, float]


def mixture(objective: Any) -> tuple[Weighted, ...]:
    """What ``objective=`` of the encoder means.

    Parameters
    ----------
    objective : str, Objective, or mapping of these to weights

    Raises
    ------
    ValueError
        An unknown name, something that builds nothing, or a weight that is no positive number.
    """
    given = objective.items() if isinstance(objective, Mapping) else [(objective, 1.0)]
    parts = [(_objective(one), _weight(one, weight)) for one, weight in given]
    if not parts:
        raise ValueError("Expected at least one objective. Got an empty mapping.")
    names = [one.name for one, _ in parts]
    if len(set(names)) < len(names):
        raise ValueError(
            f"Expected objectives with different names. Got {names}: give one of them another "
            "name (dataclasses.replace, where it has a field of that name)."
        )
    return tuple(parts)


def _objective(given: Any) -> Objective:
    if isinstance(given, str) and given in OBJECTIVES:
        return OBJECTIVES[given]()
    if isinstance(given, str) or isinstance(given, type) or not hasattr(given, "build"):
        raise ValueError(
            f"Expected objective to be one of {sorted(OBJECTIVES)}, an objective such as "
            f"MaskedReconstruction(), or a mapping of these to weights. Got {given!r}."
        )
    name = getattr(given, "name", None)
    if not isinstance(name, str):
        raise ValueError(f"Expected an objective to have a name. Got {given!r} without one.")
    if not name.isidentifier() or hasattr(nn.ModuleDict, name):  # torch keeps its module under it
        raise ValueError(
            "Expected the name of an objective to be a word of letters, digits and underscores "
            f"that torch.nn.ModuleDict does not use itself. Got {name!r}: choose another one."
        )
    return given


def _weight(one: Any, weight: Any) -> float:
    number = isinstance(weight, Real) and not isinstance(weight, bool)  # numpy's are Real, too
    if not number or not 0 < weight < float("inf"):
        raise ValueError(
            f"Expected weights of objectives to be positive numbers. Got {weight!r} for {one!r}."
        )
    return float(weight)


class Pretrainer(nn.Module):
    """A backbone, the embedding of its rows, and the objectives that train both.

    With ``pooling="codes"`` the objectives, which want something narrow, see a codewise embedding.

    Parameters
    ----------
    objectives : sequence of (Objective, float)
    pooling : str
        One of :data:`~tawt_sklearn.nn.pooling.POOLINGS`.
    d_embedding : int
        Width of the codewise embedding.
    scaling : str
        One of :data:`~tawt_sklearn.nn.pooling.SCALINGS`.
    category_offsets : sequence of int, (V + 1,)
        Of :class:`~tawt_sklearn.nn.space.Space`.
    backbone : dict
        Keywords of :class:`DualPatchBackbone`.
    modalities : mapping of names to Modality, optional
        Fitted; what stands beside the events.
    fusion : str
        How they come together with the events.
    modality_dropout : float
        Share of rows from which a modality is hidden in a training step.

    Attributes
    ----------
    coordinates : Coordinates
        In which embeddings are given; the objectives do not see them.
    parts : list of Coordinates
        The same for the embeddings of the events alone and of each modality.
    """

    def __init__(
        self,
        *,
        objectives: Sequence[Weighted],
        pooling: str,
        d_embedding: int,
        scaling: str,
        category_offsets: Sequence[int],
        backbone: dict[str, Any],
        modalities: Mapping[str, Any] | None = None,
        fusion: str = "concat",
        modality_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.space = Space(
            backbone["n_codes"],
            category_offsets,
            backbone["window_edges"],
            backbone["horizon"],
            from_end=backbone.get("panel") is not None,
            beside=tuple(modalities or ()),
        )
        self.backbone = DualPatchBackbone(**backbone)
        d_model = backbone["d_model"]
        shape = (backbone["n_codes"], self.backbone.places.n_usual, d_model)
        patching = backbone.get("patching", "dual")
        self.pooling = Pooling(pooling, *shape, patching, d_embedding)
        if pooling == "codes":
            self.codewise = Pooling("codewise", *shape, patching, d_embedding)
        self.beside: Beside | None = None
        d_row = d_told = self.narrow.d_out  # of the events alone, and of what objectives see
        self.d_out = self.pooling.d_out
        if modalities:
            self.beside = Beside(modalities, fusion, modality_dropout, d_row, backbone)
            self.d_out = d_told = self.beside.d_out
        self.apart = {one.name for one, _ in objectives if getattr(one, "apart", False)}
        widths = {one.name: d_row if one.name in self.apart else d_told for one, _ in objectives}
        self.tasks = nn.ModuleDict(
            {one.name: one.build(self.space, d_model, widths[one.name]) for one, _ in objectives}
        )
        self.weights = {one.name: weight for one, weight in objectives}
        self.coordinates = self.pooling.coordinates(scaling, self.d_out)
        each = [d_row, *(d_model for _ in self.space.beside)] if modalities else []
        self.parts = nn.ModuleList(Coordinates(d, turning=False) for d in each)

    @property
    def only_compares(self) -> bool:
        """Whether all objectives compare rows with each other, and one row says nothing."""
        return all(getattr(task, "only_compares", False) for task in self.tasks.values())

    @property
    def narrow(self) -> Pooling:
        """The embedding that the objectives see."""
        return self.codewise if self.pooling.how == "codes" else self.pooling

    def encode(self, batch: Batch) -> tuple[Encoded, Tensor]:
        """Patches, and what the objectives see as the embedding of each row."""
        if self.beside is not None and isinstance(batch, EventBatch):
            return self.beside(batch, self.backbone, self.narrow)
        encoded = self.backbone(batch)
        return encoded, self.narrow(encoded)

    def encode_apart(self, batch: Batch) -> list[tuple[Tensor, Tensor]]:
        """Embeddings of the events alone and of each modality, and which rows have them."""
        assert self.beside is not None and isinstance(batch, EventBatch)
        return self.beside.apart(batch, self.backbone, self.narrow)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Parts of the loss, by name; their sum is what is minimised."""
        parts: dict[str, Tensor] = {}
        for name, task in self.tasks.items():
            encode: Any = self.encode_apart if name in self.apart else self.encode
            for part, loss in task(encode, batch).items():
                title = name if part == name else f"{name}_{part}"
                if title in parts or title == "loss":
                    raise ValueError(
                        f"Expected parts of the loss with names of their own. Got {title!r} twice "
                        "or in place of the total. Rename the objective or its part."
                    )
                parts[title] = self.weights[name] * loss
        if not parts:
            raise ValueError("Expected objectives to return parts of a loss. Got none.")
        return parts

    def embed(self, batch: Batch) -> Tensor:
        """What ``transform`` gives.  -> (B, d_out)."""
        return self.coordinates(self.whole(batch))

    def whole(self, batch: Batch) -> Tensor:
        """The same before it is scaled."""
        if self.beside is not None:
            return self.encode(batch)[1]
        return self.pooling(self.backbone(batch))

    def weigh(self, batch: Batch) -> Tensor | None:
        """What the events and each modality weigh in each row (B, M); None without a gate."""
        if self.beside is None or not isinstance(batch, EventBatch):
            return None
        return self.beside.weights(batch, self.backbone, self.narrow)

    def embed_each(self, batch: Batch) -> Tensor:
        """Embeddings of the events alone, of each modality, and the fused one, side by side."""
        each = zip(self.parts, self.encode_apart(batch), strict=True)
        return torch.cat([*(to(z) for to, (z, _) in each), self.embed(batch)], dim=1)


class SumOfParts(nn.Module):
    """The criterion of pretraining: the network has computed the parts of its loss itself."""

    def forward(self, parts: dict[str, Tensor], truth: Any) -> Tensor:
        return torch.stack([*parts.values()]).sum()
