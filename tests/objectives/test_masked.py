"""Masked reconstruction against loops over rows, events, codes and windows, in float64."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from tawt_sklearn.nn.batch import EventBatch
from tawt_sklearn.nn.space import Space
from tawt_sklearn.objectives import masked
from tawt_sklearn.objectives.masked import MaskedReconstruction, mean, measured, scored_codes
from tawt_sklearn.objectives.masking import Hidden, HideCodes, HideEvents, HideWindows
from tawt_sklearn.objectives.pretraining import Pretrainer
from tawt_sklearn.objectives.summary import RECENT, summary_targets, summary_width

PARTS = ("value", "category", "code", "presence", "summary")


@dataclass(frozen=True)
class HideGiven:
    """A mask of the user's own: hides what it is told."""

    hidden: Hidden

    def __call__(self, batch: EventBatch, space: Space) -> Hidden:
        return self.hidden


def some_hidden(batch: EventBatch, space: Space, seed: int = 3) -> Hidden:
    """Single events, windows and codes."""
    rng = np.random.default_rng(seed)
    events = torch.from_numpy(rng.random(batch.n_events) < 0.3)
    codes = torch.from_numpy(rng.random((len(batch), space.n_codes)) < 0.2)
    windows = torch.from_numpy(rng.random((len(batch), space.n_windows)) < 0.2)
    events = events | codes[batch.row, batch.code] | windows[batch.row, space.window(batch)]
    return Hidden(events, codes, windows)


@pytest.fixture
def make_task(space, make_encoder):
    """Factory of tasks in float64, with biases that are not all zero."""

    def make(**settings):
        torch.manual_seed(0)
        task = MaskedReconstruction(**settings).build(
            space, make_encoder.d_model, make_encoder.d_row
        )
        for parameter in task.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.2)
        return task.double()

    return make


class Loops:
    """The five parts of the loss, one event, code and window after the other."""

    def __init__(self, task, batch, hidden, encoder, by_formula) -> None:
        self.task, self.batch, self.hidden, self.encoder = task, batch, hidden, encoder
        self.decoder, self.by_formula, self.space = task.decoder, by_formula, task.space
        self.events = [k for k in range(batch.n_events) if hidden.events[k]]
        self.row, self.code = batch.row.tolist(), batch.code.tolist()
        self.window = [sum(t >= e for e in self.space.edges.tolist()) for t in batch.time.tolist()]
        cells = Counter((self.row[k], self.code[k]) for k in self.events)
        self.share = {k: 1 / cells[self.row[k], self.code[k]] for k in self.events}

    def moment(self, k):
        d, row = self.decoder, self.row[k]
        angle = self.batch.time[k] * d.time_encoding.frequency + d.time_encoding.phase
        known = d.from_row.weight @ self.encoder.embedding[row] + d.from_row.bias
        known = known + torch.cat([angle[:1], torch.sin(angle[1:])])
        temporal = self.encoder.encoded.temporal
        if temporal is not None:
            known = known + d.from_window.weight @ temporal.tokens[row, self.window[k]]
        return known

    def query(self, k):
        d, token = self.decoder, self.encoder.token(self.row[k], self.code[k])
        asked = self.moment(k) + d.code.weight[self.code[k]]
        if token is not None:
            asked = asked + d.from_feature.weight @ token
        elif self.encoder.encoded.feature is not None:
            asked = asked + d.no_feature
        return self.by_formula(d.hidden, asked)

    @staticmethod
    def average(terms):
        """Of pairs (weight, loss)."""
        total = sum(weight for weight, _ in terms)
        return sum(weight * loss for weight, loss in terms) / total

    def error(self, off):
        if self.task.settings.error == "squared":
            return off**2
        return off**2 / 2 if abs(off) < 1 else abs(off) - 0.5

    def value(self):
        terms = []
        for k in self.events:
            if self.batch.observed[k]:
                code = self.code[k]
                told = self.query(k) @ self.decoder.value.weight[code]
                told = told + self.decoder.value_bias.weight[code, 0]
                terms.append((self.share[k], self.error(told - self.batch.value[k])))
        return self.average(terms)

    def category(self):
        terms, offsets = [], self.space.category_offsets.tolist()
        for k in self.events:
            if self.batch.category[k] > 0:
                ids = range(offsets[self.code[k]], offsets[self.code[k] + 1])
                odds = [(self.query(k) @ self.decoder.category.weight[i]).exp() for i in ids]
                right = odds[ids.index(int(self.batch.category[k]) - 1)]
                terms.append((self.share[k], -(right / sum(odds)).log()))
        return self.average(terms)

    def codes(self):
        d, terms = self.decoder, []
        for k in self.events:
            row = self.row[k]
            if self.hidden.codes[row, self.code[k]] or self.hidden.windows[row, self.window[k]]:
                continue
            known = self.by_formula(d.code_hidden, self.moment(k))
            odds = [
                (known @ d.code_out.weight[c] + d.code_bias.weight[c, 0]).exp()
                for c in range(self.space.n_codes)
            ]
            terms.append((self.share[k], -(odds[self.code[k]] / sum(odds)).log()))
        return self.average(terms)

    def presence(self):
        d, terms = self.decoder, []
        there = set(zip(self.row, self.code, self.window, strict=True))
        temporal = self.encoder.encoded.temporal
        shape = (len(self.batch), self.space.n_codes, self.space.n_windows)
        for row, code, window in itertools.product(*map(range, shape)):
            if not (self.hidden.codes[row, code] or self.hidden.windows[row, window]):
                continue
            what = d.presence_code.weight[code]
            if (token := self.encoder.token(row, code)) is not None:
                what = what + d.presence_feature.weight @ token
            where = d.presence_row.weight @ self.encoder.embedding[row]
            if temporal is not None:
                token = temporal.tokens[row, window]
                where = where + d.presence_window.weight @ token + d.presence_window.bias
            p = torch.sigmoid(what @ where + d.presence_bias.weight[code, 0])
            terms.append((1.0, -(p if (row, code, window) in there else 1 - p).log()))
        return self.average(terms)

    def summary(self):
        decoder, terms = self.task.summary, []
        truth, defined = naive_summary(self.batch, self.space)
        for row in range(len(self.batch)):
            known = self.by_formula(decoder.hidden, self.encoder.embedding[row])
            for code, k in itertools.product(
                range(self.space.n_codes), range(summary_width(self.space))
            ):
                if defined[row, code, k]:
                    off = decoder.code[code, k] @ known + decoder.bias[code, k]
                    off = off - truth[row, code, k]
                    terms.append((1.0, off**2 / 2 if abs(off) < 1 else abs(off) - 0.5))
        return self.average(terms)


def naive_summary(batch: EventBatch, space: Space) -> tuple[np.ndarray, np.ndarray]:
    """Statistics of each code of each row with NumPy, and whether they are defined."""
    B, V, horizon = len(batch), space.n_codes, space.horizon
    width = summary_width(space)
    truth, defined = np.zeros((B, V, width)), np.zeros((B, V, width), bool)
    for row, code in itertools.product(range(B), range(V)):
        at = ((batch.row == row) & (batch.code == code)).numpy()
        defined[row, code] = at.any()
        defined[row, code, 0] = True
        numbers = at & batch.observed.numpy()
        value = batch.value.numpy()[numbers]
        time, age = batch.time.numpy()[numbers] / horizon, batch.age.numpy()[numbers]
        statistics = [np.log1p(at.sum())] + [0.0] * (width - 1)
        if len(value):
            slope = np.polyfit(time, value, 1)[0] if len(set(time)) > 1 else 0.0
            statistics[1:5] = value.mean(), value.std(), value.min(), value.max()
            statistics[5:9] = value[0], value[-1], slope, age[-1] / horizon
        for k, share in enumerate(RECENT):
            recent = value[age <= share * horizon]
            if len(recent):
                statistics[9 + 4 * k : 13 + 4 * k] = (
                    np.log1p(len(recent)), recent.mean(), recent.min(), recent.max()
                )  # fmt: skip
        truth[row, code] = np.clip(statistics, -5, 5)
    return truth, defined


@pytest.mark.parametrize("kind", ["dual", "free", "time", "feature"])
@pytest.mark.parametrize("error", ["huber", "squared"])
def test_every_part_equals_the_loop_and_so_do_its_gradients(
    make_task, make_batch, make_encoder, by_formula, same_with_gradients, space, kind, error
):
    batch = make_batch()
    hidden = some_hidden(batch, space)
    weights = dict(value=1.5, category=0.7, code=0.4, presence=0.3, summary=2.0)
    task = make_task(masks=(HideGiven(hidden),), error=error, **weights)
    encoder = make_encoder(kind)
    parts = task(encoder, batch)
    assert tuple(parts) == PARTS
    loops = Loops(task, batch, hidden, encoder, by_formula)
    want = {
        "value": loops.value(),
        "category": loops.category(),
        "code": loops.codes(),
        "presence": loops.presence(),
        "summary": loops.summary(),
    }
    inputs = [*task.parameters(), *encoder.leaves]
    for name, loss in parts.items():
        same_with_gradients(loss, weights[name] * want[name], inputs)


def test_the_encoder_is_shown_what_is_not_hidden(make_task, make_batch, make_encoder, space):
    batch = make_batch()
    hidden = some_hidden(batch, space)
    encoder = make_encoder()
    make_task(masks=(HideGiven(hidden),))(encoder, batch)
    (shown,) = encoder.shown
    visible = batch.keep(~hidden.events)
    assert torch.equal(shown.row, visible.row) and torch.equal(shown.value, visible.value)
    assert torch.equal(shown.time, visible.time) and len(shown) == len(batch)


def test_summary_targets_equal_the_loop(make_batch, space):
    batch = make_batch(mean_events=40)
    truth, defined = naive_summary(batch, space)
    got, got_defined = summary_targets(batch, space, space.n_codes)
    np.testing.assert_allclose(got, truth, atol=1e-12)
    np.testing.assert_array_equal(got_defined.bool(), defined)
    assert np.abs(truth).max() == 5  # some are clipped
    first, _ = summary_targets(batch, space, 2)
    np.testing.assert_allclose(first, truth[:, :2], atol=1e-12)


def test_the_gradient_of_categories_is_that_of_finite_differences(make_task, make_batch, space):
    task, batch = make_task(), make_batch(2)
    torch.manual_seed(0)
    query = torch.randn(batch.n_events, 64, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda q: task.category_loss(q, batch)[0], query)


def test_large_scores_of_categories_do_not_overflow(make_task, make_batch):
    task, batch = make_task(), make_batch()
    query = torch.full((batch.n_events, 64), 1e4, dtype=torch.float64)
    loss, of = task.category_loss(query, batch)
    assert len(of) > 5 and loss.isfinite().all() and (loss >= 0).all()


def altered(batch: EventBatch, hidden: Hidden, edges: list[float]) -> EventBatch:
    """Other values, categories and times of the hidden events, in the same order and windows."""
    time, category = batch.time.clone(), batch.category.clone()
    for k in hidden.events.nonzero().squeeze(1).tolist():
        bounds = [e for e in edges if e > batch.time[k]] + [batch.time[k] + 1]
        if k + 1 < batch.n_events and batch.row[k + 1] == batch.row[k]:
            bounds.append(batch.time[k + 1])
        time[k] += 0.5 * (min(bounds) - batch.time[k])
        if category[k] > 0:  # another one of the same code
            category[k] = {1: 2, 2: 3, 3: 1, 4: 5, 5: 4}[int(category[k])]
    value = torch.where(hidden.events & batch.observed, 9 - batch.value, batch.value)
    age = batch.age + (batch.time - time)
    return replace(batch, time=time, age=age, value=value, category=category)


@pytest.mark.parametrize("patching, max_feature_patches, n_fixed_codes", [
    ("dual", 128, None), ("dual", 3, None), ("dual", 128, 4), ("time", 128, None),
    ("feature", 128, None),
])  # fmt: skip
def test_nothing_of_hidden_events_leaks(
    make_batch, space, patching, max_feature_patches, n_fixed_codes
):
    """To the last bit: statistics, counts and times are of what is visible alone."""
    batch = make_batch(mean_events=30).to("cpu", torch.float32)
    hidden = some_hidden(batch, space)
    other = altered(batch, hidden, [12.0, 24.0, 36.0])
    for name in ("value", "category", "time", "age"):
        changed = getattr(batch, name) != getattr(other, name)
        assert changed.any() and not changed[~hidden.events].any()
    assert torch.equal(space.window(batch), space.window(other))
    assert torch.equal(other.time, other.time[(other.row * 100 + other.time).argsort(stable=True)])

    torch.manual_seed(0)
    net = Pretrainer(
        objectives=[(MaskedReconstruction(masks=(HideGiven(hidden),)), 1.0)],
        pooling="codewise",
        d_embedding=8,
        scaling="reliability",
        category_offsets=space.category_offsets.tolist(),
        backbone={
            "n_codes": 6, "n_categories": 5, "window_edges": [12.0, 24.0, 36.0], "horizon": 48.0,
            "d_model": 8, "n_heads": 2, "patching": patching,
            "max_feature_patches": max_feature_patches, "n_fixed_codes": n_fixed_codes,
        },
    ).eval()  # fmt: skip
    told = []

    def encode(shown):
        encoded, embedding = net.encode(shown)
        groups = [group for group in encoded[1:] if group is not None]
        told.append([embedding, encoded.cls, *(t for g in groups for t in g if t is not None)])
        return encoded, embedding

    task = net.tasks["masked"]
    losses = task(encode, batch), task(encode, other)
    assert all(torch.equal(one, two) for one, two in zip(*told, strict=True))
    assert losses[0]["value"] != losses[1]["value"]  # it is asked for, though
    assert losses[0]["category"] != losses[1]["category"]
    net.encode(other)
    assert not torch.equal(net.encode(batch)[1], net.encode(other)[1])


@pytest.mark.parametrize("part", PARTS)
def test_a_weight_of_zero_leaves_a_part_out(make_task, make_batch, make_encoder, space, part):
    batch, masks = make_batch(), (HideGiven(some_hidden(make_batch(), space)),)
    whole = make_task(masks=masks)(make_encoder(), batch)
    rest = make_task(masks=masks, **{part: 0.0})(make_encoder(), batch)
    assert set(whole) - set(rest) == {part}
    for name, loss in rest.items():
        torch.testing.assert_close(loss, whole[name])
    alone = dict.fromkeys(PARTS, 0.0) | {part: 1.0}
    assert list(make_task(masks=masks, **alone)(make_encoder(), batch)) == [part]


def test_every_event_counts_by_its_code_and_row(make_task, make_batch, space):
    """Events of one code of one row weigh one together, however many were measured."""
    batch = make_batch(mean_events=30)
    hidden = some_hidden(batch, space)
    events, share, single = make_task().drawn(batch, hidden)
    total = torch.zeros(5, 6, dtype=torch.float64)
    total.index_put_((events.row, events.code), share, accumulate=True)
    cells = set(zip(events.row.tolist(), events.code.tolist(), strict=True))
    want = [[float((row, code) in cells) for code in range(6)] for row in range(5)]
    torch.testing.assert_close(total, torch.tensor(want, dtype=torch.float64))
    assert 0 < len(single) < events.n_events


def test_rebuilding_fewer_events_is_right_on_average(make_task, make_batch, make_encoder, space):
    """Where all weigh the same, exactly; here each row has lost one event of each code."""
    rng = np.random.default_rng(0)
    n = 5 * space.n_codes
    batch = replace(
        make_batch().keep(torch.zeros(make_batch().n_events, dtype=torch.bool)),
        row=torch.arange(5).repeat_interleave(6),
        code=torch.from_numpy(np.concatenate([rng.permutation(6) for _ in range(5)])),
        value=torch.from_numpy(rng.normal(size=n)),
        observed=torch.ones(n, dtype=torch.bool),
        category=torch.zeros(n, dtype=torch.int64),
        time=torch.arange(6, dtype=torch.float64).repeat(5) * 8,
        age=50 - torch.arange(6, dtype=torch.float64).repeat(5) * 8,
    )
    everything = Hidden.nothing(batch, space)._replace(events=torch.ones(n, dtype=torch.bool))
    settings = dict(masks=(HideGiven(everything),), category=0, presence=0, summary=0, code=1.0)
    whole = make_task(**settings)(make_encoder(), batch)
    some = make_task(**settings, n_decoded=8)
    torch.manual_seed(1)
    with torch.no_grad():
        draws = [some(make_encoder(), batch) for _ in range(400)]
    for part in ("value", "code"):
        losses = np.array([float(parts[part]) for parts in draws])
        error = losses.std(ddof=1) / math.sqrt(len(losses))
        assert error > 0 and abs(losses.mean() - whole[part].item()) < 3.5 * error
    assert some.drawn(batch, everything)[0].n_events == 8


def test_where_nothing_is_hidden_only_the_summary_is_left(make_task, make_batch, make_encoder):
    encoder = make_encoder()
    parts = make_task(masks=())(encoder, make_batch())
    assert {name for name, loss in parts.items() if loss != 0} == {"summary"}
    sum(parts.values()).backward()  # and nothing is NaN
    assert all(leaf.grad.isfinite().all() for leaf in encoder.leaves if leaf.grad is not None)


def test_rows_without_events_have_a_finite_loss(make_task, make_batch, make_encoder):
    nothing = make_batch().keep(torch.zeros(make_batch().n_events, dtype=torch.bool))
    encoder = make_encoder()
    torch.manual_seed(0)
    loss = sum(make_task()(encoder, nothing).values())
    loss.backward()
    assert loss.isfinite() and all(leaf.grad.isfinite().all() for leaf in encoder.leaves)


def test_with_a_large_vocabulary_some_codes_compete(monkeypatch, make_batch, space):
    batch = make_batch(2)
    assert scored_codes(batch, 6).tolist() == [0, 1, 2, 3, 4, 5]
    monkeypatch.setattr(masked, "MAX_SCORED", 20)
    torch.manual_seed(0)
    far = replace(batch, code=batch.code * 1000)
    codes = scored_codes(far, 10_000)
    assert set(far.code.tolist()) < set(codes.tolist()) and len(codes) <= 26
    assert (codes.diff() > 0).all() and codes.max() < 10_000


def test_the_loss_over_some_codes_is_that_over_all_where_all_are_drawn(
    monkeypatch, make_task, make_batch, make_encoder, space
):
    batch = make_batch(mean_events=40)
    assert len(batch.code.unique()) == space.n_codes  # all of them are in the batch
    masks = (HideGiven(some_hidden(batch, space)),)
    whole = make_task(masks=masks)(make_encoder(), batch)
    monkeypatch.setattr(masked, "MAX_SCORED", 2)
    torch.testing.assert_close(make_task(masks=masks)(make_encoder(), batch), whole)


def test_presence_of_some_codes_equals_the_loop(make_batch, space):
    batch, codes = make_batch(), torch.arange(6)
    got = measured(batch, space, codes)
    want = torch.zeros(5, 6, 4, dtype=torch.bool)
    for row, code, time in zip(batch.row, batch.code, batch.time, strict=True):
        want[row, code, sum(time >= e for e in (12, 24, 36))] = True
    assert torch.equal(got, want)


def test_the_mean_of_nothing_is_zero():
    loss = torch.tensor([1.0, 3.0], requires_grad=True)
    assert mean(loss, torch.tensor([3.0, 1.0])) == 1.5
    nothing = mean(loss, torch.zeros(2))
    nothing.backward()
    assert nothing == 0 and loss.grad.tolist() == [0.0, 0.0]


def test_the_same_seed_hides_the_same(make_task, make_batch, make_encoder):
    task, losses = make_task(masks=(HideEvents(), HideWindows(), HideCodes())), []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        losses.append(sum(task(make_encoder(), make_batch()).values()).item())
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize("wrong, message", [
    ({"error": "absolute"}, 'Expected error to be "huber" or "squared". Got \'absolute\''),
    ({"value": -1.0}, r"Expected weights of 0 or more, one of them positive. Got \(-1.0"),
    (dict.fromkeys(PARTS, 0.0), "one of them positive. Got"),
    ({"n_decoded": 0}, "Expected n_decoded of 1 or more. Got 0."),
])  # fmt: skip
def test_settings_that_make_no_sense_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        MaskedReconstruction(**wrong)
