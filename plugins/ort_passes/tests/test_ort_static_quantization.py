"""OnnxQuantization in static mode, on a small BERT."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16

from hfopt import PreconditionFailed
from hfopt.api.example import example_feeds
from hfopt.testing import validate
from hfopt_onnx_model.graph import handle_of, load
from hfopt_ort_passes.quantization import OnnxQuantization
from hfopt_ort_passes.quantization_options import OnnxQuantizationConfig


def quantize(model, context, **options):
    return OnnxQuantization(OnnxQuantizationConfig(**options)).run(model, context)


def weights(model) -> dict[str, np.ndarray]:
    return {each.name: numpy_helper.to_array(each) for each in load(model.path).graph.initializer}


@pytest.fixture
def calibrated(converted, context, lines):
    def quantize_statically(rows=12, **options):
        data = dataclasses.replace(context, data={"rows": lines(rows)})
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


def test_ranges_of_activations_are_those_that_running_the_model_shows(calibrated, converted, context, lines):
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
        seen = [session.run(batch.feeds)[source.input[0]] for batch in lines(9).batches()]
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


def test_rows_that_do_not_fit_a_model_of_fixed_shape_are_a_sentence(calibrated, converted, context, lines, tmp_path):
    model = load(converted.path)
    for value in model.graph.input:
        value.type.tensor_type.shape.dim[0].dim_value = 1
        value.type.tensor_type.shape.dim[1].dim_value = 50
    onnx.save(model, str(tmp_path / "fixed.onnx"))
    fixed = handle_of(tmp_path / "fixed.onnx", like=converted)
    data = dataclasses.replace(context, data={"rows": lines(4)})

    with pytest.raises(PreconditionFailed) as failure:
        quantize(fixed, data, data_config="rows")

    assert failure.value.message.startswith("the model takes input_ids of the shape [1, 50], and the data have [")
    assert failure.value.hint.startswith("set batch_size, max_length and padding")


@pytest.mark.parametrize("mode", ["static", "dynamic"])
def test_a_float16_model_is_refused_with_what_to_do(converted, context, lines, mode, tmp_path):
    half = convert_float_to_float16(load(converted.path), keep_io_types=True)
    onnx.save(half, str(tmp_path / "half.onnx"))
    data = dataclasses.replace(context, data={"rows": lines(4)})
    options = {"data_config": "rows"} if mode == "static" else {}

    with pytest.raises(PreconditionFailed) as failure:
        quantize(handle_of(tmp_path / "half.onnx", like=converted), data, quant_mode=mode, **options)

    assert failure.value.message.startswith(
        "the model that this pass made can't be run: ONNX Runtime refuses model.onnx"
    )
    assert str(tmp_path) not in failure.value.message
    assert failure.value.hint.startswith("give this pass the float32 model")
