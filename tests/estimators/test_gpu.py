"""The same on a CUDA device."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def test_a_fit_on_the_gpu_predicts_like_the_same_weights_on_the_cpu(X, y, quick):
    clf = quick(device="cuda", early_stopping=True).fit(X, y)
    assert clf.device_.type == "cuda"
    on_gpu = clf.predict_proba(X)
    for net in clf.nets_:
        net.module_.to("cpu")
        net.device = "cpu"
    np.testing.assert_allclose(clf.predict_proba(X), on_gpu, atol=1e-4)


def test_a_fit_on_the_gpu_can_be_stored(X, y, quick):
    clf = quick(device="auto").fit(X, y)
    again = pickle.loads(pickle.dumps(clf))
    np.testing.assert_allclose(again.predict_proba(X), clf.predict_proba(X), atol=1e-5)


def test_many_codes_on_the_gpu(X, y, quick):
    p = quick(device="cuda", max_feature_patches=3).fit(X, y).predict_proba(X)
    assert np.isfinite(p).all()
