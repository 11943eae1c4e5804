"""Where weights are written: inside the model's file, in one file beside it, in a file each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from pydantic import ValidationError

from hfopt import PreconditionFailed
from hfopt_onnx_model import graph
from hfopt_onnx_model.external import ExternalDataConfig
from hfopt_onnx_model.weights import PAGE

RANDOM = np.random.default_rng(0)
ADDED, SCALED, SMALL = (RANDOM.standard_normal(size).astype(np.float32) for size in (1024, 1024, 1))


def model_with(*, typed: bool = False) -> onnx.ModelProto:
    """y = (x + added) * scaled * small; scaled is an attribute of a Constant node, inside both branches of an If."""

    def stored(name, array):
        return (
            helper.make_tensor(name, TensorProto.FLOAT, array.shape, array)
            if typed
            else numpy_helper.from_array(array, name)
        )

    def branch(name):
        nodes = [
            helper.make_node("Constant", [], ["scale"], value=numpy_helper.from_array(SCALED)),
            helper.make_node("Mul", ["sum", "scale"], ["scaled"]),
            helper.make_node("Mul", ["scaled", "small one"], [name]),
        ]
        inside = numpy_helper.from_array(SMALL, "small one")
        return helper.make_graph(
            nodes, name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1024])], [inside]
        )

    nodes = [
        helper.make_node("Add", ["x", "onnx::Add/1"], ["sum"]),
        helper.make_node("If", ["flag"], ["y"], then_branch=branch("then"), else_branch=branch("else")),
    ]
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [1024]),
        helper.make_tensor_value_info("flag", TensorProto.BOOL, []),
    ]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1024])
    made = helper.make_graph(nodes, "g", inputs, [output], [stored("onnx::Add/1", ADDED)])
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def saved(folder: Path, model: onnx.ModelProto | None = None, source: Path | None = None, **options) -> dict[str, int]:
    """Write a model, check that ONNX Runtime computes with every weight, and list the files with their sizes."""
    folder.mkdir(exist_ok=True)
    graph.save(model or model_with(), folder / "model.onnx", ExternalDataConfig(**options), source=source)
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    x = np.ones(1024, np.float32)
    found = session.run(None, {"x": x, "flag": np.array(True)})[0]
    np.testing.assert_allclose(found, (x + ADDED) * SCALED * SMALL, rtol=1e-6)
    assert {path.name for path in graph.model_files(folder / "model.onnx")} == {path.name for path in folder.iterdir()}
    return {path.name: path.stat().st_size for path in sorted(folder.iterdir())}


def test_a_small_model_is_one_file_unless_asked(tmp_path):
    assert list(saved(tmp_path)) == ["model.onnx"]


def test_external_data_are_one_file_of_tensors_at_page_boundaries(tmp_path):
    sizes = saved(tmp_path, save_as_external_data=True, size_threshold=1)

    assert sizes["model.onnx.data"] == 2 * PAGE + 4
    assert sizes["model.onnx"] > 4096, "the constants of the branches are attributes"


def test_attributes_go_too_if_asked_those_in_subgraphs_included(tmp_path):
    sizes = saved(tmp_path, save_as_external_data=True, convert_attribute=True)

    assert sizes["model.onnx"] < 1000
    assert sizes["model.onnx.data"] == 3 * PAGE


def test_the_threshold_is_in_bytes_of_the_tensor_and_inclusive(tmp_path):
    assert "model.onnx.data" in saved(tmp_path / "at", save_as_external_data=True, size_threshold=4096)
    assert "model.onnx.data" not in saved(tmp_path / "above", save_as_external_data=True, size_threshold=4097)


def test_a_file_for_each_tensor_is_numbered_and_the_same_each_time(tmp_path):
    options = {
        "save_as_external_data": True,
        "all_tensors_to_one_file": False,
        "convert_attribute": True,
        "size_threshold": 0,
    }

    first, second = (saved(tmp_path / name, **options) for name in ("first", "second"))

    assert list(first) == ["model.onnx", *(f"model.onnx.data.000{number}" for number in range(5))]
    assert first == second
    assert {path.name: path.read_bytes() for path in (tmp_path / "first").iterdir()} == {
        path.name: path.read_bytes() for path in (tmp_path / "second").iterdir()
    }


def test_the_one_file_can_be_named_and_a_name_with_a_folder_is_refused(tmp_path):
    assert list(saved(tmp_path, save_as_external_data=True, external_data_name="weights.bin")) == [
        "model.onnx",
        "weights.bin",
    ]

    with pytest.raises(ValidationError, match=r"'../weights' is not a file name: external data lie beside the model"):
        ExternalDataConfig(external_data_name="../weights")


def test_tensors_that_are_stored_as_lists_of_numbers_go_too(tmp_path):
    assert saved(tmp_path, model_with(typed=True), save_as_external_data=True)["model.onnx.data"] == PAGE


def test_weights_pass_from_folder_to_folder_without_being_loaded(tmp_path):
    saved(tmp_path / "a", save_as_external_data=True, convert_attribute=True, all_tensors_to_one_file=False)
    model = graph.load(tmp_path / "a" / "model.onnx", weights=False)
    assert model.ByteSize() < 1000

    saved(tmp_path / "b", model, tmp_path / "a", save_as_external_data=True, convert_attribute=True)

    assert model.ByteSize() < 1200
    assert list(saved(tmp_path / "c", graph.load(tmp_path / "b" / "model.onnx"))) == ["model.onnx"]
    again = graph.load(tmp_path / "b" / "model.onnx", weights=False)
    assert list(saved(tmp_path / "d", again, tmp_path / "b")) == ["model.onnx"]
    assert (tmp_path / "c" / "model.onnx").read_bytes() == (tmp_path / "d" / "model.onnx").read_bytes()


def test_what_a_file_can_not_hold_is_said_before_it_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(graph, "EXTERNAL_THRESHOLD", 1_000)
    monkeypatch.setattr(graph, "FILE_LIMIT", 5_000)

    with pytest.raises(PreconditionFailed) as failure:
        graph.save(model_with(), tmp_path / "model.onnx")

    assert "bytes of weights would stay in model.onnx, and a file of this format holds 5000" in failure.value.message
    assert failure.value.hint == "lower size_threshold, or set convert_attribute"
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.parametrize(
    "location, problem",
    [
        ("../model.onnx.data", "are in '../model.onnx.data', outside the model's folder"),
        ("/etc/passwd", "are in '/etc/passwd', outside the model's folder"),
        ("none", "its weights are in 'none', which is missing"),
    ],
)
def test_weights_elsewhere_are_refused(location, problem, tmp_path):
    saved(tmp_path, save_as_external_data=True)
    model = onnx.load(str(tmp_path / "model.onnx"), load_external_data=False)
    model.graph.initializer[0].external_data[0].value = location
    onnx.save(model, str(tmp_path / "model.onnx"))

    for read in (graph.load, graph.model_files):
        with pytest.raises(PreconditionFailed, match=problem):
            read(tmp_path / "model.onnx")


def test_a_truncated_file_of_weights_is_named(tmp_path):
    saved(tmp_path, save_as_external_data=True)
    (tmp_path / "model.onnx.data").write_bytes(bytes(100))

    with pytest.raises(
        PreconditionFailed,
        match=r"model\.onnx\.data is truncated: it has 100 bytes, and 'onnx::Add/1' would end at byte 4096",
    ):
        graph.load(tmp_path / "model.onnx")


def test_shapes_stay_inside_whatever_the_threshold_is_as_onnx_runtime_refuses_them_elsewhere(tmp_path):
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "y")]
    axes = numpy_helper.from_array(np.array([1], np.int64), "axes")
    bias = numpy_helper.from_array(np.array([1.5], np.float32), "bias")
    nodes = [
        helper.make_node("Unsqueeze", ["x", "axes"], ["wide"]),
        helper.make_node("Add", ["wide", "bias"], ["y"]),
    ]
    shapes = helper.make_graph(nodes, "shapes", ends[:1], ends[1:], [axes, bias])
    model = helper.make_model_gen_version(shapes, opset_imports=[helper.make_opsetid("", 17)])

    graph.save(model, tmp_path / "model.onnx", ExternalDataConfig(save_as_external_data=True, size_threshold=0))

    kept = onnx.load(str(tmp_path / "model.onnx"), load_external_data=False).graph.initializer
    assert [(each.name, each.data_location == TensorProto.EXTERNAL) for each in kept] == [
        ("axes", False),
        ("bias", True),
    ]
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    assert session.run(None, {"x": np.ones(3, np.float32)})[0].shape == (3, 1)


def test_an_outline_has_all_nodes_and_names_and_no_large_weights(tmp_path):
    weights = [("large", np.ones((64, 64), np.float32)), ("shape", np.array([1, -1], np.int64))]
    node = onnx.helper.make_node("MatMul", ["x", "large"], ["y"])
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 64]) for name in "xy")
    initializers = [onnx.numpy_helper.from_array(array, name) for name, array in weights]
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [x], [y], initializers))
    onnx.save(model, tmp_path / "model.onnx")

    found = graph.outline(tmp_path / "model.onnx")

    assert found.ByteSize() < 1_000
    assert found.graph.node == model.graph.node
    assert [each.name for each in found.graph.initializer] == ["large", "shape"]
    assert onnx.numpy_helper.to_array(found.graph.initializer[1]).tolist() == [1, -1]
