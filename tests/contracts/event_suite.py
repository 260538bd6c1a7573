"""What estimators of event histories owe their users besides: a test class to inherit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from tawt_sklearn import nest_events
from tawt_sklearn.datasets import make_icu_stays
from tawt_sklearn.exceptions import DataError, DataWarning, NotNestedError

from .answers import answers, assert_same, fit_and_answer, method_names
from .suite import TOLERANCE, EstimatorContract, SupervisedContract

N_ROWS = 36


class EventFrameContract(EstimatorContract):
    """Tests with frames of static columns and one column of histories."""

    def data(self) -> tuple[pd.DataFrame, pd.Series | None]:
        X, died = make_icu_stays(N_ROWS, random_state=0)
        if self.kind == "transformer":
            return X, None
        return X, died if self.kind == "classifier" else (X["age"].fillna(50) / 10 + died)

    def unusable(self, X: pd.DataFrame) -> pd.DataFrame:
        return without_events(X)

    # ---- the frame ---------------------------------------------------------------------------

    def test_the_index_does_not_matter(self, X, y, fitted, expected):
        names, repeated = [f"s{k}" for k in range(len(X))], np.zeros(len(X), int)
        for index in (range(len(X)), names, repeated):
            assert_same(answers(fitted, X.set_axis(index)), expected)
        labels = None if y is None else y.set_axis(repeated)
        assert_same(fit_and_answer(self.make(), X.set_axis(repeated), labels), expected)

    def test_several_rows_of_a_subject(self, X, fitted, expected):
        twice = pd.concat([X.iloc[:4], X.iloc[:4]])
        assert not twice.index.is_unique
        for name, answer in answers(fitted, twice).items():
            top, bottom = (
                (answer.iloc[rows] if hasattr(answer, "iloc") else answer[rows])
                for rows in (slice(4), slice(4, 8))
            )
            assert_same({name: top}, {name: bottom}, TOLERANCE)

    def test_the_columns_are_known(self, X, fitted):
        assert fitted.n_features_in_ == 4
        assert fitted.feature_names_in_.tolist() == list(X) == ["age", "sex", "unit", "events"]

    @pytest.mark.parametrize(
        "change",
        [
            lambda X: X.drop(columns="age"),
            lambda X: X.rename(columns={"age": "years"}),
            lambda X: X[["sex", "age", "unit", "events"]],
            lambda X: X.assign(more=1.0),
        ],
        ids=["missing", "renamed", "reordered", "extra"],
    )
    def test_other_columns_than_in_fit(self, X, fitted, change):
        for name in method_names(fitted):
            with pytest.raises(ValueError, match="feature names should match"):
                getattr(fitted, name)(change(X))

    def test_histories_under_another_name(self, X, y, expected):
        other = X.rename(columns={"events": "history"})
        got = fit_and_answer(self.make(), other, y)
        back = {
            name: answer.rename(columns={"history": "events"})
            if isinstance(answer, pd.DataFrame)
            else answer
            for name, answer in got.items()
        }
        assert_same(back, expected)

    def test_columns_of_one_name(self, X, y):
        with pytest.raises(DataError, match="different names"):
            self.make().fit(X.set_axis(["age", "age", "unit", "events"], axis=1), y)

    def test_only_histories(self, X, y):
        alone = X[["events"]]
        for answer in fit_and_answer(self.make(), alone, y).values():
            assert len(answer) == len(X)

    def test_codes_of_other_rows_do_not_matter(self, X, y):
        """A part of a frame knows the codes of the whole; they must not leak into ``fit``."""
        part, labels = X.iloc[:20], None if y is None else y.iloc[:20]
        events = nest_events(part["events"].events.to_long(), until=48.0, static=X[[]].iloc[:20])
        apart = part.assign(events=events["events"])
        assert len(apart["events"].events.codes) <= len(part["events"].events.codes)
        assert_same(
            fit_and_answer(self.make(), apart, labels), fit_and_answer(self.make(), part, labels)
        )

    # ---- histories ---------------------------------------------------------------------------

    def test_a_code_not_seen_in_fit(self, X, fitted):
        for name in method_names(fitted):
            with pytest.warns(DataWarning, match="unknown.*never seen") as caught:
                answer = getattr(fitted, name)(with_new_code(X))
            assert len(caught) == 1
            assert len(answer) == len(X) and numbers_are_finite(answer)

    def test_an_empty_history(self, X, y, fitted, expected):
        blank = X.assign(events=X["events"].where(np.arange(len(X)) != 4, empty(X).iloc[4]))
        assert blank["events"].events.lengths[4] == 0
        others = np.delete(np.arange(len(X)), 4)
        for name, answer in answers(fitted, blank).items():
            assert numbers_are_finite(answer)
            one, other = (
                (table.iloc[others] if hasattr(table, "iloc") else table[others])
                for table in (answer, expected[name])
            )
            assert_same({name: one}, {name: other}, TOLERANCE)
        assert len(next(iter(fit_and_answer(self.make(), blank, y).values()))) == len(X)

    def test_nothing_but_empty_histories_at_prediction(self, X, fitted):
        for answer in answers(fitted, without_events(X)).values():
            assert len(answer) == len(X) and numbers_are_finite(answer)

    def test_nothing_but_empty_histories_in_fit(self, X, y):
        with pytest.raises(DataError, match=f"Got {N_ROWS} histories, all of them empty"):
            self.make().fit(without_events(X), y)

    def test_missing_histories(self, X, y, fitted):
        holed = X.assign(events=X["events"].where(np.arange(len(X)) != 4))
        with pytest.raises(DataError, match=r"a history in every row.*\bNA\b.*empty"):
            self.make().fit(holed, y)
        for name in method_names(fitted):
            with pytest.raises(DataError, match=r"a history in every row.*\bNA\b.*empty"):
                getattr(fitted, name)(holed)

    def test_a_long_table(self, X, y, fitted):
        long = X["events"].events.to_long()
        with pytest.raises(NotNestedError, match="nest_events"):
            self.make().fit(long, y)
        for name in method_names(fitted):
            with pytest.raises(NotNestedError, match="nest_events"):
                getattr(fitted, name)(long)

    def test_no_histories_at_all(self, X, y, fitted):
        with pytest.raises(DataError, match="events"):
            self.make().fit(X[["sex", "unit"]], y)
        with pytest.raises(ValueError):
            answers(fitted, X[["sex", "unit"]])

    def test_histories_on_another_clock(self, X, fitted):
        long = X["events"].events.to_long()
        days = X.assign(events=nest_events(long, static=X[[]], time_unit="D")["events"])
        for name in method_names(fitted):
            with pytest.raises(DataError, match="times as in fit.*'h'.*Got.*'D'"):
                getattr(fitted, name)(days)


class EventTransformerContract(EventFrameContract):
    """Tables out."""

    kind = "transformer"

    def test_tables_keep_the_index_and_have_the_names_promised(self, X, fitted):
        for frame in (X, X.iloc[::-1], X.set_axis([f"s{k}" for k in range(len(X))])):
            table = fitted.transform(frame)
            assert table.index.equals(frame.index)
            assert fitted.get_feature_names_out().tolist() == list(table)

    def test_set_output(self, X, expected):
        framed = self.make().set_output(transform="pandas").fit(X)
        assert isinstance(framed.transform(X), pd.DataFrame)
        assert_same(answers(framed, X), expected)
        assert_same({"transform": framed.fit_transform(X)}, expected)

    def test_static_columns_in_single_precision(self, X, fitted, expected):
        coarse = fitted.transform(X.assign(age=X["age"].astype("float32")))
        np.testing.assert_allclose(coarse["age"], expected["transform"]["age"], 1e-6)

    def test_labels_do_not_matter(self, X, expected):
        assert_same(fit_and_answer(self.make(), X, np.arange(len(X)) % 2), expected)

    def test_the_order_of_static_columns_does_not_matter(self, X, expected):
        other = X[["events", "unit", "age", "sex"]]
        got = self.make().fit_transform(other)
        names = expected["transform"].columns
        assert set(got) == set(names)
        assert_same({"transform": got[names]}, expected)


class EventModelContract(EventFrameContract, SupervisedContract):
    """Labels in, predictions out."""

    def test_labels_must_have_the_index_of_the_rows(self, X, y):
        with pytest.raises(DataError, match="same labels in another order"):
            self.make().fit(X, y.iloc[::-1])
        with pytest.raises(DataError, match="rows of X have no y"):
            self.make().fit(X, y.set_axis(range(100_000, 100_000 + len(y))))

    def test_static_columns_in_single_precision(self, X, fitted, expected):
        for name, answer in answers(fitted, X.assign(age=X["age"].astype("float32"))).items():
            if answer.dtype.kind == "f":
                np.testing.assert_allclose(answer, expected[name], 1e-4, 1e-5, err_msg=name)


def empty(X: pd.DataFrame) -> pd.Series:
    """Histories of the same length in time, but without events."""
    return X["events"].events.until(-1.0)


def without_events(X: pd.DataFrame) -> pd.DataFrame:
    return X.assign(events=empty(X))


def with_new_code(X: pd.DataFrame) -> pd.DataFrame:
    """The same events, one of the codes under another name."""
    array: Any = X["events"].array
    codes = array.codes.where(array.codes != array.codes[0], "never seen")
    return X.assign(events=array._replace(codes=codes))


def numbers_are_finite(answer: Any) -> bool:
    """Whether what must be a number is one; statistics of nothing are NaN, never infinite."""
    if not isinstance(answer, pd.DataFrame):
        return np.isfinite(answer).all()
    numeric = answer.select_dtypes("number").to_numpy(float)
    return not np.isinf(numeric).any()
