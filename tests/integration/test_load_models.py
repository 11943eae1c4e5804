"""What docs/how-to/load-models.md shows, run to a result whose numbers are torch's."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "load-models.md"
IDS = np.array([[2, 5, 6, 7, 3], [2, 8, 9, 3, 0]])
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]])


def shown(heading: str) -> dict:
    """The first block of JSON below a heading of the page."""
    section = PAGE.read_text().partition(f"\n## {heading}\n")[2]
    return json.loads(re.search(r"```json\n(.*?)```", section, re.DOTALL)[1])


@pytest.fixture
def project(thread):
    """A project of one pass, evaluated by accuracy and size."""
    thread.config["passes"] = {"conversion": {"type": "OnnxConversion"}}
    del thread.config["evaluators"]["e"]["metrics"][1]
    return thread


def run(project, heading: str) -> None:
    project.config |= shown(heading)
    done = project.run()
    assert done.returncode == 0, done.stderr


def best_logits(project) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(project.folder / "hfopt-output" / "best" / "model.onnx"))
    feeds = {"input_ids": IDS, "attention_mask": MASK, "token_type_ids": IDS * 0}
    return session.run(["logits"], {each.name: feeds[each.name] for each in session.get_inputs()})[0]


def logits(model) -> np.ndarray:
    import torch

    with torch.inference_mode():
        return model.eval()(input_ids=torch.tensor(IDS), attention_mask=torch.tensor(MASK)).logits.numpy()


def classifier(place: Path):
    from transformers import AutoModelForSequenceClassification

    return AutoModelForSequenceClassification.from_pretrained(place)


def test_model_path_is_what_is_loaded_whatever_model_name_says(project, tiny_model):
    shutil.copytree(tiny_model, project.folder / "path_to_local_model")

    run(project, "A local folder beside a name")

    np.testing.assert_allclose(best_logits(project), logits(classifier(tiny_model)), atol=1e-5)


def test_an_mlflow_folder_is_the_model_that_was_logged(project, tiny_model):
    logged = project.folder / "logged_model"
    for part, names in {
        "data/model": ("config.json", "model.safetensors"),
        "data/config": ("config.json",),
        "data/tokenizer": ("tokenizer.json", "tokenizer_config.json"),
    }.items():
        (logged / part).mkdir(parents=True)
        for name in names:
            shutil.copy(tiny_model / name, logged / part)
    (logged / "MLmodel").write_text("flavors: {hftransformersv2: {hf_pretrained_class: AutoModel, task_type: other}}")
    before = sorted(logged.rglob("*"))

    run(project, "An MLflow folder")

    np.testing.assert_allclose(best_logits(project), logits(classifier(tiny_model)), atol=1e-5)
    assert sorted(logged.rglob("*")) == before
    assert project.record()["results"][0]["input_model"]["metrics"]["accuracy-accuracy"]["n"] == 64
    assert (project.folder / "hfopt-output" / "best" / "tokenizer.json").is_file()
