"""TripletSequencer: raw event histories to tokens, as a scikit-learn transformer."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin, _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted, validate_data

from tawt_sklearn.events._dask_methods import lazy_on_dask
from tawt_sklearn.events.array import EventsArray
from tawt_sklearn.exceptions import DataError, DataWarning
from tawt_sklearn.persistence.savable import Savable
from tawt_sklearn.tokens import encoding
from tawt_sklearn.tokens._columns import check_like_fit, events_of, with_column
from tawt_sklearn.tokens.codebook import load_codebook
from tawt_sklearn.tokens.growth import grow_by_settings, grow_from_events, refuse_names, rename_seen
from tawt_sklearn.tokens.learning import learn
from tawt_sklearn.tokens.report import report_frame, some, summary_series, warn
from tawt_sklearn.tokens.vocabulary import N_SPECIAL, Vocabulary


@lazy_on_dask("inverse_transform", "transform")
class TripletSequencer(Savable, TransformerMixin, BaseEstimator):
    """Turn event histories into tokens: code ids, scaled values, category ids.

    Everything is learned in ``fit`` from the training rows: the vocabulary of codes, the scale of
    each code's values, the categories of codes with text, and how fast time passes.  The result
    is the same frame with the tokenised events column in place of the raw one, so that it goes on
    through Pipeline, ColumnTransformer, pickle and Parquet; static columns are passed through.

    Parameters
    ----------
    min_count : int, default=1
        Codes and categories seen less often in training are treated as unknown.
    max_events : int or None, default=None
        Keep the most recent events of longer histories, before anything is learned.  A warning
        says how many were cut.
    value_scaling : {"robust", "standard", "quantile"} or None, default="robust"
        Scaling of the numbers of each code.

        - ``"robust"``: median and interquartile range / 1.349.  Where more than half of the
          numbers are equal, the distance of the 5 % and 95 % quantiles / 3.29 takes its place,
          then the standard deviation, then 1.
        - ``"standard"``: mean and standard deviation (1 for constant codes).
        - ``"quantile"``: rank to normal score through a stored table of 37 quantiles, linear
          between them and beyond the ends.
        - ``None``: numbers stay as they are, and are not clipped.
    clip : float or None, default=5.0
        Scaled values are clipped to ``[-clip, clip]``.
    categorical_codes : "auto", list of codes or None, default="auto"
        ``"auto"``: texts of every code become categories, numbers stay numbers.  With a list, both
        texts and numbers of these codes are categories and other codes' texts are set aside.
        ``None`` or ``[]``: no categories.
    codes : dict or path of a .json, .yaml or .yml file, default=None
        Rules per code: ``{code: {kind, range, factor, log, label}}``, all optional.  ``kind`` is
        ``"numeric"``, ``"categorical"`` or ``"presence"``.  A value is first multiplied by
        ``factor``; outside ``range = [lowest, highest]`` (ends included, None = open) it is
        treated as missing and counted while the event stays; ``log: true`` then takes ``log1p``
        and treats negative values as out of range.  ``label`` is the name for display.
    time_origin : {"auto", "zero", "first", "end"}, default="auto"
        Where each row's clock starts: at zero, at its first event, or at its end.  ``"auto"``
        takes the known start of the observation window where there is one, else zero for numeric
        times and the first event for datetimes.
    verbose : int, default=0
        1 prints one line of totals after fitting.

    Attributes
    ----------
    vocabulary_ : Vocabulary
        All that was learned; its JSON travels with the dtype of the tokenised column.
    report_ : DataFrame
        What happened to the training events, one row per code (``[MISSING]`` = events without a
        code): ``n_events`` kept, ``n_truncated`` cut by ``max_events``; of those kept ``n_values``
        with a number, ``n_texts`` with a text, ``n_missing_value`` with neither,
        ``n_out_of_range`` whose number was set to missing, ``n_clipped``, ``n_ignored`` whose
        number or text the code's kind has no place for, ``n_rare_category`` with a category below
        ``min_count``, ``n_new_category`` with one not seen in fit, ``n_duplicates`` beyond the
        first of the same row, time and code (kept); ``token`` id (0 = unknown) and ``status``:
        known, rare (below ``min_count``), unknown (not seen in fit) or special.
    summary_ : Series
        Totals of the report, and the number of histories, empty and truncated ones.
    unused_rules_ : list of str
        Codes that ``codes`` has rules for and the training events lack.
    n_features_in_ : int
        Number of columns of the frame.
    feature_names_in_ : ndarray of str
        Names of its columns.

    See Also
    --------
    EventSummarizer : Histories to a plain 2-D table of statistics.

    Notes
    -----
    Unknown codes become ``[UNK]`` tokens without value, unknown categories the ``[UNK]`` category
    of their code; both are counted, and warned about once per call.  Events without a code become
    ``[MISSING]`` tokens.  Of each row's clock the tokenised column knows ``start`` (the origin)
    and ``end`` (known end, else last event), both always finite.  The typical gap and the time
    quantiles come from a sample of at most 131,072 events with a fixed seed; value scales are
    exact.

    Examples
    --------
    >>> import pandas as pd
    >>> from tawt_sklearn import TripletSequencer, nest_events
    >>> events = pd.DataFrame({
    ...     "subject_id": [1, 1, 1, 2], "time": [0.0, 1.5, 3.0, 0.5],
    ...     "code": ["HR", "HR", "Temp", "HR"], "value": [80.0, 90.0, 37.5, 70.0]})
    >>> X = nest_events(events)
    >>> sequencer = TripletSequencer().fit(X)
    >>> sequencer.vocabulary_.codes
    ('[UNK]', '[MISSING]', '[MASK]', 'HR', 'Temp')
    >>> tokens = sequencer.transform(X)["events"].events
    >>> tokens.flat("code").tolist(), tokens.flat("value").round(2)
    ([3, 3, 4, 3], array([ 0.  ,  1.35,  0.  , -1.35], dtype=float32))
    >>> sequencer.inverse_transform(sequencer.transform(X))["events"].events.flat("value").tolist()
    [80.0, 90.0, 37.5, 70.0]
    """

    _parameter_constraints: dict = {
        "min_count": [Interval(Integral, 1, None, closed="left")],
        "max_events": [Interval(Integral, 1, None, closed="left"), None],
        "value_scaling": [StrOptions({"robust", "standard", "quantile"}), None],
        "clip": [Interval(Real, 0, None, closed="neither"), None],
        "categorical_codes": [StrOptions({"auto"}), "array-like", set, None],
        "codes": [dict, str, os.PathLike, None],
        "time_origin": [StrOptions({"auto", "zero", "first", "end"})],
        "verbose": ["verbose"],
    }

    vocabulary_: Vocabulary
    report_: pd.DataFrame
    summary_: pd.Series
    unused_rules_: list[str]
    _seen: encoding.Seen

    _saved_private = ("_seen",)

    def __init__(
        self,
        *,
        min_count: int = 1,
        max_events: int | None = None,
        value_scaling: Literal["robust", "standard", "quantile"] | None = "robust",
        clip: float | None = 5.0,
        categorical_codes: Any = "auto",
        codes: Mapping[Any, Any] | str | os.PathLike[str] | None = None,
        time_origin: Literal["auto", "zero", "first", "end"] = "auto",
        verbose: int = 0,
    ) -> None:
        self.min_count = min_count
        self.max_events = max_events
        self.value_scaling = value_scaling
        self.clip = clip
        self.categorical_codes = categorical_codes
        self.codes = codes
        self.time_origin = time_origin
        self.verbose = verbose

    # ---- fit -------------------------------------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn the vocabulary, scales, categories and time scale of the training histories.

        Parameters
        ----------
        X : DataFrame
            One row per subject with a raw events column, or another form that
            :func:`~tawt_sklearn.as_events` takes.
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        DataError
            No events column, missing (NA) or only empty histories, tokenised content, infinite
            values, no code as frequent as ``min_count``, a faulty rule in ``codes``.
        NotNestedError
            X is a long table.
        """
        self._fit(X, y)
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def fit_transform(self, X: Any, y: Any = None, **fit_params: Any) -> pd.DataFrame:
        """Fit, and tokenise the same histories in one go.

        Parameters
        ----------
        X : DataFrame
            As in :meth:`fit`.
        y, **fit_params : ignored

        Returns
        -------
        DataFrame
            As from :meth:`transform`.
        """
        frame, position, array, raw, encoded = self._fit(X, y)
        return self._output(frame, position, array, raw, encoded)

    def _fit(
        self, X: Any, y: Any
    ) -> tuple[pd.DataFrame, int, EventsArray, encoding.RawEvents, encoding.Encoded]:
        frame, position, array = events_of(X)
        dtype = array.dtype
        if dtype.vocabulary is not None:
            raise DataError(
                f"Expected raw events. Got column {frame.columns[position]!r}, which is tokenised "
                "already. Fit on the raw column (inverse_transform of the sequencer that made the "
                "tokens gives it back)."
            )
        if not len(array.time):
            raise DataError(
                f"Expected events to learn from. Got {len(frame)} histories, all of them empty."
            )
        rules = load_codebook(self.codes)
        categorical = _categorical(self.categorical_codes)
        rule: str = self.time_origin
        if rule == "auto":
            rule = "zero" if dtype.timezone is None else "first"
        known_start = self.time_origin == "auto"
        raw = encoding.RawEvents.of(
            array, rule=rule, known_start=known_start, max_events=self.max_events
        )
        vocabulary, seen, encoded = learn(
            raw,
            min_count=self.min_count,
            value_scaling=self.value_scaling,
            clip=self.clip,
            categorical=categorical,
            rules=rules,
            clock={
                "time_unit": dtype.time_unit,
                "timezone": dtype.timezone,
                "time_origin": rule,
                "known_start": known_start,
            },
        )
        names = {str(code) for code in seen.codes}
        if categorical != "auto" and (absent := sorted(categorical - names)):
            warnings.warn(
                f"categorical_codes names codes that the histories given to fit do not hold: "
                f"{some(absent)}.",
                DataWarning,
                stacklevel=4,
            )
        report = report_frame(raw, encoded, vocabulary)
        # Only now: whatever failed above leaves no half-fitted estimator behind.
        validate_data(self, frame, skip_check_array=True)
        self.vocabulary_ = vocabulary
        self.report_ = report
        self.summary_ = summary_series(raw, encoded, report, len(frame))
        self.unused_rules_ = sorted(set(rules) - names)
        self._seen = seen
        if self.verbose:
            print(f"[TripletSequencer] {self._totals()}")
        return frame, position, array, raw, encoded

    def _totals(self) -> str:
        s = self.summary_
        return (
            f"{s['n_histories']:,} histories ({s['n_empty']:,} empty), {s['n_events']:,} events, "
            f"{len(self.vocabulary_) - N_SPECIAL:,} codes; {s['n_clipped']:,} values "
            f"clipped, {s['n_out_of_range']:,} out of range, {s['n_rare']:,} events of rare codes"
        )

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "vocabulary_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []
        return tags

    # ---- more codes after fit --------------------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=True)
    def add_codes(self, codes: Any) -> Self:
        """Give codes that fit did not know a place behind all others.

        What is known already keeps its ids, scales and categories: data tokenised before and after
        mean the same, and a network that was trained on the tokens goes on where it knows them.

        Parameters
        ----------
        codes : dict, or DataFrame of histories
            - Histories, in a form that :meth:`transform` takes: their codes without a token are
              learned from their own events as in :meth:`fit`, by the same parameters; those below
              ``min_count`` stay rare.  Known codes in them are left as they are, so that a
              category they have there for the first time stays unknown.
            - ``{code: settings}``, where there are no data yet.  The settings are those of the
              parameter ``codes``, whose rule for the code fills in what is not given, and

              - ``"center"`` and ``"scale"`` of numeric codes, in the unit of the values after
                ``factor`` and ``log``; a median or mean, and a standard deviation or what stands
                for it.  Required unless ``value_scaling=None``;
              - ``"categories"``, a list of texts, or of texts and numbers; required for
                categorical codes, possible for numeric ones.

              ``{"kind": "presence"}`` is enough for a code without values.

        Returns
        -------
        self
            ``vocabulary_`` is the grown one.  ``report_``, ``summary_`` and ``unused_rules_`` stay
            those of ``fit``, and another ``fit`` starts anew, without the codes added here.

        Raises
        ------
        DataError
            Names alone; a code that is known already; a setting that is missing, faulty or of no
            use; histories that :meth:`transform` refuses, or whose new codes are all below
            ``min_count``.  Nothing has changed then.

        Warns
        -----
        DataWarning
            The histories hold no new code, or the dictionary is empty.

        Examples
        --------
        >>> import numpy as np
        >>> from tawt_sklearn import TripletSequencer
        >>> sequencer = TripletSequencer().fit(np.arange(6.0).reshape(1, 2, 3))
        >>> sequencer.add_codes({"alarm": {"kind": "presence"}}).vocabulary_.codes[3:]
        ('channel_0', 'channel_1', 'alarm')
        """
        check_is_fitted(self)
        rules = load_codebook(self.codes)
        before = len(self.vocabulary_)
        if isinstance(codes, Mapping):
            grown, seen = grow_by_settings(self.vocabulary_, self._seen, codes, rules)
        else:
            refuse_names(codes)
            *_, raw = self._raw(codes)
            grown, seen = grow_from_events(
                self.vocabulary_,
                self._seen,
                raw,
                min_count=self.min_count,
                categorical=_categorical(self.categorical_codes),
                rules=rules,
            )
        added = list(grown.codes[before:])
        if not added:
            what = "an empty dictionary" if isinstance(codes, Mapping) else "no others"
            warnings.warn(
                f"Expected codes that are new to the vocabulary. Got {what}; nothing was added.",
                DataWarning,
                stacklevel=3,
            )
        self.vocabulary_, self._seen = grown, seen
        if self.verbose:
            print(f"[TripletSequencer] {len(added):,} codes added: {some(added)}")
        return self

    def rename_codes(self, names: Mapping[Any, Any]) -> Self:
        """Follow data in which codes got other names; ids, scales and categories stay.

        Parameters
        ----------
        names : dict
            ``{old: new}``.  Codes may swap their names.

        Returns
        -------
        self
            The old names are unknown from now on.  ``report_``, ``summary_`` and ``unused_rules_``
            stay those of ``fit``; another ``fit`` starts anew, from the names in its data.

        Raises
        ------
        DataError
            As from :meth:`~tawt_sklearn.tokens.vocabulary.Vocabulary.renamed`: a code that is not
            there, a name that is taken.  Nothing has changed then.
        """
        check_is_fitted(self)
        vocabulary = self.vocabulary_.renamed(names)
        seen = rename_seen(self._seen, self.vocabulary_, vocabulary)
        self.vocabulary_, self._seen = vocabulary, seen
        return self

    # ---- transform -------------------------------------------------------------------------

    def transform(self, X: Any) -> pd.DataFrame:
        """Tokenise the events column.

        Parameters
        ----------
        X : DataFrame
            Same columns as in fit.

        Returns
        -------
        DataFrame
            X with the tokenised events column in place of the raw one; same index, same columns.

        Raises
        ------
        DataError
            Missing (NA) histories, a column that is tokenised already, another clock or another
            type of codes than in fit, infinite values.

        Warns
        -----
        DataWarning
            Codes or categories not seen in fit; histories cut to ``max_events``.
        """
        frame, position, array, raw, encoded = self._encode(X)
        return self._output(frame, position, array, raw, encoded)

    def report(self, X: Any) -> pd.DataFrame:
        """Count what :meth:`transform` does to each code of ``X``.

        Parameters
        ----------
        X : DataFrame
            Same columns as in fit.

        Returns
        -------
        DataFrame
            Like ``report_``.  Nothing is warned about, and the estimator stays as it is.
        """
        _, _, _, raw, encoded = self._encode(X)
        return report_frame(raw, encoded, self.vocabulary_)

    def _encode(
        self, X: Any
    ) -> tuple[pd.DataFrame, int, EventsArray, encoding.RawEvents, encoding.Encoded]:
        frame, position, array, raw = self._raw(X)
        return frame, position, array, raw, encoding.encode(raw, self.vocabulary_, self._seen)

    def _raw(self, X: Any) -> tuple[pd.DataFrame, int, EventsArray, encoding.RawEvents]:
        """The events of a frame like that of fit."""
        check_is_fitted(self)
        frame, position, array = events_of(X)
        validate_data(self, frame, reset=False, skip_check_array=True)
        vocabulary = self.vocabulary_
        if array.dtype.vocabulary is not None:
            raise DataError(
                f"Expected raw events. Got column {frame.columns[position]!r}, which is tokenised "
                "already. Pass the raw frame, or leave this step out."
            )
        check_like_fit(array, vocabulary.time_unit, vocabulary.timezone, vocabulary.integer_codes)
        raw = encoding.RawEvents.of(
            array,
            rule=vocabulary.time_origin,
            known_start=vocabulary.known_start,
            max_events=self.max_events,
        )
        return frame, position, array, raw

    def _output(
        self,
        frame: pd.DataFrame,
        position: int,
        array: EventsArray,
        raw: encoding.RawEvents,
        encoded: encoding.Encoded,
    ) -> pd.DataFrame:
        warn(raw, encoded, self.max_events)
        vocabulary = self.vocabulary_
        tokens = array._replace(
            time=raw.time,
            code=encoded.token,
            value=encoded.value,
            text=encoded.text,
            offsets=raw.offsets,
            codes=vocabulary.code_index,
            texts=None if encoded.text is None else vocabulary.category_index,
            start=raw.origin,
            end=raw.end,
            vocabulary=vocabulary.to_json(),
        )
        return with_column(frame, position, tokens)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the columns that :meth:`transform` gives: those of its input.

        Parameters
        ----------
        input_features : array-like of str or None
            Must equal ``feature_names_in_`` if given.

        Returns
        -------
        ndarray of str
        """
        check_is_fitted(self)
        return _check_feature_names_in(self, input_features)

    # ---- inverse ---------------------------------------------------------------------------

    def inverse_transform(self, X: Any) -> pd.DataFrame:
        """Turn tokens back into codes, values, texts and times.

        Clipped values come back at the limit.  Events of unknown codes and of ``[MASK]`` and
        ``[MISSING]`` tokens come back without a code, unknown categories without a text, numbers
        of categorical codes as texts where the same text occurs.  A window end that was the last
        event comes back as known.

        Parameters
        ----------
        X : DataFrame
            With a tokenised events column made by this sequencer, before or after codes were
            added (or by one with the same vocabulary).

        Returns
        -------
        DataFrame
            X with the raw events column in place of the tokenised one.

        Raises
        ------
        DataError
            The events column is raw, or has tokens of another vocabulary.
        """
        check_is_fitted(self)
        frame, position, array = events_of(X)
        content = array.dtype.vocabulary
        if content is None:
            raise DataError(
                f"Expected a tokenised events column. Got column {frame.columns[position]!r} of "
                "raw events, which has nothing to undo."
            )
        vocabulary = Vocabulary.from_json(content)
        if not self.vocabulary_.extends(vocabulary):
            raise DataError(
                "Expected tokens made by this sequencer. Got tokens of another vocabulary. Use the "
                "fitted sequencer that made them."
            )
        raw = encoding.decode(array, vocabulary)
        return with_column(frame, position, array._replace(**raw, vocabulary=None))


def _categorical(codes: Any) -> Any:
    """The parameter ``categorical_codes`` as ``"auto"`` or a set of strings."""
    if isinstance(codes, str):
        return "auto"
    return set() if codes is None else {str(code) for code in codes}
