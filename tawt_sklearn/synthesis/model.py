"""The variational model: a dual-patch encoder, a latent, and the decoder; its loss in parts."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tawt_sklearn.nn.backbone import DualPatchBackbone
from tawt_sklearn.nn.batch import EventBatch
from tawt_sklearn.nn.pooling import Pooling
from tawt_sklearn.synthesis.chart import Chart
from tawt_sklearn.synthesis.data import SentenceBatch, SynthesisBatch, drawn_scores
from tawt_sklearn.synthesis.decoder import Decoder
from tawt_sklearn.synthesis.gaps import SAME
from tawt_sklearn.synthesis.mixtures import log_normal_mixture, segment_log_softmax
from tawt_sklearn.synthesis.symbols import BOTH, NUMBER
from tawt_sklearn.synthesis.words import Memory, Plan, Words

ROUGHLY, ABOUT = 0.05, 0.25
"""By which share, and by how many, numbers of events are told wrongly in training."""

PROPERTIES = 4.0
"""What the errors of the latent's plan count, in nats of a row."""

N_GROUPS = 4
"""Of sentences of a batch, by length."""

SPREAD = 0.7
"""Of the means of the latent over the data; one and the same for all dimensions."""


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
        self.pooling = Pooling("mean", backbone["n_codes"], n_places, D, backbone["patching"], 64)
        d_pooled = self.pooling.d_out
        self.to_mean = nn.Sequential(nn.LayerNorm(d_pooled), nn.Linear(d_pooled, d_latent))
        self.to_variance = nn.Sequential(nn.LayerNorm(d_pooled), nn.Linear(d_pooled, d_latent))
        self.normalise = nn.BatchNorm1d(d_latent, affine=False)
        self.shift = nn.Parameter(torch.zeros(d_latent))
        self.decoder = Decoder(**decoder)
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
        n_words = words.filled[:, self.decoder.n_prefix :].sum()
        whole = self.decoder.tracks.after(
            words, words.filled, self.decoder.symbols.numeric(words.symbol)
        )
        if self.training:
            shown, weight, start = self.stretches(words)
        else:
            shown, weight, start = words, None, None
        plan = self.decoder.plan(words_of(words))
        if self.training:
            plan = plan._replace(n_events=self.about(plan.n_events))
        told = self.log_likelihood(shown, z, weight, start, plan)
        divergence = posterior.divergence().mean(0).clamp(min=self.free_bits).sum()  # of a row
        beta = 1.0
        if self.training:
            self.n_steps += 1
            beta = min(1.0, float(self.n_steps) / max(self.warmup_steps, 1))
        parts = {name: -part.sum() / n_words for name, part in told.items()}
        parts["divergence"] = beta * divergence * len(words.code) / n_words
        properties = self.property_loss(whole, z)
        parts["properties"] = PROPERTIES * properties * len(words.code) / n_words
        return parts

    def about(self, count: Tensor) -> Tensor:
        """(B, C) numbers of events, not quite right.

        When new subjects are written these numbers are drawn one after the other, and do not agree
        as exactly as those of the data do.  What never comes is told as it is.
        """
        noise = torch.randn(2, *count.shape, device=count.device, dtype=count.dtype)
        told = count * torch.exp(ROUGHLY * noise[0]) + ABOUT * noise[1]
        return torch.where(count > 0, told.clamp(min=0.5), 0.0)

    def stretches(self, words: SentenceBatch) -> tuple[SentenceBatch, Tensor, Chart | None]:
        """Of sentences longer than the context the prefix and a stretch of events, drawn at random.

        Returns
        -------
        words : SentenceBatch
        weight : (B, T)
            What each word counts in the loss.
        start : Chart or None
            What was known before the stretches.
        """
        P, B = self.decoder.n_prefix, len(words.code)
        device = words.code.device
        weight = words.filled.to(words.score.dtype)
        W = self.decoder.context_length + 1  # the first one is only looked back on
        length = words.filled.sum(1) - P
        if int(length.max()) <= W:
            return words, weight, None
        # As if drawn from everywhere around the sentence and pushed into it, so that words near
        # its ends come about as often as others.
        drawn = torch.rand(B, device=device) * (length + W) - W
        begin = drawn.long().clamp(min=0).minimum((length - W).clamp(min=0))
        place = torch.arange(W, device=device) + begin.unsqueeze(1) + P
        prefix = torch.arange(P, device=device).expand(B, P)
        place = torch.cat([prefix, place.clamp(max=words.code.shape[1] - 1)], dim=1)
        some = {f.name: getattr(words, f.name).gather(1, place) for f in fields(words)}
        some["filled"][:, P:] &= torch.arange(W, device=device) < length.unsqueeze(1)
        weight = some["filled"].to(words.score.dtype)
        weight[:, P:] *= (length / length.clamp(max=W)).unsqueeze(1)  # for those left out
        weight[:, P] = torch.where(begin > 0, 0.0, weight[:, P])
        before = torch.arange(words.code.shape[1], device=device) < (P + begin).unsqueeze(1)
        numeric = self.decoder.symbols.numeric(words.symbol)
        start = self.decoder.tracks.after(words, before, numeric)
        return SentenceBatch(**some), weight, start

    def log_likelihood(
        self,
        words: SentenceBatch,
        z: Tensor,
        weight: Tensor | None = None,
        start: Chart | None = None,
        plan: Plan | None = None,
    ) -> dict[str, Tensor]:
        """Log-probabilities of the words of each row (B,), in parts; of numbers log-densities of
        their normal scores.

        Parameters
        ----------
        weight : (B, T), optional
            What each word counts.
        start : Chart, optional
            What was known before the first event.
        plan : Plan, optional
            Where these are not all words.

        Returns
        -------
        parts : dict
            The first numbers of codes in the chart are not in it, nor are first levels that are
            numbers: they have been stated.
        """
        decoder, P = self.decoder, self.decoder.n_prefix
        B = len(words.code)
        plan = decoder.plan(words_of(words)) if plan is None else plan
        state, row, place, chart = self.states(words, z, plan, start)
        at = row, place
        code, gap, symbol = words.code[at], words.gap[at], words.symbol[at]
        counts = state.new_ones(len(row)) if weight is None else weight[at]
        parts = {}

        def by_row(told: Tensor, some: Tensor) -> Tensor:
            return told.new_zeros(B).index_add(0, row[some], told * counts[some])

        # The end comes where the stated length is reached, with certainty.
        event = (code < decoder.n_codes).nonzero().squeeze(1)
        state_e, gap_e = state[event], gap[event]
        before = row[event], place[event] - 1
        last = Words(*(part[before] for part in words_of(words)))
        about_gap = decoder.about_gap(state_e, last)
        gaps = decoder.gap_scores(about_gap, last, plan.at(row[event]))
        likely = -F.cross_entropy(gaps, gap_e, reduction="none")
        if decoder.gap_sizes:
            sizes = log_normal_mixture(words.wait[at][event], decoder.gap_normals(about_gap))
            likely = likely + torch.where(gap_e == SAME, 0.0, sizes)
        first = place[event] == P  # there is no gap before the first event
        parts["gap"] = by_row(likely.masked_fill(first, 0.0), event)
        known = words.since[at][event], last, chart.at(event), plan.at(row[event])
        codes = decoder.code_scores(state_e, gap_e, *known)
        parts["code"] = by_row(-F.cross_entropy(codes, code[event], reduction="none"), event)

        memory = remembered(words, at, decoder.symbols.number)
        hints = decoder.stated(words.symbol[:, :P], words.score[:, :P])
        track = decoder.tracks.of_code[code]
        hint = hints[row, decoder.stated.place(track, memory.has_score)]
        context = decoder.context(code, words.since[at], memory, chart, plan.at(row), hint)
        about = decoder.about(state, gap, context)
        scores, symbols, owner = decoder.symbol_scores(about, context)
        chances = segment_log_softmax(scores, owner, len(code))
        every = torch.arange(len(row), device=row.device)
        stated = (track < decoder.tracks.n_codes) & ~memory.has_score
        level = stated & ~decoder.symbols.level_score[symbol].isnan()
        parts["symbol"] = by_row(chances[symbols == symbol[owner]].masked_fill(level, 0.0), every)
        kind = decoder.symbols.kind[symbol]
        numeric = (((kind == NUMBER) | (kind == BOTH)) & ~stated).nonzero().squeeze(1)
        low, high = words.low[at][numeric], words.high[at][numeric]
        score = drawn_scores(low, high) if self.training else words.score[at][numeric]
        normals = decoder.normals(about[numeric], context.at(numeric))
        parts["number"] = by_row(log_normal_mixture(score, normals), numeric)
        return parts

    def states(
        self, words: SentenceBatch, z: Tensor, plan: Plan, start: Chart | None
    ) -> tuple[Tensor, Tensor, Tensor, Chart]:
        """States (N, D) that the words are chosen from, with their rows and places (N,), and what
        is known before each.

        Sentences of like length go together, so that little is padding.
        """
        decoder = self.decoder
        shown = words_of(words)
        length = words.filled.sum(1)
        order = length.argsort()
        told = []
        for rows in order.split(max(1, -(-len(order) // N_GROUPS))):
            T = int(length[rows[-1]])
            some = Words(*(part[rows, :T] for part in shown))
            hidden = None
            if self.training and self.word_dropout:
                hidden = torch.rand(some.code.shape, device=z.device) < self.word_dropout
                hidden[:, : decoder.n_prefix] = False
            chart = decoder.chart(some, None if start is None else start.at(rows), hidden)
            if start is not None:  # of which words about the whole history know nothing
                chart = self.begun(chart)
            states = decoder(some, z[rows], plan.at(rows), chart, hidden)
            row, place = words.filled[rows, :T].nonzero().unbind(1)
            row, place = row[place >= decoder.n_prefix], place[place >= decoder.n_prefix]
            told.append((states[row, place], rows[row], place, *chart.at(row, place)))
        state, row, place, *known = (torch.cat(part) for part in zip(*told, strict=True))
        return state, row, place, Chart(*known)

    def begun(self, chart: Chart) -> Chart:
        """(B, T, ...) with nothing in it before the words about the whole history."""
        P = self.decoder.n_prefix
        empty = self.decoder.tracks.empty(len(chart.score), chart.score)
        parts = zip(empty, chart, strict=True)
        return Chart(
            *(
                torch.cat([none.unsqueeze(1).expand(-1, P, -1), c[:, P:]], dim=1)
                for none, c in parts
            )
        )

    def property_loss(self, whole: Chart, z: Tensor) -> Tensor:
        """How well the latent tells how often codes occur, and the mean of their numbers."""
        count, mean = self.decoder.foretold(z).chunk(2, dim=-1)
        counts = (count - whole.n_events.log1p()).square().mean()
        wrong = mean - whole.total / whole.number.clamp(min=1)
        return counts + (wrong.square() * (whole.number > 0)).mean()


def words_of(sentences: SentenceBatch) -> Words:
    """As the decoder reads them."""
    return Words(*(getattr(sentences, name) for name in Words._fields))


def remembered(words: SentenceBatch, at: tuple[Tensor, Tensor], no_symbol: int) -> Memory:
    """What is remembered of the codes of some words, at (row, place)."""
    symbol, number = words.last_symbol[at], words.number[at]
    return Memory(
        torch.where(symbol < 0, no_symbol, symbol),
        words.last_score[at],
        number > 0,
        words.interval[at],
        words.mean[at],
        number,
        words.trend[at],
    )
