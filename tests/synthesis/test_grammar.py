"""Reading histories as words, and writing the very same words back."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from tawt_sklearn.synthesis import SequenceSynthesizer
from tawt_sklearn.synthesis.grammar import Grammar
from tawt_sklearn.synthesis.histories import LENGTH, Histories, last_of_same
from tawt_sklearn.synthesis.model import Posterior
from tawt_sklearn.synthesis.sampling import Written
from tawt_sklearn.synthesis.symbols import LEVEL, classes

from .subjects import QUICK, events_of, frame_of, rich, simple


class Untrained:
    """Stands in for a network: what is read and written does not depend on it."""

    history = ()
    module_device = torch.device("cpu")

    def posteriors(self, data):
        torch.manual_seed(0)
        return Posterior(torch.randn(len(data), 2), torch.zeros(len(data), 2))

    def stated(self, data):
        return np.zeros((len(data), 3))


@pytest.fixture(autouse=True)
def nothing_is_trained(monkeypatch):
    monkeypatch.setattr(SequenceSynthesizer, "_try", lambda self, *args: None)
    for name, told in {"learned": Untrained(), "history_of": None}.items():
        monkeypatch.setattr(f"{SequenceSynthesizer.__module__}.{name}", lambda *_, it=told: it)


def learned(X, y=None, **parameters) -> SequenceSynthesizer:
    return SequenceSynthesizer(**{**QUICK, "min_subjects_per_code": 1, **parameters}).fit(X, y)


def written_again(synthesizer: SequenceSynthesizer, X, y=None):
    """X as words, and the words as X."""
    words = synthesizer._data(X, y).sentences
    P = synthesizer.grammar_.n_prefix
    first = words.offsets[:-1]
    place = np.arange(words.offsets[-1]) - np.repeat(first, np.diff(words.offsets))
    is_event = (place >= P) & (words.code != synthesizer.grammar_.end)
    prefix = first[:, None] + np.arange(P)
    share = (words.low.astype(float) + words.high) / 2
    history = Histories.of(
        synthesizer.form_.parts(synthesizer.form_.read(synthesizer, X, synthesizer.preparation_))[
            0
        ],
        synthesizer.grammar_.kept,
    )
    row = np.repeat(np.arange(len(first)), np.diff(words.offsets))
    written = Written(
        words.symbol[prefix],
        share[prefix],
        row[is_event],
        words.code[is_event],
        words.symbol[is_event],
        share[is_event],
        history.time,
    )
    form = synthesizer.form_
    return form.shown(*form.write(written, synthesizer.grammar_))


def assert_same_events(again: pd.DataFrame, X: pd.DataFrame) -> None:
    for told, expected in zip(events_of(again), events_of(X), strict=True):
        assert [event[1:] for event in told] == [event[1:] for event in expected]
        np.testing.assert_allclose(
            [event[0] for event in told], [event[0] for event in expected], rtol=0, atol=2e-9
        )


# ---- round trips -------------------------------------------------------------------------------


@pytest.mark.parametrize("windows", ["none", "some", "all"])
def test_histories_are_written_as_they_were_read(windows):
    X, y = rich(windows=windows)
    again, labels = written_again(learned(X, y), X, y)
    assert_same_events(again, X)
    for name in ("start", "end"):
        np.testing.assert_array_equal(
            getattr(again.events.array, name), getattr(X.events.array, name)
        )
    statics = X.drop(columns="events").reset_index(drop=True)
    pd.testing.assert_frame_equal(again.drop(columns="events"), statics)
    assert list(again.columns) == list(X.columns)
    np.testing.assert_array_equal(labels, y)


@pytest.mark.parametrize(
    "subjects",
    [
        [[(0, "a", 1)], [(0, "a", 2)]],
        [[(0, "a", 1)], []],
        [[], [(-3, "a", None), (-3, "a", None), (2, "b", None)]],
        [[(5, "b", 1), (5, "a", 2), (5, "b", 1), (5, "a", 2)]] * 2,
        [[(0, "a", "low"), (1, "a", 7)], [(0, "a", None)]],
        [[(1e6 + k / 8, "a", k) for k in range(50)], [(1e6, "a", 0.0)]],
        [[(k / 3, "a", k % 2) for k in range(200)]],
    ],
)
def test_small_cohorts_are_written_as_they_were_read(subjects):
    X = frame_of(*subjects)
    assert_same_events(written_again(learned(X), X), X)


@pytest.mark.parametrize("dtype", [float, int, "float32", "uint8", "Int64", str, "category", bool])
@pytest.mark.parametrize("n_levels", [1, 2, 60])
def test_static_columns_are_written_as_they_were_read(dtype, n_levels):
    column = pd.Series(np.arange(60) % n_levels).astype(dtype)
    X = simple(60, static={"x": column})
    again = written_again(learned(X), X)
    pd.testing.assert_series_equal(again["x"], X["x"].reset_index(drop=True))


@pytest.mark.parametrize("dtype", ["Int64", "boolean", "float64", "category", object, "str"])
def test_missing_static_values_stay_missing(dtype):
    column = pd.Series([1, 0, None] * 8, dtype=object)
    column = column.map({1: "u", 0: "v"}) if dtype in ("category", object, "str") else column
    X = simple(static={"x": column.astype(dtype)})
    again = written_again(learned(X), X)
    expected = X["x"].reset_index(drop=True)
    assert again["x"].dtype == expected.dtype
    assert again["x"].isna().tolist() == expected.isna().tolist()
    assert again["x"].dropna().tolist() == expected.dropna().tolist()


@pytest.mark.parametrize(
    "y",
    [
        np.arange(24) % 2,
        np.array(["u", "v", "w"] * 8),
        np.linspace(0, 1, 24),
        np.random.default_rng(0).normal(size=(24, 2)),
        np.array([True, False] * 12),
        np.array([[0], [1]] * 12),
    ],
    ids=["classes", "texts", "few numbers", "two targets", "bools", "one column"],
)
def test_labels_are_written_as_they_were_read(y):
    X = simple()
    again = written_again(learned(X, y), X, y)[1]
    np.testing.assert_array_equal(again, y)
    assert again.dtype.kind == (y.dtype.kind if y.dtype.kind != "U" else "O")


def test_a_code_of_texts_and_a_few_numbers():
    X = simple(value=lambda rng, code: str(rng.choice(["1", "2", "low", "high"])))
    assert_same_events(written_again(learned(X), X), X)


def test_an_event_with_a_number_and_a_text():
    X = simple(value=lambda rng, code: str(rng.choice(["low", "high"])))
    numbers = np.random.default_rng(0).normal(size=len(X.events.array.time)).astype(np.float32)
    X["events"] = X["events"].array._replace(value=numbers)
    assert_same_events(written_again(learned(X), X), X)


def test_no_event_with_a_number():
    X = simple(value=lambda rng, code: None)
    grammar = learned(X).grammar_
    assert grammar.numbers(np.empty(0, np.int64), np.empty(0)).shape == (0,)


@pytest.mark.parametrize("seed", range(5))
def test_times_of_any_precision(seed):
    rng = np.random.default_rng(seed)
    X = simple(40, seed=seed)
    time = np.sort(rng.normal(size=len(X.events.array.time)) * 10.0 ** rng.integers(-3, 5))
    X["events"] = X["events"].array._replace(time=time)
    assert_same_events(written_again(learned(X), X), X)


# ---- what is left out --------------------------------------------------------------------------


def rare() -> pd.DataFrame:
    """Codes, texts, numbers and levels that only two of twelve subjects have."""
    common = [(0, "hr", 1.0), (1, "ward", "icu"), (2, "hr", 2.0)]
    odd = [*common, (3, "odd", 5.0), (4, "ward", "er"), (5, "hr", 99.0)]
    static = {"sex": pd.array(["F"] * 10 + ["X"] * 2, dtype="str")}
    return frame_of(*[common] * 10, odd, odd, static=static)


@pytest.mark.filterwarnings("ignore::tawt_sklearn.exceptions.DataWarning")
def test_what_too_few_subjects_have_is_not_written():
    synthesizer = learned(rare(), min_subjects_per_code=3)
    again = written_again(synthesizer, rare())
    told = events_of(again)
    assert told[0] == events_of(rare())[0]
    assert told[-1][:3] == told[0]
    assert [event[1:] for event in told[-1][3:]] == [("ward", None, None), ("hr", 2.0, None)]
    assert again["sex"].isna().tolist() == [False] * 10 + [True] * 2
    assert synthesizer.grammar_.n_codes == 2


@pytest.mark.filterwarnings("ignore::tawt_sklearn.exceptions.DataWarning")
def test_labels_are_kept_however_rare():
    y = np.append(np.zeros(11, int), 7)
    assert written_again(learned(rare(), y, min_subjects_per_code=3), rare(), y)[1].tolist() == [*y]


@pytest.mark.filterwarnings("ignore:.*not seen in fit")
def test_what_fit_did_not_see_is_passed_over(cohort):
    X, y = cohort
    synthesizer = learned(X, y)
    new = frame_of(
        [(0, "hr", 50.0), (1, "unheard of", 3.0), (2, "ward", "unheard of"), (3, "score", 77.0)],
        [(0, "culture", "unheard of"), (9, "note", "said something")],
    )
    for name in X.columns.drop("events"):
        new[name] = X[name].iloc[:2].to_numpy()
        new[name] = new[name].astype(X[name].dtype)
    new["sex"] = pd.array(["unheard of", "F"], dtype="str")
    new = new[X.columns]
    words = synthesizer._data(new, y[:2]).sentences
    grammar = synthesizer.grammar_
    assert (words.symbol >= grammar.offsets[words.code]).all()
    assert (words.symbol < grammar.offsets[words.code + 1]).all()
    codes = [
        [event[1] for event in events]
        for events in events_of(written_again(synthesizer, new, y[:2])[0])
    ]
    assert codes == [["hr", "ward", "score"], ["culture", "note"]]


# ---- words, by plain Python --------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_the_last_of_the_same_code(seed):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 20, 15)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    row = np.repeat(np.arange(15), lengths)
    code = rng.integers(0, 4, len(row))
    has_number = rng.random(len(row)) < 0.5
    last, last_number = last_of_same(row, code, has_number, offsets)
    for k in range(len(row)):
        before = [j for j in range(offsets[row[k]], k) if code[j] == code[k]]
        numbered = [j for j in before if has_number[j]]
        assert last[k] == (before[-1] - offsets[row[k]] if before else -1)
        assert last_number[k] == (numbered[-1] - offsets[row[k]] if numbered else -1)


@pytest.mark.parametrize("windows", ["none", "some", "all"])
def test_histories(windows):
    X, _ = rich(1, windows=windows)
    array = X.events.array
    kept = np.flatnonzero(array.codes != "note")
    history = Histories.of(array, kept)
    names = array.codes[kept]
    at = 0
    for row, events in enumerate(events_of(X)):
        order = {name: k for k, name in enumerate(names)}
        events = sorted(
            (event for event in events if event[1] != "note"),
            key=lambda event: (event[0], order[event[1]]),
        )
        n = len(events)
        assert history.lengths[row] == n
        mine = slice(at, at + n)
        at += n
        assert (history.row[mine] == row).all()
        assert [names[c] for c in history.code[mine]] == [event[1] for event in events]
        times = np.array([event[0] for event in events])
        np.testing.assert_allclose(history.time[mine], times - times[:1])
        np.testing.assert_allclose(history.gap[mine], np.diff(times, prepend=times[:1]))
        start = array.start[row] if windows != "none" else times[0] if n else np.nan
        np.testing.assert_equal(history.start[row], start)
        np.testing.assert_equal(history.first[row], times[0] - start if n else np.nan)
        np.testing.assert_equal(history.window[row], array.end[row] - start)
    assert at == len(history.row)
    assert history.has_windows == (windows != "none")


def test_a_window_that_ends_with_the_last_event_is_no_word():
    X = frame_of([(0, "a", 1), (2, "a", 1)], [(1, "a", 1)])
    array = X["events"].array
    assert "window" not in learned(X.assign(events=array._replace(end=[2.0, 1.0]))).grammar_.prefix
    longer = learned(X.assign(events=array._replace(end=[2.0, 1.5]))).grammar_
    assert "window" in longer.prefix


def test_which_codes_repeat():
    X = frame_of([(0, "a", 1), (0, "a", 1), (1, "b", 1)], [(1, "b", 1), (2, "b", 1)], [(3, "c", 1)])
    array = X["events"].array
    grammar = learned(X).grammar_
    assert dict(zip(array.codes[grammar.kept], grammar.repeats, strict=True)) == {
        "a": True,
        "b": False,
        "c": False,
    }


def test_how_much_is_left(cohort):
    X, y = cohort
    synthesizer = learned(X, y)
    words, P = synthesizer._data(X, y).sentences, synthesizer.grammar_.n_prefix
    for row, n in enumerate(np.diff(X.events.array.offsets)):
        left = words.left[words.offsets[row] : words.offsets[row + 1]]
        assert (left[:P] == 1).all()
        np.testing.assert_allclose(left[P:-1], [1 - (k + 1) / n for k in range(n)], atol=1e-6)


def test_lengths_of_many_kinds_are_put_together():
    rng = np.random.default_rng(0)
    X = frame_of(*[[(k, "a", None) for k in range(n)] for n in rng.integers(1, 150, 200)])
    grammar = learned(X).grammar_
    lengths = np.diff(X.events.array.offsets)
    first, last = grammar.offsets[grammar.word(LENGTH) :][:2]
    assert 0.8 * 64 < last - first < 1.2 * 64
    for word in (grammar.word(LENGTH), grammar.n_words - 1):
        first, last = grammar.offsets[word : word + 2]
        symbol = grammar.class_of(word, lengths)
        assert (grammar.least[symbol] <= lengths).all()
        assert (lengths <= grammar.most[symbol]).all()
        assert (np.diff(grammar.level_score[first:last]) > 0).all()


def test_common_numbers_of_events_stand_alone():
    rng = np.random.default_rng(0)
    count = np.where(rng.random(2000) < 0.7, 0, rng.poisson(50, 2000))
    least, most = classes(count, 12)
    assert (least[0], most[0]) == (0, 0)
    assert (least[1:] == [count[count > m].min() for m in most[:-1]]).all()
    assert most[-1] == count.max()
    rows = [((a <= count) & (count <= b)).sum() for a, b in zip(least[1:], most[1:], strict=True)]
    assert max(rows) < 2 * 2000 / 12


def test_numbers_of_events_of_few_subjects_stand_for_several():
    count = np.repeat([0, 1, 2, 3, 4, 40, 97], [2, 30, 3, 3, 30, 4, 1])
    least, most = classes(count, 24, 5)
    assert (least.tolist(), most.tolist()) == ([0, 2, 4, 40], [1, 3, 4, 40])  # 97 counts as 40
    assert classes(count, 24, 1)[0].tolist() == [0, 1, 2, 3, 4, 40, 97]
    assert [a.tolist() for a in classes(np.array([3, 3, 8]), 24, 5)] == [[3], [3]]


def test_a_single_subject_does_not_stand_out():
    """One has far more events than others, one a far longer gap, over and over."""
    usual = [[(float(t), "a", 1.0) for t in range(4 + k % 5)] for k in range(58)]
    many = [(float(t), "a", 1.0) for t in range(97)]
    apart = [(4321.0 * t, "a", 1.0) for t in range(8)]
    X = frame_of(*usual, many, apart)
    for gap in ("bins", "lognormal_mixture"):
        grammar = learned(X, min_subjects_per_code=5, gap=gap).grammar_
        assert grammar.most.max() < 20
        if gap == "bins":
            assert 4321.0 not in grammar.gaps.spikes
    open_ended = learned(X, min_subjects_per_code=1).grammar_
    assert open_ended.most.max() == 97
    assert 4321.0 in open_ended.gaps.spikes


def test_how_often_each_code_comes_is_said(cohort):
    X, y = cohort
    synthesizer = learned(X, y)
    grammar, words = synthesizer.grammar_, synthesizer._data(X, y).sentences
    names = X.events.array.codes[grammar.kept][grammar.charted]
    for row, events in enumerate(events_of(X)):
        at = words.offsets[row] + len(grammar.prefix) + np.arange(len(names))
        assert (words.code[at] == grammar.n_codes + 1 + len(grammar.prefix) + np.arange(5)).all()
        count = [sum(event[1] == name for event in events) for name in names]
        assert grammar.least[words.symbol[at]].tolist() == count
        assert grammar.most[words.symbol[at]].tolist() == count


def test_symbols_of_each_word(cohort):
    X, y = cohort
    grammar: Grammar = learned(X, y).grammar_
    assert len(grammar.kind) == len(grammar.level) == len(grammar.text) == grammar.offsets[-1]
    assert (np.diff(grammar.offsets) > 0).all()
    assert grammar.offsets[grammar.end + 1] - grammar.offsets[grammar.end] == 1
    codes = X.events.array.codes[grammar.kept]
    for name, levels in {"ward": 3, "score": 4, "note": 0, "hr": 0, "culture": 2}.items():
        first, last = grammar.offsets[codes.get_loc(name) :][:2]
        assert (grammar.kind[first:last] == LEVEL).sum() == levels


@pytest.mark.parametrize("levels", [["1", "2"], ["low", "high"]])
def test_nothing_is_no_symbol_of_a_code_that_always_has_a_value(levels):
    grammar = learned(simple(value=lambda rng, code: str(rng.choice(levels)))).grammar_
    assert set(grammar.kind[: grammar.offsets[grammar.end]]) == {LEVEL}


def test_infinite_static_numbers_are_refused():
    with pytest.raises(ValueError, match="finite numbers in static column 'x'"):
        learned(simple(60, static={"x": np.append(np.arange(59.0), np.inf)}))


def test_times_are_no_static_columns():
    with pytest.raises(ValueError, match="days since an origin"):
        learned(simple(static={"x": pd.date_range("2020-01-01", periods=24)}))
