"""Dask DataFrames in, Dask DataFrames out; and searches on a Dask cluster."""

from __future__ import annotations

from copy import deepcopy

import joblib
import numpy as np
import pandas as pd
import pytest
from cloudpickle import dumps
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from tawt_sklearn import (
    EventSummarizer,
    TimeAwareClassifier,
    TimeAwareEncoder,
    TimeAwareRegressor,
    TripletSequencer,
    map_parquet,
    nest_events,
)
from tawt_sklearn.exceptions import DataError, DataWarning, NotNestedError

dask = pytest.importorskip("dask")
dd = pytest.importorskip("dask.dataframe")

# Of Dask's own calls of pandas.
pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword in:DeprecationWarning")

SMALL = {
    "d_model": 8,
    "n_heads": 2,
    "n_layers": 1,
    "n_windows": 4,
    "max_epochs": 2,
    "min_steps": 4,
    "random_state": 0,
    "device": "cpu",
}


@pytest.fixture(autouse=True)
def _in_one_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.fixture
def lazy(X):
    """The cohort in four partitions, the last of which is empty."""
    parts = [X.iloc[:60], X.iloc[60:130], X.iloc[130:], X.iloc[:0]]
    with dask.config.set({"dataframe.convert-string": False}):
        return dd.from_map(lambda part: part, parts, meta=X.iloc[:0])


@pytest.fixture(scope="module")
def _fitted(_cohort):
    X, y = _cohort
    return TimeAwareClassifier(n_ensemble=1, **SMALL).fit(X, y), TimeAwareEncoder(**SMALL).fit(X)


@pytest.fixture
def clf(_fitted):
    return deepcopy(_fitted[0])


@pytest.fixture
def encoder(_fitted):
    return deepcopy(_fitted[1])


def assert_rows(result, X, expected, columns=None) -> None:
    """A lazy result has the index and the columns, and computes to what memory gives."""
    computed = result.compute()
    pd.testing.assert_index_equal(computed.index, X.index, exact=False)
    np.testing.assert_allclose(computed.to_numpy(), expected, rtol=1e-4, atol=1e-5)
    if columns is not None:
        assert result.columns.tolist() == computed.columns.tolist() == list(columns)
        assert result.dtypes.tolist() == computed.dtypes.tolist()
    else:
        assert result.dtype == computed.dtype


def test_a_classifier_predicts_partitions(X, clf, lazy):
    assert_rows(clf.predict(lazy), X, clf.predict(X))
    assert_rows(clf.decision_function(lazy), X, clf.decision_function(X))
    for method in (clf.predict_proba, clf.predict_log_proba):
        assert_rows(method(lazy), X, method(X), clf.classes_)


def test_a_regressor_predicts_one_number_or_several(X, lazy):
    numbers = X["events"].events.lengths
    model = TimeAwareRegressor(n_ensemble=1, **SMALL).fit(X, numbers)
    assert_rows(model.predict(lazy), X, model.predict(X))
    model.fit(X, np.stack([numbers, -numbers], axis=1))
    assert_rows(model.predict(lazy), X, model.predict(X), [0, 1])


def test_an_encoder_embeds_partitions(X, encoder, lazy):
    embedded, names = encoder.transform(X), encoder.get_feature_names_out()
    assert_rows(encoder.transform(lazy), X, embedded, names)
    encoder.set_output(transform="pandas")
    assert_rows(encoder.transform(lazy), X, embedded, names)
    for method in (encoder.transform_steps, encoder.reconstruct):
        result, expected = method(lazy), method(X)
        pd.testing.assert_index_equal(result.compute().index, X.index, exact=False)
        assert result.columns.tolist() == expected.columns.tolist()
        assert result.dtypes["events"] == expected.dtypes["events"]


def test_pipelines_and_transformers_stay_lazy(X, y, lazy, quick):
    pipeline = make_pipeline(TripletSequencer(), quick()).fit(X, y)
    assert_rows(pipeline.predict_proba(lazy), X, pipeline.predict_proba(X), [0, 1])
    sequencer = pipeline[0]
    tokens = sequencer.transform(lazy)
    expected = sequencer.transform(X)
    pd.testing.assert_frame_equal(tokens.compute(), expected, check_index_type=False)
    back = sequencer.inverse_transform(tokens)
    assert back.dtypes["events"].vocabulary is None and len(back.compute()) == len(X)
    summarizer = EventSummarizer().fit(X)
    table = summarizer.transform(lazy)
    assert_rows(table, X, summarizer.transform(X), summarizer.get_feature_names_out())


def test_threads_give_the_same(X, clf, lazy):
    told = clf.predict_proba(lazy).compute(scheduler="threads")
    np.testing.assert_allclose(told.to_numpy(), clf.predict_proba(X), rtol=1e-4, atol=1e-5)


def test_nothing_is_computed_and_the_networks_are_in_the_graph_once(X, clf):
    def fail(part):
        if len(part):
            raise AssertionError("computed")
        return part

    told = clf.predict_proba(dd.from_pandas(X, npartitions=8).map_partitions(fail, meta=X.iloc[:0]))
    tasks = [len(dumps(task)) for task in told.optimize().dask.values()]
    assert len([size for size in tasks if size >= len(dumps(clf))]) == 1
    with pytest.raises(AssertionError, match="computed"):
        told.compute()


def test_what_is_computed_later_comes_from_the_fit_that_was_asked(X, y, clf, lazy):
    before = clf.predict_proba(X)
    told = clf.predict_proba(lazy)
    clf.fit(X, 1 - y)
    np.testing.assert_allclose(told.compute().to_numpy(), before, rtol=1e-4, atol=1e-5)


def test_long_tables_are_nested_and_predicted_without_a_stop(X, clf):
    long = X["events"].events.to_long()
    static = X.drop(columns="events")
    expected = clf.predict_proba(nest_events(long, static=static))
    nested = nest_events(dd.from_pandas(long, npartitions=5), static=static)
    told = clf.predict_proba(nested).compute().sort_index()
    np.testing.assert_allclose(told.to_numpy(), expected, rtol=1e-4, atol=1e-5)


def test_long_tables_themselves_are_refused_as_those_of_pandas_are(X, clf, encoder):
    long = dd.from_pandas(X["events"].events.to_long(), npartitions=2)
    for method in (clf.predict_proba, encoder.transform):
        with pytest.raises(NotNestedError, match="nest_events"):
            method(long)


def test_faults_are_told_before_anything_is_computed(clf, encoder, lazy):
    with pytest.raises(ValueError, match="yet now missing"):
        clf.predict(lazy.drop(columns="age"))
    encoder.set_output(transform="polars")
    with pytest.raises(DataError, match="Got polars.DataFrame of shape"):
        encoder.transform(lazy)


def test_unknown_codes_are_warned_about_when_a_partition_is_computed(X, clf, lazy):
    known = X["events"].array
    codes = known.codes.where(known.codes != known.codes[0], "new")
    renamed = X.assign(events=known._replace(codes=codes))
    told = clf.predict(dd.from_pandas(renamed, npartitions=2))
    with pytest.warns(DataWarning, match="not seen in fit"):
        told.compute()


def test_learning_asks_for_data_in_memory(X, y, clf, encoder, lazy):
    with pytest.raises(
        DataError, match=r"Got a Dask DataFrame of 4 partitions. Compute what memory holds"
    ):
        clf.fit(lazy, y)
    with pytest.raises(DataError, match=r"model.partial_fit\(rows, y.loc\[rows.index\]\)"):
        clf.partial_fit(lazy, y)
    with pytest.raises(DataError, match=r"model.partial_fit\(rows\)"):
        encoder.fit(lazy)
    with pytest.raises(DataError, match="Expected data in memory"):
        TripletSequencer().fit_transform(lazy)
    with pytest.raises(DataError, match="Got a Dask Series"):
        clf.fit(X, dd.from_pandas(y, npartitions=2))
    with pytest.raises(DataError, match="Got a Dask Series"):
        clf.fit(X, y, sample_weight=dd.from_pandas(y + 1.0, npartitions=2))
    with pytest.raises(DataError, match="Got a Dask Array"):
        clf.fit(dask.array.ones((4, 2, 3)), y[:4])


def test_scores_are_those_of_lazy_predictions(X, y, clf, lazy):
    assert clf.score(lazy, y) == clf.score(X, y)


def test_warnings_point_at_the_users_line(X):
    known = X["events"].array
    renamed = X.assign(events=known._replace(codes=[f"new {code}" for code in known.codes]))
    for transformer in (TripletSequencer(), EventSummarizer()):
        with pytest.warns(DataWarning, match="not seen in fit") as caught:
            transformer.fit(X).transform(renamed)
        assert caught[0].filename == __file__


def test_partitions_can_be_learned_from_one_after_the_other(X, y, quick, lazy):
    clf = quick()
    for part in list(lazy.partitions)[:3]:
        rows = part.compute()
        clf.partial_fit(rows, y.loc[rows.index])
    assert clf.n_iter_ == 3


def test_answers_are_written_beside_a_parquet_file(X, clf, encoder, tmp_path):
    X.to_parquet(tmp_path / "stays.parquet")
    for method in (clf.predict_proba, encoder.transform):
        target = map_parquet(
            method, tmp_path / "stays.parquet", tmp_path / "told.parquet", batch_size=64
        )
        told = pd.read_parquet(target)
        pd.testing.assert_index_equal(told.index, X.index, exact=False)
        np.testing.assert_allclose(told.to_numpy(), method(X), rtol=1e-4, atol=1e-5)


# ---- a cluster -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_cluster_searches_and_predicts_like_one_process(X, y, quick):
    distributed = pytest.importorskip("distributed")
    X, y = X.iloc[:80], y.iloc[:80]
    search = GridSearchCV(
        make_pipeline(TripletSequencer(), quick(device="auto")),
        {"timeawareclassifier__d_model": [8, 16], "tripletsequencer__min_count": [1, 20]},
        scoring="neg_log_loss",
        cv=2,
    )
    alone = search.fit(X, y).cv_results_["mean_test_score"]
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    )
    with cluster, distributed.Client(cluster):
        with joblib.parallel_backend("dask"):
            search.fit(X, y)
        np.testing.assert_array_equal(search.cv_results_["mean_test_score"], alone)
        with dask.config.set(scheduler="distributed"):
            told = search.predict_proba(dd.from_pandas(X, npartitions=4))
            assert_rows(told, X, search.predict_proba(X), search.classes_)
            long = X["events"].events.to_long()
            nested = nest_events(dd.from_pandas(long, npartitions=4)).compute().sort_index()
    pd.testing.assert_frame_equal(nested, nest_events(long), check_index_type=False)
