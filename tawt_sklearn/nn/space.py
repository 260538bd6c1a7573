"""The space that events live in: which codes, categories and windows of time there are."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tawt_sklearn.nn.batch import EventBatch
from tawt_sklearn.nn.panel import PanelBatch


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
    from_end : bool
        Whether windows are counted from the end of a row, as those of panels are.
    beside : sequence of str
        Modalities beside the events.
    """

    category_offsets: Tensor
    edges: Tensor

    def __init__(
        self,
        n_codes: int,
        category_offsets: Sequence[int],
        window_edges: Sequence[float],
        horizon: float,
        from_end: bool = False,
        beside: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.beside = tuple(beside)
        self.n_codes, self.horizon, self.from_end = n_codes, horizon, from_end
        self.n_windows = len(window_edges) + 1
        offsets = torch.as_tensor(category_offsets, dtype=torch.int64)
        self.n_categories = int(category_offsets[-1])
        self.register_buffer("category_offsets", offsets)
        self.register_buffer("edges", torch.as_tensor(window_edges, dtype=torch.float32))

    def window(self, batch: EventBatch | PanelBatch) -> Tensor:
        """Index of the window of each event (E,), or step (1, 1, T), in ``[0, W)``."""
        clock = batch.age if self.from_end else batch.time
        return torch.bucketize(clock, self.edges, right=True)
