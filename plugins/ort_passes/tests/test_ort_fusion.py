"""OrtTransformersOptimization on a small BERT."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from hfopt import PreconditionFailed
from hfopt.api.parity import compare, record
from hfopt_onnx_model.graph import load, node_counts
from hfopt_ort_passes.fusion import OrtTransformersOptimization
from hfopt_ort_passes.fusion_options import FusionSwitches, OrtTransformersOptimizationConfig


def fuse(model, context, **options):
    return OrtTransformersOptimization(OrtTransformersOptimizationConfig(**options)).run(model, context)


def test_every_layer_is_fused_and_counted(converted, context):
    result = fuse(converted, context)

    assert result.report == {
        "summary": "fused 4 SkipLayerNormalization, 2 Attention, 2 BiasGelu; 3 MatMul for one token alone",
        "fused": {"SkipLayerNormalization": 4, "Attention": 2, "BiasGelu": 2},
        "narrowed": 3,
    }
    assert node_counts(load(result.model.path))["Attention"] == 2
    assert result.model.inputs == converted.inputs


def test_the_fused_model_computes_the_same_with_padding_on_either_side(converted, context):
    fused = fuse(converted, context).model

    with context.open(converted, {}) as source, context.open(fused, {}) as candidate:
        assert compare(record(source, converted.inputs), candidate)["agree"]
        ids = np.arange(12).reshape(2, 6)
        mask = np.array([[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]])
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": ids * 0}
        np.testing.assert_allclose(candidate.run(feeds)["logits"], source.run(feeds)["logits"], atol=1e-5)


def test_single_fusions_can_be_switched(converted, context):
    fused = fuse(converted, context, optimization_options=FusionSwitches(enable_attention=False)).report["fused"]

    assert "Attention" not in fused
    assert fused["SkipLayerNormalization"] == 4


def test_onnx_runtime_alone_optimizes_at_a_level(converted, context):
    result = fuse(converted, context, only_onnxruntime=True, opt_level=1)

    assert len(load(result.model.path).graph.node) < len(load(converted.path).graph.node)


def test_integer_inputs_can_be_int32(converted, context):
    assert {spec.dtype for spec in fuse(converted, context, input_int32=True).model.inputs} == {"int32"}


def test_a_graph_without_known_patterns_is_kept_with_a_warning(converted, context, tmp_path):
    model = onnx.parser.parse_model("""
        <ir_version: 9, opset_import: ["" : 17]>
        plain (float[batch_size, 4] x) => (float[batch_size, 4] y) { y = Relu(x) }
    """)
    onnx.save(model, str(tmp_path / "plain.onnx"))

    result = fuse(converted.with_(path=tmp_path / "plain.onnx"), context)

    assert result.report["fused"] == {}
    assert result.report["warning"].startswith("nothing was fused")


def test_an_architecture_without_known_fusions_is_left_as_it_is_with_a_notice(converted, context):
    unknown = converted.with_(attributes={"model_type": "resnet"})

    result = fuse(unknown, context)

    assert result.model == unknown
    assert result.report["warning"] == "no fusions are known for model type 'resnet'"


@pytest.mark.parametrize("option", ["float16", "input_int32"])
def test_more_than_fusion_of_an_architecture_without_known_fusions_is_refused(converted, option):
    work = OrtTransformersOptimization(OrtTransformersOptimizationConfig(**{option: True}))

    with pytest.raises(PreconditionFailed, match=f"^{option}: no fusions are known for model type 'resnet'"):
        work.requires(converted.with_(attributes={"model_type": "resnet"}))


def test_the_options_are_those_that_onnxruntime_has():
    from onnxruntime.transformers.fusion_options import FusionOptions

    assert set(FusionSwitches.model_fields) == vars(FusionOptions("bert")).keys() | vars(FusionOptions("unet")).keys()
