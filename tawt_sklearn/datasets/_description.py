"""Reads the descriptions (``DESCR``) that are packaged with the loaders."""

from __future__ import annotations

from importlib import resources


def load_description(name: str) -> str:
    """Return the text of ``descr/<name>``."""
    folder = resources.files("tawt_sklearn.datasets").joinpath("descr")
    return folder.joinpath(name).read_text(encoding="utf-8")
