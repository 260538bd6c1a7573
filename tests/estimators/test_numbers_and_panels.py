"""Arrays, frames and panels of numbers as X, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from tawt_sklearn import TripletSequencer, as_events
from tawt_sklearn.exceptions import DataError, DataWarning, NotNestedError

N = 60


@pytest.fixture
def panel() -> np.ndarray:
    """60 cases, 3 channels, 7 steps; a fifth was not measured."""
    rng = np.random.default_rng(0)
    panel = rng.normal(size=(N, 3, 7))
    panel[rng.random(panel.shape) < 0.2] = np.nan
    return panel


@pytest.fixture
def series(panel) -> np.ndarray:
    return panel[:, 0]


@pytest.fixture
def classes(panel) -> np.ndarray:
    return (np.nanmean(panel[:, 0], axis=1) > 0).astype(int)


def refuses(clf, X, classes, message, error=ValueError):
    with pytest.raises(error, match=message):
        clf.fit(X, classes)
    assert vars(clf) == clf.get_params(deep=False)


# ---- what is taken -------------------------------------------------------------------------------


def test_numbers_are_one_series_in_each_row(series, classes, quick):
    clf = quick().fit(series, classes)
    assert clf.n_features_in_ == 7 and not hasattr(clf, "feature_names_in_")
    p = clf.predict_proba(series)
    for same in (series.astype(object), series.tolist(), np.asfortranarray(series),
                 np.ma.masked_invalid(series).filled(np.nan)):  # fmt: skip
        np.testing.assert_array_equal(clf.predict_proba(same), p)
        np.testing.assert_array_equal(quick().fit(same, classes).predict_proba(series), p)
    np.testing.assert_allclose(clf.predict_proba(series.astype(np.float32)), p, atol=1e-5)


def test_a_frame_of_numbers(series, classes, quick):
    frame = pd.DataFrame(series, columns=[f"step_{k}" for k in range(7)])
    clf = quick().fit(frame, classes)
    assert clf.feature_names_in_.tolist() == frame.columns.tolist() and clf.n_features_in_ == 7
    p = quick().fit(series, classes).predict_proba(series)
    np.testing.assert_array_equal(clf.predict_proba(frame), p)
    np.testing.assert_array_equal(clf.predict_proba(frame.astype("Float64")), p)
    with pytest.raises(ValueError, match="feature names should match"):
        clf.predict(frame.iloc[:, ::-1])
    with pytest.raises(ValueError, match="feature names should match"):
        clf.predict(frame.rename(columns={"step_0": "start"}))
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        clf.predict(series)


def test_labels_of_a_frame_of_numbers_have_its_index(series, classes, quick):
    frame = pd.DataFrame(series, index=[f"p{k}" for k in range(N)])
    labels = pd.Series(classes, frame.index)
    expected = quick().fit(series, classes).predict_proba(series)
    frame.columns = frame.columns.astype(str)
    p = quick().fit(frame, labels).predict_proba(frame)
    np.testing.assert_array_equal(p, expected)
    refuses(quick(), frame, labels.iloc[::-1], "in the order of X", DataError)


def test_frames_of_integers_and_booleans(classes, quick):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.integers(0, 9, N), "b": rng.random(N) < 0.5, "c": rng.random(N)})
    p = quick().fit(frame, classes).predict_proba(frame)
    expected = quick().fit(frame.to_numpy(float), classes).predict_proba(frame.to_numpy(float))
    np.testing.assert_array_equal(p, expected)


def test_a_polars_frame_of_numbers(series, classes, quick):
    polars = pytest.importorskip("polars")
    names = [f"step_{k}" for k in range(7)]
    frame = polars.DataFrame(series, schema=names)
    nulls = frame.select(polars.all().fill_nan(None))
    assert nulls.null_count().sum_horizontal().item() > 0
    expected = quick().fit(series, classes).predict_proba(series)
    for given in (frame, nulls):
        clf = quick().fit(given, classes)
        assert clf.feature_names_in_.tolist() == names
        np.testing.assert_array_equal(clf.predict_proba(given), expected)


def test_an_arrow_table_of_numbers(series, classes, quick):
    arrow = pytest.importorskip("pyarrow")
    frame = pd.DataFrame(series, columns=[f"step_{k}" for k in range(7)])
    table = arrow.Table.from_pandas(frame, preserve_index=False)
    expected = quick().fit(series, classes).predict_proba(series)
    np.testing.assert_array_equal(quick().fit(table, classes).predict_proba(table), expected)


def test_panels(panel, classes, quick):
    clf = quick().fit(panel, classes)
    assert clf.n_features_in_ == 3
    assert clf.preparation_.center.shape == (3,)
    p = clf.predict_proba(panel)
    np.testing.assert_array_equal(quick().fit(panel.tolist(), classes).predict_proba(panel), p)
    np.testing.assert_allclose(clf.predict_proba(panel[:1]), p[:1], atol=1e-7)


def test_the_events_of_a_panel_are_taken_as_events(panel, classes, quick):
    frame = as_events(panel)
    clf = quick().fit(frame, classes)
    assert set(clf.preparation_.vocabulary.codes) >= {f"channel_{c}" for c in range(3)}
    assert np.isfinite(clf.predict_proba(frame)).all()
    with pytest.raises(DataError, match="event histories, as in fit. Got a panel"):
        clf.predict(panel)


def test_numbers_of_any_size(panel, classes, quick):
    """Beyond a few scales from the centre the logarithm takes over; nothing overflows."""
    huge = panel.copy()
    huge[5, 0, 0], huge[6, 1, 2] = 1e300, -1e300
    for clf in (quick().fit(panel, classes), quick().fit(huge, classes)):
        assert np.isfinite(clf.predict_proba(huge)).all()


def test_one_channel_is_a_series(series, classes, quick):
    flat = quick().fit(series, classes).predict_proba(series)
    deep = quick().fit(series[:, None], classes).predict_proba(series[:, None])
    np.testing.assert_array_equal(flat, deep)


def test_series_of_different_lengths(panel, classes, quick):
    lengths = np.random.default_rng(0).integers(2, 8, N)
    ragged = [case[:, :length] for case, length in zip(panel, lengths, strict=True)]
    clf = quick().fit(ragged, classes)
    p = clf.predict_proba(ragged)
    assert p.shape == (N, 2) and np.isfinite(p).all()
    np.testing.assert_allclose(clf.predict_proba(ragged[::-1]), p[::-1], atol=1e-7)
    flat = [case[0] for case in ragged]
    assert quick().fit(flat, classes).predict(flat).shape == (N,)


def test_a_list_of_arrays_is_the_panel_that_they_make(panel, classes, quick):
    """Which library a loop over the cases comes from should not matter."""
    listed = quick().fit(list(panel), classes)
    stacked = quick().fit(panel, classes)
    p = stacked.predict_proba(panel)
    np.testing.assert_array_equal(listed.predict_proba(list(panel)), p)
    np.testing.assert_array_equal(stacked.predict_proba(list(panel)), p)
    np.testing.assert_array_equal(listed.predict_proba(panel), p)


def test_more_or_fewer_steps_of_a_panel(panel, classes, quick):
    clf = quick().fit(panel, classes)
    short, long = panel[:, :, :4], np.concatenate([panel, panel], axis=2)
    for other in (short, long):
        assert np.isfinite(clf.predict_proba(other)).all()


def test_what_was_never_measured(panel, classes, quick):
    holed = panel.copy()
    holed[3], holed[:, 1] = np.nan, np.nan
    clf = quick().fit(holed, classes)
    assert clf.n_features_in_ == 3
    p = clf.predict_proba(holed)
    assert np.isfinite(p).all()
    with pytest.warns(DataWarning, match="channel_1"):
        np.testing.assert_allclose(clf.predict_proba(panel).sum(axis=1), 1)
    only = np.full_like(panel, np.nan)
    only[:, 1] = panel[:, 1]
    with pytest.warns(DataWarning, match="channel_1"):
        assert np.isfinite(clf.predict_proba(only)).all()


def test_missing_is_not_zero(panel, classes, quick):
    clf = quick().fit(panel, classes)
    filled = np.nan_to_num(panel)
    assert np.abs(clf.predict_proba(filled) - clf.predict_proba(panel)).max() > 1e-6


def test_nothing_but_missing_values(panel, classes, quick):
    for X in (np.full_like(panel, np.nan), np.full((N, 4), np.nan)):
        refuses(quick(), X, classes, "60 cases, in which all values are missing", DataError)


def test_constant_numbers(classes, quick):
    p = quick().fit(np.ones((N, 2, 5)), classes).predict_proba(np.ones((3, 2, 5)))
    np.testing.assert_allclose(p, p[:1].repeat(3, axis=0))


def test_one_step(classes, quick):
    X = np.random.default_rng(0).normal(size=(N, 2, 1))
    assert np.isfinite(quick().fit(X, classes).predict_proba(X)).all()


def test_numbers_in_a_pipeline_and_a_cross_validation(series, classes, quick):
    pipeline = make_pipeline(FunctionTransformer(lambda X: X * 2), quick())
    assert np.isfinite(cross_val_score(pipeline, series, classes, cv=2)).all()


def test_it_learns_from_numbers(series, classes, quick):
    clf = quick(min_steps=80, learning_rate=0.01).fit(series[:40], classes[:40])
    assert clf.score(series[40:], classes[40:]) > 0.7


# ---- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "X, message",
    [
        (np.full((N, 3), np.inf), "contains infinity"),
        (np.full((N, 2, 3), -np.inf), "contains infinity"),
        (np.ones((N, 3)) * 1j, "Complex data not supported"),
        (np.ones((N, 2, 3)) * 1j, "Complex data not supported"),
        (np.ones(N), "Expected 2D array, got 1D array"),
        (
            np.ones((N, 2, 3, 4)),
            r"\(n_cases, n_channels, n_timepoints\).*Got shape \(60, 2, 3, 4\)",
        ),
        (np.ones((N, 0)), "0 feature"),
        (np.ones((0, 3)), "0 sample"),
        (np.ones((N, 2, 0)), r"one time point and one channel.*, 2, 0\)"),
        (np.ones((N, 0, 3)), r"one time point and one channel.*, 0, 3\)"),
        (np.full((N, 3), "a"), "numeric|numbers|could not convert"),
        ([["a", "b"]] * N, "numeric|numbers|could not convert"),
        ([[1.0, 2.0]] * (N - 1) + [[1.0]], "inhomogeneous|same length"),
        ([np.ones((2, 3))] * (N - 1) + [np.ones((1, 3))], "the same number of channels"),
        ("numbers", "Expected"),
        (None, "Expected|NoneType"),
        (3.0, "scalar|Expected"),
    ],
)
def test_what_is_no_panel(X, message, classes, quick):
    refuses(quick(), X, classes[: len(X)] if isinstance(X, np.ndarray) else classes, message)


@pytest.mark.parametrize("form", [sparse.csr_matrix, sparse.coo_array])
def test_sparse_matrices(form, series, classes, quick):
    X = form(np.nan_to_num(series))
    refuses(quick(), X, classes, "[Ss]parse", (TypeError, ValueError))
    with pytest.raises((TypeError, ValueError), match="[Ss]parse"):
        quick().fit(series, classes).predict(X)


def test_another_number_of_features(series, panel, classes, quick):
    clf = quick().fit(series, classes)
    with pytest.raises(ValueError, match="X has 6 features, but.*expecting 7"):
        clf.predict(series[:, :6])
    clf = quick().fit(panel, classes)
    for other in (panel[:, :2], np.concatenate([panel, panel], axis=1)):
        with pytest.raises(ValueError, match=f"X has {other.shape[1]} features, but.*expecting 3"):
            clf.predict(other)


def test_another_number_of_dimensions(panel, classes, quick):
    """(n, 3) numbers are three steps of one channel, not three channels."""
    clf = quick().fit(panel, classes)
    with pytest.raises(ValueError, match="dimension|shape|channels"):
        clf.predict(panel[:, :, 0])
    flat = quick().fit(panel[:, :, 0], classes)
    with pytest.raises(ValueError, match="dimension|shape|channels"):
        flat.predict(panel)


def test_other_numbers_of_channels_in_lists(panel, classes, quick):
    clf = quick().fit([case[:, : 3 + k % 4] for k, case in enumerate(panel)], classes)
    more = [np.concatenate([case, case[:1]]) for case in panel]
    with pytest.raises(ValueError, match="X has 4 features, but.*expecting 3"):
        clf.predict(more)


def test_bad_values_in_prediction(panel, classes, quick):
    clf = quick().fit(panel, classes)
    infinite = panel.copy()
    infinite[5, 0, 0] = np.inf
    for X, message in (
        (infinite, "infinity"),
        (panel * 1j, "Complex"),
        (panel[:0], "0 sample"),
        (panel[0, 0], "1D array"),
    ):
        with pytest.raises(ValueError, match=message):
            clf.predict(X)


def test_events_after_numbers_and_the_reverse(panel, classes, X, y, quick):
    numbers, frames = quick().fit(panel, classes), quick().fit(X, y)
    with pytest.raises(DataError, match="a panel of shape .* as in fit. Got event hist"):
        numbers.predict(X)
    for given, kind in ((panel, "a panel"), (X[["age"]].fillna(0.0), "numbers")):
        with pytest.raises(DataError, match=f"event histories, as in fit. Got {kind} of shape"):
            frames.predict(given)


def test_a_long_table_is_refused_also_when_its_codes_are_numbers(X, y, classes, quick):
    long = X["events"].events.to_long().reset_index()
    codes = long["code"].astype(str)
    long = long.assign(code=pd.factorize(codes)[0])
    numeric = long.select_dtypes("number")
    assert {"subject_id", "time", "code", "value"} <= set(numeric)
    for table in (long, numeric, numeric[["time", "code"]]):
        labels = np.arange(len(table)) % 2
        refuses(quick(), table, labels, "Nest it first: X = nest_events", NotNestedError)
    with pytest.raises(NotNestedError, match="nest_events"):
        quick().fit(X, y).predict(numeric)
    with pytest.raises((NotNestedError, DataError)):
        quick().fit(np.ones((N, 4)), classes).predict(numeric)


def test_a_frame_that_is_neither_numbers_nor_histories(series, classes, quick):
    frame = pd.DataFrame(series, columns=[f"step_{k}" for k in range(7)])
    for odd in (["a"] * N, pd.date_range("2020", periods=N), pd.Categorical(["a", "b"] * 30)):
        mixed = frame.assign(odd=odd)
        refuses(quick(), mixed, classes, "column of event histories.*'odd'", DataError)
    refuses(quick(), frame.iloc[:, :0], classes, "0 feature|column of event histories")


def test_numbers_behind_a_sequencer(panel, classes, quick):
    """A TripletSequencer takes the same panels and hands on the tokens of their events."""
    pipeline = make_pipeline(TripletSequencer(), quick()).fit(panel, classes)
    frame = as_events(panel)
    expected = quick().fit(frame, classes).predict_proba(frame)
    np.testing.assert_array_equal(pipeline.predict_proba(panel), expected)


def test_partial_fit_of_panels(panel, classes, quick):
    clf = quick()
    for _ in range(3):
        clf.partial_fit(panel, classes)
    with pytest.raises(ValueError, match="X has 2 features"):
        clf.partial_fit(panel[:, :2], classes)
    assert clf.n_iter_ == 3


def test_an_error_about_a_list_of_arrays_names_what_came(panel, classes, quick):
    """Arrays in a list are not what a user calls event histories."""
    ragged = [case[:, : 3 + k % 4] for k, case in enumerate(panel)]
    clf = quick().fit(panel, classes)
    try:
        p = clf.predict_proba(ragged)
    except DataError as error:
        assert "Got event histories" not in str(error)
    else:
        assert np.isfinite(p).all()
