from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from tawt_sklearn import EventSummarizer, TripletSequencer
from tawt_sklearn.exceptions import DataError, DataWarning, NotNestedError
from tawt_sklearn.tokens import summarizer as module
from tawt_sklearn.tokens.segments import OF_NUMBERS, STATISTICS

from .builders import frame_of, long_table, random_frame
from .test_segments import naive

NAN = np.nan


def reference(X: pd.DataFrame, code: str, statistic: str, window: float | None) -> np.ndarray:
    """One column by a loop over rows."""
    table, array = long_table(X), X["events"].array
    column = []
    for row in range(len(X)):
        events = table[table["row"] == row]
        end = events["time"].max() if np.isnan(array.end[row]) else array.end[row]
        if window is not None:
            events = events[events["time"] > end - window]
        events = events[events["code"] == code]
        numbers = events[events["value"].notna()]
        if statistic == "count":
            column.append(len(events))
        elif statistic == "time_since_last":
            column.append(end - events["time"].max() if len(events) else NAN)
        elif len(numbers):
            column.append(naive(numbers["time"].tolist(), numbers["value"].tolist())[statistic])
        else:
            column.append(NAN)
    return np.array(column)


@pytest.fixture
def X(cohort) -> pd.DataFrame:
    cohort = cohort.iloc[:20]
    end = np.where(np.arange(len(cohort)) % 2, 60.0, NAN)
    return cohort.assign(events=cohort["events"].array._replace(end=end))


@pytest.mark.parametrize("window", [None, 12.0])
def test_every_statistic_is_that_of_a_loop(X, window):
    table = EventSummarizer(windows=[window], static="drop").fit_transform(X)
    suffix = "" if window is None else "__last12h"
    expected = {
        f"c{k}__{name}{suffix}": reference(X, f"c{k}", name, window)
        for k in range(6)
        for name in STATISTICS
    }
    defined = [
        name
        for name, column in expected.items()
        if (column.any() if "count" in name else not np.isnan(column).all())
    ]
    assert list(table) == defined and len(defined) > 40
    assert (table.dtypes == np.float32).all()
    for name in defined:
        np.testing.assert_allclose(table[name], expected[name], 1e-4, 1e-5, err_msg=name)


def test_sparse_holds_the_defined_cells(X):
    dense = EventSummarizer(windows=[None, 5]).fit_transform(X)
    matrix = EventSummarizer(windows=[None, 5], sparse=True).fit_transform(X)
    assert isinstance(matrix, sparse.csr_matrix) and matrix.dtype == np.float32
    np.testing.assert_array_equal(matrix.toarray(), dense.fillna(0))


def test_many_features_are_sparse_unless_a_frame_is_asked_for(X, monkeypatch):
    monkeypatch.setattr(module, "SPARSE_ABOVE", 10)
    assert sparse.issparse(EventSummarizer().fit_transform(X))
    assert isinstance(EventSummarizer(sparse=False).fit_transform(X), pd.DataFrame)
    framed = EventSummarizer().set_output(transform="pandas").fit_transform(X)
    assert isinstance(framed, pd.DataFrame)


def test_windows_with_statistics_of_their_own(X):
    windows = {None: ["count", "mean"], 24: ["last"], 0.5: "max"}
    table = EventSummarizer(windows=windows, static="drop").fit_transform(X)
    assert list(table)[:4] == ["c0__count", "c0__mean", "c0__last__last24h", "c0__max__last0.5h"]


def test_names_tell_the_unit():
    X = frame_of([(0, "a", 1.0)], time_unit="D")
    table = EventSummarizer(statistics=["count"], windows=[3]).fit_transform(X)
    assert list(table) == ["a__count__last3D"]


def test_codes_without_numbers_have_events_only():
    X = frame_of([(0, "note", None), (1, "hr", 1.0), (2, "hr", 1.0)])
    names = EventSummarizer().fit(X).get_feature_names_out().tolist()
    assert names == [f"hr__{name}" for name in STATISTICS] + [
        "note__count",
        "note__time_since_last",
    ]


def test_categories_are_counted(cohort_with_texts):
    X = cohort_with_texts
    params = {"statistics": ["count"], "windows": [None, 10], "static": "drop"}
    table = EventSummarizer(**params, max_categories=2).fit_transform(X)
    events = long_table(X)
    texts = events[events["code"] == "c1"]["text"].value_counts()
    top = sorted(texts.index, key=lambda text: (-texts[text], text))[:2]
    assert [name for name in table if name.startswith("c1=") and "last" not in name] == [
        f"c1={text}__count" for text in top
    ]
    for text in top:
        hits = events[(events["code"] == "c1") & (events["text"] == text)].groupby("row").size()
        expected = hits.reindex(range(len(X)), fill_value=0)
        np.testing.assert_array_equal(table[f"c1={text}__count"], expected)
        if f"c1={text}__count__last10h" in table:
            assert (table[f"c1={text}__count__last10h"] <= expected).all()
    without = EventSummarizer(**params, max_categories=0).fit(X)
    assert not [name for name in without.get_feature_names_out() if "=" in name]


def test_chooses_codes(cohort):
    counts = long_table(cohort)["code"].value_counts()
    frequent = EventSummarizer(max_codes=2).fit(cohort)
    assert frequent.codes_ == sorted(counts.index[:2])
    many = EventSummarizer(min_count=int(counts.iloc[1])).fit(cohort)
    assert many.codes_ == sorted(counts.index[:2])


def test_columns_that_no_training_row_has_a_value_for_are_left_out():
    X = frame_of(
        [(0, "a", 1.0), (9, "b", 1.0)],
        [(0, "a", 1.0), (2, "a", 2.0), (9, "b", 1.0)],
        static={"empty": [NAN, NAN], "full": [1.0, NAN]},
    )
    table = EventSummarizer(statistics=["count", "sd"], windows=[None, 8]).fit_transform(X)
    assert list(table) == [
        "a__count",
        "a__sd",
        "a__count__last8h",
        "b__count",
        "b__count__last8h",
        "full",
    ]
    np.testing.assert_allclose(table, [[1, NAN, 0, 1, 1, 1], [2, np.sqrt(0.5), 1, 1, 1, NAN]])
    two = EventSummarizer(statistics=["count", "sd"], min_rows=2).fit_transform(X)
    assert list(two) == ["a__count", "b__count"]
    assert_fit_fails(X[["events"]], DataError, "at least min_rows=3 rows", min_rows=3)


def test_static_columns():
    static = {
        "sex": ["F", "M", None],
        "age": [60, 70, 80],
        "ward": pd.Categorical(["x", "y", "x"]),
        "alive": [True, False, True],
    }
    X = frame_of([(0, "a", 1.0)], [(0, "a", 1.0)], [], static=static, index=["p", "q", "r"])
    summarizer = EventSummarizer(statistics=["count"])
    table = summarizer.fit_transform(X)
    assert list(table.index) == ["p", "q", "r"]
    expected = {
        "a__count": [1, 1, 0],
        "sex=F": [1, 0, 0],
        "sex=M": [0, 1, 0],
        "age": [60, 70, 80],
        "ward=x": [1, 0, 1],
        "ward=y": [0, 1, 0],
        "alive=True": [1, 0, 1],
        "alive=False": [0, 1, 0],
    }
    pd.testing.assert_frame_equal(table, pd.DataFrame(expected, X.index, dtype=np.float32))
    other = X.assign(sex=["F", "D", "M"], age=[NAN, 1, 2])
    with pytest.warns(DataWarning, match=r"1 values of static columns .* unknown: 'sex' \(1\)"):
        table = summarizer.transform(other)
    assert table.loc["q", ["sex=F", "sex=M"]].tolist() == [0, 0] and np.isnan(table.loc["p", "age"])
    assert list(EventSummarizer(statistics=["count"], static="drop").fit_transform(X)) == [
        "a__count"
    ]


def test_unknown_codes_are_left_out_with_one_warning():
    summarizer = EventSummarizer(statistics=["count"], min_count=2)
    summarizer.fit(frame_of([(0, "a", 1.0), (1, "a", 1.0), (2, "rare", 1.0)]))
    with pytest.warns(
        DataWarning, match="2 events have an unknown code.* left out \\('new'\\)"
    ) as w:
        table = summarizer.transform(
            frame_of([(0, "a", 1.0), (1, "rare", 1.0), (2, "new", 1.0), (3, "new", 1.0)])
        )
    assert len(w) == 1 and table.to_numpy().tolist() == [[1]]


def test_tokenised_columns_are_summarised_as_they_are(cohort_with_texts):
    tokens = TripletSequencer().fit_transform(cohort_with_texts)
    summarizer = EventSummarizer(statistics=["count", "mean"], static="drop").fit(tokens)
    names = summarizer.get_feature_names_out()
    assert "c1__mean" in names and "c1=t0__count" in names and "_MISSING___count" in names
    table = summarizer.transform(tokens)
    raw = EventSummarizer(statistics=["count"], static="drop").fit_transform(cohort_with_texts)
    np.testing.assert_array_equal(table["c1__count"], raw["c1__count"])
    np.testing.assert_array_equal(table["c1=t0__count"], raw["c1=t0__count"])
    with pytest.raises(DataError, match="Expected tokenised events, as in fit. Got raw ones. Pass"):
        summarizer.transform(cohort_with_texts)
    other = TripletSequencer(clip=1).fit_transform(cohort_with_texts)
    with pytest.raises(DataError, match="Got tokenised ones of another vocabulary"):
        summarizer.transform(other)


def test_panels(cohort):
    panel = np.array([[[1.0, NAN, 3.0], [5.0, 5.0, 8.0]], [[2.0, 2.0, 2.0], [NAN] * 3]])
    table = EventSummarizer(statistics=["mean"]).fit_transform(panel)
    np.testing.assert_allclose(table, [[2, 6], [2, NAN]])
    flat = EventSummarizer(statistics=["count", "last"]).fit(panel[:, 0])
    assert flat.n_features_in_ == 3 and not hasattr(flat, "feature_names_in_")
    np.testing.assert_allclose(flat.transform(panel[:, 0].tolist()), [[2, 3], [3, 2]])
    named = pd.DataFrame(panel[:, 0], columns=["t0", "t1", "t2"], index=["p", "q"])
    table = EventSummarizer(statistics=["count"]).fit_transform(named)
    assert table["channel_0__count"].to_dict() == {"p": 2, "q": 3}
    lists = EventSummarizer(statistics=["count"]).fit_transform([panel[0], panel[1][:, :2]])
    assert lists.to_numpy().tolist() == [[2, 3], [2, 0]]


@pytest.mark.filterwarnings("ignore:Skipping features without any observed values")
@pytest.mark.parametrize(
    "model",
    [
        HistGradientBoostingClassifier(max_iter=5),
        RandomForestClassifier(5),  # which wants to write where numbers are missing
        make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression()),
    ],
)
def test_in_front_of_usual_models(model):
    X = random_frame(np.random.default_rng(0), B=100)
    y = np.arange(100) % 2
    pipeline = make_pipeline(EventSummarizer(windows=[None, 8]), model)
    assert len(cross_val_score(pipeline, X, y, cv=3)) == 3
    pipeline.set_output(transform="pandas").fit(X, y)


@pytest.mark.filterwarnings("ignore:Usage of np.ndarray subset")
def test_in_front_of_lightgbm():
    lightgbm = pytest.importorskip("lightgbm")
    X = random_frame(np.random.default_rng(0), B=100)
    y = np.arange(100) % 2
    for layout in (False, True):
        model = lightgbm.LGBMClassifier(n_estimators=3, verbose=-1)
        pipeline = make_pipeline(EventSummarizer(sparse=layout), model).fit(X, y)
        assert pipeline.predict_proba(X).shape == (100, 2)


@parametrize_with_checks([EventSummarizer(), EventSummarizer(windows=[None, 3], sparse=True)])
@pytest.mark.filterwarnings("ignore")
def test_checks_of_scikit_learn(estimator, check):
    check(estimator)


def test_names_are_those_that_boosters_take():
    codes = ["LAB//WBC, blood", "a:b", "a,b", "a_b", "ICD[9]{1}", '<"x">']
    X = frame_of([(0, code, 1.0) for code in codes], static={"ward=[A]": ["north, 2"]})
    table = EventSummarizer(statistics=["mean"]).fit_transform(X)
    assert table.columns.tolist() == [
        "__x_>__mean",
        "ICD_9__1___mean",
        "LAB//WBC_ blood__mean",
        "a_b__mean_2",
        "a_b__mean_3",
        "a_b__mean",
        "ward=_A_=north_ 2",
    ]


def test_lightgbm_takes_any_code(cohort):
    lightgbm = pytest.importorskip("lightgbm")
    array = cohort["events"].array
    codes = [f"{code}, [mg/dl]: high" for code in array.codes]
    X = cohort.assign(events=array._replace(codes=codes))
    model = make_pipeline(
        EventSummarizer(), lightgbm.LGBMClassifier(n_estimators=2, verbose=-1, n_jobs=1)
    )
    assert model.fit(X, np.arange(len(X)) % 2).predict(X).shape == (len(X),)


def test_takes_what_a_column_transformer_makes(X):
    columns = ColumnTransformer(
        [("history", TripletSequencer(), ["events"]), ("static", StandardScaler(), ["age"])]
    )
    tokens = columns.fit_transform(X)
    assert isinstance(tokens, np.ndarray) and tokens.dtype == object
    table = EventSummarizer().fit_transform(tokens)
    same = EventSummarizer().fit_transform(columns.set_output(transform="pandas").fit_transform(X))
    np.testing.assert_array_equal(table, same)


def test_is_a_good_citizen(X):
    summarizer = EventSummarizer(windows={None: ["count"], 5: ["mean"]})
    assert clone(summarizer).get_params() == summarizer.get_params()
    table = summarizer.fit_transform(X)
    pd.testing.assert_frame_equal(pickle.loads(pickle.dumps(summarizer)).transform(X), table)
    assert summarizer.get_feature_names_out().tolist() == list(table)
    assert summarizer.feature_names_in_.tolist() == ["age", "events"]
    order = np.random.default_rng(0).permutation(len(X))
    pd.testing.assert_frame_equal(summarizer.transform(X.iloc[order]), table.iloc[order])


# ---- messages ------------------------------------------------------------------------------------


def assert_fit_fails(X, error, message, **params):
    summarizer = EventSummarizer(**params)
    with pytest.raises(error, match=message):
        summarizer.fit(X)
    with pytest.raises(NotFittedError):
        summarizer.transform(X)


def test_long_tables(X):
    long = pd.DataFrame({"subject_id": [1, 1], "time": [0.0, 1], "code": ["a", "b"], "value": 1.0})
    assert_fit_fails(long, NotNestedError, "nest_events")
    assert_fit_fails(long.assign(code=[1, 2]), NotNestedError, "nest_events")


def test_nothing_to_summarise(X):
    assert_fit_fails(frame_of([], []), DataError, "Got 2 histories, all of them empty")
    assert_fit_fails(frame_of([(0, None, 1.0)]), DataError, "Got only events without one; check")
    assert_fit_fails(X, DataError, "at least min_count=10000 times. Got none", min_count=10_000)
    assert_fit_fails(X.reindex([0, 99]), DataError, r"Got 1 missing \(NA\).*at rows 99")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"statistics": ["mode"]}, "Expected statistics out of count, mean, .* Got 'mode'"),
        ({"statistics": []}, "Expected statistics out of .* Got none"),
        ({"windows": {24: ["mode"]}}, "Got 'mode'"),
        ({"windows": []}, "at least one window"),
        ({"windows": [0]}, "lengths above 0 in time units, or None .* Got 0"),
        ({"windows": [np.inf]}, "lengths above 0 in time units"),
        ({"windows": ["24h"]}, "lengths above 0 in time units, .* Got '24h'"),
        ({"windows": [24, 24.0]}, "Expected different windows"),
        ({"statistics": 3}, "The 'statistics' parameter of EventSummarizer must be"),
        ({"min_count": 0}, "The 'min_count' parameter of EventSummarizer must be"),
        ({"static": "keep"}, "The 'static' parameter of EventSummarizer must be"),
        ({"sparse": "yes"}, "The 'sparse' parameter of EventSummarizer must be"),
    ],
)
def test_parameters(X, params, message):
    assert_fit_fails(X, ValueError, message, **params)


def test_names_that_meet():
    X = frame_of([(0, "a", 1.0)], static={"a__count": [1.0]})
    assert_fit_fails(X, DataError, "Got 'a__count' twice. Rename the static column or the code")


def test_dates_among_static_columns():
    X = frame_of([(0, "a", 1.0)], static={"born": [pd.Timestamp("1950-01-01")]})
    assert_fit_fails(X, DataError, "Static column 'born' holds dates")


def test_other_clocks_and_codes(X):
    fitted = EventSummarizer().fit(X[["events"]])
    with pytest.raises(DataError, match="Got numbers in units of 'D'"):
        fitted.transform(frame_of([(0, "c0", 1.0)], time_unit="D"))
    with pytest.raises(DataError, match="codes that are strings, as in fit. Got integers"):
        fitted.transform(frame_of([(0, 5, 1.0)]))


def test_statistics_that_need_numbers_are_only_of_numbers():
    assert set(OF_NUMBERS) < set(STATISTICS)


def test_a_failed_fit_leaves_the_estimator_as_it_was(X):
    dated = X.assign(admitted=pd.Timestamp("2020-01-01"))
    unfitted = EventSummarizer()
    with pytest.raises(DataError, match="dates"):
        unfitted.fit(dated)
    with pytest.raises(NotFittedError):
        unfitted.transform(X)
    fitted = EventSummarizer().fit(X)
    before = fitted.transform(X)
    with pytest.raises(DataError, match="dates"):
        fitted.fit(dated)
    pd.testing.assert_frame_equal(fitted.transform(X), before)
