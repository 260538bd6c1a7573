"""TimeAwareRegressor: shapes, units and what it learns."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import NotFittedError
from sklearn.metrics import r2_score
from sklearn.model_selection import cross_val_score
from skorch.callbacks import EarlyStopping

from tawt_sklearn import TimeAwareRegressor
from tawt_sklearn.events.panels import Panel
from tawt_sklearn.exceptions import DataError


@pytest.fixture
def quick() -> Callable[..., TimeAwareRegressor]:
    """Factory of regressors that train in a moment."""

    def make(**parameters) -> TimeAwareRegressor:
        defaults = {
            "d_model": 8, "n_heads": 2, "n_layers": 1, "n_windows": 4, "max_epochs": 2,
            "min_steps": 4, "n_ensemble": 1, "random_state": 0, "device": "cpu",
        }  # fmt: skip
        return TimeAwareRegressor(**(defaults | parameters))

    return make


@pytest.fixture
def panel() -> np.ndarray:
    """60 cases of two channels and six steps."""
    return np.random.default_rng(0).normal(size=(60, 2, 6))


@pytest.fixture
def numbers(panel) -> np.ndarray:
    """The mean of the first channel, which the network can see."""
    return 40 + 10 * panel[:, 0].mean(axis=1)


# ---- shapes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(60,), (60, 1), (60, 3)])
def test_predictions_have_the_shape_of_the_labels(panel, quick, shape):
    labels = np.random.default_rng(1).normal(size=shape)
    model = quick().fit(panel, labels)
    predicted = model.predict(panel[:7])
    assert predicted.shape == (7, *shape[1:]) and predicted.dtype == np.float64
    assert model.score(panel, labels) == pytest.approx(r2_score(labels, model.predict(panel)))


def test_one_column_is_the_same_as_none(panel, numbers, quick):
    flat = quick().fit(panel, numbers).predict(panel)
    column = quick().fit(panel, numbers[:, None]).predict(panel)
    np.testing.assert_array_equal(flat[:, None], column)


def test_every_column_is_predicted_in_its_own_unit(panel, numbers, quick):
    labels = np.stack([numbers, 1e6 * numbers, np.full(60, 3.0)], axis=1)
    predicted = quick(min_steps=60, learning_rate=0.01).fit(panel, labels).predict(panel)
    np.testing.assert_allclose(predicted.mean(axis=0), labels.mean(axis=0), rtol=0.1)
    for column in (0, 1):
        assert np.corrcoef(predicted[:, column], numbers)[0, 1] > 0.7
    np.testing.assert_allclose(predicted[:, 2], 3.0, atol=0.2)


@pytest.mark.parametrize("kind", [np.int8, np.int64, np.uint16, np.float32, bool, object, list])
def test_numbers_of_any_kind(panel, quick, kind):
    labels = np.arange(60) % 2
    expected = quick().fit(panel, labels.astype(float)).predict(panel)
    given = labels.tolist() if kind is list else labels.astype(kind)
    np.testing.assert_array_equal(quick().fit(panel, given).predict(panel), expected)


def test_labels_in_pandas(X, quick):
    hours = X["events"].events.lengths / 10
    expected = quick().fit(X, hours).predict(X)
    series = pd.Series(hours, X.index)
    for labels in (series, series.astype("Float64"), series.rename("hours")):
        np.testing.assert_array_equal(quick().fit(X, labels).predict(X), expected)
    frame = quick().fit(X, series.to_frame()).predict(X)
    np.testing.assert_array_equal(frame, expected[:, None])
    with pytest.raises(DataError, match=r"same labels in another order.*y\.loc\[X\.index"):
        quick().fit(X, series.iloc[::-1].to_frame())


# ---- units ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [2.0, 2.0**30, 2.0**-30])
def test_predictions_are_in_the_unit_of_the_labels(panel, numbers, quick, factor):
    """Factors that floating point takes exactly; the scaled labels are the same."""
    predicted = quick().fit(panel, factor * numbers).predict(panel)
    expected = quick().fit(panel, numbers).predict(panel)
    np.testing.assert_allclose(predicted, factor * expected, rtol=1e-12)


@pytest.mark.parametrize("loss", ["squared_error", "huber"])
def test_any_linear_unit_gives_the_same_predictions(panel, numbers, quick, loss):
    one = quick(loss=loss).fit(panel, numbers).predict(panel)
    other = quick(loss=loss).fit(panel, 1000 * numbers + 5e6).predict(panel)
    np.testing.assert_allclose((other - 5e6) / 1000, one, atol=1e-3 * numbers.std())


def test_an_untrained_network_says_the_mean(panel, numbers, quick):
    model = quick(learning_rate=1e-12).fit(panel, 1e5 + numbers)
    spread = np.abs(model.predict(panel) - (1e5 + numbers).mean())
    assert spread.max() < 1.5 * numbers.std()


def test_constant_labels_are_predicted(panel, quick):
    predicted = quick(min_steps=50).fit(panel, np.full(60, 7.5)).predict(panel)
    np.testing.assert_allclose(predicted, 7.5, atol=0.3)


# ---- losses, ensembles, scorers -------------------------------------------------------------


def test_one_absurd_label_moves_huber_less(panel, numbers, quick):
    """Of labels that are otherwise the same; both are compared with what they said before."""
    absurd = numbers.copy()
    absurd[0] += 40 * numbers.std()
    moved = {}
    for loss in ("squared_error", "huber"):
        model = quick(loss=loss, min_steps=60, learning_rate=0.01)
        error = np.abs(clone(model).fit(panel, absurd).predict(panel[1:]) - numbers[1:])
        moved[loss] = np.median(error)
    assert moved["huber"] < moved["squared_error"]


def test_the_ensemble_says_the_mean_of_its_members(panel, numbers, quick):
    model = quick(n_ensemble=3).fit(panel, numbers)
    data = model.preparation_.dataset(Panel.of(panel))
    each = [net.decision(data)[:, 0] * numbers.std() + numbers.mean() for net in model.nets_]
    assert not np.allclose(each[0], each[1])
    np.testing.assert_allclose(model.predict(panel), np.mean(each, axis=0))


@pytest.mark.parametrize("scoring", ["r2", "neg_mean_absolute_error", "loss"])
@pytest.mark.parametrize("shape", [(60,), (60, 2)])
def test_any_scorer_can_watch(panel, quick, scoring, shape):
    labels = np.random.default_rng(0).normal(100, 10, size=shape)
    model = quick(early_stopping=True, scoring=scoring, validation_fraction=0.3)
    history = model.fit(panel, labels).history_
    assert history["valid_score"].notna().all()
    if scoring == "loss":
        np.testing.assert_array_equal(history["valid_score"], -history["valid_loss"])
    if scoring == "neg_mean_absolute_error":
        assert history["valid_score"].between(-20, -3).all()  # in the unit of the labels


def test_a_scorer_of_classes_is_refused(panel, numbers, quick):
    model = quick(early_stopping=True, scoring="roc_auc", validation_fraction=0.3)
    with pytest.raises(DataError, match="Got 'roc_auc', which says"):
        model.fit(panel, numbers)
    assert not hasattr(model, "nets_")


def test_it_learns_the_mean_of_a_channel(panel, numbers, quick):
    model = quick(min_steps=80, learning_rate=0.01)
    model.fit(panel[:40], numbers[:40])
    assert model.score(panel[40:], numbers[40:]) > 0.3


def test_it_learns_the_number_of_events(X, quick):
    n = X["events"].events.lengths
    model = quick(min_steps=40, learning_rate=0.02).fit(X.iloc[:120], n[:120])
    assert model.score(X.iloc[120:], n[120:]) > 0.3


def test_labels_are_not_shuffled_between_the_rows(panel, quick):
    """A label for each row that nothing explains is learned by heart only if it stays there."""
    labels = np.random.default_rng(3).normal(size=8)
    model = quick(
        min_steps=120, learning_rate=0.003, dropout=0.0, code_dropout=0.0, window_dropout=0.0
    )
    assert model.fit(panel[:8], labels).score(panel[:8], labels) > 0.8


# ---- among scikit-learn's own ----------------------------------------------------------------


def test_labels_may_be_transformed(panel, numbers, quick):
    labels = np.exp(numbers / 10)
    model = TransformedTargetRegressor(quick(), func=np.log, inverse_func=np.exp)
    expected = np.exp(quick().fit(panel, np.log(labels)).predict(panel))
    np.testing.assert_allclose(model.fit(panel, labels).predict(panel), expected, rtol=1e-6)


def test_cross_validation(panel, numbers, quick):
    labels = np.stack([numbers, -numbers], axis=1)
    for y in (numbers, labels):
        assert np.isfinite(cross_val_score(quick(), panel, y, cv=2)).all()


# ---- bad labels ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad, message",
    [
        (np.r_[np.nan, np.ones(59)], "contains NaN: 1 values, the first at position 0"),
        (np.r_[np.ones(59), np.inf], "contains infinity: 1 values, the first at position 59"),
        (np.array(["low", "high"] * 30), "numbers as labels.*TimeAwareClassifier"),
        (np.ones(60) * 1j, "numbers as labels.*[Cc]omplex"),
        (np.ones((60, 2, 2)), r"shape \(n,\) or \(n, k\). Got an array of shape \(60, 2, 2\)"),
        (np.ones((60, 0)), r"Got an array of shape \(60, 0\)"),
        (np.ones(59), "60 rows.*Got 59"),
        (3.0, "60 rows.*Got one float"),
        (None, "target y is None"),
    ],
)
def test_bad_labels_leave_nothing_behind(panel, quick, bad, message):
    model = quick()
    with pytest.raises(DataError, match=message):
        model.fit(panel, bad)
    assert vars(model) == model.get_params(deep=False)
    with pytest.raises(NotFittedError):
        model.predict(panel)


def test_bad_labels_leave_the_earlier_fit_as_it_was(panel, numbers, quick):
    model = quick().fit(panel, numbers)
    before = model.predict(panel)
    with pytest.raises(DataError):
        model.fit(panel[:, :1], np.full(60, np.nan))
    np.testing.assert_array_equal(model.predict(panel), before)


def test_a_loss_that_does_not_exist(panel, numbers, quick):
    with pytest.raises(ValueError, match="'loss' parameter of TimeAwareRegressor"):
        quick(loss="absolute").fit(panel, numbers)


def test_labels_of_any_size(quick):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 5)), rng.normal(size=40)
    one = quick().fit(X, y).predict(X)
    for size in (2.0**500, 2.0**-500):
        huge = quick().fit(X, y * size).predict(X)
        np.testing.assert_allclose(huge / size, one, rtol=1e-5)


def test_an_optimizer_without_a_fused_form(quick):
    X, y = np.random.default_rng(0).normal(size=(40, 5)), np.arange(40.0)
    model = quick(net_params={"optimizer": torch.optim.RMSprop}).fit(X, y)
    assert isinstance(model.nets_[0].optimizer_, torch.optim.RMSprop)


def test_a_callback_that_needs_validation_data(quick):
    X, y = np.random.default_rng(0).normal(size=(40, 5)), np.arange(40.0)
    with pytest.raises(DataError, match="valid_loss.*early_stopping=True, or pass X_val"):
        quick(callbacks=[EarlyStopping()]).fit(X, y)
    quick(callbacks=[EarlyStopping(sink=lambda _: None)], early_stopping=True).fit(X, y)
