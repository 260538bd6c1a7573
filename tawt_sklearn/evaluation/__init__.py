"""Fidelity, utility and privacy of synthetic event histories.

Every measure takes frames with one row per subject, real and synthetic, resamples subjects (never
events) and returns a :class:`Measure`.  No single one suffices: show several, each beside the same
measure of real subjects that were held out, of :func:`subject_bootstrap`, a copy that must fail
privacy, and of :func:`independent_marginals`, which must fail fidelity.
"""

from tawt_sklearn.evaluation.correlation import correlation_fidelity
from tawt_sklearn.evaluation.discrimination import discriminative_score
from tawt_sklearn.evaluation.dynamics import autocorrelation_fidelity, transition_fidelity
from tawt_sklearn.evaluation.expert_sheet import ExpertScore, ExpertSheet, expert_sheet
from tawt_sklearn.evaluation.features import subject_features
from tawt_sklearn.evaluation.intervals import interval_fidelity
from tawt_sklearn.evaluation.marginals import marginal_fidelity
from tawt_sklearn.evaluation.measure import Measure
from tawt_sklearn.evaluation.membership import membership_inference_score
from tawt_sklearn.evaluation.presence import co_measurement, missingness_fidelity
from tawt_sklearn.evaluation.privacy import (
    distance_to_closest_record,
    nearest_neighbour_adversarial_accuracy,
)
from tawt_sklearn.evaluation.references import independent_marginals, subject_bootstrap
from tawt_sklearn.evaluation.report import SynthesisReport
from tawt_sklearn.evaluation.utility import trtr_score, tstr_score

__all__ = [
    "ExpertScore",
    "ExpertSheet",
    "Measure",
    "SynthesisReport",
    "autocorrelation_fidelity",
    "co_measurement",
    "correlation_fidelity",
    "discriminative_score",
    "distance_to_closest_record",
    "expert_sheet",
    "independent_marginals",
    "interval_fidelity",
    "marginal_fidelity",
    "membership_inference_score",
    "missingness_fidelity",
    "nearest_neighbour_adversarial_accuracy",
    "subject_bootstrap",
    "subject_features",
    "transition_fidelity",
    "trtr_score",
    "tstr_score",
]
