"""A small simulated cohort and a classifier that is quick to train."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest

from tawt_sklearn import TimeAwareClassifier
from tawt_sklearn.datasets import make_icu_stays


@pytest.fixture(scope="session")
def _cohort() -> tuple[pd.DataFrame, pd.Series]:
    return make_icu_stays(160, random_state=0)


@pytest.fixture
def X(_cohort) -> pd.DataFrame:
    """Nested frame of 160 stays: static columns and raw events."""
    return _cohort[0].copy()


@pytest.fixture
def y(_cohort) -> pd.Series:
    return _cohort[1].copy()


@pytest.fixture
def quick() -> Callable[..., TimeAwareClassifier]:
    """Factory of classifiers that train in about a second."""

    def make(**parameters) -> TimeAwareClassifier:
        defaults = {
            "d_model": 8,
            "n_heads": 2,
            "n_layers": 1,
            "n_windows": 4,
            "max_epochs": 2,
            "min_steps": 4,
            "n_ensemble": 1,
            "additive_head": False,  # see test_additive.py
            "random_state": 0,
            "device": "cpu",
        }
        return TimeAwareClassifier(**(defaults | parameters))

    return make
