"""The stays that speed is measured on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from tawt_sklearn.datasets import fetch_physionet2012, make_icu_stays

COPY = Path(__file__).resolve().parents[3] / "shared" / "data"


def stays(
    real: bool, n: int | None = None, sets: Sequence[str] = ("a",)
) -> tuple[pd.DataFrame, pd.Series]:
    """Histories with labels: of PhysioNet 2012 from a copy of the data, or simulated."""
    if not real:
        return make_icu_stays(n or 4000, random_state=0)
    home = os.environ.get("TAWT_DATA", COPY)
    X, y = fetch_physionet2012(data_home=home, sets=tuple(sets), download=False, return_X_y=True)
    return X.iloc[:n], y.iloc[:n]


def evenly(lengths: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """``n`` rows spread evenly over all lengths, in the order of the data.

    Few rows then have the mean length of all of them, and the same share of long ones.
    """
    order = np.argsort(lengths, kind="stable")
    if n >= len(order):
        return np.arange(len(order))
    return np.sort(order[((np.arange(n) + 0.5) * len(order) / n).astype(np.int64)])


class Tokens(NamedTuple):
    """Tokenised stays as flat tensors, for peers that make their own batches."""

    offsets: NDArray[np.int64]  # (B + 1,)
    code: Tensor  # (E,) int64
    number: Tensor  # (E, 2) float32: value, 0 where there is none, and time
    label: Tensor  # (B,) int64

    @classmethod
    def of(cls, tokens: pd.DataFrame, y: pd.Series) -> Tokens:
        column = tokens["events"].events
        number = np.stack([np.nan_to_num(column.flat("value")), column.flat("time")], axis=1)
        return cls(
            np.asarray(column.offsets),
            torch.from_numpy(column.flat("code").astype(np.int64)),
            torch.from_numpy(number.astype(np.float32)),
            torch.from_numpy(y.to_numpy(copy=True).astype(np.int64)),
        )

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.diff(self.offsets)

    @property
    def n_codes(self) -> int:
        return int(self.code.max()) + 1
