"""Small frames of event histories, and the same as plain Python lists."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from tawt_sklearn import nest_events

Event = tuple[float, str, float, str | None]


def frame_of(*subjects: list[tuple], static: pd.DataFrame | None = None) -> pd.DataFrame:
    """One row per list of (time, code, value or text)."""
    rows = [
        (k, time, code, value) for k, events in enumerate(subjects) for time, code, value in events
    ]
    table = pd.DataFrame(rows, columns=["subject_id", "time", "code", "value"])
    table["value"] = table["value"].astype(object).map(lambda v: v if pd.isna(v) else str(v))
    if static is None:
        static = pd.DataFrame(index=pd.RangeIndex(len(subjects), name="subject_id"))
    else:
        static = static.set_axis(pd.RangeIndex(len(static), name="subject_id"))
    return nest_events(table, static=static)


def random_subjects(rng: np.random.Generator, n: int, *, max_events: int = 24) -> list[list[tuple]]:
    """Ties in time, repeats of a code at one time, events without a value, empty histories."""
    subjects = []
    for _ in range(n):
        events: list[tuple] = []
        time = 0.0
        for _ in range(rng.integers(0, max_events)):
            time += float(rng.choice([0.0, 0.0, 0.5, 1.0, 2.5]))
            code = str(rng.choice(["hr", "bp", "temp", "ward", "note"]))
            value: Any = round(float(rng.normal(50, 10)), 1)
            if code == "ward":
                value = str(rng.choice(["icu", "er", "home"]))
            elif code == "note" or rng.random() < 0.1:
                value = None
            events.append((time, code, value))
        subjects.append(events)
    return subjects


def random_frame(seed: int, n: int = 30, *, static: bool = True) -> pd.DataFrame:
    """Subjects of `random_subjects`, with an age and a sex that some lack."""
    rng = np.random.default_rng(seed)
    subjects = random_subjects(rng, n)
    beside = None
    if static:
        age = np.where(rng.random(n) < 0.1, np.nan, rng.integers(20, 90, n))
        sex = rng.choice(np.array(["F", "M", None], dtype=object), n, p=[0.5, 0.4, 0.1])
        beside = pd.DataFrame({"age": age, "sex": pd.array(sex, dtype="str")})
    return frame_of(*subjects, static=beside)


def events_of(X: pd.DataFrame) -> list[list[Event]]:
    """The histories as lists of (time, code, value, text), sorted by time and code."""
    result = []
    for history in X["events"]:
        if history is pd.NA:
            result.append([])
            continue
        text = [None] * len(history.time) if history.text is None else history.text.tolist()
        events = list(
            zip(
                history.time.tolist(),
                [None if pd.isna(code) else code for code in history.code.tolist()],
                history.value.astype(float).tolist(),
                [None if pd.isna(t) else t for t in text],
                strict=True,
            )
        )
        result.append(sorted(events, key=lambda event: (event[0], str(event[1]))))
    return result


def shuffled_within_times(X: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """The same events written down in another order, and codes numbered in another."""
    long = X["events"].events.to_long().sample(frac=1, random_state=seed)
    static = X.drop(columns="events")
    return nest_events(long, static=static if static.shape[1] else static.assign())


def each_value(X: pd.DataFrame, change: Any) -> pd.DataFrame:
    """The frame with `change` of all values."""
    array = X["events"].array
    return X.assign(events=array._replace(value=change(np.array(array.value, dtype=np.float32))))


def global_random_state() -> bytes:
    """Where NumPy's global generator is."""
    return np.random.get_state()[1].tobytes()  # noqa: NPY002
