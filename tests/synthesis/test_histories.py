"""What whole histories are like: as long as they say, in their own time, numbers that repeat."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from tawt_sklearn.synthesis import SequenceSynthesizer
from tawt_sklearn.synthesis.gaps import (
    MOST_STRETCH,
    SAME,
    GapClasses,
    LogGaps,
    multiples,
    resolution_of,
)
from tawt_sklearn.synthesis.grammar import MOST_LENGTHS
from tawt_sklearn.synthesis.histories import LENGTH
from tawt_sklearn.synthesis.symbols import BOTH, REPEAT

from .subjects import QUICK, frame_of, simple


def fit(X, y=None, **parameters) -> SequenceSynthesizer:
    return SequenceSynthesizer(**{**QUICK, **parameters}).fit(X, y)


# ---- length ------------------------------------------------------------------------------------


def test_lengths_are_those_of_the_data_whatever_the_network_thinks():
    X = simple(400, most=9)
    real = np.diff(X["events"].array.offsets)
    synthesizer = fit(X, min_subjects_per_code=1)
    drawn = np.diff(synthesizer.sample(800, random_state=0)["events"].array.offsets)
    shares = [(lengths[:, None] <= np.arange(12)).mean(0) for lengths in (real, drawn)]
    assert np.abs(shares[0] - shares[1]).max() < 0.08


def test_numbers_about_the_whole_history_have_the_mean_and_spread_of_the_data():
    age = np.random.default_rng(0).normal(60, 10, 120).round(2)
    X = simple(120, static={"age": age})
    synthesizer = fit(X, min_subjects_per_code=1)
    drawn = synthesizer.sample(2000, random_state=0)["age"]
    assert abs(drawn.mean() - age.mean()) < 1.5
    assert 0.85 < drawn.std() / age.std() < 1.15


def test_many_different_lengths_are_put_into_classes():
    rng = np.random.default_rng(0)
    lengths = rng.permutation(np.arange(1, 201))
    X = frame_of(*[[(float(t), "a", 1.0) for t in range(n)] for n in lengths])
    grammar = fit(X, min_subjects_per_code=1).grammar_
    first, last = grammar.offsets[grammar.word(LENGTH) :][:2]
    assert last - first == MOST_LENGTHS
    least, most = grammar.least[first:last], grammar.most[first:last]
    assert (least <= most).all()
    np.testing.assert_array_equal(least[1:], most[:-1] + 1)
    assert grammar.length_shares.sum() == pytest.approx(1)


def test_classes_hold_what_there_was():
    X = frame_of(*[[(float(t), "a", 1.0) for t in range(n)] for n in [0] * 10 + [100, 130] * 90])
    drawn = fit(X).sample(300, random_state=0)["events"].array
    assert set(np.diff(drawn.offsets)) <= {0, 100, 130}


def test_what_is_written_is_as_long_as_it_said(fitted, X, y):
    words = fitted._data(X, y).sentences
    grammar = fitted.grammar_
    lengths = np.diff(words.offsets) - grammar.n_prefix - 1
    symbol = words.symbol[words.offsets[:-1] + grammar.prefix.index(LENGTH)]
    np.testing.assert_array_equal(symbol, grammar.class_of(grammar.word(LENGTH), lengths))


def test_codes_that_can_only_come_once_end_the_history_early():
    # One time for everything, each code once: no more than there are codes.
    X = frame_of(*[[(0.0, code, 1.0) for code in "abc"[:n]] for n in [1, 2, 3] * 10])
    drawn = fit(X, min_subjects_per_code=1).sample(50, random_state=0)["events"].array
    for history in drawn:
        assert len(set(history.code)) == len(history.code) <= 3
        assert set(history.time) <= {0.0}


# ---- time --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_histories_take_as_long_as_in_the_data():
    rng = np.random.default_rng(0)
    ends = np.repeat([10.0, 100.0], 60)
    subjects = [[(round(t, 2), "a", 1.0) for t in np.sort(rng.uniform(0, end, 20))] for end in ends]
    parameters = {**QUICK, "max_epochs": 40, "learning_rate": 5e-3}
    drawn = SequenceSynthesizer(**parameters).fit(frame_of(*subjects)).sample(100, random_state=0)
    spans = np.array([history.time[-1] - history.time[0] for history in drawn["events"]])
    assert 0.25 < (spans > 40).mean() < 0.75
    assert np.median(spans[spans > 40]) == pytest.approx(90, abs=20)
    assert np.median(spans[spans <= 40]) == pytest.approx(9, abs=6)


def test_waits_are_standard_logarithms():
    gaps = np.exp(np.random.default_rng(0).normal(2, 3, 1000))
    gaps[:100] = 0.0
    for kind in (GapClasses, LogGaps):
        wait = kind.fit(gaps).wait(gaps)
        assert (wait[:100] == 0).all()
        assert float(wait[100:].mean()) == pytest.approx(0, abs=0.01)
        assert float(wait[100:].std()) == pytest.approx(1, abs=0.01)


def test_log_normal_gaps_and_back():
    gaps = np.array([0.0, 0.5, 1.25, 30.0, 0.0, 2.0])
    learned = LogGaps.fit(gaps)
    assert (learned.least, learned.most, learned.resolution) == (0.5, 30.0, 0.25)
    np.testing.assert_array_equal(learned.of(gaps) == SAME, gaps == 0)
    positive = gaps[gaps > 0]
    np.testing.assert_allclose(learned.of_wait(learned.wait(positive).astype(float)), positive)
    assert learned.of_wait(np.array([-9.0, 9.0])).tolist() == [0.5, 30.0]


@pytest.mark.parametrize("gap", ["bins", "lognormal_mixture"])
def test_times_of_minutes_are_the_very_same_numbers(gap):
    """A time that was read as 61 / 60 is written as 61 / 60, to the last digit."""
    rng = np.random.default_rng(0)
    minutes = [np.sort(rng.choice(2000, 10, replace=False)) for _ in range(80)]
    subjects = [[(float(m / 60), "a", 1.5) for m in of] for of in minutes]
    synthesizer = SequenceSynthesizer(**QUICK, gap=gap).fit(frame_of(*subjects))
    assert synthesizer.grammar_.resolution == 1 / 60
    time = synthesizer.sample(60, random_state=0)["events"].events.flat("time")
    assert np.isin(time, np.arange(10_000) / 60).all()
    assert len(np.unique(time)) > 100


def test_times_of_no_grid():
    times = np.random.default_rng(0).random(500) * 100
    assert resolution_of(times) is None
    assert resolution_of(np.round(times, 2)) == 0.01
    np.testing.assert_array_equal(multiples(np.array([0.1 + 0.2, 7.4999]), 0.1), [0.3, 7.5])
    np.testing.assert_array_equal(multiples(np.array([3.4, 3.6]), 1.0), [3.0, 4.0])


def test_no_gap_at_all():
    X = frame_of(*[[(3.0, "a", 1.0)]] * 10, *[[]] * 10)
    for gap in ("bins", "lognormal_mixture"):
        drawn = fit(X, gap=gap).sample(20, random_state=0)["events"].array
        assert set(np.diff(drawn.offsets)) <= {0, 1}
        assert set(drawn.time) <= {3.0}


@pytest.mark.parametrize("gap", ["bins", "lognormal_mixture"])
def test_gaps_of_both_kinds_lie_among_those_of_fit(gap):
    X = simple(40)
    synthesizer = fit(X, gap=gap)
    assert np.isfinite(synthesizer.log_prob(X)).all()
    drawn = synthesizer.sample(60, random_state=0)["events"].array
    steps = [np.diff(history.time) for history in drawn]
    told = np.concatenate([step[step > 0] for step in steps])
    real = np.concatenate([np.diff(history.time) for history in X["events"]])
    # Rows are stretched to the time that they have said.
    assert told.min() >= real[real > 0].min()
    assert told.max() <= MOST_STRETCH * real.max()
    assert set(told % 1) == {0.0}  # full hours


# ---- numbers that come again -------------------------------------------------------------------


def held(n: int = 60) -> pd.DataFrame:
    """A setting that is changed rarely, and a measurement that never comes twice."""
    rng = np.random.default_rng(0)
    subjects = []
    for _ in range(n):
        setting, events = rng.normal(), []
        for t in range(12):
            setting = round(rng.normal(), 3) if rng.random() < 0.1 else setting
            events += [(float(t), "setting", setting), (float(t), "measured", rng.normal())]
        subjects.append(events)
    return frame_of(*subjects)


def test_only_codes_whose_numbers_come_again_have_a_symbol_for_it():
    grammar = fit(held()).grammar_
    codes = fit(held()).form_.codes[grammar.kept].tolist()
    repeats = [
        REPEAT in grammar.kind[grammar.offsets[code] : grammar.offsets[code + 1]]
        for code in range(grammar.n_codes)
    ]
    assert dict(zip(codes, repeats, strict=True)) == {"setting": True, "measured": False}


def test_numbers_come_again_as_often_as_in_the_data():
    X = held()
    drawn = fit(X, max_epochs=20).sample(60, random_state=0)

    def share(frame: pd.DataFrame, code: str) -> float:
        told = [h.value[np.array(h.code) == code] for h in frame["events"]]
        return float(np.mean(np.concatenate([np.diff(values) == 0 for values in told])))

    assert share(drawn, "setting") == pytest.approx(share(X, "setting"), abs=0.15)
    assert share(drawn, "measured") < 0.02


def test_nothing_is_repeated_where_there_was_no_number():
    X = held()
    synthesizer = fit(X)
    first = [history.value[0] for history in synthesizer.sample(200, random_state=0)["events"]]
    assert np.isfinite(first).all()
    assert np.isfinite(synthesizer.log_prob(X)).all()


def test_a_text_beside_a_number_is_kept_with_it():
    X = simple(40, value=lambda rng, code: str(rng.choice(["low", "high"])))
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=len(X["events"].array.time)).astype(np.float32)
    numbers[rng.random(len(numbers)) < 0.3] = np.nan
    X["events"] = X["events"].array._replace(value=numbers)
    synthesizer = fit(X)
    assert BOTH in synthesizer.grammar_.kind
    drawn = synthesizer.sample(60, random_state=0)["events"].array
    assert (drawn.text >= 0).all()
    assert 0.05 < np.isnan(drawn.value).mean() < 0.95
    assert np.isfinite(synthesizer.log_prob(X)).all()


# ---- several threads ---------------------------------------------------------------------------


def test_the_number_of_threads_changes_nothing(plain, monkeypatch):
    monkeypatch.setattr("tawt_sklearn.synthesis.cohorts.AT_ONCE", 8)
    n_threads, told = torch.get_num_threads(), []
    try:
        for n in (1, 3):
            torch.set_num_threads(n)
            told.append(plain.sample(30, random_state=0))
            assert torch.get_num_threads() == n
    finally:
        torch.set_num_threads(n_threads)
    pd.testing.assert_frame_equal(*told)


def test_an_error_in_a_thread_comes_out(plain, monkeypatch):
    monkeypatch.setattr("tawt_sklearn.synthesis.cohorts.AT_ONCE", 8)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr("tawt_sklearn.synthesis.sampling.Writer.write", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        plain.sample(30)
