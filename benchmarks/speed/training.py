"""Training throughput and the time of a single prediction.

    python benchmarks/speed/training.py             # 4,000 simulated stays
    python benchmarks/speed/training.py --physionet # set a of PhysioNet 2012, 4,000 real stays

Events per second are the events of the training set divided by the seconds of an epoch (median
over epochs, forward, backward and optimiser, batches cut on the way).  Beside it, in the same
run, a plain padded ``nn.TransformerEncoder`` over events of the same width and depth without
attention dropout, on as many stays as it manages in reasonable time.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from tawt_sklearn import TimeAwareClassifier, TripletSequencer
from tawt_sklearn.datasets import fetch_physionet2012, make_icu_stays


def stays(real: bool, n: int) -> tuple[pd.DataFrame, pd.Series]:
    """Histories with labels."""
    if not real:
        return make_icu_stays(n, random_state=0)
    home = os.environ.get("TAWT_DATA", Path(__file__).resolve().parents[3] / "shared" / "data")
    X, y = fetch_physionet2012(data_home=home, sets=("a",), download=False, return_X_y=True)
    return X.iloc[:n], y.iloc[:n]


class PaddedTransformer(nn.Module):
    """What one writes first: one token for each event, padded to the longest of the batch."""

    def __init__(self, n_codes: int, d_model: int, n_layers: int) -> None:
        super().__init__()
        self.code = nn.Embedding(n_codes, d_model)
        self.number = nn.Linear(2, d_model)
        layer = nn.TransformerEncoderLayer(
            d_model, 4, 2 * d_model, dropout=0.0, batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, n_layers, enable_nested_tensor=False)
        self.head = nn.Linear(d_model, 2)

    def forward(self, code: torch.Tensor, number: torch.Tensor, pad: torch.Tensor) -> torch.Tensor:
        x = self.code(code) + self.number(number)  # (B, E, D)
        x = self.encoder(x, src_key_padding_mask=pad).masked_fill(pad.unsqueeze(-1), 0.0)
        return self.head(x.sum(1) / (~pad).sum(1, keepdim=True).clamp(min=1))


def padded_throughput(tokens: pd.DataFrame, y: pd.Series, n_stays: int, d_model: int) -> float:
    """Training events per second of the padded transformer."""
    column = tokens["events"].events
    offsets, code = column.offsets, torch.from_numpy(column.flat("code").astype(np.int64))
    value = torch.from_numpy(np.nan_to_num(column.flat("value")))
    when = torch.from_numpy(column.flat("time").astype(np.float32))
    torch.manual_seed(0)
    net = PaddedTransformer(int(code.max()) + 1, d_model, 2)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    target = torch.from_numpy(y.to_numpy(copy=True))
    n_events, start = 0, time.perf_counter()
    for first in range(0, n_stays, 16):
        rows = range(first, min(first + 16, n_stays))
        parts = [slice(offsets[r], offsets[r + 1]) for r in rows]
        pad = nn.utils.rnn.pad_sequence
        batch_code = pad([code[p] for p in parts], batch_first=True)
        numbers = pad([torch.stack([value[p], when[p]], 1) for p in parts], batch_first=True)
        empty = pad([torch.zeros(len(code[p])) for p in parts], True, 1.0).bool()
        loss = nn.functional.cross_entropy(
            net(batch_code, numbers, empty), target[rows.start : rows.stop]
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        n_events += sum(p.stop - p.start for p in parts)
    return n_events / (time.perf_counter() - start)


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
    padded = padded_throughput(tokens, y, min(options.padded_stays, len(X)), 48)
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
