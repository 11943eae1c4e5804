"""Attention with a cache as GroupQueryAttention, which computes the same whichever tokens are padding.

The operator takes a mask in two ways: as a length for each row, which can't say that a row begins in padding, and as a
bias that is added to the scores. Here all rows have the same length, and the bias is what the graph adds anyway.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from hfopt import Accelerator, PreconditionFailed
from hfopt_onnx_model.session import refusing
from hfopt_ort_passes.cached_attention import Attention, cached_attention
from hfopt_ort_passes.fusion_options import OrtTransformersOptimizationConfig
from hfopt_ort_passes.making import Making, attribute, written
from hfopt_ort_passes.rotary import fuse_rotary

if TYPE_CHECKING:
    from onnxruntime.transformers.onnx_model import OnnxModel

OPERATOR = "GroupQueryAttention"

LENGTHS = """
    first = Constant <value = int64[1] {0}> ()
    one = Constant <value = int64 {1}> ()
    two = Constant <value = int64 {2}> ()
    shape = Shape (query)
    batch = Gather (shape, first)
    sequence = Gather (shape, one)
    past_shape = Shape (past)
    kept = Gather (past_shape, two)
    sum = Add (kept, sequence)
    before = Sub (sum, one)
    total = Cast <to = 6> (sum)
    last = Cast <to = 6> (before)
    new = Cast <to = 6> (sequence)
    lasts = Expand (last, batch)
    news = Expand (new, batch)
"""
"""The number of all tokens; the place of the last, and the number of new ones, both for each row: int32."""

FLAT = "form = Constant <value = int64[3] {0, 0, -1}> () flat = Reshape (x, form)"
TURNED = f"x = Transpose <perm = [0, 2, 1, 3]> (apart) {FLAT}"
APART = """
    form = Constant <value = int64[4] {{0, 0, {heads}, {width}}}> ()
    split = Reshape (x, form)
    apart = Transpose <perm = [0, 2, 1, 3]> (split)
"""
"""From [batch, heads, tokens, width] to [batch, tokens, heads * width], and back."""


PROBE = f"""<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
    probe (float[b, s, 8] x, float[b, 1, p, 8] past, int32[b] last, int32 total, float[b, 1, s, t] bias, int32[b] news)
        => (float[b, s, 8] y, float[b, 1, t, 8] key, float[b, 1, t, 8] value)
    {{
        y, key, value = com.microsoft.{OPERATOR} <num_heads = 1, kv_num_heads = 1>
            (x, x, x, past, past, last, total, , , , bias, , , , , , news)
    }}"""


@cache
def is_installed() -> bool:
    """Whether the installed ONNX Runtime's operator takes a bias, and batches of several new tokens behind others."""
    import onnxruntime
    from onnx import parser

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    probe = parser.parse_model(PROBE).SerializeToString()
    try:
        with refusing("ONNX Runtime lacks it"):
            onnxruntime.InferenceSession(probe, options, providers=["CPUExecutionProvider"])
    except PreconditionFailed:
        return False
    return True


def is_wanted(config: OrtTransformersOptimizationConfig, accelerator: Accelerator) -> bool:
    """Whether attention with a cache is to become the operator, if a graph has any."""
    if config.use_gqa is not None:
        return config.use_gqa
    switched_off = config.only_onnxruntime or config.optimization_options.enable_attention is False
    return accelerator.device == "cpu" and not switched_off and is_installed()


def group_queries(model: OnnxModel, heads: int, config: OrtTransformersOptimizationConfig) -> None:
    """Put GroupQueryAttention in place of attention with a cache, and RotaryEmbedding before it.

    :param heads: of queries, where attention is written out; 0: not known, then that stays
    :raises PreconditionFailed: the config asks for what the graph or ONNX Runtime has not
    """
    if config.use_gqa and not is_installed():
        raise PreconditionFailed(
            f"use_gqa: the installed ONNX Runtime's {OPERATOR} takes no attention_bias and query_seqlens",
            hint="install a newer onnxruntime",
        )
    found = cached_attention(model.model.graph, heads)
    if config.use_gqa and not found:
        raise PreconditionFailed(
            f"use_gqa: the graph has no attention with a cache that {OPERATOR} could replace",
            hint="leave use_gqa out; encoders and models without a cache have no use for it",
        )
    asked = config.num_key_value_heads
    for kept in {attention.kv_heads for attention in found} - {asked} if asked else ():
        raise PreconditionFailed(
            f"num_key_value_heads: {asked} is written, and the graph keeps {kept}", hint="leave num_key_value_heads out"
        )
    if found and config.optimization_options.enable_rotary_embeddings is not False:
        fuse_rotary(model)
    making = Making(model.model.graph)
    for number, attention in enumerate(found):
        query = _replace(model, making, attention, f"grouped{number}")
        if number == 0:
            model.add_nodes(written(LENGTHS, "grouped", {"query": query, "past": attention.past[0]}))
    model.prune_graph(allow_remove_graph_inputs=False)


def _replace(model: OnnxModel, making: Making, attention: Attention, name: str) -> str:
    """Put the operator in the place of one attention.

    :return: its query, [batch, tokens, heads * width]
    """
    from onnx import helper

    inputs, outputs = attention.inputs, [attention.node.output[0], *attention.present]
    for node in [node for node in model.nodes() if {*node.output} & {*outputs}]:
        model.remove_node(node)
    if attention.apart:
        inputs = [_flat(model, making, value, f"{name}/{place}") for place, value in enumerate(inputs)]
        text = APART.format(heads=attention.heads, width=attention.width)
        model.add_nodes(written(text, name, {"apart": outputs[0]}))
        outputs[0] = f"{name}/x"
    lengths, unused = ("grouped/lasts", "grouped/total"), [""] * 5
    grouped = helper.make_node(
        OPERATOR,
        [*inputs, *attention.past, *lengths, *unused[:3], attention.bias, *unused, "grouped/news"],
        outputs,
        attention.node.name,
        domain="com.microsoft",
        num_heads=attention.heads,
        kv_num_heads=attention.kv_heads,
    )
    if attention.scale is not None:
        grouped.attribute.append(helper.make_attribute("scale", attention.scale))
    model.add_node(grouped)
    return inputs[0]


def _flat(model: OnnxModel, making: Making, value: str, name: str) -> str:
    """[batch, heads, tokens, width] as [batch, tokens, heads * width]."""
    from onnx import helper

    rotary, turned = making.node(value, "RotaryEmbedding"), making.node(value, "Transpose")
    if rotary is not None:  # takes both
        inputs = [_flat(model, making, rotary.input[0], f"{name}/plain"), *rotary.input[1:]]
        model.add_node(helper.make_node("RotaryEmbedding", inputs, [f"{name}/rotary"], name, domain="com.microsoft"))
        return f"{name}/rotary"
    if turned is not None and attribute(turned, "perm") == [0, 2, 1, 3]:
        model.add_nodes(written(FLAT, name, {"x": turned.input[0]}))
    else:
        model.add_nodes(written(TURNED, name, {"apart": value}))
    return f"{name}/flat"
