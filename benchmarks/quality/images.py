"""Images beside event histories: a label that neither knows alone.

    python benchmarks/quality/images.py                    # quality, gates, missing images
    python benchmarks/quality/images.py --paths 10000      # speed, images as files
    python benchmarks/quality/images.py --paths 10000 --events 5   # memory: little but images

Images are scikit-learn's handwritten digits, histories simulated stays in which lactate rises or
falls.  The label is whether exactly one of two things holds: the digit is 0, 1 or 2; lactate
rises.  With two noise codes beside it, half an hour to eight hours between measurements.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

from tawt_sklearn import ImageEncoder, TimeAwareClassifier, nest_events

N_TRAIN = 1200
SETTINGS = {"d_model": 32, "n_ensemble": 1, "device": "cpu"}


def stays(rising: np.ndarray, rng: np.random.Generator, n_events: int = 8) -> pd.DataFrame:
    """One history for each row, with the trend of lactate that it is told."""
    tables = []
    for code in ("HR", "MAP", "Lactate"):
        time_ = np.sort(rng.uniform(0, 48, size=(len(rising), n_events)), axis=1)
        value = rng.normal(size=time_.shape)
        if code == "Lactate":
            sign = np.where(rising, 1.0, -1.0)[:, None]
            value = 0.5 * value + sign * (time_ - 24) / 12
        row = np.repeat(np.arange(len(rising)), n_events)
        tables.append(
            pd.DataFrame(
                {"subject_id": row, "time": time_.ravel(), "code": code, "value": value.ravel()}
            )
        )
    static = pd.DataFrame(index=pd.RangeIndex(len(rising), name="subject_id"))
    return nest_events(pd.concat(tables), static=static, until=48.0)


def cohort(seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """X with a column of images, and what is behind the label: of images, of events, of both."""
    digits = load_digits()
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(digits.target))
    drawn = digits.target[order] <= 2
    rising = rng.random(len(order)) < 0.35
    X = stays(rising, rng)
    X["digit"] = [digits.images[k] / 16 for k in order]
    return X, pd.DataFrame(
        {"image": drawn, "events": rising, "both": drawn ^ rising}, index=X.index
    )


def score(model: TimeAwareClassifier, X: pd.DataFrame, y: pd.Series) -> float:
    return roc_auc_score(y, model.predict_proba(X)[:, 1])


def without(X: pd.DataFrame, share: float, rng: np.random.Generator) -> pd.DataFrame:
    """The same with images missing at random."""
    gone = rng.random(len(X)) < share
    cells = [None if lost else image for lost, image in zip(gone, X["digit"], strict=True)]
    return X.assign(digit=pd.Series(cells, index=X.index, dtype=object))


def quality(seeds: list[int], max_epochs: int, backbone: str) -> None:
    """AUROC on held-out rows, for each seed."""
    rows, gates = [], []
    for seed in seeds:
        X, behind = cohort(seed)
        train, test = slice(None, N_TRAIN), slice(N_TRAIN, None)
        y, rng = behind["both"], np.random.default_rng(seed)
        settings = {**SETTINGS, "max_epochs": max_epochs, "random_state": seed}
        beside = {"modalities": {"digit": ImageEncoder(backbone=backbone)}, **settings}
        nothing = X.assign(events=stays(rng.random(len(X)) < 0.35, rng)["events"].array)
        fits = {
            "events alone": (TimeAwareClassifier(**settings), X[["events"]]),
            "images alone (histories of nobody)": (TimeAwareClassifier(**beside), nothing),
            **{
                f'fusion="{fusion}"': (TimeAwareClassifier(fusion=fusion, **beside), X)
                for fusion in ("concat", "attention", "gated")
            },
            'fusion="concat", staged': (
                TimeAwareClassifier(modality_training="staged", **beside),
                X,
            ),
        }
        for name, (model, frame) in fits.items():
            start = time.perf_counter()
            model.fit(frame.iloc[train], y.iloc[train])
            row = {"model": name, "seconds": time.perf_counter() - start}
            row["AUROC"] = score(model, frame.iloc[test], y.iloc[test])
            for share in (0.3, 0.6) if name.startswith("fusion") else ():
                lost = without(frame.iloc[test], share, rng)
                row[f"{share:.0%} missing"] = score(model, lost, y.iloc[test])
            rows.append(row)
            print(f"seed {seed}: {row}", flush=True)
        for signal in ("image", "events"):  # the other one is noise
            model = TimeAwareClassifier(fusion="gated", **beside)
            model.fit(X.iloc[train], behind[signal].iloc[train])
            gates.append(
                {
                    "label from": signal,
                    "AUROC": score(model, X.iloc[test], behind[signal].iloc[test]),
                    **model.modality_weights_.rename(lambda name: f"weight of {name}"),
                }
            )
            print(f"seed {seed}: {gates[-1]}", flush=True)
    print(pd.DataFrame(rows).groupby("model", sort=False).mean().round(3).to_string())
    print(pd.DataFrame(gates).groupby("label from", sort=False).mean().round(3).to_string())


# ---- memory and speed --------------------------------------------------------------------------


def write_images(folder: Path, n: int, side: int = 64) -> None:
    """Random images as PNG files."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for k in range(n):
        pixels = rng.integers(256, size=(side, side), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{k}.png")


def memory(kind: str) -> float:
    """MiB of this process: ``VmRSS`` now, ``VmHWM`` at most so far (Linux)."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{kind}:")[2].split()[0]) / 1024


def forget_peak() -> float:
    """Let the peak count from now on; memory now."""
    Path("/proc/self/clear_refs").write_text("5")
    return memory("VmRSS")


def one_fit(folder: Path, n: int, with_images: bool, n_events: int) -> None:
    """One epoch and one prediction of n rows; prints peak memory and events per second."""
    rng = np.random.default_rng(0)
    rising = rng.random(n) < 0.5
    X = stays(rising, rng, n_events)
    # From 10,000 rows on some would be held out, in batches that are larger than those of training.
    settings = {"max_epochs": 1, "min_steps": 0, "early_stopping": False, "random_state": 0}
    settings |= SETTINGS
    if with_images:
        X["film"] = [str(folder / f"{k}.png") for k in range(n)]
        settings["modalities"] = {"film": ImageEncoder()}
    before = forget_peak()
    start = time.perf_counter()
    model = TimeAwareClassifier(**settings).fit(X, rising)
    fitted = time.perf_counter()
    model.predict_proba(X)
    done = time.perf_counter()
    peak = memory("VmHWM")
    E = X["events"].events.lengths.sum()
    trained = model.history_["seconds"].sum()
    print(
        f"{n:6d} rows, {'with' if with_images else 'without'} images: at most {peak - before:.0f} "
        f"MiB more than the {before:.0f} before fit, fit {fitted - start:.1f} s, training "
        f"{E / trained:,.0f} events/s, prediction {E / (done - fitted):,.0f} events/s",
        flush=True,
    )


def paths(n: int, n_events: int) -> None:
    """Each run in a process of its own, as peak memory is that of a process."""
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder), n)
        for rows in (n // 10, n // 2, n):
            for with_images in ("0", "1"):
                command = [sys.executable, __file__, "--one-fit", folder, str(rows), with_images]
                command += ["--events", str(n_events)]
                subprocess.run(command, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--backbone", default="cnn")
    parser.add_argument("--paths", type=int, help="memory and speed with so many files")
    parser.add_argument("--events", type=int, default=100, help="of a code and row, with --paths")
    parser.add_argument("--one-fit", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one_fit:
        folder, n, with_images = given.one_fit
        one_fit(Path(folder), int(n), with_images == "1", given.events)
    elif given.paths:
        paths(given.paths, given.events)
    else:
        quality(list(range(given.seeds)), given.epochs, given.backbone)


if __name__ == "__main__":
    main()
