"""PyTorchModel: what it finds in a folder without loading it, how it runs, what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from hfopt import Accelerator, FetchContext, PreconditionFailed
from hfopt.api.config import Surroundings
from hfopt.config.problems import validate
from hfopt_hf_model_loader.config import PyTorchModelConfig
from hfopt_hf_model_loader.loader import PyTorchModel

IDS = np.array([[2, 5, 6, 7, 3], [2, 8, 9, 3, 0]])
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]])


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    place = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertForSequenceClassification(BertConfig(vocab_size=30, **sizes)).eval().save_pretrained(place)
    return place


@pytest.fixture
def broken(folder, tmp_path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "model"))


def loader(place, **hf_config) -> PyTorchModel:
    config = {"model_path": str(place), "hf_config": {"task": "text-classification", **hf_config}}
    return PyTorchModel(PyTorchModelConfig.model_validate(config, strict=False))


def fetch(place, **hf_config):
    return loader(place, **hf_config).fetch(FetchContext(place, lambda *_: None))


def problems_of(around, config):
    problems = []
    validate(PyTorchModelConfig, config, (), problems, Surroundings(around))
    return [(".".join(map(str, problem.path)), problem.message, problem.hint) for problem in problems]


def test_a_folder_is_described_without_loading_its_weights(folder):
    handle = fetch(folder)

    assert [(spec.name, spec.dtype, spec.axes, spec.high) for spec in handle.inputs] == [
        ("input_ids", "int64", ("batch_size", "sequence_length"), 30),
        ("attention_mask", "int64", ("batch_size", "sequence_length"), 2),
        ("token_type_ids", "int64", ("batch_size", "sequence_length"), 2),
    ]
    assert handle.size_bytes == (folder / "model.safetensors").stat().st_size
    assert handle.attributes["hidden_size"] == 16
    assert [path.name for path in handle.companions] == ["config.json"]
    assert str(folder) not in json.dumps(handle.config)


def test_a_session_computes_what_transformers_computes(folder):
    import torch
    from transformers import AutoModelForSequenceClassification

    with loader(folder).open(fetch(folder), Accelerator(), {"threads": 1}) as session:
        found = session.run({"input_ids": IDS, "attention_mask": MASK, "unknown": IDS})
        session.bind({"input_ids": IDS})()
        threads = torch.get_num_threads()

    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        expected = model(torch.tensor(IDS), torch.tensor(MASK)).logits.numpy()
    np.testing.assert_allclose(found["logits"], expected, atol=1e-6)
    assert list(found) == ["logits"]
    assert threads == 1


def test_the_exporter_may_ask_for_another_attention_than_the_config(folder):
    with loader(folder).open(fetch(folder), Accelerator(), {}) as session:
        assert session.live.config._attn_implementation == "sdpa"
    with loader(folder).open(fetch(folder), Accelerator(), {"attn_implementation": "eager"}) as session:
        assert session.live.config._attn_implementation == "eager"


def test_other_arguments_of_from_pretrained_are_taken_as_extra(folder):
    written = {"attn_implementation": "eager", "output_hidden_states": True}

    config = PyTorchModelConfig.model_validate(
        {"hf_config": {"model_name": "x", "task": "fill-mask", "from_pretrained_args": written}}, strict=False
    )

    assert config.hf_config.from_pretrained_args.attn_implementation == "eager"
    assert config.hf_config.from_pretrained_args.extra_args == {"output_hidden_states": True}


def test_a_model_name_that_is_a_folder_is_found_beside_the_config(folder):
    problems = []
    around = Surroundings(folder.parent)

    config = validate(
        PyTorchModelConfig,
        {"hf_config": {"model_name": folder.name, "task": "text-classification"}},
        (),
        problems,
        around,
    )

    assert problems == []
    assert config.folder == folder
    assert around.used_paths == [folder]
    assert PyTorchModel.data_defaults(config) == {"model_name": str(folder), "task": "text-classification"}


NOT_LOCAL = "hf_config.model_name: 'org/none' is not a local folder; models are not fetched from a hub in this version"
SCRIPTS = "user scripts are not run in this version"
ARGS = "hf_config.from_pretrained_args"
MISTAKES = [
    ({"hf_config": {"model_name": "org/none", "task": "ner"}}, "", NOT_LOCAL),
    ({"hf_config": {"model_name": "x"}}, "hf_config", "needs task or model_class"),
    ({"hf_config": {"task": "ner"}}, "", "needs model_path or hf_config.model_name"),
    ({"model_script": "s.py", "hf_config": {"task": "ner"}}, "model_script", SCRIPTS),
    (
        {"hf_config": {"task": "ner", "from_pretrained_args": {"trust_remote_code": True}}},
        f"{ARGS}.trust_remote_code",
        "code from model folders is not run in this version",
    ),
    (
        {"hf_config": {"task": "ner", "from_pretrained_args": {"quantization_method": "gptq"}}},
        f"{ARGS}.quantization_method",
        "not available in this version",
    ),
]


@pytest.mark.parametrize(("config", "path", "message"), MISTAKES)
def test_mistakes_in_options_are_placed_and_explained(tmp_path, config, path, message):
    assert problems_of(tmp_path, config) == [(path, message, None)]


def test_misspelt_tasks_and_keys_have_a_near_miss(tmp_path):
    task = problems_of(tmp_path, {"hf_config": {"task": "text-clasification", "model_name": "x"}})
    key = problems_of(tmp_path, {"hf_config": {"task": "ner", "taks": "x"}})

    assert task[0][0] == "hf_config.task"
    assert task[0][2] == "did you mean 'text-classification'?"
    assert key == [("hf_config.taks", "unknown key", "did you mean 'task'?")]


def test_a_folder_without_config_is_not_a_model(tmp_path):
    with pytest.raises(PreconditionFailed, match=r"is not a Hugging Face model: it has no config\.json"):
        fetch(tmp_path)


def test_a_truncated_safetensors_file_is_noticed_without_loading_it(broken):
    weights = broken / "model.safetensors"
    whole = weights.stat().st_size
    with open(weights, "r+b") as stream:
        stream.truncate(whole - 100)

    with pytest.raises(PreconditionFailed) as failure:
        fetch(broken)

    assert failure.value.message == f"{weights} is damaged: it has {whole - 100} bytes, and its header promises {whole}"
    weights.write_bytes(b"\xff" * 9)
    with pytest.raises(PreconditionFailed, match="is truncated, or not a safetensors file"):
        fetch(broken)


def test_pickled_weights_are_refused(broken):
    (broken / "model.safetensors").rename(broken / "pytorch_model.bin")

    with pytest.raises(PreconditionFailed, match="has its weights as pickles, which can run any code") as failure:
        fetch(broken)

    assert failure.value.hint == "save the model again with safetensors: model.save_pretrained(folder)"


def test_a_sharded_model_is_its_index_and_shards_and_a_missing_one_is_named(tmp_path):
    from transformers import BertConfig, BertForSequenceClassification

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    model = BertForSequenceClassification(BertConfig(vocab_size=3000, **sizes))
    model.save_pretrained(tmp_path, max_shard_size="100KB")

    files = fetch(tmp_path).files

    assert files[0].name == "model.safetensors.index.json"
    assert len(files) > 2
    files[1].unlink()
    with pytest.raises(PreconditionFailed, match=f"{files[1].name} is missing, though the index names it"):
        fetch(tmp_path)


def test_a_model_saved_with_another_head_is_refused(folder):
    with pytest.raises(PreconditionFailed) as failure:
        fetch(folder, task="question-answering")

    assert failure.value.message == (
        "the model was saved as BertForSequenceClassification, which has no head for question-answering"
    )


def test_a_class_that_transformers_has_not_is_named(folder):
    with pytest.raises(PreconditionFailed, match="has no class 'BertForNothing'"):
        fetch(folder, task=None, model_class="BertForNothing")


def test_a_checkpoint_that_lacks_weights_is_refused(broken):
    from safetensors.numpy import load_file, save_file

    weights = load_file(broken / "model.safetensors")
    del weights["classifier.weight"]
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})

    with pytest.raises(
        PreconditionFailed, match=r"the checkpoint lacks 1 weights of the model, such as classifier.weight"
    ):
        loader(broken).open(fetch(broken), Accelerator(), {})
