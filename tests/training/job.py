"""What the processes of a job do in test_distributed.py, which also does it in one process."""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from skorch.callbacks import Callback
from torch import nn

from tawt_sklearn import (
    TimeAwareClassifier,
    TimeAwareEncoder,
    TimeAwareRegressor,
    nest_events,
)
from tawt_sklearn.datasets import make_icu_stays
from tawt_sklearn.exceptions import TrainingWarning
from tawt_sklearn.training.net import EventNet

N_ROWS = 65
"""Four batches of 16 and one of a single row: fewer rows than there are processes."""

SMALL = {"d_model": 16, "n_layers": 1, "n_heads": 2, "n_windows": 4, "device": "cpu"}
SHORT = {
    **SMALL,
    "max_epochs": 3,
    "min_steps": 0,
    "batch_size": 16,
    "learning_rate": 0.01,
    "random_state": 0,
}
ONE = {**SHORT, "n_ensemble": 1}
CERTAIN = {"dropout": 0.0, "code_dropout": 0.0, "window_dropout": 0.0}


def histories() -> tuple[Any, np.ndarray, np.ndarray]:
    """Stays, labels, and weights of the stays."""
    X, y = make_icu_stays(N_ROWS, random_state=0)
    return X, np.asarray(y), np.random.default_rng(0).uniform(0.5, 2.0, N_ROWS)


def panel() -> tuple[np.ndarray, np.ndarray]:
    """Series of two channels, and a number at each step."""
    random = np.random.default_rng(1)
    X = random.normal(size=(33, 2, 12))
    X[:5, :, :4] = np.nan
    return X, X[:, 0].cumsum(1)


class Recall(nn.Module):
    """Tell the number of events and the first static number of a row from its embedding."""

    def __init__(self, d_embedding: int) -> None:
        super().__init__()
        self.told = nn.Linear(d_embedding, 1)

    def forward(self, encode, batch):
        _, embedding = encode(batch)
        n_events = torch.bincount(batch.row, minlength=len(batch)).to(embedding.dtype)
        error = self.told(embedding).squeeze(1) - 0.1 * n_events.log1p()
        return {"size": error.square().mean(), "shrink": 0.1 * embedding.square().mean()}


@dataclass(frozen=True)
class Remember:
    """An objective without random numbers, the mean of what it says of each row."""

    name = "remember"

    def build(self, space, d_model, d_embedding):
        return Recall(d_embedding)


def digest(estimator: Any) -> int:
    """Of all weights of a fitted estimator."""
    total = 0
    for net in getattr(estimator, "nets_", None) or [estimator.net_]:
        for tensor in net.weights().values():
            total = zlib.crc32(tensor.numpy().tobytes(), total)
    return total


def curve(estimator: Any) -> dict[str, list[float]]:
    """Losses and scores of all epochs."""
    history = estimator.history_
    return {name: history[name].tolist() for name in history if "_" in name}


# ---- runs that one process does as well as several ----------------------------------------------


def certain_runs() -> dict[str, Any]:
    """Learning curves of fits in which nothing is random but the order of the rows."""
    X, y, weight = histories()
    series, steps = panel()
    plain = TimeAwareClassifier(**ONE, **CERTAIN).fit(X, y, sample_weight=weight)
    parts = TimeAwareClassifier(**ONE | {"batch_size": 4}, **CERTAIN, accumulate_steps=4)
    judged = TimeAwareClassifier(
        **ONE, **CERTAIN, early_stopping=True, validation_fraction=0.3, n_average=2
    )
    encoder = TimeAwareEncoder(**SHORT, dropout=0.0, objective=Remember())
    remembering = encoder.fit(X, X_val=X[:20])
    return {
        "classifier": curve(plain),
        "parts": curve(parts.fit(X, y)),
        "judged": curve(judged.fit(X, y)),
        "steps": curve(TimeAwareRegressor(**ONE, **CERTAIN).fit(series, steps)),
        "encoder": curve(remembering),
        "gradual": curve(
            TimeAwareClassifier(
                pretrained=remembering, fine_tune="gradual", encoder_learning_rate=1e-3,
                **ONE, **CERTAIN,
            ).fit(X, y)
        ),
        "answers": plain.predict_proba(X)[:, 1].tolist(),
    }  # fmt: skip


# ---- runs of several processes ------------------------------------------------------------------


class Stop(Callback):
    """Do something at the end of an epoch."""

    def __init__(self, epoch: int, how: Any) -> None:
        self.epoch, self.how = epoch, how

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == self.epoch:
            self.how()


class PressCtrlC(Callback):
    """In the middle of the second epoch."""

    def on_batch_end(self, net, training=False, **kwargs):
        if training and len(net.history) == 2 and len(net.history[-1]["batches"]) == 2:
            signal.raise_signal(signal.SIGINT)


class Trace(Callback):
    """Keep what a process has seen and drawn."""

    def on_train_begin(self, net, **kwargs):
        self.drawn_ = torch.get_rng_state().numpy().tobytes()
        self.events_ = []

    def on_batch_begin(self, net, batch=None, training=False, **kwargs):
        if training:
            self.events_ += batch[0].own.value.tolist()


def crash() -> None:
    raise RuntimeError("crash")


def wait_for_me() -> None:
    raise KeyboardInterrupt


def fail(work: Any) -> str:
    """What an error says."""
    try:
        work()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def random_runs(folder: Path, rank: int) -> dict[str, Any]:
    X, y, _ = histories()
    trace = Trace()
    once = TimeAwareClassifier(**ONE, callbacks=[trace]).fit(X, y)
    seedless = TimeAwareClassifier(**ONE | {"random_state": None}).fit(X, y)
    pretrained = TimeAwareEncoder(**SHORT).fit(X)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        several = TimeAwareClassifier(**SHORT, n_ensemble=2, n_jobs=2).fit(X, y)
        early = TimeAwareClassifier(
            **ONE, callbacks=[Stop(2, wait_for_me)] if rank == 1 else None
        ).fit(X, y)
        cut = TimeAwareClassifier(**ONE, callbacks=[PressCtrlC()] if rank else None).fit(X, y)
    return {
        "cut": [digest(cut), cut.n_iter_],
        "once": digest(once),
        "again": digest(TimeAwareClassifier(**ONE).fit(X, y)),
        "drawn": zlib.crc32(trace.drawn_),
        "events": zlib.crc32(np.sort(trace.events_).tobytes()),
        "n_events": len(trace.events_),
        "seedless": digest(seedless),
        "short of memory": short_of_memory(rank),
        "encoder": digest(pretrained),
        "encoder curve": curve(pretrained),
        "several": digest(several),
        "early": [digest(early), early.n_iter_],
        "warned": sorted({w.category.__name__ for w in caught if w.category is TrainingWarning}),
        "written": written(folder, rank, X, y, once),
        "odd": odd_ones_out(rank, X, y),
    }


def odd_ones_out(rank: int, X: Any, y: np.ndarray) -> dict[str, str]:
    """What is said where processes do not do the same, and that they can go on."""
    odd = rank == 1

    def fits(settings: dict[str, Any] | None = None, rows: Any = X, labels: Any = y) -> str:
        return fail(lambda: TimeAwareClassifier(**ONE | (settings or {})).fit(rows, labels))

    def scaled(factor: float) -> Any:
        long = X["events"].events.to_long("subject_id").reset_index()
        return nest_events(long.assign(value=long["value"] * factor))

    said = {
        "rows": fits(rows=X.iloc[rank:], labels=y[rank:]),
        "units": fits(rows=scaled(1024.0 if odd else 1.0)),
        "names": fits(labels=np.array(["a", "b"])[y] if odd else y),
        "parameters": fits({"dropout": 0.6 if odd else 0.1}),
        "architecture": fits({"d_model": 8 if odd else 16}),
        "one refuses": fits(rows=3.0 if odd else X),
    }
    with ThreadPoolExecutor(1) as pool:
        beside = Stop(1, lambda: said.update({"beside": pool.submit(fits).result()}))
        said["first"] = fits({"callbacks": [beside]})
    return said


def short_of_memory(rank: int) -> dict[str, Any]:
    """One of the processes has memory for four rows at once only."""
    X, y, weight = histories()
    infer = EventNet.infer

    def frugal(net: EventNet, x: Any, **kwargs: Any) -> Any:
        if len(x) > 4:
            raise torch.OutOfMemoryError("no memory")
        return infer(net, x, **kwargs)

    with mock.patch.object(EventNet, "infer", frugal) if rank == 1 else nullcontext():
        fitted = TimeAwareClassifier(**ONE, **CERTAIN).fit(X, y, sample_weight=weight)
    return {
        "digest": digest(fitted),
        "curve": curve(fitted),
        "parts": fitted.nets_[0].n_parts_["train"],
    }


def written(folder: Path, rank: int, X: Any, y: Any, fitted: Any) -> dict[str, Any]:
    """Files: a saved estimator, and checkpoints of a run that a crash ends."""
    fitted.save(folder / f"saved-by-{rank}.tawt")
    place = folder / f"checkpoints-of-{rank}"
    settings = {**ONE, "checkpoint_dir": place}
    crashing = TimeAwareClassifier(**settings, callbacks=[Stop(3, crash)] if rank else None)
    said = fail(lambda: crashing.fit(X, y))
    after_crash = [path.stat().st_size for path in place.iterdir()]
    resumed = TimeAwareClassifier(**settings, verbose=1).fit(X, y)
    return {
        "said": said,
        "after_crash": after_crash,
        "resumed": digest(resumed),
        "found": digest(TimeAwareClassifier(**settings).fit(X, y)),
        "files": sorted(path.name for path in folder.glob("saved*")),
        "checkpoints": len(list(place.iterdir())),
    }


def end_in_the_middle(rank: int) -> None:
    """The second process is killed, without a word, in the second epoch."""
    X, y, _ = histories()
    end = Stop(2, lambda: os.kill(os.getpid(), signal.SIGKILL))
    TimeAwareClassifier(**ONE, callbacks=[end] if rank == 1 else None).fit(X, y)


def main(what: str, folder: Path) -> None:
    """``curves``: each process writes folder/<rank>.json.  ``killed``: one dies.  ``all``: both."""
    rank = int(os.environ["RANK"])
    if what != "killed":
        told = {"certain": certain_runs()}
        if what == "all":
            told["random"] = random_runs(folder, rank)
        (folder / f"{rank}.json").write_text(json.dumps(told))
    if what != "curves":
        end_in_the_middle(rank)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in the background ignore it
    main(sys.argv[1], Path(sys.argv[2]))
