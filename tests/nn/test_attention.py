"""Time-aware attention against a loop over pairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tawt_sklearn.nn.attention import TimeAwareAttention
from tawt_sklearn.nn.padded import Padded, attend, attend_with_decay, log_gap


def loop_attention(layer, x, time, timed, scale):
    """One query at a time, as the formula is written."""
    B, P, D = x.shape
    H, d = layer.n_heads, D // layer.n_heads
    q, k, v = layer.to_qkv(x).view(B, P, 3, H, d).unbind(2)
    out = torch.zeros(B, P, H, d, dtype=x.dtype)
    for b in range(B):
        for h in range(H):
            for i in range(P):
                scores = []
                for j in range(P):
                    score = q[b, i, h] @ k[b, j, h] / d**0.5
                    if timed[b, i] and timed[b, j]:
                        gap = torch.log1p((time[b, i] - time[b, j]).abs() / scale)
                        score = score - F.softplus(layer.decay[h]) * gap
                    scores.append(score)
                weights = torch.stack(scores).softmax(0)
                out[b, i, h] = (weights[:, None] * v[b, :, h]).sum(0)
    return layer.to_out(out.reshape(B, P, D))


def test_attention_and_all_its_gradients_equal_the_loop():
    torch.manual_seed(0)
    layer = TimeAwareAttention(8, 2).double()
    x = torch.randn(2, 5, 8, dtype=torch.float64, requires_grad=True)
    time = torch.rand(2, 5, dtype=torch.float64) * 20
    timed = torch.rand(2, 5) < 0.6
    parameters = [x, *layer.parameters()]
    probe = torch.randn(2, 5, 8, dtype=torch.float64)

    got = layer(x, Padded(log_gap(time, timed, 3.0)))
    want = loop_attention(layer, x, time, timed, 3.0)
    torch.testing.assert_close(got, want)
    got_grads = torch.autograd.grad((got * probe).sum(), parameters)
    want_grads = torch.autograd.grad((want * probe).sum(), parameters)
    for got_grad, want_grad in zip(got_grads, want_grads, strict=True):
        torch.testing.assert_close(got_grad, want_grad)


def test_padding_is_not_attended_to():
    torch.manual_seed(0)
    layer = TimeAwareAttention(8, 2)
    x, time = torch.randn(1, 4, 8), torch.zeros(1, 4)
    gap = log_gap(time, torch.ones(1, 4, dtype=torch.bool), 1.0)
    padding = torch.tensor([0.0, 0.0, 0.0, -torch.inf]).view(1, 1, 1, 4)
    changed = x.clone()
    changed[0, 3] += 100
    torch.testing.assert_close(
        layer(x, Padded(gap, padding))[:, :3], layer(changed, Padded(gap, padding))[:, :3]
    )
    assert not torch.allclose(layer(x, Padded(gap))[:, :3], layer(changed, Padded(gap))[:, :3])


def test_the_gap_is_zero_between_tokens_without_a_time():
    time = torch.tensor([[0.0, 5.0, 100.0]])
    timed = torch.tensor([[True, True, False]])
    gap = log_gap(time, timed, 5.0)[0]
    np.testing.assert_allclose(gap[:2, :2], [[0, np.log(2)], [np.log(2), 0]], rtol=1e-6)
    assert (gap[2] == 0).all() and (gap[:, 2] == 0).all()


def padded_to_the_right(n_rows: int, n_tokens: int) -> torch.Tensor:
    padding = torch.zeros(n_rows, 1, 1, n_tokens, dtype=torch.float64)
    padding[0, ..., -2:] = -torch.inf
    return padding


@pytest.mark.parametrize("scale", [1.0, 30.0])  # the latter beyond what is safe to exponentiate
@pytest.mark.parametrize("padded", [False, True])
def test_the_fused_passes_equal_what_autograd_makes_of_the_formula(scale, padded):
    B, P, H, d = 3, 7, 2, 4
    torch.manual_seed(0)
    qkv = (scale * torch.randn(B, P, 3 * H * d, dtype=torch.float64)).requires_grad_()
    rate = torch.rand(H, dtype=torch.float64, requires_grad=True)
    gap, probe = torch.rand(B, P, P).double(), torch.randn(B, P, H * d).double()
    padding = padded_to_the_right(B, P) if padded else None

    q, k, v = qkv.view(B, P, 3, H, d).permute(2, 0, 3, 1, 4).unbind(0)
    bias = -rate.view(1, -1, 1, 1) * gap.unsqueeze(1)
    want = attend(q, k, v, bias if padding is None else bias + padding)
    want = want.transpose(1, 2).reshape(B, P, H * d)
    got = attend_with_decay(qkv, rate, gap, padding, H)
    torch.testing.assert_close(got, want)
    got_grads = torch.autograd.grad((got * probe).sum(), (qkv, rate))
    want_grads = torch.autograd.grad((want * probe).sum(), (qkv, rate))
    torch.testing.assert_close(got_grads, want_grads)


def test_the_fused_passes_have_the_gradients_of_finite_differences():
    torch.manual_seed(0)
    qkv = torch.randn(2, 4, 12, dtype=torch.float64, requires_grad=True)
    rate = torch.rand(2, dtype=torch.float64, requires_grad=True)
    gap = torch.rand(2, 4, 4, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda qkv, rate: attend_with_decay(qkv, rate, gap, None, 2), (qkv, rate)
    )


def test_attention_is_computed_in_single_precision_where_layers_are_not():
    torch.manual_seed(0)
    qkv, gap = torch.randn(2, 5, 24), torch.rand(2, 5, 5)
    rate = torch.tensor([0.5, 1.0])
    narrow = qkv.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        got = attend_with_decay(narrow.requires_grad_(), rate, gap, None, 2)
    got.sum().backward()
    assert got.dtype == narrow.grad.dtype == torch.bfloat16
    want = attend_with_decay(narrow.detach().float(), rate, gap, None, 2)
    torch.testing.assert_close(got.float(), want, atol=0.01, rtol=0.01)


def test_numbers_that_are_none_stay_visible():
    qkv = torch.full((1, 3, 6), torch.nan)
    assert attend_with_decay(qkv, torch.ones(1), torch.zeros(1, 3, 3), None, 1).isnan().all()
