"""Saved classifiers and regressors: the same predictions to the last bit, and files that lie."""

from __future__ import annotations

import copy
import json
import math
import pickle
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from skorch.callbacks import Callback

import tawt_sklearn
from tawt_sklearn import TimeAwareClassifier, TimeAwareRegressor, TripletSequencer
from tawt_sklearn.datasets import make_icu_stays
from tawt_sklearn.exceptions import DataWarning, DeviceError, SaveFileError
from tawt_sklearn.persistence.codec import encode
from tawt_sklearn.training.device import resolve_device

from .builders import save_file

QUICK = {
    "d_model": 8,
    "n_heads": 2,
    "n_layers": 1,
    "n_windows": 4,
    "max_epochs": 2,
    "min_steps": 4,
    "n_ensemble": 1,
    "random_state": 0,
    "device": "cpu",
}


def classifier(**parameters) -> TimeAwareClassifier:
    return TimeAwareClassifier(**(QUICK | parameters))


def regressor(**parameters) -> TimeAwareRegressor:
    return TimeAwareRegressor(**(QUICK | parameters))


@pytest.fixture(scope="module")
def X() -> pd.DataFrame:
    """The first hours of 60 stays."""
    X, _ = make_icu_stays(60, random_state=0)
    return X.assign(events=X["events"].events.until(8.0))


@pytest.fixture(scope="module")
def y() -> np.ndarray:
    return make_icu_stays(60, random_state=0)[1].to_numpy()


# ---- one estimator of every kind ---------------------------------------------------------------


def statics(X: pd.DataFrame) -> pd.DataFrame:
    """With static columns of more kinds: categorical, bool, text, and a missing number."""
    ward = pd.Categorical(np.array(["A", "B", None], object)[np.arange(len(X)) % 3])
    return X.assign(
        ward=ward,
        smoker=np.arange(len(X)) % 2 == 0,
        age=X["age"].where(np.arange(len(X)) > 4),
    )


def panel(n: int) -> np.ndarray:
    """(n, 3 channels, 10 time points) with gaps."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(n, 3, 10))
    values[rng.random(values.shape) < 0.2] = np.nan
    return values


def named(y: np.ndarray) -> np.ndarray:
    """Three classes with names."""
    return np.array(["red", "green", "blue"])[(y + np.arange(len(y))) % 3]


def codebook() -> TripletSequencer:
    codes = {"HR": {"range": [20, None], "label": "Puls"}, "Lactate": {"range": [0, 30]}}
    return TripletSequencer(codes=codes, min_count=3, value_scaling="quantile", max_events=30)


Kind = Callable[[pd.DataFrame, np.ndarray], tuple[Any, Any, Any]]

KINDS: dict[str, Kind] = {
    "raw histories": lambda X, y: (classifier(), X, y),
    "static columns": lambda X, y: (classifier(), statics(X), y),
    "a codebook": lambda X, y: (classifier(sequencer=codebook()), X, y),
    "tokens": lambda X, y: (classifier(), TripletSequencer().fit_transform(X), y),
    "a series": lambda X, y: (classifier(), X["events"], y),
    "a MultiIndex": lambda X, y: (
        classifier(),
        X.set_axis(pd.MultiIndex.from_product([["a"], range(4)]), axis=1),
        y,
    ),
    "a panel": lambda X, y: (classifier(), panel(len(y)), y),
    "numbers": lambda X, y: (classifier(), panel(len(y))[:, 0], y),
    "names of classes": lambda X, y: (classifier(), X, named(y)),
    "strings as objects": lambda X, y: (classifier(), X, named(y).astype(object)),
    "a string column": lambda X, y: (classifier(), X, pd.Series(named(y), X.index, dtype="str")),
    "bool classes": lambda X, y: (classifier(), X, y.astype(bool)),
    "small integers": lambda X, y: (classifier(), X, (y * 3 - 1).astype(np.int8)),
    "floats as classes": lambda X, y: (classifier(), X, y + 1.0),
    "several labels": lambda X, y: (classifier(), X, np.stack([y, 1 - y, y], 1)),
    "two members": lambda X, y: (classifier(n_ensemble=2, early_stopping=True), X, y),
    "a temperature": lambda X, y: (classifier(calibrate=True), X, y),
    "weights of classes": lambda X, y: (classifier(class_weight={0: 1.0, 1: 3.0}), X, y),
    "a random state": lambda X, y: (classifier(random_state=np.random.RandomState(3)), X, y),
    "numpy parameters": lambda X, y: (
        classifier(d_model=np.int64(8), dropout=np.float32(0.1), device=torch.device("cpu")),
        X,
        y,
    ),
    "patches of time": lambda X, y: (
        classifier(patching="time", time_encoding="sinusoidal"),
        X,
        y,
    ),
    "few patches of codes": lambda X, y: (
        classifier(patching="feature", max_feature_patches=3),
        X,
        y,
    ),
    "one number": lambda X, y: (regressor(), X, y * 10.0 + 3),
    "two numbers": lambda X, y: (
        regressor(loss="huber"),
        panel(len(y)),
        np.stack([y, -3.0 * y], 1),
    ),
    "a scorer": lambda X, y: (
        regressor(n_ensemble=2, early_stopping=True, scoring="r2"),
        statics(X),
        y + np.arange(len(y)) / 7,
    ),
}


class Fitted:
    """A fitted estimator, the rows it was fitted on, and the bytes of its file."""

    def __init__(self, kind: Kind, X: pd.DataFrame, y: np.ndarray, folder: Path) -> None:
        self.estimator, self.X, self.y = kind(X, y)
        self.estimator.fit(self.X, self.y)
        self.few = self.X[:12] if isinstance(self.X, np.ndarray) else self.X.iloc[:12]
        path = folder / "estimator.tawt"
        self.estimator.save(path)
        self.bytes = path.read_bytes()

    def write(self, path: Path) -> Path:
        path.write_bytes(self.bytes)
        return path


@pytest.fixture(scope="module", params=KINDS)
def fitted(request, X, y, tmp_path_factory) -> Fitted:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # of histories that are cut
        return Fitted(KINDS[request.param], X, y, tmp_path_factory.mktemp("kind"))


@pytest.fixture(scope="module")
def plain(X, y, tmp_path_factory) -> Fitted:
    """The classifier that most tests are content with."""
    return Fitted(KINDS["static columns"], X, y, tmp_path_factory.mktemp("plain"))


def outputs(estimator, X) -> dict[str, np.ndarray]:
    """What an estimator says of some rows; all else follows from it."""
    methods = ("predict", "predict_proba")
    return {m: getattr(estimator, m)(X) for m in methods if hasattr(estimator, m)}


def assert_same_outputs(left, right, X) -> None:
    left, right = outputs(left, X), outputs(right, X)
    for method, expected in right.items():
        assert left[method].dtype == expected.dtype and left[method].shape == expected.shape
        if expected.dtype == object:
            assert left[method].tolist() == expected.tolist()
        else:
            assert left[method].tobytes() == expected.tobytes(), method


# ---- what comes back ---------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::tawt_sklearn.exceptions.DataWarning")
def test_a_loaded_estimator_predicts_the_same_to_the_last_bit(fitted, path):
    saved, loaded = fitted.estimator, tawt_sklearn.load(fitted.write(path), device="cpu")
    assert type(loaded) is type(saved)
    assert_same_outputs(loaded, saved, fitted.few)
    labels = fitted.y[:12]
    assert loaded.score(fitted.few, labels) == saved.score(fitted.few, labels)


def test_a_loaded_estimator_has_learned_the_same(fitted, path):
    saved, loaded = fitted.estimator, type(fitted.estimator).load(fitted.write(path), device="cpu")
    assert set(vars(loaded)) == set(vars(saved))
    pd.testing.assert_frame_equal(loaded.history_, saved.history_)
    assert loaded.n_iter_ == saved.n_iter_ and loaded.device_ == saved.device_
    assert loaded.n_features_in_ == saved.n_features_in_
    assert hasattr(loaded, "feature_names_in_") == hasattr(saved, "feature_names_in_")
    if hasattr(saved, "feature_names_in_"):
        assert loaded.feature_names_in_.tolist() == saved.feature_names_in_.tolist()
        assert loaded.feature_names_in_.dtype == saved.feature_names_in_.dtype
    if hasattr(saved, "classes_"):
        assert loaded.classes_.dtype == saved.classes_.dtype
        assert loaded.classes_.tolist() == saved.classes_.tolist()
        assert loaded.temperature_ == saved.temperature_
    for one, other in zip(loaded.nets_, saved.nets_, strict=True):
        assert one.weights().keys() == other.weights().keys()
        assert all(torch.equal(one.weights()[name], w) for name, w in other.weights().items())
        assert one.history[:, "train_loss"] == other.history[:, "train_loss"]
        assert not one.module_.training


def test_parameters_come_back(fitted, path):
    saved, loaded = fitted.estimator, tawt_sklearn.load(fitted.write(path), device="cpu")
    before, after = saved.get_params(deep=False), loaded.get_params(deep=False)
    for name in ("random_state", "sequencer"):
        one, other = before.pop(name), after.pop(name)
        assert type(one) is type(other)
        if isinstance(one, np.random.RandomState):
            assert one.randint(2**31, size=5).tolist() == other.randint(2**31, size=5).tolist()
        else:
            assert repr(one) == repr(other)
    assert after == before and {k: type(v) for k, v in after.items()} == {
        k: type(v) for k, v in before.items()
    }


@pytest.mark.filterwarnings("ignore::tawt_sklearn.exceptions.DataWarning")
def test_a_loaded_estimator_is_saved_pickled_and_cloned_again(fitted, path):
    loaded = tawt_sklearn.load(fitted.write(path), device="cpu")
    loaded.save(path)
    if not isinstance(loaded.random_state, np.random.RandomState):  # drawn from by another test
        assert path.read_bytes() == fitted.bytes
    for again in (tawt_sklearn.load(path, device="cpu"), pickle.loads(pickle.dumps(loaded))):
        assert_same_outputs(again, fitted.estimator, fitted.few[:1])
    assert not hasattr(clone(loaded), "nets_")


@pytest.mark.parametrize("make, n_ensemble", [(classifier, 1), (regressor, 2)])
def test_training_goes_on_from_a_loaded_estimator(X, y, path, make, n_ensemble):
    saved = make(n_ensemble=n_ensemble, warm_start=True).fit(X, y)
    saved.save(path)
    for go_on in ("fit", "partial_fit"):
        loaded, kept = type(saved).load(path, device="cpu"), copy.deepcopy(saved)
        for estimator in (loaded, kept):
            getattr(estimator, go_on)(X, y)
        assert_same_outputs(loaded, kept, X[:12])
        assert len(loaded.history_) > len(saved.history_)
        pd.testing.assert_frame_equal(
            loaded.history_.drop(columns="seconds"), kept.history_.drop(columns="seconds")
        )


def test_an_estimator_in_the_middle_of_partial_fit_goes_on(X, y, path):
    saved = classifier().partial_fit(X[:30], y[:30], classes=[0, 1])
    saved.save(path)
    loaded = TimeAwareClassifier.load(path, device="cpu")
    assert_same_outputs(loaded, saved, X[:12])
    loaded.partial_fit(X[30:], y[30:])
    assert loaded.n_iter_ == 2 and not np.array_equal(
        loaded.predict_proba(X), saved.predict_proba(X)
    )


def test_a_loaded_estimator_is_fitted_anew(plain, path):
    loaded = tawt_sklearn.load(plain.write(path), device="cpu")
    p = plain.estimator.predict_proba(plain.X)
    np.testing.assert_array_equal(loaded.fit(plain.X, plain.y).predict_proba(plain.X), p)


@pytest.mark.parametrize("make", [classifier, regressor])
def test_an_estimator_that_is_not_fitted_is_none_afterwards(X, y, path, make):
    saved = make(sequencer=TripletSequencer(min_count=7), random_state=4)
    saved.save(path)
    loaded = tawt_sklearn.load(path)
    assert repr(loaded) == repr(saved)
    with pytest.raises(NotFittedError):
        loaded.predict(X)
    assert_same_outputs(loaded.fit(X, y), make(**saved.get_params(deep=False)).fit(X, y), X)


def test_an_earlier_file_is_replaced(plain, path):
    regressor().save(path)
    plain.estimator.save(path)
    assert path.read_bytes() == plain.bytes


def test_load_of_another_class_names_both(plain, path):
    plain.write(path)
    with pytest.raises(
        SaveFileError,
        match=r"Expected a TimeAwareRegressor\. Got a file that holds a TimeAwareClassifier",
    ):
        TimeAwareRegressor.load(path)
    with pytest.raises(SaveFileError, match="use TimeAwareClassifier.load"):
        TripletSequencer.load(path)


# ---- what cannot come along --------------------------------------------------------------------


class Mine(Callback):
    pass


def test_callbacks_and_parameters_of_the_net_that_cannot_be_saved(X, y, path):
    net_params = {"optimizer": torch.optim.SGD, "optimizer__fused": False}
    saved = classifier(callbacks=[("mine", Mine())], net_params=net_params).fit(X, y)
    with pytest.warns(DataWarning) as caught:
        saved.save(path)
    assert [str(w.message).partition(" ")[0] for w in caught] == ["callbacks", "net_params"]
    assert all("is not saved" in str(w.message) and w.filename == __file__ for w in caught)
    assert saved.callbacks is not None and saved.net_params is net_params
    loaded = tawt_sklearn.load(path, device="cpu")
    assert loaded.callbacks is None and loaded.net_params is None
    assert_same_outputs(loaded, saved, X[:12])


def test_parameters_of_the_net_that_can_be_saved_come_along(X, y, path):
    net_params = {"optimizer__betas": (0.9, 0.99), "iterator_train__drop_last": True}
    classifier(net_params=net_params, callbacks=[]).fit(X, y).save(path)
    loaded = tawt_sklearn.load(path, device="cpu")
    assert loaded.net_params == net_params and loaded.callbacks == []


def test_requests_of_metadata_come_along(path):
    with sklearn.config_context(enable_metadata_routing=True):
        saved = classifier().set_fit_request(sample_weight=True, X_val="late")
        saved.set_score_request(sample_weight="weight").save(path)
        routing = tawt_sklearn.load(path).get_metadata_routing()
        assert routing.fit.requests == saved.get_metadata_routing().fit.requests
        assert routing.fit.requests["X_val"] == "late"
        assert routing.score.requests == {"sample_weight": "weight"}


def test_no_patients_are_in_the_file(X, y, path):
    rng = np.random.default_rng(0)
    ages = rng.normal(60, 10, len(X))
    ids = [f"patient-{number}" for number in rng.integers(10**8, 10**9, len(X))]
    frame = X.assign(age=ages).set_axis(ids)
    clf = classifier(early_stopping=True, validation_fraction=0.5, calibrate=True)
    clf.fit(frame, y, X_val=frame.iloc[:20], y_val=y[:20]).save(path)
    content = path.read_bytes()
    assert not any(name.encode() in content for name in ids) and b"patient-" not in content

    def held(values) -> int:
        forms = (lambda v: struct.pack("<d", v), lambda v: struct.pack("<f", v), repr)
        encoded = [[form(float(v)) for form in forms] for v in values]
        return sum(
            any((f if isinstance(f, bytes) else f.encode()) in content for f in one)
            for one in encoded
        )

    assert held(ages) <= 5  # a median or a quartile may be someone's
    scaled, _ = clf.preparation_.statics.transform(frame.drop(columns="events"))
    lone = np.unique(scaled[:, 0])
    assert held(lone[np.abs(lone) > 0.01]) <= 5


def test_a_file_is_small_whatever_was_trained_on(X, y, path):
    sizes = []
    for n in (40, 60):
        clf = classifier(early_stopping=True).fit(X.iloc[:n], y[:n])
        clf.save(path)
        sizes.append(path.stat().st_size)
    assert abs(sizes[1] - sizes[0]) < 4_000  # a rare code more
    weights = sum(w.nbytes for net in clf.nets_ for w in net.weights().values())
    curves = [net.module.keywords.get("curves") for net in clf.nets_]
    weights += sum(array.nbytes for each in curves if each for array in vars(each).values())
    assert sizes[1] < weights + 45_000


def test_a_file_names_neither_modules_nor_pickles(plain, path):
    with zipfile.ZipFile(plain.write(path)) as file:
        text = file.read("document.json").decode()
    assert '"class":"TimeAwareClassifier"' in text
    assert "tawt_sklearn." not in text and "torch." not in text and "pickle" not in text


# ---- devices -----------------------------------------------------------------------------------


@pytest.fixture
def from_cuda(plain, path) -> Path:
    """The file of a classifier that was trained on a GPU."""
    document, arrays = state_of(plain.estimator)
    fitted_items(document)["device_"] = {"$": "torch_device", "name": "cuda"}
    document["estimator"]["state"]["params"]["items"]["device"] = "cuda"
    path.write_bytes(save_file(document, arrays))
    return path


def test_a_file_from_a_gpu_is_loaded_elsewhere(plain, from_cuda):
    for load in (tawt_sklearn.load, TimeAwareClassifier.load):
        loaded = load(from_cuda, device="cpu")
        assert loaded.device_ == torch.device("cpu") and loaded.device == "cuda"
        assert_same_outputs(loaded, plain.estimator, plain.few)
    loaded = tawt_sklearn.load(from_cuda)
    assert loaded.device_ == resolve_device("auto")
    np.testing.assert_allclose(
        loaded.predict_proba(plain.X), plain.estimator.predict_proba(plain.X), atol=1e-4
    )
    assert tawt_sklearn.load(from_cuda, device=torch.device("cpu")).device_.type == "cpu"


@pytest.mark.parametrize("device", ["cuda:97", torch.device("cuda", 97)])
def test_a_device_that_is_not_there(plain, path, device):
    with pytest.raises(DeviceError, match=r"a device that this machine has: cpu.*Got 'cuda:97'"):
        tawt_sklearn.load(plain.write(path), device=device)


def test_a_device_that_is_none(plain, path):
    with pytest.raises(DeviceError, match="Expected device to be"):
        tawt_sklearn.load(plain.write(path), device="gpu")


# ---- files with a valid seal that lie ----------------------------------------------------------


def state_of(estimator) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    node, arrays = encode(estimator)
    return {"estimator": node}, arrays


def fitted_items(document) -> dict[str, Any]:
    return document["estimator"]["state"]["fitted"]["items"]


def net_of(document) -> dict[str, Any]:
    """State of the first member."""
    return fitted_items(document)["nets_"][0]["state"]


def model_of(document) -> dict[str, Any]:
    """Keywords of its module."""
    return net_of(document)["model"]["items"]


def backbone_of(document) -> dict[str, Any]:
    """Keywords of its backbone."""
    return model_of(document)["backbone"]["items"]


def weight_named(document, part: str) -> dict[str, Any]:
    """The node of the first weight with that in its name."""
    weights = net_of(document)["weights"]["items"]
    return next(node for name, node in weights.items() if part in name)


def keys_of(node: Any) -> list[str]:
    """Keys of all arrays below a node."""
    if isinstance(node, dict):
        own = [node["key"]] if node.get("$") == "array" else []
        return own + [key for item in node.values() for key in keys_of(item)]
    return [key for item in node for key in keys_of(item)] if isinstance(node, list) else []


def node_of(value: Any) -> Any:
    return encode(value)[0]


@pytest.fixture
def accepted(plain, path):
    """Which of several changes leave a file that is loaded: none should.

    Each of ``edits``, by name, changes the document and the arrays in place.
    """

    def check(edits: dict[str, Edit]) -> list[str]:
        document, arrays = state_of(plain.estimator)
        text = json.dumps(document)
        loaded = []
        for name, edit in edits.items():
            document, new = json.loads(text), dict(arrays)
            edit(document, new)
            path.write_bytes(save_file(document, new))
            try:
                tawt_sklearn.load(path, device="cpu")
                loaded.append(name)
            except SaveFileError as error:
                assert "estimator.tawt" in str(error)
        return loaded

    return check


Edit = Callable[[dict[str, Any], dict[str, np.ndarray]], None]

NAN, INF, HUGE = math.nan, math.inf, 2**40


@pytest.mark.parametrize(
    "name, values",
    [
        ("n_layers", (10**9, HUGE, 2**62, -1, 0, "1", 1.5, NAN, INF, None, [1])),
        ("d_model", (HUGE, 2**62, 0, -8, 16, "8", 8.5, NAN, INF, None, (8,))),
        ("n_heads", (HUGE, 0, -2, 1, 3, "2", NAN, INF, None)),
        ("n_codes", (HUGE, 2**62, 0, -1, "26", NAN, INF, None)),
        ("n_categories", (HUGE, 2**62, 0, -1, "x", NAN, INF, None)),
        ("n_static_numeric", (HUGE, 2**62, -1, "1", NAN, None)),
        ("static_cardinalities", ((HUGE,), (2**62, 2**62), "ab", NAN, (NAN,), 3)),
        ("d_feedforward", (HUGE, 2**62, 0, -1, "96", NAN)),
        ("window_edges", ([], [1.0] * 50, "abc", ["a", "b", "c"], NAN, 3)),
        ("horizon", (0.0, -1.0, NAN, INF, "1", None)),
        ("dropout", (NAN, 2.0, -1.0, "0", None)),
        ("max_feature_patches", (0, -1, NAN, "3", None)),
        ("patching", ("time", "feature", "both", None, 1)),
        ("another", (1,)),
    ],
)
def test_an_architecture_that_the_weights_do_not_fit(accepted, name, values):
    def replace(value) -> Edit:
        return lambda document, arrays: backbone_of(document).update({name: node_of(value)})

    assert accepted({str(value): replace(value) for value in values}) == []


@pytest.mark.parametrize(
    "name, values",
    [
        ("prior", ([], [0.0] * 3, ["a", "b"], "ab", None, [0.0] * 100_000)),
        ("code_dropout", (NAN, 2.0, -1.0, "0", None)),
        ("window_dropout", (NAN, 2.0, -1.0, "0", None)),
        ("head_dropout", (NAN, 2.0, -1.0, "0", None)),
        ("backbone", (None, {}, [], 1, "x", {"n_layers": 1})),
        ("another", (1,)),
    ],
)
def test_a_model_that_cannot_be(accepted, name, values):
    def replace(value) -> Edit:
        return lambda document, arrays: model_of(document).update({name: node_of(value)})

    assert accepted({str(value)[:20]: replace(value) for value in values}) == []


def test_a_model_with_a_part_missing(accepted):
    def without(name) -> Edit:
        return lambda document, arrays: backbone_of(document).pop(name)

    names = ("n_layers", "d_model", "n_codes", "n_categories", "window_edges", "horizon")
    assert accepted({name: without(name) for name in names}) == []
    names = ("prior", "backbone", "code_dropout")
    assert (
        accepted({n: lambda document, arrays, n=n: model_of(document).pop(n) for n in names}) == []
    )


@pytest.mark.parametrize("name", ["model", "weights", "target", "history"])
def test_a_net_with_something_else_in_place_of_a_part(accepted, name):
    def replace(value) -> Edit:
        def edit(document, arrays):
            net = net_of(document)
            for key in keys_of(net.pop(name)):
                arrays.pop(key)
            if value != "gone":
                net[name] = node_of(value)

        return edit

    values = ["gone", None, 3, [1], "text"] + ([] if name == "history" else [[], {}])
    assert accepted({str(value): replace(value) for value in values}) == []


@pytest.mark.parametrize("part", ["backbone.cls", "head.layers.2.weight", "first_id", "decay"])
def test_weights_of_another_shape(accepted, part):
    shapes: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "empty": lambda w: w[:0],
        "one axis more": lambda w: w[..., None],
        "twice": lambda w: np.concatenate([w, w]),
        "other": lambda w: np.zeros(3, w.dtype),
        "a scalar": lambda w: np.zeros((), w.dtype),
        "nothing of a large width": lambda w: np.zeros((0, 2**20), w.dtype),
    }

    def reshape(change) -> Edit:
        def edit(document, arrays):
            key = weight_named(document, part)["key"]
            arrays[key] = np.array(change(arrays[key]))

        return edit

    assert accepted({name: reshape(change) for name, change in shapes.items()}) == []


@pytest.mark.parametrize("part", ["backbone.cls", "head.layers.2.weight", "first_id"])
def test_weights_of_another_dtype(accepted, part):
    def cast(dtype) -> Edit:
        def edit(document, arrays):
            key = weight_named(document, part)["key"]
            arrays[key] = arrays[key].astype(dtype)

        return edit

    own = "int64" if part == "first_id" else "float32"
    dtypes = {"bool", "int8", "uint16", "int32", "int64", "float16", "float32", "float64"} - {own}
    assert accepted({dtype: cast(dtype) for dtype in sorted(dtypes)}) == []


def test_weights_that_are_no_arrays_of_numbers(accepted):
    def replace(weight) -> Edit:
        def edit(document, arrays):
            weights = net_of(document)["weights"]["items"]
            arrays.pop(weights["backbone.cls"]["key"])
            weights["backbone.cls"] = weight

        return edit

    def complex_numbers(document, arrays):
        node = net_of(document)["weights"]["items"]["backbone.cls"]
        node["dtype"] = "<c8"
        arrays[node["key"]] = np.zeros((8, 2), np.float32)

    def strings(document, arrays):
        node = net_of(document)["weights"]["items"]["backbone.cls"]
        node["dtype"] = "<U1"
        arrays[node["key"]] = np.full((8, 1), 49, np.uint32)

    def objects(document, arrays):
        weights = net_of(document)["weights"]["items"]
        arrays.pop(weights["backbone.cls"]["key"])
        weights["backbone.cls"] = {"$": "objects", "shape": [8], "items": [0.0] * 8}

    others = (None, 1.0, "x", [1.0], {"$": "NaT"})
    edits: dict[str, Edit] = {str(weight): replace(weight) for weight in others}
    edits |= {"complex": complex_numbers, "strings": strings, "objects": objects}
    assert accepted(edits) == []


def test_weights_missing_and_left_over(accepted):
    def drop(document, arrays):
        node = net_of(document)["weights"]["items"].pop("backbone.cls")
        arrays.pop(node["key"])

    def drop_all(document, arrays):
        for node in net_of(document)["weights"]["items"].values():
            arrays.pop(node["key"])
        net_of(document)["weights"]["items"].clear()

    def rename(document, arrays):
        weights = net_of(document)["weights"]["items"]
        weights["../evil"] = weights.pop("backbone.cls")

    def add(document, arrays):
        arrays["more"] = np.zeros(8, np.float32)
        net_of(document)["weights"]["items"]["more"] = {"$": "array", "key": "more"}

    assert accepted({edit.__name__: edit for edit in (drop, drop_all, rename, add)}) == []


def test_attributes_of_another_type(accepted):
    def replace(name) -> Edit:
        def edit(document, arrays):
            for key in keys_of(fitted_items(document).pop(name)):
                arrays.pop(key)
            fitted_items(document)[name] = "text"

        return edit

    names = ("device_", "history_", "n_iter_", "preparation_", "nets_", "classes_", "target_")
    assert accepted({name: replace(name) for name in names}) == []


# ---- any other change --------------------------------------------------------------------------


def leaves(node: Any, path: tuple = ()):
    """Paths to everything in a document that is neither a list nor an object."""
    if isinstance(node, dict | list):
        pairs = node.items() if isinstance(node, dict) else enumerate(node)
        for key, item in pairs:
            yield from leaves(item, (*path, key))
    else:
        yield path


plain_values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([0, 1, -1, 2**31, 2**40, 2**62]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["", "a0", "a1", "nan", "array", "TimeAwareRegressor", "EventNet", "cuda"]),
    st.sampled_from([{"$": "float", "value": "nan"}, {"$": "float", "value": "-inf"}, [], {}]),
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_files_with_other_leaves_are_refused_or_legal(plain, path, data):
    document, arrays = state_of(plain.estimator)
    document = copy.deepcopy(document)
    parts = {
        "net": ("estimator", "state", "fitted", "items", "nets_", 0),
        "preparation": ("estimator", "state", "fitted", "items", "preparation_"),
        "all": ("estimator",),
    }
    for _ in range(data.draw(st.integers(1, 2))):
        prefix = parts[data.draw(st.sampled_from(sorted(parts)))]
        node: Any = document
        for step in prefix:
            node = node[step]
        way = data.draw(st.sampled_from(list(leaves(node))))
        for step in way[:-1]:
            node = node[step]
        node[way[-1]] = copy.deepcopy(data.draw(plain_values))  # drawn objects are shared
    path.write_bytes(save_file(document, arrays))
    try:
        loaded = tawt_sklearn.load(path, device="cpu")
    except SaveFileError as error:
        assert "estimator.tawt" in str(error)
    else:
        assert type(loaded) in (TimeAwareClassifier, TimeAwareRegressor)


@pytest.mark.parametrize(
    "name, value",
    [("temperature_", 0.0), ("temperature_", -1.0), ("n_iter_", 2 * 10**9), ("n_iter_", -5)],
)
def test_fitted_numbers_that_no_fit_leaves(X, y, path, name, value):
    clf = classifier().fit(X, y)
    vars(clf)[name] = value
    clf.save(path)
    with pytest.raises(SaveFileError, match=name):
        tawt_sklearn.load(path)


def test_classes_that_are_not_those_of_the_labels(X, y, path):
    clf = classifier().fit(X, y)
    clf.classes_ = np.array([1, 0])
    clf.save(path)
    with pytest.raises(SaveFileError, match="classes_"):
        tawt_sklearn.load(path)


def test_no_file_says_where_a_later_fit_writes(X, y, path, tmp_path):
    clf = classifier(checkpoint_dir=tmp_path / "runs").fit(X, y)
    clf.save(path)
    assert tawt_sklearn.load(path).checkpoint_dir is None
    document, arrays = state_of(clf)
    document["estimator"]["state"]["params"]["items"]["checkpoint_dir"] = str(tmp_path / "evil")
    path.write_bytes(save_file(document, arrays))
    assert tawt_sklearn.load(path).checkpoint_dir is None
