"""EventSummarizer: event histories to a plain table of statistics."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from numbers import Integral, Real
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin, _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils._set_output import _get_output_config
from sklearn.utils.validation import check_is_fitted, validate_data

from tawt_sklearn.events._dask_methods import lazy_on_dask
from tawt_sklearn.events.array import EventsArray
from tawt_sklearn.events.coerce import find_events, is_object_table
from tawt_sklearn.events.dtype import EventsDtype
from tawt_sklearn.events.tables import library_of
from tawt_sklearn.exceptions import DataError, DataWarning, NotNestedError
from tawt_sklearn.persistence.savable import Savable
from tawt_sklearn.tokens import statics
from tawt_sklearn.tokens._atomic import restored_on_failure
from tawt_sklearn.tokens._columns import check_like_fit, events_of, has_integer_codes
from tawt_sklearn.tokens.encoding import count_codes
from tawt_sklearn.tokens.features import Cells, Layout, Window, plain_names, read_plan
from tawt_sklearn.tokens.report import some
from tawt_sklearn.tokens.segments import STATISTICS

SPARSE_ABOVE = 10_000
"""``sparse="auto"`` gives a sparse matrix when there are more features than this."""


@lazy_on_dask("transform")
class EventSummarizer(Savable, TransformerMixin, BaseEstimator):
    """Turn event histories into a plain 2-D table: statistics per code and window.

    The honest baseline to compare with: these columns and gradient boosting are hard to beat on
    many clinical data sets.

    Parameters
    ----------
    statistics : sequence of str, default=all of them
        Out of ``"count", "mean", "sd", "min", "max", "first", "last", "slope",
        "time_since_last"``.  ``count`` and ``time_since_last`` (time from the last event of the
        code to the end of the row) are of events, the others of numbers: ``sd`` divides by n - 1,
        ``slope`` is that of the least-squares line per time unit.
    windows : sequence of (float or None), or dict, default=(None,)
        Lengths in time units: 24 means events after ``end - 24`` of the row, None the whole
        history.  The end is that of the observation window where known, else the last event.
        A dict ``{window: statistics}`` asks for other statistics in each window.
    min_count : int, default=1
        Codes with fewer training events get no columns.
    min_rows : int, default=1
        Columns that fewer training rows have a value (or a count above 0) for are left out.  With
        1 only those that are undefined throughout, which are an error to some models; a little
        more helps where a model holds out rows of its own.
    max_codes : int or None, default=None
        Only the most frequent codes get columns.
    max_categories : int, default=20
        Codes with texts get a count column for each of their most frequent texts, at most this
        many; 0 = none.
    static : {"pass", "drop"}, default="pass"
        ``"pass"``: numeric static columns are passed on, others are one-hot encoded with the
        values seen in fit (unknown or missing: all zero).
    sparse : bool or "auto", default="auto"
        Whether to return a scipy CSR matrix, in which undefined statistics are not stored (zero).
        ``"auto"``: where there are more than 10,000 features, and ``set_output`` asks for no
        frame.

    Attributes
    ----------
    codes_ : list
        Codes that have columns, sorted.
    feature_names_out_ : ndarray of str
    n_features_in_ : int
    feature_names_in_ : ndarray of str

    See Also
    --------
    TripletSequencer : Histories to tokens, for models that see single events.

    Notes
    -----
    Names are ``HR__mean``, ``HR__mean__last24h``, ``wd=NW__count``; characters that LightGBM or
    XGBoost refuses, ``,:"<[]{}``, become ``_``.  Undefined statistics are NaN (0 for counts).  A
    2-D array of numbers counts as one series per row, a 3-D array as one with channels, as in
    :func:`~tawt_sklearn.as_events`.  Tokenised columns are summarised as they are: by token and
    scaled value.  Codes not seen in fit are left out with one warning.

    Examples
    --------
    >>> import pandas as pd
    >>> from tawt_sklearn import EventSummarizer, nest_events
    >>> events = pd.DataFrame({
    ...     "subject_id": [1, 1, 1, 2], "time": [0.0, 1.5, 3.0, 0.5],
    ...     "code": ["HR", "HR", "Temp", "HR"], "value": [80.0, 90.0, 37.5, 70.0]})
    >>> summarizer = EventSummarizer(statistics=["count", "mean"], windows=[None, 2])
    >>> summarizer.fit_transform(nest_events(events)).T.head(4)
    subject_id            1     2
    HR__count           2.0   1.0
    HR__mean           85.0  70.0
    HR__count__last2h   1.0   1.0
    HR__mean__last2h   90.0  70.0
    """

    _parameter_constraints: dict = {
        "statistics": ["array-like"],
        "windows": ["array-like", dict],
        "min_count": [Interval(Integral, 1, None, closed="left")],
        "min_rows": [Interval(Integral, 1, None, closed="left")],
        "max_codes": [Interval(Integral, 1, None, closed="left"), None],
        "max_categories": [Interval(Integral, 0, None, closed="left")],
        "static": [StrOptions({"pass", "drop"})],
        "sparse": ["boolean", StrOptions({"auto"})],
    }

    codes_: list[Any]
    feature_names_out_: np.ndarray
    _layout: Layout
    _levels: dict[Any, list[str] | None]
    _seen: frozenset[Any]
    _dtype: EventsDtype
    _integer_codes: bool

    _saved_private = ("_layout", "_levels", "_seen", "_dtype", "_integer_codes")

    def __init__(
        self,
        *,
        statistics: Iterable[str] = STATISTICS,
        windows: Iterable[Window] | Mapping[Window, Iterable[str]] = (None,),
        min_count: int = 1,
        min_rows: int = 1,
        max_codes: int | None = None,
        max_categories: int = 20,
        static: Literal["pass", "drop"] = "pass",
        sparse: bool | Literal["auto"] = "auto",
    ) -> None:
        self.statistics = statistics
        self.windows = windows
        self.min_count = min_count
        self.min_rows = min_rows
        self.max_codes = max_codes
        self.max_categories = max_categories
        self.static = static
        self.sparse = sparse

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = []  # float32, whatever comes in
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "feature_names_out_")

    # ---- fit -------------------------------------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn which columns there are.

        Parameters
        ----------
        X : DataFrame or array
            One row per subject; anything :func:`~tawt_sklearn.as_events` takes.
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        DataError
            Missing (NA) or only empty histories, no code as frequent as ``min_count``, a date
            among the static columns, unknown statistics or windows.
        NotNestedError
            X is a long table.
        """
        with restored_on_failure(self):
            return self._learn(X)

    def _learn(self, X: Any) -> Self:
        plan = read_plan(self.windows, self.statistics)
        frame, position, array = self._read(X, reset=True)
        if not len(array.time):
            raise DataError(
                f"Expected events to summarise. Got {len(frame)} histories, all of them empty."
            )
        layout = Layout.learn(
            array,
            plan,
            min_count=self.min_count,
            max_codes=self.max_codes,
            max_categories=self.max_categories,
        )
        layout.drop_undefined(array, self.min_rows)
        levels = self._learn_statics(frame.drop(columns=frame.columns[position]))
        names = [*layout.names]
        for name, labels in levels.items():
            names += [str(name)] if labels is None else [f"{name}={label}" for label in labels]
        if not names:
            raise DataError(
                f"Expected features that at least min_rows={self.min_rows} rows have a value for. "
                f"Got none from {len(frame)} rows. Lower min_rows, or ask for more statistics."
            )
        repeated = pd.Index(names)[pd.Index(names).duplicated()]
        if len(repeated):
            raise DataError(
                f"Expected a name of its own for each feature. Got {repeated[0]!r} twice. Rename "
                "the static column or the code that leads to it."
            )
        self._layout, self._levels = layout, levels
        self._seen = frozenset(array.codes[np.unique(array.code[array.code >= 0])].tolist())
        self._dtype, self._integer_codes = array.dtype, has_integer_codes(array)
        self.codes_ = layout.codes
        self.feature_names_out_ = np.array(plain_names(names), dtype=object)
        return self

    def _learn_statics(self, rest: pd.DataFrame) -> dict[Any, list[str] | None]:
        """Levels of each static column that has values, None for numeric ones."""
        if self.static == "drop":
            return {}
        levels: dict[Any, list[str] | None] = {}
        for name in statics.static_columns(rest):
            if statics.column_kind(rest[name]) == "categorical":
                levels[name] = statics.learn_levels(rest[name])
            elif (~np.isnan(statics.to_numbers(rest[name]))).sum() >= self.min_rows:
                levels[name] = None
        return levels

    def _read(self, X: Any, *, reset: bool) -> tuple[pd.DataFrame, int, EventsArray]:
        """The frame with its events column; plain 2-D numbers go the way of scikit-learn."""
        if not _is_table_of_numbers(X):
            frame, position, array = events_of(X)
            validate_data(self, frame, reset=reset, skip_check_array=True)
            return frame, position, array
        index = X.index if isinstance(X, pd.DataFrame) else None
        numbers = validate_data(
            self,
            X,
            reset=reset,
            dtype=[np.float64, np.float32],
            ensure_all_finite="allow-nan",
        )
        frame, position, array = events_of(numbers)
        return frame if index is None else frame.set_axis(index), position, array

    # ---- transform -------------------------------------------------------------------------

    def transform(self, X: Any) -> pd.DataFrame | sparse.csr_matrix:
        """Compute the statistics.

        Parameters
        ----------
        X : DataFrame or array
            As in fit.

        Returns
        -------
        DataFrame of float32 or CSR matrix, (B, n_features_out)
            With the index of X.

        Raises
        ------
        DataError
            Missing (NA) histories, another clock, type of codes or vocabulary than in fit.

        Warns
        -----
        DataWarning
            Codes, or values of static columns, not seen in fit.
        """
        check_is_fitted(self)
        frame, _, array = self._read(X, reset=False)
        self._check_like_fit(array)
        cells = chain(self._layout.cells(array), self._static_cells(frame))
        shape = len(frame), len(self.feature_names_out_)
        if self._gives_sparse():
            return _to_sparse(cells, shape)
        # Column by column: rows of a frame are read-only, and trees of scikit-learn refuse those.
        table = np.full(shape, np.nan, np.float32, order="F")
        table[:, self._layout.count_features] = 0
        feature = len(self._layout.names)
        for labels in self._levels.values():
            if labels is None:
                feature += 1
            else:
                table[:, feature : feature + len(labels)] = 0
                feature += len(labels)
        for row, column, value in cells:
            table[row, column] = _to_float32(value)
        return pd.DataFrame(table, frame.index, self.feature_names_out_, copy=False)

    def _gives_sparse(self) -> bool:
        if self.sparse == "auto":
            frame_wanted = _get_output_config("transform", self)["dense"] != "default"
            return len(self.feature_names_out_) > SPARSE_ABOVE and not frame_wanted
        return bool(self.sparse)

    def _check_like_fit(self, array: EventsArray) -> None:
        dtype = self._dtype
        if array.dtype.vocabulary != dtype.vocabulary:
            kind = {True: "raw", False: "tokenised"}
            fitted = kind[dtype.vocabulary is None]
            got = kind[array.dtype.vocabulary is None]
            raise DataError(
                f"Expected {fitted} events, as in fit. Got {got} ones"
                f"{' of another vocabulary' if got == fitted else ''}. Pass the same kind of "
                "frame to fit and transform."
            )
        check_like_fit(array, dtype.time_unit, dtype.timezone, self._integer_codes)
        counts = count_codes(array.code, len(array.codes))[:-1]
        new = [
            k for k, code in enumerate(array.codes.tolist()) if counts[k] and code not in self._seen
        ]
        if new and dtype.vocabulary is None:
            new.sort(key=lambda k: -counts[k])
            warnings.warn(
                f"{counts[new].sum():,} events have an unknown code, not seen in fit, and are left "
                f"out ({some(array.codes[new].tolist())}).",
                DataWarning,
                stacklevel=5,
            )

    def _static_cells(self, frame: pd.DataFrame) -> Iterator[Cells]:
        unknown: dict[Any, int] = {}
        feature = len(self._layout.names)
        rows = np.arange(len(frame))
        for name, labels in self._levels.items():
            if labels is None:
                numbers = statics.to_numbers(frame[name])
                defined = ~np.isnan(numbers)
                yield rows[defined], np.full(defined.sum(), feature), numbers[defined]
                feature += 1
                continue
            level = statics.level_ids(frame[name], labels)
            if n := int((level == -2).sum()):
                unknown[name] = n
            known = level >= 0
            yield rows[known], feature + level[known], np.ones(known.sum())
            feature += len(labels)
        statics.warn_unknown_levels(unknown)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the features.

        Parameters
        ----------
        input_features : ignored

        Returns
        -------
        ndarray of str
        """
        check_is_fitted(self)
        return self.feature_names_out_


def _to_float32(value: np.ndarray) -> np.ndarray:
    """No overflow to infinity, which models refuse."""
    limit = float(np.finfo(np.float32).max)
    return np.clip(value, -limit, limit).astype(np.float32)


def _to_sparse(cells: Iterable[Cells], shape: tuple[int, int]) -> sparse.csr_matrix:
    parts = [
        (row.astype(np.int32), column.astype(np.int32), _to_float32(value))
        for row, column, value in cells
    ]
    rows, columns, values = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return sparse.csr_matrix((values, (rows, columns)), shape=shape)


def _is_table_of_numbers(X: Any) -> bool:
    """Whether X is scikit-learn's usual 2-D input, or meant to be (1-D, sparse, lists)."""
    if isinstance(X, pd.DataFrame):
        if not all(pd.api.types.is_numeric_dtype(dtype) for dtype in X.dtypes):
            return False
        try:
            find_events(X)
        except NotNestedError:
            return False
        except DataError:
            return True
    if isinstance(X, np.ndarray):
        return X.ndim < 3 and not (X.dtype == object and (X.ndim == 1 or is_object_table(X)))
    if isinstance(X, list):
        return len(X) > 0 and isinstance(X[0], list | tuple | Real)
    other = isinstance(X, pd.Series | EventsArray) or library_of(X) in ("polars", "pyarrow")
    return sparse.issparse(X) or (hasattr(X, "__array__") and not other)
