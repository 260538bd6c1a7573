"""Errors and warnings of the library.

Every error about the user's data is also a :class:`ValueError`, so one ``except ValueError`` works
as it does with scikit-learn; the finer classes are there for code that wants to react differently.
"""

from __future__ import annotations


class TawtError(Exception):
    """Base class of all errors raised by tawt_sklearn itself."""


class DataError(TawtError, ValueError):
    """The data given are not what was expected; the message says what to do."""


class NotNestedError(DataError):
    """A long event table arrived where a frame with one row per subject is needed."""


class DeviceError(TawtError, ValueError):
    """The device asked for is not one that this machine has."""


class OutOfMemoryError(TawtError, MemoryError):
    """Not even one row fits into the memory of the device; the message says what to change."""


class TrainingError(TawtError, ArithmeticError):
    """Training ran into numbers that are not finite, or has lost another process of its job."""


class SaveFileError(TawtError, ValueError):
    """A file cannot be loaded: not one that ``save`` wrote, changed since, or from elsewhere."""


class DataWarning(UserWarning):
    """Something in the data was unknown, cut or set aside; nothing was dropped silently."""


class TrainingWarning(UserWarning):
    """Training did not run as asked, yet left a usable estimator."""
