"""The skorch net that an estimator builds in ``fit``: batches of events instead of tensors."""

from __future__ import annotations

import dis
import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from numbers import Integral
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet
from skorch.callbacks import EpochTimer, PassthroughScoring
from skorch.history import History
from torch import Tensor, nn
from torch.nn import functional as F

from tawt_sklearn.exceptions import DataError, SaveFileError
from tawt_sklearn.nn.additive import Curves
from tawt_sklearn.nn.batch import EventBatch
from tawt_sklearn.nn.model import DualPatchPredictor
from tawt_sklearn.nn.panel_patching import TemporalStrides
from tawt_sklearn.objectives.steps import StepTarget
from tawt_sklearn.objectives.supervised import TARGETS, WeightedLoss
from tawt_sklearn.training.callbacks import TrainingStopped, plain_epochs
from tawt_sklearn.training.chunks import chunks, each, rows_for
from tawt_sklearn.training.dataset import RowDataset
from tawt_sklearn.training.device import resolve_device
from tawt_sklearn.training.memory import is_out_of_memory, too_large, warn_split
from tawt_sklearn.training.precision import PRECISIONS, narrow_type, predicts_in_double, usable_type
from tawt_sklearn.training.processes import (
    GOING,
    INTERRUPTED,
    STOPPED,
    AllInterruptedError,
    OtherStoppedError,
    Processes,
)
from tawt_sklearn.training.seeding import isolated_torch
from tawt_sklearn.training.shares import Share, SharedRows

MOST_PAIRS = 2**22
"""Pairs of temporal patches, over all rows, that attend to each other at once in prediction."""


class EventNet(NeuralNet):
    """A :class:`skorch.NeuralNet` over :class:`RowDataset`.

    The data set cuts whole batches from flat arrays, so the loader has nothing to collate, and a
    batch is an object of its own rather than a tensor or a dict of them.

    Parameters
    ----------
    *args, **kwargs
        As for :class:`skorch.NeuralNet`.
    encoder_lr : float, optional
        Learning rate of what was pretrained, if it is not that of the head.
    summary_lr : float, optional
        Of the head for statistics side by side.
    precision : str, default="auto"
        What the linear layers of the transformer compute in
        (:func:`~tawt_sklearn.training.precision.narrow_type`).
    n_parts : int, default=1
        Parts of a training batch that are worked on one after the other; their gradients are
        summed.
    compiled : bool, default=False
        Whether torch compiles the blocks.

    Attributes
    ----------
    scaler_ : torch.amp.GradScaler or None
        Keeps the gradients of float16 above what it rounds to zero.
    interrupted_ : bool
        Whether the last run ended by Ctrl-C, with the best weights so far.
    cut_short_ : bool
        Whether the last run ended before it was done, by Ctrl-C or by a callback of the user.
    processes : Processes
        That train this net together, during the run.
    """

    module: Any
    interrupted_ = False
    cut_short_ = False

    scaler_: torch.amp.GradScaler | None = None

    processes = Processes()

    def __init__(
        self,
        *args: Any,
        encoder_lr: float | None = None,
        summary_lr: float | None = None,
        precision: str = "auto",
        n_parts: int = 1,
        compiled: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.encoder_lr = encoder_lr
        self.summary_lr = summary_lr
        self.precision = precision
        self.n_parts = n_parts
        self.compiled = compiled

    def initialize_module(self) -> EventNet:
        """As in skorch; then say what the blocks compute in."""
        super().initialize_module()
        device = torch.device(self.device)
        narrow = narrow_type(self.precision, device)
        self._compute_in(narrow)
        self.scaler_ = torch.amp.GradScaler(device.type) if narrow is torch.float16 else None
        self.n_parts_ = {"train": self.n_parts, "valid": 1}
        if self.compiled:
            self.module_.backbone.compile_blocks()
        return self

    @property
    def _default_callbacks(self) -> list[tuple[str, Any]]:
        return [
            ("epoch_timer", EpochTimer()),
            ("train_loss", PassthroughScoring(name="train_loss", on_train=True)),
            ("valid_loss", PassthroughScoring(name="valid_loss")),
        ]

    def notify(self, method_name: str, **cb_kwargs: Any) -> None:
        """As in skorch, whose callbacks end training by a KeyboardInterrupt of their own."""
        try:
            super().notify(method_name, **cb_kwargs)
        except KeyboardInterrupt as stop:
            if _raised_on_purpose(stop):
                raise TrainingStopped from stop
            raise
        except KeyError as error:
            if "valid_" in str(error) and self.train_split is None:
                raise DataError(
                    f"Expected validation data, which a callback asks for ({error}). Nothing is "
                    "held out. Set early_stopping=True, or pass X_val and y_val to fit."
                ) from error
            raise

    def run(self, data: RowDataset, resume: Callable[[EventNet], None] | None = None) -> EventNet:
        """Train an initialized net for its ``max_epochs``.

        Ctrl-C ends the run and keeps what the finished epochs have found, as in skorch; before
        the end of the first epoch there is nothing to keep, and the interrupt goes on.

        Parameters
        ----------
        resume : callable, optional
            Puts the state of an earlier, unfinished run into the net before the first epoch.
        """
        ended = GOING
        data.hold_on(self.module_device)
        try:
            self._epochs(data, resume)
        except TrainingStopped:
            ended = self.processes.stop(STOPPED)
        except KeyboardInterrupt:
            ended = self.processes.stop(INTERRUPTED)
        except OtherStoppedError as other:
            ended = other.state
        self.interrupted_, self.cut_short_ = ended == INTERRUPTED, ended != GOING
        if len(self.history) and "train_loss" not in self.history[-1]:
            self.history.pop()
        self.notify("on_train_end", X=data, y=None)
        if self.cut_short_ and self.processes.number > 1:  # some may have come farther than others
            self.history_ = History(self.processes.told(plain_epochs(self.history), "the epochs"))
            self.processes.align(self.module_)
        if not len(self.history):
            kind = KeyboardInterrupt if self.processes.number == 1 else AllInterruptedError
            raise kind("Training was ended before the end of the first epoch.")
        for epoch in self.history:
            epoch["batches"] = []  # one entry for each step would travel inside every pickle
        return self

    def _epochs(self, data: RowDataset, resume: Callable[[EventNet], None] | None) -> None:
        """All epochs, or as many as it takes."""
        try:
            self.notify("on_train_begin", X=data, y=None)
            if resume is not None:
                resume(self)
            self.fit_loop(data, None, epochs=self.max_epochs - len(self.history))
        except TrainingStopped as stop:
            if stop.__cause__ is not None:
                raise
        self.processes.meet("the end of training")

    def get_iterator(self, dataset: Any, training: bool = False) -> Any:
        """As in skorch; of a training batch each process gets its share."""
        if training and self.processes.number > 1:
            dataset = SharedRows(dataset, self.processes.rank, self.processes.number)
        return super().get_iterator(dataset, training)

    # ---- a training step ---------------------------------------------------------------------

    def train_step_single(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        """Gradients of the loss of a batch, summed over all processes.

        What the answers say of parts of a loss is this process's share.
        """
        self._set_training(True)
        rows, truth = batch
        if isinstance(rows, Share):
            step = self._as_it_fits(rows.own, truth, len(rows), "train")
            parameters = [p for _, p in self.get_all_learnable_params() if p.requires_grad]
            step["loss"] = self.processes.add_gradients(parameters, step["loss"], rows.key)
        else:
            step = self._as_it_fits(rows, truth, len(rows), "train")
        if self.scaler_ is not None:
            self.scaler_.unscale_(self.optimizer_)
        return step

    def validation_step(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        """As in skorch, in as many parts as fit into memory."""
        self._set_training(False)
        rows, truth = batch
        with torch.no_grad():
            return self._as_it_fits(rows, truth, len(rows), "valid")

    def _as_it_fits(self, rows: Any, truth: Any, n_rows: int, split: str) -> dict[str, Any]:
        """Loss and scores of rows and, of those to train on, gradients.

        Where memory runs out the rows are begun again in twice as many parts.
        """
        while True:
            n_parts = self.n_parts_[split]
            try:
                return self._in_parts(rows, truth, n_rows, n_parts, split)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if n_parts >= len(rows):
                    largest = rows.part(0, 1) if len(rows) else rows
                    raise too_large(largest, self.module_device, "training") from error
            # Outside of the except clause, which keeps the tensors of the failed step alive.
            if split == "train":
                self._zero_grad_optimizer()
            self.n_parts_[split] = min(2 * n_parts, len(rows))
            warn_split(rows, self.n_parts_[split], self.module_device, split)

    def _in_parts(
        self, rows: Any, truth: Any, n_rows: int, n_parts: int, split: str
    ) -> dict[str, Any]:
        """Loss and scores of some of the ``n_rows`` of a batch, all of them mostly.

        Gradients are added to those there are.
        """
        n_own, training = len(rows), split == "train"
        if not n_own:  # a small last batch has fewer rows than there are processes
            nothing = torch.zeros((), device=self.module_device)
            if self.scaler_ is not None:
                self.scaler_.scale(nothing)  # which also makes it ready
            return {"loss": nothing, "y_pred": {}}
        n_parts = min(n_parts, n_own)
        borders = [n_own * k // n_parts for k in range(n_parts + 1)]
        losses, scores, shares = [], [], []
        for first, last in pairwise(borders):
            whole = last - first == n_own
            part = rows if whole else rows.part(first, last)
            answer = self.infer(part)
            labels = truth if whole else tuple(given[first:last] for given in truth)
            loss = self.get_loss(answer, labels, X=part, training=training)
            share = (last - first) / n_rows
            shared = loss * share
            if training:
                (shared if self.scaler_ is None else self.scaler_.scale(shared)).backward()
            losses.append(shared.detach())
            scores.append(_detached(answer))
            shares.append(share)
        return {"loss": torch.stack(losses).sum(), "y_pred": _together(scores, shares)}

    def _step_optimizer(self, step_fn: Any) -> None:
        if self.scaler_ is None:
            super()._step_optimizer(step_fn)
            return
        step_fn()
        self.scaler_.step(self.optimizer_)
        self.scaler_.update()

    def infer(self, x: EventBatch, **fit_params: Any) -> Tensor:
        dtype = next(self.module_.parameters()).dtype
        return self.module_(x.to(self.device, dtype), **fit_params)

    def get_params_for_optimizer(
        self, prefix: str, named_parameters: Any
    ) -> tuple[tuple[list[dict[str, Any]]], dict[str, Any]]:
        """Decay matrices; neither biases and norms nor the few scalars (decays, half-lives)."""
        _, kwargs = super().get_params_for_optimizer(prefix, named_parameters)
        decay = kwargs.pop("weight_decay", 0.0)
        parameters = [(n, p) for n, p in self.module_.named_parameters() if p.requires_grad]
        rates = {"encoder": self.encoder_lr, "head": None, "summary_head": self.summary_lr}
        kinds: dict[str, list[Tensor]] = {kind: [] for kind in rates}
        for name, parameter in parameters:
            start = name.partition(".")[0]
            kinds[start if start in kinds else "encoder"].append(parameter)
        groups = [
            {
                "params": [p for p in kinds[kind] if _is_matrix(p) is matrices],
                "weight_decay": decay if matrices else 0.0,
                **({} if lr is None else {"lr": lr}),
            }
            for kind, lr in rates.items()
            for matrices in (True, False)
            if kinds[kind]
        ]
        return (groups,), kwargs

    def prepare_for_prediction(self) -> EventNet:
        """Evaluation mode, and double precision where that is what scores are computed in."""
        self.module_.eval()
        device = self.module_device
        # A net that was trained on a GPU may be somewhere else by now.
        self._compute_in(usable_type(self.precision, device))
        patching = self.module.keywords["backbone"].get("patching", "dual")
        if predicts_in_double(self.precision, device, patching):
            self.module_.double()
        return self

    def add_curves(self, curves: Curves, share: float) -> EventNet:
        """Let an additive model of the summary have its share in what is said."""
        own = {**self.module.keywords, "curves": curves, "curves_share": share}
        self.module = partial(self.module.func, **own)
        self.module_.add_curves(curves, share)
        return self

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if hasattr(self, "module_"):
            self._compute_in(usable_type(self.precision, self.module_device))

    def _compute_in(self, narrow: torch.dtype | None) -> None:
        """Say what the linear layers of the blocks compute in."""
        if (backbone := getattr(self.module_, "backbone", None)) is not None:
            backbone.narrow = narrow

    @property
    def module_device(self) -> torch.device:
        """Where the weights are."""
        return next(self.module_.parameters()).device

    def weights(self) -> dict[str, Tensor]:
        """Copies of all parameters and buffers, in single precision on the CPU."""
        state = {name: tensor.detach().cpu() for name, tensor in self.module_.state_dict().items()}
        return {
            name: (tensor.float() if tensor.is_floating_point() else tensor).clone()
            for name, tensor in state.items()
        }

    # ---- saving and loading ------------------------------------------------------------------

    def _to_saved(self) -> dict[str, Any]:
        """Architecture, weights, history; the optimizer is made anew."""
        return {
            "model": dict(self.module.keywords),
            "precision": self.precision,
            "target": self.criterion.target,
            "weights": {name: tensor.numpy() for name, tensor in self.weights().items()},
            "history": [
                {name: value for name, value in epoch.items() if isinstance(value, int | float)}
                for epoch in self.history
            ],
        }

    @classmethod
    def _from_saved(cls, state: dict[str, Any], device: Any) -> EventNet:
        model, weights = state["model"], state["weights"]
        weights = {name: torch.from_numpy(np.array(array)) for name, array in weights.items()}
        check_architecture(model)
        check_weights(DualPatchPredictor, model, weights)
        if not isinstance(state["target"], (*TARGETS, StepTarget)):
            raise SaveFileError(f"Expected a target. Got {type(state['target']).__name__}.")
        if len(state["target"].prior) != len(model["prior"]):
            raise SaveFileError("Expected as many outputs as the target has.")
        place = resolve_device(device)
        with isolated_torch(0, place, n_threads=None):
            net = cls(
                partial(DualPatchPredictor, **model),
                WeightedLoss(state["target"]),
                optimizer=torch.optim.AdamW,
                train_split=None,
                verbose=0,
                device=str(place),
                precision="float32",
            ).initialize()
        net.precision = precision_of(state)  # which this device need not be able to train in
        net.module_.load_state_dict(weights)
        net.history_ = History({**epoch, "batches": []} for epoch in state["history"])
        return net.prepare_for_prediction()

    def rows_at_once(self, dataset: RowDataset, asked: int | str = "auto") -> int:
        """Rows that are predicted at once: fewer where they are far longer than those of fit."""
        if isinstance(asked, Integral):
            return int(asked)
        usual = rows_for(self.module_device)
        if not dataset.n_steps:
            return usual
        temporal = self.module_.backbone.temporal_patches
        if not isinstance(temporal, TemporalStrides):
            return usual
        n_pairs = temporal.n_patches(dataset.n_steps) ** 2
        return max(1, min(usual, MOST_PAIRS // max(n_pairs, 1)))

    def chunks(
        self, dataset: RowDataset, asked: int | str = "auto", *, by_size: bool
    ) -> list[NDArray[np.int64]]:
        """Rows of a data set in groups that are predicted at once; it comes to the weights."""
        dataset.hold_on(self.module_device)
        rows = self.rows_at_once(dataset, asked)
        return chunks(
            dataset.sizes(), rows, self.module_device, by_size=by_size, items=dataset.n_items()
        )

    def features(self, dataset: RowDataset) -> NDArray[np.float64]:
        """What a linear head weighs of every row (n, d)."""
        module = self.module_
        return self._told(dataset, lambda batch: module.head.coordinates(module.look(batch)[1]))

    def of_both_heads(self, dataset: RowDataset) -> NDArray[np.float64]:
        """Scores of the patches, and of the statistics side by side (2, n, n_outputs)."""

        def both(batch: Any) -> Tensor:
            of_summary = self.module_.of_summary(batch).mean(0)
            return torch.stack([self.module_.of_patches(batch), of_summary], dim=1)

        return np.moveaxis(self._told(dataset, both), 1, 0)

    def _told(self, dataset: RowDataset, look: Callable[[Any], Tensor]) -> NDArray[np.float64]:
        """What a look at batches of rows tells of every row (n, ...)."""
        dtype = next(self.module_.eval().parameters()).dtype

        def ask(rows: NDArray[np.int64]) -> NDArray[np.float64]:
            batch = dataset.batch(rows).to(self.module_device, dtype)
            return look(batch).cpu().double().numpy()

        groups = self.chunks(dataset, by_size=True)
        with torch.inference_mode():
            return in_order(list(each(groups, ask, dataset.batch, self.module_device)))

    def decision(self, dataset: RowDataset) -> NDArray[np.float64]:
        """Scores (n, n_outputs) for every row of a data set, in its order."""
        return decisions([self], dataset)[0]


def _is_matrix(parameter: Tensor) -> bool:
    """Whether it is more than a vector, or one for each of several members."""
    return parameter.ndim == 2 or (parameter.ndim > 2 and parameter.shape[-2] > 1)


def _detached(answer: Any) -> Any:
    if isinstance(answer, dict):
        return {name: part.detach() for name, part in answer.items()}
    return answer.detach()


def _together(answers: list[Any], shares: list[float]) -> Any:
    """Scores of all parts of a batch, or the means of what they say of parts of a loss."""
    if len(answers) == 1 and (shares[0] == 1 or not isinstance(answers[0], dict)):
        return answers[0]
    if isinstance(answers[0], dict):
        return {
            name: sum(share * part[name] for share, part in zip(shares, answers, strict=True))
            for name in answers[0]
        }
    if answers[0].dim() == 3:  # of steps: the last one comes last, also in parts of shorter rows
        T = max(scores.shape[1] for scores in answers)
        answers = [F.pad(scores, (0, 0, T - scores.shape[1], 0)) for scores in answers]
    return torch.cat(answers)


def _raised_on_purpose(error: BaseException) -> bool:
    """Whether a ``raise`` stands where an exception comes from, as it does not for Ctrl-C."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return False
    return dis.opname[trace.tb_frame.f_code.co_code[trace.tb_lasti]] == "RAISE_VARARGS"


def precision_of(state: dict[str, Any]) -> str:
    """What a saved net computed in.

    Raises
    ------
    SaveFileError
        Something that nothing computes in.
    """
    precision = state.get("precision", "auto")
    if precision not in PRECISIONS:
        raise SaveFileError(f"Expected a precision. Got {str(precision)[:40]!r}.")
    return str(precision)


def check_architecture(model: dict[str, Any]) -> None:
    """Numbers that the shapes of the weights do not show.

    Raises
    ------
    SaveFileError
        One that no network has.
    """
    backbone = model["backbone"]
    kinds = ("code", "window", "head", "summary", "modality")
    names = [f"{kind}_dropout" for kind in kinds]
    rates = {name: model[name] for name in names if name in model}
    rates["dropout"] = backbone["dropout"]
    for name in ("summary_share", "curves_share"):
        share = model.get(name, 0.5)
        if share is None and name == "curves_share" and model.get("curves") is None:
            continue
        if not isinstance(share, int | float | np.number) or not 0 <= share <= 1:
            raise SaveFileError(f"Expected {name} from 0 to 1. Got {str(share)[:40]!r}.")
    for name, rate in rates.items():
        if not isinstance(rate, int | float | np.number) or not 0 <= rate < 1:
            raise SaveFileError(f"Expected {name} from 0 to below 1. Got {str(rate)[:40]!r}.")
    horizon, patches = backbone["horizon"], backbone["max_feature_patches"]
    if not isinstance(horizon, float) or not (math.isfinite(horizon) and horizon > 0):
        raise SaveFileError(f"Expected a positive horizon. Got {str(horizon)[:40]!r}.")
    if not isinstance(patches, int | np.integer) or patches < 1:
        raise SaveFileError(
            f"Expected max_feature_patches of 1 or more. Got {str(patches)[:40]!r}."
        )
    window = backbone.get("attention_window")
    if window is not None and (not isinstance(window, int | np.integer) or window < 1):
        raise SaveFileError(f"Expected attention_window of 1 or more. Got {str(window)[:40]!r}.")


def check_weights(
    make_module: Callable[..., nn.Module], model: dict[str, Any], weights: dict[str, Tensor]
) -> None:
    """Compare sizes with the architecture before any memory is taken for it.

    Raises
    ------
    SaveFileError
        Weights of another architecture.
    """
    backbone = model["backbone"]
    if backbone["n_layers"] > len(weights):
        raise SaveFileError(
            f"Expected weights for {backbone['n_layers']} layers. Got {len(weights)} arrays."
        )
    with isolated_torch(0, torch.device("cpu"), n_threads=None), torch.device("meta"):
        expected = make_module(**model).state_dict()
    wanted = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in expected.items()}
    found = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in weights.items()}
    if wanted != found:
        odd = sorted(name for name in wanted | found if wanted.get(name) != found.get(name))
        raise SaveFileError(
            f"Expected weights of shape and type {wanted.get(odd[0])} for {odd[0]!r}. Got "
            f"{found.get(odd[0])}; {len(odd)} differ."
        )


def decisions(
    nets: list[EventNet], dataset: RowDataset, at_once: int | str = "auto"
) -> NDArray[np.float64]:
    """Scores of several nets for every row of a data set (n_nets, n, n_outputs).

    Where steps have scores, (n_nets, n, T, n_outputs).

    The loop is written out because a single row has to be quick: skorch's sets up a data loader
    and changes the mode of every layer for each batch, and each net would cut its own batches.

    Parameters
    ----------
    at_once : int or "auto"
        Rows that are predicted at once.
    """

    def ask(rows: NDArray[np.int64]) -> NDArray[np.float64]:
        batch = dataset.batch(rows)
        answers = torch.stack([net.infer(batch).cpu().double() for net in nets], dim=1)
        if answers.dim() == 4:  # of steps: the last one comes last, also in shorter chunks
            answers = F.pad(answers, (0, 0, dataset.n_steps - answers.shape[2], 0))
        return answers.numpy()

    for net in nets:
        net.module_.eval()
    groups = nets[0].chunks(dataset, at_once, by_size=True)
    with torch.inference_mode():
        parts = list(each(groups, ask, dataset.batch, nets[0].module_device))
    return np.moveaxis(in_order(parts), 1, 0)


def modality_weights(
    nets: Sequence[EventNet], dataset: RowDataset, at_once: int | str = "auto"
) -> NDArray[np.float64] | None:
    """What the events and each modality weigh in every row (n, M), the mean of several nets.

    None of networks without a gate.
    """

    def ask(rows: NDArray[np.int64]) -> NDArray[np.float64]:
        batch, told = dataset.batch(rows), []
        for net in nets:
            dtype = next(net.module_.parameters()).dtype
            told.append(net.module_.weigh(batch.to(net.module_device, dtype)).cpu().double())
        return torch.stack(told).mean(0).numpy()

    for net in nets:
        net.module_.eval()
        if net.module_.beside is None or not net.module_.beside.has_gate:
            return None
    groups = nets[0].chunks(dataset, at_once, by_size=True)
    with isolated_torch(0, nets[0].module_device, n_threads=1), torch.inference_mode():
        return in_order(list(each(groups, ask, dataset.batch, nets[0].module_device)))


def in_order(parts: list[tuple[NDArray[np.int64], NDArray]]) -> NDArray:
    """What was said of groups of rows, in the order of the rows."""
    rows = np.concatenate([rows for rows, _ in parts])
    answers = np.concatenate([answer for _, answer in parts])
    told = np.empty_like(answers)
    told[rows] = answers
    return told
