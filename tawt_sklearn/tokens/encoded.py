"""The way back: outputs of an encoder as columns, and columns as what was given to fit."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import pandas as pd

from tawt_sklearn.events.tables import library_of, plain_frame
from tawt_sklearn.exceptions import DataError
from tawt_sklearn.tokens.steps import Form, Steps, float_dtype


def read_encoded(X: Any, form: Form, names: list[str], n_kept: int, framed: bool) -> Steps:
    """Columns of what an encoder has given.

    Parameters
    ----------
    form : {"table", "panel", "frame"}
        Form given to fit.
    names : list of str
        Of the outputs; those of a long frame begin with ``n_kept`` columns of case and time.
    framed : bool
        Whether fit saw a DataFrame, so that one is to be given back.

    Raises
    ------
    DataError
        Another form, or other columns.
    """
    K = len(names) - n_kept
    if library_of(X) in ("polars", "pyarrow"):
        X = plain_frame(X, what="X")
    if form == "panel":
        return _panel(X, K)
    if isinstance(X, pd.DataFrame):
        labels = [str(name) for name in X.columns]
        if absent := [name for name in names if name not in labels]:
            raise DataError(
                f"Expected the columns that transform gives. Got a frame without {absent[:10]}. "
                "Pass the output of transform."
            )
        at = [labels.index(name) for name in names]
        columns = [X.iloc[:, k] for k in at[n_kept:]]
        dtype = float_dtype(column.dtype for column in columns)
        return Steps(form, columns, dtype, frame=X, kept=at[:n_kept])
    if form == "frame":
        raise DataError(
            f"Expected a long frame, as transform gives it. Got {type(X).__name__}. Keep the "
            "DataFrame, which has cases and times."
        )
    table = np.asarray(X)
    if table.ndim != 2 or table.shape[1] != K:
        raise DataError(
            f"Expected a table of {K} columns, as transform gives it. Got shape {table.shape}."
        )
    if table.dtype not in (np.float32, np.float64):
        table = table.astype(np.float64)
    frame = pd.DataFrame(index=range(len(table))) if framed else None
    return Steps("table", list(table.T), table.dtype, frame=frame)


def _panel(X: Any, K: int) -> Steps:
    parts = [np.asarray(x) for x in X] if isinstance(X, list | tuple) else None
    panel = np.asarray(X) if parts is None else np.empty((0, K, 0))
    shapes = {panel.shape[1:-1]} if parts is None else {part.shape[:-1] for part in parts}
    if shapes != {(K,)} or panel.ndim != 3:
        raise DataError(
            f"Expected a panel of {K} channels, as transform gives it. Got channels of shape "
            f"{sorted(shapes)}."
        )
    if parts:
        steps = np.concatenate(parts, axis=1)
        lengths = np.array([part.shape[1] for part in parts], np.int64)
        return Steps("panel", list(steps), _float(steps.dtype), lengths=lengths)
    B, _, T = panel.shape
    columns = [panel[:, k, :].reshape(-1) for k in range(K)]
    lengths = np.full(B, T, np.int64)
    return Steps("panel", columns, _float(panel.dtype), lengths=lengths, n_timepoints=T)


def _float(dtype: np.dtype) -> np.dtype:
    return dtype if dtype == np.float32 else np.dtype(np.float64)


def join_columns(
    steps: Steps, columns: list[np.ndarray], labels: list[Hashable] | None, channels: list[int]
) -> Any:
    """Decoded columns in the form given to fit.

    Parameters
    ----------
    steps : Steps
        Of :func:`read_encoded`.
    columns : list of ndarray, C of (N,)
    labels : list or None
        Of all columns of the DataFrame given to fit; None where it was none.
    channels : list of int
        Positions of the decoded columns among them; those of case and time are taken over.
    """
    if labels is not None:
        assert steps.frame is not None
        index = steps.frame.index
        series = {k: pd.Series(x, index) for k, x in zip(channels, columns, strict=True)}
        rest = [k for k in range(len(labels)) if k not in series]
        for k, at in zip(rest, steps.kept, strict=True):
            series[k] = steps.frame.iloc[:, at]
        frame = pd.concat([series[k].infer_objects() for k in range(len(labels))], axis=1)
        return frame.set_axis(labels, axis=1)
    text = any(column.dtype == object for column in columns)
    out = steps.empty(len(columns), object if text else steps.dtype)
    for c, column in enumerate(columns):
        steps.put(out, c, column)
    return steps.finish(out, [])
