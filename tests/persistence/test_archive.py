"""The file format: exact, deterministic, and written whole or not at all."""

from __future__ import annotations

import os
import pickle
import stat
import zipfile

import joblib
import numpy as np
import pytest

from tawt_sklearn.exceptions import SaveFileError
from tawt_sklearn.persistence import archive
from tawt_sklearn.persistence.archive import read_archive, write_archive

from .builders import save_file, sealed_zip

DTYPES = "? i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 f8".split()


def same(left: np.ndarray, right: np.ndarray) -> bool:
    return (
        left.dtype == right.dtype
        and left.shape == right.shape
        and (left.tobytes() == right.tobytes())
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (7,), (2, 3, 4)])
def test_arrays_come_back_bit_by_bit(path, dtype, shape):
    rng = np.random.default_rng(0)
    array = rng.integers(0, 2, (*shape, 8)).astype(dtype)[..., 0]
    if dtype[0] == "f":
        array = np.where(rng.random(shape) < 0.5, np.asarray(np.nan, dtype), -array)
    write_archive(path, {}, {"a": array, "b": array.copy()})
    _, arrays = read_archive(path)
    assert list(arrays) == ["a", "b"] and same(arrays["a"], array)
    assert arrays["a"].flags.writeable


@pytest.mark.parametrize(
    "change",
    [
        np.asfortranarray,
        lambda a: a[::2, ::-1],
        lambda a: np.broadcast_to(a, (2, *a.shape)),
        lambda a: a.astype(">f4"),
        lambda a: a.astype(">u2"),
        lambda a: a[1:1],
    ],
)
def test_any_layout_in_memory_is_stored(path, change):
    array = change(np.arange(12.0).reshape(3, 4))
    array.flags.writeable = False
    write_archive(path, {}, {"a": array})
    stored = read_archive(path)[1]["a"]
    assert stored.dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(stored, array)


def test_documents_come_back_with_any_text(path):
    document = {"a": [1, -0.0, 1e-320, True, None, {"b": "Ü \U0001f600 \ud800 \x00"}], "ß": ""}
    write_archive(path, document, {})
    assert read_archive(path) == (document, {})
    assert str(read_archive(path)[0]["a"][1]) == "-0.0"


def test_the_file_is_a_plain_zip_under_a_seal(path):
    write_archive(path, {"a": 1}, {"b": np.ones(3)})
    with zipfile.ZipFile(path) as file:
        assert file.namelist() == ["document.json", "arrays.safetensors"]
        assert file.testzip() is None
        assert {info.compress_type for info in file.infolist()} == {zipfile.ZIP_STORED}
        assert file.comment.startswith(b"tawt-sha256:") and len(file.comment) == 76


def test_the_same_content_gives_the_same_bytes(tmp_path):
    content = {"x": [1, 2]}, {"b": np.arange(3), "a": np.ones((2, 2), np.float32)}
    write_archive(tmp_path / "one", *content)
    write_archive(tmp_path / "two", *content)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize("step", ["_write_zip", "_write_seal"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failure_while_writing_leaves_the_old_file(path, monkeypatch, step, error):
    write_archive(path, {"old": True}, {})
    real = getattr(archive, step)

    def fail(*args):
        real(*args)
        raise error

    monkeypatch.setattr(archive, step, fail)
    with pytest.raises(type(error)):
        write_archive(path, {"old": False}, {})
    assert os.listdir(path.parent) == [path.name]
    assert read_archive(path)[0] == {"old": True}


@pytest.mark.parametrize("name", ["fsync", "replace"])
def test_a_failure_at_the_end_leaves_no_new_file(path, monkeypatch, name):
    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr(os, name, fail)
    with pytest.raises(OSError, match="disk full"):
        write_archive(path, {}, {})
    assert os.listdir(path.parent) == []


def test_nothing_is_written_for_content_that_cannot_be(path):
    with pytest.raises(TypeError, match="complex128 in 'a'"):
        write_archive(path, {}, {"a": np.ones(2, complex)})
    with pytest.raises(ValueError):
        write_archive(path, {"a": float("nan")}, {})
    with pytest.raises(ValueError, match="reserved"):
        write_archive(path, {}, {"__metadata__": np.ones(2)})
    assert os.listdir(path.parent) == []


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_permissions_are_those_that_open_gives(path):
    old = os.umask(0o027)
    try:
        write_archive(path, {}, {})
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        path.chmod(0o604)
        write_archive(path, {"again": True}, {})
        assert stat.S_IMODE(path.stat().st_mode) == 0o604
    finally:
        os.umask(old)


@pytest.mark.skipif(os.name != "posix", reason="links of POSIX")
def test_a_link_is_written_through(tmp_path):
    (tmp_path / "link").symlink_to("file")
    write_archive(tmp_path / "link", {"a": 1}, {})
    assert (tmp_path / "link").is_symlink()
    assert read_archive(tmp_path / "file")[0] == {"a": 1}


def test_where_a_file_cannot_be(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"Create it first"):
        write_archive(tmp_path / "no" / "file", {}, {})
    with pytest.raises(SaveFileError, match="Add a file name"):
        write_archive(tmp_path, {}, {})
    with pytest.raises(FileNotFoundError, match="which is not there. The working folder"):
        read_archive(tmp_path / "file")
    with pytest.raises(SaveFileError, match="folder"):
        read_archive(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes of POSIX")
def test_pipes_are_neither_read_nor_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SaveFileError, match="device"):
        write_archive(tmp_path / "pipe", {}, {})
    with pytest.raises(SaveFileError, match="device"):
        read_archive(tmp_path / "pipe")  # which would wait for ever


def test_a_newer_format_says_so_whatever_else_it_has(path):
    path.write_bytes(save_file({}, {}, format_version=2, written_by="9.1", members="other"))
    with pytest.raises(SaveFileError, match=r"newer release \(9.1, .*Upgrade tawt_sklearn"):
        read_archive(path)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_is_called_one(path, protocol):
    path.write_bytes(pickle.dumps([1], protocol=protocol))
    with pytest.raises(SaveFileError, match=r"looks like a pickle.*joblib\.load"):
        read_archive(path)


def test_other_files_are_no_save_files(path):
    joblib.dump({"a": np.ones(2)}, path)
    with pytest.raises(SaveFileError, match="looks like a pickle"):
        read_archive(path)
    path.write_bytes(b"")
    with pytest.raises(SaveFileError, match="empty"):
        read_archive(path)
    path.write_bytes(b"name,value\n")
    with pytest.raises(SaveFileError, match="begins b'name"):
        read_archive(path)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("document.json", "{}")
    with pytest.raises(SaveFileError, match="cut short or changed"):
        read_archive(path)


def test_messages_name_the_file_once(path):
    path.write_bytes(sealed_zip([]))
    with pytest.raises(SaveFileError) as caught:
        read_archive(path)
    assert str(caught.value).count("estimator.tawt") == 1
    assert isinstance(caught.value, ValueError)


def test_a_folder_that_takes_no_files_is_named(path, monkeypatch):
    def no_entry(name, mode):
        raise PermissionError(13, "Permission denied", str(name))

    monkeypatch.setattr(archive, "open", no_entry, raising=False)
    with pytest.raises(PermissionError, match=r"takes no new files \(Permission denied\)") as told:
        write_archive(path, {}, {})
    assert told.value.filename == str(path.parent)
