"""Dask DataFrames at the door: what they are told by, and what Dask has to know of event columns.

Dask is imported only where the user's data brought it along.
"""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from tawt_sklearn.events.dtype import EventsDtype
from tawt_sklearn.events.tables import library_of

if TYPE_CHECKING:
    from tawt_sklearn.events.array import EventsArray


def is_dask(data: Any) -> bool:
    """Whether this is a Dask DataFrame or Series."""
    return library_of(data) == "dask" and hasattr(data, "map_partitions")


def register_if_loaded() -> None:
    """Let Dask know the events dtype, unless it is not there."""
    if sys.modules.get("dask.dataframe") is not None:
        _register()


@functools.cache
def _register() -> None:
    from dask.base import normalize_token
    from dask.dataframe.extensions import make_array_nonempty

    from tawt_sklearn.events.array import EventsArray
    from tawt_sklearn.events.content import FIELDS

    @make_array_nonempty.register(EventsDtype)
    def two_rows(dtype: EventsDtype) -> EventsArray:
        """What Dask tries functions on, and takes the schema of Parquet files from.

        Raw histories have everything that there may be (see :mod:`.arrow_schema`), but no code,
        which would be a string or a number; so they suit any estimator.
        """
        E = 2 if dtype.vocabulary is None else 0
        return EventsArray.from_flat(
            time=np.arange(E) / 2,
            code=np.full(E, -1),
            value=np.zeros(E),
            text=np.zeros(E, np.int64) if E else None,
            texts=["a"] if E else None,
            offsets=np.arange(3) * E // 2,
            codes=[],
            start=[0.0, 0.0],
            end=[1.0, 1.0],
            time_unit=dtype.time_unit,
            timezone=dtype.timezone,
            vocabulary=dtype.vocabulary,
        )

    @normalize_token.register(EventsArray)
    def token_of_array(array: EventsArray) -> Any:
        """Names in a graph, from the flat arrays: Dask would make an object of every row."""
        content = array._content
        return normalize_token([array.dtype, *(getattr(content, name) for name in FIELDS)])

    @normalize_token.register(EventsDtype)
    def token_of_dtype(dtype: EventsDtype) -> Any:
        return "EventsDtype", dtype.time_unit, dtype.timezone, dtype.vocabulary
