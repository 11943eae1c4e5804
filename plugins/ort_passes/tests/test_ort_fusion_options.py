"""Every option of OrtTransformersOptimization reaches the graph, or is refused in a sentence."""

from __future__ import annotations

import dataclasses
import json

import onnx
import pytest

from hfopt import Accelerator, HfoptError, PreconditionFailed
from hfopt.api.parity import HALF_RELATIVE, RELATIVE, Parity, compare, record
from hfopt.testing import run_compared, validate
from hfopt_onnx_model.graph import handle_of, load, node_counts
from hfopt_ort_passes.fusion import OrtTransformersOptimization
from hfopt_ort_passes.fusion_options import OPTIMIZERS, ORT_MODEL_TYPES, OrtTransformersOptimizationConfig

GPU = Accelerator(device="gpu", execution_provider="CUDAExecutionProvider")


def fuse(model, context, **options):
    config = OrtTransformersOptimizationConfig.model_validate_json(json.dumps(options))
    return OrtTransformersOptimization(config).run(model, context)


def compared(model, context, **options):
    config = OrtTransformersOptimizationConfig.model_validate_json(json.dumps(options))
    return run_compared(OrtTransformersOptimization(config), model, context, Parity())


def kinds(result) -> dict[str, set[int]]:
    """The element types of the weights that nodes of each operator take."""
    graph = load(result.model.path).graph
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    found: dict[str, set[int]] = {}
    for node in graph.node:
        found.setdefault(node.op_type, set()).update(types[name] for name in node.input if name in types)
    return found


FLOAT, HALF = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16


def test_the_optimizers_are_those_that_onnxruntime_has():
    from onnxruntime.transformers.optimizer import MODEL_TYPES

    assert set(OPTIMIZERS) == set(MODEL_TYPES)
    assert set(ORT_MODEL_TYPES.values()) <= set(MODEL_TYPES)


def test_half_precision_halves_the_file_and_computes_nearly_the_same(converted, context):
    result = fuse(converted, context, float16=True)

    assert result.model.size_bytes < 0.6 * converted.size_bytes
    assert kinds(result)["Attention"] == {HALF}
    assert {spec.dtype for spec in result.model.outputs} == {"float32"}
    with context.open(converted, {}) as source, context.open(result.model, {}) as candidate:
        assert compare(record(source, converted.inputs), candidate, relative=HALF_RELATIVE)["agree"]


def test_outputs_are_half_too_if_told_so(converted, context):
    assert {spec.dtype for spec in fuse(converted, context, float16=True, keep_io_types=False).model.outputs} == {
        "float16"
    }


def test_operators_and_nodes_stay_in_float32_if_told_so(converted, context):
    name = next(node.name for node in load(fuse(converted, context).model.path).graph.node if node.op_type == "Gemm")

    operators = kinds(fuse(converted, context, float16=True, force_fp32_ops=["Attention"]))
    nodes = kinds(fuse(converted, context, float16=True, force_fp32_nodes=[name]))

    assert FLOAT in operators["Attention"]
    assert HALF in operators["MatMul"]
    assert nodes["Gemm"] == {FLOAT, HALF}


def test_inputs_are_half_all_the_same_if_told_so(converted, context, tmp_path):
    text = """<ir_version: 9, opset_import: ["" : 17]>
        grows (float[1, 1, 2, 2] x) => (float[1, 1, 4, 4] y)
        <float[4] scales = {1, 1, 2, 2}, float[8] roi = {0, 0, 0, 0, 1, 1, 1, 1}>
        { y = Resize<coordinate_transformation_mode = "tf_crop_and_resize">(x, roi, scales) }"""
    onnx.save(onnx.parser.parse_model(text), str(tmp_path / "grows.onnx"))
    model = handle_of(tmp_path / "grows.onnx", like=converted.with_(inputs=()))

    plain = kinds(fuse(model, context, float16=True))["Resize"]

    assert plain == {FLOAT, HALF}
    with pytest.raises(PreconditionFailed, match=r"ONNX Runtime refuses model.onnx: .*Resize"):
        compared(model, context, float16=True, force_fp16_inputs={"Resize": [2]})


def test_approximations_and_half_precision_are_allowed_to_round(converted, context):
    exact = compared(converted, context)
    fast = compared(converted, context, optimization_options={"enable_gelu_approximation": True})
    half = compared(converted, context, float16=True)

    assert (exact.tolerance, fast.tolerance, half.tolerance) == (RELATIVE, HALF_RELATIVE, HALF_RELATIVE)
    assert fast.report["fused"]["FastGelu"] == 2
    assert all(result.report["parity"]["agree"] for result in (exact, fast, half))
    difference = fast.report["parity"]["outputs"]["logits"]["difference"]
    assert difference > exact.report["parity"]["outputs"]["logits"]["difference"]


def test_fusions_that_compute_something_else_are_refused(converted, context):
    """A length for each row instead of its mask is wrong for rows that begin in padding."""
    with pytest.raises(HfoptError, match="the new model computes something else: logits differs by"):
        compared(converted, context, optimization_options={"attention_mask_format": 1})


def test_optimizing_beforehand_and_the_gpu_go_together(converted, context, monkeypatch):
    seen = {}

    def optimize(path, **options):
        seen.update(options)
        raise RuntimeError("seen")

    monkeypatch.setattr("onnxruntime.transformers.optimizer.optimize_model", optimize)
    with pytest.raises(PreconditionFailed, match="ONNX Runtime can't optimize this model: RuntimeError: seen"):
        fuse(converted, dataclasses.replace(context, accelerator=GPU), use_gpu=True, opt_level=2)

    assert (seen["use_gpu"], seen["provider"], seen["opt_level"]) == (True, "cuda", 2)


@pytest.mark.parametrize(
    ("accelerator", "options", "message", "hint"),
    [
        (Accelerator(), {"use_gpu": True}, "use_gpu: the accelerator of this run is cpu", "leave use_gpu out"),
        (
            GPU,
            {"opt_level": 99},
            "opt_level 99 writes operators for CPUs only, and the accelerator is a GPU",
            "set use_gpu",
        ),
        (
            GPU.model_copy(update={"execution_provider": "FooExecutionProvider"}),
            {"use_gpu": True},
            "use_gpu: ONNX Runtime's optimizer does not know FooExecutionProvider; it knows CUDAExecutionProvider, "
            "DmlExecutionProvider, MIGraphXExecutionProvider, TensorrtExecutionProvider",
            None,
        ),
        (GPU, {"use_gqa": True}, "use_gqa: on a GPU GroupQueryAttention is float16 only", "set float16"),
        (
            Accelerator(),
            {"use_gqa": True},
            "use_gqa: the graph has no attention with a cache that GroupQueryAttention could replace",
            "leave use_gqa out; encoders and models without a cache have no use for it",
        ),
        (
            Accelerator(),
            {"float16": True, "force_fp32_ops": ["Atention"]},
            "force_fp32_ops: the graph has no operator 'Atention'",
            "did you mean 'Attention'?",
        ),
        (
            Accelerator(),
            {"float16": True, "force_fp32_ops": ["Softmax"]},
            "force_fp32_ops: the fusions replaced the operator 'Softmax': name nodes that are there after fusion",
            None,
        ),
    ],
)
def test_what_the_model_or_the_accelerator_does_not_allow_is_refused(
    converted, context, accelerator, options, message, hint
):
    with pytest.raises(PreconditionFailed) as failure:
        fuse(converted, dataclasses.replace(context, accelerator=accelerator), **options)

    assert (failure.value.message, failure.value.hint) == (message, hint)


@pytest.mark.parametrize(
    ("options", "place", "message"),
    [
        ({"only_onnxruntime": True}, "only_onnxruntime", "does nothing at opt_level 0: set opt_level to 1, 2 or 99"),
        (
            {"only_onnxruntime": True, "opt_level": 1, "optimization_options": {"enable_gelu": False}},
            "optimization_options",
            "they belong to the fusions, which only_onnxruntime leaves out",
        ),
        (
            {"only_onnxruntime": True, "opt_level": 1, "use_gqa": True},
            "use_gqa",
            "belongs to the fusions, which only_onnxruntime leaves out",
        ),
        ({"force_fp32_nodes": ["a"]}, "force_fp32_nodes", "is of no use without float16"),
        (
            {"num_key_value_heads": 2, "use_gqa": False},
            "num_key_value_heads",
            "is of no use without use_gqa",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(options, place, message):
    problems = []

    validate(OrtTransformersOptimizationConfig, options, (), problems)

    assert [(problem.path, problem.message) for problem in problems] == [((place,), message)]


def test_sizes_that_contradict_the_model_are_refused(converted):
    work = OrtTransformersOptimization(OrtTransformersOptimizationConfig(num_heads=8))

    with pytest.raises(PreconditionFailed) as failure:
        work.requires(converted)

    assert failure.value.message == "num_heads: 8 is written, and the model's num_attention_heads is 4"
    assert failure.value.hint == "leave num_heads out"


def test_a_misspelt_fusion_or_model_type_has_a_near_miss():
    problems = []

    validate(OrtTransformersOptimizationConfig, {"optimization_options": {"enable_atention": False}}, (), problems)
    validate(OrtTransformersOptimizationConfig, {"model_type": "brt"}, (), problems)

    assert [problem.hint for problem in problems] == ["did you mean 'enable_attention'?", "did you mean 'bert'?"]


def test_onnx_runtime_alone_needs_no_known_architecture_and_says_that_it_fused_nothing(converted, context):
    result = fuse(converted.with_(attributes={}), context, only_onnxruntime=True, opt_level=1)

    assert result.report == {
        "summary": "fused nothing",
        "fused": {},
        "warning": "nothing was fused: ONNX Runtime alone fuses little at opt_level 1",
    }


def test_onnx_runtime_alone_fuses_at_higher_levels(converted, context):
    assert fuse(converted, context, only_onnxruntime=True, opt_level=2).report["fused"]["BiasGelu"] == 2


def test_layer_normalizations_that_the_graph_had_are_not_counted_as_fused(converted, context):
    off = dict.fromkeys(("enable_attention", "enable_skip_layer_norm", "enable_bias_gelu", "enable_gelu"), False)

    result = fuse(converted, context, optimization_options=off)

    assert node_counts(load(result.model.path))["LayerNormalization"] == 5
    assert result.report["fused"] == {}
    assert result.report["warning"].startswith("nothing was fused: ")
