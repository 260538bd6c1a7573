"""Where data sets live, and how they get there: resumable, verified downloads with urllib."""

from __future__ import annotations

import hashlib
import os
import shutil
import ssl
import time
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from tawt_sklearn.exceptions import TawtError

ENVIRONMENT_VARIABLE = "TAWT_DATA"
_TRANSIENT_STATUS = {408, 429, 500, 502, 503, 504}
_CHUNK = 1 << 18
# What goes wrong on the way; an error of the local disk is none of these.
_NETWORK_ERRORS = (URLError, ConnectionError, TimeoutError, ssl.SSLError, HTTPException)


class DownloadError(TawtError, OSError):
    """A file could not be downloaded, or what arrived is not the file that was published."""


class DatasetNotFoundError(TawtError, FileNotFoundError):
    """The data are not on this machine and downloading them was not allowed."""


def get_data_home(data_home: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder that holds the data sets, one subfolder each.

    Parameters
    ----------
    data_home : str or path, default=None
        The folder to use. By default the environment variable ``TAWT_DATA`` is used where it is
        set, else ``tawt_sklearn_data`` in the user's home folder.

    Returns
    -------
    Path
        The folder; it is not created.

    Examples
    --------
    >>> from tawt_sklearn.datasets import get_data_home
    >>> get_data_home("data").name
    'data'
    """
    if data_home is None:
        data_home = os.environ.get(ENVIRONMENT_VARIABLE) or Path("~", "tawt_sklearn_data")
    return Path(data_home).expanduser()


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as a hexadecimal string."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_checksums(path: Path) -> dict[str, str]:
    """Read a ``SHA256SUMS.txt``: file name -> hexadecimal SHA-256."""
    checksums = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        digest, _, name = line.strip().partition(" ")
        if len(digest) == 64 and name:
            checksums[name.strip().lstrip("*").removeprefix("./")] = digest.lower()
    return checksums


def download_file(
    url: str,
    target: Path,
    *,
    sha256: str | None,
    n_retries: int = 3,
    delay: float = 1.0,
    timeout: float = 30.0,
    hint: str = "",
) -> Path:
    """Download `url` to `target`, going on where an earlier attempt stopped.

    Bytes go to ``<target>.part``, which survives an interruption and is resumed with an HTTP range
    request; it becomes `target` only after its checksum fits.

    Parameters
    ----------
    url : str
        Where to download from.
    target : Path
        Where to put the file. Its folder must exist.
    sha256 : str or None
        Expected SHA-256. Without one nothing is resumed, as nothing would notice a bad joint.
    n_retries : int, default=3
        Further attempts after a lost connection or a passing server error.
    delay : float, default=1.0
        Seconds between attempts.
    timeout : float, default=30.0
        Seconds without an answer after which an attempt counts as failed.
    hint : str, default=""
        Appended to error messages: what the user can do instead.

    Returns
    -------
    Path
        `target`.

    Raises
    ------
    DownloadError
        If the server refuses, cannot be reached, or sends something with another checksum.
    """
    part = target.with_name(target.name + ".part")
    if sha256 is None:
        part.unlink(missing_ok=True)
    retries_left = n_retries
    while True:
        resumed = part.exists()
        try:
            _transfer(url, part, timeout)
        except _NETWORK_ERRORS as error:
            transient = not isinstance(error, HTTPError) or error.code in _TRANSIENT_STATUS
            if isinstance(error, HTTPError):
                error.close()
            if transient and retries_left > 0:
                retries_left -= 1
                time.sleep(delay)
                continue
            reason = getattr(error, "reason", None) or error
            raise DownloadError(f"Could not download {url}. Got: {reason}. {hint}") from error
        found = sha256_of(part)
        if sha256 in (None, found):
            part.replace(target)
            return target
        part.unlink()
        if not resumed:
            raise DownloadError(
                f"{url} has the wrong SHA-256: expected {sha256}. Got {found}. "
                f"The file was removed; try again later. {hint}"
            )
        # The part may have been the beginning of an older or damaged file: start once from zero.


def _transfer(url: str, part: Path, timeout: float) -> None:
    """Append the rest of `url` to `part`, or write it anew where the server ignores ranges."""
    offset = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "tawt_sklearn"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
    try:
        response = urlopen(Request(url, headers=headers), timeout=timeout)
    except HTTPError as error:
        if offset and error.code == 416:  # nothing is left to send: the checksum decides
            error.close()
            return
        raise
    with response:
        resumes = response.status == 206 and response.headers.get("Content-Range", "").startswith(
            f"bytes {offset}-"
        )
        if response.status == 206 and not resumes:
            part.unlink()
            raise URLError("the server sent another part of the file than was asked for")
        with part.open("ab" if resumes else "wb") as stream:
            before = stream.tell() if resumes else 0
            shutil.copyfileobj(response, stream, _CHUNK)
            received = stream.tell() - before
        expected = response.headers.get("Content-Length")
        if expected is not None and received < int(expected):
            raise URLError(f"the connection was closed after {received} of {expected} bytes")
