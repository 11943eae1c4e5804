"""ONNXModel: what is wrong with a model is found when it is described, and named; nothing outside is read."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hfopt import Accelerator, FetchContext, PreconditionFailed
from hfopt_onnx_model.loader import ONNXModel, ONNXModelConfig, external_data

WORDS = np.arange(30, dtype=np.float32).reshape(15, 2)


def model(**external: object) -> onnx.ModelProto:
    """Rows of a table by their number; with `external`, the table is beside the model."""
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "length"])
    rows = helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["batch", "length", 2])
    table = numpy_helper.from_array(WORDS, "words")
    if external:
        table.ClearField("raw_data")
        table.data_location = TensorProto.EXTERNAL
        for key, value in external.items():
            entry = table.external_data.add()
            entry.key, entry.value = key, str(value)
    gather = helper.make_node("Gather", ["words", "input_ids"], ["rows"])
    graph = helper.make_graph([gather], "tiny", [ids], [rows], [table])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def written(folder: Path, proto: onnx.ModelProto) -> Path:
    (folder / "model.onnx").write_bytes(proto.SerializeToString())
    (folder / "words.bin").write_bytes(WORDS.tobytes())
    return folder


def fetch(folder: Path, **options: object):
    config = ONNXModelConfig.model_validate({"model_path": str(folder), **options}, strict=False)
    return ONNXModel(config).fetch(FetchContext(folder, lambda *_: None))


def refusal(folder: Path, **options: object) -> str:
    with pytest.raises(PreconditionFailed) as failure:
        fetch(folder, **options)
    return failure.value.message.replace(f"{folder}/", "")


PLACES = {
    "above": ({"location": "../x"}, "the weights of 'words' are in '../x', outside the model's folder"),
    "absolute": ({"location": "/etc/passwd"}, "the weights of 'words' are in '/etc/passwd', outside"),
    "missing": ({"location": "none"}, "its weights are in 'none', which is missing"),
    "nowhere": ({"location": ""}, "its weights are in '', which is missing"),
    "NUL": ({"location": "a\0b"}, r"its weights are in 'a\x00b', which is missing"),
    "long": ({"location": "a" * 5000}, "aaaa', which is missing"),
    "before": ({"location": "words.bin", "offset": -8}, "where the weights of 'words' are can't be read: "),
    "no number": ({"location": "words.bin", "offset": "x"}, "where the weights of 'words' are can't be read: "),
    "digits": ({"location": "words.bin", "offset": "9" * 5000}, "where the weights of 'words' are can't be read: "),
    "behind": ({"location": "words.bin", "offset": 10**30}, "it has 120 bytes, and 'words' begins at byte 1000000"),
    "longer": ({"location": "words.bin", "length": 999}, "it has 120 bytes, and 'words' would end at byte 999"),
    "shorter": ({"location": "words.bin", "length": 4}, "'words' takes 120 bytes as FLOAT of the shape [15, 2], and"),
    "itself": ({"location": "model.onnx"}, "model.onnx is damaged: 'words' takes 120 bytes as FLOAT"),
}  # fmt: skip


@pytest.mark.parametrize("case", PLACES)
def test_weights_that_are_not_where_the_model_says_are_told_with_the_tensor(tmp_path, case):
    external, said = PLACES[case]

    assert said in refusal(written(tmp_path, model(**external)))


def test_weights_beside_the_model_are_its_files(tmp_path):
    files = fetch(written(tmp_path, model(location="words.bin"))).files

    assert [file.name for file in files] == ["model.onnx", "words.bin"]


FILES = {
    "a named pipe": (os.mkfifo, "is a named pipe, not a regular file"),
    "a folder": (os.mkdir, "is a folder, not a regular file"),
    "a device": (lambda file: file.symlink_to("/dev/zero"), "is at /dev/zero, which lies outside of"),
    "a link out": (lambda file: file.symlink_to("/etc/passwd"), "is at /etc/passwd, which lies outside of"),
    "a link to itself": (lambda file: file.symlink_to(file), ": no such file"),
}


@pytest.mark.parametrize("case", FILES)
@pytest.mark.parametrize("name", ["model.onnx", "words.bin"])
def test_what_is_no_file_of_the_folder_is_neither_read_nor_handed_on(tmp_path, name, case):
    make, said = FILES[case]
    written(tmp_path, model(location="words.bin"))
    (tmp_path / name).unlink()
    make(tmp_path / name)

    assert refusal(tmp_path).startswith(name)
    assert said in refusal(tmp_path)
    assert refusal(tmp_path, onnx_file_name="model.onnx") == refusal(tmp_path)


def test_validation_looks_at_no_file_outside_of_the_folder(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "near").write_text("near")
    for place in ("../near", "/etc/passwd", "a" * 300):
        assert external_data(written(folder, model(location=place)) / "model.onnx") == []
    assert external_data(written(folder, model(location="words.bin")) / "model.onnx") == [folder / "words.bin"]


def test_a_name_of_a_file_does_not_lead_out_of_the_folder(tmp_path):
    (tmp_path / "model").mkdir()
    written(tmp_path, model())

    assert "which lies outside of" in refusal(tmp_path / "model", onnx_file_name="../model.onnx")


def shape_of(proto, *sizes):
    del proto.graph.initializer[0].dims[:]
    proto.graph.initializer[0].dims.extend(sizes)


def axes_of(proto, *sizes):
    del proto.graph.input[0].type.tensor_type.shape.dim[:]
    for size in sizes:
        proto.graph.input[0].type.tensor_type.shape.dim.add().dim_value = size


GRAPHS = {
    "a row more": (lambda it: shape_of(it, 16, 2), "'words' takes 128 bytes as FLOAT of the shape [16, 2]"),
    "overflow": (lambda it: shape_of(it, 2**40, 2**40), "'words' takes 4835703278458516698824704 bytes"),
    "negative": (lambda it: shape_of(it, -15, 2), "'words' is of the shape [-15, 2]"),
    "axes": (lambda it: shape_of(it, *[1] * 100_000), "'words' has 100000 axes; arrays have at most 64"),
    "dtype": (lambda it: setattr(it.graph.initializer[0], "data_type", 99), "'words' has no dtype that ONNX knows"),
    "input's axes": (lambda it: axes_of(it, *[1] * 100_000), "'input_ids' has 100000 axes; arrays have at most 64"),
    "input's type": (lambda it: it.graph.input[0].ClearField("type"), "'input_ids', an input or output, is no tensor"),
    "input's dtype": (
        lambda it: setattr(it.graph.input[0].type.tensor_type, "elem_type", 99),
        "'input_ids', an input or output, is no tensor",
    ),
    "no outputs": (lambda it: it.graph.ClearField("output"), "is damaged: it has no outputs"),
}  # fmt: skip


@pytest.mark.parametrize("case", GRAPHS)
def test_a_damaged_graph_is_told_with_what_is_wrong(tmp_path, case):
    damage, said = GRAPHS[case]
    proto = model()
    damage(proto)

    message = refusal(written(tmp_path, proto))

    assert message.startswith("model.onnx")
    assert said in message


def test_an_initializer_of_numbers_must_have_as_many_as_its_shape(tmp_path):
    proto = model()
    table = proto.graph.initializer[0]
    table.ClearField("raw_data")
    table.float_data.append(1.0)

    assert "'words' takes 120 bytes as FLOAT of the shape [15, 2]" in refusal(written(tmp_path, proto))


@pytest.mark.parametrize("narrow", [TensorProto.INT4, TensorProto.UINT4, TensorProto.FLOAT16, TensorProto.BFLOAT16])
def test_weights_of_every_width_are_measured_in_bits(tmp_path, narrow):
    proto = model()
    proto.graph.initializer.append(helper.make_tensor("narrow", narrow, [3], [1, 2, 3]))
    packed = numpy_helper.from_array(numpy_helper.to_array(proto.graph.initializer[1]), "packed")
    proto.graph.initializer.append(packed)

    assert fetch(written(tmp_path, proto)).outputs[0].name == "rows"


def test_negative_axes_are_dynamic(tmp_path):
    proto = model()
    axes_of(proto, -1, -1)

    assert fetch(written(tmp_path, proto)).inputs[0].axes == ("input_ids_axis_0", "input_ids_axis_1")


def test_a_file_of_gigabytes_is_refused_by_its_size(tmp_path):
    with open(tmp_path / "model.onnx", "wb") as stream:
        stream.truncate(3 * 10**9)

    assert refusal(tmp_path) == "model.onnx has 3000000000 bytes, and an ONNX file has less than 2 GiB"


def test_what_onnx_runtime_says_comes_without_places_in_its_source(tmp_path):
    proto = model()
    proto.graph.node[0].op_type = "Nope"
    handle = fetch(written(tmp_path, proto))

    with pytest.raises(PreconditionFailed) as failure:
        ONNXModel(ONNXModelConfig()).open(handle, Accelerator(), {})

    assert "Nope" in failure.value.message
    assert ".cc:" not in failure.value.message
