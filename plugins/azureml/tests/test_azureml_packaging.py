"""The best model of a run becomes an asset of a workspace or registry, once."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.engine

DIMENSIONS = ["batch", 4]


@pytest.fixture
def run(azureml_emulator, client, tmp_path):
    """Runs a tiny ONNX model through one pass; returns what was printed, and the receipts by name."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper, save

    weights = numpy_helper.from_array(np.arange(16, dtype=np.float32).reshape(4, 4) / 16, "w")
    shapes = [helper.make_tensor_value_info(name, TensorProto.FLOAT, DIMENSIONS) for name in "xy"]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", shapes[:1], shapes[1:], [weights])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "m.onnx")
    data = {"input_names": ["x"], "input_shapes": [[1, 4]]}
    metric = {"name": "l", "type": "latency", "data_config": "rows", "sub_types": [{"name": "avg"}]}

    def run_config(*packaging, **section):
        config = {
            "azureml_client": {**client, **section},
            "input_model": {"type": "ONNXModel", "config": {"model_path": "m.onnx"}},
            "data_configs": [{"name": "rows", "type": "DummyDataContainer", "params_config": data}],
            "evaluators": {"e": {"metrics": [metric]}},
            "passes": {"convert": {"type": "OnnxOpVersionConversion", "config": {"target_opset": 18}}},
            "engine": {"evaluator": "e", "packaging_config": list(packaging)},
        }
        (tmp_path / "config.json").write_text(json.dumps(config))
        command = [sys.executable, "-m", "hfopt", "run", "config.json"]
        environment = azureml_emulator.client_env()
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=110)
        made = (tmp_path / "hfopt-output").glob("*.azureml.json")
        return done, {file.name.partition(".")[0]: json.loads(file.read_text()) for file in made}, tmp_path

    return run_config


def test_the_best_model_is_registered_once_with_its_figures(azureml_emulator, run):
    wanted = [
        {"type": "AzureMLModels", "name": "best-model", "config": {"tags": {"team": "a"}}},
        {"type": "AzureMLModels", "name": "shared", "config": {"registry_name": "ours", "version": 7}},
        {"type": "AzureMLData", "name": "best-data"},
    ]
    azureml_emulator.workspace.add_registry("ours")

    done, made, folder = run(*wanted)
    uploaded = dict(azureml_emulator.uploads)
    again, made_again, _ = run(*wanted)

    assert done.returncode == 0, done.stderr
    assert again.returncode == 0, again.stderr
    assert made == made_again
    assert {name: each["version"] for name, each in made.items()} == {
        "best-model": "1",
        "shared": "7",
        "best-data": "1",
    }
    assert azureml_emulator.uploads == uploaded
    assert max(uploaded.values()) == 1
    record = json.loads((folder / "hfopt-output" / "run.json").read_text())
    figure = record["results"][0]["candidates"][0]["metrics"]["l-avg"]
    assert made["best-model"]["properties"]["l-avg"] == str(figure["value"])
    assert made["best-model"]["properties"]["hfopt.size_bytes"] == str(
        record["results"][0]["candidates"][0]["size_bytes"]
    )
    assert "\x1b[39m" not in done.stderr


def test_a_registry_that_is_not_there_is_a_sentence_and_the_model_is_kept(azureml_emulator, run):
    done, made, folder = run({"type": "AzureMLModels", "name": "m", "config": {"registry_name": "no"}})

    assert done.returncode != 0
    assert "there is no model m" in done.stderr
    assert made == {}
    assert (folder / "hfopt-output" / "best" / "model.onnx").exists()
