"""OrtMixedPrecision on models that float16 breaks and on one that it does not, against float32 and NumPy."""

from __future__ import annotations

import dataclasses
import logging

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from hfopt import Batch, Dataset, ModelHandle, PreconditionFailed
from hfopt.api.example import example_feeds
from hfopt_onnx_conversion.half import OnnxFloatToFloat16, OnnxFloatToFloat16Config
from hfopt_onnx_model.graph import handle_of, load
from hfopt_ort_passes.fusion import OrtTransformersOptimization, OrtTransformersOptimizationConfig
from hfopt_ort_passes.half import convert as convert_to_half
from hfopt_ort_passes.half import rounded
from hfopt_ort_passes.mixed_precision import OrtMixedPrecision, OrtMixedPrecisionConfig
from hfopt_ort_passes.quantization import OnnxDynamicQuantization
from hfopt_ort_passes.quantization_options import OnnxDynamicQuantizationConfig
from hfopt_ort_passes.subsets import smallest

WIDTH = 32


def chain(*, gain: float = 3e5) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """Products with a middle that is multiplied by `gain` and divided by it again: beyond 65504 float16 is infinite."""
    random = np.random.default_rng(3)
    weights = {
        name: (random.standard_normal((WIDTH, WIDTH)) / np.sqrt(WIDTH)).astype(np.float32)
        for name in ("W_in", "W_middle", "W_out")
    }
    weights |= {"gain": np.array(gain / 64, np.float32), "bias": np.full(WIDTH, 0.5, np.float32)}
    weights |= {"large": np.array(64.0, np.float32), "loss": np.array(1 / gain, np.float32)}
    nodes = [
        helper.make_node("MatMul", ["x", "W_in"], ["a"], name="in"),
        helper.make_node("Add", ["a", "bias"], ["b"], name="bias"),
        helper.make_node("MatMul", ["b", "W_middle"], ["c"], name="middle"),
        helper.make_node("Mul", ["c", "gain"], ["d"], name="raise"),
        helper.make_node("Mul", ["d", "large"], ["e"], name="raise more"),
        helper.make_node("Mul", ["e", "loss"], ["f"], name="lower"),
        helper.make_node("Relu", ["f"], ["g"], name="relu"),
        helper.make_node("MatMul", ["g", "W_out"], ["y"], name="out"),
    ]
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch_size", WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch_size", WIDTH])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), weights


def in_numpy(x: np.ndarray, weights, half: set[str]) -> np.ndarray:
    """The chain, where some nodes have weights and inputs in float16, and results that are rounded to it."""

    def value(name, array):
        with np.errstate(over="ignore", invalid="ignore"):
            return array.astype(np.float16).astype(np.float32) if name in half else array

    a = value("in", value("in", x) @ value("in", weights["W_in"]))
    b = value("bias", a + value("bias", weights["bias"]))
    c = value("middle", b @ value("middle", weights["W_middle"]))
    d = value("raise", value("raise", c) * value("raise", weights["gain"]))
    e = value("raise more", value("raise more", d) * value("raise more", weights["large"]))
    f = value("lower", value("lower", e) * value("lower", weights["loss"]))
    g = value("relu", np.maximum(value("relu", f), 0))
    return value("out", value("out", g) @ value("out", weights["W_out"]))


NODES = ("in", "bias", "middle", "raise", "raise more", "lower", "relu", "out")


def stored(model: onnx.ModelProto, path) -> ModelHandle:
    onnx.save(model, str(path))
    return handle_of(path, like=ModelHandle(type="PyTorchModel", path=path, files=()))


@pytest.fixture
def overflowing(tmp_path) -> ModelHandle:
    return stored(chain()[0], tmp_path / "chain.onnx")


def convert(model, context, **options):
    return OrtMixedPrecision(OrtMixedPrecisionConfig(**options)).run(model, context)


def initializer_types(model: ModelHandle) -> dict[str, str]:
    return {each.name: numpy_helper.to_array(each).dtype.name for each in load(model.path).graph.initializer}


def inputs(rows: int = 4) -> np.ndarray:
    return np.random.default_rng(5).standard_normal((rows, WIDTH)).astype(np.float32)


def test_nodes_that_overflow_in_float16_stay_in_float32_and_no_others(overflowing, context):
    """Independent of ONNX Runtime: NumPy shows that float16 is infinite, and is not with those two nodes kept."""
    x, weights = inputs(), chain()[1]
    exact = in_numpy(x, weights, half=set())
    with np.errstate(invalid="ignore"):
        assert not np.isfinite(in_numpy(x, weights, half=set(NODES))).any()

    result = convert(overflowing, context)

    assert result.report["float32"] == {"nodes": ["raise more", "lower"], "operators": {"Mul": 2}}
    assert result.report["trials"][0] == {"nodes": 0, "difference": None, "allowed": pytest.approx(0.03, rel=0.9)}
    kept = in_numpy(x, weights, half=set(NODES) - {"raise more", "lower"})
    np.testing.assert_allclose(kept, exact, atol=1e-2 * np.abs(exact).max())
    with context.open(overflowing, {}) as source, context.open(result.model, {}) as candidate:
        np.testing.assert_allclose(source.run({"x": x})["y"], exact, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(candidate.run({"x": x})["y"], exact, atol=1e-2 * np.abs(exact).max())


def test_values_between_two_float32_nodes_are_not_cast(overflowing, context):
    graph = load(convert(overflowing, context).model.path).graph
    nodes = {node.name: node for node in graph.node}

    assert nodes["lower"].input[0] == nodes["raise more"].output[0]
    assert sum(node.op_type == "Cast" for node in graph.node) == 4  # at the input and output, and around the island
    types = initializer_types(handle_of(context.folder / "model.onnx", like=overflowing))
    assert {name for name, kind in types.items() if kind == "float32"} == {"large", "loss"}


def test_what_is_tried_rounds_as_numpy_does(context, tmp_path):
    model, weights = chain(gain=100.0)
    half = convert_to_half(onnx.shape_inference.infer_shapes(model), (), (), keep_io_types=True)
    session_model = stored(rounded(half), tmp_path / "rounded.onnx")

    with context.open(session_model, {}) as session:
        got = session.run({"x": inputs()})["y"]

    np.testing.assert_allclose(got, in_numpy(inputs(), weights, half=set(NODES)), rtol=2e-3, atol=2e-3)
    assert np.array_equal(got, got.astype(np.float16))


def test_a_model_that_float16_suits_becomes_float16_altogether(converted, context):
    result = convert(converted, context)

    assert result.report["float32"] == {"nodes": [], "operators": {}}
    assert len(result.report["trials"]) == 1
    assert result.model.size_bytes < 0.6 * converted.size_bytes
    assert "float32" not in initializer_types(result.model).values()
    feeds = example_feeds(converted.inputs, {"batch_size": 2, "sequence_length": 9})
    with context.open(converted, {}) as source, context.open(result.model, {}) as candidate:
        np.testing.assert_allclose(candidate.run(feeds)["logits"], source.run(feeds)["logits"], atol=5e-3)


def test_operators_and_nodes_can_be_kept_whatever_the_outputs_need(overflowing, context):
    kept = ("out", "raise more", "lower")
    result = convert(overflowing, context, op_block_list=("Add", "Selu"), node_block_list=kept)

    assert result.report["float32"]["nodes"] == list(kept)
    assert result.report["float32"]["operators"] == {"Mul": 2, "Add": 1, "MatMul": 1}
    types = initializer_types(result.model)
    assert (types["bias"], types["W_out"], types["W_in"]) == ("float32", "float32", "float16")


def test_inputs_and_outputs_become_float16_when_asked_for(overflowing, context):
    result = convert(overflowing, context, keep_io_types=False)

    assert [spec.dtype for spec in (*result.model.inputs, *result.model.outputs)] == ["float16", "float16"]
    assert result.report["float32"]["nodes"] == ["raise more", "lower"]


def test_atol_keeps_the_head_if_its_weights_change_by_more(overflowing, context):
    assert convert(overflowing, context, atol=1e-6).report["float32"]["nodes"] == ["out", "raise more", "lower"]
    assert convert(overflowing, context, atol=1.0).report["float32"]["nodes"] == ["raise more", "lower"]


def test_atol_without_a_head_is_an_error(context, tmp_path):
    model, _ = chain()
    model.graph.output[0].name = "g"
    with pytest.raises(PreconditionFailed, match="atol: g is not yielded by a MatMul with a weight"):
        convert(stored(model, tmp_path / "headless.onnx"), context, atol=1e-6)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"op_block_list": ("Addd",)}, r"op_block_list: there is no operator 'Addd'\n.*did you mean 'Add'"),
        ({"node_block_list": ("lowr",)}, r"node_block_list: the graph has no node 'lowr'\n.*did you mean 'lower'"),
        ({"data_config": "none"}, "there are no rows to compare outputs on"),
        ({"tolerance": 1e-9}, r"none of \d+ sets of nodes in float32; at best they differ by .*, allowed 1e-05"),
    ],
)
def test_what_can_not_be_done_is_said(overflowing, context, options, message):
    without_rows = dataclasses.replace(context, data={"none": Rows(0, 1.0)})
    with pytest.raises(PreconditionFailed, match=message):
        convert(overflowing, without_rows, **options)


def test_a_model_that_is_float16_already_is_an_error(overflowing, context, tmp_path):
    half = convert(overflowing, context, keep_io_types=False, node_block_list=("raise more", "lower")).model
    model = load(half.path)
    for node in list(model.graph.node):
        if node.name in ("raise more", "lower") or node.op_type == "Cast":
            model.graph.node.remove(node)
    model.graph.node.insert(4, helper.make_node("Identity", ["d"], ["f"], name="instead"))
    with pytest.raises(PreconditionFailed, match="no operator of the model yields float32"):
        convert(stored(model, tmp_path / "half.onnx"), context)


def test_the_number_of_trials_is_bounded_and_the_smallest_set_so_far_is_taken(overflowing, context):
    trials = convert(overflowing, context).report["trials"]
    assert len(trials) < 20

    report = convert(overflowing, context, max_trials=len(trials) - 1).report

    assert report["trials"] == trials[:-1]
    assert {"raise more", "lower"} <= set(report["float32"]["nodes"]) < set(NODES)
    with pytest.raises(PreconditionFailed, match="none of 2 sets of nodes in float32; at best they differ by inf"):
        convert(overflowing, context, max_trials=2)


def test_a_fused_graph_becomes_float16_too(converted, context, tmp_path):
    fused = OrtTransformersOptimization(OrtTransformersOptimizationConfig()).run(converted, context).model
    moved = fused.with_(path=fused.path.rename(tmp_path / "fused.onnx"))

    result = convert(moved, context, op_block_list=("SkipLayerNormalization",))

    assert result.report["float32"]["operators"] == {"SkipLayerNormalization": 4}


class Rows(Dataset):
    """Random rows of some magnitude."""

    def __init__(self, count, magnitude):
        self.count, self.magnitude, self.read = count, magnitude, 0

    def __len__(self):
        return self.count

    def batches(self, rows=None):
        for row in rows:
            self.read += 1
            yield Batch(np.array([row]), {"x": self.magnitude * inputs(row + 1)[-1:]}, None)

    def post_process(self, outputs):
        return outputs["y"]


def test_the_users_rows_decide_what_must_stay(context, tmp_path):
    """The bias would make the middle large whatever the rows are: it is left out."""
    model, _ = chain()
    model.graph.initializer[4].CopyFrom(numpy_helper.from_array(np.zeros(WIDTH, np.float32), "bias"))
    source = stored(model, tmp_path / "unbiased.onnx")
    small, large = Rows(50, 0.02), Rows(3, 1.0)
    with_rows = dataclasses.replace(context, data={"small": small, "large": large})

    assert convert(source, with_rows, data_config="small", compared_rows=7).report["float32"]["nodes"] == []
    assert small.read == 7
    assert convert(source, with_rows, data_config="large").report["float32"]["nodes"] == ["raise more", "lower"]


def test_weights_go_beside_the_model_when_asked_for(overflowing, context):
    result = convert(overflowing, context, save_as_external_data=True, external_data_name="half.bin")

    assert sorted(path.name for path in context.folder.iterdir()) == ["half.bin", "model.onnx"]
    with context.open(result.model, {}) as session:
        session.run({"x": inputs()})


def test_the_same_input_gives_the_same_bytes_and_nothing_else(overflowing, context, capfd, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    before = (logging.getLogger().level, list(logging.getLogger().handlers), sorted(tmp_path.iterdir()))

    contents = [convert(overflowing, context).model.path.read_bytes() for _ in range(2)]

    assert contents[0] == contents[1]
    assert (logging.getLogger().level, list(logging.getLogger().handlers), sorted(tmp_path.iterdir())) == before
    assert [path.name for path in context.folder.iterdir()] == ["model.onnx"]
    assert capfd.readouterr() == ("", "")


@settings(deadline=None, max_examples=200)
@given(st.integers(2, 40).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1), min_size=1))))
def test_the_search_finds_exactly_what_is_needed(sizes):
    """Where a set agrees if it has certain items in it, the result is those items."""
    count, needed = sizes
    items = [str(number) for number in range(count)]
    wanted = {str(number) for number in needed}

    found = smallest(items, lambda kept: wanted <= set(kept), lambda: False)

    assert set(found) == wanted
    assert list(found) == sorted(found, key=int)


def test_a_quantized_model_is_refused(converted, context):
    quantized = OnnxDynamicQuantization(OnnxDynamicQuantizationConfig()).run(converted, context).model

    fusing = OrtTransformersOptimization(OrtTransformersOptimizationConfig(float16=True))
    for made in (OrtMixedPrecision(OrtMixedPrecisionConfig()), fusing):
        with pytest.raises(PreconditionFailed, match=r"^the model is quantized already, and its .*Dynamic"):
            made.run(quantized, context)


@pytest.mark.parametrize(
    "work",
    [
        OrtMixedPrecision(OrtMixedPrecisionConfig()),
        OrtTransformersOptimization(OrtTransformersOptimizationConfig(float16=True)),
        OnnxFloatToFloat16(OnnxFloatToFloat16Config(keep_io_types=True)),
    ],
    ids=lambda work: type(work).__name__,
)
def test_a_model_is_made_float16_once(converted, context, work):
    """The converter gives its casts of outputs the same names again, and ONNX Runtime refuses the model."""
    half = OrtMixedPrecision(OrtMixedPrecisionConfig()).run(converted, context).model

    with pytest.raises(PreconditionFailed) as failure:
        work.run(half, context)

    assert failure.value.message == "the model is float16 already"
    assert failure.value.hint == "leave out this pass, or the one that made it so"
