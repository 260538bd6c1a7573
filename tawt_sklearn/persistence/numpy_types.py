"""Arrays, scalars, dtypes and random states of NumPy, and devices of torch, as JSON nodes."""

from __future__ import annotations

import math
import re
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from tawt_sklearn.exceptions import SaveFileError

if TYPE_CHECKING:
    from tawt_sklearn.persistence.codec import Decoder, Encoder

_DTYPE = re.compile(r"\|b1|\|O|[<>|][iu][1248]|[<>]f[248]|[<>]c(8|16)|\|S\d{1,6}|[<>]U\d{1,6}")
_TIME = re.compile(r"[<>][mM]8(\[\d{0,4}(Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?")
_SCALAR_TYPES: dict[str, Any] = {
    dtype.name: dtype.type for dtype in map(np.dtype, "? i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 f8".split())
}


def encode(encoder: Encoder, value: Any) -> dict[str, Any] | None:
    """The node of a value of NumPy or torch; None if it is neither."""
    if type(value) is np.ndarray or isinstance(value, np.memmap):
        return _encode_array(encoder, np.asarray(value))
    if isinstance(value, np.generic):
        return _encode_scalar(encoder, value)
    for name, scalar_type in _SCALAR_TYPES.items():
        if value is scalar_type:
            return {"$": "scalar_type", "name": name}
    if isinstance(value, np.dtype) and _is_simple(value.str) and value.fields is None:
        return {"$": "dtype", "name": value.str}
    if type(value) is np.random.RandomState:
        return _encode_random_state(encoder, value)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.device):
        return {"$": "torch_device", "name": str(value)}
    return None


# ---- arrays ------------------------------------------------------------------------------------


def _encode_array(encoder: Encoder, array: np.ndarray) -> dict[str, Any] | None:
    """Numbers go to the arrays; strings and times do as integers, and other objects to JSON."""
    node: dict[str, Any] = {"$": "array"}
    if array.flags.f_contiguous and not array.flags.c_contiguous:
        array = array.T  # in the same order in memory, as sums depend on it to the last bit
        node["order"] = "F"
    dtype = array.dtype
    if dtype.kind == "O":
        node["$"] = "objects"
        return {**node, "shape": list(array.shape), "items": encoder.nodes(array.ravel().tolist())}
    if dtype.kind in "biuf" and dtype.itemsize <= 8:
        numbers = array if dtype.isnative else array.astype(dtype.newbyteorder("="))
    elif dtype.kind == "c" and dtype.itemsize <= 16:
        numbers = _split(array, f"f{dtype.itemsize // 2}", 2)
    elif dtype.kind == "U":
        width = max(1, dtype.itemsize // 4)
        numbers = _split(array.astype(f"U{width}"), "u4", width)
    elif dtype.kind in "mM" and _TIME.fullmatch(dtype.str):
        numbers = array.astype(dtype.newbyteorder("=")).view(np.int64)
    else:
        return None
    if numbers.dtype != dtype:
        node["dtype"] = dtype.str
    return {**node, "key": encoder.store(numbers)}


def _split(array: np.ndarray, part: str, n: int) -> np.ndarray:
    """Each element as ``n`` numbers along a new last axis."""
    flat = array.astype(array.dtype.newbyteorder("="), order="C").reshape(-1)
    return flat.view(part).reshape(*array.shape, n)


def _decode_array(decoder: Decoder, node: dict[str, Any]) -> np.ndarray:
    array = decoder.fetch(node["key"])
    if "dtype" in node:
        array = _restore(array, node["dtype"])
    return _in_order(array, node)


def _restore(numbers: np.ndarray, name: Any) -> np.ndarray:
    """Numbers as the dtype they stand for."""
    dtype = _dtype(name)
    if dtype.kind in "biuf":
        if numbers.dtype != dtype.newbyteorder("="):
            raise SaveFileError(f"Expected {name} numbers. Got {numbers.dtype}.")
        return numbers.astype(dtype)
    part, n = {"m": ("i8", 0), "M": ("i8", 0), "U": ("u4", dtype.itemsize // 4)}.get(
        dtype.kind, (f"f{dtype.itemsize // 2}", 2)
    )
    if numbers.dtype != part or (n and numbers.shape[-1:] != (n,)):
        raise SaveFileError(f"Expected the parts of {name}. Got {numbers.dtype}, {numbers.shape}.")
    if dtype.kind == "U" and numbers.size and numbers.max() > sys.maxunicode:
        raise SaveFileError("Expected characters. Got numbers that stand for none.")
    native = dtype.newbyteorder("=")
    if n:
        return numbers.reshape(-1).view(native).reshape(numbers.shape[:-1]).astype(dtype)
    return numbers.view(native).astype(dtype)


def _decode_objects(decoder: Decoder, node: dict[str, Any]) -> np.ndarray:
    items, shape = decoder.values(node["items"]), decoder.values(node["shape"])
    if not all(type(n) is int and n >= 0 for n in shape) or math.prod(shape) != len(items):
        raise SaveFileError(f"Expected a shape of {len(items)} objects. Got {str(shape)[:60]}.")
    array = np.empty(len(items), object)
    for position, item in enumerate(items):  # at one go, lists would become axes
        array[position] = item
    return _in_order(array.reshape(shape), node)


def _in_order(array: np.ndarray, node: dict[str, Any]) -> np.ndarray:
    return array.T if node.get("order") == "F" else array


# ---- scalars, dtypes and random states ---------------------------------------------------------


def _encode_scalar(encoder: Encoder, value: np.generic) -> dict[str, Any] | None:
    """As an array would be, but the number in JSON."""
    dtype = value.dtype
    if dtype.kind == "U":
        return {"$": "scalar", "dtype": "U", "value": str(value)}
    if dtype.kind in "mM" and _TIME.fullmatch(dtype.str):
        number = np.asarray(value).astype(dtype.newbyteorder("=")).view(np.int64)
        return {"$": "scalar", "dtype": dtype.str, "value": int(number)}
    if dtype.kind in "biuf" and dtype.itemsize <= 8:
        return {"$": "scalar", "dtype": dtype.str, "value": encoder.node(value.item())}
    return None


def _decode_scalar(decoder: Decoder, node: dict[str, Any]) -> Any:
    value = decoder.value(node["value"])
    if node["dtype"] == "U":
        return np.str_(value) if isinstance(value, str) else _refuse(value, "a string")
    dtype = _dtype(node["dtype"])
    if dtype.kind in "mM":
        return np.array(value, np.int64).view(dtype)[()]
    if dtype.kind not in "biuf" or type(value) is not type(dtype.type(0).item()):
        _refuse(value, f"a number of type {dtype}")
    return dtype.type(value)


def _dtype(name: Any) -> np.dtype:
    if not isinstance(name, str) or not _is_simple(name):
        _refuse(name, "a dtype")
    return np.dtype(name)


def _is_simple(name: str) -> bool:
    """Whether it is a dtype of plain values, which is all that NumPy is asked to understand."""
    if name[1:2] in ("m", "M"):
        return _TIME.fullmatch(name) is not None
    return _DTYPE.fullmatch(name) is not None


def _refuse(value: Any, expected: str) -> Any:
    raise SaveFileError(f"Expected {expected}. Got {str(value)[:60]!r}.")


def _encode_random_state(encoder: Encoder, value: np.random.RandomState) -> dict[str, Any] | None:
    state: dict[str, Any] = value.get_state(legacy=False)
    if state["bit_generator"] != "MT19937":
        return None
    parts = (state["state"]["key"], state["state"]["pos"], state["has_gauss"], state["gauss"])
    return {"$": "random_state", "items": encoder.nodes(parts)}


def _decode_random_state(decoder: Decoder, node: dict[str, Any]) -> np.random.RandomState:
    key, position, has_gauss, gauss = decoder.values(node["items"])
    fits = isinstance(key, np.ndarray) and key.dtype == np.uint32 and key.shape == (624,)
    if not fits or type(position) is not int or not 0 <= position <= 624:
        raise SaveFileError("Expected the state of a random number generator.")
    result = np.random.RandomState(0)
    result.set_state(("MT19937", key, position, has_gauss, gauss))
    return result


def _decode_device(decoder: Decoder, node: dict[str, Any]) -> Any:
    import torch

    name = node["name"]
    if not isinstance(name, str) or not re.fullmatch(r"[a-z]{1,20}(:\d{1,4})?", name):
        _refuse(name, "the name of a device")
    return torch.device(name)


def _decode_scalar_type(decoder: Decoder, node: dict[str, Any]) -> type:
    return _SCALAR_TYPES[node["name"]]


DECODERS = {
    "array": _decode_array,
    "objects": _decode_objects,
    "scalar": _decode_scalar,
    "scalar_type": _decode_scalar_type,
    "dtype": lambda decoder, node: _dtype(node["name"]),
    "random_state": _decode_random_state,
    "torch_device": _decode_device,
}
