"""In-hospital death from the first 48 hours, PhysioNet/CinC Challenge 2012, sets a and b.

Side by side in one run: hand-made aggregates (``EventSummarizer``) with logistic regression,
HistGradientBoosting and LightGBM, and ``Pipeline(TripletSequencer, TimeAwareClassifier)`` with
its defaults, from scratch.  Two protocols: train on set a, score on set b; and 5-fold
cross-validation on both.  Everything learned, vocabulary and scaling included, is learned from
the training part.

    python benchmarks/quality/physionet2012.py                 # a to b
    python benchmarks/quality/physionet2012.py --protocol cv   # 5 folds on a+b
    python benchmarks/quality/physionet2012.py --plot reliability.svg

Needs ``pip install -e ".[benchmark]"`` and a copy of the data (``TAWT_DATA``, see
``fetch_physionet2012``).
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from _files import HOME, keep
from lightgbm import LGBMClassifier
from sklearn.base import clone
from sklearn.calibration import calibration_curve
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from tawt_sklearn import EventSummarizer, TimeAwareClassifier, TripletSequencer
from tawt_sklearn.datasets import fetch_physionet2012

WINDOWS = (None, 24.0, 8.0)  # whole stay, last day, last 8 hours: the aggregates people make


def models(n_jobs: int) -> dict[str, Pipeline]:
    """Every competitor, by the name in the table."""
    summaries = EventSummarizer(windows=WINDOWS)
    network = TimeAwareClassifier(n_jobs=n_jobs, random_state=0)
    return {
        "summaries + logistic regression": make_pipeline(
            clone(summaries),
            SimpleImputer(strategy="median", keep_empty_features=True, add_indicator=True),
            StandardScaler(),
            LogisticRegression(C=0.003, max_iter=1000),
        ),
        "summaries + HistGradientBoosting": make_pipeline(
            clone(summaries),
            HistGradientBoostingClassifier(
                learning_rate=0.03,
                max_iter=400,
                max_leaf_nodes=15,
                min_samples_leaf=30,
                l2_regularization=5.0,
                max_features=0.3,
                random_state=0,
            ),
        ),
        "summaries + LightGBM": make_pipeline(
            clone(summaries),
            LGBMClassifier(
                n_estimators=500,
                learning_rate=0.02,
                num_leaves=15,
                min_child_samples=30,
                subsample=0.7,
                subsample_freq=1,
                colsample_bytree=0.15,
                reg_lambda=5.0,
                random_state=0,
                n_jobs=n_jobs,
                verbose=-1,
            ),
        ),
        "TimeAwareClassifier": Pipeline([("sequence", TripletSequencer()), ("model", network)]),
        "TimeAwareClassifier, n_ensemble=1": Pipeline(
            [
                ("sequence", TripletSequencer()),
                ("model", clone(network).set_params(n_ensemble=1)),
            ]
        ),
        "TimeAwareClassifier, n_ensemble=1, calibrate=True": Pipeline(
            [
                ("sequence", TripletSequencer()),
                ("model", clone(network).set_params(n_ensemble=1, calibrate=True)),
            ]
        ),
    }


def splits(protocol: str, y: pd.Series, sets: pd.Series) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Positions of the training and of the test stays."""
    if protocol == "a-to-b":
        yield np.flatnonzero(sets == "a"), np.flatnonzero(sets == "b")
    else:
        yield from StratifiedKFold(5, shuffle=True, random_state=0).split(np.zeros(len(y)), y)


def measure(
    model: Pipeline, X: pd.DataFrame, y: pd.Series, split: tuple
) -> tuple[dict[str, float], np.ndarray]:
    """Fit on one part, score on the other; also the reliability curve of the other part."""
    train, test = split
    start = time.perf_counter()
    model = clone(model).fit(X.iloc[train], y.iloc[train])
    fitted = time.perf_counter()
    p = model.predict_proba(X.iloc[test])[:, 1]
    predicted = time.perf_counter()
    truth = y.iloc[test]
    scores = {
        "AUROC": roc_auc_score(truth, p),
        "AUPRC": average_precision_score(truth, p),
        "Brier": brier_score_loss(truth, p),
        "log loss": log_loss(truth, p),
        "fit s": fitted - start,
        "predict s": predicted - fitted,
    }
    observed, predicted_risk = calibration_curve(truth, p, n_bins=10, strategy="quantile")
    return scores, np.stack([predicted_risk, observed])


def draw_reliability(curves: dict[str, np.ndarray], path: Path) -> None:
    """Observed against predicted risk, in tenths of the stays by predicted risk."""
    figure, axes = plt.subplots(figsize=(6, 6))
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    for name, (predicted, observed) in curves.items():
        axes.plot(predicted, observed, marker="o", markersize=3, label=name)
    top = 1.05 * max(curve.max() for curve in curves.values())
    axes.set(xlabel="predicted risk", ylabel="observed share", xlim=(0, top), ylim=(0, top))
    axes.legend(fontsize="small")
    figure.savefig(path, bbox_inches="tight")


def summary(runs: pd.DataFrame) -> pd.DataFrame:
    """Mean over the folds and, where there are several, its standard error."""
    grouped = runs.groupby("model", sort=False)
    table = grouped.mean()
    if grouped.size().min() > 1:
        for name in ("AUROC", "AUPRC", "Brier", "log loss"):
            table[f"{name} se"] = grouped[name].sem()
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--protocol", choices=("a-to-b", "cv"), default="a-to-b")
    parser.add_argument("--only", help="run only models whose name contains this")
    parser.add_argument("--skip", help="leave out models whose name contains this")
    parser.add_argument("--jobs", type=int, default=2, help="workers for LightGBM and ensembles")
    parser.add_argument("--plot", type=Path, help="draw the reliability curves to this file")
    parser.add_argument("--json", type=Path, help="write every run to this file")
    options = parser.parse_args()

    stays = fetch_physionet2012(data_home=HOME, sets=("a", "b"), download=False)
    X, y, sets = stays.data, stays.target, stays.outcomes["set"]
    print(f"{len(X)} stays, {X['events'].events.lengths.sum():,} events, {y.mean():.1%} died")
    print(f"protocol {options.protocol}; {os.cpu_count()} cores, {platform.machine()}\n")

    runs, curves = [], {}
    for name, model in models(options.jobs).items():
        if (options.only and options.only not in name) or (options.skip and options.skip in name):
            continue
        for split in splits(options.protocol, y, sets):
            scores, curves[name] = measure(model, X, y, split)
            runs.append({"model": name, **scores})
            shown = {k: round(v, 4) for k, v in runs[-1].items() if k != "model"}
            print(f"{name}: {shown}", flush=True)
    table = summary(pd.DataFrame(runs))
    print(f"\n{table.round({'fit s': 1, 'predict s': 2}).round(4).to_string()}")
    print("\nreliability (of the last fold): predicted risk / observed share in tenths")
    for name, curve in curves.items():
        pairs = "  ".join(f"{risk:.3f}/{share:.3f}" for risk, share in curve.T)
        print(f"{name}: {pairs}")
    if options.plot:
        draw_reliability(curves, options.plot)
    keep({"protocol": options.protocol, "runs": runs}, options.json)


if __name__ == "__main__":
    main()
