"""Vision models of the Hugging Face hub, by name or from a local folder.

transformers (the extra ``image``) is imported here and nowhere else.  What a saved estimator keeps
of a model is its configuration as JSON and its weights: no name, no folder and no code.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from tawt_sklearn.exceptions import DataError


def configuration_of(name: str) -> str:
    """JSON of the configuration of a model; of one of images and texts the part of images.

    Raises
    ------
    DataError
        There is no such model, neither in a folder nor on the hub.
    """
    transformers = _transformers()
    try:
        config = transformers.AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise DataError(
            f"Expected the name of a Hugging Face model, or the folder of one. Got {name!r}: "
            f"{str(error)[:300]}"
        ) from error
    config = getattr(config, "vision_config", config)
    return json.dumps(config.to_dict(), sort_keys=True, default=str)


def network_of(configuration: str) -> nn.Module:
    """A model of that configuration, with weights that are drawn by torch.

    Raises
    ------
    DataError
        Nothing that transformers has a model of.
    """
    settings, transformers = json.loads(configuration), _transformers()
    try:
        config = transformers.AutoConfig.for_model(**settings)
        return transformers.AutoModel.from_config(config).float()
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            "Expected the configuration of a vision model that transformers knows. Got one of "
            f"type {settings.get('model_type')!r}: {str(error)[:300]}"
        ) from error


def pretrained(name: str, configuration: str) -> dict[str, torch.Tensor]:
    """Weights of the model of that name."""
    config = _transformers().AutoConfig.for_model(**json.loads(configuration))
    with _quietly():
        model = _transformers().AutoModel.from_pretrained(name, config=config)
    return model.float().state_dict()


def size_and_channels(configuration: str) -> tuple[tuple[int, int], int]:
    """(H, W) and C that a model was made for."""
    settings = json.loads(configuration)
    size = settings.get("image_size") or 224
    if isinstance(size, dict):
        size = (size.get("height", 224), size.get("width", 224))
    height, width = size if isinstance(size, list | tuple) else (size, size)
    return (int(height), int(width)), int(settings.get("num_channels") or 3)


def statistics(name: str) -> tuple[list[float], list[float]] | None:
    """Means and standard deviations of pixels from 0 to 1, where the model states them."""
    try:
        stated, _ = _transformers().ImageProcessingMixin.get_image_processor_dict(name)
    except (OSError, ValueError):
        return None
    mean, scale = stated.get("image_mean"), stated.get("image_std")
    return (mean, scale) if mean and scale else None


@contextmanager
def _quietly() -> Iterator[None]:
    """Without progress bars and remarks on parts of the file that are not of images."""
    logging = _transformers().utils.logging
    before, shown = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if shown:
            logging.enable_progress_bar()


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise DataError(
            'Expected transformers to be installed for backbone="hf:...". Got none: pip install '
            '"tawt_sklearn[image]".'
        ) from error
    return transformers
