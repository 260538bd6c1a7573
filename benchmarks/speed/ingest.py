"""Seconds and memory on the way from a long table to tokens.

    python benchmarks/speed/ingest.py               # 10 million shuffled events
    python benchmarks/speed/ingest.py --events 1_000_000 --json ingest.json

Three comparisons in one run, each on the same table of shuffled events (string subjects, string
codes, float times and values), for both kinds of string columns that pandas has:

1. ``nest_events`` beside ``events.sort_values([subject, time])``, which alone does not group,
   encode or check anything. Best of the repeats, taken in turns.
2. Peak memory of ``nest_events`` over what was there before the call, as a multiple of the table.
   The peak is the kernel's high-water mark of resident memory of a fresh process (Linux), so that
   nothing is missed; the table is ``memory_usage(deep=False)``, which for object columns counts
   the pointers only.
3. ``TripletSequencer().fit_transform`` of nested events beside what one writes in pandas to get
   there: median and quartiles with ``groupby``, ids and scaled values with ``map``, sort, and a
   ``groupby`` to have the events of each subject.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _measure import PeakMemory, timed

from tawt_sklearn import nest_events

STRINGS = ("str", "object")


def make_events(n_events: int, n_subjects: int, n_codes: int, strings: str) -> pd.DataFrame:
    """Shuffled events with strings of a given dtype."""
    rng = np.random.default_rng(0)
    subjects = pd.Index([f"subject-{number:06d}" for number in range(n_subjects)], dtype=strings)
    codes = pd.Index([f"code-{number:03d}" for number in range(n_codes)], dtype=strings)
    return pd.DataFrame(
        {
            "subject_id": subjects.take(rng.integers(0, n_subjects, n_events)),
            "time": rng.random(n_events) * 720,
            "code": codes.take(rng.integers(0, n_codes, n_events)),
            "value": rng.normal(size=n_events),
        }
    )


def seconds_of(function: Callable[[], Any]) -> float:
    """Wall-clock seconds of a call, the release of its result not included."""
    return timed(function).wall


def extra_bytes(function: Callable[[], Any]) -> float:
    """Peak of resident memory over what was resident before the call."""
    with PeakMemory() as peak:
        result = function()
    del result
    return peak.ram


def compare_nesting(size: tuple[int, int, int], strings: str, repeats: int) -> dict[str, Any]:
    """nest_events beside sort_values."""
    events = make_events(*size, strings)
    table = int(events.memory_usage(deep=False).sum())
    extra = extra_bytes(lambda: nest_events(events))
    rounds = [
        (
            seconds_of(lambda: nest_events(events)),
            seconds_of(lambda: events.sort_values(["subject_id", "time"])),
        )
        for _ in range(repeats)
    ]
    nest, sort = np.min(rounds, axis=0)
    return {
        "strings": strings,
        "nest_events_s": nest,
        "sort_values_s": sort,
        "nest_over_sort": nest / sort,
        "table_bytes": table,
        "extra_bytes": extra,
        "extra_over_table": extra / table,
    }


def pandas_scaled(events: pd.DataFrame) -> pd.DataFrame:
    """Token ids and robustly scaled values of all events, as one writes it in pandas."""
    code = events["code"].astype("category")  # without, strings are looked up again and again
    values = events["value"].groupby(code, observed=True)
    center = values.median()
    quartiles = values.quantile([0.25, 0.75]).unstack()
    scale = (quartiles[0.75] - quartiles[0.25]) / 1.349
    by_frequency = code.value_counts().index
    ids = pd.Series(np.arange(len(by_frequency)) + 3, index=by_frequency)
    value = (events["value"] - code.map(center).astype("float64")) / code.map(scale).astype(
        "float64"
    )
    return pd.DataFrame(
        {
            "subject_id": events["subject_id"],
            "time": events["time"],
            "token": code.map(ids).astype("int32"),
            "value": value.clip(-5, 5).astype("float32"),
        }
    )


def pandas_grouped(scaled: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The events of each subject in time order, as one writes it in pandas."""
    ordered = scaled.sort_values(["subject_id", "time"])
    return {subject: group for subject, group in ordered.groupby("subject_id")}


def compare_tokens(size: tuple[int, int, int], strings: str, repeats: int) -> dict[str, Any]:
    """TripletSequencer beside groupby."""
    from tawt_sklearn import TripletSequencer

    events = make_events(*size, strings)
    X = nest_events(events)
    ours = min(seconds_of(lambda: TripletSequencer().fit_transform(X)) for _ in range(repeats))
    nest = seconds_of(lambda: nest_events(events))
    scale = min(seconds_of(lambda: pandas_scaled(events)) for _ in range(repeats))
    scaled = pandas_scaled(events)
    group = seconds_of(lambda: pandas_grouped(scaled))
    return {
        "strings": strings,
        "fit_transform_s": ours,
        "nest_and_fit_transform_s": nest + ours,
        "pandas_scale_s": scale,
        "pandas_scale_and_group_s": scale + group,
        "scale_ratio": scale / ours,
        "all_ratio": (scale + group) / (nest + ours),
        "groupby_ratio": (scale + group) / ours,
    }


def in_fresh_process(function: Callable[..., dict[str, Any]], *args: Any) -> dict[str, Any]:
    """Result of a call in a process of its own, whose memory nothing else has touched."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args).result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--subjects", type=int, default=50_000)
    parser.add_argument("--codes", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--strings", choices=STRINGS, nargs="+", default=list(STRINGS))
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    options = parser.parse_args()
    size = (options.events, options.subjects, options.codes)

    print(
        f"{options.events:,} shuffled events, {options.subjects:,} subjects, "
        f"{options.codes:,} codes, pandas {pd.__version__}\n"
    )
    nesting = [
        in_fresh_process(compare_nesting, size, strings, options.repeats)
        for strings in options.strings
    ]
    print("strings  nest_events  sort_values  ratio  table MB  extra MB  extra / table")
    for row in nesting:
        print(
            f"{row['strings']:7}  {row['nest_events_s']:9.2f} s  {row['sort_values_s']:9.2f} s  "
            f"{row['nest_over_sort']:5.2f}  {row['table_bytes'] / 1e6:8.0f}  "
            f"{row['extra_bytes'] / 1e6:8.0f}  {row['extra_over_table']:13.2f}"
        )
    tokens = [
        in_fresh_process(compare_tokens, size, strings, options.repeats)
        for strings in options.strings
    ]
    print(
        "\nseconds                                        "
        + "".join(f"{s:>9}" for s in options.strings)
    )
    for label, key in (
        ("TripletSequencer().fit_transform(X)", "fit_transform_s"),
        ("nest_events, then fit_transform", "nest_and_fit_transform_s"),
        ("pandas: statistics, ids, scaling", "pandas_scale_s"),
        ("pandas: the same, sorted and grouped", "pandas_scale_and_group_s"),
        ("ratio, scaling / fit_transform", "scale_ratio"),
        ("ratio, all of pandas / fit_transform", "groupby_ratio"),
        ("ratio, all of pandas / nest + fit_transform", "all_ratio"),
    ):
        print(f"{label:47}" + "".join(f"{row[key]:9.2f}" for row in tokens))
    if options.json:
        figures = {"size": size, "nesting": nesting, "tokens": tokens}
        options.json.write_text(json.dumps(figures, indent=2, default=float))


if __name__ == "__main__":
    main()
