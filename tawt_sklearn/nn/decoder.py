"""From patches back to events: what was measured, when it was, and how much it was."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tawt_sklearn.nn.backbone import Encoded
from tawt_sklearn.nn.batch import EventBatch
from tawt_sklearn.nn.patching import Patches
from tawt_sklearn.nn.space import Space
from tawt_sklearn.nn.time import Time2Vec

MAX_SUMMARISED = 512
"""Only the first codes of a larger vocabulary, the most frequent ones, are summarised."""


class FeatureLookup:
    """Finds the feature patch of a (row, code); of a code without one there is none.

    Parameters
    ----------
    feature : Patches
        Of B rows and P places.
    n_codes : int
    """

    def __init__(self, feature: Patches, n_codes: int) -> None:
        tokens, code, filled = feature.tokens, feature.code, feature.filled
        assert code is not None
        B, P, _ = tokens.shape
        filled = code >= 0 if filled is None else filled
        filled, code = filled.expand(B, P), code.expand(B, P)
        place = torch.arange(P, device=code.device).expand(B, P)
        row = torch.arange(B, device=code.device).unsqueeze(1).expand(B, P)
        self.place = torch.full((B, n_codes), -1, device=code.device)
        self.place[row[filled], code[filled]] = place[filled]
        self.n_places = P

    def __call__(self, patches: Tensor, row: Tensor, code: Tensor, none: Tensor) -> Tensor:
        """(B, P, K) values of patches, looked up at (N,) rows and codes -> (N, K)."""
        place = self.place[row, code]
        found = patches.flatten(0, 1).index_select(0, row * self.n_places + place.clamp(min=0))
        return torch.where((place >= 0).unsqueeze(-1), found, none)


class EventDecoder(nn.Module):
    """Values, categories, codes and presence of events that the network did not see.

    An event is asked for by its code and its time.  It is answered from the feature patch of the
    code, the temporal patch of the window, and the embedding of the row.

    Parameters
    ----------
    space : Space
    d_model, d_row : int
        Width of patches and of the embedding of a row.
    """

    def __init__(self, space: Space, d_model: int, d_row: int, d_hidden: int = 64) -> None:
        super().__init__()
        self.space, H = space, d_hidden
        self.from_feature = nn.Linear(d_model, H, bias=False)
        self.from_window = nn.Linear(d_model, H, bias=False)
        self.from_row = nn.Linear(d_row, H)
        self.time_encoding = Time2Vec(
            H, shortest=space.horizon / (4 * space.n_windows), longest=2 * space.horizon
        )
        self.no_feature = nn.Parameter(torch.zeros(H))
        self.code = nn.Embedding(space.n_codes, H)
        self.hidden = nn.Sequential(nn.LayerNorm(H), nn.Linear(H, H), nn.GELU())
        self.value = nn.Embedding(space.n_codes, H)
        self.value_bias = nn.Embedding(space.n_codes, 1)
        self.category = nn.Embedding(max(space.n_categories, 1), H)
        self.code_hidden = nn.Sequential(nn.LayerNorm(H), nn.Linear(H, H), nn.GELU())
        self.code_out = nn.Embedding(space.n_codes, H)
        self.code_bias = nn.Embedding(space.n_codes, 1)
        self.presence_window = nn.Linear(d_model, H)
        self.presence_feature = nn.Linear(d_model, H, bias=False)
        self.presence_row = nn.Linear(d_row, H, bias=False)
        self.presence_code = nn.Embedding(space.n_codes, H)
        self.presence_bias = nn.Embedding(space.n_codes, 1)
        for table in (self.value, self.category, self.code_out, self.presence_code):
            nn.init.normal_(table.weight, std=H**-0.5)
        for table in (self.value_bias, self.code_bias, self.presence_bias):
            nn.init.zeros_(table.weight)
        nn.init.normal_(self.code.weight, std=0.3)

    def context(self, encoded: Encoded, embedding: Tensor, events: EventBatch) -> Tensor:
        """What is known of the moments of N events, whatever is measured then.  -> (N, H)."""
        row = events.row
        known = self.from_row(embedding).index_select(0, row) + self.time_encoding(events.time)
        if encoded.temporal is None:
            return known
        window = self.space.window(events)
        per_window = self.from_window(encoded.temporal.tokens)  # (B, P, H)
        P = per_window.shape[1]
        return known + per_window.flatten(0, 1).index_select(0, row * P + window.clamp(max=P - 1))

    def query(self, encoded: Encoded, moment: Tensor, row: Tensor, code: Tensor) -> Tensor:
        """What is known of a code at a moment.  (N, H), (N,) and (N,) -> (N, H)."""
        asked = moment + self.code(code)
        if encoded.feature is not None:
            lookup = FeatureLookup(encoded.feature, self.space.n_codes)
            patches = self.from_feature(encoded.feature.tokens)
            asked = asked + lookup(patches, row, code, self.no_feature)
        return self.hidden(asked)

    def values(self, query: Tensor, code: Tensor) -> Tensor:
        """(N, H) queries -> (N,) scaled values."""
        return (query * self.value(code)).sum(1) + self.value_bias(code).squeeze(1)

    def category_scores(self, query: Tensor, code: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores of the categories of each query's code, ragged.

        Returns
        -------
        scores : (M,)
        owner : (M,) int64
            Which of the N queries a score belongs to.
        category : (M,) int64
            Id of the category it is of.
        """
        offsets = self.space.category_offsets
        first, count = offsets[code], offsets[code + 1] - offsets[code]
        owner = torch.repeat_interleave(torch.arange(len(code), device=code.device), count)
        before = count.cumsum(0) - count
        category = torch.arange(len(owner), device=code.device) + (first - before)[owner]
        return (query.index_select(0, owner) * self.category(category)).sum(1), owner, category

    def code_scores(self, moment: Tensor, codes: Tensor) -> Tensor:
        """Scores of some codes (S,) for an event at each moment.  (N, H) -> (N, S)."""
        return self.code_hidden(moment) @ self.code_out(codes).T + self.code_bias(codes).squeeze(1)

    def presence(self, encoded: Encoded, embedding: Tensor, codes: Tensor) -> Tensor:
        """Log-odds that a code was measured in a window at all.  -> (B, S, W)."""
        B, S = len(embedding), len(codes)
        what = self.presence_code(codes).expand(B, S, -1)  # (B, S, H)
        if encoded.feature is not None:
            lookup = FeatureLookup(encoded.feature, self.space.n_codes)
            patches = self.presence_feature(encoded.feature.tokens)
            row = torch.arange(B, device=codes.device).repeat_interleave(S)
            none = torch.zeros_like(self.no_feature)
            what = what + lookup(patches, row, codes.repeat(B), none).view(B, S, -1)
        where = self.presence_row(embedding).unsqueeze(1)  # (B, 1, H)
        if encoded.temporal is None:
            where = where.expand(-1, self.space.n_windows, -1)
        else:
            W, tokens = self.space.n_windows, encoded.temporal.tokens[:, : self.space.n_windows]
            tokens = F.pad(tokens, (0, 0, 0, W - tokens.shape[1]))  # of panels shorter than others
            where = where + self.presence_window(tokens)
        return torch.bmm(what, where.transpose(1, 2)) + self.presence_bias(codes)


class SummaryDecoder(nn.Module):
    """From the embedding of a row back to the statistics of its codes.

    Parameters
    ----------
    space : Space
    d_embedding : int
    n_statistics : int
        Numbers for each code (K).
    """

    def __init__(
        self, space: Space, d_embedding: int, n_statistics: int, d_hidden: int = 256
    ) -> None:
        super().__init__()
        self.n_codes = min(space.n_codes, MAX_SUMMARISED)
        self.hidden = nn.Sequential(
            nn.LayerNorm(d_embedding), nn.Linear(d_embedding, d_hidden), nn.GELU()
        )
        self.code = nn.Parameter(torch.randn(self.n_codes, n_statistics, d_hidden) / d_hidden)
        self.bias = nn.Parameter(torch.zeros(self.n_codes, n_statistics))

    def forward(self, embedding: Tensor) -> Tensor:
        """-> (B, n_codes, K)."""
        flat = self.hidden(embedding) @ self.code.flatten(0, 1).T
        return flat.view(len(embedding), self.n_codes, -1) + self.bias
