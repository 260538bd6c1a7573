"""The skorch net that an estimator builds in ``fit``: batches of events instead of tensors."""

from __future__ import annotations

import dis
import math
from collections.abc import Callable
from functools import partial
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
from tawt_sklearn.nn.batch import EventBatch
from tawt_sklearn.nn.model import DualPatchPredictor
from tawt_sklearn.nn.panel_patching import TemporalStrides
from tawt_sklearn.objectives.steps import StepTarget
from tawt_sklearn.objectives.supervised import TARGETS, WeightedLoss
from tawt_sklearn.training.callbacks import TrainingStopped
from tawt_sklearn.training.dataset import RowDataset
from tawt_sklearn.training.device import resolve_device
from tawt_sklearn.training.seeding import isolated_torch

CHUNK = 64
"""Rows that are predicted at once: more of them leave the caches (256 rows take 1.2 times as long
for each), fewer pay for the calls."""


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

    Attributes
    ----------
    interrupted_ : bool
        Whether the last run ended by Ctrl-C, with the best weights so far.
    cut_short_ : bool
        Whether the last run ended before it was done, by Ctrl-C or by a callback of the user.
    """

    interrupted_ = False
    cut_short_ = False

    def __init__(self, *args: Any, encoder_lr: float | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.encoder_lr = encoder_lr

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
        self.interrupted_ = self.cut_short_ = False
        try:
            self.notify("on_train_begin", X=data, y=None)
            if resume is not None:
                resume(self)
            self.fit_loop(data, None, epochs=self.max_epochs - len(self.history))
        except TrainingStopped as stop:
            self.cut_short_ = stop.__cause__ is not None
        except KeyboardInterrupt:
            self.interrupted_ = self.cut_short_ = True
        if len(self.history) and "train_loss" not in self.history[-1]:
            self.history.pop()
        self.notify("on_train_end", X=data, y=None)
        if not len(self.history):
            raise KeyboardInterrupt("Training was ended before the end of the first epoch.")
        for epoch in self.history:
            epoch["batches"] = []  # one entry for each step would travel inside every pickle
        return self

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
        encoder = [(n, p) for n, p in parameters if not n.startswith("head.")]
        head = [(n, p) for n, p in parameters if n.startswith("head.")]
        parts: list[tuple[Any, float | None]] = [(parameters, None)]
        if self.encoder_lr is not None:
            parts = [(encoder, self.encoder_lr), (head, None)]
        groups = [
            {
                "params": [p for _, p in part if (p.ndim >= 2) is matrices],
                "weight_decay": decay if matrices else 0.0,
                **({} if lr is None else {"lr": lr}),
            }
            for part, lr in parts
            for matrices in (True, False)
        ]
        return (groups,), kwargs

    def prepare_for_prediction(self) -> EventNet:
        """Evaluation mode and, on a CPU, double precision.

        In single precision the scores of a row depend in the last digit on the rows that share
        its batch, as the order of the sums in a matrix product depends on its shape.  In double
        precision nobody sees it; a single row costs about the same, many rows about twice as
        much.
        """
        self.module_.eval()
        if self.module_device.type == "cpu":
            self.module_.double()
        return self

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
            ).initialize()
        net.module_.load_state_dict(weights)
        net.history_ = History({**epoch, "batches": []} for epoch in state["history"])
        return net.prepare_for_prediction()

    def rows_at_once(self, dataset: RowDataset) -> int:
        """Rows that are predicted at once: fewer where they are far longer than those of fit."""
        if not dataset.n_steps:
            return CHUNK
        temporal = self.module_.backbone.temporal_patches
        if not isinstance(temporal, TemporalStrides):
            return CHUNK
        n_pairs = temporal.n_patches(dataset.n_steps) ** 2
        return max(1, min(CHUNK, MOST_PAIRS // max(n_pairs, 1)))

    def features(self, dataset: RowDataset) -> NDArray[np.float64]:
        """What a linear head weighs of every row (n, d)."""
        module = self.module_.eval()
        dtype = next(module.parameters()).dtype
        parts = []
        with torch.inference_mode():
            rows = self.rows_at_once(dataset)
            for first in range(0, len(dataset), rows):
                batch = dataset.batch(np.arange(first, min(first + rows, len(dataset))))
                encoded = module.backbone(batch.to(self.module_device, dtype))
                parts.append(module.head.coordinates(module.readout(encoded)).cpu().double())
        return torch.cat(parts).numpy()

    def decision(self, dataset: RowDataset) -> NDArray[np.float64]:
        """Scores (n, n_outputs) for every row of a data set, in its order."""
        return decisions([self], dataset)[0]


def _raised_on_purpose(error: BaseException) -> bool:
    """Whether a ``raise`` stands where an exception comes from, as it does not for Ctrl-C."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return False
    return dis.opname[trace.tb_frame.f_code.co_code[trace.tb_lasti]] == "RAISE_VARARGS"


def check_architecture(model: dict[str, Any]) -> None:
    """Numbers that the shapes of the weights do not show.

    Raises
    ------
    SaveFileError
        One that no network has.
    """
    backbone = model["backbone"]
    names = ("code_dropout", "window_dropout", "head_dropout")
    rates = {name: model[name] for name in names if name in model}
    rates["dropout"] = backbone["dropout"]
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
    with torch.device("meta"):
        expected = make_module(**model).state_dict()
    wanted = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in expected.items()}
    found = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in weights.items()}
    if wanted != found:
        odd = sorted(name for name in wanted | found if wanted.get(name) != found.get(name))
        raise SaveFileError(
            f"Expected weights of shape and type {wanted.get(odd[0])} for {odd[0]!r}. Got "
            f"{found.get(odd[0])}; {len(odd)} differ."
        )


def decisions(nets: list[EventNet], dataset: RowDataset) -> NDArray[np.float64]:
    """Scores of several nets for every row of a data set (n_nets, n, n_outputs).

    Where steps have scores, (n_nets, n, T, n_outputs).

    The loop is written out because a single row has to be quick: skorch's sets up a data loader
    and changes the mode of every layer for each batch, and each net would cut its own batches.
    """
    scores = []
    with torch.inference_mode():
        for net in nets:
            net.module_.eval()
        rows = nets[0].rows_at_once(dataset)
        for first in range(0, len(dataset), rows):
            batch = dataset.batch(np.arange(first, min(first + rows, len(dataset))))
            answers = torch.stack([net.infer(batch).cpu().double() for net in nets])
            if answers.dim() == 4:  # of steps: the last one comes last, also in shorter chunks
                answers = F.pad(answers, (0, 0, dataset.n_steps - answers.shape[2], 0))
            scores.append(answers)
    return torch.cat(scores, dim=1).numpy()
