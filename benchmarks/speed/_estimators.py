"""Our estimator as it is timed: one network, a fixed number of epochs, nothing held out."""

from __future__ import annotations

from typing import Any

from sklearn.utils._param_validation import InvalidParameterError

from tawt_sklearn import TimeAwareClassifier


def one_network(epochs: int, **params: Any) -> TimeAwareClassifier:
    """A classifier, not fitted; parameters that are None keep their defaults.

    Raises
    ------
    NotImplementedError
        A parameter that this version of the package does not have.
    """
    given = {name: value for name, value in params.items() if value is not None}
    unknown = sorted(given.keys() - TimeAwareClassifier().get_params().keys())
    if unknown:
        raise NotImplementedError(f"not in this version of the package: {', '.join(unknown)}")
    return TimeAwareClassifier(
        max_epochs=epochs,
        min_steps=0,
        n_ensemble=1,
        early_stopping=False,
        random_state=0,
        **given,
    )


def fitted(model: TimeAwareClassifier, X: Any, y: Any) -> TimeAwareClassifier:
    """The model, fitted.

    Raises
    ------
    NotImplementedError
        A value of a parameter that this version of the package does not have.
    """
    try:
        return model.fit(X, y)
    except InvalidParameterError as error:
        raise NotImplementedError(f"not in this version of the package: {error}") from None
