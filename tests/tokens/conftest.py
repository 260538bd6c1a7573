"""Fixtures of the tests of tokens."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from .builders import random_frame


@pytest.fixture
def cohort() -> pd.DataFrame:
    return random_frame(np.random.default_rng(0))


@pytest.fixture
def cohort_with_texts() -> pd.DataFrame:
    return random_frame(np.random.default_rng(1), texts=4)
