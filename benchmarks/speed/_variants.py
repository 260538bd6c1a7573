"""What the engine benchmark compares, each variant in a worker of its own (see ``_workers``).

- ``padded-dropout`` and ``padded``: ``nn.TransformerEncoder`` in a skorch ``NeuralNetClassifier``
  with skorch's defaults but for ``train_split=None`` (an epoch is then training alone), the
  cross-entropy on scores, and the batch size; every stay padded to the longest of all stays, which
  is what a plain array makes of them; dropout of .1 and of 0.
- ``bucketed``: the same network without dropout in a bare loop with fused AdamW, batches of stays
  of about the same length, padded to the longest of the batch, shuffled; its predictions are timed
  twice, as torch does them by default and with its fast path for evaluation switched off.
- ``event`` and ``dual``: ``TimeAwareClassifier(patching="event")`` and with its defaults, by its
  own ``fit`` and ``predict_proba``.

On a GPU ``bucketed`` computes in the same precision as ours, by ``torch.autocast``; ``padded``
stays in float32, which is what skorch does.

All have the same width, depth and heads, and the same tokenised stays.  Slow variants train on
fewer of them, spread evenly over all lengths.
"""

from __future__ import annotations

import inspect
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _estimators import fitted, one_network
from _measure import PeakMemory, Seconds, dtype_of, matmul_peak, now, timed
from _peers import PaddedTransformer, buckets, padded, predict, train_epoch
from _profile import BusyGPU, EpochClock, FlopClock, StepClock, busy_share
from _stays import Tokens, evenly, stays
from _workers import Answer, serve
from skorch import NeuralNetClassifier
from torch import nn

import tawt_sklearn
from tawt_sklearn import TripletSequencer
from tawt_sklearn.nn.backbone import DualPatchBackbone

N_LAYERS = 2
PEER_BATCH = {
    "cpu": {"padded-dropout": 8, "padded": 16, "bucketed": 16},
    "cuda": {"padded-dropout": 64, "padded": 64, "bucketed": 64},
}
"""Stays in a batch of the peers; skorch's default is 128.  On a CPU 64 are no faster than 16, and
with dropout the attention keeps matrices of all pairs, hundreds of MB for each padded stay."""

ROWS = {
    "cpu": {"padded-dropout": 16, "padded": 64, "bucketed": 320, "event": 320, "dual": 2000},
    "cuda": {"padded-dropout": 256, "padded": 1024, "bucketed": 4000, "event": 4000, "dual": 4000},
}
"""Stays that a variant is measured on: a few seconds for each epoch."""


class Variant:
    """One variant in its worker: ``measure`` trains for some epochs and predicts.

    Parameters
    ----------
    job : dict
        ``variant``, ``device``, ``n_threads``, ``precision``, ``d_model``, ``epochs``, ``tokens``
        (a pickle of tokenised stays and labels, or None to make them), ``n_rows`` and
        ``peer_batch`` (None for what is set here), ``params`` (further ones of our estimators).
    """

    def __init__(self, job: Answer) -> None:
        torch.set_num_threads(job["n_threads"])
        self.job, self.device, self.d_model = job, job["device"], job["d_model"]
        self.place = self.device.split(":")[0]
        self.dtype = dtype_of(job["precision"], self.device)
        self.X, self.y = _tokenised(job["tokens"])
        self.n_rows = min(job["n_rows"] or ROWS[self.place][job["variant"]], len(self.X))
        self.setup()

    def setup(self) -> None:
        """What training starts from."""

    def train(self) -> list[Seconds]:
        """Seconds of each epoch after the first."""
        raise NotImplementedError

    def infer(self) -> None:
        """Probabilities of all stays that it is measured on."""
        raise NotImplementedError

    @property
    def n_events(self) -> int:
        """Events in an epoch."""
        raise NotImplementedError

    def respond(self, question: str) -> Answer:
        """Answer of the worker."""
        questions = {"measure": self.measure, "profile": self.profile, "package": self.package}
        return questions[question]()

    def package(self) -> Answer:
        """Where the package was imported from."""
        return {"folder": str(Path(tawt_sklearn.__file__).resolve().parents[1])}

    def measure(self) -> Answer:
        """Seconds per epoch and per prediction of all stays, and memory of both."""
        with BusyGPU(self.device) as gpu, PeakMemory(self.device) as training:
            epochs = self.train()
        with PeakMemory(self.device) as prediction:
            self.infer()
        inference = timed(self.infer, self.device)
        return {
            "n_rows": self.n_rows,
            "batch_size": self.batch_size,
            "n_events": self.n_events,
            "train": _median(epochs)._asdict(),
            "infer": inference._asdict(),
            "memory": {"train": training.ram, "infer": prediction.ram},
            "gpu_memory": {"train": training.gpu, "infer": prediction.gpu},
            "gpu_utilisation": gpu.share,
            **self.remarks(),
        }

    def remarks(self) -> Answer:
        """What else is to be known."""
        return {}

    def profile(self) -> Answer:
        """Where a training step goes."""
        raise NotImplementedError(f"{self.job['variant']} has no profile")


class Padded(Variant):
    """Everything padded to the longest stay, in skorch with its defaults."""

    dropout = 0.0

    def setup(self) -> None:
        tokens = Tokens.of(self.X, self.y)
        self.rows = evenly(tokens.lengths, self.n_rows)
        self._n_events = int(tokens.lengths[self.rows].sum())
        inputs = padded(tokens, self.rows, int(tokens.lengths.max()))
        self.inputs = {name: tensor.numpy() for name, tensor in inputs.items()}
        self.labels = tokens.label[self.rows].numpy()
        self.batch_size = PEER_BATCH[self.place][self.job["variant"]]
        self.n_codes = tokens.n_codes

    @property
    def n_events(self) -> int:
        return self._n_events

    def train(self) -> list[Seconds]:
        clock = EpochClock(self.device)
        torch.manual_seed(0)
        self.net = NeuralNetClassifier(
            PaddedTransformer,
            module__n_codes=self.n_codes,
            module__d_model=self.d_model,
            module__n_layers=N_LAYERS,
            module__d_feedforward=d_feedforward(),
            module__dropout=self.dropout,
            criterion=nn.CrossEntropyLoss,
            train_split=None,
            batch_size=self.batch_size,
            max_epochs=self.job["epochs"] + 1,
            callbacks=[clock],
            device=self.device,
            verbose=0,
        )
        self.net.fit(self.inputs, self.labels)
        return clock.epochs[1:]

    def infer(self) -> None:
        self.net.predict_proba(self.inputs)


class PaddedDropout(Padded):
    """The same with dropout."""

    dropout = 0.1


class Bucketed(Variant):
    """Stays of about the same length together, each batch padded to its longest."""

    def setup(self) -> None:
        self.batch_size = self.job["peer_batch"] or PEER_BATCH[self.place]["bucketed"]
        self.tokens = Tokens.of(self.X, self.y)
        n_batches = -(-self.n_rows // self.batch_size)
        self.batches = buckets(self.tokens, self.batch_size, n_batches)
        self.settings = {"device": self.device, "dtype": self.dtype}

    @property
    def n_events(self) -> int:
        return int(sum(self.tokens.lengths[rows].sum() for rows in self.batches))

    def train(self) -> list[Seconds]:
        torch.manual_seed(0)
        random = np.random.default_rng(0)
        shape = (self.tokens.n_codes, self.d_model, N_LAYERS, d_feedforward())
        self.net = PaddedTransformer(*shape).to(self.device)
        optimizer = torch.optim.AdamW(self.net.parameters(), lr=1e-3, fused=True)
        epochs = []
        for _ in range(self.job["epochs"] + 1):
            start = now(self.device)
            batches = [self.batches[i] for i in random.permutation(len(self.batches))]
            train_epoch(self.net, optimizer, self.tokens, batches, **self.settings)
            epochs.append(now(self.device) - start)
        return epochs[1:]

    def infer(self) -> None:
        predict(self.net, self.tokens, self.batches, **self.settings)

    def remarks(self) -> Answer:
        """The same prediction with torch's fast path for evaluation switched off."""
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            self.infer()
            return {"infer_fast_path_off": timed(self.infer, self.device)._asdict()}
        finally:
            torch.backends.mha.set_fastpath_enabled(True)


class Ours(Variant):
    """An estimator of this package."""

    def setup(self) -> None:
        lengths = self.X["events"].events.lengths
        self.rows = evenly(lengths, self.n_rows)
        self.stays, self.labels = self.X.iloc[self.rows], self.y.iloc[self.rows]
        self._n_events = int(lengths[self.rows].sum())
        self.batch_size = min(self.make(1).batch_size, max(1, self.n_rows // 4))

    @property
    def n_events(self) -> int:
        return self._n_events

    def make(self, epochs: int, **params: Any) -> Any:
        """The estimator, not fitted."""
        usual = {
            "patching": self.job["variant"],
            "d_model": self.d_model,
            "n_layers": N_LAYERS,
            "device": self.device,
            "precision": self.job["precision"],
        }
        return one_network(epochs, **{**usual, **self.job["params"], **params})

    def fit(self, model: Any, n_rows: int | None = None) -> Any:
        """Fit to all stays or to some."""
        chosen = evenly(self.stays["events"].events.lengths, n_rows or len(self.stays))
        return fitted(model, self.stays.iloc[chosen], self.labels.iloc[chosen])

    def train(self) -> list[Seconds]:
        clock = EpochClock(self.device)
        self.model = self.fit(self.make(self.job["epochs"] + 1, callbacks=[clock]))
        return clock.epochs[1:]

    def infer(self) -> None:
        self.model.predict_proba(self.stays)

    def remarks(self) -> Answer:
        return {"history_seconds": float(self.model.history_["seconds"].iloc[1:].median())}

    def profile(self) -> Answer:
        """Shares of a step, floating point operations, and the peak to compare them with."""
        steps, flops = StepClock(self.device), FlopClock()
        self.fit(self.make(3, callbacks=[steps]))
        few = self.fit(self.make(1, device="cpu", precision=None, callbacks=[flops]), n_rows=256)
        lengths = self.stays["events"].events.lengths
        n_counted = int(lengths[evenly(lengths, 256)].sum()) * few.n_iter_
        found = {
            "shares": steps.shares(),
            "step_ms": steps.mean_step(),
            "flops_per_event": flops.total / n_counted,
            "peak": matmul_peak(self.device, self.dtype),
            "peak_dtype": str(self.dtype),
        }
        if self.place == "cuda":
            found["gpu_busy"] = busy_share(lambda: self.fit(self.make(1)))
        return found


def d_feedforward() -> int:
    """Width of the hidden layers of our network, which the peers get, too."""
    return inspect.signature(DualPatchBackbone).parameters["d_feedforward"].default


def _tokenised(path: str | None) -> tuple[Any, Any]:
    """Tokenised stays and labels, from the benchmark's own pickle or made here."""
    if path is not None:
        return pickle.loads(Path(path).read_bytes())
    X, y = stays(True)
    return TripletSequencer().fit_transform(X), y


def _median(epochs: list[Seconds]) -> Seconds:
    return Seconds(*(float(np.median(column)) for column in zip(*epochs, strict=True)))


VARIANTS: dict[str, type[Variant]] = {
    "padded-dropout": PaddedDropout,
    "padded": Padded,
    "bucketed": Bucketed,
    "event": Ours,
    "dual": Ours,
}


if __name__ == "__main__":
    warnings.filterwarnings("ignore", message=".*nested tensors.*")  # torch, of its fast path
    serve(lambda job: VARIANTS[job["variant"]](job).respond)
