"""ImageEncoder: images as a modality beside event histories."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from numbers import Integral
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval

from tawt_sklearn.exceptions import DataError
from tawt_sklearn.persistence.savable import Savable
from tawt_sklearn.tokens.image_kinds import check_scale, usual_size, warn_sizes
from tawt_sklearn.tokens.images import (
    WITHOUT_ALPHA,
    become,
    digest_of,
    read_image,
    shape_of,
    with_channels,
)
from tawt_sklearn.tokens.modality import ItemError, Modality

if TYPE_CHECKING:
    import torch

OWN = ("cnn", "vit")
"""Backbones that train from scratch."""

HUB = "hf:"
"""What the name of a backbone from the Hugging Face hub begins with."""

N_MEASURED = 512
"""Images that the mean and the spread of pixels are learned from."""

Statistics = tuple[NDArray[np.float64], NDArray[np.float64], tuple[float, float]]
"""Mean and standard deviation of each channel, and the range of all pixels."""


class ImageEncoder(Savable, Modality):
    """Images beside event histories: ``modalities={"xray": ImageEncoder()}``.

    The column holds arrays (H, W) or (H, W, C), PIL images, or paths, which are read when their
    batch is made; ``None`` or NaN where there is no image; or a list of images, or of pairs (time,
    image), where there are several.  Pixels of 8 and of 16 bits without a sign are divided by the
    largest of their type, so that they are from 0 to 1; all others are taken as they are, and must
    be from 0 to 1 where they stand beside such images, in fit or in prediction.  Pixels are centred
    and scaled as the training images say.  Images of other sizes are resized.  Files, and images of
    Pillow, are turned as their EXIF says.

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
        Grey images, or colours: images are turned into what is asked for, without the transparency
        of arrays (H, W, 2) and (H, W, 4).  None: as the images are, which must all be of one kind;
        as the model needs it where it comes from the hub.  Of files and images of Pillow
        transparency is never read.
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
        What pixels are centred and divided by: of all training images, or of 512 that are spread
        evenly over the rows in the order in which :meth:`fit` gets them, so that it does not
        matter what files are called.
    range_ : (low, high)
        Smallest and largest pixel of these images.
    unit_ : bool
        Whether pixels must be from 0 to 1: images of whole numbers that are divided, those of files
        for instance, were among the training images, or the model of the hub was made for that.
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
    range_: tuple[float, float]
    unit_: bool
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
            An image that is none, has other channels than most, or pixels on another scale.
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
        size = size or usual_size(shapes)
        usual, n_usual = Counter(shape.channels for shape in shapes).most_common(1)[0]
        channels = int(channels or usual)
        for k, shape in enumerate(shapes):
            if not self._takes(shape.channels, channels):
                most = f"as {n_usual} of {len(shapes)} images have"
                raise ItemError(k, self._other_channels(shape.channels, channels, most))
        self.image_size_, self.channels_, self.config_ = size, channels, config
        stated = self._stated_statistics()
        self.unit_ = stated is not None or any(shape.whole for shape in shapes)
        self.range_ = (0.0, 1.0)  # until images have been read
        self.mean_, self.scale_, self.range_ = stated or self._statistics(items)
        self.width_ = self._width()
        warn_sizes(shapes, size)
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

    def _takes(self, given: int, channels: int) -> bool:
        """Whether images of so many channels are turned into those wanted."""
        if self.channels is not None or self._hub_name is not None:
            return become(given, channels)
        return given == channels or (given == 1 and self.own_weights)

    def _other_channels(self, given: int, channels: int, usual: str) -> str:
        """What to say of an image that is not taken; ``usual`` is why others are expected."""
        remedy = f"Give an array (H, W, {channels}), or put None in its place."
        if self.channels is not None:
            usual = f"which channels={self.channels} asks for, or one that can become that"
        elif self._hub_name is not None:
            usual = "which the model takes, or one that can become that"
        elif given in WITHOUT_ALPHA and channels in WITHOUT_ALPHA:
            remedy = "Set channels=1 or channels=3 in fit, which turns all images into one kind."
        wanted = f"{channels} channel{'s' if channels > 1 else ''}"
        return f"Expected an image with {wanted}, {usual}. Got {given}. {remedy}"

    def _stated_statistics(self) -> Statistics | None:
        """Those of a model of the hub, where it states them."""
        if self._hub_name is None:
            return None
        from tawt_sklearn.nn.image_hub import statistics

        if (stated := statistics(self._hub_name)) is None:
            return None
        mean, spread = (np.array(one, np.float64) for one in stated)
        return mean, spread, (0.0, 1.0)

    def _statistics(self, items: Sequence[Any]) -> Statistics:
        """Those of some images."""
        some = np.linspace(0, len(items) - 1, min(len(items), N_MEASURED)).astype(int)
        means, squares, low, high = [], [], np.inf, -np.inf
        for k in some:
            image = _named(int(k), self.read, items[k]).astype(np.float64)
            means.append(image.mean((1, 2)))
            squares.append((image**2).mean((1, 2)))
            low, high = min(low, float(image.min())), max(high, float(image.max()))
        # Sums of sorted numbers are the same to the last bit in whatever order the rows come.
        mean, square = (np.sort(one, axis=0).mean(0) for one in (means, squares))
        spread = np.sqrt(np.maximum(square - mean**2, 0))
        return mean, np.where(spread > 1e-6, spread, 1.0), (low, high)

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
        """An image as (C, height, width) pixels, with the channels and the size of fit.

        Large images are gone once they have been made small: a batch holds no two of them.

        Raises
        ------
        DataError
            It cannot be read, has other channels, or pixels on another scale.
        """
        from tawt_sklearn.nn.image import resized

        image = read_image(item)
        C = image.numbers.shape[2]
        if not self._takes(C, self.channels_):
            raise DataError(self._other_channels(C, self.channels_, "as in fit"))
        if hasattr(self, "unit_"):  # which files of before it was learned have not
            check_scale(image, self.unit_, self.range_)
        return resized(with_channels(image.numbers, self.channels_), self.image_size_).numpy()

    def digest(self, item: Any) -> str:
        """What tells an image from others: its pixels, or of a file its path, size and time."""
        return digest_of(item)

    def collate(self, items: Sequence[NDArray[np.float32]]) -> torch.Tensor:
        """Images that were read -> pixels (N, C, H, W)."""
        import torch

        return torch.from_numpy(np.stack(items))

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
