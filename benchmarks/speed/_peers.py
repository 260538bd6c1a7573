"""What one writes first with ``nn.TransformerEncoder``: one token for each event, or each step."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from _stays import Tokens
from numpy.typing import NDArray
from torch import Tensor, nn


class PaddedTransformer(nn.Module):
    """One token for each event, padded to one length, the mean over events, a linear head."""

    def __init__(
        self,
        n_codes: int,
        d_model: int,
        n_layers: int,
        d_feedforward: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.code = nn.Embedding(n_codes, d_model)
        self.number = nn.Linear(2, d_model)
        self.encoder = encoder(d_model, n_layers, d_feedforward or 2 * d_model, dropout)
        self.head = nn.Linear(d_model, 2)

    def forward(self, code: Tensor, number: Tensor, pad: Tensor) -> Tensor:
        """(B, E) codes, (B, E, 2) values and times, (B, E) true where padded -> (B, 2)."""
        x = self.code(code) + self.number(number)  # (B, E, D)
        x = self.encoder(x, src_key_padding_mask=pad)
        pad = pad[:, : x.shape[1]].unsqueeze(-1)  # the fast path cuts to the longest of the batch
        return self.head(x.masked_fill(pad, 0.0).sum(1) / (~pad).sum(1).clamp(min=1))


class StepTransformer(nn.Module):
    """One token for each step of a panel, learned places, the mean over steps, a linear head."""

    def __init__(self, n_channels: int, n_steps: int, d_model: int, n_layers: int) -> None:
        super().__init__()
        self.embed = nn.Linear(2 * n_channels, d_model)
        self.place = nn.Parameter(torch.zeros(n_steps, d_model))
        self.encoder = encoder(d_model, n_layers, 2 * d_model, 0.0)
        self.head = nn.Linear(d_model, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, 2 C) values and missing marks -> (B, 1)."""
        return self.head(self.encoder(self.embed(x) + self.place).mean(1))


def encoder(d_model: int, n_layers: int, d_feedforward: int, dropout: float) -> nn.Module:
    """``nn.TransformerEncoder`` with torch's defaults; dropout inside the attention, too."""
    layer = nn.TransformerEncoderLayer(d_model, 4, d_feedforward, dropout, batch_first=True)
    return nn.TransformerEncoder(layer, n_layers)


def padded(tokens: Tokens, rows: NDArray[np.int64], length: int | None = None) -> dict[str, Tensor]:
    """Rows padded to a length, or to the longest of them: what the network takes."""
    lengths = torch.from_numpy(tokens.lengths[rows])
    width = int(length or lengths.max())
    place = torch.arange(width)
    pad = place >= lengths.unsqueeze(1)  # (B, E)
    position = torch.from_numpy(tokens.offsets[rows]).unsqueeze(1) + place
    position = position.masked_fill(pad, 0)
    return {
        "code": tokens.code[position].masked_fill(pad, 0),
        "number": tokens.number[position].masked_fill(pad.unsqueeze(-1), 0.0),
        "pad": pad,
    }


def buckets(tokens: Tokens, batch_size: int, n_batches: int) -> list[NDArray[np.int64]]:
    """Batches of rows of about the same length, evenly spread over all that there are."""
    order = np.argsort(tokens.lengths, kind="stable")
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    chosen = ((np.arange(n_batches) + 0.5) * len(batches) / n_batches).astype(int)
    return batches if n_batches >= len(batches) else [batches[i] for i in chosen]


def train_epoch(
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    tokens: Tokens,
    batches: Sequence[NDArray[np.int64]],
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> None:
    """A bare loop over batches, each padded to its longest row."""
    net.train()
    for rows in batches:
        inputs = moved(padded(tokens, rows), device)
        with torch.autocast(device.split(":")[0], dtype, enabled=dtype != torch.float32):
            loss = F.cross_entropy(net(**inputs).float(), tokens.label[rows].to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def predict(
    net: nn.Module,
    tokens: Tokens,
    batches: Sequence[NDArray[np.int64]],
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> list[Tensor]:
    """Probabilities of all batches."""
    net.eval()
    with torch.inference_mode():
        with torch.autocast(device.split(":")[0], dtype, enabled=dtype != torch.float32):
            return [
                net(**moved(padded(tokens, rows), device)).float().softmax(1).cpu()
                for rows in batches
            ]


def moved(inputs: dict[str, Tensor], device: str) -> dict[str, Tensor]:
    """The same on a device."""
    return {name: tensor.to(device, non_blocking=True) for name, tensor in inputs.items()}


def in_order(n_rows: int, batch_size: int = 16) -> Iterator[NDArray[np.int64]]:
    """Batches of rows as they come."""
    for first in range(0, n_rows, batch_size):
        yield np.arange(first, min(first + batch_size, n_rows))


def padded_throughput(tokens: Tokens, n_rows: int, d_model: int) -> float:
    """Training events per second of the padded transformer without dropout, rows as they come."""
    torch.manual_seed(0)
    net = PaddedTransformer(tokens.n_codes, d_model, 2)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    batches = list(in_order(n_rows))
    start = time.perf_counter()
    train_epoch(net, optimizer, tokens, batches)
    return float(tokens.offsets[n_rows] / (time.perf_counter() - start))
