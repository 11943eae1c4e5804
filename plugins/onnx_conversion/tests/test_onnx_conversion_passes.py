"""OnnxOpVersionConversion, OnnxFloatToFloat16 and DynamicToFixedShape on a converted BERT."""

from __future__ import annotations

import os

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import transformers
from onnx import TensorProto
from onnxruntime.quantization import quantize_dynamic
from pydantic import ValidationError

from hfopt import Accelerator, HfoptError, ModelHandle, PreconditionFailed, TensorSpec
from hfopt.api.example import example_feeds
from hfopt.api.parity import HALF_RELATIVE, QUANTIZED_RELATIVE, RELATIVE, Parity
from hfopt_hf_model_loader.session import TorchSession
from hfopt_onnx_conversion import half as half_module
from hfopt_onnx_conversion.export import export
from hfopt_onnx_conversion.half import OnnxFloatToFloat16
from hfopt_onnx_conversion.opset import OnnxOpVersionConversion, convert, latest_opset, latest_run
from hfopt_onnx_conversion.shapes import DynamicToFixedShape
from hfopt_onnx_model import graph
from hfopt_onnx_model.loader import ONNXModel, ONNXModelConfig
from hfopt_onnx_model.precision import index_arithmetic

PASSES = {
    "opset": (OnnxOpVersionConversion, {}),
    "half": (OnnxFloatToFloat16, {}),
    "shapes": (DynamicToFixedShape, {"dim_param": ("batch_size",), "dim_value": (2,)}),
}


def run(handle, feeds):
    with ONNXModel(ONNXModelConfig()).open(handle, Accelerator(), {"threads": 1}) as session:
        return session.run(feeds)["logits"]


def feeds_of(handle, batch=2, length=9):
    return example_feeds(handle.inputs, {"batch_size": batch, "sequence_length": length}, padded=True, seed=7)


def opsets(handle):
    return {entry.domain: entry.version for entry in onnx.load(str(handle.path)).opset_import}


def fused(converted, folder):
    """The same graph with com.microsoft operators, whose domain it does not import."""
    from onnxruntime.transformers.optimizer import optimize_model

    optimized = optimize_model(str(converted.path), model_type="bert", num_heads=2, hidden_size=16, opt_level=0)
    optimized.topological_sort(is_deterministic=True)
    assert optimized.get_fused_operator_statistics()["Attention"] == 2
    graph.save(optimized.model, folder / "fused.onnx")
    return graph.handle_of(folder / "fused.onnx", like=converted)


@pytest.mark.parametrize("name", PASSES)
def test_external_data_go_where_the_options_say_and_come_from_where_they_were(name, converted, apply):
    pass_class, options = PASSES[name]
    asked = {"save_as_external_data": True, "size_threshold": 0}

    beside = apply(pass_class, converted, **options, **asked, external_data_name="w").model
    again = apply(pass_class, converted, **options, **asked, external_data_name="w").model
    source = apply(OnnxOpVersionConversion, converted, target_opset=17, **asked).model
    many = apply(pass_class, source, **options, **asked, all_tensors_to_one_file=False).model
    inside = apply(pass_class, converted, **options).model

    assert [path.name for path in beside.files] == ["model.onnx", "w"]
    assert [path.read_bytes() for path in beside.files] == [path.read_bytes() for path in again.files]
    assert len(many.files) > 20
    expected = run(inside, feeds_of(converted))
    for other in (beside, many):
        np.testing.assert_array_equal(run(other, feeds_of(converted)), expected)


@pytest.mark.parametrize("name", PASSES)
def test_a_model_with_weights_above_the_threshold_goes_through(name, converted, apply, monkeypatch):
    monkeypatch.setattr(graph, "EXTERNAL_THRESHOLD", 1_000)
    source = apply(OnnxOpVersionConversion, converted, target_opset=17).model
    assert [path.name for path in source.files] == ["model.onnx", "model.onnx.data"]
    pass_class, options = PASSES[name]

    result = apply(pass_class, source, **options)

    assert [path.name for path in result.model.files] == ["model.onnx", "model.onnx.data"]
    assert result.report["parity"]["agree"]


def test_the_opset_becomes_what_was_asked_and_everything_else_stays(converted, apply):
    result = apply(OnnxOpVersionConversion, converted, target_opset=21)

    assert opsets(result.model) == {"": 21}
    before, after = (onnx.load(str(handle.path)) for handle in (converted, result.model))
    assert [node.name for node in after.graph.node] == [node.name for node in before.graph.node]
    assert list(after.graph.value_info) == list(before.graph.value_info)
    onnx.checker.check_model(after)
    assert (result.model.inputs, result.model.outputs) == (converted.inputs, converted.outputs)
    np.testing.assert_allclose(run(result.model, feeds_of(converted)), run(converted, feeds_of(converted)), atol=1e-6)


def small_graph(opset, *nodes, **weights):
    """A model from x, float32 [1, 1, 2, 2], and the boolean c to y."""
    ends = [
        onnx.helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 2, 2]),
        onnx.helper.make_tensor_value_info("c", TensorProto.BOOL, []),
        onnx.helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
    ]
    stored = [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()]
    made = onnx.helper.make_graph(nodes, "small", ends[:2], ends[2:], stored)
    return onnx.helper.make_model_gen_version(made, opset_imports=[onnx.helper.make_opsetid("", opset)])


def branches(*operators):
    """An If whose branches are one operator of x each."""
    out = onnx.helper.make_tensor_value_info("z", TensorProto.FLOAT, None)
    made = [
        onnx.helper.make_graph([onnx.helper.make_node(each, ["x"], ["z"])], each.lower(), [], [out])
        for each in operators
    ]
    return onnx.helper.make_node("If", ["c"], ["y"], then_branch=made[0], else_branch=made[1])


@pytest.mark.parametrize(
    "model",
    [
        small_graph(13, branches("GlobalLpPool", "GlobalAveragePool")),  # a new form in 22, without a kernel
        small_graph(
            9,
            onnx.helper.make_node("Upsample", ["x", "scales"], ["y"], mode="nearest"),  # given up in opset 10
            scales=np.array([1, 1, 2, 2], np.float32),
        ),
    ],
    ids=["in a subgraph", "an operator that is given up"],
)
def test_every_operator_has_a_kernel_in_the_latest_opset(model):
    converted = convert(model, latest_run(model))

    session = onnxruntime.InferenceSession(converted.SerializeToString(), providers=["CPUExecutionProvider"])
    assert len(session.run(None, {"x": np.ones((1, 1, 2, 2), np.float32), "c": np.array(True)})) == 1


def test_operators_that_onnx_does_not_define_are_refused_by_name():
    fused_norm = onnx.helper.make_node("SimplifiedLayerNormalization", ["x", "w"], ["y"])
    model = small_graph(17, fused_norm, w=np.ones(2, np.float32))

    with pytest.raises(PreconditionFailed, match="ONNX itself defines no SimplifiedLayerNormalization") as failure:
        convert(model, latest_run(model))

    assert failure.value.hint.startswith("put this pass before the one that fuses")


def test_left_unwritten_the_opset_is_the_latest_that_onnx_runtime_runs(converted, apply):
    """It knows newer ones, and lacks kernels for them: those of quantization in opset 28, for one."""
    result = apply(OnnxOpVersionConversion, converted)

    assert opsets(result.model) == {"": result.report["opset"]}
    assert 20 < result.report["opset"] <= latest_opset()
    ends = [onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    zero = [onnx.numpy_helper.from_array(np.array(0.5, np.float32), "scale")]
    nodes = [
        onnx.helper.make_node("QuantizeLinear", ["x", "scale"], ["q"]),
        onnx.helper.make_node("DequantizeLinear", ["q", "scale"], ["y"]),
    ]
    imports = [onnx.helper.make_opsetid("", result.report["opset"])]
    quantized = onnx.helper.make_model_gen_version(
        onnx.helper.make_graph(nodes, "quantized", ends[:1], ends[1:], zero), opset_imports=imports
    )
    onnxruntime.InferenceSession(quantized.SerializeToString(), providers=["CPUExecutionProvider"])
    with pytest.raises(PreconditionFailed, match=f"knows opsets up to {latest_opset()}; target_opset is 99"):
        apply(OnnxOpVersionConversion, converted, target_opset=99)


def test_an_operator_that_an_older_opset_lacks_is_named(converted, apply):
    with pytest.raises(PreconditionFailed) as failure:
        apply(OnnxOpVersionConversion, converted, target_opset=13)

    assert failure.value.message == (
        "the graph can't be converted to opset 13: No Previous Version of LayerNormalization exists"
    )
    assert failure.value.hint == "set target_opset of the pass that exports the model instead"


def test_fused_operators_pass_through_another_opset_and_to_float16(converted, apply, tmp_path):
    source = fused(converted, tmp_path)

    newer = apply(OnnxOpVersionConversion, source, target_opset=21)
    half = apply(OnnxFloatToFloat16, source)

    assert opsets(newer.model) == {"": 21, "com.microsoft": 1}
    assert newer.report["operators"]["Attention"] == half.report["operators"]["Attention"] == 2
    assert newer.report["parity"]["agree"]
    assert half.report["parity"]["agree"]


def test_weights_are_halved_and_outputs_agree_to_half_precision(converted, apply):
    result = apply(OnnxFloatToFloat16, converted)

    assert result.model.outputs[0].dtype == "float16"
    assert not [t.name for t in onnx.load(str(result.model.path)).graph.initializer if t.data_type == TensorProto.FLOAT]
    found, expected = run(result.model, feeds_of(converted)), run(converted, feeds_of(converted))
    np.testing.assert_allclose(found, expected, atol=1e-2 * np.abs(expected).max())
    assert result.report["parity"]["outputs"]["logits"]["allowed"] > 1e-4 * np.abs(expected).max()


def test_inputs_and_outputs_can_keep_their_types(converted, apply):
    result = apply(OnnxFloatToFloat16, converted, keep_io_types=True)

    assert result.model.outputs[0].dtype == "float32"
    assert result.report["operators"]["Cast"] > 0


@pytest.mark.parametrize("symbolic", [True, False])
def test_operators_and_nodes_on_the_lists_stay_in_float32(symbolic, converted, apply):
    node = next(n.name for n in onnx.load(str(converted.path)).graph.node if n.op_type == "Gemm")

    result = apply(
        OnnxFloatToFloat16,
        converted,
        op_block_list=("MatMul",),
        node_block_list=(node,),
        use_symbolic_shape_infer=symbolic,
    )

    model = onnx.load(str(result.model.path))
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    used = {n.name: {types[name] for name in n.input if name in types} for n in model.graph.node}
    products = [n.name for n in model.graph.node if n.op_type == "MatMul"]
    assert {kind for name in (*products, node) for kind in used[name]} == {TensorProto.FLOAT}
    assert TensorProto.FLOAT16 in types.values()


def test_weights_are_kept_away_from_zero_and_infinity(converted, apply):
    result = apply(
        OnnxFloatToFloat16, converted, min_positive_val=0.01, max_finite_val=0.02, parity=Parity(on_difference="warn")
    )

    tables = [
        onnx.numpy_helper.to_array(t).astype(np.float32)
        for t in onnx.load(str(result.model.path)).graph.initializer
        if t.data_type == TensorProto.FLOAT16 and "word_embeddings" in t.name
    ]
    size = np.abs(tables[0])[tables[0] != 0]
    assert (round(float(size.min()), 3), round(float(size.max()), 3)) == (0.01, 0.02)
    assert result.report["parity"]["agree"] is False
    with pytest.raises(HfoptError, match="the new model computes something else: logits differs by"):
        apply(OnnxFloatToFloat16, converted, min_positive_val=0.01, max_finite_val=0.02)


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ({"op_block_list": ("Softmx",)}, "the model has no operator named 'Softmx'", "did you mean 'Softmax'?"),
        (
            {"node_block_list": ("/model/clasifier/Gemm",)},
            "the model has no node",
            "did you mean '/model/classifier/Gemm'?",
        ),
    ],
)
def test_what_the_model_has_not_can_not_be_blocked(options, message, hint, converted, apply):
    with pytest.raises(PreconditionFailed) as failure:
        apply(OnnxFloatToFloat16, converted, **options)

    assert failure.value.message.startswith(message)
    assert failure.value.hint == hint
    apply(OnnxFloatToFloat16, converted, op_block_list=("NonMaxSuppression", "SkipLayerNormalization"), parity=None)


def test_types_that_can_not_be_inferred_are_said_and_leave_no_file(converted, apply, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = onnx.load(str(converted.path))
    model.graph.node[5].op_type, model.graph.node[5].domain = "Unheard", "nowhere"
    model.opset_import.add(domain="nowhere", version=1)

    with pytest.raises(
        PreconditionFailed, match="the types of the graph can't be inferred: Incomplete symbolic"
    ) as failure:
        half_module.add_types(model, symbolic=True)

    assert failure.value.hint == "try use_symbolic_shape_infer: false"
    assert os.listdir(tmp_path) == []


def test_named_axes_become_sizes_in_inputs_and_outputs(converted, apply):
    result = apply(DynamicToFixedShape, converted, dim_param=("batch_size", "sequence_length"), dim_value=(3, 12))

    assert {spec.axes for spec in result.model.inputs} == {(3, 12)}
    assert [spec.axes for spec in result.model.outputs] == [(3, 2)]
    assert result.report["shapes"]["logits"] == [3, 2]
    feeds = feeds_of(converted, 3, 12)
    np.testing.assert_allclose(run(result.model, feeds), run(converted, feeds), atol=1e-6)


def test_shapes_of_inputs_fix_the_same_axes_of_the_others(converted, apply):
    result = apply(DynamicToFixedShape, converted, input_name=("input_ids",), input_shape=((1, 8),))

    assert {spec.axes for spec in result.model.inputs} == {(1, 8)}


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        (
            {"dim_param": ("batch",), "dim_value": (1,)},
            "the model has no axis named 'batch'",
            "did you mean 'batch_size'?",
        ),
        (
            {"input_name": ("ids",), "input_shape": ((1, 8),)},
            "the model has no input named 'ids'",
            "it has attention_mask, input_ids, token_type_ids",
        ),
        (
            {"input_name": ("input_ids",), "input_shape": ((8,),)},
            "input_shape [8] does not fit input 'input_ids': Rank mismatch. Existing:2 Replacement:1",
            None,
        ),
    ],
)
def test_axes_and_inputs_that_the_model_has_not_are_refused(options, message, hint, converted, apply):
    with pytest.raises(PreconditionFailed) as failure:
        apply(DynamicToFixedShape, converted, **options)

    assert (failure.value.message, failure.value.hint) == (message, hint)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs dim_param and dim_value, or input_name and input_shape"),
        ({"dim_param": ("batch_size",)}, "dim_param and dim_value go together: they have 1 and 0 entries"),
        (
            {"input_name": ("a", "b"), "input_shape": ((1,),)},
            "input_name and input_shape go together: they have 2 and 1",
        ),
        ({"dim_param": ("batch_size",), "dim_value": (0,)}, "greater than or equal to 1"),
    ],
)
def test_lists_that_do_not_match_are_refused(options, message):
    with pytest.raises(ValidationError, match=message):
        DynamicToFixedShape.Config(**options)


@pytest.mark.parametrize("named", [True, False], ids=["named nodes", "nodes without names"])
def test_distances_fall_into_the_same_buckets_in_half_precision(apply, tmp_path, named):
    """MPNet looks up a bias by the logarithm of a distance, which float16 rounds into the next bucket."""
    torch.manual_seed(0)
    config = transformers.MPNetConfig(
        vocab_size=40,
        max_position_embeddings=40,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        attn_implementation="eager",
        initializer_range=0.3,
    )
    specs = tuple(
        TensorSpec(name=name, dtype="int64", axes=("batch_size", "sequence_length"), high=high)
        for name, high in {"input_ids": 30, "attention_mask": 2}.items()
    )
    source = TorchSession(transformers.MPNetForMaskedLM(config).eval(), specs)
    export(source, specs, tmp_path / "mpnet.onnx", exporters=("torchscript",))
    if not named:
        exported = onnx.load(tmp_path / "mpnet.onnx")
        for node in exported.graph.node:
            node.ClearField("name")
        onnx.save(exported, tmp_path / "mpnet.onnx")
    handle = graph.handle_of(
        tmp_path / "mpnet.onnx", like=ModelHandle(type="PyTorchModel", path=tmp_path, files=(), inputs=specs)
    )

    half = apply(OnnxFloatToFloat16, handle)
    rounded = apply(OnnxFloatToFloat16, handle, node_block_list=(), parity=Parity(on_difference="warn"))

    assert half.report["parity"]["agree"]
    assert not rounded.report["parity"]["agree"]


@pytest.mark.parametrize("options", [{}, {"saturate": 1}], ids=str)
def test_a_bucket_is_known_by_the_type_that_its_cast_is_to(options):
    log = onnx.helper.make_node("Log", ["x"], ["l"], "log")
    scaled = onnx.helper.make_node("Mul", ["l", "w"], ["m"], "scale")
    bucket = onnx.helper.make_node("Cast", ["m"], ["y"], "bucket", to=TensorProto.INT64, **options)
    model = small_graph(19, log, scaled, bucket, w=np.ones(2, np.float32))

    assert index_arithmetic(model) == ["scale", "log"]


def test_a_quantized_model_is_not_made_half_precision(converted, apply, tmp_path):
    quantized = tmp_path / "quantized.onnx"
    quantize_dynamic(str(converted.path), str(quantized))

    with pytest.raises(PreconditionFailed) as failure:
        apply(OnnxFloatToFloat16, graph.handle_of(quantized, like=converted))

    assert failure.value.message.startswith("the model is quantized already, and its DequantizeLinear, Dynamic")
    assert failure.value.hint.startswith("leave out this pass or the quantization")


@pytest.mark.parametrize("option", ["op_block_list", "node_block_list"])
def test_a_quantized_model_whose_quantized_nodes_stay_in_float32_is_made_half_precision(
    converted, apply, tmp_path, option
):
    quantized = tmp_path / "quantized.onnx"
    quantize_dynamic(str(converted.path), str(quantized))
    operators = ("DequantizeLinear", "DynamicQuantizeLinear")
    nodes = tuple(node.name for node in onnx.load(quantized).graph.node if node.op_type in operators)

    kept = {option: operators if option == "op_block_list" else nodes}
    result = apply(OnnxFloatToFloat16, graph.handle_of(quantized, like=converted), **kept)

    assert result.report["parity"]["agree"]


def test_outputs_of_a_model_that_rounds_activations_may_be_further_apart(converted, apply, tmp_path):
    quantized = tmp_path / "quantized.onnx"
    quantize_dynamic(str(converted.path), str(quantized))
    handle = graph.handle_of(quantized, like=converted)

    tolerances = [
        apply(OnnxOpVersionConversion, each, target_opset=18).tolerance
        for each in (handle, converted, apply(OnnxFloatToFloat16, converted).model)
    ]

    assert tolerances == [QUANTIZED_RELATIVE, RELATIVE, HALF_RELATIVE]
