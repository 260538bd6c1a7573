"""Damaged and malicious files: a clear error or a legal estimator, and nothing else happens."""

from __future__ import annotations

import builtins
import copy
import hashlib
import importlib
import io
import json
import os
import pickle
import struct
import subprocess
import tracemalloc
import zipfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from tawt_sklearn import EventSummarizer, TripletSequencer, load
from tawt_sklearn.exceptions import SaveFileError
from tawt_sklearn.persistence import registry
from tawt_sklearn.persistence.codec import encode
from tawt_sklearn.tokens.statics import StaticEncoder

from .builders import header, reseal, save_file, save_text, sealed_zip

FORBIDDEN = [
    (os, "system"),
    (os, "popen"),
    (os, "remove"),
    (os, "mkdir"),
    (os, "replace"),
    (subprocess, "Popen"),
    (builtins, "eval"),
    (builtins, "exec"),
    (pickle, "loads"),
    (pickle, "load"),
    (pickle, "Unpickler"),
]

fuzz = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def tree(folder: Path) -> dict[str, bytes]:
    """All files below a folder, with their content."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


@contextmanager
def nothing_else_happens(folder: Path):
    """No code of the file runs, only the classes of the table are imported, nothing is written."""
    real_import, real_open = importlib.import_module, builtins.open
    allowed = {place.partition(":")[0] for place in registry.TABLE.values()}

    def guarded_import(name, package=None):
        assert name in allowed, name
        return real_import(name, package)

    def guarded_open(file, mode="r", *args, **kwargs):
        assert not set(mode) & set("wxa+"), file
        return real_open(file, mode, *args, **kwargs)

    before = tree(folder)
    with ExitStack() as stack:
        for owner, name in FORBIDDEN:
            forbidden = mock.Mock(side_effect=AssertionError(f"{name} was called"))
            stack.enter_context(mock.patch.object(owner, name, forbidden))
        stack.enter_context(mock.patch.object(importlib, "import_module", guarded_import))
        stack.enter_context(mock.patch.object(builtins, "open", guarded_open))
        stack.enter_context(mock.patch.object(io, "open", guarded_open))
        yield
    assert tree(folder) == before


@pytest.fixture
def try_load(tmp_path, monkeypatch):
    """Load a file of these bytes; its estimator, or None after a SaveFileError."""
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    (tmp_path / "precious").write_text("untouched")
    monkeypatch.chdir(folder)

    def attempt(data: bytes):
        path = folder / "file.tawt"
        path.write_bytes(data)
        try:
            with nothing_else_happens(tmp_path):
                return load(path)
        except SaveFileError as error:
            assert "file.tawt" in str(error) and len(str(error)) <= 1200
            return None

    return attempt


class Case:
    """A saved estimator: its document, arrays and bytes."""

    def __init__(self, estimator) -> None:
        node, self.arrays = encode(estimator)
        self.document = {"estimator": node}
        self.bytes = save_file(self.document, self.arrays)


@pytest.fixture(scope="module")
def cases(X) -> list[Case]:
    few = X.head(8)
    estimators = [
        TripletSequencer(codes={"HR": {"range": [0, 300]}}).fit(few),
        EventSummarizer(statistics=["mean"], max_codes=3).fit(few),
        # A parameter takes any value, and so leads to all types.
        TripletSequencer(codes=_values_of_all_types()),
    ]
    return [Case(estimator) for estimator in estimators]


def _values_of_all_types() -> dict:
    frame = pd.DataFrame({"s": ["a", None], "c": pd.Categorical(["x", "y"]), "i": [1, 2]})
    frame["z"] = pd.date_range("2020", periods=2, tz="Europe/Vienna")
    frame["n"] = pd.array([1, None], dtype="Int64")
    frame.index = pd.MultiIndex.from_tuples([("a", 1), ("b", 2)])
    return {
        "frame": frame,
        "series": pd.Series([1.5, 2.5], index=pd.date_range("2020", periods=2, freq="D")),
        "arrays": [np.array(["a", "bc"]), np.array([1, "x"], object), np.eye(2).T[:, :1]],
        "times": (np.array(["2020"], "M8[s]"), pd.Timestamp("2020"), pd.Timedelta(1), pd.NaT),
        "scalars": [np.float32(1), np.str_("x"), np.dtype("f4"), np.int8, Path("x"), 2**70],
        "sets": {1, 2, (3, frozenset([4]))},
        "random": np.random.RandomState(0),
        "statics": StaticEncoder().fit(pd.DataFrame({"age": [1.0, 2.0], "sex": ["F", "M"]})),
        7: float("nan"),
    }


@pytest.fixture(autouse=True, scope="module")
def _everything_is_imported(cases, tmp_path_factory):
    """The first load imports modules and reads annotations, for which Python itself calls eval."""
    pytest.importorskip("torch")
    path = tmp_path_factory.mktemp("warm") / "file.tawt"
    for case in cases:
        path.write_bytes(case.bytes)
        load(path)


def test_what_is_not_damaged_is_loaded(cases, try_load):
    for case in cases:
        assert try_load(case.bytes) is not None


# ---- raw damage --------------------------------------------------------------------------------


@settings(fuzz, max_examples=60)
@given(data=st.data())
def test_a_truncated_file_is_refused(cases, try_load, data):
    content = cases[data.draw(st.integers(0, 2))].bytes
    assert try_load(content[: data.draw(st.integers(0, len(content) - 1))]) is None
    assert try_load(content[data.draw(st.integers(1, len(content))) :]) is None


@settings(fuzz, max_examples=100)
@given(data=st.data())
def test_any_flipped_bit_is_found(cases, try_load, data):
    content = bytearray(cases[data.draw(st.integers(0, 2))].bytes)
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert try_load(bytes(content)) is None


def test_every_flipped_byte_of_the_seal_is_found(cases, try_load):
    content = cases[0].bytes
    for position in range(1, 80):
        for bit in (1, 32):  # 32 makes capital letters of the digits
            flipped = bytearray(content)
            flipped[-position] ^= bit
            assert try_load(bytes(flipped)) is None


@settings(fuzz, max_examples=60)
@given(data=st.data())
def test_bytes_put_in_or_taken_out_are_found(cases, try_load, data):
    content = cases[0].bytes
    start = data.draw(st.integers(0, len(content)))
    stop = data.draw(st.integers(start, min(len(content), start + 50)))
    new = data.draw(st.binary(max_size=50).filter(lambda new: new != content[start:stop]))
    assert try_load(content[:start] + new + content[stop:]) is None


@settings(fuzz, max_examples=40)
@given(st.binary(max_size=300))
def test_any_other_file_is_refused(try_load, content):
    assert try_load(content) is None
    assert try_load(b"PK\x03\x04" + content) is None


def test_members_of_two_files_do_not_mix(cases, try_load):
    parts = []
    for case in cases[:2]:
        with zipfile.ZipFile(io.BytesIO(case.bytes)) as file:
            parts.append([(name, file.read(name)) for name in file.namelist()])
    (text, blob), (other_text, other_blob) = parts
    assert try_load(sealed_zip([text, blob])) is not None
    assert try_load(sealed_zip([text, other_blob])) is None
    assert try_load(sealed_zip([other_text, blob])) is None
    assert try_load(sealed_zip([blob, text])) is None
    assert try_load(sealed_zip([(text[0], blob[1]), (blob[0], text[1])])) is None


# ---- zips with a valid seal --------------------------------------------------------------------


@settings(fuzz, max_examples=150)
@given(data=st.data())
def test_flipped_bits_under_a_new_seal(cases, try_load, data):
    case = cases[data.draw(st.integers(0, 2))]
    content = bytearray(case.bytes)
    structure = [k for k in range(30 + 13)]  # the first header
    structure += range(len(content) - 76 - 22 - 200, len(content) - 64)  # the directory
    position = data.draw(st.one_of(st.sampled_from(structure), st.integers(0, len(content) - 65)))
    content[position] ^= 1 << data.draw(st.integers(0, 7))
    loaded = try_load(reseal(bytes(content)))
    # Dates, attributes and the like may change; the content may not.
    assert loaded is None or encode(loaded)[0] == case.document["estimator"]


@pytest.mark.parametrize(
    "name",
    ["../evil", "/tmp/evil", "..\\evil", "C:\\evil", "a/../../../evil", "document.json\x00", ""],
)
def test_other_names_of_members(cases, try_load, name):
    with zipfile.ZipFile(io.BytesIO(cases[0].bytes)) as file:
        text, blob = (file.read(member) for member in file.namelist())
    good = [("document.json", text), ("arrays.safetensors", blob)]
    assert try_load(sealed_zip([("document.json", text), (name, blob)])) is None
    assert try_load(sealed_zip([(name, text), ("arrays.safetensors", blob)])) is None
    assert try_load(sealed_zip([*good, (name, b"")])) is None
    assert try_load(sealed_zip([(name, b""), *good])) is None


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_members_too_many_or_too_few(cases, try_load):
    with zipfile.ZipFile(io.BytesIO(cases[0].bytes)) as file:
        good = [(name, file.read(name)) for name in file.namelist()]
    for members in ([], good[:1], good[1:], [*good, good[0]], [*good, good[1]]):
        assert try_load(sealed_zip(members)) is None


@pytest.mark.parametrize("compression", ["ZIP_DEFLATED", "ZIP_BZIP2", "ZIP_LZMA"])
def test_compressed_members_are_never_unpacked(try_load, compression):
    blob, zeros = save({}), b" " * 10**7
    text = json.dumps(header(blob, {})).encode() + zeros
    members = [("document.json", text), ("arrays.safetensors", blob)]
    data = sealed_zip(members, getattr(zipfile, compression))
    assert len(data) < 50_000
    assert peak_of(lambda: try_load(data)) < 2_000_000


def test_encrypted_members(cases, try_load):
    content = bytearray(cases[0].bytes)
    directory = content.rindex(b"PK\x01\x02")
    content[directory + 8] |= 1
    assert try_load(reseal(bytes(content))) is None


def peak_of(call) -> int:
    """Most memory that a call held, which must refuse."""
    call()
    tracemalloc.start()
    try:
        assert call() is None
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("size", [10**6, 2**31 - 1, 2**32 - 1])
@pytest.mark.parametrize("fields", [(20,), (24,), (20, 24)])
@pytest.mark.parametrize("which", [0, 1])
def test_huge_sizes_in_the_directory(cases, try_load, size, fields, which):
    content = bytearray(cases[0].bytes)
    first = content.index(b"PK\x01\x02")
    entry = first if which == 0 else content.index(b"PK\x01\x02", first + 4)
    for field in fields:
        struct.pack_into("<I", content, entry + field, size)
    data = reseal(bytes(content))
    assert peak_of(lambda: try_load(data)) < 2_000_000


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F64", "shape": [2**40], "data_offsets": [0, 2**43]},
        {"dtype": "F64", "shape": [2**40], "data_offsets": [0, 8]},
        {"dtype": "F64", "shape": [2**62, 2**62], "data_offsets": [0, 8]},
        {"dtype": "F64", "shape": [-1], "data_offsets": [0, 8]},
        {"dtype": "F64", "shape": [1], "data_offsets": [8, 0]},
        {"dtype": "F64", "shape": [1], "data_offsets": [-8, 0]},
        {"dtype": "F64", "shape": [0, 2**62], "data_offsets": [0, 0]},
        {"dtype": "BF16", "shape": [4], "data_offsets": [0, 8]},
        {"dtype": "O", "shape": [1], "data_offsets": [0, 8]},
        {"dtype": "BOOL", "shape": [8], "data_offsets": [0, 8]},
        {"dtype": "F64", "shape": [1] * 100, "data_offsets": [0, 8]},
        {},
        [],
        7,
    ],
    ids=str,
)
def test_headers_of_safetensors_that_lie(cases, try_load, entry):
    text = json.dumps({"a0": entry}).encode()
    blob = struct.pack("<Q", len(text)) + text + b"\x02" * 8
    data = save_file(cases[0].document, blob)
    assert peak_of(lambda: try_load(data)) < 2_000_000


@pytest.mark.parametrize("length", [0, 10**8, 2**40, 2**63, 2**64 - 1])
def test_lengths_of_headers_of_safetensors_that_lie(cases, try_load, length):
    data = save_file(cases[0].document, struct.pack("<Q", length) + b"{}")
    assert peak_of(lambda: try_load(data)) < 2_000_000


# ---- documents with a valid seal ---------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe{\x00}\x00",
        b'{"format": "tawt_sklearn", "format": "tawt_sklearn"}',
        b'{"format": "tawt_sklearn", "format_version": NaN}',
        b'{"format": "tawt_sklearn", "format_version": Infinity}',
        b'{"format": "tawt_sklearn", "format_version": ' + b"9" * 100_000 + b"}",
        b"[" * 200_000 + b"]" * 200_000,
        b'{"a":' * 200_000 + b"1" + b"}" * 200_000,
        "{'é': 1}".encode("latin-1"),
    ],
    ids=lambda text: str(text[:20]),
)
def test_json_that_is_no_document(try_load, text):
    assert try_load(save_text(text)) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "other"},
        {"format_version": True},
        {"format_version": 0},
        {"format_version": "1"},
        {"format_version": 10**15},
        {"written_by": None},
        {"document": []},
        {"document": {}},
        {"members": {}},
        {"members": {"arrays.safetensors": {"size": 0, "sha256": ""}}},
        {"members": {"arrays.safetensors": {"size": 8, "sha256": hashlib.sha256().hexdigest()}}},
    ],
    ids=str,
)
def test_headers_that_do_not_fit(cases, try_load, changes):
    changes = {"document": cases[0].document, **changes}
    assert try_load(save_file(arrays=cases[0].arrays, **changes)) is None


CLASSES = [
    "os.system",
    "builtins:eval",
    "tawt_sklearn.tokens.sequencer:TripletSequencer",
    "__import__",
    "",
    None,
    [],
    "Block",
    "EventSummarizer",
    "EventsDtype",
    "Layout",
    "Seen",
    "StaticEncoder",
    "TripletSequencer",
    "Vocabulary",
]


def evil_nodes():
    """Nodes that could do harm if they were believed, and ones of the wrong type."""
    plain = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(10**19), 10**19),
        st.floats(allow_nan=False, allow_infinity=False),
        st.sampled_from(["", "os.system", "__class__", "a0", "a1", "<U99999", "/etc/passwd"]),
    )
    kinds = st.sampled_from(
        "tuple set frozenset dict int float path array objects scalar scalar_type dtype "
        "random_state torch_device NA NaT timestamp timedelta index series frame column object "
        "eval".split()
    )
    return st.recursive(
        plain,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.fixed_dictionaries(
                {"$": kinds},
                optional={
                    "items": inner,
                    "value": inner,
                    "key": st.sampled_from(["a0", "a1", "a2"]),
                    "dtype": st.sampled_from(["<U2", "|O", "<f4", ">i8", "<M8[s]", "i4,i4", "<c8"]),
                    "parts": st.dictionaries(
                        st.sampled_from(["index", "values", "names", "range", "levels", "codes"]),
                        inner,
                        max_size=4,
                    ),
                    "class": st.sampled_from(CLASSES),
                    "state": st.dictionaries(
                        st.sampled_from(["params", "fitted", "output", "requests", "codes"]),
                        inner,
                        max_size=3,
                    ),
                },
            ),
        ),
        max_leaves=6,
    )


def places(node, path=()):
    """Paths to everything in a JSON document."""
    yield path
    pairs = node.items() if isinstance(node, dict) else ()
    for key, item in enumerate(node) if isinstance(node, list) else pairs:
        yield from places(item, (*path, key))


def changed(document, path, change):
    """A copy with a change at one place: ``change(container, key)``."""
    document = copy.deepcopy({"root": document})
    container, key = document, "root"
    for step in path:
        container, key = container[key], step
    change(container, key)
    return document["root"]


@settings(fuzz, max_examples=150)
@given(data=st.data())
def test_documents_changed_at_one_place(cases, try_load, data):
    case = cases[data.draw(st.integers(0, 2))]
    path = data.draw(st.sampled_from(list(places(case.document))[1:]))
    change = data.draw(st.sampled_from(["replace", "drop", "rename", "wrap"]))
    new = data.draw(evil_nodes())
    name = data.draw(st.sampled_from(["fit", "__class__", "__dict__", "_seen", "x_", "transform"]))

    def edit(container, key):
        if change == "replace":
            container[key] = new
        elif change == "drop":
            del container[key]
        elif change == "wrap" or not isinstance(container, dict):
            container[key] = [container[key]]
        else:
            container[name] = container.pop(key)

    loaded = try_load(save_file(changed(case.document, path, edit), case.arrays))
    assert loaded is None or isinstance(loaded, TripletSequencer | EventSummarizer)
    if loaded is not None:
        assert callable(loaded.fit) and type(loaded).transform.__get__(loaded) == loaded.transform


@settings(fuzz, max_examples=80)
@given(data=st.data())
def test_arrays_changed_under_a_valid_digest(cases, try_load, data):
    case = cases[data.draw(st.integers(0, 2))]
    arrays = dict(case.arrays)
    name = data.draw(st.sampled_from(sorted(arrays)))
    change = data.draw(st.sampled_from(["dtype", "shape", "length", "drop", "rename", "more"]))
    if change == "dtype":
        dtype = data.draw(st.sampled_from("? i1 i8 u4 u8 f2 f4 f8".split()))
        with np.errstate(all="ignore"):
            arrays[name] = arrays[name].astype(dtype)
    elif change == "shape":
        arrays[name] = arrays[name].reshape(data.draw(st.sampled_from([(-1, 1), (1, -1), (-1,)])))
    elif change == "length":
        arrays[name] = arrays[name].reshape(-1)[: data.draw(st.integers(0, 3))]
    elif change == "drop":
        del arrays[name]
    elif change == "rename":
        arrays["../evil"] = arrays.pop(name)
    else:
        arrays["more"] = np.zeros(3)
    loaded = try_load(save_file(case.document, {k: np.array(v) for k, v in arrays.items()}))
    assert loaded is None or isinstance(loaded, TripletSequencer | EventSummarizer)
    assert loaded is None or change in ("dtype", "shape", "length")


@settings(fuzz, max_examples=80)
@given(evil_nodes())
def test_documents_made_up(try_load, node):
    arrays = {"a0": np.arange(3.0), "a1": np.zeros((2, 2), np.uint32), "a2": np.array([0, 1])}
    assert try_load(save_file({"estimator": node}, arrays)) is None
    value = {"$": "dict", "items": {"codes": node}}
    state = {"params": value, "fitted": {"$": "dict", "items": {}}}
    estimator = {"$": "object", "class": "TripletSequencer", "state": state}
    for used in (arrays, {}):
        loaded = try_load(save_file({"estimator": estimator}, used))
        assert loaded is None or type(loaded) is TripletSequencer


@pytest.mark.parametrize("name", CLASSES, ids=str)
def test_names_of_classes_that_hold_something_else(cases, try_load, name):
    def rename(container, key):
        container[key]["class"] = name

    document = changed(cases[0].document, ("estimator",), rename)
    loaded = try_load(save_file(document, cases[0].arrays))
    assert loaded is None or name == "TripletSequencer"


@pytest.mark.parametrize("depth", [70, 300])
def test_values_nested_deeply(try_load, depth):
    node: object = 1
    for _ in range(depth):
        node = {"$": "tuple", "items": [node]}
    assert try_load(save_file({"estimator": node}, {})) is None
