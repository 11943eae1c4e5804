"""A real model is converted and quantized in a container, and evaluated here: artifacts are as when made here."""

from __future__ import annotations

import csv
import json
import shutil

import pytest

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]
WORDS = ["good", "bad", "film", "plot", "dull", "bright"]


@pytest.fixture
def classifier(project):
    """The project with a BERT of 2 layers, seed 0, and labelled rows."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    folder = project.folder / "model"
    folder.mkdir()
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    BertForSequenceClassification(BertConfig(vocab_size=len(vocabulary), **sizes)).save_pretrained(folder)
    with open(project.folder / "rows.csv", "w", newline="") as stream:
        csv.writer(stream).writerows([["text", "label"], *([f"{a} {b}", len(a) % 2] for a in WORDS for b in WORDS)])
    params = {"data_name": "csv", "data_files": "rows.csv", "input_cols": ["text"], "label_cols": ["label"]}
    hf_config = {"task": "text-classification"}
    metric = {"name": "m", "type": "accuracy", "backend": "huggingface_metrics", "data_config": "rows"}
    project.config |= {
        "input_model": {"type": "PyTorchModel", "config": {"model_path": "model", "hf_config": hf_config}},
        "data_configs": [{"name": "rows", "type": "HuggingfaceContainer", "params_config": params}],
        "evaluators": {"e": {"metrics": [metric | {"sub_types": [{"name": "accuracy"}]}]}},
        "passes": {"conversion": {"type": "OnnxConversion"}, "quantization": {"type": "OnnxDynamicQuantization"}},
        "engine": {"host": "box", "evaluator": "e"},
    }
    return project


def digests(project):
    files = project.folder.glob(".hfopt-cache/artifacts/*/*/manifest.json")
    manifests = [json.loads(file.read_text()) for file in files]
    return {each["key"]: (each["name"], each["digest"]) for each in manifests}


def test_what_is_made_in_a_container_is_what_is_made_here(classifier):
    done = classifier.run()
    assert done.returncode == 0, done.stderr
    in_container, found = digests(classifier), classifier.candidate()["metrics"]
    shutil.rmtree(classifier.folder / ".hfopt-cache")
    classifier.config["engine"]["host"] = "local_system"

    done = classifier.run()

    assert done.returncode == 0, done.stderr
    assert digests(classifier) == in_container
    assert {"conversion", "quantization"} <= {name for name, _ in in_container.values()}
    assert classifier.candidate()["metrics"] == found
