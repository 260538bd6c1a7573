"""Answers of estimators, as rows that know which rows they are about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from tawt_sklearn.exceptions import DataError


def with_index(answer: Any, ask: Callable[..., Any], index: pd.Index) -> pd.DataFrame | pd.Series:
    """What a method said of some rows, with their index and names for the columns.

    Parameters
    ----------
    answer : array (B,) or (B, K), DataFrame or Series
    ask : callable
        What gave it, for names: ``get_feature_names_out()`` of a transformer, ``classes_`` of a
        classifier, else 0, 1, ...
    index : Index (B,)

    Raises
    ------
    DataError
        Other kinds of answers, or answers of another number of rows.
    """
    name = getattr(ask, "__name__", "the function")
    if isinstance(answer, pd.DataFrame | pd.Series):
        return answer
    if not isinstance(answer, np.ndarray) or answer.ndim not in (1, 2):
        shape = f" of shape {answer.shape}" if hasattr(answer, "shape") else ""
        raise DataError(
            f"Expected {name} to give a pandas object or an array with one line for each row. Got "
            f"{type(answer).__module__.partition('.')[0]}.{type(answer).__name__}{shape}. Ask for "
            'dense output (sparse=False), for arrays or pandas with set_output(transform="default"'
            "), and for answers about rows rather than steps."
        )
    if len(answer) != len(index):
        raise DataError(
            f"Expected one answer of {name} for each of {len(index)} rows. Got {len(answer)}."
        )
    if answer.ndim == 1:
        return pd.Series(answer, index=index)
    columns = _column_names(ask, name, answer.shape[1])
    return pd.DataFrame(answer, index=index, columns=columns)


def _column_names(ask: Callable[..., Any], name: str, K: int) -> Any:
    estimator: Any = getattr(ask, "__self__", None)
    if name == "transform" and hasattr(estimator, "get_feature_names_out"):
        return list(estimator.get_feature_names_out())
    classes = getattr(estimator, "classes_", ())
    return list(classes) if len(classes) == K else range(K)
