"""Against gradient boosting on its own ground: PhysioNet 2012, 2 x 5 fixed folds of sets a and b.

Every method is fitted on the same training parts and scored on the same test parts; what counts is
the paired difference to LightGBM on hand-made aggregates.

    python benchmarks/quality/boosting.py --json boosting.json
    python benchmarks/quality/boosting.py --json boosting.json --only lightgbm default
    python benchmarks/quality/boosting.py --json boosting.json --variant plain code_dropout=0.0
    python benchmarks/quality/boosting.py --json boosting.json --keep predictions \
        --blend both lightgbm default

Methods: ``lightgbm``, ``hist`` and ``logistic`` on ``EventSummarizer``, with the settings of
physionet2012.py; ``default``, the ``TimeAwareClassifier`` as it is; a ``--variant``, the same with
other parameters.  ``--blend`` averages the log-odds of methods whose predictions were kept.

What to know when reading the result:

- The folds are those of ``folds/physionet2012.csv``: two divisions of the 8,000 stays into five
  parts with the same share of deaths.  No method sees labels of the part that it is scored on;
  settings of the library that are chosen by these differences are chosen on these stays, so that
  only further stays could say what the chosen ones are worth.
- The first error is the standard error over folds, which takes them for independent.  They are
  not, as training parts overlap: the second one is corrected for that (Nadeau & Bengio, "Inference
  for the generalization error", 2003).
- Seconds are of one process, by the clock on the wall.

Needs ``pip install -e ".[benchmark]"`` and a copy of the data (``TAWT_DATA``, see
``fetch_physionet2012``).
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from physionet2012 import models
from scipy.special import expit, logit
from sklearn.base import clone
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import Pipeline

from tawt_sklearn.datasets import fetch_physionet2012

FOLDS = Path(__file__).parent / "folds" / "physionet2012.csv"
N_REPEATS, N_FOLDS = 2, 5
REFERENCE = "lightgbm"
MEASURES = {
    "AUROC": roc_auc_score,
    "AUPRC": average_precision_score,
    "Brier": brier_score_loss,
    "log loss": log_loss,
}
NAMES = {
    "lightgbm": "summaries + LightGBM",
    "hist": "summaries + HistGradientBoosting",
    "logistic": "summaries + logistic regression",
    "default": "TimeAwareClassifier",
}
"""What physionet2012.py calls the methods."""


class Part(NamedTuple):
    """One fold of one division: positions of the stays to train on and to score."""

    repeat: int
    fold: int
    train: np.ndarray
    test: np.ndarray


def write_folds(y: pd.Series) -> None:
    """Divide the stays, once and for all."""
    table = pd.DataFrame(index=y.index)
    for repeat in range(N_REPEATS):
        fold = np.empty(len(y), np.int64)
        division = StratifiedKFold(N_FOLDS, shuffle=True, random_state=repeat)
        for k, (_, test) in enumerate(division.split(y, y)):
            fold[test] = k
        table[f"division_{repeat}"] = fold
    FOLDS.parent.mkdir(exist_ok=True)
    table.to_csv(FOLDS, index_label="subject_id")


def parts(index: pd.Index, repeats: list[int], folds: list[int]) -> Iterator[Part]:
    """The parts to run, in order."""
    table = pd.read_csv(FOLDS, index_col="subject_id").loc[index]
    for repeat in repeats:
        own = table[f"division_{repeat}"].to_numpy()
        for fold in folds:
            yield Part(repeat, fold, np.flatnonzero(own != fold), np.flatnonzero(own == fold))


class Store:
    """Scores of every method and part, in a file, and predictions in a folder."""

    def __init__(self, path: Path | None, keep: Path | None) -> None:
        self.path, self.keep = path, keep
        self.cells: list[dict[str, Any]] = []
        if path is not None and path.exists():
            self.cells = json.loads(path.read_text())["cells"]

    def has(self, method: str, settings: dict[str, Any], part: Part) -> bool:
        """Whether this was run before.

        Raises
        ------
        SystemExit
            If the name stands for other settings in the file.
        """
        own = [cell for cell in self.cells if cell["method"] == method]
        if any(cell["settings"] != settings for cell in own):
            raise SystemExit(
                f"Expected {method!r} to be {own[0]['settings']} as in {self.path}. Got "
                f"{settings}. Give the variant another name."
            )
        return any((cell["repeat"], cell["fold"]) == part[:2] for cell in own)

    def add(
        self, method: str, settings: dict[str, Any], part: Part, p: np.ndarray, scores: dict
    ) -> None:
        where = {"method": method, "settings": settings, "repeat": part.repeat, "fold": part.fold}
        self.cells.append({**where, **scores})
        if self.path is not None:
            # At one go, so that a run that is killed here leaves a file that can be read.
            draft = self.path.with_name(self.path.name + ".part")
            draft.write_text(json.dumps({"cells": self.cells}, indent=1))
            os.replace(draft, self.path)
        if self.keep is not None:
            np.save(self.place(method, part), p)

    def place(self, method: str, part: Part) -> Path:
        """Where the predictions lie."""
        assert self.keep is not None
        folder = self.keep / method
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{part.repeat}-{part.fold}.npy"


def measured(truth: np.ndarray, p: np.ndarray) -> dict[str, float]:
    return {name: float(measure(truth, p)) for name, measure in MEASURES.items()}


def fitted(model: Pipeline, X: pd.DataFrame, y: np.ndarray, part: Part) -> tuple[np.ndarray, float]:
    """Probabilities of death of the test part, and seconds of the fit."""
    start = time.perf_counter()
    model = clone(model).fit(X.iloc[part.train], y[part.train])
    seconds = time.perf_counter() - start
    return model.predict_proba(X.iloc[part.test])[:, 1], seconds


def blended(store: Store, methods: list[str], part: Part) -> np.ndarray:
    """Mean log-odds of several methods, as probabilities.

    Raises
    ------
    SystemExit
        If predictions were not kept.
    """
    lost = [method for method in methods if not store.place(method, part).exists()]
    if lost:
        raise SystemExit(
            f"Expected predictions of {methods} in {store.keep}. Got none of {lost} for division "
            f"{part.repeat}, fold {part.fold}. Run these with --keep, into another --json."
        )
    kept = [np.load(store.place(method, part)) for method in methods]
    return expit(np.mean([logit(np.clip(p, 1e-7, 1 - 1e-7)) for p in kept], axis=0))


def differences(cells: list[dict[str, Any]]) -> pd.DataFrame:
    """Means of every method, and the paired difference to the reference with both errors."""
    table = pd.DataFrame(cells).set_index(["method", "repeat", "fold"])
    rows = {}
    for method in dict.fromkeys(table.index.get_level_values("method")):
        own = table.loc[method]
        row = {"parts": len(own), "fit s": own["fit s"].astype(float).mean()}
        for name in ("AUROC", "AUPRC", "Brier", "log loss"):
            row[name] = own[name].mean()
        if REFERENCE in table.index and method != REFERENCE:
            for name in ("AUROC", "AUPRC"):
                gain = (own[name] - table.loc[REFERENCE][name]).dropna()
                n = len(gain)
                corrected = gain.std() * (1 / n + 1 / (N_FOLDS - 1)) ** 0.5
                row[f"{name} gain"] = (
                    f"{gain.mean():+.4f} ± {gain.sem():.4f} ({corrected:.4f}), "
                    f"{(gain > 0).sum()} of {n}"
                )
        rows[method] = row
    return pd.DataFrame(rows).T


def setting(text: str) -> tuple[str, Any]:
    """``name=value``, the value as Python writes it, or else a text."""
    name, _, value = text.partition("=")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--variant", nargs="+", action="append", default=[], metavar="NAME SETTING")
    parser.add_argument("--blend", nargs="+", action="append", default=[], metavar="NAME METHOD")
    parser.add_argument("--repeats", type=int, nargs="+", default=list(range(N_REPEATS)))
    parser.add_argument("--folds", type=int, nargs="+", default=list(range(N_FOLDS)))
    parser.add_argument("--jobs", type=int, default=1, help="workers for LightGBM and ensembles")
    parser.add_argument("--json", type=Path, help="add each score to this file; skip those in it")
    parser.add_argument("--keep", type=Path, help="folder for predictions, which blends need")
    parser.add_argument("--divide", action="store_true", help="write the folds again, and stop")
    options = parser.parse_args()
    if options.blend and options.keep is None:
        parser.error("Expected --keep with --blend. Got none: blends need predictions.")

    home = os.environ.get("TAWT_DATA", Path(__file__).resolve().parents[3] / "shared" / "data")
    stays = fetch_physionet2012(data_home=home, sets=("a", "b"), download=False)
    X, y = stays.data, stays.target
    if options.divide:
        write_folds(y)
        return
    known = models(options.jobs)
    plan: dict[str, tuple[Pipeline, dict[str, Any]]] = {
        name: (known[NAMES[name]], {}) for name in options.only
    }
    for name, *settings in options.variant:
        changed = dict(setting(text) for text in settings)
        plan[name] = clone(known[NAMES["default"]]), changed
        plan[name][0][-1].set_params(**changed)

    store, truth = Store(options.json, options.keep), y.to_numpy()
    for part in parts(y.index, options.repeats, options.folds):
        for name, (model, changed) in plan.items():
            if store.has(name, changed, part):
                continue
            p, seconds = fitted(model, X, truth, part)
            scores = {**measured(truth[part.test], p), "fit s": seconds}
            store.add(name, changed, part, p, scores)
            shown = {k: round(v, 4) for k, v in scores.items()}
            print(f"division {part.repeat}, fold {part.fold}, {name}: {shown}", flush=True)
        for name, *methods in options.blend:
            if not store.has(name, {"blend": methods}, part):
                p = blended(store, methods, part)
                scores = {**measured(truth[part.test], p), "fit s": None}
                store.add(name, {"blend": methods}, part, p, scores)
    print(f"\n{differences(store.cells).to_string(float_format='{:.4f}'.format)}")


if __name__ == "__main__":
    main()
