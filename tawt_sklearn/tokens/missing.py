"""MissingMaskEncoder: missing values as information, never imputed."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from numbers import Integral
from typing import Any, Literal, Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin, _fit_context
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted

from tawt_sklearn.exceptions import DataError
from tawt_sklearn.persistence.savable import Savable
from tawt_sklearn.tokens._atomic import restored_on_failure
from tawt_sklearn.tokens._output import PanelOutputMixin, warn_counted
from tawt_sklearn.tokens.encoded import join_columns, read_encoded
from tawt_sklearn.tokens.forms import read_steps, refuse_events
from tawt_sklearn.tokens.levels import (
    UNSEEN_CODE,
    category_column,
    decode_levels,
    encode_levels,
    find_categorical,
    learn_levels,
)
from tawt_sklearn.tokens.observed import time_since_observed
from tawt_sklearn.tokens.scales import learn_scale, scale_numbers
from tawt_sklearn.tokens.steps import Form, Steps, channel_names, float_dtype, refuse_repeated


class MissingMaskEncoder(Savable, PanelOutputMixin, TransformerMixin, BaseEstimator):
    """Scale numbers, encode categories, and tell what was missing in channels of their own.

    Nothing is imputed: a missing number becomes 0 *after* scaling, the centre of its column, beside
    an indicator that says so; a missing category has a code of its own.

    Parameters
    ----------
    scaling : {"robust", "standard"} or None, default="robust"
        Scaling of each numeric column, over all cases and steps.

        - ``"robust"``: median and interquartile range / 1.349.  Where more than half of the
          numbers are equal, the distance of the 5 % and 95 % quantiles / 3.29 takes its place,
          then the standard deviation, then 1.
        - ``"standard"``: mean and standard deviation (1 for constant columns).
        - ``None``: numbers stay as they are, and missing ones become 0 all the same.
    categorical_features : "auto", array-like of int, of str or of bool, or None, default="auto"
        Columns or channels that are categories, by position (among the channels, in a long frame),
        name, or mask.  ``"auto"``: the columns of a DataFrame that hold text, bool, categories or
        other objects.  ``None`` or ``[]``: none.
    indicators : {"all", "missing-only"}, default="all"
        Numeric columns that get an indicator (1 = missing): all, or those with missing values in
        fit.  With ``"missing-only"``, a value that is missing later in another column counts as
        the centre, with a warning.
    time_since_observed : bool, default=False
        Panels and long frames: whether to add, for each numeric channel, the time since it was
        last observed, or since the first step of the case where it was not yet.  Counted in steps;
        in a long frame with times in its own unit, hours where they are dates.
    case, time : str, int or None, default=None
        Columns, or levels of the index, that make a DataFrame a long one with a row per case and
        time; they are kept as they are.  Not needed where the index has two levels, case and time.
        Without times the rows of a case are taken to be in order.

    Attributes
    ----------
    center_, scale_ : ndarray of float64, (C,)
        ``scaled = (x - center_) / scale_``; NaN for categorical columns.
    categorical_features_ : ndarray of int64
        Positions of the categorical columns among the channels.
    categories_ : list of ndarray
        Values of each of them by falling frequency: codes 2, 3, ...  Code 0 is a missing value,
        code 1 one that was not seen in fit.
    indicator_features_ : ndarray of int64
        Positions of the columns that have an indicator.
    form_ : {"table", "panel", "frame"}
        What was given to fit.
    n_features_in_ : int
        Columns of a table or frame (those of case and time included), channels of a panel.
    feature_names_in_ : ndarray of str
        Where X has column names that are all strings.

    See Also
    --------
    TimeEmbedder : Times to features.
    TripletSequencer : Event histories, where what was not measured has no event.

    Notes
    -----
    X is one of

    - a table: 2-D numbers, or a DataFrame, with a row per case.  Gives a table;
    - a panel (n_cases, n_channels, n_timepoints), or a list of arrays (n_channels, n_timepoints_i).
      Gives a panel (n_cases, n_channels_out, n_timepoints), or a list of arrays, also where
      ``set_output`` asks for frames;
    - a long DataFrame.  Gives one with the same index.

    The outputs are the columns in their order (``hr``), then the indicators (``hr_missing``), then
    the times since observed (``hr_since_observed``).

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from tawt_sklearn import MissingMaskEncoder
    >>> X = pd.DataFrame({"hr": [60.0, 80.0, np.nan], "ward": ["A", None, "A"]})
    >>> encoder = MissingMaskEncoder(scaling="standard").set_output(transform="pandas")
    >>> encoder.fit_transform(X)
        hr  ward  hr_missing
    0 -1.0   2.0         0.0
    1  1.0   0.0         0.0
    2  0.0   2.0         1.0
    >>> panel = np.array([[[1.0, np.nan, np.nan, 4.0]]])
    >>> MissingMaskEncoder(scaling=None, time_since_observed=True).fit_transform(panel)
    array([[[1., 0., 0., 4.],
            [0., 1., 1., 0.],
            [0., 1., 2., 0.]]])
    """

    _parameter_constraints: dict = {
        "scaling": [StrOptions({"standard", "robust"}), None],
        "categorical_features": ["array-like", StrOptions({"auto"}), None],
        "indicators": [StrOptions({"all", "missing-only"})],
        "time_since_observed": ["boolean"],
        "case": [str, Integral, None],
        "time": [str, Integral, None],
    }

    center_: np.ndarray
    scale_: np.ndarray
    categorical_features_: np.ndarray
    categories_: list[np.ndarray]
    indicator_features_: np.ndarray
    form_: Form
    n_features_in_: int
    feature_names_in_: np.ndarray
    _labels: list[list[str]]  # of categories_
    _columns: list[Hashable] | None  # labels of the columns of a DataFrame
    _channels: list[int]  # positions of the channels among the columns of X
    _kept: list[int]  # positions of the case and time columns of a long frame

    _saved_private = ("_labels", "_columns", "_channels", "_kept", "_params_in_fit")

    def __init__(
        self,
        *,
        scaling: Literal["standard", "robust"] | None = "robust",
        categorical_features: Sequence[Any] | Literal["auto"] | None = "auto",
        indicators: Literal["all", "missing-only"] = "all",
        time_since_observed: bool = False,
        case: Hashable = None,
        time: Hashable = None,
    ) -> None:
        self.scaling = scaling
        self.categorical_features = categorical_features
        self.indicators = indicators
        self.time_since_observed = time_since_observed
        self.case = case
        self.time = time

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "center_")

    # ---- fit -------------------------------------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn the scale of numbers and the categories.

        Parameters
        ----------
        X : array, DataFrame or list of arrays
            See the notes of the class.
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        DataError
            Infinite numbers, fractions in a categorical channel of a panel or long frame, dates,
            ragged arrays, event histories, names that are there twice, parameters that ask for
            what X does not have.
        """
        with restored_on_failure(self):
            return self._learn(X)

    def _learn(self, X: Any) -> Self:
        asked = self.categorical_features
        named = asked is not None and not isinstance(asked, str) and len(asked) > 0
        steps = self._read(X, reset=True, with_text=named)
        if self.time_since_observed and steps.form == "table":
            raise DataError(
                "Expected a panel (n_cases, n_channels, n_timepoints), or a long DataFrame with "
                "case= and time=, for time_since_observed=True. Got a table, whose rows have no "
                "order in time. Leave time_since_observed at False."
            )
        C = len(steps.columns)
        self.form_ = steps.form
        self._columns = None if steps.frame is None else list(steps.frame.columns)
        self._channels = list(range(C)) if steps.channels is None else steps.channels
        self._kept = steps.kept
        names = self._names()
        self.categorical_features_ = find_categorical(steps, self.categorical_features, names)
        self.center_, self.scale_ = np.full(C, np.nan), np.full(C, np.nan)
        self.categories_, self._labels = [], []
        gaps = np.zeros(C, bool)
        for c in range(C):
            if c in self.categorical_features_:
                labels, values = learn_levels(category_column(steps, c, names[c]))
                self._labels.append(labels)
                self.categories_.append(values)
            else:
                numbers = steps.numbers(c, names[c])
                gaps[c] = np.isnan(numbers).any()
                self.center_[c], self.scale_[c] = learn_scale(numbers, self.scaling)
        with_indicator = ~np.isnan(self.center_) & (gaps | (self.indicators == "all"))
        self.indicator_features_ = np.flatnonzero(with_indicator)
        refuse_repeated(self._output_names(names))
        self._params_in_fit = self.get_params(deep=False)
        return self

    def _read(self, X: Any, *, reset: bool, with_text: bool) -> Steps:
        refuse_events(
            X,
            "In these nothing is missing: what was not measured has no event. Use "
            "TripletSequencer or EventSummarizer, or encode the static columns alone.",
        )
        return read_steps(self, X, reset=reset, case=self.case, time=self.time, with_text=with_text)

    # ---- transform -------------------------------------------------------------------------

    def _transform(self, X: Any) -> Any:
        steps = self._read(X, reset=False, with_text=len(self.categories_) > 0)
        C, names = len(steps.columns), self._names()
        numeric = np.flatnonzero(~np.isnan(self.center_))
        dtype = steps.dtype  # of all columns; those of categories do not count
        if steps.frame is not None:
            dtype = float_dtype(steps.columns[c].dtype for c in numeric)
        indicator = dict(zip(self.indicator_features_.tolist(), range(C, 2 * C), strict=False))
        since = C + len(indicator)
        out = steps.empty(since + len(numeric) * self.time_since_observed, dtype)
        clock = steps.clock() if self.time_since_observed else None
        unmarked, unseen = {}, {}
        for c, labels in zip(self.categorical_features_.tolist(), self._labels, strict=True):
            codes = encode_levels(category_column(steps, c, names[c]), labels)
            steps.put(out, c, codes)
            unseen[names[c]] = int((codes == UNSEEN_CODE).sum())
        for n, c in enumerate(numeric.tolist()):
            numbers = steps.numbers(c, names[c])
            missing = np.isnan(numbers)
            scaled = scale_numbers(numbers, self.center_[c], self.scale_[c], dtype)
            scaled[missing] = 0
            steps.put(out, c, scaled)
            if c in indicator:
                steps.put(out, indicator[c], missing)
            else:
                unmarked[names[c]] = int(missing.sum())
            if clock is not None:
                steps.put(out, since + n, time_since_observed(~missing, *clock))
        warn_counted(unseen, "values of categorical columns were not seen in fit (code 1)")
        warn_counted(
            unmarked,
            "missing values are in columns that had none in fit, and so no indicator, and count "
            'as the centre; indicators="all" tells them apart',
        )
        return steps.finish(out, self.get_feature_names_out())

    def inverse_transform(self, X: Any) -> Any:
        """Undo the scaling, put NaN where the indicators say missing, and categories back.

        Parameters
        ----------
        X : array, DataFrame or list of arrays
            What ``transform`` gives.

        Returns
        -------
        ndarray, list of ndarray or DataFrame
            In the form given to fit.  Missing categories, and such that fit has not seen, are NaN
            or None; missing numbers of a column without indicator are its centre.

        Raises
        ------
        DataError
            Another form, other columns, codes of no category.
        """
        check_is_fitted(self)
        outputs = self.get_feature_names_out().tolist()
        steps = read_encoded(X, self.form_, outputs, len(self._kept), self._columns is not None)
        names, C = self._names(), len(self.center_)
        position = dict(zip(self.indicator_features_.tolist(), range(C, 2 * C), strict=False))
        category = dict(zip(self.categorical_features_.tolist(), self.categories_, strict=True))
        columns: list[np.ndarray] = []
        for c in range(C):
            encoded = steps.numbers(c, names[c])
            if c in category:
                columns.append(decode_levels(encoded, category[c], names[c]))
                continue
            numbers = encoded * self.scale_[c] + self.center_[c]
            if c in position:
                numbers[steps.numbers(position[c], f"{names[c]}_missing") > 0.5] = np.nan
            columns.append(numbers.astype(steps.dtype))
        return join_columns(steps, columns, self._columns, self._channels)

    def _check_loaded(self) -> None:
        C = len(self.center_)
        if len(self.scale_) != C or len(self._channels) != C:
            raise ValueError("center_, scale_ and _channels differ in length")
        if not len(self._labels) == len(self.categories_) == len(self.categorical_features_):
            raise ValueError("_labels, categories_ and categorical_features_ differ in length")
        places = [*self.categorical_features_.tolist(), *self.indicator_features_.tolist()]
        if not all(0 <= place < C for place in places):
            raise ValueError("features that are not there")
        if not all(0 <= place < self.n_features_in_ for place in (*self._channels, *self._kept)):
            raise ValueError("channels that are not there")
        if C + len(self._kept) != self.n_features_in_:
            raise ValueError(f"{self.n_features_in_} features, of which {C} are known")

    # ---- names -----------------------------------------------------------------------------

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the outputs.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Names of the columns or channels where fit saw none; without, ``x0``, ... in a table,
            ``channel_0``, ... in a panel.

        Returns
        -------
        ndarray of str
        """
        check_is_fitted(self)
        names = self._all_names(input_features)
        kept = [names[k] for k in self._kept]
        outputs = self._as_in_fit()._output_names([names[k] for k in self._channels])
        return np.array([*kept, *outputs], dtype=object)

    def _names(self) -> list[str]:
        return [self._all_names(None)[k] for k in self._channels]

    def _all_names(self, input_features: Any) -> list[str]:
        if self.form_ == "frame" and input_features is None:
            return [str(label) for label in self._columns or []]
        names = _check_feature_names_in(self, input_features)
        return channel_names(names, self.form_, input_features is not None)

    def _output_names(self, names: list[str]) -> list[str]:
        outputs = [*names, *(f"{names[c]}_missing" for c in self.indicator_features_)]
        if self.time_since_observed:
            outputs += [
                f"{names[c]}_since_observed" for c in np.flatnonzero(~np.isnan(self.center_))
            ]
        return outputs
