"""From the ``device`` parameter to a torch device that exists."""

from __future__ import annotations

import torch

from tawt_sklearn.exceptions import DeviceError


def resolve_device(device: str | torch.device | None) -> torch.device:
    """``"auto"`` (or None) is CUDA, else MPS, else the CPU; anything else must exist.

    Raises
    ------
    DeviceError
        If the name is none that torch knows or the device is not there.
    """
    if device is None or device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise DeviceError(
            f'Expected device to be "auto", "cpu", "cuda", "cuda:<index>" or "mps". Got {device!r}.'
        ) from error
    n_cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    there = {
        "cpu": True,
        "cuda": (resolved.index or 0) < n_cuda,
        "mps": torch.backends.mps.is_available(),
    }
    if not there.get(resolved.type, False):
        found = ["cpu", *(f"cuda:{i}" for i in range(n_cuda))]
        found += ["mps"] if there["mps"] else []
        raise DeviceError(
            f"Expected a device that this machine has: {', '.join(found)}. Got {str(resolved)!r}. "
            'Use device="auto" to take the best one there is.'
        )
    return resolved
