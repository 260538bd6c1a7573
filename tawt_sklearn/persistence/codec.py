"""Python values to JSON and arrays and back: a closed set of types, nothing that could run code.

In JSON null, bool, strings, integers of 64 bits and finite floats stand for themselves and a list
for a list.  Everything else is an object with the key ``"$"`` that names its type:
``{"$": "tuple", "items": [...]}``, ``{"$": "array", "key": "a0"}``.  The types of NumPy and torch
are those in :mod:`~tawt_sklearn.persistence.numpy_types`, those of pandas in
:mod:`~tawt_sklearn.persistence.pandas_types`, and the classes of this library in
:mod:`~tawt_sklearn.persistence.registry`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from tawt_sklearn.exceptions import DeviceError, SaveFileError
from tawt_sklearn.persistence import numpy_types, pandas_types, registry

MAX_DEPTH = 64
"""Values nested more deeply are refused on both sides, before Python's own limit is near."""

_LARGEST_INT = 2**63

Node = Any
"""JSON as the json module gives it."""


def encode(value: Any) -> tuple[Node, dict[str, np.ndarray]]:
    """Turn a value into JSON and the arrays that the JSON refers to.

    The same value gives the same result, sets included.  Objects that occur twice become two.

    Returns
    -------
    node : JSON
    arrays : dict of ndarray
        For :func:`~tawt_sklearn.persistence.archive.write_archive`.

    Raises
    ------
    TypeError
        A value of another type; the message has its place, such as ``params.callbacks[0]``.

    Examples
    --------
    >>> encode((1, float("inf")))
    ({'$': 'tuple', 'items': [1, {'$': 'float', 'value': 'inf'}]}, {})
    >>> decode(*encode({"a": {1, 2}}))
    {'a': {1, 2}}
    """
    encoder = Encoder()
    try:
        node = encoder.node(value)
    except NotSavableError as error:
        raise TypeError(str(error)) from error.__cause__
    return node, encoder.arrays


def decode(node: Node, arrays: dict[str, np.ndarray], device: Any = None) -> Any:
    """Turn back what :func:`encode` made.

    Parameters
    ----------
    node : JSON
    arrays : dict of ndarray
        Each must be referred to exactly once; the value may share their memory.
    device : str, torch.device or None
        Handed to the classes that hold networks.

    Raises
    ------
    SaveFileError
        Anything that ``encode`` cannot have made.
    """
    decoder = Decoder(arrays, device)
    try:
        value = decoder.value(node)
    except (SaveFileError, DeviceError):
        raise
    except Exception as error:  # whatever a constructor says of values that do not fit it
        raise SaveFileError(
            f"The content does not fit together ({type(error).__name__}: {str(error)[:200]})."
        ) from error
    if decoder.arrays:
        raise SaveFileError(f"It holds arrays that nothing refers to: {list(decoder.arrays)[:5]}.")
    return value


class NotSavableError(Exception):
    """A value has a type that cannot be saved; knows the way to it."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what
        self.path = ""

    def at(self, step: str) -> NotSavableError:
        """The same one level up."""
        self.path = step + self.path
        return self

    def __str__(self) -> str:
        path = self.path.lstrip(".")
        return (
            f"Expected values that can be saved: numbers, strings, containers, arrays, frames and "
            f"classes of tawt_sklearn. Got {path + ': ' if path else ''}{self.what}. Pickle the "
            "estimator instead, or take this out."
        )


class Encoder:
    """Makes JSON nodes, and collects the arrays on the way."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self._depth = 0

    def node(self, value: Any) -> Node:
        """The node of any value."""
        if _is_plain(value):
            return value
        if self._depth >= MAX_DEPTH:
            raise NotSavableError(f"values nested more than {MAX_DEPTH} levels deep")
        self._depth += 1
        try:
            return self._node(value)
        finally:
            self._depth -= 1

    def _node(self, value: Any) -> Node:
        kind = type(value)
        if kind is list:
            return self.nodes(value)
        if kind in _ENCODERS:
            return _ENCODERS[kind](self, value)
        if isinstance(value, PurePath):
            return {"$": "path", "value": str(value)}
        for module in (numpy_types, pandas_types):
            if (node := module.encode(self, value)) is not None:
                return node
        if (name := registry.name_of(kind)) is not None:
            return {"$": "object", "class": name, "state": self.named(registry.to_state(value))}
        dtype = getattr(value, "dtype", None)
        of = "" if dtype is None else f" of {dtype}"
        raise NotSavableError(f"{kind.__module__}.{kind.__qualname__}{of}")

    def nodes(self, values: Iterable[Any]) -> list[Node]:
        """Nodes of all values in a sequence."""
        result = []
        for position, value in enumerate(values):
            try:
                result.append(value if _is_plain(value) else self.node(value))
            except NotSavableError as error:
                raise error.at(f"[{position}]") from error.__cause__
        return result

    def named(self, values: dict[str, Any]) -> dict[str, Node]:
        """Nodes of the values of a dict with string keys."""
        result = {}
        for name, value in values.items():
            try:
                result[name] = self.node(value)
            except NotSavableError as error:
                raise error.at(f".{name}") from error.__cause__
        return result

    def store(self, array: np.ndarray) -> str:
        """Put an array of numbers or bool aside; its key."""
        key = f"a{len(self.arrays)}"
        self.arrays[key] = array
        return key


class Decoder:
    """Makes values of JSON nodes."""

    def __init__(self, arrays: dict[str, np.ndarray], device: Any) -> None:
        self.arrays = dict(arrays)
        self._device = device
        self._depth = 0

    def value(self, node: Node) -> Any:
        """The value of any node."""
        if _is_plain(node):
            return node
        if self._depth >= MAX_DEPTH:
            raise SaveFileError(f"Values are nested more than {MAX_DEPTH} levels deep.")
        self._depth += 1
        try:
            return self._value(node)
        finally:
            self._depth -= 1

    def _value(self, node: Node) -> Any:
        if type(node) is list:
            return [item if _is_plain(item) else self.value(item) for item in node]
        kind = node.get("$") if type(node) is dict else None
        if not isinstance(kind, str):
            raise SaveFileError(f"Expected a value. Got {str(node)[:60]}.")
        if kind == "object":
            cls = registry.class_of(node["class"])
            return registry.from_state(cls, self.named(node["state"]), self._device)
        for table in (_DECODERS, numpy_types.DECODERS, pandas_types.DECODERS):
            if kind in table:
                return table[kind](self, node)
        raise SaveFileError(f"Expected a known type of value. Got {kind[:40]!r}.")

    def values(self, nodes: Any) -> list[Any]:
        """Values of a JSON list."""
        if type(nodes) is not list:
            raise SaveFileError(f"Expected a list. Got {str(nodes)[:60]}.")
        return self._value(nodes)

    def named(self, nodes: Any) -> dict[str, Any]:
        """Values of a JSON object, by name."""
        if type(nodes) is not dict:
            raise SaveFileError(f"Expected names with values. Got {str(nodes)[:60]}.")
        return {name: self.value(node) for name, node in nodes.items()}

    def fetch(self, key: Any) -> np.ndarray:
        """The array of that key, which nothing else may ask for again."""
        if not isinstance(key, str) or key not in self.arrays:
            raise SaveFileError(f"Expected the key of an array. Got {repr(key)[:40]}.")
        return self.arrays.pop(key)


def expect(value: Any, kind: type) -> Any:
    """The value, if it is of that very type."""
    if type(value) is not kind:
        raise SaveFileError(f"Expected a {kind.__name__}. Got {str(value)[:60]!r}.")
    return value


def _is_plain(value: Any) -> bool:
    """Whether JSON holds the value as it is."""
    kind = type(value)
    return (
        kind is str
        or (kind is int and -_LARGEST_INT <= value < _LARGEST_INT)
        or (kind is float and math.isfinite(value))
        or kind is bool
        or value is None
    )


# ---- the types of Python that JSON lacks -------------------------------------------------------


def _encode_dict(encoder: Encoder, value: dict[Any, Any]) -> Node:
    if all(type(key) is str for key in value):
        return {"$": "dict", "items": encoder.named(value)}
    pairs = []
    for key, item in value.items():
        try:
            pairs.append([encoder.node(key), encoder.node(item)])
        except NotSavableError as error:
            raise error.at(f"[{repr(key)[:40]}]") from error.__cause__
    return {"$": "dict", "pairs": pairs}


def _decode_dict(decoder: Decoder, node: Node) -> dict[Any, Any]:
    if "items" in node:
        return decoder.named(node["items"])
    pairs = [decoder.values(pair) for pair in expect(node["pairs"], list)]
    return _distinct(pairs, {key: value for key, value in pairs})


def _encode_set(encoder: Encoder, value: Any) -> Node:
    # Sorted by their JSON, as the order of a set changes from process to process.
    items = sorted(encoder.nodes(value), key=lambda item: json.dumps(item, sort_keys=True))
    return {"$": type(value).__name__, "items": items}


def _decode_set(decoder: Decoder, node: Node) -> Any:
    items = decoder.values(node["items"])
    return _distinct(items, set(items) if node["$"] == "set" else frozenset(items))


def _distinct(items: list[Any], container: Any) -> Any:
    if len(container) < len(items):
        raise SaveFileError("A key or a member of a set is there twice.")
    return container


def _decode_int(decoder: Decoder, node: Node) -> int:
    return int(expect(node["hex"], str), 16)  # linear in its length, other than decimals


def _decode_float(decoder: Decoder, node: Node) -> float:
    return {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[node["value"]]


_ENCODERS: dict[type, Callable[[Encoder, Any], Node]] = {
    int: lambda encoder, value: {"$": "int", "hex": hex(value)},
    float: lambda encoder, value: {"$": "float", "value": repr(value)},
    tuple: lambda encoder, value: {"$": "tuple", "items": encoder.nodes(value)},
    set: _encode_set,
    frozenset: _encode_set,
    dict: _encode_dict,
}

_DECODERS: dict[str, Callable[[Decoder, Node], Any]] = {
    "int": _decode_int,
    "float": _decode_float,
    "tuple": lambda decoder, node: tuple(decoder.values(node["items"])),
    "set": _decode_set,
    "frozenset": _decode_set,
    "dict": _decode_dict,
    "path": lambda decoder, node: Path(expect(node["value"], str)),
}
