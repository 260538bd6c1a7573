"""The decoder and its loss, against slow computations word by word."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import fields

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, Normal, kl_divergence

from tawt_sklearn.synthesis import SequenceSynthesizer
from tawt_sklearn.synthesis import grammar as grammar_module
from tawt_sklearn.synthesis.causal import banded_attention
from tawt_sklearn.synthesis.chart import Chart
from tawt_sklearn.synthesis.data import SentenceBatch
from tawt_sklearn.synthesis.decoder import IMPOSSIBLE
from tawt_sklearn.synthesis.gaps import SAME
from tawt_sklearn.synthesis.mixtures import log_normal_mixture, segment_log_softmax
from tawt_sklearn.synthesis.model import ROUGHLY, Posterior
from tawt_sklearn.synthesis.sampling import Rows, Writer, prefix_words
from tawt_sklearn.synthesis.symbols import LEVEL, NOTHING, NUMBER, REPEAT
from tawt_sklearn.synthesis.words import Context, Memory, Plan, Words

from .subjects import QUICK, frame_of, simple

EXACT = {"rtol": 0, "atol": 1e-9}


@pytest.fixture(scope="module")
def model(fitted):
    """In double precision, with weights far from those of the beginning."""
    copy = deepcopy(fitted.net_.module_).double().eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in copy.decoder.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return copy


@pytest.fixture(scope="module")
def batch(fitted, X, y):
    return fitted._data(X, y).batch(np.arange(12)).to("cpu", torch.float64)


@pytest.fixture(scope="module")
def z(fitted):
    return torch.randn(12, fitted.d_latent, generator=torch.Generator().manual_seed(1)).double()


def shown(words: SentenceBatch) -> Words:
    return Words(*(getattr(words, name) for name in Words._fields))


def row_of(words: SentenceBatch, row: int) -> SentenceBatch:
    """One row without padding."""
    n = int(words.filled[row].sum())
    return SentenceBatch(**{f.name: getattr(words, f.name)[row, :n][None] for f in fields(words)})


def assert_states_step_by_step(rows, decoder, words: SentenceBatch, expected) -> None:
    """Of rows after their prefix, as the words come one after the other."""
    state = rows.state
    for place in range(decoder.n_prefix, expected.shape[1]):
        here = words.filled[:, place]
        torch.testing.assert_close(state[here], expected[here, place], rtol=0, atol=1e-5)
        now = Words(*(part[:, place] for part in shown(words)))
        decoder.tracks.add(rows.chart, now, decoder.symbols.numeric(now.symbol))
        read = decoder.read(rows.chart, rows.plan, now.since)
        state = decoder.step(decoder.embed(now) + rows.added + read, rows.cache)


def read_prefix(writer: Writer, z: torch.Tensor, words: SentenceBatch) -> Rows:
    """Rows after the words about their whole history, and with their first numbers."""
    decoder, P = writer.decoder, writer.decoder.n_prefix
    first = decoder.plan(shown(words)).first
    no_level = torch.full(first.shape, -1)
    return writer._read_prefix(z, words.symbol[:, :P], words.score[:, :P], first, no_level)


def some_plan(decoder, n: int) -> Plan:
    """All codes come three times; first numbers differ."""
    like = torch.zeros(n, decoder.tracks.n_codes, dtype=torch.float64)
    return Plan(3 + like, torch.linspace(-1, 1, like.numel()).double().view_as(like))


def some_context(decoder, code: torch.Tensor) -> Context:
    """Of n words whose codes have had every other time a number."""
    n = len(code)
    ones = torch.ones(n, dtype=torch.float64)
    symbol = torch.zeros(n, dtype=torch.int64)
    memory = Memory(symbol, ones, torch.arange(n) % 2 > 0, *4 * [ones])
    chart = Chart(*(part + 1 for part in decoder.tracks.empty(n, ones)))
    return decoder.context(code, ones, memory, chart, some_plan(decoder, n), 0 * ones)


# ---- states ------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("place", [2, 8, 17, 18, 20])
def test_a_word_changes_no_state_before_it(model, batch, z, place):
    decoder, words = model.decoder, row_of(batch.words, 0)
    assert decoder.n_prefix == 18
    plan = decoder.plan(shown(words))
    before = decoder(shown(words), z[:1], plan)
    changed = Words(*(part.clone() for part in shown(words)))
    changed.code[:, place] = 0
    changed.symbol[:, place] = decoder.symbols.offsets[0]
    changed.score[:, place] = 1.5
    changed.since[:, place] = 7.0
    after = decoder(changed, z[:1], plan)
    torch.testing.assert_close(after[:, : place + 1], before[:, : place + 1], **EXACT)
    assert (after[:, place + 1 :] - before[:, place + 1 :]).abs().amax(-1).min() > 1e-6


@torch.no_grad()
def test_states_step_by_step_are_those_of_all_at_once(fitted, model, batch, z):
    decoder, P = model.decoder, model.decoder.n_prefix
    writer = Writer(decoder, fitted.grammar_, fitted.beginnings_, torch.Generator())
    words = batch.words
    expected = decoder(shown(words), z)
    rows = read_prefix(writer, z, words)
    # Of so few different numbers of events each is a class of its own.
    torch.testing.assert_close(rows.plan.n_events, decoder.counts(shown(words)), **EXACT)
    torch.testing.assert_close(rows.total, (words.filled.sum(1) - P - 1).double(), **EXACT)
    assert_states_step_by_step(rows, decoder, words, expected)


# ---- a limited context -------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize(("first", "window"), [(0, 1), (3, 1), (3, 4), (5, 7), (2, 100)])
def test_banded_attention_is_attention_under_a_mask(first, window):
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 4, 23, 8, dtype=torch.float64)
    back = torch.arange(23).unsqueeze(1) - torch.arange(23)
    seen = (back >= 0) & ((back < window) | (torch.arange(23) < first))
    weight = (q @ k.mT / 8**0.5).masked_fill(~seen, -torch.inf).softmax(-1)
    torch.testing.assert_close(banded_attention(q, k, v, first, window), weight @ v, **EXACT)


@torch.no_grad()
def test_the_cache_of_a_limited_context_gives_the_states_of_all_at_once(fitted, model, batch, z):
    decoder = deepcopy(model.decoder)
    decoder.context_length, P = 3, model.decoder.n_prefix
    words = batch.words
    assert words.code.shape[1] > P + 4 * decoder.context_length
    expected = decoder(shown(words), z)
    assert (expected - model.decoder(shown(words), z)).abs().max() > 1e-3
    writer = Writer(decoder, fitted.grammar_, fitted.beginnings_, torch.Generator())
    rows = read_prefix(writer, z, words)
    assert_states_step_by_step(rows, decoder, words, expected)


def test_stretches_of_long_histories_stand_for_all_of_them(model, batch):
    model, P = deepcopy(model), model.decoder.n_prefix
    model.decoder.context_length = W = 6
    words, lengths = batch.words, batch.words.filled.sum(1) - P
    torch.manual_seed(0)
    told = torch.zeros(words.code.shape, dtype=torch.float64)
    seen = torch.zeros(len(lengths), dtype=torch.int64)
    N = 3000
    for _ in range(N):
        some, weight, start = model.stretches(words)
        assert start is not None
        assert some.code.shape == weight.shape == (len(lengths), P + W + 1)
        for name in ("code", "score", "since"):
            part, whole = getattr(some, name), getattr(words, name)
            torch.testing.assert_close(part[:, :P], whole[:, :P], **EXACT)
        assert (weight[~some.filled] == 0).all()
        # Where a stretch begins: words of a history lie at different times and places of `left`.
        for row in range(3):
            n = int(some.filled[row].sum()) - P
            begin = [
                k
                for k in range(int(lengths[row]) - n + 1)
                if torch.equal(words.left[row, P + k : P + k + n], some.left[row, P : P + n])
            ]
            assert begin
            told[row, P + begin[0] : P + begin[0] + n] += weight[row, P : P + n] / N
            seen[row] += 1
    for row in range(3):
        n = int(lengths[row])
        counted = told[row, P : P + n]
        assert seen[row] == N
        if n <= W + 1:
            torch.testing.assert_close(counted, torch.ones(n, dtype=torch.float64))
        else:  # near the ends a bit more or less than elsewhere
            assert counted.min() > 0.3
            assert counted.max() < 2.5
            assert float(counted.mean()) == pytest.approx(1, abs=0.25)


def test_words_about_the_whole_history_know_nothing_of_its_events(model, batch, z, monkeypatch):
    """Not even where a stretch begins in the middle, after many events."""
    words, decoder, P = batch.words, model.decoder, model.decoder.n_prefix
    start = decoder.tracks.after(words, words.filled, decoder.symbols.numeric(words.symbol))
    assert (start.n_events > 0).any()
    seen = []

    def states(*args, **kwargs):
        seen.append(args[3])
        return type(decoder).forward(decoder, *args, **kwargs)

    monkeypatch.setattr(decoder, "forward", states)
    model.states(words, z, decoder.plan(shown(words)), start)
    empty = decoder.tracks.empty(1, words.score)
    for chart in seen:
        for part, none in zip(chart, empty, strict=True):
            torch.testing.assert_close(part[:, :P], none.expand_as(part[:, :P]), **EXACT)
    assert all((chart.n_events[:, P:].sum(-1) > 0).any() for chart in seen)


@torch.no_grad()
def test_rows_that_leave_the_cache_do_not_change_the_others(model, z):
    decoder = model.decoder
    x = torch.randn(12, 40, decoder.begin.shape[0], generator=torch.Generator().manual_seed(0))
    x, kept = x.double(), torch.tensor([1, 4, 9])
    few, all_rows = decoder.cache(), decoder.cache()
    for place in range(40):
        state = decoder.step(x[:, place], all_rows)
        if place < 3:
            decoder.step(x[:, place], few)
            continue
        if place == 3:
            few.keep(kept)
        torch.testing.assert_close(decoder.step(x[kept, place], few), state[kept], **EXACT)


@torch.no_grad()
def test_padding_changes_nothing(model, batch, z):
    told = model.log_likelihood(batch.words, z)
    for row in range(len(z)):
        alone = model.log_likelihood(row_of(batch.words, row), z[row : row + 1])
        for name, part in told.items():
            torch.testing.assert_close(alone[name][0], part[row], rtol=1e-9, atol=1e-9)


# ---- choices -----------------------------------------------------------------------------------


def slow_trend(numbers: list[tuple[float, float]], now: float) -> torch.Tensor:
    """By ridge regression on the times, whose penalty is half of the squared time until now."""
    if len(numbers) < 2:
        return torch.zeros(1).double()
    time, score = np.array(numbers).T
    far = now - time.mean()
    slope = ((time - time.mean()) * score).sum() / (time.var() * len(time) + far**2 / 2 + 1e-9)
    return torch.tensor([np.clip(slope * far, -4, 4)])


def slow_hint(decoder, grammar, code, symbol, score, has_score) -> torch.Tensor:
    """What follows of a number from the words about the whole history, column after column."""
    P, stated = decoder.n_prefix, decoder.stated
    track, hint = int(decoder.tracks.of_code[code]), torch.zeros(1).double()
    if track == decoder.tracks.n_codes:
        return hint
    weight, column = stated.weight[2 * track + has_score], P
    for k in range(P):
        hint += weight[k] * (score[k] - stated.usual[k])
        first, last = grammar.offsets[grammar.n_codes + 1 + k :][:2]
        for other in range(first, last):
            numeric = grammar.kind[other] == NUMBER or not np.isnan(grammar.level_score[other])
            if not numeric and last - first > 1:
                hint += weight[column] * (float(symbol[k] == other) - stated.usual[column])
                column += 1
    assert column == stated.n_columns
    return hint


def slow_log_likelihood(model, grammar, words: SentenceBatch, z) -> dict[str, float]:
    """Of one row: a loop over its words, with the whole distribution of each choice written out."""
    decoder, P = model.decoder, model.decoder.n_prefix
    states = decoder(shown(words), z)[0]
    charts = decoder.chart(shown(words))
    plan = decoder.plan(shown(words))
    code, gap = words.code[0].tolist(), words.gap[0].tolist()
    symbol, score, since = words.symbol[0].tolist(), words.score[0].tolist(), words.since[0]
    told = dict.fromkeys(("gap", "code", "symbol", "number"), 0.0)
    for place in range(P, len(code)):
        state, now = states[place], torch.tensor([gap[place]])
        chart = charts.at(slice(None), place)
        if code[place] != grammar.end:
            paces = words.until, words.left, words.rest
            last = Words(*(part[0, place - 1] for part in shown(words)))
            about = decoder.about_gap(state, last)
            chances = decoder.to_gap(about).clone()
            before = code[place - 1]
            left = [c for c in range(grammar.n_codes) if c in code]
            chained = [c for c in left if c > before or (c == before and grammar.repeats[c])]
            if place > P and not chained:
                chances[SAME] = IMPOSSIBLE
            if place > P:
                told["gap"] += Categorical(logits=chances).log_prob(now[0])
            logits = decoder.to_code(state + decoder.after_gap(now)[0]).clone()
            pace = decoder.paces(*(part[:, place - 1] for part in paces))
            facts = decoder.tracks.facts(chart, since[place : place + 1])
            due = torch.cat([facts, decoder.due(chart, plan), pace], 1)
            by_chart = decoder.code_by_chart(due)[0].chunk(2)
            for track, other in enumerate(decoder.tracks.codes.tolist()):
                logits[other] += by_chart[min(gap[place], 1)][track]
            if gap[place] == 0 and place > P:
                for other in range(grammar.n_codes):
                    if other < before or (other == before and not grammar.repeats[other]):
                        logits[other] = IMPOSSIBLE
            for other in range(grammar.n_codes):
                if other not in code:  # as was said before
                    logits[other] = IMPOSSIBLE
            told["code"] += logits.log_softmax(0)[code[place]]
        of_code = [k for k in range(place) if code[k] == code[place]]
        numbered = [
            k
            for k in of_code
            if grammar.kind[symbol[k]] in (NUMBER, REPEAT)
            or not np.isnan(grammar.level_score[symbol[k]])
        ]
        memory = Memory(
            torch.tensor([symbol[of_code[-1]] if of_code else decoder.symbols.number]),
            torch.tensor([score[numbered[-1]] if numbered else 0.0]).double(),
            torch.tensor([bool(numbered)]),
            (since[place] - since[of_code[-1]] if of_code else torch.tensor(0.0))[None].double(),
            torch.tensor([np.mean([score[k] for k in numbered]) if numbered else 0.0]).double(),
            torch.tensor([len(numbered)]).double(),
            slow_trend([(since[k].item(), score[k]) for k in numbered], since[place].item()),
        )
        word = torch.tensor([code[place]])
        hint = slow_hint(decoder, grammar, code[place], symbol, score, bool(numbered))
        context = decoder.context(word, since[place : place + 1], memory, chart, plan, hint)
        about = decoder.about(state[None], now, context)
        first, last = grammar.offsets[code[place] : code[place] + 2]
        table = decoder.symbol_table.weight[first:last] @ about[0] + decoder.symbol_bias[first:last]
        weight, mean, spread = decoder.normals(about, context)
        mixture = MixtureSameFamily(Categorical(logits=weight), Normal(mean, spread))
        for k in np.flatnonzero(~np.isnan(grammar.level_score[first:last])):
            at = torch.tensor([np.float32(grammar.level_score[first + k])]).double()
            table[k] += decoder.order.weight[code[place], 0] * mixture.log_prob(at)[0]
        for k in np.flatnonzero(decoder.tracks.of_level[first:last] < decoder.tracks.n_levels):
            seen = sum(symbol[place] == first + k for place in of_code)
            share = (seen + 0.5) / (len(of_code) + 1)
            weight = decoder.habit.weight[decoder.tracks.of_level[first + k]]
            knots = 1 - abs(share - np.linspace(0, 1, len(weight) - 1)) * (len(weight) - 2)
            table[k] += weight @ torch.from_numpy(np.r_[np.log(share), knots.clip(0)])
        if not numbered:
            table = table.where(torch.from_numpy(grammar.kind[first:last] != REPEAT), -torch.inf)
        track = decoder.tracks.of_code[code[place]]
        stated = track < decoder.tracks.n_codes and not numbered  # if it is a number at all
        if not (stated and not np.isnan(grammar.level_score[symbol[place]])):
            told["symbol"] += table.log_softmax(0)[symbol[place] - first]
        if grammar.kind[symbol[place]] == NUMBER and not stated:
            told["number"] += mixture.log_prob(torch.tensor([score[place]]).double())[0]
    return {name: float(part) for name, part in told.items()}


@torch.no_grad()
def test_log_likelihoods_are_those_of_a_loop_over_words(fitted, model, batch, z):
    told = model.log_likelihood(batch.words, z)
    for row in range(len(z)):
        words = row_of(batch.words, row)
        slow = slow_log_likelihood(model, fitted.grammar_, words, z[row : row + 1])
        for name, part in slow.items():
            assert float(told[name][row]) == pytest.approx(part, abs=1e-6), (row, name)


@torch.no_grad()
def test_codes_at_one_time_come_in_order(fitted, model):
    decoder, grammar = model.decoder, fitted.grammar_
    V, rng = grammar.n_codes, torch.Generator().manual_seed(0)
    assert 0 < grammar.repeats.sum() <= V
    state = torch.randn(V + 2, decoder.begin.shape[0], generator=rng).double()
    last = torch.arange(V + 2)  # the last one: there is none
    zero = torch.zeros(V + 2, dtype=torch.int64)
    before = prefix_words(last, zero, zero.double())
    known = zero, before, decoder.tracks.empty(V + 2, state), some_plan(decoder, V + 2)
    together = decoder.code_scores(state, zero, *known)
    later = decoder.code_scores(state, zero + 1, *known)
    assert (later > IMPOSSIBLE).all()
    for before in range(V):
        for code in range(V):
            allowed = code > before or (code == before and grammar.repeats[code])
            assert bool(together[before, code] > IMPOSSIBLE) == allowed
    assert (together[V + 1] > IMPOSSIBLE).all()


@torch.no_grad()
def test_codes_that_were_said_never_to_come_do_not(fitted, model):
    decoder, C = model.decoder, model.decoder.tracks.n_codes
    zero, chart = torch.zeros(1, dtype=torch.int64), model.decoder.tracks.empty(1, decoder.begin)
    count = torch.arange(C).double()[None]
    plan = some_plan(decoder, 1)._replace(n_events=count)
    state = torch.randn(1, decoder.begin.shape[0]).double()
    last = prefix_words(zero + decoder.n_codes + 1, zero, zero.double())
    scores = decoder.code_scores(state, zero + 1, zero.double(), last, chart, plan)[0]
    assert ((scores > IMPOSSIBLE) == (count[0] > 0)).all()


def test_codes_without_a_line_are_written_too():
    X = frame_of(*[[(float(k), code, 1.0) for k, code in enumerate("aaab")]] * 30)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grammar_module, "MOST_CHARTED", 1)
        synthesizer = SequenceSynthesizer(**QUICK).fit(X)
    assert synthesizer.grammar_.charted.tolist() == [0]
    drawn = synthesizer.sample(50, random_state=0)["events"]
    assert all(len(history.code) == 4 for history in drawn)
    assert any("b" in history.code for history in drawn)


def test_numbers_of_events_are_told_roughly_in_training(model):
    torch.manual_seed(0)
    count = torch.tensor([[0.0, 1.0, 100.0]]).expand(2000, -1)
    told = model.about(count)
    assert (told[:, 0] == 0).all()
    assert (told[:, 1:] > 0).all()
    assert float(told[:, 2].median()) == pytest.approx(100, abs=2)
    assert float(told[:, 2].log().std()) == pytest.approx(ROUGHLY, rel=0.1)


@torch.no_grad()
def test_chances_of_symbols_sum_to_one(fitted, model, batch, z):
    decoder, grammar = model.decoder, fitted.grammar_
    code = torch.arange(grammar.n_codes + 1)
    about = torch.randn(len(code), decoder.begin.shape[0], dtype=torch.float64)
    chances, symbol, owner = decoder.symbol_scores(about, some_context(decoder, code))
    chances = segment_log_softmax(chances, owner, len(code)).exp()
    total = torch.zeros(len(code), dtype=torch.float64).index_add(0, owner, chances)
    torch.testing.assert_close(total, torch.ones_like(total))
    assert symbol.tolist() == list(range(decoder.n_own))
    np.testing.assert_array_equal(np.bincount(owner), np.diff(grammar.offsets)[: len(code)])


def test_the_density_of_numbers_integrates_to_one(model):
    torch.manual_seed(0)
    decoder = model.decoder
    about = 3 * torch.randn(5, decoder.begin.shape[0], dtype=torch.float64)
    with torch.no_grad():
        normals = decoder.normals(about, some_context(decoder, torch.arange(5)))
    x = torch.linspace(-60, 60, 60_001, dtype=torch.float64)
    told = [
        log_normal_mixture(x, tuple(part[k].expand(len(x), -1) for part in normals))
        for k in range(5)
    ]
    areas = torch.trapezoid(torch.stack(told).exp(), x)
    torch.testing.assert_close(areas, torch.ones(5, dtype=torch.float64), rtol=0, atol=1e-4)


@torch.no_grad()
def test_the_writer_tells_the_same_chances_as_the_loss(fitted, model):
    decoder, grammar = model.decoder, fitted.grammar_
    writer = Writer(decoder, grammar, fitted.beginnings_, torch.Generator().manual_seed(0))
    code = torch.arange(grammar.n_codes + 1).repeat_interleave(3)  # the last one is the end
    about = torch.randn(len(code), decoder.begin.shape[0], dtype=torch.float64)
    context = some_context(decoder, code)
    chances, first = writer._symbols(about, context)
    assert first.tolist() == grammar.offsets[code].tolist()
    scores, symbol, owner = decoder.symbol_scores(about, context)
    expected = segment_log_softmax(scores, owner, len(code))
    torch.testing.assert_close(chances[owner, symbol - first[owner]], expected)
    torch.testing.assert_close(chances.exp().sum(1), torch.ones(len(code)).double())
    drawn = writer._symbol(about, context)
    assert (first <= drawn).all()
    assert (drawn < torch.from_numpy(grammar.offsets)[code + 1]).all()


def test_what_is_drawn_is_as_frequent_as_it_is_likely(fitted):
    decoder, generator = fitted.net_.module_.decoder, torch.Generator().manual_seed(0)
    writer = Writer(decoder, fitted.grammar_, fitted.beginnings_, generator)
    scores = torch.tensor([[0.0, 1.0, -1.0, -torch.inf]])
    drawn = writer._draw(scores.expand(40_000, -1))
    share = torch.bincount(drawn, minlength=4) / 40_000
    torch.testing.assert_close(share, scores[0].softmax(0), rtol=0, atol=0.01)


# ---- learning ----------------------------------------------------------------------------------


def test_a_gradient_reaches_every_parameter(fitted, X, y):
    model = deepcopy(fitted.net_.module_).train()
    batch = fitted._data(X, y).batch(np.arange(len(X))).to("cpu", torch.float32)
    torch.manual_seed(0)
    with torch.enable_grad():
        for weight in model.parameters():
            weight.requires_grad_(True)
            weight.grad = None
        model.n_steps += 10**6  # the divergence counts in full
        model.free_bits = 0.0
        sum(model(batch).values()).backward()
    unreached = [
        name
        for name, weight in model.named_parameters()
        if weight.grad is None or not weight.grad.abs().max() > 0
    ]
    assert unreached == []


def test_divergence():
    torch.manual_seed(0)
    posterior = Posterior(torch.randn(7, 3).double(), torch.randn(7, 3).double())
    of = Normal(posterior.mean, (0.5 * posterior.log_variance).exp())
    expected = kl_divergence(of, Normal(torch.zeros(3).double(), torch.ones(3).double()))
    torch.testing.assert_close(posterior.divergence(), expected)


def test_latents_are_drawn_from_the_posterior():
    torch.manual_seed(0)
    posterior = Posterior(torch.full((50_000, 1), 2.0), torch.full((50_000, 1), -1.0))
    drawn = posterior.draw()
    assert float(drawn.mean()) == pytest.approx(2, abs=0.02)
    assert float(drawn.var()) == pytest.approx(np.exp(-1), rel=0.03)


@torch.no_grad()
def test_the_loss_is_the_sum_over_words_divided_by_their_number(model, batch):
    parts = model(batch)
    posterior = model.posterior(batch.events)
    told = model.log_likelihood(batch.words, posterior.mean)
    n_words = batch.words.filled[:, model.decoder.n_prefix :].sum()
    for name, part in told.items():
        torch.testing.assert_close(parts[name], -part.sum() / n_words)
    free = posterior.divergence().mean(0).clamp(min=model.free_bits).sum()
    torch.testing.assert_close(parts["divergence"], free * len(posterior.mean) / n_words)


@torch.no_grad()
def test_the_loss_does_not_see_padding(fitted, model, X, y):
    data = fitted._data(X, y)
    rows = np.argsort(data.sizes())[:6]
    batch = data.batch(rows).to("cpu", torch.float64)
    longest = data.batch(np.append(rows, np.argmax(data.sizes()))).to("cpu", torch.float64)
    padded = longest.part(0, len(rows))
    assert padded.words.code.shape[1] > batch.words.code.shape[1]
    z = torch.zeros(len(rows), fitted.d_latent).double()
    for loss in (model.log_likelihood(padded.words, z), model.log_likelihood(batch.words, z)):
        assert all(torch.isfinite(part).all() for part in loss.values())
    for name, part in model(padded).items():
        torch.testing.assert_close(part, model(batch)[name])


def test_a_batch_of_one_row_can_be_trained_on(fitted, X, y):
    model = deepcopy(fitted.net_.module_).train()
    batch = fitted._data(X, y).batch(np.array([0])).to("cpu", torch.float32)
    with torch.enable_grad():
        loss = sum(model(batch).values())
    assert torch.isfinite(loss)
    assert model.normalise.training


@pytest.mark.parametrize("word_dropout", [0.0, 0.9])
def test_word_dropout(plain_X, word_dropout):
    parameters = {**QUICK, "word_dropout": word_dropout}
    history = SequenceSynthesizer(**parameters).fit(plain_X).history_
    assert np.isfinite(history.drop(columns="epoch")).all(axis=None)


def test_numbers_are_spread_over_what_they_cover_in_training_only(fitted, X, y):
    model = deepcopy(fitted.net_.module_).eval()
    batch = fitted._data(X, y).batch(np.arange(8)).to("cpu", torch.float32)
    z = torch.zeros(8, fitted.d_latent)
    with torch.no_grad():
        first, again = (model.log_likelihood(batch.words, z)["number"] for _ in range(2))
        torch.testing.assert_close(first, again, **EXACT)
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        model.train()
        first, again = (model.log_likelihood(batch.words, z)["number"] for _ in range(2))
    assert not torch.equal(first, again)


def test_a_code_without_numbers_needs_none():
    X = simple(value=lambda rng, code: None)
    synthesizer = SequenceSynthesizer(**QUICK).fit(X)
    grammar = synthesizer.grammar_
    assert not set(grammar.marginals) & set(range(grammar.n_codes))
    assert set(grammar.kind[: grammar.offsets[2]]) == {NOTHING}
    assert LEVEL in grammar.kind  # the number of events
