"""OnnxOpVersionConversion: the same graph in the operators of another ONNX opset."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from hfopt import Config, ModelHandle, Pass, PassContext, PassResult, PreconditionFailed
from hfopt_onnx_model.external import ExternalDataConfig

if TYPE_CHECKING:
    from onnx import ModelProto

OLDEST = 7
"""The first opset that ONNX Runtime runs."""

QUANTIZERS = frozenset({"DequantizeLinear", "QuantizeLinear"})
"""What later passes may put into the graph."""

UNBOUNDED = 2**31 - 1
"""The last version of a kernel that has no successor."""


class OnnxOpVersionConversionConfig(ExternalDataConfig):
    """Options of ``OnnxOpVersionConversion``."""

    target_opset: int | None = Field(
        None,
        ge=OLDEST,
        description="The ONNX opset; null: the latest in which the installed ONNX Runtime runs the graph's operators, "
        "and those that quantize it.",
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
        from hfopt_onnx_model.precision import tolerance_of
        from hfopt_onnx_model.weights import SMALL, read_in

        target = context.folder / f"{context.name}.onnx"
        graph = load(model.path, weights=False)
        opset = self.config.target_opset or latest_run(graph)
        read_in(graph, model.path.parent, below=SMALL)
        converted = convert(graph, opset)
        save(converted, target, self.config, source=model.path.parent)
        report = {"summary": f"opset {opset}", "opset": opset, "operators": node_counts(converted)}
        return PassResult(handle_of(target, like=model), report, tolerance_of(converted))


def convert(model: ModelProto, opset: int) -> ModelProto:
    """A model in another opset; everything else stays as it is, names and external weights included.

    :raises PreconditionFailed: an operator has no form there that means the same, with ONNX's reason
    """
    import onnx
    from onnx import version_converter

    undefined = sorted(name for name in _operators(model) if not onnx.defs.has(name))
    if undefined:  # the converter refuses them too, with the placeholders of its message unfilled
        raise PreconditionFailed(
            f"the graph can't be converted: ONNX itself defines no {' or '.join(undefined)}",
            hint="put this pass before the one that fuses: ONNX Runtime's fusions write operators of its own",
        )
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


def latest_run(model: ModelProto) -> int:
    """The latest opset in which ONNX Runtime has kernels for all that it has any for.

    What ONNX Runtime opens is newer: of its last opsets it knows the definitions and lacks kernels. Operators that ONNX
    has given up don't count: the converter puts others in their place.
    """
    import onnx
    from onnxruntime.capi.onnxruntime_pybind11_state import get_all_opkernel_def

    kernels: dict[str, list[tuple[int, int]]] = {}
    for kernel in get_all_opkernel_def():
        if kernel.domain in ("", "ai.onnx"):
            kernels.setdefault(kernel.op_name, []).append(tuple(kernel.version_range))
    latest = latest_opset()
    defined = (name for name in _operators(model) if onnx.defs.has(name))
    names = {name for name in defined if not onnx.defs.get_schema(name, latest).deprecated} | QUANTIZERS
    return next(
        (
            opset
            for opset in range(latest, OLDEST, -1)
            if all(_has_kernel(kernels[name], name, opset) for name in names & kernels.keys())
        ),
        latest,
    )


def _operators(model: ModelProto) -> set[str]:
    """The operators of ONNX's own domain that a model has, in its subgraphs too."""
    from hfopt_onnx_model.weights import bodies

    return {node.op_type for body in bodies(model) for node in body.node if node.domain in ("", "ai.onnx")}


def _has_kernel(versions: list[tuple[int, int]], name: str, opset: int) -> bool:
    """As ONNX Runtime looks for one: a kernel without an end is for the version that it begins with alone."""
    import onnx

    version = onnx.defs.get_schema(name, opset).since_version
    return any(first == version or (first < version <= last < UNBOUNDED) for first, last in versions)


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
