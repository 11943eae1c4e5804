"""Every option of the quantization passes reaches the graph, or is refused in a sentence."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import re

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from hfopt import PreconditionFailed
from hfopt.testing import validate
from hfopt_onnx_model.graph import handle_of, load, node_counts, save
from hfopt_ort_passes import quantization_options as known
from hfopt_ort_passes.calibration import OPTIONS
from hfopt_ort_passes.quantization import OnnxDynamicQuantization, OnnxStaticQuantization

DYNAMIC, STATIC = known.OnnxDynamicQuantizationConfig, known.OnnxStaticQuantizationConfig


def dynamic(model, context, **options):
    return OnnxDynamicQuantization(DYNAMIC.model_validate_json(json.dumps(options))).run(model, context)


def static(model, context, **options):
    config = STATIC.model_validate_json(json.dumps({"data_config": "rows", **options}))
    return OnnxStaticQuantization(config).run(model, context)


def arrays(model) -> dict[str, np.ndarray]:
    return {each.name: numpy_helper.to_array(each) for each in load(model.path).graph.initializer}


def zero_points(result, part) -> set[int]:
    named = {name: array for name, array in arrays(result.model).items() if name.endswith("zero_point")}
    return {int(value) for name, array in named.items() if part in name for value in array.ravel()}


def written(text, tmp_path, like):
    """A model in ONNX's text form."""
    model = onnx.parser.parse_model(text)
    onnx.save(model, str(tmp_path / "written.onnx"))
    return handle_of(tmp_path / "written.onnx", like=like.with_(inputs=()))


def refusals(config, options) -> list[tuple[str, str | None]]:
    problems = []
    validate(config, options, (), problems)
    return [(problem.message, problem.hint) for problem in problems]


def test_the_tables_are_what_onnxruntime_has():
    from onnxruntime.quantization import base_quantizer, onnx_quantizer, qdq_quantizer, registry

    assert set(known.DYNAMIC_OPERATORS) == set(registry.IntegerOpsRegistry)
    assert set(known.QOPERATOR_OPERATORS) == set(registry.QLinearOpsRegistry)
    quantize = importlib.import_module("onnxruntime.quantization.quantize")  # hidden behind a function of its name
    modules = (base_quantizer, onnx_quantizer, qdq_quantizer, quantize)
    source = "".join(inspect.getsource(module) for module in modules)
    read = set(re.findall(r"extra_options(?:\.get\(|\[)\s*\"(\w+)\"", source))
    read |= set(re.findall(r"\"(Calib\w+)\", \"", source))
    assert read <= {*known.EXTRA_OPTIONS, *known.REFUSED_EXTRA_OPTIONS, *STATIC.model_fields}
    assert all(f"{name} =" in source or f'"{name}"' in source for name in known.EXTRA_OPTIONS if name not in OPTIONS)
    assert set(OPTIONS) <= read


PREPROCESS = "quantization.shape_inference.quant_pre_process"


def test_the_preparation_can_be_left_out(converted, context, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("prepared all the same")

    for prepares in ("transformers.shape_infer_helper.SymbolicShapeInference.infer_shapes", PREPROCESS):
        monkeypatch.setattr(f"onnxruntime.{prepares}", refuse)
    with pytest.raises(PreconditionFailed, match="prepared all the same"):
        dynamic(converted, context)

    assert dynamic(converted, context, quant_preprocess=False).report["quantized"]["MatMulInteger"] == 14
    assert static(converted, context, quant_preprocess=False).report["quantized"]["DequantizeLinear"] > 30


def test_nodes_are_chosen_by_name(converted, context):
    names = [node.name for node in load(converted.path).graph.node if node.op_type == "MatMul" and "query" in node.name]

    only = dynamic(converted, context, nodes_to_quantize=names).report["quantized"]
    others = dynamic(converted, context, nodes_to_exclude=names).report["quantized"]
    calibrated = static(converted, context, nodes_to_quantize=names)

    assert only == {"MatMulInteger": 2}
    assert others["MatMulInteger"] == 12
    assert node_counts(load(calibrated.model.path))["QuantizeLinear"] == 2


def test_weights_are_symmetric_or_not(converted, context):
    assert zero_points(dynamic(converted, context), "MatMul") == {0}
    assert len(zero_points(dynamic(converted, context, WeightSymmetric=False), "MatMul")) > 1
    assert len(zero_points(dynamic(converted, context, weight_type="QUInt8"), "MatMul")) > 1
    assert zero_points(dynamic(converted, context, weight_type="QUInt8", WeightSymmetric=True), "MatMul") == {128}


def test_activations_are_symmetric_or_not_and_of_the_type_written(converted, context):
    def activations(**options):
        graph = load(static(converted, context, **options).model.path).graph
        values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        return [values[node.input[2]] for node in graph.node if node.op_type == "QuantizeLinear"]

    assert len({int(each) for each in activations()}) > 1
    assert {int(each) for each in activations(ActivationSymmetric=True)} <= {127, 128}
    assert {each.dtype for each in activations()} == {np.dtype(np.uint8)}
    assert {each.dtype for each in activations(activation_type="QInt8")} == {np.dtype(np.int8)}


def test_products_of_activations_are_quantized_if_told_so(converted, context):
    plain = dynamic(converted, context).report["quantized"]["MatMulInteger"]

    assert dynamic(converted, context, MatMulConstBOnly=False).report["quantized"]["MatMulInteger"] == plain + 4
    counts = [
        node_counts(load(static(converted, context, MatMulConstBOnly=value).model.path))["QuantizeLinear"]
        for value in (True, False)
    ]
    assert counts[1] > counts[0]


def test_the_inside_of_a_branch_is_quantized_if_told_so(converted, context, tmp_path):
    weights = ", ".join(str(number / 16) for number in range(16))
    model = written(
        f"""<ir_version: 9, opset_import: ["" : 17]>
        branches (float[2, 4] x, bool c) => (float[2, 4] y)
        <float[4, 4] v = {{{weights}}}>
        {{
            z = MatMul(x, v)
            b = If (c) <
                then_branch = first () => (float[2, 4] t) {{ t = MatMul(z, v) }},
                else_branch = second () => (float[2, 4] e) {{ e = Relu(z) }}
            >
            y = Identity(b)
        }}""",
        tmp_path,
        converted,
    )

    def inside(**options):
        made = load(dynamic(model, context, quant_preprocess=False, **options).model.path)
        node = next(node for node in made.graph.node if node.op_type == "If")
        return {each.op_type for attribute in node.attribute for each in attribute.g.node}

    assert "MatMulInteger" not in inside()
    assert "MatMulInteger" in inside(EnableSubgraph=True)


def test_operators_that_only_move_data_are_quantized_if_told_so(converted, context, lines, tmp_path):
    text = """<ir_version: 9, opset_import: ["" : 17]>
        moves (float[1, 4] input_ids) => (float[2, 2] y)
        <int64[2] shape = {2, 2}, float[2, 2] w = {1, 2, 3, 4}>
        { z = Reshape(input_ids, shape) a = Add(z, w) y = Relu(a) }"""
    model = written(text, tmp_path, converted)
    rows = dataclasses.replace(context, data={"rows": lines(4, length=4)})

    def before_reshape(**options):
        graph = load(static(model, rows, **options).model.path).graph
        made_by = {name: node.op_type for node in graph.node for name in node.output}
        return next(made_by.get(node.input[0]) for node in graph.node if node.op_type == "Reshape")

    operators = ["Add", "Reshape"]
    assert before_reshape(op_types_to_quantize=operators) is None
    assert before_reshape(op_types_to_quantize=operators, ForceQuantizeNoInputCheck=True) == "DequantizeLinear"


SIGMOID = """<ir_version: 9, opset_import: ["" : 17]>
    gate (float[batch_size, 4] input_ids) => (float[batch_size, 4] y)
    <float[4, 4] w = {1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8}>
    { z = MatMul(input_ids, w) s = Sigmoid(z) y = Mul(s, s) }"""


def test_the_range_of_a_sigmoid_is_fixed_if_told_so(converted, context, lines, tmp_path):
    model = written(SIGMOID, tmp_path, converted)
    context = dataclasses.replace(context, data={"rows": lines(4, length=4)})
    options = {"quant_format": "QOperator", "op_types_to_quantize": ["MatMul", "Sigmoid"]}

    calibrated = arrays(static(model, context, **options).model)["s_scale"]
    fixed = arrays(static(model, context, **options, **{"extra.Sigmoid.nnapi": True}).model)["s_scale"]

    assert fixed == np.float32(1 / 256)
    assert calibrated != fixed


@pytest.mark.parametrize(
    ("options", "changes"),
    [
        ({"DedicatedQDQPair": True}, lambda counts, plain: counts["QuantizeLinear"] > plain["QuantizeLinear"]),
        ({"AddQDQPairToWeight": True}, lambda counts, plain: counts["QuantizeLinear"] > plain["QuantizeLinear"]),
        (
            {"OpTypesToExcludeOutputQuantization": []},
            lambda counts, plain: counts["QuantizeLinear"] > plain["QuantizeLinear"],
        ),
        ({"QuantizeBias": False}, lambda counts, plain: counts["DequantizeLinear"] < plain["DequantizeLinear"]),
    ],
    ids=lambda each: next(iter(each)) if isinstance(each, dict) else "",
)
def test_extra_options_reach_onnxruntime(converted, context, options, changes):
    plain = node_counts(load(static(converted, context).model.path))

    assert changes(node_counts(load(static(converted, context, extra_options=options).model.path)), plain)


@pytest.mark.parametrize(
    ("config", "options", "message", "hint"),
    [
        (DYNAMIC, {"quant_mode": "static"}, "this pass is dynamic: use OnnxStaticQuantization", None),
        (STATIC, {"quant_mode": "dynamic"}, "this pass is static: use OnnxDynamicQuantization", None),
        (STATIC, {}, "static quantization needs a data_config to calibrate with; dynamic needs none", None),
        (
            STATIC,
            {"data_config": "rows", "activation_type": "QInt8", "weight_type": "QUInt8"},
            "ONNX Runtime has no operators for QInt8 activations with QUInt8 weights",
            None,
        ),
        (
            STATIC,
            {"data_config": "rows", "activation_type": "QInt8", "quant_format": "QOperator"},
            "QInt8 is for quant_format QDQ; QOperator wants QUInt8",
            None,
        ),
        (
            STATIC,
            {"data_config": "rows", "EnableSubgraph": True},
            "is for dynamic mode: activations inside If and Loop are not calibrated",
            None,
        ),
        (
            known.OnnxQuantizationConfig,
            {"calibrate_method": "Entropy"},
            "is for static mode, which needs a data_config to calibrate with",
            None,
        ),
        (
            DYNAMIC,
            {"op_types_to_quantize": ["Gemm"]},
            "in dynamic mode a Gemm is made a MatMul beforehand: write MatMul too",
            None,
        ),
        (
            DYNAMIC,
            {"op_types_to_quantize": ["Matmul"]},
            "no operator that ONNX Runtime quantizes in dynamic mode named 'Matmul'; there is Attention, Conv, "
            "EmbedLayerNormalization, Gather, LSTM, MatMul, Transpose",
            "did you mean 'MatMul'?",
        ),
        (
            DYNAMIC,
            {"extra_options": {"WeightSymmetric": True}},
            "WeightSymmetric is an option of the pass itself: write it beside extra_options, not inside",
            None,
        ),
        (
            DYNAMIC,
            {"extra_options": {"SmoothQuant": True}},
            "SmoothQuant is not available: it needs neural-compressor, which this pass does not use",
            None,
        ),
        (
            DYNAMIC,
            {"extra_options": {"CalibPercentile": 99.0}},
            "CalibPercentile is for static mode",
            None,
        ),
        (
            STATIC,
            {"data_config": "rows", "extra_options": {"CalibPercentile": 99.0}},
            "CalibPercentile needs calibrate_method Percentile",
            None,
        ),
        (
            STATIC,
            {"data_config": "rows", "prepare_qnn_config": True},
            "this version prepares no QNN models",
            None,
        ),
        (
            STATIC,
            {"data_config": "rows", "qnn_extra_options": {"init_overrides": {}}},
            "this version prepares no QNN models",
            None,
        ),
        (DYNAMIC, {"extra_options": {"DefaultTensorType": "x"}}, "DefaultTensorType must be an integer", None),
        (
            STATIC,
            {"data_config": "rows", "extra_options": {"MinimumRealRange": True}},
            "MinimumRealRange must be a number",
            None,
        ),
    ],
)
def test_what_does_not_go_together_or_is_unknown_is_refused(config, options, message, hint):
    around = known_rows()
    problems = []

    validate(config, options, (), problems, around)

    assert [(problem.message, problem.hint) for problem in problems] == [(message, hint)]
    assert all(problem.path[0] in options for problem in problems if problem.path)


def known_rows():
    from pathlib import Path

    from hfopt.api.config import ConfigContext

    return ConfigContext(Path(), frozenset({"rows"}))


def test_a_misspelt_extra_option_has_a_near_miss():
    ((message, hint),) = refusals(DYNAMIC, {"extra_options": {"DefaultTensorTipe": 1}})

    assert message.startswith("no extra option named 'DefaultTensorTipe'; there is ActivationRestrictedAsymmetric, ")
    assert hint == "did you mean 'DefaultTensorType'?"


def test_a_config_survives_being_written_and_read_again():
    config = STATIC.model_validate({"data_config": "rows", "extra.Sigmoid.nnapi": True})

    assert STATIC.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize("option", ["nodes_to_quantize", "nodes_to_exclude"])
def test_a_node_that_is_not_there_has_a_near_miss(converted, context, option):
    with pytest.raises(PreconditionFailed) as failure:
        dynamic(converted, context, **{option: ["/model/classifier/Gem"]})

    assert failure.value.message == f"{option}: the graph has no node '/model/classifier/Gem'"
    assert failure.value.hint == "did you mean '/model/classifier/Gemm'?"


def test_a_node_that_the_preparation_removes_is_said_to_be_removed(converted, context):
    name = next(node.name for node in load(converted.path).graph.node if node.op_type == "Constant")

    with pytest.raises(PreconditionFailed) as failure:
        dynamic(converted, context, nodes_to_exclude=[name])

    assert failure.value.message == f"nodes_to_exclude: the preparation folds or replaces the node {name!r}"
    assert failure.value.hint == "set quant_preprocess to false"


def test_an_operator_that_the_graph_lacks_has_a_near_miss(converted, context):
    with pytest.raises(PreconditionFailed) as failure:
        static(converted, context, op_types_to_quantize=["MatMull"])

    assert failure.value.message.startswith("op_types_to_quantize: the graph has no MatMull; it has Add, ")
    assert failure.value.hint == "did you mean 'MatMul'?"


def test_a_damaged_file_is_said_to_be_damaged(converted, context, tmp_path):
    path = tmp_path / "damaged.onnx"
    path.write_bytes(converted.path.read_bytes()[:5000])

    with pytest.raises(PreconditionFailed) as failure:
        dynamic(converted.with_(path=path, files=(path,)), context)

    assert failure.value.message == f"{path} is not an ONNX model, or is damaged"


@pytest.mark.parametrize("options", [{}, {"quant_preprocess": False}])
def test_a_model_without_anything_to_quantize_is_refused(converted, context, tmp_path, options):
    text = '<ir_version: 9, opset_import: ["" : 17]> g (float[2, 4] x) => (float[2, 4] y) { y = Relu(x) }'
    model = written(text, tmp_path, converted)

    with pytest.raises(PreconditionFailed) as failure:
        dynamic(model, context, **options)

    assert failure.value.message == "no operator of the model could be quantized"
    assert failure.value.hint == "see op_types_to_quantize and nodes_to_quantize"
    assert not (context.folder / "model.onnx").exists()


def test_a_fused_graph_is_quantized_dynamically_without_preparation_too(converted, context, tmp_path):
    from hfopt_ort_passes.fusion import OrtTransformersOptimization

    fused = OrtTransformersOptimization(OrtTransformersOptimization.Config()).run(converted, context).model
    moved = fused.path.rename(tmp_path / "fused.onnx")
    fused = fused.with_(path=moved, files=(moved,))

    as_it_is = dynamic(fused, context, quant_preprocess=False).report["quantized"]

    assert as_it_is == dynamic(fused, context).report["quantized"]


def test_a_model_that_onnx_runtime_refuses_fails_here_with_its_reason(converted, context, monkeypatch):
    def break_it(model, path, external=None):
        model.graph.node[0].op_type = "NoSuchOperator"
        save(model, path, external)

    monkeypatch.setattr("hfopt_ort_passes.quantization.save", break_it)

    with pytest.raises(PreconditionFailed, match=r"ONNX Runtime refuses model.onnx: .*NoSuchOperator"):
        dynamic(converted, context)


def test_a_model_that_opens_but_does_not_run_fails_here_with_its_reason(converted, context, monkeypatch):
    def break_it(model, path, external=None):
        shape = numpy_helper.from_array(np.array([7], np.int64), "no_such_shape")
        model.graph.initializer.append(shape)
        model.graph.node.append(onnx.helper.make_node("Reshape", ["logits", "no_such_shape"], ["seven"], "to_seven"))
        model.graph.output.append(onnx.helper.make_tensor_value_info("seven", onnx.TensorProto.FLOAT, None))
        save(model, path, external)

    monkeypatch.setattr("hfopt_ort_passes.quantization.save", break_it)

    with pytest.raises(PreconditionFailed, match=r"the model that this pass made can't be run: .*to_seven"):
        dynamic(converted, context)


def test_gemm_beside_matmul_is_what_dynamic_quantization_does_anyway(converted, context):
    with_gemm, without = (
        dynamic(converted, context, op_types_to_quantize=names)
        for names in (["MatMul", "Gemm", "Gather"], ["MatMul", "Gather"])
    )

    assert with_gemm.report == without.report
    assert "Gemm" not in {node.op_type for node in load(with_gemm.model.path).graph.node}
