"""A simulated ICU cohort whose generating rule is known."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy.special import expit
from sklearn.utils import Bunch

from tawt_sklearn.datasets import _icu_blocks as blocks
from tawt_sklearn.datasets._description import load_description

#: True log odds per unit of each cause of death, and the treatment's effect on the heart rate.
DEFAULT_EFFECTS: dict[str, float] = {
    "severity": 1.2,
    "kidney": 0.9,
    "trend": 1.2,
    "interaction": 1.4,
    "rhythm": 1.0,
    "age": 0.5,
    "unit_medical": 0.4,
    "treatment": -1.0,
    "treatment_heart_rate": -12.0,
}

P_AGE_MISSING = 0.06


def make_icu_stays(
    n_samples: int = 1000,
    *,
    horizon: float = 48.0,
    n_noise_codes: int = 6,
    missing: Literal["informative", "random"] = "informative",
    categorical: bool = True,
    prevalence: float = 0.25,
    confounding: float = 0.0,
    empty_fraction: float = 0.01,
    effects: Mapping[str, float] | None = None,
    random_state: int | np.random.RandomState | np.random.Generator | None = None,
    return_long: bool = False,
) -> Any:
    r"""Make a cohort of intensive-care stays with a known rule for who dies.

    The data look like an ICU table (about 20 codes measured at irregular times, most of them
    rarely) and hold, one each, the kinds of signal that a model of event histories should find:
    a level, a trend that only the time axis shows, an interaction of two codes, informative
    missingness, a categorical value, a static column, and a treatment with a known effect.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of stays, one row of `X` each.
    horizon : float, default=48.0
        Hours observed from admission; also the end of every history (`until`).
    n_noise_codes : int, default=6
        Codes ``Noise00, Noise01, ...`` that are unrelated to everything, from frequent to rare.
    missing : {"informative", "random"}, default="informative"
        Whether a stay's severity drives how often it is measured. With ``"random"`` the severity
        of a stranger does: the counts are distributed alike but say nothing about the stay.
    categorical : bool, default=True
        Whether to chart the heart rhythm in words. Without it the ``rhythm`` effect is 0.
    prevalence : float, default=0.25
        Probability of death in the population; the sample's share varies around it.
    confounding : float, default=0.0
        Log odds of treatment per unit of severity. 0 is a randomised trial: the plain difference
        between treated and untreated stays then estimates the treatment effect.
    empty_fraction : float, default=0.01
        Share of stays of which nothing was ever recorded (an empty history, not a missing one).
    effects : mapping of str to float, default=None
        Replaces some of the true coefficients, e.g. ``{"trend": 0.0}``; see Notes.
    random_state : int, RandomState, Generator or None, default=None
        The same value gives the same cohort. NumPy's global state is neither used nor changed.
    return_long : bool, default=False
        Return the long event table and the truth behind it instead of ``(X, y)``.

    Returns
    -------
    X : DataFrame of shape (n_samples, 4)
        Columns ``age`` (years, 6 % NaN), ``sex`` and ``unit`` (strings) and ``events``; the index
        is ``subject_id``. Only with ``return_long=False``.
    y : Series of int, shape (n_samples,)
        1 = died, on the index of `X`. Only with ``return_long=False``.
    data : :class:`~sklearn.utils.Bunch`
        Only with ``return_long=True``:

        events : DataFrame
            One row per event: ``subject_id, time`` (hours), ``code, value`` and, when
            `categorical`, ``text``.
        static : DataFrame of shape (n_samples, 3)
            ``age, sex, unit`` by ``subject_id``.
        y : Series of int
        true_probability : Series of float
            :math:`P(y = 1)` given the latent state: no model can expect to do better.
        effects : dict of str to float
            The coefficients used, with ``intercept`` and ``treatment_risk_difference`` (the mean
            over these stays of the change in risk if treated).
        latent : DataFrame
            The state of each stay: the letters of the rule below.
        horizon : float
        DESCR : str

    Raises
    ------
    ValueError
        If a parameter is out of range or an effect is unknown.

    Notes
    -----
    Each stay has a severity :math:`s`, a kidney function :math:`k` (both standard normal), and,
    all tossed with a fair coin, the direction of its lactate :math:`d = \pm 1`, its blood pressure
    :math:`m = \pm 1` and its vasopressor dose :math:`v = \pm 1`; atrial fibrillation :math:`r` has
    probability .25, treatment :math:`a` the probability
    :math:`\sigma(\text{confounding} \cdot s)`. With the default coefficients

    .. math::

        \log\frac{P(y=1)}{P(y=0)} = b + 1.2 s + 0.9 k + 1.2 d + 1.4 m v + 1.0 r
            + 0.5 \frac{\text{age} - 64}{15} + 0.4 [\text{unit} = \text{medical}] - 1.0 a

    where :math:`b` gives the prevalence asked for. The names in `effects` are, in this order,
    ``severity, kidney, trend, interaction, rhythm, age, unit_medical, treatment``. What is
    observed, with :math:`t` in hours, :math:`H` the horizon, :math:`n_i` noise shared by a stay's
    values of one code and :math:`e` noise of each value:

    ==================  ============================================================  ============
    code                value                                                         rate per hour
    ==================  ============================================================  ============
    HR                  :math:`84 + 4 s - 12 [t \ge t_a] + 5 n_i + 7 e`               :math:`.9 e^{.35 s}`
    RespRate            :math:`18 + 2 s + 1.5 n_i + 2.5 e`                            85 % of HR's
    SpO2                :math:`97 - .6 s + .8 n_i + 1.2 e`, 2 % NaN                   80 % of HR's
    Temp                :math:`37 + .4 n_i + .3 e`                                    30 % of HR's
    MAP                 :math:`75 + 8 m + 3 n_i + 5 e`                                .8
    Norepinephrine      :math:`\log x = \log .15 + .7 v + .25 n_i + .2 e`             .35
    Lactate             :math:`\log x = .8 + .45 d (2t/H - 1) + .3 n_i + .2 e`        .25, flat
    Na, K, Glucose      :math:`n_i` and :math:`e` only                                :math:`.12 e^{.2 s}`
    Creatinine          :math:`\log x = .1 + .45 k + .1 n_i + .1 e`                   with Na
    BUN                 :math:`\log x = 3 + .4 k + .2 n_i + .15 e`                    with Na
    Troponin            :math:`\log x = -1.5 + e`; ordered with                       if ordered,
                        :math:`P = \sigma(1.6 s - 1)`                                 1 + Poisson(1)
    Suction, ChestXRay  none (presence only)                                          :math:`.1 e^{.5 s}, .04 e^{.3 s}`
    BetaBlocker         none: the treatment, at :math:`t_a` uniform in .15 H to .6 H  once
    Rhythm              text; atrial fibrillation with probability .7 if r, else .04  .25
    Noise..             log-normal                                                    .3 to .01
    ==================  ============================================================  ============

    Times are whole minutes, busier after admission and by the hour of the day, except for lactate:
    its times are uniform and its rate is the same for all, so that a falling course is a rising one
    read backwards and mean, minimum, maximum, spread and count are distributed alike for both
    values of :math:`d`. Blood pressure and vasopressor are each independent of the outcome: low
    pressure on little drug and high pressure on much drug are the bad combinations (:math:`m v =
    1`). The values of one chemistry panel share a timestamp, those of one round of vital signs too.
    `n_noise_codes` and `missing` change neither latent states nor labels nor the other codes.

    Examples
    --------
    >>> from tawt_sklearn.datasets import make_icu_stays
    >>> X, y = make_icu_stays(200, random_state=0)
    >>> X.columns.tolist()
    ['age', 'sex', 'unit', 'events']
    >>> X.index.equals(y.index)
    True
    >>> truth = make_icu_stays(200, random_state=0, return_long=True)
    >>> truth.effects["trend"]
    1.2
    """  # noqa: E501
    _check_parameters(n_samples, horizon, n_noise_codes, missing, prevalence, empty_fraction)
    coefficients = _resolve_effects(effects, categorical)
    # One stream per block: leaving a block out does not change the others.
    streams = iter(_spawn(random_state, 10))

    clock = blocks.Clock(float(horizon))
    cohort = blocks.draw_cohort(
        next(streams),
        n_samples,
        horizon=clock.horizon,
        confounding=confounding,
        p_empty=empty_fraction,
        informative=missing == "informative",
    )
    intercept = blocks.intercept_for(prevalence, coefficients, confounding)
    eta = intercept + blocks.log_odds(cohort, coefficients)
    died = (next(streams).random(n_samples) < expit(eta)).astype(np.int64)

    log = blocks.EventLog()
    blocks.add_vitals(log, next(streams), clock, cohort, coefficients["treatment_heart_rate"])
    blocks.add_circulation(log, next(streams), clock, cohort)
    blocks.add_lactate(log, next(streams), clock, cohort)
    blocks.add_laboratory(log, next(streams), clock, cohort)
    blocks.add_procedures(log, next(streams), clock, cohort)
    age_missing = next(streams).random(n_samples) < P_AGE_MISSING
    rhythm_stream, noise_stream = next(streams), next(streams)
    if categorical:
        blocks.add_rhythm(log, rhythm_stream, clock, cohort)
    blocks.add_noise(log, noise_stream, clock, cohort, n_noise_codes)

    index = pd.RangeIndex(1, n_samples + 1, name="subject_id")
    events = log.frame(index.to_numpy(), with_text=categorical)
    static = pd.DataFrame(
        {
            "age": np.where(age_missing, np.nan, cohort.age),
            "sex": np.where(cohort.female, "female", "male"),
            "unit": np.asarray(blocks.UNITS)[cohort.unit],
        },
        index=index,
    )
    y = pd.Series(died, index=index, name="died")
    if not return_long:
        from tawt_sklearn.events.ingest import nest_events

        X = nest_events(
            events,
            subject="subject_id",
            time="time",
            code="code",
            value="value",
            text="text" if categorical else None,
            static=static,
            until=clock.horizon,
        )
        return X, y
    return Bunch(
        events=events,
        static=static,
        y=y,
        true_probability=pd.Series(expit(eta), index=index, name="true_probability"),
        effects={
            **coefficients,
            "intercept": intercept,
            "treatment_risk_difference": _risk_difference(eta, cohort, coefficients),
        },
        latent=_latent_frame(cohort, index),
        horizon=clock.horizon,
        DESCR=load_description("icu_stays.rst"),
    )


def _check_parameters(
    n_samples: int,
    horizon: float,
    n_noise_codes: int,
    missing: str,
    prevalence: float,
    empty_fraction: float,
) -> None:
    for name, value, least in (("n_samples", n_samples, 1), ("n_noise_codes", n_noise_codes, 0)):
        if not isinstance(value, numbers.Integral) or value < least:
            raise ValueError(f"{name} must be a whole number of at least {least}. Got {value!r}.")
    if not 1 <= horizon < np.inf:
        raise ValueError(f"horizon must be at least one hour, and finite. Got {horizon!r}.")
    if missing not in ("informative", "random"):
        raise ValueError(f"missing must be 'informative' or 'random'. Got {missing!r}.")
    if not 0 < prevalence < 1:
        raise ValueError(f"prevalence must lie between 0 and 1. Got {prevalence!r}.")
    if not 0 <= empty_fraction <= 1:
        raise ValueError(f"empty_fraction must lie in [0, 1]. Got {empty_fraction!r}.")


def _resolve_effects(effects: Mapping[str, float] | None, categorical: bool) -> dict[str, float]:
    unknown = sorted(set(effects or ()) - set(DEFAULT_EFFECTS))
    if unknown:
        raise ValueError(
            f"effects may name {', '.join(DEFAULT_EFFECTS)}. Got {', '.join(map(str, unknown))}."
        )
    resolved = {name: float(size) for name, size in {**DEFAULT_EFFECTS, **(effects or {})}.items()}
    if not categorical:
        resolved["rhythm"] = 0.0
    return resolved


def _spawn(
    random_state: int | np.random.RandomState | np.random.Generator | None, n_streams: int
) -> list[np.random.Generator]:
    """Independent generators; scikit-learn's RandomState is accepted as a source of seeds."""
    if isinstance(random_state, np.random.RandomState):
        random_state = int(random_state.randint(np.iinfo(np.int32).max))
    source = np.random.default_rng(random_state)
    return [np.random.default_rng(seed) for seed in source.integers(2**63, size=n_streams)]


def _risk_difference(
    eta: np.ndarray, cohort: blocks.Cohort, coefficients: dict[str, float]
) -> float:
    untreated = eta - coefficients["treatment"] * cohort.treated
    return float(np.mean(expit(untreated + coefficients["treatment"]) - expit(untreated)))


def _latent_frame(cohort: blocks.Cohort, index: pd.Index) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "severity": cohort.severity,
            "kidney": cohort.kidney,
            "trend": cohort.trend,
            "pressure": cohort.pressure,
            "vasopressor": cohort.vasopressor,
            "rhythm": cohort.irregular,
            "age": cohort.age,
            "unit_medical": (cohort.unit == 0).astype(float),
            "treatment": cohort.treated,
            "treatment_time": cohort.treatment_time,
        },
        index=index,
    )
