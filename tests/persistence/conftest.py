"""Fixtures of the tests of persistence."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tawt_sklearn import EventSummarizer, TripletSequencer
from tawt_sklearn.datasets import make_icu_stays


@pytest.fixture(scope="session")
def X() -> pd.DataFrame:
    return make_icu_stays(60, random_state=0)[0]


@pytest.fixture(scope="session")
def sequencer(X) -> TripletSequencer:
    return TripletSequencer(min_count=3).fit(X)


@pytest.fixture(scope="session")
def summarizer(X) -> EventSummarizer:
    return EventSummarizer(windows=[None, 12]).fit(X)


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "estimator.tawt"
