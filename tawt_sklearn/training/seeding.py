"""Randomness that stays inside: torch's global state is put back afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def isolated_torch(seed: int, device: torch.device, n_threads: int | None) -> Iterator[None]:
    """Seed torch inside the block; outside it neither its random state nor its threads change.

    The number of threads is part of the result: sums are split among threads, and floating point
    addition is not associative.  A fixed number makes a fit the same alone and inside a worker
    process that was given fewer cores.
    """
    cuda = [device.index or 0] if device.type == "cuda" else []
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(seed)
        try:
            if n_threads is not None:
                torch.set_num_threads(n_threads)
            yield
        finally:
            torch.set_num_threads(threads)
