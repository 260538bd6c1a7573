"""What happens between the epochs: scores, averaging of checkpoints, a progress bar."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.metrics import get_scorer
from skorch.callbacks import Callback
from torch import Tensor
from tqdm.auto import tqdm


class _Predicted:
    """Probabilities that were already computed, in the clothes of a fitted classifier."""

    _estimator_type = "classifier"

    def __init__(self, scores: NDArray[np.float64], classes: NDArray) -> None:
        self.scores, self.classes_ = scores, classes

    def __sklearn_tags__(self) -> Any:
        from sklearn.base import BaseEstimator, ClassifierMixin

        return type("_Tagged", (ClassifierMixin, BaseEstimator), {})().__sklearn_tags__()

    def fit(self, X: Any, y: Any) -> _Predicted:  # only so that scorers take it for an estimator
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        return softmax(self.scores, axis=1)

    def predict(self, X: Any) -> NDArray:
        return self.classes_[self.scores.argmax(axis=1)]


class ValidationScore(Callback):
    """Record ``valid_score``, larger is better, after every epoch.

    Parameters
    ----------
    scoring : str
        ``"loss"`` for minus the validation loss, else the name of a scikit-learn scorer.
    classes : array
        Labels in the order of the net's outputs.
    """

    def __init__(self, scoring: str, classes: NDArray) -> None:
        self.scoring = scoring
        self.classes = classes

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        self.scores_: list[Tensor] = []
        self.targets_: list[Tensor] = []

    def on_batch_end(
        self, net: Any, batch: Any = None, training: bool = False, y_pred: Any = None, **kwargs: Any
    ) -> None:
        if not training and self.scoring != "loss":
            self.scores_.append(y_pred.detach().cpu())
            self.targets_.append(batch[1])

    def on_epoch_end(self, net: Any, dataset_valid: Any = None, **kwargs: Any) -> None:
        if dataset_valid is None:
            return
        if self.scoring == "loss":
            score = -net.history[-1]["valid_loss"]
        else:
            predicted = _Predicted(torch.cat(self.scores_).double().numpy(), self.classes)
            target = self.classes[torch.cat(self.targets_).numpy()]
            score = float(get_scorer(self.scoring)(predicted, np.zeros((len(target), 1)), target))
        net.history.record("valid_score", score)
        self.scores_, self.targets_ = [], []


class AverageCheckpoints(Callback):
    """Leave the net with the average of its weights after the best epochs.

    The best are those of the highest ``valid_score``; without validation data the last ones.
    Averaging costs nothing at prediction and is steadier than any single epoch (Izmailov et al.,
    "Averaging Weights Leads to Wider Optima and Better Generalization", 2018).
    """

    def __init__(self, n_average: int) -> None:
        self.n_average = n_average

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        self.kept_: list[tuple[float, list[Tensor]]] = []

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        epoch = net.history[-1]
        rank = epoch.get("valid_score", epoch["epoch"])
        if len(self.kept_) == self.n_average and rank <= self.kept_[-1][0]:
            return
        weights = [parameter.detach().clone() for parameter in net.module_.parameters()]
        self.kept_ = sorted([*self.kept_, (rank, weights)], key=lambda kept: -kept[0])
        del self.kept_[self.n_average :]

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        if not self.kept_:
            return
        checkpoints = zip(*(weights for _, weights in self.kept_), strict=True)
        with torch.no_grad():
            for parameter, versions in zip(net.module_.parameters(), checkpoints, strict=True):
                parameter.copy_(torch.stack(versions).mean(0))
        self.kept_ = []


class ProgressBar(Callback):
    """One bar for a training run: epochs, loss and validation score."""

    def __init__(self, label: str) -> None:
        self.label = label

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        self.bar_ = tqdm(total=net.max_epochs, desc=self.label, unit="epoch")

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        epoch = net.history[-1]
        shown = {"loss": f"{epoch['train_loss']:.4f}"}
        if "valid_score" in epoch:
            shown["valid"] = f"{epoch['valid_score']:.4f}"
        self.bar_.set_postfix(shown)
        self.bar_.update()

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        self.bar_.close()
        del self.bar_
