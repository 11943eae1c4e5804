"""Attention in a graph: why it was not fused, and grouped-query attention in place of multi-head attention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from hfopt import PreconditionFailed

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto
    from onnxruntime.transformers.onnx_model import OnnxModel

FUSED_ATTENTION = frozenset({"Attention", "MultiHeadAttention", "GroupQueryAttention", "PackedAttention"})

MASK, PAST_KEY, PAST_VALUE = "attention_mask", 6, 7


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


def group_queries(model: OnnxModel, kv_heads: int) -> int:
    """Put GroupQueryAttention in place of every MultiHeadAttention that has a cache.

    Lengths come from the attention mask: its row sums, so that rows may be padded on the right only. The mask that the
    replaced operator added to the scores is left out, since the new one is causal by itself.

    :param kv_heads: key and value heads; 0: as many as query heads
    :return: how many were replaced
    :raises PreconditionFailed: the graph has no such attention, or no attention mask to take lengths from
    """
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    nodes = [node for node in model.get_nodes_by_op_type("MultiHeadAttention") if _has_cache(node)]
    if not nodes:
        raise PreconditionFailed(
            "use_gqa: the graph has no MultiHeadAttention with a cache, which GroupQueryAttention replaces",
            hint="set use_gqa to false; encoders and models without a cache have no use for it",
        )
    if MASK not in {value.name for value in model.model.graph.input}:
        raise PreconditionFailed("use_gqa: the graph has no input attention_mask, from which lengths are taken")
    model.add_initializer(numpy_helper.from_array(np.array(1, dtype=np.int64), "gqa_one"))
    model.add_initializer(numpy_helper.from_array(np.array([1], dtype=np.int64), "gqa_axis"))
    lengths = [
        helper.make_node("Cast", [MASK], ["gqa_mask"], "gqa_mask", to=TensorProto.INT64),
        helper.make_node("ReduceSum", ["gqa_mask", "gqa_axis"], ["gqa_counts"], "gqa_counts", keepdims=0),
        helper.make_node("Sub", ["gqa_counts", "gqa_one"], ["gqa_last"], "gqa_last"),
        helper.make_node("Cast", ["gqa_last"], ["gqa_seqlens_k"], "gqa_seqlens_k", to=TensorProto.INT32),
        helper.make_node("Shape", [MASK], ["gqa_shape"], "gqa_shape"),
        helper.make_node("Gather", ["gqa_shape", "gqa_one"], ["gqa_total64"], "gqa_total64"),
        helper.make_node("Cast", ["gqa_total64"], ["gqa_total"], "gqa_total", to=TensorProto.INT32),
    ]
    model.model.graph.node.extend(lengths)
    for node in nodes:
        heads = next(each.i for each in node.attribute if each.name == "num_heads")
        cache = [node.input[PAST_KEY], node.input[PAST_VALUE]]
        grouped = helper.make_node(
            "GroupQueryAttention",
            [*node.input[:3], *cache, "gqa_seqlens_k", "gqa_total"],
            list(node.output),
            node.name,
            domain="com.microsoft",
            num_heads=heads,
            kv_num_heads=kv_heads or heads,
        )
        grouped.attribute.extend(each for each in node.attribute if each.name == "scale")
        model.model.graph.node.remove(node)
        model.model.graph.node.append(grouped)
    model.prune_graph()
    return len(nodes)


def _has_cache(node: NodeProto) -> bool:
    """Past keys and values, and none of the biases that the replacement could not keep."""
    names = [*node.input, *[""] * 8]
    return bool(names[PAST_KEY] and names[PAST_VALUE] and names[1] and names[2]) and not (names[3] or names[4])
