"""The output side of transformers that give tables, frames and panels."""

from __future__ import annotations

import copy
import warnings
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.utils._set_output import _get_output_config, _wrap_data_with_container
from sklearn.utils.validation import check_is_fitted

from tawt_sklearn.events.tables import library_of
from tawt_sklearn.exceptions import DataWarning


class PanelOutputMixin:
    """``transform`` and ``fit_transform`` whose ``set_output`` concerns tables and frames only.

    A panel has three axes: it stays an array, or a list of arrays, whatever ``set_output`` and
    the global configuration ask for.  scikit-learn wraps what the class itself defines, hence a
    mixin, to stand before ``TransformerMixin``.
    """

    _params_in_fit: dict[str, Any]

    def transform(self, X: Any) -> Any:
        """Apply what fit has learned.

        Parameters
        ----------
        X : array, DataFrame, list of arrays or event histories
            In the form, and with the channels or columns, of fit.

        Returns
        -------
        ndarray, list of ndarray or DataFrame
            In the form of X, with the channels or columns of ``get_feature_names_out``.  The
            float type is that of X, float64 where X has none.  A DataFrame for event histories.

        Raises
        ------
        DataError
            Another form, other channels or columns than in fit, infinite numbers.

        Warns
        -----
        DataWarning
            Missing values or categories that fit has not seen and that get no output of their own.
        """
        check_is_fitted(self)
        result = self._as_in_fit()._transform(X)  # type: ignore[attr-defined]
        table = isinstance(result, pd.DataFrame) or (
            isinstance(result, np.ndarray) and result.ndim == 2
        )
        if not table:
            return result
        result = _wrap_data_with_container("transform", result, X, self)
        unasked = _get_output_config("transform", self)["dense"] == "default"
        if unasked and self.form_ == "frame" and library_of(X) == "polars":  # type: ignore[attr-defined]
            return type(X)(result)  # a long frame of the kind that was given
        return result

    def _as_in_fit(self) -> Self:
        """The estimator with the parameters that it was fitted with, whatever was set since."""
        twin = copy.copy(self)
        twin.__dict__.update(self._params_in_fit)
        return twin

    def fit_transform(self, X: Any, y: Any = None, **fit_params: Any) -> Any:
        """Fit, then transform the same data; see :meth:`transform`."""
        return self.fit(X, y, **fit_params).transform(X)  # type: ignore[attr-defined]


def warn_counted(counts: dict[str, int], what: str) -> None:
    """One warning, raised at the call of transform, about all columns where something happened."""
    found = {name: n for name, n in counts.items() if n}
    if found:
        shown = ", ".join(f"{name!r} ({n:,})" for name, n in list(found.items())[:5])
        warnings.warn(
            f"{sum(found.values()):,} {what}: {shown}{' and more' if len(found) > 5 else ''}.",
            DataWarning,
            stacklevel=4,
        )
