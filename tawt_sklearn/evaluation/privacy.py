"""Are synthetic subjects nearer to those the generator has seen than to others?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from tawt_sklearn.evaluation._frames import Histories, read_histories
from tawt_sklearn.evaluation._neighbours import (
    Space,
    check_draws,
    check_enough,
    equal_draws,
    nearest,
)
from tawt_sklearn.evaluation.measure import Measure, RandomState, generator, measured

NAMES = ("train", "test", "synthetic")


def distance_to_closest_record(
    train: Any,
    test: Any,
    synthetic: Any,
    *,
    n_draws: int = 5,
    n_bootstrap: int = 200,
    random_state: RandomState = None,
) -> Measure:
    """Share of synthetic subjects nearer to training subjects than to others: .5 is the ideal.

    More means that the generator remembers.  Passing proves little ("The DCR Delusion"): look at
    :func:`membership_inference_score` as well.

    Parameters
    ----------
    train, test, synthetic : DataFrame or array
        One row per subject; anything :func:`~tawt_sklearn.as_events` takes.  The test subjects
        come from the same population and were not seen by the generator.
    n_draws : int, default=5
        Training and test subjects are drawn in equal numbers this often, and results averaged.
    n_bootstrap : int, default=200
        Resamples of the synthetic subjects for the interval, 0 for none.
    random_state : int, RandomState, Generator or None, default=None
        Drives the draws and resamples.

    Returns
    -------
    Measure
        ``value``: that share, ties counting half.  ``details``, a Series: the same as
        ``share_nearer_to_train``; ``median_ratio``, median distance to train / to test (below 1:
        nearer to train); ``train_5th_percentile`` and ``test_5th_percentile`` of the distances;
        ``copies_of_train`` and ``copies_of_test``, shares of synthetic subjects whose events are
        exactly those of one there (subjects without events do not count).

    Raises
    ------
    DataError
        Tokenised events, fewer than two subjects, static columns that differ.

    Notes
    -----
    The distance is Euclidean between :func:`subject_features` standardised by the training
    subjects, undefined ones at the mean and with an indicator.

    References
    ----------
    Yao et al., "The DCR Delusion: Measuring the Privacy Risk of Synthetic Data", 2025.

    Examples
    --------
    >>> from tawt_sklearn.datasets import make_icu_stays
    >>> from tawt_sklearn.evaluation import subject_bootstrap
    >>> X, _ = make_icu_stays(200, empty_fraction=0.0, random_state=0)
    >>> copies = subject_bootstrap(X[:100], random_state=0)
    >>> distance_to_closest_record(X[:100], X[100:], copies, random_state=0)
    Measure(1.000 [1.000, 1.000])
    """
    n_draws = check_draws(n_draws)
    rng = generator(random_state)
    learned, held_out, made = read_histories(train, test, synthetic, names=NAMES)
    check_enough(("train", learned), ("test", held_out))
    space = Space.of(learned)
    points = space.points(made)
    draws = equal_draws((len(learned), len(held_out)), n_draws, rng)
    to_train = nearest(points, space.points(learned), [draw[0] for draw in draws])
    to_test = nearest(points, space.points(held_out), [draw[1] for draw in draws])
    nearer = ((to_train < to_test) + 0.5 * (to_train == to_test)).mean(axis=0)
    medians = np.median(to_train), np.median(to_test)
    details = {
        "share_nearer_to_train": nearer.mean(),
        "median_ratio": medians[0] / medians[1] if medians[1] else float("nan"),
        "train_5th_percentile": np.quantile(to_train, 0.05),
        "test_5th_percentile": np.quantile(to_test, 0.05),
        "copies_of_train": _copies(made, learned),
        "copies_of_test": _copies(made, held_out),
    }
    return measured(
        lambda weight: float(np.average(nearer, weights=weight)),
        (len(made),),
        n_bootstrap=n_bootstrap,
        rng=rng,
        details=pd.Series(details, name="distance_to_closest_record", dtype=np.float64),
    )


def _copies(made: Histories, of: Histories) -> float:
    """Share of subjects with exactly the events of another."""
    same = np.isin(made.hashes(), of.hashes()) & (made.lengths > 0)
    return float(same.mean())


def nearest_neighbour_adversarial_accuracy(
    train: Any,
    test: Any,
    synthetic: Any,
    *,
    n_draws: int = 5,
    n_bootstrap: int = 200,
    random_state: RandomState = None,
) -> Measure:
    """Privacy loss: how much better synthetic subjects hide among training ones; 0 is the ideal.

    The adversarial accuracy of two samples is that of telling them apart by whether the nearest
    neighbour is of the own sample: .5 where they are alike, 0 where one is a copy of the other.

    Parameters
    ----------
    train, test, synthetic, n_draws, random_state : as in :func:`distance_to_closest_record`
    n_bootstrap : int, default=200
        Resamples of the subjects of all three, with the neighbours they have, 0 for no interval.

    Returns
    -------
    Measure
        ``value``: accuracy against test less that against train (above 0: training subjects have
        been remembered).  ``details``, a Series: ``aa_train``, ``aa_test``, ``privacy_loss``.

    Raises
    ------
    DataError
        Tokenised events, fewer than two subjects, static columns that differ.

    Notes
    -----
    With T real and S synthetic subjects, equally many, it is
    ``(P(d_TS > d_TT) + P(d_ST > d_SS)) / 2``, ties counting half.

    References
    ----------
    Yale et al., "Generation and evaluation of privacy preserving synthetic health data",
    Neurocomputing 2020.

    Examples
    --------
    >>> from tawt_sklearn.datasets import make_icu_stays
    >>> X, _ = make_icu_stays(200, empty_fraction=0.0, random_state=0)
    >>> nearest_neighbour_adversarial_accuracy(
    ...     X[:100], X[100:], X[:100], random_state=0).value > 0.4
    True
    """
    n_draws = check_draws(n_draws)
    rng = generator(random_state)
    learned, held_out, made = read_histories(train, test, synthetic, names=NAMES)
    check_enough(("train", learned), ("test", held_out), ("synthetic", made))
    space = Space.of(learned)
    points = [space.points(one) for one in (learned, held_out, made)]
    sizes = len(learned), len(held_out), len(made)
    wins = [
        (draw, *(_adversary(points[k][draw[k]], points[2][draw[2]]) for k in (0, 1)))
        for draw in equal_draws(sizes, n_draws, rng)
    ]

    def accuracies(*weights: np.ndarray) -> np.ndarray:
        """Of train and of test, mean over the draws."""
        result = np.zeros(2)
        for draw, *both in wins:
            for k, (of_real, of_made) in enumerate(both):
                real_weight, made_weight = weights[k][draw[k]], weights[2][draw[2]]
                result[k] += np.average(of_real, weights=real_weight) / 2
                result[k] += np.average(of_made, weights=made_weight) / 2
        return result / len(wins)

    aa_train, aa_test = accuracies(*(np.ones(size) for size in sizes))
    details = {"aa_train": aa_train, "aa_test": aa_test, "privacy_loss": aa_test - aa_train}

    def privacy_loss(*weights: np.ndarray) -> float:
        if any(weights[k][draw[k]].sum() == 0 for draw, *_ in wins for k in range(3)):
            return float("nan")
        first, second = accuracies(*weights)
        return float(second - first)

    return measured(
        privacy_loss,
        sizes,
        n_bootstrap=n_bootstrap,
        rng=rng,
        bounds=(-1.0, 1.0),
        details=pd.Series(details, name="nearest_neighbour_adversarial_accuracy"),
    )


def _adversary(real: np.ndarray, made: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whose nearest neighbour is of the own sample, of real and of synthetic subjects; (N,)."""
    sides = []
    for own, other in ((real, made), (made, real)):
        away, within = nearest(own, other)[0], nearest(own, own, themselves=True)[0]
        sides.append((away > within) + 0.5 * (away == within))
    return sides[0], sides[1]
