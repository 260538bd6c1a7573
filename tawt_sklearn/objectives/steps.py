"""A label at every step of a case, of which some may be missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from tawt_sklearn.exceptions import DataError
from tawt_sklearn.objectives.supervised import ClassTarget, NumericTarget

NO_CLASS = -1
"""Encoded class of a step without label."""


@dataclass(frozen=True, eq=False)
class StepTarget:
    """Labels (n, T), the last step of each case in the last column; the loss of labelled steps.

    Parameters
    ----------
    inner : ClassTarget or NumericTarget
        What the label of one step is.
    mean_steps : float
        Labelled steps of a training case, on average: the loss of a case is the sum over its own,
        divided by that, so that every step weighs the same.
    class_weight : (K,) array, optional
        Weights of the classes.
    """

    inner: ClassTarget | NumericTarget
    mean_steps: float
    class_weight: NDArray[np.float64] | None = None

    per_step: ClassVar[bool] = True

    @classmethod
    def fit(
        cls,
        labels: NDArray,
        weight: NDArray[np.float64],
        learn: Callable[[NDArray, NDArray[np.float64]], ClassTarget | NumericTarget],
        class_weight: Callable[[ClassTarget, NDArray, NDArray], NDArray] | None = None,
    ) -> StepTarget:
        """Learn what the labels of single steps are, as their cases weigh.

        Parameters
        ----------
        labels : (n, T) array
        learn : callable
            Labels (m,) and weights (m,) of steps -> what they are.
        class_weight : callable, optional
            What they are, labels and weights -> weights of the classes.
        """
        row, step = np.nonzero(labelled(labels))
        there, weights = natural(labels[row, step]), weight[row]
        inner = learn(there, weights)
        of_class = None
        if class_weight is not None and isinstance(inner, ClassTarget):
            of_class = class_weight(inner, there, weights)
            inner = ClassTarget.fit(
                inner.classes, there, weights * of_class[np.searchsorted(inner.classes, there)]
            )
        return cls(inner, float(max(len(row) / len(labels), 1e-9)), of_class)

    @property
    def prior(self) -> NDArray[np.float64]:
        return self.inner.prior

    def check(self, labels: NDArray) -> NDArray:
        if labels.ndim != 2:
            raise DataError(
                "Expected a label at each step, (n_cases, n_timepoints), as in the last fit. Got "
                f"an array of shape {labels.shape}."
            )
        row, step = np.nonzero(labelled(labels))
        self.inner.check(natural(labels[row, step]))
        return labels

    def encode(self, labels: NDArray) -> NDArray:
        row, step = np.nonzero(labelled(labels))
        codes = self.inner.encode(self.inner.check(natural(labels[row, step])))
        if isinstance(self.inner, ClassTarget):
            encoded = np.full(labels.shape, NO_CLASS, np.int64)
            encoded[row, step] = codes
        else:
            encoded = np.full(labels.shape, np.nan, np.float32)
            encoded[row, step] = codes[:, 0]
        return encoded

    def decode(self, encoded: NDArray) -> NDArray:
        """Labels of steps (m,) that have one, in the user's unit."""
        if isinstance(self.inner, ClassTarget):
            return self.inner.decode(encoded)
        return self.inner.decode(encoded.reshape(-1, 1))

    def strata(self, encoded: NDArray) -> NDArray[np.int64]:
        """Cases with a label, and without any."""
        there = encoded >= 0 if encoded.dtype.kind == "i" else ~np.isnan(encoded)
        return np.asarray(there.any(axis=1), dtype=np.int64)

    def require_labels(self, kept: NDArray, out: NDArray) -> None:
        """Refuse a hold-out after which one side has no label.

        Raises
        ------
        DataError
        """
        for what, encoded in (("train on", kept), ("hold out", out)):
            there = encoded >= 0 if encoded.dtype.kind == "i" else ~np.isnan(encoded)
            if not there.any():
                raise DataError(
                    f"Expected labels of steps to {what}. Got {len(encoded)} cases without any. "
                    "Raise validation_fraction, set early_stopping=False, or pass X_val and y_val."
                )

    def loss(self, scores: Tensor, encoded: Tensor) -> Tensor:
        """(B, T, K) scores and encoded labels (B, T') -> (B,); both end with the last step."""
        T = min(scores.shape[1], encoded.shape[1])
        scores, encoded = scores[:, -T:], encoded[:, -T:]
        if isinstance(self.inner, ClassTarget):
            there = encoded >= 0
            flat, truth = scores.flatten(0, 1), encoded.clamp(min=0).flatten()
            loss = F.cross_entropy(flat, truth, reduction="none").view(truth.shape[0] // T, T)
            if self.class_weight is not None:
                of_class = torch.as_tensor(self.class_weight, dtype=loss.dtype, device=loss.device)
                loss = loss * of_class[encoded.clamp(min=0)]
        else:
            there = ~encoded.isnan()
            loss = self.inner.loss(
                scores.flatten(0, 1), encoded.nan_to_num().flatten().unsqueeze(1)
            )
            loss = loss.view(encoded.shape)
        return (loss * there).sum(1) / self.mean_steps

    def combine(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """(M, n, T, K) -> (n, T, K)."""
        return self.inner.combine(scores)

    def predictor(self, scores: NDArray[np.float64]) -> Any:
        """Of the scores (m, K) of single steps."""
        return self.inner.predictor(scores)

    def steps_of(self, scores: Tensor, encoded: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (m, K) and encoded labels (m,) of the steps that have one."""
        T = min(scores.shape[1], encoded.shape[1])
        scores, encoded = scores[:, -T:], encoded[:, -T:]
        there = encoded >= 0 if isinstance(self.inner, ClassTarget) else ~encoded.isnan()
        return scores[there], encoded[there]

    def with_error(self, error: str) -> StepTarget:
        """The same, judged by another error."""
        assert isinstance(self.inner, NumericTarget)
        return replace(self, inner=replace(self.inner, error=error))


def natural(labels: NDArray) -> NDArray:
    """Labels (m,) of objects that are all numbers or bools as such."""
    if labels.dtype != object:
        return labels
    kind = pd.api.types.infer_dtype(labels, skipna=False)
    return np.array(labels.tolist()) if kind in ("boolean", "integer", "floating") else labels


def labelled(labels: NDArray) -> NDArray[np.bool_]:
    """Where there is a label: neither NaN, None nor, among whole numbers, -1."""
    there = ~pd.isna(labels)
    if labels.dtype.kind == "i":
        there &= labels != NO_CLASS
    return there
