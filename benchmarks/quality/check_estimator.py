"""scikit-learn's own checks of estimators, ours beside skorch's and scikit-learn's.

    python benchmarks/quality/check_estimator.py             # a Markdown table
    python benchmarks/quality/check_estimator.py --failures  # and what failed, with the message

Every check of ``sklearn.utils.estimator_checks.check_estimator`` runs, none is expected to fail.
"Skipped" are checks that scikit-learn skips by itself, for want of a package; how many checks there
are depends on what an estimator says that it takes: event frames are none of scikit-learn's inputs,
so little is asked of a ``TripletSequencer``.  Networks are small and train for little.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections import Counter
from typing import Any

import sklearn
import skorch
import torch
from sklearn.base import BaseEstimator
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.utils.estimator_checks import check_estimator
from skorch import NeuralNetClassifier, NeuralNetRegressor
from torch import nn

from tawt_sklearn import (
    EventSummarizer,
    MissingMaskEncoder,
    TimeAwareClassifier,
    TimeAwareEncoder,
    TimeAwareRegressor,
    TimeEmbedder,
    TripletSequencer,
)


class Perceptron(nn.Module):
    """Two layers for any number of features, with outputs for as many classes as there may be."""

    def __init__(self, n_outputs: int = 10) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.LazyLinear(16), nn.ReLU(), nn.Linear(16, n_outputs))

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        return self.layers(X.float())


def competitors() -> list[tuple[str, BaseEstimator]]:
    """Estimators by their library, all on the CPU."""
    ours = {
        "d_model": 8,
        "n_layers": 1,
        "n_heads": 2,
        "dropout": 0.0,
        "code_dropout": 0.0,
        "window_dropout": 0.0,
        "max_epochs": 5,
        "min_steps": 60,
        "batch_size": 32,
        "learning_rate": 0.01,
        "n_ensemble": 1,
        "device": "cpu",
        "random_state": 0,
    }
    supervised = {"code_dropout", "window_dropout", "n_ensemble"}
    theirs = {"max_epochs": 50, "lr": 0.1, "train_split": None, "verbose": 0, "device": "cpu"}
    return [
        ("tawt_sklearn", TimeAwareClassifier(**ours)),
        ("tawt_sklearn", TimeAwareRegressor(**ours)),
        ("tawt_sklearn", TimeAwareEncoder(**{k: ours[k] for k in ours.keys() - supervised})),
        ("tawt_sklearn", TripletSequencer()),
        ("tawt_sklearn", EventSummarizer()),
        ("tawt_sklearn", MissingMaskEncoder()),
        ("tawt_sklearn", TimeEmbedder()),
        ("skorch", NeuralNetClassifier(Perceptron, criterion=nn.CrossEntropyLoss, **theirs)),
        ("skorch", NeuralNetRegressor(Perceptron, module__n_outputs=1, **theirs)),
        ("scikit-learn", MLPClassifier(random_state=0)),
        ("scikit-learn", MLPRegressor(random_state=0)),
    ]


def judge(estimator: BaseEstimator) -> list[dict[str, Any]]:
    """The result of every check."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return check_estimator(estimator, on_fail=None, on_skip=None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="run only estimators whose name contains this")
    parser.add_argument("--failures", action="store_true", help="list the checks that failed")
    options = parser.parse_args()

    torch.set_num_threads(1)
    os.environ.setdefault("SCIPY_ARRAY_API", "1")  # without it one of the checks is skipped
    print(f"scikit-learn {sklearn.__version__}, skorch {skorch.__version__}\n")
    print("| estimator | library | passed | failed | skipped | total | seconds |")
    print("|---|---|---:|---:|---:|---:|---:|")
    failures = []
    for library, estimator in competitors():
        name = type(estimator).__name__
        if options.only and options.only not in name:
            continue
        torch.manual_seed(0)
        start = time.perf_counter()
        results = judge(estimator)
        seconds = time.perf_counter() - start
        count = Counter(result["status"] for result in results)
        numbers = [count["passed"], count["failed"], count["skipped"], len(results)]
        cells = [name, library, *map(str, numbers), f"{seconds:.0f}"]
        print(f"| {' | '.join(cells)} |", flush=True)
        failures += [(name, result) for result in results if result["status"] == "failed"]
    if options.failures:
        for name, result in failures:
            problem = result["exception"]
            message = (str(problem).splitlines() or [""])[0][:160]
            print(f"\n{name}: {result['check_name']}\n    {type(problem).__name__}: {message}")


if __name__ == "__main__":
    main()
