"""From panels to what the network takes: scaled numbers, codes of categories, strides of time."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray

from tawt_sklearn.estimators._preparation import Form, refuse_other_form
from tawt_sklearn.events.panels import Panel
from tawt_sklearn.exceptions import DataError, DataWarning
from tawt_sklearn.nn.panel_patching import PanelShape, Strides
from tawt_sklearn.nn.time import Waves
from tawt_sklearn.tokens._output import warn_counted
from tawt_sklearn.tokens.levels import (
    FIRST_CODE,
    UNSEEN_CODE,
    category_column,
    encode_levels,
    find_categorical,
    learn_levels,
    positions,
)
from tawt_sklearn.tokens.scales import learn_scale, scale_numbers
from tawt_sklearn.tokens.steps import Steps
from tawt_sklearn.training.panels import PanelDataset

LINEAR = 3.0
"""Values up to about this many scales from the centre stay what they are; beyond, the logarithm
takes over: ``LINEAR * asinh(z / LINEAR)``.  Nothing is clipped."""


@dataclass(frozen=True)
class PanelPreparation:
    """Everything learned from the training panel before the network sees it.

    Attributes
    ----------
    center, scale : (C,) float64
        Median and interquartile range / 1.349 of each numeric channel, as
        :class:`~tawt_sklearn.MissingMaskEncoder` has them; NaN for categorical channels.
    known : (C,) bool
        Channels that had a value.
    categorical : list of int
        Positions of the categorical channels.
    labels : list of list of str
        Categories of each of them.
    horizon : float
        Steps of the longest training case, less one.
    patch_lengths : tuple of int, optional
        Lengths of temporal patches that were asked for.
    categorical_features : tuple, optional
        Categorical channels that were asked for.
    n_windows : int
        Patches that were asked for.
    form : {"series", "panel"}
        What ``X`` was: numbers (n, n_timepoints), or a panel (n, n_channels, n_timepoints).
    waves : Waves, optional
        Frequencies and phases of a TimeEmbedder, which the time encoding starts from.
    """

    center: NDArray[np.float64]
    scale: NDArray[np.float64]
    known: NDArray[np.bool_]
    categorical: list[int]
    labels: list[list[str]]
    horizon: float
    patch_lengths: tuple[int, ...] | None
    categorical_features: tuple | None
    n_windows: int
    form: Form
    waves: Waves | None = None

    def __post_init__(self) -> None:
        """Refuse what no fit leaves behind: a file may have been changed."""
        C = len(self.center)
        numeric = np.setdiff1d(np.arange(C), self.categorical)
        fits = (
            len(self.scale) == len(self.known) == C > 0
            and sorted(set(self.categorical)) == self.categorical
            and all(0 <= c < C for c in self.categorical)
            and len(self.labels) == len(self.categorical)
            and all(len(set(labels)) == len(labels) for labels in self.labels)
            and np.isfinite(self.center[numeric]).all()
            and bool(((self.scale[numeric] > 0) & np.isfinite(self.scale[numeric])).all())
            and np.isfinite(self.horizon)
            and self.horizon >= 1
            and self.n_windows >= 1
            and self.form in ("series", "panel")
            and (self.patch_lengths is None or min(self.patch_lengths, default=0) >= 1)
        )
        if not fits:
            raise ValueError("channels, categories or patches that do not fit each other")

    @classmethod
    def fit(
        cls,
        panel: Panel,
        categorical_features: Any,
        n_windows: int,
        patch_length: Any,
        form: Form,
    ) -> tuple[PanelPreparation, PanelDataset]:
        """Learn scales, categories and strides; return the data set, too."""
        steps = _steps(panel)
        names = channel_labels(panel.n_channels)
        categorical = find_categorical(steps, categorical_features, names).tolist()
        C = panel.n_channels
        center, scale = np.full(C, np.nan), np.full(C, np.nan)
        labels = []
        for c in range(C):
            if c in categorical:
                labels.append(learn_levels(category_column(steps, c, names[c]))[0])
            else:
                center[c], scale[c] = learn_scale(steps.numbers(c, names[c]), "robust")
        preparation = cls(
            center=center,
            scale=scale,
            known=~np.isnan(panel.steps).all(axis=0),
            categorical=categorical,
            labels=labels,
            horizon=float(max(panel.lengths.max() - 1, 1)),
            patch_lengths=as_lengths(patch_length),
            categorical_features=_plain(categorical_features),
            n_windows=n_windows,
            form=form,
        )
        return preparation, preparation.dataset(panel)

    # ---- what the network has to know ----------------------------------------------------------

    def sizes(self) -> dict[str, Any]:
        """Keywords of the backbone that the data decide."""
        shape = self.shape
        stride = shape.strides[0][0]
        n_windows = -(-int(self.horizon + 1) // stride)
        return {
            "n_codes": len(self.center),
            "n_categories": sum(shape.cardinalities),
            "window_edges": [float(stride * k) for k in range(1, n_windows)],
            "horizon": self.horizon,
            "n_static_numeric": 0,
            "static_cardinalities": (),
            "panel": shape,
            "waves": self.waves,
        }

    @property
    def shape(self) -> PanelShape:
        """Strides of the patches and numbers of categories."""
        n_steps = int(self.horizon) + 1
        lengths = self.patch_lengths
        if lengths is None:
            kinds = [Strides.of(-(-n_steps // self.n_windows))]
        else:
            within = sorted({min(length, 2 * n_steps) for length in lengths})
            kinds = [Strides.of(-(-length // 2), length) for length in within]
        return PanelShape(
            tuple((kind.stride, kind.length) for kind in kinds),
            tuple(FIRST_CODE + len(labels) for labels in self.labels),
        )

    @property
    def category_offsets(self) -> list[int]:
        """First category of each channel of the network, and the number of all; (C + 1,)."""
        counts = [0] * (len(self.center) - len(self.labels)) + [*self.shape.cardinalities]
        return np.concatenate([[0], np.cumsum(counts)]).astype(int).tolist()

    @property
    def order(self) -> NDArray[np.int64]:
        """(C,) positions of the channels in the network's order: the categorical ones come last."""
        numeric = [c for c in range(len(self.center)) if c not in self.categorical]
        return np.array([*numeric, *self.categorical], np.int64)

    # ---- checks --------------------------------------------------------------------------------

    def check_settings(self, estimator: Any, sequencer: Any) -> None:
        """Refuse parameters that a fit which goes on from this one would not heed.

        Raises
        ------
        ValueError
            Others than in the last fit.
        """
        asked = {
            "n_windows": (estimator.n_windows, self.n_windows),
            "patch_length": (as_lengths(estimator.patch_length), self.patch_lengths),
            "categorical_features": (
                _plain(estimator.categorical_features),
                self.categorical_features,
            ),
        }
        changed = [k for k, (now, then) in asked.items() if joblib.hash(now) != joblib.hash(then)]
        if changed:
            raise ValueError(
                f"Expected {' and '.join(changed)} of the last fit to go on with what it learned. "
                "Got another value. Set it back, or start anew with fit and warm_start=False."
            )

    def check_panel_settings(self, estimator: Any) -> None:
        """Refuse parameters that a pretrained encoder has decided otherwise; None is "as it is".

        Raises
        ------
        ValueError
        """
        asked = {
            "patch_length": (estimator.patch_length, as_lengths, self.patch_lengths),
            "categorical_features": (
                estimator.categorical_features,
                lambda given: positions(given, channel_labels(len(self.center))),
                self.categorical,
            ),
        }
        for name, (given, read, then) in asked.items():
            if given is not None and read(given) != then:
                raise ValueError(
                    f"Expected {name}={then!r}, as the encoder was pretrained, or None. Got "
                    f"{name}={given!r}. Leave it out, or pretrain another encoder."
                )

    def check_form(self, form: Form) -> None:
        """Refuse rows that are something else than those of fit, by a DataError."""
        refuse_other_form(self.form, form)

    # ---- data ----------------------------------------------------------------------------------

    def dataset(self, panel: Any) -> PanelDataset:
        """The data set of the cases of a Panel.

        Warns
        -----
        DataWarning
            Values of a channel that had none in fit, and categories that fit has not seen.
        """
        if panel.n_channels != len(self.center):
            raise DataError(
                f"Expected {len(self.center)} channels, as were learned from. Got "
                f"{panel.n_channels}: X has {panel.n_channels} features, but what was learned is "
                f"expecting {len(self.center)} features."
            )
        steps, names = _steps(panel), channel_labels(len(self.center))
        N, C, K = len(panel.steps), len(self.center), len(self.categorical)
        number = np.full((N, C), np.nan, np.float32)
        category = np.zeros((N, K), np.int64)
        unknown, unseen = [], {}
        for place, c in enumerate(self.order.tolist()):
            if not self.known[c]:
                if not np.isnan(panel.steps[:, c]).all():
                    unknown.append(names[c])
            elif place < C - K:
                numbers = steps.numbers(c, names[c])
                z = scale_numbers(numbers, self.center[c], self.scale[c], np.float64)
                number[:, place] = LINEAR * np.arcsinh(z / LINEAR)
            else:
                k = place - (C - K)
                codes = encode_levels(category_column(steps, c, names[c]), self.labels[k])
                category[:, k] = codes
                unseen[names[c]] = int((codes == UNSEEN_CODE).sum())
        warn_counted(unseen, "values of categorical channels were not seen in fit")
        if unknown:
            warnings.warn(
                f"Expected channels that had values in fit. Got values in {', '.join(unknown)}, "
                "which had none there and are left out.",
                DataWarning,
                stacklevel=2,
            )
        return PanelDataset(number, category, panel.offsets)

    def restored(self, number: NDArray) -> NDArray[np.float64]:
        """Scaled numbers (..., C) in the network's order, in the units and order of ``X``."""
        order = self.order
        z = LINEAR * np.sinh(number.astype(np.float64) / LINEAR)
        values = np.empty_like(z)
        values[..., order] = z * self.scale[order] + self.center[order]
        return values


def refuse_fractions(categorical_features: Any, panel: Panel) -> None:
    """Refuse fractions in channels of categories, before the cases are put in another order.

    Raises
    ------
    DataError
        Which names the case and the step; channels that there are not.
    """
    steps, names = _steps(panel), channel_labels(panel.n_channels)
    for c in find_categorical(steps, categorical_features, names).tolist():
        category_column(steps, c, names[c])


def channel_labels(n_channels: int) -> list[str]:
    """``channel_0``, ``channel_1``, ..."""
    return [f"channel_{c}" for c in range(n_channels)]


def as_lengths(patch_length: Any) -> tuple[int, ...] | None:
    """What ``patch_length=`` means: lengths of temporal patches, None for the default."""
    if patch_length is None:
        return None
    return tuple(sorted(int(length) for length in np.atleast_1d(np.asarray(patch_length))))


def _plain(asked: Any) -> tuple | None:
    """Categorical channels that were asked for, in plain Python."""
    if asked is None:
        return None
    return tuple(np.asarray(asked).tolist())


def _steps(panel: Panel) -> Steps:
    """The channels one after the other, as the transformers see them."""
    return Steps("panel", list(panel.steps.T), panel.steps.dtype, lengths=panel.lengths)
