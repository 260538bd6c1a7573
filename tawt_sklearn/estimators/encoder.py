"""TimeAwareEncoder: learn from histories without labels, and turn them into embeddings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from numbers import Integral
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from tawt_sklearn.estimators._architecture import architecture, beside
from tawt_sklearn.estimators._export import Answer, Exportable, encoder_answer
from tawt_sklearn.estimators._growth import GrowsVocabulary
from tawt_sklearn.estimators._input import Rows, prepare, read_rows, require_data
from tawt_sklearn.estimators._modalities import (
    FUSED,
    NestedModalities,
    refuse_without_modalities,
)
from tawt_sklearn.estimators._modality_weights import WeighsModalities, names, remember_weights
from tawt_sklearn.estimators._panel_preparation import PanelPreparation
from tawt_sklearn.estimators._preparation import Preparation
from tawt_sklearn.estimators._pretraining import (
    check_objectives,
    history_of_run,
    pretrain,
    recipe_of,
)
from tawt_sklearn.estimators._settings import (
    CONSTRAINTS,
    OF_LABELS,
    check_settings,
    rows_at_once,
)
from tawt_sklearn.estimators._step_answers import AnswersSteps
from tawt_sklearn.estimators._together import fitted_together, require_same
from tawt_sklearn.events._dask_methods import lazy_on_dask
from tawt_sklearn.exceptions import DataError, SaveFileError
from tawt_sklearn.nn.pooling import POOLINGS, SCALINGS
from tawt_sklearn.objectives.pretraining import mixture
from tawt_sklearn.tokens._atomic import restored_on_failure
from tawt_sklearn.tokens.embedder import TimeEmbedder
from tawt_sklearn.tokens.sequencer import TripletSequencer
from tawt_sklearn.training.dataset import RowDataset
from tawt_sklearn.training.device import resolve_device
from tawt_sklearn.training.distributed import SavedOnce, shown_once
from tawt_sklearn.training.pretraining import PretrainingNet
from tawt_sklearn.training.trainer import Beginning


@lazy_on_dask("reconstruct", "transform", "transform_steps")
class TimeAwareEncoder(
    NestedModalities,
    WeighsModalities,
    AnswersSteps,
    GrowsVocabulary,
    Exportable,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    SavedOnce,
    BaseEstimator,
):
    """Self-supervised pretraining in ``fit``, embeddings of histories or panels in ``transform``.

    The network is that of :class:`~tawt_sklearn.TimeAwareClassifier`.  It learns from histories
    alone: to rebuild what was hidden, to tell one subject from another, to say what comes next.
    Its embeddings go into any estimator; or ``TimeAwareClassifier(pretrained=encoder)`` starts
    from it, which is what to do with many histories and few labels.

    Parameters
    ----------
    objective : str, objective, or mapping of these to weights, default="masked"
        - ``"masked"``: hide events, windows of time and codes (stretches of time and channels of a
          panel), and rebuild them
          (:class:`~tawt_sklearn.objectives.MaskedReconstruction`);
        - ``"contrastive"``: two views of one history are closer than those of two
          (:class:`~tawt_sklearn.objectives.Contrastive`);
        - ``"forecast"``: what the next stretch of time brings
          (:class:`~tawt_sklearn.objectives.Forecast`);
        - ``"cross_modal"``: what stands beside a history is closest to it
          (:class:`~tawt_sklearn.objectives.CrossModal`); needs ``modalities``;
        - a mixture, such as ``{"masked": 1.0, "contrastive": 0.1}``.
    pooling : {"codewise", "cls", "mean", "max", "attention", "codes"}, default="codewise"
        From the tokens of a row to its embedding.

        - ``"codewise"``: [CLS], means, and sums over the codes' tokens that remember which
          code each one is, projected to ``d_embedding`` numbers;
        - ``"cls"``, ``"mean"``, ``"max"``, ``"attention"``: ``d_model`` numbers from the [CLS]
          token or from all patches;
        - ``"codes"``: [CLS], the mean of the windows, and the token of every code (of the
          ``max_feature_patches`` most frequent ones) side by side, for linear models with
          strong regularisation.
    d_embedding : int, default=64
        Width of the embedding with ``pooling="codewise"``.
    scaling : {"reliability", "unit"}, default="reliability"
        Coordinates of the embedding, centred and of mean variance 1 over the rows that have
        chosen them: of ``fit``, or of the longest ``partial_fit`` so far.

        - ``"reliability"``: a direction is the wider the less it changes when part of a history
          is hidden, so that penalties, distances and principal components trust it as far as it
          can be trusted (:func:`~tawt_sklearn.nn.coordinates.by_reliability`).  A
          ``StandardScaler`` afterwards would undo part of that.
        - ``"unit"``: columns of unit variance, which ``pooling="codes"`` always has.
    d_model, n_layers, n_heads, dropout, patching, time_encoding, n_windows
    max_feature_patches, attention_window
        Shape of the network, as for :class:`~tawt_sklearn.TimeAwareClassifier`.
    categorical_features, patch_length
        Of panels, as for :class:`~tawt_sklearn.TimeAwareClassifier`.
    sequencer : TripletSequencer, default=None
        How raw histories are tokenised; None is ``TripletSequencer(value_scaling="quantile")``:
        with scaling by rank a linear model on the embeddings does better.  Not used when the
        histories come tokenised.
    modalities : dict, default=None
        What further columns of ``X`` hold, such as ``{"xray": ImageEncoder()}``: images, or any
        :class:`~tawt_sklearn.Modality`.  See ``docs/modalities.md``.
    fusion : {"concat", "attention", "gated"}, default="concat"
        How they come together with the events: embeddings side by side; patches of the events
        look at the tokens of the modalities; a mean of the embeddings whose weights depend on all
        of them.
    modality_dropout : float, default=0.2
        Share of rows from which a modality is hidden in a training step, so that rows without it
        are served well.
    output : {"fused", "each"}, default="fused"
        With modalities: whether ``transform`` gives the fused embedding, or before it those of
        the events alone and of each modality, too.  May be set after ``fit``.
    max_epochs : int, default=20
    min_steps : int, default=300
        Train for more epochs than ``max_epochs`` where these would be fewer steps.
    batch_size : int, default=64
        Rows in a step; at most a quarter of the training rows.
    learning_rate : float, default=2e-3
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
        with a warning that tells the sizes; a contrastive objective compares the rows of such a
        part.
    checkpoint_dir : str or Path, default=None
        Folder for the state of a running ``fit``, written after every epoch; a ``fit`` that was
        killed goes on there when called again.
    device : str or torch.device, default="auto"
        ``"auto"`` takes CUDA or MPS where there is one, else the CPU.
    precision : {"auto", "float32", "bf16", "fp16"}, default="auto"
        What the linear layers of the transformer compute in; statistics, embeddings, attention
        and heads stay in float32.  ``"auto"`` takes bfloat16 on a GPU, or float16 (with scaled
        gradients) on one older than compute capability 8, and is float32 on a CPU.
    compile : bool, default=False
        Whether torch compiles the transformer's blocks, which takes half a minute, and as long
        again in the first prediction, needs a C++ compiler (on a GPU: Triton), and pays in long
        runs on a GPU.
    predict_batch_size : int or "auto", default="auto"
        Rows that are embedded at once, those of like length together.  ``"auto"`` is 64 on a CPU
        and 1,024 on a GPU; in any case fewer where they have more than 131,072 events together (a
        million on a GPU), or 128 images or other items beside them (1,024).  What does not fit into
        memory is halved, with a warning.
    n_jobs : int, default=None
        Threads of pretraining: one where None, -1 for all cores.  A second thread saves a third
        of the time where its core is free and costs a multiple of it where it is not.  Results
        for different numbers of threads are not the same to the last digit; a ``fit`` that was
        killed goes on with as many as before.
    random_state : int, RandomState or None, default=None
    callbacks : list of skorch callbacks or of pairs (name, callback), default=None
    net_params : dict, default=None
        Further parameters of the skorch net, by skorch's names, such as ``optimizer``.
    verbose : int, default=0
        1 shows a progress bar.

    Attributes
    ----------
    net_ : skorch.NeuralNet
        The trained network.
    preparation_ : Preparation
        Fitted sequencer, vocabulary and static columns.
    modality_weights_ : pandas.Series
        With ``fusion="gated"``: what the events and each modality weigh, the mean over (up to
        1,024) training rows.
    history_ : pandas.DataFrame
        One row for each epoch: ``train_loss``, its parts (``train_<objective>_<part>``, the same
        with ``valid_`` where there were validation data), and ``effective_rank``, ``alignment``
        and ``uniformity`` of the embeddings of 256 rows, which warn of collapse
        (:mod:`tawt_sklearn.objectives.representation`).
    n_iter_ : int
        Epochs of training.
    device_ : torch.device
        Where training ran.
    n_features_in_ : int
    feature_names_in_ : (n_features_in_,) ndarray

    See Also
    --------
    tawt_sklearn.TimeAwareClassifier : ``pretrained=`` starts from an encoder.
    tawt_sklearn.inspection.PretrainingDisplay : A picture of ``history_``.

    Examples
    --------
    >>> from tawt_sklearn import TimeAwareEncoder
    >>> from tawt_sklearn.datasets import make_icu_stays
    >>> X, _ = make_icu_stays(200, random_state=0)
    >>> encoder = TimeAwareEncoder(d_model=16, max_epochs=2, min_steps=10, random_state=0)
    >>> encoder.fit(X).transform(X.iloc[:3]).shape
    (3, 64)
    """

    _parameter_constraints: dict[str, Any] = {
        **{name: CONSTRAINTS[name] for name in CONSTRAINTS if name not in OF_LABELS},
        "objective": "no_validation",  # mixture() says what is wrong with it
        "pooling": [StrOptions(set(POOLINGS))],
        "d_embedding": [Interval(Integral, 1, None, closed="left")],
        "scaling": [StrOptions(set(SCALINGS))],
        "output": [StrOptions({"fused", "each"})],
    }
    _unsavable_params = ("callbacks", "net_params")
    _local_params = ("checkpoint_dir",)

    net_: PretrainingNet
    preparation_: Preparation | PanelPreparation
    history_: pd.DataFrame
    n_iter_: int
    device_: torch.device
    n_features_in_: int

    def __init__(
        self,
        *,
        objective: Any = "masked",
        pooling: str = "codewise",
        d_embedding: int = 64,
        scaling: str = "reliability",
        d_model: int = 48,
        n_layers: int = 2,
        n_heads: int = 4,
        dropout: float = 0.1,
        patching: str = "dual",
        time_encoding: str | TimeEmbedder = "time2vec",
        n_windows: int = 16,
        categorical_features: Any = None,
        patch_length: Any = None,
        max_feature_patches: int = 128,
        attention_window: int | None = None,
        sequencer: TripletSequencer | None = None,
        modalities: Mapping[str, Any] | None = None,
        fusion: str = "concat",
        modality_dropout: float = 0.2,
        output: str = "fused",
        max_epochs: int = 20,
        min_steps: int = 300,
        batch_size: int = 64,
        learning_rate: float = 2e-3,
        weight_decay: float = 0.01,
        schedule: str = "cosine",
        warmup_fraction: float = 0.1,
        max_grad_norm: float | None = 1.0,
        accumulate_steps: int = 1,
        checkpoint_dir: str | os.PathLike[str] | None = None,
        device: str | torch.device | None = "auto",
        precision: str = "auto",
        compile: bool = False,
        predict_batch_size: int | str = "auto",
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        callbacks: list[Any] | None = None,
        net_params: dict[str, Any] | None = None,
        verbose: int = 0,
    ) -> None:
        self.objective = objective
        self.pooling = pooling
        self.d_embedding = d_embedding
        self.scaling = scaling
        self.d_model = d_model
        self.n_layers = n_layers
        self.n_heads = n_heads
        self.dropout = dropout
        self.patching = patching
        self.time_encoding = time_encoding
        self.n_windows = n_windows
        self.categorical_features = categorical_features
        self.patch_length = patch_length
        self.max_feature_patches = max_feature_patches
        self.attention_window = attention_window
        self.sequencer = sequencer
        self.modalities = modalities
        self.fusion = fusion
        self.modality_dropout = modality_dropout
        self.output = output
        self.max_epochs = max_epochs
        self.min_steps = min_steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.warmup_fraction = warmup_fraction
        self.max_grad_norm = max_grad_norm
        self.accumulate_steps = accumulate_steps
        self.checkpoint_dir = checkpoint_dir
        self.device = device
        self.precision = precision
        self.compile = compile
        self.predict_batch_size = predict_batch_size
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.callbacks = callbacks
        self.net_params = net_params
        self.verbose = verbose

    # ---- fit ---------------------------------------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, *, X_val: Any = None) -> Self:
        """Learn from histories without labels.

        Parameters
        ----------
        X : DataFrame of n rows, or anything :func:`~tawt_sklearn.as_events` takes
            One row for each subject: an events column, raw or tokenised, and static columns.
            Also a panel (n, n_channels, n_timepoints), a list of arrays (n_channels,
            n_timepoints_i), or numbers (n, n_timepoints) with one series in each row; NaN is "not
            measured".
        y : ignored
        X_val : as X, optional
            Histories whose loss is recorded after every epoch.  They do not decide anything.

        Returns
        -------
        self

        Raises
        ------
        NotNestedError
            ``X`` is a long table with one row for each event.
        DataError
            There is nothing to learn from.
        DeviceError
            There is no such device.
        TrainingError
            Training diverged, or another process of the job has failed or ended.

        Warns
        -----
        TrainingWarning
            Ctrl-C ended training after the first epoch.  The encoder is fitted as far as it came.
        """
        with restored_on_failure(self), shown_once(), fitted_together(self) as processes:
            objectives, device = self._checked()
            preparation, data = self._read(X)
            require_same(processes, rows=data.content(), vocabulary_or_scaling=preparation)
            held_out = None
            if X_val is not None:
                held_out = preparation.dataset(read_rows(self, X_val, preparation)[0])
            model = self._model(preparation, objectives)
            net = pretrain(self, model, data, held_out, device, recipe_of(self))
            self._remember(net, preparation, device)
            remember_weights(self, [net], data)
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Go once over some histories, with a learning rate that stays.

        The first call learns the vocabulary, scaling and windows of time; what later histories
        have beyond them counts as unknown, unless :meth:`add_codes` has added it.

        Parameters
        ----------
        X : as in :meth:`fit`
        y : ignored

        Returns
        -------
        self
        """
        with restored_on_failure(self), shown_once(), fitted_together(self) as processes:
            objectives, device = self._checked()
            recipe = replace(recipe_of(self), max_epochs=1, min_steps=0, incremental=True)
            if not hasattr(self, "net_"):
                preparation, data = self._read(X)
                require_same(processes, rows=data.content(), vocabulary_or_scaling=preparation)
                model = self._model(preparation, objectives)
                net = pretrain(self, model, data, None, device, recipe)
                self._remember(net, preparation, device)
                remember_weights(self, [net], data)
                return self
            preparation = self.preparation_
            preparation.check_settings(self, self._sequencer())
            model = self._known_model(objectives)
            data = preparation.dataset(read_rows(self, X, preparation)[0])
            data = data.subset(data.canonical_order())
            require_same(processes, rows=data.content(), vocabulary_or_scaling=preparation)
            beginning = Beginning.after(self.net_)
            turn = self.n_iter_ + 1
            net = pretrain(self, model, data, None, device, recipe, beginning, turn)
            self._remember(net, preparation, device, self.history_)
            remember_weights(self, [net], data)
        return self

    def _pretrained_on(
        self, preparation: Preparation | PanelPreparation, data: RowDataset, device: torch.device
    ) -> PretrainingNet:
        """What ``fit`` does with rows that another estimator has prepared; nothing is kept here."""
        objectives, _ = self._checked()
        return pretrain(
            self, self._model(preparation, objectives), data, None, device, recipe_of(self)
        )

    def _checked(self) -> tuple[tuple[Any, ...], torch.device]:
        """Objectives and device, once all parameters have been checked."""
        check_settings(self)
        if self.pooling in ("codes", "codewise") and self.patching == "time":
            raise ValueError(
                f'Expected patching="dual" or "feature" with pooling={self.pooling!r}, which is '
                'made of the tokens of codes. Got patching="time".'
            )
        objectives = mixture(self.objective)
        check_objectives(self, objectives)
        return objectives, resolve_device(self.device)

    def _read(self, X: Any) -> tuple[Preparation | PanelPreparation, RowDataset]:
        """Learn everything that comes before the network."""
        frame, form = read_rows(self, X)
        require_data(frame)
        preparation, data = prepare(self, frame, form, self._sequencer())
        return preparation, data.subset(data.canonical_order())

    def _sequencer(self) -> TripletSequencer:
        if self.sequencer is None:
            return TripletSequencer(value_scaling="quantile")
        return self.sequencer

    def _model(
        self, preparation: Preparation | PanelPreparation, objectives: tuple[Any, ...]
    ) -> dict[str, Any]:
        """Keywords of :class:`Pretrainer`."""
        return {
            "objectives": objectives,
            "pooling": self.pooling,
            "d_embedding": self.d_embedding,
            "scaling": self.scaling,
            "category_offsets": preparation.category_offsets,
            "backbone": architecture(self, preparation),
            **beside(self, preparation),
        }

    def _known_model(self, objectives: tuple[Any, ...]) -> dict[str, Any]:
        """Keywords of the network there is, if the parameters still ask for it."""
        before = self.net_.module.keywords
        now = self._model(self.preparation_, objectives)
        grown = before["backbone"].get("n_fixed_codes")
        if grown is not None:
            now["backbone"]["n_fixed_codes"] = grown
        ours = ("objectives", "pooling", "d_embedding", "scaling", "fusion")
        changed = [name for name in ours if now.get(name) != before.get(name)]
        shapes = now["backbone"].keys() - {"dropout"}
        changed += sorted(n for n in shapes if now["backbone"][n] != before["backbone"].get(n))
        if changed:
            raise ValueError(
                "Expected the architecture and the objective of the last fit to go on with its "
                f"network. Got other values of {', '.join(changed)}. Set them back, or call fit."
            )
        return now

    def _remember(
        self,
        net: PretrainingNet,
        preparation: Preparation | PanelPreparation,
        device: torch.device,
        before: pd.DataFrame | None = None,
    ) -> None:
        history = history_of_run(net, before)
        self.net_ = net
        self.preparation_ = preparation
        self.device_ = device
        self.history_ = history
        self.n_iter_ = int(history["epoch"].max())

    # ---- what it has learned -----------------------------------------------------------------

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Embeddings of histories.

        Parameters
        ----------
        X : as in :meth:`fit`

        Returns
        -------
        (n, d) float32 array, or a frame after ``set_output``
            ``d`` is ``d_embedding`` or ``d_model``, as ``pooling`` says.  Embeddings are scaled
            already, as ``scaling`` says.  A row's embedding does not depend on the rows that
            come with it.  With modalities they are fused ones; with ``output="each"`` those of
            the events alone and of each modality, in columns of unit variance, stand before them.
        """
        data = self._dataset(X)  # before net_, which an encoder without a fit has not
        embedded = self.net_.embeddings(data, rows_at_once(self), each_part=self._gives_each)
        _refuse_lost(embedded)
        return embedded

    def score(self, X: Any, y: Any = None) -> float:
        """Minus the objective of histories that were not trained on; larger is better.

        Masks and views are the same in every call.  Rows are judged 64 at a time, whatever
        ``batch_size`` is; a contrastive objective compares the rows of such a batch with each
        other, and says nothing of a few rows.

        Parameters
        ----------
        X : as in :meth:`fit`
        y : ignored
        """
        data = self._dataset(X)
        return -self.net_.losses(data)["loss"]

    def _rows(self, X: Any) -> tuple[Rows, Any]:
        check_is_fitted(self)
        frame, _ = read_rows(self, X, self.preparation_)
        return frame, self.preparation_.dataset(frame)

    def _answer(self) -> Answer:
        return encoder_answer(self.net_, self._n_features_out)

    def _dataset(self, X: Any) -> Any:
        return self._rows(X)[1]

    # ---- what scikit-learn asks for ------------------------------------------------------------

    @property
    def _gives_each(self) -> bool:
        """Whether embeddings of modalities are given by themselves, too."""
        check_is_fitted(self)
        if self.output == "each" and not self.net_.module_.beside:
            refuse_without_modalities(self)
        return self.output == "each"

    @property
    def _n_features_out(self) -> int:
        return self.net_.module_.d_out

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Names of the columns of an embedding.

        ``timeawareencoder0``, ...; with ``output="each"`` ``events0``, ..., ``<modality>0``, ...
        and ``fused0``, ....

        Parameters
        ----------
        input_features : ignored
        """
        if not self._gives_each:
            return super().get_feature_names_out(input_features)
        module = self.net_.module_
        widths = [*(len(part.center) for part in module.parts), module.d_out]
        parts = zip([*names(self), FUSED], widths, strict=True)
        return np.array([f"{name}{k}" for name, d in parts for k in range(d)], dtype=object)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "net_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = []
        return tags

    @classmethod
    def _from_saved(cls, state: dict[str, Any], device: Any) -> Self:
        encoder = super()._from_saved(state, device)
        if hasattr(encoder, "net_"):
            encoder.device_ = resolve_device(device)
        return encoder

    def _check_loaded(self) -> None:
        built = self.net_.module.keywords["backbone"]
        learned = self.preparation_.sizes()
        if odd := [name for name in learned if built[name] != learned[name]]:
            raise SaveFileError(
                f"Expected a network for the data that were prepared. Got another {odd[0]}."
            )
        if self.n_iter_ != self.history_["epoch"].max():
            raise SaveFileError(f"Expected n_iter_ of the history. Got {self.n_iter_}.")


def _refuse_lost(embedded: NDArray) -> None:
    lost = ~np.isfinite(embedded).all(axis=1)
    if lost.any():
        raise DataError(
            f"Expected finite embeddings. Got others for {int(lost.sum())} rows, the first at "
            f"position {int(lost.argmax())}: their times or values are too large for single "
            "precision. Compare them with those of the training data."
        )
