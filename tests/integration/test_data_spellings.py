"""Data as Olive 0.6.1 and as 0.6.2 writes them: the same options, the same keys, the same rows."""

from __future__ import annotations

import json
from collections import defaultdict

import pytest

import hfopt
from hfopt.planning.identity import identify

CSV = {"data_name": "csv", "data_files": "rows.csv"}
COLUMNS = {"input_cols": ["text"], "label_cols": ["label"]}


def config_of(**data):
    return {
        "input_model": {
            "type": "PyTorchModel",
            "config": {"model_path": "./model", "hf_config": {"task": "text-classification"}},
        },
        "data_configs": [{"name": "rows", "type": "HuggingfaceContainer", **data}],
        "passes": {
            "conversion": {"type": "OnnxConversion"},
            "quantization": {"type": "OnnxQuantization", "config": {"data_config": "rows"}},
        },
    }


@pytest.fixture
def folder(tmp_path):
    for name in ("model", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    (tmp_path / "rows.csv").write_text("text,label\na film,1\n")
    return tmp_path


@pytest.fixture
def plan(folder):
    """The options of the data of a config, and the key of each of its steps."""

    def planned(data):
        (folder / "config.json").write_text(json.dumps(config_of(**data)))
        steps = hfopt.plan(folder / "config.json").steps()
        digests = {path: path.name for step in steps for path in step.paths}
        keys = {}
        for step in steps:
            keys[step] = identify(step, keys, digests, {}, defaultdict(dict), {})
        (data_step,) = (step for step in steps if step.kind == "data")
        return data_step.config, set(data_step.paths), {step.name: keys[step].key for step in steps}

    return planned


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        (
            {"params_config": {**CSV, "split": "train[:10]", **COLUMNS, "batch_size": 2}},
            {
                "load_dataset_config": {"type": "huggingface_dataset", "params": {**CSV, "split": "train[:10]"}},
                "pre_process_data_config": {"type": "huggingface_pre_process", "params": COLUMNS},
                "post_process_data_config": {"type": "text_classification_post_process"},
                "dataloader_config": {"type": "default_dataloader", "params": {"batch_size": 2}},
            },
        ),
        (
            {"params_config": {**CSV, "component_kwargs": {"pre_process_data": {"max_length": 64}}}},
            {"load_dataset_config": CSV, "pre_process_data_config": {"max_length": 64}},
        ),
        (
            {"params_config": {**CSV, "model_name": "./other", "task": "sentiment-analysis", "max_samples": 5}},
            {
                "load_dataset_config": {**CSV, "trust_remote_code": None},
                "pre_process_data_config": {
                    "params": {"model_name": "./other", "task": "sentiment-analysis"},
                    "max_samples": 5,
                },
                "post_process_data_config": {"params": {"model_name": "./other", "task": "sentiment-analysis"}},
            },
        ),
        (
            {
                "components": {
                    "load_dataset": {"type": "huggingface_dataset", "params": {**CSV, "split": "test"}},
                    "pre_process_data": {"type": "huggingface_pre_process", "params": {"padding": "max_length"}},
                    "dataloader": {"type": "default_dataloader", "params": {"batch_size": 9}},
                },
                "params_config": {"batch_size": 4, "component_kwargs": {"load_dataset": {"split": "train"}}},
            },
            {
                "load_dataset_config": {**CSV, "split": "train"},
                "pre_process_data_config": {"type": "huggingface_pre_process", "padding": "max_length"},
                "dataloader_config": {"batch_size": 4},
            },
        ),
        (
            {"params_config": {**CSV, "split": "train"}},
            {"params_config": CSV, "load_dataset_config": {**CSV, "split": "train"}},
        ),
    ],
    ids=["flat", "component_kwargs", "another tokenizer", "components", "both at once"],
)
def test_both_spellings_are_the_same_options_and_the_same_keys(plan, older, newer):
    assert plan(newer) == plan(older)


def test_a_path_that_is_outranked_counts_for_nothing(plan):
    ranked = {"params_config": {**CSV, "data_files": "none.csv", "component_kwargs": {"load_dataset": CSV}}}

    assert plan(ranked) == plan({"params_config": CSV})


@pytest.fixture
def project(thread, hub, tiny_model):
    """A project whose model and data are on a hub, with one pass and what a run of seconds measures."""
    hub.add_model("acme/tiny", tiny_model)
    card = b"---\nconfigs:\n- config_name: films\n  data_files: [{split: validation, path: rows.csv}]\n---\n"
    hub.add_dataset("acme/reviews", {"README.md": card, "rows.csv": (thread.folder / "rows.csv").read_bytes()})
    classifier = {"model_name": "acme/tiny", "task": "text-classification"}
    thread.config["input_model"]["config"] = {"hf_config": classifier}
    thread.config["passes"] = {"conversion": {"type": "OnnxConversion"}}
    del thread.config["evaluators"]["e"]["metrics"][1]
    thread.environment = dict(hub.environment)
    return thread


def test_a_run_in_one_spelling_finds_what_a_run_in_the_other_made(project):
    dataset = {"data_name": "acme/reviews", "subset": "films", "split": "validation"}
    named = {"name": "rows", "type": "HuggingfaceContainer"}
    project.config["data_configs"] = [{**named, "params_config": {**dataset, **COLUMNS, "batch_size": 4}}]
    first = project.run()
    assert first.returncode == 0, first.stderr
    made = {name: step["key"] for name, step in project.steps().items()}

    newer = {
        "load_dataset_config": {"type": "huggingface_dataset", "params": dataset},
        "pre_process_data_config": {"params": COLUMNS},
        "post_process_data_config": {"type": "text_classification_post_process"},
        "dataloader_config": {"batch_size": 4},
    }
    project.config["data_configs"] = [{**named, **newer}]
    again = project.run()

    assert again.returncode == 0, again.stderr
    assert "data rows" in made
    assert {name: step["key"] for name, step in project.steps().items()} == made
    assert all(step["cached"] for step in project.steps().values())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            {"load_dataset_config": {"params": {**CSV, "splt": "train"}}},
            ".load_dataset_config.params.splt: unknown key\n  hint: did you mean 'split'?",
        ),
        (
            {"load_dataset_config": CSV, "dataloader_config": {"batchsize": 2}},
            ".dataloader_config.batchsize: unknown key\n  hint: did you mean 'batch_size'?",
        ),
        (
            {"load_dataset_config": CSV, "pre_process_data_config": {"batch_size": 2}},
            ".pre_process_data_config.batch_size: unknown key\n  hint: did you mean 'batched'?",
        ),
        (
            {"params_config": {**CSV, "batch_size": 2}, "pre_process_data_config": {"batch_size": 2}},
            ".pre_process_data_config.batch_size: unknown key\n  hint: did you mean 'batched'?",
        ),
        (
            {"load_dataset_confg": CSV, "params_config": CSV},
            ".load_dataset_confg: unknown key\n  hint: did you mean 'load_dataset_config'?",
        ),
        (
            {"params_config": {**CSV, "component_kwargs": {"dataloader": {"batchsize": 2}}}},
            ".params_config.component_kwargs.dataloader.batchsize: unknown key\n  hint: did you mean 'batch_size'?",
        ),
        (
            {"params_config": CSV, "components": {"pre_process_data": {"params": {"max_lenght": 2}}}},
            ".components.pre_process_data.params.max_lenght: unknown key\n  hint: did you mean 'max_length'?",
        ),
        (
            {"params_config": CSV, "components": {"pre_process": {}}},
            ".components.pre_process: unknown key\n  hint: did you mean 'pre_process_data'?",
        ),
        (
            {"params_config": CSV, "components": {"dataloader": {"batch_size": 2}}},
            ".components.dataloader.batch_size: unknown key\n  hint: known here: params, type",
        ),
        (
            {"load_dataset_config": {"data_name": "csv", "data_files": ["rows.csv", "none.csv"]}},
            ".load_dataset_config.data_files[1]: no such file or folder: none.csv",
        ),
        ({"load_dataset_config": {**CSV, "params": []}}, ".load_dataset_config.params: expected an object, got a list"),
        (
            {"load_dataset_config": CSV, "dataloader_config": {"params": {"batch_size": "all"}}},
            ".dataloader_config.params.batch_size: expected an integer, got a string",
        ),
        (
            {"load_dataset_config": {**CSV, "split": "test"}, "params_config": {"split": "train"}},
            ".load_dataset_config.split: params_config.split has another value\n  hint: keep one of the two",
        ),
        (
            {"load_dataset_config": {**CSV, "type": "hugginface_dataset"}},
            ".load_dataset_config.type: no load_dataset component named 'hugginface_dataset'; there is "
            "huggingface_dataset\n  hint: did you mean 'huggingface_dataset'?",
        ),
        (
            {"load_dataset_config": CSV, "dataloader_config": {"type": "skip_dataloader"}},
            ".dataloader_config.type: rows come in batches; batch_size 1 makes batches of one row",
        ),
        (
            {"load_dataset_config": CSV, "post_process_data_config": {"task": "object-detection"}},
            ".post_process_data_config.task: data are prepared for audio-classification, automatic-speech-recognition, "
            "feature-extraction, fill-mask, image-classification, question-answering, summarization, "
            "text2text-generation, text-classification, text-generation, token-classification and translation; not for "
            "object-detection",
        ),
        ({"pre_process_data_config": COLUMNS}, ": data_name is required"),
    ],
)
def test_a_mistake_is_reported_in_the_users_spelling(folder, data, message):
    file = folder / "config.json"
    file.write_text(json.dumps(config_of(**data)))

    with pytest.raises(hfopt.ConfigError) as failure:
        hfopt.validate(file)

    assert str(failure.value) == f"config.json:1: data_configs[0]{message}"


def test_a_mistake_has_the_line_of_the_users_spelling(folder):
    file = folder / "config.json"
    file.write_text(json.dumps(config_of(load_dataset_config={"params": {**CSV, "splt": "train"}}), indent=1))
    line = 1 + file.read_text().splitlines().index('     "splt": "train"')

    with pytest.raises(
        hfopt.ConfigError, match=rf"^config\.json:{line}: data_configs\[0\]\.load_dataset_config\.params\.splt"
    ):
        hfopt.validate(file)
