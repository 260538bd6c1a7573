"""Finds the PhysioNet 2012 files on this machine, or completes them from the official address."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from tawt_sklearn.datasets import _physionet2012_files as files
from tawt_sklearn.datasets._download import (
    DatasetNotFoundError,
    DownloadError,
    download_file,
    read_checksums,
    sha256_of,
)

BASE_URL = "https://physionet.org/files/challenge-2012/1.0.0/"
FOLDER = "physionet2012"
CHECKSUMS = "SHA256SUMS.txt"


class Source:
    """One folder of data and the address from which it can be completed."""

    def __init__(self, data_home: Path, base_url: str | None, n_retries: int, delay: float) -> None:
        self.folder = _locate(data_home)
        self.base_url = (base_url or BASE_URL).rstrip("/") + "/"
        self.n_retries = n_retries
        self.delay = delay
        self.files_read: list[Path] = []
        self._shared: files.Frames | None = None
        self._checksums: dict[str, str] | None = None

    def load(self, set_names: Sequence[str], *, download: bool) -> files.Frames:
        parts = [self._load_set(name, download=download) for name in set_names]
        if len(parts) == 1:
            return parts[0]
        codes = sorted({code for events, _ in parts for code in events["code"].cat.categories})
        events = pd.concat(
            [part.assign(code=part["code"].cat.set_categories(codes)) for part, _ in parts],
            ignore_index=True,
        )
        return events, pd.concat([outcomes for _, outcomes in parts])

    def _load_set(self, name: str, *, download: bool) -> files.Frames:
        frames = self._read_parsed(name)
        if frames is None:
            frames = self._read_records(name)
        if frames is None:
            frames = self._read_archive(name, download=download)
        return frames

    def _read_parsed(self, name: str) -> files.Frames | None:
        frames = files.read_cache(self.folder, name)
        if frames is not None:
            self.files_read += sorted(self.folder.glob(f"*-{name}.parquet")) or [
                self.folder / f"set-{name}.npz"
            ]
            return frames
        if self._shared is None and files.has_pyarrow():
            self._shared = files.read_parquet_layout(self.folder)
        if self._shared is None or not (self._shared[1]["set"] == name).any():
            return None
        events, outcomes = self._shared
        outcomes = outcomes[outcomes["set"] == name]
        events = events[events["subject_id"].isin(outcomes.index)].reset_index(drop=True)
        code = events["code"].cat.remove_unused_categories()
        for stem in ("events", "outcomes"):
            if (path := self.folder / f"{stem}.parquet") not in self.files_read:
                self.files_read.append(path)
        return events.assign(code=code), outcomes

    def _read_records(self, name: str) -> files.Frames | None:
        folder, outcomes = self.folder / f"set-{name}", self.folder / f"Outcomes-{name}.txt"
        if not (folder.is_dir() and outcomes.is_file()):
            return None
        self.files_read += [folder, outcomes]
        return self._parse(name, list(files.read_folder(folder)), folder)

    def _read_archive(self, name: str, *, download: bool) -> files.Frames:
        archive, outcomes = self._archive_files(name)
        if download:
            if not all(self._is_intact(path) for path in (archive, outcomes)):
                self._download(name)
        else:
            self._check_there(name)
        frames = self._parse(name, list(files.read_archive(archive)), archive)
        self.files_read += [archive, outcomes]
        try:
            files.write_cache(self.folder, name, frames)
        except OSError:
            pass  # a read-only copy is parsed anew each time
        return frames

    def _parse(self, name: str, records: list[tuple[str, bytes]], where: Path) -> files.Frames:
        events = files.read_text_records(records, str(where))
        outcomes = files.read_text_outcomes(self.folder / f"Outcomes-{name}.txt", name, events)
        record_ids = [int(Path(file_name).stem) for file_name, _ in records]
        files.check_complete(record_ids, outcomes, str(where))
        return events, outcomes

    def _archive_files(self, name: str) -> tuple[Path, Path]:
        return self.folder / f"set-{name}.tar.gz", self.folder / f"Outcomes-{name}.txt"

    def _is_intact(self, path: Path) -> bool:
        """Whether a file is there and has its published checksum, as far as that is known here."""
        if not path.is_file():
            return False
        listing = self.folder / CHECKSUMS
        known = read_checksums(listing) if listing.is_file() else {}
        return path.name not in known or known[path.name] == sha256_of(path)

    def _check_there(self, name: str) -> None:
        for path in self._archive_files(name):
            if path.is_file() and not self._is_intact(path):
                raise DownloadError(
                    f"{path} does not have the checksum that {CHECKSUMS} lists for it. Replace "
                    "the file, or call with download=True."
                )
            if not path.is_file():
                raise DatasetNotFoundError(
                    f"PhysioNet 2012, set {name}, was expected in {self.folder}. Got no "
                    f"{path.name} and download=False. {self._hint(name)}"
                )

    def _download(self, name: str) -> None:
        hint = self._hint(name)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if self._checksums is None:
                listing = self._fetch(CHECKSUMS, None, hint)
                self._checksums = read_checksums(listing)
            for path in self._archive_files(name):
                digest = self._checksums.get(path.name)
                if digest is None:
                    raise DownloadError(
                        f"{self.base_url}{CHECKSUMS} was expected to list {path.name}. Got no "
                        f"checksum for it, so a download could not be verified. {hint}"
                    )
                if not path.is_file() or sha256_of(path) != digest:
                    self._fetch(path.name, digest, hint)
        except DownloadError:
            raise
        except OSError as error:
            raise DownloadError(
                f"Files cannot be written to {self.folder}. Got: {error}. Give another data_home. "
                f"{hint}"
            ) from error

    def _fetch(self, name: str, digest: str | None, hint: str) -> Path:
        return download_file(
            self.base_url + name,
            self.folder / name,
            sha256=digest,
            n_retries=self.n_retries,
            delay=self.delay,
            hint=hint,
        )

    def _hint(self, name: str) -> str:
        hint = (
            f"To place the data by hand, put set-{name}.tar.gz (or its unpacked folder set-{name}) "
            f"and Outcomes-{name}.txt from {BASE_URL} into {self.folder}, or point data_home= or "
            "the environment variable TAWT_DATA to a folder that has them in its subfolder "
            f"{FOLDER}."
        )
        if (self.folder / "events.parquet").is_file() and not files.has_pyarrow():
            hint += " Parquet files are there, but reading them needs pyarrow."
        return hint


def _locate(data_home: Path) -> Path:
    """Return the data set's folder: the subfolder, unless the files lie in `data_home` itself."""
    folder = data_home / FOLDER
    if not folder.is_dir() and data_home.is_dir():
        known = ("events.parquet", "Outcomes-?.txt", "events-?.parquet", "set-?.npz")
        if any(True for pattern in known for _ in data_home.glob(pattern)):
            return data_home
    return folder
