"""Whether images go together: their sizes, and the scale of their pixels."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence

from tawt_sklearn.exceptions import DataError, DataWarning
from tawt_sklearn.tokens.images import Pixels, Shape

LONGEST_SIDE = 224
"""Of images where ``image_size`` does not say what to make of them."""

NEARLY_UNIT = (-0.5, 1.5)
"""Numbers outside are on another scale than 0 to 1, which resizing may overshoot a little."""


def usual_size(shapes: Sequence[Shape]) -> tuple[int, int]:
    """The size that most images have, of the larger ones where as many have another."""
    counts = Counter((shape.height, shape.width) for shape in shapes)
    (height, width), _ = max(counts.items(), key=lambda item: (item[1], item[0]))
    factor = min(1.0, LONGEST_SIDE / max(height, width))
    return max(2, round(height * factor)), max(2, round(width * factor))


def warn_sizes(shapes: Sequence[Shape], size: tuple[int, int]) -> None:
    """Say once that images are resized, and to what.

    Warns
    -----
    DataWarning
    """
    found = sorted({(shape.height, shape.width) for shape in shapes})
    if len(found) > 1:
        some = ", ".join(f"{height} x {width}" for height, width in found[:4])
        warnings.warn(
            f"Images have {len(found)} different sizes ({some}{', ...' if len(found) > 4 else ''})"
            f"; all are resized to {size[0]} x {size[1]}, further ones, too. Set image_size to "
            "choose another size.",
            DataWarning,
            stacklevel=3,
        )


def check_scale(image: Pixels, unit: bool, known: tuple[float, float]) -> None:
    """Refuse pixels from 0 to 255 beside those from 0 to 1.

    Parameters
    ----------
    unit : bool
        Whether pixels are to be from 0 to 1.
    known : (low, high)
        What those of fit were.

    Raises
    ------
    DataError
    """
    lowest, highest = NEARLY_UNIT
    if image.whole == unit:
        return
    if image.whole:
        low, high = known
        if low < lowest or high > highest:
            raise DataError(
                f"Expected numbers from {low:g} to {high:g}, as in fit. Got whole numbers of 8 or "
                "16 bits without a sign, or a file of them, which become 0 to 1. Give an array of "
                "floats, as those of fit: np.asarray(image, float), of a file "
                "np.asarray(PIL.Image.open(path), float)."
            )
        return
    low, high = float(image.numbers.min()), float(image.numbers.max())
    if low < lowest or high > highest:
        raise DataError(
            "Expected pixels from 0 to 1, beside images of uint8 or the like, which become that. "
            f"Got numbers from {low:g} to {high:g}. Give it as uint8, too, or divide it by 255."
        )
