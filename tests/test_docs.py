"""The examples in docstrings and in the README run as they stand."""

from __future__ import annotations

import ast
import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import tawt_sklearn

ROOT = Path(__file__).resolve().parents[1]
MODULES = [module.name for module in pkgutil.walk_packages(tawt_sklearn.__path__, "tawt_sklearn.")]
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name):
    result = doctest.testmod(importlib.import_module(name), optionflags=OPTIONS)
    assert result.failed == 0


def test_readme_examples():
    result = doctest.testfile(str(ROOT / "README.md"), module_relative=False, optionflags=OPTIONS)
    assert result.failed == 0 and result.attempted > 0


PAGES = [
    "README.md",
    *(f"docs/{name}.md" for name in ("engine", "modalities", "results", "synthesis")),
]


@pytest.mark.parametrize("page", PAGES)
def test_code_blocks_are_python_and_import_what_exists(page):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        if block.startswith(">>>"):
            continue
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module)
                for alias in node.names:
                    assert hasattr(module, alias.name), f"{node.module}.{alias.name}"


@pytest.mark.parametrize("name", [n for n in tawt_sklearn.__all__ if n != "__version__"])
def test_public_names_are_documented(name):
    text = getattr(tawt_sklearn, name).__doc__
    assert text and len(text.splitlines()) > 3
