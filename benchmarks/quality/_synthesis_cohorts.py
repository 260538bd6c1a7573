"""The cohorts of synthesis.py: real subjects to learn from, and others to be measured against."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from _files import HOME
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline, make_pipeline

from tawt_sklearn import EventSummarizer, as_events, nest_events
from tawt_sklearn.datasets import fetch_beijing_air, fetch_physionet2012, make_icu_stays

SUMMARY_WINDOWS = (None, 24.0, 8.0)  # as in physionet2012.py
ICU_TRAIN, ICU_TEST = 2026, 2027  # seeds
HOURS = 72
STEPS_OF_A_DAY = 24
POLLUTED = 75.0  # µg/m³ of PM2.5 in 24 hours: grade II of the Chinese standard
KNOWN = 12  # hours of the next day of which PM2.5 must be known

AIMS = {
    "discriminator AUC": (-np.inf, 0.70),
    "TRTR - TSTR": (-np.inf, 0.05),
    "mean KS": (-np.inf, 0.05),
    "KS of gaps": (-np.inf, 0.03),
    "KS of lengths": (-np.inf, 0.07),
    "co-measurement difference": (-np.inf, 0.05),
    "autocorrelation error": (-np.inf, 0.03),
    "membership AUC": (-np.inf, 0.55),
    "DCR share": (0.45, 0.55),
    "exact copies": (-np.inf, 0.0),
}
"""Smallest and largest value that is aimed at."""


@dataclass(frozen=True)
class Real:
    """One data set.

    Attributes
    ----------
    name : str
    train, test : DataFrame
        One row per subject, numbered from 0.
    y_train, y_test : ndarray
        Labels, 0 or 1.
    about : str
        What is predicted.
    aims : dict of str to pair of float
    estimator : Pipeline or None
        Learns the labels from the frames; None is the default of the measures.
    panel : int
        Channels of a panel of ``HOURS`` steps, 0 for events.
    """

    name: str
    train: pd.DataFrame
    test: pd.DataFrame
    y_train: np.ndarray
    y_test: np.ndarray
    about: str
    aims: dict[str, tuple[float, float]]
    estimator: Pipeline | None = None
    panel: int = 0

    @property
    def horizon(self) -> float | None:
        """Where all histories end, None where they end anywhere."""
        ends = np.unique(self.train["events"].events.end)
        same = len(ends) == 1 and np.isfinite(ends[0])
        return float(ends[0]) if same and not self.panel else None

    def few(self, n: int | None) -> Real:
        """The first subjects only, for a quick try."""
        return replace(
            self,
            train=self.train[:n],
            test=self.test[:n],
            y_train=self.y_train[:n],
            y_test=self.y_test[:n],
        )

    def to_fit(self, frame: pd.DataFrame) -> Any:
        """What a synthesizer is given of these subjects: histories, or an array (B, C, T)."""
        return panel_of(frame, self.panel) if self.panel else frame


def load(name: str) -> Real:
    return {"long": long, "icu": icu, "physionet2012": physionet2012, "beijing": beijing}[name]()


def long() -> Real:
    folder = HOME / "simulated_long"
    parts: dict[str, Any] = {}
    for part in ("train", "test"):
        static = pd.read_parquet(folder / f"{part}_static.parquet").set_index("subject")
        frame = nest_events(
            pd.read_parquet(folder / f"{part}.parquet"),
            subject="subject",
            time="time",
            code="data_type",
            value="value",
            static=static[["sex", "age"]],
        )
        parts[part] = frame.reset_index(drop=True)
        parts[f"y_{part}"] = static.loc[frame.index, "y"].to_numpy()
    return Real("long", **parts, about="label of the simulation", aims=AIMS)


def icu() -> Real:
    train, y_train = make_icu_stays(500, random_state=ICU_TRAIN)
    test, y_test = make_icu_stays(2000, random_state=ICU_TEST)
    return Real(
        "icu",
        train.reset_index(drop=True),
        test.reset_index(drop=True),
        y_train.to_numpy(),
        y_test.to_numpy(),
        about="death",
        aims=AIMS,
    )


def physionet2012() -> Real:
    parts: dict[str, Any] = {}
    for part, which in (("train", "a"), ("test", "b")):
        stays = fetch_physionet2012(data_home=HOME, sets=which, static=True, download=False)
        parts[part] = stays.data.reset_index(drop=True)
        parts[f"y_{part}"] = stays.target.to_numpy()
    return Real(
        "physionet2012",
        **parts,
        about="in-hospital death",
        aims={**AIMS, "discriminator AUC": (-np.inf, 0.75), "TRTR - TSTR": (-np.inf, 0.03)},
        estimator=mortality_model(),
    )


def mortality_model() -> Pipeline:
    """Summaries and boosting with the settings of physionet2012.py."""
    return make_pipeline(
        EventSummarizer(windows=SUMMARY_WINDOWS),
        HistGradientBoostingClassifier(
            learning_rate=0.03,
            max_iter=400,
            max_leaf_nodes=15,
            min_samples_leaf=30,
            l2_regularization=5.0,
            max_features=0.3,
            random_state=0,
        ),
    )


def beijing() -> Real:
    air = fetch_beijing_air(data_home=HOME, download=False)
    panels, labels = [], []
    for _, hours in air.frame.groupby("station", observed=True, sort=False):
        numbers = hours[air.feature_names].assign(wd=hours["wd"].cat.codes.replace(-1, np.nan))
        cut = numbers.to_numpy(np.float64)[: len(hours) // HOURS * HOURS]
        panel = cut.reshape(-1, HOURS, len(air.feature_names)).transpose(0, 2, 1)
        next_day = pd.DataFrame(panel[1:, air.feature_names.index("PM2.5"), :STEPS_OF_A_DAY])
        label = (next_day.mean(axis=1) > POLLUTED).astype(float)
        label[next_day.notna().sum(axis=1) < KNOWN] = np.nan
        panels.append(panel)
        labels.append(np.append(label, np.nan))  # the last window has no next day
    X, y = np.stack(panels), np.stack(labels)  # (stations, windows, C, T), (stations, windows)
    # A year is 121 2/3 windows: the window in the middle is of both halves, and of neither here.
    half = X.shape[1] // 2
    # Stations share their weather: of the test windows one station each, in turn, or those of the
    # same hours would be recognised by one another, and real ones told from any others.
    station, window = np.indices(y.shape)
    y[(window > half) & (window % len(y) != station)] = np.nan
    sides = {}
    for part, windows in (("train", slice(0, half)), ("test", slice(half + 1, None))):
        kept = ~np.isnan(y[:, windows])
        sides[part] = as_events(X[:, windows][kept])
        sides[f"y_{part}"] = y[:, windows][kept].astype(np.int64)
    about = f"PM2.5 of the next 24 hours above {POLLUTED:g} µg/m³"
    return Real("beijing", **sides, about=about, aims=AIMS, panel=len(air.feature_names))


def panel_of(frame: pd.DataFrame, channels: int) -> np.ndarray:
    """Numbers at the nearest steps of a panel (B, C, T); NaN where nothing was measured."""
    events = frame["events"].events
    channel = events.codes.str.removeprefix("channel_").astype(int).to_numpy()[events.flat("code")]
    step = np.rint(events.flat("time")).astype(np.int64)
    row = np.repeat(np.arange(len(frame)), events.lengths)
    inside = (step >= 0) & (step < HOURS)
    panel = np.full((len(frame), channels, HOURS), np.nan)
    panel[row[inside], channel[inside], step[inside]] = events.flat("value")[inside]
    return panel
