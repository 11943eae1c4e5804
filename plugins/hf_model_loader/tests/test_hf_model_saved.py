"""Weights that torch.save wrote are read as tensors and nothing else."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from hfopt import Accelerator, FetchContext, PreconditionFailed
from hfopt_hf_model_loader.config import PyTorchModelConfig
from hfopt_hf_model_loader.loader import PyTorchModel

IDS = np.array([[2, 5, 6, 7, 3]])
BIN = "pytorch_model.bin"


class Bomb:
    """What a file is that runs a command when it is loaded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder / "exploded"),)


def logits(place: Path) -> np.ndarray:
    config = {"model_path": str(place), "hf_config": {"task": "text-classification"}}
    loader = PyTorchModel(PyTorchModelConfig.model_validate(config, strict=False))
    handle = loader.fetch(FetchContext(Path(), lambda *_: None))
    with loader.open(handle, Accelerator(), {}) as session:
        return session.run({"input_ids": IDS})["logits"]


def weights_of(place: Path) -> dict[str, torch.Tensor]:
    weights = load_file(place / "model.safetensors")
    (place / "model.safetensors").unlink()
    return weights


@pytest.mark.parametrize("zipped", [True, False])
def test_the_older_file_is_the_same_model(folder, broken, zipped):
    torch.save(weights_of(broken), broken / BIN, _use_new_zipfile_serialization=zipped)

    np.testing.assert_allclose(logits(broken), logits(folder), atol=1e-6)


def test_older_files_in_parts_are_the_same_model(folder, broken):
    weights = weights_of(broken)
    names = sorted(weights)
    parts = {"pytorch_model-00001-of-00002.bin": names[:9], "pytorch_model-00002-of-00002.bin": names[9:]}
    for part, held in parts.items():
        torch.save({name: weights[name] for name in held}, broken / part)
    places = {name: part for part, held in parts.items() for name in held}
    (broken / f"{BIN}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))

    np.testing.assert_allclose(logits(broken), logits(folder), atol=1e-6)


CONTENT = {
    "code": (
        lambda file: torch.save({"a": Bomb(file.parent)}, file),
        f"holds more than tensors: {os.mkdir.__module__}.mkdir",
    ),
    "a module": (
        lambda file: torch.save(torch.nn.Linear(2, 2), file),
        "holds more than tensors: torch.nn.modules.linear.Linear",
    ),
    "a bare pickle": (lambda file: file.write_bytes(pickle.dumps(Bomb(file.parent))), "is damaged, or is not what"),
    "nothing": (lambda file: file.write_bytes(b""), "is damaged, or is not what torch.save writes"),
    "a part of a file": (
        lambda file: (torch.save({"a": torch.ones(9999)}, file), os.truncate(file, 5000)),
        "is damaged, or is not what torch.save writes",
    ),
    "a list": (lambda file: torch.save([torch.ones(2)], file), "has no tensors by name: it is not a state dict"),
}


@pytest.mark.parametrize("case", CONTENT)
def test_what_is_more_than_tensors_is_refused_and_does_not_run(broken, case):
    write, said = CONTENT[case]
    (broken / "model.safetensors").unlink()
    write(broken / BIN)

    with pytest.raises(PreconditionFailed) as failure:
        logits(broken)

    assert failure.value.message.startswith(f"{broken / BIN} {said}")
    assert not (broken / "exploded").exists()
