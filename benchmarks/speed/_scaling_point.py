"""Seconds and memory of one fit and one prediction on simulated histories, in a worker.

Histories are drawn all at once: times uniform over two days, codes with frequencies as 1 / rank, a
normal value for each event that drifts with a slope of the subject's own; the label is whether the
slope of the subject is upwards.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pandas as pd
import torch
from _estimators import fitted, one_network
from _measure import PeakMemory, now
from _workers import Answer, serve

from tawt_sklearn import nest_events

HOURS = 48.0


def histories(n_subjects: int, n_events: int, n_codes: int) -> tuple[pd.DataFrame, np.ndarray]:
    """A long table with ``n_events`` of each subject, and labels."""
    random = np.random.default_rng(0)
    n = n_subjects * n_events
    slope = random.normal(size=n_subjects)
    hours = random.random(n) * HOURS
    frequency = 1 / np.arange(1, n_codes + 1)
    code = random.choice(n_codes, n, p=frequency / frequency.sum())
    code[:n_codes] = np.arange(min(n_codes, n))  # all of them occur
    table = pd.DataFrame(
        {
            "subject_id": np.repeat(np.arange(n_subjects), n_events),
            "time": hours,
            "code": code,
            "value": random.normal(size=n) + np.repeat(slope, n_events) * (hours / HOURS - 0.5),
        }
    )
    return table, (slope > 0).astype(int)


def make_point(job: Answer) -> Any:
    """What measures a point: nothing is kept from one question to the next."""
    torch.set_num_threads(job["n_threads"])
    return lambda question: measure(job)


def measure(job: Answer) -> Answer:
    """One epoch from raw histories, then a prediction for all of them."""
    device = job["device"]
    table, y = histories(job["n_subjects"], job["n_events"], job["n_codes"])
    start = time.perf_counter()
    X = nest_events(table)
    nesting = time.perf_counter() - start
    del table
    model = one_network(1, device=device, **job["params"])
    _warm_up(model, job)
    with PeakMemory(device) as fitting:
        start = now(device)
        fitted(model, X, y)
        fit = now(device) - start
    with PeakMemory(device) as predicting:
        start = now(device)
        model.predict_proba(X)
        prediction = now(device) - start
    return {
        "nest_s": nesting,
        "fit": fit._asdict(),
        "predict": prediction._asdict(),
        "epoch_s": float(model.history_["seconds"].median()),
        "memory": {"fit": fitting.ram, "predict": predicting.ram},
        "gpu_memory": {"fit": fitting.gpu, "predict": predicting.gpu},
    }


def _warm_up(model: Any, job: Answer) -> None:
    """What happens once in a process, such as compiling, is not part of the cost of a point."""
    table, y = histories(64, 40, min(job["n_codes"], 40))
    X = nest_events(table)
    fitted(model, X, y).predict_proba(X)


if __name__ == "__main__":
    serve(make_point)
