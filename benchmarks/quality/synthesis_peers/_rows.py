"""What the peers share: their command line, and the way from event tables to rows and back.

Both libraries want one row per event with a column per kind of value, so ``value`` and ``text``
become ``value_num`` and ``value_cat``. Needs numpy, pandas and pyarrow only, of any version.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd


def arguments(about: str | None) -> argparse.ArgumentParser:
    """The command line that the peers share; ``about`` is what its help says."""
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=Path, required=True, help="subject, time, code, value")
    parser.add_argument("--static", type=Path, required=True, help="subject, label and others")
    parser.add_argument("--n", type=int, default=500, help="subjects to draw")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=180, help="what to train for")
    parser.add_argument("--out", type=Path, required=True, help="folder for what is drawn")
    return parser


@dataclass(frozen=True)
class Histories:
    """Training data as the libraries want it.

    Attributes
    ----------
    rows : DataFrame
        A row per event in the order of time: subject, time, gap (since the event before; of the
        first event, its time), code, value_num, value_cat. Without a column that is all missing.
    static : DataFrame
        A row per subject: subject, label and others.
    has_text : bool
        Whether the event table had a column text.
    """

    rows: pd.DataFrame
    static: pd.DataFrame
    has_text: bool


def read(events: Path, static: Path) -> Histories:
    """Histories from the two parquet files."""
    table = pd.read_parquet(events).sort_values(["subject", "time"], kind="stable")
    rows = table[["subject", "time"]].astype({"time": float}).reset_index(drop=True)
    rows["gap"] = rows.groupby("subject")["time"].diff().fillna(rows["time"])
    rows["code"] = table["code"].astype(object).to_numpy()
    rows["value_num"] = table["value"].to_numpy(float)
    if "text" in table:
        rows["value_cat"] = _objects(table["text"])
    rows = rows.dropna(axis="columns", how="all")
    people = pd.read_parquet(static)
    for name in people.columns.difference(["subject"]):
        if not pd.api.types.is_numeric_dtype(people[name]):
            people[name] = _objects(people[name])
    return Histories(rows, people, "text" in table)


def _objects(column: pd.Series) -> np.ndarray:
    """Strings as Python objects, None where missing: what every version of pandas agrees on."""
    return column.astype(object).where(column.notna(), None).to_numpy()


def write(
    out: Path, drawn: pd.DataFrame, people: pd.DataFrame, real: Histories, info: dict[str, Any]
) -> None:
    """Drawn rows as an event table, beside the static table ``people`` and ``info.json``.

    A row is dropped, and counted in ``info.json``, where its time or its code is missing, or where
    it has no value of a kind that its code has in the training rows.
    """
    drawn = drawn.reindex(columns=["subject", "time", "code", "value_num", "value_cat"])
    number, text = drawn["value_num"].notna(), drawn["value_cat"].notna()
    kinds = _kinds(real.rows)
    had = kinds.reindex(drawn["code"].to_numpy(), fill_value=False).set_axis(drawn.index)
    as_text = had["text"] & text
    as_number = had["number"] & number & ~as_text
    placed = np.isfinite(drawn["time"].to_numpy(float))
    coded = drawn["code"].isin(kinds.index).to_numpy()
    valued = (as_text | as_number | had["neither"]).to_numpy()
    keep = placed & coded & valued
    table = pd.DataFrame(
        {
            "subject": drawn["subject"].astype("int64"),
            "time": drawn["time"].astype(float).clip(lower=0.0),
            "code": drawn["code"].astype("string"),
            "value": drawn["value_num"].astype(float).where(as_number),
        }
    )
    if real.has_text:
        table["text"] = drawn["value_cat"].where(as_text, None).astype("string")
    table = table[keep].sort_values(["subject", "time"], kind="stable")
    people = people[real.static.columns].sort_values("subject")
    for name, like in real.static.items():
        if pd.api.types.is_numeric_dtype(like):
            numbers = pd.to_numeric(people[name]).astype(float)
            people[name] = numbers if numbers.isna().any() else numbers.astype(like.dtype)
    out.mkdir(parents=True, exist_ok=True)
    table.to_parquet(out / "events.parquet", index=False)
    people.to_parquet(out / "static.parquet", index=False)
    info["subjects_without_events"] = int(
        (~real.static["subject"].isin(real.rows["subject"])).sum()
    )
    info["rows"] = {
        "drawn": len(drawn),
        "kept": int(keep.sum()),
        "without_time": int((~placed).sum()),
        "without_known_code": int((placed & ~coded).sum()),
        "without_value_of_code": int((placed & coded & ~valued).sum()),
    }
    (out / "info.json").write_text(json.dumps(info, indent=2) + "\n")


def _kinds(rows: pd.DataFrame) -> pd.DataFrame:
    """Whether a code has numbers, text and neither of them: a row per code."""
    rows = rows.reindex(columns=["code", "value_num", "value_cat"])
    number, text = rows["value_num"].notna(), rows["value_cat"].notna()
    kinds = pd.DataFrame({"number": number, "text": text, "neither": ~number & ~text})
    return kinds.groupby(rows["code"]).any()


def versions(*packages: str) -> dict[str, str]:
    """Versions of installed packages."""
    return {package: version(package) for package in packages}
