"""Exported networks: files that say what the estimator says, without this library."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import torch
from sklearn.exceptions import NotFittedError

from tawt_sklearn import (
    TimeAwareClassifier,
    TimeAwareEncoder,
    TimeAwareRegressor,
    TripletSequencer,
    nest_events,
)
from tawt_sklearn.datasets import make_icu_stays
from tawt_sklearn.exceptions import DataWarning, SaveFileError
from tawt_sklearn.persistence import export
from tawt_sklearn.persistence.export import METADATA

SMALL: dict[str, Any] = {
    "d_model": 8,
    "n_heads": 2,
    "n_layers": 1,
    "n_windows": 4,
    "max_epochs": 1,
    "min_steps": 2,
    "random_state": 0,
    "device": "cpu",
}

N, C, T = 30, 4, 11
STATE = 1
"""The categorical channel."""


def shaken(model: Any) -> Any:
    """The same with random weights everywhere, as training has made none of the zeros yet."""
    generator = torch.Generator().manual_seed(0)
    for net in getattr(model, "nets_", None) or [model.net_]:
        for weight in net.module_.parameters():
            noise = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
            weight.data += 0.1 * noise.to(weight.dtype)
    return model


def classifier(X: Any, y: Any, **parameters: Any) -> TimeAwareClassifier:
    return shaken(TimeAwareClassifier(**(SMALL | {"n_ensemble": 1} | parameters)).fit(X, y))


def regressor(X: Any, y: Any, **parameters: Any) -> TimeAwareRegressor:
    return shaken(TimeAwareRegressor(**(SMALL | {"n_ensemble": 1} | parameters)).fit(X, y))


def encoder(X: Any, y: Any, **parameters: Any) -> TimeAwareEncoder:
    return shaken(TimeAwareEncoder(**(SMALL | {"d_embedding": 8} | parameters)).fit(X))


def answers(model: Any, X: Any) -> np.ndarray:
    for name in ("predict_proba", "predict"):
        if hasattr(model, name):
            return getattr(model, name)(X)
    return model.transform(X)


def served(path: Path) -> Callable[[dict[str, np.ndarray]], np.ndarray]:
    """What a file says of inputs, by nothing but the runtime of its format."""
    if path.suffix == ".onnx":
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, options)
        return lambda inputs: session.run(None, inputs)[0]
    module = torch.export.load(path).module()
    return lambda inputs: module(**{k: torch.from_numpy(x) for k, x in inputs.items()}).numpy()


def agrees(told: np.ndarray, truth: np.ndarray) -> bool:
    size = max(1.0, float(np.abs(truth).max()))
    return told.shape == truth.shape and float(np.abs(told - truth).max()) < 1e-5 * size


def emptied(X: pd.DataFrame, rows: list[int]) -> pd.DataFrame:
    """The same without the events of some rows."""
    events = X["events"].array
    lengths = np.diff(events.offsets)
    kept = ~np.isin(np.repeat(np.arange(len(X)), lengths), rows)
    lengths[rows] = 0
    flat = {name: getattr(events, name)[kept] for name in ("time", "code", "value", "text")}
    fewer = events._replace(**flat, offsets=np.concatenate([[0], np.cumsum(lengths)]))
    return X.assign(events=fewer)


@pytest.fixture(scope="module")
def cohort() -> tuple[pd.DataFrame, pd.Series]:
    return make_icu_stays(N, random_state=0)


@pytest.fixture(scope="module")
def histories(cohort) -> list[pd.DataFrame]:
    """Many rows, a single one, some without events, and none with any."""
    X = cohort[0]
    return [X.iloc[:20], X.iloc[[7]], emptied(X.iloc[:9], [0, 4, 8]), emptied(X.iloc[:2], [0, 1])]


@pytest.fixture(scope="module")
def panel() -> np.ndarray:
    rng = np.random.default_rng(0)
    panel = rng.normal(size=(N, C, T))
    panel[:, STATE] = rng.choice([2.0, 3.0, 10.0], size=(N, T), p=[0.2, 0.3, 0.5])
    panel[rng.random(panel.shape) < 0.1] = np.nan
    return panel


@pytest.fixture(scope="module")
def panels(panel) -> list[Any]:
    """Many cases, a single one, a single step, longer ones, and cases of several lengths."""
    ragged = [case[:, -n:] for case, n in zip(panel, [1, 2, 5, T], strict=False)]
    longer = np.concatenate([panel[:3]] * 4, axis=2)
    return [panel, panel[:1], panel[:5, :, :1], panel[:5, :, :2], longer, ragged]


@pytest.fixture(scope="module")
def exported(cohort, tmp_path_factory) -> tuple[TimeAwareClassifier, Path]:
    """A classifier and its ONNX file, which every test may look at."""
    clf = classifier(*cohort)
    clf.temperature_ = 1.7
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    told, module = clf.predict_proba(cohort[0]), clf.nets_[0].module_
    state = joblib.hash(module.state_dict())
    assert clf.export(path) is None
    assert joblib.hash(module.state_dict()) == state and clf.nets_[0].module_ is module
    np.testing.assert_array_equal(clf.predict_proba(cohort[0]), told)
    return clf, path


# ---- agreement ---------------------------------------------------------------------------------


def test_an_onnx_file_says_what_the_classifier_says(exported, histories):
    clf, path = exported
    ask = served(path)
    for X in histories:
        told = ask(clf.export_inputs(X))
        assert told.dtype == np.float32
        assert agrees(told, clf.predict_proba(X))
    assert np.ptp(clf.predict_proba(histories[0])[:, 0]) > 1e-3, "rows differ"


def test_torch_alone_says_what_the_regressor_says(panel, panels, tmp_path):
    """In a process that cannot import this library, nor what it is made of."""
    numbers = 1000 + 30 * np.nanmean(panel[:, 0], axis=1)
    model = regressor(panel, numbers, categorical_features=[STATE])
    model.export(tmp_path / "model.pt2")
    for k, X in enumerate(panels):
        np.savez(tmp_path / f"{k}.npz", **model.export_inputs(X))
    code = f"""
import json, sys
for name in ("tawt_sklearn", "sklearn", "pandas", "skorch", "onnx"):
    sys.modules[name] = None
import numpy, torch
extra = {{{METADATA!r}: ""}}
module = torch.export.load("{tmp_path}/model.pt2", extra_files=extra).module()
told = []
for k in range({len(panels)}):
    inputs = numpy.load(f"{tmp_path}/{{k}}.npz")
    answer = module(**{{name: torch.from_numpy(x) for name, x in inputs.items()}})
    assert answer.dtype == torch.float64
    told.append(answer.tolist())
print(json.dumps([json.loads(extra[{METADATA!r}]), told]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    metadata, told = json.loads(done.stdout)
    assert metadata == json.loads(json.dumps(model._graph().metadata))
    for X, answer in zip(panels, told, strict=True):
        assert agrees(np.array(answer), model.predict(X))


OF_EVENTS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    **{
        f"patching={how}, {most} places": (
            classifier,
            {"patching": how, "max_feature_patches": most},
        )
        for how in ("dual", "time", "feature", "event")
        for most in ((128,) if how == "time" else (128, 5))
    },
    "two members": (classifier, {"n_ensemble": 2}),
    "attention_window": (classifier, {"patching": "event", "attention_window": 4}),
    "numbers": (regressor, {}),
    **{
        f"pooling={how}, {most} places": (encoder, {"pooling": how, "max_feature_patches": most})
        for how, most in (("codewise", 128), ("codes", 5), ("attention", 5), ("max", 128))
    },
}

OF_PANELS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    **{f"patching={how}": (classifier, {"patching": how}) for how in ("dual", "time", "feature")},
    "categories": (classifier, {"categorical_features": [STATE]}),
    "granularities": (regressor, {"patch_length": [2, 20]}),
    "embeddings": (encoder, {}),
}


@pytest.fixture
def as_exported(monkeypatch) -> Callable[[Any, Any], np.ndarray]:
    """Answers by the operations that are traced, without the tracing, which takes long."""

    def ask_module(model: Any, X: Any) -> np.ndarray:
        inputs = {name: torch.from_numpy(x) for name, x in model.export_inputs(X).items()}
        module = model._graph().module.eval()
        with monkeypatch.context() as patch, torch.no_grad():
            patch.setattr(torch.compiler, "is_exporting", lambda: True)
            return module(**inputs).numpy()

    return ask_module


@pytest.mark.parametrize("kind", OF_EVENTS)
def test_the_operations_of_a_file_say_the_same_of_histories(cohort, histories, as_exported, kind):
    make, parameters = OF_EVENTS[kind]
    model = make(*cohort, **parameters)
    for X in histories:
        assert agrees(as_exported(model, X), answers(model, X))


@pytest.mark.parametrize("kind", OF_PANELS)
def test_the_operations_of_a_file_say_the_same_of_panels(panel, panels, as_exported, kind):
    make, parameters = OF_PANELS[kind]
    model = make(panel, np.arange(N) % 2, **parameters)
    for X in panels:
        assert agrees(as_exported(model, X), answers(model, X))


@pytest.mark.parametrize("make", [classifier, regressor])
def test_the_operations_of_a_file_say_the_same_of_steps(panel, panels, as_exported, make):
    labels = (np.nan_to_num(panel[:, 0]) > 0).astype(int)
    model = make(panel, labels)
    for X in panels[:-1]:
        assert agrees(as_exported(model, X), answers(model, X))


def test_several_labels_and_several_numbers(cohort, histories, as_exported):
    X, y = cohort
    several = classifier(X, np.c_[y, 1 - y, np.arange(N) % 2])
    several.temperature_ = 0.6
    numbers = regressor(X, np.c_[X["events"].events.lengths, y])
    for model in (several, numbers):
        for rows in histories:
            assert agrees(as_exported(model, rows), answers(model, rows))


def test_a_vocabulary_that_has_grown(cohort, as_exported):
    X, y = cohort
    pretrained = encoder(X, y).add_codes({"Lactate2": {"center": 1.0, "scale": 0.5}})
    table = pd.DataFrame(
        {"subject_id": [1, 1, 2], "time": [0.5, 2.0, 1.0], "code": ["HR", "Lactate2", "HR"],
         "value": [80.0, 1.5, 70.0]}
    )  # fmt: skip
    known = X.drop(columns="events").iloc[:2].reset_index(drop=True)
    rows = known.assign(events=nest_events(table)["events"].array)
    for frame in (rows, rows.iloc[1:], X.iloc[:3]):
        assert agrees(as_exported(pretrained, frame), pretrained.transform(frame))


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["onnx", "pt2"])
@pytest.mark.parametrize("kind", OF_EVENTS)
def test_files_of_every_kind_of_histories(cohort, histories, tmp_path, kind, suffix):
    make, parameters = OF_EVENTS[kind]
    model = make(*cohort, **parameters)
    model.export(tmp_path / f"model.{suffix}")
    ask = served(tmp_path / f"model.{suffix}")
    for X in histories:
        assert agrees(ask(model.export_inputs(X)), answers(model, X))


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["onnx", "pt2"])
@pytest.mark.parametrize("kind", [*OF_PANELS, "steps"])
def test_files_of_every_kind_of_panels(panel, panels, tmp_path, kind, suffix):
    if kind == "steps":
        model, panels = classifier(panel, (np.nan_to_num(panel[:, 0]) > 0).astype(int)), panels[:-1]
    else:
        make, parameters = OF_PANELS[kind]
        model = make(panel, np.arange(N) % 2, **parameters)
    model.export(tmp_path / f"model.{suffix}")
    ask = served(tmp_path / f"model.{suffix}")
    for X in panels:
        assert agrees(ask(model.export_inputs(X)), answers(model, X))


# ---- what the file says of itself ---------------------------------------------------------------


def test_sizes_have_names(exported):
    _, path = exported
    graph = onnx.load(path).graph
    shapes = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    }
    flat = ("row", "code", "value", "observed", "category", "time", "age")
    events = {name: ["events"] for name in flat}
    rows = {"static_numeric": ["rows", 1], "static_category": ["rows", 2]}
    assert shapes == {**events, **rows, "probability": ["rows", 2]}


def test_the_metadata_name_what_goes_in_and_what_comes_out(exported, cohort):
    clf, path = exported
    props = {prop.key: prop.value for prop in onnx.load(path).metadata_props}
    metadata = json.loads(props[METADATA])
    assert metadata["estimator"] == "TimeAwareClassifier"
    assert metadata["classes"] == clf.classes_.tolist()
    assert metadata["output"]["shape"] == ["rows", 2]
    assert [one["name"] for one in metadata["inputs"]] == list(clf.export_inputs(cohort[0]))


@pytest.fixture(scope="module")
def mixed_histories() -> pd.DataFrame:
    """Numbers, texts, codes that fit does not know, gaps everywhere, and a row without events."""
    rng = np.random.default_rng(0)
    E = 300
    codes = np.array(["HR", "Temp", "Crea", "Note", None, "New"], object)
    code = codes[rng.choice(len(codes), size=E, p=[0.3, 0.2, 0.2, 0.2, 0.05, 0.05])]
    value = np.where(rng.random(E) < 0.2, np.nan, rng.gamma(2.0, 20.0, E))
    text = np.where(code == "Note", rng.choice(["low", "high", "odd"], size=E), None)
    table = pd.DataFrame(
        {
            "subject_id": rng.choice(40, size=E),
            "time": rng.uniform(0, 50, E).round(1),
            "code": code,
            "value": np.where(code == "Note", np.nan, value),
            "text": text,
        }
    )
    static = pd.DataFrame(
        {
            "subject_id": np.arange(41),  # the last one has no events
            "age": np.where(np.arange(41) % 5 == 0, np.nan, rng.normal(60, 10, 41)),
            "sex": np.array(["F", "M", None], object)[rng.choice(3, size=41)],
        }
    )
    return nest_events(table.sort_values("time", kind="stable"), static=static)


def made_by_hand(
    about: dict[str, Any], X: pd.DataFrame, history: list[pd.DataFrame]
) -> dict[str, Any]:
    """Inputs as the metadata of a file tells, in plain loops over raw events."""
    words, clock, static = about["vocabulary"], about["clock"], about["static"]
    code_of = {code: k for k, code in enumerate(words["codes"])}
    category_of = {(token, name): k for k, (token, name) in enumerate(words["categories"])}
    made: dict[str, list[Any]] = {
        name: [] for name in ("row", "code", "value", "observed", "category", "time", "age")
    }
    for row, events in enumerate(history):
        events = events.iloc[-about["max_events"] :] if about["max_events"] else events
        end = events["time"].max()
        assert clock["origin"] == "zero"
        for event in events.itertuples():
            k = 1 if pd.isna(event.code) else code_of.get(event.code, 0)
            x = event.value * words["factor"][k]
            if not float(words["low"][k]) <= np.float32(x) <= float(words["high"][k]):
                x = np.nan
            if words["kinds"][k] != "numeric":
                x = np.nan
            if words["log"][k]:
                x = np.log1p(x)
            if words["value_scaling"] == "quantile":
                part = slice(*words["knot_offsets"][k : k + 2])
                knots = np.array(words["knot_values"][part]), np.array(words["knot_scores"][part])
                z = np.interp(x, *knots) if len(knots[0]) and x == x else x
                if len(knots[0]) and not knots[0][0] <= x <= knots[0][-1]:
                    last = 0 if x < knots[0][0] else -1
                    z = knots[1][last] + (x - knots[0][last]) / words["scale"][k]
            else:
                z = (x - words["center"][k]) / words["scale"][k]
            z = np.clip(z, -words["clip"], words["clip"])
            category = 0
            if not pd.isna(event.text) and (k, "[UNK]") in category_of:
                category = 1 + category_of.get((k, event.text), category_of[k, "[UNK]"])
            made["row"].append(row)
            made["code"].append(k)
            made["value"].append(np.nan_to_num(z))
            made["observed"].append(not np.isnan(z))
            made["category"].append(category)
            made["time"].append(event.time - clock["offset"])
            made["age"].append(end - event.time)
    numbers = [
        np.clip((X[c["name"]] - c["center"]) / c["scale"], -static["clip"], static["clip"])
        for c in static["numeric"]
    ]
    ids = [
        [
            0 if pd.isna(x) else c["levels"].index(x) + 2 if x in c["levels"] else 1
            for x in X[c["name"]]
        ]
        for c in static["categorical"]
    ]
    return {**made, "static_numeric": np.stack(numbers, 1), "static_category": np.stack(ids, 1)}


@pytest.mark.parametrize("scaling", ["robust", "quantile"])
def test_inputs_can_be_made_by_what_the_file_says(mixed_histories, scaling):
    X = mixed_histories
    sequencer = TripletSequencer(
        value_scaling=scaling,
        min_count=5,
        max_events=9,
        codes={
            "HR": {"range": [20, 90]},
            "Crea": {"log": True, "factor": 0.5},
            "Temp": {"kind": "presence"},
        },
    )
    seen = X.iloc[:30]
    with pytest.warns(DataWarning):
        clf = classifier(seen, np.arange(30) % 2, sequencer=sequencer)
    with pytest.warns(DataWarning):
        inputs = clf.export_inputs(X)
    about = json.loads(json.dumps(clf._graph().metadata))["preparation"]
    table = long_table(X)
    made = made_by_hand(about, X, [table[table["row"] == row] for row in range(len(X))])
    assert list(made) == list(inputs)
    for name, expected in made.items():
        np.testing.assert_allclose(inputs[name], expected, rtol=1e-5, atol=1e-5, err_msg=name)


def long_table(X: pd.DataFrame) -> pd.DataFrame:
    """One row for each event, codes and texts as labels."""
    events = X["events"].events
    codes = np.append(events.array.codes.to_numpy(object), None)
    texts = np.append(events.array.texts.to_numpy(object), None)
    return pd.DataFrame(
        {
            "row": events.flat("row"),
            "time": events.flat("time"),
            "code": codes[events.flat("code")],
            "value": events.flat("value").astype(float),
            "text": texts[events.array.text],
        }
    )


def test_inputs_of_panels_can_be_made_by_what_the_file_says(panel):
    clf = classifier(panel, np.arange(N) % 2, categorical_features=[STATE])
    inputs = clf.export_inputs(panel)
    about = json.loads(json.dumps(clf._graph().metadata))["preparation"]["channels"]
    K = len(about["categorical"])
    for place, c in enumerate(about["order"]):
        if c in about["categorical"]:
            labels = about["labels"][about["categorical"].index(c)]
            codes = {float(label): about["first_code"] + k for k, label in enumerate(labels)}
            expected = [[0 if x != x else codes[x] for x in case] for case in panel[:, c]]
            np.testing.assert_array_equal(inputs["category"][:, place - (C - K)], expected)
            assert not inputs["observed"][:, place].any() and not inputs["value"][:, place].any()
            continue
        z = (panel[:, c] - about["center"][c]) / about["scale"][c]
        z = about["linear"] * np.arcsinh(z / about["linear"])
        np.testing.assert_allclose(inputs["value"][:, place], np.nan_to_num(z), rtol=1e-5)
        np.testing.assert_array_equal(inputs["observed"][:, place], ~np.isnan(z))
    np.testing.assert_array_equal(inputs["time"], np.broadcast_to(np.arange(T), (N, 1, T)))


# ---- what goes wrong ----------------------------------------------------------------------------


def test_only_what_is_fitted_is_exported(tmp_path):
    for model in (TimeAwareClassifier(), TimeAwareRegressor(), TimeAwareEncoder()):
        with pytest.raises(NotFittedError):
            model.export(tmp_path / "model.onnx")
        with pytest.raises(NotFittedError):
            model.export_inputs(np.zeros((2, 2, 2)))
    assert not any(tmp_path.iterdir())


def test_the_format_is_known_by_name_or_by_suffix(exported, tmp_path):
    clf, _ = exported
    with pytest.raises(ValueError, match=r'format to be "onnx", "torch_export" or None.*tflite'):
        clf.export(tmp_path / "model.onnx", format="tflite")
    with pytest.raises(ValueError, match=r"ends with .onnx or .pt2, or a format"):
        clf.export(tmp_path / "model.bin")
    assert export.format_of("model.PT2", None) == "torch_export"
    assert export.format_of("model.bin", "onnx") == "onnx"
    with pytest.raises(ValueError, match="path and format to say the same"):
        clf.export(tmp_path / "model.onnx", format="torch_export")
    with pytest.raises(TypeError, match="Expected a path. Got None"):
        clf.export(None, format="onnx")


def test_a_path_that_there_cannot_be(exported, tmp_path):
    clf, _ = exported
    with pytest.raises(FileNotFoundError, match="not there"):
        clf.export(tmp_path / "nowhere" / "model.onnx")
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(SaveFileError, match="which is a folder"):
        clf.export(tmp_path / "folder.onnx")


def test_an_export_that_fails_leaves_everything_as_it_was(exported, tmp_path, monkeypatch):
    def fails(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("no graph")

    clf, _ = exported
    path = tmp_path / "model.pt2"
    path.write_bytes(b"the last one")
    monkeypatch.setattr(torch.export, "export", fails)
    with pytest.raises(RuntimeError, match="no graph"):
        clf.export(path)
    assert [*tmp_path.iterdir()] == [path] and path.read_bytes() == b"the last one"


def test_onnx_without_its_packages(exported, tmp_path, monkeypatch):
    clf, _ = exported
    found = export.importlib.util.find_spec
    monkeypatch.setattr(
        export.importlib.util, "find_spec", lambda name: None if name == "onnx" else found(name)
    )
    with pytest.raises(ImportError, match=r'no onnx.*pip install "tawt_sklearn\[onnx\]"'):
        clf.export(tmp_path / "model.onnx")
    assert not any(tmp_path.iterdir())
