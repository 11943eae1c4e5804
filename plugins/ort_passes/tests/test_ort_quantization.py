"""OnnxQuantization on a small BERT, fused and unfused."""

from __future__ import annotations

import dataclasses
import logging

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from hfopt import Batch, Dataset, PreconditionFailed
from hfopt.api.example import example_feeds
from hfopt.config.problems import validate
from hfopt_onnx_model.graph import load, node_counts
from hfopt_ort_passes.fusion import OrtTransformersOptimization, OrtTransformersOptimizationConfig
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


class Lines(Dataset):
    """Random rows, each of a length of its own, made when they are read."""

    def __init__(self, specs, count):
        self.specs, self.count = specs, count

    def __len__(self):
        return self.count

    def batches(self, rows=None):
        for row in range(self.count) if rows is None else rows:
            feeds = example_feeds(self.specs, {"batch_size": 1, "sequence_length": 3 + row % 17}, seed=row)
            yield Batch(np.array([row]), feeds, None)

    def post_process(self, outputs):
        return outputs["logits"]


@pytest.fixture
def calibrated(converted, context):
    def quantize_statically(rows=12, **options):
        data = dataclasses.replace(context, data={"rows": Lines(converted.inputs, rows)})
        return quantize(converted, data, data_config="rows", **options)

    return quantize_statically


@pytest.mark.parametrize("method", ["MinMax", "Entropy", "Percentile"])
def test_static_quantization_calibrates_on_rows_of_unequal_length(calibrated, converted, context, method, capfd):
    result = calibrated(calibrate_method=method)

    feeds = example_feeds(converted.inputs, {"batch_size": 1, "sequence_length": 12}, seed=99)
    with context.open(converted, {}) as source, context.open(result.model, {}) as candidate:
        np.testing.assert_allclose(candidate.run(feeds)["logits"], source.run(feeds)["logits"], atol=0.05)
    assert sorted(path.name for path in context.folder.iterdir()) == ["model.onnx"]
    assert capfd.readouterr() == ("", "")


def test_ranges_of_activations_are_those_that_running_the_model_shows(calibrated, converted, context):
    """Independent of ONNX Runtime's calibrator: the scale of the classifier's input is its range over the rows."""
    result = calibrated(rows=9)
    quantized = load(result.model.path)
    node = next(node for node in quantized.graph.node if node.op_type == "Gemm" and "classifier" in node.name)
    producer = next(each for each in quantized.graph.node if each.output[0] == node.input[0])
    source = next(each for each in quantized.graph.node if each.output[0] == producer.input[0])
    scale = float(weights(result.model)[producer.input[1]])

    watched = load(converted.path)
    watched.graph.output.append(onnx.helper.make_tensor_value_info(source.input[0], onnx.TensorProto.FLOAT, None))
    onnx.save(watched, str(context.folder / "watched.onnx"))
    with context.open(converted.with_(path=context.folder / "watched.onnx"), {}) as session:
        seen = [session.run(batch.feeds)[source.input[0]] for batch in Lines(converted.inputs, 9).batches()]
    low, high = min(0, *(each.min() for each in seen)), max(0, *(each.max() for each in seen))

    assert scale == pytest.approx((high - low) / 255, rel=1e-4)


def test_products_of_activations_stay_in_floating_point_and_weights_do_not(calibrated):
    graph = load(calibrated().model.path).graph
    from_pairs = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    products = [node for node in graph.node if node.op_type == "MatMul"]

    assert len(products) == 16
    assert sum(set(node.input) <= from_pairs for node in products) == 12


def test_integer_operators_can_be_asked_for_instead_of_pairs(calibrated, converted, context):
    result = calibrated(quant_format="QOperator")

    assert result.report["quantized"]["QLinearMatMul"] == 12
    with context.open(result.model, {}) as session:
        session.run(example_feeds(converted.inputs, {"batch_size": 2, "sequence_length": 5}))


def test_the_mode_follows_from_whether_there_are_data_unless_it_is_written():
    assert OnnxQuantizationConfig().static is False
    assert OnnxQuantizationConfig(data_config="rows").static is True
    assert OnnxQuantizationConfig(data_config="rows", quant_mode="dynamic").static is False


def test_static_mode_without_data_or_rows_says_what_it_needs(calibrated):
    problems = []
    validate(OnnxQuantizationConfig, {"quant_mode": "static"}, (), problems)

    assert [problem.message for problem in problems] == [
        "static quantization needs a data_config to calibrate with; dynamic needs none"
    ]
    with pytest.raises(PreconditionFailed, match="there are no rows to calibrate with"):
        calibrated(rows=0)
