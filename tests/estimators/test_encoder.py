"""Pretraining without labels, and embeddings that other estimators can use."""

from __future__ import annotations

import pickle
import random
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback

import tawt_sklearn
from tawt_sklearn import TimeAwareEncoder, nest_events
from tawt_sklearn.datasets import make_icu_stays
from tawt_sklearn.estimators._pretraining import threads
from tawt_sklearn.exceptions import DataError, DataWarning, NotNestedError, TrainingWarning
from tawt_sklearn.nn.coordinates import Coordinates
from tawt_sklearn.nn.pooling import POOLINGS
from tawt_sklearn.objectives import (
    Contrastive,
    Forecast,
    HideCodes,
    HideEvents,
    HideWindows,
    MaskedReconstruction,
)
from tawt_sklearn.objectives.masking import hide
from tawt_sklearn.training.net import EventNet

SMALL: dict[str, Any] = {
    "d_model": 8,
    "n_heads": 2,
    "n_layers": 1,
    "n_windows": 4,
    "d_embedding": 12,
    "max_epochs": 2,
    "min_steps": 0,
    "batch_size": 32,
    "random_state": 0,
    "device": "cpu",
}
N = 80


def make(**parameters: Any) -> TimeAwareEncoder:
    return TimeAwareEncoder(**(SMALL | parameters))


@pytest.fixture(scope="module")
def cohort() -> tuple[pd.DataFrame, pd.Series]:
    X, y = make_icu_stays(N + 40, random_state=0)
    return X.assign(events=X["events"].events.until(12.0)), y


@pytest.fixture(scope="module")
def X(cohort) -> pd.DataFrame:
    return cohort[0].iloc[:N]


@pytest.fixture(scope="module")
def y(cohort) -> pd.Series:
    return cohort[1].iloc[:N]


@pytest.fixture(scope="module")
def others(cohort) -> pd.DataFrame:
    """Stays that were not trained on."""
    return cohort[0].iloc[N:]


@pytest.fixture(scope="module")
def encoder(X) -> TimeAwareEncoder:
    """Fitted once; tests leave it as it is."""
    return make().fit(X)


@pytest.fixture(scope="module")
def embedded(encoder, X) -> np.ndarray:
    return encoder.transform(X)


@pytest.fixture
def steps(monkeypatch) -> dict[str, Any]:
    """Counts training steps; ``at`` and ``error`` say which of them fails, and how."""
    state: dict[str, Any] = {"n": 0, "at": None, "error": RuntimeError}
    infer = EventNet.infer

    def counting(self: EventNet, x: Any, **fit_params: Any) -> Any:
        if self.module_.training:
            state["n"] += 1
            if state["n"] == state["at"]:
                raise state["error"]("in the middle of training")
        return infer(self, x, **fit_params)

    monkeypatch.setattr(EventNet, "infer", counting)
    return state


# ---- embeddings --------------------------------------------------------------------------------


def test_embeddings_are_a_row_of_single_precision_numbers_each(embedded):
    assert embedded.shape == (N, 12) and embedded.dtype == np.float32
    assert np.isfinite(embedded).all() and (embedded.std(axis=0) > 0).all()


def test_an_embedding_does_not_depend_on_the_other_rows(encoder, X, embedded):
    rng = np.random.default_rng(0)
    order = rng.permutation(N)
    np.testing.assert_array_equal(encoder.transform(X.iloc[order]), embedded[order])
    for size in (1, 3, 63, 65):
        rows = rng.choice(N, size, replace=False)
        np.testing.assert_array_equal(encoder.transform(X.iloc[rows]), embedded[rows])
    twice = encoder.transform(pd.concat([X, X]))
    np.testing.assert_array_equal(twice, np.concatenate([embedded, embedded]))


def test_the_number_of_threads_does_not_matter(encoder, X, embedded):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        np.testing.assert_array_equal(encoder.transform(X), embedded)
    finally:
        torch.set_num_threads(before)


def test_the_same_seed_gives_the_same_encoder_and_touches_no_other_generator(X, embedded):
    np.random.seed(7)  # noqa: NPY002
    random.seed(7)
    torch.manual_seed(7)
    before = joblib.hash((random.getstate(), np.random.get_state(), torch.get_rng_state().numpy()))  # noqa: NPY002
    again = make().fit(X).transform(X)
    after = joblib.hash((random.getstate(), np.random.get_state(), torch.get_rng_state().numpy()))  # noqa: NPY002
    assert after == before
    np.testing.assert_array_equal(again, embedded)
    assert not np.array_equal(make(random_state=1).fit(X).transform(X), embedded)


@pytest.mark.parametrize(("n_jobs", "n_threads"), [(None, 1), (2, 2), (-1, joblib.cpu_count())])
def test_pretraining_takes_as_many_threads_as_it_is_told(X, embedded, n_jobs, n_threads):
    seen = set()

    class Threads(Callback):
        def on_batch_end(self, net, **kwargs):
            seen.add(torch.get_num_threads())

    before = torch.get_num_threads()
    found = make(n_jobs=n_jobs, callbacks=[("threads", Threads())]).fit(X).transform(X)
    assert seen == {n_threads} and torch.get_num_threads() == before
    # The same training but for the order of sums.
    np.testing.assert_allclose(found, embedded, atol=0.05)


def test_workers_of_joblib_do_not_change_the_number_of_threads(X, monkeypatch):
    seen = []
    chosen = Coordinates.choose

    def looking(self, *given):
        seen.append(torch.get_num_threads())
        chosen(self, *given)

    monkeypatch.setattr(Coordinates, "choose", looking)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(5)
        with joblib.parallel_config("threading", n_jobs=3):
            assert threads(None) == 1 and threads(4) == 4
            make(max_epochs=1).fit(X)
    finally:
        torch.set_num_threads(before)
    assert seen == [1], "nor does torch's own, when the embedding is scaled"
    assert threads(-1) == joblib.cpu_count() and threads(-1000) == 1


@pytest.mark.parametrize("pooling", ["codewise", "mean", "codes"])
@pytest.mark.parametrize("scaling", ["reliability", "unit"])
def test_embeddings_are_centred_and_of_mean_variance_one(X, pooling, scaling):
    embedded = make(pooling=pooling, scaling=scaling, max_epochs=1).fit(X).transform(X)
    varies = embedded.std(0) > 1e-3
    np.testing.assert_allclose(embedded.mean(0), 0, atol=1e-4)
    if scaling == "unit" or pooling == "codes":
        np.testing.assert_allclose(embedded[:, varies].std(0), 1, rtol=1e-3)
    else:
        assert embedded.var(0).mean() == pytest.approx(1, rel=1e-3)
        assert embedded.std(0).max() > 1.05


def test_reliable_directions_are_wider_than_with_unit_columns(X):
    """Hiding parts of a history moves an embedding less, beside how far apart histories are."""
    moved = {}
    for scaling in ("reliability", "unit"):
        encoder = make(scaling=scaling, max_epochs=4).fit(X)
        data = encoder.preparation_.dataset(X)
        module, batch = encoder.net_.module_, data.batch(np.arange(N))
        with torch.random.fork_rng(), torch.inference_mode():
            torch.manual_seed(1)
            hidden = hide(batch, module.space, (HideEvents(), HideWindows(), HideCodes()))
            seen = module.embed(batch.keep(~hidden.events))
            moved[scaling] = float((module.embed(batch) - seen).square().sum(1).mean())
    assert moved["reliability"] < 0.9 * moved["unit"]


@pytest.mark.parametrize("pooling", POOLINGS)
def test_every_pooling(X, pooling):
    encoder = make(pooling=pooling, max_epochs=1).fit(X)
    embedded = encoder.transform(X)
    V = len(encoder.preparation_.vocabulary)
    width = {"codewise": 12, "codes": 8 * (V + 2)}.get(pooling, 8)
    assert embedded.shape == (N, width) == (N, len(encoder.get_feature_names_out()))
    assert np.isfinite(embedded).all() and embedded.std(axis=0).max() > 0
    alone = encoder.transform(X.iloc[[5]])
    np.testing.assert_array_equal(alone[0], embedded[5])


@pytest.mark.parametrize("patching", ["time", "feature"])
def test_one_kind_of_patches(X, patching):
    encoder = make(patching=patching, pooling="mean", max_epochs=1).fit(X)
    assert np.isfinite(encoder.transform(X)).all()


def test_set_output_gives_frames_with_names(encoder, X, embedded):
    framed = pickle.loads(pickle.dumps(encoder)).set_output(transform="pandas").transform(X)
    assert list(framed) == [f"timeawareencoder{k}" for k in range(12)]
    assert framed.index.equals(X.index)
    np.testing.assert_array_equal(framed.to_numpy(), embedded)


# ---- objectives --------------------------------------------------------------------------------

OBJECTIVES: list[tuple[Any, set[str]]] = [
    ("masked", {"masked"}),
    ("contrastive", {"contrastive"}),
    ("forecast", {"forecast"}),
    (MaskedReconstruction(code=0.0), {"masked"}),
    ({"masked": 1.0, "contrastive": 0.1}, {"masked", "contrastive"}),
    ({"contrastive": 1, Forecast(): 2.0}, {"contrastive", "forecast"}),
    ({Contrastive(): 0.5, MaskedReconstruction(error="squared"): 1.0}, {"masked", "contrastive"}),
]


@pytest.mark.parametrize(("objective", "names"), OBJECTIVES)
def test_every_objective_and_what_history_says_of_it(X, others, objective, names):
    encoder = make(objective=objective).fit(X, X_val=others)
    history = encoder.history_
    assert history["epoch"].tolist() == [1, 2] and encoder.n_iter_ == 2
    for split in ("train", "valid"):
        parts = [c for c in history if c.startswith(f"{split}_") and c != f"{split}_loss"]
        assert {part.split("_")[1] for part in parts} == names
        assert np.isfinite(history[parts].to_numpy()).all()
        np.testing.assert_allclose(history[parts].sum(axis=1), history[f"{split}_loss"], rtol=1e-5)
    assert (history["effective_rank"] >= 1).all() and (history["effective_rank"] <= 12).all()
    assert (history["alignment"] >= 0).all() and (history["uniformity"] <= 0).all()
    assert (history["seconds"] > 0).all()


def test_a_weight_multiplies_its_objective(X):
    once, thrice = (make(objective={"contrastive": w}, max_epochs=1).fit(X) for w in (1.0, 3.0))
    np.testing.assert_allclose(thrice.score(X), 3 * once.score(X), rtol=0.2)


def test_validation_rows_decide_nothing(encoder, X, others, embedded):
    watched = make().fit(X, X_val=others)
    assert {"valid_loss", "valid_masked_value"} <= set(watched.history_)
    assert not any(name.startswith("valid") for name in encoder.history_)
    np.testing.assert_array_equal(watched.transform(X), embedded)


def test_training_improves_the_score_of_other_rows(X, others):
    short, long = (make(max_epochs=k, learning_rate=0.01).fit(X) for k in (1, 6))
    assert long.score(others) > short.score(others) + 0.05
    assert long.history_["train_loss"].iloc[-1] < long.history_["train_loss"].iloc[0]


def test_the_score_is_the_same_every_time(encoder, others):
    assert encoder.score(others) == encoder.score(others) < 0
    assert isinstance(encoder.score(others), float)


# ---- nothing is learned from independent values ------------------------------------------------


def huber_of_the_best_constant(values: np.ndarray) -> tuple[float, float]:
    """Smallest mean Huber loss that one number for all values reaches, and its spread."""
    errors = np.abs(np.linspace(-2, 2, 401)[:, None] - values)
    losses = np.where(errors < 1, errors**2 / 2, errors - 0.5)
    best = losses[losses.mean(axis=1).argmin()]
    return float(best.mean()), float(best.std())


def histories(structure: bool, n: int = 200, each: int = 6) -> pd.DataFrame:
    """Three codes with six values each: levels of the row and of the code, or the same shuffled."""
    rng = np.random.default_rng(5)
    long = pd.DataFrame(
        {
            "subject_id": np.repeat(np.arange(n), 3 * each),
            "time": rng.uniform(0, 10, n * 3 * each),
            "code": np.tile(np.repeat(["a", "b", "c"], each), n),
        }
    )
    level = rng.normal(size=(n, 1, 1)) + rng.normal(scale=0.5, size=(n, 3, 1))
    values = (level + rng.normal(scale=0.2, size=(n, 3, each))).ravel()
    long["value"] = values if structure else rng.permutation(values)
    return nest_events(long, until=10.0)


@pytest.mark.parametrize("structure", [False, True])
def test_hidden_values_do_not_leak_into_their_reconstruction(structure):
    X = histories(structure)
    learn, held_out = X.iloc[:110], X.iloc[110:]
    only_values = MaskedReconstruction(value=1, category=0, code=0, presence=0, summary=0)
    encoder = make(objective=only_values, max_epochs=8, learning_rate=0.02)
    encoder.fit(learn, X_val=held_out)
    reached = encoder.history_["valid_masked_value"].iloc[-1]
    tokens = encoder.preparation_.sequencer.transform(held_out)
    constant, spread = huber_of_the_best_constant(tokens["events"].events.flat("value"))
    error = spread / np.sqrt(3 * len(held_out))  # one independent value for each row and code
    if structure:
        assert reached < constant / 2
    else:
        assert reached > constant - 3 * error


# ---- going on, stopping, taking up again -------------------------------------------------------


def test_partial_fit_goes_on_from_itself(X):
    encoder = make(learning_rate=0.01)
    assert encoder.partial_fit(X) is encoder
    first, before = encoder.history_, encoder.transform(X)
    vocabulary = encoder.preparation_.vocabulary
    for _ in range(3):
        encoder.partial_fit(X)
    assert encoder.history_["epoch"].tolist() == [1, 2, 3, 4] and encoder.n_iter_ == 4
    pd.testing.assert_frame_equal(encoder.history_.iloc[:1], first)
    assert encoder.history_["train_loss"].iloc[-1] < first["train_loss"].iloc[0]
    assert not np.array_equal(encoder.transform(X), before)
    assert encoder.preparation_.vocabulary == vocabulary


@pytest.mark.filterwarnings("ignore::tawt_sklearn.exceptions.DataWarning")  # of new codes
def test_embeddings_learned_in_parts_are_scaled_by_the_largest_part(X):
    encoder = make(learning_rate=0.01).partial_fit(X.iloc[:1])
    for _ in range(4):
        encoder.partial_fit(X.iloc[:60]).partial_fit(X.iloc[60:])
    encoder.partial_fit(X.iloc[:60])
    embedded = encoder.transform(X.iloc[:60])
    np.testing.assert_allclose(embedded.mean(0), 0, atol=1e-4)
    assert embedded.var(0).mean() == pytest.approx(1, rel=1e-3)
    assert int(encoder.net_.module_.coordinates.n_rows) == 60


def test_partial_fit_goes_on_from_a_fit_and_can_be_repeated(encoder, X, embedded):
    results = []
    for _ in range(2):
        again = pickle.loads(pickle.dumps(encoder)).partial_fit(X.iloc[:40])
        assert again.n_iter_ == encoder.n_iter_ + 1
        results.append(again.transform(X))
    np.testing.assert_array_equal(*results)
    assert not np.array_equal(results[0], embedded)


@pytest.mark.parametrize(
    "change",
    [
        {"d_model": 16},
        {"objective": "forecast"},
        {"pooling": "mean"},
        {"d_embedding": 5},
        {"scaling": "unit"},
    ],
)
def test_partial_fit_refuses_another_architecture(encoder, X, embedded, change):
    other = pickle.loads(pickle.dumps(encoder)).set_params(**change)
    with pytest.raises(ValueError, match="architecture and the objective of the last fit"):
        other.partial_fit(X)
    np.testing.assert_array_equal(other.set_params(**SMALL).transform(X), embedded)


def test_ctrl_c_keeps_what_there_is(X, steps):
    steps |= {"at": 8, "error": KeyboardInterrupt}  # four steps in an epoch
    encoder = make(max_epochs=5)
    with pytest.warns(TrainingWarning, match="interrupted.*epoch [12] of 5"):
        encoder.fit(X)
    assert 1 <= encoder.n_iter_ <= 2 and len(encoder.history_) == encoder.n_iter_
    assert np.isfinite(encoder.transform(X)).all()


def test_ctrl_c_after_the_last_epoch_keeps_the_network(X, monkeypatch):
    def interrupted(self, *given):
        raise KeyboardInterrupt

    monkeypatch.setattr(Coordinates, "choose", interrupted)
    with pytest.warns(TrainingWarning, match="epoch 2 of 2, without a scaling of embeddings"):
        encoder = make().fit(X)
    monkeypatch.undo()
    assert np.isfinite(encoder.transform(X)).all()
    embedded = encoder.partial_fit(X).transform(X)
    assert embedded.var(0).mean() == pytest.approx(1, rel=1e-3), "which comes later"


def test_ctrl_c_in_the_first_epoch_leaves_nothing(X, steps):
    steps |= {"at": 2, "error": KeyboardInterrupt}
    encoder = make()
    try:
        encoder.fit(X)
    except KeyboardInterrupt:
        pass
    else:
        pytest.fail("the interrupt was swallowed")
    assert not hasattr(encoder, "net_") and not hasattr(encoder, "n_features_in_")


def test_a_fit_that_was_killed_goes_on_from_its_checkpoint(X, steps, tmp_path):
    whole = make(max_epochs=3).fit(X)
    n_steps = steps["n"]
    steps |= {"n": 0, "at": n_steps * 3 // 4}
    encoder = make(max_epochs=3, checkpoint_dir=tmp_path)
    with pytest.raises(RuntimeError, match="in the middle"):
        encoder.fit(X)
    assert not hasattr(encoder, "net_") and len(list(tmp_path.iterdir())) == 1
    steps |= {"n": 0, "at": None}
    encoder.fit(X)
    assert 0 < steps["n"] < n_steps, "some epochs were not done again"
    np.testing.assert_array_equal(encoder.transform(X), whole.transform(X))
    dull = ["seconds"]
    pd.testing.assert_frame_equal(
        encoder.history_.drop(columns=dull), whole.history_.drop(columns=dull)
    )


def test_a_failed_fit_leaves_nothing_half_fitted(X, steps):
    steps["at"] = 3
    encoder = make()
    with pytest.raises(RuntimeError):
        encoder.fit(X)
    assert not [name for name in vars(encoder) if name.endswith("_")]


def test_a_failed_fit_leaves_the_earlier_one(X, steps):
    encoder = make(max_epochs=1).fit(X)
    before = encoder.transform(X)
    steps |= {"n": 0, "at": 2}
    with pytest.raises(RuntimeError):
        encoder.fit(X.iloc[:40])
    with pytest.raises(RuntimeError):
        steps["n"] = 0
        encoder.partial_fit(X)
    np.testing.assert_array_equal(encoder.transform(X), before)


# ---- forms of input ----------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(40, 3, 10), (40, 12)])
def test_panels_and_numbers(shape):
    rng = np.random.default_rng(0)
    values = rng.normal(size=shape)
    values[rng.random(shape) < 0.2] = np.nan
    encoder = make().fit(values)
    embedded = encoder.transform(values)
    assert embedded.shape == (40, 12) and encoder.n_features_in_ == shape[1]
    np.testing.assert_array_equal(encoder.transform(values[7:9]), embedded[7:9])
    with pytest.raises(DataError, match="as in fit"):
        encoder.transform(rng.normal(size=(5, 4) if len(shape) == 3 else (5, 4, 2)))


def test_tokens_of_a_sequencer_and_raw_histories_give_the_same(encoder, X, embedded):
    sequencer = clone(encoder.preparation_.sequencer)
    pipeline = make_pipeline(sequencer, make())
    np.testing.assert_array_equal(pipeline.fit_transform(X), embedded)
    assert pipeline[-1].preparation_.sequencer is None
    with pytest.raises(DataError, match="Expected tokenised histories"):
        pipeline[-1].transform(X)


def test_empty_histories_have_embeddings(encoder, X, embedded):
    empty = X.assign(events=X["events"].events.until(-1.0))
    nothing = encoder.transform(empty)
    assert np.isfinite(nothing).all() and not np.array_equal(nothing, embedded)
    mixed = encoder.transform(pd.concat([X.iloc[:3], empty.iloc[3:5]]))
    np.testing.assert_array_equal(mixed[:3], embedded[:3])
    assert np.isfinite(make(max_epochs=1).fit(pd.concat([X, empty])).transform(X)).all()


def test_codes_that_are_unknown_are_counted(encoder, X):
    array: Any = X["events"].array
    codes = array.codes.where(array.codes != array.codes[0], "never seen")
    with pytest.warns(DataWarning, match="never seen"):
        embedded = encoder.transform(X.assign(events=array._replace(codes=codes)))
    assert np.isfinite(embedded).all()


# ---- copies ------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["save", "load", "pickle", "joblib"])
def test_a_stored_encoder_says_the_same(encoder, X, others, embedded, how, tmp_path):
    path = tmp_path / "encoder.tawt"
    if how == "pickle":
        again = pickle.loads(pickle.dumps(encoder))
    elif how == "joblib":
        joblib.dump(encoder, path)
        again = joblib.load(path)
    else:
        encoder.save(path)
        again = TimeAwareEncoder.load(path, "cpu") if how == "save" else tawt_sklearn.load(path)
    np.testing.assert_array_equal(again.transform(X), embedded)
    assert again.score(others) == encoder.score(others)
    pd.testing.assert_frame_equal(again.history_, encoder.history_)
    assert again.get_params() == encoder.get_params() and again.n_iter_ == encoder.n_iter_
    assert np.isfinite(again.partial_fit(X).transform(X)).all()


@pytest.mark.parametrize(("objective", "_"), OBJECTIVES)
def test_every_objective_can_be_saved(X, objective, _, tmp_path):
    encoder = make(objective=objective, max_epochs=1).fit(X)
    encoder.save(tmp_path / "encoder.tawt")
    again = tawt_sklearn.load(tmp_path / "encoder.tawt", "cpu")
    assert again.objective == objective
    np.testing.assert_array_equal(again.transform(X), encoder.transform(X))


def test_a_clone_is_not_fitted(encoder):
    copy = clone(encoder)
    assert copy.get_params() == encoder.get_params()
    assert not hasattr(copy, "net_")


def test_a_pickle_holds_no_training_rows(encoder):
    small, large = len(pickle.dumps(encoder)), len(pickle.dumps(encoder.net_.module_))
    assert small < 1.5 * large + 300_000


# ---- among other estimators --------------------------------------------------------------------


def test_before_a_linear_model(X, y):
    model = make_pipeline(make(), LogisticRegression(C=0.1))
    assert model.fit(X, y).predict_proba(X).shape == (N, 2)
    scores = cross_val_score(model, X, y, cv=2, scoring="neg_log_loss")
    assert np.isfinite(scores).all()


def test_a_search_over_poolings_and_objectives(X, y):
    model = make_pipeline(make(max_epochs=1), StandardScaler(), LogisticRegression())
    grid = {
        "timeawareencoder__pooling": ["cls", "codewise"],
        "timeawareencoder__objective": ["forecast", {"masked": 1.0, "contrastive": 0.1}],
    }
    search = GridSearchCV(model, grid, cv=2, error_score="raise").fit(X, y)
    assert len(search.cv_results_["params"]) == 4
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


# ---- what was asked for wrongly ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"objective": "mask"}, "Expected objective to be one of.*Got 'mask'"),
        ({"objective": {}}, "at least one objective"),
        ({"objective": {"masked": -1.0}}, "weights of objectives to be positive.*Got -1.0"),
        ({"objective": {"masked": 1, MaskedReconstruction(): 1}}, "different names"),
        ({"pooling": "median"}, "pooling"),
        ({"scaling": "standard"}, "scaling"),
        ({"n_jobs": 1.5}, "n_jobs"),
        ({"n_jobs": 0}, "n_jobs"),
        ({"patching": "time"}, 'Expected patching="dual" or "feature" with pooling'),
        ({"patching": "time", "pooling": "codes"}, 'Expected patching="dual" or "feature"'),
        ({"d_model": 9}, "d_model to be a multiple of n_heads"),
        ({"random_state": None, "checkpoint_dir": "somewhere"}, "random_state to be an integer"),
        ({"net_params": {"lr": 0.1}}, "Use the parameters learning_rate"),
    ],
)
def test_wrong_parameters_are_named(X, parameters, message):
    encoder = make(**parameters)
    with pytest.raises(ValueError, match=message):
        encoder.fit(X)
    assert not [name for name in vars(encoder) if name.endswith("_")]


def test_a_long_table_is_recognised(encoder, X):
    long = X["events"].events.to_long()
    for ask in (make().fit, make().partial_fit, encoder.transform, encoder.score):
        with pytest.raises(NotNestedError, match="nest_events"):
            ask(long)


def test_histories_without_events_teach_nothing(X):
    empty = X.assign(events=X["events"].events.until(-1.0))
    with pytest.raises(DataError, match="at least one event"):
        make().fit(empty)


def test_values_of_enormous_size_are_clipped(encoder, X):
    far = X.iloc[:2]["events"].events.to_long()
    far["value"] = 1e30
    huge = X.iloc[:2].assign(events=nest_events(far, static=X.iloc[:2][[]])["events"])
    assert np.isfinite(encoder.transform(huge)).all()


@pytest.mark.parametrize("method", ["transform", "transform_steps", "reconstruct", "score"])
def test_nothing_is_said_before_fit(X, method):
    with pytest.raises(NotFittedError, match="not fitted yet"):
        getattr(make(), method)(X)
