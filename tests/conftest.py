"""Fixtures shared by all tests, named by their role."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Tests that run side by side have a core each; a second thread would take that of another.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# scikit-learn's array API check runs only where this is set, and would be skipped without it.
os.environ.setdefault("SCIPY_ARRAY_API", "1")


@pytest.fixture(scope="session")
def data_home() -> Path:
    """Folder with the real data sets; tests that need it skip where it is missing."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    home = Path(os.environ.get("TAWT_DATA", default))
    if not home.is_dir():
        pytest.skip(f"no real data: neither TAWT_DATA nor {default.parent.name}/data is a folder")
    return home
