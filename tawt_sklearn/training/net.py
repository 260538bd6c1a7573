"""The skorch net that an estimator builds in ``fit``: batches of events instead of tensors."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet
from skorch.callbacks import EpochTimer, PassthroughScoring
from torch import Tensor

from tawt_sklearn.nn.batch import EventBatch
from tawt_sklearn.training.dataset import EventDataset


class TrainingStopped(Exception):
    """A callback has seen enough, and said so as skorch's do: by a KeyboardInterrupt."""


class EventNet(NeuralNet):
    """A :class:`skorch.NeuralNet` over :class:`EventDataset`.

    The data set cuts whole batches from flat arrays, so the loader has nothing to collate, and a
    batch is an object of its own rather than a tensor or a dict of them.
    """

    @property
    def _default_callbacks(self) -> list[tuple[str, Any]]:
        return [
            ("epoch_timer", EpochTimer()),
            ("train_loss", PassthroughScoring(name="train_loss", on_train=True)),
            ("valid_loss", PassthroughScoring(name="valid_loss")),
        ]

    def notify(self, method_name: str, **cb_kwargs: Any) -> None:
        try:
            super().notify(method_name, **cb_kwargs)
        except KeyboardInterrupt as stop:
            raise TrainingStopped from stop

    def partial_fit(
        self, X: Any, y: Any = None, classes: Any = None, **fit_params: Any
    ) -> EventNet:
        """As in skorch, except that Ctrl-C is an error and not the regular end of training.

        Inside a search over parameters skorch would go on with the half-trained net.
        """
        if not self.initialized_:
            self.initialize()
        self.notify("on_train_begin", X=X, y=y)
        with suppress(TrainingStopped):
            self.fit_loop(X, y, **fit_params)
        self.notify("on_train_end", X=X, y=y)
        return self

    def infer(self, x: EventBatch, **fit_params: Any) -> Tensor:
        return self.module_(x.to(self.device), **fit_params)

    def get_params_for_optimizer(
        self, prefix: str, named_parameters: Any
    ) -> tuple[tuple[list[dict[str, Any]]], dict[str, Any]]:
        """Decay matrices; neither biases and norms nor the few scalars (decays, half-lives)."""
        _, kwargs = super().get_params_for_optimizer(prefix, named_parameters)
        decay = kwargs.pop("weight_decay", 0.0)
        parameters = [p for p in self.module_.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": decay},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ]
        return (groups,), kwargs

    def decision(self, dataset: EventDataset) -> NDArray[np.float32]:
        """Scores (n, n_outputs) for every row of a data set, in its order."""
        return decisions([self], dataset)[0]


def decisions(nets: list[EventNet], dataset: EventDataset) -> NDArray[np.float32]:
    """Scores of several nets for every row of a data set (n_nets, n, n_outputs).

    The loop is written out because a single row has to be quick: skorch's sets up a data loader
    and changes the mode of every layer for each batch, and each net would cut its own batches.
    """
    size = nets[0].get_params_for("iterator_valid").get("batch_size", nets[0].batch_size)
    scores = []
    with torch.inference_mode():
        for net in nets:
            net.module_.eval()
        for first in range(0, len(dataset), size):
            batch = dataset.batch(np.arange(first, min(first + size, len(dataset))))
            scores.append(torch.stack([net.infer(batch).cpu() for net in nets]))
    return torch.cat(scores, dim=1).numpy()
