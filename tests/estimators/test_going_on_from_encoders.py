"""What happens after the first fit: encoders and fine-tuned estimators that go on."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline

from tawt_sklearn import (
    TimeAwareClassifier,
    TimeAwareEncoder,
    TimeAwareRegressor,
    TripletSequencer,
    load,
)
from tawt_sklearn.datasets import make_icu_stays
from tawt_sklearn.exceptions import DataWarning
from tawt_sklearn.objectives import Contrastive, HideEvents, MaskedReconstruction
from tawt_sklearn.objectives.probe import VARIANCES

SMALL: dict[str, Any] = {
    "d_model": 8,
    "n_heads": 2,
    "n_layers": 1,
    "n_windows": 4,
    "d_embedding": 12,
    "max_epochs": 2,
    "min_steps": 0,
    "batch_size": 32,
    "random_state": 0,
    "device": "cpu",
}


def make(**parameters: Any) -> TimeAwareEncoder:
    return TimeAwareEncoder(**(SMALL | parameters))


def tune(pretrained: Any, cls: Any = TimeAwareClassifier, **parameters: Any) -> Any:
    settings = {"max_epochs": 2, "n_ensemble": 1, "random_state": 0, "device": "cpu"}
    return cls(pretrained=pretrained, **(settings | parameters))


@pytest.fixture(scope="module")
def cohort() -> tuple[pd.DataFrame, pd.Series]:
    X, y = make_icu_stays(90, random_state=0)
    return X.assign(events=X["events"].events.until(12.0)), y


@pytest.fixture(scope="module")
def X(cohort) -> pd.DataFrame:
    return cohort[0]


@pytest.fixture(scope="module")
def y(cohort) -> pd.Series:
    return cohort[1]


@pytest.fixture(scope="module")
def encoder(X) -> TimeAwareEncoder:
    return make().fit(X)


# ---- heads ------------------------------------------------------------------------------------


def test_a_head_is_solved_anew_from_other_labels(encoder, X, y):
    model = tune(encoder, fine_tune="head", warm_start=True).fit(X, y)
    before = model.predict_proba(X)[:, 1]
    after = model.fit(X, 1 - y).predict_proba(X)[:, 1]
    assert roc_auc_score(y, before) > 0.6 > 0.4 > roc_auc_score(y, after)
    Z = encoder.transform(X).astype(np.float64)
    distances = [
        abs(LogisticRegression(C=C, tol=1e-8).fit(Z, 1 - y).predict_proba(Z)[:, 1] - after).max()
        for C in np.array(VARIANCES) / Z.shape[1]
    ]
    assert min(distances) < 1e-4


def test_a_head_cannot_be_learned_in_parts(encoder, X, y):
    with pytest.raises(ValueError, match='"head".*call fit with all'):
        tune(encoder, fine_tune="head").partial_fit(X, y)


def test_a_head_grows_into_members(encoder, X, y):
    model = tune(encoder, fine_tune="head", n_ensemble=2, warm_start=True).fit(X, y)
    assert len(model.nets_) == 1
    assert len(model.set_params(fine_tune="full").fit(X, y).nets_) == 2


def test_a_head_has_a_validation_loss(encoder, X, y):
    model = tune(encoder, fine_tune="head").fit(X, y, X_val=X[:20], y_val=y[:20])
    assert np.isfinite(model.history_["valid_loss"]).all()


def test_a_head_knows_no_hubers_error(encoder, X, y):
    with pytest.raises(ValueError, match='loss="squared_error" with fine_tune="head"'):
        tune(encoder, TimeAwareRegressor, fine_tune="head", loss="huber").fit(X, y)


def test_full_tuning_of_numbers_keeps_what_the_head_has_found(encoder, X):
    lengths = X["events"].events.lengths.astype(float)
    head = tune(encoder, TimeAwareRegressor, fine_tune="head").fit(X, lengths)
    full = tune(encoder, TimeAwareRegressor, max_epochs=5).fit(X, lengths)
    assert full.score(X, lengths) > head.score(X, lengths) - 0.05 > 0.05


# ---- going on without the encoder ---------------------------------------------------------------


@pytest.mark.parametrize("go_on", ["partial_fit", "fit"])
def test_fine_tuned_networks_go_on_after_the_encoder_has_grown(X, y, go_on):
    encoder = make().fit(X)
    model = tune(encoder, warm_start=True).fit(X, y)
    before = model.predict_proba(X)
    encoder.add_codes({"q": {"kind": "presence"}}).add_codes({"r": {"kind": "presence"}})
    np.testing.assert_array_equal(model.predict_proba(X), before)
    getattr(model, go_on)(X, y)
    assert np.abs(model.predict_proba(X) - before).max() > 0


def test_fine_tuned_networks_go_on_without_the_file_of_the_encoder(encoder, X, y, tmp_path):
    path = tmp_path / "encoder.tawt"
    encoder.save(path)
    model = tune(path).fit(X, y)
    path.unlink()
    assert model.partial_fit(X, y).n_iter_ == 3


def test_networks_from_scratch_do_not_go_on_from_an_encoder(encoder, X, y):
    small = {name: SMALL[name] for name in ("d_model", "n_heads", "n_layers", "n_windows")}
    model = TimeAwareClassifier(
        **small, max_epochs=1, min_steps=0, n_ensemble=1, warm_start=True, random_state=0
    ).fit(X, y)
    with pytest.raises(ValueError, match="from a fit that started from nothing"):
        model.set_params(pretrained=encoder).fit(X, y)


def test_fine_tuning_needs_something_to_tune(X, y):
    with pytest.raises(ValueError, match="Expected pretrained, or pretrain=True"):
        TimeAwareClassifier(fine_tune="head").fit(X, y)


# ---- encoders that go on ------------------------------------------------------------------------


def test_a_few_rows_do_not_change_the_scale_of_the_embedding(X, y):
    encoder = make().fit(X)
    axes = encoder.net_.weights()["coordinates.axes"]
    encoder.partial_fit(X.iloc[:1])
    np.testing.assert_array_equal(encoder.net_.weights()["coordinates.axes"], axes)


def test_an_encoder_of_one_row_scales_nothing(X):
    encoder = make().fit(X.iloc[:1])
    axes = encoder.net_.weights()["coordinates.axes"].numpy()
    np.testing.assert_array_equal(axes, np.eye(len(axes)))


def test_partial_fit_writes_no_checkpoints(X, tmp_path):
    encoder = make(checkpoint_dir=tmp_path).partial_fit(X).partial_fit(X)
    assert encoder.n_iter_ == 2 and not [*tmp_path.iterdir()]


# ---- pipelines, parameters, files ---------------------------------------------------------------


@pytest.mark.parametrize("other", ["another fit", "grown", "not fitted"])
def test_a_pipeline_must_hold_the_sequencer_of_its_encoder(X, y, other):
    pipeline = make_pipeline(TripletSequencer(), make()).fit(X)
    if other == "grown":
        pipeline[0].add_codes({"q": {"kind": "presence"}})
    else:
        sequencer = TripletSequencer()
        pipeline.steps[0] = (
            "tripletsequencer",
            sequencer if other == "not fitted" else sequencer.fit(X.iloc[60:]),
        )
    with pytest.raises(ValueError, match="the one that the encoder was pretrained with"):
        tune(pipeline).fit(X, y)


def test_parameters_of_the_encoder_are_its_own(encoder, X, y):
    model = tune(encoder)
    with pytest.raises(ValueError, match="the encoder is shared"):
        clone(model).set_params(pretrained__max_epochs=77)
    assert encoder.max_epochs == SMALL["max_epochs"]


def test_a_model_of_a_frozen_encoder_can_be_saved(encoder, X, y, tmp_path):
    model = tune(FrozenEstimator(encoder)).fit(X, y)
    with pytest.warns(DataWarning, match="pretrained is not saved"):
        model.save(tmp_path / "model.tawt")
    loaded = load(tmp_path / "model.tawt", device="cpu")
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))


# ---- what layers learn --------------------------------------------------------------------------


def test_the_pooling_belongs_to_the_encoder(encoder, X, y):
    model = tune(encoder, encoder_learning_rate=0.0, max_epochs=3).fit(X, y)
    tuned, start = model.nets_[0].weights(), encoder.net_.weights()
    for name, tensor in tuned.items():
        if name.startswith("readout."):
            original = start["pooling." + name.removeprefix("readout.")]
            np.testing.assert_allclose(tensor, original, atol=1e-6)


# ---- objectives ---------------------------------------------------------------------------------


def test_a_contrastive_score_does_not_depend_on_the_batch_size(X):
    encoder = make(objective="contrastive").fit(X)
    other = deepcopy(encoder).set_params(batch_size=4)
    assert other.score(X) == encoder.score(X)


def test_lists_of_masks_and_augmentations_are_tuples(X, tmp_path):
    objectives = {MaskedReconstruction(masks=[HideEvents()]): 1.0, Contrastive([]): 0.1}
    encoder = make(objective=objectives).fit(X)
    encoder.save(tmp_path / "encoder.tawt")
    loaded = TimeAwareEncoder.load(tmp_path / "encoder.tawt", device="cpu")
    np.testing.assert_array_equal(loaded.transform(X), encoder.transform(X))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: MaskedReconstruction(masks=HideEvents()),
        lambda: MaskedReconstruction(masks=("events",)),
        lambda: Contrastive(augmentations=("jitter",)),
        lambda: HideEvents("a"),
    ],
)
def test_what_is_no_mask_is_refused(wrong):
    with pytest.raises(TypeError, match="Expected"):
        wrong()


def test_categories_that_were_not_learned_are_not_made_up(X):
    encoder = make(objective=MaskedReconstruction(category=0)).fit(X)
    text = encoder.reconstruct(X)["events"].array.text
    assert text is None or (text == -1).all()


def test_a_known_category_is_filled_in_for_every_event_with_one(encoder, X):
    rebuilt = encoder.reconstruct(X)["events"].array
    named = X["events"].array.text >= 0
    assert (rebuilt.text[named] >= 0).all()


def test_calibration_does_not_hold_out_rows_that_the_networks_have_seen(encoder, X, y):
    model = tune(encoder, fine_tune="head", warm_start=True, calibrate=True).fit(X, y)
    with pytest.raises(ValueError, match="they have seen the rows"):
        model.fit(X, y)


def test_no_weight_is_saved_twice(encoder):
    weights = encoder.net_._to_saved()["weights"]
    assert not any(name.startswith("narrow.") for name in weights)
