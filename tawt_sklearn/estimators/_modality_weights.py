"""What the gate of a fusion says of the events and of each modality."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from tawt_sklearn.estimators._input import Rows, read_rows
from tawt_sklearn.estimators._modalities import EVENTS
from tawt_sklearn.estimators._settings import rows_at_once
from tawt_sklearn.training.dataset import RowDataset
from tawt_sklearn.training.net import EventNet, modality_weights

N_WEIGHED = 1024
"""Training rows, at most, whose mean weights are kept."""


def remember_weights(estimator: Any, nets: Sequence[EventNet], data: RowDataset) -> None:
    """Set ``modality_weights_`` of an estimator that was just fitted, where it has a gate."""
    vars(estimator).pop("modality_weights_", None)
    if not getattr(estimator.preparation_, "modalities", None):
        return
    some = np.linspace(0, len(data) - 1, min(len(data), N_WEIGHED)).astype(np.int64)
    weights = modality_weights(nets, data.subset(some))
    if weights is not None:
        estimator.modality_weights_ = pd.Series(weights.mean(0), index=names(estimator))


def weights_of_rows(
    nets: Sequence[EventNet], data: RowDataset, estimator: Any, rows: Rows
) -> pd.DataFrame:
    """Weights of each row.

    Raises
    ------
    ValueError
        There is no gate.
    """
    weights = None
    if getattr(estimator.preparation_, "modalities", None):
        weights = modality_weights(nets, data, rows_at_once(estimator))
    if weights is None or not isinstance(rows, pd.DataFrame):
        raise ValueError(
            'Expected an estimator that was fitted with modalities and fusion="gated", which '
            "weighs them. Got one without a gate."
        )
    return pd.DataFrame(weights, index=rows.index, columns=names(estimator))


def names(estimator: Any) -> list[str]:
    """What the weights belong to."""
    return [EVENTS, *estimator.preparation_.modalities]


class WeighsModalities:
    """Of an estimator whose fusion may have a gate.

    Stands before ``BaseEstimator`` among its bases.
    """

    def modality_weights(self, X: Any) -> pd.DataFrame:
        """What the events and each modality weigh for each row: in its answer or its embedding.

        Parameters
        ----------
        X : as in :meth:`fit`

        Returns
        -------
        DataFrame of n rows
            Columns ``"events"`` and the names of ``modalities``; the weights of a row, means over
            members and coordinates of the gate, sum to one.

        Raises
        ------
        ValueError
            There is no gate: ``fusion`` is not ``"gated"``.
        """
        check_is_fitted(self)
        estimator: Any = self
        nets = [estimator.net_] if hasattr(estimator, "net_") else estimator.nets_
        frame, _ = read_rows(estimator, X, estimator.preparation_)
        return weights_of_rows(nets, estimator.preparation_.dataset(frame), estimator, frame)
