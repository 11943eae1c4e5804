"""What goes wrong is one sentence that says where, what and what to do next; exit code 1, 2 or 3, and no traceback."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time

import pytest

from hfopt.cli.main import main
from hfopt_hf_model_loader.tasks import SYNONYMS, TASKS


@pytest.fixture
def told(thread, monkeypatch, capsys, tiny_model):
    """Runs the thread's config in this process: the exit code, and what is said, with its places shortened."""
    monkeypatch.chdir(thread.folder)

    def run(*arguments):
        thread.write()
        code = main(["run", "config.json", "--in-process", *arguments])
        printed = capsys.readouterr()
        said = printed.out + printed.err
        assert "Traceback" not in said
        return code, said.replace(str(tiny_model), "MODEL").replace(str(thread.folder), "HERE")

    return run


def only_conversion(thread):
    thread.config["passes"] = {"conversion": thread.config["passes"]["conversion"]}
    del thread.config["engine"]["evaluator"]


def mistake(thread, path, value):
    place = thread.config
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value


METRICS = ("evaluators", "e", "metrics")
PARAMS = ("data_configs", 0, "params_config")
MISTAKES = {
    "wrong type": (
        ("passes", "conversion", "config"),
        {"target_opset": "newest"},
        "passes.conversion.config.target_opset: expected an integer, got a string\n",
    ),
    "unknown task": (
        ("input_model", "config", "hf_config", "task"),
        "text-clasification",
        f"input_model.config.hf_config.task: no task named 'text-clasification'; there is "
        f"{', '.join(sorted({*TASKS, *SYNONYMS}))}\n"
        "  hint: did you mean 'text-classification'?\n",
    ),
    "missing model folder": (
        ("input_model", "config", "model_path"),
        "./models/none",
        "input_model.config.model_path: no such folder: ./models/none; and it is not the name of a model on the hub\n",
    ),
    "static quantization without data": (
        ("passes", "quantization", "config"),
        {"quant_mode": "static"},
        "passes.quantization.config: static quantization needs a data_config to calibrate with; dynamic needs none\n",
    ),
    "evaluator without metrics": (
        METRICS,
        [],
        "evaluators.e.metrics: must have at least 1, has 0\n",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_the_config_is_told_before_anything_runs(thread, told, name):
    path, value, message = MISTAKES[name]
    mistake(thread, path, value)

    code, said = told()

    assert code == 2
    assert re.fullmatch(rf"hfopt: config\.json:\d+: {re.escape(message)}", said)


def test_an_output_folder_that_can_not_be_written_is_told_before_anything_runs(thread, told):
    (thread.folder / "file").touch()
    thread.config["engine"]["output_dir"] = "file/out"

    assert told() == (2, "hfopt: HERE/file/out: can't be written: Not a directory\n")


def test_a_column_that_the_data_have_not(thread, told):
    mistake(thread, (*PARAMS, "input_cols"), ["txet"])

    code, said = told()

    assert code == 1
    assert re.search(r"no result: data rows: .*: the data have no column 'txet'; they have text, label\n", said)
    assert "hint: did you mean 'text'?" in said


def test_a_truncated_safetensors_file(thread, told, tiny_model):
    shutil.copytree(tiny_model, thread.folder / "model")
    weights = thread.folder / "model" / "model.safetensors"
    size = weights.stat().st_size
    os.truncate(weights, size - 100)
    thread.config["input_model"]["config"]["model_path"] = "./model"
    only_conversion(thread)

    code, said = told()

    assert code == 1
    assert (
        "no result: input_model: HERE/model/model.safetensors is damaged: "
        f"it has {size - 100} bytes, and its header promises {size}\n"
    ) in said
    assert "hint: fetch it again" in said


def test_a_model_whose_task_does_not_fit(thread, told):
    thread.config["input_model"]["config"]["hf_config"]["task"] = "question-answering"
    thread.config["data_configs"][0]["params_config"]["task"] = "text-classification"
    only_conversion(thread)

    code, said = told()

    assert code == 1
    assert (
        "no result: input_model: the model was saved as BertForSequenceClassification, which has no head for "
        "question-answering\n"
    ) in said
    assert "hint: choose the task that it was trained for" in said


def onnx_input(thread, content):
    (thread.folder / "input.onnx").write_bytes(content)
    thread.config["input_model"] = {"type": "ONNXModel", "config": {"model_path": "input.onnx"}}
    thread.config["data_configs"] = []
    thread.config["passes"] = {"tuning": {"type": "OrtPerfTuning"}}
    del thread.config["engine"]["evaluator"], thread.config["evaluators"]


def test_a_corrupt_onnx_file(thread, told):
    onnx_input(thread, b"not an ONNX model at all")

    code, said = told()

    assert code == 1
    assert "no result: input_model: HERE/input.onnx is not an ONNX model, or is damaged\n" in said


def test_a_model_that_a_session_refuses_says_what_onnx_runtime_said(thread, told):
    from onnx import TensorProto, helper

    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch_size"]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Nonsense", ["x"], ["y"], domain="acme")], "g", values[:1], values[1:])
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("acme", 1)]
    onnx_input(thread, helper.make_model(graph, opset_imports=imports, ir_version=9).SerializeToString())

    code, said = told()

    assert code == 1
    assert "no result: tuning: the ONNXModel can't be timed: ONNX Runtime refuses input.onnx: " in said
    assert "acme:Nonsense" in said


def test_a_truncated_artifact_is_noticed_and_made_again(thread, told):
    only_conversion(thread)
    assert told()[0] == 0
    key = thread.steps()["conversion"]["key"]
    model = thread.folder / ".hfopt-cache" / "artifacts" / key[:2] / key / "model.onnx"
    whole = model.read_bytes()
    os.truncate(model, 1000)

    code, _ = told()

    assert code == 0
    assert thread.steps()["conversion"]["cached"] is False
    assert thread.steps()["input_model"]["cached"] is True
    assert model.read_bytes() == whole


LIMITED = """
import resource, signal, sys
from hfopt.cli.main import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
sys.exit(main(["run", "config.json"]))
"""


def test_a_disk_that_is_full_is_a_failed_step_and_the_same_command_goes_on_once_there_is_room(thread, told):
    """As full as it can be made without a disk to fill: no file may grow beyond 30 kB."""
    only_conversion(thread)
    thread.write()

    done = subprocess.run([sys.executable, "-c", LIMITED], cwd=thread.folder, capture_output=True, text=True)

    assert done.returncode == 1, done.stderr
    assert "no result: conversion: " in done.stdout
    assert "File too large" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert list((thread.folder / ".hfopt-cache" / "making").iterdir()) == []
    code, said = told()
    assert code == 0, said
    assert thread.steps()["input_model"]["cached"] is True


def on_the_hub(thread, **hf_config):
    config = {"model_name": "acme/tiny", "task": "text-classification", **hf_config}
    thread.config["input_model"]["config"] = {"hf_config": config}
    only_conversion(thread)
    thread.config["data_configs"] = []
    del thread.config["evaluators"]


def test_a_hub_that_can_not_be_reached_is_told_within_seconds(thread, hub):
    on_the_hub(thread)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
    thread.environment = {**hub.environment, "HF_ENDPOINT": endpoint}
    started = time.monotonic()

    done = thread.run()

    assert done.returncode == 1
    assert f"fetch acme/tiny: the hub at {endpoint} can't be reached for acme/tiny\n" in done.stdout
    assert "hint: check the connection; --offline uses what was downloaded before" in done.stderr
    assert time.monotonic() - started < 15


def test_a_revision_that_is_gone(thread, hub, tiny_model):
    hub.add_model("acme/tiny", tiny_model)
    on_the_hub(thread, from_pretrained_args={"revision": "v9"})
    thread.environment = dict(hub.environment)

    done = thread.run()

    assert done.returncode == 1
    assert "no result: fetch acme/tiny: acme/tiny has no revision 'v9'\n" in done.stdout
    assert json.loads((thread.folder / "hfopt-output" / "run.json").read_text())["status"] == "failed"
