"""What happens between the epochs: scores, averaging of checkpoints, a progress bar."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.metrics import get_scorer
from skorch.callbacks import Callback
from torch import Tensor
from tqdm.auto import tqdm

from tawt_sklearn.exceptions import DataError, TrainingError
from tawt_sklearn.objectives.steps import StepTarget
from tawt_sklearn.objectives.supervised import Target


class TrainingStopped(Exception):
    """Training has done what it can, or (with a cause) a callback of the user has seen enough."""


def plain_epochs(history: Any) -> list[dict[str, Any]]:
    """The history without its steps, and without what users' callbacks may have put there."""
    return [
        {
            "batches": [],
            **{k: v for k, v in epoch.items() if isinstance(v, bool | int | float | str)},
        }
        for epoch in history
    ]


class StopWhenDiverged(Callback):
    """Raise :class:`~tawt_sklearn.exceptions.TrainingError` once the loss is no number any more."""

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        epoch = net.history[-1]
        for name in ("train_loss", "valid_loss"):
            if not np.isfinite(epoch.get(name, 0.0)):
                raise TrainingError(
                    f"Expected a finite loss. Got {name} {epoch[name]} in epoch {epoch['epoch']}: "
                    f"training diverged. Lower the learning rate (now {net.lr}), or look for "
                    "values of enormous size (TripletSequencer scales and clips them)."
                )


class ValidationScore(Callback):
    """Record ``valid_score``, larger is better, after every epoch.

    Parameters
    ----------
    scoring : str
        ``"loss"`` for minus the validation loss, else the name of a scikit-learn scorer.
    target : Target, optional
        What the net's scores mean; of no use to ``"loss"``.
    """

    def __init__(self, scoring: str, target: Target | None) -> None:
        self.scoring = scoring
        self.target = target

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        self.scores_: list[Tensor] = []
        self.labels_: list[Tensor] = []

    def on_batch_end(
        self, net: Any, batch: Any = None, training: bool = False, y_pred: Any = None, **kwargs: Any
    ) -> None:
        if not training and self.scoring != "loss":
            scores, labels = y_pred.detach().cpu(), batch[1][0]
            if isinstance(self.target, StepTarget):
                scores, labels = self.target.steps_of(scores, labels)
            self.scores_.append(scores)
            self.labels_.append(labels)

    def on_epoch_end(self, net: Any, dataset_valid: Any = None, **kwargs: Any) -> None:
        if dataset_valid is None:
            return
        if self.scoring == "loss":
            score = -net.history[-1]["valid_loss"]
        else:
            assert self.target is not None
            score = self._judge(self.target, torch.cat(self.scores_), torch.cat(self.labels_))
        net.history.record("valid_score", score)
        self.scores_, self.labels_ = [], []

    def _judge(self, target: Target, scores: Tensor, encoded: Tensor) -> float:
        """What the scorer says of the scores (B, K) of held-out rows with encoded labels."""
        if isinstance(target, StepTarget):
            target = target.inner
            encoded = encoded if encoded.dtype == torch.int64 else encoded.unsqueeze(1)
        combined = target.combine(scores.double().numpy()[np.newaxis])
        labels = target.decode(encoded.numpy())
        X = np.zeros((len(labels), 1))  # scorers pass it on to the predictions made above
        try:
            scorer = get_scorer(self.scoring)
            score = float(scorer(target.predictor(combined), X, labels))
        except (ValueError, AttributeError) as error:
            raise DataError(
                f"Expected a scoring that can judge the held-out labels. Got {self.scoring!r}, "
                f'which says: {error} Choose another one, or scoring="loss".'
            ) from error
        if not np.isfinite(score):
            strata, counts = np.unique(target.strata(encoded.numpy()), return_counts=True)
            found = f"{len(labels)} labels"
            if len(strata) > 1 or (labels.ndim == 1 and labels.dtype.kind not in "f"):
                kinds = target.decode(strata).tolist()
                found = str(dict(zip(kinds, counts.tolist(), strict=True)))
            raise DataError(
                f"Expected a score of the held-out labels. Got {score} from scoring="
                f"{self.scoring!r}; held out are {found}. Raise validation_fraction, "
                'choose scoring="loss", or set early_stopping=False.'
            )
        return score


class FollowFirst(Callback):
    """Record what the first of several processes has found in an epoch.

    They compute the same, but different devices round differently, and all have to draw the same
    conclusions from a score.
    """

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        (epoch,) = net.processes.told(plain_epochs([net.history[-1]]), "an epoch")
        for name, value in epoch.items():
            if name != "batches":
                net.history.record(name, value)


class StopWithoutGain(Callback):
    """End training once ``valid_score`` has not risen for ``patience`` epochs.

    Reads everything from the history, so that a resumed run stops where a whole one would.
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        scores = net.history[:, "valid_score"]
        if len(scores) - 1 - int(np.argmax(scores)) >= self.patience:
            raise TrainingStopped


class GradualUnfreezing(Callback):
    """Let the layers of a pretrained backbone join one after the other, the last one first.

    The head learns alone in the first epoch; all layers learn from the middle of the run on
    (Howard & Ruder, "Universal Language Model Fine-tuning for Text Classification", 2018).  It
    depends on the number of the epoch alone, so that a run goes on where it was stopped.

    Parameters
    ----------
    n_epochs : int
        Of the whole run.
    """

    def __init__(self, n_epochs: int) -> None:
        self.n_epochs = n_epochs

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        backbone = net.module_.backbone
        layers = [*backbone.blocks]
        done = len(net.history) - 1
        n_stages = len(layers) + 1  # the blocks from the last to the first, then the patches
        stage = n_stages if self.n_epochs < 2 else 2 * done * n_stages // self.n_epochs
        if done:
            stage = max(stage, 1)
        for parameter in backbone.parameters():
            parameter.requires_grad_(stage >= n_stages)
        if (beside := net.module_.beside) is not None:
            beside.learn(stage >= n_stages)
        for block in layers[len(layers) - min(stage, len(layers)) :]:
            block.requires_grad_(True)
        for last in (backbone.norm, net.module_.readout):
            last.requires_grad_(stage >= 1)

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        net.module_.requires_grad_(True)
        if (beside := net.module_.beside) is not None:
            beside.learn(True)


class AverageCheckpoints(Callback):
    """Leave the net with the average of its weights after the best epochs.

    The best are those of the highest ``valid_score``, or the last ones.  Averaging costs nothing
    at prediction and is steadier than any single epoch (Izmailov et al., "Averaging Weights Leads
    to Wider Optima and Better Generalization", 2018).

    Parameters
    ----------
    n_average : int
    by_score : bool
        Whether ``valid_score`` chooses; else the last epochs are taken.
    """

    def __init__(self, n_average: int, by_score: bool) -> None:
        self.n_average = n_average
        self.by_score = by_score

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        self.kept_: list[tuple[float, list[Tensor]]] = []

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        epoch = net.history[-1]
        rank = epoch["valid_score"] if self.by_score else float(epoch["epoch"])
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

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        self.bar_.n = len(net.history) - 1  # a resumed run begins in the middle

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
