"""Loaders of real data (``fetch_*``) and makers of simulated data (``make_*``)."""

from __future__ import annotations

import importlib
from typing import Any

# Public name -> module that holds it; loaded on first use.
_PUBLIC = {
    "fetch_beijing_air": "tawt_sklearn.datasets.beijing_air",
    "fetch_cmapss": "tawt_sklearn.datasets.cmapss",
    "fetch_physionet2012": "tawt_sklearn.datasets.physionet2012",
    "get_data_home": "tawt_sklearn.datasets._download",
    "make_icu_stays": "tawt_sklearn.datasets.icu",
    "make_sensor_panels": "tawt_sklearn.datasets.panels",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
