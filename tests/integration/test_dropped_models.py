"""Early dropping on a real classifier: a clear loser costs a part of the rows, and the best is the same."""

from __future__ import annotations

import csv
import random

import pytest


@pytest.fixture
def decided(thread, tiny_model):
    """A project with 512 rows whose labels are what a BERT with large random weights says: half of them each."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    folder, chance = thread.folder / "decided", random.Random(1)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.save_pretrained(folder)
    words = sorted(word for word in tokenizer.vocab if word.isalpha())
    texts = [" ".join(chance.choices(words, k=chance.randint(2, 12))) for _ in range(512)]
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = BertConfig(vocab_size=len(tokenizer), max_position_embeddings=64, initializer_range=0.5, **sizes)
    model = BertForSequenceClassification(config).eval()
    with torch.inference_mode():
        logits = model(**tokenizer(texts, padding=True, return_tensors="pt")).logits
        margins = logits[:, 1] - logits[:, 0]
        model.classifier.bias[1] -= margins.median()
    model.save_pretrained(folder)
    with open(thread.folder / "rows.csv", "w", newline="") as stream:
        labels = (margins > margins.median()).int().tolist()
        csv.writer(stream).writerows([("text", "label"), *zip(texts, labels, strict=True)])
    thread.config["input_model"]["config"]["model_path"] = str(folder)
    return thread


@pytest.mark.timeout(300)
def test_a_model_that_loses_clearly_is_dropped_and_the_best_is_that_of_a_search_that_drops_none(decided):
    accuracy, _, size = decided.config["evaluators"]["e"]["metrics"]
    accuracy["sub_types"] = [{"name": "accuracy", "priority": 1}]
    size["sub_types"] = [{"name": "bytes", "priority": 2}]
    decided.config["evaluators"]["e"]["metrics"] = [accuracy, size]
    int8 = {"weight_type": "QUInt8", "per_channel": {"search": [True, False]}}
    int4 = {"block_size": 256, "is_symmetric": True}
    decided.config["passes"] = {
        "conversion": {"type": "OnnxConversion"},
        "quantization": [
            {"type": "OnnxDynamicQuantization", "config": int8},
            {"type": "OnnxMatMul4Quantizer", "config": int4},
        ],
    }

    def search(**strategy):
        decided.config["engine"]["search_strategy"] = {"search_algorithm": "exhaustive", **strategy}
        done = decided.run()
        assert done.returncode == 0, done.stderr
        (result,) = decided.record()["results"]
        return result["best"], result["candidates"]

    best, found = search()
    same, every = search(drop_early=False)

    assert [each["status"] for each in found] == ["succeeded", "succeeded", "dropped"]
    assert "can't reach" in found[-1]["error"]["message"]
    assert "all 512 rows, as 512 of them" not in found[-1]["error"]["message"]
    assert [each["status"] for each in every] == ["succeeded"] * 3
    assert best == same
    scores = [each["metrics"]["accuracy-accuracy"]["value"] for each in every]
    assert scores[-1] < max(scores) - 0.05
