"""What each default of TimeAwareEncoder is worth: an ablation on PhysioNet 2012, set a.

Each variant differs from the defaults in one thing.  It is pretrained on the 4,000 stays of set a
without labels and judged by logistic regression on its embeddings: for each of ten draws the labels
of 80, 400 and 800 stays train it, each set within the next, and it is scored on the 3,200 stays
that remain.  Set b is never touched, so what is chosen here can be measured there.

    python benchmarks/quality/pretraining.py --json ablation.json
    python benchmarks/quality/pretraining.py --json ablation.json    # goes on where it was stopped
    python benchmarks/quality/pretraining.py --only default no-summary pooling=cls

What to know when reading the result:

- Differences are paired: same draw, same labels, same stays to score.  Their standard errors are
  over draws, which share their stays and one pretraining; they say nothing of other pretrainings.
  ``seed=1`` and ``seed=2`` are the defaults from other seeds: a difference no larger than theirs
  is none.
- The encoder sees all stays, those to score included, without labels.
- With more than one thing changed at a time the sum may be another.

Needs ``pip install -e ".[benchmark]"`` and a copy of the data (``TAWT_DATA``, see
``fetch_physionet2012``).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _files import HOME, keep, kept
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold, train_test_split

from tawt_sklearn import TimeAwareEncoder, TripletSequencer
from tawt_sklearn.datasets import fetch_physionet2012
from tawt_sklearn.objectives import HideCodes, HideEvents, HideWindows, MaskedReconstruction

SIZES = (80, 400, 800)
SEEDS = range(90, 100)
SCORES = ("AUROC", "AUPRC")
STRENGTHS = np.logspace(-4, 0, 9)  # C

# Values that are tried for a parameter; the default's own is left out.
VALUES: dict[str, tuple[Any, ...]] = {
    "pooling": ("codewise", "cls", "mean", "max", "attention", "codes"),
    "d_embedding": (32, 64, 128),
    "scaling": ("reliability", "unit"),
    "dropout": (0.0, 0.1),
    "learning_rate": (1e-3, 2e-3),
    "max_epochs": (5, 20),
    "value_scaling": ("robust", "quantile"),  # of the sequencer
}


def variants() -> dict[str, dict[str, Any]]:
    """Parameters that differ from the defaults, by the name in the table."""
    masked = MaskedReconstruction()
    found: dict[str, dict[str, Any]] = {"default": {}}
    found |= {f"seed={seed}": {"random_state": seed} for seed in (1, 2)}
    for part in ("value", "code", "presence", "summary"):
        found[f"no-{part}"] = {"objective": replace(masked, **{part: 0.0})}
    for name, mask in (("event", HideEvents), ("window", HideWindows), ("code", HideCodes)):
        kept = tuple(one() for one in (HideEvents, HideWindows, HideCodes) if one is not mask)
        found[f"no-{name}-mask"] = {"objective": replace(masked, masks=kept)}
    found["no-mask"] = {"objective": replace(masked, masks=())}
    found |= {name: {"objective": name} for name in ("contrastive", "forecast")}
    found |= {
        "masked+contrastive": {"objective": {"masked": 1.0, "contrastive": 0.1}},
        "masked+forecast": {"objective": {"masked": 1.0, "forecast": 1.0}},
        "all-three": {"objective": {"masked": 1.0, "forecast": 1.0, "contrastive": 0.1}},
    }
    # Where it is given no sequencer the encoder takes one that scales by quantiles.
    defaults = TimeAwareEncoder().get_params() | {"value_scaling": "quantile"}
    for name, values in VALUES.items():
        for value in values:
            if value == defaults[name]:
                continue
            params = {name: value}
            if name == "value_scaling":
                params = {"sequencer": TripletSequencer(value_scaling=value)}
            found[f"{name}={value}"] = params
    return found


def draws(y: np.ndarray) -> Iterator[tuple[int, int, np.ndarray, np.ndarray]]:
    """Seed, size, stays with labels and stays to score."""
    for seed in SEEDS:
        pool, test = train_test_split(
            np.arange(len(y)), train_size=max(SIZES), stratify=y, random_state=seed
        )
        died, survived = pool[y[pool] == 1], pool[y[pool] == 0]  # shuffled already
        for size in SIZES:
            n_died = round(size * len(died) / len(pool))
            yield seed, size, np.concatenate([died[:n_died], survived[: size - n_died]]), test


def judge(Z: np.ndarray, y: np.ndarray, n_jobs: int) -> list[dict[str, Any]]:
    """Scores of logistic regression on embeddings (B, D), one for each draw and size."""
    cells = []
    for seed, size, train, test in draws(y):
        model = GridSearchCV(
            LogisticRegression(max_iter=1000),
            {"C": STRENGTHS.tolist()},
            scoring="neg_log_loss",
            cv=StratifiedKFold(5, shuffle=True, random_state=seed),
            n_jobs=n_jobs,
        )
        p = model.fit(Z[train], y[train]).predict_proba(Z[test])[:, 1]
        cells.append(
            {
                "seed": seed,
                "size": size,
                "AUROC": roc_auc_score(y[test], p),
                "AUPRC": average_precision_score(y[test], p),
            }
        )
    return cells


def measure(
    encoder: TimeAwareEncoder, X: pd.DataFrame, y: np.ndarray, n_jobs: int
) -> dict[str, Any]:
    """Pretrain, embed, judge."""
    start = time.perf_counter()
    encoder.fit(X)
    seconds = time.perf_counter() - start
    last = encoder.history_.iloc[-1]
    return {
        "parameters": described(encoder),
        "seconds": seconds,
        "history": {name: float(value) for name, value in last.items()},
        "cells": judge(encoder.transform(X), y, n_jobs),
    }


def described(encoder: TimeAwareEncoder) -> dict[str, str]:
    """What was trained, to be compared with that of another day."""
    params = encoder.get_params(deep=False)
    for name in (
        "device",
        "n_jobs",
        "verbose",
        "callbacks",
        "checkpoint_dir",
    ):  # where and how loud
        params.pop(name)
    return {name: repr(value) for name, value in sorted(params.items())}


# ---- results -----------------------------------------------------------------------------------


class Results:
    """What is known of each variant, kept in a file if there is one."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.variants: dict[str, dict[str, Any]] = kept(path) or {}

    def has(self, name: str, encoder: TimeAwareEncoder) -> bool:
        """Whether a variant is there, and is still what it was."""
        if name not in self.variants:
            return False
        there, now = self.variants[name]["parameters"], described(encoder)
        changed = {p for p in there.keys() | now.keys() if there.get(p) != now.get(p)}
        if changed:
            raise SystemExit(
                f"Expected the parameters that {self.path} has results of. Got others for "
                f"{name!r}: {', '.join(sorted(changed))}. Give another --json."
            )
        return True

    def add(self, name: str, result: dict[str, Any]) -> None:
        self.variants[name] = result
        keep(self.variants, self.path)

    def table(self, score: str) -> pd.DataFrame:
        """Rows (size, seed), columns variants."""
        columns = {
            name: pd.DataFrame(self.variants[name]["cells"]).set_index(["size", "seed"])[score]
            for name in variants()
            if name in self.variants
        }
        return pd.DataFrame(columns)


def with_error(values: pd.DataFrame, form: str) -> pd.DataFrame:
    """Variants down, sizes across: mean and standard error over draws."""
    table = {
        f"{size} labels": {
            name: f"{form.format(part[name].mean())} ± {part[name].sem():.4f}" for name in part
        }
        for size, part in values.groupby(level="size")
    }
    return pd.DataFrame(table)


def report(results: Results) -> None:
    for score in SCORES:
        table = results.table(score)
        print(f"\n{score}, mean ± standard error over draws")
        print(with_error(table, "{:.4f}").to_string())
        if "default" in table and table.shape[1] > 1:
            differences = table.drop(columns="default").sub(table["default"], axis=0)
            print(f"\n{score}, paired difference from the defaults")
            print(with_error(differences, "{:+.4f}").to_string())
    training = {
        name: {
            "seconds": result["seconds"],
            **{k: result["history"][k] for k in ("effective_rank", "alignment", "uniformity")},
        }
        for name, result in results.variants.items()
    }
    print(f"\npretraining\n{pd.DataFrame(training).T.round(2).to_string()}")


def main() -> None:
    names = list(variants())
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--skip", nargs="+", choices=names, default=[])
    parser.add_argument("--epochs", type=int, help="of all but max_epochs=...; default if none")
    parser.add_argument("--jobs", type=int, default=1, help="workers for the search over C")
    parser.add_argument("--checkpoints", type=Path, help="folder to resume a pretraining from")
    parser.add_argument("--json", type=Path, help="add each variant to this file; skip those in it")
    options = parser.parse_args()

    X, y = fetch_physionet2012(data_home=HOME, sets=("a",), download=False, return_X_y=True)
    y = y.to_numpy()
    print(f"{len(X)} stays, {X['events'].events.lengths.sum():,} events, {y.mean():.1%} died\n")

    # As many epochs as asked for, even where these are fewer steps than min_steps.
    base = {} if options.epochs is None else {"max_epochs": options.epochs, "min_steps": 0}
    results = Results(options.json)
    for name, params in variants().items():
        if name not in options.only or name in options.skip:
            continue
        encoder = TimeAwareEncoder(**({"random_state": 0} | base | params))
        encoder.set_params(checkpoint_dir=options.checkpoints, n_jobs=options.jobs)
        if results.has(name, encoder):
            continue
        results.add(name, measure(encoder, X, y, options.jobs))
        table = results.table("AUROC")[name].groupby(level="size").mean()
        scores = ", ".join(f"{value:.4f} of {size}" for size, value in table.items())
        seconds = results.variants[name]["seconds"]
        print(f"{name}: AUROC {scores} labels, {seconds:.0f} s", flush=True)
    if results.variants:
        report(results)


if __name__ == "__main__":
    main()
