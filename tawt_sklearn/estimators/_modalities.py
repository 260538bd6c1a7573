"""The door of what stands beside events: columns of ``X`` that ``modalities=`` names."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any, Self

import joblib
import numpy as np
import pandas as pd
from sklearn.base import clone

from tawt_sklearn.events.array import EventsArray
from tawt_sklearn.events.dtype import EventsDtype
from tawt_sklearn.exceptions import DataError
from tawt_sklearn.nn.beside import times_of_items
from tawt_sklearn.nn.fusion import FUSIONS
from tawt_sklearn.tokens.modality import NEEDED, ItemError, pairs_of, read_cells
from tawt_sklearn.training.beside import ItemColumn, unreadable

PREFIX = "modalities__"

EVENTS, FUSED = "events", "fused"
"""What weights and embeddings of the events, and of all together, are called."""

OF_MODALITIES = ("fusion", "modality_dropout", "modality_training", "output")
"""Parameters that mean nothing without modalities."""


class NestedModalities:
    """Of an estimator with a parameter ``modalities``: its values are parameters, too.

    ``modalities__xray`` is the object for column ``"xray"``, ``modalities__xray__freeze`` one of
    its parameters.  Stands before ``BaseEstimator`` among its bases.
    """

    modalities: Mapping[str, Any] | None

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Parameters, as scikit-learn gives them, and those of modalities.

        Parameters
        ----------
        deep : bool, default=True
            Whether parameters of nested estimators are among them.
        """
        params = super().get_params(deep)  # type: ignore[misc]
        if deep and isinstance(self.modalities, Mapping):
            for name, modality in self.modalities.items():
                params[f"{PREFIX}{name}"] = modality
                if hasattr(modality, "get_params") and not isinstance(modality, type):
                    inner = modality.get_params(deep=True)
                    params |= {f"{PREFIX}{name}__{key}": value for key, value in inner.items()}
        return params

    def set_params(self, **params: Any) -> Self:
        """Set parameters, as scikit-learn does, and those of modalities.

        Raises
        ------
        ValueError
            A parameter that does not exist.
        """
        nested = {key: value for key, value in params.items() if key.startswith(PREFIX)}
        known = self.get_params() if nested else {}
        super().set_params(  # type: ignore[misc]
            **{key: value for key, value in params.items() if key not in nested}
        )
        if nested and "modalities" in params:
            known = self.get_params()
        for key in sorted(nested, key=lambda key: key.count("__")):  # objects before what they hold
            if key not in known:
                raise ValueError(
                    f"Invalid parameter {key!r} for estimator {self}. Valid parameters are: "
                    f"{sorted(known)!r}."
                )
            name, _, inner = key.removeprefix(PREFIX).partition("__")
            if inner:
                self.modalities[name].set_params(**{inner: nested[key]})  # type: ignore[index]
            else:
                self.modalities = {**self.modalities, name: nested[key]}  # type: ignore[dict-item]
                known = self.get_params()
        return self


def check_modalities(estimator: Any) -> None:
    """Refuse modalities that are none, and what does not go together with them.

    Raises
    ------
    ValueError, TypeError
    """
    given = estimator.modalities
    if given is None:
        if getattr(estimator, "pretrained", None) is None:  # which may have some
            refuse_without_modalities(estimator)
        return
    if not isinstance(given, Mapping) or not given:
        raise ValueError(
            "Expected modalities to map columns of X to what they hold, such as "
            f'{{"xray": ImageEncoder()}}, or None. Got {given!r}.'
        )
    for name, modality in given.items():
        if not isinstance(name, str) or "__" in name or not name:
            raise ValueError(
                "Expected names of columns, without two underscores in a row, as keys of "
                f"modalities. Got {name!r}: rename the column."
            )
        if name in (EVENTS, FUSED):
            raise DataError(
                f"Expected other names than {EVENTS!r} and {FUSED!r} as keys of modalities: so the "
                "histories themselves, and all together, are called in weights and embeddings. Got "
                f"{name!r}. Leave it out of modalities if it is the column of the histories, else "
                "rename it."
            )
        lacking = [part for part in NEEDED if not hasattr(modality, part)]
        if isinstance(modality, type) or lacking:
            what = (
                f"the class {modality.__name__}" if isinstance(modality, type) else repr(modality)
            )
            raise TypeError(
                f"Expected modalities[{name!r}] to be an ImageEncoder or another Modality. Got "
                f"{what}{f' without {lacking[0]}' if lacking else ''}. Inherit from "
                "tawt_sklearn.Modality."
            )
        staged = getattr(estimator, "modality_training", "joint") == "staged"
        if modality.freeze and not (staged or modality.own_weights):
            raise ValueError(
                f"Expected modalities[{name!r}] with freeze=False: its network starts from random "
                "weights, which nobody has trained. Got freeze=True. Set "
                'modality_training="staged" (of a classifier or a regressor), or give a backbone '
                "with weights of its own."
            )


def refuse_without_modalities(estimator: Any) -> None:
    """Refuse parameters that say something of modalities where there are none.

    Raises
    ------
    ValueError
    """
    defaults = type(estimator)().get_params(deep=False)
    for name in OF_MODALITIES:
        if name == "modality_dropout" and estimator.modality_dropout == 0:
            continue  # none is dropped, indeed
        if name in defaults and getattr(estimator, name) != defaults[name]:
            raise ValueError(
                f"Expected modalities to be given together with {name}. Got none, and "
                f"{name}={getattr(estimator, name)!r}. Pass modalities such as "
                f'{{"xray": ImageEncoder()}}, or leave {name} at {defaults[name]!r}.'
            )


def modality_columns(X: pd.DataFrame, modalities: Mapping[str, Any] | None) -> pd.DataFrame | None:
    """The columns of a frame that hold modalities; None without any.

    Raises
    ------
    DataError
        A column is not there.
    """
    if not modalities:
        return None
    if absent := [name for name in modalities if name not in X.columns]:
        raise DataError(
            f"Expected a column {absent[0]!r} in X, as modalities says. Got the columns "
            f"{[*map(str, X.columns[:12])]}. Names of columns are kept by a ColumnTransformer with "
            'verbose_feature_names_out=False and set_output(transform="pandas").'
        )
    columns = X[list(modalities)]
    if histories := [name for name in columns if isinstance(columns[name].dtype, EventsDtype)]:
        raise DataError(
            f"Expected modalities beside the histories. Got {histories[0]!r}, the column of the "
            "histories. Leave it out of modalities."
        )
    return columns


def refuse_modalities(modalities: Mapping[str, Any] | None, got: str) -> None:
    """Refuse rows that have no further columns.

    Raises
    ------
    DataError
    """
    if modalities:
        raise DataError(
            f"Expected a DataFrame of event histories with the columns {sorted(modalities)}, as "
            f"modalities says. Got {got}."
        )


def item_columns(
    columns: pd.DataFrame, modalities: Mapping[str, Any], events: EventsArray, origin: float
) -> dict[str, ItemColumn]:
    """The items of each modality, on the network's clock.

    Parameters
    ----------
    columns : DataFrame of n rows
        One column for each modality.
    events : EventsArray
        Tokenised histories of the same rows.
    origin : float
        Of the network's clock, after each row's own.
    """
    told = {}
    start = events.start + origin
    for name, modality in modalities.items():
        cells = read_cells(columns[name], events.dtype.to_clock)
        cells = cells._replace(time=cells.time - start[cells.row])
        told[name] = ItemColumn(modality, name, columns.index.to_numpy(), cells)
    return told


def fitted_modalities(columns: pd.DataFrame, modalities: Mapping[str, Any]) -> dict[str, Any]:
    """Copies of modalities that have learned from the items of the training rows.

    Raises
    ------
    DataError
        A column without any item, or an item that is none; says which one.
    """
    told = {}
    for name, modality in modalities.items():
        column = columns[name]
        cells = read_cells(column, lambda times, what: np.zeros(len(times)))
        if not len(cells.items):
            raise DataError(
                f"Expected at least one item in column {name!r} to learn from. Got {len(column)} "
                "rows, in which all are missing. Leave the column out of modalities."
            )
        try:
            told[name] = clone(modality, safe=False).fit(cells.items)
        except ItemError as error:
            row = column.index[cells.row[error.position]]
            raise unreadable(name, row, error) from error
    return told


def require_times_fit(columns: pd.DataFrame, patching: str) -> None:
    """Items with a time join the patches of the events, not the events themselves.

    Where a pretrained encoder has decided the patches its network says so.

    Raises
    ------
    DataError
    """
    for name in columns:
        if patching == "event" and _has_times(columns[name]):
            raise times_of_items(name)


def _has_times(column: pd.Series) -> bool:
    return any(time is not None for cell in column.array for time, _ in pairs_of(cell))


def with_digests(frame: pd.DataFrame, modalities: Mapping[str, Any] | None) -> pd.DataFrame:
    """The frame with strings in place of items, for comparing rows."""
    if not modalities:
        return frame
    changed = {}
    for name, modality in modalities.items():
        cells = read_cells(frame[name], _as_it_is)
        column = ItemColumn(modality, name, frame.index.to_numpy(), cells)
        changed[name] = column.digests()
    return frame.assign(**changed)


def _as_it_is(times: Any, what: str) -> np.ndarray:
    """Numbers that are the same where times are, of whatever clock."""
    return np.array([zlib.crc32(str(time).encode()) for time in times], dtype=np.float64)


def same_modalities(before: Mapping[str, Any] | None, now: Mapping[str, Any] | None) -> bool:
    """Whether modalities have the same parameters, whatever they have learned."""
    one, other = (described(given, learned=False) for given in (before, now))
    return bool(joblib.hash(one) == joblib.hash(other))


def described(modalities: Mapping[str, Any] | None, learned: bool = True) -> dict[str, Any]:
    """What modalities are, as values whose hash is the same wherever they were copied to.

    Parameters
    ----------
    learned : bool
        Whether what they have learned is a part of it.
    """
    told = {}
    for name, modality in (modalities or {}).items():
        given = modality.get_params() | (dict(vars(modality)) if learned else {})
        plain = {key: _described(value) for key, value in sorted(given.items())}
        told[name] = (type(modality).__qualname__, plain)
    return told


def named_by_content(model: dict[str, Any]) -> dict[str, Any]:
    """Keywords of a network for the name of a run: modalities by what they are."""
    if "modalities" not in model:
        return model
    return {**model, "modalities": described(model["modalities"])}


def _described(value: Any) -> Any:
    if not hasattr(value, "state_dict"):
        return value
    # A copy of a torch module is pickled to other bytes.
    weights = {name: tensor.cpu().numpy() for name, tensor in value.state_dict().items()}
    return repr(value), weights


MODALITY_FUSIONS = set(FUSIONS)
"""Values of ``fusion``."""
