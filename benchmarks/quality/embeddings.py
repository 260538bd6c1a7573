"""Frozen embeddings with logistic regression, PhysioNet 2012, trained on set a, scored on set b.

``TimeAwareEncoder`` is pretrained on the 4,000 stays of set a without labels; a logistic
regression, whose C is chosen by 5-fold cross-validation inside a, is fitted on their embeddings
and labels.  Set b is touched by the scores only.  Beside it, in the same run, the same regression
on hand-made aggregates.

    python benchmarks/quality/embeddings.py --json embeddings.json

Needs ``pip install -e ".[benchmark]"`` and a copy of the data (``TAWT_DATA``, see
``fetch_physionet2012``).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _files import HOME, keep
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from tawt_sklearn import EventSummarizer, TimeAwareEncoder
from tawt_sklearn.datasets import fetch_physionet2012

STRENGTHS = np.logspace(-4.5, 0, 10)


def regression() -> GridSearchCV:
    return GridSearchCV(
        LogisticRegression(max_iter=1000),
        {"C": STRENGTHS.tolist()},
        scoring="neg_log_loss",
        cv=StratifiedKFold(5, shuffle=True, random_state=0),
    )


def summaries() -> Pipeline:
    return make_pipeline(
        EventSummarizer(windows=(None, 24.0, 8.0)),
        SimpleImputer(strategy="median", keep_empty_features=True, add_indicator=True),
        StandardScaler(),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--poolings", nargs="+", default=["codewise", "codes"])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=1, help="threads of pretraining")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    def stays(name: str) -> tuple[pd.DataFrame, pd.Series]:
        return fetch_physionet2012(data_home=HOME, sets=(name,), download=False, return_X_y=True)

    (X_a, y_a), (X_b, y_b) = stays("a"), stays("b")
    features: dict[str, Any] = {"summaries": summaries()}
    for pooling in options.poolings:
        features[f"embeddings, pooling={pooling!r}"] = TimeAwareEncoder(
            pooling=pooling, max_epochs=options.epochs, n_jobs=options.jobs, random_state=0
        )
    rows = []
    for name, transformer in features.items():
        start = time.perf_counter()
        Z_a = np.asarray(transformer.fit_transform(X_a))
        model = regression().fit(Z_a, y_a)
        p = model.predict_proba(np.asarray(transformer.transform(X_b)))[:, 1]
        rows.append(
            {
                "features": name,
                "columns": Z_a.shape[1],
                "C": model.best_params_["C"],
                "AUROC": roc_auc_score(y_b, p),
                "AUPRC": average_precision_score(y_b, p),
                "seconds": time.perf_counter() - start,
            }
        )
        print(pd.DataFrame(rows[-1:]).round(4).to_string(index=False), flush=True)
        keep(rows, options.json)


if __name__ == "__main__":
    main()
