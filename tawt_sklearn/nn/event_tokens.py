"""One token for each event, and patches that events are pooled into once they have been mixed."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tawt_sklearn.nn.batch import EventBatch
from tawt_sklearn.nn.packed import Packed
from tawt_sklearn.nn.padded import Padded, log_gap
from tawt_sklearn.nn.patching import VALUE_BASIS, Patches, Places, assign_places, window_of
from tawt_sklearn.nn.statistics import only, segment_sum, without_rest
from tawt_sklearn.nn.time import Time2Vec, Waves


def since_same_code(batch: EventBatch) -> tuple[Tensor, Tensor]:
    """Time since the last event of the same code and row, and whether there was one.  (E,) each.

    The time is 0 where there was none.
    """
    n_codes = torch.cat([batch.code, batch.code.new_zeros(1)]).max() + 1
    key, place = batch.row * n_codes + batch.code, torch.arange(batch.n_events, device=batch.device)
    order = (key * batch.n_events + place).sort()[1]  # stable, which ONNX's sort is not
    key, time = key[order], batch.time[order]
    same = key == torch.cat([key.new_full((1,), -1), key])[:-1]
    since = time - torch.cat([time.new_zeros(1), time])[:-1]
    gap = torch.zeros_like(time).scatter(0, order, torch.where(same, since, 0.0))
    return gap, torch.zeros_like(same).scatter(0, order, same)


class EventTokens(nn.Module):
    """What was measured, how it stood, when, and how long after the last time.

    Parameters
    ----------
    n_codes, n_categories, d_model, horizon
        As for the backbone.
    shortest : float
        Shortest period of the time encoding, and the unit of gaps.
    learned_time : bool
    waves : Waves, optional
    """

    def __init__(
        self,
        n_codes: int,
        n_categories: int,
        d_model: int,
        horizon: float,
        shortest: float,
        learned_time: bool = True,
        waves: Waves | None = None,
    ) -> None:
        super().__init__()
        self.shortest = shortest
        self.code = nn.Parameter(torch.randn(n_codes, VALUE_BASIS, d_model) * 0.3)
        self.no_value = nn.Parameter(torch.randn(d_model) * 0.3)
        self.category = nn.Embedding(n_categories + 1, d_model, padding_idx=0)
        self.time_encoding = Time2Vec(d_model, shortest, 2 * horizon, learned_time, waves)
        self.gap = nn.Linear(2, d_model)

    def forward(self, batch: EventBatch) -> Tensor:
        """-> (E, D)."""
        value = batch.value.unsqueeze(1)
        present, slope, bend = self.code[batch.code].unbind(1)  # (E, D) each
        nothing = ~batch.observed & (batch.category == 0)
        tokens = present + slope * value + bend * value.abs()
        tokens = tokens + nothing.unsqueeze(1) * self.no_value + self.category(batch.category)
        gap, again = since_same_code(batch)
        since = torch.stack([torch.log1p(gap / self.shortest), again.to(gap.dtype)], dim=1)
        return tokens + self.time_encoding(batch.time) + self.gap(since)


class PooledEvents(nn.Module):
    """The events of a code, and those of a window of time, as patches.

    A patch is the mean of the tokens of its events; how many there are, which a mean forgets, and
    which window it is are added.  A code that does not occur has an embedding of its own.
    """

    edges: Tensor

    def __init__(self, n_codes: int, d_model: int, edges: Tensor, places: Places) -> None:
        super().__init__()
        self.register_buffer("edges", edges)
        self.n_codes, self.places = n_codes, places
        self.n_windows = len(edges) + 1
        self.absent = nn.Embedding(n_codes, d_model)
        self.place = nn.Parameter(torch.randn(self.n_windows, d_model) * 0.3)
        self.count_of_code = nn.Linear(1, d_model)
        self.count_of_window = nn.Linear(1, d_model)
        nn.init.normal_(self.absent.weight, std=0.5)

    def by_code(self, batch: EventBatch, tokens: Tensor) -> Patches:
        """(E, D) -> feature patches."""
        B = batch.n_rows
        place, place_code = assign_places(batch.row, batch.code, B, self.n_codes, self.places)
        P = place_code.shape[1]
        segment, time, n_kept = batch.row * P + place, batch.time, B * P
        if self.places.n_free:
            segment, n_kept, (time, tokens) = only(place >= 0, segment, B * P, time, tokens)
        last = time.new_zeros(n_kept).scatter_reduce(0, segment, time, "amax")
        mean, count, last = (
            without_rest(told, B * P) for told in (*_means(segment, time, tokens, n_kept)[:2], last)
        )
        occurs = (count > 0).view(B, P)
        tokens = (mean + self.count_of_code(torch.log1p(count).unsqueeze(1))).view(B, P, -1)
        code = place_code.clamp(min=0)
        tokens = torch.where(occurs.unsqueeze(-1), tokens, self.absent(code))
        filled = place_code >= 0 if P > self.places.n_fixed else None
        return Patches(tokens, last.view(B, P), occurs, filled, code)

    def by_window(self, batch: EventBatch, tokens: Tensor) -> Patches:
        """(E, D) -> temporal patches."""
        B, W = batch.n_rows, self.n_windows
        window = window_of(batch.time, self.edges)
        mean, count, time = _means(batch.row * W + window, batch.time, tokens, B * W)
        tokens = mean + self.count_of_window(torch.log1p(count).unsqueeze(1))
        tokens = tokens.view(B, W, -1) + self.place
        return Patches(tokens, time.view(B, W), (count > 0).view(B, W))


def _means(
    segment: Tensor, time: Tensor, tokens: Tensor, n_segments: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean tokens (n, D), counts (n,) and mean times (n,) of segments; zeros where empty."""
    told = segment_sum(torch.stack([torch.ones_like(time), time], 1), segment, n_segments)
    count, total = told.unbind(1)
    some = count.clamp(min=1)
    return segment_sum(tokens, segment, n_segments) / some.unsqueeze(1), count, total / some


def packed_with(lone: Tensor, batch: EventBatch, scale: float, window: int | None) -> Packed:
    """How tokens lie that begin, in every row, with ``S`` that have no time.  (B, S, D) lone."""
    B, S, _ = lone.shape
    count = torch.bincount(batch.row, minlength=B)
    place = event_places(batch, S)
    time = batch.time.new_zeros(B * S + batch.n_events).index_copy(0, place, batch.time)
    return Packed.of(time, (count + S).tolist(), S, scale, window)


def side_by_side(lone: Tensor, batch: EventBatch, scale: float, window: int | None) -> Padded:
    """How the tokens of all rows lie as those of one, for an exported graph.

    First (B, S, D) lone tokens without a time, then all events.  Each sees those of its row only.
    What is computed grows with the square of all tokens, but no size depends on the data.
    """
    B, S, _ = lone.shape
    n_lone, n_events = B * S, batch.n_events
    own = torch.arange(B, device=batch.device).unsqueeze(1).expand(B, S).reshape(n_lone)
    row = torch.cat([own, batch.row])  # (N,)
    time = torch.cat([batch.time.new_zeros(n_lone), batch.time]).unsqueeze(0)
    timed = torch.arange(n_lone + n_events, device=batch.device).unsqueeze(0) >= n_lone  # (1, N)
    apart = row.unsqueeze(1) != row.unsqueeze(0)  # (N, N)
    if window is not None:
        place = torch.arange(n_lone + n_events, device=batch.device)
        far = (place.unsqueeze(1) - place.unsqueeze(0)).abs() > window
        apart = apart | (far & timed & timed.transpose(0, 1))
    gap = log_gap(time, timed, scale)  # (1, N, N)
    return Padded(gap, torch.zeros_like(gap).masked_fill(apart, -torch.inf).unsqueeze(1))


def event_places(batch: EventBatch, n_lone: int) -> Tensor:
    """(E,) where events stand among the tokens of all rows."""
    return torch.arange(batch.n_events, device=batch.device) + (batch.row + 1) * n_lone


def interleaved(lone: Tensor, events: Tensor, batch: EventBatch, packed: Packed) -> Tensor:
    """(B, S, D) and (E, D) -> (N, D), row after row."""
    out = events.new_zeros(len(packed.time), events.shape[1])
    out = out.index_copy(0, event_places(batch, packed.n_untimed), events)
    return out.index_copy(0, lone_places(packed), lone.flatten(0, 1).to(events.dtype))


def lone_places(packed: Packed) -> Tensor:
    """(B * S,) where the tokens without a time stand."""
    first = packed.offsets[:-1].unsqueeze(1)
    return (first + torch.arange(packed.n_untimed, device=first.device)).flatten()
