"""Against gradient boosting on its own ground: PhysioNet 2012, 2 x 5 fixed folds of sets a and b.

Every method is fitted on the same training parts and scored on the same test parts; what counts is
the paired difference to LightGBM on hand-made aggregates.

    python benchmarks/quality/boosting.py --json boosting.json
    python benchmarks/quality/boosting.py --json boosting.json --only lightgbm default
    python benchmarks/quality/boosting.py --json boosting.json --variant plain code_dropout=0.0
    python benchmarks/quality/boosting.py --json boosting.json --keep predictions \
        --vote both lightgbm default
    python benchmarks/quality/boosting.py --json stay.json --target length_of_stay

Targets: ``death`` in hospital; ``length_of_stay``, in days, of those who were discharged alive;
``saps_i``, a score of severity.  Stays whose number is not known are left out of both parts.

Methods: ``lightgbm``, ``hist`` and ``logistic`` (of numbers: ridge regression) on
``EventSummarizer``, with the settings of physionet2012.py; ``embedded``, LightGBM on summaries and
the embeddings of a ``TimeAwareEncoder``, which is pretrained on the training part; ``default``, the
``TimeAwareClassifier`` or ``TimeAwareRegressor`` as it is; a ``--variant``, the same with other
parameters.  A ``--vote`` is the mean of what methods say whose predictions were kept, which is what
scikit-learn's ``VotingClassifier(voting="soft")`` or ``VotingRegressor`` of them says.

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
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from _files import HOME, keep, kept
from lightgbm import LGBMClassifier, LGBMRegressor
from physionet2012 import models
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    log_loss,
    mean_absolute_error,
    r2_score,
    roc_auc_score,
)
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline, make_union

from tawt_sklearn import TimeAwareClassifier, TimeAwareEncoder, TimeAwareRegressor
from tawt_sklearn.datasets import fetch_physionet2012

FOLDS = Path(__file__).parent / "folds" / "physionet2012.csv"
N_REPEATS, N_FOLDS = 2, 5
REFERENCE = "lightgbm"
CLASSES = {
    "AUROC": roc_auc_score,
    "AUPRC": average_precision_score,
    "Brier": brier_score_loss,
    "log loss": log_loss,
}
NUMBERS = {"R2": r2_score, "MAE": mean_absolute_error}
ERRORS = ("MAE",)
"""The less, the better: a gain is how much less."""
NAMES = {
    "lightgbm": "summaries + LightGBM",
    "hist": "summaries + HistGradientBoosting",
    "logistic": "summaries + logistic regression",
    "default": "TimeAwareClassifier",
}
"""What physionet2012.py calls the methods."""


class Task(NamedTuple):
    """What is to be told of the stays."""

    X: pd.DataFrame
    y: pd.Series
    methods: dict[str, Pipeline]
    measures: dict[str, Callable[[np.ndarray, np.ndarray], float]]

    @property
    def of_classes(self) -> bool:
        return self.measures is CLASSES


def task(target: str, n_jobs: int) -> Task:
    """A target with the stays for which it is known."""
    stays = fetch_physionet2012(data_home=HOME, sets=("a", "b"), download=False)
    known = models(n_jobs)
    methods = {name: known[title] for name, title in NAMES.items()}
    *summaries, (_, trees) = methods["lightgbm"].steps
    columns = make_union(Pipeline(summaries), TimeAwareEncoder(random_state=0))
    methods["embedded"] = make_pipeline(columns, clone(trees))
    if target == "death":
        return Task(stays.data, stays.target, methods, CLASSES)
    y = stays.outcomes[target].astype(float)
    there = y >= 0
    if target == "length_of_stay":
        there &= stays.target == 0
    return Task(
        stays.data[there],
        y[there],
        {name: of_numbers(method) for name, method in methods.items()},
        NUMBERS,
    )


def of_numbers(method: Pipeline) -> Pipeline:
    """The regressor with the settings of a classifier, where it has them."""
    regressors = {
        LGBMClassifier: LGBMRegressor,
        HistGradientBoostingClassifier: HistGradientBoostingRegressor,
        LogisticRegression: Ridge,
        TimeAwareClassifier: TimeAwareRegressor,
    }
    *steps, (name, last) = clone(method).steps
    kind = regressors[type(last)]
    if kind is Ridge:
        return Pipeline([*steps, (name, Ridge(alpha=3000.0))])
    if kind is TimeAwareRegressor:
        return Pipeline([*steps, (name, kind(n_jobs=last.n_jobs, random_state=last.random_state))])
    shared = kind().get_params().keys() & last.get_params().keys()
    values = {k: v for k, v in last.get_params().items() if k in shared and k != "loss"}
    return Pipeline([*steps, (name, kind(**values))])


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
        self.cells: list[dict[str, Any]] = (kept(path) or {"cells": []})["cells"]

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
        keep({"cells": self.cells}, self.path)
        if self.keep is not None:
            np.save(self.place(method, part), p)

    def place(self, method: str, part: Part) -> Path:
        """Where the predictions lie."""
        assert self.keep is not None
        folder = self.keep / method
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{part.repeat}-{part.fold}.npy"


def measured(asked: Task, part: Part, told: np.ndarray) -> dict[str, float]:
    truth = asked.y.to_numpy()[part.test]
    return {name: float(measure(truth, told)) for name, measure in asked.measures.items()}


def fitted(model: Pipeline, asked: Task, part: Part) -> tuple[np.ndarray, float]:
    """Probabilities of death, or numbers, of the test part, and seconds of the fit."""
    X, y = asked.X, asked.y.to_numpy()
    start = time.perf_counter()
    model = clone(model).fit(X.iloc[part.train], y[part.train])
    seconds = time.perf_counter() - start
    test = X.iloc[part.test]
    return (model.predict_proba(test)[:, 1] if asked.of_classes else model.predict(test)), seconds


def voted(store: Store, methods: list[str], part: Part) -> np.ndarray:
    """Mean of what several methods say.

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
    return np.mean(kept, axis=0)


def differences(cells: list[dict[str, Any]], asked: Task) -> pd.DataFrame:
    """Means of every method, and the paired difference to the reference with both errors."""
    table = pd.DataFrame(cells).set_index(["method", "repeat", "fold"])
    rows = {}
    for method in dict.fromkeys(table.index.get_level_values("method")):
        own = table.loc[method]
        row = {"parts": len(own), "fit s": own["fit s"].astype(float).mean()}
        for name in asked.measures:
            row[name] = own[name].mean()
        if REFERENCE in table.index and method != REFERENCE:
            for name in list(asked.measures)[:2]:
                gain = (own[name] - table.loc[REFERENCE][name]).dropna()
                gain = -gain if name in ERRORS else gain
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
    every = [*NAMES, "embedded"]
    parser.add_argument("--only", nargs="+", choices=every, default=every)
    parser.add_argument("--variant", nargs="+", action="append", default=[], metavar="NAME SETTING")
    parser.add_argument("--vote", nargs="+", action="append", default=[], metavar="NAME METHOD")
    parser.add_argument("--target", choices=["death", "length_of_stay", "saps_i"], default="death")
    parser.add_argument("--repeats", type=int, nargs="+", default=list(range(N_REPEATS)))
    parser.add_argument("--folds", type=int, nargs="+", default=list(range(N_FOLDS)))
    parser.add_argument("--jobs", type=int, default=1, help="workers for LightGBM and ensembles")
    parser.add_argument("--json", type=Path, help="add each score to this file; skip those in it")
    parser.add_argument("--keep", type=Path, help="folder for predictions, which votes need")
    parser.add_argument("--divide", action="store_true", help="write the folds again, and stop")
    options = parser.parse_args()
    if options.vote and options.keep is None:
        parser.error("Expected --keep with --vote. Got none: votes need predictions.")

    asked = task(options.target, options.jobs)
    if options.divide:
        write_folds(asked.y)
        return
    plan: dict[str, tuple[Pipeline, dict[str, Any]]] = {
        name: (asked.methods[name], {}) for name in options.only
    }
    for name, *settings in options.variant:
        changed = dict(setting(text) for text in settings)
        plan[name] = clone(asked.methods["default"]), changed
        plan[name][0][-1].set_params(**changed)

    store = Store(options.json, options.keep)
    for part in parts(asked.y.index, options.repeats, options.folds):
        for name, (model, changed) in plan.items():
            if store.has(name, changed, part):
                continue
            told, seconds = fitted(model, asked, part)
            scores = {**measured(asked, part, told), "fit s": seconds}
            store.add(name, changed, part, told, scores)
            shown = {k: round(v, 4) for k, v in scores.items()}
            print(f"division {part.repeat}, fold {part.fold}, {name}: {shown}", flush=True)
        for name, *methods in options.vote:
            if not store.has(name, {"vote": methods}, part):
                told = voted(store, methods, part)
                scores = {**measured(asked, part, told), "fit s": None}
                store.add(name, {"vote": methods}, part, told, scores)
    print(f"\n{differences(store.cells, asked).to_string(float_format='{:.4f}'.format)}")


if __name__ == "__main__":
    main()
