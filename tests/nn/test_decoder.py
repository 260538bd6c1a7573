"""From patches back to events: look-ups and ragged scores against loops."""

from __future__ import annotations

import pytest
import torch

from tawt_sklearn.nn.backbone import Encoded
from tawt_sklearn.nn.batch import EventBatch
from tawt_sklearn.nn.decoder import MAX_SUMMARISED, EventDecoder, FeatureLookup, SummaryDecoder
from tawt_sklearn.nn.patching import FeaturePatches, Patches, Places
from tawt_sklearn.nn.space import Space

OFFSETS = [0, 0, 3, 3, 5, 5, 9, 9]  # seven codes; 1, 3 and 5 have categories
D_MODEL, D_ROW = 5, 4


@pytest.fixture
def space() -> Space:
    return Space(7, OFFSETS, [12.0, 24.0, 36.0], horizon=48.0)


@pytest.fixture
def decoder(space) -> EventDecoder:
    torch.manual_seed(0)
    decoder = EventDecoder(space, D_MODEL, D_ROW)
    for table in (decoder.value_bias, decoder.code_bias, decoder.presence_bias):
        torch.nn.init.normal_(table.weight)
    return decoder.double()


def given(feature: Patches | None, temporal: Patches | None, n_rows: int) -> Encoded:
    cls = torch.zeros(n_rows, D_MODEL, dtype=torch.float64)
    return Encoded(cls, Patches(cls[:, None][:, :0]), feature, temporal, None)


def test_a_space_knows_its_sizes(space):
    assert (space.n_codes, space.n_categories, space.n_windows) == (7, 9, 4)
    assert Space(3, [0, 0, 0, 0], [], horizon=1.0).n_windows == 1


@pytest.mark.parametrize(
    "places", [Places(7, 0), Places(0, 3), Places(0, 7), Places(4, 2)], ids=str
)
def test_the_patch_of_a_code_is_found_wherever_its_place_is(make_batch, places):
    """Looked up for every row and code; a code without a patch gets what stands for none."""
    batch = make_batch(n_codes=7, mean_events=6)
    torch.manual_seed(0)
    feature = FeaturePatches(7, 0, D_MODEL, 48.0, places)(batch)
    lookup = FeatureLookup(feature, 7)
    row, code = torch.cartesian_prod(torch.arange(5), torch.arange(7)).unbind(1)
    none = torch.full((D_MODEL,), -9.0)
    found = lookup(feature.tokens, row, code, none)
    n_found = 0
    for n, (b, v) in enumerate(zip(row.tolist(), code.tolist(), strict=True)):
        want = none
        for place in range(feature.tokens.shape[1]):
            codes = feature.code.expand(5, -1)
            if codes[b, place] == v and (feature.filled is None or feature.filled[b, place]):
                want = feature.tokens[b, place]
                n_found += 1
        assert torch.equal(found[n], want)
    assert n_found == (35 if feature.filled is None else feature.filled.sum())


def test_padding_is_not_taken_for_the_first_code():
    """Empty places carry the code 0."""
    feature = Patches(
        torch.arange(4.0).view(2, 2, 1), code=torch.tensor([[0, 3], [3, 0]]),
        filled=torch.tensor([[True, True], [True, False]]),
    )  # fmt: skip
    row, code = torch.tensor([0, 1, 1]), torch.tensor([0, 0, 3])
    found = FeatureLookup(feature, 4)(feature.tokens, row, code, torch.tensor([-1.0]))
    assert found.flatten().tolist() == [0.0, -1.0, 2.0]


def test_scores_of_categories_are_those_of_the_loop(decoder):
    code = torch.tensor([1, 0, 5, 3, 5, 6])
    torch.manual_seed(1)
    query = torch.randn(6, 64, dtype=torch.float64)
    scores, owner, category = decoder.category_scores(query, code)
    want = [
        (n, k, query[n] @ decoder.category.weight[k])
        for n in range(6)
        for k in range(OFFSETS[code[n]], OFFSETS[code[n] + 1])
    ]
    assert owner.tolist() == [n for n, _, _ in want]
    assert category.tolist() == [k for _, k, _ in want]
    torch.testing.assert_close(scores, torch.stack([score for _, _, score in want]))


@pytest.mark.parametrize("code", [[], [0, 2, 4]])
def test_codes_without_categories_have_no_scores(decoder, code):
    query = torch.zeros(len(code), 64, dtype=torch.float64)
    assert [
        len(part) for part in decoder.category_scores(query, torch.tensor(code, dtype=torch.int64))
    ] == [0, 0, 0]


def test_a_space_without_categories_can_be_decoded():
    decoder = EventDecoder(Space(2, [0, 0, 0], [], horizon=1.0), D_MODEL, D_ROW)
    scores, _, _ = decoder.category_scores(torch.zeros(3, 64), torch.tensor([0, 1, 1]))
    assert scores.shape == (0,)


def asked(row, time):
    """Events at these times, of which no more is known."""
    nothing = torch.zeros_like(time)
    return EventBatch(
        row, row, nothing, nothing > 0, row, time, nothing, nothing[:0, None], row[:0, None]
    )


def test_a_moment_is_answered_from_its_own_window_and_row(decoder):
    torch.manual_seed(0)
    temporal = Patches(torch.randn(3, 4, D_MODEL, dtype=torch.float64))
    embedding = torch.randn(3, D_ROW, dtype=torch.float64)
    row = torch.tensor([0, 0, 2])
    time = torch.tensor([3.0, 30.0, 30.0], dtype=torch.float64)
    events = asked(row, time)
    whole = decoder.context(given(None, temporal, 3), embedding, events)
    for n, (b, w) in enumerate([(0, 0), (0, 2), (2, 2)]):
        for other_row, other_window in ((b, w), (b, w + 1), (1, w)):
            tokens = temporal.tokens.clone()
            tokens[other_row, other_window] += 1
            changed = decoder.context(given(None, Patches(tokens), 3), embedding, events)[n]
            same = torch.equal(changed, whole[n])
            assert same == ((other_row, other_window) != (b, w))


def test_every_head_has_its_shape(decoder):
    torch.manual_seed(0)
    feature = Patches(torch.randn(3, 7, D_MODEL, dtype=torch.float64), code=torch.arange(7)[None])
    temporal = Patches(torch.randn(3, 4, D_MODEL, dtype=torch.float64))
    embedding = torch.randn(3, D_ROW, dtype=torch.float64)
    row, code = torch.tensor([0, 2]), torch.tensor([6, 1])
    time = torch.tensor([1.0, 2.0], dtype=torch.float64)
    some = torch.tensor([1, 4, 6])
    for encoded in (given(feature, temporal, 3), given(None, temporal, 3), given(feature, None, 3)):
        moment = decoder.context(encoded, embedding, asked(row, time))
        query = decoder.query(encoded, moment, row, code)
        assert moment.shape == query.shape == (2, 64)
        assert decoder.values(query, code).shape == (2,)
        assert decoder.code_scores(moment, some).shape == (2, 3)
        presence = decoder.presence(encoded, embedding, some)
        assert presence.shape == (3, 3, 4)
        every = decoder.presence(encoded, embedding, torch.arange(7))
        torch.testing.assert_close(presence, every[:, some])


def test_a_summary_is_of_the_embedding_alone_and_of_the_first_codes():
    space = Space(600, [0] * 601, [], horizon=1.0)
    torch.manual_seed(0)
    decoder = SummaryDecoder(space, D_ROW, n_statistics=3).double()
    torch.nn.init.normal_(decoder.bias)
    embedding = torch.randn(2, D_ROW, dtype=torch.float64)
    got = decoder(embedding)
    assert got.shape == (2, MAX_SUMMARISED, 3)
    hidden = decoder.hidden(embedding)
    for row, code, k in [(0, 0, 0), (1, 7, 2), (1, 511, 1)]:
        want = decoder.code[code, k] @ hidden[row] + decoder.bias[code, k]
        torch.testing.assert_close(got[row, code, k], want)
