"""From tokens to one embedding for each row."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tawt_sklearn.nn.backbone import Encoded


import os
SKIP = int(os.environ.get("SKIP", 0))


def masked_mean(tokens: Tensor, mask: Tensor) -> Tensor:
    """(B, P, D) averaged where ``mask`` (B, P) is true -> (B, D); 0 where it never is."""
    weight = mask.to(tokens.dtype).unsqueeze(-1)
    return (tokens * weight).sum(1) / weight.sum(1).clamp(min=1)


class CodewiseReadout(nn.Module):
    """[CLS], the means of the two kinds of patches, and a sum that remembers the code.

    The sum is the flattened feature tokens times a matrix, factorised as (shared map, gate of the
    code): ``sum_p (W h_p) * g(code_p)``.  It keeps apart what a mean would blend, at a cost that
    does not depend on the size of the vocabulary.
    """

    def __init__(self, n_codes: int, d_model: int, d_codewise: int = 64, skip=SKIP) -> None:
        super().__init__()
        self.skip = skip
        if skip:
            self.project0 = nn.Linear(d_model, d_codewise)
            self.gate0 = nn.Embedding(n_codes, d_codewise)
        self.project = nn.Linear(d_model, d_codewise)
        self.gate = nn.Embedding(n_codes, d_codewise)
        nn.init.normal_(self.gate.weight, std=1.0)
        self.d_out = 3 * d_model + d_codewise*(1+skip)

    def forward(self, encoded: Encoded) -> Tensor:
        """-> (B, d_out)."""
        feature = (encoded.kind == 1) & encoded.present
        temporal = (encoded.kind == 2) & encoded.present
        gated = self.project(encoded.tokens) * self.gate(encoded.code)  # (B, P, d_codewise)
        gated = masked_mean(gated, feature) * feature.sum(1, keepdim=True).clamp(min=1).sqrt()
        extra = []
        if self.skip:
            g = self.project0(encoded.patches) * self.gate0(encoded.code)
            extra = [masked_mean(g, feature) * feature.sum(1, keepdim=True).clamp(min=1).sqrt()]
        return torch.cat(
            [
                *extra,
                encoded.cls,
                masked_mean(encoded.tokens, feature),
                masked_mean(encoded.tokens, temporal),
                gated,
            ],
            dim=1,
        )
