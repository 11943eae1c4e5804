"""Tracing a module with TorchScript into an ONNX file.

The exporter orders a traced module's inputs by the signature of its forward, not by the names it is given, and swaps
them silently; so what is traced takes its inputs by position and calls the model by name.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfopt import PreconditionFailed, Session, TensorSpec
from hfopt.api.example import BATCH_AXIS, example_feeds
from hfopt_onnx_model.graph import load, save

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from onnx import GraphProto

TRACED_BATCH, TRACED_SIZE = 2, 16
PROBED_BATCH, PROBED_SIZE = 3, 11
"""Sizes of dynamic axes: every one differs from the traced one, and none is 1, which a tracer takes for a constant."""


def export(source: Session, inputs: Sequence[TensorSpec], target: Path, opset: int) -> None:
    """Write the graph of an open PyTorch model; the same model gives the same bytes.

    :param source: its ``live`` is a ``torch.nn.Module``
    :param inputs: what is traced, in this order
    :raises PreconditionFailed: the model can't be traced, with PyTorch's reason
    """
    import torch

    feeds = example_feeds(inputs, _sizes(inputs, TRACED_BATCH, TRACED_SIZE))
    names = [spec.name for spec in inputs]
    outputs = output_specs(source, inputs)
    traced = _by_position(source.live, names, [spec.name for spec in outputs])
    with quiet():
        try:
            torch.onnx.export(
                traced,
                tuple(torch.from_numpy(feeds[name]) for name in names),
                str(target),
                input_names=names,
                output_names=[spec.name for spec in outputs],
                dynamic_axes={spec.name: _dynamic(spec) for spec in (*inputs, *outputs)},
                opset_version=opset,
                dynamo=False,
            )
        except Exception as error:  # the tracer raises whatever the model's code meets
            reason = str(error).strip().splitlines()[0]
            raise PreconditionFailed(f"the model can't be traced: {type(error).__name__}: {reason}") from error
    model = load(target)
    strip(model.graph)
    for file in target.parent.iterdir():
        file.unlink()
    save(model, target)


def output_specs(source: Session, inputs: Sequence[TensorSpec]) -> list[TensorSpec]:
    """What the model returns, each axis named after the input axis with which it grows."""
    small = source.run(example_feeds(inputs, _sizes(inputs, TRACED_BATCH, TRACED_SIZE)))
    large = source.run(example_feeds(inputs, _sizes(inputs, PROBED_BATCH, PROBED_SIZE)))
    others = sorted({axis for spec in inputs for axis in spec.axes if isinstance(axis, str)} - {BATCH_AXIS})
    named = {(TRACED_BATCH, PROBED_BATCH): BATCH_AXIS}
    if len(others) == 1:
        named[TRACED_SIZE, PROBED_SIZE] = others[0]
    return [_output_spec(name, small[name], large[name], named) for name in small]


def _output_spec(
    name: str, small: NDArray[Any], large: NDArray[Any], named: Mapping[tuple[int, int], str]
) -> TensorSpec:
    pairs = zip(small.shape, large.shape, strict=True)
    axes = tuple(
        first if first == second else named.get((first, second), f"{name}_axis_{position}")
        for position, (first, second) in enumerate(pairs)
    )
    return TensorSpec(name=name, dtype=small.dtype.name, axes=axes)


def _sizes(inputs: Sequence[TensorSpec], batch: int, size: int) -> dict[str, int]:
    axes = {axis for spec in inputs for axis in spec.axes if isinstance(axis, str)}
    return {axis: batch if axis == BATCH_AXIS else size for axis in axes}


def _dynamic(spec: TensorSpec) -> dict[int, str]:
    return {position: axis for position, axis in enumerate(spec.axes) if isinstance(axis, str)}


def _by_position(module: torch.nn.Module, inputs: Sequence[str], outputs: Sequence[str]) -> torch.nn.Module:
    """The module with inputs and outputs in fixed positions."""
    import torch

    class ByPosition(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = module

        def forward(self, *values: torch.Tensor) -> tuple[torch.Tensor, ...]:
            found = self.model(**dict(zip(inputs, values, strict=True)))
            return tuple(found[name] for name in outputs)

    return ByPosition().eval()


def strip(graph: GraphProto) -> None:
    """Remove what a tracer notes of the source code: paths of this machine, and bytes that differ between exports."""
    import onnx

    for node in graph.node:
        node.ClearField("doc_string")
        node.ClearField("metadata_props")
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                strip(attribute.g)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No warnings, prints or log lines of the exporter."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "transformers")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
