"""The simulated cohort holds exactly the signals that its documentation promises."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal, assert_series_equal
from scipy.stats import ks_2samp
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tawt_sklearn.datasets import make_icu_stays

LINEAR = make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression())
TREES = HistGradientBoostingClassifier(max_iter=30, max_depth=3, random_state=0)
ORDER_FREE = ["mean", "min", "max", "std", "count"]
# Out-of-fold AUROC of a model that has nothing to find, 4,000 stays: sd about .011
CHANCE = (0.46, 0.54)


@pytest.fixture(scope="module")
def cohort():
    return make_icu_stays(4000, random_state=7, return_long=True)


@pytest.fixture(scope="module")
def summaries(cohort):
    """Order-free statistics per stay: ``summaries(code)``."""

    def summarise(code: str) -> pd.DataFrame:
        values = cohort.events[cohort.events["code"] == code].groupby("subject_id")["value"]
        return values.agg(ORDER_FREE).reindex(cohort.y.index)

    return summarise


def count_codes(cohort) -> pd.DataFrame:
    """How often each code was measured; the treatment is no measurement."""
    per_code = cohort.events.groupby(["subject_id", "code"], observed=False).size().unstack()
    per_code.columns = per_code.columns.astype(str)
    return per_code.reindex(cohort.y.index, fill_value=0).drop(columns="BetaBlocker")


@pytest.fixture(scope="module")
def counts(cohort):
    return count_codes(cohort)


def auroc(model, features, y) -> float:
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    score = cross_val_predict(clone(model), features, y, cv=folds, method="predict_proba")
    return roc_auc_score(y, score[:, 1])


def is_chance(score: float) -> bool:
    return CHANCE[0] < score < CHANCE[1]


def slope(cohort, code: str) -> pd.Series:
    """Least-squares slope in time of each stay's values."""
    rows = cohort.events[cohort.events["code"] == code].astype({"value": float})
    groups = rows.groupby("subject_id")
    time = rows["time"] - groups["time"].transform("mean")
    value = rows["value"] - groups["value"].transform("mean")
    by = rows["subject_id"]
    fitted = (time * value).groupby(by).sum() / (time**2).groupby(by).sum()
    return fitted.reindex(cohort.y.index).fillna(0.0)


# Form


def test_nested_form():
    X, y = make_icu_stays(300, random_state=0)
    assert X.columns.tolist() == ["age", "sex", "unit", "events"]
    assert X.index.equals(y.index)
    assert X.index.name == "subject_id"
    assert y.dtype.kind == "i"
    assert set(y) == {0, 1}
    assert X["age"].between(18, 95).sum() + X["age"].isna().sum() == 300
    assert 0 < X["age"].isna().mean() < 0.15
    assert set(X["sex"]) == {"female", "male"}
    assert set(X["unit"]) == {"medical", "surgical", "cardiac"}
    np.testing.assert_array_equal(X["events"].events.end, 48.0)


def test_nested_and_long_hold_the_same():
    X, y = make_icu_stays(60, random_state=3)
    truth = make_icu_stays(60, random_state=3, return_long=True)
    assert_series_equal(y, truth.y)
    assert_frame_equal(X[["age", "sex", "unit"]], truth.static)
    nested = X["events"].events.to_long()
    for column in ("subject_id", "time", "value"):
        np.testing.assert_array_equal(nested[column], truth.events[column])
    for column in ("code", "text"):
        assert nested[column].astype(object).equals(truth.events[column].astype(object))


def test_events_are_in_order_and_inside_the_stay(cohort):
    events = cohort.events
    assert events["time"].between(0, 48).all()
    assert not events.isna()[["subject_id", "time", "code"]].any(axis=None)
    order = events.sort_values(["subject_id", "time"], kind="stable").index
    assert order.equals(events.index)
    minutes = events["time"] * 60
    np.testing.assert_allclose(minutes, minutes.round(), atol=1e-9)


def test_about_250_irregular_events_per_stay(cohort):
    per_stay = cohort.events.groupby("subject_id").size()
    assert 200 < per_stay.median() < 320
    assert per_stay.std() > 30
    early = (cohort.events["time"] < 12).mean()
    assert early > 0.3, "busier after admission than later"


def test_chemistry_shares_its_timestamps(cohort):
    panel = cohort.events[cohort.events["code"].isin(["Na", "K", "Creatinine", "BUN"])]
    together = panel.groupby(["subject_id", "time"])["code"].nunique()
    assert (together >= 3).mean() > 0.95


def test_kinds_of_codes(cohort):
    by_code = cohort.events.groupby("code", observed=True)
    share = by_code["value"].count() / by_code.size()
    presence = {"Suction", "ChestXRay", "BetaBlocker", "Rhythm"}
    assert set(share.index[share == 0]) == presence
    assert 0.95 < share["SpO2"] < 0.995, "some values got lost"
    assert (share.drop([*presence, "SpO2"]) == 1).all()
    words = cohort.events["text"].notna()
    assert (cohort.events["code"][words] == "Rhythm").all()
    assert set(cohort.events["text"].dropna()) >= {"sinus", "atrial fibrillation", "paced"}
    assert by_code.size()["HR"] > 20 * by_code.size()["Noise05"]


def test_some_stays_have_no_events():
    X, _ = make_icu_stays(1000, random_state=0)
    assert 0 < (X["events"].events.lengths == 0).sum() < 40
    assert not X["events"].isna().any(), "an empty history is not a missing one"
    X, _ = make_icu_stays(200, empty_fraction=0.0, random_state=0)
    assert (X["events"].events.lengths > 0).all()
    X, y = make_icu_stays(20, empty_fraction=1.0, random_state=0)
    assert (X["events"].events.lengths == 0).all()
    assert len(y) == 20


def test_without_words():
    truth = make_icu_stays(100, categorical=False, random_state=0, return_long=True)
    assert "text" not in truth.events
    assert "Rhythm" not in set(truth.events["code"])
    assert truth.effects["rhythm"] == 0
    X, _ = make_icu_stays(100, categorical=False, random_state=0)
    assert not X["events"].events.texts.size


@pytest.mark.parametrize("horizon", [1.0, 6.5, 200])
def test_other_horizons(horizon):
    X, _ = make_icu_stays(50, horizon=horizon, random_state=0)
    assert X["events"].events.flat("time").max() <= horizon
    np.testing.assert_array_equal(X["events"].events.end, horizon)


def test_one_stay():
    X, y = make_icu_stays(1, random_state=0)
    assert X.shape == (1, 4)
    assert y.shape == (1,)


# Randomness


@pytest.mark.parametrize("make", [int, np.random.RandomState, np.random.default_rng])
def test_same_random_state_same_cohort(make):
    first, second, other = (
        make_icu_stays(40, random_state=make(seed), return_long=True) for seed in (5, 5, 6)
    )
    assert_frame_equal(first.events, second.events)
    assert_series_equal(first.y, second.y)
    assert len(other.events) != len(first.events)


def test_global_random_state_is_untouched():
    state = np.random.get_state()  # noqa: NPY002
    first = make_icu_stays(40, return_long=True)
    second = make_icu_stays(40, return_long=True)
    after = np.random.get_state()  # noqa: NPY002
    assert len(first.events) != len(second.events)
    assert state[0] == after[0]
    np.testing.assert_array_equal(state[1], after[1])
    assert state[2:] == after[2:]


def test_noise_codes_and_missingness_change_nothing_else():
    plain = make_icu_stays(200, random_state=1, return_long=True)
    quiet = make_icu_stays(200, n_noise_codes=0, random_state=1, return_long=True)
    assert_series_equal(plain.true_probability, quiet.true_probability)
    assert_series_equal(plain.y, quiet.y)
    is_noise = plain.events["code"].astype(str).str.startswith("Noise")
    assert is_noise.any()
    kept = plain.events[~is_noise].reset_index(drop=True).astype({"code": str})
    assert_frame_equal(kept, quiet.events.astype({"code": str}))

    other = make_icu_stays(200, missing="random", random_state=1, return_long=True)
    assert_series_equal(plain.y, other.y)
    assert_frame_equal(plain.latent, other.latent)


# The rule


def test_best_possible_auroc(cohort):
    assert 0.85 < roc_auc_score(cohort.y, cohort.true_probability) < 0.95


@pytest.mark.parametrize("prevalence", [0.05, 0.25, 0.6])
def test_prevalence(prevalence):
    truth = make_icu_stays(4000, prevalence=prevalence, random_state=0, return_long=True)
    assert truth.true_probability.mean() == pytest.approx(prevalence, abs=0.015)
    assert truth.y.mean() == pytest.approx(prevalence, abs=0.03)


def standard_errors(design: np.ndarray, probability: np.ndarray) -> np.ndarray:
    weight = probability * (1 - probability)
    return np.sqrt(np.diag(np.linalg.inv(design.T @ (design * weight[:, None]))))


def test_true_coefficients_can_be_estimated_back(cohort):
    latent = cohort.latent
    design = pd.DataFrame({
        "severity": latent["severity"],
        "kidney": latent["kidney"],
        "trend": latent["trend"],
        "interaction": latent["pressure"] * latent["vasopressor"],
        "rhythm": latent["rhythm"],
        "age": (latent["age"] - 64) / 15,
        "unit_medical": latent["unit_medical"],
        "treatment": latent["treatment"],
        "intercept": 1.0,
    })  # fmt: skip
    model = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-8, max_iter=500)
    found = model.fit(design, cohort.y).coef_[0]
    expected = np.array([cohort.effects[name] for name in design])
    error = standard_errors(design.to_numpy(), cohort.true_probability.to_numpy())
    assert (np.abs(found - expected) < 4 * error).all()


def test_order_free_statistics_of_lactate_say_nothing(cohort, summaries):
    lactate = summaries("Lactate")
    for target in (cohort.y, cohort.latent["trend"] > 0):
        assert is_chance(auroc(LINEAR, lactate, target))
        assert is_chance(auroc(TREES, lactate, target))
    rises = cohort.latent["trend"] > 0
    for statistic in ORDER_FREE:
        column = lactate[statistic].dropna()
        assert ks_2samp(column[rises], column[~rises]).pvalue > 1e-3


def test_slope_of_lactate_says_much(cohort):
    found = slope(cohort, "Lactate")
    observed = cohort.events["subject_id"].unique()
    assert roc_auc_score(cohort.latent["trend"].loc[observed] > 0, found.loc[observed]) > 0.98
    assert roc_auc_score(cohort.y, found) > 0.62


def test_pressure_and_vasopressor_matter_only_together(cohort, summaries):
    pressure, dose = summaries("MAP"), summaries("Norepinephrine").add_suffix("_dose")
    for alone in (pressure, dose):
        assert is_chance(auroc(LINEAR, alone, cohort.y))
        assert is_chance(auroc(TREES, alone, cohort.y))
    both = pd.concat([pressure, dose], axis=1)
    assert is_chance(auroc(LINEAR, both, cohort.y)), "no linear model sees it"
    assert auroc(TREES, both, cohort.y) > 0.62
    product = (pressure["mean"] - 75) * np.log(dose["mean_dose"] / 0.15)
    assert auroc(LINEAR, product.to_frame("product"), cohort.y) > 0.65


def test_missingness_alone_says_something(cohort, counts):
    assert auroc(LINEAR, counts, cohort.y) > 0.6
    ordered = counts["Troponin"] > 0
    assert cohort.y[ordered].mean() > cohort.y[~ordered].mean() + 0.1


def test_random_missingness_says_nothing(cohort, counts):
    other = make_icu_stays(4000, missing="random", random_state=7, return_long=True)
    table = count_codes(other)
    assert is_chance(auroc(LINEAR, table, other.y))
    for code in ("HR", "Troponin", "Suction"):
        assert table[code].mean() == pytest.approx(counts[code].mean(), rel=0.1)


def test_value_of_troponin_says_nothing_its_order_does(cohort, summaries):
    value = summaries("Troponin")["mean"].dropna()
    assert is_chance(roc_auc_score(cohort.y[value.index], value))


def test_noise_is_noise(cohort, summaries):
    assert is_chance(auroc(TREES, summaries("Noise00"), cohort.y))


def test_levels_and_words_say_something(cohort, summaries):
    assert auroc(LINEAR, summaries("Creatinine"), cohort.y) > 0.58
    irregular = cohort.events["text"] == "atrial fibrillation"
    share = irregular.groupby(cohort.events["subject_id"]).sum().reindex(cohort.y.index).fillna(0)
    assert roc_auc_score(cohort.y, share) > 0.53


def test_everything_together_comes_near_the_best(cohort, summaries, counts):
    """What is recorded is enough: hand-made features that fit the rule reach most of it."""
    irregular = cohort.events["text"] == "atrial fibrillation"
    treated = cohort.events["subject_id"][cohort.events["code"] == "BetaBlocker"]
    features = pd.DataFrame({
        "slope": np.sign(slope(cohort, "Lactate")),
        "product": np.sign(summaries("MAP")["mean"] - 75)
        * np.sign(summaries("Norepinephrine")["mean"] - 0.15),
        "kidney": np.log(summaries("Creatinine")["mean"]),
        "breath": summaries("RespRate")["mean"],
        "heart": summaries("HR")["max"],
        "charted": np.log1p(counts["HR"]),
        "suction": counts["Suction"],
        "ordered": counts["Troponin"] > 0,
        "rhythm": irregular.groupby(cohort.events["subject_id"]).sum() > 3,
        "treated": cohort.y.index.isin(treated),
        "age": cohort.static["age"],
        "medical": cohort.static["unit"] == "medical",
    }, index=cohort.y.index)  # fmt: skip
    best = roc_auc_score(cohort.y, cohort.true_probability)
    assert auroc(LINEAR, features.astype(float), cohort.y) > best - 0.03


# The treatment


def test_treatment_lowers_every_later_heart_rate(cohort):
    events = cohort.events
    given = events[events["code"] == "BetaBlocker"].set_index("subject_id")["time"]
    assert given.index.is_unique
    rates = events[events["code"] == "HR"]
    rates = rates[rates["subject_id"].isin(given.index)]
    after = rates["time"] >= given.loc[rates["subject_id"]].to_numpy()
    means = rates.groupby(["subject_id", after.rename("after")])["value"].mean().unstack().dropna()
    change = (means[True] - means[False]).astype(float)
    error = change.std() / np.sqrt(len(change))
    assert change.mean() == pytest.approx(cohort.effects["treatment_heart_rate"], abs=4 * error)


def test_randomised_treatment_effect_on_death_can_be_estimated(cohort):
    treated = cohort.latent["treatment"] == 1
    assert is_chance(roc_auc_score(treated, cohort.latent["severity"]))
    found = cohort.y[treated].mean() - cohort.y[~treated].mean()
    error = np.sqrt(sum(cohort.y[group].var() / group.sum() for group in (treated, ~treated)))
    assert cohort.effects["treatment_risk_difference"] < -0.05
    assert found == pytest.approx(cohort.effects["treatment_risk_difference"], abs=4 * error)


def test_confounded_treatment_looks_worse_than_it_is():
    truth = make_icu_stays(4000, confounding=1.5, random_state=0, return_long=True)
    treated = truth.latent["treatment"] == 1
    naive = truth.y[treated].mean() - truth.y[~treated].mean()
    assert naive > truth.effects["treatment_risk_difference"] + 0.1
    design = truth.latent.drop(columns="treatment_time").assign(
        interaction=truth.latent["pressure"] * truth.latent["vasopressor"]
    )
    adjusted = LogisticRegression(C=np.inf, max_iter=500).fit(design, truth.y).coef_[0]
    assert dict(zip(design, adjusted, strict=True))["treatment"] == pytest.approx(-1.0, abs=0.4)
    assert truth.true_probability.mean() == pytest.approx(0.25, abs=0.02)


def test_effects_can_be_set():
    truth = make_icu_stays(
        4000, effects={"treatment": 0.0, "trend": -2.0}, random_state=0, return_long=True
    )
    assert truth.effects["treatment_risk_difference"] == 0
    assert truth.effects["trend"] == -2.0
    assert truth.effects["kidney"] == 0.9
    assert roc_auc_score(truth.y, -slope(truth, "Lactate")) > 0.68


def test_description_comes_along(cohort):
    assert "only the time axis" in cohort.DESCR


# Parameters


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_samples": 0}, "n_samples must be a whole number of at least 1. Got 0"),
        ({"n_samples": 10.5}, "n_samples must be a whole number of at least 1. Got 10.5"),
        ({"n_noise_codes": -1}, "n_noise_codes must be a whole number of at least 0. Got -1"),
        ({"horizon": 0}, "horizon must be at least one hour, and finite. Got 0"),
        ({"horizon": np.inf}, "horizon must be at least one hour, and finite. Got inf"),
        ({"missing": "always"}, "missing must be 'informative' or 'random'. Got 'always'"),
        ({"prevalence": 1.0}, "prevalence must lie between 0 and 1. Got 1.0"),
        ({"empty_fraction": 1.5}, r"empty_fraction must lie in \[0, 1\]. Got 1.5"),
        ({"effects": {"luck": 1.0}}, "effects may name severity, kidney.* Got luck"),
    ],
)
def test_bad_parameters(parameters, message):
    with pytest.raises(ValueError, match=message):
        make_icu_stays(**parameters)
