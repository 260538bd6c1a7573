"""The file format: a zip of JSON and safetensors under a seal, written at one go or not at all.

A file is an ordinary zip with two uncompressed members.  ``document.json`` holds a header (format,
version, digests) and the document; ``arrays.safetensors`` holds the arrays.  The comment at the end
of the zip is the seal: the SHA-256 of all bytes before its own digits, so that any change of the
file is found before anything in it is read.  The seal guards against accidents and says nothing
about the author; that a file from a stranger can do no harm follows from there being no code in it.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import stat
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np

from tawt_sklearn.exceptions import SaveFileError

FORMAT = "tawt_sklearn"
FORMAT_VERSION = 1
"""Raise it when older releases could not read the file, so that they say so."""

DOCUMENT, ARRAYS = "document.json", "arrays.safetensors"

_SEAL = b"tawt-sha256:"
_DIGITS = 64
_CHUNK = 1 << 20
_LONGEST = 1200  # characters of a message, which may quote the file

Location = str | os.PathLike[str]


# ---- writing -----------------------------------------------------------------------------------


def write_archive(path: Location, document: dict[str, Any], arrays: Mapping[str, Any]) -> None:
    """Write a file, replacing one that is there; on any error everything stays as it was.

    The same content gives the same bytes.

    Parameters
    ----------
    path : str or path
    document : dict
        Anything that strict JSON can hold: no NaN, string keys.
    arrays : dict of ndarray
        Numbers and bool.  They come back C-contiguous and in the byte order of the machine.

    Raises
    ------
    FileNotFoundError
        The folder does not exist.
    SaveFileError
        The path is that of a folder or a device.
    TypeError, ValueError
        The document or an array cannot be stored.
    """
    with replacing(path) as file:
        blob = _to_safetensors(arrays)
        _write_zip(file, _to_json(document, blob), blob)
        _write_seal(file)


@contextmanager
def replacing(path: Location) -> Iterator[IO[bytes]]:
    """A new file that takes the place of the one at the path at the end, and not on an error.

    Raises
    ------
    FileNotFoundError
        The folder does not exist.
    SaveFileError
        The path is that of a folder or a device.
    """
    target = Path(os.path.realpath(os.path.expanduser(path)))
    _check_target(target)
    temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        file = open(temporary, "x+b")
    except OSError as error:  # which names a file that nobody has asked for
        raise type(error)(
            error.errno,
            f"Expected a folder to write {target.name!r} to. Got one that takes no new files "
            f"({error.strerror})",
            str(target.parent),
        ) from error
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            shutil.copymode(target, temporary)
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _check_target(target: Path) -> None:
    if not target.parent.is_dir():
        raise FileNotFoundError(
            f"Expected a folder to save into. Got {str(target.parent)!r}, which is not there. "
            "Create it first: Path(...).mkdir(parents=True)."
        )
    if target.exists() and not target.is_file():
        raise SaveFileError(
            f"Expected the path of a file. Got {str(target)!r}, which is a folder or a device. "
            "Add a file name."
        )


def _to_safetensors(arrays: Mapping[str, Any]) -> bytes:
    from safetensors.numpy import save

    plain = {}
    for name, array in arrays.items():
        array = np.asarray(array)
        if name == "__metadata__":
            raise ValueError("Expected other names of arrays. Got '__metadata__', a reserved one.")
        if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
            raise TypeError(
                f"Expected arrays of bool, integers or floats of up to 64 bits. Got {array.dtype} "
                f"in {name!r}."
            )
        little = array.dtype.newbyteorder("<")
        plain[name] = np.asarray(array, dtype=little, order="C")
    return bytes(save(plain))


def _to_json(document: dict[str, Any], blob: bytes) -> bytes:
    from tawt_sklearn import __version__

    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "written_by": __version__,
        "members": {ARRAYS: _describe(blob)},
        "document": document,
    }
    return json.dumps(content, separators=(",", ":"), allow_nan=False).encode("ascii")


def _describe(blob: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(blob).hexdigest(), "size": len(blob)}


def _write_zip(file: IO[bytes], text: bytes, blob: bytes) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, content in ((DOCUMENT, text), (ARRAYS, blob)):
            # A fixed date and system, so that the same content gives the same bytes.
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system = 3
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(info, content)
        archive.comment = _SEAL + b"0" * _DIGITS


def _write_seal(file: IO[bytes]) -> None:
    """Replace the zeros at the end by the digest of all before them."""
    file.flush()
    left = file.seek(0, os.SEEK_END) - _DIGITS
    file.seek(0)
    digest = hashlib.sha256()
    while left and (chunk := file.read(min(_CHUNK, left))):
        digest.update(chunk)
        left -= len(chunk)
    file.seek(-_DIGITS, os.SEEK_END)
    file.write(digest.hexdigest().encode("ascii"))


# ---- reading -----------------------------------------------------------------------------------


def read_archive(path: Location) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read what :func:`write_archive` wrote; nothing in the file is run or unpacked.

    Returns
    -------
    document : dict
    arrays : dict of ndarray
        Sorted by name, writeable.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    SaveFileError
        Everything else: the file is cut short, was changed, comes from a newer release or from
        another program.
    """
    with naming(path):
        data = _read_bytes(path)
        _check_seal(data)
        members = _open_zip(data)
        document, described = _read_document(members)
        del data
        if list(members) != [DOCUMENT, ARRAYS]:
            raise SaveFileError(
                f"Expected the members {DOCUMENT} and {ARRAYS}. Got {list(members)[:5]}. {ASK}"
            )
        if described != {ARRAYS: _describe(members[ARRAYS])}:
            raise SaveFileError(f"The digest or size of {ARRAYS} is not that in {DOCUMENT}. {ASK}")
        return document, _from_safetensors(members[ARRAYS])


@contextmanager
def naming(path: Location) -> Iterator[None]:
    """Put the name of the file before the message of a :class:`SaveFileError`."""
    try:
        yield
    except SaveFileError as error:
        message = f"{os.fspath(path)!r} cannot be loaded. {error}"
        raise SaveFileError(message[:_LONGEST]) from error.__cause__


ASK = "Save the estimator again, or get the file anew from where it came from."
"""What to do about a file that is not as it was written."""


def _read_bytes(path: Location) -> bytes:
    try:
        mode = os.stat(os.path.expanduser(path)).st_mode
    except FileNotFoundError:
        raise FileNotFoundError(
            f"Expected a file that save() wrote. Got {os.fspath(path)!r}, which is not there. "
            f"The working folder is {os.getcwd()!r}."
        ) from None
    if not stat.S_ISREG(mode):
        raise SaveFileError("Expected a file. Got a folder or a device.")
    return Path(path).expanduser().read_bytes()


def _check_seal(data: bytes) -> None:
    tail = data[-_DIGITS - len(_SEAL) :]
    if tail.startswith(_SEAL):
        digest = hashlib.sha256(memoryview(data)[:-_DIGITS]).hexdigest()
        if tail[len(_SEAL) :] == digest.encode("ascii"):
            return
    if not data:
        raise SaveFileError(f"The file is empty. {ASK}")
    if data.startswith(b"PK"):
        raise SaveFileError(
            f"The file was cut short or changed after it was written, or save() did not write it. "
            f"{ASK}"
        )
    if data[:1] == b"\x80" and data[1:2] <= b"\x05":
        raise SaveFileError(
            "It looks like a pickle, which save() never writes; load it with joblib.load (or "
            "pickle.load) if you trust its author, as that can run any code."
        )
    raise SaveFileError(f"Expected a file that save() wrote. Got one that begins {data[:8]!r}.")


def _open_zip(data: bytes) -> dict[str, bytes]:
    """The members, all of them stored as they are."""
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            members: dict[str, bytes] = {}
            for info in archive.infolist():
                _check_member(info, len(data))
                if info.filename in members:
                    raise SaveFileError(f"The member {info.filename!r} is there twice. {ASK}")
                members[info.filename] = archive.read(info)
            return members
    except SaveFileError:
        raise
    except Exception as error:  # zipfile raises about anything for zips that are none
        raise SaveFileError(f"The zip structure is damaged ({str(error)[:200]}). {ASK}") from error


def _check_member(info: zipfile.ZipInfo, length: int) -> None:
    """Before anything is read: a size that is not that of the bytes asks for memory in vain."""
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 0x1:
        raise SaveFileError(
            f"Expected members that are neither compressed nor encrypted. Got {info.filename!r}. "
            f"{ASK}"
        )
    if info.orig_filename != info.filename:  # zipfile cuts names at a zero
        raise SaveFileError(f"The member {info.orig_filename!r} has an odd name. {ASK}")
    if info.file_size != info.compress_size or info.file_size > length:
        raise SaveFileError(
            f"The member {info.filename!r} declares {info.file_size:,} bytes, in a file of "
            f"{length:,}. {ASK}"
        )


def _read_document(members: dict[str, bytes]) -> tuple[dict[str, Any], Any]:
    """The document, and what its header says of the other members."""
    if DOCUMENT not in members:
        raise SaveFileError(f"Expected a member {DOCUMENT}. Got {list(members)[:5]}. {ASK}")
    content = _parse_json(members[DOCUMENT])
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise SaveFileError(f"{DOCUMENT} does not say that its format is {FORMAT!r}. {ASK}")
    version, author = content.get("format_version"), content.get("written_by")
    if type(version) is not int or version < 1 or not isinstance(author, str):
        raise SaveFileError(f"{DOCUMENT} does not say which version wrote it. {ASK}")
    if version > FORMAT_VERSION:
        raise SaveFileError(
            f"It was written by a newer release ({author[:40]}, file format {version}; this one "
            f"reads up to {FORMAT_VERSION}). Upgrade {FORMAT}."
        )
    document = content.get("document")
    if not isinstance(document, dict):
        raise SaveFileError(f"{DOCUMENT} holds no document. {ASK}")
    return document, content.get("members")


def _parse_json(text: bytes) -> Any:
    try:
        return json.loads(
            text.decode("ascii"),
            object_pairs_hook=_without_repeats,
            parse_int=_short_int,
            parse_constant=_no_constant,
        )
    except RecursionError:
        raise SaveFileError(f"{DOCUMENT} is nested too deeply. {ASK}") from None
    except ValueError as error:
        raise SaveFileError(
            f"{DOCUMENT} is not the JSON expected ({str(error)[:200]}). {ASK}"
        ) from error


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a key is there twice")
    return content


def _short_int(digits: str) -> int:
    if len(digits) > 20:  # those of 64 bits; more take a time that grows with their square
        raise ValueError(f"an integer of {len(digits):,} digits")
    return int(digits)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name}, which strict JSON lacks")


def _from_safetensors(blob: bytes) -> dict[str, np.ndarray]:
    from safetensors.numpy import load

    try:
        arrays = dict(sorted(load(blob).items()))  # they come in no order
    except Exception as error:  # among others KeyError for types that NumPy lacks
        raise SaveFileError(f"{ARRAYS} is damaged ({str(error)[:200]}). {ASK}") from error
    for name, array in arrays.items():
        if array.dtype == np.bool_ and array.size and array.view(np.uint8).max() > 1:
            raise SaveFileError(f"{ARRAYS} holds a bool that is neither true nor false. {ASK}")
        if not array.flags.writeable:
            arrays[name] = array.copy()
    return arrays
