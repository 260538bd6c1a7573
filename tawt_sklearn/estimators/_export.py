"""What ``export`` writes of an estimator: its answers as one network, and how to make the inputs.

Everything that a server has to know to turn histories into the network's inputs travels in the
file, as plain numbers and words.
"""

from __future__ import annotations

import json
import math
from abc import abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import fields
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from tawt_sklearn.estimators._input import read_rows
from tawt_sklearn.estimators._panel_preparation import LINEAR, PanelPreparation
from tawt_sklearn.estimators._preparation import Preparation
from tawt_sklearn.nn.batch import EventBatch
from tawt_sklearn.nn.panel import PanelBatch
from tawt_sklearn.nn.panel_patching import TemporalStrides
from tawt_sklearn.nn.served import Embeddings, Numbers, OfEvents, OfPanels, Probabilities
from tawt_sklearn.objectives.steps import StepTarget
from tawt_sklearn.objectives.supervised import ClassTarget, MultilabelTarget, NumericTarget
from tawt_sklearn.persistence.archive import Location
from tawt_sklearn.persistence.export import Graph, format_of, require_packages, write_graph
from tawt_sklearn.persistence.savable import Savable
from tawt_sklearn.tokens.levels import FIRST_CODE, UNSEEN_CODE
from tawt_sklearn.training.net import EventNet

VERSION = 1
"""Of the metadata."""

Axes = dict[str, tuple[str | int, ...]]

Answer = tuple[nn.Module, str, tuple[str | int, ...], str]
"""The network, the name of what it gives, its axes, and what it means."""

EVENT_STEPS = (
    "Order the events of each row by time; of more than max_events (null: no limit) keep the last "
    "ones. The fields of events hold the events of all rows, one row after the other.",
    "Times are numbers in the unit of clock: dates count from 1970-01-01 (UTC), time differences "
    "from 0. The origin of a row is its known start where there is one and clock.known_start is "
    "true, else 0, the time of its first event, or its end, as clock.origin says (zero, first, "
    "end). Its end is the known end, else the time of its last event.",
    "row: number of the row, from 0. code: position of the event's code in vocabulary.codes, 0 "
    "where it is not among them, 1 where the event has none.",
    "Number of an event: times factor[code]; none where it is then outside [low[code], "
    "high[code]]; where log[code], log(1 + x); minus center[code], divided by scale[code]; clipped "
    "to [-clip, clip]. With value_scaling = quantile, in place of center and scale, interpolated "
    "linearly in the code's part of knot_values and knot_scores (from knot_offsets[code] to before "
    "knot_offsets[code + 1]), and beyond its ends with slope 1 / scale[code]. Codes whose kind is "
    "not numeric have no numbers.",
    "value: that number, 0 where there is none. observed: whether there is one.",
    "category: 1 + position of [code, text] in vocabulary.categories; where the code has "
    "categories but not this one, that of [code, '[UNK]']; 0 where the event has no text or the "
    "code no categories. A number of a categorical code is found in category_numbers.",
    "time: time of the event minus the row's origin minus clock.offset. age: end of the row minus "
    "time of the event, at least 0. Subtract in double precision.",
    "static_numeric: (number - center) / scale, clipped to [-clip, clip], NaN where missing; one "
    "column for each of static.numeric. static_category: 0 where missing, else 2 + position in "
    "levels, 1 where it is not among them; one column for each of static.categorical.",
)

PANEL_STEPS = (
    "The last step of every case stands in the last place; cases that are shorter than others have "
    "empty places before their first step.",
    "Channels are put into the order of channels.order: the categorical ones come last. Channels "
    "where channels.known is false are left empty.",
    "value: z = (number - center) / scale, then linear * asinh(z / linear); 0 where there is no "
    "number, in categorical channels, and in empty places. observed: whether there is a number.",
    "category: for each categorical channel (channels.categorical, in this order) first_code + "
    "position in its labels, unseen_code where it is not among them, 0 where missing and in empty "
    "places.",
    "time: number of the step within its case, from 0; in empty places the numbers before: -1, "
    "-2, ...",
)


class Exportable(Savable):
    """``export`` and ``export_inputs`` for an estimator with networks."""

    preparation_: Preparation | PanelPreparation

    @abstractmethod
    def _answer(self) -> Answer:
        """What the estimator answers, as a network of batches."""

    def export(self, path: Location, format: str | None = None) -> None:
        """Write the network to a file that runs without this library.

        The inputs are tokenised histories or scaled panels, of any number of rows, events and
        steps: what :meth:`export_inputs` gives.  The output is the final answer of the whole
        ensemble: probabilities with their temperature, numbers in the unit of the labels (in
        double precision), or embeddings; of every step where labels were.  The file is written at
        one go, as by :meth:`save`.

        Parameters
        ----------
        path : str or path
        format : {"onnx", "torch_export"}, optional
            - ``"onnx"``: for ONNX Runtime and other servers.  Needs ``onnx`` and ``onnxscript``,
              which ``pip install "tawt_sklearn[onnx]"`` installs.
            - ``"torch_export"``: for ``torch.export.load(path).module()(**inputs)``.

            By default what the suffix says, ``.onnx`` or ``.pt2``.

        Raises
        ------
        NotFittedError
        ValueError
            An unknown format, or none and another suffix.
        ImportError
            The packages that write ONNX are missing.
        FileNotFoundError
            The folder does not exist.
        SaveFileError
            The path is that of a folder.

        See Also
        --------
        save : A file that this library loads, with everything that predictions take.

        Notes
        -----
        The network computes in single precision, while predictions here are made in double
        precision on a CPU: answers differ in about the seventh digit.  It takes some ten seconds
        for each member.

        With ``patching="event"`` the tokens of all rows attend as those of one, where the others
        are left out: ask for one row, or few, at a time.

        How the inputs come out of raw events, in which scale and with which ids, is told by JSON
        in the file: in ONNX's ``metadata_props``, under ``"tawt_sklearn.json"``, or in the extra
        file of that name of ``torch.export.load``.

        Examples
        --------
        >>> from tawt_sklearn import TimeAwareClassifier
        >>> from tawt_sklearn.datasets import make_icu_stays
        >>> X, y = make_icu_stays(60, random_state=0)
        >>> clf = TimeAwareClassifier(
        ...     d_model=8, n_layers=1, n_ensemble=1, max_epochs=1, min_steps=5, random_state=0)
        >>> inputs = clf.fit(X, y).export_inputs(X.iloc[:3])
        >>> inputs["static_category"].shape
        (3, 2)
        >>> clf.export("model.onnx")  # doctest: +SKIP
        >>> import onnxruntime  # doctest: +SKIP
        >>> session = onnxruntime.InferenceSession("model.onnx")  # doctest: +SKIP
        >>> session.run(None, inputs)[0].shape  # doctest: +SKIP
        (3, 2)
        """
        check_is_fitted(self)
        refuse_beside(self.preparation_)
        chosen = format_of(path, format)
        require_packages(chosen)
        if self._writes():
            write_graph(path, self._graph(), chosen)

    def export_inputs(self, X: Any) -> dict[str, NDArray]:
        """What an exported network takes for these rows.

        Parameters
        ----------
        X : as in ``fit``

        Returns
        -------
        dict of arrays
            Of ``B`` event histories with ``E`` events in all: ``row``, ``code``, ``value``,
            ``observed``, ``category``, ``time``, ``age``, (E,) each, ``static_numeric`` and
            ``static_category``, (B, n) each.  Of a panel: ``value``, ``observed`` and ``category``
            (B, C, T) and ``time`` (B, 1, T), with the last step of each case in the last place.
        """
        check_is_fitted(self)
        refuse_beside(self.preparation_)
        frame, _ = read_rows(self, X, self.preparation_)
        data = self.preparation_.dataset(frame)
        batch = data.batch(np.arange(len(data)))
        return {name: tensor.numpy() for name, tensor in _fields(batch).items()}

    def _graph(self) -> Graph:
        answer, name, shape, meaning = self._answer()
        inputs, axes = example_of(answer, self.preparation_)
        module = OfPanels(answer) if "row" not in inputs else OfEvents(answer)
        metadata: dict[str, Any] = {
            "version": VERSION,
            "written_by": _version(),
            "estimator": type(self).__name__,
            "inputs": [
                {"name": key, "dtype": _dtype(tensor), "shape": [*axes[key]]}
                for key, tensor in inputs.items()
            ],
            "output": {"name": name, "shape": [*shape], "meaning": meaning},
            "preparation": described(self.preparation_),
        }
        if (classes := getattr(self, "classes_", None)) is not None:
            metadata["classes"] = [_plain(one) for one in np.asarray(classes).tolist()]
        return Graph(module, inputs, axes, name, metadata)


def refuse_beside(preparation: Preparation | PanelPreparation) -> None:
    """Refuse networks of more than events, whose inputs no file describes.

    Raises
    ------
    ValueError
    """
    if modalities := getattr(preparation, "modalities", None):
        raise ValueError(
            "Expected an estimator of event histories alone, or of panels. Got one with the "
            f"modalities {sorted(modalities)}, which are not exported. Use save and load."
        )


# ---- networks ----------------------------------------------------------------------------------


def rebuilt(net: EventNet) -> nn.Module:
    """The network of a net once more, in single precision on the CPU; nothing is shared."""
    make, curves = net.module, net.module.keywords.get("curves")
    if curves is not None:  # which are no weights
        make = partial(make, curves=None)
    with torch.device("meta"):
        module = make()
    module.load_state_dict(net.weights(), assign=True)
    if curves is not None:
        module.add_curves(curves, module.curves_share)
    return module.eval()


def supervised_answer(nets: Sequence[EventNet], target: Any, temperature: float) -> Answer:
    """What predict_proba says, or predict of numbers."""
    members = [rebuilt(net) for net in nets]
    steps: tuple[str, ...] = ("steps",) if isinstance(target, StepTarget) else ()
    kind = target.inner if isinstance(target, StepTarget) else target
    K = len(kind.prior)
    if isinstance(kind, NumericTarget):
        single = kind.one_dimensional or bool(steps)
        numbers = Numbers(members, kind.center.tolist(), kind.scale.tolist(), single)
        shape = ("rows", *steps, *(() if single else (K,)))
        return numbers, "prediction", shape, "Numbers in the unit of the labels."
    assert isinstance(kind, ClassTarget | MultilabelTarget)
    several = isinstance(kind, MultilabelTarget)
    meaning = "Probability of each label." if several else "Probability of each class."
    answer = Probabilities(members, temperature, several)
    return answer, "probability", ("rows", *steps, K), meaning


def encoder_answer(net: EventNet, d_out: int) -> Answer:
    """What transform says."""
    pretrainer: Any = rebuilt(net)
    answer = Embeddings(pretrainer.backbone, pretrainer.pooling, pretrainer.coordinates)
    return answer, "embeddings", ("rows", d_out), "Embedding of each row."


def example_of(
    answer: nn.Module, preparation: Preparation | PanelPreparation
) -> tuple[dict[str, Tensor], Axes]:
    """Inputs to trace a network with, and the names of their axes."""
    sizes = preparation.sizes()
    B = 3
    if isinstance(preparation, PanelPreparation):
        strides = [m.strides for m in answer.modules() if isinstance(m, TemporalStrides)]
        C, K = sizes["n_codes"], len(sizes["panel"].cardinalities)
        T = 3 + 2 * max([1, *(kind.stride for kinds in strides for kind in kinds)])
        steps = torch.arange(T, dtype=torch.float32)
        panel = PanelBatch(
            value=torch.zeros(B, C, T),
            observed=torch.ones(B, C, T, dtype=torch.bool),
            category=torch.zeros(B, K, T, dtype=torch.int64),
            time=steps.expand(B, 1, T).clone(),
        )
        return _fields(panel), {
            "value": ("rows", C, "steps"),
            "observed": ("rows", C, "steps"),
            "category": ("rows", K, "steps"),
            "time": ("rows", 1, "steps"),
        }
    E, n = 7, sizes["n_static_numeric"]
    k = len(sizes["static_cardinalities"])
    order = torch.arange(E)
    events = EventBatch(
        row=order * B // E,
        code=order % sizes["n_codes"],
        value=torch.zeros(E),
        observed=torch.ones(E, dtype=torch.bool),
        category=torch.zeros(E, dtype=torch.int64),
        time=order.float(),
        age=E - order.float(),
        static_numeric=torch.zeros(B, n),
        static_category=torch.zeros(B, k, dtype=torch.int64),
    )
    inputs = _fields(events)
    axes: Axes = dict.fromkeys(inputs, ("events",))
    return inputs, axes | {"static_numeric": ("rows", n), "static_category": ("rows", k)}


def _fields(batch: EventBatch | PanelBatch) -> dict[str, Tensor]:
    """All tensors of a batch, by name; what stands beside events is refused before."""
    names = [field.name for field in fields(batch) if field.name != "beside"]
    return {name: getattr(batch, name) for name in names}


# ---- what a server has to know -----------------------------------------------------------------


def described(preparation: Preparation | PanelPreparation) -> dict[str, Any]:
    """How the inputs are made, as plain numbers and words."""
    if isinstance(preparation, PanelPreparation):
        numeric = ~np.isnan(preparation.center)
        return {
            "steps": [*PANEL_STEPS],
            "channels": {
                "order": preparation.order.tolist(),
                "known": preparation.known.tolist(),
                "center": np.where(numeric, preparation.center, 0.0).tolist(),
                "scale": np.where(numeric, preparation.scale, 1.0).tolist(),
                "linear": LINEAR,
                "categorical": [*preparation.categorical],
                "labels": [[*labels] for labels in preparation.labels],
                "first_code": FIRST_CODE,
                "unseen_code": UNSEEN_CODE,
            },
        }
    vocabulary, statics = preparation.vocabulary, preparation.statics
    sequencer = preparation.sequencer
    numbers = zip(
        statics.numeric_names_, statics.center_.tolist(), statics.scale_.tolist(), strict=True
    )
    return {
        "steps": [*EVENT_STEPS],
        "vocabulary": json.loads(vocabulary.to_json()),
        "max_events": None if sequencer is None else _plain(sequencer.max_events),
        "clock": {
            "unit": vocabulary.time_unit,
            "timezone": vocabulary.timezone,
            "origin": vocabulary.time_origin,
            "known_start": vocabulary.known_start,
            "offset": preparation.grid.origin,
        },
        "static": {
            "numeric": [
                {"name": _plain(name), "center": center, "scale": scale}
                for name, center, scale in numbers
            ],
            "categorical": [
                {"name": _plain(name), "levels": [*statics.levels_[name]]}
                for name in statics.categorical_names_
            ],
            "clip": statics.clip,
        },
    }


def _plain(value: Hashable) -> Any:
    """A name, class or number as JSON can hold it."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _version() -> str:
    from tawt_sklearn import __version__

    return __version__
