"""What processes say to each other that train one net together, each on its share of a batch.

Gradients are summed in one go at the end of a step (:meth:`Several.add_gradients`) rather than by
hooks in the backward pass, as ``DistributedDataParallel`` does.  Until then a process is on its
own: it may have fewer rows than the others or none, have run out of memory and begun again with
halves, or have frozen layers, and nobody waits for a hook that is never called.  The overlap of
sums with the backward pass, which is what hooks are for, gains little for nets of a few million
parameters.

Every exchange begins with a *hello*, a few integers of which each process learns the largest: a
process that has stopped or failed says so at the next one, and all leave together.  A hello always
goes between CPUs (gloo), which notice at once when a process is gone.  Ctrl-C waits for the next
hello, too: a terminal sends it to all processes, but never at the same place of the run.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
import weakref
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from tawt_sklearn.exceptions import TrainingError
from tawt_sklearn.training.seeding import seed_torch

Value = TypeVar("Value")

GOING, STOPPED, INTERRUPTED, FAILED = range(4)
"""What a process says of itself: the worst of all counts."""

TIMEOUT_VARIABLE = "TAWT_DISTRIBUTED_TIMEOUT"
"""Environment variable: seconds that a process waits for the others."""

TIMEOUT = 600.0
"""Where it is not set.  A process that has ended is noticed at once; this is for one that hangs,
or a machine that has lost its power."""

SAME_PRESS = 3.0
"""Seconds.  A terminal and a launcher both send Ctrl-C to each process."""

BUCKET = 2**24
"""Numbers that are summed at once; bounds the memory that their copies take."""


class OtherStoppedError(TrainingError):
    """Another process has stopped; ``state`` says why."""

    def __init__(self, state: int) -> None:
        super().__init__("Another process of this job has stopped training.")
        self.state = state


class AllInterruptedError(KeyboardInterrupt):
    """Ctrl-C in some process, of which all know."""


class OtherFailedError(TrainingError):
    """Another process has failed, and says so itself."""


class Processes:
    """A process that trains alone: what it says to the others costs nothing.

    Attributes
    ----------
    rank : int
        Which of the processes this one is.
    number : int
        Of all processes.
    """

    rank = 0
    number = 1

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes files and shows progress."""
        return self.rank == 0

    @property
    def as_setting(self) -> list[int]:
        """Their number, as one of the settings that a result depends on; nothing for one."""
        return [self.number] if self.number > 1 else []

    def meet(self, where: str, key: int = 0, detail: int = 0) -> bool:
        """Wait until all are at the same place.  -> whether all have given the same detail.

        Raises
        ------
        OtherStoppedError, OtherFailedError
            Another process says so.
        TrainingError
            Another process is elsewhere, or has ended.
        """
        return True

    def stop(self, state: int) -> int:
        """Say that this process has stopped.  -> the worst that any of them says."""
        return state

    def told(self, value: Value, what: str) -> Value:
        """What the first process has here; ``what`` that is, the same words in all processes."""
        return value

    def first(self, work: Callable[[], Value], what: str) -> Value:
        """What ``work`` gives the first process, which alone does it."""
        return work()

    def gathered(self, value: Value, what: str) -> list[Value]:
        """What each process has here."""
        return [value]

    def add_gradients(self, parameters: Sequence[nn.Parameter], loss: Tensor, key: int) -> Tensor:
        """Sum gradients over all processes, in place.  -> the sum of the losses.

        Parameters
        ----------
        key : int
            Stands for the rows of the batch, which are the same for all.
        """
        return loss

    def totals(self, sums: dict[str, Any]) -> dict[str, Any]:
        """Sums over all processes, by name; not all need to have every name."""
        return sums

    def align(self, module: nn.Module) -> None:
        """Take the weights of the first process."""

    def part_ways(self, seed: int, device: torch.device) -> None:
        """From here on, draw other random numbers than the other processes."""

    def together(self) -> AbstractContextManager[None]:
        """Inside, an exception in one process ends all of them, and so does Ctrl-C.

        What is called inside may enter it again, to no effect.

        Raises
        ------
        KeyboardInterrupt
            In all processes, where nothing inside has made something of it.
        TrainingError
            Another thread of this process is inside.
        """
        return nullcontext()

    def __reduce__(self) -> Any:
        return Processes, ()  # a net that was pickled in the middle of a run


class Several(Processes):
    """One of several processes, once they have found each other."""

    def __init__(self) -> None:
        self.rank, self.number = dist.get_rank(), dist.get_world_size()
        self.lost = False
        self._fitting, self._depth = threading.RLock(), 0
        self._ctrl_c = CtrlC()
        with self._exchange("the beginning"):
            control = dist.new_group(backend="gloo", timeout=waiting_time())
        # torch holds them until they are destroyed, which must take their connections along.
        self._world, self._own = weakref.ref(dist.group.WORLD), weakref.ref(control)

    @property
    def is_current(self) -> bool:
        """Whether these are still the processes that torch knows."""
        return self._world() is not None and self._world() is dist.group.WORLD

    @property
    def _control(self) -> Any:
        return self._own()

    def meet(self, where: str, key: int = 0, detail: int = 0) -> bool:
        state = INTERRUPTED if self._ctrl_c.waiting else GOING
        state, same_place, same_detail = self._hello(state, where, key, detail)
        if state == INTERRUPTED:
            self._ctrl_c.done()
        if state != GOING:
            raise OtherStoppedError(state)
        if not same_place:
            raise TrainingError(
                f"Expected all {self.number} processes of the job to do the same. Got this one at "
                f"{where} while another one is elsewhere. Run the same script with the same data "
                "and parameters in all of them, and call fit in all of them or in none."
            )
        return same_detail

    def stop(self, state: int) -> int:
        if state == INTERRUPTED:
            self._ctrl_c.done()
        return self._hello(state)[0]

    def told(self, value: Value, what: str) -> Value:
        self.meet(what)
        box = [value if self.is_first else None]
        with self._exchange(what):
            dist.broadcast_object_list(box, src=0, group=self._control)
        return box[0]  # type: ignore[return-value]

    def first(self, work: Callable[[], Value], what: str) -> Value:
        return self.told(work() if self.is_first else None, what)  # type: ignore[return-value]

    def gathered(self, value: Value, what: str) -> list[Value]:
        self.meet(what)
        box: list[Any] = [None] * self.number
        with self._exchange(what):
            dist.all_gather_object(box, value, group=self._control)
        return box

    def add_gradients(self, parameters: Sequence[nn.Parameter], loss: Tensor, key: int) -> Tensor:
        where = "a training step"
        has = np.array([parameter.grad is not None for parameter in parameters])
        if not self.meet(where, key, detail=zlib.crc32(np.packbits(has).tobytes())):
            found = torch.from_numpy(has.astype(np.uint8))
            self._reduce(found, dist.ReduceOp.MAX, where)
            has = found.numpy().astype(bool)
        # What has no gradient anywhere is to have none: weight decay would move it.
        taking = [parameter for parameter, used in zip(parameters, has, strict=True) if used]
        for parameter in taking:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        loss = loss.detach().to(parameters[0].dtype)
        total, *gradients = self._summed([loss, *(p.grad for p in taking)], where)
        for parameter, gradient in zip(taking, gradients, strict=True):
            parameter.grad = gradient
        return total

    def totals(self, sums: dict[str, Any]) -> dict[str, Any]:
        added: dict[str, Any] = {}
        own = {name: float(total) for name, total in sums.items()}
        for part in self.gathered(own, "sums over an epoch"):
            for name, total in part.items():
                added[name] = added.get(name, 0.0) + total
        return added

    def align(self, module: nn.Module) -> None:
        state = self.first(
            lambda: {n: t.detach().cpu() for n, t in module.state_dict().items()}, "the weights"
        )
        if not self.is_first:
            module.load_state_dict(state)

    def part_ways(self, seed: int, device: torch.device) -> None:
        if self.rank:
            own = np.random.SeedSequence([seed, self.rank]).generate_state(1)[0]
            seed_torch(int(own), device)

    @contextmanager
    def together(self) -> Iterator[None]:
        if not self._fitting.acquire(blocking=False):
            raise TrainingError(
                f"Expected one fit at a time where {self.number} processes train together. Got a "
                "second one in another thread. Fit one after the other (n_jobs=1), or in worker "
                'processes (joblib.parallel_config("loky")), which train on their own.'
            )
        self._depth += 1
        try:
            if self._depth > 1:
                yield
                return
            with self._ctrl_c.held():
                yield
                self.meet("the end of a fit")
        except (OtherFailedError, AllInterruptedError):
            raise
        except OtherStoppedError as other:  # said to all, so all are here
            if self._depth == 1 and other.state == INTERRUPTED:
                raise AllInterruptedError from other
            raise
        except BaseException:
            if self._depth == 1:
                with suppress(TrainingError):
                    self._hello(FAILED)
            raise
        finally:
            self._depth -= 1
            self._fitting.release()

    def _hello(
        self, state: int, where: str = "a hello", key: int = 0, detail: int = 0
    ) -> tuple[int, bool, bool]:
        """Tell all how this process is doing, where it is, and a detail; whether these agree."""
        place = zlib.crc32(f"{where} {key}".encode())
        said = torch.tensor([state, place, -place, detail, -detail])
        self._reduce(said, dist.ReduceOp.MAX, where)
        worst, most, least, most_detail, least_detail = said.tolist()
        if worst == FAILED:
            raise OtherFailedError(
                f"Expected all {self.number} processes of the job to go on. Got an error in "
                "another one, which reports it itself: look for it in the output of the job."
            )
        return worst, most == -least, most_detail == -least_detail

    def _summed(self, tensors: Sequence[Any], where: str) -> list[Tensor]:
        """Sums over all processes, in as few exchanges as memory allows."""
        sums: list[Tensor] = []
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            self._reduce(flat, dist.ReduceOp.SUM, where)
            parts = flat.split([tensor.numel() for tensor in bucket])
            sums += [part.view(t.shape) for part, t in zip(parts, bucket, strict=True)]
        return sums

    def _reduce(self, values: Tensor, how: Any, where: str) -> None:
        group = self._control if values.device.type == "cpu" else None
        with self._exchange(where):
            dist.all_reduce(values, op=how, group=group)

    @contextmanager
    def _exchange(self, where: str) -> Iterator[None]:
        """Errors of the connection in words; none is tried again."""
        if self.lost:
            raise connection_lost(self.number, where, "the connection was lost before")
        try:
            yield
        except RuntimeError as error:
            self.lost = True
            raise connection_lost(self.number, where, str(error)) from error
        except BaseException:
            self.lost = True
            raise


class CtrlC:
    """Ctrl-C that waits until all processes can be told of it.

    Attributes
    ----------
    waiting : bool
        Whether it was pressed.
    """

    def __init__(self) -> None:
        self.waiting = False
        self._since = -math.inf

    @contextmanager
    def held(self) -> Iterator[None]:
        """Inside it waits; pressed once more, :data:`SAME_PRESS` later, it interrupts at once."""
        usual = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is not threading.main_thread() or not callable(usual):
            yield
            return

        def press(number: int, frame: Any) -> None:
            now = time.monotonic()
            if now - self._since < SAME_PRESS:
                return
            if self.waiting:
                usual(number, frame)
            self.waiting, self._since = True, now

        self.waiting, self._since = False, -math.inf
        signal.signal(signal.SIGINT, press)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, usual)

    def done(self) -> None:
        """All have been told; what comes at once is the same press, sent to this process, too."""
        self.waiting, self._since = False, time.monotonic()


def waiting_time() -> timedelta:
    """How long a process waits for the others.

    Raises
    ------
    ValueError
        The environment variable holds no positive number.
    """
    given = os.environ.get(TIMEOUT_VARIABLE, str(TIMEOUT))
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e8:
        raise ValueError(f"Expected seconds in {TIMEOUT_VARIABLE}. Got {given!r}.")
    return timedelta(seconds=seconds)


def connection_lost(number: int, where: str, why: str) -> TrainingError:
    """The error for other processes that do not answer."""
    why = why.partition(" This is typically")[0].splitlines()[0][:200]
    return TrainingError(
        f"Expected {number} processes to train together. Got no answer from another one at "
        f"{where}: it has ended, or has not answered for {waiting_time().total_seconds():g} "
        f"seconds ({why}). Look for its own error in the output of the job; a process that was "
        "killed without one has mostly run out of memory. Then start the job again: with "
        "checkpoint_dir it goes on after its last finished epoch. For slow steps or callbacks "
        f"raise the environment variable {TIMEOUT_VARIABLE} (in seconds)."
    )


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Tensors in groups of one type and of about :data:`BUCKET` numbers; one at least."""
    bucket: list[Tensor] = []
    size = 0
    for tensor in tensors:
        if bucket and (size + tensor.numel() > BUCKET or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += tensor.numel()
    yield bucket
