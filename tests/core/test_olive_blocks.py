"""Every block of Olive's page on Hugging Face models, in its shape: accepted, or refused with the true reason."""

from __future__ import annotations

import json

import pytest

from hfopt.cli.main import main

CLASSIFIER = {"model_name": "acme/tiny-classifier", "task": "text-classification"}
GENERATOR = {"model_name": "acme/tiny-decoder", "task": "text-generation"}
ROWS = {
    "name": "rows",
    "type": "HuggingfaceContainer",
    "params_config": {"data_name": "acme/reviews", "split": "train", "input_cols": ["text"], "label_cols": ["label"]},
}
CONVERSION = {"type": "OnnxConversion"}


def model(**config):
    return {"input_model": {"type": "PyTorchModel", "config": config}}


def measured():
    metric = {
        "name": "quality",
        "type": "accuracy",
        "backend": "huggingface_metrics",
        "data_config": "rows",
        "sub_types": [{"name": "accuracy", "priority": -1}, {"name": "f1"}],
    }
    return {"data_configs": [ROWS], "evaluators": {"e": {"metrics": [metric]}}, "engine": {"evaluator": "e"}}


def corpus(**options):
    lines = {"text_cols": ["turn"], "corpus_strategy": "line-by-line", "source_max_len": 64, "pad_to_max_len": False}
    params = {"data_name": "acme/dialogues", "component_kwargs": {"pre_process_data": {**options, **lines}}}
    return {"data_configs": [{"name": "lines", "type": "HuggingfaceContainer", "params_config": params}]}


ACCEPTED = {
    "model of the hub": model(hf_config=CLASSIFIER),
    "model in a folder": model(model_path="local_model", hf_config=CLASSIFIER),
    "dataset that tuning names": {
        "data_configs": [ROWS],
        "passes": {"conversion": CONVERSION, "tuning": {"type": "OrtPerfTuning", "config": {"data_config": "rows"}}},
    },
    "rows of text to generate from": corpus(task="text-generation", model_name="acme/tiny-decoder"),
    "metrics with and without a priority": measured(),
    "components that somebody has exported": {
        "input_model": {
            "type": "OptimumModel",
            "config": {
                "model_path": "acme/tiny-decoder",
                "model_components": ["decoder_model.onnx", "decoder_with_past_model.onnx"],
                "hf_config": {"model_class": "LlamaForCausalLM"},
            },
        },
        "passes": {"quantization": {"type": "OnnxDynamicQuantization"}},
    },
    "own io_config": model(model_script="s.py", io_config="names", dummy_inputs_func="example", hf_config=GENERATOR),
    "custom components": model(
        model_script="s.py",
        hf_config={
            "model_class": "WhisperForConditionalGeneration",
            "model_name": "acme/whisper",
            "components": [
                {"name": "decoder", "io_config": "names", "component_func": "decoder", "dummy_inputs_func": "example"}
            ],
        },
    ),
    "token": {"systems": {"here": {"type": "LocalSystem", "config": {"hf_token": True}}}, "engine": {"host": "here"}},
    "workspace that nothing uses": {"azureml_client": {"workspace_name": "w", "keyvault_name": "my_keyvault_name"}},
    "registry": model(
        model_path={
            "type": "azureml_registry_model",
            "config": {"name": "Llama-2-7b", "registry_name": "azureml-meta", "version": "13"},
        },
        model_file_format="PyTorch.MLflow",
        hf_config=GENERATOR,
    ),
}
REFUSED = {
    "rows of text for a model that does not write": (
        corpus(),
        ["pre_process_data.text_cols: is of text-generation, and the task is text-classification"],
    ),
}


@pytest.fixture
def validated(tmp_path, capsys):
    """Exit code and messages of a config of which only a block is given."""

    def run(block):
        (tmp_path / "local_model").mkdir()
        (tmp_path / "local_model" / "config.json").write_text("{}")
        (tmp_path / "s.py").write_text("")
        file = tmp_path / "config.json"
        file.write_text(json.dumps(model(hf_config=CLASSIFIER) | {"passes": {"conversion": CONVERSION}} | block))
        return main(["validate", str(file)]), capsys.readouterr().err

    return run


@pytest.mark.parametrize("block", ACCEPTED)
def test_a_block_is_accepted(validated, block):
    assert validated(ACCEPTED[block]) == (0, "")


@pytest.mark.parametrize("block", REFUSED)
def test_a_block_is_refused_with_the_reason_and_nothing_else(validated, block):
    config, reasons = REFUSED[block]

    code, error = validated(config)

    assert code == 2
    assert all(reason in error for reason in reasons)
    assert len([line for line in error.splitlines() if "hint:" not in line]) == len(reasons)
    assert "did you mean" not in error
