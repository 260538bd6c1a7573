"""Values to JSON and arrays and back, to the last bit."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections import OrderedDict
from enum import StrEnum
from functools import partial
from pathlib import Path

import hypothesis.extra.numpy as hnp
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tawt_sklearn.exceptions import SaveFileError
from tawt_sklearn.persistence import archive
from tawt_sklearn.persistence.codec import MAX_DEPTH, decode, encode


def through_file(value):
    """A value by way of the bytes of JSON and safetensors."""
    node, arrays = encode(value)
    blob = archive._to_safetensors(arrays)
    text = archive._to_json({"node": node}, blob)
    return decode(archive._parse_json(text)["document"]["node"], archive._from_safetensors(blob))


def same(left, right) -> bool:
    """Equal in value and type all the way down; NaN equals NaN and 0.0 is not -0.0."""
    if type(left) is not type(right):
        return False
    if isinstance(left, np.ndarray):
        if (left.dtype, left.shape) != (right.dtype, right.shape):
            return False
        if left.dtype == object:
            return all(map(same, left.ravel().tolist(), right.ravel().tolist()))
        return left.tobytes() == right.tobytes()
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        pairs = zip(left.items(), right.items(), strict=True)
        return len(left) == len(right) and all(same(one, two) for one, two in pairs)
    if isinstance(left, set | frozenset):
        return sorted(map(repr, left)) == sorted(map(repr, right))
    if isinstance(left, float | np.floating):
        return repr(left) == repr(right)
    if isinstance(left, np.generic):
        return left.dtype == right.dtype and left.tobytes() == right.tobytes()
    return left == right


@pytest.fixture(autouse=True)
def _check_same():
    assert same([1, {"a": np.nan}], [1, {"a": np.nan}])
    assert not same(0.0, -0.0) and not same(1, True) and not same(np.float32(1), np.float64(1))


texts = st.text(st.characters(), max_size=8)  # lone surrogates included
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**200), 2**200),
    st.floats(),
    texts,
    hnp.from_dtype(np.dtype("f4")),
    hnp.from_dtype(np.dtype("f2")),
    hnp.from_dtype(np.dtype("u8")),
    hnp.from_dtype(np.dtype("?")),
    hnp.from_dtype(np.dtype("M8[s]")),
)
keys = st.one_of(st.none(), st.integers(), texts, st.tuples(st.integers(), texts))
numeric = st.one_of(
    *(getattr(hnp, f"{kind}_dtypes")(endianness="?") for kind in ("integer", "floating")),
    hnp.unsigned_integer_dtypes(),
    hnp.boolean_dtypes(),
    hnp.complex_number_dtypes(sizes=(64, 128)),
    hnp.unicode_string_dtypes(max_len=5),
    hnp.datetime64_dtypes(),
    hnp.timedelta64_dtypes(),
).filter(lambda dtype: dtype.itemsize <= 16 or dtype.kind == "U")
numeric = numeric.filter(lambda dtype: dtype.itemsize <= 8 or dtype.kind != "f")
shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
objects = hnp.arrays(object, shapes, elements=scalars)
values = st.recursive(
    st.one_of(scalars, hnp.arrays(numeric, shapes), objects),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(keys, inner, max_size=4),
        st.sets(keys, max_size=4),
        st.frozensets(keys, max_size=4),
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(values)
def test_nested_values_come_back(value):
    assert same(through_file(value), value)


@settings(max_examples=200, deadline=None)
@given(hnp.arrays(numeric, shapes), st.booleans())
def test_arrays_come_back_with_dtype_byte_order_and_layout(array, fortran):
    if fortran:
        array = np.asfortranarray(array)
    back = through_file(array)
    assert same(back, array) and back.dtype.str == array.dtype.str
    assert back.flags.f_contiguous == array.flags.f_contiguous
    assert back.flags.c_contiguous == array.flags.c_contiguous


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(10**6000, id="huge"),
        -(2**63),
        2**63,
        Path("a") / "ß.json",
        np.dtype("f4"),
        np.dtype("<U7"),
        np.dtype(object),
        np.dtype(">M8[us]"),
        np.float32,
        np.int64,
        np.bool_,
        np.str_("x"),
        np.timedelta64("NaT"),
        np.array(["a", None, np.nan, 1, True, 2.5, np.int8(1)], object),
        np.array([[1], (2,), {}, None], object),
        np.array(["a", "b"], dtype="<U10")[::-1],
        np.array("x"),
        np.array([["a", "b"], ["c", "d"]]).T,
        pd.NA,
        pd.NaT,
        pd.Timestamp("2020-01-02 03:04:05.123456789"),
        pd.Timestamp("0001-01-01").as_unit("s"),
        pd.Timestamp("2020-07-01 12:00", tz="Europe/Vienna"),
        pd.Timestamp("2020-07-01 12:00+01:30"),
        pd.Timedelta(days=-1, nanoseconds=1),
    ],
)
def test_single_values_come_back(value):
    back = through_file(value)
    assert value is back or same(back, value)
    if isinstance(value, pd.Timestamp):
        assert back.unit == value.unit and str(back) == str(value)


def test_nested_values_of_arrays_are_independent_and_writeable():
    array = np.arange(3)
    first, second = through_file([array, array])
    first[0] = 7
    assert second[0] == 0


@pytest.mark.parametrize("advance", [0, 5])
def test_random_states_go_on_where_they_were(advance):
    state = np.random.RandomState(3)
    state.normal(size=advance)
    back = through_file(state)
    np.testing.assert_array_equal(back.normal(size=700), state.normal(size=700))


def test_devices_of_torch_come_back():
    torch = pytest.importorskip("torch")
    for name in ("cpu", "cuda:1"):
        assert through_file(torch.device(name)) == torch.device(name)


def test_the_same_value_gives_the_same_json_in_every_process():
    code = (
        "import json; from tawt_sklearn.persistence.codec import encode;"
        "print(json.dumps(encode([{'a','b','c','d'}, frozenset([('x', 1), ('y', 2)])])[0]))"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            check=True,
        ).stdout
        for seed in (1, 2)
    }
    assert len(runs) == 1


# ---- pandas ------------------------------------------------------------------------------------

DAYS = pd.date_range("2020-01-01", periods=3, unit="s")
INDEXES = {
    "range": pd.RangeIndex(2, 8, 2, name="r"),
    "integers": pd.Index([3, 1, 2], name=("a", 1)),
    "floats": pd.Index([1.5, np.nan, -0.0]),
    "bytes": pd.Index(np.array([1, 2, 3], np.uint8)),
    "bool": pd.Index([True, False, True]),
    "strings": pd.Index(["a", None, "ü"], dtype="str", name="code"),
    "objects": pd.Index(["a", 1, None], dtype=object),
    "numbers as objects": pd.Index([1, 2, 3], dtype=object),
    "days": DAYS,
    "days without freq": DAYS[[0, 2, 1]],
    "days in a zone": DAYS.tz_localize("Europe/Vienna"),
    "differences": pd.TimedeltaIndex(["1D", None, "2s"], name="d"),
    "categories": pd.CategoricalIndex(["b", "a", None], ["b", "a", "c"], ordered=True),
    "nullable": pd.Index([1, None, 3], dtype="Int8"),
    "levels": pd.MultiIndex.from_tuples([("a", 1), ("b", 2), ("a", 2)], names=["x", None]),
    "range in levels": pd.MultiIndex.from_product([pd.RangeIndex(3), ["z"]]),
}

COLUMNS = {
    "float32": np.array([1, np.nan, -0.0], np.float32),
    "objects": np.array([1, "a", None], object),
    "python strings": pd.array(["a", None, "ü"], dtype=pd.StringDtype("python", na_value=np.nan)),
    "nullable strings": pd.array(["a", None, ""], dtype=pd.StringDtype("python")),
    "categories": pd.Categorical([2, None, 1], categories=[3, 2, 1]),
    "range categories": pd.Categorical([2, None, 1], categories=pd.RangeIndex(4)),
    "days": DAYS.as_unit("ns").array,
    "Int16": pd.array([1, None, -3], dtype="Int16"),
    "UInt64": pd.array([1, None, 2**64 - 1], dtype="UInt64"),
    "Float32": pd.array([1.5, None, -0.0], dtype="Float32"),
    "boolean": pd.array([True, None, False], dtype="boolean"),
    **{name: index.array for name, index in INDEXES.items() if "levels" not in name},
}


@pytest.mark.parametrize("name", INDEXES)
def test_indexes_come_back(name):
    index = INDEXES[name]
    back = through_file(index)
    pd.testing.assert_index_equal(back, index, exact="equiv" if "in levels" in name else True)
    assert back.names == index.names and type(back) is type(index)
    assert getattr(back, "freq", None) == getattr(index, "freq", None)


@pytest.mark.parametrize("name", COLUMNS)
def test_columns_come_back(name):
    series = pd.Series(COLUMNS[name], name=name)
    pd.testing.assert_series_equal(through_file(series), series)
    frame = series.to_frame()
    pd.testing.assert_frame_equal(through_file(frame), frame)
    assert type(through_file(series.array)) is type(series.array)


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame(),
        pd.DataFrame(index=pd.RangeIndex(3)),
        pd.DataFrame(columns=["a", "b"]),
        pd.DataFrame([[1, 2.5, "x"]], columns=["a", "a", 3]),
        pd.DataFrame({("a", 1): [1], ("a", 2): [None]}, index=["r"]),
    ],
)
def test_frames_of_any_shape_come_back(frame):
    pd.testing.assert_frame_equal(through_file(frame), frame)


def test_strings_of_arrow_need_no_arrow_to_be_read(monkeypatch):
    pytest.importorskip("pyarrow")
    series = pd.Series(["a", None], dtype=pd.StringDtype("pyarrow", na_value=np.nan))
    node, arrays = encode(series)
    assert decode(node, arrays).dtype.storage == "pyarrow"
    real = pd.StringDtype

    def without_arrow(storage, **options):
        if storage == "pyarrow":
            raise ImportError("no pyarrow")
        return real(storage, **options)

    monkeypatch.setattr(pd, "StringDtype", without_arrow)
    assert decode(node, arrays).tolist() == series.tolist()


# ---- what cannot be saved ----------------------------------------------------------------------


class Colour(StrEnum):
    RED = "red"


class Frame(pd.DataFrame):
    pass


@pytest.mark.parametrize(
    "value, name",
    [
        (len, "builtins.builtin_function_or_method"),
        (partial(print, 1), "functools.partial"),
        (Path, "builtins.type"),
        (b"bytes", "builtins.bytes"),
        (1j, "builtins.complex"),
        (range(3), "builtins.range"),
        (slice(1), "builtins.slice"),
        (OrderedDict(a=1), "collections.OrderedDict"),
        (Colour.RED, "Colour"),
        (Frame({"a": [1]}), "Frame"),
        (np.ma.masked_array([1]), "numpy.ma"),
        (np.array([b"x"]), "numpy.ndarray of |S1"),
        (np.array([(1, 2)], dtype="i4,i4"), "numpy.ndarray of"),
        (np.random.default_rng(0), "Generator"),
        (np.random.RandomState(np.random.PCG64(0)), "RandomState"),
        (pd.period_range("2020", periods=2, freq="M"), "PeriodIndex"),
        (pd.Series(pd.interval_range(0, 2)), "IntervalArray"),
        (json, "builtins.module"),
    ],
)
def test_other_types_are_refused_by_name(value, name):
    with pytest.raises(TypeError, match="Expected values that can be saved") as caught:
        encode(value)
    assert name in str(caught.value)


def test_the_message_shows_the_way():
    with pytest.raises(TypeError, match=r"Got a\[1\]\[\(1, 2\)\]\.b: builtins\.complex\. "):
        encode({"a": (0, {(1, 2): {"b": 1j}})})
    with pytest.raises(TypeError, match=r"Got \[2\]: builtins\.bytes\. "):
        encode(np.array([1, 2, b"x"], object))


@pytest.mark.parametrize("kind", [list, tuple, dict])
def test_deep_nesting_is_refused_on_both_sides(kind):
    value = node = 1
    for _ in range(MAX_DEPTH):
        value = {"a": value} if kind is dict else kind([value])
    assert same(through_file(value), value)
    with pytest.raises(TypeError, match="levels deep"):
        encode([value])
    for _ in range(2000):
        node = [node]
    with pytest.raises(SaveFileError, match="levels deep"):
        decode(node, {})
    loop: list = []
    loop.append(loop)
    with pytest.raises(TypeError, match="levels deep"):
        encode(loop)


@pytest.mark.parametrize(
    "node",
    [
        {"a": 1},
        {"$": "eval", "value": "1"},
        {"$": ["tuple"]},
        {"$": "tuple"},
        {"$": "tuple", "items": {}},
        {"$": "set", "items": [1, 1]},
        {"$": "set", "items": [[]]},
        {"$": "dict", "pairs": [[1, 2], [1, 3]]},
        {"$": "dict", "pairs": [[1]]},
        {"$": "int", "hex": 5},
        {"$": "float", "value": "1.5"},
        {"$": "path", "value": 5},
        {"$": "array", "key": "a1"},
        {"$": "array", "key": ["a0"]},
        {"$": "array", "key": "a0", "dtype": "<U3"},
        {"$": "array", "key": "a0", "dtype": "<U999999999"},
        {"$": "array", "key": "a0", "dtype": "i4,i4"},
        {"$": "array", "key": "a0", "dtype": "<M8[year]"},
        {"$": "array", "key": "a0", "dtype": "|O"},
        {"$": "objects", "shape": [2], "items": [1]},
        {"$": "objects", "shape": [-1], "items": [1]},
        {"$": "objects", "shape": [0, 2**62], "items": []},
        {"$": "scalar", "dtype": "|u1", "value": 300},
        {"$": "scalar", "dtype": "|u1", "value": "3"},
        {"$": "scalar", "dtype": "|O", "value": 3},
        {"$": "scalar", "dtype": "U", "value": 3},
        {"$": "scalar_type", "name": "object"},
        {"$": "dtype", "name": "O,O"},
        {"$": "torch_device", "name": "no such"},
        {"$": "random_state", "items": [1, 2, 3, 4]},
        {"$": "timestamp", "value": 5, "zone": None},
        {"$": "object", "class": "os.system", "state": {}},
        {"$": "object", "class": ["Seen"], "state": {}},
        {"$": "object", "class": "Seen", "state": {}},
        {"$": "object", "class": "Seen", "state": []},
    ],
    ids=str,
)
def test_nodes_that_encode_never_makes_are_refused(node):
    with pytest.raises(SaveFileError):
        decode(node, {"a0": np.arange(3.0)})


def test_every_array_belongs_to_one_place():
    array = {"$": "array", "key": "a0"}
    with pytest.raises(SaveFileError, match="key of an array"):
        decode([array, array], {"a0": np.ones(2)})
    with pytest.raises(SaveFileError, match=r"nothing refers to: \['a1'\]"):
        decode(array, {"a0": np.ones(2), "a1": np.ones(2)})


def test_strings_of_characters_that_do_not_exist_are_refused():
    node = {"$": "array", "key": "a0", "dtype": "<U1"}
    with pytest.raises(SaveFileError, match="characters"):
        decode(node, {"a0": np.array([[0x110000]], np.uint32)})
    assert decode(node, {"a0": np.array([[97]], np.uint32)}).tolist() == ["a"]


@pytest.mark.parametrize(
    "zone", ["/etc/passwd", "dateutil//etc/passwd", "../UTC", "UTC\n", "", 5, "No/Such"]
)
def test_time_zones_are_names_and_no_files(zone):
    value = {"$": "scalar", "dtype": "<M8[s]", "value": 0}
    with pytest.raises(SaveFileError):
        decode({"$": "timestamp", "value": value, "zone": zone}, {})


def test_ranges_that_claim_to_be_huge_cost_nothing():
    labels = {"$": "tuple", "items": [0, 2**62, 1]}
    index = {"$": "index", "parts": {"range": labels, "names": [None]}}
    assert len(decode(index, {})) == 2**62
    category = {"$": "column", "kind": "category", "ordered": False}
    codes = {"$": "array", "key": "a0"}
    with pytest.raises(SaveFileError, match="labels"):
        decode({**category, "codes": codes, "categories": index}, {"a0": np.zeros(1, np.int8)})
    levels = {"levels": [index], "codes": [codes], "names": [None]}
    with pytest.raises(SaveFileError, match="labels"):
        decode({"$": "index", "parts": levels}, {"a0": np.zeros(1, np.int8)})


def test_floats_in_json_are_exact():
    for value in (0.1, 5e-324, 1.7976931348623157e308, -math.pi):
        assert math.copysign(1, through_file(-value)) == -math.copysign(1, value)
        assert through_file(value) == value
