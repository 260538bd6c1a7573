"""What networks learn from: labels, and without labels masks, contrast and forecasts.

The public names are the objectives of :class:`~tawt_sklearn.TimeAwareEncoder` and what they are
made of.
"""

from __future__ import annotations

import importlib
from typing import Any

_PUBLIC = {
    "Contrastive": "contrastive",
    "CrossModal": "cross_modal",
    "CropHistory": "augmentations",
    "DropCodes": "augmentations",
    "DropEvents": "augmentations",
    "Forecast": "forecast",
    "Hidden": "masking",
    "HideCodes": "masking",
    "HideEvents": "masking",
    "HideRuns": "masking",
    "HideWindows": "masking",
    "JitterValues": "augmentations",
    "MaskedReconstruction": "masked",
    "ScaleValues": "augmentations",
    "WarpTime": "augmentations",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
