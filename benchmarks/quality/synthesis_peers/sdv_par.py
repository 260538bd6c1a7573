"""Synthetic event histories by SDV's PARSynthesizer, as a peer for our own.

SDV pins other versions than this project is tested with, so it has an environment of its own:

    python3.11 -m venv peers/sdv
    peers/sdv/bin/pip install -r sdv_par.txt
    peers/sdv/bin/python sdv_par.py --events train_events.parquet --static train_static.parquet \
        --n 500 --seed 0 --seconds 180 --out drawn

Events have the columns subject, time (hours), code, value (may be NaN) and, where codes have
classes for values, text; static has subject, label and any others. ``drawn`` gets
``events.parquet`` and ``static.parquet`` in the same form, subjects 0 to n - 1, and ``info.json``.

Settings: SDV's defaults but for the number of epochs (each one step of Adam on all subjects), its
128 being for a quick trial. As many as ``--seconds`` take, at least 128, at most those of 3 times
``--seconds``; what an epoch takes is measured first. Subjects without events cannot be told to PAR.
SDV draws the static columns from a seed of its own: ``--seed`` changes the events only.

``--times`` says how PAR is told of time. ``index`` is as documented, the time being the sequence
index. PAR then sorts the rows of a subject by their gap instead of their time (sdv 2.0.0 hands
differences to a function that sorts by the column), which loses the order of irregular histories.
``gaps`` makes the gap an ordinary column, without a sequence index, and leaves the rows in their
order: the fairer peer (shares of 7 codes off by 0.12 in all, with ``index`` by 0.47).
"""

from __future__ import annotations

import math
import time

import numpy as np
import pandas as pd
import torch
from _rows import arguments, read, versions, write
from sdv.metadata import Metadata
from sdv.sequential import PARSynthesizer


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--times", choices=["index", "gaps"], default="index")
    args = parser.parse_args()
    real = read(args.events, args.static)
    data, metadata = told(real.rows, real.static, as_gaps=args.times == "gaps")
    context = [name for name in real.static if name != "subject"]

    def fitted(epochs: int, data: pd.DataFrame = data) -> tuple[PARSynthesizer, float]:
        np.random.seed(args.seed)  # noqa: NPY002 (the state that SDV draws from)
        torch.manual_seed(args.seed)
        synthesizer = PARSynthesizer(metadata, context_columns=context, epochs=epochs, cuda=False)
        start = time.perf_counter()
        synthesizer.fit({"events": data})
        return synthesizer, time.perf_counter() - start

    fitted(1, data[data["subject"] < data["subject"].quantile(0.1)])  # what only a first fit does
    one, spent, trial = fitted(1)[1], 0.0, 1
    while spent < max(3.0, args.seconds / 10):  # long beside what varies from fit to fit
        trial *= 4
        spent = fitted(trial)[1] - one
    epoch_seconds = spent / (trial - 1)
    wanted = max(128, math.ceil(1.2 * args.seconds / epoch_seconds))  # 1.2: for other load
    epochs = max(1, min(wanted, math.floor(3 * args.seconds / epoch_seconds)))
    synthesizer, fit_seconds = fitted(epochs)

    start = time.perf_counter()
    drawn = synthesizer.sample_sequences(args.n)["events"]
    sample_seconds = time.perf_counter() - start

    drawn["subject"] = pd.factorize(drawn["subject"])[0]
    if args.times == "gaps":
        drawn["time"] = drawn["gap"].clip(lower=0).groupby(drawn["subject"]).cumsum()
    info = {
        "fit_seconds": fit_seconds,
        "sample_seconds": sample_seconds,
        "versions": versions("sdv", "deepecho", "torch", "pandas"),
        "epochs": epochs,
        "settings": f"PARSynthesizer, {epochs} epochs, defaults otherwise, times={args.times}",
        "epoch_seconds": epoch_seconds,
        "last_loss": float(synthesizer.get_loss_values()["Loss"].iloc[-1]),
    }
    write(args.out, drawn, drawn.drop_duplicates("subject"), real, info)


def told(rows: pd.DataFrame, static: pd.DataFrame, as_gaps: bool) -> tuple[pd.DataFrame, Metadata]:
    """Rows with the static columns repeated on them, and SDV's description of both."""
    when, other = ("gap", "time") if as_gaps else ("time", "gap")
    data = rows.drop(columns=other).merge(static, on="subject")
    kinds = {"subject": "id", when: "numerical", "code": "categorical"}
    kinds |= {"value_num": "numerical", "value_cat": "categorical"}
    for name in static.columns.drop("subject"):
        kinds[name] = "categorical" if is_class(static[name]) else "numerical"
    described = {
        "columns": {name: {"sdtype": kinds[name]} for name in data},
        "sequence_key": "subject",
    }
    if not as_gaps:
        described["sequence_index"] = when
    return data, Metadata.load_from_dict({"tables": {"events": described}})


def is_class(column: pd.Series) -> bool:
    """Whether a static column is of classes rather than of amounts."""
    if not pd.api.types.is_numeric_dtype(column):
        return True
    return column.name == "label" and column.nunique() <= 20


if __name__ == "__main__":
    main()
