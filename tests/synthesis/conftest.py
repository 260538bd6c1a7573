"""Cohorts, and synthesizers that have learned from them; fitted once."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tawt_sklearn.synthesis import SequenceSynthesizer

from .subjects import QUICK, rich, simple


@pytest.fixture(scope="session")
def cohort() -> tuple[pd.DataFrame, np.ndarray]:
    return rich()


@pytest.fixture(scope="session")
def X(cohort) -> pd.DataFrame:
    return cohort[0]


@pytest.fixture(scope="session")
def y(cohort) -> np.ndarray:
    return cohort[1]


@pytest.fixture(scope="session")
def fitted(X, y) -> SequenceSynthesizer:
    """Everything of the cohort is kept."""
    return SequenceSynthesizer(**QUICK, min_subjects_per_code=1).fit(X, y)


@pytest.fixture(scope="session")
def plain_X() -> pd.DataFrame:
    return simple(60, static={"arm": [0, 1, 2] * 20, "dose": np.linspace(0, 1, 60).round(3)})


@pytest.fixture(scope="session")
def plain(plain_X) -> SequenceSynthesizer:
    """Without labels."""
    return SequenceSynthesizer(**QUICK).fit(plain_X)
