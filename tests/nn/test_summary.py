"""Statistics side by side, and the head of many small networks that sees them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tawt_sklearn.nn.panel_statistics import channel_statistics
from tawt_sklearn.nn.statistics import STATISTICS, n_code_statistics
from tawt_sklearn.nn.summary import (
    FARTHEST,
    EnsembleLinear,
    EventColumns,
    PanelColumns,
    Summary,
    SummaryHead,
    SummaryScale,
    summary_columns,
)

from .panels import LENGTHS, make_panel

CODES, CATEGORIES, HORIZON = 5, 3, 48.0
K = n_code_statistics(3)


def columns(max_codes=CODES, static_numeric=2, cardinalities=(3, 4)) -> EventColumns:
    return EventColumns(CODES, CATEGORIES, HORIZON, max_codes, static_numeric, cardinalities)


@pytest.fixture
def batch(make_batch):
    torch.manual_seed(0)
    drawn = make_batch(n_codes=CODES, n_categories=CATEGORIES, mean_events=30, dtype=torch.float64)
    static = torch.tensor([[0.5, torch.nan]], dtype=torch.float64).repeat(len(drawn), 1)
    levels = torch.tensor([[1, 3]]).repeat(len(drawn), 1)
    return replace(drawn, static_numeric=static, static_category=levels)


def test_each_code_has_its_statistics_in_its_place(batch):
    told = columns()(batch)
    assert told.shape == (len(batch), columns().d_out)
    of_codes = told[:, : CODES * K].view(len(batch), CODES, K)
    absent = told[:, CODES * K : CODES * (K + 1)]
    for row in range(len(batch)):
        for code in range(CODES):
            own = (batch.row == row) & (batch.code == code)
            values = batch.value[own & batch.observed]
            expected = {
                "log_count": np.log1p(int(own.sum())),
                "mean": values.mean().item() if len(values) else 0.0,
                "last": values[-1].item() if len(values) else 0.0,
            }
            for name, number in expected.items():
                assert of_codes[row, code, STATISTICS.index(name)] == pytest.approx(number)
            assert absent[row, code] == float(not own.any())


def test_names_are_counted_and_static_columns_stand_beside_them(batch):
    rest = columns()(batch)[:, CODES * (K + 1) :]
    assert torch.equal(rest[0, :4], torch.tensor([0.5, 0, 0, 1], dtype=torch.float64))
    for row in range(len(batch)):
        for category in range(CATEGORIES):
            n = int(((batch.row == row) & (batch.category == category + 1)).sum())
            assert rest[row, 4 + category] == pytest.approx(np.log1p(n))
    assert rest[0, 4 + CATEGORIES :].tolist() == [0, 1, 0, 0, 0, 0, 1]


def test_only_the_first_codes_have_columns(batch):
    some, every = columns(max_codes=2)(batch), columns()(batch)
    torch.testing.assert_close(some[:, : 2 * K], every[:, : 2 * K])
    assert some.shape[1] == every.shape[1] - (CODES - 2) * (K + 1)


def test_rows_do_not_see_each_other(batch):
    whole = columns()(batch)
    for row in range(len(batch)):
        kept = batch.keep(batch.row == row)
        assert torch.equal(columns()(kept)[row], whole[row])


def test_a_panel_has_statistics_and_shares_of_categories():
    panel = make_panel(n_numeric=2, cardinalities=(4,))
    own = PanelColumns(3, (4,), 11.0)
    told = own(panel)
    assert told.shape == (len(LENGTHS), own.d_out)
    statistics = channel_statistics(panel, own.half_life.double(), 11.0)
    torch.testing.assert_close(told[:, :-8], statistics.flatten(1))
    shares, last = told[:, -8:].split(4, dim=1)
    for row, length in enumerate(LENGTHS):
        codes = panel.category[row, 0, len(panel.time[0, 0]) - length :]
        expected = torch.bincount(codes, minlength=4) / max(length, 1)
        torch.testing.assert_close(shares[row], expected.to(shares.dtype))
        assert last[row].argmax() == panel.category[row, 0, -1] and last[row].sum() == 1


def test_columns_are_standardised_and_cut_off(batch):
    plain = columns()
    told = plain(batch)
    center, spread = told.mean(0), told.std(0, unbiased=False)
    weight = torch.where(spread > 1e-9, 1 / spread.clamp(min=1e-9), 0.0)
    scale = SummaryScale(center.float().numpy(), weight.float().numpy())
    seen = Summary(plain, scale).double()(batch)
    torch.testing.assert_close(seen.mean(0), torch.zeros_like(center), atol=1e-5, rtol=0)
    assert seen.abs().max() <= FARTHEST and (seen[:, spread <= 1e-9] == 0).all()
    with pytest.raises(ValueError, match="scales of"):
        Summary(plain, SummaryScale(scale.center[1:], scale.weight[1:]))


def test_members_are_the_networks_that_the_loop_says():
    torch.manual_seed(0)
    layer = EnsembleLinear(3, 6, 4, subspaces=True).double()
    with torch.no_grad():
        layer.after.normal_()
        layer.bias.normal_()
    x = torch.randn(5, 6, dtype=torch.float64)
    for m, got in enumerate(layer(x)):
        own = layer.after[m].T * layer.weight * layer.before[m]
        torch.testing.assert_close(got, x @ own.T + layer.bias[m])
    inputs = (x.requires_grad_(), *layer.parameters())
    assert torch.autograd.gradcheck(lambda x, *_: layer(x), inputs)


def test_members_start_at_the_prior_and_see_half_of_the_columns_each():
    torch.manual_seed(0)
    prior = torch.tensor([-0.5, 0.25])
    head = SummaryHead(400, prior, 8, dropout=0.3, input_dropout=0.2)
    told = head(torch.randn(7, 400))
    torch.testing.assert_close(told, prior.expand(8, 7, 2))
    shares = (head.first.before != 0).float().mean((1, 2))
    assert (shares > 0.35).all() and (shares < 0.65).all()
    assert len(head.first.before.unique(dim=0)) == 8


def test_input_dropout_is_for_training_only():
    torch.manual_seed(0)
    head = SummaryHead(50, torch.zeros(1), 4, dropout=0.0, input_dropout=0.5)
    with torch.no_grad():
        head.scores.normal_()
    x = torch.randn(3, 50)
    assert not torch.equal(head(x), head(x))
    head.eval()
    assert torch.equal(head(x), head(x))


def test_columns_are_those_of_the_rows_that_the_backbone_reads():
    events = {"n_codes": 200, "n_categories": 0, "horizon": 1.0, "max_feature_patches": 128}
    assert summary_columns(events).d_out == 128 * (K + 1)
    # What came later has no columns: those there were stay as they are.
    assert summary_columns({**events, "n_codes": 12, "n_fixed_codes": 10}).d_out == 10 * (K + 1)
