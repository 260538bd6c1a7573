"""The forms that regular data come in, and one view of them all: a column per channel.

A table has a row per case; a panel is an array (n_cases, n_channels, n_timepoints) or a list of
arrays (n_channels, n_timepoints_i); a long frame has a row per case and time.  ``read_steps``
tells them apart and gives :class:`Steps`, whose columns run over the ``N`` steps of all cases.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils.validation import validate_data

from tawt_sklearn.events.coerce import holds_events
from tawt_sklearn.events.tables import library_of, plain_frame
from tawt_sklearn.exceptions import DataError
from tawt_sklearn.tokens.steps import Steps, float_dtype

_FORMS = {
    "table": "a table with one row per case",
    "panel": "a panel (n_cases, n_channels, n_timepoints) or a list of (n_channels, n_timepoints)",
    "frame": "a long frame with one row per case and time",
    "events": "a frame with a column of event histories",
}


def read_steps(
    estimator: Any,
    X: Any,
    *,
    reset: bool,
    case: Hashable = None,
    time: Hashable = None,
    long_frames: bool = True,
    with_text: bool = False,
) -> Steps:
    """Validate X for a transformer and split it into columns.

    Parameters
    ----------
    estimator : transformer
        Its ``n_features_in_`` and ``feature_names_in_`` are set or compared; ``form_`` is
        compared.
    reset : bool
        True in fit.
    case, time : hashable or None
        Columns, or levels of the index, that make a frame a long one.
    long_frames : bool
        Whether a frame with an index of two levels is long by itself.
    with_text : bool
        Whether arrays of objects may hold text.

    Raises
    ------
    DataError
        Another form than in fit, channels that do not match, ragged or other arrays that are no
        numbers.
    """
    X = _plain(X)
    if isinstance(X, pd.Series):
        raise DataError(
            f"Expected {_FORMS['table']}, or {_FORMS['panel']}. Got a Series: use to_frame()."
        )
    if isinstance(X, pd.DataFrame):
        steps = _from_frame(X, case, time, long_frames)
    elif case is not None or time is not None:
        raise DataError(
            "case= and time= name columns of a long DataFrame with one row per case and time. "
            f"Got {type(X).__name__}. Pass such a frame, or leave them out."
        )
    elif getattr(X, "ndim", None) == 3:
        steps = _from_panel(np.asarray(X))
    elif isinstance(X, list | tuple) and (parts := _as_series(X)) is not None:
        steps = _from_series(parts)
    elif with_text and (frame := _as_object_frame(X)) is not None:
        X = frame
        steps = replace(_from_frame(frame, None, None, False), frame=None)
    else:
        _refuse_ragged(X)
        check_form(estimator, "table", reset)
        return _from_numbers(estimator, X, reset)
    check_form(estimator, steps.form, reset)
    if steps.form == "panel":
        if not reset:
            _check_channels(steps, estimator.n_features_in_)
        X = np.empty((1, len(steps.columns)))  # stands for its number of channels
    if not steps.columns:
        raise DataError(
            "Expected at least one column or channel. Got none: found array with 0 feature(s)."
        )
    if not steps.n_steps:
        raise DataError(
            "Expected at least one row or time step. Got none: found array with 0 sample(s)."
        )
    validate_data(estimator, X, reset=reset, skip_check_array=True)
    return steps


def refuse_events(X: Any, remedy: str) -> None:
    """Raise a DataError where X holds event histories."""
    if holds_events(X):
        raise DataError(
            f"Expected {_FORMS['table']}, or {_FORMS['panel']}. Got event histories. {remedy}"
        )


# ---- the forms -----------------------------------------------------------------------------


def _from_numbers(estimator: Any, X: Any, reset: bool) -> Steps:
    """A 2-D array of numbers, or what scikit-learn makes one of."""
    try:
        numbers = validate_data(
            estimator,
            X,
            reset=reset,
            dtype=[np.float64, np.float32],
            ensure_all_finite="allow-nan",
        )
    except ValueError as error:
        if not str(error).startswith("could not convert string"):
            raise
        remedy = "Pass a DataFrame, whose columns have their types"
        if hasattr(estimator, "categorical_features"):
            remedy += ", or name the columns with text in categorical_features"
        raise DataError(f"Expected numbers. Got text: {error}. {remedy}.") from error
    return Steps(form="table", columns=list(numbers.T), dtype=numbers.dtype)


def _from_panel(panel: np.ndarray) -> Steps:
    panel = _numbers(panel)
    B, C, T = panel.shape
    columns = [panel[:, c, :].reshape(-1) for c in range(C)]
    lengths = np.full(B, T, np.int64)
    return Steps("panel", columns, panel.dtype, lengths=lengths, n_timepoints=T)


def _from_series(parts: list[np.ndarray]) -> Steps:
    parts = [_numbers(part) for part in parts]
    shapes = [part.shape for part in parts]
    if len({len(shape) for shape in shapes} | {2}) > 1 or len({shape[0] for shape in shapes}) > 1:
        shown = ", ".join(map(str, shapes[:5])) + (", ..." if len(shapes) > 5 else "")
        remedy = "Give every array a row per channel."
        if all(len(shape) == 2 for shape in shapes) and len({shape[1] for shape in shapes}) == 1:
            remedy = "They look like (n_timepoints, n_channels): pass [x.T for x in X]."
        raise DataError(
            "Expected arrays of shape (n_channels, n_timepoints) with the same number of channels. "
            f"Got {shown}. {remedy}"
        )
    steps = np.concatenate(parts, axis=1)  # (C, N)
    lengths = np.array([shape[1] for shape in shapes], np.int64)
    return Steps("panel", list(steps), steps.dtype, lengths=lengths)


def _from_frame(X: pd.DataFrame, case: Hashable, time: Hashable, long_frames: bool) -> Steps:
    if not X.columns.is_unique:
        name = X.columns[X.columns.duplicated()].tolist()[0]
        raise DataError(
            f"Expected columns with different names. Got {name!r} more than once. Rename or drop "
            "all but one."
        )
    two_levels = long_frames and X.index.nlevels == 2
    if case is None and time is not None and not two_levels:
        raise DataError(
            f"Expected case= beside time={time!r}: the column that tells the cases apart. Got None."
        )
    if case is not None and case == time:
        raise DataError(f"Expected different columns as case and time. Got {case!r} for both.")
    if case is None and not two_levels:
        columns = [X.iloc[:, k] for k in range(X.shape[1])]
        return Steps("table", columns, float_dtype(X.dtypes), frame=X)
    cases = _part(X, case, "case", level=0)
    times = None
    if time is not None:
        times = _part(X, time, "time", level=1)
    elif two_levels and (case is None or case in X.index.names):
        times = _part(X, None, "time", level=1 - (0 if case is None else X.index.names.index(case)))
    kept = [k for k, name in enumerate(X.columns) if name in (case, time) and name is not None]
    channels = [k for k in range(X.shape[1]) if k not in kept]
    if not channels:
        raise DataError("Expected channels beside the columns of case and time. Got none.")
    return Steps(
        form="frame",
        columns=[X.iloc[:, k] for k in channels],
        dtype=float_dtype(X.dtypes.iloc[channels]),
        frame=X,
        channels=channels,
        kept=kept,
        cases=cases,
        times=times,
    )


def _part(X: pd.DataFrame, name: Hashable, role: str, level: int) -> pd.Series:
    """The column, or level of the index, of cases or of times."""
    if name is None:
        part = pd.Series(X.index.get_level_values(level), index=X.index, name=role)
    elif name in X.columns:
        part = X[name]
    elif name in X.index.names:
        values: Any = X.index.get_level_values(name)  # type: ignore[arg-type]
        part = pd.Series(values, index=X.index, name=name)
    else:
        raise DataError(
            f"Expected a column or index level {name!r} ({role}=). Got the columns "
            f"{X.columns.tolist()[:30]} and the levels {list(X.index.names)}."
        )
    missing = part.isna().to_numpy()
    if missing.any():
        raise DataError(
            f"Expected a {role} in every row. Got {missing.sum()} missing ones in {part.name!r}, "
            f"the first in row {np.flatnonzero(missing)[0]}. Drop these rows."
        )
    return part


# ---- what the forms are told apart by --------------------------------------------------------


def _plain(X: Any) -> Any:
    """Tables of other libraries as pandas ones, masked arrays with NaN."""
    if library_of(X) in ("polars", "pyarrow"):
        return plain_frame(X, what="X")
    if isinstance(X, np.ma.MaskedArray):
        kind = X.dtype if X.dtype.kind == "f" else np.float64
        return np.ma.filled(X.astype(kind), np.nan)
    return X


def _as_series(X: Any) -> list[np.ndarray] | None:
    """The arrays of a list of arrays (C, T_i); None for a list of rows."""
    if not len(X):
        return None
    first = X[0]
    if isinstance(first, list | tuple):
        if not first or not isinstance(first[0], list | tuple | np.ndarray):
            return None
    elif not isinstance(first, np.ndarray) or first.ndim == 0:
        return None
    elif first.ndim == 1:
        if len({np.shape(x) for x in X}) > 1:
            raise DataError(
                "Expected rows of one length, or arrays of shape (n_channels, n_timepoints). Got "
                "1-D arrays of different lengths. Give each its axis of channels: "
                "[x[np.newaxis] for x in X]."
            )
        return None
    try:
        return [np.ma.filled(x, np.nan) if np.ma.isMA(x) else np.asarray(x) for x in X]
    except ValueError as error:
        raise DataError(
            f"Expected arrays of shape (n_channels, n_timepoints). Got lists of rows: {error}"
        ) from error


def _as_object_frame(X: Any) -> pd.DataFrame | None:
    """A frame of a 2-D array or list of rows that holds text; None where it holds none."""
    if not isinstance(X, list | tuple | np.ndarray):
        return None
    if isinstance(X, np.ndarray) and X.dtype.kind not in "OUS":
        return None
    try:
        table = np.asarray(X, dtype=object)
    except ValueError:
        return None
    if table.ndim != 2 or not any(isinstance(value, str) for value in table.flat):
        return None
    return pd.DataFrame(table).infer_objects()


def _refuse_ragged(X: Any) -> None:
    if getattr(X, "ndim", 2) > 3:
        raise DataError(
            f"Expected {_FORMS['table']}, or {_FORMS['panel']}. Got shape {X.shape}. Reshape it: "
            "one axis each for cases, channels and time."
        )
    if isinstance(X, np.ndarray) and X.dtype == object and X.size:
        if isinstance(X.flat[0], np.ndarray | list | tuple | pd.Series):
            raise DataError(
                "Expected an array of numbers. Got an array of objects that holds arrays (ragged), "
                f"of shape {X.shape}. Pass series of different lengths as a list of arrays of "
                "shape (n_channels, n_timepoints)."
            )


def _numbers(values: np.ndarray) -> np.ndarray:
    """A panel, or a series of it, as float32 or float64."""
    if values.dtype in (np.float32, np.float64):
        return values
    if values.dtype.kind in "biufO":
        try:
            return values.astype(np.float64)
        except (TypeError, ValueError):
            pass
    raise DataError(
        f"Expected a panel of numbers. Got {values.dtype} values. Encode text as whole numbers, "
        "and dates as numbers of hours."
    )


# ---- like in fit ---------------------------------------------------------------------------


def check_form(estimator: Any, form: str, reset: bool) -> None:
    """Raise a DataError where fit has seen another form."""
    if not reset and estimator.form_ != form:
        raise DataError(
            f"Expected {_FORMS[estimator.form_]}, as in fit. Got {_FORMS[form]}. Pass the same "
            "form to fit and transform."
        )


def _check_channels(steps: Steps, n_channels: int) -> None:
    got = len(steps.columns)
    if got == n_channels:
        return
    remedy = "Pass the channels of fit, in their order."
    if len(steps.lengths) and (steps.lengths == n_channels).all():
        swap = "X.swapaxes(1, 2)" if steps.n_timepoints is not None else "[x.T for x in X]"
        remedy = f"X looks like (n, T, C), with time before channels: pass {swap}."
    raise DataError(f"Expected {n_channels} channels, as in fit. Got {got}. {remedy}")
