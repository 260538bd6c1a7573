"""A simulated cohort with images beside its events."""

from __future__ import annotations

import pandas as pd
import pytest
from PIL import Image

from tawt_sklearn import (
    TimeAwareClassifier,
)
from tawt_sklearn.datasets import make_icu_stays

from .builders import FUSIONS, classifier, with_films


@pytest.fixture(scope="module")
def cohort() -> tuple[pd.DataFrame, pd.Series]:
    X, y = make_icu_stays(60, random_state=0)
    return with_films(X), y


@pytest.fixture
def X(cohort) -> pd.DataFrame:
    return cohort[0].copy()


@pytest.fixture
def y(cohort) -> pd.Series:
    return cohort[1].copy()


@pytest.fixture
def files(X, tmp_path) -> pd.DataFrame:
    """The images as paths."""
    paths = []
    for k, image in enumerate(X["xray"]):
        paths.append(None if image is None else str(tmp_path / f"{k}.png"))
        if image is not None:
            Image.fromarray(image).save(paths[-1])
    return X.assign(xray=pd.Series(paths, index=X.index, dtype=object))


@pytest.fixture(scope="module", params=FUSIONS)
def fitted(request, cohort) -> TimeAwareClassifier:
    return classifier(fusion=request.param).fit(*cohort)


@pytest.fixture(scope="module")
def concat(cohort) -> TimeAwareClassifier:
    return classifier().fit(*cohort)
