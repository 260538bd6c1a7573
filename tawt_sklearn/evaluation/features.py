"""A fixed table of features per subject, which detectors, models and distances work on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tawt_sklearn.evaluation._frames import Histories, read_histories, rounded
from tawt_sklearn.evaluation._statistics import tally
from tawt_sklearn.events.coerce import holds_events
from tawt_sklearn.exceptions import DataError
from tawt_sklearn.tokens import statics
from tawt_sklearn.tokens.features import plain_names
from tawt_sklearn.tokens.segments import Segments, statistics_of_numbers

MAX_CODES = 200
"""Codes that get columns, the most frequent ones, unless asked otherwise."""

MAX_LEVELS = 20
"""Texts of a code, and categories of a static column, that get columns."""

HISTORY = ("events", "times", "span", "events_per_time")
GAPS = ("gap_mean", "gap_sd", "gap_median", "gap_max")
NUMBERS = ("mean", "sd", "min", "max", "first", "last", "step")
PREFIX = "history__"


@dataclass(frozen=True)
class Layout:
    """Which features there are.

    Attributes
    ----------
    codes : list
        By falling frequency.
    numeric : set
        Those with numbers.
    levels : dict
        The most frequent texts of those with texts.
    static : dict
        The most frequent categories of each static column, None for numbers.
    """

    codes: list[Any]
    numeric: set[Any]
    levels: dict[Any, list[str]]
    static: dict[Any, list[str] | None]

    @classmethod
    def learn(cls, histories: Histories, max_codes: int | None = MAX_CODES) -> Layout:
        """The most frequent codes, texts and categories."""
        n = np.bincount(histories.code, minlength=len(histories.codes))
        frequent = [k for k in np.argsort(-n, kind="stable").tolist() if n[k]][:max_codes]
        number, category = histories.is_number(), histories.is_category()
        static: dict[Any, list[str] | None] = {}
        for name in histories.static_names:
            column = histories.frame[name]
            numeric = statics.column_kind(column) == "numeric"
            static[name] = None if numeric else statics.learn_levels(column)[:MAX_LEVELS]
        return cls(
            [histories.codes[k] for k in frequent],
            {histories.codes[k] for k in frequent if number[k]},
            {histories.codes[k]: _levels(histories, k) for k in frequent if category[k]},
            static,
        )

    @property
    def names(self) -> list[str]:
        """Names of the features, in the order of the columns."""
        names = [PREFIX + name for name in (*HISTORY, *GAPS)]
        names += [f"{code}__count" for code in self.codes]
        names += [f"{code}__{name}" for code in self._numeric for name in NUMBERS]
        names += [f"{code}={level}__count" for code, level in self._pairs]
        names += [f"{code}__changes" for code in self.levels]
        for name, levels in self.static.items():
            names += [str(name)] if levels is None else [f"{name}={level}" for level in levels]
        return plain_names(names)

    @property
    def _numeric(self) -> list[Any]:
        return [code for code in self.codes if code in self.numeric]

    @property
    def _pairs(self) -> list[tuple[Any, str]]:
        return [(code, level) for code, levels in self.levels.items() for level in levels]

    def compute(self, histories: Histories) -> pd.DataFrame:
        """The features of each subject; float64 (B, n_features)."""
        place = {code: k for k, code in enumerate(self.codes)}
        column = np.array([place.get(code, -1) for code in histories.codes], np.int64)
        column = column[histories.code] if len(column) else histories.code
        parts = [
            _of_history(histories),
            _counts(histories.row, column, (len(histories), len(self.codes))),
            self._of_numbers(histories, column),
            *self._of_texts(histories, column),
            *self._of_statics(histories.frame),
        ]
        return pd.DataFrame(np.hstack(parts), histories.frame.index, self.names)

    def _of_numbers(self, histories: Histories, column: np.ndarray) -> np.ndarray:
        place = {code: k for k, code in enumerate(self._numeric)}
        V = len(place)
        column = np.array([*(place.get(code, -1) for code in self.codes), -1], np.int64)[column]
        column = np.where(np.isnan(histories.value), -1, column)
        table = np.full((len(histories), V, len(NUMBERS)), np.nan)
        segments = Segments.of(histories.row, column, histories.time, histories.value, max(V, 1))
        if len(segments.row):
            values = statistics_of_numbers(NUMBERS, segments)
            values["step"] = _mean_step(segments)
            for k, name in enumerate(NUMBERS):
                table[segments.row, segments.column, k] = values[name]
        return table.reshape(len(histories), -1)

    def _of_texts(self, histories: Histories, column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Counts of levels and numbers of changes."""
        B, n_texts = len(histories), max(len(histories.texts), 1)
        code_at = {code: k for k, code in enumerate(self.codes)}
        text_at = {text: k for k, text in enumerate(histories.texts)}
        key = np.where(histories.text >= 0, column * n_texts + histories.text, -1)
        wanted = np.array(
            [
                code_at[code] * n_texts + text_at[level] if level in text_at else -2
                for code, level in self._pairs
            ],
            np.int64,
        )
        order = np.argsort(wanted, kind="stable")
        at = np.searchsorted(wanted[order], key)
        found = (at < len(wanted)) & (key >= 0)
        found[found] = wanted[order][at[found]] == key[found]
        level = np.full(len(key), -1)
        level[found] = order[at[found]]
        counts = _counts(histories.row, level, (B, len(wanted)))

        place = {code: k for k, code in enumerate(self.levels)}
        of_code = np.array([*(place.get(code, -1) for code in self.codes), -1], np.int64)[column]
        events = histories.by_code((histories.text >= 0) & (of_code >= 0))
        row, code, text = histories.row[events], of_code[events], histories.text[events]
        change = (row[1:] == row[:-1]) & (code[1:] == code[:-1]) & (text[1:] != text[:-1])
        changed = np.flatnonzero(change) + 1
        return counts, _counts(row[changed], code[changed], (B, len(place)))

    def _of_statics(self, frame: pd.DataFrame) -> list[np.ndarray]:
        parts = []
        for name, levels in self.static.items():
            if levels is None:
                parts.append(statics.to_numbers(frame[name])[:, None])
            else:
                ids = statics.level_ids(frame[name], levels)
                parts.append((ids[:, None] == np.arange(len(levels))).astype(np.float64))
        return parts


def subject_features(X: Any, like: Any = None, *, max_codes: int | None = MAX_CODES) -> Any:
    """Describe each subject by the same documented numbers.

    Parameters
    ----------
    X : DataFrame or array
        One row per subject; anything :func:`~tawt_sklearn.as_events` takes.
    like : the same, or a DataFrame of features, default=None
        The columns are those that these data have (real data, as a rule), or that an earlier call
        returned.
    max_codes : int or None, default=200
        Only the most frequent codes of `like` (or `X`) get columns.

    Returns
    -------
    DataFrame of float64, (B, n_features)
        With the index of X and the columns:

        - ``history__events``, ``history__times`` (distinct ones), ``history__span`` (in time
          units), ``history__events_per_time``;
        - ``history__gap_mean``, ``_sd``, ``_median``, ``_max`` of the logarithms of the gaps
          between distinct times;
        - ``HR__count`` of each code; where it has numbers their ``mean``, ``sd`` (n - 1), ``min``,
          ``max``, ``first``, ``last`` and ``step``, the mean absolute difference of successive
          numbers; where it has texts ``ward=icu__count`` of the 20 most frequent and
          ``ward__changes``;
        - static columns: numbers as they are, others one-hot (all zero: missing, or not among the
          20 most frequent).

        What is undefined, such as the mean of a code that was never measured, is NaN; counts are
        0.  Missing histories count as ones without events.

    Raises
    ------
    DataError
        Tokenised events, other static columns than in `like`, dates among them.

    Examples
    --------
    >>> import pandas as pd
    >>> from tawt_sklearn import nest_events
    >>> events = pd.DataFrame({
    ...     "subject_id": [1, 1, 1, 2], "time": [0.0, 1.5, 3.0, 0.5],
    ...     "code": ["HR", "HR", "Temp", "HR"], "value": [80.0, 90.0, 37.5, 70.0]})
    >>> features = subject_features(nest_events(events))
    >>> features[["history__span", "HR__count", "HR__step", "Temp__mean"]]
                history__span  HR__count  HR__step  Temp__mean
    subject_id
    1                     3.0        2.0      10.0        37.5
    2                     0.0        1.0       NaN         NaN
    """
    if like is None:
        (histories,) = read_histories(X)
        return Layout.learn(histories, _checked(max_codes)).compute(histories)
    if isinstance(like, pd.DataFrame) and not holds_events(like):
        return _with_columns_of(like, X)
    reference, histories = read_histories(like, X, names=("like", "X"))
    return Layout.learn(reference, _checked(max_codes)).compute(histories)


def defined(features: pd.DataFrame) -> np.ndarray:
    """Positions of the columns that have a value: gradient boosting refuses those without any."""
    return np.flatnonzero(features.notna().any().to_numpy())


def _with_columns_of(features: pd.DataFrame, X: Any) -> pd.DataFrame:
    """The columns of an earlier call: 0 for counts of what X does not have, else NaN."""
    if PREFIX + HISTORY[0] not in features.columns:
        raise DataError(
            "Expected like to be event histories, or the result of subject_features. Got a frame "
            f"with the columns {list(features.columns[:5])}. Pass the real data themselves."
        )
    (histories,) = read_histories(X)
    made = Layout.learn(histories, None).compute(histories)
    absent = features.columns.difference(made.columns)
    # One-hot columns have no suffix, but a "=" that numeric features of codes do not have.
    zero = {c: 0.0 for c in absent if str(c).endswith(("__count", "__changes")) or "=" in str(c)}
    return made.reindex(columns=features.columns).fillna(zero)


def _checked(max_codes: Any) -> int | None:
    if max_codes is not None and not (isinstance(max_codes, int | np.integer) and max_codes > 0):
        raise DataError(
            f"Expected max_codes to be a whole number above 0, or None. Got {max_codes!r}."
        )
    return None if max_codes is None else int(max_codes)


def _levels(histories: Histories, code: int) -> list[str]:
    """The most frequent texts of a code, ties by label."""
    text = histories.text[(histories.code == code) & (histories.text >= 0)]
    n = np.bincount(text, minlength=len(histories.texts))
    return [histories.texts[k] for k in np.argsort(-n, kind="stable")[:MAX_LEVELS] if n[k]]


def _counts(row: np.ndarray, column: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Number of events of each subject and column, those in column -1 left out; (B, K)."""
    kept = column >= 0
    return tally(row[kept], column[kept], shape).toarray()


def _of_history(histories: Histories) -> np.ndarray:
    """Numbers of events and times, span, and the distribution of log gaps; (B, 8)."""
    row, time = histories.stamps()
    B = len(histories)
    n_times = np.bincount(row, minlength=B)
    table = np.full((B, len(HISTORY) + len(GAPS)), np.nan)
    table[:, 0], table[:, 1] = histories.lengths, n_times
    some = n_times > 0
    end = np.cumsum(n_times)
    table[some, 2] = rounded(time[end[some] - 1] - time[(end - n_times)[some]])
    table[some, 3] = histories.lengths[some] / n_times[some]
    follows = np.flatnonzero(row[1:] == row[:-1]) + 1
    gap, row = np.log(rounded(time[follows] - time[follows - 1])), row[follows]
    gap = gap[np.lexsort((gap, row))]
    gaps = Segments.of(row, np.zeros_like(row), gap, gap, 1)
    if len(gaps.row):
        values = statistics_of_numbers(("mean", "sd", "max"), gaps)
        begin, n = gaps.offsets[:-1], np.diff(gaps.offsets)
        values["median"] = (gap[begin + (n - 1) // 2] + gap[begin + n // 2]) / 2
        for k, name in enumerate(GAPS, len(HISTORY)):
            table[gaps.row, k] = values[name.removeprefix("gap_")]
    return table


def _mean_step(segments: Segments) -> np.ndarray:
    """Mean absolute difference of successive numbers, NaN for a single one; (S,)."""
    step = np.abs(np.diff(segments.value, prepend=segments.value[:1]))
    step[segments.offsets[:-1]] = 0
    total, n = np.add.reduceat(step, segments.offsets[:-1]), np.diff(segments.offsets) - 1
    return np.divide(total, n, out=np.full(len(n), np.nan), where=n > 0)
