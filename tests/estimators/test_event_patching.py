"""``patching="event"`` through everything that an estimator does."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from tawt_sklearn import TimeAwareClassifier, TimeAwareEncoder, TimeAwareRegressor
from tawt_sklearn.datasets import make_sensor_panels

SMALL = {
    "patching": "event",
    "d_model": 8,
    "n_heads": 2,
    "n_layers": 1,
    "n_windows": 4,
    "max_epochs": 2,
    "min_steps": 0,
    "random_state": 0,
    "device": "cpu",
}


@pytest.fixture(scope="module")
def encoder(_cohort):
    return TimeAwareEncoder(**SMALL).fit(_cohort[0])


@pytest.mark.parametrize("settings", [{}, {"attention_window": 5}, {"max_feature_patches": 3}])
def test_a_classifier_learns_and_is_kept(X, y, tmp_path, settings):
    clf = TimeAwareClassifier(**SMALL, **settings, n_ensemble=2).fit(X, y)
    probability = clf.predict_proba(X)
    assert probability.shape == (160, 2) and np.isfinite(probability).all()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(clf)).predict_proba(X), probability)
    clf.save(tmp_path / "model.tawt")
    again = TimeAwareClassifier.load(tmp_path / "model.tawt", device="cpu")
    np.testing.assert_array_equal(again.predict_proba(X), probability)
    again = TimeAwareClassifier(**SMALL, **settings, n_ensemble=2).fit(X, y)
    np.testing.assert_array_equal(again.predict_proba(X), probability)


def test_a_row_is_predicted_alone_as_among_others(X, y):
    clf = TimeAwareClassifier(**SMALL, n_ensemble=1).fit(X, y)
    whole = clf.predict_proba(X)
    np.testing.assert_allclose(clf.predict_proba(X.iloc[[7]]), whole[[7]], atol=1e-6)
    np.testing.assert_allclose(clf.predict_proba(X.iloc[::-1])[::-1], whole, atol=1e-6)


def test_a_regressor_learns(X):
    hours = X["events"].events.lengths / 10
    reg = TimeAwareRegressor(**SMALL, n_ensemble=1).fit(X, hours)
    assert np.isfinite(reg.predict(X)).all()


@pytest.mark.parametrize(
    "objective, pooling",
    [("masked", "codes"), ("contrastive", "attention"), ("forecast", "max")],
)
def test_every_objective_and_pooling(X, objective, pooling):
    made = TimeAwareEncoder(**SMALL, objective=objective, pooling=pooling).fit(X.iloc[:60])
    embedded = made.transform(X.iloc[:5])
    assert np.isfinite(np.asarray(embedded)).all() and len(embedded) == 5


def test_events_and_windows_have_embeddings(encoder, X):
    events = encoder.transform_steps(X, per="event")["events"].events
    np.testing.assert_array_equal(events.lengths, 8 * X["events"].events.lengths)
    windows = encoder.transform_steps(X, per="window")["events"].events
    assert (windows.lengths <= 8 * 4).all()


def test_hidden_events_are_rebuilt(encoder, X):
    again = encoder.reconstruct(X.iloc[:3])
    np.testing.assert_array_equal(
        again["events"].events.lengths, X["events"].iloc[:3].events.lengths
    )


def test_a_vocabulary_that_grows_changes_nothing_known(encoder, X):
    grown = pickle.loads(pickle.dumps(encoder))
    before = np.asarray(grown.transform(X))
    grown.add_codes({"brand_new": {"kind": "presence"}})
    np.testing.assert_allclose(np.asarray(grown.transform(X)), before, atol=1e-5)


@pytest.mark.parametrize("fine_tune", ["full", "head", "gradual"])
def test_fine_tuning(encoder, X, y, fine_tune):
    clf = TimeAwareClassifier(
        pretrained=encoder,
        fine_tune=fine_tune,
        max_epochs=1,
        n_ensemble=1,
        random_state=0,
        device="cpu",
    ).fit(X, y)
    assert np.isfinite(clf.predict_proba(X)).all()
    assert clf.nets_[0].module_.backbone.event_tokens is not None


def test_an_encoder_decides_its_window(X, y):
    near = TimeAwareEncoder(**SMALL, attention_window=5).fit(X)
    settings = {"max_epochs": 1, "n_ensemble": 1, "device": "cpu", "random_state": 0}
    clf = TimeAwareClassifier(pretrained=near, **settings).fit(X, y)
    assert clf.nets_[0].module_.backbone.attention_window == 5
    with pytest.raises(ValueError, match="attention_window=5, as the encoder was pretrained"):
        TimeAwareClassifier(pretrained=near, attention_window=6, **settings).fit(X, y)


def test_panels_have_no_events():
    X, y = make_sensor_panels(20, random_state=0)
    with pytest.raises(ValueError, match=r'Got "event", which is for event histories'):
        TimeAwareClassifier(**SMALL).fit(X, y)
    with pytest.raises(ValueError, match=r'Got "event", which is for event histories'):
        TimeAwareEncoder(**SMALL).fit(X)


def test_patches_have_no_attention_window(X, y):
    with pytest.raises(ValueError, match='attention_window=None unless patching="event"'):
        TimeAwareClassifier(attention_window=5).fit(X, y)
