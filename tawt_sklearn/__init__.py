"""Time-aware transformers for event histories and sensor panels, as scikit-learn estimators."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0.dev0"

# Public name -> module that holds it.  Loaded on first use, so that `import tawt_sklearn` does
# not pay for torch.
_PUBLIC = {
    "EventHistory": "tawt_sklearn.events.history",
    "EventSummarizer": "tawt_sklearn.tokens.summarizer",
    "EventsArray": "tawt_sklearn.events.array",
    "EventsDtype": "tawt_sklearn.events.dtype",
    "ImageEncoder": "tawt_sklearn.estimators.images",
    "MissingMaskEncoder": "tawt_sklearn.tokens.missing",
    "Modality": "tawt_sklearn.tokens.modality",
    "SequenceSynthesizer": "tawt_sklearn.synthesis.synthesizer",
    "TimeAwareClassifier": "tawt_sklearn.estimators.classifier",
    "TimeAwareEncoder": "tawt_sklearn.estimators.encoder",
    "TimeAwareRegressor": "tawt_sklearn.estimators.regressor",
    "TimeEmbedder": "tawt_sklearn.tokens.embedder",
    "TripletSequencer": "tawt_sklearn.tokens.sequencer",
    "as_events": "tawt_sklearn.events.coerce",
    "iter_parquet": "tawt_sklearn.events.parquet",
    "load": "tawt_sklearn.persistence",
    "map_parquet": "tawt_sklearn.events.parquet",
    "nest_events": "tawt_sklearn.events.ingest",
    "read_meds": "tawt_sklearn.events.meds",
    "sliding_windows": "tawt_sklearn.events.windows",
}

__all__ = [*sorted(_PUBLIC), "__version__"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
