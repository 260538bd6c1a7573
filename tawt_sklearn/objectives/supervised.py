"""Labels as a network sees them: what is stored, what is lost, what its scores mean.

A target knows one kind of label.  ``K`` is the number of the network's outputs, ``M`` the number
of networks in an ensemble.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_softmax, logit, logsumexp
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from torch import Tensor, nn
from torch.nn import functional as F

from tawt_sklearn.exceptions import DataError
from tawt_sklearn.objectives.labels import finite_numbers, indicators, one_label, other_shape


class Target(Protocol):
    """One kind of label."""

    per_step: ClassVar[bool]
    """Whether scores have an axis of steps."""

    @property
    def prior(self) -> NDArray[np.float64]:
        """(K,) scores to start from: those of a network that has not seen any row yet."""

    def check(self, labels: NDArray) -> NDArray:
        """Labels of further rows, (n,) or (n, K), or a DataError where they are not of the kind."""

    def encode(self, labels: NDArray) -> NDArray:
        """Checked labels as the array that training works on."""

    def decode(self, encoded: NDArray) -> NDArray:
        """The labels back, in the user's unit."""

    def strata(self, encoded: NDArray) -> NDArray[np.int64]:
        """(n,) groups that a hold-out is drawn from evenly."""

    def loss(self, scores: Tensor, encoded: Tensor) -> Tensor:
        """(B, K) scores and encoded labels of B rows -> (B,)."""

    def combine(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """(M, n, K) scores of networks -> (n, K) log-probabilities, logits or numbers."""

    def predictor(self, scores: NDArray[np.float64]) -> Any:
        """A fitted estimator, for a scorer to ask, that answers with these combined scores."""


@dataclass(frozen=True, eq=False)
class ClassTarget:
    """One of several classes; cross-entropy.

    Parameters
    ----------
    classes : (K,) array
        Labels, sorted.
    prior : (K,) array
        Logarithms of the classes' frequencies.
    """

    classes: NDArray
    prior: NDArray[np.float64]

    per_step: ClassVar[bool] = False

    @classmethod
    def fit(cls, classes: NDArray, labels: NDArray, weight: NDArray[np.float64]) -> ClassTarget:
        """Learn the frequencies of the classes, as the rows weigh."""
        encoded = np.searchsorted(classes, labels)
        frequency = np.bincount(encoded, weight, minlength=len(classes)) / weight.sum()
        # A class weight of zero leaves nothing of a class, but a logarithm needs something.
        return cls(classes, np.log(np.maximum(frequency, 1e-7)))

    def check(self, labels: NDArray) -> NDArray:
        labels = one_label(labels)
        known = np.isin(labels.astype(object), self.classes.astype(object))
        if not known.all():
            new = labels[~known]
            raise DataError(
                f"Expected the classes seen in the first fit: {self.classes.tolist()}. Got "
                f"{len(new)} labels of other classes, such as {new[:1].tolist()[0]!r}."
            )
        return labels.astype(self.classes.dtype)

    def encode(self, labels: NDArray) -> NDArray[np.int64]:
        return np.searchsorted(self.classes, labels).astype(np.int64)

    def decode(self, encoded: NDArray) -> NDArray:
        return self.classes[encoded]

    def strata(self, encoded: NDArray) -> NDArray[np.int64]:
        return encoded

    def loss(self, scores: Tensor, encoded: Tensor) -> Tensor:
        return F.cross_entropy(scores, encoded, reduction="none")

    def combine(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        averaged = log_softmax(scores, axis=-1).mean(axis=0)
        return averaged - logsumexp(averaged, axis=-1, keepdims=True)

    def predictor(self, scores: NDArray[np.float64]) -> Any:
        return _Classifier(np.exp(scores), self.classes, self.classes[scores.argmax(axis=1)])


@dataclass(frozen=True, eq=False)
class MultilabelTarget:
    """Several labels for each row, each of them there or not; binary cross-entropy.

    Parameters
    ----------
    prior : (K,) array
        Log-odds of the labels' frequencies.
    """

    prior: NDArray[np.float64]

    per_step: ClassVar[bool] = False

    @classmethod
    def fit(cls, encoded: NDArray, weight: NDArray[np.float64]) -> MultilabelTarget:
        """Learn the frequencies of the labels, as the rows weigh."""
        # Half a row of doubt: a label that every row has is not certain.
        n = len(encoded)
        return cls(logit((n * (weight @ encoded) / weight.sum() + 0.5) / (n + 1.0)))

    def check(self, labels: NDArray) -> NDArray:
        if labels.ndim != 2 or labels.shape[1] != len(self.prior):
            raise other_shape(f"(n, {len(self.prior)})", labels)
        return indicators(labels)

    def encode(self, labels: NDArray) -> NDArray[np.float32]:
        return np.ascontiguousarray(labels, dtype=np.float32)

    def decode(self, encoded: NDArray) -> NDArray[np.int64]:
        return encoded.astype(np.int64)

    def strata(self, encoded: NDArray) -> NDArray[np.int64]:
        return np.zeros(len(encoded), np.int64)

    def loss(self, scores: Tensor, encoded: Tensor) -> Tensor:
        encoded = encoded.to(scores.dtype)
        return F.binary_cross_entropy_with_logits(scores, encoded, reduction="none").mean(1)

    def combine(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        return scores.mean(axis=0)  # log-odds of the normalised geometric mean of probabilities

    def predictor(self, scores: NDArray[np.float64]) -> Any:
        return _Multilabel(scores)


@dataclass(frozen=True, eq=False)
class NumericTarget:
    """One or several numbers for each row; squared or Huber error of the standardised numbers.

    Parameters
    ----------
    center, scale : (K,) array
        Mean and standard deviation of the training rows.
    error : {"squared_error", "huber"}
        Huber's error is linear beyond one standard deviation of the labels (Huber, "Robust
        Estimation of a Location Parameter", 1964).
    one_dimensional : bool
        Whether labels come as (n,) rather than (n, K).
    """

    center: NDArray[np.float64]
    scale: NDArray[np.float64]
    error: str
    one_dimensional: bool

    per_step: ClassVar[bool] = False

    @classmethod
    def fit(cls, labels: NDArray, weight: NDArray[np.float64], error: str) -> NumericTarget:
        """Learn centre and scale, as the rows weigh."""
        numbers = labels.reshape(len(labels), -1).astype(np.float64)
        share = weight / weight.sum()
        center = share @ numbers
        away = numbers - center
        farthest = np.maximum(np.abs(away).max(axis=0), np.finfo(float).tiny)  # squares overflow
        scale = farthest * np.sqrt(share @ (away / farthest) ** 2)
        # Numbers that differ by rounding only are constant.
        varies = scale > 1e-12 * np.abs(center)
        return cls(center, np.where(varies, scale, 1.0), error, labels.ndim == 1)

    @property
    def prior(self) -> NDArray[np.float64]:
        return np.zeros(len(self.center))

    def check(self, labels: NDArray) -> NDArray:
        expected = "(n,)" if self.one_dimensional else f"(n, {len(self.center)})"
        if (labels.ndim == 1) != self.one_dimensional or labels[:1].size != len(self.center):
            raise other_shape(expected, labels)
        return finite_numbers(labels)

    def encode(self, labels: NDArray) -> NDArray[np.float32]:
        numbers = labels.reshape(len(labels), -1).astype(np.float64)
        return ((numbers - self.center) / self.scale).astype(np.float32)

    def decode(self, encoded: NDArray) -> NDArray[np.float64]:
        return self._shaped(encoded.astype(np.float64) * self.scale + self.center)

    def strata(self, encoded: NDArray) -> NDArray[np.int64]:
        return np.zeros(len(encoded), np.int64)

    def loss(self, scores: Tensor, encoded: Tensor) -> Tensor:
        error = F.mse_loss if self.error == "squared_error" else F.huber_loss
        return error(scores, encoded.to(scores.dtype), reduction="none").mean(1)

    def combine(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        return scores.mean(axis=0) * self.scale + self.center

    def answer(self, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, K) combined scores in the shape that the labels had."""
        return self._shaped(numbers)

    def predictor(self, scores: NDArray[np.float64]) -> Any:
        return _Regressor(self._shaped(scores))

    def _shaped(self, numbers: NDArray) -> NDArray:
        return numbers[:, 0] if self.one_dimensional else numbers


TARGETS = (ClassTarget, MultilabelTarget, NumericTarget)
"""All kinds of labels there are."""


class WeightedLoss(nn.Module):
    """Mean over a batch of each row's loss times its weight.

    Where a row has scores of several heads, each has a loss of its own: the last head, that of
    the patches, weighs as much as the members of the summary's head together.

    Parameters
    ----------
    target : Target
    """

    def __init__(self, target: Target) -> None:
        super().__init__()
        self.target = target

    def forward(self, scores: Tensor, truth: tuple[Tensor, Tensor]) -> Tensor:
        """(B, K) scores, or (B, M, K) of heads; encoded labels and weights (B,) -> scalar."""
        encoded, weight = truth
        if scores.dim() == 2 or self.target.per_step:
            loss = self.target.loss(scores, encoded)
        else:
            B, M, _ = scores.shape
            each = self.target.loss(scores.flatten(0, 1), encoded.repeat_interleave(M, 0))
            each = each.view(B, M)
            loss = (each[:, :-1].mean(1) + each[:, -1]) / 2
        return (weight.to(scores.dtype) * loss).mean()


class _Classifier(ClassifierMixin, BaseEstimator):
    """Answers that were already computed, in the clothes of a fitted classifier."""

    def __init__(self, probability: NDArray, classes: NDArray, winner: NDArray) -> None:
        self.probability, self.classes_, self.winner = probability, classes, winner

    def predict_proba(self, X: Any) -> NDArray:
        return self.probability

    def predict(self, X: Any) -> NDArray:
        return self.winner


class _Multilabel(ClassifierMixin, BaseEstimator):
    """The same for several labels, with log-odds (n, K)."""

    def __init__(self, scores: NDArray) -> None:
        self.scores, self.classes_ = scores, np.arange(scores.shape[1])

    def decision_function(self, X: Any) -> NDArray:
        return self.scores

    def predict_proba(self, X: Any) -> NDArray:
        return expit(self.scores)

    def predict(self, X: Any) -> NDArray:
        return (self.scores > 0).astype(np.int64)


class _Regressor(RegressorMixin, BaseEstimator):
    """Answers that were already computed, in the clothes of a fitted regressor."""

    def __init__(self, numbers: NDArray) -> None:
        self.numbers_ = numbers

    def predict(self, X: Any) -> NDArray:
        return self.numbers_
