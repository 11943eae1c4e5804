"""Whole runs on what a workspace or a registry has."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.engine

LLAMA = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 64}


@pytest.fixture
def run(azureml_emulator, client, tmp_path):
    """Runs a config; returns run.json and what was printed."""

    def run_config(config, *arguments):
        file = tmp_path / "config.json"
        file.write_text(json.dumps({"azureml_client": client, **config}))
        command = [sys.executable, "-m", "hfopt", "run", file.name, *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, env=azureml_emulator.client_env(), capture_output=True, text=True, timeout=110
        )
        record = tmp_path / "hfopt-output" / "run.json"
        return done, json.loads(record.read_text()) if record.exists() else None

    return run_config


@pytest.fixture
def logged(tmp_path):
    """A tiny model in the layout of Llama-2-7b in the registry azureml-meta."""
    from transformers import LlamaConfig, LlamaForCausalLM

    place = tmp_path / "mlflow_model_folder"
    config = LlamaConfig(**LLAMA)
    LlamaForCausalLM(config).save_pretrained(place / "data" / "model")
    config.save_pretrained(place / "data" / "config")
    flavor = {"hf_pretrained_class": "AutoModelForCausalLM", "task_type": "text-generation"}
    described = {"flavors": {"hftransformersv2": {**flavor, "model_data": "data"}, "python_function": {}}}
    (place / "MLmodel").write_text(json.dumps(described))
    return place


def test_the_llama_of_a_registry_is_converted_and_fetched_once(azureml_emulator, run, logged):
    azureml_emulator.add_model("Llama-2-7b", logged, "13", "mlflow_model", registry="azureml-meta")
    registered = {"name": "Llama-2-7b", "registry_name": "azureml-meta", "version": "13"}
    config = {
        "input_model": {
            "type": "PyTorchModel",
            "config": {
                "model_path": {"type": "azureml_registry_model", "config": registered},
                "model_file_format": "PyTorch.MLflow",
                "hf_config": {"model_name": "meta-llama/Llama-2-7b-hf", "task": "text-generation"},
            },
        },
        "passes": {"convert": {"type": "OnnxConversion", "config": {"target_opset": 17}}},
    }

    done, record = run(config)
    before = len(azureml_emulator.requests)
    again, _ = run(config)

    assert done.returncode == 0, done.stderr
    assert record["status"] == "succeeded"
    assert again.returncode == 0, again.stderr
    assert len(azureml_emulator.requests) == before
    secret = azureml_emulator.identities.client_secret
    assert secret not in json.dumps(record) + done.stderr + done.stdout


SCRIPT = """
from doubling import double

def rows(dataset, **_):
    return [({"x": [float(each["x"])]}, double(each["x"])) for each in dataset]
"""


@pytest.mark.parametrize("jobs", [False, True], ids=["here", "jobs"])
def test_scripts_and_data_come_from_a_datastore(azureml_emulator, run, aml, tmp_path, jobs):
    import onnx
    from onnx import TensorProto, helper

    node = helper.make_node("Identity", ["x"], ["y"])
    shapes = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 1]) for name in "xy"]
    graph = helper.make_graph([node], "g", shapes[:1], shapes[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "m.onnx")
    folder = tmp_path / "given"
    (folder / "data").mkdir(parents=True)
    (folder / "code").mkdir()
    (folder / "data" / "rows.json").write_text('{"x": 0}\n{"x": 1}\n')
    (folder / "script.py").write_text(SCRIPT)
    (folder / "code" / "doubling.py").write_text("def double(value):\n    return int(value)\n")
    azureml_emulator.add_blob(folder, "given")
    azureml_emulator.add_model("identity", tmp_path / "m.onnx")
    store = "azureml://datastores/workspaceblobstore/paths/given"
    data = {
        "name": "rows",
        "type": "HuggingfaceContainer",
        "user_script": f"{store}/script.py",
        "script_dir": f"{store}/code",
        "load_dataset_config": {"params": {"data_name": "json", "data_files": {"train": f"{store}/data/rows.json"}}},
        "pre_process_data_config": {"type": "rows"},
    }
    metric = {"name": "l", "type": "latency", "data_config": "rows", "sub_types": [{"name": "avg"}]}
    config = {
        "input_model": {
            "type": "ONNXModel",
            "config": {"model_path": {"type": "azureml_model", "config": {"name": "identity", "version": "1"}}},
        },
        "data_configs": [data],
        "evaluators": {"e": {"metrics": [metric]}},
        "passes": {"convert": {"type": "OnnxOpVersionConversion", "config": {"target_opset": 18}}},
        "engine": {"evaluator": "e"},
    }
    if jobs:
        config["systems"] = {"cloud": aml}
        config["engine"] |= {"host": "cloud", "target": "cloud"}

    done, record = run(config)

    assert done.returncode == 0, done.stderr + done.stdout
    assert record["results"][0]["candidates"][0]["metrics"]["l-avg"]["value"] > 0
    read = {each["uri"] for job in azureml_emulator.jobs.values() for each in job.definition["inputs"].values()}
    assert any(uri.endswith("/paths/given/code") for uri in read) is jobs
    assert not any("/hfopt/" in name and name.endswith("doubling.py") for name in azureml_emulator.uploads)
    assert [*(tmp_path / ".hfopt-cache" / "unfinished").glob("*")] == []
