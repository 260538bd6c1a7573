"""What happened to the events of each code on the way to tokens, as a table."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd

from tawt_sklearn.exceptions import DataWarning
from tawt_sklearn.tokens.encoding import Encoded, RawEvents
from tawt_sklearn.tokens.times import count_duplicates
from tawt_sklearn.tokens.vocabulary import MISSING, SPECIAL_CODES, UNKNOWN, Vocabulary


def report_frame(events: RawEvents, encoded: Encoded, vocabulary: Vocabulary) -> pd.DataFrame:
    """One row per code that occurs in the frame, the most frequent first.

    The columns are described at :attr:`TripletSequencer.report_`.
    """
    n_codes = len(events.codes)
    n_events = events.counts
    no_content = events.without_number
    n_texts = np.zeros(n_codes + 1, np.int64)
    if events.text is not None:
        n_texts = events.count(np.flatnonzero(events.text >= 0))
        no_content = no_content[events.text[no_content] < 0]
    tokens = [vocabulary.token_of.get(c, UNKNOWN) for c in events.codes.tolist()]
    tokens.append(MISSING)
    columns = {
        "n_events": n_events,
        "n_truncated": events.n_truncated,
        "n_values": n_events - events.count(events.without_number),
        "n_texts": n_texts,
        "n_missing_value": events.count(no_content),
        "n_out_of_range": events.count(encoded.outside),
        "n_clipped": events.count(encoded.clipped),
        "n_ignored": events.count(encoded.ignored),
        "n_rare_category": events.count(encoded.rare_category),
        "n_new_category": events.count(encoded.new_category),
        "n_duplicates": np.roll(
            count_duplicates(events.time, events.code, events.offsets, n_codes), -1
        ),
    }
    labels = [*events.codes.tolist(), SPECIAL_CODES[MISSING]]
    frame = pd.DataFrame(columns, index=pd.Index(labels, name="code"))
    frame["token"] = tokens
    frame["status"] = [
        _status(label, token, new)
        for label, token, new in zip(labels, tokens, [*encoded.new_codes, False], strict=True)
    ]
    frame = frame[(frame["n_events"] + frame["n_truncated"]) > 0]
    return frame.sort_values("n_events", ascending=False, kind="stable")


def _status(label: str | int, token: int, new: bool) -> str:
    if label in SPECIAL_CODES:
        return "special"
    if token != UNKNOWN:
        return "known"
    return "unknown" if new else "rare"


def summary_series(
    events: RawEvents, encoded: Encoded, frame: pd.DataFrame, n_rows: int
) -> pd.Series:
    """Totals of the report and of the rows."""
    by_status = frame.groupby("status")["n_events"].sum()
    totals = {
        "n_histories": n_rows,
        "n_empty": int((np.diff(events.offsets) == 0).sum()),
        "n_truncated_histories": events.n_truncated_rows,
        **{name: int(frame[name].sum()) for name in frame.columns if name.startswith("n_")},
        "n_unknown": int(by_status.get("unknown", 0)),
        "n_rare": int(by_status.get("rare", 0)),
        "n_missing_code": int(frame["n_events"].get(SPECIAL_CODES[MISSING], 0)),
    }
    return pd.Series(totals, name="total")


def warn(raw: RawEvents, encoded: Encoded, max_events: int | None) -> None:
    """One warning about everything unknown, one about histories that were cut."""
    counts = raw.counts[:-1]
    new = encoded.new_codes & (counts > 0)
    parts = []
    if new.any():
        names = raw.codes[new][np.argsort(-counts[new], kind="stable")].tolist()
        parts.append(
            f"{counts[new].sum():,} events have an unknown code, not seen in fit, and become [UNK] "
            f"tokens ({some(names)})"
        )
    if len(encoded.new_category):
        parts.append(
            f"{len(encoded.new_category):,} events have an unknown category, not seen in fit, and "
            f"get the [UNK] category of their code ({some(encoded.new_category_names)})"
        )
    if parts:
        warnings.warn(f"{'; '.join(parts)}. report(X) counts them.", DataWarning, stacklevel=6)
    if raw.n_truncated_rows:
        warnings.warn(
            f"{raw.n_truncated_rows:,} of {len(raw.end):,} histories have more than "
            f"max_events={max_events} events; their {raw.n_truncated.sum():,} oldest events were "
            "cut.",
            DataWarning,
            stacklevel=6,
        )


def some(names: list[Any]) -> str:
    """The first five names, and how many more there are."""
    return ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if names[5:] else "")
