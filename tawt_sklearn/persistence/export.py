"""Networks as files that run without this library: ONNX, or what ``torch.export`` writes."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import logging
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from tawt_sklearn.persistence.archive import Location, replacing

if TYPE_CHECKING:
    from torch import Tensor, nn

Format = Literal["onnx", "torch_export"]

SUFFIXES: dict[str, Format] = {".onnx": "onnx", ".pt2": "torch_export"}
"""What a file is where nobody says it."""

METADATA = "tawt_sklearn.json"
"""Key of ONNX's metadata_props, and name among the extra files of torch.export."""

NEEDED = ("onnx", "onnxscript")
"""Packages that writing ONNX takes."""


@dataclass(frozen=True)
class Graph:
    """A network that can be exported.

    Attributes
    ----------
    module : nn.Module
        Takes the inputs as keywords and returns one tensor.
    inputs : dict of tensors
        Any that are valid; none of the sizes that vary is 0 or 1.
    axes : dict of tuples
        For each input, names of the axes whose sizes vary, and the sizes of the others.
    output : str
        Name of the answer.
    metadata : dict
        Anything that strict JSON can hold.
    """

    module: nn.Module
    inputs: Mapping[str, Tensor]
    axes: Mapping[str, tuple[str | int, ...]]
    output: str
    metadata: Mapping[str, Any]


def format_of(path: Location, format: str | None) -> Format:
    """What is to be written: as asked, or as the suffix of the path says.

    Raises
    ------
    ValueError
        An unknown format, or a suffix that says nothing.
    """
    if format is not None and format not in get_args(Format):
        raise ValueError(f'Expected format to be "onnx", "torch_export" or None. Got {format!r}.')
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"Expected a path. Got {path!r}.")
    suffix = Path(os.fspath(path)).suffix.lower()
    told = SUFFIXES.get(suffix)
    if format is not None:
        if told not in (None, format):
            raise ValueError(
                f"Expected path and format to say the same. Got {os.fspath(path)!r} and "
                f"format={format!r}. Leave the format out, or take another suffix."
            )
        return format  # type: ignore[return-value]
    if told is None:
        raise ValueError(
            f"Expected a path that ends with .onnx or .pt2, or a format. Got {os.fspath(path)!r} "
            'without one. Pass format="onnx" or format="torch_export".'
        )
    return told


def require_packages(format: Format) -> None:
    """Refuse ONNX where the packages that write it are missing.

    Raises
    ------
    ImportError
    """
    if format != "onnx":
        return
    if absent := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise ImportError(
            f'Expected {" and ".join(NEEDED)} for format="onnx". Got no {" and no ".join(absent)}. '
            'Install them with: pip install "tawt_sklearn[onnx]", or use format="torch_export".'
        )


def write_graph(path: Location, graph: Graph, format: Format) -> None:
    """Trace a network and write what was traced, with the metadata in it; replaces a file.

    Raises
    ------
    FileNotFoundError, SaveFileError
        There can be no file at the path.
    """
    import torch

    text = json.dumps(graph.metadata, allow_nan=False)
    with replacing(path) as file, _quiet(), torch.no_grad():
        program = _traced(graph)
        if format == "torch_export":
            buffer = io.BytesIO()
            torch.export.save(program, buffer, extra_files={METADATA: text})
            file.write(buffer.getvalue())
        else:
            file.write(_to_onnx(program, graph, text))


def _traced(graph: Graph) -> Any:
    """The graph of a network, in which the sizes that vary are symbols."""
    import torch

    names = {axis for axes in graph.axes.values() for axis in axes if isinstance(axis, str)}
    sizes = {name: torch.export.Dim(name, min=0) for name in sorted(names)}
    shapes = {
        name: {k: sizes[axis] for k, axis in enumerate(axes) if isinstance(axis, str)}
        for name, axes in graph.axes.items()
    }
    module = graph.module.eval().requires_grad_(False)
    return torch.export.export(
        module,
        (),
        dict(graph.inputs),
        dynamic_shapes=shapes,
        # What is true of all sizes, and yet cannot be proved, is looked at when the graph runs.
        prefer_deferred_runtime_asserts_over_guards=True,
    )


def _to_onnx(program: Any, graph: Graph, text: str) -> bytes:
    import torch

    made = torch.onnx.export(
        program,
        kwargs=dict(graph.inputs),
        input_names=list(graph.inputs),
        output_names=[graph.output],
        dynamo=True,
        verbose=False,
    )
    assert made is not None
    made.model.metadata_props[METADATA] = text
    model = made.model_proto
    _name_axes(model.graph, graph.axes)
    return model.SerializeToString()


def _name_axes(made: Any, axes: Mapping[str, tuple[str | int, ...]]) -> None:
    """Call the sizes that vary by their names, rather than s0 and s1, wherever they stand."""
    name_of = {}
    for value in made.input:
        for axis, size in zip(axes[value.name], value.type.tensor_type.shape.dim, strict=True):
            if size.dim_param:
                name_of[size.dim_param] = str(axis)
    if not name_of:
        return
    symbol = re.compile(rf"\b({'|'.join(map(re.escape, name_of))})\b")
    for value in (*made.input, *made.output, *made.value_info):
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param:
                size.dim_param = symbol.sub(lambda found: name_of[found[0]], size.dim_param)


class _OnlyErrors(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporters say to their own developers."""
    log = logging.getLogger("torch.onnx._internal.exporter._registration")  # "no torchvision"
    only_errors = _OnlyErrors()
    log.addFilter(only_errors)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)`", FutureWarning)
            yield
    finally:
        log.removeFilter(only_errors)
