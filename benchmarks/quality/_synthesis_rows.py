"""What is measured in synthesis.py: subjects of our synthesizer, of references and of peers."""

from __future__ import annotations

import json
import math
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _synthesis_cohorts import Real, panel_of
from _synthesis_effects import CONDITIONAL, GIVEN
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tawt_sklearn import as_events, nest_events
from tawt_sklearn.evaluation.report_columns import COPY, HOLD_OUT, MARGINALS, Column
from tawt_sklearn.synthesis import SequenceSynthesizer

REFERENCES = {"holdout": HOLD_OUT, "copy": COPY, "marginals": MARGINALS}
PEERS = {"par": "sdv_par.py", "argn": "tabular_argn.py"}
ROWS = ("ours", *REFERENCES, *PEERS)
PEER_SECONDS = 180  # at least
SECONDS = ("fit s, wall", "fit s, CPU", "sample s")
LATENT = ("active units of z", "label AUC from z")
LABEL = "label"


@dataclass
class Drawn:
    """Subjects of one row and seed, and what is known of how they came about.

    Attributes
    ----------
    X : DataFrame
        In the form of the training subjects.
    y : ndarray
    figures : dict of str to float
        Seconds; of ours also what the latent is worth.
    info : dict
        Whatever else is worth keeping.
    further : dict of str to DataFrame
        Subjects that were asked for with a label or static columns.
    """

    X: pd.DataFrame
    y: np.ndarray
    figures: dict[str, float] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)
    further: dict[str, pd.DataFrame] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Keep everything; ``info.json`` comes last and says that all is there."""
        folder.mkdir(parents=True, exist_ok=True)
        self.X.assign(**{LABEL: self.y}).to_parquet(folder / "subjects.parquet", index=False)
        for name, frame in self.further.items():
            frame.to_parquet(folder / f"further-{name}.parquet", index=False)
        told = {"figures": self.figures, "info": self.info}
        (folder / "info.json").write_text(json.dumps(told, indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Drawn | None:
        """What an earlier run has kept, if it has."""
        if not (folder / "info.json").exists():
            return None
        told = json.loads((folder / "info.json").read_text())
        X = pd.read_parquet(folder / "subjects.parquet")
        y = X.pop(LABEL).to_numpy()
        further = {
            path.stem.removeprefix("further-"): pd.read_parquet(path)
            for path in sorted(folder.glob("further-*.parquet"))
        }
        return cls(X, y, told["figures"], told["info"], further)


def reference(column: Column) -> Drawn:
    assert column.y is not None
    return Drawn(column.frame.reset_index(drop=True), column.y)


# ---- ours --------------------------------------------------------------------------------------


def ours(real: Real, seed: int, settings: dict[str, Any], folder: Path | None) -> Drawn:
    """Fit, and draw as many subjects as there are in training."""
    synthesizer, seconds = fitted(real, seed, settings, folder)
    before = time.perf_counter()
    made, y = synthesizer.sample(len(real.train), random_state=seed)
    drawn = Drawn(as_events(made), np.asarray(y))
    seconds = [*seconds, time.perf_counter() - before]
    history = synthesizer.history_
    drawn.figures = {
        **dict(zip(SECONDS, seconds, strict=True)),
        LATENT[0]: float(history["active_units"].iloc[-1]),
        LATENT[1]: latent_auc(synthesizer, real),
    }
    drawn.info = {
        "epochs": len(history),
        "last epoch": history.iloc[-1].astype(float).to_dict(),
        "sharpness": synthesizer.sharpness_,
        "trees of the ratio": synthesizer.ratio_.n_trees,
    }
    if real.name == "physionet2012":
        drawn.further[CONDITIONAL] = synthesizer.sample(1000, y=1, random_state=seed)[0]
        static = real.test.drop(columns="events")[:1000]
        drawn.further[GIVEN] = synthesizer.sample(static=static, random_state=seed)[0]
    return drawn


def fitted(
    real: Real, seed: int, settings: dict[str, Any], folder: Path | None
) -> tuple[SequenceSynthesizer, list[float]]:
    """The synthesizer, and seconds of the wall and of all threads; that of the folder if there."""
    kept = None if folder is None else folder / "synthesizer.tawt"
    if kept is not None and (told := kept.with_name("seconds.json")).exists():
        return SequenceSynthesizer.load(kept), json.loads(told.read_text())
    synthesizer = SequenceSynthesizer(random_state=seed, **settings)
    X = real.to_fit(real.train)
    before = clocks()
    synthesizer.fit(X, real.y_train)
    seconds = [late - early for early, late in zip(before, clocks(), strict=True)]
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        synthesizer.save(kept)
        kept.with_name("seconds.json").write_text(json.dumps(seconds) + "\n")
    return synthesizer, seconds


def latent_auc(synthesizer: SequenceSynthesizer, real: Real) -> float:
    """AUC of the label in test by a linear model of the latent."""
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    model.fit(synthesizer.transform(real.to_fit(real.train)), real.y_train)
    z = synthesizer.transform(real.to_fit(real.test))
    return float(roc_auc_score(real.y_test, model.predict_proba(z)[:, 1]))


def clocks() -> tuple[float, float]:
    """Seconds of the wall and of all threads."""
    return time.perf_counter(), time.process_time()


# ---- peers -------------------------------------------------------------------------------------


def peer(name: str, real: Real, seed: int, python: Path, our_seconds: float) -> Drawn:
    """The script of a peer in its own environment, with the wall time that ours took or more."""
    seconds = max(PEER_SECONDS, math.ceil(our_seconds))
    script = Path(__file__).resolve().parent / "synthesis_peers" / PEERS[name]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_long(real, folder)
        command = [python, script, "--events", folder / "events.parquet"]
        command += ["--static", folder / "static.parquet", "--n", len(real.train)]
        command += ["--seed", seed, "--seconds", seconds, "--out", folder / "drawn"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([str(part) for part in command], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        info = json.loads((folder / "drawn" / "info.json").read_text())
        drawn = read_long(real, folder / "drawn")
    drawn.figures = dict(
        zip(SECONDS, (info["fit_seconds"], cpu, info["sample_seconds"]), strict=True)
    )
    drawn.info = {**drawn.info, "seconds allowed": seconds, "peer": info}
    return drawn


def write_long(real: Real, folder: Path) -> None:
    """Training subjects as the tables that the peers read."""
    train = real.train.rename_axis(index="subject")
    events = train["events"].events.to_long()
    events["code"] = events["code"].astype(str)
    events["value"] = events["value"].astype(float)
    events.to_parquet(folder / "events.parquet", index=False)
    static = train.drop(columns="events").assign(**{LABEL: real.y_train})
    static.reset_index().to_parquet(folder / "static.parquet", index=False)


def read_long(real: Real, folder: Path) -> Drawn:
    """The tables that a peer wrote, in the form of the training subjects.

    Histories end where all real ones do, if they do; what comes later is left out.  Of a panel,
    times are rounded to its steps, where ours has them by construction.
    """
    events = pd.read_parquet(folder / "events.parquet")
    people = pd.read_parquet(folder / "static.parquet").set_index("subject")
    y = people.pop(LABEL).to_numpy().astype(real.y_train.dtype)
    known = events["time"].notna() & events["code"].notna()
    if real.horizon is not None:
        known &= events["time"] <= real.horizon
    columns = {}
    for name in real.train.columns.drop("events"):
        numeric = pd.api.types.is_numeric_dtype(real.train[name])
        columns[name] = pd.to_numeric(people[name]) if numeric else people[name].astype("str")
    X = nest_events(
        events[known],
        subject="subject",
        time="time",
        code="code",
        value="value",
        text="text" if "text" in events else False,
        static=pd.DataFrame(columns, index=people.index),
        until=real.horizon,
        time_unit=real.train["events"].dtype.time_unit,
    )
    info = {"events left out": int((~known).sum())}
    X = X[list(real.train.columns)].reset_index(drop=True)
    return Drawn(as_events(panel_of(X, real.panel)) if real.panel else X, y, info=info)


# ---- one row -----------------------------------------------------------------------------------


def draw(
    row: str,
    real: Real,
    seed: int,
    *,
    columns: dict[str, Column],
    settings: dict[str, Any],
    pythons: dict[str, Path],
    our_seconds: Callable[[], float],
    fitted: Path | None,
) -> Drawn:
    """Subjects of a row."""
    if row == "ours":
        return ours(real, seed, settings, fitted)
    if row in REFERENCES:
        return reference(columns[REFERENCES[row]])
    return peer(row, real, seed, pythons[row], our_seconds())
