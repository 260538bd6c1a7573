"""Where the public data lies, and results that grow in a file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

HOME = Path(os.environ.get("TAWT_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
"""The folder with copies of public data."""


def kept(path: Path | None) -> Any:
    """What an earlier run kept; None where there is nothing."""
    return json.loads(path.read_text()) if path is not None and path.exists() else None


def keep(content: Any, path: Path | None) -> None:
    """Write results at one go, so that a run that is killed here leaves a file that can be read."""
    if path is not None:
        draft = path.with_name(path.name + ".part")
        draft.write_text(json.dumps(content, indent=1))
        os.replace(draft, path)
