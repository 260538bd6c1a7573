"""What the tests of one contract class share: data, one fitted estimator and its answers."""

from __future__ import annotations

from typing import Any

import pytest

from .answers import answers


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
