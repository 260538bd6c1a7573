"""Static columns and points in time as vectors."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from tawt_sklearn.nn.static import StaticTokens
from tawt_sklearn.nn.time import Time2Vec


def test_static_columns_have_tokens_of_their_own(make_batch):
    torch.manual_seed(0)
    batch = make_batch(n_static_numeric=2, cardinalities=(3, 5))
    numbers = torch.tensor([[1.5, torch.nan]]).expand(5, -1)
    ids = torch.tensor([[2, 4], [0, 0], [2, 0], [1, 1], [0, 4]])
    batch = replace(batch, static_numeric=numbers, static_category=ids)
    static = StaticTokens(2, (3, 5), 8)
    tokens = static(batch)
    assert tokens.shape == (5, 4, 8)
    torch.testing.assert_close(tokens[0, 0], 1.5 * static.weight[0] + static.bias[0])
    torch.testing.assert_close(tokens[0, 1], static.missing[1])
    table = static.category.weight
    torch.testing.assert_close(tokens[:, 2], table[ids[:, 0]])
    torch.testing.assert_close(tokens[:, 3], table[3 + ids[:, 1]])


def test_time2vec_is_a_line_and_waves_between_the_two_periods():
    encoding = Time2Vec(7, shortest=2.0, longest=50.0)
    time = torch.linspace(0, 100, 11)
    features = encoding(time)
    torch.testing.assert_close(features[:, 0], time / 50)
    periods = 2 * math.pi / encoding.frequency[1:].detach()
    torch.testing.assert_close(periods[[0, -1]], torch.tensor([50.0, 2.0]))
    waves = [torch.sin(2 * math.pi * time / 50), torch.cos(2 * math.pi * time / periods[1])]
    torch.testing.assert_close(features[:, 1:3], torch.stack(waves, 1), atol=1e-4, rtol=0)
    assert features[:, 1:].abs().max() <= 1
