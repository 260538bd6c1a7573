"""A pretrained encoder learns new codes and says the same of everything it knew."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import make_pipeline

import tawt_sklearn
from tawt_sklearn import TimeAwareClassifier, TimeAwareEncoder, TripletSequencer
from tawt_sklearn.datasets import make_icu_stays
from tawt_sklearn.exceptions import DataError, DataWarning
from tawt_sklearn.nn.pooling import POOLINGS
from tawt_sklearn.tokens.vocabulary import N_SPECIAL

SMALL: dict[str, Any] = {
    "d_model": 8,
    "n_heads": 2,
    "n_layers": 1,
    "n_windows": 4,
    "max_epochs": 1,
    "batch_size": 32,
    "random_state": 0,
    "device": "cpu",
}
NEW = {
    "Ferritin": {"kind": "numeric", "center": 100.0, "scale": 50.0},
    "Mood": {
        "kind": "categorical",
        "categories": ["atrial fibrillation", "paced", "sinus", "ventricular tachycardia"],
    },
}


def make(**parameters: Any) -> TimeAwareEncoder:
    return TimeAwareEncoder(**({**SMALL, "min_steps": 0, "d_embedding": 12} | parameters))


def classifier(encoder: Any, **parameters: Any) -> TimeAwareClassifier:
    return TimeAwareClassifier(pretrained=encoder, n_ensemble=1, **(SMALL | parameters))


def copy_of(encoder: Any) -> Any:
    return pickle.loads(pickle.dumps(encoder))


@pytest.fixture(scope="module")
def cohort() -> tuple[pd.DataFrame, pd.Series]:
    X, y = make_icu_stays(70, random_state=0)
    return X.assign(events=X["events"].events.until(12.0)), y


@pytest.fixture(scope="module")
def X(cohort) -> pd.DataFrame:
    return cohort[0]


@pytest.fixture(scope="module")
def y(cohort) -> pd.Series:
    return cohort[1]


@pytest.fixture(scope="module")
def with_new(X) -> pd.DataFrame:
    """The same stays, in which two codes come under new names."""
    array: Any = X["events"].array
    names = {"HR": "Ferritin", "Rhythm": "Mood"}
    return X.assign(events=array._replace(codes=array.codes.map(lambda c: names.get(c, c))))


@pytest.fixture(scope="module")
def encoder(X) -> TimeAwareEncoder:
    """Fitted once; tests grow copies of it."""
    return make().fit(X)


def weights(encoder: TimeAwareEncoder) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in encoder.net_.weights().items()}


# ---- what stays --------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["settings", "histories"])
def test_embeddings_of_known_codes_stay_what_they_were(encoder, X, with_new, how):
    grown = copy_of(encoder)
    assert grown.add_codes(NEW if how == "settings" else with_new) is grown
    before, after = encoder.preparation_.vocabulary, grown.preparation_.vocabulary
    assert set(after.codes) - set(before.codes) == {"Ferritin", "Mood"}
    assert after.codes[: len(before)] == before.codes
    np.testing.assert_array_equal(grown.transform(X), encoder.transform(X))
    for per in ("window", "event"):
        steps = [one.transform_steps(X, per=per)["events"].events for one in (encoder, grown)]
        np.testing.assert_array_equal(*(one.flat("value") for one in steps))
    np.testing.assert_array_equal(grown.transform(X.iloc[:3]), encoder.transform(X.iloc[:3]))


def test_new_codes_are_unknown_before_and_have_influence_after(encoder, with_new):
    with pytest.warns(DataWarning, match="unknown"):
        unknown = encoder.transform(with_new)
    grown = copy_of(encoder).add_codes(NEW)
    known = grown.transform(with_new)  # without a warning
    assert np.isfinite(known).all() and not np.array_equal(known, unknown)
    assert "Ferritin" not in encoder.preparation_.vocabulary.token_of


@pytest.mark.parametrize("pooling", POOLINGS)
def test_every_pooling_grows(X, with_new, pooling):
    encoder = make(pooling=pooling).fit(X)
    before = encoder.transform(X)
    grown = encoder.add_codes(NEW)
    np.testing.assert_array_equal(grown.transform(X), before)
    assert grown.transform(with_new).shape == before.shape


@pytest.mark.parametrize("limit", ["below", "crossing", "above"])
def test_growing_across_the_number_of_feature_patches(X, with_new, encoder, limit):
    V = len(encoder.preparation_.vocabulary)
    patches = {"below": V + 5, "crossing": V + 1, "above": V - 3}[limit]
    small = make(max_feature_patches=patches).fit(X)
    before = small.transform(X)
    grown = copy_of(small).add_codes(NEW)
    np.testing.assert_array_equal(grown.transform(X), before)
    mixed = pd.concat([X.iloc[:20], with_new.iloc[20:40]])
    np.testing.assert_allclose(grown.transform(mixed)[:20], before[:20], atol=1e-5)
    again = grown.partial_fit(with_new)
    assert np.isfinite(again.transform(with_new)).all()


def test_predictions_of_a_fine_tuned_classifier_stay(encoder, X, y):
    tuned = classifier(encoder).fit(X, y)
    before = tuned.predict_proba(X)
    grown = copy_of(encoder).add_codes(NEW)
    np.testing.assert_array_equal(tuned.predict_proba(X), before)
    head, grown_head = (classifier(e, fine_tune="head").fit(X, y) for e in (encoder, grown))
    np.testing.assert_allclose(grown_head.predict_proba(X), head.predict_proba(X), atol=1e-9)


# ---- what new codes start from -----------------------------------------------------------------

TABLES = (
    "backbone.feature_patches.scale.weight",
    "backbone.feature_patches.shift.weight",
    "backbone.temporal_patches.code",
    "tasks.masked.decoder.value.weight",
)


@pytest.mark.parametrize("table", TABLES)
def test_a_new_code_starts_from_the_mean_a_similar_one_or_chance(encoder, table):
    known = weights(encoder)[table]
    V = len(known)
    tokens = encoder.preparation_.vocabulary.token_of
    mean = weights(copy_of(encoder).add_codes(NEW))[table]
    np.testing.assert_array_equal(mean[:V], known)
    np.testing.assert_allclose(mean[V], known[N_SPECIAL:].mean(axis=0), atol=1e-6)
    np.testing.assert_array_equal(mean[V], mean[V + 1])
    like = {"Ferritin": "Lactate", "Mood": "Rhythm"}
    similar = weights(copy_of(encoder).add_codes(NEW, init="similar", like=like))[table]
    np.testing.assert_array_equal(similar[V], known[tokens["Lactate"]])
    np.testing.assert_array_equal(similar[V + 1], known[tokens["Rhythm"]])
    chance = [weights(copy_of(encoder).add_codes(NEW, init="random"))[table] for _ in range(2)]
    np.testing.assert_array_equal(*chance)
    assert not np.allclose(chance[0][V], chance[0][V + 1])
    np.testing.assert_array_equal(chance[0][:V], known)


def test_like_alone_says_what_some_new_codes_start_from(encoder):
    table = TABLES[0]
    grown = weights(copy_of(encoder).add_codes(NEW, like={"Ferritin": "Lactate"}))[table]
    known = weights(encoder)[table]
    lactate = encoder.preparation_.vocabulary.token_of["Lactate"]
    np.testing.assert_array_equal(grown[-2], known[lactate])
    np.testing.assert_allclose(grown[-1], known[N_SPECIAL:].mean(axis=0), atol=1e-6)


@pytest.mark.parametrize(
    ("codes", "options", "message"),
    [
        (NEW, {"init": "zeros"}, "init to be one of mean, random, similar. Got 'zeros'"),
        (NEW, {"init": "similar"}, "like to name a known code for every new one"),
        (NEW, {"like": {"Iron": "HR"}}, "Got 'Iron', which is not among the 2 new codes"),
        (NEW, {"like": {"Ferritin": "Iron"}}, "Got 'Iron', which it does not know"),
        ({"HR": {"kind": "presence"}}, {}, "new to the vocabulary. Got 'HR'"),
        ({"Ferritin": {}}, {}, "expected 'kind'"),
        ("Ferritin", {}, "Got names alone"),
        (TripletSequencer(), {}, "Expected codes: this encoder has tokenised"),
    ],
)
def test_what_cannot_be_added_is_named_and_changes_nothing(encoder, X, codes, options, message):
    grown = copy_of(encoder)
    with pytest.raises((DataError, ValueError), match=message):
        grown.add_codes(codes, **options)
    assert grown.preparation_.vocabulary == encoder.preparation_.vocabulary
    np.testing.assert_array_equal(grown.transform(X.iloc[:5]), encoder.transform(X.iloc[:5]))


def test_an_encoder_must_be_fitted_to_grow():
    for ask in (make().add_codes, make().rename_codes):
        with pytest.raises(ValueError, match="not fitted yet"):
            ask(NEW)


def test_nothing_new_changes_nothing(encoder, X):
    grown = copy_of(encoder)
    net = grown.net_
    for nothing in ({}, X):
        with pytest.warns(DataWarning, match="nothing was added"):
            assert grown.add_codes(nothing).net_ is net


# ---- the sequencer as a step of its own --------------------------------------------------------


def test_a_sequencer_outside_grows_first(X, with_new):
    pipeline = make_pipeline(TripletSequencer(), make()).fit(X)
    sequencer, encoder = pipeline
    before = pipeline.transform(X)
    with pytest.raises(DataError, match="Call sequencer.add_codes"):
        encoder.add_codes(NEW)
    with pytest.raises(DataError, match="whose vocabulary does not begin with that of fit"):
        encoder.add_codes(TripletSequencer().fit(X.iloc[:20]))
    with pytest.raises(DataError, match="whose vocabulary does not begin with that of fit"):
        encoder.add_codes(TripletSequencer())
    sequencer.add_codes(NEW)
    with pytest.raises(DataError, match="another vocabulary"):
        pipeline.transform(X)
    encoder.add_codes(sequencer)
    np.testing.assert_array_equal(pipeline.transform(X), before)
    assert np.isfinite(pipeline.transform(with_new)).all()
    encoder.partial_fit(sequencer.transform(with_new))
    assert not np.array_equal(pipeline.transform(with_new), before)


# ---- going on ----------------------------------------------------------------------------------


def test_training_goes_on_with_the_new_codes(encoder, with_new):
    grown = copy_of(encoder).add_codes(NEW)
    V = len(encoder.preparation_.vocabulary)
    before, embedded = weights(grown), grown.transform(with_new)
    grown.partial_fit(with_new)
    after = weights(grown)
    for table in TABLES:
        assert not np.allclose(after[table][V:], before[table][V:]), table
    assert not np.allclose(after["backbone.feature_patches.category.weight"][-2:], 0)
    assert not np.array_equal(grown.transform(with_new), embedded)
    assert grown.history_["epoch"].tolist() == [1, 2]


def test_growing_twice(encoder, X, with_new):
    grown = copy_of(encoder).add_codes(NEW).partial_fit(with_new)
    before, of_new = grown.transform(X), grown.transform(with_new)
    grown.add_codes({"Iron": {"kind": "presence"}}, init="similar", like={"Iron": "Ferritin"})
    np.testing.assert_array_equal(grown.transform(X), before)
    # There is one more place among their patches, which stays empty: sums are rounded otherwise.
    np.testing.assert_allclose(grown.transform(with_new), of_new, atol=1e-5)
    assert grown.preparation_.vocabulary.codes[-3:] == ("Ferritin", "Mood", "Iron")


@pytest.mark.parametrize("how", ["save", "pickle"])
def test_a_grown_encoder_can_be_stored(encoder, with_new, how, tmp_path):
    grown = copy_of(encoder).add_codes(NEW)
    if how == "save":
        grown.save(tmp_path / "encoder.tawt")
        again = tawt_sklearn.load(tmp_path / "encoder.tawt", "cpu")
    else:
        again = copy_of(grown)
    np.testing.assert_array_equal(again.transform(with_new), grown.transform(with_new))
    ours, theirs = (one.partial_fit(with_new).transform(with_new) for one in (grown, again))
    np.testing.assert_array_equal(ours, theirs)


def test_a_classifier_is_fine_tuned_from_a_grown_encoder(encoder, with_new, y):
    grown = copy_of(encoder).add_codes(NEW).partial_fit(with_new)
    for fine_tune in ("head", "full", "gradual"):
        tuned = classifier(grown, fine_tune=fine_tune, max_epochs=2).fit(with_new, y)
        assert np.isfinite(tuned.predict_proba(with_new)).all()
    again = copy_of(tuned)
    np.testing.assert_array_equal(again.predict_proba(with_new), tuned.predict_proba(with_new))


# ---- other names, fewer codes ------------------------------------------------------------------


def test_renamed_codes_mean_what_they_meant(encoder, X, with_new):
    renamed = copy_of(encoder).rename_codes({"HR": "Ferritin", "Rhythm": "Mood"})
    np.testing.assert_array_equal(renamed.transform(with_new), encoder.transform(X))
    assert "HR" not in renamed.preparation_.vocabulary.token_of
    with pytest.warns(DataWarning, match="unknown"):
        renamed.transform(X)
    with pytest.raises(DataError):
        renamed.rename_codes({"HR": "Pulse"})
    assert "HR" in encoder.preparation_.vocabulary.token_of


def test_renaming_and_growing(encoder, X):
    grown = copy_of(encoder).rename_codes({"HR": "Pulse"}).add_codes({"HR": NEW["Ferritin"]})
    assert np.isfinite(grown.transform(X)).all()
    assert not np.array_equal(grown.transform(X), encoder.transform(X))


def test_codes_that_are_no_longer_used_just_do_not_occur(encoder, X):
    long = X["events"].events.to_long()
    fewer = tawt_sklearn.nest_events(
        long[~long["code"].isin(["Lactate", "Rhythm"])], until=12.0, static=X.drop(columns="events")
    )
    assert np.isfinite(encoder.transform(fewer)).all()
    assert np.isfinite(copy_of(encoder).partial_fit(fewer).transform(fewer)).all()
