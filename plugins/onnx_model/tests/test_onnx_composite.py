"""Several ONNX models as one."""

from __future__ import annotations

import onnx
import pytest

from hfopt import Accelerator, FetchContext, ModelHandle, PreconditionFailed
from hfopt_onnx_model.composite import CompositeModel, CompositeModelConfig


@pytest.fixture
def composite(tmp_path):
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n"]) for name in ("x", "y")]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Abs", ["x"], ["y"])], "g", ends[:1], ends[1:])
    for name in ("a", "b"):
        onnx.save(onnx.helper.make_model(graph), tmp_path / f"{name}.onnx")
    parts = [{"type": "ONNXModel", "config": {"model_path": str(tmp_path / f"{name}.onnx")}} for name in ("a", "b")]
    written = {"model_components": parts, "model_component_names": ["encoder", "decoder"]}
    return CompositeModel(CompositeModelConfig.model_validate(written, strict=False))


def test_each_part_is_a_model_of_its_own(composite, tmp_path):
    handle = composite.fetch(FetchContext(tmp_path, lambda *_: None))

    assert {name: (part.type, part.path.name) for name, part in handle.components.items()} == {
        "encoder": ("ONNXModel", "a.onnx"),
        "decoder": ("ONNXModel", "b.onnx"),
    }
    assert handle.size_bytes == sum((tmp_path / name).stat().st_size for name in ("a.onnx", "b.onnx"))


def test_it_is_not_opened_as_a_whole(composite, tmp_path):
    handle = composite.fetch(FetchContext(tmp_path, lambda *_: None))

    with pytest.raises(PreconditionFailed) as failed:
        composite.open(handle, Accelerator(), {})

    assert failed.value.message == "a model of the parts encoder, decoder is opened part by part, not as a whole"


def test_a_decoder_without_its_later_steps_is_no_whole_model(composite, tmp_path):
    encoder, decoder = composite.fetch(FetchContext(tmp_path, lambda *_: None)).components.values()
    parts = {"encoder_model": encoder, "decoder_model": decoder}

    with pytest.raises(PreconditionFailed, match="is opened part by part, not as a whole"):
        composite.open(ModelHandle(type="CompositeModel", path=tmp_path, files=(), components=parts), Accelerator(), {})


def test_names_and_parts_are_as_many():
    with pytest.raises(ValueError, match="has 1 names, and there are 0 model_components"):
        CompositeModelConfig.model_validate({"model_component_names": ["a"]}, strict=False)


@pytest.mark.parametrize("name", ["../../out", "a/b", "", ".hidden"])
def test_a_part_s_name_is_a_folder_s_and_leads_nowhere_else(name):
    with pytest.raises(ValueError, match="must be a plain name"):
        CompositeModelConfig.model_validate({"model_component_names": [name]}, strict=False)
    part = ModelHandle(type="ONNXModel", path="/a.onnx", files=())
    with pytest.raises(ValueError, match="must be a plain name"):
        ModelHandle(type="CompositeModel", path="/", files=(), components={name: part})
