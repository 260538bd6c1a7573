"""Frames, series, indexes and scalars of pandas as JSON nodes, column by column."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tawt_sklearn.exceptions import SaveFileError

if TYPE_CHECKING:
    from tawt_sklearn.persistence.codec import Decoder, Encoder

Node = dict[str, Any]

_ZONE = re.compile(r"[A-Za-z][\w+:-]*(/[\w+-]+)*")
_MASKED = {
    "b": pd.arrays.BooleanArray,
    "i": pd.arrays.IntegerArray,
    "u": pd.arrays.IntegerArray,
    "f": pd.arrays.FloatingArray,
}


def encode(encoder: Encoder, value: Any) -> Node | None:
    """The node of a value of pandas; None if it is none, or of a kind that cannot be saved."""
    if value is pd.NA or value is pd.NaT:
        return {"$": "NA" if value is pd.NA else "NaT"}
    if type(value) is pd.Timestamp:
        return _encode_timestamp(encoder, value)
    if type(value) is pd.Timedelta:
        return {"$": "timedelta", "value": encoder.node(value.asm8)}
    if isinstance(value, pd.Index):
        return _encode_index(encoder, value)
    if type(value) is pd.Series:
        parts = {"index": value.index, "name": value.name, "values": value.array}
        return {"$": "series", "parts": encoder.named(parts)}
    if type(value) is pd.DataFrame:
        columns = [value.iloc[:, position].array for position in range(value.shape[1])]
        parts = {"index": value.index, "columns": value.columns, "values": columns}
        return {"$": "frame", "parts": encoder.named(parts)}
    if isinstance(value, pd.api.extensions.ExtensionArray):
        return _encode_values(encoder, value)
    return None


# ---- columns -----------------------------------------------------------------------------------


def _encode_values(encoder: Encoder, array: Any) -> Node | None:
    """Values of a column or an index."""
    if type(array) is pd.arrays.NumpyExtensionArray:
        array = array.to_numpy()
    dtype = array.dtype
    if isinstance(dtype, np.dtype):  # numbers, objects, and times without a zone
        return {"$": "column", "kind": "numpy", "values": encoder.node(np.asarray(array))}
    if isinstance(dtype, pd.StringDtype):
        missing, values = np.asarray(array.isna()), array.to_numpy(object)
        node = {"storage": dtype.storage, "nullable": dtype.na_value is pd.NA}
        strings = [None if gone else text for text, gone in zip(values, missing, strict=True)]
        return {"$": "column", "kind": "string", **node, "values": encoder.nodes(strings)}
    if isinstance(dtype, pd.CategoricalDtype):
        parts = {"codes": np.asarray(array.codes), "categories": _listed(dtype.categories)}
        ordered = bool(dtype.ordered)
        return {"$": "column", "kind": "category", "ordered": ordered, **encoder.named(parts)}
    if isinstance(dtype, pd.DatetimeTZDtype):
        if (zone := _zone_name(dtype.tz)) is None:
            return None
        utc = encoder.node(np.asarray(array.tz_convert(None)))
        return {"$": "column", "kind": "zone", "zone": zone, "values": utc}
    if type(array) in _MASKED.values():
        numbers = dtype.numpy_dtype
        parts = {
            "mask": np.asarray(array.isna()),
            "values": array.to_numpy(dtype=numbers, na_value=numbers.type(0)),
        }
        return {"$": "column", "kind": "masked", **encoder.named(parts)}
    return None


def _decode_values(decoder: Decoder, node: Node) -> Any:
    kind = node["kind"]
    if kind == "string":
        return _decode_strings(decoder, node)
    if kind == "category":
        codes = _expect_array(decoder.value(node["codes"]), "i")
        categories = _expect_labels(decoder.value(node["categories"]))
        dtype = pd.CategoricalDtype(categories, ordered=node["ordered"] is True)
        return pd.Categorical.from_codes(codes, dtype=dtype)
    values = _expect_array(decoder.value(node["values"]))
    if kind == "numpy":
        in_pandas = values.dtype.kind in "mM"
        return pd.Index(values).array if in_pandas else pd.arrays.NumpyExtensionArray(values)
    if kind == "zone":
        _expect_array(values, "M")
        return pd.DatetimeIndex(values).tz_localize("UTC").tz_convert(_zone(node["zone"])).array
    if kind == "masked":
        return _MASKED[values.dtype.kind](values, _expect_array(decoder.value(node["mask"]), "b"))
    raise SaveFileError(f"Expected a known kind of column. Got {str(kind)[:40]!r}.")


def _decode_strings(decoder: Decoder, node: Node) -> Any:
    texts = decoder.values(node["values"])
    if not all(text is None or type(text) is str for text in texts):
        raise SaveFileError("Expected strings in a column of strings.")
    na_value: Any = pd.NA if node["nullable"] is True else np.nan
    storage = node["storage"]
    if storage not in ("python", "pyarrow"):
        raise SaveFileError(f"Expected a known storage of strings. Got {str(storage)[:40]!r}.")
    try:
        dtype = pd.StringDtype(storage, na_value=na_value)
    except ImportError:  # no pyarrow here; pandas keeps the same strings without it
        dtype = pd.StringDtype("python", na_value=na_value)
    return pd.array(texts, dtype=dtype)


def _expect_array(values: Any, kinds: str = "biufcmMO") -> np.ndarray:
    if not isinstance(values, np.ndarray) or values.ndim != 1 or values.dtype.kind not in kinds:
        raise SaveFileError(f"Expected the numbers of a column. Got {str(values)[:60]}.")
    return values


# ---- indexes -----------------------------------------------------------------------------------


def _encode_index(encoder: Encoder, index: pd.Index) -> Node | None:
    if type(index) is pd.RangeIndex:
        parts: dict[str, Any] = {"range": (index.start, index.stop, index.step)}
    elif type(index) is pd.MultiIndex:
        parts = {
            "levels": [_listed(level) for level in index.levels],
            "codes": [np.asarray(codes) for codes in index.codes],
        }
    elif type(index) in (pd.Index, pd.DatetimeIndex, pd.TimedeltaIndex, pd.CategoricalIndex):
        parts = {"values": index.array, "freq": getattr(index, "freqstr", None)}
    else:
        return None
    return {"$": "index", "parts": encoder.named({**parts, "names": list(index.names)})}


def _decode_index(decoder: Decoder, node: Node) -> pd.Index:
    parts = decoder.named(node["parts"])
    names = parts["names"]
    if "range" in parts:
        start, stop, step = parts["range"]
        return pd.RangeIndex(start, stop, step).set_names(names)
    if "levels" in parts:
        levels, codes = parts["levels"], parts["codes"]
        codes = [_expect_array(numbers, "i") for numbers in codes]
        labels: list[Any] = [_expect_labels(level) for level in levels]
        return pd.MultiIndex(labels, codes, names=names)
    index = _index_of(parts["values"]).set_names(names)
    if parts["freq"] is not None:
        index.freq = parts["freq"]  # type: ignore[attr-defined]
    return index


def _index_of(values: Any) -> pd.Index:
    """An index of exactly the type of its values."""
    _expect_column(values)
    if type(values) is pd.arrays.NumpyExtensionArray:
        values = values.to_numpy()
        return pd.Index(values, dtype=values.dtype)
    return pd.Index(values)


def _listed(index: pd.Index) -> pd.Index:
    """The same with all labels spelled out: a range in a file could claim to be of any length."""
    if isinstance(index, pd.RangeIndex):
        return pd.Index(index.to_numpy(), dtype=index.dtype, name=index.name)
    return index


def _expect_labels(index: Any) -> pd.Index:
    if isinstance(index, pd.RangeIndex) or not isinstance(index, pd.Index):
        raise SaveFileError(f"Expected labels. Got {str(index)[:60]}.")
    return index


# ---- frames and scalars ------------------------------------------------------------------------


def _decode_series(decoder: Decoder, node: Node) -> pd.Series:
    parts = decoder.named(node["parts"])
    return _column(parts["values"], parts["index"], parts["name"])


def _decode_frame(decoder: Decoder, node: Node) -> pd.DataFrame:
    parts = decoder.named(node["parts"])
    index, labels = parts["index"], parts["columns"]
    columns = [_column(values, index, None) for values in parts["values"]]
    if not isinstance(labels, pd.Index) or len(labels) != len(columns):
        raise SaveFileError(f"Expected a label for each of {len(columns)} columns.")
    frame = pd.DataFrame(dict(enumerate(columns)), index=index)
    frame.columns = labels
    return frame


def _column(values: Any, index: Any, name: Any) -> pd.Series:
    _expect_column(values)
    if not isinstance(index, pd.Index) or len(values) != len(index):
        raise SaveFileError(f"Expected an index of {len(values)} labels. Got {str(index)[:60]}.")
    if type(values) is pd.arrays.NumpyExtensionArray:
        values = values.to_numpy()
        return pd.Series(values, index, values.dtype, name)
    return pd.Series(values, index, name=name)


def _expect_column(values: Any) -> None:
    if not isinstance(values, pd.api.extensions.ExtensionArray):
        raise SaveFileError(f"Expected the values of a column. Got {str(values)[:60]}.")


def _encode_timestamp(encoder: Encoder, value: pd.Timestamp) -> Node | None:
    zone = None if value.tz is None else _zone_name(value.tz)
    if value.tz is not None and zone is None:
        return None
    return {"$": "timestamp", "value": encoder.node(value.asm8), "zone": zone}


def _decode_timestamp(decoder: Decoder, node: Node) -> Any:
    value = pd.Timestamp(_time_of(decoder, node, np.datetime64))
    if node["zone"] is None:
        return value
    return value.tz_localize("UTC").tz_convert(_zone(node["zone"]))


def _time_of(decoder: Decoder, node: Node, kind: type) -> Any:
    value = decoder.value(node["value"])
    if not isinstance(value, kind):
        raise SaveFileError(f"Expected a time. Got {str(value)[:60]!r}.")
    return value


def _zone_name(zone: Any) -> str | None:
    """A name that gives the same time zone back, None if there is none."""
    name = str(zone)
    try:
        return name if _zone(name) == zone else None
    except (TypeError, ValueError, KeyError):
        return None


def _zone(name: Any) -> Any:
    # pandas takes names that begin with dateutil/ or a slash for files.
    if not isinstance(name, str) or not _ZONE.fullmatch(name) or name.startswith("dateutil"):
        raise SaveFileError(f"Expected the name of a time zone. Got {str(name)[:60]!r}.")
    return pd.DatetimeTZDtype(tz=name).tz


DECODERS = {
    "NA": lambda decoder, node: pd.NA,
    "NaT": lambda decoder, node: pd.NaT,
    "timestamp": _decode_timestamp,
    "timedelta": lambda decoder, node: pd.Timedelta(_time_of(decoder, node, np.timedelta64)),
    "index": _decode_index,
    "series": _decode_series,
    "frame": _decode_frame,
    "column": _decode_values,
}
