"""Tensors that torch.save wrote: read as tensors and nothing else, so that no code of the file's runs."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import is_zipfile

from hfopt import PreconditionFailed
from hfopt_hf_model_loader.tensors import Shape

_GLOBAL = re.compile(r"GLOBAL (\S+)")
"""How the reader names what it does not load."""

if TYPE_CHECKING:
    from torch import Tensor


def saved_shapes(file: Path) -> dict[str, Shape]:
    """The shape of every tensor of a file, whose data are not read.

    :raises PreconditionFailed: as `read_tensors`
    """
    return {name: tuple(tensor.shape) for name, tensor in read_tensors(file, "meta").items()}


def read_tensors(file: Path, device: str = "cpu") -> dict[str, Tensor]:
    """The tensors of a file by name: of a state dict, or of one that lies in a checkpoint as ``state_dict``.

    They are mapped into memory, which holds them once they are used; formats before PyTorch 1.6 are read.

    :param device: ``meta``: without their data
    :raises PreconditionFailed: it is damaged, or holds something else than tensors by name
    """
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a file that an error is told about anyway
            found = torch.load(file, map_location=device, weights_only=True, mmap=is_zipfile(file))
    except Exception as error:  # the reader does what the file's bytes say: damaged ones make it raise anything
        if isinstance(error, pickle.UnpicklingError) and (named := _GLOBAL.search(str(error))):
            raise PreconditionFailed(
                f"{file} holds more than tensors: {named[1]}, and loading that could run any code",
                hint="save its state_dict() alone, best with safetensors",
            ) from error
        raise PreconditionFailed(f"{file} is damaged, or is not what torch.save writes of tensors") from error
    if isinstance(found, Mapping) and isinstance(inner := found.get("state_dict"), Mapping):
        found = inner
    tensors = {name: each for name, each in found.items() if torch.is_tensor(each)} if _by_name(found) else {}
    if not tensors:
        raise PreconditionFailed(f"{file} has no tensors by name: it is not a state dict")
    return tensors


def _by_name(found: Any) -> bool:
    return isinstance(found, Mapping) and all(isinstance(name, str) for name in found)
