"""Modalities of one's own, the one in the documentation among them; where image code may be."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.model_selection import cross_val_score
from torch import nn

from tawt_sklearn import (
    ImageEncoder,
    Modality,
)
from tawt_sklearn.exceptions import DataError

from .builders import classifier, encoder


class Levels(Modality):
    """Words that stand for numbers."""

    def fit(self, items, y=None):
        self.words_ = sorted(set(items))
        return self

    def read(self, item):
        if item not in self.words_:
            raise KeyError(item)
        return self.words_.index(item)

    def collate(self, items):
        return {"word": torch.tensor(items)}

    def build(self, d_model):
        table = nn.Embedding(len(self.words_), d_model)

        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.table = table

            def forward(self, content):
                return self.table(content["word"]).unsqueeze(1)

        return Net()


def test_two_modalities_side_by_side(X, y):
    X["triage"] = [["green", "red"][k % 2] if k % 3 else None for k in range(len(X))]
    model = classifier(modalities={"xray": ImageEncoder(), "triage": Levels()}, fusion="gated")
    model.fit(X, y)
    assert model.modality_weights_.index.tolist() == ["events", "xray", "triage"]
    odd = X.assign(triage=X["triage"].where(X.index != X.index[4], "blue"))
    with pytest.raises(DataError, match=rf"column 'triage', row {X.index[4]!r}.*KeyError.*blue"):
        model.predict(odd)
    assert encoder(modalities=model.modalities, objective="cross_modal").fit(X).transform(X).size


def test_cross_validation_of_a_modality_of_ones_own(X, y):
    X["triage"] = ["green", "red"] * 30
    model = classifier(modalities={"triage": Levels()})
    assert np.isfinite(cross_val_score(model, X.drop(columns="xray"), y, cv=2)).all()


def test_statistics_of_histories_read_nothing_that_stands_beside_them(X, y, monkeypatch):
    X["triage"] = ["green", "red"] * 30
    words, read = [], Levels.read
    monkeypatch.setattr(Levels, "read", lambda own, word: words.append(word) or read(own, word))
    n_read = []
    for n_members in (0, 8):
        words.clear()
        model = classifier(modalities={"triage": Levels()}, n_summary_members=n_members)
        model.fit(X.drop(columns="xray"), y)
        n_read.append(len(words))
    assert n_read[0] == n_read[1] > 0


class Brightness(Modality):
    """One number of an image."""

    def __init__(self, *, wrong=None):
        self.wrong = wrong

    def read(self, item):
        if self.wrong == "read":
            raise RuntimeError("boom")
        return float(np.asarray(item).mean()) / 255

    def collate(self, items):
        told = torch.tensor(items, dtype=torch.float32).view(-1, 1, 1)
        return {"list": items, "fewer": told[1:]}.get(self.wrong, told)

    def build(self, d_model):
        if self.wrong == "pair":
            return torch.nn.LSTM(1, d_model, batch_first=True)
        layer = torch.nn.Linear(1, d_model if self.wrong != "width" else d_model + 1)
        return torch.nn.Sequential(layer, torch.nn.Flatten()) if self.wrong == "flat" else layer


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ("read", "column 'xray', row .*boom"),
        ("list", "Expected collate of Brightness, column 'xray'.* Got a list"),
        ("fewer", "Expected collate of Brightness"),
        ("flat", "Expected tokens of shape"),
        ("pair", "Expected tokens of shape.*Got a tuple"),
        ("width", "Expected tokens of shape"),
    ],
)
def test_a_modality_that_does_not_keep_to_the_protocol(wrong, match, X, y):
    classifier(modalities={"xray": Brightness()}).fit(X, y)
    with pytest.raises((TypeError, DataError), match=match):
        classifier(modalities={"xray": Brightness(wrong=wrong)}).fit(X, y)


ROOT = Path(__file__).resolve().parents[3]


def example() -> type[Modality]:
    """The class of text notes in ``docs/modalities.md``."""
    page = (ROOT / "docs" / "modalities.md").read_text()
    (block,) = re.findall(r"```python\n(import torch.*?)```", page, re.DOTALL)
    assert len(block.splitlines()) <= 32
    names: dict[str, Any] = {}
    exec(block, names)
    return names["TextNotes"]


def test_text_notes_through_hashing(X, y, tmp_path):
    """The label is in the words of notes, some of which are missing."""
    rng = np.random.default_rng(0)
    said = ["stable and eating", "septic shock, pressors"]
    notes = [f"seen today: {said[label]} {rng.integers(9)}" for label in y]
    X["note"] = [None if k % 7 == 6 else note for k, note in enumerate(notes)]
    modalities = {"note": example()(n_features=256), "xray": ImageEncoder()}
    model = classifier(modalities=modalities, max_epochs=30, min_steps=60, learning_rate=5e-3)
    model.fit(X, y)
    has_note = X["note"].notna().to_numpy()
    assert (model.predict(X) == y)[has_note].mean() > 0.95
    assert model.get_params()["modalities__note__n_features"] == 256
    with pytest.raises(DataError, match="column 'note'.*TypeError: Expected a note.*Got int"):
        model.predict(X.assign(note=3))
    with pytest.raises(TypeError, match="can be saved.*TextNotes"):
        model.save(tmp_path / "model.tawt")
    encoder(modalities=modalities, objective={"masked": 1, "cross_modal": 1}).fit(X).transform(X)


HOMES = {
    "tokens/images.py",
    "tokens/image_kinds.py",
    "nn/image.py",
    "nn/image_hub.py",
    "estimators/images.py",
}
"""The only files of the library that know what an image is."""


def test_nothing_else_knows_of_images():
    package = ROOT / "tawt_sklearn"
    path = ("events", "tokens", "nn", "objectives", "training", "estimators", "persistence")
    for file in sorted(file for folder in path for file in (package / folder).rglob("*.py")):
        if str(file.relative_to(package)) in HOMES:
            continue
        words = set()
        for node in ast.walk(ast.parse(file.read_text())):
            for part in ("id", "attr", "arg", "name", "module"):
                if isinstance(word := getattr(node, part, None), str):
                    words.add(word.lower())
        assert not [w for w in words if "image" in w or "pixel" in w], file
