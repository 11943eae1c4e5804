"""A classifier of 2.5 GB from PyTorch to a tuned int8 model, by a real `hfopt run` (`make bench`).

The weights are random, so that nothing is said of quality: what counts is that a model above protobuf's 2 GiB goes
through every step, and what memory that takes.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SIZES = {
    "hidden_size": 2048,
    "num_hidden_layers": 11,
    "num_attention_heads": 16,
    "intermediate_size": 8192,
    "max_position_embeddings": 128,
}
WORDS = ("good", "bad", "film", "plot", "dull", "bright", "the", "a", "of", "and")
ROWS = 16
DATA = {"data_name": "csv", "data_files": "rows.csv", "input_cols": ["text"], "label_cols": ["label"]}


def make_model(folder: Path) -> None:
    """Write a random BertForSequenceClassification of 2.5 GB with its tokenizer, one weight file."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    folder.mkdir()
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    labels = {"rotten": 0, "fresh": 1}
    config = BertConfig(**SIZES, label2id=labels, id2label={number: name for name, number in labels.items()})
    BertForSequenceClassification(config).save_pretrained(folder, max_shard_size="10GB")


def write_project(folder: Path) -> Path:
    """Write rows and a config beside the model."""
    with open(folder / "rows.csv", "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label"])
        writer.writerows([" ".join(WORDS[: 3 + row % 7]), row % 2] for row in range(ROWS))
    accuracy = {"name": "accuracy", "type": "accuracy", "data_config": "rows", "sub_types": [{"name": "accuracy"}]}
    tuning = {"data_config": "rows", "execution_mode_list": [0], "intra_thread_num_list": [2]}
    config = {
        "input_model": {
            "type": "PyTorchModel",
            "config": {"model_path": "model", "hf_config": {"task": "text-classification"}},
        },
        "data_configs": [{"name": "rows", "type": "HuggingfaceContainer", "params_config": DATA}],
        "evaluators": {"all": {"metrics": [accuracy, {"name": "size", "type": "size"}]}},
        "passes": {
            "conversion": {"type": "OnnxConversion"},
            "quantization": {"type": "OnnxQuantization", "config": {"quant_mode": "dynamic"}},
            "tuning": {"type": "OrtPerfTuning", "config": tuning},
        },
        "engine": {"evaluator": "all", "output_dir": "out", "cache_dir": "cache"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder / "config.json"


def show(record: dict[str, Any], best: Path) -> None:
    """Print a row per step, then the sizes."""
    (result,) = record["results"]
    (candidate,) = result["candidates"]
    print(f"{'step':24}{'seconds':>9}{'peak GB':>9}")
    for step in candidate["steps"]:
        peak = step["peak_rss_bytes"]
        print(f"{step['name']:24}{step['seconds']:9.1f}{'?' if peak is None else f'{peak / 1e9:.2f}':>9}")
    sizes = [result["input_model"]["size_bytes"], candidate["size_bytes"]]
    print("input model {:.2f} GB, result {:.2f} GB".format(*(size / 1e9 for size in sizes)))
    print(
        "best:", ", ".join(f"{file.name} {file.stat().st_size / 1e9:.2f} GB" for file in sorted(best.glob("*.onnx*")))
    )


def main() -> int:
    """Make the model, run the config, print what each step took.

    :return: 1 if the run fails
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_model(folder / "model")
        config = write_project(folder)
        command = [sys.executable, "-m", "hfopt", "run", str(config)]
        done = subprocess.run(command, cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "2"}, check=False)
        if done.returncode != 0:
            print(f"hfopt run ended with exit code {done.returncode}")
            return 1
        show(json.loads((folder / "out" / "run.json").read_text()), folder / "out" / "best")
    return 0


if __name__ == "__main__":
    sys.exit(main())
