"""Synthetic event histories by MOSTLY AI's TabularARGN, as a peer for our own.

mostlyai-engine pins other versions than this project is tested with, so it has an environment of
its own:

    python3.11 -m venv peers/argn
    peers/argn/bin/pip install -r tabular_argn.txt
    peers/argn/bin/pip uninstall -y torchvision torchaudio
    peers/argn/bin/python tabular_argn.py --events train_events.parquet \
        --static train_static.parquet --n 500 --seed 0 --seconds 180 --out drawn

Events have the columns subject, time (hours), code, value (may be NaN) and, where codes have
classes for values, text; static has subject, label and any others. ``drawn`` gets
``events.parquet`` and ``static.parquet`` in the same form, subjects 0 to n - 1, and ``info.json``.

A flat TabularARGN learns and draws the static table, then a sequential one the events given it.
Settings are the library's defaults (at most 100 epochs, early stopping on a fifth of the subjects,
protection of rare values); ``--seconds``, in minutes rounded up, bounds the training of each.
Rare codes are drawn as one of the others (``SAMPLE``) instead of as ``_RARE_``, which no table has.

``--times`` says how it is told of time. ``gaps`` gives the gap in hours as a number, which it bins.
``relative`` is its own encoding of the times of events, ``TABULAR_DATETIME_RELATIVE``: the first
time, then gaps in weeks, days, hours, minutes and whole seconds. That is about ten columns to
learn instead of one: in 3 minutes on one core, half the epochs (7 against 13 of 500 subjects with
31 events), with gaps, lengths and values further from the real ones. Try it where time allows.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

import pandas as pd
from _rows import arguments, read, versions, write
from mostlyai.engine import TabularARGN

# Hour 0 of a subject. Not midnight: where all subjects begin at one, the encoding of times leaves
# out everything shorter than a day.
NOON = pd.Timestamp("2000-01-01 12:00")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--times", choices=["gaps", "relative"], default="gaps")
    args = parser.parse_args()
    real = read(args.events, args.static)
    relative = args.times == "relative"
    data = real.rows.drop(columns="gap" if relative else "time")
    if relative:
        data["time"] = NOON + pd.to_timedelta(data["time"], unit="h").dt.round("s")
    common = {
        "max_training_time": math.ceil(args.seconds / 60),
        "random_state": args.seed,
        "device": "cpu",
    }

    start = time.perf_counter()
    flat = TabularARGN(**common).fit(real.static.drop(columns="subject"))
    sequential = TabularARGN(
        tgt_context_key="subject",
        tgt_encoding_types={"time": "TABULAR_DATETIME_RELATIVE"} if relative else None,
        ctx_data=real.static,
        ctx_primary_key="subject",
        **common,
    ).fit(data)
    fit_seconds = time.perf_counter() - start

    start = time.perf_counter()
    people = flat.sample(args.n, rare_category_replacement_method="SAMPLE")
    people.insert(0, "subject", range(args.n))
    sequential.sample(ctx_data=people, rare_category_replacement_method="SAMPLE")
    drawn = in_order(sequential)
    sample_seconds = time.perf_counter() - start

    if relative:
        drawn["time"] = (drawn["time"] - NOON) / pd.Timedelta(hours=1)
    else:
        drawn["time"] = drawn["gap"].clip(lower=0).groupby(drawn["subject"]).cumsum()
    minutes = common["max_training_time"]
    info = {
        "fit_seconds": fit_seconds,
        "sample_seconds": sample_seconds,
        "versions": versions("mostlyai-engine", "torch", "pandas"),
        "epochs": {"static": epochs(flat), "events": epochs(sequential)},
        "settings": f"TabularARGN, {minutes} min at most, defaults otherwise, times={args.times}",
    }
    write(args.out, drawn, people, real, info)


def in_order(model: TabularARGN) -> pd.DataFrame:
    """The rows drawn last, those of a subject in the order in which they were drawn.

    ``sample`` returns them sorted by subject with a sort that is not stable (mostlyai-engine
    2.7.3), so the table is read from the model's folder instead.
    """
    drawn = pd.read_parquet(Path(model.workspace_path_, "SyntheticData"))
    return drawn.sort_values("subject", kind="stable", ignore_index=True)


def epochs(model: TabularARGN) -> float:
    """Epochs that training took, from the model's folder."""
    told = Path(model.workspace_path_, "ModelStore", "model-data", "progress-messages.csv")
    return float(pd.read_csv(told)["epoch"].max())


if __name__ == "__main__":
    main()
