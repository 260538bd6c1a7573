"""What synthesis.py asks of single cohorts: effects of the simulation, conditions, panels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from _synthesis_cohorts import Real, mortality_model, panel_of
from scipy.stats import ks_2samp

from tawt_sklearn.datasets import make_icu_stays

CONDITIONAL, GIVEN = "deaths", "given"
WIND = 11  # channel of the wind direction
DIRECTIONS = 16
PRESSURE, DOSE = 75.0, 0.15  # the middle of MAP and of the vasopressor, as simulated
IRREGULAR = 0.37  # between the shares of fibrillation with and without the rhythm, .70 and .04
ICU_LARGE = 2028  # seed
N_LARGE = 20_000
N_RESAMPLES = 2000

EFFECTS = (
    "heart rate after treatment",
    "risk if treated",
    "risk if pressure and dose agree",
    "risk if lactate rises",
    "risk if rhythm irregular",
    "risk if troponin ordered",
)
"""The first is a change in beats per minute, the others are differences of the share that died."""


# ---- known effects of the simulated stays ------------------------------------------------------


def stay_effects(X: pd.DataFrame, y: np.ndarray) -> pd.DataFrame:
    """What the estimates are made of: a row per stay, NaN where a stay says nothing.

    The change in heart rate, whether the stay is of the group (1) or not (0) for each of the other
    effects, and ``died``.
    """
    events = X["events"].events
    table = pd.DataFrame(
        {
            "row": events.flat("row"),
            "time": events.flat("time"),
            "code": np.asarray(events.codes.astype(str))[events.flat("code")],
            "value": events.flat("value").astype(np.float64),
        }
    )
    texts = events.flat("text")
    if events.texts is not None and "atrial fibrillation" in events.texts:
        irregular = texts == events.texts.get_loc("atrial fibrillation")
    else:
        irregular = np.zeros(len(texts), bool)
    rows = pd.RangeIndex(len(X))

    def of(code: str) -> pd.DataFrame:
        return table[table["code"] == code]

    def mean(values: pd.Series, row: pd.Series) -> np.ndarray:
        return values.groupby(row).mean().reindex(rows).to_numpy()

    begin = of("BetaBlocker").groupby("row")["time"].min().reindex(rows)
    rate = of("HR")
    after = rate["time"].to_numpy() >= begin.reindex(rate["row"]).to_numpy()
    before = rate["time"].to_numpy() < begin.reindex(rate["row"]).to_numpy()
    change = mean(rate["value"][after], rate["row"]) - mean(rate["value"][before], rate["row"])
    pressure = mean(of("MAP")["value"], of("MAP")["row"]) - PRESSURE
    drug = of("Norepinephrine")
    dose = mean(drug["value"], drug["row"]) - DOSE
    lactate = of("Lactate")
    late = lactate["time"] - lactate["time"].groupby(lactate["row"]).transform("mean")
    slope = (late * np.log(lactate["value"].clip(0.05))).groupby(lactate["row"]).sum()
    rhythm = pd.Series(irregular[table["code"] == "Rhythm"], dtype=float)
    share = mean(rhythm, of("Rhythm")["row"].reset_index(drop=True))
    some = events.lengths > 0
    ordered = np.isin(rows, of("Troponin")["row"])
    groups = {
        "risk if treated": np.where(some, begin.notna(), np.nan),
        "risk if pressure and dose agree": above(pressure * dose, 0.0),
        "risk if lactate rises": above(slope.reindex(rows).to_numpy(), 0.0),
        "risk if rhythm irregular": above(share, IRREGULAR),
        "risk if troponin ordered": np.where(some, ordered, np.nan),
    }
    return pd.DataFrame({EFFECTS[0]: change, **groups, "died": np.asarray(y, np.float64)})


def above(values: np.ndarray, limit: float) -> np.ndarray:
    """1 above, 0 below, NaN where unknown or equal."""
    return np.where(values > limit, 1.0, np.where(values < limit, 0.0, np.nan))


def estimates(stays: pd.DataFrame, weight: np.ndarray) -> np.ndarray:
    """All effects with stays counted so often; (..., 6) from weights (..., B)."""
    found = []
    for name in EFFECTS:
        numbers = stays[name].to_numpy()
        known = ~np.isnan(numbers)
        numbers = np.nan_to_num(numbers)
        if name == EFFECTS[0]:
            found.append(weight @ numbers / at_least_one(weight @ known))
            continue
        inside, outside = numbers * known, (1 - numbers) * known
        died = stays["died"].to_numpy()
        risks = [
            weight @ (group * died) / at_least_one(weight @ group) for group in (inside, outside)
        ]
        found.append(risks[0] - risks[1])
    return np.stack(found, axis=-1)


def at_least_one(total: Any) -> Any:
    """No stays in a group: NaN."""
    return np.where(total > 0, total, np.nan)


def with_intervals(X: pd.DataFrame, y: np.ndarray, seed: int) -> dict[str, list[float]]:
    """Estimate, and the ends of a 95 % interval over stays drawn with replacement."""
    stays = stay_effects(X, y)
    B = len(stays)
    weight = np.random.default_rng(seed).multinomial(B, np.full(B, 1 / B), size=N_RESAMPLES)
    drawn = estimates(stays, weight.astype(np.float64))
    value = estimates(stays, np.ones(B))
    table = {}
    for k, name in enumerate(EFFECTS):
        some = drawn[~np.isnan(drawn[:, k]), k]
        ends = np.quantile(some, [0.025, 0.975]) if len(some) else (np.nan, np.nan)
        table[name] = [float(value[k]), float(ends[0]), float(ends[1])]
    return table


def truth() -> pd.DataFrame:
    """True effects, and the estimates in a large simulated set: they should agree.

    Shares that die are means of the true probabilities in groups of the latent state; troponin is
    ordered at random given severity, so that its groups are those seen.
    """
    made = make_icu_stays(N_LARGE, random_state=ICU_LARGE, return_long=True)
    X, y = make_icu_stays(N_LARGE, random_state=ICU_LARGE)
    stays = stay_effects(X, y.to_numpy())
    state, p = made.latent, made.true_probability.to_numpy()

    def difference(group: np.ndarray) -> float:
        return float(p[group == 1].mean() - p[group == 0].mean())

    true = [
        made.effects["treatment_heart_rate"],
        made.effects["treatment_risk_difference"],
        difference((state["pressure"] * state["vasopressor"] > 0).to_numpy()),
        difference((state["trend"] > 0).to_numpy()),
        difference(state["rhythm"].to_numpy()),
        difference(stays["risk if troponin ordered"].to_numpy()),
    ]
    estimated = estimates(stays, np.ones(len(stays)))
    return pd.DataFrame({"truth": true, "estimated": estimated}, index=list(EFFECTS))


def overlap(one: list[float], other: list[float]) -> bool:
    """Whether two intervals have a value in common."""
    return bool(one[1] <= other[2] and other[1] <= one[2])


# ---- conditions --------------------------------------------------------------------------------


class Mortality:
    """Scores of risk by a model that learned from real training stays; fitted once."""

    def __init__(self, real: Real, seed: int = 0) -> None:
        self.model = mortality_model().fit(real.train, real.y_train)
        risk = self.of(real.test)
        died, lived = risk[real.y_test == 1], risk[real.y_test == 0]
        halves = np.array_split(np.random.default_rng(seed).permutation(died), 2)
        self.died = died
        self.references = {
            "KS, half of real deaths to the other half": ks(halves[0], halves[1]),
            "KS, real survivors to real deaths": ks(lived, died),
            "mean score of real deaths": float(died.mean()),
            "mean score of real survivors": float(lived.mean()),
        }

    def of(self, X: pd.DataFrame) -> np.ndarray:
        return self.model.predict_proba(X)[:, 1]

    def conditional(self, deaths: pd.DataFrame) -> dict[str, float]:
        """Stays written for y=1, and how their scores differ from those of real deaths."""
        risk = self.of(deaths)
        return {
            "KS, sample(y=1) to real deaths": ks(risk, self.died),
            "mean score of sample(y=1)": float(risk.mean()),
        }


def ks(one: np.ndarray, other: np.ndarray) -> float:
    return float(ks_2samp(one, other).statistic)


def honoured(real: Real, given: pd.DataFrame) -> dict[str, float]:
    """Share of the static values asked for that came out exactly; where missing, any may."""
    shares = {}
    for name in given.columns.drop("events"):
        asked = real.test[name][: len(given)].reset_index(drop=True)
        known = asked.notna()
        equal = asked[known].to_numpy() == given[name].reset_index(drop=True)[known].to_numpy()
        shares[f"static {name} as asked"] = float(np.mean(equal))
    return shares


# ---- panels ------------------------------------------------------------------------------------


def panel_measures(real: Real, compared: pd.DataFrame, X: pd.DataFrame) -> dict[str, Any]:
    """Missing values and wind direction of a panel beside a real one."""
    sides = [panel_of(frame, real.panel) for frame in (compared, X)]
    missing = [np.isnan(side).mean(axis=(0, 2)) for side in sides]
    runs = [missing_runs(side) for side in sides]
    frequency, transition = zip(*(winds(side[:, WIND]) for side in sides), strict=True)
    filled = transition[0].sum(axis=1)
    rows = [table / np.maximum(table.sum(axis=1, keepdims=True), 1) for table in transition]
    apart = np.abs(rows[0] - rows[1]).sum(axis=1) / 2
    return {
        "missing, real": missing[0].tolist(),
        "missing, row": missing[1].tolist(),
        "missing, largest difference": float(np.abs(missing[0] - missing[1]).max()),
        "runs of missing steps, KS": ks(*runs) if all(map(len, runs)) else 1.0,
        "runs of missing steps, mean real": float(runs[0].mean()) if len(runs[0]) else np.nan,
        "runs of missing steps, mean row": float(runs[1].mean()) if len(runs[1]) else np.nan,
        "wind direction, TV": variation(*frequency),
        "wind direction, TV of transitions": float(apart @ filled / max(filled.sum(), 1)),
    }


def missing_runs(panel: np.ndarray) -> np.ndarray:
    """Lengths of the runs of missing steps of all channels, cut off at both ends of a window."""
    gone = np.isnan(panel).reshape(-1, panel.shape[2])
    edges = np.diff(np.pad(gone, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    begin, end = np.nonzero(edges == 1), np.nonzero(edges == -1)
    return end[1] - begin[1]


def winds(channel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies (16,) and transitions (16, 16) of directions from hour to hour; from (B, T)."""
    known = ~np.isnan(channel)
    level = np.clip(np.nan_to_num(channel), 0, DIRECTIONS - 1).round().astype(np.int64)
    both = known[:, 1:] & known[:, :-1]
    pair = level[:, :-1][both] * DIRECTIONS + level[:, 1:][both]
    table = np.bincount(pair, minlength=DIRECTIONS**2).reshape(DIRECTIONS, DIRECTIONS)
    return np.bincount(level[known], minlength=DIRECTIONS), table


def variation(one: np.ndarray, other: np.ndarray) -> float:
    """Total variation of two tables of counts."""
    return float(np.abs(one / max(one.sum(), 1) - other / max(other.sum(), 1)).sum() / 2)
