"""An ONNX graph in float16 with nodes that stay in float32, and a graph that shows what float16 does to its values.

On CPUs ONNX Runtime computes float16 graphs in float32, and keeps what lies between two operators in float32 too:
nothing overflows, little is rounded. How such a graph fares on a GPU is what a graph made by `rounded` tells.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hfopt_onnx_model.graph import load, save
from hfopt_onnx_model.weights import SMALL, bodies, read_in

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

FLOAT, FLOAT16 = 1, 10
"""`onnx.TensorProto` has these numbers for them."""

_CAST = re.compile(r"_cast_to_fp(16|32)_node$|^graph_(in|out)put_cast\d+$")
"""What the converter calls the casts that it adds."""


def write_typed(source: Path, target: Path, work: Path) -> None:
    """Write a model with the type of every tensor, by which the converter finds where casts are needed.

    Nodes without names get some, as the converter is told by name which to leave alone.

    :param work: a folder for what the inference leaves behind
    """
    from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference

    model = load(source, weights=False)
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{number}"
    read_in(model, source.parent, below=SMALL)
    with contextlib.chdir(work):
        inferred = SymbolicShapeInference.infer_shapes(model, auto_merge=True)
    del model.graph.value_info[:]
    for value in inferred.graph.value_info:
        if value.type.tensor_type.elem_type:
            value.type.tensor_type.ClearField("shape")
            model.graph.value_info.append(value)
    save(model, target, source=source.parent)


def float_nodes(model: ModelProto) -> list[NodeProto]:
    """The nodes that yield float32, in order: those that become float16."""
    kinds = _kinds(model.graph)
    return [node for node in model.graph.node if any(kinds.get(name) == FLOAT for name in node.output)]


def _kinds(graph: GraphProto) -> dict[str, int]:
    values = (*graph.input, *graph.output, *graph.value_info)
    return {value.name: value.type.tensor_type.elem_type for value in values}


def convert(model: ModelProto, kept: Collection[str], operators: Collection[str], *, keep_io_types: bool) -> ModelProto:
    """Make a typed model float16, in place.

    :param kept: names of nodes that stay in float32
    :param operators: those that stay in float32 besides the ones that have no float16 form
    """
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    half = convert_float_to_float16(
        model,
        keep_io_types=keep_io_types,
        disable_shape_infer=True,
        op_block_list=sorted({*DEFAULT_OP_BLOCK_LIST, *operators}),
        node_block_list=sorted(kept),
    )
    join_islands(half.graph)
    OnnxModel(half).topological_sort(is_deterministic=True)
    return half


def join_islands(graph: GraphProto) -> None:
    """Let float32 values reach float32 nodes as they are: the converter takes them through float16 in between.

    It casts the output of a node that stays in float32 to float16, and for the next such node back: what is too large
    would be infinite all the same. So it is with inputs and outputs that stay float32.
    """
    down = {node.output[0]: node.input[0] for node in graph.node if _is_converters(node, FLOAT16)}
    back = {
        node.output[0]: down[node.input[0]]
        for node in graph.node
        if _is_converters(node, FLOAT) and node.input[0] in down
    }
    outputs = {value.name for value in graph.output}
    produced = {name for node in graph.node for name in node.output}
    renamed = {
        value: name for name, value in back.items() if name in outputs and value in produced and value not in outputs
    }
    for name, value in back.items():
        if name not in outputs:
            renamed[name] = renamed.get(value, value)
    dropped = {name for name in back if name not in outputs or back[name] in renamed}
    for number in reversed(range(len(graph.node))):
        node = graph.node[number]
        if node.op_type == "Cast" and node.output[0] in dropped:
            del graph.node[number]
            continue
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    used = {name for node in graph.node for name in node.input} | outputs
    for number in reversed(range(len(graph.node))):
        if graph.node[number].op_type == "Cast" and used.isdisjoint(graph.node[number].output):
            del graph.node[number]


def _is_converters(node: NodeProto, kind: int) -> bool:
    """Whether the converter added a cast to this type: the graph's own casts stay."""
    return node.op_type == "Cast" and bool(_CAST.search(node.name)) and node.attribute[0].i == kind


def rounded(model: ModelProto) -> ModelProto:
    """Make a float16 model one that computes in float32 and rounds each result to float16, in place.

    It shows what a device does that has float16 operators which add up in float32, as those of GPUs do.
    """
    kinds: dict[str, int] = {}
    for body in bodies(model):
        if body.DESCRIPTOR.name == "GraphProto":
            kinds |= _kinds(body)
    for body in bodies(model):
        if body.DESCRIPTOR.name == "GraphProto":
            _round(body, kinds, outermost=body is model.graph)
    return model


def _round(graph: GraphProto, kinds: Mapping[str, int], *, outermost: bool) -> None:
    from onnx import helper, numpy_helper

    for tensor in graph.initializer:
        if tensor.data_type == FLOAT16:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype("float32"), tensor.name))
    nodes: list[NodeProto] = []
    taken_in: dict[str, str] = {}
    for value in graph.input if outermost else ():
        if value.type.tensor_type.elem_type == FLOAT16:
            taken_in[value.name] = f"{value.name}.float32"
            nodes.append(helper.make_node("Cast", [value.name], [taken_in[value.name]], to=FLOAT))
    for node in graph.node:
        node.input[:] = [taken_in.get(name, name) for name in node.input]
        _widen(node)
        halves = [name for name in node.output if kinds.get(name) == FLOAT16]
        is_cast = node.op_type == "Cast"
        node.output[:] = [f"{name}.exact" if name in halves else name for name in node.output]
        nodes.append(node)
        for name in halves:
            exact, half = f"{name}.exact", f"{name}.float16"
            if is_cast:
                node.output[0] = half
            else:
                nodes.append(helper.make_node("Cast", [exact], [half], to=FLOAT16))
            nodes.append(helper.make_node("Cast", [half], [name], to=FLOAT))
    del graph.value_info[:]
    for value in graph.output:
        if value.type.tensor_type.elem_type == FLOAT16:
            value.type.tensor_type.elem_type = FLOAT
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def _widen(node: NodeProto) -> None:
    """Make tensors and types that are attributes float32; a Cast keeps its own, which is where rounding is done."""
    from onnx import numpy_helper

    for attribute in node.attribute:
        if attribute.HasField("t") and attribute.t.data_type == FLOAT16:
            wide = numpy_helper.to_array(attribute.t).astype("float32")
            attribute.t.CopyFrom(numpy_helper.from_array(wide, attribute.t.name))
        if attribute.name == "dtype" and attribute.i == FLOAT16:
            attribute.i = FLOAT
