"""Two samples of the same population, and a cohort whose labels can be predicted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tawt_sklearn.datasets import make_icu_stays

from .frames import random_frame


@pytest.fixture(scope="session")
def real() -> pd.DataFrame:
    return random_frame(0, 40)


@pytest.fixture(scope="session")
def synthetic() -> pd.DataFrame:
    return random_frame(1, 30)


@pytest.fixture(scope="session")
def stays() -> tuple[pd.DataFrame, np.ndarray]:
    X, y = make_icu_stays(450, empty_fraction=0.02, random_state=0)
    return X, np.asarray(y)
