"""Parameters of estimators with modalities, and of those without."""

from __future__ import annotations

import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.preprocessing import StandardScaler

from tawt_sklearn import (
    ImageEncoder,
    TimeAwareClassifier,
)
from tawt_sklearn.datasets import make_sensor_panels
from tawt_sklearn.exceptions import DataError

from .builders import classifier, encoder, several


def test_models_without_modalities_are_what_they_were(X, y):
    plain = X.drop(columns="xray")
    alone = classifier(modalities=None).fit(plain, y)
    assert "modalities" not in alone.nets_[0].module.keywords


def test_times_do_not_go_with_single_events(X, y):
    with pytest.raises(ValueError, match='patching="dual".*Got "event"'):
        classifier(patching="event").fit(several(X), y)
    assert classifier(patching="event").fit(X, y).predict(X).shape == (60,)


def test_modalities_are_for_histories():
    panel, y = make_sensor_panels(20, random_state=0)[:2]
    with pytest.raises(DataError, match="DataFrame of event histories.*Got"):
        classifier().fit(panel, y)


@pytest.mark.parametrize(
    "modalities, error, message",
    [
        ({}, ValueError, "Expected modalities to map"),
        ({"xray": ImageEncoder}, TypeError, "the class ImageEncoder"),
        ({"xray": StandardScaler()}, TypeError, "Inherit from"),
        ({"x__y": ImageEncoder()}, ValueError, "two underscores"),
        ({"xray": ImageEncoder(freeze=True)}, ValueError, 'modality_training="staged"'),
        ({"xray": ImageEncoder(backbone="hf:")}, ValueError, "Expected backbone"),
    ],
)
def test_modalities_that_are_none(modalities, error, message, X, y):
    with pytest.raises(error, match=message):
        classifier(modalities=modalities).fit(X, y)


def test_parameters_of_modalities():
    model = classifier()
    assert model.get_params()["modalities__xray__image_size"] is None
    model.set_params(modalities__xray__image_size=16, fusion="gated")
    assert model.modalities["xray"].image_size == 16 and model.fusion == "gated"
    model.set_params(modalities__xray=ImageEncoder(backbone="vit"), modalities__xray__freeze=True)
    assert model.modalities["xray"].get_params()["backbone"] == "vit"
    assert model.modalities["xray"].freeze
    with pytest.raises(ValueError, match="Invalid parameter 'modalities__film'"):
        model.set_params(modalities__film=ImageEncoder())
    other = clone(model)
    other.set_params(modalities__xray__image_size=32)
    assert model.modalities["xray"].image_size is None


@pytest.mark.parametrize(
    "setting",
    [{"fusion": "gated"}, {"modality_dropout": 0.5}, {"modality_training": "staged"}],
    ids=str,
)
def test_settings_of_modalities_without_any_are_refused(setting, X, y):
    plain = X.drop(columns="xray")
    message = f"Expected modalities to be given together with {min(setting)}. Got none"
    with pytest.raises(ValueError, match=message):
        classifier(modalities=None, **setting).fit(plain, y)
    if "modality_training" not in setting:
        with pytest.raises(ValueError, match=message):
            encoder(modalities=None, **setting).fit(plain)
    alone = encoder(modalities=None).fit(plain)
    with pytest.raises(ValueError, match=message):
        TimeAwareClassifier(pretrained=alone, n_ensemble=1, **setting).fit(plain, y)


def test_embeddings_of_each_part_need_modalities(X):
    plain = X.drop(columns="xray")
    with pytest.raises(ValueError, match="modalities to be given together with output"):
        encoder(modalities=None, output="each").fit(plain)
    alone = encoder(modalities=None).fit(plain).set_params(output="each")
    with pytest.raises(ValueError, match="modalities to be given together with output"):
        alone.transform(plain)


def test_dropout_of_modalities_after_pretraining_is_that_of_the_estimator(X, y):
    pretrained = encoder(modality_dropout=0.5).fit(X)
    model = TimeAwareClassifier(
        pretrained=pretrained, modality_dropout=0.7, n_ensemble=1, max_epochs=1, warm_start=True
    ).fit(X, y)
    assert model.nets_[0].module_.beside.dropout == 0.7
    model.set_params(modality_dropout=0.1).fit(X, y)
    assert model.nets_[0].module_.beside.dropout == 0.1


@pytest.mark.parametrize("name", ["events", "fused"])
def test_names_that_stand_for_something_else(name, X, y):
    X = X.rename(columns={"events": "histories", "xray": name})
    for model in (classifier, encoder):
        with pytest.raises(ValueError, match=f"other names than .*Got {name!r}.*rename it"):
            model(modalities={name: ImageEncoder()}).fit(X, y)


def test_names_that_give_two_columns_one_name(X, y):
    X["xray1"] = X["xray"]
    modalities = {"xray": ImageEncoder(), "xray1": ImageEncoder()}
    with pytest.raises(ValueError, match="none of which is 'xray' and digits.*Got 'xray1'"):
        encoder(modalities=modalities).fit(X)
    classifier(modalities=modalities, fusion="gated").fit(X, y)


def with_a_time(X: pd.DataFrame) -> pd.DataFrame:
    cells = [None if image is None else (3.0, image) for image in X["xray"]]
    return X.assign(xray=pd.Series(cells, index=X.index, dtype=object))


def test_a_time_without_a_list_does_not_go_with_single_events_either(X, y):
    timed = with_a_time(X)
    assert classifier().fit(timed, y).predict(timed).shape == (60,)
    message = "items of column 'xray' have times"
    with pytest.raises(ValueError, match=message):
        classifier(patching="event").fit(timed, y)
    pretrained = encoder(patching="event").fit(X)
    with pytest.raises(ValueError, match=message):
        pretrained.transform(timed)
    few = TimeAwareClassifier(pretrained=pretrained, n_ensemble=1, max_epochs=1)
    with pytest.raises(ValueError, match=message):  # whose own patching says nothing
        few.fit(timed, y)
    with pytest.raises(ValueError, match=message):
        few.fit(X, y).predict(timed)


def test_no_dropout_of_modalities_needs_none(X, y):
    classifier(modalities=None, modality_dropout=0.0).fit(X.drop(columns="xray"), y)
    with pytest.raises(ValueError, match="modality_dropout=0.4"):
        classifier(modalities=None, modality_dropout=0.4).fit(X.drop(columns="xray"), y)
