"""Saved synthesizers: they write the same, and files that lie are refused."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import tawt_sklearn
from tawt_sklearn import SequenceSynthesizer, TimeAwareEncoder, TripletSequencer
from tawt_sklearn.datasets import make_icu_stays
from tawt_sklearn.exceptions import SaveFileError
from tawt_sklearn.persistence.codec import encode
from tawt_sklearn.synthesis.gaps import GapClasses, LogGaps

from .builders import save_file

# Rows of fit have codes that too few of them have, whose names are not kept.
pytestmark = pytest.mark.filterwarnings("ignore:.*unknown code:tawt_sklearn.exceptions.DataWarning")

QUICK = {
    "d_model": 8,
    "n_heads": 2,
    "n_layers": 1,
    "n_windows": 4,
    "d_latent": 3,
    "max_epochs": 1,
    "batch_size": 16,
    "random_state": 0,
    "device": "cpu",
}


def synthesizer(**parameters) -> SequenceSynthesizer:
    return SequenceSynthesizer(**(QUICK | parameters))


@pytest.fixture(scope="module")
def X() -> pd.DataFrame:
    """The first hours of 60 stays."""
    X, _ = make_icu_stays(60, random_state=0)
    return X.assign(events=X["events"].events.until(4.0))


@pytest.fixture(scope="module")
def y() -> np.ndarray:
    return make_icu_stays(60, random_state=0)[1].to_numpy()


# ---- one synthesizer of every kind -------------------------------------------------------------


def statics(X: pd.DataFrame) -> pd.DataFrame:
    """With static columns of all kinds."""
    k = np.arange(len(X))
    return X.assign(
        ward=pd.Categorical(np.array(["A", "B", None], object)[k % 3], ["B", "A", "unused"]),
        smoker=k % 2 == 0,
        visits=k % 4,
        weight=(50 + k / 7).astype(np.float32),
        stay=1000 + k,
        count=pd.array(np.where(k % 5 == 0, None, k % 3), "Int64"),
        allergy=pd.array(np.where(k % 7 == 0, None, k % 2 == 0), "boolean"),
        note=pd.array(np.where(k % 3 == 0, None, "seen"), "str"),
        mixed=pd.Series(np.where(k % 2 == 0, "x", "y"), X.index, dtype=object),
        empty=np.nan,
    )


def panel(n: int) -> np.ndarray:
    """(n, 3 channels, 10 time points) with gaps."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(n, 3, 10))
    values[rng.random(values.shape) < 0.2] = np.nan
    return values


def encoder(X: pd.DataFrame) -> TimeAwareEncoder:
    names = ("d_latent", "random_state")
    return TimeAwareEncoder(**{k: v for k, v in QUICK.items() if k not in names}).fit(X)


Kind = Callable[[pd.DataFrame, np.ndarray], tuple[SequenceSynthesizer, Any, Any]]

KINDS: dict[str, Kind] = {
    "raw histories": lambda X, y: (synthesizer(), X, None),
    "static columns": lambda X, y: (synthesizer(), statics(X), y),
    "a mixture of gaps": lambda X, y: (synthesizer(gap="lognormal_mixture"), X, y),
    "tokens": lambda X, y: (synthesizer(), TripletSequencer().fit_transform(X), y),
    "a series": lambda X, y: (synthesizer(), X["events"], None),
    "a panel": lambda X, y: (synthesizer(), panel(len(y)), y),
    "numbers": lambda X, y: (synthesizer(gap="lognormal_mixture"), panel(len(y))[:, 0], None),
    "names of classes": lambda X, y: (synthesizer(), X, np.array(["no", "yes"])[y]),
    "bool labels": lambda X, y: (synthesizer(), X, y.astype(bool)),
    "numbers as labels": lambda X, y: (synthesizer(), X, y + np.arange(len(y)) / 7),
    "several labels": lambda X, y: (synthesizer(), X, np.stack([y, 1 - y, y * 2], 1)),
    "labels of several kinds": lambda X, y: (
        synthesizer(),
        X,
        pd.DataFrame({"died": y == 1, "ward": pd.Categorical(X["unit"])}, X.index),
    ),
    "an encoder": lambda X, y: (synthesizer(pretrained=encoder(X)), X, y),
    "numpy parameters": lambda X, y: (
        synthesizer(d_model=np.int64(8), dropout=np.float32(0.1), device=torch.device("cpu")),
        X,
        None,
    ),
}


class Fitted:
    """A fitted synthesizer, the rows it was fitted on, and the bytes of its file."""

    def __init__(self, kind: Kind, X: pd.DataFrame, y: np.ndarray, folder: Path) -> None:
        self.estimator, self.X, self.y = kind(X, y)
        self.estimator.fit(self.X, self.y)
        path = folder / "estimator.tawt"
        self.estimator.save(path)
        self.bytes = path.read_bytes()

    def write(self, path: Path) -> Path:
        path.write_bytes(self.bytes)
        return path


@pytest.fixture(scope="module", params=KINDS)
def fitted(request, X, y, tmp_path_factory) -> Fitted:
    return Fitted(KINDS[request.param], X, y, tmp_path_factory.mktemp("kind"))


@pytest.fixture(scope="module")
def plain(X, y, tmp_path_factory) -> Fitted:
    return Fitted(KINDS["static columns"], X, y, tmp_path_factory.mktemp("plain"))


def assert_same(one: Any, other: Any) -> None:
    """The same rows, with labels where there are any, to the last bit."""
    if isinstance(other, tuple):
        for left, right in zip(one, other, strict=True):
            assert_same(left, right)
    elif isinstance(other, pd.DataFrame):
        pd.testing.assert_frame_equal(one, other)
    else:
        assert one.dtype == other.dtype and one.shape == other.shape
        assert one.tolist() == other.tolist() or one.tobytes() == other.tobytes()


# ---- what comes back ---------------------------------------------------------------------------


def test_a_loaded_synthesizer_writes_and_says_the_same(fitted, path):
    saved, loaded = fitted.estimator, tawt_sklearn.load(fitted.write(path), device="cpu")
    assert type(loaded) is SequenceSynthesizer
    for method, arguments, keywords in (
        ("transform", [fitted.X], {}),
        ("log_prob", [fitted.X, fitted.y], {"n_samples": 2}),
        ("sample", [6], {"random_state": 3}),
        ("sample", [6], {}),
        ("reconstruct", [fitted.X[:3]], {"random_state": 3}),
    ):
        told = getattr(loaded, method)(*arguments, **keywords)
        assert_same(told, getattr(saved, method)(*arguments, **keywords))


def test_a_loaded_synthesizer_has_learned_the_same(fitted, path):
    saved, loaded = fitted.estimator, SequenceSynthesizer.load(fitted.write(path), device="cpu")
    assert set(vars(loaded)) == set(vars(saved))
    pd.testing.assert_frame_equal(loaded.history_, saved.history_)
    assert loaded.n_iter_ == saved.n_iter_
    assert loaded.n_features_in_ == saved.n_features_in_
    assert loaded.get_feature_names_out().tolist() == saved.get_feature_names_out().tolist()
    gaps = LogGaps if saved.gap == "lognormal_mixture" else GapClasses
    assert type(loaded.grammar_.gaps) is gaps
    assert loaded.grammar_.sizes() == saved.grammar_.sizes()
    one, other = loaded.net_.weights(), saved.net_.weights()
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], weight) for name, weight in other.items())
    assert not loaded.net_.module_.training


def test_a_loaded_synthesizer_is_saved_pickled_and_cloned_again(fitted, path):
    loaded = tawt_sklearn.load(fitted.write(path), device="cpu")
    loaded.save(path)
    assert path.read_bytes() == fitted.bytes
    again = pickle.loads(pickle.dumps(loaded))
    assert_same(again.transform(fitted.X), fitted.estimator.transform(fitted.X))
    assert not hasattr(clone(loaded), "net_")


def test_a_loaded_synthesizer_is_fitted_anew(plain, path):
    loaded = tawt_sklearn.load(plain.write(path), device="cpu")
    expected = plain.estimator.transform(plain.X)
    assert_same(loaded.fit(plain.X, plain.y).transform(plain.X), expected)


def test_what_is_asked_for_is_written_by_a_loaded_synthesizer(plain, path):
    loaded = tawt_sklearn.load(plain.write(path), device="cpu")
    static = plain.X[["ward", "smoker", "visits", "count"]].iloc[:6]
    written, labels = loaded.sample(y=1, static=static)
    pd.testing.assert_frame_equal(
        written[["smoker", "visits"]], static[["smoker", "visits"]].reset_index(drop=True)
    )
    assert labels.tolist() == [1] * 6


def test_the_encoder_of_a_loaded_synthesizer(X, y, path):
    saved = synthesizer(pretrained=encoder(X)).fit(X, y)
    saved.save(path)
    loaded = tawt_sklearn.load(path, device="cpu")
    assert_same(loaded.pretrained.transform(X), saved.pretrained.transform(X))
    assert_same(loaded.fit(X, y).transform(X), saved.transform(X))


def test_a_synthesizer_that_is_not_fitted_is_none_afterwards(path):
    synthesizer(gap="lognormal_mixture").save(path)
    loaded = tawt_sklearn.load(path)
    assert loaded.get_params() == synthesizer(gap="lognormal_mixture").get_params()
    with pytest.raises(NotFittedError):
        loaded.sample(3)


def test_no_identifiers_are_in_the_file(X, y, path):
    ids = [f"patient-{number}" for number in np.random.default_rng(0).integers(10**9, size=60)]
    synthesizer().fit(X.set_axis(ids), y).save(path)
    content = path.read_bytes()
    assert b"patient-" not in content
    assert b"surgical" in content


# ---- files with a valid seal that lie ----------------------------------------------------------


def net_of(items: dict[str, Any]) -> dict[str, Any]:
    return items["net_"]["state"]


def decoder_of(items: dict[str, Any]) -> dict[str, Any]:
    return net_of(items)["model"]["items"]["decoder"]["items"]


def grammar_of(items: dict[str, Any]) -> dict[str, Any]:
    return items["grammar_"]["state"]


def drop_weight(items, arrays):
    weights = net_of(items)["weights"]["items"]
    arrays.pop(weights.pop(next(name for name in weights if name.startswith("decoder.")))["key"])


def shorten_weight(items, arrays):
    weights = net_of(items)["weights"]["items"]
    key = next(node for name, node in weights.items() if name.startswith("decoder."))["key"]
    arrays[key] = arrays[key][:-1].copy()


def change(part: str, name: str, value: Callable[[np.ndarray], np.ndarray]):
    """Another array in place of one of the grammar or the density."""

    def edit(items, arrays):
        key = items[part]["state"][name]["key"]
        arrays[key] = np.ascontiguousarray(value(arrays[key]))

    return edit


def set_in(where: Callable[[dict], dict], name: str, value: Any):
    def edit(items, arrays):
        where(items)[name] = value

    return edit


LIES = {
    "a weight missing": drop_weight,
    "a weight of another shape": shorten_weight,
    "fewer symbols": change("grammar_", "kind", lambda a: a[:-1]),
    "symbols of other kinds": change("grammar_", "kind", lambda a: a[::-1]),
    "other places of symbols": change("grammar_", "offsets", lambda a: a + 1),
    "codes that may not repeat": change("grammar_", "repeats", lambda a: ~a),
    "codes that there are none of": change("grammar_", "kept", lambda a: a + 10_000),
    "codes below the first": change("grammar_", "kept", lambda a: a - 10_000),
    "fewer codes": change("grammar_", "kept", lambda a: a[:-1]),
    "other codes in the chart": change("grammar_", "charted", lambda a: a[:-1]),
    "fewer classes of numbers of events": change("grammar_", "most", lambda a: a[:-1]),
    "more codes": set_in(grammar_of, "n_codes", 500),
    "another horizon": set_in(grammar_of, "horizon", 1e6),
    "a decoder of more codes": set_in(decoder_of, "n_codes", 500),
    "a decoder of other words": set_in(decoder_of, "n_prefix", 1),
    "a wider latent": set_in(decoder_of, "d_latent", 5),
    "a wider decoder": set_in(decoder_of, "d_model", 16),
    "other labels": set_in(lambda items: items["form_"]["state"], "label_shape", None),
    "a density of fewer dimensions": change("density_", "mean", lambda a: a[:, :-1]),
    "a density of less that is stated": change("density_", "slope", lambda a: a[:-1]),
    "a density of fewer roots": change("density_", "root", lambda a: a[:, :-1]),
    "a density of more weights": change("density_", "weight", lambda a: np.append(a, 0.5)),
    "a model of labels of fewer columns": change("labels_", "weight", lambda a: a[:, :-1]),
    "a model of labels on another scale": change("labels_", "scale", lambda a: a[:-1]),
    "a product of columns that there are none of": change(
        "labels_", "pairs", lambda a: np.full((2, 1), 10_000)
    ),
    "trees of other words": change("beginnings_", "kind", lambda a: a[::-1]),
    "trees of fewer words": change("beginnings_", "first", lambda a: a[:-1]),
    "trees of fewer nodes": change("beginnings_", "left", lambda a: a[:-1]),
    "trees that lead back": change("beginnings_", "left", lambda a: np.minimum(a, 0)),
    "trees that lead beyond": change("beginnings_", "right", lambda a: a + 10_000 * (a > 0)),
    "trees on later words": change("beginnings_", "column", lambda a: a + 10_000),
    "trees of fewer rows": change("beginnings_", "group", lambda a: a[:, :-1]),
    "words that there are none of": change("beginnings_", "symbol", lambda a: a + 10_000),
    "text in place of a grammar": set_in(lambda items: items, "grammar_", "text"),
    "text in place of gaps": set_in(grammar_of, "gaps", "bins"),
}


@pytest.mark.parametrize("lie", LIES)
def test_parts_that_do_not_fit_each_other(plain, path, lie):
    node, arrays = encode(plain.estimator)
    document, arrays = copy.deepcopy({"estimator": node}), dict(arrays)
    items = document["estimator"]["state"]["fitted"]["items"]
    LIES[lie](items, arrays)
    path.write_bytes(save_file(document, arrays))
    with pytest.raises(SaveFileError, match=r"estimator\.tawt"):
        tawt_sklearn.load(path, device="cpu")


@pytest.mark.parametrize("part", ["grammar_", "beginnings_", "density_", "preparation_", "form_"])
def test_parts_of_another_synthesizer(plain, X, y, path, part):
    few = X.assign(events=X["events"].events.until(1.0))
    other = synthesizer(d_latent=2).fit(few[["sex", "events"]])
    mixed = copy.copy(plain.estimator)
    setattr(mixed, part, getattr(other, part))
    mixed.save(path)
    with pytest.raises(SaveFileError, match=r"Expected (a network|a density|a grammar|trees)"):
        tawt_sklearn.load(path, device="cpu")
