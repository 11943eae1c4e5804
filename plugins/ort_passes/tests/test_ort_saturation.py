"""Products of 8-bit integers that overflow 16 bits on CPUs without VNNI: found in the weights, told, avoided."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from hfopt import Batch, Dataset, ModelHandle, TensorSpec
from hfopt_onnx_model.graph import handle_of, load
from hfopt_ort_passes import quantization
from hfopt_ort_passes.fusion import OrtTransformersOptimization
from hfopt_ort_passes.fusion_options import OrtTransformersOptimizationConfig
from hfopt_ort_passes.quantization import OnnxQuantization
from hfopt_ort_passes.quantization_options import OnnxQuantizationConfig
from hfopt_ort_passes.saturation import pairs_too_large, saturates

EXACT = {"session_options": {"extra_session_config": {"session.x64quantprecision": "1"}}}
PLAIN = {"session_options": {}}


def product(weight: np.ndarray) -> onnx.ModelProto:
    """One product of integers, with a weight of 8 bits."""
    inner, outer = weight.shape
    values = [
        helper.make_tensor_value_info("x", TensorProto.UINT8, [None, inner]),
        helper.make_tensor_value_info("y", TensorProto.INT32, [None, outer]),
    ]
    node = helper.make_node("MatMulInteger", ["x", "w"], ["y"], name="product")
    graph = helper.make_graph([node], "g", values[:1], values[1:], [numpy_helper.from_array(weight, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def multiply(weight: np.ndarray, activations: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(product(weight).SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": activations})[0]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("sse4_1 avx avx2", True),
        ("avx2 avx512f avx512bw", True),
        ("avx2 avx512bw avx512_vnni", False),
        ("avx2 avx_vnni", False),
        ("avx2 avx512bw amx_int8", False),
        ("sse4_1", False),
    ],
)
def test_a_cpu_saturates_by_its_flags(tmp_path, flags, expected):
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: fpu {flags}\nbugs\t\t: none\n")

    assert saturates(tmp_path / "cpuinfo") is expected


def test_a_cpu_of_another_kind_or_system_does_not_saturate(tmp_path):
    (tmp_path / "arm").write_text("processor\t: 0\nFeatures\t: fp asimd asimddp i8mm\n")

    assert not saturates(tmp_path / "arm")
    assert not saturates(tmp_path / "missing")


def test_what_flags_say_is_what_this_cpu_does():
    largest = multiply(np.full((4, 16), 127, np.int8), np.full((1, 4), 255, np.uint8))

    assert bool(largest[0, 0] != 4 * 127 * 255) is saturates()


def test_pairs_are_too_large_from_the_first_sum_that_16_bits_do_not_hold():
    """Every pair of neighbours with the largest activations: what is left as it is, is computed exactly."""
    heads = np.array([[64, 64, 65, -64, -65, 127, 127, -127], [64, 65, 64, -64, -64, 2, -127, 1]], np.int8)
    padded = np.zeros((4, 8), np.int8)
    padded[:2] = heads

    assert pairs_too_large(product(padded)) == {"product": 4 / 16}
    fine = np.abs(heads.sum(axis=0, dtype=int)) <= 128
    exact = 255 * padded.sum(axis=0, dtype=int)
    np.testing.assert_array_equal(multiply(padded, np.full((1, 4), 255, np.uint8))[0, fine], exact[fine])


def test_unsigned_weights_are_never_too_large():
    assert pairs_too_large(product(np.full((4, 8), 255, np.uint8))) == {}


@pytest.fixture
def quantize(context, lines):
    def run(model, **options):
        data = dataclasses.replace(context, data={"rows": lines(4)})
        return OnnxQuantization(OnnxQuantizationConfig(**options)).run(model, data)

    return run


KINDS = {
    "dynamic": {},
    "pairs": {"data_config": "rows"},
    "integer operators": {"data_config": "rows", "quant_format": "QOperator"},
}


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_every_form_of_weights_is_looked_at_and_seven_bits_are_never_too_large(quantize, converted, options):
    whole, reduced = (quantize(converted, **options, reduce_range=each) for each in (False, True))

    shares = whole.report["pairs_too_large"]
    assert len(shares) == 14
    assert all(0 < share < 0.2 for share in shares.values())
    assert list(shares.values()) == sorted(shares.values(), reverse=True)
    assert "pairs_too_large" not in reduced.report


class Largest(Dataset):
    """One row of the largest activations."""

    def __len__(self):
        return 1

    def batches(self, rows=None, *, size=None):
        yield Batch(np.array([0]), {"x": np.full((1, 64), 255, np.float32)}, None)

    def post_process(self, outputs):
        return outputs["y"]


def largest(path, operator) -> ModelHandle:
    """A product in float32 of which each weight is the largest that 8 bits hold."""
    names = {"MatMul": ["x", "w"], "Gemm": ["x", "w", "b"]}[operator]
    arrays = {"w": np.full((64, 32), 127, np.float32), "b": np.zeros(32, np.float32)}
    weights = [numpy_helper.from_array(arrays[name], name) for name in names[1:]]
    values = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 64]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 32]),
    ]
    node = helper.make_node(operator, names, ["y"], name="product")
    graph = helper.make_graph([node], "g", values[:1], values[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    spec = TensorSpec(name="x", dtype="float32", axes=("rows", 64))
    return handle_of(path, like=ModelHandle(type="PyTorchModel", path=path, files=(), inputs=(spec,)))


@pytest.mark.parametrize("operator", ["MatMul", "Gemm"])
@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_the_largest_products_are_exact_on_every_cpu(tmp_path, context, operator, options):
    work = OnnxQuantization(OnnxQuantizationConfig(**options))
    source = largest(tmp_path / "float.onnx", operator)
    made = work.run(source, dataclasses.replace(context, data={"rows": Largest()})).model
    (batch,) = Largest().batches()

    with context.open(made, {}) as session:
        np.testing.assert_allclose(session.run(batch.feeds)["y"], 64 * 127 * 255, rtol=1e-5)
    with context.open(made, PLAIN) as session:
        saturated = session.run(batch.feeds)["y"][0, 0] < 0.6 * 64 * 127 * 255
    assert bool(saturated) is saturates()


def test_fused_attention_is_looked_at(quantize, converted, context, tmp_path):
    fused = OrtTransformersOptimization(OrtTransformersOptimizationConfig()).run(converted, context).model
    moved = fused.path.rename(tmp_path / "fused.onnx")

    made = quantize(fused.with_(path=moved, files=(moved,)))

    attention = [node.name for node in load(made.model.path).graph.node if node.op_type == "QAttention"]
    assert len(attention) == 2
    assert set(attention) <= made.report["pairs_too_large"].keys()


def test_sessions_are_told_to_be_exact_where_products_can_saturate(quantize, converted):
    assert quantize(converted).model.inference_settings == EXACT
    assert quantize(converted, weight_type="QUInt8").model.inference_settings == {}
    assert quantize(converted, reduce_range=True).model.inference_settings == {}
    assert quantize(converted, exact_products=False).model.inference_settings == {}


def test_what_the_models_own_settings_say_stays(quantize, converted):
    entries = {"session.x64quantprecision": "0", "session.intra_op.allow_spinning": "0"}
    own = {"io_bind": True, "session_options": {"intra_op_num_threads": 1, "extra_session_config": entries}}

    assert quantize(converted.with_(inference_settings=own)).model.inference_settings == own


def test_products_that_may_saturate_here_are_a_warning(quantize, converted, monkeypatch):
    monkeypatch.setattr(quantization, "saturates", lambda: True)
    made = quantize(converted, exact_products=False)

    name, most = next(iter(made.report["pairs_too_large"].items()))
    assert made.report["warning"] == (
        "this CPU has no VNNI, and adds products of 8 bits into 16: results may be wrong. Nodes with pairs of weights "
        f"that are too large for that: 14, most of all {name} ({most:.2%} of its pairs). Set exact_products or "
        "reduce_range to true, or weight_type to QUInt8"
    )
    assert "warning" not in quantize(converted).report
    monkeypatch.setattr(quantization, "saturates", lambda: False)
    assert "warning" not in quantize(converted, exact_products=False).report
