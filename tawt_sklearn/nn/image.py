"""Networks of images: a small convolutional one, a small transformer, and those of others.

Each is a ``backbone`` from pixels (N, C, H, W) to features (N, K, F), and :class:`ImageTokens`
makes tokens (N, K, D) of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from tawt_sklearn.nn.backbone import Block
from tawt_sklearn.nn.padded import Padded

WIDTHS = (16, 32, 64, 96, 128)
"""Channels of the stages of the convolutional network."""

SHIFT, CONTRAST = 1 / 8, 0.1
"""The largest shift, in sides of the image, and change of contrast and brightness."""


class SmallCNN(nn.Module):
    """Stages of two convolutions; each halves the sides, until four cells or so are left.

    Norms are those of groups (Wu & He, "Group Normalization", 2018): what is said of an image
    then does not depend on the others in its batch.
    """

    def __init__(self, channels: int, size: tuple[int, int], d_model: int) -> None:
        super().__init__()
        n_stages = max(1, min(len(WIDTHS), int(np.log2(max(min(size), 4) / 4))))
        layers: list[nn.Module] = []
        for width in WIDTHS[:n_stages]:
            layers += [*_convolved(channels, width, 1), *_convolved(width, width, 2)]
            channels, size = width, (-(-size[0] // 2), -(-size[1] // 2))
        self.layers = nn.Sequential(*layers)
        self.place = nn.Parameter(torch.randn(size[0] * size[1], channels) * 0.3)
        self.d_out = channels

    def forward(self, pixels: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, K, F), a feature for each cell."""
        return self.layers(pixels).flatten(2).transpose(1, 2) + self.place


def _convolved(d_in: int, d_out: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(d_in, d_out, 3, stride, padding=1), nn.GroupNorm(4, d_out), nn.GELU()]


class SmallViT(nn.Module):
    """A vision transformer of two blocks.

    Dosovitskiy et al., "An Image is Worth 16x16 Words: Transformers for Image Recognition at
    Scale", 2021.
    """

    def __init__(self, channels: int, size: tuple[int, int], d_model: int) -> None:
        super().__init__()
        side = min(16, max(2, min(size) // 8))
        self.patch = nn.Conv2d(channels, d_model, side, side)
        self.short = tuple(-length % side for length in size)  # what the last patches lack
        n_patches = ((size[0] + self.short[0]) // side) * ((size[1] + self.short[1]) // side)
        self.place = nn.Parameter(torch.randn(n_patches, d_model) * 0.3)
        n_heads = next(n for n in (4, 3, 2, 1) if d_model % n == 0)
        self.blocks = nn.ModuleList(Block(d_model, n_heads, 2 * d_model, 0.1) for _ in range(2))
        self.d_out = d_model

    def forward(self, pixels: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, K, F), a feature for each patch."""
        pixels = F.pad(pixels, (0, self.short[1], 0, self.short[0]))
        x = self.patch(pixels).flatten(2).transpose(1, 2) + self.place  # (N, K, F)
        flat = Padded(x.new_zeros(len(x), x.shape[1], x.shape[1]))  # no time lies between patches
        for block in self.blocks:
            x = block(x, flat)
        return x


class Features(nn.Module):
    """A network of somebody else, whose answer is brought to (N, K, F).

    Parameters
    ----------
    network : nn.Module
        From pixels (N, C, H, W) to features (N, F), (N, K, F) or (N, F, h, w), or to an object
        whose ``last_hidden_state`` is such a tensor.
    d_out : int
        F, see :func:`width_of`.
    """

    def __init__(self, network: nn.Module, d_out: int) -> None:
        super().__init__()
        self.network = network
        self.d_out = d_out

    def forward(self, pixels: Tensor) -> Tensor:
        return as_tokens(self.network(pixels))


def as_tokens(answer: Any) -> Tensor:
    """Features (N, K, F) of what a network says.

    Raises
    ------
    ValueError
        It says something else.
    """
    told = getattr(answer, "last_hidden_state", answer)
    if isinstance(told, Tensor) and told.dim() == 4:
        return told.flatten(2).transpose(1, 2)
    if isinstance(told, Tensor) and told.dim() == 2:
        return told.unsqueeze(1)
    if isinstance(told, Tensor) and told.dim() == 3:
        return told
    shape = f" of shape {tuple(told.shape)}" if isinstance(told, Tensor) else ""
    raise ValueError(
        "Expected the backbone to give features (N, F), (N, K, F) or (N, F, h, w) of pixels "
        f"(N, C, H, W). Got {type(told).__name__}{shape}."
    )


def width_of(network: nn.Module, channels: int, size: tuple[int, int]) -> int:
    """F of a network, from what it says of one black image.

    Raises
    ------
    ValueError
        It does not take such images, or says something else than features.
    """
    training = network.training
    pixels = torch.zeros(1, channels, *size)
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            answer = network.eval()(pixels)
    except (RuntimeError, ValueError, TypeError) as error:
        raise ValueError(
            f"Expected a backbone that takes pixels of shape {tuple(pixels.shape)}. It says: "
            f"{error} Set image_size (and channels) to what it was made for."
        ) from error
    finally:
        network.train(training)
    return as_tokens(answer).shape[2]


class ImageTokens(nn.Module):
    """From pixels to tokens: augmentation while training, scaling, backbone, projection.

    Parameters
    ----------
    backbone : nn.Module
        From (N, C, H, W) to (N, K, F); has ``d_out``, which is F.
    mean, scale : (C,) arrays
        What pixels are centred and divided by.
    augment : callable, optional
        From pixels (N, C, H, W) to others, in training.
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self,
        backbone: Any,
        d_model: int,
        mean: NDArray[np.float64],
        scale: NDArray[np.float64],
        augment: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.augment = augment
        self.norm = nn.LayerNorm(backbone.d_out)
        self.project = nn.Sequential(
            nn.Linear(backbone.d_out, 2 * d_model), nn.GELU(), nn.Linear(2 * d_model, d_model)
        )
        for name, array in (("mean", mean), ("scale", scale)):
            tensor = torch.tensor(np.asarray(array), dtype=torch.float32)
            self.register_buffer(name, tensor.view(-1, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, K, D)."""
        if self.training and self.augment is not None:
            pixels = _augmented(self.augment, pixels)
        features = self.backbone((pixels - self.mean) / self.scale)  # (N, K, F)
        return self.project(self.norm(features))


def _augmented(augment: Callable[[Tensor], Tensor], pixels: Tensor) -> Tensor:
    """What a function of somebody else makes of pixels.

    Raises
    ------
    TypeError
        Something else than pixels of the same shape.
    """
    told = augment(pixels)
    if not isinstance(told, Tensor) or told.shape != pixels.shape:
        shape = f" of shape {tuple(told.shape)}" if isinstance(told, Tensor) else ""
        raise TypeError(
            f"Expected augment to give pixels of the shape it gets, {tuple(pixels.shape)}. Got "
            f"{type(told).__name__}{shape}. Crop and pad inside it, so that the size stays."
        )
    return told


def shaken(pixels: Tensor) -> Tensor:
    """Shifted, brighter or darker, with more or less contrast, each image by itself.

    Nothing is mirrored or turned: left and right mean something in an X-ray film.
    """
    N, _, H, W = pixels.shape
    down, right = int(H * SHIFT), int(W * SHIFT)
    padded = F.pad(pixels, (right, right, down, down), mode="replicate")
    top = torch.randint(2 * down + 1, (N, 1), device=pixels.device)
    left = torch.randint(2 * right + 1, (N, 1), device=pixels.device)
    row = (top + torch.arange(H, device=pixels.device))[:, None, :, None]
    column = (left + torch.arange(W, device=pixels.device))[:, None, None, :]
    image = torch.arange(N, device=pixels.device)[:, None, None, None]
    channel = torch.arange(pixels.shape[1], device=pixels.device)[None, :, None, None]
    shifted = padded[image, channel, row, column]
    spread = shifted.std(dim=(1, 2, 3), keepdim=True)
    mean = shifted.mean(dim=(1, 2, 3), keepdim=True)
    contrast, light = (CONTRAST * (2 * torch.rand_like(mean) - 1) for _ in range(2))
    return mean + (shifted - mean) * (1 + contrast) + light * spread


def resized(image: NDArray[np.float32], size: tuple[int, int]) -> Tensor:
    """(H, W, C) numbers as (C, h, w) pixels, by bilinear interpolation that does not alias."""
    pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    if pixels.shape[1:] == size:
        return pixels
    return F.interpolate(
        pixels.unsqueeze(0), size=size, mode="bilinear", align_corners=False, antialias=True
    ).squeeze(0)
