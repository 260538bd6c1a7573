"""Randomness that stays inside: torch's global state is put back afterwards."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_TURN = threading.RLock()
"""Held while torch's global state is ours: it belongs to the process, not to a thread."""


@contextmanager
def isolated_torch(seed: int, device: torch.device, n_threads: int | None) -> Iterator[None]:
    """Seed torch inside the block; outside it nothing changes of what is one for the process.

    That is its random state, its threads, and its default type, which is single precision here.

    The number of threads is part of the result: sums are split among threads, and floating point
    addition is not associative.  A fixed number makes a fit the same alone and inside a worker
    process that was given fewer cores.

    Threads of one process take turns.  joblib runs a parallel call inside another one in threads,
    and networks that draw from one random state at the same time would not repeat themselves.
    """
    with _TURN, torch.random.fork_rng(devices=_cuda_indices(device)):
        mps = torch.mps.get_rng_state() if device.type == "mps" else None
        threads, usual = torch.get_num_threads(), torch.get_default_dtype()
        seed_torch(seed, device)
        try:
            torch.set_default_dtype(torch.float32)
            if n_threads is not None:
                torch.set_num_threads(n_threads)
            yield
        finally:
            torch.set_num_threads(threads)
            torch.set_default_dtype(usual)
            if mps is not None:
                torch.mps.set_rng_state(mps)


def _cuda_indices(device: torch.device) -> list[int]:
    """The CUDA device whose random state has to be put back, if any."""
    if device.type != "cuda":
        return []
    return [torch.cuda.current_device() if device.index is None else device.index]


def seed_torch(seed: int, device: torch.device) -> None:
    """Seed the CPU and this device; ``torch.manual_seed`` would seed every device there is."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)
