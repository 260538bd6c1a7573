"""What is written: its form, its range, what was asked for, and the random numbers behind it."""

from __future__ import annotations

import random

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import special
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

from tawt_sklearn import TripletSequencer
from tawt_sklearn.synthesis import SequenceSynthesizer, sampling

from .subjects import QUICK, events_of, frame_of, rich, simple


@pytest.fixture(scope="module")
def sample(fitted):
    return fitted.sample(80, random_state=0)


def fit(X, y=None, **parameters) -> SequenceSynthesizer:
    return SequenceSynthesizer(**{**QUICK, **parameters}).fit(X, y)


# ---- random numbers ----------------------------------------------------------------------------


def test_whole_numbers_in_proportion():
    total, weight = torch.tensor([0.0, 7.0, 10.0]), torch.tensor([[1, 2, 4], [0, 1, 1], [3, 0, 7]])
    told = sampling.shared_out(total.double(), weight.double())
    assert told.tolist() == [[0, 0, 0], [0, 4, 3], [3, 0, 7]]


def test_numbers_of_events_lie_between_what_was_said_where_they_can(fitted):
    decoder, trees = fitted.net_.module_.decoder, fitted.beginnings_
    writer = sampling.Writer(decoder, fitted.grammar_, trees, torch.Generator())
    C = len(fitted.grammar_.charted)
    random = np.random.default_rng(0)
    low = torch.from_numpy(random.integers(0, 6, (300, C))).double()
    high = low + torch.from_numpy(random.integers(0, 4, (300, C)))
    total = torch.from_numpy(random.integers(0, 60, 300)).double()
    count = writer._fitted(total, low, high)
    assert (count == count.floor()).all()
    torch.testing.assert_close(count.sum(1), total)
    possible = (low.sum(1) <= total) & (total <= high.sum(1))
    assert possible.any()
    assert ((low <= count) & (count <= high))[possible].all()
    assert (count >= low)[total > high.sum(1)].all()
    some = (low > 0).sum(1) <= total
    assert ((count > 0) | (low == 0))[some].all()
    few = ~some
    assert few.any()
    assert (count <= (low > 0))[few].all()


def test_numbers_are_fed_back_as_the_data_have_them():
    """Three in five are 0: their score is the middle of that, whatever was drawn of it."""
    values = np.where(np.arange(400) % 5 < 3, 0.0, np.random.default_rng(0).random(400).round(3))
    subjects = [[(float(k), "a", v) for k, v in enumerate(of)] for of in values.reshape(40, 10)]
    synthesizer = SequenceSynthesizer(**QUICK).fit(frame_of(*subjects))
    decoder, grammar = synthesizer.net_.module_.decoder, synthesizer.grammar_
    generator = torch.Generator().manual_seed(0)
    writer = sampling.Writer(decoder, grammar, synthesizer.beginnings_, generator)
    drawn = torch.randn(1000, generator=generator)
    settled = writer._settled(drawn, torch.zeros(1000, dtype=torch.int64))
    marginal = grammar.marginals[0]
    value = marginal.value(special.ndtr(drawn.double().numpy()))
    np.testing.assert_array_equal(value, marginal.value(special.ndtr(settled.double().numpy())))
    assert len(settled[torch.from_numpy(value == 0)].unique()) == 1
    held = synthesizer._data(frame_of(*subjects)).held["score"].numpy()
    assert np.isclose(settled.numpy()[:, None], np.unique(held), atol=1e-6).any(1).all()


def first_numbers(X: pd.DataFrame) -> list[dict[str, float]]:
    """Of each history the first number of each code that has one."""
    found = []
    for events in events_of(X):
        numbers = {}
        for _, code, number, text in events:
            if number is not None and text is None:
                numbers.setdefault(code, number)
        found.append(numbers)
    return found


def test_first_numbers_are_those_that_were_stated(fitted, X):
    """Levels that are numbers, too: code "score" has four."""
    written = first_numbers(fitted.reconstruct(X, random_state=0))
    compared = set()
    for real, new in zip(first_numbers(X), written, strict=True):
        for code in set(real) & set(new):
            assert new[code] == pytest.approx(real[code], abs=1e-4)
            compared.add(code)
    assert {"hr", "score", "culture"} <= compared


def test_the_same_random_state_gives_the_same_subjects(fitted):
    (X, y), (again, labels) = (fitted.sample(30, random_state=3) for _ in range(2))
    pd.testing.assert_frame_equal(X, again)
    np.testing.assert_array_equal(y, labels)


def test_another_random_state_gives_others(fitted):
    told = [fitted.sample(30, random_state=seed)[0]["events"] for seed in (3, 4)]
    assert not told[0].equals(told[1])


def test_a_generator_goes_on(fitted):
    rng = np.random.RandomState(0)
    told = [fitted.sample(30, random_state=rng)[0]["events"] for _ in range(2)]
    assert not told[0].equals(told[1])


def test_global_generators_are_left_alone(fitted):
    def states():
        return np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002

    before, python = states(), random.getstate()
    fitted.sample(3)
    fit(simple())
    assert states() == before
    assert random.getstate() == python


# ---- form --------------------------------------------------------------------------------------


def test_columns_are_those_of_fit(sample, X, y):
    drawn, labels = sample
    assert list(drawn.columns) == list(X.columns)
    assert drawn.dtypes.equals(X.dtypes)
    assert drawn.index.equals(pd.RangeIndex(80))
    assert (labels.shape, labels.dtype) == ((80,), y.dtype)


def test_values_lie_among_those_of_fit(sample, X, y):
    drawn, labels = sample
    for name in ("visits", "sex", "site", "count", "smoker"):
        assert set(drawn[name].dropna()) <= set(X[name].dropna())
    for name in ("age", "zip"):
        assert drawn[name].dropna().between(X[name].min(), X[name].max()).all()
    assert set(labels) <= set(y)
    told, expected = (frame["events"].events.to_long() for frame in (drawn, X))
    for code, group in told.groupby("code", observed=True):
        own = expected[expected["code"] == code]
        assert set(group["value"].dropna()) <= set(own["value"].dropna())


def test_events_come_in_order_and_within_their_windows(sample, X):
    array = sample[0]["events"].array
    assert array.dtype == X["events"].dtype
    assert len(array.time) > 0
    for row in range(len(array)):
        history = array[row]
        assert (np.diff(history.time) >= 0).all()
        assert len(history.time) == 0 or history.start <= history.time[0]
        if len(history.time) and not np.isnan(history.end):
            assert history.time[-1] <= history.end


def test_codes_repeat_at_one_time_only_where_they_did():
    X = frame_of(*[[(0, "b", k), (0, "a", -k), (1, "a", k / 8)] for k in range(60)])
    drawn = fit(X, min_subjects_per_code=1).sample(60)
    for events in events_of(drawn):
        pairs = [event[:2] for event in events]
        assert len(set(pairs)) == len(pairs)


def test_what_is_written_can_be_read_and_learned_from(fitted, sample):
    drawn, labels = sample
    assert np.isfinite(fitted.log_prob(drawn, labels)).all()
    assert fitted.transform(drawn).shape == (80, QUICK["d_latent"])
    assert fit(drawn, labels).n_iter_ == 1


def test_windows_that_are_unknown_stay_unknown():
    drawn = fit(simple()).sample(5)["events"].array
    assert np.isnan(drawn.start).all() and np.isnan(drawn.end).all()


def test_constant_windows_stay_constant():
    X = simple()
    n = len(X)
    X["events"] = X["events"].array._replace(start=np.full(n, -1.0), end=np.full(n, 24.0))
    drawn = fit(X).sample(20)["events"].array
    assert (set(drawn.start), set(drawn.end)) == ({-1.0}, {24.0})


def test_no_event_before_the_start_of_its_history():
    X = simple(200, most=4)
    array, rng = X["events"].array, np.random.default_rng(0)
    shift = np.repeat(rng.random(200), np.diff(array.offsets))
    array = array._replace(time=array.time + shift)
    start = np.array([h.time[0] if len(h.time) else 0.0 for h in array])
    drawn = fit(X.assign(events=array._replace(start=start))).sample(100)["events"].array
    assert all(h.start <= h.time[0] for h in drawn if len(h.time))


def test_a_tokenised_frame_comes_back_tokenised(plain_X):
    pipeline = make_pipeline(TripletSequencer(), SequenceSynthesizer(**QUICK)).fit(plain_X)
    drawn = pipeline[-1].sample(20)
    assert drawn["events"].dtype == pipeline[0].transform(plain_X)["events"].dtype
    raw = pipeline[0].inverse_transform(drawn)["events"].events.to_long()
    values = plain_X["events"].events.to_long()["value"].to_numpy()
    assert set(raw["code"]) <= {"a", "b"}
    told = raw["value"].dropna().to_numpy()
    assert np.abs(told[:, None] - values).min(1).max() < 1e-4


# ---- arrays ------------------------------------------------------------------------------------


def panel(n: int = 30) -> np.ndarray:
    rng = np.random.default_rng(0)
    array = rng.normal(size=(n, 3, 6)).round(2)
    array[:, 1] = rng.integers(0, 3, (n, 6))
    array[rng.random(array.shape) < 0.2] = np.nan
    return array


def test_a_panel_comes_back_as_one():
    X = panel()
    drawn = fit(X).sample(20)
    assert isinstance(drawn, np.ndarray)
    assert drawn.shape == (20, 3, 6)
    for channel in range(3):
        values = drawn[:, channel][~np.isnan(drawn[:, channel])]
        assert set(values.astype(np.float32)) <= set(X[:, channel].ravel().astype(np.float32))


def test_series_come_back_as_such():
    drawn = fit(panel()[:, 0]).sample(5)
    assert (type(drawn), drawn.shape) == (np.ndarray, (5, 6))


def test_a_panel_with_labels():
    X, y = fit(panel(), ["u", "v"] * 15).sample(y=["v", "u", "v"])
    assert X.shape == (3, 3, 6)
    assert y.tolist() == ["v", "u", "v"]


def test_a_list_of_arrays_comes_back_as_events():
    rng = np.random.default_rng(0)
    X = [rng.normal(size=(2, length)) for length in (3, 4, 5) * 8]
    drawn = fit(X).sample(4)
    assert isinstance(drawn, pd.DataFrame)
    assert set(drawn["events"].events.to_long()["code"]) <= {"channel_0", "channel_1"}


def test_an_array_of_histories_is_no_panel():
    X = simple()
    histories = np.empty(len(X), object)
    histories[:] = list(X["events"])
    assert len(fit(histories).sample(2)) == 2


# ---- few rows, few codes, constants ------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 3, 5])
def test_few_rows(n):
    assert len(fit(simple(n, most=60), min_subjects_per_code=1).sample(4)) == 4


def test_a_single_row():
    X = frame_of([(0.0, "a", 1.0), (1.0, "b", 2.0)])
    assert len(fit(X, min_subjects_per_code=1).sample(4)) == 4


@pytest.mark.parametrize("share", [0.5, 0.99])
def test_some_rows_are_left_to_learn_from(share):
    X = simple(2 if share > 0.9 else 1, most=60)
    X = frame_of(*[[(0.0, "a", 1.0), (1.0, "b", 2.0)]] * len(X))
    assert len(fit(X, min_subjects_per_code=1, validation_fraction=share).sample(4)) == 4


def test_a_single_code():
    drawn = fit(simple(codes=("a",), most=30)).sample(20)
    assert set(drawn["events"].events.to_long()["code"]) <= {"a"}


def test_codes_without_numbers():
    X = simple(value=lambda rng, code: None)
    assert fit(X).sample(20)["events"].events.to_long()["value"].isna().all()


def test_numbers_that_are_all_levels():
    X = simple(value=lambda rng, code: float(rng.integers(0, 2)))
    drawn = fit(X).sample(20)["events"].events.to_long()
    assert set(drawn["value"].dropna()) <= {0.0, 1.0}


def test_constant_columns_stay_constant():
    X = simple(static={"x": 7, "u": 0.5, "v": pd.Series(["w"] * 24, dtype="str")})
    drawn = fit(X).sample(6)
    assert drawn[["x", "u", "v"]].drop_duplicates().values.tolist() == [[7, 0.5, "w"]]


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
def test_rare_levels_of_a_column_that_has_no_missing_values(dtype):
    column = np.append(np.ones(20), np.zeros(4)).astype(dtype)
    drawn = fit(simple(static={"x": column}), [0, 1] * 12).sample(60)[0]["x"]
    assert drawn.dtype == dtype
    assert set(drawn) == {1}  # what too few have is not written, not even for want of another


def test_different_numbers_of_a_few_rows():
    X = simple(static={"age": np.random.default_rng(0).normal(size=24)})
    assert fit(X).sample(20)["age"].notna().all()


def test_gaps_too_small_to_tell():
    rng = np.random.default_rng(0)
    X = simple()
    time = np.sort(rng.random(len(X["events"].array.time)) * 1e-9)
    assert len(fit(X.assign(events=X["events"].array._replace(time=time))).sample(2)) == 2


# ---- what is asked for -------------------------------------------------------------------------


def test_one_label_for_all(fitted):
    assert fitted.sample(30, y=1)[1].tolist() == [1] * 30
    assert fitted.sample(30, y=[0] * 30)[1].tolist() == [0] * 30


@pytest.mark.parametrize("kind", [list, np.array, pd.Series])
def test_a_label_for_each(fitted, kind):
    X, y = fitted.sample(y=kind([0, 1, 1, 0]))
    assert (len(X), y.tolist()) == (4, [0, 1, 1, 0])


def test_several_labels():
    y = pd.DataFrame({"u": [0, 1] * 12, "v": list("ab") * 12})
    synthesizer = fit(simple(), y)
    assert synthesizer.sample(y=pd.DataFrame({"u": [1, 0], "v": ["a", "b"]}))[1].tolist() == [
        [1, "a"],
        [0, "b"],
    ]
    one_for_all = synthesizer.sample(3, y=np.array([1, "b"], object))[1]
    assert one_for_all.tolist() == [[1, "b"]] * 3


def test_numbers_as_labels_are_had_exactly():
    y = np.random.default_rng(0).normal(size=60)
    synthesizer = fit(simple(60), y)
    asked = [0.123456789, float(y.max()), -0.5]
    assert synthesizer.sample(y=asked)[1].tolist() == asked
    assert set(synthesizer.sample(50)[1]) <= set(y)


@pytest.mark.parametrize("n", [1, 5])
def test_static_columns_of_one_row_or_of_each(fitted, X, n):
    static = X.drop(columns="events").iloc[[40]] if n == 1 else X.drop(columns="events").iloc[9:14]
    drawn, _ = fitted.sample(5, static=static)
    expected = static.iloc[[0] * 5] if n == 1 else static
    expected = expected.reset_index(drop=True)
    for name in static.columns:
        known = expected[name].notna()
        pd.testing.assert_series_equal(drawn.loc[known, name], expected.loc[known, name])


def test_columns_that_are_not_asked_for_are_drawn(fitted, X):
    drawn, labels = fitted.sample(40, static=pd.DataFrame({"visits": [2]}), y=0)
    assert set(drawn["visits"]) == {2}
    assert set(labels) == {0}
    assert drawn["zip"].nunique() > 5
    assert drawn["zip"].dtype == X["zip"].dtype


def test_missing_values_that_are_asked_for_are_drawn(plain):
    static = pd.DataFrame({"arm": [2, None, 1], "dose": [None, 0.25, 0.5]})
    drawn = plain.sample(static=static)
    assert drawn["arm"].iloc[[0, 2]].tolist() == [2, 1]
    assert drawn["dose"].iloc[1:].tolist() == [0.25, 0.5]
    assert drawn.notna().all(axis=None)
    assert drawn["arm"].dtype == int


def test_missing_categories_that_are_asked_for_are_drawn():
    synthesizer = fit(simple(static={"x": pd.Categorical(["u", "v"] * 12)}))
    asked = pd.DataFrame({"x": pd.Categorical(["u"] + [None] * 20)})
    assert synthesizer.sample(static=asked)["x"].notna().all()


def test_no_static_rows(plain, plain_X):
    with pytest.raises(ValueError, match="static"):
        plain.sample(3, static=plain_X[["arm", "dose"]].iloc[:0])


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"n": 0}, "integer of 1 or more"),
        ({"n": -1}, "integer of 1 or more"),
        ({"n": 2.0}, "integer of 1 or more"),
        ({"n": True}, "integer of 1 or more"),
        ({"y": []}, "Got y of none"),
        ({"y": {"a": 1}}, "Got a dict"),
        ({"static": pd.DataFrame([[1, 1]], columns=["visits", "visits"])}, "'visits' twice"),
        ({"static": 5}, "to be a DataFrame. Got int"),
        ({"static": pd.DataFrame({"zip": [1001.5]})}, "whole numbers from .* Got .*1001.5"),
        ({"y": 7}, "were there in fit"),
        ({"y": [0, "sick"]}, "were there in fit"),
        ({"n": 3, "y": [0, 1]}, "3 of n and 2 of y"),
        ({"static": {"visits": [1]}}, "to be a DataFrame. Got dict"),
        ({"static": pd.DataFrame({"weight": [1]})}, "Got 'weight', too"),
        ({"static": pd.DataFrame({"visits": [99]})}, "'visits' that were there in fit. Got"),
        ({"n": 3, "static": pd.DataFrame({"visits": [1, 1]})}, "3 of n and 2 of static"),
        ({"y": [1] * 3, "static": pd.DataFrame({"visits": [1, 1]})}, "2 of static and 3 of y"),
        pytest.param({"static": pd.DataFrame({"age": ["old"]})}, "Expected"),
        pytest.param({"static": pd.DataFrame({"age": [np.inf]})}, "Expected"),
        ({"random_state": "seed"}, "cannot be used to seed"),
    ],
)
def test_what_cannot_be_asked_for(fitted, asked, error):
    with pytest.raises(ValueError, match=error):
        fitted.sample(**asked)


def test_a_whole_number_that_its_column_cannot_hold():
    X = simple(60, static={"x": np.arange(60).astype(np.uint8)})
    synthesizer = fit(X, min_subjects_per_code=1)
    assert synthesizer.sample(static=pd.DataFrame({"x": [7]}))["x"].tolist() == [7]
    for value in (300, -1):
        with pytest.raises(ValueError, match="from 0 to 255, as uint8 holds them"):
            synthesizer.sample(static=pd.DataFrame({"x": [value]}))


def test_labels_of_times_are_refused_as_labels():
    with pytest.raises(ValueError, match="Expected labels of numbers, categories or text"):
        fit(simple(20), pd.Series(pd.date_range("2020", periods=20)))


def test_missing_labels_that_are_asked_for_are_drawn_from_what_was_written():
    X = simple(60, codes=("a", "b"), most=4)
    y = np.array(["b" in set(history.code) for history in X["events"]])
    synthesizer = fit(X, np.where(y, "with", "without"), max_epochs=10, learning_rate=1e-2)
    asked = np.array([None, "with", "without"] * 100, object)
    drawn, labels = synthesizer.sample(y=asked, random_state=0)
    np.testing.assert_array_equal(labels[asked != None], asked[asked != None])  # noqa: E711
    found = np.array(["b" in set(history.code) for history in drawn["events"]])[::3]
    assert ((labels[::3] == "with") == found).mean() > 0.7


def test_windows_of_empty_histories_are_kept():
    subjects = [[(float(k % 3), "a", 1.0), (4.0, "a", 2.0)] for k in range(30)] + 10 * [[]]
    X = frame_of(*subjects)
    end = np.where(np.arange(40) < 30, 4.0, 48.0)
    X["events"] = X["events"].array._replace(start=np.zeros(40), end=end)
    drawn = fit(X).sample(200, random_state=0)["events"].array
    empty = np.diff(drawn.offsets) == 0
    assert empty.any()
    assert (drawn.end[empty] == 48.0).any()


def test_too_few_labels_for_a_row():
    synthesizer = fit(simple(), np.column_stack([[0, 1] * 12, [0, 1] * 12]))
    with pytest.raises(ValueError, match="Expected"):
        synthesizer.sample(2, y=1)


def test_labels_where_there_were_none(plain):
    with pytest.raises(ValueError, match="Expected labels in fit"):
        plain.sample(2, y=1)


def test_nothing_is_written_before_fit(X):
    for method in ("sample", "log_prob", "reconstruct", "score"):
        arguments = () if method == "sample" else (X,)
        with pytest.raises(NotFittedError):
            getattr(SequenceSynthesizer(), method)(*arguments)


def test_nothing_is_transformed_before_fit(X):
    with pytest.raises(NotFittedError):
        SequenceSynthesizer().transform(X)


def test_sampling_does_not_change_the_estimator(plain_X):
    synthesizer = fit(plain_X)
    before = set(vars(synthesizer))
    synthesizer.sample(2, static=plain_X[["arm"]].iloc[:2])
    assert set(vars(synthesizer)) == before


def test_what_is_asked_for_changes_what_is_drawn():
    """Those of arm 1 have only events of code b."""
    X = frame_of(
        *[[(float(k), "ab"[arm], j * k) for k in range(4)] for j, arm in enumerate((0, 1) * 40)],
        static={"arm": [0, 1] * 40},
    )
    synthesizer = fit(X, max_epochs=20, learning_rate=1e-2)
    for arm in (0, 1):
        drawn = synthesizer.sample(40, static=pd.DataFrame({"arm": [arm]}))
        codes = drawn["events"].events.to_long()["code"]
        assert (codes == "ab"[arm]).mean() > 0.8


def test_ends_are_unknown_for_some():
    X, y = rich(5, windows="some")
    drawn = fit(X, y, min_subjects_per_code=1).sample(80)[0]["events"].array
    assert 0 < np.isnan(drawn.end).sum() < 80
    assert not np.isnan(drawn.start).any()
