"""What `sliding_windows` was asked for: counts of steps, and which columns play which part."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from tawt_sklearn.events.tables import Table
from tawt_sklearn.exceptions import DataError


def is_list(names: Any) -> bool:
    """Whether these are names of columns, not one name, which may be a tuple."""
    return isinstance(names, list | pd.Index | np.ndarray)


def as_list(names: Any) -> list[Any]:
    return list(names) if is_list(names) else [names]


def check_count(number: Any, name: str) -> int:
    """`length` or `stride` as an int."""
    if not _is_whole(number) or number < 1:
        raise DataError(
            f"Expected {name} to be a whole number of steps, 1 or more. Got {number!r}."
        )
    return int(number)


def check_horizon(horizon: Any, targets: list[Any]) -> int:
    """Steps that targets lie after the window, 0 for those inside."""
    if horizon is not None and (not _is_whole(horizon) or horizon < 0):
        raise DataError(
            "Expected horizon to be 0 (the target at the last step of the window), a number of "
            f"steps after it, or None (the target at every step). Got {horizon!r}."
        )
    if not targets and horizon != 0:
        raise DataError(
            f"Expected a target to predict with horizon={horizon!r}. Got target=None. Name its "
            'column with target="...", or leave horizon out.'
        )
    return int(horizon or 0)


def _is_whole(number: Any) -> bool:
    return isinstance(number, int | np.integer) and not isinstance(number, bool)


def check_keys(group: Any, time: Any) -> None:
    for role, name in (("group", group), ("time", time)):
        if is_list(name):
            raise DataError(
                f"Expected {role} to be the name of one column. Got {name!r}. Join the columns "
                "into one first, for example with frame.groupby([...]).ngroup()."
            )
    if group is not None and group == time:
        raise DataError(f"Expected different columns as group and time. Got {group!r} for both.")


def check_categories(table: Table, categories: Any) -> Mapping[Any, Sequence[Any]]:
    """Known categories by channel, none for None."""
    if categories is None:
        return {}
    if not isinstance(categories, Mapping):
        raise DataError(
            "Expected categories to be a dictionary of lists by the name of the channel, or "
            f"the windows of the training data. Got {type(categories).__name__}."
        )
    for name in categories:
        table.find("categories", name)
    return categories


def check_channels(table: Table, asked: Any, keys: set[Hashable], unseen: list[Any]) -> list[Any]:
    """Names of the channels; by default, all columns but `keys` and `unseen`."""
    chosen = as_list(asked)
    if asked is None:
        chosen = [name for name in table.names if name not in keys and name not in unseen]
    for name in chosen:
        table.find("channels", name)
        if name in unseen:
            raise DataError(
                f"Expected channels without the target {name!r}, which the windows would see. Name "
                "other channels, or predict steps after the window with horizon=1 or more, where "
                "the past values of the target are fine."
            )
        if chosen.count(name) > 1:
            raise DataError(f"Expected each channel once. Got {name!r} {chosen.count(name)} times.")
    if not chosen:
        raise DataError("Expected at least one channel. Got none: name them with channels=[...].")
    return chosen
