"""Imports point one way, and importing the package is light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "tawt_sklearn"

# What each folder may import from, besides itself.
BELOW = {
    "events": set(),
    "tokens": {"events"},
    "nn": {"events", "tokens"},
    "objectives": {"events", "tokens", "nn"},
    "training": {"events", "tokens", "nn", "objectives"},
    "estimators": {"events", "tokens", "nn", "objectives", "training"},
    "synthesis": {"events", "tokens", "nn", "objectives", "training", "estimators"},
    "evaluation": {"events", "tokens"},
    "inspection": {"events", "tokens", "nn", "objectives", "training", "estimators"},
    "datasets": {"events"},
    "persistence": set(),
}

# What every folder may import from.
SHARED = {"exceptions", "persistence"}


def imported_folders(file: Path) -> set[str]:
    """Folders of the package that a file imports from, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules = [node.module]
        for module in modules:
            parts = module.split(".")
            if parts[0] == "tawt_sklearn" and len(parts) > 1:
                found.add(parts[1])
    return found


@pytest.mark.parametrize("folder", sorted(BELOW))
def test_imports_point_one_way(folder):
    allowed = BELOW[folder] | {folder} | SHARED
    for file in sorted((PACKAGE / folder).rglob("*.py")):
        assert imported_folders(file) <= allowed, file


def modules_after(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after a statement."""
    code = f"import sys\n{statement}\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_loads_nothing_heavy():
    loaded = modules_after("import tawt_sklearn")
    assert not loaded & {"torch", "skorch", "sklearn", "pandas", "pyarrow", "polars", "matplotlib"}


def test_events_and_tokens_do_without_torch():
    names = "nest_events, TripletSequencer, EventSummarizer, read_meds"
    loaded = modules_after(f"from tawt_sklearn import {names}")
    loaded -= modules_after("import pandas")  # which loads pyarrow by itself where it is there
    assert not loaded & {"torch", "skorch", "pyarrow", "polars", "matplotlib"}


def test_modalities_are_named_without_torch():
    loaded = modules_after("from tawt_sklearn import ImageEncoder, Modality; ImageEncoder()")
    assert not loaded & {"torch", "skorch", "PIL", "transformers"}


def test_all_public_names_exist():
    import tawt_sklearn

    for name in tawt_sklearn.__all__:
        assert getattr(tawt_sklearn, name) is not None
