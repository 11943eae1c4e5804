"""A small random BERT with its tokenizer and labelled rows: the real thread in seconds, where no quality is claimed."""

from __future__ import annotations

import copy
import csv
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

WORDS = [
    "good",
    "bad",
    "film",
    "plot",
    "actor",
    "scene",
    "dull",
    "bright",
    "slow",
    "quick",
    "the",
    "a",
    "of",
    "and",
    "with",
    "never",
    "always",
    "story",
    "music",
    "end",
]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """BertForSequenceClassification, 2 layers, hidden size 32, seed 0, with a WordPiece tokenizer over WORDS."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    folder = tmp_path_factory.mktemp("tiny") / "model"
    folder.mkdir()
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        id2label={0: "rotten", 1: "fresh"},
        label2id={"rotten": 0, "fresh": 1},
    )
    BertForSequenceClassification(config).eval().save_pretrained(folder)
    return folder


@dataclass
class Thread:
    """A project folder with a config over all four passes, and the command that runs it."""

    folder: Path
    config: dict[str, Any]
    environment: dict[str, str] = field(default_factory=dict)
    shown: str = ""

    def write(self) -> Path:
        file = self.folder / "config.json"
        file.write_text(json.dumps(self.config, indent=1))
        return file

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "hfopt", *arguments]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        self.write()
        return subprocess.run(
            self.command("run", "config.json", *arguments),
            cwd=self.folder,
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
        )

    def record(self) -> dict[str, Any]:
        return json.loads((self.folder / "hfopt-output" / "run.json").read_text())

    def steps(self) -> dict[str, dict[str, Any]]:
        return {step["name"]: step for step in self.record()["results"][0]["candidates"][0]["steps"]}

    def digest(self, step: str) -> str:
        key = self.steps()[step]["key"]
        manifest = self.folder / ".hfopt-cache" / "artifacts" / key[:2] / key / "manifest.json"
        return json.loads(manifest.read_text())["digest"]


def write_rows(file: Path, count: int, seed: int) -> None:
    random.seed(seed)
    with open(file, "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label"])
        writer.writerows([" ".join(random.choices(WORDS, k=random.randint(2, 12))), row % 2] for row in range(count))


@pytest.fixture
def thread(tmp_path, tiny_model) -> Thread:
    """A project that has not run yet."""
    return make_thread(tmp_path, tiny_model)


@pytest.fixture
def measured(thread) -> Callable[..., list[dict[str, float]]]:
    """Runs a model over data: metrics of the model in PyTorch, and of the model converted."""

    def found(model, task, params, sub_types, backend="huggingface_metrics"):
        metric = {"name": "m", "type": "accuracy", "backend": backend, "data_config": "rows", "sub_types": sub_types}
        thread.config["input_model"]["config"] = {"model_path": str(model), "hf_config": {"task": task}}
        thread.config["data_configs"][0]["params_config"] = params
        thread.config["evaluators"]["e"]["metrics"] = [metric]
        thread.config["passes"] = {"conversion": {"type": "OnnxConversion"}}
        done = thread.run()
        assert done.returncode == 0, done.stdout + done.stderr
        (result,) = thread.record()["results"]
        models = [each["metrics"] for each in (result["input_model"], result["candidates"][0])]
        return [{key.removeprefix("m-"): metric["value"] for key, metric in metrics.items()} for metrics in models]

    return found


BLOCKER = """
import socket
def refuse(*_, **__):
    raise AssertionError("a socket was opened")
class Blocked(socket.socket):
    connect = connect_ex = bind = refuse
socket.socket = Blocked
socket.create_connection = socket.getaddrinfo = refuse
"""


@pytest.fixture(scope="session")
def without_sockets(tmp_path_factory) -> dict[str, str]:
    """Environment of Python processes that fail when they use a socket."""
    folder = tmp_path_factory.mktemp("blocker")
    (folder / "sitecustomize.py").write_text(BLOCKER)
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))}


@pytest.fixture(scope="session")
def finished_once(tmp_path_factory, tiny_model, without_sockets) -> Thread:
    """A project that has run, without sockets. Not to be changed."""
    thread = make_thread(tmp_path_factory.mktemp("finished"), tiny_model)
    thread.environment = without_sockets
    done = thread.run()
    assert done.returncode == 0, done.stderr
    thread.shown = done.stderr + done.stdout
    return thread


@pytest.fixture
def finished(finished_once, tmp_path) -> Thread:
    """A project that has run, for a test to change: a copy, with its cache and its results."""
    shutil.copytree(finished_once.folder, tmp_path / "project")
    return Thread(tmp_path / "project", copy.deepcopy(finished_once.config))


def make_thread(folder: Path, tiny_model: Path) -> Thread:
    write_rows(folder / "rows.csv", 64, seed=1)
    latency = {"warmup_num": 2, "repeat_test_num": 16}
    metrics = [
        {
            "name": "accuracy",
            "type": "accuracy",
            "backend": "huggingface_metrics",
            "data_config": "rows",
            "sub_types": [{"name": "accuracy"}, {"name": "f1"}],
        },
        {
            "name": "latency",
            "type": "latency",
            "data_config": "rows",
            "sub_types": [{"name": "p50", "metric_config": latency}],
        },
        {"name": "size", "type": "size"},
    ]
    params = {"data_name": "csv", "data_files": "rows.csv", "input_cols": ["text"], "label_cols": ["label"]}
    config = {
        "input_model": {
            "type": "PyTorchModel",
            "config": {"model_path": str(tiny_model), "hf_config": {"task": "text-classification"}},
        },
        "data_configs": [{"name": "rows", "type": "HuggingfaceContainer", "params_config": params}],
        "evaluators": {"e": {"metrics": metrics}},
        "passes": {
            "conversion": {"type": "OnnxConversion"},
            "fusion": {"type": "OrtTransformersOptimization"},
            "quantization": {"type": "OnnxQuantization", "config": {"quant_mode": "dynamic"}},
            "tuning": {"type": "OrtPerfTuning"},
        },
        "engine": {"evaluator": "e"},
    }
    return Thread(folder, config)
