"""Write the kept files of this format version; run by hand, once for each new kind of estimator.

``python tests/persistence/make_kept_files.py`` writes what is not there yet and leaves the rest as
it is: a file that was kept is never made again within a format version.  Inputs and answers are
arrays of NumPy without pickle, so that they can be read whatever else changes.
"""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import tawt_sklearn
from tawt_sklearn import (
    EventSummarizer,
    ImageEncoder,
    MissingMaskEncoder,
    SequenceSynthesizer,
    TimeAwareClassifier,
    TimeAwareEncoder,
    TimeAwareRegressor,
    TimeEmbedder,
    TripletSequencer,
    nest_events,
)
from tawt_sklearn.datasets import make_icu_stays
from tawt_sklearn.persistence.archive import FORMAT_VERSION

FOLDER = Path(__file__).parent / "files" / f"v{FORMAT_VERSION}"

CODES = ["HR", "Lactate", "Rhythm", "Suction"]
"""Numbers, values that are often missing, texts, and events without a value."""

FLAT = ["subject_id", "time", "code", "value", "text"]
"""Inputs with one entry for each event."""

N_KEPT = 12
"""Stays whose events are kept as the input."""

Arrays = dict[str, np.ndarray]


# ---- inputs ------------------------------------------------------------------------------------


def make_inputs() -> tuple[Arrays, np.ndarray]:
    """Events and static columns of all stays, a panel, and labels."""
    X, y = make_icu_stays(60, random_state=0)
    X = X.set_axis(range(len(X)))
    long = X["events"].events.to_long("subject_id")
    long = long[long["code"].isin(CODES) & (long["time"] < 24)]
    panel = np.full((len(X), 2, 12), np.nan)
    for channel, code in enumerate(["HR", "Lactate"]):
        of_code = long[long["code"] == code]
        step = (of_code["time"].to_numpy() // 2).astype(int)
        panel[of_code["subject_id"].to_numpy(), channel, step] = of_code["value"].to_numpy()
    inputs = {
        "subject_id": long["subject_id"].to_numpy(np.int64),
        "time": long["time"].to_numpy(np.float64),
        "code": long["code"].to_numpy().astype("U16"),
        "value": long["value"].to_numpy(np.float64),
        "text": long["text"].fillna("").to_numpy().astype("U24"),
        "age": X["age"].to_numpy(np.float64),
        "unit": X["unit"].to_numpy().astype("U12"),
        "panel": panel,
    }
    return inputs, y.to_numpy()


def first_rows(inputs: Arrays, n: int) -> Arrays:
    """The inputs of the first stays."""
    events = inputs["subject_id"] < n
    return {name: array[events] if name in FLAT else array[:n] for name, array in inputs.items()}


def frame_of(inputs: Arrays) -> pd.DataFrame:
    """One row for each stay: a number, a categorical column, events."""
    events = pd.DataFrame({name: inputs[name] for name in FLAT})
    events["text"] = events["text"].where(inputs["text"] != "")
    age = np.where(np.arange(len(inputs["age"])) == 1, np.nan, inputs["age"])
    unit = pd.Categorical(inputs["unit"], categories=["cardiac", "medical", "surgical"])
    static = pd.DataFrame({"age": age, "unit": unit})
    static.index.name = "subject_id"
    return nest_events(events, static=static)


# ---- what is kept ------------------------------------------------------------------------------


def answers_of_tokens(sequencer: Any, inputs: Arrays) -> Arrays:
    tokens = sequencer.transform(frame_of(inputs))["events"].array
    vocabulary = sequencer.vocabulary_
    return {
        "code": np.asarray(tokens.code),
        "text": np.asarray(tokens.text),
        "codes": np.array(vocabulary.codes, "U"),
        "kinds": np.array(vocabulary.kinds, "U"),
        "value": np.asarray(tokens.value),
        "time": np.asarray(tokens.time),
        "offsets": np.asarray(tokens.offsets),
    }


def answers_of_features(summarizer: Any, inputs: Arrays) -> Arrays:
    table = summarizer.transform(frame_of(inputs))
    return {
        "names": np.array(summarizer.get_feature_names_out(), "U"),
        "table": np.asarray(table, np.float64),
    }


def answers_of_classes(classifier: Any, inputs: Arrays) -> Arrays:
    X = frame_of(inputs)
    return {
        "classes": np.array(classifier.classes_, "U"),
        "predict": np.array(classifier.predict(X), "U"),
        "predict_proba": classifier.predict_proba(X),
        "loss": classifier.history_["train_loss"].to_numpy(),
    }


def answers_of_numbers(regressor: Any, inputs: Arrays) -> Arrays:
    return {
        "predict": regressor.predict(inputs["panel"]),
        "loss": regressor.history_["train_loss"].to_numpy(),
    }


def answers_of_histories(encoder: Any, inputs: Arrays) -> Arrays:
    X = frame_of(inputs)
    rebuilt = encoder.reconstruct(X)["events"]
    return {
        "embedding": encoder.transform(X),
        "score": np.array([encoder.score(X)], np.float32),
        "rebuilt": rebuilt.events.flat("value"),
        "loss": encoder.history_["train_loss"].to_numpy(),
    }


def with_films(X: pd.DataFrame, inputs: Arrays) -> pd.DataFrame:
    """The panel of a stay as its image; none, one, or two with a time."""
    films = np.nan_to_num(inputs["panel"] / 100).repeat(3, axis=1)
    cells = [
        [None, film, [(2.0, film), (9.0, film[::-1].copy())]][k % 3] for k, film in enumerate(films)
    ]
    return X.assign(film=pd.Series(cells, index=X.index, dtype=object))


def answers_of_images(encoder: Any, inputs: Arrays) -> Arrays:
    films = [cell for cell in with_films(frame_of(inputs), inputs)["film"] if cell is not None]
    read = [encoder.read(film) for film in films if not isinstance(film, list)]
    return {"pixels": encoder.collate(read).numpy(), "mean": encoder.mean_, "scale": encoder.scale_}


def answers_beside_images(classifier: Any, inputs: Arrays) -> Arrays:
    X = with_films(frame_of(inputs), inputs)
    return {
        "predict_proba": classifier.predict_proba(X),
        "weights": classifier.modality_weights(X).to_numpy(),
        "mean_weights": classifier.modality_weights_.to_numpy(),
        "loss": classifier.history_["train_loss"].to_numpy(),
    }


def answers_of_synthesis(synthesizer: Any, inputs: Arrays) -> Arrays:
    """Not the numbers that it draws, which another processor may round over an edge."""
    X = frame_of(inputs)
    names = np.array(["died", "survived"])[np.arange(len(X)) % 2]
    written, labels = synthesizer.sample(5, random_state=0)
    rebuilt = synthesizer.reconstruct(X)
    return {
        "latent": synthesizer.transform(X),
        "log_prob": synthesizer.log_prob(X, names),
        "columns": np.array(list(written), "U"),
        "dtypes": np.array([str(dtype) for dtype in written.dtypes], "U"),
        "known": np.array([*written["events"].events.codes, *sorted(set(labels))], "U"),
        "n": np.array([len(written), len(rebuilt)]),
        "loss": synthesizer.history_["train_loss"].to_numpy(),
    }


def answers_of_masks(encoder: Any, inputs: Arrays) -> Arrays:
    table = encoder.transform(frame_of(inputs)[["age", "unit"]])
    return {
        "names": np.array(encoder.get_feature_names_out(), "U"),
        "table": np.asarray(table, np.float64),
    }


def answers_of_times(embedder: Any, inputs: Arrays) -> Arrays:
    return {"panel": embedder.transform(inputs["panel"])}


ANSWERS: dict[str, Callable[[Any, Arrays], Arrays]] = {
    "triplet_sequencer": answers_of_tokens,
    "event_summarizer": answers_of_features,
    "image_encoder": answers_of_images,
    "time_aware_classifier": answers_of_classes,
    "time_aware_classifier_beside_images": answers_beside_images,
    "sequence_synthesizer": answers_of_synthesis,
    "time_aware_encoder": answers_of_histories,
    "time_aware_regressor": answers_of_numbers,
    "missing_mask_encoder": answers_of_masks,
    "time_embedder": answers_of_times,
}
"""Name of a kept file -> what its estimator says of the inputs."""


def make_estimators(inputs: Arrays, y: np.ndarray) -> dict[str, Callable[[], Any]]:
    """Name of a kept file -> its estimator, fitted."""
    small = {
        "d_model": 4,
        "n_layers": 1,
        "n_heads": 2,
        "n_windows": 4,
        "max_epochs": 3,
        "min_steps": 10,
        "learning_rate": 0.01,
        "random_state": 0,
        "device": "cpu",
    }
    X = frame_of(inputs)
    names = np.array(["survived", "died"])[y]
    two = np.stack([np.isfinite(inputs["panel"]).sum(axis=(1, 2)), np.nan_to_num(inputs["age"])], 1)
    sequencer = TripletSequencer(
        codes={"HR": {"range": [20, 250], "label": "heart rate"}}, value_scaling="quantile"
    )
    return {
        "triplet_sequencer": lambda: sequencer.fit(X),
        "event_summarizer": lambda: EventSummarizer(windows=[None, 6], sparse=False).fit(X),
        "time_aware_classifier": lambda: _without_seconds(
            TimeAwareClassifier(**small, n_ensemble=1, early_stopping=True).fit(X, names)
        ),
        "image_encoder": lambda: ImageEncoder(image_size=6).fit(
            list(np.nan_to_num(inputs["panel"] / 100))
        ),
        "time_aware_classifier_beside_images": lambda: _without_seconds(
            TimeAwareClassifier(
                **small,
                n_ensemble=1,
                patching="time",
                fusion="gated",
                modalities={"film": ImageEncoder(image_size=6)},
            ).fit(with_films(X, inputs), names)
        ),
        "sequence_synthesizer": lambda: _without_seconds(
            SequenceSynthesizer(
                **{name: value for name, value in small.items() if name != "min_steps"},
                d_latent=3,
                gap="lognormal_mixture",
            ).fit(X, names)
        ),
        "time_aware_encoder": lambda: _without_seconds(
            TimeAwareEncoder(**small, objective="masked", d_embedding=8).fit(X)
        ),
        "time_aware_regressor": lambda: _without_seconds(
            TimeAwareRegressor(**small, n_ensemble=2, patching="time").fit(inputs["panel"], two)
        ),
        "missing_mask_encoder": lambda: MissingMaskEncoder().fit(X[["age", "unit"]]),
        "time_embedder": lambda: TimeEmbedder(
            method="time2vec", n_frequencies=3, random_state=0
        ).fit(inputs["panel"]),
    }


def _without_seconds(estimator: Any) -> Any:
    """Nothing in a file may depend on when it was made."""
    estimator.history_["seconds"] = 0.0
    for net in getattr(estimator, "nets_", None) or [estimator.net_]:
        for epoch in net.history:
            epoch["dur"] = 0.0
    return estimator


# ---- files -------------------------------------------------------------------------------------


def write_arrays(path: Path, arrays: Arrays) -> None:
    """As ``numpy.savez_compressed``, without the time of day."""
    with zipfile.ZipFile(path, "x", zipfile.ZIP_DEFLATED) as file:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.save(buffer, array, allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            file.writestr(info, buffer.getvalue())


def read_arrays(path: Path) -> Arrays:
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def main(folder: Path = FOLDER) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    inputs, y = make_inputs()
    if not (folder / "inputs.npz").exists():
        write_arrays(folder / "inputs.npz", first_rows(inputs, N_KEPT))
    kept = read_arrays(folder / "inputs.npz")
    for name, make in make_estimators(inputs, y).items():
        path = folder / f"{name}.tawt"
        if not path.exists():
            make().save(path)
            write_arrays(
                path.with_suffix(".npz"), ANSWERS[name](tawt_sklearn.load(path, "cpu"), kept)
            )
        print(f"{path.name}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
