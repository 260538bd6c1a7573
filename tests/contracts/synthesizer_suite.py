"""What a synthesizer owes its users besides: a test class to inherit, for any form of rows."""

from __future__ import annotations

import pickle
import random
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing

from .answers import answers, assert_same
from .suite import EstimatorContract, global_state, pick


class SynthesizerContract(EstimatorContract):
    """It is a transformer that also writes rows, and says how likely they are."""

    kind = "transformer"

    # Which rows are held out, and which make a batch, is drawn by their place.
    test_fit_does_not_depend_on_the_order_of_the_rows = None

    def test_the_answer_for_a_row_does_not_depend_on_the_others(self, fitted, X, expected):
        """But for the last digits of single precision, in which latents are computed."""
        for row in (0, 5, len(X) - 1):
            alone = answers(fitted, _safe_indexing(X, [row]))
            assert_same(alone, {k: pick(v, [row]) for k, v in expected.items()}, 1e-5)

    # ---- answers besides ``transform`` -------------------------------------------------------

    def test_no_other_answer_before_fit(self, X, y):
        estimator = last(self.make())
        for ask in (estimator.sample, lambda: estimator.reconstruct(X)):
            with pytest.raises(NotFittedError, match="not fitted yet"):
                ask()
        for ask in (estimator.log_prob, estimator.score):
            with pytest.raises(NotFittedError, match="not fitted yet"):
                ask(X, y)

    def test_latents_are_numbers(self, fitted, X, expected):
        d_latent = last(fitted).d_latent
        assert expected["transform"].shape == (len(X), d_latent)
        assert expected["transform"].dtype == np.float32
        assert np.isfinite(expected["transform"]).all()
        names = [f"sequencesynthesizer{k}" for k in range(d_latent)]
        assert fitted.get_feature_names_out().tolist() == names

    def test_set_output(self, X, y, expected):
        framed = self.make().set_output(transform="pandas").fit(X, y)
        table = framed.transform(X)
        assert list(table) == framed.get_feature_names_out().tolist()
        if isinstance(X, pd.DataFrame):
            assert table.index.equals(X.index)
        np.testing.assert_array_equal(table.to_numpy(), expected["transform"])

    def test_the_score_is_the_mean_of_log_probabilities(self, fitted, X, y):
        told = likely(fitted, X, y)
        assert told.shape == (len(X),) and told.dtype == np.float64
        assert np.isfinite(told).all()
        assert fitted.score(X, y) == told.mean()

    def test_how_likely_a_row_is_does_not_depend_on_the_others(self, fitted, X, y):
        told = likely(fitted, X, y)
        order = np.random.default_rng(0).permutation(len(X))
        for rows in (order, [0], [5], [len(X) - 1]):
            few = likely(fitted, _safe_indexing(X, rows), pick(y, rows))
            np.testing.assert_allclose(few, told[rows], 1e-4, 1e-4)

    # ---- what it writes ----------------------------------------------------------------------

    def test_what_is_written_has_the_form_of_fit(self, fitted, X, y):
        rows, labels = parts(last(fitted).sample(7, random_state=0), y)
        seen = inner(fitted, X)
        assert type(rows) is type(seen) and rows.shape == (7, *seen.shape[1:])
        if framed(rows):
            assert list(rows) == list(seen)
            assert rows.dtypes.tolist() == seen.dtypes.tolist()
        if y is not None:
            assert labels.shape == (7,) and set(labels) <= set(y)

    def test_what_is_written_can_be_read(self, fitted, X, y):
        model = last(fitted)
        rows, labels = parts(model.sample(3, random_state=0), y)
        assert np.isfinite(model.transform(rows)).all()
        assert np.isfinite(model.log_prob(rows, labels)).all()
        assert len(model.reconstruct(rows)) == 3

    def test_the_same_seed_writes_the_same(self, fitted, X, y):
        model, few = last(fitted), inner(fitted, _safe_indexing(X, [0, 1]))
        for ask in (
            lambda seed: model.sample(2, random_state=seed),
            lambda seed: model.reconstruct(few, random_state=seed),
        ):
            first, again, other = (joblib.hash(content(ask(seed))) for seed in (3, 3, 4))
            assert first == again != other

    def test_the_same_fit_writes_the_same(self, fitted, X, y):
        own, expected = last(self.make().fit(X, y)), last(fitted)
        assert joblib.hash(content(own.sample(3))) == joblib.hash(content(expected.sample(3)))

    def test_asking_changes_nothing(self, fitted, X, y):
        model = last(fitted)
        np.random.seed(7)  # noqa: NPY002  (the state of others neither matters nor changes)
        random.seed(7)
        torch.manual_seed(7)
        before, data = global_state(), joblib.hash((X, y))
        weights = {name: tensor.clone() for name, tensor in model.net_.weights().items()}
        model.sample(3)
        model.reconstruct(inner(fitted, _safe_indexing(X, [0, 1])))
        likely(fitted, X, y)
        fitted.score(X, y)
        assert global_state() == before and joblib.hash((X, y)) == data
        assert all(torch.equal(weights[name], w) for name, w in model.net_.weights().items())

    def test_reconstructions_have_the_form_of_fit(self, fitted, X):
        seen = inner(fitted, X)
        seen = seen.iloc[:9] if framed(seen) else seen[:9]
        again = last(fitted).reconstruct(seen)
        assert type(again) is type(seen) and again.shape == seen.shape
        if framed(seen):
            for name in [name for name in seen if name != "events"]:
                known = seen[name].notna().to_numpy()  # what is missing is drawn
                assert again[name][known].tolist() == seen[name][known].tolist()

    @pytest.mark.parametrize("n", [0, -1, 1.5, True, "3"])
    def test_a_number_of_rows_that_cannot_be(self, fitted, n):
        with pytest.raises(ValueError, match="Expected n to be an integer of 1 or more"):
            last(fitted).sample(n)

    def test_a_stored_estimator_writes_the_same(self, fitted, X, y):
        again = pickle.loads(pickle.dumps(fitted))
        for ask in (
            lambda each: content(last(each).sample(2, random_state=1)),
            lambda each: likely(each, X, y),
        ):
            assert joblib.hash(ask(again)) == joblib.hash(ask(fitted))

    def test_a_failed_fit_leaves_what_it_writes_as_it_was(self, fitted, X, y):
        model = pickle.loads(pickle.dumps(last(fitted)))
        before = content(model.sample(2))
        with pytest.raises(ValueError):
            model.fit(self.unusable(X), y)
        assert joblib.hash(content(model.sample(2))) == joblib.hash(before)

    def test_fit_transform(self, X, y, expected):
        assert_same({"transform": self.make().fit_transform(X, y)}, expected)
        assert_same(answers(self.make().fit(X, y), X), expected)


def last(estimator: Any) -> Any:
    """The synthesizer of a Pipeline, or itself."""
    return estimator[-1] if isinstance(estimator, Pipeline) else estimator


def inner(estimator: Any, X: Any) -> Any:
    """The rows that the synthesizer was given."""
    return estimator[:-1].transform(X) if isinstance(estimator, Pipeline) else X


def likely(estimator: Any, X: Any, y: Any) -> Any:
    """Log-probabilities of some rows."""
    return last(estimator).log_prob(inner(estimator, X), y)


def framed(rows: Any) -> bool:
    return isinstance(rows, pd.DataFrame)


def parts(written: Any, y: Any) -> tuple[Any, Any]:
    """Rows and labels of what was written, None where there are none."""
    return (written, None) if y is None else written


def content(written: Any) -> list[Any]:
    """All that was written, in a form that can be hashed."""
    rows, labels = written if isinstance(written, tuple) else (written, None)
    if not framed(rows):
        return [rows, labels]
    events = rows["events"].events
    fields = [events.flat(name) for name in ("time", "code", "value", "text")]
    bounds = [events.lengths, events.start, events.end]
    static = [rows[name].astype(str).tolist() for name in rows if name != "events"]
    return [*fields, *bounds, static, labels]
