"""Files that earlier releases wrote are still loaded, and say what they said then.

The files in ``files/v1`` are never made again within a format version: a change that they do not
survive needs a higher ``FORMAT_VERSION``, and code that still reads the old one.
``make_kept_files.py`` adds files of new kinds of estimators.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

import tawt_sklearn
from tawt_sklearn.persistence import registry
from tawt_sklearn.persistence.archive import FORMAT_VERSION, read_archive
from tawt_sklearn.persistence.savable import Savable

from .make_kept_files import ANSWERS, FOLDER, main, read_arrays

KEPT = sorted(Path(__file__).parent.glob("files/v*/*.tawt"))

IN_SINGLE_PRECISION = {"sequence_synthesizer", "time_aware_encoder"}
"""Estimators whose networks answer in single precision."""


@pytest.fixture(params=KEPT, ids=lambda path: f"{path.parent.name}-{path.stem}")
def kept(request) -> Path:
    return request.param


def test_a_kept_file_gives_the_answers_it_gave(kept):
    inputs = read_arrays(kept.with_name("inputs.npz"))
    expected = read_arrays(kept.with_suffix(".npz"))
    answers = ANSWERS[kept.stem](tawt_sklearn.load(kept, device="cpu"), inputs)
    assert answers.keys() == expected.keys()
    for name, array in expected.items():
        assert answers[name].shape == array.shape, name
        if array.dtype.kind == "f":  # to the last digits, as processors differ
            single = kept.stem in IN_SINGLE_PRECISION
            rtol, atol = (1e-3, 1e-4) if single else (1e-6, 1e-9)
            np.testing.assert_allclose(answers[name], array, rtol, atol, err_msg=name)
        else:
            np.testing.assert_array_equal(answers[name], array, err_msg=name)


def test_a_kept_file_is_small_and_plain(kept):
    assert kept.stat().st_size < (250_000 if kept.stem in IN_SINGLE_PRECISION else 80_000)
    with zipfile.ZipFile(kept) as file:
        assert file.namelist() == ["document.json", "arrays.safetensors"]


def test_a_kept_file_is_saved_again_in_the_version_of_today(kept, tmp_path):
    loaded = tawt_sklearn.load(kept, device="cpu")
    loaded.save(tmp_path / "again.tawt")
    again = tawt_sklearn.load(tmp_path / "again.tawt", device="cpu")
    inputs = read_arrays(kept.with_name("inputs.npz"))
    one, other = (ANSWERS[kept.stem](estimator, inputs) for estimator in (loaded, again))
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name], err_msg=name)


def test_every_estimator_that_can_be_saved_has_a_kept_file():
    classes = (registry.class_of(name) for name in registry.TABLE)
    savable = {cls.__name__ for cls in classes if issubclass(cls, Savable)}
    held = {read_archive(path)[0]["estimator"]["class"] for path in FOLDER.glob("*.tawt")}
    assert savable <= held, "run make_kept_files.py"
    assert {path.stem for path in FOLDER.glob("*.tawt")} == set(ANSWERS)


def test_files_that_are_there_are_never_made_again(tmp_path, monkeypatch):
    before = {path.name: path.read_bytes() for path in FOLDER.iterdir()}
    main(FOLDER)
    assert {path.name: path.read_bytes() for path in FOLDER.iterdir()} == before
    assert FOLDER.name == f"v{FORMAT_VERSION}"
