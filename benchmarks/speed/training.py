"""Training throughput and the time of a single prediction.

    python benchmarks/speed/training.py             # 4,000 simulated stays
    python benchmarks/speed/training.py --physionet # set a of PhysioNet 2012, 4,000 real stays

Events per second are the events of the training set divided by the seconds of an epoch (median
over epochs, forward, backward and optimiser, batches cut on the way).  Beside it, in the same
run, a plain padded ``nn.TransformerEncoder`` over events of the same width and depth without
attention dropout, on as many stays as it manages in reasonable time (``engine.py`` compares more
thoroughly).
"""

from __future__ import annotations

import argparse
import os
import time

import numpy as np
import pandas as pd
import torch
from _peers import padded_throughput
from _stays import Tokens, stays

from tawt_sklearn import TimeAwareClassifier, TripletSequencer


def latency(clf: TimeAwareClassifier, tokens: pd.DataFrame) -> float:
    """Median seconds of a prediction for one stay."""
    clf.predict_proba(tokens.iloc[:1])
    seconds = []
    for row in range(50):
        start = time.perf_counter()
        clf.predict_proba(tokens.iloc[row : row + 1])
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--physionet", action="store_true")
    parser.add_argument("--stays", type=int, default=4000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--padded-stays", type=int, default=96)
    options = parser.parse_args()

    X, y = stays(options.physionet, options.stays)
    tokens = TripletSequencer().fit_transform(X)
    n_events = int(tokens["events"].events.lengths.sum())
    clf = TimeAwareClassifier(
        d_model=48, n_layers=2, max_epochs=options.epochs, n_ensemble=1, random_state=0
    )
    clf.fit(tokens, y)
    ours = n_events / clf.history_["seconds"].median()
    print(f"{len(X)} stays, {n_events:,} events, d_model=48, 2 layers, {os.cpu_count()} cores")
    print(f"training: {ours:,.0f} events/s ({clf.history_['seconds'].median():.1f} s an epoch)")

    torch.set_num_threads(1)
    padded = padded_throughput(Tokens.of(tokens, y), min(options.padded_stays, len(X)), 48)
    print(
        f"padded nn.TransformerEncoder, 1 thread: {padded:,.0f} events/s; ratio {ours / padded:.0f}"
    )

    print(f"predict_proba of one stay, one member: median {1e3 * latency(clf, tokens):.1f} ms")
    clf.nets_ = clf.nets_ * 3
    print(f"predict_proba of one stay, three members: median {1e3 * latency(clf, tokens):.1f} ms")
    clf.nets_ = clf.nets_[:1]
    start = time.perf_counter()
    clf.predict_proba(tokens)
    print(f"predict_proba of {len(X)} stays: {time.perf_counter() - start:.2f} s")


if __name__ == "__main__":
    main()
