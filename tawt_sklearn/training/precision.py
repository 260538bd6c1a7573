"""From the ``precision`` parameter to what the layers compute in."""

from __future__ import annotations

from typing import Literal

import torch

from tawt_sklearn.exceptions import DeviceError

PrecisionName = Literal["auto", "float32", "bf16", "fp16"]

PRECISIONS = ("auto", "float32", "bf16", "fp16")
"""Values of the ``precision`` parameter."""


def narrow_type(precision: str, device: torch.device) -> torch.dtype | None:
    """Type of the transformer's linear layers, None where it is that of everything else.

    ``"auto"`` is bfloat16 on a CUDA device that computes in it (compute capability 8 and above)
    and float16 on an older one.  On CPUs and MPS it is float32: on a CPU with matrix units
    bfloat16 gained less than a tenth of a training step.

    Raises
    ------
    DeviceError
        If the device does not compute in that precision.
    """
    on_cuda = device.type == "cuda"
    if precision == "auto":
        if not on_cuda:
            return None
        return torch.bfloat16 if _has_bf16(device) else torch.float16
    if precision == "fp16" and not on_cuda:
        raise DeviceError(
            f'Expected precision="fp16" with a CUDA device only. Got device {str(device)!r}. Use '
            'precision="bf16" or "float32".'
        )
    if precision == "bf16" and on_cuda and not _has_bf16(device):
        raise DeviceError(
            'Expected a GPU of compute capability 8.0 or above with precision="bf16". Got '
            f'{torch.cuda.get_device_name(device)}. Use precision="fp16" or "auto".'
        )
    return {"float32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def usable_type(precision: str, device: torch.device) -> torch.dtype | None:
    """The same for prediction, where a device that cannot do it computes in float32."""
    try:
        return narrow_type(precision, device)
    except DeviceError:
        return None


def predicts_in_double(precision: str, device: torch.device, patching: str) -> bool:
    """Whether scores are computed in float64: on CPUs, unless a precision was asked for.

    Not with a token for each event, where it would cost what everything else costs.

    In single precision the scores of a row depend in the last digit on the rows that share its
    batch, as the order of the sums in a matrix product depends on its shape.  In double precision
    nobody sees it; a single row costs about the same, many rows about twice as much.
    """
    return precision == "auto" and device.type == "cpu" and patching != "event"


def _has_bf16(device: torch.device) -> bool:
    return torch.cuda.get_device_capability(device) >= (8, 0)
