"""One run of training of a synthesizer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch.callbacks import Callback
from torch import Tensor

from tawt_sklearn.synthesis.data import SynthesisBatch, SynthesisDataset
from tawt_sklearn.synthesis.model import SPREAD, Posterior, SequenceModel, words_of
from tawt_sklearn.training.callbacks import TrainingStopped
from tawt_sklearn.training.chunks import each
from tawt_sklearn.training.net import in_order
from tawt_sklearn.training.precision import usable_type
from tawt_sklearn.training.pretraining import PretrainingNet

ACTIVE = 0.01
"""Of the variance of the means, and of the divergence in nats."""


class SynthesisNet(PretrainingNet):
    """A :class:`PretrainingNet` around a :class:`SequenceModel`."""

    model_type = SequenceModel

    def prepare_for_prediction(self) -> SynthesisNet:
        """Evaluation mode."""
        self.module_.eval()
        self._compute_in(usable_type(self.precision, self.module_device))
        return self

    def posteriors(self, dataset: SynthesisDataset) -> Posterior:
        """Means and log-variances (n, d_latent) of all rows, in double precision on the CPU."""

        def ask(batch: SynthesisBatch, rows: NDArray[np.int64]) -> Tensor:
            return torch.stack(self.module_.posterior(batch.events), dim=1)

        mean, log_variance = torch.from_numpy(self._each_row(dataset, ask)).unbind(1)
        return Posterior(mean, log_variance)

    def stated(self, dataset: SynthesisDataset) -> NDArray[np.float64]:
        """(n, F + C) what is stated of each history: the columns of :class:`Stated`, and the first
        number of each code.
        """
        decoder = self.module_.decoder

        def ask(batch: SynthesisBatch, rows: NDArray[np.int64]) -> Tensor:
            words, P = batch.words, decoder.n_prefix
            columns = decoder.stated.columns(words.symbol[:, :P], words.score[:, :P])
            return torch.cat([columns, decoder.plan(words_of(words)).first], dim=1)

        return self._each_row(dataset, ask)

    def _each_row(
        self, dataset: SynthesisDataset, ask: Callable[[SynthesisBatch, NDArray[np.int64]], Tensor]
    ) -> NDArray[np.float64]:
        """What a function says of batches, put together in the order of the rows."""
        dtype = next(self.module_.eval().parameters()).dtype

        def told(rows: NDArray[np.int64]) -> NDArray[np.float64]:
            batch = dataset.batch(rows).to(self.module_device, dtype)
            return ask(batch, rows).double().cpu().numpy()

        groups = self.chunks(dataset, by_size=True)
        with torch.inference_mode():
            return in_order(list(each(groups, told, dataset.batch, self.module_device)))

    @torch.no_grad()
    def settle(self, dataset: SynthesisDataset) -> None:
        """Normalise the means of the latent by these rows.

        While training runs so do the statistics of its batches, and they are of other weights than
        those that are kept in the end.
        """
        normalise = self.module_.normalise
        normalise.reset_running_stats()
        raw = self.posteriors(dataset).mean - self.module_.shift.double().cpu()
        raw = raw / SPREAD * (1 + normalise.eps) ** 0.5
        normalise.running_mean.copy_(raw.mean(0))
        normalise.running_var.copy_(raw.var(0, correction=0).clamp(min=1e-6))

    def log_likelihoods(
        self, dataset: SynthesisDataset, z: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """(n,) log-likelihood of each row given its latent (n, d_latent)."""

        def ask(batch: SynthesisBatch, rows: NDArray[np.int64]) -> Tensor:
            words = batch.words
            latent = torch.from_numpy(z[rows]).to(words.score)
            return torch.stack([*self.module_.log_likelihood(words, latent).values()]).sum(0)

        return self._each_row(dataset, ask)


class StopOnTheClock(Callback):
    """End training once it has taken as long as it may.

    Parameters
    ----------
    max_time : float
        Seconds since the run began; the epoch that passes them is the last one.
    """

    def __init__(self, max_time: float) -> None:
        self.max_time = max_time

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        self.began_ = time.monotonic()

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        took = time.monotonic() - self.began_
        epoch = took / len(net.history)
        if took + 0.5 * epoch > self.max_time:
            raise TrainingStopped


class ActiveUnits(Callback):
    """Record in how many dimensions the latent says something of its row: ``active_units``.

    Their means vary over rows by more than :data:`ACTIVE` (Burda, Grosse & Salakhutdinov,
    "Importance Weighted Autoencoders", 2016), and they diverge from the standard normal.

    Parameters
    ----------
    rows : SynthesisDataset
        A few hundred rows.
    """

    def __init__(self, rows: SynthesisDataset) -> None:
        self.rows = rows

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        told = net.posteriors(self.rows)
        active = (told.mean.var(0, correction=0) > ACTIVE) & (told.divergence().mean(0) > ACTIVE)
        net.history.record("active_units", int(active.sum()))

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "rows": None}  # would travel inside every pickle
