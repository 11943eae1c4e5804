"""An evaluator whose only metric is that of the page on Hugging Face, over labelled rows of the name that it uses."""

from __future__ import annotations

import csv
import json

import pytest
import torch
import transformers
from sklearn.metrics import accuracy_score, f1_score

METRIC = json.loads("""
{
    "name": "accuracy",
    "type": "accuracy",
    "backend": "huggingface_metrics",
    "data_config": "oasst1_train",
    "sub_types": [
        {"name": "accuracy", "priority": -1},
        {"name": "f1"}
    ]
}
""")


@pytest.mark.timeout(300)
def test_accuracy_and_f1_are_those_of_scikit_learn(thread, tiny_model):
    thread.config["data_configs"][0]["name"] = "oasst1_train"
    thread.config["evaluators"]["e"]["metrics"] = [METRIC]
    thread.config["passes"] = {"conversion": {"type": "OnnxConversion"}}
    with open(thread.folder / "rows.csv") as file:
        rows = [*csv.DictReader(file)]
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tiny_model).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_model)
    with torch.inference_mode():
        encoded = tokenizer([row["text"] for row in rows], padding=True, return_tensors="pt")
        said = model(**encoded).logits.argmax(1)
    labels = [int(row["label"]) for row in rows]

    done = thread.run()

    assert done.returncode == 0, done.stderr
    (result,) = thread.record()["results"]
    for found in (result["input_model"]["metrics"], result["candidates"][0]["metrics"]):
        assert {key: metric["value"] for key, metric in found.items()} == pytest.approx(
            {"accuracy-accuracy": accuracy_score(labels, said), "accuracy-f1": f1_score(labels, said)}
        )
