"""Small cohorts, and the same as plain Python lists."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from tawt_sklearn import nest_events

QUICK = {
    "d_model": 16,
    "n_heads": 2,
    "n_layers": 1,
    "d_latent": 3,
    "n_windows": 4,
    "max_epochs": 1,
    "batch_size": 16,
    "device": "cpu",
    "random_state": 0,
}
"""Parameters of a synthesizer that trains in a moment."""


def frame_of(*subjects: list[tuple], static: Any = None) -> pd.DataFrame:
    """One row for each list of (time, code, number or text)."""
    rows = [(k, *event) for k, events in enumerate(subjects) for event in events]
    table = pd.DataFrame(rows, columns=["subject_id", "time", "code", "value"])
    table["value"] = table["value"].astype(object).map(lambda v: v if pd.isna(v) else str(v))
    index = pd.RangeIndex(len(subjects), name="subject_id")
    return nest_events(table, static=pd.DataFrame(static or {}, index=index))


def random_subjects(
    seed: int, n: int, codes: tuple[str, ...] = ("a", "b"), most: int = 12, value: Any = None
) -> list[list[tuple]]:
    """Events at full hours, of numbers unless ``value(rng, code)`` says otherwise."""
    rng = np.random.default_rng(seed)
    value = value or (lambda rng, code: round(rng.normal(), 3))
    subjects = []
    for _ in range(n):
        events = []
        for _ in range(rng.integers(0, most)):
            code = str(rng.choice(codes))
            events.append((float(rng.integers(0, 10)), code, value(rng, code)))
        subjects.append(events)
    return subjects


def simple(n: int = 24, *, static: Any = None, seed: int = 0, **how: Any) -> pd.DataFrame:
    """Two codes with numbers."""
    return frame_of(*random_subjects(seed, n, **how), static=static)


def rich_value(rng: np.random.Generator, code: str) -> Any:
    if code == "ward":
        return str(rng.choice(["icu", "er", "home"]))
    if code == "note" or rng.random() < 0.1:
        return None
    if code == "score":
        return float(rng.integers(0, 4))
    if code == "culture":  # a number, or what cannot be told as one
        return str(rng.choice(["low", "high"])) if rng.random() < 0.4 else round(rng.normal(), 4)
    return round(rng.normal(50, 10), 1)


RICH_CODES = ("hr", "ward", "note", "score", "culture")


def rich(seed: int = 0, n: int = 60, *, windows: str = "some") -> tuple[pd.DataFrame, np.ndarray]:
    """Ties, repeats at one time, empty histories, texts, levels, static columns of all kinds.

    ``windows``: "none", "some" (a few ends are unknown) or "all".
    """
    rng = np.random.default_rng(seed)
    subjects = random_subjects(seed, n, RICH_CODES, 16, rich_value)
    subjects[3] = []
    static = {
        "age": np.where(rng.random(n) < 0.1, np.nan, rng.normal(60, 10, n).round(1)),
        "visits": rng.integers(0, 3, n),
        "zip": rng.permutation(np.arange(1000, 1000 + n)),
        "smoker": rng.random(n) < 0.5,
        "sex": pd.array(rng.choice(np.array(["F", "M", None], object), n), dtype="str"),
        "site": pd.Categorical(rng.choice(["x", "y"], n), categories=["y", "x", "unused"]),
        "count": pd.array(np.where(rng.random(n) < 0.2, None, rng.integers(0, 4, n)), "Int64"),
    }
    X = frame_of(*subjects, static=static)
    X = X[["age", "events", *[name for name in X.columns if name not in ("age", "events")]]]
    if windows != "none":
        start = rng.integers(-40, -20, n).astype(float)
        end = 20.0 + rng.integers(0, 30, n)
        if windows == "some":
            end[rng.random(n) < 0.3] = np.nan
        X["events"] = X["events"].array._replace(start=start, end=end)
    return X, rng.integers(0, 2, n)


def events_of(X: pd.DataFrame) -> list[list[tuple]]:
    """Histories as lists of (time, code, number, text), by time and code."""
    result = []
    for history in X["events"]:
        texts = [None] * len(history.time) if history.text is None else history.text.tolist()
        numbers = [None if np.isnan(v) else float(v) for v in history.value.tolist()]
        events = zip(history.time.tolist(), history.code.tolist(), numbers, texts, strict=True)
        events = [(*event[:3], None if pd.isna(event[3]) else event[3]) for event in events]
        result.append(sorted(events, key=lambda event: (event[0], event[1])))
    return result
