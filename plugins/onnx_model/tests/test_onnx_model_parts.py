"""Models that are run in parts: what they return, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from hfopt import Accelerator, ModelHandle, PreconditionFailed
from hfopt_onnx_model import parts, weights
from hfopt_onnx_model.external import ExternalDataConfig
from hfopt_onnx_model.graph import handle_of, load, save
from hfopt_onnx_model.loader import ONNXModel, ONNXModelConfig

RANDOM = np.random.default_rng(0)


def matrix(name: str) -> TensorProto:
    return numpy_helper.from_array(RANDOM.standard_normal((8, 8)).astype(np.float32), name)


@pytest.fixture
def model(tmp_path) -> ModelHandle:
    """A chain of products in float32 and float16, with an If whose branches read what came before them."""

    def branch(name, weight):
        node = helper.make_node("MatMul", ["first", weight], [name])
        output = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        return helper.make_graph([node], name, [], [output], [matrix("inside")] if weight == "inside" else [])

    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["first"]),
        helper.make_node("Cast", ["first"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("MatMul", ["first", "a"], ["second"]),
        helper.make_node("If", ["flag"], ["third"], then_branch=branch("t", "inside"), else_branch=branch("e", "b")),
        helper.make_node("Cast", ["half"], ["whole"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["whole", "third"], ["fourth"]),
        helper.make_node("MatMul", ["fourth", "c"], ["y"]),
        helper.make_node("MatMul", ["second", "c"], ["z"]),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch_size", 8])]
    inputs += [helper.make_tensor_value_info("flag", TensorProto.BOOL, [])]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch_size", 8]) for name in "yz"]
    outputs += [helper.make_tensor_value_info("half", TensorProto.FLOAT16, ["batch_size", 8])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [matrix(name) for name in "abc"])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path = tmp_path / "model.onnx"
    save(made, path, ExternalDataConfig(save_as_external_data=True, size_threshold=1))
    return handle_of(path, like=ModelHandle(type="ONNXModel", path=path, files=()))


def open_model(handle, **settings):
    return ONNXModel(ONNXModelConfig()).open(handle, Accelerator(), {"threads": 1, **settings})


@pytest.mark.parametrize("flag", [True, False])
@pytest.mark.parametrize(("most", "count"), [(1, 3), (10_000, 1)])
def test_parts_return_what_the_whole_does(model, flag, most, count, monkeypatch):
    monkeypatch.setattr(parts, "MOST", most)
    monkeypatch.setattr(weights, "HELD", 0)
    feeds = {"x": RANDOM.standard_normal((3, 8)).astype(np.float32), "flag": np.array(flag)}

    with open_model(model) as whole, open_model(model, brief=True) as cut:
        expected, found = whole.run(feeds), cut.run(feeds)
        assert [*found] == [*expected] == ["y", "z", "half"]
        assert (cut.inputs, cut.outputs) == (model.inputs, model.outputs)
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5)
    assert len(list(parts.cut(load(model.path, weights=False), model.path.parent, most))) == count


def test_a_part_has_no_more_weights_than_it_may_and_values_are_dropped_when_nothing_takes_them(model):
    made = list(parts.cut(load(model.path, weights=False), model.path.parent, 300))

    assert [[each.name for each in part.model.graph.initializer] for part in made] == [["a"], ["b"], ["c"]]
    assert [part.takes for part in made] == [("x",), ("first", "flag", "half"), ("fourth", "second")]
    assert [part.dropped for part in made] == [{"x"}, {"first", "flag"}, {"fourth", "second"}]


def test_a_model_in_parts_is_neither_timed_nor_handed_out(model, monkeypatch):
    monkeypatch.setattr(weights, "HELD", 0)
    with open_model(model, brief=True) as session:
        with pytest.raises(PreconditionFailed, match=parts.WHOLE_NOT_HELD):
            session.bind({})
        with pytest.raises(PreconditionFailed, match=parts.WHOLE_NOT_HELD):
            session.live  # noqa: B018 - raises


def test_what_is_wrong_in_a_part_is_told_as_of_the_whole(model, monkeypatch):
    monkeypatch.setattr(weights, "HELD", 0)
    with open_model(model, brief=True) as session, pytest.raises(PreconditionFailed, match="ONNX Runtime can't run"):
        session.run({"x": np.ones((3, 8), np.float32), "flag": np.array([True, False])})


def test_only_large_models_are_run_in_parts(model):
    with open_model(model, brief=True) as session:
        assert not isinstance(session, parts.PartsSession)
