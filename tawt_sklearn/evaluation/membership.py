"""Attacks that guess who was in the training data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.neighbors import KernelDensity

from tawt_sklearn.evaluation._frames import read_histories
from tawt_sklearn.evaluation._neighbours import Space, check_enough, nearest
from tawt_sklearn.evaluation._statistics import weighted_auc
from tawt_sklearn.evaluation.measure import Measure, RandomState, generator, measured
from tawt_sklearn.exceptions import DataError

MAX_FPR = 0.01
"""False positive rate at which attacks are told apart: an attacker wants to be sure."""


def membership_inference_score(
    train: Any,
    test: Any,
    synthetic: Any,
    *,
    log_prob: Callable[[pd.DataFrame], Any] | None = None,
    n_components: int = 5,
    n_bootstrap: int = 200,
    random_state: RandomState = None,
) -> Measure:
    """AUC of attacks that tell training subjects from others: .5 is the ideal.

    Parameters
    ----------
    train, test, synthetic : DataFrame or array
        One row per subject; anything :func:`~tawt_sklearn.as_events` takes.  The test subjects
        come from the same population and were not seen by the generator.
    log_prob : callable, default=None
        Takes a frame and returns the log-likelihood of each subject under the generator, (B,):
        the strongest attack, for which the generator itself is needed.
    n_components : int, default=5
        Principal components in which densities are estimated.
    n_bootstrap : int, default=200
        Resamples of training and test subjects for the interval, 0 for none.
    random_state : int, RandomState, Generator or None, default=None
        Drives the split of the test subjects and the resamples.

    Returns
    -------
    Measure
        ``value``: AUC of the distance attack.  ``details``: a row per attack with ``auc`` and
        ``tpr_at_1pct_fpr``, the share of training subjects found when 1 % of the others are
        accused:

        - ``distance``: nearer to the nearest synthetic subject;
        - ``density``: denser among synthetic than among other real subjects, which half of the
          test subjects stand for (NaN with fewer than 20 of these);
        - ``likelihood``, with `log_prob`.

    Raises
    ------
    DataError
        Tokenised events, fewer than two subjects, static columns that differ, log-likelihoods that
        are not one number per subject.

    Notes
    -----
    Distances as in :func:`distance_to_closest_record`.  Neither figure depends on how many subjects
    of each kind there are, so that all take part.

    References
    ----------
    Hayes et al., "LOGAN: Membership Inference Attacks Against Generative Models", 2019; van
    Breugel et al., "Membership Inference Attacks against Synthetic Data through Overfitting
    Detection" (DOMIAS), AISTATS 2023.

    Examples
    --------
    >>> from tawt_sklearn.datasets import make_icu_stays
    >>> from tawt_sklearn.evaluation import subject_bootstrap
    >>> X, _ = make_icu_stays(200, random_state=0)
    >>> copies = subject_bootstrap(X[:100], random_state=0)
    >>> membership_inference_score(X[:100], X[100:], copies, random_state=0).value > 0.7
    True
    """
    if not (isinstance(n_components, int | np.integer) and n_components > 0):
        raise DataError(
            f"Expected n_components to be a whole number above 0. Got {n_components!r}."
        )
    rng = generator(random_state)
    learned, held_out, made = read_histories(
        train, test, synthetic, names=("train", "test", "synthetic")
    )
    check_enough(("train", learned), ("test", held_out))
    space = Space.of(learned)
    members, others, points = (space.points(one) for one in (learned, held_out, made))
    near = -nearest(members, points)[0], -nearest(others, points)[0]
    attacks = {
        "distance": near,
        "density": _density_scores(members, others, points, n_components, rng),
    }
    if log_prob is not None:
        # Columns in the order of the training data, which a model may insist on.
        frames = learned.frame, held_out.frame[learned.frame.columns]
        attacks["likelihood"] = _checked(log_prob, frames[0]), _checked(log_prob, frames[1])
    rows = {name: _figures(*scores) for name, scores in attacks.items()}
    details = pd.DataFrame.from_dict(rows, orient="index", columns=["auc", "tpr_at_1pct_fpr"])
    return measured(
        lambda *weights: weighted_auc(*near, *weights),
        (len(learned), len(held_out)),
        n_bootstrap=n_bootstrap,
        rng=rng,
        details=details.rename_axis("attack"),
    )


def _density_scores(
    members: np.ndarray,
    others: np.ndarray,
    synthetic: np.ndarray,
    n_components: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Log ratio of densities of members, and of the others that are no reference."""
    order = rng.permutation(len(others))
    reference, accused = others[order[: len(order) // 2]], others[order[len(order) // 2 :]]
    if len(reference) < 10 or len(synthetic) < 10:
        return np.empty(0), np.empty(0)
    k = min(n_components, *reference.shape)
    project = PCA(k, whiten=True, svd_solver="full").fit(reference)
    keep = project.explained_variance_ > 1e-9
    densities = []
    for sample in (synthetic, reference):
        low = project.transform(sample)[:, keep]
        # Scott's rule, in whitened coordinates.
        width = len(low) ** (-1 / (low.shape[1] + 4))
        densities.append(KernelDensity(bandwidth=width).fit(low))
    scores = []
    for who in (members, accused):
        low = project.transform(who)[:, keep]
        dense, usual = (density.score_samples(low) for density in densities)
        scores.append(dense - usual)
    return scores[0], scores[1]


def _figures(members: np.ndarray, others: np.ndarray) -> tuple[float, float]:
    """AUC, and the share of members above all but 1 % of the others."""
    if not len(members) or not len(others):
        return float("nan"), float("nan")
    auc = weighted_auc(members, others, np.ones(len(members)), np.ones(len(others)))
    allowed = int(np.floor(MAX_FPR * len(others)))
    threshold = np.sort(others)[::-1][allowed]  # so many others, or fewer, are above it
    return auc, float(np.mean(members > threshold))


def _checked(log_prob: Callable[[pd.DataFrame], Any], frame: pd.DataFrame) -> np.ndarray:
    scores = np.asarray(log_prob(frame), dtype=np.float64)
    if scores.shape != (len(frame),) or np.isnan(scores).any():
        got = f"shape {scores.shape}" if scores.shape != (len(frame),) else "NaN"
        raise DataError(
            f"Expected log_prob to return one number for each of {len(frame)} subjects. Got {got}. "
            "Sum the log-likelihoods of the events of a subject."
        )
    return scores
