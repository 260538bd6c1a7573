"""Items beside the rows of a data set, read when their batch is made."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tawt_sklearn import ImageEncoder, TripletSequencer
from tawt_sklearn.datasets import make_icu_stays
from tawt_sklearn.exceptions import DataError
from tawt_sklearn.tokens.modality import Modality, read_cells
from tawt_sklearn.training.beside import ItemColumn
from tawt_sklearn.training.chunks import ITEMS_AT_ONCE, chunks, rows_of_items
from tawt_sklearn.training.dataset import EventDataset


class Numbers(Modality):
    def read(self, item):
        return float(item)

    def collate(self, items):
        return torch.tensor(items).view(-1, 1)


def column(*cells, modality=None) -> ItemColumn:
    series = pd.Series(list(cells), index=[f"p{k}" for k in range(len(cells))], dtype=object)
    return ItemColumn(
        modality or Numbers(), "note", series.index.to_numpy(), read_cells(series, hours)
    )


def hours(times, what):
    return np.asarray(times, dtype=float)


def test_batches_are_read_in_the_order_asked_for():
    items = column("1", ["2", (5.0, "3")], None, "4").batch(np.array([3, 1, 2]))
    assert items.row.tolist() == [0, 1, 1]
    assert items.content.flatten().tolist() == [4.0, 2.0, 3.0]
    assert items.time.isnan().tolist() == [True, True, False]
    assert column(None, []).batch(np.array([0, 1])) is None


def test_an_item_that_cannot_be_read_is_named():
    with pytest.raises(DataError, match=r"In column 'note', row 'p1': ValueError: could not"):
        column("1", "many").batch(np.array([0, 1]))


def test_some_rows():
    some = column("1", ["2", "3"], None).take(np.array([1, 2, 1]))
    assert some.cells.items.tolist() == ["2", "3", "2", "3"]
    assert some.index.tolist() == ["p1", "p2", "p1"] and some.counts().tolist() == [2, 0, 2]


def test_digests_tell_cells_apart():
    told = column("1", "2", ["1"], [(2.0, "1")], [(3.0, "1")], None).digests()
    assert told[0] == told[2] and len(set(told)) == 5


def dataset(**beside: ItemColumn) -> EventDataset:
    X, _ = make_icu_stays(len(next(iter(beside.values())).index), random_state=0)
    events = TripletSequencer().fit_transform(X)["events"].array
    nothing = np.zeros((len(X), 0))
    return EventDataset(events, nothing.astype(np.float32), nothing.astype(np.int64), beside=beside)


def test_the_order_of_equal_histories_is_that_of_what_stands_beside():
    data = dataset(note=column(*"201"))
    twice = data.subset(np.array([0, 0, 0, 1, 2]))
    numbers = twice.beside["note"].cells.items
    numbers[:3] = ["7", "5", "6"]
    ordered = twice.subset(twice.canonical_order())
    same = [item for item in ordered.beside["note"].cells.items if item in "567"]
    again = twice.subset(np.array([2, 0, 1, 4, 3]))
    other = again.subset(again.canonical_order()).beside["note"].cells.items
    assert same == [item for item in other if item in "567"]


def test_memory_is_that_of_a_batch(tmp_path):
    """Whatever the number of files."""
    pixels = np.random.default_rng(0).integers(256, size=(64, 64), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "film.png")
    peaks = []
    for n in (50, 200):
        paths = [str(tmp_path / "film.png")] * n
        data = dataset(film=column(*paths, modality=ImageEncoder().fit(paths[:1])))
        data.batch(np.arange(10))
        tracemalloc.start()
        for first in range(0, n, 10):
            data.batch(np.arange(first, first + 10))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


def test_large_images_are_made_small_one_by_one(tmp_path):
    """Ten of them in a row need the memory of one, and of what the network is given."""
    noise = np.random.default_rng(0).integers(256, size=(800, 800), dtype=np.uint8)
    path = str(tmp_path / "film.png")
    Image.fromarray(noise).save(path)
    modality, peaks = ImageEncoder(image_size=16).fit([path]), []
    for n in (1, 10):
        film = column([path] * n, modality=modality)
        film.batch(np.array([0]))
        tracemalloc.start()
        assert film.batch(np.array([0])).content.shape == (n, 1, 16, 16)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


def test_rows_with_many_items_come_in_smaller_groups(monkeypatch):
    monkeypatch.setitem(ITEMS_AT_ONCE, "cpu", 4)
    data = dataset(note=column("1", ["2", "3"], None, ["4"] * 9, "5", "6"))
    assert data.n_items().tolist() == [1, 2, 0, 9, 1, 1]
    groups = chunks(data.sizes(), 64, torch.device("cpu"), by_size=False, items=data.n_items())
    assert [group.tolist() for group in groups] == [[0, 1, 2], [3], [4, 5]]
    assert rows_of_items(data.n_items(), 64, torch.device("cpu")) == 1
    assert rows_of_items(np.zeros(3, np.int64), 64, torch.device("cpu")) == 4
