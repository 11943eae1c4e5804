"""OrtAccuracyRecovery: which nodes stay in float, proved by quantizing without them and by putting each back."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hfopt import Batch, Dataset, ModelHandle, PreconditionFailed, TensorSpec
from hfopt_onnx_model.graph import handle_of, load, node_counts
from hfopt_ort_passes.quantization import OnnxQuantization
from hfopt_ort_passes.quantization_options import OnnxQuantizationConfig
from hfopt_ort_passes.recovery import OrtAccuracyRecovery, OrtAccuracyRecoveryConfig

WIDTH, CLASSES = 32, 8
OUTLIER = 1e5
"""One value of an activation that is so much larger than the others that 8 bits of its range leave nothing of them."""


class Vectors(Dataset):
    """Random rows in batches of 4, labelled as the float model says if it is given."""

    def __init__(self, count, labels=None):
        self.inputs = np.random.default_rng(1).normal(size=(count, WIDTH)).astype(np.float32)
        self.labels = labels

    def __len__(self):
        return len(self.inputs)

    def batches(self, rows=None, *, size=None):
        rows = np.arange(len(self)) if rows is None else np.asarray(rows)
        for chosen in np.split(rows, range(4, len(rows), 4)):
            yield Batch(chosen, {"x": self.inputs[chosen]}, None if self.labels is None else self.labels[chosen])

    def post_process(self, outputs):
        return outputs["y"].argmax(axis=-1)


def chain(path, ruined, length=5) -> ModelHandle:
    """MatMuls `node0`, `node1`... one after another; to those in `ruined` goes an outlier that does not count."""
    draw = np.random.default_rng(0)
    nodes, weights, value = [], [], "x"
    for number in range(length):
        name = f"node{number}"
        weight = draw.normal(size=(WIDTH, WIDTH if number < length - 1 else CLASSES)) / WIDTH**0.5
        if name in ruined:
            scale = np.ones(WIDTH)
            scale[0] = OUTLIER
            weight[0] = 0
            weights.append(numpy_helper.from_array(scale.astype(np.float32), f"scale{number}"))
            nodes.append(helper.make_node("Mul", [value, f"scale{number}"], [f"scaled{number}"], name=f"scale{number}"))
            value = f"scaled{number}"
        weights.append(numpy_helper.from_array(weight.astype(np.float32), f"w{number}"))
        output = "y" if number == length - 1 else f"out{number}"
        nodes.append(helper.make_node("MatMul", [value, f"w{number}"], [output], name=name))
        value = output
    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch_size", WIDTH]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch_size", CLASSES]),
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    spec = TensorSpec(name="x", dtype="float32", axes=("batch_size", WIDTH))
    return handle_of(path, like=ModelHandle(type="PyTorchModel", path=path, files=(), inputs=(spec,)))


@pytest.fixture
def off(context):
    """How far a model is from another: computed here, from all rows at once."""

    def measure(model, source, data):
        feeds = [batch.feeds for batch in data.batches()]
        found = []
        for each in (source, model):
            with context.open(each, {}) as session:
                found.append(np.concatenate([session.run(feed)["y"].ravel() for feed in feeds]).astype(np.float64))
        return np.linalg.norm(found[1] - found[0]) / np.linalg.norm(found[0])

    return measure


@pytest.fixture
def recover(context):
    def run(model, data, **options):
        config = OrtAccuracyRecoveryConfig(compared_data_config="rows", **options)
        return OrtAccuracyRecovery(config).run(model, dataclasses.replace(context, data={"rows": data}))

    return run


def kept(result) -> set[str]:
    return set(result.report["recovery"]["kept"])


@pytest.mark.parametrize("ruined", [{"node2"}, {"node0", "node3"}], ids=["one", "two"])
@pytest.mark.parametrize("options", [{}, {"data_config": "rows"}], ids=["dynamic", "static"])
def test_exactly_the_nodes_whose_quantization_ruins_the_outputs_stay_in_float(tmp_path, recover, off, ruined, options):
    model, data = chain(tmp_path / "m.onnx", ruined), Vectors(12)

    result = recover(model, data, **options)

    assert kept(result) == ruined
    assert result.report["recovery"]["each_was_tried"]
    assert result.report["summary"].endswith(f"; kept in float: {len(ruined)} MatMul")
    floats = [node.name for node in load(result.model.path).graph.node if node.name in {f"node{n}" for n in range(5)}]
    if not options:
        assert set(floats) == ruined
    assert off(result.model, model, data) <= 0.1


def test_no_node_can_go_back_to_8_bits_without_missing_the_goal(tmp_path, recover, off, context):
    """Each is put back by quantizing anew, and the distance is computed by other means."""
    model, data = chain(tmp_path / "m.onnx", {"node1"}, length=6), Vectors(12)
    quantized = OnnxQuantization(OnnxQuantizationConfig()).run(model, context).model
    with_one = OnnxQuantization(OnnxQuantizationConfig(nodes_to_exclude=("node1",))).run(model, context).model
    goal = 0.7 * off(with_one, model, data)
    assert off(quantized, model, data) > goal

    result = recover(model, data, max_distance=goal)

    assert len(kept(result)) > 1
    assert off(result.model, model, data) <= goal
    for name in kept(result):
        others = tuple(kept(result) - {name})
        again = OnnxQuantization(OnnxQuantizationConfig(nodes_to_exclude=others)).run(model, context).model
        assert off(again, model, data) > goal, name


def test_a_model_that_meets_the_goal_at_once_is_quantized_whole(tmp_path, recover):
    result = recover(chain(tmp_path / "m.onnx", ()), Vectors(8))

    assert kept(result) == set()
    assert len(result.report["recovery"]["trials"]) == 1
    assert result.report["summary"] == "5 MatMulInteger; kept in float: nothing"


def test_sensitivity_is_what_quantizing_a_node_alone_does(tmp_path, recover, off, context):
    model, data = chain(tmp_path / "m.onnx", {"node2"}), Vectors(12)

    sensitivity = recover(model, data).report["recovery"]["sensitivity"]

    assert next(iter(sensitivity)) == "node2"
    for name in ("node0", "node2"):
        alone = OnnxQuantization(OnnxQuantizationConfig(nodes_to_quantize=(name,))).run(model, context).model
        assert sensitivity[name]["distance"] == pytest.approx(off(alone, model, data), rel=1e-3)


def test_labels_decide_where_a_drop_is_written(tmp_path, recover, context):
    model = chain(tmp_path / "m.onnx", {"node2"})
    with context.open(model, {}) as session:
        labels = session.run({"x": Vectors(40).inputs})["y"].argmax(axis=-1)
    data = Vectors(40, labels)

    assert kept(recover(model, data, max_distance=100.0)) == set()
    assert kept(recover(model, data, max_distance=100.0, max_drop=0.2)) == {"node2"}


def test_sensitivity_tells_labels_that_are_lost_even_where_no_drop_is_written(tmp_path, recover, context):
    model = chain(tmp_path / "m.onnx", {"node2"})
    with context.open(model, {}) as session:
        labels = session.run({"x": Vectors(40).inputs})["y"].argmax(axis=-1)
    data = Vectors(40, labels)

    told = recover(model, data).report["recovery"]["sensitivity"]["node2"]

    alone = OnnxQuantization(OnnxQuantizationConfig(nodes_to_quantize=("node2",))).run(model, context).model
    with context.open(alone, {}) as session:
        said = np.concatenate([session.run(batch.feeds)["y"] for batch in data.batches()]).argmax(axis=-1)
    assert told["drop"] == np.mean(said != labels) > 0.2


def test_a_drop_without_labels_is_refused_with_what_to_do(tmp_path, recover):
    model = chain(tmp_path / "m.onnx", ())

    with pytest.raises(PreconditionFailed, match="no labels") as failure:
        recover(model, Vectors(4), max_drop=0.1)
    assert failure.value.hint == "name label_cols"
    with pytest.raises(PreconditionFailed, match="a class as label"):
        recover(model, Vectors(4, np.zeros(4)), max_drop=0.1)


def test_a_goal_that_only_the_float_model_meets_is_refused(tmp_path, recover):
    with pytest.raises(
        PreconditionFailed, match=r"8 bits by none of \d+ sets .* at best 0\.0\d+ off, allowed 1e-09"
    ) as failure:
        recover(chain(tmp_path / "m.onnx", ()), Vectors(4), max_distance=1e-9)
    assert "raise max_distance" in failure.value.hint


def test_no_rows_are_refused(tmp_path, recover):
    with pytest.raises(PreconditionFailed, match="there are no rows"):
        recover(chain(tmp_path / "m.onnx", ()), Vectors(0))


def test_as_many_rows_and_sets_are_tried_as_the_options_say(tmp_path, recover):
    read = []

    class Watched(Vectors):
        def batches(self, rows=None, *, size=None):
            read.append(len(rows))
            return super().batches(rows, size=size)

    model = chain(tmp_path / "m.onnx", {"node0", "node2", "node3"})
    result = recover(model, Watched(20), compared_rows=7, max_trials=3)

    assert set(read[1:]) == {7}, "the first only tells whether there are labels"
    assert len(result.report["recovery"]["trials"]) <= 4
    assert result.report["recovery"]["each_was_tried"] is False


def test_nodes_that_the_options_leave_out_stay_out(tmp_path, recover):
    model = chain(tmp_path / "m.onnx", {"node2"})

    result = recover(model, Vectors(8), nodes_to_exclude=("node4",))

    assert kept(result) == {"node2"}
    assert "node4" not in result.report["recovery"]["sensitivity"]
    assert node_counts(load(result.model.path))["MatMulInteger"] == 3


@pytest.mark.parametrize("name", ["nodes_to_exclude", "nodes_to_quantize"])
def test_a_gemm_is_named_as_the_graph_names_it(converted, context, name):
    """Dynamic quantization makes a MatMul of it beforehand, under another name."""
    gemms = tuple(node.name for node in load(converted.path).graph.node if node.op_type == "Gemm")
    made = OnnxQuantization(OnnxQuantizationConfig(quant_mode="dynamic", **{name: gemms})).run(converted, context)

    assert len(gemms) == 2
    assert made.report["quantized"]["MatMulInteger"] == {"nodes_to_exclude": 12, "nodes_to_quantize": 2}[name]
