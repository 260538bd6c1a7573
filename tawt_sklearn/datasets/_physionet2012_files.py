"""Readers of the PhysioNet 2012 files: text records, archives, Parquet, and the cache.

All of them give the same two frames:

events
    ``subject_id`` int64, ``time`` float64 (hours, exact minutes), ``code`` categorical with sorted
    categories, ``value`` float32; by subject and time, simultaneous events in the file's order.
outcomes
    one row per stay, index ``subject_id``, the columns of ``OUTCOME_COLUMNS``.
"""

from __future__ import annotations

import importlib.util
import io
import os
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tawt_sklearn.exceptions import DataError

TARGETS = ("in_hospital_death", "length_of_stay", "survival_days", "saps_i", "sofa")
OUTCOME_COLUMNS = (*TARGETS, "set", "has_timeseries")
DESCRIPTORS = ("Age", "Gender", "Height", "ICUType", "Weight")

_RAW_OUTCOMES = {
    "RecordID": "subject_id",
    "In-hospital_death": "in_hospital_death",
    "Length_of_stay": "length_of_stay",
    "Survival": "survival_days",
    "SAPS-I": "saps_i",
    "SOFA": "sofa",
}
_RECORD = re.compile(r"(\d+)\.txt")
_HEADER = b"Time,Parameter,Value"
_MARKER = "#record"

Frames = tuple[pd.DataFrame, pd.DataFrame]


def has_pyarrow() -> bool:
    return importlib.util.find_spec("pyarrow") is not None


def read_text_records(records: Iterable[tuple[str, bytes]], where: str) -> pd.DataFrame:
    """Parse records ``(file name, content)`` into the events frame.

    Rows are left out where they say nothing: the ``RecordID``, rows without a parameter's name,
    and the value -1, which is how the files write "not recorded".
    """
    pieces = []
    for name, content in records:
        header, _, body = content.partition(b"\n")
        if header.strip() != _HEADER:
            raise DataError(
                f"{where}: {name} should begin with the line {_HEADER.decode()!r}. Got "
                f"{header[:60]!r}. Remove or replace the file."
            )
        # One line per file marks where its rows begin, so that all files parse in one go.
        pieces.append(f"00:00,{_MARKER},{Path(name).stem}\n".encode())
        pieces.append(body if body.endswith(b"\n") else body + b"\n")
    kinds: dict[str, Any] = {"time": "category", "code": "category", "value": np.float64}
    try:
        table = pd.read_csv(
            io.BytesIO(b"".join(pieces)),
            header=None,
            names=["time", "code", "value"],
            dtype=kinds,
        )
    except ValueError as error:
        raise DataError(f"{where}: a record cannot be parsed. Got: {error}.") from error

    marker = (table["code"] == _MARKER).to_numpy()
    record = table["value"].to_numpy()[marker].astype(np.int64)
    subject = record[np.cumsum(marker) - 1]
    declared = (table["code"] == "RecordID").to_numpy()
    wrong = declared & (table["value"].to_numpy() != subject)
    if wrong.any():
        raise DataError(
            f"{where}: {subject[wrong][0]}.txt should hold the record of its name. Got RecordID "
            f"{table['value'][wrong].iloc[0]:.0f}. Download the set again."
        )
    value = table["value"].to_numpy()
    keep = ~(marker | declared | table["code"].isna().to_numpy() | np.isnan(value) | (value == -1))
    return _canonical(
        subject[keep], _minutes(table["time"], where)[keep], table["code"][keep], value[keep]
    )


def read_folder(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the records of an unpacked set, e.g. ``set-a/132539.txt``."""
    for entry in sorted(folder.iterdir()):
        if _RECORD.fullmatch(entry.name):
            yield entry.name, entry.read_bytes()


def read_archive(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the records of ``set-a.tar.gz`` and the like.

    The members are read, never unpacked: nothing in the archive can write outside its folder.
    """
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                name = member.name.rsplit("/", 1)[-1]
                stream = archive.extractfile(member) if member.isfile() else None
                if stream is not None and _RECORD.fullmatch(name):
                    yield name, stream.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(
            f"{path} is not a readable archive. Got: {error}. Remove it and download it again."
        ) from error


def read_text_outcomes(path: Path, set_name: str, events: pd.DataFrame) -> pd.DataFrame:
    """Read ``Outcomes-a.txt``; `events` are those of the same set."""
    table = pd.read_csv(path, skipinitialspace=True)
    absent = [name for name in _RAW_OUTCOMES if name not in table]
    if absent:
        raise DataError(
            f"{path} should have the columns {', '.join(_RAW_OUTCOMES)}. Got "
            f"{', '.join(map(str, table.columns))}."
        )
    table = table.rename(columns=_RAW_OUTCOMES).set_index("subject_id")
    return _canonical_outcomes(table.assign(set=set_name), events)


def check_complete(record_ids: Iterable[int], outcomes: pd.DataFrame, where: str) -> None:
    """Raise where the records and the outcomes are not of the same stays."""
    records = pd.Index(record_ids)
    n_absent = len(outcomes.index.difference(records))
    n_extra = len(records.difference(outcomes.index))
    if n_absent or n_extra:
        raise DataError(
            f"{where}: one record per stay of the outcomes file was expected. Got {n_absent} stays "
            f"without a record and {n_extra} records without an outcome; the copy is incomplete."
        )


def read_parquet_layout(folder: Path) -> Frames | None:
    """Read ``events.parquet`` and ``outcomes.parquet`` (several sets in one), if they are there."""
    if not all((folder / f"{stem}.parquet").is_file() for stem in ("events", "outcomes")):
        return None
    return _read_parquet(folder / "events.parquet", folder / "outcomes.parquet")


def read_cache(folder: Path, set_name: str) -> Frames | None:
    """Read what `write_cache` left, or None."""
    events, outcomes, arrays = _cache_files(folder, set_name)
    if events.is_file() and outcomes.is_file() and has_pyarrow():
        return _read_parquet(events, outcomes)
    if not arrays.is_file():
        return None
    with np.load(arrays, allow_pickle=False) as stored:
        code = pd.Categorical.from_codes(stored["code"], pd.Index(stored["codes"].astype(str)))
        frame = _canonical(stored["subject_id"], stored["minute"], pd.Series(code), stored["value"])
        outcomes_frame = pd.DataFrame(
            {name: stored[f"outcome_{name}"] for name in TARGETS},
            index=pd.Index(stored["stay"], name="subject_id"),
        )
    return frame, _canonical_outcomes(outcomes_frame.assign(set=set_name), frame)


def write_cache(folder: Path, set_name: str, frames: Frames) -> list[Path]:
    """Store the parsed set: as Parquet where pyarrow is installed, else as plain NumPy arrays."""
    events, outcomes = frames
    events_file, outcomes_file, arrays_file = _cache_files(folder, set_name)
    if has_pyarrow():
        _replace(events_file, lambda path: events.to_parquet(path, index=False))
        _replace(outcomes_file, lambda path: outcomes.reset_index().to_parquet(path, index=False))
        return [events_file, outcomes_file]
    arrays = {
        "subject_id": events["subject_id"].to_numpy(),
        "minute": np.rint(events["time"].to_numpy() * 60).astype(np.int32),
        "code": events["code"].cat.codes.to_numpy(),
        "codes": np.asarray(events["code"].cat.categories, dtype=np.str_),
        "value": events["value"].to_numpy(),
        "stay": outcomes.index.to_numpy(),
        **{f"outcome_{name}": outcomes[name].to_numpy() for name in TARGETS},
    }

    def save(path: Path) -> None:
        with path.open("wb") as stream:
            np.savez_compressed(stream, **arrays)

    _replace(arrays_file, save)
    return [arrays_file]


def _cache_files(folder: Path, set_name: str) -> tuple[Path, Path, Path]:
    return (
        folder / f"events-{set_name}.parquet",
        folder / f"outcomes-{set_name}.parquet",
        folder / f"set-{set_name}.npz",
    )


def _replace(path: Path, write: Callable[[Path], None]) -> None:
    """Write beside `path` first: an interrupted run leaves no half file under the real name."""
    scratch = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        write(scratch)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def _read_parquet(events_file: Path, outcomes_file: Path) -> Frames:
    events = pd.read_parquet(events_file)
    outcomes = pd.read_parquet(outcomes_file)
    for table, needed, path in (
        (events, ("subject_id", "time", "code", "value"), events_file),
        (outcomes, ("subject_id", *TARGETS, "set"), outcomes_file),
    ):
        absent = [name for name in needed if name not in table]
        if absent:
            raise DataError(
                f"{path} should have the columns {', '.join(needed)}. Got "
                f"{', '.join(map(str, table.columns))}."
            )
    # Parquet may hold float32 hours; the source's minutes are the exact time.
    minutes = np.rint(events["time"].to_numpy(dtype=np.float64) * 60)
    frame = _canonical(
        events["subject_id"].to_numpy(),
        minutes,
        events["code"].astype("category"),
        events["value"].to_numpy(),
    )
    return frame, _canonical_outcomes(outcomes.set_index("subject_id"), frame)


def _minutes(times: pd.Series, where: str) -> np.ndarray:
    """Minutes since admission from "HH:MM"; hours go beyond 24."""
    labels = times.cat.categories.astype(str)
    parts = labels.str.extract(r"^\s*(\d+):(\d{2})\s*$")
    bad = parts.isna().any(axis=1).to_numpy()
    if bad.any() or times.isna().any():
        example = labels[bad][0] if bad.any() else ""
        raise DataError(f"{where}: times should look like HH:MM. Got {example!r}.")
    minutes = parts[0].astype(np.int64) * 60 + parts[1].astype(np.int64)
    return minutes.to_numpy()[times.cat.codes.to_numpy()]


def _canonical(
    subject: np.ndarray, minutes: np.ndarray, code: pd.Series, value: np.ndarray
) -> pd.DataFrame:
    code = code.cat.remove_unused_categories()
    code = code.cat.set_categories(sorted(code.cat.categories.astype(str)))
    subject, minutes = np.asarray(subject, np.int64), np.asarray(minutes, np.int64)
    order = np.lexsort((minutes, subject))
    return pd.DataFrame(
        {
            "subject_id": subject[order],
            "time": minutes[order] / 60,
            "code": code.array[order],
            "value": np.asarray(value, dtype=np.float32)[order],
        }
    )


def _canonical_outcomes(table: pd.DataFrame, events: pd.DataFrame) -> pd.DataFrame:
    series = events.loc[~events["code"].isin(DESCRIPTORS), "subject_id"].unique()
    table = table.assign(has_timeseries=table.index.isin(series))
    table = table[list(OUTCOME_COLUMNS)].astype(dict.fromkeys(TARGETS, np.int64))
    table.index = table.index.astype(np.int64)
    return table.astype({"set": str})
