"""From patches back to steps, against loops over both."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tawt_sklearn.nn.backbone import DualPatchBackbone
from tawt_sklearn.nn.panel_patching import PanelShape, Strides
from tawt_sklearn.nn.steps import REACH, StepReadout, unpatched

from .panels import make_panel

STRIDES = [(1, None), (1, 1), (2, 4), (3, 5), (3, 3), (4, 12), (9, None), (10, 26)]
WIDTH, D_ROW, CODES = 8, 5, (3, 4)


@pytest.mark.parametrize("stride, length", STRIDES)
@pytest.mark.parametrize("n_steps", [1, 2, 12, 25])
def test_a_step_is_the_mean_of_the_patches_that_hold_it(stride, length, n_steps):
    strides = Strides.of(stride, length)
    P = strides.n_patches(n_steps)
    torch.manual_seed(0)
    tokens = torch.randn(2, P + 2, 3, dtype=torch.float64)  # two of another granularity
    got = unpatched(tokens, strides, n_steps)
    assert got.shape == (2, n_steps, 3)
    for t in range(n_steps):
        age = n_steps - 1 - t
        start = [p * strides.stride for p in range(P)]
        holds = [p for p in range(P) if start[p] <= age < start[p] + strides.length]
        torch.testing.assert_close(got[:, t], tokens[:, holds].mean(1))


def readout(patching: str, strides=((2, 4), (5, 10))) -> tuple[StepReadout, DualPatchBackbone]:
    torch.manual_seed(0)
    shape = PanelShape(strides, CODES)
    backbone = DualPatchBackbone(
        n_codes=6, n_categories=7, window_edges=[2.0, 4.0, 6.0, 8.0, 10.0], horizon=11.0,
        d_model=WIDTH, n_heads=2, patching=patching, panel=shape,
    )  # fmt: skip
    return StepReadout(6, shape, WIDTH, D_ROW, patching).double(), backbone.double().eval()


def mixed_by_loop(mix, x, inside):
    """Steps that learn from others ever further away, one at a time; no row has others outside."""
    for dilation, norm, layer in zip(mix.dilations, mix.norms, mix.layers, strict=True):
        seen, after = norm(x) * inside.unsqueeze(2), x.clone()
        for b, t in np.ndindex(*x.shape[:2]):
            near = [
                seen[b, s] if 0 <= s < x.shape[1] else torch.zeros_like(x[b, t])
                for s in (t - dilation, t, t + dilation)
            ]
            after[b, t] = x[b, t] + torch.nn.functional.gelu(layer(torch.cat(near)))
        x = after
    return x


@pytest.mark.parametrize("patching", ["dual", "time", "feature"])
def test_every_step_has_its_neighbours_its_row_and_its_patches(patching):
    steps, backbone = readout(patching)
    batch = make_panel(cardinalities=CODES)
    encoded, row = backbone(batch), torch.randn(5, D_ROW, dtype=torch.float64)
    told = steps(batch, encoded, row)
    assert told.shape == (5, 12, steps.d_out)
    assert steps.d_out == (2 if patching == "feature" else 3) * WIDTH
    x = np.pad(steps.features(batch).detach().numpy(), ((0, 0), (0, 0), (REACH, REACH)))
    near = torch.zeros(5, 12, WIDTH, dtype=torch.float64)
    for b, t in np.ndindex(5, 12):
        around = torch.from_numpy(x[b, :, t : t + 2 * REACH + 1].ravel())
        near[b, t] = torch.nn.functional.gelu(steps.near(around))
    mixed = mixed_by_loop(steps.mix, near, batch.inside[:, 0])
    torch.testing.assert_close(told[..., :WIDTH], mixed)
    for b, t in np.ndindex(5, 12):
        torch.testing.assert_close(told[b, t, WIDTH : 2 * WIDTH], steps.from_row(row[b]))
    if patching != "feature":
        patches = unpatched(encoded.temporal.tokens[:, :6], Strides.of(2, 4), 12)
        assert torch.equal(told[..., 2 * WIDTH :], patches)
