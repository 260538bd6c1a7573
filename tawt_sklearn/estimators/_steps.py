"""What an encoder says of windows and of single events, as columns of histories."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from tawt_sklearn.estimators._settings import rows_at_once
from tawt_sklearn.nn.batch import EventBatch
from tawt_sklearn.nn.decoder import FeatureLookup
from tawt_sklearn.nn.panel import PanelBatch
from tawt_sklearn.objectives.masked import MaskedTask
from tawt_sklearn.objectives.pretraining import Pretrainer
from tawt_sklearn.training.dataset import EventDataset
from tawt_sklearn.training.pretraining import HELD_OUT_SEED


def embedded_steps(encoder: Any, frame: pd.DataFrame, data: EventDataset, per: str) -> pd.DataFrame:
    """Embeddings of windows or of events, each as ``d_model`` simultaneous events."""
    backbone = encoder.net_.module_.backbone
    has_windows = backbone.temporal_patches is not None or backbone.pooled_events is not None
    if per == "window" and not has_windows:
        raise ValueError(
            'Expected an encoder with windows of time. Got one with patching="feature". Pass '
            'per="event".'
        )
    ask = _windows if per == "window" else _events
    chunks = encoder.net_.each_chunk(
        data, lambda module, batch, _: ask(module, batch), at_once=rows_at_once(encoder)
    )
    count = np.concatenate([np.asarray(counts) for counts, _, _ in chunks])[: len(data)]
    embedded = np.concatenate([tokens for _, _, tokens in chunks]).astype(np.float32)
    if per == "window":
        row = np.repeat(np.arange(len(data)), count)
        since = np.concatenate([time for _, time, _ in chunks]).astype(np.float64)
        time = since + (data.events.start + data.origin)[row]
    else:
        time = data.events.time
    D = embedded.shape[1]
    array = data.events._replace(
        time=np.repeat(time, D),
        code=np.tile(np.arange(D, dtype=np.int32), len(time)),
        value=embedded.reshape(-1),
        text=None,
        offsets=np.concatenate([[0], np.cumsum(count)]).astype(np.int64) * D,
        codes=pd.Index([f"step{k}" for k in range(D)], dtype="str"),
        texts=None,
        vocabulary=None,
    )
    return pd.DataFrame({encoder.preparation_.events_name: array}, index=frame.index)


Steps = tuple[NDArray[np.int64], NDArray | None, NDArray[np.float32]]
"""Embeddings of each row: how many (B,), their times (N,) since the origin, and what they are."""


def _windows(module: Pretrainer, batch: EventBatch) -> Steps:
    temporal = module.encode(batch)[0].temporal
    assert temporal is not None and temporal.timed is not None and temporal.time is not None
    present = temporal.timed
    tokens, time = temporal.tokens[present], temporal.time[present]
    return present.sum(1).cpu().numpy(), time.cpu().numpy(), tokens.float().cpu().numpy()


def _events(module: Pretrainer, batch: EventBatch) -> Steps:
    """An event is the sum of what the network knows of its code and of its window.

    Where events are the tokens it is its own.
    """
    encoded = module.encode(batch)[0]
    count = torch.bincount(batch.row, minlength=len(batch)).cpu().numpy()
    if encoded.event is not None:
        return count, None, encoded.event.float().cpu().numpy()
    D = module.backbone.cls.shape[0]
    tokens = torch.zeros(batch.n_events, D, dtype=batch.value.dtype, device=batch.device)
    if encoded.feature is not None:
        lookup = FeatureLookup(encoded.feature, module.space.n_codes)
        tokens = tokens + lookup(encoded.feature.tokens, batch.row, batch.code, tokens.new_zeros(D))
    if encoded.temporal is not None:
        tokens = tokens + encoded.temporal.tokens[batch.row, module.space.window(batch)]
    return count, None, tokens.float().cpu().numpy()


def reconstruction(
    encoder: Any, frame: pd.DataFrame, data: EventDataset, n_passes: int
) -> pd.DataFrame:
    """The same histories with numbers and categories that were rebuilt from the other events."""
    task = rebuilder(encoder.net_.module_)
    check_passes(n_passes)
    events = data.events
    E = len(events.time)
    group = np.random.RandomState(HELD_OUT_SEED).permutation(E) % n_passes
    value = np.full(E, np.nan, np.float32)
    category = np.zeros(E, np.int64)
    for k in range(n_passes):

        def ask(module: Pretrainer, batch: EventBatch, first: int, k: int = k) -> Any:
            start = events.offsets[first]
            hidden = group[start : start + batch.n_events] == k
            numbers, names = rebuilt(module, task, batch, torch.from_numpy(hidden))
            return np.flatnonzero(hidden) + start, numbers, names

        for position, numbers, names in encoder.net_.each_chunk(
            data, ask, at_once=rows_at_once(encoder)
        ):
            value[position], category[position] = numbers, names
    value[np.isnan(events.value)] = np.nan
    if not task.settings.value:
        value[:] = np.nan
    text = None
    if events.text is not None:
        if not task.settings.category:
            category[:] = -1
        text = np.where(events.text >= 0, category, -1).astype(events.text.dtype)
    name = encoder.preparation_.events_name
    tokens = frame.copy(deep=False)
    tokens.isetitem(list(frame.columns).index(name), events._replace(value=value, text=text))
    if frame[name].array.dtype.vocabulary is not None:
        return tokens
    return encoder.preparation_.sequencer.inverse_transform(tokens)


def check_passes(n_passes: Any) -> None:
    """Refuse what is no number of groups."""
    if not isinstance(n_passes, Integral) or n_passes < 2:
        raise ValueError(f"Expected n_passes to be an integer of 2 or more. Got {n_passes!r}.")


def rebuilder(module: Pretrainer) -> MaskedTask:
    for task in module.tasks.values():
        if isinstance(task, MaskedTask) and (task.settings.value or task.settings.category):
            return task
    raise ValueError(
        "Expected an encoder that has learned to rebuild events. Got one whose objective has no "
        'such part. Pretrain with objective="masked", alone or in a mixture.'
    )


def rebuilt(
    module: Pretrainer, task: MaskedTask, batch: EventBatch | PanelBatch, hidden: Tensor
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Numbers and category ids of hidden events, both (N,)."""
    hidden = hidden.to(batch.device)
    encoded, embedding = module.encode(batch.keep(~hidden))
    truth = batch.events(hidden, module.space.category_offsets)
    decoder = task.decoder
    moment = decoder.context(encoded, embedding, truth)
    query = decoder.query(encoded, moment, truth.row, truth.code)
    numbers = decoder.values(query, truth.code)
    scores, owner, category = decoder.category_scores(query, truth.code)
    unknown = category == decoder.space.category_offsets[truth.code[owner]]
    scores = scores.masked_fill(unknown, -torch.inf)  # "[UNK]" is nothing to fill in
    N = truth.n_events
    best = scores.new_full((N,), -torch.inf).scatter_reduce(0, owner, scores, "amax")
    winner = torch.full((N,), -1, device=batch.device)
    won = (scores == best[owner]) & ~unknown
    winner[owner[won]] = category[won]
    return numbers.float().cpu().numpy(), winner.cpu().numpy()
