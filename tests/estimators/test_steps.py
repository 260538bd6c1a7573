"""Embeddings of windows and of single events, and events rebuilt from the others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.pipeline import make_pipeline

from tawt_sklearn import TimeAwareEncoder, nest_events
from tawt_sklearn.datasets import make_icu_stays
from tawt_sklearn.objectives import MaskedReconstruction

D = 8
SMALL: dict[str, Any] = {
    "d_model": D,
    "n_heads": 2,
    "n_layers": 1,
    "n_windows": 4,
    "d_embedding": 12,
    "max_epochs": 1,
    "min_steps": 0,
    "batch_size": 32,
    "random_state": 0,
    "device": "cpu",
}


def make(**parameters: Any) -> TimeAwareEncoder:
    return TimeAwareEncoder(**(SMALL | parameters))


@pytest.fixture(scope="module")
def X() -> pd.DataFrame:
    X, _ = make_icu_stays(70, random_state=0)
    X = X.assign(events=X["events"].events.until(12.0))
    X.loc[X.index[3], "events"] = X["events"].events.until(-1.0).iloc[3]
    return X


@pytest.fixture(scope="module")
def encoder(X) -> TimeAwareEncoder:
    return make().fit(X)


def plain(steps: pd.DataFrame) -> np.ndarray:
    """(number of steps, D) array."""
    return steps["events"].events.flat("value").reshape(-1, D)


def naive(encoder: TimeAwareEncoder, X: pd.DataFrame, row: int) -> tuple[Any, Any]:
    """The backbone's patches and the events of one row."""
    data = encoder.preparation_.dataset(X)
    batch = data.batch(np.array([row]))
    with torch.inference_mode():
        return encoder.net_.module_.backbone(batch), batch


# ---- windows -----------------------------------------------------------------------------------


def test_windows_are_those_of_the_backbone(encoder, X):
    steps = encoder.transform_steps(X)
    assert list(steps) == ["events"] and steps.index.equals(X.index)
    lengths = np.asarray(steps["events"].events.lengths) // D
    times = steps["events"].events.flat("time").reshape(-1, D)
    assert (times == times[:, :1]).all()
    first = np.cumsum(lengths) - lengths
    edges = encoder.preparation_.grid.edges
    for row in (0, 3, 17, 69):
        encoded, batch = naive(encoder, X, row)
        window = np.searchsorted(edges, batch.time.numpy(), side="right")
        present = np.unique(window)
        assert lengths[row] == len(present)
        mine = slice(first[row], first[row] + lengths[row])
        expected = encoded.temporal.tokens[0, present].numpy()
        np.testing.assert_allclose(plain(steps)[mine], expected, atol=1e-5)
        means = [batch.time.numpy()[window == w].mean() for w in present]
        np.testing.assert_allclose(times[mine, 0], means, rtol=1e-5)
    assert lengths[3] == 0


def test_events_are_the_sum_of_their_code_and_their_window(encoder, X):
    steps = encoder.transform_steps(X, per="event")
    lengths = np.asarray(X["events"].events.lengths)
    np.testing.assert_array_equal(steps["events"].events.lengths, lengths * D)
    times = steps["events"].events.flat("time").reshape(-1, D)
    np.testing.assert_array_equal(times[:, 0], X["events"].events.flat("time"))
    first = np.cumsum(lengths) - lengths
    for row in (0, 17, 69):
        encoded, batch = naive(encoder, X, row)
        window = np.searchsorted(encoder.preparation_.grid.edges, batch.time.numpy(), side="right")
        place = {code: k for k, code in enumerate(encoded.feature.code[0].tolist())}
        feature, temporal = encoded.feature.tokens[0].numpy(), encoded.temporal.tokens[0].numpy()
        expected = [
            feature[place[code]] + temporal[w]
            for code, w in zip(batch.code.tolist(), window, strict=True)
        ]
        mine = slice(first[row], first[row] + lengths[row])
        np.testing.assert_allclose(plain(steps)[mine], expected, atol=1e-5)


@pytest.mark.parametrize("per", ["window", "event"])
def test_steps_do_not_depend_on_the_other_rows(encoder, X, per):
    whole = encoder.transform_steps(X, per=per)
    some = encoder.transform_steps(X.iloc[[40, 2, 3]], per=per)
    for row in (40, 2, 3):
        one, other = (frame["events"].loc[[X.index[row]]] for frame in (some, whole))
        for field in ("time", "value"):
            np.testing.assert_array_equal(one.events.flat(field), other.events.flat(field))
    codes = whole["events"].events.codes
    assert codes.tolist() == [f"step{k}" for k in range(D)]


def test_only_codes_or_only_windows(X):
    codes = make(patching="feature", pooling="mean").fit(X)
    windows = make(patching="time", pooling="mean").fit(X)
    with pytest.raises(ValueError, match='encoder with windows.*Got.*"feature".*per="event"'):
        codes.transform_steps(X)
    n_events = int(np.sum(X["events"].events.lengths))
    for encoder in (codes, windows):
        assert len(plain(encoder.transform_steps(X, per="event"))) == n_events
    assert np.isfinite(plain(windows.transform_steps(X))).all()


def test_another_kind_of_step(encoder, X):
    with pytest.raises(ValueError, match='per to be "window" or "event". Got \'day\''):
        encoder.transform_steps(X, per="day")


# ---- reconstruction ----------------------------------------------------------------------------


def structured(n: int = 120) -> pd.DataFrame:
    """Every row has its level, in three codes of different units, and a colour that follows it."""
    rng = np.random.default_rng(2)
    level = np.repeat(rng.normal(size=n), 20)
    code = np.tile(np.repeat(["a", "b", "c", "colour"], 5), n)
    unit = pd.Series({"a": 1.0, "b": 20.0, "c": -3.0, "colour": np.nan})
    names = np.where(level > 0, "red", "blue")
    long = pd.DataFrame(
        {
            "subject_id": np.repeat(np.arange(n), 20),
            "time": rng.uniform(0, 10, n * 20),
            "code": code,
            "value": (level + rng.normal(scale=0.1, size=n * 20)) * unit[code].to_numpy() + 100,
            "text": pd.Series(names).where(code == "colour"),
        }
    )
    return nest_events(long, until=10.0)


@pytest.fixture(scope="module")
def histories() -> pd.DataFrame:
    return structured()


@pytest.fixture(scope="module")
def rebuilder(histories) -> TimeAwareEncoder:
    only = MaskedReconstruction(value=1, category=1, code=0, presence=0, summary=0)
    encoder = make(objective=only, max_epochs=20, learning_rate=0.02, dropout=0.0)
    return encoder.fit(histories.iloc[:90])


def test_a_reconstruction_is_near_the_truth(rebuilder, histories):
    other = histories.iloc[90:]
    rebuilt = rebuilder.reconstruct(other)
    truth, answer = other["events"].events, rebuilt["events"].events
    assert rebuilt.index.equals(other.index) and list(rebuilt) == list(other)
    for field in ("time", "code"):
        np.testing.assert_array_equal(_labels(answer, field), _labels(truth, field))
    code = _labels(truth, "code")
    for name in ("a", "b", "c"):
        of_code = code == name
        one, two = truth.flat("value")[of_code], answer.flat("value")[of_code]
        assert np.corrcoef(one, two)[0, 1] > 0.9, "in the user's units, close to the truth"
        assert abs(one - two).mean() < 0.5 * one.std()
    colour = code == "colour"
    assert np.isnan(answer.flat("value")[colour]).all()
    right = _labels(answer, "text")[colour] == _labels(truth, "text")[colour]
    assert right.mean() > 0.85
    assert not pd.notna(_labels(answer, "text")[~colour]).any()


def test_an_events_own_value_has_no_influence_on_its_reconstruction(rebuilder, histories):
    other = histories.iloc[90:]
    before = rebuilder.reconstruct(other)["events"].events.flat("value")
    array: Any = other["events"].array
    changed_others = 0
    for position in (0, 7, 41, 300):
        if np.isnan(array.value[position]):
            continue
        value = array.value.copy()
        value[position] += 50.0
        changed = other.assign(events=array._replace(value=value))
        after = rebuilder.reconstruct(changed)["events"].events.flat("value")
        assert after[position] == before[position]
        changed_others += int((after != before)[~np.isnan(before)].sum())
    assert changed_others > 0, "the others of its row do see it"


def test_a_reconstruction_of_tokens_gives_tokens(rebuilder, histories):
    sequencer = rebuilder.preparation_.sequencer
    pipeline = make_pipeline(sequencer, make(max_epochs=1)).fit(histories)
    tokens = sequencer.transform(histories)
    rebuilt = pipeline[-1].reconstruct(tokens)
    assert rebuilt["events"].dtype == tokens["events"].dtype
    numbers = [frame["events"].events.flat("value") for frame in (tokens, rebuilt)]
    np.testing.assert_array_equal(*(np.isnan(n) for n in numbers))


def test_a_reconstruction_needs_something_that_rebuilds(X, encoder):
    with pytest.raises(ValueError, match='learned to rebuild.*objective="masked"'):
        make(objective="contrastive").fit(X).reconstruct(X)
    with pytest.raises(ValueError, match="n_passes to be an integer of 2 or more. Got 1"):
        encoder.reconstruct(X, n_passes=1)
    assert len(encoder.reconstruct(X, n_passes=2)) == len(X)


def _labels(events: Any, field: str) -> np.ndarray:
    flat = events.flat(field)
    if field == "time":
        return flat
    names = events.codes if field == "code" else events.texts
    return np.append(np.asarray(names, object), None)[flat]
