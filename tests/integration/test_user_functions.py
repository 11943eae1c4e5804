"""What docs/how-to/user-scripts.md shows of data and metrics, run to numbers that PyTorch alone has too."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "user-scripts.md"
MODEL_SCRIPT = """
import torch

class Classifier(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.filter = torch.nn.Conv2d(3, 8, kernel_size=3)
        self.head = torch.nn.Linear(8, 4)

    def forward(self, image):
        return 20 * self.head(torch.relu(self.filter(image)).mean((2, 3)))

def load(model_path):
    torch.manual_seed(0)
    return Classifier()

def dummy_inputs(model):
    return torch.rand(1, 3, 8, 8)
"""
BATCH = {"0": "batch_size"}
INPUT_MODEL = {
    "type": "PyTorchModel",
    "config": {
        "model_script": "model_script.py",
        "model_loader": "load",
        "dummy_inputs_func": "dummy_inputs",
        "io_config": {
            "input_names": ["image"],
            "output_names": ["scores"],
            "dynamic_axes": {"image": BATCH, "scores": BATCH},
        },
    },
}


def write_section(folder, heading):
    """The config and the script below a heading of the page."""
    text = PAGE.read_text().partition(f"## {heading}\n")[2]
    config, script = re.search(r"```json\n(.*?)```.*?```python\n(.*?)```", text, re.DOTALL).groups()
    (folder / re.match(r"# (\S+)", script)[1]).write_text(script)
    (folder / "config.json").write_text(json.dumps({"input_model": INPUT_MODEL, **json.loads(config)}))


@pytest.fixture
def project(tmp_path):
    """The section's config and script, with a model, 50 images and labels of which 10 are wrong."""
    write_section(tmp_path, "Data and metrics of one's own")
    (tmp_path / "model_script.py").write_text(MODEL_SCRIPT)
    names: dict = {}
    exec(MODEL_SCRIPT, names)
    model = names["load"](None).eval()
    images = np.random.default_rng(0).standard_normal((50, 3, 8, 8), dtype=np.float32)
    with torch.no_grad():
        logits = model(torch.from_numpy(images))
    labels = logits.argmax(1).numpy()
    labels[:10] = (labels[:10] + 1) % 4
    (tmp_path / "images").mkdir()
    np.save(tmp_path / "images" / "images.npy", images)
    np.save(tmp_path / "images" / "labels.npy", labels)
    return tmp_path, logits


def run(folder, code=0):
    command = [sys.executable, "-m", "hfopt", "run", "config.json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return done.stderr


def manifests(folder, component):
    found = [json.loads(file.read_text()) for file in folder.glob(".hfopt-cache/artifacts/*/*/manifest.json")]
    return [each for each in found if each["component"].endswith(component)]


def test_functions_of_the_page_yield_data_and_judge_models(project):
    folder, logits = project

    run(folder)

    result = json.loads((folder / "hfopt-output" / "run.json").read_text())["results"][0]
    before, after = result["input_model"]["metrics"], result["candidates"][0]["metrics"]
    odds = logits.softmax(1)
    expected = {
        "accuracy-accuracy_score": 0.8,
        "judged-right": 0.8,
        "judged-confidence": odds.amax(1).mean().item(),
        "entropy-bits": -(odds * odds.log2()).sum(1).mean().item(),
    }
    assert {key: before[key]["value"] for key in expected} == pytest.approx(expected, abs=1e-6)
    assert {key: after[key]["value"] for key in expected} == pytest.approx(expected, abs=0.05)
    assert (before["accuracy-accuracy_score"]["n"], before["judged-right"]["n"]) == (50, None)
    for key in ("judged-right", "entropy-bits"):
        assert [after[key][end] for end in ("low", "high")] == [None, None]
        assert after[key]["difference"]["low"] is None
    assert after["latency-avg"]["n"] > 0


EVALUATE_SCRIPT = """
import datasets
import evaluate

class Off(evaluate.Metric):
    def _info(self):
        features = datasets.Features({"predictions": datasets.Value("int64"), "references": datasets.Value("int64")})
        return evaluate.MetricInfo(description="", citation="", features=features)

    def _compute(self, predictions, references, by):
        return {"more": {"most": max(abs(a - b) / by for a, b in zip(predictions, references))}}
"""


def test_a_metric_of_evaluate_runs_code_of_ones_own_which_counts_in_keys(project):
    folder, logits = project
    text = (PAGE.parent / "metrics.md").read_text()
    metric = json.loads(re.findall(r"```json\n(.*?)```", text, re.DOTALL)[1])
    config = json.loads((folder / "config.json").read_text())
    rows = config["evaluators"]["evaluator"]["metrics"][0]["user_config"]
    config["evaluators"]["evaluator"]["metrics"] = [{**metric, "user_config": rows}]
    config["passes"].pop("quantization")
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "off.py").write_text(EVALUATE_SCRIPT)

    def found():
        run(folder)
        record = json.loads((folder / "hfopt-output" / "run.json").read_text())
        return record["results"][0]["candidates"][0]["metrics"]["distance-off"]

    labels = np.load(folder / "images" / "labels.npy")
    most = np.abs(logits.argmax(1).numpy() - labels).max()
    assert (found()["value"], found()["low"], found()["higher_is_better"]) == (most / 2, None, False)
    (folder / "off.py").write_text(EVALUATE_SCRIPT.replace("max(", "3 * max("))
    assert found()["value"] == 3 * most / 2


def test_rows_are_read_once_and_an_edited_script_reads_them_anew(project):
    folder, _ = project
    made = []
    script = folder / "data_script.py"
    for before, after in ((" ", " "), (" ", " "), ("argmax(dim=1)\n", "argmax(dim=-1)\n")):
        script.write_text(script.read_text().replace(before, after))
        run(folder)
        made.append((len(manifests(folder, ":DataloaderFunc")), len(manifests(folder, ":predict"))))

    assert made == [(4, 6), (4, 6), (8, 12)]


def test_a_function_that_fails_is_told_with_its_line(project):
    folder, _ = project
    script = folder / "data_script.py"
    script.write_text(script.read_text().replace("session = model.prepare_session()", "session = model.open()"))

    told = run(folder, code=1)

    failure = "evaluate fails: AttributeError: 'LoadedModel' object has no attribute 'open'\n    session = model.open()"
    assert f"data_script.py, line 43: {failure}" in told


def test_datasets_of_registered_functions_raw_files_and_ones(project):
    folder, _ = project
    write_section(folder, "Datasets of one's own, raw files, and ones")
    images, labels = (np.load(folder / "images" / f"{name}.npy") for name in ("images", "labels"))
    np.save(folder / "images" / "images.npy", images + 0.5)  # the script takes the mean away
    (folder / "raw" / "image").mkdir(parents=True)
    for row, image in enumerate(images):
        image.tofile(folder / "raw" / "image" / f"{row:03}.bin")
    np.save(folder / "raw" / "labels.npy", labels)

    run(folder)

    found = json.loads((folder / "hfopt-output" / "run.json").read_text())["results"][0]["candidates"][0]["metrics"]
    of_dataset, of_files = found["accuracy-accuracy_score"], found["raw-accuracy_score"]
    assert (of_dataset["value"], of_dataset["n"]) == (0.75, 40)  # of the first 40, 10 are wrong
    assert (of_files["value"], of_files["n"]) == (0.8, 50)
    assert found["latency-avg"]["value"] > 0
