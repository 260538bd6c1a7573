"""What all speed benchmarks measure with: clocks, memory, the peak of matmul, the machine."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F

CPU_SHAPES = ((16384, 64, 256), (2048, 2048, 2048))
GPU_SHAPES = (*CPU_SHAPES, (8192, 8192, 8192))
PRECISIONS = {
    "bf16": torch.bfloat16,
    "bfloat16": torch.bfloat16,
    "fp16": torch.float16,
    "float16": torch.float16,
}


# ---- time --------------------------------------------------------------------------------------


class Seconds(NamedTuple):
    """A duration by two clocks.

    On a machine that others use, too, the CPU time of one thread is the steadier one; it says
    nothing of a GPU, and with several threads it counts their waiting.
    """

    wall: float
    cpu: float

    def __sub__(self, other: Seconds) -> Seconds:
        return Seconds(self.wall - other.wall, self.cpu - other.cpu)


def now(device: str = "cpu") -> Seconds:
    """Both clocks, once a GPU has done what it was given."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return Seconds(time.perf_counter(), time.process_time())


def timed(function: Callable[[], Any], device: str = "cpu") -> Seconds:
    """Seconds of a call, the release of its result not included."""
    gc.collect()
    start = now(device)
    result = function()
    seconds = now(device) - start
    del result
    return seconds


def usual_basis(device: str, n_threads: int) -> str:
    """Which clock ratios are taken from."""
    return "cpu" if device == "cpu" and n_threads == 1 else "wall"


# ---- memory ------------------------------------------------------------------------------------


class PeakMemory:
    """Memory at the peak of a ``with`` block, over what the process held before it.

    Attributes
    ----------
    ram : float
        Bytes of resident memory.  On Linux the kernel's high-water mark starts anew with the
        block; elsewhere it is that of the whole process, so the block should be the first thing
        in its process that takes much.
    gpu : float
        Bytes that torch's allocator held on the GPU, 0 without one.
    """

    ram = float("nan")
    gpu = 0.0

    def __init__(self, device: str = "cpu") -> None:
        self.on_gpu = device.startswith("cuda")

    def __enter__(self) -> Self:
        release_memory()
        if self.on_gpu:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            self._gpu_before = torch.cuda.memory_allocated()
        self._fresh = _restart_high_water_mark()
        self._before = _resident("VmRSS") if self._fresh else _peak_of_process()
        return self

    def __exit__(self, *error: object) -> None:
        peak = _resident("VmHWM") if self._fresh else _peak_of_process()
        self.ram = peak - self._before
        if self.on_gpu:
            self.gpu = torch.cuda.max_memory_allocated() - self._gpu_before


def release_memory() -> None:
    """Give freed memory back to the system where that can be asked for (glibc)."""
    gc.collect()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        pass


def _restart_high_water_mark() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _resident(field: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return 1024.0 * int(line.split()[1])
    raise OSError(f"no {field} in /proc/self/status")


def _peak_of_process() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return float(unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


# ---- the machine -------------------------------------------------------------------------------


def dtype_of(precision: str | None, device: str) -> torch.dtype:
    """Type in which matrices are multiplied; without a word on it half precision on a GPU."""
    if precision in (None, "auto") and device.startswith("cuda"):
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return PRECISIONS.get(precision or "", torch.float32)


def matmul_peak(device: str, dtype: torch.dtype, repeats: int = 7) -> dict[str, float]:
    """FLOP/s of ``F.linear`` on shapes ``m x k x n``, the best of some repeats for each.

    The last entry, ``"peak"``, is the best of all shapes.
    """
    shapes = GPU_SHAPES if device.startswith("cuda") else CPU_SHAPES
    found = {f"{m}x{k}x{n}": _matmul_rate(m, k, n, device, dtype, repeats) for m, k, n in shapes}
    return {**found, "peak": max(found.values())}


def _matmul_rate(m: int, k: int, n: int, device: str, dtype: torch.dtype, repeats: int) -> float:
    x = torch.randn(m, k, device=device, dtype=dtype)
    weight = torch.randn(n, k, device=device, dtype=dtype)
    calls = max(1, int((2e12 if device.startswith("cuda") else 2e10) / (2 * m * k * n)))

    def multiply() -> None:
        for _ in range(calls):
            F.linear(x, weight)

    with torch.inference_mode():
        multiply()
        clock = usual_basis(device, torch.get_num_threads())
        seconds = min(getattr(timed(multiply, device), clock) for _ in range(repeats))
    return calls * 2 * m * k * n / seconds


def machine(device: str, n_threads: int) -> dict[str, Any]:
    """What has to be known of the machine to read the figures."""
    gpu = torch.cuda.get_device_name() if device.startswith("cuda") else None
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": n_threads,
        "device": device,
        "gpu": gpu,
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "load_average": os.getloadavg() if hasattr(os, "getloadavg") else None,
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), "unknown")


def describe(found: dict[str, Any]) -> str:
    """One line on the machine."""
    place = found["gpu"] or f"{found['cpu']}, {found['threads']} of {found['cores']} cores"
    return f"{place}, torch {found['torch']}"


# ---- figures of several rounds -----------------------------------------------------------------


@dataclass(frozen=True)
class Spread:
    """Median of the rounds, and the smallest and largest of them."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(float(np.median(values)), float(np.min(values)), float(np.max(values)))

    def __str__(self) -> str:
        return f"{short(self.median)} ({short(self.low)} to {short(self.high)})"


def short(number: float) -> str:
    """Three digits, more of them in front of the point."""
    if not np.isfinite(number):
        return "-"
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"


def ratios(over: Sequence[float], under: Sequence[float]) -> Spread:
    """Ratio of the medians; smallest and largest ratio within a round."""
    pairs = np.asarray(over) / np.asarray(under)
    return Spread(float(np.median(over) / np.median(under)), float(pairs.min()), float(pairs.max()))


def decades(low: float, high: float) -> tuple[float, float]:
    """The powers of ten around a range: limits at which a logarithmic axis can be read."""
    return float(10 ** np.floor(np.log10(low))), float(10 ** np.ceil(np.log10(high)))


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, names to the left and numbers to the right."""
    lines = [header, ["---", *("---:" for _ in header[1:])], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write_json(path: Path, figures: Any) -> None:
    """Figures as JSON; paths, tuples and numpy's numbers included."""
    path.write_text(json.dumps(figures, indent=2, default=_plain) + "\n")


def _plain(value: Any) -> Any:
    return value.__dict__ if isinstance(value, Spread) else float(value)
