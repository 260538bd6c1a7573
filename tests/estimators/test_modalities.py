"""Images beside event histories, in the estimators."""

from __future__ import annotations

import ast
import pickle
import re
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from tawt_sklearn import (
    ImageEncoder,
    Modality,
    TimeAwareClassifier,
    TimeAwareEncoder,
    TimeAwareRegressor,
    TripletSequencer,
    load,
    nest_events,
)
from tawt_sklearn.datasets import make_icu_stays, make_sensor_panels
from tawt_sklearn.estimators import _ensemble
from tawt_sklearn.estimators._staged import after_own_stage
from tawt_sklearn.exceptions import DataError, DataWarning

QUICK = {
    "d_model": 8, "n_heads": 2, "n_layers": 1, "n_windows": 4, "max_epochs": 2, "min_steps": 4,
    "random_state": 0, "device": "cpu",
}  # fmt: skip
FUSIONS = ["concat", "attention", "gated"]


def film(rng: np.random.Generator, side: int = 8) -> np.ndarray:
    return rng.integers(256, size=(side, side), dtype=np.uint8)


def with_films(X: pd.DataFrame, make=film) -> pd.DataFrame:
    """A column of images, every fifth missing."""
    rng = np.random.default_rng(0)
    cells = [None if k % 5 == 4 else make(rng) for k in range(len(X))]
    return X.assign(xray=pd.Series(cells, index=X.index, dtype=object))


@pytest.fixture(scope="module")
def cohort() -> tuple[pd.DataFrame, pd.Series]:
    X, y = make_icu_stays(60, random_state=0)
    return with_films(X), y


@pytest.fixture
def X(cohort) -> pd.DataFrame:
    return cohort[0].copy()


@pytest.fixture
def y(cohort) -> pd.Series:
    return cohort[1].copy()


def classifier(**parameters) -> TimeAwareClassifier:
    defaults = {"modalities": {"xray": ImageEncoder()}, "n_ensemble": 1, **QUICK}
    return TimeAwareClassifier(**(defaults | parameters))


def encoder(**parameters) -> TimeAwareEncoder:
    return TimeAwareEncoder(**({"modalities": {"xray": ImageEncoder()}, **QUICK} | parameters))


def random_state_of_numpy() -> str:
    return joblib.hash(np.random.get_state())  # noqa: NPY002  (what others use)


@pytest.fixture(scope="module", params=FUSIONS)
def fitted(request, cohort) -> TimeAwareClassifier:
    return classifier(fusion=request.param).fit(*cohort)


@pytest.fixture(scope="module")
def concat(cohort) -> TimeAwareClassifier:
    return classifier().fit(*cohort)


# ---- what holds for any X ----------------------------------------------------------------------


def test_images_change_what_is_said(fitted, X):
    p = fitted.predict_proba(X)
    other = X.assign(xray=X["xray"].iloc[::-1].to_numpy())
    assert (fitted.predict_proba(other) != p).any(axis=1).mean() > 0.8


def test_the_same_twice(fitted, X, y):
    torch_state, numpy_state = torch.get_rng_state(), random_state_of_numpy()
    again = clone(fitted).fit(X, y)
    np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert random_state_of_numpy() == numpy_state


def test_rows_by_themselves(fitted, X):
    p = fitted.predict_proba(X)
    for rows in ([3], [4], [9, 2, 4], list(range(59, -1, -1))):
        np.testing.assert_allclose(fitted.predict_proba(X.iloc[rows]), p[rows], rtol=0, atol=1e-9)


def test_the_order_of_rows_does_not_matter(fitted, X, y):
    order = np.random.default_rng(1).permutation(len(X))
    other = clone(fitted).fit(X.iloc[order], y.iloc[order])
    np.testing.assert_allclose(other.predict_proba(X), fitted.predict_proba(X), atol=1e-9)


def test_a_weight_of_two_is_the_row_twice(X, y):
    twice = np.r_[np.arange(len(X)), :10]
    weight = np.where(np.arange(len(X)) < 10, 2.0, 1.0)
    one = classifier().fit(X, y, sample_weight=weight)
    two = classifier().fit(X.iloc[twice], y.iloc[twice])
    np.testing.assert_array_equal(one.predict_proba(X), two.predict_proba(X))


def test_fit_leaves_parameters_and_data_alone(X, y):
    model = classifier()
    given, before = model.modalities["xray"], joblib.hash(X["xray"].tolist())
    model.fit(X, y)
    assert model.modalities["xray"] is given and not hasattr(given, "mean_")
    assert joblib.hash(X["xray"].tolist()) == before


def test_pickling(fitted, X):
    other = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(other.predict_proba(X), fitted.predict_proba(X))


def test_save_and_load(fitted, X, tmp_path):
    fitted.save(tmp_path / "model.tawt")
    other = load(tmp_path / "model.tawt")
    np.testing.assert_array_equal(other.predict_proba(X), fitted.predict_proba(X))
    assert other.get_params()["modalities__xray__freeze"] is False
    if fitted.fusion == "gated":
        pd.testing.assert_series_equal(other.modality_weights_, fitted.modality_weights_)
    assert (clone(other).fit(X, [0, 1] * 30).predict(X) >= 0).all()


def test_a_pipeline_tokenises_to_the_same_result(fitted, X, y):
    pipeline = make_pipeline(TripletSequencer(), clone(fitted)).fit(X, y)
    np.testing.assert_array_equal(pipeline.predict_proba(X), fitted.predict_proba(X))


def test_behind_a_column_transformer(X, y):
    columns = ColumnTransformer(
        [("age", StandardScaler(), ["age"]), ("rest", "passthrough", ["events", "xray"])],
        verbose_feature_names_out=False,
    ).set_output(transform="pandas")
    model = make_pipeline(columns, classifier())
    assert model.fit(X, y).predict_proba(X).shape == (60, 2)


def test_a_search_over_fusion_and_what_modalities_are_made_of(X, y):
    grid = {"fusion": FUSIONS, "modalities__xray__backbone": ["cnn", "vit"]}
    search = GridSearchCV(classifier(max_epochs=1), grid, cv=2, error_score="raise").fit(X, y)
    assert len(search.cv_results_["params"]) == 6
    best = search.best_params_["modalities__xray__backbone"]
    assert search.best_estimator_.preparation_.modalities["xray"].backbone == best


def test_early_stopping_validation_data_and_calibration(X, y):
    model = classifier(early_stopping=True, validation_fraction=0.3, calibrate=True)
    assert model.fit(X, y).temperature_ > 0
    classifier().fit(X, y, X_val=X.iloc[:10], y_val=y.iloc[:10])


def test_going_on(X, y):
    model = classifier(warm_start=True).fit(X, y)
    assert len(model.fit(X, y).history_) == 2 * len(clone(model).fit(X, y).history_)
    model.partial_fit(X, y)
    for change in ({"modalities__xray__augment": True}, {"fusion": "gated"}):
        with pytest.raises(ValueError, match="modalities|fusion"):
            clone(model).fit(X, y).set_params(**change).fit(X, y)


@pytest.mark.parametrize("backbone", ["cnn", nn.Sequential(nn.Flatten(), nn.Linear(64, 4))])
def test_a_killed_fit_goes_on(backbone, X, y, tmp_path):
    modalities = {"xray": ImageEncoder(backbone=backbone)}
    model = classifier(checkpoint_dir=tmp_path, modalities=modalities, warm_start=True).fit(X, y)
    files = sorted(tmp_path.iterdir())
    again = clone(model).fit(X, y)
    assert sorted(tmp_path.iterdir()) == files  # found again
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    other = X.assign(xray=X["xray"].iloc[::-1].to_numpy())
    clone(model).fit(other, y)
    assert len([*tmp_path.iterdir()]) > len(files)  # other images, another run
    model.fit(X, y)  # goes on: the modalities are the same
    pretraining = encoder(checkpoint_dir=tmp_path / "encoder", modalities=modalities)
    for _ in range(2):
        clone(pretraining).fit(X)
    assert len([*(tmp_path / "encoder").iterdir()]) == 1


def test_regression(X):
    model = TimeAwareRegressor(modalities={"xray": ImageEncoder()}, n_ensemble=2, **QUICK)
    model.fit(X, X["events"].events.lengths.astype(float))
    assert model.predict(X).shape == (60,)


def test_models_without_modalities_are_what_they_were(X, y):
    plain = X.drop(columns="xray")
    alone = classifier(modalities=None)
    one, other = (clone(alone).set_params(fusion=how).fit(plain, y) for how in FUSIONS[:2])
    np.testing.assert_array_equal(one.predict_proba(plain), other.predict_proba(plain))
    assert "modalities" not in one.nets_[0].module.keywords


# ---- several images, and their times -----------------------------------------------------------


def several(X: pd.DataFrame, shift: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    cells = [
        [(k % 3 + shift, film(rng)), (20.0 + shift, film(rng)), film(rng)][: k % 4]
        for k in range(len(X))
    ]
    return X.assign(xray=pd.Series(cells, index=X.index, dtype=object))


@pytest.mark.parametrize("fusion", FUSIONS)
def test_several_images_with_times(X, y, fusion):
    model = classifier(fusion=fusion).fit(several(X), y)
    p = model.predict_proba(several(X))
    np.testing.assert_allclose(model.predict_proba(several(X).iloc[[7]]), p[[7]], atol=1e-9)
    later = model.predict_proba(several(X, shift=15.0))
    moved = (later != p).any(axis=1)
    assert moved[[1, 2, 3]].all() and not moved[0]  # row 0 has no image


def test_images_with_dates(X, y):
    events = X["events"].events.to_long()
    start = pd.Timestamp("2024-01-01", tz="UTC")
    events["time"] = start + pd.to_timedelta(events["time"], unit="h")
    dated = nest_events(events, static=X[["age"]])
    hours = [[(1.0 + k % 7, film(np.random.default_rng(k)))] for k in range(len(X))]
    dated["xray"] = [[(start + pd.Timedelta(t, "h"), image)] for ((t, image),) in hours]
    assert classifier().fit(dated, y).predict_proba(dated).shape == (60, 2)


def test_times_do_not_go_with_single_events(X, y):
    with pytest.raises(ValueError, match='patching="dual".*Got "event"'):
        classifier(patching="event").fit(several(X), y)
    assert classifier(patching="event").fit(X, y).predict(X).shape == (60,)


# ---- stages, weights from elsewhere ------------------------------------------------------------


def test_staged_training_and_freezing(X, y, monkeypatch):
    """What is frozen stays as its own stage has left it, all else goes on from there."""
    stages = []

    def remembered(*arguments):
        stages.append(after_own_stage(*arguments))
        return stages[-1]

    monkeypatch.setattr(_ensemble, "after_own_stage", remembered)
    for freeze in (True, False):
        modalities = {"xray": ImageEncoder(freeze=freeze)}
        model = classifier(modality_training="staged", modalities=modalities).fit(X, y)
        before, after = stages[-1].weights, model.nets_[0].weights()
        same = {name: torch.equal(before[name].float(), after[name]) for name in before}
        backbone = [same[name] for name in same if "encoder.backbone" in name]
        assert all(backbone) if freeze else not any(backbone)
        assert not same["beside.encoders.0.encoder.project.0.weight"] and not same["backbone.cls"]
    joint = classifier().fit(X, y)
    assert not np.array_equal(joint.predict_proba(X), model.predict_proba(X))
    with pytest.raises(ValueError, match='modality_training="joint" in partial_fit'):
        model.partial_fit(X, y)


def test_layers_one_after_the_other(X, y):
    own = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    pretrained = encoder(modalities={"xray": ImageEncoder(backbone=own, freeze=True)}).fit(X)
    model = TimeAwareClassifier(
        pretrained=pretrained, fine_tune="gradual", n_ensemble=1, max_epochs=6, random_state=0
    ).fit(X, y)
    one, other = pretrained.net_.weights(), model.nets_[0].weights()
    kept = "beside.encoders.0.encoder.backbone.network.0.weight"
    assert torch.equal(one[kept], other[kept])
    learned = "beside.encoders.0.encoder.project.0.weight"
    assert not torch.equal(one[learned], other[learned])


def test_a_network_of_the_users_own(X, y, tmp_path):
    torch.manual_seed(0)
    own = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    before = own[0].weight.clone()
    model = classifier(modalities={"xray": ImageEncoder(backbone=own, freeze=True)}).fit(X, y)
    kept = model.nets_[0].weights()["beside.encoders.0.encoder.backbone.network.0.weight"]
    assert torch.equal(kept, before) and torch.equal(own[0].weight, before)
    assert pickle.loads(pickle.dumps(model)).predict(X).shape == (60,)
    with pytest.raises(TypeError, match="can be saved.*Sequential"):
        model.save(tmp_path / "model.tawt")
    free = classifier(modalities={"xray": ImageEncoder(backbone=own)}).fit(X, y)
    learned = free.nets_[0].weights()["beside.encoders.0.encoder.backbone.network.0.weight"]
    assert not torch.equal(learned, before) and torch.equal(own[0].weight, before)


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_a_model_of_the_hub(kind, X, y, tmp_path):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    if kind == "vit":
        config = transformers.ViTConfig(
            hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
            image_size=8, patch_size=4,
        )  # fmt: skip
        network = transformers.ViTModel(config)
    else:
        config = transformers.ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1])
        network = transformers.ResNetModel(config)
    network.save_pretrained(tmp_path / "model")
    images = ImageEncoder(backbone=f"hf:{tmp_path / 'model'}", image_size=16, freeze=True)
    if kind == "vit":
        images.set_params(image_size=None)
    model = classifier(modalities={"xray": images}).fit(X, y)
    own = model.nets_[0].module_.beside.encoders[0].encoder.backbone.network
    for (name, stored), found in zip(network.named_parameters(), own.parameters(), strict=True):
        torch.testing.assert_close(found.float(), stored, msg=name)
    model.save(tmp_path / "model.tawt")
    (tmp_path / "model" / "config.json").unlink()  # the file needs no folder
    other = load(tmp_path / "model.tawt")
    np.testing.assert_array_equal(other.predict_proba(X), model.predict_proba(X))
    learned = other.preparation_.modalities["xray"]
    assert learned.channels_ == 3 and learned.image_size_ == ((8, 8) if kind == "vit" else (16, 16))


def test_a_model_that_is_not_there(X, y, tmp_path):
    pytest.importorskip("transformers")
    with pytest.raises(DataError, match=r"Hugging Face model.*nowhere"):
        classifier(modalities={"xray": ImageEncoder(backbone=f"hf:{tmp_path}/nowhere")}).fit(X, y)


# ---- gates -------------------------------------------------------------------------------------


def test_the_gate_can_be_read(X, y):
    model = classifier(fusion="gated").fit(X, y)
    rows = model.modality_weights(X)
    assert list(rows) == ["events", "xray"] and rows.index.equals(X.index)
    np.testing.assert_allclose(rows.sum(axis=1), 1)
    np.testing.assert_allclose(rows.mean(), model.modality_weights_, atol=1e-6)
    model.set_params(fusion="concat").fit(X, y)
    assert not hasattr(model, "modality_weights_")
    with pytest.raises(ValueError, match='fusion="gated"'):
        model.modality_weights(X)


# ---- bad input ---------------------------------------------------------------------------------


def changed(X: pd.DataFrame, cell, row: int = 7) -> pd.DataFrame:
    cells = X["xray"].tolist()
    cells[row] = cell
    return X.assign(xray=pd.Series(cells, index=X.index, dtype=object))


@pytest.fixture
def files(X, tmp_path) -> pd.DataFrame:
    """The images as paths."""
    paths = []
    for k, image in enumerate(X["xray"]):
        paths.append(None if image is None else str(tmp_path / f"{k}.png"))
        if image is not None:
            Image.fromarray(image).save(paths[-1])
    return X.assign(xray=pd.Series(paths, index=X.index, dtype=object))


def test_paths_are_as_good_as_arrays(fitted, files, X):
    np.testing.assert_allclose(fitted.predict_proba(files), fitted.predict_proba(X), atol=1e-12)
    other = clone(fitted).fit(files, [0, 1] * 30)
    assert other.predict(files).shape == (60,)


def test_images_of_pillow_are_as_good_as_arrays(concat, X):
    cells = [None if image is None else Image.fromarray(image) for image in X["xray"]]
    pillow = X.assign(xray=pd.Series(cells, index=X.index, dtype=object))
    np.testing.assert_array_equal(concat.predict_proba(pillow), concat.predict_proba(X))


def test_where_files_lie_does_not_matter(files, X, y):
    one, other = classifier().fit(files, y), classifier().fit(X, y)
    np.testing.assert_allclose(one.predict_proba(X), other.predict_proba(X), atol=1e-9)


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


def test_export_is_refused(concat, X, tmp_path):
    for call in (lambda: concat.export(tmp_path / "m.onnx"), lambda: concat.export_inputs(X)):
        with pytest.raises(ValueError, match="not exported.*save and load"):
            call()


# ---- the encoder -------------------------------------------------------------------------------


@pytest.mark.parametrize("fusion", FUSIONS)
def test_embeddings(fusion, X, tmp_path):
    model = encoder(fusion=fusion, objective={"masked": 1.0, "cross_modal": 0.5}).fit(X)
    z = model.transform(X)
    assert np.isfinite(z).all() and "train_cross_modal" in model.history_
    np.testing.assert_allclose(model.transform(X.iloc[[4, 2]]), z[[4, 2]], rtol=0, atol=1e-7)
    model.save(tmp_path / "encoder.tawt")
    other = TimeAwareEncoder.load(tmp_path / "encoder.tawt")
    np.testing.assert_array_equal(other.transform(X), z)
    few = TimeAwareClassifier(pretrained=other, n_ensemble=1, random_state=0, max_epochs=1)
    assert few.fit(X, [0, 1] * 30).predict(X).shape == (60,)
    assert few.set_params(fine_tune="head").fit(X, [0, 1] * 30).predict(X).shape == (60,)
    with pytest.raises(ValueError, match="modalities of the pretrained encoder"):
        few.set_params(modalities={"film": ImageEncoder()}).fit(X, [0, 1] * 30)


def test_embeddings_of_each_part(X):
    model = encoder(fusion="gated").fit(X)
    fused = model.transform(X)
    each = model.set_params(output="each").transform(X)
    names = model.get_feature_names_out()
    assert names[0] == "events0" and "xray7" in names and names[-1] == f"fused{fused.shape[1] - 1}"
    assert each.shape[1] == len(names)
    np.testing.assert_array_equal(each[:, -fused.shape[1] :], fused)
    framed = model.set_output(transform="pandas").transform(X)
    assert list(framed) == names.tolist()
    rest = X.assign(xray=None)
    alone = model.transform(rest).filter(like="events")
    np.testing.assert_allclose(alone, framed.filter(like="events"), atol=1e-5)
    np.testing.assert_allclose(framed.std(ddof=0).iloc[0], 1, atol=0.1)


@pytest.mark.parametrize("objective", ["masked", "contrastive", "forecast", "cross_modal"])
def test_objectives(objective, X):
    for frame in (X, several(X)):
        model = encoder(objective=objective).fit(frame)
        assert np.isfinite(model.transform(frame)).all() and np.isfinite(model.score(frame))


def test_going_on_with_an_encoder(X):
    model = encoder().fit(X)
    model.partial_fit(X.iloc[:20])
    assert model.reconstruct(X.iloc[:3])["events"].events.lengths.sum() > 0
    assert model.transform_steps(several(X).iloc[:3]).shape[0] == 3
    before = model.transform(X)
    model.add_codes({"new": {"center": 0.0, "scale": 1.0}})
    np.testing.assert_allclose(model.transform(X), before, atol=1e-6)


def test_what_the_encoder_refuses(X):
    with pytest.raises(ValueError, match="Expected modalities for the objective 'cross_modal'"):
        encoder(modalities=None, objective="cross_modal").fit(X.drop(columns="xray"))
    with pytest.raises(ValueError, match='Expected fusion="concat" with objective='):
        encoder(fusion="gated", objective="cross_modal").fit(X)
    with pytest.raises(ValueError, match='another pooling than "codes"'):
        encoder(pooling="codes").fit(X)


def test_cross_modal_pretraining_brings_pairs_together():
    """Brightness is a code's value: after training images are nearest to their own histories."""
    rng = np.random.default_rng(0)
    level = rng.uniform(-2, 2, 200)
    long = pd.DataFrame(
        {"subject_id": np.repeat(np.arange(200), 4), "time": np.tile([1.0, 2, 3, 4], 200),
         "code": "level", "value": np.repeat(level, 4)}
    )  # fmt: skip
    X = nest_events(long)
    X["xray"] = [np.full((4, 4), value) + rng.normal(size=(4, 4)) / 10 for value in level]
    settings = {**QUICK, "max_epochs": 15, "min_steps": 150, "modality_dropout": 0.0}
    model = TimeAwareEncoder(
        modalities={"xray": ImageEncoder()}, objective="cross_modal", **settings
    ).fit(X)
    losses = model.history_["train_cross_modal"]
    assert losses.iloc[-1] < 0.75 * losses.iloc[0]


# ---- another modality, without a line of the library -------------------------------------------


class Levels(Modality):
    """Words that stand for numbers."""

    def fit(self, items, y=None):
        self.words_ = sorted(set(items))
        return self

    def read(self, item):
        if item not in self.words_:
            raise KeyError(item)
        return self.words_.index(item)

    def collate(self, items):
        return {"word": torch.tensor(items)}

    def build(self, d_model):
        table = nn.Embedding(len(self.words_), d_model)

        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.table = table

            def forward(self, content):
                return self.table(content["word"]).unsqueeze(1)

        return Net()


def test_two_modalities_side_by_side(X, y):
    X["triage"] = [["green", "red"][k % 2] if k % 3 else None for k in range(len(X))]
    model = classifier(modalities={"xray": ImageEncoder(), "triage": Levels()}, fusion="gated")
    model.fit(X, y)
    assert model.modality_weights_.index.tolist() == ["events", "xray", "triage"]
    odd = X.assign(triage=X["triage"].where(X.index != X.index[4], "blue"))
    with pytest.raises(DataError, match=rf"column 'triage', row {X.index[4]!r}.*KeyError.*blue"):
        model.predict(odd)
    assert encoder(modalities=model.modalities, objective="cross_modal").fit(X).transform(X).size


def test_cross_validation_of_a_modality_of_ones_own(X, y):
    X["triage"] = ["green", "red"] * 30
    model = classifier(modalities={"triage": Levels()})
    assert np.isfinite(cross_val_score(model, X.drop(columns="xray"), y, cv=2)).all()


# ---- the example of the documentation, and where image code may be -------------------------------

ROOT = Path(__file__).resolve().parents[2]


def example() -> type[Modality]:
    """The class of text notes in ``docs/modalities.md``."""
    page = (ROOT / "docs" / "modalities.md").read_text()
    (block,) = re.findall(r"```python\n(import torch.*?)```", page, re.DOTALL)
    assert len(block.splitlines()) <= 32
    names: dict[str, Any] = {}
    exec(block, names)
    return names["TextNotes"]


def test_text_notes_through_hashing(X, y, tmp_path):
    """The label is in the words of notes, some of which are missing."""
    rng = np.random.default_rng(0)
    said = ["stable and eating", "septic shock, pressors"]
    notes = [f"seen today: {said[label]} {rng.integers(9)}" for label in y]
    X["note"] = [None if k % 7 == 6 else note for k, note in enumerate(notes)]
    modalities = {"note": example()(n_features=256), "xray": ImageEncoder()}
    model = classifier(modalities=modalities, max_epochs=30, min_steps=60, learning_rate=5e-3)
    model.fit(X, y)
    has_note = X["note"].notna().to_numpy()
    assert (model.predict(X) == y)[has_note].mean() > 0.95
    assert model.get_params()["modalities__note__n_features"] == 256
    with pytest.raises(DataError, match="column 'note'.*TypeError: Expected a note.*Got int"):
        model.predict(X.assign(note=3))
    with pytest.raises(TypeError, match="can be saved.*TextNotes"):
        model.save(tmp_path / "model.tawt")
    encoder(modalities=modalities, objective={"masked": 1, "cross_modal": 1}).fit(X).transform(X)


HOMES = {"tokens/images.py", "nn/image.py", "nn/image_hub.py", "estimators/images.py"}
"""The only files of the library that know what an image is."""


def test_nothing_else_knows_of_images():
    package = ROOT / "tawt_sklearn"
    path = ("events", "tokens", "nn", "objectives", "training", "estimators", "persistence")
    for file in sorted(file for folder in path for file in (package / folder).rglob("*.py")):
        if str(file.relative_to(package)) in HOMES:
            continue
        words = set()
        for node in ast.walk(ast.parse(file.read_text())):
            for part in ("id", "attr", "arg", "name", "module"):
                if isinstance(word := getattr(node, part, None), str):
                    words.add(word.lower())
        assert not [w for w in words if "image" in w or "pixel" in w], file
