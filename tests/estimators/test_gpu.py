"""The same on a CUDA device: every estimator in every precision, and back on the CPU."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
import torch

from tawt_sklearn import TimeAwareClassifier, TimeAwareEncoder, TimeAwareRegressor
from tawt_sklearn.datasets import make_sensor_panels
from tawt_sklearn.nn.packed import Packed, bucketed, packed_attention

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

SMALL = {
    "d_model": 32,
    "n_heads": 2,
    "n_layers": 1,
    "n_windows": 4,
    "max_epochs": 2,
    "min_steps": 4,
    "random_state": 0,
    "device": "cuda",
}
KINDS = ["classifier", "regressor", "encoder"]


def fitted(kind: str, X, y, **settings):
    """An estimator that was trained on the GPU."""
    settings = SMALL | settings
    if kind == "encoder":
        return TimeAwareEncoder(**settings).fit(X)
    if kind == "regressor":
        return TimeAwareRegressor(**settings, n_ensemble=1).fit(X, np.asarray(y, dtype=float))
    return TimeAwareClassifier(**settings, n_ensemble=2).fit(X, y)


def told(estimator, X) -> np.ndarray:
    """What it says of histories."""
    for name in ("predict_proba", "transform", "predict"):
        if hasattr(estimator, name):
            return np.asarray(getattr(estimator, name)(X))
    raise AssertionError


@pytest.mark.parametrize("patching", ["dual", "time", "feature", "event"])
@pytest.mark.parametrize("kind", KINDS)
def test_cpu_and_gpu_agree_in_single_precision(X, y, tmp_path, kind, patching):
    settings = {"pooling": "mean"} if kind == "encoder" and patching == "time" else {}
    estimator = fitted(kind, X, y, precision="float32", patching=patching, **settings)
    assert estimator.device_.type == "cuda"
    on_gpu = told(estimator, X)
    estimator.save(tmp_path / "model.tawt")
    on_cpu = type(estimator).load(tmp_path / "model.tawt", device="cpu")
    assert on_cpu.device_.type == "cpu"
    np.testing.assert_allclose(told(on_cpu, X), on_gpu, atol=1e-4)
    back = type(estimator).load(tmp_path / "model.tawt", device="cuda")
    np.testing.assert_allclose(told(back, X), on_gpu, atol=1e-5)


@pytest.mark.parametrize("patching", ["dual", "event"])
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_learns_much_the_same(X, y, kind, precision, patching):
    half = fitted(kind, X, y, precision=precision, patching=patching)
    whole = fitted(kind, X, y, precision="float32", patching=patching)
    loss, want = (e.history_["train_loss"].iloc[-1] for e in (half, whole))
    assert loss == pytest.approx(want, rel=0.05)
    assert np.isfinite(told(half, X)).all()
    again = pickle.loads(pickle.dumps(half))
    np.testing.assert_allclose(told(again, X), told(half, X), atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_panels(kind):
    X, y = make_sensor_panels(80, random_state=0)
    estimator = fitted(kind, X, y if kind != "regressor" else np.arange(80.0), precision="float32")
    on_gpu = told(estimator, X)
    pickled = pickle.dumps(estimator)
    np.testing.assert_allclose(told(pickle.loads(pickled), X), on_gpu, atol=1e-5)


def test_labels_at_each_step():
    X, _ = make_sensor_panels(40, random_state=0)
    y = np.random.default_rng(0).normal(size=(40, np.shape(X)[2]))
    reg = TimeAwareRegressor(**SMALL, n_ensemble=1, per_step=True).fit(X, y)
    assert np.isfinite(reg.predict(X)).all()


def test_the_default_precision_is_half_and_the_default_device_the_gpu(X, y):
    clf = fitted("classifier", X, y, device="auto")
    assert clf.device_.type == "cuda"
    narrow = clf.nets_[0].module_.backbone.narrow
    assert narrow in (torch.bfloat16, torch.float16)
    assert np.isfinite(clf.predict_proba(X)).all()


def test_the_same_random_state_gives_much_the_same(X, y):
    first, second = (fitted("classifier", X, y, precision="float32") for _ in range(2))
    np.testing.assert_allclose(first.predict_proba(X), second.predict_proba(X), atol=1e-3)


def test_the_data_set_stays_on_the_gpu(X, y):
    clf = fitted("classifier", X, y)
    from tawt_sklearn.estimators._input import read_rows

    data = clf.preparation_.dataset(read_rows(clf, X, clf.preparation_)[0])
    assert data.hold_on(torch.device("cuda"))
    assert data.batch(np.arange(3)).device.type == "cuda"


def test_many_codes(X, y):
    p = fitted("classifier", X, y, max_feature_patches=3).predict_proba(X)
    assert np.isfinite(p).all()


def test_fine_tuning(X, y):
    encoder = fitted("encoder", X, y)
    for fine_tune in ("head", "full", "gradual"):
        clf = TimeAwareClassifier(
            pretrained=encoder, fine_tune=fine_tune, max_epochs=1, n_ensemble=1, random_state=0
        ).fit(X, y)
        assert np.isfinite(clf.predict_proba(X)).all()


def test_a_run_goes_on_where_it_was_stopped(X, y, tmp_path):
    settings = {"precision": "fp16", "checkpoint_dir": tmp_path}
    first = fitted("classifier", X, y, **settings)
    again = fitted("classifier", X, y, **settings)  # found, not trained anew
    pd.testing.assert_frame_equal(first.history_, again.history_)


def test_compiled_blocks(X, y):
    clf = fitted("classifier", X, y, compile=True, precision="float32")
    plain = fitted("classifier", X, y, precision="float32")
    np.testing.assert_allclose(clf.predict_proba(X), plain.predict_proba(X), atol=0.05)


@pytest.mark.parametrize("window", [None, 40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_attention_equals_plain_operations(window, dtype):
    torch.manual_seed(0)
    lengths = (3, 700, 0, 250, 64)
    time = torch.rand(sum(lengths)).sort().values.cuda() * 48
    packed = Packed.of(time, lengths, 2, 3.0, window)
    inputs = [torch.randn(sum(lengths), 4, 16).cuda().to(dtype) for _ in range(3)]
    results = []
    for attention in (packed_attention, bucketed):
        given = [x.clone().requires_grad_() for x in inputs]
        rate = torch.full((4,), 0.5).cuda().requires_grad_()
        out = attention(*given, rate, packed)
        out.float().square().sum().backward()
        results.append((out, *(x.grad for x in (*given, rate))))
    tolerance = 1e-3 if dtype == torch.float32 else 0.05
    for got, want in zip(*results, strict=True):
        assert (got - want).float().norm() <= tolerance * want.float().norm()


def test_several_gpus_are_named(X, y):
    clf = fitted("classifier", X, y, device="cuda:0")
    assert clf.device_ == torch.device("cuda:0")
