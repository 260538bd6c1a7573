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


class CodewiseSum(nn.Module):
    """A sum over feature patches that remembers which code each one is.

    It is the flattened tokens times a matrix, factorised as (shared map, gate of the code):
    ``sum_p (W h_p) * g(code_p)``.  It keeps apart what a mean would blend, at a cost that does
    not depend on the size of the vocabulary.
    """

    def __init__(self, n_codes: int, d_model: int, d_out: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d_model)
        self.project = nn.Linear(d_model, d_out)
        self.gate = nn.Embedding(n_codes, d_out)

    def forward(self, feature: Patches) -> Tensor:
        """-> (B, d_out)."""
        gated = self.project(self.norm(feature.tokens)) * self.gate(feature.code)  # (B, P, d_out)
        # Sums of P gated terms of either sign grow like the root of P.
        return mean_token(feature._replace(tokens=gated)) * gated.shape[1] ** 0.5


class Readout(nn.Module):
    """[CLS], the means of both kinds of patches, and codewise sums of the feature patches.

    One sum is of the patches as the blocks left them, one of the patches as they went in: exact
    statistics that need no mixing get to the head on a short way.
    """

    def __init__(self, n_codes: int, d_model: int, patching: str, d_codewise: int = 64) -> None:
        super().__init__()
        self.d_out = d_model * (3 if patching == "dual" else 2)
        if patching != "time":
            self.mixed_sum = CodewiseSum(n_codes, d_model, d_codewise)
            self.unmixed_sum = CodewiseSum(n_codes, d_model, d_codewise)
            self.d_out += 2 * d_codewise

    def forward(self, encoded: Encoded) -> Tensor:
        """-> (B, d_out)."""
        parts = [encoded.cls]
        parts += [mean_token(p) for p in (encoded.feature, encoded.temporal) if p is not None]
        if encoded.feature is not None and encoded.unmixed is not None:
            parts += [self.mixed_sum(encoded.feature), self.unmixed_sum(encoded.unmixed)]
        return torch.cat(parts, dim=1)
