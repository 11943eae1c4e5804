"""What docs/how-to/user-scripts.md shows of Hugging Face data with functions, to numbers that transformers has too."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
import torch
import transformers
from sklearn.metrics import accuracy_score

pytestmark = pytest.mark.timeout(600)  # whole runs

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "user-scripts.md"
HEADING = "## Hugging Face data with functions of one's own\n"


def rows_of(thread):
    with open(thread.folder / "rows.csv") as file:
        rows = [*csv.DictReader(file)]
    return {name: [row[name] for row in rows] for name in rows[0]}


@pytest.fixture
def project(thread):
    """The config and script of the page, with reviews."""
    config, script = re.search(
        r"```json\n(.*?)```.*?```python\n(.*?)```", PAGE.read_text().partition(HEADING)[2], re.S
    ).groups()
    (thread.folder / "reviews_script.py").write_text(script)
    thread.config = {"input_model": thread.config["input_model"], **json.loads(config)}
    (thread.folder / "reviews").mkdir()
    reviews = [f"{'*' * (row % 6)} {text}" for row, text in enumerate(rows_of(thread)["text"][:40])]
    (thread.folder / "reviews" / "reviews.txt").write_text("\n".join(reviews) + "\n")
    return thread, reviews


def logits_of(folder, texts):
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        return model(**tokenizer(list(texts), padding=True, return_tensors="pt")).logits


def test_functions_load_rows_and_make_predictions(project, tiny_model):
    thread, reviews = project
    texts, labels = zip(*((each.lstrip("* "), each.startswith("****")) for each in reviews), strict=True)
    rows = rows_of(thread)

    done = thread.run()

    assert done.returncode == 0, done.stderr
    (result,) = thread.record()["results"]
    sure = logits_of(tiny_model, texts).softmax(1)[:, 1] > 0.5
    turned = 1 - logits_of(tiny_model, rows["text"]).argmax(1)
    expected = {
        "reviews-accuracy_score": accuracy_score(labels, sure),
        "turned-accuracy_score": accuracy_score([*map(int, rows["label"])], turned),
    }
    for found in (result["input_model"]["metrics"], result["candidates"][0]["metrics"]):
        assert {key: found[key]["value"] for key in expected} == expected
    assert result["candidates"][0]["metrics"]["latency-avg"]["value"] > 0


def test_an_edited_script_predicts_anew_and_rows_stay(project):
    thread, _ = project
    thread.config["data_configs"][0]["load_dataset_config"] = {"data_name": "csv", "data_files": "rows.csv"}
    del thread.config["data_configs"][0]["params_config"]["data_dir"]
    thread.config["data_configs"][0]["params_config"]["max_samples"] = 15  # an odd number: no accuracy is a half
    thread.config["evaluators"]["evaluator"]["metrics"] = thread.config["evaluators"]["evaluator"]["metrics"][:1]

    def accuracy():
        done = thread.run()
        assert done.returncode == 0, done.stderr
        return thread.record()["results"][0]["candidates"][0]["metrics"]["reviews-accuracy_score"]["value"]

    first, script = accuracy(), thread.folder / "reviews_script.py"
    script.write_text(script.read_text().replace("> least", "<= least"))

    assert accuracy() == pytest.approx(1 - first)


def test_mistakes_of_named_data_are_told_once(project):
    thread, _ = project
    thread.config["data_configs"][1]["params_config"]["splt"] = "train"

    done = thread.run()

    assert done.returncode == 2
    assert done.stderr.count("splt: unknown key") == 1


def test_data_with_another_script_takes_no_function_of_the_metric(project):
    thread, _ = project
    thread.config["evaluators"]["evaluator"]["metrics"][1]["data_config"] = "reviews"
    thread.config["data_configs"][0]["user_script"] = "other_script.py"
    (thread.folder / "other_script.py").write_text("")

    done = thread.run()

    assert done.returncode == 2
    fact = "goes with dataloader_func, or with a data_config that has no other user_script"
    assert f"metrics[1].user_config.post_processing_func: {fact}" in done.stderr
