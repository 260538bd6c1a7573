"""Where a training step goes: callbacks for the estimators' own ``fit``, nothing is patched."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Self

import torch
from _measure import Seconds, now
from skorch.callbacks import Callback
from torch.autograd.graph import register_multi_grad_hook
from torch.utils.flop_counter import FlopCounterMode

PHASES = ("data", "forward", "backward", "optimiser")


class EpochClock(Callback):
    """Seconds of every epoch, by both clocks."""

    def __init__(self, device: str = "cpu") -> None:
        self.device = device
        self.epochs: list[Seconds] = []

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        self.start = now(self.device)

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        self.epochs.append(now(self.device) - self.start)


class StepClock(Callback):
    """Seconds of the parts of all training steps after the first epoch.

    *Data* is cutting a batch, handing it to the device and setting gradients to zero; *forward*
    the network and the loss; *backward* the gradients; *optimiser* clipping, the step, the
    schedule and what skorch notes down.  A GPU is waited for at each border, which makes the sum
    longer than a step that nobody looks at.
    """

    def __init__(self, device: str = "cpu") -> None:
        self.device = device
        self.seconds = dict.fromkeys(PHASES, Seconds(0.0, 0.0))
        self.n_steps = self.n_epochs = 0
        self.running = False

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        learned = [p for p in net.module_.parameters() if p.requires_grad]
        self.handles = [
            net.module_.register_forward_pre_hook(lambda *_: self._lap("data")),
            net.criterion_.register_forward_hook(lambda *_: self._lap("forward")),
            register_multi_grad_hook(learned, lambda _: self._lap("backward")),
        ]

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        self.n_epochs += 1
        self.running = self.n_epochs > 1
        self.last = now(self.device)

    def on_batch_begin(self, net: Any, batch: Any = None, training: bool = True, **_: Any) -> None:
        self._lap("data")

    def on_batch_end(self, net: Any, batch: Any = None, training: bool = True, **_: Any) -> None:
        self._lap("optimiser")
        self.n_steps += self.running

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        self.running = False
        for handle in self.handles:
            handle.remove()
        self.handles = []

    def _lap(self, phase: str) -> None:
        if self.running:
            here = now(self.device)
            lap, before = here - self.last, self.seconds[phase]
            self.seconds[phase] = Seconds(before.wall + lap.wall, before.cpu + lap.cpu)
            self.last = here

    def shares(self) -> dict[str, dict[str, float]]:
        """Share of each part, by both clocks."""
        return {
            clock: {
                phase: getattr(seconds, clock) / sum(getattr(s, clock) for s in self._all())
                for phase, seconds in self.seconds.items()
            }
            for clock in Seconds._fields
        }

    def mean_step(self) -> dict[str, float]:
        """Milliseconds of a step, by both clocks."""
        return {
            clock: 1e3 * sum(getattr(s, clock) for s in self._all()) / max(self.n_steps, 1)
            for clock in Seconds._fields
        }

    def _all(self) -> list[Seconds]:
        return list(self.seconds.values())


class FlopClock(Callback):
    """Floating point operations of all matrix products of a fit, forward and backward.

    Those of torch's own operators: what a compiled kernel does inside is not seen, so the fit that
    is counted should run without one, on a CPU.
    """

    total = 0

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        self.counter = FlopCounterMode(display=False)
        self.counter.__enter__()

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        self.counter.__exit__(None, None, None)
        self.total = self.counter.get_total_flops()
        del self.counter


class BusyGPU:
    """Mean utilisation of the GPU while a block runs, as the driver reports it.

    Attributes
    ----------
    share : float or None
        None without a GPU or without ``pynvml``.
    """

    share: float | None = None

    def __init__(self, device: str, every: float = 0.05) -> None:
        self.active, self.every = device.startswith("cuda"), every
        self.samples: list[float] = []

    def __enter__(self) -> Self:
        if self.active:
            self.done = threading.Event()
            self.thread = threading.Thread(target=self._watch, daemon=True)
            self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.active:
            self.done.set()
            self.thread.join()
            self.share = sum(self.samples) / len(self.samples) / 100 if self.samples else None

    def _watch(self) -> None:
        while not self.done.wait(self.every):
            try:
                self.samples.append(torch.cuda.utilization())
            except Exception:  # no pynvml, or an error of its own; there is no figure then
                return


def busy_share(function: Callable[[], Any]) -> float:
    """Share of the time of a call in which the GPU computes, by ``torch.profiler``.

    The profiler slows down what runs on the CPU, so this is a lower bound.
    """
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profiler:
        torch.cuda.synchronize()
        start = time.perf_counter()
        function()
        torch.cuda.synchronize()
        seconds = time.perf_counter() - start
    kernels = sum(event.self_device_time_total for event in profiler.key_averages())
    return kernels / 1e6 / seconds
