"""TimeEmbedder: times to features."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from numbers import Integral
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin, _fit_context
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted

from tawt_sklearn.events.coerce import holds_events
from tawt_sklearn.exceptions import DataError
from tawt_sklearn.persistence.savable import Savable
from tawt_sklearn.tokens import clocks, waves
from tawt_sklearn.tokens._atomic import restored_on_failure
from tawt_sklearn.tokens._output import PanelOutputMixin, warn_counted
from tawt_sklearn.tokens.event_times import EventTimes, check_loaded, read_events
from tawt_sklearn.tokens.forms import read_steps
from tawt_sklearn.tokens.steps import Form, Steps, channel_names, float_dtype

Method = Literal["sinusoidal", "time2vec", "delta", "log_delta", "calendar"]


class TimeEmbedder(Savable, PanelOutputMixin, TransformerMixin, BaseEstimator):
    """Turn times into features that a model can use: waves, differences, or the calendar.

    Parameters
    ----------
    method : {"sinusoidal", "time2vec", "delta", "log_delta", "calendar"}, default="sinusoidal"
        - ``"sinusoidal"``: ``sin(w t)`` and ``cos(w t)`` for ``n_frequencies`` angular frequencies
          ``w``, whose periods lie evenly on a log scale between the span of the training times and
          their typical gap; ``t`` counts from the smallest training time, in event histories from
          the start of each, if known, else its first event.
        - ``"time2vec"``: ``t`` over the span, then ``sin(w t + p)`` with ``w`` drawn log-uniformly
          from the same range and ``p`` from a full turn.  The start of what a network would
          refine; see :attr:`frequencies_`.
        - ``"delta"``: in a table, ``t``: the time since the smallest training time of the column;
          in a panel, the time since the step before, 0 at the first of each case; in event
          histories, the time since the distinct time before, 0 at the first of each history.
        - ``"log_delta"``: ``sign(d) log(1 + |d|)`` of that.
        - ``"calendar"``: hour of day (with its fraction), weekday and month, each as sine and
          cosine; in local time, where the times have a time zone.
    n_frequencies : int, default=8
        Number of waves per column of ``"sinusoidal"`` and ``"time2vec"``.
    channel : int or None, default=None
        For panels: the channel that holds the time; None = the number of the step, 0, 1, ...
    unit : {"ms", "s", "min", "h", "D"} or None, default=None
        Unit that dates and time differences are counted in; None = hours.  For ``"calendar"``, also
        the unit in which numbers count from 1970: without it numbers are refused.  None, or their
        own, for event histories, which must be timed in dates for ``"calendar"``.
    indicators : {"missing-only", "all"}, default="missing-only"
        Columns of times that get an indicator (1 = missing): those with missing times in fit, or
        all.  All features of a missing time are 0.  Of no effect on event histories, whose events
        always have a time.
    random_state : int, RandomState instance or None, default=None
        For ``"time2vec"``.

    Attributes
    ----------
    frequencies_ : ndarray of float64, (n_times, n_frequencies)
        Angular frequencies of each column of times, lowest first; a panel and event histories
        have one such column.
        Of ``"sinusoidal"`` and ``"time2vec"`` only.
    phases_ : ndarray of float64, (n_times, n_frequencies)
        Of ``"time2vec"`` only.
    reference_, span_, gap_ : ndarray of float64, (n_times,)
        Smallest time, distance to the largest, and median gap between successive times (distinct
        times of a table; steps of the same case of a panel); in ``unit``, in seconds for
        ``"calendar"``.  Of event histories, 0 (the start of each), the longest time from there,
        and the median gap between distinct times of the same history; in their unit.
    indicator_features_ : ndarray of int64
        Positions of the columns of times that have an indicator.
    form_ : {"table", "panel", "events"}
        What was given to fit.
    n_features_in_ : int
        Columns of a table or of a frame of event histories, channels of a panel.
    feature_names_in_ : ndarray of str
        Where X has column names that are all strings.

    See Also
    --------
    MissingMaskEncoder : Numbers and categories with missing values.

    Notes
    -----
    X is one of

    - a table: 2-D numbers, or a DataFrame whose columns hold numbers, dates or time differences.
      Every column is replaced by its features: choose the columns of times with a
      ``ColumnTransformer``;
    - a panel (n_cases, n_channels, n_timepoints), or a list of arrays (n_channels, n_timepoints_i).
      Its channels stay as they are, and those of time are added behind, also where ``set_output``
      asks for frames;
    - a DataFrame with a column of raw event histories, or another form of them that
      :func:`~tawt_sklearn.as_events` takes.  Every distinct time of every history gets one more
      event for each feature, behind those that are there: its code is the name of the feature
      (``"time_delta"``, ``"time_hour_sin"``, ...), its value the feature.  All else stays, missing
      and empty histories too.  The result is a DataFrame in any case.

    Put it before a ``TripletSequencer``, whose ``max_events`` counts the new events too.  The
    networks encode the time since a history's origin by themselves (``time_encoding``); the
    calendar they do not know without this class.

    References
    ----------
    Vaswani et al., "Attention Is All You Need", 2017; Kazemi et al., "Time2Vec: Learning a Vector
    Representation of Time", 2019.

    Examples
    --------
    >>> import pandas as pd
    >>> from tawt_sklearn import TimeEmbedder
    >>> X = pd.DataFrame({"admitted": pd.to_datetime(["2024-01-01 06:00", "2024-01-02 18:00"])})
    >>> TimeEmbedder(method="delta").set_output(transform="pandas").fit_transform(X)
       admitted_delta
    0             0.0
    1            36.0
    >>> embedder = TimeEmbedder(method="calendar").fit(X)
    >>> embedder.get_feature_names_out()[:2].tolist()
    ['admitted_hour_sin', 'admitted_hour_cos']
    >>> embedder.transform(X)[:, 0]
    array([ 1., -1.])

    Event histories get further events:

    >>> from tawt_sklearn import nest_events
    >>> events = pd.DataFrame({
    ...     "subject_id": 1, "time": [0.5, 0.5, 2.0], "code": ["HR", "Temp", "HR"],
    ...     "value": [80.0, 37.5, 90.0]})
    >>> TimeEmbedder(method="delta").fit_transform(nest_events(events))["events"].events.to_long()
       subject_id  time        code  value
    0           1   0.5          HR   80.0
    1           1   0.5        Temp   37.5
    2           1   0.5  time_delta    0.0
    3           1   2.0          HR   90.0
    4           1   2.0  time_delta    1.5
    """

    _parameter_constraints: dict = {
        "method": [StrOptions({"sinusoidal", "time2vec", "delta", "log_delta", "calendar"})],
        "n_frequencies": [Interval(Integral, 1, None, closed="left")],
        "channel": [Interval(Integral, 0, None, closed="left"), None],
        "unit": [StrOptions(set(clocks.SECONDS)), None],
        "indicators": [StrOptions({"missing-only", "all"})],
        "random_state": ["random_state"],
    }

    frequencies_: np.ndarray
    phases_: np.ndarray
    reference_: np.ndarray
    span_: np.ndarray
    gap_: np.ndarray
    indicator_features_: np.ndarray
    form_: Form | Literal["events"]
    n_features_in_: int
    feature_names_in_: np.ndarray
    _kinds: list[clocks.TimeKind]  # of each column of times
    _clock: str  # the dtype of event histories

    _saved_private = ("_kinds", "_clock", "_params_in_fit")

    def __init__(
        self,
        *,
        method: Method = "sinusoidal",
        n_frequencies: int = 8,
        channel: int | None = None,
        unit: Literal["ms", "s", "min", "h", "D"] | None = None,
        indicators: Literal["missing-only", "all"] = "missing-only",
        random_state: Any = None,
    ) -> None:
        self.method = method
        self.n_frequencies = n_frequencies
        self.channel = channel
        self.unit = unit
        self.indicators = indicators
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "indicator_features_")

    # ---- fit -------------------------------------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn the time scales, and where times are missing.

        Parameters
        ----------
        X : array, DataFrame, list of arrays or event histories
            See the notes of the class.
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        DataError
            Infinite numbers, columns that hold no times, numbers without ``unit`` for
            ``"calendar"``, ``channel`` for anything but a panel or beyond its channels; event
            histories that are tokenised, all empty, have integer codes or one of the new codes, or
            for ``"calendar"`` are timed in numbers.
        """
        with restored_on_failure(self):
            for name in ("frequencies_", "phases_", "_clock"):  # of a fit with another method
                self.__dict__.pop(name, None)
            if holds_events(X):
                self._learn_events(X)
            else:
                self._learn_steps(X)
            if self.method in ("sinusoidal", "time2vec"):
                self._choose_waves()
            self._params_in_fit = self.get_params(deep=False)
        return self

    def _learn_steps(self, X: Any) -> None:
        steps = self._read(X, reset=True)
        self._check_channel(steps)
        self.form_ = steps.form
        names = self._time_names(self._names(None))
        times = list(self._times(steps, names))
        self._kinds = [kind for kind, _ in times]
        offsets = None if steps.form == "table" else steps.clock()[1]
        scales = [waves.time_scales(time, offsets) for _, time in times]
        self.reference_, self.span_, self.gap_ = np.array(scales).T
        gaps = [self.indicators == "all" or bool(np.isnan(time).any()) for _, time in times]
        self.indicator_features_ = np.flatnonzero(gaps)

    def _learn_events(self, X: Any) -> None:
        events, _ = self._read_events(X, reset=True)
        self.form_ = "events"
        self._kinds, self._clock = [events.kind], events.array.dtype.name
        self.reference_, self.span_, self.gap_ = np.array([events.scales()]).T
        self.indicator_features_ = np.empty(0, np.int64)

    def _choose_waves(self) -> None:
        n, ranges = self.n_frequencies, list(zip(self.gap_, self.span_, strict=True))
        if self.method == "sinusoidal":
            self.frequencies_ = np.array([waves.log_frequencies(n, *ends) for ends in ranges])
            return
        # Not NumPy's global state, which is the user's.
        own = np.random.RandomState() if self.random_state is None else self.random_state
        rng = check_random_state(own)
        drawn = [waves.draw_waves(n, *ends, rng) for ends in ranges]
        self.frequencies_ = np.array([frequencies for frequencies, _ in drawn])
        self.phases_ = np.array([phases for _, phases in drawn])

    def _read(self, X: Any, *, reset: bool) -> Steps:
        if isinstance(X, np.ndarray) and X.dtype.kind in "mMO" and X.ndim == 2:
            frame = pd.DataFrame(X).infer_objects()
            if not frame.select_dtypes(["datetime", "datetimetz", "timedelta"]).empty:
                X = frame
        return read_steps(self, X, reset=reset, long_frames=False)

    def _read_events(self, X: Any, *, reset: bool) -> tuple[EventTimes, list[str]]:
        """The times of event histories, and the codes of the events that are added."""
        suffixes = waves.feature_names(self.method, self.n_frequencies)
        codes = [f"time_{suffix}" for suffix in suffixes]
        return read_events(self, X, codes, reset=reset), codes

    def _check_channel(self, steps: Steps) -> None:
        if self.channel is None:
            return
        if steps.form == "table":
            raise DataError(
                f"Expected a panel (n_cases, n_channels, n_timepoints) for channel={self.channel}. "
                "Got a table, all of whose columns are times. Leave channel at None."
            )
        if self.channel >= len(steps.columns):
            raise DataError(
                f"Expected channel to be 0 to {len(steps.columns) - 1}. Got {self.channel}."
            )

    def _times(
        self, steps: Steps, names: list[str]
    ) -> Iterator[tuple[clocks.TimeKind, np.ndarray]]:
        """What every column of times holds, and the times as float64 on one clock, (N,)."""
        channels = range(len(steps.columns)) if self.channel is None else [self.channel]
        by_step = steps.form == "panel" and self.channel is None
        for c, name in zip([0] if by_step else channels, names, strict=True):
            column, kind = clocks.as_times(steps.columns[c], name)
            if by_step:
                column = steps.clock()[2]
            elif kind == "number":
                column = steps.numbers(c, name)
            if self.method == "calendar":
                yield kind, clocks.to_local_seconds(column, kind, self.unit, name)
            else:
                yield kind, clocks.to_clock(column, self.unit or "h")

    # ---- transform -------------------------------------------------------------------------

    def _transform(self, X: Any) -> Any:
        if holds_events(X):
            return self._transform_events(X)
        steps = self._read(X, reset=False)
        outputs = self.get_feature_names_out()
        dtype = steps.dtype
        if steps.frame is not None:
            dtype = float_dtype(column.dtype for column in steps.columns)
        limit = float(np.finfo(dtype).max)
        out = steps.empty(len(outputs), dtype)
        k = 0
        if steps.form == "panel":
            for k, column in enumerate(steps.columns, start=1):
                steps.put(out, k - 1, column)
        unmarked: dict[str, int] = {}
        offsets = None if steps.form == "table" else steps.clock()[1]
        names = self._time_names(self._names(None))
        for n, (kind, time) in enumerate(self._times(steps, names)):
            if kind != self._kinds[n]:
                raise DataError(
                    f"Expected {self._kinds[n]}s in {names[n]!r}, as in fit. Got {kind}s. Convert "
                    "the column."
                )
            missing = np.isnan(time)
            for feature in self._features(n, time, offsets):
                feature[missing] = 0
                steps.put(out, k, np.clip(feature, -limit, limit))
                k += 1
            if n in self.indicator_features_:
                steps.put(out, k, missing)
                k += 1
            else:
                unmarked[names[n]] = int(missing.sum())
        warn_counted(
            unmarked,
            "missing times are in columns that had none in fit, and so no indicator, and have "
            'features of 0; indicators="all" tells them apart',
        )
        return steps.finish(out, outputs)

    def _transform_events(self, X: Any) -> pd.DataFrame:
        events, codes = self._read_events(X, reset=False)
        time = events.local_seconds() if self.method == "calendar" else events.since_start()
        return events.with_features(codes, self._features(0, time, events.offsets))

    def _features(
        self, n: int, time: np.ndarray, offsets: np.ndarray | None
    ) -> Iterable[np.ndarray]:
        """Features of column ``n`` of times, each a fresh array of float64, (N,).

        ``offsets`` (B + 1,) say where cases begin; None = the times have no order.
        """
        if self.method == "calendar":
            return waves.calendar_waves(time)
        elapsed = waves.elapsed(time, self.reference_[n])
        if self.method == "sinusoidal":
            return waves.sinusoids(elapsed, self.frequencies_[n])
        if self.method == "time2vec":
            return waves.time2vec(elapsed, self.span_[n], self.frequencies_[n], self.phases_[n])
        if offsets is not None:
            elapsed = waves.since_previous(time, offsets)
        return [elapsed if self.method == "delta" else waves.signed_log1p(elapsed)]

    def _check_loaded(self) -> None:
        fitted = self._as_in_fit()
        n_times = self.n_features_in_ if self.form_ == "table" else 1
        arrays: list[Any] = [self.reference_, self.span_, self.gap_, self._kinds]
        if not all(len(array) == n_times for array in arrays):
            raise ValueError(f"scales of another number of times than {n_times}")
        for name in ("frequencies_", "phases_"):
            shape = (n_times, fitted.n_frequencies)
            if hasattr(self, name) and getattr(self, name).shape != shape:
                raise ValueError(f"{name} not of shape {shape}")
        wanted = {"sinusoidal": ("frequencies_",), "time2vec": ("frequencies_", "phases_")}
        if not all(hasattr(self, name) for name in wanted.get(fitted.method, ())):
            raise ValueError("no frequencies")
        if not all(0 <= place < n_times for place in self.indicator_features_.tolist()):
            raise ValueError("times that are not there")
        if self.form_ == "events":
            check_loaded(fitted)

    # ---- names -----------------------------------------------------------------------------

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the outputs.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Names of the columns or channels where fit saw none; ``x0``, ``x1``, ... for a table,
            ``channel_0``, ``channel_1``, ... for a panel without.

        Returns
        -------
        ndarray of str
            In a panel those of the channels come first, and the features of time are called after
            the channel that holds it, else ``time_...``.  Of event histories, the columns of the
            frame.
        """
        check_is_fitted(self)
        if self.form_ == "events":
            return _check_feature_names_in(self, input_features)
        names, fitted = self._names(input_features), self._as_in_fit()
        suffixes = waves.feature_names(fitted.method, fitted.n_frequencies)
        outputs = list(names) if self.form_ == "panel" else []
        for n, name in enumerate(fitted._time_names(names)):
            outputs += [f"{name}_{suffix}" for suffix in suffixes]
            if n in self.indicator_features_:
                outputs.append(f"{name}_missing")
        return np.array(outputs, dtype=object)

    def _names(self, input_features: Any) -> list[str]:
        names = _check_feature_names_in(self, input_features)
        return channel_names(names, self.form_, input_features is not None)

    def _time_names(self, names: list[str]) -> list[str]:
        """Names of the columns of times."""
        if self.form_ == "table":
            return names
        return ["time" if self.channel is None else names[self.channel]]
