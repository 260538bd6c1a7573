"""ImageEncoder: images as a modality beside event histories."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from numbers import Integral
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval

from tawt_sklearn.exceptions import DataError, DataWarning
from tawt_sklearn.persistence.savable import Savable
from tawt_sklearn.tokens.images import Shape, digest_of, read_image, shape_of, with_channels
from tawt_sklearn.tokens.modality import ItemError, Modality

if TYPE_CHECKING:
    import torch

OWN = ("cnn", "vit")
"""Backbones that train from scratch."""

HUB = "hf:"
"""What the name of a backbone from the Hugging Face hub begins with."""

N_MEASURED = 512
"""Images that the mean and the spread of pixels are learned from."""

LONGEST_SIDE = 224
"""Of images where ``image_size`` does not say what to make of them."""


class ImageEncoder(Savable, Modality):
    """Images beside event histories: ``modalities={"xray": ImageEncoder()}``.

    The column holds arrays (H, W) or (H, W, C), PIL images, or paths, which are read when their
    batch is made; ``None`` or NaN where there is no image; or a list of images, or of pairs (time,
    image), where there are several.  Pixels of 8 and of 16 bits without a sign are taken as 0 to
    the largest of their type, all others as they are; pixels are centred and scaled as the training
    images say.  Images of other sizes are resized.

    Parameters
    ----------
    backbone : "cnn", "vit", "hf:<name>" or torch.nn.Module, default="cnn"
        - ``"cnn"``: a small convolutional network, trained from scratch;
        - ``"vit"``: a small vision transformer, trained from scratch;
        - ``"hf:<name>"``: a vision model of the Hugging Face hub by its name, or by the path of a
          local folder, with its weights (needs the extra ``image``);
        - a module from pixels (N, C, H, W) to features (N, F), (N, K, F) or (N, F, h, w).  It is
          copied, with its weights.
    image_size : int, (height, width) or None, default=None
        What images are resized to.  None: the size that most training images have, with sides of
        up to 224; that of the model where it comes from the hub.
    channels : {1, 3} or None, default=None
        Grey images, or colours: images are turned into what is asked for.  None: as the images
        are, which must all be of one kind; as the model needs it where it comes from the hub.
    augment : bool or callable, default=False
        Whether training shifts images by up to an eighth of their sides and changes contrast and
        brightness by up to a tenth; or a function from pixels (N, C, H, W) to pixels, which draws
        from torch's random state.  Nothing is mirrored: left and right may mean something.
    freeze : bool, default=False
        Whether the backbone keeps the weights that it comes with (a module, a model of the hub),
        or that it has after its own stage of ``modality_training="staged"``.  The projection to
        tokens is learned in any case.

    Attributes
    ----------
    image_size_ : (height, width)
    channels_ : int
    mean_, scale_ : (channels_,) ndarray
        What pixels are centred and divided by.
    width_ : int or None
        Features of a backbone that is not one of ours.
    config_ : str or None
        JSON of the configuration of a model of the hub.

    Examples
    --------
    >>> import numpy as np
    >>> from tawt_sklearn import ImageEncoder, TimeAwareClassifier
    >>> from tawt_sklearn.datasets import make_icu_stays
    >>> X, y = make_icu_stays(60, random_state=0)
    >>> rng = np.random.default_rng(0)
    >>> X["xray"] = [rng.integers(256, size=(16, 16), dtype=np.uint8) for _ in range(len(X))]
    >>> clf = TimeAwareClassifier(
    ...     modalities={"xray": ImageEncoder()}, d_model=8, n_ensemble=1, max_epochs=1,
    ...     min_steps=5, random_state=0)
    >>> clf.fit(X, y).predict_proba(X.iloc[:3]).shape
    (3, 2)
    """

    _parameter_constraints: dict[str, Any] = {
        "backbone": "no_validation",  # _validate_backbone() says what is wrong with it
        "image_size": [Interval(Integral, 2, None, closed="left"), "array-like", None],
        "channels": [Interval(Integral, 1, None, closed="left"), None],
        "augment": ["boolean", callable],
        "freeze": ["boolean"],
    }

    image_size_: tuple[int, int]
    channels_: int
    mean_: NDArray[np.float64]
    scale_: NDArray[np.float64]
    width_: int | None
    config_: str | None

    def __init__(
        self,
        *,
        backbone: Any = "cnn",
        image_size: int | tuple[int, int] | None = None,
        channels: int | None = None,
        augment: Any = False,
        freeze: bool = False,
    ) -> None:
        self.backbone = backbone
        self.image_size = image_size
        self.channels = channels
        self.augment = augment
        self.freeze = freeze

    # ---- what is learned from images -----------------------------------------------------------

    def fit(self, items: Sequence[Any], y: Any = None) -> Self:
        """Learn size, channels, mean and spread of images.

        Parameters
        ----------
        items : sequence of images
            Arrays, PIL images or paths, none of them missing.
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        ItemError
            An image that is none, or has other channels than most.
        DataError
            A model that is not there, or that does not take images of this size.

        Warns
        -----
        DataWarning
            Images differ in size; said once.
        """
        self._validate_params()
        self._validate_backbone()
        shapes = [_named(k, shape_of, item) for k, item in enumerate(items)]
        config, size, channels = None, self._asked_size(), self.channels
        if self._hub_name is not None:
            from tawt_sklearn.nn.image_hub import configuration_of, size_and_channels

            config = configuration_of(self._hub_name)
            made_for = size_and_channels(config)
            size, channels = size or made_for[0], channels or made_for[1]
        size = size or _usual_size(shapes)
        channels = int(channels or Counter(s.channels for s in shapes).most_common(1)[0][0])
        if odd := [k for k, s in enumerate(shapes) if not _becomes(s.channels, channels, self)]:
            raise ItemError(
                odd[0],
                f"Expected an image of {channels} channels, as {len(shapes) - len(odd)} of "
                f"{len(shapes)} are. Got {shapes[odd[0]].channels}. Set channels=1 or channels=3 "
                "to turn all images into one kind.",
            )
        self.image_size_, self.channels_, self.config_ = size, channels, config
        self.mean_, self.scale_ = self._statistics(items)
        self.width_ = self._width()
        _warn_sizes(shapes, size)
        return self

    def _validate_backbone(self) -> None:
        given = self.backbone
        named = given in OWN if isinstance(given, str) else callable(given)
        if isinstance(given, type) or not (named or self._hub_name):
            raise ValueError(
                'Expected backbone to be "cnn", "vit", "hf:<name>" or a torch.nn.Module. Got '
                f"{given!r}."
            )

    def _asked_size(self) -> tuple[int, int] | None:
        if self.image_size is None:
            return None
        asked = np.asarray(self.image_size)
        if asked.dtype.kind not in "iu" or asked.shape not in ((), (2,)) or asked.min() < 2:
            raise ValueError(
                "Expected image_size to be a number of pixels, or (height, width). Got "
                f"{self.image_size!r}."
            )
        height, width = np.broadcast_to(asked, 2).tolist()
        return height, width

    def _statistics(self, items: Sequence[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Means and standard deviations of the channels, of some images."""
        if self._hub_name is not None:
            from tawt_sklearn.nn.image_hub import statistics

            if (stated := statistics(self._hub_name)) is not None:
                return np.array(stated[0], np.float64), np.array(stated[1], np.float64)
        # By their content, so that the order of the rows does not matter.
        order = np.argsort([self.digest(item) for item in items], kind="stable")
        some = order[np.linspace(0, len(order) - 1, min(len(order), N_MEASURED)).astype(int)]
        means, squares = [], []
        for k in some:
            image = _named(int(k), self.read, items[k]).astype(np.float64)
            means.append(image.mean((0, 1)))
            squares.append((image**2).mean((0, 1)))
        mean = np.mean(means, axis=0)
        spread = np.sqrt(np.maximum(np.mean(squares, axis=0) - mean**2, 0))
        return mean, np.where(spread > 1e-6, spread, 1.0)

    def _width(self) -> int | None:
        """Features of a backbone that is not one of ours."""
        import torch

        from tawt_sklearn.nn.image import width_of

        if isinstance(self.backbone, str) and self.config_ is None:
            return None
        with torch.random.fork_rng(devices=[]):
            return width_of(self._network(), self.channels_, self.image_size_)

    # ---- what the library asks for -------------------------------------------------------------

    @property
    def own_weights(self) -> bool:  # type: ignore[override]
        """Whether the backbone was trained elsewhere."""
        return not (isinstance(self.backbone, str) and self.backbone in OWN)

    def read(self, item: Any) -> NDArray[np.float32]:
        """An image as (H, W, C) numbers, with the channels of fit.

        Raises
        ------
        DataError
            It cannot be read, or has other channels.
        """
        image = read_image(item)
        if not _becomes(image.shape[2], self.channels_, self):
            raise DataError(
                f"Expected an image of {self.channels_} channels, as in fit. Got "
                f"{image.shape[2]}. Convert it, or set channels=1 or channels=3 and fit anew."
            )
        return with_channels(image, self.channels_)

    def digest(self, item: Any) -> str:
        """What tells an image from others: its pixels, or of a file its path, size and time."""
        return digest_of(item)

    def collate(self, items: Sequence[NDArray[np.float32]]) -> torch.Tensor:
        """Images that were read -> pixels (N, C, H, W)."""
        import torch

        from tawt_sklearn.nn.image import resized

        return torch.stack([resized(image, self.image_size_) for image in items])

    def build(self, d_model: int) -> Any:
        """The network from pixels (N, C, H, W) to tokens (N, K, d_model)."""
        from tawt_sklearn.nn.image import Features, ImageTokens, SmallCNN, SmallViT, shaken

        backbone: Any
        if isinstance(self.backbone, str) and self.config_ is None:
            kind = {"cnn": SmallCNN, "vit": SmallViT}[self.backbone]
            backbone = kind(self.channels_, self.image_size_, d_model)
        else:
            assert self.width_ is not None
            backbone = Features(self._network(), self.width_)
        augment = self.augment
        if not callable(augment):
            augment = shaken if augment else None
        return ImageTokens(backbone, d_model, self.mean_, self.scale_, augment)

    def begin(self, module: Any) -> None:
        """Put the weights of a model of the hub into a module of :meth:`build`."""
        if self._hub_name is not None and self.config_ is not None:
            from tawt_sklearn.nn.image_hub import pretrained

            weights = pretrained(self._hub_name, self.config_)
            module.backbone.network.load_state_dict(weights)

    @property
    def _hub_name(self) -> str | None:
        name = self.backbone
        return name[len(HUB) :] if isinstance(name, str) and name.startswith(HUB) else None

    def _network(self) -> torch.nn.Module:
        """A backbone that is not one of ours."""
        if self.config_ is None:
            return deepcopy(self.backbone)
        from tawt_sklearn.nn.image_hub import network_of

        return network_of(self.config_)


def _named(position: int, look: Any, item: Any) -> Any:
    """What is found in an item, or an error that knows which item it was."""
    try:
        return look(item)
    except DataError as error:
        raise ItemError(position, str(error)) from error
    except (OSError, ValueError, SyntaxError) as error:  # of an image that Pillow has not read yet
        told = (
            f"Expected a whole image. Got one that cannot be read to its end ({error}). Make it "
            "anew, or put None in its place."
        )
        raise ItemError(position, told) from error


def _becomes(given: int, wanted: int, encoder: ImageEncoder) -> bool:
    """Whether images of so many channels are turned into those wanted."""
    if given == wanted:
        return True
    if encoder.channels is None and not (encoder.backbone not in OWN and given == 1):
        return False
    return given == 1 or (given == 3 and wanted == 1)


def _usual_size(shapes: Sequence[Shape]) -> tuple[int, int]:
    """The size that most images have, of the larger ones where as many have another."""
    counts = Counter((shape.height, shape.width) for shape in shapes)
    (height, width), _ = max(counts.items(), key=lambda item: (item[1], item[0]))
    factor = min(1.0, LONGEST_SIDE / max(height, width))
    return max(2, round(height * factor)), max(2, round(width * factor))


def _warn_sizes(shapes: Sequence[Shape], size: tuple[int, int]) -> None:
    found = sorted({(shape.height, shape.width) for shape in shapes})
    if len(found) > 1:
        some = ", ".join(f"{height} x {width}" for height, width in found[:4])
        warnings.warn(
            f"Images have {len(found)} different sizes ({some}{', ...' if len(found) > 4 else ''})"
            f"; all are resized to {size[0]} x {size[1]}, further ones, too. Set image_size to "
            "choose another size.",
            DataWarning,
            stacklevel=2,
        )
