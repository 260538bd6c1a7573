"""Sensor panels: remaining life of engines, air quality, labels at every step, missing values.

    python benchmarks/quality/panels.py cmapss --rocket other-venv/bin/python
    python benchmarks/quality/panels.py beijing --ablation
    python benchmarks/quality/panels.py steps
    python benchmarks/quality/panels.py missing --plot missing.svg

Every table has its peers side by side in one run, on the same windows.  Nothing is chosen on test
data: settings of the network and of the peers were chosen on training engines held out (FD001 and
FD003) and on the year 2015 (Beijing), and are fixed here.

- ``cmapss``: C-MAPSS FD001 and FD003, official train and test units.  Histories of up to 200 cycles
  before every second cycle of a training unit, and before the last cycle of a test unit; remaining
  life capped at 125 in both; RMSE over the 100 test units.
- ``beijing``: PM2.5 of the next 24 hours, each and their mean, from 72 hours of eight stations;
  trained on windows whose targets end before 2016, scored on those whose targets start in 2016 or
  later.
- ``steps``: simulated panels where only the order of pulses tells the label of a step; remaining
  life at every cycle of the last 100 of FD001's test units.
- ``missing``: FD001 with a share of all values removed at random, training and test alike.

Needs ``pip install -e ".[benchmark]"`` and copies of the data (``TAWT_DATA``).  ``--rocket`` is the
Python of an environment with aeon, which pins other versions of what this project needs.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from _files import HOME, keep
from lightgbm import LGBMRegressor
from panel_peers import PanelSummaries, ridge_on_minirocket
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from tawt_sklearn import TimeAwareClassifier, TimeAwareRegressor, TimeEmbedder, sliding_windows
from tawt_sklearn.datasets import fetch_beijing_air, fetch_cmapss, make_sensor_panels
from tawt_sklearn.events import Windows

CAP = 125
HISTORY = 200  # cycles


# ---- engines ---------------------------------------------------------------------------------


def engines(subset: str, **settings: Any) -> tuple[Windows, Windows]:
    """Windows of the training units, and the last window of every test unit."""
    frame = fetch_cmapss(data_home=HOME, subset=subset, max_rul=CAP, download=False).frame
    frame = frame.assign(flown=frame["cycle"]).drop(columns=["subset"])
    train, test = (
        frame[frame["split"] == split].drop(columns="split") for split in ("train", "test")
    )
    keys: dict[str, Any] = {"group": "unit", "time": "cycle", "target": "rul", **settings}
    windows = sliding_windows(train, stride=2, min_length=15, **keys)
    return windows, sliding_windows(test, stride=10_000, min_length=1, categories=windows, **keys)


def lifetime_network(n_jobs: int | None = None, **settings: Any) -> TimeAwareRegressor:
    """Chosen on held-out training units; everything else is the default."""
    return TimeAwareRegressor(
        max_epochs=8, early_stopping=False, n_jobs=n_jobs, random_state=0, **settings
    )


def boosting() -> HistGradientBoostingRegressor:
    return HistGradientBoostingRegressor(
        learning_rate=0.03,
        max_leaf_nodes=15,
        min_samples_leaf=100,
        max_iter=200,
        l2_regularization=10.0,
        random_state=0,
    )


def lifetime_peers() -> dict[str, Pipeline]:
    summaries = PanelSummaries(recent=30)
    return {
        "summaries + HistGradientBoosting": make_pipeline(summaries, boosting()),
        "summaries + LightGBM": make_pipeline(
            summaries,
            LGBMRegressor(
                learning_rate=0.03,
                n_estimators=300,
                num_leaves=15,
                min_child_samples=100,
                reg_lambda=10.0,
                colsample_bytree=0.4,
                subsample=0.7,
                subsample_freq=1,
                n_jobs=1,
                verbose=-1,
                random_state=0,
            ),
        ),
        "summaries + ridge": make_pipeline(
            summaries,
            SimpleImputer(keep_empty_features=True),
            StandardScaler(),
            Ridge(alpha=1000.0),
        ),
    }


def cmapss(options: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    for subset in options.subsets:
        train, test = engines(subset, length=HISTORY)
        for name, model in lifetime_peers().items():
            start = time.perf_counter()
            told = model.fit(train.X, train.y).predict(test.X)
            rows.append(lifetime_row(subset, name, test.y, told, start))
        if options.rocket:
            start = time.perf_counter()
            full = train.take(train.lengths >= 50)
            told = ridge_on_minirocket(
                options.rocket, full.X[..., -50:], full.y, full.groups, test.X[..., -50:]
            )
            rows.append(lifetime_row(subset, "MiniRocket of 50 + ridge", test.y, told, start))
        start = time.perf_counter()
        net = lifetime_network(options.jobs).fit(train.series(), train.y)
        told = net.predict(test.series())
        rows.append(lifetime_row(subset, "TimeAwareRegressor", test.y, told, start))
        start = time.perf_counter()
        net.nets_ = net.nets_[:1]
        told = net.predict(test.series())
        rows.append(lifetime_row(subset, "its first member", test.y, told, start))
    return rows


def lifetime_row(
    subset: str, name: str, truth: np.ndarray, told: np.ndarray, start: float
) -> dict[str, Any]:
    told = np.clip(told, 0, CAP)
    row = {
        "subset": subset,
        "model": name,
        "RMSE": root_mean_squared_error(truth, told),
        "error of RMSE": bootstrap(truth - told),
        "MAE": mean_absolute_error(truth, told),
        "seconds": time.perf_counter() - start,
    }
    show(row)
    return row


def bootstrap(errors: np.ndarray) -> float:
    """Standard error of the RMSE over units."""
    rng = np.random.default_rng(0)
    drawn = errors[rng.integers(len(errors), size=(1000, len(errors)))]
    return float(np.sqrt((drawn**2).mean(axis=1)).std())


# ---- air quality -----------------------------------------------------------------------------


def air(drop: tuple[str, ...] = ()) -> tuple[Windows, Windows]:
    """Windows before 2016, and from then on."""
    frame = fetch_beijing_air(data_home=HOME, download=False).frame
    clock = (
        TimeEmbedder(method="calendar")
        .set_output(transform="pandas")
        .fit_transform(frame[["time"]])
    )
    frame = frame.drop(columns=list(drop))
    for name in ("hour", "month"):
        for wave in ("sin", "cos"):
            frame[f"{name}_{wave}"] = clock[f"time_{name}_{wave}"].astype("float32")
    windows = sliding_windows(
        frame, 72, 6, group="station", time="time", target="PM2.5", horizon=24
    )
    return windows.split_at("2016-01-01")


def air_network(train: Windows, n_jobs: int | None, **settings: Any) -> TimeAwareRegressor:
    """Chosen on 2015; everything else is the default."""
    return TimeAwareRegressor(
        categorical_features=train.categorical_features,
        code_dropout=0.2,
        window_dropout=0.2,
        batch_size=256,
        learning_rate=2e-3,
        max_epochs=5,
        early_stopping=False,  # rows held out at random would overlap with the others
        n_jobs=n_jobs,
        random_state=0,
        **{"patching": "feature", **settings},
    )


def aggregates(train: Windows, test: Windows) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Lags and summaries, the last wind direction and the station, and which are categories."""
    lags = PanelSummaries(recent=24, lags=(1, 2, 3, 6, 12, 24, 48, 71))
    stations = np.unique(train.groups).tolist()
    parts = []
    for windows in (train, test):
        station = np.array([stations.index(group) for group in windows.groups], float)
        wind = windows.X[:, windows.categorical_features, -1]
        parts.append(np.column_stack([lags.transform(windows.X), wind, station]))
    d = parts[0].shape[1]
    return parts[0], parts[1], list(range(d - 1 - len(train.categorical_features), d))


def air_boosting(categorical: list[int]) -> HistGradientBoostingRegressor:
    return HistGradientBoostingRegressor(
        categorical_features=categorical,
        learning_rate=0.05,
        max_iter=300,
        max_leaf_nodes=8,
        min_samples_leaf=100,
        l2_regularization=1.0,
        max_features=0.3,
        early_stopping=False,
        random_state=0,
    )


def beijing(options: argparse.Namespace) -> list[dict[str, Any]]:
    train, test = air()
    rows: list[dict[str, Any]] = []
    known = ~np.isnan(test.y)
    enough = known.sum(axis=1) >= 18
    mean = np.nanmean(np.where(enough[:, None], test.y, 0.0), axis=1)

    def score(name: str, seconds: float, hours: np.ndarray | None, average: np.ndarray) -> None:
        row: dict[str, Any] = {"model": name, "seconds": seconds}
        if hours is not None:
            row["R2 hours"] = r2_score(test.y[known], hours[known])
            row["MAE hours"] = mean_absolute_error(test.y[known], hours[known])
        row["R2 mean"] = r2_score(mean[enough], average[enough])
        row["MAE mean"] = mean_absolute_error(mean[enough], average[enough])
        rows.append(row)
        show(row)

    past = pd.DataFrame(test.X[:, 0]).ffill(axis=1).iloc[:, -1].to_numpy()
    past = np.where(np.isnan(past), np.nanmean(train.y), past)
    last = np.repeat(past[:, None], 24, axis=1)
    score("last value", 0.0, last, last.mean(axis=1))
    if not options.skip_peers:
        start = time.perf_counter()
        seen, further, categorical = aggregates(train, test)
        hours = np.empty(test.y.shape)
        for hour in range(24):
            there = ~np.isnan(train.y[:, hour])
            model = air_boosting(categorical).fit(seen[there], train.y[there, hour])
            hours[:, hour] = model.predict(further)
        seconds = time.perf_counter() - start
        score("lags + HistGradientBoosting, one per hour", seconds, hours, hours.mean(axis=1))
        start = time.perf_counter()
        there = (~np.isnan(train.y)).sum(axis=1) >= 18
        model = air_boosting(categorical).fit(seen[there], np.nanmean(train.y[there], axis=1))
        told = model.predict(further)
        score("lags + HistGradientBoosting, mean", time.perf_counter() - start, None, told)

    def network(name: str, fitted: Windows, scored: Windows, **settings: Any) -> None:
        start = time.perf_counter()
        whole = fitted.take(~np.isnan(fitted.y).any(axis=1))
        net = air_network(fitted, options.jobs, **settings).fit(whole.X, whole.y)
        hours = net.predict(scored.X)
        score(name, time.perf_counter() - start, hours, hours.mean(axis=1))

    network("TimeAwareRegressor", train, test)
    if options.ablation:
        one = {"n_ensemble": 1}
        network("one member", train, test, **one)
        network("  with temporal patches besides", train, test, **one, patching="dual")
        network("  with temporal patches alone", train, test, **one, patching="time")
        blind = [filled(part, train) for part in (train, test)]
        network("  missing values as the median", *blind, **one)
        network("  without wind direction", *air(drop=("wd",)), **one)
    return rows


def filled(windows: Windows, train: Windows) -> Windows:
    """Missing numbers replaced by the median of training, so that nothing tells of them."""
    X = windows.X.copy()
    for c in range(X.shape[1]):
        if c not in windows.categorical_features:
            X[:, c][np.isnan(X[:, c])] = np.nanmedian(train.X[:, c])
    return replace(windows, X=X)


# ---- labels at every step ----------------------------------------------------------------------


def steps(options: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    X, y = make_sensor_panels(1500, task="per_step", random_state=0)
    train, test = slice(0, 1000), slice(1000, None)
    there = y >= 0
    near = around(X, 10)
    start = time.perf_counter()
    model = HistGradientBoostingClassifier(random_state=0)
    model.fit(near[train][there[train]], y[train][there[train]])
    accuracy = model.score(near[test][there[test]], y[test][there[test]])
    name = "HistGradientBoosting on the 10 steps around"
    rows.append({"data": "simulated", "model": name, "accuracy": accuracy})
    rows[-1]["seconds"] = time.perf_counter() - start
    show(rows[-1])
    start = time.perf_counter()
    net = TimeAwareClassifier(
        categorical_features=[X.shape[1] - 1], n_jobs=options.jobs, random_state=0
    ).fit(X[train], y[train])
    accuracy = net.score(X[test], y[test])
    rows.append({"data": "simulated", "model": "TimeAwareClassifier", "accuracy": accuracy})
    rows[-1]["seconds"] = time.perf_counter() - start
    show(rows[-1])

    windows, last = engines("FD001", length=100, horizon=None)
    windows = windows.take(slice(None, None, 4))
    for name, fitted in (
        ("HistGradientBoosting on the 10 steps around and means", boosting()),
        ("TimeAwareRegressor", lifetime_network(options.jobs)),
    ):
        start = time.perf_counter()
        labelled, scored = ~np.isnan(windows.y), ~np.isnan(last.y)
        if isinstance(fitted, TimeAwareRegressor):
            cases = [y[-n:] for y, n in zip(windows.y, windows.lengths.tolist(), strict=True)]
            told = np.concatenate(fitted.fit(windows.series(), cases).predict(last.series()))
        else:
            fitted.fit(around(windows.X, 10)[labelled], windows.y[labelled])
            told = fitted.predict(around(last.X, 10)[scored])
        rmse = root_mean_squared_error(last.y[scored], np.clip(told, 0, CAP))
        rows.append({"data": "FD001, last 100 cycles", "model": name, "RMSE": rmse})
        rows[-1]["seconds"] = time.perf_counter() - start
        show(rows[-1])
    return rows


def around(X: np.ndarray, reach: int) -> np.ndarray:
    """Steps up to ``reach`` away, and means of what came before and after: (n, T, features)."""
    T = X.shape[2]
    room = np.pad(X, ((0, 0), (0, 0), (reach, reach)), constant_values=np.nan)
    parts = [room[:, :, k : k + T] for k in range(0, 2 * reach + 1, 2)]
    seen = np.where(np.isnan(X), 0.0, X)
    count = (~np.isnan(X)).astype(float)
    before = seen.cumsum(axis=2) / np.maximum(count.cumsum(axis=2), 1)
    after = seen[..., ::-1].cumsum(axis=2) / np.maximum(count[..., ::-1].cumsum(axis=2), 1)
    return np.concatenate([*parts, before, after[..., ::-1]], axis=1).swapaxes(1, 2)


# ---- missing values ----------------------------------------------------------------------------


def missing(options: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    train, test = engines("FD001", length=HISTORY)
    rng = np.random.default_rng(0)
    train = train.take(slice(None, None, 2))
    chance = [rng.random(part.X.shape) for part in (train, test)]
    flown = train.channels.index("flown")  # is always known
    for share in (0.0, 0.25, 0.5, 0.75, 0.9):
        parts = []
        for part, drawn in zip((train, test), chance, strict=True):
            X = np.where(drawn < share, np.nan, part.X)
            X[:, flown] = part.X[:, flown]
            parts.append(replace(part, X=X))
        fitted, scored = parts
        peer = make_pipeline(PanelSummaries(recent=30), boosting())
        net = lifetime_network(options.jobs, n_ensemble=1)
        for name, told in (
            ("summaries + HistGradientBoosting", peer.fit(fitted.X, fitted.y).predict(scored.X)),
            (
                "TimeAwareRegressor, one member",
                net.fit(fitted.series(), fitted.y).predict(scored.series()),
            ),
        ):
            rmse = root_mean_squared_error(test.y, np.clip(told, 0, CAP))
            rows.append({"removed": share, "model": name, "RMSE": rmse})
            show(rows[-1])
    for name, where in (("training and test", (train, test)), ("test", (test,))):
        parts = [replace(part, X=part.X.copy()) for part in (train, test)]
        for part, given in zip(parts, (train, test), strict=True):
            if any(given is one for one in where):
                part.X[:, train.channels.index("s11")] = np.nan
        net = lifetime_network(options.jobs, n_ensemble=1).fit(parts[0].series(), train.y)
        told = np.clip(net.predict(parts[1].series()), 0, CAP)
        rmse = root_mean_squared_error(test.y, told)
        rows.append({"removed": f"sensor 11 in {name}", "model": "one member", "RMSE": rmse})
        show(rows[-1])
    if options.plot:
        draw(
            pd.DataFrame([row for row in rows if not isinstance(row["removed"], str)]), options.plot
        )
    return rows


def draw(table: pd.DataFrame, path: Path) -> None:
    """RMSE against the share that was removed."""
    figure, axes = plt.subplots(figsize=(5, 3.2), layout="constrained")
    for name, part in table.groupby("model"):
        axes.plot(100 * part["removed"], part["RMSE"], marker="o", label=name)
    axes.set(xlabel="values removed (%)", ylabel="RMSE of remaining life (cycles)", ylim=(0, None))
    axes.legend()
    figure.savefig(path)


# ---- the run ---------------------------------------------------------------------------------


def show(row: dict[str, Any]) -> None:
    cells = [f"{k} {v:.4g}" if isinstance(v, float) else f"{v}" for k, v in row.items()]
    print("  ".join(cells), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    runs = {"cmapss": cmapss, "beijing": beijing, "steps": steps, "missing": missing}
    parser.add_argument("run", choices=runs)
    parser.add_argument("--subsets", nargs="+", default=["FD001", "FD003"])
    parser.add_argument("--rocket", help="Python of an environment with aeon")
    parser.add_argument("--ablation", action="store_true")
    parser.add_argument("--skip-peers", action="store_true")
    parser.add_argument("--jobs", type=int, help="members trained at the same time")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--out", type=Path, help="write the rows to this JSON file")
    options = parser.parse_args()
    rows = runs[options.run](options)
    keep(rows, options.out)


if __name__ == "__main__":
    main()
