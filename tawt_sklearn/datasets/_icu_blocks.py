"""The blocks of the simulated ICU cohort: who the stays are, and what is measured of them when.

:func:`tawt_sklearn.datasets.make_icu_stays` documents the equations; every name here is the name
used there.  Shape letters: B stays, E events.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.random import Generator
from scipy.optimize import brentq
from scipy.special import expit

UNITS = ("medical", "surgical", "cardiac")
UNIT_SHARE = (0.5, 0.3, 0.2)
RHYTHMS = ("sinus", "atrial fibrillation", "paced", "ventricular tachycardia")
P_IRREGULAR = 0.25
AGE_MEAN, AGE_SD = 64.0, 15.0
MINUTES = 60  # every time is a whole minute: simultaneous measurements then really are equal


@dataclass
class Cohort:
    """What is true of each stay; only `treatment_time` and the event values show it to a model."""

    severity: np.ndarray  # (B,) standard normal
    kidney: np.ndarray  # (B,) standard normal
    trend: np.ndarray  # (B,) -1 lactate falls, +1 rises
    pressure: np.ndarray  # (B,) -1 low, +1 high MAP
    vasopressor: np.ndarray  # (B,) -1 low, +1 high dose
    irregular: np.ndarray  # (B,) 1 = atrial fibrillation
    age: np.ndarray  # (B,) years
    unit: np.ndarray  # (B,) index into UNITS
    female: np.ndarray  # (B,) bool
    treated: np.ndarray  # (B,) 0 or 1
    treatment_time: np.ndarray  # (B,) hours, +inf = never
    observed: np.ndarray  # (B,) False = nothing was ever recorded of this stay
    attention: np.ndarray  # (B,) what drives the measuring: severity, or a stranger's severity


@dataclass
class EventLog:
    """Collects events block by block; `frame` sorts them by stay and time."""

    rows: list[np.ndarray] = field(default_factory=list)
    minutes: list[np.ndarray] = field(default_factory=list)
    codes: list[np.ndarray] = field(default_factory=list)
    values: list[np.ndarray] = field(default_factory=list)
    texts: list[np.ndarray] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)

    def add(
        self,
        label: str,
        rows: np.ndarray,
        minutes: np.ndarray,
        value: np.ndarray | None = None,
        text: np.ndarray | None = None,
    ) -> None:
        """Append the events of one code; `text` holds indices into ``RHYTHMS``."""
        n_events = len(rows)
        self.rows.append(rows)
        self.minutes.append(minutes)
        self.codes.append(np.full(n_events, len(self.labels), dtype=np.int16))
        self.values.append(np.full(n_events, np.nan) if value is None else value)
        self.texts.append(np.full(n_events, -1, dtype=np.int8) if text is None else text)
        self.labels.append(label)

    def frame(self, subject_ids: np.ndarray, *, with_text: bool) -> pd.DataFrame:
        """Return the long frame: subject_id, time (hours), code, value and perhaps text."""
        rows = np.concatenate(self.rows)
        minutes = np.concatenate(self.minutes)
        span = int(minutes.max(initial=0)) + 1
        order = np.argsort(rows * span + minutes, kind="stable")
        columns = {
            "subject_id": subject_ids[rows[order]],
            "time": minutes[order] / MINUTES,
            "code": pd.Categorical.from_codes(
                np.concatenate(self.codes)[order], pd.Index(self.labels)
            ),
            "value": np.concatenate(self.values)[order].astype(np.float32),
        }
        if with_text:
            columns["text"] = pd.Categorical.from_codes(
                np.concatenate(self.texts)[order], pd.Index(RHYTHMS)
            )
        return pd.DataFrame(columns)


class Clock:
    """Draws event times of an inhomogeneous Poisson process for all stays at once."""

    def __init__(self, horizon: float) -> None:
        self.horizon = horizon
        self.last_minute = int(np.floor(horizon * MINUTES))
        self.grid = np.linspace(0.0, horizon, 1025)
        intensity = 1.0 + np.exp(-self.grid / 6.0) + 0.4 * np.cos(2 * np.pi * self.grid / 24.0)
        mass = np.concatenate([[0.0], np.cumsum(intensity[1:] + intensity[:-1])])
        self.busy_early = mass / mass[-1]

    def draw(
        self, rng: Generator, rate: np.ndarray, *, flat: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return (row, minute) of events that happen `rate` (B,) times per hour on average.

        `flat` gives a constant intensity.  The default is busier after admission and follows the
        hour of the day.
        """
        counts = rng.poisson(rate * self.horizon)
        rows = np.repeat(np.arange(len(rate)), counts)
        u = rng.random(len(rows))
        hours = u * self.horizon if flat else np.interp(u, self.busy_early, self.grid)
        return rows, self.to_minutes(hours)

    def to_minutes(self, hours: np.ndarray) -> np.ndarray:
        return np.minimum(np.rint(hours * MINUTES).astype(np.int64), self.last_minute)


def draw_cohort(
    rng: Generator,
    n_stays: int,
    *,
    horizon: float,
    confounding: float,
    p_empty: float,
    informative: bool,
) -> Cohort:
    """Draw the latent state of `n_stays` stays."""

    def sign() -> np.ndarray:
        return np.where(rng.random(n_stays) < 0.5, 1.0, -1.0)

    severity = rng.standard_normal(n_stays)
    stranger = rng.standard_normal(n_stays)
    kidney = rng.standard_normal(n_stays)
    trend, pressure, vasopressor = sign(), sign(), sign()
    irregular = (rng.random(n_stays) < P_IRREGULAR).astype(float)
    age = np.clip(rng.normal(AGE_MEAN, AGE_SD, n_stays), 18, 95).round()
    unit = rng.choice(len(UNITS), size=n_stays, p=UNIT_SHARE)
    female = rng.random(n_stays) < 0.45
    observed = rng.random(n_stays) >= p_empty
    treated = ((rng.random(n_stays) < expit(confounding * severity)) & observed).astype(float)
    treatment_time = np.where(treated == 1, rng.uniform(0.15, 0.6, n_stays) * horizon, np.inf)
    return Cohort(
        severity=severity,
        kidney=kidney,
        trend=trend,
        pressure=pressure,
        vasopressor=vasopressor,
        irregular=irregular,
        age=age,
        unit=unit,
        female=female,
        treated=treated,
        treatment_time=treatment_time,
        observed=observed,
        attention=severity if informative else stranger,
    )


def log_odds(cohort: Cohort, effects: dict[str, float]) -> np.ndarray:
    """Log odds of death (B,), without the intercept."""
    return (
        effects["severity"] * cohort.severity
        + effects["kidney"] * cohort.kidney
        + effects["trend"] * cohort.trend
        + effects["interaction"] * cohort.pressure * cohort.vasopressor
        + effects["rhythm"] * cohort.irregular
        + effects["age"] * (cohort.age - AGE_MEAN) / AGE_SD
        + effects["unit_medical"] * (cohort.unit == 0)
        + effects["treatment"] * cohort.treated
    )


def intercept_for(prevalence: float, effects: dict[str, float], confounding: float) -> float:
    """Intercept that gives `prevalence` in the population (by quadrature, so not by chance).

    The intercept must not depend on the sample: two cohorts of different size or seed then follow
    one and the same rule.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(41)
    weights = weights / weights.sum()
    # kidney and age enter linearly and are (nearly) normal: one normal variable stands for both
    spread = np.hypot(effects["kidney"], effects["age"])
    severity, other, trend, product, rhythm, medical, treated = np.meshgrid(
        nodes, spread * nodes, *[[0.0, 1.0]] * 5, indexing="ij", sparse=True
    )
    p_treated = expit(confounding * severity)
    mass = (
        weights.reshape(-1, 1, 1, 1, 1, 1, 1)
        * weights.reshape(-1, 1, 1, 1, 1, 1)
        * 0.25
        * np.where(rhythm == 1, P_IRREGULAR, 1 - P_IRREGULAR)
        * np.where(medical == 1, UNIT_SHARE[0], 1 - UNIT_SHARE[0])
        * np.where(treated == 1, p_treated, 1 - p_treated)
    )
    eta = (
        effects["severity"] * severity
        + other
        + effects["trend"] * (2 * trend - 1)
        + effects["interaction"] * (2 * product - 1)
        + effects["rhythm"] * rhythm
        + effects["unit_medical"] * medical
        + effects["treatment"] * treated
    )
    return float(brentq(lambda b: (mass * expit(b + eta)).sum() - prevalence, -40.0, 40.0))


def add_vitals(
    log: EventLog, rng: Generator, clock: Clock, cohort: Cohort, hr_effect: float
) -> None:
    """Charted vital signs; sicker stays are charted more often."""
    rows, minutes = clock.draw(rng, 0.9 * np.exp(0.35 * cohort.attention) * cohort.observed)
    severity = cohort.severity[rows]
    n_stays, n_charts = len(cohort.severity), len(rows)

    def noise(between: float, within: float) -> np.ndarray:
        person = between * rng.standard_normal(n_stays)
        return person[rows] + within * rng.standard_normal(n_charts)

    after = minutes >= cohort.treatment_time[rows] * MINUTES
    heart_rate = 84 + 4 * severity + hr_effect * after + noise(5, 7)
    saturation = np.clip(97 - 0.6 * severity + noise(0.8, 1.2), 70, 100).round()
    # charted, but the number got lost
    saturation[rng.random(n_charts) < 0.02] = np.nan
    for label, value, share in (
        ("HR", heart_rate.round(), 1.0),
        ("RespRate", np.maximum(18 + 2 * severity + noise(1.5, 2.5), 4).round(), 0.85),
        ("SpO2", saturation, 0.8),
        ("Temp", (37 + noise(0.4, 0.3)).round(1), 0.3),
    ):
        keep = rng.random(n_charts) < share
        log.add(label, rows[keep], minutes[keep], value[keep])


def add_circulation(log: EventLog, rng: Generator, clock: Clock, cohort: Cohort) -> None:
    """Arterial pressure and vasopressor dose: each alone says nothing, their product does."""
    n_stays = len(cohort.severity)
    rows, minutes = clock.draw(rng, 0.8 * cohort.observed)
    level = 75 + 8 * cohort.pressure + 3 * rng.standard_normal(n_stays)
    log.add("MAP", rows, minutes, (level[rows] + 5 * rng.standard_normal(len(rows))).round())
    rows, minutes = clock.draw(rng, 0.35 * cohort.observed)
    level = np.log(0.15) + 0.7 * cohort.vasopressor + 0.25 * rng.standard_normal(n_stays)
    dose = np.exp(level[rows] + 0.2 * rng.standard_normal(len(rows)))
    log.add("Norepinephrine", rows, minutes, dose.round(3))


def add_lactate(log: EventLog, rng: Generator, clock: Clock, cohort: Cohort) -> None:
    """Lactate rises or falls; turned round in time the two groups are the same.

    That needs times spread symmetrically over the stay and a count that knows nothing of the
    patient, hence the flat intensity with one rate for all.
    """
    rows, minutes = clock.draw(rng, 0.25 * cohort.observed, flat=True)
    position = 2 * minutes / clock.last_minute - 1
    level = 0.8 + 0.3 * rng.standard_normal(len(cohort.severity))
    slope = 0.45 * cohort.trend[rows]
    log_value = level[rows] + slope * position + 0.2 * rng.standard_normal(len(rows))
    log.add("Lactate", rows, minutes, np.exp(log_value).round(1))


def add_laboratory(log: EventLog, rng: Generator, clock: Clock, cohort: Cohort) -> None:
    """A chemistry panel with one timestamp for all its values, and a test ordered on suspicion."""
    n_stays = len(cohort.severity)
    rows, minutes = clock.draw(rng, 0.12 * np.exp(0.2 * cohort.attention) * cohort.observed)
    n_panels = len(rows)

    def noise(between: float, within: float) -> np.ndarray:
        person = between * rng.standard_normal(n_stays)
        return person[rows] + within * rng.standard_normal(n_panels)

    kidney = cohort.kidney[rows]
    for label, value in (
        ("Na", (139 + noise(3, 2)).round()),
        ("K", (4.1 + noise(0.3, 0.3)).round(1)),
        ("Glucose", np.exp(4.8 + noise(0.2, 0.2)).round()),
        ("Creatinine", np.exp(0.1 + 0.45 * kidney + noise(0.1, 0.1)).round(2)),
        ("BUN", np.exp(3.0 + 0.4 * kidney + noise(0.2, 0.15)).round()),
    ):
        keep = rng.random(n_panels) < 0.95
        log.add(label, rows[keep], minutes[keep], value[keep])

    ordered = (rng.random(n_stays) < expit(1.6 * cohort.attention - 1)) & cohort.observed
    rows = np.repeat(np.flatnonzero(ordered), 1 + rng.poisson(1.0, ordered.sum()))
    minutes = clock.to_minutes(rng.random(len(rows)) * clock.horizon)
    log.add("Troponin", rows, minutes, np.exp(rng.normal(-1.5, 1.0, len(rows))).round(2))


def add_procedures(log: EventLog, rng: Generator, clock: Clock, cohort: Cohort) -> None:
    """Codes without a value: two procedures and the treatment."""
    for label, rate, slope in (("Suction", 0.10, 0.5), ("ChestXRay", 0.04, 0.3)):
        log.add(label, *clock.draw(rng, rate * np.exp(slope * cohort.attention) * cohort.observed))
    treated = np.flatnonzero(cohort.treated)
    # rounded up, so that no heart rate counts as measured before the treatment's own event
    minutes = np.ceil(cohort.treatment_time[treated] * MINUTES).astype(np.int64)
    log.add("BetaBlocker", treated, np.minimum(minutes, clock.last_minute))


def add_rhythm(log: EventLog, rng: Generator, clock: Clock, cohort: Cohort) -> None:
    """Heart rhythm as words."""
    rows, minutes = clock.draw(rng, 0.25 * cohort.observed)
    p_irregular = np.where(cohort.irregular[rows] == 1, 0.7, 0.04)
    u = rng.random(len(rows))
    rare = np.where(u < 0.97, 2, 3)
    text = np.where(u < p_irregular, 1, np.where(u < 0.95, 0, rare)).astype(np.int8)
    log.add("Rhythm", rows, minutes, text=text)


def add_noise(log: EventLog, rng: Generator, clock: Clock, cohort: Cohort, n_codes: int) -> None:
    """Codes that know nothing, from frequent to rare."""
    for number, rate in enumerate(np.geomspace(0.3, 0.01, n_codes)):
        rows, minutes = clock.draw(rng, rate * cohort.observed)
        level = rng.standard_normal(len(cohort.severity))
        value = np.exp(1 + 0.5 * level[rows] + 0.3 * rng.standard_normal(len(rows)))
        log.add(f"Noise{number:02d}", rows, minutes, value.round(2))
