"""Codes that come after fit: ids of what is known stay, what is new stands behind."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from tawt_sklearn import TripletSequencer
from tawt_sklearn.exceptions import DataError, DataWarning
from tawt_sklearn.tokens.vocabulary import N_SPECIAL, SPECIAL_CODES, UNKNOWN, Vocabulary

from .builders import frame_of, long_table, random_frame

NAN = np.nan
SCALINGS = ["robust", "standard", "quantile", None]


@pytest.fixture
def X() -> pd.DataFrame:
    """Numbers, texts, both and neither."""
    return frame_of(
        [(0, "HR", 80.0), (1, "HR", 90.0), (2, "wind", None, "NW"), (2, "note", 1.0, "high")],
        [(0, "HR", 70.0), (3, "wind", None, "SE"), (4, "surgery", None)],
    )


@pytest.fixture
def elsewhere() -> pd.DataFrame:
    """Two known codes, with a category that is new; and one new code of each kind."""
    return frame_of(
        [(0, "HR", 500.0), (1, "lactate", 2.0), (2, "lactate", 4.0), (3, "alarm", None)],
        [(0, "lactate", 9.0), (1, "wind", None, "calm"), (2, "rhythm", None, "AF")],
        [(0, "rhythm", None, "sinus"), (1, "rhythm", None, "AF"), (2, None, 1.0)],
    )


@pytest.fixture
def sequencer(X) -> TripletSequencer:
    return TripletSequencer().fit(X)


def contents(frame: pd.DataFrame) -> tuple[bytes, ...]:
    """Ids, values, categories and times of tokens, bit for bit."""
    array = frame["events"].array
    text = np.full(len(array.code), -1, np.int32) if array.text is None else array.text
    parts = (array.code, array.value, text, array.time, array.offsets, array.start, array.end)
    return tuple(part.tobytes() for part in parts)


def assert_unchanged(sequencer: TripletSequencer, before: TripletSequencer) -> None:
    assert sequencer.vocabulary_ is before.vocabulary_
    assert sequencer._seen is before._seen


# ---- from histories ----------------------------------------------------------------------------


def test_new_codes_stand_behind_the_known_ones(sequencer, elsewhere):
    before = sequencer.vocabulary_
    assert sequencer.add_codes(elsewhere) is sequencer
    after = sequencer.vocabulary_
    assert before.codes == (*SPECIAL_CODES, "HR", "wind", "note", "surgery")
    assert after.codes == (*before.codes, "lactate", "rhythm", "alarm")
    assert after.kinds[-3:] == ("numeric", "categorical", "presence")
    assert after.counts[-3:].tolist() == [3, 3, 1]
    assert after.counts[: len(before)].tolist() == before.counts.tolist()
    assert after.categories == (*before.categories, (8, "[UNK]"), (8, "AF"), (8, "sinus"))
    assert np.diff(after.category_offsets)[-3:].tolist() == [0, 3, 0]
    assert after.extends(before) and not before.extends(after)
    assert after.time_scale == before.time_scale


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("texts", [0, 3])
def test_known_data_get_the_same_tokens_bit_for_bit(scaling, texts):
    X = random_frame(np.random.default_rng(0), V=4, texts=texts)
    wider = random_frame(np.random.default_rng(1), V=8, texts=5)
    rules = {"c1": {"log": True}, "c5": {"range": [0, 65], "log": True}, "c6": {"factor": 0.1}}
    sequencer = TripletSequencer(value_scaling=scaling, codes=rules, min_count=2)
    before = sequencer.fit_transform(X)
    after = sequencer.add_codes(wider).transform(X)
    assert len(sequencer.vocabulary_) == N_SPECIAL + 8
    assert contents(after) == contents(before)
    assert Vocabulary.from_json(after["events"].dtype.vocabulary) == sequencer.vocabulary_


@pytest.mark.parametrize("scaling", SCALINGS)
def test_new_codes_are_learned_like_in_fit(scaling):
    X = random_frame(np.random.default_rng(2), V=4, texts=3)
    wider = random_frame(np.random.default_rng(3), V=7, texts=3)
    settings = dict(
        value_scaling=scaling,
        clip=2.0,
        min_count=12,
        categorical_codes=["c4"],
        codes={"c5": {"factor": 2.0, "range": [None, 150], "label": "five"}},
    )
    with pytest.warns(DataWarning, match="categorical_codes"):
        grown = TripletSequencer(**settings).fit(X).add_codes(wider).vocabulary_
    fitted = TripletSequencer(**settings).fit(wider).vocabulary_
    for code in ("c4", "c5", "c6"):
        ours, theirs = grown.token_of[code], fitted.token_of[code]
        for name in ("kinds", "labels", "counts", "factor", "low", "high", "log", "center"):
            assert getattr(grown, name)[ours] == getattr(fitted, name)[theirs]
        assert grown.scale[ours] == fitted.scale[theirs]
        for name in ("knot_values", "knot_scores"):
            a, b = getattr(grown, name), getattr(fitted, name)
            np.testing.assert_array_equal(
                a[slice(*grown.knot_offsets[ours : ours + 2])],
                b[slice(*fitted.knot_offsets[theirs : theirs + 2])],
            )
        a = [label for token, label in grown.categories if token == ours]
        assert a == [label for token, label in fitted.categories if token == theirs]
    assert "c4" in {grown.codes[token] for token, _ in grown.categories}


def test_grown_tokens_come_back_as_raw_data(sequencer, elsewhere):
    sequencer.add_codes(elsewhere)
    with pytest.warns(DataWarning, match="unknown category"):
        tokens = sequencer.transform(elsewhere)
    back = long_table(sequencer.inverse_transform(tokens))
    raw = long_table(elsewhere)
    assert back["code"].tolist() == raw["code"].tolist()
    new = raw["code"].isin(["lactate", "rhythm", "alarm"]).to_numpy()
    np.testing.assert_allclose(back["value"][new], raw["value"][new], rtol=1e-6)
    assert back["text"][new].tolist() == raw["text"][new].tolist()


def test_tokens_from_before_can_still_be_undone(sequencer, X, elsewhere):
    before = sequencer.transform(X)
    expected = long_table(sequencer.inverse_transform(before))
    sequencer.add_codes(elsewhere)
    pd.testing.assert_frame_equal(long_table(sequencer.inverse_transform(before)), expected)


def test_new_codes_are_no_longer_counted_as_unknown(sequencer, elsewhere):
    status = sequencer.report(elsewhere)["status"]
    assert (status[["lactate", "rhythm", "alarm"]] == "unknown").all()
    fitted = sequencer.report_.copy()
    report = sequencer.add_codes(elsewhere).report(elsewhere)
    assert (report["status"][["lactate", "rhythm", "alarm"]] == "known").all()
    assert report["n_new_category"].sum() == 1  # "calm" of a known code
    pd.testing.assert_frame_equal(sequencer.report_, fitted)


def test_new_codes_that_are_rare_stay_without_a_token(X, elsewhere):
    sequencer = TripletSequencer(min_count=2).fit(X).add_codes(elsewhere)
    assert sequencer.vocabulary_.codes[N_SPECIAL:] == ("HR", "wind", "lactate", "rhythm")
    report = sequencer.report(elsewhere)
    assert report.loc["alarm", ["status", "token"]].tolist() == ["rare", UNKNOWN]
    assert report.loc["rhythm", "n_rare_category"] == 1  # sinus
    # What was rare in fit has a token once it occurs often enough.
    often = frame_of([(k, "note", float(k)) for k in range(5)])
    assert sequencer.add_codes(often).vocabulary_.codes[-1] == "note"


def test_only_the_most_recent_events_are_learned_from(X):
    longer = frame_of([(k, "lactate", float(k)) for k in range(10)])
    grown = TripletSequencer(max_events=4).fit(X).add_codes(longer).vocabulary_
    assert grown.counts[-1] == 4 and grown.center[-1] == 7.5


def test_infinite_values_of_codes_that_are_known_do_no_harm(sequencer):
    mixed = frame_of([(0, "HR", np.inf), (1, "lactate", 2.0)])
    assert sequencer.add_codes(mixed).vocabulary_.codes[-1] == "lactate"


def test_nothing_new_is_announced_and_changes_nothing(sequencer, X):
    before = copy.copy(sequencer)
    for nothing in (X, frame_of([]), {}):
        with pytest.warns(DataWarning, match="nothing was added") as record:
            sequencer.add_codes(nothing)
        assert record[0].filename == __file__
    assert_unchanged(sequencer, before)


def test_growth_can_go_on(sequencer, X, elsewhere):
    first = sequencer.add_codes({"CRP": {"kind": "numeric", "center": 10, "scale": 5}}).vocabulary_
    last = sequencer.add_codes(elsewhere).vocabulary_
    assert last.codes[7:] == ("CRP", "lactate", "rhythm", "alarm")
    assert last.extends(first) and last.extends(TripletSequencer().fit(X).vocabulary_)


def test_says_what_was_added_where_verbose_asks(X, elsewhere, capsys):
    TripletSequencer(verbose=1).fit(X).add_codes(elsewhere)
    assert "3 codes added: 'lactate', 'rhythm', 'alarm'" in capsys.readouterr().out


# ---- from settings -----------------------------------------------------------------------------


@pytest.mark.parametrize("scaling", ["robust", "standard", "quantile"])
def test_numeric_codes_take_center_and_scale(scaling, X):
    settings = {"lactate": {"kind": "numeric", "center": 2.0, "scale": 0.5, "range": [0, 30]}}
    sequencer = TripletSequencer(value_scaling=scaling, clip=4).fit(X).add_codes(settings)
    raw = frame_of([(0, "lactate", 2.0), (1, "lactate", 2.5), (2, "lactate", 1.0)])
    extremes = frame_of([(0, "lactate", 20.0), (1, "lactate", 31.0), (2, "lactate", None)])
    tokens = sequencer.transform(raw)
    assert tokens["events"].events.flat("value").tolist() == [0.0, 1.0, -2.0]
    values = sequencer.transform(extremes)["events"].events.flat("value")
    np.testing.assert_array_equal(values, [4.0, NAN, NAN])
    back = sequencer.inverse_transform(tokens)["events"].events.flat("value")
    assert back.tolist() == [2.0, 2.5, 1.0]
    assert sequencer.vocabulary_.counts[-1] == 0


def test_center_and_scale_hold_after_factor_and_log(sequencer):
    center, scale = np.log1p(18.0), 0.5
    sequencer.add_codes(
        {"glucose": {"kind": "numeric", "factor": 18, "log": True, "center": center, "scale": 0.5}}
    )
    tokens = sequencer.transform(frame_of([(0, "glucose", 1.0), (1, "glucose", 10.0)]))
    expected = [0.0, (np.log1p(180.0) - center) / scale]
    np.testing.assert_allclose(tokens["events"].events.flat("value"), expected, atol=1e-6)


def test_without_scaling_numbers_need_no_settings(X):
    sequencer = TripletSequencer(value_scaling=None).fit(X)
    tokens = sequencer.add_codes({"lactate": {"kind": "numeric"}}).transform(
        frame_of([(0, "lactate", 123.0)])
    )
    assert tokens["events"].events.flat("value").tolist() == [123.0]
    with pytest.raises(DataError, match=r"numeric code with value_scaling=None.* Got 'center'"):
        sequencer.add_codes({"CRP": {"kind": "numeric", "center": 1.0}})


def test_categories_are_texts_or_numbers(sequencer):
    sequencer.add_codes(
        {
            "GCS": {"kind": "categorical", "categories": [3, 0.1, "intubated"], "label": "coma"},
            "lactate": {"center": 2.0, "scale": 1.0, "categories": ["haemolytic"]},
            "alarm": {"kind": "presence"},
        }
    )
    vocabulary = sequencer.vocabulary_
    assert vocabulary.kinds[-3:] == ("categorical", "numeric", "presence")
    assert vocabulary.labels[-3:] == ("coma", "lactate", "alarm")
    assert [label for token, label in vocabulary.categories if token >= 7] == (
        ["[UNK]", "3", "0.1", "intubated", "[UNK]", "haemolytic"]
    )
    raw = frame_of(
        [(0, "GCS", 3.0), (1, "GCS", 0.1), (2, "GCS", None, "intubated"), (3, "alarm", None)],
        [(0, "lactate", 3.0, "haemolytic"), (1, "lactate", 4.0)],
    )
    tokens = sequencer.transform(raw)  # and nothing is unknown
    names = tokens["events"].events.flat("text")
    index = vocabulary.category_index
    assert index[names[[0, 1, 2, 4]]].tolist() == (
        ["GCS=3", "GCS=0.1", "GCS=intubated", "lactate=haemolytic"]
    )
    assert names[[3, 5]].tolist() == [-1, -1]
    pd.testing.assert_frame_equal(long_table(sequencer.inverse_transform(tokens)), long_table(raw))
    with pytest.warns(DataWarning, match=r"unknown category.*'GCS=4'"):
        sequencer.transform(frame_of([(0, "GCS", 4.0)]))


def test_categories_can_be_the_first_ones():
    X = frame_of([(0, "HR", 80.0), (1, "HR", 90.0)])
    sequencer = TripletSequencer().fit(X)
    before = sequencer.transform(X)
    sequencer.add_codes({"wind": {"kind": "categorical", "categories": ["NW"]}})
    assert sequencer.vocabulary_.categories == ((4, "[UNK]"), (4, "NW"))
    assert contents(sequencer.transform(X)) == contents(before)


def test_rules_of_the_estimator_fill_in_what_is_not_given(X):
    rules = {
        "alarm": {"kind": "presence", "label": "alarm bell"},
        "lactate": {"factor": 9.0, "range": [0, 90], "label": "lactate [mg/dl]"},
    }
    sequencer = TripletSequencer(codes=rules).fit(X)
    sequencer.add_codes({"alarm": {}, "lactate": {"center": 18, "scale": 9, "range": [0, 50]}})
    vocabulary = sequencer.vocabulary_
    assert vocabulary.kinds[-2:] == ("presence", "numeric")
    assert vocabulary.labels[-2:] == ("alarm bell", "lactate [mg/dl]")
    assert (vocabulary.factor[-1], vocabulary.low[-1], vocabulary.high[-1]) == (9.0, 0.0, 50.0)


NUMERIC = {"kind": "numeric", "center": 1.0, "scale": 1.0}
CATEGORICAL = {"kind": "categorical"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"HR": NUMERIC}, r"new to the vocabulary\. Got 'HR'.* fit anew"),
        ({"[MASK]": NUMERIC}, r"Got '\[MASK\]', a special token"),
        ({5: NUMERIC}, r"strings that are not blank.* Got 5\. Convert"),
        ({" ": NUMERIC}, r"not blank.* Got ' '"),
        ({"x": {}}, r"codes\['x'\]: expected 'kind'.* Give 'numeric'"),
        ({"x": None}, "expected 'kind'"),
        ({"x": 3}, r"codes\['x'\]: expected a dictionary.* Got 3"),
        ({"x": {"centre": 1}}, r"unknown key 'centre'\. .*label, center, scale, categories"),
        ({"x": {"kind": "number"}}, "kind should be one of .* Got 'number'"),
        ({"x": {"kind": "numeric", "scale": 1}}, "expected 'center', which a numeric code with"),
        ({"x": {"center": 1}}, r"expected 'scale', which a numeric code .*'robust' needs"),
        ({"x": NUMERIC | {"scale": 0}}, r"scale should be a finite positive number\. Got 0"),
        ({"x": NUMERIC | {"scale": 1e-320}}, "scale should be a finite positive number"),
        ({"x": NUMERIC | {"center": NAN}}, r"center should be a finite number\. Got nan"),
        ({"x": NUMERIC | {"center": "1"}}, "center should be a finite number. Got '1'"),
        ({"x": NUMERIC | {"center": 10**400}}, "center should be a finite number"),
        ({"x": NUMERIC | {"kind": "presence"}}, "presence code has no use for. Got 'center'"),
        ({"x": NUMERIC | {"categories": [3]}}, "numeric code should be texts. Got 3"),
        ({"x": CATEGORICAL}, "expected 'categories', which a categorical code needs"),
        ({"x": CATEGORICAL | {"categories": []}}, r"categories should be a list.* Got \[\]"),
        ({"x": CATEGORICAL | {"categories": "NW"}}, "categories should be a list.* Got 'NW'"),
        ({"x": CATEGORICAL | {"categories": [True]}}, "texts or finite numbers. Got True"),
        ({"x": CATEGORICAL | {"categories": [1e300]}}, "texts or finite numbers"),
        ({"x": CATEGORICAL | {"categories": [" "]}}, "texts or finite numbers. Got ' '"),
        ({"x": CATEGORICAL | {"categories": ["3", 3]}}, "Got '3' twice"),
        ({"x": CATEGORICAL | {"categories": ["[UNK]"]}}, "always there"),
        ({"x": NUMERIC | {"range": [3, 1]}}, "range should go from the lowest"),
        (["x"], r"Got names alone, such as 'x'\. Give \{'x': \{'kind': 'presence'\}\}"),
        ({"x"}, "names alone"),
        ("x", "names alone"),
        (pd.Index(["x", "y"]), "names alone"),
        ([7], "names alone, such as 7"),
    ],
)
def test_faulty_settings_are_named_and_change_nothing(sequencer, settings, message):
    before = copy.copy(sequencer)
    if isinstance(settings, dict):  # a good one first must not stay either
        settings = {"good": {"kind": "presence"}, **settings}
    with pytest.raises(DataError, match=message):
        sequencer.add_codes(settings)
    assert_unchanged(sequencer, before)


@pytest.mark.parametrize(
    ("histories", "message"),
    [
        (frame_of([(0, "lactate", np.inf)]), "infinite.* at codes 'lactate'"),
        (frame_of([(0, 5, 1.0)]), "Expected codes that are strings, as in fit. Got integers"),
        (frame_of([(0, "lactate", 1.0)], time_unit="D"), "Expected times as in fit"),
        (TripletSequencer().fit_transform(frame_of([(0, "b", 1.0)])), "tokenised already"),
        (pd.DataFrame({"age": [1]}), "Expected a column of event histories"),
        (frame_of([(0, "lactate", 1.0)], name="other"), "feature names"),
    ],
)
def test_faulty_histories_change_nothing(sequencer, histories, message):
    before = copy.copy(sequencer)
    with pytest.raises(ValueError, match=message):
        sequencer.add_codes(histories)
    assert_unchanged(sequencer, before)


def test_new_codes_that_are_all_rare_are_an_error(X, elsewhere):
    sequencer = TripletSequencer(min_count=2).fit(X)
    before = copy.copy(sequencer)
    sequencer.set_params(min_count=4)
    with pytest.raises(DataError, match="at least min_count=4 times. Got 3 codes"):
        sequencer.add_codes(elsewhere)
    assert_unchanged(sequencer, before)


def test_parameters_that_are_wrong_by_now_are_an_error(sequencer, elsewhere):
    with pytest.raises(ValueError, match="'min_count' parameter"):
        sequencer.set_params(min_count=0).add_codes(elsewhere)


def test_only_a_fitted_sequencer_grows():
    with pytest.raises(NotFittedError):
        TripletSequencer().add_codes({"x": {"kind": "presence"}})
    with pytest.raises(NotFittedError):
        TripletSequencer().rename_codes({"x": "y"})


# ---- integer codes -----------------------------------------------------------------------------


def test_integer_codes_stay_integers():
    sequencer = TripletSequencer(codes={"9": {"label": "nine"}}).fit(
        frame_of([(0, 7, 1.0), (1, 5, 2.0), (2, 7, 4.0)])
    )
    sequencer.add_codes(frame_of([(0, 7, 3.0), (1, 9, 1.0)]))
    sequencer.add_codes({np.int64(2): {"kind": "presence"}})
    vocabulary = sequencer.vocabulary_
    assert vocabulary.codes[N_SPECIAL:] == (7, 5, 9, 2)
    assert vocabulary.labels[N_SPECIAL:] == ("7", "5", "nine", "2")
    assert vocabulary.integer_codes and type(vocabulary.codes[-1]) is int
    raw = frame_of([(0, 2, None), (1, 9, 1.0)])
    back = sequencer.inverse_transform(sequencer.transform(raw))
    assert long_table(back)["code"].tolist() == [2, 9]
    assert sequencer.rename_codes({5: 6, 9: np.int64(10)}).vocabulary_.codes[4:] == (6, 10, 2)
    assert sequencer.vocabulary_.labels[4:] == ("6", "nine", "2")


@pytest.mark.parametrize("code", ["9", True, 2**63, 1.0])
def test_an_integer_vocabulary_takes_integers_only(code):
    sequencer = TripletSequencer().fit(frame_of([(0, 7, 1.0)]))
    with pytest.raises(DataError, match="Expected codes that are integers of 64 bits.* Convert"):
        sequencer.add_codes({code: {"kind": "presence"}})
    with pytest.raises(DataError, match="Expected codes that are integers"):
        sequencer.rename_codes({7: code})
    with pytest.raises(DataError, match="integers, as in fit. Got strings"):
        sequencer.add_codes(frame_of([(0, "9", 1.0)]))
    assert sequencer.vocabulary_.codes[N_SPECIAL:] == (7,)


# ---- other names -------------------------------------------------------------------------------


def test_renamed_codes_keep_everything_else(sequencer, X):
    before = sequencer.vocabulary_
    tokens = sequencer.transform(X)
    assert sequencer.rename_codes({"HR": "heart_rate", "wind": "direction"}) is sequencer
    after = sequencer.vocabulary_
    assert after.codes[N_SPECIAL:] == ("heart_rate", "direction", "note", "surgery")
    assert after.labels == after.codes
    assert replace(after, codes=before.codes, labels=before.labels) == before
    renamed = frame_of(
        [(0, "heart_rate", 80.0), (1, "heart_rate", 90.0), (2, "direction", None, "NW")],
        [(0, "heart_rate", 70.0), (3, "direction", None, "SE"), (4, "surgery", None)],
    )
    found = sequencer.transform(renamed)["events"].events  # and nothing is unknown
    expected = np.delete(np.arange(len(tokens["events"].array.code)), 3)  # the note
    for name in ("code", "value", "text"):
        np.testing.assert_array_equal(
            found.flat(name), tokens["events"].events.flat(name)[expected]
        )
    with pytest.warns(DataWarning, match=r"unknown code.*'HR', 'wind'"):
        sequencer.transform(X)


def test_codes_may_swap_names(sequencer):
    before = sequencer.vocabulary_
    after = before.renamed({"HR": "note", "note": "HR"})
    assert after.codes[N_SPECIAL:] == ("note", "wind", "HR", "surgery")
    assert after.renamed({"HR": "note", "note": "HR"}) == before
    assert before.renamed({"HR": "HR"}) == before.renamed({}) == before


def test_labels_of_their_own_stay(X):
    vocabulary = TripletSequencer(codes={"HR": {"label": "pulse"}}).fit(X).vocabulary_
    assert vocabulary.renamed({"HR": "x", "wind": "y"}).labels[3:5] == ("pulse", "y")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"CRP": "crp"}, "Got 'CRP', which it lacks"),
        ({"HR": "wind"}, "Got 'wind' for 'HR', and 'wind' is in the vocabulary already"),
        ({"HR": "x", "wind": "x"}, "Got 'x' for two of them"),
        ({"[UNK]": "x"}, r"Got '\[UNK\]', a special token"),
        ({"HR": "[MASK]"}, r"Got '\[MASK\]', a special token"),
        ({"HR": ""}, "not blank.* Got ''"),
        ({"HR": 4}, "strings that are not blank.* Got 4"),
        (["HR", "x"], r"Expected a dictionary \{old code: new code\}\. Got \['HR', 'x'\]"),
    ],
)
def test_faulty_names_change_nothing(sequencer, names, message):
    before = copy.copy(sequencer)
    with pytest.raises(DataError, match=message):
        sequencer.rename_codes(names)
    assert_unchanged(sequencer, before)


# ---- extends -----------------------------------------------------------------------------------


def test_extends_asks_for_everything_that_tokens_depend_on(sequencer, elsewhere):
    before = sequencer.vocabulary_
    grown = sequencer.add_codes(elsewhere).vocabulary_
    assert before.extends(before) and before.extends(pickle.loads(pickle.dumps(before)))
    assert grown.extends(before) and not before.extends(grown)
    assert not grown.extends(before.renamed({"HR": "heart_rate"}))

    def changed(name, value, at=3):
        array = getattr(before, name).copy()
        array[at] = value
        return replace(before, **{name: array})

    for name in ("center", "scale", "factor", "low", "high", "counts", "log"):
        assert not grown.extends(changed(name, 7)), name
    assert not grown.extends(changed("category_numbers", 1.0, at=1))
    for name, value in {
        "clip": 4.0,
        "value_scaling": "standard",
        "time_unit": "D",
        "timezone": "UTC",
        "time_origin": "end",
        "known_start": False,
        "kinds": ("presence",) * len(before),
        "categories": ((4, "[UNK]"), (4, "SE"), (4, "NW"), *before.categories[3:]),
    }.items():
        assert not grown.extends(replace(before, **{name: value})), name
    # What changes no token is not compared.
    assert grown.extends(replace(before, labels=("?",) * len(before), time_scale=9.0))


def test_extends_compares_quantile_tables(X, elsewhere):
    sequencer = TripletSequencer(value_scaling="quantile").fit(X)
    before = sequencer.vocabulary_
    grown = sequencer.add_codes(elsewhere).vocabulary_
    assert len(before.knot_values) and grown.extends(before)
    assert not grown.extends(replace(before, knot_scores=before.knot_scores + 1))


# ---- pickles, files, clones --------------------------------------------------------------------


def test_a_grown_sequencer_survives_pickle_and_file(sequencer, elsewhere, tmp_path):
    sequencer.add_codes(elsewhere).add_codes({"CRP": NUMERIC | {"categories": ["trace"]}})
    sequencer.rename_codes({"HR": "heart_rate"})
    raw = frame_of([(0, "heart_rate", 80.0), (1, "CRP", 2.0, "trace"), (2, "rhythm", None, "AF")])
    expected = sequencer.transform(raw)
    sequencer.save(tmp_path / "grown.tawt")
    for other in (
        pickle.loads(pickle.dumps(sequencer)),
        TripletSequencer.load(tmp_path / "grown.tawt"),
        copy.deepcopy(sequencer),
    ):
        assert other.vocabulary_ == sequencer.vocabulary_
        pd.testing.assert_frame_equal(other.transform(raw), expected)  # no code is unknown
        other.add_codes({"alarm2": {"kind": "presence"}})
    assert "alarm2" not in sequencer.vocabulary_.codes


def test_clones_and_fits_start_anew(sequencer, X, elsewhere):
    fitted = sequencer.vocabulary_
    sequencer.add_codes(elsewhere)
    with pytest.raises(NotFittedError):
        clone(sequencer).transform(X)
    assert sequencer.fit(X).vocabulary_ == fitted
    with pytest.warns(DataWarning, match="unknown code"):
        sequencer.transform(elsewhere)
