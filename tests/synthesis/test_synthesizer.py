"""The estimator: parameters, fit and its failures, what it says of histories."""

from __future__ import annotations

import os
import pickle
import signal
import zipfile

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from tawt_sklearn.exceptions import DataWarning, TrainingWarning
from tawt_sklearn.synthesis import SequenceSynthesizer
from tawt_sklearn.synthesis.training import SynthesisNet

from .subjects import QUICK, frame_of, rich, simple


def make(**parameters) -> SequenceSynthesizer:
    return SequenceSynthesizer(**{**QUICK, **parameters})


# ---- parameters --------------------------------------------------------------------------------


def test_a_clone_has_the_parameters_and_not_the_fit(plain):
    copy = clone(plain)
    assert copy.get_params() == plain.get_params() == make().get_params()
    assert vars(copy).keys() == copy.get_params().keys()


@pytest.mark.parametrize(
    "parameters",
    [
        {"d_model": 0},
        {"d_latent": 0},
        {"dropout": 1.0},
        {"max_epochs": 0},
        {"max_time": 0},
        {"validation_fraction": 1.0},
        {"min_subjects_per_code": 0},
        {"n_heads": 3},
        {"device": "abacus"},
    ],
)
def test_parameters_that_cannot_be(parameters, plain_X):
    with pytest.raises(ValueError, match=next(iter(parameters))):
        make(**parameters).fit(plain_X)


def test_the_same_seed_gives_the_same_fit(plain, plain_X):
    again = make().fit(plain_X)
    np.testing.assert_array_equal(again.transform(plain_X), plain.transform(plain_X))
    pd.testing.assert_frame_equal(again.sample(5), plain.sample(5))


def test_data_are_not_changed(plain_X):
    before = plain_X.copy(deep=True)
    make().fit(plain_X).reconstruct(plain_X)
    pd.testing.assert_frame_equal(plain_X, before)


def test_history(fitted, X):
    table = fitted.history_
    assert len(table) == fitted.n_iter_ == 1
    assert table["epoch"].tolist() == [1]
    parts = ("loss", "gap", "code", "symbol", "number", "divergence", "properties")
    for name in parts:
        assert {f"train_{name}", f"valid_{name}"} <= set(table)
    total = table[[f"valid_{name}" for name in parts[1:]]].sum(axis=1)
    np.testing.assert_allclose(total, table["valid_loss"], rtol=1e-5)
    assert fitted.n_features_in_ == X.shape[1]
    assert fitted.feature_names_in_.tolist() == list(X.columns)


# ---- fit ---------------------------------------------------------------------------------------


def test_pickled_it_writes_the_same(fitted):
    copy = pickle.loads(pickle.dumps(fitted))
    for told, again in zip(fitted.sample(9), copy.sample(9), strict=True):
        assert again.equals(told) if isinstance(told, pd.DataFrame) else (again == told).all()


def test_a_second_fit_forgets_the_first(plain_X):
    other = simple(codes=("x", "y"), seed=1)
    synthesizer = make().fit(plain_X, [0, 1] * 30).fit(other)
    pd.testing.assert_frame_equal(synthesizer.sample(5), make().fit(other).sample(5))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda X: (X.iloc[:0], None),
        lambda X: (X[["arm"]].astype(str), None),
        lambda X: (X, [0]),
        lambda X: (X, [None] * len(X)),
        lambda X: (X.assign(when=pd.Timestamp("2020-01-01")), None),
        lambda X: (X.assign(events=X["events"].where(X.index != 3)), None),
        lambda X: (X.iloc[:2], None),  # no code that five subjects have
    ],
)
def test_a_fit_that_fails_leaves_the_estimator_as_it_was(plain_X, spoil):
    synthesizer = make().fit(plain_X)
    before = dict(vars(synthesizer))
    X, y = spoil(plain_X)
    with pytest.raises(ValueError):
        synthesizer.fit(X, y)
    assert vars(synthesizer) == before


def interrupting(monkeypatch, at: int, end) -> None:
    """End the step ``at`` of training by ``end()``."""
    infer, steps = SynthesisNet.infer, []

    def counting(self, *args, **keywords):
        told = infer(self, *args, **keywords)
        if self.module_.training:
            steps.append(None)
            if len(steps) == at:
                end()
        return told

    monkeypatch.setattr(SynthesisNet, "infer", counting)


def interrupt() -> None:
    raise KeyboardInterrupt


def test_ctrl_c_in_the_first_epoch_leaves_the_estimator_as_it_was(plain_X, monkeypatch):
    synthesizer = make()
    interrupting(monkeypatch, 1, interrupt)
    with pytest.raises(KeyboardInterrupt):
        synthesizer.fit(plain_X)
    assert vars(synthesizer).keys() == synthesizer.get_params().keys()


@pytest.mark.parametrize("by_signal", [True, False])
def test_ctrl_c_later_keeps_what_was_learned(plain_X, monkeypatch, by_signal):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        end = (lambda: os.kill(os.getpid(), signal.SIGINT)) if by_signal else interrupt
        interrupting(monkeypatch, 10, end)
        with pytest.warns(TrainingWarning, match="nterrupted"):
            synthesizer = make(max_epochs=50).fit(plain_X)
    finally:
        signal.signal(signal.SIGINT, before)
    assert 1 <= synthesizer.n_iter_ < 5
    assert synthesizer.history_["active_units"].notna().all()
    assert len(synthesizer.sample(3)) == 3


def test_max_time_ends_training(plain_X):
    synthesizer = make(max_epochs=10_000, max_time=0.3).fit(plain_X)
    assert 1 <= synthesizer.n_iter_ < 100
    assert len(synthesizer.sample(3)) == 3


def test_training_ends_when_held_out_rows_become_less_likely(plain_X):
    synthesizer = make(max_epochs=80, patience=1, learning_rate=0.1).fit(plain_X)
    assert synthesizer.n_iter_ < 80


def test_no_rows_are_held_out(plain_X):
    synthesizer = make(validation_fraction=0).fit(plain_X)
    assert not any(name.startswith("valid") for name in synthesizer.history_)
    assert np.isfinite(synthesizer.log_prob(plain_X)).all()


@pytest.mark.parametrize(
    "parameters",
    [
        {"batch_size": 5},
        {"d_model": 1, "n_heads": 1, "d_latent": 1},
        {"n_layers": 2, "n_windows": 1},
        {"dropout": 0.0, "word_dropout": 0.0, "free_bits": 0.0},
        {"random_state": None},
        {"random_state": np.random.RandomState(0)},
    ],
)
def test_unusual_parameters(parameters):
    assert len(make(**parameters).fit(simple()).sample(3)) == 3


def test_its_progress_is_shown_if_asked_for(plain_X, capsys):
    make(verbose=True).fit(plain_X)
    assert "SequenceSynthesizer" in capsys.readouterr().err


def test_progress_of_sampling_comes_to_its_end(plain_X, capsys):
    synthesizer = make().fit(plain_X).set_params(verbose=True)
    synthesizer.sample(40)
    assert "40/40" in capsys.readouterr().err


def test_nothing_names_what_single_subjects_have(tmp_path):
    subjects = [
        [(0.0, "hr", 1.0), (1.0, "note", f"secret {k}"), (2.0, "ward", "icu")] for k in range(24)
    ]
    subjects[0].append((3.0, "secret code", 1.0))
    kinds = pd.Categorical(
        ["x", "y"] * 11 + ["secret p", "secret q"], ["y", "unused", "x", "secret p", "secret q"]
    )
    static = {"kind": kinds, "job": ["a", "b"] * 11 + ["secret r", "secret s"]}
    synthesizer = make().fit(frame_of(*subjects, static=static))
    drawn = synthesizer.sample(5)
    assert b"secret" not in pickle.dumps(synthesizer)
    synthesizer.save(tmp_path / "kept.tawt")
    with zipfile.ZipFile(tmp_path / "kept.tawt") as kept:
        assert not any(b"secret" in kept.read(name) for name in kept.namelist())
    again = SequenceSynthesizer.load(tmp_path / "kept.tawt")
    with pytest.warns(DataWarning, match="not seen in fit"):  # what was left out is not known
        assert np.isfinite(again.log_prob(frame_of(*subjects, static=static))).all()
    assert drawn["events"].array.codes.tolist() == ["hr", "note", "ward"]
    assert drawn["events"].array.texts.tolist() == ["icu"]
    assert drawn["kind"].cat.categories.tolist() == ["y", "unused", "x"]


# ---- what it says of histories -----------------------------------------------------------------


def test_transform(fitted, X):
    latent = fitted.transform(X)
    assert (latent.shape, latent.dtype) == ((len(X), 3), np.float32)
    assert np.isfinite(latent).all()
    np.testing.assert_allclose(latent[5:6], fitted.transform(X.iloc[5:6]), atol=1e-5)
    assert fitted.get_feature_names_out().tolist() == [f"sequencesynthesizer{k}" for k in range(3)]


def test_transform_to_a_frame(plain_X):
    synthesizer = make().set_output(transform="pandas")
    latent = synthesizer.fit_transform(plain_X)
    assert list(latent.columns) == synthesizer.get_feature_names_out().tolist()
    assert latent.index.equals(plain_X.index)


def test_other_columns_than_in_fit(plain, plain_X):
    with pytest.raises(ValueError, match="feature names should match"):
        plain.transform(plain_X[["events", "arm", "dose"]])


@pytest.fixture(scope="module")
def trained() -> tuple[SequenceSynthesizer, pd.DataFrame]:
    """Subjects of two kinds: one has only events of code a, the other one only of b."""
    rng = np.random.default_rng(0)
    X = frame_of(
        *[
            [(float(k), "ab"[row % 2], round(rng.normal(9 * (row % 2)), 2)) for k in range(5)]
            for row in range(80)
        ]
    )
    return make(max_epochs=10, learning_rate=0.01, min_subjects_per_code=1).fit(X), X


def test_real_histories_are_likelier_than_shuffled_ones(trained):
    synthesizer, X = trained
    array = X["events"].array
    value = np.random.default_rng(0).permutation(array.value)
    shuffled = X.assign(events=array._replace(value=value))
    real, other = synthesizer.log_prob(X), synthesizer.log_prob(shuffled)
    assert real.shape == (len(X),)
    assert np.isfinite(real).all() and np.isfinite(other).all()
    assert real.mean() > other.mean() + 2


def test_the_score_is_the_mean(trained, fitted, X, y):
    synthesizer, own = trained
    assert synthesizer.score(own) == pytest.approx(synthesizer.log_prob(own).mean())
    assert fitted.score(X, y) == pytest.approx(fitted.log_prob(X, y).mean())


def test_more_latents_make_the_estimate_from_below_higher(trained, monkeypatch):
    """On average over the latents: those of one call are the same for all rows."""
    synthesizer, X = trained
    make_random = np.random.RandomState

    def mean_of(n_samples: int) -> float:
        told = []
        for seed in range(20):
            monkeypatch.setattr(np.random, "RandomState", lambda _, seed=seed: make_random(seed))
            told.append(synthesizer.log_prob(X.iloc[:12], n_samples=n_samples).mean())
        return float(np.mean(told))

    few, some, many = (mean_of(n) for n in (1, 3, 9))
    assert few < some < many


def test_log_prob_of_a_row_does_not_depend_on_the_others(plain, plain_X):
    together = plain.log_prob(plain_X)
    np.testing.assert_allclose(plain.log_prob(plain_X.iloc[::-1])[::-1], together, atol=1e-4)
    np.testing.assert_allclose(plain.log_prob(plain_X.iloc[7:8]), together[7:8], atol=1e-4)


def test_log_prob_needs_labels_where_there_were_some(fitted, plain, X, plain_X):
    with pytest.raises(ValueError, match="Got none"):
        fitted.log_prob(X)
    with pytest.raises(ValueError, match="Got some"):
        plain.log_prob(plain_X, [0] * len(plain_X))


@pytest.mark.parametrize("wrong", [[0, 1], [7] * 60])
def test_log_prob_of_labels_that_cannot_be(fitted, X, wrong):
    with pytest.raises(ValueError, match="Expected"):
        fitted.log_prob(X, wrong)


def test_log_prob_without_latents(plain, plain_X):
    with pytest.raises(ValueError, match="n_samples"):
        plain.log_prob(plain_X, n_samples=0)


def test_reconstruct_keeps_static_columns(plain, plain_X):
    again = plain.reconstruct(plain_X)
    pd.testing.assert_frame_equal(
        again[["arm", "dose"]], plain_X[["arm", "dose"]].reset_index(drop=True)
    )
    pd.testing.assert_frame_equal(plain.reconstruct(plain_X), again)


def test_reconstruct_with_missing_static_values_and_labels(fitted, X):
    again = fitted.reconstruct(X)
    assert list(again.columns) == list(X.columns)
    known = X["age"].notna().to_numpy()
    np.testing.assert_array_equal(again["age"][known], X["age"][known])


@pytest.mark.filterwarnings("ignore::tawt_sklearn.exceptions.DataWarning")
def test_reconstruct_with_rare_static_values():
    column = pd.array(["x"] * 20 + ["p", "q", "r", "s"], dtype="str")
    X = simple(static={"x": column})
    assert len(make().fit(X).reconstruct(X)) == len(X)


def test_reconstructed_histories_are_like_their_own(trained):
    synthesizer, X = trained

    again = synthesizer.reconstruct(X)["events"].events.to_long()
    kind = again["subject_id"].to_numpy() % 2
    assert (again["code"].to_numpy() == np.array(["a", "b"])[kind]).mean() > 0.8


def test_a_panel_is_reconstructed_as_one():
    X = np.random.default_rng(0).normal(size=(24, 2, 5))
    X[0, 0, :2] = np.nan
    assert make().fit(X).reconstruct(X).shape == X.shape


def test_fits_of_windows_of_all_kinds():
    for windows in ("none", "all"):
        X, y = rich(2, windows=windows)
        synthesizer = make(min_subjects_per_code=1).fit(X, y)
        drawn = synthesizer.sample(20)[0]["events"].array
        assert np.isnan(drawn.start).all() == (windows == "none")
