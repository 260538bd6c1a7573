"""From one hospital's codes to another's: PhysioNet 2012 (41 codes) to the MIMIC-III demo (1,200).

An encoder is pretrained on set a of PhysioNet 2012, is told the codes of MIMIC by ``add_codes``
and goes on over MIMIC's admissions with ``partial_fit``.  The table compares it, before and after
these passes, with an encoder that has seen MIMIC only: what the objective says of admissions of
patients that were held out, and how well logistic regression on the embeddings tells who dies in
hospital.

    python benchmarks/quality/mimic_transfer.py --plot embeddings.svg
    python benchmarks/quality/mimic_transfer.py --epochs 20 --passes 50    # more of both

Of every admission there are the first 48 hours, counted from admission to hospital, and what came
before.  What to know when reading the result:

- The parts of the objective depend on the vocabulary.  The value part, shown without its weight, is
  the error of hidden values on MIMIC's own scale and can be compared between all rows; the
  objective as a whole only between those that started from PhysioNet.
- Logistic regression is cross-validated by patient, with all admissions that lasted 48 hours
  or more: an earlier death would be told by the history's end.  The encoder has seen most of these
  admissions, without labels.  Standard errors are over repeated folds, corrected for their overlap
  (Nadeau & Bengio, "Inference for the Generalization Error", 2003), and as large as can be
  expected of 29 deaths.
- Everything comes from one seed and one choice of patients to hold out.

Needs ``pip install -e ".[benchmark]"`` and copies of both data sets in the folder that
``TAWT_DATA`` names: ``physionet2012`` (see ``fetch_physionet2012``), and ``mimic3_demo`` with
``events.parquet`` (``subject_id, hadm_id, time`` in hours from admission, ``code, value``) and
``outcomes.parquet`` (``hadm_id, subject_id, hospital_expire_flag, los_days``).  The latter is from
Johnson et al., "MIMIC-III, a freely accessible critical care database", 2016.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from _files import HOME, keep
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from tawt_sklearn import EventSummarizer, TimeAwareEncoder, TripletSequencer, nest_events
from tawt_sklearn.datasets import fetch_physionet2012
from tawt_sklearn.exceptions import DataWarning
from tawt_sklearn.objectives import MaskedReconstruction

HOURS = 48.0
MIN_COUNT = 20  # half of MIMIC's 1,200 codes occur less often in the training admissions
FOLDS, REPEATS = 5, 10

# What MIMIC calls the codes of PhysioNet 2012.  Its two charting systems have different names for
# most of them.  A new code has its own scale, so degrees Fahrenheit can be like degrees Celsius.
SAME_AS = {
    "HR": ["CHART//Heart Rate"],
    "RespRate": [
        "CHART//Respiratory Rate",
        "CHART//Resp Rate (Total)",
        "CHART//Respiratory Rate (Total)",
    ],
    "SaO2": ["CHART//SpO2", "CHART//O2 saturation pulseoxymetry"],
    "Temp": [
        "CHART//Temperature C",
        "CHART//Temperature C (calc)",
        "CHART//Temperature F",
        "CHART//Temperature F (calc)",
        "CHART//Temperature Fahrenheit",
    ],
    "SysABP": ["CHART//Arterial BP [Systolic]", "CHART//Arterial Blood Pressure systolic"],
    "DiasABP": ["CHART//Arterial BP [Diastolic]", "CHART//Arterial Blood Pressure diastolic"],
    "MAP": ["CHART//Arterial BP Mean", "CHART//Arterial Blood Pressure mean"],
    "NISysABP": ["CHART//NBP [Systolic]", "CHART//Non Invasive Blood Pressure systolic"],
    "NIDiasABP": ["CHART//NBP [Diastolic]", "CHART//Non Invasive Blood Pressure diastolic"],
    "NIMAP": ["CHART//NBP Mean", "CHART//Non Invasive Blood Pressure mean"],
    "GCS": ["CHART//GCS Total"],
    "Urine": ["OUT//Urine Out Foley", "OUT//Foley"],
    "Weight": ["CHART//Previous WeightF", "CHART//Previous Weight", "CHART//Daily Weight"],
    "FiO2": ["CHART//FiO2 Set", "CHART//Inspired O2 Fraction"],
    "pH": ["LAB//pH//Blood", "CHART//Arterial pH", "CHART//Art.pH"],
    "PaCO2": ["LAB//pCO2//Blood"],
    "PaO2": ["LAB//pO2//Blood"],
    "HCT": ["LAB//Hematocrit//Blood", "CHART//Hematocrit", "CHART//Hematocrit (serum)"],
    "K": ["LAB//Potassium//Blood", "CHART//Potassium", "CHART//Potassium (serum)"],
    "Na": ["LAB//Sodium//Blood", "CHART//Sodium", "CHART//Sodium (serum)"],
    "Mg": ["LAB//Magnesium//Blood", "CHART//Magnesium"],
    "HCO3": ["LAB//Bicarbonate//Blood"],
    "Creatinine": ["LAB//Creatinine//Blood", "CHART//Creatinine"],
    "BUN": ["LAB//Urea Nitrogen//Blood", "CHART//BUN"],
    "Glucose": ["LAB//Glucose//Blood", "CHART//Fingerstick Glucose", "CHART//Glucose finger stick"],
    "Platelets": ["LAB//Platelet Count//Blood", "CHART//Platelet Count", "CHART//Platelets"],
    "WBC": ["LAB//White Blood Cells//Blood", "CHART//WBC"],
    "Lactate": ["LAB//Lactate//Blood", "CHART//Lactic Acid"],
    "Bilirubin": ["LAB//Bilirubin, Total//Blood", "CHART//Total Bilirubin"],
    "ALT": ["LAB//Alanine Aminotransferase (ALT)//Blood", "CHART//ALT"],
    "AST": ["LAB//Asparate Aminotransferase (AST)//Blood", "CHART//AST"],
    "ALP": ["LAB//Alkaline Phosphatase//Blood", "CHART//Alkaline Phosphate"],
    "Albumin": ["LAB//Albumin//Blood", "CHART//Albumin"],
    "TroponinT": ["LAB//Troponin T//Blood"],
}


# ---- data --------------------------------------------------------------------------------------


@dataclass
class Admissions:
    """MIMIC's admissions: histories, who died, and who is who."""

    X: pd.DataFrame
    died: np.ndarray
    patient: np.ndarray
    judged: np.ndarray  # admissions that lasted as long as the histories
    system: np.ndarray  # of charting
    train: np.ndarray  # positions
    held_out: np.ndarray

    @classmethod
    def read(cls, folder: Path) -> Admissions:
        events = pd.read_parquet(folder / "events.parquet")
        outcomes = pd.read_parquet(folder / "outcomes.parquet").set_index("hadm_id")
        X = nest_events(
            events, subject="hadm_id", static=pd.DataFrame(index=outcomes.index), until=HOURS
        )
        metavision = events.loc[events["code"] == "CHART//O2 saturation pulseoxymetry", "hadm_id"]
        died = outcomes["hospital_expire_flag"].to_numpy()
        patient = outcomes["subject_id"].to_numpy()
        folds = StratifiedGroupKFold(4, shuffle=True, random_state=0)
        train, held_out = next(folds.split(died, died, patient))
        return cls(
            X=X,
            died=died,
            patient=patient,
            judged=np.flatnonzero(outcomes["los_days"] * 24 >= HOURS),
            system=np.where(X.index.isin(metavision), "MetaVision", "CareVue"),
            train=train,
            held_out=held_out,
        )

    @property
    def training(self) -> pd.DataFrame:
        return self.X.iloc[self.train]

    @property
    def others(self) -> pd.DataFrame:
        return self.X.iloc[self.held_out]


# ---- encoders ----------------------------------------------------------------------------------


def new_encoder(**params: Any) -> TimeAwareEncoder:
    sequencer = TripletSequencer(min_count=MIN_COUNT, value_scaling="quantile")
    return TimeAwareEncoder(sequencer=sequencer, device="cpu", random_state=0, **params)


def similar(codes: tuple[Any, ...]) -> dict[str, str]:
    """Which of MIMIC's codes are like which of PhysioNet's."""
    return {mimic: ours for ours, names in SAME_AS.items() for mimic in names if mimic in codes}


def encoders(
    mimic: Admissions, physionet: TimeAwareEncoder, passes: int
) -> Iterator[tuple[str, TimeAwareEncoder]]:
    """Every competitor, by the name in the table."""
    short = new_encoder(max_epochs=passes, min_steps=0).fit(mimic.training)
    yield f"MIMIC only, {passes} epochs", short
    alone = new_encoder().fit(mimic.training)
    yield f"MIMIC only, {alone.n_iter_} epochs", alone

    like = similar(alone.preparation_.vocabulary.codes)
    print(f"{len(like)} of MIMIC's codes are like codes of PhysioNet\n", flush=True)
    starts: dict[str, dict[str, Any]] = {
        "mean": {"init": "mean"},
        "random": {"init": "random"},
        "similar, else mean": {"init": "mean", "like": like},
    }
    for start, settings in starts.items():
        encoder = deepcopy(physionet).add_codes(mimic.training, **settings)
        yield f"PhysioNet + codes ({start}), 0 passes", encoder
        for _ in range(passes):
            encoder.partial_fit(mimic.training)
        yield f"PhysioNet + codes ({start}), {passes} passes", encoder


# ---- measurements ------------------------------------------------------------------------------


def losses(encoder: TimeAwareEncoder, X: pd.DataFrame) -> dict[str, float]:
    """The objective of held-out histories, and its parts."""
    return encoder.net_.losses(encoder.preparation_.dataset(X))


def loss_of_medians(encoder: TimeAwareEncoder, X: pd.DataFrame) -> float:
    """Value part of somebody who always says the median: what there is to be gained from."""
    events = encoder.preparation_.sequencer.transform(X)["events"].events
    lengths = events.lengths
    error = np.abs(events.flat("value").astype(np.float64))
    huber = np.where(error <= 1, error**2 / 2, error - 0.5)
    cells = pd.DataFrame(
        {"row": np.repeat(np.arange(len(X)), lengths), "code": events.flat("code"), "loss": huber}
    )
    return float(cells.groupby(["row", "code"])["loss"].mean().mean())


def folds_auroc(Z: np.ndarray, mimic: Admissions) -> np.ndarray:
    """(REPEATS * FOLDS,) AUROC of logistic regression on some features of the judged admissions."""
    rows = mimic.judged
    Z, y, patient = Z[rows], mimic.died[rows], mimic.patient[rows]
    model = make_pipeline(
        SimpleImputer(strategy="median", keep_empty_features=True, add_indicator=True),
        StandardScaler(),
        FunctionTransformer(np.clip, kw_args={"a_min": -4.0, "a_max": 4.0}),
        LogisticRegression(C=0.01, max_iter=1000),
    )
    scores = []
    for repeat in range(REPEATS):
        folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=repeat)
        for train, test in folds.split(Z, y, patient):
            p = model.fit(Z[train], y[train]).predict_proba(Z[test])[:, 1]
            scores.append(roc_auc_score(y[test], p))
    return np.array(scores)


def with_error(scores: np.ndarray, form: str = "{:.3f}") -> str:
    """Mean and corrected standard error over repeated folds."""
    error = np.sqrt(scores.var(ddof=1) * (1 / len(scores) + 1 / (FOLDS - 1)))
    return f"{form.format(scores.mean())} ± {error:.3f}"


def draw(encoder: TimeAwareEncoder, mimic: Admissions, path: Path) -> None:
    """The first two principal components of the embeddings of all admissions."""
    Z = encoder.transform(mimic.X)
    axes = PCA(2).fit(Z)
    at, share = axes.transform(Z), axes.explained_variance_ratio_
    figure, panel = plt.subplots(figsize=(7, 6))
    for system, marker in (("CareVue", "o"), ("MetaVision", "^")):
        for died, colour in ((0, "#8c9fb1"), (1, "#c44e52")):
            rows = (mimic.system == system) & (mimic.died == died)
            fate = "died in hospital" if died else "survived"
            label = f"{system}, {fate} ({rows.sum()})"
            panel.scatter(*at[rows].T, c=colour, marker=marker, label=label, alpha=0.8)
    panel.set(
        xlabel=f"first component ({share[0]:.0%} of the variance)",
        ylabel=f"second component ({share[1]:.0%})",
        title=f"{len(at)} admissions of the MIMIC-III demo, by charting system and outcome",
    )
    panel.legend(fontsize="small")
    figure.savefig(path, bbox_inches="tight")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=4, help="of pretraining on PhysioNet 2012")
    parser.add_argument("--passes", type=int, default=20, help="over MIMIC's training admissions")
    parser.add_argument("--encoder", type=Path, help="PhysioNet's: load it there, or save it there")
    parser.add_argument("--plot", type=Path, help="draw the embeddings to this file")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    options = parser.parse_args()
    # Codes below MIN_COUNT are unknown to every encoder, by choice.
    warnings.filterwarnings("ignore", category=DataWarning)

    mimic = Admissions.read(HOME / "mimic3_demo")
    stays = fetch_physionet2012(data_home=HOME, sets=("a",), download=False).data
    n_deaths = mimic.died[mimic.judged].sum()
    print(
        f"{len(mimic.X)} admissions of {len(set(mimic.patient))} patients, "
        f"{mimic.X['events'].events.lengths.sum():,} events in {HOURS:.0f} h; "
        f"{len(mimic.held_out)} admissions held out; "
        f"{len(mimic.judged)} lasted {HOURS:.0f} h or more, {n_deaths} of these ended in death"
    )

    start = time.perf_counter()
    if options.encoder is not None and options.encoder.exists():
        physionet = TimeAwareEncoder.load(options.encoder, device="cpu")
    else:
        physionet = new_encoder(max_epochs=options.epochs, min_steps=0).fit(stays)
        if options.encoder is not None:
            physionet.save(options.encoder)
    seconds = time.perf_counter() - start
    print(f"PhysioNet 2012, set a: {physionet.n_iter_} epochs, {seconds:.0f} s", flush=True)

    summaries = EventSummarizer().fit_transform(mimic.X).to_numpy()
    scores = {"summaries of all codes": folds_auroc(summaries, mimic)}
    rows: dict[str, dict[str, Any]] = {"summaries of all codes": {}}
    picture = None
    for name, encoder in encoders(mimic, physionet, options.passes):
        held_out = losses(encoder, mimic.others)
        if picture is None:
            rows["always the median"] = {"value part": loss_of_medians(encoder, mimic.others)}
        scores[name] = folds_auroc(encoder.transform(mimic.X), mimic)
        value = held_out["masked_value"] / MaskedReconstruction().value  # without its weight
        rows[name] = {"objective": held_out["loss"], "value part": value}
        rows[name]["rank"] = encoder.history_["effective_rank"].iloc[-1]
        parts = {part: round(loss, 4) for part, loss in held_out.items()}
        print(f"{name}: {parts}, AUROC {scores[name].mean():.3f}", flush=True)
        if name.startswith("MIMIC only"):
            picture = name, deepcopy(encoder)

    reference, alone = picture
    table = pd.DataFrame(rows).T.map(lambda x: "" if pd.isna(x) else f"{x:.4f}")
    table["AUROC"] = {name: with_error(s) for name, s in scores.items()}
    table["less that of MIMIC only"] = {
        name: with_error(s - scores[reference], "{:+.3f}")
        for name, s in scores.items()
        if name != reference
    }
    print(f"\nreference of the last column: {reference}\n{table.fillna('').to_string()}")
    print(f"\n{time.perf_counter() - start:.0f} s")
    if options.plot:
        draw(alone, mimic, options.plot)
    folds = {name: s.tolist() for name, s in scores.items()}
    keep({"losses": rows, "AUROC": folds}, options.json)


if __name__ == "__main__":
    main()
