"""Loading costs what transformers costs: no second copy of the weights in memory, none on disk."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

OURS = """
import json, sys
from pathlib import Path
from hfopt import Accelerator, FetchContext
from hfopt_hf_model_loader.config import PyTorchModelConfig
from hfopt_hf_model_loader.loader import PyTorchModel

loader = PyTorchModel(PyTorchModelConfig.model_validate(json.loads(sys.argv[1])))
handle = loader.fetch(FetchContext(Path(sys.argv[2]), lambda *_: None))
session = PyTorchModel(PyTorchModelConfig.model_validate(handle.config)).open(handle, Accelerator(), {})
"""
THEIRS = """
import json, sys
from transformers import AutoModelForSequenceClassification
model = AutoModelForSequenceClassification.from_pretrained(json.loads(sys.argv[1])["model_path"], dtype="float32")
"""
PEAK = """
import re
print(int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1]) * 1024)
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Path:
    """A BERT of 100 MB."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    place = tmp_path_factory.mktemp("large")
    config = BertConfig(
        vocab_size=90_000, hidden_size=256, num_hidden_layers=2, num_attention_heads=2, intermediate_size=512
    )
    model = BertForSequenceClassification(config)
    model.save_pretrained(place)
    torch.save(model.state_dict(), place / "weights.bin")
    return place


def peak(program: str, options: dict, folder: Path) -> int:
    """Bytes of memory that a process has at most."""
    command = [sys.executable, "-c", program + PEAK, json.dumps(options), str(folder)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


@pytest.fixture(scope="module")
def theirs(large) -> int:
    return peak(THEIRS, {"model_path": str(large)}, large)


@pytest.mark.parametrize("kind", ["folder", "PyTorch.StateDict", "PyTorch.MLflow"])
def test_weights_are_in_memory_once(large, theirs, tmp_path, kind):
    task = {"task": "text-classification"}
    options = {
        "folder": {"model_path": str(large), "hf_config": task},
        "PyTorch.StateDict": {
            "model_path": str(large / "weights.bin"),
            "hf_config": {"model_name": str(large), **task},
            "model_file_format": "PyTorch.StateDict",
        },
        "PyTorch.MLflow": {"model_path": str(tmp_path), "hf_config": task, "model_file_format": "PyTorch.MLflow"},
    }[kind]
    if kind == "PyTorch.MLflow":
        (tmp_path / "MLmodel").write_text(yaml.safe_dump({"flavors": {"hftransformersv2": {}}}))
        shutil.copytree(large, tmp_path / "data" / "model")
    weights = (large / "model.safetensors").stat().st_size

    ours = peak(OURS, options, tmp_path / "work")

    assert ours < theirs + weights / 4
    written = [file for file in (tmp_path / "work").rglob("*") if file.is_file()]
    assert bool(written) == (kind == "PyTorch.MLflow")
    assert all(os.stat(file).st_nlink == 2 for file in written)
