"""Every estimator held to the contract, one class for each and each form of its input."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import Pipeline

from tawt_sklearn import (
    EventSummarizer,
    ImageEncoder,
    MissingMaskEncoder,
    SequenceSynthesizer,
    TimeAwareClassifier,
    TimeAwareEncoder,
    TimeAwareRegressor,
    TimeEmbedder,
    TripletSequencer,
    as_events,
)
from tawt_sklearn.datasets import make_icu_stays
from tawt_sklearn.exceptions import DataError

from .answers import answers, assert_same, fit_and_answer
from .event_suite import EventFrameContract, EventModelContract, EventTransformerContract
from .suite import (
    QUICK,
    QUICK_ENCODER,
    QUICK_SYNTHESIZER,
    EstimatorContract,
    SupervisedContract,
)
from .synthesizer_suite import SynthesizerContract


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


class TestSynthesizer(SynthesizerContract, EventFrameContract):
    def make(self):
        return SequenceSynthesizer(**QUICK_SYNTHESIZER)

    def test_static_columns_in_single_precision(self, X, fitted, expected):
        coarse = fitted.transform(X.assign(age=X["age"].astype("float32")))
        np.testing.assert_allclose(coarse, expected["transform"], 1e-4, 1e-5)


class TestSynthesizerOfLabels(TestSynthesizer):
    """It writes labels, too, and needs them to say how likely a row is."""

    def data(self):
        X, _ = super().data()
        return X, make_icu_stays(len(X), random_state=0)[1]

    def test_labels_must_have_the_index_of_the_rows(self, X, y, fitted):
        for wrong in (y.iloc[::-1], y.set_axis(range(100_000, 100_000 + len(y)))):
            with pytest.raises(DataError, match="the index of y"):
                self.make().fit(X, wrong)
            with pytest.raises(DataError, match="the index of y"):
                fitted.score(X, wrong)

    def test_labels_in_any_form(self, X, y, expected):
        for form in (list(y), y.to_numpy(), y, y.to_numpy()[:, np.newaxis], y.to_frame()):
            assert_same(fit_and_answer(self.make(), X, form), expected)

    def test_labels_that_cannot_be(self, X, y, fitted):
        holed = y.astype(float).where(np.arange(len(y)) != 3)
        for wrong in (y.iloc[:-1].to_numpy(), holed, 1, np.zeros((len(y), 1, 1))):
            with pytest.raises(DataError, match=r"Expected .*label|Expected y of shape"):
                self.make().fit(X, wrong)
            with pytest.raises(DataError, match=r"Expected .*label|Expected y of shape"):
                fitted.log_prob(X, wrong)

    def test_the_labels_of_a_row_do_not_change_its_latent(self, X, y, fitted, expected):
        assert_same(answers(fitted, X), expected)
        with pytest.raises(DataError, match="Expected labels where there were some in fit"):
            fitted.score(X)


class TestSynthesizerOfTokens(TestSynthesizer):
    """The sequencer and the synthesizer as two steps."""

    def make(self):
        return Pipeline(
            [
                ("sequence", TripletSequencer()),
                ("model", SequenceSynthesizer(**QUICK_SYNTHESIZER)),
            ]
        )

    # A Pipeline fits its steps one after the other, and keeps those that worked.
    test_a_failed_fit_leaves_nothing_behind = None
    test_a_failed_fit_leaves_the_earlier_one_as_it_was = None


class TestSynthesizerOfAnEncoder(TestSynthesizer):
    """From what was pretrained once for all of these tests."""

    def make(self):
        return SequenceSynthesizer(**QUICK_SYNTHESIZER, pretrained=encoder_of_histories())

    # The encoder brings the columns, codes and clock that it was pretrained with.
    test_histories_under_another_name = None
    test_only_histories = None


@cache
def encoder_of_histories() -> TimeAwareEncoder:
    return TimeAwareEncoder(**QUICK_ENCODER).fit(make_icu_stays(36, random_state=0)[0])


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


class BesideImages(EstimatorContract):
    """Histories with images beside them: one, several with times, or none."""

    def data(self) -> tuple[pd.DataFrame, pd.Series | None]:
        X, died = make_icu_stays(36, random_state=0)
        rng = np.random.default_rng(0)
        films = rng.integers(256, size=(36, 2, 8, 8), dtype=np.uint8)
        cells = [
            [None, one, [(3.0, one), (20.0, two)]][k % 3] for k, (one, two) in enumerate(films)
        ]
        X["xray"] = pd.Series(cells, index=X.index, dtype=object)
        if self.kind == "transformer":
            return X, None
        return X, died if self.kind == "classifier" else X["age"].fillna(50) / 10 + died

    def unusable(self, X: pd.DataFrame) -> pd.DataFrame:
        return X.assign(xray=None)


class TestClassifierBesideImages(BesideImages, SupervisedContract):
    kind = "classifier"

    def make(self):
        return TimeAwareClassifier(modalities={"xray": ImageEncoder()}, fusion="gated", **QUICK)

    def test_images_missing_in_some_rows(self, X, fitted):
        """As test_answers_have_the_shapes_of_scikit_learn, where there is none at all."""
        for answer in answers(fitted, self.unusable(X)).values():
            assert len(answer) == len(X)


class TestRegressorBesideImages(BesideImages, SupervisedContract):
    kind = "regressor"

    def make(self):
        return TimeAwareRegressor(modalities={"xray": ImageEncoder()}, fusion="attention", **QUICK)


class TestEncoderBesideImages(BesideImages):
    kind = "transformer"

    def make(self):
        objective = {"masked": 1.0, "cross_modal": 0.5}
        modalities = {"xray": ImageEncoder(augment=True)}
        return TimeAwareEncoder(modalities=modalities, objective=objective, **QUICK_ENCODER)

    def test_labels_do_not_matter(self, X, expected):
        assert_same(fit_and_answer(self.make(), X, np.arange(len(X)) % 2), expected)


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


def categories() -> np.ndarray:
    """The panel with a third channel of codes 0, 1 and 2."""
    values = panel()
    values[:, 2] = np.clip(np.round(values[:, 2]) + 1, 0, 2)
    return values


class TestPanelClassifierOfCategories(PanelContract):
    """With a categorical channel, and temporal patches of two granularities."""

    kind = "classifier"

    def make(self):
        return TimeAwareClassifier(**QUICK, categorical_features=[2], patch_length=[2, 6])

    def data(self):
        _, y = super().data()
        return categories(), y

    def test_fractions_among_the_categories(self, X, y, fitted):
        with pytest.raises(ValueError, match="whole numbers in 'channel_2'"):
            self.make().fit(X + 0.5, y)
        with pytest.raises(ValueError, match="whole numbers in 'channel_2'"):
            fitted.predict(X + 0.5)


class StepContract(PanelContract):
    """Labels and answers at each step; a fifth of the steps has no label."""

    def data(self):
        X = panel()
        y = np.nancumsum(X[:, 0], axis=1)
        unknown = np.random.default_rng(1).random(y.shape) < 0.2
        if self.kind == "classifier":
            return X, np.where(unknown, -1, y > 0)
        return X, np.where(unknown, np.nan, y)

    def test_labels_in_any_form(self, X, y, expected):
        for form in (list(y), np.asarray(y), y.tolist(), pd.DataFrame(y)):
            assert_same(fit_and_answer(self.make(), X, form), expected)

    def test_missing_labels(self, X, y, expected):
        """They are what a step without label has; some must be there."""
        holed = y.astype(float)
        holed[y == -1] = np.nan
        for name, answer in fit_and_answer(self.make(), X, holed).items():
            np.testing.assert_array_equal(answer, expected[name], err_msg=name)
        with pytest.raises(ValueError, match="a label at one step at least"):
            self.make().fit(X, np.full(y.shape, np.nan))

    def test_there_is_an_answer_for_each_step(self, expected, X, y):
        for name, answer in expected.items():
            assert answer.shape[:2] == y.shape == (len(X), X.shape[2]), name

    def test_answers_have_the_shapes_of_scikit_learn(self, fitted, X, y, expected):
        """But for the axis of time, which comes second."""
        assert isinstance(expected["predict"], np.ndarray)
        assert expected["predict"].shape == y.shape
        assert all(np.isfinite(answer).all() for answer in expected.values())
        if self.kind == "regressor":
            assert expected["predict"].dtype == np.float64
            assert not hasattr(fitted, "classes_")
            return
        np.testing.assert_array_equal(fitted.classes_, [0, 1])
        p = expected["predict_proba"]
        assert p.shape == (*y.shape, 2) and expected["decision_function"].shape == y.shape
        np.testing.assert_allclose(p.sum(axis=2), 1)
        np.testing.assert_allclose(np.log(p), expected["predict_log_proba"], atol=1e-12)
        np.testing.assert_array_equal(p.argmax(axis=2), expected["predict"])


class TestStepClassifier(StepContract):
    kind = "classifier"

    def make(self):
        return TimeAwareClassifier(**QUICK)


class TestStepRegressor(StepContract):
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


class TestSeriesEncoder(TestPanelEncoder):
    """Of numbers (n_cases, n_timepoints)."""

    def data(self):
        return panel()[:, 0], None

    def test_infinite_values(self, X, fitted):
        X = X.copy()
        X[3, 0] = np.inf
        with pytest.raises(ValueError, match="infinit"):
            fitted.transform(X)


class TestPanelEncoderOfCategories(TestPanelEncoder):
    """With a categorical channel, and temporal patches of two granularities."""

    def make(self):
        return TimeAwareEncoder(**QUICK_ENCODER, categorical_features=[2], patch_length=[2, 6])

    def data(self):
        return categories(), None


class TestPanelSynthesizer(SynthesizerContract, PanelTransformerContract):
    def make(self):
        return SequenceSynthesizer(**QUICK_SYNTHESIZER)

    def test_infinite_values(self, X, fitted):
        X = X.copy()
        X.flat[0] = np.inf
        for ask in (fitted.transform, fitted.score, fitted.reconstruct):
            with pytest.raises(ValueError, match="infinit"):
                ask(X)

    def test_lists_of_series(self, X, expected):
        assert_same(fit_and_answer(self.make(), X.tolist(), None), expected)

    def test_another_number_of_channels(self, X, fitted):
        for ask in (fitted.transform, fitted.score, fitted.reconstruct):
            with pytest.raises(ValueError, match="features"):
                ask(X[:, :2])

    def test_histories_in_place_of_numbers(self, X, fitted):
        with pytest.raises(ValueError, match="feature|as in fit"):
            fitted.transform(as_events(X))


class TestSeriesSynthesizer(TestPanelSynthesizer):
    """Of numbers (n_cases, n_timepoints)."""

    def data(self):
        return panel()[:, 0], None


class TestPanelMissingMaskEncoder(PanelTransformerContract):
    def make(self):
        return MissingMaskEncoder(time_since_observed=True)


class TestPanelTimeEmbedder(PanelTransformerContract):
    def make(self):
        return TimeEmbedder(method="time2vec", random_state=0)

    def unusable(self, X):
        return X[..., np.newaxis]  # it looks at the steps, not at what was measured
