"""Attention over packed rows against the formula, in float64."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tawt_sklearn.nn import packed as module
from tawt_sklearn.nn import packed_flex, packed_tiles
from tawt_sklearn.nn.packed import Packed, bucketed, packed_attention
from tawt_sklearn.nn.packed_flex import flex_plan, flex_score
from tawt_sklearn.nn.padded import attend, log_gap

LENGTHS = (5, 0, 40, 3, 1, 2, 17, 16, 90)


def reference_scores(q, k, rate, packed):
    """(H, N, N) scores as the formula has them, -inf where a query may not look."""
    N, _, d = q.shape
    lengths = torch.tensor(packed.lengths, dtype=torch.int64)
    row = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    place = torch.arange(N) - packed.offsets[row]
    timed = place >= packed.n_untimed
    both = timed & timed[:, None]
    gap = torch.log1p((packed.time - packed.time[:, None]).abs() / packed.scale) * both
    scores = torch.einsum("ihd,jhd->hij", q, k) / d**0.5 - rate[:, None, None] * gap
    hidden = row != row[:, None]
    if packed.window is not None:
        hidden |= both & ((place - place[:, None]).abs() > packed.window)
    return scores.masked_fill(hidden, -torch.inf)


def reference_attention(q, k, v, rate, packed):
    weights = reference_scores(q, k, rate, packed).softmax(-1)
    return torch.einsum("hij,jhd->ihd", weights, v)


def draw(lengths=LENGTHS, n_untimed=1, window=None, H=2, d=4, dtype=torch.float64, size=1.0):
    """Queries, keys, values and rates, and how the tokens lie; times are whole: some are equal."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = size * torch.randn(3, sum(lengths), H, d, dtype=dtype, generator=generator)
    rate = torch.rand(H, dtype=dtype, generator=generator) + 0.1
    time = torch.randint(0, 50, (sum(lengths),), generator=generator).to(dtype)
    packed = Packed.of(time, lengths, n_untimed, scale=3.0, window=window)
    return [x.requires_grad_() for x in (q, k, v, rate)], packed


def results(attention, inputs, packed):
    """What comes out, and the gradients of a fixed sum of it."""
    out = attention(*inputs, packed)
    probe = torch.linspace(-1, 1, out.numel()).view(out.shape).to(out.dtype)
    return out, *torch.autograd.grad((out * probe).sum(), inputs)


def in_float64(inputs, packed):
    inputs = [x.detach().double().requires_grad_() for x in inputs]
    made = Packed.of(
        packed.time.double(), packed.lengths, packed.n_untimed, packed.scale, packed.window
    )
    return inputs, made


def assert_as_the_reference(inputs, packed, attention=packed_attention, tolerance=1e-10):
    got = results(attention, inputs, packed)
    want = results(reference_attention, *in_float64(inputs, packed))
    for x, y in zip(got, want, strict=True):
        atol = tolerance * max(1.0, y.abs().max().item())
        torch.testing.assert_close(x.double(), y, rtol=0, atol=atol)


@pytest.fixture(params=["whole rows", "small blocks", "tiny blocks"])
def blocks(request, monkeypatch):
    """The sizes of the pieces that rows are worked on in."""
    if request.param != "whole rows":
        tiny = request.param == "tiny blocks"
        monkeypatch.setattr(packed_tiles, "BLOCK_KEYS", 3 if tiny else 16)
        monkeypatch.setattr(packed_tiles, "BLOCK_SCORES", 20 if tiny else 300)
        monkeypatch.setattr(module, "GROUP_SCORES", 20 if tiny else 600)


@pytest.mark.parametrize("window", [None, 1, 7])
@pytest.mark.parametrize("n_untimed", [0, 1, 3])
def test_output_and_all_gradients_equal_the_reference(blocks, n_untimed, window):
    assert_as_the_reference(*draw(n_untimed=n_untimed, window=window))


@pytest.mark.parametrize("window", [None, 7])
def test_scores_far_apart_are_no_problem(blocks, window):
    inputs, packed = draw(window=window, size=10.0)
    assert_as_the_reference(inputs, packed)


@pytest.mark.parametrize("window", [None, 7])
def test_heads_that_forget_at_once_are_no_problem(window):
    inputs, packed = draw(window=window)
    with torch.no_grad():
        inputs[3] *= 300
    assert_as_the_reference(inputs, packed)


@pytest.mark.parametrize("window", [None, 1, 7])
@pytest.mark.parametrize("n_untimed", [0, 1, 3])
def test_the_fallback_equals_the_reference(n_untimed, window):
    assert_as_the_reference(*draw(n_untimed=n_untimed, window=window), attention=bucketed)


@pytest.mark.parametrize("window", [None, 100])
@pytest.mark.parametrize("attention", [packed_attention, bucketed])
def test_float32_is_as_good_as_float32_can_be(attention, window):
    inputs, packed = draw((700, 60, 64, 9), window=window, d=16, dtype=torch.float32)
    assert_as_the_reference(inputs, packed, attention, tolerance=2e-5)


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 70), max_size=12).filter(any),
    n_untimed=st.integers(0, 4),
    window=st.none() | st.integers(0, 20),
)
def test_any_rows_equal_the_reference(lengths, n_untimed, window):
    assert_as_the_reference(*draw(lengths, n_untimed, window))


@pytest.mark.parametrize("window", [None, 2])
def test_gradients_equal_differences(monkeypatch, window):
    monkeypatch.setattr(packed_tiles, "BLOCK_KEYS", 3)
    monkeypatch.setattr(packed_tiles, "BLOCK_SCORES", 12)
    inputs, packed = draw((5, 0, 4, 2), window=window, d=2)
    assert torch.autograd.gradcheck(lambda *x: packed_attention(*x, packed), inputs)


def test_a_second_derivative_is_refused():
    inputs, packed = draw((5, 4))
    out = packed_attention(*inputs, packed).square().sum()
    (grad,) = torch.autograd.grad(out, inputs[0], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_it_equals_the_attention_of_padded_rows():
    (q, k, v, rate), packed = draw((12, 7, 12), n_untimed=2, dtype=torch.float32)
    out = packed_attention(q, k, v, rate, packed).split(packed.lengths)
    parts = zip(*(x.split(packed.lengths) for x in (q, k, v, packed.time)), out, strict=True)
    for q_row, k_row, v_row, time, got in parts:
        timed = torch.arange(len(time)) >= 2
        gap = log_gap(time[None], timed[None], packed.scale)
        bias = -rate.view(1, -1, 1, 1) * gap[:, None]
        want = attend(*(x.transpose(0, 1)[None] for x in (q_row, k_row, v_row)), bias)
        torch.testing.assert_close(got, want[0].transpose(0, 1))


def test_a_row_knows_nothing_of_its_neighbours():
    inputs, packed = draw((30, 28, 29, 300), dtype=torch.float32)
    with torch.no_grad():
        want = packed_attention(*inputs, packed)[30:58]
        for x in inputs[:3]:
            x[:30] *= 3
            x[58:] += 5
        packed.time[58:] += 7
        moved = Packed.of(packed.time, packed.lengths, 1, packed.scale)
        torch.testing.assert_close(packed_attention(*inputs, moved)[30:58], want)
        alone = Packed.of(packed.time[30:58], (28,), 1, packed.scale)
        row = [x[30:58] for x in inputs[:3]]
        torch.testing.assert_close(packed_attention(*row, inputs[3], alone), want)


@pytest.mark.parametrize("lengths", [(), (0, 0)])
def test_no_tokens_give_no_tokens(lengths):
    inputs, packed = draw(lengths)
    out, *grads = results(packed_attention, inputs, packed)
    assert out.shape == (0, 2, 4) and out.requires_grad
    assert (grads[3] == 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_worked_on_in_float32_and_given_back(dtype):
    inputs, packed = draw(d=16, dtype=torch.float32)
    halves = [x.detach().to(dtype).requires_grad_() for x in inputs[:3]] + inputs[3:]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = results(packed_attention, halves, packed)
    assert [x.dtype for x in got] == [dtype] * 4 + [torch.float32]
    want = results(packed_attention, [x.detach().float().requires_grad_() for x in halves], packed)
    torch.testing.assert_close(got[0], want[0].to(dtype), rtol=0, atol=0)


def test_autocast_leaves_float32_alone():
    inputs, packed = draw(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = results(packed_attention, inputs, packed)
    for x, y in zip(got, results(packed_attention, inputs, packed), strict=True):
        torch.testing.assert_close(x, y)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_nothing_is_kept_where_no_gradient_is_asked_for(mode):
    inputs, packed = draw()
    with mode():
        out = packed_attention(*inputs, packed)
    assert not out.requires_grad and out.grad_fn is None
    torch.testing.assert_close(out, packed_attention(*inputs, packed).detach())


def test_lengths_that_do_not_add_up_are_refused():
    with pytest.raises(ValueError, match="Got a sum of 5 and 4 times"):
        Packed.of(torch.zeros(4), [2, 3], 1, 1.0)


def dense_mask(mask):
    """(M, M) which pairs a block mask's blocks and its function let through together."""
    M, size = mask.seq_lengths[0], packed_flex.FLEX_BLOCK
    place = torch.arange(M)
    let_through = mask.mask_mod(0, 0, place[:, None], place)
    blocks = torch.zeros(M // size, M // size, dtype=torch.bool)
    for i, number in enumerate(mask.kv_num_blocks[0, 0]):
        blocks[i, mask.kv_indices[0, 0, i, :number].long()] = True
    return let_through, blocks.repeat_interleave(size, 0).repeat_interleave(size, 1)


@pytest.mark.parametrize("n_untimed", [0, 1, 3])
@pytest.mark.parametrize("window", [None, 1, 7, 150])
def test_what_flex_attention_is_told_gives_the_scores_of_the_reference(n_untimed, window):
    (q, k, _, rate), packed = draw((*LENGTHS, 700, 0, 20, 30, 260), n_untimed, window)
    want = reference_scores(q, k, rate, packed)
    N = len(q)
    plan = flex_plan(packed)
    let_through, blocks = dense_mask(plan.mask)
    assert (let_through & ~blocks).sum() == 0, "a block that is needed is left out"
    assert torch.equal(let_through[:N, :N], want[0].isfinite())
    assert not let_through[:N, N:].any()

    place, head = torch.arange(N), torch.arange(2).view(2, 1, 1)
    products = torch.einsum("ihd,jhd->hij", q, k) / q.shape[-1] ** 0.5
    scores = flex_score(plan, rate)(products, None, head, place[:, None], place)
    torch.testing.assert_close(scores.masked_fill(~let_through[:N, :N], -torch.inf), want)


MEMORY = """
import resource, torch
from tawt_sklearn.nn.packed import Packed, packed_attention

def step(T):
    inputs = [torch.randn(T, 1, 8, requires_grad=True) for _ in range(3)]
    rate = torch.ones(1, requires_grad=True)
    out = packed_attention(*inputs, rate, Packed.of(torch.rand(T), [T], 1, 1.0))
    out.sum().backward()

step(64)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
step(8192)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the unit of the peak differs elsewhere")
def test_the_scores_of_a_long_row_are_never_all_there():
    grown = subprocess.run(
        [sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True
    )
    all_scores = 8192**2 * 4 / 1024  # kB, of one head
    assert int(grown.stdout) < all_scores / 5


@pytest.mark.parametrize("window", [None, 1, 7, 40])
@pytest.mark.parametrize("n_untimed", [0, 2])
def test_without_gradients_the_answer_is_the_same(n_untimed, window):
    torch.manual_seed(0)
    lengths = (max(n_untimed, 1), 130, 0, 33, 64)
    time = torch.rand(sum(lengths), dtype=torch.float64) * 48
    q, k, v = (torch.randn(sum(lengths), 2, 4, dtype=torch.float64) for _ in range(3))
    rate = torch.tensor([0.3, 2.0], dtype=torch.float64)
    packed = Packed.of(time, lengths, n_untimed, 3.0, window)
    want = packed_attention(q.requires_grad_(), k, v, rate, packed)
    with torch.inference_mode():
        torch.testing.assert_close(packed_attention(q, k, v, rate, packed), want)


def test_heads_that_forget_nothing_still_see_no_further_than_their_window():
    torch.manual_seed(0)
    q, k, v = (torch.randn(50, 1, 4) for _ in range(3))
    packed = Packed.of(torch.arange(50.0), (50,), 0, 1.0, 2)
    with torch.no_grad():
        out = packed_attention(q, k, v, torch.zeros(1), packed)
        changed = v.clone()
        changed[10] += 100
        moved = (packed_attention(q, k, changed, torch.zeros(1), packed) - out).abs().amax((1, 2))
    assert moved.isfinite().all()
    assert (moved[8:13] > 0).all() and (moved[:8] == 0).all() and (moved[13:] == 0).all()


def test_wide_windows_over_long_rows():
    torch.manual_seed(0)
    q, k, v = (torch.randn(3000, 2, 4) for _ in range(3))
    packed = Packed.of(torch.arange(3000.0), (3000,), 1, 10.0, 1000)
    rate = torch.tensor([0.5, 0.0])
    want = packed_attention(q.requires_grad_(), k, v, rate, packed)
    with torch.no_grad():
        torch.testing.assert_close(packed_attention(q, k, v, rate, packed), want)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_comes_back_as_it_came(dtype):
    torch.manual_seed(0)
    q, k, v = (torch.randn(40, 2, 4) for _ in range(3))
    packed, rate = Packed.of(torch.arange(40.0), (30, 10), 1, 10.0), torch.tensor([0.5, 0.1])
    got = packed_attention(*(x.to(dtype) for x in (q, k, v)), rate, packed)
    assert got.dtype == dtype
    want = packed_attention(q, k, v, rate, packed)
    torch.testing.assert_close(got.float(), want, atol=0.03, rtol=0.03)
