"""Masked reconstruction: hide part of a history, rebuild it from the rest."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tawt_sklearn.nn.batch import EventBatch
from tawt_sklearn.nn.decoder import EventDecoder, SummaryDecoder
from tawt_sklearn.nn.panel import PanelBatch
from tawt_sklearn.nn.space import Space
from tawt_sklearn.objectives.masking import (
    Hidden,
    HideCodes,
    HideEvents,
    HideRuns,
    HideWindows,
    Mask,
    as_parts,
    hide,
)
from tawt_sklearn.objectives.summary import summary_targets, summary_width

MAX_SCORED = 512
"""Codes that are scored in one step, where the vocabulary is larger: those of the batch and others
drawn at random."""


@dataclass(frozen=True)
class MaskedReconstruction:
    """Rebuild what masks have hidden.

    Each row loses single events, whole windows of time and whole codes; a panel loses a stretch of
    time of each channel, or of all at once, and whole channels.  What remains, with statistics
    computed from it alone, has to tell

    - the *values* of hidden events, from the patches of their code and window;
    - their *categories*, where they have some;
    - the *code* of events that were hidden one by one (not of panels, where it is no question);
    - *presence*: whether a code was measured in a window, where either was hidden;
    - a *summary*: the statistics of each code over the whole history, hidden events included,
      from the embedding of the row alone.  It is what makes an embedding hold a history.

    ``benchmarks/quality/pretraining.py`` leaves out one part or one mask after the other.

    Parameters
    ----------
    masks : tuple of masks, optional
        What to hide; see :mod:`tawt_sklearn.objectives.masking`.  None is ``(HideEvents(),
        HideWindows(), HideCodes())`` for events and ``(HideRuns(), HideCodes())`` for panels.
    error : {"huber", "squared"}, default="huber"
        Of scaled values; Huber's is linear beyond 1.
    value, category, code, presence, summary : float
        Weights of the parts; 0 leaves one out.
    n_decoded : int, default=2048
        Hidden events of a batch that are rebuilt in a step; drawn at random where there are more.

    References
    ----------
    Labach et al., "DuETT: Dual Event Time Transformer for Electronic Health Records", 2023, hide
    windows and variables, and rebuild values and presence.
    """

    masks: tuple[Mask, ...] | None = None
    error: Literal["huber", "squared"] = "huber"
    value: float = 0.2
    category: float = 0.2
    code: float = 0.02
    presence: float = 0.1
    summary: float = 1.0
    n_decoded: int = 2048

    name = "masked"

    def __post_init__(self) -> None:
        if self.masks is not None:
            object.__setattr__(self, "masks", as_parts("masks", self.masks))
        if self.error not in ("huber", "squared"):
            raise ValueError(f'Expected error to be "huber" or "squared". Got {self.error!r}.')
        weights = (self.value, self.category, self.code, self.presence, self.summary)
        if min(weights) < 0 or not max(weights) > 0:
            raise ValueError(f"Expected weights of 0 or more, one of them positive. Got {weights}.")
        if not isinstance(self.n_decoded, Integral) or self.n_decoded < 1:
            raise ValueError(f"Expected n_decoded of 1 or more. Got {self.n_decoded!r}.")

    def build(self, space: Space, d_model: int, d_embedding: int) -> MaskedTask:
        return MaskedTask(self, space, d_model, d_embedding)


class MaskedTask(nn.Module):
    """What :class:`MaskedReconstruction` trains: decoders of events and of summaries."""

    def __init__(
        self, settings: MaskedReconstruction, space: Space, d_model: int, d_embedding: int
    ) -> None:
        super().__init__()
        self.settings, self.space = settings, space
        self.masks = usual_masks(space) if settings.masks is None else settings.masks
        self.decoder = EventDecoder(space, d_model, d_embedding)
        self.summary = SummaryDecoder(space, d_embedding, summary_width(space))

    def forward(self, encode: Any, batch: EventBatch | PanelBatch) -> dict[str, Tensor]:
        """Weighted parts of the loss, each a scalar."""
        weight = self.settings
        hidden = hide(batch, self.space, self.masks)
        encoded, embedding = encode(batch.keep(~hidden.events))
        parts: dict[str, Tensor] = {}

        events, share, single = self.drawn(batch, hidden)
        moment = self.decoder.context(encoded, embedding, events)
        if weight.value or weight.category:
            query = self.decoder.query(encoded, moment, events.row, events.code)
        if weight.value:
            rebuilt = self.decoder.values(query, events.code)
            error = F.huber_loss if weight.error == "huber" else F.mse_loss
            loss = error(rebuilt, events.value, reduction="none")
            parts["value"] = weight.value * mean(loss, share * events.observed)
        if weight.category and self.space.n_categories:
            loss, of = self.category_loss(query, events)
            parts["category"] = weight.category * mean(loss, share[of])
        codes = scored_codes(batch, self.space.n_codes)
        if weight.code and not self.space.from_end:
            scores = self.decoder.code_scores(moment.index_select(0, single), codes)
            truth = torch.searchsorted(codes, events.code[single])
            loss = F.cross_entropy(scores, truth, reduction="none")
            parts["code"] = weight.code * mean(loss, share[single])
        if weight.presence:
            there = measured(batch, self.space, codes)  # (B, S, W)
            asked = hidden.codes[:, codes].unsqueeze(2) | hidden.windows.unsqueeze(1)
            if isinstance(batch, PanelBatch):  # nor is anything asked of windows before the start
                inside = batch.inside.to(batch.value.dtype) @ one_hot_windows(batch, self.space)
                asked = asked & (inside > 0)
            odds = self.decoder.presence(encoded, embedding, codes)
            loss = F.binary_cross_entropy_with_logits(odds, there.to(odds.dtype), reduction="none")
            parts["presence"] = weight.presence * mean(loss, asked.to(odds.dtype))
        if weight.summary:
            truth, defined = summary_targets(batch, self.space, self.summary.n_codes)
            loss = F.huber_loss(self.summary(embedding), truth, reduction="none")
            parts["summary"] = weight.summary * mean(loss, defined)
        return parts

    def drawn(
        self, batch: EventBatch | PanelBatch, hidden: Hidden
    ) -> tuple[EventBatch, Tensor, Tensor]:
        """Hidden events to rebuild, what each of them weighs, and which were hidden one by one.

        An event weighs one over the number of hidden events of its code in its row: a pulse that
        is measured every minute does not drown a blood culture.

        Returns
        -------
        events : EventBatch
        share : (E',)
        single : (S,) int64
            Positions of events whose code and window were not hidden as a whole.
        """
        events = batch.events(hidden.events, self.space.category_offsets)
        cell = events.row * self.space.n_codes + events.code
        _, inverse, count = torch.unique(cell, return_inverse=True, return_counts=True)
        share = 1 / count[inverse].to(batch.value.dtype)
        if events.n_events > self.settings.n_decoded:
            drawn = torch.zeros(events.n_events, dtype=torch.bool, device=batch.device)
            order = torch.randperm(events.n_events, device=batch.device)
            drawn[order[: self.settings.n_decoded]] = True
            events, share = events.keep(drawn), share[drawn]
        whole = hidden.codes[events.row, events.code]
        whole = whole | hidden.windows[events.row, self.space.window(events)]
        return events, share, (~whole).nonzero().squeeze(1)

    def category_loss(self, query: Tensor, events: EventBatch) -> tuple[Tensor, Tensor]:
        """Cross-entropy of the events that have a category, and which those are; both (N,)."""
        named = (events.category > 0).nonzero().squeeze(1)
        scores, owner, category = self.decoder.category_scores(query[named], events.code[named])
        N = len(named)
        largest = scores.new_full((N,), -torch.inf)
        largest = largest.scatter_reduce(0, owner, scores.detach(), "amax")
        total = scores.new_zeros(N).index_add(0, owner, (scores - largest[owner]).exp())
        right = category == events.category[named][owner] - 1
        own = scores.new_zeros(N).index_add(0, owner[right], scores[right])
        return total.log() + largest - own, named


def mean(loss: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean; 0 where nothing weighs anything."""
    total = weight.sum()
    return (loss * weight).sum() / torch.where(total > 0, total, 1.0)


def usual_masks(space: Space) -> tuple[Mask, ...]:
    """What is hidden unless told otherwise."""
    if space.from_end:
        return HideRuns(), HideCodes()
    return HideEvents(), HideWindows(), HideCodes()


def scored_codes(batch: EventBatch | PanelBatch, n_codes: int) -> Tensor:
    """(S,) codes that compete in a step, in rising order: all, or those of the batch and others."""
    if n_codes <= MAX_SCORED or isinstance(batch, PanelBatch):
        return torch.arange(n_codes, device=batch.device)
    others = torch.randint(n_codes, (MAX_SCORED,), device=batch.device)
    return torch.unique(torch.cat([batch.code, others]))


def measured(batch: EventBatch | PanelBatch, space: Space, codes: Tensor) -> Tensor:
    """Whether some codes (S,) occur in the windows of time of each row.  -> (B, S, W) bool."""
    if isinstance(batch, PanelBatch):
        return (batch.present.to(batch.value.dtype) @ one_hot_windows(batch, space)) > 0
    B, S, W = len(batch), len(codes), space.n_windows
    place = torch.searchsorted(codes, batch.code)
    there = torch.zeros(B, S, W, dtype=torch.bool, device=batch.device)
    there[batch.row, place, space.window(batch)] = True
    return there


def one_hot_windows(batch: PanelBatch, space: Space) -> Tensor:
    """(T, W) of zeros and ones: which window each step of a panel lies in."""
    return F.one_hot(space.window(batch)[0, 0], space.n_windows).to(batch.value.dtype)
