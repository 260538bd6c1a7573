"""Every check that scikit-learn has for estimators, on numbers; none excused, none left out."""

from __future__ import annotations

from sklearn.utils.estimator_checks import parametrize_with_checks

from tawt_sklearn import (
    SequenceSynthesizer,
    TimeAwareClassifier,
    TimeAwareEncoder,
    TimeAwareRegressor,
)

# Small and quick to train; checks with enough rows also ask for accuracy.
QUICK = {
    "d_model": 8,
    "n_heads": 2,
    "n_layers": 1,
    "n_ensemble": 1,
    "max_epochs": 5,
    "min_steps": 60,
    "batch_size": 32,
    "learning_rate": 1e-2,
    "dropout": 0.0,
    "code_dropout": 0.0,
    "window_dropout": 0.0,
}


ENCODER = {
    "d_model": 8,
    "n_heads": 2,
    "n_layers": 1,
    "d_embedding": 8,
    "max_epochs": 2,
    "min_steps": 8,
    "batch_size": 32,
}


SYNTHESIZER = {
    "d_model": 8,
    "n_heads": 2,
    "n_layers": 1,
    "d_latent": 3,
    "n_windows": 4,
    "max_epochs": 1,
}


@parametrize_with_checks(
    [
        TimeAwareClassifier(**QUICK),
        TimeAwareRegressor(**QUICK),
        TimeAwareEncoder(**ENCODER),
        SequenceSynthesizer(**SYNTHESIZER),
    ]
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)
