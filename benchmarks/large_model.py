"""A classifier of 2.5 GB through convert, quantize, tune, evaluate and save, by `hfopt run` itself (`make bench`).

Its weights are random: what counts is that models beyond protobuf's 2 GiB go through every step, and what that takes.
Needs 20 GB of disk and of memory, and some minutes.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path

HIDDEN, LAYERS = 1408, 24
SENTENCES = ("a good film", "a dull plot", "the music never ends", "the actor is quick and bright")


def make_model(folder: Path) -> None:
    """Write a random BertForSequenceClassification of 614 million float32 weights, with a tokenizer."""
    import torch
    import transformers

    words = sorted({word for sentence in SENTENCES for word in sentence.split()})
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]) + "\n")
    transformers.BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        hidden_size=HIDDEN, num_hidden_layers=LAYERS, num_attention_heads=11, intermediate_size=4 * HIDDEN
    )
    transformers.BertForSequenceClassification(config).save_pretrained(folder, max_shard_size="2GB")


def make_config(folder: Path) -> dict:
    """The run: every kind of step that meets the model's weights."""
    with open(folder / "rows.csv", "w", newline="") as stream:
        csv.writer(stream).writerows([("text", "label"), *((text, len(text) % 2) for text in SENTENCES)])
    params = {"data_name": "csv", "data_files": "rows.csv", "input_cols": ["text"], "label_cols": ["label"]}
    accuracy = {"name": "accuracy", "type": "accuracy", "data_config": "rows", "sub_types": [{"name": "accuracy"}]}
    return {
        "input_model": {
            "type": "PyTorchModel",
            "config": {"model_path": "./model", "hf_config": {"task": "text-classification"}},
        },
        "data_configs": [{"name": "rows", "type": "HuggingfaceContainer", "params_config": params}],
        "evaluators": {"e": {"metrics": [accuracy, {"name": "size", "type": "size"}]}},
        "passes": {
            "conversion": {"type": "OnnxConversion"},
            "quantization": {"type": "OnnxQuantization", "config": {"quant_mode": "dynamic"}},
            "tuning": {"type": "OrtPerfTuning", "config": {"data_config": "rows", "execution_mode_list": [0]}},
        },
        "engine": {"evaluator": "e", "cache_dir": "cache", "output_dir": "out"},
    }


def main() -> int:
    """Print a row per step.

    :return: 1 if the run fails, or the model is smaller than it should be
    """
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        folder = Path(name)
        make_model(folder / "model")
        (folder / "config.json").write_text(json.dumps(make_config(folder)))
        done = subprocess.run([sys.executable, "-m", "hfopt", "run", "config.json"], cwd=folder)
        if done.returncode != 0:
            return 1
        (result,) = json.loads((folder / "out" / "run.json").read_text())["results"]
        (candidate,) = result["candidates"]
        for step in candidate["steps"]:
            print(f"{step['name']:22} {step['seconds']:7.1f} s   peak {step['peak_rss_bytes'] / 1e9:5.1f} GB")
        before = result["input_model"]["size_bytes"]
        print(f"{before / 1e9:.2f} GB became {candidate['size_bytes'] / 1e9:.2f} GB")
        return 0 if before > 2**31 else 1


if __name__ == "__main__":
    sys.exit(main())
