"""Ctrl-C in the middle of a fit."""

from __future__ import annotations

import warnings

from tawt_sklearn.exceptions import TrainingWarning


def warn_interrupted(where: str, stacklevel: int = 6) -> None:
    """Say how far an interrupted fit came; the level is that of the caller of ``fit``."""
    warnings.warn(
        f"Training was interrupted. The estimator is fitted as far as it came: {where}.",
        TrainingWarning,
        stacklevel=stacklevel,
    )
