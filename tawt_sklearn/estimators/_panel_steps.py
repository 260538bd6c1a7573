"""What an encoder says of the steps of a panel, as panels."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tawt_sklearn.estimators._panel_preparation import PanelPreparation
from tawt_sklearn.estimators._per_step import given_back
from tawt_sklearn.estimators._settings import rows_at_once
from tawt_sklearn.estimators._steps import check_passes, rebuilder, rebuilt
from tawt_sklearn.events.panels import Panel
from tawt_sklearn.nn.panel import PanelBatch
from tawt_sklearn.nn.panel_patching import Strides
from tawt_sklearn.nn.steps import unpatched
from tawt_sklearn.objectives.pretraining import Pretrainer
from tawt_sklearn.tokens.levels import FIRST_CODE
from tawt_sklearn.training.panels import PanelDataset
from tawt_sklearn.training.pretraining import HELD_OUT_SEED


def embedded_panel(encoder: Any, panel: Panel, data: PanelDataset, per: str) -> Any:
    """Embeddings of temporal patches or of steps, as a panel of ``d_model`` channels."""
    if encoder.net_.module_.backbone.temporal_patches is None:
        raise ValueError(
            'Expected an encoder with temporal patches. Got one with patching="feature". Pretrain '
            'with patching="dual".'
        )
    strides = Strides.of(*encoder.preparation_.shape.strides[0])

    def ask(module: Pretrainer, batch: Any, _: int) -> NDArray[np.float32]:
        temporal = module.backbone(batch).temporal
        assert temporal is not None
        if per == "window":
            tokens = temporal.tokens[:, : strides.n_patches(batch.n_steps)].flip(1)
        else:
            tokens = unpatched(temporal.tokens, strides, batch.n_steps)
        return tokens.float().cpu().numpy()

    chunks = encoder.net_.each_chunk(data, ask, at_once=rows_at_once(encoder))
    T = max(chunk.shape[1] for chunk in chunks)
    D = chunks[0].shape[2]
    told = np.zeros((len(chunks) * len(chunks[0]), T, D), np.float32)
    for k, chunk in enumerate(chunks):
        told[k * len(chunk) : (k + 1) * len(chunk), T - chunk.shape[1] :] = chunk
    if per == "window":  # as many as it takes to cover each case
        panel = Panel(
            panel.steps[:0],
            np.concatenate([[0], np.cumsum([strides.n_patches(n) for n in panel.lengths])]),
            panel.stacked,
        )
    answers = given_back(told[: len(panel)], panel)
    return np.swapaxes(answers, 1, 2) if panel.stacked else [case.T for case in answers]


def reconstructed_panel(encoder: Any, panel: Panel, data: PanelDataset, n_passes: int) -> Any:
    """The same panel with numbers and categories that were rebuilt from the other cells."""
    task = rebuilder(encoder.net_.module_)
    check_passes(n_passes)
    preparation: PanelPreparation = encoder.preparation_
    N, C = data.number.shape
    K = data.category.shape[1]
    group = np.random.RandomState(HELD_OUT_SEED).randint(n_passes, size=(N, C))
    number = np.full((N, C), np.nan, np.float32)
    category = np.full((N, K), -1, np.int64)
    first_category = np.array(preparation.category_offsets)
    for k in range(n_passes):

        def ask(module: Pretrainer, batch: Any, first: int, k: int = k) -> Any:
            assert isinstance(batch, PanelBatch)
            step = data.offsets[first] + _position(batch, data, first)  # (B, T)
            hidden = torch.from_numpy(group[step] == k).transpose(1, 2).to(batch.device)
            chosen = hidden & batch.inside
            numbers, names = rebuilt(module, task, batch, chosen)
            row, code, at = (chosen & batch.present).nonzero().cpu().numpy().T
            return step[row, at], code, numbers, names

        for step, code, numbers, names in encoder.net_.each_chunk(
            data, ask, at_once=rows_at_once(encoder)
        ):
            numeric = code < C - K
            number[step[numeric], code[numeric]] = numbers[numeric]
            named = ~numeric & (names >= 0)
            own = names[named] - first_category[code[named]]
            category[step[named], code[named] - (C - K)] = own
    values = preparation.restored(number)
    for k, c in enumerate(preparation.categorical):
        known = category[:, k] >= FIRST_CODE
        codes = np.array([float(label) for label in preparation.labels[k]])
        values[:, c] = np.nan
        values[known, c] = codes[category[known, k] - FIRST_CODE]
    values[np.isnan(panel.steps)] = np.nan
    if panel.stacked:
        values = values.reshape(len(panel), -1, C).swapaxes(1, 2)
        return values[:, 0] if preparation.form == "series" else values
    return [part.T for part in np.split(values, panel.offsets[1:-1])]


def _position(batch: PanelBatch, data: PanelDataset, first: int) -> NDArray[np.int64]:
    """(B, T) steps of a batch, counted from the first step of its first row; 0 outside."""
    rows = np.minimum(np.arange(first, first + len(batch)), len(data) - 1)
    start = data.offsets[rows] - data.offsets[first]
    step = batch.time.cpu().numpy()[:, 0].astype(np.int64)
    return np.where(step >= 0, start[:, np.newaxis] + step, 0)
