"""What the embedding of a row has to hold: the statistics of its codes over the whole history."""

from __future__ import annotations

import torch
from torch import Tensor

from tawt_sklearn.nn.batch import EventBatch
from tawt_sklearn.nn.panel import PanelBatch
from tawt_sklearn.nn.panel_statistics import (
    N_BINS,
    PANEL_STATISTICS,
    bin_width,
    binned,
    panel_statistics,
)
from tawt_sklearn.nn.space import Space
from tawt_sklearn.nn.statistics import STATISTICS, recent_statistics, segment_statistics

WHOLE = ("log_count", "mean", "sd", "min", "max", "first", "last", "slope", "last_value_age")
"""Statistics of the whole history that are asked for."""

RECENT = (1 / 2, 1 / 6)
"""Of these last shares of the horizon the number of values, their mean, smallest and largest."""


def summary_width(space: Space) -> int:
    """Numbers for each code (K): of a panel, the course of a channel is asked for, too."""
    if space.from_end:
        return len(PANEL_STATISTICS) + N_BINS
    return len(WHOLE) + 4 * len(RECENT)


@torch.no_grad()
def summary_targets(
    batch: EventBatch | PanelBatch, space: Space, n_codes: int
) -> tuple[Tensor, Tensor]:
    """Statistics of the first ``n_codes`` codes, clipped at 5, and where they are defined.

    The number of events (the share of steps, of a panel) is always defined, the rest where the
    code occurs.  -> (B, n_codes, K) and the same of zeros and ones.
    """
    if isinstance(batch, PanelBatch):
        return _panel_targets(batch, space, n_codes)
    batch = batch.keep(batch.code < n_codes)
    segment = batch.row * n_codes + batch.code
    n_segments = len(batch) * n_codes
    whole = segment_statistics(
        segment, batch.value, batch.observed, batch.time, batch.age, n_segments, space.horizon
    )
    columns = [whole[:, [STATISTICS.index(name) for name in WHOLE]]]
    for share in RECENT:
        columns.append(
            recent_statistics(
                segment,
                batch.value,
                batch.observed,
                batch.age,
                n_segments,
                share * space.horizon,
            )
        )
    targets = torch.cat(columns, dim=1).view(len(batch), n_codes, -1).clamp(-5, 5)
    defined = (targets[..., :1] > 0).to(targets.dtype).expand_as(targets).clone()
    defined[..., 0] = 1
    return targets, defined


def _panel_targets(batch: PanelBatch, space: Space, n_codes: int) -> tuple[Tensor, Tensor]:
    value, observed = batch.value[:, :n_codes], batch.observed[:, :n_codes]
    exact = panel_statistics(value, observed, batch.time, space.horizon)
    mean, share = binned(value, observed, batch.inside, bin_width(space.horizon), N_BINS)
    targets = torch.cat([exact, mean], dim=2).clamp(-5, 5)
    occurs = (exact[..., :1] > 0).expand_as(exact)
    defined = torch.cat([occurs, share > 0], dim=2).to(targets.dtype)
    defined[..., 0] = 1
    return targets, defined
