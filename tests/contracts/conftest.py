"""What the tests of one contract class share, and the cohort and models of the others."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from sklearn.pipeline import Pipeline

from tawt_sklearn import TimeAwareClassifier, TimeAwareRegressor, TripletSequencer
from tawt_sklearn.datasets import make_icu_stays

from .answers import answers
from .suite import QUICK

# ---- a contract class ------------------------------------------------------------------------


@pytest.fixture(scope="class")
def X(request: pytest.FixtureRequest) -> Any:
    """Training rows of the contract class."""
    return request.cls().data()[0]


@pytest.fixture(scope="class")
def y(request: pytest.FixtureRequest) -> Any:
    return request.cls().data()[1]


@pytest.fixture(scope="class")
def fitted(request: pytest.FixtureRequest, X: Any, y: Any) -> Any:
    """Fitted once for the class; tests must leave it as it is."""
    return request.cls().make().fit(X, y)


@pytest.fixture(scope="class")
def expected(fitted: Any, X: Any) -> dict[str, Any]:
    """What ``fitted`` answers for all rows of X."""
    return answers(fitted, X)


# ---- what users do all day -------------------------------------------------------------------


@pytest.fixture(scope="session")
def cohort() -> tuple[pd.DataFrame, pd.Series]:
    return make_icu_stays(120, random_state=0)


@pytest.fixture
def pipeline() -> Pipeline:
    return Pipeline([("sequence", TripletSequencer()), ("model", TimeAwareClassifier(**QUICK))])


@pytest.fixture
def regression() -> Pipeline:
    return Pipeline([("sequence", TripletSequencer()), ("model", TimeAwareRegressor(**QUICK))])
