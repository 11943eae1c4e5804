"""Attention in a graph: why it was not fused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

FUSED_ATTENTION = frozenset({"Attention", "MultiHeadAttention", "GroupQueryAttention", "PackedAttention"})


def why_unfused(graph: GraphProto) -> str | None:
    """Why ONNX Runtime's fusions pass over the attention of an unfused graph; None if it has no attention.

    The fusions look for what the TorchScript exporter writes of transformers' "eager" attention.
    """
    makers = {name: node for node in graph.node for name in node.output}
    softmaxes = [node for node in graph.node if node.op_type == "Softmax"]
    products = [node for node in (_scores(makers, each) for each in softmaxes) if node is not None]
    if not products:
        return None
    if _by_dynamo(graph):
        return (
            "the graph was written by PyTorch's dynamo exporter, whose attention ONNX Runtime's fusions do not know; "
            "convert with the TorchScript exporter and attn_implementation eager"
        )
    if any(all(name in makers and makers[name].op_type == "Mul" for name in node.input) for node in products):
        return (
            "the model was exported with attn_implementation sdpa, which scales queries and keys apart; "
            "ONNX Runtime fuses what eager writes: convert with attn_implementation eager"
        )
    return "its attention is not written in a way that this optimizer knows"


def _by_dynamo(graph: GraphProto) -> bool:
    """Whether nodes are named as that exporter names them, and not by module as TorchScript's does."""
    computing = [node.name for node in graph.node if node.op_type in ("MatMul", "Softmax")]
    return all(name.startswith("node_") for name in computing)


def _scores(makers: Mapping[str, NodeProto], softmax: NodeProto) -> NodeProto | None:
    """The product of queries and keys that a Softmax normalizes, behind scaling and masking; None if there is none."""
    node = makers.get(softmax.input[0])
    for _ in range(5):
        if node is None or node.op_type == "MatMul":
            break
        onwards = [makers[name] for name in node.input if name in makers]
        node = next((each for each in onwards if each.op_type in ("Add", "Mul", "Div", "Where", "MatMul")), None)
    return node if node is not None and node.op_type == "MatMul" and set(node.input) <= set(makers) else None
