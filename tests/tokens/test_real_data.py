"""Real stays as they come: impossible values, duplicates, stays without events, many codes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tawt_sklearn import EventSummarizer, TripletSequencer, nest_events
from tawt_sklearn.exceptions import DataWarning
from tawt_sklearn.tokens.vocabulary import N_SPECIAL


@pytest.fixture(scope="module")
def physionet(data_home) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Events of 600 stays (with two that have none), and their outcomes."""
    folder = data_home / "physionet2012"
    if not folder.is_dir():
        pytest.skip(f"no {folder.name} in the data folder")
    outcomes = pd.read_parquet(folder / "outcomes.parquet").set_index("subject_id")
    empty = outcomes.index[~outcomes["has_timeseries"]][:2]
    stays = outcomes.index[:600].union(empty)
    events = pd.read_parquet(
        folder / "events.parquet", filters=[("subject_id", "in", stays.tolist())]
    )
    return events[~events["subject_id"].isin(empty)], outcomes.loc[stays]


@pytest.fixture(scope="module")
def stays(physionet) -> pd.DataFrame:
    events, outcomes = physionet
    return nest_events(events, static=outcomes[[]], until=48.0)


RANGES = {
    "SysABP": {"range": [20, 300]},
    "NIDiasABP": {"range": [5, 200]},
    "Temp": {"range": [25, 45]},
    "pH": {"range": [6.5, 8]},
}


def test_nothing_is_lost_without_being_counted(physionet, stays):
    events, _ = physionet
    sequencer = TripletSequencer(codes=RANGES)
    tokens = sequencer.fit_transform(stays)
    report, totals = sequencer.report_, sequencer.summary_
    assert totals["n_histories"] == len(stays) and totals["n_events"] == len(events)
    assert totals["n_empty"] == (stays["events"].array.lengths == 0).sum() >= 2
    by_code = events.groupby("code", observed=True)["value"]
    assert report["n_events"].to_dict() == by_code.size().to_dict()
    for code, rule in RANGES.items():
        outside = by_code.get_group(code)
        low, high = np.float32(rule["range"])
        assert report.loc[code, "n_out_of_range"] == ((outside < low) | (outside > high)).sum()
    assert report["n_out_of_range"].sum() > 10
    duplicates = events.duplicated(["subject_id", "time", "code"])
    expected = duplicates.groupby(events["code"], observed=True).sum()
    assert report["n_duplicates"].to_dict() == expected.to_dict() and expected.sum() > 100
    value = tokens["events"].array.value
    assert np.isnan(value).sum() == report["n_out_of_range"].sum()
    assert report["n_clipped"].sum() == (np.abs(value) == 5).sum() > 100
    assert np.abs(value[~np.isnan(value)]).max() == 5


def test_the_scales_are_those_of_pandas(physionet, stays):
    events, _ = physionet
    vocabulary = TripletSequencer().fit(stays).vocabulary_
    values = events.astype({"value": float}).groupby("code", observed=True)["value"]
    codes = list(vocabulary.codes[N_SPECIAL:])
    np.testing.assert_allclose(vocabulary.center[N_SPECIAL:], values.median()[codes], rtol=1e-6)
    spread = (values.quantile(0.75) - values.quantile(0.25))[codes].to_numpy() / 1.349
    plain = spread > 0
    np.testing.assert_allclose(vocabulary.scale[N_SPECIAL:][plain], spread[plain], rtol=1e-5)
    assert 0.3 < vocabulary.time_scale < 1.5  # hours


def test_the_baseline_predicts_mortality(physionet, stays):
    died = physionet[1]["in_hospital_death"].loc[stays.index].to_numpy()
    windows = {
        None: ["count", "mean", "sd", "min", "max", "first", "last", "time_since_last"],
        24: ["mean", "min", "max", "last", "count"],
        8: ["mean", "min", "max", "last", "count"],
    }
    train = np.arange(len(stays)) < 400
    model = make_pipeline(
        EventSummarizer(windows=windows),
        SimpleImputer(strategy="median"),
        StandardScaler(),
        LogisticRegression(C=1e-3),
    )
    model.fit(stays[train], died[train])
    assert len(model[0].codes_) == 41
    assert roc_auc_score(died[~train], model.predict_proba(stays[~train])[:, 1]) > 0.7


def test_a_vocabulary_larger_than_the_number_of_patients(data_home):
    folder = data_home / "mimic3_demo"
    if not folder.is_dir():
        pytest.skip(f"no {folder.name} in the data folder")
    events = pd.read_parquet(folder / "events.parquet")
    X = nest_events(events, subject="hadm_id", text=False)
    train, test = X.iloc[:90], X.iloc[90:]
    sequencer = TripletSequencer(min_count=20).fit(train)
    kept = sequencer.report_[sequencer.report_["status"] == "known"]
    assert len(sequencer.vocabulary_) - N_SPECIAL == len(kept) > 400
    assert kept["n_events"].min() >= 20
    with pytest.warns(DataWarning, match="events have an unknown code"):
        tokens = sequencer.transform(test)
    report = sequencer.report(test)
    unknown = report.loc[report["token"] == 0, "n_events"].sum()
    assert unknown == (tokens["events"].array.code == 0).sum()
    assert tokens["events"].array.start.tolist() == [0] * len(test)  # times before 0 are fine
    assert tokens["events"].array.time.min() < 0
    summarizer = EventSummarizer(min_count=20, windows=[None, 24, 8])
    matrix = summarizer.fit_transform(train)
    assert matrix.shape[1] == len(summarizer.get_feature_names_out()) > 9000
