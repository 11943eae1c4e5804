"""ONNXModel: files, sessions and settings, on small graphs made here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.reference
import pytest
from onnx import TensorProto, helper, numpy_helper

from hfopt import Accelerator, FetchContext, PreconditionFailed
from hfopt.api.config import ConfigContext
from hfopt.testing import validate
from hfopt_onnx_model import graph
from hfopt_onnx_model.external import ExternalDataConfig
from hfopt_onnx_model.loader import ONNXModel, ONNXModelConfig, external_data


def tiny_model() -> onnx.ModelProto:
    """sum of (input_ids + token_type_ids) * attention_mask, times a weight of ten rows."""
    ids = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch_size", "sequence_length"])
        for name in ("input_ids", "attention_mask", "token_type_ids")
    ]
    nodes = [
        helper.make_node("Add", ["input_ids", "token_type_ids"], ["both"]),
        helper.make_node("Mul", ["both", "attention_mask"], ["masked"]),
        helper.make_node("Cast", ["masked"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["floats", "last"], ["sums"], keepdims=1),
        helper.make_node("MatMul", ["sums", "weight"], ["logits"]),
    ]
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch_size", 10])
    weights = [
        numpy_helper.from_array(np.arange(10, dtype=np.float32)[None], "weight"),
        numpy_helper.from_array(np.array([-1], dtype=np.int64), "last"),
    ]
    made = helper.make_graph(nodes, "tiny", ids, [logits], weights)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.fixture
def file(tmp_path) -> Path:
    onnx.save(tiny_model(), str(tmp_path / "model.onnx"))
    return tmp_path / "model.onnx"


def fetch(path, **options):
    config = ONNXModelConfig.model_validate({"model_path": str(path), **options}, strict=False)
    return ONNXModel(config).fetch(FetchContext(Path(path), lambda *_: None))


def open_model(handle, accelerator=None, **settings):
    return ONNXModel(ONNXModelConfig()).open(handle, accelerator or Accelerator(), settings)


def test_a_file_or_its_folder_is_described_with_inputs_and_outputs(file):
    for place in (file, file.parent):
        handle = fetch(place)

        assert handle.path == file
        first = handle.inputs[0]
        assert (first.name, first.dtype, first.axes) == ("input_ids", "int64", ("batch_size", "sequence_length"))
        assert handle.outputs[0].axes == ("batch_size", 10)
        assert handle.size_bytes == file.stat().st_size


def test_data_take_the_tokenizer_that_lies_beside_the_model(file):
    def defaults(path):
        return ONNXModel.data_defaults(ONNXModelConfig(model_path=path))

    assert defaults(str(file)) == {}
    (file.parent / "tokenizer_config.json").write_text("{}")

    assert defaults(str(file)) == defaults(str(file.parent)) == {"model_name": str(file.parent)}
    assert defaults("not yet resolved") == {}


def test_a_session_fills_in_what_the_data_lack_and_leaves_out_what_the_model_does_not_take(file):
    ids = np.array([[1, 2, 3]], dtype=np.int32)

    with open_model(fetch(file)) as session:
        found = session.run({"input_ids": ids, "offset_mapping": ids})
        session.bind({"input_ids": ids})()

    np.testing.assert_array_equal(found["logits"], 6 * np.arange(10, dtype=np.float32)[None])


def test_an_input_that_can_not_be_filled_in_is_named(file):
    with open_model(fetch(file)) as session, pytest.raises(PreconditionFailed) as failure:
        session.run({"pixel_values": np.zeros((1, 3))})

    assert failure.value.message == "the data have no 'input_ids', which the model takes; they have pixel_values"


def test_a_model_that_onnx_runtime_refuses_says_why(file):
    model = onnx.load(str(file))
    model.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(model, str(file))

    with pytest.raises(PreconditionFailed, match=r"ONNX Runtime refuses model\.onnx: .*NoSuchOperator"):
        open_model(fetch(file))


def test_what_is_not_an_onnx_model_is_refused(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"\x00\x01garbage")

    with pytest.raises(PreconditionFailed, match="is not an ONNX model, or is damaged"):
        fetch(tmp_path)


def test_a_folder_with_several_models_asks_which(file):
    onnx.save(tiny_model(), str(file.with_name("other.onnx")))

    with pytest.raises(PreconditionFailed) as failure:
        fetch(file.parent)

    assert failure.value.message == f"{file.parent} must hold one .onnx file; it holds model.onnx, other.onnx"
    assert failure.value.hint == "set onnx_file_name"
    assert fetch(file.parent, onnx_file_name="other.onnx").path.name == "other.onnx"


def test_weights_above_the_threshold_go_to_a_file_beside_and_count_and_must_be_there(tmp_path, monkeypatch):
    monkeypatch.setattr(graph, "EXTERNAL_THRESHOLD", 1_000)
    model = tiny_model()
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(4096, dtype=np.float32), "unused"))
    graph.save(model, tmp_path / "model.onnx")

    handle = fetch(tmp_path)

    assert [path.name for path in handle.files] == ["model.onnx", "model.onnx.data"]
    assert open_model(handle).run({"input_ids": np.ones((1, 2), dtype=np.int64)})["logits"].shape == (1, 10)
    (tmp_path / "model.onnx.data").unlink()
    with pytest.raises(PreconditionFailed, match=r"its weights are in 'model\.onnx\.data', which is missing"):
        fetch(tmp_path)


@pytest.mark.parametrize("name", ["weights.bin", "model.onnx.data", "w" * 200])
def test_external_data_of_a_model_that_is_named_by_its_file_count_by_their_content(tmp_path, name):
    weights = numpy_helper.from_array(np.ones((4, 4), np.float32), "w")
    values = [helper.make_tensor_value_info(each, TensorProto.FLOAT, ["batch", 4]) for each in "xy"]
    made = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", values[:1], values[1:], [weights])
    onnx.save(
        helper.make_model(made), tmp_path / "model.onnx", save_as_external_data=True, location=name, size_threshold=0
    )
    (tmp_path / "unrelated.bin").write_text("not its own")
    context = ConfigContext(tmp_path)

    problems = []
    assert validate(ONNXModelConfig, {"model_path": "model.onnx"}, (), problems, context) is not None, problems

    assert [path.name for path in context.used_paths] == ["model.onnx", name]


@pytest.mark.parametrize("content", [b"", b"\n\x08location\x12", b"\n\x08location\x12\x05ab", b"not a model"])
def test_a_file_that_is_no_model_has_no_external_data(tmp_path, content):
    (tmp_path / "model.onnx").write_bytes(content)

    assert external_data(tmp_path / "model.onnx") == []


def test_what_a_pass_made_keeps_ranges_companions_and_settings(file):
    like = fetch(file)
    ranged = tuple(spec.model_copy(update={"high": 30}) for spec in like.inputs)
    like = like.with_(inputs=ranged, companions=(file,), attributes={"model_type": "bert"}, inference_settings={"a": 1})

    made = graph.handle_of(file, like=like)

    assert made.inputs == ranged
    assert (made.companions, made.attributes, made.inference_settings) == ((file,), {"model_type": "bert"}, {"a": 1})


@pytest.mark.parametrize(
    ("options", "files"),
    [
        ({"save_as_external_data": True}, ["model.onnx", "model.onnx.data"]),
        ({"save_as_external_data": True, "external_data_name": "w.bin"}, ["model.onnx", "w.bin"]),
        (
            {"save_as_external_data": True, "all_tensors_to_one_file": False, "external_data_name": "w"},
            ["model.onnx", "w.0000", "w.0001"],
        ),
        ({"save_as_external_data": True, "size_threshold": 100_000}, ["model.onnx"]),
        ({"save_as_external_data": True, "size_threshold": 100_000, "convert_attribute": True}, ["model.onnx"]),
        (
            {"save_as_external_data": True, "size_threshold": 3_000, "convert_attribute": True},
            ["model.onnx", "model.onnx.data"],
        ),
        ({}, ["model.onnx"]),
    ],
)
def test_weights_lie_where_the_options_say_and_the_model_computes_the_same(tmp_path, options, files):
    made = weighty_model()
    expected = onnx.reference.ReferenceEvaluator(made).run(None, {"x": np.ones((2, 32), dtype=np.float32)})[0]

    graph.save(made, tmp_path / "model.onnx", ExternalDataConfig(**options))

    assert sorted(file.name for file in tmp_path.iterdir()) == files
    handle = fetch(tmp_path)
    assert sorted(file.name for file in handle.files) == files
    with open_model(handle) as session:
        np.testing.assert_allclose(session.run({"x": np.ones((2, 32), dtype=np.float32)})["y"], expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["../w", "a/b", "", ".hidden"])
def test_external_data_can_not_leave_the_models_folder(name):
    with pytest.raises(ValueError, match="is not a file name: external data lie beside the model"):
        ExternalDataConfig(external_data_name=name)


def weighty_model():
    """y = (x * a) * b + c: two weights of 4 KiB, and a constant of 4 KiB that is a node's attribute."""
    weights = [np.random.default_rng(seed).standard_normal((32, 32)).astype(np.float32) for seed in range(3)]
    nodes = [
        onnx.helper.make_node("MatMul", ["x", "a"], ["xa"]),
        onnx.helper.make_node("MatMul", ["xa", "b"], ["xab"]),
        onnx.helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(weights[2][:, :1].repeat(32, 1).T)),
        onnx.helper.make_node("ReduceSum", ["c", "axes"], ["sum"], keepdims=0),
        onnx.helper.make_node("Add", ["xab", "sum"], ["y"]),
    ]
    return onnx.helper.make_model(
        onnx.helper.make_graph(
            nodes,
            "weighty",
            [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch_size", 32])],
            [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["batch_size", 32])],
            [
                numpy_helper.from_array(weights[0], "a"),
                numpy_helper.from_array(weights[1], "b"),
                numpy_helper.from_array(np.array([0]), "axes"),
            ],
        ),
        opset_imports=[onnx.helper.make_opsetid("", 17)],
        ir_version=9,
    )


def test_files_and_extensions_that_sessions_are_not_given_are_refused_unless_they_are_not_asked_for():
    problems = []
    not_asked = {"use_ort_extensions": False, "external_initializers_file_name": None}

    validate(ONNXModelConfig, not_asked, (), problems)
    assert problems == []

    validate(ONNXModelConfig, {"use_ort_extensions": True, "constant_inputs_file_name": "constants.npz"}, (), problems)
    assert [(each.path, each.message) for each in problems] == [
        (("use_ort_extensions",), "onnxruntime-extensions are not loaded in this version"),
        (("constant_inputs_file_name",), "inputs from another file are not given to sessions in this version"),
    ]
