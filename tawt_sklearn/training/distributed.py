"""Whether this process trains alone, or is one of several that were started together.

``torchrun`` and ``accelerate launch`` start a script several times.  Accelerate, which only such a
script needs, says which device belongs to which process and lets them find each other.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

from tawt_sklearn.exceptions import DataWarning, DeviceError, TrainingError, TrainingWarning
from tawt_sklearn.persistence.savable import Savable
from tawt_sklearn.training.processes import Processes, Several, connection_lost, waiting_time

_ALONE = Processes()
_several: Several | None = None


def joined(device: torch.device) -> Processes:
    """The processes of this job, which meet here for the first time; all have to call it.

    Raises
    ------
    ImportError
        Several were started, and Accelerate is missing.
    DeviceError
        They were told to share a device.
    TrainingError
        They cannot find each other.
    """
    global _several
    if not launched():
        return _ALONE
    _check_device(device)
    if not dist.is_initialized():
        _begin(device)
    if _several is None or not _several.is_current:
        _several = Several()
    return _several


def launched() -> bool:
    """Whether this is one of several processes that were started together.

    Workers of joblib and Dask inherit the environment of such a process, and are none.
    """
    process = multiprocessing.current_process()
    if process.daemon or type(process).__name__ == "LokyProcess":
        return False
    if dist.is_available() and dist.is_initialized():
        return dist.get_world_size() > 1
    number = os.environ.get("WORLD_SIZE", "1")
    is_launched = os.environ.get("RANK", "").isdecimal() and number.isdecimal()
    return is_launched and int(number) > 1


def rank_here() -> int:
    """Which of the processes this one is, whether or not they have met."""
    if not launched():
        return 0
    return dist.get_rank() if dist.is_initialized() else int(os.environ["RANK"])


def _check_device(device: torch.device) -> None:
    local = int(os.environ.get("LOCAL_RANK", 0))
    if device.type not in ("cpu", "cuda"):
        raise DeviceError(
            f"Expected several processes to train on CPUs or CUDA devices. Got {str(device)!r}. "
            "Start the script without the launcher, or set device='cpu'."
        )
    if device.index is not None and "LOCAL_RANK" in os.environ and device.type == "cuda":
        own = local % torch.cuda.device_count()
        if device.index != own:
            raise DeviceError(
                f"Expected each process to have a device of its own, this one 'cuda:{own}'. Got "
                f'{str(device)!r}. Set device="auto".'
            )


def _begin(device: torch.device) -> None:
    """Let Accelerate connect the processes and choose the device of this one."""
    number = os.environ["WORLD_SIZE"]
    try:
        from accelerate import PartialState
    except ImportError as error:
        raise ImportError(
            f"Expected Accelerate to be installed where {number} processes were started together "
            "(WORLD_SIZE). Install it with pip install 'tawt_sklearn[distributed]', or start the "
            "script without the launcher."
        ) from error
    waiting = waiting_time()
    try:
        PartialState(cpu=device.type == "cpu", timeout=waiting)
        if not dist.is_initialized():  # it was made before, for one process
            dist.init_process_group("gloo" if device.type == "cpu" else "nccl", timeout=waiting)
    except RuntimeError as error:
        raise connection_lost(int(number), "the beginning", str(error)) from error
    except ValueError as error:
        raise TrainingError(
            f"Expected a launcher to say how {number} processes find each other (MASTER_ADDR, "
            f"MASTER_PORT). Got: {str(error).splitlines()[0]} Start the script with torchrun or "
            "accelerate launch, or unset RANK and WORLD_SIZE, which may be those of a cluster's "
            "job, to train in one process."
        ) from error
    atexit.register(_leave)


def _leave() -> None:
    if dist.is_initialized() and not (_several is None or _several.lost):
        dist.destroy_process_group()


@contextmanager
def shown_once() -> Iterator[None]:
    """Inside, warnings of this library are those of the first process only."""
    if rank_here() == 0:
        yield
        return
    with warnings.catch_warnings():
        for kind in (DataWarning, TrainingWarning):
            warnings.simplefilter("ignore", kind)
        yield


class SavedOnce(Savable):
    """Saving for what several processes have trained together: the first of them writes."""

    def _writes(self) -> bool:
        return rank_here() == 0
