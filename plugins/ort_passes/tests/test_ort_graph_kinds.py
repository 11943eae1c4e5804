"""What the exporters and attentions of PyTorch write, fused or not, through fusion and static quantization."""

from __future__ import annotations

import numpy as np
import pytest

from hfopt_onnx_model.graph import load
from hfopt_ort_passes.fusion import OrtTransformersOptimization
from hfopt_ort_passes.fusion_options import OrtTransformersOptimizationConfig
from hfopt_ort_passes.quantization import OnnxStaticQuantization
from hfopt_ort_passes.quantization_options import OnnxStaticQuantizationConfig

KINDS = [("torchscript", "eager"), ("torchscript", "sdpa"), ("dynamo", "eager"), ("dynamo", "sdpa")]


@pytest.fixture(scope="module", params=KINDS, ids="-".join)
def exported(request, tmp_path_factory, exporter):
    by, attention = request.param
    folder = tmp_path_factory.mktemp("exported")
    return request.param, exporter(folder / "model.onnx", attention=attention, dynamo=by == "dynamo")


def fuse(model, context):
    return OrtTransformersOptimization(OrtTransformersOptimizationConfig()).run(model, context)


@pytest.mark.parametrize("fused", [False, True], ids=["unfused", "fused"])
@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
def test_activations_are_quantized_and_outputs_stay_near(exported, context, logits, tmp_path, fused, form):
    (by, attention), source = exported
    model = source
    if fused:
        model = fuse(source, context).model
        moved = model.path.rename(tmp_path / "fused.onnx")
        model = model.with_(path=moved, files=(moved,))

    config = OnnxStaticQuantizationConfig(data_config="rows", quant_format=form)
    result = OnnxStaticQuantization(config).run(model, context)

    made = load(result.model.path)
    graph = made.graph
    assert {node.domain for node in graph.node} <= {opset.domain for opset in made.opset_import}
    quantized_inputs = {node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"}
    assert len(quantized_inputs) >= 8
    assert not quantized_inputs & {tensor.name for tensor in graph.initializer}
    expected = logits(source)
    assert np.abs(logits(result.model) - expected).max() < 0.15 * np.abs(expected).max()
    in_float = fused and (by, attention) == ("torchscript", "eager")
    assert ("warning" in result.report) == in_float


def test_attention_that_is_not_fused_is_explained(exported, context):
    (by, attention), source = exported

    report = fuse(source, context).report

    assert report["fused"]["SkipLayerNormalization"] == 4
    if (by, attention) == ("torchscript", "eager"):
        assert report["fused"]["Attention"] == 2
        assert "warning" not in report
    elif by == "torchscript":
        assert report["warning"] == (
            "no attention was fused: the model was exported with attn_implementation sdpa, which scales queries and "
            "keys apart; ONNX Runtime fuses what eager writes: convert with attn_implementation eager"
        )
    else:
        assert report["warning"] == (
            "no attention was fused: the graph was written by PyTorch's dynamo exporter, whose attention ONNX "
            "Runtime's fusions do not know; convert with the TorchScript exporter and attn_implementation eager"
        )
