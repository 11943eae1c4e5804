"""Blocks of a transformer by number: what stays in float, and which block's quantization moves the outputs."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from onnx import helper

from hfopt import PreconditionFailed
from hfopt_onnx_model.graph import load
from hfopt_ort_passes.blocks import blocks, nodes_of
from hfopt_ort_passes.fusion import OrtTransformersOptimization, OrtTransformersOptimizationConfig
from hfopt_ort_passes.quantization import OnnxQuantization
from hfopt_ort_passes.quantization_options import OnnxQuantizationConfig
from hfopt_ort_passes.recovery import OrtAccuracyRecovery, OrtAccuracyRecoveryConfig

LAYERS = ["/model/bert/encoder/layer.0", "/model/bert/encoder/layer.1"]
HELD = {"Attention": 1, "MatMul": 1, "Gather": 0, "Gemm": 1}
"""The operators that hold weights, and which input the weight is."""


def graph_of(*outputs):
    nodes = [helper.make_node("Relu", [f"in{n}"], [name], name=name) for n, name in enumerate(outputs)]
    return helper.make_graph(nodes, "g", [], [])


@pytest.fixture(scope="module")
def fused(converted, tmp_path_factory):
    from hfopt import Accelerator, PassContext

    folder = tmp_path_factory.mktemp("fused")
    context = PassContext(folder, Accelerator(), 2, 0, {}, None, None, lambda *_: None)
    return OrtTransformersOptimization(OrtTransformersOptimizationConfig()).run(converted, context).model


def weighted(model):
    """The names of the nodes that hold a float weight of two axes, by block."""
    graph = load(model.path).graph
    floats = {tensor.name for tensor in graph.initializer if len(tensor.dims) > 1 and tensor.data_type == 1}
    found, told = {}, blocks(graph)
    for node in graph.node:
        if node.op_type in HELD and node.input[HELD[node.op_type]] in floats:
            found.setdefault(told[node.name], []).append(node.op_type)
    return found


def test_every_weight_of_a_bert_is_of_its_block_before_and_after_fusion(converted, fused):
    assert weighted(converted) == {
        "embeddings": ["Gather"] * 3,
        LAYERS[0]: ["MatMul"] * 6,
        LAYERS[1]: ["MatMul"] * 6,
        "head": ["Gemm", "Gemm"],
    }
    fused_layer = ["Attention", "MatMul", "MatMul", "MatMul"]
    assert weighted(fused) == {
        "embeddings": ["Gather"] * 3,
        LAYERS[0]: fused_layer,
        LAYERS[1]: fused_layer,
        "head": ["Gemm", "Gemm"],
    }


@pytest.mark.parametrize(
    ("excluded", "left"),
    [
        ((), {}),
        (("head",), {"head": ["MatMul", "MatMul"]}),
        ((-1, "head"), {LAYERS[1]: ["Attention", "MatMul", "MatMul", "MatMul"], "head": ["MatMul", "MatMul"]}),
        (("embeddings", 0), {"embeddings": ["Gather"] * 3, LAYERS[0]: ["Attention", "MatMul", "MatMul", "MatMul"]}),
    ],
)
def test_weights_of_excluded_blocks_stay_in_float_and_all_others_do_not(fused, context, excluded, left):
    """A Gemm is made a MatMul either way."""
    options = OnnxQuantizationConfig(quant_mode="dynamic", blocks_to_exclude=excluded)
    made = OnnxQuantization(options).run(fused, context)

    assert weighted(made.model) == left


def test_static_quantization_leaves_excluded_blocks_in_float(converted, context):
    options = {"data_config": "rows", "quant_format": "QDQ", "op_types_to_quantize": ("MatMul", "Gemm")}
    config = OnnxQuantizationConfig(blocks_to_exclude=(1, "head"), **options)
    made = OnnxQuantization(config).run(converted, context)

    assert {name: len(kinds) for name, kinds in weighted(made.model).items() if name != "embeddings"} == {
        LAYERS[1]: 6,
        "head": 2,
    }


def test_a_block_that_is_not_there_is_refused_with_how_many_there_are(fused, context):
    with pytest.raises(PreconditionFailed, match="no block 2; the graph has 2, 0 to 1"):
        OnnxQuantization(OnnxQuantizationConfig(quant_mode="dynamic", blocks_to_exclude=(2,))).run(fused, context)


def test_names_without_blocks_are_refused_with_what_to_write_instead():
    with pytest.raises(PreconditionFailed, match="don't tell which block") as failure:
        nodes_of(graph_of("node_linear_1", "node_linear_2"), [-1])
    assert failure.value.hint == "name the nodes in nodes_to_exclude"


def test_numbered_layers_of_a_classifier_are_its_head():
    graph = graph_of("/tables/Gather", "/h.0/a/Add", "x", "/h.0/b/Add", "/h.1/a/Add", "/classifier/classifier.1/Gemm")

    assert list(blocks(graph).values()) == ["embeddings", "/h.0", "/h.0", "/h.0", "/h.1", "head"]


def test_the_outermost_list_of_modules_counts():
    graph = graph_of("/encoder/layers.0/blocks.0/x", "/encoder/layers.0/blocks.1/x", "/encoder/layers.1/blocks.0/x")

    assert list(blocks(graph).values()) == ["/encoder/layers.0", "/encoder/layers.0", "/encoder/layers.1"]


def test_recovery_tells_what_quantizing_each_block_alone_does(fused, context, logits, lines):
    """Proved by leaving all the others out of a quantization, and computing the distance from what the model says."""
    rows = lines(1, length=12)
    feeds = next(iter(rows.batches())).feeds
    options = OrtAccuracyRecoveryConfig(compared_data_config="one", quant_mode="dynamic", max_distance=2e-3)
    around = dataclasses.replace(context, data={"one": rows})

    told = OrtAccuracyRecovery(options).run(fused, around).report["recovery"]["blocks"]

    assert list(told) == ["embeddings", *LAYERS, "head"]
    for block, others in ((LAYERS[1], ("embeddings", 0, "head")), ("head", ("embeddings", 0, 1))):
        alone = OnnxQuantization(OnnxQuantizationConfig(quant_mode="dynamic", blocks_to_exclude=others))
        found = []
        for model in (fused, alone.run(fused, context).model):
            with context.open(model, {}) as session:
                found.append(session.run(feeds)["logits"].astype(np.float64))
        assert told[block]["distance"] == pytest.approx(
            np.linalg.norm(found[1] - found[0]) / np.linalg.norm(found[0]), rel=1e-3
        )
        assert told[block]["drop"] is None


def test_the_forecast_leaves_what_excluded_blocks_hold_as_wide_as_it_is():
    before = {"matrix": (120.0, 32.0), "head": (5.0, 32.0), "table": (40.0, 32.0), "blocks": (12, 0)}

    def forecast(*excluded):
        config = OnnxQuantizationConfig(quant_mode="dynamic", blocks_to_exclude=excluded)
        told = OnnxQuantization(config).forecast(before)
        return sum(count * bits for count, bits in told.values()) / 8

    all_quantized = 120 + 5 + 40
    assert forecast() == all_quantized
    assert forecast(0, -1) == all_quantized + 3 * 20
    assert forecast(0, -12) == all_quantized + 3 * 10  # the same one twice
    assert forecast("head") == all_quantized + 3 * 5
    assert forecast("embeddings") == all_quantized + 3 * 40
