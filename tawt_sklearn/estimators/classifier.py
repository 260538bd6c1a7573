"""TimeAwareClassifier: event histories or panels in, class probabilities out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.metrics import accuracy_score
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.validation import check_is_fitted

from tawt_sklearn.estimators._base import TimeAwareEstimator
from tawt_sklearn.estimators._calibration import N_FOLDS, find_temperature, folds, tempered
from tawt_sklearn.estimators._ensemble import Ensemble, scores_of
from tawt_sklearn.estimators._input import Rows
from tawt_sklearn.estimators._interruption import warn_interrupted
from tawt_sklearn.estimators._per_step import given_back
from tawt_sklearn.estimators._planning import Ready
from tawt_sklearn.estimators._pretrained import Continued
from tawt_sklearn.events._dask_methods import lazy_on_dask
from tawt_sklearn.events.panels import Panel
from tawt_sklearn.exceptions import DataError, SaveFileError
from tawt_sklearn.objectives.labels import classes_of, indicators, one_label
from tawt_sklearn.objectives.steps import StepTarget
from tawt_sklearn.objectives.supervised import ClassTarget, MultilabelTarget, Target
from tawt_sklearn.tokens.embedder import TimeEmbedder
from tawt_sklearn.tokens.sequencer import TripletSequencer
from tawt_sklearn.training.dataset import RowDataset
from tawt_sklearn.training.net import EventNet


@lazy_on_dask("decision_function", "predict", "predict_log_proba", "predict_proba")
class TimeAwareClassifier(ClassifierMixin, TimeAwareEstimator):
    """A dual-patch transformer that classifies event histories or sensor panels.

    All events of one code become one token (its exact statistics), all events of one window of
    time another; attention between them knows how far apart in time they are.  Of a panel, a
    channel is a code, and a strided stretch of time a window.  Missing values are never imputed:
    what was not measured is information.

    Labels are classes (n,), zeros and ones (n, k) for several labels that a row may have, or
    classes at each step of a panel (n, n_timepoints).

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
    patching : {"dual", "time", "feature", "event"}, default="dual"
        Tokens for codes and for windows of time, or only one of the two.  ``"event"``: a token for
        each event, with exact attention among all events of a history, which are pooled by code
        and by window afterwards; many times as expensive, and for event histories only.
    time_encoding : {"time2vec", "sinusoidal"} or TimeEmbedder, default="time2vec"
        Sines of learned or of fixed frequency for the time of a window; a TimeEmbedder with one of
        these methods chooses the frequencies that they start from.
    n_windows : int, default=16
        Windows of time, each with about as many training events; temporal patches of a panel.
    categorical_features : array-like of int or of bool, default=None
        Panels: channels that hold categories, as whole numbers, by position or as a mask.
    patch_length : int or sequence of int, default=None
        Panels: steps in a temporal patch; patches start at every half of that (both are rounded
        up where a patch is longer than 16 steps).  Several lengths give patches of several
        granularities.  None covers the longest training case with
        ``n_windows`` patches, each of which reaches back over the one before.
    per_step : "auto" or bool, default="auto"
        Panels: whether ``y`` holds a label for each step (n, T) rather than for each case.
        ``"auto"``: where it has as many columns as the panel has steps, or is a list of arrays
        as long as its cases; 2-D numbers need True.  Pass False where ``y`` is as many numbers
        for each case by chance, such as a forecast over as many steps.
        NaN (-1 among whole numbers that are classes) stands for a step without label.  What is
        said of a step has seen the whole series, later steps included.
    max_feature_patches : int, default=128
        With more codes than this, only codes that occur in a history become tokens, at most
        this many for each history; the most frequent codes of the training data go first.
    attention_window : int or None, default=None
        With ``patching="event"``: an event attends to this many events before and after it, which
        makes the cost of very long histories linear.  None: to all of its history.
    code_dropout, window_dropout : float or "auto", default="auto"
        Mean share of codes and windows that are hidden in a training step.  ``"auto"`` is 0.2 and
        0.3, and nothing with labels at each step, whose evidence would be hidden.
    n_summary_members : int or "auto", default="auto"
        Small networks in a second head, which share most of their weights (BatchEnsemble, as in
        TabM).  They see the statistics of the codes (with more than ``max_feature_patches``, of
        the most frequent ones) or channels, and static columns, side by side and without patches
        in between; what they say and what the patches say is averaged.  ``"auto"``: 8, but 0
        beside modalities or with more than 16,384 columns.  Labels at each step and
        ``fine_tune="head"`` have no such head.
    additive_head : bool, default=True
        Whether a third head stands beside these two: an additive model of the statistics that the
        second one sees, a piecewise linear curve for each column (an elastic net, solved at once;
        from 30 rows on three folds of them choose its strength; of more rows than 1 GB has room
        for, some 13,000 with 1,250 columns, it sees as many).  It weighs a third, and is left out
        where the folds find nothing that it could tell, where there is no second head, with more
        than 32,768 columns, and in ``partial_fit``, which goes on with that of ``fit``, if any.
    weigh_heads : bool, default=False
        Whether ``fit`` first trains a network on two thirds of the rows, by which the others
        tell what the second and the third head weigh, or that they are left out.  Worth it where
        statistics tell little of the labels; without it all heads weigh the same.
    sequencer : TripletSequencer, default=None
        How raw histories are tokenised; None is ``TripletSequencer()``.  Not used when the
        histories come tokenised, as they do after a ``TripletSequencer`` in a ``Pipeline``.
    modalities : dict, default=None
        What further columns of ``X`` hold, such as ``{"xray": ImageEncoder()}``: images, or any
        :class:`~tawt_sklearn.Modality`.  See ``docs/modalities.md``.
    fusion : {"concat", "attention", "gated"}, default="concat"
        How they come together with the events: embeddings side by side; patches of the events
        look at the tokens of the modalities; a mean of the embeddings whose weights depend on all
        of them.
    modality_dropout : float, default=0.2
        Share of rows from which a modality is hidden in a training step, so that rows without it
        are served well.  A pretrained encoder need not have had the same.
    modality_training : {"joint", "staged"}, default="joint"
        Whether everything is trained together from the start, or each modality from the labels
        alone first.
    pretrain : bool, default=False
        Whether ``fit`` learns from the training histories alone before it learns from labels, once
        for all members: as a :class:`TimeAwareEncoder` of this shape does, with its defaults for
        everything else.  It takes as long as one or two members.  ``fit`` with ``warm_start`` goes
        on without doing it again.
    pretrained : TimeAwareEncoder, Pipeline or path, default=None
        A fitted encoder to start from, a pipeline ``TripletSequencer -> TimeAwareEncoder``, or a
        file with an encoder.  It brings its vocabulary, scaling and shape: leave parameters of
        the shape at their defaults.  ``clone`` keeps it as it is, and so do searches and
        pipelines.  Among the values of a ``param_grid`` wrap it in ``FrozenEstimator``.
    fine_tune : {"full", "head", "gradual"}, default="full"
        What is learned from labels after pretraining.  All of it starts from a
        regularised linear model on the embeddings, whose strength cross-validation on the labels
        chooses.  ``"head"`` leaves it at that: one member, no epochs, no hold-out and no callbacks;
        ``"full"`` goes on with all layers, ``"gradual"`` with one layer after the other, as far as
        the epochs allow; what comes out of a first ``fit`` is a mean of the weights before and
        after (``history_`` is of those after), of which those before are half with 400 labels
        and less with more.
    encoder_learning_rate : float, default=None
        Highest learning rate of the pretrained layers; None is ``learning_rate``.  With fewer
        than 800 labels both are lowered in proportion.
    max_epochs : int, default=20
    min_steps : int, default=300
        Train for more epochs than ``max_epochs`` where these would be fewer steps; not with a
        pretrained encoder.
    batch_size : int, default=64
        Rows in a step; at most a quarter of the training rows.
    learning_rate : float, default=1e-3
        Highest learning rate, reached after the warm-up; see ``schedule``.
    weight_decay : float, default=0.01
    schedule : {"cosine", "one-cycle", "constant"}, default="cosine"
        How the learning rate goes after the warm-up: down along half a cosine to a hundredth; the
        same with a warm-up along a cosine, too, and down to almost nothing (try
        ``warmup_fraction=0.3``); or it stays.
    warmup_fraction : float, default=0.1
        Share of the steps over which the learning rate rises.
    max_grad_norm : float or None, default=1.0
        Longer gradients are shortened to this norm; None leaves them.
    accumulate_steps : int, default=1
        Batches whose gradients are summed into one step, as if ``batch_size`` were so many times
        larger, in the memory of one.  A batch that does not fit into memory is halved by itself,
        to the same effect, with a warning that tells the sizes.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, ``{class: weight}``; ``"balanced"`` gives all classes the same
        sum.  Probabilities follow the weighted frequencies.
    calibrate : bool, default=False
        Scale the probabilities by a temperature learned on the held-out rows of three folds (on
        ``X_val`` where it is given), which takes three times as long.  Not done where Ctrl-C
        ended the training.
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
    warm_start : bool, default=False
        ``fit`` goes on from the networks of the last ``fit``, with its vocabulary and scaling.
    checkpoint_dir : str or Path, default=None
        Folder for the state of a running ``fit``, written after every epoch.  A ``fit`` that was
        killed and is called again with the same parameters and data goes on there, to the same
        result; a finished one is found again, unless ``callbacks`` are others.  Fits of a search
        can share the folder; nothing in it is deleted.
    n_jobs : int, default=None
        Members of the ensemble that are trained at the same time, in processes.  The result does
        not depend on it; Ctrl-C then keeps complete members only, and callbacks of scikit-learn
        do not see the epochs.
    device : str or torch.device, default="auto"
        ``"auto"`` takes CUDA or MPS where there is one, else the CPU.
    precision : {"auto", "float32", "bf16", "fp16"}, default="auto"
        What the linear layers of the transformer compute in; statistics, embeddings, attention
        and heads stay in float32.  ``"auto"`` takes bfloat16 on a GPU, or float16 (with scaled
        gradients) on one older than compute capability 8, and is float32 on a CPU, and float64 in
        prediction from patches, which hides that the last digit of float32 depends on the rows
        that are predicted together; anything else is what predictions are made in, too.
    compile : bool, default=False
        Whether torch compiles the transformer's blocks, which takes half a minute, and as long
        again in the first prediction, needs a C++ compiler (on a GPU: Triton), and pays in long
        runs on a GPU.
    predict_batch_size : int or "auto", default="auto"
        Rows that are predicted at once, those of like length together.  ``"auto"`` is 64 on a CPU
        and 1,024 on a GPU; in any case fewer where they have more than 131,072 events together (a
        million on a GPU), or 128 images or other items beside them (1,024).  What does not fit into
        memory is halved, with a warning.
    random_state : int, RandomState or None, default=None
    callbacks : list of skorch callbacks or of pairs (name, callback), default=None
        Those of scikit-learn go to ``set_callbacks``.  Where there are several members, each
        trains with copies (``nets_[k].callbacks_``).
    net_params : dict, default=None
        Further parameters of the skorch net, by skorch's names, such as ``optimizer``.
    verbose : int, default=0
        1 shows a progress bar with the loss and the validation score.

    Attributes
    ----------
    classes_ : (n_classes,) ndarray
        Labels, sorted; 0 to k-1 where there are several labels for each row.
    temperature_ : float
        What log-probabilities are divided by; 1 without ``calibrate``.
    nets_ : list of skorch.NeuralNet
        Trained members.
    preparation_ : Preparation
        Fitted sequencer, vocabulary and static columns.
    target_ : Target
        What the labels are.
    modality_weights_ : pandas.Series
        With ``fusion="gated"``: what the events and each modality weigh, the mean over (up to
        1,024) training rows.
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
    target_: ClassTarget | MultilabelTarget | StepTarget
    temperature_: float

    _parameter_constraints = {
        **TimeAwareEstimator._parameter_constraints,
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "calibrate": ["boolean"],
    }

    def __init__(
        self,
        *,
        d_model: int = 48,
        n_layers: int = 2,
        n_heads: int = 4,
        dropout: float = 0.2,
        patching: str = "dual",
        time_encoding: str | TimeEmbedder = "time2vec",
        n_windows: int = 16,
        categorical_features: Any = None,
        patch_length: Any = None,
        per_step: bool | str = "auto",
        max_feature_patches: int = 128,
        attention_window: int | None = None,
        code_dropout: float | str = "auto",
        window_dropout: float | str = "auto",
        n_summary_members: int | str = "auto",
        additive_head: bool = True,
        weigh_heads: bool = False,
        sequencer: TripletSequencer | None = None,
        modalities: Mapping[str, Any] | None = None,
        fusion: str = "concat",
        modality_dropout: float = 0.2,
        modality_training: str = "joint",
        pretrain: bool = False,
        pretrained: Any = None,
        fine_tune: str = "full",
        encoder_learning_rate: float | None = None,
        max_epochs: int = 20,
        min_steps: int = 300,
        batch_size: int = 64,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.01,
        schedule: str = "cosine",
        warmup_fraction: float = 0.1,
        max_grad_norm: float | None = 1.0,
        accumulate_steps: int = 1,
        class_weight: dict[Any, float] | str | None = None,
        calibrate: bool = False,
        early_stopping: str | bool = "auto",
        validation_fraction: float = 0.1,
        patience: int = 5,
        scoring: str = "loss",
        n_average: int = 3,
        n_ensemble: int = 3,
        warm_start: bool = False,
        checkpoint_dir: str | os.PathLike[str] | None = None,
        n_jobs: int | None = None,
        device: str | torch.device | None = "auto",
        precision: str = "auto",
        compile: bool = False,
        predict_batch_size: int | str = "auto",
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
        self.categorical_features = categorical_features
        self.patch_length = patch_length
        self.per_step = per_step
        self.max_feature_patches = max_feature_patches
        self.attention_window = attention_window
        self.code_dropout = code_dropout
        self.window_dropout = window_dropout
        self.n_summary_members = n_summary_members
        self.additive_head = additive_head
        self.weigh_heads = weigh_heads
        self.sequencer = sequencer
        self.modalities = modalities
        self.fusion = fusion
        self.modality_dropout = modality_dropout
        self.modality_training = modality_training
        self.pretrain = pretrain
        self.pretrained = pretrained
        self.fine_tune = fine_tune
        self.encoder_learning_rate = encoder_learning_rate
        self.max_epochs = max_epochs
        self.min_steps = min_steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.warmup_fraction = warmup_fraction
        self.max_grad_norm = max_grad_norm
        self.accumulate_steps = accumulate_steps
        self.class_weight = class_weight
        self.calibrate = calibrate
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.scoring = scoring
        self.n_average = n_average
        self.n_ensemble = n_ensemble
        self.warm_start = warm_start
        self.checkpoint_dir = checkpoint_dir
        self.n_jobs = n_jobs
        self.device = device
        self.precision = precision
        self.compile = compile
        self.predict_batch_size = predict_batch_size
        self.random_state = random_state
        self.callbacks = callbacks
        self.net_params = net_params
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self,
        X: Any,
        y: ArrayLike,
        classes: ArrayLike | None = None,
        *,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Go once over some rows, with a learning rate that stays.

        The first call learns the vocabulary, scaling and windows of time; what later rows have
        beyond them counts as unknown.  Goes on from a ``fit``, too.

        Parameters
        ----------
        X, y, sample_weight
            As in :meth:`fit`.
        classes : array, optional
            All classes that further calls may bring; needed in the first call unless ``y`` has
            them all.

        Returns
        -------
        self

        Notes
        -----
        Weights count among the rows of one call, as the steps of the optimizer do not depend on
        the size of the loss: give each call rows of all classes.  The optimizer's moments are kept
        between calls and in a pickle, not in a file of ``save``.
        """
        if self.class_weight == "balanced":
            raise DataError(
                'Expected class_weight to be a dict or None in partial_fit. Got "balanced", which '
                "would balance each part by itself. Compute the weights from all labels with "
                "sklearn.utils.class_weight.compute_class_weight."
            )
        temperature = getattr(self, "temperature_", 1.0)
        named: list[Any] | None = None if classes is None else list(classes)  # type: ignore[arg-type]
        target: Target | None = None
        if named is not None and not hasattr(self, "nets_"):
            known = classes_of(one_label(np.asarray(named)))
            target = ClassTarget(known, np.zeros(len(known)))
        elif named is not None and set(named) != set(self.classes_.tolist()):
            raise DataError(
                f"Expected the classes of the first call: {self.classes_.tolist()}. Got classes="
                f"{named}."
            )
        self._partial_fit(X, y, sample_weight, target)
        self.temperature_ = temperature
        return self

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Log-odds of the second class (n,) with two classes, else log-probabilities (n, k).

        With several labels for each row, log-odds of each (n, k).
        """
        scores, rows = self._scores_of(X)
        if not (self._multilabel or len(self.classes_) > 2):
            scores = scores[..., 1] - scores[..., 0]
        return self._shaped(scores, rows)

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Probability of each class, in the order of ``classes_`` (n, n_classes).

        With several labels for each row, the probability that it has each of them (n, k).  With
        labels of steps (n, T, n_classes), or a list of arrays where ``X`` is one.
        """
        scores, rows = self._scores_of(X)
        return self._shaped(expit(scores) if self._multilabel else np.exp(scores), rows)

    def predict_log_proba(self, X: Any) -> NDArray[np.float64]:
        """Logarithm of the probabilities (n, n_classes)."""
        scores, rows = self._scores_of(X)
        return self._shaped(-np.logaddexp(0.0, -scores) if self._multilabel else scores, rows)

    def predict(self, X: Any) -> NDArray:
        """Most probable class of each row (n,), or zeros and ones (n, k)."""
        scores, rows = self._scores_of(X)
        if self._multilabel:
            return (scores > 0).astype(np.int64)
        return self._shaped(self.classes_[scores.argmax(axis=-1)], rows)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Accuracy of the most probable classes.

        With labels of steps, all steps that have one are judged together.
        """
        check_is_fitted(self)
        if self._per_step:
            return self._step_score(X, y, sample_weight, accuracy_score)
        return super().score(X, y, sample_weight)

    def _check_loaded(self) -> None:
        super()._check_loaded()
        if not (np.isfinite(self.temperature_) and self.temperature_ > 0):
            raise SaveFileError(f"Expected a positive temperature_. Got {self.temperature_!r}.")
        n_classes = len(self.target_.prior)
        target = self.target_.inner if isinstance(self.target_, StepTarget) else self.target_
        classes = target.classes if isinstance(target, ClassTarget) else None
        if len(self.classes_) != n_classes or (
            classes is not None and not np.array_equal(classes, self.classes_)
        ):
            raise SaveFileError("Expected classes_ of the labels there are. Got others.")

    # ---- what the base asks for ----------------------------------------------------------------

    def _check_labels(self, labels: NDArray) -> NDArray:
        if labels.ndim == 2 and labels.shape[1] > 1:
            return indicators(labels)
        labels = one_label(labels)
        classes_of(labels)
        return labels

    def _make_target(self, labels: NDArray, weights: NDArray[np.float64]) -> Target:
        if labels.ndim == 2:
            return MultilabelTarget.fit(labels, weights)
        return ClassTarget.fit(np.unique(labels), labels, weights)

    def _make_step_target(self, labels: NDArray, weights: NDArray[np.float64]) -> StepTarget:
        def learn(there: NDArray, weight: NDArray[np.float64]) -> ClassTarget:
            return ClassTarget.fit(np.unique(there), there, weight)

        def of_class(target: ClassTarget, there: NDArray, weight: NDArray) -> NDArray:
            return self._class_weights(target.classes, there, weight)

        return StepTarget.fit(
            labels, weights, learn, None if self.class_weight is None else of_class
        )

    def _weigh(
        self, labels: NDArray, weights: NDArray[np.float64], target: Target | None
    ) -> NDArray[np.float64]:
        if self.class_weight is None:
            return weights
        if labels.ndim == 2:
            raise DataError(
                "Expected class_weight=None where rows have several labels. Got "
                f"{self.class_weight!r}. Use sample_weight."
            )
        classes = target.classes if isinstance(target, ClassTarget) else np.unique(labels)
        of_class = self._class_weights(classes, labels, weights)
        return weights * of_class[np.searchsorted(classes, labels)]

    def _class_weights(self, classes: NDArray, labels: NDArray, weights: NDArray) -> NDArray:
        """(K,) what ``class_weight`` says, for labels that weigh something already."""
        encoded = np.searchsorted(classes, labels)
        if isinstance(self.class_weight, str):
            # As compute_class_weight does, with the weights of the rows taken into account.
            sums = np.bincount(encoded, weights, minlength=len(classes))
            of_class = weights.sum() / (len(classes) * np.maximum(sums, np.finfo(float).tiny))
        else:
            of_class = compute_class_weight(self.class_weight, classes=classes, y=classes)
        if not (np.isfinite(of_class) & (of_class >= 0)).all():
            raise DataError(
                "Expected class_weight to hold finite numbers of zero or more. Got "
                f"{self.class_weight!r}."
            )
        if not (weights * of_class[encoded]).any():
            raise DataError(
                "Expected a class of positive weight among the labels. Got class_weight="
                f"{self.class_weight!r} for the classes {classes.tolist()}."
            )
        return of_class

    def _state(
        self, ready: Ready, device: torch.device, nets: list[EventNet], going_on: bool = False
    ) -> dict[str, Any]:
        state = super()._state(ready, device, nets, going_on)
        target = ready.target.inner if isinstance(ready.target, StepTarget) else ready.target
        if isinstance(target, ClassTarget):
            state["classes_"] = target.classes
        else:
            state["classes_"] = np.arange(len(target.prior))
        state["temperature_"] = 1.0
        return state

    def _after_training(self, ready: Ready, held_out: RowDataset | None, plan: Ensemble) -> None:
        """Learn the temperature, from rows that the networks have not trained on."""
        if not self.calibrate or plan.was_interrupted(self.nets_):
            return
        if held_out is not None:
            scores, rows = ready.target.combine(scores_of(self.nets_, held_out)), held_out
        else:
            scores, rows = self._out_of_fold(ready, plan)
        if not len(rows):
            return
        labels, weight = rows.target, rows.weight
        if isinstance(ready.target, StepTarget):
            row, step = np.nonzero(labels >= 0)
            at = step - labels.shape[1] + scores.shape[1]
            scores, labels, weight = scores[row, at], labels[row, step], weight[row]
        self.temperature_ = find_temperature(scores, labels, weight, self._multilabel)

    def _out_of_fold(self, ready: Ready, plan: Ensemble) -> tuple[NDArray[np.float64], RowDataset]:
        """Scores of rows by networks that were trained without them, and these rows.

        No rows if training was interrupted.
        """
        if isinstance(plan.pretrained, Continued):
            raise ValueError(
                "Expected calibrate=False to go on from networks that were fine-tuned before. Got "
                "calibrate=True: they have seen the rows that calibration would hold out. Set "
                "warm_start=False, or use CalibratedClassifierCV with other rows."
            )
        data = ready.data
        plan = replace(plan, title=None, recipe=replace(plan.recipe, callbacks=()))
        fold = folds(ready.target.strata(data.target), np.random.RandomState(plan.seeds[0]))
        if not (fold >= 0).any():
            raise DataError(
                f"Expected rows to hold out for calibrate=True. Got {len(data)} different rows, "
                "none of which has another one of its class. Set calibrate=False."
            )
        steps = (data.n_steps,) if isinstance(ready.target, StepTarget) else ()
        scores = np.zeros((len(data), *steps, len(ready.target.prior)))
        for k in range(N_FOLDS):
            out = np.flatnonzero(fold == k)
            if not len(out):
                continue
            try:
                nets = plan.train(data.subset(np.flatnonzero(fold != k)))
            except KeyboardInterrupt:
                nets = []
                warn_interrupted("all members, without a temperature", stacklevel=6)
            if plan.was_interrupted(nets):
                return scores[:0], data.subset(out[:0])
            found = ready.target.combine(scores_of(nets, data.subset(out)))
            if steps:  # these rows may be shorter than others
                scores[out, steps[0] - found.shape[1] :] = found
            else:
                scores[out] = found
        known = np.flatnonzero(fold >= 0)
        return scores[known], data.subset(known)

    @property
    def _multilabel(self) -> bool:
        return isinstance(self.target_, MultilabelTarget)

    def _scores_of(self, X: Any) -> tuple[NDArray[np.float64], Rows]:
        """(n, K) log-probabilities, or log-odds of several labels; (n, T, K) of steps."""
        scores, rows = self._answers(X)
        if self.temperature_ != 1.0:
            scores = tempered(scores, self.temperature_, self._multilabel)
        return scores, rows

    def _shaped(self, answers: NDArray, rows: Rows) -> Any:
        """Answers of cases as they are, those of steps cut to the steps there are."""
        return given_back(answers, rows) if isinstance(rows, Panel) and self._per_step else answers

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
