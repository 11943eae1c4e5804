"""Options of PyTorchModel: what is accepted, and what a mistake is told."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from hfopt import Reference
from hfopt.api.config import ConfigContext
from hfopt.testing import validate
from hfopt_hf_model_loader.config import PyTorchModelConfig
from hfopt_hf_model_loader.loader import PyTorchModel

CLASSIFIER = {"task": "text-classification"}


def read(config, around):
    problems = []
    found = validate(PyTorchModelConfig, config, (), problems, around)
    return found, [(".".join(map(str, problem.path)), problem.message, problem.hint) for problem in problems]


def accepted(config, around):
    found, problems = read(config, around)
    assert problems == []
    return found


@pytest.mark.parametrize(
    "written",
    [
        {"model_path": "NAME", "hf_config": CLASSIFIER},
        {"model_path": "NAME", "hf_config": {"model_name": "Intel/bert-base-uncased-mrpc", **CLASSIFIER}},
        {"hf_config": {"model_name": "NAME", **CLASSIFIER}},
        {"model_path": None, "hf_config": {"model_name": "NAME", **CLASSIFIER}},
        {"model_path": {"type": "folder", "config": {"path": "NAME"}}, "hf_config": CLASSIFIER},
        {"model_path": {"type": "local_folder", "config": {"path": "NAME"}}, "hf_config": CLASSIFIER},
        {"model_path": {"type": "String_Name", "config": {"name": "NAME"}}, "hf_config": CLASSIFIER},
    ],
)
def test_a_model_is_a_folder_beside_the_config_whose_content_counts(folder, written):
    around = ConfigContext(folder.parent)
    text = json.dumps(written).replace("NAME", folder.name)

    config = accepted(json.loads(text), around)

    assert config.folder == folder
    assert around.used_paths == [folder]
    assert around.notices == []


@pytest.mark.parametrize(
    ("written", "message", "hint"),
    [
        (
            {"type": "foldr", "config": {"path": "model"}},
            "no type of resource named 'foldr'; there is file, folder, local_file, local_folder, string_name",
            "did you mean 'folder'?",
        ),
        ({"type": "folder", "config": {"name": "model"}}, "a folder has nothing but a path in its config", None),
        ({"path": "model"}, "expected a string, got an object", None),
    ],
)
def test_a_resource_that_is_none_is_told_at_its_place(folder, written, message, hint):
    _, problems = read({"model_path": written, "hf_config": CLASSIFIER}, ConfigContext(folder.parent))

    assert problems == [("model_path", message, hint)]


def test_a_model_in_the_current_folder_is_found_with_a_notice(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder.parent)
    around = ConfigContext(tmp_path)

    config = accepted({"hf_config": {"model_name": folder.name, **CLASSIFIER}}, around)

    assert config.folder == folder
    assert around.notices == [f"{folder.name}: taken from the current folder (not found in the config file's)"]


def test_data_take_over_the_folder_and_the_task(folder):
    config = accepted({"hf_config": {"model_name": folder.name, "task": "ner"}}, ConfigContext(folder.parent))

    assert PyTorchModel.data_defaults(config) == {"model_name": str(folder), "task": "token-classification"}


def test_null_is_as_good_as_nothing_for_what_this_version_has_not(folder):
    fields = PyTorchModelConfig.model_fields.keys() - {"hf_config", "model_path"}
    written = {"hf_config": {"model_name": folder.name, "from_pretrained_args": None, "feature": None, **CLASSIFIER}}

    config = accepted({**dict.fromkeys(fields), **written}, ConfigContext(folder.parent))

    assert config.folder == folder


def test_keys_of_from_pretrained_that_olive_has_no_name_for_are_extra_arguments(folder):
    written = {
        "attn_implementation": "eager",
        "dtype": "float16",
        "output_hidden_states": True,
        "extra_args": {"ignore_mismatched_sizes": True},
        "trust_remote_code": True,
    }

    config = accepted(
        {"hf_config": {"model_name": folder.name, "from_pretrained_args": written, **CLASSIFIER}},
        ConfigContext(folder.parent),
    )

    found = config.hf_config.from_pretrained_args
    assert (found.attn_implementation, found.torch_dtype) == ("eager", "float16")
    assert found.extra_args == {"ignore_mismatched_sizes": True, "output_hidden_states": True}


NOT_LOCAL = "no such folder: ./none; and it is not the name of a model on the hub"
NO_SCRIPT = "is a function, and there is no model_script that could have it"
UNKNOWN = "needs io_config or dummy_inputs_func, which say what its model takes"
PART = "hf_config.components.0.component_func"
PARTS = [{"name": "decoder", "io_config": {"input_names": ["a"]}, "component_func": "decoder"}]
DEVICE = "must be cpu or auto: the accelerator says on which device a model runs"
TOGETHER = "quantization_method and quantization_config are written together"


@pytest.mark.parametrize(
    ("written", "place", "message"),
    [
        ({"model_path": "./none"}, "model_path", NOT_LOCAL),
        ({"model_path": "model.onnx"}, "model_path", "is a file; a Hugging Face model is a folder with config.json"),
        ({"hf_config": {"model_name": "./none", **CLASSIFIER}}, "hf_config", NOT_LOCAL),
        ({}, "hf_config", "needs model_name, or a model_path beside it"),
        (
            {"hf_config": None},
            "hf_config",
            "hf_config is required: what the model is for; or model_loader, or io_config",
        ),
        ({"model_path": "models/resnet.pt", "hf_config": None}, "model_path", "no such file: models/resnet.pt"),
        ({"hf_config": {"model_name": "here"}}, "hf_config", "needs task or model_class"),
        ({"model_path": "here", "model_script": "s.py"}, "model_script", "no such file or folder: s.py"),
        ({"model_path": "here", "script_dir": "code"}, "script_dir", "no such file or folder: code"),
        ({"model_path": "here", "model_loader": "load"}, "model_loader", NO_SCRIPT),
        ({"model_path": "here", "dummy_inputs_func": "f"}, "dummy_inputs_func", NO_SCRIPT),
        ({"model_path": "here", "io_config": "f"}, "io_config", NO_SCRIPT),
        (
            {"model_path": "model.onnx", "hf_config": None, "io_config": {"input_names": ["a"]}},
            "model_path",
            "for a file, set model_file_format",
        ),
        ({"model_path": "here", "model_script": "model.onnx", "model_loader": "f"}, "model_loader", UNKNOWN),
        ({"model_path": "here", "hf_config": {**CLASSIFIER, "components": PARTS}}, PART, NO_SCRIPT),
        ({"model_path": "here", "adapter_path": "./lora"}, "adapter_path", "no such folder: ./lora"),
        (
            {"model_path": "here", "model_file_format": "PyTorch.SliceGPT"},
            "model_file_format",
            "must be 'PyTorch.EntireModel', 'PyTorch.StateDict'",
        ),
    ],
)
def test_what_this_version_can_not_do_is_said_at_its_place(tmp_path, written, place, message):
    (tmp_path / "here").mkdir()
    (tmp_path / "model.onnx").touch()

    _, problems = read({"hf_config": CLASSIFIER, **written}, ConfigContext(tmp_path))

    assert [(problem[0], message in problem[1]) for problem in problems] == [(place, True)]


@pytest.mark.parametrize(
    ("written", "place", "message"),
    [
        (
            {"device_map": "cuda:0"},
            "device_map",
            DEVICE,
        ),
        (
            {"device_map": {"": 0}},
            "device_map",
            DEVICE,
        ),
        ({"max_memory": {"cpu": "1GB"}}, "max_memory", "needs device_map: auto"),
        ({"quantization_method": "awq"}, "quantization_method", "must be 'bitsandbytes' or 'gptq'"),
        ({"quantization_method": "gptq"}, "quantization_config", TOGETHER),
        ({"quantization_config": {"bits": 4}}, "quantization_method", TOGETHER),
        ({"torch_dtype": "int8"}, "torch_dtype", "must be 'auto', 'float32', 'float16' or 'bfloat16'"),
    ],
)
def test_arguments_that_this_version_can_not_give_are_refused(tmp_path, written, place, message):
    (tmp_path / "here").mkdir()

    _, problems = read(
        {"model_path": "here", "hf_config": {"from_pretrained_args": written, **CLASSIFIER}}, ConfigContext(tmp_path)
    )

    assert [problem[:2] for problem in problems] == [(f"hf_config.from_pretrained_args.{place}", message)]


def test_all_mistakes_are_found_at_once_with_near_misses(tmp_path):
    written = {"model_path": "./none", "model_scirpt": "s.py", "hf_config": {"task": "text-clasification", "taks": "x"}}

    _, problems = read(written, ConfigContext(tmp_path))

    assert {place: hint for place, _, hint in problems} == {
        "model_path": None,
        "model_scirpt": "did you mean 'model_script'?",
        "hf_config.task": "did you mean 'text-classification'?",
        "hf_config.taks": "did you mean 'task'?",
    }


def test_options_are_read_without_a_framework():
    program = "import sys, hfopt_hf_model_loader.loader; print({'torch', 'transformers'} & set(sys.modules))"

    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout

    assert printed == "set()\n"


def resource(name, **options):
    return Reference("hf_model", {"name": name, **options}).token


@pytest.mark.parametrize("name", ["gpt2", "org/some-model.v2"])
def test_a_name_that_is_no_folder_is_a_model_on_the_hub_at_the_revision_written(tmp_path, name):
    args = {"revision": "v1"}
    by_path, _ = read({"model_path": name, "hf_config": CLASSIFIER}, ConfigContext(tmp_path))
    by_name, _ = read(
        {"hf_config": {"model_name": name, "from_pretrained_args": args, **CLASSIFIER}}, ConfigContext(tmp_path)
    )

    assert by_path.place == resource(name, revision=None)
    assert by_name.place == resource(name, revision="v1")
    assert PyTorchModel.data_defaults(by_name)["model_name"] == by_name.place


def test_a_local_folder_of_that_name_wins_with_a_notice(tmp_path):
    (tmp_path / "org" / "model").mkdir(parents=True)
    around = ConfigContext(tmp_path)

    config, _ = read({"hf_config": {"model_name": "org/model", **CLASSIFIER}}, around)

    assert config.place == str(tmp_path / "org" / "model")
    assert around.notices == ["org/model: the local folder of that name is taken, not the model on the hub"]
