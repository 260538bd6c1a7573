"""What fit was given, and new subjects in the same form."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_array, validate_data

from tawt_sklearn.estimators._input import read_labels, read_rows, require_events
from tawt_sklearn.estimators._preparation import Preparation, refuse_other_form
from tawt_sklearn.events._dask_methods import refuse_dask
from tawt_sklearn.events.array import EventsArray
from tawt_sklearn.events.coerce import as_events, channels_of, find_events, is_numbers
from tawt_sklearn.events.dtype import EventsDtype
from tawt_sklearn.exceptions import DataError
from tawt_sklearn.synthesis.gaps import multiples, settled
from tawt_sklearn.synthesis.grammar import Grammar
from tawt_sklearn.synthesis.histories import FIRST, START, WINDOW
from tawt_sklearn.synthesis.sampling import Written
from tawt_sklearn.synthesis.symbols import BOTH, LEVEL, NUMERIC

Given = Literal["events", "series", "panel"]


@dataclass(frozen=True)
class Form:
    """Columns, dictionaries and shapes of fit.

    Attributes
    ----------
    columns : list
        Names, in order.
    events_name : str
        The one of the histories.
    dtype : EventsDtype
    codes, texts : Index
        Dictionaries of the histories; no texts where there were none.
    knows_start, knows_end : bool
        Whether histories had an observation window.
    given : {"events", "series", "panel"}
        What ``X`` was: histories, numbers (n, n_timepoints), or a panel
        (n, n_channels, n_timepoints).
    array_shape : tuple of int or None
        Of a row, where ``X`` was an array.
    label_shape : tuple of int or None
        Of a row of ``y``, None where there was none.
    """

    columns: list[Any]
    events_name: Any
    dtype: EventsDtype
    codes: pd.Index
    texts: pd.Index | None
    knows_start: bool
    knows_end: bool
    given: Given
    array_shape: tuple[int, ...] | None
    label_shape: tuple[int, ...] | None

    @classmethod
    def fit(cls, estimator: BaseEstimator, X: Any, y: Any) -> tuple[Form, pd.DataFrame]:
        """Learn from what was given; give the rows as a frame of histories, too.

        The estimator learns the number and the names of the features.
        """
        frame, given, array_shape = _some_rows(estimator, X)
        require_events(frame)
        label_shape = None if y is None else _label_shape(y, X, len(frame))
        name = find_events(frame)
        events: EventsArray = frame[name].array
        form = cls(
            columns=list(frame.columns),
            events_name=name,
            dtype=events.dtype,
            codes=events.codes,
            texts=events.texts,
            knows_start=not np.isnan(events.start).all(),
            knows_end=not np.isnan(events.end).all(),
            given=given,
            array_shape=array_shape,
            label_shape=label_shape,
        )
        return form, frame

    @property
    def n_labels(self) -> int:
        """Of a row."""
        return 0 if self.label_shape is None else int(np.prod(self.label_shape))

    # ---- reading -----------------------------------------------------------------------------

    def read(self, estimator: BaseEstimator, X: Any, preparation: Preparation) -> pd.DataFrame:
        """Rows of histories, as they were in fit."""
        frame, _, _ = _some_rows(estimator, X, self.given, preparation)
        if list(frame.columns) != self.columns:
            raise DataError(
                f"Expected the columns of fit, {self.columns}. Got {list(frame.columns)}."
            )
        return frame

    def parts(self, frame: pd.DataFrame) -> tuple[EventsArray, pd.DataFrame]:
        """Histories, with the dictionaries of fit, and static columns."""
        missing = frame[self.events_name].isna()
        if missing.any():
            raise DataError(
                f"Expected a history in every row of column {self.events_name!r}; it may be empty. "
                f"Got NA in {int(missing.sum())} rows. Drop these rows or give them an empty "
                "history."
            )
        events = self._translated(frame[self.events_name].array)
        return events, frame.drop(columns=self.events_name)

    def _translated(self, events: EventsArray) -> EventsArray:
        """The same events with the code and text ids of fit; -1 for what was not there."""
        same_texts = events.texts is None or (
            self.texts is not None and events.texts.equals(self.texts)
        )
        if events.codes.equals(self.codes) and same_texts:
            return events
        code_of = np.append(self.codes.get_indexer(events.codes), -1)
        changes: dict[str, Any] = {"code": code_of[events.code], "codes": self.codes}
        if self.texts is None:
            changes |= {"text": None, "texts": None}
        elif events.text is not None and events.texts is not None:
            text_of = np.append(self.texts.get_indexer(events.texts), -1)
            changes |= {"text": text_of[events.text], "texts": self.texts}
        return events._replace(**changes)

    def labels(self, y: Any, n: int) -> pd.DataFrame:
        """Labels of fit as columns; none without labels."""
        if y is None:
            return pd.DataFrame(index=range(n))
        is_known = isinstance(y, list | np.ndarray | pd.Series | pd.DataFrame)
        table = pd.DataFrame(y if is_known else np.asarray(y))
        if table.isna().to_numpy().any():
            raise DataError(
                f"Expected labels in all rows. Got {int(table.isna().any(axis=1).sum())} rows "
                "without. Drop them, or fit without y."
            )
        numbers = table.select_dtypes("number").to_numpy(np.float64, na_value=np.nan)
        if np.isinf(numbers).any():
            raise DataError("Expected finite labels. Got infinity. Replace it, or drop these rows.")
        return table.set_axis(range(table.shape[1]), axis=1).reset_index(drop=True)

    def labels_of(self, y: Any, X: Any, n: int) -> pd.DataFrame:
        """Labels of the n rows of ``X`` as columns, as in fit."""
        _label_shape(y, X, n)
        return self.labels(self.given_labels(y), n)

    def given_labels(self, y: Any) -> pd.DataFrame:
        """Labels as columns, one row or all."""
        K = self.n_labels
        if isinstance(y, dict | set):
            raise DataError(
                f"Expected y to be a label, or an array of them. Got a {type(y).__name__}."
            )
        labels = np.asarray(y, object)
        if labels.ndim > 2 or (labels.shape[-1:] != (K,) and (labels.ndim == 2 or K > 1)):
            raise DataError(
                f"Expected {K} labels of each subject, as in fit. Got an array of shape "
                f"{labels.shape}."
            )
        return pd.DataFrame(labels.reshape(-1, K)).infer_objects()

    # ---- what too few have -------------------------------------------------------------------

    def without_rare(self, frame: pd.DataFrame, grammar: Grammar) -> pd.DataFrame:
        """Rows of fit without codes, texts and categories that too few subjects have.

        Their names are left out, too, except those of a vocabulary that was there before.
        """
        frame = frame.copy(deep=False)
        if self.dtype.vocabulary is None:
            frame[self.events_name] = self._common_events(frame[self.events_name].array, grammar)
        return self._common_statics(frame, grammar)

    def with_known_names(self, frame: pd.DataFrame, grammar: Grammar) -> pd.DataFrame:
        """Rows without texts and categories that fit left out, or did not see."""
        frame = frame.copy(deep=False)
        events = frame[self.events_name].array
        if self.dtype.vocabulary is None and events.texts is not None:
            translated = self._translated(events)
            frame[self.events_name] = events._replace(text=translated.text, texts=translated.texts)
        return self._common_statics(frame, grammar)

    def _common_statics(self, frame: pd.DataFrame, grammar: Grammar) -> pd.DataFrame:
        for name in frame.columns.drop(self.events_name):
            column = grammar.columns["static", name]
            if pd.api.types.is_numeric_dtype(column.dtype):
                continue
            if isinstance(frame[name].dtype, pd.CategoricalDtype):
                names = getattr(column.dtype, "categories", column.levels)
                frame[name] = frame[name].cat.set_categories(names)
            else:
                frame[name] = frame[name].where(column.read(frame[name])[0] >= 0)
        return frame

    def _common_events(self, events: EventsArray, grammar: Grammar) -> EventsArray:
        n, offsets = len(events), events.offsets
        place = np.full(len(self.codes) + 1, -1)  # the last one is that of no code
        place[grammar.kept] = np.arange(len(grammar.kept))
        code = place[events.code]
        kept = code >= 0
        texts, text = None, None
        if self.texts is not None and events.text is not None:
            used = grammar.texts_used()
            of_text = np.full(len(self.texts) + 1, -1)
            of_text[used] = np.arange(len(used))
            texts, text = self.texts[used], of_text[events.text][kept]
        row = np.repeat(np.arange(n), np.diff(offsets))[kept]
        return EventsArray.from_flat(
            time=events.time[kept],
            code=code[kept],
            value=events.value[kept],
            text=text,
            offsets=np.concatenate([[0], np.cumsum(np.bincount(row, minlength=n))]),
            codes=self.codes[grammar.kept],
            texts=texts,
            start=events.start,
            end=events.end,
            **{name: getattr(self.dtype, name) for name in EventsDtype._metadata},
        )

    def of_common(self, grammar: Grammar) -> tuple[Form, Grammar]:
        """The same with the names alone that the grammar uses, and the grammar of these."""
        if self.dtype.vocabulary is not None:
            return self, grammar
        used = grammar.texts_used()
        texts = None if self.texts is None else self.texts[used]
        text = np.where(grammar.text < 0, -1, np.searchsorted(used, grammar.text))
        form = replace(self, codes=self.codes[grammar.kept], texts=texts)
        return form, replace(grammar, kept=np.arange(len(grammar.kept)), text=text)

    # ---- what is asked for -------------------------------------------------------------------

    def number_of_rows(self, n: Any, y: Any, static: Any) -> int:
        """How many subjects are to be written."""
        sizes = {"n": n, "static": None, "y": None}
        if static is not None and len(static) != 1:
            sizes["static"] = len(static)
        if y is not None and np.ndim(y) > len(self.label_shape or ()):
            sizes["y"] = len(y)
        told = {name: size for name, size in sizes.items() if size is not None}
        if len(set(told.values())) > 1:
            said = " and ".join(f"{size} of {name}" for name, size in told.items())
            raise DataError(f"Expected one number of subjects. Got {said}.")
        if n is None and 0 in told.values():
            raise DataError(f"Expected one subject or more. Got {next(iter(told))} of none.")
        found = next(iter(told.values()), 1)
        if isinstance(found, bool) or not isinstance(found, int | np.integer) or found < 1:
            raise ValueError(f"Expected n to be an integer of 1 or more. Got {found!r}.")
        return int(found)

    def asked(self, y: Any, static: Any) -> dict[str, pd.DataFrame]:
        """Static columns and labels that new subjects are to have, by ``"static"``, ``"label"``."""
        frames: dict[str, pd.DataFrame] = {}
        if static is not None:
            if not isinstance(static, pd.DataFrame):
                raise DataError(f"Expected static to be a DataFrame. Got {type(static).__name__}.")
            known = [name for name in self.columns if name != self.events_name]
            if odd := [name for name in static.columns if name not in known]:
                raise DataError(f"Expected static columns of fit, {known}. Got {odd[0]!r}, too.")
            if not static.columns.is_unique:
                twice = static.columns[static.columns.duplicated()][0]
                raise DataError(f"Expected each static column once. Got {twice!r} twice.")
            frames["static"] = static
        if y is not None:
            if not self.n_labels:
                raise DataError("Expected labels in fit to ask for some. Got fit(X) without y.")
            frames["label"] = self.given_labels(y)
        return frames

    # ---- writing -----------------------------------------------------------------------------

    def write(
        self, written: Written, grammar: Grammar, asked: dict[str, pd.DataFrame] | None = None
    ) -> tuple[pd.DataFrame, NDArray | None]:
        """A frame of the histories that were written, with exactly what was asked for; labels."""
        asked = asked or {}
        n = len(written.prefix_symbol)
        whole = {
            name: grammar.whole(k, written.prefix_symbol[:, k], written.prefix_share[:, k])
            for k, name in enumerate(grammar.prefix)
        }

        def column(kind: str, name: Any) -> pd.Series:
            drawn = grammar.columns[kind, name].written(*whole[kind, name], name)
            return _exact(drawn, asked.get(kind), name)

        columns: dict[Any, Any] = {}
        for name in self.columns:
            if name == self.events_name:
                columns[name] = pd.Series(self._events(written, grammar, whole))
            else:
                columns[name] = column("static", name)
        frame = pd.DataFrame(columns)
        if self.label_shape is None:
            return frame, None
        y = pd.concat([column("label", k) for k in range(self.n_labels)], axis=1).to_numpy()
        return frame, y.reshape(n, *self.label_shape)

    def shown(self, frame: pd.DataFrame, labels: NDArray | None) -> Any:
        """``X`` as it was in fit, or ``(X, y)`` with labels."""
        X: Any = frame
        if self.array_shape is not None:
            X = _panel(frame[self.events_name].array, len(frame), self.array_shape)
        return X if labels is None else (X, labels)

    def _events(
        self,
        written: Written,
        grammar: Grammar,
        whole: dict[Any, tuple[NDArray[np.int64], NDArray[np.float64]]],
    ) -> EventsArray:
        n = len(written.prefix_symbol)
        kind = grammar.kind[written.symbol]
        value = np.where(kind == LEVEL, grammar.level[written.symbol], np.nan)
        numeric = np.isin(kind, NUMERIC)
        value[numeric] = grammar.numbers(written.code[numeric], written.share[numeric])
        text = np.where(np.isin(kind, (LEVEL, BOTH)), grammar.text[written.symbol], -1)
        start, first = np.nan_to_num(whole[START][1]), np.nan_to_num(whole[FIRST][1])
        row = written.row
        time, step = (start + first)[row] + written.time, grammar.resolution
        time = np.round(time, 9) if step is None else multiples(time, step)
        start = settled(start, step)
        time = np.maximum(time, start[row])
        kept = np.ones(len(row), bool)
        if WINDOW in whole:
            end = settled(start + np.maximum(whole[WINDOW][1], 0.0), step)
            kept = ~(time > end[row] + 1e-9)
            time = np.fmin(time, end[row])
        lengths = np.bincount(row[kept], minlength=n)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        time = time[kept]
        if WINDOW not in whole:
            last = time[np.maximum(offsets[1:] - 1, 0)] if len(time) else start
            end = np.where(lengths > 0, last, start)
        codes, texts, code = self.codes, self.texts, grammar.kept[written.code[kept]]
        if self.dtype.vocabulary is None:  # else dictionaries name what single subjects have
            codes, code = codes[grammar.kept], written.code[kept]
            if texts is not None:
                used = grammar.texts_used()
                texts, text = texts[used], np.where(text < 0, -1, np.searchsorted(used, text))
        return EventsArray.from_flat(
            time=time,
            code=code,
            value=value[kept].astype(np.float32),
            text=None if texts is None else text[kept],
            offsets=offsets,
            codes=codes,
            texts=texts,
            start=start if self.knows_start else np.full(n, np.nan),
            end=end if self.knows_end else np.full(n, np.nan),
            **{name: getattr(self.dtype, name) for name in EventsDtype._metadata},
        )


def _some_rows(
    estimator: BaseEstimator,
    X: Any,
    in_fit: Given | None = None,
    preparation: Preparation | None = None,
) -> tuple[pd.DataFrame, Given, tuple[int, ...] | None]:
    """A frame of histories, what ``X`` was, and the shape of a row where it was numbers.

    In fit the estimator learns the number and the names of the features, later they are compared.
    """
    refuse_dask(X, estimator)
    given: Given = "events"
    shape, features = None, X
    if is_numbers(X):
        X = check_array(
            X, allow_nd=True, ensure_all_finite="allow-nan", estimator=estimator, input_name="X"
        )
        shape = tuple(int(n) for n in X.shape[1:])
        given = "series" if len(shape) == 1 else "panel"
    elif (C := channels_of(X)) is not None:
        features = np.broadcast_to(np.float64(0), (len(X), C))
        given = "panel"
    if in_fit is not None:
        refuse_other_form(in_fit, given)
    if given == "events":
        rows, _ = read_rows(estimator, X, preparation)
        return as_events(rows), given, shape
    frame = as_events(X)
    validate_data(estimator, features, reset=in_fit is None, skip_check_array=True)
    return frame, given, shape


def _label_shape(y: Any, X: Any, n: int) -> tuple[int, ...]:
    """Of a row of ``y``, which has one label, or one line of them, for each row of ``X``."""
    labels = read_labels(y, X, n)
    if labels.ndim > 2 or 0 in labels.shape[1:]:
        raise DataError(f"Expected y of shape (n,) or (n, k). Got one of shape {labels.shape}.")
    return labels.shape[1:]


def _exact(drawn: pd.Series, asked: pd.DataFrame | None, name: Any) -> pd.Series:
    """What was asked for, exactly; what was drawn where nothing was."""
    if asked is None or name not in asked.columns:
        return drawn
    column = asked[name].reset_index(drop=True).astype(object)
    if len(column) == 1:
        column = column.repeat(len(drawn)).reset_index(drop=True)
    return column.where(column.notna(), drawn.astype(object)).astype(drawn.dtype).rename(name)


def _panel(events: EventsArray, n: int, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """(n, C, T) or (n, T) numbers from events at steps."""
    C, T = shape if len(shape) == 2 else (1, shape[0])
    channel = events.codes.str.removeprefix("channel_").astype(int).to_numpy()[events.code]
    row = np.repeat(np.arange(n), np.diff(events.offsets))
    step = np.round(events.time).astype(np.int64)
    inside = (step >= 0) & (step < T)
    panel = np.full((n, C, T), np.nan)
    panel[row[inside], channel[inside], step[inside]] = events.value[inside]
    return panel.reshape(n, *shape)
