"""The space that events live in: which codes, categories and windows of time there are."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Space(nn.Module):
    """Codes, their categories, and windows of time; moves between devices with its owner.

    Parameters
    ----------
    n_codes : int
        Size of the vocabulary, special tokens included (V).
    category_offsets : sequence of int, (V + 1,)
        The categories of code ``k`` have the ids from ``category_offsets[k]`` to before
        ``category_offsets[k + 1]``.
    window_edges : sequence of float, (W - 1,)
        Inner borders of the windows, in time since the row's origin.
    horizon : float
        Length of a typical history, in the clock's unit.
    """

    category_offsets: Tensor
    edges: Tensor

    def __init__(
        self,
        n_codes: int,
        category_offsets: Sequence[int],
        window_edges: Sequence[float],
        horizon: float,
    ) -> None:
        super().__init__()
        self.n_codes, self.horizon = n_codes, horizon
        self.n_windows = len(window_edges) + 1
        offsets = torch.as_tensor(category_offsets, dtype=torch.int64)
        self.n_categories = int(category_offsets[-1])
        self.register_buffer("category_offsets", offsets)
        self.register_buffer("edges", torch.as_tensor(window_edges, dtype=torch.float32))

    def window(self, time: Tensor) -> Tensor:
        """(E,) times -> (E,) index of the window, in ``[0, W)``."""
        return torch.bucketize(time, self.edges, right=True)
