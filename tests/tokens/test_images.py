"""Images as users have them."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tawt_sklearn.exceptions import DataError
from tawt_sklearn.tokens.images import (
    ORIENTATION,
    become,
    digest_of,
    read_image,
    shape_of,
    with_channels,
)

GREY = np.arange(64, dtype=np.uint8).reshape(8, 8)
COLOURS = np.stack([GREY, GREY // 2, GREY // 4], axis=2)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "film.png"
    Image.fromarray(GREY).save(path)
    return path


@pytest.mark.parametrize("form", ["array", "pillow", "path", "string"])
def test_forms_are_read_alike(form, file):
    item = {"array": GREY, "pillow": Image.fromarray(GREY), "path": file, "string": str(file)}[form]
    assert shape_of(item) == (8, 8, 1, True)
    image = read_image(item).numbers
    assert image.dtype == np.float32
    np.testing.assert_allclose(image[:, :, 0], GREY / 255, atol=1e-6)


@pytest.mark.parametrize(
    "mode, channels",
    [("L", 1), ("LA", 1), ("1", 1), ("F", 1), ("RGB", 3), ("RGBA", 3), ("P", 3), ("CMYK", 3)],
)
def test_modes_of_pillow(mode, channels):
    image = Image.fromarray(COLOURS).convert("L" if mode == "F" else mode).convert(mode)
    assert shape_of(image) == (8, 8, channels, mode != "F")
    assert read_image(image).numbers.shape == (8, 8, channels)
    assert read_image(image).whole == (mode != "F")


def test_sixteen_bits(tmp_path):
    deep = (GREY.astype(np.uint16)) * 1000
    Image.fromarray(deep).save(tmp_path / "deep.png")
    np.testing.assert_allclose(
        read_image(tmp_path / "deep.png").numbers[:, :, 0], deep / 65535, atol=1e-6
    )
    np.testing.assert_allclose(read_image(deep).numbers[:, :, 0], deep / 65535, atol=1e-6)


def test_numbers_stay_and_booleans_are_numbers():
    assert read_image(np.full((2, 2), 7.5)).numbers.max() == 7.5
    assert read_image(np.ones((2, 2), bool)).numbers.max() == 1.0
    assert not read_image(np.ones((2, 2), np.int64)).whole


@pytest.mark.parametrize(
    "item, message",
    [
        (3, "Expected an image.*Got int"),
        (["a"], "Expected an image.*Got list"),
        (np.array(["a"]), "Expected an image"),
        (np.zeros(4), r"shape \(H, W\) or.*Got \(4,\)"),
        (np.zeros((0, 4)), r"Got \(0, 4\)"),
        (np.zeros((3, 32, 32)), r"looks like \(C, H, W\).*moveaxis"),
    ],
)
def test_what_is_no_image(item, message):
    with pytest.raises(DataError, match=message):
        shape_of(item)


def test_files_that_are_none(tmp_path, file):
    with pytest.raises(DataError, match=r"there is no file.*missing image is None"):
        shape_of(tmp_path / "nowhere.png")
    with pytest.raises(DataError, match="Got the folder"):
        shape_of(tmp_path)
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(DataError, match="cannot be read"):
        shape_of(tmp_path / "text.png")
    noise = np.random.default_rng(0).integers(256, size=(64, 64), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    assert shape_of(tmp_path / "cut.png")[:3] == (64, 64, 1)  # only the head was read
    with pytest.raises(DataError, match="cannot be read to its end"):
        read_image(tmp_path / "cut.png")


def test_pixels_that_are_not_finite():
    with pytest.raises(DataError, match="finite pixels"):
        read_image(np.array([[1.0, np.nan]]))


def test_digests_tell_images_apart(file):
    assert digest_of(GREY) == digest_of(GREY.copy()) != digest_of(GREY.T)
    assert digest_of(GREY) != digest_of(GREY.astype(np.uint16))
    before = digest_of(file)
    assert before == digest_of(str(file))
    Image.fromarray(COLOURS).save(file)
    assert digest_of(file) != before


def test_channels():
    image = read_image(COLOURS).numbers
    assert with_channels(image, 1).shape == (8, 8, 1)
    assert with_channels(image[:, :, :1], 3).shape == (8, 8, 3)
    with pytest.raises(DataError, match="Expected 2 channels"):
        with_channels(image, 2)


def test_transparency_is_left_out():
    colours, grey = read_image(COLOURS).numbers, read_image(GREY).numbers
    seen = np.concatenate([colours, grey], axis=2)
    np.testing.assert_array_equal(with_channels(seen, 3), colours)
    np.testing.assert_allclose(with_channels(seen, 1), with_channels(colours, 1), atol=1e-6)
    pale = np.concatenate([grey, grey / 2], axis=2)
    np.testing.assert_array_equal(with_channels(pale, 1), grey)
    np.testing.assert_array_equal(with_channels(pale, 3), with_channels(grey, 3))
    assert become(1, 5) and not become(2, 5) and not become(5, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_plain_grey_tiff_files_are_turned(tmp_path, orientation):
    """Uncompressed ones Pillow maps into memory, and turns their size alone."""
    upright = np.random.default_rng(0).integers(0, 256, (12, 20)).astype(np.uint8)
    file = tmp_path / "film.tif"
    Image.fromarray(upright).save(file, tiffinfo={ORIENTATION: orientation})
    turned = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright, -1),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright),
    }[orientation]
    assert shape_of(file)[:2] == turned.shape
    np.testing.assert_array_equal(read_image(file).numbers.squeeze() * 255, turned)


@pytest.mark.parametrize("kind", ["jpg", "png", "tif"])
def test_files_are_turned_as_they_say(kind, tmp_path):
    pixels = np.zeros((16, 24, 3), np.uint8)
    pixels[:8] = 255  # white above
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its left side
    path = tmp_path / f"photo.{kind}"
    Image.fromarray(pixels).save(path, exif=exif)
    assert shape_of(path)[:3] == (24, 16, 3)
    for item in (path, Image.open(path)):
        image = read_image(item).numbers
        assert image.shape == (24, 16, 3)
        assert image[:, 12:].min() > 0.9 and image[:, :4].max() < 0.1  # white on the right
    Image.fromarray(pixels).save(tmp_path / f"upright.{kind}")
    upright = Image.open(tmp_path / f"upright.{kind}")
    assert shape_of(upright)[:3] == (16, 24, 3)
    assert digest_of(upright) != digest_of(Image.open(path))


def test_a_note_on_orientation_that_makes_no_sense():
    image = Image.fromarray(GREY)
    image.info["exif"] = b"Exif\0\0nonsense"
    assert shape_of(image)[:3] == (8, 8, 1)
    np.testing.assert_allclose(read_image(image).numbers[:, :, 0], GREY / 255, atol=1e-6)


def test_masked_arrays():
    with pytest.raises(DataError, match=r"masked array in which 9 of 64 are.*image.filled\(0\)"):
        read_image(np.ma.masked_less(GREY, 9))
    assert shape_of(np.ma.masked_array(GREY))[:3] == (8, 8, 1)


def test_pixels_of_any_byte_order_are_the_same():
    image = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000
    one, other = read_image(image.astype(">u2")), read_image(image)
    np.testing.assert_array_equal(one.numbers, other.numbers)
    assert one.whole and other.whole


def test_arrays_need_neither_pillow_nor_torch():
    code = (
        "import sys, numpy as np; from tawt_sklearn.tokens.images import read_image; "
        "read_image(np.zeros((2, 2))); print(*{m.split('.')[0] for m in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"PIL", "torch", "transformers"} & set(done.stdout.split())
