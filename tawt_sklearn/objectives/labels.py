"""Labels as users give them: checked, and told apart by kind."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils.multiclass import check_classification_targets

from tawt_sklearn.exceptions import DataError


def one_label(labels: NDArray) -> NDArray:
    """Labels (n,), also from a single column (n, 1).

    Raises
    ------
    DataError
        Another shape, or missing labels.
    """
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise other_shape(f"({len(labels)},)", labels)
    missing = pd.isna(labels)
    if missing.any():
        raise DataError(
            f"Expected a label for every row. Got {int(missing.sum())} missing ones, the first "
            f"at position {int(missing.argmax())}. Drop these rows from X and y."
        )
    if labels.dtype.kind == "f" and (infinite := np.isinf(labels)).any():
        raise DataError(
            f"Expected classes. Input y contains infinity: {int(infinite.sum())} labels, the first "
            f"at position {int(infinite.argmax())}. Drop these rows from X and y."
        )
    return labels


def classes_of(labels: NDArray) -> NDArray:
    """Sorted classes of checked labels (n,).

    Raises
    ------
    DataError
        Labels without an order among them, or of one class only.
    ValueError
        Numbers that are no classes, as 1.5.
    """
    try:
        classes = np.unique(labels)
    except TypeError as error:
        kinds = sorted({type(label).__name__ for label in labels})
        raise DataError(
            f"Expected labels of one kind. Got {' and '.join(kinds)}, which have no order among "
            "them. Convert them, for instance with y.astype(str)."
        ) from error
    check_classification_targets(labels)
    if len(classes) < 2:
        raise DataError(
            f"Expected at least two classes in y. Got one class: {classes[:1].tolist()[0]!r}. The "
            "number of classes has to be greater than one (partial_fit takes them as classes=)."
        )
    return classes


def indicators(labels: NDArray) -> NDArray[np.int64]:
    """Zeros and ones (n, K): which of several labels each row has.

    Raises
    ------
    DataError
        Anything but zeros and ones.
    """
    try:
        numbers = labels.astype(np.float64)
    except (TypeError, ValueError):
        numbers = np.full(labels.shape, np.nan)
    if not np.isin(numbers, (0.0, 1.0)).all():
        odd = labels[~np.isin(numbers, (0.0, 1.0))]
        raise DataError(
            "Expected y of several columns to say with 0 and 1 which labels a row has. Got "
            f"{odd[:1].tolist()[0]!r} among others. For one label of several classes give y of "
            "shape (n,); for several such labels use sklearn.multioutput.MultiOutputClassifier. "
            "For a label at each step of a panel it takes as many columns as X has steps."
        )
    return numbers.astype(np.int64)


def finite_numbers(labels: NDArray) -> NDArray[np.float64]:
    """Numbers (n,) or (n, K).

    Raises
    ------
    DataError
        Other shapes, missing or infinite numbers, or no numbers at all.
    """
    if labels.ndim not in (1, 2) or 0 in labels.shape:
        raise other_shape("(n,) or (n, k)", labels)
    try:
        if labels.dtype.kind == "c":
            raise TypeError("complex numbers have no order. Complex data not supported")
        if labels.dtype.kind in "mMUS" or (labels.dtype == object and not _holds_numbers(labels)):
            raise TypeError("which are no numbers")
        numbers = labels.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"Expected numbers as labels. Got {labels.dtype} values, such as "
            f"{labels.flat[0]!r} ({error}). For classes use TimeAwareClassifier."
        ) from error
    lost = ~np.isfinite(numbers)
    if lost.any():
        row = int(lost.reshape(len(lost), -1).any(axis=1).argmax())
        kind = "NaN" if np.isnan(numbers[lost]).any() else "infinity"
        raise DataError(
            f"Expected a finite number for every row. Input y contains {kind}: "
            f"{int(lost.sum())} values, the first at position {row}. Drop these rows from X and y."
        )
    return numbers


def _holds_numbers(labels: NDArray) -> bool:
    """Whether the objects are numbers; texts of numerals are none."""
    kind = pd.api.types.infer_dtype(labels.ravel(), skipna=True)
    return kind in ("integer", "floating", "mixed-integer-float", "decimal", "boolean", "empty")


def other_shape(expected: str, labels: NDArray) -> DataError:
    """An error about labels of a shape that was not expected."""
    return DataError(f"Expected labels of shape {expected}. Got an array of shape {labels.shape}.")
