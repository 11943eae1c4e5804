"""A model and its data by name, from a hub that is served on loopback."""

from __future__ import annotations

import pytest

from hfopt_hf_hub.testing.hub import TOKEN

CARD = b"""---
configs:
- config_name: films
  data_files: [{split: validation, path: films.csv}]
- config_name: books
  data_files: [{split: validation, path: books.csv}]
---
"""


@pytest.fixture
def by_name(thread, hub, tiny_model):
    """A project whose model and data are on a hub, with one pass."""
    hub.add_model("acme/tiny", tiny_model)
    rows = (thread.folder / "rows.csv").read_bytes()
    (thread.folder / "rows.csv").unlink()
    hub.add_dataset("acme/reviews", {"README.md": CARD, "films.csv": rows, "books.csv": rows})
    classifier = {"model_name": "acme/tiny", "task": "text-classification"}
    thread.config["input_model"]["config"] = {"hf_config": classifier}
    params = {"data_name": "acme/reviews", "subset": "films", "input_cols": ["text"], "label_cols": ["label"]}
    thread.config["data_configs"][0]["params_config"] = params
    thread.config["passes"] = {"conversion": {"type": "OnnxConversion"}}
    del thread.config["evaluators"]["e"]["metrics"][1]
    thread.environment = dict(hub.environment)
    return thread


def accuracy(thread):
    return thread.record()["results"][0]["input_model"]["metrics"]["accuracy-accuracy"]["value"]


def test_a_run_takes_model_and_data_from_the_hub_and_later_offline_from_the_cache(by_name, hub):
    first = by_name.run()
    assert first.returncode == 0, first.stderr
    found = accuracy(by_name)
    assert "acme/tiny: revision main is " in first.stderr
    assert "acme/reviews: revision main is " in first.stderr
    weights = [request for request in hub.requests if request.path.endswith("model.safetensors")]
    assert [request.method for request in weights] == ["HEAD"]
    assert not any(request.path.endswith("books.csv") for request in hub.requests)

    asked = len(hub.requests)
    offline = by_name.run("--offline")

    assert offline.returncode == 0, offline.stderr
    assert len(hub.requests) == asked
    assert all(step["cached"] for step in by_name.steps().values())
    assert accuracy(by_name) == found


def test_a_model_that_the_hub_has_not_is_one_sentence(by_name, hub):
    by_name.config["input_model"]["config"]["hf_config"]["model_name"] = "acme/none"

    done = by_name.run()

    assert done.returncode != 0
    assert "the hub has no model 'acme/none' that is open to you" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_token_in_the_environment_opens_a_gated_model_and_is_written_nowhere(by_name, hub, tiny_model, tmp_path):
    hub.add_model("acme/gated", tiny_model, readers={TOKEN})
    by_name.config["input_model"]["config"]["hf_config"]["model_name"] = "acme/gated"
    refused = by_name.run()
    assert refused.returncode == 1
    assert "acme/gated is gated: it needs an account that has accepted its licence" in refused.stderr

    by_name.environment["HF_TOKEN"] = TOKEN
    done = by_name.run()

    assert done.returncode == 0, done.stderr
    written = [file for file in tmp_path.rglob("*") if file.is_file() and TOKEN.encode() in file.read_bytes()]
    assert written == []
    assert TOKEN not in done.stdout + done.stderr
