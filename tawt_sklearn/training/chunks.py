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


def rows_for(device: torch.device) -> int:
    """Rows that are predicted at once where nobody says how many."""
    return AT_ONCE["cpu" if device.type == "cpu" else "other"][0]


def chunks(
    sizes: NDArray[np.int64], most_rows: int, device: torch.device, *, by_size: bool
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
    """
    order = np.argsort(sizes, kind="stable") if by_size else np.arange(len(sizes))
    total = np.cumsum(sizes[order])
    limit = AT_ONCE["cpu" if device.type == "cpu" else "other"][1]
    groups, first = [], 0
    while first < len(order):
        before = total[first - 1] if first else 0
        fits = int(np.searchsorted(total, before + limit, side="right"))
        last = max(first + 1, min(first + most_rows, fits))
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
