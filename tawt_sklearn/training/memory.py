"""What to do when a batch does not fit into the memory of a device."""

from __future__ import annotations

import warnings
from typing import Any

import torch

from tawt_sklearn.exceptions import OutOfMemoryError, TrainingWarning

CPU_MESSAGES = ("DefaultCPUAllocator", "can't allocate memory", "not enough memory")
"""Parts of the messages by which torch says that there is no memory left on a CPU."""

CURES = (
    "lower d_model, n_layers, n_windows or max_feature_patches, cut long histories "
    "(TripletSequencer(max_events=...)), or take a device with more memory"
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that there is no memory left, on whatever device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in CPU_MESSAGES)


def free_memory(device: torch.device) -> str:
    """How much of the device's memory is free, in words."""
    if device.type != "cuda":
        return f"on {str(device)!r}"
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info(device)
    name = torch.cuda.get_device_name(device)
    return f"on {name}, where {free / 2**30:.1f} of {total / 2**30:.1f} GiB are free"


def warn_split(batch: Any, n_parts: int, device: torch.device, split: str) -> None:
    """Say that batches are worked on in more parts from now on."""
    effect = "whose gradients are summed: a step means the same and takes longer"
    if split == "valid":
        effect = "of which losses are averaged"
    instead = (
        f"Set batch_size={-(-len(batch) // n_parts)} with accumulate_steps={n_parts} to begin so"
    )
    warnings.warn(
        f"Expected {batch.size()} to fit into memory at once. Got out of memory "
        f"{free_memory(device)}. Going on with batches in {n_parts} parts {effect}. "
        f"{instead if split == 'train' else 'To need less'}, or {CURES}.",
        TrainingWarning,
        stacklevel=2,
    )


def warn_fewer(n_rows: int, device: torch.device) -> None:
    """Say that fewer rows are predicted at once from now on."""
    warnings.warn(
        f"Expected {n_rows} rows to fit into memory at once. Got out of memory "
        f"{free_memory(device)}. Going on with half as many, as often as it takes. Set "
        f"predict_batch_size={n_rows // 2}, or {CURES}.",
        TrainingWarning,
        stacklevel=2,
    )


def too_large(batch: Any, device: torch.device, doing: str) -> OutOfMemoryError:
    """The error for a single row that is too large."""
    return OutOfMemoryError(
        f"Expected one row at a time to fit into memory in {doing}. Got out of memory "
        f"{free_memory(device)} with {batch.size()}. Now {CURES}."
    )
