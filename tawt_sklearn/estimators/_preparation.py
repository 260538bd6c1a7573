"""From a frame of histories to what the network takes: tokens, static columns, windows of time."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import joblib
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone

from tawt_sklearn.estimators._modalities import (
    fitted_modalities,
    item_columns,
    modality_columns,
    same_modalities,
)
from tawt_sklearn.events.array import EventsArray
from tawt_sklearn.events.coerce import find_events
from tawt_sklearn.exceptions import DataError
from tawt_sklearn.nn.time import Waves
from tawt_sklearn.tokens.sequencer import TripletSequencer
from tawt_sklearn.tokens.statics import StaticEncoder
from tawt_sklearn.tokens.vocabulary import Vocabulary
from tawt_sklearn.training.dataset import EventDataset

Form = Literal["events", "series", "panel"]

FORMS = {
    "events": "event histories",
    "series": "numbers of shape (n_cases, n_timepoints)",
    "panel": "a panel of shape (n_cases, n_channels, n_timepoints)",
}


def refuse_other_form(in_fit: Form, now: Form) -> None:
    """Refuse rows that are something else than those of fit.

    Raises
    ------
    DataError
    """
    if now != in_fit:
        raise DataError(f"Expected {FORMS[in_fit]}, as in fit. Got {FORMS[now]}.")


@dataclass(frozen=True)
class Preparation:
    """Everything learned from the training frame before the network sees it.

    Attributes
    ----------
    events_name : str
        Column of the histories.
    sequencer : TripletSequencer or None
        Fitted here on raw histories; None where the frame came tokenised.
    vocabulary : Vocabulary
    statics : StaticEncoder
    grid : TimeGrid
    n_windows : int
        Windows of time that were asked for.
    form : {"events", "series", "panel"}
        What ``X`` was: histories, numbers (n, n_timepoints), or a panel
        (n, n_channels, n_timepoints).
    waves : Waves, optional
        Frequencies and phases of a TimeEmbedder, which the time encoding starts from.
    modalities : dict, optional
        Fitted, by the columns that they read.
    """

    events_name: Hashable
    sequencer: TripletSequencer | None
    vocabulary: Vocabulary
    statics: StaticEncoder
    grid: TimeGrid
    n_windows: int
    form: Form
    waves: Waves | None = None
    modalities: dict[str, Any] | None = None

    @classmethod
    def fit(
        cls,
        frame: pd.DataFrame,
        sequencer: TripletSequencer | None,
        n_windows: int,
        form: Form,
        modalities: Mapping[str, Any] | None = None,
    ) -> tuple[Preparation, EventDataset]:
        """Learn vocabulary, scaling, static columns and windows; return the data set, too."""
        beside = modality_columns(frame, modalities)
        if beside is not None:
            frame = frame.drop(columns=beside.columns)
        name = find_events(frame)
        if _vocabulary(frame, name) is None:
            sequencer = TripletSequencer() if sequencer is None else clone(sequencer)
            sequencer._validate_params()  # which the check of our own parameters switches off
            tokens = sequencer.fit_transform(frame)
        else:
            sequencer, tokens = None, frame
        _refuse_missing(tokens, name)
        events: EventsArray = tokens[name].array
        vocabulary = Vocabulary.from_json(str(events.dtype.vocabulary))
        statics = StaticEncoder().fit(tokens.drop(columns=name))
        fitted = None
        if modalities and beside is not None:
            # In an order that what files are called does not decide.
            order = pd.util.hash_pandas_object(tokens, index=False).argsort(kind="stable")
            fitted = fitted_modalities(beside.iloc[order.to_numpy()], modalities)
        grid = TimeGrid.fit(events, n_windows)
        preparation = cls(
            name, sequencer, vocabulary, statics, grid, n_windows, form, modalities=fitted
        )
        return preparation, preparation._dataset(tokens, beside)

    def check_settings(self, estimator: Any, sequencer: TripletSequencer | None) -> None:
        """Refuse parameters that a fit which goes on from this one would not heed.

        Raises
        ------
        ValueError
            Another sequencer, another number of windows, or other modalities.
        """
        wanted = TripletSequencer() if sequencer is None else sequencer
        changed = []
        if estimator.n_windows != self.n_windows:
            changed.append("n_windows")
        if self.sequencer is not None:
            if joblib.hash(wanted.get_params()) != joblib.hash(self.sequencer.get_params()):
                changed.append("sequencer")
        if not same_modalities(self.modalities, estimator.modalities):
            changed.append("modalities")
        if changed:
            raise ValueError(
                f"Expected {' and '.join(changed)} of the last fit to go on with what it learned. "
                "Got another value. Set it back, or start anew with fit and warm_start=False."
            )

    def sizes(self) -> dict[str, Any]:
        """Keywords of the backbone that the data decide."""
        return {
            "n_codes": self.vocabulary.n_tokens,
            "n_categories": self.vocabulary.n_categories,
            "window_edges": self.grid.edges.tolist(),
            "horizon": self.grid.horizon,
            "n_static_numeric": self.statics.n_numeric_,
            "static_cardinalities": tuple(self.statics.cardinalities_),
            "waves": self.waves,
        }

    @property
    def category_offsets(self) -> list[int]:
        """First category of each code, and the number of all; (V + 1,)."""
        return self.vocabulary.category_offsets.tolist()

    def check_form(self, form: Form) -> None:
        """Refuse rows that are something else than those of fit, by a DataError."""
        refuse_other_form(self.form, form)

    def dataset(self, frame: Any) -> EventDataset:
        """The data set of further rows, a DataFrame."""
        beside = modality_columns(frame, self.modalities)
        if beside is not None:
            frame = frame.drop(columns=beside.columns)
        name = find_events(frame)
        if name != self.events_name:
            raise DataError(
                f"Expected the histories in column {self.events_name!r}, as in fit. "
                f"Got them in {name!r}: rename the column."
            )
        vocabulary = _vocabulary(frame, name)
        if vocabulary is None and self.sequencer is not None:
            frame = self.sequencer.transform(frame)
        elif vocabulary is None:
            raise DataError(
                "Expected tokenised histories, as in fit. Got raw ones. Put the TripletSequencer "
                "and this estimator into one Pipeline, so that the same steps run each time."
            )
        elif not self.knows(Vocabulary.from_json(vocabulary)):
            raise DataError(
                "Expected histories tokenised with the vocabulary seen in fit. Got ones of "
                "another vocabulary: transform them with the same fitted TripletSequencer."
            )
        _refuse_missing(frame, name)
        return self._dataset(frame, beside)

    def knows(self, vocabulary: Vocabulary) -> bool:
        """Whether tokens of that vocabulary mean here what they mean there."""
        return vocabulary == self.vocabulary or self.vocabulary.extends(vocabulary)

    def _dataset(self, tokens: pd.DataFrame, beside: pd.DataFrame | None) -> EventDataset:
        numeric, category = self.statics.transform(tokens.drop(columns=self.events_name))
        events: EventsArray = tokens[self.events_name].array
        items = None
        if beside is not None and self.modalities is not None:
            items = item_columns(beside, self.modalities, events, self.grid.origin)
        return EventDataset(events, numeric, category, origin=self.grid.origin, beside=items)


def _vocabulary(frame: pd.DataFrame, name: Hashable) -> str | None:
    """JSON of the vocabulary of a tokenised column, None for raw histories."""
    events: EventsArray = frame[name].array
    return events.dtype.vocabulary


def _refuse_missing(frame: pd.DataFrame, name: Hashable) -> None:
    missing = frame[name].isna()
    if missing.any():
        rows = frame.index[missing.to_numpy()][:3].tolist()
        raise DataError(
            f"Expected a history in every row of column {name!r}; it may be empty. Got NA in "
            f"{int(missing.sum())} rows, for instance {rows}. Drop these rows or give them an "
            "empty history (nest_events with static= does)."
        )


@dataclass(frozen=True)
class TimeGrid:
    """Windows of time and the length of a typical history, from the training events.

    Attributes
    ----------
    edges : (n_windows - 1,) float64
        Inner borders, in time since each row's origin: quantiles of the events' times, so that
        every window holds about as many events as the next and any distribution of times,
        hours or decades, is resolved where the events are.
    horizon : float
        Between the first and the last percentile of the events' times.
    origin : float
        Where the network's clock starts, after each row's own origin: 0 unless the times lie
        more than a horizon away from it, as those of a clock that counts from 1970 do.  The
        edges count from there.
    """

    edges: NDArray[np.float64]
    horizon: float
    origin: float

    @classmethod
    def fit(cls, events: EventsArray, n_windows: int) -> TimeGrid:
        time = events.time - np.repeat(events.start, np.diff(events.offsets))
        edges = np.unique(np.quantile(time, np.linspace(0, 1, n_windows + 1)[1:-1]))
        low, high = np.quantile(time, [0.01, 0.99])
        horizon = float(high - low) or 1.0
        origin = float(low) if low > horizon or high < -horizon else 0.0
        return cls(edges - origin, horizon, origin)
