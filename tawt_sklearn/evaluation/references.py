"""Two generators that a report shows beside its own: one too good, one that must fail."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from tawt_sklearn.evaluation._frames import Histories, read_histories
from tawt_sklearn.evaluation.measure import RandomState, generator
from tawt_sklearn.events.array import EventsArray
from tawt_sklearn.events.coerce import find_events
from tawt_sklearn.events.ragged import offsets_from_lengths, row_ids
from tawt_sklearn.exceptions import DataError


def subject_bootstrap(
    X: Any, n: int | None = None, random_state: RandomState = None
) -> pd.DataFrame:
    """Draw subjects with replacement: perfect fidelity, no privacy at all.

    Parameters
    ----------
    X : DataFrame or array
        One row per subject; anything :func:`~tawt_sklearn.as_events` takes.
    n : int, default=None
        Number of subjects; by default as many as X has.
    random_state : int, RandomState, Generator or None, default=None

    Returns
    -------
    DataFrame
        With the columns of X and rows numbered from 0.

    Raises
    ------
    DataError
        Tokenised events, no subjects, n below 1.

    Examples
    --------
    >>> from tawt_sklearn.datasets import make_icu_stays
    >>> X, _ = make_icu_stays(10, random_state=0)
    >>> subject_bootstrap(X, 4, random_state=0).shape
    (4, 4)
    """
    (histories,) = read_histories(X)
    rows = generator(random_state).integers(len(histories), size=_number(n, histories))
    return histories.frame.iloc[rows].reset_index(drop=True)


def independent_marginals(
    X: Any, n: int | None = None, random_state: RandomState = None
) -> pd.DataFrame:
    """Draw every length, code, gap, value and static column on its own: nothing goes together.

    Marginal distributions are those of X; whatever passes only because of them is no measure of
    quality.  Gaps between successive events include those of 0, so that some share a timestamp.

    Parameters
    ----------
    X : DataFrame or array
        One row per subject; anything :func:`~tawt_sklearn.as_events` takes.
    n : int, default=None
        Number of subjects; by default as many as X has.
    random_state : int, RandomState, Generator or None, default=None

    Returns
    -------
    DataFrame
        With the columns of X and rows numbered from 0; observation windows are unknown.

    Raises
    ------
    DataError
        Tokenised events, no subjects, n below 1.

    Examples
    --------
    >>> from tawt_sklearn.datasets import make_icu_stays
    >>> X, _ = make_icu_stays(10, random_state=0)
    >>> independent_marginals(X, 4, random_state=0).columns.tolist() == X.columns.tolist()
    True
    """
    (histories,) = read_histories(X)
    rng = generator(random_state)
    n = _number(n, histories)
    lengths = rng.choice(histories.lengths, n)
    offsets = offsets_from_lengths(lengths)
    event = _events_of_each_code(histories, rng, int(offsets[-1]))
    drawn = histories.array._replace(
        time=_times(histories, rng, offsets),
        code=_ids_of(histories.array, histories)[event],
        value=histories.value[event].astype(np.float32),
        text=None if histories.array.texts is None else _texts_of(histories)[event],
        offsets=offsets,
        start=None,
        end=None,
        isna=None,
    )
    events = find_events(histories.frame)
    return pd.DataFrame(
        {
            name: drawn
            if name == events
            else histories.frame[name].array.take(rng.integers(len(histories), size=n))
            for name in histories.frame.columns
        }
    )


def _number(n: Any, histories: Histories) -> int:
    if n is None:
        return len(histories)
    if not (isinstance(n, int | np.integer) and n > 0):
        raise DataError(f"Expected n to be a number of subjects above 0, or None. Got {n!r}.")
    return int(n)


def _events_of_each_code(histories: Histories, rng: np.random.Generator, E: int) -> np.ndarray:
    """Positions of events, for each a code, then a value of that code; (E,)."""
    if not E:
        return np.zeros(0, np.int64)
    # Both draws at once: an event drawn at random has a random code and a random value of it.
    return rng.integers(len(histories.code), size=E)


def _times(histories: Histories, rng: np.random.Generator, offsets: np.ndarray) -> np.ndarray:
    """A first time and gaps, summed up within each subject; float64 (E,)."""
    at = histories.follows()
    gaps = histories.time[at] - histories.time[at - 1]
    first = histories.time[histories.offsets[:-1][histories.lengths > 0]]
    E = int(offsets[-1])
    if not E:
        return np.zeros(0)
    step = rng.choice(gaps, E) if len(gaps) else np.zeros(E)
    some = np.diff(offsets) > 0
    step[offsets[:-1][some]] = 0.0
    since = np.cumsum(step)
    row = row_ids(offsets)
    start = np.zeros(len(some))
    start[some] = rng.choice(first, some.sum())
    return np.asarray(start[row] + (since - since[offsets[:-1][row]]))


def _ids_of(array: EventsArray, histories: Histories) -> np.ndarray:
    """Codes of the sorted events in the numbering of the array; int32 (E,)."""
    return array.codes.get_indexer(pd.Index(histories.codes))[histories.code].astype(np.int32)


def _texts_of(histories: Histories) -> np.ndarray:
    assert histories.array.texts is not None
    place = histories.array.texts.get_indexer(pd.Index(histories.texts, dtype="str"))
    return np.append(place, -1)[histories.text].astype(np.int32)
