"""
==========================================
Many histories, few of them with a label
==========================================

Labels are what is scarce in most collections of histories: somebody has to read a chart for each of
them.  The histories themselves are there by the thousand.  A
:class:`~tawt_sklearn.TimeAwareEncoder` learns from all of them what a history looks like, and
:class:`~tawt_sklearn.TimeAwareClassifier` starts from it where labels begin.

This page compares, on simulated intensive-care stays with 40 to 250 labels, a pretrained network
with one from scratch and with hand-made summaries.  So that it takes less than a minute, the
networks are small and all training, the pretraining included, is shorter than by default.

::

    python examples/plot_few_labels.py               # shows the figure where there is a screen
    python examples/plot_few_labels.py curve.svg     # saves it
"""

# %%
# Data
# ----
# Who dies is decided by a known rule: a level, a trend of lactate, two codes that matter only
# together, how often things are measured, and noise.  ``X`` has one row for each stay; its column
# ``events`` holds the histories.  The last 500 stays are there to be scored.

import sys
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tawt_sklearn import EventSummarizer, TimeAwareClassifier, TimeAwareEncoder
from tawt_sklearn.datasets import make_icu_stays
from tawt_sklearn.exceptions import DataWarning

X, y = make_icu_stays(1700, horizon=24.0, n_noise_codes=2, random_state=0)
X_train, X_test, y_train, y_test = X[:1200], X[1200:], y[:1200], y[1200:]
print(X_train.head(3))

# %%
# Pretraining
# -----------
# Without labels: events, windows of time and codes are hidden, and rebuilt from the rest.  The
# default objective also has the embedding of a stay tell the statistics of its codes.  An
# effective rank far above 1 says that the embeddings have not collapsed to one.

shape = {"d_model": 24, "n_layers": 1, "n_windows": 8}  # a small network
encoder = TimeAwareEncoder(**shape, max_epochs=8, min_steps=0, device="cpu", random_state=0)
encoder.fit(X_train)
print(encoder.history_[["epoch", "train_loss", "effective_rank"]].iloc[[0, -1]].round(3))

# %%
# Few labels
# ----------
# ``fine_tune="head"`` keeps the encoder and learns a linear model on its embeddings;
# ``fine_tune="full"`` goes on from there with all layers.  The network from scratch gets a quarter
# of its usual steps, at a higher learning rate; with all 300 it does a little better.  All methods
# get the same labels.


def models(seed: int) -> dict:
    """Every method, by the name in the legend."""
    settings = {"n_ensemble": 1, "device": "cpu", "random_state": seed}
    return {
        'pretrained, fine_tune="head"': TimeAwareClassifier(
            pretrained=encoder, fine_tune="head", **settings
        ),
        'pretrained, fine_tune="full"': TimeAwareClassifier(
            pretrained=encoder, fine_tune="full", max_epochs=5, **settings
        ),
        "from scratch": TimeAwareClassifier(**shape, min_steps=75, learning_rate=4e-3, **settings),
        "summaries + logistic regression": make_pipeline(
            EventSummarizer(),
            SimpleImputer(strategy="median", keep_empty_features=True, add_indicator=True),
            StandardScaler(),
            LogisticRegression(C=0.01, max_iter=500),
        ),
        "summaries + gradient boosting": make_pipeline(
            EventSummarizer(),
            HistGradientBoostingClassifier(
                learning_rate=0.05, max_iter=60, min_samples_leaf=5, random_state=seed
            ),
        ),
    }


# Forty stays do not have every code and category; the others then count as unknown.
warnings.simplefilter("ignore", DataWarning)
scores = []
for seed in range(2):
    order = np.random.default_rng(seed).permutation(len(X_train))
    for n_labels in (40, 100, 250):
        labelled = order[:n_labels]
        for name, model in models(seed).items():
            model.fit(X_train.iloc[labelled], y_train.iloc[labelled])
            auroc = roc_auc_score(y_test, model.predict_proba(X_test)[:, 1])
            scores.append({"method": name, "labels": n_labels, "seed": seed, "AUROC": auroc})

# %%
# Result
# ------
# Means over two draws of labels, with standard errors.  These are of the draws alone: all share
# one simulated cohort and one encoder.

grouped = pd.DataFrame(scores).groupby(["method", "labels"], sort=False)["AUROC"]
mean, error = grouped.mean().unstack(), grouped.sem().unstack()
print(mean.round(3))

figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
for name in mean.index:
    style = {"p": "-", "f": ":", "s": "--"}[name[0]]  # pretrained, from scratch, summaries
    axes.errorbar(
        mean.columns, mean.loc[name], yerr=error.loc[name], fmt=f"o{style}", capsize=2, label=name
    )
axes.set(xlabel="labelled stays", ylabel="AUROC of 500 other stays", xscale="log")
axes.set_xticks(mean.columns, mean.columns)
axes.minorticks_off()
axes.legend(fontsize="small")

if len(sys.argv) > 1:
    figure.savefig(sys.argv[1])
plt.show()
