"""Event histories in pandas: the events dtype, its doors in, and its accessor.

Importing this package registers the dtype ``events`` and the accessor ``Series.events``.
"""

from __future__ import annotations

import importlib
from typing import Any

from tawt_sklearn.events import _dask
from tawt_sklearn.events.accessor import EventsAccessor
from tawt_sklearn.events.array import EventsArray
from tawt_sklearn.events.arrow import register_if_loaded
from tawt_sklearn.events.dtype import EventsDtype
from tawt_sklearn.events.history import EventHistory

# Doors in, loaded on first use: they are not needed to read or to pickle a column.
_DOORS = {
    "Windows": "tawt_sklearn.events.windows",
    "as_events": "tawt_sklearn.events.coerce",
    "find_events": "tawt_sklearn.events.coerce",
    "iter_parquet": "tawt_sklearn.events.parquet",
    "map_parquet": "tawt_sklearn.events.parquet",
    "nest_events": "tawt_sklearn.events.ingest",
    "read_meds": "tawt_sklearn.events.meds",
    "sliding_windows": "tawt_sklearn.events.windows",
}

register_if_loaded()
_dask.register_if_loaded()

__all__ = [
    "EventHistory",
    "EventsAccessor",
    "EventsArray",
    "EventsDtype",
    "Windows",
    "as_events",
    "find_events",
    "iter_parquet",
    "map_parquet",
    "nest_events",
    "read_meds",
    "sliding_windows",
]


def __getattr__(name: str) -> Any:
    if name in _DOORS:
        return getattr(importlib.import_module(_DOORS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_DOORS})
