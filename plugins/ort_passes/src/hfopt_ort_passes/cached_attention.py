"""Attention with a cache in a graph: what a layer computes of earlier and new tokens, and where it keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hfopt_ort_passes.making import Making, attribute

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto


@dataclass(frozen=True)
class Attention:
    """``softmax(query @ key.T * scale + bias) @ value`` over earlier and new tokens.

    :param node: whose first output it is
    :param inputs: query, key and value of new tokens
    :param past: key and value of earlier tokens, [batch, kv_heads, tokens, width]
    :param present: those of all tokens
    :param bias: [batch or 1, heads or 1, new tokens, all tokens]; empty: none
    :param scale: None: one over the root of the width
    :param apart: whether inputs and output are [batch, heads, tokens, width], not [batch, tokens, heads * width]
    """

    node: NodeProto
    inputs: list[str]
    past: list[str]
    present: list[str]
    bias: str
    scale: float | None
    heads: int
    kv_heads: int
    width: int
    apart: bool


def cached_attention(graph: GraphProto, heads: int) -> list[Attention]:
    """Attention with a cache, written out or as MultiHeadAttention, in the order of the graph.

    :param heads: of queries, where several may share a key; 0: not known, then such attention is not found
    """
    making = Making(graph)
    shapes = {value.name: [axis.dim_value for axis in value.type.tensor_type.shape.dim] for value in graph.input}
    found = []
    for node in graph.node:
        if node.op_type == "MatMul":
            found.append(_written_out(making, node, shapes, heads))
        elif node.op_type == "MultiHeadAttention":
            found.append(_multi_head(making, node, shapes))
    return [attention for attention in found if attention is not None]


def _written_out(making: Making, product: NodeProto, shapes: Mapping[str, list[int]], heads: int) -> Attention | None:
    """The attention of which a MatMul is the last; None if it is another."""
    softmax = making.node(product.input[0], "Softmax", behind=["Cast"])
    added = making.node(softmax.input[0], "Add", behind=["Cast"]) if softmax else None
    scaled = making.node(added.input[0], "Mul", "Div") if added else None
    scores = making.node(scaled.input[0], "MatMul") if scaled else None
    turned = making.node(scores.input[1], "Transpose") if scores else None
    key = _joined(making, turned.input[0]) if turned else None
    value = _joined(making, product.input[1])
    if not (softmax and added and scaled and scores and turned and key and value):
        return None
    past = [key.input[0], value.input[0]]
    factor, kept = making.constant(scaled.input[1]), _kept(making, past, shapes)
    if factor is None or factor.size != 1 or kept is None:
        return None
    if kept[0] > 1 and key is making.node(turned.input[0], "Concat"):
        heads = kept[0]  # as nothing repeats keys
    if not heads or heads % kept[0] or attribute(softmax, "axis") not in (-1, 3):
        return None
    if attribute(turned, "perm") != [0, 1, 3, 2]:
        return None
    return Attention(
        product,
        inputs=[scores.input[0], key.input[1], value.input[1]],
        past=past,
        present=[key.output[0], value.output[0]],
        bias=added.input[1],
        scale=float(factor) if scaled.op_type == "Mul" else 1 / float(factor),
        heads=heads,
        kv_heads=kept[0],
        width=kept[1],
        apart=True,
    )


def _joined(making: Making, name: str) -> NodeProto | None:
    """What puts new keys or values behind earlier ones, before each is repeated for the queries that share it."""
    joined = making.node(name, "Concat", behind=["Reshape", "Expand", "Unsqueeze"])
    return joined if joined and len(joined.input) == 2 and attribute(joined, "axis") in (-2, 2) else None


def _kept(making: Making, past: list[str], shapes: Mapping[str, list[int]]) -> tuple[int, int] | None:
    """Heads and width of what is kept, if that is an input which states them, the same for keys and values."""
    key, value = (shapes.get(making.source(name, behind=["Cast", "Concat", "Identity"]), []) for name in past)
    known = len(key) == len(value) == 4 and key[1::2] == value[1::2] and all(key[1::2])
    return (key[1], key[3]) if known else None


def _multi_head(making: Making, node: NodeProto, shapes: Mapping[str, list[int]]) -> Attention | None:
    """A MultiHeadAttention with a cache, and none of the biases that the other operator could not keep."""
    names = [*node.input, *[""] * 8]
    kept = _kept(making, names[6:8], shapes)
    if kept is None or not (names[1] and names[2]) or names[3] or names[4] or len(node.output) < 3:
        return None
    return Attention(
        node,
        inputs=names[:3],
        past=names[6:8],
        present=list(node.output[1:3]),
        bias=names[5],
        scale=attribute(node, "scale"),
        heads=attribute(node, "num_heads"),
        kv_heads=kept[0],
        width=kept[1],
        apart=False,
    )
