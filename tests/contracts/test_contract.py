"""Every estimator held to the contract, one class for each and each form of its input."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from sklearn.pipeline import Pipeline

from tawt_sklearn import (
    EventSummarizer,
    MissingMaskEncoder,
    TimeAwareClassifier,
    TimeAwareEncoder,
    TimeAwareRegressor,
    TimeEmbedder,
    TripletSequencer,
)

from .answers import answers, assert_same, fit_and_answer
from .event_suite import EventFrameContract, EventModelContract, EventTransformerContract
from .suite import QUICK, QUICK_ENCODER, EstimatorContract, SupervisedContract


class TestTripletSequencer(EventTransformerContract):
    def make(self):
        return TripletSequencer()


class TestEventSummarizer(EventTransformerContract):
    def make(self):
        return EventSummarizer(statistics=["count", "mean", "last"], windows=[None, 24])


class TestEventTimeEmbedder(EventTransformerContract):
    def make(self):
        return TimeEmbedder(method="time2vec", random_state=0)

    # It adds to histories and keeps what they hold, missing ones and new codes included.
    test_missing_histories = None
    test_a_code_not_seen_in_fit = None
    # A frame without histories is a table of times.
    test_a_long_table = None
    test_no_histories_at_all = None


class TestEncoder(EventFrameContract):
    kind = "transformer"

    def make(self):
        return TimeAwareEncoder(**QUICK_ENCODER)

    def test_labels_do_not_matter(self, X, expected):
        assert_same(fit_and_answer(self.make(), X, np.arange(len(X)) % 2), expected)

    def test_static_columns_in_single_precision(self, X, fitted, expected):
        coarse = fitted.transform(X.assign(age=X["age"].astype("float32")))
        np.testing.assert_allclose(coarse, expected["transform"], 1e-4, 1e-5)


class TestEncoderOfTokens(TestEncoder):
    def make(self):
        return Pipeline(
            [("sequence", TripletSequencer()), ("model", TimeAwareEncoder(**QUICK_ENCODER))]
        )

    # A Pipeline fits its steps one after the other, and keeps those that worked.
    test_a_failed_fit_leaves_nothing_behind = None
    test_a_failed_fit_leaves_the_earlier_one_as_it_was = None


class TestClassifier(EventModelContract):
    kind = "classifier"

    def make(self):
        return TimeAwareClassifier(**QUICK)


class TestRegressor(EventModelContract):
    kind = "regressor"

    def make(self):
        return TimeAwareRegressor(**QUICK)


class TestClassifierOfTokens(EventModelContract):
    """The sequencer and the network as two steps, as a search over both has them."""

    kind = "classifier"

    def make(self):
        return Pipeline([("sequence", TripletSequencer()), ("model", TimeAwareClassifier(**QUICK))])

    # A Pipeline fits its steps one after the other, and keeps those that worked.
    test_a_failed_fit_leaves_nothing_behind = None
    test_a_failed_fit_leaves_the_earlier_one_as_it_was = None
    # Its sequencer learns from rows that the model is told to weigh with zero.
    test_whole_weights_are_repeated_rows = None


def panel() -> np.ndarray:
    """(n_cases, n_channels, n_timepoints) with values that were not measured."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(36, 3, 10))
    values[rng.random(values.shape) < 0.2] = np.nan
    return values


class PanelContract(SupervisedContract):
    def data(self) -> tuple[np.ndarray, np.ndarray]:
        X = panel()
        score = np.nanmean(X, axis=(1, 2))
        return X, score > np.median(score) if self.kind == "classifier" else score

    def unusable(self, X: np.ndarray) -> np.ndarray:
        return np.full_like(X, np.nan)

    def test_single_precision(self, X, fitted, expected):
        for name, answer in answers(fitted, X.astype(np.float32)).items():
            if answer.dtype.kind == "f":
                np.testing.assert_allclose(answer, expected[name], 1e-4, 1e-5, err_msg=name)

    def test_lists_of_series(self, X, y, expected):
        assert_same(fit_and_answer(self.make(), X.tolist(), y), expected)

    def test_another_number_of_channels(self, X, fitted):
        with pytest.raises(ValueError, match="channel|features"):
            fitted.predict(X[:, :2])

    def test_a_row_of_nothing_but_missing_values(self, X, fitted):
        X = X.copy()
        X[3] = np.nan
        assert np.isfinite(fitted.predict(X).astype(float)).all()

    def test_infinite_values(self, X, y, fitted):
        X = X.copy()
        X[3, 0, 0] = np.inf
        with pytest.raises(ValueError, match="infinit"):
            self.make().fit(X, y)
        with pytest.raises(ValueError, match="infinit"):
            fitted.predict(X)


class TestClassifierOfAnEncoder(PanelContract):
    """Fine-tuned from what was pretrained once for all of these tests."""

    kind = "classifier"

    def make(self):
        return TimeAwareClassifier(**QUICK, pretrained=encoder_of_panels())


class TestRegressorOfAnEncoder(PanelContract):
    kind = "regressor"

    def make(self):
        return TimeAwareRegressor(**QUICK, pretrained=encoder_of_panels())


@cache
def encoder_of_panels() -> TimeAwareEncoder:
    return TimeAwareEncoder(**QUICK_ENCODER).fit(panel())


class TestPanelClassifier(PanelContract):
    kind = "classifier"

    def make(self):
        return TimeAwareClassifier(**QUICK)


class TestPanelRegressor(PanelContract):
    kind = "regressor"

    def make(self):
        return TimeAwareRegressor(**QUICK)


class PanelTransformerContract(EstimatorContract):
    kind = "transformer"

    def data(self) -> tuple[np.ndarray, None]:
        return panel(), None

    def unusable(self, X: np.ndarray) -> np.ndarray:
        return np.full_like(X, np.inf)


class TestPanelEncoder(PanelTransformerContract):
    def make(self):
        return TimeAwareEncoder(**QUICK_ENCODER)

    def test_infinite_values(self, X, fitted):
        X = X.copy()
        X[3, 0, 0] = np.inf
        with pytest.raises(ValueError, match="infinit"):
            fitted.transform(X)


class TestPanelMissingMaskEncoder(PanelTransformerContract):
    def make(self):
        return MissingMaskEncoder(time_since_observed=True)


class TestPanelTimeEmbedder(PanelTransformerContract):
    def make(self):
        return TimeEmbedder(method="time2vec", random_state=0)

    def unusable(self, X):
        return X[..., np.newaxis]  # it looks at the steps, not at what was measured
