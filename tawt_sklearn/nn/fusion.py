"""Three ways to make one embedding of the events of a row and of what stands beside them.

All take the patches of the events, the readout that makes a row's embedding of them (B, d_row),
and what each modality has to say; all give (B, d_out).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tawt_sklearn.nn.backbone import Encoded
from tawt_sklearn.nn.patching import Patches

Readout = Callable[[Encoded], Tensor]


class Seen(NamedTuple):
    """What one modality says of B rows."""

    tokens: Patches  # (B, P, D); where a row has no item one token that was learned
    pooled: Tensor  # (B, D)
    there: Tensor  # (B,) bool, whether the row has an item
    stream: Patches | None  # (B, M, D) one token for each item that has a time


class ConcatFusion(nn.Module):
    """The embeddings side by side, each normalised by itself."""

    def __init__(self, d_row: int, d_model: int, n_beside: int, n_heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d_row)
        self.d_out = d_row + n_beside * d_model

    def forward(self, encoded: Encoded, readout: Readout, seen: Sequence[Seen]) -> Tensor:
        return torch.cat([self.norm(readout(encoded)), *(one.pooled for one in seen)], dim=1)


class AttentionFusion(nn.Module):
    """The patches of the events look at the tokens beside them, before they are read out.

    A cross-attention block as in a transformer's decoder (Vaswani et al., "Attention Is All You
    Need", 2017): pre-norm, residual, then a feed-forward layer.
    """

    def __init__(self, d_row: int, d_model: int, n_beside: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.d_out = d_row
        self.kind = nn.Parameter(torch.randn(n_beside, d_model) * 0.3)  # whose a token is
        self.norm_query, self.norm_key = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.to_query = nn.Linear(d_model, d_model)
        self.to_key_value = nn.Linear(d_model, 2 * d_model)
        self.to_out = nn.Linear(d_model, d_model)
        self.feedforward = nn.Sequential(
            nn.LayerNorm(d_model),
            nn.Linear(d_model, 2 * d_model),
            nn.GELU(),
            nn.Linear(2 * d_model, d_model),
        )

    def forward(self, encoded: Encoded, readout: Readout, seen: Sequence[Seen]) -> Tensor:
        return readout(self.looked(encoded, seen))

    def looked(self, encoded: Encoded, seen: Sequence[Seen]) -> Encoded:
        """The patches once they have looked beside them."""
        groups = [encoded.cls.unsqueeze(1), encoded.static.tokens]
        groups += [p.tokens for p in (encoded.feature, encoded.temporal) if p is not None]
        beside = torch.cat([s.tokens.tokens + k for s, k in zip(seen, self.kind, strict=True)], 1)
        filled = torch.cat([_filled(s.tokens) for s in seen], dim=1)  # (B, Q)

        x = torch.cat(groups, dim=1)  # (B, P, D)
        x = x + self.attend(self.norm_query(x), self.norm_key(beside), filled)
        x = x + self.feedforward(x)

        cls, static, *others = x.split([group.shape[1] for group in groups], dim=1)
        feature = encoded.feature and encoded.feature._replace(tokens=others.pop(0))
        temporal = encoded.temporal and encoded.temporal._replace(tokens=others.pop(0))
        return encoded._replace(
            cls=cls.squeeze(1),
            static=encoded.static._replace(tokens=static),
            feature=feature,
            temporal=temporal,
        )

    def attend(self, x: Tensor, beside: Tensor, filled: Tensor) -> Tensor:
        """(B, P, D) to (B, Q, D) of which (B, Q) are filled -> (B, P, D)."""
        B, P, D = x.shape
        q = self.to_query(x).view(B, P, self.n_heads, -1).transpose(1, 2)  # (B, H, P, d)
        kv = self.to_key_value(beside).view(B, -1, 2, self.n_heads, D // self.n_heads)
        k, v = kv.permute(2, 0, 3, 1, 4).unbind(0)  # (B, H, Q, d)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=filled[:, None, None, :])
        return self.to_out(mixed.transpose(1, 2).reshape(B, P, D))


class GatedFusion(nn.Module):
    """A mean of all embeddings whose weights depend on all of them.

    The gated multimodal unit (Arevalo et al., "Gated Multimodal Units for Information Fusion",
    2017): ``h_m = tanh(W_m x_m)``, ``fused = sum_m z_m * h_m``, with ``z`` a softmax over the
    modalities of a linear map of all ``x``, for every coordinate by itself.  With two modalities
    that is the paper's ``z`` and ``1 - z``.
    """

    def __init__(self, d_row: int, d_model: int, n_beside: int, n_heads: int) -> None:
        super().__init__()
        widths = [d_row] + n_beside * [d_model]
        self.d_out = max(64, d_model)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in widths)
        self.candidates = nn.ModuleList(nn.Linear(width, self.d_out) for width in widths)
        self.gate = nn.Linear(sum(widths), len(widths) * self.d_out)
        nn.init.zeros_(self.gate.weight)  # all weigh the same until something speaks for one
        nn.init.zeros_(self.gate.bias)

    def forward(self, encoded: Encoded, readout: Readout, seen: Sequence[Seen]) -> Tensor:
        return self.weighed(encoded, readout, seen)[0]

    def weighed(
        self, encoded: Encoded, readout: Readout, seen: Sequence[Seen]
    ) -> tuple[Tensor, Tensor]:
        """The fused embedding (B, d_out), and the weight of each modality in it (B, M, d_out)."""
        given = [readout(encoded), *(one.pooled for one in seen)]
        x = [norm(one) for norm, one in zip(self.norms, given, strict=True)]
        h = torch.stack([to(one) for to, one in zip(self.candidates, x, strict=True)], 1).tanh()
        z = self.gate(torch.cat(x, dim=1)).view(h.shape).softmax(1)  # (B, M, d_out)
        return (z * h).sum(1), z


def _filled(patches: Patches) -> Tensor:
    """(B, P) bool."""
    if patches.filled is not None:
        return patches.filled
    return torch.ones(patches.tokens.shape[:2], dtype=torch.bool, device=patches.tokens.device)


FUSIONS: dict[str, Any] = {
    "concat": ConcatFusion,
    "attention": AttentionFusion,
    "gated": GatedFusion,
}
