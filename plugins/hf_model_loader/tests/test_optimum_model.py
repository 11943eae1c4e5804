"""OptimumModel: exported files as they are, one as a model and several as the components of one."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import transformers
from onnx import TensorProto, helper, numpy_helper

from hfopt import FetchContext, PreconditionFailed, Reference
from hfopt.api.config import ConfigContext
from hfopt.testing import validate
from hfopt_hf_model_loader.optimum_model import OptimumModel, OptimumModelConfig


def write(file: Path, *, external: bool = False) -> None:
    """A product with a 4 by 4 matrix."""
    file.parent.mkdir(exist_ok=True)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch_size", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch_size", 4])],
        [numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    onnx.save(model, file, save_as_external_data=external, location=f"{file.name}_data", size_threshold=0)


@pytest.fixture
def exported(folder, tmp_path) -> Path:
    place = Path(shutil.copytree(folder, tmp_path / "exported"))
    (place / "model.safetensors").unlink()
    write(place / "encoder_model.onnx")
    write(place / "onnx" / "decoder_model.onnx", external=True)
    return place


def read(written: dict, around: ConfigContext):
    problems: list = []
    found = validate(OptimumModelConfig, written, (), problems, around)
    return found, [(".".join(each.path), each.message) for each in problems]


def fetch(place: Path, *names: str, **options: object):
    written = {"model_path": str(place), "model_components": list(names), **options}
    config, problems = read(written, ConfigContext(place.parent))
    assert problems == []
    return OptimumModel(config).fetch(FetchContext(place.parent, lambda *_: None))


def test_one_file_is_an_onnx_model_with_what_lies_beside_it(exported):
    handle = fetch(exported, "onnx/decoder_model.onnx", model_attributes={"head": 1})

    assert (handle.type, handle.path) == ("ONNXModel", exported / "onnx" / "decoder_model.onnx")
    assert [file.name for file in handle.files] == ["decoder_model.onnx", "decoder_model.onnx_data"]
    assert {"config.json", "tokenizer.json"} <= {file.name for file in handle.companions}
    assert (handle.attributes["hidden_size"], handle.attributes["head"]) == (16, 1)
    assert [(spec.name, spec.axes) for spec in handle.inputs] == [("x", ("batch_size", 4))]


def test_several_files_are_the_components_of_one_model_by_their_names(exported):
    handle = fetch(exported, "encoder_model.onnx", "onnx/decoder_model.onnx")

    assert (handle.type, handle.path, handle.files) == ("CompositeModel", exported, ())
    assert {name: part.path.name for name, part in handle.components.items()} == {
        "encoder_model": "encoder_model.onnx",
        "decoder_model": "decoder_model.onnx",
    }
    assert {part.type for part in handle.components.values()} == {"ONNXModel"}
    assert {"config.json", "tokenizer.json"} <= {file.name for file in handle.companions}


def test_files_that_are_not_there_are_named_if_they_can_t_be_made(exported):
    with pytest.raises(PreconditionFailed) as failure:
        fetch(exported, "encoder_model.onnx", "decoder_model.onnx", "model.onnx")

    fact = f"{exported} has no decoder_model.onnx and no model.onnx, which can't be made either"
    assert failure.value.message == f"{fact}: {exported} has no weights: no model.safetensors"


@pytest.fixture(scope="module")
def decoders(tmp_path_factory) -> dict[str, Path]:
    """Small models that write, as save_pretrained writes them."""
    place = tmp_path_factory.mktemp("decoders")
    heads = {"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
    llama = transformers.LlamaConfig(**heads, vocab_size=40, hidden_size=16, intermediate_size=32)
    t5 = transformers.T5Config(vocab_size=40, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    transformers.LlamaForCausalLM(llama).save_pretrained(place / "llama")
    transformers.T5ForConditionalGeneration(t5).save_pretrained(place / "t5")
    return {"llama": place / "llama", "t5": place / "t5"}


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("llama", ["decoder_model", "decoder_with_past_model"]),
        ("llama", ["decoder_with_past_model"]),
        ("t5", ["encoder_model", "decoder_model", "decoder_with_past_model"]),
        ("t5", ["encoder_model"]),
    ],
)
def test_where_a_file_is_lacking_its_model_is_there_in_parts_to_be_converted(name, parts, decoders):
    handle = fetch(decoders[name], *(f"{part}.onnx" for part in parts))

    assert (handle.type, handle.path, list(handle.components)) == ("PyTorchModel", decoders[name], parts)
    assert handle.size_bytes == (decoders[name] / "model.safetensors").stat().st_size
    inputs = {part: {spec.name.split(".")[0] for spec in each.inputs} for part, each in handle.components.items()}
    assert all(("past_key_values" in names) == ("past" in part) for part, names in inputs.items())


def test_a_whole_model_is_one_to_be_converted(decoders):
    handle = fetch(decoders["t5"], "model.onnx", hf_config={"model_class": "T5ForConditionalGeneration"})

    assert (handle.type, handle.components) == ("PyTorchModel", {})
    assert [spec.name for spec in handle.inputs] == ["input_ids", "attention_mask", "decoder_input_ids"]


@pytest.mark.parametrize(
    ("names", "fact", "hint"),
    [
        (
            ["decoder.onnx", "decoder_model.onnx"],
            "decoder is none of its parts, which are decoder_model, decoder_with_past_model",
            None,
        ),
        (
            ["decoder_model_merged.onnx"],
            "decoder_model_merged is none of its parts, which are decoder_model, decoder_with_past_model",
            "OptimumMerging makes decoder_model_merged of the other two",
        ),
    ],
)
def test_parts_that_the_model_has_not_are_refused(names, fact, hint, decoders):
    with pytest.raises(PreconditionFailed) as failure:
        fetch(decoders["llama"], *names)

    lacking = " and no ".join(names)
    assert failure.value.message == f"{decoders['llama']} has no {lacking}, which can't be made either: {fact}"
    assert failure.value.hint == hint


def test_components_of_a_script_have_no_place_here(exported):
    part = {"name": "decoder", "io_config": {"input_names": ["x"]}}
    written = {"model_path": str(exported), "model_components": ["model.onnx"], "hf_config": {"components": [part]}}

    _, problems = read(written, ConfigContext(exported.parent))

    assert problems == [("hf_config.components", "an OptimumModel has model_components instead")]


def test_a_link_out_of_the_folder_is_not_followed(exported, tmp_path):
    write(tmp_path / "else.onnx")
    (exported / "model.onnx").symlink_to(tmp_path / "else.onnx")

    with pytest.raises(PreconditionFailed, match="which lies outside of"):
        fetch(exported, "model.onnx")


def test_of_a_repository_the_named_files_are_fetched_with_their_data_or_else_the_weights(tmp_path):
    revision = {"from_pretrained_args": {"revision": "v1"}}
    written = {"model_path": "acme/exported", "model_components": ["onnx/model.onnx"], "hf_config": revision}

    config, problems = read(written, ConfigContext(tmp_path))

    options = {"revision": "v1", "files": ["onnx/model.onnx*"]}
    assert problems == []
    assert config.model_path == Reference("hf_model", {"name": "acme/exported", **options}).token


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["decoder"], "'decoder' is not the name of an .onnx file in the model's folder"),
        (["../model.onnx"], "'../model.onnx' is not the name of an .onnx file in the model's folder"),
        (["/model.onnx"], "'/model.onnx' is not the name of an .onnx file in the model's folder"),
        (["model.onnx", "onnx/model.onnx"], "two components would be called 'model'"),
        ([], "names no files"),
    ],
)
def test_names_that_are_none_of_files_in_the_folder_are_refused(exported, names, message):
    _, problems = read({"model_path": str(exported), "model_components": names}, ConfigContext(exported.parent))

    assert problems == [("model_components", message)]
