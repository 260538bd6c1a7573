"""From tokens to one embedding for each row."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tawt_sklearn.nn.backbone import Encoded, joined
from tawt_sklearn.nn.coordinates import Coordinates
from tawt_sklearn.nn.patching import Patches

TWO_KINDS = ("dual", "event")
"""Kinds of patching that end in patches of codes and of windows."""


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

    def __init__(self, n_codes: int, n_places: int, d_model: int, d_out: int) -> None:
        super().__init__()
        self.spread = n_places**0.5  # sums of P gated terms of either sign grow like the root of P
        self.norm = nn.LayerNorm(d_model)
        self.project = nn.Linear(d_model, d_out)
        self.gate = nn.Embedding(n_codes, d_out)

    def forward(self, feature: Patches) -> Tensor:
        """-> (B, d_out)."""
        gated = self.project(self.norm(feature.tokens)) * self.gate(feature.code)  # (B, P, d_out)
        return mean_token(feature._replace(tokens=gated)) * self.spread


class Readout(nn.Module):
    """[CLS], the means of both kinds of patches, and codewise sums of the feature patches.

    One sum is of the patches as the blocks left them, one of the patches as they went in: exact
    statistics that need no mixing get to the head on a short way.
    """

    def __init__(
        self, n_codes: int, n_places: int, d_model: int, patching: str, d_codewise: int = 64
    ) -> None:
        super().__init__()
        self.d_out = d_model * (3 if patching in TWO_KINDS else 2)
        if patching != "time":
            self.mixed_sum = CodewiseSum(n_codes, n_places, d_model, d_codewise)
            self.unmixed_sum = CodewiseSum(n_codes, n_places, d_model, d_codewise)
            self.d_out += 2 * d_codewise

    def forward(self, encoded: Encoded) -> Tensor:
        """-> (B, d_out)."""
        parts = [encoded.cls]
        parts += [mean_token(p) for p in (encoded.feature, encoded.temporal) if p is not None]
        if encoded.feature is not None and encoded.unmixed is not None:
            parts += [self.mixed_sum(encoded.feature), self.unmixed_sum(encoded.unmixed)]
        return torch.cat(parts, dim=1)


POOLINGS = ("codewise", "cls", "mean", "max", "attention", "codes")
"""Ways from the tokens of a row to its embedding."""

SCALINGS = ("reliability", "unit")
"""What decides how wide a direction or a column of embeddings is."""


class Pooling(nn.Module):
    """From the tokens of a row to its embedding, by one of :data:`POOLINGS`.

    Parameters
    ----------
    how : str
        ``"codewise"`` projects a :class:`Readout`; ``"cls"`` is the [CLS] token; ``"mean"`` (in
        which both kinds of patches weigh the same), ``"max"`` and ``"attention"`` (a mean
        weighted by a learned query) are of all patches; ``"codes"`` puts the tokens of the codes
        side by side (:func:`flat_codes`).
    n_codes, n_places, d_model, patching
        As for :class:`Readout`.
    d_embedding : int
        Width of the codewise embedding.
    """

    def __init__(
        self,
        how: str,
        n_codes: int,
        n_places: int,
        d_model: int,
        patching: str,
        d_embedding: int,
    ) -> None:
        super().__init__()
        self.how, self.n_places = how, n_places
        self.d_out = d_model
        if how == "codewise":
            self.readout = Readout(n_codes, n_places, d_model, patching)
            self.project = nn.Linear(self.readout.d_out, d_embedding)
            self.d_out = d_embedding
        elif how == "attention":
            self.query = nn.Parameter(torch.randn(d_model) * d_model**-0.5)
        elif how == "codes":
            self.d_out = d_model * (n_places + (2 if patching in TWO_KINDS else 1))

    def coordinates(self, scaling: str, d: int | None = None) -> Coordinates:
        """Coordinates for these embeddings, or what became of them (B, d); one of :data:`SCALINGS`.

        Of the flat tokens of codes only columns are scaled: they are too many for more.
        """
        turning = scaling == "reliability" and self.how != "codes"
        return Coordinates(self.d_out if d is None else d, turning=turning)

    def forward(self, encoded: Encoded) -> Tensor:
        """-> (B, d_out)."""
        if self.how == "codewise":
            return self.project(self.readout(encoded))
        if self.how == "cls":
            return encoded.cls
        if self.how == "codes":
            return flat_codes(encoded, self.n_places)
        return self.pooled([p for p in (encoded.feature, encoded.temporal) if p is not None])

    def pooled(self, kinds: list[Patches]) -> Tensor:
        """Mean, maximum or weighted mean of patches.  -> (B, D)."""
        if self.how == "mean":
            return torch.stack([mean_token(patches) for patches in kinds]).mean(0)
        x, _, _, padding = joined(kinds)  # (B, P, D) and (B, 1, 1, P)
        if padding is None:
            padding = x.new_zeros(1, 1, 1, 1)
        away = padding[:, 0, 0].unsqueeze(2)  # (B, P, 1)
        nothing = away.isinf().all(1, keepdim=True)  # no patch at all: zeros, as for the mean
        x, away = x.masked_fill(nothing, 0.0), away.masked_fill(nothing, 0.0)
        if self.how == "max":
            return (x + away).amax(1)
        weight = ((x @ self.query).unsqueeze(2) + away).softmax(1)
        return (x * weight).sum(1)


def flat_codes(encoded: Encoded, n_codes: int) -> Tensor:
    """[CLS], the mean of the windows, and the tokens of the first codes side by side.

    Zeros stand where a code has no token in a row.  -> (B, (2 + n_codes) D), or (1 + n_codes) D
    where there are no windows.
    """
    feature = encoded.feature
    assert feature is not None and feature.code is not None
    B, _, D = feature.tokens.shape
    if feature.filled is None:
        tokens = feature.tokens[:, :n_codes]
    else:
        taken = feature.filled & (feature.code < n_codes)
        if torch.compiler.is_exporting():  # the others go behind, in one more place
            code = torch.where(taken, feature.code, n_codes).unsqueeze(2)
            tokens = feature.tokens.new_zeros(B, n_codes + 1, D)
            tokens = tokens.scatter(1, code.expand_as(feature.tokens), feature.tokens)[:, :n_codes]
        else:
            row, place = taken.nonzero().unbind(1)
            tokens = feature.tokens.new_zeros(B, n_codes, D)
            tokens[row, feature.code[row, place]] = feature.tokens[row, place]
    parts = [encoded.cls, tokens.flatten(1)]
    if encoded.temporal is not None:
        parts.insert(1, mean_token(encoded.temporal))
    return torch.cat(parts, dim=1)
