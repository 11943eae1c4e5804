"""What a graph computes in: how exact that is, and which of its nodes can't be float16."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from hfopt import PreconditionFailed
from hfopt.api.parity import HALF_RELATIVE, QUANTIZED_RELATIVE, RELATIVE
from hfopt_onnx_model.weights import bodies, tensors

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

SCALES_BY_BATCH = frozenset({"DynamicQuantizeLSTM", "DynamicQuantizeLinear", "DynamicQuantizeMatMul"})
"""Operators that make activations integers with a scale that all rows of a batch share."""

ROUNDS = SCALES_BY_BATCH | {"QuantizeLinear"}
"""Operators that make activations integers; MatMulNBits does too if its accuracy_level is 4."""

FLOAT32_ALONE = SCALES_BY_BATCH | {"MatMulIntegerToFloat", "QAttention", "QEmbedLayerNormalization"}
"""Quantized operators that take or yield float32 and nothing shorter."""

ELEMENTWISE = frozenset(
    {
        *("Abs", "Add", "Cast", "Ceil", "Clip", "Constant", "Div", "Floor"),
        *("Log", "Max", "Min", "Mul", "Neg", "Sign", "Sub", "Where"),
    }
)
"""What computes a bucket from a distance, and constants."""

OUTPUT_CAST = re.compile(r"graph_output_cast\d+")
"""What ONNX Runtime's converter calls the casts of outputs that stay float32."""

SCALES = frozenset({"DequantizeLinear", "QuantizeLinear"})
SCALES_IN_HALF = 19
"""The opset from which those have scales in float16."""


def computes_in_half(model: ModelProto) -> bool:
    """Whether a model has weights in float16."""
    import onnx

    return any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor, _ in tensors(model))


def tolerance_of(model: ModelProto) -> float:
    """How far apart the outputs of two models may be that compute the same as this one (`hfopt.api.parity`)."""
    if any(_rounds(node) for body in bodies(model) for node in body.node):
        return QUANTIZED_RELATIVE
    return HALF_RELATIVE if computes_in_half(model) else RELATIVE


def mixes_rows(model: ModelProto) -> bool:
    """Whether what a model computes for one row depends on the others of its batch.

    MatMulNBits does not do that at any accuracy_level: it scales activations row by row.
    """
    return any(
        node.op_type in SCALES_BY_BATCH or (node.op_type == "BatchNormalization" and _trains(node))
        for body in bodies(model)
        for node in body.node
    )


def _trains(normalization: NodeProto) -> bool:
    """Whether a BatchNormalization uses the mean of its batch: then it yields the running mean too, in any opset."""
    return len(normalization.output) > 1


def _rounds(node: NodeProto) -> bool:
    if node.op_type == "MatMulNBits":
        return any(attribute.name == "accuracy_level" and attribute.i == 4 for attribute in node.attribute)
    return node.op_type in ROUNDS


def check_takes_half(
    model: ModelProto, operators: Iterable[str] | None, nodes: Iterable[str] | None, *, keep_io_types: bool
) -> None:
    """Refuse a model whose quantized operators would be given float16, and one that was made float16 before.

    :param operators: those that the user leaves in float32
    :param nodes: those that the user leaves in float32, by name
    :param keep_io_types: inputs and outputs get casts, whose names the converter can give once
    :raises PreconditionFailed: with the names of the operators
    """
    if keep_io_types and any(OUTPUT_CAST.fullmatch(node.name) for node in model.graph.node):
        raise PreconditionFailed("the model is float16 already", hint="leave out this pass, or the one that made it so")
    opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=1)
    refused = FLOAT32_ALONE | (SCALES if opset < SCALES_IN_HALF else frozenset())
    refused -= set(operators or ())
    left = set(nodes or ())
    found = {node.op_type for body in bodies(model) for node in body.node if node.name not in left} & refused
    if found:
        raise PreconditionFailed(
            f"the model is quantized already, and its {', '.join(sorted(found))} have no float16 form",
            hint="leave out this pass or the quantization: weights of 8 bits are smaller than float16",
        )


def index_arithmetic(model: ModelProto) -> list[str]:
    """Nodes whose floats become integers by way of a logarithm: the bucket of a distance between two tokens.

    Models of the T5, MPNet and DeBERTa kinds look up a bias by it. Float16 rounds some distances into the next bucket.

    :return: names, from each Cast to integers back to where the floats come from; a node without a name gets that of
        its output
    """
    import onnx

    makers = {name: node for node in model.graph.node for name in node.output}
    integers = {onnx.TensorProto.INT32, onnx.TensorProto.INT64}
    names: dict[str, None] = {}
    for cast in model.graph.node:
        if cast.op_type == "Cast" and any(each.name == "to" and each.i in integers for each in cast.attribute):
            before = _elementwise(cast, makers)
            if any(node.op_type == "Log" for node in before):
                for node in before:
                    node.name = node.name or node.output[0]
                names |= dict.fromkeys(node.name for node in before)
    return list(names)


def _elementwise(cast: NodeProto, makers: Mapping[str, NodeProto]) -> list[NodeProto]:
    """The nodes from which the input of a cast comes, back to constants, another cast, or what is not elementwise."""
    found: list[NodeProto] = []
    waiting = list(cast.input)
    while waiting:
        node = makers.get(waiting.pop())
        if node is None or node.op_type not in ELEMENTWISE or any(node is each for each in found):
            continue
        found.append(node)
        waiting += node.input if node.op_type != "Cast" else []
    return found
