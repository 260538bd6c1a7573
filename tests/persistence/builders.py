"""Save files made by hand, with a valid seal around whatever they hold."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from typing import Any

import numpy as np
from safetensors.numpy import save

SEAL = b"tawt-sha256:"

Member = tuple[str, bytes]


def reseal(data: bytes) -> bytes:
    """The bytes with a seal that fits them in place of the last one."""
    body = data[:-64]
    return body + hashlib.sha256(body).hexdigest().encode()


def sealed_zip(members: list[Member], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A sealed zip of any members, under any names."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members:
            info = zipfile.ZipInfo("x", (1980, 1, 1, 0, 0, 0))
            info.filename = name  # past the clean-up in ZipInfo
            info.compress_type = compression
            archive.writestr(info, content)
        archive.comment = SEAL + b"0" * 64
    return reseal(buffer.getvalue())


def header(blob: bytes, document: Any, **changes: Any) -> dict[str, Any]:
    """What document.json holds."""
    digest = {"sha256": hashlib.sha256(blob).hexdigest(), "size": len(blob)}
    content = {
        "format": "tawt_sklearn",
        "format_version": 1,
        "written_by": "0.1.0",
        "members": {"arrays.safetensors": digest},
        "document": document,
    }
    return {**content, **changes}


def save_file(document: Any, arrays: dict[str, np.ndarray] | bytes, **changes: Any) -> bytes:
    """A file with a valid seal and digests; ``changes`` replace parts of its header."""
    blob = arrays if isinstance(arrays, bytes) else save(arrays)
    text = json.dumps(header(blob, document, **changes)).encode()
    return sealed_zip([("document.json", text), ("arrays.safetensors", blob)])


def save_text(text: bytes) -> bytes:
    """A file with this as its document.json."""
    return sealed_zip([("document.json", text), ("arrays.safetensors", save({}))])
