"""Small frames of event histories, and plain reference implementations."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tawt_sklearn.events.array import EventsArray

Event = tuple  # (time, code, value) or (time, code, value, text)


def frame_of(
    *histories: list[Event],
    index: list | None = None,
    static: dict | None = None,
    name: str = "events",
    **options,
) -> pd.DataFrame:
    """A frame with one row per list of events; None as code, value or text = missing."""
    events = [(*event, *(None,) * (4 - len(event))) for history in histories for event in history]
    codes = sorted({event[1] for event in events if event[1] is not None})
    texts = sorted({event[3] for event in events if event[3] is not None})
    array = EventsArray.from_flat(
        time=np.array([event[0] for event in events], float),
        code=[-1 if event[1] is None else codes.index(event[1]) for event in events],
        value=[np.nan if event[2] is None else event[2] for event in events],
        offsets=np.cumsum([0, *map(len, histories)]),
        codes=pd.Index(codes) if codes else pd.Index([], dtype="str"),
        text=[-1 if event[3] is None else texts.index(event[3]) for event in events]
        if texts
        else None,
        texts=pd.Index(texts) if texts else None,
        **options,
    )
    return pd.DataFrame({**(static or {}), name: array}, index=index)


def random_frame(
    rng: np.random.Generator, B: int = 40, V: int = 6, mean_length: int = 12, texts: int = 0
) -> pd.DataFrame:
    """Histories with ties in time, repeated events, missing numbers and codes, empty rows."""
    lengths = rng.poisson(mean_length, B) * (rng.random(B) > 0.1)
    E = int(lengths.sum())
    offsets = np.r_[0, np.cumsum(lengths)]
    row = np.repeat(np.arange(B), lengths)
    time = np.round(rng.exponential(10, E) * 2) / 2
    order = np.lexsort((time, row))
    code = rng.integers(-1, V, E)
    value = rng.normal(10 * (code + 2), 1 + np.abs(code))
    value[rng.random(E) < 0.2] = np.nan
    text = np.where(rng.random(E) < 0.3, rng.integers(0, max(texts, 1), E), -1)
    array = EventsArray.from_flat(
        time=time[order],
        code=code,
        value=value,
        offsets=offsets,
        codes=[f"c{k}" for k in range(V)],
        text=text if texts else None,
        texts=[f"t{k}" for k in range(texts)] if texts else None,
    )
    return pd.DataFrame({"age": rng.normal(60, 10, B), "events": array})


def long_table(X: pd.DataFrame) -> pd.DataFrame:
    """One row per event, codes and texts as labels."""
    events = X["events"].events
    table = pd.DataFrame(
        {
            "row": events.flat("row"),
            "time": events.flat("time"),
            "code": np.append(events.array.codes.to_numpy(object), None)[events.flat("code")],
            "value": events.flat("value").astype(float),
        }
    )
    if events.array.text is not None:
        labels = np.append(events.array.texts.to_numpy(object), None)
        table["text"] = labels[events.array.text]
    return table
