"""Time-aware attention over rows of any length that lie one after the other, without padding.

The same attention as :mod:`tawt_sklearn.nn.padded`, with one token per event, where padding a
batch to its longest row would cost several times the work.  Who computes it depends on the device:
:mod:`~tawt_sklearn.nn.packed_tiles` on a CPU, :mod:`~tawt_sklearn.nn.packed_flex` on CUDA, and
plain operations on rows of about the same length everywhere else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from tawt_sklearn.nn.padded import attend, log_gap

GROUP_SCORES = 2**16
"""Short rows are worked on together up to so many scores of each head."""


class Group(NamedTuple):
    """Rows of about the same length, padded to the longest of them."""

    token: Tensor  # (G, T) which of the N tokens; N where there is none
    time: Tensor  # (G, T) in units of the scale
    start: int  # first token of the first row
    padded: bool  # whether the rows differ in length


@dataclass(frozen=True, eq=False)
class Packed:
    """How the ``N`` tokens of ``B`` rows lie one after the other.

    Attributes
    ----------
    time : (N,) float
        Time of each token.  It gets no gradient.
    offsets : (B + 1,) int64
        Where each row begins, and where the last one ends.
    lengths : tuple of int
        The length of each row.  Kept on the host, so that nothing has to wait for a GPU.
    n_untimed : int
        The first so many tokens of every row have no time: gap 0 to and from them.
    scale : float
        Unit of the gaps, in the unit of time.
    window : int, optional
        Tokens with a time see one another at most this many places apart; those without see, and
        are seen by, all of their row.
    """

    time: Tensor
    offsets: Tensor
    lengths: tuple[int, ...]
    n_untimed: int
    scale: float
    window: int | None = None
    plan: Any = None  # of flex attention, once it has been made

    @classmethod
    def of(
        cls,
        time: Tensor,
        lengths: list[int] | tuple[int, ...],
        n_untimed: int,
        scale: float,
        window: int | None = None,
    ) -> Packed:
        """From the times of all tokens and the lengths of the rows.

        Raises
        ------
        ValueError
            If the lengths do not add up to the number of times.
        """
        starts = [0, *accumulate(lengths)]
        if starts[-1] != len(time):
            raise ValueError(
                "lengths must add up to the number of tokens. "
                f"Got a sum of {starts[-1]} and {len(time)} times."
            )
        offsets = torch.tensor(starts).to(time.device, non_blocking=True)
        return cls(time.detach(), offsets, tuple(lengths), n_untimed, scale, window)

    @cached_property
    def groups(self) -> list[Group]:
        """All rows that are not empty, the longest first, neighbours in length together."""
        starts = [0, *accumulate(self.lengths)]
        by_length = sorted(
            (i for i, n in enumerate(self.lengths) if n), key=self.lengths.__getitem__
        )
        groups: list[list[int]] = []
        for row in reversed(by_length):
            if groups:
                T = self.lengths[groups[-1][0]]
                near = self.lengths[row] >= min(0.9 * T, T - 4)
                if near and (len(groups[-1]) + 1) * T * T <= GROUP_SCORES:
                    groups[-1].append(row)
                    continue
            groups.append([row])
        time = F.pad(self.time, (0, 1))
        made = []
        for rows in groups:
            lengths = [self.lengths[i] for i in rows]
            start, length = torch.tensor([[starts[i] for i in rows], lengths]).unsqueeze(-1)
            place = torch.arange(lengths[0])
            token = torch.where(place < length, start + place, len(self.time))  # (G, T)
            token = token.to(time.device, non_blocking=True)
            made.append(
                Group(token, time[token] / self.scale, starts[rows[0]], lengths[-1] < lengths[0])
            )
        return made

    @cached_property
    def row(self) -> Tensor:
        """(N,) int64, which row a token belongs to."""
        length = self.offsets.diff()
        row = torch.arange(len(length), device=length.device)
        return row.repeat_interleave(length, output_size=len(self.time))


def packed_attention(q: Tensor, k: Tensor, v: Tensor, rate: Tensor, packed: Packed) -> Tensor:
    """Multi-head attention within each row, whose heads forget at learned rates.

    The score of a query and a key is ``q k' / sqrt(d) - rate * log1p(|t_i - t_j| / scale)``, the
    second part only where both tokens have a time.

    Parameters
    ----------
    q, k, v : (N, H, d) tensors
        Half precision is worked on in float32 and given back as it came.
    rate : (H,) tensor
        How fast each head forgets, not negative.
    packed : Packed

    Returns
    -------
    (N, H, d) tensor
        It can be differentiated once, with respect to ``q``, ``k``, ``v`` and ``rate``.
    """
    if not q.numel():
        return q + k + v + 0 * rate.sum().to(q.dtype)
    with torch.autocast(q.device.type, enabled=False):
        dtype = torch.promote_types(q.dtype, torch.float32)
        rate = rate.to(dtype)
        if q.device.type == "cuda":
            from tawt_sklearn.nn.packed_flex import flex, flex_works

            if flex_works(q.device, q.dtype, *q.shape[1:]):
                return flex(q, k, v, rate.float(), packed)
        attention = bucketed
        if q.device.type == "cpu":
            from tawt_sklearn.nn.packed_tiles import Blockwise

            attention = Blockwise.apply
        return attention(q.to(dtype), k.to(dtype), v.to(dtype), rate, packed).to(q.dtype)


# Without a fused kernel: plain operations on rows of about the same length.


def bucketed(q: Tensor, k: Tensor, v: Tensor, rate: Tensor, packed: Packed) -> Tensor:
    """The same attention with all scores of a group of rows at once."""
    padded = [F.pad(x, (0, 0, 0, 0, 0, 1)) for x in (q, k, v)]
    out = padded[0].new_zeros(padded[0].shape)
    for group in packed.groups:
        T = group.token.shape[1]
        place = torch.arange(T, device=q.device)
        timed = place >= packed.n_untimed
        gap = log_gap(group.time, timed.expand_as(group.time), 1.0).to(q.dtype)
        bias = -rate.view(-1, 1, 1) * gap.unsqueeze(1)  # (G, H, T, T)
        hidden = (group.token == len(q)).view(-1, 1, 1, T)
        if packed.window is not None:
            far = (place.unsqueeze(1) - place).abs() > packed.window
            hidden = hidden | (far & timed & timed.unsqueeze(1))
        others = place.unsqueeze(1) != place  # what sees nothing, if only padding, becomes NaN
        bias = bias.masked_fill(hidden & others, -math.inf)
        q_rows, k_rows, v_rows = (x[group.token].transpose(1, 2) for x in padded)
        mixed = attend(q_rows, k_rows, v_rows, bias)
        out = out.index_put((group.token,), mixed.transpose(1, 2))
    return out[:-1]
