"""Precision, parts of batches, memory that runs out, schedules, and rows in chunks."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

from tawt_sklearn import TimeAwareClassifier, TimeAwareEncoder, TimeAwareRegressor
from tawt_sklearn.datasets import make_icu_stays, make_sensor_panels
from tawt_sklearn.estimators._input import read_rows
from tawt_sklearn.exceptions import DeviceError, OutOfMemoryError, TrainingWarning
from tawt_sklearn.nn.backbone import DualPatchBackbone
from tawt_sklearn.training.chunks import chunks
from tawt_sklearn.training.net import EventNet
from tawt_sklearn.training.precision import narrow_type
from tawt_sklearn.training.schedule import SCHEDULES
from tawt_sklearn.training.trainer import Beginning, _begin_at

CPU = torch.device("cpu")
SMALL = {
    "d_model": 8,
    "n_heads": 2,
    "n_layers": 1,
    "n_windows": 4,
    "max_epochs": 2,
    "min_steps": 0,
    "random_state": 0,
    "device": "cpu",
}
STILL = {"dropout": 0.0, "code_dropout": 0.0, "window_dropout": 0.0}
"""Nothing is drawn in training."""


@pytest.fixture(scope="module")
def stays():
    return make_icu_stays(72, random_state=0)


def classifier(**settings):
    return TimeAwareClassifier(**({**SMALL, "n_ensemble": 1} | settings))


def dataset(estimator, X):
    return estimator.preparation_.dataset(read_rows(estimator, X, estimator.preparation_)[0])


def weights_of(estimator):
    return estimator.nets_[0].weights()


def assert_same_weights(a, b, **tolerance):
    for name, tensor in weights_of(a).items():
        torch.testing.assert_close(tensor, weights_of(b)[name], **tolerance)


# ---- parts of batches ----------------------------------------------------------------------------


@pytest.mark.parametrize("first, last", [(0, 3), (2, 2), (4, 9), (0, 9)])
def test_a_part_of_a_batch_is_the_batch_of_these_rows(stays, first, last):
    data = dataset(classifier().fit(*stays), stays[0])
    rows = np.array([5, 0, 71, 8, 3, 3, 60, 41, 2])
    part, want = data.batch(rows).part(first, last), data.batch(rows[first:last])
    for name in vars(want):
        torch.testing.assert_close(getattr(part, name), getattr(want, name), equal_nan=True)


@pytest.mark.parametrize("first, last", [(0, 3), (2, 4)])
def test_a_part_of_a_panels_batch_is_that_of_these_cases(first, last):
    X, y = make_sensor_panels(40, random_state=0)
    data = dataset(TimeAwareClassifier(**SMALL, n_ensemble=1).fit(X, y), X)
    rows = np.array([5, 0, 39, 8])
    part, want = data.batch(rows).part(first, last), data.batch(rows[first:last])
    for name in vars(want):
        torch.testing.assert_close(getattr(part, name), getattr(want, name))


@pytest.mark.parametrize("patching", ["dual", "event"])
def test_accumulated_steps_are_those_of_a_larger_batch(stays, patching):
    large = classifier(batch_size=16, patching=patching, **STILL).fit(*stays)
    parts = classifier(batch_size=4, accumulate_steps=4, patching=patching, **STILL).fit(*stays)
    assert_same_weights(large, parts, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(large.history_.train_loss, parts.history_.train_loss, rtol=1e-5)


def test_accumulated_steps_of_pretraining_record_parts_of_the_loss(stays):
    encoder = TimeAwareEncoder(**SMALL, batch_size=4, accumulate_steps=4).fit(stays[0])
    parts = encoder.history_.filter(like="train_masked").sum(axis=1)
    np.testing.assert_allclose(parts, encoder.history_.train_loss, rtol=1e-5)


# ---- memory that runs out ------------------------------------------------------------------------


class Memory:
    """Room for a number of rows at once."""

    def __init__(self, n_rows: int, error: Exception) -> None:
        self.n_rows, self.error, self.asked = n_rows, error, []

    def __call__(self, net, batch, **params):
        self.asked.append(len(batch))
        if len(batch) > self.n_rows:
            raise self.error
        return INFER(net, batch, **params)


INFER = EventNet.infer
NO_ROOM = [
    torch.OutOfMemoryError("CUDA out of memory."),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
    MemoryError(),
]


@pytest.fixture
def room_for(monkeypatch):
    """Make memory small."""

    def make(n_rows: int, error: Exception = NO_ROOM[0]) -> Memory:
        memory = Memory(n_rows, error)
        monkeypatch.setattr(EventNet, "infer", lambda net, x, **p: memory(net, x, **p))
        return memory

    return make


@pytest.mark.parametrize("error", NO_ROOM)
def test_batches_that_do_not_fit_are_halved_to_the_same_effect(stays, room_for, error):
    large = classifier(batch_size=16, **STILL).fit(*stays)
    room_for(5, error)
    with pytest.warns(TrainingWarning, match="16 rows of .* events") as told:
        parts = classifier(batch_size=16, **STILL).fit(*stays)
    assert len(told) == 2  # 16 to 8 to 4 rows
    assert "Set batch_size=4 with accumulate_steps=4" in str(told[1].message)
    assert_same_weights(large, parts, rtol=1e-4, atol=1e-5)


def test_a_row_that_does_not_fit_is_an_error_with_its_size(stays, room_for):
    room_for(0)
    clf = classifier()
    with (
        warnings.catch_warnings(),
        pytest.raises(OutOfMemoryError, match=r"1 rows of \d+ events.* Now lower d_model"),
    ):
        warnings.simplefilter("ignore", TrainingWarning)
        clf.fit(*stays)
    assert not hasattr(clf, "nets_")
    assert issubclass(OutOfMemoryError, MemoryError)


def test_other_errors_are_none_of_memory(stays, room_for):
    room_for(0, RuntimeError("something else"))
    with pytest.raises(RuntimeError, match="something else"):
        classifier().fit(*stays)


def test_predictions_that_do_not_fit_go_in_halves(stays, room_for):
    X, y = stays
    clf = classifier().fit(X, y)
    whole = clf.predict_proba(X)
    memory = room_for(10)
    with pytest.warns(TrainingWarning, match="predict_batch_size=32"):
        halves = clf.predict_proba(X)
    np.testing.assert_allclose(halves, whole, atol=1e-12)
    assert {n for n in memory.asked if n <= 10} == {8}
    room_for(0)
    with (
        warnings.catch_warnings(),
        pytest.raises(OutOfMemoryError, match="prediction"),
    ):
        warnings.simplefilter("ignore", TrainingWarning)
        clf.predict(X)


def test_embeddings_that_do_not_fit_go_in_halves(stays, monkeypatch):
    encoder = TimeAwareEncoder(**SMALL).fit(stays[0])
    whole, asked = encoder.transform(stays[0]), []
    forward = DualPatchBackbone.forward

    def narrow(backbone, batch):
        asked.append(len(batch))
        if len(batch) > 16:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(backbone, batch)

    monkeypatch.setattr(DualPatchBackbone, "forward", narrow)
    with pytest.warns(TrainingWarning, match="out of memory"):
        halves = encoder.transform(stays[0])
    np.testing.assert_allclose(halves, whole, atol=1e-4)
    assert asked[:3] == [64, 32, 16]


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda encoder, X: encoder.transform_steps(X), id="transform_steps"),
        pytest.param(lambda encoder, X: encoder.reconstruct(X), id="reconstruct"),
        pytest.param(lambda encoder, X: encoder.score(X), id="score"),
    ],
)
def test_whatever_an_encoder_says_goes_in_halves_where_it_does_not_fit(stays, monkeypatch, ask):
    encoder = TimeAwareEncoder(**SMALL).fit(stays[0])
    whole = ask(encoder, stays[0])
    forward, room = DualPatchBackbone.forward, 16

    def narrow(backbone, batch):
        if len(batch) > room:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(backbone, batch)

    monkeypatch.setattr(DualPatchBackbone, "forward", narrow)
    with pytest.warns(TrainingWarning, match="out of memory"):
        halves = ask(encoder, stays[0])
    if isinstance(whole, float):
        assert halves == pytest.approx(whole, rel=0.2)  # other masks, drawn for other batches
    else:
        for one, other in zip(told(whole), told(halves), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-3)
    room = 0
    with warnings.catch_warnings(), pytest.raises(OutOfMemoryError, match="Now lower d_model"):
        warnings.simplefilter("ignore", TrainingWarning)
        ask(encoder, stays[0])


def told(frame: pd.DataFrame) -> list[np.ndarray]:
    """Times and values of the events of a frame."""
    long = frame["events"].events.to_long()
    return [long["time"].to_numpy(), np.nan_to_num(long["value"].to_numpy(np.float64))]


def test_held_out_rows_that_do_not_fit_are_judged_in_parts(stays, monkeypatch):
    X, y = stays
    settings = {"X_val": X.iloc[:40], "y_val": y.iloc[:40]}
    whole = classifier(batch_size=8, **STILL).fit(X, y, **settings)
    infer = EventNet.infer

    def narrow(net, batch, **params):
        if len(batch) > 16:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return infer(net, batch, **params)

    monkeypatch.setattr(EventNet, "infer", narrow)
    with pytest.warns(TrainingWarning, match="of which losses are averaged"):
        parts = classifier(batch_size=8, **STILL).fit(X, y, **settings)
    np.testing.assert_allclose(whole.history_.valid_loss, parts.history_.valid_loss, rtol=1e-5)


def test_many_rows_at_once_are_no_more_than_there_are(stays):
    encoder = TimeAwareEncoder(**SMALL).fit(stays[0])
    asked = []
    hook = encoder.net_.module_.backbone.register_forward_pre_hook(
        lambda module, given: asked.append(len(given[0]))
    )
    encoder.set_params(predict_batch_size=20_000).transform(stays[0])
    hook.remove()
    assert asked == [72]


@pytest.mark.parametrize("rows", [0, -1, "max", None, 2.0, True])
def test_how_many_rows_at_once_is_checked_when_it_is_used(stays, rows):
    X, y = stays
    clf, encoder = classifier().fit(X, y), TimeAwareEncoder(**SMALL).fit(X)
    for ask in (
        lambda: clf.set_params(predict_batch_size=rows).predict(X),
        lambda: encoder.set_params(predict_batch_size=rows).transform(X),
        lambda: encoder.transform_steps(X),
    ):
        with pytest.raises(ValueError, match="predict_batch_size"):
            ask()


# ---- rows in chunks ------------------------------------------------------------------------------


@pytest.mark.parametrize("by_size", [False, True])
def test_chunks_hold_every_row_once_and_no_more_than_fits(by_size):
    sizes = np.random.default_rng(0).integers(0, 5000, 1000)
    sizes[7] = 10**6  # one row alone is more than fits
    groups = chunks(sizes, 64, CPU, by_size=by_size)
    rows = np.concatenate(groups)
    assert sorted(rows) == list(range(1000))
    for group in groups:
        assert len(group) <= 64
        assert sizes[group].sum() <= 2**17 or len(group) == 1
    if by_size:
        assert (np.diff(sizes[rows]) >= 0).all()
    else:
        assert (np.diff(rows) == 1).all()


def test_no_rows_are_no_chunks():
    assert chunks(np.zeros(0, np.int64), 64, CPU, by_size=True) == []


def test_how_many_rows_are_predicted_at_once_changes_nothing(stays):
    X, y = stays
    clf = classifier().fit(X, y)
    encoder = TimeAwareEncoder(**SMALL).fit(X)
    probability, embedding = clf.predict_proba(X), encoder.transform(X)
    for rows in (1, 7, 500):
        again = clf.set_params(predict_batch_size=rows).predict_proba(X)
        np.testing.assert_allclose(again, probability, atol=1e-12)
        encoder.set_params(predict_batch_size=rows)
        np.testing.assert_allclose(encoder.transform(X), embedding, atol=1e-4)
        steps = encoder.transform_steps(X, per="event")["events"].events
        assert steps.lengths.sum() == 8 * X["events"].events.lengths.sum()


def test_a_data_set_travels_without_what_it_holds_for_batches(stays):
    data = dataset(classifier().fit(*stays), stays[0])
    rows = np.array([3, 1])
    before = data.batch(rows)
    assert data.held and data.hold_on(CPU)
    again = pickle.loads(pickle.dumps(data))
    assert again._held is None
    torch.testing.assert_close(again.batch(rows).value, before.value)


# ---- precision -----------------------------------------------------------------------------------


@pytest.mark.parametrize("patching", ["dual", "event"])
def test_linear_layers_in_bfloat16_learn_much_the_same(stays, patching):
    X, y = stays
    clf = classifier(precision="bf16", patching=patching).fit(X, y)
    plain = classifier(precision="float32", patching=patching).fit(X, y)
    assert {w.dtype for w in weights_of(clf).values() if w.is_floating_point()} == {torch.float32}
    np.testing.assert_allclose(clf.predict_proba(X), plain.predict_proba(X), atol=0.02)
    assert not np.array_equal(clf.predict_proba(X), plain.predict_proba(X))


def test_an_asked_for_precision_is_that_of_predictions(stays):
    X, y = stays
    double = classifier().fit(X, y)
    single = classifier(precision="float32").fit(X, y)
    assert next(double.nets_[0].module_.parameters()).dtype == torch.float64
    assert next(single.nets_[0].module_.parameters()).dtype == torch.float32
    np.testing.assert_allclose(single.predict_proba(X), double.predict_proba(X), atol=1e-5)
    again = pickle.loads(pickle.dumps(single))
    np.testing.assert_array_equal(again.predict_proba(X), single.predict_proba(X))


def test_a_saved_network_computes_in_the_precision_that_it_had(stays, tmp_path):
    X, y = stays
    for made in (
        classifier(precision="bf16").fit(X, y),
        TimeAwareEncoder(**SMALL, precision="bf16").fit(X),
    ):
        made.save(tmp_path / "model.tawt")
        again = type(made).load(tmp_path / "model.tawt", device="cpu")
        told = "predict_proba" if hasattr(made, "predict_proba") else "transform"
        np.testing.assert_array_equal(getattr(again, told)(X), getattr(made, told)(X))


def test_a_head_alone_computes_in_the_precision_that_was_asked_for(stays):
    X, y = stays
    encoder = TimeAwareEncoder(**SMALL).fit(X)
    head = TimeAwareClassifier(
        pretrained=encoder, fine_tune="head", precision="float32", device="cpu", random_state=0
    ).fit(X, y)
    assert next(head.nets_[0].module_.parameters()).dtype == torch.float32


def test_an_optimizer_may_be_told_not_to_be_fused(stays):
    clf = classifier(net_params={"optimizer__foreach": True}).fit(*stays)
    assert np.isfinite(clf.history_.train_loss).all()


def test_float16_is_for_gpus(stays):
    with pytest.raises(DeviceError, match='precision="bf16"'):
        classifier(precision="fp16").fit(*stays)
    assert narrow_type("auto", CPU) is None
    assert narrow_type("bf16", CPU) is torch.bfloat16


# ---- schedules, clipping, compiling --------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_a_schedule_rises_to_one_and_never_beyond(name):
    rates = np.array([SCHEDULES[name](200, 0.25)(step) for step in range(200)])
    assert rates.max() == pytest.approx(1.0) and (rates > 0).all()
    assert (np.diff(rates[:50]) > 0).all()
    assert 49 <= rates.argmax() <= 50
    end = {"constant": 1.0, "cosine": 0.01, "one-cycle": 1e-4}[name]
    assert rates[-1] == pytest.approx(end, abs=1e-3)


@pytest.mark.parametrize("settings", [{"schedule": "one-cycle"}, {"max_grad_norm": 1e-3}])
def test_settings_of_the_optimizer_change_what_is_learned(stays, settings):
    usual, other = classifier().fit(*stays), classifier(**settings).fit(*stays)
    assert not np.allclose(usual.history_.train_loss, other.history_.train_loss, rtol=1e-6)


def test_gradients_need_not_be_clipped(stays):
    tight = classifier(max_grad_norm=1e9, **STILL).fit(*stays)
    none = classifier(max_grad_norm=None, **STILL).fit(*stays)
    assert_same_weights(tight, none)


@pytest.mark.slow
@pytest.mark.parametrize("patching", ["dual", "event"])
def test_compiled_blocks_learn_the_same(stays, patching):
    X, y = stays
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the compiler
        clf = classifier(compile=True, patching=patching, **STILL).fit(X, y)
    plain = classifier(patching=patching, **STILL).fit(X, y)
    np.testing.assert_allclose(clf.predict_proba(X), plain.predict_proba(X), atol=1e-4)
    assert pickle.loads(pickle.dumps(clf)).predict(X).shape == (72,)


def test_regressors_take_the_same_settings(stays):
    X, _ = stays
    hours = X["events"].events.lengths / 10
    settings = {"batch_size": 4, "accumulate_steps": 2, "precision": "float32"}
    reg = TimeAwareRegressor(**SMALL, **settings, n_ensemble=1, schedule="constant").fit(X, hours)
    assert np.isfinite(reg.predict(X)).all()


def test_the_scale_of_gradients_goes_on_with_the_run(stays):
    net = classifier().fit(*stays).nets_[0]
    net.scaler_ = torch.amp.GradScaler("cpu", init_scale=4.0)
    before = Beginning.after(net)
    net.scaler_ = torch.amp.GradScaler("cpu")
    _begin_at(net, before)
    assert net.scaler_.get_scale() == 4.0
