"""The second exporter: a graph captured by torch.export, for what TorchScript can't trace and for opsets above its own.

Axes come out of it with numbers for names; they get those of the inputs back.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfopt import Session, TensorSpec
from hfopt.api.example import example_feeds
from hfopt_onnx_conversion.tracing import TRACED_BATCH, TRACED_SIZE, dynamic_axes, sizes, taken
from hfopt_onnx_model.graph import load

if TYPE_CHECKING:
    import onnx_ir
    import torch
    from onnx import ModelProto

LOGGERS = (
    "onnx_ir",
    "onnxscript",
    "torch._export",
    "torch.export",
    "torch.onnx",
    "transformers",
)
"""Loggers that speak of what users can't act on."""


def capture(
    source: Session, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], opset: int, folder: Path
) -> ModelProto:
    """The graph of an open PyTorch model, whose weights are left in `folder`.

    transformers' own exporter is taken where there is one (5.0 and later): it mends what torch.export can't do with
    models of transformers, such as attention to rows that are padded throughout.

    :param source: its ``live`` is a ``torch.nn.Module``
    :raises Exception: whatever the exporters meet in the model's code
    """
    import onnx_ir
    import torch

    module = _by_plain_names(source.live, inputs)
    feeds = taken(source, example_feeds(inputs, sizes(inputs, TRACED_BATCH, TRACED_SIZE), padded=True))
    tensors = {_plain(spec): torch.from_numpy(feeds[spec.name]) for spec in inputs}
    try:
        from transformers.exporters import OnnxConfig, OnnxExporter
    except ImportError:
        captured = _with_torch(module, tensors, inputs, outputs, opset)
    else:
        config = OnnxConfig(dynamic_shapes=_dynamic(inputs), opset_version=opset)
        captured = OnnxExporter().export(module, copy.copy(tensors), config).program
    name_axes(captured, inputs)
    for spec, value in zip(inputs, captured.graph.inputs, strict=True):
        value.name = spec.name
    target = folder / "captured.onnx"
    onnx_ir.save(captured, str(target), external_data="captured.onnx.data")
    return load(target, weights=False)


def _dynamic(inputs: Sequence[TensorSpec]) -> dict[str, Any]:
    """Which axes may change their size, as torch.export is told."""
    import torch

    return {_plain(spec): dict.fromkeys(dynamic_axes(spec), torch.export.Dim.DYNAMIC) for spec in inputs}


def _plain(spec: TensorSpec) -> str:
    """An input's name as one of Python's, which torch.export wants: ``past_key_values_0_key``."""
    return spec.name.replace(".", "_")


def _by_plain_names(module: torch.nn.Module, inputs: Sequence[TensorSpec]) -> torch.nn.Module:
    """The module, which takes its inputs by these names; itself, where they have no others."""
    import torch

    names = {_plain(spec): spec.name for spec in inputs}
    if [*names] == [*names.values()]:
        return module

    class ByPlainNames(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = module

        def forward(self, **tensors: torch.Tensor) -> Any:
            return self.model(**{names[name]: each for name, each in tensors.items()})

    return ByPlainNames().eval()


def _with_torch(
    module: torch.nn.Module,
    tensors: Mapping[str, torch.Tensor],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    opset: int,
) -> onnx_ir.Model:
    """torch.onnx.export alone, which serves any module."""
    import torch

    try:
        program = torch.onnx.export(
            module,
            (),
            kwargs=dict(tensors),
            input_names=[spec.name for spec in inputs],
            output_names=[spec.name for spec in outputs],
            dynamic_shapes=_dynamic(inputs),
            opset_version=opset,
            dynamo=True,
            verbose=False,
        )
    except torch.onnx.OnnxExporterError as error:  # it tells how to report a bug; its cause is what the model met
        raise (error.__cause__ or error) from None
    if program is None:
        raise RuntimeError("torch.onnx.export returned nothing")
    return program.model


def name_axes(model: onnx_ir.Model, inputs: Sequence[TensorSpec]) -> None:
    """Rename the symbols of axes (``s18``) after the inputs' axes, in every shape and in expressions of them."""
    import onnx_ir

    names = {
        str(symbol.value): axis
        for spec, value in zip(inputs, model.graph.inputs, strict=True)
        for symbol, axis in zip(value.shape or (), spec.axes, strict=True)
        if isinstance(symbol, onnx_ir.SymbolicDim) and symbol.value is not None and isinstance(axis, str)
    }
    if not names:
        return
    pattern = re.compile(rf"\b({'|'.join(map(re.escape, names))})\b")

    def renamed(dimension: Any) -> Any:
        if not isinstance(dimension, onnx_ir.SymbolicDim) or dimension.value is None:
            return dimension
        text = pattern.sub(lambda match: names[match[0]], str(dimension.value))
        return int(text) if text.isdecimal() else text

    for graph in model.graphs():
        values = [*graph.inputs, *graph.initializers.values(), *(out for node in graph for out in node.outputs)]
        for value in values:
            if value.shape is not None:
                value.shape = onnx_ir.Shape([renamed(dimension) for dimension in value.shape])
