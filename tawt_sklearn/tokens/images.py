"""Images as the user has them, arrays, PIL images or paths, and as arrays of one form.

Pillow (the extra ``image``) is imported where a path or a PIL image comes along, and not before.
"""

from __future__ import annotations

import hashlib
import io
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

WITHOUT_ALPHA = {1: 1, 2: 1, 3: 3, 4: 3}
"""Channels of grey images and colours, with transparency or without, and those that show it."""

ORIENTATION = 0x0112
"""The tag of EXIF that says how a camera was held."""

HALF_TURNS = 4
"""Up to here it leaves width and height as they are."""

MOST_CHANNELS = 16
"""With more on the last axis an array looks like something else than (H, W, C)."""


class Shape(NamedTuple):
    """Of an image, as far as can be told without reading all of it."""

    height: int
    width: int
    channels: int
    whole: bool
    """Whether pixels are whole numbers of a type whose largest one becomes 1."""


class Pixels(NamedTuple):
    """An image that was read."""

    numbers: NDArray[np.float32]  # (H, W, C)
    whole: bool  # as of its Shape


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
    _refuse_masked(item)
    array = np.asarray(item)
    if not isinstance(item, np.ndarray) or array.dtype.kind not in "uifb":
        raise DataError(
            "Expected an image: an array (H, W) or (H, W, C) of numbers, a PIL image, or the path "
            f"of a file. Got {type(item).__name__}{_of(item)}. A missing image is None, "
            "several are a list."
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
    return Shape(array.shape[0], array.shape[1], C, _largest(array) is not None)


def read_image(item: Any) -> Pixels:
    """An image as (H, W, C) numbers, whole ones from 0 to 1, the way up that its file says.

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
    largest = _largest(array)
    numbers = array.astype(np.float32)
    if largest is not None:
        numbers /= largest
    if not np.isfinite(numbers).all():
        raise DataError(
            "Expected finite pixels. Got NaN or infinity in an image of shape "
            f"{array.shape}. Fill them in, or put None in place of the image."
        )
    if numbers.ndim == 2:
        numbers = numbers[:, :, np.newaxis]
    return Pixels(numbers, largest is not None)


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
    way_up = _orientation(item) if _is_pillow(item) else 1
    told.update(f"{array.shape}{array.dtype}{getattr(item, 'mode', '')}{way_up}".encode())
    return told.hexdigest()


def become(given: int, wanted: int) -> bool:
    """Whether an image of so many channels can be turned into one of those wanted."""
    return given in (1, wanted) or (given in WITHOUT_ALPHA and wanted in (1, 3))


def with_channels(image: NDArray[np.float32], n: int) -> NDArray[np.float32]:
    """(H, W, C) with ``n`` channels: grey from colours, or grey n times; without transparency.

    Raises
    ------
    DataError
        Channels that do not :func:`become` those.
    """
    C = image.shape[2]
    if n == C:
        return image
    if not become(C, n):
        raise DataError(f"Expected {n} channels. Got {C}, which do not become {n}.")
    shown = image[:, :, : WITHOUT_ALPHA[C]]
    if n == 1 and shown.shape[2] == 3:
        return (shown @ GREY)[:, :, np.newaxis]
    return np.repeat(shown, n, axis=2) if shown.shape[2] == 1 else shown


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
        image = pillow.open(file)
        if image.format == "TIFF" and image.tag_v2.get(ORIENTATION, 1) > HALF_TURNS:
            # Of a file that it maps into memory Pillow turns the size and not the pixels.
            image.close()
            image = pillow.open(io.BytesIO(file.read_bytes()))
        return image
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
        raise DataError(
            f"Expected a grey or coloured image. Got one of mode {image.mode!r}. Convert it: "
            'image.convert("RGB").'
        )
    width, height = image.size
    if _orientation(image) >= 5:  # lies on its side
        width, height = height, width
    return Shape(height, width, MODES.get(image.mode, 1), image.mode != "F")


def _from_pillow(image: Any) -> NDArray:
    channels = _of_pillow(image).channels
    if _orientation(image) > 1:
        from PIL import ImageOps

        image = ImageOps.exif_transpose(image)
    if channels == 3 and image.mode != "RGB":
        image = image.convert("RGB")
    elif image.mode == "LA":
        image = image.convert("L")
    array = np.asarray(image)
    # Numbers of 32 bits in Pillow mostly hold 16: those of PNG files, for instance.
    return array.clip(0, 65535).astype(np.uint16) if image.mode == "I" else array


def _orientation(image: Any) -> int:
    """1 to 8, as EXIF counts; 1 where nothing is said, or what is said makes no sense.

    Of what stands in the head of a file only: Pillow would read all of a PNG file to look for more,
    and turns TIFF files by itself.
    """
    if "exif" not in image.info:
        return 1
    try:
        found = int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # whatever a damaged note leads to; the pixels may be whole
        return 1
    return found if 1 <= found <= 8 else 1


def _refuse_masked(item: Any) -> None:
    """Pixels that are masked would be read as if they were not.

    Raises
    ------
    DataError
    """
    if isinstance(item, np.ma.MaskedArray) and np.ma.getmaskarray(item).any():
        n = int(np.ma.getmaskarray(item).sum())
        raise DataError(
            f"Expected an image without masked pixels. Got a masked array in which {n} of "
            f"{item.size} are. Fill them in, image.filled(0), or put None in place of the image."
        )


def _largest(array: NDArray) -> float | None:
    """What becomes 1; None where numbers stay as they are."""
    return LARGEST.get(array.dtype.newbyteorder("="))


def _of(item: Any) -> str:
    return f" of {item.dtype}" if isinstance(item, np.ndarray) else ""
