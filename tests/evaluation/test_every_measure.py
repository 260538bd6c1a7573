"""What holds for all measures that compare a real frame with a synthetic one."""

from __future__ import annotations

import ast
import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tawt_sklearn import TripletSequencer, evaluation, nest_events
from tawt_sklearn.evaluation import (
    autocorrelation_fidelity,
    co_measurement,
    correlation_fidelity,
    discriminative_score,
    independent_marginals,
    interval_fidelity,
    marginal_fidelity,
    missingness_fidelity,
    subject_bootstrap,
    subject_features,
    transition_fidelity,
)
from tawt_sklearn.exceptions import DataError, NotNestedError

from .frames import events_of, frame_of, global_random_state, random_frame, shuffled_within_times

FIDELITY = (
    autocorrelation_fidelity,
    correlation_fidelity,
    interval_fidelity,
    marginal_fidelity,
    missingness_fidelity,
    transition_fidelity,
)


@pytest.mark.parametrize("measure", FIDELITY)
def test_identical_data_are_at_no_distance(measure, real):
    assert measure(real, real, n_bootstrap=0).value == pytest.approx(0.0, abs=1e-12)
    same = measure(real, real, random_state=0, n_bootstrap=30)
    assert same.low == 0.0 and 0.0 < same.high < 0.5


@pytest.mark.parametrize("measure", FIDELITY)
def test_the_way_of_writing_down_does_not_matter(measure, real, synthetic):
    # Repeats of a code at one time keep their order, which is all that may matter.
    real, synthetic = (_without_repeats(X) for X in (real, synthetic))
    first = measure(real, synthetic, n_bootstrap=0)
    again = measure(shuffled_within_times(real), shuffled_within_times(synthetic, 1), n_bootstrap=0)
    assert first.value == pytest.approx(again.value, abs=1e-9)


def _without_repeats(X: pd.DataFrame) -> pd.DataFrame:
    long = X["events"].events.to_long().drop_duplicates(["subject_id", "time", "code"])
    return nest_events(long, static=X.drop(columns="events"))


@pytest.mark.parametrize("measure", FIDELITY)
def test_the_same_seed_gives_the_same_interval(measure, real, synthetic):
    state = global_random_state()
    first, second = (measure(real, synthetic, random_state=3, n_bootstrap=30) for _ in range(2))
    assert (first.low, first.high) == (second.low, second.high)
    measure(real, synthetic, n_bootstrap=2)
    assert global_random_state() == state


@pytest.mark.parametrize("measure", FIDELITY)
def test_panels(measure):
    rng = np.random.default_rng(0)
    base = rng.normal(size=(40, 1, 12)).cumsum(axis=2)
    panel = base + rng.normal(size=(40, 3, 12))
    panel[rng.random(panel.shape) < 0.2] = np.nan
    fair = measure(panel[:20], panel[20:], random_state=0, n_bootstrap=5)
    assert 0 <= fair.value < 0.35


@pytest.mark.parametrize("measure", FIDELITY)
def test_frames_without_any_event(measure):
    nothing = frame_of([(0, "hr", 1)], [], []).iloc[1:]
    some = frame_of([(0, "hr", 1), (1, "hr", 2)], [(0, "hr", 1)])
    with np.errstate(all="raise"):
        for pair in ((nothing, nothing), (some, nothing), (nothing, some)):
            value = measure(*pair, n_bootstrap=3).value
            assert np.isnan(value) or value >= 0


@pytest.mark.parametrize("measure", FIDELITY)
def test_missing_histories_are_empty_ones(measure, real, synthetic):
    empty = real["events"].events.lengths == 0
    assert empty.any()
    missing = real.copy()
    missing.loc[empty, "events"] = pd.NA
    first, second = (measure(X, synthetic, n_bootstrap=0).value for X in (real, missing))
    assert first == second


@pytest.mark.parametrize("measure", [*FIDELITY, discriminative_score])
def test_what_cannot_be_compared(measure, real, synthetic):
    with pytest.raises(DataError, match=r"static columns of real in synthetic.*without \['age'\]"):
        measure(real, synthetic.drop(columns="age"))
    with pytest.raises(DataError, match=r"Got a frame with \['more'\] besides"):
        measure(real, synthetic.assign(more=1))
    with pytest.raises(DataError, match="'age' to be numeric in synthetic, as in real. Got categ"):
        measure(real, synthetic.assign(age="old"))
    with pytest.raises(NotNestedError):
        measure(real["events"].events.to_long(), synthetic)
    with pytest.raises(DataError, match="one row per subject in synthetic. Got a frame without"):
        measure(real, synthetic.iloc[:0])
    days = synthetic.assign(events=synthetic["events"].array._replace(time_unit="D"))
    with pytest.raises(DataError, match="Expected times of synthetic in numbers in units of 'h'"):
        measure(real, days)
    tokens = TripletSequencer().fit_transform(synthetic)
    with pytest.raises(DataError, match="TripletSequencer.inverse_transform"):
        measure(real, tokens)


def test_codes_of_another_type_cannot_be_compared():
    table = pd.DataFrame({"subject_id": [1, 1], "time": [0.0, 1.0], "code": ["a", "b"], "value": 1})
    numbered = table.assign(code=[1, 2])
    with pytest.raises(DataError, match="codes of synthetic that are strings.*Got integers"):
        marginal_fidelity(nest_events(table), nest_events(numbered))


def test_a_co_measurement_is_given_a_time_or_a_code(real):
    with pytest.raises(DataError, match="Expected given"):
        co_measurement(real, given="subject")
    with pytest.raises(DataError, match="Expected max_codes"):
        co_measurement(real, max_codes=0)


# ---- reference generators -----------------------------------------------------------------------


def test_a_bootstrap_is_of_whole_subjects(real):
    copies = subject_bootstrap(real, 100, random_state=0)
    assert len(copies) == 100
    assert list(copies.columns) == list(real.columns)
    known = [*map(repr, events_of(real))]
    assert all(repr(events) in known for events in events_of(copies))
    pd.testing.assert_frame_equal(copies, subject_bootstrap(real, 100, random_state=0))


def test_independent_marginals_have_the_form_of_the_data(real):
    made = independent_marginals(real, 500, random_state=0)
    assert list(made.dtypes) == list(real.dtypes)
    assert set(made["events"].events.lengths) <= set(real["events"].events.lengths)
    pairs = {(e[1], e[3]) for events in events_of(made) for e in events}
    assert pairs <= {(e[1], e[3]) for events in events_of(real) for e in events}
    assert marginal_fidelity(real, made, n_bootstrap=0).value < 0.1
    assert interval_fidelity(real, made, n_bootstrap=0).value < 0.1
    pd.testing.assert_frame_equal(made, independent_marginals(real, 500, random_state=0))
    assert len(independent_marginals(real)) == len(real)


def test_independent_marginals_of_datetimes_panels_and_nothing():
    table = pd.DataFrame(
        {
            "subject_id": [1, 1, 2],
            "time": pd.to_datetime(["2024-01-01 08:00", "2024-01-01 09:00", "2024-03-01 10:00"]),
            "code": "hr",
            "value": [1.0, 2.0, 3.0],
        }
    )
    X = nest_events(table)
    made = independent_marginals(X, 20, random_state=0)
    assert made["events"].dtype == X["events"].dtype
    gaps = {b[0] - a[0] for ev in events_of(made) for a, b in itertools.pairwise(ev)}
    assert gaps == {1.0}
    assert len(independent_marginals(np.zeros((3, 2, 4)), 5, 0)) == 5
    empty = frame_of([(0, "hr", 1)], [], []).iloc[1:]
    assert independent_marginals(empty, 4, 0)["events"].events.lengths.tolist() == [0] * 4


@pytest.mark.parametrize("reference", [independent_marginals, subject_bootstrap])
def test_a_number_of_subjects_is_needed(reference, real):
    with pytest.raises(DataError, match="Expected n to be a number of subjects above 0"):
        reference(real, 0)


# ---- the package --------------------------------------------------------------------------------


def test_all_public_names_exist():
    assert evaluation.__all__ == sorted(evaluation.__all__)
    assert all(hasattr(evaluation, name) for name in evaluation.__all__)


def test_importing_needs_no_torch():
    code = "import sys, tawt_sklearn.evaluation; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_it_stands_on_events_and_tokens_only():
    allowed = {"events", "tokens", "evaluation", "exceptions"}
    for file in Path(evaluation.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("tawt_sklearn."):
                assert node.module.split(".")[1] in allowed, file


def test_a_large_cohort_with_many_codes_has_a_bounded_table():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "subject_id": rng.integers(50, size=20_000),
            "time": rng.integers(100, size=20_000) * 1.0,
            "code": rng.integers(3000, size=20_000),
            "value": rng.normal(size=20_000),
        }
    )
    assert subject_features(nest_events(table)).shape == (50, 8 + 200 * 8)
    assert random_frame(0, 3).shape == (3, 3)
