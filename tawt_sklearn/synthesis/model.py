"""The variational model: a dual-patch encoder, a latent, and the decoder; its loss in parts."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tawt_sklearn.nn.backbone import DualPatchBackbone
from tawt_sklearn.nn.batch import EventBatch
from tawt_sklearn.nn.pooling import Pooling
from tawt_sklearn.synthesis.data import SentenceBatch, SynthesisBatch, drawn_scores
from tawt_sklearn.synthesis.decoder import (
    Decoder,
    Memory,
    Words,
    log_normal_mixture,
    segment_log_softmax,
)
from tawt_sklearn.synthesis.grammar import NUMBER

MOST_PROPERTIES = 128
"""Codes whose frequency the latent has to tell."""


WHOLE = 4.0
"""What a word about the whole history counts in training: there are few of them."""

N_GROUPS = 4
"""Of sentences of a batch, by length."""


class Posterior(NamedTuple):
    """Means and log-variances (B, d_latent) of the latent."""

    mean: Tensor
    log_variance: Tensor

    def draw(self) -> Tensor:
        noise = torch.randn_like(self.mean)
        return self.mean + noise * (0.5 * self.log_variance).exp()

    def divergence(self) -> Tensor:
        """(B, d_latent) Kullback-Leibler divergence from the standard normal distribution."""
        return 0.5 * (self.mean.square() + self.log_variance.exp() - 1 - self.log_variance)


class SequenceModel(nn.Module):
    """A variational autoencoder of histories.

    Against a latent that nobody uses: it is pooled from all tokens (Long et al., "Preventing
    Posterior Collapse in Sequence VAEs with Pooling", 2019), its means are normalised over the
    batch (Zhu et al., "A Batch Normalized Inference Network Keeps the KL Vanishing Away", 2020),
    each of its dimensions has some free bits (Kingma et al., "Improved Variational Inference with
    Inverse Autoregressive Flow", 2016), its weight in the loss grows from 0, and it has to tell
    how often each code occurs.

    Parameters
    ----------
    backbone : dict
        Keywords of :class:`DualPatchBackbone`.
    decoder : dict
        Keywords of :class:`Decoder`.
    free_bits : float
        Nats of divergence that a dimension of the latent has for nothing.
    warmup_steps : int
        Until the divergence counts in full.
    word_dropout : float
        Share of events that the decoder does not see when it goes on.
    """

    n_steps: Tensor

    def __init__(
        self,
        *,
        backbone: dict[str, Any],
        decoder: dict[str, Any],
        free_bits: float,
        warmup_steps: int,
        word_dropout: float,
    ) -> None:
        super().__init__()
        self.free_bits, self.warmup_steps = free_bits, warmup_steps
        self.word_dropout = word_dropout
        d_latent, D = decoder["d_latent"], backbone["d_model"]
        self.backbone = DualPatchBackbone(**backbone)
        n_places = self.backbone.places.n_usual
        self.pooling = Pooling("mean", backbone["n_codes"], n_places, D, "dual", 64)
        d_pooled = self.pooling.d_out
        self.to_mean = nn.Sequential(nn.LayerNorm(d_pooled), nn.Linear(d_pooled, d_latent))
        self.to_variance = nn.Sequential(nn.LayerNorm(d_pooled), nn.Linear(d_pooled, d_latent))
        self.normalise = nn.BatchNorm1d(d_latent, affine=False)
        self.shift = nn.Parameter(torch.zeros(d_latent))
        self.decoder = Decoder(**decoder)
        self.n_properties = min(decoder["n_codes"], MOST_PROPERTIES)
        self.properties = nn.Sequential(
            nn.Linear(d_latent, D), nn.GELU(), nn.Linear(D, 2 * self.n_properties)
        )
        self.register_buffer("n_steps", torch.zeros((), dtype=torch.int64))

    # ---- the latent --------------------------------------------------------------------------

    def posterior(self, events: EventBatch) -> Posterior:
        """What the histories say of the latent."""
        pooled = self.pooling(self.backbone(events))
        mean = self.to_mean(pooled)
        if self.training and len(mean) < 2:  # nothing to normalise over
            self.normalise.eval()
            mean = self.normalise(mean)
            self.normalise.train()
        else:
            mean = self.normalise(mean)
        return Posterior(SPREAD * mean + self.shift, self.to_variance(pooled).clamp(-8, 2))

    # ---- the loss ----------------------------------------------------------------------------

    def forward(self, batch: SynthesisBatch) -> dict[str, Tensor]:
        """Parts of the loss, in nats for each word."""
        posterior = self.posterior(batch.events)
        z = posterior.draw() if self.training else posterior.mean
        words = batch.words
        hidden = None
        if self.training and self.word_dropout:
            P = self.decoder.n_prefix
            hidden = torch.rand(words.code.shape, device=z.device) < self.word_dropout
            hidden[:, :P] = False
        told = self.log_likelihood(words, z, hidden)
        n_words = words.filled.sum()
        divergence = posterior.divergence().mean(0).clamp(min=self.free_bits).sum()  # of a row
        beta = 1.0
        if self.training:
            self.n_steps += 1
            beta = min(1.0, float(self.n_steps) / max(self.warmup_steps, 1))
        parts = {name: -part.sum() / n_words for name, part in told.items()}
        parts["divergence"] = beta * divergence * len(words.code) / n_words
        parts["properties"] = 0.1 * self.property_loss(words, z)
        return parts

    def log_likelihood(
        self, words: SentenceBatch, z: Tensor, hidden: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Log-probabilities of the words of each row (B,), in parts; of numbers log-densities of
        their normal scores.
        """
        decoder, P = self.decoder, self.decoder.n_prefix
        B = len(words.code)
        state, row, place = self.states(words, z, hidden)
        at = row, place
        code, gap, symbol = words.code[at], words.gap[at], words.symbol[at]
        parts = {}

        def by_row(told: Tensor, row: Tensor) -> Tensor:
            return told.new_zeros(B).index_add(0, row, told)

        is_event = place >= P
        row_e, place_e = row[is_event], place[is_event]
        state_e, gap_e, code_e = state[is_event], gap[is_event], code[is_event]
        gaps = decoder.gap_scores(state_e)
        parts["gap"] = by_row(-F.cross_entropy(gaps, gap_e, reduction="none"), row_e)
        before = words.code[row_e, place_e - 1]
        codes = decoder.code_scores(state_e, gap_e, before)
        parts["code"] = by_row(-F.cross_entropy(codes, code_e, reduction="none"), row_e)

        weight = torch.where(is_event | (not self.training), 1.0, WHOLE).to(state.dtype)
        memory = remembered(words, at, decoder.symbols.number)
        about = decoder.about(state, gap, code, memory)
        scores, symbols, owner = decoder.symbol_scores(about, code)
        chances = segment_log_softmax(scores, owner, len(code))
        parts["symbol"] = by_row(chances[symbols == symbol[owner]] * weight, row)
        numeric = (decoder.symbols.kind[symbol] == NUMBER).nonzero().squeeze(1)
        low, high = words.low[at][numeric], words.high[at][numeric]
        score = drawn_scores(low, high) if self.training else words.score[at][numeric]
        few = Memory(*(part[numeric] for part in memory))
        normals = decoder.normals(about[numeric], code[numeric], few)
        likely = log_normal_mixture(score, normals) * weight[numeric]
        parts["number"] = by_row(likely, row[numeric])
        return parts

    def states(
        self, words: SentenceBatch, z: Tensor, hidden: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """States (N, D) that the words are chosen from, with their rows and places (N,).

        Sentences of like length go together, so that little is padding.
        """
        shown = Words(words.code, words.gap, words.symbol, words.score, words.since, words.left)
        length = words.filled.sum(1)
        order = length.argsort()
        told = []
        for rows in order.split(max(1, -(-len(order) // N_GROUPS))):
            T = int(length[rows[-1]])
            states = self.decoder(
                Words(*(part[rows, :T] for part in shown)),
                z[rows],
                None if hidden is None else hidden[rows, :T],
            )
            row, place = words.filled[rows, :T].nonzero().unbind(1)
            told.append((states[row, place], rows[row], place))
        state, row, place = (torch.cat(part) for part in zip(*told, strict=True))
        return state, row, place

    def property_loss(self, words: SentenceBatch, z: Tensor) -> Tensor:
        """How well the latent tells how often codes occur, and the mean of their numbers."""
        n = self.n_properties
        B = len(words.code)
        chosen = words.filled & (words.code < n)
        cell = torch.arange(B, device=z.device).unsqueeze(1) * n + words.code
        cell, score = cell[chosen], words.score[chosen]
        numeric = (self.decoder.symbols.kind[words.symbol[chosen]] == NUMBER).to(score.dtype)
        total = z.new_zeros(B * n, 3).index_add(
            0, cell, torch.stack([torch.ones_like(score), numeric, score * numeric], 1)
        )
        count, n_numbers, sums = total.view(B, n, 3).unbind(-1)
        told_count, told_mean = self.properties(z).chunk(2, dim=-1)
        counts = (told_count - count.log1p()).square().mean()
        wrong = (told_mean - sums / n_numbers.clamp(min=1)).square() * (n_numbers > 0)
        return counts + wrong.mean()


SPREAD = 0.7
"""Of the means of the latent over the data; one and the same for all dimensions."""


def remembered(words: SentenceBatch, at: tuple[Tensor, Tensor], no_symbol: int) -> Memory:
    """What is remembered of the codes of some words, at (row, place)."""
    row, _ = at
    last, last_number = words.last[at], words.last_number[at]
    has_last, has_number = last >= 0, last_number >= 0
    before, before_number = last.clamp(min=0), last_number.clamp(min=0)
    symbol = torch.where(has_last, words.symbol[row, before], no_symbol)
    score = torch.where(has_number, words.score[row, before_number], 0.0)
    since = torch.where(has_last, words.since[at] - words.since[row, before], 0.0)
    return Memory(symbol, score, has_number, since.clamp(min=0), words.mean[at], words.number[at])
