"""What the networks are compared with on panels: summaries with boosting or ridge, MiniRocket.

``ridge on MiniRocket`` needs aeon, which pins other versions than this project is tested with: it
runs in an environment of its own, whose Python is given (``pip install "aeon>=1.6"`` there), as
``python panel_peers.py windows.npz answers.npz``.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import Ridge
from sklearn.metrics import root_mean_squared_error
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import StandardScaler


class PanelSummaries(TransformerMixin, BaseEstimator):
    """Aggregates of each channel of a panel, NaN-aware: what people make by hand.

    Mean, sd, min, max, first, last, slope and the mean of the last steps, over the whole window
    and over its last part; for ``lags``, values at these numbers of steps before the end.
    """

    def __init__(self, recent: int = 24, lags: tuple[int, ...] = ()) -> None:
        self.recent = recent
        self.lags = lags

    def fit(self, X: np.ndarray, y: object = None) -> PanelSummaries:
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        """(n, C, T) -> (n, features)."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of channels without any value
            parts = [f for part in (X, X[:, :, -self.recent :]) for f in _summaries(part)]
        parts += [X[:, :, -lag] for lag in self.lags]
        return np.concatenate(parts, axis=1)


def _summaries(X: np.ndarray) -> list[np.ndarray]:
    seen = ~np.isnan(X)
    time = np.where(seen, np.arange(X.shape[2], dtype=float), np.nan)
    mean = np.nanmean(X, axis=2)
    when = time - np.nanmean(time, axis=2, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        slope = np.nansum(when * X, axis=2) / np.nansum(when**2, axis=2)
    first = np.take_along_axis(X, seen.argmax(2)[..., None], 2)[..., 0]
    last = np.take_along_axis(X, X.shape[2] - 1 - seen[..., ::-1].argmax(2)[..., None], 2)[..., 0]
    return [mean, np.nanstd(X, 2), np.nanmin(X, 2), np.nanmax(X, 2), first, last, slope]


def ridge_on_minirocket(
    python: str, train: np.ndarray, y: np.ndarray, groups: np.ndarray, test: np.ndarray
) -> np.ndarray:
    """Answers for the windows of ``test``, from another environment."""
    with tempfile.TemporaryDirectory() as folder:
        given, answers = Path(folder, "windows.npz"), Path(folder, "answers.npz")
        np.savez(given, train=train, y=y, groups=groups, test=test)
        subprocess.run([python, __file__, given, answers], check=True)
        return np.load(answers)["answers"]


def _main(given: str, answers: str) -> None:
    """MiniRocket features of standardised channels, ridge with a strength chosen by groups.

    Leave-one-out, the authors' way to choose it, is misled by windows that overlap (FD001: RMSE 21
    against 16).
    """
    from aeon.transformations.collection.convolution_based import MiniRocket

    data = np.load(given)
    train, test, y, groups = (data[name] for name in ("train", "test", "y", "groups"))
    train, test = _filled(train), _filled(test)
    center = train.mean(axis=(0, 2), keepdims=True)
    spread = train.std(axis=(0, 2), keepdims=True)
    train, test = ((part - center) / np.where(spread > 1e-6, spread, 1.0) for part in (train, test))
    rocket = MiniRocket(n_kernels=2500, random_state=0)
    features = rocket.fit_transform(train.astype(np.float32))
    scaler = StandardScaler(with_mean=False).fit(features)
    features, further = scaler.transform(features), scaler.transform(rocket.transform(test))
    errors = {}
    for alpha in 10.0 ** np.arange(1, 7):
        told = np.empty(len(y))
        for rows, out in GroupKFold(3).split(features, y, groups):
            told[out] = Ridge(alpha=alpha).fit(features[rows], y[rows]).predict(features[out])
        errors[alpha] = root_mean_squared_error(y, told)
    best = min(errors, key=lambda alpha: errors[alpha])
    np.savez(answers, answers=Ridge(alpha=best).fit(features, y).predict(further.astype(float)))


def _filled(X: np.ndarray) -> np.ndarray:
    """Missing values as the next one, then the last one before, which MiniRocket cannot do."""
    X = X.copy()
    for step in range(X.shape[2] - 2, -1, -1):
        X[:, :, step] = np.where(np.isnan(X[:, :, step]), X[:, :, step + 1], X[:, :, step])
    for step in range(1, X.shape[2]):
        X[:, :, step] = np.where(np.isnan(X[:, :, step]), X[:, :, step - 1], X[:, :, step])
    return np.nan_to_num(X)


if __name__ == "__main__":
    _main(*sys.argv[1:])
