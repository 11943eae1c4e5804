"""A model is read without the data of its larger weights, and written with data that come later."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hfopt import PreconditionFailed
from hfopt_onnx_model import graph

LARGE, SMALL = np.arange(3000, dtype=np.float32), np.arange(3, dtype=np.float32)


@pytest.fixture
def file(tmp_path):
    """y = x + large + typed, with a small weight that nothing uses, in opset 17."""
    weights = [
        numpy_helper.from_array(LARGE, "large"),
        numpy_helper.from_array(SMALL, "small"),
        helper.make_tensor("typed", TensorProto.FLOAT, LARGE.shape, LARGE),
    ]
    nodes = [helper.make_node("Add", ["x", "large"], ["z"]), helper.make_node("Add", ["z", "typed"], ["y"])]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [3000]) for name in "xy")
    made = helper.make_graph(nodes, "g", [x], [y], weights, doc_string="after the weights")
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def test_larger_weights_are_left_in_the_file_and_found_there(file):
    model = graph.outline(file)

    large, small, typed = model.graph.initializer
    assert not large.HasField("raw_data")
    assert (numpy_helper.to_array(large, str(file.parent)) == LARGE).all()
    assert (numpy_helper.to_array(small) == SMALL).all()
    assert (numpy_helper.to_array(typed) == LARGE).all()
    assert model.graph.doc_string == "after the weights"
    assert model.opset_import[0].version == 17


def test_what_is_written_from_an_outline_is_the_same_to_the_byte(file, tmp_path):
    graph.save(graph.outline(file), tmp_path / "again.onnx", source=file.parent)

    assert (tmp_path / "again.onnx").read_bytes() == file.read_bytes()


def test_the_file_of_a_model_is_none_of_its_external_data(file):
    assert graph.model_files(file) == (file,)


@pytest.mark.parametrize("kept", [0, 1, 3, 12, 100, 12_000, -1])
def test_a_file_that_ends_too_soon_is_refused_in_a_sentence(file, kept):
    file.write_bytes(file.read_bytes()[:kept])

    with pytest.raises(PreconditionFailed, match="is not an ONNX model, or is damaged"):
        graph.outline(file)
