"""OnnxQuantization on a small BERT, fused and unfused."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from onnx import numpy_helper

from hfopt import PreconditionFailed
from hfopt.api.example import example_feeds
from hfopt.api.parity import ABSOLUTE, HALF_RELATIVE, QUANTIZED_RELATIVE, Parity, record
from hfopt.testing import run_compared
from hfopt_onnx_model.graph import load, node_counts
from hfopt_ort_passes.fusion import OrtTransformersOptimization
from hfopt_ort_passes.fusion_options import OrtTransformersOptimizationConfig
from hfopt_ort_passes.matmul4 import OnnxMatMul4Quantizer
from hfopt_ort_passes.mixed_precision import OrtMixedPrecision
from hfopt_ort_passes.quantization import OnnxQuantization
from hfopt_ort_passes.quantization_options import OnnxQuantizationConfig


def quantize(model, context, **options):
    return OnnxQuantization(OnnxQuantizationConfig(**options)).run(model, context)


def weights(model) -> dict[str, np.ndarray]:
    return {each.name: numpy_helper.to_array(each) for each in load(model.path).graph.initializer}


def test_weights_shrink_and_outputs_stay_near(converted, context):
    result = quantize(converted, context)

    assert result.model.size_bytes < 0.45 * converted.size_bytes
    assert result.report["quantized"]["MatMulInteger"] == 14
    feeds = example_feeds(converted.inputs, {"batch_size": 1, "sequence_length": 12})
    with context.open(converted, {}) as source, context.open(result.model, {}) as candidate:
        np.testing.assert_allclose(candidate.run(feeds)["logits"], source.run(feeds)["logits"], atol=0.02)
    assert sorted(path.name for path in context.folder.iterdir()) == ["model.onnx"]


@pytest.mark.parametrize("work", [OnnxQuantization, OnnxMatMul4Quantizer, OrtMixedPrecision])
def test_outputs_are_compared_as_closely_as_the_operators_compute(converted, context, work):
    """On request: a pass that quantizes is not compared unless the user says so.

    Signed 8-bit weights saturate on CPUs without VNNI, and these outputs are the same on every CPU.
    """
    options = {"weight_type": "QUInt8"} if work is OnnxQuantization else {}
    report = run_compared(work(work.Config(**options)), converted, context, Parity()).report["parity"]

    relative = HALF_RELATIVE if work is OrtMixedPrecision else QUANTIZED_RELATIVE
    with context.open(converted, {}) as source:
        largest = [np.abs(each.outputs["logits"]).max() for each in record(source, converted.inputs)]
    assert report["agree"]
    assert report["outputs"]["logits"]["allowed"] in [pytest.approx(relative * each + ABSOLUTE) for each in largest]


def test_a_fused_graph_is_quantized_with_its_attention(converted, context, tmp_path):
    fused = OrtTransformersOptimization(OrtTransformersOptimizationConfig()).run(converted, context).model
    moved = fused.path.rename(tmp_path / "fused.onnx")

    result = quantize(fused.with_(path=moved, files=(moved,)), context)

    assert result.report["quantized"]["QAttention"] == 2


def test_each_output_channel_has_a_scale_unless_told_otherwise(converted, context):
    assert max(scale.size for name, scale in weights(quantize(converted, context).model).items() if "scale" in name) > 1
    tensor = quantize(converted, context, per_channel=False).model
    assert {scale.size for name, scale in weights(tensor).items() if name.endswith("_scale")} == {1}


def test_weights_are_what_dividing_by_their_scale_and_rounding_gives(converted, context):
    """Independent of ONNX Runtime's quantizer: symmetric, per output channel, to -127..127."""
    original = weights(converted)
    quantized = weights(quantize(converted, context).model)
    name = next(name for name in quantized if name.startswith("onnx::MatMul") and name.endswith("_quantized"))
    weight = original[name.removesuffix("_quantized")]

    scale = np.abs(weight).max(axis=0) / 127

    np.testing.assert_allclose(quantized[name.replace("_quantized", "_scale")], scale, rtol=1e-5)
    assert np.abs(quantized[name] - np.round(weight / scale)).max() <= 1


def test_nodes_and_operators_can_be_chosen(converted, context):
    result = quantize(converted, context, op_types_to_quantize=("Gather",))

    assert result.report["quantized"] == {"DequantizeLinear": 3}
    assert "MatMulInteger" not in node_counts(load(result.model.path))


def test_unsigned_weights_and_seven_bits_can_be_asked_for(converted, context):
    unsigned = weights(quantize(converted, context, weight_type="QUInt8").model)
    seven = weights(quantize(converted, context, reduce_range=True).model)

    assert any(array.dtype == np.uint8 and array.size > 1 for array in unsigned.values())
    assert max(np.abs(array.astype(int)).max() for array in seven.values() if array.dtype == np.int8) <= 64


def test_a_model_in_which_nothing_can_be_quantized_is_an_error(converted, context):
    with pytest.raises(PreconditionFailed, match="no operator of the model could be quantized"):
        quantize(converted, context, op_types_to_quantize=("Conv",))


def test_the_root_logger_stays_as_it_was(converted, context, capfd):
    before = (logging.getLogger().level, list(logging.getLogger().handlers))

    quantize(converted, context)

    assert (logging.getLogger().level, list(logging.getLogger().handlers)) == before
    assert capfd.readouterr() == ("", "")
