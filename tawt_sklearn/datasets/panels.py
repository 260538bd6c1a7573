"""Simulated panels of sensor series whose generating rule is known."""

from __future__ import annotations

import numbers
from typing import Any, Literal

import numpy as np

from tawt_sklearn.datasets.icu import _spawn

TASKS = ("classification", "regression", "per_step")

#: Every pulse has this shape; pulses of one case never overlap in the channels that matter.
PULSE = np.array([0.25, 0.75, 1.0, 0.75, 0.25])
PEAK = 2
STRIDE = len(PULSE) + 1
#: Steps at both ends without a pulse: what is observed last says nothing of a pulse.
MARGIN = 2
#: Steps from one pulse to the next of the per-step task: STRIDE to STRIDE + EXTRA.
EXTRA = 10
#: Codes of a categorical channel where the number of classes does not give them.
N_STATES = 3
#: Steps of one run of missing values; runs that overlap make longer ones.
RUN = 4


def make_sensor_panels(
    n_cases: int = 200,
    n_channels: int = 6,
    n_categorical: int = 1,
    n_timepoints: int = 48,
    *,
    task: Literal["classification", "regression", "per_step"] = "classification",
    n_classes: int = 2,
    missing: float = 0.2,
    noise: float = 0.1,
    lengths: tuple[int, int] | None = None,
    random_state: int | np.random.RandomState | np.random.Generator | None = None,
) -> tuple[Any, Any]:
    r"""Make panels of regularly sampled channels with a known rule for the label.

    Each case has numeric channels and categorical channels that hold the codes of a state. Every
    task needs the time axis, and all but the per-step task need the state: a class hangs on the
    order of things, a number on a trend, the label of a step on what came before it.

    Parameters
    ----------
    n_cases : int, default=200
        Number of cases, one row of `X` each.
    n_channels : int, default=6
        Numeric channels, at least 2, and at least `n_classes` for classification. Those that the
        rule does not name are made like those that it names and say nothing.
    n_categorical : int, default=1
        Categorical channels, after the numeric ones. The first is the state of the rule, the
        others say nothing. With 0 the rule does without a state.
    n_timepoints : int, default=48
        Steps per case, at least ``6 * n_classes + 4`` for classification, else 16. Not used with
        `lengths`.
    task : {"classification", "regression", "per_step"}, default="classification"
        What the label is, see Notes.
    n_classes : int, default=2
        Classes, and codes of a categorical channel, for classification. The other tasks have the
        codes 0, 1 and 2.
    missing : float, default=0.2
        Share of values that are NaN in every channel, in [0, 1): about half of them single steps,
        the others in runs of 4 steps and more. What is missing has nothing to do with the values.
    noise : float, default=0.1
        Standard deviation of the noise on every numeric value, where a pulse has the height 1, and
        on the target of the regression.
    lengths : (int, int), default=None
        Fewest and most steps of a case: every case gets its own number of steps.
    random_state : int, RandomState, Generator or None, default=None
        The same value gives the same panels, and with other values of `missing` and `noise` the
        same panels underneath. NumPy's global state is neither used nor changed.

    Returns
    -------
    X : ndarray of shape (n_cases, n_channels + n_categorical, n_timepoints)
        The series, float64, NaN where missing. With `lengths`, a list of arrays of shape
        (n_channels + n_categorical, n_steps_of_the_case).
    y : ndarray of shape (n_cases,) or (n_cases, n_timepoints)
        Classification: int64, 0 to ``n_classes - 1``. Regression: float64. Per step: int64 with
        -1 = no label; with `lengths`, a list of arrays of shape (n_steps_of_the_case,).

    Raises
    ------
    ValueError
        If a parameter is out of range.

    Notes
    -----
    All rules are exact for the series without noise (``noise=0, missing=0``), where :math:`k` is
    the number of classes. Every channel of a pulse task has its own level, drawn from a standard
    normal, and pulses of one and the same shape: .25, .75, 1, .75, .25 above that level. The state
    goes twice, in random order, through all its codes, and stays for random spans in each.

    classification
        Channels 0 to :math:`k - 1` have one pulse each. Let :math:`f` be the channel whose pulse
        comes first and :math:`s` the state halfway between the peaks of the first pulse and the
        second (the earlier step of two middle ones):

        .. math:: y = (f + s) \bmod k

        For two classes this is the order of two pulses, which counts the other way round if the
        state between them is 1. Neither the order nor the state alone says anything: a model needs
        both. In a complete series, statistics of single channels that disregard the order of the
        steps say nothing at all; for two classes, nor do the states at the two pulses.
    regression
        Channel 0 has a linear trend, by :math:`b` from the first to the last step; channel 1 has
        a level :math:`g_j` for each state :math:`j`. All :math:`b` and :math:`g_j` are standard
        normal:

        .. math:: y = b + g_1 + \text{noise} \cdot e

        With :math:`e` standard normal, no model can expect a better :math:`R^2` than
        :math:`2 / (2 + \text{noise}^2)`.
    per_step
        A flip-flop. Channels 0 and 1 have pulses, 6 to 16 steps apart, each in one of the two by
        the toss of a coin. The label is 1 if the latest pulse that is over was in channel 0, 0 if
        it was in channel 1, and -1 before any is over. While a pulse lasts, the label is still
        that of the one before, and so the values at a step say nothing about its label. The
        categorical channels say nothing either.

    Without a categorical channel, :math:`s = 0`, and channel 1 has the level :math:`g_1` all along.

    Examples
    --------
    >>> from tawt_sklearn.datasets import make_sensor_panels
    >>> X, y = make_sensor_panels(random_state=0)
    >>> X.shape, y.shape
    ((200, 7, 48), (200,))

    The rule, read off the clean series:

    >>> X, y = make_sensor_panels(noise=0, missing=0, random_state=0)
    >>> peaks = X[:, :2].argmax(axis=2)
    >>> state = X[range(200), 6, peaks.sum(axis=1) // 2]
    >>> bool(((peaks.argmin(axis=1) + state) % 2 == y).all())
    True

    A label at each step of series of unequal lengths:

    >>> X, y = make_sensor_panels(3, task="per_step", lengths=(20, 40), random_state=0)
    >>> [case.shape for case in X], [steps.shape for steps in y]
    ([(7, 39), (7, 20), (7, 37)], [(39,), (20,), (37,)])
    """
    if task not in TASKS:
        raise ValueError(f"task must be one of {', '.join(TASKS)}. Got {task!r}.")
    n_kinds = n_classes if task == "classification" else 2
    _check_counts(n_cases, n_channels, n_categorical, n_classes, n_kinds)
    _check_shares(missing, noise)
    shortest, longest = _check_lengths(n_timepoints, lengths, STRIDE * n_kinds + 2 * MARGIN)

    # One stream per step: noise and missing values do not change what lies underneath.
    streams = _spawn(random_state, 5)
    n_steps = streams[0].integers(shortest, longest, size=n_cases, endpoint=True)
    n_states = n_classes if task == "classification" else N_STATES
    states = _draw_states(streams[1], n_steps, longest, n_categorical, n_states)
    state = states[:, 0] if n_categorical else None
    if task == "classification":
        series, y = _first_pulse(streams[2], n_steps, longest, n_channels, n_classes, state)
    elif task == "regression":
        series, y = _trend_and_level(streams[2], n_steps, longest, n_channels, state)
    else:
        series, y = _flip_flop(streams[2], n_steps, longest, n_channels)

    if task == "regression":
        y = y + noise * streams[3].standard_normal(n_cases)
    series = series + noise * streams[3].standard_normal(series.shape)
    X = np.concatenate([series, states], axis=1)
    X[_draw_missing(streams[4], X.shape, missing)] = np.nan
    if lengths is None:
        return X, y
    cut = n_steps.tolist()
    panels = [case[:, :steps] for case, steps in zip(X, cut, strict=True)]
    if task != "per_step":
        return panels, y
    return panels, [labels[:steps] for labels, steps in zip(y, cut, strict=True)]


def _first_pulse(
    rng: np.random.Generator,
    n_steps: np.ndarray,
    longest: int,
    n_channels: int,
    n_classes: int,
    state: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """One pulse per channel: whose is the first, shifted by the state between it and the next."""
    n_cases = len(n_steps)
    cases = np.arange(n_cases)
    # Sorted places among the steps that are left over, pushed apart so that no two overlap.
    room = n_steps - 2 * MARGIN - STRIDE * n_classes
    places = np.sort(rng.random((n_cases, n_classes)), axis=1) * (room[:, None] + 1)
    starts = MARGIN + places.astype(np.int64) + STRIDE * np.arange(n_classes)  # (B, K)
    channel = rng.random((n_cases, n_classes)).argsort(axis=1)  # in order of time

    onsets = np.zeros((n_cases, n_channels, longest))
    onsets[cases[:, None], channel, starts] = 1
    for bystander in range(n_classes, n_channels):
        span = n_steps - 2 * MARGIN - len(PULSE)
        onsets[cases, bystander, MARGIN + rng.integers(0, span, endpoint=True)] = 1
    # The state at a pulse would tell the class without the order: 0 at the pulse of channel 0 and
    # 1 at that of channel 1 would make it 0, whichever comes first. Halfway it does not.
    halfway = (starts[:, 0] + starts[:, 1]) // 2 + PEAK
    shift = state[cases, halfway] if state is not None else 0
    return _pulses(rng, onsets), (channel[:, 0] + shift) % n_classes


def _flip_flop(
    rng: np.random.Generator, n_steps: np.ndarray, longest: int, n_channels: int
) -> tuple[np.ndarray, np.ndarray]:
    """Trains of pulses; the label remembers the channel of the latest one that is over."""
    n_cases = len(n_steps)
    onsets = np.zeros((n_cases, n_channels, longest))
    started = _draw_train(rng, n_steps, longest)  # (B, T)
    which = rng.integers(0, 2, size=started.shape)
    onsets[:, 0] = started & (which == 0)
    onsets[:, 1] = started & (which == 1)
    for bystander in range(2, n_channels):
        # As often as in channels 0 and 1: half of the pulses of a train.
        train = _draw_train(rng, n_steps, longest)
        onsets[:, bystander] = train & (rng.random(train.shape) < 0.5)

    # The start of the latest pulse that is over at each step, -1 where there is none.
    starts = np.where(started, np.arange(longest), -1)
    over = np.full_like(starts, -1)
    over[:, len(PULSE) :] = starts[:, : -len(PULSE)]
    latest = np.maximum.accumulate(over, axis=1)
    label = 1 - np.take_along_axis(which, np.maximum(latest, 0), axis=1)
    return _pulses(rng, onsets), np.where(latest >= 0, label, -1)


def _trend_and_level(
    rng: np.random.Generator,
    n_steps: np.ndarray,
    longest: int,
    n_channels: int,
    state: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Even channels have a trend, odd ones a level per state; channels 0 and 1 make the target."""
    n_cases = len(n_steps)
    start, trend = rng.standard_normal((2, n_cases, n_channels, 1))
    levels = rng.standard_normal((n_cases, n_channels, N_STATES))
    if state is None:
        state = np.ones((n_cases, longest), dtype=np.int64)
    clock = np.arange(longest) / (n_steps[:, None, None] - 1)  # 0 to 1, (B, 1, T)
    series = start + trend * clock
    by_state = np.broadcast_to(state[:, None], series.shape)
    series[:, 1::2] = np.take_along_axis(levels, by_state, axis=2)[:, 1::2]
    return series, trend[:, 0, 0] + levels[:, 1, 1]


def _pulses(rng: np.random.Generator, onsets: np.ndarray) -> np.ndarray:
    """Series of shape (B, C, T): a level per case and channel, and a pulse from each onset on."""
    series = np.repeat(rng.standard_normal((*onsets.shape[:2], 1)), onsets.shape[2], axis=2)
    for step, height in enumerate(PULSE):
        series[:, :, step:] += height * onsets[:, :, : onsets.shape[2] - step]
    return series


def _draw_train(rng: np.random.Generator, n_steps: np.ndarray, longest: int) -> np.ndarray:
    """Steps at which a pulse starts, (B, T); all are over before the last step of the case."""
    most = longest // STRIDE + 1
    gaps = STRIDE + rng.integers(0, EXTRA, size=(len(n_steps), most), endpoint=True)
    # The first comes early: every case has a step with a label.
    gaps[:, 0] = MARGIN + rng.integers(0, STRIDE, size=len(n_steps))
    starts = gaps.cumsum(axis=1)
    fits = starts + len(PULSE) < n_steps[:, None]
    train = np.zeros((len(n_steps), longest), dtype=bool)
    train[np.nonzero(fits)[0], starts[fits]] = True
    return train


def _draw_states(
    rng: np.random.Generator, n_steps: np.ndarray, longest: int, n_categorical: int, n_states: int
) -> np.ndarray:
    """Codes (B, V, T): two random orders of all states, each held for at least 2 steps."""
    n_cases, n_spans = len(n_steps), 2 * n_states
    orders = rng.random((n_cases, n_categorical, 2, n_states)).argsort(axis=3)
    orders = orders.reshape(n_cases, n_categorical, n_spans)
    room = n_steps[:, None, None] - 2 * n_spans
    ends = np.sort(rng.random((n_cases, n_categorical, n_spans - 1)), axis=2) * (room + 1)
    ends = ends.astype(np.int64) + 2 * np.arange(1, n_spans)
    span = (ends[..., None] <= np.arange(longest)).sum(axis=2)  # (B, V, T)
    return np.take_along_axis(orders, span, axis=2)


def _draw_missing(rng: np.random.Generator, shape: tuple[int, ...], missing: float) -> np.ndarray:
    """Where values are missing: single steps and runs, each of which spares the same share."""
    spared = np.sqrt(1 - missing)
    single = rng.random(shape) >= spared
    # A step is spared if no run began at it or at the steps before, also before the first step.
    began = rng.random((*shape[:-1], shape[-1] + RUN - 1)) >= spared ** (1 / RUN)
    in_run = np.lib.stride_tricks.sliding_window_view(began, RUN, axis=-1).any(axis=-1)
    return single | in_run


def _check_counts(
    n_cases: int, n_channels: int, n_categorical: int, n_classes: int, n_kinds: int
) -> None:
    for name, value, least in (
        ("n_cases", n_cases, 1),
        ("n_channels", n_channels, 2),
        ("n_categorical", n_categorical, 0),
        ("n_classes", n_classes, 2),
    ):
        if not isinstance(value, numbers.Integral) or value < least:
            raise ValueError(f"{name} must be a whole number of at least {least}. Got {value!r}.")
    if n_channels < n_kinds:
        raise ValueError(
            f"n_channels must be at least n_classes, as each class has its channel. Got "
            f"n_channels={n_channels} and n_classes={n_classes}."
        )


def _check_shares(missing: float, noise: float) -> None:
    if not 0 <= missing < 1:
        raise ValueError(f"missing must lie in [0, 1). Got {missing!r}.")
    if not 0 <= noise < np.inf:
        raise ValueError(f"noise must be 0 or more, and finite. Got {noise!r}.")


def _check_lengths(
    n_timepoints: int, lengths: tuple[int, int] | None, least: int
) -> tuple[int, int]:
    """Return the fewest and the most steps of a case."""
    name, bounds = "n_timepoints", (n_timepoints, n_timepoints)
    if lengths is not None:
        name = "lengths"
        if not isinstance(lengths, (tuple, list)) or len(lengths) != 2:
            raise ValueError(
                f"lengths must be a pair (fewest, most steps), or None. Got {lengths!r}."
            )
        bounds = (lengths[0], lengths[1])
    for value in bounds:
        if not isinstance(value, numbers.Integral) or value < least:
            raise ValueError(
                f"{name} must be whole numbers of at least {least}, for the pulses to fit in. Got "
                f"{value!r}."
            )
    if bounds[0] > bounds[1]:
        raise ValueError(f"lengths must have the smaller number first. Got {lengths!r}.")
    return bounds
