"""What the loaders of published tables share: finding files, zips in zips, content digests."""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from tawt_sklearn.datasets._download import DatasetNotFoundError, DownloadError, download_file
from tawt_sklearn.datasets._physionet2012_files import has_pyarrow
from tawt_sklearn.exceptions import DataError

# What reading a damaged zip may raise; RuntimeError is how zipfile says "encrypted".
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError)


@dataclass
class TableSource:
    """One folder with a Parquet file, text files or their zip, and the address of that zip.

    Parameters
    ----------
    title : str
        What the data are called in messages.
    data_home : Path
        Folder that has the data in its subfolder `name`, or in itself.
    name : str
        The subfolder, and the name of the Parquet file in it.
    base_url, archive : str
        Where the published zip is, and what it is called there and here.
    text_pattern : str
        Glob pattern of the text files.
    n_retries, delay
        As in :func:`~tawt_sklearn.datasets._download.download_file`.
    """

    title: str
    data_home: Path
    name: str
    base_url: str
    archive: str
    text_pattern: str
    n_retries: int
    delay: float
    folder: Path = field(init=False)
    files_read: list[Path] = field(init=False, default_factory=list)
    _downloaded: Path | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.folder = self.data_home / self.name
        if not self.folder.is_dir() and self.data_home.is_dir():
            known = (f"{self.name}.parquet", self.archive, self.text_pattern)
            if any(True for pattern in known for _ in self.data_home.glob(pattern)):
                self.folder = self.data_home

    @property
    def parquet(self) -> Path:
        return self.folder / f"{self.name}.parquet"

    def read_parquet(self, columns: Sequence[str]) -> pd.DataFrame | None:
        """Read the Parquet copy, if it is there and can be read on this machine."""
        path = self.parquet
        if not path.is_file() or not has_pyarrow():
            return None
        try:
            table = pd.read_parquet(path)
        except (ValueError, OSError) as error:
            raise DataError(
                f"{path} is not a readable Parquet file. Got: {error}. Replace or remove it."
            ) from error
        absent = [name for name in columns if name not in table]
        if absent:
            raise DataError(
                f"{path} should have the columns {', '.join(columns)}. Got no {', '.join(absent)}. "
                "Replace or remove it."
            )
        return table[list(columns)]

    def find_texts(self, names: Collection[str]) -> dict[str, bytes]:
        """Read those of the text files that are here: unpacked, one folder deeper, or zipped."""
        texts: dict[str, bytes] = {}
        for name in names:
            for path in (self.folder / name, *sorted(self.folder.glob(f"*/{name}"))):
                if name not in texts and path.is_file():
                    texts[name] = path.read_bytes()
                    self.files_read.append(path)
        for path in sorted(self.folder.glob("*.zip")):
            found = read_zip(path, {name for name in names if name not in texts})
            if found:
                self.files_read.append(path)
            texts |= found
        return texts

    def require_texts(self, names: Collection[str], *, download: bool) -> dict[str, bytes]:
        """Read the text files, after a download if some are not here."""
        texts = self.find_texts(names)
        archive = self.folder / self.archive
        if download and len(texts) < len(names) and not archive.is_file():
            self._download(archive)
            texts |= self.find_texts([name for name in names if name not in texts])
        absent = ", ".join(name for name in names if name not in texts)
        if absent and archive.is_file():
            raise DataError(
                f"{archive} should hold {', '.join(names)}. Got no {absent}. Remove it and "
                "download it again."
            )
        if absent:
            raise DatasetNotFoundError(
                f"{self.title} were expected in {self.folder}. Got no {absent} and download=False. "
                f"{self._hint()}"
            )
        return texts

    @contextmanager
    def only_good_downloads(self) -> Iterator[None]:
        """Remove what this call has downloaded where it turns out to be something else."""
        try:
            yield
        except (DataError, DownloadError):
            if self._downloaded is not None:
                self._downloaded.unlink(missing_ok=True)
            raise

    def _download(self, archive: Path) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._downloaded = download_file(
                f"{self.base_url.rstrip('/')}/{self.archive}",
                archive,
                sha256=None,  # none is published: the content is checked after parsing
                n_retries=self.n_retries,
                delay=self.delay,
                hint=self._hint(),
            )
        except DownloadError:
            raise
        except OSError as error:
            raise DownloadError(
                f"Files cannot be written to {self.folder}. Got: {error}. Give another data_home. "
                f"{self._hint()}"
            ) from error

    def _hint(self) -> str:
        hint = (
            f"To place the data by hand, put {self.archive} from {self.base_url} (or the files "
            f"{self.text_pattern} in it) into {self.folder}, or point data_home= or the "
            "environment variable TAWT_DATA to a folder that has them in its subfolder "
            f"{self.name}."
        )
        if self.parquet.is_file() and not has_pyarrow():
            hint += " A Parquet file is there, but reading it needs pyarrow."
        return hint


def read_zip(path: Path, names: Collection[str]) -> dict[str, bytes]:
    """Read members by their bare name, also from zips inside the zip.

    The members are read, never unpacked: nothing in the archive can write outside its folder.
    """
    if not names:
        return {}
    try:
        with zipfile.ZipFile(path) as archive:
            return _members(archive, names, depth=1)
    except _ZIP_ERRORS as error:
        raise DataError(
            f"{path} is not a readable zip archive. Got: {error}. Remove it and download it again."
        ) from error


def _members(archive: zipfile.ZipFile, names: Collection[str], depth: int) -> dict[str, bytes]:
    found = {}
    for member in archive.infolist():
        name = member.filename.rsplit("/", 1)[-1]
        if name in names:
            found[name] = archive.read(member)
        elif depth and name.lower().endswith(".zip"):
            with zipfile.ZipFile(io.BytesIO(archive.read(member))) as inner:
                found |= _members(inner, names, depth - 1)
    return found


def content_digest(table: pd.DataFrame) -> str:
    """Return the SHA-256 of what a table says, whatever file it came from.

    Column by column: the name, then the values as little-endian bytes (float32, int64, seconds
    since 1970) or as lines of text. Negative zero counts as zero, and all NaN are alike.
    """
    digest = hashlib.sha256()
    for name in table:
        column = table[name]
        digest.update(f"{name}\n".encode())
        if isinstance(column.dtype, pd.CategoricalDtype):
            words = column.astype(object).where(column.notna(), "")
            digest.update("\n".join(words).encode())
        elif column.dtype.kind == "M":
            digest.update(column.to_numpy("datetime64[s]").astype("<i8").tobytes())
        elif column.dtype.kind == "f":
            values = column.to_numpy().astype("<f4") + np.float32(0)
            digest.update(np.where(np.isnan(values), np.float32(np.nan), values).tobytes())
        else:
            digest.update(column.to_numpy().astype("<i8").tobytes())
    return digest.hexdigest()


def check_digest(table: pd.DataFrame, expected: str | None, what: str) -> None:
    """Raise where a table is not the published one; without a known digest nothing is compared."""
    found = content_digest(table)
    if expected not in (None, found):
        raise DownloadError(
            f"{what}: the values are not those that were published: expected the content SHA-256 "
            f"{expected}. Got {found}. Remove the files in question and call again with "
            "download=True."
        )


def check_names(parameter: str, given: str | Sequence[str], known: Sequence[str]) -> list[str]:
    """Return one or several names as a list, or raise where one is unknown or given twice."""
    names = [given] if isinstance(given, str) else list(given)
    if not names or len(set(names)) < len(names) or not set(names) <= set(known):
        raise ValueError(
            f"{parameter} must name some of {', '.join(known)}, each once. Got {given!r}."
        )
    return names
