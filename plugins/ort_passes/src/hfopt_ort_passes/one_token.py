"""Hidden states of which a model reads one token, computed for that token alone.

Classifiers read the first one. What the others go through behind the last attention, which mixes them, reaches nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from hfopt_onnx_model.graph import SMALL
from hfopt_ort_passes.making import Making, attribute
from hfopt_ort_passes.rewriting import graphs

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

    Narrowed = tuple[NodeProto, tuple[int, ...], int]
    """A node, which of its inputs have the tokens, and the token that is read."""

FIRST, LAST = 0, -1
"""The tokens that may be read: an operand that has one for all of them has these two at the same places."""

ELEMENTWISE = frozenset({"Add", "Div", "Mul", "Pow", "Sub"})
ATTENTION = frozenset({"Attention", "GroupQueryAttention", "MultiHeadAttention"})

BY_TOKEN: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(("BiasGelu", "Cast", "Erf", "FastGelu", "Gelu", "QuickGelu"), (0,)),
    **dict.fromkeys(("Identity", "Relu", "Sigmoid", "Sqrt", "Tanh"), (0,)),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"), (0,)),
    **dict.fromkeys(("SkipLayerNormalization", "SkipSimplifiedLayerNormalization"), (0, 1)),
    "MatMul": (0,),
}
"""Operators that take each token by itself, and which of their inputs have the tokens."""


def narrow(model: ModelProto) -> int:
    """Compute what is read of one token for that token only. The outputs stay what they are.

    :param model: its nodes in topological order; new ones are at its end
    :return: how many products are smaller now; at 0 nothing was changed
    """
    narrowed = _narrowed(model)
    products = sum(node.op_type == "MatMul" for node, _, _ in narrowed)
    if products:
        _take_tokens(model.graph, narrowed)
    return products


def _narrowed(model: ModelProto) -> list[Narrowed]:
    """The nodes of whose outputs one token is read, and which can compute it by itself."""
    making, ranks = Making(model.graph), _ranks(model)
    _, *inner = graphs(model)
    read: dict[str, int | None] = {value.name: None for value in model.graph.output}
    read |= {name: None for graph in inner for node in graph.node for name in node.input}
    narrowed: list[Narrowed] = []
    for node in reversed(model.graph.node):
        place, inputs = _gathered(node, making, ranks), (0,)
        if place is None:
            place = _one([read[name] for name in node.output if name in read])
            inputs = () if place is None else _inputs(node, ranks)
            if place is not None and inputs:
                narrowed.append((node, inputs, place))
        for number, name in enumerate(node.input):
            if name:
                read[name] = _one([read[name], place] if name in read else [place]) if number in inputs else None
    return narrowed


def _take_tokens(graph: GraphProto, narrowed: Sequence[Narrowed]) -> None:
    """Give nodes one token of what is made for all of them."""
    import numpy as np
    from onnx import helper, numpy_helper

    made = {name for node, _, _ in narrowed for name in node.output}
    taken: dict[tuple[str, int], str] = {}
    for node, inputs, place in narrowed:
        for number in inputs:
            name = node.input[number]
            if name in made:
                continue
            if (name, place) not in taken:
                token = taken[name, place] = f"{name}/{'first' if place == FIRST else 'last'}_token"
                graph.initializer.append(numpy_helper.from_array(np.array([place]), f"{token}/index"))
                graph.node.append(helper.make_node("Gather", [name, f"{token}/index"], [token], token, axis=1))
            node.input[number] = taken[name, place]
    for number in reversed(range(len(graph.value_info))):
        if graph.value_info[number].name in made:
            del graph.value_info[number]


def _one(places: Iterable[int | None]) -> int | None:
    """The only place among some; None: there are others, or all tokens are read."""
    place, *others = {*places} or {None}
    return None if others else place


def _gathered(node: NodeProto, making: Making, ranks: Mapping[str, int]) -> int | None:
    """Which token a node takes out of [batch, tokens, width]; None: it does something else."""
    if node.op_type != "Gather" or attribute(node, "axis") != 1 or ranks.get(node.input[0]) != 3:
        return None
    index = making.constant(node.input[1])
    return int(index.item()) if index is not None and index.size == 1 and index.item() in (FIRST, LAST) else None


def _inputs(node: NodeProto, ranks: Mapping[str, int]) -> tuple[int, ...]:
    """The inputs that have the tokens, [batch, tokens, width]; none: it can't compute a token by itself."""
    if node.op_type in ELEMENTWISE:
        sizes = [ranks.get(name) for name in node.input]
        return tuple(number for number, size in enumerate(sizes) if size == 3) if set(sizes) <= {0, 1, 3} else ()
    inputs = BY_TOKEN.get(node.op_type, ())
    if any(ranks.get(node.input[number]) != 3 for number in inputs):
        return ()
    if node.op_type == "MatMul" and ranks.get(node.input[1]) != 2:
        return ()
    return inputs if attribute(node, "axis") in (None, -1, 2) else ()


def _without_weights(model: ModelProto) -> ModelProto:
    """A copy whose larger initializers have no data: inference would copy them, and takes less than 2 GiB."""
    from onnx import ModelProto, TensorProto

    copy = ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    for field in ("node", "input", "output", "value_info"):
        getattr(copy.graph, field).extend(getattr(model.graph, field))
    for tensor in model.graph.initializer:
        small = tensor.ByteSize() <= SMALL
        copy.graph.initializer.append(
            tensor if small else TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
        )
    return copy


def _ranks(model: ModelProto) -> dict[str, int]:
    """The ranks of values, as far as ONNX's inference knows them, or they follow through operators that it doesn't."""
    from onnx import shape_inference

    graph = shape_inference.infer_shapes(_without_weights(model)).graph
    ranks = {tensor.name: len(tensor.dims) for tensor in graph.initializer}
    stated = (value for value in (*graph.input, *graph.value_info) if value.type.tensor_type.HasField("shape"))
    ranks |= {value.name: len(value.type.tensor_type.shape.dim) for value in stated}
    for node in graph.node:
        places = (0, 1) if node.op_type in ELEMENTWISE else BY_TOKEN.get(node.op_type, ())
        inputs = [ranks.get(node.input[place]) for place in places]
        known = [rank for rank in inputs if rank is not None]
        if node.op_type in ATTENTION and node.domain == "com.microsoft":
            ranks[node.output[0]] = 3
        elif inputs and len(known) == len(inputs):
            ranks |= {name: max(known) for name in node.output if name not in ranks}
    return ranks
