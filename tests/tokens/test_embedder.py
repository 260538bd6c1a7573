"""TimeEmbedder."""

from __future__ import annotations

import math
import pickle
import subprocess
import sys

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from tawt_sklearn import MissingMaskEncoder, TimeEmbedder
from tawt_sklearn.exceptions import DataError, DataWarning

NAN = np.nan
METHODS = ["sinusoidal", "time2vec", "delta", "log_delta", "calendar"]


@pytest.fixture
def times() -> np.ndarray:
    """Two columns of irregular times."""
    rng = np.random.default_rng(0)
    return np.c_[100 + np.cumsum(rng.exponential(2, 50)), rng.permutation(50) * 0.25]


@pytest.fixture
def dates() -> pd.DataFrame:
    admitted = pd.date_range("2024-02-28 22:15", periods=40, freq="7h37min")
    return pd.DataFrame(
        {
            "admitted": admitted,
            "zoned": admitted.tz_localize("UTC").tz_convert("America/New_York"),
            "stay": pd.to_timedelta(np.arange(40) * 1.5, "h"),
        },
        index=[f"p{k}" for k in range(40)],
    )


@pytest.fixture
def panel() -> np.ndarray:
    """(5, 3, 12): two measurements, and times in channel 1."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(5, 3, 12))
    X[:, 1] = 10 + np.cumsum(rng.exponential(1, (5, 12)), axis=1)
    X[0, 0, 3] = NAN
    return X


# ---- waves ----------------------------------------------------------------------------------


def test_periods_lie_between_the_span_and_the_typical_gap(times):
    embedder = TimeEmbedder(n_frequencies=5).fit(times)
    assert embedder.frequencies_.shape == (2, 5)
    for n in range(2):
        ordered = np.sort(times[:, n])
        span, gap = ordered[-1] - ordered[0], np.median(np.diff(ordered))
        assert embedder.reference_[n] == ordered[0]
        assert embedder.span_[n] == pytest.approx(span)
        assert embedder.gap_[n] == pytest.approx(gap)
        periods = 2 * np.pi / embedder.frequencies_[n]
        assert periods[0] == pytest.approx(span) and periods[-1] == pytest.approx(gap)
        np.testing.assert_allclose(periods[1:] / periods[:-1], (gap / span) ** 0.25)


def test_sinusoids_are_those_of_the_formula(times):
    embedder = TimeEmbedder(n_frequencies=3).fit(times)
    out = embedder.transform(times)
    assert out.shape == (50, 12)
    for row in range(50):
        expected = []
        for n in range(2):
            t = float(times[row, n]) - float(embedder.reference_[n])
            for w in embedder.frequencies_[n].tolist():
                expected += [math.sin(w * t), math.cos(w * t)]
        np.testing.assert_allclose(out[row], expected, rtol=0, atol=1e-12)


def test_the_unit_of_time_does_not_matter(times):
    hours = TimeEmbedder().fit_transform(times)
    seconds = TimeEmbedder().fit_transform(times * 3600)
    np.testing.assert_allclose(hours, seconds, atol=1e-8)


def test_time2vec_is_a_line_and_drawn_waves(times):
    embedder = TimeEmbedder(method="time2vec", n_frequencies=4, random_state=0).fit(times)
    out = embedder.transform(times)
    assert out.shape == (50, 10) and embedder.phases_.shape == (2, 4)
    for n in range(2):
        t = times[:, n] - times[:, n].min()
        np.testing.assert_allclose(out[:, 5 * n], t / t.max(), atol=1e-12)
        for k in range(4):
            expected = np.sin(embedder.frequencies_[n, k] * t + embedder.phases_[n, k])
            np.testing.assert_allclose(out[:, 5 * n + 1 + k], expected, atol=1e-12)
        periods = 2 * np.pi / embedder.frequencies_[n]
        assert (periods <= embedder.span_[n]).all() and (periods >= embedder.gap_[n]).all()


def test_random_state(times):
    def fit(seed):
        return TimeEmbedder(method="time2vec", random_state=seed).fit(times).frequencies_

    np.testing.assert_array_equal(fit(0), fit(0))
    assert (fit(0) != fit(1)).any()
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    assert (fit(None) != fit(None)).any()
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_another_method_leaves_nothing_of_the_one_before(times):
    embedder = TimeEmbedder(method="time2vec", random_state=0).fit(times)
    embedder.set_params(method="delta").fit(times)
    assert not hasattr(embedder, "frequencies_") and not hasattr(embedder, "phases_")


# ---- differences ----------------------------------------------------------------------------


def test_differences_to_the_smallest_training_time(times):
    embedder = TimeEmbedder(method="delta").fit(times[10:])
    expected = times - times[10:].min(axis=0)
    np.testing.assert_allclose(embedder.transform(times), expected)
    assert (embedder.transform(times) < 0).any()
    logs = TimeEmbedder(method="log_delta").fit(times[10:]).transform(times)
    np.testing.assert_allclose(logs, np.sign(expected) * np.log(1 + np.abs(expected)))


@pytest.mark.parametrize(("unit", "seconds"), [(None, 3600), ("h", 3600), ("D", 86400), ("s", 1)])
def test_dates_and_time_differences_are_counted_in_the_unit(dates, unit, seconds):
    out = TimeEmbedder(method="delta", unit=unit).fit_transform(dates)
    for c, name in enumerate(dates):
        expected = (dates[name] - dates[name].min()).dt.total_seconds() / seconds
        np.testing.assert_allclose(out[:, c], expected, atol=1e-6)


# ---- the calendar ---------------------------------------------------------------------------


def test_the_calendar_in_local_time(dates):
    embedder = TimeEmbedder(method="calendar").set_output(transform="pandas")
    out = embedder.fit_transform(dates[["admitted", "zoned"]])
    assert out.shape == (40, 12) and out.index.equals(dates.index)
    for name in ("admitted", "zoned"):
        local = dates[name].dt
        hour = local.hour + local.minute / 60
        for field, value, period in [
            ("hour", hour, 24),
            ("weekday", local.day_of_week, 7),
            ("month", local.month - 1, 12),
        ]:
            angle = 2 * np.pi * value / period
            np.testing.assert_allclose(out[f"{name}_{field}_sin"], np.sin(angle), atol=1e-12)
            np.testing.assert_allclose(out[f"{name}_{field}_cos"], np.cos(angle), atol=1e-12)
    assert (out["admitted_hour_sin"] != out["zoned_hour_sin"]).any()


@pytest.mark.parametrize(
    ("unit", "second"), [("ms", 1e3), ("s", 1), ("h", 1 / 3600), ("D", 1 / 86400)]
)
def test_the_calendar_of_numbers_since_1970(dates, unit, second):
    admitted = dates[["admitted"]]
    since = (admitted - pd.Timestamp(0)) / pd.Timedelta("1s") * second
    expected = TimeEmbedder(method="calendar").fit_transform(admitted)
    out = TimeEmbedder(method="calendar", unit=unit).fit_transform(since.to_numpy())
    np.testing.assert_allclose(out, expected, atol=1e-6)


def test_dates_before_1970_and_midnight():
    X = pd.DataFrame({"t": pd.to_datetime(["1969-12-31", "1900-03-01", "2024-12-31"])})
    out = TimeEmbedder(method="calendar").set_output(transform="pandas").fit_transform(X)
    np.testing.assert_allclose(out["t_hour_cos"], 1)
    np.testing.assert_allclose(out["t_weekday_sin"], np.sin(2 * np.pi * np.array([2, 3, 1]) / 7))
    np.testing.assert_allclose(out["t_month_cos"], np.cos(2 * np.pi * np.array([11, 2, 11]) / 12))


def test_the_calendar_refuses_what_is_not_in_it(dates, times):
    with pytest.raises(DataError, match="Expected dates in 'x0'.*Got numbers.*unit="):
        TimeEmbedder(method="calendar").fit(times)
    with pytest.raises(DataError, match="'stay' for method='calendar'. Got time differences"):
        TimeEmbedder(method="calendar").fit(dates)
    with pytest.raises(DataError, match="units of 'D' in 'x0'. Got 1.7e\\+18, millions of years"):
        TimeEmbedder(method="calendar", unit="D").fit([[1.7e18]])


# ---- missing times --------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_missing_times_are_zeros_with_an_indicator(times, method):
    times[3, 0] = NAN
    embedder = TimeEmbedder(method=method, unit="h").fit(times)
    out = embedder.transform(times)
    names = embedder.get_feature_names_out().tolist()
    assert np.isfinite(out).all() and embedder.indicator_features_.tolist() == [0]
    first = names.index("x0_missing")
    assert "x1_missing" not in names and (out[3, :first] == 0).all()
    np.testing.assert_array_equal(out[:, first], np.arange(50) == 3)
    times[5, 1] = NAN
    with pytest.warns(DataWarning, match=r"1 missing times.*'x1' \(1\)") as caught:
        out = embedder.transform(times)
    assert caught[0].filename == __file__ and (out[5, first + 1 :] == 0).all()


def test_indicators_of_all_columns(times):
    embedder = TimeEmbedder(method="delta", indicators="all").fit(times)
    expected = ["x0_delta", "x0_missing", "x1_delta", "x1_missing"]
    assert embedder.get_feature_names_out().tolist() == expected


@pytest.mark.parametrize("method", ["sinusoidal", "time2vec", "delta", "log_delta", "calendar"])
def test_missing_dates(dates, method):
    X = dates[["admitted", "zoned"]].copy()
    X.iloc[2] = pd.NaT
    out = TimeEmbedder(method=method).set_output(transform="pandas").fit_transform(X)
    assert np.isfinite(out.to_numpy()).all()
    assert out["zoned_missing"].tolist() == [0, 0, 1] + [0] * 37


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("X", [[[NAN], [NAN]], [[5.0]], [[5.0], [5.0]]], ids=str)
def test_columns_without_a_scale(method, X):
    embedder = TimeEmbedder(method=method, unit="h").fit(X)
    assert np.isfinite(embedder.transform(X)).all()
    assert embedder.span_.tolist() == [1] and embedder.gap_.tolist() == [1]


@pytest.mark.parametrize("method", METHODS[:-1])
@pytest.mark.parametrize("big", [1e300, 1.7e308, 1e-320])
def test_extreme_times_stay_finite_without_warnings(method, big):
    X = np.array([[-big], [0.0], [big]])
    assert np.isfinite(TimeEmbedder(method=method).fit_transform(X)).all()
    embedder = TimeEmbedder(method=method).fit([[0.0], [1e-310]])
    assert np.isfinite(embedder.transform(X)).all()


# ---- panels ---------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS[:-1])
def test_panels_keep_their_channels_and_get_those_of_the_step(panel, method):
    embedder = TimeEmbedder(method=method, n_frequencies=3, random_state=0).fit(panel)
    out = embedder.transform(panel)
    np.testing.assert_array_equal(out[:, :3], panel)
    steps = np.arange(12.0)[:, None]
    if method in ("delta", "log_delta"):
        one = np.minimum(steps, 1) if method == "delta" else np.log1p(np.minimum(steps, 1))
    else:
        plain = TimeEmbedder(method=method, n_frequencies=3, random_state=0)
        one = plain.fit(steps).transform(steps)
    for b in range(5):
        np.testing.assert_allclose(out[b, 3:], one.T, atol=1e-12)
    assert embedder.get_feature_names_out()[:4].tolist() == [
        "channel_0",
        "channel_1",
        "channel_2",
        {"sinusoidal": "time_sin0", "time2vec": "time_linear"}.get(method, f"time_{method}"),
    ]


def test_time_in_a_channel(panel):
    embedder = TimeEmbedder(channel=1, n_frequencies=4).fit(panel)
    time = panel[:, 1]
    assert embedder.reference_[0] == time.min()
    assert embedder.span_[0] == pytest.approx(time.max() - time.min())
    assert embedder.gap_[0] == pytest.approx(np.median(np.diff(time, axis=1)))
    out = embedder.transform(panel)
    assert out.shape == (5, 11, 12)
    for k, w in enumerate(embedder.frequencies_[0]):
        np.testing.assert_allclose(out[:, 3 + 2 * k], np.sin(w * (time - time.min())), atol=1e-12)
    names = embedder.get_feature_names_out(["hr", "hour", "map"]).tolist()
    assert names[:5] == ["hr", "hour", "map", "hour_sin0", "hour_cos0"]


def test_differences_between_the_steps_of_a_case_with_gaps(panel):
    panel[1, 1, [0, 4, 5, 11]] = NAN
    embedder = TimeEmbedder(method="delta", channel=1).fit(panel)
    out = embedder.transform(panel)
    assert out.shape == (5, 5, 12)  # and an indicator
    for b in range(5):
        last = None
        for t in range(12):
            now = panel[b, 1, t]
            assert out[b, 4, t] == np.isnan(now)
            expected = 0.0 if np.isnan(now) or last is None else now - last
            assert out[b, 3, t] == pytest.approx(expected)
            last = last if np.isnan(now) else now


def test_lists_give_what_panels_give(panel):
    series = [case[:, : 12 - b] for b, case in enumerate(panel)]
    for params in ({}, {"channel": 1}, {"method": "delta", "channel": 1}):
        embedder = TimeEmbedder(**params).fit(panel)
        for b, (short, whole) in enumerate(
            zip(embedder.transform(series), embedder.transform(panel), strict=True)
        ):
            np.testing.assert_array_equal(short, whole[:, : 12 - b])
        assert isinstance(TimeEmbedder(**params).fit_transform(series), list)


def test_the_calendar_of_a_channel(dates):
    hours = (dates["admitted"] - pd.Timestamp(0)) / pd.Timedelta("1h")
    panel = hours.to_numpy().reshape(4, 1, 10)
    out = TimeEmbedder(method="calendar", channel=0, unit="h").fit_transform(panel)
    expected = TimeEmbedder(method="calendar").fit_transform(dates[["admitted"]])
    np.testing.assert_allclose(out[:, 1:].swapaxes(1, 2).reshape(40, 6), expected, atol=1e-6)


def test_panels_stay_arrays_under_set_output(panel):
    with config_context(transform_output="pandas"):
        assert TimeEmbedder().fit_transform(panel).shape == (5, 19, 12)


def test_before_the_missing_mask_encoder(panel):
    model = make_pipeline(TimeEmbedder(n_frequencies=2), MissingMaskEncoder())
    assert model.fit_transform(panel).shape == (5, 14, 12)


def test_channels_that_are_not_there(panel, times):
    with pytest.raises(DataError, match="channel to be 0 to 2. Got 3"):
        TimeEmbedder(channel=3).fit(panel)
    with pytest.raises(DataError, match=r"for channel=0. Got a table"):
        TimeEmbedder(channel=0).fit(times)
    with pytest.raises(DataError, match=r"looks like \(n, T, C\)"):
        TimeEmbedder().fit(panel).transform(panel.swapaxes(1, 2))
    panel[0, 1, 2] = np.inf
    with pytest.raises(
        DataError, match="infinite ones in 'channel_1', the first in case 0, step 2"
    ):
        TimeEmbedder(channel=1).fit(panel)


# ---- scikit-learn ---------------------------------------------------------------------------


@parametrize_with_checks(
    [
        TimeEmbedder(),
        TimeEmbedder(indicators="all", n_frequencies=1),
        *(TimeEmbedder(method=method, unit="h", n_frequencies=2) for method in METHODS[1:]),
    ]
)
@pytest.mark.filterwarnings("ignore")
def test_checks_of_scikit_learn(estimator, check, monkeypatch):
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")  # else one of them is skipped
    check(estimator)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("method", "fourier"),
        ("method", None),
        ("n_frequencies", 0),
        ("n_frequencies", 2.5),
        ("channel", -1),
        ("channel", "time"),
        ("unit", "weeks"),
        ("unit", 1),
        ("indicators", "none"),
        ("indicators", True),
        ("random_state", -1),
        ("random_state", "zero"),
    ],
)
def test_parameters_of_a_wrong_type_or_value(times, name, value):
    with pytest.raises(ValueError, match=f"The '{name}' parameter of TimeEmbedder"):
        TimeEmbedder(**{name: value}).fit(times)


def test_nothing_works_before_fit():
    for method in (TimeEmbedder().transform, TimeEmbedder().get_feature_names_out):
        with pytest.raises(NotFittedError):
            method([[1.0]])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_float_type_is_kept(times, panel, method, dtype):
    embedder = TimeEmbedder(method=method, unit="h", channel=None)
    assert embedder.fit_transform(times.astype(dtype)).dtype == dtype
    assert embedder.fit_transform(pd.DataFrame(times.astype(dtype))).dtype == dtype
    embedder.set_params(channel=1)
    assert embedder.fit_transform(panel.astype(dtype)).dtype == dtype


@pytest.mark.parametrize("output", ["pandas", "polars"])
def test_set_output_and_names(dates, output):
    embedder = TimeEmbedder(n_frequencies=1).set_output(transform=output)
    out = embedder.fit_transform(dates)
    assert type(out).__module__.startswith(output)
    assert list(out.columns) == embedder.get_feature_names_out().tolist()
    assert list(out.columns)[:3] == ["admitted_sin0", "admitted_cos0", "zoned_sin0"]


def test_polars_dates(dates):
    polars = pytest.importorskip("polars")
    dates = dates.reset_index(drop=True)
    expected = TimeEmbedder(method="delta").fit_transform(dates)
    out = TimeEmbedder(method="delta").fit_transform(polars.from_pandas(dates))
    np.testing.assert_allclose(out, expected)


def test_arrays_and_objects_of_dates(dates):
    expected = TimeEmbedder(method="calendar").fit_transform(dates[["admitted"]])
    array = dates[["admitted"]].to_numpy()
    assert array.dtype.kind == "M"
    np.testing.assert_array_equal(TimeEmbedder(method="calendar").fit_transform(array), expected)
    array = array.astype(object)
    np.testing.assert_array_equal(TimeEmbedder(method="calendar").fit_transform(array), expected)
    objects = pd.DataFrame({"t": dates["admitted"].astype(object)})
    np.testing.assert_array_equal(TimeEmbedder(method="calendar").fit_transform(objects), expected)
    days = pd.DataFrame({"t": dates["admitted"].dt.date})
    assert np.isfinite(TimeEmbedder().fit_transform(days)).all()


def test_column_transformer_and_pipeline(dates):
    X = dates.assign(age=np.arange(40.0))
    columns = ColumnTransformer(
        [
            ("when", TimeEmbedder(method="calendar"), make_column_selector("admitted|zoned")),
            ("rest", MissingMaskEncoder(), ["age"]),
        ]
    )
    model = make_pipeline(columns, LinearRegression()).fit(X, X["age"])
    assert model.predict(X).shape == (40,)
    assert columns.fit(X).get_feature_names_out()[0] == "when__admitted_hour_sin"


@pytest.mark.parametrize("method", METHODS)
def test_clone_pickle_and_joblib(dates, method, tmp_path):
    X = dates[["admitted", "zoned"]]
    embedder = TimeEmbedder(method=method, random_state=0).fit(X)
    assert not hasattr(clone(embedder), "span_")
    joblib.dump(embedder, tmp_path / "embedder.joblib")
    for again in (
        pickle.loads(pickle.dumps(embedder)),
        joblib.load(tmp_path / "embedder.joblib", mmap_mode="r"),
    ):
        np.testing.assert_array_equal(again.transform(X), embedder.transform(X))
    plain = (np.ndarray, list, dict, str, int, float, type(None))
    assert all(isinstance(value, plain) for value in vars(embedder).values())


def test_memory_mapped_times(times, tmp_path):
    np.save(tmp_path / "times.npy", times)
    mapped = np.load(tmp_path / "times.npy", mmap_mode="r")
    expected = TimeEmbedder().fit_transform(times)
    np.testing.assert_array_equal(TimeEmbedder().fit_transform(mapped), expected)


def test_the_data_are_not_changed(dates, panel):
    before, copy = dates.copy(deep=True), panel.copy()
    TimeEmbedder().fit_transform(dates)
    TimeEmbedder(channel=1).fit_transform(panel)
    pd.testing.assert_frame_equal(dates, before)
    np.testing.assert_array_equal(panel, copy)


def test_nothing_heavy_is_imported():
    code = (
        "import sys; from tawt_sklearn import MissingMaskEncoder, TimeEmbedder;"
        "print({'torch', 'skorch', 'polars', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_frame_with_two_index_levels_is_a_table(dates):
    index = pd.MultiIndex.from_product([range(4), range(10)])
    out = TimeEmbedder().fit_transform(dates.set_index(index))
    np.testing.assert_array_equal(out, TimeEmbedder().fit_transform(dates))


# ---- what is refused ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "got"),
    [
        (["2024-01-01", "2024-01-02"], "str values.*pandas.to_datetime"),
        ([True, False], "bool"),
        (pd.period_range("2024-01", periods=2, freq="M"), "period.*to_timestamp"),
        (pd.Categorical(["a", "b"]), "category"),
        ([1j, 2j], "complex"),
    ],
)
def test_columns_that_hold_no_times(column, got):
    with pytest.raises(DataError, match=f"time differences in column 't'. Got {got}"):
        TimeEmbedder().fit(pd.DataFrame({"t": column}))


def test_arrays_that_hold_no_times():
    with pytest.raises(DataError, match="Got text.*'2024-01-01'. Pass a DataFrame, whose columns"):
        TimeEmbedder().fit([["2024-01-01"]])
    with pytest.raises(DataError, match="Got datetime64.*dates as numbers of hours"):
        TimeEmbedder().fit(np.zeros((2, 2, 2), dtype="datetime64[s]"))


def test_another_kind_of_time_than_in_fit(dates):
    embedder = TimeEmbedder().fit(dates[["admitted"]])
    for other in (dates["zoned"], dates["stay"], pd.Series(1.0, dates.index)):
        with pytest.raises(DataError, match="Expected datetimes in 'admitted', as in fit. Got"):
            embedder.transform(other.to_frame("admitted"))


def test_infinite_times(times):
    times[4, 1] = np.inf
    with pytest.raises(ValueError, match="infinity"):
        TimeEmbedder().fit(times)
    with pytest.raises(DataError, match="1 infinite ones in 'b', the first in row 4"):
        TimeEmbedder().fit(pd.DataFrame(times, columns=["a", "b"]))


def test_a_failed_fit_leaves_what_was_there(times, dates):
    embedder = TimeEmbedder(method="time2vec", random_state=0).fit(times)
    before = vars(embedder).copy()
    with pytest.raises(DataError):
        embedder.fit(dates.assign(name="a"))
    assert vars(embedder).keys() == before.keys()
    assert all(vars(embedder)[name] is before[name] for name in before)


def test_columns_of_one_name_are_refused(times):
    with pytest.raises(DataError, match="Got 'a' more than once"):
        TimeEmbedder().fit(pd.DataFrame(times, columns=["a", "a"]))


@pytest.mark.parametrize("later", [{"n_frequencies": 4}, {"channel": 0}, {"method": "delta"}])
def test_parameters_set_after_fit_wait_for_the_next_one(later):
    X = np.random.default_rng(0).normal(size=(20, 3))
    embedder = TimeEmbedder().fit(X)
    before, names = embedder.transform(X), embedder.get_feature_names_out()
    embedder.set_params(**later)
    np.testing.assert_array_equal(embedder.transform(X), before)
    np.testing.assert_array_equal(embedder.get_feature_names_out(), names)
