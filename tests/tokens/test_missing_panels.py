"""MissingMaskEncoder on panels, lists of series and long frames."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn import config_context
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from tawt_sklearn import MissingMaskEncoder
from tawt_sklearn.exceptions import DataError, DataWarning

NAN = np.nan


@pytest.fixture
def panel() -> np.ndarray:
    """(7, 3, 11), a third missing; channel 2 holds categories."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(7, 3, 11)) * np.array([1, 50, 1])[:, None]
    X[:, 2] = rng.integers(0, 3, (7, 11))
    X[rng.random(X.shape) < 0.35] = NAN
    X[3, 1] = NAN  # a channel that a case does not have
    return X


@pytest.fixture
def series(panel) -> list[np.ndarray]:
    return [case[:, : 11 - k] for k, case in enumerate(panel)]


def long(panel: np.ndarray, step: float = 1.0) -> pd.DataFrame:
    B, C, T = panel.shape
    index = pd.MultiIndex.from_product([range(B), np.arange(T) * step], names=["stay", "hour"])
    names = [f"c{c}" for c in range(C)]
    return pd.DataFrame(panel.swapaxes(1, 2).reshape(-1, C), index, names)


def since_observed(values: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Step after step, for one case."""
    result, last = [], time[0]
    for t, value in zip(time, values, strict=True):
        if not np.isnan(value):
            last = t
        result.append(t - last)
    return np.array(result)


# ---- panels ---------------------------------------------------------------------------------


@pytest.mark.parametrize("scaling", ["standard", "robust"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_panel_gets_value_and_mask_channels(panel, scaling, dtype):
    panel = panel[:, :2].astype(dtype)
    encoder = MissingMaskEncoder(scaling=scaling).fit(panel)
    out = encoder.transform(panel)
    assert out.shape == (7, 4, 11) and out.dtype == dtype and np.isfinite(out).all()
    for c in range(2):
        x = panel[:, c].astype(np.float64)
        present = x[~np.isnan(x)]
        center, scale = present.mean(), present.std()
        if scaling == "robust":
            low, center, high = np.quantile(present, [0.25, 0.5, 0.75])
            scale = (high - low) / 1.349
        expected = np.where(np.isnan(x), 0, (x - center) / scale)
        np.testing.assert_allclose(out[:, c], expected, 1e-5, 1e-6)
        np.testing.assert_array_equal(out[:, 2 + c], np.isnan(x))
    assert encoder.n_features_in_ == 2 and encoder.form_ == "panel"
    assert encoder.get_feature_names_out().tolist() == [
        "channel_0",
        "channel_1",
        "channel_0_missing",
        "channel_1_missing",
    ]
    assert encoder.get_feature_names_out(["hr", "map"])[2] == "hr_missing"


def test_categorical_channels(panel):
    encoder = MissingMaskEncoder(categorical_features=[2]).fit(panel)
    out = encoder.transform(panel)
    assert out.shape == (7, 5, 11)  # no indicator: the code 0 says it
    values, counts = np.unique(panel[:, 2][~np.isnan(panel[:, 2])], return_counts=True)
    assert encoder.categories_[0].tolist() == values[np.argsort(-counts, kind="stable")].tolist()
    for code, value in enumerate(encoder.categories_[0], start=2):
        np.testing.assert_array_equal(out[:, 2] == code, panel[:, 2] == value)
    np.testing.assert_array_equal(out[:, 2] == 0, np.isnan(panel[:, 2]))
    new = panel[:1].copy()
    new[0, 2, 0] = 9
    with pytest.warns(DataWarning, match=r"'channel_2' \(1\)"):
        assert encoder.transform(new)[0, 2, 0] == 1


def test_time_since_observed_is_that_of_a_loop(panel):
    encoder = MissingMaskEncoder(time_since_observed=True, categorical_features=[2]).fit(panel)
    out = encoder.transform(panel)
    names = encoder.get_feature_names_out().tolist()
    assert names[-2:] == ["channel_0_since_observed", "channel_1_since_observed"]
    assert out.shape == (7, 7, 11)
    for b in range(7):
        for c in range(2):
            expected = since_observed(panel[b, c], np.arange(11.0))
            np.testing.assert_array_equal(out[b, 5 + c], expected)


def test_unequal_lengths_give_what_equal_ones_give(panel, series):
    encoder = MissingMaskEncoder(time_since_observed=True, categorical_features=[2]).fit(panel)
    out = encoder.transform(series)
    assert isinstance(out, list) and len(out) == 7
    for b, (short, whole) in enumerate(zip(out, encoder.transform(panel), strict=True)):
        np.testing.assert_array_equal(short, whole[:, : 11 - b])


def test_fit_on_unequal_lengths(series):
    encoder = MissingMaskEncoder(scaling="standard", categorical_features=None).fit(series)
    steps = np.concatenate(series, axis=1)
    np.testing.assert_allclose(encoder.center_, np.nanmean(steps, axis=1))
    np.testing.assert_allclose(encoder.scale_, np.nanstd(steps, axis=1))
    empty = [*series, np.empty((3, 0))]
    assert encoder.transform(empty)[-1].shape == (6, 0)


def test_lists_of_lists(panel, series):
    expected = MissingMaskEncoder().fit_transform(series)
    out = MissingMaskEncoder().fit_transform([x.tolist() for x in series])
    for one, other in zip(out, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("indicators", ["all", "missing-only"])
@pytest.mark.parametrize("since", [False, True])
def test_inverse_of_panels_and_lists(panel, series, indicators, since):
    encoder = MissingMaskEncoder(
        indicators=indicators, categorical_features=[2], time_since_observed=since
    ).fit(panel)
    back = encoder.inverse_transform(encoder.transform(panel))
    assert back.dtype == np.float64
    np.testing.assert_allclose(back, panel, 1e-12, 1e-12)
    for one, other in zip(
        encoder.inverse_transform(encoder.transform(series)), series, strict=True
    ):
        np.testing.assert_allclose(one, other, 1e-12, 1e-12)
    with pytest.raises(DataError, match="Expected a panel of"):
        encoder.inverse_transform(panel[:, :1])
    with pytest.raises(DataError, match="Expected a panel of"):
        encoder.inverse_transform([])


def test_channels_without_numbers(panel):
    panel[:, 0] = NAN
    encoder = MissingMaskEncoder(time_since_observed=True).fit(panel)
    out = encoder.transform(panel)
    assert (out[:, 0] == 0).all() and (out[:, 3] == 1).all()
    np.testing.assert_array_equal(out[:, 6], np.tile(np.arange(11), (7, 1)))
    panel[:, 1] = NAN  # only now
    assert np.isfinite(encoder.transform(panel)).all()


def test_whole_numbers_and_objects_in_panels():
    X = np.arange(12).reshape(2, 2, 3)
    expected = MissingMaskEncoder().fit_transform(X.astype(float))
    np.testing.assert_array_equal(MissingMaskEncoder().fit_transform(X), expected)
    np.testing.assert_array_equal(MissingMaskEncoder().fit_transform(X.astype(object)), expected)
    np.testing.assert_array_equal(MissingMaskEncoder().fit_transform(X.tolist())[0], expected[0])


def test_panels_stay_arrays_under_set_output(panel, series):
    encoder = MissingMaskEncoder().set_output(transform="pandas")
    assert encoder.fit_transform(panel).shape == (7, 6, 11)
    assert isinstance(encoder.transform(series), list)
    with config_context(transform_output="polars"):
        assert MissingMaskEncoder().fit_transform(panel).shape == (7, 6, 11)


def test_panels_in_a_pipeline(panel):
    flat = FunctionTransformer(lambda X: X.reshape(len(X), -1))
    assert make_pipeline(MissingMaskEncoder(), flat).fit_transform(panel).shape == (7, 66)


def test_memory_mapped_panel(panel, tmp_path):
    np.save(tmp_path / "panel.npy", panel)
    mapped = np.load(tmp_path / "panel.npy", mmap_mode="r")
    expected = MissingMaskEncoder().fit_transform(panel)
    np.testing.assert_array_equal(MissingMaskEncoder().fit_transform(mapped), expected)


# ---- long frames ----------------------------------------------------------------------------


def test_an_index_of_cases_and_times_stays(panel):
    X = long(panel)
    encoder = MissingMaskEncoder(categorical_features=["c2"], time_since_observed=True)
    out = encoder.fit_transform(X)
    assert isinstance(out, pd.DataFrame) and out.index.equals(X.index)
    assert out.columns.tolist() == encoder.get_feature_names_out().tolist()
    expected = MissingMaskEncoder(categorical_features=[2], time_since_observed=True)
    values = expected.fit_transform(panel).swapaxes(1, 2).reshape(77, -1)
    np.testing.assert_allclose(out.to_numpy(), values, 1e-12, 1e-12)
    pd.testing.assert_frame_equal(encoder.inverse_transform(out), X)


@pytest.mark.parametrize("shuffled", [False, True])
def test_columns_of_cases_and_times_stay(panel, shuffled):
    X = long(panel, 0.5).reset_index()[["c0", "hour", "c1", "stay", "c2"]]
    if shuffled:
        X = X.sample(frac=1, random_state=0)
    encoder = MissingMaskEncoder(
        case="stay", time="hour", categorical_features=["c2"], time_since_observed=True
    ).fit(X)
    out = encoder.transform(X)
    assert out.columns.tolist()[:5] == ["hour", "stay", "c0", "c1", "c2"]
    assert out.columns.tolist() == encoder.get_feature_names_out().tolist()
    assert out.index.equals(X.index)
    pd.testing.assert_series_equal(out["stay"], X["stay"])
    for _, rows in out.assign(raw=X["c0"]).groupby("stay"):
        rows = rows.sort_values("hour")
        expected = since_observed(rows["raw"].to_numpy(), rows["hour"].to_numpy())
        np.testing.assert_array_equal(rows["c0_since_observed"], expected)
    pd.testing.assert_frame_equal(encoder.inverse_transform(out), X, check_dtype=False)
    assert encoder.n_features_in_ == 5


def test_dates_are_counted_in_hours():
    X = pd.DataFrame(
        {
            "id": ["a", "a", "b", "a"],
            "at": pd.to_datetime(
                ["2024-01-01 00:00", "2024-01-01 01:30", "2024-01-09 00:00", "2024-01-02 00:00"]
            ),
            "hr": [60.0, NAN, NAN, NAN],
        }
    )
    encoder = MissingMaskEncoder(case="id", time="at", time_since_observed=True)
    assert encoder.fit_transform(X)["hr_since_observed"].tolist() == [0, 1.5, 0, 24]


def test_without_times_the_rows_of_a_case_are_in_order():
    X = pd.DataFrame({"id": [1, 2, 1, 2, 1], "hr": [1.0, NAN, NAN, NAN, NAN]})
    encoder = MissingMaskEncoder(case="id", time_since_observed=True)
    assert encoder.fit_transform(X)["hr_since_observed"].tolist() == [0, 0, 1, 1, 2]


@pytest.mark.parametrize("levels", [["stay", "hour"], ["hour", "stay"]])
def test_levels_of_the_index_by_name(panel, levels):
    X = long(panel).reorder_levels(levels)
    expected = MissingMaskEncoder(time_since_observed=True).fit_transform(long(panel))
    for names in ({"case": "stay"}, {"case": "stay", "time": "hour"}):
        out = MissingMaskEncoder(time_since_observed=True, **names).fit_transform(X)
        np.testing.assert_array_equal(out, expected)


def test_text_channels_of_a_long_frame(panel):
    X = long(panel).assign(mode=["a", "b", None] * 25 + ["a", "a"])
    out = MissingMaskEncoder().fit_transform(X)
    assert out["mode"].map({2: "a", 3: "b"}).tolist()[:2] == ["a", "b"] and out["mode"].iloc[2] == 0


@pytest.mark.parametrize("output", ["pandas", "polars"])
def test_set_output_of_long_frames(panel, output):
    X = long(panel).reset_index()
    encoder = MissingMaskEncoder(case="stay", time="hour").set_output(transform=output)
    out = encoder.fit_transform(X)
    assert type(out).__module__.startswith(output)
    assert list(out.columns) == encoder.get_feature_names_out().tolist()


def test_polars_in_polars_out(panel):
    polars = pytest.importorskip("polars")
    X = long(panel).reset_index()
    encoder = MissingMaskEncoder(case="stay", time="hour")
    out = encoder.fit_transform(polars.from_pandas(X))
    assert isinstance(out, polars.DataFrame)
    pd.testing.assert_frame_equal(out.to_pandas(), encoder.transform(X))
    pd.testing.assert_frame_equal(encoder.inverse_transform(out), X)


def test_columns_with_numbers_as_names(panel):
    X = long(panel).reset_index().set_axis(range(5), axis=1)
    encoder = MissingMaskEncoder(case=0, time=1).fit(X)
    out = encoder.transform(X)
    assert [str(name) for name in out.columns] == encoder.get_feature_names_out().tolist()
    assert out.columns.tolist()[:3] == [0, 1, "2"]
    pd.testing.assert_frame_equal(encoder.inverse_transform(out), X)


# ---- what is refused ------------------------------------------------------------------------


def test_time_before_channels(panel, series):
    encoder = MissingMaskEncoder().fit(panel)
    with pytest.raises(DataError, match=r"3 channels, as in fit. Got 11. X looks like \(n, T, C\)"):
        encoder.transform(panel.swapaxes(1, 2))
    with pytest.raises(DataError, match=r"looks like \(n, T, C\).*\[x.T for x in X\]"):
        encoder.transform([panel[0].T, panel[1].T])
    with pytest.raises(DataError, match=r"look like \(n_timepoints, n_channels\)"):
        encoder.transform([x.T for x in series])
    with pytest.raises(DataError, match=r"look like \(n_timepoints, n_channels\)"):
        MissingMaskEncoder().fit([x.T for x in series])


def test_another_number_of_channels(panel):
    encoder = MissingMaskEncoder().fit(panel)
    with pytest.raises(DataError, match="3 channels, as in fit. Got 2. Pass the channels of fit"):
        encoder.transform(panel[:, :2])
    with pytest.raises(DataError, match="the same number of channels"):
        encoder.transform([panel[0], panel[1, :2]])


def test_ragged_arrays_of_objects(series):
    ragged = np.empty(7, dtype=object)
    ragged[:] = series
    with pytest.raises(DataError, match="array of objects that holds arrays.*as a list"):
        MissingMaskEncoder().fit(ragged)
    with pytest.raises(DataError, match="array of objects that holds arrays"):
        MissingMaskEncoder().fit(ragged[:, None])
    with pytest.raises(DataError, match="1-D arrays of different lengths"):
        MissingMaskEncoder().fit([np.zeros(3), np.zeros(4)])
    with pytest.raises(DataError, match="Got lists of rows"):
        MissingMaskEncoder().fit([[[1.0, 2.0], [3.0]]])


def test_infinite_numbers_are_pointed_at(panel, series):
    panel[2, 1, 4] = np.inf
    with pytest.raises(
        DataError, match="1 infinite ones in 'channel_1', the first in case 2, step 4"
    ):
        MissingMaskEncoder().fit(panel)
    series[1] = series[1].copy()
    series[1][0, 3] = -np.inf
    with pytest.raises(DataError, match="'channel_0', the first in case 1, step 3"):
        MissingMaskEncoder().fit(series)


def test_fractions_in_a_categorical_channel(panel):
    encoder = MissingMaskEncoder(categorical_features=[2]).fit(panel)
    panel[4, 2, 6] = 1.25
    for act in (MissingMaskEncoder(categorical_features=[2]).fit, encoder.transform):
        with pytest.raises(
            DataError, match=r"whole numbers in 'channel_2'.*1.25 in case 4, step 6"
        ):
            act(panel)
    with pytest.raises(DataError, match="whole numbers in 'c2'"):
        MissingMaskEncoder(categorical_features=["c2"]).fit(long(panel))


def test_text_and_complex_panels(panel):
    with pytest.raises(DataError, match="Expected a panel of numbers. Got <U3"):
        MissingMaskEncoder().fit(np.full((1, 1, 2), "abc"))
    with pytest.raises(DataError, match="Got complex128"):
        MissingMaskEncoder().fit(panel.astype(complex))
    with pytest.raises(DataError, match="Got object"):
        MissingMaskEncoder().fit(np.full((1, 1, 2), "abc", dtype=object))


@pytest.mark.parametrize("shape", [(0, 2, 3), (3, 2, 0)])
def test_no_steps(shape):
    with pytest.raises(DataError, match="at least one row or time step"):
        MissingMaskEncoder().fit(np.empty(shape))


def test_no_channels():
    for X in (np.empty((3, 0, 4)), pd.DataFrame(index=range(3))):
        with pytest.raises(DataError, match="at least one column or channel"):
            MissingMaskEncoder().fit(X)


def test_another_form_than_in_fit(panel):
    X = long(panel)
    forms = {
        "a panel": panel,
        "a table": X.reset_index(drop=True),
        "a long frame": X,
    }
    for fitted, one in forms.items():
        encoder = MissingMaskEncoder().fit(one)
        for given, other in forms.items():
            if given != fitted:
                with pytest.raises(DataError, match=f"Expected {fitted}.*Got {given}"):
                    encoder.transform(other)
    with pytest.raises(DataError, match="Expected a long frame, as transform gives it"):
        MissingMaskEncoder().fit(X).inverse_transform(X.to_numpy())


def test_cases_and_times_that_are_not_there(panel):
    X = long(panel).reset_index()
    with pytest.raises(DataError, match=r"level 'patient' \(case=\). Got the columns \['stay'"):
        MissingMaskEncoder(case="patient").fit(X)
    with pytest.raises(DataError, match=r"level 'day' \(time=\)"):
        MissingMaskEncoder(case="stay", time="day").fit(X)
    with pytest.raises(DataError, match="case= beside time='hour'"):
        MissingMaskEncoder(time="hour").fit(X)
    with pytest.raises(DataError, match="different columns as case and time. Got 'stay'"):
        MissingMaskEncoder(case="stay", time="stay").fit(X)
    with pytest.raises(DataError, match="channels beside the columns of case and time"):
        MissingMaskEncoder(case="stay", time="hour").fit(X[["stay", "hour"]])
    X.loc[3, "hour"] = NAN
    with pytest.raises(DataError, match="a time in every row. Got 1 missing ones in 'hour'.*row 3"):
        MissingMaskEncoder(case="stay", time="hour").fit(X)


def test_times_that_are_text(panel):
    X = long(panel).reset_index().astype({"hour": str})
    encoder = MissingMaskEncoder(case="stay", time="hour", time_since_observed=True).fit(X)
    with pytest.raises(DataError, match="dates or time differences in column 'hour'. Got str"):
        encoder.transform(X)


def test_a_failed_fit_on_a_panel_leaves_what_was_there(panel):
    encoder = MissingMaskEncoder().fit(panel)
    before = vars(encoder).copy()
    with pytest.raises(DataError):
        encoder.fit(long(panel).assign(c0=np.inf))
    assert all(vars(encoder)[name] is before[name] for name in before)
    assert vars(encoder).keys() == before.keys()


def test_parameters_set_after_fit_wait_for_the_next_one():
    panel = np.random.default_rng(0).normal(size=(6, 2, 5))
    encoder = MissingMaskEncoder().fit(panel)
    encoder.set_params(time_since_observed=True)
    assert encoder.transform(panel).shape == (6, 4, 5)
    assert len(encoder.get_feature_names_out()) == 4
    assert encoder.fit(panel).transform(panel).shape == (6, 6, 5)
