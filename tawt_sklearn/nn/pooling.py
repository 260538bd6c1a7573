"""From tokens to one embedding for each row."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tawt_sklearn.nn.backbone import Encoded
from tawt_sklearn.nn.patching import Patches


def mean_token(patches: Patches) -> Tensor:
    """(B, P, D) averaged over what is not padding -> (B, D)."""
    if patches.filled is None:
        return patches.tokens.mean(1)
    weight = patches.filled.to(patches.tokens.dtype).unsqueeze(-1)
    return (patches.tokens * weight).sum(1) / weight.sum(1).clamp(min=1)


class CodewiseReadout(nn.Module):
    """[CLS], the means of the two kinds of patches, and a sum that remembers the code.

    The sum is the flattened feature tokens times a matrix, factorised as (shared map, gate of the
    code): ``sum_p (W h_p) * g(code_p)``.  It keeps apart what a mean would blend, at a cost that
    does not depend on the size of the vocabulary.
    """

    def __init__(self, n_codes: int, d_model: int, patching: str, d_codewise: int = 64) -> None:
        super().__init__()
        self.d_out = d_model * (3 if patching == "dual" else 2)
        self.codewise = patching != "time"
        if self.codewise:
            self.project = nn.Linear(d_model, d_codewise)
            self.gate = nn.Embedding(n_codes, d_codewise)
            self.d_out += d_codewise

    def forward(self, encoded: Encoded) -> Tensor:
        """-> (B, d_out)."""
        parts = [encoded.cls]
        parts += [mean_token(p) for p in (encoded.feature, encoded.temporal) if p is not None]
        feature = encoded.feature
        if feature is not None:
            gated = self.project(feature.tokens) * self.gate(feature.code)  # (B, P, d_codewise)
            # Sums of P gated terms of either sign grow like the root of P.
            parts.append(mean_token(feature._replace(tokens=gated)) * gated.shape[1] ** 0.5)
        return torch.cat(parts, dim=1)
