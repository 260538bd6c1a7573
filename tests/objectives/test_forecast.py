"""The forecast against loops over rows and codes, in float64."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tawt_sklearn.objectives import masked
from tawt_sklearn.objectives.forecast import Forecast, coming

KINDS = ["dual", "free", "time", "feature"]


@pytest.fixture
def make_task(space, make_encoder):
    """Factory of tasks in float64, with biases that are not all zero."""

    def make(**settings):
        torch.manual_seed(0)
        task = Forecast(**settings).build(space, make_encoder.d_model, make_encoder.d_row)
        for parameter in task.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.2)
        return task.double()

    return make


def drawn_cut(task, batch):
    """(B,) where the task cuts with this seed, told from the ages in the past."""
    torch.manual_seed(5)
    past, _, _ = task.split(batch)
    cut = torch.zeros(len(batch), dtype=batch.time.dtype)
    cut[past.row] = past.time + past.age
    return cut


def naive_parts(task, batch, cut, encoder, by_formula):
    """Weighted parts of the loss, one row and code after the other."""
    values, presences = [], []
    for row in range(len(batch)):
        of_row = batch.row == row
        if len(batch.time[of_row].unique()) < 2:
            continue
        until = cut[row] + task.settings.share * task.space.horizon
        comes = of_row & (batch.time > cut[row]) & (batch.time <= until)
        for code in range(task.space.n_codes):
            asked = task.from_row.weight @ encoder.embedding[row] + task.from_row.bias
            asked = asked + task.code.weight[code]
            if (token := encoder.token(row, code)) is not None:
                asked = asked + task.from_feature.weight @ token
            elif encoder.encoded.feature is not None:
                asked = asked + task.no_feature
            asked = by_formula(task.hidden, asked)
            at = comes & (batch.code == code)
            p = torch.sigmoid(
                asked @ task.presence.weight[code] + task.presence_bias.weight[code, 0]
            )
            presences.append(-(p if at.any() else 1 - p).log())
            if (at & batch.observed).any():
                told = asked @ task.value.weight[code] + task.value_bias.weight[code, 0]
                off = told - batch.value[at & batch.observed].mean()
                if task.settings.error == "squared":
                    values.append(off**2)
                else:
                    values.append(off**2 / 2 if abs(off) < 1 else abs(off) - 0.5)
    return {
        "value": task.settings.value * sum(values) / len(values),
        "presence": task.settings.presence * sum(presences) / len(presences),
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("error", ["huber", "squared"])
def test_both_parts_equal_the_loop_and_so_do_their_gradients(
    make_task, make_batch, make_encoder, by_formula, same_with_gradients, kind, error
):
    task = make_task(error=error, value=0.6, presence=1.7, share=0.4)
    batch, encoder = make_batch(mean_events=30), make_encoder(kind)
    want = naive_parts(task, batch, drawn_cut(task, batch), encoder, by_formula)
    torch.manual_seed(5)
    parts = task(encoder, batch)
    assert list(parts) == ["value", "presence"]
    inputs = [*task.parameters(), *encoder.leaves]
    for name, loss in parts.items():
        same_with_gradients(loss, want[name], inputs)


def test_only_the_past_is_encoded_as_if_the_history_ended_with_it(
    make_task, make_batch, make_encoder
):
    task, batch, encoder = make_task(), make_batch(n_rows=40), make_encoder("dual", 40)
    cut = drawn_cut(task, batch)
    torch.manual_seed(5)
    task(encoder, batch)
    (past,) = encoder.shown
    want = batch.keep(batch.time <= cut[batch.row])
    assert torch.equal(past.value, want.value) and torch.equal(past.time, want.time)
    torch.testing.assert_close(past.age, cut[past.row] - past.time)
    first, last = batch.extent()
    some = last > first
    share = ((cut - first) / (last - first))[some]
    assert (share >= 0.25).all() and (share <= 0.9).all()
    assert share.min() < 0.35 and share.max() > 0.8


def test_the_future_changes_nothing_that_is_encoded(make_task, make_batch, make_encoder):
    task, batch = make_task(), make_batch(mean_events=30)
    cut = drawn_cut(task, batch)
    later = batch.time > cut[batch.row]
    other = replace(batch, value=torch.where(later & batch.observed, -batch.value, batch.value))
    shown, losses = [], []
    for one in (batch, other):
        encoder = make_encoder()
        torch.manual_seed(5)
        losses.append(task(encoder, one)["value"].item())
        shown.append(encoder.shown[0])
    for name in ("row", "code", "value", "time", "age", "category"):
        assert torch.equal(getattr(shown[0], name), getattr(shown[1], name))
    assert losses[0] != losses[1]


def test_the_past_and_what_comes_too_late_are_no_targets(make_task, make_batch, make_encoder):
    task, batch = make_task(share=0.2), make_batch(mean_events=60)
    cut = drawn_cut(task, batch)[batch.row]
    stretch = (batch.time > cut) & (batch.time <= cut + 0.2 * 48)
    assert (batch.time > cut + 0.2 * 48).any()
    other = replace(batch, value=torch.where(stretch, batch.value, 7 * batch.value))
    losses = []
    for one in (batch, other):
        torch.manual_seed(5)
        losses.append([loss.item() for loss in task(make_encoder(), one).values()])
    assert losses[0] == losses[1]


def test_what_comes_equals_the_loop(make_batch):
    batch, codes = make_batch(), torch.tensor([0, 1, 2, 3, 4, 5])
    count, n_values, average = coming(batch, codes)
    for row in range(5):
        for code in range(6):
            at = (batch.row == row) & (batch.code == code)
            value = batch.value[at & batch.observed]
            assert count[row, code] == at.sum() and n_values[row, code] == len(value)
            want = value.mean() if len(value) else torch.zeros((), dtype=torch.float64)
            torch.testing.assert_close(average[row, code], want)


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_over_some_codes_is_that_over_all_where_all_are_drawn(
    monkeypatch, make_task, make_batch, make_encoder, space, kind
):
    batch, task, losses = make_batch(mean_events=40), make_task(), []
    assert len(batch.code.unique()) == space.n_codes
    for largest in (512, 2):
        monkeypatch.setattr(masked, "MAX_SCORED", largest)
        torch.manual_seed(5)
        losses.append(task(make_encoder(kind), batch))
    torch.testing.assert_close(*losses)


def test_a_weight_of_zero_leaves_a_part_out(make_task, make_batch, make_encoder):
    batch = make_batch()
    assert list(make_task(value=0)(make_encoder(), batch)) == ["presence"]
    assert list(make_task(presence=0)(make_encoder(), batch)) == ["value"]


def test_histories_without_a_future_have_no_loss(make_task, make_batch, make_encoder):
    batch = make_batch()
    for one in (
        batch.keep(torch.zeros(batch.n_events, dtype=torch.bool)),
        replace(batch, time=torch.full_like(batch.time, 9.0)),
    ):
        encoder = make_encoder()
        loss = sum(make_task()(encoder, one).values())
        loss.backward()
        assert loss == 0 and all(
            leaf.grad is None or not leaf.grad.any() for leaf in encoder.leaves
        )


@pytest.mark.parametrize("wrong, message", [
    ({"share": 0.0}, "Expected a positive share of the horizon. Got 0.0"),
    ({"error": "absolute"}, 'Expected error to be "huber" or "squared". Got \'absolute\''),
    ({"value": -1.0}, r"Expected weights of 0 or more, one of them positive. Got \(-1.0, 0.2\)"),
    ({"value": 0.0, "presence": 0.0}, "one of them positive. Got"),
])  # fmt: skip
def test_settings_that_make_no_sense_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Forecast(**wrong)
