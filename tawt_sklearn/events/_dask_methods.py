"""Methods of estimators on Dask DataFrames: lazily, partition by partition, or not at all."""

from __future__ import annotations

import functools
import uuid
import warnings
from collections.abc import Callable
from copy import copy
from typing import Any, TypeVar

import pandas as pd
from sklearn.utils.validation import check_is_fitted

from tawt_sklearn.events._answers import with_index
from tawt_sklearn.events._dask import is_dask, register_if_loaded
from tawt_sklearn.events.tables import library_of
from tawt_sklearn.exceptions import DataError

Class = TypeVar("Class", bound=type)


def lazy_on_dask(*names: str) -> Callable[[Class], Class]:
    """Class decorator: these methods map the partitions of a Dask DataFrame.

    They give a Dask DataFrame or Series, with the index of the rows, and compute nothing; anything
    but Dask goes to the method as it is.  It has to be a class decorator: scikit-learn wraps the
    output of methods when a class is made, and cannot wrap Dask.
    """

    def decorate(cls: Class) -> Class:
        for name in names:
            setattr(cls, name, _mapped(getattr(cls, name)))
        return cls

    return decorate


def _mapped(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def on_partitions(self: Any, X: Any, *args: Any, **kwargs: Any) -> Any:
        if not is_dask(X):
            return method(self, X, *args, **kwargs)
        return _map(self, method.__name__, X, args, kwargs)

    return on_partitions


def _map(estimator: Any, name: str, X: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    import dask
    import dask.dataframe as dd

    register_if_loaded()
    check_is_fitted(estimator)
    ask = functools.partial(_ask, name=name, args=args, kwargs=kwargs)
    made_up = X._meta_nonempty
    # A made-up text is not the path of a file.
    beside = getattr(getattr(estimator, "preparation_", None), "modalities", None) or {}
    made_up = made_up.assign(**dict.fromkeys(made_up.columns.intersection([*beside])))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # made-up rows are unlike any that were seen in fit
        empty = ask(made_up, (estimator, None)).iloc[:0]
    # A task of its own, which all others share: no partition carries the networks along. A copy,
    # since the estimator may be fitted again before anything is computed.
    shared = dask.delayed(
        (copy(estimator), empty),
        name=f"{type(estimator).__name__}-{uuid.uuid4().hex}",
        traverse=False,
    )
    return dd.map_partitions(ask, X, shared, meta=empty, enforce_metadata=False)


def _ask(
    rows: Any, shared: tuple[Any, Any], *, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> pd.DataFrame | pd.Series:
    """What a method says of one partition, which may be empty."""
    estimator, empty = shared
    if not len(rows):
        return empty
    method = getattr(estimator, name)
    return with_index(method(rows, *args, **kwargs), method, rows.index)


def refuse_dask(data: Any, estimator: Any = None) -> None:
    """Refuse Dask where all rows are needed at once, as they are to learn from them.

    Raises
    ------
    DataError
    """
    if library_of(data) != "dask":
        return
    remedy = (
        "Compute what memory holds: .compute(), or a sample of the rows, "
        ".sample(frac=0.1).compute(). What is fitted transforms or predicts Dask DataFrames lazily"
    )
    if hasattr(estimator, "partial_fit"):
        labels = "" if hasattr(estimator, "transform") else ", y.loc[rows.index]"
        remedy += (
            ". To learn from all of them, go through the partitions: for part in X.partitions: "
            f"rows = part.compute(); model.partial_fit(rows{labels})"
        )
    raise DataError(
        f"Expected data in memory. Got a Dask {type(data).__name__} of "
        f"{getattr(data, 'npartitions', 1)} partitions. {remedy}."
    )
