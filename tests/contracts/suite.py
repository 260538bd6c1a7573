"""What every estimator owes its users: a test class to inherit and a factory to name.

A subclass says ``make`` (an estimator that trains in a moment, not fitted) and ``kind``, see
``test_contract.py``; what its tests share is in ``conftest.py``.  :class:`EstimatorContract` holds
for any X with one row for each subject, :class:`~.event_suite.EventFrameContract` adds what
concerns frames of event histories.
"""

from __future__ import annotations

import pickle
import random
from abc import ABC, abstractmethod
from typing import Any, Literal

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from joblib import Parallel, delayed
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing, get_tags

from .answers import answers, assert_same, fit_and_answer, method_names

QUICK = {
    "d_model": 8,
    "n_heads": 2,
    "n_layers": 1,
    "n_windows": 4,
    "max_epochs": 2,
    "min_steps": 4,
    "n_ensemble": 1,
    "random_state": 0,
    "device": "cpu",
}
"""Parameters of networks that train in a moment."""

QUICK_ENCODER = {name: value for name, value in QUICK.items() if name != "n_ensemble"}

QUICK_SYNTHESIZER = {
    **{name: value for name, value in QUICK_ENCODER.items() if name != "min_steps"},
    "d_latent": 3,
    "batch_size": 16,
}

TOLERANCE = 1e-7
"""Between the answers for a row alone and among others, on a CPU."""


class EstimatorContract(ABC):
    """Tests that every estimator passes, whatever the form of its rows."""

    kind: Literal["transformer", "classifier", "regressor"]

    @abstractmethod
    def make(self) -> Any:
        """An estimator that is quick to train, with a fixed ``random_state`` if it has one."""

    @abstractmethod
    def data(self) -> tuple[Any, Any]:
        """Training rows and their labels (a Series or array; None for transformers)."""

    @abstractmethod
    def unusable(self, X: Any) -> Any:
        """Rows that nothing can be learned from."""

    # ---- parameters ------------------------------------------------------------------------

    def test_clone_has_the_parameters_and_not_the_fit(self, fitted, X):
        copy = clone(fitted)
        assert joblib.hash(parameters(copy)) == joblib.hash(parameters(self.make()))
        assert not fitted_attributes(copy)

    def test_parameters_round_trip(self):
        estimator, names = self.make(), self.make().get_params(deep=False)
        assert estimator.set_params(**names) is estimator
        assert estimator.get_params(deep=False) == names

    def test_a_parameter_that_does_not_exist(self):
        with pytest.raises(ValueError, match="Invalid parameter 'no_such_thing'"):
            self.make().set_params(no_such_thing=1)

    def test_a_new_estimator_holds_its_parameters_and_nothing_else(self):
        estimator = self.make()
        given = estimator.get_params(deep=False)
        assert vars(estimator).keys() == given.keys()
        assert all(vars(estimator)[name] is value for name, value in given.items())

    def test_parameters_may_be_numpy_scalars(self, X, y, expected):
        estimator = self.make()
        scalars = {
            name: np.int64(value) if isinstance(value, int) else np.float64(value)
            for name, value in estimator.get_params().items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        }
        assert_same(fit_and_answer(estimator.set_params(**scalars), X, y), expected)

    # ---- fit -------------------------------------------------------------------------------

    def test_fit_returns_the_estimator(self, X, y):
        estimator = self.make()
        assert estimator.fit(X, y) is estimator

    def test_fit_changes_no_parameter(self, fitted):
        assert joblib.hash(parameters(fitted)) == joblib.hash(parameters(self.make()))

    def test_nothing_changes_the_data(self, X, y):
        before = joblib.hash((X, y))
        fit_and_answer(self.make(), X, y)
        assert joblib.hash((X, y)) == before

    def test_a_second_fit_forgets_the_first(self, X, y, expected):
        some = np.arange(len(X))[::2]
        estimator = self.make().fit(_safe_indexing(X, some), pick(y, some))
        assert_same(fit_and_answer(estimator, X, y), expected)

    def test_the_same_seed_gives_the_same_result(self, X, y, expected):
        np.random.seed(7)  # noqa: NPY002  (the state of others neither matters nor changes)
        random.seed(7)
        torch.manual_seed(7)
        before = global_state()
        again = fit_and_answer(self.make(), X, y)
        assert global_state() == before
        assert_same(again, expected)

    def test_two_workers_give_the_result_of_one(self, X, y, expected):
        jobs = [delayed(fit_and_answer)(self.make(), X, y)] * 2
        for result in Parallel(n_jobs=2)(jobs):
            assert_same(result, expected)

    def test_fit_does_not_depend_on_the_order_of_the_rows(self, X, y, expected):
        order = np.random.default_rng(0).permutation(len(X))
        shuffled = self.make().fit(_safe_indexing(X, order), pick(y, order))
        assert_same(answers(shuffled, X), expected, 1e-6)

    def test_memory_mapped_rows(self, X, y, expected, tmp_path):
        joblib.dump(X, tmp_path / "X.joblib")
        mapped = joblib.load(tmp_path / "X.joblib", mmap_mode="r")
        assert_same(fit_and_answer(self.make(), mapped, y), expected)

    def test_a_failed_fit_leaves_nothing_behind(self, X, y):
        estimator = self.make()
        with pytest.raises(ValueError):
            estimator.fit(self.unusable(X), y)
        assert not fitted_attributes(estimator)
        self.refuses_to_answer(estimator, X)

    def test_a_failed_fit_leaves_the_earlier_one_as_it_was(self, X, y, expected):
        estimator = self.make().fit(X, y)
        with pytest.raises(ValueError):
            estimator.fit(self.unusable(X), y)
        assert_same(answers(estimator, X), expected)

    # ---- answers ---------------------------------------------------------------------------

    def refuses_to_answer(self, estimator: Any, X: Any) -> None:
        for name in method_names(estimator):
            with pytest.raises(NotFittedError, match="not fitted yet"):
                getattr(estimator, name)(X)

    def test_no_answer_before_fit(self, X):
        self.refuses_to_answer(self.make(), X)

    def test_the_answer_for_a_row_does_not_depend_on_its_place(self, fitted, X, expected):
        order = np.random.default_rng(0).permutation(len(X))
        shuffled = answers(fitted, _safe_indexing(X, order))
        assert_same(shuffled, {k: pick(v, order) for k, v in expected.items()}, TOLERANCE)

    def test_the_answer_for_a_row_does_not_depend_on_the_others(self, fitted, X, expected):
        for row in (0, 5, len(X) - 1):
            alone = answers(fitted, _safe_indexing(X, [row]))
            assert_same(alone, {k: pick(v, [row]) for k, v in expected.items()}, TOLERANCE)

    def test_there_are_as_many_answers_as_rows(self, expected, X):
        for name, answer in expected.items():
            assert answer.shape[0] == len(X), name

    @pytest.mark.parametrize("how", ["pickle", "joblib"])
    def test_a_stored_estimator_answers_the_same(self, fitted, X, expected, how, tmp_path):
        if how == "pickle":
            again = pickle.loads(pickle.dumps(fitted))
        else:
            joblib.dump(fitted, tmp_path / "estimator.joblib")
            again = joblib.load(tmp_path / "estimator.joblib")
        assert_same(answers(again, X), expected)
        assert joblib.hash(parameters(again)) == joblib.hash(parameters(fitted))

    def test_an_estimator_can_be_stored_before_fit(self, X, y, expected):
        again = pickle.loads(pickle.dumps(self.make()))
        assert_same(fit_and_answer(again, X, y), expected)

    # ---- description -----------------------------------------------------------------------

    def test_repr(self, fitted):
        for estimator in (self.make(), fitted):
            name = type(estimator).__name__
            assert repr(estimator).startswith(name) and name in estimator._repr_html_()

    def test_the_tags_say_what_it_is(self):
        estimator = self.make()
        assert is_classifier(estimator) == (self.kind == "classifier")
        assert is_regressor(estimator) == (self.kind == "regressor")
        tags = get_tags(estimator)
        assert tags.estimator_type == (None if self.kind == "transformer" else self.kind)
        first = estimator[0] if isinstance(estimator, Pipeline) else estimator
        assert get_tags(first).input_tags.allow_nan
        assert (tags.transformer_tags is not None) == (self.kind == "transformer")

    def test_the_number_of_features_is_known(self, fitted, X):
        assert fitted.n_features_in_ == X.shape[1]


def parameters(estimator: Any) -> dict[str, Any]:
    """All parameters, with class and parameters for those that are estimators themselves."""
    flat: dict[str, Any] = {"": type(estimator)}
    for name, value in estimator.get_params().items():
        if isinstance(value, list):  # the steps of a Pipeline, which are listed by name, too
            continue
        flat[name] = type(value) if hasattr(value, "get_params") else value
    return flat


def fitted_attributes(estimator: Any) -> list[str]:
    return [name for name in vars(estimator) if name.endswith("_") and not name.startswith("_")]


def pick(values: Any, rows: Any) -> Any:
    """Some rows of labels or of an answer; None stays None."""
    return None if values is None else _safe_indexing(values, rows)


def global_state() -> str:
    """A hash of what belongs to the whole process, and is not ours to change."""
    numpy_state = np.random.get_state()  # noqa: NPY002
    torch_state = torch.get_rng_state().numpy(), torch.get_num_threads(), torch.is_grad_enabled()
    return joblib.hash((random.getstate(), numpy_state, torch_state))


class SupervisedContract(EstimatorContract):
    """What classifiers and regressors owe besides."""

    def test_labels_in_any_form(self, X, y, expected):
        index = X.index if isinstance(X, pd.DataFrame) else None
        series = pd.Series(np.asarray(y), index)
        for form in (list(y), np.asarray(y), series):
            assert_same(fit_and_answer(self.make(), X, form), expected)

    def test_no_rows(self, fitted, X):
        with pytest.raises(ValueError, match="0 (rows|sample)"):
            fitted.predict(_safe_indexing(X, []))

    def test_another_number_of_labels_than_rows(self, X, y):
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            self.make().fit(X, np.asarray(y)[:-1])

    def test_no_labels(self, X):
        model = self.make()[-1] if isinstance(self.make(), Pipeline) else self.make()
        assert get_tags(model).target_tags.required
        with pytest.raises(ValueError, match="requires y to be passed, but the target y is None"):
            self.make().fit(X, None)

    def test_missing_labels(self, X, y):
        holed = np.asarray(y).astype(float)
        holed[3] = np.nan
        with pytest.raises(ValueError, match="missing|NaN"):
            self.make().fit(X, holed)

    def test_whole_weights_are_repeated_rows(self, X, y):
        weights = np.arange(len(X)) % 3
        rows = np.repeat(np.arange(len(X)), weights)
        weighted = self.make().fit(X, y, sample_weight=weights)
        repeated = self.make().fit(_safe_indexing(X, rows), pick(y, rows))
        assert_same(answers(weighted, X), answers(repeated, X))

    def test_the_score_is_a_number(self, fitted, X, y):
        assert np.isfinite(fitted.score(X, y))

    def test_answers_have_the_shapes_of_scikit_learn(self, fitted, X, y, expected):
        assert expected["predict"].shape == (len(X),)
        assert isinstance(expected["predict"], np.ndarray)
        assert all(np.isfinite(answer).all() for answer in expected.values())
        if self.kind == "classifier":
            classes = np.unique(y)
            np.testing.assert_array_equal(fitted.classes_, classes)
            p, scores = expected["predict_proba"], expected["decision_function"]
            assert p.shape == (len(X), len(classes))
            assert scores.shape == ((len(X),) if len(classes) == 2 else p.shape)
            np.testing.assert_allclose(p.sum(axis=1), 1)
            np.testing.assert_allclose(np.log(p), expected["predict_log_proba"], atol=1e-12)
            np.testing.assert_array_equal(classes[p.argmax(axis=1)], expected["predict"])
        else:
            assert expected["predict"].dtype == np.float64
            assert not hasattr(fitted, "classes_")
