"""The user's own rules per code: kind, unit factor, valid range, log, label.

A code book is a dictionary, or a JSON or YAML file of one::

    HR:      {range: [20, 300]}
    Temp:    {factor: 1.0, range: [25, 45], label: "Temperature [C]"}
    Glucose: {log: true}
    GCS:     {kind: categorical}
    Surgery: {kind: presence}
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any, get_args

from tawt_sklearn.exceptions import DataError
from tawt_sklearn.tokens.vocabulary import Kind

_KEYS = ("kind", "range", "factor", "log", "label")
_KINDS = get_args(Kind)


@dataclass(frozen=True)
class CodeRule:
    """What is done with the values of one code, in this order.

    Parameters
    ----------
    kind : {"numeric", "categorical", "presence"} or None
        None = found in ``fit``.  ``categorical`` turns numbers and texts into categories,
        ``presence`` sets both aside, ``numeric`` sets texts aside.
    factor : float
        Multiplies the value first (a change of unit), not 0.
    low, high : float
        Valid range, ends included, in the unit after the factor.  A value outside is treated as
        missing and counted; the event stays.
    log : bool
        Takes ``log1p`` last.  Negative values are treated as values outside the range.
    label : str or None
        Name for display.
    """

    kind: Kind | None = None
    factor: float = 1.0
    low: float = -math.inf
    high: float = math.inf
    log: bool = False
    label: str | None = None


def load_codebook(codes: Mapping[Any, Any] | str | os.PathLike[str] | None) -> dict[str, CodeRule]:
    """Rules by code (as a string), from a dictionary or a ``.json``, ``.yaml``, ``.yml`` file.

    Raises
    ------
    DataError
        The file cannot be read, or a rule has an unknown key, kind, or an impossible value; the
        message names the code.
    ImportError
        A YAML file is given and PyYAML is not installed.
    """
    if codes is None:
        return {}
    if not isinstance(codes, Mapping):
        codes = _read(Path(codes))
    rules: dict[str, CodeRule] = {}
    for code, rule in codes.items():
        name = str(code)
        if name in rules:
            raise DataError(
                f"codes: two rules for code {name!r} (once as text, once as a number). Keep one."
            )
        rules[name] = _rule(name, rule)
    return rules


def _read(path: Path) -> Mapping[Any, Any]:
    suffix = path.suffix.lower()
    if suffix not in (".json", ".yaml", ".yml"):
        raise DataError(
            "codes: expected a dictionary, or the path of a .json, .yaml or .yml file. "
            f"Got {str(path)!r}."
        )
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"codes: the file {str(path)!r} cannot be read: {error}.") from error
    try:
        content = _load_json(text) if suffix == ".json" else _load_yaml(text)
    except ValueError as error:
        raise DataError(f"codes: {str(path)!r} is not valid {suffix[1:]}: {error}") from error
    if not isinstance(content, Mapping):
        raise DataError(
            f"codes: {str(path)!r} should hold one mapping of code to rule. "
            f"Got {type(content).__name__}."
        )
    return content


def _load_json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_unique)


def _load_yaml(text: str) -> Any:
    try:
        import yaml
    except ImportError as error:
        raise ImportError(
            "Reading codes from a YAML file needs PyYAML: pip install 'tawt_sklearn[yaml]', "
            "or give a .json file or a dictionary."
        ) from error

    class Loader(yaml.SafeLoader):
        """Reads 1e-3 as the number it is; YAML 1.1 asks for 1.0e-3."""

    number = re.compile(r"[-+]?\d+[eE][-+]?\d+$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+0123456789"))
    loader = Loader(text)
    try:
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            return None if node is None else loader.construct_document(node)
        # Codes as they are written: to YAML, NO is false and 010 is eight.
        return _unique(
            [(code.value, loader.construct_object(rule, deep=True)) for code, rule in node.value]
        )
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    finally:
        loader.dispose()


def _unique(pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
    """Dictionary of pairs, none of which may hide another."""
    content: dict[str, Any] = {}
    for name, value in pairs:
        if not isinstance(name, str):
            raise ValueError(f"expected names as keys, got {type(name).__name__}")
        if name in content:
            raise ValueError(f"{name!r} is there twice, keep one")
        content[name] = value
    return content


def _rule(code: str, rule: Any) -> CodeRule:
    if rule is None:  # "HR:" without anything in YAML
        return CodeRule()
    if not isinstance(rule, Mapping):
        raise DataError(
            f"codes[{code!r}]: expected a dictionary with keys out of {', '.join(_KEYS)}. "
            f"Got {rule!r}."
        )
    if unknown := [key for key in rule if key not in _KEYS]:
        raise DataError(
            f"codes[{code!r}]: unknown key {unknown[0]!r}. Expected keys out of {', '.join(_KEYS)}."
        )
    kind = rule.get("kind")
    if kind is not None and kind not in _KINDS:
        raise DataError(
            f"codes[{code!r}]: kind should be one of {', '.join(_KINDS)}. Got {kind!r}."
        )
    factor = rule.get("factor", 1.0)
    if not _is_number(factor) or factor == 0 or not math.isfinite(factor):
        raise DataError(
            f"codes[{code!r}]: factor should be a finite number other than 0. Got {factor!r}."
        )
    log = rule.get("log", False)
    if not isinstance(log, bool):
        raise DataError(f"codes[{code!r}]: log should be true or false. Got {log!r}.")
    label = rule.get("label")
    if label is not None and not isinstance(label, str):
        raise DataError(f"codes[{code!r}]: label should be a string. Got {label!r}.")
    low, high = _range(code, rule.get("range"))
    if log:
        if high < 0:
            raise DataError(
                f"codes[{code!r}]: log needs values from 0 upwards, but the range ends at {high}."
            )
        low = max(low, 0.0)
    return CodeRule(kind=kind, factor=float(factor), low=low, high=high, log=log, label=label)


def _range(code: str, bounds: Any) -> tuple[float, float]:
    if bounds is None:
        return -math.inf, math.inf
    if not isinstance(bounds, list | tuple) or len(bounds) != 2:
        raise DataError(
            f"codes[{code!r}]: range should be [lowest, highest], None for an open end. "
            f"Got {bounds!r}."
        )
    if not all(bound is None or _is_number(bound) for bound in bounds):
        raise DataError(
            f"codes[{code!r}]: range should be two numbers, None for an open end. Got {bounds!r}."
        )
    low = -math.inf if bounds[0] is None else float(bounds[0])
    high = math.inf if bounds[1] is None else float(bounds[1])
    if not low <= high:  # also NaN
        raise DataError(
            f"codes[{code!r}]: the range should go from the lowest to the highest valid value. "
            f"Got {bounds!r}."
        )
    return low, high


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
