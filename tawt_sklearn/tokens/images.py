"""Images as the user has them, arrays, PIL images or paths, and as arrays of one form.

Pillow (the extra ``image``) is imported where a path or a PIL image comes along, and not before.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tawt_sklearn.exceptions import DataError

LARGEST = {np.dtype(np.uint8): 255.0, np.dtype(np.uint16): 65535.0, np.dtype(np.bool_): 1.0}
"""What whole numbers are divided by; other numbers stay as they are."""

MODES = {"L": 1, "1": 1, "I;16": 1, "F": 1, "I": 1, "LA": 1, "RGB": 3, "P": 3, "RGBA": 3, "CMYK": 3}
"""Modes of Pillow, and the channels that are read of them; transparency is left out."""

GREY = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""Weights of red, green and blue in what the eye sees as brightness (ITU-R BT.601)."""

MOST_CHANNELS = 16
"""With more on the last axis an array looks like something else than (H, W, C)."""


class Shape(NamedTuple):
    """Of an image, as far as can be told without reading all of it."""

    height: int
    width: int
    channels: int


def shape_of(item: Any) -> Shape:
    """Size and channels of an image; of a file only the head is read.

    Raises
    ------
    DataError
        It is no image: a file that is not there or is none, an array of another shape.
    """
    if isinstance(item, str | os.PathLike):
        with opened(item) as image:
            return _of_pillow(image)
    if _is_pillow(item):
        return _of_pillow(item)
    array = np.asarray(item)
    if not isinstance(item, np.ndarray) or array.dtype.kind not in "uifb":
        raise DataError(
            "Expected an image: an array (H, W) or (H, W, C) of numbers, a PIL image, or the path "
            f"of a file. Got {type(item).__name__}{_of(array)}. A missing image is None."
        )
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise DataError(
            f"Expected an array of shape (H, W) or (H, W, C). Got {array.shape}. Several images of "
            "a row are a list of arrays."
        )
    C = array.shape[2] if array.ndim == 3 else 1
    if C > MOST_CHANNELS:
        first = " It looks like (C, H, W): pass np.moveaxis(image, 0, -1)."
        raise DataError(
            f"Expected up to {MOST_CHANNELS} channels on the last axis. Got an array of shape "
            f"{array.shape}.{first if array.shape[0] <= MOST_CHANNELS else ''}"
        )
    return Shape(array.shape[0], array.shape[1], C)


def read_image(item: Any) -> NDArray[np.float32]:
    """An image as (H, W, C) numbers, whole ones from 0 to 1.

    Raises
    ------
    DataError
        As :func:`shape_of`; and a file that ends too early, or pixels that are not finite.
    """
    if isinstance(item, str | os.PathLike):
        with opened(item) as image:
            try:
                array = _from_pillow(image)
            except (OSError, SyntaxError, ValueError) as error:
                raise DataError(
                    f"Expected a whole image file. Got {str(item)!r}, which cannot be read to its "
                    f"end ({error}). Write it anew, or put None in its place."
                ) from error
    elif _is_pillow(item):
        array = _from_pillow(item)
    else:
        shape_of(item)
        array = np.asarray(item)
    largest = LARGEST.get(array.dtype.newbyteorder("="))
    numbers = array.astype(np.float32)
    if largest is not None:
        numbers /= largest
    if not np.isfinite(numbers).all():
        raise DataError(
            "Expected finite pixels. Got NaN or infinity in an image of shape "
            f"{array.shape}. Fill them in, or put None in place of the image."
        )
    return numbers if numbers.ndim == 3 else numbers[:, :, np.newaxis]


def digest_of(item: Any) -> str:
    """What tells an image from others: its pixels, or of a file its path, size and time."""
    if isinstance(item, str | os.PathLike):
        try:
            path = Path(item).expanduser()
            state = path.stat()
        except (OSError, ValueError, RuntimeError):  # of which the reader says what is wrong
            return str(item)
        return f"{path}:{state.st_size}:{state.st_mtime_ns}"
    array = np.ascontiguousarray(np.asarray(item))
    told = hashlib.blake2b(array.tobytes(), digest_size=16)
    told.update(f"{array.shape}{array.dtype}{getattr(item, 'mode', '')}".encode())
    return told.hexdigest()


def with_channels(image: NDArray[np.float32], n: int) -> NDArray[np.float32]:
    """(H, W, C) with ``n`` channels: grey from colours, or grey n times."""
    C = image.shape[2]
    if n == C:
        return image
    if n == 1 and C == 3:
        return (image @ GREY)[:, :, np.newaxis]
    if C == 1:
        return np.repeat(image, n, axis=2)
    raise DataError(f"Expected {n} channels. Got {C}, which do not become {n}.")


def opened(path: Any) -> Any:
    """A file as an image of Pillow, of which only the head has been read.

    Raises
    ------
    DataError
        There is no such file, it is a folder, or none that Pillow knows.
    """
    try:
        file = Path(path).expanduser()
        there = file.exists()
    except (OSError, ValueError, RuntimeError) as error:
        told = repr(str(path)[:100])
        raise DataError(
            f"Expected the path of an image. Got {told} ({error}). A missing image is None."
        ) from error
    if not there:
        raise DataError(
            f"Expected the path of an image. Got {str(path)!r}, where there is no file. Paths are "
            f"relative to {str(Path.cwd())!r}; a missing image is None."
        )
    if file.is_dir():
        raise DataError(f"Expected the path of an image file. Got the folder {str(path)!r}.")
    pillow = _pillow()
    try:
        return pillow.open(file)
    except (OSError, SyntaxError, ValueError, pillow.DecompressionBombError) as error:
        raise DataError(
            f"Expected an image file. Got {str(path)!r}, which cannot be read ({error})."
        ) from error


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise DataError(
            "Expected Pillow to be installed, which reads image files. Got none: pip install "
            '"tawt_sklearn[image]", or give arrays.'
        ) from error
    return Image


def _is_pillow(item: Any) -> bool:
    return type(item).__module__.partition(".")[0] == "PIL" and hasattr(item, "getbands")


def _of_pillow(image: Any) -> Shape:
    if image.mode not in MODES and not image.mode.startswith("I;16"):
        raise DataError(f"Expected a grey or coloured image. Got one of mode {image.mode!r}.")
    width, height = image.size
    return Shape(height, width, MODES.get(image.mode, 1))


def _from_pillow(image: Any) -> NDArray:
    channels = _of_pillow(image).channels
    if channels == 3 and image.mode != "RGB":
        image = image.convert("RGB")
    elif image.mode == "LA":
        image = image.convert("L")
    array = np.asarray(image)
    # Numbers of 32 bits in Pillow mostly hold 16: those of PNG files, for instance.
    return array.clip(0, 65535).astype(np.uint16) if image.mode == "I" else array


def _of(array: NDArray) -> str:
    return f" of {array.dtype}" if array.dtype != object else ""
