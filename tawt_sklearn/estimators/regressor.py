"""TimeAwareRegressor: event histories or panels in, numbers out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import RegressorMixin, _fit_context
from sklearn.metrics import r2_score
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted

from tawt_sklearn.estimators._base import TimeAwareEstimator
from tawt_sklearn.estimators._per_step import given_back
from tawt_sklearn.events._dask_methods import lazy_on_dask
from tawt_sklearn.events.panels import Panel
from tawt_sklearn.objectives.labels import finite_numbers
from tawt_sklearn.objectives.steps import StepTarget
from tawt_sklearn.objectives.supervised import NumericTarget
from tawt_sklearn.tokens.embedder import TimeEmbedder
from tawt_sklearn.tokens.sequencer import TripletSequencer


@lazy_on_dask("predict")
class TimeAwareRegressor(RegressorMixin, TimeAwareEstimator):
    """A dual-patch transformer that predicts numbers from event histories or sensor panels.

    The same network as in :class:`~tawt_sklearn.TimeAwareClassifier`.  Labels are one number
    (n,) or several (n, k) for each row, or one at each step of a panel (n, n_timepoints); they
    are scaled inside, predictions have their unit.

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
    code_dropout, window_dropout : float, default=0
        Mean share of codes and windows that are hidden in a training step.  It helps classifiers;
        numbers often depend on how much there is, which hiding changes.
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
        the epochs allow.
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
    loss : {"squared_error", "huber"}, default="squared_error"
        Of labels that are scaled by their mean and standard deviation; Huber's is linear beyond
        one standard deviation.
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
        Networks trained from different seeds (and hold-outs); their predictions are
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
    tawt_sklearn.TimeAwareClassifier : The same for classes.
    tawt_sklearn.TripletSequencer : Makes the tokens; put it before this step to search over it.

    Examples
    --------
    >>> from tawt_sklearn import TimeAwareRegressor
    >>> from tawt_sklearn.datasets import make_icu_stays
    >>> X, _ = make_icu_stays(200, random_state=0)
    >>> hours = X["events"].events.lengths / 10
    >>> model = TimeAwareRegressor(d_model=16, max_epochs=2, min_steps=10, random_state=0)
    >>> model.fit(X, hours).predict(X.iloc[:3]).shape
    (3,)
    """

    target_: NumericTarget | StepTarget

    _parameter_constraints = {
        **TimeAwareEstimator._parameter_constraints,
        "loss": [StrOptions({"squared_error", "huber"})],
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
        code_dropout: float = 0.0,
        window_dropout: float = 0.0,
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
        loss: str = "squared_error",
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
        self.loss = loss
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
    def partial_fit(self, X: Any, y: ArrayLike, *, sample_weight: ArrayLike | None = None) -> Self:
        """Go once over some rows, with a learning rate that stays.

        The first call learns the vocabulary, scaling (of the labels, too) and windows of time;
        what later rows have beyond them counts as unknown.  Goes on from a ``fit``, too.

        Parameters
        ----------
        X, y, sample_weight
            As in :meth:`fit`.

        Returns
        -------
        self
        """
        return self._partial_fit(X, y, sample_weight, None)

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Numbers in the unit of the training labels, (n,) or (n, k) as they were.

        With labels of steps (n, T), or a list of (T_i,) arrays where ``X`` is a list.
        """
        numbers, rows = self._answers(X)
        if isinstance(rows, Panel) and self._per_step:
            return given_back(numbers[..., 0], rows)
        assert isinstance(self.target_, NumericTarget)
        return self.target_.answer(numbers)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """R2 of the predictions.

        With labels of steps, all steps that have one are judged together.
        """
        check_is_fitted(self)
        if self._per_step:
            return self._step_score(X, y, sample_weight, r2_score)
        return super().score(X, y, sample_weight)

    # ---- what the base asks for ----------------------------------------------------------------

    def _known_target(self) -> NumericTarget | StepTarget:
        if isinstance(self.target_, StepTarget):
            return self.target_.with_error(self.loss)
        return replace(self.target_, error=self.loss)

    def _check_labels(self, labels: NDArray) -> NDArray:
        return finite_numbers(labels)

    def _make_step_target(self, labels: NDArray, weights: NDArray[np.float64]) -> StepTarget:
        return StepTarget.fit(labels, weights, self._make_target)

    def _make_target(self, labels: NDArray, weights: NDArray[np.float64]) -> NumericTarget:
        return NumericTarget.fit(labels, weights, self.loss)
