"""The encoder with modalities: embeddings, objectives, what it refuses."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tawt_sklearn import (
    ImageEncoder,
    TimeAwareClassifier,
    TimeAwareEncoder,
    nest_events,
)

from .builders import FUSIONS, QUICK, encoder, film, several, with_films


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


def test_fine_tuning_on_images_of_another_size(X, y):
    """They are brought to the size that the encoder knows."""
    pretrained = encoder().fit(X)
    larger = with_films(X, lambda rng: film(rng, 20))
    model = TimeAwareClassifier(pretrained=pretrained, n_ensemble=1, max_epochs=1, random_state=0)
    assert model.fit(larger, y).predict(larger).shape == (60,)
    assert model.preparation_.modalities["xray"].image_size_ == (8, 8)
    assert pretrained.partial_fit(larger).transform(larger).shape[0] == 60
