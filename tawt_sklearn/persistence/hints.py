"""Whether values are of the types that a class declares, as far as that is cheap to tell."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from functools import cache
from numbers import Integral, Real
from typing import Any

import numpy as np

from tawt_sklearn.exceptions import SaveFileError


def check_hints(cls: type, values: Mapping[str, Any]) -> None:
    """Compare values with the annotations of a class; names without one may be anything.

    Raises
    ------
    SaveFileError
        A value is of another type.
    """
    hints = _hints(cls)
    for name, value in values.items():
        if name in hints and not fits(value, hints[name]):
            raise SaveFileError(
                f"Expected {name} of {cls.__name__} to be {_shown(hints[name])}. Got "
                f"{type(value).__name__} {str(value)[:60]!r}."
            )


def fits(value: Any, hint: Any) -> bool:
    """Whether a value may be of a type; True where the type is not understood.

    Examples
    --------
    >>> fits([1, 2], list[int]), fits(["a"], list[int]), fits(None, int | None)
    (True, False, True)
    """
    if hint is Any:
        return True
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, one) for one in inner)
    if origin is typing.Literal:
        return any(value is one or (type(value) is type(one) and value == one) for one in inner)
    if hint is None or hint is type(None):
        return value is None
    if hint is float:
        return isinstance(value, Real)
    if hint is int:
        return isinstance(value, Integral)
    if hint is bool:
        return isinstance(value, bool | np.bool_)
    kind = origin or hint
    if (
        not isinstance(kind, type)
        or typing.is_typeddict(kind)
        or getattr(kind, "_is_protocol", False)
    ):
        return True  # not a class, or one that isinstance does not take
    return isinstance(value, kind) and _fits_inside(value, kind, inner)


def _fits_inside(value: Any, kind: type, inner: tuple[Any, ...]) -> bool:
    if not inner:
        return True
    if kind is tuple and Ellipsis not in inner:
        return len(value) == len(inner) and all(map(fits, value, inner))
    if kind in (list, tuple, set, frozenset):
        return all(fits(item, inner[0]) for item in value)
    if kind is dict:
        return all(fits(key, inner[0]) and fits(item, inner[1]) for key, item in value.items())
    return True


@cache
def _hints(cls: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls)
    except (NameError, TypeError):  # names that only a type checker sees
        return {}


def _shown(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint)
