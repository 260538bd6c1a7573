"""InfoNCE against a loop over pairs, and what the two views of a row are."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from tawt_sklearn.nn.batch import EventBatch
from tawt_sklearn.nn.space import Space
from tawt_sklearn.objectives.augmentations import DropEvents, JitterValues, ScaleValues
from tawt_sklearn.objectives.contrastive import Contrastive, halves, info_nce


def naive_info_nce(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """-log of the share of the right pair among all pairs of a row, in both directions."""

    def closeness(a: Tensor, b: Tensor) -> Tensor:
        return ((a @ b) / (a @ a).sqrt() / (b @ b).sqrt() / temperature).exp()

    total = torch.zeros((), dtype=first.dtype)
    for one, other in ((first, second), (second, first)):
        for i in range(len(one)):
            all_pairs = sum(closeness(one[i], other[j]) for j in range(len(other)))
            total = total - (closeness(one[i], other[i]) / all_pairs).log()
    return total / (2 * len(first))


@pytest.fixture
def views() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return tuple(torch.randn(7, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_info_nce_equals_the_loop_and_so_do_its_gradients(views, temperature, same_with_gradients):
    got = info_nce(*views, temperature)
    same_with_gradients(got, naive_info_nce(*views, temperature), list(views))


def test_info_nce_has_the_gradient_of_finite_differences(views):
    assert torch.autograd.gradcheck(lambda a, b: info_nce(a, b, 0.5), views)


def test_info_nce_is_symmetric_and_looks_at_directions_only(views):
    a, b = views
    loss = info_nce(a, b, 0.3)
    torch.testing.assert_close(info_nce(b, a, 0.3), loss)
    torch.testing.assert_close(info_nce(3 * a, 0.1 * b, 0.3), loss)
    order = torch.tensor([3, 1, 0, 6, 5, 4, 2])
    torch.testing.assert_close(info_nce(a[order], b[order], 0.3), loss)


def test_info_nce_is_known_at_its_extremes():
    same = torch.ones(5, 4)
    assert info_nce(same, same, 0.1).item() == pytest.approx(math.log(5))
    apart = torch.eye(5)
    want = math.log(math.exp(1 / 0.2) + 4) - 1 / 0.2
    assert info_nce(apart, apart, 0.2).item() == pytest.approx(want, rel=1e-4)
    assert info_nce(apart, apart, 0.01).item() < 1e-6 < info_nce(apart, -apart, 0.01).item()


@pytest.mark.parametrize("n_rows", [0, 1])
def test_a_row_alone_has_nothing_to_be_told_from(n_rows):
    view = torch.ones(n_rows, 3, requires_grad=True)
    loss = info_nce(view, view, 0.1)
    loss.backward()
    assert loss == 0 and not view.grad.any()


@dataclass(frozen=True)
class AddOne:
    """An augmentation of the user's own."""

    def __call__(self, batch: EventBatch, space: Space) -> EventBatch:
        return replace(batch, value=batch.value + 1)


@dataclass(frozen=True)
class Double:
    def __call__(self, batch: EventBatch, space: Space) -> EventBatch:
        return replace(batch, value=2 * batch.value)


@pytest.fixture
def make_task(space, make_encoder):
    def make(**settings):
        torch.manual_seed(0)
        return (
            Contrastive(**settings).build(space, make_encoder.d_model, make_encoder.d_row).double()
        )

    return make


class OfValues:
    """Encodes each row as the sums of its values in four stretches of time."""

    def __init__(self) -> None:
        self.shown: list[EventBatch] = []

    def __call__(self, batch: EventBatch) -> tuple[None, Tensor]:
        self.shown.append(batch)
        place = batch.row * 4 + (batch.time / 12).long().clamp(max=3)
        sums = torch.zeros(len(batch) * 4, dtype=torch.float64).index_add(0, place, batch.value)
        return None, sums.view(-1, 4)


def test_the_loss_is_info_nce_of_the_projections(
    make_task, make_batch, make_encoder, by_formula, same_with_gradients
):
    task, batch = make_task(temperature=0.4, d_projection=3, augmentations=()), make_batch()
    torch.manual_seed(1)
    encoder = make_encoder("dual")
    embeddings = [torch.randn(5, 4, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    said = iter(embeddings)
    parts = task(lambda shown: (encoder.encoded, next(said)), batch)
    assert list(parts) == ["contrastive"]
    with_events = [0, 1, 3, 4]  # row 2 has none: empty views are alike, whoever's they are
    projected = [
        torch.stack([by_formula(task.project, z[row]) for row in with_events]) for z in embeddings
    ]
    want = naive_info_nce(*projected, 0.4)
    same_with_gradients(parts["contrastive"], want, [*task.parameters(), *embeddings])


def test_augmentations_are_applied_in_their_order_to_both_views(make_task, make_batch):
    batch, encode = make_batch(), OfValues()
    make_task(augmentations=(AddOne(), Double()))(encode, batch)
    for view in encode.shown:
        torch.testing.assert_close(view.value, 2 * (batch.value + 1))
    assert len(encode.shown) == 2


def test_both_views_are_drawn_separately(make_task, make_batch):
    batch, encode = make_batch(), OfValues()
    make_task(augmentations=(JitterValues(), ScaleValues(), DropEvents()))(encode, batch)
    one, two = encode.shown
    assert one.value.tolist() != two.value.tolist()


def test_halves_have_no_event_in_common_and_all_of_them_together(make_task, make_batch):
    batch, encode = make_batch(n_rows=40), OfValues()
    batch = replace(batch, value=torch.arange(batch.n_events, dtype=torch.float64))
    make_task(augmentations=(), pairs="halves")(encode, batch)
    before, after = encode.shown
    assert not set(before.value.tolist()) & set(after.value.tolist())
    assert sorted(before.value.tolist() + after.value.tolist()) == batch.value.tolist()
    first, last = batch.extent()
    for row in range(40):
        early, late = before.time[before.row == row], after.time[after.row == row]
        if row != 2:
            assert early.max() < late.min()
            end = (before.time + before.age)[before.row == row]
            torch.testing.assert_close(end, end[:1].expand_as(end))
            share = (end[0] - first[row]) / (last[row] - first[row])
            assert 0.25 <= share <= 0.75 and early.max() <= end[0] < late.min()
    assert torch.equal(after.age, batch.age[after.value.long()])  # it ends where the history ends


def test_a_history_of_one_moment_has_one_half_and_counts_for_nothing(make_task, make_batch):
    batch = make_batch()
    lone = batch.row == 1
    batch = replace(batch, time=torch.where(lone, 20.0, batch.time))
    one, two = halves(batch)
    assert int((one.row == 1).sum()) == int(lone.sum()) and not (two.row == 1).any()
    task = make_task(augmentations=(), pairs="halves")
    losses = []
    for shown in (batch, replace(batch, value=torch.where(lone, 5 * batch.value, batch.value))):
        torch.manual_seed(0)
        losses.append(task(OfValues(), shown)["contrastive"].item())
    assert losses[0] == losses[1] != 0


def test_a_batch_without_events_has_no_loss(make_task, make_batch, make_encoder):
    nothing = make_batch().keep(torch.zeros(make_batch().n_events, dtype=torch.bool))
    encoder = make_encoder()
    loss = make_task()(encoder, nothing)["contrastive"]
    loss.backward()
    assert loss == 0 and encoder.embedding.grad.isfinite().all()


@pytest.mark.parametrize("wrong, message", [
    ({"pairs": "thirds"}, 'Expected pairs to be "views" or "halves". Got \'thirds\''),
    ({"temperature": 0.0}, "Expected a positive temperature. Got 0.0"),
    ({"temperature": float("nan")}, "Expected a positive temperature. Got nan"),
    ({"d_projection": 0}, "Expected d_projection of 1 or more. Got 0"),
])  # fmt: skip
def test_settings_that_make_no_sense_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Contrastive(**wrong)
