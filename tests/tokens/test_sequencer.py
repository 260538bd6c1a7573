"""What TripletSequencer learns and gives."""

from __future__ import annotations

import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tawt_sklearn import EventSummarizer, TripletSequencer, as_events
from tawt_sklearn.exceptions import DataWarning
from tawt_sklearn.tokens.vocabulary import MISSING, N_SPECIAL, UNKNOWN, Vocabulary

from .builders import frame_of, long_table, random_frame

NAN = np.nan


def tokens_of(frame: pd.DataFrame) -> pd.DataFrame:
    """Token label, value and category of every event of a tokenised frame."""
    array = frame["events"].array
    table = pd.DataFrame({"code": array.codes[array.code], "value": array.value})
    if array.text is not None:
        table["text"] = np.append(array.texts.to_numpy(object), "")[array.text]
    return table


# ---- vocabulary and values ---------------------------------------------------------------------


def test_learns_codes_by_falling_frequency(cohort):
    vocabulary = TripletSequencer().fit(cohort).vocabulary_
    counts = long_table(cohort)["code"].value_counts()
    expected = sorted(counts.index, key=lambda code: (-counts[code], code))
    assert list(vocabulary.codes[N_SPECIAL:]) == expected
    assert vocabulary.counts[N_SPECIAL:].tolist() == counts[expected].tolist()
    assert vocabulary.counts[MISSING] == long_table(cohort)["code"].isna().sum()


@pytest.mark.parametrize("scaling", ["robust", "standard"])
@pytest.mark.parametrize("seed", range(4))
def test_scales_like_a_groupby_of_pandas(seed, scaling):
    X = random_frame(np.random.default_rng(seed), B=60)
    table = long_table(X)
    values = table.groupby("code")["value"]
    if scaling == "robust":
        center = values.transform("median")
        spread = values.transform(lambda x: x.quantile(0.75) - x.quantile(0.25)) / 1.349
    else:
        center, spread = values.transform("mean"), values.transform("std", ddof=0)
    expected = ((table["value"] - center) / spread).clip(-1.5, 1.5)
    found = TripletSequencer(value_scaling=scaling, clip=1.5).fit_transform(X)
    tokens = tokens_of(found)
    known = table["code"].notna()
    np.testing.assert_allclose(tokens["value"][known], expected[known], atol=1e-5)
    assert tokens["value"][~known].isna().all()
    assert (tokens["code"][known] == table["code"][known]).all()
    assert (tokens["code"][~known] == "[MISSING]").all()


def test_learns_from_the_training_rows_only(cohort):
    train, test = cohort.iloc[:25], cohort.iloc[25:].copy()
    sequencer = TripletSequencer().fit(train)
    before = sequencer.vocabulary_.to_json()
    sequencer.transform(test)
    assert sequencer.vocabulary_.to_json() == before
    assert TripletSequencer().fit(cohort).vocabulary_ != sequencer.vocabulary_


def test_fit_transform_is_fit_then_transform(cohort_with_texts):
    X = cohort_with_texts
    for params in ({}, {"min_count": 70}, {"value_scaling": "quantile", "max_events": 2000}):
        one, two = TripletSequencer(**params), TripletSequencer(**params)
        tokens = one.fit_transform(X)
        pd.testing.assert_frame_equal(tokens, two.fit(X).transform(X))
        assert one.vocabulary_ == two.vocabulary_
        pd.testing.assert_frame_equal(one.report_, two.report_)


def test_kinds_follow_what_events_carry():
    X = frame_of(
        [(0, "number", 1.0), (1, "text", None, "a"), (2, "both", 3.0), (3, "none", None)],
        [(0, "number", 2.0), (1, "text", None, "b"), (2, "both", None, "a"), (3, "constant", 1.0)],
    )
    vocabulary = TripletSequencer().fit(X).vocabulary_
    kinds = dict(zip(vocabulary.codes, vocabulary.kinds, strict=True))
    assert kinds == {
        "[UNK]": "presence",
        "[MISSING]": "presence",
        "[MASK]": "presence",
        "number": "numeric",
        "text": "categorical",
        "both": "numeric",
        "none": "presence",
        "constant": "numeric",
    }
    tokens = tokens_of(TripletSequencer().fit_transform(X)).set_index("code")
    assert tokens.loc["both", "text"].tolist() == ["", "both=a"]
    assert tokens.loc["constant", "value"] == 0  # nothing to scale by, but present


def test_rare_codes_and_categories_are_unknown_without_a_warning():
    X = frame_of(
        [(0, "a", 1.0), (1, "a", 2.0), (2, "b", 3.0), (3, "c", None, "x")],
        [(0, "c", None, "x"), (1, "c", None, "y")],
    )
    sequencer = TripletSequencer(min_count=2)
    tokens = tokens_of(sequencer.fit_transform(X))
    assert tokens["code"].tolist() == ["a", "a", "[UNK]", "c", "c", "c"]
    assert tokens["text"].tolist() == ["", "", "", "c=x", "c=x", "c=[UNK]"]
    assert np.isnan(tokens["value"][2])
    assert sequencer.report_.loc["b", ["token", "status"]].tolist() == [UNKNOWN, "rare"]
    assert sequencer.report_.loc["c", ["n_rare_category", "n_new_category"]].tolist() == [1, 0]
    assert sequencer.summary_["n_rare"] == 1


def test_unknown_codes_and_categories_give_one_warning():
    train = frame_of([(0, "a", 1.0), (1, "c", None, "x")])
    test = frame_of([(0, code, 1.0) for code in "zzyxwvu"], [(1, "a", 5.0), (2, "c", None, "new")])
    sequencer = TripletSequencer().fit(train)
    with pytest.warns(DataWarning) as caught:
        tokens = tokens_of(sequencer.transform(test))
    assert len(caught) == 1
    message = str(caught[0].message)
    assert "7 events have an unknown code" in message
    assert "('z', 'u', 'v', 'w', 'x' and 1 more)" in message
    assert "1 events have an unknown category" in message and "'c=new'" in message
    assert tokens["code"].tolist() == ["[UNK]"] * 7 + ["a", "c"]
    assert tokens["value"][:7].isna().all()
    assert tokens["text"].tolist() == [""] * 8 + ["c=[UNK]"]


def test_codes_that_rows_no_longer_hold_are_not_warned_about():
    X = frame_of([(0, "a", 1.0)], [(0, "b", 1.0)])  # a taken row shares the dictionary
    tokens = TripletSequencer().fit(X.iloc[[0]]).transform(X.iloc[[0]])
    assert tokens["events"].array.codes.tolist() == ["[UNK]", "[MISSING]", "[MASK]", "a"]


def test_special_labels_in_the_data_are_special_tokens():
    X = frame_of([(0, "[MASK]", 1.0), (1, "[UNK]", 1.0), (2, "a", 1.0)])
    sequencer = TripletSequencer().fit(X)
    assert tokens_of(sequencer.transform(X))["code"].tolist() == ["[MASK]", "[UNK]", "a"]
    assert sequencer.report_.loc["[MASK]", "status"] == "special"


# ---- categories ----------------------------------------------------------------------------------


def test_numbers_of_listed_codes_are_categories():
    X = frame_of(
        [(0, "gcs", 3.0), (1, "gcs", 15.0), (2, "gcs", 3.5), (3, "gcs", None, "3")],
        [(0, "hr", 80.0, "note"), (1, "gcs", None), (2, "gcs", -0.0)],
    )
    sequencer = TripletSequencer(categorical_codes=["gcs"])
    tokens = tokens_of(sequencer.fit_transform(X))
    assert tokens["text"].tolist() == [
        "gcs=3",
        "gcs=15",
        "gcs=3.5",
        "gcs=3",
        "",
        "",
        "gcs=0",
    ]
    assert tokens["value"].isna().tolist() == [True] * 4 + [False] + [True] * 2
    # The text of a code that is not listed is set aside, and counted.
    assert sequencer.report_.loc["hr", "n_ignored"] == 1
    back = sequencer.inverse_transform(sequencer.transform(X))
    found = long_table(back)
    # A number that also occurs as a text comes back as that text.
    np.testing.assert_array_equal(found["value"][:4], [NAN, 15, 3.5, NAN])
    assert found["text"][[0, 3]].tolist() == ["3", "3"]


@pytest.mark.parametrize("nothing", [None, []])
def test_no_categories(nothing, cohort_with_texts):
    sequencer = TripletSequencer(categorical_codes=nothing).fit(cohort_with_texts)
    assert not sequencer.vocabulary_.n_categories
    tokens = sequencer.transform(cohort_with_texts)["events"].array
    assert tokens.text is None and tokens.texts is None
    codes = long_table(cohort_with_texts).dropna(subset=["code"])
    assert sequencer.summary_["n_ignored"] == codes["text"].notna().sum()


def test_categories_are_those_of_the_texts(cohort_with_texts):
    table = long_table(cohort_with_texts)
    tokens = tokens_of(TripletSequencer().fit_transform(cohort_with_texts))
    wanted = (table["code"] + "=" + table["text"]).where(table["code"].notna())
    assert (tokens["text"] == wanted.fillna("")).all()


def test_a_number_where_fit_saw_only_texts_is_an_unknown_category():
    sequencer = TripletSequencer().fit(frame_of([(0, "wd", None, "NW"), (1, "hr", 1.0)]))
    with pytest.warns(DataWarning, match="unknown category"):
        tokens = tokens_of(sequencer.transform(frame_of([(0, "wd", 3.0), (1, "wd", None)])))
    assert tokens["text"].tolist() == ["wd=[UNK]", ""]


# ---- the user's rules ----------------------------------------------------------------------------


def test_rules_of_codes():
    X = frame_of(
        [(0, "temp", 98.6), (1, "temp", 20.0), (2, "glu", -1.0), (3, "glu", 0.0), (4, "glu", 9.0)],
        [(0, "op", 3.0, "long"), (1, "hr", 80.0, "sinus"), (2, "class", 2.0)],
    )
    rules = {
        "temp": {"factor": 0.5, "range": [30, 50], "label": "temperature"},
        "glu": {"log": True},
        "op": {"kind": "presence"},
        "hr": {"kind": "numeric"},
        "class": {"kind": "categorical"},
        "never": {"range": [0, 1]},
    }
    sequencer = TripletSequencer(codes=rules, value_scaling=None)
    tokens = tokens_of(sequencer.fit_transform(X))
    np.testing.assert_allclose(
        tokens["value"], [49.3, NAN, NAN, 0, np.log(10), NAN, 80, NAN], rtol=1e-6
    )
    assert tokens["text"].tolist() == [""] * 7 + ["class=2"]
    report = sequencer.report_
    assert report["n_out_of_range"].to_dict() == {
        "glu": 1,
        "temp": 1,
        "class": 0,
        "hr": 0,
        "op": 0,
    }
    assert report.loc[["op", "hr", "class"], "n_ignored"].tolist() == [1, 1, 0]
    assert sequencer.unused_rules_ == ["never"]
    labels = ("glu", "temperature", "class", "hr", "op")
    assert sequencer.vocabulary_.labels[N_SPECIAL:] == labels
    back = long_table(sequencer.inverse_transform(sequencer.transform(X)))
    np.testing.assert_allclose(back["value"], [98.6, NAN, NAN, 0, 9, NAN, 80, 2], rtol=1e-5)


def test_values_out_of_range_are_not_learned_from():
    X = frame_of([(k, "ph", value) for k, value in enumerate([7.3, 7.4, 7.5, 735.0, 0.0])])
    vocabulary = TripletSequencer(codes={"ph": {"range": [6, 8]}}).fit(X).vocabulary_
    assert vocabulary.center[N_SPECIAL] == pytest.approx(7.4)


def test_rules_for_integer_codes(tmp_path):
    path = tmp_path / "codes.json"
    path.write_text('{"7": {"range": [0, 10]}}')
    X = frame_of([(0, 7, 5.0), (1, 7, 50.0), (2, 8, 50.0)])
    sequencer = TripletSequencer(codes=path).fit(X)
    assert sequencer.report_["n_out_of_range"].to_dict() == {7: 1, 8: 0}
    assert sequencer.unused_rules_ == []


# ---- clocks and cuts -----------------------------------------------------------------------------


def test_start_and_end_are_always_known():
    X = frame_of([(2, "a", 1.0), (3, "a", 2.0)], [], [(4, "a", 1.0)], end=[5.0, NAN, NAN])
    tokens = TripletSequencer().fit_transform(X)["events"].array
    assert tokens.start.tolist() == [0, 0, 0] and tokens.end.tolist() == [5, 0, 4]
    np.testing.assert_array_equal(tokens.time, [2, 3, 4])


@pytest.mark.parametrize(
    ("origin", "expected"),
    [("auto", [1, 0, 0]), ("zero", [0, 0, 0]), ("first", [2, 7, 4]), ("end", [5, 7, 4])],
)
def test_time_origin_of_numbers(origin, expected):
    X = frame_of(
        [(2, "a", 1.0), (3, "a", 2.0)], [], [(4, "a", 1.0)], start=[1, NAN, NAN], end=[5, 7, NAN]
    )
    sequencer = TripletSequencer(time_origin=origin)
    assert sequencer.fit_transform(X)["events"].array.start.tolist() == expected
    assert sequencer.vocabulary_.time_origin == {"auto": "zero"}.get(origin, origin)


@pytest.mark.parametrize("timezone", ["naive", "UTC"])
def test_time_origin_of_datetimes_is_the_first_event(timezone):
    X = frame_of([(400_000, "a", 1.0), (400_003, "a", 2.0)], timezone=timezone)
    sequencer = TripletSequencer().fit(X)
    assert sequencer.transform(X)["events"].array.start.tolist() == [400_000]
    assert sequencer.vocabulary_.time_quantiles[-1] == 3
    assert sequencer.vocabulary_.timezone == timezone


def test_time_zones_of_fit_and_transform_may_differ():
    fitted = TripletSequencer().fit(frame_of([(0, "a", 1.0)], timezone="UTC"))
    tokens = fitted.transform(frame_of([(5, "a", 1.0)], timezone="Europe/Vienna"))
    assert tokens["events"].dtype.timezone == "Europe/Vienna"


def test_time_scale_is_the_typical_gap(cohort):
    table = long_table(cohort).drop_duplicates(["row", "time"])
    gaps = table.groupby("row")["time"].diff().dropna()
    assert TripletSequencer().fit(cohort).vocabulary_.time_scale == gaps.median()


def test_keeps_the_most_recent_events_and_says_so(cohort):
    sequencer = TripletSequencer(max_events=5)
    lengths = cohort["events"].array.lengths
    cut = np.maximum(lengths - 5, 0)
    message = (
        f"{(cut > 0).sum()} of {len(cohort)} histories have more than max_events=5 events; their "
        f"{cut.sum()} oldest events were cut"
    )
    with pytest.warns(DataWarning, match=message):
        tokens = sequencer.fit_transform(cohort)
    kept = long_table(cohort).groupby("row").tail(5)
    np.testing.assert_array_equal(tokens["events"].array.time, kept["time"])
    np.testing.assert_array_equal(tokens["events"].array.lengths, np.minimum(lengths, 5))
    assert sequencer.summary_["n_truncated_histories"] == (cut > 0).sum()
    assert sequencer.summary_["n_truncated"] == sequencer.report_["n_truncated"].sum() == cut.sum()
    assert sequencer.report_["n_events"].sum() == len(kept)


def test_fit_alone_does_not_warn_of_cuts(cohort):
    TripletSequencer(max_events=5).fit(cohort)


def test_the_origin_is_that_of_the_whole_history():
    X = frame_of([(10, "a", 1.0), (20, "a", 2.0), (30, "a", 3.0)])
    with pytest.warns(DataWarning):
        tokens = TripletSequencer(max_events=1, time_origin="first").fit_transform(X)
    assert tokens["events"].array.start.tolist() == [10.0]


# ---- frames --------------------------------------------------------------------------------------


def test_the_rest_of_the_frame_stays(cohort):
    X = cohort.set_axis(np.arange(len(cohort)) * 3 + 1)
    X["sex"] = "F"
    copy = X.copy()
    tokens = TripletSequencer().fit_transform(X)
    assert list(tokens.columns) == ["age", "events", "sex"]
    pd.testing.assert_index_equal(tokens.index, X.index)
    pd.testing.assert_frame_equal(tokens.drop(columns="events"), X.drop(columns="events"))
    pd.testing.assert_frame_equal(X, copy)
    assert tokens["events"].dtype.vocabulary is not None


def test_takes_every_form_that_as_events_takes():
    panel = np.arange(12.0).reshape(2, 2, 3)
    sequencer = TripletSequencer().fit(panel)
    pd.testing.assert_frame_equal(sequencer.transform(panel), sequencer.transform(as_events(panel)))
    assert sequencer.get_feature_names_out().tolist() == ["events"]


def test_shuffled_rows_give_shuffled_tokens(cohort):
    order = np.random.default_rng(0).permutation(len(cohort))
    sequencer = TripletSequencer().fit(cohort)
    one, two = sequencer.transform(cohort).iloc[order], sequencer.transform(cohort.iloc[order])
    pd.testing.assert_frame_equal(one, two)
    again = TripletSequencer().fit(cohort.iloc[order]).vocabulary_
    assert again == sequencer.vocabulary_


def test_read_only_and_memory_mapped_columns(cohort, tmp_path):
    joblib.dump(cohort, tmp_path / "X.joblib")
    mapped = joblib.load(tmp_path / "X.joblib", mmap_mode="r")
    assert not mapped["events"].array.value.flags.writeable
    rules = {"c0": {"range": [0, 30]}}
    one, two = TripletSequencer(codes=rules), TripletSequencer(codes=rules)
    pd.testing.assert_frame_equal(one.fit_transform(cohort), two.fit_transform(mapped))


def test_tokens_survive_pickle_parquet_and_concat(cohort_with_texts, tmp_path):
    tokens = TripletSequencer().fit_transform(cohort_with_texts)
    pd.testing.assert_frame_equal(pickle.loads(pickle.dumps(tokens)), tokens)
    pd.testing.assert_frame_equal(pd.concat([tokens.iloc[:10], tokens.iloc[10:]]), tokens)
    pytest.importorskip("pyarrow")
    tokens.to_parquet(tmp_path / "tokens.parquet")
    back = pd.read_parquet(tmp_path / "tokens.parquet")
    pd.testing.assert_frame_equal(back, tokens)
    assert Vocabulary.from_json(back["events"].dtype.vocabulary).n_categories


def test_the_estimator_is_a_good_citizen(cohort):
    sequencer = TripletSequencer(min_count=3, codes={"c0": {"log": True}})
    assert clone(sequencer).get_params() == sequencer.get_params()
    fitted = pickle.loads(pickle.dumps(sequencer.fit(cohort)))
    pd.testing.assert_frame_equal(fitted.transform(cohort), sequencer.transform(cohort))
    assert sequencer.n_features_in_ == 2
    assert sequencer.feature_names_in_.tolist() == ["age", "events"]
    assert sequencer.get_feature_names_out().tolist() == ["age", "events"]
    assert sequencer.get_feature_names_out(["age", "events"]).tolist() == ["age", "events"]
    assert not sequencer.__sklearn_tags__().input_tags.two_d_array


@pytest.mark.parametrize("output", ["pandas", "default"])
def test_in_pipelines_and_column_transformers(cohort, output):
    y = cohort["age"] > 60
    history = make_pipeline(TripletSequencer(), EventSummarizer(statistics=["count"]))
    columns = ColumnTransformer(
        [("history", history, ["events"]), ("age", StandardScaler(), ["age"])]
    )
    columns.set_output(transform=output)
    table = columns.fit_transform(cohort)
    assert table.shape == (len(cohort), 8)  # 6 codes, [MISSING], age
    assert "history__c0__count" in columns.get_feature_names_out()
    make_pipeline(columns, LogisticRegression()).fit(cohort, y).predict(cohort)


def test_set_output_keeps_the_frame(cohort):
    for output in ("pandas", "default"):
        tokens = TripletSequencer().set_output(transform=output).fit_transform(cohort)
        assert tokens["events"].dtype.vocabulary is not None


def test_verbose_prints_one_line(cohort, capsys):
    TripletSequencer(verbose=1).fit(cohort)
    out = capsys.readouterr().out
    assert out.startswith("[TripletSequencer] 40 histories (") and out.count("\n") == 1
    TripletSequencer().fit(cohort)
    assert not capsys.readouterr().out


def test_leaves_the_global_random_state_alone(cohort):
    np.random.seed(3)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    TripletSequencer().fit_transform(cohort)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


# ---- counting ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_the_report_counts_what_pandas_counts(seed):
    X = random_frame(np.random.default_rng(seed), texts=3)
    sequencer = TripletSequencer(codes={"c1": {"range": [28, 31]}}, clip=2.0)
    tokens = tokens_of(sequencer.fit_transform(X))
    table = long_table(X).assign(code=lambda t: t["code"].fillna("[MISSING]"))
    groups = table.groupby("code")
    report = sequencer.report_
    outside = (table["code"] == "c1") & (table["value"].notna() & ~table["value"].between(28, 31))
    expected = {
        "n_events": groups.size(),
        "n_truncated": groups.size() * 0,
        "n_values": groups["value"].count(),
        "n_texts": groups["text"].count(),
        "n_missing_value": (table["value"].isna() & table["text"].isna()).groupby(table.code).sum(),
        "n_out_of_range": outside.groupby(table["code"]).sum(),
        "n_clipped": (tokens["value"].abs() == 2).groupby(table["code"]).sum(),
        "n_duplicates": table.duplicated(["row", "time", "code"]).groupby(table["code"]).sum(),
    }
    for name, counts in expected.items():
        assert report[name].to_dict() == counts.to_dict(), name
    assert report["n_events"].is_monotonic_decreasing
    assert sequencer.summary_["n_events"] == len(table)
    assert sequencer.summary_["n_empty"] == (X["events"].array.lengths == 0).sum()
    assert sequencer.summary_["n_missing_code"] == (table["code"] == "[MISSING]").sum()


def test_report_of_other_frames_changes_and_warns_nothing():
    sequencer = TripletSequencer().fit(frame_of([(0, "a", 1.0), (1, "b", 1.0)]))
    before = pickle.dumps(sequencer)
    report = sequencer.report(frame_of([(0, "a", 1.0), (0, "a", 1.0), (1, "new", 1.0)]))
    assert report["status"].to_dict() == {"a": "known", "new": "unknown"}
    assert report["token"].to_dict() == {"a": 3, "new": UNKNOWN}
    assert report["n_duplicates"].to_dict() == {"a": 1, "new": 0}
    assert pickle.dumps(sequencer) == before


# ---- and back ------------------------------------------------------------------------------------


@pytest.mark.parametrize("scaling", ["robust", "standard", "quantile", None])
def test_inverse_gives_the_events_back(cohort_with_texts, scaling):
    X = cohort_with_texts
    sequencer = TripletSequencer(value_scaling=scaling, clip=None)
    tokens = sequencer.fit_transform(X)
    back = sequencer.inverse_transform(tokens)
    assert back["events"].dtype.vocabulary is None
    one, two = long_table(X), long_table(back)
    known = one["code"].notna()
    for name in ("row", "time", "code"):
        assert (one[name].fillna("") == two[name].fillna("")).all()
    np.testing.assert_allclose(two["value"][known], one["value"][known], rtol=1e-4, atol=1e-4)
    assert (one["text"].fillna("")[known] == two["text"].fillna("")[known]).all()
    assert two.loc[~known, ["value", "text"]].isna().all(axis=None)
    again = sequencer.transform(back)
    np.testing.assert_array_equal(again["events"].array.code, tokens["events"].array.code)
    np.testing.assert_array_equal(again["events"].array.start, tokens["events"].array.start)


def test_inverse_clips_and_forgets_the_unknown():
    sequencer = TripletSequencer(clip=1.0).fit(frame_of([(k, "a", float(k)) for k in range(5)]))
    with pytest.warns(DataWarning):
        tokens = sequencer.transform(frame_of([(0, "a", 99.0), (1, "z", 3.0), (2, None, 1.0)]))
    back = long_table(sequencer.inverse_transform(tokens))
    assert back["code"].isna().tolist() == [False, True, True]
    np.testing.assert_allclose(back["value"], [2 + 2 / 1.349, NAN, NAN], rtol=1e-6)


def test_inverse_keeps_integer_codes_and_known_starts():
    X = frame_of([(5, 7, 1.0)], [(6, 8, 2.0)], start=[3.0, NAN], end=[9.0, NAN])
    sequencer = TripletSequencer()
    back = sequencer.inverse_transform(sequencer.fit_transform(X))["events"].array
    assert back.codes.tolist() == [7, 8] and back.codes.dtype == np.int64
    np.testing.assert_array_equal(back.start, [3, NAN])
    np.testing.assert_array_equal(back.end, [9, 6])
