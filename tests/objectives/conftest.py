"""A small space of codes, batches that live in it, and encoders whose outputs are given."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tawt_sklearn.nn.backbone import Encoded
from tawt_sklearn.nn.batch import EventBatch
from tawt_sklearn.nn.patching import Patches
from tawt_sklearn.nn.space import Space

D_MODEL, D_ROW, N_PLACES = 5, 4, 3


@pytest.fixture
def space() -> Space:
    """Six codes in four windows of time; codes 1 and 3 have three and two categories."""
    return Space(6, [0, 0, 3, 3, 5, 5, 5], [12.0, 24.0, 36.0], horizon=48.0).double()


@pytest.fixture
def make_batch(space: Space) -> Callable[..., EventBatch]:
    """Factory of random batches: the third row is empty, some times are equal."""

    def make(n_rows: int = 5, mean_events: int = 14, seed: int = 0) -> EventBatch:
        rng = np.random.default_rng(seed)
        lengths = 2 + rng.poisson(mean_events - 2, n_rows)
        lengths[2:3] = 0
        row = np.repeat(np.arange(n_rows), lengths)
        E = len(row)
        time = np.round(rng.uniform(0, 48, E) * 2) / 2
        time = time[np.lexsort((time, row))]
        code = rng.integers(0, space.n_codes, E)
        offsets = space.category_offsets.numpy()
        first, count = offsets[code], np.diff(offsets)[code]
        category = np.where(count > 0, 1 + first + rng.integers(0, np.maximum(count, 1)), 0)
        category *= rng.random(E) < 0.8
        observed = (category == 0) & (rng.random(E) < 0.8)
        return EventBatch(
            row=torch.from_numpy(row),
            code=torch.from_numpy(code),
            value=torch.from_numpy(2 * rng.normal(size=E) * observed),
            observed=torch.from_numpy(observed),
            category=torch.from_numpy(category),
            time=torch.from_numpy(time),
            age=torch.from_numpy(50 - time),
            static_numeric=torch.zeros(n_rows, 0, dtype=torch.float64),
            static_category=torch.zeros(n_rows, 0, dtype=torch.int64),
        )

    return make


class GivenEncoder:
    """Says the same whatever it is shown, and keeps what it was shown.

    Attributes
    ----------
    encoded, embedding
        What it says.
    leaves : list of Tensor
        The tensors in these, for gradients.
    shown : list of EventBatch
    """

    def __init__(self, kind: str, n_rows: int, space: Space) -> None:
        rng = np.random.default_rng(1)

        def leaf(*shape: int) -> Tensor:
            return torch.from_numpy(rng.normal(size=shape)).requires_grad_()

        feature = temporal = None
        if kind in ("dual", "feature"):  # each code has its place
            code = torch.arange(space.n_codes).unsqueeze(0)
            feature = Patches(leaf(n_rows, space.n_codes, D_MODEL), code=code)
        if kind == "free":
            filled = torch.from_numpy(np.sort(rng.random((n_rows, N_PLACES)) < 0.7)[:, ::-1].copy())
            drawn = [np.sort(rng.permutation(space.n_codes)[:N_PLACES]) for _ in range(n_rows)]
            code = torch.from_numpy(np.stack(drawn)) * filled  # 0 where there is none
            feature = Patches(leaf(n_rows, N_PLACES, D_MODEL), filled=filled, code=code)
        if kind != "feature":
            temporal = Patches(leaf(n_rows, space.n_windows, D_MODEL))
        static = Patches(torch.zeros(n_rows, 0, D_MODEL, dtype=torch.float64))
        cls = torch.zeros(n_rows, D_MODEL, dtype=torch.float64)
        self.encoded = Encoded(cls, static, feature, temporal, unmixed=feature)
        self.embedding = leaf(n_rows, D_ROW)
        self.leaves = [p.tokens for p in (feature, temporal) if p is not None]
        self.leaves.append(self.embedding)
        self.shown: list[EventBatch] = []

    def __call__(self, batch: EventBatch) -> tuple[Encoded, Tensor]:
        self.shown.append(batch)
        return self.encoded, self.embedding

    def token(self, row: int, code: int) -> Tensor | None:
        """Token of the feature patch of a code, None where there is none."""
        feature = self.encoded.feature
        if feature is None:
            return None
        codes = feature.code.expand(len(feature.tokens), -1)[row].tolist()
        for place, of in enumerate(codes):
            if of == code and (feature.filled is None or feature.filled[row, place]):
                return feature.tokens[row, place]
        return None


@pytest.fixture
def make_encoder(space: Space) -> Callable[..., GivenEncoder]:
    """Factory of encoders: ``"dual"``, ``"free"`` (places), ``"time"``, ``"feature"``."""

    def make(kind: str = "dual", n_rows: int = 5) -> GivenEncoder:
        return GivenEncoder(kind, n_rows, space)

    make.d_model, make.d_row = D_MODEL, D_ROW
    return make


def layer_norm(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    centred = x - x.mean()
    return centred / ((centred**2).mean() + norm.eps).sqrt() * norm.weight + norm.bias


def gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


@pytest.fixture
def by_formula() -> Callable[[nn.Sequential, Tensor], Tensor]:
    """A stack of layers applied to one vector, by the formulas of the textbook."""

    def apply(layers: nn.Sequential, x: Tensor) -> Tensor:
        for layer in layers:
            if isinstance(layer, nn.LayerNorm):
                x = layer_norm(x, layer)
            elif isinstance(layer, nn.Linear):
                x = layer.weight @ x + layer.bias
            else:
                x = gelu(x)
        return x

    return apply


@pytest.fixture
def same_with_gradients() -> Callable[..., None]:
    """Asserts that two scalars are equal, and so are their gradients."""

    def check(got: Tensor, want: Tensor, inputs: list[Tensor]) -> None:
        tolerance = {"rtol": 1e-8, "atol": 1e-10}
        torch.testing.assert_close(got, want, **tolerance)
        gradients = [
            torch.autograd.grad(loss, inputs, allow_unused=True, retain_graph=True)
            for loss in (got, want)
        ]
        assert any(g is not None and bool(g.any()) for g in gradients[1])
        for one, two, given in zip(*gradients, inputs, strict=True):
            one, two = (torch.zeros_like(given) if g is None else g for g in (one, two))
            torch.testing.assert_close(one, two, **tolerance)

    return check
