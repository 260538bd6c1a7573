"""Contrast between a history and what stands beside it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from tawt_sklearn.nn.space import Space
from tawt_sklearn.objectives.cross_modal import CrossModal
from tawt_sklearn.persistence.codec import decode, encode


def space(*beside: str) -> Space:
    return Space(3, [0, 0, 0, 0], [1.0], 2.0, beside=beside)


def of(*embeddings: torch.Tensor, lacking: tuple[int, ...] = ()):
    """What ``encode`` gives: some rows lack what comes second."""
    told = [(z, torch.ones(len(z), dtype=torch.bool)) for z in embeddings]
    for row in lacking:
        told[1][1][row] = False
    return lambda batch: told


def test_alike_rows_give_the_logarithm_of_their_number():
    task = CrossModal().build(space("film"), 4, 6)
    parts = task(of(torch.ones(5, 6), torch.ones(5, 4)), None)
    assert parts.keys() == {"cross_modal"}
    torch.testing.assert_close(parts["cross_modal"], torch.tensor(math.log(5)))


def test_rows_that_lack_something_take_no_part():
    torch.manual_seed(0)
    task = CrossModal().build(space("film"), 4, 6)
    events, film = torch.randn(5, 6), torch.randn(5, 4)
    some = task(of(events, film, lacking=(1, 3)), None)["cross_modal"]
    kept = [0, 2, 4]
    torch.testing.assert_close(some, task(of(events[kept], film[kept]), None)["cross_modal"])
    nothing = task(of(events, film, lacking=(0, 1, 2, 3)), None)["cross_modal"]
    nothing.backward()
    assert nothing == 0


def test_every_modality_has_a_part_of_its_own():
    task = CrossModal().build(space("film", "note"), 4, 6)
    parts = task(of(torch.randn(5, 6), torch.randn(5, 4), torch.randn(5, 4)), None)
    assert parts.keys() == {"film", "note"} and task.only_compares
    assert isinstance(task, nn.Module) and len(task.projections) == 3


@pytest.mark.parametrize("wrong", [{"temperature": 0.0}, {"d_projection": 0}])
def test_settings_that_cannot_be(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        CrossModal(**wrong)


def test_it_can_be_saved():
    assert decode(*encode(CrossModal(temperature=0.2))) == CrossModal(temperature=0.2)
