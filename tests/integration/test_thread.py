"""The real thread: a PyTorch classifier becomes a fused, quantized, tuned ONNX model, measured against itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

PASSES = ["conversion", "fusion", "quantization", "tuning"]


def cached(thread):
    return {name for name, step in thread.steps().items() if step["cached"]}


def test_four_passes_yield_a_measured_model_that_loads_with_onnxruntime_alone(finished):
    result = finished.record()["results"][0]
    metrics = result["candidates"][0]["metrics"]
    assert list(metrics) == ["accuracy-accuracy", "accuracy-f1", "latency-p50", "size-bytes"]
    assert metrics["accuracy-accuracy"]["n"] == 64
    assert metrics["accuracy-accuracy"]["difference"]["low"] <= 0 <= metrics["accuracy-accuracy"]["difference"]["high"]
    assert metrics["size-bytes"]["value"] == result["candidates"][0]["size_bytes"] < result["input_model"]["size_bytes"]
    assert result["best"] == result["candidates"][0]["id"]
    import onnxruntime

    session = onnxruntime.InferenceSession(str(finished.folder / "hfopt-output" / "best" / "model.onnx"))
    assert [each.name for each in session.get_inputs()] == ["input_ids", "attention_mask", "token_type_ids"]


def test_accuracy_in_the_record_is_what_torch_and_scikit_learn_find(finished, tiny_model):
    import csv

    import torch
    from sklearn.metrics import accuracy_score, f1_score
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    with open(finished.folder / "rows.csv") as stream:
        rows = list(csv.DictReader(stream))
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    model = AutoModelForSequenceClassification.from_pretrained(tiny_model).eval()
    with torch.inference_mode():
        found = [int(model(**tokenizer(row["text"], return_tensors="pt")).logits.argmax()) for row in rows]
    labels = [int(row["label"]) for row in rows]

    metrics = finished.record()["results"][0]["input_model"]["metrics"]
    assert metrics["accuracy-accuracy"]["value"] == pytest.approx(accuracy_score(labels, found))
    assert metrics["accuracy-f1"]["value"] == pytest.approx(f1_score(labels, found))


def test_a_second_run_repeats_nothing_and_a_changed_metric_converts_nothing(finished):
    first = finished.record()["results"][0]["candidates"][0]["metrics"]

    done = finished.run()

    assert done.returncode == 0
    again = set(finished.steps()) - cached(finished)  # the machine may have been busy at first, and be idle now
    assert again == {name for name in finished.steps() if f"{name} is done again: " in done.stderr}
    assert not again - {"tuning", "predict tuning", "score tuning", "measure tuning"}
    second = finished.record()["results"][0]["candidates"][0]["metrics"]
    assert all(second[key] == first[key] for key in first if not again or not key.startswith("latency"))

    finished.config["evaluators"]["e"]["metrics"][0]["sub_types"] = [{"name": "precision"}]
    assert finished.run().returncode == 0
    assert cached(finished) >= {*PASSES, "input_model", "data rows"}
    assert "evaluate tuning" not in cached(finished)


def test_inference_settings_of_a_metric_reach_the_sessions_of_its_figures_and_no_others(finished):
    accuracy, latency, _ = finished.config["evaluators"]["e"]["metrics"]
    accuracy["user_config"] = {"inference_settings": {"onnx": {"session_options": {"enable_profiling": True}}}}
    latency["user_config"] = {"io_bind": True}

    done = finished.run()

    assert done.returncode == 0, done.stderr
    steps = finished.steps()
    assert [name for name in steps if not steps[name]["cached"]] == [
        "predict input_model",
        "predict tuning",
        "score tuning",
    ]
    assert (finished.folder / "hfopt-output" / "hfopt.log").read_text().count("profile written to") == 1


def test_inference_settings_of_a_metric_are_checked_as_a_models_are(finished):
    metric = finished.config["evaluators"]["e"]["metrics"][0]
    metric["user_config"] = {"inference_settings": {"onnx": {"session_options": {"execution_mod": 1}}}}

    done = finished.run()

    place = "evaluators.e.metrics[0].user_config.inference_settings.onnx"
    assert done.returncode == 2
    assert f"{place}.session_options.execution_mod: unknown key\n  hint: did you mean 'execution_mode'?" in done.stderr


def test_a_changed_data_file_is_noticed(finished):
    with open(finished.folder / "rows.csv", "a") as stream:
        stream.write("a bright story,1\n")

    assert finished.run().returncode == 0

    assert finished.steps()["data rows"]["cached"] is False
    assert finished.steps()["conversion"]["cached"] is True
    assert finished.record()["results"][0]["candidates"][0]["metrics"]["accuracy-accuracy"]["n"] == 65


def test_a_local_model_and_local_data_open_no_socket(without_sockets, finished_once):
    connect = "import socket; socket.create_connection(('127.0.0.1', 9))"
    check = subprocess.run(
        [sys.executable, "-c", connect], env=os.environ | without_sockets, capture_output=True, text=True
    )

    assert "a socket was opened" in check.stderr
    assert finished_once.environment == without_sockets
    assert finished_once.record()["status"] == "succeeded"


def test_the_model_in_best_predicts_what_the_source_predicts(finished, tiny_model):
    """Without quantization, so that the two are comparable to the last digits."""
    import onnxruntime
    import torch
    from transformers import AutoModelForSequenceClassification

    finished.config["passes"] = {
        "conversion": {"type": "OnnxConversion"},
        "fusion": finished.config["passes"]["fusion"],
    }
    assert finished.run().returncode == 0
    session = onnxruntime.InferenceSession(str(finished.folder / "hfopt-output" / "best" / "model.onnx"))
    ids = np.array([[2, 5, 6, 7, 3], [2, 8, 9, 3, 0]])
    mask = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]])

    (found,) = session.run(["logits"], {"input_ids": ids, "attention_mask": mask, "token_type_ids": ids * 0})

    model = AutoModelForSequenceClassification.from_pretrained(tiny_model).eval()
    with torch.inference_mode():
        expected = model(torch.tensor(ids), torch.tensor(mask)).logits.numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_terminal_shows_no_third_party_noise(finished_once):
    for noise in ("Warning", "warning", "torch.", "[W", "FutureWarning"):
        assert noise not in finished_once.shown
    assert Path(finished_once.folder, "hfopt-output", "hfopt.log").exists()


def test_the_plugin_of_the_how_to_runs_as_it_stands_there(finished):
    page = Path(__file__).parents[2] / "docs" / "how-to" / "write-a-plugin.md"
    code = page.read_text().split("```python\n")[1].split("```")[0]
    (finished.folder / "round_weights.py").write_text(code)
    finished.config["passes"] = {
        "conversion": {"type": "OnnxConversion"},
        "rounding": {"type": "RoundWeights", "config": {"digits": 2}},
    }

    done = finished.run("-p", "round_weights.py")

    assert done.returncode == 0, done.stderr
    assert finished.steps()["conversion"]["cached"] is True
    import onnx
    from onnx import numpy_helper

    model = onnx.load(str(finished.folder / "hfopt-output" / "best" / "model.onnx"))
    weights = [numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    floats = [weight for weight in weights if weight.dtype == np.float32]
    assert floats
    assert all((weight == weight.round(2)).all() for weight in floats)
