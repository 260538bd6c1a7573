"""Rows that are predicted at once: enough to be fast, few enough to fit into memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from tawt_sklearn.training.memory import is_out_of_memory, too_large, warn_fewer

Answer = TypeVar("Answer")

AT_ONCE = {"cpu": (64, 2**17), "other": (1024, 2**20)}
"""Rows, and events or steps, at once.  On a CPU more of them leave the caches (256 rows take 1.2
times as long for each), fewer pay for the calls; a GPU is idle with so few."""

ITEMS_AT_ONCE = {"cpu": 128, "other": 1024}
"""Images, or other items beside the events, that are read at once: 128 of 224 x 224 pixels in three
colours are 77 MB."""


def rows_for(device: torch.device) -> int:
    """Rows that are predicted at once where nobody says how many."""
    return AT_ONCE["cpu" if device.type == "cpu" else "other"][0]


def rows_of_items(items: NDArray[np.int64], most_rows: int, device: torch.device) -> int:
    """Rows at once, ``most_rows`` or fewer, so that not too many items come with any of them.

    Parameters
    ----------
    items : (n,)
        Beside the events of each row.
    """
    most = ITEMS_AT_ONCE["cpu" if device.type == "cpu" else "other"]
    return max(1, min(most_rows, most // max(int(items.max(initial=0)), 1)))


def chunks(
    sizes: NDArray[np.int64],
    most_rows: int,
    device: torch.device,
    *,
    by_size: bool,
    items: NDArray[np.int64] | None = None,
) -> list[NDArray[np.int64]]:
    """Rows in groups that are predicted at once.

    Parameters
    ----------
    sizes : (n,)
        Events or steps of each row.
    most_rows : int
        Of a group.  A group of several rows has no more events than :data:`AT_ONCE` says, either.
    by_size : bool
        Whether rows of like size come together, so that little is padding, or in their order.
    items : (n,), optional
        Beside the events of each row; a group of several rows has no more of them than
        :data:`ITEMS_AT_ONCE` says, either.
    """
    order = np.argsort(sizes, kind="stable") if by_size else np.arange(len(sizes))
    kind = "cpu" if device.type == "cpu" else "other"
    limits = [(np.cumsum(sizes[order]), AT_ONCE[kind][1])]
    if items is not None:
        limits.append((np.cumsum(items[order]), ITEMS_AT_ONCE[kind]))
    groups, first = [], 0
    while first < len(order):
        last = first + most_rows
        for total, limit in limits:
            before = total[first - 1] if first else 0
            last = min(last, int(np.searchsorted(total, before + limit, side="right")))
        last = max(first + 1, last)
        groups.append(order[first:last])
        first = last
    return groups


def each(
    groups: list[NDArray[np.int64]],
    work: Callable[[NDArray[np.int64]], Answer],
    size: Callable[[NDArray[np.int64]], object],
    device: torch.device,
) -> Iterator[tuple[NDArray[np.int64], Answer]]:
    """Rows and what ``work`` says of them; a group that does not fit into memory goes in halves.

    Parameters
    ----------
    size : callable
        Rows -> their batch, for the message where a single row does not fit.

    Raises
    ------
    OutOfMemoryError
    """
    waiting = groups[::-1]
    warned = False
    while waiting:
        rows = waiting.pop()
        try:
            answer = work(rows)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if len(rows) == 1:
                raise too_large(size(rows), device, "prediction") from error
        else:
            yield rows, answer
            continue
        if not warned:
            warn_fewer(len(rows), device)
            warned = True
        middle = len(rows) // 2
        waiting += [rows[middle:], rows[:middle]]
