"""Networks of images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tawt_sklearn.nn.image import (
    Features,
    ImageTokens,
    SmallCNN,
    SmallViT,
    as_tokens,
    resized,
    shaken,
    width_of,
)


@pytest.mark.parametrize("kind", [SmallCNN, SmallViT])
@pytest.mark.parametrize("size", [(2, 2), (8, 8), (17, 30), (64, 48), (224, 224)])
def test_features_of_any_size(kind, size):
    network = kind(3, size, 12)
    features = network(torch.zeros(2, 3, *size))
    assert features.shape[0] == 2 and features.shape[2] == network.d_out
    assert 1 <= features.shape[1] <= 400


@pytest.mark.parametrize("kind", [SmallCNN, SmallViT])
def test_an_image_does_not_depend_on_others(kind):
    torch.manual_seed(0)
    network, pixels = kind(1, (16, 16), 8).double().eval(), torch.rand(5, 1, 16, 16).double()
    torch.testing.assert_close(network(pixels)[[3]], network(pixels[[3]]))


def test_tokens_are_scaled_pixels():
    seen = []

    class Looks(nn.Flatten):
        def forward(self, pixels):
            seen.append(pixels)
            return super().forward(pixels)

    tokens = ImageTokens(Features(Looks(), 4), 6, np.array([0.5]), np.array([0.25]))
    assert tokens(torch.ones(3, 1, 2, 2)).shape == (3, 1, 6)
    torch.testing.assert_close(seen[0], torch.full((3, 1, 2, 2), 2.0))


def test_augmentation_in_training_only():
    pixels = torch.rand(4, 1, 16, 16)
    tokens = ImageTokens(SmallCNN(1, (16, 16), 8), 8, np.zeros(1), np.ones(1), shaken)
    first, second = tokens.eval()(pixels), tokens(pixels)
    assert torch.equal(first, second)
    tokens.train()
    assert not torch.equal(tokens(pixels), tokens(pixels))


@pytest.mark.parametrize("augment", [lambda pixels: pixels[:, :, :4], lambda pixels: None])
def test_an_augmentation_that_gives_something_else(augment):
    tokens = ImageTokens(SmallCNN(1, (16, 16), 8), 8, np.zeros(1), np.ones(1), augment)
    with pytest.raises(TypeError, match=r"Expected augment to give pixels.*\(4, 1, 16, 16\). Got"):
        tokens(torch.rand(4, 1, 16, 16))
    tokens.eval()(torch.rand(4, 1, 16, 16))


def test_shaken_images_keep_size_and_most_of_what_they_show():
    torch.manual_seed(0)
    pixels = torch.zeros(64, 2, 16, 24)
    pixels[:, :, 6:10, 8:16] = 1.0
    other = shaken(pixels)
    assert other.shape == pixels.shape
    assert other.amax(dim=(1, 2, 3)).min() > 0.7 and (other != pixels).any()
    assert torch.equal(shaken(torch.ones(3, 1, 4, 4)), torch.ones(3, 1, 4, 4))  # nothing to shift


@pytest.mark.parametrize("shape, K", [((2, 5), 1), ((2, 3, 5), 3), ((2, 5, 3, 4), 12)])
def test_answers_of_other_networks(shape, K):
    assert as_tokens(torch.zeros(shape)).shape == (2, K, 5)


def test_an_answer_that_is_none():
    with pytest.raises(ValueError, match=r"features .*Got tuple"):
        as_tokens((torch.zeros(2, 3),))


def test_width_leaves_random_state_and_mode_alone():
    network = nn.Sequential(nn.Dropout(0.5), nn.Conv2d(3, 7, 3)).train()
    before = torch.get_rng_state()
    assert width_of(network, 3, (8, 8)) == 7
    assert torch.equal(torch.get_rng_state(), before) and network.training
    with pytest.raises(ValueError, match="takes pixels of shape .*image_size"):
        width_of(network, 1, (8, 8))


def test_resizing():
    image = np.linspace(0, 1, 32, dtype=np.float32).reshape(4, 8, 1)
    assert resized(image, (4, 8)).shape == (1, 4, 8)
    half = resized(image, (2, 4))
    assert half.shape == (1, 2, 4)
    np.testing.assert_allclose(half.mean(), image.mean(), atol=1e-3)
