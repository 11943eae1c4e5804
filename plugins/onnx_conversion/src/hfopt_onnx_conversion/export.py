"""From an open PyTorch model to an ONNX file, by one exporter or the other; the same model gives the same bytes."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

from hfopt import PreconditionFailed, Session, TensorSpec
from hfopt_onnx_conversion.dynamo import LOGGERS, capture
from hfopt_onnx_conversion.stored import apart, settle, taken_whole
from hfopt_onnx_conversion.tracing import output_specs, trace
from hfopt_onnx_model.external import ExternalDataConfig
from hfopt_onnx_model.graph import clean, save
from hfopt_onnx_model.weights import Later

if TYPE_CHECKING:
    from onnx import ModelProto

Exporter = Literal["torchscript", "dynamo"]

OPSETS: dict[Exporter, range] = {"torchscript": range(13, 21), "dynamo": range(18, 26)}
"""What each exporter writes: TorchScript has symbolics up to 20, and the other converts down below 18."""

DEFAULT_OPSETS: dict[Exporter, int] = {"torchscript": 17, "dynamo": 18}
"""17 has LayerNormalization as one operator; 18 is the least that the other exporter writes by itself."""


@dataclass(frozen=True)
class Exported:
    """How a model was exported.

    :param failed: exporters that were tried before, with their reasons
    """

    exporter: Exporter
    opset: int
    failed: dict[str, str]


def export(
    source: Session,
    inputs: Sequence[TensorSpec],
    target: Path,
    opset: int | None = None,
    *,
    exporters: Sequence[Exporter] = ("torchscript", "dynamo"),
    external: ExternalDataConfig | None = None,
) -> Exported:
    """Write the graph of an open PyTorch model, by the first exporter that can.

    :param source: its ``live`` is a ``torch.nn.Module``
    :param inputs: the graph's, in this order
    :param opset: None: each exporter's own default
    :param exporters: which to try, in order; those that don't write `opset` are left out
    :raises PreconditionFailed: no exporter can, with PyTorch's reasons
    """
    outputs = output_specs(source, inputs)
    failed: dict[str, str] = {}
    if source.stored:
        exporters = ["torchscript"]
    for exporter in exporters:
        wanted = DEFAULT_OPSETS[exporter] if opset is None else opset
        if wanted not in OPSETS[exporter]:
            continue
        with quiet(), TemporaryDirectory(dir=target.parent) as folder:
            try:
                if exporter == "torchscript":
                    model, later = _traced(source, inputs, outputs, wanted, Path(folder))
                else:
                    model, later = capture(source, inputs, outputs, wanted, Path(folder)), {}
            except Exception as error:  # noqa: BLE001 - an exporter raises whatever the model's code meets
                failed[exporter] = f"{type(error).__name__}: {(str(error).strip() or '?').splitlines()[0]}"
                continue
            clean(model)
            save(model, target, external, source=Path(folder), later=later)
        return Exported(exporter, wanted, failed)
    hint = "use_dynamo_exporter: true holds all weights in memory" if source.stored else None
    raise PreconditionFailed(f"the model can't be exported: {describe_failures(failed)}", hint=hint)


def _traced(
    source: Session, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], opset: int, folder: Path
) -> tuple[ModelProto, dict[str, Later]]:
    """The graph of a model, and the data of those of its initializers that have none.

    Weights in memory are inputs too while it is traced, unless the exporter would work out something from them.
    """
    weights = apart(source)
    model = trace(source, inputs, outputs, opset, folder, weights)
    if source.stored or taken_whole(model, weights):
        return model, settle(model, source, weights)
    return trace(source, inputs, outputs, opset, folder), {}


def describe_failures(failed: Mapping[str, str]) -> str:
    """Which exporters failed, and why."""
    return "; ".join(f"{exporter} failed: {reason}" for exporter, reason in failed.items())


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No warnings, prints or log lines of the exporters."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
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
