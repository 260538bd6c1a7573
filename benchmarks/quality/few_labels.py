"""What pretraining without labels is worth when few stays have one: PhysioNet 2012, sets a and b.

One ``TimeAwareEncoder`` is pretrained on all 8,000 stays, without labels.  For each seed half of
the stays are the test set, whose labels only the scores see; the labels of 80, 400, 800, 1,600
and 4,000 stays of the other half, each set within the next, train every method.

    python benchmarks/quality/few_labels.py --json few.json --plot few.svg
    python benchmarks/quality/few_labels.py --json few.json        # goes on where it was stopped
    python benchmarks/quality/few_labels.py --only lightgbm hgb logistic logistic-unlabelled

What to know when reading the result:

- The encoder sees the test stays, without labels; so does ``logistic-unlabelled``, the linear
  baseline of the same kind.  The other baselines see nothing but the labelled stays.
- Standard errors are over seeds, that is splits and labels.  The stays of the seeds overlap and
  all share one encoder, so they say nothing of other hospitals or another pretraining.
- The fixed settings of the trees were chosen for the trees, on splits of other seeds.  "The best
  baseline" of a size is the one with the highest mean score on the test stays, which favours the
  baselines.

Needs ``pip install -e ".[benchmark]"`` and a copy of the data (``TAWT_DATA``, see
``fetch_physionet2012``).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from _files import HOME, keep, kept
from lightgbm import LGBMClassifier
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold, train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from tawt_sklearn import EventSummarizer, TimeAwareClassifier
from tawt_sklearn.datasets import fetch_physionet2012

WINDOWS = (None, 24.0, 8.0)  # whole stay, last day, last 8 hours: the aggregates people make
SIZES = (80, 400, 800, 1600, 4000)
FEW = 800  # up to here the trees have settings for few rows
SCORES = ("AUROC", "AUPRC")
STRENGTHS_WIDE = np.logspace(-4, -1.5, 6)  # C for 2,000 summaries; larger only overfits
STRENGTHS_NARROW = np.logspace(-4, 0, 9)  # C for an embedding


# ---- what the methods learn from ---------------------------------------------------------------


@dataclass
class Cohort:
    """All stays, and what is learned from them without labels: once, by the first who asks."""

    X: pd.DataFrame
    y: np.ndarray
    results: Results
    encoder_file: Path | None
    epochs: int | None
    n_jobs: int

    @cached_property
    def rotated_summaries(self) -> np.ndarray:
        """Summaries of all stays on their principal axes (B, n_features).

        The rotation changes nothing for a ridge penalty, and the first k columns are the PCA.
        """
        table = EventSummarizer(windows=WINDOWS).fit_transform(self.X).to_numpy()
        axes = PCA(svd_solver="covariance_eigh")
        return make_pipeline(*filling_and_scaling(), axes).fit_transform(table)

    @cached_property
    def encoder(self) -> Any:
        """The pretrained encoder, from its file where there is one."""
        from tawt_sklearn import TimeAwareEncoder

        if self.encoder_file is not None and self.encoder_file.exists():
            encoder = TimeAwareEncoder.load(self.encoder_file)
        else:
            encoder = TimeAwareEncoder(n_jobs=self.n_jobs, random_state=0)
            if self.epochs is not None:
                encoder.set_params(max_epochs=self.epochs)
            start = time.perf_counter()
            encoder.fit(self.X)
            print(f"pretrained in {time.perf_counter() - start:.0f} s", flush=True)
            if self.encoder_file is not None:
                encoder.save(self.encoder_file)
        print(encoder.history_.tail(1).round(4).to_string(index=False), flush=True)
        self.results.check_encoder(encoder)
        return encoder

    @cached_property
    def embeddings(self) -> np.ndarray:
        """Embeddings of all stays (B, D)."""
        return self.encoder.transform(self.X)


@dataclass
class Draw:
    """The labels of one seed and size, and the stays to score."""

    cohort: Cohort
    seed: int
    train: np.ndarray
    test: np.ndarray

    @cached_property
    def summaries(self) -> np.ndarray:
        """Summaries of all stays, with the columns of the labelled ones (B, n_features)."""
        X = self.cohort.X
        summarizer = EventSummarizer(windows=WINDOWS).fit(X.iloc[self.train])
        return summarizer.transform(X).to_numpy()

    @property
    def rotated_summaries(self) -> np.ndarray:
        return self.cohort.rotated_summaries

    @property
    def embeddings(self) -> np.ndarray:
        return self.cohort.embeddings

    @property
    def histories(self) -> pd.DataFrame:
        return self.cohort.X


def draws(cohort: Cohort, seed: int, sizes: list[int]) -> Iterator[Draw]:
    """Stratified subsets of one random half, each within the next; the other half is the test."""
    y = cohort.y
    pool, test = train_test_split(np.arange(len(y)), test_size=0.5, stratify=y, random_state=seed)
    pool = np.random.default_rng(seed).permutation(pool)
    died, survived = pool[y[pool] == 1], pool[y[pool] == 0]
    for size in sizes:
        n_died = round(size * len(died) / len(pool))
        train = np.concatenate([died[:n_died], survived[: size - n_died]])
        yield Draw(cohort, seed, np.sort(train), test)


# ---- the methods -------------------------------------------------------------------------------


def clipped(Z: np.ndarray) -> np.ndarray:
    """Four standard deviations at most: with few rows a scale can be far too small."""
    return np.clip(Z, -4.0, 4.0)


def first_columns(Z: np.ndarray, n: int | None = None) -> np.ndarray:
    return Z[:, :n]


def filling_and_scaling() -> list[Any]:
    return [
        SimpleImputer(strategy="median", keep_empty_features=True, add_indicator=True),
        StandardScaler(),
        FunctionTransformer(clipped),
    ]


def logistic(draw: Draw, strengths: np.ndarray, widths: tuple[int | None, ...]) -> GridSearchCV:
    """Logistic regression; C and how many columns it sees are cross-validated on the labels."""
    return GridSearchCV(
        Pipeline(
            [
                ("columns", FunctionTransformer(first_columns)),
                ("regression", LogisticRegression(max_iter=1000)),
            ]
        ),
        {"columns__kw_args": [{"n": n} for n in widths], "regression__C": strengths.tolist()},
        scoring="neg_log_loss",
        cv=StratifiedKFold(5, shuffle=True, random_state=draw.seed),
        n_jobs=draw.cohort.n_jobs,
    )


def summaries_logistic(draw: Draw) -> Pipeline:
    return make_pipeline(*filling_and_scaling(), logistic(draw, STRENGTHS_WIDE, (None,)))


def rotated_logistic(draw: Draw) -> GridSearchCV:
    return logistic(draw, STRENGTHS_WIDE, (20, 100, None))


def embeddings_logistic(draw: Draw) -> GridSearchCV:
    return logistic(draw, STRENGTHS_NARROW, (None,))


def lightgbm(draw: Draw) -> LGBMClassifier:
    """With few rows: small leaves, so that there are splits at all, and few columns for a tree."""
    few = len(draw.train) <= FEW
    return LGBMClassifier(
        n_estimators=500,
        learning_rate=0.02,
        num_leaves=15,
        min_child_samples=5 if few else 10,
        subsample=0.7,
        subsample_freq=1,
        colsample_bytree=0.05 if few else 0.15,
        reg_lambda=1.0 if few else 5.0,
        random_state=draw.seed,
        n_jobs=draw.cohort.n_jobs,
        verbose=-1,
    )


def hist_gradient_boosting(draw: Draw) -> HistGradientBoostingClassifier:
    """63 bins: no worse than 255 on a few thousand rows, and twice as fast."""
    return HistGradientBoostingClassifier(
        learning_rate=0.03,
        max_iter=400,
        max_leaf_nodes=15,
        max_bins=63,
        min_samples_leaf=5 if len(draw.train) <= FEW else 10,
        l2_regularization=5.0,
        max_features=0.3,
        random_state=draw.seed,
    )


def network(draw: Draw, **params: Any) -> TimeAwareClassifier:
    """One member each, to keep it short; the default has three, pretrained or not."""
    return TimeAwareClassifier(n_ensemble=1, random_state=draw.seed, **params)


def tuned(fine_tune: str) -> Callable[[Draw], TimeAwareClassifier]:
    """The classifier on top of the pretrained encoder."""
    return lambda draw: network(draw, pretrained=draw.cohort.encoder, fine_tune=fine_tune)


def default_network(draw: Draw) -> TimeAwareClassifier:
    """Everything at its default: three members."""
    return TimeAwareClassifier(pretrained=draw.cohort.encoder, random_state=draw.seed)


class Method(NamedTuple):
    title: str
    role: str  # baseline, scratch or pretrained
    features: str  # attribute of Draw
    make: Callable[[Draw], Any]


METHODS = {
    "lightgbm": Method("summaries + LightGBM", "baseline", "summaries", lightgbm),
    "hgb": Method(
        "summaries + HistGradientBoosting", "baseline", "summaries", hist_gradient_boosting
    ),
    "logistic": Method(
        "summaries + logistic regression", "baseline", "summaries", summaries_logistic
    ),
    "logistic-unlabelled": Method(
        "summaries of all stays + PCA + logistic regression",
        "baseline",
        "rotated_summaries",
        rotated_logistic,
    ),
    "scratch": Method("TimeAwareClassifier from scratch", "scratch", "histories", network),
    "embeddings": Method(
        "embeddings + logistic regression", "pretrained", "embeddings", embeddings_logistic
    ),
    "head": Method('pretrained, fine_tune="head"', "pretrained", "histories", tuned("head")),
    "full": Method('pretrained, fine_tune="full"', "pretrained", "histories", tuned("full")),
    "default": Method("pretrained, default", "pretrained", "histories", default_network),
    "gradual": Method(
        'pretrained, fine_tune="gradual"', "pretrained", "histories", tuned("gradual")
    ),
}


def measure(method: Method, draw: Draw) -> dict[str, Any]:
    """Fit on the labels of the draw, score on its test stays; shared features are not timed."""
    features, model, y = getattr(draw, method.features), method.make(draw), draw.cohort.y

    def of(rows: np.ndarray) -> Any:
        return features.iloc[rows] if isinstance(features, pd.DataFrame) else features[rows]

    start = time.perf_counter()
    model.fit(of(draw.train), y[draw.train])
    fitted = time.perf_counter()
    p = model.predict_proba(of(draw.test))[:, 1]
    predicted = time.perf_counter()
    truth = y[draw.test]
    search = model[-1] if isinstance(model, Pipeline) else model
    return {
        "AUROC": roc_auc_score(truth, p),
        "AUPRC": average_precision_score(truth, p),
        "log loss": log_loss(truth, p),
        "fit s": fitted - start,
        "predict s": predicted - fitted,
        "chosen": getattr(search, "best_params_", None),
    }


# ---- results -----------------------------------------------------------------------------------


class Results:
    """Scores of the finished cells (seed, size, method), kept in a file if there is one."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.encoder: dict[str, Any] | None = None
        self.cells: list[dict[str, Any]] = []
        if (stored := kept(path)) is not None:
            self.encoder, self.cells = stored["encoder"], stored["cells"]

    def has(self, seed: int, size: int, method: str) -> bool:
        wanted = (seed, size, method)
        return any((c["seed"], c["size"], c["method"]) == wanted for c in self.cells)

    def add(self, cell: dict[str, Any]) -> None:
        self.cells.append(cell)
        keep({"encoder": self.encoder, "cells": self.cells}, self.path)

    def check_encoder(self, encoder: Any) -> None:
        """Refuse to put the cells of two encoders into one table."""
        params = encoder.get_params(deep=False)
        for name in ("device", "n_jobs", "verbose", "callbacks"):  # where and how loud, not what
            params.pop(name, None)
        found = {
            "parameters": {name: repr(value) for name, value in sorted(params.items())},
            "epochs": len(encoder.history_),
        }
        if self.encoder not in (None, found):
            raise SystemExit(
                f"Expected the encoder that {self.path} has results of, {self.encoder}. Got "
                f"{found}. Give another --json, or the options of the earlier run."
            )
        self.encoder = found

    def table(self, seeds: list[int], sizes: list[int]) -> pd.DataFrame:
        """Rows (size, seed), columns (score, method), of the cells there are."""
        columns = ["seed", "size", "method", *SCORES]
        cells = pd.DataFrame(self.cells, columns=columns)
        cells = cells[cells["seed"].isin(seeds) & cells["size"].isin(sizes)]
        wide = cells.pivot(index=["size", "seed"], columns="method", values=list(SCORES))
        order = [(score, name) for score in SCORES for name in METHODS]
        return wide[[column for column in order if column in wide.columns]]


def with_error(values: pd.Series, form: str = "{:.4f}") -> str:
    """Mean and standard error over seeds; the mean alone of one seed."""
    values = values.dropna()
    if not len(values):
        return ""
    mean = form.format(values.mean())
    return f"{mean} ± {values.sem():.4f}" if len(values) > 1 else mean


def shown(scores: pd.DataFrame, form: str = "{:.4f}") -> str:
    """Methods down, sizes across."""
    table = {
        size: {METHODS[name].title: with_error(part[name], form) for name in part}
        for size, part in scores.groupby(level="size")
    }
    return pd.DataFrame(table).to_string()


def best_baselines(table: pd.DataFrame) -> dict[int, str]:
    """The baseline of highest mean AUROC for each size, of those that all seeds have."""
    best = {}
    for size, part in table["AUROC"].groupby(level="size"):
        complete = part[[n for n in part if METHODS[n].role == "baseline"]].dropna(axis=1)
        if complete.shape[1]:
            best[size] = complete.mean().idxmax()
    return best


def differences(scores: pd.DataFrame, reference: dict[int, str]) -> pd.DataFrame:
    """Scores of the pretrained methods less those of each size's reference, seed by seed."""
    names = [name for name in scores if METHODS[name].role == "pretrained"]
    parts = [
        part[names].sub(part[reference[size]], axis=0)
        for size, part in scores.groupby(level="size")
        if size in reference
    ]
    return pd.concat(parts) if parts and names else scores.iloc[:0, :0]


def report(table: pd.DataFrame) -> None:
    best = best_baselines(table)
    sizes = table.index.unique("size") if ("AUROC", "scratch") in table else []
    references = {
        "the classifier from scratch": dict.fromkeys(sizes, "scratch"),
        "the best baseline": best,
    }
    for score in SCORES:
        print(f"\n{score}, mean ± standard error over seeds, by number of labels")
        print(shown(table[score]))
        for name, reference in references.items():
            paired = differences(table[score], reference)
            if paired.size:
                print(f"\n{score}, paired difference from {name}")
                print(shown(paired, "{:+.4f}"))
    if best:
        named = ", ".join(f"{size}: {METHODS[name].title}" for size, name in best.items())
        print(f"\nbest baseline (by AUROC): {named}")


def draw_curves(table: pd.DataFrame, path: Path) -> None:
    """Scores by number of labels, with standard errors."""
    styles = {"baseline": "--", "scratch": ":", "pretrained": "-"}
    figure, panels = plt.subplots(1, len(SCORES), figsize=(12, 5))
    for axes, score in zip(panels, SCORES, strict=True):
        for k, name in enumerate(table[score]):
            seeds = table[score][name].dropna().groupby(level="size")
            mean, error = seeds.mean(), seeds.sem()
            method = METHODS[name]
            axes.errorbar(
                mean.index * 1.02 ** (k - len(table[score].columns) / 2),  # side by side
                mean,
                yerr=error.fillna(0.0),
                label=method.title,
                linestyle=styles[method.role],
                marker="o",
                markersize=3,
                capsize=2,
            )
        sizes = table.index.unique("size")
        axes.set(xlabel="labelled stays", ylabel=score, xscale="log")
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.minorticks_off()
    figure.legend(
        *panels[0].get_legend_handles_labels(),
        loc="upper center",
        bbox_to_anchor=(0.5, 0.03),
        ncols=3,
        fontsize="small",
    )
    figure.savefig(path, bbox_inches="tight")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="labels")
    parser.add_argument("--only", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--skip", nargs="+", choices=METHODS, default=[])
    parser.add_argument("--epochs", type=int, help="of pretraining; the encoder's default if none")
    parser.add_argument("--encoder", type=Path, help="load the encoder there, or save it there")
    parser.add_argument("--jobs", type=int, default=1, help="workers for searches and ensembles")
    parser.add_argument("--plot", type=Path, help="draw the learning curves to this file")
    parser.add_argument("--json", type=Path, help="add each score to this file; skip those in it")
    options = parser.parse_args()

    stays = fetch_physionet2012(data_home=HOME, sets=("a", "b"), download=False)
    X, y = stays.data, stays.target.to_numpy()
    print(f"{len(X)} stays, {X['events'].events.lengths.sum():,} events, {y.mean():.1%} died\n")
    # With fewer, a fold of the inner cross-validation might have no death.
    if not 50 <= min(options.sizes) <= max(options.sizes) <= len(X) // 2:
        parser.error(f"Expected --sizes from 50 to {len(X) // 2}. Got {options.sizes}.")

    results = Results(options.json)
    cohort = Cohort(X, y, results, options.encoder, options.epochs, options.jobs)
    names = [name for name in METHODS if name in options.only and name not in options.skip]
    if not names:
        parser.error(f"Expected a method to run. Got --only and --skip {options.skip}.")
    for seed in options.seeds:
        for draw in draws(cohort, seed, options.sizes):
            size = len(draw.train)
            for name in names:
                if results.has(seed, size, name):
                    continue
                cell = {"seed": seed, "size": size, "method": name}
                cell |= measure(METHODS[name], draw)
                results.add(cell)
                scores = {k: round(cell[k], 4) for k in (*SCORES, "log loss")}
                seconds = cell["fit s"]
                print(f"seed {seed}, {size} labels, {name}: {scores}, {seconds:.1f} s", flush=True)
    table = results.table(options.seeds, options.sizes)
    report(table)
    if options.plot:
        draw_curves(table, options.plot)


if __name__ == "__main__":
    main()
