"""Sensor panels: categorical channels, temporal patches, odd shapes, encoders, few labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from torch import nn

import tawt_sklearn
from tawt_sklearn import TimeAwareEncoder, TimeAwareRegressor, TimeEmbedder, as_events
from tawt_sklearn.datasets import make_sensor_panels
from tawt_sklearn.events.panels import Panel
from tawt_sklearn.exceptions import DataError, DataWarning
from tawt_sklearn.objectives import (
    HideCodes,
    HideEvents,
    HideRuns,
    HideWindows,
    MaskedReconstruction,
)

N, C, T = 40, 4, 10
STATE = 1
"""The categorical channel, neither the first nor the last."""

SMALL: dict[str, Any] = {
    "d_model": 8,
    "n_heads": 2,
    "n_layers": 1,
    "n_windows": 4,
    "d_embedding": 8,
    "max_epochs": 1,
    "min_steps": 4,
    "random_state": 0,
    "device": "cpu",
}


def make_encoder(**parameters: Any) -> TimeAwareEncoder:
    return TimeAwareEncoder(**(SMALL | parameters))


def tuned_numbers(**parameters: Any) -> TimeAwareRegressor:
    quick = {"max_epochs": 1, "min_steps": 4, "n_ensemble": 1, "random_state": 0, "device": "cpu"}
    return TimeAwareRegressor(**(quick | parameters))


def refuses(model, X, y, message, error=ValueError):
    with pytest.raises(error, match=message):
        model.fit(X, y)
    assert vars(model) == model.get_params(deep=False)


@pytest.fixture(scope="module")
def panel() -> np.ndarray:
    """40 cases, 10 steps; channel 1 holds the codes 2, 3 and 10; a tenth is missing."""
    rng = np.random.default_rng(0)
    panel = rng.normal(size=(N, C, T))
    panel[:, STATE] = rng.choice([2.0, 3.0, 10.0], size=(N, T), p=[0.2, 0.3, 0.5])
    panel[rng.random(panel.shape) < 0.1] = np.nan
    panel.flags.writeable = False
    return panel


@pytest.fixture(scope="module")
def classes(panel) -> np.ndarray:
    """Whether a case is often in state 3."""
    share = (panel[:, STATE] == 3).mean(axis=1)
    return (share > np.median(share)).astype(int)


@pytest.fixture(scope="module")
def ragged(panel) -> list[np.ndarray]:
    return [case[:, : 4 + k % 7] for k, case in enumerate(panel)]


@pytest.fixture(scope="module")
def encoder(panel) -> TimeAwareEncoder:
    """Fitted once; tests leave it as it is."""
    return make_encoder(categorical_features=[STATE], patch_length=[2, 6]).fit(panel)


# ---- categorical channels ----------------------------------------------------------------------


def test_every_way_to_name_a_categorical_channel(panel, classes, quick):
    clf = quick(categorical_features=[STATE]).fit(panel, classes)
    p = clf.predict_proba(panel)
    assert clf.preparation_.categorical == [STATE]
    assert clf.preparation_.labels == [["10", "3", "2"]], "by falling frequency"
    mask = np.arange(C) == STATE
    for given in (np.array([STATE]), mask.tolist(), ["channel_1"]):
        same = quick(categorical_features=given).fit(panel, classes)
        np.testing.assert_array_equal(same.predict_proba(panel), p)
    numeric = quick().fit(panel, classes)
    assert numeric.preparation_.categorical == []
    assert not np.allclose(numeric.predict_proba(panel), p)
    np.testing.assert_array_equal(
        quick(categorical_features=[]).fit(panel, classes).predict_proba(panel),
        numeric.predict_proba(panel),
    )


@pytest.mark.parametrize("renamed", [{2: 7, 3: 8, 10: 9}, {2: -5, 3: 0, 10: 1000}, {2: 9, 3: 5}])
def test_the_names_of_the_categories_do_not_matter(panel, classes, renamed, quick):
    """Nor does their order: they are told apart by how often they occur."""
    other = panel.copy()
    for old, new in renamed.items():
        other[:, STATE][panel[:, STATE] == old] = new
    p = quick(categorical_features=[STATE]).fit(panel, classes).predict_proba(panel)
    clf = quick(categorical_features=[STATE]).fit(other, classes)
    np.testing.assert_array_equal(clf.predict_proba(other), p)


def test_a_class_that_hangs_on_a_category_is_learned(quick):
    """State 1 of 0, 1, 2 lies in the middle, where no monotone function of the code tells it."""
    rng = np.random.default_rng(0)
    y = np.arange(120) % 2
    X = rng.normal(size=(120, 2, 8))
    X[:, 0] = np.where(y[:, None] == 1, 1, rng.choice([0, 2], (120, 8)))
    X[:, 0] = np.where(rng.random((120, 8)) < 0.4, rng.integers(0, 3, (120, 8)), X[:, 0])
    settings = {"min_steps": 60, "learning_rate": 0.02, "dropout": 0.0}
    clf = quick(categorical_features=[0], **settings).fit(X[:80], y[:80])
    assert clf.score(X[80:], y[80:]) > 0.8


def test_a_category_that_fit_has_not_seen(panel, classes, quick):
    clf = quick(categorical_features=[STATE]).fit(panel, classes)
    new = panel.copy()
    new[3, STATE, 2:5] = 77
    with pytest.warns(DataWarning, match=r"3 values of categorical channels.*'channel_1' \(3\)"):
        p = clf.predict_proba(new)
    assert np.isfinite(p).all()
    others = np.arange(N) != 3
    np.testing.assert_allclose(p[others], clf.predict_proba(panel)[others], atol=1e-9)
    new[3, STATE, 2:5] = 78
    with pytest.warns(DataWarning):
        np.testing.assert_array_equal(clf.predict_proba(new), p)


def test_a_missing_category_is_neither_a_category_nor_an_unseen_one(panel, classes, quick):
    clf = quick(categorical_features=[STATE]).fit(panel, classes)
    holed, other = panel.copy(), panel.copy()
    holed[3, STATE] = np.nan
    other[3, STATE] = 77
    p = clf.predict_proba(holed)
    assert np.isfinite(p).all() and not np.allclose(p[3], clf.predict_proba(panel)[3])
    with pytest.warns(DataWarning):
        assert not np.allclose(clf.predict_proba(other)[3], p[3])


def test_whole_numbers_as_integers_truth_values_or_objects(classes, quick):
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 2, (N, 2, T))
    p = quick(categorical_features=[0, 1]).fit(codes, classes).predict_proba(codes)
    for given in (codes.astype(float), codes.astype(bool), codes.astype(object),
                  codes.astype(np.float32), codes.tolist()):  # fmt: skip
        clf = quick(categorical_features=[0, 1]).fit(given, classes)
        np.testing.assert_array_equal(clf.predict_proba(given), p)
    listed = quick(categorical_features=[0, 1]).fit(list(codes), classes)
    np.testing.assert_array_equal(listed.predict_proba(list(codes)), p)


@pytest.mark.parametrize("patching", ["time", "feature", "dual"])
def test_nothing_but_categories(panel, classes, patching, quick):
    X = panel[:, [STATE, STATE]]
    for y in (classes, (np.nan_to_num(X[:, 0]) == 3).astype(int)):
        clf = quick(categorical_features=[0, 1], patching=patching).fit(X, y)
        assert np.isfinite(clf.predict_proba(X)).all()


def test_fractions_in_a_categorical_channel(panel, ragged, classes, quick):
    odd = panel.copy()
    odd[3, STATE, 4] = 2.5
    message = r"whole numbers in 'channel_1', which categorical_features.*2.5 in case 3, step 4"
    refuses(quick(categorical_features=[STATE]), odd, classes, message, DataError)
    refuses(make_encoder(categorical_features=[STATE]), odd, None, message, DataError)
    clf = quick(categorical_features=[STATE]).fit(panel, classes)
    for X in (odd, list(odd)):
        with pytest.raises(DataError, match=message):
            clf.predict(X)
    cut = [case.copy() for case in ragged]
    cut[8][STATE, 4] = 2.5
    with pytest.raises(DataError, match="2.5 in case 8, step 4"):
        clf.predict(cut)


@pytest.mark.parametrize(
    "wrong", [[C], [-1], ["no_such"], [1.0], [True, False], [[1]], [None], "all", 1]
)
def test_channels_that_there_are_not(panel, classes, wrong, quick):
    refuses(quick(categorical_features=wrong), panel, classes, "categorical_features")


def test_event_histories_have_no_channels(panel, classes, quick):
    events = as_events(panel)
    for name, value in (("categorical_features", [STATE]), ("patch_length", 3)):
        message = f"{name}=None with event histories"
        refuses(quick(**{name: value}), events, classes, message)
        refuses(make_encoder(**{name: value}), events, None, message)


def test_settings_of_panels_are_those_of_the_last_fit(panel, classes, quick):
    for name, now, then in (("categorical_features", [STATE], None), ("patch_length", 4, 2),
                            ("n_windows", 3, 4)):  # fmt: skip
        for going_on in ("partial_fit", "fit"):
            clf = (
                quick(warm_start=True, **{name: then}).fit(panel, classes).set_params(**{name: now})
            )
            with pytest.raises(ValueError, match=f"Expected {name} of the last fit"):
                getattr(clf, going_on)(panel, classes)
            clf.set_params(**{name: then})
            assert getattr(clf, going_on)(panel, classes).n_iter_ > 2


def test_channels_in_another_order(quick):
    """The categorical ones move along, and a class is found wherever its channel is."""
    X, y = make_sensor_panels(120, 2, 1, 16, missing=0.1, random_state=0)
    y = (np.nanmean(X[:, 0], axis=1) > 0).astype(int)
    settings = {"min_steps": 60, "learning_rate": 0.02, "dropout": 0.0}
    for order in ([0, 1, 2], [2, 0, 1]):
        moved = X[:, order]
        clf = quick(categorical_features=[order.index(2)], **settings).fit(moved[:80], y[:80])
        assert clf.preparation_.categorical == [order.index(2)]
        assert clf.score(moved[80:], y[80:]) > 0.8
        np.testing.assert_allclose(
            clf.preparation_.center[[order.index(0), order.index(1)]],
            np.nanmedian(X[:80, :2], axis=(0, 2)),
        )


# ---- what is missing ---------------------------------------------------------------------------


@pytest.mark.parametrize("channel", [0, STATE])
def test_a_channel_that_was_empty_in_fit(panel, classes, channel, quick):
    holed = panel.copy()
    holed[:, channel] = np.nan
    clf = quick(categorical_features=[STATE]).fit(holed, classes)
    p = clf.predict_proba(holed)
    assert np.isfinite(p).all()
    with pytest.warns(DataWarning, match=f"Got values in channel_{channel}, which had none there"):
        np.testing.assert_array_equal(clf.predict_proba(panel), p)
    encoder = make_encoder(categorical_features=[STATE]).fit(holed)
    with pytest.warns(DataWarning, match=f"channel_{channel}"):
        np.testing.assert_array_equal(encoder.transform(panel), encoder.transform(holed))


@pytest.mark.parametrize("channel", [0, STATE])
def test_a_channel_that_is_empty_at_predict(panel, classes, channel, quick):
    clf = quick(categorical_features=[STATE]).fit(panel, classes)
    holed = panel.copy()
    holed[:, channel] = np.nan
    p = clf.predict_proba(holed)
    assert np.isfinite(p).all() and not np.allclose(p, clf.predict_proba(panel))
    assert np.isfinite(clf.predict_proba(np.full_like(panel, np.nan))).all()


def test_a_row_without_a_value(panel, ragged, classes, quick):
    clf = quick(categorical_features=[STATE]).fit(panel, classes)
    holed = panel.copy()
    holed[3] = np.nan
    p = clf.predict_proba(holed)
    others = np.arange(N) != 3
    np.testing.assert_allclose(p[others], clf.predict_proba(panel)[others], atol=1e-9)
    assert np.isfinite(p[3]).all()
    assert np.isfinite(quick().fit(holed, classes).predict_proba(holed)).all()
    emptied = [*ragged[:-1], np.empty((C, 0))]
    assert np.isfinite(quick().fit(emptied, classes).predict_proba(emptied)).all()
    assert np.isfinite(make_encoder().fit(emptied).transform(emptied)).all()


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinite_values(panel, ragged, classes, value, quick):
    clf, encoder = quick().fit(panel, classes), make_encoder().fit(panel)
    odd = panel.copy()
    odd[6, 2, 3] = value
    cut = [case.copy() for case in ragged]
    cut[6][2, 3] = value
    for X, message in ((odd, "X contains infinity"), (list(odd), "infinity, first in case 6, step"),
                       (cut, "infinity, first in case 6, step 3")):  # fmt: skip
        refuses(quick(), X, classes, message)
        refuses(make_encoder(), X, None, message)
        for ask in (clf.predict, encoder.transform, encoder.reconstruct):
            with pytest.raises(ValueError, match=message):
                ask(X)


# ---- shapes ------------------------------------------------------------------------------------


def test_answers_of_lists_do_not_depend_on_the_batch(ragged, classes, quick):
    clf = quick(categorical_features=[STATE], patch_length=[2, 6]).fit(ragged, classes)
    p = clf.predict_proba(ragged)
    rng = np.random.default_rng(0)
    for size in (1, 2, 17):
        rows = rng.choice(N, size, replace=False)
        some = clf.predict_proba([ragged[k] for k in rows])
        np.testing.assert_allclose(some, p[rows], rtol=0, atol=1e-9)
    long = [*ragged, np.zeros((C, 70))]
    with pytest.warns(DataWarning, match="channel_1"):
        np.testing.assert_allclose(clf.predict_proba(long)[:N], p, rtol=0, atol=1e-9)
    many = clf.predict_proba(ragged * 4)
    np.testing.assert_allclose(many, np.tile(p, (4, 1)), rtol=0, atol=1e-9)


@pytest.mark.parametrize("patching", ["time", "feature", "dual"])
def test_series_of_other_lengths_than_in_fit(panel, ragged, classes, patching, quick):
    clf = quick(categorical_features=[STATE], patching=patching).fit(panel, classes)
    p = clf.predict_proba(panel)
    np.testing.assert_allclose(clf.predict_proba(list(panel)), p, rtol=0, atol=1e-9)
    for X in (np.concatenate([panel] * 5, axis=2), panel[:, :, :1], panel[:, :, -3:], ragged):
        assert np.isfinite(clf.predict_proba(X)).all()


@pytest.mark.parametrize("patching", ["time", "feature", "dual"])
def test_one_step(panel, classes, patching, quick):
    X = panel[:, :, :1]
    pooling = "mean" if patching == "time" else "codewise"
    clf = quick(categorical_features=[STATE], patching=patching).fit(X, classes)
    assert np.isfinite(clf.predict_proba(X)).all() and np.isfinite(clf.predict_proba(panel)).all()
    encoder = make_encoder(categorical_features=[STATE], patching=patching, pooling=pooling).fit(X)
    assert np.isfinite(encoder.transform(panel)).all()
    assert encoder.reconstruct(X).shape == X.shape


def test_time_before_channels(panel, ragged, classes, quick):
    swapped, message = panel.swapaxes(1, 2), "with time before channels: pass "
    clf, encoder = quick().fit(panel, classes), make_encoder().fit(panel)
    for ask in (clf.predict, clf.predict_proba, encoder.transform, encoder.transform_steps):
        with pytest.raises(DataError, match=message + r"X.swapaxes\(1, 2\)"):
            ask(swapped)
        with pytest.raises(DataError, match=message + r"\[x.T for x in X\]"):
            ask(list(swapped))
        with pytest.raises(DataError, match=r"\(n_timepoints, n_channels\): pass \[x.T for"):
            ask([case.T for case in ragged])
    with pytest.raises(DataError, match=r"pass \[x.T for x in X\]"):
        clf.partial_fit([case.T for case in ragged], classes)


def test_arrays_of_objects_that_hold_arrays(panel, ragged, classes, quick):
    boxed = np.empty(N, object)
    boxed[:] = ragged
    p = quick().fit(ragged, classes).predict_proba(ragged)
    np.testing.assert_array_equal(quick().fit(boxed, classes).predict_proba(boxed), p)
    table = np.empty((N, C), object)
    for k, c in np.ndindex(N, C):
        table[k, c] = ragged[k][c]
    refuses(quick(), table, classes, "Pass series of different lengths as a list of arrays")
    with pytest.raises(ValueError, match="as a list of arrays"):
        quick().fit(panel, classes).predict(table)


def test_lists_that_are_no_panels(panel, classes, quick):
    for X, message in (
        ([*panel[:-1], panel[-1][:2]], "the same number of channels"),
        ([*panel[:-1], panel[-1].tolist()], "Expected arrays of shape.*Got list among them"),
        ([*panel[:-1], panel[-1][None]], "Expected arrays of shape"),
        (list(np.empty((N, C, 0))), "at least one time point"),
        (list(np.empty((N, 0, T))), "at least one time point and one channel"),
        ([case.astype(str) for case in panel], "array of numbers"),
    ):
        refuses(quick(), X, classes, message)
        refuses(make_encoder(), X, None, message)


# ---- temporal patches --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given, strides",
    [
        (1, ((1, 1),)),
        (2, ((1, 2),)),
        (5, ((3, 5),)),
        ([2, 6], ((1, 2), (3, 6))),
        ((6, 2), ((1, 2), (3, 6))),
        (np.array([4]), ((2, 4),)),
        (np.int64(4), ((2, 4),)),
        (T + 1, ((6, T + 1),)),
        (500, ((10, 20),)),  # no more than twice the series
    ],
)
def test_patch_lengths(panel, ragged, classes, given, strides, quick):
    clf = quick(patch_length=given).fit(panel, classes)
    assert clf.preparation_.shape.strides == strides
    assert np.isfinite(clf.predict_proba(panel)).all()
    assert np.isfinite(clf.predict_proba(ragged)).all()


@pytest.mark.parametrize("wrong", [0, -2, 2.5, "8", [], [2, 0], [2.5], [[2]], [None], {3: 1}])
def test_wrong_patch_lengths(panel, classes, wrong, quick):
    refuses(quick(patch_length=wrong), panel, classes, "patch_length")
    refuses(make_encoder(patch_length=wrong), panel, None, "patch_length")


def test_patch_lengths_in_a_series(panel, classes, quick):
    """pandas is an array-like as good as any."""
    expected = quick(patch_length=[2, 6]).fit(panel, classes).predict_proba(panel)
    clf = quick(patch_length=pd.Series([2, 6])).fit(panel, classes)
    np.testing.assert_array_equal(clf.predict_proba(panel), expected)


@pytest.mark.parametrize("n_windows, strides", [(1, (10, 20)), (4, (3, 6)), (99, (1, 2))])
def test_windows_decide_where_patch_lengths_do_not(panel, classes, n_windows, strides, quick):
    clf = quick(n_windows=n_windows).fit(panel, classes)
    assert np.isfinite(clf.predict_proba(panel)).all()
    (found,) = clf.preparation_.shape.strides
    assert found == strides or found[0] > 8  # told in bins


@pytest.mark.parametrize("patching", ["time", "feature", "dual"])
def test_every_kind_of_patches(panel, ragged, classes, patching, quick):
    clf = quick(patching=patching, patch_length=[2, 6], categorical_features=[STATE])
    p = clf.fit(ragged, classes).predict_proba(ragged)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    pooling = "mean" if patching == "time" else "codewise"
    encoder = make_encoder(patching=patching, pooling=pooling, categorical_features=[STATE])
    embedded = encoder.fit(ragged).transform(ragged)
    assert embedded.shape == (N, 8) and np.isfinite(embedded).all()
    tuned = quick(**{**shape_of_quick(), "pretrained": encoder}).fit(panel, classes)
    assert np.isfinite(tuned.predict_proba(panel)).all()


def shape_of_quick() -> dict[str, Any]:
    """Parameters of the shape as an encoder wants them beside it."""
    return {"n_windows": 4, "d_model": 8, "n_heads": 2, "n_layers": 1}


# ---- the encoding of time ----------------------------------------------------------------------


@pytest.mark.parametrize("method", ["time2vec", "sinusoidal"])
def test_a_time_embedder_chooses_the_frequencies(panel, classes, method, quick, tmp_path):
    embedder = TimeEmbedder(method=method, n_frequencies=3, random_state=0)
    for X in (panel, as_events(panel[:20])):
        y = classes[: len(X)]
        clf = quick(time_encoding=embedder).fit(X, y)
        frequencies, phases = clf.preparation_.waves
        n_waves = 3 if method == "time2vec" else 6
        assert len(frequencies) == len(phases) == n_waves and min(frequencies) > 0
        p = clf.predict_proba(X)
        assert not np.allclose(p, quick(time_encoding=method).fit(X, y).predict_proba(X))
        again = quick(time_encoding=clone(embedder)).fit(X, y).predict_proba(X)
        np.testing.assert_array_equal(again, p)
        clf.save(tmp_path / "clf.tawt")
        loaded = tawt_sklearn.load(tmp_path / "clf.tawt").predict_proba(X)
        np.testing.assert_allclose(loaded, p, atol=1e-6)
        assert not hasattr(embedder, "frequencies_"), "it is cloned"
        encoder = make_encoder(time_encoding=embedder).fit(X)
        assert encoder.partial_fit(X).transform(X).shape == (len(X), 8)
        tuned = quick(**{**shape_of_quick(), "pretrained": encoder})
        assert np.isfinite(tuned.fit(X, y).predict_proba(X)).all()


def test_the_seed_of_the_estimator_is_enough(panel, classes, quick):
    """A TimeEmbedder without a seed draws its waves as everything else is drawn."""
    clf = quick(time_encoding=TimeEmbedder(method="time2vec", n_frequencies=3))
    p = clone(clf).fit(panel, classes).predict_proba(panel)
    np.testing.assert_array_equal(clone(clf).fit(panel, classes).predict_proba(panel), p)


def test_a_search_over_frequencies(panel, classes, quick):
    embedder = TimeEmbedder(method="sinusoidal", random_state=0)
    grid = {"time_encoding__n_frequencies": [1, 3], "time_encoding__method": ["sinusoidal"]}
    for X in (panel, as_events(panel[:20])):
        clf = quick(time_encoding=embedder)
        search = GridSearchCV(clf, grid, cv=2, error_score="raise").fit(X, classes[: len(X)])
        assert np.isfinite(search.cv_results_["mean_test_score"]).all()
        best = search.best_params_["time_encoding__n_frequencies"]
        assert len(search.best_estimator_.preparation_.waves[0]) == 2 * best


@pytest.mark.parametrize("method", ["delta", "log_delta", "calendar"])
def test_other_methods_make_features_rather_than_waves(panel, classes, method, quick):
    embedder = TimeEmbedder(method=method)
    for X in (panel, as_events(panel[:20])):
        message = f'method="time2vec" or "sinusoidal". Got {method!r}. Put it before'
        refuses(quick(time_encoding=embedder), X, classes[: len(X)], message)
        refuses(make_encoder(time_encoding=embedder), X, None, message)


def test_more_waves_than_the_network_is_wide(panel, classes, quick):
    for method, n, waves in (("time2vec", 8, 8), ("sinusoidal", 4, 8)):
        embedder = TimeEmbedder(method=method, n_frequencies=n, random_state=0)
        refuses(
            quick(time_encoding=embedder), panel, classes, f"d_model - 1 = 7 waves. Got {waves}"
        )
        embedder.set_params(n_frequencies=n - 1)
        assert np.isfinite(
            quick(time_encoding=embedder).fit(panel, classes).predict_proba(panel)
        ).all()
    refuses(quick(time_encoding=TimeEmbedder(n_frequencies=0)), panel, classes, "n_frequencies")


def test_a_channel_of_times_is_no_encoding(panel, classes, quick):
    """``channel`` of a TimeEmbedder is for its own panels; here the steps are the times."""
    embedder = TimeEmbedder(method="sinusoidal", n_frequencies=2, channel=1)
    clf = quick(time_encoding=embedder)
    try:
        clf.fit(panel, classes)
    except ValueError as error:
        assert "time_encoding" in str(error) and "Got a table" not in str(error)
    else:
        assert np.isfinite(clf.predict_proba(panel)).all()


# ---- encoders ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "objective", ["masked", "contrastive", "forecast", {"masked": 1.0, "contrastive": 0.1}]
)
def test_every_objective(panel, ragged, objective, tmp_path):
    for X, categorical in ((panel[:, 0], None), (ragged, [STATE])):
        encoder = make_encoder(objective=objective, categorical_features=categorical).fit(X)
        embedded = encoder.transform(X)
        assert embedded.shape == (N, 8) and embedded.dtype == np.float32
        assert np.isfinite(embedded).all() and embedded.std(axis=0).max() > 0
        assert encoder.score(X) == encoder.score(X) < 0
        again = clone(encoder).fit(X).transform(X)
        np.testing.assert_array_equal(again, embedded)
    encoder.save(tmp_path / "encoder.tawt")
    loaded = tawt_sklearn.load(tmp_path / "encoder.tawt")
    np.testing.assert_allclose(loaded.transform(X), embedded, atol=1e-5)
    assert loaded.partial_fit(X).n_iter_ == encoder.n_iter_ + 1


def test_validation_data_of_an_encoder(panel, ragged):
    history = make_encoder(max_epochs=2).fit(panel, X_val=ragged).history_
    assert history["valid_loss"].notna().all() and "valid_masked_summary" in history


def test_an_embedding_does_not_depend_on_the_others(encoder, panel, ragged):
    embedded = encoder.transform(panel)
    np.testing.assert_allclose(encoder.transform(list(panel)), embedded, atol=1e-6)
    for rows in ([0], [3, 1, 17], list(range(N))[::-1]):
        np.testing.assert_allclose(encoder.transform(panel[rows]), embedded[rows], atol=1e-6)
    mixed = encoder.transform(ragged)
    np.testing.assert_allclose(encoder.transform(ragged[:1])[0], mixed[0], atol=1e-6)


def test_steps_are_embedded_as_panels(encoder, panel, ragged):
    windows, steps = encoder.transform_steps(panel), encoder.transform_steps(panel, per="event")
    assert windows.shape == (N, 8, T) and steps.shape == (N, 8, T), "the finest stride is one step"
    coarse = make_encoder(patch_length=6).fit(panel)
    assert coarse.transform_steps(panel).shape == (N, 8, 4)
    assert coarse.transform_steps(panel, "event").shape == (N, 8, T)
    for model, stride in ((encoder, 1), (coarse, 3)):
        for per in ("window", "event"):
            listed = model.transform_steps(ragged, per)
            expected = [case.shape[1] for case in ragged]
            if per == "window":
                expected = [-(-n // stride) for n in expected]
            assert isinstance(listed, list)
            assert [one.shape for one in listed] == [(8, n) for n in expected]
            assert all(np.isfinite(one).all() for one in listed)
            alone = model.transform_steps(ragged[4:5], per)[0]
            np.testing.assert_allclose(alone, listed[4], atol=1e-5)
            stacked = model.transform_steps(panel[:3], per)
            for one, other in zip(
                stacked, model.transform_steps(list(panel[:3]), per), strict=True
            ):
                np.testing.assert_allclose(one, other, atol=1e-5)
    assert steps.std(axis=2).max() > 0


def test_a_window_that_changes_changes_its_embedding_most(panel):
    encoder = make_encoder(patch_length=2).fit(panel)
    changed = panel.copy()
    changed[:, 0, -1] = 4.0
    moved = np.abs(encoder.transform_steps(changed) - encoder.transform_steps(panel)).mean((0, 1))
    assert moved.argmax() == T - 1, "the most recent patch comes last"


def test_steps_of_an_encoder_without_temporal_patches(panel):
    encoder = make_encoder(patching="feature").fit(panel)
    with pytest.raises(ValueError, match='encoder with temporal patches.*patching="dual"'):
        encoder.transform_steps(panel)
    with pytest.raises(ValueError, match='per to be "window" or "event". Got "?\'?step'):
        encoder.transform_steps(panel, per="step")


def test_a_panel_is_rebuilt_in_its_own_form(encoder, panel, ragged):
    told = encoder.reconstruct(panel)
    assert told.shape == panel.shape and told.dtype == np.float64
    np.testing.assert_array_equal(np.isnan(told), np.isnan(panel))
    assert set(np.unique(told[:, STATE][~np.isnan(told[:, STATE])])) <= {2.0, 3.0, 10.0}
    np.testing.assert_array_equal(encoder.reconstruct(panel), told)
    assert not np.array_equal(encoder.reconstruct(panel, n_passes=2), told)
    listed = encoder.reconstruct(ragged)
    assert [one.shape for one in listed] == [case.shape for case in ragged]
    for one, case in zip(listed, ragged, strict=True):
        np.testing.assert_array_equal(np.isnan(one), np.isnan(case))
    series = make_encoder().fit(panel[:, 0])
    with pytest.raises(ValueError, match="n_passes"):
        series.reconstruct(panel[:, 0], n_passes=1)


def test_numbers_are_rebuilt_as_they_came(panel):
    """(n, T) numbers as (n, T) numbers."""
    series = panel[:, 0]
    assert make_encoder().fit(series).reconstruct(series).shape == series.shape


def test_a_category_that_fit_has_not_seen_is_rebuilt_by_one_that_it_has(encoder, panel):
    new = panel.copy()
    new[0, STATE] = 77
    with pytest.warns(DataWarning, match="channel_1"):
        told = encoder.reconstruct(new)
    assert set(np.unique(told[0, STATE])) <= {2.0, 3.0, 10.0}


def test_what_is_hidden_is_rebuilt_from_what_goes_with_it():
    """Four channels of one walk, in different units: better than the mean of each channel."""
    rng = np.random.default_rng(0)
    walk = rng.normal(size=(120, 1, 12)).cumsum(axis=2)
    noise = 0.05 * rng.normal(size=(120, 3, 12))
    X = np.concatenate([walk, 200 * walk + 5000, -walk], axis=1)
    X += noise * X.std(axis=(0, 2))[:, np.newaxis]
    X = np.concatenate([X, np.where(walk > 0, 7.0, 4.0)], axis=1)
    X[rng.random(X.shape) < 0.1] = np.nan
    encoder = make_encoder(
        categorical_features=[3],
        min_steps=80,
        learning_rate=0.02,
        dropout=0.0,
        objective=MaskedReconstruction(masks=(HideEvents(0.3),), value=1.0, category=1.0),
    ).fit(X)
    told = encoder.reconstruct(X)
    for c in range(3):
        assert np.nanmean((told[:, c] - X[:, c]) ** 2) < 0.5 * np.nanvar(X[:, c])
    known = ~np.isnan(X[:, 3])
    assert (told[:, 3] == X[:, 3])[known].mean() > 0.8


@pytest.mark.parametrize("objective", ["contrastive", "forecast"])
def test_an_objective_that_rebuilds_nothing(panel, objective):
    encoder = make_encoder(objective=objective).fit(panel)
    with pytest.raises(ValueError, match="that has learned to rebuild"):
        encoder.reconstruct(panel)


def test_partial_fit_of_an_encoder(panel, ragged, tmp_path):
    encoder = make_encoder().partial_fit(panel)
    first = encoder.transform(panel)
    assert not np.array_equal(encoder.partial_fit(ragged).transform(panel), first)
    assert encoder.n_iter_ == 2
    for name, value in (("patch_length", 3), ("categorical_features", [STATE]), ("n_windows", 2)):
        before = encoder.get_params()[name]
        with pytest.raises(ValueError, match=name):
            encoder.set_params(**{name: value}).partial_fit(panel)
        encoder.set_params(**{name: before})
    with pytest.raises(ValueError, match="objective"):
        encoder.set_params(objective="forecast").partial_fit(panel)


def test_channels_are_no_codes(panel):
    encoder = make_encoder().fit(panel)
    before = encoder.transform(panel)
    for grow in (
        lambda: encoder.add_codes({"channel_9": {}}),
        lambda: encoder.add_codes(as_events(panel)),
        lambda: encoder.rename_codes({"channel_0": "pressure"}),
    ):
        with pytest.raises(DataError, match="encoder of event histories.*Got one of panels"):
            grow()
    np.testing.assert_array_equal(encoder.transform(panel), before)


@pytest.mark.parametrize(
    "masks",
    [
        (HideRuns(),),
        (HideRuns(0.5, together=0.0), HideCodes(0.1)),
        (HideEvents(0.3),),
        (HideWindows(0.3),),
        (HideRuns(), HideEvents(), HideWindows(), HideCodes()),
    ],
)
def test_masks_of_ones_own_choice(panel, ragged, masks):
    usual = make_encoder(categorical_features=[STATE]).fit(panel).transform(panel)
    encoder = make_encoder(
        objective=MaskedReconstruction(masks=masks), categorical_features=[STATE]
    )
    embedded = encoder.fit(panel).transform(panel)
    assert np.isfinite(embedded).all() and not np.array_equal(embedded, usual)
    assert np.isfinite(encoder.fit(ragged).transform(ragged)).all()


def test_the_usual_masks_of_panels_by_name(panel):
    usual = make_encoder().fit(panel).transform(panel)
    named = MaskedReconstruction(masks=(HideRuns(), HideCodes()))
    np.testing.assert_array_equal(make_encoder(objective=named).fit(panel).transform(panel), usual)


@dataclass(frozen=True)
class Level:
    """An objective of the user's own: the embedding tells the mean of the first channel."""

    name: str = "level"

    def build(self, space, d_model, d_embedding):
        return LevelTask(d_embedding)


class LevelTask(nn.Module):
    def __init__(self, d_embedding):
        super().__init__()
        self.told = nn.Linear(d_embedding, 1)

    def forward(self, encode, batch):
        _, embedding = encode(batch)
        seen = batch.observed[:, 0].sum(1).clamp(min=1)
        level = batch.value[:, 0].sum(1) / seen
        return {"level": (self.told(embedding).squeeze(1) - level).square().mean()}


def test_an_objective_of_ones_own(panel):
    encoder = make_encoder(objective={Level(): 1.0, "masked": 0.1}).fit(panel)
    assert {"train_level", "train_masked_value"} <= set(encoder.history_)
    alone = make_encoder(objective=Level(), min_steps=60, learning_rate=0.02).fit(panel)
    assert torch.is_tensor(next(alone.net_.module_.parameters()))
    level, embedded = np.nanmean(panel[:, 0], axis=1), alone.transform(panel)
    around = np.c_[np.ones(N), embedded]
    told = around @ np.linalg.lstsq(around, level, rcond=None)[0]
    assert np.corrcoef(told, level)[0, 1] > 0.9


# ---- from an encoder to labels -----------------------------------------------------------------


@pytest.mark.parametrize("fine_tune", ["head", "full", "gradual"])
def test_fine_tuning(encoder, panel, ragged, classes, fine_tune, quick, tmp_path):
    before = encoder.transform(panel)
    clf = quick(pretrained=encoder, fine_tune=fine_tune).fit(panel, classes)
    p = clf.predict_proba(panel)
    assert p.shape == (N, 2) and np.isfinite(p).all()
    np.testing.assert_allclose(clf.predict_proba(list(panel)), p, rtol=0, atol=1e-9)
    assert np.isfinite(clf.predict_proba(ragged)).all()
    numbers = np.nanmean(panel[:, 0], axis=1)
    model = tuned_numbers(pretrained=encoder, fine_tune=fine_tune).fit(panel, numbers)
    assert model.predict(panel).shape == (N,)
    several = tuned_numbers(pretrained=encoder, fine_tune=fine_tune)
    assert several.fit(panel, np.c_[numbers, -numbers]).predict(panel).shape == (N, 2)
    np.testing.assert_array_equal(encoder.transform(panel), before)
    clf.set_params(pretrained=None).save(tmp_path / "clf.tawt")
    again = tawt_sklearn.load(tmp_path / "clf.tawt")
    np.testing.assert_allclose(again.predict_proba(panel), p, atol=1e-6)


def test_an_encoder_decides_what_channels_and_patches_are(encoder, panel, classes, quick):
    p = quick(pretrained=encoder).fit(panel, classes).predict_proba(panel)
    same = quick(pretrained=encoder, categorical_features=[STATE], patch_length=(2, 6))
    np.testing.assert_array_equal(same.fit(panel, classes).predict_proba(panel), p)
    for name, value in (
        ("categorical_features", [0]),
        ("categorical_features", []),
        ("patch_length", 2),
        ("patch_length", [2, 4]),
        ("n_windows", 7),
        ("d_model", 16),
    ):
        clf = quick(pretrained=encoder, **{name: value})
        refuses(clf, panel, classes, f"Expected {name}=.*, as the encoder was pretrained.*Got")


@pytest.mark.parametrize(
    "name, value",
    [("categorical_features", [k == STATE for k in range(C)]), ("patch_length", [6, 2])],
)
def test_the_same_said_in_another_way(encoder, panel, classes, name, value, quick):
    """A mask names the channels that positions name, and lengths have no order."""
    expected = quick(pretrained=encoder).fit(panel, classes).predict_proba(panel)
    clf = quick(pretrained=encoder, **{name: value}).fit(panel, classes)
    np.testing.assert_array_equal(clf.predict_proba(panel), expected)


def test_an_encoder_of_something_else(encoder, panel, classes, quick):
    clf = quick(pretrained=encoder)
    for X, message in (
        (panel[:, 0], "Expected a panel.*Got numbers"),
        (as_events(panel), "Expected a panel.*Got event hist"),
    ):
        refuses(clf, X, classes, message)
    of_events = make_encoder().fit(as_events(panel))
    refuses(quick(pretrained=of_events), panel, classes, "Expected event hist.*Got a panel")


@pytest.mark.parametrize("n_channels", [C - 1, 2 * C])
def test_an_encoder_of_other_channels(encoder, panel, classes, n_channels, quick):
    """The error names the numbers of channels; further ones are not left out in silence."""
    X = np.concatenate([panel, panel], axis=1)[:, :n_channels]
    refuses(quick(pretrained=encoder), X, classes, f"{C}.*{n_channels}|{n_channels}.*{C}")


def test_an_encoder_in_a_pipeline(panel, classes, quick):
    pipeline = make_pipeline(FunctionTransformer(), make_encoder())
    assert pipeline.fit_transform(panel).shape == (N, 8)
    scores = cross_val_score(quick(pretrained=make_encoder().fit(panel)), panel, classes, cv=2)
    assert np.isfinite(scores).all()


# ---- few labels --------------------------------------------------------------------------------


def test_few_labels_are_enough_after_many_cases():
    X, y = make_sensor_panels(300, 2, 1, 20, task="regression", missing=0.1, random_state=0)
    encoder = make_encoder(
        categorical_features=[2], min_steps=40, learning_rate=0.01, d_embedding=16
    ).fit(X)
    head = tuned_numbers(pretrained=encoder, fine_tune="head").fit(X[:60], y[:60])
    assert head.score(X[60:], y[60:]) > 0.35


def test_far_longer_series_are_predicted_a_few_at_a_time(panel, quick, monkeypatch):
    """Patches attend to each other: memory grows with the square of their number."""
    clf = quick().fit(panel, np.arange(len(panel)) % 2)
    rng = np.random.default_rng(0)
    long = [rng.normal(size=(panel.shape[1], 400)) for _ in range(5)]
    whole = clf.predict_proba(long)
    assert clf.nets_[0].rows_at_once(clf.preparation_.dataset(Panel.of_series(long))) > 5
    monkeypatch.setattr("tawt_sklearn.training.net.MOST_PAIRS", 2**15)
    assert clf.nets_[0].rows_at_once(clf.preparation_.dataset(Panel.of_series(long))) < 5
    np.testing.assert_allclose(clf.predict_proba(long), whole, atol=1e-9)
