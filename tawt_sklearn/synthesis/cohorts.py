"""New subjects: many at a time, in groups and threads, in the form that fit was given."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from tqdm.auto import tqdm

from tawt_sklearn.synthesis.beginnings import Beginnings
from tawt_sklearn.synthesis.decoder import Decoder
from tawt_sklearn.synthesis.density import LatentDensity
from tawt_sklearn.synthesis.form import Form
from tawt_sklearn.synthesis.grammar import Grammar
from tawt_sklearn.synthesis.sampling import Writer, Written
from tawt_sklearn.training.seeding import isolated_torch

Latents = Callable[[torch.Tensor], torch.Tensor]
"""What is stated of histories (n, F) -> their latents (n, d_latent)."""

Given = dict[int, tuple[NDArray[np.int64], NDArray[np.float64]]]
"""Place of a word before the events -> symbols (n,), -1 for what is drawn, and normal scores."""

_T = TypeVar("_T")
_R = TypeVar("_R")

AT_ONCE = 256
"""Rows that are written at once."""


@dataclass(frozen=True)
class CohortWriter:
    """Writes subjects with what has been learned of them.

    Attributes
    ----------
    decoder : Decoder
        In evaluation mode.
    grammar, beginnings, density, form
        As :class:`SequenceSynthesizer` has learned them.
    sharpness : float
        See :class:`Writer`.
    title : str or None
        Of the progress bar; None for no bar.
    """

    decoder: Decoder
    grammar: Grammar
    beginnings: Beginnings
    density: LatentDensity
    form: Form
    sharpness: float
    title: str | None

    def new(
        self,
        n: int,
        asked: dict[str, pd.DataFrame],
        random: np.random.RandomState,
        copies: int = 1,
    ) -> tuple[pd.DataFrame, NDArray | None]:
        """New subjects with what is asked for, and with labels as they were said.

        Of each there are some copies, one after the other, of which the same is stated.
        """
        given = self.grammar.given(asked, n)

        def latents(rows: slice, own: np.random.RandomState) -> Latents:
            return self._latents(own)

        return self.write(n, latents, given, asked, random, copies=copies)

    def _latents(self, random: np.random.RandomState) -> Latents:
        """Draws new latents of histories of which something is stated."""

        def latents(stated: torch.Tensor) -> torch.Tensor:
            drawn = self.density.draw(stated.double().cpu().numpy(), random)
            return torch.from_numpy(drawn).to(stated)

        return latents

    def write(
        self,
        n: int,
        latents: Callable[[slice, np.random.RandomState], Latents],
        given: Given,
        asked: dict[str, pd.DataFrame],
        random: Any,
        in_strata: bool = True,
        copies: int = 1,
    ) -> tuple[pd.DataFrame, NDArray | None]:
        """Rows in groups, so that the network's memory does not grow with their number.

        On a CPU several groups at a time, as many as torch has threads; what is written does not
        depend on how many.
        """
        device = self.decoder.begin.device
        size = max(AT_ONCE // copies, 1)
        groups = [slice(first, min(first + size, n)) for first in range(0, n, size)]
        seeds = random.randint(2**31 - 1, size=len(groups))

        def write(group: tuple[slice, int]) -> Written:
            rows, seed = group
            torch.set_num_threads(1)
            some = {word: (a[rows], b[rows]) for word, (a, b) in given.items()}
            generator = torch.Generator(device).manual_seed(int(seed))
            writer = Writer(self.decoder, self.grammar, self.beginnings, generator, self.sharpness)
            draw, size = latents(rows, np.random.RandomState(seed)), rows.stop - rows.start
            written = writer.write(draw, size, some, bar.update, in_strata, copies)
            return written._replace(row=written.row + rows.start * copies)

        n_threads = torch.get_num_threads() if device.type == "cpu" else 1
        with (
            tqdm(total=n * copies, disable=self.title is None, desc=self.title) as bar,
            isolated_torch(0, device, n_threads=1),
        ):
            parts = in_threads(write, list(zip(groups, seeds, strict=True)), n_threads)
        whole = Written(*(np.concatenate(part) for part in zip(*parts, strict=True)))
        own = np.repeat(np.arange(n), copies)
        every = {k: frame if len(frame) == 1 else frame.iloc[own] for k, frame in asked.items()}
        return self.form.write(whole, self.grammar, every)


def in_threads(work: Callable[[_T], _R], tasks: list[_T], n_threads: int) -> list[_R]:
    """What a function makes of each task; no other begins after an error."""
    if min(n_threads, len(tasks)) < 2:
        return [work(task) for task in tasks]
    pool = ThreadPoolExecutor(n_threads)
    try:
        return list(pool.map(work, tasks))
    finally:
        pool.shutdown(cancel_futures=True)
