"""TimeAwareClassifier: event histories in, calibrated class probabilities out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax, logsumexp
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import nn

from tawt_sklearn.estimators._base import TimeAwareEstimator
from tawt_sklearn.estimators._data import Preparation, check_target
from tawt_sklearn.events.coerce import as_events
from tawt_sklearn.exceptions import DataError
from tawt_sklearn.tokens.sequencer import TripletSequencer
from tawt_sklearn.training.device import resolve_device
from tawt_sklearn.training.net import EventNet

EARLY_STOPPING_FLOOR = 10_000
"""Below this many labels ``early_stopping="auto"`` trains on all of them for a fixed number of
steps: on 2,700 stays of PhysioNet 2012 holding a tenth out gained nothing (AUROC .845 both ways,
3 folds), and a smaller hold-out is noisier still.  Gradient boosting in scikit-learn draws the
same line."""


class TimeAwareClassifier(ClassifierMixin, TimeAwareEstimator):
    """A dual-patch transformer that classifies subjects by their event histories.

    All events of one code become one token (its exact statistics), all events of one window of
    time another; attention between them knows how far apart in time they are.  Missing values
    are never imputed: what was not measured is information.

    Parameters
    ----------
    d_model : int, default=48
        Width of the tokens; a multiple of ``n_heads``.
    n_layers : int, default=2
        Transformer blocks.
    n_heads : int, default=4
        Attention heads.
    dropout : float, default=0.2
        Dropout on residual branches and, half as much again, in the head.
    patching : {"dual", "time", "feature"}, default="dual"
        Tokens for codes and for windows of time, or only one of the two.
    time_encoding : {"time2vec", "sinusoidal"}, default="time2vec"
        Sines of learned or of fixed frequency for the time of a window.
    n_windows : int, default=16
        Windows of time, each with about as many training events.
    max_feature_patches : int, default=128
        With more codes than this, only codes that occur in a history become tokens, at most
        this many for each history; the most frequent codes of the training data go first.
    code_dropout, window_dropout : float, default=0.2 and 0.3
        Mean share of codes and windows that are hidden in a training step.
    sequencer : TripletSequencer, default=None
        How raw histories are tokenised; None is ``TripletSequencer()``.  Not used when the
        histories come tokenised, as they do after a ``TripletSequencer`` in a ``Pipeline``.
    max_epochs : int, default=20
    min_steps : int, default=300
        Train for more epochs than ``max_epochs`` where these would be fewer steps.
    batch_size : int, default=64
        Rows in a step; at most a quarter of the training rows.
    learning_rate : float, default=1e-3
        Highest learning rate, reached after the warm-up; falls along a cosine.
    weight_decay : float, default=0.01
    warmup_fraction : float, default=0.1
        Share of the steps over which the learning rate rises.
    early_stopping : "auto" or bool, default="auto"
        Hold out ``validation_fraction`` of the labels to stop when they do not improve and to
        choose checkpoints.  ``"auto"`` does so from 10,000 labels on; with fewer, all labels
        are trained on for a fixed number of steps.
    validation_fraction : float, default=0.1
    patience : int, default=5
        Epochs without improvement before training stops.
    scoring : str, default="loss"
        What is watched on the held-out labels: ``"loss"`` or the name of a scikit-learn scorer.
    n_average : int, default=3
        Checkpoints whose weights are averaged in the end.
    n_ensemble : int, default=3
        Networks trained from different seeds (and hold-outs); their log-probabilities are
        averaged.  The seed is the largest source of error on a few thousand subjects; 1 is
        enough to search over other parameters.
    n_jobs : int, default=None
        Members of the ensemble that are trained at the same time.  The result does not depend
        on it.
    device : str or torch.device, default="auto"
        ``"auto"`` takes CUDA or MPS where there is one, else the CPU.
    random_state : int, RandomState or None, default=None
    callbacks : list of skorch callbacks or of pairs (name, callback), default=None
        Where there are several members, each trains with copies (``nets_[k].callbacks_``).
    net_params : dict, default=None
        Further parameters of the skorch net, by skorch's names; they override what the
        parameters above say.
    verbose : int, default=0
        1 shows a progress bar with the loss and the validation score.

    Attributes
    ----------
    classes_ : (n_classes,) ndarray
        Labels, sorted.
    nets_ : list of skorch.NeuralNet
        Trained members.
    preparation_ : Preparation
        Fitted sequencer, vocabulary and static columns.
    history_ : pandas.DataFrame
        One row for each member and epoch: losses, validation score, seconds.
    n_iter_ : int
        Epochs of the longest training run.
    device_ : torch.device
        Where training ran.
    n_features_in_ : int
    feature_names_in_ : (n_features_in_,) ndarray

    See Also
    --------
    tawt_sklearn.TripletSequencer : Makes the tokens; put it before this step to search over it.
    tawt_sklearn.EventSummarizer : The plain features to compare with.

    Examples
    --------
    >>> from tawt_sklearn import TimeAwareClassifier
    >>> from tawt_sklearn.datasets import make_icu_stays
    >>> X, y = make_icu_stays(200, random_state=0)
    >>> clf = TimeAwareClassifier(d_model=16, max_epochs=2, min_steps=10, random_state=0)
    >>> clf.fit(X, y).predict_proba(X.iloc[:3]).shape
    (3, 2)
    """

    classes_: NDArray
    nets_: list[EventNet]
    preparation_: Preparation
    history_: pd.DataFrame
    n_iter_: int
    device_: torch.device
    n_features_in_: int

    def __init__(
        self,
        *,
        d_model: int = 48,
        n_layers: int = 2,
        n_heads: int = 4,
        dropout: float = 0.2,
        patching: str = "dual",
        time_encoding: str = "time2vec",
        n_windows: int = 16,
        max_feature_patches: int = 128,
        code_dropout: float = 0.2,
        window_dropout: float = 0.3,
        sequencer: TripletSequencer | None = None,
        max_epochs: int = 20,
        min_steps: int = 300,
        batch_size: int = 64,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.01,
        warmup_fraction: float = 0.1,
        early_stopping: str | bool = "auto",
        validation_fraction: float = 0.1,
        patience: int = 5,
        scoring: str = "loss",
        n_average: int = 3,
        n_ensemble: int = 3,
        n_jobs: int | None = None,
        device: str | torch.device | None = "auto",
        random_state: int | np.random.RandomState | None = None,
        callbacks: list[Any] | None = None,
        net_params: dict[str, Any] | None = None,
        verbose: int = 0,
    ) -> None:
        self.d_model = d_model
        self.n_layers = n_layers
        self.n_heads = n_heads
        self.dropout = dropout
        self.patching = patching
        self.time_encoding = time_encoding
        self.n_windows = n_windows
        self.max_feature_patches = max_feature_patches
        self.code_dropout = code_dropout
        self.window_dropout = window_dropout
        self.sequencer = sequencer
        self.max_epochs = max_epochs
        self.min_steps = min_steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.warmup_fraction = warmup_fraction
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.scoring = scoring
        self.n_average = n_average
        self.n_ensemble = n_ensemble
        self.n_jobs = n_jobs
        self.device = device
        self.random_state = random_state
        self.callbacks = callbacks
        self.net_params = net_params
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: ArrayLike) -> TimeAwareClassifier:
        """Learn from histories and labels.

        Parameters
        ----------
        X : DataFrame of n rows, or anything :func:`~tawt_sklearn.as_events` takes
            One row for each subject: an events column, raw or tokenised, and static columns.
        y : (n,) array or Series
            Class labels; the index of a Series must be that of ``X``.

        Returns
        -------
        self

        Raises
        ------
        NotNestedError
            ``X`` is a long table with one row for each event.
        DataError
            ``y`` does not fit ``X`` or has one class only, or there is nothing to learn from.
        DeviceError
            There is no such device.
        TrainingError
            Training diverged.
        """
        device = resolve_device(self.device)
        self._check_settings()
        frame = as_events(X)
        preparation, data = Preparation.fit(frame, self.sequencer, self.n_windows)
        classes, data.target = _encode(check_target(y, X, len(data)))
        hold_out = self.early_stopping
        if hold_out == "auto":
            hold_out = len(data) >= EARLY_STOPPING_FLOOR
        nets, history = self._train_members(
            data,
            backbone=self._architecture(preparation),
            criterion=nn.CrossEntropyLoss,
            prior=np.log(np.bincount(data.target) / len(data)),
            classes=classes,
            hold_out=bool(hold_out),
            device=device,
        )
        # Only now: whatever failed above leaves no half-fitted estimator behind.
        validate_data(self, frame, skip_check_array=True)
        self.classes_, self.preparation_, self.device_ = classes, preparation, device
        self.nets_, self.history_ = nets, history
        self.n_iter_ = int(history["epoch"].max())
        return self

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Log-odds of the second class (n,) with two classes, else log-probabilities (n, k)."""
        scores = self._log_proba(X)
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Probability of each class, in the order of ``classes_`` (n, n_classes)."""
        return np.exp(self._log_proba(X))

    def predict_log_proba(self, X: Any) -> NDArray[np.float64]:
        """Logarithm of the probabilities (n, n_classes)."""
        return self._log_proba(X)

    def predict(self, X: Any) -> NDArray:
        """Most probable class of each row (n,)."""
        winner = self._log_proba(X).argmax(axis=1)
        return self.classes_[winner]

    def _log_proba(self, X: Any) -> NDArray[np.float64]:
        check_is_fitted(self)
        frame = as_events(X, name=str(self.preparation_.events_name))
        validate_data(self, frame, reset=False, skip_check_array=True)
        averaged = log_softmax(self._decision(frame), axis=2).mean(axis=0)
        return averaged - logsumexp(averaged, axis=1, keepdims=True)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.allow_nan = True
        return tags


def _encode(labels: NDArray) -> tuple[NDArray, NDArray[np.int64]]:
    """Sorted classes, and the class of each row."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise DataError(
            f"Expected one label for each row, y of shape ({len(labels)},). "
            f"Got an array of shape {labels.shape}."
        )
    missing = pd.isna(labels)
    if missing.any():
        raise DataError(
            f"Expected a label for every row. Got {int(missing.sum())} missing ones, the first "
            f"at position {int(missing.argmax())}. Drop these rows from X and y."
        )
    try:
        classes, target = np.unique(labels, return_inverse=True)
    except TypeError as error:
        kinds = sorted({type(label).__name__ for label in labels})
        raise DataError(
            f"Expected labels of one kind. Got {' and '.join(kinds)}, which have no order among "
            "them. Convert them, for instance with y.astype(str)."
        ) from error
    check_classification_targets(labels)
    if len(classes) < 2:
        raise DataError(
            f"Expected at least two classes in y. Got one: {classes[0]!r}. The number of classes "
            "has to be greater than one."
        )
    return classes, target.astype(np.int64)
