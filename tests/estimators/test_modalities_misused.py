"""Modalities and columns that are not what they should be."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tawt_sklearn import ImageEncoder, Modality, TimeAwareClassifier, TimeAwareEncoder
from tawt_sklearn.datasets import make_icu_stays
from tawt_sklearn.exceptions import DataError
from tawt_sklearn.tokens.images import read_image


class Brightness(Modality):
    """One number of an image."""

    def __init__(self, *, wrong=None):
        self.wrong = wrong

    def read(self, item):
        if self.wrong == "read":
            raise RuntimeError("boom")
        return float(np.asarray(item).mean()) / 255

    def collate(self, items):
        told = torch.tensor(items, dtype=torch.float32).view(-1, 1, 1)
        return {"list": items, "fewer": told[1:]}.get(self.wrong, told)

    def build(self, d_model):
        layer = torch.nn.Linear(1, d_model if self.wrong != "width" else d_model + 1)
        return torch.nn.Sequential(layer, torch.nn.Flatten()) if self.wrong == "flat" else layer


def beside_images(n: int = 24):
    X, y = make_icu_stays(n, random_state=0)
    rng = np.random.default_rng(0)
    X["xray"] = [rng.integers(256, size=(8, 8), dtype=np.uint8) for _ in range(n)]
    return X, y


def few_steps(**parameters) -> TimeAwareClassifier:
    return TimeAwareClassifier(
        d_model=8, n_ensemble=1, max_epochs=1, min_steps=3, random_state=0, **parameters
    )


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ("read", "column 'xray', row .*boom"),
        ("list", "Expected collate of Brightness, column 'xray'.* Got a list"),
        ("fewer", "Expected collate of Brightness"),
        ("flat", "Expected tokens of shape"),
        ("width", "Expected tokens of shape"),
    ],
)
def test_a_modality_that_does_not_keep_to_the_protocol(wrong, match):
    X, y = beside_images()
    few_steps(modalities={"xray": Brightness()}).fit(X, y)
    with pytest.raises((TypeError, DataError), match=match):
        few_steps(modalities={"xray": Brightness(wrong=wrong)}).fit(X, y)


def test_pixels_of_any_byte_order_are_the_same():
    image = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000
    np.testing.assert_array_equal(read_image(image.astype(">u2")), read_image(image))


@pytest.mark.parametrize("missing", [np.float32("nan"), np.float16("nan"), np.datetime64("NaT")])
def test_any_kind_of_nan_is_missing(missing):
    X, y = beside_images()
    X["xray"] = [missing if k % 2 else image for k, image in enumerate(X["xray"])]
    clf = few_steps(modalities={"xray": ImageEncoder()}).fit(X, y)
    none = X.assign(xray=[None if k % 2 else image for k, image in enumerate(X["xray"])])
    np.testing.assert_array_equal(clf.predict_proba(none), clf.predict_proba(X))


@pytest.mark.parametrize("path", ["x" * 5000, "a\0b.png", "~nobody-of-this-name/x.png"])
def test_strings_that_are_no_paths(path):
    X, y = beside_images()
    X["xray"] = [*X["xray"][:-1], path]
    with pytest.raises(DataError, match=f"row {X.index[-1]!r}"):
        few_steps(modalities={"xray": ImageEncoder()}).fit(X, y)


def test_a_frozen_network_that_nobody_could_train_is_refused():
    X, y = beside_images()
    X["xray"] = [image if k < 5 else None for k, image in enumerate(X["xray"])]
    clf = few_steps(modalities={"xray": ImageEncoder(freeze=True)}, modality_training="staged")
    with pytest.raises(DataError, match="8 rows with an item in column 'xray'"):
        clf.fit(X, y)


def test_arrays_that_no_modality_names():
    X, y = beside_images()
    with pytest.raises(DataError, match="column 'xray'. Got a ndarray.*modalities"):
        few_steps().fit(X, y)


def test_an_encoder_with_modalities_needs_their_columns():
    X, y = beside_images()
    encoder = TimeAwareEncoder(
        d_model=8, max_epochs=1, min_steps=3, random_state=0, modalities={"xray": ImageEncoder()}
    ).fit(X)
    with pytest.raises(DataError, match="Expected a column 'xray' in X"):
        few_steps(pretrained=encoder).fit(X.drop(columns="xray"), y)
