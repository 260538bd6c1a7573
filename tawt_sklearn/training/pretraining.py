"""The skorch net of pretraining, and what is recorded of it after every epoch."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch.callbacks import Callback
from skorch.history import History
from torch import Tensor, nn

from tawt_sklearn.nn.batch import EventBatch
from tawt_sklearn.objectives.augmentations import DropCodes, DropEvents
from tawt_sklearn.objectives.masking import HideCodes, HideEvents, HideWindows, hide
from tawt_sklearn.objectives.pretraining import Pretrainer, SumOfParts
from tawt_sklearn.objectives.representation import alignment, effective_rank, uniformity
from tawt_sklearn.training.chunks import AT_ONCE, each, rows_of_items
from tawt_sklearn.training.dataset import RowDataset
from tawt_sklearn.training.device import resolve_device
from tawt_sklearn.training.memory import is_out_of_memory, too_large, warn_fewer
from tawt_sklearn.training.net import (
    EventNet,
    check_architecture,
    check_weights,
    in_order,
    precision_of,
)
from tawt_sklearn.training.precision import usable_type
from tawt_sklearn.training.seeding import isolated_torch

HELD_OUT_SEED = 0
"""Of the masks and views in which held-out rows are judged: the same after every epoch."""

PARTS_HIDDEN = (HideEvents(), HideWindows(), HideCodes())
"""From the histories whose embeddings say how reliable directions are, whatever the objective."""

BESIDE_HIDDEN = 0.25
"""Share of rows in them from which a modality is hidden."""

CHUNK = 64
"""Held-out rows that are judged at once: a contrastive objective compares them with each other."""

N_VIEWS = 4096
"""Such histories, about."""


class PretrainingNet(EventNet):
    """An :class:`EventNet` whose module computes the parts of its loss itself."""

    model_type: type[nn.Module] = Pretrainer

    def validation_step(self, batch: Any, **fit_params: Any) -> Any:
        """As in skorch, with draws that are the same each time and are none of training's."""
        with isolated_torch(HELD_OUT_SEED, self.module_device, n_threads=None):
            return super().validation_step(batch, **fit_params)

    def prepare_for_prediction(self) -> PretrainingNet:
        """Evaluation mode; embeddings are computed in single precision."""
        self.module_.eval()
        self._compute_in(usable_type(self.precision, self.module_device))
        return self

    def each_chunk(
        self,
        dataset: RowDataset,
        ask: Callable[[Pretrainer, EventBatch, int], Any],
        n_threads: int | None = None,
        at_once: int | str = "auto",
    ) -> list[Any]:
        """What ``ask(module, batch, first_row)`` says of every so many rows, in their order.

        Batches always have the same number of rows, the last one filled up with empty ones: what
        is computed for a row then does not depend on how many others there are.  Chunks are
        spread over ``n_threads``, as many as torch may use where None, one thread for each.  Where
        one does not fit into memory all are begun again, of half as many rows.

        Raises
        ------
        OutOfMemoryError
        """
        n_rows = self.rows_at_once(dataset, at_once)
        if at_once == "auto":  # less where a chunk of the longest rows would be too much
            _, most = AT_ONCE["cpu" if self.module_device.type == "cpu" else "other"]
            n_rows = max(1, min(n_rows, most // max(int(dataset.sizes().max(initial=0)), 1)))
        else:
            n_rows = min(n_rows, max(len(dataset), 1))
        n_rows = rows_of_items(dataset.n_items(), n_rows, self.module_device)
        module, cast, device = self.module_.eval(), self._cast(), self.module_device

        def work(first: int) -> Any:
            rows = np.arange(first, min(first + n_rows, len(dataset)))
            with torch.inference_mode():
                return ask(module, cast(dataset.batch(rows).padded(n_rows)), first)

        while True:
            try:
                return self._in_threads(work, range(0, len(dataset), n_rows), n_threads)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if n_rows == 1:
                    longest = np.argmax(dataset.sizes(), keepdims=True)
                    raise too_large(dataset.batch(longest), device, "prediction") from error
            warn_fewer(n_rows, device)
            n_rows //= 2

    def embeddings(
        self, dataset: RowDataset, at_once: int | str = "auto", *, each_part: bool = False
    ) -> NDArray[np.float32]:
        """(n, d_out) embedding of every row of a data set, in its order.

        ``each_part`` gives those of events and of modalities by themselves, too.
        """
        module, cast = self.module_.eval(), self._cast()
        groups = self.chunks(dataset, at_once, by_size=True)
        room = self.rows_at_once(dataset, at_once)
        if at_once != "auto":
            room = min(room, len(dataset))

        def embed(rows: NDArray[np.int64]) -> NDArray[np.float32]:
            nonlocal room
            try:
                with torch.inference_mode():
                    filled = dataset.batch(rows).padded(max(room, len(rows)))
                    told = (module.embed_each if each_part else module.embed)(cast(filled))
            except (RuntimeError, MemoryError) as error:
                if is_out_of_memory(error):  # what is left to fill up must not be as large again
                    room = (len(rows) + 1) // 2
                raise
            return told[: len(rows)].float().cpu().numpy()

        def work(rows: NDArray[np.int64]) -> list[tuple[NDArray[np.int64], NDArray]]:
            return list(each([rows], embed, dataset.batch, self.module_device))

        return in_order([part for parts in self._in_threads(work, groups) for part in parts])

    def _cast(self) -> Callable[[EventBatch], EventBatch]:
        """Brings a batch to where the weights are, in their precision."""
        parameter = next(self.module_.parameters())
        return lambda batch: batch.to(parameter.device, parameter.dtype)

    def _in_threads(
        self, work: Callable[[Any], Any], items: Sequence[Any], n_threads: int | None = None
    ) -> list[Any]:
        if n_threads is None:
            n_threads = torch.get_num_threads() if self.module_device.type == "cpu" else 1
        n_threads = min(n_threads, len(items), os.cpu_count() or 1)
        with isolated_torch(HELD_OUT_SEED, self.module_device, n_threads=1):
            if n_threads <= 1:
                return [work(item) for item in items]
            with ThreadPoolExecutor(n_threads) as pool:
                return list(pool.map(work, items))

    def measure(self, dataset: RowDataset) -> None:
        """Choose the coordinates of embeddings by some rows, whole and with parts hidden."""
        coordinates = self.module_.coordinates
        n_views = max(2, min(16, N_VIEWS // len(dataset))) if coordinates.turning else 0

        def look(module: Pretrainer, batch: EventBatch, _: int) -> Tensor:
            hidden = [hide(batch, module.space, PARTS_HIDDEN) for _ in range(n_views)]
            shown = [batch, *(_without_some(batch.keep(~parts.events)) for parts in hidden)]
            return torch.stack([module.whole(b) for b in shown], dim=1).cpu()

        # One thread: masks are drawn from one random state.
        seen = torch.cat(self.each_chunk(dataset, look, n_threads=1))[: len(dataset)].double()
        coordinates.choose(seen[:, 0], seen[:, 1:] if n_views else None)
        if len(self.module_.parts):

            def look_apart(module: Pretrainer, batch: EventBatch, _: int) -> list[Tensor]:
                return [embedding.cpu() for embedding, _ in module.encode_apart(batch)]

            chunks = self.each_chunk(dataset, look_apart, n_threads=1)
            for part, told in zip(self.module_.parts, zip(*chunks, strict=True), strict=True):
                part.choose(torch.cat(told)[: len(dataset)].double(), None)

    def losses(self, dataset: RowDataset) -> dict[str, float]:
        """Parts of the objective of rows that are not trained on, and their sum ``"loss"``."""
        totals: dict[str, float] = {}
        module = self.module_.eval()
        dtype = next(module.parameters()).dtype

        def ask(rows: NDArray[np.int64]) -> dict[str, float]:
            told = module(dataset.batch(rows).to(self.module_device, dtype))
            return {part: float(loss) for part, loss in told.items()}

        groups = [
            np.arange(first, min(first + CHUNK, len(dataset)))
            for first in range(0, len(dataset), CHUNK)
        ]
        with isolated_torch(HELD_OUT_SEED, self.module_device, 1), torch.inference_mode():
            for rows, told in each(groups, ask, dataset.batch, self.module_device):
                for part, loss in told.items():
                    totals[part] = totals.get(part, 0.0) + loss * len(rows) / len(dataset)
        return {**totals, "loss": sum(totals.values())}

    # ---- saving and loading ------------------------------------------------------------------

    def _to_saved(self) -> dict[str, Any]:
        """Architecture, objectives, weights, history; the optimizer is made anew."""
        return {
            "model": dict(self.module.keywords),
            "precision": self.precision,
            "weights": {name: tensor.numpy() for name, tensor in self.weights().items()},
            "history": [
                {name: value for name, value in epoch.items() if isinstance(value, int | float)}
                for epoch in self.history
            ],
        }

    @classmethod
    def _from_saved(cls, state: dict[str, Any], device: Any) -> PretrainingNet:
        model, weights = state["model"], state["weights"]
        weights = {name: torch.from_numpy(np.array(array)) for name, array in weights.items()}
        check_architecture(model)
        check_weights(cls.model_type, model, weights)
        precision = precision_of(state)
        place = resolve_device(device)
        return cls.made(model, lambda _: weights, state["history"], place, precision=precision)

    @classmethod
    def made(
        cls,
        model: dict[str, Any],
        weights: Callable[[dict[str, Tensor]], dict[str, Tensor]],
        history: list[dict[str, Any]],
        place: torch.device,
        seed: int = 0,
        precision: str = "auto",
    ) -> PretrainingNet:
        """A net that has been trained elsewhere; its optimizer starts anew.

        Parameters
        ----------
        weights : callable
            Random weights of such a network -> its weights.
        """
        with isolated_torch(seed, place, n_threads=None):
            net = cls(
                partial(cls.model_type, **model),
                SumOfParts(),
                optimizer=torch.optim.AdamW,
                train_split=None,
                verbose=0,
                device=str(place),
                precision="float32",
            ).initialize()
        net.precision = precision  # which this device need not be able to train in
        net.module_.load_state_dict(weights(net.weights()))
        net.history_ = History({**epoch, "batches": []} for epoch in history)
        return net.prepare_for_prediction()


def _without_some(batch: EventBatch) -> EventBatch:
    """Without the items of some rows, where there are any."""
    if not getattr(batch, "beside", None):
        return batch
    beside = {
        name: items.of_rows(torch.rand(len(batch), device=batch.device) >= BESIDE_HIDDEN)
        for name, items in batch.beside.items()
    }
    return replace(batch, beside=beside)


class LossParts(Callback):
    """Record the mean of each part of the loss: ``train_<part>`` and ``valid_<part>``."""

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        self.sums_: dict[str, Tensor] = {}
        self.rows_ = {"train": 0, "valid": 0}

    def on_batch_end(
        self, net: Any, batch: Any = None, training: bool = False, y_pred: Any = None, **kwargs: Any
    ) -> None:
        split, n_rows = "train" if training else "valid", len(batch[0])
        self.rows_[split] += n_rows
        for part, loss in y_pred.items():
            name = f"{split}_{part}"
            self.sums_[name] = self.sums_.get(name, 0.0) + n_rows * loss.detach()

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        trained = {name: total for name, total in self.sums_.items() if name.startswith("train_")}
        for name, total in {**self.sums_, **net.processes.totals(trained)}.items():
            net.history.record(name, float(total) / self.rows_[name.partition("_")[0]])
        self.sums_ = {}


class Representation(Callback):
    """Record the effective rank, alignment and uniformity of the embeddings of some rows.

    Parameters
    ----------
    rows : RowDataset
        A few hundred rows; the views that alignment compares lack some events and codes.
    """

    def __init__(self, rows: RowDataset) -> None:
        self.rows = rows

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        module = net.module_.eval()
        whole, first, second = [], [], []
        dtype = next(module.parameters()).dtype

        def view(batch: EventBatch) -> EventBatch:
            for drop in (DropEvents(), DropCodes()):
                batch = drop(batch, module.space)
            return batch

        with isolated_torch(HELD_OUT_SEED, net.module_device, None), torch.inference_mode():
            for start in range(0, len(self.rows), CHUNK):
                rows = np.arange(start, min(start + CHUNK, len(self.rows)))
                batch = self.rows.batch(rows).to(net.module_device, dtype)
                whole.append(module.encode(batch)[1].cpu())
                first.append(module.encode(view(batch))[1].cpu())
                second.append(module.encode(view(batch))[1].cpu())
        z = torch.cat(whole)
        net.history.record("effective_rank", effective_rank(z))
        net.history.record("alignment", alignment(torch.cat(first), torch.cat(second)))
        net.history.record("uniformity", uniformity(z))

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "rows": None}  # would travel inside every pickle
