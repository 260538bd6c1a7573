"""Fits that several processes do together: the same estimator, with the same data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import joblib
import numpy as np

from tawt_sklearn.exceptions import DataError
from tawt_sklearn.persistence.codec import encode
from tawt_sklearn.training.device import resolve_device
from tawt_sklearn.training.distributed import joined, launched
from tawt_sklearn.training.processes import Processes

OWN = {"random_state", "device", "n_jobs", "verbose", "callbacks", "checkpoint_dir"}
"""Parameters that processes may differ in; the seed is that of the first one."""


@contextmanager
def fitted_together(estimator: Any) -> Iterator[Processes]:
    """A fit, from its first check to its end; what fails in one process fails in all.

    Raises
    ------
    ValueError
        The others fit another estimator, or one with other parameters.
    TrainingError
        Another process does something else, has failed or has ended.
    """
    if not launched():
        yield Processes()
        return
    processes = joined(resolve_device(estimator.device))
    with processes.together():
        told = processes.gathered(_parameters(estimator), "the beginning of a fit")
        if odd := _different(told):
            shown = "; ".join(
                f"{name}: {' or '.join(dict.fromkeys(one.get(name, 'none') for one in told))}"
                for name in odd[:5]
            )
            raise ValueError(
                f"Expected the same parameters in all {processes.number} processes of the job. "
                f"Got {shown}. Run the same script in all of them; where an error in one of them "
                "was caught, as searches over parameters do, that one is at its next fit already."
            )
        yield processes


def require_same(processes: Processes, **parts: Any) -> None:
    """What was learned before the network has to be the same in all processes.

    Parameters
    ----------
    **parts
        By what they are called, with ``_`` for blanks.

    Raises
    ------
    DataError
    """
    if processes.number == 1:
        return
    own = {name.replace("_", " "): _digest(part) for name, part in parts.items()}
    if odd := _different(processes.gathered(own, "what comes before training")):
        raise DataError(
            f"Expected the same data in all {processes.number} processes of the job. Got "
            f"different {', '.join(odd)}. Give the same rows and labels, in the same units, to "
            "fit in each of them: training itself gives each process its share."
        )


def _digest(part: Any) -> str:
    """Of what would be saved of an object, which is the same wherever it was made."""
    try:
        part = encode(part)
    except TypeError:  # something of the user's, which cannot be saved
        part = type(part).__qualname__
    return str(joblib.hash(part))


def _parameters(estimator: Any) -> dict[str, str]:
    """Name -> value of what has to be the same, objects by their class."""
    given = {name: _in_words(value) for name, value in estimator.get_params().items()}
    own = {name for name in given if name.split("__")[-1] in OWN}
    kept = {name: value for name, value in given.items() if name not in own}
    return {"estimator": type(estimator).__name__, **kept}


def _in_words(value: Any) -> str:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_in_words, value))}]"
    if value is None or isinstance(value, str | int | float):
        return repr(value)
    return type(value).__qualname__


def _different(told: list[dict[str, str]]) -> list[str]:
    """Names under which processes say different things."""
    names = dict.fromkeys(name for one in told for name in one)
    return [name for name in names if len({one.get(name) for one in told}) > 1]
