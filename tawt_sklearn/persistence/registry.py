"""The classes of this library that files may hold: a fixed table, and how their state is taken.

A file names a class by its key in :data:`TABLE` and by nothing else, so that no file can ask for
any other class, module or function.  What a class must offer, the first that applies:

- ``_to_saved(self) -> dict`` and the class method ``_from_saved(cls, state, device)``;
- it is a dataclass or a named tuple: its fields are saved, and given to the class when loading;
- ``_metadata``, as pandas has it for dtypes: names of attributes that the class also takes.
"""

from __future__ import annotations

import importlib
from dataclasses import fields, is_dataclass
from typing import Any

from tawt_sklearn.exceptions import DeviceError, SaveFileError
from tawt_sklearn.persistence.hints import check_hints

TABLE = {
    "Beginnings": "tawt_sklearn.synthesis.beginnings:Beginnings",
    "Block": "tawt_sklearn.tokens.features:Block",
    "ClassTarget": "tawt_sklearn.objectives.supervised:ClassTarget",
    "Column": "tawt_sklearn.synthesis.columns:Column",
    "Contrastive": "tawt_sklearn.objectives.contrastive:Contrastive",
    "CropHistory": "tawt_sklearn.objectives.augmentations:CropHistory",
    "CrossModal": "tawt_sklearn.objectives.cross_modal:CrossModal",
    "Curves": "tawt_sklearn.nn.additive:Curves",
    "DensityRatio": "tawt_sklearn.synthesis.resampling:DensityRatio",
    "DropCodes": "tawt_sklearn.objectives.augmentations:DropCodes",
    "DropEvents": "tawt_sklearn.objectives.augmentations:DropEvents",
    "EventNet": "tawt_sklearn.training.net:EventNet",
    "EventSummarizer": "tawt_sklearn.tokens.summarizer:EventSummarizer",
    "EventsDtype": "tawt_sklearn.events.dtype:EventsDtype",
    "Forecast": "tawt_sklearn.objectives.forecast:Forecast",
    "Form": "tawt_sklearn.synthesis.form:Form",
    "GapClasses": "tawt_sklearn.synthesis.gaps:GapClasses",
    "Grammar": "tawt_sklearn.synthesis.grammar:Grammar",
    "HideCodes": "tawt_sklearn.objectives.masking:HideCodes",
    "HideEvents": "tawt_sklearn.objectives.masking:HideEvents",
    "HideRuns": "tawt_sklearn.objectives.masking:HideRuns",
    "HideWindows": "tawt_sklearn.objectives.masking:HideWindows",
    "ImageEncoder": "tawt_sklearn.estimators.images:ImageEncoder",
    "JitterValues": "tawt_sklearn.objectives.augmentations:JitterValues",
    "LabelModel": "tawt_sklearn.synthesis.labels:LabelModel",
    "LatentDensity": "tawt_sklearn.synthesis.density:LatentDensity",
    "Layout": "tawt_sklearn.tokens.features:Layout",
    "LogGaps": "tawt_sklearn.synthesis.gaps:LogGaps",
    "Marginal": "tawt_sklearn.synthesis.marginals:Marginal",
    "MaskedReconstruction": "tawt_sklearn.objectives.masked:MaskedReconstruction",
    "MissingMaskEncoder": "tawt_sklearn.tokens.missing:MissingMaskEncoder",
    "MultilabelTarget": "tawt_sklearn.objectives.supervised:MultilabelTarget",
    "NumericTarget": "tawt_sklearn.objectives.supervised:NumericTarget",
    "PanelPreparation": "tawt_sklearn.estimators._panel_preparation:PanelPreparation",
    "PanelShape": "tawt_sklearn.nn.panel_patching:PanelShape",
    "Preparation": "tawt_sklearn.estimators._preparation:Preparation",
    "PretrainingNet": "tawt_sklearn.training.pretraining:PretrainingNet",
    "ScaleValues": "tawt_sklearn.objectives.augmentations:ScaleValues",
    "Seen": "tawt_sklearn.tokens.encoding:Seen",
    "SequenceSynthesizer": "tawt_sklearn.synthesis.synthesizer:SequenceSynthesizer",
    "StaticEncoder": "tawt_sklearn.tokens.statics:StaticEncoder",
    "StepTarget": "tawt_sklearn.objectives.steps:StepTarget",
    "SummaryScale": "tawt_sklearn.nn.summary:SummaryScale",
    "SynthesisNet": "tawt_sklearn.synthesis.training:SynthesisNet",
    "TimeAwareClassifier": "tawt_sklearn.estimators.classifier:TimeAwareClassifier",
    "TimeAwareEncoder": "tawt_sklearn.estimators.encoder:TimeAwareEncoder",
    "TimeAwareRegressor": "tawt_sklearn.estimators.regressor:TimeAwareRegressor",
    "TimeEmbedder": "tawt_sklearn.tokens.embedder:TimeEmbedder",
    "TimeGrid": "tawt_sklearn.estimators._preparation:TimeGrid",
    "TripletSequencer": "tawt_sklearn.tokens.sequencer:TripletSequencer",
    "Vocabulary": "tawt_sklearn.tokens.vocabulary:Vocabulary",
    "WarpTime": "tawt_sklearn.objectives.augmentations:WarpTime",
}
"""Name in files -> where the class is.  A class may move; its name in files may not change."""


def name_of(cls: type) -> str | None:
    """Name of a class in files, None if it cannot be saved."""
    place = f"{cls.__module__}:{cls.__qualname__}"
    return next((name for name, where in TABLE.items() if where == place), None)


def class_of(name: Any) -> type:
    """The class of that name in files.

    Raises
    ------
    SaveFileError
        The table has no such name.
    """
    place = TABLE.get(name) if isinstance(name, str) else None
    if place is None:
        raise SaveFileError(f"Expected a class of tawt_sklearn. Got {str(name)[:60]!r}.")
    module, _, attribute = place.partition(":")
    return getattr(importlib.import_module(module), attribute)


def to_state(value: Any) -> dict[str, Any]:
    """What has to be saved of an instance of a class in the table, by name."""
    if hasattr(value, "_to_saved"):
        return value._to_saved()
    state = {name: getattr(value, name) for name in _field_names(type(value))}
    check_hints(type(value), state)  # better now than when loading
    return state


def from_state(cls: type, state: dict[str, Any], device: Any) -> Any:
    """An instance of a class in the table.

    Raises
    ------
    SaveFileError
        The state does not fit the class.
    """
    try:
        if hasattr(cls, "_from_saved"):
            return cls._from_saved(state, device)
        if unknown := set(state) - set(_field_names(cls)):
            raise ValueError(f"unknown fields {sorted(unknown)}")
        check_hints(cls, state)
        return cls(**state)
    except (SaveFileError, DeviceError):
        raise
    except Exception as error:  # whatever the class says of values that do not fit it
        raise SaveFileError(
            f"The content does not make a {cls.__name__} ({type(error).__name__}: "
            f"{str(error)[:200]}). It was changed, or written by another version."
        ) from error


def _field_names(cls: type) -> tuple[str, ...]:
    if is_dataclass(cls):
        return tuple(field.name for field in fields(cls) if field.init)
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        return cls._fields
    return cls._metadata  # type: ignore[attr-defined]
