"""Images, and columns of them, that are not what they should be."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tawt_sklearn import (
    ImageEncoder,
    SequenceSynthesizer,
    TimeAwareClassifier,
)
from tawt_sklearn.exceptions import DataError, DataWarning

from .builders import changed, classifier, encoder, film


@pytest.mark.parametrize("kind", ["nowhere", "folder", "text", "cut", "channels", "number", "nan"])
@pytest.mark.parametrize("when", ["fit", "predict"])
def test_an_image_that_is_none(kind, when, files, y, concat, tmp_path):
    bad: object = str(tmp_path / "bad.png")
    if kind == "folder":
        bad = tmp_path
    elif kind == "text":
        (tmp_path / "bad.png").write_text("nothing")
    elif kind == "cut":
        noise = np.random.default_rng(0).integers(256, size=(64, 64), dtype=np.uint8)
        Image.fromarray(noise).resize((8, 8)).save(bad)
        whole = (tmp_path / "bad.png").read_bytes()
        (tmp_path / "bad.png").write_bytes(whole[:60])
    elif kind == "channels":
        bad = np.zeros((8, 8, 3), np.uint8)
    elif kind == "number":
        bad = 3
    elif kind == "nan":
        bad = np.full((8, 8), np.nan)
    odd = changed(files, bad)
    message = f"column 'xray', row {odd.index[7]!r}.*Expected"
    with pytest.raises(DataError, match=message):
        if when == "fit":
            classifier().fit(odd, y)
        else:
            concat.predict(odd)


def test_images_of_mixed_sizes_are_resized_and_that_is_said_once(X, y):
    rng = np.random.default_rng(0)
    mixed = changed(changed(X, film(rng, 12)), film(rng, 20), row=9)
    with pytest.warns(DataWarning, match=r"3 different sizes.*resized to 8 x 8") as caught:
        model = classifier().fit(mixed, y)
    assert len(caught) == 1
    assert model.predict(mixed).shape == (60,)


def test_colours_where_asked_for(X, y):
    mixed = changed(X, np.zeros((8, 8, 3), np.uint8))
    for channels in (1, 3):
        model = classifier(modalities={"xray": ImageEncoder(channels=channels)}).fit(mixed, y)
        assert model.preparation_.modalities["xray"].channels_ == channels
        assert model.predict(mixed).shape == (60,)


def test_no_image_at_all(X, y, fitted):
    none = X.assign(xray=None)
    with pytest.raises(DataError, match="at least one item in column 'xray'.*60 rows"):
        classifier().fit(none, y)
    assert np.isfinite(fitted.predict_proba(none)).all()
    np.testing.assert_allclose(
        fitted.predict_proba(X.assign(xray=np.nan)), fitted.predict_proba(none), atol=1e-12
    )


def test_a_column_that_is_not_there(X, y, concat):
    plain = X.drop(columns="xray")
    with pytest.raises(DataError, match="column 'xray' in X, as modalities says"):
        classifier().fit(plain, y)
    with pytest.raises(ValueError, match="xray"):
        concat.predict(plain)
    with pytest.raises(DataError, match="Leave it out of modalities"):
        classifier(modalities={"events": ImageEncoder()}).fit(X, y)


@pytest.mark.parametrize(
    "missing", [np.float32("nan"), np.float16("nan"), np.datetime64("NaT"), np.ma.masked]
)
def test_any_kind_of_nan_is_missing(missing, X, y):
    X["xray"] = [missing if k % 2 else image for k, image in enumerate(X["xray"])]
    clf = classifier().fit(X, y)
    none = X.assign(xray=[None if k % 2 else image for k, image in enumerate(X["xray"])])
    np.testing.assert_array_equal(clf.predict_proba(none), clf.predict_proba(X))


@pytest.mark.parametrize("path", ["x" * 5000, "a\0b.png", "~nobody-of-this-name/x.png"])
def test_strings_that_are_no_paths(path, X, y):
    X["xray"] = [*X["xray"][:-1], path]
    with pytest.raises(DataError, match=f"row {X.index[-1]!r}"):
        classifier().fit(X, y)


def test_arrays_that_no_modality_names(X, y):
    with pytest.raises(DataError, match="column 'xray'. Got a ndarray.*modalities"):
        classifier(modalities=None).fit(X, y)
    for model in (encoder(modalities=None), SequenceSynthesizer()):
        with pytest.raises(DataError, match="column 'xray'. Got a ndarray.*drop the column"):
            model.fit(X)


def test_an_encoder_with_modalities_needs_their_columns(X, y):
    pretrained = encoder().fit(X)
    with pytest.raises(DataError, match="Expected a column 'xray' in X"):
        TimeAwareClassifier(pretrained=pretrained).fit(X.drop(columns="xray"), y)


# ---- transparency, masks, and pixels on another scale --------------------------------------------


def layers(X: pd.DataFrame, n: int) -> pd.DataFrame:
    """Every image ``n`` times on a last axis."""
    cells = [None if image is None else np.stack(n * [image], axis=2) for image in X["xray"]]
    return X.assign(xray=pd.Series(cells, index=X.index, dtype=object))


@pytest.mark.parametrize("n", [2, 4])
def test_transparency_of_arrays_is_left_out_where_channels_are_asked_for(n, X, y):
    for channels in (1, 3):
        model = classifier(modalities={"xray": ImageEncoder(channels=channels)}).fit(X, y)
        p = model.predict_proba(X)  # all channels are grey
        np.testing.assert_allclose(model.predict_proba(layers(X, n)), p, atol=1e-6)
    alone = classifier().fit(layers(X, n), y)  # where nothing is asked for they are channels
    assert alone.preparation_.modalities["xray"].channels_ == n


@pytest.mark.parametrize(
    "channels, n, message",
    [
        (None, 4, "with 1 channel, as 47 of 48 images have. Got 4. Set channels=1 or channels=3"),
        (None, 5, r"with 1 channel, as 47 of 48 images have. Got 5. Give an array \(H, W, 1\)"),
        (3, 5, r"with 3 channels, which channels=3 asks for.*Got 5. Give an array \(H, W, 3\)"),
    ],
)
def test_other_channels_are_told_with_what_was_expected(channels, n, message, X, y):
    odd = changed(X, np.zeros((8, 8, n), np.uint8))
    with pytest.raises(DataError, match=f"row {X.index[7]!r}: Expected an image {message}"):
        classifier(modalities={"xray": ImageEncoder(channels=channels)}).fit(odd, y)


def test_other_channels_in_prediction(concat, X):
    with pytest.raises(DataError, match=r"1 channel, as in fit. Got 3. Set channels=1 or"):
        concat.predict(changed(X, np.zeros((8, 8, 3), np.uint8)))


def test_masked_pixels(concat, X):
    whole = np.ma.masked_array(X["xray"].iloc[7])
    np.testing.assert_array_equal(concat.predict(changed(X, whole)), concat.predict(X))
    with pytest.raises(DataError, match=f"row {X.index[7]!r}.*masked array in which 1 of 64"):
        concat.predict(changed(X, np.ma.masked_equal(np.arange(64).reshape(8, 8), 5)))


def of_floats(X: pd.DataFrame, divisor: float) -> pd.DataFrame:
    cells = [None if image is None else image / divisor for image in X["xray"]]
    return X.assign(xray=pd.Series(cells, index=X.index, dtype=object))


def test_floats_beside_whole_numbers_are_from_zero_to_one(concat, X, y):
    p = concat.predict_proba(X)
    np.testing.assert_allclose(concat.predict_proba(of_floats(X, 255.0)), p, atol=1e-6)
    message = r"from 0 to 1, beside images of uint8.*Got numbers from \d+ to \d+.*divide it by 255"
    with pytest.raises(DataError, match=message):
        concat.predict(of_floats(X, 1.0))
    with pytest.raises(DataError, match=f"row {X.index[7]!r}: Expected pixels {message}"):
        classifier().fit(changed(X, X["xray"].iloc[7].astype(float)), y)


def test_whole_numbers_beside_floats_of_another_scale(X, y, files):
    model = classifier().fit(of_floats(X, 1.0), y)
    model.predict(of_floats(X, 2.0))
    for other in (X, files):
        with pytest.raises(DataError, match="from 0 to 255, as in fit. Got whole numbers.*float"):
            model.predict(other)
    classifier().fit(of_floats(X, 255.0), y).predict(X)  # is the same scale


def test_pairs_of_images_are_no_pairs_of_a_time_and_an_image(X, y):
    with pytest.raises(DataError, match=r"pairs \(time, item\).*Got a ndarray in place of a time"):
        classifier().fit(changed(X, (X["xray"].iloc[7], X["xray"].iloc[7])), y)
    with pytest.raises(DataError, match="Got ndarray.*several are a list"):
        classifier().fit(changed(X, np.array([X["xray"].iloc[7], None], dtype=object)), y)


def test_rows_are_named_whatever_they_are_called(X, y):
    index = pd.MultiIndex.from_product([["a", "b"], range(30)])
    odd = changed(X, 3).set_index(index)
    with pytest.raises(DataError, match=r"row \('a', 7\): Expected an image"):
        classifier().fit(odd, y.to_numpy())
