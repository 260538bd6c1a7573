"""Seconds of pretraining and of embedding, on 8,000 stays.

    python benchmarks/speed/pretraining.py             # simulated stays
    python benchmarks/speed/pretraining.py --physionet # sets a and b of PhysioNet 2012

Pretraining with one thread and with one for each core (``n_jobs``), which is of use where nothing
else runs.  The seconds of an epoch are the median over epochs; 20 epochs is what
``TimeAwareEncoder`` does by default.  ``transform`` is timed on raw histories, tokenisation
included.  Beside it, in the same run, the supervised training of the same network, and a plain
padded ``nn.TransformerEncoder`` over events of the same width and depth
(``_peers.py``).
"""

from __future__ import annotations

import argparse
import os
import time

import torch
from _peers import padded_throughput
from _stays import Tokens, stays

from tawt_sklearn import TimeAwareClassifier, TimeAwareEncoder, TripletSequencer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--physionet", action="store_true")
    parser.add_argument("--stays", type=int, default=8000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--padded-stays", type=int, default=96)
    options = parser.parse_args()

    X, y = stays(options.physionet, options.stays, sets=("a", "b"))
    n_events = int(X["events"].events.lengths.sum())
    print(f"{len(X)} stays, {n_events:,} events, d_model=48, 2 layers, {os.cpu_count()} cores")

    for n_jobs in sorted({os.cpu_count() or 1, 1}, reverse=True):
        start = time.perf_counter()
        encoder = TimeAwareEncoder(
            max_epochs=options.epochs, min_steps=0, n_jobs=n_jobs, random_state=0
        ).fit(X)
        fit = time.perf_counter() - start
        epoch = encoder.history_["seconds"].median()
        around = fit - encoder.history_["seconds"].sum()
        print(
            f"pretraining, {n_jobs} threads: {epoch:.1f} s an epoch, {n_events / epoch:,.0f} "
            f"events/s; the rest {around:.1f} s; 20 epochs take {20 * epoch + around:.0f} s",
            flush=True,
        )

    clf = TimeAwareClassifier(max_epochs=2, min_steps=0, n_ensemble=1, random_state=0).fit(X, y)
    labelled = clf.history_["seconds"].median()
    print(
        f"supervised training, 1 thread: {labelled:.1f} s an epoch; pretraining takes "
        f"{epoch / labelled:.2f} of that"
    )

    tokens = TripletSequencer().fit_transform(X)
    torch.set_num_threads(1)
    padded = padded_throughput(Tokens.of(tokens, y), min(options.padded_stays, len(X)), 48)
    torch.set_num_threads(os.cpu_count() or 1)
    ratio = n_events / epoch / padded
    print(f"padded nn.TransformerEncoder, 1 thread: {padded:,.0f} events/s; ratio {ratio:.0f}")

    for n_threads in sorted({1, os.cpu_count() or 1}):
        torch.set_num_threads(n_threads)
        seconds = []
        for _ in range(3):
            start = time.perf_counter()
            encoder.transform(X)
            seconds.append(time.perf_counter() - start)
        print(f"transform of {len(X)} raw stays, {n_threads} threads: {min(seconds):.2f} s")


if __name__ == "__main__":
    main()
