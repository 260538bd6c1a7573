"""TimeEmbedder on event histories: features of times as further events."""

from __future__ import annotations

import datetime as dt
import json
import math
import pickle
import zoneinfo

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline

import tawt_sklearn
from tawt_sklearn import (
    EventsArray,
    EventSummarizer,
    MissingMaskEncoder,
    TimeAwareClassifier,
    TimeEmbedder,
    TripletSequencer,
    as_events,
    nest_events,
)
from tawt_sklearn.events.dtype import EventsDtype
from tawt_sklearn.exceptions import DataError, SaveFileError
from tawt_sklearn.persistence.codec import decode, encode

from .builders import frame_of, random_frame

METHODS = ["sinusoidal", "time2vec", "delta", "log_delta", "calendar"]
VIENNA = zoneinfo.ZoneInfo("Europe/Vienna")


def dated_frame(
    rng: np.random.Generator, timezone: str = "Europe/Vienna", texts: int = 3
) -> pd.DataFrame:
    """The histories of ``random_frame`` in the days around a change of the clocks."""
    X = random_frame(rng, texts=texts)
    array = X["events"].array
    first = pd.Timestamp("2024-03-30 20:10").timestamp() / 3600
    return X.assign(events=array._replace(time=array.time + first, timezone=timezone))


@pytest.fixture(params=["numbers", "Europe/Vienna", "naive"])
def X(request) -> pd.DataFrame:
    """Ties, texts, missing values, empty histories and missing ones, known and unknown starts."""
    rng = np.random.default_rng(0)
    if request.param == "numbers":
        X = random_frame(rng, texts=3)
    else:
        X = dated_frame(rng, request.param)
    array = X["events"].array
    first = np.where(array.lengths > 0, 0.0, np.nan)
    first[array.lengths > 0] = array.time[array.offsets[:-1][array.lengths > 0]]
    start = np.where(rng.random(len(X)) < 0.5, first - 1.5, np.nan)
    X = X.assign(events=array._replace(start=start, end=first + 100))
    X["sex"] = np.where(np.arange(len(X)) % 2, "F", "M")
    X = X.set_index(pd.Index([f"p{k}" for k in range(len(X))], name="subject"))
    return X.assign(events=X["events"].where(~np.isin(np.arange(len(X)), [3, 17])))


def methods_for(X: pd.DataFrame) -> list[str]:
    return METHODS if X["events"].dtype.timezone else METHODS[:-1]


# ---- against a loop ---------------------------------------------------------------------------


def naive_features(embedder: TimeEmbedder, history, time: float, before: float | None) -> dict:
    """Names and values of the features of one distinct time of one history."""
    start = float(history.time[0]) if math.isnan(history.start) else history.start
    t, step = time - start, 0.0 if before is None else time - before
    if embedder.method == "delta":
        return {"time_delta": step}
    if embedder.method == "log_delta":
        return {"time_log_delta": math.log(1 + step)}
    if embedder.method == "sinusoidal":
        waves = enumerate(embedder.frequencies_[0].tolist())
        pairs = [
            {f"time_sin{k}": math.sin(w * t), f"time_cos{k}": math.cos(w * t)} for k, w in waves
        ]
        return {name: value for pair in pairs for name, value in pair.items()}
    if embedder.method == "time2vec":
        waves = zip(embedder.frequencies_[0].tolist(), embedder.phases_[0].tolist(), strict=True)
        drawn = {f"time_wave{k}": math.sin(w * t + p) for k, (w, p) in enumerate(waves)}
        return {"time_linear": t / float(embedder.span_[0]), **drawn}
    date = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(hours=time)
    if embedder._clock == "events[h, Europe/Vienna]":
        date = date.astimezone(VIENNA)
    hour = date.hour + date.minute / 60 + date.second / 3600 + date.microsecond / 3.6e9
    turns = {"hour": hour / 24, "weekday": date.weekday() / 7, "month": (date.month - 1) / 12}
    return {
        f"time_{field}_{wave}": function(2 * math.pi * turn)
        for field, turn in turns.items()
        for wave, function in (("sin", math.sin), ("cos", math.cos))
    }


def events_of_row(history) -> list[tuple]:
    """(time, code, value, text) of each event."""
    table = {
        "time": history.time.tolist(),
        "code": history.code.tolist(),
        "value": history.value.tolist(),
        "text": [None] * len(history) if history.text is None else history.text.tolist(),
    }
    return list(zip(*table.values(), strict=True))


def assert_same_events(got: list[tuple], expected: list[tuple]) -> None:
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        assert one[0] == other[0]
        assert one[1] == other[1] or (one[1] is None and other[1] is None)
        np.testing.assert_allclose(one[2], other[2], rtol=1e-5, atol=2e-6)
        assert one[3] == other[3] or (one[3] is None and other[3] is None)


@pytest.mark.parametrize("method", METHODS)
def test_what_a_loop_over_histories_gives(X, method):
    if method not in methods_for(X):
        with pytest.raises(DataError, match="Expected dates"):
            TimeEmbedder(method=method).fit(X)
        return
    embedder = TimeEmbedder(method=method, n_frequencies=3, random_state=0).fit(X)
    out = embedder.transform(X)
    assert out["events"].isna().tolist() == X["events"].isna().tolist()
    for history, got in zip(X["events"], out["events"], strict=True):
        if history is pd.NA:
            continue
        expected, before = [], None
        for time in dict.fromkeys(history.time.tolist()):
            expected += [event for event in events_of_row(history) if event[0] == time]
            features = naive_features(embedder, history, time, before)
            expected += [(time, name, value, None) for name, value in features.items()]
            before = time
        assert_same_events(events_of_row(got), expected)


def test_all_else_stays(X):
    before = X.copy(deep=True)
    for method in methods_for(X):
        out = TimeEmbedder(method=method).fit_transform(X)
        assert type(out) is pd.DataFrame and out is not X
        pd.testing.assert_frame_equal(out.drop(columns="events"), X.drop(columns="events"))
        assert list(out) == list(X) and out["events"].dtype == X["events"].dtype
        new, old = out["events"].array, X["events"].array
        np.testing.assert_array_equal(new.start, old.start)
        np.testing.assert_array_equal(new.end, old.end)
        np.testing.assert_array_equal(new.lengths == 0, old.lengths == 0)
        added = [code for code in new.codes if code.startswith("time_")]
        assert new.codes.tolist() == [*old.codes, *added] and new.texts is old.texts
        kept = ~np.isin(new.code, new.codes.get_indexer(added))
        for name in ("time", "code", "value", "text"):
            np.testing.assert_array_equal(getattr(new, name)[kept], getattr(old, name))
        pd.testing.assert_frame_equal(X, before)


def test_simultaneous_events_get_one_of_each_feature():
    X = frame_of([(1, "b", 1.0), (1, "a", 2.0), (1, None, None), (3, "a", 4.0)], [])
    out = TimeEmbedder(n_frequencies=1).fit_transform(X)["events"]
    waves = ["time_sin0", "time_cos0"]
    assert out[0].code.tolist()[:2] == ["b", "a"] and out[0].code[2] is None
    assert out[0].code.tolist()[3:] == [*waves, "a", *waves]
    assert out[0].time.tolist() == [1] * 5 + [3] * 3 and len(out[1]) == 0


def test_local_time_where_the_clocks_change():
    times = pd.to_datetime(["2024-03-31 00:30", "2024-03-31 01:30", "2024-10-27 00:30"], utc=True)
    long = pd.DataFrame({"subject_id": 1, "time": times, "code": "a", "value": 1.0})
    expected = {"Europe/Vienna": [1.5, 3.5, 2.5], "UTC": [0.5, 1.5, 0.5]}
    for zone, hours in expected.items():
        X = nest_events(long.assign(time=times.tz_convert(zone)), time_unit="min")
        events = TimeEmbedder(method="calendar").fit_transform(X)["events"].events.to_long()
        sine = events.loc[events["code"] == "time_hour_sin", "value"]
        np.testing.assert_allclose(sine, np.sin(2 * np.pi * np.array(hours) / 24), atol=1e-6)
        weekday = events.loc[events["code"] == "time_weekday_cos", "value"]
        np.testing.assert_allclose(weekday, math.cos(2 * math.pi * 6 / 7), atol=1e-6)


@pytest.mark.parametrize("time_unit", ["s", "min", "h", "D"])
def test_the_calendar_of_a_column_and_of_events(time_unit):
    dates = pd.date_range("1955-02-28 22:15", periods=40, freq="333h37min")
    for zoned in (dates, dates.tz_localize("America/New_York")):
        long = pd.DataFrame({"subject_id": 1, "time": zoned, "code": "a", "value": 1.0})
        X = nest_events(long, time_unit=time_unit)
        got = TimeEmbedder(method="calendar").fit_transform(X)["events"].events
        column = TimeEmbedder(method="calendar").fit_transform(pd.DataFrame({"time": zoned}))
        values = got.flat("value")[got.flat("code") > 0].reshape(40, 6)
        np.testing.assert_allclose(values, column, atol=1e-5)


def test_time_starts_where_the_history_does():
    X = frame_of([(5, "a", 1.0), (9, "a", 1.0)], [(50, "a", 1.0)], start=[np.nan, 48.0])
    embedder = TimeEmbedder(method="time2vec", n_frequencies=1, random_state=0).fit(X)
    assert embedder.reference_.tolist() == [0] and embedder.span_.tolist() == [4]
    out = embedder.transform(X)["events"].events
    linear = out.flat("value")[out.flat("code") == out.codes.get_loc("time_linear")]
    assert linear.tolist() == [0, 1, 0.5]


def test_periods_lie_between_the_longest_history_and_the_typical_gap(X):
    embedder = TimeEmbedder(n_frequencies=5).fit(X)
    longest, gaps = 0.0, []
    for history in X["events"].dropna():
        time = np.unique(history.time)
        if len(time):
            start = time[0] if math.isnan(history.start) else history.start
            longest = max(longest, float(time[-1] - start))
            gaps += np.diff(time).tolist()
    assert embedder.span_[0] == pytest.approx(longest)
    assert embedder.gap_[0] == pytest.approx(np.median(gaps))
    periods = 2 * np.pi / embedder.frequencies_[0]
    assert periods[0] == pytest.approx(longest) and periods[-1] == pytest.approx(np.median(gaps))


def test_dates_and_numbers_have_the_same_waves():
    numbers, dates = random_frame(np.random.default_rng(0)), dated_frame(np.random.default_rng(0))
    one, other = (TimeEmbedder().fit(X).frequencies_ for X in (numbers, dates))
    np.testing.assert_allclose(one, other, rtol=1e-9)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "times", [[0.0], [7.0, 7.0], [0.0, 1e-9], [-3e300, 0.0, 3e300], [0.0, 1.7e308]], ids=str
)
def test_times_without_a_scale_and_extreme_ones_stay_finite(method, times):
    calendar = method == "calendar"
    if calendar and max(times) > 100:
        times = [-1.7e7, 7e7]  # hours, in the years 30 and 9955
    X = frame_of([(t, "a", 1.0) for t in times], timezone="Europe/Vienna" if calendar else None)
    out = TimeEmbedder(method=method).fit_transform(X)["events"].events
    assert np.isfinite(out.flat("value")).all()


# ---- histories with little in them --------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_rows_without_events_at_transform(method):
    X = dated_frame(np.random.default_rng(0))
    embedder = TimeEmbedder(method=method).fit(X)
    empty = X.assign(events=X["events"].events.until(pd.Timestamp("2000-01-01", tz="UTC")))
    missing = X.assign(events=pd.Series(pd.NA, X.index, dtype=X["events"].dtype))
    for frame in (empty, missing, X.iloc[:0]):
        out = embedder.transform(frame)
        pd.testing.assert_frame_equal(out, frame)
        assert out is not frame


def test_no_events_in_fit():
    embedder = TimeEmbedder()
    with pytest.raises(DataError, match="Got 2 histories, all of them empty"):
        embedder.fit(frame_of([], []))
    assert not hasattr(embedder, "n_features_in_")


def test_events_without_any_code():
    X = frame_of([(0, None, 1.0), (2, None, 3.0)])
    out = TimeEmbedder(method="delta").fit_transform(X)["events"].events
    assert out.codes.tolist() == ["time_delta"]
    assert out.flat("code").tolist() == [-1, 0, -1, 0] and out.flat("value").tolist() == [
        1,
        0,
        3,
        2,
    ]


def test_one_row_among_others_and_alone(X):
    embedder = TimeEmbedder().fit(X)
    whole = embedder.transform(X)
    for rows in ([0], [5, 2], slice(10, 20)):
        pd.testing.assert_frame_equal(embedder.transform(X.iloc[rows]), whole.iloc[rows])


# ---- forms ------------------------------------------------------------------------------------


def test_an_array_a_column_and_lists_of_records():
    X = frame_of([(0, "a", 1.0), (2, "b", 2.0)], [(1, "a", 3.0)])
    expected = TimeEmbedder(method="delta").fit_transform(X)
    records = [
        [{"time": 0.0, "code": "a", "value": 1.0}, {"time": 2.0, "code": "b", "value": 2.0}],
        [{"time": 1.0, "code": "a", "value": 3.0}],
    ]
    column = pd.Series(records, name="events")
    forms = [X["events"].array, X["events"], list(X["events"]), records, column, column.to_frame()]
    for form in forms:
        embedder = TimeEmbedder(method="delta").fit(form)
        assert embedder.form_ == "events" and embedder.n_features_in_ == 1
        assert embedder.feature_names_in_.tolist() == ["events"]
        pd.testing.assert_frame_equal(embedder.transform(form), expected)


def test_polars_and_pyarrow():
    polars = pytest.importorskip("polars")
    X = frame_of([(0, "a", 1.0), (2, "b", 2.0)], [(1, "a", 3.0)], static={"age": [1.0, 2.0]})
    expected = TimeEmbedder(method="delta").fit_transform(X)
    for foreign in (polars.from_pandas(X), polars.from_pandas(X).to_arrow()):
        pd.testing.assert_frame_equal(
            TimeEmbedder(method="delta").fit_transform(foreign), expected, check_dtype=False
        )


def test_an_array_of_objects_as_a_column_transformer_makes_it():
    X = frame_of([(0, "a", 1.0), (2, "b", 2.0)], static={"age": [50.0]})
    out = TimeEmbedder(method="delta").fit_transform(X.to_numpy(object))
    assert list(out) == ["x0", "events"] and out["events"].events.lengths.tolist() == [4]


def test_attributes_and_names(X):
    embedder = TimeEmbedder(method="log_delta", indicators="all").fit(X)
    assert embedder.form_ == "events" and embedder.n_features_in_ == 3
    assert embedder.feature_names_in_.tolist() == list(X) == ["age", "events", "sex"]
    assert embedder.get_feature_names_out().tolist() == list(X)
    assert embedder.indicator_features_.tolist() == []
    for name in ("reference_", "span_", "gap_"):
        assert getattr(embedder, name).shape == (1,)
    with pytest.raises(ValueError, match="feature names should match"):
        embedder.transform(X.drop(columns="age"))


def test_another_form_than_in_fit(X):
    embedder = TimeEmbedder().fit(X)
    table = pd.DataFrame({"t": [1.0, 2.0]})
    with pytest.raises(DataError, match="Expected a frame with a column of event histories, as in"):
        embedder.transform(table)
    with pytest.raises(DataError, match="Expected a table.*Got a frame with a column of event"):
        TimeEmbedder().fit(table).transform(X)
    embedder.fit(table)
    assert embedder.form_ == "table" and not hasattr(embedder, "_clock")


def test_parameters_set_after_fit_wait_for_the_next_one(X):
    embedder = TimeEmbedder().fit(X)
    before = embedder.transform(X)
    embedder.set_params(method="delta", n_frequencies=2)
    pd.testing.assert_frame_equal(embedder.transform(X), before)


# ---- scikit-learn -------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_clone_and_pickle(method):
    X = dated_frame(np.random.default_rng(0))
    embedder = TimeEmbedder(method=method, random_state=0).fit(X)
    again = pickle.loads(pickle.dumps(embedder))
    pd.testing.assert_frame_equal(again.transform(X), embedder.transform(X))
    pd.testing.assert_frame_equal(clone(embedder).fit_transform(X), embedder.transform(X))


def test_set_output(X):
    embedder = TimeEmbedder().fit(X)
    expected = embedder.transform(X)
    framed = embedder.set_output(transform="pandas").transform(X)
    pd.testing.assert_frame_equal(framed, expected)
    polars = pytest.importorskip("polars")
    assert isinstance(embedder.set_output(transform="polars").transform(X), polars.DataFrame)


@pytest.mark.parametrize("method", ["sinusoidal", "calendar"])
def test_probabilities_of_a_network_in_cross_validation(method):
    X, y = dated_frame(np.random.default_rng(0), texts=0), np.arange(40) % 2
    network = TimeAwareClassifier(
        d_model=8, n_heads=2, n_layers=1, n_windows=4, max_epochs=1, min_steps=1, n_ensemble=1
    )
    embedder = TimeEmbedder(method=method, n_frequencies=2)
    model = make_pipeline(embedder, TripletSequencer(), network.set_params(random_state=0))
    scores = cross_val_score(model, X, y, cv=2, scoring="neg_log_loss", error_score="raise")
    assert np.isfinite(scores).all()
    proba = model.fit(X, y).predict_proba(X)
    assert np.isfinite(proba).all() and proba.shape == (40, 2)
    assert any(code.startswith("time_") for code in model[1].vocabulary_.codes)


def test_the_sequencer_takes_features_as_numbers(X):
    out = TimeEmbedder(method="delta").fit_transform(X.dropna())
    vocabulary = TripletSequencer().fit(out).vocabulary_
    kinds = dict(zip(vocabulary.codes, vocabulary.kinds, strict=True))
    assert kinds["time_delta"] == "numeric"
    table = EventSummarizer().fit_transform(out)
    assert any("time_delta" in name for name in table.columns)


# ---- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_a_loaded_embedder_does_what_the_saved_one_does(method, tmp_path):
    X = dated_frame(np.random.default_rng(0))
    embedder = TimeEmbedder(method=method, random_state=0).fit(X)
    embedder.save(tmp_path / "embedder.tawt")
    loaded = TimeEmbedder.load(tmp_path / "embedder.tawt")
    assert vars(loaded).keys() == vars(embedder).keys()
    pd.testing.assert_frame_equal(loaded.transform(X), embedder.transform(X))
    other = tawt_sklearn.load(tmp_path / "embedder.tawt").set_params(method="delta")
    pd.testing.assert_frame_equal(other.transform(X), embedder.transform(X))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("_clock", "events[h]"),
        ("_clock", "events[h, UTC, tokens]"),
        ("_clock", "a table"),
        ("_clock", None),
        ("_kinds", []),
        ("form_", "sequence"),
        ("indicator_features_", np.array([0])),
    ],
)
def test_files_whose_parts_do_not_fit(name, value):
    embedder = TimeEmbedder(method="calendar").fit(dated_frame(np.random.default_rng(0)))
    if value is None:
        delattr(embedder, name)
    else:
        setattr(embedder, name, value)
    with pytest.raises(SaveFileError):
        node, arrays = encode(embedder)
        decode(json.loads(json.dumps(node)), arrays)


# ---- what is refused ----------------------------------------------------------------------------


def test_the_calendar_of_numbers():
    X = random_frame(np.random.default_rng(0))
    with pytest.raises(DataError, match="Expected dates.*calendar.*Got numbers in units of 'h'"):
        TimeEmbedder(method="calendar").fit(X)
    with pytest.raises(DataError, match="Expected dates"):
        TimeEmbedder(method="calendar", unit="h").fit(X)


@pytest.mark.parametrize("hours", [-2e7, 9e7, 1e15])
def test_dates_far_from_this_era(hours):
    X = frame_of([(hours, "a", 1.0)], timezone="UTC")
    with pytest.raises(DataError, match="years 1 to 9999 in 'events'.*Got .* in units of 'h'"):
        TimeEmbedder(method="calendar").fit(X)
    TimeEmbedder().fit_transform(X)


def test_parameters_that_do_not_suit_histories(X):
    with pytest.raises(DataError, match="for channel=0. Got event histories"):
        TimeEmbedder(channel=0).fit(X)
    with pytest.raises(DataError, match="Expected unit=None.*'h'. Got 'D'"):
        TimeEmbedder(unit="D").fit(X)
    pd.testing.assert_frame_equal(
        TimeEmbedder(unit="h").fit_transform(X), TimeEmbedder().fit_transform(X)
    )


def test_tokens():
    X = random_frame(np.random.default_rng(0))
    tokens = TripletSequencer().fit_transform(X)
    for call in (TimeEmbedder().fit, TimeEmbedder().fit(X).transform):
        with pytest.raises(DataError, match="tokenised.*Put TimeEmbedder before TripletSequencer"):
            call(tokens)


def test_codes_that_are_there_already():
    X = random_frame(np.random.default_rng(0))
    embedder = TimeEmbedder(method="delta").fit(X)
    twice = embedder.transform(X)
    for call in (clone(embedder).fit, embedder.transform):
        with pytest.raises(DataError, match="without the code 'time_delta'.*'events'.*second"):
            call(twice)
    array = twice["events"].array
    old = X.assign(events=X["events"].array._replace(codes=[*array.codes, "more"]))
    out = embedder.transform(old)["events"].events  # in the dictionary, but of no event
    assert (out.array == array).all()
    both = TimeEmbedder(n_frequencies=1).fit_transform(twice)["events"].events
    assert both.codes.tolist()[-3:] == ["time_delta", "time_sin0", "time_cos0"]


def test_integer_codes():
    array = EventsArray.from_flat(time=[0.0], code=[0], value=[1.0], offsets=[0, 1], codes=[7])
    text = frame_of([(0, "a", 1.0)])
    for call in (TimeEmbedder().fit, TimeEmbedder().fit(text).transform):
        with pytest.raises(DataError, match=r"codes that are strings.*Got integers.*astype\(str\)"):
            call(as_events(array))


@pytest.mark.parametrize(
    "clock", [{"time_unit": "min"}, {"timezone": None}, {"timezone": "UTC"}, {"timezone": "naive"}]
)
def test_another_clock_than_in_fit(clock):
    X = dated_frame(np.random.default_rng(0))
    embedder = TimeEmbedder().fit(X)
    other = X.assign(events=X["events"].array._replace(**clock))
    assert isinstance(other["events"].dtype, EventsDtype)
    with pytest.raises(DataError, match=r"times as in fit.*\(events\[h, Europe/Vienna\]\). Got"):
        embedder.transform(other)


def test_infinite_times():
    X = frame_of([(0, "a", 1.0)], [(1, "a", 1.0), (np.inf, "a", 1.0)])
    with pytest.raises(DataError, match="1 infinite ones in 'events', the first in row 1"):
        TimeEmbedder().fit(X)


def test_several_columns_of_histories_and_columns_of_one_name(X):
    with pytest.raises(DataError, match="Expected one column of event histories. Got 2"):
        TimeEmbedder().fit(X.assign(more=X["events"]))
    with pytest.raises(DataError, match="different names"):
        TimeEmbedder().fit(X.set_axis(["a", "events", "a"], axis=1))


def test_a_failed_fit_leaves_what_was_there(X):
    embedder = TimeEmbedder(method="time2vec", random_state=0).fit(X)
    before = vars(embedder).copy()
    with pytest.raises(DataError):
        embedder.fit(X[["events"]].iloc[:0])
    assert vars(embedder).keys() == before.keys()
    assert all(vars(embedder)[name] is before[name] for name in before)


def test_the_missing_mask_encoder_refuses_histories(X):
    records = pd.DataFrame({"events": [[{"time": 0.0, "code": "a", "value": 1.0}]]})
    for histories in (X, X["events"], X["events"].array, records):
        with pytest.raises(DataError, match="Got event histories. In these nothing is missing"):
            MissingMaskEncoder().fit(histories)
