"""From a long table of measurements to predicted probabilities, in a few minutes.

Runs on a simulated intensive-care cohort, and on the real stays of PhysioNet 2012 where a copy
lies in the folder that TAWT_DATA names (or in ``../shared/data``).  Prints a table of scores on
held-out stays and saves a figure of it.

    python examples/quickstart.py
"""

from __future__ import annotations

import os
import time
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from tawt_sklearn import EventSummarizer, TimeAwareClassifier, TripletSequencer, nest_events
from tawt_sklearn.datasets import fetch_physionet2012, make_icu_stays

HERE = Path(__file__).resolve().parent


def models() -> dict[str, Pipeline]:
    """Two baselines on hand-made aggregates, and the transformer on the histories themselves."""
    return {
        "summaries + logistic regression": make_pipeline(
            EventSummarizer(),
            SimpleImputer(strategy="median", keep_empty_features=True, add_indicator=True),
            StandardScaler(),
            LogisticRegression(C=0.01, max_iter=500),
        ),
        "summaries + gradient boosting": make_pipeline(
            EventSummarizer(), HistGradientBoostingClassifier(learning_rate=0.05, random_state=0)
        ),
        "TimeAwareClassifier": Pipeline(
            [
                ("sequence", TripletSequencer()),
                ("model", TimeAwareClassifier(n_jobs=2, random_state=0, verbose=1)),
            ]
        ),
    }


def compare(X: pd.DataFrame, y: pd.Series, cohort: str) -> pd.DataFrame:
    """Fit every model on 70 % of the subjects, score it on the other 30 %."""
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=0.3, stratify=y, random_state=0
    )
    rows = []
    for name, model in models().items():
        start = time.perf_counter()
        model.fit(X_train, y_train)
        seconds = time.perf_counter() - start
        p = model.predict_proba(X_test)[:, 1]
        rows.append(
            {
                "cohort": cohort,
                "model": name,
                "AUROC": roc_auc_score(y_test, p),
                "AUPRC": average_precision_score(y_test, p),
                "Brier": brier_score_loss(y_test, p),
                "fit seconds": seconds,
            }
        )
    return pd.DataFrame(rows)


def draw(table: pd.DataFrame, path: Path) -> None:
    """Bars of the AUROC as an SVG, so that the example needs no plotting library."""
    bars, y = [], 10
    for cohort, rows in table.groupby("cohort", sort=False):
        bars.append(f'<text x="10" y="{y + 14}" font-weight="bold">{cohort}: AUROC</text>')
        y += 26
        for row in rows.to_dict("records"):
            width = 480 * max(row["AUROC"] - 0.5, 0.0)
            colour = "#c44e52" if row["model"] == "TimeAwareClassifier" else "#8c9fb1"
            bars += [
                f'<text x="250" y="{y + 14}" text-anchor="end">{row["model"]}</text>',
                f'<rect x="260" y="{y}" width="{width:.1f}" height="18" fill="{colour}"/>',
                f'<text x="{266 + width:.1f}" y="{y + 14}">{row["AUROC"]:.3f}</text>',
            ]
            y += 24
        y += 14
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="580" height="{y}" '
        'font-family="sans-serif" font-size="13">\n<rect width="100%" height="100%" fill="white"/>'
        "\n" + "\n".join(bars) + "\n</svg>\n"
    )


def real_stays() -> tuple[pd.DataFrame, pd.Series] | None:
    """1,000 stays of PhysioNet 2012, if a local copy is there."""
    home = Path(os.environ.get("TAWT_DATA", HERE.parents[1] / "shared" / "data"))
    if not (home / "physionet2012").is_dir():
        print("No local copy of PhysioNet 2012: simulated stays only (TAWT_DATA names its folder).")
        return None
    if (home / "physionet2012" / "events.parquet").exists() and find_spec("pyarrow") is None:
        print("PhysioNet 2012 is there as Parquet: pip install pyarrow to include it.")
        return None
    X, y = fetch_physionet2012(data_home=home, sets=("a",), download=False, return_X_y=True)
    return X.iloc[:1000], y.iloc[:1000]


def main() -> None:
    simulated = make_icu_stays(1000, random_state=0, return_long=True)
    print("A long table, one row for each measurement:")
    print(simulated.events.head(4).to_string(index=False))

    X = nest_events(simulated.events, static=simulated.static, until=48.0)
    print("\nnested, one row for each stay:")
    print(X.head(3).to_string(), "\n")

    tables = [compare(X, simulated.y.loc[X.index], "simulated stays")]
    real = real_stays()
    if real is not None:
        tables.append(compare(*real, "PhysioNet 2012"))
    table = pd.concat(tables)
    print("\nScores on 30 % of the stays, held out:")
    print(table.round(3).to_string(index=False))

    figure = HERE / "quickstart.svg"
    draw(table, figure)
    print(f"\nFigure: {figure.name} beside this script.")


if __name__ == "__main__":
    main()
