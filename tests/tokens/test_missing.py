"""MissingMaskEncoder on tables; panels and long frames are in test_missing_panels.py."""

from __future__ import annotations

import pickle
import warnings

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from tawt_sklearn import EventsArray, MissingMaskEncoder
from tawt_sklearn.exceptions import DataError, DataWarning

from .builders import frame_of

NAN = np.nan


@pytest.fixture
def numbers() -> np.ndarray:
    """Skewed columns on several scales, a fifth missing."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 4)) * [1, 100, 1e-3, 5] + [0, 1000, 0, -50]
    X[:, 3] = np.round(X[:, 3])
    X[rng.random(X.shape) < 0.2] = NAN
    return X


@pytest.fixture
def mixed(numbers) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    ward = rng.choice(["A", "B", "C"], 60, p=[0.6, 0.3, 0.1]).astype(object)
    ward[::7] = None
    return pd.DataFrame(
        {
            "hr": numbers[:, 0],
            "ward": pd.array(ward, dtype="str"),
            "map": numbers[:, 1],
            "grade": pd.Categorical(rng.integers(1, 4, 60)),
            "icu": rng.random(60) < 0.3,
            "count": pd.array(np.where(np.arange(60) % 5, np.arange(60), None), dtype="Int64"),
        },
        index=[f"p{k}" for k in range(60)],
    )


def quantile(x: np.ndarray, p: float) -> float:
    """Linearly interpolated quantile, by hand."""
    ordered = sorted(x[~np.isnan(x)].tolist())
    at = p * (len(ordered) - 1)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (at - low) * (ordered[high] - ordered[low])


# ---- numbers --------------------------------------------------------------------------------


@pytest.mark.parametrize("scaling", ["standard", "robust", None])
def test_numbers_are_scaled_and_missing_ones_are_the_centre_with_an_indicator(numbers, scaling):
    out = MissingMaskEncoder(scaling=scaling).fit_transform(numbers)
    assert out.shape == (60, 8) and np.isfinite(out).all()
    for c in range(4):
        x = numbers[:, c]
        present = ~np.isnan(x)
        center, scale = {
            "standard": (np.mean(x[present]), np.std(x[present])),
            "robust": (quantile(x, 0.5), (quantile(x, 0.75) - quantile(x, 0.25)) / 1.349),
            None: (0, 1),
        }[scaling]
        np.testing.assert_allclose(out[present, c], ((x - center) / scale)[present], 1e-10, 1e-12)
        assert (out[~present, c] == 0).all()
        np.testing.assert_array_equal(out[:, 4 + c], ~present)


def test_robust_falls_back_where_most_numbers_are_equal():
    half = np.r_[np.zeros(60), np.linspace(1, 40, 40)]
    few = np.r_[np.zeros(98), 10, 20]
    encoder = MissingMaskEncoder().fit(np.c_[half[:100], few, np.full(100, 0.1)])
    inner = quantile(half, 0.95) - quantile(half, 0.05)
    quartiles = (quantile(half, 0.75) - quantile(half, 0.25)) / 1.349
    assert encoder.scale_[0] == pytest.approx(quartiles or inner / 3.2897)
    assert encoder.scale_[1] == pytest.approx(np.std(few))
    assert encoder.scale_[2] == 1 and encoder.center_[2] == 0.1


def test_inner_quantiles_take_over_before_the_standard_deviation():
    x = np.r_[np.zeros(80), np.linspace(1, 20, 20)]
    encoder = MissingMaskEncoder().fit(x[:, None])
    inner = quantile(x, 0.95) - quantile(x, 0.05)
    assert encoder.scale_[0] == pytest.approx(inner / 3.2897)


@pytest.mark.parametrize("scaling", ["standard", "robust"])
@pytest.mark.parametrize("big", [1e300, 1.7e308, 1e-310])
def test_extreme_numbers_stay_finite_without_warnings(scaling, big):
    X = np.array([[-big], [0.0], [big], [NAN]])
    out = MissingMaskEncoder(scaling=scaling).fit_transform(X)
    assert np.isfinite(out).all() and out[2, 0] > 0 > out[0, 0]


def test_a_huge_number_does_not_become_infinite_in_float32():
    encoder = MissingMaskEncoder(scaling="standard").fit(np.float32([[0], [1e-30]]))
    out = encoder.transform(np.float32([[3e38]]))
    assert out.dtype == np.float32 and out[0, 0] == np.finfo(np.float32).max


def test_statistics_of_float32_are_those_of_float64():
    rng = np.random.default_rng(0)
    X = (1e6 + rng.normal(size=(500, 1))).astype(np.float32)
    narrow = MissingMaskEncoder(scaling="standard").fit(X)
    wide = MissingMaskEncoder(scaling="standard").fit(X.astype(np.float64))
    assert narrow.center_ == wide.center_ and narrow.scale_ == wide.scale_
    assert wide.scale_[0] == pytest.approx(1, rel=0.2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_float_type_is_kept(numbers, dtype):
    assert MissingMaskEncoder().fit_transform(numbers.astype(dtype)).dtype == dtype
    frame = pd.DataFrame(numbers.astype(dtype)).assign(ward="A")
    frame.columns = frame.columns.astype(str)
    assert MissingMaskEncoder().fit_transform(frame).dtype == dtype


def test_other_numbers_become_float64():
    for X in ([[1, 2], [3, 4]], np.array([[True], [False]]), np.ones((2, 1), np.float16)):
        assert MissingMaskEncoder().fit_transform(X).dtype == np.float64


def test_columns_without_numbers_work_in_fit_and_in_transform():
    X = np.array([[NAN, 1.0], [NAN, 3.0]])
    for scaling in ("standard", "robust", None):
        encoder = MissingMaskEncoder(scaling=scaling).fit(X)
        assert encoder.center_[0] == 0 and encoder.scale_[0] == 1
        out = encoder.transform(np.array([[2.0, NAN]]))
        np.testing.assert_array_equal(out, [[2.0, 0.0, 0.0, 1.0]])


def test_masked_arrays_are_missing_where_masked():
    X = np.ma.masked_array([[1.0, 2.0], [3.0, 4.0]], mask=[[False, True], [False, False]])
    out = MissingMaskEncoder(scaling=None).fit_transform(X)
    np.testing.assert_array_equal(out, [[1, 0, 0, 1], [3, 4, 0, 0]])


# ---- indicators -----------------------------------------------------------------------------


def test_missing_only_gives_indicators_to_columns_with_gaps_in_fit():
    X = np.array([[1.0, NAN, 1], [2.0, 5.0, 2]])
    encoder = MissingMaskEncoder(indicators="missing-only").fit(X)
    assert encoder.indicator_features_.tolist() == [1]
    assert encoder.get_feature_names_out().tolist() == ["x0", "x1", "x2", "x1_missing"]


def test_new_gaps_without_indicator_are_the_centre_with_a_warning():
    encoder = MissingMaskEncoder(indicators="missing-only").fit(np.array([[1.0], [3.0]]))
    with pytest.warns(DataWarning, match=r"2 missing values.*'x0' \(2\)") as caught:
        out = encoder.transform(np.array([[NAN], [NAN]]))
    assert caught[0].filename == __file__
    np.testing.assert_array_equal(out, [[0.0], [0.0]])


def test_indicators_of_all_numeric_columns_by_default(mixed):
    encoder = MissingMaskEncoder().fit(mixed)
    assert encoder.indicator_features_.tolist() == [0, 2, 5]


# ---- categories -----------------------------------------------------------------------------


def test_columns_of_a_frame_by_their_type(mixed):
    encoder = MissingMaskEncoder().set_output(transform="pandas")
    out = encoder.fit_transform(mixed)
    assert encoder.categorical_features_.tolist() == [1, 3, 4]
    assert out.columns.tolist() == [*mixed.columns, "hr_missing", "map_missing", "count_missing"]
    assert out.index.equals(mixed.index)
    assert encoder.categories_[0].tolist() == ["A", "B", "C"]
    codes = mixed["ward"].map({"A": 2, "B": 3, "C": 4}).fillna(0)
    np.testing.assert_array_equal(out["ward"], codes)
    assert sorted(encoder.categories_[1].tolist()) == [1, 2, 3]
    assert set(out["icu"]) == {2, 3}
    np.testing.assert_array_equal(out["count_missing"], mixed["count"].isna())


def test_categories_that_fit_has_not_seen_have_a_code_and_a_warning(mixed):
    encoder = MissingMaskEncoder().fit(mixed)
    new = mixed.iloc[:3].assign(ward=["Z", None, "A"])
    with pytest.warns(DataWarning, match=r"1 values of categorical columns.*'ward' \(1\)"):
        out = encoder.transform(new)
    assert out[:, 1].tolist() == [1, 0, 2]


@pytest.mark.parametrize(
    "asked", [[1, 3], ["b", "d"], np.array([1, 3]), [False, True, False, True], ("d", 1)]
)
def test_categorical_features_by_position_name_or_mask(asked):
    X = pd.DataFrame({"a": [1.0, 2], "b": [5, 6], "c": [0.5, 1], "d": [7.0, NAN]})
    if isinstance(asked, tuple):
        asked = [asked[0], "b"]
    encoder = MissingMaskEncoder(categorical_features=asked).fit(X)
    assert encoder.categorical_features_.tolist() == [1, 3]
    assert [values.tolist() for values in encoder.categories_] == [[5, 6], [7]]


def test_categories_of_an_array_of_numbers():
    X = np.array([[1.0, 0.5], [1.0, 1.5], [2.0, NAN], [NAN, 1.5]])
    encoder = MissingMaskEncoder(categorical_features=[0, 1]).fit(X)
    expected = [[2, 3], [2, 2], [3, 0], [0, 2]]
    np.testing.assert_array_equal(encoder.transform(X), expected)
    np.testing.assert_array_equal(encoder.inverse_transform(expected), X)


@pytest.mark.parametrize("form", [list, lambda X: np.array(X, dtype=object)])
def test_text_in_arrays_where_it_is_named(form):
    X = form([["a", 1.0], ["b", 3.0], ["a", NAN]])
    encoder = MissingMaskEncoder(categorical_features=[0], scaling=None).fit(X)
    out = encoder.transform(X)
    np.testing.assert_array_equal(out, [[2, 1, 0], [3, 3, 0], [2, 0, 1]])
    assert encoder.inverse_transform(out)[:2].tolist() == [["a", 1.0], ["b", 3.0]]


@pytest.mark.parametrize("asked", ["auto", None])
def test_text_in_arrays_that_is_not_named_is_refused(asked):
    with pytest.raises(DataError, match="Got text.*'a'.*categorical_features"):
        MissingMaskEncoder(categorical_features=asked).fit([["a", 1.0], ["b", 2.0]])


def test_whole_numbers_are_one_category_whatever_their_type():
    encoder = MissingMaskEncoder(categorical_features=["g"]).fit(pd.DataFrame({"g": [1, 2, 2]}))
    out = encoder.transform(pd.DataFrame({"g": [2.0, NAN, 1.0]}))
    assert out[:, 0].tolist() == [2, 0, 3]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ([7], "positions 0 to 5.*Got 7"),
        ([-1], "Got -1"),
        (["wards"], "Got 'wards'"),
        ([0.5], "Got 0.5"),
        ([True, False], "mask of 6 bools.*Got True"),
        ([0], "Got str values in 'ward'"),
        (None, "Got str values in 'ward'"),
    ],
)
def test_categorical_features_that_do_not_fit_x(mixed, asked, message):
    with pytest.raises(DataError, match=message):
        MissingMaskEncoder(categorical_features=asked).fit(mixed)


# ---- and back -------------------------------------------------------------------------------


@pytest.mark.parametrize("scaling", ["standard", "robust", None])
def test_inverse_of_numbers(numbers, scaling):
    encoder = MissingMaskEncoder(scaling=scaling).fit(numbers)
    back = encoder.inverse_transform(encoder.transform(numbers))
    assert isinstance(back, np.ndarray)
    np.testing.assert_allclose(back, numbers, 1e-12, 1e-12)


@pytest.mark.parametrize("output", ["default", "pandas", "polars"])
def test_inverse_of_a_frame(mixed, output):
    encoder = MissingMaskEncoder().fit(mixed).set_output(transform=output)
    back = encoder.inverse_transform(encoder.transform(mixed))
    assert back.columns.tolist() == mixed.columns.tolist()
    if output == "pandas":
        assert back.index.equals(mixed.index)
    assert back["ward"].isna().tolist() == mixed["ward"].isna().tolist()
    for name in mixed:
        numeric = name in ("hr", "map", "count")
        expected = mixed[name].to_numpy(float, na_value=NAN) if numeric else mixed[name].to_numpy()
        present = ~pd.isna(expected)
        got = back[name].to_numpy()[present]
        if numeric:
            np.testing.assert_allclose(got, expected[present], 1e-9)
            assert np.isnan(back[name].to_numpy()[~present]).all()
        else:
            assert got.tolist() == expected[present].tolist()


def test_inverse_gives_the_centre_where_there_is_no_indicator():
    encoder = MissingMaskEncoder(indicators="missing-only").fit([[1.0], [3.0], [5.0]])
    assert encoder.inverse_transform([[0.0]]).tolist() == [[3.0]]


def test_inverse_refuses_what_transform_does_not_give(mixed):
    encoder = MissingMaskEncoder().fit(mixed)
    out = encoder.transform(mixed)
    with pytest.raises(DataError, match=r"table of 9 columns.*Got shape \(60, 8\)"):
        encoder.inverse_transform(out[:, :8])
    with pytest.raises(DataError, match="without \\['hr'"):
        encoder.inverse_transform(pd.DataFrame(out))
    for code in (1.5, -1, 99, NAN):
        broken = out.copy()
        broken[3, 1] = code
        with pytest.raises(DataError, match="codes 0 to 4 in 'ward'"):
            encoder.inverse_transform(broken)


# ---- scikit-learn ---------------------------------------------------------------------------


@parametrize_with_checks(
    [
        MissingMaskEncoder(),
        MissingMaskEncoder(scaling="standard", indicators="missing-only"),
        MissingMaskEncoder(scaling=None, categorical_features=[0]),
        MissingMaskEncoder(categorical_features=None),
    ]
)
@pytest.mark.filterwarnings("ignore")
def test_checks_of_scikit_learn(estimator, check, monkeypatch):
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")  # else one of them is skipped
    check(estimator)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("scaling", "quantile"),
        ("scaling", 1),
        ("categorical_features", "all"),
        ("categorical_features", 3),
        ("indicators", "some"),
        ("indicators", None),
        ("time_since_observed", "yes"),
        ("time_since_observed", None),
        ("case", 1.5),
        ("case", ["a"]),
        ("time", 1.5),
        ("time", ["a"]),
    ],
)
def test_parameters_of_a_wrong_type_or_value(name, value):
    with pytest.raises(ValueError, match=f"The '{name}' parameter of MissingMaskEncoder"):
        MissingMaskEncoder(**{name: value}).fit([[1.0], [2.0]])


def test_nothing_works_before_fit():
    for method in (
        MissingMaskEncoder().transform,
        MissingMaskEncoder().inverse_transform,
        MissingMaskEncoder().get_feature_names_out,
    ):
        with pytest.raises(NotFittedError):
            method([[1.0]])


def test_feature_names(numbers):
    encoder = MissingMaskEncoder().fit(numbers[:, :2])
    assert encoder.get_feature_names_out().tolist() == ["x0", "x1", "x0_missing", "x1_missing"]
    given = encoder.get_feature_names_out(["hr", "map"])
    assert given.tolist() == ["hr", "map", "hr_missing", "map_missing"]
    with pytest.raises(ValueError, match="input_features should have length"):
        encoder.get_feature_names_out(["hr"])


def test_names_that_would_be_there_twice_are_refused():
    X = pd.DataFrame({"hr": [1.0, NAN], "hr_missing": [1.0, 2.0]})
    with pytest.raises(DataError, match="Got 'hr_missing' twice"):
        MissingMaskEncoder().fit(X)
    X.columns = ["hr", "hr"]
    with pytest.raises(DataError, match="Got 'hr' more than once"):
        MissingMaskEncoder().fit(X)


@pytest.mark.parametrize("output", ["pandas", "polars"])
def test_set_output(mixed, output):
    out = MissingMaskEncoder().set_output(transform=output).fit_transform(mixed)
    assert type(out).__module__.startswith(output)
    plain = MissingMaskEncoder().fit_transform(mixed)
    assert isinstance(plain, np.ndarray)
    np.testing.assert_array_equal(out.to_numpy(), plain)


def test_polars_and_pyarrow_tables(mixed):
    polars, arrow = pytest.importorskip("polars"), pytest.importorskip("pyarrow")
    mixed = mixed.drop(columns="grade").reset_index(drop=True)
    expected = MissingMaskEncoder().fit_transform(mixed)
    encoder = MissingMaskEncoder()
    np.testing.assert_array_equal(encoder.fit_transform(polars.from_pandas(mixed)), expected)
    assert encoder.feature_names_in_.tolist() == mixed.columns.tolist()
    table = arrow.Table.from_pandas(mixed)
    np.testing.assert_array_equal(MissingMaskEncoder().fit_transform(table), expected)


def test_columns_with_numbers_as_names():
    X = pd.DataFrame([[1.0, "a"], [NAN, "b"]]).infer_objects()
    encoder = MissingMaskEncoder(scaling=None).fit(X)
    out = encoder.transform(X)
    assert encoder.get_feature_names_out().tolist() == ["x0", "x1", "x0_missing"]
    pd.testing.assert_frame_equal(encoder.inverse_transform(out), X)


def test_pipeline_column_transformer_and_search(mixed):
    y = np.arange(60) % 2
    columns = ColumnTransformer(
        [
            ("numbers", MissingMaskEncoder(), make_column_selector(dtype_include=float)),
            ("names", MissingMaskEncoder(), ["grade", "icu"]),
        ]
    )
    model = make_pipeline(columns, LogisticRegression(max_iter=1000, C=0.1))
    assert cross_val_score(model, mixed, y, cv=3).shape == (3,)
    assert columns.fit(mixed).get_feature_names_out()[2] == "numbers__hr_missing"
    grid = {"columntransformer__numbers__scaling": ["robust", "standard"]}
    search = GridSearchCV(model, grid, cv=2, n_jobs=2).fit(mixed, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_clone_pickle_and_joblib(mixed, tmp_path):
    encoder = MissingMaskEncoder(scaling="standard").fit(mixed)
    assert not hasattr(clone(encoder), "center_")
    assert clone(encoder).get_params() == encoder.get_params()
    joblib.dump(encoder, tmp_path / "encoder.joblib")
    expected = encoder.transform(mixed)
    for again in (
        pickle.loads(pickle.dumps(encoder)),
        joblib.load(tmp_path / "encoder.joblib"),
        joblib.load(tmp_path / "encoder.joblib", mmap_mode="r"),
    ):
        np.testing.assert_array_equal(again.transform(mixed), expected)


def test_memory_mapped_and_read_only_data(numbers, tmp_path):
    joblib.dump(numbers, tmp_path / "X.joblib")
    mapped = joblib.load(tmp_path / "X.joblib", mmap_mode="r")
    expected = MissingMaskEncoder().fit_transform(numbers)
    np.testing.assert_array_equal(MissingMaskEncoder().fit_transform(mapped), expected)


def test_the_data_are_not_changed(mixed):
    before = mixed.copy(deep=True)
    encoder = MissingMaskEncoder().fit(mixed)
    encoder.inverse_transform(encoder.transform(mixed))
    pd.testing.assert_frame_equal(mixed, before)


def test_fitted_state_is_plain(mixed):
    plain = (np.ndarray, list, dict, str, int, float, type(None))
    encoder = MissingMaskEncoder().fit(mixed)
    assert all(isinstance(value, plain) for value in vars(encoder).values())


# ---- what is refused ------------------------------------------------------------------------


def test_infinite_numbers(mixed):
    with pytest.raises(ValueError, match="infinity"):
        MissingMaskEncoder().fit([[np.inf], [1.0]])
    mixed.loc["p4", "map"] = -np.inf
    with pytest.raises(DataError, match="Got 1 infinite ones in 'map', the first in row 4"):
        MissingMaskEncoder().fit(mixed)


def test_other_columns_than_in_fit(mixed):
    encoder = MissingMaskEncoder().fit(mixed)
    with pytest.raises(ValueError, match="feature names should match"):
        encoder.transform(mixed.rename(columns={"hr": "pulse"}))
    with pytest.raises(ValueError, match="same order"):
        encoder.transform(mixed[mixed.columns[::-1]])
    with pytest.raises(DataError, match="numbers in column 'hr', as in fit. Got str"):
        encoder.transform(mixed.assign(hr="fast"))
    with pytest.raises(ValueError, match="X has 2 features, but MissingMaskEncoder"):
        MissingMaskEncoder().fit([[1.0]]).transform([[1.0, 2.0]])


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pd.to_datetime(["2024-01-01"] * 2), "datetime64.*TimeEmbedder"),
        (pd.to_timedelta([1, 2], "h"), "timedelta64.*TimeEmbedder"),
        ([1j, 2j], "complex128"),
        (pd.Series([[1], [2]]), r"one category per row in column 'x'. Got values such as \[1\]"),
    ],
)
def test_columns_that_are_neither_numbers_nor_categories(column, message):
    with pytest.raises(DataError, match=message):
        MissingMaskEncoder().fit(pd.DataFrame({"x": column}))


@pytest.mark.parametrize(
    "form",
    [lambda X: X, lambda X: X["events"], lambda X: X["events"].array],
    ids=["frame", "column", "array"],
)
def test_event_histories(form):
    X = form(frame_of([(0, "hr", 1.0)], [(1, "hr", 2.0)]))
    assert isinstance(X, pd.DataFrame | pd.Series | EventsArray)
    with pytest.raises(DataError, match="Got event histories.*TripletSequencer"):
        MissingMaskEncoder().fit(X)


def test_things_that_are_no_table():
    with pytest.raises(DataError, match=r"Got a Series: use to_frame\(\)"):
        MissingMaskEncoder().fit(pd.Series([1.0, 2.0]))
    with pytest.raises(DataError, match=r"Got shape \(1, 1, 1, 1\)"):
        MissingMaskEncoder().fit(np.zeros((1, 1, 1, 1)))
    with pytest.raises(DataError, match="at least one row"):
        MissingMaskEncoder().fit(pd.DataFrame({"a": np.empty(0)}))
    with pytest.raises(DataError, match="Got a table, whose rows have no order"):
        MissingMaskEncoder(time_since_observed=True).fit([[1.0]])
    with pytest.raises(DataError, match="Got ndarray"):
        MissingMaskEncoder(case="id").fit(np.zeros((2, 2)))


@pytest.mark.parametrize("bad", [[["a"]], np.zeros((1, 2, 3, 4)), pd.DataFrame({"a": [np.inf]})])
def test_a_failed_fit_leaves_what_was_there(numbers, bad):
    fresh = MissingMaskEncoder()
    fitted = clone(fresh).fit(numbers)
    before = vars(fitted).copy()
    for encoder in (fresh, fitted):
        with pytest.raises(ValueError):
            encoder.fit(bad)
    assert vars(fresh) == vars(clone(fresh))
    assert vars(fitted).keys() == before.keys()
    assert all(vars(fitted)[name] is before[name] for name in before)


def test_no_warnings_from_numpy(mixed):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        X = mixed.assign(hr=NAN, map=1.0)
        for scaling in ("standard", "robust", None):
            MissingMaskEncoder(scaling=scaling).fit(X).transform(X.assign(map=NAN))
