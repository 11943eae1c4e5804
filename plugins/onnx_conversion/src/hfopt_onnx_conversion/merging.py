"""OptimumMerging: the first and the later steps of a decoder as one graph, which holds what both have in common once.

The graph is an ``If`` over ``use_cache_branch``, under the names that optimum gives to its inputs and outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from hfopt import Config, ModelHandle, Pass, PassContext, PassResult, PreconditionFailed
from hfopt.api.config import only
from hfopt.api.model import COMPOSITE
from hfopt_onnx_model.external import ExternalDataConfig
from hfopt_onnx_model.filling import BRANCH, PAST
from hfopt_onnx_model.generating import PRESENT
from hfopt_onnx_model.seq2seq import DECODER, LATER, MERGED, check_later

if TYPE_CHECKING:
    import onnx_ir as ir

_STRICT = "steps whose weights, operators or outputs do not go together are refused"


class OptimumMergingConfig(ExternalDataConfig):
    """Options of ``OptimumMerging``."""

    strict: Annotated[bool, only(True, because=_STRICT)] = Field(True, description=f"true: {_STRICT}.")


class OptimumMerging(Pass):
    """To be the last pass: ONNX Runtime's optimizer and quantizers do not look into branches."""

    Config: ClassVar[type[Config]] = OptimumMergingConfig
    accepts = frozenset({COMPOSITE})
    accelerator_agnostic = True
    keeps_outputs = True
    config: OptimumMergingConfig

    def requires(self, model: ModelHandle) -> None:
        parts = {name: part.type for name, part in model.components.items()}
        if {parts.get(DECODER), parts.get(LATER)} != {"ONNXModel"}:
            raise PreconditionFailed(
                f"merges {DECODER} and {LATER} of ONNX, and the model has {', '.join(parts)}",
                hint="put OnnxConversion before it" if DECODER in parts else None,
            )

    def run(self, model: ModelHandle, context: PassContext) -> PassResult:
        import onnx_ir as ir

        from hfopt_onnx_model.graph import handle_of, load, save
        from hfopt_onnx_model.precision import tolerance_of

        steps = [model.components[name] for name in (DECODER, LATER)]
        target = context.folder / f"{MERGED}.onnx"
        graphs = [load(step.path) for step in steps]
        tolerance = max(map(tolerance_of, graphs))
        save(ir.to_proto(merged(*map(ir.from_proto, graphs))), target, self.config)
        part = handle_of(target, like=steps[0])
        others = {name: each for name, each in model.components.items() if name not in (DECODER, LATER)}
        made = model.with_(path=context.folder, components={**others, MERGED: part})
        check_later(steps[1], part, tolerance, context)
        before, after = sum(step.size_bytes for step in steps), part.size_bytes
        return PassResult(made, {"summary": f"{before:,} bytes become {after:,}"}, tolerance)


def merged(first: ir.Model, later: ir.Model) -> ir.Model:
    """One model of two, which are taken apart.

    :param first: returns all that is kept
    :param later: takes that back, and returns what has changed of it
    :raises PreconditionFailed: their operators are of different versions, or their outputs do not go together
    """
    import onnx_ir as ir

    if first.opset_imports != later.opset_imports:
        raise PreconditionFailed(
            f"{DECODER} has operators of other versions than {LATER}: "
            f"{dict(first.opset_imports)}, {dict(later.opset_imports)}"
        )
    returned = {value.name: value for model in (first, later) for value in model.graph.outputs}
    outputs = [ir.Value(name=name, type=each.type, shape=each.shape) for name, each in returned.items()]
    taken: dict[str | None, ir.Value] = {}
    weights: dict[Any, ir.Value] = {}
    branches = {
        name: ir.AttrGraph(name, _branch(model, f"{name}/", list(returned), taken, weights))
        for name, model in (("else_branch", first), ("then_branch", later))
    }
    chosen = ir.Value(name=BRANCH, type=ir.TensorType(ir.DataType.BOOL), shape=ir.Shape([1]))
    graph = ir.Graph(
        [*taken.values(), chosen],
        outputs,
        nodes=[ir.Node("", "If", [chosen], branches, outputs=outputs)],
        initializers=[*weights.values()],
        opset_imports=dict(first.opset_imports),
        name=MERGED,
    )
    return ir.Model(graph, ir_version=first.ir_version, functions=[*{**first.functions, **later.functions}.values()])


def _branch(
    model: ir.Model,
    prefix: str,
    outputs: Sequence[str],
    taken: dict[str | None, ir.Value],
    weights: dict[Any, ir.Value],
) -> ir.Graph:
    """What a model computes, with names of its own; its inputs and weights become those of the graph around it.

    :param outputs: in this order; what the model does not return, it has got as a past
    :param taken: the inputs of all models, by name
    :param weights: those of all models, by content
    """
    import onnx_ir as ir

    inner, used = model.graph, {value.name for value in weights.values()}
    for graph in model.graphs():
        for node in graph:
            node.name = f"{prefix}{node.name}"
            for value in node.outputs:
                value.name = value.name and f"{prefix}{value.name}"  # an output that is not wanted has none
        for value in () if graph is inner else (*graph.inputs, *graph.initializers.values()):
            value.name = f"{prefix}{value.name}"
    returned = dict(zip((value.name.removeprefix(prefix) for value in inner.outputs), inner.outputs, strict=True))
    for value in list(inner.inputs):
        ir.convenience.replace_all_uses_with(value, taken.setdefault(value.name, value))
    for name, value in list(inner.initializers.items()):
        tensor = value.const_value
        same = weights.setdefault((tensor.dtype, tuple(tensor.shape), sha256(tensor.tobytes()).digest()), value)
        ir.convenience.replace_all_uses_with(value, same)
        if same is value and name in used:
            value.name = f"{prefix}{name}"
    nodes = list(inner)
    for held in (inner.inputs, inner.outputs, inner.initializers):
        held.clear()
    inner.remove(nodes)
    for name in outputs:
        value = returned.get(name)
        if value is None or value.producer() is None:  # a branch returns only what it computes
            kept = taken.get(name.replace(PRESENT, PAST, 1)) if value is None else value
            if kept is None:
                raise PreconditionFailed(f"only one of {DECODER} and {LATER} returns {name}")
            returned[name] = ir.Value(name=f"{prefix}{name}", type=kept.type, shape=kept.shape)
            nodes.append(ir.Node("", "Identity", [kept], outputs=[returned[name]]))
    return ir.Graph([], [returned[name] for name in outputs], nodes=nodes, name=prefix.rstrip("/"))
