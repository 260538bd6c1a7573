"""Time-aware attention against a loop over pairs."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from tawt_sklearn.nn.attention import TimeAwareAttention, log_gap


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

    got = layer(x, log_gap(time, timed, 3.0))
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
    torch.testing.assert_close(layer(x, gap, padding)[:, :3], layer(changed, gap, padding)[:, :3])
    assert not torch.allclose(layer(x, gap)[:, :3], layer(changed, gap)[:, :3])


def test_the_gap_is_zero_between_tokens_without_a_time():
    time = torch.tensor([[0.0, 5.0, 100.0]])
    timed = torch.tensor([[True, True, False]])
    gap = log_gap(time, timed, 5.0)[0]
    np.testing.assert_allclose(gap[:2, :2], [[0, np.log(2)], [np.log(2), 0]], rtol=1e-6)
    assert (gap[2] == 0).all() and (gap[:, 2] == 0).all()
