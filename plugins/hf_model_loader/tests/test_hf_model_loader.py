"""PyTorchModel: what it finds in a folder without loading it, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hfopt import FetchContext, PreconditionFailed
from hfopt_hf_model_loader.config import PyTorchModelConfig
from hfopt_hf_model_loader.loader import PyTorchModel

SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
TASK = "text-classification"


def loader(place, task=TASK, **options) -> PyTorchModel:
    config = {"model_path": str(place), "hf_config": {"task": task, **options}}
    return PyTorchModel(PyTorchModelConfig.model_validate(config, strict=False))


def fetch(place, task=TASK, **options):
    return loader(place, task, **options).fetch(FetchContext(Path(), lambda *_: None))


def refusal(place, task=TASK, **options):
    with pytest.raises(PreconditionFailed) as failure:
        fetch(place, task, **options)
    return failure.value.message, failure.value.hint


def change_config(place, **changes):
    file = place / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_a_folder_is_described(folder):
    handle = fetch(folder)

    assert [(spec.name, spec.dtype, spec.axes, spec.high) for spec in handle.inputs] == [
        ("input_ids", "int64", ("batch_size", "sequence_length"), 30),
        ("attention_mask", "int64", ("batch_size", "sequence_length"), 2),
        ("token_type_ids", "int64", ("batch_size", "sequence_length"), 2),
    ]
    assert handle.path == folder
    assert handle.files == (folder / "model.safetensors",)
    assert handle.size_bytes == (folder / "model.safetensors").stat().st_size
    assert {"config.json", "tokenizer.json", "tokenizer_config.json"} <= {path.name for path in handle.companions}
    assert handle.attributes["hidden_size"] == 16
    assert str(folder) not in json.dumps(handle.config)


def test_segments_are_an_input_only_if_the_tokenizer_makes_them(broken):
    (broken / "tokenizer_config.json").write_text('{"model_input_names": ["input_ids", "attention_mask"]}')

    assert [spec.name for spec in fetch(broken).inputs] == ["input_ids", "attention_mask"]


def test_sizes_that_config_json_leaves_out_are_those_of_transformers(tmp_path):
    from transformers import BertConfig, BertForSequenceClassification

    BertForSequenceClassification(BertConfig(**SIZES)).save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    written = json.loads(file.read_text())
    file.write_text(json.dumps({key: value for key, value in written.items() if key != "vocab_size"}))

    assert fetch(tmp_path).inputs[0].high == 30522


def test_attributes_of_the_user_win_over_those_of_the_model(folder):
    config = {"model_path": str(folder), "hf_config": {"task": TASK}, "model_attributes": {"model_type": "own"}}
    chosen = PyTorchModel(PyTorchModelConfig.model_validate(config, strict=False))

    attributes = chosen.fetch(FetchContext(Path(), lambda *_: None)).attributes

    assert (attributes["model_type"], attributes["hidden_size"]) == ("own", 16)


def test_a_sharded_model_is_its_index_and_shards_and_a_missing_one_is_named(tmp_path):
    from transformers import BertConfig, BertForSequenceClassification

    model = BertForSequenceClassification(BertConfig(vocab_size=3000, **SIZES))
    model.save_pretrained(tmp_path, max_shard_size="100KB")

    files = fetch(tmp_path).files

    assert files[0].name == "model.safetensors.index.json"
    assert len(files) > 2
    files[1].unlink()
    assert refusal(tmp_path) == (f"{files[0]} names {files[1].name!r}, which is missing", None)


def test_an_index_that_is_none_or_leads_elsewhere_is_refused(broken):
    (broken / "model.safetensors").rename(broken / "elsewhere.safetensors")
    index = broken / "model.safetensors.index.json"
    index.write_text('{"metadata": {}}')
    assert refusal(broken) == (f"{index} is not an index of weights", None)

    index.write_text('{"weight_map": {"a": "../../etc/passwd"}}')
    assert refusal(broken) == (f"{index} names '../../etc/passwd', which is not a file of its folder", None)


def test_a_folder_without_config_is_not_a_model(tmp_path):
    assert refusal(tmp_path) == (f"{tmp_path} is not a Hugging Face model: it has no config.json", None)


@pytest.mark.parametrize(
    ("text", "reason"), [("{", "is not JSON: Expecting property name"), ("[]", "is not a JSON object")]
)
def test_a_config_that_is_none_is_refused(broken, text, reason):
    (broken / "config.json").write_text(text)

    assert reason in refusal(broken)[0]


def test_a_truncated_safetensors_file_is_noticed_by_its_length(broken):
    weights = broken / "model.safetensors"
    whole = weights.stat().st_size
    with open(weights, "r+b") as stream:
        stream.truncate(whole - 100)

    assert refusal(broken) == (
        f"{weights} is damaged: it has {whole - 100} bytes, and its header promises {whole}",
        "fetch it again",
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is truncated, or not a safetensors file"),
        (b"\xff" * 9, "is truncated, or not a safetensors file"),
        (b"\x02" + b"\0" * 7 + b"[]", "is not a safetensors file"),
        (b"\x09" + b"\0" * 7 + b'{"a": {}}', "is damaged: 'a' has no dtype, shape and data_offsets"),
        (b"\x04" + b"\0" * 7 + b"text and more", "is not a safetensors file"),
    ],
)
def test_something_else_is_not_taken_for_weights(broken, content, reason):
    (broken / "model.safetensors").write_bytes(content)

    assert refusal(broken) == (f"{broken / 'model.safetensors'} {reason}", "fetch it again")


def test_a_folder_without_weights_is_refused(broken):
    (broken / "model.safetensors").unlink()

    assert refusal(broken) == (f"{broken} has no weights: no model.safetensors", None)


def test_a_model_saved_with_another_head_is_refused(folder):
    assert refusal(folder, "question-answering") == (
        "the model was saved as BertForSequenceClassification, which has no head for question-answering",
        "choose the task that it was trained for",
    )


def test_any_model_can_be_taken_without_its_head(folder):
    assert fetch(folder, "feature-extraction").inputs[0].name == "input_ids"


def test_a_class_that_transformers_has_not_is_named(folder):
    message, _ = refusal(folder, None, model_class="BertForNothing")

    assert message.startswith("transformers ")
    assert message.endswith(" has no class 'BertForNothing'")


def test_a_task_that_a_model_has_no_head_for_is_refused(tmp_path):
    from transformers import ViTConfig, ViTModel

    ViTModel(ViTConfig(image_size=16, patch_size=8, **SIZES)).save_pretrained(tmp_path)

    (pixels,) = fetch(tmp_path, "feature-extraction").inputs
    assert (pixels.name, pixels.dtype, pixels.axes) == ("pixel_values", "float32", ("batch_size", 3, 16, 16))
    assert refusal(tmp_path) == ("transformers has no 'vit' model for text-classification", None)


def needs_code(place):
    (place / "own.py").write_text("raise SystemExit('ran')")
    change_config(place, model_type="own", auto_map={"AutoConfig": "own.OwnConfig"})
    return {"trust_remote_code": True}


def test_a_model_that_needs_code_is_refused_with_the_file_and_the_key_and_nothing_runs(broken):
    needs_code(broken)

    assert refusal(broken) == (
        f"{broken / 'config.json'} names code of the model's own, {broken / 'own.py'}, which is not run",
        "if you trust that file, set hf_config.from_pretrained_args.trust_remote_code to true",
    )


def test_code_that_is_trusted_and_fails_is_told(broken):
    message, _ = refusal(broken, from_pretrained_args=needs_code(broken))

    assert message == f"transformers can't read {broken / 'config.json'}: SystemExit: ran"


def test_trusted_code_that_is_missing_or_elsewhere_is_told(broken):
    trusted = needs_code(broken)
    (broken / "own.py").unlink()
    assert refusal(broken, from_pretrained_args=trusted) == (f"{broken / 'own.py'}: no such file", None)

    change_config(broken, auto_map={"AutoConfig": "acme/other--own.OwnConfig"})
    message, hint = refusal(broken, from_pretrained_args=trusted)
    assert message == f"{broken / 'config.json'} names code in another repository, acme/other"
    assert "put a copy of its files beside config.json" in hint


def test_code_that_transformers_has_itself_is_not_needed(broken):
    change_config(broken, auto_map={"AutoConfig": "own.OwnConfig"})

    assert fetch(broken).attributes["model_type"] == "bert"


def test_attributes_are_those_of_transformers_with_its_defaults_and_shared_names(tmp_path):
    from transformers import GPT2Config, GPT2ForSequenceClassification

    model = GPT2ForSequenceClassification(GPT2Config(vocab_size=30, n_embd=16, n_layer=1, n_head=2, pad_token_id=0))
    model.save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    written = json.loads(file.read_text())
    del written["attn_pdrop"]
    file.write_text(json.dumps(written))

    attributes = fetch(tmp_path).attributes

    assert (attributes["hidden_size"], attributes["num_attention_heads"], attributes["n_head"]) == (16, 2, 2)
    assert attributes["attn_pdrop"] == 0.1


def test_the_snippet_loads_what_was_saved_and_runs_it(folder):
    snippet = loader(folder).snippet(fetch(folder)) + "\nprint(list(outputs.logits.shape))"

    done = subprocess.run([sys.executable, "-c", snippet], cwd=folder, capture_output=True, text=True)

    assert done.stdout == "[1, 2]\n", done.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            {"quantization_method": "bitsandbytes", "quantization_config": {"load_in_8bit": True}},
            "quantization_method bitsandbytes needs bitsandbytes and accelerate, which this environment lacks",
        ),
        (
            {"quantization_method": "gptq", "quantization_config": {"bits": 4}},
            "quantization_method gptq needs gptqmodel and optimum and accelerate, which this environment lacks",
        ),
        (
            {"device_map": "auto", "max_memory": {"cpu": "1GB"}},
            "max_memory needs accelerate, which this environment lacks",
        ),
    ],
)
def test_packages_that_an_argument_needs_are_named_before_anything_is_loaded(folder, monkeypatch, args, message):
    from hfopt import PluginError
    from hfopt_hf_model_loader import arguments

    monkeypatch.setattr(arguments, "find_spec", lambda _: None)

    with pytest.raises(PluginError) as failure:
        fetch(folder, from_pretrained_args=args)

    assert failure.value.message == message
    assert failure.value.hint.startswith("pip install ")


def test_arguments_reach_from_pretrained_in_its_own_types():
    from hfopt_hf_model_loader.arguments import from_pretrained_arguments
    from hfopt_hf_model_loader.hf_config import FromPretrainedArgs

    written = {
        "torch_dtype": "torch.bfloat16",
        "device_map": "auto",
        "max_memory": {"0": "2GB", "cpu": "1GB"},
        "quantization_method": "bitsandbytes",
        "quantization_config": {"load_in_4bit": True},
        "trust_remote_code": True,
        "output_attentions": True,
        "weights_only": False,
    }

    given = from_pretrained_arguments(FromPretrainedArgs.model_validate(written), "eager", "cpu")

    quantization = given.pop("quantization_config")
    assert (type(quantization).__name__, quantization.load_in_4bit) == ("BitsAndBytesConfig", True)
    assert given == {
        "dtype": "bfloat16",
        "attn_implementation": "eager",
        "device_map": "auto",
        "max_memory": {0: "2GB", "cpu": "1GB"},
        "trust_remote_code": True,
        "output_attentions": True,
        "local_files_only": True,
        "output_loading_info": True,
        "weights_only": True,
    }
