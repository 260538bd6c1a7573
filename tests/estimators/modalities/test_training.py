"""Training with modalities: going on, stages, weights from elsewhere."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

from tawt_sklearn import (
    ImageEncoder,
    TimeAwareClassifier,
    load,
)
from tawt_sklearn.estimators import _ensemble
from tawt_sklearn.estimators._staged import after_own_stage
from tawt_sklearn.exceptions import DataError

from .builders import classifier, encoder


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


def test_a_frozen_network_that_nobody_could_train_is_refused(X, y):
    X["xray"] = [image if k < 5 else None for k, image in enumerate(X["xray"])]
    clf = classifier(modalities={"xray": ImageEncoder(freeze=True)}, modality_training="staged")
    with pytest.raises(DataError, match="8 rows with an item in column 'xray'"):
        clf.fit(X, y)


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
