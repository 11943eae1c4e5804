"""What an ONNX session says of the rows of a batch: independent of each other, or not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from hfopt import Accelerator, ModelHandle
from hfopt_onnx_model import graph
from hfopt_onnx_model.external import ExternalDataConfig
from hfopt_onnx_model.loader import ONNXModel, ONNXModelConfig

FEEDS = {"x": np.arange(12, dtype=np.float32).reshape(3, 4)}


@pytest.fixture
def open_(tmp_path):
    """Opens a model; its weights lie beside it."""

    def opened(model: ModelProto):
        file = Path(tmp_path, "model.onnx")
        graph.save(model, file, ExternalDataConfig(save_as_external_data=True, size_threshold=0))
        handle = graph.handle_of(file, like=ModelHandle(type="ONNXModel", path=file, files=()))
        return ONNXModel(ONNXModelConfig()).open(handle, Accelerator(), {"threads": 1})

    return opened


def model(nodes, *, batch="batch_size", weights=()) -> ModelProto:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, 4]) for name in "xy")
    stored = [numpy_helper.from_array(np.asarray(array, np.float32), name) for name, array in dict(weights).items()]
    made = helper.make_graph(nodes, "rows", [x], [y], stored)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def quantizing(target: str):
    """x through dynamic quantization and back."""
    return [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], [target]),
    ]


def inside_a_branch():
    """The same, where only a subgraph has it."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("then", "else")]
    then = helper.make_graph(quantizing("then"), "then", [], values[:1])
    other = helper.make_graph([helper.make_node("Identity", ["x"], ["else"])], "else", [], values[1:])
    yes = helper.make_tensor("yes", TensorProto.BOOL, [], [True])
    return [
        helper.make_node("Constant", [], ["flag"], value=yes),
        helper.make_node("If", ["flag"], ["y"], then_branch=then, else_branch=other),
    ]


NORMALIZED = {"scale": np.ones(4), "bias": np.zeros(4), "mean": np.zeros(4), "variance": np.ones(4)}


def normalizing(*outputs: str, **attributes: int):
    return [helper.make_node("BatchNormalization", ["x", *NORMALIZED], ["y", *outputs], **attributes)]


@pytest.mark.parametrize(
    ("made", "independent"),
    [
        (model([helper.make_node("MatMul", ["x", "w"], ["y"])], weights={"w": np.eye(4)}), True),
        (model(quantizing("y")), False),
        (model(inside_a_branch()), False),
        (model(normalizing(), weights=NORMALIZED), True),
        (model(normalizing("m", "v", training_mode=1), weights=NORMALIZED), False),
    ],
    ids=["float", "quantized dynamically", "in a subgraph", "normalized", "normalized by the batch"],
)
def test_rows_are_independent_where_a_row_has_the_same_outputs_in_any_batch(open_, made, independent):
    with open_(made) as session:
        together = session.run(FEEDS)["y"]
        alone = np.concatenate([session.run({"x": FEEDS["x"][row : row + 1]})["y"] for row in range(3)])

        assert session.rows_are_independent is independent
        assert np.allclose(together, alone, rtol=0, atol=1e-6) is independent


def test_rows_of_a_model_whose_batch_is_fixed_are_not_put_together_in_another(open_):
    with open_(model([helper.make_node("Relu", ["x"], ["y"])], batch=1)) as session:
        assert not session.rows_are_independent


def test_weights_beside_the_model_are_not_read_to_know_it(open_, tmp_path):
    with open_(model([helper.make_node("MatMul", ["x", "w"], ["y"])], weights={"w": np.eye(4)})) as session:
        (tmp_path / "model.onnx.data").unlink()

        assert session.rows_are_independent
    assert onnx.load(str(tmp_path / "model.onnx"), load_external_data=False).graph.initializer[0].external_data
