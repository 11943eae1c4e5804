"""OnnxOpVersionConversion: the same graph in the operators of another ONNX opset."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from hfopt import Config, ModelHandle, Pass, PassContext, PassResult, PreconditionFailed
from hfopt.parity import HALF_RELATIVE, RELATIVE
from hfopt_onnx_model.external import ExternalDataConfig

if TYPE_CHECKING:
    from onnx import ModelProto

OLDEST = 7
"""The first opset that ONNX Runtime runs."""

SMALL = 1024
"""Bytes below which a tensor may be one whose values an operator's meaning depends on: axes, shapes, pads."""


class OnnxOpVersionConversionConfig(ExternalDataConfig):
    """Options of ``OnnxOpVersionConversion``."""

    target_opset: int | None = Field(
        None, ge=OLDEST, description="The ONNX opset; null: the latest that the installed ONNX Runtime knows."
    )


class OnnxOpVersionConversion(Pass):
    """Converts with ONNX's own version converter."""

    Config: ClassVar[type[Config]] = OnnxOpVersionConversionConfig
    accepts = frozenset({"ONNXModel"})
    accelerator_agnostic = True
    keeps_outputs = True
    config: OnnxOpVersionConversionConfig

    def requires(self, model: ModelHandle) -> None:
        latest = latest_opset()
        if (self.config.target_opset or latest) > latest:
            raise PreconditionFailed(
                f"the installed ONNX Runtime knows opsets up to {latest}; target_opset is {self.config.target_opset}"
            )

    def run(self, model: ModelHandle, context: PassContext) -> PassResult:
        from hfopt_onnx_model.graph import handle_of, load, node_counts, save
        from hfopt_onnx_model.weights import computes_in_half, read_in

        opset = self.config.target_opset or latest_opset()
        target = context.folder / "model.onnx"
        graph = load(model.path, weights=False)
        read_in(graph, model.path.parent, below=SMALL)
        converted = convert(graph, opset)
        save(converted, target, self.config, source=model.path.parent)
        report = {"summary": f"opset {opset}", "opset": opset, "operators": node_counts(converted)}
        tolerance = HALF_RELATIVE if computes_in_half(converted) else RELATIVE
        return PassResult(handle_of(target, like=model), report, tolerance)


def convert(model: ModelProto, opset: int) -> ModelProto:
    """A model in another opset; everything else stays as it is, names and external weights included.

    :raises PreconditionFailed: an operator has no form there that means the same, with ONNX's reason
    """
    import onnx
    from onnx import version_converter

    imported = {entry.domain for entry in model.opset_import}
    for domain in sorted({node.domain for node in model.graph.node} - imported - {"", "ai.onnx"}):
        model.opset_import.add(domain=domain, version=1)  # ONNX Runtime does without, the converter does not
    try:
        converted = version_converter.convert_version(model, opset)
    except (RuntimeError, onnx.shape_inference.InferenceError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rpartition("failed: ")[2]
        raise PreconditionFailed(
            f"the graph can't be converted to opset {opset}: {reason}",
            hint="set target_opset of the pass that exports the model instead",
        ) from error
    converted.ir_version = max(
        model.ir_version, onnx.helper.find_min_ir_version_for(converted.opset_import, ignore_unknown=True)
    )
    del converted.graph.value_info[:]  # the converter adds what it inferred, which goes stale with the next change
    converted.graph.value_info.extend(model.graph.value_info)
    return converted


def latest_opset() -> int:
    """The latest opset that both ONNX and the installed ONNX Runtime know."""
    import onnx

    return next(opset for opset in range(onnx.defs.onnx_opset_version(), 0, -1) if _opens(opset) or opset == OLDEST)


def _opens(opset: int) -> bool:
    """Whether ONNX Runtime opens a graph of this opset: it has no other way to say which it knows."""
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Abs", ["x"], ["y"])], "probe", ends[:1], ends[1:])
    probe = onnx.helper.make_model_gen_version(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    try:
        onnxruntime.InferenceSession(probe.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception:  # noqa: BLE001 - ONNX Runtime raises a dozen types without a common base
        return False
    return True
